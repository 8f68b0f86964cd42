/* llama2c_tokens.c -- llama2.c's tokenizer.bin: SentencePiece's byte-pair encoding with scores.
 *
 *   i32 longest key in bytes; then until the end of the file, in id order: f32 score, i32 size, the key's bytes
 *
 * Ids 0, 1, 2 are unknown, BOS, EOS; 3 .. 258 the bytes as "<0x00>" .. "<0xFF>". Encoding begins with characters (bytes for characters
 * that are no key) after one more space at the text's start, and joins neighbours into the key of the highest score, the leftmost of
 * equals, while there is one. Decoding leaves out the space after BOS.
 *
 * No key has a space that follows another character (checked), so joining never reaches across such a place: a text is encoded word by
 * word, each with the spaces before it, and gives what encoding it at once would. */
#include "tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { UNKNOWN, BOS, EOS, BYTES };
static const float score_none = -1e10f; /* llama2.c joins only above it */

/* ---- making ------------------------------------------------------------------------------------------------------------------ */

/* Where a key is wrong, NULL when it is not. */
static const char *key_fault(const gm_llama2c_key *key, int64_t id) {
    if (!isfinite(key->score))
        return "has a score that is not a number";
    if (id >= BYTES && id < BYTES + 256) {
        char want[8];
        snprintf(want, sizeof want, "<0x%02X>", (unsigned)(id - BYTES));
        return key->size == 6 && memcmp(key->text, want, 6) == 0 ? NULL : "is not the byte that belongs there (<0x00> is 3)";
    }
    if (key->size > GM_KEY_MAX)
        return "is too long";
    if (memchr(key->text, 0, key->size))
        return "has a zero byte"; /* which tokenizer.json could not hold */
    for (size_t at = 0; at < key->size;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)key->text + at, (utf8proc_ssize_t)(key->size - at), &c);
        if (n <= 0)
            return "is not UTF-8";
        if (c == ' ' && at > 0 && key->text[at - 1] != ' ' && id >= BYTES)
            return "has a space inside, which is not supported";
        at += (size_t)n;
    }
    return NULL;
}

gm_status gm_llama2c_tokens_make(gm_tokenizer **out, const gm_llama2c_key *keys, int64_t count, gm_error *err) {
    *out = NULL;
    if (count < BYTES + 256)
        return gm_fail(err, GM_EFORMAT, "%lld tokens, llama2.c's begin with 3 special ones and 256 bytes", (long long)count);
    gm_tokenizer *t;
    GM_TRY(gm_tokenizer_begin(&t, GM_TOKENS_LLAMA2C, false, count, err));
    gm_status status = GM_OK;
    t->scores = gm_alloc((size_t)count, sizeof *t->scores);
    if (!t->scores) {
        status = gm_fail_memory(err, (size_t)count * sizeof *t->scores);
        goto done;
    }
    t->unk = UNKNOWN;
    t->bos = BOS;
    t->lines_apart = true;
    for (int32_t id = 0; id < count; id++) {
        const gm_llama2c_key *key = &keys[id];
        const char *fault = key_fault(key, id);
        if (fault) {
            status = key->offset < 0
                         ? gm_fail(err, GM_EFORMAT, "token %d %s", id, fault)
                         : gm_fail_at(err, GM_EFORMAT, key->offset, "token %d (byte %lld) %s", id, (long long)key->offset, fault);
            goto done;
        }
        gm_tokenizer_add(t, key->text, key->size); /* of equal keys the first is found */
        t->scores[id] = key->score;
        t->key_max = GM_MAX(t->key_max, key->size);
        if (id < BYTES)
            t->classes[id] = id == BOS ? GM_CLASS_BOS : GM_CLASS_OTHER;
        else if (id < BYTES + 256) {
            char *byte = &t->bytes[id - BYTES];
            *byte = (char)(id - BYTES);
            t->classes[id] = (uint8_t)gm_key_class(byte, 1);
        } else if (memchr(key->text, '\n', key->size))
            t->lines_apart = false;
    }
    if (gm_tokenizer_find(t, " ", 1) < 0)
        status = gm_fail(err, GM_EFORMAT, "no token is a space");
done:
    if (status == GM_OK)
        return gm_tokenizer_finish(out, t, err);
    gm_tokenizer_free(t);
    return status;
}

