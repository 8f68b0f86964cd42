/* tokenizer.h -- the inside of gm_tokenizer: a list of keys with a hash table, and ways to cut a text into keys.
 *
 * bytes, chars and words cut a text into keys directly (token_split.c). The other kinds have keys that are parts of words: subwords.h.
 * All share the vocabulary, classes and printing.
 *
 * words: a word is a run of letters, marks and digits with apostrophes (' or U+2019) between them; every other visible character is a
 * token of its own; every newline is one; other white space, control and format characters (a byte order mark among them) separate
 * and are not kept. A straight quote that opens (white space, a bracket or a dash before it, none after) is the key " \"", with a space
 * before it, so that printing knows on which side it belongs. Lower-casing maps code point by code point. */
#ifndef GM_TOKENIZER_H
#define GM_TOKENIZER_H

#include "base.h"
#include "ghostmax_model.h"

typedef enum gm_token_kind {
    GM_TOKENS_BYTES,
    GM_TOKENS_CHARS,
    GM_TOKENS_WORDS,
    GM_TOKENS_LLAMA2C,
    GM_TOKENS_BPE,
    GM_TOKENS_WORDPIECE,
    GM_TOKENS_UNIGRAM,
    GM_TOKENS_SENTENCEPIECE,
    GM_TOKENS_COUNT
} gm_token_kind;

typedef enum gm_token_type { /* numbered as SentencePiece and GGUF number them */
                             GM_TOKEN_NORMAL = 1,
                             GM_TOKEN_UNKNOWN = 2,
                             GM_TOKEN_CONTROL = 3,      /* never in a text; prints nothing */
                             GM_TOKEN_USER_DEFINED = 4, /* taken out of a text whole */
                             GM_TOKEN_UNUSED = 5,
                             GM_TOKEN_BYTE = 6, /* written <0x00> .. <0xFF> */
} gm_token_type;

struct gm_tokenizer {
    gm_token_kind kind;
    bool lower;
    int32_t vocab, bos, eos, unk; /* -1: none */
    int32_t extra, capacity;      /* keys after the vocabulary's, which only bpe_pairs.c makes; room in the arrays */
    gm_text pool;                 /* the keys, each after one space: a printed piece is its key with or without that space */
    uint32_t *start;              /* [vocab + extra + 1] offsets into pool */
    uint8_t *classes;             /* gm_token_class */
    uint8_t *types;               /* gm_token_type */
    uint8_t *glue;                /* GM_GLUE_*: where printing puts no space */
    int32_t *slots;               /* open addressing: id + 1, 0 empty */
    uint32_t slot_mask;
    double *scores;               /* of joining into the key, or of using it; NULL: there are none */
    struct gm_subwords *subwords; /* NULL: bytes, chars, words */
    gm_text printed;              /* what tokens print, where that is not their key; each after one space, as in pool */
    uint32_t *printed_start;      /* NULL: they print their keys */
    uint64_t hash;                /* of everything that decides which ids a text gives */
};

enum { GM_GLUE_LEFT = 1, GM_GLUE_RIGHT = 2 };

/* The kind's number, -1 when there is none of that name. */
int gm_token_kind_of(const char *name);
const char *gm_token_kind_name(gm_token_kind kind);

/* ---- cutting text into keys (token_split.c) */

enum { GM_KEY_MAX = 256 }; /* bytes; of words: a longer run of letters is cut. No language has such words, encoded binaries do */

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

enum { GM_VOCAB_MAX = 1 << 24 };
/* An empty tokenizer with room for `capacity` keys; add them in id order, then finish, which frees it on failure. */
gm_status gm_tokenizer_begin(gm_tokenizer **out, gm_token_kind kind, bool lower, int64_t capacity, gm_error *err);
bool gm_tokenizer_reserve(gm_tokenizer *t, int32_t more);             /* room for more keys; false: no memory */
bool gm_tokenizer_add(gm_tokenizer *t, const char *key, size_t size); /* false: the key was there already, its first id is found */
/* A key that gm_tokenizer_find does not find: control, byte and added tokens. */
void gm_tokenizer_add_hidden(gm_tokenizer *t, const char *key, size_t size, gm_token_type type);
void gm_tokenizer_add_specials(gm_tokenizer *t); /* <unk> and <bos>, with which chars and words begin */
gm_status gm_tokenizer_finish(gm_tokenizer **out, gm_tokenizer *t, gm_error *err);
/* Texts begin with this id instead, which need not be one of the vocabulary: an export's zero token (lib/convert). */
void gm_tokenizer_set_bos(gm_tokenizer *t, int32_t id);
const char *gm_tokenizer_key(const gm_tokenizer *t, int32_t id, size_t *size);
int32_t gm_tokenizer_find(const gm_tokenizer *t, const char *key, size_t size); /* -1: no such key */

