/* test_shards.c -- tensors in several files: written and read back, and every way in which an index and its files can disagree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char folder[] = "test_shards.tmp";
static const char index_path[] = "test_shards.tmp/model.safetensors.index.json";
static const char *const names[] = {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                    "model-00003-of-00003.safetensors", "extra.safetensors", GM_SAFETENSORS_INDEX};
static const float values[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* a and b [4] fill the first file, c [3, 4] is larger than a file may be and stands alone, d [2] is the third. */
static void set_write(void) {
    const gm_tensor_source tensors[] = {{"a", values, 4, 0, 1, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"b", values + 4, 4, 0, 1, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"c", values, 3, 4, 4, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"d", values + 10, 2, 0, 1, 1, GM_DTYPE_BF16, NULL, NULL}};
    gm_error err;
    assert_int_equal(gm_dir_make(folder, &err), GM_OK);
    if (gm_safetensors_write_shards(folder, tensors, GM_COUNT(tensors), NULL, 32, &err) != GM_OK)
        fail_msg("%s", err.msg);
}

static void set_remove(void) {
    for (int i = 0; i < GM_COUNT(names); i++)
        unlink(in_folder(names[i]));
    rmdir(folder);
}

static void index_write(const char *text) {
    gm_error err;
    assert_int_equal(gm_file_write(index_path, text, strlen(text), &err), GM_OK);
}

static void refused(gm_status code, const char *first, const char *second) {
    gm_safetensors s;
    gm_error err = {0};
    gm_status status = gm_safetensors_open_index(&s, index_path, &err);
    if (status != code || !strstr(err.msg, first) || !strstr(err.msg, second))
        fail_msg("expected %d '%s' '%s', got %d '%s'", code, first, second, status, err.msg);
    assert_null(s.tensors);
}

static void test_round_trip(void **state) {
    (void)state;
    set_write();
    gm_safetensors s;
    gm_error err;
    if (gm_safetensors_open_index(&s, index_path, &err) != GM_OK || gm_safetensors_verify(&s, 2, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(s.shard_count, 3);
    assert_int_equal(s.count, 4);
    float x[12];
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "b"), x, 1, 1, &err), GM_OK);
    assert_memory_equal(x, values + 4, 4 * sizeof *x);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "c"), x, 4, 1, &err), GM_OK);
    assert_memory_equal(x, values, sizeof values);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "d"), x, 1, 1, &err), GM_OK);
    assert_memory_equal(x, values + 10, 2 * sizeof *x);
    assert_non_null(strstr(gm_tensor_path(&s, gm_safetensors_find(&s, "c")), "00002-of-00003"));
    assert_null(gm_safetensors_find(&s, "e"));
    char types[64];
    gm_safetensors_types(&s, types, sizeof types);
    assert_string_equal(types, "F32, BF16");
    gm_safetensors_close(&s);
    set_remove();
}

