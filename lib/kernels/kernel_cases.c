/* kernel_cases.c -- what every slot of a kernel table must do, beside the reference table: the one list behind test_kernels and
 * `ghostmax selftest`.
 *
 * One list of cases per slot. A case runs its slot with the reference table and with the table in question, on the same inputs: every
 * length around the vector tile and a few long ones, three alignments, and the patterns below; outputs lie between canaries. It needs
 * lib/kernels alone, so that the test also runs under an emulator for another processor.
 *
 * A result passes when it is NaN where the reference is, infinite where the reference is, and else
 * !(|x - ref| > rel |ref| + abs * scale) with the case's rel and abs; scale is 1, or the sum of magnitudes where terms cancel. */
#include "kernel_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum pattern { NORMAL = 1, TIES = 2, SPREAD = 4, MIXED_INF = 8, ALL_INF = 16, ONE_NAN = 32, BIG = 64, HUGE_VALUES = 128, EVERY = 255 };

enum { MAX_N = 1031, GUARD = 32, INPUTS = 5, OUTPUTS = 4, DOUBLES = 3, CAPACITY = MAX_N * 8 + 1024 };

typedef struct run {
    int64_t n;
    const float *in[INPUTS]; /* values of the pattern (0) or normal (1 ..) */
    float *out[OUTPUTS];     /* filled with normal values beforehand */
    int64_t size[OUTPUTS];   /* how many are results; nothing beyond may change */
    double value[DOUBLES];   /* results in double */
    int values;
    double scale;
    bool flag; /* both values are tried */
} run;

typedef struct test_case {
    const char *slot, *what;
    void (*call)(const gm_kernels *k, run *r);
    int patterns;
    int64_t min_n;
    double rel, abs;
} test_case;

static double magnitude(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)a[i] * (b ? b[i] : 1));
    return sum;
}

/* The largest finite magnitude. */
static double largest(const float *x, int64_t n) {
    double best = 0;
    for (int64_t i = 0; i < n; i++)
        best = isfinite(x[i]) ? fmax(best, fabs((double)x[i])) : best;
    return best;
}

/* ---- the calls */

static void dot(const gm_kernels *k, run *r) {
    r->out[0][0] = k->f32_dot(r->in[0], r->in[1], r->n);
    r->size[0] = 1;
    r->scale = magnitude(r->in[0], r->in[1], r->n);
}
static void absmax(const gm_kernels *k, run *r) {
    r->out[0][0] = k->f32_absmax(r->in[0], r->n);
    r->size[0] = 1;
}
static void minmax(const gm_kernels *k, run *r) {
    k->f32_minmax(r->out[0], r->in[0], r->n);
    r->size[0] = 2;
}
static void sum(const gm_kernels *k, run *r) {
    r->value[0] = k->f32_sum(r->in[0], r->n);
    r->value[1] = k->f32_sum_squares(r->in[0], r->n);
    r->values = 2;
    r->scale = magnitude(r->in[0], NULL, r->n);
}
static void moments(const gm_kernels *k, run *r) {
    double mean = 0.25;
    k->f32_moments(r->value, r->in[0], r->n, mean);
    r->values = 3;
    for (int64_t i = 0; i < r->n; i++)
        r->scale += pow(fabs(r->in[0][i] - mean), 3);
}
/* n columns, 7 rows, a stride that is not n */
static void column_sum(const gm_kernels *k, run *r) {
    k->f32_column_sum(r->out[0], r->in[0], r->n + 5, 7, r->n);
    r->size[0] = r->n;
    r->scale = 7 * largest(r->in[0], 7 * (r->n + 5)) + 4; /* rows, and what was there */
}
static void add(const gm_kernels *k, run *r) {
    k->f32_add(r->out[0], r->in[0], r->in[1], r->n);
    r->size[0] = r->n;
}
static void add_in_place(const gm_kernels *k, run *r) {
    k->f32_add(r->out[0], r->out[0], r->in[0], r->n);
    r->size[0] = r->n;
}
static void quantize(const gm_kernels *k, run *r) {
    k->f32_quantize_simulate(r->out[0], r->in[0], r->n, 0.0625f, 13, 0, 255);
    k->f32_quantize_simulate(r->out[1], r->in[0], r->n, 0.3f, 0, -8, 7);
    r->size[0] = r->size[1] = r->n;
}
#define FWD(name)                                                  \
    static void name##_fwd(const gm_kernels *k, run *r) {          \
        k->f32_##name##_fwd(r->out[0], r->in[0], r->n);            \
        memcpy(r->out[1], r->in[0], (size_t)r->n * 4);             \
        k->f32_##name##_fwd(r->out[1], r->out[1], r->n);           \
        r->size[0] = r->size[1] = r->n;                            \
    }                                                              \
    static void name##_bwd(const gm_kernels *k, run *r) {          \
        k->f32_##name##_bwd(r->out[0], r->in[1], r->in[0], r->n);  \
        memcpy(r->out[1], r->in[1], (size_t)r->n * 4);             \
        k->f32_##name##_bwd(r->out[1], r->out[1], r->in[0], r->n); \
        r->size[0] = r->size[1] = r->n;                            \
    }
