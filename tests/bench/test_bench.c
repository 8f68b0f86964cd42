/* test_bench.c -- the benchmark's numbers: statistics by hand, limits from peaks that are set here, the JSON of noise. Nothing is timed
 * against a bound: how fast this machine is, is no test. */
#include "bench.h"
#include "noise.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * fabs(want)))
        fail_msg("%.17g, want %.17g", got, want);
}

static void test_statistics(void **state) {
    (void)state;
    double odd[] = {5, 1, 9, 2, 3};
    gm_samples s = gm_samples_of(odd, 5);
    near(s.median, 3);
    near(s.min, 1);
    near(s.p90, 9);
    near(s.mad, 2); /* |x - 3| sorted: 0 1 2 2 6 */
    double even[] = {4, 1, 2, 10};
    s = gm_samples_of(even, 4);
    near(s.median, 3);
    near(s.mad, 1.5); /* 1 1 2 7 */
    near(s.p90, 10);
    double ten[] = {10, 9, 8, 7, 6, 5, 4, 3, 2, 1};
    near(gm_samples_of(ten, 10).p90, 9);
    double one[] = {7};
    s = gm_samples_of(one, 1);
    near(s.median, 7);
    near(s.p90, 7);
    assert_true(s.mad == 0);
}

static int64_t calls;
static void count_call(void *state) {
    (void)state;
    calls++;
}

static void first_turn(void *state) {
    strcat(state, "a");
}
static void second_turn(void *state) {
    strcat(state, "b");
}

static void test_samples_are_calls(void **state) {
    (void)state;
    calls = 0;
    gm_samples s = gm_samples_take(count_call, NULL, (gm_timing){0, 0, 7});
    assert_int_equal(s.count, 7);
    assert_int_equal(s.calls, 7);
    assert_int_equal(calls, 8); /* one to warm up */
    s = gm_samples_take(count_call, NULL, (gm_timing){0.01, 1e-3, 3});
    assert_true(s.count >= 3 && s.calls > s.count); /* a call that short is made many times per sample */
    assert_true(s.min <= s.median && s.median <= s.p90);
    gm_samples two[2];
    char turns[32] = "";
    gm_samples_in_turn(two, NULL, (gm_call[]){{first_turn, turns}, {second_turn, turns}}, 2, (gm_timing){0, 0, 3});
    assert_string_equal(turns, "ab"
                               "ab"
                               "ba"
                               "ab"); /* each once to warm up, then in turn */
    assert_true(two[0].calls == 3 && two[1].calls == 3);
}

/* The ranks of a 95% interval of the median, as in tables of the sign test: 1 of 6..8, 2 of 9..11, 3 of 12, 6 of 20, 40 of 100. */
static void test_ratios(void **state) {
    (void)state;
    static const int ranks[][2] = {{1, 1}, {5, 1}, {6, 1}, {8, 1}, {9, 2}, {11, 2}, {12, 3}, {20, 6}, {100, 40}};
    for (int i = 0; i < GM_COUNT(ranks); i++) {
        double x[100];
        const int n = ranks[i][0], rank = ranks[i][1];
        for (int j = 0; j < n; j++)
            x[j] = n - j; /* n .. 1 */
        gm_ratio r = gm_ratio_of(x, n);
        near(r.median, (n + 1) / 2.0);
        near(r.low, rank);
        near(r.high, n + 1 - rank);
    }
}

/* A millisecond or, where something else runs too, as long as it takes; and three times as long as the last of these. */
static void pass_time(void *took) {
    const double start = gm_seconds();
    while (gm_seconds() < start + 1e-3) {
    }
    *(double *)took = gm_seconds() - start;
}

static void pass_three_times(void *took) {
    const double end = gm_seconds() + 3 * *(double *)took;
    while (gm_seconds() < end) {
    }
}

static void test_times_over_the_first(void **state) {
    (void)state;
    double took = 1e-3;
    gm_samples two[2];
    gm_ratio over[2];
    gm_samples_in_turn(two, over, (gm_call[]){{pass_time, &took}, {pass_three_times, &took}}, 2, (gm_timing){0, 0, 21});
    near(over[0].median, 1);
    near(over[0].low, 1);
    assert_true(over[1].low <= over[1].median && over[1].median <= over[1].high);
    assert_true(over[1].median > 1);
}

/* Peaks that are set are not measured: 1e9 multiply-adds, 8e9 8-bit ones, and memory at 100, 90, .. bytes/us by size; copying half,
 * updating twice that. One thread: half of everything. */
static void set_peaks(gm_peaks *p) {
    for (int one = 0; one < 2; one++) {
        for (int level = 0; level < GM_PEAK_LEVELS; level++) {
            p->fma[one][level] = one ? 0.5e9 : 1e9;
            p->dot[one][level] = one ? 4e9 : 8e9;
        }
        for (int size = 0; size < GM_PEAK_SIZES; size++) {
            double rate = (100 - 10 * size) * (one ? 0.5e6 : 1e6);
            p->bandwidth[GM_MOVE_READ][one][size] = rate;
            p->bandwidth[GM_MOVE_COPY][one][size] = rate / 2;
            p->bandwidth[GM_MOVE_UPDATE][one][size] = rate * 2;
        }
    }
}

