/* oracle_model.h -- a whole model's forward pass and loss in double, as plain loops over the formulas of docs/numerics.md.
 *
 * Independent of the library's arithmetic: it shares the configuration, the parameters' places (params.def) and nothing else. Slow and
 * meant to be read; a central difference of it is the gradient that the library must return. */
#ifndef GM_TEST_ORACLE_MODEL_H
#define GM_TEST_ORACLE_MODEL_H

#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct oracle {
    const gm_model_config *cfg;
    const gm_param *params;
    int param_count;
    const double *weights;         /* the model's arena, element by element */
    double *memory;                /* activations, taken in order and forgotten together */
    size_t memory_size, memory_at; /* in doubles */
} oracle;

static double *oracle_take(oracle *o, int64_t n) {
    if (o->memory_at + (size_t)n > o->memory_size)
        abort();
    double *p = o->memory + o->memory_at;
    memset(p, 0, (size_t)n * sizeof *p);
    o->memory_at += (size_t)n;
    return p;
}

static const double *oracle_weight(const oracle *o, int slot, int layer) {
    for (int i = 0; i < o->param_count; i++)
        if (o->params[i].slot == slot && o->params[i].layer == layer)
            return o->weights + o->params[i].offset;
    return NULL;
}

static double *oracle_linear(oracle *o, const double *x, const double *w, const double *b, int64_t R, int64_t in, int64_t out) {
    double *y = oracle_take(o, R * out);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t j = 0; j < out; j++) {
            double sum = b ? b[j] : 0;
            for (int64_t i = 0; i < in; i++)
                sum += x[r * in + i] * w[j * in + i];
            y[r * out + j] = sum;
        }
    }
    return y;
}

static double *oracle_norm(oracle *o, const double *x, const double *g, const double *b, int64_t R) {
    int64_t C = o->cfg->width;
    double *y = oracle_take(o, R * C);
    for (int64_t r = 0; r < R; r++) {
        const double *row = x + r * C;
        double mean = 0, var = 0;
        if (!o->cfg->rms_norm) {
            for (int64_t c = 0; c < C; c++)
                mean += row[c] / (double)C;
        }
        for (int64_t c = 0; c < C; c++)
            var += (row[c] - mean) * (row[c] - mean) / (double)C;
        for (int64_t c = 0; c < C; c++)
            y[r * C + c] = (row[c] - mean) / sqrt(var + o->cfg->norm_eps) * g[c] + (b ? b[c] : 0);
    }
    return y;
}

static double oracle_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static double oracle_act(gm_act act, double h) {
    switch (act) {
    case GM_ACT_GELU_TANH:
        return 0.5 * h * (1 + tanh(sqrt(2 / acos(-1)) * (h + 0.044715 * h * h * h)));
    case GM_ACT_GELU_ERF:
        return 0.5 * h * (1 + erf(h / sqrt(2)));
    default:
        return h > 0 ? h : 0;
    }
}

/* Pair d's angle per position: theta^(-2d/D), its wavelength stretched as the configuration says (Llama 3's rule in wavelengths). */
static double oracle_frequency(const gm_model_config *c, int64_t d) {
    double f = pow(c->rope_theta, -2.0 * (double)d / (double)c->head_dim), wavelength = 2 * acos(-1) / f;
    if (c->rope_scaling == GM_ROPE_LINEAR)
        return 2 * acos(-1) / (wavelength * c->rope_factor);
    if (c->rope_scaling == GM_ROPE_LLAMA3) {
        double original = (double)c->rope_original_context;
        if (wavelength > original / c->rope_low_freq)
            return f / c->rope_factor;
        if (wavelength >= original / c->rope_high_freq) {
            double smooth = (original / wavelength - c->rope_low_freq) / (c->rope_high_freq - c->rope_low_freq);
            return (1 - smooth) * (f / c->rope_factor) + smooth * f;
        }
    }
    return f;
}

/* Each head of q and of k over its root mean square, times the gain of its kind. */
static void oracle_qk_norm(const oracle *o, double *row, const double *gq, const double *gk) {
    int64_t H = o->cfg->heads, D = o->cfg->head_dim;
    for (int64_t h = 0; h < H + o->cfg->kv_heads; h++) {
        double mean_square = 0;
        for (int64_t d = 0; d < D; d++)
            mean_square += row[h * D + d] * row[h * D + d] / (double)D;
        for (int64_t d = 0; d < D; d++)
            row[h * D + d] *= (h < H ? gq : gk)[d] / sqrt(mean_square + o->cfg->norm_eps);
    }
}

/* Pairs (d, d + D/2) of every head turn by position * frequency. */
static void oracle_rope(const oracle *o, double *row, int64_t heads, int64_t position) {
    int64_t D = o->cfg->head_dim;
    for (int64_t h = 0; h < heads; h++) {
        for (int64_t d = 0; d < D / 2; d++) {
            double angle = (double)position * oracle_frequency(o->cfg, d);
            double *a = row + h * D + d, *b = a + D / 2, x = *a, y = *b;
            *a = x * cos(angle) - y * sin(angle);
            *b = y * cos(angle) + x * sin(angle);
        }
    }
}

