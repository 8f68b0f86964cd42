/* Metrics of hand-made tensors: values worked out on paper, and an oracle that keeps everything and loops over it in long double. */
#include "fixture.h"

#include "ghostmax_model.h"
#include "metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void assert_near(double got, double want, double tolerance, int line) {
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want))))
        fail_msg("line %d: got %.17g, want %.17g", line, got, want);
}
#define NEAR(got, want) assert_near(got, want, 1e-12, __LINE__)
#define NEAR_WITHIN(got, want, tolerance) assert_near(got, want, tolerance, __LINE__)

/* ---- primitives */

static void test_inf_norm(void **state) {
    (void)state;
    const float x[] = {1.0f, -7.5f, 3.0f, 0.0f, 7.25f};
    assert_true(gm_inf_norm(ctx, x, 5) == 7.5f);
    assert_true(gm_inf_norm(ctx, x, 1) == 1.0f);
    assert_true(gm_inf_norm(ctx, x, 0) == 0.0f);
    float big[100];
    for (int at = 0; at < 100; at++) { /* in the vector part, in the tail, before and after the largest value */
        for (int i = 0; i < 100; i++)
            big[i] = (float)i;
        big[at] = NAN;
        assert_true(isnan(gm_inf_norm(ctx, big, 100)));
        big[at] = -INFINITY;
        assert_true(gm_inf_norm(ctx, big, 100) == INFINITY);
    }
}

static void test_min_max(void **state) {
    (void)state;
    float x[50], lo, hi;
    for (int i = 0; i < 50; i++)
        x[i] = (float)((i * 17) % 50) - 20.0f;
    gm_min_max(ctx, &lo, &hi, x, 50);
    assert_true(lo == -20.0f && hi == 29.0f);
    gm_min_max(ctx, &lo, &hi, x, 0);
    assert_true(lo == INFINITY && hi == -INFINITY);
    x[49] = NAN;
    gm_min_max(ctx, &lo, &hi, x, 50);
    assert_true(isnan(lo) && isnan(hi));
}

static void test_moments_by_hand(void **state) {
    (void)state;
    /* 1 2 3 4 10: mean 4; deviations -3 -2 -1 0 6: squares 9 4 1 0 36, cubes -27 -8 -1 0 216, fourth powers 81 16 1 0 1296 */
    const float x[] = {1, 2, 3, 4, 10};
    gm_moments m = gm_moments_of(ctx, x, 5);
    assert_int_equal(m.n, 5);
    NEAR(m.mean, 4.0);
    NEAR(m.m2, 50.0);
    NEAR(m.m3, 180.0);
    NEAR(m.m4, 1394.0);
    /* s^2 = 50/4 with N-1; mean fourth power 278.8; no -3 */
    NEAR(gm_kurtosis(&m, 0.0), 278.8 / 156.25);
    NEAR(gm_kurtosis(&m, 1e-6), 278.8 / (156.25 + 1e-6));
    NEAR(gm_kurtosis(&m, 100.0), 278.8 / 256.25);
    NEAR(gm_excess_kurtosis(&m), 5.0 * 1394.0 / 2500.0 - 3.0);
}

static void test_moments_edges(void **state) {
    (void)state;
    const float constant[] = {3, 3, 3, 3}, one[] = {5}, bad[] = {1, NAN, 2}, endless[] = {1, INFINITY, 2};
    gm_moments m = gm_moments_of(ctx, constant, 4);
    assert_true(m.m2 == 0.0);
    assert_true(isnan(gm_kurtosis(&m, 0.0)));
    assert_true(gm_kurtosis(&m, 1e-6) == 0.0);
    assert_true(isnan(gm_excess_kurtosis(&m)));
    m = gm_moments_of(ctx, one, 1);
    assert_true(isnan(gm_kurtosis(&m, 1e-6)));
    m = gm_moments_of(ctx, one, 0);
    assert_int_equal(m.n, 0);
    assert_true(isnan(gm_kurtosis(&m, 1e-6)) && isnan(gm_excess_kurtosis(&m)));
    m = gm_moments_of(ctx, bad, 3);
    assert_true(isnan(m.mean) && isnan(gm_kurtosis(&m, 1e-6)));
    m = gm_moments_of(ctx, endless, 3);
    assert_true(isnan(gm_kurtosis(&m, 1e-6)));
}

/* The published eps swamps small tensors: values of +-0.01 have s^4 = 1e-8. */
static void test_eps_swamps_small_tensors(void **state) {
    (void)state;
    float x[1000];
    for (int i = 0; i < 1000; i++)
        x[i] = i % 2 ? 0.01f : -0.01f;
    gm_moments m = gm_moments_of(ctx, x, 1000);
    NEAR_WITHIN(gm_kurtosis(&m, 0.0), 999.0 * 999.0 / 1e6, 1e-7);
    assert_true(gm_kurtosis(&m, 1e-6) < 0.01);
}

