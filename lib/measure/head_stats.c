/* head_stats.c -- what one attention head spends its weights on: the first position, nothing, or less than all. */
#include "metrics.h"

#include <math.h>

enum { SINK_QUERIES = 64 }; /* Sink_1^0.3 (Gu et al. 2024) looks at T = min(64, context) queries */
static const double SINK_THRESHOLD = 0.3;

void gm_head_stats_add(gm_head_stats *s, const float *w, int64_t T, int64_t stride, const float *null_mass) {
    int64_t sink_queries = GM_MIN(T, (int64_t)SINK_QUERIES);
    double sink[GM_POSITIONS_COUNT] = {0}, null[GM_POSITIONS_COUNT] = {0}, unspent[GM_POSITIONS_COUNT] = {0};
    for (int64_t t = 0; t < T; t++) {
        const float *row = w + t * stride;
        double sum = 0.0;
        for (int64_t j = 0; j < T; j++)
            sum += row[j];
        for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
            if (p == GM_WITHOUT_FIRST && t == 0)
                continue;
            unspent[p] += 1.0 - sum;
            null[p] += null_mass ? null_mass[t] : 0.0;
            sink[p] += t < sink_queries ? row[0] : 0.0;
        }
    }
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        int64_t from = p == GM_WITHOUT_FIRST ? 1 : 0;
        if (T <= from)
            continue;
        gm_head_sums *sums = &s->sums[p];
        double a = sink[p] / (double)(sink_queries - from);
        sums->count++;
        sums->sink_mass += a;
        sums->sink_rate += isnan(a) ? a : (a > SINK_THRESHOLD ? 100.0 : 0.0);
        sums->null_mass += null[p] / (double)(T - from);
        sums->unspent += unspent[p] / (double)(T - from);
    }
}

gm_head_summary gm_head_stats_summary(const gm_head_stats *s, gm_positions positions) {
    const gm_head_sums *sums = &s->sums[positions];
    double n = (double)sums->count; /* 0: everything is 0/0 = NaN */
    return (gm_head_summary){sums->sink_mass / n, sums->sink_rate / n, sums->null_mass / n, sums->unspent / n};
}
