/* lab.c -- the comparison: check everything, then train, measure and quantize run by run, then results.json, table.md and report.html.
 * Whatever a run gave lies in its own folder before the next begins, so that a killed lab goes on where it was. */
#include "lab.h"

#include "event_file.h"
#include "identity.h"
#include "made.h"
#include "quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the plan: everything that can be wrong is found before anything is trained ---------------------------------------------------- */

static gm_status plan_models(gm_lab_plan *plan, const gm_data *data, const char *list, gm_error *err) {
    const gm_lab_options *o = plan->options;
    for (const char *p = list;; p++) {
        char name[64];
        size_t n = strcspn(p, ",");
        gm_lab_model *model = &plan->models[plan->model_count];
        if (plan->model_count == GM_LAB_MODELS)
            return gm_fail(err, GM_EINVAL, "more than %d models; give fewer", GM_LAB_MODELS);
        snprintf(name, sizeof name, "%.*s", (int)GM_MIN(n, sizeof name - 1), p);
        GM_TRY(gm_model_config_preset(&model->cfg, name, err));
        for (int i = 0; i < plan->model_count; i++) {
            if (strcmp(plan->models[i].preset, name) == 0)
                return gm_fail(err, GM_EINVAL, "model '%s' stands twice in the list; remove one", name);
        }
        snprintf(model->preset, sizeof model->preset, "%.31s", name);
        if (o->overrides)
            GM_TRY(gm_model_config_override(&model->cfg, o->overrides, err));
        model->cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
        model->cfg.context = o->train.context;
        plan->model_count++;
        for (int i = 0; i < plan->variant_count; i++) { /* a variant may have rules of its own */
            gm_model_config cfg = model->cfg;
            cfg.attention = plan->variants[i];
            GM_TRY(gm_model_config_check(&cfg, err));
        }
        GM_TRY(gm_model_config_check(&model->cfg, err));
        gm_model_config_size(&model->size, &model->cfg, o->train.batch, o->train.context);
        p += n;
        if (!*p)
            return GM_OK;
    }
}

static gm_status check_options(const gm_lab_options *o, gm_error *err) {
    const struct {
        const char *name;
        int64_t value;
    } positive[] = {{"seeds", o->seeds},           {"steps", o->train.steps},           {"batch", o->train.batch},
                    {"context", o->train.context}, {"accumulate", o->train.accumulate}, {"measure-sequences", o->measure_sequences}};
    for (int i = 0; i < GM_COUNT(positive); i++) {
        if (positive[i].value < 1)
            return gm_fail(err, GM_EINVAL, "%s is %lld, it must be 1 or more", positive[i].name, (long long)positive[i].value);
    }
    if (o->seeds > GM_LAB_SEEDS)
        return gm_fail(err, GM_EINVAL, "seeds is %lld, it must be at most %d", (long long)o->seeds, GM_LAB_SEEDS);
    if (o->train.batch % o->train.accumulate != 0)
        return gm_fail(err, GM_EINVAL, "accumulate is %lld, it must divide the batch of %lld", (long long)o->train.accumulate,
                       (long long)o->train.batch);
    if (!o->out || !*o->out)
        return gm_fail(err, GM_EINVAL, "the lab needs a folder for its results; give --out");
    if (!(o->train.lr > 0))
        return gm_fail(err, GM_EINVAL, "lr is %g, it must be above 0", o->train.lr);
    return GM_OK;
}

/* A spec as part of a file's name on any system: clipped:alpha=4 -> clipped-alpha=4. */
static void name_run(gm_trial *run, const gm_lab_plan *plan) {
    const char *spec = plan->specs[run->variant];
    snprintf(run->name, sizeof run->name, "%s%s%s-s%llu", plan->model_count > 1 ? plan->models[run->model].preset : "",
             plan->model_count > 1 ? "-" : "", spec, (unsigned long long)run->seed);
    for (char *p = run->name; *p; p++) {
        if (*p == ':' || *p == ',')
            *p = '-';
    }
}

