/* histogram.c -- counting by the float's own bits (histogram.h says how finely). */
#include "histogram.h"

#include <math.h>
#include <string.h>

enum { SHIFT = 20, SIGN = GM_HISTOGRAM_BINS / 2, INFINITE = 0x7f800000 >> SHIFT };

void gm_histogram_clear(gm_histogram *h) {
    memset(h, 0, sizeof *h);
    h->min = INFINITY;
    h->max = -INFINITY;
}

void gm_histogram_add(gm_histogram *h, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if (((bits >> SHIFT) & INFINITE) == INFINITE) {
            h->nonfinite++;
            continue;
        }
        h->bins[bits >> SHIFT]++;
        h->count++;
        h->min = GM_MIN(h->min, x[i]);
        h->max = GM_MAX(h->max, x[i]);
        h->sum += x[i];
        h->sum_squares += (double)x[i] * x[i];
    }
}

static double edge(int bin) {
    uint32_t bits = (uint32_t)bin << SHIFT;
    float x;
    memcpy(&x, &bits, sizeof x);
    return isinf(x) ? 0x1p128 : x;
}

int gm_histogram_buckets(const gm_histogram *h, double *limits, double *counts) {
    int n = 0;
    bool hole = false;
    for (int i = 0; i < 2 * INFINITE; i++) { /* every finite bin, from the most negative to the largest */
        int size = i < INFINITE ? INFINITE - 1 - i : i - INFINITE;
        uint64_t count = h->bins[i < INFINITE ? SIGN | size : size];
        if (!count) {
            hole = n > 0;
            continue;
        }
        double low = i < INFINITE ? -edge(size + 1) : edge(size), high = i < INFINITE ? -edge(size) : edge(size + 1);
        if (hole) {
            limits[n] = low;
            counts[n++] = 0;
        }
        limits[n] = high;
        counts[n++] = (double)count;
        hole = false;
    }
    return n;
}
