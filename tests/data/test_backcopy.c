/* test_backcopy.c -- source "bb" against its definition and against the text its table was counted from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base.h"
#include "ghostmax_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 256, COUNT = 2000, V = 67 };

static gm_data *data;
static int32_t *x, *y;
static uint8_t *mask;

static int setup(void **state) {
    (void)state;
    gm_error err = {0};
    gm_data_options options = {.source = "bb", .context = T, .no_bos = true};
    if (gm_data_open(&data, &options, &err) != GM_OK)
        fail_msg("%s", err.msg);
    x = gm_alloc((size_t)COUNT * T, sizeof *x);
    y = gm_alloc((size_t)COUNT * T, sizeof *y);
    mask = gm_alloc((size_t)COUNT * T, 1);
    gm_data_train(data, 7, 0, COUNT, x, y);
    if (!gm_data_bos(data)) /* whatever no_bos says */
        return -1;
    return gm_data_backcopy_mask(data, x, COUNT, mask) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    gm_data_free(data);
    gm_free(x);
    gm_free(y);
    gm_free(mask);
    return 0;
}

/* The id of a character. */
static int32_t id_of(char c) {
    int32_t *ids;
    int64_t count;
    assert_int_equal(gm_tokenizer_encode(gm_data_tokenizer(data), &c, 1, &ids, &count, NULL), GM_OK);
    int32_t id = ids[0];
    gm_tokens_free(ids);
    return id;
}

static bool is_trigger(int32_t id) {
    return id == id_of(' ') || id == id_of('e') || id == id_of('t');
}

static void has_its_vocabulary(void **state) {
    (void)state;
    assert_int_equal(gm_tokenizer_vocab(gm_data_tokenizer(data)), V);
    assert_string_equal(gm_tokenizer_kind(gm_data_tokenizer(data)), "chars");
    assert_int_equal(gm_data_train_tokens(data), -1);
    assert_int_equal(gm_data_validation_count(data), GM_DATA_STREAM_VALIDATION);
    assert_true(gm_data_bytes_per_token(data) == 0);
}

static void obeys_its_rule(void **state) {
    (void)state;
    bool trigger[V];
    for (int i = 0; i < V; i++)
        trigger[i] = is_trigger(i);
    int32_t bos = gm_tokenizer_bos(gm_data_tokenizer(data));
    int64_t copies = 0;
    for (int i = 0; i < COUNT; i++) {
        const int32_t *a = x + i * T, *b = y + i * T;
        assert_int_equal(a[0], bos);
        assert_false(trigger[b[0]]);
        for (int t = 0; t < T; t++) {
            assert_true(b[t] >= 2 && b[t] < V); /* never <d>, never <s> again */
            assert_int_equal(mask[i * T + t], trigger[a[t]]);
            if (t + 1 < T)
                assert_int_equal(b[t], a[t + 1]);
            if (trigger[a[t]]) {
                assert_int_equal(b[t], a[t - 1]);
                copies++;
            }
        }
    }
    assert_in_range(copies, COUNT * T / 10, COUNT * T / 2);
}

/* Goodness of fit of drawn transitions to counts made here from the text itself: per row sum (n - expected)^2 / expected. */
static void follows_the_text(void **state) {
    (void)state;
    char path[1024];
    const char *folder = getenv("GHOSTMAX_DATA");
    snprintf(path, sizeof path, "%s/text/tinyshakespeare.txt", folder ? folder : GM_TEST_SOURCE_DIR "/../shared/data");
    if (!gm_path_exists(path)) {
        print_message("skipped: no %s\n", path);
        skip();
    }
    gm_file file;
    assert_int_equal(gm_file_open(&file, path, NULL), GM_OK);
    static double pairs[256][256], single[256], drawn[256][256], first[256];
    for (size_t i = 0; i < file.size; i++) {
        single[file.data[i]]++;
        if (i)
            pairs[file.data[i - 1]][file.data[i]]++;
    }
    gm_file_close(&file);
    uint8_t code[V] = {0};
    for (int i = 2; i < V; i++) {
        size_t n;
        code[i] = (uint8_t)gm_tokenizer_piece(gm_data_tokenizer(data), -1, i, &n)[0];
        assert_true(single[code[i]] > 0);
    }
    for (int c = 0; c < 256; c++) { /* the triggers are the three most frequent */
        if (c != ' ' && c != 'e' && c != 't')
            assert_true(single[c] < single[' '] && single[c] < single['e'] && single[c] < single['t']);
    }
    for (int64_t i = 0; i < (int64_t)COUNT * T; i++) {
        if (i % T == 0)
            first[code[y[i]]]++;
        else if (!mask[i])
            drawn[code[x[i]]][code[y[i]]]++;
    }
    int rows = 0;
    for (int a = 0; a < 257; a++) { /* 256: the first character */
        const double *expected = a < 256 ? pairs[a] : single, *seen = a < 256 ? drawn[a] : first;
        double total_expected = 0, total_seen = 0, chi = 0, freedom = -1;
        for (int b = 0; b < 256; b++) {
            bool possible = a < 256 || (b != ' ' && b != 'e' && b != 't');
            total_expected += possible ? expected[b] : 0;
            total_seen += seen[b];
            if (!possible || expected[b] == 0)
                assert_true(seen[b] == 0);
        }
        if (total_seen < 500)
            continue;
        for (int b = 0; b < 256; b++) {
            bool possible = a < 256 || (b != ' ' && b != 'e' && b != 't');
            double e = possible ? expected[b] * total_seen / total_expected : 0;
            if (e >= 5) {
                chi += (seen[b] - e) * (seen[b] - e) / e;
                freedom++;
            }
        }
        /* mean `freedom`, variance 2 freedom: five standard deviations, about 1e-5 for a chi square of these sizes */
        if (!(chi <= freedom + 5 * sqrt(2 * freedom) + 10))
            fail_msg("row %d: chi square %g for %g degrees of freedom", a, chi, freedom);
        rows++;
    }
    assert_true(rows > 40);
}

