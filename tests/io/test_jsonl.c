/* test_jsonl.c -- after a resumed run the log equals that of a run which was never stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "jsonl.h"

#include <string.h>
#include <unistd.h>

static const char path[] = "test_jsonl.tmp.jsonl";

static void content_is(const char *expected) {
    gm_file file;
    gm_error err;
    assert_int_equal(gm_file_open(&file, path, &err), GM_OK);
    assert_int_equal(file.size, strlen(expected));
    assert_memory_equal(file.data, expected, file.size);
    gm_file_close(&file);
}

static void test_resume(void **state) {
    (void)state;
    gm_jsonl log;
    gm_error err;
    assert_int_equal(gm_file_write(path, "old", 3, &err), GM_OK);
    assert_int_equal(gm_jsonl_open(&log, path, -1, &err), GM_OK); /* a new run: whatever was there goes */
    for (int step = 1; step <= 4; step++) {
        char line[64];
        snprintf(line, sizeof line, "{\"step\":%d}", step);
        assert_int_equal(gm_jsonl_add(&log, line, &err), GM_OK);
    }
    gm_jsonl_close(&log);
    gm_jsonl_close(&log);
    content_is("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4}\n");
    assert_int_equal(gm_jsonl_open(&log, path, 2, &err), GM_OK);
    assert_int_equal(gm_jsonl_add(&log, "{\"step\":3,\"again\":true}", &err), GM_OK);
    gm_jsonl_close(&log);
    content_is("{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"again\":true}\n");
    unlink(path);
}

static void cut_to(const char *before, int64_t keep, const char *after) {
    gm_jsonl log;
    gm_error err;
    assert_int_equal(gm_file_write(path, before, strlen(before), &err), GM_OK);
    assert_int_equal(gm_jsonl_open(&log, path, keep, &err), GM_OK);
    gm_jsonl_close(&log);
    content_is(after);
    unlink(path);
}

static void test_cuts(void **state) {
    (void)state;
    cut_to("{\"step\":1}\n{\"step\":2,\"lo", 2, "{\"step\":1}\n"); /* killed inside a write */
    cut_to("{\"step\":1}\n{\"step\":2}", 2, "{\"step\":1}\n");     /* its newline is missing: not finished either */
    cut_to("{\"run\":\"x\"}\n{\"step\":1}\n{\"step\":1,\"val\":2}\n{\"step\":2}\n{\"val\":1}\n", 1,
           "{\"run\":\"x\"}\n{\"step\":1}\n{\"step\":1,\"val\":2}\n");
    cut_to("{\"step\":1}\n", 0, "");
    cut_to("", 5, "");
    gm_jsonl log;
    gm_error err;
    assert_int_equal(gm_jsonl_open(&log, path, 7, &err), GM_OK); /* absent: made */
    gm_jsonl_close(&log);
    content_is("");
    unlink(path);
}

static void test_errors(void **state) {
    (void)state;
    static const char broken[] = "{\"step\":1}\nrubbish\n{\"step\":2}\n";
    gm_jsonl log;
    gm_error err;
    assert_int_equal(gm_file_write(path, broken, strlen(broken), &err), GM_OK);
    assert_int_equal(gm_jsonl_open(&log, path, 2, &err), GM_EFORMAT);
    assert_int_equal(err.offset, 11);
    gm_jsonl_close(&log);
    content_is(broken);
    unlink(path);
    assert_int_equal(gm_jsonl_open(&log, "no/such/folder/x.jsonl", 0, &err), GM_EIO);
    gm_jsonl_close(&log);
    if (access("/dev/full", W_OK) == 0) {
        FILE *device = fopen("/dev/full", "w");
        gm_jsonl full = {.fd = fileno(device), .path = "/dev/full"};
        assert_int_equal(gm_jsonl_add(&full, "{}", &err), GM_EIO);
        assert_non_null(strstr(err.msg, "/dev/full"));
        fclose(device);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
