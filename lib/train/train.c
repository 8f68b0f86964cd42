/* train.c -- the training loop: batch, gradients, clip, AdamW, log, checkpoint; resumable to the bit.
 *
 * Everything random is a pure function of (seed, step), so the whole state is the step, the weights and AdamW's two moments. A run's
 * folder:
 *   train.json                 what is trained (its identity), and at the end the result; until then it can be made anew from a checkpoint
 *   metrics.jsonl              one line per logged step
 *   events.out.tfevents.*      the same for TensorBoard, with histograms and pictures
 *   state.safetensors, state-<step>.safetensors   the last checkpoints; removed when the run is finished
 *   config.json, model.safetensors, tokenizer.json   the model, written at the end */
#include "checkpoints.h"
#include "identity.h"
#include "made.h"
#include "model.h"
#include "run_log.h"
#include "sharing.h"
#include "store.h"
#include "surgery.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const double checkpoint_seconds = 60; /* a checkpoint at least this often, whatever the steps take */

void gm_train_defaults(gm_train_options *o) {
    *o = (gm_train_options){.steps = 1000,
                            .batch = 32,
                            .context = 128,
                            .accumulate = 1,
                            .lr = 1e-3,
                            .lr_min = 0.1,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .eps = 1e-8,
                            .weight_decay = 0.1,
                            .clip = 1,
                            .schedule = GM_SCHEDULE_CONSTANT,
                            .warmup = 100,
                            .eval_sequences = 256,
                            .measure_sequences = 16,
                            .keep = 2,
                            .log_every = 10,
                            .seed = 1};
}

static gm_status check_options(const gm_train_options *o, gm_error *err) {
    if (o->steps < 1)
        return gm_fail(err, GM_EINVAL, "steps is %lld, it must be 1 or more", (long long)o->steps);
    if (o->batch < 1)
        return gm_fail(err, GM_EINVAL, "batch is %lld, it must be 1 or more", (long long)o->batch);
    if (o->context < 1)
        return gm_fail(err, GM_EINVAL, "context is %lld, it must be 1 or more", (long long)o->context);
    if (o->accumulate < 1 || o->batch % o->accumulate != 0)
        return gm_fail(err, GM_EINVAL, "accumulate is %lld, it must divide the batch of %lld", (long long)o->accumulate,
                       (long long)o->batch);
    if (!(o->lr > 0 && o->lr < 100))
        return gm_fail(err, GM_EINVAL, "lr is %g, it must be in (0, 100)", o->lr);
    if (!(o->lr_min >= 0 && o->lr_min <= 1))
        return gm_fail(err, GM_EINVAL, "lr-min is %g, it must be a share of lr in [0, 1]", o->lr_min);
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1))
        return gm_fail(err, GM_EINVAL, "beta1 and beta2 are %g and %g, they must be in [0, 1)", o->beta1, o->beta2);
    if (!(o->eps > 0) || !(o->weight_decay >= 0) || !(o->clip >= 0))
        return gm_fail(err, GM_EINVAL, "eps must be positive, weight decay and clip 0 or more (eps %g, weight decay %g, clip %g)", o->eps,
                       o->weight_decay, o->clip);
    if (o->warmup < 0 || o->eval_every < 0 || o->eval_sequences < 0 || o->log_every < 0 || o->checkpoint_every < 0 ||
        o->measure_every < 0 || o->measure_sequences < 0)
        return gm_fail(err, GM_EINVAL, "warm-up and the intervals of eval, log, checkpoint and measure must be 0 or more");
    if (o->keep < 1 || o->keep > GM_KEEP_MAX)
        return gm_fail(err, GM_EINVAL, "keep is %lld, it must be 1 to %d checkpoints", (long long)o->keep, GM_KEEP_MAX);
    return GM_OK;
}

