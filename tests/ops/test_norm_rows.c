/* test_norm_rows.c -- the normaliser itself: its properties (DESIGN 1), the traps that public code fell into, and its gradients, on every
 * instruction set of this machine. */
#include "base.h"
#include "ghostmax.h"
#include "kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *name;
    gm_norm norm;
} norms[] = {
    {"softmax", {-INFINITY, 1, 0}},
    {"softmax1", {0, 1, 0}},
    {"softmax_n 0.5", {-0.6931472f, 1, 0}},
    {"softmax_n 1000", {6.9077554f, 1, 0}},
    {"clipped -0.03", {-INFINITY, 1.03f, -0.03f}},
    {"clipped wide", {-INFINITY, 1.5f, -0.25f}},
    {"clipped zeta", {-INFINITY, 1.25f, 0}},
    {"clipped+softmax1", {0, 1.03f, -0.03f}},
};
static const gm_norm SOFTMAX = {-INFINITY, 1, 0}, SOFTMAX1 = {0, 1, 0}, CLIPPED = {-INFINITY, 1.03f, -0.03f};

enum { N_MAX = 4 * 16 + 3, CANARY = 8 };

/* NULL past the last instruction set of this machine. */
static gm_ctx *level_context(int level) {
    const gm_kernels *k = gm_kernels_at(level);
    gm_ctx *ctx = NULL;
    if (k)
        assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 2, .isa = k->isa}, NULL), GM_OK);
    return ctx;
}
#define FOR_EACH_ISA(ctx) for (gm_ctx *ctx = level_context(0); ctx; ctx = next_context(ctx))

static gm_ctx *next_context(gm_ctx *ctx) {
    int level = 0;
    while (strcmp(gm_kernels_at(level)->isa, gm_ctx_isa(ctx)) != 0)
        level++;
    gm_ctx_free(ctx);
    return level_context(level + 1);
}

typedef struct row {
    float w[N_MAX], lse, null_mass;
    double sum;
} row;

static row forward(const gm_ctx *ctx, const float *s, int64_t n, gm_norm norm) {
    row r;
    gm_error err = {0};
    if (gm_norm_rows_fwd(ctx, r.w, n, &r.lse, &r.null_mass, s, n, 1, n, norm, &err) != GM_OK)
        fail_msg("%s", err.msg);
    r.sum = 0;
    for (int64_t j = 0; j < n; j++)
        r.sum += r.w[j];
    return r;
}

static double backward(const gm_ctx *ctx, float *ds, const float *s, const float *dw, float lse, int64_t n, gm_norm norm) {
    double dsink = 0;
    gm_error err = {0};
    if (gm_norm_rows_bwd(ctx, ds, &dsink, s, dw, &lse, 1, n, norm, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return dsink;
}

/* ---- the definition, in double */

typedef struct exact {
    double p[N_MAX], w[N_MAX], ds[N_MAX], lse, null_mass, dsink;
} exact;

static exact exactly(const double *s, const float *dw, int64_t n, double b, gm_norm norm) {
    exact e = {.lse = -INFINITY};
    double m = b, z = 0, dsum = 0;
    for (int64_t j = 0; j < n; j++)
        m = fmax(m, s[j]);
    if (m == -INFINITY)
        return e;
    for (int64_t j = 0; j < n; j++)
        z += exp(s[j] - m);
    z += exp(b - m);
    e.lse = m + log(z);
    e.null_mass = exp(b - m) / z;
    for (int64_t j = 0; j < n; j++) {
        e.p[j] = exp(s[j] - m) / z;
        e.w[j] = fmin(1, fmax(0, (double)norm.clip_a * e.p[j] + (double)norm.clip_c));
    }
    for (int pass = 0; dw && pass < 2; pass++) {
        for (int64_t j = 0; j < n; j++) {
            double x = (double)norm.clip_a * e.p[j] + (double)norm.clip_c, g = x >= 0 && x <= 1 ? (double)norm.clip_a * dw[j] : 0;
            if (pass)
                e.ds[j] = e.p[j] * (g - dsum);
            else
                dsum += e.p[j] * g;
        }
    }
    e.dsink = -e.null_mass * dsum;
    return e;
}

/* ---- properties */

static void sums_of_ten_low_scores(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        float s[10];
        for (int i = 0; i < 10; i++)
            s[i] = -10;
        row r = forward(ctx, s, 10, SOFTMAX1); /* 10 e^-10 / (1 + 10 e^-10); the broken form gives 0.909 */
        assert_true(fabs(r.sum - 4.5379e-04) < 5e-9);
        assert_true(fabs(r.null_mass - (1 - 4.5379e-04)) < 1e-7);
        r = forward(ctx, s, 10, SOFTMAX);
        assert_true(fabs(r.sum - 1) < 1e-6 && r.null_mass == 0);
        assert_true(fabs(r.lse - (-10 + log(10))) < 1e-6);
    }
}

static void ratios_limits_bounds(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        const float s[5] = {0.5f, -1, 2, 0, -3};
        for (int i = 0; i < 4; i++) { /* unclipped: ratios are those of exp */
            row r = forward(ctx, s, 5, norms[i].norm);
            for (int j = 1; j < 5; j++)
                assert_true(fabs(r.w[j] / (double)r.w[0] / exp((double)s[j] - s[0]) - 1) < 1e-6);
            assert_true(r.sum > 0 && r.sum < 1 + 1e-6);
            assert_true(fabs(r.sum + r.null_mass - 1) < 1e-6);
        }
        double before = 1;
        for (int shift = 0; shift <= 120; shift += 5) { /* all scores towards -inf: softmax1 to 0, softmax unmoved */
            float low[5];
            for (int j = 0; j < 5; j++)
                low[j] = s[j] - (float)shift;
            row r1 = forward(ctx, low, 5, SOFTMAX1), r = forward(ctx, low, 5, SOFTMAX);
            assert_true(r1.sum < before || r1.sum == 0);
            assert_true(fabs(r.sum - 1) < 1e-6);
            before = r1.sum;
        }
        assert_true(before == 0);
        const float equal[4] = {-90, -90, -90, -90};
        row r = forward(ctx, equal, 4, SOFTMAX);
        for (int j = 0; j < 4; j++)
            assert_true(r.w[j] == 0.25f);
    }
}

