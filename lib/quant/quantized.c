/* quantized.c -- a plan as a model that others run: whoever calls its model gets rounded activations, and, executed, integers. */
#include "quant.h"

#include <string.h>

gm_status gm_quant_check_text(const gm_quant_options *options, const gm_data *data, gm_error *err) {
    const int64_t asked = options->calibration_batches * options->calibration_batch, tokens = gm_data_train_tokens(data);
    const int64_t have = tokens / gm_data_context(data);
    if (tokens >= 0 && asked > have)
        return gm_fail(
            err, GM_EINVAL,
            "calibration asks for %lld sequences of %lld tokens, the text has %lld (%lld tokens); give more text or fewer batches",
            (long long)asked, (long long)gm_data_context(data), (long long)have, (long long)tokens);
    return GM_OK;
}

gm_status gm_quantized_make(gm_quantized **out, gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err) {
    *out = NULL;
    GM_TRY(gm_quant_options_check(options, err));
    GM_TRY(gm_quant_check_text(options, data, err));
    gm_quantized *q = gm_alloc(1, sizeof *q);
    if (!q)
        return gm_fail_memory(err, sizeof *q);
    const gm_quant_options o = gm_quant_options_executed(options, &m->cfg);
    gm_status status = gm_quant_plan_make(&q->plan, m, data, &o, err);
    if (status == GM_OK)
        status = gm_quant_plan_finite(&q->plan, err);
    if (status == GM_OK)
        status = gm_quantized_ready(q, err);
    if (status != GM_OK) {
        gm_quantized_free(q);
        return status;
    }
    *out = q;
    return GM_OK;
}

gm_status gm_quantized_ready(gm_quantized *q, gm_error *err) {
    q->tap = gm_quant_plan_tap(&q->plan);
    q->plan.model->resident = &q->tap;
    return q->executed_only ? gm_quantized_mode(q, GM_QUANT_EXECUTED, err) : GM_OK;
}

void gm_quantized_free(gm_quantized *q) {
    if (!q)
        return;
    gm_quant_executed_end(q->executed);
    if (q->plan.model)
        gm_quant_plan_free(&q->plan);
    gm_free(q);
}

const gm_quant_options *gm_quantized_options(const gm_quantized *q) {
    return &q->plan.options;
}

gm_model *gm_quantized_model(gm_quantized *q) {
    return q->plan.model;
}

gm_status gm_quantized_mode(gm_quantized *q, gm_quant_mode mode, gm_error *err) {
    if (q->mode == mode)
        return GM_OK;
    if (mode == GM_QUANT_SIMULATED && q->executed_only)
        return gm_fail(err, GM_EUNSUPPORTED, "this model was opened to be executed only; its weights are there as integers alone");
    if (mode == GM_QUANT_EXECUTED) {
        GM_TRY(gm_quant_executed_begin(&q->executed, &q->plan, err));
    } else {
        gm_quant_executed_end(q->executed);
        q->executed = NULL;
    }
    q->mode = mode;
    return GM_OK;
}

void gm_quantized_bytes(const gm_quantized *q, size_t *bytes, size_t *f32_bytes) {
    const gm_model *m = q->plan.model;
    *bytes = *f32_bytes = 0;
    for (int i = 0; i < m->param_count; i++)
        *f32_bytes += (size_t)(m->params[i].rows * m->params[i].cols) * sizeof(float);
    *bytes = *f32_bytes;
    for (int i = 0; i < q->plan.matrix_count; i++) {
        const gm_quant_matrix *x = &q->plan.matrices[i];
        const size_t n = (size_t)(x->view.rows * x->view.cols), whole = x->how.bits > 8 ? 2 : 1;
        const size_t kept = x->outliers ? (size_t)(x->outliers->count * x->view.rows) * sizeof(float) : 0;
        const bool second_use = m->cfg.tied && x->view.kind == GM_PARAM_HEAD;
        if (second_use && gm_quant_plan_shares_head(&q->plan))
            continue;
        if (second_use && !x->grids && !q->plan.options.embeddings.bits)
            continue;
        if (x->grids)
            *bytes += n * whole + (size_t)x->grid_count * sizeof(float) + kept - (second_use ? 0 : n * sizeof(float));
        else if (second_use) /* the table in f32 beside its rounded self */
            *bytes += n * sizeof(float);
    }
}
