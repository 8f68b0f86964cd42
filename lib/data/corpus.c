/* corpus.c -- a text file as training and validation sequences.
 *
 * The split. The text is cut into grains (16 to 512 bytes, at a line's end or white space where there is one near); 2^k neighbouring
 * grains make a segment; a segment whose text's hash is 0 mod 10 validates, the others train. So who validates depends on the content
 * alone: not on the seed, the file's name or the tokenizer. Segments are 8 KiB, longer where that is less than eight sequences, shorter
 * (not below two sequences) where a short text would give fewer than 16 of them; a text that still gets one side without a sequence is cut
 * finer, and then the segment with the smallest hash validates alone. Neighbouring segments of one side make a run, and a sequence lies
 * inside one run: no training sequence touches a validation token.
 *
 * Training sequences start anywhere in a training run, drawn with replacement from (seed, index). Validation sequences are the runs'
 * consecutive windows, each target once; what is left at a run's end is not used. They come in an order that strides through the whole
 * text (golden section), so that the first few dozen are a fair sample of it and not its first chapter. */
#include "data.h"
#include "subwords.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { GRAIN_BYTES_MIN = 16, GRAIN_BYTES_MAX = 512, SEGMENT_GRAINS = 16, VALIDATE_ONE_IN = 10 };

/* ---- text to grains ------------------------------------------------------------------------------------------------------- */

/* Where the grain that starts at `from` ends: the first line's end within a quarter of a grain after its full length, else the first
 * white space there, else the next start of a character. */
static size_t grain_end(const uint8_t *text, size_t size, size_t from, size_t length) {
    if (size - from <= length + length / 4)
        return size;
    size_t at = from + length, white = 0;
    for (size_t i = at; i < at + length / 4; i++) {
        if (text[i] == '\n')
            return i + 1;
        if (!white && (text[i] == ' ' || text[i] == '\t'))
            white = i + 1;
    }
    if (white)
        return white;
    for (int i = 0; i < 3 && (text[at] & 0xc0) == 0x80; i++)
        at++;
    return at;
}

static gm_status make_grains(gm_corpus *c, const uint8_t *text, size_t size, gm_error *err) {
    size_t length = GM_MIN(GM_MAX(size / 64, (size_t)GRAIN_BYTES_MIN), (size_t)GRAIN_BYTES_MAX);
    size_t capacity = size / length + 2;
    c->grains = gm_alloc(capacity, sizeof *c->grains);
    if (!c->grains)
        return gm_fail_memory(err, capacity * sizeof *c->grains);
    size_t at = 0;
    while (at < size) {
        size_t end = grain_end(text, size, at, length);
        c->grains[c->grain_count++] = (gm_grain){.byte = at, .hash = gm_hash(text + at, end - at, 0)};
        at = end;
    }
    c->grains[c->grain_count].byte = size;
    c->hash = gm_hash(text, size, 0);
    return GM_OK;
}

/* Makes room in c->owned and puts the ids there. */
static gm_status put_tokens(gm_corpus *c, const gm_ids *ids, uint64_t *count, uint64_t *capacity, gm_error *err) {
    if (*count + (uint64_t)ids->count > *capacity) {
        *capacity = 2 * *capacity + (uint64_t)ids->count;
        void *owned = realloc(c->owned, *capacity * (size_t)c->width);
        if (!owned)
            return gm_fail_memory(err, *capacity * (size_t)c->width);
        c->owned = owned;
    }
    for (int64_t i = 0; i < ids->count; i++) {
        if (c->width == 2)
            ((uint16_t *)c->owned)[(*count)++] = (uint16_t)ids->data[i];
        else
            ((int32_t *)c->owned)[(*count)++] = ids->data[i];
    }
    return GM_OK;
}

