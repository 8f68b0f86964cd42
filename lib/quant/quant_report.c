/* quant_report.c -- what quantization costs: three perplexities, and tensor by tensor range, step, noise, clipping, and how much each alone
 * moves the perplexity. */
#include "quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the units of the report: every rounded activation and every rounded matrix */

typedef struct unit {
    char name[96];
    int matrix; /* index into the plan's, -1: an activation */
    gm_site site;
    int layer;
    /* of an activation's values, while the rounded model runs */
    double signal, noise;
    int64_t values, clipped;
    float lo, hi;
    double loss; /* the sensitivity's */
} unit;

typedef struct report {
    gm_quantized *q;
    const gm_data *data;
    gm_quant_options evaluated; /* the plan's, with the report's sequences */
    gm_quant_callback callback;
    void *user;
    unit *units;
    int count;
    int (*site_unit)[GM_SITE_COUNT]; /* [layers + 1]: index into units, -1 */
    float *before;                   /* one view's values */
    size_t before_size;
    bool no_memory;
    double seconds; /* that the last evaluation took */
    int only;       /* the unit that is alone rounded, or spared */
    bool spared;    /* which of the two */
} report;

static bool is_outside(gm_site site) {
    return site == GM_SITE_EMBED || site == GM_SITE_NORM_FINAL;
}

/* Fills units (NULL: only counts) in the order of the forward pass, weights before what they make. */
static int list_units(const gm_quant_plan *plan, unit *units, int (*site_unit)[GM_SITE_COUNT]) {
    const int64_t layers = plan->model->cfg.layers;
    int count = 0;
    for (int64_t row = 0; row <= layers; row++) {
        const int layer = row == layers ? -1 : (int)row;
        for (int i = 0; i < plan->matrix_count; i++) {
            const gm_quant_matrix *m = &plan->matrices[i];
            if (!m->grids || m->view.layer != layer)
                continue;
            if (units) {
                units[count] = (unit){.matrix = i, .layer = layer};
                snprintf(units[count].name, sizeof units[count].name, "%s", m->view.name);
            }
            count++;
        }
        for (int site = 0; site < GM_SITE_COUNT; site++) {
            const bool there = gm_quant_plan_quantizer(plan, (gm_site)site) && is_outside((gm_site)site) == (layer < 0);
            if (site_unit)
                site_unit[row][site] = there ? count : -1;
            if (!there)
                continue;
            if (units) {
                unit *u = &units[count];
                *u = (unit){.matrix = -1, .site = (gm_site)site, .layer = layer, .lo = INFINITY, .hi = -INFINITY};
                if (layer < 0)
                    snprintf(u->name, sizeof u->name, "%s", gm_site_name((gm_site)site));
                else
                    snprintf(u->name, sizeof u->name, "blocks.%d.%s", layer, gm_site_name((gm_site)site));
            }
            count++;
        }
    }
    return count;
}

static unit *unit_of(const report *r, const gm_tap_view *v) {
    int i = r->site_unit[v->layer < 0 ? r->q->plan.model->cfg.layers : v->layer][v->site];
    return i < 0 ? NULL : &r->units[i];
}

/* ---- noise of activations: a tap that looks at both sides of the rounding */

