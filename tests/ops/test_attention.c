/* test_attention.c -- attention forward and backward on every instruction set, against the double oracle; the traps of DESIGN 1. */
#include "attention_oracle.h"
#include "base.h"
#include "kernels.h"
#include "ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct buffers {
    float *q, *k, *v, *o, *lse, *dout, *dq, *dk, *dv, *dsinks, *sinks;
    void *scratch;
} buffers;

static gm_ctx *context(const char *isa, int threads) {
    gm_ctx *ctx;
    gm_error err = {0};
    if (gm_ctx_create(&ctx, &(gm_ctx_options){.isa = isa, .threads = threads}, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return ctx;
}

static void fill(float *x, int64_t n, double size, const char *name) {
    uint64_t key = gm_rng_key(7, name);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(size * gm_rng_normal(key, (uint64_t)i));
}

/* Contiguous random inputs; sinks per head: -1, -0.25, 0.5, ... non-zero, or NULL. */
static buffers make(const gm_ctx *ctx, const gm_attention_shape *s, double size, bool sinks) {
    const size_t nq = (size_t)oracle_q_size(s), nkv = (size_t)oracle_kv_size(s), rows = (size_t)(s->B * s->H * s->T);
    buffers x = {.q = gm_alloc(nq + 1, 4),
                 .k = gm_alloc(nkv + 1, 4),
                 .v = gm_alloc(nkv + 1, 4),
                 .o = gm_alloc(nq + 1, 4),
                 .lse = gm_alloc(rows + 1, 4),
                 .dout = gm_alloc(nq + 1, 4),
                 .dq = gm_alloc(nq + 1, 4),
                 .dk = gm_alloc(nkv + 1, 4),
                 .dv = gm_alloc(nkv + 1, 4),
                 .dsinks = gm_alloc((size_t)s->H, 4),
                 .sinks = sinks ? gm_alloc((size_t)s->H, 4) : NULL,
                 .scratch = gm_alloc(gm_attention_scratch_bytes(ctx, s, true), 1)};
    fill(x.q, (int64_t)nq, size, "q");
    fill(x.k, (int64_t)nkv, size, "k");
    fill(x.v, (int64_t)nkv, 1, "v");
    fill(x.dout, (int64_t)nq, 1, "dout");
    for (int64_t h = 0; sinks && h < s->H; h++)
        x.sinks[h] = -1 + 0.75f * (float)h;
    return x;
}

static void discard(buffers *x) {
    float *all[] = {x->q, x->k, x->v, x->o, x->lse, x->dout, x->dq, x->dk, x->dv, x->dsinks, x->sinks};
    for (int i = 0; i < GM_COUNT(all); i++)
        gm_free(all[i]);
    gm_free(x->scratch);
}

static void forward(const gm_ctx *ctx, buffers *x, gm_norm norm, const gm_attention_shape *s) {
    gm_error err = {0};
    if (gm_attention_fwd(ctx, x->o, x->lse, x->q, x->k, x->v, x->sinks, norm, s, x->scratch, &err) != GM_OK)
        fail_msg("%s", err.msg);
}

static void backward(const gm_ctx *ctx, buffers *x, gm_norm norm, const gm_attention_shape *s) {
    gm_error err = {0};
    memset(x->dsinks, 0, (size_t)s->H * sizeof(float));
    if (gm_attention_bwd(ctx, x->dq, x->dk, x->dv, x->dsinks, x->dout, x->q, x->k, x->v, x->o, x->lse, x->sinks, norm, s, x->scratch,
                         &err) != GM_OK)
        fail_msg("%s", err.msg);
}

/* ---- the oracle beside it */

static double *widen(const float *x, int64_t n) {
    double *y = calloc((size_t)n + 1, sizeof *y);
    for (int64_t i = 0; x && i < n; i++)
        y[i] = x[i];
    return y;
}

static oracle oracle_make(const buffers *x, gm_norm norm, const gm_attention_shape *s) {
    const int64_t nq = oracle_q_size(s), nkv = oracle_kv_size(s);
    return (oracle){.shape = *s,
                    .norm = norm,
                    .q = widen(x->q, nq),
                    .k = widen(x->k, nkv),
                    .v = widen(x->v, nkv),
                    .sinks = x->sinks ? widen(x->sinks, s->H) : NULL,
                    .o = widen(NULL, nq),
                    .lse = widen(NULL, s->B * s->H * s->T),
                    .dq = widen(NULL, nq),
                    .dk = widen(NULL, nkv),
                    .dv = widen(NULL, nkv),
                    .dsinks = widen(NULL, s->H)};
}

static void oracle_free(oracle *a) {
    double *all[] = {a->q, a->k, a->v, a->sinks, a->o, a->lse, a->dq, a->dk, a->dv, a->dsinks};
    for (int i = 0; i < GM_COUNT(all); i++)
        free(all[i]);
}

/* Error against the largest reference value, so that a wrong small element is not drowned by a tolerance of its own size. */
static void compare(const char *what, const char *where, const float *got, const double *want, int64_t n, double tolerance) {
    double largest = 1;
    for (int64_t i = 0; i < n; i++)
        largest = isfinite(want[i]) ? fmax(largest, fabs(want[i])) : largest;
    for (int64_t i = 0; i < n; i++) {
        bool same = isinf(want[i]) ? got[i] == want[i] : fabs(got[i] - want[i]) <= tolerance * largest;
        if (!same)
            fail_msg("%s %s[%lld] = %.9g, oracle %.9g (of up to %.3g)", where, what, (long long)i, (double)got[i], want[i], largest);
    }
}

static void compare_all(const char *where, const buffers *x, const oracle *a) {
    const gm_attention_shape *s = &a->shape;
    compare("o", where, x->o, a->o, oracle_q_size(s), 2e-6);
    compare("lse", where, x->lse, a->lse, s->B * s->H * s->T, 1e-6);
    compare("dq", where, x->dq, a->dq, oracle_q_size(s), 5e-6);
    compare("dk", where, x->dk, a->dk, oracle_kv_size(s), 5e-6);
    compare("dv", where, x->dv, a->dv, oracle_kv_size(s), 5e-6);
    compare("dsinks", where, x->dsinks, a->dsinks, s->H, 5e-6);
}

static const struct {
    const char *name;
    gm_norm norm;
    bool sinks;
} variants[] = {
    {"softmax", {-INFINITY, 1, 0}, false},           {"softmax1", {0, 1, 0}, false},
    {"softmax_n 0.5", {-0.6931472f, 1, 0}, false},   {"sink", {0, 1, 0}, true},
    {"clipped", {-INFINITY, 1.03f, -0.03f}, false},  {"clipped wide", {-INFINITY, 1.3f, -0.1f}, false},
    {"clipped+softmax1", {0, 1.03f, -0.03f}, false}, {"clipped+sink", {0, 1.1f, -0.05f}, true},
};

/* Shapes around the tile (32 queries, 64 keys), odd D, grouped heads, windows, decoding, more queries than keys (masked rows). */
static const gm_attention_shape shapes[] = {
    {.B = 1, .T = 1, .S = 1, .H = 1, .KV = 1, .D = 1, .causal = true},
    {.B = 2, .T = 5, .S = 5, .H = 2, .KV = 1, .D = 3, .causal = true},
    {.B = 1, .T = 31, .S = 31, .H = 1, .KV = 1, .D = 7, .causal = true},
    {.B = 1, .T = 32, .S = 32, .H = 3, .KV = 3, .D = 16, .causal = true},
    {.B = 2, .T = 33, .S = 33, .H = 4, .KV = 2, .D = 33, .causal = true},
    {.B = 1, .T = 64, .S = 64, .H = 2, .KV = 2, .D = 64, .causal = true, .scale = 0.3f},
    {.B = 1, .T = 65, .S = 65, .H = 2, .KV = 1, .D = 65, .causal = false},
    {.B = 1, .T = 97, .S = 97, .H = 1, .KV = 1, .D = 48, .causal = true, .window = 10},
    {.B = 1, .T = 70, .S = 130, .H = 2, .KV = 1, .D = 20, .causal = true, .window = 65},
    {.B = 1, .T = 40, .S = 40, .H = 1, .KV = 1, .D = 8, .causal = false, .window = 3},
    {.B = 1, .T = 1, .S = 77, .H = 4, .KV = 2, .D = 12, .causal = true},
    {.B = 2, .T = 3, .S = 129, .H = 2, .KV = 2, .D = 31, .causal = true},
    {.B = 1, .T = 40, .S = 7, .H = 2, .KV = 1, .D = 5, .causal = true},
    {.B = 1, .T = 9, .S = 200, .H = 1, .KV = 1, .D = 17, .causal = false},
    {.B = 1, .T = 34, .S = 34, .H = 1, .KV = 1, .D = 256, .causal = true},
    {.B = 2, .T = 135, .S = 160, .H = 4, .KV = 2, .D = 19, .causal = true}, /* enough tiles for backward's copies of K and V */
    {.B = 1, .T = 256, .S = 256, .H = 1, .KV = 1, .D = 32, .causal = true, .window = 100},
    {.B = 1, .T = 17, .S = 17, .H = 1, .KV = 1, .D = 129, .causal = true, .window = 1},
};

static void equals_oracle(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int i = 0; i < GM_COUNT(shapes); i++) {
            for (int n = 0; n < GM_COUNT(variants); n++) {
                const gm_attention_shape *s = &shapes[i];
                buffers x = make(ctx, s, 1, variants[n].sinks);
                oracle a = oracle_make(&x, variants[n].norm, s);
                double *dout = widen(x.dout, oracle_q_size(s));
                forward(ctx, &x, variants[n].norm, s);
                backward(ctx, &x, variants[n].norm, s);
                oracle_run(&a, dout);
                char where[128];
                snprintf(where, sizeof where, "%s, %s, shape %d:", gm_ctx_isa(ctx), variants[n].name, i);
                compare_all(where, &x, &a);
                free(dout);
                oracle_free(&a);
                discard(&x);
            }
        }
        gm_ctx_free(ctx);
    }
}

