/* jsonl.c -- the log is appended with single writes; what a killed run left beyond its saved state is cut when it is opened again. */
#include "jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

/* How many bytes of the file to keep: whole lines up to and including those of keep_step. */
static gm_status kept_bytes(const gm_file *file, int64_t keep_step, size_t *kept, gm_error *err) {
    const char *text = (const char *)file->data;
    for (*kept = 0; *kept < file->size;) {
        const char *end = memchr(text + *kept, '\n', file->size - *kept);
        if (!end) /* a line that was being written when the run was killed */
            return GM_OK;
        size_t length = (size_t)(end - (text + *kept));
        json_t *line = json_loadb(text + *kept, length, 0, NULL);
        if (!json_is_object(line)) {
            json_decref(line);
            return gm_fail_at(err, GM_EFORMAT, (int64_t)*kept, "%s: the line at byte %zu is not a JSON object; restore or remove the file",
                              file->path, *kept);
        }
        json_t *step = json_object_get(line, "step");
        bool past = keep_step < 0 || (json_is_integer(step) && json_integer_value(step) > keep_step);
        json_decref(line);
        if (past)
            return GM_OK;
        *kept += length + 1;
    }
    return GM_OK;
}

gm_status gm_jsonl_open(gm_jsonl *log, const char *path, int64_t keep_step, gm_error *err) {
    log->fd = -1;
    if ((size_t)snprintf(log->path, sizeof log->path, "%s", path) >= sizeof log->path)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    size_t kept = 0;
    if (keep_step >= 0 && gm_path_exists(path)) {
        gm_file file;
        GM_TRY(gm_file_open(&file, path, err));
        gm_status status = kept_bytes(&file, keep_step, &kept, err);
        gm_file_close(&file);
        GM_TRY(status);
    }
    log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log->fd < 0)
        return gm_fail_errno(err, "cannot write '%s'", path);
    if (ftruncate(log->fd, (off_t)kept) != 0) {
        gm_status status = gm_fail_errno(err, "cannot write '%s'", path);
        gm_jsonl_close(log);
        return status;
    }
    return GM_OK;
}

gm_status gm_jsonl_add(gm_jsonl *log, const char *line, gm_error *err) {
    gm_text text = {0};
    gm_text_add(&text, "%s\n", line);
    if (text.failed) {
        gm_text_free(&text);
        return gm_fail_memory(err, strlen(line));
    }
    gm_status status = GM_OK;
    const off_t end = lseek(log->fd, 0, SEEK_END);
    if (!gm_fd_write(log->fd, text.data, text.size)) {
        status = gm_fail_errno(err, "cannot write '%s'", log->path);
        if (end < 0 || ftruncate(log->fd, end) != 0) { /* half a line is as good as none: it is cut when the log is opened again */
        }
    }
    gm_text_free(&text);
    return status;
}

gm_status gm_jsonl_sync(gm_jsonl *log, gm_error *err) {
    while (fsync(log->fd) != 0) {
        if (errno != EINTR)
            return gm_fail_errno(err, "cannot write '%s'", log->path);
    }
    return GM_OK;
}

void gm_jsonl_close(gm_jsonl *log) {
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}