/* lr at step 1..steps: linear warm-up, then the schedule down to lr_min * lr at the last step. */
static double learning_rate(const gm_train_options *o, int64_t step) {
    if (step <= o->warmup)
        return o->lr * (double)step / (double)o->warmup;
    double progress = o->steps > o->warmup ? (double)(step - o->warmup) / (double)(o->steps - o->warmup) : 1;
    switch (o->schedule) {
    case GM_SCHEDULE_COSINE:
        return o->lr * (o->lr_min + (1 - o->lr_min) * 0.5 * (1 + cos(3.141592653589793 * progress)));
    case GM_SCHEDULE_LINEAR:
        return o->lr * (1 - (1 - o->lr_min) * progress);
    case GM_SCHEDULE_CONSTANT:
        break;
    }
    return o->lr;
}

/* ---- one run */

typedef struct run { /* what stands in the folder is read and written by rank 0 */
    const gm_ctx *ctx;
    const gm_data *data;
    gm_train_options o;
    const char *folder;
    char record_path[1024];
    gm_checkpoints checkpoints;
    json_t *identity, *made; /* made: what the run was begun with */
    bool record_lost;        /* train.json is damaged or gone, and there is a checkpoint */
    gm_model *model;
    gm_sharing sharing;
    int32_t *x, *y;           /* [this rank's sequences of a step, context] */
    int64_t step, resumed_at; /* steps done */
    double seconds;           /* spent in training steps, over all sessions */
    double loss, grad_norm, lr, val_loss;
    double max_inf_norm, avg_kurtosis; /* when last measured */
    gm_run_log log;                    /* closed but on rank 0 */
    gm_lock lock;
    char notice[1200]; /* for the first progress */
} run;

static void state_entries(run *r, const gm_whole_moments *moments, gm_state_entry e[3]) {
    e[0] = (gm_state_entry){"weights", r->model->weights, r->model->param_elements};
    e[1] = (gm_state_entry){"moment1", moments->moment1, r->model->param_elements};
    e[2] = (gm_state_entry){"moment2", moments->moment2, r->model->param_elements};
}

static gm_status state_write(run *r, const gm_whole_moments *moments, gm_error *err) {
    gm_state_entry entries[3];
    if (r->sharing.rank > 0)
        return GM_OK;
    state_entries(r, moments, entries);
    GM_TRY(gm_run_log_sync(&r->log, err)); /* the log first: it must not lack lines of steps that the checkpoint has behind it */
    json_t *scalars = json_pack("{s:I, s:f, s:f, s:O, s:O}", "step", (json_int_t)r->step, "seconds", r->seconds, "loss", r->loss,
                                "identity", r->identity, "made", r->made);
    char *text = scalars ? gm_json_dump(scalars, JSON_COMPACT) : NULL;
    json_decref(scalars);
    if (!text)
        return gm_fail_memory(err, 4096);
    gm_status status = gm_checkpoints_add(&r->checkpoints, r->step, entries, 3, text, err);
    free(text);
    return status;
}

static void note(run *r, const char *format, ...) {
    size_t n = strlen(r->notice);
    n += (size_t)snprintf(r->notice + n, sizeof r->notice - n, "%s", n ? "; " : "");
    va_list args;
    va_start(args, format);
    vsnprintf(r->notice + n, sizeof r->notice - n, format, args);
    va_end(args);
}

static gm_status state_save(run *r, gm_error *err) {
    gm_whole_moments moments;
    GM_TRY(gm_sharing_verify(&r->sharing, err));
    gm_status status = gm_dist_agree(r->sharing.dist, gm_sharing_whole_begin(&r->sharing, &moments, err), err);
    if (status == GM_OK)
        status = gm_sharing_collect(&r->sharing, &moments, err);
    if (status == GM_OK)
        status = gm_dist_agree(r->sharing.dist, state_write(r, &moments, err), err);
    gm_sharing_whole_end(&moments);
    return status;
}

static void made_set(run *r, json_t *made) {
    json_incref(made);
    json_decref(r->made);
    r->made = made;
}

