/* tokenizer.c -- vocabularies: the list of keys, building one of bytes, characters or words from a text, printing. */
#include "subwords.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- the hash table -------------------------------------------------------------------------------------------------- */

const char *gm_tokenizer_key(const gm_tokenizer *t, int32_t id, size_t *size) {
    *size = t->start[id + 1] - t->start[id] - 1;
    return t->pool.data + t->start[id] + 1;
}

/* The slot that holds the key, or the empty one where it belongs. */
static int32_t *slot_of(const gm_tokenizer *t, const char *key, size_t size) {
    for (uint64_t i = gm_hash(key, size, 0);; i++) {
        int32_t *slot = &t->slots[i & t->slot_mask];
        if (*slot == 0)
            return slot;
        size_t n;
        const char *other = gm_tokenizer_key(t, *slot - 1, &n);
        if (n == size && memcmp(other, key, size) == 0)
            return slot;
    }
}

int32_t gm_tokenizer_find(const gm_tokenizer *t, const char *key, size_t size) {
    return *slot_of(t, key, size) - 1;
}

/* Arrays for `capacity` keys, with what the old ones hold. */
static bool grow(gm_tokenizer *t, int64_t capacity) {
    uint32_t slots = 16;
    while (slots < 2 * capacity)
        slots *= 2;
    size_t keys = (size_t)t->vocab, n = (size_t)capacity;
    uint32_t *start = gm_alloc(n + 1, sizeof *start);
    uint8_t *classes = gm_alloc(n, 1), *types = gm_alloc(n, 1), *glue = gm_alloc(n, 1);
    int32_t *table = gm_alloc(slots, sizeof *table), *old = t->slots;
    double *scores = t->scores ? gm_alloc(n, sizeof *scores) : NULL;
    if (!start || !classes || !types || !glue || !table || (t->scores && !scores)) {
        gm_free(start);
        gm_free(classes);
        gm_free(types);
        gm_free(glue);
        gm_free(table);
        gm_free(scores);
        return false;
    }
#define MOVE(field, to)                                    \
    do {                                                   \
        if (t->field)                                      \
            memcpy(to, t->field, keys * sizeof *t->field); \
        gm_free(t->field);                                 \
        t->field = to;                                     \
    } while (0)
    if (t->start)
        start[keys] = t->start[keys];
    MOVE(start, start);
    MOVE(classes, classes);
    MOVE(types, types);
    MOVE(glue, glue);
    MOVE(scores, scores);
#undef MOVE
    uint32_t old_count = old ? t->slot_mask + 1 : 0;
    t->slots = table;
    t->slot_mask = slots - 1;
    t->capacity = (int32_t)capacity;
    for (uint32_t i = 0; i < old_count; i++) {
        size_t size;
        if (old[i] == 0)
            continue;
        const char *key = gm_tokenizer_key(t, old[i] - 1, &size);
        *slot_of(t, key, size) = old[i];
    }
    gm_free(old);
    return true;
}

bool gm_tokenizer_reserve(gm_tokenizer *t, int32_t more) {
    int64_t need = (int64_t)t->vocab + more;
    return need <= t->capacity || (need < INT32_MAX / 4 && grow(t, 2 * need));
}

gm_status gm_tokenizer_begin(gm_tokenizer **out, gm_token_kind kind, bool lower, int64_t capacity, gm_error *err) {
    gm_tokenizer *t = *out = gm_alloc(1, sizeof *t);
    if (!t)
        return gm_fail_memory(err, sizeof *t);
    *t = (gm_tokenizer){.kind = kind, .lower = lower, .bos = -1, .eos = -1, .unk = -1};
    if (!grow(t, capacity)) {
        gm_tokenizer_free(t);
        *out = NULL;
        return gm_fail_memory(err, (size_t)capacity * 2 * sizeof *t->slots);
    }
    return GM_OK;
}

