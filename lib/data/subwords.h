/* subwords.h -- tokenizers whose tokens are parts of words: what they have in common, and how a text goes through them.
 *
 *   text -> added tokens taken out -> rewritten -> (added tokens of rewritten text taken out) -> cut into pieces -> model -> ids
 *
 * Rewriting (normalisers) and cutting (pre-tokenizers) are lists of steps, the model is one of three; the readers (tokenizer_json.c,
 * bpe_files.c, sentencepiece.c, vocabulary.c ...) only fill this struct. Keys of byte-level vocabularies are the bytes that they stand for;
 * keys of SentencePiece have a space where its files write U+2581. */
#ifndef GM_SUBWORDS_H
#define GM_SUBWORDS_H

#include "tokenizer.h"

/* ---- byte tries (trie.c): the longest of many strings that a text goes on with */

typedef struct gm_trie {
    struct gm_trie_edge *edges; /* open addressing by (node, byte) */
    int32_t *values;            /* [nodes]; -1: no string ends here */
    uint32_t edge_mask, edge_count, nodes, capacity;
    bool failed;      /* no memory */
    uint8_t any[256]; /* 1: some string begins with this byte */
} gm_trie;
void gm_trie_add(gm_trie *t, const char *key, size_t size, int32_t value);                /* the last value of a key counts */
uint32_t gm_trie_step(const gm_trie *t, uint32_t node, uint8_t byte);                     /* from node 0; 0: nothing goes on */
int32_t gm_trie_longest(const gm_trie *t, const char *text, size_t size, size_t *length); /* -1: none */
void gm_trie_free(gm_trie *t);

/* ---- characters (unicode.c), as the Rust and Oniguruma tables that the reference libraries use have them */

enum { GM_CHAR_LETTER = 1, GM_CHAR_NUMBER = 2, GM_CHAR_SPACE = 4, GM_CHAR_PUNCTUATION = 8, GM_CHAR_MARK = 16, GM_CHAR_WORD = 32 };
unsigned gm_char_class(int32_t c);
/* False: a character newer than the tables by which Hugging Face's library finds punctuation, marks and control characters for Bert, or
 * composes and orders marks for NFC and its like. It is left alone there, and so here. */
bool gm_char_has_category(int32_t c);
bool gm_char_has_order(int32_t c);
bool gm_char_is_mark(int32_t c);
int32_t gm_char_lower(int32_t c); /* U+0130, whose lower case is two characters, apart */
/* The character at text[0], its bytes in *n; a byte that begins none: -1 and 1. size >= 1. */
int32_t gm_char_at(const char *text, size_t size, int *n);
/* The first byte that is not UTF-8; size: none. */
size_t gm_utf8_fault(const char *text, size_t size);

/* Byte-level vocabularies write every byte as a visible character. gm_byte_char writes byte b's to dst (two bytes at most) and returns its
 * size; gm_byte_text turns a key back into bytes, at most `size`, and returns how many; -1: a character of it stands for no byte. */
int gm_byte_char(char *dst, uint8_t b);
int64_t gm_byte_text(char *bytes, const char *key, size_t size);

/* ---- rewriting (rewrite.c) */

typedef enum gm_rewrite_kind {
    GM_REWRITE_NFC,
    GM_REWRITE_NFD,
    GM_REWRITE_NFKC,
    GM_REWRITE_NFKD,
    GM_REWRITE_LOWER,
    GM_REWRITE_DROP_MARKS,      /* every mark */
    GM_REWRITE_DROP_NONSPACING, /* nonspacing marks */
    GM_REWRITE_CLEAN,           /* Bert: control characters out, white space to spaces */
    GM_REWRITE_SPACE_CJK,       /* Bert: spaces around Chinese characters */
    GM_REWRITE_PREPEND,         /* text, before anything not empty */
    GM_REWRITE_REPLACE,         /* text by with */
    GM_REWRITE_STRIP,           /* white space at the ends: left, right */
    GM_REWRITE_SENTENCEPIECE,   /* its own rules: gm_charsmap and the flags below */
} gm_rewrite_kind;