/* The oracle's own gradients against central differences of its forward pass, every input of a small grouped, windowed case. */
static double oracle_loss(oracle *a, const double *dout) {
    double sum = 0;
    oracle_run(a, NULL);
    for (int64_t i = 0; i < oracle_q_size(&a->shape); i++)
        sum += dout[i] * a->o[i];
    return sum;
}

static void oracle_differences(void **state) {
    (void)state;
    gm_ctx *ctx = context(NULL, 1);
    const gm_attention_shape s = {.B = 2, .T = 5, .S = 7, .H = 4, .KV = 2, .D = 3, .causal = true, .window = 4};
    for (int n = 0; n < GM_COUNT(variants); n++) {
        buffers x = make(ctx, &s, 1, true);
        oracle a = oracle_make(&x, variants[n].norm, &s);
        if (!variants[n].sinks) { /* a constant sink's gradient exists too: it is every head's */
            for (int64_t h = 0; h < s.H; h++)
                a.sinks[h] = variants[n].norm.sink;
        }
        double *dout = widen(x.dout, oracle_q_size(&s));
        oracle_run(&a, dout);
        struct {
            double *value, *gradient;
            int64_t count;
        } inputs[] = {{a.q, a.dq, oracle_q_size(&s)},
                      {a.k, a.dk, oracle_kv_size(&s)},
                      {a.v, a.dv, oracle_kv_size(&s)},
                      {a.sinks, a.dsinks, isinf(a.sinks[0]) ? 0 : s.H}};
        for (int i = 0; i < GM_COUNT(inputs); i++) {
            for (int64_t e = 0; e < inputs[i].count; e++) {
                const double h = 1e-6, at = inputs[i].value[e];
                inputs[i].value[e] = at + h;
                double up = oracle_loss(&a, dout);
                inputs[i].value[e] = at - h;
                double down = oracle_loss(&a, dout);
                inputs[i].value[e] = at;
                double difference = (up - down) / (2 * h);
                if (!(fabs(difference - inputs[i].gradient[e]) <= 1e-7 * fmax(1, fabs(difference))))
                    fail_msg("%s input %d[%lld]: oracle %.12g, differences %.12g", variants[n].name, i, (long long)e, inputs[i].gradient[e],
                             difference);
            }
        }
        if (variants[n].sinks)
            assert_true(fabs(a.dsinks[0]) > 1e-3 && fabs(a.dsinks[3]) > 1e-3); /* a sink's gradient is not silently 0 */
        free(dout);
        oracle_free(&a);
        discard(&x);
    }
    gm_ctx_free(ctx);
}