static void diagonal_derivative_is_positive(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        const float s[6] = {3, -4, 0, 1, -12, 0.25f};
        for (int i = 0; i < 4; i++) {
            row r = forward(ctx, s, 6, norms[i].norm);
            for (int j = 0; j < 6; j++) {
                float dw[6] = {0}, ds[6];
                dw[j] = 1;
                backward(ctx, ds, s, dw, r.lse, 6, norms[i].norm);
                assert_true(ds[j] > 0);
            }
        }
        const float alone = 10, dw = 1; /* a single score: softmax's derivative is 0, softmax1's is not */
        float ds;
        row r = forward(ctx, &alone, 1, SOFTMAX1);
        backward(ctx, &ds, &alone, &dw, r.lse, 1, SOFTMAX1);
        assert_true(ds > 0);
    }
}

/* torch.nn.MultiheadAttention's add_zero_attn: softmax over the scores and one 0. */
static void equals_softmax_with_a_zero(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        for (int64_t n = 1; n < N_MAX; n++) {
            float s[N_MAX];
            s[0] = 0;
            for (int64_t j = 1; j <= n; j++)
                s[j] = (float)(3 * gm_rng_normal(gm_rng_key(5, "zero"), (uint64_t)(n * 100 + j)));
            row one = forward(ctx, s + 1, n, SOFTMAX1), zero = forward(ctx, s, n + 1, SOFTMAX);
            for (int64_t j = 0; j < n; j++)
                assert_true(fabs(one.w[j] - zero.w[j + 1]) <= 4e-7);
            assert_true(fabs(one.null_mass - zero.w[0]) <= 4e-7 && fabs(one.lse - zero.lse) <= 1e-6);
        }
    }
}

/* ---- traps */

