/* tokenizer.c -- vocabularies of bytes, characters or words: building, encoding, printing, and the file tokenizer.json.
 *
 * The file is our own form, {"type": "ghostmax.tokenizer", "version": 1, "kind", "lower", "unk", "bos", "vocab": [keys in id order]}.
 * llama2c has "scores" beside them. It has no "model", so a stock tokenizer.json loader refuses it instead of reading something else out of
 * it. kind "bytes" has no "vocab": ids 0..255 are the bytes and 256 is BOS. chars and words begin with <unk> = 0 and <bos> = 1, which no
 * text produces. */
#include "tokenizer.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char file_type[] = "ghostmax.tokenizer";
enum { VOCAB_MAX = 1 << 24 };

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

gm_status gm_tokenizer_begin(gm_tokenizer **out, gm_token_kind kind, bool lower, int64_t capacity, gm_error *err) {
    uint32_t slots = 16;
    while (slots < 2 * capacity)
        slots *= 2;
    gm_tokenizer *t = *out = gm_alloc(1, sizeof *t);
    if (!t)
        return gm_fail_memory(err, sizeof *t);
    *t = (gm_tokenizer){.kind = kind, .lower = lower, .bos = -1, .unk = -1, .slot_mask = slots - 1};
    t->start = gm_alloc((size_t)capacity + 1, sizeof *t->start);
    t->classes = gm_alloc((size_t)capacity, 1);
    t->glue = gm_alloc((size_t)capacity, 1);
    t->slots = gm_alloc(slots, sizeof *t->slots);
    if (!t->start || !t->classes || !t->glue || !t->slots) {
        gm_tokenizer_free(t);
        *out = NULL;
        return gm_fail_memory(err, slots * sizeof *t->slots);
    }
    return GM_OK;
}

static int32_t add(gm_tokenizer *t, const char *key, size_t size, gm_token_class class) {
    int32_t id = t->vocab++;
    gm_text_bytes(&t->pool, " ", 1);
    gm_text_bytes(&t->pool, key, size);
    t->start[id + 1] = (uint32_t)t->pool.size;
    t->classes[id] = (uint8_t) class;
    return id;
}

static void add_special(gm_tokenizer *t, int32_t *which, const char *key) {
    *which = add(t, key, strlen(key), which == &t->bos ? GM_CLASS_BOS : GM_CLASS_OTHER);
}

bool gm_tokenizer_add(gm_tokenizer *t, const char *key, size_t size) {
    int32_t id = add(t, key, size, gm_key_class(key, size));
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
    if (t->pool.failed || t->pool.size > UINT32_MAX) {
        gm_tokenizer_free(t);
        return gm_fail_memory(err, t->pool.size);
    }
    uint64_t hash = gm_rng_key(t->lower, gm_token_kind_name(t->kind));
    hash = gm_hash(t->start, ((size_t)t->vocab + 1) * sizeof *t->start, hash);
    t->hash = gm_hash(t->pool.data, t->pool.size, hash);
    if (t->scores)
        t->hash = gm_hash(t->scores, (size_t)t->vocab * sizeof *t->scores, t->hash);
    *out = t;
    return GM_OK;
}

void gm_tokenizer_free(gm_tokenizer *t) {
    if (!t)
        return;
    gm_text_free(&t->pool);
    gm_free(t->start);
    gm_free(t->classes);
    gm_free(t->glue);
    gm_free(t->slots);
    gm_free(t->scores);
    gm_free(t);
}

/* ---- building ---------------------------------------------------------------------------------------------------------- */

static gm_status build_bytes(gm_tokenizer **out, gm_error *err) {
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
        return gm_fail(err, GM_EINVAL, "unknown kind of tokens '%s'; it must be bytes, chars or words", kind);
    if (k == GM_TOKENS_BYTES)
        return build_bytes(out, err);
    if (k == GM_TOKENS_LLAMA2C)
        return gm_fail(err, GM_EINVAL, "%s tokens are not made from a text; give their file with --tokenizer", kind);
    if (k == GM_TOKENS_WORDS && (vocab < 0 || vocab > VOCAB_MAX || vocab == 1 || vocab == 2))
        return gm_fail(err, GM_EINVAL,
                       "a vocabulary of %lld words is out of range, it must be 3..%d (two are <unk> and <bos>), or 0 for all",
                       (long long)vocab, VOCAB_MAX);
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
    int64_t kept = GM_MIN((int64_t)c.used, k == GM_TOKENS_WORDS && vocab ? vocab - 2 : VOCAB_MAX - 2);
    gm_tokenizer *t;
    GM_TRY_GOTO(gm_tokenizer_begin(&t, (gm_token_kind)k, s.lower, kept + 2, err));
    add_special(t, &t->unk, "<unk>");
    add_special(t, &t->bos, "<bos>");
    for (int64_t i = 0; i < kept; i++)
        gm_tokenizer_add(t, c.pool.data + c.entries[i].offset, c.entries[i].size);
    status = gm_tokenizer_finish(out, t, err);
done:
    gm_text_free(&c.pool);
    free(c.entries);
    free(c.slots);
    return status;
}

