/* bpe_pairs.c -- which two tokens join into which, and in what order: a hash table made of a list of merges, or of scores. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static gm_pair *pair_of(const gm_subwords *s, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    for (uint32_t i = (uint32_t)(h >> 32);; i++) {
        gm_pair *p = &s->pairs[i & s->pair_mask];
        if (p->rank == UINT32_MAX || (p->left == left && p->right == right))
            return p;
    }
}

const gm_pair *gm_pairs_find(const gm_subwords *s, int32_t left, int32_t right) {
    const gm_pair *p = pair_of(s, (uint32_t)left, (uint32_t)right);
    return p->rank == UINT32_MAX ? NULL : p;
}

static gm_status begin(gm_subwords *s, size_t count, gm_error *err) {
    uint32_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    gm_free(s->pairs);
    s->pairs = gm_alloc(slots, sizeof *s->pairs);
    if (!s->pairs)
        return gm_fail_memory(err, slots * sizeof *s->pairs);
    s->pair_mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        s->pairs[i].rank = UINT32_MAX;
    return GM_OK;
}

gm_status gm_pairs_from_merges(gm_subwords *s, gm_error *err) {
    GM_TRY(begin(s, (size_t)s->merge_count, err));
    for (int64_t i = 0; i < s->merge_count; i++)
        *pair_of(s, s->merges[i].left, s->merges[i].right) = s->merges[i];
    return GM_OK;
}

gm_status gm_merge_add(gm_tokenizer *t, const char *both, int64_t n, int64_t k, gm_error *err) {
    gm_subwords *s = t->subwords;
    const long long number = (long long)s->merge_count;
    if (n <= 0 || k <= 0)
        return gm_fail(err, GM_EFORMAT, "merge %lld is not two tokens with a space between them", number);
    int32_t left = gm_tokenizer_find(t, both, (size_t)n), right = gm_tokenizer_find(t, both + n, (size_t)k);
    int32_t id = gm_tokenizer_find(t, both, (size_t)(n + k));
    if (left < 0 || right < 0)
        return gm_fail(err, GM_EFORMAT, "merge %lld names '%.*s', which is no token", number, (int)GM_MIN(left < 0 ? n : k, (int64_t)40),
                       left < 0 ? both : both + n);
    if (id < 0)
        return gm_fail(err, GM_EFORMAT, "merge %lld makes '%.*s', which is no token", number, (int)GM_MIN(n + k, (int64_t)40), both);
    s->merges[s->merge_count++] = (gm_pair){(uint32_t)left, (uint32_t)right, (uint32_t)number, (uint32_t)id};
    return GM_OK;
}

gm_status gm_merges_check(const gm_tokenizer *t, gm_error *err) {
    const gm_subwords *s = t->subwords;
    bool *made = gm_alloc((size_t)t->vocab, sizeof *made);
    long long longer = 0, orphans = 0;
    if (!made)
        return gm_fail_memory(err, (size_t)t->vocab);
    for (int64_t i = 0; i < s->merge_count; i++)
        made[s->merges[i].id] = true;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size;
        gm_tokenizer_key(t, id, &size);
        bool counts = t->types[id] == GM_TOKEN_NORMAL && size > 1;
        longer += counts;
        orphans += counts && !made[id];
    }
    gm_free(made);
    if (orphans > 16 && orphans > longer / 8)
        return gm_fail(err, GM_EFORMAT, "%lld of its %lld tokens of several bytes are made by no merge: merges are missing", orphans,
                       longer);
    return GM_OK;
}

/* ---- from scores ------------------------------------------------------------------------------------------------------------------ */

static int falling(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* How many different scores are above this one. */
static uint32_t rank_of(const double *sorted, size_t count, double score) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sorted[middle] > score)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint32_t)low;
}

/* Calls each way to cut the id's key in two keys. Returns how many there are; pairs NULL: only counts. */
static size_t cut_key(gm_tokenizer *t, int32_t id, uint32_t rank, bool store) {
    size_t size, count = 0;
    const char *key = gm_tokenizer_key(t, id, &size);
    for (size_t at = 1; at < size; at++) {
        int32_t left = gm_tokenizer_find(t, key, at);
        int32_t right = left < 0 ? -1 : gm_tokenizer_find(t, key + at, size - at);
        if (right < 0)
            continue;
        count++;
        if (store)
            *pair_of(t->subwords, (uint32_t)left, (uint32_t)right) = (gm_pair){(uint32_t)left, (uint32_t)right, rank, (uint32_t)id};
    }
    return count;
}

/* Characters that stand only inside keys. */
static gm_status add_characters(gm_tokenizer *t, gm_error *err) {
    const int32_t vocab = t->vocab;
    for (int32_t id = 0; id < vocab; id++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, id, &size);
        if (gm_tokenizer_find(t, key, size) != id)
            continue;
        int n;
        for (size_t at = 0; at < size; at += (size_t)n) {
            char character[4];
            gm_char_at(key + at, size - at, &n);
            memcpy(character, key + at, (size_t)n);
            if (gm_tokenizer_find(t, character, (size_t)n) >= 0)
                continue;
            if (!gm_tokenizer_reserve(t, 1))
                return gm_fail_memory(err, (size_t)t->vocab * 16);
            gm_tokenizer_add(t, character, (size_t)n);
            key = gm_tokenizer_key(t, id, &size); /* the pool may have moved */
        }
    }
    t->extra = t->vocab - vocab;
    t->vocab = vocab;
    return t->pool.failed ? gm_fail_memory(err, t->pool.size) : GM_OK;
}

gm_status gm_pairs_from_scores(gm_tokenizer *t, double least, bool characters, gm_error *err) {
    if (characters)
        GM_TRY(add_characters(t, err));
    size_t vocab = (size_t)t->vocab, count = 0;
    double *sorted = gm_alloc(vocab, sizeof *sorted);
    if (!sorted)
        return gm_fail_memory(err, vocab * sizeof *sorted);
    memcpy(sorted, t->scores, vocab * sizeof *sorted);
    qsort(sorted, vocab, sizeof *sorted, falling);
    gm_status status = GM_OK;
    for (int store = 0; store < 2 && status == GM_OK; store++) {
        if (store)
            status = begin(t->subwords, count, err);
        for (int32_t id = 0; id < t->vocab && status == GM_OK; id++) {
            size_t size;
            const char *key = gm_tokenizer_key(t, id, &size);
            if (t->scores[id] > least && gm_tokenizer_find(t, key, size) == id)
                count += cut_key(t, id, rank_of(sorted, vocab, t->scores[id]), store);
        }
    }
    gm_free(sorted);
    return status;
}
