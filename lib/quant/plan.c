/* plan.c -- which grid belongs to which tensor: weights from their own values, activations from calibration batches of training data. */
#include "quant.h"

#include <math.h>
#include <string.h>

/* ---- layout: every LINEAR and EMBEDDING matrix, every norm gain, the head (a tied table's second use included) */

static gm_quantizer quantizer_of(const gm_quant_options *o, gm_param_kind kind) {
    gm_quantizer q = {0};
    switch (kind) {
    case GM_PARAM_LINEAR:
        return o->weights;
    case GM_PARAM_EMBEDDING:
        return o->embeddings;
    case GM_PARAM_HEAD:
        return o->head;
    case GM_PARAM_NORM_GAIN: /* a vector: one grid whatever the grain */
        q = o->linear_only ? q : o->weights;
        q.grain = GM_GRAIN_TENSOR;
        return q;
    default:
        return q;
    }
}

/* Which linear layer's input a matrix reads, -1: none. */
static int input_of(const gm_model *m, const gm_matrix_view *v) {
    for (int i = 0; v->kind == GM_PARAM_LINEAR && i < GM_LINEAR_INPUTS; i++) {
        const gm_param *p = &m->params[m->slot_index[v->layer][gm_linear_inputs[i].weight]];
        const size_t n = strlen(p->name);
        if (strncmp(v->name, p->name, n) == 0 && (!v->name[n] || v->name[n] == '.'))
            return i;
    }
    return -1;
}

gm_status gm_quant_plan_layout(gm_quant_plan *plan, gm_error *err) {
    const gm_model *m = plan->model;
    const int64_t observers = (m->cfg.layers + 1) * GM_SITE_COUNT;
    const int count = gm_model_matrices(m, NULL, 0);
    plan->matrix_count = count + m->cfg.tied;
    gm_matrix_view *views = gm_alloc((size_t)plan->matrix_count, sizeof *views);
    plan->matrices = gm_alloc((size_t)plan->matrix_count, sizeof *plan->matrices);
    plan->observers = gm_alloc((size_t)observers, sizeof *plan->observers);
    if (!views || !plan->matrices || !plan->observers) {
        gm_free(views);
        return gm_fail_memory(err, (size_t)plan->matrix_count * sizeof *plan->matrices + (size_t)observers * sizeof *plan->observers);
    }
    gm_model_matrices(m, views, count);
    if (m->cfg.tied)
        views[count] = (gm_matrix_view){
            .name = "head", .kind = GM_PARAM_HEAD, .layer = -1, .rows = m->cfg.vocab, .cols = m->cfg.width, .x = m->own_head};
    for (int i = 0; i < plan->matrix_count; i++) {
        gm_quant_matrix *q = &plan->matrices[i];
        *q = (gm_quant_matrix){.view = views[i], .how = quantizer_of(&plan->options, views[i].kind)};
        int input = input_of(m, &views[i]);
        if (plan->outliers && input >= 0)
            q->outliers = &plan->outliers[views[i].layer * GM_LINEAR_INPUTS + input];
        q->grid_count = q->how.bits ? gm_weight_grid_count(&q->how, q->view.rows, q->view.cols) : 0;
    }
    gm_free(views);
    for (int64_t i = 0; i < observers; i++) {
        const gm_quantizer *q = gm_quant_plan_quantizer(plan, (gm_site)(i % GM_SITE_COUNT));
        if (!q)
            continue;
        plan->observers[i].range = q->range;
        plan->observers[i].percentile = q->range == GM_RANGE_PERCENTILE ? q->percentile : 0;
        plan->observers[i].channels = q->grain == GM_GRAIN_CHANNEL; /* their number comes with the first batch */
    }
    return GM_OK;
}

bool gm_quant_plan_shares_head(const gm_quant_plan *plan) {
    const gm_quantizer *a = &plan->options.embeddings, *b = &plan->options.head;
    return plan->model->cfg.tied && a->bits == b->bits && a->grain == b->grain && a->range == b->range && a->margin == b->margin &&
           a->asymmetric == b->asymmetric && (a->grain != GM_GRAIN_GROUP || a->group == b->group);
}