static gm_status state_read(run *r, const char *path, const gm_whole_moments *moments, gm_error *err) {
    gm_state_entry entries[3];
    state_entries(r, moments, entries);
    char *text = NULL;
    GM_TRY(gm_state_read(path, NULL, 0, &text, err));
    json_t *scalars = json_loads(text, 0, NULL);
    free(text);
    json_int_t step = 0;
    json_t *identity = NULL, *made = json_object_get(scalars, "made");
    gm_status status = GM_OK;
    if (json_unpack(scalars, "{s:I, s:F, s:F, s:o}", "step", &step, "seconds", &r->seconds, "loss", &r->loss, "identity", &identity) != 0)
        status =
            gm_fail(err, GM_EFORMAT, "'%s' lacks the step, the time or the identity of its run; remove it to start the run again", path);
    else if (step < 1 || step > r->o.steps)
        status = gm_fail(err, GM_EFORMAT, "'%s' is of step %lld, the run has %lld; remove it to start the run again", path, (long long)step,
                         (long long)r->o.steps);
    else
        status = gm_identity_compare(identity, r->identity, r->folder, err);
    if (status == GM_OK && r->record_lost && made)
        made_set(r, made);
    json_decref(scalars);
    GM_TRY(status);
    GM_TRY(gm_state_read(path, entries, 3, NULL, err));
    r->step = step;
    return GM_OK;
}

/* Goes on from the newest checkpoint that is whole; one that is damaged is passed over, which the first progress says. Where none is whole,
 * the newest one's error. */
static gm_status newest_read(run *r, const gm_whole_moments *moments, gm_error *err) {
    gm_status status = GM_OK;
    gm_error newest = {.code = GM_OK};
    char path[1024];
    for (int i = 0;; i++) {
        GM_TRY(gm_checkpoints_path(path, &r->checkpoints, i, err));
        if (!*path)
            break;
        gm_error reason = {.offset = -1};
        status = state_read(r, path, moments, &reason);
        if (status == GM_OK && newest.code != GM_OK)
            note(r, "%s; passed over for the checkpoint before it, of step %lld", newest.msg, (long long)r->step);
        if (status == GM_OK)
            r->checkpoints.newest = i == 0 ? r->step : 0; /* what was passed over is not kept */
        if (status != GM_OK && (newest.code == GM_OK || status != GM_EFORMAT))
            newest = reason;
        if (status != GM_EFORMAT)
            break;
    }
    if (status != GM_OK && err)
        *err = newest;
    return status;
}

/* train.json: the identity alone while the run goes on, with the result at its end. */
static gm_status record_save(run *r, const gm_train_result *result, gm_error *err) {
    gm_model_size size;
    gm_model_config_size(&size, &r->model->cfg, r->o.batch, r->o.context);
    json_t *record = json_pack("{s:s, s:O, s:O, s:{s:s, s:I, s:I, s:f}}", "schema", "ghostmax.train/2", "identity", r->identity, "made",
                               r->made, "model", "preset", r->model->cfg.preset, "params", (json_int_t)size.parameters, "params_of_variant",
                               (json_int_t)size.attention_parameters_extra, "train_flops_per_token", size.flops_per_token_train);
    if (result && record) {
        json_t *j = json_pack("{s:I, s:I, s:f, s:f}", "step", (json_int_t)result->step, "diverged_at", (json_int_t)result->diverged_at,
                              "tokens_per_s", round(result->tokens_per_s), "seconds", r->seconds);
        json_object_set_new(j, "loss", isfinite(result->loss) ? json_real(result->loss) : json_null());
        json_object_set_new(j, "val_loss", isfinite(result->val_loss) ? json_real(result->val_loss) : json_null());
        json_object_set_new(record, "result", j);
    }
    gm_status status = record ? gm_store_write(record, r->record_path, err) : gm_fail_memory(err, 4096);
    json_decref(record);
    return status;
}

