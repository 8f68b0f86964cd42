/* dtype.h -- numbers as files keep them (gm_dtype in ghostmax_model.h), to and from f32. Little-endian; bytes need no alignment.
 *
 *   f16, bf16  IEEE half and the upper half of f32, rounded to nearest, ties to even
 *   q8_0       blocks of 32: an f16 scale d = max|x| / 127, then 32 int8 round(x / d), ties away from zero (as ggml writes it) */
#ifndef GM_DTYPE_H
#define GM_DTYPE_H

#include "base.h"
#include "ghostmax_model.h"

/* Elements that stand together: 1, or a block's 32. */
int64_t gm_dtype_block(gm_dtype type);
/* Bytes of n elements, n a multiple of the block. */
size_t gm_dtype_bytes(gm_dtype type, int64_t n);

/* n elements, a multiple of the block. */
void gm_dtype_decode(gm_dtype type, float *dst, const void *src, int64_t n);
/* false: a number that the type cannot hold: too large for it, or in q8_0 one that is not finite. Test: tests/io/test_gguf.c */
bool gm_dtype_encode(gm_dtype type, void *dst, const float *src, int64_t n);

#endif
