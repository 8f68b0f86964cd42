/* test_gguf.c -- GGUF against files of llama.cpp's own Python package (tools/make_golden_gguf.py: every metadata type, f16, bf16 and q8_0
 * rounded, packed and unpacked by it), and against files made here by hand in which one thing is wrong. */
#include "gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CHECK_OK(expression)                           \
    do {                                               \
        gm_error err_ = {0}, *err = &err_;             \
        if ((expression) != GM_OK)                     \
            fail_msg("%s: %s", #expression, err_.msg); \
    } while (0)

static gm_file file;
static gm_gguf types;

static int types_open(void **state) {
    (void)state;
    CHECK_OK(gm_file_open(&file, GM_TEST_SOURCE_DIR "/tests/golden/gguf/types.gguf", err));
    CHECK_OK(gm_gguf_parse(&types, file.data, file.size, file.path, err));
    return 0;
}

static int types_close(void **state) {
    (void)state;
    gm_gguf_close(&types);
    gm_file_close(&file);
    return 0;
}

static const gm_gguf_value *value(const char *key) {
    const gm_gguf_value *v = gm_gguf_find(&types, key);
    if (!v)
        fail_msg("no key %s", key);
    return v;
}

static void every_value_is_read(void **state) {
    (void)state;
    static const struct {
        const char *key;
        int64_t want;
    } wholes[] = {
        {"u8", 200}, {"i8", -3}, {"u16", 60000}, {"i16", -300}, {"u32", 4000000000}, {"i32", -70000}, {"i64", -((int64_t)1 << 62)},
        {"bool", 1}};
    int64_t x;
    double y;
    for (int i = 0; i < GM_COUNT(wholes); i++) {
        assert_true(gm_gguf_whole(value(wholes[i].key), 0, &x));
        assert_true(x == wholes[i].want);
        assert_false(gm_gguf_real(value(wholes[i].key), 0, &y));
        assert_false(gm_gguf_whole(value(wholes[i].key), 1, &x));
    }
    assert_false(gm_gguf_whole(value("u64"), 0, &x));           /* 2^63 */
    assert_true(gm_gguf_real(value("f32"), 0, &y) && y == 0.1); /* not 0.100000001490116 */
    assert_true(gm_gguf_real(value("f64"), 0, &y) && y == 1e-300);
    assert_true(gm_gguf_is_text(value("text"), "caf\xc3\xa9"));
    assert_false(gm_gguf_is_text(value("text"), "caf"));
    assert_false(gm_gguf_is_text(value("u8"), "caf"));
    static const char *const want[] = {"a", "bc", "\xc3\xa9"};
    gm_gguf_text *texts = gm_gguf_texts(value("texts"));
    for (size_t i = 0; i < 3; i++)
        assert_true(texts[i].size == strlen(want[i]) && memcmp(texts[i].data, want[i], texts[i].size) == 0);
    gm_free(texts);
    assert_null(gm_gguf_texts(value("ints")));
    for (int64_t i = 0; i < 3; i++) {
        assert_true(gm_gguf_whole(value("ints"), i, &x));
        assert_int_equal(x, i == 1 ? -2 : i + 1);
    }
    assert_true(gm_gguf_real(value("reals"), 1, &y) && y == -1.5);
    assert_true(gm_gguf_whole(value("bools"), 1, &x) && x == 0);
    assert_int_equal(value("nested")->element, GM_GGUF_ARRAY);
    assert_int_equal(value("nested")->count, 2);
    assert_null(gm_gguf_find(&types, "none"));
    assert_null(gm_gguf_find_tensor(&types, "none"));
}

static float *tensor(const char *name, int64_t *n) {
    const gm_gguf_tensor *t = gm_gguf_find_tensor(&types, name);
    assert_non_null(t);
    float *x = gm_alloc((size_t)t->elements, sizeof *x);
    gm_gguf_read(t, 0, INT64_MAX, 0, x);
    *n = t->elements;
    return x;
}

/* Packed and unpacked as the package does it, bit for bit. */
static void numbers_are_rounded_as_ggml_does(void **state) {
    (void)state;
    const gm_dtype dtypes[] = {GM_DTYPE_F16, GM_DTYPE_BF16, GM_DTYPE_Q8_0};
    for (int d = 0; d < GM_COUNT(dtypes); d++) {
        char name[32];
        int64_t n, m;
        snprintf(name, sizeof name, "%s.in", gm_dtype_name(dtypes[d]));
        float *in = tensor(name, &n);
        snprintf(name, sizeof name, "%s.out", gm_dtype_name(dtypes[d]));
        float *out = tensor(name, &m);
        assert_int_equal(n, m);
        snprintf(name, sizeof name, "%s.packed", gm_dtype_name(dtypes[d]));
        const gm_gguf_tensor *packed = gm_gguf_find_tensor(&types, name);
        uint8_t *bytes = gm_alloc(1, packed->bytes);
        assert_int_equal(gm_dtype_bytes(dtypes[d], n), packed->bytes);
        assert_true(gm_dtype_encode(dtypes[d], bytes, in, n));
        for (size_t i = 0; i < packed->bytes; i++) {
            if (bytes[i] != packed->data[i])
                fail_msg("%s: byte %zu is %02x, not %02x", name, i, bytes[i], packed->data[i]);
        }
        gm_dtype_decode(dtypes[d], in, packed->data, n);
        assert_memory_equal(in, out, (size_t)n * sizeof *in);
        gm_free(bytes);
        gm_free(in);
        gm_free(out);
    }
}

/* Read and written again, the package's file is the same to the last byte. */
static void the_writer_gives_the_package_s_bytes(void **state) {
    (void)state;
    gm_gguf_writer *w;
    float *data[16];
    gm_text bytes;
    CHECK_OK(gm_gguf_writer_create(&w, err));
    for (int64_t i = 0; i < types.value_count; i++)
        gm_gguf_put_value(w, &types.values[i]);
    for (int64_t i = 0; i < types.tensor_count; i++) {
        const gm_gguf_tensor *t = &types.tensors[i];
        gm_dtype dtype;
        int64_t n;
        assert_true(gm_gguf_tensor_dtype(t, &dtype));
        data[i] = tensor(dtype == GM_DTYPE_Q8_0 ? "q8_0.in" : t->name, &n); /* unpacked, a block whose scale is 0 has lost its numbers */
        gm_gguf_put_tensor(w,
                           &(gm_gguf_source){t->name, dtype, data[i], t->rank == 2 ? t->shape[1] : n, t->rank == 2 ? t->shape[0] : 0, 0});
    }
    CHECK_OK(gm_gguf_writer_bytes(w, &bytes, err));
    assert_int_equal(bytes.size, file.size);
    assert_memory_equal(bytes.data, file.data, file.size);
    for (int64_t i = 0; i < types.tensor_count; i++)
        gm_free(data[i]);
    gm_gguf_writer_free(w);
    gm_text_free(&bytes);
}

static void halves_of_rows_take_turns(void **state) {
    (void)state;
    gm_gguf_writer *w;
    gm_text bytes;
    gm_gguf g;
    float x[24], y[24] = {0}, b[12], c[12] = {0};
    for (int i = 0; i < 24; i++)
        x[i] = (float)i;
    for (int i = 0; i < 12; i++)
        b[i] = (float)(100 + i);
    CHECK_OK(gm_gguf_writer_create(&w, err));
    gm_gguf_put_tensor(w, &(gm_gguf_source){"x", GM_DTYPE_F32, x, 12, 2, 6});
    gm_gguf_put_tensor(w, &(gm_gguf_source){"b", GM_DTYPE_F16, b, 12, 0, 4});
    CHECK_OK(gm_gguf_writer_bytes(w, &bytes, err));
    CHECK_OK(gm_gguf_parse(&g, bytes.data, bytes.size, "memory", err));
    static const float order[] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}, vector[] = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11};
    gm_gguf_read(&g.tensors[0], 0, 12, 0, y);
    for (int r = 0; r < 12; r++)
        assert_true(y[2 * r] == 2 * order[r] && y[2 * r + 1] == 2 * order[r] + 1);
    gm_gguf_read(&g.tensors[0], 0, 5, 6, y); /* in pieces */
    gm_gguf_read(&g.tensors[0], 5, 100, 6, y);
    assert_memory_equal(x, y, sizeof x);
    gm_gguf_read(&g.tensors[1], 0, 1, 0, c);
    for (int r = 0; r < 12; r++)
        assert_true(c[r] == 100 + vector[r]);
    gm_gguf_read(&g.tensors[1], 0, 12, 4, c);
    assert_memory_equal(b, c, sizeof b);
    gm_gguf_close(&g);
    gm_gguf_writer_free(w);
    gm_text_free(&bytes);
}