/* Tokenizes grain by grain, so that every grain knows its first token. */
static gm_status make_tokens(gm_corpus *c, const gm_tokenizer *t, const uint8_t *text, gm_error *err) {
    gm_ids ids = {0};
    gm_encoder *encoder;
    uint64_t count = 0, capacity = 0;
    const char *characters = (const char *)text;
    const size_t size = c->grains[c->grain_count].byte;
    c->width = t->vocab <= UINT16_MAX + 1 ? 2 : 4;
    GM_TRY(gm_encoder_create(&encoder, t, err));
    gm_status status = GM_OK;
    size_t to = 0;
    for (int64_t g = 0; g < c->grain_count && status == GM_OK; g++) {
        c->grains[g].token = count;
        ids.count = 0;
        size_t from = to; /* a place to cut may lie behind the next grains too */
        if (to < c->grains[g + 1].byte)
            to = gm_tokenizer_cut(t, characters, size, c->grains[g + 1].byte);
        status = gm_encoder_append(encoder, characters + from, to - from, from == 0, &ids, err);
        if (status != GM_OK && err && err->offset >= 0)
            err->offset += (int64_t)from;
        if (status == GM_OK)
            status = put_tokens(c, &ids, &count, &capacity, err);
    }
    c->grains[c->grain_count].token = count;
    c->tokens = c->owned;
    free(ids.data);
    gm_encoder_free(encoder);
    return status;
}

/* ---- grains to runs ---------------------------------------------------------------------------------------------------------- */

typedef struct split {
    const gm_corpus *c;
    int64_t per_segment; /* grains */
    int64_t need;        /* tokens of a sequence */
    int64_t stride;      /* of validation windows; 0: every start counts */
    int64_t chosen;      /* the one segment that validates, -1: by hash */
} split;

static int64_t segment_count(const split *s) {
    return (s->c->grain_count + s->per_segment - 1) / s->per_segment;
}

static const gm_grain *segment(const split *s, int64_t index) {
    return &s->c->grains[GM_MIN(index * s->per_segment, s->c->grain_count)];
}

static uint64_t segment_hash(const split *s, int64_t index) {
    uint64_t hash = 0;
    for (const gm_grain *g = segment(s, index); g < segment(s, index + 1); g++)
        hash = gm_hash(&g->hash, sizeof g->hash, hash);
    return hash;
}

static bool validates(const split *s, int64_t index) {
    return s->chosen >= 0 ? index == s->chosen : segment_hash(s, index) % VALIDATE_ONE_IN == 0;
}

/* One side's runs. */
static gm_status make_side(const split *s, bool validation, gm_side *side, gm_error *err) {
    int64_t segments = segment_count(s), windows = 0, T = validation ? s->stride : 1;
    gm_free(side->runs);
    *side = (gm_side){.runs = gm_alloc((size_t)segments + 1, sizeof *side->runs)};
    if (!side->runs)
        return gm_fail_memory(err, (size_t)segments * sizeof *side->runs);
    for (int64_t i = 0; i < segments; i++) {
        if (validates(s, i) != validation)
            continue;
        const gm_grain *first = segment(s, i);
        while (i + 1 < segments && validates(s, i + 1) == validation)
            i++;
        const gm_grain *end = segment(s, i + 1);
        int64_t tokens = (int64_t)(end->token - first->token);
        if (tokens < s->need)
            continue;
        side->runs[side->count++] = (gm_run){.token = (int64_t)first->token, .windows = windows};
        windows += (tokens - s->need) / T + 1;
        side->tokens += (uint64_t)tokens;
        side->bytes += end->byte - first->byte;
    }
    side->runs[side->count].windows = windows;
    return GM_OK;
}

/* The segment with the smallest hash among those that hold a sequence (-1: none does). */
static int64_t smallest_hash(const split *s) {
    int64_t best = -1;
    uint64_t best_hash = 0;
    for (int64_t i = 0; i < segment_count(s); i++) {
        uint64_t hash = segment_hash(s, i);
        if ((int64_t)(segment(s, i + 1)->token - segment(s, i)->token) >= s->need && (best < 0 || hash < best_hash)) {
            best = i;
            best_hash = hash;
        }
    }
    return best;
}

static gm_status try_split(gm_corpus *c, split *s, bool *found, gm_error *err) {
    s->chosen = -1;
    for (int attempt = 0;; attempt++) {
        GM_TRY(make_side(s, false, &c->sides[false], err));
        GM_TRY(make_side(s, true, &c->sides[true], err));
        *found = c->sides[false].count > 0 && c->sides[true].count > 0;
        if (*found || attempt == 1)
            return GM_OK;
        s->chosen = smallest_hash(s);
        if (s->chosen < 0)
            return GM_OK;
    }
}

