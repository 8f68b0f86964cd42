/* smooth.c -- SmoothQuant (Xiao et al. 2023, arXiv 2211.10438): what is hard to quantize moves from activations into weights.
 *
 * Feature j of a linear layer's input is divided by s_j = max|x_j|^alpha / max_i|w_ij|^(1-alpha), column j of every weight that reads it is
 * multiplied by s_j. The division goes into whatever made the feature:
 *   norms   gain and bias of the norm before q, k, v (and the gate, which reads the same), and of the norm before the FFN
 *   layers  also rows of v before the output projection (heads that share a v share its scale), and rows of the FFN's first layer before
 *           its second, where what lies between lets a factor through: SwiGLU's up half, or ReLU. */
#include "quant.h"

#include <math.h>

static const float SMALLEST = 1e-5f; /* the published bound on maxima and scales */

/* max over the rows of |column j|, kept beside what is there. */
static void column_max(float *max, const float *w, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++)
            max[c] = fmaxf(max[c], fabsf(w[r * cols + c]));
    }
}

static void scale_columns(float *w, const float *s, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++)
            w[r * cols + c] *= s[c];
    }
}

static void divide(float *x, const float *s, int64_t n) {
    for (int64_t i = 0; x && i < n; i++)
        x[i] /= s[i];
}

/* s from the feature's maxima; w_max holds the columns' on entry and s on return. */
static void scales(float *w_max, const float *x_max, int64_t n, double alpha) {
    for (int64_t c = 0; c < n; c++) {
        double s = pow(fmaxf(x_max[c], SMALLEST), alpha) / pow(fmaxf(w_max[c], SMALLEST), 1 - alpha);
        w_max[c] = isfinite(s) ? fmaxf((float)s, SMALLEST) : 1;
    }
}

/* The gate reads the attention norm's output too: head-wise kinds their head's slice of it, the others all. */
static void scale_gate(gm_model *m, int layer, const float *s) {
    float *w = gm_model_weight(m, GM_P_GATE_W1, layer);
    const int64_t rows = gm_gate_rows(&m->cfg), cols = gm_gate_cols(&m->cfg), C = m->cfg.width, H = m->cfg.heads;
    for (int64_t r = 0; w && r < rows; r++)
        scale_columns(w + r * cols, cols == C ? s : s + r / (rows / H) * cols, 1, cols);
}

static void smooth_norm(gm_model *m, int layer, int input, int gain, int bias, const gm_features *f, double alpha, float *s) {
    const int64_t C = m->cfg.width;
    const int weight = gm_linear_inputs[input].weight;
    const gm_param *p = &m->params[m->slot_index[layer][weight]];
    for (int64_t c = 0; c < C; c++)
        s[c] = 0;
    column_max(s, gm_model_weight(m, weight, layer), p->rows, C);
    scales(s, f->max[input] + layer * C, C, alpha);
    divide(gm_model_weight(m, gain, layer), s, C);
    divide(gm_model_weight(m, bias, layer), s, C);
    scale_columns(gm_model_weight(m, weight, layer), s, p->rows, C);
    if (weight == GM_P_WQKV)
        scale_gate(m, layer, s);
}

/* v's row (kv, d) makes feature (h, d) of every head h that reads it. */
static void smooth_values(gm_model *m, int layer, const gm_features *f, double alpha, float *s) {
    const gm_model_config *c = &m->cfg;
    const int64_t D = c->head_dim, HD = c->heads * D, KD = c->kv_heads * D, shared = c->heads / c->kv_heads;
    float *wo = gm_model_weight(m, GM_P_WO, layer), *b = gm_model_weight(m, GM_P_BQKV, layer);
    float *wv = gm_model_weight(m, GM_P_WQKV, layer) + (HD + KD) * c->width;
    const float *x_max = f->max[1] + layer * HD;
    float *of_v = s + HD, *x_of_v = of_v + KD; /* maxima over the heads that share */
    for (int64_t i = 0; i < HD; i++)
        s[i] = 0;
    column_max(s, wo, c->width, HD);
    for (int64_t i = 0; i < KD; i++)
        of_v[i] = x_of_v[i] = 0;
    for (int64_t i = 0; i < HD; i++) {
        int64_t v = i / D / shared * D + i % D;
        of_v[v] = fmaxf(of_v[v], s[i]);
        x_of_v[v] = fmaxf(x_of_v[v], x_max[i]);
    }
    scales(of_v, x_of_v, KD, alpha);
    for (int64_t i = 0; i < HD; i++)
        s[i] = of_v[i / D / shared * D + i % D];
    for (int64_t r = 0; r < KD; r++) {
        for (int64_t i = 0; i < c->width; i++)
            wv[r * c->width + i] /= of_v[r];
    }
    divide(b ? b + HD + KD : NULL, of_v, KD);
    scale_columns(wo, s, c->width, HD);
}

static void smooth_ffn(gm_model *m, int layer, const gm_features *f, double alpha, float *s) {
    const gm_model_config *c = &m->cfg;
    if (c->act != GM_ACT_SWIGLU && c->act != GM_ACT_RELU) /* nothing else lets a factor through */
        return;
    const int64_t F = c->ffn, C = c->width, first = c->act == GM_ACT_SWIGLU ? F : 0; /* SwiGLU: the up half */
    float *w1 = gm_model_weight(m, GM_P_W1, layer) + first * C, *w2 = gm_model_weight(m, GM_P_W2, layer);
    float *b1 = gm_model_weight(m, GM_P_B1, layer);
    for (int64_t i = 0; i < F; i++)
        s[i] = 0;
    column_max(s, w2, C, F);
    scales(s, f->max[3] + layer * F, F, alpha);
    for (int64_t r = 0; r < F; r++) {
        for (int64_t i = 0; i < C; i++)
            w1[r * C + i] /= s[r];
    }
    divide(b1 ? b1 + first : NULL, s, F);
    scale_columns(w2, s, C, F);
}

gm_status gm_model_smooth(gm_model *m, const gm_features *f, gm_smooth how, double alpha, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    size_t size = (size_t)GM_MAX(GM_MAX(c->width, c->ffn), (c->heads + 2 * c->kv_heads) * c->head_dim);
    float *s = gm_alloc(size, sizeof *s);
    if (!s)
        return gm_fail_memory(err, size * sizeof *s);
    for (int l = 0; l < c->layers; l++) {
        smooth_norm(m, l, 0, GM_P_NORM1_G, GM_P_NORM1_B, f, alpha, s);
        if (how == GM_SMOOTH_LAYERS)
            smooth_values(m, l, f, alpha, s);
        smooth_norm(m, l, 2, GM_P_NORM2_G, GM_P_NORM2_B, f, alpha, s);
        if (how == GM_SMOOTH_LAYERS)
            smooth_ffn(m, l, f, alpha, s);
    }
    gm_free(s);
    return GM_OK;
}