typedef struct gm_charsmap { /* SentencePiece's precompiled map: a double array of prefixes, then their replacements */
    uint8_t *blob;           /* owned; NULL: identity */
    size_t size, units;      /* bytes; of the double array */
} gm_charsmap;
/* Checks a precompiled map; the bytes are copied. An empty one is the identity. */
gm_status gm_charsmap_make(gm_charsmap *map, const void *bytes, size_t size, gm_error *err);

typedef struct gm_rewrite {
    gm_rewrite_kind kind;
    char *text, *with; /* owned */
    bool left, right;  /* STRIP */
    /* SENTENCEPIECE */
    gm_charsmap map;
    bool dummy_prefix, remove_spaces;
    const gm_trie *verbatim; /* user-defined tokens: not rewritten */
} gm_rewrite;
/* out += the rewritten text. begins: the text's own beginning, where a prefix may go. text is UTF-8. No memory: out->failed. */
void gm_rewrite_apply(const gm_rewrite *r, const char *text, size_t size, bool begins, gm_text *out);
/* May a text be cut before a space after a visible ASCII character, and the parts be rewritten alone? */
bool gm_rewrite_is_local(const gm_rewrite *r);
void gm_rewrite_free(gm_rewrite *r);

/* ---- cutting (pre_tokenize.c) */

typedef enum gm_match_kind { /* what a step looks for; the patterns match every character */
                             GM_MATCH_NONE,
                             GM_MATCH_GPT2,
                             GM_MATCH_LLAMA3,
                             GM_MATCH_QWEN2,
                             GM_MATCH_WORDS, /* \w+|[^\w\s]+ */
                             GM_MATCH_SPACE,
                             GM_MATCH_PUNCTUATION,
                             GM_MATCH_NUMBER,
                             GM_MATCH_TEXT,
                             GM_MATCH_REGEX,
                             GM_MATCH_SPACES_APART, /* words with the spaces before them: cut before a space after another character */
} gm_match_kind;
typedef enum gm_match_use { GM_USE_ISOLATED, GM_USE_REMOVED, GM_USE_CONTIGUOUS, GM_USE_WITH_PREVIOUS, GM_USE_WITH_NEXT } gm_match_use;
typedef enum gm_cut_prefix { GM_PREFIX_NEVER, GM_PREFIX_FIRST, GM_PREFIX_ALWAYS } gm_cut_prefix;

typedef struct gm_cut {
    gm_match_kind match;
    gm_match_use use;
    bool invert;
    char *text; /* owned: TEXT, REGEX, and Metaspace's replacement */
    struct gm_regex *regex;
    bool metaspace;       /* spaces become `text` first */
    gm_cut_prefix prefix; /* metaspace: text; else a space, before a piece that has none */
    bool lines_apart;     /* SPACES_APART: cut after a line's end too */
} gm_cut;
/* The next match at or after `at`; false: none. A regex that gives up (a bad_alloc of backtracking) sets *failed. */
bool gm_cut_match(const gm_cut *c, const char *text, size_t size, size_t at, size_t *from, size_t *to, bool *failed);
/* A pattern of tokenizer.json: a scanner where there is one, else a regular expression. Errors: GM_EFORMAT (no regular expression). */
gm_status gm_cut_pattern(gm_cut *c, const char *pattern, gm_error *err);
/* The pattern that a scanner stands for, and the pre-tokenizer's name in GGUF; NULL: not a scanner. */
const char *gm_match_pattern(gm_match_kind kind);
const char *gm_match_pre(gm_match_kind kind);
gm_match_kind gm_match_of_pre(const char *pre); /* GM_MATCH_NONE: unknown */
bool gm_pre_takes_whole(const char *pre);       /* whole_first, below, which runtimes take from the name: llama-bpe's */
bool gm_cut_at_spaces(const gm_cut *c);         /* never a piece across "visible character, space" */
void gm_cut_free(gm_cut *c);

/* ---- regular expressions (regex.c, PCRE2) */

