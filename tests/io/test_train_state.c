/* test_train_state.c -- a state that is read back is the state that was written, or an error that leaves the caller's arrays alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "train_state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path[] = "test_train_state.tmp.safetensors";
static const char scalars[] =
    "{\"step\":9007199254740993,\"text\":\"\\u00e9 \\\"quoted\\\"\"}"; /* 2^53 + 1: JSON keeps it, a double would not */

static void write_state(float *weights, float *moments) {
    const gm_state_entry entries[] = {{"weights", weights, 7}, {"moments", moments, 3}};
    gm_error err;
    if (gm_state_write(path, entries, 2, scalars, &err) != GM_OK)
        fail_msg("%s", err.msg);
}

static void test_round_trip(void **state) {
    (void)state;
    float weights[7] = {1, 2, 3, 4, 5, 6, -0.0f}, moments[3] = {1e-40f, 8, 9}, w[7], m[3];
    write_state(weights, moments);
    const gm_state_entry entries[] = {{"moments", m, 3}, {"weights", w, 7}}; /* order does not matter */
    gm_error err;
    char *json;
    assert_int_equal(gm_state_read(path, entries, 2, &json, &err), GM_OK);
    assert_string_equal(json, scalars);
    free(json);
    assert_memory_equal(w, weights, sizeof w);
    assert_memory_equal(m, moments, sizeof m);
    assert_int_equal(gm_state_read(path, NULL, 0, &json, &err), GM_OK);
    assert_string_equal(json, scalars);
    free(json);
    unlink(path);
}

static void test_other_configuration(void **state) {
    (void)state;
    float weights[7] = {0}, moments[3] = {0}, w[8] = {42, 42}, m[3] = {42};
    write_state(weights, moments);
    const gm_state_entry larger[] = {{"moments", m, 3}, {"weights", w, 8}}, renamed[] = {{"moment", m, 3}, {"weights", w, 7}};
    gm_error err;
    char *json;
    assert_int_equal(gm_state_read(path, larger, 2, &json, &err), GM_EFORMAT);
    assert_non_null(strstr(err.msg, "another configuration"));
    assert_non_null(strstr(err.msg, path));
    assert_null(json);
    assert_int_equal(gm_state_read(path, renamed, 2, NULL, &err), GM_EFORMAT);
    assert_int_equal(gm_state_read(path, larger, 1, NULL, &err), GM_EFORMAT);
    assert_true(w[0] == 42 && m[0] == 42);
    unlink(path);
}

static void test_damage(void **state) {
    (void)state;
    float weights[7] = {1, 2, 3}, moments[3] = {4}, w[7] = {42}, m[3] = {42};
    const gm_state_entry entries[] = {{"moments", m, 3}, {"weights", w, 7}};
    gm_error err;
    assert_int_equal(gm_state_read(path, entries, 2, NULL, &err), GM_EIO);
    write_state(weights, moments);
    gm_file file;
    assert_int_equal(gm_file_open(&file, path, &err), GM_OK);
    uint8_t bytes[1024];
    size_t n = file.size;
    assert_true(n < sizeof bytes);
    memcpy(bytes, file.data, n);
    gm_file_close(&file);
    for (size_t cut = 0; cut < n; cut += 13) {
        assert_int_equal(gm_file_write(path, bytes, cut, &err), GM_OK);
        assert_int_equal(gm_state_read(path, entries, 2, NULL, &err), GM_EFORMAT);
    }
    bytes[n - 5] ^= 0x10;
    assert_int_equal(gm_file_write(path, bytes, n, &err), GM_OK);
    assert_int_equal(gm_state_read(path, entries, 2, NULL, &err), GM_EFORMAT);
    assert_non_null(strstr(err.msg, "altered"));
    bytes[n - 5] ^= 0x10;
    char *step = strstr((char *)bytes + 8, "9007199254740993"); /* in the header */
    assert_non_null(step);
    step[0] = '8';
    assert_int_equal(gm_file_write(path, bytes, n, &err), GM_OK);
    assert_int_equal(gm_state_read(path, entries, 2, NULL, &err), GM_EFORMAT);
    assert_true(w[0] == 42 && m[0] == 42);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_other_configuration),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
