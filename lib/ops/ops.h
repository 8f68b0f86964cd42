/* ops.h -- the layers of a transformer, forward beside backward (one file per layer).
 *
 * Conventions, stated once: R = B*T rows; weights are [OUT, IN]; gradient of x is dx. Parameter gradients and residual-stream
 * gradients accumulate (+=, marked "+=" below), every other gradient is set. Nothing here allocates: scratch is the caller's.
 * Parallel over outputs, never over a reduction, so that the thread count does not change the bits (the matrix library excepted).
 * Strides (`xs` ...) are elements between rows. Attention lives in ghostmax.h (gm_attention_fwd/bwd). */
#ifndef GM_OPS_H
#define GM_OPS_H

#include "base.h"

/* y[R,OUT] = x[R,IN] w[OUT,IN]^T + b (b NULL: none). Row strides ys, xs; w contiguous. */
void gm_linear_fwd(const gm_ctx *ctx, float *y, int64_t ys, const float *x, int64_t xs, const float *w, const float *b, int64_t R,
                   int64_t IN, int64_t OUT);
/* The same with row stride OUT, and y = act(h) after it while h is in the cache; act as in gm_act_fwd. */
void gm_linear_act_fwd(const gm_ctx *ctx, float *y, float *h, const float *x, int64_t xs, const float *w, const float *b, int64_t R,
                       int64_t IN, int64_t OUT, int act);
/* dx set (NULL: skipped; dx_add: += instead), dw +=, db += (NULL: none). */
void gm_linear_bwd(const gm_ctx *ctx, float *dx, int64_t dxs, bool dx_add, float *dw, float *db, const float *dy, int64_t dys,
                   const float *x, int64_t xs, const float *w, int64_t R, int64_t IN, int64_t OUT);

/* ---- integers (linear_int8.c, attention_int8.c): forward only. A u8 tensor lies on a grid of at most 8 bits with qmin = 0; its rows are
 * gm_int8_row(columns) bytes apart or more. Sums are exact in 32 bits, so the same bits on every instruction set and for any thread count
 * as far as no exp is in between. Where a value is put on an integer grid a NaN counts as the lowest; NaN scales make f32 results NaN. */
int64_t gm_int8_row(int64_t columns); /* bytes: a multiple of 64 */
void gm_quantize_u8(const gm_ctx *ctx, uint8_t *q, int64_t qs, const float *x, int64_t xs, int64_t R, int64_t C, gm_quant_grid grid);
void gm_dequantize_u8(const gm_ctx *ctx, float *y, int64_t ys, const uint8_t *q, int64_t qs, int64_t R, int64_t C, gm_quant_grid grid);

typedef struct gm_linear_int8 {
    int64_t in, out;
    const float *scale, *bias;
    const int32_t *offset; /* -zero * sum of the output's weights */
    const int8_t *weights; /* packed */
} gm_linear_int8;
bool gm_linear_int8_fits(int64_t in); /* deeper sums could leave 32 bits */
/* Packs q [out, in], whose row j stands for q_scale[j] q, into `memory` of gm_linear_int8_bytes, 64-byte aligned. b NULL: none. input: the
 * grid of the x to come. */
void gm_linear_int8_pack(gm_linear_int8 *l, void *memory, const int8_t *q, const float *q_scale, const float *b, int64_t in, int64_t out,
                         gm_quant_grid input);
size_t gm_linear_int8_bytes(int64_t in, int64_t out);
/* Weight p of output j, as packed: an embedding table that is also the head need not be kept twice. */
int8_t gm_linear_int8_weight(const gm_linear_int8 *l, int64_t j, int64_t p);
/* Where a product goes: to f32, or through an activation (GM_INT8_NO_ACT: none) to a grid. SwiGLU takes its second half from `up`. */
enum { GM_INT8_NO_ACT = -1 };
typedef struct gm_int8_result {
    float *f32; /* NULL: u8 */
    uint8_t *u8;
    int64_t stride;
    gm_quant_grid grid;
    int act; /* gm_act */
} gm_int8_result;
typedef struct gm_int8_product {
    const gm_linear_int8 *l, *up; /* up NULL but for SwiGLU */
    gm_int8_result y;
} gm_int8_product;
/* Products of the same x [R, in], as those for q, k and v. */
void gm_linear_int8_fwd(const gm_ctx *ctx, const gm_int8_product *products, int count, const uint8_t *x, int64_t xs, int64_t R);

/* Row by row: x = sum_grid(x + branch_grid(branch)) (branch NULL: x stays), then its norm on a grid, as u8 or (f32 not NULL) in f32. Grids
 * of scale 0 round nothing (both of a sum, or none). scratch: a row per thread. */
typedef struct gm_int8_rows {
    float *x; /* [R,C] the residual stream */
    const float *branch;
    gm_quant_grid branch_grid, sum_grid;
    const float *gain, *bias; /* of the norm */
    float eps;
    bool rms;
    uint8_t *u8;
    int64_t stride;
    float *f32;
    gm_quant_grid grid;
} gm_int8_rows;
void gm_residual_norm_int8(const gm_ctx *ctx, const gm_int8_rows *rows, int64_t R, int64_t C, float *scratch);

