/* measure_files.c -- a measurement as files: measure.json with its checksum, and its tables as .csv for whoever draws from them. */
#include "made.h"
#include "store.h"

#include "ghostmax_model.h"

#include <string.h>

/* Which arrays become tables. within: the array stands in every object of `array`, whose name becomes the first column. */
static const struct {
    const char *file, *array, *within;
} tables[] = {{"tensors.csv", "tensors", NULL},
              {"histograms.csv", "tensors", "histogram"},
              {"positions.csv", "tensors", "positions"},
              {"dims.csv", "tensors", "dims"},
              {"weights.csv", "weights", NULL},
              {"heads.csv", "heads", NULL},
              {"features.csv", "features", NULL},
              {"largest.csv", "largest", NULL},
              {"largest_without_first.csv", "largest_without_first", NULL},
              {"massive.csv", "massive", NULL}};

static const char *const histogram_columns[] = {"lower", "negative", "positive"};

/* ---- one row: an object's scalars by name, scalars of its objects as name.inner; lists are tables of their own */

static void flatten(json_t *row, const char *prefix, json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", prefix, key);
        if (json_is_object(value) && !*prefix) {
            snprintf(name, sizeof name, "%s.", key);
            flatten(row, name, value);
        } else if (!json_is_array(value) && !json_is_object(value))
            json_object_set(row, name, value);
    }
}

static void add_rows(json_t *rows, json_t *array, const char *tensor) {
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item) {
        json_t *row = json_object();
        if (tensor)
            json_object_set_new(row, "tensor", json_string(tensor));
        if (json_is_object(item))
            flatten(row, "", item);
        for (size_t k = 0; json_is_array(item) && k < GM_COUNT(histogram_columns); k++)
            json_object_set(row, histogram_columns[k], json_array_get(item, k));
        json_array_append_new(rows, row);
    }
}

static void add_field(gm_text *text, const json_t *value, bool first) {
    if (!first)
        gm_text_add(text, ",");
    if (json_is_integer(value))
        gm_text_add(text, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        gm_text_add(text, "%.9g", json_real_value(value));
    else if (json_is_boolean(value))
        gm_text_add(text, "%d", json_is_true(value));
    else if (json_is_string(value)) {
        gm_text_add(text, "\"");
        for (const char *p = json_string_value(value); *p; p++)
            gm_text_add(text, *p == '"' ? "\"%c" : "%c", *p);
        gm_text_add(text, "\"");
    }
}

static gm_status write_table(json_t *rows, const char *path, gm_error *err) {
    gm_text text = {0};
    json_t *columns = json_object(), *row, *value;
    const char *name;
    size_t i;
    json_array_foreach(rows, i, row) {
        json_object_foreach(row, name, value) {
            json_object_set_new(columns, name, json_true()); /* in the order of their first appearance */
        }
    }
    bool first = true;
    json_object_foreach(columns, name, value) {
        gm_text_add(&text, "%s%s", first ? "" : ",", name);
        first = false;
    }
    gm_text_add(&text, "\n");
    json_array_foreach(rows, i, row) {
        first = true;
        json_object_foreach(columns, name, value) {
            add_field(&text, json_object_get(row, name), first);
            first = false;
        }
        gm_text_add(&text, "\n");
    }
    gm_status status = text.failed ? gm_fail_memory(err, 1 << 16) : gm_file_write(path, text.data, text.size, err);
    gm_text_free(&text);
    json_decref(columns);
    return status;
}

static gm_status write_tables(json_t *root, const char *folder, gm_error *err) {
    for (int i = 0; i < GM_COUNT(tables); i++) {
        json_t *rows = json_array(), *array = json_object_get(root, tables[i].array), *item;
        size_t k;
        if (!tables[i].within)
            add_rows(rows, array, NULL);
        else
            json_array_foreach(array, k, item) {
                add_rows(rows, json_object_get(item, tables[i].within), json_string_value(json_object_get(item, "name")));
            }
        char path[1024];
        gm_status status = gm_path_join(path, sizeof path, folder, tables[i].file, err);
        if (status == GM_OK && json_array_size(rows) > 0)
            status = write_table(rows, path, err);
        json_decref(rows);
        GM_TRY(status);
    }
    return GM_OK;
}

gm_status gm_measure_check_folder(const char *folder, bool force, gm_error *err) {
    const char *names[GM_COUNT(tables) + 2] = {"measure.json"};
    for (int i = 0; i < GM_COUNT(tables); i++)
        names[i + 1] = tables[i].file;
    if (gm_path_exists(folder) && !gm_path_is_dir(folder))
        return gm_fail(err, GM_EIO, "'%s' is a file, not a folder; choose another name", folder);
    const char *there = force ? NULL : gm_dir_has(folder, names);
    if (there)
        return gm_fail(err, GM_EINVAL, "'%s' has a %s already; give --force to replace it, or another folder", folder, there);
    return GM_OK;
}

static gm_status put(json_t *root, gm_model *sampled, const gm_data *data, const char *folder, gm_error *err) {
    char path[1100];
    GM_TRY(write_tables(root, folder, err));
    if (sampled)
        GM_TRY(gm_sample_write(sampled, data, folder, err));
    GM_TRY(gm_path_join(path, sizeof path, folder, "measure.json", err));
    return gm_store_write(root, path, err);
}

gm_status gm_measure_write(const gm_ctx *ctx, const char *json, gm_model *sampled, const gm_data *data, const char *folder,
                           const char *command, bool force, gm_error *err) {
    const char *obsolete[GM_COUNT(tables) + 3] = {"sample.safetensors", "report.html"}; /* of a measurement that stood here */
    for (int i = 0; i < GM_COUNT(tables); i++)
        obsolete[i + 2] = tables[i].file;
    gm_folder f = {.fd = -1};
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    const char *schema = json_string_value(json_object_get(root, "schema"));
    gm_status status = schema && strcmp(schema, "ghostmax.measure/1") == 0 ? gm_measure_check_folder(folder, force, err)
                                                                           : gm_fail(err, GM_EINVAL, "this is no measurement's JSON");
    if (status == GM_OK)
        status = gm_folder_open(&f, folder, err);
    if (status == GM_OK) {
        json_object_set_new(root, "made", gm_made_json(ctx, command));
        status = put(root, sampled, data, f.staging, err);
        if (status == GM_OK)
            status = gm_folder_commit(&f, "measure.json", obsolete, err);
        else
            gm_folder_abort(&f);
    }
    json_decref(root);
    return status;
}