bool gm_llama2c_tokens_is(const uint8_t *data, size_t size) {
    return size >= 4 && data[3] == 0; /* the longest key's size; JSON has no zero bytes */
}

static gm_status read_keys(gm_llama2c_key *keys, int64_t *count, const uint8_t *data, size_t size, gm_error *err) {
    int32_t longest, n;
    memcpy(&longest, data, 4);
    *count = 0;
    for (size_t at = 4; at < size; at += 8 + (size_t)n) {
        float score;
        if (size - at < 8)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at, "cut off at byte %zu, inside token %lld", at, (long long)*count);
        memcpy(&score, data + at, 4);
        memcpy(&n, data + at + 4, 4);
        if (n < 0 || n > longest)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at + 4, "token %lld has %d bytes (byte %zu), the longest should have %d",
                              (long long)*count, n, at + 4, longest);
        if ((size_t)n > size - at - 8)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at + 4, "token %lld has %d bytes (byte %zu), the file only %zu more",
                              (long long)*count, n, at + 4, size - at - 8);
        if (keys)
            keys[*count] = (gm_llama2c_key){(const char *)data + at + 8, (size_t)n, score, (int64_t)at + 8};
        ++*count;
    }
    return GM_OK;
}

gm_status gm_llama2c_tokens_parse(gm_tokenizer **out, const uint8_t *data, size_t size, gm_error *err) {
    int64_t count;
    *out = NULL;
    GM_TRY(read_keys(NULL, &count, data, size, err));
    gm_llama2c_key *keys = gm_alloc((size_t)count, sizeof *keys);
    if (!keys)
        return gm_fail_memory(err, (size_t)count * sizeof *keys);
    gm_status status = read_keys(keys, &count, data, size, err);
    if (status == GM_OK)
        status = gm_llama2c_tokens_make(out, keys, count, err);
    gm_free(keys);
    return status;
}

/* ---- encoding ------------------------------------------------------------------------------------------------------------------ */

typedef struct symbol {
    int32_t id, previous, next; /* id -1: joined with the one before; previous, next -1: none */
} symbol;

typedef struct candidate { /* two neighbours that make a key */
    float score;
    int32_t left, left_id, right_id, id; /* valid while left and the one after it still have these ids */
} candidate;

typedef struct word { /* what is being joined; grows with the longest word */
    symbol *symbols;
    candidate *heap; /* best first */
    size_t capacity, count, waiting;
} word;

static bool before(const candidate *a, const candidate *b) {
    return a->score != b->score ? a->score > b->score : a->left < b->left;
}

