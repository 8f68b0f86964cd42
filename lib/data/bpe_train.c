/* bpe_train.c -- byte-level BPE from a text: as long as there is room, the most frequent pair of neighbours becomes a token.
 *
 * It follows Hugging Face's trainer step by step, so that the same text gives the same merges: words are cut by GPT-2's pattern; ids are
 * <|endoftext|>, then the bytes in the order of the characters that stand for them, then the merges; of equally frequent pairs the one with
 * the smaller ids comes first; a pair's count is brought up to date only when it comes up. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

static const char end_of_text[] = "<|endoftext|>";
enum { SPECIALS = 1, VOCAB_MIN = SPECIALS + 256 };

/* ---- the text's words ---------------------------------------------------------------------------------------------------------------- */

typedef struct word {
    const char *text;    /* where it first stands */
    uint32_t size, next; /* next: in its bucket, + 1 */
    int64_t count;
    uint32_t *symbols; /* its tokens, `length` of them */
    uint32_t length;
} word;

typedef struct words {
    word *list;
    uint32_t *buckets;
    uint32_t *symbols; /* all words' */
    size_t count, capacity, bytes;
} words;

static bool words_grow(words *w) {
    size_t capacity = w->capacity ? 2 * w->capacity : 4096;
    if (capacity > UINT32_MAX / 4)
        return false;
    word *list = realloc(w->list, capacity * sizeof *list);
    if (!list)
        return false;
    w->list = list;
    uint32_t *buckets = calloc(capacity, sizeof *buckets);
    if (!buckets)
        return false;
    free(w->buckets);
    w->buckets = buckets;
    w->capacity = capacity;
    for (size_t i = 0; i < w->count; i++) {
        uint32_t *bucket = &buckets[gm_hash(list[i].text, list[i].size, 0) & (capacity - 1)];
        list[i].next = *bucket;
        *bucket = (uint32_t)i + 1;
    }
    return true;
}

static bool words_add(words *w, const char *text, size_t size) {
    if (w->count == w->capacity && !words_grow(w))
        return false;
    uint32_t *bucket = &w->buckets[gm_hash(text, size, 0) & (w->capacity - 1)];
    for (uint32_t i = *bucket; i; i = w->list[i - 1].next) {
        word *other = &w->list[i - 1];
        if (other->size == size && memcmp(other->text, text, size) == 0) {
            other->count++;
            return true;
        }
    }
    w->list[w->count] = (word){.text = text, .size = (uint32_t)size, .next = *bucket, .count = 1};
    *bucket = (uint32_t)++w->count;
    w->bytes += size;
    return true;
}

/* ---- pairs
 * -------------------------------------------------------------------------------------------------------------------------------- */

typedef struct places { /* words that hold a pair */
    uint32_t *list;
    uint32_t count, capacity;
} places;

typedef struct pair {
    uint32_t left, right;
    int64_t count;
    places found; /* in this step */
} pair;

typedef struct entry { /* of the queue */
    int64_t count;
    uint32_t left, right;
    places at;
} entry;

typedef struct spelled { /* a token's bytes, in trainer.bytes */
    size_t at, size;
} spelled;

typedef struct trainer {
    words words;
    gm_text bytes;
    spelled *tokens;
    int32_t vocab;
    gm_trie known; /* tokens by their bytes */
    gm_pair *merges;
    size_t merge_count, merge_capacity;
    pair *pairs;     /* every pair that there has been */
    uint32_t *slots; /* open addressing, + 1 */
    size_t pair_count, pair_capacity;
    uint32_t *touched; /* pairs with places of this step */
    size_t touched_count, touched_capacity;
    entry *queue; /* a heap */
    size_t queued, queue_capacity;
    bool failed;
} trainer;

/* Room for one more of *list. */
static bool more(void **list, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity)
        return true;
    size_t n = *capacity ? 2 * *capacity : 1024;
    void *larger = realloc(*list, n * size);
    if (!larger)
        return false;
    *list = larger;
    *capacity = n;
    return true;
}

static uint32_t *slot_of(const trainer *t, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    size_t mask = 2 * t->pair_capacity - 1;
    for (size_t i = h >> 32;; i++) {
        uint32_t *slot = &t->slots[i & mask];
        if (*slot == 0 || (t->pairs[*slot - 1].left == left && t->pairs[*slot - 1].right == right))
            return slot;
    }
}

