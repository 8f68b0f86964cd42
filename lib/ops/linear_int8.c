/* linear_int8.c -- y = x W^T + b on integers: x lies on an 8-bit grid, the sums are exact in 32 bits, and the result goes to f32 or, with
 * or without an activation between, to the next product's grid, tile by tile while the sums are in the first-level cache. Forward only.
 *
 * With x = sx (a - zero) and w_j = sw_j q_j:  y_j = sx sw_j (sum a q_j - zero sum q_j) + b_j. The second sum is known when the weights are
 * packed (offset). Weights lie in panels of GM_INT8_N outputs, [depth / 4, GM_INT8_N, 4], the order in which the tile reads them. */
#include "context.h"
#include "ghostmax_model.h"
#include "ops.h"
#include "parallel.h"

#include <math.h>

enum { TASK_ROWS = 64, SUMS = GM_INT8_M * GM_INT8_N }; /* SUMS: of a tile, or of as many panels of one row */

static int64_t depth_of(int64_t in) {
    return (in + 3) / 4 * 4;
}

static int64_t padded(int64_t out) {
    return (out + GM_INT8_N - 1) / GM_INT8_N * GM_INT8_N;
}

int64_t gm_int8_row(int64_t in) {
    return (in + 63) / 64 * 64;
}

bool gm_linear_int8_fits(int64_t in) {
    return depth_of(in) <= GM_INT8_DEPTH;
}

size_t gm_linear_int8_bytes(int64_t in, int64_t out) {
    const int64_t outputs = padded(out), row = depth_of(in) + (int64_t)(2 * sizeof(float) + sizeof(int32_t));
    return (size_t)(outputs * row + 63) / 64 * 64;
}

/* Byte p of output j's weights. */
static int64_t place_of(const gm_linear_int8 *l, int64_t j, int64_t p) {
    return j / GM_INT8_N * GM_INT8_N * depth_of(l->in) + (p / 4 * GM_INT8_N + j % GM_INT8_N) * 4 + p % 4;
}

void gm_linear_int8_pack(gm_linear_int8 *l, void *memory, const int8_t *q, const float *q_scale, const float *b, int64_t in, int64_t out,
                         gm_quant_grid input) {
    const int64_t outputs = padded(out), depth = depth_of(in);
    int8_t *weights = memory; /* first: aligned as memory is */
    float *scale = (float *)(void *)(weights + outputs * depth), *bias = scale + outputs;
    int32_t *offset = (int32_t *)(bias + outputs);
    *l = (gm_linear_int8){.in = in, .out = out, .scale = scale, .bias = bias, .offset = offset, .weights = weights};
    for (int64_t j = 0; j < outputs; j++) {
        int32_t sum = 0;
        for (int64_t p = 0; p < depth; p++) {
            int8_t whole = j < out && p < in ? q[j * in + p] : 0;
            weights[place_of(l, j, p)] = whole;
            sum += whole;
        }
        scale[j] = j < out ? input.scale * q_scale[j] : 0;
        bias[j] = j < out && b ? b[j] : 0;
        offset[j] = -input.zero * sum;
    }
}

int8_t gm_linear_int8_weight(const gm_linear_int8 *l, int64_t j, int64_t p) {
    return l->weights[place_of(l, j, p)];
}

