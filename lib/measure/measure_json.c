/* measure_json.c -- a measurement as the JSON of the contract. Non-finite values become null. */
#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef gm_measure_printer printer;

void gm_measure_put(printer *out, json_t *object, const char *name, json_t *value) {
    out->failed |= json_object_set_new(object, name, value) != 0;
}

void gm_measure_append(printer *out, json_t *array, json_t *value) {
    out->failed |= json_array_append_new(array, value) != 0;
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

void gm_measure_number(printer *out, json_t *object, const char *name, double x) {
    gm_measure_put(out, object, name, number(x));
}

void gm_measure_integer(printer *out, json_t *object, const char *name, int64_t x) {
    gm_measure_put(out, object, name, json_integer(x));
}

void gm_measure_positions(printer *out, json_t *object, const char *name, double x, gm_positions positions) {
    char key[64];
    snprintf(key, sizeof key, "%s%s", name, positions == GM_WITHOUT_FIRST ? "_without_first" : "");
    gm_measure_number(out, object, key, x);
}

void gm_measure_tensor_name(char name[64], const gm_measured *t) {
    if (t->layer < 0)
        snprintf(name, 64, "%s", gm_site_name(t->site));
    else
        snprintf(name, 64, "blocks.%d.%s", t->layer, gm_site_name(t->site));
}

void gm_measure_token_text(gm_text *text, const gm_tokenizer *tokenizer, int32_t previous, int32_t token) {
    if (!tokenizer || token < 0)
        return;
    if (token == gm_tokenizer_bos(tokenizer)) {
        gm_text_add(text, "<bos>");
        return;
    }
    size_t size;
    const char *piece = gm_tokenizer_piece(tokenizer, previous, token, &size);
    json_t *valid = json_stringn(piece, size); /* a byte token may be half a character */
    json_decref(valid);
    if (valid)
        gm_text_bytes(text, piece, size);
    for (size_t i = 0; !valid && i < size; i++)
        gm_text_add(text, "<%02x>", (unsigned char)piece[i]);
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
    gm_measure_put(out, model, "preset", json_string(c->preset));
    gm_measure_put(out, model, "variant", json_string(variant));
    gm_measure_integer(out, model, "layers", c->layers);
    gm_measure_integer(out, model, "heads", c->heads);
    gm_measure_integer(out, model, "width", c->width);
    gm_measure_integer(out, model, "context", c->context);
    gm_measure_integer(out, model, "vocab", c->vocab);
    gm_measure_put(out, root, "schema", json_string("ghostmax.measure/1"));
    gm_measure_put(out, root, "model", model);
    gm_measure_put(out, root, "data", json_string(gm_data_identity(p->data)));
    gm_measure_integer(out, root, "sequences", p->sequences);
    gm_measure_integer(out, root, "context", p->T);
    gm_measure_put(out, root, "bos", json_boolean(p->bos));
    gm_measure_put(out, root, "convention", json_string(p->convention->name));
    gm_measure_number(out, root, "loss", p->loss_sum / (double)p->targets);
    if (p->asked > p->sequences) /* the data has no more */
        gm_measure_integer(out, root, "sequences_asked", p->asked);
}

/* Values that are no numbers: how many tensors have some, and where the first one stands in the order of the pass. */
static void print_nonfinite(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    json_t *object = json_object();
    uint64_t nan = 0, infinite = 0;
    int tensors = 0;
    for (int i = 0; i < p->tensor_count; i++) {
        const gm_measured *t = &p->tensors[i];
        uint64_t here = t->stats.sketch.nan + gm_sketch_infinities(&t->stats.sketch);
        if (here > 0 && tensors++ == 0) {
            char name[64];
            gm_measure_tensor_name(name, t);
            gm_measure_put(out, object, "first", json_string(name));
        }
        nan += t->stats.sketch.nan;
        infinite += gm_sketch_infinities(&t->stats.sketch);
    }
    gm_measure_integer(out, object, "nan", (int64_t)nan);
    gm_measure_integer(out, object, "infinite", (int64_t)infinite);
    gm_measure_integer(out, object, "tensors", tensors);
    gm_measure_put(out, root, "nonfinite", object);
}

/* Metrics that these inputs cannot have, and why. */
static void print_left_out(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    json_t *array = json_array();
    if (!p->token_classes)
        gm_measure_append(out, array, json_string("token_classes and the texts of tokens: there is no tokenizer"));
    if (p->T == 1)
        gm_measure_append(out, array, json_string("everything without position 0, and value_drain: sequences have one token"));
    if (p->features.layers && p->model->cfg.heads * p->model->cfg.head_dim != p->model->cfg.width)
        gm_measure_append(out, array, json_string("the output projection's input in outlier_features: heads x head_dim is not the width"));
    gm_measure_put(out, root, "left_out", array);
}

/* ---- activations */

json_t *gm_measure_quantiles(printer *out, const gm_sketch *s, bool sizes) {
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"0.0001", 0.0001}, {"0.001", 0.001}, {"0.01", 0.01},   {"0.1", 0.1},      {"0.5", 0.5},
                     {"0.9", 0.9},       {"0.99", 0.99},   {"0.999", 0.999}, {"0.9999", 0.9999}};
    json_t *object = json_object();
    for (int i = sizes ? 4 : 0; i < GM_COUNT(quantiles); i++) {
        double q = quantiles[i].q;
        gm_measure_number(out, object, quantiles[i].name, sizes ? gm_sketch_size_quantile(s, q) : gm_sketch_quantile(s, q));
    }
    return object;
}

