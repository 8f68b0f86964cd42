/* groups.c -- puts runs together that can be compared, and says of the others why not. Comparable are runs of the same data, budget and
 * recipe; their models may differ in shape (then they are compared by size), their variants and seeds do. Audits of the same sequences of
 * the same data are a group too, without seeds and so without intervals. */
#include "gather.h"
#include "rows.h"

#include "ghostmax_model.h"

#include <stdlib.h>
#include <string.h>

/* Of a run's identity: what must be the same, what makes no difference to any number in the table, and the run's own. All else is shape. */
static const char *const recipe[] = {
    "data",  "steps", "batch", "context",      "accumulate", "lr",      "lr_min", "warmup",         "schedule",       "beta1",
    "beta2", "eps",   "clip",  "weight_decay", "from",       "dropout", "ramp",   "from_attention", "eval_sequences", "decay_norm_gains"};
static const char *const schedules[] = {
    [GM_SCHEDULE_CONSTANT] = "constant", [GM_SCHEDULE_COSINE] = "cosine", [GM_SCHEDULE_LINEAR] = "linear"};
static const char *const ignored[] = {"attention", "seed", "eval_every", "log_every", "measure_every", "measure_sequences"};

static bool is_among(const char *name, const char *const *list, int count) {
    for (int i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0)
            return true;
    }
    return false;
}

/* Splits a run's identity: the part that its group shares, and its model's shape. */
static void split_identity(const json_t *run, json_t **config, json_t **shape) {
    bool audit = strcmp(gm_gather_text(run, "kind"), "audit") == 0;
    const char *name;
    json_t *value;
    *config = json_object();
    *shape = json_object();
    json_object_foreach(json_object_get(run, "identity"), name, value) {
        if (audit || is_among(name, recipe, GM_COUNT(recipe)))
            json_object_set(*config, name, value);
        else if (!is_among(name, ignored, GM_COUNT(ignored)))
            json_object_set(*shape, name, value);
    }
    value = json_object_get(*config, "schedule");
    const json_int_t schedule = json_is_integer(value) ? json_integer_value(value) : -1;
    if (schedule >= 0 && schedule < GM_COUNT(schedules))
        json_object_set_new(*config, "schedule", json_string(schedules[schedule]));
}

