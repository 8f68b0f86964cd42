/* report.c -- one HTML page that needs nothing else: the page, its style, d3 and the drawing code are compiled in (report_assets.h, made
 * by tools/embed.cmake), the labs' numbers are put in as JSON. Text from files never becomes markup: '<' is escaped in the JSON, and
 * report.js only sets text. */
#define _GNU_SOURCE
#include "report_assets.h"
#include "store.h"

#include "ghostmax_model.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS_MAX = 500 }; /* of one curve: more is not seen on a screen */

static const char advice[] = "run the lab again: it writes it anew from the runs";

/* ---- the data --------------------------------------------------------------------------------------------------------------------- */

/* metrics.jsonl as an array; of plain lines only so many, of those with a measurement all. The line that a killed run did not finish is no
 * line. */
static gm_status read_log(json_t **out, const char *path, gm_error *err) {
    gm_file file;
    *out = json_array();
    if (!gm_path_exists(path))
        return GM_OK;
    GM_TRY(gm_file_open(&file, path, err));
    const char *text = (const char *)file.data, *last = file.size ? memrchr(text, '\n', file.size) : NULL, *end = last ? last + 1 : text;
    int64_t lines = 0, number = 0;
    for (const char *p = text; p < end; p++)
        lines += *p == '\n';
    int64_t every = lines / POINTS_MAX + 1;
    gm_status status = GM_OK;
    for (const char *p = text; p < end && status == GM_OK; number++) {
        size_t n = (size_t)((const char *)memchr(p, '\n', (size_t)(end - p)) - p);
        json_error_t where;
        json_t *line = n ? json_loadb(p, n, 0, &where) : NULL;
        if (n && !line)
            status = gm_fail_at(err, GM_EFORMAT, p - text + where.position, "'%s' is damaged: %s, line %lld", path, where.text,
                                (long long)number + 1);
        else if (line && (number % every == 0 || json_object_size(line) > 5 || number == lines - 1))
            json_array_append(*out, line);
        json_decref(line);
        p += n + 1;
    }
    gm_file_close(&file);
    return status;
}

/* What the page draws of measure.json. */
static json_t *thin_measure(const json_t *measured) {
    static const char *const kept[] = {"name", "site", "layer", "inf_norm", "inf_norm_without_first", "kurtosis", "kurtosis_without_first"};
    json_t *tensors = json_array(), *tensor;
    size_t i;
    json_array_foreach(json_object_get(measured, "tensors"), i, tensor) {
        json_t *thin = json_object();
        for (int k = 0; k < GM_COUNT(kept); k++)
            json_object_set(thin, kept[k], json_object_get(tensor, kept[k]));
        json_array_append_new(tensors, thin);
    }
    json_t *root = json_pack("{s:o}", "tensors", tensors);
    json_object_set(root, "heads", json_object_get(measured, "heads"));
    return root;
}

static gm_status add_run(json_t *runs, const char *folder, const char *name, gm_error *err) {
    char path[1024], file[512];
    json_t *log = NULL, *measured = NULL;
    snprintf(file, sizeof file, "runs/%s/metrics.jsonl", name);
    GM_TRY(gm_path_join(path, sizeof path, folder, file, err));
    gm_status status = read_log(&log, path, err);
    snprintf(file, sizeof file, "runs/%s/measure.json", name);
    if (status == GM_OK)
        status = gm_path_join(path, sizeof path, folder, file, err);
    if (status == GM_OK)
        status = gm_store_read(&measured, path, advice, err);
    if (status == GM_OK) {
        json_t *run = json_pack("{s:O}", "log", log);
        if (measured)
            json_object_set_new(run, "measure", thin_measure(measured));
        json_object_set_new(runs, name, run);
    }
    json_decref(log);
    json_decref(measured);
    return status;
}

/* The runs that lie in a folder whose results are not there yet. */
static gm_status add_unfinished(json_t *runs, const char *folder, gm_error *err) {
    char path[1024];
    GM_TRY(gm_path_join(path, sizeof path, folder, "runs", err));
    DIR *dir = opendir(path);
    if (!dir)
        return gm_fail_errno(err, "cannot read '%s'", path);
    gm_status status = GM_OK;
    for (struct dirent *entry; status == GM_OK && (entry = readdir(dir));) {
        if (entry->d_name[0] != '.')
            status = add_run(runs, folder, entry->d_name, err);
    }
    closedir(dir);
    return status;
}

