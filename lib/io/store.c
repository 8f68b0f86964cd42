/* store.c -- JSON files that know when they were altered: a checksum over the compact, key-sorted text of everything else in them. */
#include "store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static gm_status checksum_of(char checksum[17], json_t *root, gm_error *err) {
    json_t *rest = json_copy(root);
    json_object_del(rest, "checksum");
    char *text = rest ? gm_json_dump(rest, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(rest);
    if (!text)
        return gm_fail_memory(err, 1 << 16);
    snprintf(checksum, 17, "%016" PRIx64, gm_hash(text, strlen(text), 0));
    free(text);
    return GM_OK;
}

/* Schemas from before there were checksums. */
static bool may_lack_checksum(const json_t *root) {
    const char *schema = json_string_value(json_object_get(root, "schema"));
    return schema && strcmp(schema, "ghostmax.train/1") == 0;
}

gm_status gm_store_write(json_t *root, const char *path, gm_error *err) {
    char checksum[17];
    GM_TRY(checksum_of(checksum, root, err));
    json_object_set_new(root, "checksum", json_string(checksum));
    char *text = gm_json_dump(root, JSON_INDENT(2));
    if (!text)
        return gm_fail_memory(err, 1 << 16);
    gm_text file = {0};
    gm_text_add(&file, "%s\n", text);
    free(text);
    gm_status status = file.failed ? gm_fail_memory(err, 1 << 16) : gm_file_write(path, file.data, file.size, err);
    gm_text_free(&file);
    return status;
}

gm_status gm_store_read(json_t **root, const char *path, const char *advice, gm_error *err) {
    json_error_t where;
    gm_file file;
    char checksum[17];
    *root = NULL;
    if (!gm_path_exists(path))
        return GM_OK;
    GM_TRY(gm_file_open(&file, path, err));
    json_t *read = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &where);
    gm_file_close(&file);
    if (!read)
        return gm_fail_at(err, GM_EFORMAT, where.position, "'%s' is damaged: %s, line %d; %s", path, where.text, where.line, advice);
    const char *stored = json_string_value(json_object_get(read, "checksum"));
    gm_status status =
        json_is_object(read) ? checksum_of(checksum, read, err) : gm_fail(err, GM_EFORMAT, "'%s' is no object; %s", path, advice);
    if (status == GM_OK && (stored ? strcmp(stored, checksum) != 0 : !may_lack_checksum(read)))
        status = gm_fail(err, GM_EFORMAT, "'%s' was altered after it was written: its checksum does not fit its content; %s", path, advice);
    if (status != GM_OK) {
        json_decref(read);
        return status;
    }
    *root = read;
    return GM_OK;
}