static json_t *tensor_object(printer *out, const gm_measured *t) {
    const gm_sketch *sketch = &t->stats.sketch;
    json_t *tensor = json_object();
    char name[64];
    gm_measure_tensor_name(name, t);
    gm_measure_put(out, tensor, "name", json_string(name));
    gm_measure_put(out, tensor, "site", json_string(gm_site_name(t->site)));
    gm_measure_integer(out, tensor, "layer", t->layer);
    gm_measure_put(out, tensor, "averaged", json_boolean(gm_measurement_is_averaged(out->p, t)));
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        gm_tensor_summary sum = gm_tensor_stats_summary(&t->stats, (gm_positions)i);
        gm_measure_positions(out, tensor, "inf_norm", sum.inf_norm, (gm_positions)i);
        gm_measure_positions(out, tensor, "kurtosis", sum.kurtosis, (gm_positions)i);
        gm_measure_positions(out, tensor, "kurtosis_eps0", sum.kurtosis_eps0, (gm_positions)i);
        gm_measure_positions(out, tensor, "excess_kurtosis_pooled", sum.excess_kurtosis, (gm_positions)i);
        gm_measure_positions(out, tensor, "mean", sum.mean, (gm_positions)i);
        gm_measure_positions(out, tensor, "std", sum.standard_dev, (gm_positions)i);
        gm_measure_positions(out, tensor, "absmax", sum.absmax, (gm_positions)i);
    }
    gm_measure_put(out, tensor, "quantiles", gm_measure_quantiles(out, sketch, true));
    gm_measure_integer(out, tensor, "nan", (int64_t)sketch->nan);
    gm_measure_integer(out, tensor, "infinite", (int64_t)gm_sketch_infinities(sketch));
    if (sketch->nan + gm_sketch_infinities(sketch) > 0) {
        gm_measure_put(out, tensor, "first_nonfinite",
                       json_pack("{s:I, s:I, s:I}", "sequence", (json_int_t)t->broken_sequence, "position", (json_int_t)t->broken_position,
                                 "dim", (json_int_t)t->broken_dim));
    }
    if (out->p->details)
        gm_measure_details_tensor(out, tensor, t);
    return tensor;
}

static void print_tensors(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    json_t *array = json_array(), *first_norms = json_array();
    double max_inf[GM_POSITIONS_COUNT], max_ffn[GM_POSITIONS_COUNT], max_all[GM_POSITIONS_COUNT], max_kurtosis[GM_POSITIONS_COUNT];
    double kurtosis[GM_POSITIONS_COUNT] = {0};
    int averaged = 0;
    for (int i = 0; i < GM_POSITIONS_COUNT; i++)
        max_inf[i] = max_ffn[i] = max_all[i] = max_kurtosis[i] = -INFINITY;
    for (int i = 0; i < p->tensor_count; i++) {
        const gm_measured *t = &p->tensors[i];
        const gm_site site = t->site;
        gm_measure_append(out, array, tensor_object(out, t));
        if (!t->published)
            continue;
        if (site == GM_SITE_BLOCK)
            gm_measure_append(out, first_norms, number(gm_tensor_stats_summary(&t->stats, GM_ALL_POSITIONS).first_norm));
        bool in_average = gm_measurement_is_averaged(p, t);
        averaged += in_average;
        for (int j = 0; j < GM_POSITIONS_COUNT; j++) {
            gm_tensor_summary sum = gm_tensor_stats_summary(&t->stats, (gm_positions)j);
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
        gm_measure_positions(out, root, "max_inf_norm", max_inf[i], positions);
        gm_measure_positions(out, root, "max_ffn_inf_norm", max_ffn[i], positions);
        gm_measure_positions(out, root, "max_all_inf_norm", max_all[i], positions);
        gm_measure_positions(out, root, "avg_kurtosis", kurtosis[i] / averaged, positions);
        gm_measure_positions(out, root, "max_kurtosis", max_kurtosis[i], positions);
    }
    gm_measure_put(out, root, "first_norm", first_norms); /* of every block's output at position 0 */
    gm_measure_put(out, root, "tensors", array);
}

/* ---- weights: matrices only; a norm's gains are a vector */

static void print_weight_details(printer *out, json_t *weight, const gm_matrix_view *v) {
    gm_sketch sketch;
    if (gm_sketch_init(&sketch, NULL) != GM_OK) {
        out->failed = true;
        return;
    }
    gm_sketch_add(&sketch, v->x, v->rows * v->cols);
    gm_measure_put(out, weight, "quantiles", gm_measure_quantiles(out, &sketch, true));
    gm_measure_integer(out, weight, "nan", (int64_t)sketch.nan);
    gm_measure_integer(out, weight, "infinite", (int64_t)gm_sketch_infinities(&sketch));
    gm_sketch_free(&sketch);
}

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
        gm_measure_put(out, weight, "name", json_string(v->name));
        gm_measure_integer(out, weight, "layer", v->layer);
        gm_measure_integer(out, weight, "rows", v->rows);
        gm_measure_integer(out, weight, "cols", v->cols);
        gm_measure_number(out, weight, "inf_norm", norm);
        gm_measure_number(out, weight, "kurtosis", k);
        if (out->p->details)
            print_weight_details(out, weight, v);
        gm_measure_append(out, array, weight);
        kurtosis += k;
        inf_norm += norm;
        max_kurtosis = larger(max_kurtosis, k);
        max_inf = larger(max_inf, norm);
        matrices++;
    }
    gm_measure_number(out, root, "weight_kurtosis", kurtosis / matrices);
    gm_measure_number(out, root, "weight_kurtosis_max", max_kurtosis);
    gm_measure_number(out, root, "weight_inf_norm", inf_norm / matrices);
    gm_measure_number(out, root, "weight_inf_norm_max", max_inf);
    gm_measure_put(out, root, "weights", array);
    gm_free(views);
}