/* Attention over packed keys and values (attention_int8.c says how). Row strides are in elements. */
typedef struct gm_attention_int8 {
    int64_t B, T, H, KV, D;
    bool causal;
    int64_t window;
    float scale; /* of the scores, 1/sqrt(D) */
    gm_norm norm;
    const float *sinks;                 /* [H] or NULL */
    gm_quant_grid q, k, v, weights, pv; /* u8; the weights' zero is 0 */
    gm_quant_grid scores;               /* any */
    int64_t q_row, o_row;
    /* For taps, T = S: [B,H,T,S] where a query sees a key, [B,H,T] exp(sink - lse); NULL: not wanted. */
    float *seen_scores, *seen_weights, *seen_null;
} gm_attention_int8;
/* One sequence's keys and values of a layer. */
size_t gm_kv_int8_bytes(int64_t KV, int64_t D, int64_t capacity);
/* Positions first .. first + T - 1 of B such memories, from k, v [B*T, KV D] with row stride `stride`. */
void gm_kv_int8_put(const gm_ctx *ctx, const gm_attention_int8 *a, void *kv, int64_t capacity, int64_t first, const uint8_t *k,
                    const uint8_t *v, int64_t stride);
/* o [B*T, H D] on the grid pv; the T queries are the last of S positions. kv: B such memories. */
void gm_attention_int8_fwd(const gm_ctx *ctx, const gm_attention_int8 *a, uint8_t *o, const uint8_t *q, void *kv, int64_t S,
                           int64_t capacity, void *scratch);
size_t gm_attention_int8_scratch_bytes(const gm_ctx *ctx, int64_t S);

/* Layer norm: y = (x - mean) * rstd * g + b; RMS norm (b NULL and mean NULL): y = x * rstd * g. mean, rstd [R] saved. */
void gm_norm_fwd(const gm_ctx *ctx, float *y, float *mean, float *rstd, const float *x, const float *g, const float *b, int64_t R,
                 int64_t C, float eps, bool rms);
/* dx += (residual stream), dg +=, db +=. scratch: gm_norm_bwd_scratch(C) floats. */
void gm_norm_bwd(const gm_ctx *ctx, float *dx, float *dg, float *db, const float *dy, const float *x, const float *g, const float *mean,
                 const float *rstd, int64_t R, int64_t C, bool rms, float *scratch);
int64_t gm_norm_bwd_scratch(const gm_ctx *ctx, int64_t C);

/* RMS norms over the heads of q and k, in place: row r of `qk` holds H heads of D (gain gq [D]) and then KV heads (gain gk [D]), rows
 * `stride` apart. saved [R, (H + KV) D]: what they were; rstd [R, H + KV]. */
typedef struct gm_qk_shape {
    int64_t R, H, KV, D, stride;
} gm_qk_shape;
void gm_qk_norm_fwd(const gm_ctx *ctx, float *qk, float *saved, float *rstd, const float *gq, const float *gk, const gm_qk_shape *shape,
                    float eps);
/* dqk in place: gradient of the norms' outputs on entry, of their inputs on return; dgq, dgk +=. scratch: gm_norm_bwd_scratch(D) floats. */
void gm_qk_norm_bwd(const gm_ctx *ctx, float *dqk, float *dgq, float *dgk, const float *saved, const float *rstd, const float *gq,
                    const float *gk, const gm_qk_shape *shape, float *scratch);

/* y = f(h), elementwise over n. act values are gm_act's (ghostmax_model.h) but SwiGLU. */
void gm_act_fwd(const gm_ctx *ctx, float *y, const float *h, int64_t n, int act);
typedef void gm_act_fn(float *y, const float *h, int64_t n);
gm_act_fn *gm_act_kernel(const gm_ctx *ctx, int act);                                               /* on one thread */
void gm_act_bwd(const gm_ctx *ctx, float *dh, const float *dy, const float *h, int64_t n, int act); /* dh may be dy */
/* h [R, 2F]: gate then up; y [R,F] = silu(gate) * up. dh may not be dy. */
void gm_swiglu_fwd(const gm_ctx *ctx, float *y, const float *h, int64_t R, int64_t F);
void gm_swiglu_bwd(const gm_ctx *ctx, float *dh, const float *dy, const float *h, int64_t R, int64_t F);

/* x[r] = wte[tokens[r]] + wpe[r % T + offset] (wpe NULL: none). Tokens are checked by the caller. */
void gm_embedding_fwd(const gm_ctx *ctx, float *x, const int32_t *tokens, const float *wte, const float *wpe, int64_t B, int64_t T,
                      int64_t C, int64_t offset);