/* ---- weights */

static gm_status matrix_quantize(gm_quant_plan *plan, gm_quant_matrix *q, gm_error *err) {
    const gm_ctx *ctx = plan->model->ctx;
    const gm_matrix_view *v = &q->view;
    float *kept = NULL;
    const int64_t outliers = q->outliers ? q->outliers->count : 0;
    q->grids = gm_alloc((size_t)q->grid_count, sizeof *q->grids);
    if (outliers)
        kept = gm_alloc((size_t)(outliers * v->rows), sizeof *kept);
    if (!q->grids || (outliers && !kept))
        return gm_fail_memory(err, (size_t)q->grid_count * sizeof *q->grids);
    for (int64_t i = 0; i < outliers * v->rows; i++) { /* out of the way while the rest is rounded */
        float *x = &v->x[i / outliers * v->cols + q->outliers->column[i % outliers]];
        kept[i] = *x;
        *x = 0;
    }
    gm_weight_grids(ctx, q->grids, v->x, v->rows, v->cols, &q->how);
    gm_weight_simulate(ctx, v->x, v->x, v->rows, v->cols, &q->how, q->grids);
    for (int64_t i = 0; i < outliers * v->rows; i++)
        v->x[i / outliers * v->cols + q->outliers->column[i % outliers]] = kept[i];
    gm_free(kept);
    return GM_OK;
}

const float *gm_quant_plan_weights(const gm_quant_plan *plan, const gm_param *p, float *buffer) {
    if (p->offset >= 0)
        return plan->model->weights + p->offset;
    int64_t row = 0;
    const size_t n = strlen(p->name);
    for (int i = 0; i < plan->matrix_count; i++) { /* q, k, v and gate, up follow one another */
        const gm_quant_matrix *q = &plan->matrices[i];
        const gm_matrix_view *v = &q->view;
        if (strncmp(v->name, p->name, n) != 0 || (v->name[n] && v->name[n] != '.'))
            continue;
        const int64_t span = gm_weight_span(&q->how, v->cols), parts = (v->cols + span - 1) / span;
        for (int64_t r = 0; r < v->rows; r++, row++) {
            for (int64_t c = 0; c < v->cols; c++) {
                const gm_quant_grid *g = &q->grids[q->grid_count == 1 ? 0 : r * parts + c / span];
                buffer[row * v->cols + c] = g->scale * (float)(q->integers[r * v->cols + c] - g->zero);
            }
        }
    }
    return buffer;
}

/* ---- activations */

static bool is_per_head(gm_site site) {
    return site == GM_SITE_SCORES || site == GM_SITE_WEIGHTS || site == GM_SITE_PV;
}

static bool enters_linear(const gm_quant_plan *plan, gm_site site) {
    for (int i = 0; i < GM_LINEAR_INPUTS; i++) {
        if (gm_linear_inputs[i].site == site)
            return true;
    }
    return site == GM_SITE_NORM_FINAL && plan->options.head.bits > 0;
}

const gm_quantizer *gm_quant_plan_quantizer(const gm_quant_plan *plan, gm_site site) {
    const gm_quant_options *o = &plan->options;
    const gm_quantizer *q = &o->activations;
    if (site == GM_SITE_CACHE_K || site == GM_SITE_CACHE_V)
        q = &o->kv;
    else if (is_per_head(site))
        q = &o->attention;
    else if (o->linear_only)
        q = enters_linear(plan, site) ? q : NULL;
    else if (site == GM_SITE_ATTN_IN) /* without a gate this is PV, and rounded */
        q = o->attention_input && (plan->model->cfg.attention.gate != GM_GATE_NONE || !o->attention.bits) ? q : NULL;
    return q && q->bits ? q : NULL;
}

