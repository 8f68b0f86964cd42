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
static int64_t calls_per_sample(void (*run)(void *state), void *state, gm_timing how) {
    double begin = gm_seconds(), one;
    run(state);
    one = gm_seconds() - begin;
    int64_t calls = 1;
    while (one * (double)calls < how.sample_s / 2) { /* what the clock and a short call's start cost must not count */
        calls *= one > 0 ? (int64_t)GM_MIN(GM_MAX(how.sample_s / (one * (double)calls), 2), 1000) : 1000;
        begin = gm_seconds();
        for (int64_t i = 0; i < calls; i++)
            run(state);
        one = (gm_seconds() - begin) / (double)calls;
    }
    return calls;
}

void gm_samples_take_two(gm_samples *out, void (*run)(void *state), void *state, void (*beside)(void *state), void *beside_state,
                         gm_timing how) {
    void (*const runs[])(void *) = {run, beside};
    void *const states[] = {state, beside_state};
    const int kinds = beside ? 2 : 1;
    double seconds[2][SAMPLES_MAX], start;
    int64_t calls[2];
    int count = 0;
    for (int i = 0; i < kinds; i++)
        calls[i] = calls_per_sample(runs[i], states[i], how);
    start = gm_seconds();
    while (count < SAMPLES_MAX && (count < how.least || gm_seconds() - start < how.budget_s)) {
        for (int i = 0; i < kinds; i++) {
            double begin = gm_seconds();
            for (int64_t c = 0; c < calls[i]; c++)
                runs[i](states[i]);
            seconds[i][count] = (gm_seconds() - begin) / (double)calls[i];
        }
        count++;
    }
    for (int i = 0; i < kinds; i++) {
        out[i] = gm_samples_of(seconds[i], count);
        out[i].calls = calls[i] * count;
    }
}

gm_samples gm_samples_take(void (*run)(void *state), void *state, gm_timing how) {
    gm_samples s;
    gm_samples_take_two(&s, run, state, NULL, NULL, how);
    return s;
}