static void noise_tap(void *user, const gm_tap_view *v) {
    report *r = user;
    const gm_quant_plan *plan = &r->q->plan;
    unit *u = unit_of(r, v);
    const size_t size = (size_t)(v->rows * v->cols);
    if (u && size > r->before_size) {
        gm_free(r->before);
        r->before = gm_alloc(size, sizeof(float));
        r->before_size = r->before ? size : 0;
        r->no_memory |= !r->before;
    }
    const bool watched = u && size <= r->before_size;
    for (int64_t i = 0; watched && i < v->rows; i++)
        memcpy(r->before + i * v->cols, v->x + i * v->stride, (size_t)v->cols * sizeof(float));
    gm_quant_view_simulate(plan, v);
    if (!watched)
        return;
    const gm_quantizer *q = gm_quant_plan_quantizer(plan, v->site);
    const bool fixed = q->grain == GM_GRAIN_TENSOR && !q->dynamic;
    const double half_step = fixed ? 0.5001 * gm_quant_plan_site(plan, v->site, v->layer).scale : INFINITY;
    for (int64_t i = 0; i < v->rows; i++) {
        double signal = 0, noise = 0;
        for (int64_t j = 0; j < v->cols; j++) {
            const float x = r->before[i * v->cols + j], d = v->x[i * v->stride + j] - x;
            signal += (double)x * x;
            noise += (double)d * d;
            u->clipped += fabsf(d) > half_step;
            u->lo = x < u->lo ? x : u->lo;
            u->hi = x > u->hi ? x : u->hi;
        }
        u->signal += signal;
        u->noise += noise;
    }
    u->values += v->rows * v->cols;
}

/* ---- noise of weights */

/* The f32 matrix that matrix i was made from. */
static const float *f32_matrix(const gm_quant_plan *plan, const gm_matrix_view *views, int i) {
    return plan->matrices[i].view.kind == GM_PARAM_HEAD ? plan->f32->head : views[i].x;
}

static void weight_noise(const gm_quant_plan *plan, const gm_matrix_view *views, unit *u) {
    const gm_matrix_view *v = &plan->matrices[u->matrix].view;
    const float *x = f32_matrix(plan, views, u->matrix);
    const gm_quant_matrix *m = &plan->matrices[u->matrix];
    const int64_t n = v->rows * v->cols, span = gm_weight_span(&m->how, v->cols), parts = (v->cols + span - 1) / span;
    gm_min_max(plan->model->ctx, &u->lo, &u->hi, x, n);
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)v->x[i] - x[i];
        const gm_quant_grid *g = &m->grids[m->grid_count == 1 ? 0 : i / v->cols * parts + i % v->cols / span];
        u->signal += (double)x[i] * x[i];
        u->noise += d * d;
        u->clipped += fabs(d) > 0.5001 * g->scale;
    }
    u->values = n;
}

/* ---- sensitivity */

static void only_tap(void *user, const gm_tap_view *v) {
    const report *r = user;
    const unit *u = unit_of(r, v);
    if (u && (u == &r->units[r->only]) != r->spared)
        gm_quant_view_simulate(&r->q->plan, v);
}

static bool is_per_head(gm_site site) {
    return site == GM_SITE_SCORES || site == GM_SITE_WEIGHTS || site == GM_SITE_PV;
}

static bool told(const report *r, const char *phase, const char *tensor, int64_t done, int64_t total) {
    return r->callback && r->callback(r->user, &(gm_quant_progress){phase, tensor, done, total});
}

static gm_status loss_of(report *r, gm_model *m, const gm_tap *tap, const char *phase, const char *tensor, int64_t done, int64_t total,
                         double *loss, gm_error *err) {
    if (told(r, phase, tensor, done, total))
        return gm_fail(err, GM_ESTOPPED, "stopped");
    m->resident = NULL;
    double start = gm_seconds();
    gm_status status = gm_quant_validation_loss(m, r->data, &r->evaluated, tap, loss, err);
    r->seconds = gm_seconds() - start;
    return status;
}

