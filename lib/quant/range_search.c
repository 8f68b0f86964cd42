/* range_search.c -- the range whose grid makes the least squared error: the published search over 100 candidates, and golden-section search
 * (Kiefer 1953), which takes 40 evaluations for a range that is exact to 1e-8 of its width. */
#include "quant.h"

#include <math.h>

enum { CANDIDATES = 100, SECTIONS = 38 };

gm_quant_grid gm_quantizer_grid(const gm_quantizer *q, float lo, float hi) {
    if (q->asymmetric)
        return gm_quant_asymmetric(q->bits, lo, hi);
    float absmax = fmaxf(fabsf(lo), fabsf(hi));
    return gm_quant_symmetric(q->bits, isnan(lo) || isnan(hi) ? NAN : absmax);
}

double gm_range_error(const gm_ctx *ctx, const gm_range_sample *sample, gm_quant_grid grid) {
    enum { BLOCK = 1024 };
    float y[BLOCK];
    double sum = 0.0;
    for (int64_t i = 0; i < sample->n; i += BLOCK) {
        const int64_t count = GM_MIN(sample->n - i, (int64_t)BLOCK);
        gm_quant_simulate(ctx, y, sample->x + i, count, grid);
        double block = 0.0;
        for (int64_t j = 0; j < count; j++) {
            double d = (double)sample->x[i + j] - y[j];
            block += sample->weight ? d * d * sample->weight[i + j] : d * d;
        }
        sum += block;
    }
    return sum;
}

typedef struct search {
    const gm_ctx *ctx;
    const gm_range_sample *sample;
    const gm_quantizer *q;
    double lo, hi; /* with the margin: what a share of 1 means */
    double least;
    float best_lo, best_hi;
} search;

/* The error of a range; the least so far is kept. */
static double try_range(search *s, double lo, double hi) {
    double error = gm_range_error(s->ctx, s->sample, gm_quantizer_grid(s->q, (float)lo, (float)hi));
    if (error < s->least) {
        s->least = error;
        s->best_lo = (float)lo;
        s->best_hi = (float)hi;
    }
    return error;
}

static double try_share(search *s, double share) {
    return try_range(s, s->lo * share, s->hi * share);
}

void gm_range_search(const gm_ctx *ctx, const gm_range_sample *sample, const gm_quantizer *q, float *lo, float *hi) {
    search s = {ctx, sample, q, *lo, *hi, INFINITY, *lo, *hi};
    if (q->asymmetric) {
        s.lo = *lo < 0 ? *lo - q->margin : 0;
        s.hi = *hi > 0 ? *hi + q->margin : 0;
    } else {
        s.hi = fmax(fabs((double)*lo), fabs((double)*hi)) + q->margin;
        s.lo = -s.hi;
    }
    if (!isfinite(s.lo) || !isfinite(s.hi) || isnan(*lo) || isnan(*hi))
        return;
    if (q->range == GM_RANGE_MSE) {
        for (int i = 1; i <= CANDIDATES; i++)
            try_range(&s, s.lo * i / CANDIDATES, s.hi * i / CANDIDATES);
    } else {
        const double section = (sqrt(5.0) - 1) / 2;
        double a = 0, b = 1, c = b - section * (b - a), d = a + section * (b - a);
        try_share(&s, 1);
        double at_c = try_share(&s, c), at_d = try_share(&s, d);
        for (int i = 0; i < SECTIONS; i++) {
            if (at_c < at_d) {
                b = d, d = c, at_d = at_c;
                c = b - section * (b - a);
                at_c = try_share(&s, c);
            } else {
                a = c, c = d, at_c = at_d;
                d = a + section * (b - a);
                at_d = try_share(&s, d);
            }
        }
    }
    *lo = s.best_lo;
    *hi = s.best_hi;
}