static void fill(float *x, int64_t n, uint64_t seed, double mean, double scale) {
    uint64_t key = gm_rng_key(seed, "metrics");
    for (int64_t i = 0; i < n; i++)
        x[i] =
            (float)(mean + scale * gm_rng_normal(key, (uint64_t)i) * (gm_rng_below(key, (uint64_t)(i + (1 << 20)), 50) == 0 ? 30.0 : 1.0));
}

static gm_moments moments_in_long_double(const float *x, int64_t n) {
    long double mean = 0, m2 = 0, m3 = 0, m4 = 0;
    for (int64_t i = 0; i < n; i++)
        mean += x[i];
    mean /= n;
    for (int64_t i = 0; i < n; i++) {
        m2 += powl(x[i] - mean, 2);
        m3 += powl(x[i] - mean, 3);
        m4 += powl(x[i] - mean, 4);
    }
    return (gm_moments){n, (double)mean, (double)m2, (double)m3, (double)m4};
}

static void same_moments(gm_moments got, gm_moments want) {
    assert_int_equal(got.n, want.n);
    NEAR_WITHIN(got.mean, want.mean, 1e-11);
    NEAR_WITHIN(got.m2 / want.m2, 1.0, 1e-11);
    NEAR_WITHIN(got.m4 / want.m4, 1.0, 1e-11);
    NEAR_WITHIN(got.m3 / want.m4, want.m3 / want.m4, 1e-11);
}

static void test_moments_any_size_and_merged(void **state) {
    (void)state;
    enum { N = 300 };
    float x[N];
    fill(x, N, 7, 100.0, 0.5); /* far from zero: what one-pass sums of powers would lose */
    for (int64_t n = 2; n <= N; n += n < 40 ? 1 : 37) {
        gm_moments want = moments_in_long_double(x, n);
        same_moments(gm_moments_of(ctx, x, n), want);
        for (int64_t cut = 0; cut <= n; cut += 1 + n / 5)
            same_moments(gm_moments_merge(gm_moments_of(ctx, x, cut), gm_moments_of(ctx, x + cut, n - cut)), want);
    }
}

/* One sequence, with its rows looked at first. */
static void tensor_add(gm_tensor_stats *s, const float *x, int64_t rows_count, int64_t width, int64_t stride, bool kurtosis) {
    gm_row rows[128];
    gm_moments moments[GM_POSITIONS_COUNT];
    gm_rows_of(rows, ctx, x, rows_count, width, stride);
    gm_tensor_stats_add(s, rows, x, rows_count, width, stride, kurtosis, moments);
}

/* ---- one tensor over sequences, against an oracle that keeps them all */

enum { SEQUENCES = 5, T = 7, C = 24, STRIDE = 31 };

static gm_tensor_summary oracle(const float *x, gm_positions positions, bool per_token) {
    static float all[SEQUENCES * T * C];
    int64_t total = 0, groups = 0;
    long double inf = 0, kurtosis = 0, kurtosis0 = 0;
    gm_tensor_summary sum = {0};
    for (int b = 0; b < SEQUENCES; b++) {
        int64_t begin = total;
        for (int t = positions == GM_WITHOUT_FIRST; t < T; t++) {
            for (int c = 0; c < C; c++)
                all[total++] = x[(b * T + t) * STRIDE + c];
            if (!per_token && t < T - 1)
                continue;
            long double mean = 0, s2 = 0, m4 = 0, max = 0;
            int64_t n = total - begin;
            for (int64_t i = begin; i < total; i++)
                mean += all[i] / (long double)n;
            for (int64_t i = begin; i < total; i++) {
                s2 += powl(all[i] - mean, 2) / (n - 1);
                m4 += powl(all[i] - mean, 4) / n;
                max = fmaxl(max, fabsl(all[i]));
            }
            inf += max;
            kurtosis += m4 / (s2 * s2 + 1e-6L);
            kurtosis0 += m4 / (s2 * s2);
            groups++;
            sum.absmax = fmax(sum.absmax, (double)max);
            begin = total;
        }
    }
    gm_moments pooled = moments_in_long_double(all, total);
    sum.inf_norm = (double)(inf / groups);
    sum.kurtosis = (double)(kurtosis / groups);
    sum.kurtosis_eps0 = (double)(kurtosis0 / groups);
    sum.excess_kurtosis = total * pooled.m4 / (pooled.m2 * pooled.m2) - 3.0;
    sum.mean = pooled.mean;
    sum.standard_dev = sqrt(pooled.m2 / total);
    return sum;
}

