/* selftest_arrays.c -- the public functions on plain arrays beside the same formulas in double, written here once more: normaliser rows,
 * attention and its gradients (by differences of the double), moments, quantizers' grids and ranges. */
#include "selftest.h"

#include "base.h"
#include "quant.h"

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

/* docs/numerics.md, 4, in its order of float operations. */
static gm_quant_grid grid_reference(int bits, float lo, float hi, bool asymmetric) {
    const int32_t levels = (int32_t)1 << bits, qmin = asymmetric ? 0 : -levels / 2, qmax = qmin + levels - 1;
    lo = fminf(lo, 0);
    hi = fmaxf(hi, 0);
    if (!asymmetric)
        return (gm_quant_grid){.scale = fmaxf(fmaxf(-lo, hi) / (float)qmax, 1e-8f), .qmin = qmin, .qmax = qmax};
    const float scale = fmaxf(hi - lo, 1e-8f) / (float)qmax;
    return (gm_quant_grid){.scale = scale, .zero = (int32_t)fminf(rintf(-lo / scale), (float)qmax), .qmin = qmin, .qmax = qmax};
}

static float on_grid(float x, gm_quant_grid g) {
    float q = rintf(x / g.scale) + (float)g.zero;
    q = q < (float)g.qmin ? (float)g.qmin : q > (float)g.qmax ? (float)g.qmax : q;
    return g.scale * (q - (float)g.zero);
}

/* Equal to the bit: grids made of ranges, and values on them. */
static void check_grids(gm_selftest *t, const gm_ctx *ctx, float *x, float *y) {
    static const int bits[] = {2, 3, 4, 6, 8, 16};
    static const float ranges[][2] = {{-0.7f, 2.5f}, {-2.5f, 0.3f}, {0.1f, 3}, {-3, -1}, {-1e-9f, 1e-9f}, {0, 0}};
    enum { BITS = sizeof bits / sizeof *bits, RANGES = sizeof ranges / sizeof *ranges };
    uint64_t state = 5;
    int64_t wrong = 0, count = 0;
    char where[128] = "";
    fill(x, VALUES, &state);
    x[9] = 3;
    for (int i = 0; i < BITS * RANGES * 2; i++) {
        const int b = bits[i / 2 / RANGES];
        const float lo = ranges[i / 2 % RANGES][0], hi = ranges[i / 2 % RANGES][1];
        const gm_quant_grid g = grid_reference(b, lo, hi, i % 2);
        const gm_quant_grid made = i % 2 ? gm_quant_asymmetric(b, lo, hi) : gm_quant_symmetric(b, fmaxf(-lo, hi));
        count++;
        if ((made.scale != g.scale || made.zero != g.zero || made.qmin != g.qmin || made.qmax != g.qmax) && wrong++ == 0)
            snprintf(where, sizeof where, "%d bits: the grid of %g .. %g has scale %.9g, zero %d", b, (double)lo, (double)hi,
                     (double)made.scale, made.zero);
        gm_quant_simulate(ctx, y, x, VALUES, g);
        for (int j = 0; j < VALUES; j++, count++) {
            if (y[j] != on_grid(x[j], g) && wrong++ == 0)
                snprintf(where, sizeof where, "%d bits: %.9g becomes %.9g", b, (double)x[j], (double)y[j]);
        }
    }
    gm_selftest_add(t, "quantizer grids: values that differ", count, (double)wrong, 0, where);
}

/* ---- where the range of a grid comes from ----------------------------------------------------------------------------------------- */

enum { BATCHES = 3, BATCH = VALUES / BATCHES, ROWS = 100, COLS = 100 };

