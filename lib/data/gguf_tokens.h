/* gguf_tokens.h -- the tokenizer inside a GGUF file. */
#ifndef GM_GGUF_TOKENS_H
#define GM_GGUF_TOKENS_H

#include "gguf.h"
#include "tokenizer.h"

/* The file's tokenizer. Errors: GM_EFORMAT (none in it, damaged), GM_EUNSUPPORTED (a model or split pattern that is not known).
 * Test: tests/data/test_vocabulary.c */
gm_status gm_gguf_tokens_read(gm_tokenizer **out, const gm_gguf *g, gm_error *err);
/* The same from a file's bytes; `name` stands for the file in messages. */
gm_status gm_gguf_tokens_parse(gm_tokenizer **out, const void *bytes, size_t size, const char *name, gm_error *err);
/* The tokenizer itself, which gm_gguf_tokens_read then returns: for one whose vocabulary does not say all of it (not `whole`).
 * Test: tests/cli/cli_convert.py (words in GGUF) */
gm_status gm_gguf_tokens_put_own(gm_gguf_writer *w, const gm_tokenizer *t, gm_error *err);
/* The keys tokenizer.ggml.* of a vocabulary (gm_tokenizer_vocabulary; a caller may have added tokens to it). */
gm_status gm_gguf_tokens_put(gm_gguf_writer *w, const gm_vocabulary *v, gm_error *err);

#endif