/* Would the splitter cut the key as one key? Else no text could ever produce it. */
static bool key_is_whole(gm_token_kind kind, bool lower, const char *key, size_t size) {
    if (kind == GM_TOKENS_WORDS && size == 2 && key[0] == ' ')
        return key[1] == '"' || key[1] == '\'';
    gm_splitter s = {.text = (const uint8_t *)key, .size = size, .kind = kind, .lower = lower};
    return gm_splitter_next(&s) == GM_SPLIT_KEY && s.key_size == size && memcmp(s.key, key, size) == 0 && s.at == size;
}

static gm_status add_checked(gm_tokenizer *t, const char *key, size_t size, gm_error *err) {
    if (!key_is_whole(t->kind, t->lower, key, size))
        return gm_fail(err, GM_EFORMAT, "entry %d of the vocabulary, '%.40s', is not one of its %s", t->vocab, key,
                       gm_token_kind_name(t->kind));
    if (!gm_tokenizer_add(t, key, size))
        return gm_fail(err, GM_EFORMAT, "entry %d of the vocabulary, '%.40s', is there twice", t->vocab - 1, key);
    return GM_OK;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

gm_status gm_tokenizer_format(const gm_tokenizer *t, gm_text *json, gm_error *err) {
    json_t *root = json_pack("{s:s, s:i, s:s, s:b, s:i, s:i}", "type", file_type, "version", 1, "kind", gm_token_kind_name(t->kind),
                             "lower", (int)t->lower, "unk", (int)t->unk, "bos", (int)t->bos);
    if (root && t->kind != GM_TOKENS_BYTES) {
        json_t *vocab = json_array();
        for (int32_t i = 0; i < t->vocab; i++) {
            size_t size;
            const char *key = gm_tokenizer_key(t, i, &size);
            json_array_append_new(vocab, json_stringn(key, size));
        }
        json_object_set_new(root, "vocab", vocab);
    }
    if (root && t->scores) {
        json_t *scores = json_array();
        for (int32_t i = 0; i < t->vocab; i++)
            json_array_append_new(scores, json_real((double)t->scores[i]));
        json_object_set_new(root, "scores", scores);
    }
    char *dump = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!dump)
        return gm_fail_memory(err, t->pool.size);
    gm_text_bytes(json, dump, strlen(dump));
    gm_text_bytes(json, "\n", 1);
    free(dump);
    return json->failed ? gm_fail_memory(err, t->pool.size) : GM_OK;
}

static gm_status parse_llama2c(gm_tokenizer **out, const json_t *vocab, const json_t *scores, gm_error *err) {
    size_t count = json_array_size(vocab);
    if (json_array_size(scores) != count || count > VOCAB_MAX)
        return gm_fail(err, GM_EFORMAT, "its \"vocab\" and \"scores\" must be lists of equal length, %d at most", VOCAB_MAX);
    gm_llama2c_key *keys = gm_alloc(count, sizeof *keys);
    if (!keys)
        return gm_fail_memory(err, count * sizeof *keys);
    gm_status status = GM_OK;
    for (size_t i = 0; i < count && status == GM_OK; i++) {
        const json_t *key = json_array_get(vocab, i), *score = json_array_get(scores, i);
        if (json_is_string(key) && json_is_number(score))
            keys[i] = (gm_llama2c_key){json_string_value(key), json_string_length(key), (float)json_number_value(score), -1};
        else
            status = gm_fail(err, GM_EFORMAT, "entry %zu of \"vocab\" is not a string or has no score", i);
    }
    if (status == GM_OK)
        status = gm_llama2c_tokens_make(out, keys, (int64_t)count, err);
    gm_free(keys);
    return status;
}

