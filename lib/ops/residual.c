/* residual.c -- the residual sum, and dropout on what is about to be added. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

void gm_add(const gm_ctx *ctx, float *y, const float *x, const float *r, int64_t n) {
    if (n < GM_PARALLEL_MIN) {
        ctx->k->f32_add(y, x, r, n);
        return;
    }
#pragma omp parallel num_threads(ctx->threads)
    {
        gm_range mine = gm_range_mine(n);
        ctx->k->f32_add(y + mine.begin, x + mine.begin, r + mine.begin, mine.size);
    }
}

void gm_dropout(const gm_ctx *ctx, float *x, int64_t first, int64_t n, double p, uint64_t key) {
    const float keep = (float)(1 / (1 - p));
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (n >= GM_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        x[i] = gm_rng_uniform(key, (uint64_t)(first + i)) >= p ? x[i] * keep : 0;
}
