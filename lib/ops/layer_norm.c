/* layer_norm.c -- layer norm and RMS norm over rows of C.
 *
 * The gains' gradients are sums over all rows. Rows are cut into a fixed number of blocks, each block adds into its own partial sums, and
 * the partials are added in order: the same bits for any thread count. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <string.h>

enum { BLOCKS = GM_NORM_BLOCKS };

static void norm_row(const gm_ctx *ctx, float *y, float *mean, float *rstd, const float *x, const float *g, const float *b, int64_t C,
                     float eps, bool rms) {
    float stat[2];
    ctx->k->f32_layernorm_row_fwd(y, stat, x, g, b, C, eps, rms);
    if (mean)
        *mean = stat[0];
    *rstd = stat[1];
}

void gm_norm_fwd(const gm_ctx *ctx, float *y, float *mean, float *rstd, const float *x, const float *g, const float *b, int64_t R,
                 int64_t C, float eps, bool rms) {
    if (R == 1) {
        norm_row(ctx, y, mean, rstd, x, g, b, C, eps, rms);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * C >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++)
        norm_row(ctx, y + r * C, mean ? mean + r : NULL, rstd + r, x + r * C, g, b, C, eps, rms);
}

int64_t gm_norm_bwd_scratch(const gm_ctx *ctx, int64_t C) {
    (void)ctx;
    return BLOCKS * 2 * C;
}

void gm_norm_bwd(const gm_ctx *ctx, float *dx, float *dg, float *db, const float *dy, const float *x, const float *g, const float *mean,
                 const float *rstd, int64_t R, int64_t C, bool rms, float *scratch) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * C >= GM_PARALLEL_MIN)
    for (int64_t block = 0; block < BLOCKS; block++) {
        float *part_g = scratch + block * 2 * C, *part_b = part_g + C;
        memset(part_g, 0, (size_t)(2 * C) * sizeof *part_g);
        for (int64_t r = R * block / BLOCKS; r < R * (block + 1) / BLOCKS; r++)
            ctx->k->f32_layernorm_row_bwd(dx + r * C, part_g, part_b, dy + r * C, x + r * C, g, C, rms ? 0.0f : mean[r], rstd[r], rms);
    }
    ctx->k->f32_column_sum(dg, scratch, 2 * C, BLOCKS, C);
    if (!rms)
        ctx->k->f32_column_sum(db, scratch + C, 2 * C, BLOCKS, C);
}
