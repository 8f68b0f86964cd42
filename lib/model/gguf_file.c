/* gguf_file.c -- models in llama.cpp's words: one table of metadata keys and one of tensor names, for both directions.
 *
 * llama.cpp's llama turns neighbours (2i, 2i + 1) of a head by one angle, we (as Hugging Face, and llama.cpp's qwen2 and qwen3) i and
 * i + D/2: rows of q and k take turns in such files, which leaves every product of a query and a key as it was. */
#include "gguf_file.h"

#include "config_file.h"
#include "context.h"
#include "file_tensors.h"
#include "model.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char architecture_key[] = "general.architecture";
static const char config_key[] = "ghostmax.config"; /* config.json's text: what the other keys cannot say */
static const char rope_freqs[] = "rope_freqs.weight";

/* ---- architectures */

#define LLAMA .act = GM_ACT_SWIGLU, .rms_norm = true, .rope = true, .rope_theta = 10000, .init = GM_INIT_GPT2, .init_std = 0.02
#define SOFTMAX .attention = {.zeta = 1}

static const struct architecture {
    const char *name, *own_name; /* name NULL: no stock runtime has it */
    gm_model_config base;        /* what the stock architecture means where no key says otherwise; eps 0: a key must */
    bool interleaved;            /* q and k */
    bool any_bias;               /* biases may be there or not: the tensors say */
    bool rope_freqs;             /* frequencies may be divided by the tensor of that name */
} architectures[] = {
    [GM_FAMILY_GPT2] = {"gpt2",
                        "ghostmax_gpt2",
                        {.family = GM_FAMILY_GPT2, .act = GM_ACT_GELU_TANH, .bias = true, .init = GM_INIT_GPT2, .init_std = 0.02, SOFTMAX},
                        false,
                        false,
                        false},
    [GM_FAMILY_OPT] = {NULL, "ghostmax_opt", {.family = GM_FAMILY_OPT}, false, false, false},
    [GM_FAMILY_LLAMA] = {"llama", "ghostmax_llama", {.family = GM_FAMILY_LLAMA, LLAMA, SOFTMAX}, true, true, true},
    [GM_FAMILY_MISTRAL] = {"llama", "ghostmax_mistral", {.family = GM_FAMILY_MISTRAL, LLAMA, SOFTMAX}, true, true, true},
    [GM_FAMILY_QWEN2] = {"qwen2", "ghostmax_qwen2", {.family = GM_FAMILY_QWEN2, LLAMA, .qkv_bias = true, SOFTMAX}, false, false, false},
    [GM_FAMILY_QWEN3] = {"qwen3", "ghostmax_qwen3", {.family = GM_FAMILY_QWEN3, LLAMA, .qk_norm = true, SOFTMAX}, false, false, false},
};

/* ---- metadata: {architecture}.<name> */

typedef enum key_when { ALWAYS, RMS_NORM, LAYER_NORM, ROPE, HEAD_DIM /* heads that are not width / heads */, LINEAR } key_when;

static const struct key {
    const char *name;
    size_t offset;
    bool real; /* f32, else u32 */
    key_when when;
    bool needed; /* in a stock file */
} keys[] = {
#define WHOLE_KEY(name, field, when, needed) {name, offsetof(gm_model_config, field), false, when, needed},
#define REAL_KEY(name, field, when, needed) {name, offsetof(gm_model_config, field), true, when, needed},
    WHOLE_KEY("vocab_size", vocab, ALWAYS, false)                          /* */
    WHOLE_KEY("context_length", context, ALWAYS, true)                     /* */
    WHOLE_KEY("embedding_length", width, ALWAYS, true)                     /* */
    WHOLE_KEY("block_count", layers, ALWAYS, true)                         /* */
    WHOLE_KEY("feed_forward_length", ffn, ALWAYS, true)                    /* */
    WHOLE_KEY("attention.head_count", heads, ALWAYS, true)                 /* */
    WHOLE_KEY("attention.head_count_kv", kv_heads, ALWAYS, false)          /* */
    WHOLE_KEY("attention.key_length", head_dim, HEAD_DIM, false)           /* */
    WHOLE_KEY("attention.value_length", head_dim, HEAD_DIM, false)         /* */
    REAL_KEY("attention.layer_norm_rms_epsilon", norm_eps, RMS_NORM, true) /* */
    REAL_KEY("attention.layer_norm_epsilon", norm_eps, LAYER_NORM, true)   /* */
    REAL_KEY("rope.freq_base", rope_theta, ROPE, false)                    /* */
    WHOLE_KEY("rope.dimension_count", head_dim, ROPE, false)               /* */
    REAL_KEY("rope.scaling.factor", rope_factor, LINEAR, false)
#undef WHOLE_KEY
#undef REAL_KEY
};
static const char scaling_key[] = "rope.scaling.type"; /* "none", "linear" */