static void masked_rows(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        float s[N_MAX], dw[N_MAX], ds[N_MAX];
        for (int j = 0; j < N_MAX; j++) {
            s[j] = -INFINITY;
            dw[j] = (float)(j + 1);
        }
        for (int64_t n = 0; n <= N_MAX; n++) {
            for (int i = 0; i < GM_COUNT(norms); i++) {
                const bool sink = norms[i].norm.sink > -INFINITY;
                row r = forward(ctx, s, n, norms[i].norm);
                assert_true(r.lse == norms[i].norm.sink && r.null_mass == (sink ? 1 : 0) && r.sum == 0);
                double dsink = backward(ctx, ds, s, dw, r.lse, n, norms[i].norm);
                assert_true(dsink == 0);
                for (int64_t j = 0; j < n; j++)
                    assert_true(r.w[j] == 0 && ds[j] == 0);
            }
        }
        for (int i = 0; i < GM_COUNT(norms); i++) { /* one visible key among masked ones: nothing reaches the others */
            for (int64_t j = 0; j < 20; j++)
                s[j] = j == 7 ? 1.5f : -INFINITY;
            row r = forward(ctx, s, 20, norms[i].norm);
            backward(ctx, ds, s, dw, r.lse, 20, norms[i].norm);
            for (int64_t j = 0; j < 20; j++)
                assert_true(j == 7 ? r.w[j] > 0 || norms[i].norm.sink > 6 : r.w[j] == 0 && ds[j] == 0);
            s[7] = -INFINITY;
        }
    }
}

static void zero_n_is_softmax(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        const float s[3] = {-300, -301, -299.5f}; /* n exp(-max) = 0 * inf = NaN in the naive form */
        row zero = forward(ctx, s, 3, (gm_norm){(float)log(0.0), 1, 0}), softmax = forward(ctx, s, 3, SOFTMAX);
        assert_memory_equal(zero.w, softmax.w, sizeof(float) * 3);
        assert_true(fabs(zero.sum - 1) < 1e-6 && zero.null_mass == 0);
    }
}

/* Rows far from 0: neither overflow nor a sink left out of the maximum; against the definition in double. */
static void extreme_rows(void **state) {
    (void)state;
    static const float centres[] = {1e4f, -1e4f, 200, -200, 88.8f, -88.8f, -103.9f, 1e30f, -1e30f, 3e38f, -3e38f};
    FOR_EACH_ISA(ctx) {
        for (int c = 0; c < GM_COUNT(centres); c++) {
            for (int i = 0; i < GM_COUNT(norms); i++) {
                float s[19];
                double wide[19];
                for (int j = 0; j < 19; j++)
                    wide[j] = s[j] = centres[c] + 0.5f * (float)(j % 5) + (j == 11 ? -250.0f : 0);
                row r = forward(ctx, s, 19, norms[i].norm);
                exact e = exactly(wide, NULL, 19, norms[i].norm.sink, norms[i].norm);
                for (int j = 0; j < 19; j++) {
                    if (!(fabs(r.w[j] - e.w[j]) <= 1e-6))
                        fail_msg("%s %s centre %g: w[%d] = %g, exact %g", gm_ctx_isa(ctx), norms[i].name, (double)centres[c], j,
                                 (double)r.w[j], e.w[j]);
                }
                assert_true(fabs(r.lse - e.lse) <= 1e-6 * fmax(1, fabs(e.lse)));
                assert_true(fabs(r.null_mass - e.null_mass) <= 1e-6);
            }
        }
        const float spread[4] = {200, -200, 0, 199}; /* within one row */
        row r = forward(ctx, spread, 4, SOFTMAX1);
        assert_true(fabs(r.w[0] - 1 / (1 + exp(-1))) < 1e-6 && r.w[1] == 0 && r.w[2] < 1e-37);
    }
}

static void nan_stays(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        for (int64_t n = 1; n <= 40; n += 3) {
            for (int64_t at = 0; at < n; at++) {
                for (int i = 0; i < GM_COUNT(norms); i++) {
                    float s[3 * 40], w[3 * 40], lse[3], null_mass[3];
                    for (int64_t j = 0; j < 3 * n; j++)
                        s[j] = 0.1f * (float)j;
                    s[n + at] = NAN; /* the middle one of three rows */
                    assert_int_equal(gm_norm_rows_fwd(ctx, w, n, lse, null_mass, s, n, 3, n, norms[i].norm, NULL), GM_OK);
                    assert_true(isnan(lse[1]) && (isnan(null_mass[1]) || norms[i].norm.sink == -INFINITY));
                    for (int64_t j = 0; j < n; j++)
                        assert_true(isnan(w[n + j]) && !isnan(w[j]) && !isnan(w[2 * n + j]));
                }
            }
        }
        const float s[3] = {0, 1, 2}, dw[3] = {1, NAN, 0};
        for (int i = 0; i < GM_COUNT(norms); i++) {
            float ds[3];
            row r = forward(ctx, s, 3, norms[i].norm);
            backward(ctx, ds, s, dw, r.lse, 3, norms[i].norm);
            if (norms[i].norm.sink < 6) /* the largest sink leaves no unclipped weight here */
                assert_true(isnan(ds[1]));
        }
    }
}

