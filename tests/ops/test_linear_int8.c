/* Linear layers and attention on integers: beside exact sums in 64 bits and a double oracle, on every instruction set and thread count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context.h"
#include "ghostmax_model.h"
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum fill { RANDOM, TOP, BOTTOM, FILLS }; /* random; 255 x 127; 255 x -128 */

typedef struct layer {
    int64_t R, in, out, xs, ys;
    gm_quant_grid grid;
    float *x, *w, *scale, *bias, *y;
    int *a, *q; /* the integers */
} layer;

static layer layer_make(int64_t R, int64_t in, int64_t out, enum fill fill, int zero) {
    layer l = {.R = R, .in = in, .out = out, .xs = in + 3, .ys = out + 5, .grid = {0.037f, zero, 0, 255}};
    l.x = gm_alloc((size_t)(R * l.xs), sizeof(float));
    l.y = gm_alloc((size_t)(R * l.ys), sizeof(float));
    l.w = gm_alloc((size_t)(out * in), sizeof(float));
    l.scale = gm_alloc((size_t)out, sizeof(float));
    l.bias = gm_alloc((size_t)out, sizeof(float));
    l.a = gm_alloc((size_t)(R * in), sizeof(int));
    l.q = gm_alloc((size_t)(out * in), sizeof(int));
    for (int64_t i = 0; i < R * in; i++) {
        double noise = 0.9 * gm_rng_uniform(2, (uint64_t)i) - 0.45; /* x need not lie on the grid */
        l.a[i] = fill == RANDOM ? (int)(256 * gm_rng_uniform(1, (uint64_t)i)) : 255;
        l.x[i / in * l.xs + i % in] = (float)(l.grid.scale * (l.a[i] - zero + noise));
    }
    for (int64_t j = 0; j < out; j++) {
        l.scale[j] = 0.001f * (float)(1 + j % 7);
        l.bias[j] = (float)gm_rng_normal(3, (uint64_t)j);
        for (int64_t p = 0; p < in; p++) {
            int64_t i = j * in + p;
            l.q[i] = fill == RANDOM ? (int)(256 * gm_rng_uniform(4, (uint64_t)i)) - 128 : fill == TOP ? 127 : -128;
            l.w[i] = l.scale[j] * (float)l.q[i];
        }
    }
    return l;
}

static void layer_free(layer *l) {
    void *all[] = {l->x, l->y, l->w, l->scale, l->bias, l->a, l->q};
    for (int i = 0; i < GM_COUNT(all); i++)
        gm_free(all[i]);
}

static void layer_run(const gm_ctx *ctx, layer *l, bool bias) {
    gm_linear_int8 packed;
    const int64_t row = gm_int8_row(l->in);
    void *memory = gm_alloc(gm_linear_int8_bytes(l->in, l->out), 1);
    int8_t *q = gm_alloc((size_t)(l->out * l->in), 1);
    uint8_t *x = gm_alloc((size_t)(l->R * row), 1);
    for (int64_t i = 0; i < l->out * l->in; i++)
        q[i] = (int8_t)l->q[i];
    memset(x, 201, (size_t)(l->R * row)); /* what lies behind a row must not matter */
    for (int64_t i = 0; i < l->R * l->ys; i++)
        l->y[i] = 77;
    gm_quantize_u8(ctx, x, row, l->x, l->xs, l->R, l->in, l->grid);
    gm_linear_int8_pack(&packed, memory, q, l->scale, bias ? l->bias : NULL, l->in, l->out, l->grid);
    for (int64_t i = 0; i < l->out * l->in; i += 7)
        assert_int_equal(gm_linear_int8_weight(&packed, i / l->in, i % l->in), q[i]);
    const gm_int8_product p = {.l = &packed, .y = {.f32 = l->y, .stride = l->ys, .act = GM_INT8_NO_ACT}};
    gm_linear_int8_fwd(ctx, &p, 1, x, row, l->R);
    gm_free(memory);
    gm_free(q);
    gm_free(x);
}

static gm_ctx *context_at(int level, int threads) {
    gm_ctx *ctx;
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = threads, .isa = gm_kernels_at(level)->isa}, NULL), GM_OK);
    return ctx;
}

