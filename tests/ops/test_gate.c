/* test_gate.c -- every kind of gate: forward and every gradient against a double model of it and its central differences, on every
 * instruction set. */
#include "base.h"
#include "ghostmax_model.h"
#include "kernels.h"
#include "ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { X, W1, B1, W2, B2, O, INPUTS };

typedef struct gate_case {
    gm_gate_shape shape;
    int64_t size[INPUTS];
    double *in[INPUTS];
    double *dgated;
    int64_t width; /* of g */
} gate_case;

static gate_case case_make(gm_gate_kind kind, int64_t R, int64_t C, int64_t H, int64_t D, int64_t hidden) {
    gate_case c = {.shape = {.kind = (int)kind, .R = R, .C = C, .H = H, .D = D, .hidden = kind == GM_GATE_MLP ? hidden : 0}};
    c.width = kind == GM_GATE_CHANNEL ? H * D : H;
    const int64_t units = kind == GM_GATE_MLP ? H * hidden : c.width;
    c.size[X] = R * C;
    c.size[W1] = units * (kind == GM_GATE_LINEAR || kind == GM_GATE_MLP ? C / H : C);
    c.size[B1] = units;
    c.size[W2] = kind == GM_GATE_MLP ? H * hidden : 0;
    c.size[B2] = kind == GM_GATE_MLP ? H : 0;
    c.size[O] = R * H * D;
    for (int i = 0; i < INPUTS; i++) {
        uint64_t key = gm_rng_key(3 + (uint64_t)i, "gate");
        c.in[i] = calloc((size_t)c.size[i] + 1, sizeof(double));
        for (int64_t e = 0; e < c.size[i]; e++)
            c.in[i][e] = (float)(0.5 * gm_rng_normal(key, (uint64_t)e)); /* floats, so that both sides see the same */
    }
    c.dgated = calloc((size_t)c.size[O], sizeof(double));
    for (int64_t e = 0; e < c.size[O]; e++)
        c.dgated[e] = (float)gm_rng_normal(gm_rng_key(99, "dgated"), (uint64_t)e);
    return c;
}

static void case_free(gate_case *c) {
    for (int i = 0; i < INPUTS; i++)
        free(c->in[i]);
    free(c->dgated);
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* One gate value from the definition. */
static double gate_of(const gate_case *c, int64_t r, int64_t unit) {
    const gm_gate_shape *s = &c->shape;
    const double *x = c->in[X] + r * s->C;
    const int64_t slice = s->C / s->H;
    double logit = 0;
    switch (s->kind) {
    case GM_GATE_LINEAR:
        logit = c->in[B1][unit];
        for (int64_t i = 0; i < slice; i++)
            logit += c->in[W1][unit * slice + i] * x[unit * slice + i];
        break;
    case GM_GATE_MLP:
        logit = c->in[B2][unit];
        for (int64_t u = 0; u < s->hidden; u++) {
            double z = c->in[B1][unit * s->hidden + u];
            for (int64_t i = 0; i < slice; i++)
                z += c->in[W1][(unit * s->hidden + u) * slice + i] * x[unit * slice + i];
            logit += c->in[W2][unit * s->hidden + u] * fmax(z, 0);
        }
        break;
    default:
        logit = c->in[B1][unit];
        for (int64_t i = 0; i < s->C; i++)
            logit += c->in[W1][unit * s->C + i] * x[i];
    }
    return sigmoid(logit);
}

/* sum dgated * gated: its derivatives are the gradients. out (NULL: not wanted) receives the gated values. */
static double gate_loss(const gate_case *c, double *out) {
    const gm_gate_shape *s = &c->shape;
    double sum = 0;
    for (int64_t r = 0; r < s->R; r++) {
        for (int64_t i = 0; i < s->H * s->D; i++) {
            const int64_t at = r * s->H * s->D + i;
            double y = gate_of(c, r, s->kind == GM_GATE_CHANNEL ? i : i / s->D) * c->in[O][at];
            sum += c->dgated[at] * y;
            if (out)
                out[at] = y;
        }
    }
    return sum;
}

static float *narrow(const double *x, int64_t n) {
    float *y = gm_alloc((size_t)n + 1, sizeof *y);
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)x[i];
    return y;
}

static void close_to(const char *where, float got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%s: %.9g, expected %.9g", where, (double)got, want);
}

