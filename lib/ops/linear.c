/* linear.c -- y = x W^T + b.
 * Backward: dx = dy W, dW += dy^T x, db += sum of dy's rows. */
#include "context.h"
#include "gemm.h"
#include "ops.h"
#include "parallel.h"

/* One row, as in decoding: every weight is read once, so that memory sets the pace, and a plain pass over them in order reaches it; a
 * library's product of one row gets half of it on some processors, and asking for weights ahead of the pass costs it up to a tenth. */
static void outputs(const gm_ctx *ctx, float *y, const float *x, const float *w, const float *b, int64_t IN, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j++)
        y[j] = ctx->k->f32_dot(w + j * IN, x, IN) + (b ? b[j] : 0);
}

static void one_row(const gm_ctx *ctx, float *y, const float *x, const float *w, const float *b, int64_t IN, int64_t OUT) {
    if (ctx->threads == 1 || IN * OUT < 4 * GM_PARALLEL_MIN) { /* even a region that its `if` keeps to one thread takes time */
        outputs(ctx, y, x, w, b, IN, 0, OUT);
        return;
    }
#pragma omp parallel num_threads(ctx->threads)
    {
        const int64_t i = omp_get_thread_num(), n = omp_get_num_threads();
        outputs(ctx, y, x, w, b, IN, OUT * i / n, OUT * (i + 1) / n);
    }
}

void gm_linear_fwd(const gm_ctx *ctx, float *y, int64_t ys, const float *x, int64_t xs, const float *w, const float *b, int64_t R,
                   int64_t IN, int64_t OUT) {
    if (R == 1)
        one_row(ctx, y, x, w, b, IN, OUT);
    else
        gm_gemm_then(ctx, false, true, R, OUT, IN, 1.0f, x, xs, w, IN, 0.0f, y, ys, &(gm_gemm_rest){.bias = b});
}

typedef struct activated {
    gm_act_fn *act;
    float *y;
    const float *h;
    int64_t stride;
} activated;

static void activate(const void *user, int64_t i, int64_t j, int64_t n) {
    const activated *a = user;
    a->act(a->y + i * a->stride + j, a->h + i * a->stride + j, n);
}

void gm_linear_act_fwd(const gm_ctx *ctx, float *y, float *h, const float *x, int64_t xs, const float *w, const float *b, int64_t R,
                       int64_t IN, int64_t OUT, int act) {
    const activated a = {gm_act_kernel(ctx, act), y, h, OUT};
    if (R == 1) {
        one_row(ctx, h, x, w, b, IN, OUT);
        a.act(y, h, OUT);
        return;
    }
    gm_gemm_then(ctx, false, true, R, OUT, IN, 1.0f, x, xs, w, IN, 0.0f, h, OUT, &(gm_gemm_rest){b, activate, &a});
}

void gm_linear_bwd(const gm_ctx *ctx, float *dx, int64_t dxs, bool dx_add, float *dw, float *db, const float *dy, int64_t dys,
                   const float *x, int64_t xs, const float *w, int64_t R, int64_t IN, int64_t OUT) {
    if (dx)
        gm_gemm(ctx, false, false, R, IN, OUT, 1.0f, dy, dys, w, IN, dx_add ? 1.0f : 0.0f, dx, dxs);
    gm_gemm(ctx, true, false, OUT, IN, R, 1.0f, dy, dys, x, xs, 1.0f, dw, IN);
    if (db) {
#pragma omp parallel num_threads(ctx->threads) if (R * OUT >= GM_PARALLEL_MIN)
        {
            gm_range mine = gm_range_mine(OUT);
            ctx->k->f32_column_sum(db + mine.begin, dy + mine.begin, dys, R, mine.size);
        }
    }
}