static void heap_push(word *w, candidate c) {
    size_t i = w->waiting++;
    for (; i > 0 && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate heap_pop(word *w) {
    candidate top = w->heap[0], last = w->heap[--w->waiting];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->waiting; i = child) {
        child += child + 1 < w->waiting && before(&w->heap[child + 1], &w->heap[child]);
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* Notes what symbol `left` and the one after it make. */
static void consider(const gm_tokenizer *t, word *w, int32_t left) {
    int32_t right = left < 0 ? -1 : w->symbols[left].next;
    if (right < 0)
        return;
    char both[2 * GM_KEY_MAX];
    size_t n, m;
    const char *a = gm_tokenizer_key(t, w->symbols[left].id, &n), *b = gm_tokenizer_key(t, w->symbols[right].id, &m);
    if (n + m > t->key_max)
        return;
    memcpy(both, a, n);
    memcpy(both + n, b, m);
    int32_t id = gm_tokenizer_find(t, both, n + m);
    if (id >= 0 && t->scores[id] > score_none)
        heap_push(w, (candidate){t->scores[id], left, w->symbols[left].id, w->symbols[right].id, id});
}

static void join(const gm_tokenizer *t, word *w) {
    w->waiting = 0;
    for (size_t i = 0; i + 1 < w->count; i++)
        consider(t, w, (int32_t)i);
    while (w->waiting) {
        candidate c = heap_pop(w);
        symbol *left = &w->symbols[c.left];
        if (left->id != c.left_id || left->next < 0 || w->symbols[left->next].id != c.right_id)
            continue;
        symbol *right = &w->symbols[left->next];
        left->id = c.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            w->symbols[left->next].previous = c.left;
        consider(t, w, left->previous);
        consider(t, w, c.left);
    }
}

/* Room for n symbols: at most n - 1 pairs at first and two more per join. */
static bool reserve(word *w, size_t n) {
    if (n <= w->capacity)
        return true;
    symbol *symbols = n < INT32_MAX ? realloc(w->symbols, n * sizeof *symbols) : NULL;
    if (symbols)
        w->symbols = symbols;
    candidate *heap = symbols ? realloc(w->heap, 3 * n * sizeof *heap) : NULL;
    if (!heap)
        return false;
    w->heap = heap;
    w->capacity = n;
    return true;
}

static void add_symbol(word *w, int32_t id) {
    int32_t i = (int32_t)w->count++;
    w->symbols[i] = (symbol){.id = id, .previous = i - 1, .next = -1};
    if (i > 0)
        w->symbols[i - 1].next = i;
}

/* A character is its first byte and the continuation bytes after it, at most four in all, whether it is UTF-8 or not. */
static void add_characters(const gm_tokenizer *t, word *w, const char *text, size_t size) {
    for (size_t at = 0, n; at < size; at += n) {
        for (n = 1; n < 4 && at + n < size && ((uint8_t)text[at + n] & 0xc0) == 0x80; n++)
            ;
        int32_t id = gm_tokenizer_find(t, text + at, n);
        if (id >= 0)
            add_symbol(w, id);
        for (size_t i = 0; id < 0 && i < n; i++)
            add_symbol(w, BYTES + (uint8_t)text[at + i]);
    }
}

/* Nothing is joined across `at`: a space after another character, or a line's end where no key has one. */
static bool apart(const gm_tokenizer *t, const char *text, size_t at) {
    return (text[at] == ' ' && text[at - 1] != ' ') || (text[at - 1] == '\n' && t->lines_apart);
}

size_t gm_llama2c_tokens_cut(const gm_tokenizer *t, const char *text, size_t size, size_t at) {
    while (at > 0 && at < size && !apart(t, text, at))
        at++;
    return at;
}

gm_status gm_llama2c_tokens_append(const gm_tokenizer *t, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err) {
    word w = {0};
    gm_status status = GM_OK;
    for (size_t at = 0, end; at < size && status == GM_OK; at = end) {
        end = gm_llama2c_tokens_cut(t, text, size, at + 1);
        w.count = 0;
        bool ok = reserve(&w, end - at + 1);
        if (ok) {
            if (begins && at == 0)
                add_symbol(&w, gm_tokenizer_find(t, " ", 1));
            add_characters(t, &w, text + at, end - at);
            join(t, &w);
        }
        for (int32_t i = 0; ok && i >= 0; i = w.symbols[i].next)
            ok = gm_ids_push(ids, w.symbols[i].id);
        if (!ok)
            status = gm_fail_memory(err, (end - at) * (sizeof(symbol) + 3 * sizeof(candidate)));
    }
    free(w.symbols);
    free(w.heap);
    return status;
}

/* ---- decoding ------------------------------------------------------------------------------------------------------------------ */

const char *gm_llama2c_tokens_piece(const gm_tokenizer *t, int32_t previous, int32_t id, size_t *size) {
    if (id < BYTES) {
        *size = 0;
        return "";
    }
    if (id < BYTES + 256) {
        *size = 1;
        return &t->bytes[id - BYTES];
    }
    const char *key = gm_tokenizer_key(t, id, size);
    if (previous < 0 || previous == BOS) {
        size_t strip = *size > 0 && *key == ' ';
        *size -= strip;
        key += strip;
    }
    return key;
}
