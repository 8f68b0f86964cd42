/* bpe.c -- byte-pair encoding of one piece: begin with its bytes or characters, join the two neighbours of the lowest rank, the leftmost of
 * equals, until no two join. Short pieces (all words are) look at every pair each time; long ones keep a heap. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT = 32 }; /* symbols; below it the scan is faster than the heap */

/* ---- the symbols that it begins with ------------------------------------------------------------------------------------------------ */

static bool reserve(gm_joiner *j, size_t n) {
    if (n <= j->capacity)
        return true;
    size_t capacity = GM_MAX(n, 2 * j->capacity);
    gm_symbol *symbols = capacity < INT32_MAX ? realloc(j->symbols, capacity * sizeof *symbols) : NULL;
    if (!symbols)
        return false;
    j->symbols = symbols;
    /* At most n - 1 candidates at first and two more per join. */
    gm_candidate *heap = realloc(j->heap, 3 * capacity * sizeof *heap);
    if (!heap)
        return false;
    j->heap = heap;
    j->capacity = capacity;
    return true;
}

static void add_symbol(gm_joiner *j, int32_t id, bool frozen) {
    int32_t i = (int32_t)j->count++;
    j->symbols[i] = (gm_symbol){.id = id, .previous = i - 1, .next = -1, .frozen = frozen};
    if (i > 0)
        j->symbols[i - 1].next = i;
}

/* An unknown character: the bytes that it falls back to, else <unk>, once for a run where they are fused. */
static void add_unknown(const gm_tokenizer *t, gm_joiner *j, const char *text, size_t size) {
    const gm_subwords *s = t->subwords;
    if (s->byte_fallback) {
        for (size_t i = 0; i < size; i++)
            add_symbol(j, s->byte_ids[(uint8_t)text[i]], false);
    } else if (t->unk >= 0 && !(s->fuse_unknown && j->count && j->symbols[j->count - 1].id == t->unk))
        add_symbol(j, t->unk, false);
}

static void add_characters(const gm_tokenizer *t, gm_joiner *j, const char *text, size_t size) {
    const gm_subwords *s = t->subwords;
    for (size_t at = 0, n; at < size; at += n) {
        uint8_t b = (uint8_t)text[at];
        int32_t id;
        if (s->has_verbatim && (id = gm_trie_longest(&s->verbatim, text + at, size - at, &n)) >= 0) {
            add_symbol(j, id, true);
            continue;
        }
        /* A character is its first byte and the continuation bytes after it, at most four in all, whether it is UTF-8 or not. */
        for (n = 1; n < 4 && at + n < size && ((uint8_t)text[at + n] & 0xc0) == 0x80; n++)
            ;
        id = b < 0x80 && n == 1 ? s->ascii_ids[b] : gm_tokenizer_find(t, text + at, n);
        if (id >= 0)
            add_symbol(j, id, false);
        else
            add_unknown(t, j, text + at, n);
    }
}

static void add_bytes(const gm_tokenizer *t, gm_joiner *j, const char *text, size_t size) {
    for (size_t at = 0; at < size; at++) {
        int32_t id = t->subwords->byte_ids[(uint8_t)text[at]];
        if (id >= 0)
            add_symbol(j, id, false);
        else
            add_unknown(t, j, text + at, 1);
    }
}

/* ---- joining ------------------------------------------------------------------------------------------------------------------------- */

static const gm_pair *pair_at(const gm_tokenizer *t, const gm_symbol *left, const gm_symbol *right) {
    return left->frozen || right->frozen ? NULL : gm_pairs_find(t->subwords, left->id, right->id);
}

static void join_short(const gm_tokenizer *t, gm_joiner *j) {
    gm_symbol *symbols = j->symbols;
    const gm_pair *pairs[SHORT];
    size_t n = j->count;
    for (size_t i = 0; i + 1 < n; i++)
        pairs[i] = pair_at(t, &symbols[i], &symbols[i + 1]);
    for (;;) {
        size_t best = n;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < n; i++) {
            if (pairs[i] && pairs[i]->rank < rank) {
                rank = pairs[i]->rank;
                best = i;
            }
        }
        if (best == n)
            break;
        symbols[best].id = (int32_t)pairs[best]->id;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            symbols[i].id = symbols[i + 1].id;
            symbols[i].frozen = symbols[i + 1].frozen;
            pairs[i - 1] = pairs[i];
        }
        if (best + 1 < n)
            pairs[best] = pair_at(t, &symbols[best], &symbols[best + 1]);
        if (best > 0)
            pairs[best - 1] = pair_at(t, &symbols[best - 1], &symbols[best]);
    }
    j->count = n;
    symbols[n - 1].next = -1;
}

