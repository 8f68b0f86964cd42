/* config.c -- model configurations: presets, the rules between dimensions, and what a model costs before it exists. */
#include "model.h"

#include <math.h>
#include <string.h>

typedef struct preset {
    gm_preset_info info;
    gm_model_config cfg;
} preset;

/* What a family means for the one block; a preset or a file may still change act, bias, tied and init. */
#define FAMILY_GPT2 .norm_eps = 1e-5
#define FAMILY_OPT .norm_eps = 1e-5, .position_offset = 2
#define FAMILY_LLAMA .norm_eps = 1e-5, .rms_norm = true, .rope = true, .rope_theta = 10000

static const preset presets[] = {
#define GM_PRESET(NAME, FAMILY, LAYERS, HEADS, KV, WIDTH, FFN, CONTEXT, VOCAB, ACT, BIAS, TIED, INIT, SUMMARY) \
    {{NAME, SUMMARY},                                                                                          \
     {.preset = NAME,                                                                                          \
      .family = GM_FAMILY_##FAMILY,                                                                            \
      .layers = LAYERS,                                                                                        \
      .heads = HEADS,                                                                                          \
      .kv_heads = KV,                                                                                          \
      .width = WIDTH,                                                                                          \
      .ffn = FFN,                                                                                              \
      .context = CONTEXT,                                                                                      \
      .vocab = VOCAB,                                                                                          \
      .act = GM_ACT_##ACT,                                                                                     \
      .bias = BIAS,                                                                                            \
      .tied = TIED,                                                                                            \
      .init = GM_INIT_##INIT,                                                                                  \
      .attention = {.zeta = 1, .gate_hidden = 4, .gate_pi = 0.5},                                              \
      FAMILY_##FAMILY}},
#include "presets.def"
#undef GM_PRESET
};

const gm_preset_info *gm_preset_list(int index) {
    return index >= 0 && index < GM_COUNT(presets) ? &presets[index].info : NULL;
}

gm_status gm_model_config_preset(gm_model_config *cfg, const char *name, gm_error *err) {
    const char *names[GM_COUNT(presets) + 1] = {0};
    for (int i = 0; i < GM_COUNT(presets); i++) {
        names[i] = presets[i].info.name;
        if (strcmp(name, names[i]) == 0) {
            *cfg = presets[i].cfg;
            cfg->init_std = cfg->init == GM_INIT_OPT ? 0.006 : 0.02;
            return GM_OK;
        }
    }
    const char *near = gm_text_nearest(name, names);
    if (near)
        return gm_fail(err, GM_EINVAL, "unknown model '%s'; did you mean '%s'?", name, near);
    return gm_fail(err, GM_EINVAL, "unknown model '%s'; `ghostmax info --presets` lists them", name);
}

/* ---- the rules */

static const int64_t dimension_max = 1 << 24; /* far past any model; keeps every product below inside int64 */

/* Fields that the scaling does not use become 0: equal models have equal configurations. */
static gm_status check_rope_scaling(gm_model_config *c, gm_error *err) {
    if (c->rope_scaling != GM_ROPE_LLAMA3)
        c->rope_low_freq = c->rope_high_freq = 0, c->rope_original_context = 0;
    if (c->rope_scaling == GM_ROPE_PLAIN) {
        c->rope_factor = 0;
        return GM_OK;
    }
    if (!c->rope)
        return gm_fail(err, GM_EINVAL, "rope scaling without rotary positions; give rope=yes too");
    if (!(c->rope_factor >= 1 && c->rope_factor <= 1e6))
        return gm_fail(err, GM_EINVAL, "rope factor is %g, it must be 1..1e6", c->rope_factor);
    if (c->rope_scaling == GM_ROPE_LINEAR)
        return GM_OK;
    if (!(c->rope_low_freq > 0 && c->rope_high_freq > c->rope_low_freq && c->rope_high_freq <= 1e6))
        return gm_fail(err, GM_EINVAL, "rope low and high frequency factors are %g and %g; they must be positive, the high one larger",
                       c->rope_low_freq, c->rope_high_freq);
    if (c->rope_original_context < 1 || c->rope_original_context > dimension_max)
        return gm_fail(err, GM_EINVAL, "rope original context is %lld, it must be 1..%lld", (long long)c->rope_original_context,
                       (long long)dimension_max);
    return GM_OK;
}

gm_status gm_model_config_check(gm_model_config *cfg, gm_error *err) {
    gm_model_config c = *cfg;
    if (c.kv_heads == 0)
        c.kv_heads = c.heads;
    struct {
        const char *name;
        int64_t value, max;
    } sizes[] = {{"vocab", c.vocab, dimension_max}, {"context", c.context, dimension_max}, {"layers", c.layers, 1024},
                 {"heads", c.heads, 4096},          {"kv-heads", c.kv_heads, 4096},        {"width", c.width, 1 << 18}};
    for (int i = 0; i < GM_COUNT(sizes); i++) {
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
            return gm_fail(err, GM_EINVAL, "%s is %lld, it must be 1..%lld", sizes[i].name, (long long)sizes[i].value,
                           (long long)sizes[i].max);
    }
    if (c.head_dim == 0) {
        if (c.width % c.heads != 0)
            return gm_fail(err, GM_EINVAL, "heads (%lld) does not divide width (%lld); change one or give --head-dim", (long long)c.heads,
                           (long long)c.width);
        c.head_dim = c.width / c.heads;
    }
    if (c.ffn == 0)
        c.ffn = 4 * c.width;
    if (c.head_dim < 1 || c.head_dim > 256)
        return gm_fail(err, GM_EINVAL, "head dimension is %lld, it must be 1..256; use more heads or a smaller width",
                       (long long)c.head_dim);
    if (c.ffn < 1 || c.ffn > (1 << 20))
        return gm_fail(err, GM_EINVAL, "ffn is %lld, it must be 1..%d", (long long)c.ffn, 1 << 20);
    if (c.heads % c.kv_heads != 0)
        return gm_fail(err, GM_EINVAL, "kv-heads (%lld) does not divide heads (%lld)", (long long)c.kv_heads, (long long)c.heads);
    if (c.rope && c.head_dim % 2 != 0)
        return gm_fail(err, GM_EINVAL, "rotary positions need an even head dimension, this is %lld", (long long)c.head_dim);
    if (!(c.norm_eps > 0 && c.norm_eps < 1))
        return gm_fail(err, GM_EINVAL, "norm eps is %g, it must be in (0, 1)", c.norm_eps);
    if (c.rope && !(c.rope_theta > 0))
        return gm_fail(err, GM_EINVAL, "rope theta is %g, it must be positive", c.rope_theta);
    GM_TRY(check_rope_scaling(&c, err));
    if (c.bias)
        c.qkv_bias = false; /* said already */
    if (!(c.dropout >= 0 && c.dropout < 1))
        return gm_fail(err, GM_EINVAL, "dropout is %g, it must be in [0, 1)", c.dropout);
    if (!(c.init_std > 0 && c.init_std < 10))
        return gm_fail(err, GM_EINVAL, "init std is %g, it must be in (0, 10)", c.init_std);
    if (c.window < 0)
        return gm_fail(err, GM_EINVAL, "window is %lld, it must be 0 (none) or more", (long long)c.window);
    if (c.position_offset < 0 || c.position_offset > 1024)
        return gm_fail(err, GM_EINVAL, "position offset is %lld, it must be 0..1024", (long long)c.position_offset);
    gm_variant *a = &c.attention;
    if ((a->gate == GM_GATE_LINEAR || a->gate == GM_GATE_MLP) && c.width % c.heads != 0)
        return gm_fail(err, GM_EINVAL, "a gate per head reads its own slice of the input, so heads (%lld) must divide width (%lld)",
                       (long long)c.heads, (long long)c.width);
    if (a->clipped && a->alpha > 0) { /* fixed at creation, never the running length */
        a->gamma = -a->alpha / (double)c.context;
        a->alpha = 0;
    }
    *cfg = c;
    return GM_OK;
}

int64_t gm_gate_rows(const gm_model_config *c) {
    switch (c->attention.gate) {
    case GM_GATE_MLP:
        return c->heads * c->attention.gate_hidden;
    case GM_GATE_CHANNEL:
        return c->heads * c->head_dim;
    default:
        return c->heads;
    }
}

int64_t gm_gate_cols(const gm_model_config *c) {
    bool slice = c->attention.gate == GM_GATE_LINEAR || c->attention.gate == GM_GATE_MLP;
    return slice ? c->width / c->heads : c->width;
}

/* ---- rotary frequencies */

/* Llama 3's rule: a pair whose wavelength 2 pi / f fits the original context more than high_freq times was learned in full and stays; one
 * that fits less than low_freq times is stretched by factor; between, the share of f that stays goes linearly from 0 to 1. */
static double llama3_frequency(const gm_model_config *c, double f) {
    double turns = (double)c->rope_original_context * f / (2 * acos(-1));
    double stays = (turns - c->rope_low_freq) / (c->rope_high_freq - c->rope_low_freq);
    stays = GM_MIN(GM_MAX(stays, 0), 1);
    return stays * f + (1 - stays) * f / c->rope_factor;
}

void gm_rope_frequencies(const gm_model_config *c, double *f) {
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        f[i] = pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);
        if (c->rope_scaling == GM_ROPE_LINEAR)
            f[i] /= c->rope_factor;
        else if (c->rope_scaling == GM_ROPE_LLAMA3)
            f[i] = llama3_frequency(c, f[i]);
    }
}

