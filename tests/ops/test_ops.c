/* test_ops.c -- each layer against an independent forward pass in double and its central finite differences, on every instruction set;
 * matrix products against a naive one in double; and the same bits for any number of threads. */
#include "context.h"
#include "gemm.h"
#include "ghostmax_model.h"
#include "ops.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- helpers */

static gm_ctx *context(const char *isa, int threads) {
    gm_ctx *ctx;
    gm_error err;
    if (gm_ctx_create(&ctx, &(gm_ctx_options){.isa = isa, .threads = threads}, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return ctx;
}

/* n floats from N(0, scale), the same for the same name. */
static float *values(const char *name, int64_t n, double scale) {
    float *x = gm_alloc((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(scale * gm_rng_normal(gm_rng_key(7, name), (uint64_t)i));
    return x;
}

static double *doubles(const float *x, int64_t n) {
    double *d = gm_alloc((size_t)n, sizeof *d);
    for (int64_t i = 0; i < n; i++)
        d[i] = x[i];
    return d;
}

static void check_near(const char *what, int64_t i, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%s[%lld]: %.9g, expected %.9g", what, (long long)i, got, want);
}

/* grad - before (what it accumulated onto; NULL: it was set) is the derivative of loss by x, which points into what loss reads. */
static void check_gradient(const char *what, double (*loss)(void *), void *user, double *x, int64_t n, const float *grad,
                           const float *before, double tolerance) {
    for (int64_t i = 0; i < n; i++) {
        const double h = 1e-5, at = x[i];
        x[i] = at + h;
        double above = loss(user);
        x[i] = at - h;
        double below = loss(user);
        x[i] = at;
        check_near(what, i, (double)grad[i] - (before ? before[i] : 0), (above - below) / (2 * h), tolerance);
    }
}

/* f32 arithmetic on values of order 1 and sums of some ten terms: a few 1e-7; the differences in double are good to 1e-9. */
#define TOLERANCE 5e-6

#define EVERY_ISA(ctx)                                    \
    for (int level_ = 0; gm_kernels_at(level_); level_++) \
        for (gm_ctx *ctx = context(gm_kernels_at(level_)->isa, 2); ctx; gm_ctx_free(ctx), ctx = NULL)

/* ---- linear */

typedef struct linear_case {
    int64_t R, IN, OUT;
    double *x, *w, *b;
    const float *dy;
} linear_case;

static double linear_at(const linear_case *c, int64_t r, int64_t o) {
    double s = c->b ? c->b[o] : 0;
    for (int64_t i = 0; i < c->IN; i++)
        s += c->x[r * c->IN + i] * c->w[o * c->IN + i];
    return s;
}

static double linear_loss(void *user) {
    linear_case *c = user;
    double loss = 0;
    for (int64_t r = 0; r < c->R; r++) {
        for (int64_t o = 0; o < c->OUT; o++)
            loss += linear_at(c, r, o) * c->dy[r * (c->OUT + 2) + o];
    }
    return loss;
}

static void test_linear(void **state) {
    (void)state;
    enum { R = 5, IN = 7, OUT = 6, YS = OUT + 2 };
    float *x = values("x", R * IN, 1), *w = values("w", OUT * IN, 1), *b = values("b", OUT, 1), *dy = values("dy", R * YS, 1);
    EVERY_ISA(ctx) {
        for (int bias = 0; bias < 2; bias++) {
            linear_case c = {R, IN, OUT, doubles(x, R * IN), doubles(w, OUT * IN), bias ? doubles(b, OUT) : NULL, dy};
            float *y = values("y", R * YS, 1), *dx = values("dx", R * IN, 1), *dw = values("dw", OUT * IN, 1), *db = values("db", OUT, 1);
            float *dx0 = values("dx", R * IN, 1), *dw0 = values("dw", OUT * IN, 1), *db0 = values("db", OUT, 1);
            gm_linear_fwd(ctx, y, YS, x, IN, w, bias ? b : NULL, R, IN, OUT);
            for (int64_t i = 0; i < R * OUT; i++)
                check_near("y", i, y[i / OUT * YS + i % OUT], linear_at(&c, i / OUT, i % OUT), TOLERANCE);
            gm_linear_bwd(ctx, dx, IN, true, dw, bias ? db : NULL, dy, YS, x, IN, w, R, IN, OUT);
            check_gradient("dx +=", linear_loss, &c, c.x, R * IN, dx, dx0, TOLERANCE);
            check_gradient("dw +=", linear_loss, &c, c.w, OUT * IN, dw, dw0, TOLERANCE);
            if (bias)
                check_gradient("db +=", linear_loss, &c, c.b, OUT, db, db0, TOLERANCE);
            else
                assert_memory_equal(db, db0, OUT * sizeof *db);
            gm_linear_bwd(ctx, dx, IN, false, dw, NULL, dy, YS, x, IN, w, R, IN, OUT);
            check_gradient("dx", linear_loss, &c, c.x, R * IN, dx, NULL, TOLERANCE);
            float *all[] = {y, dx, dw, db, dx0, dw0, db0};
            for (int i = 0; i < GM_COUNT(all); i++)
                gm_free(all[i]);
            gm_free(c.x), gm_free(c.w), gm_free(c.b);
        }
    }
    gm_free(x), gm_free(w), gm_free(b), gm_free(dy);
}

/* ---- norms */

typedef struct norm_case {
    int64_t R, C;
    double *x, *g, *b, *y;
    const float *dy;
    bool rms;
} norm_case;

static double norm_loss(void *user) {
    norm_case *c = user;
    double loss = 0;
    for (int64_t r = 0; r < c->R; r++) {
        const double *x = c->x + r * c->C;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < c->C && !c->rms; i++)
            mean += x[i] / (double)c->C;
        for (int64_t i = 0; i < c->C; i++)
            square += (x[i] - mean) * (x[i] - mean) / (double)c->C;
        for (int64_t i = 0; i < c->C; i++) {
            double y = (x[i] - mean) / sqrt(square + 1e-5) * c->g[i] + (c->rms ? 0 : c->b[i]);
            c->y[r * c->C + i] = y;
            loss += y * c->dy[r * c->C + i];
        }
    }
    return loss;
}

static void test_norms(void **state) {
    (void)state;
    enum { R = 40, C = 19 }; /* more rows than blocks of the gains' sums */
    float *x = values("x", R * C, 1), *g = values("g", C, 1), *b = values("b", C, 1), *dy = values("dy", R * C, 1);
    float *scratch = gm_alloc(1 << 14, sizeof *scratch), mean[R], rstd[R];
    EVERY_ISA(ctx) {
        assert_true(gm_norm_bwd_scratch(ctx, C) <= 1 << 14);
        for (int rms = 0; rms < 2; rms++) {
            norm_case c = {R, C, doubles(x, R * C), doubles(g, C), doubles(b, C), gm_alloc(R * C, sizeof(double)), dy, rms};
            float *y = values("y", R * C, 1), *dx = values("dx", R * C, 1), *dg = values("dg", C, 1), *db = values("db", C, 1);
            float *dx0 = values("dx", R * C, 1), *dg0 = values("dg", C, 1), *db0 = values("db", C, 1);
            gm_norm_fwd(ctx, y, rms ? NULL : mean, rstd, x, g, rms ? NULL : b, R, C, 1e-5f, rms);
            norm_loss(&c);
            for (int64_t i = 0; i < R * C; i++)
                check_near("y", i, y[i], c.y[i], TOLERANCE);
            gm_norm_bwd(ctx, dx, dg, rms ? NULL : db, dy, x, g, rms ? NULL : mean, rstd, R, C, rms, scratch);
            check_gradient("dx", norm_loss, &c, c.x, R * C, dx, dx0, TOLERANCE);
            check_gradient("dg", norm_loss, &c, c.g, C, dg, dg0, TOLERANCE);
            if (!rms)
                check_gradient("db", norm_loss, &c, c.b, C, db, db0, TOLERANCE);
            float *all[] = {y, dx, dg, db, dx0, dg0, db0};
            for (int i = 0; i < GM_COUNT(all); i++)
                gm_free(all[i]);
            gm_free(c.x), gm_free(c.g), gm_free(c.b), gm_free(c.y);
        }
    }
    gm_free(x), gm_free(g), gm_free(b), gm_free(dy), gm_free(scratch);
}

/* ---- activations: the definitions of PyTorch's documentation, with the C library's erf and tanh */

static double activation(double h, int act) {
    switch (act) {
    case GM_ACT_GELU_TANH:
        return 0.5 * h * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (h + 0.044715 * h * h * h)));
    case GM_ACT_GELU_ERF:
        return 0.5 * h * (1 + erf(h / sqrt(2)));
    case GM_ACT_RELU:
        return h > 0 ? h : 0;
    default:
        return h / (1 + exp(-h));
    }
}

/* Over [-12, 12]: 3e-7 of max(1, |y|), and 1e-6 for derivatives. */
static void test_activations(void **state) {
    (void)state;
    enum { N = 24001 };
    static float h[N], y[N], dy[N], dh[N];
    for (int i = 0; i < N; i++) {
        h[i] = (float)(i - N / 2) * 1e-3f + 1e-5f;
        dy[i] = 1 + (float)(i % 3);
    }
    EVERY_ISA(ctx) {
        for (int act = GM_ACT_GELU_TANH; act <= GM_ACT_RELU; act++) {
            gm_act_fwd(ctx, y, h, N, act);
            gm_act_bwd(ctx, dh, dy, h, N, act);
            for (int i = 0; i < N; i++) {
                double slope = (activation(h[i] + 1e-6, act) - activation(h[i] - 1e-6, act)) / 2e-6;
                check_near("y", i, y[i], activation(h[i], act), 3e-7);
                check_near("dh", i, dh[i], dy[i] * slope, 1e-6);
            }
            gm_act_bwd(ctx, dy, dy, h, N, act);
            assert_memory_equal(dy, dh, sizeof dy);
            for (int i = 0; i < N; i++)
                dy[i] = 1 + (float)(i % 3);
        }
    }
}

static void test_swiglu(void **state) {
    (void)state;
    enum { R = 3, F = 37 };
    float *h = values("h", R * 2 * F, 2), *dy = values("dy", R * F, 1), y[R * F], dh[R * 2 * F];
    EVERY_ISA(ctx) {
        gm_swiglu_fwd(ctx, y, h, R, F);
        gm_swiglu_bwd(ctx, dh, dy, h, R, F);
        for (int64_t i = 0; i < R * F; i++) {
            int64_t at = i / F * 2 * F + i % F;
            double gate = h[at], up = h[at + F], d = 1e-6;
            check_near("y", i, y[i], activation(gate, GM_ACT_SWIGLU) * up, TOLERANCE);
            check_near("dgate", i, dh[at],
                       dy[i] * up * (activation(gate + d, GM_ACT_SWIGLU) - activation(gate - d, GM_ACT_SWIGLU)) / (2 * d), TOLERANCE);
            check_near("dup", i, dh[at + F], dy[i] * activation(gate, GM_ACT_SWIGLU), TOLERANCE);
        }
    }
    gm_free(h), gm_free(dy);
}

/* ---- embedding */

static void test_embedding(void **state) {
    (void)state;
    enum { B = 3, T = 4, C = 21, V = 5, OFFSET = 2 };
    static const int32_t tokens[B * T] = {0, 4, 4, 1, 2, 4, 0, 0, 1, 1, 4, 3};
    float *wte = values("wte", V * C, 1), *wpe = values("wpe", (T + OFFSET) * C, 1), *dx = values("dx", B * T * C, 1), x[B * T * C];
    EVERY_ISA(ctx) {
        for (int positions = 0; positions < 2; positions++) {
            float *dwte = values("a", V * C, 1), *dwpe = values("b", (T + OFFSET) * C, 1);
            double *want_te = doubles(dwte, V * C), *want_pe = doubles(dwpe, (T + OFFSET) * C);
            gm_embedding_fwd(ctx, x, tokens, wte, positions ? wpe : NULL, B, T, C, OFFSET);
            gm_embedding_bwd(ctx, dwte, positions ? dwpe : NULL, dx, tokens, B, T, C, OFFSET);
            for (int64_t i = 0; i < B * T * C; i++) {
                int64_t token = tokens[i / C] * C + i % C, position = (i / C % T + OFFSET) * C + i % C;
                check_near("x", i, x[i], (double)wte[token] + (positions ? wpe[position] : 0), 1e-7);
                want_te[token] += dx[i];
                want_pe[position] += positions ? dx[i] : 0;
            }
            for (int64_t i = 0; i < V * C; i++)
                check_near("dwte", i, dwte[i], want_te[i], TOLERANCE);
            for (int64_t i = 0; i < (T + OFFSET) * C; i++)
                check_near("dwpe", i, dwpe[i], want_pe[i], TOLERANCE);
            gm_free(dwte), gm_free(dwpe), gm_free(want_te), gm_free(want_pe);
        }
    }
    gm_free(wte), gm_free(wpe), gm_free(dx);
}

/* ---- rope */

static void rope_frequencies(double *f, int64_t D) {
    for (int64_t i = 0; i < D / 2; i++)
        f[i] = pow(10000, -2.0 * (double)i / (double)D);
}

static void test_rope(void **state) {
    (void)state;
    enum { B = 2, T = 5, H = 3, D = 10, XS = H * D + 4, FIRST = 7 };
    float table[(FIRST + T) * D];
    double frequencies[D / 2];
    rope_frequencies(frequencies, D);
    EVERY_ISA(ctx) {
        gm_rope_table(ctx, table, FIRST + T, D, frequencies);
        float *x = values("x", B * T * XS, 1), *x0 = values("x", B * T * XS, 1);
        gm_rope_apply(ctx, x, XS, table, B, T, FIRST, H, D, false);
        for (int64_t r = 0; r < B * T; r++) {
            for (int64_t d = 0; d < XS; d++) {
                const float *from = x0 + r * XS;
                double want = from[d];
                if (d < H * D) {
                    int64_t i = d % D, pair = i % (D / 2);
                    double angle = (double)(FIRST + r % T) / pow(10000, 2.0 * (double)pair / D);
                    double a = from[d - i + pair], b = from[d - i + pair + D / 2];
                    want = i < D / 2 ? a * cos(angle) - b * sin(angle) : a * sin(angle) + b * cos(angle);
                }
                check_near("x", r * XS + d, x[r * XS + d], want, 1e-6);
            }
        }
        /* a rotation's backward pass is the rotation back */
        gm_rope_apply(ctx, x, XS, table, B, T, FIRST, H, D, true);
        for (int64_t i = 0; i < B * T * XS; i++)
            check_near("back", i, x[i], x0[i], 1e-6);
        gm_free(x), gm_free(x0);
    }
}

/* ---- head and loss */

typedef struct head_case {
    int64_t R, C, V;
    double *x, *w, *loss;
    const int32_t *targets;
    double scale;
} head_case;

static double head_loss(void *user) {
    head_case *c = user;
    double total = 0, logit[16];
    for (int64_t r = 0; r < c->R; r++) {
        double sum = 0;
        c->loss[r] = 0;
        if (c->targets[r] < 0)
            continue;
        for (int64_t v = 0; v < c->V; v++) {
            logit[v] = 0;
            for (int64_t i = 0; i < c->C; i++)
                logit[v] += c->x[r * c->C + i] * c->w[v * c->C + i];
            sum += exp(logit[v]);
        }
        c->loss[r] = log(sum) - logit[c->targets[r]];
        total += c->scale * c->loss[r];
    }
    return total;
}

static void test_head_loss(void **state) {
    (void)state;
    enum { R = 1100, C = 4, V = 11 }; /* two blocks of rows */
    float *x = values("x", R * C, 1), *w = values("w", V * C, 1);
    int32_t targets[R];
    for (int r = 0; r < R; r++)
        targets[r] = r % 7 == 3 ? -1 : r % V;
    EVERY_ISA(ctx) {
        head_case c = {R, C, V, doubles(x, R * C), doubles(w, V * C), gm_alloc(R, sizeof(double)), targets, 0.25};
        float *scratch = gm_alloc((size_t)gm_head_scratch(ctx, V), sizeof *scratch), losses[R], again[R];
        float *dx = values("dx", R * C, 1), *dw = values("dw", V * C, 1), *dw0 = values("dw", V * C, 1);
        gm_head_loss(ctx, losses, dx, dw, x, w, targets, 0.25f, R, C, V, scratch);
        gm_head_loss(ctx, again, NULL, NULL, x, w, targets, 0.25f, R, C, V, scratch);
        head_loss(&c);
        for (int r = 0; r < R; r++) {
            check_near("loss", r, losses[r], c.loss[r], TOLERANCE);
            check_near("loss without gradients", r, again[r], losses[r], 0);
        }
        check_gradient("dw", head_loss, &c, c.w, V * C, dw, dw0, 2e-5);
        check_gradient("dx, first rows", head_loss, &c, c.x, 8 * C, dx, NULL, TOLERANCE);
        check_gradient("dx, last rows", head_loss, &c, c.x + (R - 8) * C, 8 * C, dx + (R - 8) * C, NULL, TOLERANCE);
        gm_free(c.x), gm_free(c.w), gm_free(c.loss), gm_free(scratch), gm_free(dx), gm_free(dw), gm_free(dw0);
    }
    gm_free(x), gm_free(w);
}

/* ---- residual, dropout */

static void test_dropout(void **state) {
    (void)state;
    enum { N = 40000 };
    uint64_t key = gm_rng_key(3, "dropout");
    EVERY_ISA(ctx) {
        float *x = values("x", N, 1), *x0 = values("x", N, 1), *y = values("y", N, 1);
        int64_t kept = 0;
        gm_dropout(ctx, x, 0, N, 0.25, key);
        for (int64_t i = 0; i < N; i++) {
            bool keep = gm_rng_uniform(key, (uint64_t)i) >= 0.25;
            kept += keep;
            check_near("x", i, x[i], keep ? x0[i] / 0.75 : 0, 1e-6);
        }
        assert_true(llabs(kept - 30000) < 5 * 87); /* five standard deviations */
        gm_add(ctx, y, y, x, N);
        float *y0 = values("y", N, 1);
        for (int64_t i = 0; i < N; i++)
            assert_true(y[i] == y0[i] + x[i]);
        gm_free(x), gm_free(x0), gm_free(y), gm_free(y0);
    }
}

/* ---- optimizer: the paper's algorithm with its bias-corrected moments, in double */

static void test_adamw(void **state) {
    (void)state;
    enum { N = 37 };
    const double lr = 3e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.1;
    EVERY_ISA(ctx) {
        float *p = values("p", N, 1), *m = gm_alloc(N, sizeof *m), *v = gm_alloc(N, sizeof *v);
        double *P = doubles(p, N), M[N] = {0}, W[N] = {0}, squares = 0;
        for (int t = 1; t <= 10; t++) {
            char name[8] = {(char)('a' + t)};
            float *g = values(name, N, 1);
            gm_adamw(ctx, p, g, m, v, N, 0.5f, lr, beta1, beta2, eps, decay, t);
            squares = 0;
            for (int i = 0; i < N; i++) {
                double grad = 0.5 * g[i];
                squares += (double)g[i] * g[i];
                P[i] -= lr * decay * P[i];
                M[i] = beta1 * M[i] + (1 - beta1) * grad;
                W[i] = beta2 * W[i] + (1 - beta2) * grad * grad;
                P[i] -= lr * (M[i] / (1 - pow(beta1, t))) / (sqrt(W[i] / (1 - pow(beta2, t))) + eps);
                check_near("p", i, p[i], P[i], 1e-6);
                check_near("m", i, m[i], M[i], 1e-6);
                check_near("v", i, v[i], W[i], 1e-6);
            }
            check_near("sum of squares", t, gm_sum_squares(ctx, g, N), squares, 1e-14);
            gm_free(g);
        }
        gm_free(p), gm_free(m), gm_free(v), gm_free(P);
    }
}

/* ---- matrix product */

static void check_gemm(const gm_ctx *ctx, int64_t M, int64_t N, int64_t K, float alpha, float beta) {
    for (int trans = 0; trans < 4; trans++) {
        bool ta = trans & 1, tb = trans & 2;
        int64_t lda = (ta ? M : K) + 3, ldb = (tb ? K : N) + 1, ldc = N + 2;
        float *A = values("A", lda * (ta ? K : M) + 1, 1), *B = values("B", ldb * (tb ? N : K) + 1, 1);
        float *C = values("C", ldc * M, 1), *C0 = values("C", ldc * M, 1);
        for (int64_t i = 0; i < ldc * M && beta == 0; i++)
            C[i] = i % ldc < N ? NAN : C[i]; /* beta = 0: what was there does not count */
        gm_gemm(ctx, ta, tb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
        for (int64_t i = 0; i < M; i++) {
            for (int64_t j = 0; j < ldc; j++) {
                double want = C0[i * ldc + j], sum = 0;
                for (int64_t k = 0; k < K && j < N; k++)
                    sum += (double)(ta ? A[k * lda + i] : A[i * lda + k]) * (tb ? B[j * ldb + k] : B[k * ldb + j]);
                if (j < N)
                    want = alpha * sum + (beta == 0 ? 0 : beta * want);
                check_near("C", i * ldc + j, C[i * ldc + j], want, 2e-6 * sqrt(1 + (double)K));
            }
        }
        gm_free(A), gm_free(B), gm_free(C), gm_free(C0);
    }
}

static void test_gemm(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {1, 40, 9}, {7, 3, 0}, {8, 32, 256}, {9, 33, 257}, {130, 70, 33}, {65, 260, 300}};
    EVERY_ISA(ctx) {
        gm_ctx plain = *ctx;
        plain.plain_gemm = true;
        for (int s = 0; s < GM_COUNT(shapes); s++) {
            const int64_t *shape = shapes[s];
            check_gemm(&plain, shape[0], shape[1], shape[2], 0.5f, 2);
            check_gemm(&plain, shape[0], shape[1], shape[2], 1, 0);
            check_gemm(ctx, shape[0], shape[1], shape[2], 0.5f, 2);
            check_gemm(ctx, shape[0], shape[1], shape[2], 1, 0);
        }
        /* Inside a parallel region each thread has a product of its own; the caller's thread setting survives. */
        enum { EACH = 4, N = 48 };
        float *A = values("A", N * N, 1), *B = values("B", N * N, 1), *C = values("C", (EACH + 1) * N * N, 1);
        omp_set_num_threads(3);
        const int set = omp_get_max_threads(); /* 1 in a build without OpenMP */
        gm_gemm(ctx, false, true, N, N, N, 1, A, N, B, N, 0, C, N);
        assert_int_equal(omp_get_max_threads(), set);
#pragma omp parallel for num_threads(EACH)
        for (int i = 0; i < EACH; i++)
            gm_gemm(ctx, false, true, N, N, N, 1, A, N, B, N, 0, C + (i + 1) * N * N, N);
        for (int64_t i = 0; i < EACH * N * N; i++)
            check_near("in parallel", i, C[N * N + i], C[i % (N * N)], 1e-5);
        gm_free(A), gm_free(B), gm_free(C);
    }
}

/* ---- threads */

/* Runs every layer, with our own matrix product, on sizes above the threshold for threads, and hashes all results. */
static uint64_t workout(const char *isa, int threads) {
    enum { B = 4, T = 100, R = B * T, C = 72, F = 100, V = 300, TOTAL = 1 << 20 };
    gm_ctx *made = context(isa, threads), ours = *made, *ctx = &ours;
    ours.plain_gemm = true;
    float *pool = values("pool", TOTAL, 1), *next = pool, table[T * 8];
#define TAKE(n) (next += (n), next - (n))
    float *x = TAKE(R * C), *y = TAKE(R * C), *h = TAKE(R * 2 * F), *a = TAKE(R * F), *w = TAKE(2 * F * C), *b = TAKE(2 * F);
    float *g = TAKE(2 * C), *mean = TAKE(R), *rstd = TAKE(R), *dg = TAKE(2 * C), *wte = TAKE(V * C), *losses = TAKE(R), *scratch = next;
    int32_t tokens[R];
    for (int i = 0; i < R; i++)
        tokens[i] = (i * 7919) % V;
    assert_true(next - pool + GM_MAX(gm_head_scratch(ctx, V), gm_norm_bwd_scratch(ctx, C)) <= TOTAL);
    gm_embedding_fwd(ctx, x, tokens, wte, wte, B, T, C, 1);
    gm_norm_fwd(ctx, y, mean, rstd, x, g, g + C, R, C, 1e-5f, false);
    double frequencies[4];
    rope_frequencies(frequencies, 8);
    gm_rope_table(ctx, table, T, 8, frequencies);
    gm_rope_apply(ctx, y, C, table, B, T, 0, C / 8, 8, false);
    gm_linear_fwd(ctx, h, 2 * F, y, C, w, b, R, C, 2 * F);
    gm_swiglu_fwd(ctx, a, h, R, F);
    for (int act = GM_ACT_GELU_TANH; act <= GM_ACT_RELU; act++) {
        gm_act_fwd(ctx, a, a, R * F, act);
        gm_act_bwd(ctx, a, a, h, R * F, act);
    }
    gm_swiglu_bwd(ctx, h, a, h + R * F, R / 2, F);
    gm_linear_bwd(ctx, y, C, true, w, b, h, 2 * F, x, C, w, R, C, 2 * F);
    gm_norm_bwd(ctx, x, dg, dg + C, y, a, g, mean, rstd, R, C, false, scratch);
    gm_dropout(ctx, x, 0, R * C, 0.1, 5);
    gm_add(ctx, y, y, x, R * C);
    gm_head_loss(ctx, losses, x, wte, y, wte, tokens, 0.1f, R, C, V, scratch);
    gm_embedding_bwd(ctx, wte, wte, x, tokens, B, T, C, 0);
    gm_adamw(ctx, h, a, h + R * F, y, R * C, 1, 1e-3, 0.9, 0.99, 1e-8, 0.1, 3);
    double squares = gm_sum_squares(ctx, pool, TOTAL - 7);
    uint64_t hash = gm_hash(pool, TOTAL * sizeof *pool, gm_hash(&squares, sizeof squares, 0));
    gm_free(pool);
    gm_ctx_free(made);
    return hash;
}

static void test_threads(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        const char *isa = gm_kernels_at(level)->isa;
        uint64_t one = workout(isa, 1);
        assert_true(workout(isa, 2) == one);
        assert_true(workout(isa, 3) == one);
        assert_true(workout(isa, 7) == one);
    }
}

