/* The sketch against exact sorting: its stated error, merging in any parts, signs, zeros, subnormals, infinities, NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sketch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static gm_sketch sketch_of(const float *x, int64_t n) {
    gm_sketch s;
    assert_int_equal(gm_sketch_init(&s, NULL), GM_OK);
    gm_sketch_add(&s, x, n);
    return s;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* |answer - the exact order statistic| <= error: of values and of sizes, at quantiles that fall on many ranks. */
static void check_bound(const gm_sketch *s, const float *x, int64_t n) {
    float *values = malloc((size_t)n * sizeof *x), *sizes = malloc((size_t)n * sizeof *x);
    memcpy(values, x, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        sizes[i] = fabsf(x[i]);
    qsort(values, (size_t)n, sizeof *values, by_value);
    qsort(sizes, (size_t)n, sizeof *sizes, by_value);
    for (int i = 0; i <= 1000; i++) {
        double q = i / 1000.0;
        int64_t rank = (int64_t)(q * (double)(n - 1) + 0.5);
        double got = gm_sketch_quantile(s, q), size = gm_sketch_size_quantile(s, q);
        if (!(fabs(got - values[rank]) <= fabs((double)values[rank]) / 128.0 + 0x1p-132))
            fail_msg("q %g of values: got %.9g, want %.9g", q, got, (double)values[rank]);
        if (!(fabs(size - sizes[rank]) <= (double)sizes[rank] / 128.0 + 0x1p-132))
            fail_msg("q %g of sizes: got %.9g, want %.9g", q, size, (double)sizes[rank]);
    }
    assert_true(gm_sketch_quantile(s, 0.0) >= values[0] && gm_sketch_quantile(s, 1.0) <= values[n - 1]);
    free(values);
    free(sizes);
}

static void fill(float *x, int64_t n, int kind) {
    uint64_t key = gm_rng_key((uint64_t)kind, "sketch");
    for (int64_t i = 0; i < n; i++) {
        double z = gm_rng_normal(key, (uint64_t)i), u = gm_rng_uniform(key, (uint64_t)(i + (1 << 24)));
        switch (kind) {
        case 0: /* as activations are */
            x[i] = (float)(0.3 + z * (u < 0.01 ? 40.0 : 1.0));
            break;
        case 1: /* fifty orders of magnitude, both signs */
            x[i] = (float)((z < 0 ? -1 : 1) * pow(10.0, 50.0 * u - 30.0));
            break;
        case 2: /* after a ReLU: half zeros */
            x[i] = (float)fmax(z, 0.0);
            break;
        case 3: /* all negative, narrow */
            x[i] = (float)(-100.0 - z * 1e-3);
            break;
        default: /* subnormals and the smallest normals */
            x[i] = (float)((u - 0.5) * 0x1p-124);
        }
    }
}

enum { N = 20011 };
static float x[N];

static void test_error_bound(void **state) {
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        fill(x, N, kind);
        for (int64_t n = 1; n <= N; n = n * 5 + 1) {
            gm_sketch s = sketch_of(x, n);
            assert_int_equal(s.total, n);
            check_bound(&s, x, n);
            gm_sketch_free(&s);
        }
    }
}

/* Every float's bin: its middle is within the bound of it, whatever the bits. */
static void test_every_exponent(void **state) {
    (void)state;
    for (uint64_t bits = 0; bits < 0x7f800000u; bits += 9973 * 640) { /* some in every octave */
        uint32_t word = (uint32_t)bits;
        float one;
        memcpy(&one, &word, sizeof one);
        const float values[3] = {one, -one, one};
        gm_sketch s = sketch_of(values, 3);
        check_bound(&s, values, 3);
        gm_sketch_free(&s);
    }
    const float top[] = {3.40282347e38f, -3.40282347e38f};
    gm_sketch s = sketch_of(top, 2);
    check_bound(&s, top, 2);
    gm_sketch_free(&s);
}

