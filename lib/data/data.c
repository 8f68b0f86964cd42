/* data.c -- sources by name, their defaults, and what is the same for all of them. */
#include "data.h"

#include <string.h>

static const gm_data_defaults defaults[] = {
    {.source = "stories",
     .model = "words-mini", /* the demo's recipe; docs/recipes.md has the search */
     .tokens = "words",
     .summary = "English from the built-in story grammar, fresh for ever",
     .vocab = 0,
     .batch = 16,
     .context = 128,
     .steps = 350,
     .seeds = 1,
     .lr = 3e-3,
     .variants = "softmax,softmax1,sink,clipped,gated"},
    {.source = "bb",
     .model = "bb-1l",
     .tokens = "chars",
     .summary = "the Bigram-Backcopy task, fresh for ever (Guo et al. 2024)",
     .vocab = 0,
     .batch = 32,
     .context = 256,
     .steps = 1000,
     .seeds = 2,
     .lr = 3e-4,
     .variants = "softmax,softmax1,sink,clipped,gated"},
    {.source = "FILE",
     .model = "words-mini",
     .tokens = "words",
     .summary = "a text file, or a token file written by `ghostmax tokenize`",
     .vocab = 4096,
     .batch = 32,
     .context = 128,
     .steps = 1000,
     .seeds = 2,
     .lr = 2e-3,
     .variants = "softmax,softmax1,sink,clipped,gated"},
};

const gm_data_defaults *gm_data_default_list(int index) {
    return index >= 0 && index < GM_COUNT(defaults) ? &defaults[index] : NULL;
}

const gm_data_defaults *gm_data_default_of(const char *source) {
    int i = 0;
    while (i < GM_COUNT(defaults) - 1 && strcmp(source, defaults[i].source) != 0)
        i++;
    return &defaults[i];
}

gm_status gm_data_open(gm_data **out, const gm_data_options *options, gm_error *err) {
    *out = NULL;
    if (!options->source || !*options->source)
        return gm_fail(err, GM_EINVAL, "no data given; it must be stories, bb or a file");
    if (options->context < 1 || options->context > INT32_MAX)
        return gm_fail(err, GM_EINVAL, "a context of %lld tokens is out of range, it must be 1 or more", (long long)options->context);
    if (options->tokens && gm_token_kind_of(options->tokens) < 0)
        return gm_fail(err, GM_EINVAL, "unknown kind of tokens '%s'; it must be bytes, chars, words or bpe", options->tokens);
    gm_data *d = gm_alloc(1, sizeof *d);
    if (!d)
        return gm_fail_memory(err, sizeof *d);
    d->context = options->context;
    d->bos = !options->no_bos;
    gm_status status = strcmp(options->source, "bb") == 0        ? gm_backcopy_open(d, options, err)
                       : strcmp(options->source, "stories") == 0 ? gm_stories_open(d, options, err)
                                                                 : gm_corpus_open(d, options, err);
    if (status != GM_OK) {
        gm_data_free(d);
        return status;
    }
    *out = d;
    return GM_OK;
}

void gm_data_free(gm_data *d) {
    if (!d)
        return;
    if (d->source)
        d->close(d->source);
    gm_tokenizer_free(d->tokenizer);
    gm_free(d);
}

const gm_tokenizer *gm_data_tokenizer(const gm_data *d) {
    return d->tokenizer;
}

int64_t gm_data_validation_count(const gm_data *d) {
    return d->validation_count;
}

int64_t gm_data_context(const gm_data *d) {
    return d->context;
}

bool gm_data_bos(const gm_data *d) {
    return d->bos;
}

int64_t gm_data_train_tokens(const gm_data *d) {
    return d->train_tokens;
}

double gm_data_bytes_per_token(const gm_data *d) {
    return d->bytes_per_token;
}

const char *gm_data_identity(const gm_data *d) {
    return d->identity;
}

gm_status gm_data_load_tokenizer(gm_tokenizer **out, const gm_data_options *o, gm_error *err) {
    GM_TRY(gm_tokenizer_load(out, o->tokenizer, err));
    if (o->tokens && strcmp(o->tokens, gm_tokenizer_kind(*out)) != 0)
        return gm_fail(err, GM_EINVAL, "tokenizer '%s' is of %s, not %s; leave --tokens out", o->tokenizer, gm_tokenizer_kind(*out),
                       o->tokens);
    return GM_OK;
}

gm_status gm_data_same_tokenizer(const gm_data *d, const gm_data_options *o, bool *same, gm_error *err) {
    *same = true;
    if (!o->tokenizer)
        return GM_OK;
    gm_tokenizer *other;
    GM_TRY(gm_tokenizer_load(&other, o->tokenizer, err));
    *same = other->hash == d->tokenizer->hash;
    gm_tokenizer_free(other);
    return GM_OK;
}

gm_status gm_data_refuse_words(const gm_data_options *o, const char *why, gm_error *err) {
    if (!o->vocab && !o->keep_case)
        return GM_OK;
    const char *option = o->vocab ? "--vocab" : "--keep-case";
    return gm_fail(err, GM_EINVAL, "%s is for words that are built from a text, and %s; leave it out", option, why);
}

static void fill(const gm_data *d, bool validation, uint64_t seed, int64_t index, int32_t *x, int32_t *y) {
    int64_t T = d->context;
    d->fill(d, validation, seed, index, x, &y[T - 1]);
    memcpy(y, x + 1, (size_t)(T - 1) * sizeof *y);
}

void gm_data_train(const gm_data *d, uint64_t seed, int64_t first, int64_t count, int32_t *x, int32_t *y) {
    for (int64_t i = 0; i < count; i++)
        fill(d, false, seed, first + i, x + i * d->context, y + i * d->context);
}

void gm_data_validation(const gm_data *d, int64_t first, int64_t count, int32_t *x, int32_t *y) {
    for (int64_t i = 0; i < count; i++)
        fill(d, true, 0, (first + i) % d->validation_count, x + i * d->context, y + i * d->context);
}

uint64_t gm_stream_key(const char *source, bool validation, uint64_t seed, int64_t index) {
    char name[64];
    snprintf(name, sizeof name, "%s %s", source, validation ? "validation" : "train");
    return gm_rng_u64(gm_rng_key(validation ? 0 : seed, name), (uint64_t)index);
}