static gm_status make_split(gm_corpus *c, int64_t context, bool bos, bool *found, gm_error *err) {
    /* With BOS a sequence is BOS and T text tokens (the last one only a target), without it T + 1. */
    split s = {.c = c, .need = context + !bos, .stride = context, .per_segment = SEGMENT_GRAINS};
    double per_grain = (double)c->grains[c->grain_count].token / (double)c->grain_count;
    while (per_grain * (double)s.per_segment < 8.0 * (double)s.need && s.per_segment < c->grain_count)
        s.per_segment *= 2;
    while (c->grain_count < 16 * s.per_segment && per_grain * (double)s.per_segment >= 4.0 * (double)s.need && s.per_segment > 1)
        s.per_segment /= 2;
    GM_TRY(try_split(c, &s, found, err));
    while (!*found && s.per_segment > 1) {
        s.per_segment /= 2;
        GM_TRY(try_split(c, &s, found, err));
    }
    return GM_OK;
}

/* The step with which validation windows are visited: near count / golden ratio and coprime with count, so every window comes once. */
static int64_t coprime_stride(int64_t count) {
    for (int64_t stride = (int64_t)((double)count * 0.6180339887498949) + 1;; stride++) {
        int64_t a = count, b = stride;
        while (b) {
            int64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return stride;
    }
}

/* ---- the source ------------------------------------------------------------------------------------------------------------------ */

static void corpus_fill(const gm_data *d, bool validation, uint64_t seed, int64_t index, int32_t *x, int32_t *last) {
    const gm_corpus *c = d->source;
    const gm_side *side = &c->sides[validation];
    int64_t windows = side->runs[side->count].windows;
    int64_t window = validation ? (int64_t)((unsigned __int128)index * (uint64_t)c->stride % (uint64_t)windows)
                                : gm_rng_below(gm_rng_key(seed, "corpus"), (uint64_t)index, windows);
    int64_t low = 0, high = side->count; /* the run that holds the window: runs[low].windows <= window < runs[high].windows */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (side->runs[middle].windows <= window)
            low = middle;
        else
            high = middle;
    }
    int64_t T = d->context;
    int64_t at = side->runs[low].token + (window - side->runs[low].windows) * (validation ? T : 1);
    int64_t i = 0;
    if (d->bos)
        x[i++] = d->tokenizer->bos;
    while (i < T)
        x[i++] = gm_corpus_token(c, at++);
    *last = gm_corpus_token(c, at);
}

static void corpus_close(void *source) {
    gm_corpus *c = source;
    gm_file_close(&c->file);
    free(c->owned);
    gm_free(c->grains);
    gm_free(c->sides[0].runs);
    gm_free(c->sides[1].runs);
    gm_free(c);
}

static gm_status check_not_packed(const gm_file *file, gm_error *err) {
    static const struct {
        const char *magic, *name, *tool;
    } packers[] = {{"\xfd"
                    "7zXZ",
                    "xz", "unxz -k"},
                   {"\x1f\x8b", "gzip", "gunzip -k"},
                   {"\x28\xb5\x2f\xfd", "zstd", "unzstd"},
                   {"BZh", "bzip2", "bunzip2 -k"},
                   {"PK\x03\x04", "zip", "unzip"}};
    for (int i = 0; i < GM_COUNT(packers); i++) {
        if (file->size > 8 && memcmp(file->data, packers[i].magic, strlen(packers[i].magic)) == 0)
            return gm_fail_at(err, GM_EFORMAT, 0, "'%s' is packed by %s; unpack it first (%s)", file->path, packers[i].name,
                              packers[i].tool);
    }
    return GM_OK;
}