/* ---- what is wrong with a file made by hand */

static void put32(gm_text *t, uint32_t x) {
    gm_text_bytes(t, &x, 4);
}

static void put64(gm_text *t, uint64_t x) {
    gm_text_bytes(t, &x, 8);
}

static void put_name(gm_text *t, const char *name) {
    put64(t, strlen(name));
    gm_text_bytes(t, name, strlen(name));
}

static gm_text header(uint64_t tensors, uint64_t values) {
    gm_text t = {0};
    gm_text_bytes(&t, "GGUF", 4);
    put32(&t, 3);
    put64(&t, tensors);
    put64(&t, values);
    return t;
}

static void put_tensor(gm_text *t, const char *name, uint32_t rank, uint64_t size, uint32_t type, uint64_t offset) {
    put_name(t, name);
    put32(t, rank);
    for (uint32_t i = 0; i < rank && i < 8; i++)
        put64(t, i ? 1 : size);
    put32(t, type);
    put64(t, offset);
}

static void put_data(gm_text *t, size_t bytes) {
    static const char zeros[256];
    gm_text_bytes(t, zeros, (32 - t->size % 32) % 32);
    gm_text_bytes(t, zeros, bytes);
}

static void refused_as(gm_text *t, gm_status status, int64_t offset, const char *word) {
    gm_gguf g;
    gm_error err = {.offset = -1};
    gm_status got = gm_gguf_parse(&g, t->data, t->size, "x.gguf", &err);
    if (got != status || !strstr(err.msg, word) || (offset >= 0 ? err.offset != offset : err.offset < 0) || !strstr(err.msg, "x.gguf"))
        fail_msg("%s: status %d, '%s' (offset %lld)", word, got, err.msg, (long long)err.offset);
    assert_null(g.values);
    gm_text_free(t);
}

