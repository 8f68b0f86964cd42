/* kernels_avx512.c -- the kernel table for AVX-512: the bodies, compiled with this file's own flags. Empty for other processors. */
#include "kernels.h"

#if defined(__AVX512F__)

#include "simd.h"

#include "attention_body.inc"
#include "int8_body.inc"
#include "limits_body.inc"
#include "rows_body.inc"

#define GM_KERNEL(type, name, params) .name = name,
const gm_kernels gm_kernels_avx512 = {
    .isa = "avx512",
#include "kernels.def"
};

#endif