/* ---- the zero prefix (Miller) */

/* softmax_n for whole n is softmax behind n zero keys with zero values; checked forward and backward. */
static void zero_prefix(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int64_t n = 1; n <= 3; n++) {
            const gm_attention_shape s = {.B = 2, .T = 45, .S = 45, .H = 4, .KV = 2, .D = 24, .causal = true};
            gm_attention_shape longer = s;
            longer.S += n;
            buffers x = make(ctx, &s, 1, false), y = make(ctx, &longer, 1, false);
            const int64_t row = s.KV * s.D;
            memset(y.k, 0, (size_t)oracle_kv_size(&longer) * sizeof(float));
            memset(y.v, 0, (size_t)oracle_kv_size(&longer) * sizeof(float));
            memcpy(y.q, x.q, (size_t)oracle_q_size(&s) * sizeof(float));
            memcpy(y.dout, x.dout, (size_t)oracle_q_size(&s) * sizeof(float));
            for (int64_t b = 0; b < s.B; b++) {
                memcpy(y.k + (b * longer.S + n) * row, x.k + b * s.S * row, (size_t)(s.S * row) * sizeof(float));
                memcpy(y.v + (b * longer.S + n) * row, x.v + b * s.S * row, (size_t)(s.S * row) * sizeof(float));
            }
            const gm_norm sink = {(float)log((double)n), 1, 0};
            forward(ctx, &x, sink, &s);
            backward(ctx, &x, sink, &s);
            forward(ctx, &y, GM_NORM_SOFTMAX, &longer);
            backward(ctx, &y, GM_NORM_SOFTMAX, &longer);
            for (int64_t i = 0; i < oracle_q_size(&s); i++)
                assert_true(fabsf(x.o[i] - y.o[i]) <= 2e-6f && fabsf(x.dq[i] - y.dq[i]) <= 5e-6f);
            for (int64_t i = 0; i < s.B * s.H * s.T; i++)
                assert_true(fabsf(x.lse[i] - y.lse[i]) <= 2e-6f);
            for (int64_t b = 0; b < s.B; b++) {
                for (int64_t i = 0; i < s.S * row; i++) {
                    const int64_t at = b * s.S * row + i, moved = (b * longer.S + n) * row + i;
                    assert_true(fabsf(x.dk[at] - y.dk[moved]) <= 2e-5f && fabsf(x.dv[at] - y.dv[moved]) <= 2e-5f);
                }
            }
            discard(&x);
            discard(&y);
        }
        gm_ctx_free(ctx);
    }
}

/* ---- traps */