static bool key_applies(const struct key *key, const gm_model_config *c) {
    switch (key->when) {
    case RMS_NORM:
        return c->rms_norm;
    case LAYER_NORM:
        return !c->rms_norm;
    case ROPE:
        return c->rope;
    case HEAD_DIM:
        return c->head_dim * c->heads != c->width;
    case LINEAR:
        return c->rope_scaling == GM_ROPE_LINEAR;
    case ALWAYS:
        break;
    }
    return true;
}

static int64_t *whole_field(const gm_model_config *c, const struct key *key) {
    return (int64_t *)(void *)((char *)c + key->offset);
}

static double *real_field(const gm_model_config *c, const struct key *key) {
    return (double *)(void *)((char *)c + key->offset);
}

static void key_name(char name[128], const char *architecture, const char *key) {
    snprintf(name, 128, "%s.%s", architecture, key);
}

/* The mathematics of a stock architecture that reads these keys and tensors, and no more: is it this model's? */
static bool is_stock(const gm_model_config *cfg) {
    const struct architecture *a = &architectures[cfg->family];
    if (!a->name)
        return false;
    gm_model_config c = a->base;
    for (int i = 0; i < GM_COUNT(keys); i++) {
        if (keys[i].real)
            *real_field(&c, &keys[i]) = *real_field(cfg, &keys[i]);
        else
            *whole_field(&c, &keys[i]) = *whole_field(cfg, &keys[i]);
    }
    if (!c.rope) { /* gpt2: its heads are of one kind and share the width */
        c.kv_heads = c.heads;
        c.head_dim = 0;
        c.rope_theta = cfg->rope_theta; /* unused */
    }
    if (cfg->rope_scaling == GM_ROPE_LINEAR || (cfg->rope_scaling == GM_ROPE_LLAMA3 && a->rope_freqs)) {
        c.rope_scaling = cfg->rope_scaling;
        c.rope_low_freq = cfg->rope_low_freq;
        c.rope_high_freq = cfg->rope_high_freq;
        c.rope_original_context = cfg->rope_original_context;
    }
    if (a->any_bias) {
        c.bias = cfg->bias;
        c.qkv_bias = cfg->qkv_bias;
    }
    c.tied = cfg->tied; /* a head of its own is a tensor of its own */
    if (cfg->window >= cfg->context)
        c.window = cfg->window; /* as good as none */
    return gm_model_config_check(&c, NULL) == GM_OK && gm_config_fingerprint(&c) == gm_config_fingerprint(cfg);
}

const char *gm_gguf_architecture(const gm_model_config *cfg) {
    const struct architecture *a = &architectures[cfg->family];
    return is_stock(cfg) ? a->name : a->own_name;
}

/* ---- tensors */