FWD(gelu_tanh)
FWD(gelu_erf)
FWD(relu)
static void swiglu_fwd(const gm_kernels *k, run *r) {
    k->f32_swiglu_fwd(r->out[0], r->in[0], r->in[1], r->n);
    r->size[0] = r->n;
}
static void swiglu_bwd(const gm_kernels *k, run *r) {
    k->f32_swiglu_bwd(r->out[0], r->out[1], r->in[2], r->in[0], r->in[1], r->n);
    r->size[0] = r->size[1] = r->n;
}
static void adamw(const gm_kernels *k, run *r) {
    for (int64_t i = 0; i < r->n; i++)
        r->out[2][i] = fabsf(r->out[2][i]);
    k->f32_adamw(r->out[0], r->in[0], r->out[1], r->out[2], r->n, 0.5f, 0.1f, 0.01f, 0.003f, 1.7f, 1e-8f, 1e-4f);
    r->size[0] = r->size[1] = r->size[2] = r->n;
}
static void layernorm_fwd(const gm_kernels *k, run *r) {
    k->f32_layernorm_row_fwd(r->out[0], r->out[1], r->in[0], r->in[1], r->in[2], r->n, 1e-5f, r->flag);
    r->size[0] = r->n;
    r->size[1] = 2;
    if (!isfinite(r->out[1][0]))
        r->out[1][0] = NAN; /* the mean of a row with infinities may be either */
    /* a float mean is off by a unit in the last place of x, which rstd magnifies */
    r->scale = 1 + largest(r->in[0], r->n) * fmax(1, r->out[1][1]);
}
static void layernorm_bwd(const gm_kernels *k, run *r) {
    float stat[2] = {r->flag ? 0 : 0.125f, 1.5f};
    k->f32_layernorm_row_bwd(r->out[0], r->out[1], r->out[2], r->in[1], r->in[0], r->in[2], r->n, stat[0], stat[1], r->flag);
    r->size[0] = r->size[1] = r->n;
    r->size[2] = r->flag ? 0 : r->n;
    r->scale = 1 + pow(largest(r->in[0], r->n), 2);
}
static void rope(const gm_kernels *k, run *r) {
    memcpy(r->out[0], r->in[0], (size_t)(2 * r->n) * 4);
    k->f32_rope_row(r->out[0], r->in[1], r->n, r->flag ? 1.0f : -1.0f);
    r->size[0] = 2 * r->n;
    r->scale = largest(r->in[0], 2 * r->n) * largest(r->in[1], 2 * r->n);
}
static void cross_entropy(const gm_kernels *k, run *r) {
    int64_t target = r->n / 2;
    float *d = r->out[0];
    if (r->flag) { /* in place */
        memcpy(d, r->in[0], (size_t)r->n * 4);
        r->out[1][0] = k->f32_cross_entropy_row(d, d, r->n, target, 0.5f);
    } else {
        r->out[1][0] = k->f32_cross_entropy_row(d, r->in[0], r->n, target, 0.5f);
    }
    r->out[1][1] = k->f32_cross_entropy_row(NULL, r->in[0], r->n, target, 0.5f);
    r->size[0] = r->n;
    r->size[1] = 2;
}
/* The normaliser: no sink, softmax1's, softmax_n's; with the flag clipped too. */
static float sink_of(int64_t n) {
    return n % 3 == 0 ? -INFINITY : n % 3 == 1 ? 0.0f : -0.6931472f;
}
static void norm_row_fwd(const gm_kernels *k, run *r) {
    r->out[1][0] = k->f32_norm_row_fwd(r->out[0], &r->out[1][1], r->in[0], r->n, sink_of(r->n), r->flag ? 1.06f : 1, r->flag ? -0.03f : 0);
    r->out[1][2] = k->f32_norm_row_fwd(r->out[0], NULL, r->in[0], r->n, sink_of(r->n), r->flag ? 1.06f : 1, r->flag ? -0.03f : 0);
    r->size[0] = r->n;
    r->size[1] = 3;
}
static void norm_row_bwd(const gm_kernels *k, run *r) {
    float a = r->flag ? 1.06f : 1, c = r->flag ? -0.03f : 0;
    float lse = gm_kernels_ref.f32_norm_row_fwd(r->out[0], NULL, r->in[0], r->n, sink_of(r->n), a, c);
    r->out[1][0] = k->f32_norm_row_bwd(r->out[0], r->in[0], r->in[1], r->n, lse, a, c);
    memcpy(r->out[2], r->in[1], (size_t)r->n * 4); /* in place */
    k->f32_norm_row_bwd(r->out[2], r->in[0], r->out[2], r->n, lse, a, c);
    r->size[0] = r->size[2] = r->n;
    r->size[1] = 1;
}
static void small_product(const gm_kernels *k, run *r) {
    int64_t rows = 1 + r->n % 6, depth = r->n % 7, cs = r->n + 3, bs = r->n + 1;
    bool turned = r->n % 2;
    k->f32_mm(r->out[0], cs, r->in[1], turned ? 1 : depth, turned ? rows : 1, r->in[0], bs, rows, r->n, depth, r->flag);
    r->size[0] = (rows - 1) * cs + r->n; /* the gaps between rows must not change either: the reference leaves them alone */
    r->scale = 4 + (double)depth * largest(r->in[0], depth * bs) * largest(r->in[1], rows * depth);
}
static void lanes_pack(const gm_kernels *k, run *r) {
    int64_t rows = r->n % (GM_LANES + 1), depth = r->n % 9;
    k->f32_lanes_pack(r->out[0], r->in[0], depth + 2, rows, depth, 0.3f);
    r->size[0] = depth * GM_LANES;
}
static void lanes_fwd(const gm_kernels *k, run *r) {
    int64_t keys = r->n % 20, lanes = r->n % 2 ? 32 : 16;
    float sink[GM_LANES];
    for (int i = 0; i < GM_LANES; i++)
        sink[i] = i % 4 ? r->in[1][i] : -INFINITY;
    memcpy(r->out[0], r->in[0], (size_t)(keys * GM_LANES) * 4);
    k->f32_lanes_fwd(r->out[0], keys, lanes, sink, r->flag ? 1.06f : 1, r->flag ? -0.03f : 0, r->out[1]);
    r->size[0] = keys * GM_LANES;
    r->size[1] = lanes;
}
static void lanes_bwd(const gm_kernels *k, run *r) {
    int64_t keys = r->n % 20, lanes = r->n % 2 ? 32 : 16;
    float a = r->flag ? 1.06f : 1, c = r->flag ? -0.03f : 0, lse[GM_LANES], sink[GM_LANES];
    for (int i = 0; i < GM_LANES; i++)
        sink[i] = i % 4 ? r->in[1][i] : -INFINITY;
    memcpy(r->out[0], r->in[0], (size_t)(keys * GM_LANES) * 4);
    gm_kernels_ref.f32_lanes_fwd(r->out[0], keys, lanes, sink, a, c, lse);
    if (!isnan(lse[3]))
        lse[3] = INFINITY; /* no query here */
    memcpy(r->out[0], r->in[0], (size_t)(keys * GM_LANES) * 4);
    memcpy(r->out[1], r->in[2], (size_t)(keys * GM_LANES) * 4);
    memcpy(r->out[2], r->in[3], (size_t)lanes * 4);
    k->f32_lanes_bwd(r->out[0], r->out[1], keys, lanes, lse, r->out[2], a, c, 0.125f);
    r->size[0] = r->size[1] = keys * GM_LANES;
    r->size[2] = lanes;
}
static void sigmoid(const gm_kernels *k, run *r) {
    k->f32_sigmoid(r->out[0], r->in[0], r->n);
    r->size[0] = r->n;
}
static void transpose(const gm_kernels *k, run *r) {
    int64_t rows = r->n % 9, cols = r->n / 9, ds = rows + r->n % 3, xs = cols + r->n % 5;
    k->f32_transpose(r->out[0], ds, r->in[0], xs, rows, cols);
    r->size[0] = cols ? (cols - 1) * ds + rows : 0; /* gaps stay */
}

