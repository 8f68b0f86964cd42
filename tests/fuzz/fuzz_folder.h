/* fuzz_folder.h -- readers that open files by name: a folder of this process, in memory where the system has such, gone at its end. */
#ifndef GM_TEST_FUZZ_FOLDER_H
#define GM_TEST_FUZZ_FOLDER_H

#include "fuzz.h"

#include <dirent.h>
#include <unistd.h>

static char fuzz_root[64];

/* A path in the folder; good until the fourth call after it. */
static inline const char *fuzz_path(const char *name) {
    static char paths[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", fuzz_root, name);
    return paths[next];
}

static inline void fuzz_folder_clear(const char *folder) {
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < sizeof path && unlink(path) != 0) {
            fuzz_folder_clear(path);
            rmdir(path);
        }
    }
    if (d)
        closedir(d);
}

static inline void fuzz_folder_end(void) {
    fuzz_folder_clear(fuzz_root);
    rmdir(fuzz_root);
}

/* True: it was made just now. */
static inline bool fuzz_folder_begin(void) {
    if (*fuzz_root)
        return false;
    snprintf(fuzz_root, sizeof fuzz_root, "%s/ghostmax-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_CHECK(mkdtemp(fuzz_root));
    atexit(fuzz_folder_end);
    return true;
}

/* Without the syncs of a writer that must not lose anything. */
static inline void fuzz_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

/* The bytes up to the first zero as one file of the folder "in", those behind it as the other; false: there is none. */
static inline bool fuzz_two_files(const uint8_t *data, size_t size, const char *first, const char *second) {
    char path[600];
    gm_error err;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    if (!zero)
        return false;
    if (fuzz_folder_begin())
        FUZZ_CHECK(gm_dir_make(fuzz_path("in"), &err) == GM_OK);
    const size_t n = (size_t)(zero - data);
    snprintf(path, sizeof path, "%s/%s", fuzz_path("in"), first);
    fuzz_file(path, data, n);
    snprintf(path, sizeof path, "%s/%s", fuzz_path("in"), second);
    fuzz_file(path, zero + 1, size - n - 1);
    return true;
}

#endif