gm_status gm_regex_make(struct gm_regex **out, const char *pattern, gm_error *err);
int gm_regex_find(const struct gm_regex *r, const char *text, size_t size, size_t at, size_t *from, size_t *to); /* 1, 0; -1: gave up */
void gm_regex_free(struct gm_regex *r);

/* ---- added tokens (added_tokens.c): taken out of the text whole */

typedef struct gm_added {
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
    char *text; /* owned */
} gm_added;

/* ---- the tokenizer */

typedef enum gm_subword_model { GM_MODEL_BPE, GM_MODEL_UNIGRAM, GM_MODEL_WORDPIECE } gm_subword_model;

typedef struct gm_pair { /* left + right = id; the lowest rank joins first, the leftmost of equals */
    uint32_t left, right, rank, id;
} gm_pair;

enum { GM_REWRITES_MAX = 16, GM_CUTS_MAX = 16 };

typedef struct gm_subwords {
    gm_subword_model model;
    gm_added *added;
    int32_t added_count;
    gm_trie raw_added, rewritten_added; /* values: indices into added */
    uint8_t added_ends[256];            /* 1: some added token ends with this byte */
    gm_rewrite rewrites[GM_REWRITES_MAX];
    gm_cut cuts[GM_CUTS_MAX];
    int rewrite_count, cut_count;
    bool byte_level; /* keys are bytes, and any bytes are a text */
    bool any_bytes;  /* llama2c: any bytes, though keys are characters */
    bool local;      /* gm_tokenizer_cut's places are exact; else texts are cut at lines */
    bool adds_bos, adds_eos;
    /* BPE */
    gm_pair *pairs; /* open addressing; rank UINT32_MAX: empty */
    uint32_t pair_mask;
    gm_pair *merges; /* in order, as they were given; NULL: made from scores */
    int64_t merge_count;
    bool whole_first; /* ignore_merges: a piece that is a key is that token */
    bool bytes_first; /* llama2c: an unknown character's bytes take part in joining */
    bool fuse_unknown;
    int32_t byte_ids[256];  /* byte-level: of every byte; else of byte fallback; -1: none */
    int32_t ascii_ids[128]; /* not byte-level: of characters, -1: none */
    bool byte_fallback;     /* every byte has an id */
    /* unigram */
    gm_trie pieces; /* WordPiece too: keys without ##, value id; inner: keys with it */
    gm_trie inner;
    double unknown_score, top_score;
    bool single; /* sums are floats, as SentencePiece's */
    /* WordPiece */
    int64_t word_max; /* characters */
    char *inner_prefix;
    /* tokens never cut, never joined (SentencePiece's user-defined): values are ids */
    gm_trie verbatim;
    gm_trie verbatim_raw; /* the same as texts write them, before rewriting */
    bool has_verbatim;
    /* printing */
    char *mark;       /* what keys write for a space; NULL: a space */
    bool strip_first; /* the first printed piece loses one leading space */
    char *json;       /* the tokenizer.json that it came from, as it was; NULL: written anew */
    size_t json_size;
} gm_subwords;

gm_subwords *gm_subwords_create(void); /* NULL: no memory */
void gm_subwords_free(gm_subwords *s);
/* What follows from the rest: tries, local, printed forms; *hash takes in what decides the ids. gm_tokenizer_finish calls it. */
gm_status gm_subwords_ready(gm_tokenizer *t, uint64_t *hash, gm_error *err);
/* A copy, ended by NUL, freed with free; NULL: no memory. */
char *gm_copy(const char *text, size_t size);
/* false: no memory, or `added` is full. */
bool gm_subwords_add(gm_subwords *s, gm_added added, const char *text, size_t size);
int32_t gm_subwords_added(const gm_subwords *s, const char *text); /* an added token's id, -1: none of that text */
/* BOS and EOS, where the file does not say: by the names that models use. */
void gm_subwords_guess_ends(gm_tokenizer *t);
/* As gm_tokenizer_piece, for kinds with subwords. */
const char *gm_subwords_piece(const gm_tokenizer *t, int32_t previous, int32_t id, size_t *size);