gm_observer *gm_quant_plan_observer(const gm_quant_plan *plan, gm_site site, int layer) {
    int64_t row = layer < 0 ? plan->model->cfg.layers : layer;
    return &plan->observers[row * GM_SITE_COUNT + site];
}

/* A signed grid becomes the unsigned one of the same values, so that integers are 0 .. 2^bits - 1 whatever was asked for. */
gm_quant_grid gm_quant_plan_site(const gm_quant_plan *plan, gm_site site, int layer) {
    const gm_observer *o = gm_quant_plan_observer(plan, site, layer);
    gm_quant_grid grid = gm_quantizer_grid(gm_quant_plan_quantizer(plan, site), o->lo, o->hi);
    grid.zero -= grid.qmin;
    grid.qmax -= grid.qmin;
    grid.qmin = 0;
    return grid;
}

/* x [n] on the grid of its own range. */
static void simulate_dynamic(const gm_ctx *ctx, float *x, int64_t n, const gm_quantizer *q) {
    float lo, hi;
    gm_min_max(ctx, &lo, &hi, x, n);
    gm_quant_simulate(ctx, x, x, n, gm_quantizer_grid(q, lo, hi));
}

static void simulate_channels(const gm_tap_view *v, const gm_observer *o, const gm_quantizer *q, const gm_ctx *ctx) {
    for (int64_t c = 0; c < v->cols; c++) {
        gm_quant_grid grid = gm_quantizer_grid(q, o->channel_lo[c], o->channel_hi[c]);
        for (int64_t r = 0; r < v->rows; r++)
            gm_quant_simulate(ctx, &v->x[r * v->stride + c], &v->x[r * v->stride + c], 1, grid);
    }
}

static void simulate_whole_dynamic(const gm_tap_view *v, const gm_quantizer *q, const gm_ctx *ctx) {
    float lo = INFINITY, hi = -INFINITY, a, b;
    for (int64_t r = 0; r < v->rows; r++) {
        gm_min_max(ctx, &a, &b, v->x + r * v->stride, v->cols);
        lo = a >= lo || isnan(lo) ? lo : a;
        hi = b <= hi || isnan(hi) ? hi : b;
    }
    gm_quant_grid grid = gm_quantizer_grid(q, lo, hi);
    for (int64_t r = 0; r < v->rows; r++)
        gm_quant_simulate(ctx, v->x + r * v->stride, v->x + r * v->stride, v->cols, grid);
}

static void simulate_static(const gm_tap_view *v, gm_quant_grid grid, const gm_ctx *ctx) {
    if (v->stride == v->cols) {
        gm_quant_simulate(ctx, v->x, v->x, v->rows * v->cols, grid);
        return;
    }
    for (int64_t r = 0; r < v->rows; r++)
        gm_quant_simulate(ctx, v->x + r * v->stride, v->x + r * v->stride, v->cols, grid);
}

/* The features of this view that stay as they are; NULL: none. */
static const gm_outlier_columns *outliers_of(const gm_quant_plan *plan, const gm_tap_view *v) {
    for (int i = 0; plan->outliers && i < GM_LINEAR_INPUTS; i++) {
        if (gm_linear_inputs[i].site == v->site)
            return &plan->outliers[v->layer * GM_LINEAR_INPUTS + i];
    }
    return NULL;
}

static void view_simulate(const gm_quant_plan *plan, const gm_tap_view *v, const gm_quantizer *q) {
    const gm_ctx *ctx = plan->model->ctx;
    switch (q->grain) {
    case GM_GRAIN_CHANNEL:
        simulate_channels(v, gm_quant_plan_observer(plan, v->site, v->layer), q, ctx);
        break;
    case GM_GRAIN_TENSOR:
        if (q->dynamic)
            simulate_whole_dynamic(v, q, ctx);
        else
            simulate_static(v, gm_quant_plan_site(plan, v->site, v->layer), ctx);
        break;
    default: { /* parts of a row */
        const int64_t span = q->grain == GM_GRAIN_GROUP ? q->group : q->grain == GM_GRAIN_HEAD ? plan->model->cfg.head_dim : v->cols;
        for (int64_t r = 0; r < v->rows; r++) {
            for (int64_t c = 0; c < v->cols; c += span)
                simulate_dynamic(ctx, v->x + r * v->stride + c, GM_MIN(span, v->cols - c), q);
        }
    }
    }
}

