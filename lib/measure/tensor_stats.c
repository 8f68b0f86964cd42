/* tensor_stats.c -- norms, kurtoses and distribution of one activation tensor over a stream of sequences. Moments are taken token by token
 * and merged: per token, per sequence and pooled come from the same numbers, whatever the row stride. */
#include "metrics.h"
#include "parallel.h"

#include <math.h>

static const double KURTOSIS_EPS = 1e-6; /* of the published code (Bondarenko et al. 2023) */

gm_status gm_tensor_stats_init(gm_tensor_stats *s, bool per_token, gm_error *err) {
    *s = (gm_tensor_stats){.per_token = per_token};
    return gm_sketch_init(&s->sketch, err);
}

void gm_tensor_stats_free(gm_tensor_stats *s) {
    gm_sketch_free(&s->sketch);
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

void gm_rows_of(gm_row *rows, const gm_ctx *ctx, const float *x, int64_t T, int64_t C, int64_t stride) {
#pragma omp parallel for num_threads(gm_ctx_threads(ctx)) if (T * C >= GM_PARALLEL_MIN)
    for (int64_t t = 0; t < T; t++) {
        gm_moments m = gm_moments_of(ctx, x + t * stride, C);
        rows[t] = (gm_row){.moments = m,
                           .norm = sqrt(m.m2 + (double)C * m.mean * m.mean), /* squares about zero */
                           .absmax = gm_inf_norm(ctx, x + t * stride, C)};
    }
}

void gm_tensor_stats_add(gm_tensor_stats *s, const gm_row *rows, const float *x, int64_t T, int64_t C, int64_t stride, bool kurtosis,
                         gm_moments moments[GM_POSITIONS_COUNT]) {
    gm_moments rest = {0}, first = {0};
    float rest_max = 0.0f, first_max = 0.0f;
    for (int64_t t = 0; t < T; t++) {
        gm_moments m = rows[t].moments;
        float max = rows[t].absmax;
        gm_sketch_add(&s->sketch, x + t * stride, C);
        if (t == 0) {
            first = m;
            first_max = max;
            s->first_norm += rows[t].norm;
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
    moments[GM_ALL_POSITIONS] = gm_moments_merge(first, rest);
    moments[GM_WITHOUT_FIRST] = rest;
    const float max[GM_POSITIONS_COUNT] = {max_or_nan(first_max, rest_max), rest_max};
    for (int p = 0; p < GM_POSITIONS_COUNT && moments[p].n > 0; p++) {
        gm_tensor_sums *sums = &s->sums[p];
        sums->absmax = max_or_nan(sums->absmax, max[p]);
        sums->pooled = gm_moments_merge(sums->pooled, moments[p]);
        if (!s->per_token)
            sums_add(sums, max[p], &moments[p], kurtosis);
    }
}

void gm_tensor_stats_merge(gm_tensor_stats *into, const gm_tensor_stats *from) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        gm_tensor_sums *a = &into->sums[p];
        const gm_tensor_sums *b = &from->sums[p];
        a->count += b->count;
        a->kurtosis_count += b->kurtosis_count;
        a->inf_norm += b->inf_norm;
        a->kurtosis += b->kurtosis;
        a->kurtosis_eps0 += b->kurtosis_eps0;
        a->absmax = max_or_nan(a->absmax, b->absmax);
        a->pooled = gm_moments_merge(a->pooled, b->pooled);
    }
    gm_sketch_merge(&into->sketch, &from->sketch);
    into->first_norm += from->first_norm;
    into->sequences += from->sequences;
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