/* ---- attention */

/* The fields of a head, once: what is printed and what is averaged over heads. */
static const struct {
    const char *name;
    size_t offset;
    bool details;
} head_fields[] = {{"sink_rate", offsetof(gm_head_summary, sink_rate), false}, {"sink_mass", offsetof(gm_head_summary, sink_mass), false},
                   {"null_mass", offsetof(gm_head_summary, null_mass), false}, {"unspent", offsetof(gm_head_summary, unspent), false},
                   {"entropy", offsetof(gm_head_summary, entropy), true},      {"noop_score", offsetof(gm_head_summary, noop), true},
                   {"value_drain", offsetof(gm_head_summary, drain), true}};

static double *head_field(gm_head_summary *s, int field) {
    return (double *)((char *)s + head_fields[field].offset);
}

static void head_summary_add(gm_head_summary *sum, gm_head_summary one, double share) {
    for (int i = 0; i < GM_COUNT(head_fields); i++)
        *head_field(sum, i) += share * *head_field(&one, i);
}

static void put_heads(printer *out, json_t *object, gm_head_summary sums[GM_POSITIONS_COUNT]) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        for (int i = 0; i < GM_COUNT(head_fields); i++) {
            if (!head_fields[i].details || out->p->details)
                gm_measure_positions(out, object, head_fields[i].name, *head_field(&sums[p], i), (gm_positions)p);
        }
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
            gm_measure_integer(out, object, "layer", l);
            gm_measure_integer(out, object, "head", h);
            put_heads(out, object, head);
            gm_measure_append(out, heads, object);
        }
        json_t *object = json_object();
        gm_measure_integer(out, object, "layer", l);
        put_heads(out, object, layer);
        gm_measure_append(out, layers, object);
    }
    put_heads(out, root, model);
    gm_measure_put(out, root, "layers", layers);
    gm_measure_put(out, root, "heads", heads);
}

/* ---- outliers */

static void print_massive(printer *out, json_t *root) {
    const gm_massive_stats *s = &out->p->massive;
    json_t *array = json_array();
    for (int i = 0; i < s->kept; i++) {
        json_t *object = json_object();
        gm_measure_integer(out, object, "layer", s->list[i].layer);
        gm_measure_integer(out, object, "dim", s->list[i].dim);
        gm_measure_integer(out, object, "position", s->list[i].position);
        gm_measure_integer(out, object, "token", s->list[i].token);
        gm_text text = {0};
        gm_measure_token_text(&text, gm_data_tokenizer(out->p->data), -1, s->list[i].token);
        gm_measure_put(out, object, "text", gm_json_from_text(&text));
        gm_measure_integer(out, object, "sequence", s->list[i].sequence);
        gm_measure_number(out, object, "value", s->list[i].value);
        gm_measure_append(out, array, object);
    }
    gm_measure_integer(out, root, "massive_count", s->count[GM_ALL_POSITIONS]);
    gm_measure_integer(out, root, "massive_count_without_first", s->count[GM_WITHOUT_FIRST]);
    gm_measure_put(out, root, "massive", array);
}