static gm_status add_lab(json_t *labs, const char *folder, gm_error *err) {
    static const char *const lab_files[] = {"lab.json", NULL};
    char path[1024];
    json_t *results, *row, *run, *runs = json_object();
    size_t i, k;
    GM_TRY(gm_path_join(path, sizeof path, folder, "results.json", err));
    gm_status status = gm_store_read(&results, path, advice, err);
    if (status == GM_OK && !results)
        status = gm_dir_has(folder, lab_files)
                     ? add_unfinished(runs, folder, err)
                     : gm_fail(err, GM_EIO, "'%s' has no results.json and no lab.json; give the folder of a `ghostmax lab`", folder);
    json_array_foreach(json_object_get(results, "rows"), i, row) {
        json_array_foreach(json_object_get(row, "runs"), k, run) {
            const char *name = json_string_value(json_object_get(run, "folder"));
            if (status == GM_OK && name)
                status = add_run(runs, folder, name, err);
        }
    }
    if (status == GM_OK)
        json_array_append_new(labs, json_pack("{s:s, s:O?, s:O}", "folder", folder, "results", results, "runs", runs));
    json_decref(results);
    json_decref(runs);
    return status;
}

gm_status gm_report_json(const char *const *folders, int count, char **json, gm_error *err) {
    json_t *labs = json_array();
    gm_status status = GM_OK;
    *json = NULL;
    for (int i = 0; i < count && status == GM_OK; i++)
        status = add_lab(labs, folders[i], err);
    json_t *data = json_pack("{s:s, s:o}", "version", GM_VERSION, "labs", labs);
    if (status == GM_OK) {
        *json = json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(6));
        status = *json ? GM_OK : gm_fail_memory(err, 1 << 20);
    }
    json_decref(data);
    return status;
}

/* ---- the page ---------------------------------------------------------------------------------------------------------------------- */

static void add_data(gm_text *page, const char *json) {
    for (const char *p = json; *p;) {
        size_t n = strcspn(p, "<");
        gm_text_bytes(page, p, n);
        p += n;
        if (*p == '<') {
            gm_text_bytes(page, "\\u003c", 6);
            p++;
        }
    }
}

/* report.html with its {{css}}, {{d3}}, {{js}} and {{data}} filled in. */
static void add_page(gm_text *page, const char *json) {
    const struct {
        const char *marker;
        const unsigned char *bytes;
        size_t size;
    } parts[] = {{"{{css}}", gm_asset_css, gm_asset_css_size},
                 {"{{d3_license}}", gm_asset_d3_license, gm_asset_d3_license_size},
                 {"{{d3}}", gm_asset_d3, gm_asset_d3_size},
                 {"{{js}}", gm_asset_js, gm_asset_js_size},
                 {"{{data}}", NULL, 0}};
    const char *p = (const char *)gm_asset_html, *end = p + gm_asset_html_size;
    while (p < end) {
        const char *brace = memchr(p, '{', (size_t)(end - p));
        gm_text_bytes(page, p, (size_t)((brace ? brace : end) - p));
        if (!brace)
            return;
        p = brace;
        int i = 0;
        while (i < GM_COUNT(parts) && strncmp(p, parts[i].marker, GM_MIN(strlen(parts[i].marker), (size_t)(end - p))) != 0)
            i++;
        if (i == GM_COUNT(parts)) {
            gm_text_bytes(page, p++, 1);
            continue;
        }
        if (parts[i].bytes)
            gm_text_bytes(page, parts[i].bytes, parts[i].size);
        else
            add_data(page, json);
        p += strlen(parts[i].marker);
    }
}

gm_status gm_report_write(const char *const *folders, int count, const char *path, gm_error *err) {
    char *json;
    gm_text page = {0};
    GM_TRY(gm_report_json(folders, count, &json, err));
    add_page(&page, json);
    free(json);
    gm_status status = page.failed ? gm_fail_memory(err, page.size) : gm_file_write(path, page.data, page.size, err);
    gm_text_free(&page);
    return status;
}
