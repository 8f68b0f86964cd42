/* log_curves.c -- metrics.jsonl as curves of so many points that no peak is lost. */
#include "gather.h"

#include <math.h>
#include <string.h>

static const char *const fields[] = {
    "loss",      "grad_norm", "val_loss",      "max_inf_norm",  "max_inf_norm_without_first", "avg_kurtosis",
    "sink_rate", "null_mass", "backcopy_loss", "bigram_excess", "dormant_sink_mass"};

/* The lines of the log; what is behind the last line feed is still being written. */
static gm_status read_lines(json_t *lines, const char *path, gm_error *err) {
    gm_file file;
    GM_TRY(gm_file_open(&file, path, err));
    const char *text = (const char *)file.data, *end = text + file.size;
    gm_status status = GM_OK;
    for (const char *p = text, *stop; status == GM_OK && p < end && (stop = memchr(p, '\n', (size_t)(end - p))); p = stop + 1) {
        json_error_t where;
        json_t *line = json_loadb(p, (size_t)(stop - p), 0, &where);
        if (json_is_object(line) && json_is_integer(json_object_get(line, "step")))
            json_array_append(lines, line);
        else
            status = gm_fail_at(err, GM_EFORMAT, p - text, "'%s' is damaged: line %zu is no object with a step", path,
                                json_array_size(lines) + 1);
        json_decref(line);
    }
    gm_file_close(&file);
    return status;
}

static void add_point(json_t *steps, json_t *values, const json_t *step, json_t *value) {
    json_array_append(steps, (json_t *)step);
    json_array_append(values, value);
}

/* Buckets of neighbours: of each the least and the greatest in the order in which they came, and a null where one is; first and last stay.
 */
json_t *gm_thin_curve(const json_t *curve, int points) {
    const json_t *all_steps = json_array_get(curve, 0), *all_values = json_array_get(curve, 1);
    size_t n = json_array_size(all_values), buckets = (size_t)GM_MAX(points / 2, 1);
    json_t *steps = json_array(), *values = json_array();
    for (size_t b = 0; b < buckets && n > 0; b++) {
        size_t from = b * n / buckets, to = (b + 1) * n / buckets, least = from, greatest = from, gap = to;
        for (size_t i = from; i < to; i++) {
            const json_t *value = json_array_get(all_values, i);
            if (!json_is_number(value)) {
                gap = i;
                continue;
            }
            if (!(json_number_value(value) >= json_number_value(json_array_get(all_values, least))) || least == gap)
                least = i;
            if (!(json_number_value(value) <= json_number_value(json_array_get(all_values, greatest))) || greatest == gap)
                greatest = i;
        }
        for (size_t i = from; i < to; i++) {
            if (i == least || i == greatest || i == gap || i == 0 || i == n - 1)
                add_point(steps, values, json_array_get(all_steps, i), json_array_get(all_values, i));
        }
    }
    return json_pack("[o, o]", steps, values);
}

gm_status gm_log_curves(json_t **out, const char *path, int points, gm_error *err) {
    json_t *lines = json_array(), *line;
    size_t i;
    *out = json_object();
    gm_status status = gm_path_exists(path) ? read_lines(lines, path, err) : GM_OK;
    for (int f = 0; f < GM_COUNT(fields) && status == GM_OK; f++) {
        json_t *steps = json_array(), *values = json_array();
        json_array_foreach(lines, i, line) {
            json_t *value = json_object_get(line, fields[f]);
            if (value)
                add_point(steps, values, json_object_get(line, "step"), value);
        }
        const bool any = json_array_size(values) > 0, many = json_array_size(values) > (size_t)points;
        json_t *curve = json_pack("[o, o]", steps, values);
        if (any)
            json_object_set_new(*out, fields[f], many ? gm_thin_curve(curve, points) : json_incref(curve));
        json_decref(curve);
    }
    json_decref(lines);
    if (status != GM_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}
