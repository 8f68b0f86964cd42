/* moments.c -- norms and moments of raw tensors (DESIGN: metrics), accumulated in double by the kernels. */
#include "context.h"

#include <math.h>

float gm_inf_norm(const gm_ctx *ctx, const float *x, int64_t n) {
    return ctx->k->f32_absmax(x, n);
}

void gm_min_max(const gm_ctx *ctx, float *min, float *max, const float *x, int64_t n) {
    float range[2];
    ctx->k->f32_minmax(range, x, n);
    *min = range[0];
    *max = range[1];
}

gm_moments gm_moments_of(const gm_ctx *ctx, const float *x, int64_t n) {
    if (n <= 0)
        return (gm_moments){0};
    double mean = ctx->k->f32_sum(x, n) / (double)n, powers[3];
    ctx->k->f32_moments(powers, x, n, mean);
    return (gm_moments){.n = n, .mean = mean, .m2 = powers[0], .m3 = powers[1], .m4 = powers[2]};
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
