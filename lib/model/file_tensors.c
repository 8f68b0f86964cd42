/* file_tensors.c -- the list of a model's tensors, from a format's way to cut one parameter. */
#include "file_tensors.h"

gm_status gm_file_tensors(gm_file_tensor **out, int *count, const gm_model_config *cfg, gm_param_tensors *of_one, gm_error *err) {
    int param_count = gm_params_layout(cfg, NULL);
    gm_param *params = gm_alloc((size_t)param_count, sizeof *params);
    *count = 0;
    *out = NULL;
    if (params) {
        gm_params_layout(cfg, params);
        for (int i = 0; i < param_count; i++)
            *count += of_one(cfg, &params[i], NULL);
        *out = gm_alloc((size_t)*count, sizeof **out);
    }
    gm_file_tensor *next = *out;
    for (int i = 0; next && i < param_count; i++)
        next += of_one(cfg, &params[i], next);
    gm_free(params);
    return *out ? GM_OK : gm_fail_memory(err, (size_t)param_count * sizeof **out);
}
