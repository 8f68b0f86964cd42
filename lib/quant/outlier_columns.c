/* outlier_columns.c -- LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339): the few features of a linear layer's input that reach the
 * threshold stay in floating point, with their columns of the weights; the rest is int8. Here the set is fixed by calibration. */
#include "quant.h"

gm_status gm_outlier_columns_find(gm_outlier_columns **out, const gm_model_config *c, const gm_features *f, double threshold,
                                  gm_error *err) {
    *out = gm_alloc((size_t)(c->layers * GM_LINEAR_INPUTS), sizeof **out);
    if (!*out)
        return gm_fail_memory(err, (size_t)(c->layers * GM_LINEAR_INPUTS) * sizeof **out);
    for (int64_t i = 0; i < c->layers * GM_LINEAR_INPUTS; i++) {
        const int64_t width = gm_linear_input_width(c, (int)(i % GM_LINEAR_INPUTS));
        const float *max = f->max[i % GM_LINEAR_INPUTS] + i / GM_LINEAR_INPUTS * width;
        int64_t count = 0;
        for (int64_t j = 0; j < width; j++)
            count += max[j] >= threshold;
        GM_TRY(gm_outlier_columns_make(&(*out)[i], count, err));
        for (int64_t j = 0, found = 0; found < count; j++) {
            if (max[j] >= threshold)
                (*out)[i].column[found++] = (int32_t)j;
        }
    }
    return GM_OK;
}

gm_status gm_outlier_columns_make(gm_outlier_columns *o, int64_t count, gm_error *err) {
    *o = (gm_outlier_columns){.count = count};
    if (count == 0)
        return GM_OK;
    o->column = gm_alloc((size_t)count, sizeof *o->column);
    o->kept = gm_alloc((size_t)count, sizeof *o->kept);
    return o->column && o->kept ? GM_OK : gm_fail_memory(err, (size_t)count * (sizeof *o->column + sizeof *o->kept));
}

void gm_outlier_columns_free(gm_outlier_columns *o, int64_t layers) {
    for (int64_t i = 0; i < layers * GM_LINEAR_INPUTS; i++) {
        gm_free(o[i].column);
        gm_free(o[i].kept);
    }
    gm_free(o);
}
