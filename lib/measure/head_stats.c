/* head_stats.c -- what one attention head spends its weights on: the first position, nothing, or less than all. */
#include "metrics.h"

#include <math.h>

enum { SINK_QUERIES = 64 }; /* Sink_1^0.3 (Gu et al. 2024) looks at T = min(64, context) queries */
static const double SINK_THRESHOLD = 0.3;

void gm_head_stats_add(gm_head_stats *s, const float *w, int64_t T, int64_t stride, const float *null_mass) {
    int64_t sink_queries = GM_MIN(T, (int64_t)SINK_QUERIES);
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        int64_t from = p == GM_WITHOUT_FIRST ? 1 : 0;
        if (T <= from)
            continue;
        double sink = 0.0, null = 0.0, unspent = 0.0;
        for (int64_t t = from; t < T; t++) {
            const float *row = w + t * stride;
            double sum = 0.0;
            for (int64_t j = 0; j < T; j++)
                sum += row[j];
            unspent += 1.0 - sum;
            if (null_mass)
                null += null_mass[t];
            if (t < sink_queries)
                sink += row[0];
        }
        gm_head_sums *sums = &s->sums[p];
        double a = sink / (double)(sink_queries - from);
        sums->count++;
        sums->sink_mass += a;
        sums->sink_rate += isnan(a) ? a : (a > SINK_THRESHOLD ? 100.0 : 0.0);
        sums->null_mass += null / (double)(T - from);
        sums->unspent += unspent / (double)(T - from);
    }
}

gm_head_summary gm_head_stats_summary(const gm_head_stats *s, gm_positions positions) {
    const gm_head_sums *sums = &s->sums[positions];
    double n = (double)sums->count; /* 0: everything is 0/0 = NaN */
    return (gm_head_summary){sums->sink_mass / n, sums->sink_rate / n, sums->null_mass / n, sums->unspent / n};
}
