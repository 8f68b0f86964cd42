/* page_room.c -- what a page has no room for: of many runs the curves get fewer points, and the histograms and the sample's activations and
 * maps are of the first runs alone. Numbers of tables and charts over runs all stay. */
#include "gather.h"

#include <stdlib.h>
#include <string.h>

enum { CURVES_BYTES = 1000000, POINT_BYTES = 16, POINTS_LEAST = 40, DETAILED_LEAST = 2 };

static json_t *list_runs(const json_t *data) {
    json_t *runs = json_array();
    const json_t *group;
    size_t i;
    json_array_foreach(json_object_get(data, "groups"), i, group) {
        json_array_extend(runs, json_object_get(group, "runs"));
    }
    return runs;
}

static int points_of(const json_t *curve) {
    return (int)json_array_size(json_array_get(curve, 0));
}

/* All curves together have CURVES_BYTES: the longer ones share alike. */
static void fit_curves(const json_t *runs) {
    const json_t *run;
    json_t *curve;
    const char *field;
    size_t i;
    int64_t points = 0, curves = 0;
    json_array_foreach(runs, i, run) {
        json_object_foreach(json_object_get(run, "log"), field, curve) {
            points += points_of(curve);
            curves += points_of(curve) > POINTS_LEAST;
        }
    }
    if (points * POINT_BYTES <= CURVES_BYTES)
        return;
    const int share = (int)GM_MAX(CURVES_BYTES / POINT_BYTES / GM_MAX(curves, 1), POINTS_LEAST);
    json_array_foreach(runs, i, run) {
        json_t *log = json_object_get(run, "log");
        json_object_foreach(log, field, curve) {
            if (points_of(curve) > share)
                json_object_set_new(log, field, gm_thin_curve(curve, share));
        }
    }
}

static gm_status add_size(int64_t *size, const json_t *part, gm_error *err) {
    char *text = part ? gm_json_dump(part, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    if (part && !text)
        return gm_fail_memory(err, 1 << 20);
    *size += text ? (int64_t)strlen(text) : 0;
    free(text);
    return GM_OK;
}

static const json_t *levels_of(const json_t *run) {
    return json_object_get(json_object_get(run, "measure"), "levels");
}

static void leave_out(json_t *run) {
    json_object_del(json_object_get(run, "measure"), "levels");
    json_object_del(run, "sample");
}

/* The samples in place of their paths, alike in what the data leave of so many bytes. *enough: each has room. */
static gm_status read_samples(json_t *samples, bool *enough, const json_t *data, const json_t *detailed, int64_t bytes, gm_error *err) {
    const json_t *run;
    size_t i;
    int64_t used = 0;
    *enough = true;
    GM_TRY(add_size(&used, data, err));
    json_array_foreach(detailed, i, run) {
        const char *path = json_string_value(json_object_get(run, "sample"));
        json_t *sample = NULL;
        if (path)
            GM_TRY(gm_sample_bytes(&sample, path, (bytes - used) / (int64_t)json_array_size(detailed), err));
        *enough &= !path || sample;
        json_array_append_new(samples, sample ? sample : json_null());
    }
    return GM_OK;
}

/* Where samples have no room, half as many runs have one. */
static gm_status add_samples(json_t *data, json_t *detailed, int64_t bytes, gm_error *err) {
    gm_status status;
    for (;;) {
        json_t *samples = json_array(), *run;
        bool enough;
        size_t i;
        status = read_samples(samples, &enough, data, detailed, bytes, err);
        const bool done = status != GM_OK || enough || json_array_size(detailed) <= DETAILED_LEAST;
        json_array_foreach(detailed, i, run) {
            if (done && status == GM_OK && json_object_get(run, "sample"))
                json_object_set(run, "sample", json_array_get(samples, i));
        }
        json_decref(samples);
        if (done)
            return status;
        for (size_t n = GM_MAX(json_array_size(detailed) / 2, DETAILED_LEAST); json_array_size(detailed) > n;) {
            leave_out(json_array_get(detailed, json_array_size(detailed) - 1));
            json_array_remove(detailed, json_array_size(detailed) - 1);
        }
    }
}

/* Histograms have half of what the rest leaves, samples the other half; the first two runs have theirs in any case. */
static gm_status fit_details(json_t *data, json_t *detailed, const json_t *runs, int64_t bytes, gm_error *err) {
    json_t *run;
    int64_t all = 0, levels = 0, used = 0, had = 0;
    size_t i;
    GM_TRY(add_size(&all, data, err));
    json_array_foreach(runs, i, run) {
        GM_TRY(add_size(&levels, levels_of(run), err));
    }
    const int64_t most = (bytes - (all - levels)) / 2;
    json_array_foreach(runs, i, run) {
        if (!levels_of(run) && !json_object_get(run, "sample"))
            continue;
        had++;
        GM_TRY(add_size(&used, levels_of(run), err));
        if (used <= most || json_array_size(detailed) < DETAILED_LEAST)
            json_array_append(detailed, run);
        else
            leave_out(run);
    }
    GM_TRY(add_samples(data, detailed, bytes, err));
    json_object_set_new(data, "without_details", json_integer(had - (json_int_t)json_array_size(detailed)));
    return GM_OK;
}

gm_status gm_fit_page(json_t *data, int64_t bytes, gm_error *err) {
    json_t *runs = list_runs(data), *detailed = json_array();
    fit_curves(runs);
    gm_status status = fit_details(data, detailed, runs, bytes, err);
    json_decref(detailed);
    json_decref(runs);
    return status;
}
