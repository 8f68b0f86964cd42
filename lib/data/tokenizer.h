/* tokenizer.h -- the inside of gm_tokenizer: a list of keys with a hash table, and splitters that cut text into keys.
 *
 * A kind is a way to cut text. bytes, chars and words share everything else: the vocabulary, its file, classes and printing. llama2c has
 * an encoder and a file of its own (llama2c_tokens.c).
 *
 * words: a word is a run of letters, marks and digits with apostrophes (' or U+2019) between them; every other visible character is a
 * token of its own; every newline is one; other white space, control and format characters (a byte order mark among them) separate
 * and are not kept. A straight quote that opens (white space, a bracket or a dash before it, none after) is the key " \"", with a space
 * before it, so that printing knows on which side it belongs. Lower-casing maps code point by code point. */
#ifndef GM_TOKENIZER_H
#define GM_TOKENIZER_H

#include "base.h"
#include "ghostmax_model.h"

typedef enum gm_token_kind { GM_TOKENS_BYTES, GM_TOKENS_CHARS, GM_TOKENS_WORDS, GM_TOKENS_LLAMA2C, GM_TOKENS_COUNT } gm_token_kind;

struct gm_tokenizer {
    gm_token_kind kind;
    bool lower;
    int32_t vocab, bos, unk; /* -1: none */
    gm_text pool;            /* the keys, each after one space: a printed piece is its key with or without that space */
    uint32_t *start;         /* [vocab + 1] offsets into pool */
    uint8_t *classes;        /* gm_token_class */
    uint8_t *glue;           /* GM_GLUE_*: where printing puts no space */
    int32_t *slots;          /* open addressing: id + 1, 0 empty */
    uint32_t slot_mask;
    float *scores;    /* llama2c: of joining into the key; else NULL */
    size_t key_max;   /* llama2c: the longest key's bytes */
    bool lines_apart; /* llama2c: no key has a line's end */
    char bytes[256];  /* llama2c: what byte tokens print */
    uint64_t hash;    /* of kind, case, keys and scores */
};

enum { GM_GLUE_LEFT = 1, GM_GLUE_RIGHT = 2 };

/* The kind's number, -1 when there is none of that name. */
int gm_token_kind_of(const char *name);
const char *gm_token_kind_name(gm_token_kind kind);

/* ---- cutting text into keys (token_split.c) */

enum { GM_KEY_MAX = 256 }; /* bytes; a longer run of letters is cut: no language has such words, encoded binaries do */

typedef struct gm_splitter {
    const uint8_t *text;
    size_t size, at; /* at: where the next key is looked for; on failure the byte at fault */
    gm_token_kind kind;
    bool lower;
    const char *key; /* the key found: into text or buffer, valid until the next call */
    size_t key_size;
    char buffer[GM_KEY_MAX + 8];
} gm_splitter;

typedef enum gm_split { GM_SPLIT_KEY, GM_SPLIT_END, GM_SPLIT_INVALID } gm_split;
gm_split gm_splitter_next(gm_splitter *s);
/* What the splitter's GM_SPLIT_INVALID means, as an error with the byte's offset. */
gm_status gm_splitter_fail(const gm_splitter *s, gm_error *err);

gm_token_class gm_key_class(const char *key, size_t size);
uint8_t gm_key_glue(const char *key, size_t size);

/* ---- the list of keys (tokenizer.c) */

/* An empty tokenizer with room for `capacity` keys; add them in id order, then finish, which frees it on failure. */
gm_status gm_tokenizer_begin(gm_tokenizer **out, gm_token_kind kind, bool lower, int64_t capacity, gm_error *err);
bool gm_tokenizer_add(gm_tokenizer *t, const char *key, size_t size); /* false: the key was there already, its first id is found */
gm_status gm_tokenizer_finish(gm_tokenizer **out, gm_tokenizer *t, gm_error *err);
const char *gm_tokenizer_key(const gm_tokenizer *t, int32_t id, size_t *size);
int32_t gm_tokenizer_find(const gm_tokenizer *t, const char *key, size_t size); /* -1: no such key */

/* ---- between data/'s files */

typedef struct gm_ids {
    int32_t *data; /* malloc */
    int64_t count, capacity;
} gm_ids;
bool gm_ids_push(gm_ids *ids, int32_t id); /* false: no memory */
/* Encode and append. begins: the text's own beginning, where some kinds put a token. */
gm_status gm_tokenizer_append(const gm_tokenizer *t, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err);
/* The first place at or after `at` where a text may be cut so that the parts' tokens are the whole's. */
size_t gm_tokenizer_cut(const gm_tokenizer *t, const char *text, size_t size, size_t at);
/* tokenizer.json's text, both ways. */
gm_status gm_tokenizer_format(const gm_tokenizer *t, gm_text *json, gm_error *err);
gm_status gm_tokenizer_parse(gm_tokenizer **out, const char *json, size_t size, gm_error *err);

/* ---- llama2c (llama2c_tokens.c) */

typedef struct gm_llama2c_key {
    const char *text;
    size_t size;
    float score;
    int64_t offset; /* in its file, -1: none */
} gm_llama2c_key;
gm_status gm_llama2c_tokens_make(gm_tokenizer **out, const gm_llama2c_key *keys, int64_t count, gm_error *err);
bool gm_llama2c_tokens_is(const uint8_t *data, size_t size);
gm_status gm_llama2c_tokens_parse(gm_tokenizer **out, const uint8_t *data, size_t size, gm_error *err); /* tokenizer.bin */
/* As gm_tokenizer_append, _cut and _piece. */
gm_status gm_llama2c_tokens_append(const gm_tokenizer *t, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err);
size_t gm_llama2c_tokens_cut(const gm_tokenizer *t, const char *text, size_t size, size_t at);
const char *gm_llama2c_tokens_piece(const gm_tokenizer *t, int32_t previous, int32_t id, size_t *size);

#endif
