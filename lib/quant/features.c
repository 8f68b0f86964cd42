/* features.c -- the largest value of every feature that enters a linear layer: SmoothQuant moves it, LLM.int8() leaves it in floating
 * point. One pass over the calibration batches in f32. */
#include "quant.h"

#include <math.h>

const gm_linear_input gm_linear_inputs[GM_LINEAR_INPUTS] = {{GM_P_WQKV, GM_P_BQKV, GM_SITE_NORM1},
                                                            {GM_P_WO, GM_P_BO, GM_SITE_ATTN_IN},
                                                            {GM_P_W1, GM_P_B1, GM_SITE_NORM2},
                                                            {GM_P_W2, GM_P_B2, GM_SITE_FFN_ACT}};

int64_t gm_linear_input_width(const gm_model_config *c, int input) {
    const int64_t widths[GM_LINEAR_INPUTS] = {c->width, c->heads * c->head_dim, c->width, c->ffn};
    return widths[input];
}

static void watch(void *user, const gm_tap_view *v) {
    gm_features *f = user;
    for (int i = 0; i < GM_LINEAR_INPUTS; i++) {
        if (gm_linear_inputs[i].site != v->site)
            continue;
        float *max = f->max[i] + v->layer * v->cols;
        for (int64_t r = 0; r < v->rows; r++) {
            for (int64_t c = 0; c < v->cols; c++) { /* a NaN stays */
                float x = fabsf(v->x[r * v->stride + c]);
                max[c] = x <= max[c] || isnan(max[c]) ? max[c] : x;
            }
        }
    }
}

gm_status gm_features_observe(gm_features *f, gm_model *m, const gm_data *data, const gm_quant_options *o, gm_error *err) {
    int64_t size = 0, B = o->calibration_batch, T = gm_data_context(data);
    *f = (gm_features){0};
    for (int i = 0; i < GM_LINEAR_INPUTS; i++)
        size += m->cfg.layers * gm_linear_input_width(&m->cfg, i);
    f->memory = gm_alloc((size_t)size, sizeof(float));
    int32_t *x = gm_alloc((size_t)(2 * B * T), sizeof *x);
    gm_status status = f->memory && x ? GM_OK : gm_fail_memory(err, (size_t)size * sizeof(float));
    size = 0;
    for (int i = 0; i < GM_LINEAR_INPUTS && status == GM_OK; i++) {
        f->max[i] = f->memory + size;
        size += m->cfg.layers * gm_linear_input_width(&m->cfg, i);
    }
    for (int64_t batch = 0; batch < o->calibration_batches && status == GM_OK; batch++) {
        double loss;
        gm_data_train(data, o->seed, batch * B, B, x, x + B * T);
        status = gm_model_forward_loss(m, x, x + B * T, B, T, &(gm_tap){.fn = watch, .user = f}, &loss, NULL, err);
    }
    gm_free(x);
    if (status != GM_OK)
        gm_features_free(f);
    return status;
}

void gm_features_free(gm_features *f) {
    gm_free(f->memory);
    *f = (gm_features){0};
}