/* Integers: outputs hold them in parts that a float has exactly. */
static void quantize_u8(const gm_kernels *k, run *r) {
    static uint8_t q[2][MAX_N + 32];
    memset(q, 77, sizeof q);
    k->f32_quantize_u8(q[0], r->in[0], r->n, 0.0625f, 13, 255);
    k->f32_quantize_u8(q[1], r->in[0], r->n, 0.3f, 4, 15);
    for (int o = 0; o < 2; o++) {
        r->size[o] = r->n + 32; /* beyond n: still 77 */
        for (int64_t i = 0; i < r->size[o]; i++)
            r->out[o][i] = q[o][i];
    }
}
static void u8_dequantize(const gm_kernels *k, run *r) {
    k->u8_dequantize(r->out[0], (const uint8_t *)r->in[0], r->n, 0.037f, 101); /* any bytes */
    r->size[0] = r->n;
}
static void integer_tile(const gm_kernels *k, run *r) {
    int32_t c[GM_INT8_M * GM_INT8_N] = {0};
    int64_t k4 = r->n % 261, as = 4 * k4 + r->n % 3, rows = 1 + (r->n * 7 + r->flag * 3) % GM_INT8_M;
    k->u8s8_gemm_tile(c, (const uint8_t *)r->in[0], as, rows, (const int8_t *)r->in[1], k4); /* any bytes */
    r->size[0] = r->size[1] = rows * GM_INT8_N;
    for (int64_t i = 0; i < rows * GM_INT8_N; i++) {
        r->out[0][i] = (float)(c[i] & 4095);
        r->out[1][i] = (float)(c[i] >> 12);
    }
}
static void integer_row(const gm_kernels *k, run *r) {
    int32_t c[7 * GM_INT8_N] = {0};
    const int64_t k4 = r->n % 37, panels = r->n % 8, stride = 4 * k4 * GM_INT8_N + (r->flag ? 5 : 0);
    k->u8s8_gemv(c, (const uint8_t *)r->in[0], (const int8_t *)r->in[1], stride, panels, k4); /* any bytes */
    r->size[0] = r->size[1] = panels * GM_INT8_N;
    for (int64_t i = 0; i < panels * GM_INT8_N; i++) {
        r->out[0][i] = (float)(c[i] & 4095);
        r->out[1][i] = (float)(c[i] >> 12);
    }
}
/* Sums and offsets with more digits than a float has. */
enum { LONG_ROW = 3 * GM_INT8_N }; /* of one row's sums */
typedef struct sums {
    int32_t c[GM_INT8_M * GM_INT8_N], row[GM_INT8_M], column[LONG_ROW];
    int64_t rows, n;
} sums;
static sums sums_of(const run *r) {
    sums s = {.rows = 1 + r->n / 3 % 5};
    s.n = r->n % ((s.rows == 1 ? LONG_ROW : GM_INT8_N) + 1);
    for (int i = 0; i < GM_INT8_M * GM_INT8_N; i++)
        s.c[i] = (int32_t)(6e8f * fminf(fmaxf(r->in[1][i], -1), 1)) + i;
    for (int i = 0; i < LONG_ROW; i++) {
        s.row[i % GM_INT8_M] = (int32_t)(6e8f * fminf(fmaxf(r->in[2][i], -1), 1));
        s.column[i] = (int32_t)(6e8f * fminf(fmaxf(r->in[4][i], -1), 1));
    }
    return s;
}
static void dequantize(const gm_kernels *k, run *r) {
    sums s = sums_of(r);
    const int64_t ys = s.n + 3;
    k->s32_dequantize(r->out[0], ys, s.c, s.rows, s.n, r->flag ? s.row : NULL, s.column, r->in[0], r->in[3]);
    r->size[0] = (s.rows - 1) * ys + s.n; /* gaps between rows are left alone by both */
}
static void requantize(const gm_kernels *k, run *r) {
    static uint8_t q[5 * (LONG_ROW + 3)];
    const gm_grid_f32 grid = {2e6f, 13, 0, r->n % 2 ? 255 : 15};
    sums s = sums_of(r);
    memset(q, 77, sizeof q);
    k->s32_requantize_u8(q, s.n + 3, s.c, s.rows, s.n, r->flag ? s.row : NULL, s.column, r->in[0], r->in[3], &grid);
    r->size[0] = (int64_t)sizeof q;
    for (int64_t i = 0; i < r->size[0]; i++)
        r->out[0][i] = q[i];
}
static void residual(const gm_kernels *k, run *r) {
    const gm_grid_f32 branch = {0.03f, 101, 0, 255}, sum = {0.0625f, 0, -8, 7};
    k->f32_residual_quantize(r->out[0], r->in[1], r->in[0], r->n, &branch, r->flag ? &sum : &branch);
    r->size[0] = r->n;
}