/* The state of the last checkpoint, if there is one; else the new model's. */
static gm_status resume(run *r, gm_error *err) {
    gm_sharing *s = &r->sharing;
    gm_whole_moments moments;
    gm_status status = gm_sharing_whole_begin(s, &moments, err);
    if (status == GM_OK && s->rank == 0)
        status = newest_read(r, &moments, err);
    if (status == GM_OK && s->rank == 0 && (!r->step || r->record_lost))
        status = record_save(r, NULL, err);
    GM_TRY_GOTO(gm_dist_agree(s->dist, status, err));
    double shared[] = {(double)r->step, r->seconds, r->loss};
    GM_TRY_GOTO(gm_dist_broadcast(s->dist, shared, sizeof shared, err));
    GM_TRY_GOTO(gm_sharing_weights(s, err));
    r->step = r->resumed_at = (int64_t)shared[0];
    r->seconds = shared[1];
    r->loss = shared[2];
    if (r->step > 0)
        status = gm_sharing_deal(s, &moments, err);
done:
    gm_sharing_whole_end(&moments);
    return status;
}

/* One step: 1..steps. GM_EDIVERGED leaves the weights as the step before left them. */
static gm_status train_step(run *r, int64_t step, gm_error *err) {
    const gm_train_options *o = &r->o;
    gm_model *m = r->model;
    int64_t part = o->batch / o->accumulate, first, count;
    double loss_sum = 0, mine = 0, tokens = 0;
    gm_sharing_slice(&r->sharing, part, &first, &count);
    for (int64_t i = 0; i < o->accumulate; i++)
        gm_data_train(r->data, o->seed, (step - 1) * o->batch + i * part + first, count, r->x + i * count * o->context,
                      r->y + i * count * o->context);
    for (int64_t i = 0; i < o->accumulate * count * o->context; i++)
        mine += r->y[i] >= 0;
    GM_TRY(gm_dist_add(r->sharing.dist, GM_OK, &mine, &tokens, 1, err));
    uint64_t dropout = gm_rng_key(o->seed, "dropout");
    if (o->from)
        gm_surgery_step(m, o, step);
    gm_model_zero_grads(m);
    m->first_sequence = first;
    gm_status status = GM_OK;
    for (int64_t i = 0; i < o->accumulate && status == GM_OK; i++) {
        int64_t at = i * count * o->context;
        if (i == o->accumulate - 1)
            gm_sharing_watch(&r->sharing);
        status = gm_model_accumulate(m, r->x + at, r->y + at, count, o->context, 1.0f / (float)GM_MAX(tokens, 1),
                                     gm_rng_u64(dropout, (uint64_t)(step * o->accumulate + i)), &loss_sum, err);
    }
    GM_TRY(gm_sharing_gradients(&r->sharing, status, &loss_sum, &r->grad_norm, err));
    r->loss = loss_sum / GM_MAX(tokens, 1);
    r->lr = learning_rate(o, step);
    if (!isfinite(r->loss) || !isfinite(r->grad_norm))
        return gm_fail(err, GM_EDIVERGED, "the %s became %s at step %lld; lower --lr, lengthen --warmup or set --clip",
                       isfinite(r->loss) ? "gradient" : "loss", isnan(isfinite(r->loss) ? r->grad_norm : r->loss) ? "NaN" : "infinite",
                       (long long)step);
    return gm_sharing_step(&r->sharing, o, r->grad_norm, r->lr, step, err);
}

/* Mean loss over the first eval_sequences validation sequences; the ranks take turns. */
static gm_status validate(run *r, gm_error *err) {
    const gm_train_options *o = &r->o;
    const gm_sharing *s = &r->sharing;
    int64_t count = gm_data_validation_count(r->data), part = o->batch / o->accumulate / s->ranks;
    count = GM_MIN(count, o->eval_sequences ? o->eval_sequences : count);
    double sum = 0;
    for (int64_t turn = 0; turn < count; turn += part * s->ranks) {
        int64_t first = turn + part * s->rank, n = GM_MIN(part, count - first);
        gm_status status = GM_OK;
        double mean = 0, mine = 0;
        if (n > 0) {
            gm_data_validation(r->data, first, n, r->x, r->y);
            status = gm_model_loss(r->model, r->x, r->y, n, o->context, &mean, NULL, err);
            mine = mean * (double)n;
        }
        GM_TRY(gm_dist_add(s->dist, status, &mine, &sum, 1, err));
    }
    r->val_loss = sum / (double)count;
    return GM_OK;
}

