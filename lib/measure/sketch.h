/* sketch.h -- how often which values occurred, in memory that does not grow: a histogram over the float's own bits.
 *
 * A value's bin is the first 15 bits of its float32: sign, exponent, six bits of the mantissa. So bins are logarithmic, 64 to the
 * octave, the same on every machine, and adding counts is all that merging needs: the sketch of two streams is the sum of theirs, in any
 * order and any parts. A quantile is answered by the middle of the bin that holds its order statistic: within 1/128 of the exact value
 * (|error| <= |x| / 128; below 2^-126, where floats lose their mantissa, within 2^-132). NaN is counted apart and never in a bin. The idea
 * is DDSketch's (Masson et al. 2019), with the float's own logarithm. Test: tests/measure/test_sketch.c */
#ifndef GM_SKETCH_H
#define GM_SKETCH_H

#include "base.h"

enum { GM_SKETCH_BINS = 1 << 15, GM_SKETCH_OCTAVE = 64 /* bins */ };
#define GM_SKETCH_ERROR (1.0 / 128.0)

typedef struct gm_sketch {
    uint64_t *count;         /* [GM_SKETCH_BINS] */
    uint64_t total, nan;     /* values in bins; NaNs */
    float min, max, largest; /* of the values in bins; largest: of their sizes */
} gm_sketch;

gm_status gm_sketch_init(gm_sketch *s, gm_error *err);
void gm_sketch_free(gm_sketch *s);
void gm_sketch_add(gm_sketch *s, const float *x, int64_t n);
void gm_sketch_merge(gm_sketch *into, const gm_sketch *from);
uint64_t gm_sketch_infinities(const gm_sketch *s);

/* The order statistic number floor(q (n-1) + 1/2), counted from 0, of the values or of their sizes. NaN when there is none, or was a NaN.
 */
double gm_sketch_quantile(const gm_sketch *s, double q);
double gm_sketch_size_quantile(const gm_sketch *s, double q);

/* How many finite values are 2^e <= |x| < 2^(e+1); exponent -127: zeros and subnormals. */
enum { GM_SKETCH_ZERO = -127, GM_SKETCH_TOP = 127 };
uint64_t gm_sketch_octave(const gm_sketch *s, int exponent, bool negative);

/* How an even grid of 255 levels over the largest size would be used: counts[i] finite values nearest to level i - 127, a step apart,
 * step = largest / 127. A bin that two levels share is divided evenly over its width, so counts are exact to what lies in such bins; they
 * sum to all values in bins. Without a finite largest size other than 0 all are at level 0. */
enum { GM_SKETCH_LEVELS = 255 };
void gm_sketch_levels(const gm_sketch *s, int64_t counts[GM_SKETCH_LEVELS]);

#endif