/* The sink is neither scaled with QK nor counted once per block of keys: with q = 0 every score is 0 whatever the scale, so that
 * lse = ln(e^b + keys) and the output is e^0 / (e^b + keys) for each key. */
static void sink_counts_once_unscaled(void **state) {
    (void)state;
    static const float scales[] = {0.01f, 0, 1, 30};
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int i = 0; i < GM_COUNT(scales); i++) {
            const gm_attention_shape s = {.B = 1, .T = 40, .S = 300, .H = 3, .KV = 3, .D = 9, .scale = scales[i]};
            buffers x = make(ctx, &s, 1, true);
            memset(x.q, 0, (size_t)oracle_q_size(&s) * sizeof(float));
            for (int64_t e = 0; e < oracle_kv_size(&s); e++)
                x.v[e] = 1;
            forward(ctx, &x, (gm_norm){0, 1, 0}, &s);
            for (int64_t h = 0; h < s.H; h++) {
                const double z = exp((double)x.sinks[h]) + 300;
                for (int64_t t = 0; t < s.T; t++) {
                    assert_true(fabs(x.lse[h * s.T + t] - log(z)) <= 1e-6);
                    assert_true(fabs(x.o[(t * s.H + h) * s.D] - 300 / z) <= 300 * 0x1p-24); /* 300 additions */
                }
            }
            discard(&x);
        }
        gm_ctx_free(ctx);
    }
}

/* Decoding one query with a cache gives the prefill's row, for every variant, to the last bit. */
static void decode_equals_prefill(void **state) {
    (void)state;
    static const int64_t heads[][2] = {{4, 2}, {3, 3}, {37, 1}, {34, 17}}; /* more queries of a key than a tile has lanes, too */
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int n = 0; n < GM_COUNT(variants) * GM_COUNT(heads); n++) {
            const gm_norm norm = variants[n % GM_COUNT(variants)].norm;
            const int64_t H = heads[n / GM_COUNT(variants)][0], KV = heads[n / GM_COUNT(variants)][1], room = 128;
            const gm_attention_shape s = {.B = 2, .T = 100, .S = 100, .H = H, .KV = KV, .D = 20, .causal = true};
            buffers x = make(ctx, &s, 1, variants[n % GM_COUNT(variants)].sinks);
            forward(ctx, &x, norm, &s);
            float *panels = malloc((size_t)(s.B * KV * room * s.D) * sizeof *panels), *values = malloc((size_t)(s.B * KV * room * s.D) * 4);
            for (int64_t i = 0; i < s.B * KV * room * s.D; i++)
                panels[i] = values[i] = NAN; /* nothing behind the last key is read */
            for (int64_t i = 0; i < s.B * s.S * KV * s.D; i++) {
                const int64_t b = i / (s.S * KV * s.D), t = i / (KV * s.D) % s.S, h = i / s.D % KV, d = i % s.D,
                              head = (b * KV + h) * room * s.D;
                panels[head + (t / 32 * s.D + d) * 32 + t % 32] = x.k[i];
                values[head + t * s.D + d] = x.v[i];
            }
            for (int64_t t = 0; t < s.T; t += 9) {
                gm_attention_shape one = s; /* the cache holds 100 rows, t + 1 of them filled */
                one.T = 1;
                one.S = t + 1;
                one.kv_row = KV * s.D;
                one.kv_batch = s.S * one.kv_row;
                one.q_row = H * s.D;
                one.q_batch = s.T * one.q_row;
                for (int in_panels = 0; in_panels < 2; in_panels++) {
                    float o[2 * 37 * 20], lse[2 * 37];
                    gm_error err;
                    if (in_panels) {
                        one.key_panels = true;
                        one.kv_row = s.D;
                        one.kv_head = room * s.D;
                        one.kv_batch = KV * one.kv_head;
                    }
                    assert_int_equal(gm_attention_fwd(ctx, o, lse, x.q + t * one.q_row, in_panels ? panels : x.k, in_panels ? values : x.v,
                                                      x.sinks, norm, &one, x.scratch, &err),
                                     GM_OK);
                    for (int64_t b = 0; b < s.B; b++) {
                        assert_memory_equal(o + b * H * s.D, x.o + (b * s.T + t) * H * s.D, (size_t)(H * s.D) * sizeof(float));
                        for (int64_t h = 0; h < H; h++)
                            assert_true(lse[b * H + h] == x.lse[(b * H + h) * s.T + t]);
                    }
                }
            }
            for (int64_t window = 0; window < 70; window += 23) { /* a piece of a sequence over panels = the same over rows */
                gm_attention_shape piece = s;
                piece.T = 40;
                piece.window = window;
                piece.q_batch = s.T * H * s.D;
                float *o = malloc((size_t)(2 * piece.B * piece.T * H * s.D) * sizeof *o), *again = o + piece.B * piece.T * H * s.D;
                gm_error err;
                assert_int_equal(gm_attention_fwd(ctx, o, NULL, x.q, x.k, x.v, x.sinks, norm, &piece, x.scratch, &err), GM_OK);
                piece.key_panels = true;
                assert_int_equal(gm_attention_fwd(ctx, again, NULL, x.q, panels, values, x.sinks, norm, &piece, x.scratch, &err),
                                 GM_EINVAL);
                piece.kv_row = s.D;
                piece.kv_head = room * s.D;
                piece.kv_batch = KV * piece.kv_head;
                assert_int_equal(gm_attention_fwd(ctx, again, NULL, x.q, panels, values, x.sinks, norm, &piece, x.scratch, &err), GM_OK);
                for (int64_t i = 0; i < piece.B * piece.T * H * s.D; i++)
                    assert_true(window ? fabsf(o[i] - again[i]) <= 1e-6f : o[i] == again[i]); /* a window's panel begins before it */
                assert_int_equal(gm_attention_bwd(ctx, o, NULL, NULL, NULL, again, x.q, panels, values, o, x.lse, x.sinks, norm, &piece,
                                                  x.scratch, &err),
                                 GM_EINVAL);
                free(o);
            }
            free(panels);
            free(values);
            discard(&x);
        }
        gm_ctx_free(ctx);
    }
}