/* ---- context */

static void test_context(void **state) {
    (void)state;
    gm_ctx *ctx = (gm_ctx *)&ctx;
    gm_error err;
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.isa = "avx1024"}, &err), GM_EINVAL);
    assert_null(ctx);
    assert_non_null(strstr(err.msg, "avx1024"));
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = -1}, &err), GM_EINVAL);
    ctx = context("ref", 3);
    assert_string_equal(gm_ctx_isa(ctx), "ref");
    assert_string_equal(gm_ctx_gemm(ctx), "plain");
    assert_int_equal(gm_ctx_threads(ctx), 3);
    gm_ctx_free(ctx);
    gm_ctx_free(NULL);
    assert_int_equal(setenv("GHOSTMAX_ISA", "sse9", 1), 0);
    assert_int_equal(gm_ctx_create(&ctx, NULL, &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "GHOSTMAX_ISA=sse9"));
    assert_int_equal(setenv("GHOSTMAX_ISA", "ref", 1), 0);
    assert_int_equal(gm_ctx_create(&ctx, NULL, &err), GM_OK);
    assert_string_equal(gm_ctx_isa(ctx), "ref");
    gm_ctx_free(ctx);
    unsetenv("GHOSTMAX_ISA");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),    cmocka_unit_test(test_norms), cmocka_unit_test(test_activations), cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_embedding), cmocka_unit_test(test_rope),  cmocka_unit_test(test_head_loss),   cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_adamw),     cmocka_unit_test(test_gemm),  cmocka_unit_test(test_threads),     cmocka_unit_test(test_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
