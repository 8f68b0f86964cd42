/* measure_json.c -- a measurement as the JSON of the contract. Non-finite values become null. */
#include "measure.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* jansson's setters fail on their own when an allocation failed; `failed` remembers it. */
typedef struct printer {
    const gm_measurement *p;
    bool failed;
} printer;

static void put(printer *out, json_t *object, const char *name, json_t *value) {
    out->failed |= json_object_set_new(object, name, value) != 0;
}

static void append(printer *out, json_t *array, json_t *value) {
    out->failed |= json_array_append_new(array, value) != 0;
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static void put_number(printer *out, json_t *object, const char *name, double x) {
    put(out, object, name, number(x));
}

static void put_integer(printer *out, json_t *object, const char *name, int64_t x) {
    put(out, object, name, json_integer(x));
}

/* name, or name_without_first */
static void put_positions(printer *out, json_t *object, const char *name, double x, gm_positions positions) {
    char key[64];
    snprintf(key, sizeof key, "%s%s", name, positions == GM_WITHOUT_FIRST ? "_without_first" : "");
    put_number(out, object, key, x);
}

/* max that a NaN does not vanish in */
static double larger(double a, double b) {
    return a > b || isnan(a) ? a : b;
}

/* ---- what was measured */

static void print_inputs(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    const gm_model_config *c = &p->model->cfg;
    char variant[128];
    gm_variant_format(variant, sizeof variant, &c->attention);
    json_t *model = json_object();
    put(out, model, "preset", json_string(c->preset));
    put(out, model, "variant", json_string(variant));
    put_integer(out, model, "layers", c->layers);
    put_integer(out, model, "heads", c->heads);
    put_integer(out, model, "width", c->width);
    put_integer(out, model, "context", c->context);
    put_integer(out, model, "vocab", c->vocab);
    put(out, root, "schema", json_string("ghostmax.measure/1"));
    put(out, root, "model", model);
    put(out, root, "data", json_string(gm_data_identity(p->data)));
    put_integer(out, root, "sequences", p->sequences);
    put_integer(out, root, "context", p->T);
    put(out, root, "bos", json_boolean(p->bos));
    put(out, root, "convention", json_string(p->convention->name));
    put_number(out, root, "loss", p->loss);
}

/* ---- activations */

static json_t *tensor_object(printer *out, const gm_tensor_stats *s, gm_site site, int layer) {
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"0.5", 0.5}, {"0.9", 0.9}, {"0.99", 0.99}, {"0.999", 0.999}, {"0.9999", 0.9999}};
    json_t *tensor = json_object();
    char name[64];
    if (layer < 0)
        snprintf(name, sizeof name, "%s", gm_site_name(site));
    else
        snprintf(name, sizeof name, "blocks.%d.%s", layer, gm_site_name(site));
    put(out, tensor, "name", json_string(name));
    put(out, tensor, "site", json_string(gm_site_name(site)));
    put_integer(out, tensor, "layer", layer);
    put(out, tensor, "averaged", json_boolean(gm_measurement_is_averaged(out->p, site, layer)));
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        gm_tensor_summary sum = gm_tensor_stats_summary(s, (gm_positions)i);
        put_positions(out, tensor, "inf_norm", sum.inf_norm, (gm_positions)i);
        put_positions(out, tensor, "kurtosis", sum.kurtosis, (gm_positions)i);
        put_positions(out, tensor, "kurtosis_eps0", sum.kurtosis_eps0, (gm_positions)i);
        put_positions(out, tensor, "excess_kurtosis_pooled", sum.excess_kurtosis, (gm_positions)i);
        put_positions(out, tensor, "mean", sum.mean, (gm_positions)i);
        put_positions(out, tensor, "std", sum.standard_dev, (gm_positions)i);
        put_positions(out, tensor, "absmax", sum.absmax, (gm_positions)i);
    }
    json_t *object = json_object();
    for (int i = 0; i < GM_COUNT(quantiles); i++)
        put_number(out, object, quantiles[i].name, gm_tensor_stats_quantile(s, quantiles[i].q));
    put(out, tensor, "quantiles", object); /* of |x| */
    return tensor;
}

