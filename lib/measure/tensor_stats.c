/* tensor_stats.c -- norms, kurtoses and quantiles of one activation tensor over a stream of sequences. Moments are taken token by token
 * and merged: per token, per sequence and pooled come from the same numbers, whatever the row stride. */
#include "metrics.h"

#include <math.h>
#include <string.h>

static const double KURTOSIS_EPS = 1e-6; /* of the published code (Bondarenko et al. 2023) */

gm_status gm_tensor_stats_init(gm_tensor_stats *s, bool per_token, gm_error *err) {
    *s = (gm_tensor_stats){.per_token = per_token};
    s->histogram = gm_alloc(GM_HISTOGRAM_BINS, sizeof *s->histogram);
    return s->histogram ? GM_OK : gm_fail_memory(err, GM_HISTOGRAM_BINS * sizeof *s->histogram);
}

void gm_tensor_stats_free(gm_tensor_stats *s) {
    gm_free(s->histogram);
    *s = (gm_tensor_stats){0};
}

/* max that lets a NaN through from either side */
static float max_or_nan(float a, float b) {
    return a > b || isnan(a) ? a : b;
}

static void sums_add(gm_tensor_sums *s, float inf_norm, const gm_moments *m, bool kurtosis) {
    s->count++;
    s->inf_norm += inf_norm;
    if (kurtosis) {
        s->kurtosis_count++;
        s->kurtosis += gm_kurtosis(m, KURTOSIS_EPS);
        s->kurtosis_eps0 += gm_kurtosis(m, 0.0);
    }
}

static void histogram_add(uint64_t *histogram, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        histogram[(bits >> 16) & (GM_HISTOGRAM_BINS - 1)]++;
    }
}

gm_moments gm_tensor_stats_add(gm_tensor_stats *s, const gm_ctx *ctx, const float *x, int64_t T, int64_t C, int64_t stride, bool kurtosis) {
    gm_moments rest = {0}, first = {0};
    float rest_max = 0.0f, first_max = 0.0f;
    for (int64_t t = 0; t < T; t++) {
        const float *row = x + t * stride;
        gm_moments m = gm_moments_of(ctx, row, C);
        float max = gm_inf_norm(ctx, row, C);
        histogram_add(s->histogram, row, C);
        if (t == 0) {
            first = m;
            first_max = max;
            s->first_norm += sqrt(m.m2 + (double)C * m.mean * m.mean); /* sum of squares about zero */
            s->sequences++;
        } else {
            rest = gm_moments_merge(rest, m);
            rest_max = max_or_nan(rest_max, max);
        }
        if (s->per_token) {
            for (int p = t == 0 ? GM_ALL_POSITIONS : GM_WITHOUT_FIRST; p >= GM_ALL_POSITIONS; p--)
                sums_add(&s->sums[p], max, &m, kurtosis);
        }
    }
    gm_moments whole = gm_moments_merge(first, rest);
    const gm_moments moments[GM_POSITIONS_COUNT] = {whole, rest};
    const float max[GM_POSITIONS_COUNT] = {max_or_nan(first_max, rest_max), rest_max};
    for (int p = 0; p < GM_POSITIONS_COUNT && moments[p].n > 0; p++) {
        gm_tensor_sums *sums = &s->sums[p];
        sums->absmax = max_or_nan(sums->absmax, max[p]);
        sums->pooled = gm_moments_merge(sums->pooled, moments[p]);
        if (!s->per_token)
            sums_add(sums, max[p], &moments[p], kurtosis);
    }
    return whole;
}

gm_tensor_summary gm_tensor_stats_summary(const gm_tensor_stats *s, gm_positions positions) {
    const gm_tensor_sums *sums = &s->sums[positions];
    if (sums->count == 0)
        return (gm_tensor_summary){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    return (gm_tensor_summary){
        .inf_norm = sums->inf_norm / (double)sums->count,
        .kurtosis = sums->kurtosis / (double)sums->kurtosis_count,
        .kurtosis_eps0 = sums->kurtosis_eps0 / (double)sums->kurtosis_count,
        .excess_kurtosis = gm_excess_kurtosis(&sums->pooled),
        .mean = sums->pooled.mean,
        .standard_dev = sqrt(sums->pooled.m2 / (double)sums->pooled.n),
        .absmax = sums->absmax,
        .first_norm = s->first_norm / (double)s->sequences,
    };
}

static double bin_edge(int64_t bin) {
    uint32_t bits = (uint32_t)bin << 16;
    float edge;
    memcpy(&edge, &bits, sizeof edge);
    return edge;
}

double gm_tensor_stats_quantile(const gm_tensor_stats *s, double q) {
    enum { INFINITY_BIN = 0x7f80 };
    int64_t n = s->sums[GM_ALL_POSITIONS].pooled.n;
    if (n == 0 || isnan(s->sums[GM_ALL_POSITIONS].absmax))
        return NAN;
    double rank = q * (double)(n - 1), below = 0.0;
    for (int64_t bin = 0; bin < INFINITY_BIN; bin++) {
        double count = (double)s->histogram[bin];
        if (rank < below + count) {
            double lo = bin_edge(bin), hi = bin == 0 ? 0.0 : bin_edge(bin + 1); /* bin 0: zeros and denormals */
            double share = fmin((rank - below + 0.5) / count, 1.0);
            return fmin(lo + (hi - lo) * share, s->sums[GM_ALL_POSITIONS].absmax);
        }
        below += count;
    }
    return INFINITY;
}