static void test_exact_sums(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 33}, {8, 64, 32}, {9, 130, 31}, {70, 67, 100}, {300, 36, 65}, {2, 3000, 40}};
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int fill = 0; fill < FILLS; fill++) {
            int zero = fill == RANDOM ? 101 : fill == TOP ? 0 : 255;
            layer l = layer_make(shapes[s][0], shapes[s][1], shapes[s][2], (enum fill)fill, zero);
            gm_ctx *ctx = context_at(0, 1);
            bool bias = s % 2;
            layer_run(ctx, &l, bias);
            for (int64_t r = 0; r < l.R; r++) {
                for (int64_t j = 0; j < l.ys; j++) {
                    float got = l.y[r * l.ys + j];
                    if (j >= l.out) { /* between rows: not written */
                        assert_true(got == 77);
                        continue;
                    }
                    int64_t sum = 0;
                    for (int64_t p = 0; p < l.in; p++)
                        sum += (int64_t)(l.a[r * l.in + p] - zero) * l.q[j * l.in + p];
                    double product = (double)l.grid.scale * l.scale[j] * (double)sum, want = product + (bias ? l.bias[j] : 0);
                    /* the sum, the two scales, their product and the sum with the bias are rounded once each */
                    if (!(fabs(got - want) <= 0x1p-24 * (3 * fabs(product) + fabs(want)) + 1e-30))
                        fail_msg("shape %d, fill %d: y[%lld,%lld] = %.9g, exactly %.9g", s, fill, (long long)r, (long long)j, (double)got,
                                 want);
                }
            }
            gm_ctx_free(ctx);
            layer_free(&l);
        }
    }
}

static void test_same_bits(void **state) {
    (void)state;
    layer want = layer_make(301, 258, 203, RANDOM, 77), got = layer_make(301, 258, 203, RANDOM, 77);
    size_t bytes = (size_t)(want.R * want.ys) * sizeof(float);
    gm_ctx *ctx = context_at(0, 1);
    layer_run(ctx, &want, true);
    gm_ctx_free(ctx);
    for (int level = 0; gm_kernels_at(level); level++) {
        for (int threads = 1; threads <= 3; threads++) {
            ctx = context_at(level, threads);
            layer_run(ctx, &got, true);
            if (memcmp(got.y, want.y, bytes) != 0)
                fail_msg("%s, %d threads: not the reference's bits", gm_ctx_isa(ctx), threads);
            gm_ctx_free(ctx);
        }
    }
    layer_free(&want);
    layer_free(&got);
}

/* Values beyond the grid stop at its ends; a grid of fewer bits ends earlier. */
static void test_grid_ends(void **state) {
    (void)state;
    gm_ctx *ctx = context_at(0, 1);
    layer l = layer_make(1, 3, 1, RANDOM, 10);
    const float x[] = {-INFINITY, 1e30f, 0.5f};
    memcpy(l.x, x, sizeof x);
    l.scale[0] = 1;
    l.q[0] = l.q[1] = l.q[2] = 1;
    l.grid = (gm_quant_grid){0.5f, 10, 0, 63};
    layer_run(ctx, &l, false);
    assert_true(l.y[0] == 0.5f * ((0 - 10) + (63 - 10) + 1));
    l.grid.scale = NAN;
    layer_run(ctx, &l, false);
    assert_true(isnan(l.y[0]));
    assert_true(gm_linear_int8_fits(65536) && !gm_linear_int8_fits(65537));
    layer_free(&l);
    gm_ctx_free(ctx);
}