static void clip_is_inclusive_and_spares_masks(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        /* Four equal scores: p = 1/4 exactly, 2 p - 1/2 = 0 exactly: on the boundary, as in torch.clamp the gradient passes. */
        const float s[4] = {0, 0, 0, 0}, dw[4] = {1, 0, 0, 0};
        float ds[4];
        gm_norm norm = {-INFINITY, 2, -0.5f};
        row r = forward(ctx, s, 4, norm);
        backward(ctx, ds, s, dw, r.lse, 4, norm);
        assert_true(r.w[0] == 0 && fabs(ds[0] - 0.25 * (2 - 0.5)) < 1e-6 && fabs(ds[1] + 0.25 * 0.5) < 1e-6);
        norm = (gm_norm){-INFINITY, 4, 0}; /* 4 p = 1 exactly: the upper boundary */
        r = forward(ctx, s, 4, norm);
        backward(ctx, ds, s, dw, r.lse, 4, norm);
        assert_true(r.w[0] == 1 && fabs(ds[0] - 0.25 * (4 - 1)) < 1e-6);
        norm = (gm_norm){-INFINITY, 4.5f, 0}; /* past it: no gradient */
        r = forward(ctx, s, 4, norm);
        backward(ctx, ds, s, dw, r.lse, 4, norm);
        assert_true(r.w[0] == 1 && ds[0] == 0 && ds[3] == 0);

        /* Exact zeros below the clip, and masked positions exactly 0 with gradient 0. */
        const float mixed[5] = {4, -INFINITY, -4, 0, -INFINITY};
        const float all[5] = {1, 1, 1, 1, 1};
        float d5[5];
        r = forward(ctx, mixed, 5, CLIPPED);
        backward(ctx, d5, mixed, all, r.lse, 5, CLIPPED);
        assert_true(r.w[0] > 0.9f && r.w[1] == 0 && r.w[2] == 0 && r.w[3] == 0 && r.w[4] == 0 && d5[1] == 0 && d5[4] == 0);
        assert_true(!signbit(r.w[1]));
    }
}

/* ---- against the definition */

static const char *fill_row(double *wide, float *s, int64_t n, int kind, uint64_t key) {
    static const char *const names[] = {"normal", "near ties", "spread 200", "some masked", "all equal"};
    for (int64_t j = 0; j < n; j++) {
        double x = gm_rng_normal(key, (uint64_t)j);
        s[j] = (float)(kind == 0   ? 3 * x
                       : kind == 1 ? 5 + 1e-6 * x
                       : kind == 2 ? 400 * gm_rng_uniform(key, (uint64_t)j) - 200
                       : kind == 3 ? (gm_rng_below(key, (uint64_t)j, 3) ? x : -INFINITY)
                                   : -7);
        wide[j] = s[j];
    }
    return names[kind];
}

/* Whether a weight that matters lies on a bound of the clip, but for rounding. */
static bool on_a_bound(const exact *e, int64_t n, gm_norm norm) {
    bool any = false;
    for (int64_t j = 0; j < n && !(norm.clip_a == 1 && norm.clip_c == 0); j++) {
        double x = (double)norm.clip_a * e->p[j] + (double)norm.clip_c;
        any |= e->p[j] > 1e-6 && (fabs(x) < 1e-6 || fabs(x - 1) < 1e-6);
    }
    return any;
}

