/* gather.c -- finds the runs in a folder and reads of each what the report needs. A run that is not finished is shown as far as it is. */
#include "gather.h"
#include "rows.h"
#include "store.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS_MOST = 500, LARGEST_SHOWN = 8 };

static const char advice[] = "remove it: the command that made it makes it anew";

double gm_gather_number(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *gm_gather_text(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static void take(json_t *into, const json_t *from, const char *name) {
    json_t *value = json_object_get(from, name);
    if (value)
        json_object_set(into, name, value);
}

static void note(gm_gathered *g, const char *folder, const char *what) {
    gm_text text = {0};
    gm_text_add(&text, "%s: %s", folder, what);
    json_array_append_new(g->notes, gm_json_from_text(&text));
}

/* ---- measure.json and quant.json: what is drawn of them ------------------------------------------------------------------------------ */

/* One field of every object in `list`. */
static json_t *column(const json_t *list, const char *field) {
    json_t *values = json_array(), *item;
    size_t i;
    json_array_foreach(list, i, item) {
        json_t *value = json_object_get(item, field);
        json_array_append(values, value ? value : json_null());
    }
    return values;
}

static json_t *columns(const json_t *list, const char *const *fields) {
    json_t *root = json_object();
    for (; *fields; fields++) {
        if (json_object_get(json_array_get(list, 0), *fields))
            json_object_set_new(root, *fields, column(list, *fields));
    }
    return root;
}

/* details: also what is large, and drawn of one seed only. */
static json_t *drawn_of_measure(const json_t *measured, bool details) {
    static const char *const of_tensors[] = {
        "name", "site", "layer", "inf_norm", "inf_norm_without_first", "kurtosis", "kurtosis_without_first", "absmax", NULL};
    static const char *const of_heads[] = {"layer",   "head",       "sink_mass",   "sink_rate", "null_mass",
                                           "entropy", "noop_score", "value_drain", NULL};
    static const char *const of_positions[] = {"from", "norm", "inf_norm", NULL};
    static const char *const of_all[] = {"sequences",         "context",          "convention",    "token_classes", "token_class_tokens",
                                         "token_class_ratio", "outlier_features", "massive_count", "nonfinite",     "left_out"};
    const json_t *tensors = json_object_get(measured, "tensors"), *tensor, *large;
    json_t *root =
        json_pack("{s:o, s:o}", "tensors", columns(tensors, of_tensors), "heads", columns(json_object_get(measured, "heads"), of_heads));
    size_t i;
    for (int k = 0; k < GM_COUNT(of_all); k++)
        take(root, measured, of_all[k]);
    if (!details)
        return root;
    json_t *levels = json_object(), *largest = json_array(), *positions = json_object();
    json_array_foreach(tensors, i, tensor) {
        json_t *counts = json_object_get(tensor, "levels");
        if (counts)
            json_object_set(levels, gm_gather_text(tensor, "name"), counts);
        if (strcmp(gm_gather_text(tensor, "site"), "block") == 0)
            json_object_set_new(positions, gm_gather_text(tensor, "name"), columns(json_object_get(tensor, "positions"), of_positions));
    }
    json_array_foreach(json_object_get(measured, "largest"), i, large) {
        if (i < LARGEST_SHOWN)
            json_array_append(largest, (json_t *)large);
    }
    json_object_set_new(root, "levels", levels);
    json_object_set_new(root, "largest", largest);
    json_object_set_new(root, "positions", positions);
    return root;
}

/* The grids of activations: name -> [lo, hi, step, bits]. */
static json_t *drawn_of_quant(const json_t *quant, bool details) {
    json_t *root = json_object(), *grids = json_object();
    const json_t *tensors = json_object_get(json_object_get(quant, "report"), "tensors"), *tensor;
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach((json_t *)quant, key, value) {
        if (json_is_number(value))
            json_object_set(root, key, value);
    }
    json_array_foreach(tensors, i, tensor) {
        if (details && strcmp(gm_gather_text(tensor, "kind"), "activation") == 0 && json_is_number(json_object_get(tensor, "step")))
            json_object_set_new(grids, gm_gather_text(tensor, "name"),
                                json_pack("[O, O, O, O]", json_object_get(tensor, "lo"), json_object_get(tensor, "hi"),
                                          json_object_get(tensor, "step"), json_object_get(tensor, "bits")));
    }
    json_object_set_new(root, "grids", grids);
    return root;
}

/* The numbers at the top of measure.json, for gm_run_values. */
static json_t *numbers_of(const json_t *measured) {
    json_t *root = json_object(), *value;
    const char *key;
    json_object_foreach((json_t *)measured, key, value) {
        if (json_is_number(value))
            json_object_set(root, key, value);
    }
    return root;
}

/* ---- one run --------------------------------------------------------------------------------------------------------------------------
 */

static bool same_but_seed(const json_t *a, const json_t *b) {
    json_t *x = json_copy((json_t *)a), *y = json_copy((json_t *)b);
    json_object_del(x, "seed");
    json_object_del(y, "seed");
    bool same = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}

/* What is large is shown of the first seed that has it. */
static bool has_details(const gm_gathered *g, const json_t *run) {
    const json_t *other;
    size_t i;
    json_array_foreach(g->runs, i, other) {
        if (json_object_get(other, "sample") && strcmp(gm_gather_text(other, "model"), gm_gather_text(run, "model")) == 0 &&
            strcmp(gm_gather_text(other, "variant"), gm_gather_text(run, "variant")) == 0 &&
            same_but_seed(json_object_get(other, "identity"), json_object_get(run, "identity")))
            return true;
    }
    return false;
}

static gm_status read_record(json_t **record, const char *folder, gm_error *err) {
    char path[1024];
    GM_TRY(gm_path_join(path, sizeof path, folder, "train.json", err));
    GM_TRY(gm_store_read(record, path, "the run's command makes it anew from a checkpoint; without one, remove the folder", err));
    if (!*record || json_is_object(json_object_get(*record, "identity")))
        return GM_OK;
    json_decref(*record);
    *record = NULL;
    return gm_fail(err, GM_EFORMAT, "'%s' does not say what was trained: it has no identity; remove the folder to start the run again",
                   path);
}

static gm_status read_stored(json_t **root, const char *folder, const char *name, gm_error *err) {
    char path[1024];
    GM_TRY(gm_path_join(path, sizeof path, folder, name, err));
    return gm_store_read(root, path, advice, err);
}

/* What train.json says, and how far the run is. */
static void describe_training(json_t *run, const json_t *record, bool in_lab) {
    static const char *const facts[] = {"params", "params_of_variant", "train_flops_per_token"};
    const json_t *identity = json_object_get(record, "identity"), *result = json_object_get(record, "result"),
                 *model = json_object_get(record, "model");
    json_object_set_new(run, "kind", json_string("training"));
    take(run, record, "identity");
    take(run, record, "result");
    take(run, record, "made");
    take(run, identity, "seed");
    take(run, identity, "steps");
    if (!in_lab) {
        const char *preset = gm_gather_text(model, "preset");
        json_object_set_new(run, "model", json_string(*preset ? preset : "model"));
        take(run, identity, "attention");
        json_object_set(run, "variant", json_object_get(identity, "attention"));
    }
    for (int i = 0; i < GM_COUNT(facts); i++)
        take(run, model, facts[i]);
    json_object_set_new(run, "tokens_per_step", json_real(gm_gather_number(identity, "batch") * gm_gather_number(identity, "context")));
    take(run, result, "seconds");
    if (gm_gather_number(result, "diverged_at") > 0)
        take(run, result, "diverged_at");
    json_object_set_new(run, "state",
                        json_string(!result                                       ? "unfinished"
                                    : gm_gather_number(result, "diverged_at") > 0 ? "diverged"
                                                                                  : "finished"));
}

/* A measurement of a model that was not trained here. The folder's last part names it. */
static void describe_audit(json_t *run, const json_t *measured, const char *folder) {
    static const char *const same[] = {"data", "sequences", "context", "bos", "convention"};
    const char *slash = strrchr(folder, '/');
    json_t *identity = json_object(), *name = json_string(slash && slash[1] ? slash + 1 : folder);
    for (int i = 0; i < GM_COUNT(same); i++)
        take(identity, measured, same[i]);
    json_object_set_new(run, "kind", json_string("audit"));
    json_object_set_new(run, "state", json_string("finished"));
    json_object_set_new(run, "identity", identity);
    json_object_set_new(run, "variant", name ? name : json_string("model"));
    json_object_set_new(run, "model", json_string(""));
    json_object_set(run, "attention", json_object_get(json_object_get(measured, "model"), "variant"));
    json_object_set_new(run, "seed", json_integer(0));
}

static void note_missing(json_t *run, const char *file) {
    json_t *missing = json_object_get(run, "missing");
    json_array_append_new(missing, json_string(file));
}

static gm_status describe_run(gm_gathered *g, json_t *run, const char *folder, const json_t *record, const json_t *measured,
                              const json_t *quant, bool in_lab, gm_error *err) {
    char path[1024];
    json_t *log;
    GM_TRY(gm_path_join(path, sizeof path, folder, "metrics.jsonl", err));
    if (record)
        describe_training(run, record, in_lab);
    else if (measured)
        describe_audit(run, measured, folder);
    GM_TRY(gm_log_curves(&log, path, POINTS_MOST, err));
    const json_t *last = json_array_get(json_object_get(log, "loss"), 0);
    if (json_array_size(last) > 0)
        json_object_set(run, "step", json_array_get(last, json_array_size(last) - 1));
    json_object_set_new(run, "log", log);
    GM_TRY(gm_path_join(path, sizeof path, folder, "sample.safetensors", err));
    bool details = gm_path_exists(path) && !has_details(g, run);
    json_t *place = details ? json_string(path) : NULL;
    if (place)
        json_object_set_new(run, "sample", place);
    if (measured) {
        json_object_set_new(run, "measured", numbers_of(measured));
        json_object_set_new(run, "measure", drawn_of_measure(measured, details));
        take(run, measured, "made");
    }
    if (quant) {
        json_object_set(run, "quant", (json_t *)quant);
        json_object_set_new(run, "quantized", drawn_of_quant(quant, details));
    }
    bool finished = strcmp(gm_gather_text(run, "state"), "finished") == 0;
    if (finished && !measured)
        note_missing(run, "measure.json");
    if (finished && in_lab && !quant)
        note_missing(run, "quant.json");
    return GM_OK;
}

/* run has what the lab says of it; the rest is in its folder. */
static gm_status read_run(gm_gathered *g, json_t *run, const char *folder, bool in_lab, gm_error *err) {
    json_t *record = NULL, *measured = NULL, *quant = NULL;
    json_object_set_new(run, "source", json_integer((json_int_t)json_array_size(g->sources) - 1));
    json_object_set_new(run, "state", json_string("waiting"));
    json_object_set_new(run, "missing", json_array());
    gm_status status = read_record(&record, folder, err);
    if (status == GM_OK)
        status = read_stored(&measured, folder, "measure.json", err);
    if (status == GM_OK)
        status = read_stored(&quant, folder, "quant.json", err);
    if (status == GM_OK && (record || measured))
        status = describe_run(g, run, folder, record, measured, quant, in_lab, err);
    if (status == GM_OK && (record || measured || in_lab))
        json_array_append(g->runs, run);
    json_decref(record);
    json_decref(measured);
    json_decref(quant);
    return status;
}

/* ---- folders --------------------------------------------------------------------------------------------------------------------------
 */

static void add_source(gm_gathered *g, const char *folder, const char *kind, const json_t *made, const json_t *config) {
    static const char *const facts[] = {"version", "commit", "command", "time", "machine"};
    json_t *name = json_string(folder); /* NULL where it is no UTF-8 */
    json_t *source = json_pack("{s:o, s:s}", "folder", name ? name : json_string("(a name that is no UTF-8)"), "kind", kind);
    for (int i = 0; i < GM_COUNT(facts); i++)
        take(source, made, facts[i]);
    take(source, config, "source");
    json_array_append_new(g->sources, source);
}

/* The runs of a lab that an older version made: from its results, or as they lie there. */
static json_t *list_old_lab(const json_t *results, const char *folder) {
    json_t *runs = json_array(), *row, *entry;
    char path[1024];
    size_t i, k;
    json_array_foreach(json_object_get(results, "rows"), i, row) {
        json_array_foreach(json_object_get(row, "runs"), k, entry) {
            json_t *run = json_object();
            take(run, row, "model");
            take(run, row, "variant");
            take(run, row, "params");
            take(run, entry, "seed");
            take(run, entry, "folder");
            json_array_append_new(runs, run);
        }
    }
    DIR *dir = results || gm_path_join(path, sizeof path, folder, "runs", NULL) != GM_OK ? NULL : opendir(path);
    for (struct dirent *file; dir && (file = readdir(dir));) {
        json_t *name = file->d_name[0] == '.' ? NULL : json_string(file->d_name);
        if (name)
            json_array_append_new(runs, json_pack("{s:o}", "folder", name));
    }
    if (dir)
        closedir(dir);
    return runs;
}

static gm_status read_lab_runs(gm_gathered *g, const json_t *runs, const char *folder, bool named, gm_error *err) {
    static const char *const said[] = {"model", "variant", "seed", "folder", "params", "params_of_variant", "train_flops_per_token"};
    const json_t *listed;
    size_t i, unfinished = 0;
    json_array_foreach(runs, i, listed) {
        char path[1024], within[512];
        const char *name = gm_gather_text(listed, "folder");
        if (!gm_path_is_plain(name))
            return gm_fail(err, GM_EFORMAT, "'%s' lists a run in '%.200s', which is no folder of its runs/; run the lab again", folder,
                           name);
        json_t *run = json_object();
        for (int k = 0; k < GM_COUNT(said); k++)
            take(run, listed, said[k]);
        snprintf(within, sizeof within, "runs/%s", name);
        gm_status status = gm_path_join(path, sizeof path, folder, within, err);
        if (status == GM_OK)
            status = read_run(g, run, path, named, err);
        unfinished += strcmp(gm_gather_text(run, "state"), "unfinished") == 0 || strcmp(gm_gather_text(run, "state"), "waiting") == 0;
        json_decref(run);
        GM_TRY(status);
    }
    if (unfinished > 0) {
        char text[128];
        snprintf(text, sizeof text, "%zu of %zu runs are not finished; the table is of the others", unfinished, json_array_size(runs));
        note(g, folder, text);
    }
    return GM_OK;
}

static gm_status gather_lab(gm_gathered *g, const char *folder, const json_t *lab, const json_t *results, gm_error *err) {
    json_t *runs = json_object_get(lab, "runs");
    bool planned = json_is_array(runs);
    runs = planned ? json_incref(runs) : list_old_lab(results, folder);
    const json_t *config = json_object_get(lab ? lab : results, "config");
    add_source(g, folder, "lab", planned ? json_object_get(lab, "made") : results, config);
    gm_status status = json_array_size(runs) > 0 ? read_lab_runs(g, runs, folder, planned || results, err)
                                                 : gm_fail(err, GM_EIO, "'%s' is a lab without runs; run the lab first", folder);
    json_decref(runs);
    return status;
}

gm_status gm_gather_folder(gm_gathered *g, const char *folder, gm_error *err) {
    json_t *lab = NULL, *results = NULL, *record = NULL, *measured = NULL;
    if (!gm_path_is_dir(folder))
        return gm_fail(err, GM_EIO, "'%s' is no folder; give one of a `ghostmax lab`, `train` or `measure --out`", folder);
    gm_status status = read_stored(&lab, folder, "lab.json", err);
    if (status == GM_OK)
        status = read_stored(&results, folder, "results.json", err);
    if (status == GM_OK && (lab || results))
        status = gather_lab(g, folder, lab, results, err);
    else if (status == GM_OK) {
        json_t *run = json_pack("{s:s}", "folder", "");
        status = read_record(&record, folder, err);
        if (status == GM_OK)
            status = read_stored(&measured, folder, "measure.json", err);
        if (status == GM_OK && !record && !measured)
            status =
                gm_fail(err, GM_EIO,
                        "'%s' has no lab.json, results.json, train.json or measure.json; give the folder of a `ghostmax lab`, `train` or "
                        "`measure --out`",
                        folder);
        if (status == GM_OK) {
            add_source(g, folder, record ? "train" : "measure", json_object_get(record ? record : measured, "made"), NULL);
            status = read_run(g, run, folder, false, err);
        }
        json_decref(run);
    }
    json_decref(lab);
    json_decref(results);
    json_decref(record);
    json_decref(measured);
    return status;
}