gm_status gm_tokenizer_bytes(gm_tokenizer **out, gm_error *err); /* kind bytes */
/* Byte-level BPE of a text with `vocab` tokens (bpe_train.c). */
gm_status gm_bpe_train(gm_tokenizer **out, const char *text, size_t size, int64_t vocab, gm_error *err);

/* ---- between data/'s files */

typedef struct gm_ids {
    int32_t *data; /* malloc */
    int64_t count, capacity;
} gm_ids;
bool gm_ids_push(gm_ids *ids, int32_t id); /* false: no memory */

/* One thread's encoding of many texts: keeps buffers, and the ids of words that it has seen (encoder.c). */
typedef struct gm_encoder gm_encoder;
gm_status gm_encoder_create(gm_encoder **out, const gm_tokenizer *t, gm_error *err);
void gm_encoder_free(gm_encoder *e);
/* Encode and append. begins: the text's own beginning, where some kinds put a token. Errors: GM_EFORMAT (not UTF-8: offset), GM_ENOMEM. */
gm_status gm_encoder_append(gm_encoder *e, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err);
/* The same for one text. */
gm_status gm_tokenizer_append(const gm_tokenizer *t, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err);
/* The first place at or after `at` where a text may be cut so that the parts' tokens are the whole's (of patterns that look across every
 * space: where a line ends, and then a corpus is encoded line by line). */
size_t gm_tokenizer_cut(const gm_tokenizer *t, const char *text, size_t size, size_t at);
/* The file of a folder that is its tokenizer; NULL: none. */
const char *gm_tokenizer_in(const char *folder);
/* tokenizer.json's text, both ways. */
gm_status gm_tokenizer_format(const gm_tokenizer *t, gm_text *json, gm_error *err);
gm_status gm_tokenizer_parse(gm_tokenizer **out, const char *json, size_t size, gm_error *err);

/* ---- the vocabulary as other formats hold it (vocabulary.c) */

typedef struct gm_vocabulary_token {
    const char *text; /* as files write it: U+2581 for a space, byte-level characters for bytes; not ended by NUL */
    size_t size;
    float score;
    gm_token_type type;
} gm_vocabulary_token;

typedef struct gm_vocabulary {
    const char
        *model;      /* as tokenizer.ggml.model: "llama" (SentencePiece BPE), "gpt2" (byte-level BPE), "bert" (WordPiece), "t5" (unigram) */
    const char *pre; /* gpt2: the name of its split pattern, "gpt-2", "llama-bpe", "qwen2" ...; else "default" */
    gm_vocabulary_token *tokens; /* in id order */
    int64_t count;
    gm_vocabulary_token *merges; /* gpt2: "left right" each (only text and size), in order */
    int64_t merge_count;
    int32_t bos, eos, unk; /* -1: none */
    bool add_bos, add_eos; /* does a text begin with BOS, end with EOS? */
    bool add_space_prefix; /* llama, t5: one more space before a text */
    bool remove_extra_spaces;
    const void *charsmap; /* llama, t5: the precompiled normaliser */
    size_t charsmap_size;
    /* false: a stock runtime prints these tokens, but cuts a text into others (words: it knows no such rule). Ids must be passed to it. */
    bool exact;
    bool whole;   /* the tokenizer made of this is the same one, for every text */
    gm_text pool; /* what texts point into; empty when they point elsewhere */
} gm_vocabulary;

/* Any tokenizer's. *out's texts live until gm_vocabulary_free. Errors: GM_ENOMEM. */
gm_status gm_tokenizer_vocabulary(const gm_tokenizer *t, gm_vocabulary *out, gm_error *err);
/* The tokenizer of a vocabulary: "llama" and "t5" become kind sentencepiece, "gpt2" bpe, "bert" wordpiece. The texts are copied. Errors:
 * GM_EFORMAT (which token, what is wrong), GM_EUNSUPPORTED (model or pre unknown). */
gm_status gm_tokenizer_from_vocabulary(gm_tokenizer **out, const gm_vocabulary *v, gm_error *err);
void gm_vocabulary_free(gm_vocabulary *v);

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
/* tokenizer.bin, byte for byte as llama2.c's exporter writes it. Errors: GM_EUNSUPPORTED (a vocabulary that its program does not read),
 * GM_EIO. Test: tests/data/test_llama2c_tokens.c (written_as_the_exporter) */
gm_status gm_llama2c_tokens_write(const gm_vocabulary *v, const char *path, gm_error *err);

#endif
