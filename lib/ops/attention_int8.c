/* attention_int8.c -- attention whose two products run on integers: q, k, v lie on 8-bit grids, scores and weights are put on theirs, the
 * normaliser between them is the f32 one of every variant.
 *
 *   score_ij = scale sq sk (sum_d q_id k'_jd - zk' sum_d q_id - zq sum_d k'_jd + D zq zk')      k' = k - 128 in s8, zk' = zk - 128
 *   o_id     = sw sv (sum_j w_ij v'_jd - zv' sum_j w_ij)                                          the weights' zero is 0
 *
 * Keys and values are kept packed as the tile reads its second operand, whether they come from the batch or from a cache: a new position
 * writes its own bytes, and nothing is packed again. Per key/value head, room for `capacity` positions rounded up to 32:
 *   keys    [capacity / 32, D4 / 4, 32, 4]     sums  [capacity] int32, the keys' part of the correction     values  [D32 / 32, capacity /
 * 4, 32, 4] One query decoded against a cache has the bits of its row in a prefill: rows do not meet, and all sums are exact. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <math.h>
#include <string.h>

static int64_t up_to(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static size_t head_bytes(int64_t D, int64_t capacity) {
    return (size_t)(up_to(capacity, GM_INT8_N) * (up_to(D, 4) + (int64_t)sizeof(int32_t) + up_to(D, GM_INT8_N)));
}

size_t gm_kv_int8_bytes(int64_t KV, int64_t D, int64_t capacity) {
    return (size_t)KV * head_bytes(D, capacity);
}

typedef struct packed {
    uint8_t *keys;
    int32_t *sums;
    uint8_t *values;
} packed;

static packed packed_of(void *kv, int64_t head, int64_t D, int64_t capacity) {
    uint8_t *keys = (uint8_t *)kv + (size_t)head * head_bytes(D, capacity);
    int32_t *sums = (int32_t *)(void *)(keys + up_to(capacity, GM_INT8_N) * up_to(D, 4));
    return (packed){keys, sums, (uint8_t *)(sums + up_to(capacity, GM_INT8_N))};
}

/* T positions of one head. */
static void put_head(const gm_attention_int8 *a, packed p, int64_t capacity, int64_t first, const uint8_t *k, const uint8_t *v,
                     int64_t stride) {
    const int64_t D = a->D, D4 = up_to(D, 4), keys = up_to(capacity, GM_INT8_N);
    const int32_t zq = a->q.zero, zk = a->k.zero - 128;
    for (int64_t j = first; j < first + a->T; j++, k += stride, v += stride) {
        uint8_t *to = p.keys + j / GM_INT8_N * GM_INT8_N * D4 + j % GM_INT8_N * 4;
        int32_t sum = 0;
        for (int64_t d = 0; d < D; d++)
            sum += k[d];
        p.sums[j] = (int32_t)D * zq * zk - zq * (sum - 128 * (int32_t)D);
        for (int64_t d = 0; d < D4; d += 4, to += 4 * GM_INT8_N) {
            for (int64_t i = 0; i < 4; i++)
                to[i] = d + i < D ? k[d + i] ^ 0x80 : 0;
        }
        for (int64_t d = 0; d < D; d++)
            p.values[d / GM_INT8_N * GM_INT8_N * keys + (j / 4 * GM_INT8_N + d % GM_INT8_N) * 4 + j % 4] = v[d] ^ 0x80;
    }
}

