/* kernels_neondot.c -- the kernel table for NEON with its 8-bit dot products: the bodies, compiled with this file's own flags. Empty for
 * other processors. */
#include "kernels.h"

#if defined(__ARM_FEATURE_DOTPROD)

#include "simd.h"

#include "attention_body.inc"
#include "int8_body.inc"
#include "limits_body.inc"
#include "rows_body.inc"

#define GM_KERNEL(type, name, params) .name = name,
const gm_kernels gm_kernels_neondot = {
    .isa = "neondot",
#include "kernels.def"
};

#endif