/* What measure says of the model as it is now, into the log line: the curves of outliers while they grow. */
static gm_status measure(run *r, json_t *line, gm_error *err) {
    static const char *const fields[] = {"max_inf_norm",     "max_inf_norm_without_first",
                                         "avg_kurtosis",     "max_kurtosis",
                                         "sink_rate",        "sink_mass",
                                         "null_mass",        "first_norm",
                                         "backcopy_loss",    "bigram_excess",
                                         "dormant_sink_mass"};
    gm_measure_options o = {.sequences = r->o.measure_sequences, .context = r->o.context};
    char *text = NULL;
    GM_TRY(gm_sharing_verify(&r->sharing, err));
    GM_TRY(gm_measure_model(r->model, r->data, &o, &text, err));
    json_t *all = json_loads(text, 0, NULL);
    free(text);
    for (int i = 0; i < GM_COUNT(fields); i++) {
        json_t *value = json_object_get(all, fields[i]);
        if (value)
            json_object_set(line, fields[i], value);
    }
    json_t *norm = json_object_get(all, "max_inf_norm"), *kurtosis = json_object_get(all, "avg_kurtosis");
    r->max_inf_norm = json_is_number(norm) ? json_number_value(norm) : NAN;
    r->avg_kurtosis = json_is_number(kurtosis) ? json_number_value(kurtosis) : NAN;
    json_decref(all);
    return GM_OK;
}

static gm_status log_step(run *r, double step_seconds, bool measured, gm_error *err) {
    json_t *line = json_pack("{s:I, s:f, s:f, s:f, s:f}", "step", (json_int_t)r->step, "loss", r->loss, "grad_norm", r->grad_norm, "lr",
                             r->lr, "step_seconds", step_seconds);
    if (line && !isnan(r->val_loss))
        json_object_set_new(line, "val_loss", isfinite(r->val_loss) ? json_real(r->val_loss) : json_null());
    gm_status status = line ? GM_OK : gm_fail_memory(err, 256);
    if (status == GM_OK && measured)
        status = measure(r, line, err);
    if (status == GM_OK)
        status = gm_run_log_add(&r->log, line, err);
    if (status == GM_OK && measured)
        status = gm_run_log_pictures(&r->log, r->model, r->data, r->step, err);
    json_decref(line);
    return gm_dist_agree(r->sharing.dist, status, err);
}

/* What train.json says of this folder: *finished with *result, or unfinished, or (no file) nothing yet: then the files that the run will
 * write must not be there, for they would be another's. Where it says nothing any more and there is a checkpoint, that one says it. */
static gm_status record_load(run *r, bool *finished, gm_train_result *result, gm_error *err) {
    char checkpoint[1024];
    json_t *record;
    gm_error reason = {.offset = -1};
    *finished = r->record_lost = false;
    r->notice[0] = 0;
    GM_TRY(gm_checkpoints_path(checkpoint, &r->checkpoints, 0, err));
    gm_status status = gm_store_read(&record, r->record_path,
                                     *checkpoint ? "made anew from the checkpoint" : "remove the folder to start the run again", &reason);
    if (*checkpoint && (status == GM_EFORMAT || (status == GM_OK && !record))) {
        r->record_lost = true;
        if (status == GM_OK)
            gm_fail(&reason, GM_EFORMAT, "'%s' is gone; made anew from the checkpoint", r->record_path);
        note(r, "%s", reason.msg);
        return GM_OK;
    }
    if (status != GM_OK) {
        if (err)
            *err = reason;
        return status;
    }
    if (!record) {
        static const char *const ours[] = {"config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", NULL};
        const char *there = gm_dir_has(r->folder, ours);
        if (there)
            return gm_fail(err, GM_EINVAL, "'%s' has a %s but no train.json that says of which run; choose another folder", r->folder,
                           there);
        return GM_OK;
    }
    status = gm_identity_compare(json_object_get(record, "identity"), r->identity, r->folder, err);
    json_t *j = json_object_get(record, "result"), *made = json_object_get(record, "made");
    if (made)
        made_set(r, made);
    if (status == GM_OK && j) {
        json_int_t step = 0, diverged = 0;
        json_t *loss = NULL, *val_loss = NULL;
        if (json_unpack(j, "{s:I, s:I, s:F, s:o, s:o}", "step", &step, "diverged_at", &diverged, "tokens_per_s", &result->tokens_per_s,
                        "loss", &loss, "val_loss", &val_loss) != 0) {
            status =
                gm_fail(err, GM_EFORMAT, "'%s' has a result that lacks fields; remove the folder to start the run again", r->record_path);
        } else {
            result->step = step;
            result->diverged_at = diverged;
            result->loss = json_is_number(loss) ? json_number_value(loss) : NAN;
            result->val_loss = json_is_number(val_loss) ? json_number_value(val_loss) : NAN;
            *finished = true;
        }
    }
    json_decref(record);
    return status;
}

