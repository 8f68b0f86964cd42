/* rope.c -- rotary positions (Su et al. 2021) in Hugging Face's layout: element d is paired with d + D/2, angle = position * f_d. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <math.h>

void gm_rope_table(const gm_ctx *ctx, float *cos_sin, int64_t positions, int64_t D, const double *f) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (positions * D >= GM_PARALLEL_MIN)
    for (int64_t t = 0; t < positions; t++) {
        for (int64_t d = 0; d < D / 2; d++) {
            double angle = (double)t * f[d];
            cos_sin[t * D + d] = (float)cos(angle);
            cos_sin[t * D + D / 2 + d] = (float)sin(angle);
        }
    }
}

static void turn_row(const gm_kernels *k, float *x, const float *cos_sin, int64_t heads, int64_t D, bool inverse) {
    for (int64_t h = 0; h < heads; h++)
        k->f32_rope_row(x + h * D, cos_sin, D / 2, inverse ? -1.0f : 1.0f);
}

void gm_rope_apply(const gm_ctx *ctx, float *x, int64_t xs, const float *cos_sin, int64_t B, int64_t T, int64_t first, int64_t heads,
                   int64_t D, bool inverse) {
    if (B * T == 1) {
        turn_row(ctx->k, x, cos_sin + first * D, heads, D, inverse);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (B * T * heads * D >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < B * T; r++)
        turn_row(ctx->k, x + r * xs, cos_sin + (first + r % T) * D, heads, D, inverse);
}