/* The limits compute too, or what they measure could be left out. */
static void peak_fma(const gm_kernels *k, run *r) {
    memcpy(r->out[0], r->in[0], GM_PEAK_LANES * 4);
    k->f32_peak_fma(r->out[0], r->n % 40, 0.75f, -1.5f);
    r->size[0] = GM_PEAK_LANES;
    r->scale = 6 + largest(r->in[0], GM_PEAK_LANES); /* errors shrink by a in every round: their sum is 4 of the last one's */
}
static void peak_dot(const gm_kernels *k, run *r) {
    int32_t acc[GM_PEAK_LANES];
    for (int i = 0; i < GM_PEAK_LANES; i++)
        acc[i] = 3 * i;
    k->u8s8_peak_dot(acc, (const uint8_t *)r->in[0], (const int8_t *)r->in[1], r->n % 60); /* any bytes */
    r->size[0] = r->size[1] = GM_PEAK_LANES;
    for (int i = 0; i < GM_PEAK_LANES; i++) {
        r->out[0][i] = (float)(acc[i] & 4095);
        r->out[1][i] = (float)(acc[i] >> 12);
    }
}
static void peak_read(const gm_kernels *k, run *r) {
    int rounds = r->flag ? 2 : 1;
    r->out[0][0] = k->f32_peak_read(r->in[0], r->n, rounds);
    r->size[0] = 1;
    r->scale = rounds * magnitude(r->in[0], NULL, r->n);
}
static void peak_copy(const gm_kernels *k, run *r) {
    k->f32_peak_copy(r->out[0], r->in[0], r->n);
    r->size[0] = r->n;
}
static void peak_update(const gm_kernels *k, run *r) {
    memcpy(r->out[0], r->in[0], (size_t)r->n * 4);
    k->f32_peak_update(r->out[0], r->n, 1.5f);
    r->size[0] = r->n;
}

