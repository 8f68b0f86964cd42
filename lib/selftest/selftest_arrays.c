/* selftest_arrays.c -- the public functions on plain arrays beside the same formulas in double, written here once more: normaliser rows,
 * attention and its gradients (by differences of the double), moments, quantizer grids. */
#include "selftest.h"

#include "base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const gm_norm norms[] = {
    {-INFINITY, 1, 0}, {0, 1, 0}, {0.7f, 1, 0}, {-INFINITY, 1.03f, -0.03f}, {-0.5f, 1.05f, -0.02f},
};
enum { NORM_COUNT = sizeof norms / sizeof *norms, B = 2, T = 37, H = 4, KV = 2, D = 24, Q_SIZE = B * T * H * D, K_SIZE = B * T * KV * D };

static double uniform(uint64_t *state) { /* in (-1, 1) */
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-52 - 1;
}

static void fill(float *x, int n, uint64_t *state) {
    for (int i = 0; i < n; i++)
        x[i] = (float)uniform(state);
}

/* ---- the normaliser ------------------------------------------------------------------------------------------------------------ */

/* The formula of ghostmax.h in double, with a sink of its own. */
static void row_reference(double *w, const double *s, int n, gm_norm norm, double sink) {
    double m = sink, Z = 0;
    for (int i = 0; i < n; i++)
        m = s[i] > m ? s[i] : m;
    for (int i = 0; i < n; i++)
        Z += m == -INFINITY ? 0 : exp(s[i] - m);
    Z += m == -INFINITY ? 1 : exp(sink - m);
    for (int i = 0; i < n; i++) {
        double p = m == -INFINITY ? 0 : exp(s[i] - m) / Z;
        double x = (double)norm.clip_a * p + (double)norm.clip_c;
        w[i] = m == -INFINITY || x < 0 ? 0 : x > 1 ? 1 : x;
    }
}

