/* linear.c -- y = x W^T + b.
 * Backward: dx = dy W, dW += dy^T x, db += sum of dy's rows. */
#include "context.h"
#include "gemm.h"
#include "ops.h"
#include "parallel.h"

#include <string.h>

/* One row, as in decoding: every weight is read once, so that memory sets the pace, and a plain pass over them in order reaches it; a
 * library's product of one row gets half of it on some processors. */
static void one_row(const gm_ctx *ctx, float *y, const float *x, const float *w, const float *b, int64_t IN, int64_t OUT) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (IN * OUT >= 4 * GM_PARALLEL_MIN)
    for (int64_t j = 0; j < OUT; j++)
        y[j] = ctx->k->f32_dot(w + j * IN, x, IN) + (b ? b[j] : 0);
}

void gm_linear_fwd(const gm_ctx *ctx, float *y, int64_t ys, const float *x, int64_t xs, const float *w, const float *b, int64_t R,
                   int64_t IN, int64_t OUT) {
    if (R == 1) {
        one_row(ctx, y, x, w, b, IN, OUT);
        return;
    }
    if (b) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * OUT >= GM_PARALLEL_MIN)
        for (int64_t r = 0; r < R; r++)
            memcpy(y + r * ys, b, (size_t)OUT * sizeof *y);
    }
    gm_gemm(ctx, false, true, R, OUT, IN, 1.0f, x, xs, w, IN, b ? 1.0f : 0.0f, y, ys);
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
