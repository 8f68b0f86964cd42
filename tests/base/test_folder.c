/* test_folder.c -- files and sets of files come whole; what dead writers left goes, what living ones have in the making stays; one at a
 * time works in a folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char base[] = "/tmp/gm-folder-XXXXXX";

static int setup(void **state) {
    (void)state;
    return mkdtemp(base) && chdir(base) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    return chdir("/") == 0 && rmdir(base) == 0 ? 0 : -1; /* every test leaves nothing */
}

static void put(const char *path, const char *text) {
    gm_error err;
    assert_int_equal(gm_file_write(path, text, strlen(text), &err), GM_OK);
}

static void has(const char *path, const char *text) {
    gm_file file;
    gm_error err;
    assert_int_equal(gm_file_open(&file, path, &err), GM_OK);
    assert_int_equal(file.size, strlen(text));
    assert_memory_equal(file.data, text, file.size);
    gm_file_close(&file);
}

static int entries(const char *folder) {
    DIR *dir = opendir(folder);
    int n = -2; /* . and .. */
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* ---- what lasts when the power goes: these stand before the system's functions of their names, and look at the order */

static ino_t synced[64]; /* the last ones */
static ino_t owed;       /* the folder in which something was renamed last, until it is synced */
static int syncs, too_early;

int fsync(int fd) {
    struct stat info;
    if (fstat(fd, &info) == 0) {
        synced[syncs++ % GM_COUNT(synced)] = info.st_ino;
        owed = info.st_ino == owed ? 0 : owed;
    }
    return fdatasync(fd);
}

int rename(const char *from, const char *to) {
    struct stat info = {0};
    char folder[1024];
    bool is_synced = false;
    stat(from, &info);
    for (int i = 0; i < GM_COUNT(synced); i++)
        is_synced |= synced[i] == info.st_ino;
    too_early += !is_synced;
    gm_path_parent(folder, to);
    if (stat(folder, &info) == 0)
        owed = info.st_ino;
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

static void lasts(void) {
    assert_int_equal(too_early, 0);
    assert_true(owed == 0);
}

/* A child that dies without a word, with this in the making. */
static void die_while(void (*making)(void)) {
    pid_t child = fork();
    if (child == 0) {
        making();
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void writing_a(void) {
    static char megabyte[1 << 20];
    gm_writer w;
    gm_writer_open(&w, "a", NULL);
    gm_writer_put(&w, megabyte, sizeof megabyte);
}

static void files(void **state) {
    (void)state;
    gm_writer w;
    gm_error err;
    put("a", "old");
    die_while(writing_a);
    has("a", "old");
    assert_int_equal(entries("."), 2);
    assert_int_equal(gm_writer_open(&w, "a", &err), GM_OK); /* sweeps what the dead one left */
    assert_int_equal(entries("."), 2);
    gm_writer_put(&w, "new", 3);
    gm_dir_sweep(".");
    gm_path_sweep("a");
    assert_int_equal(entries("."), 2); /* the living one's stays */
    has("a", "old");
    assert_int_equal(gm_writer_commit(&w, &err), GM_OK);
    has("a", "new");
    assert_int_equal(gm_writer_open(&w, "a", &err), GM_OK);
    gm_writer_abort(&w);
    has("a", "new");
    put("x.ghostmax-note", "another's"); /* not of our making */
    put("y.tmp", "another's");
    gm_dir_sweep(".");
    assert_int_equal(entries("."), 3);
    assert_int_equal(gm_writer_open(&w, "no/folder/a", &err), GM_EIO);
    for (int i = 0; i < 3; i++)
        assert_int_equal(unlink((const char *[]){"a", "x.ghostmax-note", "y.tmp"}[i]), 0);
}

/* Sizes around the buffer, in pieces of every kind. */
static void large_files(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 200000};
    for (int i = 0; i < GM_COUNT(sizes); i++) {
        for (size_t piece = 1; piece < 300000; piece = piece * 7 + 3) {
            gm_writer w;
            gm_error err;
            gm_file file;
            uint8_t *bytes = malloc(sizes[i] + 1);
            for (size_t k = 0; k < sizes[i]; k++)
                bytes[k] = (uint8_t)gm_rng_u64(1, k);
            assert_int_equal(gm_writer_open(&w, "b", &err), GM_OK);
            for (size_t k = 0; k < sizes[i]; k += piece)
                gm_writer_put(&w, bytes + k, GM_MIN(piece, sizes[i] - k));
            assert_int_equal(gm_writer_commit(&w, &err), GM_OK);
            assert_int_equal(gm_file_open(&file, "b", &err), GM_OK);
            assert_int_equal(file.size, sizes[i]);
            assert_memory_equal(file.data, bytes, sizes[i]);
            gm_file_close(&file);
            free(bytes);
        }
    }
    unlink("b");
}

static void put_set(const gm_folder *f, const char *a, const char *last) {
    char path[1100];
    gm_error err;
    assert_int_equal(gm_path_join(path, sizeof path, f->staging, "a", &err), GM_OK);
    put(path, a);
    assert_int_equal(gm_path_join(path, sizeof path, f->staging, "last", &err), GM_OK);
    put(path, last);
}

static void making_a_set(void) {
    gm_folder f;
    gm_folder_open(&f, "set", NULL);
    put_set(&f, "dead", "dead");
}

static void sets(void **state) {
    (void)state;
    static const char *const obsolete[] = {"a", "old", NULL};
    gm_folder f;
    gm_error err;
    die_while(making_a_set);
    assert_false(gm_path_exists("set"));
    assert_int_equal(gm_folder_open(&f, "set/", &err), GM_OK);
    assert_int_equal(entries("."), 1); /* the dead one's is gone, ours is there */
    put_set(&f, "one", "1");
    assert_false(gm_path_exists("set"));
    assert_int_equal(gm_folder_commit(&f, "last", obsolete, &err), GM_OK);
    assert_int_equal(entries("."), 1);
    has("set/a", "one");
    has("set/last", "1");

    put("set/old", "old"); /* over an older set; a file of the user's stays */
    put("set/mine", "mine");
    die_while(making_a_set);
    assert_int_equal(entries("set"), 5);
    assert_int_equal(gm_folder_open(&f, "set", &err), GM_OK);
    put_set(&f, "two", "2");
    has("set/a", "one");
    has("set/last", "1");
    assert_int_equal(gm_folder_commit(&f, "last", obsolete, &err), GM_OK);
    has("set/a", "two");
    has("set/last", "2");
    has("set/mine", "mine");
    assert_int_equal(entries("set"), 3);

    assert_int_equal(gm_folder_open(&f, "set", &err), GM_OK);
    put_set(&f, "three", "3");
    gm_folder_abort(&f);
    gm_folder_abort(&f);
    has("set/a", "two");
    assert_int_equal(entries("set"), 3);
    assert_int_equal(gm_folder_open(&f, "set/mine", &err), GM_EIO); /* a file */

    assert_int_equal(gm_folder_open(&f, "deep/er/set", &err), GM_OK);
    put_set(&f, "x", "y");
    assert_int_equal(gm_folder_commit(&f, NULL, NULL, &err), GM_OK);
    has("deep/er/set/a", "x");
    static const char *const all[] = {"set/a", "set/last", "set/mine", "deep/er/set/a", "deep/er/set/last"};
    for (int i = 0; i < GM_COUNT(all); i++)
        assert_int_equal(unlink(all[i]), 0);
    assert_true(rmdir("set") == 0 && rmdir("deep/er/set") == 0 && rmdir("deep/er") == 0 && rmdir("deep") == 0);
}

/* Synced before it has its name, and the folder behind that: a file, a new set, a set over another. */
static void synced_in_order(void **state) {
    (void)state;
    gm_folder f;
    gm_error err;
    memset(synced, 0, sizeof synced);
    owed = 0;
    syncs = too_early = 0;
    put("a", "x");
    assert_int_equal(syncs, 2);
    lasts();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gm_folder_open(&f, "set", &err), GM_OK);
        put_set(&f, "a", "last");
        assert_int_equal(gm_folder_commit(&f, "last", NULL, &err), GM_OK);
        lasts();
    }
    assert_true(unlink("a") == 0 && unlink("set/a") == 0 && unlink("set/last") == 0 && rmdir("set") == 0);
}

/* Where the set cannot all be moved, what makes the folder whole is not there. */
static void half_a_set(void **state) {
    (void)state;
    gm_folder f;
    gm_error err;
    assert_int_equal(mkdir("set", 0777), 0);
    assert_int_equal(mkdir("set/a", 0777), 0); /* in the way of a file */
    put("set/last", "old");
    assert_int_equal(gm_folder_open(&f, "set", &err), GM_OK);
    put_set(&f, "a", "new");
    assert_int_equal(gm_folder_commit(&f, "last", NULL, &err), GM_EIO);
    assert_false(gm_path_exists("set/last"));
    assert_int_equal(entries("set"), 1);
    assert_true(rmdir("set/a") == 0 && rmdir("set") == 0);
}

/* Others may sweep between the making of a set's folder and its lock: then it is made again. */
static void swept_while_made(void **state) {
    (void)state;
    assert_int_equal(mkdir("set", 0777), 0);
    const pid_t parent = getpid(), child = fork();
    while (child == 0) {
        gm_folder f;
        if (getppid() != parent) /* it failed */
            _exit(0);
        if (gm_folder_open(&f, "set", NULL) == GM_OK)
            gm_folder_abort(&f);
    }
    for (int i = 0; i < 3000; i++) {
        gm_folder f;
        gm_error err = {.msg = ""};
        assert_int_equal(gm_folder_open(&f, "set", &err), GM_OK);
        gm_folder_abort(&f);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    gm_folder f;
    assert_int_equal(gm_folder_open(&f, "set", NULL), GM_OK);
    gm_folder_abort(&f);
    assert_int_equal(rmdir("set"), 0);
}

static void taking_the_lock(void) {
    gm_lock lock;
    gm_lock_take(&lock, ".", NULL);
}

static void locks(void **state) {
    (void)state;
    gm_lock first, second;
    gm_error err;
    char mine[32], host[128] = "";
    assert_int_equal(gm_lock_take(&first, ".", &err), GM_OK);
    assert_int_equal(gm_lock_take(&second, ".", &err), GM_EIO);
    snprintf(mine, sizeof mine, "process %ld on ", (long)getpid());
    gethostname(host, sizeof host - 1);
    assert_non_null(strstr(err.msg, mine));
    assert_non_null(strstr(err.msg, host));
    assert_int_equal(truncate(GM_LOCK_NAME, 1), 0); /* half of a number is none */
    assert_int_equal(gm_lock_take(&second, ".", &err), GM_EIO);
    assert_non_null(strstr(err.msg, "worked in by another process;"));
    gm_lock_release(&second);
    assert_int_equal(entries("."), 1);
    gm_lock_release(&first);
    gm_lock_release(&first);
    assert_int_equal(entries("."), 0);
    die_while(taking_the_lock);
    assert_int_equal(entries("."), 1); /* a dead one's stands in nobody's way */
    assert_int_equal(gm_lock_take(&second, ".", &err), GM_OK);
    gm_lock_release(&second);
    assert_int_equal(entries("."), 0);
    assert_int_equal(gm_lock_take(&second, "no/folder", &err), GM_EIO);
}

/* A pipe that nobody writes to, a device, a link to itself: an answer, not a wait. */
static void what_is_no_file(void **state) {
    (void)state;
    gm_file file;
    gm_error err;
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_int_equal(symlink("loop", "loop"), 0);
    alarm(20);
    const char *const paths[] = {"pipe", "loop", "/dev/null", "."};
    for (int i = 0; i < GM_COUNT(paths); i++) {
        assert_int_equal(gm_file_open(&file, paths[i], &err), GM_EIO);
        assert_non_null(strstr(err.msg, paths[i]));
    }
    assert_int_equal(gm_file_write("pipe", "x", 1, &err), GM_EIO); /* nor is it replaced by one */
    assert_int_equal(gm_file_write(".", "x", 1, &err), GM_EIO);
    alarm(0);
    struct stat info;
    assert_true(lstat("pipe", &info) == 0 && S_ISFIFO(info.st_mode));
    unlink("pipe");
    unlink("loop");
}

static void links_stay(void **state) {
    (void)state;
    struct stat info;
    put("file", "old");
    assert_int_equal(symlink("file", "link"), 0);
    put("link", "new");
    has("file", "new");
    assert_true(lstat("link", &info) == 0 && S_ISLNK(info.st_mode));
    unlink("link");
    unlink("file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),           cmocka_unit_test(large_files),      cmocka_unit_test(sets),
        cmocka_unit_test(synced_in_order), cmocka_unit_test(swept_while_made), cmocka_unit_test(half_a_set),
        cmocka_unit_test(locks),           cmocka_unit_test(what_is_no_file),  cmocka_unit_test(links_stay),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