/* BPE (bpe_pairs.c). The next of s->merges, which has room for it: both's first n bytes and the k after them; < 1: could not be read. */
gm_status gm_merge_add(gm_tokenizer *t, const char *both, int64_t n, int64_t k, gm_error *err);
/* Of a byte-level vocabulary, after its merges: a list that was cut off reads well and cuts all texts otherwise. A few tokens that no merge
 * makes are usual (names without brackets); more than an eighth is GM_EFORMAT. Test: tests/cli/cli_tokenize.py */
gm_status gm_merges_check(const gm_tokenizer *t, gm_error *err);
/* From s->merges; of a pair that stands there twice the later counts, as in the reference. */
gm_status gm_pairs_from_merges(gm_subwords *s, gm_error *err);
/* Every way to make a key of two, ranked by its score, which must be above `least`; equal scores rank equal. Only gm_tokenizer_find's keys
 * take part. characters: those of keys that are no keys themselves get ids from t->vocab on, so that they can be joined too. */
gm_status gm_pairs_from_scores(gm_tokenizer *t, double least, bool characters, gm_error *err);
const gm_pair *gm_pairs_find(const gm_subwords *s, int32_t left, int32_t right); /* NULL: none */

/* What one thread needs to encode. */
typedef struct gm_symbol {
    int32_t id;             /* -1: joined with the one before */
    int32_t previous, next; /* -1: none */
    bool frozen;            /* joins with nothing */
} gm_symbol;
typedef struct gm_candidate { /* valid while left and the one after it still have these ids */
    uint32_t rank;
    int32_t left, left_id, right_id, id;
} gm_candidate;
typedef struct gm_joiner {
    gm_symbol *symbols;
    gm_candidate *heap;
    size_t capacity, count, waiting;
} gm_joiner;

/* One piece's ids (bpe.c, unigram.c, wordpiece.c). false: no memory. */
bool gm_bpe_encode(const gm_tokenizer *t, gm_joiner *j, const char *text, size_t size, gm_ids *ids);
bool gm_unigram_encode(const gm_tokenizer *t, gm_text *scratch, const char *text, size_t size, gm_ids *ids);
bool gm_wordpiece_encode(const gm_tokenizer *t, const char *text, size_t size, gm_ids *ids);

/* ---- readers and writers */

struct json_t; /* jansson's */

/* Hugging Face's tokenizer.json, already read: `json` is its text, kept for writing. */
gm_status gm_tokenizer_json_parse(gm_tokenizer **out, const struct json_t *root, const char *json, size_t size, gm_error *err);
gm_status gm_tokenizer_json_format(const gm_tokenizer *t, gm_text *json, gm_error *err);
/* encoder.json (or vocab.json) and vocab.bpe (merges.txt). */
gm_status gm_bpe_files_parse(gm_tokenizer **out, const char *vocab, size_t vocab_size, const char *merges, size_t merges_size,
                             gm_error *err);
/* WordPiece's tries, from the keys that gm_tokenizer_find finds. */
gm_status gm_wordpiece_fill(gm_tokenizer *t, const char *inner_prefix, int64_t word_max, gm_error *err);
/* A Bert tokenizer of these tokens, keys inside words beginning with ##; those of type CONTROL are added tokens. */
gm_status gm_wordpiece_make(gm_tokenizer **out, const gm_vocabulary_token *tokens, int64_t count, bool lower, gm_error *err);
/* Are its steps those of gm_wordpiece_make, cased or not? */
bool gm_wordpiece_is_bert(const gm_subwords *s);
bool gm_wordpiece_file_is(const char *text, size_t size);
gm_status gm_wordpiece_parse(gm_tokenizer **out, const char *text, size_t size, gm_error *err); /* Bert's vocab.txt */
bool gm_sentencepiece_is(const void *bytes, size_t size);
gm_status gm_sentencepiece_parse(gm_tokenizer **out, const void *bytes, size_t size, gm_error *err); /* tokenizer.model */

#endif