static bool before(const gm_candidate *a, const gm_candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(gm_joiner *j, gm_candidate c) {
    size_t i = j->waiting++;
    for (; i > 0 && before(&c, &j->heap[(i - 1) / 2]); i = (i - 1) / 2)
        j->heap[i] = j->heap[(i - 1) / 2];
    j->heap[i] = c;
}

static gm_candidate heap_pop(gm_joiner *j) {
    gm_candidate top = j->heap[0], last = j->heap[--j->waiting];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < j->waiting; i = child) {
        child += child + 1 < j->waiting && before(&j->heap[child + 1], &j->heap[child]);
        if (!before(&j->heap[child], &last))
            break;
        j->heap[i] = j->heap[child];
    }
    j->heap[i] = last;
    return top;
}

/* Notes what symbol `left` and the one after it make. */
static void consider(const gm_tokenizer *t, gm_joiner *j, int32_t left) {
    int32_t right = left < 0 ? -1 : j->symbols[left].next;
    const gm_pair *p = right < 0 ? NULL : pair_at(t, &j->symbols[left], &j->symbols[right]);
    if (p)
        heap_push(j, (gm_candidate){p->rank, left, (int32_t)p->left, (int32_t)p->right, (int32_t)p->id});
}

static void join_long(const gm_tokenizer *t, gm_joiner *j) {
    j->waiting = 0;
    for (size_t i = 0; i + 1 < j->count; i++)
        consider(t, j, (int32_t)i);
    while (j->waiting) {
        gm_candidate c = heap_pop(j);
        gm_symbol *left = &j->symbols[c.left];
        if (left->id != c.left_id || left->next < 0 || j->symbols[left->next].id != c.right_id)
            continue;
        gm_symbol *right = &j->symbols[left->next];
        left->id = c.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            j->symbols[left->next].previous = c.left;
        consider(t, j, left->previous);
        consider(t, j, c.left);
    }
}

/* ------------------------------------------------------------------------------------------------------------------------------------- */

/* A symbol that is no token (a character that stands only inside keys) falls back as an unknown one does. */
static bool push(const gm_tokenizer *t, int32_t id, gm_ids *ids, int64_t first) {
    const gm_subwords *s = t->subwords;
    if (id < t->vocab)
        return (id == t->unk && s->fuse_unknown && ids->count > first && ids->data[ids->count - 1] == id) || gm_ids_push(ids, id);
    size_t size;
    const char *key = gm_tokenizer_key(t, id, &size);
    bool ok = true;
    for (size_t i = 0; s->byte_fallback && i < size; i++)
        ok = ok && gm_ids_push(ids, s->byte_ids[(uint8_t)key[i]]);
    if (!s->byte_fallback && t->unk >= 0 && !(s->fuse_unknown && ids->count > first && ids->data[ids->count - 1] == t->unk))
        ok = gm_ids_push(ids, t->unk);
    return ok;
}

bool gm_bpe_encode(const gm_tokenizer *t, gm_joiner *j, const char *text, size_t size, gm_ids *ids) {
    const gm_subwords *s = t->subwords;
    if (s->whole_first) {
        int32_t id = gm_tokenizer_find(t, text, size);
        if (id >= 0)
            return gm_ids_push(ids, id);
    }
    if (!reserve(j, size))
        return false;
    j->count = 0;
    if (s->byte_level)
        add_bytes(t, j, text, size);
    else
        add_characters(t, j, text, size);
    if (j->count == 0)
        return true;
    int64_t first = ids->count;
    bool ok = true;
    if (j->count <= SHORT) {
        join_short(t, j);
        for (size_t i = 0; i < j->count; i++)
            ok = ok && push(t, j->symbols[i].id, ids, first);
        return ok;
    }
    join_long(t, j);
    for (int32_t i = 0; ok && i >= 0; i = j->symbols[i].next)
        ok = push(t, j->symbols[i].id, ids, first);
    return ok;
}
