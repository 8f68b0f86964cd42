/* faults.c -- linked into a second program, ghostmax-faults, with -Wl,--wrap for every function below: one chosen call of the library or
 * the command line fails, is short, or is the process's last.
 *
 *   GM_FAULT=NAME:N:HOW   the N-th call of NAME ("memory": any allocation, jansson's too; "parser": one in jansson's parser) does HOW: an
 * errno's number; "short" (read, write: one byte of them); "kill" (SIGKILL before the call; write: behind the first half)
 * GM_FAULT_SITES=FILE at the end, a line "NAME N" for the first call of every place in the code (told apart by the call stack), so that a
 * test can visit each place once
 *
 * Streams, the three standard ones included, read and write by the calls here.
 *
 * Used by tests/faults/faults.py and tests/crash/crash.py. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The functions with an errno, and what they return when they fail; allocations stand apart. */
#define CALLS(CALL) \
    CALL(open)      \
    CALL(openat)    \
    CALL(fopen)     \
    CALL(opendir)   \
    CALL(fdopendir) \
    CALL(readdir)   \
    CALL(stat)      \
    CALL(lstat)     \
    CALL(fstat)     \
    CALL(fstatat)   \
    CALL(access)    \
    CALL(realpath)  \
    CALL(mmap)      \
    CALL(munmap)    \
    CALL(read)      \
    CALL(write)     \
    CALL(lseek)     \
    CALL(fsync)     \
    CALL(close)     \
    CALL(rename)    \
    CALL(link)      \
    CALL(unlink)    \
    CALL(unlinkat)  \
    CALL(mkdir)     \
    CALL(truncate)  \
    CALL(ftruncate) \
    CALL(flock)

typedef enum call {
    CALL_memory,
    CALL_parser, /* allocations inside jansson's parser */
#define ENUM(name) CALL_##name,
    CALLS(ENUM)
#undef ENUM
        CALL_COUNT
} call;

static const char *const names[CALL_COUNT] = {"memory", "parser",
#define NAME(name) #name,
                                              CALLS(NAME)
#undef NAME
};

enum { HOW_SHORT = -1, HOW_KILL = -2, SITES = 1 << 16, STACK = 12 };

static atomic_long counts[CALL_COUNT];
static int fault_call = -1, fault_how;
static long fault_at;
static const char *sites_path;
static uint64_t sites[SITES];
static FILE *sites_file;
static _Thread_local bool inside; /* writing down a site calls some of these */

FILE *__real_fopen(const char *path, const char *mode);
static FILE *stream(int fd, const char *mode);

/* Before main, and before any thread. */
__attribute__((constructor)) static void begin(void) {
    const char *fault = getenv("GM_FAULT"), *colon = fault ? strchr(fault, ':') : NULL, *second = colon ? strchr(colon + 1, ':') : NULL;
    for (int i = 0; second && i < CALL_COUNT; i++) {
        if (strncmp(names[i], fault, (size_t)(colon - fault)) == 0 && !names[i][colon - fault])
            fault_call = i;
    }
    if (fault && fault_call < 0) {
        fprintf(stderr, "GM_FAULT='%s' names no call\n", fault);
        _exit(99);
    }
    if (second) {
        fault_at = atol(colon + 1);
        fault_how = strcmp(second + 1, "short") == 0 ? HOW_SHORT : strcmp(second + 1, "kill") == 0 ? HOW_KILL : atoi(second + 1);
    }
    sites_path = getenv("GM_FAULT_SITES");
    if (sites_path)
        sites_file = __real_fopen(sites_path, "we");
    stdin = stream(STDIN_FILENO, "r");
    stdout = stream(STDOUT_FILENO, "w");
    stderr = stream(STDERR_FILENO, "w");
    setvbuf(stderr, NULL, _IONBF, 0);
}

static void note_site(call c, long n) {
    void *stack[STACK];
    int depth = backtrace(stack, STACK);
    uint64_t h = 1469598103934665603u + (uint64_t)c;
    for (int i = 0; i < depth; i++)
        h = (h ^ (uint64_t)(uintptr_t)stack[i]) * 1099511628211u;
    for (uint64_t i = h % SITES;; i = (i + 1) % SITES) {
        if (sites[i] == h)
            return;
        if (!sites[i]) {
            sites[i] = h;
            fprintf(sites_file, "%s %ld\n", names[c], n);
            fflush(sites_file);
            return;
        }
    }
}