static void test_disagreement(void **state) {
    (void)state;
#define MAP(...) "{\"metadata\": {}, \"weight_map\": {" __VA_ARGS__ "}}"
#define AB "\"a\": \"model-00001-of-00003.safetensors\", \"b\": \"model-00001-of-00003.safetensors\", "
#define C "\"c\": \"model-00002-of-00003.safetensors\""
#define D ", \"d\": \"model-00003-of-00003.safetensors\""
    gm_error err;
    set_write();
    index_write(MAP(AB C D));
    gm_safetensors s;
    assert_int_equal(gm_safetensors_open_index(&s, index_path, &err), GM_OK); /* as it should be */
    gm_safetensors_close(&s);
    index_write(MAP(AB C D ", \"e\": \"model-00002-of-00003.safetensors\""));
    refused(GM_EFORMAT, "'e' is missing", "00002");
    index_write(MAP("\"a\": \"model-00001-of-00003.safetensors\", " C D));
    refused(GM_EFORMAT, "'b' is not in the index", "00001");
    index_write(MAP(AB "\"c\": \"model-00003-of-00003.safetensors\"" D));
    refused(GM_EFORMAT, "'c' is missing", "00003");
    index_write(MAP(AB "\"c\": \"model-00003-of-00003.safetensors\"" D ", \"x\": \"model-00002-of-00003.safetensors\""));
    refused(GM_EFORMAT, "'c' is here", "00003");
    index_write(MAP(AB C D ", \"e\": \"model-00004-of-00003.safetensors\""));
    refused(GM_EIO, "00004", "No such file");
    index_write(MAP(AB C D ", \"a\": \"model-00002-of-00003.safetensors\""));
    refused(GM_EFORMAT, "duplicate", "index.json");
    /* the same tensor in two files */
    const gm_tensor_source twice[] = {{"d", values, 2, 0, 1, 1, GM_DTYPE_F32, NULL, NULL},
                                      {"e", values, 2, 0, 1, 1, GM_DTYPE_F32, NULL, NULL}};
    assert_int_equal(gm_safetensors_write(in_folder("extra.safetensors"), twice, 2, NULL, &err), GM_OK);
    index_write(MAP(AB C D ", \"e\": \"extra.safetensors\""));
    refused(GM_EFORMAT, "'d' is here", "00003");
    /* no file of another folder is opened, whatever the index says */
    static const char *const paths[] = {"../LICENSE", "/etc/passwd", "..", ".", "", "sub/x.safetensors", "a\\\\b"};
    for (int i = 0; i < GM_COUNT(paths); i++) {
        char text[512];
        snprintf(text, sizeof text, MAP(AB C D ", \"e\": \"%s\""), paths[i]);
        index_write(text);
        refused(GM_EFORMAT, "not a file of this folder", "'e'");
    }
    index_write(MAP(AB C D ", \"e\": 5"));
    refused(GM_EFORMAT, "'e' is in no file", "index.json");
    index_write("{\"weight_map\": {}}");
    refused(GM_EFORMAT, "weight_map", "index.json");
    index_write("[]");
    refused(GM_EFORMAT, "weight_map", "index.json");
    index_write("");
    refused(GM_EFORMAT, "not JSON", "index.json");
#undef MAP
#undef AB
#undef C
#undef D
    set_remove();
}

static void test_damage(void **state) {
    (void)state;
    set_write();
    gm_file file;
    gm_error err;
    gm_safetensors s;
    assert_int_equal(gm_file_open(&file, index_path, &err), GM_OK);
    char *text = malloc(file.size);
    size_t size = file.size;
    memcpy(text, file.data, size);
    gm_file_close(&file);
    for (size_t n = 0; n < size - 2; n++) { /* the last bytes are the brace and what follows it */
        assert_int_equal(gm_file_write(index_path, text, n, &err), GM_OK);
        refused(GM_EFORMAT, "index.json", "");
    }
    assert_int_equal(gm_file_write(index_path, text, size, &err), GM_OK);
    free(text);
    /* one bit of one weight of the last file */
    const char *path = in_folder(names[2]);
    assert_int_equal(gm_file_open(&file, path, &err), GM_OK);
    uint8_t *bytes = malloc(file.size);
    size = file.size;
    memcpy(bytes, file.data, size);
    gm_file_close(&file);
    bytes[size - 1] ^= 0x40;
    assert_int_equal(gm_file_write(path, bytes, size, &err), GM_OK);
    assert_int_equal(gm_safetensors_open_index(&s, index_path, &err), GM_OK);
    assert_int_equal(gm_safetensors_verify(&s, 1, &err), GM_EFORMAT);
    assert_non_null(strstr(err.msg, "00003-of-00003"));
    gm_safetensors_close(&s);
    assert_int_equal(gm_file_write(path, bytes, size - 1, &err), GM_OK);
    refused(GM_EFORMAT, "truncated", "00003-of-00003");
    free(bytes);
    set_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_disagreement),
                                       cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