static gm_status run_begin(run *r, const gm_model_config *cfg, gm_error *err) {
    const gm_train_options *o = &r->o;
    GM_TRY(gm_model_create(&r->model, r->ctx, cfg, o->seed, err));
    if (o->from)
        gm_surgery_weights(r->model, o->from);
    const int ranks = gm_dist_size(gm_ctx_dist(r->ctx));
    const int64_t part = (o->batch / o->accumulate + ranks - 1) / ranks, sequences = part * o->accumulate;
    GM_TRY(gm_model_train_begin(r->model, part, o->context, err));
    const size_t tokens = (size_t)(sequences * o->context);
    r->x = gm_alloc(tokens, sizeof(int32_t));
    r->y = gm_alloc(tokens, sizeof(int32_t));
    if (!r->x || !r->y)
        return gm_fail_memory(err, 2 * tokens * sizeof(int32_t));
    return gm_sharing_begin(&r->sharing, gm_ctx_dist(r->ctx), r->model, o, err);
}

static gm_status log_begin(run *r, gm_error *err) {
    if (r->sharing.rank > 0)
        return GM_OK;
    GM_TRY(gm_run_log_open(&r->log, r->folder, r->step ? r->step : -1, r->o.batch * r->o.context, err));
    return r->step ? GM_OK : gm_run_log_config(&r->log, r->identity, err);
}

static gm_status run_steps(run *r, gm_train_callback callback, void *user, gm_error *err) {
    const gm_train_options *o = &r->o;
    const int64_t every = o->checkpoint_every ? o->checkpoint_every : GM_MAX(10, o->steps / 10);
    double saved_at = gm_seconds(), step_seconds = 0;
    while (r->step < o->steps) {
        double start = gm_seconds();
        GM_TRY(train_step(r, r->step + 1, err));
        double elapsed = gm_seconds() - start;
        r->step++;
        r->seconds += elapsed;
        step_seconds = step_seconds > 0 ? 0.9 * step_seconds + 0.1 * elapsed : elapsed; /* smoothed, for the eye */
        bool last = r->step == o->steps;
        r->val_loss = NAN;
        if (last || (o->eval_every && r->step % o->eval_every == 0))
            GM_TRY(validate(r, err));
        double tokens_per_s = (double)(o->batch * o->context) / step_seconds;
        bool measured = o->measure_every && (last || r->step % o->measure_every == 0);
        if (last || measured || !isnan(r->val_loss) || r->step == 1 || (o->log_every && r->step % o->log_every == 0))
            GM_TRY(log_step(r, elapsed, measured, err));
        gm_train_progress progress = {.step = r->step,
                                      .steps = o->steps,
                                      .resumed_at = r->resumed_at,
                                      .loss = r->loss,
                                      .val_loss = r->val_loss,
                                      .grad_norm = r->grad_norm,
                                      .lr = r->lr,
                                      .max_inf_norm = r->max_inf_norm,
                                      .avg_kurtosis = r->avg_kurtosis,
                                      .tokens_per_s = tokens_per_s,
                                      .eta_s = step_seconds * (double)(o->steps - r->step),
                                      .notice = r->notice[0] ? r->notice : NULL};
        bool stop = callback && callback(user, &progress);
        r->notice[0] = 0;
        if (last)
            break;
        /* Who asks to stop stops all; it is time to save when rank 0's clock says so. */
        double wishes[2] = {stop, r->sharing.rank == 0 && gm_seconds() - saved_at > checkpoint_seconds}, asked[2] = {0};
        GM_TRY(gm_dist_add(r->sharing.dist, GM_OK, wishes, asked, 2, err));
        stop = asked[0] > 0;
        if (stop || r->step % every == 0 || asked[1] > 0) {
            GM_TRY(state_save(r, err));
            saved_at = gm_seconds();
        }
        if (stop)
            return gm_fail(err, GM_ESTOPPED, "stopped at step %lld of %lld; the same command continues it", (long long)r->step,
                           (long long)o->steps);
    }
    return GM_OK;
}

