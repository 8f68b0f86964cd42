/* folder.c -- several files as one, what killed processes leave behind, and who works in a folder. */
#define _GNU_SOURCE
#include "base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- leftovers: temporary files and folders whose writer holds no lock on them any more ---------------------------------------------- */

static bool is_temporary(const char *name) {
    const char *mark = strstr(name, GM_TEMPORARY);
    const size_t n = strlen(name);
    return mark && n > 4 && strcmp(name + n - 4, ".tmp") == 0;
}

/* A folder of files and of such folders, no deeper than ours are. */
static void remove_tree(int parent, const char *name, int depth) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, e->d_name, 0) != 0 && depth > 0)
            remove_tree(fd, e->d_name, depth - 1);
    }
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void remove_dead(int parent, const char *name) {
    struct stat info;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)))
        return;
    const bool folder = S_ISDIR(info.st_mode);
    int fd = openat(parent, name, (folder ? O_RDONLY | O_DIRECTORY : O_WRONLY) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (folder)
            remove_tree(parent, name, 2);
        else
            unlinkat(parent, name, 0);
    }
    close(fd);
}

/* Those whose name begins with `start`. */
static void sweep(const char *folder, const char *start) {
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, start, strlen(start)) == 0 && is_temporary(e->d_name))
            remove_dead(dirfd(dir), e->d_name);
    }
    if (dir)
        closedir(dir);
}

void gm_dir_sweep(const char *folder) {
    sweep(folder, "");
}

void gm_path_sweep(const char *path) {
    char folder[1024], start[300];
    const char *slash = strrchr(path, '/');
    gm_path_parent(folder, path);
    if ((size_t)snprintf(start, sizeof start, "%s" GM_TEMPORARY, slash ? slash + 1 : path) < sizeof start)
        sweep(folder, start);
}

/* ---- several files as one --------------------------------------------------------------------------------------------------------------
 */

/* Inside the folder where that exists (the one above it may be another file system, or not ours to write), else beside it. */
static gm_status make_staging(gm_folder *f, gm_error *err) {
    const bool inside = gm_path_is_dir(f->path);
    for (int k = 0; k < 100; k++) {
        struct stat info;
        if ((size_t)snprintf(f->staging, sizeof f->staging, "%s%s" GM_TEMPORARY "%ld-%d.tmp", f->path, inside ? "/" : "", (long)getpid(),
                             k) >= sizeof f->path)
            return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", f->path);
        if (mkdir(f->staging, 0777) != 0) {
            if (errno == EEXIST)
                continue;
            return gm_fail_errno(err, "cannot write into '%s'", f->path);
        }
        f->fd = open(f->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (f->fd < 0 && errno == ENOENT) /* a sweep came first */
            continue;
        if (f->fd < 0) {
            gm_status status = gm_fail_errno(err, "cannot write into '%s'", f->path);
            rmdir(f->staging);
            return status;
        }
        if (flock(f->fd, LOCK_EX) != 0 || fstat(f->fd, &info) != 0 || info.st_nlink > 0) /* else it came now */
            return GM_OK;
        close(f->fd);
    }
    return gm_fail(err, GM_EIO, "cannot write into '%s': too many unfinished files; remove those that end in .tmp", f->path);
}

gm_status gm_folder_open(gm_folder *f, const char *path, gm_error *err) {
    char parent[1024];
    *f = (gm_folder){.fd = -1};
    size_t n = (size_t)snprintf(f->path, sizeof f->path, "%s", path);
    if (n >= sizeof f->path)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    while (n > 1 && f->path[n - 1] == '/')
        f->path[--n] = 0;
    if (gm_path_exists(f->path) && !gm_path_is_dir(f->path))
        return gm_fail(err, GM_EIO, "'%s' is a file, not a folder; choose another name", path);
    gm_path_parent(parent, f->path);
    GM_TRY(gm_dir_make(parent, err));
    gm_path_sweep(f->path);
    sweep(f->path, GM_TEMPORARY);
    return make_staging(f, err);
}

void gm_folder_abort(gm_folder *f) {
    if (f->fd < 0)
        return;
    remove_tree(AT_FDCWD, f->staging, 2);
    close(f->fd);
    f->fd = -1;
}

static bool same_bytes(const char *a, const char *b) {
    gm_file x, y;
    bool same = false;
    if (gm_file_open(&x, a, NULL) != GM_OK)
        return false;
    if (gm_file_open(&y, b, NULL) == GM_OK) {
        same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
        gm_file_close(&y);
    }
    gm_file_close(&x);
    return same;
}

static gm_status move_in(const gm_folder *f, const char *name, gm_error *err) {
    char from[1400], to[1400];
    GM_TRY(gm_path_join(from, sizeof from, f->staging, name, err));
    GM_TRY(gm_path_join(to, sizeof to, f->path, name, err));
    return rename(from, to) == 0 ? GM_OK : gm_fail_errno(err, "cannot write '%s'", to);
}

/* Away with it, unless the new set brings the same name (`kept`: or the same bytes). */
static gm_status make_room(const gm_folder *f, const char *name, bool same, gm_error *err) {
    char there[1400], new[1400];
    GM_TRY(gm_path_join(there, sizeof there, f->path, name, err));
    GM_TRY(gm_path_join(new, sizeof new, f->staging, name, err));
    if (same ? same_bytes(there, new) : gm_path_exists(new))
        return GM_OK;
    return unlink(there) == 0 || errno == ENOENT ? GM_OK : gm_fail_errno(err, "cannot replace '%s'", there);
}

/* Away with every file that a pattern names and the new set has not. */
static gm_status make_room_all(const gm_folder *f, const char *const *patterns, gm_error *err) {
    DIR *dir = opendir(f->path);
    gm_status status = dir ? GM_OK : gm_fail_errno(err, "cannot read '%s'", f->path);
    for (struct dirent *e; status == GM_OK && (e = gm_dir_next(dir, f->path, &status, err));) {
        int i = 0;
        while (patterns[i] && fnmatch(patterns[i], e->d_name, 0) != 0)
            i++;
        if (patterns[i])
            status = make_room(f, e->d_name, false, err);
    }
    if (dir)
        closedir(dir);
    return status;
}

static gm_status move_all(const gm_folder *f, const char *last, const char *const *obsolete, gm_error *err) {
    if (last)
        GM_TRY(make_room(f, last, true, err));
    if (obsolete)
        GM_TRY(make_room_all(f, obsolete, err));
    DIR *dir = opendir(f->staging);
    gm_status status = dir ? GM_OK : gm_fail_errno(err, "cannot read '%s'", f->staging);
    bool moved = true;
    while (dir && status == GM_OK && moved) { /* a folder that changes is read from its start */
        moved = false;
        rewinddir(dir);
        for (struct dirent *e; status == GM_OK && !moved && (e = gm_dir_next(dir, f->staging, &status, err));) {
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || (last && strcmp(e->d_name, last) == 0))
                continue;
            status = move_in(f, e->d_name, err);
            moved = true;
        }
    }
    if (dir)
        closedir(dir);
    if (status == GM_OK && last)
        status = gm_dir_sync(f->path, err);
    return status == GM_OK && last ? move_in(f, last, err) : status;
}

