/* fuzz_run.c -- what a report is made of: lab.json, train.json, measure.json, quant.json, metrics.jsonl and sample.safetensors, a zero byte
 * between each and the next. JSON files get the checksum that belongs to them, so that what stands behind it is reached, and read again are
 * the same. A report is refused, or the same every time. */
#include "fuzz_folder.h"
#include "ghostmax_model.h"
#include "store.h"

static const char *const names[] = {"lab.json", "train.json", "measure.json", "quant.json", "metrics.jsonl", "sample.safetensors"};
enum { FILES = GM_COUNT(names), STORED = 4, LOG = 4 };

static void put(const char *path, const uint8_t *bytes, size_t n, bool stored) {
    gm_error err;
    json_t *root = stored ? json_loadb((const char *)bytes, n, JSON_REJECT_DUPLICATES, NULL) : NULL, *back;
    if (json_is_object(root)) {
        FUZZ_CHECK(gm_store_write(root, path, &err) == GM_OK);
        FUZZ_CHECK(gm_store_read(&back, path, "", &err) == GM_OK && json_equal(root, back));
        json_decref(back);
    } else if (n)
        fuzz_file(path, bytes, n);
    json_decref(root);
}

bool fuzz_input(const uint8_t *data, size_t size) {
    char path[600];
    if (fuzz_folder_begin()) {
        gm_error err;
        FUZZ_CHECK(gm_dir_make(fuzz_path("in/runs/r"), &err) == GM_OK);
    }
    const bool in_lab = size && data[0];
    for (int i = 0; i < FILES; i++) {
        const uint8_t *zero = i + 1 < FILES && size ? memchr(data, 0, size) : NULL;
        const size_t n = zero ? (size_t)(zero - data) : size;
        snprintf(path, sizeof path, "%s/%s", fuzz_path(i == 0 || !in_lab ? "in" : "in/runs/r"), names[i]);
        put(path, data, n, i < STORED);
        data += n + (zero != NULL);
        size -= n + (zero != NULL);
    }
    const char *const folder = fuzz_path("in");
    char *json, *again, *text, *what;
    gm_error err = {.offset = -1};
    gm_status status = gm_report_json(&folder, 1, &json, &err);
    if (status == GM_OK) {
        FUZZ_CHECK(gm_report_json(&folder, 1, &again, &err) == GM_OK && strcmp(json, again) == 0);
        FUZZ_CHECK(gm_report_text(&folder, 1, &(gm_text_style){.width = 80}, &text, &err) == GM_OK);
        free(json);
        free(again);
        free(text);
    } else
        fuzz_refusal(status, &err, SIZE_MAX / 2);
    gm_error inner = {.offset = -1};
    if (gm_file_describe(folder, &what, &inner) != GM_OK)
        fuzz_refusal(inner.code, &inner, SIZE_MAX / 2);
    free(what);
    for (int i = 0; i < FILES; i++) {
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/%s", fuzz_path(k ? "in" : "in/runs/r"), names[i]);
            unlink(path);
        }
    }
    return status == GM_OK;
}
