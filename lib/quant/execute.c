/* execute.c -- a plan's linear layers on integers: weights packed as s8, activations as u8 of the same grids as the simulation. */
#include "quant.h"

static const struct linear {
    int weight, bias;
    gm_site input;
} linears[GM_EXECUTED_LINEARS] = {{GM_P_WQKV, GM_P_BQKV, GM_SITE_NORM1},
                                  {GM_P_WO, GM_P_BO, GM_SITE_PV},
                                  {GM_P_W1, GM_P_B1, GM_SITE_NORM2},
                                  {GM_P_W2, GM_P_B2, GM_SITE_FFN_ACT}};

static int index_of(int weight) {
    int i = 0;
    while (linears[i].weight != weight)
        i++;
    return i;
}

gm_site gm_quant_executed_input(int weight) {
    return linears[index_of(weight)].input;
}

static const gm_param *param_of(const gm_model *m, int weight, int64_t layer) {
    return &m->params[m->slot_index[layer][weight]];
}

static void run_linear(void *user, int weight, int layer, float *y, int64_t ys, const float *x, int64_t xs, int64_t R) {
    const gm_quant_executed *e = user;
    gm_linear_int8_fwd(e->model->ctx, y, ys, x, xs, R, &e->linears[layer * GM_EXECUTED_LINEARS + index_of(weight)], e->scratch);
}

/* The scale of every output's weights: q, k, v and gate, up have grids of their own within one tensor. */
static void output_scales(float *scale, const gm_quant_plan *plan, const gm_param *p) {
    const float *w = plan->model->weights + p->offset;
    for (int i = 0; i < plan->matrix_count; i++) {
        const gm_quant_matrix *q = &plan->matrices[i];
        if (q->view.x < w || q->view.x >= w + p->rows * p->cols)
            continue;
        float *to = scale + (q->view.x - w) / p->cols;
        for (int64_t r = 0; r < q->view.rows; r++)
            to[r] = q->grids[q->grid_count == 1 ? 0 : r].scale;
    }
}

static gm_status check(const gm_quant_plan *plan, gm_error *err) {
    const gm_quant_options *o = &plan->options;
    const gm_model *m = plan->model;
    if (o->weight_bits > 8 || o->activation_bits > 8)
        return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with at most 8 bits, not with %d-bit weights and %d-bit activations",
                       o->weight_bits, o->activation_bits);
    if (o->per_token)
        return gm_fail(err, GM_EUNSUPPORTED, "per-token ranges are simulated only; leave them out to execute integers");
    for (int i = 0; i < GM_EXECUTED_LINEARS; i++) {
        int64_t in = param_of(m, linears[i].weight, 0)->cols;
        if (!gm_linear_int8_fits(in))
            return gm_fail(err, GM_EUNSUPPORTED, "sums over %lld inputs do not fit 32-bit integers", (long long)in);
    }
    return GM_OK;
}

gm_status gm_quant_executed_begin(gm_quant_executed *e, gm_quant_plan *plan, gm_error *err) {
    gm_model *m = plan->model;
    *e = (gm_quant_executed){.model = m};
    GM_TRY(check(plan, err));
    size_t bytes = 0, scratch = 0;
    int64_t outputs = 0;
    for (int i = 0; i < GM_EXECUTED_LINEARS; i++) { /* all layers have the same shapes */
        const gm_param *p = param_of(m, linears[i].weight, 0);
        bytes += (size_t)m->cfg.layers * gm_linear_int8_bytes(p->cols, p->rows);
        scratch = GM_MAX(scratch, gm_linear_int8_scratch_bytes(p->cols));
        outputs = GM_MAX(outputs, p->rows);
    }
    float *scale = gm_alloc((size_t)outputs, sizeof *scale);
    e->linears = gm_alloc((size_t)(m->cfg.layers * GM_EXECUTED_LINEARS), sizeof *e->linears);
    e->memory = gm_alloc(bytes, 1);
    e->scratch = gm_alloc(scratch, 1);
    if (!scale || !e->linears || !e->memory || !e->scratch) {
        gm_free(scale);
        gm_quant_executed_end(e);
        return gm_fail_memory(err, bytes + scratch);
    }
    uint8_t *next = e->memory;
    for (int64_t l = 0; l < m->cfg.layers; l++) {
        for (int i = 0; i < GM_EXECUTED_LINEARS; i++) {
            const gm_param *p = param_of(m, linears[i].weight, l);
            output_scales(scale, plan, p);
            gm_linear_int8_pack(&e->linears[l * GM_EXECUTED_LINEARS + i], next, m->weights + p->offset, scale,
                                gm_model_weight(m, linears[i].bias, (int)l), p->cols, p->rows,
                                gm_quant_plan_site(plan, linears[i].input, (int)l));
            next += gm_linear_int8_bytes(p->cols, p->rows);
        }
    }
    gm_free(scale);
    e->provider = (gm_linear_provider){run_linear, e};
    m->linear = &e->provider;
    return GM_OK;
}

void gm_quant_executed_end(gm_quant_executed *e) {
    if (e->model)
        e->model->linear = NULL;
    gm_free(e->linears);
    gm_free(e->memory);
    gm_free(e->scratch);
    *e = (gm_quant_executed){0};
}

gm_status gm_quant_executed_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, double *loss, double *simulated_loss,
                                 double *f32_loss, gm_error *err) {
    gm_quant_plan plan;
    gm_quant_executed executed;
    GM_TRY(gm_quant_plan_make(&plan, m, data, options, err));
    gm_tap tap = gm_quant_plan_tap(&plan);
    gm_status status = gm_quant_executed_begin(&executed, &plan, err);
    if (status == GM_OK) {
        status = gm_quant_validation_loss(plan.model, data, options, &tap, loss, err);
        gm_quant_executed_end(&executed);
    }
    if (status == GM_OK && simulated_loss)
        status = gm_quant_validation_loss(plan.model, data, options, &tap, simulated_loss, err);
    if (status == GM_OK && f32_loss)
        status = gm_quant_validation_loss(m, data, options, NULL, f32_loss, err);
    gm_quant_plan_free(&plan);
    return status;
}