static const struct mapping {
    int slot;
    gm_part part;
    const char *name; /* in a block after "blk.N." */
} map[] = {
    {GM_P_WTE, GM_PART_WHOLE, "token_embd.weight"},
    {GM_P_WPE, GM_PART_WHOLE, "position_embd.weight"},
    {GM_P_NORM1_G, GM_PART_WHOLE, "attn_norm.weight"},
    {GM_P_NORM1_B, GM_PART_WHOLE, "attn_norm.bias"},
    {GM_P_WQKV, GM_PART_WHOLE, "attn_qkv.weight"}, /* gpt2 has these two, all others the six after them */
    {GM_P_BQKV, GM_PART_WHOLE, "attn_qkv.bias"},
    {GM_P_WQKV, GM_PART_Q, "attn_q.weight"},
    {GM_P_WQKV, GM_PART_K, "attn_k.weight"},
    {GM_P_WQKV, GM_PART_V, "attn_v.weight"},
    {GM_P_BQKV, GM_PART_Q, "attn_q.bias"},
    {GM_P_BQKV, GM_PART_K, "attn_k.bias"},
    {GM_P_BQKV, GM_PART_V, "attn_v.bias"},
    {GM_P_QNORM_G, GM_PART_WHOLE, "attn_q_norm.weight"},
    {GM_P_KNORM_G, GM_PART_WHOLE, "attn_k_norm.weight"},
    {GM_P_SINKS, GM_PART_WHOLE, "attn_sinks.weight"},
    {GM_P_GATE_W1, GM_PART_WHOLE, "attn_gate.fc1.weight"},
    {GM_P_GATE_B1, GM_PART_WHOLE, "attn_gate.fc1.bias"},
    {GM_P_GATE_W2, GM_PART_WHOLE, "attn_gate.fc2.weight"},
    {GM_P_GATE_B2, GM_PART_WHOLE, "attn_gate.fc2.bias"},
    {GM_P_WO, GM_PART_WHOLE, "attn_output.weight"},
    {GM_P_BO, GM_PART_WHOLE, "attn_output.bias"},
    {GM_P_NORM2_G, GM_PART_WHOLE, "ffn_norm.weight"},
    {GM_P_NORM2_B, GM_PART_WHOLE, "ffn_norm.bias"},
    {GM_P_W1, GM_PART_GATE, "ffn_gate.weight"},
    {GM_P_W1, GM_PART_UP, "ffn_up.weight"},
    {GM_P_B1, GM_PART_GATE, "ffn_gate.bias"},
    {GM_P_B1, GM_PART_UP, "ffn_up.bias"},
    {GM_P_W2, GM_PART_WHOLE, "ffn_down.weight"},
    {GM_P_B2, GM_PART_WHOLE, "ffn_down.bias"},
    {GM_P_NORMF_G, GM_PART_WHOLE, "output_norm.weight"},
    {GM_P_NORMF_B, GM_PART_WHOLE, "output_norm.bias"},
    {GM_P_HEAD, GM_PART_WHOLE, "output.weight"},
};

/* Writes the tensors of one parameter to out (NULL: only counts); returns how many. */
static int param_tensors(const gm_model_config *c, const gm_param *p, gm_file_tensor *out) {
    int count = 0;
    const bool qkv = p->slot == GM_P_WQKV || p->slot == GM_P_BQKV;
    for (int i = 0; i < GM_COUNT(map); i++) {
        int64_t first = 0, rows = 0;
        if (map[i].slot != p->slot || (qkv && (map[i].part == GM_PART_WHOLE) != (c->family == GM_FAMILY_GPT2)))
            continue;
        gm_param_part(c, p, map[i].part, &first, &rows);
        if (rows == 0)
            continue;
        if (out) {
            gm_file_tensor *t = &out[count];
            bool vector = gm_param_is_vector(p), rotated = map[i].part == GM_PART_Q || map[i].part == GM_PART_K;
            *t = (gm_file_tensor){
                .rows = rows, .cols = vector ? 0 : p->cols, .offset = p->offset + first * p->cols, .row_stride = p->cols, .col_stride = 1};
            t->f32 = vector || p->slot == GM_P_WPE;
            t->interleave = rotated && c->rope && architectures[c->family].interleaved ? c->head_dim : 0;
            if (p->layer >= 0)
                snprintf(t->name, sizeof t->name, "blk.%d.%s", p->layer, map[i].name);
            else
                snprintf(t->name, sizeof t->name, "%s", map[i].name);
        }
        count++;
    }
    return count;
}

