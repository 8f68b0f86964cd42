/* adamw.c -- the optimizer's step and the norm that clipping needs. AdamW: Loshchilov & Hutter 2019, Algorithm 2. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <math.h>

void gm_adamw(const gm_ctx *ctx, float *p, const float *g, float *m, float *v, int64_t n, float grad_scale, double lr, double beta1,
              double beta2, double eps, double decay, int64_t t) {
    const float rate = (float)(lr / (1 - pow(beta1, (double)t))), root = (float)(1 / sqrt(1 - pow(beta2, (double)t)));
#pragma omp parallel num_threads(ctx->threads) if (n >= GM_PARALLEL_MIN)
    {
        gm_range mine = gm_range_mine(n);
        int64_t i = mine.begin;
        ctx->k->f32_adamw(p + i, g + i, m + i, v + i, mine.size, grad_scale, (float)(1 - beta1), (float)(1 - beta2), rate, root, (float)eps,
                          (float)(lr * decay));
    }
}

double gm_sum_squares(const gm_ctx *ctx, const float *x, int64_t n) {
    enum { PARTS = 64 }; /* fixed, so that the sum's order is */
    double part[PARTS];
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (n >= GM_PARALLEL_MIN)
    for (int i = 0; i < PARTS; i++) {
        gm_range range = gm_range_part(n, i, PARTS);
        part[i] = ctx->k->f32_sum_squares(x + range.begin, range.size);
    }
    double sum = 0;
    for (int i = 0; i < PARTS; i++)
        sum += part[i];
    return sum;
}
