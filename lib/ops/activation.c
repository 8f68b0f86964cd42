/* activation.c -- the FFN's nonlinearities; formulas and accuracy stand at the kernels. */
#include "context.h"
#include "ghostmax_model.h"
#include "ops.h"
#include "parallel.h"

gm_act_fn *gm_act_kernel(const gm_ctx *ctx, int act) {
    return act == GM_ACT_GELU_TANH ? ctx->k->f32_gelu_tanh_fwd : act == GM_ACT_GELU_ERF ? ctx->k->f32_gelu_erf_fwd : ctx->k->f32_relu_fwd;
}

void gm_act_fwd(const gm_ctx *ctx, float *y, const float *h, int64_t n, int act) {
    gm_act_fn *f = gm_act_kernel(ctx, act);
#pragma omp parallel num_threads(ctx->threads) if (n >= GM_PARALLEL_MIN)
    {
        gm_range mine = gm_range_mine(n);
        f(y + mine.begin, h + mine.begin, mine.size);
    }
}

void gm_act_bwd(const gm_ctx *ctx, float *dh, const float *dy, const float *h, int64_t n, int act) {
    void (*f)(float *, const float *, const float *, int64_t) = act == GM_ACT_GELU_TANH  ? ctx->k->f32_gelu_tanh_bwd
                                                                : act == GM_ACT_GELU_ERF ? ctx->k->f32_gelu_erf_bwd
                                                                                         : ctx->k->f32_relu_bwd;
#pragma omp parallel num_threads(ctx->threads) if (n >= GM_PARALLEL_MIN)
    {
        gm_range mine = gm_range_mine(n);
        f(dh + mine.begin, dy + mine.begin, h + mine.begin, mine.size);
    }
}

void gm_swiglu_fwd(const gm_ctx *ctx, float *y, const float *h, int64_t R, int64_t F) {
    if (R == 1) {
        ctx->k->f32_swiglu_fwd(y, h, h + F, F);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * F >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++)
        ctx->k->f32_swiglu_fwd(y + r * F, h + r * 2 * F, h + r * 2 * F + F, F);
}

void gm_swiglu_bwd(const gm_ctx *ctx, float *dh, const float *dy, const float *h, int64_t R, int64_t F) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * F >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++) {
        const float *gate = h + r * 2 * F;
        ctx->k->f32_swiglu_bwd(dh + r * 2 * F, dh + r * 2 * F + F, dy + r * F, gate, gate + F, F);
    }
}
