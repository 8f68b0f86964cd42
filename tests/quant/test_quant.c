/* Grids worked out by hand, ranges against numpy's, and the weight search against brute force written another way. */
#include "fixture.h"

#include "quant.h"

#include <math.h>
#include <stdlib.h>

static float simulated(float x, gm_quant_grid grid) {
    float y;
    gm_quant_simulate(ctx, &y, &x, 1, grid);
    return y;
}

static void near(double got, double want, double tolerance, int line) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("line %d: got %.17g, want %.17g", line, got, want);
}
#define NEAR(got, want, tolerance) near(got, want, tolerance, __LINE__)

/* ---- grids */

static void test_symmetric(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_symmetric(8, 63.5f); /* 63.5 / 127 */
    assert_true(g.scale == 0.5f && g.zero == 0 && g.qmin == -128 && g.qmax == 127);
    assert_true(simulated(63.5f, g) == 63.5f);
    assert_true(simulated(-63.5f, g) == -63.5f);
    assert_true(simulated(-64.0f, g) == -64.0f); /* the 128th negative step */
    assert_true(simulated(-1000.0f, g) == -64.0f);
    assert_true(simulated(1000.0f, g) == 63.5f);
    assert_true(simulated(0.0f, g) == 0.0f);
    assert_true(simulated(0.3f, g) == 0.5f);
    assert_true(simulated(0.2f, g) == 0.0f);
    /* half to even: 0.25 is half a step */
    assert_true(simulated(0.25f, g) == 0.0f);
    assert_true(simulated(0.75f, g) == 1.0f);
    assert_true(simulated(1.25f, g) == 1.0f);
    assert_true(simulated(-0.75f, g) == -1.0f);
    assert_true(simulated(-0.25f, g) == 0.0f);
}

static void test_symmetric_bits(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_symmetric(2, 3.0f); /* -2 .. 1 steps of 3 */
    assert_true(g.scale == 3.0f && g.qmin == -2 && g.qmax == 1);
    assert_true(simulated(-100.0f, g) == -6.0f && simulated(100.0f, g) == 3.0f);
    g = gm_quant_symmetric(16, 32767.0f);
    assert_true(g.scale == 1.0f && g.qmin == -32768 && g.qmax == 32767);
    for (int bits = 2; bits <= 16; bits++) {
        g = gm_quant_symmetric(bits, 1.0f);
        assert_int_equal(g.qmax - g.qmin, (1 << bits) - 1);
        NEAR(simulated(1.0f, g), 1.0, 1e-7);
        for (int i = 0; i <= 20; i++) /* at most half a step away */
            NEAR(simulated(-1.0f + 0.1f * (float)i, g), -1.0 + 0.1 * i, 0.5 * (double)g.scale + 1e-6);
    }
}

static void test_symmetric_edges(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_symmetric(8, 0.0f);
    assert_true(g.scale == 1e-8f);
    assert_true(simulated(0.0f, g) == 0.0f);
    assert_true(gm_quant_symmetric(8, 1e-40f).scale == 1e-8f);
    assert_true(isnan(simulated(1.0f, gm_quant_symmetric(8, NAN))));
    assert_true(isnan(simulated(1.0f, gm_quant_symmetric(8, INFINITY))));
    g = gm_quant_symmetric(8, 1.0f);
    assert_true(isnan(simulated(NAN, g)));
    NEAR(simulated(INFINITY, g), 1.0, 1e-7);
    NEAR(simulated(-INFINITY, g), -128.0 / 127.0, 1e-7);
}

static void test_asymmetric(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_asymmetric(8, -1.0f, 4.1f); /* 5.1 / 255 = 0.02, zero at 50 */
    NEAR(g.scale, 0.02, 1e-9);
    assert_true(g.zero == 50 && g.qmin == 0 && g.qmax == 255);
    NEAR(simulated(4.1f, g), 4.1, 1e-6);
    NEAR(simulated(-1.0f, g), -1.0, 1e-6);
    NEAR(simulated(9.0f, g), 4.1, 1e-6);
    NEAR(simulated(-9.0f, g), -1.0, 1e-6);
    NEAR(simulated(1.009f, g), 1.0, 1e-6);
    assert_true(simulated(0.0f, g) == 0.0f);
}

static void test_asymmetric_contains_zero(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_asymmetric(8, 3.0f, 5.1f); /* widened to [0, 5.1] */
    NEAR(g.scale, 0.02, 1e-9);
    assert_int_equal(g.zero, 0);
    g = gm_quant_asymmetric(8, -5.1f, -3.0f);
    NEAR(g.scale, 0.02, 1e-9);
    assert_int_equal(g.zero, 255);
    assert_true(simulated(0.0f, g) == 0.0f);
    NEAR(simulated(-5.1f, g), -5.1, 1e-6);
}

