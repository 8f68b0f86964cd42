/* samples.c -- timing calls, and the few numbers that say how long one takes. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

enum { SAMPLES_MAX = 200 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(const double *sorted, int count) {
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

gm_samples gm_samples_of(double *x, int count) {
    gm_samples s = {.calls = count, .count = count};
    qsort(x, (size_t)count, sizeof *x, ascending);
    s.median = middle(x, count);
    s.min = x[0];
    s.p90 = x[(9 * count + 9) / 10 - 1];
    for (int i = 0; i < count; i++)
        x[i] = fabs(x[i] - s.median);
    qsort(x, (size_t)count, sizeof *x, ascending);
    s.mad = middle(x, count);
    return s;
}

/* How many calls make a sample; the first call brings memory and code in, and shows how long one takes. */
static int64_t calls_per_sample(const gm_call *call, gm_timing how) {
    double begin = gm_seconds(), one;
    call->run(call->state);
    one = gm_seconds() - begin;
    int64_t calls = 1;
    while (one * (double)calls < how.sample_s / 2) { /* what the clock and a short call's start cost must not count */
        calls *= one > 0 ? (int64_t)GM_MIN(GM_MAX(how.sample_s / (one * (double)calls), 2), 1000) : 1000;
        begin = gm_seconds();
        for (int64_t i = 0; i < calls; i++)
            call->run(call->state);
        one = (gm_seconds() - begin) / (double)calls;
    }
    return calls;
}

/* r such that x[r] .. x[count - 1 - r], of sorted samples, encloses their distribution's median with 95%, whatever the distribution: r is
 * the largest for which at most r samples fall below the median with a chance of at most 2.5%. Under six samples there is none: 0. */
static int interval_rank(int count) {
    double chance = ldexp(1, -count), below = chance; /* that exactly r, at most r fall below */
    int r = 0;
    while (below <= 0.025) {
        r++;
        chance *= (double)(count - r + 1) / r;
        below += chance;
    }
    return GM_MAX(r - 1, 0);
}

gm_ratio gm_ratio_of(double *x, int count) {
    qsort(x, (size_t)count, sizeof *x, ascending);
    int r = interval_rank(count);
    return (gm_ratio){middle(x, count), x[r], x[count - 1 - r]};
}

void gm_samples_in_turn(gm_samples *out, gm_ratio *over_first, const gm_call *calls, int kinds, gm_timing how) {
    double seconds[GM_TURNS_MAX][SAMPLES_MAX], ratio[SAMPLES_MAX];
    int64_t times[GM_TURNS_MAX];
    int count = 0;
    for (int i = 0; i < kinds; i++)
        times[i] = calls_per_sample(&calls[i], how);
    double start = gm_seconds();
    while (count < SAMPLES_MAX && (count < how.least || gm_seconds() - start < how.budget_s)) {
        for (int turn = 0; turn < kinds; turn++) {
            const int i = (count + turn) % kinds;
            if (kinds > 1 && times[i] > 1)
                calls[i].run(calls[i].state); /* what the others put out of the caches is not a short call's cost */
            double begin = gm_seconds();
            for (int64_t t = 0; t < times[i]; t++)
                calls[i].run(calls[i].state);
            seconds[i][count] = (gm_seconds() - begin) / (double)times[i];
        }
        count++;
    }
    for (int i = 0; over_first && i < kinds; i++) {
        for (int s = 0; s < count; s++)
            ratio[s] = seconds[i][s] / seconds[0][s];
        over_first[i] = gm_ratio_of(ratio, count);
    }
    for (int i = 0; i < kinds; i++) {
        out[i] = gm_samples_of(seconds[i], count);
        out[i].calls = times[i] * count;
    }
}

gm_samples gm_samples_take(void (*run)(void *state), void *state, gm_timing how) {
    gm_samples s;
    gm_samples_in_turn(&s, NULL, &(gm_call){run, state}, 1, how);
    return s;
}
