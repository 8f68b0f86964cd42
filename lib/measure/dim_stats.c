/* dim_stats.c -- every feature dimension of a tensor by itself: its moments over all tokens, and where it was largest. */
#include "metrics.h"

#include <math.h>
#include <string.h>

gm_status gm_dim_stats_init(gm_dim_stats *s, int64_t C, gm_error *err) {
    *s = (gm_dim_stats){.C = C};
    s->place = gm_alloc((size_t)C, sizeof *s->place);
    s->work = gm_alloc((size_t)(4 * C), sizeof *s->work);
    bool have = s->place && s->work;
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        s->moments[p] = gm_alloc((size_t)C, sizeof *s->moments[p]);
        s->absmax[p] = gm_alloc((size_t)C, sizeof *s->absmax[p]);
        have = have && s->moments[p] && s->absmax[p];
    }
    return have ? GM_OK : gm_fail_memory(err, (size_t)C * (2 * sizeof **s->moments + sizeof *s->place + 4 * sizeof *s->work));
}

void gm_dim_stats_free(gm_dim_stats *s) {
    gm_free(s->place);
    gm_free(s->work);
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        gm_free(s->moments[p]);
        gm_free(s->absmax[p]);
    }
    *s = (gm_dim_stats){0};
}

/* Moments about the mean of every column of rows 1 .. T-1: two passes, row by row, so that the compiler's vectors run along the row. */
static void column_moments(double *work, const float *x, int64_t T, int64_t C, int64_t stride) {
    double *mean = work, *m2 = work + C, *m3 = work + 2 * C, *m4 = work + 3 * C;
    memset(work, 0, (size_t)(4 * C) * sizeof *work);
    for (int64_t t = 1; t < T; t++) {
        for (int64_t c = 0; c < C; c++)
            mean[c] += x[t * stride + c];
    }
    for (int64_t c = 0; c < C; c++)
        mean[c] /= (double)(T - 1);
    for (int64_t t = 1; t < T; t++) {
        for (int64_t c = 0; c < C; c++) {
            double d = x[t * stride + c] - mean[c], d2 = d * d;
            m2[c] += d2;
            m3[c] += d2 * d;
            m4[c] += d2 * d2;
        }
    }
}

void gm_dim_stats_add(gm_dim_stats *s, const float *x, int64_t T, int64_t C, int64_t stride, int64_t sequence, const int32_t *tokens) {
    gm_moments *all = s->moments[GM_ALL_POSITIONS], *rest = s->moments[GM_WITHOUT_FIRST];
    if (T > 1)
        column_moments(s->work, x, T, C, stride);
    for (int64_t c = 0; c < C; c++) {
        gm_moments m = {.n = T - 1, .mean = s->work[c], .m2 = s->work[C + c], .m3 = s->work[2 * C + c], .m4 = s->work[3 * C + c]};
        all[c] = gm_moments_merge(all[c], (gm_moments){.n = 1, .mean = x[c]});
        if (T > 1) {
            all[c] = gm_moments_merge(all[c], m);
            rest[c] = gm_moments_merge(rest[c], m);
        }
    }
    for (int64_t t = 0; t < T; t++) {
        for (int64_t c = 0; c < C; c++) {
            float value = x[t * stride + c], size = fabsf(value);
            if (t > 0 && !(size <= s->absmax[GM_WITHOUT_FIRST][c]) && !isnan(s->absmax[GM_WITHOUT_FIRST][c]))
                s->absmax[GM_WITHOUT_FIRST][c] = size;
            if (!(size <= s->absmax[GM_ALL_POSITIONS][c]) && !isnan(s->absmax[GM_ALL_POSITIONS][c])) {
                s->absmax[GM_ALL_POSITIONS][c] = size;
                s->place[c] = (struct gm_dim_place){.sequence = sequence, .position = t, .token = tokens[t], .value = value};
            }
        }
    }
}

void gm_dim_stats_merge(gm_dim_stats *into, const gm_dim_stats *from) {
    for (int64_t c = 0; c < into->C; c++) {
        for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
            into->moments[p][c] = gm_moments_merge(into->moments[p][c], from->moments[p][c]);
            if (from->absmax[p][c] <= into->absmax[p][c] || isnan(into->absmax[p][c])) /* of equals the first, as in adding */
                continue;
            into->absmax[p][c] = from->absmax[p][c];
            if (p == GM_ALL_POSITIONS)
                into->place[c] = from->place[c];
        }
    }
}