/* The pair, made with count 0 where there was none; NULL: no memory. */
static pair *pair_of(trainer *t, uint32_t left, uint32_t right) {
    if (t->pair_count == t->pair_capacity) {
        size_t before = t->pair_capacity;
        uint32_t *slots = NULL;
        if (before < UINT32_MAX / 8 && more((void **)&t->pairs, t->pair_count, &t->pair_capacity, sizeof *t->pairs))
            slots = calloc(2 * t->pair_capacity, sizeof *slots);
        if (!slots) {
            t->pair_capacity = before;
            return NULL;
        }
        free(t->slots);
        t->slots = slots;
        for (size_t i = 0; i < t->pair_count; i++)
            *slot_of(t, t->pairs[i].left, t->pairs[i].right) = (uint32_t)i + 1;
    }
    uint32_t *slot = slot_of(t, left, right);
    if (*slot == 0) {
        t->pairs[t->pair_count] = (pair){.left = left, .right = right};
        *slot = (uint32_t)++t->pair_count;
    }
    return &t->pairs[*slot - 1];
}

/* The pair became more (or less) frequent in a word. Words come in order, so each place is noted once. */
static void change(trainer *t, uint32_t left, uint32_t right, int64_t by, uint32_t where) {
    pair *p = pair_of(t, left, right);
    if (!p) {
        t->failed = true;
        return;
    }
    p->count += by;
    if (by < 0 || (p->found.count && p->found.list[p->found.count - 1] == where))
        return;
    if (p->found.count == 0) {
        if (!more((void **)&t->touched, t->touched_count, &t->touched_capacity, sizeof *t->touched)) {
            t->failed = true;
            return;
        }
        t->touched[t->touched_count++] = (uint32_t)(p - t->pairs);
    }
    if (p->found.count == p->found.capacity) {
        uint32_t n = p->found.capacity ? 2 * p->found.capacity : 4;
        uint32_t *list = realloc(p->found.list, n * sizeof *list);
        if (!list) {
            t->failed = true;
            return;
        }
        p->found.list = list;
        p->found.capacity = n;
    }
    p->found.list[p->found.count++] = where;
}

/* ---- the queue
 * ------------------------------------------------------------------------------------------------------------------------------ */

static bool before(const entry *a, const entry *b) {
    if (a->count != b->count)
        return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void push(trainer *t, entry e) {
    if (!more((void **)&t->queue, t->queued, &t->queue_capacity, sizeof *t->queue)) {
        t->failed = true;
        free(e.at.list);
        return;
    }
    size_t i = t->queued++;
    for (; i > 0 && before(&e, &t->queue[(i - 1) / 2]); i = (i - 1) / 2)
        t->queue[i] = t->queue[(i - 1) / 2];
    t->queue[i] = e;
}

static entry pop(trainer *t) {
    entry top = t->queue[0], last = t->queue[--t->queued];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < t->queued; i = child) {
        child += child + 1 < t->queued && before(&t->queue[child + 1], &t->queue[child]);
        if (!before(&t->queue[child], &last))
            break;
        t->queue[i] = t->queue[child];
    }
    t->queue[i] = last;
    return top;
}

/* What this step found goes into the queue. */
static void queue_found(trainer *t) {
    for (size_t i = 0; i < t->touched_count; i++) {
        pair *p = &t->pairs[t->touched[i]];
        if (p->count > 0)
            push(t, (entry){p->count, p->left, p->right, p->found});
        else
            free(p->found.list);
        p->found = (places){0};
    }
    t->touched_count = 0;
}

/* ---- training
 * --------------------------------------------------------------------------------------------------------------------------------- */

/* Joins the pair in one word, in one walk: a word may be a whole file. */
static void join(trainer *t, uint32_t where, uint32_t left, uint32_t right, uint32_t id) {
    word *w = &t->words.list[where];
    uint32_t *s = w->symbols, kept = 0;
    for (uint32_t i = 0; i < w->length; i++) {
        if (i + 1 == w->length || s[i] != left || s[i + 1] != right) {
            s[kept++] = s[i];
            continue;
        }
        if (kept > 0) {
            change(t, s[kept - 1], left, -w->count, where);
            change(t, s[kept - 1], id, w->count, where);
        }
        s[kept++] = id;
        if (++i + 1 < w->length) {
            change(t, right, s[i + 1], -w->count, where);
            change(t, id, s[i + 1], w->count, where);
        }
    }
    w->length = kept;
}