gm_status gm_folder_commit(gm_folder *f, const char *last, const char *const *obsolete, gm_error *err) {
    gm_status status = gm_dir_sync(f->staging, err);
    char parent[1024];
    gm_path_parent(parent, f->path);
    if (status == GM_OK && !gm_path_exists(f->path) && rename(f->staging, f->path) == 0) {
        close(f->fd);
        f->fd = -1;
        return gm_dir_sync(parent, err);
    }
    int fd = status == GM_OK ? open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0)
        flock(fd, LOCK_EX); /* two that bring files at once: one after the other */
    else if (status == GM_OK)
        status = gm_fail_errno(err, "cannot write into '%s'", f->path);
    if (status == GM_OK)
        status = move_all(f, last, obsolete, err);
    if (status == GM_OK)
        status = gm_dir_sync(f->path, err);
    if (fd >= 0)
        close(fd);
    gm_folder_abort(f);
    return status;
}

/* ---- who works here ---------------------------------------------------------------------------------------------------------------------
 */

/* What the one who has the lock wrote, "process 1234 on host"; "another process" where that cannot be read whole. */
static void read_holder(char *dst, size_t size, const char *path) {
    static const char before[] = "process ";
    const size_t skip = sizeof before - 1;
    snprintf(dst, size, "%s", before);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, dst + skip, size - skip - 1);
    dst[skip + (n > 0 ? (size_t)n : 0)] = 0;
    if (fd >= 0)
        close(fd);
    char *end = strchr(dst, '\n');
    if (end)
        *end = 0;
    else
        snprintf(dst, size, "another process");
}

gm_status gm_lock_try(gm_lock *lock, const char *path, bool *busy, gm_error *err) {
    *lock = GM_UNLOCKED;
    *busy = false;
    if (strlen(path) >= sizeof lock->path)
        return gm_fail(err, GM_EINVAL, "'%.100s...' is too long a name for a lock", path);
    strcpy(lock->path, path);
    for (int k = 0; k < 100; k++) {
        char host[128] = "", holder[200];
        struct stat mine, there;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0) {
            char folder[1024];
            gm_path_parent(folder, path);
            return gm_fail_errno(err, "cannot write into '%s'", folder);
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            close(fd);
            *busy = true;
            return GM_OK;
        }
        /* Its holder may have removed it between our opening and our lock. */
        if (fstat(fd, &mine) != 0 || stat(path, &there) != 0 || mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) {
            close(fd);
            continue;
        }
        gethostname(host, sizeof host - 1);
        int n = snprintf(holder, sizeof holder, "%ld on %s\n", (long)getpid(), host);
        if (ftruncate(fd, 0) == 0)
            gm_fd_write(fd, holder, (size_t)n); /* for the message alone: a full disk does not matter here */
        lock->fd = fd;
        return GM_OK;
    }
    return gm_fail(err, GM_EIO, "cannot lock '%s': it comes and goes; remove it", path);
}

gm_status gm_lock_take(gm_lock *lock, const char *folder, gm_error *err) {
    char path[1024], holder[200] = "";
    bool busy;
    *lock = GM_UNLOCKED;
    GM_TRY(gm_path_join(path, sizeof path, folder, GM_LOCK_NAME, err));
    GM_TRY(gm_lock_try(lock, path, &busy, err));
    if (!busy)
        return GM_OK;
    read_holder(holder, sizeof holder, path);
    return gm_fail(err, GM_EIO, "'%s' is being worked in by %s; wait for it to end, or choose another folder", folder, holder);
}

void gm_lock_release(gm_lock *lock) {
    if (lock->fd < 0)
        return;
    unlink(lock->path);
    close(lock->fd);
    lock->fd = -1;
}
