/* moments.c -- norms and moments of raw tensors (DESIGN: metrics). Everything is accumulated in double, in one order that depends
 * only on n: eight running sums, so that the compiler can use vectors, added up at the end. */
#include "base.h"

#include <math.h>

enum { LANES = 8 };

float gm_inf_norm(const gm_ctx *ctx, const float *x, int64_t n) {
    (void)ctx;
    float max = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        if (!(a <= max)) {
            if (isnan(a))
                return a;
            max = a;
        }
    }
    return max;
}

static double sum_of(const double lanes[LANES]) {
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

typedef struct powers {
    double s2[LANES], s3[LANES], s4[LANES];
} powers;

static inline void powers_add(powers *p, const float *x, int count, double mean) {
    for (int j = 0; j < count; j++) {
        double d = x[j] - mean, d2 = d * d;
        p->s2[j] += d2;
        p->s3[j] += d2 * d;
        p->s4[j] += d2 * d2;
    }
}

gm_moments gm_moments_of(const gm_ctx *ctx, const float *x, int64_t n) {
    (void)ctx;
    if (n <= 0)
        return (gm_moments){0};
    int64_t whole = n - n % LANES;
    double s1[LANES] = {0};
    for (int64_t i = 0; i < whole; i += LANES) {
        for (int j = 0; j < LANES; j++)
            s1[j] += x[i + j];
    }
    for (int64_t i = whole; i < n; i++)
        s1[i - whole] += x[i];
    double mean = sum_of(s1) / (double)n;
    powers p = {0};
    for (int64_t i = 0; i < whole; i += LANES)
        powers_add(&p, x + i, LANES, mean);
    powers_add(&p, x + whole, (int)(n - whole), mean);
    return (gm_moments){.n = n, .mean = mean, .m2 = sum_of(p.s2), .m3 = sum_of(p.s3), .m4 = sum_of(p.s4)};
}

gm_moments gm_moments_merge(gm_moments a, gm_moments b) {
    if (a.n == 0)
        return b;
    if (b.n == 0)
        return a;
    double na = (double)a.n, nb = (double)b.n, n = na + nb;
    double d = b.mean - a.mean, d_n = d / n, d2 = d * d_n * na * nb; /* d2: what m2 gains */
    gm_moments m = {.n = a.n + b.n};
    m.mean = a.mean + d_n * nb;
    m.m2 = a.m2 + b.m2 + d2;
    m.m3 = a.m3 + b.m3 + d2 * d_n * (na - nb) + 3.0 * d_n * (na * b.m2 - nb * a.m2);
    m.m4 = a.m4 + b.m4 + d2 * d_n * d_n * (na * na - na * nb + nb * nb) + 6.0 * d_n * d_n * (na * na * b.m2 + nb * nb * a.m2) +
           4.0 * d_n * (na * b.m3 - nb * a.m3);
    return m;
}

double gm_kurtosis(const gm_moments *m, double eps) {
    if (m->n < 2)
        return NAN;
    double variance = m->m2 / (double)(m->n - 1);
    return m->m4 / (double)m->n / (variance * variance + eps); /* 0/0 is NaN: a constant tensor with eps = 0 */
}

double gm_excess_kurtosis(const gm_moments *m) {
    return m->n < 1 ? NAN : (double)m->n * m->m4 / (m->m2 * m->m2) - 3.0;
}