static json_t *describe_run(const gm_trial *run, const gm_lab_plan *plan) {
    gm_model_config cfg = plan->models[run->model].cfg;
    gm_model_size size;
    cfg.attention = plan->variants[run->variant];
    gm_model_config_size(&size, &cfg, plan->options->train.batch, plan->options->train.context);
    return json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:f}", "model", plan->models[run->model].preset, "variant", plan->specs[run->variant],
                     "seed", (json_int_t)run->seed, "folder", run->name, "params", (json_int_t)size.parameters, "params_of_variant",
                     (json_int_t)size.attention_parameters_extra, "train_flops_per_token", size.flops_per_token_train);
}

/* Seed by seed, so that a lab stopped early has whole comparisons. */
static gm_trial *list_runs(const gm_lab_plan *plan, int *count) {
    *count = (int)(plan->model_count * plan->variant_count * plan->seeds);
    gm_trial *runs = calloc((size_t)*count, sizeof *runs);
    int n = 0;
    for (int m = 0; runs && m < plan->model_count; m++) {
        for (int64_t s = 0; s < plan->seeds; s++) {
            for (int v = 0; v < plan->variant_count; v++) {
                runs[n] = (gm_trial){.model = m, .variant = v, .seed = plan->options->train.seed + (uint64_t)s};
                name_run(&runs[n], plan);
                runs[n].json = describe_run(&runs[n], plan);
                n++;
            }
        }
    }
    return runs;
}

/* ---- identity: what makes two labs the same lab -------------------------------------------------------------------------------------- */

/* The fields of every run's identity that are equal in all models; those that differ stand with their model. */
static json_t *config_of(const gm_lab_plan *plan, const gm_data *data) {
    const gm_lab_options *o = plan->options;
    json_t *identities[GM_LAB_MODELS], *models = json_array();
    for (int m = 0; m < plan->model_count; m++) {
        identities[m] = gm_identity_of(&plan->models[m].cfg, &o->train, gm_data_identity(data));
        json_object_del(identities[m], "attention");
    }
    json_t *config = json_deep_copy(identities[0]);
    for (int m = 0; m < plan->model_count; m++) {
        json_t *model = json_pack("{s:s}", "model", plan->models[m].preset), *value;
        const char *name;
        json_object_foreach(identities[m], name, value) {
            bool differs = false;
            for (int k = 0; k < plan->model_count; k++)
                differs |= !json_equal(value, json_object_get(identities[k], name));
            if (differs) {
                json_object_set(model, name, value);
                json_object_del(config, name);
            }
        }
        json_array_append_new(models, model);
    }
    for (int m = 0; m < plan->model_count; m++)
        json_decref(identities[m]);
    json_object_set_new(config, "source", json_string(o->data.source));
    json_object_set_new(config, "bos", json_boolean(gm_data_bos(data)));
    json_object_set_new(config, "models", models);
    json_object_set_new(config, "overrides", json_string(o->overrides ? o->overrides : ""));
    return config;
}

/* What a lab may be continued with: more variants or seeds, other measurements. results.json has it beside the identity. */
static void add_extent(json_t *config, const gm_lab_plan *plan, json_t *measuring, json_t *quantizing) {
    json_t *variants = json_array();
    for (int v = 0; v < plan->variant_count; v++)
        json_array_append_new(variants, json_string(plan->specs[v]));
    json_object_set_new(config, "variants", variants);
    json_object_set_new(config, "seeds", json_integer(plan->seeds));
    json_object_set(config, "measuring", measuring);
    json_object_set(config, "quantizing", quantizing);
}

/* ---- one run ----------------------------------------------------------------------------------------------------------------------- */

typedef struct lab {
    gm_dist *dist;     /* of the ranks that share the runs */
    gm_error alarm;    /* what one of them said: all stop */
    const gm_ctx *ctx; /* of a run, which is one process's work */
    const gm_data *data;
    gm_lab_plan plan;
    gm_trial *runs;
    int run_count;
    json_t *measuring, *quantizing; /* settings of measure.json and quant.json */
    gm_lab_callback callback;
    void *user;
} lab;