static gm_status tokenizer_put(const run *r, const char *folder, gm_error *err) {
    char path[1024];
    GM_TRY(gm_path_join(path, sizeof path, folder, "tokenizer.json", err));
    return gm_data_tokenizer(r->data) ? gm_tokenizer_save(gm_data_tokenizer(r->data), path, err) : GM_OK;
}

static gm_status model_put(const run *r, gm_error *err) {
    gm_folder f;
    GM_TRY(gm_folder_open(&f, r->folder, err));
    gm_status status = gm_model_put(r->model, &f, GM_DTYPE_F32, 0, err);
    if (status == GM_OK)
        status = tokenizer_put(r, f.staging, err);
    if (status == GM_OK)
        return gm_model_commit(&f, true, err);
    gm_folder_abort(&f);
    return status;
}

/* The model, then the result that says that it is there, then away with the checkpoints. */
static gm_status run_finish(run *r, const gm_train_result *result, gm_error *err) {
    if (r->sharing.rank > 0)
        return GM_OK;
    GM_TRY(result->diverged_at ? tokenizer_put(r, r->folder, err) : model_put(r, err));
    GM_TRY(gm_run_log_sync(&r->log, err));
    GM_TRY(record_save(r, result, err));
    return gm_checkpoints_remove(&r->checkpoints, err);
}

/* Is every rank about to train the same? Their options are one command's, but files may differ from machine to machine. */
static gm_status same_run(run *r, gm_error *err) {
    char *text = gm_json_dump(r->identity, JSON_COMPACT);
    gm_status status = gm_dist_agree(gm_ctx_dist(r->ctx), text ? GM_OK : gm_fail_memory(err, 4096), err);
    if (status == GM_OK)
        status = gm_dist_equal(gm_ctx_dist(r->ctx), text, strlen(text), "the model, the data or an option", err);
    free(text);
    return status;
}

/* What the folder says, as rank 0 sees it: nothing yet, an unfinished run, or *finished with its result. */
static gm_status look_at_folder(run *r, bool *finished, gm_train_result *result, gm_error *err) {
    gm_dist *d = gm_ctx_dist(r->ctx);
    gm_status status = GM_OK;
    *finished = false;
    if (gm_dist_rank(d) == 0) {
        status = gm_dir_make(r->folder, err);
        if (status == GM_OK)
            status = record_load(r, finished, result, err);
        if (status == GM_OK && !*finished)
            status = gm_lock_take(&r->lock, r->folder, err);
        if (status == GM_OK && r->lock.fd >= 0)
            status = record_load(r, finished, result, err); /* another one may have been at it until now */
        if (status == GM_OK)
            gm_dir_sweep(r->folder);
        if (status == GM_OK && *finished)
            gm_checkpoints_remove(&r->checkpoints, NULL); /* what a kill behind the last step left */
        if (status == GM_OK && *finished && r->lock.fd < 0 && gm_dir_has(r->folder, (const char *const[]){GM_LOCK_NAME, NULL}))
            gm_lock_take(&r->lock, r->folder, NULL); /* that, too: it goes when this process is done */
    }
    GM_TRY(gm_dist_agree(d, status, err));
    GM_TRY(gm_dist_broadcast(d, finished, sizeof *finished, err));
    return gm_dist_broadcast(d, result, sizeof *result, err);
}