static void test_limits(void **state) {
    (void)state;
    gm_ctx *ctx;
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 2}, NULL), GM_OK);
    gm_bench b = {.ctx = ctx};
    set_peaks(&b.peaks);
    const double smallest = 0x1.8p14;

    gm_limit l = gm_bench_limit(&b, &(gm_work){.flops = 3e9, .read = 1000}, 2);
    near(l.seconds, 3);
    assert_string_equal(l.bound, "fma");
    near(gm_bench_limit(&b, &(gm_work){.flops = 3e9, .read = 1000}, 1).seconds, 6);

    l = gm_bench_limit(&b, &(gm_work){.flops = 1e6, .read = 1e9, .read_s = 0.25}, 2); /* measured beside the line */
    near(l.seconds, 0.25);
    assert_string_equal(l.bound, "read 954M");
    near(gm_bench_limit(&b, &(gm_work){.flops = 3e9, .read = 1e9, .read_s = 0.25}, 2).seconds, 3);

    l = gm_bench_limit(&b, &(gm_work){.flops = 1e6, .int_ops = 16e9}, 2);
    near(l.seconds, 2);
    assert_string_equal(l.bound, "int8");

    /* 1 MB read, of a working set in the first-level cache; the same in place */
    l = gm_bench_limit(&b, &(gm_work){.read = 1e6, .footprint = smallest}, 2);
    near(l.seconds, 1e6 / 100e6);
    assert_string_equal(l.bound, "read 24k");
    near(gm_bench_limit(&b, &(gm_work){.updated = 1e6, .footprint = smallest}, 2).seconds, 2e6 / 200e6);
    /* 3 MB read, 1 MB of it copied */
    near(gm_bench_limit(&b, &(gm_work){.read = 3e6, .written = 1e6, .footprint = smallest}, 2).seconds, 2e6 / 50e6 + 2e6 / 100e6);
    near(gm_bench_limit(&b, &(gm_work){.read = 1e6, .written = 3e6, .footprint = smallest}, 2).seconds, 2e6 / 50e6 + 2e6 / 100e6);
    /* halfway between two sizes in the logarithm; a footprint of its own is what is moved; beyond the largest: the largest */
    near(gm_bench_limit(&b, &(gm_work){.read = 1e6, .footprint = smallest * sqrt(8)}, 2).seconds, 1e6 / sqrt(100e6 * 90e6));
    near(gm_bench_limit(&b, &(gm_work){.read = 8 * smallest}, 2).seconds, 8 * smallest / 90e6);
    assert_string_equal(gm_bench_limit(&b, &(gm_work){.read = 1e3, .written = 1e3, .footprint = 0x1p30}, 2).bound, "copy 1.0G");
    gm_ctx_free(ctx);
}

static gm_bench_line last;
static int lines, stop_after;
static bool keep(void *user, const gm_bench_line *line) {
    (void)user;
    last = *line;
    return ++lines == stop_after;
}

static void test_lists_and_filters(void **state) {
    (void)state;
    gm_ctx *ctx;
    gm_error err = {0};
    char *json = NULL;
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 1}, NULL), GM_OK);
    lines = stop_after = 0;
    assert_int_equal(gm_bench_run(ctx, &(gm_bench_options){.list = true}, keep, NULL, &json, &err), GM_OK);
    assert_true(json && strstr(json, "\"schema\": \"ghostmax.bench/1\""));
    free(json);
    const int all = lines;
    lines = 0;
    assert_int_equal(gm_bench_run(ctx, &(gm_bench_options){.list = true, .quick = true}, keep, NULL, NULL, &err), GM_OK);
    assert_true(lines > 100 && lines < all);
    lines = 0;
    assert_int_equal(gm_bench_run(ctx, &(gm_bench_options){.list = true, .filter = "SOFTMAX1 FORWARD b=1 t=1024 d=64 h=12 full"}, keep,
                                  NULL, NULL, &err),
                     GM_OK);
    assert_int_equal(lines, 1);
    assert_int_equal(gm_bench_run(ctx, &(gm_bench_options){.filter = "atention"}, keep, NULL, &json, &err), GM_EINVAL);
    assert_true(strstr(err.msg, "'attention'") && !json);
    assert_int_equal(gm_bench_run(ctx, &(gm_bench_options){.filter = "llama-110m", .quick = true}, keep, NULL, NULL, &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "--quick"));
    lines = 0;
    stop_after = 2; /* the caller may end it */
    assert_int_equal(gm_bench_run(ctx, &(gm_bench_options){.quick = true, .filter = "kernels f32"}, keep, NULL, NULL, &err), GM_OK);
    assert_int_equal(lines, 2);
    assert_true(last.median_s > 0 && last.min_s <= last.median_s && last.percent > 0 && isfinite(last.percent));
    gm_ctx_free(ctx);
}

static void test_noise_is_told(void **state) {
    (void)state;
    json_t *steady = json_pack("[{s:f, s:f}]", "median_s", 1.0, "mad_s", 0.01);
    gm_noise n = {.cores = 2, .seconds = 10, .other_cores = 0.01, .stolen_cores = 0};
    json_t *j = gm_noise_json(&n, steady);
    assert_false(json_boolean_value(json_object_get(j, "noisy")));
    json_decref(j);
    n.other_cores = 0.9;
    j = gm_noise_json(&n, steady);
    assert_true(json_boolean_value(json_object_get(j, "noisy")));
    assert_non_null(strstr(json_string_value(json_object_get(j, "verdict")), "0.90 of 2 cores"));
    json_decref(j);
    n.other_cores = n.stolen_cores = NAN; /* a system without such counters */
    json_t *unsteady = json_pack("[{s:f, s:f}]", "median_s", 1.0, "mad_s", 0.2);
    j = gm_noise_json(&n, unsteady);
    assert_true(json_boolean_value(json_object_get(j, "noisy")) && json_is_null(json_object_get(j, "other_cores")));
    assert_int_equal(json_integer_value(json_object_get(j, "unsteady_lines")), 1);
    json_decref(j);
    json_decref(steady);
    json_decref(unsteady);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics),    cmocka_unit_test(test_samples_are_calls),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_ratios),        cmocka_unit_test(test_times_over_the_first), cmocka_unit_test(test_lists_and_filters),
        cmocka_unit_test(test_noise_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
