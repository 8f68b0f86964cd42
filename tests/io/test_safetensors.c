/* test_safetensors.c -- the format against files made here byte by byte, round trips, and every way in which a file can be damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path[] = "test_safetensors.tmp.safetensors";

/* Structure and content. */
static gm_status parse(gm_safetensors *s, const void *bytes, size_t n, gm_error *err) {
    gm_status status = gm_safetensors_parse(s, bytes, n, "x", err);
    if (status == GM_OK && (status = gm_safetensors_verify(s, 1, err)) != GM_OK)
        gm_safetensors_close(s);
    return status;
}

/* header length, header, data: as the format's specification says, without our writer. */
static size_t file_make(uint8_t *dst, const char *header, const void *data, size_t n) {
    uint64_t length = strlen(header);
    memcpy(dst, &length, 8);
    memcpy(dst + 8, header, length);
    if (n)
        memcpy(dst + 8 + length, data, n);
    return 8 + length + n;
}

static void refused(const char *header, size_t data_bytes, int64_t offset, const char *reason) {
    uint8_t bytes[1024] = {0}, data[256] = {0};
    size_t n = file_make(bytes, header, data, data_bytes);
    gm_safetensors s;
    gm_error err;
    gm_status status = gm_safetensors_parse(&s, bytes, n, "x.safetensors", &err);
    if (status != GM_EFORMAT || !strstr(err.msg, reason) || (offset >= 0 && err.offset != offset) || !strstr(err.msg, "x.safetensors"))
        fail_msg("%s: status %d, '%s' (offset %lld)", header, status, err.msg, (long long)err.offset);
    assert_null(s.tensors);
}

static void test_types(void **state) {
    (void)state;
    /* The same numbers in three types; the bits are written out by hand. 0x3555 is the half nearest to 1/3; 0x0001 the smallest subnormal
     * half, 2^-24; 0x8000 is -0. */
    static const uint8_t data[] = {0x00, 0x3c, 0x00, 0xc0, 0x55, 0x35, 0x01, 0x00, 0x00, 0x7c, 0x00, 0x80, 0x01, 0x7e, 0xff, 0x7b, /* F16 */
                                   0x80, 0x3f, 0x00, 0xc0, 0xab, 0x3e,              /* BF16 */
                                   0x00, 0x00, 0x80, 0x3f, 0x01, 0x00, 0x00, 0x00}; /* F32 */
    uint8_t bytes[512];
    /* 3 spaces: data need not be aligned */
    size_t n = file_make(bytes,
                         "{\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[22,30]},"
                         "\"h\":{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[0,16]},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]}}   ",
                         data, sizeof data);
    gm_safetensors s;
    gm_error err;
    assert_int_equal(gm_safetensors_parse(&s, bytes, n, "x", &err), GM_OK);
    assert_int_equal(s.count, 3);
    assert_string_equal(s.tensors[0].name, "h"); /* by offset */
    float h[8], b[3], f[2], transposed[8];
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "h"), h, 4, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "b"), b, 1, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "f"), f, 1, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "h"), transposed, 1, 2, &err), GM_OK);
    assert_true(h[0] == 1.0f && h[1] == -2.0f && h[2] == 0.333251953125f && h[3] == 0x1p-24f);
    assert_true(h[4] == INFINITY && h[5] == 0 && signbit(h[5]) && isnan(h[6]) && h[7] == 65504.0f);
    assert_true(b[0] == 1.0f && b[1] == -2.0f && b[2] == 0.333984375f);
    assert_true(f[0] == 1.0f && f[1] == 0x1p-149f);
    for (int i = 0; i < 8; i++)
        assert_memory_equal(&transposed[i % 4 * 2 + i / 4], &h[i], 4);
    assert_null(gm_safetensors_find(&s, "none"));
    assert_null(gm_safetensors_metadata(&s, "none"));
    gm_safetensors_close(&s);

    n = file_make(bytes, "{\"mask\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[0,1]}}", data, 1);
    assert_int_equal(gm_safetensors_parse(&s, bytes, n, "x", &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, &s.tensors[0], h, 1, 1, &err), GM_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "BOOL"));
    gm_safetensors_close(&s);
}

