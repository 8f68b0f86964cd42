/* base.h -- what every room needs: errors, memory, numbers from counters, text, files.
 * The library's one status type and gm_error are public (ghostmax.h). */
#ifndef GM_BASE_H
#define GM_BASE_H

#include "ghostmax.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>

#define GM_MIN(a, b) ((a) < (b) ? (a) : (b))
#define GM_MAX(a, b) ((a) > (b) ? (a) : (b))
#define GM_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* ---- errors: fill err (may be NULL) and return code, so that `return gm_fail(err, GM_EINVAL, "...", ...)` reads as one step. */
gm_status gm_fail(gm_error *err, gm_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
gm_status gm_fail_at(gm_error *err, gm_status code, int64_t offset, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The system's reason (errno) appended: "cannot open x: No such file or directory". */
gm_status gm_fail_errno(gm_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
gm_status gm_fail_memory(gm_error *err, size_t bytes);

#define GM_TRY(expression)                       \
    do {                                         \
        gm_status gm_try_status_ = (expression); \
        if (gm_try_status_ != GM_OK)             \
            return gm_try_status_;               \
    } while (0)
/* The same for functions that clean up: sets `status` and goes to `done`. */
#define GM_TRY_GOTO(expression) \
    do {                        \
        status = (expression);  \
        if (status != GM_OK)    \
            goto done;          \
    } while (0)

/* ---- memory: 64-byte aligned, zeroed; freed by gm_free. NULL on failure; n * size is overflow-checked. */
void *gm_alloc(size_t n, size_t size);
void gm_free(void *p);
/* How many gm_alloc calls this process has made: a training step's count must not change (tests/). */
int64_t gm_alloc_count(void);

/* ---- random numbers: pure functions of (key, counter), so any element can be made in any order by any thread. */
uint64_t gm_rng_key(uint64_t seed, const char *name); /* a stream of its own per (seed, name) */
uint64_t gm_rng_u64(uint64_t key, uint64_t counter);
double gm_rng_uniform(uint64_t key, uint64_t counter);           /* [0, 1), 53 bits */
double gm_rng_normal(uint64_t key, uint64_t counter);            /* N(0, 1), Box-Muller */
int64_t gm_rng_below(uint64_t key, uint64_t counter, int64_t n); /* 0 .. n-1, n >= 1 */
uint64_t gm_hash(const void *bytes, size_t n, uint64_t seed);    /* stable across machines; used for splits and identities */
uint64_t gm_checksum(const void *bytes, size_t n);               /* stable too, at the speed of memory: for the content of files */

/* ---- growing text. A failed append sets failed; the text stays valid. */
typedef struct gm_text {
    char *data; /* NUL-terminated, or NULL while empty */
    size_t size, capacity;
    bool failed;
} gm_text;
void gm_text_add(gm_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gm_text_bytes(gm_text *t, const void *bytes, size_t n);
void gm_text_free(gm_text *t);

/* ---- JSON: json_dumps, but NULL too where the value may lack something because memory ran out while this thread made it. */
struct json_t;
char *gm_json_dump(const struct json_t *root, size_t flags); /* root may be NULL; freed with free() */
bool gm_json_starved(void);                                  /* for values that are used without becoming a text */
void gm_json_forget(void);                                   /* it has been answered for: gm_fail_memory calls this */
struct json_t *gm_json_from_text(gm_text *t);                /* *t as a string, and freed; a failed one counts as memory that ran out */

/* ---- files */
typedef struct gm_file {
    const uint8_t *data; /* mapped read-only; never NULL after open, size may be 0 */
    size_t size;
    char path[1024];
} gm_file;
/* Errors say what to do; a directory, a missing or unreadable file each have their own words. */
gm_status gm_file_open(gm_file *file, const char *path, gm_error *err);
void gm_file_close(gm_file *file);

/* Atomic writing: bytes go to a temporary name beside `path` ("x.ghostmax-PID-0.tmp"); commit syncs and renames; abort removes it. Whoever
 * reads `path` sees the old file or the whole new one, through a kill and a power cut. A link stays: its file is replaced. A device or a
 * pipe is refused (GM_EIO): it would be replaced by a file (as root, /dev/null too). What a killed process left is removed by the next
 * writer of the same name, and by gm_dir_sweep. */
#define GM_TEMPORARY ".ghostmax-" /* then a process's id, a number and ".tmp" */
typedef struct gm_writer {
    int fd;
    gm_text *memory; /* not NULL: bytes are appended to this text instead, and nothing is committed */
    uint8_t *buffer;
    size_t buffered;
    char path[1024], temporary[1088];
    int failed; /* errno of the first failure */
} gm_writer;
gm_status gm_writer_open(gm_writer *w, const char *path, gm_error *err);
void gm_writer_put(gm_writer *w, const void *bytes, size_t n); /* errors are kept until commit */
gm_status gm_writer_commit(gm_writer *w, gm_error *err);
void gm_writer_abort(gm_writer *w);
/* The whole of it in one call. */
gm_status gm_file_write(const char *path, const void *bytes, size_t n, gm_error *err);
/* All of it, whatever the system takes at a time; false: errno says why. */
bool gm_fd_write(int fd, const void *bytes, size_t n);

/* Files that belong together, written as one: they are made in `staging`, and commit brings them to `path` at once where that does not
 * exist yet. Else one by one, `last` as the last (NULL: any order); where the folder has another `last` already, that goes first. So a
 * folder that has the file `last` is whole. `obsolete` (ended by NULL; NULL: none) are patterns (fnmatch) of files of the folder that go
 * where the new set has none of that name. Test: tests/base/test_folder.c */
typedef struct gm_folder {
    char path[1024], staging[1088];
    int fd;
} gm_folder;
gm_status gm_folder_open(gm_folder *f, const char *path, gm_error *err);
gm_status gm_folder_commit(gm_folder *f, const char *last, const char *const *obsolete, gm_error *err);
void gm_folder_abort(gm_folder *f);

/* Removes what killed writers left in a folder; what living ones have in the making stays. */
void gm_dir_sweep(const char *folder);
/* The same for what was to become `path`. */
void gm_path_sweep(const char *path);
/* Makes new names in a folder outlast a power cut. */
gm_status gm_dir_sync(const char *folder, gm_error *err);

/* One process at a time works in a folder: an advisory lock on folder/.ghostmax.lock, which ends with its process, however that ends. A
 * second one is refused (GM_EIO) with the first one's id and machine. Where the file system has no locks (some network ones), everyone gets
 * it. Test: tests/base/test_folder.c, tests/cli/cli_crash.py */
typedef struct gm_lock {
    int fd; /* -1: not taken */
    char path[1024];
} gm_lock;
#define GM_UNLOCKED ((gm_lock){.fd = -1})
#define GM_LOCK_NAME ".ghostmax.lock"
gm_status gm_lock_take(gm_lock *lock, const char *folder, gm_error *err);
/* The same on a file of any name, where being second is no error: *busy. */
gm_status gm_lock_try(gm_lock *lock, const char *path, bool *busy, gm_error *err);
void gm_lock_release(gm_lock *lock); /* not taken: fine */

gm_status gm_dir_make(const char *path, gm_error *err); /* like mkdir -p; an existing folder is fine */
bool gm_path_exists(const char *path);
/* The next entry of a folder; NULL behind the last one, and with an error in *status where that is not known. */
struct dirent *gm_dir_next(DIR *dir, const char *folder, gm_status *status, gm_error *err);
/* The first of `names` (ended by NULL) that stands in folder; NULL: none does. */
const char *gm_dir_has(const char *folder, const char *const *names);
bool gm_path_is_dir(const char *path);
void gm_path_parent(char dst[1024], const char *path); /* the folder that it is in: "." where it names none */
bool gm_path_is_plain(const char *name);               /* of something in a folder, and no way out of it */
/* dst = folder "/" name; GM_EINVAL when it does not fit. */
gm_status gm_path_join(char *dst, size_t n, const char *folder, const char *name, gm_error *err);

double gm_seconds(void); /* monotonic clock */

#endif