void gm_kv_int8_put(const gm_ctx *ctx, const gm_attention_int8 *a, void *kv, int64_t capacity, int64_t first, const uint8_t *k,
                    const uint8_t *v, int64_t stride) {
    const size_t each = gm_kv_int8_bytes(a->KV, a->D, capacity);
    if (a->B * a->T == 1) {
        for (int64_t h = 0; h < a->KV; h++)
            put_head(a, packed_of(kv, h, a->D, capacity), capacity, first, k + h * a->D, v + h * a->D, stride);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (a->B * a->T * a->KV * a->D >= GM_PARALLEL_MIN)
    for (int64_t task = 0; task < a->B * a->KV; task++) {
        const int64_t b = task / a->KV, h = task % a->KV, at = b * a->T * stride + h * a->D;
        put_head(a, packed_of((uint8_t *)kv + (size_t)b * each, h, a->D, capacity), capacity, first, k + at, v + at, stride);
    }
}

/* Per thread: rows of scores, and of weights. */
size_t gm_attention_int8_scratch_bytes(const gm_ctx *ctx, int64_t S) {
    return (size_t)ctx->threads * (size_t)(GM_INT8_M * up_to(S, GM_INT8_N)) * (sizeof(float) + 1);
}

static int32_t sum_of(const uint8_t *x, int64_t n) {
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

static void fill(float *x, float value) {
    for (int i = 0; i < GM_INT8_N; i++)
        x[i] = value;
}

typedef struct shape {
    int64_t b, h, t, rows; /* queries t .. t + rows - 1 of one head */
    int64_t S, capacity;
} shape;

/* Sums of a tile's rows with a panel, or of one row with several, `stride` apart. */
static void multiply(const gm_kernels *k, int32_t *c, const uint8_t *a, int64_t as, int64_t rows, const int8_t *b, int64_t stride,
                     int64_t panels, int64_t k4) {
    if (rows == 1)
        k->u8s8_gemv(c, a, b, stride, panels, k4);
    else
        k->u8s8_gemm_tile(c, a, as, rows, b, k4);
}

static void run_tile(const gm_kernels *k, const gm_attention_int8 *a, const shape *x, uint8_t *o, const uint8_t *q, void *kv, float *s,
                     uint8_t *w) {
    static const float no_bias[GM_INT8_N];
    static const int32_t no_column[GM_INT8_N];
    const int64_t D = a->D, D4 = up_to(D, 4), position = x->S - a->T + x->t; /* of the tile's first query among the keys */
    const int64_t high = a->causal ? GM_MIN(position + x->rows, x->S) : x->S;
    const int64_t base = a->window ? GM_MAX(position - a->window + 1, 0) / GM_INT8_N * GM_INT8_N : 0;
    const int64_t width = up_to(high - base, GM_INT8_N), at_once = x->rows == 1 ? GM_INT8_M : 1; /* panels */
    const packed p = packed_of(kv, x->h / (a->H / a->KV), D, x->capacity);
    const gm_grid_f32 scores = gm_grid_f32_of(a->scores), out = gm_grid_f32_of(a->pv);
    const int32_t zk = a->k.zero - 128, zv = a->v.zero - 128;
    float scale[GM_INT8_N];
    int32_t row[GM_INT8_M];
    _Alignas(64) int32_t c[GM_INT8_M * GM_INT8_N];

    /* 1 scores, of whole panels of keys */
    fill(scale, a->scale * a->q.scale * a->k.scale);
    for (int64_t i = 0; i < x->rows; i++)
        row[i] = -zk * sum_of(q + i * a->q_row, D);
    for (int64_t j = base, n; j < base + width; j += n * GM_INT8_N) {
        n = GM_MIN(at_once, (base + width - j) / GM_INT8_N);
        multiply(k, c, q, a->q_row, x->rows, (const int8_t *)p.keys + j * D4, GM_INT8_N * D4, n, D4 / 4);
        for (int64_t i = 0; i < n * GM_INT8_N; i += GM_INT8_N)
            k->s32_dequantize(s + j - base + i, width, c + i, x->rows, GM_INT8_N, row, p.sums + j + i, scale, no_bias);
    }
    /* 2 the normaliser over the keys that a query sees */
    const float sink = a->sinks ? a->sinks[x->h] : a->norm.sink;
    for (int64_t i = 0; i < x->rows; i++) {
        const int64_t low = a->window ? GM_MAX(position + i - a->window + 1, 0) - base : 0;
        const int64_t end = (a->causal ? position + i + 1 : x->S) - base, n = end - low;
        float *si = s + i * width + low;
        uint8_t *wi = w + i * width;
        k->f32_quantize_simulate(si, si, n, scores.scale, scores.zero, scores.qmin, scores.qmax);
        if (a->seen_scores)
            memcpy(a->seen_scores + ((x->b * a->H + x->h) * a->T + x->t + i) * x->S + base + low, si, (size_t)n * sizeof *si);
        k->f32_norm_row_fwd(si, a->seen_null ? a->seen_null + (x->b * a->H + x->h) * a->T + x->t + i : NULL, si, n, sink, a->norm.clip_a,
                            a->norm.clip_c);
        memset(wi, 0, (size_t)low);
        memset(wi + end, 0, (size_t)(width - end));
        k->f32_quantize_u8(wi + low, si, n, a->weights.scale, 0, (float)a->weights.qmax);
        if (a->seen_weights)
            k->u8_dequantize(a->seen_weights + ((x->b * a->H + x->h) * a->T + x->t + i) * x->S + base + low, wi + low, n, a->weights.scale,
                             0);
        row[i] = -zv * sum_of(wi + low, n);
    }
    /* 3 weights times values */
    fill(scale, a->weights.scale * a->v.scale);
    const int64_t panel = GM_INT8_N * up_to(x->capacity, GM_INT8_N);
    for (int64_t d = 0, n; d < D; d += n * GM_INT8_N) {
        const int8_t *values = (const int8_t *)p.values + d / GM_INT8_N * panel + base * GM_INT8_N;
        n = GM_MIN(at_once, (D - d + GM_INT8_N - 1) / GM_INT8_N);
        multiply(k, c, w, width, x->rows, values, panel, n, up_to(high - base, 4) / 4);
        for (int64_t i = 0; i < n * GM_INT8_N; i += GM_INT8_N)
            k->s32_requantize_u8(o + d + i, a->o_row, c + i, x->rows, GM_MIN(GM_INT8_N, D - d - i), row, no_column, scale, no_bias, &out);
    }
}

/* Everything that a task needs to know. */
typedef struct job {
    const gm_ctx *ctx;
    const gm_attention_int8 *a;
    uint8_t *o;
    const uint8_t *q;
    void *kv;
    int64_t S, capacity, tiles;
    void *scratch;
} job;

static void run_task(const job *x, int64_t task, int64_t thread) {
    const gm_attention_int8 *a = x->a;
    const int64_t tiles = x->tiles, width = up_to(x->S, GM_INT8_N);
    const int64_t t = (tiles - 1 - task % tiles) * GM_INT8_M; /* the longest rows first */
    const shape part = {.b = task / tiles / a->H,
                        .h = task / tiles % a->H,
                        .t = t,
                        .rows = GM_MIN(GM_INT8_M, a->T - t),
                        .S = x->S,
                        .capacity = x->capacity};
    const int64_t at = part.b * a->T + t, column = part.h * a->D;
    float *s = (float *)x->scratch + thread * GM_INT8_M * width;
    uint8_t *w = (uint8_t *)((float *)x->scratch + x->ctx->threads * GM_INT8_M * width) + thread * GM_INT8_M * width;
    run_tile(x->ctx->k, a, &part, x->o + at * a->o_row + column, x->q + at * a->q_row + column,
             (uint8_t *)x->kv + (size_t)part.b * gm_kv_int8_bytes(a->KV, a->D, x->capacity), s, w);
}

void gm_attention_int8_fwd(const gm_ctx *ctx, const gm_attention_int8 *a, uint8_t *o, const uint8_t *q, void *kv, int64_t S,
                           int64_t capacity, void *scratch) {
    const job x = {ctx, a, o, q, kv, S, capacity, (a->T + GM_INT8_M - 1) / GM_INT8_M, scratch};
    const int64_t tasks = a->B * a->H * x.tiles;
    if (ctx->threads == 1 || a->B * a->H * a->T * S * a->D < GM_PARALLEL_MIN) {
        for (int64_t task = 0; task < tasks; task++)
            run_task(&x, task, 0);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; task++)
        run_task(&x, task, omp_get_thread_num());
}