static void test_merge(void **state) {
    (void)state;
    fill(x, N, 0);
    x[17] = NAN;
    gm_sketch whole = sketch_of(x, N);
    const int64_t cuts[] = {0, 1, 18, 9999, N - 1, N};
    for (int i = 0; i < GM_COUNT(cuts); i++) {
        gm_sketch a = sketch_of(x, cuts[i]), b = sketch_of(x + cuts[i], N - cuts[i]), c = sketch_of(NULL, 0);
        gm_sketch_merge(&b, &a); /* the other way round, and with nothing */
        gm_sketch_merge(&b, &c);
        assert_memory_equal(b.count, whole.count, GM_SKETCH_BINS * sizeof *b.count);
        assert_true(b.total == whole.total && b.nan == 1 && b.min == whole.min && b.max == whole.max && b.largest == whole.largest);
        gm_sketch_free(&a);
        gm_sketch_free(&b);
        gm_sketch_free(&c);
    }
    gm_sketch_free(&whole);
}

static void test_by_hand(void **state) {
    (void)state;
    const float hand[] = {-8, -1, 0, 0, 1, 1.5f, 3, 1000};
    gm_sketch s = sketch_of(hand, 8);
    /* -8, -1, 0, 1, 3: exact powers of two and their like are a bin's lower edge, half a bin (1/128) from its middle */
    assert_true(gm_sketch_quantile(&s, 0.0) == -8.0); /* the middle is -8.0625, clamped to what there was */
    assert_true(gm_sketch_quantile(&s, 1.0 / 7) == -1.0 - 1.0 / 128);
    assert_true(gm_sketch_quantile(&s, 2.0 / 7) == 0.0);
    assert_true(gm_sketch_quantile(&s, 4.0 / 7) == 1.0 + 1.0 / 128);
    assert_true(gm_sketch_size_quantile(&s, 0.0) == 0.0);
    assert_true(gm_sketch_octave(&s, GM_SKETCH_ZERO, false) == 2);
    assert_true(gm_sketch_octave(&s, 0, false) == 2 && gm_sketch_octave(&s, 0, true) == 1);
    assert_true(gm_sketch_octave(&s, 1, false) == 1 && gm_sketch_octave(&s, 3, true) == 1 && gm_sketch_octave(&s, 9, false) == 1);
    gm_sketch_free(&s);
}

static void test_no_numbers(void **state) {
    (void)state;
    const float bad[] = {1, INFINITY, -INFINITY, 2}, nan[] = {1, NAN, 2};
    gm_sketch s = sketch_of(bad, 4);
    assert_int_equal(gm_sketch_infinities(&s), 2);
    assert_true(gm_sketch_quantile(&s, 0.0) == -INFINITY && gm_sketch_quantile(&s, 1.0) == INFINITY);
    assert_true(fabs(gm_sketch_quantile(&s, 1.0 / 3) - 1.0) <= 1.0 / 128);
    gm_sketch_free(&s);
    s = sketch_of(nan, 3);
    assert_true(s.nan == 1 && s.total == 2);
    assert_true(isnan(gm_sketch_quantile(&s, 0.5)) && isnan(gm_sketch_size_quantile(&s, 0.5)));
    gm_sketch_free(&s);
    s = sketch_of(NULL, 0);
    assert_true(isnan(gm_sketch_quantile(&s, 0.5)));
    gm_sketch_free(&s);
}

/* On a grid of 127 steps of 1: whole numbers are their own level, the halves' bins are shared, zeros and infinities. */
static void test_levels(void **state) {
    (void)state;
    static const float values[] = {127, -127, 3, 3, -3, 0, 0, 0, 0.25f, -0.25f, INFINITY};
    gm_sketch s;
    int64_t counts[GM_SKETCH_LEVELS], sum = 0;
    assert_int_equal(gm_sketch_init(&s, NULL), GM_OK);
    gm_sketch_levels(&s, counts); /* empty */
    for (int i = 0; i < GM_SKETCH_LEVELS; i++)
        assert_int_equal(counts[i], 0);
    gm_sketch_add(&s, values, 10);
    gm_sketch_levels(&s, counts);
    for (int i = 0; i < GM_SKETCH_LEVELS; i++)
        sum += counts[i];
    assert_int_equal(sum, 10);
    assert_int_equal(counts[127], 5);
    assert_int_equal(counts[130], 2);
    assert_int_equal(counts[124], 1);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[254], 1);
    gm_sketch_add(&s, values, 11); /* an infinity: no grid */
    gm_sketch_levels(&s, counts);
    assert_int_equal(counts[127], 20);
    gm_sketch_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels),         cmocka_unit_test(test_error_bound),
                                       cmocka_unit_test(test_every_exponent), cmocka_unit_test(test_merge),
                                       cmocka_unit_test(test_by_hand),        cmocka_unit_test(test_no_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
