/* report.c -- one HTML page that needs nothing else: the page, its style, d3 and the drawing code are compiled in (report_assets.h, made
 * by tools/embed.cmake), the numbers are put in as JSON. Text from files never becomes markup: '<' is escaped in the JSON, and the page's
 * code only sets text. */
#include "gather.h"
#include "report_assets.h"
#include "report_page.h"

#include "ghostmax_model.h"

#include <stdlib.h>
#include <string.h>

/* The page stays below 5 MB: page_room.c leaves out what is too much. */
enum { PAGE_BYTES = 4700000, TEXT_MOST = 2000 };

/* ---- the data --------------------------------------------------------------------------------------------------------------------- */

/* Text is cut where it is longer than anyone reads. */
static json_t *clip_text(const json_t *text) {
    const char *s = json_string_value(text);
    size_t n = TEXT_MOST;
    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return json_sprintf("%.*s...", (int)n, s);
}

static void clip_texts(json_t *node) {
    const char *key;
    json_t *value;
    size_t i;
    void *next;
    if (json_is_object(node)) {
        json_object_foreach_safe(node, next, key, value) {
            if (json_is_string(value) && json_string_length(value) > TEXT_MOST)
                json_object_set_new(node, key, clip_text(value));
            else
                clip_texts(value);
        }
    } else if (json_is_array(node)) {
        json_array_foreach(node, i, value) {
            if (json_is_string(value) && json_string_length(value) > TEXT_MOST)
                json_array_set_new(node, i, clip_text(value));
            else
                clip_texts(value);
        }
    }
}

static gm_status dump(char **json, const json_t *data, gm_error *err) {
    *json = gm_json_dump(data, JSON_COMPACT | JSON_REAL_PRECISION(6));
    return *json ? GM_OK : gm_fail_memory(err, 1 << 20);
}

gm_status gm_report_json(const char *const *folders, int count, char **json, gm_error *err) {
    gm_gathered g = {json_array(), json_array(), json_array()};
    gm_status status = GM_OK;
    *json = NULL;
    for (int i = 0; i < count && status == GM_OK; i++)
        status = gm_gather_folder(&g, folders[i], err);
    json_t *groups = status == GM_OK ? gm_groups_of(&g) : NULL;
    json_t *data = json_pack("{s:s, s:s, s:o, s:o, s:o*}", "schema", "ghostmax.report/1", "version", GM_VERSION, "sources", g.sources,
                             "notes", g.notes, "groups", groups);
    if (status == GM_OK)
        status = data ? GM_OK : gm_fail_memory(err, 1 << 20);
    if (status == GM_OK) {
        const int64_t bytes = PAGE_BYTES - (int64_t)(gm_asset_html_size + gm_asset_css_size + gm_asset_js_size + gm_asset_d3_size);
        clip_texts(data);
        status = gm_fit_page(data, bytes, err);
    }
    if (status == GM_OK)
        status = dump(json, data, err);
    json_decref(data);
    json_decref(g.runs);
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
void gm_report_page(gm_text *page, const char *json) {
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
    gm_report_page(&page, json);
    free(json);
    gm_status status = page.failed ? gm_fail_memory(err, page.size) : gm_file_write(path, page.data, page.size, err);
    gm_text_free(&page);
    return status;
}
