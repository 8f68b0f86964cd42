/* embedding.c -- token and position rows, summed.
 * Backward: a token's row receives dx from everywhere the token stands. Threads own columns, so that rows are added in order. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <string.h>

void gm_embedding_fwd(const gm_ctx *ctx, float *x, const int32_t *tokens, const float *wte, const float *wpe, int64_t B, int64_t T,
                      int64_t C, int64_t offset) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (B * T * C >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < B * T; r++) {
        const float *token = wte + tokens[r] * C;
        if (wpe)
            ctx->k->f32_add(x + r * C, token, wpe + (r % T + offset) * C, C);
        else
            memcpy(x + r * C, token, (size_t)C * sizeof *x);
    }
}

void gm_embedding_bwd(const gm_ctx *ctx, float *dwte, float *dwpe, const float *dx, const int32_t *tokens, int64_t B, int64_t T, int64_t C,
                      int64_t offset) {
#pragma omp parallel num_threads(ctx->threads) if (B * T * C >= GM_PARALLEL_MIN)
    {
        gm_range mine = gm_range_mine(C);
        for (int64_t r = 0; r < B * T; r++) {
            const float *from = dx + r * C + mine.begin;
            float *token = dwte + tokens[r] * C + mine.begin;
            ctx->k->f32_add(token, token, from, mine.size);
            if (dwpe) {
                float *position = dwpe + (r % T + offset) * C + mine.begin;
                ctx->k->f32_add(position, position, from, mine.size);
            }
        }
    }
}