gm_status gm_train_run(const gm_ctx *ctx, const gm_model_config *cfg, const gm_data *data, const gm_train_options *options,
                       const char *folder, gm_train_callback callback, void *user, gm_train_result *result, gm_error *err) {
    run r = {.ctx = ctx,
             .data = data,
             .o = *options,
             .folder = folder,
             .val_loss = NAN,
             .max_inf_norm = NAN,
             .avg_kurtosis = NAN,
             .log = GM_RUN_LOG_CLOSED,
             .lock = GM_UNLOCKED};
    gm_dist *d = gm_ctx_dist(ctx);
    gm_model_config checked = *cfg;
    *result = (gm_train_result){.loss = NAN, .val_loss = NAN};
    GM_TRY(check_options(options, err));
    GM_TRY(gm_sharing_check(d, options, err));
    GM_TRY(gm_model_config_check(&checked, err));
    if (options->from)
        GM_TRY(gm_surgery_config(&checked, options, err));
    else if (options->ramp)
        return gm_fail(err, GM_EINVAL, "a ramp leads from one variant to another; there is no model to start from");
    if (options->context > checked.context)
        return gm_fail(err, GM_EINVAL, "context is %lld, the model has room for %lld", (long long)options->context,
                       (long long)checked.context);
    GM_TRY(gm_path_join(r.record_path, sizeof r.record_path, folder, "train.json", err));
    r.identity = gm_identity_of(&checked, options, gm_data_identity(data));
    r.made = gm_made_json(ctx, options->command);
    if (!r.identity || !r.made) {
        json_decref(r.identity);
        json_decref(r.made);
        return gm_fail_memory(err, 4096);
    }

    r.checkpoints = (gm_checkpoints){.folder = folder, .keep = options->keep};

    bool finished;
    gm_status status = GM_OK;
    GM_TRY_GOTO(same_run(&r, err));
    GM_TRY_GOTO(look_at_folder(&r, &finished, result, err));
    if (!finished) {
        checked.bos = gm_data_bos(data) ? GM_BOS_ALWAYS : GM_BOS_NEVER;
        GM_TRY_GOTO(gm_dist_agree(d, run_begin(&r, &checked, err), err));
        GM_TRY_GOTO(resume(&r, err));
        GM_TRY_GOTO(gm_dist_agree(d, log_begin(&r, err), err));
        status = run_steps(&r, callback, user, err);
        if (status != GM_OK && status != GM_EDIVERGED)
            goto done;
        result->step = r.step;
        result->diverged_at = status == GM_EDIVERGED ? r.step + 1 : 0;
        result->loss = r.loss;
        result->val_loss = status == GM_EDIVERGED ? NAN : r.val_loss;
        result->tokens_per_s = r.seconds > 0 ? (double)(r.step * options->batch * options->context) / r.seconds : 0;
        GM_TRY_GOTO(gm_dist_broadcast(d, result, sizeof *result, err)); /* rank 0's speed */
        GM_TRY_GOTO(gm_dist_agree(d, run_finish(&r, result, err), err));
    }
    if (result->diverged_at)
        status = gm_fail(err, GM_EDIVERGED, "training in '%s' diverged at step %lld; lower --lr, lengthen --warmup or set --clip", folder,
                         (long long)result->diverged_at);
done:
    gm_run_log_close(&r.log);
    gm_lock_release(&r.lock);
    json_decref(r.identity);
    json_decref(r.made);
    gm_sharing_end(&r.sharing);
    gm_model_free(r.model);
    gm_free(r.x);
    gm_free(r.y);
    return status;
}