static void test_tensor_stats_against_oracle(void **state) {
    (void)state;
    static float x[SEQUENCES * T * STRIDE];
    fill(x, SEQUENCES * T * STRIDE, 3, 0.3, 0.2);
    for (int b = 0; b < SEQUENCES; b++)
        x[b * T * STRIDE + 5] = 50.0f + (float)b; /* position 0 dominates */
    for (int per_token = 0; per_token < 2; per_token++) {
        gm_tensor_stats s;
        assert_int_equal(gm_tensor_stats_init(&s, per_token, NULL), GM_OK);
        for (int b = 0; b < SEQUENCES; b++)
            tensor_add(&s, x + b * T * STRIDE, T, C, STRIDE, true);
        for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
            gm_tensor_summary got = gm_tensor_stats_summary(&s, (gm_positions)p), want = oracle(x, (gm_positions)p, per_token);
            NEAR(got.inf_norm, want.inf_norm);
            NEAR_WITHIN(got.kurtosis, want.kurtosis, 1e-11);
            NEAR_WITHIN(got.kurtosis_eps0, want.kurtosis_eps0, 1e-11);
            NEAR_WITHIN(got.excess_kurtosis, want.excess_kurtosis, 1e-11);
            NEAR(got.mean, want.mean);
            NEAR(got.standard_dev, want.standard_dev);
            assert_true(got.absmax == want.absmax);
        }
        NEAR(gm_tensor_stats_summary(&s, GM_ALL_POSITIONS).absmax, 54.0);
        assert_true(gm_tensor_stats_summary(&s, GM_WITHOUT_FIRST).absmax < 50.0);
        gm_tensor_stats_free(&s);
    }
}

/* Sequences {0 0 0 4} and {0 8 0 0}: inf norms 4 and 8; the deviations of the first are -1 -1 -1 3, so s^2 = 12/3, k = 21/16. */
static void test_tensor_stats_by_hand(void **state) {
    (void)state;
    const float a[] = {0, 0, 0, 4}, b[] = {0, 8, 0, 0};
    gm_tensor_stats s;
    assert_int_equal(gm_tensor_stats_init(&s, false, NULL), GM_OK);
    tensor_add(&s, a, 2, 2, 2, true);
    tensor_add(&s, b, 2, 2, 2, true);
    gm_tensor_summary sum = gm_tensor_stats_summary(&s, GM_ALL_POSITIONS);
    NEAR(sum.inf_norm, 6.0);
    NEAR(sum.kurtosis_eps0, 21.0 / 16.0);
    NEAR(sum.kurtosis, 0.5 * (21.0 / (16.0 + 1e-6) + 16.0 * 21.0 / (256.0 + 1e-6)));
    sum = gm_tensor_stats_summary(&s, GM_WITHOUT_FIRST); /* {0 4} and {0 0}: the second is constant */
    NEAR(sum.inf_norm, 2.0);
    assert_true(isnan(sum.kurtosis_eps0));
    NEAR(sum.kurtosis, 0.5 * 16.0 / (64.0 + 1e-6));
    gm_tensor_stats_free(&s);
}

static void test_tensor_stats_edges(void **state) {
    (void)state;
    float x[6] = {1, 2, 3, 4, 5, 6};
    gm_tensor_stats s;
    assert_int_equal(gm_tensor_stats_init(&s, false, NULL), GM_OK);
    assert_true(isnan(gm_tensor_stats_summary(&s, GM_ALL_POSITIONS).inf_norm));
    assert_true(isnan(gm_sketch_size_quantile(&s.sketch, 0.5)));
    tensor_add(&s, x, 1, 6, 6, true); /* one position: nothing is left without it */
    assert_true(isnan(gm_tensor_stats_summary(&s, GM_WITHOUT_FIRST).inf_norm));
    NEAR(gm_tensor_stats_summary(&s, GM_ALL_POSITIONS).inf_norm, 6.0);
    /* a later sequence that is left out of kurtosis still counts for the norm */
    double kurtosis = gm_tensor_stats_summary(&s, GM_ALL_POSITIONS).kurtosis;
    x[0] = 100.0f;
    tensor_add(&s, x, 1, 6, 6, false);
    assert_true(gm_tensor_stats_summary(&s, GM_ALL_POSITIONS).kurtosis == kurtosis);
    NEAR(gm_tensor_stats_summary(&s, GM_ALL_POSITIONS).inf_norm, 53.0);
    x[3] = NAN;
    tensor_add(&s, x, 2, 3, 3, true);
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        gm_tensor_summary sum = gm_tensor_stats_summary(&s, (gm_positions)p);
        assert_true(isnan(sum.inf_norm) && isnan(sum.kurtosis) && isnan(sum.excess_kurtosis) && isnan(sum.absmax));
    }
    assert_true(isnan(gm_sketch_size_quantile(&s.sketch, 0.5)));
    gm_tensor_stats_free(&s);
}