/* The fused ends -- a grid, an activation and a grid, SwiGLU and a grid -- do what their parts do one after the other. */
static void test_fused_ends(void **state) {
    (void)state;
    enum { R = 37, IN = 50, OUT = 45, STRIDE = 61 };
    const gm_quant_grid to = {0.07f, 90, 0, 200};
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context_at(level, 2);
        layer l = layer_make(R, IN, OUT, RANDOM, 77), u = layer_make(R, IN, OUT, RANDOM, 77);
        const int64_t row = gm_int8_row(IN);
        gm_linear_int8 packed[2];
        void *memory[2];
        int8_t q[OUT * IN];
        uint8_t *x = gm_alloc(R * (size_t)row, 1), want[R * OUT], got[R * STRIDE];
        for (int side = 0; side < 2; side++) {
            for (int i = 0; i < OUT * IN; i++)
                q[i] = (int8_t)(side ? l.q[OUT * IN - 1 - i] : l.q[i]);
            memory[side] = gm_alloc(gm_linear_int8_bytes(IN, OUT), 1);
            gm_linear_int8_pack(&packed[side], memory[side], q, l.scale, l.bias, IN, OUT, l.grid);
        }
        gm_quantize_u8(ctx, x, row, l.x, l.xs, R, IN, l.grid);
        for (int act = GM_INT8_NO_ACT; act <= GM_ACT_SWIGLU; act++) {
            const bool glu = act == GM_ACT_SWIGLU;
            float y[2][R * OUT], both[R * 2 * OUT];
            for (int side = 0; side < 2; side++) {
                const gm_int8_product part = {.l = &packed[side], .y = {.f32 = y[side], .stride = OUT, .act = GM_INT8_NO_ACT}};
                gm_linear_int8_fwd(ctx, &part, 1, x, row, R);
            }
            if (glu) {
                for (int r = 0; r < R; r++) {
                    memcpy(both + r * 2 * OUT, y[0] + r * OUT, OUT * sizeof(float));
                    memcpy(both + r * 2 * OUT + OUT, y[1] + r * OUT, OUT * sizeof(float));
                }
                gm_swiglu_fwd(ctx, y[0], both, R, OUT);
            } else if (act != GM_INT8_NO_ACT) {
                gm_act_fwd(ctx, y[0], y[0], R * OUT, act);
            }
            gm_quantize_u8(ctx, want, OUT, y[0], OUT, R, OUT, to);
            memset(got, 77, sizeof got);
            const gm_int8_product all = {
                .l = &packed[0], .up = glu ? &packed[1] : NULL, .y = {.u8 = got, .stride = STRIDE, .grid = to, .act = act}};
            gm_linear_int8_fwd(ctx, &all, 1, x, row, R);
            for (int i = 0; i < R * STRIDE; i++)
                assert_int_equal(got[i], i % STRIDE < OUT ? want[i / STRIDE * OUT + i % STRIDE] : 77);
        }
        gm_free(memory[0]);
        gm_free(memory[1]);
        gm_free(x);
        layer_free(&l);
        layer_free(&u);
        gm_ctx_free(ctx);
    }
}

/* One row takes another way, several products at once, and has the bits that it has among others: any width, every end. */
static void test_one_row(void **state) {
    (void)state;
    enum { IN = 150, ROW = 192, PARTS = 3 };
    static const int64_t widths[PARTS] = {1100, 33, 290};
    const gm_quant_grid to = {0.07f, 90, 0, 200};
    uint8_t x[2 * ROW];
    gm_linear_int8 packed[2][PARTS];
    void *memory[2][PARTS];
    for (int i = 0; i < 2 * ROW; i++)
        x[i] = (uint8_t)(i % ROW * 37);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < PARTS; i++) {
            layer l = layer_make(1, IN, widths[i], RANDOM, 77);
            int8_t *q = gm_alloc((size_t)(IN * widths[i]), 1);
            for (int64_t j = 0; j < IN * widths[i]; j++)
                q[j] = (int8_t)(side ? l.q[IN * widths[i] - 1 - j] : l.q[j]);
            memory[side][i] = gm_alloc(gm_linear_int8_bytes(IN, widths[i]), 1);
            gm_linear_int8_pack(&packed[side][i], memory[side][i], q, l.scale, l.bias, IN, widths[i], l.grid);
            gm_free(q);
            layer_free(&l);
        }
    }
    for (int level = 0; gm_kernels_at(level); level++) {
        for (int threads = 1; threads <= 3; threads++) {
            gm_ctx *ctx = context_at(level, threads);
            for (int act = GM_INT8_NO_ACT - 1; act <= GM_ACT_SWIGLU; act++) { /* the first: f32 */
                const bool f32 = act < GM_INT8_NO_ACT;
                float y[2][PARTS][2 * 1100];
                uint8_t u[2][PARTS][2 * 1100];
                gm_int8_product p[PARTS];
                for (int rows = 1; rows <= 2; rows++) {
                    for (int i = 0; i < PARTS; i++) {
                        memset(u[rows - 1][i], 77, sizeof u[0][0]);
                        p[i] = (gm_int8_product){
                            .l = &packed[0][i],
                            .up = act == GM_ACT_SWIGLU ? &packed[1][i] : NULL,
                            .y = {.f32 = f32 ? y[rows - 1][i] : NULL, .u8 = u[rows - 1][i], .stride = widths[i], .grid = to, .act = act}};
                    }
                    gm_linear_int8_fwd(ctx, p, PARTS, x, ROW, rows);
                }
                for (int i = 0; i < PARTS; i++) {
                    const size_t n = (size_t)widths[i];
                    if (f32)
                        assert_memory_equal(y[0][i], y[1][i], n * sizeof(float));
                    else
                        assert_memory_equal(u[0][i], u[1][i], n);
                    assert_int_equal(u[0][i][n], 77); /* nothing behind it */
                }
            }
            gm_ctx_free(ctx);
        }
    }
    for (int i = 0; i < 2 * PARTS; i++)
        gm_free(memory[i / PARTS][i % PARTS]);
}

