/* file.c -- mapped reading, atomic writing, folders, the clock. */
#define _GNU_SOURCE
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const uint8_t empty_file[1];

gm_status gm_file_open(gm_file *file, const char *path, gm_error *err) {
    *file = (gm_file){.data = empty_file};
    if ((size_t)snprintf(file->path, sizeof file->path, "%s", path) >= sizeof file->path)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer is answered too */
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

/* ---- writing */

enum { BUFFER_BYTES = 1 << 16 };

bool gm_fd_write(int fd, const void *bytes, size_t n) {
    for (const uint8_t *p = bytes; n > 0;) {
        ssize_t written = write(fd, p, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written < 0 ? errno : EIO;
            return false;
        }
        p += written;
        n -= (size_t)written;
    }
    return true;
}

/* Locked, so that a sweep knows a living writer's file from a dead one's; a sweep may have come between its making and its lock. */
static int open_temporary(char *name, size_t size, const char *path) {
    for (int k = 0; k < 100; k++) {
        if ((size_t)snprintf(name, size, "%s" GM_TEMPORARY "%ld-%d.tmp", path, (long)getpid(), k) >= size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        struct stat info;
        if (fd < 0 && errno != EEXIST)
            return -1;
        if (fd >= 0 && (flock(fd, LOCK_EX) != 0 || fstat(fd, &info) != 0 || info.st_nlink > 0))
            return fd;
        if (fd >= 0)
            close(fd);
    }
    errno = EEXIST;
    return -1;
}

/* What will be replaced: where a link leads, and never a device or a pipe, which a rename would put a file in the place of. */
static gm_status find_target(char target[1024], const char *path, gm_error *err) {
    struct stat info = {0};
    char *end = NULL;
    bool known = lstat(path, &info) == 0 || errno == ENOENT;
    if (known && S_ISLNK(info.st_mode))
        known = (end = realpath(path, NULL)) != NULL || errno == ENOENT; /* a link to nothing is replaced itself */
    if (!known)
        return gm_fail_errno(err, "cannot write '%s'", path);
    const size_t n = (size_t)snprintf(target, 1024, "%s", end ? end : path);
    free(end);
    if (n >= 1024)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    if (stat(target, &info) == 0 && !S_ISREG(info.st_mode))
        return gm_fail(err, GM_EIO, "cannot write '%s': it is %s; choose another name", path,
                       S_ISDIR(info.st_mode) ? "a folder" : "a device or a pipe, not a file");
    return GM_OK;
}

gm_status gm_writer_open(gm_writer *w, const char *path, gm_error *err) {
    *w = (gm_writer){.fd = -1};
    GM_TRY(find_target(w->path, path, err));
    w->buffer = gm_alloc(BUFFER_BYTES, 1);
    if (!w->buffer)
        return gm_fail_memory(err, BUFFER_BYTES);
    gm_path_sweep(w->path);
    w->fd = open_temporary(w->temporary, sizeof w->temporary, w->path);
    if (w->fd >= 0)
        return GM_OK;
    gm_status status = gm_fail_errno(err, "cannot write '%s'", path);
    gm_free(w->buffer);
    return status;
}

static void pass_on(gm_writer *w, const void *bytes, size_t n) {
    if (!w->failed && !gm_fd_write(w->fd, bytes, n))
        w->failed = errno;
}

void gm_writer_put(gm_writer *w, const void *bytes, size_t n) {
    if (w->memory) {
        gm_text_bytes(w->memory, bytes, n);
        return;
    }
    if (w->buffered + n > BUFFER_BYTES) {
        pass_on(w, w->buffer, w->buffered);
        w->buffered = 0;
    }
    if (n > BUFFER_BYTES) {
        pass_on(w, bytes, n);
    } else if (n) {
        memcpy(w->buffer + w->buffered, bytes, n);
        w->buffered += n;
    }
}

static int sync_retried(int fd) {
    int result;
    do
        result = fsync(fd);
    while (result != 0 && errno == EINTR);
    return result;
}

gm_status gm_writer_commit(gm_writer *w, gm_error *err) {
    pass_on(w, w->buffer, w->buffered);
    if (!w->failed && sync_retried(w->fd) != 0)
        w->failed = errno;
    if (!w->failed && rename(w->temporary, w->path) != 0)
        w->failed = errno;
    if (w->failed) {
        int reason = w->failed;
        gm_writer_abort(w);
        errno = reason;
        return gm_fail_errno(err, "cannot write '%s'; what was there before is unchanged", w->path);
    }
    close(w->fd); /* synced: nothing is left that could fail */
    gm_free(w->buffer);
    char folder[1024];
    gm_path_parent(folder, w->path);
    return gm_dir_sync(folder, err);
}

void gm_writer_abort(gm_writer *w) {
    close(w->fd);
    unlink(w->temporary);
    gm_free(w->buffer);
    w->fd = -1;
    w->buffer = NULL;
}

gm_status gm_file_write(const char *path, const void *bytes, size_t n, gm_error *err) {
    gm_writer w;
    GM_TRY(gm_writer_open(&w, path, err));
    gm_writer_put(&w, bytes, n);
    return gm_writer_commit(&w, err);
}

/* ---- folders and names */

gm_status gm_dir_sync(const char *folder, gm_error *err) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) /* may be written to but not read: then not synced either */
        return GM_OK;
    gm_status status = GM_OK;
    if (sync_retried(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        status = gm_fail_errno(err, "cannot make sure that what was written into '%s' lasts", folder);
    close(fd);
    return status;
}

void gm_path_parent(char dst[1024], const char *path) {
    snprintf(dst, 1024, "%s", path);
    char *slash = strrchr(dst, '/');
    if (slash)
        slash[slash == dst] = 0;
    else
        strcpy(dst, ".");
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

/* What cannot be looked at may well be there: whoever opens it will say why not, and nobody starts anew over it. */
bool gm_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

struct dirent *gm_dir_next(DIR *dir, const char *folder, gm_status *status, gm_error *err) {
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (!entry && errno)
        *status = gm_fail_errno(err, "cannot read the folder '%s'", folder);
    return entry;
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

bool gm_path_is_plain(const char *name) {
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strpbrk(name, "/\\");
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
