/* override.c -- changing a preset's dimensions by name: the table that the command line, the lab and `info` share. */
#include "base.h"
#include "ghostmax_model.h"

#include <stddef.h>
#include <string.h>

typedef enum field_type { FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_ENUM } field_type;

typedef struct override_field {
    gm_override_info info;
    field_type type;
    size_t offset;
} override_field;

#define DIM(name, field, min, max, summary) \
    { {name, "N", summary, min, max, false}, FIELD_INT, offsetof(gm_model_config, field) }
#define REAL(name, field, min, max, summary) \
    { {name, "X", summary, min, max, false}, FIELD_REAL, offsetof(gm_model_config, field) }
#define YESNO(name, field, summary) \
    { {name, "no|yes", summary, 0, 1, false}, FIELD_BOOL, offsetof(gm_model_config, field) }

static const override_field fields[] = {
    DIM("layers", layers, 1, 1024, "transformer blocks"),
    DIM("heads", heads, 1, 4096, "query heads; they divide the width unless --head-dim is given"),
    DIM("kv-heads", kv_heads, 1, 4096, "key/value heads; they divide the query heads"),
    DIM("width", width, 1, 1 << 18, "residual stream"),
    DIM("head-dim", head_dim, 1, 256, "dimension of one head"),
    DIM("ffn", ffn, 1, 1 << 20, "hidden units of the feed-forward layer"),
    {{"vocab", "N", "vocabulary", 2, 1 << 24, true}, FIELD_INT, offsetof(gm_model_config, vocab)},
    {{"context", "N", "longest sequence", 1, 1 << 24, true}, FIELD_INT, offsetof(gm_model_config, context)},
    DIM("window", window, 0, 1 << 24, "sliding window of attention; 0: none"),
    /* in gm_act's order */
    {{"act", "gelu-tanh|gelu-erf|relu|swiglu", "activation", 0, 0, false}, FIELD_ENUM, offsetof(gm_model_config, act)},
    YESNO("rms-norm", rms_norm, "RMS norm instead of layer norm"),
    YESNO("rope", rope, "rotary positions instead of a learned table"),
    YESNO("bias", bias, "biases in the linear layers"),
    YESNO("qkv-bias", qkv_bias, "biases in the q, k, v projections alone"),
    YESNO("qk-norm", qk_norm, "an RMS norm over each head of q and k"),
    YESNO("tied", tied, "the LM head is the embedding table"),
    REAL("norm-eps", norm_eps, 0, 1, "epsilon of the norms"),
    REAL("rope-theta", rope_theta, 1, 1e12, "base of the rotary frequencies"),
    /* in gm_rope_scaling's order */
    {{"rope-scaling", "plain|linear|llama3", "how the rotary frequencies are stretched", 0, 0, false},
     FIELD_ENUM,
     offsetof(gm_model_config, rope_scaling)},
    REAL("rope-factor", rope_factor, 0, 1e6, "by which factor"),
    REAL("rope-low-freq", rope_low_freq, 0, 1e6, "llama3: stretched in full below so many turns in the original context"),
    REAL("rope-high-freq", rope_high_freq, 0, 1e6, "llama3: left alone above so many"),
    DIM("rope-original-context", rope_original_context, 0, 1 << 24, "llama3: the context before it was stretched"),
    REAL("dropout", dropout, 0, 0.99, "on the embedding sum and both branch outputs"),
    /* in gm_init's order */
    {{"init", "gpt2|opt|torch", "initialisation", 0, 0, false}, FIELD_ENUM, offsetof(gm_model_config, init)},
    REAL("init-std", init_std, 1e-6, 1, "standard deviation of the initial weights"),
};

const gm_override_info *gm_override_list(int index) {
    return index >= 0 && index < GM_COUNT(fields) ? &fields[index].info : NULL;
}

static gm_status set_field(gm_model_config *cfg, const override_field *field, const char *value, gm_error *err) {
    const gm_override_info *info = &field->info;
    char *at = (char *)cfg + field->offset;
    if (field->type == FIELD_INT) {
        int64_t number;
        GM_TRY(gm_text_int(&number, value, (int64_t)info->min, (int64_t)info->max, info->name, err));
        memcpy(at, &number, sizeof number);
        return GM_OK;
    }
    if (field->type == FIELD_REAL) {
        double number;
        GM_TRY(gm_text_double(&number, value, info->min, info->max, info->name, err));
        memcpy(at, &number, sizeof number);
        return GM_OK;
    }
    int choice = gm_text_choice(info->values, value);
    if (choice < 0)
        return gm_fail(err, GM_EINVAL, "%s: '%s' is none of %s", info->name, value, info->values);
    if (field->type == FIELD_BOOL)
        *(bool *)at = choice == 1;
    else if (field->offset == offsetof(gm_model_config, act))
        cfg->act = (gm_act)choice;
    else if (field->offset == offsetof(gm_model_config, init))
        cfg->init = (gm_init)choice;
    else
        cfg->rope_scaling = (gm_rope_scaling)choice;
    return GM_OK;
}

static const override_field *field_of(const char *name) {
    for (int i = 0; i < GM_COUNT(fields); i++) {
        if (strcmp(fields[i].info.name, name) == 0)
            return &fields[i];
    }
    return NULL;
}

static gm_status fail_unknown(const char *name, gm_error *err) {
    const char *names[GM_COUNT(fields) + 1] = {0};
    for (int i = 0; i < GM_COUNT(fields); i++)
        names[i] = fields[i].info.name;
    const char *nearest = gm_text_nearest(name, names);
    if (nearest)
        return gm_fail(err, GM_EINVAL, "a model has no dimension '%s'; did you mean '%s'?", name, nearest);
    return gm_fail(err, GM_EINVAL, "a model has no dimension '%s'; `ghostmax info --help` lists them", name);
}

gm_status gm_model_config_override(gm_model_config *cfg, const char *overrides, gm_error *err) {
    gm_model_config changed = *cfg;
    bool heads = false, head_dim = false, kv_heads = false, width = false, ffn = false;
    for (const char *p = overrides; *p;) {
        char item[128];
        size_t n = strcspn(p, ",");
        if (n >= sizeof item)
            return gm_fail(err, GM_EINVAL, "'%.40s...' is too long for a name=value", p);
        memcpy(item, p, n);
        item[n] = 0;
        p += n + (p[n] == ',');
        char *value = strchr(item, '=');
        if (!value)
            return gm_fail(err, GM_EINVAL, "'%s' is not name=value, e.g. width=128", item);
        *value++ = 0;
        const override_field *field = field_of(item);
        if (!field)
            return fail_unknown(item, err);
        GM_TRY(set_field(&changed, field, value, err));
        heads |= field->offset == offsetof(gm_model_config, heads);
        head_dim |= field->offset == offsetof(gm_model_config, head_dim);
        kv_heads |= field->offset == offsetof(gm_model_config, kv_heads);
        width |= field->offset == offsetof(gm_model_config, width);
        ffn |= field->offset == offsetof(gm_model_config, ffn);
    }
    if ((heads || width) && !head_dim)
        changed.head_dim = 0;
    if (heads && !kv_heads)
        changed.kv_heads = 0;
    if (width && !ffn)
        changed.ffn = 0;
    *cfg = changed;
    return GM_OK;
}