static void print_backcopy(printer *out, json_t *root) {
    const gm_backcopy_stats *s = &out->p->backcopy;
    if (!out->p->triggers)
        return;
    gm_measure_number(out, root, "backcopy_loss", s->copy_loss / (double)s->copies);
    gm_measure_number(out, root, "bigram_excess", s->bigram_excess / (double)s->bigrams);
    gm_measure_number(out, root, "dormant_sink_mass", s->dormant_mass / (double)s->dormant);
}

static json_t *feature_array(printer *out, gm_positions positions) {
    const gm_feature_stats *s = &out->p->features;
    json_t *array = json_array();
    for (int64_t c = 0; c < s->C; c++) {
        double layers, at_positions;
        if (!gm_feature_stats_is_outlier(s, c, positions, &layers, &at_positions))
            continue;
        json_t *object = json_object();
        gm_measure_integer(out, object, "dim", c);
        gm_measure_number(out, object, "layers", layers);
        gm_measure_number(out, object, "positions", at_positions);
        gm_measure_append(out, array, object);
    }
    return array;
}

static const char *const class_names[GM_CLASS_COUNT] = {
    [GM_CLASS_BOS] = "bos",    [GM_CLASS_WHITESPACE] = "whitespace", [GM_CLASS_PUNCTUATION] = "punctuation",
    [GM_CLASS_WORD] = "words", [GM_CLASS_DIGIT] = "digits",          [GM_CLASS_OTHER] = "other",
};

json_t *gm_measure_class_counts(printer *out, const int64_t *counts) {
    json_t *object = json_object();
    for (int i = 0; i < GM_CLASS_COUNT; i++)
        gm_measure_integer(out, object, class_names[i], counts[i]);
    return object;
}

static double sum_of(const int64_t *counts) {
    int64_t sum = 0;
    for (int i = 0; i < GM_CLASS_COUNT; i++)
        sum += counts[i];
    return (double)sum;
}

/* Of the FFN outputs taken together: each class's share of the outliers, its share of the tokens, and how many times more than its share.
 */
static void print_classes(printer *out, json_t *root) {
    const gm_measurement *p = out->p;
    if (!p->token_classes) {
        gm_measure_put(out, root, "token_classes", json_null());
        return;
    }
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        const char *suffix = i == GM_WITHOUT_FIRST ? "_without_first" : "";
        gm_class_stats sum = {0};
        char name[64];
        for (int t = 0; t < p->tensor_count; t++) {
            for (int k = 0; p->tensors[t].site == GM_SITE_FFN_OUT && k < GM_CLASS_COUNT; k++) {
                sum.count[i][k] += p->tensors[t].classes.count[i][k];
                sum.tokens[i][k] = p->tensors[t].classes.tokens[i][k];
            }
        }
        json_t *shares = json_object(), *base = json_object(), *ratio = json_object();
        double outliers = sum_of(sum.count[i]), tokens = sum_of(sum.tokens[i]);
        for (int k = 0; k < GM_CLASS_COUNT; k++) {
            double share = (double)sum.count[i][k] / outliers, of_tokens = (double)sum.tokens[i][k] / tokens;
            gm_measure_number(out, shares, class_names[k], share);
            gm_measure_number(out, base, class_names[k], of_tokens);
            gm_measure_number(out, ratio, class_names[k], share / of_tokens);
        }
        gm_measure_integer(out, shares, "values", (int64_t)outliers);
        snprintf(name, sizeof name, "token_classes%s", suffix);
        gm_measure_put(out, root, name, shares);
        snprintf(name, sizeof name, "token_class_tokens%s", suffix);
        gm_measure_put(out, root, name, base);
        snprintf(name, sizeof name, "token_class_ratio%s", suffix);
        gm_measure_put(out, root, name, ratio);
    }
}

gm_status gm_measurement_print(const gm_measurement *p, char **json, gm_error *err) {
    printer out = {.p = p};
    json_t *root = json_object();
    print_inputs(&out, root);
    print_left_out(&out, root);
    print_nonfinite(&out, root);
    print_tensors(&out, root);
    print_weights(&out, root);
    print_attention(&out, root);
    print_massive(&out, root);
    gm_measure_put(&out, root, "outlier_features", feature_array(&out, GM_ALL_POSITIONS));
    gm_measure_put(&out, root, "outlier_features_without_first", feature_array(&out, GM_WITHOUT_FIRST));
    print_classes(&out, root);
    print_backcopy(&out, root);
    if (p->details)
        gm_measure_details(&out, root);
    *json = out.failed ? NULL : gm_json_dump(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(root);
    return *json ? GM_OK : gm_fail(err, GM_ENOMEM, "cannot get memory to print the measurement");
}