/* What is to be done to this call: 0 nothing, else fault_how. */
static int next(call c) {
    if (inside)
        return 0;
    long n = atomic_fetch_add(&counts[c], 1) + 1;
    if (sites_file) {
        int reason = errno;
        inside = true;
        note_site(c, n);
        inside = false;
        errno = reason;
    }
    if ((int)c != fault_call || n != fault_at)
        return 0;
    if (fault_how == HOW_KILL && c != CALL_write)
        raise(SIGKILL);
    if (fault_how > 0)
        errno = fault_how;
    return fault_how;
}

/* ---- memory */

static _Thread_local bool parsing;

#define FAILS_MEMORY(...)                                \
    do {                                                 \
        if (next(parsing ? CALL_parser : CALL_memory)) { \
            errno = ENOMEM;                              \
            return __VA_ARGS__;                          \
        }                                                \
    } while (0)

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t alignment, size_t n);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);

void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n) {
    FAILS_MEMORY(NULL);
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) {
    FAILS_MEMORY(NULL);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n) {
    FAILS_MEMORY(NULL);
    return __real_realloc(p, n);
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t n);
int __wrap_posix_memalign(void **p, size_t alignment, size_t n) {
    FAILS_MEMORY(ENOMEM);
    return __real_posix_memalign(p, alignment, n);
}

char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text) {
    FAILS_MEMORY(NULL);
    return __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t n);
char *__wrap_strndup(const char *text, size_t n) {
    FAILS_MEMORY(NULL);
    return __real_strndup(text, n);
}

/* jansson is a shared library, which is not linked with --wrap; first of all, so that the program's own watchers stand above it. */
static void *faulty_json_malloc(size_t n) {
    FAILS_MEMORY(NULL);
    return __real_malloc(n);
}

__attribute__((constructor(101))) static void begin_json(void) {
    json_set_alloc_funcs(faulty_json_malloc, free);
}

json_t *__real_json_loadb(const char *bytes, size_t n, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *bytes, size_t n, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *bytes, size_t n, size_t flags, json_error_t *error) {
    parsing = true;
    json_t *root = __real_json_loadb(bytes, n, flags, error);
    parsing = false;
    return root;
}

json_t *__real_json_loads(const char *text, size_t flags, json_error_t *error);
json_t *__wrap_json_loads(const char *text, size_t flags, json_error_t *error);
json_t *__wrap_json_loads(const char *text, size_t flags, json_error_t *error) {
    parsing = true;
    json_t *root = __real_json_loads(text, flags, error);
    parsing = false;
    return root;
}

/* ---- calls of the system */

#define FAILS(name, value)         \
    do {                           \
        if (next(CALL_##name) > 0) \
            return value;          \
    } while (0)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    FAILS(open, -1);
    return __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...) {
    FAILS(openat, -1);
    return __real_openat(folder, path, flags); /* never to create */
}

FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode) {
    FAILS(fopen, NULL);
    int fd = __real_open(path, O_RDONLY | O_CLOEXEC); /* never to write */
    return fd >= 0 ? stream(fd, mode) : NULL;
}

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path) {
    FAILS(opendir, NULL);
    return __real_opendir(path);
}

DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd) {
    FAILS(fdopendir, NULL);
    return __real_fdopendir(fd);
}

struct dirent *__real_readdir(DIR *folder);
struct dirent *__wrap_readdir(DIR *folder);
struct dirent *__wrap_readdir(DIR *folder) {
    FAILS(readdir, NULL);
    return __real_readdir(folder);
}

int __real_stat(const char *path, struct stat *info);
int __wrap_stat(const char *path, struct stat *info);
int __wrap_stat(const char *path, struct stat *info) {
    FAILS(stat, -1);
    return __real_stat(path, info);
}

int __real_lstat(const char *path, struct stat *info);
int __wrap_lstat(const char *path, struct stat *info);
int __wrap_lstat(const char *path, struct stat *info) {
    FAILS(lstat, -1);
    return __real_lstat(path, info);
}