/* More queries than keys: the first ones see nothing. They give 0, lse = b, and no gradient, and disturb nobody. */
static void fully_masked_queries(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int n = 0; n < GM_COUNT(variants); n++) {
            const gm_attention_shape s = {.B = 1, .T = 50, .S = 6, .H = 2, .KV = 1, .D = 8, .causal = true};
            buffers x = make(ctx, &s, 1, variants[n].sinks);
            forward(ctx, &x, variants[n].norm, &s);
            backward(ctx, &x, variants[n].norm, &s);
            for (int64_t t = 0; t < 44; t++) {
                for (int64_t h = 0; h < s.H; h++) {
                    assert_true(x.lse[h * s.T + t] == (x.sinks ? x.sinks[h] : variants[n].norm.sink));
                    for (int64_t d = 0; d < s.D; d++) {
                        const int64_t at = (t * s.H + h) * s.D + d;
                        assert_true(x.o[at] == 0 && x.dq[at] == 0);
                    }
                }
            }
            discard(&x);
        }
        gm_ctx_free(ctx);
    }
}

/* Scores of +-1e4 and beyond, as from an exploding head: the definition still holds where it is representable. */
static void large_scores(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int n = 0; n < GM_COUNT(variants); n++) {
            const gm_attention_shape s = {.B = 1, .T = 37, .S = 37, .H = 1, .KV = 1, .D = 1, .scale = 1, .causal = true};
            buffers x = make(ctx, &s, 1, variants[n].sinks);
            for (int64_t t = 0; t < s.T; t++) { /* exact products: scores 1e4 (1 + j), of both signs, and +-2^100 */
                x.q[t] = t % 3 == 0 ? 10000 : t % 3 == 1 ? -10000 : 0x1p50f;
                x.k[t] = (t % 5 == 0 ? 0x1p50f : (float)(1 + t)) * (t % 2 ? 1 : -1);
            }
            oracle a = oracle_make(&x, variants[n].norm, &s);
            forward(ctx, &x, variants[n].norm, &s);
            oracle_run(&a, NULL);
            char where[96];
            snprintf(where, sizeof where, "%s, %s, large scores:", gm_ctx_isa(ctx), variants[n].name);
            compare("o", where, x.o, a.o, s.T, 2e-6);
            compare("lse", where, x.lse, a.lse, s.T, 1e-6);
            oracle_free(&a);
            discard(&x);
        }
        gm_ctx_free(ctx);
    }
}

/* A NaN in a query is that query's; in a key it reaches every query that sees the key, and no earlier one; the clip does not hide it. */
static void nan_stays(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int n = 0; n < GM_COUNT(variants); n++) {
            const gm_attention_shape s = {.B = 1, .T = 70, .S = 70, .H = 1, .KV = 1, .D = 19, .causal = true};
            for (int64_t bad = 0; bad < 70; bad += 23) {
                for (int side = 0; side < 2; side++) {
                    buffers x = make(ctx, &s, 1, variants[n].sinks);
                    (side ? x.k : x.q)[bad * s.D + 18] = NAN;
                    forward(ctx, &x, variants[n].norm, &s);
                    for (int64_t t = 0; t < s.T; t++) {
                        const bool hit = side ? t >= bad : t == bad;
                        assert_true(!isnan(x.lse[t]) == !hit);
                        for (int64_t d = 0; d < s.D; d++)
                            assert_true(!isnan(x.o[t * s.D + d]) == !hit);
                    }
                    backward(ctx, &x, variants[n].norm, &s);
                    for (int64_t d = 0; d < s.D; d++)
                        assert_true(isnan(x.dq[bad * s.D + d]));
                    discard(&x);
                }
            }
        }
        gm_ctx_free(ctx);
    }
}

/* ---- order, layout, interface */