static void run_case(const gm_ctx *ctx, gate_case *c) {
    const gm_gate_shape *s = &c->shape;
    const int64_t HD = s->H * s->D;
    float *in[INPUTS], *grad[INPUTS];
    for (int i = 0; i < INPUTS; i++) {
        in[i] = narrow(c->in[i], c->size[i]);
        grad[i] = gm_alloc((size_t)c->size[i] + 1, sizeof(float));
        for (int64_t e = 0; e < c->size[i] && i != O; e++)
            grad[i][e] = 0.25f; /* they accumulate */
    }
    float *g = gm_alloc((size_t)(s->R * c->width), 4), *hidden = gm_alloc((size_t)(s->R * s->H * s->hidden) + 1, 4);
    float *gated = gm_alloc((size_t)(s->R * HD), 4), *scratch = gm_alloc((size_t)(s->R * GM_MAX(c->width, s->H * (1 + s->hidden))), 4);
    double *want = calloc((size_t)(s->R * HD), sizeof *want);
    char where[96];
    gm_gate_fwd(ctx, g, hidden, in[X], in[W1], in[B1], in[W2], in[B2], s);
    gm_gate_apply(ctx, gated, in[O], g, s);
    gate_loss(c, want);
    for (int64_t i = 0; i < s->R * HD; i++) {
        snprintf(where, sizeof where, "%s kind %d gated[%lld]", gm_ctx_isa(ctx), s->kind, (long long)i);
        close_to(where, gated[i], want[i], 1e-6);
    }
    float *dgated = narrow(c->dgated, s->R * HD); /* dout takes its place */
    gm_gate_bwd(ctx, dgated, grad[X], grad[W1], grad[B1], grad[W2], grad[B2], dgated, in[O], g, hidden, in[X], in[W1], in[W2], s, scratch);
    memcpy(grad[O], dgated, (size_t)c->size[O] * sizeof(float));
    for (int i = 0; i < INPUTS; i++) {
        for (int64_t e = 0; e < c->size[i]; e++) {
            const double h = 1e-5, at = c->in[i][e];
            c->in[i][e] = at + h;
            double up = gate_loss(c, NULL);
            c->in[i][e] = at - h;
            double down = gate_loss(c, NULL);
            c->in[i][e] = at;
            snprintf(where, sizeof where, "%s kind %d gradient of input %d[%lld]", gm_ctx_isa(ctx), s->kind, i, (long long)e);
            close_to(where, grad[i][e] - (i == O ? 0 : 0.25f), (up - down) / (2 * h), 3e-6);
        }
    }
    for (int i = 0; i < INPUTS; i++) {
        gm_free(in[i]);
        gm_free(grad[i]);
    }
    gm_free(g), gm_free(hidden), gm_free(gated), gm_free(scratch), gm_free(dgated), free(want);
}

static void every_kind(void **state) {
    (void)state;
    static const gm_gate_kind kinds[] = {GM_GATE_LINEAR, GM_GATE_MLP, GM_GATE_ALL_HEADS, GM_GATE_CHANNEL};
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx;
        assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 2, .isa = gm_kernels_at(level)->isa}, NULL), GM_OK);
        for (int i = 0; i < GM_COUNT(kinds); i++) {
            gate_case c = case_make(kinds[i], 5, 12, 3, 4, 4);
            run_case(ctx, &c);
            case_free(&c);
            c = case_make(kinds[i], 7, 22, 2, 5, 1); /* the heads' width is not the model's */
            run_case(ctx, &c);
            case_free(&c);
        }
        gm_ctx_free(ctx);
    }
}

/* Saturated gates and NaN: no overflow on the way, NaN stays. */
static void extremes(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        const float x[] = {0, 1000, -1000, 88.8f, -88.8f, -104, INFINITY, -INFINITY, NAN, 1};
        float y[GM_COUNT(x)];
        gm_kernels_at(level)->f32_sigmoid(y, x, GM_COUNT(x));
        for (int i = 0; i < GM_COUNT(x); i++) {
            double want = sigmoid(x[i]);
            bool fine = isnan(want) ? isnan(y[i]) : fabs(y[i] - want) <= 2e-7 * want + 1e-38;
            if (!fine)
                fail_msg("%s: sigmoid(%g) = %g", gm_kernels_at(level)->isa, (double)x[i], (double)y[i]);
        }
    }
}

/* Large enough for several threads: the same bits for any number of them (matrix products apart, so linear and mlp). */
static void thread_count(void **state) {
    (void)state;
    static const gm_gate_kind kinds[] = {GM_GATE_LINEAR, GM_GATE_MLP};
    for (int i = 0; i < GM_COUNT(kinds); i++) {
        gate_case c = case_make(kinds[i], 700, 48, 3, 16, 4);
        const gm_gate_shape *s = &c.shape;
        float *in[INPUTS], *first = NULL;
        for (int n = 0; n < INPUTS; n++)
            in[n] = narrow(c.in[n], c.size[n]);
        const int64_t total = c.size[X] + c.size[W1] + c.size[B1] + c.size[W2] + c.size[B2] + c.size[O];
        for (int threads = 1; threads <= 5; threads += 2) {
            gm_ctx *ctx;
            assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = threads}, NULL), GM_OK);
            float *g = gm_alloc((size_t)(s->R * c.width), 4), *hidden = gm_alloc((size_t)(s->R * s->H * s->hidden) + 1, 4);
            float *scratch = gm_alloc((size_t)(s->R * s->H * (1 + s->hidden)), 4), *all = gm_alloc((size_t)total, 4);
            float *dx = all, *dw1 = dx + c.size[X], *db1 = dw1 + c.size[W1], *dw2 = db1 + c.size[B1], *db2 = dw2 + c.size[W2],
                  *dout = db2 + c.size[B2];
            float *dgated = narrow(c.dgated, c.size[O]);
            gm_gate_fwd(ctx, g, hidden, in[X], in[W1], in[B1], in[W2], in[B2], s);
            gm_gate_bwd(ctx, dout, dx, dw1, db1, dw2, db2, dgated, in[O], g, hidden, in[X], in[W1], in[W2], s, scratch);
            if (first)
                assert_memory_equal(first, all, (size_t)total * sizeof(float));
            else
                first = all;
            if (all != first)
                gm_free(all);
            gm_free(g), gm_free(hidden), gm_free(scratch), gm_free(dgated);
            gm_ctx_free(ctx);
        }
        gm_free(first);
        for (int n = 0; n < INPUTS; n++)
            gm_free(in[n]);
        case_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind), cmocka_unit_test(extremes), cmocka_unit_test(thread_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