static void print_tensors(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    int count = gm_measurement_tensor_count(p);
    json_t *array = json_array(), *first_norms = json_array();
    double max_inf[GM_POSITIONS_COUNT], max_ffn[GM_POSITIONS_COUNT], max_all[GM_POSITIONS_COUNT], max_kurtosis[GM_POSITIONS_COUNT];
    double kurtosis[GM_POSITIONS_COUNT] = {0};
    int averaged = 0;
    for (int i = 0; i < GM_POSITIONS_COUNT; i++)
        max_inf[i] = max_ffn[i] = max_all[i] = max_kurtosis[i] = -INFINITY;
    for (int i = 0; i < count; i++) {
        bool last = i == count - 1;
        gm_site site = last ? GM_SITE_NORM_FINAL : gm_block_sites[i % GM_BLOCK_TENSORS];
        int layer = last ? -1 : i / GM_BLOCK_TENSORS;
        append(out, array, tensor_object(out, &p->tensors[i], site, layer));
        if (site == GM_SITE_BLOCK)
            append(out, first_norms, number(gm_tensor_stats_summary(&p->tensors[i], GM_ALL_POSITIONS).first_norm));
        bool in_average = gm_measurement_is_averaged(p, site, layer);
        averaged += in_average;
        for (int j = 0; j < GM_POSITIONS_COUNT; j++) {
            gm_tensor_summary sum = gm_tensor_stats_summary(&p->tensors[i], (gm_positions)j);
            max_all[j] = larger(max_all[j], sum.inf_norm);
            if (site == GM_SITE_BLOCK)
                max_inf[j] = larger(max_inf[j], sum.inf_norm);
            if (site == GM_SITE_FFN_OUT)
                max_ffn[j] = larger(max_ffn[j], sum.inf_norm);
            if (in_average) {
                kurtosis[j] += sum.kurtosis;
                max_kurtosis[j] = larger(max_kurtosis[j], sum.kurtosis);
            }
        }
    }
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        gm_positions positions = (gm_positions)i;
        put_positions(out, root, "max_inf_norm", max_inf[i], positions);
        put_positions(out, root, "max_ffn_inf_norm", max_ffn[i], positions);
        put_positions(out, root, "max_all_inf_norm", max_all[i], positions);
        put_positions(out, root, "avg_kurtosis", kurtosis[i] / averaged, positions);
        put_positions(out, root, "max_kurtosis", max_kurtosis[i], positions);
    }
    put(out, root, "first_norm", first_norms); /* of every block's output at position 0 */
    put(out, root, "tensors", array);
}

/* ---- weights: matrices only; a norm's gains are a vector */

static void print_weights(printer *out, json_t *root) {
    const gm_model *m = out->p->model;
    int count = gm_model_matrices(m, NULL, 0), matrices = 0;
    gm_matrix_view *views = gm_alloc((size_t)count, sizeof *views);
    json_t *array = json_array();
    if (!views) {
        out->failed = true;
        count = 0;
    }
    gm_model_matrices(m, views, count);
    double kurtosis = 0.0, inf_norm = 0.0, max_kurtosis = -INFINITY, max_inf = -INFINITY;
    for (int i = 0; i < count; i++) {
        const gm_matrix_view *v = &views[i];
        if (v->kind == GM_PARAM_NORM_GAIN)
            continue;
        gm_moments moments = gm_moments_of(m->ctx, v->x, v->rows * v->cols);
        double k = gm_kurtosis(&moments, 0.0), norm = gm_inf_norm(m->ctx, v->x, v->rows * v->cols);
        json_t *weight = json_object();
        put(out, weight, "name", json_string(v->name));
        put_integer(out, weight, "layer", v->layer);
        put_integer(out, weight, "rows", v->rows);
        put_integer(out, weight, "cols", v->cols);
        put_number(out, weight, "inf_norm", norm);
        put_number(out, weight, "kurtosis", k);
        append(out, array, weight);
        kurtosis += k;
        inf_norm += norm;
        max_kurtosis = larger(max_kurtosis, k);
        max_inf = larger(max_inf, norm);
        matrices++;
    }
    put_number(out, root, "weight_kurtosis", kurtosis / matrices);
    put_number(out, root, "weight_kurtosis_max", max_kurtosis);
    put_number(out, root, "weight_inf_norm", inf_norm / matrices);
    put_number(out, root, "weight_inf_norm_max", max_inf);
    put(out, root, "weights", array);
    gm_free(views);
}

/* ---- attention */

static void head_summary_add(gm_head_summary *sum, gm_head_summary one, double share) {
    sum->sink_mass += share * one.sink_mass;
    sum->sink_rate += share * one.sink_rate;
    sum->null_mass += share * one.null_mass;
    sum->unspent += share * one.unspent;
}

static void put_heads(printer *out, json_t *object, const gm_head_summary sums[GM_POSITIONS_COUNT]) {
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        put_positions(out, object, "sink_rate", sums[i].sink_rate, (gm_positions)i);
        put_positions(out, object, "sink_mass", sums[i].sink_mass, (gm_positions)i);
        put_positions(out, object, "null_mass", sums[i].null_mass, (gm_positions)i);
        put_positions(out, object, "unspent", sums[i].unspent, (gm_positions)i);
    }
}