/* What llama.cpp divides the frequencies by, [head_dim / 2]; freed with gm_free. */
static gm_status rope_divisors(float **out, const gm_model_config *cfg, gm_error *err) {
    const int64_t half = cfg->head_dim / 2;
    double *f = gm_alloc((size_t)(2 * half), sizeof *f);
    *out = gm_alloc((size_t)half, sizeof **out);
    if (f && *out) {
        gm_model_config plain = *cfg;
        plain.rope_scaling = GM_ROPE_PLAIN;
        gm_rope_frequencies(&plain, f);
        gm_rope_frequencies(cfg, f + half);
        for (int64_t i = 0; i < half; i++)
            (*out)[i] = (float)(f[i] / f[half + i]);
    }
    bool good = f && *out;
    gm_free(f);
    return good ? GM_OK : gm_fail_memory(err, (size_t)half * sizeof **out);
}

/* ---- writing */

static void put_keys(gm_gguf_writer *w, const gm_model_config *cfg, const char *architecture) {
    char name[128];
    for (int i = 0; i < GM_COUNT(keys); i++) {
        if (!key_applies(&keys[i], cfg))
            continue;
        key_name(name, architecture, keys[i].name);
        if (keys[i].real)
            gm_gguf_put_f32(w, name, (float)*real_field(cfg, &keys[i]));
        else
            gm_gguf_put_u32(w, name, (uint32_t)*whole_field(cfg, &keys[i]));
    }
    key_name(name, architecture, scaling_key);
    if (cfg->rope_scaling == GM_ROPE_LINEAR)
        gm_gguf_put_text(w, name, "linear");
}

gm_status gm_gguf_model_put(gm_gguf_writer *w, const gm_model *m, gm_dtype dtype, gm_error *err) {
    static const uint32_t file_types[] = {[GM_DTYPE_F32] = 0, [GM_DTYPE_F16] = 1, [GM_DTYPE_BF16] = 32, [GM_DTYPE_Q8_0] = 7};
    const gm_model_config *cfg = &m->cfg;
    const char *architecture = gm_gguf_architecture(cfg);
    char *json = gm_config_json(cfg, GM_DTYPE_F32);
    if (!json)
        return gm_fail_memory(err, 4096);
    gm_gguf_put_text(w, architecture_key, architecture);
    gm_gguf_put_u32(w, "general.file_type", file_types[dtype]);
    if (dtype == GM_DTYPE_Q8_0)
        gm_gguf_put_u32(w, "general.quantization_version", 2);
    put_keys(w, cfg, architecture);
    gm_gguf_put_text(w, config_key, json);
    free(json);

    if (cfg->rope_scaling == GM_ROPE_LLAMA3) {
        float *divisors;
        gm_status status = rope_divisors(&divisors, cfg, err);
        if (status == GM_OK)
            gm_gguf_put_vector(w, rope_freqs, divisors, cfg->head_dim / 2);
        gm_free(divisors);
        GM_TRY(status);
    }
    gm_file_tensor *tensors;
    int count;
    GM_TRY(gm_file_tensors(&tensors, &count, cfg, param_tensors, err));
    for (int i = 0; i < count; i++) {
        const gm_file_tensor *t = &tensors[i];
        gm_dtype type = t->f32 ? GM_DTYPE_F32 : t->cols % gm_dtype_block(dtype) != 0 ? GM_DTYPE_F16 : dtype;
        gm_gguf_put_tensor(w, &(gm_gguf_source){t->name, type, m->weights + t->offset, t->rows, t->cols, t->interleave});
    }
    gm_free(tensors);
    return GM_OK;
}

/* ---- reading the configuration */

#define AT(v) (int64_t)(v)->at

/* An array says a number for each layer. */
static bool differs_by_layer(const gm_gguf_value *v) {
    int64_t first, other;
    bool differs = !gm_gguf_whole(v, 0, &first);
    for (int64_t i = 1; i < v->count && !differs; i++)
        differs = !gm_gguf_whole(v, i, &other) || other != first;
    return differs;
}