/* ---- heads */

static void test_head_stats(void **state) {
    (void)state;
    /* causal, T = 4: weights on position 0: 1, .5, 0, .1 -> a = .4 (a sink); without query 0: .2 */
    const float w[4][4] = {{1, 0, 0, 0}, {.5f, .5f, 0, 0}, {0, .25f, .5f, 0}, {.125f, 0, .125f, .25f}};
    const float null_mass[4] = {0, 0, .25f, .5f};
    gm_head_stats s = {0};
    gm_head_stats_add(&s, &w[0][0], 4, 4, null_mass);
    gm_head_summary all = gm_head_stats_summary(&s, GM_ALL_POSITIONS), rest = gm_head_stats_summary(&s, GM_WITHOUT_FIRST);
    NEAR(all.sink_mass, 1.625 / 4.0);
    NEAR(all.sink_rate, 100.0);
    NEAR(all.null_mass, 0.75 / 4.0);
    NEAR(all.unspent, 0.75 / 4.0);
    NEAR(rest.sink_mass, 0.625 / 3.0);
    NEAR(rest.sink_rate, 0.0);
    NEAR(rest.null_mass, 0.25);
    NEAR(rest.unspent, 0.25);
    /* a second sequence that spends everything on itself: a = 1/4, no sink, no null mass */
    const float own[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    gm_head_stats_add(&s, &own[0][0], 4, 4, NULL);
    all = gm_head_stats_summary(&s, GM_ALL_POSITIONS);
    NEAR(all.sink_mass, (1.625 + 1.0) / 8.0);
    NEAR(all.sink_rate, 50.0);
    NEAR(all.unspent, 0.75 / 8.0);
}

/* Sink_1^0.3 sees 64 queries; null mass sees all; just below 0.3 is no sink. */
static void test_head_stats_window_and_threshold(void **state) {
    (void)state;
    enum { LONG = 80, WIDE = 90 };
    static float w[LONG * WIDE];
    static float null_mass[LONG];
    for (int t = 0; t < LONG; t++) {
        w[t * WIDE] = t < 64 ? 0.296875f : 1.0f;
        null_mass[t] = t < 64 ? 0.703125f : 0.0f;
    }
    gm_head_stats s = {0};
    gm_head_stats_add(&s, w, LONG, WIDE, null_mass);
    gm_head_summary sum = gm_head_stats_summary(&s, GM_ALL_POSITIONS);
    NEAR(sum.sink_mass, 0.296875);
    NEAR(sum.sink_rate, 0.0);
    NEAR(sum.null_mass, 0.703125 * 64 / 80);
    NEAR(sum.unspent, 0.703125 * 64 / 80);
    for (int t = 0; t < 64; t++)
        w[t * WIDE] = 0.3125f;
    gm_head_stats_add(&s, w, LONG, WIDE, null_mass);
    NEAR(gm_head_stats_summary(&s, GM_ALL_POSITIONS).sink_rate, 50.0);
    w[5 * WIDE] = NAN;
    gm_head_stats_add(&s, w, LONG, WIDE, null_mass);
    sum = gm_head_stats_summary(&s, GM_ALL_POSITIONS);
    assert_true(isnan(sum.sink_mass) && isnan(sum.sink_rate) && isnan(sum.unspent));
}

/* ---- outliers */

static void test_massive(void **state) {
    (void)state;
    enum { ROWS = 4, WIDTH = 8 };
    float x[ROWS * WIDTH], scratch[ROWS * WIDTH];
    const int32_t tokens[ROWS] = {10, 11, 12, 13};
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = i % 2 ? 0.25f : -0.25f;
    x[0 * WIDTH + 3] = -400.0f;
    x[2 * WIDTH + 5] = 250.0f; /* exactly 1000 medians */
    x[3 * WIDTH + 1] = 249.0f; /* > 100, but not 1000 medians */
    gm_massive_stats s = {0};
    gm_massive_stats_add(&s, x, ROWS, WIDTH, WIDTH, 7, 2, tokens, scratch);
    assert_int_equal(s.count[GM_ALL_POSITIONS], 2);
    assert_int_equal(s.count[GM_WITHOUT_FIRST], 1);
    assert_int_equal(s.kept, 2);
    assert_true(s.list[0].value == -400.0f && s.list[0].layer == 7 && s.list[0].dim == 3 && s.list[0].position == 0);
    assert_true(s.list[0].token == 10 && s.list[0].sequence == 2);
    assert_true(s.list[1].value == 250.0f && s.list[1].dim == 5 && s.list[1].position == 2 && s.list[1].token == 12);
    /* a small median is not enough: nothing here exceeds 100 */
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = 1e-3f;
    x[4] = 100.0f;
    gm_massive_stats_add(&s, x, ROWS, WIDTH, WIDTH, 7, 3, tokens, scratch);
    assert_int_equal(s.count[GM_ALL_POSITIONS], 2);
    x[4] = NAN;
    gm_massive_stats_add(&s, x, ROWS, WIDTH, WIDTH, 7, 4, tokens, scratch);
    assert_int_equal(s.count[GM_ALL_POSITIONS], 2);
}

/* The median of 2 k values is the mean of the two in the middle: with 0.1 (6 times) and 0.3 (6 times) it is 0.2. */
static void test_massive_median(void **state) {
    (void)state;
    float x[12], scratch[12];
    const int32_t token = 0;
    for (int i = 0; i < 12; i++)
        x[i] = i % 2 ? 0.125f : 0.375f;
    x[6] = 250.0f; /* takes the place of a 0.375 */
    gm_massive_stats s = {0};
    gm_massive_stats_add(&s, x, 1, 12, 12, 0, 0, &token, scratch);
    assert_int_equal(s.count[GM_ALL_POSITIONS], 1); /* 1000 x 0.25 */
    s = (gm_massive_stats){0};
    x[6] = 249.0f;
    gm_massive_stats_add(&s, x, 1, 12, 12, 0, 0, &token, scratch);
    assert_int_equal(s.count[GM_ALL_POSITIONS], 0);
}

static void test_massive_list_keeps_the_largest(void **state) {
    (void)state;
    enum { MANY = 1000 };
    static float x[MANY], scratch[MANY];
    const int32_t token = 1;
    gm_massive_stats s = {0};
    for (int i = 0; i < 300; i++)
        x[i] = 200.0f + (float)((i * 37) % 300); /* the other 700 are 0: median 0 */
    gm_massive_stats_add(&s, x, 1, MANY, MANY, 0, 0, &token, scratch);
    assert_int_equal(s.count[GM_ALL_POSITIONS], 300);
    assert_int_equal(s.kept, GM_MASSIVE_KEPT);
    for (int i = 0; i < GM_MASSIVE_KEPT; i++)
        assert_true(s.list[i].value == (float)(499 - i));
}

static void test_features(void **state) {
    (void)state;
    enum { LAYERS = 8, WIDTH = 3, LENGTH = 50, BATCH = 2 };
    static float x[BATCH * LENGTH * WIDTH];
    gm_feature_stats s;
    assert_int_equal(gm_feature_stats_init(&s, LAYERS, WIDTH, BATCH * LENGTH, NULL), GM_OK);
    for (int layer = 0; layer < LAYERS; layer++) {
        memset(x, 0, sizeof x);
        for (int b = 0; b < BATCH; b++) {
            float *sequence = x + b * LENGTH * WIDTH;
            for (int t = 1; t <= 3; t++) /* dim 0: 2 of 8 layers, 3 of 50 positions: both exactly at the threshold */
                sequence[t * WIDTH + 0] = layer < 2 ? -6.0f : 5.99f;
            for (int t = 0; t < 3; t++) /* dim 1: all layers, 3 of 50 with position 0, 2 of 49 without */
                sequence[t * WIDTH + 1] = 7.0f;
            for (int t = 0; t < LENGTH; t++) /* dim 2: everywhere, but in one layer of eight */
                sequence[t * WIDTH + 2] = layer == 5 ? 60.0f : 1.0f;
        }
        gm_feature_stats_add(&s, x, BATCH * LENGTH, LENGTH, WIDTH, layer);
    }
    gm_feature_stats_commit(&s, BATCH * LENGTH, LENGTH);
    double layers, positions;
    assert_true(gm_feature_stats_is_outlier(&s, 0, GM_ALL_POSITIONS, &layers, &positions));
    NEAR(layers, 0.25);
    NEAR(positions, 0.06);
    assert_true(gm_feature_stats_is_outlier(&s, 0, GM_WITHOUT_FIRST, &layers, &positions));
    NEAR(positions, 3.0 / 49.0);
    assert_true(gm_feature_stats_is_outlier(&s, 1, GM_ALL_POSITIONS, &layers, &positions));
    assert_false(gm_feature_stats_is_outlier(&s, 1, GM_WITHOUT_FIRST, &layers, &positions));
    NEAR(layers, 1.0);
    NEAR(positions, 2.0 / 49.0);
    assert_false(gm_feature_stats_is_outlier(&s, 2, GM_ALL_POSITIONS, &layers, &positions));
    NEAR(layers, 0.125);
    NEAR(positions, 1.0);
    /* the next batch starts with clean marks */
    memset(x, 0, sizeof x);
    gm_feature_stats_add(&s, x, LENGTH, LENGTH, WIDTH, 0);
    gm_feature_stats_commit(&s, LENGTH, LENGTH);
    gm_feature_stats_is_outlier(&s, 2, GM_ALL_POSITIONS, &layers, &positions);
    NEAR(positions, 2.0 / 3.0);
    gm_feature_stats_free(&s);
}

static void test_classes(void **state) {
    (void)state;
    enum { ROWS = 3, WIDTH = 100 };
    static float x[ROWS * WIDTH];
    const uint8_t classes[ROWS] = {GM_CLASS_BOS, GM_CLASS_WORD, GM_CLASS_PUNCTUATION};
    for (int i = 0; i < ROWS * WIDTH; i++)
        x[i] = i % 2 ? 1.0f : -1.0f;
    x[0] = 40.0f;
    x[2 * WIDTH + 7] = -30.0f;
    x[2 * WIDTH + 8] = 35.0f;
    x[1 * WIDTH + 3] = 21.5f; /* s is 3.79 over all, so that six of them are 22.8; without the first row 3.54 and 21.2 */
    const gm_moments m[GM_POSITIONS_COUNT] = {gm_moments_of(ctx, x, ROWS * WIDTH), gm_moments_of(ctx, x + WIDTH, (ROWS - 1) * WIDTH)};
    gm_class_stats s = {0};
    gm_class_stats_add(&s, x, ROWS, WIDTH, WIDTH, m, classes);
    assert_int_equal(s.count[GM_ALL_POSITIONS][GM_CLASS_BOS], 1);
    assert_int_equal(s.count[GM_ALL_POSITIONS][GM_CLASS_PUNCTUATION], 2);
    assert_int_equal(s.count[GM_ALL_POSITIONS][GM_CLASS_WORD], 0);
    assert_int_equal(s.count[GM_WITHOUT_FIRST][GM_CLASS_BOS], 0);
    assert_int_equal(s.tokens[GM_ALL_POSITIONS][GM_CLASS_BOS], 1);
    assert_int_equal(s.tokens[GM_WITHOUT_FIRST][GM_CLASS_BOS], 0);
    assert_int_equal(s.tokens[GM_WITHOUT_FIRST][GM_CLASS_WORD], 1);
    gm_class_stats_add(&s, x, ROWS, WIDTH, WIDTH, m, NULL); /* no tokenizer: all one class */
    assert_int_equal(s.count[GM_ALL_POSITIONS][GM_CLASS_OTHER], 3);
    assert_int_equal(s.tokens[GM_ALL_POSITIONS][GM_CLASS_OTHER], ROWS);
}

/* ---- heads: entropy, what they add, what their values say */

static void test_head_entropy(void **state) {
    (void)state;
    /* one key: 0; two halves: ln 2; 1/4 and 1/2 spent (of 3/4): ln 3 - 2/3 ln 2; nothing spent: left out */
    const float w[4][4] = {{1, 0, 0, 0}, {.5f, .5f, 0, 0}, {0, .25f, .5f, 0}, {0, 0, 0, 0}};
    gm_head_stats s = {0};
    gm_head_stats_add(&s, &w[0][0], 4, 4, NULL);
    gm_head_stats_add_entropy(&s, &w[0][0], 4, 4);
    double third = log(3.0) - 2.0 / 3.0 * log(2.0);
    NEAR_WITHIN(gm_head_stats_summary(&s, GM_ALL_POSITIONS).entropy, (log(2.0) + third) / 3.0, 1e-7);
    NEAR_WITHIN(gm_head_stats_summary(&s, GM_WITHOUT_FIRST).entropy, (log(2.0) + third) / 2.0, 1e-7);
    const float nothing[4] = {0};
    gm_head_stats silent = {0};
    gm_head_stats_add_entropy(&silent, nothing, 2, 2);
    assert_true(isnan(gm_head_stats_summary(&silent, GM_ALL_POSITIONS).entropy));
}

static void test_head_noop_and_drain(void **state) {
    (void)state;
    const double head[4] = {1, 2, 3, 4}, residual[4] = {2, 4, 0, 16}; /* a row of zeros is left out */
    gm_head_stats s = {0};
    gm_head_stats_add_noop(&s, head, residual, 4);
    NEAR(gm_head_stats_summary(&s, GM_ALL_POSITIONS).noop, 1.25 / 3.0);
    NEAR(gm_head_stats_summary(&s, GM_WITHOUT_FIRST).noop, 0.75 / 2.0);
    const double other[4] = {1, 1, 1, 1};
    gm_head_stats_add_noop(&s, other, other, 4);
    NEAR(gm_head_stats_summary(&s, GM_ALL_POSITIONS).noop, 0.5 * (1.25 / 3.0 + 1.0));
    const double drained[3] = {1, 4, 6};
    gm_head_stats_add_drain(&s, drained, 3);
    NEAR(gm_head_stats_summary(&s, GM_ALL_POSITIONS).drain, 0.2);
    gm_head_stats_add_drain(&s, drained, 1); /* no others: no value */
    NEAR(gm_head_stats_summary(&s, GM_WITHOUT_FIRST).drain, 0.2);
}

/* ---- positions */

static void test_position_bins(void **state) {
    (void)state;
    int last = -1;
    for (int64_t t = 0; t < 5000; t++) {
        int bin = gm_position_bin(t);
        assert_true(bin == last || bin == last + 1);
        if (bin > last)
            assert_int_equal(gm_position_bin_begin(bin), t);
        last = bin;
    }
    assert_int_equal(gm_position_bin(15), 15);
    assert_int_equal(gm_position_bin(16), 16);
    assert_int_equal(gm_position_bin(24), 17);
    assert_int_equal(gm_position_bin_begin(18), 32);
    assert_int_equal(gm_position_bin_begin(19), 48);
    assert_int_equal(gm_position_bin_begin(20), 64);
}

static void test_position_stats(void **state) {
    (void)state;
    enum { ROWS = 26, WIDTH = 3 };
    float x[ROWS * WIDTH] = {0};
    gm_row rows[ROWS];
    for (int t = 0; t < ROWS; t++) { /* (3 t, -4 t, 0): norm 5 t, inf norm 4 t */
        x[t * WIDTH] = 3.0f * (float)t;
        x[t * WIDTH + 1] = -4.0f * (float)t;
    }
    gm_position_stats s;
    assert_int_equal(gm_position_stats_init(&s, ROWS, NULL), GM_OK);
    assert_int_equal(s.bins, 18);
    gm_rows_of(rows, ctx, x, ROWS, WIDTH, WIDTH);
    gm_position_stats_add(&s, rows, ROWS);
    gm_position_stats_add(&s, rows, ROWS);
    NEAR(s.norm[7] / (double)s.count[7], 35.0);
    NEAR(s.norm[16] / (double)s.count[16], 5.0 * 19.5);
    NEAR(s.inf_norm[17] / (double)s.count[17], 4.0 * 24.5);
    assert_int_equal(s.count[17], 4);
    assert_true(s.absmax[17] == 100.0f);
    gm_position_stats_free(&s);
}

/* ---- dimensions */

static void test_dim_stats(void **state) {
    (void)state;
    enum { MANY = 6, ROWS = 9, WIDTH = 5, WIDE = 8 };
    static float x[MANY * ROWS * WIDE];
    int32_t tokens[ROWS];
    fill(x, MANY * ROWS * WIDE, 21, 0.5, 1.0);
    x[(3 * ROWS + 4) * WIDE + 2] = -500.0f;
    x[(1 * ROWS + 0) * WIDE + 4] = 800.0f; /* at position 0 */
    for (int t = 0; t < ROWS; t++)
        tokens[t] = 100 + t;
    gm_dim_stats s;
    assert_int_equal(gm_dim_stats_init(&s, WIDTH, NULL), GM_OK);
    for (int b = 0; b < MANY; b++)
        gm_dim_stats_add(&s, x + b * ROWS * WIDE, ROWS, WIDTH, WIDE, b, tokens);
    for (int c = 0; c < WIDTH; c++) {
        for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
            float column[MANY * ROWS], max = 0;
            int n = 0;
            for (int b = 0; b < MANY; b++) {
                for (int t = p; t < ROWS; t++) {
                    column[n++] = x[(b * ROWS + t) * WIDE + c];
                    max = fmaxf(max, fabsf(column[n - 1]));
                }
            }
            same_moments(s.moments[p][c], moments_in_long_double(column, n));
            assert_true(s.absmax[p][c] == max);
        }
    }
    assert_true(s.place[2].sequence == 3 && s.place[2].position == 4 && s.place[2].token == 104 && s.place[2].value == -500.0f);
    assert_true(s.place[4].sequence == 1 && s.place[4].position == 0 && s.place[4].value == 800.0f);
    assert_true(s.absmax[GM_WITHOUT_FIRST][4] < 800.0f);
    x[WIDE + 3] = NAN;
    gm_dim_stats_add(&s, x, ROWS, WIDTH, WIDE, MANY, tokens);
    assert_true(isnan(s.absmax[GM_ALL_POSITIONS][3]) && isnan(s.moments[GM_WITHOUT_FIRST][3].m2));
    assert_true(s.place[3].sequence == MANY && s.place[3].position == 1);
    assert_false(isnan(s.absmax[GM_ALL_POSITIONS][1]));
    gm_dim_stats_free(&s);
}