static void print_attention(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    int64_t L = p->model->cfg.layers, H = p->model->cfg.heads;
    json_t *heads = json_array(), *layers = json_array();
    gm_head_summary model[GM_POSITIONS_COUNT] = {0};
    for (int64_t l = 0; l < L; l++) {
        gm_head_summary layer[GM_POSITIONS_COUNT] = {0};
        for (int64_t h = 0; h < H; h++) {
            gm_head_summary head[GM_POSITIONS_COUNT];
            for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
                head[i] = gm_head_stats_summary(&p->heads[l * H + h], (gm_positions)i);
                head_summary_add(&layer[i], head[i], 1.0 / (double)H);
                head_summary_add(&model[i], head[i], 1.0 / (double)(L * H));
            }
            json_t *object = json_object();
            put_integer(out, object, "layer", l);
            put_integer(out, object, "head", h);
            put_heads(out, object, head);
            append(out, heads, object);
        }
        json_t *object = json_object();
        put_integer(out, object, "layer", l);
        put_heads(out, object, layer);
        append(out, layers, object);
    }
    put_heads(out, root, model);
    put(out, root, "layers", layers);
    put(out, root, "heads", heads);
}

/* ---- outliers */

static void print_massive(printer *out, json_t *root) {
    const gm_massive_stats *s = &out->p->massive;
    json_t *array = json_array();
    for (int i = 0; i < s->kept; i++) {
        json_t *object = json_object();
        put_integer(out, object, "layer", s->list[i].layer);
        put_integer(out, object, "dim", s->list[i].dim);
        put_integer(out, object, "position", s->list[i].position);
        put_integer(out, object, "token", s->list[i].token);
        put_integer(out, object, "sequence", s->list[i].sequence);
        put_number(out, object, "value", s->list[i].value);
        append(out, array, object);
    }
    put_integer(out, root, "massive_count", s->count[GM_ALL_POSITIONS]);
    put_integer(out, root, "massive_count_without_first", s->count[GM_WITHOUT_FIRST]);
    put(out, root, "massive", array);
}

static void print_backcopy(printer *out, json_t *root) {
    const gm_backcopy_stats *s = &out->p->backcopy;
    if (!out->p->triggers)
        return;
    put_number(out, root, "backcopy_loss", s->copy_loss / (double)s->copies);
    put_number(out, root, "bigram_excess", s->bigram_excess / (double)s->bigrams);
    put_number(out, root, "dormant_sink_mass", s->dormant_mass / (double)s->dormant);
}

static json_t *feature_array(printer *out, gm_positions positions) {
    const gm_feature_stats *s = &out->p->features;
    json_t *array = json_array();
    for (int64_t c = 0; c < s->C; c++) {
        double layers, at_positions;
        if (!gm_feature_stats_is_outlier(s, c, positions, &layers, &at_positions))
            continue;
        json_t *object = json_object();
        put_integer(out, object, "dim", c);
        put_number(out, object, "layers", layers);
        put_number(out, object, "positions", at_positions);
        append(out, array, object);
    }
    return array;
}

static void print_classes(printer *out, json_t *root) {
    static const char *const names[GM_CLASS_COUNT] = {
        [GM_CLASS_BOS] = "bos",    [GM_CLASS_WHITESPACE] = "whitespace", [GM_CLASS_PUNCTUATION] = "punctuation",
        [GM_CLASS_WORD] = "words", [GM_CLASS_DIGIT] = "digits",          [GM_CLASS_OTHER] = "other",
    };
    const gm_class_stats *s = &out->p->classes;
    int64_t total = 0;
    for (int i = 0; i < GM_CLASS_COUNT; i++)
        total += s->count[i];
    json_t *object = json_object();
    for (int i = 0; i < GM_CLASS_COUNT; i++)
        put_number(out, object, names[i], (double)s->count[i] / (double)total);
    put_integer(out, object, "values", total);
    put(out, root, "token_classes", object);
}

gm_status gm_measurement_print(const gm_measurement *p, char **json, gm_error *err) {
    printer out = {.p = p};
    json_t *root = json_object();
    print_inputs(&out, root);
    print_tensors(&out, root);
    print_weights(&out, root);
    print_attention(&out, root);
    print_massive(&out, root);
    put(&out, root, "outlier_features", feature_array(&out, GM_ALL_POSITIONS));
    put(&out, root, "outlier_features_without_first", feature_array(&out, GM_WITHOUT_FIRST));
    print_classes(&out, root);
    print_backcopy(&out, root);
    *json = out.failed ? NULL : json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(root);
    return *json ? GM_OK : gm_fail(err, GM_ENOMEM, "cannot get memory to print the measurement");
}