/* One key's value into cfg; *found: it stands there. */
static gm_status read_key(gm_model_config *cfg, const gm_gguf *g, const struct key *key, const char *name, bool *found, gm_error *err) {
    const gm_gguf_value *v = gm_gguf_find(g, name);
    *found = v;
    if (!v)
        return GM_OK;
    if (v->type == GM_GGUF_ARRAY && differs_by_layer(v))
        return gm_fail_at(err, GM_EUNSUPPORTED, AT(v), "%s: '%s' (byte %zu) differs from layer to layer, which is not supported", g->path,
                          name, v->at);
    if (!(key->real ? gm_gguf_real(v, 0, real_field(cfg, key)) : gm_gguf_whole(v, 0, whole_field(cfg, key))))
        return gm_fail_at(err, GM_EFORMAT, AT(v), "%s: '%s' (byte %zu) is not a %s; get the file again", g->path, name, v->at,
                          key->real ? "real number" : "whole number");
    return GM_OK;
}

/* What stands in {architecture}.rope.scaling.type. */
static gm_status read_scaling(gm_model_config *cfg, const gm_gguf *g, const char *architecture, gm_error *err) {
    char name[128];
    key_name(name, architecture, scaling_key);
    const gm_gguf_value *v = gm_gguf_find(g, name);
    bool linear = v && gm_gguf_is_text(v, "linear");
    if (v && !linear && !gm_gguf_is_text(v, "none"))
        return gm_fail_at(err, GM_EUNSUPPORTED, AT(v), "%s: '%s' (byte %zu) scales the rotary positions in a way that is not supported",
                          g->path, name, v->at);
    cfg->rope_scaling = linear ? GM_ROPE_LINEAR : GM_ROPE_PLAIN;
    return GM_OK;
}

static bool is_f32_vector(const gm_gguf_tensor *t, int64_t n) {
    gm_dtype type;
    return t->elements == n && gm_gguf_tensor_dtype(t, &type) && type == GM_DTYPE_F32;
}

/* Do the divisors in the file (F32, head_dim / 2) scale as cfg says? *at: the first that does not. */
static gm_status rope_freqs_match(bool *match, int64_t *at, const gm_model_config *cfg, const gm_gguf_tensor *t, gm_error *err) {
    float *want;
    gm_status status = rope_divisors(&want, cfg, err);
    for (*at = 0; status == GM_OK && *at < t->elements; ++*at) {
        float x;
        memcpy(&x, t->data + (size_t)*at * sizeof x, sizeof x);
        if (!(fabsf(x - want[*at]) <= 1e-4f * want[*at]))
            break;
    }
    *match = status == GM_OK && *at == t->elements;
    gm_free(want);
    return status;
}

/* llama.cpp's files hold Llama 3's divisors, not the four numbers that they follow from. The factor is the largest; the frequency factors
 * are 1 and 4 in every model published; the original context is a power of two. cfg is a checked one. */
static gm_status read_rope_freqs(gm_model_config *cfg, const gm_gguf *g, const struct architecture *a, gm_error *err) {
    const gm_gguf_tensor *t = gm_gguf_find_tensor(g, rope_freqs);
    gm_model_config guess = *cfg;
    float largest = 1;
    if (t && a->rope_freqs && is_f32_vector(t, cfg->head_dim / 2))
        memcpy(&largest, t->data + t->bytes - sizeof largest, sizeof largest);
    if (!(largest > 1))
        return GM_OK; /* check_rope_freqs has the last word */
    guess.rope_scaling = GM_ROPE_LLAMA3;
    guess.rope_factor = largest;
    guess.rope_low_freq = 1;
    guess.rope_high_freq = 4;
    for (guess.rope_original_context = 1 << 24; guess.rope_original_context > 0; guess.rope_original_context /= 2) {
        bool match;
        int64_t at;
        GM_TRY(rope_freqs_match(&match, &at, &guess, t, err));
        if (match)
            *cfg = guess;
    }
    return GM_OK;
}