gm_status gm_tokenizer_parse(gm_tokenizer **out, const char *json, size_t size, gm_error *err) {
    *out = NULL;
    json_error_t where;
    json_t *root = json_loadb(json, size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return gm_fail_at(err, GM_EFORMAT, where.position, "not JSON at byte %d: %s", where.position, where.text);
    gm_tokenizer *t = NULL;
    gm_status status = GM_OK;
    const char *type, *kind;
    int version, lower, unk, bos;
    json_t *vocab = json_object_get(root, "vocab");
    if (json_unpack(root, "{s:s, s:i, s:s, s:b, s:i, s:i}", "type", &type, "version", &version, "kind", &kind, "lower", &lower, "unk", &unk,
                    "bos", &bos) != 0 ||
        strcmp(type, file_type) != 0) {
        status = gm_fail(err, GM_EFORMAT, "not a tokenizer that ghostmax wrote (its \"type\" is \"%s\")", file_type);
        goto done;
    }
    int k = gm_token_kind_of(kind);
    if (k < 0 || version != 1) {
        status = gm_fail(err, GM_EUNSUPPORTED, "tokenizer kind '%s' version %d is unknown to this version of ghostmax", kind, version);
        goto done;
    }
    if (k == GM_TOKENS_BYTES) {
        status = build_bytes(out, err);
        goto done;
    }
    if (k == GM_TOKENS_LLAMA2C) {
        status = parse_llama2c(out, vocab, json_object_get(root, "scores"), err);
        goto done;
    }
    int64_t count = (int64_t)json_array_size(vocab);
    if (count < 2 || count > VOCAB_MAX || unk != 0 || bos != 1) {
        status = gm_fail(err, GM_EFORMAT, "its \"vocab\" must be a list of 2..%d strings that begins with <unk> and <bos>", VOCAB_MAX);
        goto done;
    }
    GM_TRY_GOTO(gm_tokenizer_begin(&t, (gm_token_kind)k, lower, count, err));
    add_special(t, &t->unk, "<unk>");
    add_special(t, &t->bos, "<bos>");
    for (int64_t i = 0; i < count; i++) {
        json_t *key = json_array_get(vocab, (size_t)i);
        if (!json_is_string(key)) {
            status = gm_fail(err, GM_EFORMAT, "entry %lld of \"vocab\" is not a string", (long long)i);
            goto done;
        }
        if (i >= 2)
            GM_TRY_GOTO(add_checked(t, json_string_value(key), json_string_length(key), err));
    }
    gm_tokenizer *whole = t;
    t = NULL;
    status = gm_tokenizer_finish(out, whole, err);
done:
    gm_tokenizer_free(t);
    json_decref(root);
    return status;
}

gm_status gm_tokenizer_load(gm_tokenizer **out, const char *path, gm_error *err) {
    *out = NULL;
    gm_file file;
    char inside[1024];
    if (gm_path_is_dir(path)) {
        GM_TRY(gm_path_join(inside, sizeof inside, path, "tokenizer.json", err));
        path = inside;
    }
    GM_TRY(gm_file_open(&file, path, err));
    gm_error inner = {.offset = -1};
    gm_status status = gm_llama2c_tokens_is(file.data, file.size) ? gm_llama2c_tokens_parse(out, file.data, file.size, &inner)
                                                                  : gm_tokenizer_parse(out, (const char *)file.data, file.size, &inner);
    gm_file_close(&file);
    if (status != GM_OK)
        return gm_fail_at(err, status, inner.offset, "tokenizer '%s': %s", path, inner.msg);
    return GM_OK;
}

gm_status gm_tokenizer_save(const gm_tokenizer *t, const char *path, gm_error *err) {
    gm_text json = {0};
    gm_status status = gm_tokenizer_format(t, &json, err);
    if (status == GM_OK)
        status = gm_file_write(path, json.data, json.size, err);
    gm_text_free(&json);
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
    return t->kind == GM_TOKENS_LLAMA2C ? 2 : -1;
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

gm_status gm_tokenizer_append(const gm_tokenizer *t, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err) {
    if (t->kind == GM_TOKENS_LLAMA2C)
        return gm_llama2c_tokens_append(t, text, size, begins, ids, err);
    gm_splitter s = {.text = (const uint8_t *)text, .size = size, .kind = t->kind, .lower = t->lower};
    gm_split found;
    while ((found = gm_splitter_next(&s)) == GM_SPLIT_KEY) {
        int32_t id = gm_tokenizer_find(t, s.key, s.key_size);
        if (!gm_ids_push(ids, id < 0 ? t->unk : id))
            return gm_fail_memory(err, (size_t)ids->capacity * 2 * sizeof(int32_t));
    }
    return found == GM_SPLIT_INVALID ? gm_splitter_fail(&s, err) : GM_OK;
}

size_t gm_tokenizer_cut(const gm_tokenizer *t, const char *text, size_t size, size_t at) {
    return t->kind == GM_TOKENS_LLAMA2C ? gm_llama2c_tokens_cut(t, text, size, at) : at;
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
    if (id < 0 || id >= t->vocab || id == t->bos) {
        *size = 0;
        return "";
    }
    if (t->kind == GM_TOKENS_LLAMA2C)
        return gm_llama2c_tokens_piece(t, previous, id, size);
    const char *key = gm_tokenizer_key(t, id, size);
    if (t->kind != GM_TOKENS_WORDS)
        return key;
    bool first = previous < 0 || previous >= t->vocab || previous == t->bos;
    bool opening = *size == 2 && key[0] == ' '; /* brings its own space */
    bool spaced = !first && !(t->glue[previous] & GM_GLUE_RIGHT) && !(t->glue[id] & GM_GLUE_LEFT);
    int shift = (int)spaced - (int)opening; /* the pool has one space before every key */
    *size = (size_t)((int)*size + shift);
    return key - shift;
}

gm_token_class gm_tokenizer_class(const gm_tokenizer *t, int32_t id) {
    return id < 0 || id >= t->vocab ? GM_CLASS_OTHER : (gm_token_class)t->classes[id];
}
