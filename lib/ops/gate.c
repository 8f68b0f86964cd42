/* gate.c -- the output gate: g = sigmoid(G(x)) from the normalised block input, o *= g.
 * Per head from the head's own slice of x (linear, or an MLP of `hidden` ReLU units), per head from all of x, or per channel.
 * Backward: dlogit = (dgated . o) g (1 - g) per head, dgated o g (1 - g) per channel; dout = g dgated.
 * Source: Bondarenko et al. 2023, arXiv 2306.12929, section 4.2; per channel: Qiu et al. 2025. */
#include "context.h"
#include "ghostmax_model.h"
#include "ops.h"
#include "parallel.h"

static int64_t gate_width(const gm_gate_shape *s) {
    return s->kind == GM_GATE_CHANNEL ? s->H * s->D : s->H;
}

/* ---- forward */

/* y[r, h U + u] = w[h, u] . x[r, slice h] + b[h, u] */
static void slices_fwd(const gm_ctx *ctx, float *y, const float *x, const float *w, const float *b, const gm_gate_shape *s, int64_t U) {
    const int64_t slice = s->C / s->H;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (s->R * s->C >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < s->R; r++) {
        for (int64_t i = 0; i < s->H * U; i++)
            y[r * s->H * U + i] = ctx->k->f32_dot(w + i * slice, x + r * s->C + i / U * slice, slice) + b[i];
    }
}

static void sigmoid(const gm_ctx *ctx, float *g, int64_t n) {
#pragma omp parallel num_threads(ctx->threads) if (n >= GM_PARALLEL_MIN)
    {
        gm_range mine = gm_range_mine(n);
        ctx->k->f32_sigmoid(g + mine.begin, g + mine.begin, mine.size);
    }
}

void gm_gate_fwd(const gm_ctx *ctx, float *g, float *hidden, const float *x, const float *w1, const float *b1, const float *w2,
                 const float *b2, const gm_gate_shape *s) {
    const int64_t H = s->H, R = s->R, U = s->hidden;
    if (s->kind == GM_GATE_LINEAR) {
        slices_fwd(ctx, g, x, w1, b1, s, 1);
    } else if (s->kind == GM_GATE_MLP) {
        slices_fwd(ctx, hidden, x, w1, b1, s, U);
        ctx->k->f32_relu_fwd(hidden, hidden, R * H * U);
        for (int64_t i = 0; i < R * H; i++)
            g[i] = ctx->k->f32_dot(w2 + i % H * U, hidden + i * U, U) + b2[i % H];
    } else {
        gm_linear_fwd(ctx, g, gate_width(s), x, s->C, w1, b1, R, s->C, gate_width(s));
    }
    sigmoid(ctx, g, R * gate_width(s));
}

void gm_gate_apply(const gm_ctx *ctx, float *gated, const float *o, const float *g, const gm_gate_shape *s) {
    const int64_t D = s->D;
    const bool channel = s->kind == GM_GATE_CHANNEL;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (s->R * s->H * D >= GM_PARALLEL_MIN)
    for (int64_t i = 0; i < s->R * s->H; i++) {
        for (int64_t d = 0; d < D; d++)
            gated[i * D + d] = (channel ? g[i * D + d] : g[i]) * o[i * D + d];
    }
}

/* ---- backward */

/* dw[h, u] += sum_r dy[r, h, u] x[r, slice h];  db += sum_r dy;  dx[r, slice h] += sum_u dy[r, h, u] w[h, u] */
static void slices_bwd(const gm_ctx *ctx, float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                       const gm_gate_shape *s, int64_t U) {
    const int64_t slice = s->C / s->H, width = s->H * U;
#pragma omp parallel num_threads(ctx->threads) if (s->R * s->C >= GM_PARALLEL_MIN)
    {
        gm_range rows = gm_range_mine(s->R);
#pragma omp for schedule(static)
        for (int64_t h = 0; h < s->H; h++)
            ctx->k->f32_mm(dw + h * U * slice, slice, dy + h * U, 1, width, x + h * slice, s->C, U, slice, s->R, true);
        for (int64_t h = 0; h < s->H; h++)
            ctx->k->f32_mm(dx + rows.begin * s->C + h * slice, s->C, dy + rows.begin * width + h * U, width, 1, w + h * U * slice, slice,
                           rows.size, slice, U, true);
    }
    ctx->k->f32_column_sum(db, dy, width, s->R, width);
}

/* dlogit from dgated, o and g; dout = g dgated, which may take dgated's place. */
static void apply_bwd(const gm_ctx *ctx, float *dout, float *dlogit, const float *dgated, const float *o, const float *g,
                      const gm_gate_shape *s) {
    const int64_t D = s->D;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (s->R * s->H * D >= GM_PARALLEL_MIN)
    for (int64_t i = 0; i < s->R * s->H; i++) {
        const float *di = dgated + i * D, *oi = o + i * D;
        if (s->kind == GM_GATE_CHANNEL) {
            for (int64_t d = 0; d < D; d++) {
                const float gate = g[i * D + d], dg = di[d];
                dlogit[i * D + d] = dg * oi[d] * gate * (1 - gate);
                dout[i * D + d] = gate * dg;
            }
        } else {
            dlogit[i] = ctx->k->f32_dot(di, oi, D) * g[i] * (1 - g[i]);
            for (int64_t d = 0; d < D; d++)
                dout[i * D + d] = g[i] * di[d];
        }
    }
}

void gm_gate_bwd(const gm_ctx *ctx, float *dout, float *dx, float *dw1, float *db1, float *dw2, float *db2, const float *dgated,
                 const float *o, const float *g, const float *hidden, const float *x, const float *w1, const float *w2,
                 const gm_gate_shape *s, float *scratch) {
    const int64_t H = s->H, R = s->R, U = s->hidden;
    float *dlogit = scratch;
    apply_bwd(ctx, dout, dlogit, dgated, o, g, s);
    if (s->kind == GM_GATE_MLP) {
        float *dhidden = scratch + R * H;
        for (int64_t i = 0; i < R * H * U; i++)
            dhidden[i] = hidden[i] > 0 ? dlogit[i / U] * w2[i / U % H * U + i % U] : 0;
        for (int64_t h = 0; h < H; h++)
            ctx->k->f32_mm(dw2 + h * U, U, dlogit + h, 1, H, hidden + h * U, H * U, 1, U, R, true);
        ctx->k->f32_column_sum(db2, dlogit, H, R, H);
        slices_bwd(ctx, dx, dw1, db1, dhidden, x, w1, s, U);
    } else if (s->kind == GM_GATE_LINEAR) {
        slices_bwd(ctx, dx, dw1, db1, dlogit, x, w1, s, 1);
    } else {
        gm_linear_bwd(ctx, dx, s->C, true, dw1, db1, dlogit, gate_width(s), x, s->C, w1, R, s->C, gate_width(s));
    }
}
