/* text_input.c -- a whole file, or standard input, as a text. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEVICE_MOST = 64 << 20 };

static gm_status failed(gm_error *err, gm_status code, const char *what, const char *name, const char *advice) {
    *err = (gm_error){.code = code, .offset = -1};
    snprintf(err->msg, sizeof err->msg, "%s '%s'%s", what, name, advice);
    return code;
}

static gm_status read_all(FILE *f, const char *name, size_t most, char **text, size_t *size, gm_error *err) {
    size_t capacity = 0;
    struct stat info;
    if (fstat(fileno(f), &info) == 0 && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) && most > DEVICE_MOST)
        most = DEVICE_MOST; /* it may have no end */
    do {
        if (*size > most)
            return failed(err, GM_EINVAL, "more text than is of use here:", name, "; give a shorter one");
        if (*size == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            char *grown = realloc(*text, capacity);
            if (!grown)
                return failed(err, GM_ENOMEM, "out of memory while reading", name, "");
            *text = grown;
        }
        *size += fread(*text + *size, 1, capacity - *size, f);
    } while (!feof(f) && !ferror(f));
    return ferror(f) ? failed(err, GM_EIO, "cannot read", name, "; give a readable file, or - for standard input") : GM_OK;
}

gm_status cli_read_text(const char *path, size_t most, char **text, size_t *size, gm_error *err) {
    *text = NULL;
    *size = 0;
    if (strcmp(path, "-") == 0)
        return read_all(stdin, "standard input", most, text, size, err);
    FILE *f = fopen(path, "rb");
    if (!f)
        return failed(err, GM_EIO, "cannot open", path, "; give a readable file, or - for standard input");
    gm_status status = read_all(f, path, most, text, size, err);
    fclose(f);
    return status;
}