/* ---- attention: every step in double beside it, from the same integers */

typedef struct attention_case {
    int64_t B, T, S, H, KV, D, window;
    float sink, a, c;
    int extreme; /* 0: random integers; 1: 255 x 0 everywhere, 2: 255 x 255 */
} attention_case;

static int integer_at(double x, gm_quant_grid g) {
    double q = nearbyint(x / g.scale) + g.zero;
    return (int)(q < g.qmin ? g.qmin : q > g.qmax ? g.qmax : q);
}

static void check_attention(const gm_ctx *ctx, const attention_case *t) {
    const int64_t row = gm_int8_row(t->H * t->D), kv_row = gm_int8_row(t->KV * t->D), capacity = t->S + 3;
    float sinks[8];
    for (int h = 0; h < 8; h++)
        sinks[h] = t->sink - 0.2f * (float)h;
    gm_attention_int8 a = {.B = t->B,
                           .T = t->T,
                           .H = t->H,
                           .KV = t->KV,
                           .D = t->D,
                           .causal = true,
                           .window = t->window,
                           .scale = 0.11f,
                           .norm = {t->sink, t->a, t->c},
                           .sinks = isfinite(t->sink) ? sinks : NULL,
                           .q = {0.02f, 120, 0, 255},
                           .k = {0.03f, 7, 0, 255},
                           .v = {0.01f, 250, 0, 255},
                           .scores = {0.005f, 128, 0, 255},
                           .weights = {0.004f, 0, 0, 255},
                           .pv = {0.012f, 100, 0, 255},
                           .q_row = row,
                           .o_row = row};
    const size_t each = gm_kv_int8_bytes(t->KV, t->D, capacity);
    uint8_t *q = gm_alloc((size_t)(t->B * t->T * row), 1), *k = gm_alloc((size_t)(t->B * t->S * kv_row), 1);
    uint8_t *v = gm_alloc((size_t)(t->B * t->S * kv_row), 1), *o = gm_alloc((size_t)(t->B * t->T * row), 1), *kv = gm_alloc(t->B * each, 1);
    void *scratch = gm_alloc(gm_attention_int8_scratch_bytes(ctx, t->S), 1);
    memset(kv, 99, t->B * each); /* whatever was there */
    for (int64_t i = 0; i < t->B * t->T * row; i++)
        q[i] = (uint8_t)(t->extreme ? 255 : 256 * gm_rng_uniform(1, (uint64_t)i));
    for (int64_t i = 0; i < t->B * t->S * kv_row; i++) {
        k[i] = (uint8_t)(t->extreme ? (t->extreme == 1 ? 0 : 255) : 256 * gm_rng_uniform(2, (uint64_t)i));
        v[i] = (uint8_t)(t->extreme ? (t->extreme == 1 ? 0 : 255) : 256 * gm_rng_uniform(3, (uint64_t)i));
    }
    gm_attention_int8 all = a;
    all.T = t->S;
    gm_kv_int8_put(ctx, &all, kv, capacity, 0, k, v, kv_row);
    gm_attention_int8_fwd(ctx, &a, o, q, kv, t->S, capacity, scratch);
    int64_t near = 0;
    for (int64_t i = 0; i < t->B * t->T * t->H * t->D; i++) {
        const int64_t d = i % t->D, h = i / t->D % t->H, r = i / t->D / t->H % t->T, b = i / t->D / t->H / t->T;
        const int64_t position = t->S - t->T + r, low = t->window ? GM_MAX(position - t->window + 1, 0) : 0, kh = h / (t->H / t->KV);
        const double sink = a.sinks ? a.sinks[h] : a.norm.sink;
        double s[512], m = sink, z, pv = 0;
        for (int64_t j = low; j <= position; j++) {
            int64_t sum = 0;
            for (int64_t e = 0; e < t->D; e++)
                sum +=
                    ((int)q[(b * t->T + r) * row + h * t->D + e] - a.q.zero) * ((int)k[(b * t->S + j) * kv_row + kh * t->D + e] - a.k.zero);
            double score = (float)(a.scale * a.q.scale * a.k.scale) * (double)sum;
            s[j] = (double)a.scores.scale * (integer_at((float)score, a.scores) - a.scores.zero);
            m = fmax(m, s[j]);
        }
        z = exp(sink - m);
        for (int64_t j = low; j <= position; j++)
            z += exp(s[j] - m);
        for (int64_t j = low; j <= position; j++) {
            double w = fmin(1, fmax(0, a.norm.clip_a * exp(s[j] - m) / z + a.norm.clip_c));
            pv += (double)a.weights.scale * integer_at(w, a.weights) * a.v.scale *
                  ((int)v[(b * t->S + j) * kv_row + kh * t->D + d] - a.v.zero);
        }
        int want = integer_at(pv, a.pv), got = o[(b * t->T + r) * row + h * t->D + d];
        /* a weight between two integers may fall to either side, which moves PV by less than a step or two */
        near += got != want;
        if (abs(got - want) > 2)
            fail_msg("%s, S %lld, D %lld: o[%lld] is %d, exactly %d", gm_ctx_isa(ctx), (long long)t->S, (long long)t->D, (long long)i, got,
                     want);
    }
    if (near * 50 > t->B * t->T * t->H * t->D)
        fail_msg("%s, S %lld, D %lld: %lld integers of %lld differ", gm_ctx_isa(ctx), (long long)t->S, (long long)t->D, (long long)near,
                 (long long)(t->B * t->T * t->H * t->D));
    void *memory[] = {q, k, v, o, kv, scratch};
    for (int i = 0; i < GM_COUNT(memory); i++)
        gm_free(memory[i]);
}

static void test_attention(void **state) {
    (void)state;
    static const attention_case cases[] = {
        {2, 37, 37, 2, 2, 16, 0, -INFINITY, 1, 0, 0}, {1, 5, 70, 4, 2, 18, 0, 0, 1, 0, 0},          {1, 1, 200, 2, 1, 64, 0, 0.5f, 1, 0, 0},
        {1, 90, 90, 1, 1, 33, 7, 0, 1, 0, 0},         {2, 33, 65, 3, 1, 5, 40, 0, 1.1f, -0.02f, 0}, {1, 64, 64, 1, 1, 128, 0, 0, 1, 0, 1},
        {1, 64, 64, 1, 1, 128, 0, 0, 1, 0, 2},        {1, 1, 1, 2, 2, 4, 0, -INFINITY, 1, 0, 0},
    };
    for (int level = 0; gm_kernels_at(level); level++) {
        for (int i = 0; i < GM_COUNT(cases); i++) {
            gm_ctx *ctx = context_at(level, 1 + i % 2);
            check_attention(ctx, &cases[i]);
            gm_ctx_free(ctx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_sums), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_grid_ends),
        cmocka_unit_test(test_fused_ends), cmocka_unit_test(test_one_row),   cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