/* told: the phase and what belongs to it. */
static bool tell(lab *l, const gm_trial *run, gm_lab_progress told) {
    if (l->alarm.code != GM_OK || gm_dist_alarmed(l->dist, &l->alarm) != GM_OK)
        return true;
    if (!l->callback)
        return false;
    told.variant = l->plan.specs[run->variant];
    told.model = l->plan.models[run->model].preset;
    told.seed = run->seed;
    told.run = (int)(run - l->runs) + 1;
    told.runs = l->run_count;
    return l->callback(l->user, &told);
}

static double number_in(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool tell_outcome(lab *l, const gm_trial *run, bool reused) {
    const json_t *values = json_object_get(run->json, "values");
    gm_lab_outcome outcome = {.diverged_at = json_integer_value(json_object_get(run->json, "diverged_at")),
                              .val_loss = number_in(values, "val_loss"),
                              .max_inf_norm = number_in(values, "max_inf_norm"),
                              .avg_kurtosis = number_in(values, "avg_kurtosis"),
                              .w8a8_ppl = number_in(values, "w8a8_ppl")};
    return tell(l, run, (gm_lab_progress){.phase = "done", .reused = reused, .outcome = &outcome});
}

typedef struct train_teller {
    lab *lab;
    const gm_trial *run;
    bool worked; /* anything was computed in this call */
} train_teller;

static bool on_train(void *user, const gm_train_progress *progress) {
    train_teller *t = user;
    t->worked = true;
    return tell(t->lab, t->run, (gm_lab_progress){.phase = "train", .train = progress});
}

static gm_status measure(json_t **out, lab *l, gm_model *model, gm_error *err) {
    const gm_lab_options *o = l->plan.options;
    gm_measure_options options = {.sequences = o->measure_sequences, .context = o->train.context, .details = true};
    char *text = NULL;
    GM_TRY(gm_measure_model(model, l->data, &options, &text, err));
    *out = json_loads(text, 0, NULL);
    free(text);
    return *out ? GM_OK : gm_fail_memory(err, 1 << 16);
}

typedef struct quantize_teller {
    lab *lab;
    const gm_trial *run;
} quantize_teller;

static bool on_quantize(void *user) {
    quantize_teller *t = user;
    return tell(t->lab, t->run, (gm_lab_progress){.phase = "quantize"});
}

static void set_finite(json_t *object, const char *name, double x) {
    json_object_set_new(object, name, isfinite(x) ? json_real(x) : json_null());
}

/* What is computed for a finished run, and with which settings: read from `path` when it was made in the same way with the same, else made.
 */
typedef struct analysis {
    const char *file, *phase, *schema;
    json_t *settings, *root;
    char path[1024];
} analysis;

static gm_status analyse(analysis a[2], lab *l, gm_trial *run, const char *folder, bool *worked, gm_error *err) {
    gm_model *model = NULL;
    gm_status status = GM_OK;
    for (int i = 0; i < 2; i++) {
        GM_TRY(gm_path_join(a[i].path, sizeof a[i].path, folder, a[i].file, err));
        GM_TRY(gm_store_read(&a[i].root, a[i].path, "remove it: the same command makes it anew", err));
        const char *schema = json_string_value(json_object_get(a[i].root, "schema"));
        if (a[i].root &&
            (!schema || strcmp(schema, a[i].schema) != 0 || !json_equal(json_object_get(a[i].root, "settings"), a[i].settings))) {
            json_decref(a[i].root);
            a[i].root = NULL;
        }
    }
    for (int i = 0; i < 2 && status == GM_OK; i++) {
        if (a[i].root)
            continue;
        *worked = true;
        if (tell(l, run, (gm_lab_progress){.phase = a[i].phase}))
            status = gm_fail(err, GM_ESTOPPED, "stopped; the same command continues it");
        if (status == GM_OK && !model)
            status = gm_model_load(&model, l->ctx, folder, err);
        if (status != GM_OK)
            break;
        status = i == 0 ? measure(&a[i].root, l, model, err)
                        : gm_lab_quantize(&a[i].root, &l->plan, l->data, model, l->plan.specs[run->variant], run->seed, on_quantize,
                                          &(quantize_teller){l, run}, err);
        if (status == GM_OK && i == 0)
            status = gm_sample_write(model, l->data, folder, err);
        if (status == GM_OK) {
            json_object_set_new(a[i].root, "schema", json_string(a[i].schema));
            json_object_set(a[i].root, "settings", a[i].settings);
            status = gm_store_write(a[i].root, a[i].path, err);
        }
    }
    gm_model_free(model);
    return status;
}

/* What a run trains, and where. */
static gm_status task_of(const lab *l, const gm_trial *run, gm_model_config *cfg, gm_train_options *train, char folder[1024],
                         gm_error *err) {
    const gm_lab_options *o = l->plan.options;
    char within[400];
    *cfg = l->plan.models[run->model].cfg;
    cfg->attention = l->plan.variants[run->variant];
    *train = o->train;
    train->seed = run->seed;
    train->command = o->command;
    snprintf(within, sizeof within, "runs/%s", run->name);
    GM_TRY(gm_path_join(folder, 1024, o->out, within, err));
    return gm_model_config_check(cfg, err);
}

static gm_status do_run(void *user, gm_trial *run, gm_error *err) {
    lab *l = user;
    char folder[1024];
    gm_model_config cfg;
    gm_train_options train;
    gm_train_result result;
    train_teller teller = {l, run, false};
    analysis analyses[2] = {{.file = "measure.json", .phase = "measure", .schema = "ghostmax.measure/1", .settings = l->measuring},
                            {.file = "quant.json", .phase = "quantize", .schema = "ghostmax.quant/2", .settings = l->quantizing}};
    GM_TRY(task_of(l, run, &cfg, &train, folder, err));
    gm_status status = gm_train_run(l->ctx, &cfg, l->data, &train, folder, on_train, &teller, &result, err);
    if (status == GM_EDIVERGED) {
        json_object_set_new(run->json, "diverged_at", json_integer((json_int_t)result.diverged_at));
        gm_run_values(run->json, &l->plan.metrics, NULL, NULL, NULL);
        tell_outcome(l, run, !teller.worked);
        return GM_OK;
    }
    GM_TRY(status);
    status = analyse(analyses, l, run, folder, &teller.worked, err);
    if (status == GM_OK) {
        json_t *trained = json_object();
        set_finite(trained, "val_loss", result.val_loss);
        set_finite(trained, "loss", result.loss);
        set_finite(trained, "tokens_per_s", round(result.tokens_per_s));
        gm_run_values(run->json, &l->plan.metrics, trained, analyses[0].root, analyses[1].root);
        json_decref(trained);
        if (tell_outcome(l, run, !teller.worked) && !teller.worked)
            status = gm_fail(err, GM_ESTOPPED, "stopped; the same command continues it");
    }
    json_decref(analyses[0].root);
    json_decref(analyses[1].root);
    return status;
}

/* ---- the lab ---------------------------------------------------------------------------------------------------------------------------
 */

static gm_status write_text(const char *out, const char *name, const char *text, gm_error *err) {
    char path[1024];
    GM_TRY(gm_path_join(path, sizeof path, out, name, err));
    return gm_file_write(path, text, strlen(text), err);
}

/* The table among the runs' curves, for a TensorBoard that looks at the whole folder. */
static gm_status write_events(const char *out, const char *table, gm_error *err) {
    gm_event_file events;
    GM_TRY(gm_event_file_open(&events, out, -1, err));
    gm_status status = gm_event_file_add_text(&events, "table", table, err);
    gm_event_file_close(&events);
    return status;
}

static json_t *precision_names(const gm_lab_plan *plan) {
    json_t *names = json_array();
    for (int i = 0; i < plan->precision_count; i++)
        json_array_append_new(names, json_string(plan->precisions[i].name));
    return names;
}

static json_t *results_of(const lab *l, json_t *config) {
    const gm_lab_plan *plan = &l->plan;
    json_t *runs = json_array(), *precisions = precision_names(plan), *made = gm_made_json(l->ctx, plan->options->command);
    for (int i = 0; i < l->run_count; i++)
        json_array_append(runs, l->runs[i].json);
    json_t *rows = gm_run_rows(runs, &plan->metrics);
    json_t *root = json_pack("{s:s, s:O, s:O, s:O, s:O, s:O, s:O, s:o, s:o, s:o, s:o}", "schema", "ghostmax.lab/1", "version",
                             json_object_get(made, "version"), "commit", json_object_get(made, "commit"), "command",
                             json_object_get(made, "command"), "time", json_object_get(made, "time"), "config", config, "machine",
                             json_object_get(made, "machine"), "metrics", gm_metrics_json(&plan->metrics), "rows", rows, "ablations",
                             gm_ablation_rows(runs, precisions), "verdict", gm_verdict_of(rows, &plan->metrics));
    json_decref(made);
    json_decref(precisions);
    json_decref(runs);
    return root;
}

static gm_status conclude(lab *l, json_t *config, char **results_json, char **table_md, gm_error *err) {
    const char *out = l->plan.options->out;
    char path[1024];
    gm_text table = {0};
    json_t *results = results_of(l, config);
    gm_status status = results && !gm_json_starved() ? GM_OK : gm_fail_memory(err, 1 << 16); /* the table reads what may be missing */
    if (status == GM_OK)
        gm_lab_table(&table, results, &l->plan.metrics);
    if (status == GM_OK && (table.failed || !table.data))
        status = gm_fail_memory(err, 1 << 16);
    if (status == GM_OK)
        status = gm_path_join(path, sizeof path, out, "results.json", err);
    if (status == GM_OK)
        status = gm_store_write(results, path, err);
    if (status == GM_OK)
        status = write_text(out, "table.md", table.data, err);
    if (status == GM_OK)
        status = write_events(out, table.data, err);
    if (status == GM_OK)
        status = gm_path_join(path, sizeof path, out, "report.html", err);
    if (status == GM_OK)
        status = gm_report_write(&out, 1, path, err);
    if (status == GM_OK && results_json) {
        char *text = gm_json_dump(results, JSON_INDENT(2));
        *results_json = text;
        status = text ? GM_OK : gm_fail_memory(err, 1 << 16);
    }
    if (status == GM_OK && table_md) {
        *table_md = table.data;
        table = (gm_text){0};
    }
    json_decref(results);
    gm_text_free(&table);
    return status;
}

/* lab.json: the identity, and beside it what the latest command asked for, so that a report of an unfinished lab knows what is missing.
 */
static gm_status begin_folder(const lab *l, json_t *config, gm_error *err) {
    const char *out = l->plan.options->out;
    char path[1024];
    gm_dir_sweep(out);
    GM_TRY(gm_path_join(path, sizeof path, out, "lab.json", err));
    json_t *runs = json_array(), *precisions = precision_names(&l->plan);
    for (int i = 0; i < l->run_count; i++)
        json_array_append(runs, l->runs[i].json);
    json_t *made = gm_made_json(l->ctx, l->plan.options->command);
    json_t *root = json_pack("{s:s, s:s, s:O, s:o, s:o, s:o}", "schema", "ghostmax.lab-config/1", "version", GM_VERSION, "config", config,
                             "made", made, "precisions", precisions, "runs", runs);
    gm_status status = root ? gm_store_write(root, path, err) : gm_fail_memory(err, 1 << 16);
    json_decref(root);
    GM_TRY(status);
    GM_TRY(gm_path_join(path, sizeof path, out, "runs", err)); /* after lab.json: without it, they would be another's */
    return gm_dir_make(path, err);
}

static gm_status plan_lab(lab *l, const gm_lab_options *o, gm_error *err) {
    const gm_data_defaults *source = gm_data_default_of(o->data.source);
    gm_lab_plan *plan = &l->plan;
    plan->options = o;
    plan->seeds = o->seeds;
    GM_TRY(check_options(o, err));
    GM_TRY(gm_variants_parse(plan->variants, GM_LAB_VARIANTS, &plan->variant_count, o->variants ? o->variants : source->variants, err));
    for (int i = 0; i < plan->variant_count; i++)
        gm_variant_format(plan->specs[i], sizeof plan->specs[i], &plan->variants[i]);
    GM_TRY(gm_precisions_parse(plan->precisions, &plan->precision_count, o->precisions ? o->precisions : "w6a6", err));
    json_t *names = precision_names(plan);
    gm_metrics_of(&plan->metrics, names);
    json_decref(names);
    return plan_models(plan, l->data, o->models ? o->models : source->model, err);
}

/* ---- the folder */

/* Where lab.json is gone its runs still say what they are: are there some of this lab's, and none of another? */
static gm_status has_our_runs(const lab *l, bool *ours, gm_error *err) {
    *ours = false;
    for (int i = 0; i < l->run_count; i++) {
        char folder[1024], path[1024];
        gm_model_config cfg;
        gm_train_options train;
        json_t *record, *identity;
        GM_TRY(task_of(l, &l->runs[i], &cfg, &train, folder, err));
        GM_TRY(gm_path_join(path, sizeof path, folder, "train.json", err));
        GM_TRY(gm_store_read(&record, path, "remove the folder to start the run again", err));
        if (!record)
            continue;
        identity = gm_identity_of(&cfg, &train, gm_data_identity(l->data));
        gm_status status =
            identity ? gm_identity_compare(json_object_get(record, "identity"), identity, folder, err) : gm_fail_memory(err, 4096);
        json_decref(identity);
        json_decref(record);
        GM_TRY(status);
        *ours = true;
    }
    return GM_OK;
}

/* A folder that is new, without files of a lab's, or this very lab's; anything else is refused before a byte is written. */
static gm_status check_folder(const lab *l, json_t *config, gm_error *err) {
    const char *out = l->plan.options->out;
    char path[1024];
    json_t *known = NULL, *results = NULL;
    GM_TRY(gm_path_join(path, sizeof path, out, "lab.json", err));
    GM_TRY(gm_store_read(&known, path, "remove it: the same command makes it anew beside its runs", err));
    gm_status status = GM_OK;
    if (known) {
        status = gm_identity_compare(json_object_get(known, "config"), config, out, err);
        json_decref(known);
    } else {
        static const char *const files[] = {"runs", "results.json", "table.md", "report.html", NULL};
        const char *there = gm_dir_has(out, files);
        bool ours = true;
        if (there)
            status = has_our_runs(l, &ours, err);
        if (status == GM_OK && !ours)
            status = gm_fail(err, GM_EINVAL, "'%s' has '%s' but no lab.json that says of what; choose another --out", out, there);
    }
    GM_TRY(status);
    GM_TRY(gm_path_join(path, sizeof path, out, "results.json", err));
    GM_TRY(gm_store_read(&results, path, "remove it: the same command writes it anew from the runs", err));
    json_decref(results);
    return GM_OK;
}

static bool on_wait(void *user, const gm_trial *run) {
    return tell(user, run, (gm_lab_progress){.phase = "waiting for another rank"});
}

static gm_status run_all(lab *l, gm_error *err) {
    gm_lab_queue queue = {
        .dist = l->dist, .out = l->plan.options->out, .runs = l->runs, .count = l->run_count, .work = do_run, .wait = on_wait, .user = l};
    gm_status status = gm_lab_queue_run(&queue, err);
    if (status == GM_ESTOPPED && l->alarm.code != GM_OK) {
        if (err)
            *err = l->alarm;
        status = l->alarm.code;
    } else if (status != GM_OK)
        gm_dist_alarm(l->dist, status, err ? err->msg : "");
    return status;
}

/* Is every rank about to do the same? Their options are one command's, but files may differ from machine to machine. */
static gm_status same_lab(const lab *l, const json_t *config, gm_error *err) {
    char *text = gm_json_dump(config, JSON_COMPACT | JSON_SORT_KEYS);
    gm_status status = gm_dist_agree(l->dist, text ? GM_OK : gm_fail_memory(err, 1 << 16), err);
    if (status == GM_OK)
        status = gm_dist_equal(l->dist, text, strlen(text), "the data or an option", err);
    free(text);
    return status;
}

/* A new folder, or this lab's, with the lock of its first rank on it; nothing is written before all ranks see that. */
static gm_status enter_folder(lab *l, gm_lock *lock, json_t *config, gm_error *err) {
    const char *out = l->plan.options->out;
    const bool first = gm_dist_rank(l->dist) == 0;
    GM_TRY(same_lab(l, config, err));
    gm_status status = first ? gm_dir_make(out, err) : GM_OK;
    if (status == GM_OK && first)
        status = gm_lock_take(lock, out, err);
    if (status == GM_OK && first)
        status = check_folder(l, config, err);
    GM_TRY(gm_dist_agree(l->dist, status, err));
    GM_TRY(gm_lab_queue_check(l->dist, out, err));
    return gm_dist_agree(l->dist, first ? begin_folder(l, config, err) : GM_OK, err);
}

/* Was the first rank lost? Its lock is then free, but still has its file; this rank takes it. */
static gm_status first_is_lost(const lab *l, gm_lock *lock, bool *lost, gm_error *err) {
    char path[1024];
    bool busy;
    *lost = false;
    GM_TRY(gm_path_join(path, sizeof path, l->plan.options->out, GM_LOCK_NAME, err));
    if (!gm_path_exists(path))
        return GM_OK;
    GM_TRY(gm_lock_try(lock, path, &busy, err));
    *lost = !busy;
    return GM_OK;
}

/* The lab's own part, which has no ranks: everything before the folder is entered. */
static gm_status prepare(lab *l, gm_data **data, gm_ctx **alone, const gm_ctx *ctx, const gm_lab_options *o, gm_error *err) {
    if (l->dist) {
        GM_TRY(gm_ctx_create(alone, &(gm_ctx_options){.threads = gm_ctx_threads(ctx), .isa = gm_ctx_isa(ctx)}, err));
        l->ctx = *alone;
    }
    GM_TRY(gm_data_open(data, &o->data, err));
    l->data = *data;
    GM_TRY(gm_quant_check_text(&o->quant, *data, err)); /* before hours of training, not after */
    return plan_lab(l, o, err);
}

gm_status gm_lab_run(const gm_ctx *ctx, const gm_lab_options *options, gm_lab_callback callback, void *user, char **results_json,
                     char **table_md, gm_error *err) {
    gm_lab_options o = *options;
    lab l = {.dist = gm_ctx_dist(ctx), .ctx = ctx, .callback = callback, .user = user};
    gm_lock lock = GM_UNLOCKED;
    gm_ctx *alone = NULL;
    gm_data *data = NULL;
    json_t *config = NULL;
    gm_status status;
    if (results_json)
        *results_json = NULL;
    if (table_md)
        *table_md = NULL;
    o.data.context = o.train.context;
    GM_TRY(check_options(&o, err));
    GM_TRY_GOTO(gm_dist_agree(l.dist, prepare(&l, &data, &alone, ctx, &o, err), err));
    config = config_of(&l.plan, data);
    l.runs = list_runs(&l.plan, &l.run_count);
    if (!l.runs) {
        status = gm_fail_memory(err, 1 << 16);
        goto done;
    }
    GM_TRY_GOTO(enter_folder(&l, &lock, config, err));
    l.measuring = json_pack("{s:I, s:b}", "sequences", (json_int_t)o.measure_sequences, "details", true);
    l.quantizing = gm_lab_quant_settings(&l.plan);
    add_extent(config, &l.plan, l.measuring, l.quantizing);
    GM_TRY_GOTO(run_all(&l, err));
    bool concludes = gm_dist_rank(l.dist) == 0;
    if (!concludes)
        GM_TRY_GOTO(first_is_lost(&l, &lock, &concludes, err));
    if (concludes)
        GM_TRY_GOTO(conclude(&l, config, results_json, table_md, err));
    for (int i = 0; i < l.run_count && status == GM_OK; i++) {
        const json_t *at = json_object_get(l.runs[i].json, "diverged_at");
        if (at)
            status =
                gm_fail(err, GM_EDIVERGED, "%s, seed %llu, diverged at step %lld; its values are null; lower --lr or lengthen --warmup",
                        l.plan.specs[l.runs[i].variant], (unsigned long long)l.runs[i].seed, (long long)json_integer_value(at));
    }
done:
    for (int i = 0; i < l.run_count && l.runs; i++)
        json_decref(l.runs[i].json);
    json_decref(l.measuring);
    json_decref(l.quantizing);
    free(l.runs);
    json_decref(config);
    gm_data_free(data);
    gm_lock_release(&lock);
    gm_ctx_free(alone);
    return status;
}
