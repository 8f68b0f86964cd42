/* histogram.h -- the distribution of many values in little room: counts per eighth of an octave, by the float's own bits. */
#ifndef GM_HISTOGRAM_H
#define GM_HISTOGRAM_H

#include "base.h"

/* A value's bin is the first 12 bits of its float32: sign, exponent, three bits of the mantissa, so that edges lie 7% to 12% apart. */
enum { GM_HISTOGRAM_BINS = 1 << 12 };

typedef struct gm_histogram {
    uint64_t bins[GM_HISTOGRAM_BINS];
    uint64_t count, nonfinite; /* values in bins; NaN and infinities, which are in none */
    double min, max, sum, sum_squares;
} gm_histogram;

void gm_histogram_clear(gm_histogram *h);
void gm_histogram_add(gm_histogram *h, const float *x, int64_t n);
/* Bins that hold something, from the most negative to the largest value: limits[i] is the upper edge of bucket i, counts[i] how many values
 * lie between limits[i - 1] and it. A hole between two is a bucket of its own, with count 0. Both hold up to GM_HISTOGRAM_BINS; returns how
 * many buckets there are: 0 where nothing finite was added. Test: tests/io/test_event_file.c */
int gm_histogram_buckets(const gm_histogram *h, double *limits, double *counts);

#endif
