/* kernels.h -- the kernel table. One immutable instance per instruction set; a context points at one (context.h). */
#ifndef GM_KERNELS_H
#define GM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GM_INT8_M = 32, GM_INT8_N = 32 }; /* u8s8_gemm_tile's largest shape */
enum { GM_INT8_DEPTH = 1 << 16 };        /* the deepest sum: 65536 products of 255 x -128 still fit 32 bits */
enum { GM_LANES = 32 };                  /* queries of an attention tile, side by side: a multiple of every vector */
enum { GM_PEAK_LANES = 768 };            /* of f32_peak_fma and u8s8_peak_dot: enough independent sums for every pipeline */

/* A grid as the kernels apply it: all in float. */
typedef struct gm_grid_f32 {
    float scale, zero, qmin, qmax;
} gm_grid_f32;

typedef struct gm_kernels {
    const char *isa;
#define GM_KERNEL(type, name, params) type(*name) params;
#include "kernels.def"
#undef GM_KERNEL
} gm_kernels;

/* those of this processor's family exist */
extern const gm_kernels gm_kernels_ref, gm_kernels_avx2, gm_kernels_avx512, gm_kernels_avx512vnni, gm_kernels_avx512amx, gm_kernels_neon,
    gm_kernels_neondot;

/* The tables that this machine can run, slowest (ref) first; NULL past the end. CPUID and XGETBV decide. */
const gm_kernels *gm_kernels_at(int level);
/* Those of this processor family, whether this machine can run them or not. */
const gm_kernels *gm_kernels_built(int level);
/* isa: "ref", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot", or NULL for the best. It only lowers: asking for more than
 * the machine has gives the best it has. NULL when the word is not one of this processor family's. */
const gm_kernels *gm_kernels_select(const char *isa);

#endif
