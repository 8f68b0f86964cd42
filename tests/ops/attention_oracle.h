/* attention_oracle.h -- attention and its gradients in double, written from DESIGN's formulas without tiles, lanes or shared code: what the
 * library is compared with. Its gradients are themselves checked against finite differences of its forward pass (test_attention.c). */
#ifndef ATTENTION_ORACLE_H
#define ATTENTION_ORACLE_H

#include "ghostmax.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct oracle {
    gm_attention_shape shape; /* contiguous: strides are ignored */
    gm_norm norm;
    double *q, *k, *v, *sinks; /* inputs; sinks NULL: norm.sink */
    double *o, *lse;           /* outputs */
    double *dq, *dk, *dv, *dsinks;
} oracle;

static int64_t oracle_q_size(const gm_attention_shape *s) {
    return s->B * s->T * s->H * s->D;
}
static int64_t oracle_kv_size(const gm_attention_shape *s) {
    return s->B * s->S * s->KV * s->D;
}

static bool oracle_sees(const gm_attention_shape *s, int64_t t, int64_t j) {
    int64_t position = s->S - s->T + t;
    return !(s->causal && j > position) && !(s->window && j <= position - s->window);
}

/* p_j of one row; returns lse. */
static double oracle_row(double *p, const double *s, const bool *seen, int64_t n, double sink) {
    double m = sink, z = 0;
    for (int64_t j = 0; j < n; j++) {
        if (seen[j] && !(s[j] <= m))
            m = s[j];
    }
    if (m == -INFINITY) {
        memset(p, 0, (size_t)n * sizeof *p);
        return -INFINITY;
    }
    if (sink > -INFINITY)
        z += exp(sink - m);
    for (int64_t j = 0; j < n; j++)
        z += seen[j] ? exp(s[j] - m) : 0;
    for (int64_t j = 0; j < n; j++)
        p[j] = seen[j] ? exp(s[j] - m) / z : 0; /* not exp(s - lse): ln z vanishes beside a maximum of 1e17 */
    return m + log(z);
}

static double oracle_weight(double p, gm_norm norm) {
    double x = (double)norm.clip_a * p + (double)norm.clip_c;
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* Forward; with dout also the gradients. */
static void oracle_run(oracle *a, const double *dout) {
    const gm_attention_shape *s = &a->shape;
    const int64_t T = s->T, S = s->S, D = s->D, H = s->H, KV = s->KV;
    const double scale = s->scale != 0 ? (double)s->scale : 1 / sqrt((double)D);
    double *score = calloc((size_t)(3 * S + 1), sizeof *score), *p = score + S, *g = p + S;
    bool *seen = calloc((size_t)S + 1, sizeof *seen);
    if (dout) {
        memset(a->dq, 0, (size_t)oracle_q_size(s) * sizeof(double));
        memset(a->dk, 0, (size_t)oracle_kv_size(s) * sizeof(double));
        memset(a->dv, 0, (size_t)oracle_kv_size(s) * sizeof(double));
        memset(a->dsinks, 0, (size_t)H * sizeof(double));
    }
    for (int64_t b = 0; b < s->B; b++) {
        for (int64_t h = 0; h < H; h++) {
            for (int64_t t = 0; t < T; t++) {
                const int64_t at = ((b * T + t) * H + h) * D, kv0 = (b * S * KV + h / (H / KV)) * D, kv_row = KV * D;
                for (int64_t j = 0; j < S; j++) {
                    seen[j] = oracle_sees(s, t, j);
                    score[j] = 0;
                    for (int64_t d = 0; d < D; d++)
                        score[j] += scale * a->q[at + d] * a->k[kv0 + j * kv_row + d];
                }
                const double sink = a->sinks ? a->sinks[h] : (double)a->norm.sink;
                const double lse = oracle_row(p, score, seen, S, sink);
                if (a->lse)
                    a->lse[(b * H + h) * T + t] = lse;
                for (int64_t d = 0; d < D; d++) {
                    double sum = 0;
                    for (int64_t j = 0; j < S; j++)
                        sum += seen[j] ? oracle_weight(p[j], a->norm) * a->v[kv0 + j * kv_row + d] : 0;
                    a->o[at + d] = sum;
                }
                if (!dout)
                    continue;
                double dsum = 0;
                for (int64_t j = 0; j < S; j++) {
                    double dw = 0, x = (double)a->norm.clip_a * p[j] + (double)a->norm.clip_c;
                    for (int64_t d = 0; d < D; d++)
                        dw += dout[at + d] * a->v[kv0 + j * kv_row + d];
                    g[j] = x >= 0 && x <= 1 ? (double)a->norm.clip_a * dw : 0;
                    dsum += p[j] * g[j];
                }
                for (int64_t j = 0; j < S; j++) {
                    const double ds = p[j] * (g[j] - dsum), w = seen[j] ? oracle_weight(p[j], a->norm) : 0;
                    for (int64_t d = 0; d < D; d++) {
                        a->dq[at + d] += scale * ds * a->k[kv0 + j * kv_row + d];
                        a->dk[kv0 + j * kv_row + d] += scale * ds * a->q[at + d];
                        a->dv[kv0 + j * kv_row + d] += w * dout[at + d];
                    }
                }
                if (sink > -INFINITY)
                    a->dsinks[h] -= exp(sink - lse) * dsum;
            }
        }
    }
    free(score);
    free(seen);
}

#endif