static int32_t add(gm_tokenizer *t, const char *key, size_t size, gm_token_class class, gm_token_type type) {
    int32_t id = t->vocab++;
    gm_text_bytes(&t->pool, " ", 1);
    gm_text_bytes(&t->pool, key, size);
    t->start[id + 1] = (uint32_t)t->pool.size;
    t->classes[id] = (uint8_t) class;
    t->types[id] = (uint8_t)type;
    return id;
}

static void add_special(gm_tokenizer *t, int32_t *which, const char *key) {
    bool bos = which == &t->bos;
    *which = add(t, key, strlen(key), bos ? GM_CLASS_BOS : GM_CLASS_OTHER, bos ? GM_TOKEN_CONTROL : GM_TOKEN_UNKNOWN);
}

void gm_tokenizer_add_specials(gm_tokenizer *t) {
    add_special(t, &t->unk, "<unk>");
    add_special(t, &t->bos, "<bos>");
}

void gm_tokenizer_add_hidden(gm_tokenizer *t, const char *key, size_t size, gm_token_type type) {
    add(t, key, size, GM_CLASS_OTHER, type);
}

bool gm_tokenizer_add(gm_tokenizer *t, const char *key, size_t size) {
    int32_t id = add(t, key, size, gm_key_class(key, size), GM_TOKEN_NORMAL);
    if (t->pool.failed)
        return true; /* gm_tokenizer_finish reports it */
    t->glue[id] = t->kind == GM_TOKENS_WORDS ? gm_key_glue(key, size) : 0;
    int32_t *slot = slot_of(t, key, size);
    if (*slot)
        return false;
    *slot = id + 1;
    return true;
}

gm_status gm_tokenizer_finish(gm_tokenizer **out, gm_tokenizer *t, gm_error *err) {
    uint64_t hash = gm_rng_key(t->lower, gm_token_kind_name(t->kind));
    gm_status status = GM_OK;
    if (t->pool.failed || t->pool.size > UINT32_MAX)
        status = gm_fail_memory(err, t->pool.size);
    else if (t->subwords)
        status = gm_subwords_ready(t, &hash, err);
    if (status != GM_OK) {
        gm_tokenizer_free(t);
        return status;
    }
    hash = gm_hash(t->start, ((size_t)t->vocab + 1) * sizeof *t->start, hash);
    t->hash = gm_hash(t->pool.data, t->pool.size, hash);
    if (t->scores)
        t->hash = gm_hash(t->scores, (size_t)t->vocab * sizeof *t->scores, t->hash);
    *out = t;
    return GM_OK;
}

void gm_tokenizer_set_bos(gm_tokenizer *t, int32_t id) {
    t->bos = id;
    t->hash = gm_hash(&id, sizeof id, t->hash);
}

void gm_tokenizer_free(gm_tokenizer *t) {
    if (!t)
        return;
    gm_subwords_free(t->subwords);
    gm_text_free(&t->pool);
    gm_text_free(&t->printed);
    gm_free(t->start);
    gm_free(t->classes);
    gm_free(t->types);
    gm_free(t->glue);
    gm_free(t->slots);
    gm_free(t->scores);
    gm_free(t->printed_start);
    gm_free(t);
}

/* ---- building ---------------------------------------------------------------------------------------------------------- */

gm_status gm_tokenizer_bytes(gm_tokenizer **out, gm_error *err) {
    gm_tokenizer *t;
    GM_TRY(gm_tokenizer_begin(&t, GM_TOKENS_BYTES, false, 257, err));
    for (int i = 0; i < 256; i++)
        gm_tokenizer_add(t, (const char[]){(char)i}, 1);
    add_special(t, &t->bos, "<bos>");
    return gm_tokenizer_finish(out, t, err);
}

typedef struct entry {
    size_t offset; /* into the counter's pool */
    uint32_t size, first;
    uint64_t count, hash;
} entry;

/* Distinct keys in order of first appearance, with their counts. */
typedef struct counter {
    gm_text pool;
    entry *entries;
    uint32_t *slots; /* entry + 1 */
    size_t used, capacity;
} counter;