/* ---- the cases. Float sums of n terms: a few units in the last place of the sum of magnitudes (2^-24 = 6e-8; eps below).
 * Functions through exp: exp is within 1 unit, the quotient and polynomial around it add a few; but 3 roundings of the tanh form's
 * exponent, at most 88, are 88 * 3 * EPS relative in its far tail, where the result is below 1e-20. exp(88.8) is infinite, which makes 0 of
 * results below TINY. FINITE: the derivative at an infinity is not defined. */
#define EPS 6e-8
#define FINITE (NORMAL | TIES | SPREAD | ONE_NAN | BIG | HUGE_VALUES)
#define SUMS (EVERY & ~HUGE_VALUES) /* a float sum may overflow where a double's does not */
#define TINY 2e-36

static const test_case cases[] = {
    {"f32_dot", "", dot, SUMS, 0, 0, 4 * EPS},
    {"f32_absmax", "", absmax, EVERY, 0, 0, 0},
    {"f32_minmax", "", minmax, EVERY, 0, 0, 0},
    {"f32_sum", "", sum, SUMS, 0, 1e-14, 1e-14},
    {"f32_sum_squares", "", sum, SUMS, 0, 1e-14, 1e-14},
    {"f32_moments", "", moments, SUMS, 0, 1e-13, 1e-13},
    {"f32_column_sum", "", column_sum, SUMS, 0, 0, 4 * EPS},
    {"f32_add", "", add, EVERY, 0, 0, 0},
    {"f32_add", "in place", add_in_place, EVERY, 0, 0, 0},
    {"f32_quantize_simulate", "", quantize, EVERY, 0, 0, 0},
    {"f32_gelu_tanh_fwd", "", gelu_tanh_fwd, EVERY, 0, 88 * 3 * EPS, TINY},
    {"f32_gelu_tanh_bwd", "", gelu_tanh_bwd, FINITE, 0, 2e-6, 2e-6},
    {"f32_gelu_erf_fwd", "", gelu_erf_fwd, EVERY, 0, 6e-7, TINY},
    {"f32_gelu_erf_bwd", "", gelu_erf_bwd, FINITE, 0, 6e-7, 6e-7},
    {"f32_relu_fwd", "", relu_fwd, EVERY, 0, 0, 0},
    {"f32_relu_bwd", "", relu_bwd, EVERY, 0, 0, 0},
    {"f32_swiglu_fwd", "", swiglu_fwd, EVERY, 0, 6e-7, TINY},
    {"f32_swiglu_bwd", "", swiglu_bwd, FINITE, 0, 6e-7, 6e-7},
    {"f32_adamw", "", adamw, NORMAL | TIES | SPREAD | ONE_NAN, 0, 4e-7, 4e-7},
    {"f32_layernorm_row_fwd", "", layernorm_fwd, SUMS, 0, 4e-6, 8 * EPS},
    {"f32_layernorm_row_bwd", "", layernorm_bwd, NORMAL | TIES | SPREAD | ONE_NAN, 0, 1e-6, 32 * EPS},
    {"f32_rope_row", "", rope, SUMS, 0, 0, 4 * EPS},
    {"f32_cross_entropy_row", "", cross_entropy, EVERY, 1, 2e-6, 2e-7},
    /* weights and their gradients are at most 1 and a few: absolute errors, as the public header states them */
    {"f32_norm_row_fwd", "", norm_row_fwd, EVERY, 0, 4e-7, 4e-7},
    {"f32_norm_row_bwd", "", norm_row_bwd, SUMS, 0, 1e-6, 1e-6},
    {"f32_mm", "", small_product, NORMAL | TIES | SPREAD | ONE_NAN | BIG, 0, 0, 4 * EPS},
    {"f32_lanes_pack", "", lanes_pack, EVERY, 0, 0, 0},
    {"f32_lanes_fwd", "", lanes_fwd, EVERY, 0, 4e-7, 4e-7},
    {"f32_lanes_bwd", "", lanes_bwd, SUMS, 0, 1e-6, 1e-6},
    {"f32_sigmoid", "", sigmoid, EVERY, 0, 6e-7, TINY},
    {"f32_transpose", "", transpose, EVERY, 0, 0, 0},
    {"f32_quantize_u8", "", quantize_u8, EVERY, 0, 0, 0},
    {"f32_residual_quantize", "", residual, EVERY, 0, 0, 0},
    {"u8_dequantize", "", u8_dequantize, NORMAL, 0, 0, 0},
    {"u8s8_gemm_tile", "", integer_tile, EVERY, 0, 0, 0},
    {"u8s8_gemv", "", integer_row, EVERY, 0, 0, 0},
    {"s32_requantize_u8", "", requantize, EVERY, 0, 0, 0},
    {"s32_dequantize", "", dequantize, EVERY, 0, 0, 0},
    {"f32_peak_fma", "", peak_fma, NORMAL | TIES | SPREAD | ONE_NAN, 0, 0, 8 * EPS},
    {"u8s8_peak_dot", "", peak_dot, EVERY, 0, 0, 0},
    {"f32_peak_read", "", peak_read, SUMS, 0, 0, 8 * EPS}, /* the reference is in float too: both sides round */
    {"f32_peak_copy", "", peak_copy, EVERY, 0, 0, 0},
    {"f32_peak_update", "", peak_update, EVERY, 0, 0, 0},
};