static void test_refusals(void **state) {
    (void)state;
#define T(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
    refused("{" T("a", "F32", "[2]", "0", "8") "}", 7, -1, "truncated");
    refused("{" T("a", "F32", "[2]", "0", "8") "}", 12, -1, "belong to none");
    refused("{" T("a", "F32", "[3]", "0", "8") "}", 8, -1, "say otherwise");
    refused("{" T("a", "F16", "[2]", "0", "8") "}", 8, -1, "say otherwise");
    refused("{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[2]", "4", "12") "}", 12, -1, "overlaps");
    refused("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12, -1, "hole");
    refused("{" T("a", "F32", "[1]", "4", "8") "}", 8, -1, "hole");
    refused("{" T("a", "F32", "[2]", "8", "0") "}", 8, 8, "outside");
    refused("{" T("a", "F32", "[2]", "-8", "0") "}", 8, 8, "outside");
    refused("{" T("a", "F99", "[2]", "0", "8") "}", 8, 8, "F99");
    refused("{" T("a", "F32", "[-2]", "0", "8") "}", 8, 8, "impossible shape");
    refused("{" T("a", "F32", "[2.0]", "0", "8") "}", 8, 8, "impossible shape");
    refused("{" T("a", "F32", "[4611686018427387904,4]", "0", "0") "}", 0, 8, "impossible shape");
    refused("{" T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, -1, "say otherwise"); /* 2^62 * 4 bytes wraps to 0 */
    refused("{" T("a", "F32", "[99999999999999999999]", "0", "8") "}", 8, -1, "header");
    refused("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, 8, "dimensions");
    refused("{" T("a", "F32", "[2]", "0", "8") "," T("a", "F32", "[2]", "0", "8") "}", 8, -1, "duplicate");
    refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 8, "lacks");
    refused("{\"a\":5}", 0, 8, "lacks");
    refused("{\"__metadata__\":{\"a\":1}}", 0, 8, "not a text");
    refused("{\"__metadata__\":[]}", 0, 8, "not an object");
    refused("[]", 0, 8, "not an object");
    refused("{\"a\"", 0, -1, "header");
    refused("{}x", 0, 8 + 3, "header");
    refused("", 0, -1, "header");
#undef T
    gm_safetensors s;
    gm_error err;
    uint8_t bytes[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'};
    assert_int_equal(gm_safetensors_parse(&s, bytes, 10, "x", &err), GM_EFORMAT);
    assert_int_equal(err.offset, 0);
    for (size_t n = 0; n < 8; n++)
        assert_int_equal(gm_safetensors_parse(&s, bytes, n, "x", &err), GM_EFORMAT);
    assert_int_equal(gm_safetensors_open(&s, "no/such/file", &err), GM_EIO);
    assert_int_equal(gm_safetensors_open(&s, GM_TEST_SOURCE_DIR "/lib", &err), GM_EIO);
}

static const float values[12] = {0, 1, 2, 3, 4, 5, 6, 7, -0.0f, NAN, INFINITY, 1e-42f};

static void write_sample(void) {
    const gm_tensor_source tensors[] = {{"matrix", values, 3, 4, 4, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"transposed", values, 4, 3, 1, 4, GM_DTYPE_F32, NULL, NULL},
                                        {"column", values, 3, 0, 4, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"vector \"\u00e9\"", values, 5, 0, 1, 1, GM_DTYPE_F32, NULL, NULL}};
    const char *metadata[] = {"format", "pt", "note", "line\nbreak", NULL};
    gm_error err;
    if (gm_safetensors_write(path, tensors, GM_COUNT(tensors), metadata, &err) != GM_OK)
        fail_msg("%s", err.msg);
}

static void test_round_trip(void **state) {
    (void)state;
    write_sample();
    gm_file first, second;
    gm_error err;
    assert_int_equal(gm_file_open(&first, path, &err), GM_OK);
    write_sample();
    assert_int_equal(gm_file_open(&second, path, &err), GM_OK);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    uint64_t header_bytes;
    memcpy(&header_bytes, first.data, 8);
    assert_int_equal(header_bytes % 8, 0); /* data aligned for whoever maps it */
    gm_file_close(&first);
    gm_file_close(&second);

    gm_safetensors s;
    assert_int_equal(gm_safetensors_open(&s, path, &err), GM_OK);
    assert_int_equal(s.count, 4);
    assert_string_equal(gm_safetensors_metadata(&s, "note"), "line\nbreak");
    assert_int_equal(strlen(gm_safetensors_metadata(&s, "ghostmax.content")), 16);
    float matrix[12], back[12], column[3], vector[5];
    const gm_tensor *t = gm_safetensors_find(&s, "transposed");
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[0], 4);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "matrix"), matrix, 4, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, t, back, 1, 4, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "column"), column, 1, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "vector \"\u00e9\""), vector, 1, 1, &err), GM_OK);
    assert_memory_equal(matrix, values, sizeof values);
    assert_memory_equal(back, values, sizeof values);
    assert_memory_equal(vector, values, sizeof vector);
    assert_true(column[0] == 0 && column[1] == 4 && signbit(column[2]));
    gm_safetensors_close(&s);
    unlink(path);
}

