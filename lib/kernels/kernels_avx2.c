/* kernels_avx2.c -- the kernel table for AVX2: the bodies, compiled with this file's own flags. Empty for other processors. */
#include "kernels.h"

#if defined(__AVX2__)

#include "simd.h"

#include "attention_body.inc"
#include "int8_body.inc"
#include "limits_body.inc"
#include "rows_body.inc"

#define GM_KERNEL(type, name, params) .name = name,
const gm_kernels gm_kernels_avx2 = {
    .isa = "avx2",
#include "kernels.def"
};

#endif
