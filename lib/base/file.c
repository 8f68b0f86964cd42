/* file.c -- mapped reading, atomic writing, folders, the clock. */
#define _GNU_SOURCE
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const uint8_t empty_file[1];

gm_status gm_file_open(gm_file *file, const char *path, gm_error *err) {
    *file = (gm_file){.data = empty_file};
    if ((size_t)snprintf(file->path, sizeof file->path, "%s", path) >= sizeof file->path)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return gm_fail_errno(err, "cannot open '%s'", path);
    gm_status status = GM_OK;
    struct stat info;
    if (fstat(fd, &info) != 0)
        status = gm_fail_errno(err, "cannot read '%s'", path);
    else if (S_ISDIR(info.st_mode))
        status = gm_fail(err, GM_EIO, "'%s' is a folder; give a file", path);
    else if (!S_ISREG(info.st_mode))
        status = gm_fail(err, GM_EIO, "'%s' is not a regular file; copy it to one first", path);
    else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = gm_fail_errno(err, "cannot map '%s'", path);
        else {
            file->data = data;
            file->size = (size_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

void gm_file_close(gm_file *file) {
    if (file->data && file->data != empty_file)
        munmap((void *)file->data, file->size);
    *file = (gm_file){.data = empty_file};
}

gm_status gm_writer_open(gm_writer *w, const char *path, gm_error *err) {
    *w = (gm_writer){0};
    if ((size_t)snprintf(w->path, sizeof w->path, "%s", path) >= sizeof w->path)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    snprintf(w->temporary, sizeof w->temporary, "%s.tmp-%ld", path, (long)getpid());
    w->stream = fopen(w->temporary, "wbe");
    if (!w->stream)
        return gm_fail_errno(err, "cannot write '%s'", path);
    return GM_OK;
}

void gm_writer_put(gm_writer *w, const void *bytes, size_t n) {
    if (n && fwrite(bytes, 1, n, w->stream) != n)
        w->failed = true;
}

gm_status gm_writer_commit(gm_writer *w, gm_error *err) {
    bool ok = !w->failed && fflush(w->stream) == 0 && fsync(fileno(w->stream)) == 0;
    int reason = errno;
    if (fclose(w->stream) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    w->stream = NULL;
    if (ok && rename(w->temporary, w->path) == 0)
        return GM_OK;
    if (ok)
        reason = errno;
    unlink(w->temporary);
    errno = reason;
    return gm_fail_errno(err, "cannot write '%s'; what was there before is unchanged", w->path);
}

void gm_writer_abort(gm_writer *w) {
    fclose(w->stream);
    w->stream = NULL;
    unlink(w->temporary);
}

gm_status gm_file_write(const char *path, const void *bytes, size_t n, gm_error *err) {
    gm_writer w;
    GM_TRY(gm_writer_open(&w, path, err));
    gm_writer_put(&w, bytes, n);
    return gm_writer_commit(&w, err);
}

gm_status gm_dir_make(const char *path, gm_error *err) {
    char part[1024];
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char kept = *p;
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return gm_fail_errno(err, "cannot make folder '%s'", part);
        *p = kept;
        if (!kept)
            break;
    }
    if (!gm_path_is_dir(path))
        return gm_fail(err, GM_EIO, "'%s' is a file, not a folder; choose another name", path);
    return GM_OK;
}

bool gm_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

const char *gm_dir_has(const char *folder, const char *const *names) {
    char path[1024];
    while (*names && (gm_path_join(path, sizeof path, folder, *names, NULL) != GM_OK || !gm_path_exists(path)))
        names++;
    return *names;
}

bool gm_path_is_dir(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

gm_status gm_path_join(char *dst, size_t n, const char *folder, const char *name, gm_error *err) {
    if ((size_t)snprintf(dst, n, "%s/%s", folder, name) >= n)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s/%s", folder, name);
    return GM_OK;
}

double gm_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