/* Halves are written as the numbers nearest to them, NaN and infinity as themselves, transposed tensors in the file's order. */
static void test_written_types(void **state) {
    (void)state;
    const float given[12] = {1, -2, 1.0f / 3, 0x1p-24f, 65504, -0.0f, NAN, INFINITY, 3.14159265f, 1e-3f, 65519.9f, -7};
    const float f16[12] = {1, -2, 0.333251953125f, 0x1p-24f, 65504, -0.0f, NAN, INFINITY, 3.140625f, 0.00100040435791015625f, 65504, -7};
    const float bf16[12] = {1, -2, 0.333984375f, 0x1p-24f, 65536, -0.0f, NAN, INFINITY, 3.140625f, 0.00099945068359375f, 65536, -7};
    const gm_tensor_source tensors[] = {{"half", given, 12, 0, 1, 1, GM_DTYPE_F16, NULL, NULL},
                                        {"brain", given, 3, 4, 4, 1, GM_DTYPE_BF16, NULL, NULL},
                                        {"turned", given, 4, 3, 1, 4, GM_DTYPE_BF16, NULL, NULL}};
    gm_error err;
    gm_safetensors s;
    float half[12], brain[12], turned[12];
    assert_int_equal(gm_safetensors_write(path, tensors, GM_COUNT(tensors), NULL, &err), GM_OK);
    assert_int_equal(gm_safetensors_open(&s, path, &err), GM_OK);
    assert_int_equal(gm_safetensors_verify(&s, 2, &err), GM_OK);
    assert_string_equal(gm_tensor_type(gm_safetensors_find(&s, "half")), "F16");
    assert_int_equal(gm_safetensors_find(&s, "brain")->bytes, 24);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "half"), half, 1, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "brain"), brain, 4, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&s, gm_safetensors_find(&s, "turned"), turned, 1, 4, &err), GM_OK);
    for (int i = 0; i < 12; i++) {
        assert_true(isnan(given[i]) ? isnan(half[i]) : half[i] == f16[i] && signbit(half[i]) == signbit(given[i]));
        assert_true(isnan(given[i]) ? isnan(brain[i]) : brain[i] == bf16[i] && signbit(brain[i]) == signbit(given[i]));
        assert_true(isnan(given[i]) ? isnan(turned[i]) : turned[i] == bf16[i]);
    }
    gm_safetensors_close(&s);
    unlink(path);
}

