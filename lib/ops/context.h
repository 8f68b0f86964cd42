/* context.h -- the inside of gm_ctx: which kernel table, how many threads, which matrix product. Immutable after creation. */
#ifndef GM_CONTEXT_H
#define GM_CONTEXT_H

#include "base.h"
#include "kernels.h"

struct gm_ctx {
    const gm_kernels *k;
    int threads;     /* every `#pragma omp parallel` says num_threads(ctx->threads) */
    bool plain_gemm; /* our own matrix product instead of the provider built in */
    gm_dist *dist;   /* for train, measure and the lab; operations do not look at it */
};

static inline gm_grid_f32 gm_grid_f32_of(gm_quant_grid g) {
    return (gm_grid_f32){g.scale, (float)g.zero, (float)g.qmin, (float)g.qmax};
}

#endif