int __real_fstat(int fd, struct stat *info);
int __wrap_fstat(int fd, struct stat *info);
int __wrap_fstat(int fd, struct stat *info) {
    FAILS(fstat, -1);
    return __real_fstat(fd, info);
}

int __real_fstatat(int folder, const char *path, struct stat *info, int flags);
int __wrap_fstatat(int folder, const char *path, struct stat *info, int flags);
int __wrap_fstatat(int folder, const char *path, struct stat *info, int flags) {
    FAILS(fstatat, -1);
    return __real_fstatat(folder, path, info, flags);
}

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode) {
    FAILS(access, -1);
    return __real_access(path, mode);
}

char *__real_realpath(const char *path, char *whole);
char *__wrap_realpath(const char *path, char *whole);
char *__wrap_realpath(const char *path, char *whole) {
    FAILS(realpath, NULL);
    return __real_realpath(path, whole);
}

void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    FAILS(mmap, MAP_FAILED);
    return __real_mmap(at, n, protection, flags, fd, offset);
}

int __real_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n) {
    FAILS(munmap, -1);
    return __real_munmap(at, n);
}

ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n) {
    int how = next(CALL_read);
    if (how > 0)
        return -1;
    return __real_read(fd, bytes, how == HOW_SHORT && n > 1 ? 1 : n);
}

ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n) {
    int how = next(CALL_write);
    if (how > 0)
        return -1;
    if (how == HOW_SHORT && n > 1)
        n = 1;
    if (how == HOW_KILL) {
        if (__real_write(fd, bytes, n / 2) >= 0)
            raise(SIGKILL);
        raise(SIGKILL);
    }
    return __real_write(fd, bytes, n);
}

off_t __real_lseek(int fd, off_t n, int from);
off_t __wrap_lseek(int fd, off_t n, int from);
off_t __wrap_lseek(int fd, off_t n, int from) {
    FAILS(lseek, -1);
    return __real_lseek(fd, n, from);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
    FAILS(fsync, -1);
    return __real_fsync(fd);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) {
    int how = next(CALL_close), result = __real_close(fd); /* gone in any case, as Linux does it */
    if (how <= 0)
        return result;
    errno = how;
    return -1;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    FAILS(rename, -1);
    return __real_rename(from, to);
}

int __real_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to) {
    FAILS(link, -1);
    return __real_link(from, to);
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path) {
    FAILS(unlink, -1);
    return __real_unlink(path);
}

int __real_unlinkat(int folder, const char *path, int flags);
int __wrap_unlinkat(int folder, const char *path, int flags);
int __wrap_unlinkat(int folder, const char *path, int flags) {
    FAILS(unlinkat, -1);
    return __real_unlinkat(folder, path, flags);
}

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode) {
    FAILS(mkdir, -1);
    return __real_mkdir(path, mode);
}

int __real_truncate(const char *path, off_t n);
int __wrap_truncate(const char *path, off_t n);
int __wrap_truncate(const char *path, off_t n) {
    FAILS(truncate, -1);
    return __real_truncate(path, n);
}

int __real_ftruncate(int fd, off_t n);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_ftruncate(int fd, off_t n) {
    FAILS(ftruncate, -1);
    return __real_ftruncate(fd, n);
}

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation) {
    FAILS(flock, -1);
    return __real_flock(fd, operation);
}

/* ---- streams: what the C library does with read and write, by those above. It writes until all is out. */

static ssize_t stream_read(void *fd, char *bytes, size_t n) {
    return __wrap_read((int)(intptr_t)fd, bytes, n);
}

static ssize_t stream_write(void *fd, const char *bytes, size_t n) {
    size_t done = 0;
    for (ssize_t more = 1; done < n && more > 0; done += more > 0 ? (size_t)more : 0)
        more = __wrap_write((int)(intptr_t)fd, bytes + done, n - done);
    return (ssize_t)done;
}

static int stream_close(void *fd) {
    return __wrap_close((int)(intptr_t)fd);
}

static FILE *stream(int fd, const char *mode) {
    return fopencookie((void *)(intptr_t)fd, mode, (cookie_io_functions_t){stream_read, stream_write, NULL, stream_close});
}
