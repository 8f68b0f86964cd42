/* simulate.c -- the loss of a model whose weights and activations are rounded to their grids, computed in f32. */
#include "quant.h"

gm_status gm_quant_validation_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, const gm_tap *tap, double *loss,
                                   gm_error *err) {
    const int64_t sequences = GM_MIN(options->sequences ? options->sequences : 64, gm_data_validation_count(data));
    const int64_t batch = options->calibration_batch, T = gm_data_context(data);
    int32_t *x = gm_alloc((size_t)(2 * batch * T), sizeof *x);
    if (!x)
        return gm_fail_memory(err, (size_t)(2 * batch * T) * sizeof *x);
    int32_t *y = x + batch * T;
    gm_status status = GM_OK;
    double sum = 0.0;
    int64_t targets = 0;
    for (int64_t first = 0; first < sequences && status == GM_OK; first += batch) {
        int64_t B = GM_MIN(batch, sequences - first), count = 0;
        double mean;
        gm_data_validation(data, first, B, x, y);
        for (int64_t i = 0; i < B * T; i++)
            count += y[i] >= 0;
        status = gm_model_forward_loss(m, x, y, B, T, tap, &mean, NULL, err);
        if (status == GM_OK && count > 0)
            sum += mean * (double)count;
        targets += count;
    }
    *loss = sum / (double)targets;
    gm_free(x);
    return status;
}

gm_status gm_quant_simulated_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, double *loss, double *f32_loss,
                                  gm_error *err) {
    gm_quant_plan plan;
    GM_TRY(gm_quant_plan_make(&plan, m, data, options, err));
    gm_tap tap = gm_quant_plan_tap(&plan);
    gm_status status = gm_quant_validation_loss(plan.model, data, options, &tap, loss, err);
    if (status == GM_OK && f32_loss)
        status = gm_quant_validation_loss(m, data, options, NULL, f32_loss, err);
    gm_quant_plan_free(&plan);
    return status;
}
