/* measure_details.c -- the JSON of what takes time: histograms, positions, feature dimensions, classes per tensor, the largest values. */
#include "measure.h"

#include <math.h>
#include <stdlib.h>

typedef gm_measure_printer printer;

enum { DIMS_SHOWN = 8, FEATURES_SHOWN = 32 }; /* of a tensor; of the residual stream */

/* ---- one tensor */

/* [[lower edge, negative values, positive values], ...] per octave from the smallest to the largest; a lower edge of 0: zeros and
 * subnormals. */
static json_t *histogram(printer *out, const gm_sketch *s) {
    json_t *array = json_array();
    int low = GM_SKETCH_ZERO, high = GM_SKETCH_TOP;
    while (low < high && gm_sketch_octave(s, low, false) + gm_sketch_octave(s, low, true) == 0)
        low++;
    while (high > low && gm_sketch_octave(s, high, false) + gm_sketch_octave(s, high, true) == 0)
        high--;
    for (int e = low; e <= high; e++) {
        uint64_t negative = gm_sketch_octave(s, e, true), positive = gm_sketch_octave(s, e, false);
        if (negative + positive > 0) /* gaps: between zero and the smallest */
            gm_measure_append(
                out, array, json_pack("[f, I, I]", e == GM_SKETCH_ZERO ? 0.0 : ldexp(1.0, e), (json_int_t)negative, (json_int_t)positive));
    }
    return array;
}

static json_t *levels(const gm_sketch *s) {
    int64_t counts[GM_SKETCH_LEVELS];
    json_t *array = json_array();
    gm_sketch_levels(s, counts);
    for (int i = 0; i < GM_SKETCH_LEVELS; i++)
        json_array_append_new(array, json_integer(counts[i]));
    return array;
}

static json_t *positions_array(printer *out, const gm_position_stats *s, int64_t T) {
    json_t *array = json_array();
    for (int i = 0; i < s->bins; i++) {
        json_t *object = json_object();
        gm_measure_integer(out, object, "from", gm_position_bin_begin(i));
        gm_measure_integer(out, object, "to", GM_MIN(gm_position_bin_begin(i + 1), T) - 1);
        gm_measure_number(out, object, "norm", s->norm[i] / (double)s->count[i]);
        gm_measure_number(out, object, "inf_norm", s->inf_norm[i] / (double)s->count[i]);
        gm_measure_number(out, object, "absmax", s->absmax[i]);
        gm_measure_append(out, array, object);
    }
    return array;
}

static void put_dim(printer *out, json_t *object, const gm_dim_stats *s, int64_t c) {
    gm_measure_integer(out, object, "dim", c);
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        const gm_moments *m = &s->moments[i][c];
        gm_measure_positions(out, object, "absmax", s->absmax[i][c], (gm_positions)i);
        gm_measure_positions(out, object, "kurtosis", gm_kurtosis(m, 0.0), (gm_positions)i);
        gm_measure_positions(out, object, "mean", m->mean, (gm_positions)i);
        gm_measure_positions(out, object, "std", sqrt(m->m2 / (double)m->n), (gm_positions)i);
    }
}

/* The dimensions with the largest values first; a NaN is larger than anything. */
typedef struct ranked {
    int64_t dim;
    float absmax;
} ranked;

static int by_absmax(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    bool x_nan = isnan(x->absmax), y_nan = isnan(y->absmax);
    if (x_nan != y_nan)
        return x_nan ? -1 : 1;
    if (!x_nan && x->absmax != y->absmax)
        return x->absmax > y->absmax ? -1 : 1;
    return x->dim < y->dim ? -1 : 1;
}

static json_t *dims_array(printer *out, const gm_dim_stats *s) {
    json_t *array = json_array();
    ranked *order = gm_alloc((size_t)s->C, sizeof *order);
    out->failed |= !order;
    for (int64_t c = 0; order && c < s->C; c++)
        order[c] = (ranked){c, s->absmax[GM_ALL_POSITIONS][c]};
    if (order)
        qsort(order, (size_t)s->C, sizeof *order, by_absmax);
    for (int64_t i = 0; order && i < GM_MIN(s->C, (int64_t)DIMS_SHOWN); i++) {
        json_t *object = json_object();
        put_dim(out, object, s, order[i].dim);
        gm_measure_append(out, array, object);
    }
    gm_free(order);
    return array;
}

void gm_measure_details_tensor(printer *out, json_t *object, const gm_measured *t) {
    const gm_class_stats *classes = &t->classes;
    int64_t outliers[GM_POSITIONS_COUNT] = {0};
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        for (int k = 0; k < GM_CLASS_COUNT; k++)
            outliers[i] += classes->count[i][k];
    }
    gm_measure_put(out, object, "value_quantiles", gm_measure_quantiles(out, &t->stats.sketch, false));
    gm_measure_integer(out, object, "values", (int64_t)(t->stats.sketch.total + t->stats.sketch.nan));
    gm_measure_integer(out, object, "outliers", outliers[GM_ALL_POSITIONS]);
    gm_measure_integer(out, object, "outliers_without_first", outliers[GM_WITHOUT_FIRST]);
    if (out->p->token_classes) {
        gm_measure_put(out, object, "outliers_by_class", gm_measure_class_counts(out, classes->count[GM_ALL_POSITIONS]));
        gm_measure_put(out, object, "outliers_by_class_without_first", gm_measure_class_counts(out, classes->count[GM_WITHOUT_FIRST]));
    }
    gm_measure_put(out, object, "histogram", histogram(out, &t->stats.sketch));
    gm_measure_put(out, object, "levels", levels(&t->stats.sketch));
    gm_measure_put(out, object, "positions", positions_array(out, &t->positions, out->p->T));
    gm_measure_put(out, object, "dims", dims_array(out, &t->dims));
}