static const char *const slots[] = {
#define GM_KERNEL(type, name, params) #name,
#include "kernels.def"
#undef GM_KERNEL
};

/* ---- inputs */

typedef struct arena {
    uint64_t state; /* of the random numbers */
    float inputs[INPUTS][CAPACITY + 16], start[OUTPUTS][GUARD + CAPACITY + 16 + GUARD], results[2][OUTPUTS][GUARD + CAPACITY + 16 + GUARD];
    uint8_t tile_a[GM_INT8_M * GM_INT8_DEPTH];
    int8_t tile_b[GM_INT8_N * GM_INT8_DEPTH];
    gm_slot_result *slot; /* where the running case counts */
} arena;

static double uniform(arena *m) {
    m->state = m->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(m->state >> 11) * 0x1p-53;
}

static float normal(arena *m) {
    double s = 0;
    for (int i = 0; i < 6; i++)
        s += uniform(m) - 0.5;
    return (float)(s * 1.4142135623730951);
}

static void fill(arena *m, float *x, int64_t n, int64_t meaningful, int pattern) {
    for (int64_t i = 0; i < n; i++) {
        switch (pattern) {
        case TIES:
            x[i] = 1.0f + (float)(i % 5) * 0x1p-23f;
            break;
        case SPREAD:
            x[i] = (float)(400 * uniform(m) - 200);
            break;
        case MIXED_INF:
            x[i] = uniform(m) < 0.4 ? -INFINITY : normal(m);
            break;
        case ALL_INF:
            x[i] = -INFINITY;
            break;
        case BIG:
            x[i] = 1e15f * normal(m);
            break;
        case HUGE_VALUES:
            x[i] = uniform(m) < 0.5 ? 3e38f : -3e38f;
            break;
        default:
            x[i] = normal(m);
        }
    }
    if (pattern == ONE_NAN && meaningful > 0)
        x[(int64_t)(uniform(m) * (double)meaningful)] = NAN;
}

/* ---- running */

