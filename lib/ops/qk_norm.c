/* qk_norm.c -- an RMS norm over each head of q and k before they meet (Henry et al. 2020; as in Qwen3): one gain for all query heads, one
 * for all key heads. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <string.h>

enum { D_MAX = 256, BLOCKS = GM_NORM_BLOCKS };

void gm_qk_norm_fwd(const gm_ctx *ctx, float *qk, float *saved, float *rstd, const float *gq, const float *gk, const gm_qk_shape *shape,
                    float eps) {
    const int64_t D = shape->D, heads = shape->H + shape->KV;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (shape->R * heads * D >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < shape->R; r++) {
        float *row = qk + r * shape->stride, *kept = saved + r * heads * D, stat[2];
        memcpy(kept, row, (size_t)(heads * D) * sizeof *row);
        for (int64_t h = 0; h < heads; h++) {
            ctx->k->f32_layernorm_row_fwd(row + h * D, stat, kept + h * D, h < shape->H ? gq : gk, NULL, D, eps, true);
            rstd[r * heads + h] = stat[1];
        }
    }
}

void gm_qk_norm_bwd(const gm_ctx *ctx, float *dqk, float *dgq, float *dgk, const float *saved, const float *rstd, const float *gq,
                    const float *gk, const gm_qk_shape *shape, float *scratch) {
    const int64_t R = shape->R, D = shape->D, heads = shape->H + shape->KV;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * heads * D >= GM_PARALLEL_MIN)
    for (int64_t block = 0; block < BLOCKS; block++) {
        float *part = scratch + block * 2 * D; /* of gq, then of gk */
        memset(part, 0, (size_t)(2 * D) * sizeof *part);
        for (int64_t r = R * block / BLOCKS; r < R * (block + 1) / BLOCKS; r++) {
            for (int64_t h = 0; h < heads; h++) {
                bool query = h < shape->H;
                float *dx = dqk + r * shape->stride + h * D, dy[D_MAX];
                memcpy(dy, dx, (size_t)D * sizeof *dy);
                memset(dx, 0, (size_t)D * sizeof *dx);
                ctx->k->f32_layernorm_row_bwd(dx, query ? part : part + D, NULL, dy, saved + (r * heads + h) * D, query ? gq : gk, D, 0,
                                              rstd[r * heads + h], true);
            }
        }
    }
    ctx->k->f32_column_sum(dgq, scratch, 2 * D, BLOCKS, D);
    ctx->k->f32_column_sum(dgk, scratch + D, 2 * D, BLOCKS, D);
}