/* One query row's weights from its scores (masked: -inf), the sink logit b and the clip (a, c). */
static void oracle_weights(double *w, const double *s, int64_t n, double b, double clip_a, double clip_c) {
    double m = b;
    for (int64_t j = 0; j < n; j++)
        m = s[j] > m ? s[j] : m;
    double z = b > -INFINITY ? exp(b - m) : 0;
    for (int64_t j = 0; j < n; j++)
        z += exp(s[j] - m);
    for (int64_t j = 0; j < n; j++) {
        double p = exp(s[j] - m) / z, x = clip_a * p + clip_c;
        w[j] = x < 0 ? 0 : x > 1 ? 1 : x;
    }
}

/* o [B*T, H*D] of qkv rows [q heads | k heads | v heads]. */
static double *oracle_attention(oracle *o, const double *qkv, const double *sinks, int64_t B, int64_t T) {
    const gm_model_config *c = o->cfg;
    const gm_variant *a = &c->attention;
    int64_t H = c->heads, KV = c->kv_heads, D = c->head_dim, row = (H + 2 * KV) * D;
    double gamma = a->alpha > 0 ? -a->alpha / (double)c->context : a->gamma;
    double *out = oracle_take(o, B * T * H * D), *s = oracle_take(o, T), *w = oracle_take(o, T);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t h = 0; h < H; h++) {
            int64_t kv = h / (H / KV);
            double sink = a->sink == GM_SINK_LEARNED ? sinks[h] : a->sink == GM_SINK_CONSTANT ? log(a->n) : -INFINITY;
            for (int64_t t = 0; t < T; t++) {
                const double *q = qkv + (b * T + t) * row + h * D;
                for (int64_t j = 0; j < T; j++) {
                    const double *k = qkv + (b * T + j) * row + (H + kv) * D;
                    double dot = 0;
                    for (int64_t d = 0; d < D; d++)
                        dot += q[d] * k[d];
                    bool visible = j <= t && (c->window == 0 || j > t - c->window);
                    s[j] = visible ? dot / sqrt((double)D) : -INFINITY;
                }
                oracle_weights(w, s, T, sink, a->clipped ? a->zeta - gamma : 1, a->clipped ? gamma : 0);
                for (int64_t j = 0; j < T; j++) {
                    const double *v = qkv + (b * T + j) * row + (H + KV + kv) * D;
                    for (int64_t d = 0; d < D; d++)
                        out[((b * T + t) * H + h) * D + d] += w[j] * v[d];
                }
            }
        }
    }
    return out;
}

/* o *= sigmoid(G(x)), x the normalised block input. */
static void oracle_gate(oracle *o, double *out, const double *x, int layer, int64_t R) {
    const gm_model_config *c = o->cfg;
    int64_t C = c->width, H = c->heads, D = c->head_dim, slice = C / H, units = c->attention.gate_hidden;
    const double *w1 = oracle_weight(o, GM_P_GATE_W1, layer), *b1 = oracle_weight(o, GM_P_GATE_B1, layer);
    const double *w2 = oracle_weight(o, GM_P_GATE_W2, layer), *b2 = oracle_weight(o, GM_P_GATE_B2, layer);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t h = 0; h < H; h++) {
            const double *xr = x + r * C, *xs = xr + h * slice;
            double *head = out + (r * H + h) * D, logit = 0;
            switch (c->attention.gate) {
            case GM_GATE_LINEAR:
                logit = b1[h];
                for (int64_t i = 0; i < slice; i++)
                    logit += w1[h * slice + i] * xs[i];
                break;
            case GM_GATE_MLP:
                logit = b2[h];
                for (int64_t u = 0; u < units; u++) {
                    double sum = b1[h * units + u];
                    for (int64_t i = 0; i < slice; i++)
                        sum += w1[(h * units + u) * slice + i] * xs[i];
                    logit += w2[h * units + u] * (sum > 0 ? sum : 0);
                }
                break;
            case GM_GATE_ALL_HEADS:
                logit = b1[h];
                for (int64_t i = 0; i < C; i++)
                    logit += w1[h * C + i] * xr[i];
                break;
            case GM_GATE_CHANNEL:
                for (int64_t d = 0; d < D; d++) {
                    logit = b1[h * D + d];
                    for (int64_t i = 0; i < C; i++)
                        logit += w1[(h * D + d) * C + i] * xr[i];
                    head[d] *= oracle_sigmoid(logit);
                }
                continue;
            default:
                continue;
            }
            for (int64_t d = 0; d < D; d++)
                head[d] *= oracle_sigmoid(logit);
        }
    }
}