static void equals_definition(void **state) {
    (void)state;
    FOR_EACH_ISA(ctx) {
        for (int64_t n = 0; n <= N_MAX; n++) {
            for (int kind = 0; kind < 5; kind++) {
                float space[N_MAX + 1 + CANARY], out[N_MAX + 1 + CANARY], *s = space + 1, *w = out + 1, dw[N_MAX], lse, null_mass;
                double wide[N_MAX];
                const char *name = fill_row(wide, s, n, kind, gm_rng_key((uint64_t)(n * 5 + kind), "rows"));
                for (int64_t j = 0; j < n; j++)
                    dw[j] = (float)gm_rng_normal(gm_rng_key(1, "dw"), (uint64_t)j);
                for (int i = 0; i < GM_COUNT(norms); i++) {
                    const gm_norm norm = norms[i].norm;
                    exact e = exactly(wide, dw, n, norm.sink, norm);
                    for (int j = 0; j < CANARY; j++)
                        w[n + j] = 123;
                    assert_int_equal(gm_norm_rows_fwd(ctx, w, n, &lse, &null_mass, s, n, 1, n, norm, NULL), GM_OK);
                    assert_true(isinf(e.lse) ? lse == e.lse : fabs(lse - e.lse) <= 2e-7 * fmax(4, fabs(e.lse)));
                    assert_true(fabs(null_mass - e.null_mass) <= 4e-7);
                    for (int64_t j = 0; j < n; j++) {
                        if (!(fabs(w[j] - e.w[j]) <= 4e-7))
                            fail_msg("%s %s %s n=%lld: w[%lld] = %.9g, exact %.9g", gm_ctx_isa(ctx), norms[i].name, name, (long long)n,
                                     (long long)j, (double)w[j], e.w[j]);
                    }
                    double dsink = backward(ctx, w, s, dw, lse, n, norm), scale = fmax(1, fabs(e.lse));
                    const bool sharp = on_a_bound(&e, n, norm); /* rounding decides on which side: its own test above */
                    for (int64_t j = 0; j < n && !sharp; j++) {
                        if (!(fabs(w[j] - e.ds[j]) <= 1e-6 * scale)) /* lse is a float: p is off by half its last place */
                            fail_msg("%s %s %s n=%lld: ds[%lld] = %.9g, exact %.9g", gm_ctx_isa(ctx), norms[i].name, name, (long long)n,
                                     (long long)j, (double)w[j], e.ds[j]);
                    }
                    assert_true(sharp || fabs(dsink - e.dsink) <= 1e-6 * scale);
                    for (int j = 0; j < CANARY; j++)
                        assert_true(w[n + j] == 123);
                    float place[N_MAX + 1]; /* in place, forward and backward */
                    memcpy(place, s, (size_t)n * sizeof *s);
                    assert_int_equal(gm_norm_rows_fwd(ctx, place, n, &lse, NULL, place, n, 1, n, norm, NULL), GM_OK);
                    for (int64_t j = 0; j < n; j++)
                        assert_true(fabs(place[j] - e.w[j]) <= 4e-7);
                    memcpy(place, dw, (size_t)n * sizeof *s);
                    backward(ctx, place, s, place, lse, n, norm);
                    assert_memory_equal(place, w, (size_t)n * sizeof *w);
                }
            }
        }
    }
}

/* The definition's gradients, the sink's included, against its own central differences. */
static void definition_differences(void **state) {
    (void)state;
    const int64_t n = 6;
    for (int i = 0; i < GM_COUNT(norms); i++) {
        const gm_norm norm = norms[i].norm;
        double s[N_MAX] = {1, -0.5, 0.25, 2, -3, 0}, b = norm.sink;
        const float dw[N_MAX] = {0.5f, -1, 2, 0.75f, 1, -0.25f};
        exact e = exactly(s, dw, n, b, norm);
        for (int64_t j = 0; j <= n; j++) {
            if (j == n && b == -INFINITY)
                continue;
            double *x = j < n ? &s[j] : &b, at = *x, h = 1e-6, loss[2];
            for (int side = 0; side < 2; side++) {
                *x = at + (side ? -h : h);
                exact moved = exactly(s, NULL, n, b, norm);
                loss[side] = 0;
                for (int64_t d = 0; d < n; d++)
                    loss[side] += dw[d] * moved.w[d];
            }
            *x = at;
            assert_true(fabs((loss[0] - loss[1]) / (2 * h) - (j < n ? e.ds[j] : e.dsink)) <= 1e-8);
        }
        if (i == 1)
            assert_true(fabs(e.dsink) > 1e-3);
    }
}

