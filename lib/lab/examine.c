/* examine.c -- a training run of its own gets what a lab gives its runs: a measurement, a sample for the eye, a report. */
#include "base.h"
#include "ghostmax_model.h"
#include "store.h"

#include <jansson.h>
#include <stdlib.h>

static const char advice[] = "remove it: it is made anew";

static gm_status measure(gm_model *m, const gm_data *data, const char *path, const gm_measure_options *options, gm_error *err) {
    char *text;
    GM_TRY(gm_measure_model(m, data, options, &text, err));
    json_t *root = json_loads(text, 0, NULL);
    free(text);
    gm_status status = root ? gm_store_write(root, path, err) : gm_fail_memory(err, 1 << 16);
    json_decref(root);
    return status;
}

static gm_status examine(const gm_ctx *ctx, const gm_data *data, const char *folder, int64_t sequences, gm_eval_callback callback,
                         void *user, gm_error *err) {
    const gm_measure_options options = {.sequences = sequences, .details = true, .callback = callback, .user = user};
    char measured_path[1024], sample_path[1024], page[1024];
    json_t *measured;
    gm_model *m = NULL;
    GM_TRY(gm_path_join(measured_path, sizeof measured_path, folder, "measure.json", err));
    GM_TRY(gm_path_join(sample_path, sizeof sample_path, folder, "sample.safetensors", err));
    GM_TRY(gm_path_join(page, sizeof page, folder, "report.html", err));
    GM_TRY(gm_store_read(&measured, measured_path, advice, err));
    gm_status status = GM_OK;
    gm_file file;
    const bool sampled = gm_file_open(&file, sample_path, NULL) == GM_OK; /* what cannot be opened is made anew */
    gm_file_close(&file);
    if (!measured || !sampled)
        status = gm_model_load(&m, ctx, folder, err);
    if (status == GM_OK && !measured)
        status = measure(m, data, measured_path, &options, err);
    if (status == GM_OK && !sampled)
        status = gm_sample_write(m, data, folder, err);
    if (status == GM_OK)
        status = gm_report_write(&folder, 1, page, err);
    json_decref(measured);
    gm_model_free(m);
    return status;
}

/* Of several ranks the first does it by itself: what is to be done depends on files that it writes meanwhile. */
gm_status gm_run_examine(const gm_ctx *ctx, const gm_data *data, const char *folder, int64_t sequences, gm_eval_callback callback,
                         void *user, gm_error *err) {
    gm_dist *d = gm_ctx_dist(ctx);
    gm_ctx *alone = NULL;
    if (!d)
        return examine(ctx, data, folder, sequences, callback, user, err);
    gm_status status = GM_OK;
    if (gm_dist_rank(d) == 0) {
        status = gm_ctx_create(&alone, &(gm_ctx_options){.threads = gm_ctx_threads(ctx), .isa = gm_ctx_isa(ctx)}, err);
        if (status == GM_OK)
            status = examine(alone, data, folder, sequences, callback, user, err);
        gm_ctx_free(alone);
    }
    return gm_dist_agree(d, status, err);
}