/* ---- the largest values: whatever the order of feeding, the same list */

static void test_largest(void **state) {
    (void)state;
    enum { MANY = 8, ROWS = 6, WIDTH = 10, KEPT = 12 };
    static float x[MANY * ROWS * WIDTH];
    int32_t tokens[ROWS] = {7, 8, 9, 10, 11, 12};
    gm_row rows[ROWS];
    gm_largest forwards, backwards, rest;
    for (int i = 0; i < MANY * ROWS * WIDTH; i++)
        x[i] = (float)((i * 7919) % 97) * (i % 2 ? 1.0f : -1.0f); /* many equals */
    x[5] = INFINITY;
    x[6] = NAN;
    assert_int_equal(gm_largest_init(&forwards, KEPT, NULL), GM_OK);
    assert_int_equal(gm_largest_init(&backwards, KEPT, NULL), GM_OK);
    assert_int_equal(gm_largest_init(&rest, KEPT, NULL), GM_OK);
    for (int b = 0; b < MANY; b++) {
        int other = MANY - 1 - b;
        gm_rows_of(rows, ctx, x + b * ROWS * WIDTH, ROWS, WIDTH, WIDTH);
        gm_largest_add(&forwards, rows, x + b * ROWS * WIDTH, ROWS, WIDTH, WIDTH, 0, 3, b, tokens);
        gm_largest_add(&rest, rows, x + b * ROWS * WIDTH, ROWS, WIDTH, WIDTH, 1, 3, b, tokens);
        gm_rows_of(rows, ctx, x + other * ROWS * WIDTH, ROWS, WIDTH, WIDTH);
        gm_largest_add(&backwards, rows, x + other * ROWS * WIDTH, ROWS, WIDTH, WIDTH, 0, 3, other, tokens);
    }
    assert_int_equal(forwards.kept, KEPT);
    bool taken[MANY * ROWS * WIDTH] = {false};
    for (int k = 0; k < KEPT; k++) { /* by search: the first largest finite value not yet taken */
        int best = -1;
        for (int i = 0; i < MANY * ROWS * WIDTH; i++) {
            if (!taken[i] && isfinite(x[i]) && (best < 0 || fabsf(x[i]) > fabsf(x[best])))
                best = i;
        }
        taken[best] = true;
        const gm_large_value *v = &forwards.list[k];
        assert_true(v->value == x[best]);
        assert_int_equal((v->sequence * ROWS + v->position) * WIDTH + v->dim, best);
        assert_int_equal(v->around[GM_LARGEST_BEFORE], tokens[v->position]);
        assert_int_equal(v->around[GM_LARGEST_BEFORE - 1], v->position ? tokens[v->position - 1] : -1);
        assert_memory_equal(&backwards.list[k], v, sizeof *v);
        assert_true(rest.list[k].position > 0);
    }
    gm_largest_free(&forwards);
    gm_largest_free(&backwards);
    gm_largest_free(&rest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inf_norm),
        cmocka_unit_test(test_min_max),
        cmocka_unit_test(test_moments_by_hand),
        cmocka_unit_test(test_moments_edges),
        cmocka_unit_test(test_eps_swamps_small_tensors),
        cmocka_unit_test(test_moments_any_size_and_merged),
        cmocka_unit_test(test_tensor_stats_against_oracle),
        cmocka_unit_test(test_tensor_stats_by_hand),
        cmocka_unit_test(test_tensor_stats_edges),
        cmocka_unit_test(test_head_stats),
        cmocka_unit_test(test_head_stats_window_and_threshold),
        cmocka_unit_test(test_massive),
        cmocka_unit_test(test_massive_median),
        cmocka_unit_test(test_massive_list_keeps_the_largest),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_head_entropy),
        cmocka_unit_test(test_head_noop_and_drain),
        cmocka_unit_test(test_position_bins),
        cmocka_unit_test(test_position_stats),
        cmocka_unit_test(test_dim_stats),
        cmocka_unit_test(test_largest),
    };
    return cmocka_run_group_tests(tests, open_context, close_all);
}