static void is_a_pure_function(void **state) {
    (void)state;
    int32_t *a = gm_alloc(8 * T, sizeof *a), *b = gm_alloc(8 * T, sizeof *b);
    for (int i = 7; i >= 0; i--)
        gm_data_train(data, 7, 1000 + i, 1, a + i * T, b + i * T);
    assert_memory_equal(a, x + 1000 * T, 8 * T * sizeof *a);
    assert_memory_equal(b, y + 1000 * T, 8 * T * sizeof *b);
    gm_data_train(data, 8, 1000, 8, a, b);
    for (int i = 0; i < 8; i++) {
        assert_memory_not_equal(a + i * T, x + (1000 + i) * T, T * sizeof *a);
        assert_memory_not_equal(a + i * T, a + (i + 1) % 8 * T, T * sizeof *a);
    }
    gm_data_validation(data, GM_DATA_STREAM_VALIDATION - 4, 8, a, b); /* modulo the count */
    gm_data_validation(data, 0, 4, b, b + 4 * T);
    assert_memory_equal(a + 4 * T, b, 4 * T * sizeof *a);
    for (int i = 0; i < COUNT; i++)
        assert_memory_not_equal(a, x + i * T, T * sizeof *a);
    gm_free(a);
    gm_free(b);
}

/* The empirical loss of the true process is its entropy: recomputed here from drawn frequencies of the commonest row. */
static void has_an_optimal_loss(void **state) {
    (void)state;
    double *losses = gm_alloc((size_t)COUNT * T, sizeof *losses);
    assert_true(gm_data_optimal_losses(data, x, y, COUNT, losses));
    int32_t a = id_of('h');
    double seen[V] = {0}, total = 0, mean = 0, entropy = 0;
    for (int64_t i = 0; i < (int64_t)COUNT * T; i++) {
        if (mask[i])
            assert_true(losses[i] == 0);
        else
            assert_true(losses[i] >= 0); /* 0 too: some characters have one successor only */
        if (x[i] == a) {
            seen[y[i]]++;
            total++;
            mean += losses[i];
        }
    }
    mean /= total;
    for (int b = 0; b < V; b++)
        entropy -= seen[b] > 0 ? seen[b] / total * log(seen[b] / total) : 0;
    assert_true(total > 5000);
    /* cross-entropy minus empirical entropy is about (outcomes - 1) / 2 total, and never negative */
    if (!(mean - entropy >= 0 && mean - entropy <= V / total))
        fail_msg("loss %g, entropy %g over %g draws", mean, entropy, total);
    gm_free(losses);
}

static void refuses_other_tokens(void **state) {
    (void)state;
    gm_data *d = data;
    gm_error err = {0};
    gm_data_options options = {.source = "bb", .tokens = "words", .context = T};
    assert_int_equal(gm_data_open(&d, &options, &err), GM_EINVAL);
    assert_null(d);
    options = (gm_data_options){.source = "bb", .context = 0};
    assert_int_equal(gm_data_open(&d, &options, &err), GM_EINVAL);
    options.context = 1; /* one token is enough: <s> and the first character */
    assert_int_equal(gm_data_open(&d, &options, &err), GM_OK);
    int32_t one[2];
    gm_data_train(d, 7, 0, 1, one, one + 1);
    assert_int_equal(one[0], gm_tokenizer_bos(gm_data_tokenizer(d)));
    assert_int_equal(one[1], y[0]);
    assert_int_equal(gm_data_write_tokens(d, "/nonexistent/x", &err), GM_EUNSUPPORTED);
    gm_data_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_its_vocabulary), cmocka_unit_test(obeys_its_rule),      cmocka_unit_test(follows_the_text),
        cmocka_unit_test(is_a_pure_function), cmocka_unit_test(has_an_optimal_loss), cmocka_unit_test(refuses_other_tokens),
    };
    return cmocka_run_group_tests_name("backcopy", tests, setup, teardown);
}