static bool counter_grow(counter *c) {
    size_t capacity = c->capacity ? 2 * c->capacity : 4096;
    entry *entries = capacity < UINT32_MAX / 2 ? realloc(c->entries, capacity * sizeof *entries) : NULL;
    if (!entries)
        return false;
    c->entries = entries;
    uint32_t *slots = calloc(2 * capacity, sizeof *slots);
    if (!slots)
        return false;
    for (size_t e = 0; e < c->used; e++) {
        size_t i = entries[e].hash & (2 * capacity - 1);
        while (slots[i])
            i = (i + 1) & (2 * capacity - 1);
        slots[i] = (uint32_t)e + 1;
    }
    free(c->slots);
    c->slots = slots;
    c->capacity = capacity;
    return true;
}

static bool counter_add(counter *c, const char *key, size_t size) {
    if (c->used == c->capacity && !counter_grow(c))
        return false;
    uint64_t hash = gm_hash(key, size, 0);
    size_t mask = 2 * c->capacity - 1, i = hash & mask;
    for (; c->slots[i]; i = (i + 1) & mask) {
        entry *e = &c->entries[c->slots[i] - 1];
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a slot that is taken has its text in the pool */
        if (e->hash == hash && e->size == size && memcmp(c->pool.data + e->offset, key, size) == 0) {
            e->count++;
            return true;
        }
    }
    c->entries[c->used] = (entry){.offset = c->pool.size, .size = (uint32_t)size, .first = (uint32_t)c->used, .count = 1, .hash = hash};
    c->slots[i] = (uint32_t)++c->used;
    gm_text_bytes(&c->pool, key, size);
    return !c->pool.failed;
}

static int by_count(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->first < y->first ? -1 : 1;
}

/* Characters come in code point order, whatever their counts: the order of their UTF-8 bytes, as one falling number. */
static uint64_t code_point_weight(const uint8_t *key, size_t size) {
    uint64_t weight = 0;
    for (size_t i = 0; i < 4; i++)
        weight = weight << 8 | (i < size ? key[i] : 0);
    return UINT64_MAX - weight;
}

gm_status gm_tokenizer_build(gm_tokenizer **out, const char *kind, const char *text, size_t size, int64_t vocab, bool lower,
                             gm_error *err) {
    *out = NULL;
    int k = gm_token_kind_of(kind);
    if (k < 0)
        return gm_fail(err, GM_EINVAL, "unknown kind of tokens '%s'; it must be bytes, chars, words or bpe", kind);
    if (k == GM_TOKENS_BYTES)
        return gm_tokenizer_bytes(out, err);
    if (k == GM_TOKENS_BPE)
        return gm_bpe_train(out, text, size, vocab, err);
    if (k > GM_TOKENS_BPE || k == GM_TOKENS_LLAMA2C)
        return gm_fail(err, GM_EINVAL, "%s tokens are not made from a text; give their file with --tokenizer", kind);
    if (k == GM_TOKENS_WORDS && (vocab < 0 || vocab > GM_VOCAB_MAX || vocab == 1 || vocab == 2))
        return gm_fail(err, GM_EINVAL,
                       "a vocabulary of %lld words is out of range, it must be 3..%d (two are <unk> and <bos>), or 0 for all",
                       (long long)vocab, GM_VOCAB_MAX);
    gm_splitter s = {.text = (const uint8_t *)text, .size = size, .kind = (gm_token_kind)k, .lower = k == GM_TOKENS_WORDS && lower};
    counter c = {0};
    gm_status status = GM_OK;
    gm_split found;
    while ((found = gm_splitter_next(&s)) == GM_SPLIT_KEY) {
        if (!counter_add(&c, s.key, s.key_size)) {
            status = gm_fail_memory(err, c.capacity * 2 * sizeof(entry));
            goto done;
        }
    }
    if (found == GM_SPLIT_INVALID) {
        status = gm_splitter_fail(&s, err);
        goto done;
    }
    for (size_t i = 0; k == GM_TOKENS_CHARS && i < c.used; i++)
        c.entries[i].count = code_point_weight((const uint8_t *)c.pool.data + c.entries[i].offset, c.entries[i].size);
    if (c.used)
        qsort(c.entries, c.used, sizeof *c.entries, by_count);
    int64_t kept = GM_MIN((int64_t)c.used, k == GM_TOKENS_WORDS && vocab ? vocab - 2 : GM_VOCAB_MAX - 2);
    gm_tokenizer *t;
    GM_TRY_GOTO(gm_tokenizer_begin(&t, (gm_token_kind)k, s.lower, kept + 2, err));
    gm_tokenizer_add_specials(t);
    for (int64_t i = 0; i < kept; i++)
        gm_tokenizer_add(t, c.pool.data + c.entries[i].offset, c.entries[i].size);
    status = gm_tokenizer_finish(out, t, err);
done:
    gm_text_free(&c.pool);
    free(c.entries);
    free(c.slots);
    return status;
}

