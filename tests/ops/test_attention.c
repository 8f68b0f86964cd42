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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oracle_differences),
        cmocka_unit_test(equals_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