/* The zero point is rounded, half to even, so one end of the range is cut by up to half a step. */
static void test_asymmetric_zero_point(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_asymmetric(2, -1.25f, 1.75f); /* scale 1, -lo/scale = 1.25 */
    assert_true(g.scale == 1.0f && g.zero == 1 && g.qmax == 3);
    assert_true(simulated(-1.25f, g) == -1.0f && simulated(1.75f, g) == 2.0f && simulated(2.6f, g) == 2.0f);
    assert_int_equal(gm_quant_asymmetric(2, -0.5f, 2.5f).zero, 0);
    assert_int_equal(gm_quant_asymmetric(2, -1.5f, 1.5f).zero, 2);
    assert_int_equal(gm_quant_asymmetric(2, -2.5f, 0.5f).zero, 2);
}

static void test_asymmetric_edges(void **state) {
    (void)state;
    gm_quant_grid g = gm_quant_asymmetric(8, 0.0f, 0.0f);
    NEAR(g.scale, 1e-8 / 255.0, 1e-16);
    assert_true(simulated(0.0f, g) == 0.0f);
    g = gm_quant_asymmetric(16, 0.0f, 65535.0f);
    assert_true(g.scale == 1.0f && g.qmax == 65535);
    assert_true(simulated(65535.0f, g) == 65535.0f && simulated(65536.0f, g) == 65535.0f);
    const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        assert_true(isnan(simulated(1.0f, gm_quant_asymmetric(8, 0.0f, bad[i]))));
        assert_true(isnan(simulated(1.0f, gm_quant_asymmetric(8, -bad[i], 1.0f))));
        assert_true(isnan(simulated(1.0f, gm_quant_asymmetric(8, -bad[i], bad[i]))));
    }
    assert_true(isnan(simulated(NAN, gm_quant_asymmetric(8, -1.0f, 1.0f))));
}

/* Long arrays, in place, on any thread count: the same as one by one. */
static void test_simulate_array(void **state) {
    (void)state;
    enum { N = 100003 };
    static float x[N], y[N];
    uint64_t key = gm_rng_key(1, "quant");
    for (int i = 0; i < N; i++)
        x[i] = (float)(3.0 * gm_rng_normal(key, (uint64_t)i));
    gm_quant_grid g = gm_quant_asymmetric(8, -2.5f, 7.1f);
    gm_quant_simulate(ctx, y, x, N, g);
    for (int i = 0; i < N; i += 13)
        assert_true(y[i] == simulated(x[i], g));
    for (int i = 0; i < N; i++) { /* written with lround, on doubles */
        double q = fmin(fmax(nearbyint((double)(x[i] / g.scale)) + g.zero, 0), 255);
        assert_true(y[i] == g.scale * (float)(q - g.zero));
    }
    gm_quant_simulate(ctx, x, x, N, g);
    assert_memory_equal(x, y, sizeof x);
}

/* ---- observers */

static void feed(gm_observer *o, const float *x, int64_t rows, int64_t cols, int64_t stride, int64_t total) {
    assert_int_equal(gm_observer_feed(o, ctx, x, rows, cols, stride, total, NULL), GM_OK);
}

static void test_running_range(void **state) {
    (void)state;
    gm_observer o = {.range = GM_RANGE_RUNNING};
    const float first[] = {-2, 5, 1, 99, 3, 0, -1, 99}; /* [2, 3], stride 4: the 99s are outside */
    feed(&o, first, 2, 3, 4, 6);
    assert_int_equal(o.batches, 0);
    gm_observer_fold(&o);
    assert_true(o.batches == 1 && o.lo == -2.0f && o.hi == 5.0f);
    gm_observer_fold(&o); /* nothing fed: nothing changes */
    assert_true(o.batches == 1 && o.lo == -2.0f && o.hi == 5.0f);
    /* a batch in two parts: [-4, 15] -> 0.9 old + 0.1 new */
    const float part1[] = {-4, 2}, part2[] = {15, 3};
    feed(&o, part1, 1, 2, 2, 4);
    feed(&o, part2, 1, 2, 2, 4);
    gm_observer_fold(&o);
    NEAR(o.lo, -2.2, 1e-6);
    NEAR(o.hi, 6.0, 1e-6);
    const float inside[] = {1, 1.5f};
    feed(&o, inside, 1, 2, 2, 2);
    gm_observer_fold(&o);
    NEAR(o.lo, -2.2 * 0.9 + 0.1, 1e-6);
    NEAR(o.hi, 6.0 * 0.9 + 0.15, 1e-6);
    const float bad[] = {1, NAN}, fine[] = {0, 1};
    feed(&o, bad, 1, 2, 2, 4);
    feed(&o, fine, 1, 2, 2, 4);
    gm_observer_fold(&o);
    assert_true(isnan(o.lo) && isnan(o.hi));
    gm_observer_free(&o);
}