static void refused(gm_text *t, int64_t offset, const char *word) {
    refused_as(t, GM_EFORMAT, offset, word);
}

static void bad_headers_are_refused(void **state) {
    (void)state;
    gm_text t = {0};
    gm_text_bytes(&t, "GGU", 3);
    refused(&t, 0, "past the end");
    gm_text_bytes(&t, "GGML\3\0\0\0", 8);
    refused(&t, 0, "begin with");
    gm_text_bytes(&t, "GGUF\1\0\0\0", 8);
    refused_as(&t, GM_EUNSUPPORTED, 4, "version 1");
    gm_text_bytes(&t, "GGUF\0\0\0\3", 8);
    refused_as(&t, GM_EUNSUPPORTED, 4, "big-endian");
    t = header(1000, 0);
    refused(&t, 8, "more than");
    t = header(0, UINT64_MAX);
    refused(&t, 8, "more than");
    t = header(UINT64_MAX / 33 + 1, 0);
    refused(&t, 8, "more than");
}

static void bad_values_are_refused(void **state) {
    (void)state;
    static const uint8_t room[64];
    gm_text t = header(0, 1);
    put_name(&t, "");
    gm_text_bytes(&t, room, 64);
    refused(&t, 24, "a key is empty");
    t = header(0, 1);
    put_name(&t, "a\nb");
    gm_text_bytes(&t, room, 64);
    refused(&t, 24, "control characters");
    t = header(0, 1);
    put64(&t, UINT64_MAX);
    gm_text_bytes(&t, room, 64);
    refused(&t, 32, "past the end");
    t = header(0, 1);
    put_name(&t, "a");
    put32(&t, 13);
    gm_text_bytes(&t, room, 64);
    refused(&t, 33, "unknown type 13");
    t = header(0, 1);
    put_name(&t, "a");
    put32(&t, GM_GGUF_BOOL);
    gm_text_bytes(&t, "\2", 1);
    refused(&t, 37, "bool of 2");
    t = header(0, 1);
    put_name(&t, "a");
    put32(&t, GM_GGUF_ARRAY);
    put32(&t, GM_GGUF_U64);
    put64(&t, (UINT64_MAX >> 3) + 2); /* times 8 is 8 */
    gm_text_bytes(&t, room, 64);
    refused(&t, 49, "more than the rest");
    t = header(0, 1);
    put_name(&t, "a");
    put32(&t, GM_GGUF_ARRAY);
    put32(&t, GM_GGUF_TEXT);
    put64(&t, 60);
    gm_text_bytes(&t, room, 64);
    refused(&t, -1, "past the end");
    t = header(0, 1);
    put_name(&t, "a");
    put32(&t, GM_GGUF_ARRAY);
    for (int depth = 0; depth < 5; depth++) {
        put32(&t, GM_GGUF_ARRAY);
        put64(&t, 1);
    }
    gm_text_bytes(&t, room, 64);
    refused(&t, -1, "deep");
    t = header(0, 2);
    for (int i = 0; i < 2; i++) {
        put_name(&t, "same");
        put32(&t, GM_GGUF_U8);
        gm_text_bytes(&t, room, 1);
    }
    refused(&t, 24 + 17 + 16, "'same' stands twice");
    const uint32_t alignments[] = {0, 3, 1u << 30};
    for (int i = 0; i < GM_COUNT(alignments); i++) {
        t = header(0, 1);
        put_name(&t, "general.alignment");
        put32(&t, GM_GGUF_U32);
        put32(&t, alignments[i]);
        refused(&t, 53, "power of two");
    }
}

