/* status.c -- filling gm_error. */
#include "base.h"

#include <errno.h>
#include <string.h>

/* What was found wrong in a JSON value that memory ran out for is not what is wrong. */
static bool is_starvation(gm_status code) {
    return gm_json_starved() && (code == GM_EFORMAT || code == GM_EINVAL || code == GM_EUNSUPPORTED);
}

static gm_status fail_va(gm_error *err, gm_status code, int64_t offset, const char *format, va_list args) {
    if (is_starvation(code))
        return gm_fail_memory(err, 4096);
    if (err) {
        err->code = code;
        err->offset = offset;
        vsnprintf(err->msg, sizeof err->msg, format, args);
        /* One line, whatever a file name or a file's content brought in. */
        for (char *p = err->msg; *p; p++) {
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                *p = ' ';
        }
    }
    return code;
}

gm_status gm_fail(gm_error *err, gm_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    code = fail_va(err, code, -1, format, args);
    va_end(args);
    return code;
}

gm_status gm_fail_at(gm_error *err, gm_status code, int64_t offset, const char *format, ...) {
    va_list args;
    va_start(args, format);
    code = fail_va(err, code, offset, format, args);
    va_end(args);
    return code;
}

gm_status gm_fail_errno(gm_error *err, const char *format, ...) {
    int reason = errno;
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return gm_fail(err, GM_EIO, "%s: %s", what, strerror(reason));
}

gm_status gm_fail_memory(gm_error *err, size_t bytes) {
    gm_json_forget();
    bool giga = bytes >= 1000000000;
    return gm_fail(err, GM_ENOMEM, "cannot get %.1f %s of memory; use a smaller model, batch or context",
                   (double)bytes / (giga ? 1e9 : 1e6), giga ? "GB" : "MB");
}