static void percentile(const float *x, int64_t n, double p, double lo, double hi) {
    gm_observer o = {.range = GM_RANGE_PERCENTILE, .percentile = p};
    for (int64_t i = 0; i < n; i++) /* in as many parts as values */
        feed(&o, x + i, 1, 1, 1, n);
    gm_observer_fold(&o);
    NEAR(o.lo, lo, 1e-6);
    NEAR(o.hi, hi, 1e-6);
    gm_observer_free(&o);
}

/* The right-hand sides were printed by numpy 1.24.2: np.percentile(x, (100 - p, p)). */
static void test_percentile_is_numpys(void **state) {
    (void)state;
    float x[101];
    for (int i = 0; i < 101; i++)
        x[i] = (float)((i * 37) % 101 - 50) * 0.25f;
    percentile(x, 101, 51.0, -0.25, 0.25);
    percentile(x, 101, 75.0, -6.25, 6.25);
    percentile(x, 101, 90.0, -10.0, 10.0);
    percentile(x, 101, 99.0, -12.25, 12.25);
    percentile(x, 101, 99.9, -12.475, 12.475);
    percentile(x, 101, 99.999, -12.49975, 12.49975);
    percentile(x, 101, 100.0, -12.5, 12.5);
    const float y[] = {3, -1, 4, 1, -5, 9, 2, -6};
    percentile(y, 8, 60.0, 0.6, 2.2);
    percentile(y, 8, 87.5, -5.125, 4.625);
    percentile(y, 8, 95.0, -5.65, 7.25);
    const float two[] = {3, -1}, one[] = {7};
    percentile(two, 2, 90.0, -0.6, 2.6);
    percentile(one, 1, 99.0, 7.0, 7.0);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double sorted_percentile(const float *sorted, int64_t n, double p) {
    double rank = (double)(n - 1) * p / 100.0;
    int64_t at = (int64_t)rank;
    return at + 1 < n ? sorted[at] + (rank - (double)at) * (sorted[at + 1] - sorted[at]) : sorted[at];
}

static void test_percentile_of_many(void **state) {
    (void)state;
    enum { N = 5000 };
    static float x[N], sorted[N];
    const double p[] = {50.5, 66.0, 99.0, 99.9, 99.99, 99.999};
    uint64_t key = gm_rng_key(2, "percentile");
    for (int batch = 0; batch < 3; batch++) {
        for (int i = 0; i < N; i++) /* many ties */
            sorted[i] = x[i] = (float)gm_rng_below(key, (uint64_t)(batch * N + i), batch == 0 ? 40 : 1000000) - 20.0f;
        qsort(sorted, N, sizeof *sorted, by_value);
        for (int i = 0; i < 6; i++) {
            gm_observer o = {.range = GM_RANGE_PERCENTILE, .percentile = p[i]};
            feed(&o, x, N / 50, 50, 50, N);
            gm_observer_fold(&o);
            double lo = sorted_percentile(sorted, N, 100.0 - p[i]), hi = sorted_percentile(sorted, N, p[i]);
            NEAR(o.lo, lo, 1e-6 * (1.0 + fabs(lo)));
            NEAR(o.hi, hi, 1e-6 * (1.0 + fabs(hi)));
            gm_observer_free(&o);
        }
    }
}

/* Percentiles run too, and an observer is used for batch after batch of other sizes. */
static void test_percentile_runs(void **state) {
    (void)state;
    const float a[] = {0, 10}, b[] = {0, 1, 2, 3, 40};
    gm_observer o = {.range = GM_RANGE_PERCENTILE, .percentile = 75.0};
    feed(&o, a, 1, 2, 2, 2);
    gm_observer_fold(&o);
    NEAR(o.lo, 2.5, 1e-6);
    NEAR(o.hi, 7.5, 1e-6);
    feed(&o, b, 1, 5, 5, 5);
    gm_observer_fold(&o);
    NEAR(o.lo, 0.9 * 2.5 + 0.1 * 1.0, 1e-6);
    NEAR(o.hi, 0.9 * 7.5 + 0.1 * 3.0, 1e-6);
    gm_observer_free(&o);
}

/* ---- weights */

/* The published search, straight from its definition. */
static float searched_scale(const float *x, int64_t n, float absmax, int bits) {
    double best = 0, least = HUGE_VAL, steps = ldexp(1, bits - 1) - 1;
    for (int i = 1; i <= 100; i++) {
        float scale = (float)((absmax + 0.5) * i / 100) / (float)steps;
        double error = 0;
        for (int64_t j = 0; j < n; j++) {
            double q = nearbyint((double)(x[j] / scale));
            q = q > steps ? steps : q < -steps - 1 ? -steps - 1 : q;
            error += pow(x[j] - q * scale, 2);
        }
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return (float)best;
}

static void test_weight_grids(void **state) {
    (void)state;
    enum { ROWS = 6, COLS = 300 };
    static float w[ROWS * COLS];
    uint64_t key = gm_rng_key(3, "weights");
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = (float)(gm_rng_normal(key, (uint64_t)i) * (1 + i / COLS));
    w[17] = -60.0f; /* an outlier that the search cuts off */
    for (int bits = 3; bits <= 8; bits++) {
        gm_quant_grid g[ROWS];
        gm_weight_grids(ctx, g, w, ROWS, COLS,
                        &(gm_quantizer){.bits = bits, .grain = GM_GRAIN_TENSOR, .range = GM_RANGE_MINMAX, .margin = 0.5});
        assert_true(g[0].scale == gm_quant_symmetric(bits, 60.0f).scale);
        gm_weight_grids(ctx, g, w, ROWS, COLS,
                        &(gm_quantizer){.bits = bits, .grain = GM_GRAIN_CHANNEL, .range = GM_RANGE_MINMAX, .margin = 0.5});
        for (int r = 0; r < ROWS; r++)
            assert_true(g[r].scale == gm_quant_symmetric(bits, gm_inf_norm(ctx, w + r * COLS, COLS)).scale);
        gm_weight_grids(ctx, g, w, ROWS, COLS,
                        &(gm_quantizer){.bits = bits, .grain = GM_GRAIN_TENSOR, .range = GM_RANGE_MSE, .margin = 0.5});
        NEAR(g[0].scale, searched_scale(w, ROWS * COLS, 60.0f, bits), 1e-6);
        if (bits == 3)
            assert_true(g[0].scale < 0.8f * gm_quant_symmetric(bits, 60.0f).scale);
        gm_weight_grids(ctx, g, w, ROWS, COLS,
                        &(gm_quantizer){.bits = bits, .grain = GM_GRAIN_CHANNEL, .range = GM_RANGE_MSE, .margin = 0.5});
        for (int r = 0; r < ROWS; r++) /* one search range for all rows: the matrix's */
            NEAR(g[r].scale, searched_scale(w + r * COLS, COLS, 60.0f, bits), 1e-6);
    }
}

/* The margin of 0.5 makes the grid coarse for small weights: candidates of a matrix within +-0.01 are 0.0051 apart. */
static void test_weight_search_is_coarse_for_small_weights(void **state) {
    (void)state;
    float w[100];
    for (int i = 0; i < 100; i++)
        w[i] = 0.0001f * (float)(i + 1);
    gm_quant_grid g;
    gm_weight_grids(ctx, &g, w, 1, 100, &(gm_quantizer){.bits = 8, .grain = GM_GRAIN_TENSOR, .range = GM_RANGE_MSE, .margin = 0.5});
    NEAR(g.scale, 0.51 * 2 / 100 / 127, 1e-9); /* the second candidate is the first that does not clip */
    const float ends[] = {-200, 0, 0, 200};    /* the last of the hundred is the best: 200.5, then 198.495 */
    gm_weight_grids(ctx, &g, ends, 1, 4, &(gm_quantizer){.bits = 2, .grain = GM_GRAIN_TENSOR, .range = GM_RANGE_MSE, .margin = 0.5});
    assert_true(g.scale == 200.5f);
    w[3] = NAN;
    gm_weight_grids(ctx, &g, w, 1, 100, &(gm_quantizer){.bits = 8, .grain = GM_GRAIN_TENSOR, .range = GM_RANGE_MSE, .margin = 0.5});
    assert_true(isnan(simulated(0.5f, g)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_symmetric),
        cmocka_unit_test(test_symmetric_bits),
        cmocka_unit_test(test_symmetric_edges),
        cmocka_unit_test(test_asymmetric),
        cmocka_unit_test(test_asymmetric_contains_zero),
        cmocka_unit_test(test_asymmetric_zero_point),
        cmocka_unit_test(test_asymmetric_edges),
        cmocka_unit_test(test_simulate_array),
        cmocka_unit_test(test_running_range),
        cmocka_unit_test(test_percentile_is_numpys),
        cmocka_unit_test(test_percentile_of_many),
        cmocka_unit_test(test_percentile_runs),
        cmocka_unit_test(test_weight_grids),
        cmocka_unit_test(test_weight_search_is_coarse_for_small_weights),
    };
    return cmocka_run_group_tests(tests, open_context, close_all);
}