/* A file of a stock architecture that has no configuration of ours: its keys, and what the presence of tensors says. */
static gm_status read_stock(gm_model_config *cfg, const gm_gguf *g, const char *architecture, gm_error *err) {
    const struct architecture *a = NULL;
    for (int i = GM_COUNT(architectures) - 1; i >= 0; i--) { /* the first of two with one name */
        if (architectures[i].name && strcmp(architectures[i].name, architecture) == 0)
            a = &architectures[i];
    }
    if (!a)
        return gm_fail(err, GM_EUNSUPPORTED, "%s: architecture '%s' is not supported; gpt2, llama, qwen2 and qwen3 are", g->path,
                       architecture);
    *cfg = a->base;
    GM_TRY(read_scaling(cfg, g, architecture, err));
    for (int i = 0; i < GM_COUNT(keys); i++) {
        char name[128];
        bool found;
        key_name(name, architecture, keys[i].name);
        GM_TRY(read_key(cfg, g, &keys[i], name, &found, err));
        if (!found && keys[i].needed && key_applies(&keys[i], cfg))
            return gm_fail(err, GM_EFORMAT, "%s: it has no '%s': not a whole model; get the file again", g->path, name);
    }
    const gm_gguf_tensor *embedding = gm_gguf_find_tensor(g, "token_embd.weight");
    if (embedding && embedding->rank == 2)
        cfg->vocab = embedding->shape[1];
    cfg->tied = !gm_gguf_find_tensor(g, "output.weight");
    if (a->any_bias) {
        cfg->bias = gm_gguf_find_tensor(g, "blk.0.attn_output.bias");
        cfg->qkv_bias = !cfg->bias && gm_gguf_find_tensor(g, "blk.0.attn_q.bias");
    }
    return gm_model_config_check(cfg, NULL) == GM_OK ? read_rope_freqs(cfg, g, a, err) : GM_OK;
}

/* Every key says what cfg says, and none is there that nobody here knows: better refused than ignored. 0 and false switch nothing on. */
static gm_status check_keys(const gm_model_config *cfg, const gm_gguf *g, const char *architecture, gm_error *err) {
    const size_t prefix = strlen(architecture);
    for (int64_t i = 0; i < g->value_count; i++) {
        const gm_gguf_value *v = &g->values[i];
        char name[128];
        if (v->key.size <= prefix || memcmp(v->key.data, architecture, prefix) != 0 || v->key.data[prefix] != '.')
            continue;
        snprintf(name, sizeof name, "%.*s", (int)GM_MIN(v->key.size, 127), v->key.data);
        int64_t whole;
        double real;
        bool known = (gm_gguf_whole(v, 0, &whole) && whole == 0 && v->count == 1) || strcmp(name + prefix + 1, scaling_key) == 0;
        for (int k = 0; k < GM_COUNT(keys) && !known; k++) {
            gm_model_config said;
            bool found;
            if (strcmp(name + prefix + 1, keys[k].name) != 0)
                continue;
            known = true;
            GM_TRY(read_key(&said, g, &keys[k], name, &found, err));
            bool equal = keys[k].real ? (float)*real_field(&said, &keys[k]) == (float)*real_field(cfg, &keys[k])
                                      : *whole_field(&said, &keys[k]) == *whole_field(cfg, &keys[k]);
            if (!equal && keys[k].offset == offsetof(gm_model_config, head_dim))
                return gm_fail_at(err, GM_EUNSUPPORTED, AT(v),
                                  "%s: '%s' (byte %zu) differs from the head dimension %lld, which is not supported", g->path, name, v->at,
                                  (long long)cfg->head_dim);
            if (!equal)
                return gm_fail_at(err, GM_EFORMAT, AT(v), "%s: '%s' (byte %zu) contradicts the rest of the file; get it again", g->path,
                                  name, v->at);
        }
        if (!known && strcmp(name + prefix + 1, "rope.scale_linear") == 0)
            known = gm_gguf_real(v, 0, &real) && real == 1;
        if (!known)
            return gm_fail_at(err, GM_EUNSUPPORTED, AT(v), "%s: '%s' (byte %zu) is not known here and may change the mathematics", g->path,
                              name, v->at);
    }
    return GM_OK;
}

