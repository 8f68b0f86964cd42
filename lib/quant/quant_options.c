/* quant_options.c -- what can be asked of the quantizers: rules, defaults, the published settings, and all of it as JSON. */
#include "quant.h"

#include <string.h>

/* ---- the kinds, and every field of one, once */

typedef struct kind {
    const char *name;
    size_t offset;
    bool activation;
} kind;
#define KIND(field, activation) \
    { #field, offsetof(gm_quant_options, field), activation }
static const kind kinds[] = {KIND(weights, false),    KIND(embeddings, false), KIND(head, false),
                             KIND(activations, true), KIND(attention, true),   KIND(kv, true)};
#undef KIND

typedef enum field_type { FIELD_BITS, FIELD_COUNT, FIELD_REAL, FIELD_FLAG, FIELD_GRAIN, FIELD_RANGE, FIELD_SMOOTH } field_type;
typedef struct field {
    const char *name;
    field_type type;
    size_t offset;
} field;
#define FIELD(name, type) \
    { #name, FIELD_##type, offsetof(gm_quantizer, name) }
static const field quantizer_fields[] = {FIELD(bits, BITS),       FIELD(grain, GRAIN), FIELD(group, COUNT),     FIELD(range, RANGE),
                                         FIELD(percentile, REAL), FIELD(margin, REAL), FIELD(asymmetric, FLAG), FIELD(dynamic, FLAG)};
#undef FIELD
#define FIELD(name, type) \
    { #name, FIELD_##type, offsetof(gm_quant_options, name) }
static const field option_fields[] = {FIELD(linear_only, FLAG),        FIELD(attention_input, FLAG),   FIELD(smooth, SMOOTH),
                                      FIELD(smooth_alpha, REAL),       FIELD(outlier_threshold, REAL), FIELD(calibration_batches, COUNT),
                                      FIELD(calibration_batch, COUNT), FIELD(sequences, COUNT),        FIELD(seed, COUNT)};
#undef FIELD

/* The words of an enum; NULL: not one. */
static const char *const *words_of(field_type type) {
    static const char *const grains[] = {"tensor", "channel", "token", "head", "group", NULL};
    static const char *const ranges[] = {"minmax", "running", "percentile", "mse", "golden", NULL};
    static const char *const smooths[] = {"none", "norms", "layers", NULL};
    return type == FIELD_GRAIN ? grains : type == FIELD_RANGE ? ranges : type == FIELD_SMOOTH ? smooths : NULL;
}

/* ---- rules */

static gm_status check_quantizer(const kind *k, const gm_quantizer *q, gm_error *err) {
    const char *const *grains = words_of(FIELD_GRAIN), *const *ranges = words_of(FIELD_RANGE);
    if (q->bits == 0)
        return GM_OK;
    if (q->bits < 2 || q->bits > 16)
        return gm_fail(err, GM_EINVAL, "bits of %s must be 2 to 16 (or 0: left in f32), got %d", k->name, q->bits);
    bool kv = k->offset == offsetof(gm_quant_options, kv), weights = k->offset == offsetof(gm_quant_options, weights);
    bool head = k->offset == offsetof(gm_quant_options, head), tables = k->offset == offsetof(gm_quant_options, embeddings);
    bool attention = k->offset == offsetof(gm_quant_options, attention);
    bool can[] = {[GM_GRAIN_TENSOR] = true,
                  [GM_GRAIN_CHANNEL] = !attention,
                  [GM_GRAIN_TOKEN] = k->activation,
                  [GM_GRAIN_HEAD] = kv,
                  [GM_GRAIN_GROUP] = weights || head || tables || !attention};
    if ((unsigned)q->grain >= GM_COUNT(can) || !can[q->grain])
        return gm_fail(err, GM_EINVAL, "%s cannot have a grid per %s", k->name, grains[GM_MIN((unsigned)q->grain, GM_COUNT(can) - 1)]);
    if (q->grain == GM_GRAIN_GROUP && q->group < 2)
        return gm_fail(err, GM_EINVAL, "a group of %s must be at least 2 neighbours, got %lld", k->name, (long long)q->group);
    bool running = q->range == GM_RANGE_RUNNING || q->range == GM_RANGE_PERCENTILE;
    if ((unsigned)q->range > GM_RANGE_GOLDEN || (running && !k->activation))
        return gm_fail(err, GM_EINVAL, "ranges of %s come from minmax, mse or golden: there are no batches for %s", k->name,
                       ranges[GM_MIN((unsigned)q->range, GM_RANGE_GOLDEN)]);
    if (q->range == GM_RANGE_PERCENTILE && !(q->percentile > 50 && q->percentile <= 100))
        return gm_fail(err, GM_EINVAL, "a calibration percentile must be above 50 and at most 100, got %g", q->percentile);
    if (k->activation && q->grain == GM_GRAIN_CHANNEL && q->range > GM_RANGE_RUNNING)
        return gm_fail(err, GM_EINVAL, "ranges of %s per channel are minmax or running, not %s", k->name, ranges[q->range]);
    if (!(q->margin >= 0 && q->margin < 1e9))
        return gm_fail(err, GM_EINVAL, "a range's margin cannot be negative, got %g", q->margin);
    return GM_OK;
}

gm_status gm_quant_options_check(const gm_quant_options *o, gm_error *err) {
    for (int i = 0; i < GM_COUNT(kinds); i++)
        GM_TRY(check_quantizer(&kinds[i], (const gm_quantizer *)((const char *)o + kinds[i].offset), err));
    if (o->smooth && !(o->smooth_alpha >= 0 && o->smooth_alpha <= 1))
        return gm_fail(err, GM_EINVAL, "SmoothQuant's alpha must be 0 to 1, got %g", o->smooth_alpha);
    if (!(o->outlier_threshold >= 0))
        return gm_fail(err, GM_EINVAL, "the outlier threshold cannot be negative, got %g", o->outlier_threshold);
    if (o->calibration_batches < 1 || o->calibration_batch < 1)
        return gm_fail(err, GM_EINVAL, "calibration needs at least one batch of one sequence, got %lld x %lld",
                       (long long)o->calibration_batches, (long long)o->calibration_batch);
    if (o->sequences < 0)
        return gm_fail(err, GM_EINVAL, "the number of validation sequences cannot be negative, got %lld", (long long)o->sequences);
    return GM_OK;
}

/* ---- the published settings */

static const gm_quantizer off = {0};

static gm_quantizer weight_quantizer(int bits, gm_quant_range range) {
    return (gm_quantizer){.bits = bits, .range = range, .margin = range == GM_RANGE_MSE ? 0.5 : 0};
}

static gm_quantizer activation_quantizer(int bits) {
    return (gm_quantizer){.bits = bits, .range = GM_RANGE_RUNNING, .asymmetric = true};
}

/* arXiv 2306.12929: weights, tables and gains one symmetric grid each, every activation one asymmetric grid. */
static gm_quant_options published(int weight_bits, int activation_bits, gm_quant_range range) {
    gm_quantizer w = weight_quantizer(weight_bits, range), a = activation_quantizer(activation_bits);
    return (gm_quant_options){.weights = w,
                              .embeddings = w,
                              .activations = a,
                              .attention = a,
                              .smooth_alpha = 0.5,
                              .calibration_batches = 16,
                              .calibration_batch = 8,
                              .seed = 1};
}

static gm_quant_options opt_paper(void) {
    gm_quant_options o = published(8, 8, GM_RANGE_MSE);
    o.activations.range = o.attention.range = GM_RANGE_PERCENTILE;
    o.activations.percentile = o.attention.percentile = 99.999;
    o.calibration_batches = 4;
    o.calibration_batch = 1;
    return o;
}

static gm_quant_options llm_int8(void) {
    gm_quant_options o = published(8, 8, GM_RANGE_MINMAX);
    o.weights.grain = GM_GRAIN_CHANNEL;
    o.activations = (gm_quantizer){.bits = 8, .grain = GM_GRAIN_TOKEN};
    o.embeddings = o.attention = off;
    o.linear_only = true;
    o.outlier_threshold = 6;
    return o;
}

static gm_quant_options smoothquant(void) {
    gm_quant_options o = published(8, 8, GM_RANGE_MINMAX);
    o.activations = (gm_quantizer){.bits = 8, .range = GM_RANGE_MINMAX};
    o.embeddings = o.attention = off;
    o.linear_only = true;
    o.smooth = GM_SMOOTH_NORMS;
    return o;
}

static const struct preset {
    gm_quant_preset_info info;
    int weight_bits, activation_bits;
    gm_quant_range range;              /* weights' */
    gm_quant_options (*options)(void); /* NULL: published(), with the three above */
} presets[] = {
    {{"w8a8", "8 bits as published: absmax weights, running min-max activations, 16 batches", "arXiv 2306.12929, C.4"},
     8,
     8,
     GM_RANGE_MINMAX,
     NULL},
    {{"w6a8", "6-bit weights by MSE, 8-bit activations", "the same, Table 10"}, 6, 8, GM_RANGE_MSE, NULL},
    {{"w4a8", "4-bit weights by MSE, 8-bit activations", "the same, Table 10"}, 4, 8, GM_RANGE_MSE, NULL},
    {{"w6a6", "6 bits, weights by MSE", "the same, Table 10"}, 6, 6, GM_RANGE_MSE, NULL},
    {{"w4a4", "4 bits, weights by MSE", "ours, after the same"}, 4, 4, GM_RANGE_MSE, NULL},
    {{"bert-paper", "BERT's: w8a8", "outlier-free-transformers 1e59744"}, 8, 8, GM_RANGE_MINMAX, NULL},
    {{"opt-paper", "OPT's: weights by MSE of 100 candidates with a margin of 0.5, percentile 99.999, 4 batches of 1",
      "outlier-free-transformers 1e59744, README"},
     0,
     0,
     0,
     opt_paper},
    {{"llm-int8", "linear layers only: outlier features (6.0) in f32, the rest int8 per token and output", "arXiv 2208.07339"},
     0,
     0,
     0,
     llm_int8},
    {{"smoothquant", "linear layers only: scales moved into the weights through the norms, alpha 0.5, then int8 per tensor",
      "arXiv 2211.10438"},
     0,
     0,
     0,
     smoothquant},
};

const gm_quant_preset_info *gm_quant_preset_list(int index) {
    return index >= 0 && index < GM_COUNT(presets) ? &presets[index].info : NULL;
}

gm_status gm_quant_preset(gm_quant_options *options, const char *name, gm_error *err) {
    const char *names[GM_COUNT(presets) + 1] = {0};
    for (int i = 0; i < GM_COUNT(presets); i++) {
        const struct preset *p = &presets[i];
        names[i] = p->info.name;
        if (strcmp(name, p->info.name) == 0) {
            *options = p->options ? p->options() : published(p->weight_bits, p->activation_bits, p->range);
            return GM_OK;
        }
    }
    const char *nearest = gm_text_nearest(name, names);
    return gm_fail(err, GM_EINVAL, "unknown quantization preset '%s'%s%s%s", name, nearest ? "; did you mean '" : "",
                   nearest ? nearest : "", nearest ? "'?" : "");
}

void gm_quant_defaults(gm_quant_options *options) {
    gm_quant_preset(options, presets[0].info.name, NULL);
}

void gm_quant_set_bits(gm_quant_options *options, int weight_bits, int activation_bits) {
    for (int i = 0; i < GM_COUNT(kinds); i++) {
        gm_quantizer *q = (gm_quantizer *)((char *)options + kinds[i].offset);
        if (q->bits && kinds[i].offset != offsetof(gm_quant_options, kv))
            q->bits = kinds[i].activation ? activation_bits : weight_bits;
    }
}

/* ---- JSON */

static json_t *fields_to_json(const void *base, const field *fields, int count) {
    json_t *root = json_object();
    for (int i = 0; i < count; i++) {
        const field *f = &fields[i];
        const void *at = (const char *)base + f->offset;
        const char *const *words = words_of(f->type);
        json_t *value = words                    ? json_string(words[*(const int *)at])
                        : f->type == FIELD_BITS  ? json_integer(*(const int *)at)
                        : f->type == FIELD_COUNT ? json_integer((json_int_t) * (const int64_t *)at)
                        : f->type == FIELD_REAL  ? json_real(*(const double *)at)
                                                 : json_boolean(*(const bool *)at);
        json_object_set_new(root, f->name, value);
    }
    return root;
}

json_t *gm_quant_options_to_json(const gm_quant_options *o) {
    json_t *root = fields_to_json(o, option_fields, GM_COUNT(option_fields));
    for (int i = 0; i < GM_COUNT(kinds); i++) {
        const gm_quantizer *q = (const gm_quantizer *)((const char *)o + kinds[i].offset);
        json_object_set_new(root, kinds[i].name, q->bits ? fields_to_json(q, quantizer_fields, GM_COUNT(quantizer_fields)) : json_null());
    }
    return root;
}

static bool field_from_json(void *at, const field *f, json_t *value) {
    const char *const *words = words_of(f->type);
    int word = 0;
    if (words) {
        const char *text = json_string_value(value);
        while (text && words[word] && strcmp(words[word], text) != 0)
            word++;
        if (!text || !words[word])
            return false;
        *(int *)at = word;
    } else if (f->type == FIELD_REAL && json_is_number(value)) {
        *(double *)at = json_number_value(value);
    } else if (f->type == FIELD_FLAG && json_is_boolean(value)) {
        *(bool *)at = json_is_true(value);
    } else if (f->type == FIELD_COUNT && json_is_integer(value)) {
        *(int64_t *)at = json_integer_value(value);
    } else if (f->type == FIELD_BITS && json_is_integer(value) && json_integer_value(value) >= 2 && json_integer_value(value) <= 16) {
        *(int *)at = (int)json_integer_value(value);
    } else {
        return false;
    }
    return true;
}

static gm_status fields_from_json(void *base, json_t *root, const field *fields, int count, gm_error *err) {
    for (int i = 0; i < count; i++) {
        if (!field_from_json((char *)base + fields[i].offset, &fields[i], json_object_get(root, fields[i].name)))
            return gm_fail(err, GM_EFORMAT, "the quantizer's \"%s\" is missing or has no such value", fields[i].name);
    }
    return GM_OK;
}

gm_status gm_quant_options_from_json(gm_quant_options *o, json_t *root, gm_error *err) {
    *o = (gm_quant_options){0};
    GM_TRY(fields_from_json(o, root, option_fields, GM_COUNT(option_fields), err));
    for (int i = 0; i < GM_COUNT(kinds); i++) {
        json_t *value = json_object_get(root, kinds[i].name);
        if (!json_is_null(value))
            GM_TRY(fields_from_json((char *)o + kinds[i].offset, value, quantizer_fields, GM_COUNT(quantizer_fields), err));
    }
    gm_error inner;
    if (gm_quant_options_check(o, &inner) != GM_OK)
        return gm_fail(err, GM_EFORMAT, "%s", inner.msg);
    return GM_OK;
}