static int by_size(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Of 100 ranges, up to this one and its margin, that with the least squared error. */
static void least_error(double range[2], const float *x, int64_t n, gm_quantizer q) {
    double lo = range[0] < 0 ? range[0] - q.margin : 0, hi = range[1] > 0 ? range[1] + q.margin : 0, least = INFINITY;
    if (!q.asymmetric) {
        hi = fmax(-range[0], range[1]) + q.margin;
        lo = -hi;
    }
    for (int i = 1; i <= 100; i++) {
        const gm_quant_grid g = grid_reference(q.bits, (float)(lo * i / 100), (float)(hi * i / 100), q.asymmetric);
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            sum += pow((double)x[j] - (double)on_grid(x[j], g), 2);
        if (sum < least) {
            least = sum;
            range[0] = lo * i / 100;
            range[1] = hi * i / 100;
        }
    }
}

/* Over batches x [BATCHES, BATCH]. */
static void range_reference(double range[2], const float *x, float *sorted, gm_quantizer q) {
    const bool running = q.range == GM_RANGE_RUNNING || q.range == GM_RANGE_PERCENTILE;
    const double outside = q.range == GM_RANGE_PERCENTILE ? (BATCH - 1) * (100 - q.percentile) / 100 : 0; /* so many values */
    const int whole = (int)outside;
    for (int b = 0; b < BATCHES; b++) {
        memcpy(sorted, x + b * BATCH, BATCH * sizeof *sorted);
        qsort(sorted, BATCH, sizeof *sorted, by_size);
        const float *low = sorted + whole, *high = sorted + BATCH - 1 - whole;
        const double ends[2] = {(double)low[0] + (outside - whole) * (double)(low[1] - low[0]),
                                (double)high[0] - (outside - whole) * (double)(high[0] - high[-1])};
        for (int i = 0; i < 2; i++)
            range[i] = b == 0 ? ends[i] : running ? 0.9 * range[i] + 0.1 * ends[i] : i ? fmax(range[i], ends[i]) : fmin(range[i], ends[i]);
    }
    if (q.range == GM_RANGE_MSE)
        least_error(range, x, BATCHES * BATCH, q);
}

/* The quantizers of presets beside what docs/numerics.md says that they are. */
static gm_status check_ranges(gm_selftest *t, const gm_ctx *ctx, float *x, float *sorted, gm_error *err) {
    static const struct {
        const char *preset;
        bool weights;
        gm_quantizer is;
    } cases[] = {
        {"w8a8", false, {.bits = 8, .range = GM_RANGE_RUNNING, .asymmetric = true}},
        {"opt-paper", false, {.bits = 8, .range = GM_RANGE_PERCENTILE, .percentile = 99.999, .asymmetric = true}},
        {"smoothquant", false, {.bits = 8}},
        {NULL, false, {.bits = 4, .range = GM_RANGE_MSE, .margin = 0.25, .asymmetric = true}},
        {"w8a8", true, {.bits = 8}},
        {"opt-paper", true, {.bits = 8, .range = GM_RANGE_MSE, .margin = 0.5}},
        {"w4a8", true, {.bits = 4, .range = GM_RANGE_MSE, .margin = 0.5}},
    };
    uint64_t state = 11;
    double worst = 0;
    char where[128] = "";
    fill(x, VALUES, &state);
    x[40] = -4;
    x[BATCH + 40] = 7;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const gm_quantizer is = cases[i].is;
        gm_quant_options o = {.weights = is, .activations = is};
        if (cases[i].preset)
            GM_TRY(gm_quant_preset(&o, cases[i].preset, err));
        double want[2] = {-7, 7}, error;
        if (cases[i].weights) {
            gm_quant_grid grid;
            gm_weight_grids(ctx, &grid, x, ROWS, COLS, &o.weights);
            if (is.range == GM_RANGE_MSE)
                least_error(want, x, ROWS * COLS, is);
            error = relative((double)grid.scale, (double)grid_reference(is.bits, (float)want[0], (float)want[1], false).scale);
        } else {
            gm_observer seen = {.range = o.activations.range, .percentile = o.activations.percentile};
            gm_status status = GM_OK;
            for (int b = 0; b < BATCHES && status == GM_OK; b++) {
                status = gm_observer_feed(&seen, ctx, x + b * BATCH, 1, BATCH, BATCH, BATCH, err);
                gm_observer_fold(&seen);
            }
            if (status == GM_OK)
                status = gm_observer_finish(&seen, ctx, &o.activations, err);
            const double got[2] = {(double)seen.lo, (double)seen.hi};
            gm_observer_free(&seen);
            GM_TRY(status);
            range_reference(want, x, sorted, is);
            error = gm_selftest_larger(relative(got[0], want[0]), relative(got[1], want[1]));
        }
        if (!(error <= worst))
            snprintf(where, sizeof where, "%s, %s", cases[i].preset ? cases[i].preset : "least error",
                     cases[i].weights ? "weights" : "activations");
        worst = gm_selftest_larger(worst, error);
    }
    gm_selftest_add(t, "quantizer ranges, of presets", sizeof cases / sizeof *cases, worst, 1e-6, where);
    return GM_OK;
}

gm_status gm_selftest_arrays(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    GM_TRY(check_rows(t, ctx, err));
    GM_TRY(check_attention(t, ctx, err));
    float *x = gm_alloc(2 * VALUES, sizeof *x);
    if (!x)
        return gm_fail_memory(err, sizeof *x * 2 * VALUES);
    check_metrics(t, ctx, x);
    check_grids(t, ctx, x, x + VALUES);
    gm_status status = check_ranges(t, ctx, x, x + VALUES, err);
    gm_free(x);
    return status;
}
