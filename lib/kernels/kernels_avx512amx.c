/* kernels_avx512amx.c -- the kernel table for AVX-512 with VNNI and AMX's integer tiles: the bodies, compiled with this file's own flags.
 * Empty for other processors. */
#include "kernels.h"

#if defined(__AMX_INT8__) || defined(__AMXINT8__) /* gcc, clang */

#include "simd.h"

#include "attention_body.inc"
#include "int8_body.inc"
#include "limits_body.inc"
#include "rows_body.inc"

#define GM_KERNEL(type, name, params) .name = name,
const gm_kernels gm_kernels_avx512amx = {
    .isa = "avx512amx",
#include "kernels.def"
};

#endif