/* "lr 0.003 and 0.005, steps 350 and 500": the fields in which two objects differ. */
static void list_differences(gm_text *text, json_t *a, json_t *b) {
    json_t *names = json_copy(a), *ignored_value;
    const char *name;
    json_object_update(names, b);
    json_object_foreach(names, name, ignored_value) {
        json_t *x = json_object_get(a, name), *y = json_object_get(b, name);
        if (json_equal(x, y))
            continue;
        char *left = x ? gm_json_dump(x, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
        char *right = y ? gm_json_dump(y, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
        gm_text_add(text, "%s%s %s and %s", text->size ? ", " : "", name, left ? left : "not set", right ? right : "not set");
        free(left);
        free(right);
    }
    json_decref(names);
}

/* ---- groups ------------------------------------------------------------------------------------------------------------------------ */

static json_t *find_group(json_t *groups, const char *kind, const json_t *config) {
    json_t *group;
    size_t i;
    json_array_foreach(groups, i, group) {
        if (strcmp(gm_gather_text(group, "kind"), kind) == 0 && json_equal(json_object_get(group, "config"), config))
            return group;
    }
    return NULL;
}

/* The first group of a kind, of any where kind is NULL. */
static json_t *first_group(json_t *groups, const char *kind) {
    json_t *group;
    size_t i;
    json_array_foreach(groups, i, group) {
        if (!kind || strcmp(gm_gather_text(group, "kind"), kind) == 0)
            return group;
    }
    return NULL;
}

static json_t *begin_group(json_t *groups, const char *kind, json_t *config) {
    json_t *group = json_pack("{s:s, s:O, s:[], s:[], s:{}}", "kind", kind, "config", config, "runs", "models", "shapes");
    json_t *first = first_group(groups, NULL), *alike = first_group(groups, kind);
    if (first) { /* why it is not with the first, nor with the first of its kind */
        gm_text text = {0}, differences = {0};
        if (first != alike)
            gm_text_add(&text, "audits of finished models have no seeds, trained runs have%s", alike ? "; nor with those before it: " : "");
        if (alike) {
            list_differences(&differences, json_object_get(alike, "config"), config);
            gm_text_add(&text, "%s", differences.data ? differences.data : "");
            text.failed |= differences.failed;
            gm_text_free(&differences);
        }
        json_object_set_new(group, "apart", gm_json_from_text(&text));
    }
    json_array_append_new(groups, group);
    return group;
}

/* "gpt2-nano (width 48, head_dim 24)": where the preset's name is taken by another shape, the first fields that differ. */
static json_t *new_name(json_t *shapes, const char *preset, json_t *shape) {
    json_t *taken = json_object_get(shapes, preset), *value;
    const char *field;
    gm_text text = {0};
    int listed = 0;
    gm_text_add(&text, "%s", preset);
    json_object_foreach(shape, field, value) {
        if (!taken || json_equal(json_object_get(taken, field), value) || listed == 2)
            continue;
        char *number = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        gm_text_add(&text, "%s%s %s", listed++ ? ", " : " (", field, number ? number : "");
        free(number);
    }
    if (listed > 0)
        gm_text_add(&text, ")");
    while (!text.failed && json_object_get(shapes, text.data)) /* still another */
        gm_text_add(&text, "'");
    return gm_json_from_text(&text);
}

/* The run's model gets a name of its own in the group: two shapes of one preset are two models. */
static void name_model(json_t *group, json_t *run, json_t *shape) {
    json_t *shapes = json_object_get(group, "shapes"), *there = NULL, *other;
    const char *preset = gm_gather_text(run, "model"), *name;
    json_object_foreach(shapes, name, other) {
        if (json_equal(other, shape) && strncmp(name, preset, strlen(preset)) == 0)
            there = json_string(name);
    }
    if (!there) {
        there = new_name(shapes, preset, shape);
        json_object_set(shapes, json_string_value(there), shape);
        json_array_append_new(json_object_get(group, "models"), json_pack("{s:O, s:O}", "model", there, "shape", shape));
    }
    json_object_set_new(run, "model", there);
}

/* The same variant, model and seed from two folders: the second is left out, and said to be equal or not. */
static bool is_repeated(const gm_gathered *g, const json_t *group, const json_t *run) {
    const json_t *other;
    size_t i;
    if (strcmp(gm_gather_text(run, "kind"), "audit") == 0)
        return false;
    json_array_foreach(json_object_get(group, "runs"), i, other) {
        if (strcmp(gm_gather_text(other, "model"), gm_gather_text(run, "model")) != 0 ||
            !json_equal(json_object_get(other, "seed"), json_object_get(run, "seed")) ||
            strcmp(gm_gather_text(other, "variant"), gm_gather_text(run, "variant")) != 0)
            continue;
        gm_text text = {0};
        double a = gm_gather_number(json_object_get(other, "result"), "val_loss"),
               b = gm_gather_number(json_object_get(run, "result"), "val_loss");
        gm_text_add(&text, "%s, seed %.0f, stands in two folders; that of %s is drawn, that of %s is not (validation loss %.6g and %.6g)",
                    gm_gather_text(run, "variant"), gm_gather_number(run, "seed"),
                    gm_gather_text(json_array_get(g->sources, (size_t)gm_gather_number(other, "source")), "folder"),
                    gm_gather_text(json_array_get(g->sources, (size_t)gm_gather_number(run, "source")), "folder"), a, b);
        json_array_append_new(g->notes, gm_json_from_text(&text));
        return true;
    }
    return false;
}

/* A run that has not begun says nothing of itself: it belongs to where its lab's others are. */
static json_t *group_of_source(json_t *groups, const json_t *run) {
    json_t *group, *other;
    size_t i, k;
    json_array_foreach(groups, i, group) {
        json_array_foreach(json_object_get(group, "runs"), k, other) {
            if (json_equal(json_object_get(other, "source"), json_object_get(run, "source")))
                return group;
        }
    }
    return NULL;
}

static void place_run(const gm_gathered *g, json_t *groups, json_t *run) {
    json_t *config, *shape, *group;
    split_identity(run, &config, &shape);
    if (json_object_get(run, "identity"))
        group = find_group(groups, gm_gather_text(run, "kind"), config);
    else
        group = group_of_source(groups, run);
    if (!group)
        group = begin_group(groups, json_object_get(run, "kind") ? gm_gather_text(run, "kind") : "training", config);
    if (json_object_get(run, "identity"))
        name_model(group, run, shape);
    if (!is_repeated(g, group, run))
        json_array_append(json_object_get(group, "runs"), run);
    json_decref(config);
    json_decref(shape);
}

/* ---- one group's table --------------------------------------------------------------------------------------------------------------- */

static json_t *precisions_of(const json_t *runs) {
    json_t *list = json_array(), *names, *name, *there;
    const json_t *run;
    size_t i, k, n;
    json_array_foreach(runs, i, run) {
        names = json_object_get(json_object_get(json_object_get(run, "quant"), "settings"), "precisions");
        json_array_foreach(names, k, name) {
            bool known = !json_is_string(name) || strlen(json_string_value(name)) > 12;
            json_array_foreach(list, n, there) {
                known |= json_equal(there, name);
            }
            if (!known && json_array_size(list) < 8)
                json_array_append(list, name);
        }
    }
    return list;
}

static void say_versions(const gm_gathered *g, json_t *group) {
    const json_t *runs = json_object_get(group, "runs"), *run, *first = NULL;
    size_t i;
    json_array_foreach(runs, i, run) {
        const json_t *made = json_object_get(run, "made");
        if (!first)
            first = made;
        if (made && first &&
            (strcmp(gm_gather_text(made, "version"), gm_gather_text(first, "version")) != 0 ||
             strcmp(gm_gather_text(made, "commit"), gm_gather_text(first, "commit")) != 0)) {
            json_array_append_new(g->notes, json_sprintf("runs of different versions are compared: %.40s %.40s and %.40s %.40s",
                                                         gm_gather_text(first, "version"), gm_gather_text(first, "commit"),
                                                         gm_gather_text(made, "version"), gm_gather_text(made, "commit")));
            return;
        }
    }
}

/* Rows, differences and sentences, of runs that have a number. */
static void conclude_group(const gm_gathered *g, json_t *group) {
    json_t *runs = json_object_get(group, "runs"), *run, *precisions = precisions_of(runs), *counted = json_array(), *verdict;
    gm_metrics metrics;
    size_t i, waiting = 0;
    gm_metrics_of(&metrics, precisions);
    json_array_foreach(runs, i, run) {
        const char *state = gm_gather_text(run, "state");
        gm_run_values(run, &metrics, json_object_get(run, "diverged_at") ? NULL : json_object_get(run, "result"),
                      json_object_get(run, "measured"), json_object_get(run, "quant"));
        if (strcmp(state, "finished") == 0 || strcmp(state, "diverged") == 0)
            json_array_append(counted, run);
        else
            waiting++;
    }
    json_t *rows = gm_run_rows(counted, &metrics);
    if (strcmp(gm_gather_text(group, "kind"), "audit") == 0)
        verdict = json_pack("[s]", "Audits of finished models on the same sequences: one number each, no seeds, so no intervals.");
    else
        verdict = json_array_size(rows) ? gm_verdict_of(rows, &metrics) : json_array();
    if (waiting > 0)
        json_array_insert_new(verdict, 0,
                              json_sprintf("%zu of %zu runs are finished.", json_array_size(runs) - waiting, json_array_size(runs)));
    json_object_set_new(group, "precisions", precisions);
    json_object_set_new(group, "metrics", gm_metrics_json(&metrics));
    json_object_set_new(group, "rows", rows);
    json_object_set_new(group, "ablations", gm_ablation_rows(counted, precisions));
    json_object_set_new(group, "verdict", verdict);
    say_versions(g, group);
    json_object_del(group, "shapes");
    json_decref(counted);
}

json_t *gm_groups_of(const gm_gathered *g) {
    static const char *const done_with[] = {"identity", "result", "measured", "quant", "ablations"};
    json_t *groups = json_array(), *group, *run;
    size_t i, k;
    for (int begun = 1; begun >= 0; begun--) {
        json_array_foreach(g->runs, i, run) {
            if ((json_object_get(run, "identity") != NULL) == (begun == 1))
                place_run(g, groups, run);
        }
    }
    json_array_foreach(groups, i, group) {
        conclude_group(g, group);
        json_array_foreach(json_object_get(group, "runs"), k, run) {
            for (int d = 0; d < GM_COUNT(done_with); d++)
                json_object_del(run, done_with[d]);
        }
    }
    return groups;
}