static void bad_tensors_are_refused(void **state) {
    (void)state;
    const struct {
        uint32_t rank;
        uint64_t size;
        uint32_t type;
        const char *word;
    } one[] = {{0, 1, 0, "0 dimensions"},
               {5, 1, 0, "5 dimensions"},
               {1, 0, 0, "impossible shape"},
               {1, UINT64_MAX, 0, "impossible shape"},
               {2, INT64_MAX, 0, "impossible size"},
               {1, 8, 4, "unknown type 4"},
               {1, 8, 99, "unknown type 99"},
               {1, 31, 8, "cannot cut"},
               {1, 1 << 20, 0, "goes past the end"}};
    for (int i = 0; i < GM_COUNT(one); i++) {
        gm_text t = header(1, 0);
        put_tensor(&t, "a", one[i].rank, one[i].size, one[i].type, 0);
        put_data(&t, 64);
        refused(&t, -1, one[i].word);
    }
    const struct {
        uint64_t first, second;
        size_t bytes;
        const char *word;
    } two[] = {{0, 0, 64, "overlaps"},
               {0, 16, 64, "overlaps"},
               {32, 0, 64, "hole"},
               {0, 64, 96, "hole"},
               {0, UINT64_MAX, 64, "past the end"},
               {0, 32, 63 + 33, "belong to none"},
               {0, 32, 35, "past the end"}};
    for (int i = 0; i < GM_COUNT(two); i++) {
        gm_text t = header(2, 0);
        put_tensor(&t, "a", 1, 1, 0, two[i].first);
        put_tensor(&t, "b", 1, 1, 0, two[i].second);
        put_data(&t, two[i].bytes);
        refused(&t, -1, two[i].word);
    }
    gm_text t = header(2, 0);
    put_tensor(&t, "a", 1, 1, 0, 0);
    put_tensor(&t, "a", 1, 1, 0, 32);
    put_data(&t, 64);
    refused(&t, -1, "'a' stands twice");
    t = header(1, 0);
    put_tensor(&t, "a-name-of-sixty-five-bytes-is-longer-than-the-format-allows-00000", 1, 1, 0, 0);
    put_data(&t, 32);
    refused(&t, 24, "longer than 64");
}