static double *oracle_ffn(oracle *o, const double *x, int layer, int64_t R) {
    const gm_model_config *c = o->cfg;
    bool swiglu = c->act == GM_ACT_SWIGLU;
    int64_t F = c->ffn, F1 = swiglu ? 2 * F : F;
    double *h = oracle_linear(o, x, oracle_weight(o, GM_P_W1, layer), oracle_weight(o, GM_P_B1, layer), R, c->width, F1);
    double *y = oracle_take(o, R * F);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t f = 0; f < F; f++) {
            double gate = h[r * F1 + f];
            y[r * F + f] = swiglu ? gate * oracle_sigmoid(gate) * h[r * F1 + F + f] : oracle_act(c->act, gate);
        }
    }
    return oracle_linear(o, y, oracle_weight(o, GM_P_W2, layer), oracle_weight(o, GM_P_B2, layer), R, F, c->width);
}

/* Logits [B*T, V]; valid until the next call. */
static const double *oracle_logits(oracle *o, const int32_t *tokens, int64_t B, int64_t T) {
    const gm_model_config *c = o->cfg;
    int64_t R = B * T, C = c->width, HD = c->heads * c->head_dim, QKV = HD + 2 * c->kv_heads * c->head_dim;
    o->memory_at = 0;
    double *x = oracle_take(o, R * C);
    const double *wte = oracle_weight(o, GM_P_WTE, -1), *wpe = oracle_weight(o, GM_P_WPE, -1);
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < C; i++)
            x[r * C + i] = wte[tokens[r] * C + i] + (c->rope ? 0 : wpe[(r % T + c->position_offset) * C + i]);
    for (int l = 0; l < (int)c->layers; l++) {
        double *n1 = oracle_norm(o, x, oracle_weight(o, GM_P_NORM1_G, l), oracle_weight(o, GM_P_NORM1_B, l), R);
        double *qkv = oracle_linear(o, n1, oracle_weight(o, GM_P_WQKV, l), oracle_weight(o, GM_P_BQKV, l), R, C, QKV);
        for (int64_t r = 0; c->qk_norm && r < R; r++)
            oracle_qk_norm(o, qkv + r * QKV, oracle_weight(o, GM_P_QNORM_G, l), oracle_weight(o, GM_P_KNORM_G, l));
        for (int64_t r = 0; c->rope && r < R; r++)
            oracle_rope(o, qkv + r * QKV, c->heads + c->kv_heads, r % T);
        double *heads = oracle_attention(o, qkv, oracle_weight(o, GM_P_SINKS, l), B, T);
        oracle_gate(o, heads, n1, l, R);
        double *attn = oracle_linear(o, heads, oracle_weight(o, GM_P_WO, l), oracle_weight(o, GM_P_BO, l), R, HD, C);
        for (int64_t i = 0; i < R * C; i++)
            x[i] += attn[i];
        double *n2 = oracle_norm(o, x, oracle_weight(o, GM_P_NORM2_G, l), oracle_weight(o, GM_P_NORM2_B, l), R);
        double *ffn = oracle_ffn(o, n2, l, R);
        for (int64_t i = 0; i < R * C; i++)
            x[i] += ffn[i];
    }
    double *nf = oracle_norm(o, x, oracle_weight(o, GM_P_NORMF_G, -1), oracle_weight(o, GM_P_NORMF_B, -1), R);
    return oracle_linear(o, nf, c->tied ? wte : oracle_weight(o, GM_P_HEAD, -1), NULL, R, C, c->vocab);
}

/* The sum of -ln P(target) over targets >= 0, in nats; losses [B*T] when not NULL. */
static inline double oracle_loss(oracle *o, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, double *losses) {
    int64_t V = o->cfg->vocab;
    const double *logits = oracle_logits(o, tokens, B, T);
    double sum = 0;
    for (int64_t r = 0; r < B * T; r++) {
        const double *row = logits + r * V;
        double z = 0;
        for (int64_t v = 0; v < V; v++)
            z += exp(row[v] - row[0]);
        double loss = targets[r] < 0 ? 0 : row[0] + log(z) - row[targets[r]];
        sum += loss;
        if (losses)
            losses[r] = loss;
    }
    return sum;
}

/* Room for one pass over B x T. */
static void oracle_open(oracle *o, const gm_model_config *cfg, const gm_param *params, int count, const double *weights, int64_t B,
                        int64_t T) {
    int64_t C = cfg->width, HD = cfg->heads * cfg->head_dim;
    *o = (oracle){.cfg = cfg, .params = params, .param_count = count, .weights = weights};
    int64_t per_row = cfg->layers * (4 * C + (HD + 2 * cfg->kv_heads * cfg->head_dim) + HD + 3 * cfg->ffn) + 2 * C + cfg->vocab;
    o->memory_size = (size_t)(B * T * per_row + 2 * T * cfg->layers);
    o->memory = calloc(o->memory_size, sizeof *o->memory);
}

static void oracle_close(oracle *o) {
    free(o->memory);
}

#endif