/* The divisors of the frequencies are those that cfg asks for. */
static gm_status check_rope_freqs(const gm_model_config *cfg, const gm_gguf *g, gm_error *err) {
    const gm_gguf_tensor *t = gm_gguf_find_tensor(g, rope_freqs);
    if (!t && cfg->rope_scaling != GM_ROPE_LLAMA3)
        return GM_OK;
    if (!t || !cfg->rope || cfg->rope_scaling == GM_ROPE_LINEAR || !is_f32_vector(t, cfg->head_dim / 2))
        return gm_fail_at(err, GM_EFORMAT, t ? AT(t) : -1, "%s: tensor '%s' is %s", g->path, rope_freqs,
                          t ? "not one F32 number per pair of a head's dimensions" : "missing");
    bool match;
    int64_t at;
    GM_TRY(rope_freqs_match(&match, &at, cfg, t, err));
    if (match)
        return GM_OK;
    return gm_fail_at(err, GM_EUNSUPPORTED, AT(t) + 4 * at,
                      "%s: tensor '%s' (element %lld) scales rotary positions in another way than %s, which is not supported", g->path,
                      rope_freqs, (long long)at, cfg->rope_scaling == GM_ROPE_LLAMA3 ? "its configuration says" : "Llama 3's models");
}

gm_status gm_gguf_config_read(gm_model_config *cfg, const gm_gguf *g, gm_error *err) {
    *cfg = (gm_model_config){0};
    const gm_gguf_value *name = gm_gguf_find(g, architecture_key), *own = gm_gguf_find(g, config_key);
    const gm_gguf_value *parts = gm_gguf_find(g, "split.count");
    gm_error inner = {.offset = -1};
    char architecture[64];
    int64_t count;
    if (parts && gm_gguf_whole(parts, 0, &count) && count > 1)
        return gm_fail_at(
            err, GM_EUNSUPPORTED, AT(parts),
            "%s: one of %lld parts of a model ('split.count', byte %zu), which are not read apart; join them with llama.cpp's "
            "llama-gguf-split --merge",
            g->path, (long long)count, parts->at);
    if (!name || name->type != GM_GGUF_TEXT || name->bytes - 8 >= sizeof architecture || memchr(name->data + 8, 0, name->bytes - 8))
        return gm_fail_at(err, GM_EFORMAT, name ? AT(name) : -1, "%s: it has no good '%s': not a model; get the file again", g->path,
                          architecture_key);
    snprintf(architecture, sizeof architecture, "%.*s", (int)(name->bytes - 8), (const char *)name->data + 8);
    if (own) {
        char where[1100];
        snprintf(where, sizeof where, "%s, %s", g->path, config_key);
        if (own->type != GM_GGUF_TEXT)
            return gm_fail_at(err, GM_EFORMAT, AT(own), "%s (byte %zu): not a text; get the file again", where, own->at);
        GM_TRY(gm_config_parse(cfg, own->data + 8, own->bytes - 8, where, err));
        if (strcmp(gm_gguf_architecture(cfg), architecture) != 0)
            return gm_fail_at(err, GM_EFORMAT, AT(own), "%s (byte %zu) is of a %s, but the file's architecture is '%s'", where, own->at,
                              gm_gguf_architecture(cfg), architecture);
    } else {
        GM_TRY(read_stock(cfg, g, architecture, err));
        if (gm_model_config_check(cfg, &inner) != GM_OK)
            return gm_fail(err, GM_EFORMAT, "%s: %s", g->path, inner.msg);
    }
    GM_TRY(check_keys(cfg, g, architecture, err));
    return check_rope_freqs(cfg, g, err);
}

/* ---- reading the tensors */