/* Each unit alone in the f32 model, or everything but it in the rounded one. A matrix changes places for one evaluation. */
static gm_status sensitivity(report *r, gm_model *work, const gm_matrix_view *views, double *baseline, gm_error *err) {
    const gm_quant_plan *plan = &r->q->plan;
    gm_tap tap = {.fn = only_tap, .user = r, .attention = plan->options.attention.bits > 0};
    r->only = r->count; /* nobody */
    GM_TRY(loss_of(r, work, r->spared ? &tap : NULL, "sensitivity", "", 0, r->count + 1, baseline, err));
    for (int i = 0; i < r->count; i++) {
        unit *u = &r->units[i];
        const gm_tap *used = &tap;
        float *there = NULL, *kept = NULL;
        size_t n = 0;
        r->only = i;
        tap.attention = plan->options.attention.bits > 0 && (r->spared || (u->matrix < 0 && is_per_head(u->site)));
        if (u->matrix >= 0) {
            const gm_matrix_view *v = &plan->matrices[u->matrix].view;
            n = (size_t)(v->rows * v->cols);
            there = v->kind == GM_PARAM_HEAD ? (float *)work->head : views[u->matrix].x - plan->f32->weights + work->weights;
            kept = gm_alloc(n, sizeof *kept);
            if (!kept)
                return gm_fail_memory(err, n * sizeof *kept);
            memcpy(kept, there, n * sizeof *kept);
            memcpy(there, r->spared ? f32_matrix(plan, views, u->matrix) : v->x, n * sizeof *there);
            used = r->spared ? &tap : NULL;
        }
        gm_status status = loss_of(r, work, used, "sensitivity", u->name, i + 1, r->count + 1, &u->loss, err);
        if (kept)
            memcpy(there, kept, n * sizeof *there);
        gm_free(kept);
        GM_TRY(status);
    }
    return GM_OK;
}

/* ---- JSON */

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *loss_and_ppl(double loss) {
    return json_pack("{s:o, s:o}", "loss", number(loss), "ppl", number(exp(loss)));
}

/* tokens_per_s: evaluated, in batches, on this machine. */
static json_t *with_speed(double loss, double tokens, double seconds) {
    json_t *root = loss_and_ppl(loss);
    json_object_set_new(root, "tokens_per_s", number(tokens / seconds));
    return root;
}

static json_t *unit_to_json(const gm_quant_plan *plan, const unit *u) {
    const gm_quantizer *q = u->matrix >= 0 ? &plan->matrices[u->matrix].how : gm_quant_plan_quantizer(plan, u->site);
    double step = NAN, grids = NAN;
    if (u->matrix >= 0) {
        grids = (double)plan->matrices[u->matrix].grid_count;
        step = plan->matrices[u->matrix].grids[0].scale;
    } else if (q->grain == GM_GRAIN_TENSOR && !q->dynamic) {
        grids = 1;
        step = gm_quant_plan_site(plan, u->site, u->layer).scale;
    }
    return json_pack("{s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "name", u->name, "kind",
                     u->matrix >= 0 ? "weight" : "activation", "layer", u->layer, "bits", q->bits, "lo", number(u->lo), "hi", number(u->hi),
                     "step", grids == 1 ? number(step) : json_null(), "grids",
                     isfinite(grids) ? json_integer((json_int_t)grids) : json_null(), "sqnr_db",
                     u->noise > 0 ? number(10 * log10(u->signal / u->noise)) : json_null(), "clipped",
                     number((double)u->clipped / (double)GM_MAX(u->values, 1)));
}

static int by_loss(const void *a, const void *b) {
    double x = (*(const unit *const *)a)->loss, y = (*(const unit *const *)b)->loss;
    return isnan(x) || x > y ? -1 : x < y;
}

static json_t *sensitivity_to_json(const report *r, double baseline, gm_error *err) {
    const unit **order = gm_alloc((size_t)r->count, sizeof *order);
    if (!order) {
        gm_fail_memory(err, (size_t)r->count * sizeof *order);
        return NULL;
    }
    json_t *list = json_array();
    for (int i = 0; i < r->count; i++)
        order[i] = &r->units[i];
    qsort(order, (size_t)r->count, sizeof *order, by_loss);
    for (int k = 0; k < r->count; k++) { /* the worst first: alone it adds most, spared it gives back most */
        const unit *u = order[r->spared ? r->count - 1 - k : k];
        const double sign = r->spared ? -1 : 1;
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:i, s:o, s:o, s:o}", "name", u->name, "kind", u->matrix >= 0 ? "weight" : "activation",
                                        "layer", u->layer, "ppl", number(exp(u->loss)), "ppl_cost",
                                        number(sign * (exp(u->loss) - exp(baseline))), "loss_cost", number(sign * (u->loss - baseline))));
    }
    gm_free(order);
    return json_pack("{s:s, s:I, s:o, s:o}", "of", r->spared ? "spared" : "alone", "sequences", (json_int_t)r->evaluated.sequences,
                     "baseline", loss_and_ppl(baseline), "tensors", list);
}