static void strides_and_threads(void **state) {
    (void)state;
    enum { R = 300, N = 37, WS = 40, SS = 64 };
    float *s = gm_alloc(R * SS, 4), *w = gm_alloc(R * WS, 4), *lse = gm_alloc(R, 4), *dense = gm_alloc(R * N, 4), *dw = gm_alloc(R * N, 4);
    float *ds = gm_alloc(R * N, 4), *first = gm_alloc(R * N, 4);
    double first_sink = 0;
    for (int i = 0; i < R * SS; i++)
        s[i] = (float)gm_rng_normal(1, (uint64_t)i);
    for (int i = 0; i < R * N; i++) {
        dw[i] = (float)gm_rng_normal(2, (uint64_t)i);
        dense[i] = s[i / N * SS + i % N];
    }
    for (int threads = 1; threads <= 7; threads += 2) {
        gm_ctx *ctx;
        assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = threads}, NULL), GM_OK);
        for (int i = 0; i < R * WS; i++)
            w[i] = 77;
        assert_int_equal(gm_norm_rows_fwd(ctx, w, WS, lse, NULL, s, SS, R, N, SOFTMAX1, NULL), GM_OK);
        double dsink = 10; /* accumulates */
        assert_int_equal(gm_norm_rows_bwd(ctx, ds, &dsink, dense, dw, lse, R, N, SOFTMAX1, NULL), GM_OK);
        for (int r = 0; r < R; r++) {
            row one = forward(ctx, dense + r * N, N, SOFTMAX1);
            assert_memory_equal(one.w, w + r * WS, N * sizeof *w);
            assert_true(w[r * WS + N] == 77);
        }
        if (threads == 1) {
            memcpy(first, ds, R * N * sizeof *ds);
            first_sink = dsink;
        }
        assert_memory_equal(first, ds, R * N * sizeof *ds);
        assert_true(dsink == first_sink && dsink != 10);
        gm_ctx_free(ctx);
    }
    gm_free(s), gm_free(w), gm_free(lse), gm_free(dense), gm_free(dw), gm_free(ds), gm_free(first);
}

static void bad_arguments(void **state) {
    (void)state;
    gm_ctx *ctx = level_context(0);
    float s[4] = {0}, w[4], lse[2];
    double dsink = 0;
    gm_error err;
#define REFUSED(word, call)                     \
    do {                                        \
        err = (gm_error){0};                    \
        assert_int_equal(call, GM_EINVAL);      \
        assert_non_null(strstr(err.msg, word)); \
    } while (0)
    REFUSED("R = -1", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, -1, 2, SOFTMAX, &err));
    REFUSED("N = -2", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 1, -2, SOFTMAX, &err));
    REFUSED("stride", gm_norm_rows_fwd(ctx, w, 1, lse, NULL, s, 2, 2, 2, SOFTMAX, &err));
    REFUSED("NULL", gm_norm_rows_fwd(ctx, NULL, 2, lse, NULL, s, 2, 2, 2, SOFTMAX, &err));
    REFUSED("NULL", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, NULL, 2, 2, 2, SOFTMAX, &err));
    REFUSED("NULL", gm_norm_rows_fwd(ctx, w, 2, NULL, NULL, s, 2, 2, 2, SOFTMAX, &err));
    REFUSED("clip_c is 0.1", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){0, 1, 0.1f}, &err));
    REFUSED("clip_c is nan", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){0, 1, NAN}, &err));
    REFUSED("clip_a + norm.clip_c is 0.9", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){0, 1, -0.1f}, &err));
    REFUSED("clip_a", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){0, NAN, 0}, &err));
    REFUSED("sink is nan", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){NAN, 1, 0}, &err));
    REFUSED("sink is inf", gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){INFINITY, 1, 0}, &err));
    REFUSED("NULL", gm_norm_rows_bwd(ctx, w, &dsink, s, NULL, lse, 2, 2, SOFTMAX, &err));
    REFUSED("clip_c", gm_norm_rows_bwd(ctx, w, &dsink, s, s, lse, 2, 2, (gm_norm){0, 1, 1}, &err));
#undef REFUSED
    assert_int_equal(gm_norm_rows_fwd(ctx, NULL, 0, NULL, NULL, NULL, 0, 0, 0, SOFTMAX, NULL), GM_OK);
    assert_int_equal(gm_norm_rows_fwd(ctx, w, 2, lse, NULL, s, 2, 2, 2, (gm_norm){0, 1.03f, -0.03f}, NULL), GM_OK); /* rounded zeta */
    gm_ctx_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_ten_low_scores),
        cmocka_unit_test(ratios_limits_bounds),
        cmocka_unit_test(diagonal_derivative_is_positive),
        cmocka_unit_test(equals_softmax_with_a_zero),
        cmocka_unit_test(masked_rows),
        cmocka_unit_test(zero_n_is_softmax),
        cmocka_unit_test(extreme_rows),
        cmocka_unit_test(nan_stays),
        cmocka_unit_test(clip_is_inclusive_and_spares_masks),
        cmocka_unit_test(equals_definition),
        cmocka_unit_test(definition_differences),
        cmocka_unit_test(strides_and_threads),
        cmocka_unit_test(bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
