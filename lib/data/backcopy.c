/* backcopy.c -- source "bb": the Bigram-Backcopy task (Guo et al. 2024, "Active-Dormant Attention Heads", section 2; EVIDENCE: the exact
 * recipe from the authors' code). A sequence is
 *     z_0 = <s>;  z_1 ~ unigram without triggers;  z_{t+1} = z_{t-1} where z_t is a trigger, else ~ bigram row of z_t
 * with the character statistics of tiny Shakespeare and its three most frequent characters (space, e, t) as triggers. No trigger follows
 * a trigger, so a copy never copies one. Vocabulary 67: the 65 characters, <s> (<bos>) and the unused <d> (<unk>).
 * Sequences are fresh for every index, <s> stands first whatever no_bos says. */
#include "data.h"

#include <math.h>
#include <string.h>

enum {
    CHARS = 65,
    TRIGGERS = 3,
    FIRST = 2 /* id of the first character, after <unk> and <bos>; the table is in code point order, as ids are */
};

static const struct {
    int code;
    const int *successors;
    int length;
} bigrams[CHARS] = {
#define GM_BIGRAM_CHAR(CODE, ...) {CODE, (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int))},
#include "bigrams.inc"
#undef GM_BIGRAM_CHAR
};

typedef struct backcopy {
    int32_t rows[CHARS + 1][CHARS + 1]; /* running sums of counts: row a, up to but not including b; row CHARS is z_1's */
    bool trigger[FIRST + CHARS];        /* by id */
} backcopy;

/* A draw from a row of running sums. */
static int32_t draw(const int32_t *row, uint64_t key, uint64_t counter) {
    int32_t r = (int32_t)gm_rng_below(key, counter, row[CHARS]);
    int low = 0, high = CHARS; /* row[low] <= r < row[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (row[middle] <= r)
            low = middle;
        else
            high = middle;
    }
    return FIRST + low;
}

static void backcopy_fill(const gm_data *d, bool validation, uint64_t seed, int64_t index, int32_t *x, int32_t *last) {
    const backcopy *b = d->source;
    uint64_t key = gm_stream_key("bb", validation, seed, index);
    int32_t before = d->tokenizer->bos, now = draw(b->rows[CHARS], key, 0);
    x[0] = before;
    for (int64_t t = 1; t < d->context; t++) {
        x[t] = now;
        int32_t next = b->trigger[now] ? before : draw(b->rows[now - FIRST], key, (uint64_t)t);
        before = now;
        now = next;
    }
    *last = now;
}

bool gm_data_backcopy_mask(const gm_data *d, const int32_t *x, int64_t count, uint8_t *mask) {
    if (d->fill != backcopy_fill)
        return false;
    const backcopy *b = d->source;
    for (int64_t i = 0; i < count * d->context; i++)
        mask[i] = b->trigger[x[i]];
    return true;
}

bool gm_data_optimal_losses(const gm_data *d, const int32_t *x, const int32_t *y, int64_t count, double *losses) {
    if (d->fill != backcopy_fill)
        return false;
    const backcopy *b = d->source;
    for (int64_t i = 0; i < count * d->context; i++) {
        const int32_t *row = b->rows[x[i] >= FIRST ? x[i] - FIRST : CHARS];
        int32_t next = y[i] - FIRST;
        losses[i] = b->trigger[x[i]] ? 0.0 : log((double)row[CHARS] / (double)(row[next + 1] - row[next]));
    }
    return true;
}

static void backcopy_close(void *source) {
    gm_free(source);
}

gm_status gm_backcopy_open(gm_data *d, const gm_data_options *o, gm_error *err) {
    if (o->tokens && strcmp(o->tokens, "chars") != 0)
        return gm_fail(err, GM_EINVAL, "bb is a task on characters; leave --tokens %s out", o->tokens);
    GM_TRY(gm_data_refuse_words(o, "bb is made of characters", err));
    backcopy *b = gm_alloc(1, sizeof *b);
    if (!b)
        return gm_fail_memory(err, sizeof *b);
    d->source = b;
    d->close = backcopy_close;
    d->fill = backcopy_fill;
    char text[CHARS];
    for (int a = 0; a < CHARS; a++) {
        int32_t *row = b->rows[a], sum = 0;
        for (int i = 0, next = 0; i < bigrams[a].length; i++) {
            int n = bigrams[a].successors[i];
            for (int zeros = n < 0 ? -n : 1; zeros > 0; zeros--) {
                row[next++] = sum;
                sum += n < 0 ? 0 : n;
            }
        }
        row[CHARS] = sum;
        text[a] = (char)bigrams[a].code;
    }
    for (int k = 0; k < TRIGGERS; k++) { /* the most frequent characters: a row's sum is its character's count */
        int most = -1;
        for (int a = 0; a < CHARS; a++) {
            if (!b->trigger[FIRST + a] && (most < 0 || b->rows[a][CHARS] > b->rows[most][CHARS]))
                most = a;
        }
        b->trigger[FIRST + most] = true;
    }
    for (int a = 0; a < CHARS; a++)
        b->rows[CHARS][a + 1] = b->rows[CHARS][a] + (b->trigger[FIRST + a] ? 0 : b->rows[a][CHARS]);
    GM_TRY(gm_tokenizer_build(&d->tokenizer, "chars", text, CHARS, 0, false, err));
    bool same;
    GM_TRY(gm_data_same_tokenizer(d, o, &same, err));
    if (!same)
        return gm_fail(err, GM_EINVAL, "bb has its own characters, which are not those of tokenizer '%s'", o->tokenizer);
    d->bos = true;
    d->validation_count = GM_DATA_STREAM_VALIDATION;
    d->train_tokens = -1;
    snprintf(d->identity, sizeof d->identity, "bb %016llx, chars %d",
             (unsigned long long)gm_hash(b->rows, sizeof b->rows, d->tokenizer->hash), d->tokenizer->vocab);
    return GM_OK;
}
