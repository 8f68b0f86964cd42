/* llama2c_file.h -- llama2.c's checkpoints (`.bin`): one file of a header and weights: f32 (versions 0 and 1) or int8
 * (version 2). */
#ifndef GM_LLAMA2C_FILE_H
#define GM_LLAMA2C_FILE_H

#include "base.h"
#include "ghostmax_model.h"

/* By content: the magic number of versions 1 and up, or version 0's seven sizes where they can be a model's. */
bool gm_llama2c_is(const gm_file *file);
/* *out is the caller's. Errors: GM_EFORMAT (a size out of range, a file that is not exactly as long as its header says: offset),
 * GM_EUNSUPPORTED (a version or rotary table that this library has not), GM_ENOMEM. */
gm_status gm_llama2c_load(gm_model **out, const gm_ctx *ctx, const gm_file *file, gm_error *err);

/* What the header says, without a look at the weights; *cfg and the file's length are checked. Errors: as above. */
gm_status gm_llama2c_header(gm_model_config *cfg, int *version, const gm_file *file, gm_error *err);

/* Writes version 0 (what run.c reads) or 1, atomically, in f32. Errors: GM_EUNSUPPORTED (a model that the format cannot say, with the
 * reason), GM_EIO, GM_ENOMEM. Test: tests/model/test_llama2c_file.c */
gm_status gm_llama2c_save(const gm_model *m, int version, const char *path, gm_error *err);

#endif
