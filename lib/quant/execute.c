/* execute.c -- a plan's linear layers on integers: weights packed as s8, activations as u8 of the same grids as the simulation. */
#include "quant.h"

#include <string.h>

static int index_of(int weight) {
    int i = 0;
    while (gm_linear_inputs[i].weight != weight)
        i++;
    return i;
}

gm_site gm_quant_executed_input(const gm_quant_plan *plan, int weight) {
    gm_site site = gm_linear_inputs[index_of(weight)].site;
    return site == GM_SITE_ATTN_IN && !gm_quant_plan_quantizer(plan, site) ? GM_SITE_PV : site;
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
    const size_t n = strlen(p->name);
    for (int i = 0; i < plan->matrix_count; i++) {
        const gm_quant_matrix *q = &plan->matrices[i];
        if (strncmp(q->view.name, p->name, n) != 0 || (q->view.name[n] && q->view.name[n] != '.'))
            continue;
        for (int64_t r = 0; r < q->view.rows; r++)
            *scale++ = q->grids[q->grid_count == 1 ? 0 : r].scale;
    }
}

static gm_status check_quantizer(const char *kind, const gm_quantizer *q, bool grid, gm_error *err) {
    if (grid && !q->bits)
        return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with grids for the %s; these are left in f32", kind);
    if (q->bits > 8)
        return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with at most 8 bits, not with %d-bit %s", q->bits, kind);
    return GM_OK;
}

static gm_status check(const gm_quant_plan *plan, gm_error *err) {
    const gm_quant_options *o = &plan->options;
    const gm_model *m = plan->model;
    GM_TRY(check_quantizer("weights", &o->weights, true, err));
    if (o->weights.asymmetric || o->weights.grain == GM_GRAIN_GROUP)
        return gm_fail(err, GM_EUNSUPPORTED,
                       "weights with zero points or in groups are simulated only; use signed grids per tensor or channel");
    if (plan->outliers)
        return gm_fail(err, GM_EUNSUPPORTED, "outlier columns in floating point are simulated only; leave them out to execute integers");
    for (int i = 0; i < GM_EXECUTED_LINEARS; i++) {
        const gm_site site = gm_quant_executed_input(plan, gm_linear_inputs[i].weight);
        const gm_quantizer *q = gm_quant_plan_quantizer(plan, site);
        if (!q)
            return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with a grid for '%s'; it is left in f32", gm_site_name(site));
        GM_TRY(check_quantizer("activations", q, true, err));
        if (q->grain != GM_GRAIN_TENSOR || q->dynamic)
            return gm_fail(err, GM_EUNSUPPORTED,
                           "activation ranges per token, channel or group, or dynamic ones, are simulated only; leave them out to execute "
                           "integers");
        int64_t in = param_of(m, gm_linear_inputs[i].weight, 0)->cols;
        if (!gm_linear_int8_fits(in))
            return gm_fail(err, GM_EUNSUPPORTED, "sums over %lld inputs do not fit 32-bit integers", (long long)in);
    }
    return GM_OK;
}

gm_status gm_quant_executed_begin(gm_quant_executed *e, gm_quant_plan *plan, gm_error *err) {
    gm_model *m = plan->model;
    *e = (gm_quant_executed){.model = m};
    GM_TRY(check(plan, err));
    size_t bytes = 0, scratch = 0, unpacked = 0;
    int64_t outputs = 0;
    for (int i = 0; i < GM_EXECUTED_LINEARS; i++) { /* all layers have the same shapes */
        const gm_param *p = param_of(m, gm_linear_inputs[i].weight, 0);
        bytes += (size_t)m->cfg.layers * gm_linear_int8_bytes(p->cols, p->rows);
        scratch = GM_MAX(scratch, gm_linear_int8_scratch_bytes(p->cols));
        outputs = GM_MAX(outputs, p->rows);
        unpacked = p->offset < 0 ? GM_MAX(unpacked, (size_t)(p->rows * p->cols)) : 0;
    }
    float *scale = gm_alloc((size_t)outputs, sizeof *scale), *buffer = gm_alloc(unpacked, sizeof *buffer);
    e->linears = gm_alloc((size_t)(m->cfg.layers * GM_EXECUTED_LINEARS), sizeof *e->linears);
    e->memory = gm_alloc(bytes, 1);
    e->scratch = gm_alloc(scratch, 1);
    if (!scale || !buffer || !e->linears || !e->memory || !e->scratch) {
        gm_free(scale);
        gm_free(buffer);
        gm_quant_executed_end(e);
        return gm_fail_memory(err, bytes + scratch);
    }
    uint8_t *next = e->memory;
    for (int64_t l = 0; l < m->cfg.layers; l++) {
        for (int i = 0; i < GM_EXECUTED_LINEARS; i++) {
            const gm_param *p = param_of(m, gm_linear_inputs[i].weight, l);
            output_scales(scale, plan, p);
            gm_linear_int8_pack(&e->linears[l * GM_EXECUTED_LINEARS + i], next, gm_quant_plan_weights(plan, p, buffer), scale,
                                gm_model_weight(m, gm_linear_inputs[i].bias, (int)l), p->cols, p->rows,
                                gm_quant_plan_site(plan, gm_quant_executed_input(plan, gm_linear_inputs[i].weight), (int)l));
            next += gm_linear_int8_bytes(p->cols, p->rows);
        }
    }
    gm_free(scale);
    gm_free(buffer);
    e->provider = (gm_linear_provider){.fn = run_linear, .user = e};
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