/* A model's data without its tokenizer: ids may be read, text may not. They are taken as they are, with no BOS put before them. */
static gm_status read_ids(gm_data *d, gm_corpus *c, gm_error *err) {
    const uint8_t *text = c->file.data;
    if (!gm_id_text_is(text, c->file.size))
        return gm_fail(err, GM_EINVAL,
                       "no tokenizer stands beside the model to read '%s' with; give --tokenizer FILE, or a file of token ids (numbers)",
                       c->file.path);
    d->bos = false;
    gm_error inner = {.offset = -1};
    gm_status status = make_grains(c, text, c->file.size, &inner);
    if (status == GM_OK)
        status = gm_id_text_read(c, text, c->file.size, &inner);
    return status == GM_OK ? GM_OK : gm_fail_at(err, status, inner.offset, "'%s': %s", c->file.path, inner.msg);
}

static gm_status read_text(gm_data *d, gm_corpus *c, const gm_data_options *o, gm_error *err) {
    const gm_data_defaults *standard = gm_data_default_of(o->source);
    const char *kind = o->tokens ? o->tokens : standard->tokens;
    if (o->for_model && !o->tokenizer)
        return read_ids(d, c, err);
    if (strcmp(kind, "bytes") != 0 && !o->tokenizer)
        GM_TRY(check_not_packed(&c->file, err));
    size_t skip = c->file.size >= 3 && memcmp(c->file.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark is no text */
    const uint8_t *text = c->file.data + skip;
    size_t size = c->file.size - skip;
    if (size == 0)
        return gm_fail(err, GM_EFORMAT, "'%s' is empty; give a file with text in it", c->file.path);
    if (strcmp(kind, "words") != 0) {
        const gm_data_options shapes = {.vocab = strcmp(kind, "bpe") == 0 ? 0 : o->vocab, .keep_case = o->keep_case};
        GM_TRY(gm_data_refuse_words(&shapes, "these tokens have another shape", err));
    }
    gm_error inner = {.offset = -1};
    gm_status status;
    if (o->tokenizer) {
        GM_TRY(gm_data_refuse_words(o, "--tokenizer brings its own", err));
        GM_TRY(gm_data_load_tokenizer(&d->tokenizer, o, err));
        if (d->tokenizer->subwords) /* some take any bytes */
            GM_TRY(check_not_packed(&c->file, err));
        status = GM_OK;
    } else
        status =
            gm_tokenizer_build(&d->tokenizer, kind, (const char *)text, size, o->vocab ? o->vocab : standard->vocab, !o->keep_case, &inner);
    if (status == GM_OK)
        status = make_grains(c, text, size, &inner);
    if (status == GM_OK && d->tokenizer->kind == GM_TOKENS_BYTES) { /* the mapped text is the tokens */
        for (int64_t g = 0; g <= c->grain_count; g++)
            c->grains[g].token = c->grains[g].byte;
        c->tokens = text;
        c->width = 1;
    } else if (status == GM_OK) {
        status = make_tokens(c, d->tokenizer, text, &inner);
        gm_file_close(&c->file);
    }
    if (inner.offset >= 0)
        return gm_fail_at(err, status, inner.offset + (int64_t)skip, "'%s': %s", o->source, inner.msg);
    if (status != GM_OK && err)
        *err = inner;
    return status;
}

static gm_status read_tokens(gm_data *d, gm_corpus *c, const gm_data_options *o, gm_error *err) {
    GM_TRY(gm_data_refuse_words(o, "a token file brings its own", err));
    GM_TRY(gm_token_file_read(c, &d->tokenizer, err));
    if (o->tokens && strcmp(o->tokens, gm_tokenizer_kind(d->tokenizer)) != 0)
        return gm_fail(err, GM_EINVAL, "'%s' holds tokens that are %s, not %s; leave --tokens out or tokenize the text again", o->source,
                       gm_tokenizer_kind(d->tokenizer), o->tokens);
    bool same;
    GM_TRY(gm_data_same_tokenizer(d, o, &same, err));
    if (!same)
        return gm_fail(err, GM_EINVAL, "'%s' was written with another tokenizer than '%s'; tokenize the text again", o->source,
                       o->tokenizer);
    return GM_OK;
}

static const char *kind_of(const gm_data *d) {
    return d->tokenizer ? gm_tokenizer_kind(d->tokenizer) : "ids";
}

static gm_status too_short(gm_corpus *c, const gm_data_options *o, const gm_data *d, gm_error *err) {
    long long tokens = (long long)c->grains[c->grain_count].token;
    bool found = false;
    int64_t context = GM_MIN(o->context, (int64_t)tokens);
    while (!found && context > 1) {
        context /= 2;
        GM_TRY(make_split(c, context, d->bos, &found, err));
    }
    if (!found)
        return gm_fail(err, GM_EFORMAT, "'%s' has %lld tokens (%s), too few to train and validate on; give a longer text", o->source,
                       tokens, kind_of(d));
    return gm_fail(err, GM_EINVAL,
                   "'%s' has %lld tokens (%s), too few to train and validate on sequences of %lld; use --context %lld or a longer text",
                   o->source, tokens, kind_of(d), (long long)o->context, (long long)context);
}

gm_status gm_corpus_open(gm_data *d, const gm_data_options *o, gm_error *err) {
    gm_corpus *c = gm_alloc(1, sizeof *c);
    if (!c)
        return gm_fail_memory(err, sizeof *c);
    d->source = c;
    d->close = corpus_close;
    d->fill = corpus_fill;
    if (!gm_path_exists(o->source)) {
        const char *near = gm_text_nearest(o->source, (const char *const[]){"stories", "bb", NULL});
        if (near)
            return gm_fail(err, GM_EIO, "no file '%s'; did you mean the built-in '%s'?", o->source, near);
    }
    GM_TRY(gm_file_open(&c->file, o->source, err));
    GM_TRY(gm_token_file_is(&c->file) ? read_tokens(d, c, o, err) : read_text(d, c, o, err));
    if (o->own_bos && d->tokenizer)
        d->bos = d->bos && gm_tokenizer_adds_bos(d->tokenizer);
    bool found = o->whole;
    if (!found && c->grains[c->grain_count].token > 0)
        GM_TRY(make_split(c, d->context, d->bos, &found, err));
    if (!found)
        return too_short(c, o, d, err);
    if (!o->whole) {
        const gm_side *validation = &c->sides[true];
        d->validation_count = validation->runs[validation->count].windows;
        c->stride = coprime_stride(d->validation_count);
        d->train_tokens = (int64_t)c->sides[false].tokens;
        d->bytes_per_token = d->tokenizer ? (double)validation->bytes / (double)validation->tokens : 0;
    }
    int n = snprintf(d->identity, sizeof d->identity, "text %016llx, %llu tokens, %s", (unsigned long long)c->hash,
                     (unsigned long long)c->grains[c->grain_count].token, kind_of(d));
    if (d->tokenizer)
        snprintf(d->identity + n, sizeof d->identity - (size_t)n, " %lld %016llx%s", (long long)d->tokenizer->vocab,
                 (unsigned long long)d->tokenizer->hash, d->bos ? ", bos" : "");
    return GM_OK;
}

/* The text behind d, NULL for a stream. */
static const gm_corpus *text_of(const gm_data *d) {
    return d->fill == corpus_fill ? d->source : NULL;
}

int64_t gm_data_text_tokens(const gm_data *d) {
    const gm_corpus *c = text_of(d);
    return c ? (int64_t)c->grains[c->grain_count].token : 0;
}

int64_t gm_data_text_bytes(const gm_data *d) {
    const gm_corpus *c = text_of(d);
    return c ? (int64_t)c->grains[c->grain_count].byte : 0;
}

void gm_data_text(const gm_data *d, int64_t first, int64_t count, int32_t *ids) {
    const gm_corpus *c = text_of(d);
    for (int64_t i = 0; c && i < count; i++)
        ids[i] = gm_corpus_token(c, first + i);
}

gm_status gm_data_write_tokens(const gm_data *d, const char *path, gm_error *err) {
    if (!text_of(d))
        return gm_fail(err, GM_EUNSUPPORTED, "a stream has no end, so it makes no token file; give a text file");
    if (!d->tokenizer)
        return gm_fail(err, GM_EUNSUPPORTED, "a token file holds its tokenizer, and there is none; give one");
    return gm_token_file_write(d->source, d->tokenizer, path, err);
}
