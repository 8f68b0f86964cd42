/* sketch.c -- counting, merging and asking (sketch.h says how exactly). */
#include "sketch.h"

#include <math.h>
#include <string.h>

enum { SHIFT = 17, SIGN = GM_SKETCH_BINS / 2, INFINITE = 0x7f800000 >> SHIFT }; /* bins: SIGN is the sign's bit */

gm_status gm_sketch_init(gm_sketch *s, gm_error *err) {
    *s = (gm_sketch){.min = INFINITY, .max = -INFINITY};
    s->count = gm_alloc(GM_SKETCH_BINS, sizeof *s->count);
    return s->count ? GM_OK : gm_fail_memory(err, GM_SKETCH_BINS * sizeof *s->count);
}

void gm_sketch_free(gm_sketch *s) {
    gm_free(s->count);
    *s = (gm_sketch){0};
}

void gm_sketch_add(gm_sketch *s, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        if (isnan(x[i])) {
            s->nan++;
            continue;
        }
        memcpy(&bits, &x[i], sizeof bits);
        s->count[bits >> SHIFT]++;
        s->total++;
        s->min = GM_MIN(s->min, x[i]);
        s->max = GM_MAX(s->max, x[i]);
    }
    s->largest = s->total ? GM_MAX(fabsf(s->min), fabsf(s->max)) : 0.0f;
}

void gm_sketch_merge(gm_sketch *into, const gm_sketch *from) {
    for (int i = 0; i < GM_SKETCH_BINS; i++)
        into->count[i] += from->count[i];
    into->total += from->total;
    into->nan += from->nan;
    into->min = GM_MIN(into->min, from->min);
    into->max = GM_MAX(into->max, from->max);
    into->largest = GM_MAX(into->largest, from->largest);
}

uint64_t gm_sketch_infinities(const gm_sketch *s) {
    return s->count[INFINITE] + s->count[SIGN | INFINITE];
}

static double edge(int bin) {
    uint32_t bits = (uint32_t)bin << SHIFT;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The middle of a bin of sizes: 0 for the first, which holds zero. */
static double middle(int bin) {
    if (bin == 0 || bin == INFINITE)
        return edge(bin);
    return 0.5 * (edge(bin) + (bin + 1 == INFINITE ? 0x1p128 : edge(bin + 1)));
}

/* Of the values in bins, the rank that q asks for; false: there is no answer. */
static bool rank_of(const gm_sketch *s, double q, uint64_t *rank) {
    if (s->total == 0 || s->nan)
        return false;
    *rank = (uint64_t)(q * (double)(s->total - 1) + 0.5);
    return true;
}

double gm_sketch_quantile(const gm_sketch *s, double q) {
    uint64_t rank, below = 0;
    if (!rank_of(s, q, &rank))
        return NAN;
    for (int i = 0; i < GM_SKETCH_BINS; i++) { /* from the most negative to zero to the largest */
        int bin = i < SIGN ? SIGN - 1 - i : i - SIGN;
        below += s->count[i < SIGN ? SIGN | bin : bin];
        if (rank < below)
            return fmin(fmax(i < SIGN ? -middle(bin) : middle(bin), s->min), s->max);
    }
    return s->max;
}

double gm_sketch_size_quantile(const gm_sketch *s, double q) {
    uint64_t rank, below = 0;
    if (!rank_of(s, q, &rank))
        return NAN;
    for (int bin = 0; bin < SIGN; bin++) {
        below += s->count[bin] + s->count[SIGN | bin];
        if (rank < below)
            return fmin(middle(bin), s->largest);
    }
    return s->largest;
}

uint64_t gm_sketch_octave(const gm_sketch *s, int exponent, bool negative) {
    const uint64_t *count = s->count + (negative ? SIGN : 0) + (exponent + 127) * GM_SKETCH_OCTAVE;
    uint64_t sum = 0;
    for (int i = 0; i < GM_SKETCH_OCTAVE; i++)
        sum += count[i];
    return sum;
}

/* Up the sizes of one sign: the first bin that is not wholly below the last size asked for, and the values in those that are. */
typedef struct walk {
    const uint64_t *count;
    int bin;
    double sum;
} walk;

/* Values whose size is below x, which never falls from call to call; a bin's share by its width. */
static double below(walk *w, double x) {
    for (; w->bin < INFINITE; w->bin++) {
        const double low = edge(w->bin), high = w->bin + 1 == INFINITE ? 0x1p128 : edge(w->bin + 1), count = (double)w->count[w->bin];
        if (x < high)
            return x > low ? w->sum + count * ((x - low) / (high - low)) : w->sum;
        w->sum += count;
    }
    return w->sum;
}

void gm_sketch_levels(const gm_sketch *s, int64_t counts[GM_SKETCH_LEVELS]) {
    const int middle_level = GM_SKETCH_LEVELS / 2;
    const double step = (double)s->largest / middle_level;
    memset(counts, 0, GM_SKETCH_LEVELS * sizeof *counts);
    if (!(step > 0) || isinf(step)) {
        counts[middle_level] = (int64_t)(s->total - gm_sketch_infinities(s));
        return;
    }
    for (int negative = 0; negative < 2; negative++) {
        walk w = {.count = s->count + (negative ? SIGN : 0)};
        int64_t before = 0;
        for (int level = 0; level <= middle_level; level++) { /* the last one takes all there is */
            int64_t upto = (int64_t)(below(&w, level == middle_level ? 0x1p128 : (level + 0.5) * step) + 0.5);
            counts[middle_level + (negative ? -level : level)] += upto - before;
            before = upto;
        }
    }
}