static gm_status check_rows(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    enum { N_MAX = 130 };
    float s[N_MAX], w[N_MAX], lse;
    double exact[N_MAX], wide[N_MAX], worst = 0;
    uint64_t state = 1;
    int64_t count = 0;
    char where[128] = "";
    for (int n = 1; n <= N_MAX; n++) {
        for (int v = 0; v < NORM_COUNT; v++) {
            for (int i = 0; i < n; i++) {
                s[i] = i % 7 == 3 ? -INFINITY : (float)(uniform(&state) * (n % 3 ? 8 : 200));
                wide[i] = (double)s[i];
            }
            GM_TRY(gm_norm_rows_fwd(ctx, w, n, &lse, NULL, s, n, 1, n, norms[v], err));
            row_reference(exact, wide, n, norms[v], (double)norms[v].sink);
            for (int i = 0; i < n; i++, count++) {
                double error = fabs((double)w[i] - exact[i]);
                if (!(error <= worst))
                    snprintf(where, sizeof where, "%d scores, sink %g, clip %g, %g", n, (double)norms[v].sink, (double)norms[v].clip_a,
                             (double)norms[v].clip_c);
                worst = gm_selftest_larger(worst, error);
            }
        }
    }
    gm_selftest_add(t, "normaliser rows", count, worst, 4e-7, where);
    return GM_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------------------------------- */

enum { IN_Q, IN_K, IN_V, IN_SINKS, INPUTS };
static const int sizes[INPUTS] = {Q_SIZE, K_SIZE, K_SIZE, H};

typedef struct attention_case {
    float in[INPUTS][Q_SIZE], gradient[INPUTS][Q_SIZE], o[Q_SIZE], dout[Q_SIZE], lse[B * H * T];
    double wide[INPUTS][Q_SIZE], step[INPUTS][Q_SIZE], exact[Q_SIZE];
} attention_case;

/* sum(o * weight) of causal grouped-query attention, o also written when not NULL. */
static double attention_reference(double *o, double wide[INPUTS][Q_SIZE], const float *weight, gm_norm norm, bool learned) {
    double total = 0, s[T], w[T];
    for (int b = 0; b < B; b++) {
        for (int h = 0; h < H; h++) {
            int g = h / (H / KV);
            for (int t = 0; t < T; t++) {
                const double *row = wide[IN_Q] + ((b * T + t) * H + h) * D;
                for (int j = 0; j < T; j++) {
                    const double *key = wide[IN_K] + ((b * T + j) * KV + g) * D;
                    s[j] = 0;
                    for (int d = 0; d < D; d++)
                        s[j] += row[d] * key[d] / sqrt(D);
                    s[j] = j <= t ? s[j] : -INFINITY;
                }
                row_reference(w, s, T, norm, learned ? wide[IN_SINKS][h] : (double)norm.sink);
                for (int d = 0; d < D; d++) {
                    double sum = 0;
                    for (int j = 0; j <= t; j++)
                        sum += w[j] * wide[IN_V][((b * T + j) * KV + g) * D + d];
                    int at = ((b * T + t) * H + h) * D + d;
                    total += sum * (double)weight[at];
                    if (o)
                        o[at] = sum;
                }
            }
        }
    }
    return total;
}

static void widen(attention_case *c, double step) {
    for (int i = 0; i < INPUTS; i++) {
        for (int j = 0; j < sizes[i]; j++)
            c->wide[i][j] = (double)c->in[i][j] + step * c->step[i][j];
    }
}

/* The derivative along a random direction of one input, by central differences of the reference and from the library's gradient, as a
 * share of the gradient's length. */
static double gradient_error(attention_case *c, int input, gm_norm norm, bool learned, uint64_t *state) {
    const double h = 1e-5;
    double analytic = 0, length = 0, side[2];
    memset(c->step, 0, sizeof c->step);
    for (int j = 0; j < sizes[input]; j++) {
        c->step[input][j] = uniform(state);
        analytic += c->step[input][j] * (double)c->gradient[input][j];
        length += (double)c->gradient[input][j] * (double)c->gradient[input][j];
    }
    for (int s = 0; s < 2; s++) {
        widen(c, s ? -h : h);
        side[s] = attention_reference(NULL, c->wide, c->dout, norm, learned);
    }
    return fabs(analytic - (side[0] - side[1]) / (2 * h)) / (sqrt(length) + 1e-3);
}

static gm_status check_attention(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    static const char *const names[INPUTS] = {"dq", "dk", "dv", "dsinks"};
    gm_attention_shape shape = {.B = B, .T = T, .S = T, .H = H, .KV = KV, .D = D, .causal = true};
    size_t need = gm_attention_scratch_bytes(ctx, &shape, false), also = gm_attention_scratch_bytes(ctx, &shape, true);
    need = ((need > also ? need : also) + 63) / 64 * 64 + 64;
    attention_case *c = gm_alloc(1, sizeof *c);
    void *scratch = gm_alloc(1, need);
    uint64_t state = 7;
    double forward = 0, backward = 0;
    int64_t gradients = 0;
    char where[128] = "";
    gm_status status = c && scratch ? GM_OK : gm_fail_memory(err, sizeof *c + need);
    for (int v = 0; v <= NORM_COUNT && status == GM_OK; v++) { /* the last one: learned sinks */
        const bool learned = v == NORM_COUNT;
        const gm_norm norm = norms[learned ? 0 : v];
        for (int i = 0; i < INPUTS; i++)
            fill(c->in[i], sizes[i], &state);
        fill(c->dout, Q_SIZE, &state);
        for (int i = 0; i < Q_SIZE; i++)
            c->in[IN_Q][i] *= 4;
        memset(c->gradient, 0, sizeof c->gradient);
        const float *sinks = learned ? c->in[IN_SINKS] : NULL;
        status = gm_attention_fwd(ctx, c->o, c->lse, c->in[IN_Q], c->in[IN_K], c->in[IN_V], sinks, norm, &shape, scratch, err);
        if (status == GM_OK)
            status = gm_attention_bwd(ctx, c->gradient[IN_Q], c->gradient[IN_K], c->gradient[IN_V], learned ? c->gradient[IN_SINKS] : NULL,
                                      c->dout, c->in[IN_Q], c->in[IN_K], c->in[IN_V], c->o, c->lse, sinks, norm, &shape, scratch, err);
        if (status != GM_OK)
            break;
        memset(c->step, 0, sizeof c->step);
        widen(c, 0);
        attention_reference(c->exact, c->wide, c->dout, norm, learned);
        for (int i = 0; i < Q_SIZE; i++)
            forward = gm_selftest_larger(forward, fabs((double)c->o[i] - c->exact[i]));
        for (int i = 0; i < (learned ? INPUTS : IN_SINKS); i++, gradients++) {
            double error = gradient_error(c, i, norm, learned, &state);
            if (!(error <= backward))
                snprintf(where, sizeof where, "%s, %s %g, clip %g, %g", names[i], learned ? "learned sinks, not" : "sink",
                         (double)norm.sink, (double)norm.clip_a, (double)norm.clip_c);
            backward = gm_selftest_larger(backward, error);
        }
    }
    if (status == GM_OK) {
        gm_selftest_add(t, "attention forward", (NORM_COUNT + 1) * Q_SIZE, forward, 2e-6, "");
        gm_selftest_add(t, "attention gradients, by differences", gradients, backward, 1e-5, where);
    }
    gm_free(c);
    gm_free(scratch);
    return status;
}

/* ---- metrics and grids ----------------------------------------------------------------------------------------------------------- */

enum { VALUES = 10007 };

static double relative(double got, double want) {
    return fabs(got - want) / (fabs(want) + 1e-300);
}

static void check_metrics(gm_selftest *t, const gm_ctx *ctx, float *x) {
    uint64_t state = 3;
    double mean = 0, m[5] = {0}, worst = 0, largest = 0, low = INFINITY, high = -INFINITY;
    fill(x, VALUES, &state);
    x[17] = 40; /* outliers, which make a kurtosis */
    x[5003] = -25;
    for (int i = 0; i < VALUES; i++)
        mean += (double)x[i] / VALUES;
    for (int i = 0; i < VALUES; i++) {
        for (int k = 2; k < 5; k++)
            m[k] += pow((double)x[i] - mean, k);
        largest = fmax(largest, fabs((double)x[i]));
        low = fmin(low, (double)x[i]);
        high = fmax(high, (double)x[i]);
    }
    gm_moments whole = gm_moments_of(ctx, x, VALUES);
    gm_moments merged = gm_moments_merge(gm_moments_of(ctx, x, 333), gm_moments_of(ctx, x + 333, VALUES - 333));
    double s2 = m[2] / (VALUES - 1), kurtosis = m[4] / VALUES / (s2 * s2 + 1e-6), excess = VALUES * m[4] / (m[2] * m[2]) - 3;
    const gm_moments *sides[] = {&whole, &merged};
    for (int i = 0; i < 2; i++) {
        const double got[] = {sides[i]->m2, sides[i]->m3, sides[i]->m4, gm_kurtosis(sides[i], 1e-6), gm_excess_kurtosis(sides[i])};
        const double want[] = {m[2], m[3], m[4], kurtosis, excess};
        for (int k = 0; k < 5; k++)
            worst = gm_selftest_larger(worst, relative(got[k], want[k]));
    }
    float min, max;
    gm_min_max(ctx, &min, &max, x, VALUES);
    bool exact = (double)gm_inf_norm(ctx, x, VALUES) == largest && (double)min == low && (double)max == high;
    x[77] = NAN;
    gm_min_max(ctx, &min, &max, x, VALUES);
    exact &= isnan(gm_inf_norm(ctx, x, VALUES)) && isnan(min) && isnan(max);
    gm_selftest_add(t, "metrics: moments, kurtosis, norms", 16, exact ? worst : INFINITY, 1e-11,
                    exact ? "" : "the infinity norm or the range, which are exact");
}

/* Equal to the bit. */
static void check_grids(gm_selftest *t, const gm_ctx *ctx, float *x, float *y) {
    static const int bits[] = {2, 3, 4, 6, 8, 16};
    uint64_t state = 5;
    int64_t wrong = 0, count = 0;
    char where[128] = "";
    fill(x, VALUES, &state);
    x[9] = 3;
    for (size_t i = 0; i < 2 * sizeof bits / sizeof *bits; i++) {
        gm_quant_grid g = i % 2 ? gm_quant_symmetric(bits[i / 2], 2.5f) : gm_quant_asymmetric(bits[i / 2], -0.7f, 2.5f);
        gm_quant_simulate(ctx, y, x, VALUES, g);
        for (int j = 0; j < VALUES; j++, count++) {
            float q = rintf(x[j] / g.scale) + (float)g.zero;
            q = q < (float)g.qmin ? (float)g.qmin : q > (float)g.qmax ? (float)g.qmax : q;
            if (y[j] != g.scale * (q - (float)g.zero) && wrong++ == 0)
                snprintf(where, sizeof where, "%d bits: %.9g becomes %.9g", bits[i / 2], (double)x[j], (double)y[j]);
        }
    }
    gm_selftest_add(t, "quantizer grids: values that differ", count, (double)wrong, 0, where);
}

gm_status gm_selftest_arrays(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    GM_TRY(check_rows(t, ctx, err));
    GM_TRY(check_attention(t, ctx, err));
    float *x = gm_alloc(2 * VALUES, sizeof *x);
    if (!x)
        return gm_fail_memory(err, sizeof *x * 2 * VALUES);
    check_metrics(t, ctx, x);
    check_grids(t, ctx, x, x + VALUES);
    gm_free(x);
    return GM_OK;
}