/* ---- use ------------------------------------------------------------------------------------------------------------------ */

int64_t gm_tokenizer_vocab(const gm_tokenizer *t) {
    return t->vocab;
}

int32_t gm_tokenizer_bos(const gm_tokenizer *t) {
    return t->bos;
}

int32_t gm_tokenizer_eos(const gm_tokenizer *t) {
    return t->eos;
}

bool gm_tokenizer_adds_bos(const gm_tokenizer *t) {
    return !t->subwords || t->subwords->adds_bos;
}

const char *gm_tokenizer_kind(const gm_tokenizer *t) {
    return gm_token_kind_name(t->kind);
}

bool gm_ids_push(gm_ids *ids, int32_t id) {
    if (ids->count == ids->capacity) {
        int64_t capacity = ids->capacity ? 2 * ids->capacity : 1024;
        int32_t *data = realloc(ids->data, (size_t)capacity * sizeof *data);
        if (!data)
            return false;
        ids->data = data;
        ids->capacity = capacity;
    }
    ids->data[ids->count++] = id;
    return true;
}

gm_status gm_tokenizer_encode(const gm_tokenizer *t, const char *text, size_t size, int32_t **ids, int64_t *count, gm_error *err) {
    gm_ids list = {0};
    gm_status status = gm_tokenizer_append(t, text, size, true, &list, err);
    if (status != GM_OK) {
        free(list.data);
        list = (gm_ids){0};
    }
    *ids = list.data;
    *count = list.count;
    return status;
}

void gm_tokens_free(int32_t *ids) {
    free(ids);
}

const char *gm_tokenizer_piece(const gm_tokenizer *t, int32_t previous, int32_t id, size_t *size) {
    if (id < 0 || id >= t->vocab || id == t->bos || (!t->subwords && t->classes[id] == GM_CLASS_BOS)) {
        *size = 0;
        return "";
    }
    if (t->subwords)
        return gm_subwords_piece(t, previous, id, size);
    const char *key = gm_tokenizer_key(t, id, size);
    if (t->kind != GM_TOKENS_WORDS)
        return key;
    bool first = previous < 0 || previous >= t->vocab || t->classes[previous] == GM_CLASS_BOS;
    bool opening = *size == 2 && key[0] == ' '; /* brings its own space */
    bool spaced = !first && !(t->glue[previous] & GM_GLUE_RIGHT) && !(t->glue[id] & GM_GLUE_LEFT);
    int shift = (int)spaced - (int)opening; /* the pool has one space before every key */
    *size = (size_t)((int)*size + shift);
    return key - shift;
}

gm_token_class gm_tokenizer_class(const gm_tokenizer *t, int32_t id) {
    if (id == t->bos && id >= 0)
        return GM_CLASS_BOS;
    return id < 0 || id >= t->vocab ? GM_CLASS_OTHER : (gm_token_class)t->classes[id];
}