/* Tiles of every size, partial ones too, put each element in its place. */
static void test_transposed_reads(void **state) {
    (void)state;
    enum { ROWS = 37, COLS = 131 };
    float *given = malloc(ROWS * COLS * sizeof *given), *back = malloc(ROWS * COLS * sizeof *back);
    for (int i = 0; i < ROWS * COLS; i++)
        given[i] = (float)i;
    for (int rows = 1; rows <= ROWS; rows += 9) {
        for (int cols = 2; cols <= COLS; cols += 43) {
            const gm_tensor_source t = {"t", given, rows, cols, cols, 1, GM_DTYPE_F32, NULL, NULL};
            gm_error err;
            gm_safetensors s;
            assert_int_equal(gm_safetensors_write(path, &t, 1, NULL, &err), GM_OK);
            assert_int_equal(gm_safetensors_open(&s, path, &err), GM_OK);
            assert_int_equal(gm_tensor_read(&s, s.tensors, back, 1, rows, &err), GM_OK);
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < cols; j++)
                    assert_true(back[j * rows + i] == given[i * cols + j]);
            gm_safetensors_close(&s);
        }
    }
    free(given);
    free(back);
    unlink(path);
}

/* Every truncation is refused. Every flipped bit is refused, or hits the checksum's own name and changes nothing that is read. */
static void test_damage(void **state) {
    (void)state;
    write_sample();
    gm_file file;
    gm_error err;
    gm_safetensors s;
    assert_int_equal(gm_file_open(&file, path, &err), GM_OK);
    uint8_t *bytes = malloc(file.size);
    for (size_t n = 0; n < file.size; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* a block of its own, so that a sanitizer sees reads past it */
        memcpy(exact, file.data, n);
        assert_int_equal(gm_safetensors_parse(&s, exact, n, "x", &err), GM_EFORMAT);
        free(exact);
    }
    memcpy(bytes, file.data, file.size);
    int accepted = 0;
    for (size_t i = 0; i < file.size * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        if (parse(&s, bytes, file.size, &err) == GM_OK) {
            accepted++;
            assert_null(gm_safetensors_metadata(&s, "ghostmax.content"));
            assert_memory_equal(bytes + s.data_at, file.data + s.data_at, file.size - s.data_at);
            gm_safetensors_close(&s);
        } else
            assert_true(err.code == GM_EFORMAT && err.offset >= 0 && err.offset <= (int64_t)file.size);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(accepted > 0 && accepted <= 8 * 16 /* the key's characters */);
    bytes[file.size - 1] ^= 1;
    assert_int_equal(parse(&s, bytes, file.size, &err), GM_EFORMAT);
    assert_non_null(strstr(err.msg, "altered"));
    free(bytes);
    gm_file_close(&file);
    unlink(path);
}

static void test_write_refusals(void **state) {
    (void)state;
    gm_error err;
    const gm_tensor_source twice[] = {{"a", values, 2, 0, 1, 1, GM_DTYPE_F32, NULL, NULL},
                                      {"a", values, 2, 0, 1, 1, GM_DTYPE_F32, NULL, NULL}};
    assert_int_equal(gm_safetensors_write(path, twice, 2, NULL, &err), GM_EINVAL);
    const gm_tensor_source latin = {"\xe9", values, 2, 0, 1, 1, GM_DTYPE_F32, NULL, NULL};
    assert_int_equal(gm_safetensors_write(path, &latin, 1, NULL, &err), GM_EINVAL);
    const gm_tensor_source empty = {"a", values, 0, 0, 1, 1, GM_DTYPE_F32, NULL, NULL};
    assert_int_equal(gm_safetensors_write(path, &empty, 1, NULL, &err), GM_EINVAL);
    const float large[3] = {1, 65504, 65520}; /* the last is the first that rounds to infinity */
    const gm_tensor_source half = {"large", large, 3, 0, 1, 1, GM_DTYPE_F16, NULL, NULL},
                           blocks = {"blocks", values, 4, 0, 1, 1, GM_DTYPE_Q8_0, NULL, NULL};
    assert_int_equal(gm_safetensors_write(path, &half, 1, NULL, &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "'large'"));
    assert_int_equal(gm_safetensors_write(path, &blocks, 1, NULL, &err), GM_EUNSUPPORTED);
    assert_false(gm_path_exists(path));
    assert_int_equal(gm_safetensors_write("no/such/folder/x", twice, 1, NULL, &err), GM_EIO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),          cmocka_unit_test(test_refusals),      cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),         cmocka_unit_test(test_written_types), cmocka_unit_test(test_transposed_reads),
        cmocka_unit_test(test_write_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