/* Part of the result: rows x columns from the sums c (and, for a gated activation, up's sums). One row may be longer than a tile's. */
static void put(const gm_kernels *k, const gm_int8_product *p, int64_t i, int64_t j, int64_t rows, int64_t cols, const int32_t *c,
                const int32_t *c_up) {
    const gm_int8_result *y = &p->y;
    const gm_linear_int8 *l = p->l, *up = p->up;
    if (y->f32) {
        k->s32_dequantize(y->f32 + i * y->stride + j, y->stride, c, rows, cols, NULL, l->offset + j, l->scale + j, l->bias + j);
        return;
    }
    uint8_t *to = y->u8 + i * y->stride + j;
    const gm_grid_f32 grid = gm_grid_f32_of(y->grid);
    if (y->act == GM_INT8_NO_ACT) {
        k->s32_requantize_u8(to, y->stride, c, rows, cols, NULL, l->offset + j, l->scale + j, l->bias + j, &grid);
        return;
    }
    _Alignas(64) float h[SUMS], h_up[SUMS];
    const int64_t width = padded(cols), n = rows * width;
    k->s32_dequantize(h, width, c, rows, width, NULL, l->offset + j, l->scale + j, l->bias + j);
    switch (y->act) {
    case GM_ACT_GELU_TANH:
        k->f32_gelu_tanh_fwd(h, h, n);
        break;
    case GM_ACT_GELU_ERF:
        k->f32_gelu_erf_fwd(h, h, n);
        break;
    case GM_ACT_RELU:
        k->f32_relu_fwd(h, h, n);
        break;
    default: /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a gated activation has its up */
        k->s32_dequantize(h_up, width, c_up, rows, width, NULL, up->offset + j, up->scale + j, up->bias + j);
        k->f32_swiglu_fwd(h, h, h_up, n);
    }
    for (int64_t r = 0; r < rows; r++)
        k->f32_quantize_u8(to + r * y->stride, h + r * width, cols, grid.scale, grid.zero, grid.qmax);
}

/* ---- one row, as in decoding: nothing is read twice, so memory sets the pace */

/* What the results will need, asked for before the products, whose weights leave the cache no time for it. */
static void fetch(const gm_linear_int8 *l, int64_t j, int64_t n) {
    enum { LINE = 16 };
    for (int64_t i = j; i < j + n; i += LINE) {
        __builtin_prefetch(l->scale + i);
        __builtin_prefetch(l->bias + i);
        __builtin_prefetch(l->offset + i);
    }
}

static void some_panels(const gm_kernels *k, const gm_int8_product *p, const uint8_t *x, int64_t begin, int64_t end) {
    const int64_t depth = depth_of(p->l->in), stride = GM_INT8_N * depth;
    for (int64_t first = begin; first < end; first += SUMS / GM_INT8_N) {
        _Alignas(64) int32_t c[2][SUMS];
        const int64_t count = GM_MIN(SUMS / GM_INT8_N, end - first), j = first * GM_INT8_N;
        fetch(p->l, j, count * GM_INT8_N);
        k->u8s8_gemv(c[0], x, p->l->weights + first * stride, stride, count, depth / 4);
        if (p->up)
            k->u8s8_gemv(c[1], x, p->up->weights + first * stride, stride, count, depth / 4);
        put(k, p, 0, j, 1, GM_MIN(count * GM_INT8_N, p->l->out - j), c[0], c[1]);
    }
}

/* Panels begin .. end - 1 of all products, counted on from one to the next. */
static void some_of_all(const gm_kernels *k, const gm_int8_product *p, const uint8_t *x, int64_t begin, int64_t end) {
    for (; end > 0; p++) {
        const int64_t panels = padded(p->l->out) / GM_INT8_N;
        some_panels(k, p, x, GM_MAX(begin, 0), GM_MIN(end, panels));
        begin -= panels;
        end -= panels;
    }
}

static void one_row(const gm_ctx *ctx, const gm_int8_product *p, int count, const uint8_t *x) {
    int64_t panels = 0, weights = 0;
    for (int i = 0; i < count; i++) {
        panels += padded(p[i].l->out) / GM_INT8_N;
        weights += p[i].l->in * p[i].l->out * (p[i].up ? 2 : 1);
    }
    if (ctx->threads == 1 || weights < 8 * GM_PARALLEL_MIN) {
        some_of_all(ctx->k, p, x, 0, panels);
        return;
    }
#pragma omp parallel num_threads(ctx->threads)
    {
        const int64_t i = omp_get_thread_num(), n = omp_get_num_threads();
        some_of_all(ctx->k, p, x, panels * i / n, panels * (i + 1) / n);
    }
}

/* ---- many */