static gm_status check_tensor(const gm_gguf *g, const gm_file_tensor *want, gm_error *err) {
    const gm_gguf_tensor *t = gm_gguf_find_tensor(g, want->name);
    gm_dtype type;
    if (!t)
        return gm_fail(err, GM_EFORMAT, "%s: tensor '%s' is missing; metadata and tensors do not belong together", g->path, want->name);
    int64_t rows = want->cols ? want->rows : 1, cols = want->cols ? want->cols : want->rows;
    if (t->rank != (want->cols ? 2 : 1) || t->shape[0] != cols || t->shape[1] != rows)
        return gm_fail_at(err, GM_EFORMAT, AT(t), "%s: tensor '%s' has rank %d and shape [%lld, %lld] where the metadata say [%lld, %lld]",
                          g->path, t->name, t->rank, (long long)t->shape[1], (long long)t->shape[0], (long long)rows, (long long)cols);
    if (!gm_gguf_tensor_dtype(t, &type) || (!want->cols && gm_dtype_block(type) > 1))
        return gm_fail_at(err, GM_EUNSUPPORTED, AT(t),
                          "%s: tensor '%s' (byte %zu) has type %s; F32, F16, BF16 and Q8_0 weights can be read", g->path, t->name, t->at,
                          gm_gguf_tensor_type(t));
    return GM_OK;
}

/* The file holds exactly these tensors, whatever their order. */
static gm_status check_tensors(const gm_gguf *g, const gm_file_tensor *tensors, int count, gm_error *err) {
    for (int i = 0; i < count; i++)
        GM_TRY(check_tensor(g, &tensors[i], err));
    int64_t own = gm_gguf_find_tensor(g, rope_freqs) != NULL;
    for (int64_t i = 0; g->tensor_count > count + own && i < g->tensor_count; i++) {
        bool known = strcmp(g->tensors[i].name, rope_freqs) == 0;
        for (int k = 0; k < count && !known; k++)
            known = strcmp(g->tensors[i].name, tensors[k].name) == 0;
        if (!known)
            return gm_fail_at(err, GM_EFORMAT, AT(&g->tensors[i]), "%s: tensor '%s' has no place in the model that the metadata describe",
                              g->path, g->tensors[i].name);
    }
    return GM_OK;
}

/* Everything is checked: nothing here can fail. Pieces of tensors, so that threads share the large ones. */
static void read_tensors(gm_model *m, const gm_gguf *g, const gm_file_tensor *tensors, int count) {
    enum { PIECE = 1 << 20 };
#pragma omp parallel num_threads(m->ctx->threads) if (m->param_elements > PIECE)
    for (int i = 0; i < count; i++) {
        const gm_file_tensor *t = &tensors[i];
        const gm_gguf_tensor *from = gm_gguf_find_tensor(g, t->name);
        const int64_t rows = t->cols ? t->rows : 1, piece = t->cols ? GM_MAX(1, PIECE / t->cols) : t->rows;
#pragma omp for schedule(dynamic) nowait
        for (int64_t r = 0; r < rows; r += piece)
            gm_gguf_read(from, r, piece, t->interleave, m->weights + t->offset);
    }
}

static gm_status load(gm_model **out, const gm_ctx *ctx, const gm_gguf *g, gm_error *err) {
    gm_model_config cfg;
    gm_file_tensor *tensors;
    int count;
    GM_TRY(gm_gguf_config_read(&cfg, g, err));
    if (cfg.layers > g->tensor_count) /* before memory is taken for what the metadata merely claim */
        return gm_fail(err, GM_EFORMAT, "%s: %lld tensors cannot be %lld blocks", g->path, (long long)g->tensor_count,
                       (long long)cfg.layers);
    GM_TRY(gm_file_tensors(&tensors, &count, &cfg, param_tensors, err));
    gm_status status = check_tensors(g, tensors, count, err);
    if (status == GM_OK)
        status = gm_model_allocate(out, ctx, &cfg, err);
    if (status == GM_OK)
        read_tensors(*out, g, tensors, count);
    gm_free(tensors);
    return status;
}

gm_status gm_gguf_model_load(gm_model **out, const gm_ctx *ctx, const gm_file *file, gm_error *err) {
    gm_gguf g;
    *out = NULL;
    GM_TRY(gm_gguf_parse(&g, file->data, file->size, file->path, err));
    gm_status status = load(out, ctx, &g, err);
    gm_gguf_close(&g);
    return status;
}