void gm_embedding_bwd(const gm_ctx *ctx, float *dwte, float *dwpe, const float *dx, const int32_t *tokens, int64_t B, int64_t T, int64_t C,
                      int64_t offset);

/* Rotary positions, in place, Hugging Face's half-split pairs (d, d + D/2): x[r] has `heads` heads of D, position first + r % T.
 * inverse: rotates back (the backward pass). cos_sin [positions, D]: D/2 cosines then D/2 sines of position * f[i], by gm_rope_table. */
void gm_rope_table(const gm_ctx *ctx, float *cos_sin, int64_t positions, int64_t D, const double *f);
void gm_rope_apply(const gm_ctx *ctx, float *x, int64_t xs, const float *cos_sin, int64_t B, int64_t T, int64_t first, int64_t heads,
                   int64_t D, bool inverse);

/* The LM head product, softmax and cross-entropy in blocks of tokens, so that R x V logits never exist.
 * losses [R] (0 where target < 0). With dx != NULL also the gradients of scale * sum(losses): dx [R,C] set, dw [V,C] +=.
 * scratch: gm_head_scratch(V) floats. */
void gm_head_loss(const gm_ctx *ctx, float *losses, float *dx, float *dw, const float *x, const float *w, const int32_t *targets,
                  float scale, int64_t R, int64_t C, int64_t V, float *scratch);
int64_t gm_head_scratch(const gm_ctx *ctx, int64_t V); /* a block of rows times V */
/* The losses alone, of logits made elsewhere (rows of ignored targets become 0). */
void gm_logits_loss(const gm_ctx *ctx, float *losses, float *logits, const int32_t *targets, int64_t rows, int64_t V);

/* y = x + r elementwise (the residual sum); y may be x or r. */
void gm_add(const gm_ctx *ctx, float *y, const float *x, const float *r, int64_t n);
/* Inverted dropout in place: x's element i is kept when gm_rng_uniform(key, first + i) >= p. Backward = the same call on the gradient. */
void gm_dropout(const gm_ctx *ctx, float *x, int64_t first, int64_t n, double p, uint64_t key);

/* AdamW, decoupled decay: m, v updated; p -= lr (m^ / (sqrt(v^) + eps) + decay p). g is multiplied by grad_scale first. t >= 1. */
void gm_adamw(const gm_ctx *ctx, float *p, const float *g, float *m, float *v, int64_t n, float grad_scale, double lr, double beta1,
              double beta2, double eps, double decay, int64_t t);
/* Sum of squares in double, in an order that does not depend on the thread count. */
double gm_sum_squares(const gm_ctx *ctx, const float *x, int64_t n);

/* The gate (gm_gate_kind): g = sigmoid(G(x)) and o *= g per head or channel. */
typedef struct gm_gate_shape {
    int kind; /* gm_gate_kind */
    int64_t R, C, H, D, hidden;
} gm_gate_shape;
/* w1: linear [H, C/H], mlp [H, hidden, C/H], all-heads [H, C], channel [H*D, C]; b1: [H], [H, hidden], [H], [H*D];
 * w2, b2 (mlp only): [H, hidden], [H]. */
void gm_gate_fwd(const gm_ctx *ctx, float *g /* [R,H] or [R,H*D] */, float *hidden /* [R,H,hidden], mlp only */, const float *x,
                 const float *w1, const float *b1, const float *w2, const float *b2, const gm_gate_shape *shape);
/* gated[R,H*D] = g * o */
void gm_gate_apply(const gm_ctx *ctx, float *gated, const float *o, const float *g, const gm_gate_shape *shape);
/* From dgated and the ungated o: dout [R,H*D] = g * dgated (may alias dgated); dx [R,C] +=; parameter gradients +=.
 * scratch: R * H * (1 + hidden) floats, R * H * D for channel gates. */
void gm_gate_bwd(const gm_ctx *ctx, float *dout, float *dx, float *dw1, float *db1, float *dw2, float *db2, const float *dgated,
                 const float *o, const float *g, const float *hidden, const float *x, const float *w1, const float *w2,
                 const gm_gate_shape *shape, float *scratch);

/* Attention with everything visible, for measuring and simulated quantization: per (b, h), the full T x T scores (scaled, before the
 * mask), then the weights, then PV pass through `tap` (which may change them) as [T, T], [T, T], [T, D].
 * Same mathematics as gm_attention_fwd with T = S. null_mass [T] per (b,h) through the third tap argument. scratch: 2 T T + T floats. */
typedef struct gm_attention_tap {
    void (*fn)(void *user, int what /* 0 scores, 1 weights, 2 pv */, int64_t b, int64_t h, float *x, int64_t rows, int64_t cols,
               int64_t stride, const float *null_mass /* with weights, else NULL */);
    void *user;
} gm_attention_tap;
void gm_attention_observed(const gm_ctx *ctx, float *o, const float *q, const float *k, const float *v, const float *sinks, gm_norm norm,
                           const gm_attention_shape *shape, const gm_attention_tap *tap, float *scratch);
#endif