static void rows(const gm_ctx *ctx, const gm_int8_product *p, const uint8_t *x, int64_t xs, int64_t R) {
    const gm_kernels *k = ctx->k;
    const gm_linear_int8 *l = p->l;
    const int64_t depth = depth_of(l->in), panels = padded(l->out) / GM_INT8_N, groups = (R + TASK_ROWS - 1) / TASK_ROWS;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * l->in * l->out >= 16 * GM_PARALLEL_MIN)
    for (int64_t task = 0; task < panels * groups; task++) {
        const int64_t j = task / groups * GM_INT8_N, begin = task % groups * TASK_ROWS, end = GM_MIN(begin + TASK_ROWS, R);
        for (int64_t i = begin; i < end; i += GM_INT8_M) {
            _Alignas(64) int32_t c[2][SUMS];
            const int64_t m = GM_MIN(GM_INT8_M, end - i);
            k->u8s8_gemm_tile(c[0], x + i * xs, xs, m, l->weights + j * depth, depth / 4);
            if (p->up)
                k->u8s8_gemm_tile(c[1], x + i * xs, xs, m, p->up->weights + j * depth, depth / 4);
            put(k, p, i, j, m, GM_MIN(GM_INT8_N, l->out - j), c[0], c[1]);
        }
    }
}

void gm_linear_int8_fwd(const gm_ctx *ctx, const gm_int8_product *products, int count, const uint8_t *x, int64_t xs, int64_t R) {
    if (R == 1)
        one_row(ctx, products, count, x);
    for (int i = 0; i < count && R != 1; i++)
        rows(ctx, &products[i], x, xs, R);
}

void gm_quantize_u8(const gm_ctx *ctx, uint8_t *q, int64_t qs, const float *x, int64_t xs, int64_t R, int64_t C, gm_quant_grid grid) {
    if (R == 1) { /* even a region that its `if` keeps to one thread takes time: a small model's token has a hundred */
        ctx->k->f32_quantize_u8(q, x, C, grid.scale, (float)grid.zero, (float)grid.qmax);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * C >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++)
        ctx->k->f32_quantize_u8(q + r * qs, x + r * xs, C, grid.scale, (float)grid.zero, (float)grid.qmax);
}

void gm_dequantize_u8(const gm_ctx *ctx, float *y, int64_t ys, const uint8_t *q, int64_t qs, int64_t R, int64_t C, gm_quant_grid grid) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * C >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++)
        ctx->k->u8_dequantize(y + r * ys, q + r * qs, C, grid.scale, (float)grid.zero);
}

static void residual_norm_row(const gm_kernels *k, const gm_int8_rows *a, int64_t r, int64_t C, float *row) {
    const gm_grid_f32 branch = gm_grid_f32_of(a->branch_grid), sum = gm_grid_f32_of(a->sum_grid), out = gm_grid_f32_of(a->grid);
    float *x = a->x + r * C, *y = a->f32 ? a->f32 + r * C : row, stat[2];
    if (a->branch && sum.scale != 0)
        k->f32_residual_quantize(x, x, a->branch + r * C, C, &branch, &sum);
    else if (a->branch)
        k->f32_add(x, x, a->branch + r * C, C);
    k->f32_layernorm_row_fwd(y, stat, x, a->gain, a->bias, C, a->eps, a->rms);
    if (!a->f32)
        k->f32_quantize_u8(a->u8 + r * a->stride, y, C, out.scale, out.zero, out.qmax);
    else if (out.scale != 0)
        k->f32_quantize_simulate(y, y, C, out.scale, out.zero, out.qmin, out.qmax);
}

void gm_residual_norm_int8(const gm_ctx *ctx, const gm_int8_rows *a, int64_t R, int64_t C, float *scratch) {
    if (R == 1) {
        residual_norm_row(ctx->k, a, 0, C, scratch);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (R * C >= GM_PARALLEL_MIN)
    for (int64_t r = 0; r < R; r++)
        residual_norm_row(ctx->k, a, r, C, scratch + omp_get_thread_num() * C);
}
