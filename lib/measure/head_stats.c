/* head_stats.c -- what one attention head spends its weights on (the first position, nothing, one place or many), and what comes of it:
 * how much it adds to the residual stream, and how little the value at its sink says. */
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

/* A sequence's mean over queries first .. T-1 of the values that are there (count), added to *sum. */
static void add_mean(double *sum, int64_t *sequences, double of, int64_t count) {
    if (count == 0)
        return;
    *sum += of / (double)count;
    *sequences += 1;
}

void gm_head_stats_add_entropy(gm_head_stats *s, const float *w, int64_t T, int64_t stride) {
    double total[GM_POSITIONS_COUNT] = {0};
    int64_t count[GM_POSITIONS_COUNT] = {0};
    for (int64_t t = 0; t < T; t++) {
        const float *row = w + t * stride;
        double sum = 0.0, logs = 0.0; /* -sum p ln p with p = w / sum is ln sum - (sum w ln w) / sum */
        for (int64_t j = 0; j < T; j++) {
            sum += row[j];
            if (row[j] != 0.0f)
                logs += (double)row[j] * (double)logf(row[j]);
        }
        if (sum == 0.0) /* a query that spends nothing has no distribution */
            continue;
        for (int p = 0; p <= (t > 0 ? GM_WITHOUT_FIRST : GM_ALL_POSITIONS); p++) {
            total[p] += log(sum) - logs / sum;
            count[p]++;
        }
    }
    for (int p = 0; p < GM_POSITIONS_COUNT; p++)
        add_mean(&s->sums[p].entropy, &s->sums[p].entropy_count, total[p], count[p]);
}

void gm_head_stats_add_noop(gm_head_stats *s, const double *head_norm, const double *residual_norm, int64_t T) {
    double sum[GM_POSITIONS_COUNT] = {0};
    int64_t count[GM_POSITIONS_COUNT] = {0};
    for (int64_t t = 0; t < T; t++) {
        if (residual_norm[t] == 0.0) /* an all-zero token: there is nothing to compare with */
            continue;
        for (int p = 0; p <= (t > 0 ? GM_WITHOUT_FIRST : GM_ALL_POSITIONS); p++) {
            sum[p] += head_norm[t] / residual_norm[t];
            count[p]++;
        }
    }
    for (int p = 0; p < GM_POSITIONS_COUNT; p++)
        add_mean(&s->sums[p].noop, &s->sums[p].noop_count, sum[p], count[p]);
}

void gm_head_stats_add_drain(gm_head_stats *s, const double *value_norm, int64_t T) {
    double others = 0.0;
    for (int64_t t = 1; t < T; t++)
        others += value_norm[t];
    if (T > 1)
        add_mean(&s->drain, &s->drain_count, value_norm[0] / (others / (double)(T - 1)), 1);
}

void gm_head_stats_merge(gm_head_stats *into, const gm_head_stats *from) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        gm_head_sums *a = &into->sums[p];
        const gm_head_sums *b = &from->sums[p];
        a->count += b->count;
        a->entropy_count += b->entropy_count;
        a->noop_count += b->noop_count;
        a->sink_mass += b->sink_mass;
        a->sink_rate += b->sink_rate;
        a->null_mass += b->null_mass;
        a->unspent += b->unspent;
        a->entropy += b->entropy;
        a->noop += b->noop;
    }
    into->drain_count += from->drain_count;
    into->drain += from->drain;
}

gm_head_summary gm_head_stats_summary(const gm_head_stats *s, gm_positions positions) {
    const gm_head_sums *sums = &s->sums[positions];
    double n = (double)sums->count; /* 0: everything is 0/0 = NaN */
    return (gm_head_summary){.sink_mass = sums->sink_mass / n,
                             .sink_rate = sums->sink_rate / n,
                             .null_mass = sums->null_mass / n,
                             .unspent = sums->unspent / n,
                             .entropy = sums->entropy / (double)sums->entropy_count,
                             .noop = sums->noop / (double)sums->noop_count,
                             .drain = s->drain / (double)s->drain_count};
}