/* ---- the whole */

static json_t *text_of(printer *out, const int32_t *tokens, int from, int to) {
    gm_text text = {0};
    for (int i = from; i < to; i++)
        gm_measure_token_text(&text, gm_data_tokenizer(out->p->data), i > 0 ? tokens[i - 1] : -1, tokens[i]);
    return gm_json_from_text(&text);
}

static json_t *largest_array(printer *out, const gm_largest *s) {
    json_t *array = json_array();
    for (int i = 0; i < s->kept; i++) {
        const gm_large_value *v = &s->list[i];
        const gm_measured *t = &out->p->tensors[v->tensor];
        json_t *object = json_object();
        char name[64];
        gm_measure_tensor_name(name, t);
        gm_measure_number(out, object, "value", v->value);
        gm_measure_put(out, object, "tensor", json_string(name));
        gm_measure_integer(out, object, "layer", t->layer);
        gm_measure_integer(out, object, "dim", v->dim);
        gm_measure_integer(out, object, "position", v->position);
        gm_measure_integer(out, object, "sequence", v->sequence);
        gm_measure_integer(out, object, "token", v->around[GM_LARGEST_BEFORE]);
        gm_measure_put(out, object, "text", text_of(out, v->around, GM_LARGEST_BEFORE, GM_LARGEST_BEFORE + 1));
        gm_measure_put(out, object, "before", text_of(out, v->around, 0, GM_LARGEST_BEFORE));
        gm_measure_put(out, object, "after", text_of(out, v->around, GM_LARGEST_BEFORE + 1, GM_LARGEST_AROUND));
        gm_measure_append(out, array, object);
    }
    return array;
}

/* One dimension of the residual stream: where in which block's output it is largest, its moments there, and LLM.int8()'s two shares. */
static json_t *feature_object(printer *out, int64_t c) {
    const gm_measurement *p = out->p;
    const gm_measured *at = p->tensors;
    while (at->site != GM_SITE_BLOCK) /* every model has a block */
        at++;
    for (const gm_measured *t = at + 1; t < p->tensors + p->tensor_count; t++) {
        if (t->site != GM_SITE_BLOCK)
            continue;
        float size = t->dims.absmax[GM_ALL_POSITIONS][c];
        if (!(size <= at->dims.absmax[GM_ALL_POSITIONS][c]) && !isnan(at->dims.absmax[GM_ALL_POSITIONS][c]))
            at = t;
    }
    const struct gm_dim_place *place = &at->dims.place[c];
    json_t *object = json_object();
    gm_text text = {0};
    double layers, positions;
    gm_measure_token_text(&text, gm_data_tokenizer(p->data), -1, place->token);
    put_dim(out, object, &at->dims, c);
    gm_measure_integer(out, object, "layer", at->layer);
    gm_measure_number(out, object, "value", place->value);
    gm_measure_integer(out, object, "position", place->position);
    gm_measure_integer(out, object, "sequence", place->sequence);
    gm_measure_integer(out, object, "token", place->token);
    gm_measure_put(out, object, "text", gm_json_from_text(&text));
    bool outlier = gm_feature_stats_is_outlier(&p->features, c, GM_ALL_POSITIONS, &layers, &positions);
    gm_measure_number(out, object, "layers", layers);
    gm_measure_number(out, object, "positions", positions);
    gm_measure_put(out, object, "outlier", json_boolean(outlier));
    return object;
}

static json_t *features_array(printer *out) {
    const gm_measurement *p = out->p;
    const int64_t C = p->model->cfg.width;
    json_t *array = json_array();
    ranked *order = gm_alloc((size_t)C, sizeof *order);
    out->failed |= !order;
    for (int64_t c = 0; order && c < C; c++) {
        order[c] = (ranked){c, 0.0f};
        for (int i = 0; i < p->tensor_count; i++) {
            if (p->tensors[i].site != GM_SITE_BLOCK)
                continue;
            float size = p->tensors[i].dims.absmax[GM_ALL_POSITIONS][c];
            order[c].absmax = size > order[c].absmax || isnan(size) ? size : order[c].absmax;
        }
    }
    if (order)
        qsort(order, (size_t)C, sizeof *order, by_absmax);
    for (int64_t i = 0; order && i < GM_MIN(C, (int64_t)FEATURES_SHOWN); i++)
        gm_measure_append(out, array, feature_object(out, order[i].dim));
    gm_free(order);
    return array;
}

static json_t *loss_array(printer *out, const gm_position_stats *s) {
    json_t *array = json_array();
    for (int i = 0; i < s->bins; i++) {
        json_t *object = json_object();
        gm_measure_integer(out, object, "from", gm_position_bin_begin(i));
        gm_measure_integer(out, object, "to", GM_MIN(gm_position_bin_begin(i + 1), out->p->T) - 1);
        gm_measure_number(out, object, "loss", s->norm[i] / (double)s->count[i]);
        gm_measure_append(out, array, object);
    }
    return array;
}

void gm_measure_details(printer *out, json_t *root) {
    gm_measure_number(out, root, "quantile_error", GM_SKETCH_ERROR);
    gm_measure_put(out, root, "features", features_array(out));
    gm_measure_put(out, root, "largest", largest_array(out, &out->p->largest[GM_ALL_POSITIONS]));
    gm_measure_put(out, root, "largest_without_first", largest_array(out, &out->p->largest[GM_WITHOUT_FIRST]));
    gm_measure_put(out, root, "loss_by_position", loss_array(out, &out->p->loss_positions));
}