void gm_quant_view_simulate(const gm_quant_plan *plan, const gm_tap_view *v) {
    const gm_quantizer *q = gm_quant_plan_quantizer(plan, v->site);
    if (!q)
        return;
    const gm_outlier_columns *out = outliers_of(plan, v);
    if (!out || !out->count) {
        view_simulate(plan, v, q);
        return;
    }
    gm_tap_view row = *v; /* outliers are out of the way while a row is rounded: dynamic ranges are of the rest */
    row.rows = 1;
    for (int64_t r = 0; r < v->rows; r++) {
        row.x = v->x + r * v->stride;
        for (int64_t i = 0; i < out->count; i++) {
            out->kept[i] = row.x[out->column[i]];
            row.x[out->column[i]] = 0;
        }
        view_simulate(plan, &row, q);
        for (int64_t i = 0; i < out->count; i++)
            row.x[out->column[i]] = out->kept[i];
    }
}

typedef struct calibration {
    const gm_quant_plan *plan;
    gm_status status; /* a tap cannot fail: the first failure is kept here */
    gm_error err;
} calibration;

static void calibrate_tap(void *user, const gm_tap_view *v) {
    calibration *c = user;
    if (c->status != GM_OK)
        return;
    const gm_model *m = c->plan->model;
    gm_observer *o = gm_quant_plan_observer(c->plan, v->site, v->layer);
    bool per_head = is_per_head(v->site);
    int64_t parts = per_head ? v->B * m->cfg.heads : 1;
    c->status = gm_observer_feed(o, m->ctx, v->x, v->rows, v->cols, v->stride, parts * v->rows * v->cols, &c->err);
    if (!per_head)
        gm_observer_fold(o);
    if (c->status == GM_OK && o->batches > 0)
        gm_quant_view_simulate(c->plan, v);
}

static gm_status activations_calibrate(gm_quant_plan *plan, const gm_data *data, gm_error *err) {
    const gm_quant_options *o = &plan->options;
    gm_model *m = plan->model;
    const int64_t observers = (m->cfg.layers + 1) * GM_SITE_COUNT, B = o->calibration_batch, T = gm_data_context(data);
    int32_t *x = gm_alloc((size_t)(2 * B * T), sizeof *x);
    if (!x)
        return gm_fail_memory(err, (size_t)(2 * B * T) * sizeof *x);
    calibration c = {.plan = plan};
    gm_status status = GM_OK;
    for (int64_t batch = 0; batch < o->calibration_batches && status == GM_OK; batch++) {
        int32_t *y = x + B * T;
        double loss;
        gm_data_train(data, o->seed, batch * B, B, x, y);
        status = gm_model_forward_loss(m, x, y, B, T, &(gm_tap){.fn = calibrate_tap, .user = &c, .attention = true}, &loss, NULL, err);
        if (status == GM_OK && c.status != GM_OK) {
            status = c.status;
            if (err)
                *err = c.err;
        }
        for (int64_t i = 0; i < observers; i++)
            gm_observer_fold(&plan->observers[i]);
    }
    gm_free(x);
    for (int64_t i = 0; i < observers && status == GM_OK; i++) {
        const gm_quantizer *q = gm_quant_plan_quantizer(plan, (gm_site)(i % GM_SITE_COUNT));
        if (q)
            status = gm_observer_finish(&plan->observers[i], m->ctx, q, err);
    }
    return status;
}