static void thread_count(void **state) {
    (void)state;
    static const int counts[] = {2, 3, 7};
    const gm_attention_shape s = {.B = 3, .T = 90, .S = 100, .H = 6, .KV = 2, .D = 21, .causal = true, .window = 50};
    const int64_t nq = oracle_q_size(&s), nkv = oracle_kv_size(&s);
    for (int level = 0; gm_kernels_at(level); level++) {
        for (int n = 0; n < GM_COUNT(variants); n++) {
            gm_ctx *one = context(gm_kernels_at(level)->isa, 1);
            buffers x = make(one, &s, 1, true);
            forward(one, &x, variants[n].norm, &s);
            backward(one, &x, variants[n].norm, &s);
            for (int i = 0; i < GM_COUNT(counts); i++) {
                gm_ctx *many = context(gm_kernels_at(level)->isa, counts[i]);
                buffers y = make(many, &s, 1, true);
                forward(many, &y, variants[n].norm, &s);
                backward(many, &y, variants[n].norm, &s);
                assert_memory_equal(x.o, y.o, (size_t)nq * 4);
                assert_memory_equal(x.lse, y.lse, (size_t)(s.B * s.H * s.T) * 4);
                assert_memory_equal(x.dq, y.dq, (size_t)nq * 4);
                assert_memory_equal(x.dk, y.dk, (size_t)nkv * 4);
                assert_memory_equal(x.dv, y.dv, (size_t)nkv * 4);
                assert_memory_equal(x.dsinks, y.dsinks, (size_t)s.H * 4);
                discard(&y);
                gm_ctx_free(many);
            }
            discard(&x);
            gm_ctx_free(one);
        }
    }
}

/* q, k and v side by side in one buffer, as a fused projection leaves them, and o with a gap between rows; nothing else is touched. */
static void run_strides(int64_t T) {
    gm_ctx *ctx = context(NULL, 2);
    const gm_attention_shape s = {.B = 2, .T = T, .S = T, .H = 4, .KV = 2, .D = 10, .causal = true};
    const int64_t q_width = s.H * s.D, kv_width = s.KV * s.D, row = q_width + 2 * kv_width + 3, o_row = q_width + 5, rows = s.B * s.T;
    gm_attention_shape strided = s;
    strided.q_row = strided.kv_row = row;
    strided.q_batch = strided.kv_batch = s.T * row;
    strided.o_row = o_row;
    strided.o_batch = s.T * o_row;
    const gm_norm norm = {0, 1.03f, -0.03f};
    buffers x = make(ctx, &s, 1, true), y = make(ctx, &s, 1, true);
    float *qkv = gm_alloc((size_t)(rows * row), 4), *dqkv = gm_alloc((size_t)(rows * row), 4);
    float *o = gm_alloc((size_t)(rows * o_row), 4), *dout = gm_alloc((size_t)(rows * o_row), 4);
    for (int64_t i = 0; i < rows * row; i++)
        dqkv[i] = qkv[i] = 99;
    for (int64_t i = 0; i < rows * o_row; i++)
        o[i] = dout[i] = 99;
    for (int64_t r = 0; r < rows; r++) {
        memcpy(qkv + r * row, x.q + r * q_width, (size_t)q_width * 4);
        memcpy(qkv + r * row + q_width, x.k + r * kv_width, (size_t)kv_width * 4);
        memcpy(qkv + r * row + q_width + kv_width, x.v + r * kv_width, (size_t)kv_width * 4);
        memcpy(dout + r * o_row, x.dout + r * q_width, (size_t)q_width * 4);
    }
    forward(ctx, &x, norm, &s);
    backward(ctx, &x, norm, &s);
    const float *k = qkv + q_width, *v = k + kv_width;
    gm_error err;
    assert_int_equal(gm_attention_fwd(ctx, o, y.lse, qkv, k, v, x.sinks, norm, &strided, x.scratch, &err), GM_OK);
    assert_int_equal(gm_attention_bwd(ctx, dqkv, dqkv + q_width, dqkv + q_width + kv_width, y.dsinks, dout, qkv, k, v, o, y.lse, x.sinks,
                                      norm, &strided, x.scratch, &err),
                     GM_OK);
    for (int64_t r = 0; r < rows; r++) {
        assert_memory_equal(o + r * o_row, x.o + r * q_width, (size_t)q_width * 4);
        assert_memory_equal(dqkv + r * row, x.dq + r * q_width, (size_t)q_width * 4);
        assert_memory_equal(dqkv + r * row + q_width, x.dk + r * kv_width, (size_t)kv_width * 4);
        assert_memory_equal(dqkv + r * row + q_width + kv_width, x.dv + r * kv_width, (size_t)kv_width * 4);
        assert_true(o[r * o_row + q_width] == 99 && o[r * o_row + o_row - 1] == 99);
        assert_true(dqkv[r * row + row - 3] == 99 && dqkv[r * row + row - 1] == 99);
    }
    assert_memory_equal(x.lse, y.lse, (size_t)(s.B * s.H * s.T) * 4);
    assert_memory_equal(x.dsinks, y.dsinks, (size_t)s.H * 4);
    gm_free(qkv), gm_free(dqkv), gm_free(o), gm_free(dout);
    discard(&x);
    discard(&y);
    gm_ctx_free(ctx);
}

static void strides(void **state) {
    (void)state;
    run_strides(37);
    run_strides(140); /* backward on copies of K and V */
}

