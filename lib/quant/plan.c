/* plan.c -- which grid belongs to which tensor: weights from their own values, activations from calibration batches of training data. */
#include "quant.h"

static gm_status options_check(const gm_quant_options *o, gm_error *err) {
    if (o->weight_bits < 2 || o->weight_bits > 16)
        return gm_fail(err, GM_EINVAL, "weight bits must be 2 to 16, got %d", o->weight_bits);
    if (o->activation_bits < 2 || o->activation_bits > 16)
        return gm_fail(err, GM_EINVAL, "activation bits must be 2 to 16, got %d", o->activation_bits);
    if (o->percentile != 0.0 && !(o->percentile > 50.0 && o->percentile <= 100.0))
        return gm_fail(err, GM_EINVAL, "a calibration percentile must be above 50 and at most 100 (or 0: minimum and maximum), got %g",
                       o->percentile);
    if (o->calibration_batches < 1 || o->calibration_batch < 1)
        return gm_fail(err, GM_EINVAL, "calibration needs at least one batch of one sequence, got %lld x %lld",
                       (long long)o->calibration_batches, (long long)o->calibration_batch);
    if (o->sequences < 0)
        return gm_fail(err, GM_EINVAL, "the number of validation sequences cannot be negative, got %lld", (long long)o->sequences);
    return GM_OK;
}

void gm_quant_defaults(gm_quant_options *options) {
    *options = (gm_quant_options){
        .weight_bits = 8, .activation_bits = 8, .calibration_batches = 16, .calibration_batch = 8, .sequences = 64, .seed = 1};
}

/* ---- weights: every LINEAR and EMBEDDING matrix and every norm gain; one grid per tensor, or per output channel of linear layers */

static gm_status weights_quantize(gm_quant_plan *plan, gm_error *err) {
    gm_model *m = plan->model;
    plan->matrix_count = gm_model_matrices(m, NULL, 0);
    gm_matrix_view *views = gm_alloc((size_t)plan->matrix_count, sizeof *views);
    plan->matrices = gm_alloc((size_t)plan->matrix_count, sizeof *plan->matrices);
    if (!views || !plan->matrices) {
        gm_free(views);
        return gm_fail_memory(err, (size_t)plan->matrix_count * sizeof *plan->matrices);
    }
    gm_model_matrices(m, views, plan->matrix_count);
    for (int i = 0; i < plan->matrix_count; i++)
        plan->matrices[i].view = views[i];
    gm_free(views);
    for (int i = 0; i < plan->matrix_count; i++) {
        gm_quant_matrix *q = &plan->matrices[i];
        const gm_matrix_view *v = &q->view;
        if (v->kind == GM_PARAM_HEAD)
            continue;
        bool per_channel = plan->options.per_channel && v->kind == GM_PARAM_LINEAR;
        q->grid_count = per_channel ? v->rows : 1;
        q->grids = gm_alloc((size_t)q->grid_count, sizeof *q->grids);
        if (!q->grids)
            return gm_fail_memory(err, (size_t)q->grid_count * sizeof *q->grids);
        gm_weight_grids(m->ctx, q->grids, v->x, v->rows, v->cols, plan->options.weight_bits, per_channel, plan->options.weight_mse);
        int64_t part = v->rows * v->cols / q->grid_count;
        for (int64_t g = 0; g < q->grid_count; g++)
            gm_quant_simulate(m->ctx, v->x + g * part, v->x + g * part, part, q->grids[g]);
    }
    return GM_OK;
}

/* ---- activations */

static bool is_per_head(gm_site site) {
    return site == GM_SITE_SCORES || site == GM_SITE_WEIGHTS || site == GM_SITE_PV;
}

static gm_observer *observer_at(const gm_quant_plan *plan, gm_site site, int layer) {
    int64_t row = layer < 0 ? plan->model->cfg.layers : layer;
    return &plan->observers[row * GM_SITE_COUNT + site];
}

gm_quant_grid gm_quant_plan_site(const gm_quant_plan *plan, gm_site site, int layer) {
    const gm_observer *o = observer_at(plan, site, layer);
    return gm_quant_asymmetric(plan->options.activation_bits, o->lo, o->hi);
}

static void view_simulate(const gm_quant_plan *plan, const gm_tap_view *v) {
    const gm_ctx *ctx = plan->model->ctx;
    gm_quant_grid grid = gm_quant_plan_site(plan, v->site, v->layer);
    if (v->stride == v->cols) {
        gm_quant_simulate(ctx, v->x, v->x, v->rows * v->cols, grid);
        return;
    }
    for (int64_t r = 0; r < v->rows; r++)
        gm_quant_simulate(ctx, v->x + r * v->stride, v->x + r * v->stride, v->cols, grid);
}

static void view_simulate_per_token(const gm_quant_plan *plan, const gm_tap_view *v) {
    const gm_ctx *ctx = plan->model->ctx;
    for (int64_t r = 0; r < v->rows; r++) {
        float *row = v->x + r * v->stride, lo, hi;
        gm_min_max(ctx, &lo, &hi, row, v->cols);
        gm_quant_simulate(ctx, row, row, v->cols, gm_quant_asymmetric(plan->options.activation_bits, lo, hi));
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
    gm_observer *o = observer_at(c->plan, v->site, v->layer);
    bool per_head = is_per_head(v->site);
    int64_t parts = per_head ? v->B * m->cfg.heads : 1;
    c->status = gm_observer_feed(o, m->ctx, v->x, v->rows, v->cols, v->stride, parts * v->rows * v->cols, &c->err);
    if (!per_head)
        gm_observer_fold(o);
    if (c->status == GM_OK && o->batches > 0)
        view_simulate(c->plan, v);
}

static gm_status activations_calibrate(gm_quant_plan *plan, const gm_data *data, gm_error *err) {
    const gm_quant_options *o = &plan->options;
    gm_model *m = plan->model;
    int64_t observers = (m->cfg.layers + 1) * GM_SITE_COUNT;
    plan->observers = gm_alloc((size_t)observers, sizeof *plan->observers);
    if (!plan->observers)
        return gm_fail_memory(err, (size_t)observers * sizeof *plan->observers);
    for (int64_t i = 0; i < observers; i++)
        plan->observers[i].percentile = o->percentile;

    int64_t B = o->calibration_batch, T = gm_data_context(data);
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
    return status;
}

/* ---- the plan */

gm_status gm_quant_plan_make(gm_quant_plan *plan, const gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err) {
    *plan = (gm_quant_plan){.options = *options};
    GM_TRY(options_check(options, err));
    gm_status status = gm_model_clone(&plan->model, m, err);
    if (status == GM_OK)
        status = weights_quantize(plan, err);
    if (status == GM_OK && !options->per_token) /* per-token ranges are each token's own */
        status = activations_calibrate(plan, data, err);
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
    gm_model_free(plan->model);
    *plan = (gm_quant_plan){0};
}

static void simulate_tap(void *user, const gm_tap_view *v) {
    const gm_quant_plan *plan = user;
    if (plan->options.per_token)
        view_simulate_per_token(plan, v);
    else
        view_simulate(plan, v);
}

gm_tap gm_quant_plan_tap(const gm_quant_plan *plan) {
    return (gm_tap){.fn = simulate_tap, .user = (void *)plan, .attention = true};
}
