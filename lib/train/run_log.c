/* run_log.c -- a log line into both files. */
#include "run_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 512, TAG = 96 };

/* TensorBoard's headings; what is not named here stands under train/. */
static const struct {
    const char *field, *tag;
} tags[] = {
    {"step_seconds", "train/tokens_per_s"},
    {"val_loss", "validation/loss"},
    {"max_inf_norm", "outliers/max_inf_norm"},
    {"max_inf_norm_without_first", "outliers/max_inf_norm_without_first"},
    {"avg_kurtosis", "outliers/avg_kurtosis"},
    {"max_kurtosis", "outliers/max_kurtosis"},
    {"first_norm", "first_norm/block"},
    {"sink_rate", "attention/sink_rate"},
    {"sink_mass", "attention/sink_mass"},
    {"null_mass", "attention/null_mass"},
    {"dormant_sink_mass", "backcopy/dormant_sink_mass"},
    {"backcopy_loss", "backcopy/copy_loss"},
    {"bigram_excess", "backcopy/bigram_excess"},
};

gm_status gm_run_log_open(gm_run_log *log, const char *folder, int64_t keep_step, int64_t step_tokens, gm_error *err) {
    char path[1024];
    *log = GM_RUN_LOG_CLOSED;
    log->step_tokens = step_tokens;
    GM_TRY(gm_path_join(path, sizeof path, folder, "metrics.jsonl", err));
    GM_TRY(gm_jsonl_open(&log->lines, path, keep_step, err));
    gm_status status = gm_event_file_open(&log->events, folder, keep_step, err);
    if (status != GM_OK)
        gm_run_log_close(log);
    return status;
}

typedef struct scalars {
    gm_event_value values[VALUES_MAX];
    char tags[VALUES_MAX][TAG];
    int count;
} scalars;

static void add_scalar(scalars *s, const char *tag, double x) {
    if (s->count == VALUES_MAX)
        return;
    snprintf(s->tags[s->count], TAG, "%s", tag);
    s->values[s->count] = (gm_event_value){.kind = GM_EVENT_SCALAR, .tag = s->tags[s->count], .scalar = (float)x};
    s->count++;
}

static double number_of(const json_t *value) {
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void add_field(scalars *s, const gm_run_log *log, const char *field, const json_t *value) {
    char tag[TAG - 12], indexed[TAG];
    snprintf(tag, sizeof tag, "train/%s", field);
    for (int i = 0; i < GM_COUNT(tags); i++) {
        if (strcmp(field, tags[i].field) == 0)
            snprintf(tag, sizeof tag, "%s", tags[i].tag);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        snprintf(indexed, sizeof indexed, "%s_%d", tag, (int)i);
        add_scalar(s, indexed, number_of(json_array_get(value, i)));
    }
    if (strcmp(field, "step_seconds") == 0)
        add_scalar(s, tag, (double)log->step_tokens / number_of(value));
    else if (json_is_number(value) || json_is_null(value))
        add_scalar(s, tag, number_of(value));
}

gm_status gm_run_log_add(gm_run_log *log, const json_t *line, gm_error *err) {
    if (log->lines.fd < 0)
        return GM_OK;
    char *text = gm_json_dump(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    scalars *s = calloc(1, sizeof *s);
    gm_status status = text && s ? gm_jsonl_add(&log->lines, text, err) : gm_fail_memory(err, sizeof *s);
    const char *field;
    json_t *value;
    if (status == GM_OK) {
        json_object_foreach((json_t *)line, field, value) {
            if (strcmp(field, "step") != 0)
                add_field(s, log, field, value);
        }
        status = gm_event_file_add(&log->events, json_integer_value(json_object_get(line, "step")), s->values, s->count, err);
    }
    free(text);
    free(s);
    return status;
}

gm_status gm_run_log_config(gm_run_log *log, const json_t *config, gm_error *err) {
    gm_text table = {0};
    const char *name;
    json_t *value;
    gm_text_add(&table, "| | |\n|:--|:--|\n");
    json_object_foreach((json_t *)config, name, value) {
        char *text = gm_json_dump(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        gm_text_add(&table, "| %s | `%s` |\n", name, text ? text : "");
        table.failed |= !text;
        free(text);
    }
    gm_status status = table.failed ? gm_fail_memory(err, table.size) : gm_event_file_add_text(&log->events, "run", table.data, err);
    gm_text_free(&table);
    return status;
}

gm_status gm_run_log_sync(gm_run_log *log, gm_error *err) {
    GM_TRY(gm_jsonl_sync(&log->lines, err));
    return gm_event_file_sync(&log->events, err);
}

void gm_run_log_close(gm_run_log *log) {
    gm_jsonl_close(&log->lines);
    gm_event_file_close(&log->events);
}