/* ---- what it costs */

void gm_model_config_size(gm_model_size *out, const gm_model_config *cfg, int64_t B, int64_t T) {
    const gm_model_config *c = cfg;
    *out = (gm_model_size){0};
    int count = gm_params_layout(c, NULL);
    double matmul = 0;
    size_t arena = 0;
    for (int i = 0; i < count; i++) {
        gm_param p;
        gm_params_describe(c, i, &p);
        int64_t n = p.rows * p.cols;
        out->parameters += n;
        arena += (size_t)(n + 15) / 16 * 16;
        if (p.kind != GM_PARAM_EMBEDDING)
            out->parameters_without_embeddings += n;
        if (p.kind == GM_PARAM_SINK || p.kind == GM_PARAM_GATE || p.kind == GM_PARAM_GATE_BIAS)
            out->attention_parameters_extra += n;
        if (p.kind == GM_PARAM_LINEAR || p.kind == GM_PARAM_HEAD || p.kind == GM_PARAM_GATE)
            matmul += (double)n;
    }
    if (c->tied)
        matmul += (double)(c->vocab * c->width);
    /* QK^T and PV over the causal half: 2 products x 2 flops x T/2 keys */
    double attention = 2.0 * (double)((T + 1) * c->heads * c->head_dim * c->layers);
    out->flops_per_token_forward = 2 * matmul + attention;
    out->flops_per_token_train = 3 * out->flops_per_token_forward;
    out->parameter_bytes = arena * sizeof(float);
    out->forward_bytes = out->parameter_bytes + gm_acts_bytes(c, gm_model_group(c, (int64_t)arena, B, T, false), T, false);
    out->train_bytes = 4 * out->parameter_bytes + gm_acts_bytes(c, gm_model_group(c, (int64_t)arena, B, T, true), T, true);
}

int gm_model_config_tensor(const gm_model_config *cfg, int index, char *name, size_t name_size, int64_t *rows, int64_t *cols) {
    int count = gm_params_layout(cfg, NULL);
    gm_param p;
    if (index >= 0 && index < count) {
        gm_params_describe(cfg, index, &p);
        snprintf(name, name_size, "%s", p.name);
        *rows = p.rows;
        *cols = p.cols;
    }
    return count;
}