/* Ids of the single bytes: in the order of their characters. */
static void number_bytes(uint32_t ids[256], uint8_t order[256]) {
    char text[4];
    int n = 0;
    for (int wide = 0; wide < 2; wide++) { /* characters below U+0100 stand for themselves, the others come after them */
        for (int b = 0; b < 256; b++) {
            int size = gm_byte_char(text, (uint8_t)b), itself = size == 1 || (uint8_t)text[0] < 0xc4;
            if (itself != wide) {
                order[n] = (uint8_t)b;
                ids[b] = (uint32_t)(SPECIALS + n++);
            }
        }
    }
}

static bool start(trainer *t, const uint32_t ids[256]) {
    words *w = &t->words;
    w->symbols = malloc((w->bytes + 1) * sizeof *w->symbols);
    if (!w->symbols)
        return false;
    uint32_t *at = w->symbols;
    for (size_t i = 0; i < w->count; i++) {
        word *one = &w->list[i];
        one->symbols = at;
        one->length = one->size;
        for (uint32_t k = 0; k < one->size; k++)
            *at++ = ids[(uint8_t)one->text[k]];
        for (uint32_t k = 0; k + 1 < one->size; k++)
            change(t, one->symbols[k], one->symbols[k + 1], one->count, (uint32_t)i);
    }
    queue_found(t);
    return !t->failed;
}

/* The token that these bytes are, made where there is none. */
static uint32_t token_of(trainer *t, uint32_t left, uint32_t right) {
    spelled a = t->tokens[left], b = t->tokens[right];
    size_t at = t->bytes.size, length;
    for (size_t i = 0; i < a.size + b.size; i++) { /* the pool may move: byte by byte */
        char c = t->bytes.data[i < a.size ? a.at + i : b.at + i - a.size];
        gm_text_bytes(&t->bytes, &c, 1);
    }
    t->failed = t->failed || t->bytes.failed;
    if (t->failed)
        return 0;
    int32_t id = gm_trie_longest(&t->known, t->bytes.data + at, a.size + b.size, &length);
    if (id >= 0 && length == a.size + b.size) {
        t->bytes.size = at;
        return (uint32_t)id;
    }
    gm_trie_add(&t->known, t->bytes.data + at, a.size + b.size, t->vocab);
    t->failed = t->known.failed;
    t->tokens[t->vocab] = (spelled){at, a.size + b.size};
    return (uint32_t)t->vocab++;
}

static void train(trainer *t, int64_t vocab) {
    while (t->vocab < vocab && t->queued && !t->failed) {
        entry top = pop(t);
        const pair *p = pair_of(t, top.left, top.right);
        int64_t count = p ? GM_MAX(p->count, (int64_t)0) : top.count;
        if (top.count != count) {
            top.count = count;
            push(t, top);
            continue;
        }
        if (count > 0 && more((void **)&t->merges, t->merge_count, &t->merge_capacity, sizeof *t->merges)) {
            uint32_t id = token_of(t, top.left, top.right);
            t->merges[t->merge_count++] = (gm_pair){top.left, top.right, 0, id};
            for (uint32_t i = 0; i < top.at.count && !t->failed; i++)
                join(t, top.at.list[i], top.left, top.right, id);
            queue_found(t);
        } else
            t->failed = t->failed || count > 0;
        free(top.at.list);
        if (count < 1)
            break;
    }
}

static void put_token(gm_text *out, const trainer *t, uint32_t id) {
    char text[4];
    const char *bytes = t->bytes.data + t->tokens[id].at;
    for (size_t i = 0; i < t->tokens[id].size; i++)
        gm_text_bytes(out, text, (size_t)gm_byte_char(text, (uint8_t)bytes[i]));
}