/* Scratch is what the function says, not more, and linear in T. Gradients that are not wanted change nothing; dsinks accumulates. */
static void scratch_and_partial_gradients(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int i = 0; i < GM_COUNT(shapes); i++) {
            const gm_attention_shape *s = &shapes[i];
            const gm_norm norm = {0.5f, 1.2f, -0.1f};
            buffers x = make(ctx, s, 1, true);
            for (int backwards = 0; backwards < 2; backwards++) {
                const size_t bytes = gm_attention_scratch_bytes(ctx, s, backwards);
                unsigned char *room = gm_alloc(bytes + 64, 1);
                gm_free(x.scratch);
                x.scratch = room;
                memset(room + bytes, 0xa5, 64);
                if (backwards)
                    backward(ctx, &x, norm, s);
                else
                    forward(ctx, &x, norm, s);
                for (int b = 0; b < 64; b++)
                    assert_int_equal(room[bytes + (size_t)b], 0xa5);
            }
            buffers y = make(ctx, s, 1, true);
            gm_error err;
            for (int64_t h = 0; h < s->H; h++)
                y.dsinks[h] = 5;
            assert_int_equal(
                gm_attention_bwd(ctx, y.dq, NULL, NULL, NULL, x.dout, x.q, x.k, x.v, x.o, x.lse, x.sinks, norm, s, y.scratch, &err), GM_OK);
            assert_int_equal(
                gm_attention_bwd(ctx, NULL, y.dk, NULL, y.dsinks, x.dout, x.q, x.k, x.v, x.o, x.lse, x.sinks, norm, s, y.scratch, &err),
                GM_OK);
            assert_int_equal(
                gm_attention_bwd(ctx, NULL, NULL, y.dv, NULL, x.dout, x.q, x.k, x.v, x.o, x.lse, x.sinks, norm, s, y.scratch, &err), GM_OK);
            assert_memory_equal(x.dq, y.dq, (size_t)oracle_q_size(s) * 4);
            assert_memory_equal(x.dk, y.dk, (size_t)oracle_kv_size(s) * 4);
            assert_memory_equal(x.dv, y.dv, (size_t)oracle_kv_size(s) * 4);
            for (int64_t h = 0; h < s->H; h++)
                assert_true(fabsf(y.dsinks[h] - 5 - x.dsinks[h]) <= 1e-5f);
            discard(&x);
            discard(&y);
        }
        gm_attention_shape s = {.B = 4, .T = 4096, .S = 4096, .H = 8, .KV = 8, .D = 64, .causal = true};
        const size_t once = gm_attention_scratch_bytes(ctx, &s, true);
        s.T = s.S = 8192;
        assert_true(gm_attention_scratch_bytes(ctx, &s, true) <= 2 * once);
        gm_ctx_free(ctx);
    }
}

static void bad_arguments(void **state) {
    (void)state;
    gm_ctx *ctx = context("ref", 1);
    const gm_attention_shape good = {.B = 1, .T = 4, .S = 4, .H = 4, .KV = 2, .D = 8, .causal = true};
    buffers x = make(ctx, &good, 1, false);
    gm_error err;
    static const struct {
        gm_attention_shape shape;
        const char *word;
    } cases[] = {
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 3, .D = 8}, "KV must divide H"},
        {{.B = 1, .T = 4, .S = 4, .H = 0, .KV = 1, .D = 8}, "H 0"},
        {{.B = 1, .T = 4, .S = 4, .H = 1, .KV = 0, .D = 8}, "KV 0"},
        {{.B = -1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 8}, "B -1"},
        {{.B = 1, .T = -4, .S = 4, .H = 4, .KV = 4, .D = 8}, "T -4"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 0}, "D is 0"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 257}, "D is 257"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 8, .window = -1}, "window -1"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 8, .scale = NAN}, "scale is nan"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 8, .q_row = 31}, "stride"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 8, .kv_row = 8}, "stride"},
        {{.B = 1, .T = 4, .S = 4, .H = 4, .KV = 4, .D = 8, .o_row = -32}, "stride"},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        assert_int_equal(gm_attention_fwd(ctx, x.o, x.lse, x.q, x.k, x.v, NULL, GM_NORM_SOFTMAX, &cases[i].shape, x.scratch, &err),
                         GM_EINVAL);
        if (!strstr(err.msg, cases[i].word))
            fail_msg("the message lacks \"%s\": %s", cases[i].word, err.msg);
        assert_int_equal(gm_attention_bwd(ctx, x.dq, x.dk, x.dv, NULL, x.dout, x.q, x.k, x.v, x.o, x.lse, NULL, GM_NORM_SOFTMAX,
                                          &cases[i].shape, x.scratch, &err),
                         GM_EINVAL);
    }
    assert_int_equal(gm_attention_fwd(ctx, x.o, x.lse, x.q, x.k, x.v, NULL, (gm_norm){0, 1, 0.5f}, &good, x.scratch, &err), GM_EINVAL);
    assert_int_equal(gm_attention_fwd(ctx, NULL, x.lse, x.q, x.k, x.v, NULL, GM_NORM_SOFTMAX, &good, x.scratch, &err), GM_EINVAL);
    assert_int_equal(gm_attention_fwd(ctx, x.o, x.lse, x.q, x.k, NULL, NULL, GM_NORM_SOFTMAX, &good, x.scratch, &err), GM_EINVAL);
    assert_int_equal(gm_attention_fwd(ctx, x.o, x.lse, x.q, x.k, x.v, NULL, GM_NORM_SOFTMAX, &good, NULL, &err), GM_EINVAL);
    assert_int_equal(
        gm_attention_bwd(ctx, NULL, NULL, NULL, NULL, x.dout, x.q, x.k, x.v, x.o, x.lse, NULL, GM_NORM_SOFTMAX, &good, x.scratch, &err),
        GM_EINVAL);
    assert_int_equal(
        gm_attention_bwd(ctx, x.dq, x.dk, x.dv, NULL, x.dout, x.q, x.k, x.v, x.o, NULL, NULL, GM_NORM_SOFTMAX, &good, x.scratch, &err),
        GM_EINVAL);
    gm_attention_shape empty = good; /* nothing to do is no error */
    empty.B = 0;
    assert_int_equal(gm_attention_fwd(ctx, NULL, NULL, NULL, NULL, NULL, NULL, GM_NORM_SOFTMAX, &empty, NULL, &err), GM_OK);
    discard(&x);
    gm_ctx_free(ctx);
}

