/* run_folder.h -- a training run's folder, looked at from outside. */
#ifndef GM_TEST_RUN_FOLDER_H
#define GM_TEST_RUN_FOLDER_H

#include "model/model_cases.h"

#include <dirent.h>
#include <jansson.h>
#include <unistd.h>

static inline void remove_folder(const char *path) {
    DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));) {
        char inner[512];
        if (gm_path_join(inner, sizeof inner, path, e->d_name, NULL) == GM_OK && strcmp(e->d_name, ".") != 0 &&
            strcmp(e->d_name, "..") != 0 && unlink(inner) != 0)
            remove_folder(inner);
    }
    closedir(dir);
    rmdir(path);
}

static inline bool exists(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return gm_path_exists(path);
}

static inline gm_file contents(const char *folder, const char *name) {
    char path[512];
    gm_file file;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_OK(gm_file_open(&file, path, err));
    return file;
}

static inline void assert_same_file(const char *a, const char *b, const char *name) {
    gm_file x = contents(a, name), y = contents(b, name);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    gm_file_close(&x);
    gm_file_close(&y);
}

/* metrics.jsonl without what depends on the clock. */
static inline json_t *log_lines(const char *folder) {
    gm_file file = contents(folder, "metrics.jsonl");
    json_t *lines = json_array();
    for (size_t at = 0; at < file.size;) {
        const char *end = memchr(file.data + at, '\n', file.size - at);
        assert_non_null(end);
        size_t n = (size_t)(end - (const char *)(file.data + at));
        json_t *line = json_loadb((const char *)file.data + at, n, 0, NULL);
        assert_non_null(line);
        json_object_del(line, "step_seconds");
        json_array_append_new(lines, line);
        at += n + 1;
    }
    gm_file_close(&file);
    return lines;
}

static inline void assert_same_run(const char *a, const char *b) {
    assert_same_file(a, b, "model.safetensors");
    assert_same_file(a, b, "config.json");
    assert_same_file(a, b, "tokenizer.json");
    json_t *x = log_lines(a), *y = log_lines(b);
    assert_true(json_equal(x, y));
    json_decref(x);
    json_decref(y);
}

#endif