static gm_status make(gm_tokenizer **out, const trainer *t, gm_error *err) {
    gm_vocabulary v = {.model = "gpt2", .pre = "gpt-2", .bos = 0, .eos = 0, .unk = -1};
    v.tokens = gm_alloc((size_t)t->vocab, sizeof *v.tokens);
    v.merges = gm_alloc(t->merge_count + 1, sizeof *v.merges);
    gm_status status = v.tokens && v.merges ? GM_OK : gm_fail_memory(err, ((size_t)t->vocab + t->merge_count) * sizeof *v.tokens);
    for (int32_t id = 0; id < t->vocab && status == GM_OK; id++) {
        size_t from = v.pool.size;
        if (id == 0)
            gm_text_bytes(&v.pool, end_of_text, sizeof end_of_text - 1);
        else
            put_token(&v.pool, t, (uint32_t)id);
        v.tokens[id] = (gm_vocabulary_token){.size = v.pool.size - from, .type = id == 0 ? GM_TOKEN_CONTROL : GM_TOKEN_NORMAL};
    }
    for (size_t i = 0; i < t->merge_count && status == GM_OK; i++) {
        size_t from = v.pool.size;
        put_token(&v.pool, t, t->merges[i].left);
        gm_text_bytes(&v.pool, " ", 1);
        put_token(&v.pool, t, t->merges[i].right);
        v.merges[i].size = v.pool.size - from;
    }
    if (v.pool.failed)
        status = gm_fail_memory(err, v.pool.size);
    const char *at = v.pool.data;
    v.count = t->vocab;
    v.merge_count = (int64_t)t->merge_count;
    for (int64_t i = 0; i < v.count && status == GM_OK; at += v.tokens[i++].size)
        v.tokens[i].text = at;
    for (int64_t i = 0; i < v.merge_count && status == GM_OK; at += v.merges[i++].size)
        v.merges[i].text = at;
    if (status == GM_OK)
        status = gm_tokenizer_from_vocabulary(out, &v, err);
    gm_vocabulary_free(&v);
    return status;
}

static void trainer_free(trainer *t) {
    for (size_t i = 0; i < t->pair_count; i++)
        free(t->pairs[i].found.list);
    for (size_t i = 0; i < t->queued; i++)
        free(t->queue[i].at.list);
    free(t->words.list);
    free(t->words.buckets);
    free(t->words.symbols);
    free(t->pairs);
    free(t->slots);
    free(t->touched);
    free(t->queue);
    free(t->merges);
    gm_free(t->tokens);
    gm_text_free(&t->bytes);
    gm_trie_free(&t->known);
}

gm_status gm_bpe_train(gm_tokenizer **out, const char *text, size_t size, int64_t vocab, gm_error *err) {
    const gm_cut pattern = {.match = GM_MATCH_GPT2};
    uint32_t ids[256];
    uint8_t order[256];
    trainer t = {0};
    *out = NULL;
    if (vocab < VOCAB_MIN || vocab > GM_VOCAB_MAX)
        return gm_fail(err, GM_EINVAL, "a vocabulary of %lld BPE tokens is out of range, it must be %d..%d (256 bytes and %s)",
                       (long long)vocab, VOCAB_MIN, GM_VOCAB_MAX, end_of_text);
    number_bytes(ids, order);
    t.tokens = gm_alloc((size_t)vocab, sizeof *t.tokens);
    t.vocab = SPECIALS;
    gm_text_bytes(&t.bytes, order, sizeof order);
    t.failed = !t.tokens || t.bytes.failed;
    for (int i = 0; i < 256 && !t.failed; i++) {
        t.tokens[t.vocab] = (spelled){(size_t)i, 1};
        gm_trie_add(&t.known, (const char *)&order[i], 1, t.vocab++);
    }
    bool unused = false;
    for (size_t at = 0, from, to; !t.failed && gm_cut_match(&pattern, text, size, at, &from, &to, &unused); at = to)
        t.failed = !words_add(&t.words, text + from, GM_MIN(to - from, (size_t)UINT32_MAX));
    if (!t.failed && start(&t, ids))
        train(&t, vocab);
    gm_status status = t.failed || t.bytes.failed || !t.words.symbols ? gm_fail_memory(err, t.words.bytes * 16) : make(out, &t, err);
    trainer_free(&t);
    return status;
}