/* |got - want| as a share of what is allowed: more than 1 is wrong. */
static double share_of(double got, double want, double rel, double abs) {
    if (isnan(want) || isnan(got))
        return isnan(want) == isnan(got) ? 0 : INFINITY;
    if (want == got)
        return 0;
    if (isinf(want) || isinf(got))
        return INFINITY;
    return fabs(got - want) / (rel * fabs(want) + abs);
}

/* Counts what was found at one place; true: it is the slot's first failure, which the caller words. */
static bool found(gm_slot_result *slot, double share) {
    slot->worst = share > slot->worst ? share : slot->worst;
    return share > 1 && slot->failures++ == 0;
}

static void word(arena *m, const test_case *c, const run *r, int pattern, int out, int64_t i, double got, double want) {
    snprintf(m->slot->first, sizeof m->slot->first, "%s n %lld, pattern %d, flag %d, output %d[%lld]: %.9g, reference %.9g", c->what,
             (long long)r->n, pattern, r->flag, out, (long long)i, got, want);
}

static void check(arena *m, const test_case *c, const gm_kernels *k, int pattern, int64_t n, int offset, bool flag) {
    run r[2];
    m->slot->checks++;
    int64_t used = 8 * n + 1024 + 8; /* the most that a case reads or writes of one array, and the offset */
    fill(m, m->inputs[0] + offset, used, n, pattern);
    for (int i = 0; i < OUTPUTS; i++) {
        memcpy(m->results[0][i], m->start[i], (size_t)(GUARD + used + GUARD) * 4);
        memcpy(m->results[1][i], m->start[i], (size_t)(GUARD + used + GUARD) * 4);
    }
    for (int side = 0; side < 2; side++) {
        r[side] = (run){.n = n, .flag = flag};
        for (int i = 0; i < INPUTS; i++)
            r[side].in[i] = m->inputs[i] + offset;
        for (int i = 0; i < OUTPUTS; i++)
            r[side].out[i] = m->results[side][i] + GUARD + offset;
        c->call(side ? k : &gm_kernels_ref, &r[side]);
    }
    double abs = c->abs * (r[0].scale != 0 && isfinite(r[0].scale) ? r[0].scale : 1);
    for (int o = 0; o < OUTPUTS; o++) {
        for (int64_t i = 0; i < r[0].size[o]; i++) {
            if (found(m->slot, share_of(r[1].out[o][i], r[0].out[o][i], c->rel, abs)))
                word(m, c, &r[1], pattern, o, i, r[1].out[o][i], r[0].out[o][i]);
        }
        for (int side = 0; side < 2; side++) {
            const float *now = m->results[side][o], *then = m->start[o];
            int64_t first = GUARD + offset, last = first + r[0].size[o], all = GUARD + used + GUARD;
            bool beyond = memcmp(now, then, (size_t)first * 4) != 0 || memcmp(now + last, then + last, (size_t)(all - last) * 4) != 0;
            if (found(m->slot, beyond ? INFINITY : 0))
                word(m, c, &r[1], pattern, o, -1, NAN, NAN);
        }
    }
    for (int i = 0; i < r[0].values; i++) {
        if (found(m->slot, share_of(r[1].value[i], r[0].value[i], c->rel, abs)))
            word(m, c, &r[1], pattern, -1, i, r[1].value[i], r[0].value[i]);
    }
}

/* The integer tile beside sums in 64 bits: every depth up to 260 and the deepest, where 16-bit and saturating products go wrong. */
static void check_integer_tile(arena *m, const gm_kernels *k) {
    uint8_t *a = m->tile_a;
    int8_t *b = m->tile_b;
    static const struct {
        int a, b; /* 1000: random */
    } fills[] = {{255, 127}, {255, -128}, {0, -128}, {128, -128}, {255, 1000}, {1000, 127}, {1000, -128}, {1000, 1000}};
    for (int f = 0; f < (int)(sizeof fills / sizeof fills[0]); f++) {
        for (int64_t i = 0; i < GM_INT8_M * GM_INT8_DEPTH; i++)
            a[i] = (uint8_t)(fills[f].a == 1000 ? (int)(256 * uniform(m)) : fills[f].a);
        for (int64_t i = 0; i < GM_INT8_N * GM_INT8_DEPTH; i++)
            b[i] = (int8_t)(fills[f].b == 1000 ? (int)(256 * uniform(m)) - 128 : fills[f].b);
        for (int64_t k4 = 0; k4 <= GM_INT8_DEPTH / 4; k4 = k4 == 65 ? GM_INT8_DEPTH / 4 : k4 + 1) {
            int32_t c[GM_INT8_M * GM_INT8_N + 1] = {0};
            int64_t rows = k4 == GM_INT8_DEPTH / 4 ? GM_INT8_M : 1 + (k4 * 5 + f) % GM_INT8_M;
            c[rows * GM_INT8_N] = 77;
            k->u8s8_gemm_tile(c, a, 4 * k4, rows, b, k4);
            m->slot->checks++;
            for (int64_t i = 0; i < rows * GM_INT8_N; i++) {
                int64_t want = 0;
                for (int64_t p = 0; p < 4 * k4; p++)
                    want += a[i / GM_INT8_N * 4 * k4 + p] * b[(p / 4 * GM_INT8_N + i % GM_INT8_N) * 4 + p % 4];
                if (found(m->slot, c[i] != want || c[rows * GM_INT8_N] != 77 ? INFINITY : 0))
                    snprintf(m->slot->first, sizeof m->slot->first, "%d x %d, depth %lld, %lld rows, [%lld]: %d, exactly %lld", fills[f].a,
                             fills[f].b, (long long)(4 * k4), (long long)rows, (long long)i, c[i], (long long)want);
            }
        }
    }
}