/* Cut off anywhere, padding after the last tensor aside. */
static void every_truncation_is_refused(void **state) {
    (void)state;
    const gm_gguf_tensor *last = &types.tensors[types.tensor_count - 1];
    for (size_t n = 0; n < last->at + last->bytes; n++) {
        gm_gguf g;
        gm_error err = {.offset = -1};
        assert_int_equal(gm_gguf_parse(&g, file.data, n, "cut", &err), GM_EFORMAT);
        assert_in_range(err.offset, 0, n);
    }
}

static void the_writer_refuses(void **state) {
    (void)state;
    static const char path[] = "test_gguf.tmp.gguf";
    float x[40] = {0}, large[] = {1e6f}, inf[32] = {[3] = INFINITY};
    const struct {
        gm_gguf_source source;
        const char *word;
    } cases[] = {{{"", GM_DTYPE_F32, x, 1, 0, 0}, "name"},
                 {{"t", GM_DTYPE_F32, x, 0, 0, 0}, "empty"},
                 {{"t", GM_DTYPE_Q8_0, x, 1, 40, 0}, "blocks of 32"},
                 {{"t", GM_DTYPE_F32, x, 10, 4, 4}, "take turns"},
                 {{"t", GM_DTYPE_F16, large, 1, 0, 0}, "f16 cannot hold"},
                 {{"t", GM_DTYPE_Q8_0, inf, 32, 0, 0}, "q8_0 cannot hold"},
                 {{"first", GM_DTYPE_F32, x, 1, 0, 0}, "twice"}};
    for (int i = 0; i < GM_COUNT(cases) + 1; i++) {
        gm_gguf_writer *w;
        gm_error error = {0};
        CHECK_OK(gm_gguf_writer_create(&w, err));
        gm_gguf_put_u32(w, "key", 1);
        gm_gguf_put_vector(w, "first", x, 3);
        if (i < GM_COUNT(cases))
            gm_gguf_put_tensor(w, &cases[i].source);
        else
            gm_gguf_put_text(w, "key", "again");
        assert_int_equal(gm_gguf_writer_commit(w, path, &error), GM_EINVAL);
        if (!strstr(error.msg, i < GM_COUNT(cases) ? cases[i].word : "key: the key stands twice"))
            fail_msg("case %d: %s", i, error.msg);
        assert_int_not_equal(access(path, F_OK), 0);
        gm_gguf_writer_free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_value_is_read),
                                       cmocka_unit_test(numbers_are_rounded_as_ggml_does),
                                       cmocka_unit_test(the_writer_gives_the_package_s_bytes),
                                       cmocka_unit_test(halves_of_rows_take_turns),
                                       cmocka_unit_test(bad_headers_are_refused),
                                       cmocka_unit_test(bad_values_are_refused),
                                       cmocka_unit_test(bad_tensors_are_refused),
                                       cmocka_unit_test(every_truncation_is_refused),
                                       cmocka_unit_test(the_writer_refuses)};
    return cmocka_run_group_tests_name("GGUF", tests, types_open, types_close);
}