/* What LLM.int8() keeps in floating point, and what that costs. */
static json_t *outliers_to_json(const gm_quant_plan *plan) {
    const gm_model *m = plan->model;
    json_t *list = json_array();
    double kept = 0, all = 0, kept_columns = 0, columns = 0;
    for (int64_t i = 0; i < m->cfg.layers * GM_LINEAR_INPUTS; i++) {
        const gm_outlier_columns *o = &plan->outliers[i];
        const int input = (int)(i % GM_LINEAR_INPUTS), layer = (int)(i / GM_LINEAR_INPUTS);
        const gm_param *p = &m->params[m->slot_index[layer][gm_linear_inputs[input].weight]];
        char name[96];
        json_t *features = json_array();
        for (int64_t c = 0; c < o->count; c++)
            json_array_append_new(features, json_integer(o->column[c]));
        snprintf(name, sizeof name, "blocks.%d.%s", layer, gm_site_name(gm_linear_inputs[input].site));
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:o}", "input", name, "features", features, "share", number((double)o->count / (double)p->cols)));
        kept += (double)(o->count * p->rows);
        all += (double)(p->cols * p->rows);
        kept_columns += (double)o->count;
        columns += (double)p->cols;
    }
    /* a product with a kept weight is one in floating point; it takes 4 bytes where the others take 1 */
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "threshold", number(plan->options.outlier_threshold), "columns_share",
                     number(kept_columns / columns), "flops_share", number(kept / all), "bytes_share", number(4 * kept / (all + 4 * kept)),
                     "inputs", list);
}

/* ---- the whole */

static gm_status report_make(report *r, const gm_quant_report_options *o, json_t *root, gm_matrix_view *views, gm_error *err) {
    gm_quantized *q = r->q;
    gm_quant_plan *plan = &q->plan;
    double f32, simulated, executed = NAN, baseline, f32_seconds;
    const int64_t sequences = GM_MIN(r->evaluated.sequences, gm_data_validation_count(r->data));
    const double tokens = (double)(sequences * gm_data_context(r->data));
    gm_error reason = {0};
    size_t bytes, f32_bytes;
    GM_TRY(loss_of(r, plan->source, NULL, "f32", "", 0, 3, &f32, err));
    f32_seconds = r->seconds;
    GM_TRY(loss_of(r, plan->model, &(gm_tap){.fn = noise_tap, .user = r, .attention = plan->options.attention.bits > 0}, "simulated", "", 1,
                   3, &simulated, err));
    if (r->no_memory)
        return gm_fail_memory(err, r->before_size * sizeof(float));
    gm_status status = gm_quantized_mode(q, GM_QUANT_EXECUTED, &reason);
    if (status == GM_OK) {
        status = loss_of(r, plan->model, NULL, "executed", "", 2, 3, &executed, err);
        gm_quantized_mode(q, GM_QUANT_SIMULATED, NULL);
    }
    if (status != GM_OK && status != GM_EUNSUPPORTED)
        return status;
    json_object_set_new(root, "sequences", json_integer(sequences));
    json_object_set_new(root, "context", json_integer(gm_data_context(r->data)));
    json_object_set_new(root, "f32", with_speed(f32, tokens, f32_seconds));
    json_object_set_new(root, "simulated", loss_and_ppl(simulated));
    json_object_set_new(root, "executed", isnan(executed) && status != GM_OK ? json_null() : with_speed(executed, tokens, r->seconds));
    if (status == GM_EUNSUPPORTED)
        json_object_set_new(root, "not_executed_because", json_string(reason.msg));
    gm_quantized_bytes(q, &bytes, &f32_bytes);
    json_object_set_new(root, "bytes",
                        json_pack("{s:I, s:I, s:o}", "quantized", (json_int_t)bytes, "f32", (json_int_t)f32_bytes, "ratio",
                                  number((double)bytes / (double)f32_bytes)));
    json_t *tensors = json_array();
    json_object_set_new(root, "tensors", tensors);
    for (int i = 0; i < r->count; i++) {
        if (r->units[i].matrix >= 0)
            weight_noise(plan, views, &r->units[i]);
        json_array_append_new(tensors, unit_to_json(plan, &r->units[i]));
    }
    if (plan->outliers)
        json_object_set_new(root, "outlier_columns", outliers_to_json(plan));
    if (!o->sensitivity)
        return GM_OK;
    r->spared = o->sensitivity == GM_SENSITIVITY_SPARED;
    r->evaluated.sequences = GM_MIN(o->sensitivity_sequences ? o->sensitivity_sequences : 16, gm_data_validation_count(r->data));
    gm_model *work;
    GM_TRY(gm_model_clone(&work, r->spared ? plan->model : plan->f32, err));
    if (r->spared && work->own_head) /* the clone's is of the rounded table */
        memcpy(work->own_head, plan->model->head, (size_t)(work->cfg.vocab * work->cfg.width) * sizeof(float));
    status = sensitivity(r, work, views, &baseline, err);
    gm_model_free(work);
    json_t *found = status == GM_OK ? sensitivity_to_json(r, baseline, err) : NULL;
    if (!found)
        return status == GM_OK ? GM_ENOMEM : status;
    json_object_set_new(root, "sensitivity", found);
    return GM_OK;
}