/* Values within a few units in the last place of every tie of a grid, where a product by 1/scale and a division round apart. */
static void check_ties(arena *m, const gm_kernels *k) {
    static const float scales[] = {0.1f, 0.037f, 1e-8f, 3.3333333f, 0x1p-7f, 0.00784313772f};
    for (int s = 0; s < (int)(sizeof scales / sizeof scales[0]); s++) {
        for (int i = -300; i <= 300; i++) {
            float x[16], y[2][16] = {{0}}; /* a kernel may write nothing */
            uint8_t q[2][16] = {{0}};
            x[8] = (float)((i + 0.5) * scales[s]);
            for (int j = 8; j > 0; j--)
                x[j - 1] = nextafterf(x[j], -INFINITY);
            for (int j = 8; j < 15; j++)
                x[j + 1] = nextafterf(x[j], INFINITY);
            for (int side = 0; side < 2; side++) {
                const gm_kernels *table = side ? k : &gm_kernels_ref;
                table->f32_quantize_simulate(y[side], x, 16, scales[s], 101, 0, 255);
                table->f32_quantize_u8(q[side], x, 16, scales[s], 101, 255);
            }
            /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): bits are compared */
            bool apart = memcmp(y[0], y[1], sizeof y[0]) != 0 || memcmp(q[0], q[1], sizeof q[0]) != 0;
            m->slot->checks++;
            if (found(m->slot, apart ? INFINITY : 0))
                snprintf(m->slot->first, sizeof m->slot->first, "near the tie %d + 0.5 of scale %g", i, (double)scales[s]);
        }
    }
}

static void run_case(arena *m, const test_case *c, const gm_kernels *k) {
    static const int64_t long_sizes[] = {127, 128, 257, MAX_N};
    for (int pattern = 1; pattern < EVERY; pattern *= 2) {
        for (int64_t s = 0; s < 68 + (int64_t)(sizeof long_sizes / sizeof long_sizes[0]) && c->patterns & pattern; s++) {
            int64_t n = s < 68 ? s : long_sizes[s - 68];
            if (n < c->min_n)
                continue;
            check(m, c, k, pattern, n, (int)(s % 3), s % 2);
            check(m, c, k, pattern, n, (int)(s % 4), !(s % 2));
        }
    }
}

bool gm_kernel_cases_run(const gm_kernels *k, gm_slot_result results[GM_SLOT_COUNT]) {
    arena *m = calloc(1, sizeof *m);
    if (!m)
        return false;
    m->state = 1;
    for (int i = 1; i < INPUTS; i++)
        fill(m, m->inputs[i], CAPACITY + 16, 0, NORMAL);
    for (int i = 0; i < OUTPUTS; i++)
        fill(m, m->start[i], GUARD + CAPACITY + 16 + GUARD, 0, NORMAL);
    for (int s = 0; s < GM_SLOT_COUNT; s++) {
        m->slot = &results[s];
        *m->slot = (gm_slot_result){.name = slots[s]};
        for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
            if (strcmp(cases[i].slot, slots[s]) == 0)
                run_case(m, &cases[i], k);
        }
        if (strcmp(slots[s], "u8s8_gemm_tile") == 0)
            check_integer_tile(m, k);
        if (strcmp(slots[s], "f32_quantize_u8") == 0)
            check_ties(m, k);
        if (m->slot->checks == 0) {
            m->slot->failures = 1;
            snprintf(m->slot->first, sizeof m->slot->first, "has no case");
        }
    }
    free(m);
    return true;
}
