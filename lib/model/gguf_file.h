/* gguf_file.h -- a model as GGUF: metadata and tensors in llama.cpp's names. Tensors and keys: docs/formats.md. */
#ifndef GM_GGUF_FILE_H
#define GM_GGUF_FILE_H

#include "gguf.h"
#include "ghostmax_model.h"

/* gm_gguf_model_put -- add a model's metadata (general.architecture, general.file_type, {architecture}.context_length ...) and tensors; the
 * tokenizer's keys, a name and the like are the caller's to add. The architecture is a stock one ("llama", "gpt2" ...) only where that
 * architecture computes exactly this model with plain softmax; else it is ghostmax_<family>, which stock runtimes refuse, with the whole
 * configuration under "ghostmax.config". Matrices in `dtype` (q8_0: f16 where rows are not multiples of 32), vectors and position tables in
 * f32, as llama.cpp's converter does. m must live, unchanged, until the writer's commit, which reports numbers that dtype cannot hold.
 * Errors: GM_ENOMEM, GM_EINVAL (a stock architecture's f32 key that cannot hold its number). Test: tests/model/test_gguf_file.c */
gm_status gm_gguf_model_put(gm_gguf_writer *w, const gm_model *m, gm_dtype dtype, gm_error *err);
/* What gm_gguf_model_put will call it: "llama", "ghostmax_gpt2" ... */
const char *gm_gguf_architecture(const gm_model_config *cfg);

/* The checked configuration of a model in a file. Errors: GM_EFORMAT (a key missing, of a wrong type or out of range: offset),
 * GM_EUNSUPPORTED (another architecture, or a key that changes the mathematics in a way that this library has not). */
gm_status gm_gguf_config_read(gm_model_config *cfg, const gm_gguf *g, gm_error *err);
/* The model itself. Errors: those, GM_EFORMAT (tensors that are not this model's: missing, of another shape, too many), GM_EUNSUPPORTED (a
 * type other than F32, F16, BF16 and Q8_0), GM_ENOMEM. */
gm_status gm_gguf_model_load(gm_model **out, const gm_ctx *ctx, const gm_file *file, gm_error *err);

#endif