/* ---- the observed form */

typedef struct watch {
    int calls;
    const gm_attention_shape *shape;
    gm_norm norm;
    double row_error;
} watch;

static void watch_tap(void *user, int what, int64_t b, int64_t h, float *x, int64_t rows, int64_t cols, int64_t stride,
                      const float *null_mass) {
    watch *w = user;
    const gm_attention_shape *s = w->shape;
    assert_int_equal(w->calls, (int)(3 * (b * s->H + h)) + what); /* scores, weights, pv of every head in order */
    w->calls++;
    assert_int_equal(rows, s->T);
    assert_int_equal(cols, what == 2 ? s->D : s->T);
    assert_true((null_mass != NULL) == (what == 1));
    if (what != 1)
        return;
    for (int64_t t = 0; t < rows; t++) {
        double sum = 0;
        for (int64_t j = 0; j < cols; j++) {
            sum += x[t * stride + j];
            if (!oracle_sees(s, t, j))
                assert_true(x[t * stride + j] == 0); /* the clip gives masked positions nothing */
        }
        if (w->norm.clip_a == 1)
            w->row_error = fmax(w->row_error, fabs(sum + null_mass[t] - 1));
    }
}

static void scale_tap(void *user, int what, int64_t b, int64_t h, float *x, int64_t rows, int64_t cols, int64_t stride,
                      const float *null_mass) {
    (void)b, (void)h, (void)null_mass;
    for (int64_t r = 0; r < rows && what == *(int *)user; r++) {
        for (int64_t c = 0; c < cols; c++)
            x[r * stride + c] *= 2;
    }
}

static void observed_equals_forward(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(gm_kernels_at(level)->isa, 2);
        for (int i = 0; i < GM_COUNT(shapes); i++) {
            const gm_attention_shape *s = &shapes[i];
            if (s->T != s->S)
                continue;
            float *scratch = gm_alloc((size_t)(2 * s->T * s->T + s->T), 4);
            for (int n = 0; n < GM_COUNT(variants); n++) {
                buffers x = make(ctx, s, 1, variants[n].sinks), y = make(ctx, s, 1, variants[n].sinks);
                forward(ctx, &x, variants[n].norm, s);
                watch w = {.shape = s, .norm = variants[n].norm};
                gm_attention_observed(ctx, y.o, y.q, y.k, y.v, y.sinks, variants[n].norm, s, &(gm_attention_tap){watch_tap, &w}, scratch);
                assert_int_equal(w.calls, (int)(3 * s->B * s->H));
                assert_true(w.row_error <= 2e-6);
                double *plain = widen(x.o, oracle_q_size(s));
                compare("o", "observed", y.o, plain, oracle_q_size(s), 4e-6);
                for (int64_t e = 0; e < oracle_q_size(s); e++)
                    plain[e] *= 2;
                for (int what = 1; what <= 2; what++) { /* a tap may change what passes: weights and PV enter o linearly */
                    gm_attention_observed(ctx, y.o, y.q, y.k, y.v, y.sinks, variants[n].norm, s, &(gm_attention_tap){scale_tap, &what},
                                          scratch);
                    compare("o", "observed and doubled", y.o, plain, oracle_q_size(s), 4e-6);
                }
                free(plain);
                discard(&x);
                discard(&y);
            }
            gm_free(scratch);
        }
        gm_ctx_free(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oracle_differences),
        cmocka_unit_test(equals_oracle),
        cmocka_unit_test(zero_prefix),
        cmocka_unit_test(sink_counts_once_unscaled),
        cmocka_unit_test(decode_equals_prefill),
        cmocka_unit_test(fully_masked_queries),
        cmocka_unit_test(large_scores),
        cmocka_unit_test(nan_stays),
        cmocka_unit_test(thread_count),
        cmocka_unit_test(strides),
        cmocka_unit_test(scratch_and_partial_gradients),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(observed_equals_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
