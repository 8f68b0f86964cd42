/* attention_observed.c -- attention with its scores, weights and PV visible, for measuring and simulated quantization. Slow and plain:
 * one head at a time, whole T x T matrices; the same mathematics as attention.c. */
#include "context.h"
#include "gemm.h"
#include "ops.h"

#include <math.h>
#include <string.h>

void gm_attention_observed(const gm_ctx *ctx, float *o, const float *q, const float *k, const float *v, const float *sinks, gm_norm norm,
                           const gm_attention_shape *shape, const gm_attention_tap *tap, float *scratch) {
    const gm_attention_shape *a = shape;
    const int64_t T = a->T, D = a->D;
    const int64_t q_row = a->q_row ? a->q_row : a->H * D, kv_row = a->kv_row ? a->kv_row : a->KV * D,
                  o_row = a->o_row ? a->o_row : a->H * D;
    const int64_t q_batch = a->q_batch ? a->q_batch : T * q_row, kv_batch = a->kv_batch ? a->kv_batch : T * kv_row;
    const int64_t o_batch = a->o_batch ? a->o_batch : T * o_row;
    const float scale = a->scale != 0 ? a->scale : (float)(1 / sqrt((double)D));
    float *s = scratch, *w = s + T * T, *null_mass = w + T * T;
    for (int64_t bh = 0; bh < a->B * a->H; bh++) {
        const int64_t b = bh / a->H, h = bh % a->H, kv = b * kv_batch + h / (a->H / a->KV) * (a->kv_head ? a->kv_head : D);
        float *oh = o + b * o_batch + h * D;
        gm_gemm(ctx, false, true, T, T, D, scale, q + b * q_batch + h * D, q_row, k + kv, kv_row, 0, s, T);
        tap->fn(tap->user, 0, b, h, s, T, T, T, NULL);
        memset(w, 0, (size_t)(T * T) * sizeof *w);
#pragma omp parallel for num_threads(ctx->threads) if (T > 64)
        for (int64_t t = 0; t < T; t++) { /* the keys that t sees: low .. high - 1 */
            int64_t low = a->window && t >= a->window ? t - a->window + 1 : 0, high = a->causal ? t + 1 : T;
            ctx->k->f32_norm_row_fwd(w + t * T + low, null_mass + t, s + t * T + low, high - low, sinks ? sinks[h] : norm.sink, norm.clip_a,
                                     norm.clip_c);
        }
        tap->fn(tap->user, 1, b, h, w, T, T, T, null_mass);
        gm_gemm(ctx, false, false, T, D, T, 1, w, T, v + kv, kv_row, 0, oh, o_row);
        tap->fn(tap->user, 2, b, h, oh, T, D, o_row, NULL);
    }
}
