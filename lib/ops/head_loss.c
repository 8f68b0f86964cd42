/* head_loss.c -- LM head, softmax and cross-entropy together, a block of tokens at a time, so that R x V logits never exist.
 *
 * Per block: logits = x W^T; each row becomes its gradient in place; dx = logits W; dW += logits^T x. The block is as large as keeps the
 * logits in cache for small vocabularies, and at least MIN_ROWS for large ones, because every block reads and writes all of dW. */
#include "context.h"
#include "gemm.h"
#include "ops.h"
#include "parallel.h"

#include <string.h>

enum { MIN_ROWS = 256, MAX_ROWS = 1024, CACHE_FLOATS = 1 << 18 };

static int64_t block_rows(int64_t V) {
    return GM_MAX(MIN_ROWS, GM_MIN(MAX_ROWS, CACHE_FLOATS / V));
}

int64_t gm_head_scratch(const gm_ctx *ctx, int64_t V) {
    (void)ctx;
    return block_rows(V) * V;
}

/* Each row of logits to its loss, and (grad) to its gradient in place. */
static void rows_loss(const gm_ctx *ctx, float *losses, float *logits, const int32_t *targets, bool grad, float scale, int64_t rows,
                      int64_t V) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (rows * V >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r++) {
        float *row = logits + r * V;
        if (targets[r] >= 0) {
            losses[r] = ctx->k->f32_cross_entropy_row(grad ? row : NULL, row, V, targets[r], scale);
        } else {
            losses[r] = 0;
            memset(row, 0, (size_t)V * sizeof *row);
        }
    }
}

void gm_logits_loss(const gm_ctx *ctx, float *losses, float *logits, const int32_t *targets, int64_t rows, int64_t V) {
    rows_loss(ctx, losses, logits, targets, false, 1.0f, rows, V);
}

void gm_head_loss(const gm_ctx *ctx, float *losses, float *dx, float *dw, const float *x, const float *w, const int32_t *targets,
                  float scale, int64_t R, int64_t C, int64_t V, float *scratch) {
    for (int64_t r0 = 0; r0 < R; r0 += block_rows(V)) {
        int64_t rows = GM_MIN(block_rows(V), R - r0);
        gm_gemm(ctx, false, true, rows, V, C, 1.0f, x + r0 * C, C, w, C, 0.0f, scratch, V);
        rows_loss(ctx, losses + r0, scratch, targets + r0, dx != NULL, scale, rows, V);
        if (dx) {
            gm_gemm(ctx, false, false, rows, C, V, 1.0f, scratch, V, w, C, 0.0f, dx + r0 * C, C);
            gm_gemm(ctx, true, false, V, C, rows, 1.0f, scratch, V, x + r0 * C, C, 1.0f, dw, C);
        }
    }
}