gm_status gm_quant_plan_finite(const gm_quant_plan *plan, gm_error *err) {
    const gm_model_config *c = &plan->model->cfg;
    for (int i = 0; i < plan->matrix_count; i++) {
        const gm_matrix_view *v = &plan->matrices[i].view;
        float norm = gm_inf_norm(plan->model->ctx, v->x, v->rows * v->cols);
        if (!isfinite(norm))
            return gm_fail(err, GM_EFORMAT, "weight '%s' holds NaN or infinity; such a model has no grid", v->name);
    }
    for (int64_t l = -1; l < c->layers; l++) { /* in forward order, but for the two outside the blocks */
        for (int site = 0; site < GM_SITE_COUNT; site++) {
            const gm_observer *o = gm_quant_plan_observer(plan, (gm_site)site, (int)l);
            if (o->batches == 0 || (isfinite(o->lo) && isfinite(o->hi)) || (l < 0 && site == GM_SITE_NORM_FINAL))
                continue;
            char where[32] = "";
            if (l >= 0)
                snprintf(where, sizeof where, "blocks.%lld.", (long long)l);
            return gm_fail(err, GM_EFORMAT, "activation '%s%s' holds NaN or infinity in calibration; such a model has no grid", where,
                           gm_site_name((gm_site)site));
        }
    }
    return GM_OK;
}

/* ---- the plan */

static gm_status features_use(gm_quant_plan *plan, const gm_data *data, gm_error *err) {
    const gm_quant_options *o = &plan->options;
    gm_features f;
    if (o->smooth) {
        GM_TRY(gm_features_observe(&f, plan->model, data, o, err));
        gm_status status = gm_model_smooth(plan->model, &f, o->smooth, o->smooth_alpha, err);
        gm_features_free(&f);
        if (status == GM_OK)
            status = gm_model_clone(&plan->smoothed, plan->model, err);
        GM_TRY(status);
        plan->f32 = plan->smoothed;
    }
    if (o->outlier_threshold > 0) {
        GM_TRY(gm_features_observe(&f, plan->model, data, o, err));
        gm_status status = gm_outlier_columns_find(&plan->outliers, &plan->model->cfg, &f, o->outlier_threshold, err);
        gm_features_free(&f);
        GM_TRY(status);
    }
    return GM_OK;
}

static gm_status plan_make(gm_quant_plan *plan, const gm_data *data, gm_error *err) {
    GM_TRY(gm_model_clone(&plan->model, plan->f32, err));
    GM_TRY(features_use(plan, data, err));
    GM_TRY(gm_quant_plan_layout(plan, err));
    for (int i = 0; i < plan->matrix_count; i++) {
        if (plan->matrices[i].how.bits)
            GM_TRY(matrix_quantize(plan, &plan->matrices[i], err));
    }
    plan->batches = plan->options.calibration_batches;
    return activations_calibrate(plan, data, err);
}

gm_status gm_quant_plan_make(gm_quant_plan *plan, gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err) {
    *plan = (gm_quant_plan){.options = *options, .source = m, .f32 = m};
    GM_TRY(gm_quant_options_check(options, err));
    gm_status status = plan_make(plan, data, err);
    if (status != GM_OK)
        gm_quant_plan_free(plan);
    return status;
}

void gm_quant_plan_free(gm_quant_plan *plan) {
    for (int i = 0; plan->matrices && i < plan->matrix_count; i++)
        gm_free(plan->matrices[i].grids);
    gm_free(plan->matrices);
    for (int64_t i = 0; plan->observers && i < (plan->model->cfg.layers + 1) * GM_SITE_COUNT; i++)
        gm_observer_free(&plan->observers[i]);
    gm_free(plan->observers);
    if (plan->outliers)
        gm_outlier_columns_free(plan->outliers, plan->model->cfg.layers);
    gm_model_free(plan->smoothed);
    gm_model_free(plan->model);
    *plan = (gm_quant_plan){0};
}

static void simulate_tap(void *user, const gm_tap_view *v) {
    gm_quant_view_simulate(user, v);
}

gm_tap gm_quant_plan_tap(const gm_quant_plan *plan) {
    return (gm_tap){.fn = simulate_tap, .user = (void *)plan, .attention = plan->options.attention.bits > 0};
}
