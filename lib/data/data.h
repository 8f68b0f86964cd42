/* data.h -- the inside of gm_data: a source makes one sequence at a time; data.c does the rest. */
#ifndef GM_DATA_H
#define GM_DATA_H

#include "base.h"
#include "ghostmax_model.h"
#include "tokenizer.h"

struct gm_data {
    gm_tokenizer *tokenizer;
    int64_t context;
    bool bos; /* every sequence starts with BOS */
    int64_t validation_count, train_tokens;
    double bytes_per_token;
    char identity[256];
    /* Sequence `index` of the validation set or of seed's training order: x [context], *last the target that follows x. */
    void (*fill)(const gm_data *d, bool validation, uint64_t seed, int64_t index, int32_t *x, int32_t *last);
    void (*close)(void *source);
    void *source; /* the source's own */
};

/* Each source's opener sets every field above; what it has set on failure is freed by gm_data_open. options->context is checked. */
gm_status gm_corpus_open(gm_data *d, const gm_data_options *options, gm_error *err);   /* a text or token file: corpus.c */
gm_status gm_backcopy_open(gm_data *d, const gm_data_options *options, gm_error *err); /* backcopy.c */
gm_status gm_stories_open(gm_data *d, const gm_data_options *options, gm_error *err);  /* story_stream.c */

/* options->tokenizer, which must be of the kind that options->tokens says, if it says one. */
gm_status gm_data_load_tokenizer(gm_tokenizer **out, const gm_data_options *options, gm_error *err);
/* Is options->tokenizer, if there is one, the one that the data has of its own? */
gm_status gm_data_same_tokenizer(const gm_data *d, const gm_data_options *options, bool *same, gm_error *err);

/* GM_EINVAL where options shape a vocabulary of words (vocab, keep_case) and `why` there is none to shape. */
gm_status gm_data_refuse_words(const gm_data_options *options, const char *why, gm_error *err);

/* The key of a stream's sequence: validation has its own keys, whatever the seed. */
uint64_t gm_stream_key(const char *source, bool validation, uint64_t seed, int64_t index);

/* ---- a text as tokens, in grains ------------------------------------------------------------------------------------------ */

/* A grain is a short piece of the text, cut at a line's end or white space where there is one near. Splits are made of whole grains,
 * so that they depend on the content and not on the tokens. */
typedef struct gm_grain {
    uint64_t token, byte; /* where it starts */
    uint64_t hash;        /* of its text */
} gm_grain;

typedef struct gm_run {
    int64_t token, windows; /* first token; windows in the runs before it */
} gm_run;

typedef struct gm_side { /* train or validation: maximal runs of segments of that side */
    gm_run *runs;        /* [count + 1]; the last one holds the total of windows */
    int64_t count;
    uint64_t tokens, bytes;
} gm_side;

typedef struct gm_corpus {
    gm_file file;       /* mapped: the bytes of a text under bytes, or a token file */
    const void *tokens; /* into file or owned */
    int width;          /* bytes per token: 1, 2, 4 */
    void *owned;
    gm_grain *grains; /* [grain_count + 1]; the last one holds the totals */
    int64_t grain_count;
    uint64_t hash;    /* of the text */
    gm_side sides[2]; /* [false] training, [true] validation */
    int64_t stride;   /* validation window i is number i * stride mod their count */
} gm_corpus;

static inline int32_t gm_corpus_token(const gm_corpus *c, int64_t i) {
    return c->width == 1   ? ((const uint8_t *)c->tokens)[i]
           : c->width == 2 ? ((const uint16_t *)c->tokens)[i]
                           : ((const int32_t *)c->tokens)[i];
}

/* A text of token ids (id_text.c): what there is without a tokenizer. c->grains are made; fills their tokens and c->tokens. */
bool gm_id_text_is(const uint8_t *text, size_t size);
gm_status gm_id_text_read(gm_corpus *c, const uint8_t *text, size_t size, gm_error *err);

/* Token files (token_file.c). */
bool gm_token_file_is(const gm_file *file);
/* Takes c->file over: fills tokenizer, tokens, grains, hash. */
gm_status gm_token_file_read(gm_corpus *c, gm_tokenizer **tokenizer, gm_error *err);
/* Its header and tokenizer alone. */
gm_status gm_token_file_header(const gm_file *file, int64_t *count, int64_t *text_bytes, int *width, gm_tokenizer **tokenizer,
                               gm_error *err);
gm_status gm_token_file_write(const gm_corpus *c, const gm_tokenizer *tokenizer, const char *path, gm_error *err);

#endif