gm_status gm_quantized_report(gm_quantized *q, const gm_data *data, const gm_quant_report_options *options, gm_quant_callback callback,
                              void *user, char **json, gm_error *err) {
    static const gm_quant_report_options none = {0};
    const gm_quant_report_options *o = options ? options : &none;
    gm_quant_plan *plan = &q->plan;
    *json = NULL;
    if (!plan->f32)
        return gm_fail(err, GM_EINVAL, "a quantized model that was loaded has no f32 weights to compare with");
    report r = {.q = q, .data = data, .evaluated = plan->options, .callback = callback, .user = user};
    r.evaluated.sequences = o->sequences ? o->sequences : plan->options.sequences ? plan->options.sequences : 64;
    r.evaluated.calibration_batch = o->batch ? o->batch : plan->options.calibration_batch;
    r.count = list_units(plan, NULL, NULL);
    r.units = gm_alloc((size_t)r.count, sizeof *r.units);
    r.site_unit = gm_alloc((size_t)plan->model->cfg.layers + 1, sizeof *r.site_unit);
    gm_matrix_view *views = gm_alloc((size_t)plan->matrix_count, sizeof *views);
    json_t *root = json_pack("{s:s, s:o}", "schema", "ghostmax.quantize/1", "quantizer", gm_quant_options_to_json(&plan->options));
    gm_status status = GM_OK;
    if (!r.units || !r.site_unit || !views || !root) {
        status = gm_fail_memory(err, (size_t)r.count * sizeof *r.units);
    } else {
        list_units(plan, r.units, r.site_unit);
        gm_model_matrices(plan->f32, views, plan->matrix_count);
        status = report_make(&r, o, root, views, err);
        gm_quantized_mode(q, GM_QUANT_SIMULATED, NULL);
        plan->model->resident = &q->tap;
    }
    if (status == GM_OK && !(*json = gm_json_dump(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9))))
        status = gm_fail_memory(err, 1 << 16);
    json_decref(root);
    gm_free(r.units);
    gm_free(r.site_unit);
    gm_free(r.before);
    gm_free(views);
    return status;
}
