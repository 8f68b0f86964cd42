/* test_sampler.c -- which tokens may be drawn and how often, against probabilities written down by hand. */
#include "ghostmax_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V = 6, DRAWS = 40000 };

/* ln of .4 .05 .3 .1 .05 .1, in no order */
static void fill(float *z) {
    static const double p[V] = {.4, .05, .3, .1, .05, .1};
    for (int i = 0; i < V; i++)
        z[i] = (float)log(p[i]);
}

/* Draws and compares with `expected` (sums to 1): never what has probability 0, the rest within 5 standard deviations. */
static void check(const char *what, const gm_sampling *options, const float *z, const int32_t *past, int64_t count,
                  const double *expected) {
    gm_sampler *s;
    gm_error err = {0};
    int seen[V] = {0};
    if (gm_sampler_create(&s, options, V, &err) != GM_OK)
        fail_msg("%s: %s", what, err.msg);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = gm_sampler_next(s, z, past, count);
        assert_in_range(id, 0, V - 1);
        seen[id]++;
    }
    gm_sampler_free(s);
    for (int i = 0; i < V; i++) {
        double sigma = sqrt(expected[i] * (1 - expected[i]) * DRAWS);
        if (!(fabs(seen[i] - expected[i] * DRAWS) <= 5 * sigma))
            fail_msg("%s: token %d was drawn %d times of %d, not %.0f", what, i, seen[i], DRAWS, expected[i] * DRAWS);
    }
}

static gm_sampling plain(void) {
    return (gm_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 3};
}

static void shares(void **state) {
    (void)state;
    float z[V];
    gm_sampling o = plain();
    fill(z);
    check("all", &o, z, NULL, 0, (const double[]){.4, .05, .3, .1, .05, .1});
    o.temperature = 0.5; /* squares: .16 .0025 .09 .01 .0025 .01, together .275 */
    check("temperature 1/2", &o, z, NULL, 0, (const double[]){.16 / .275, .0025 / .275, .09 / .275, .01 / .275, .0025 / .275, .01 / .275});
    o = plain();
    o.top_k = 2;
    check("top-k 2", &o, z, NULL, 0, (const double[]){4 / 7., 0, 3 / 7., 0, 0, 0});
    o.top_k = 3; /* the third and the fourth are equal: both stay */
    check("top-k 3 of equals", &o, z, NULL, 0, (const double[]){4 / 9., 0, 3 / 9., 1 / 9., 0, 1 / 9.});
    o.top_k = V + 5;
    check("top-k of more than there are", &o, z, NULL, 0, (const double[]){.4, .05, .3, .1, .05, .1});
    o = plain();
    o.top_p = 0.65; /* .4 + .3 reach it */
    check("top-p .65", &o, z, NULL, 0, (const double[]){4 / 7., 0, 3 / 7., 0, 0, 0});
    o.top_p = 0.39;
    check("top-p .39", &o, z, NULL, 0, (const double[]){1, 0, 0, 0, 0, 0});
    o.top_p = 0.5; /* of .4/.7 and .3/.7 the first is enough */
    o.top_k = 2;
    check("top-k 2, top-p .5", &o, z, NULL, 0, (const double[]){1, 0, 0, 0, 0, 0});
    o = plain();
    o.min_p = 0.2; /* of .4: at least .08 */
    check("min-p .2", &o, z, NULL, 0, (const double[]){4 / 9., 0, 3 / 9., 1 / 9., 0, 1 / 9.});
    o.min_p = 0.9;
    check("min-p .9", &o, z, NULL, 0, (const double[]){1, 0, 0, 0, 0, 0});
    o.min_p = 0.2;
    o.temperature = 0.5; /* shares .16 : .09 : .01: the last are below .2 of the first */
    check("min-p at temperature 1/2", &o, z, NULL, 0, (const double[]){16 / 25., 0, 9 / 25., 0, 0, 0});
}

static void penalty(void **state) {
    (void)state;
    const float z[V] = {2, -1, 0, -INFINITY, -INFINITY, -INFINITY};
    const int32_t past[] = {0, 1, 0, 5, 77}; /* twice counts once; an id past the vocabulary not at all */
    gm_sampling o = plain();
    o.repetition_penalty = 2; /* 2 -> 1, -1 -> -2, 0 stays */
    double sum = exp(1) + exp(-2) + 1;
    check("penalty 2", &o, z, past, 5, (const double[]){exp(1) / sum, exp(-2) / sum, 1 / sum, 0, 0, 0});
    o.temperature = 0;
    o.repetition_penalty = 3;
    const float near[V] = {0.9f, 0.5f, -3, -3, -3, -3};
    check("a penalty turns the greedy choice", &o, near, past, 1, (const double[]){0, 1, 0, 0, 0, 0});
}

static void greedy_and_odd_rows(void **state) {
    (void)state;
    gm_sampling o = plain();
    gm_sampler *s, *again;
    float z[V] = {1, 3, 3, -INFINITY, 0, 2};
    o.temperature = 0;
    check("the first of equals", &o, z, NULL, 0, (const double[]){0, 1, 0, 0, 0, 0});
    o.temperature = 1;
    o.top_p = 0.9;
    o.min_p = 0.01;
    assert_int_equal(gm_sampler_create(&s, &o, V, NULL), GM_OK);
    assert_int_equal(gm_sampler_create(&again, &o, V, NULL), GM_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(gm_sampler_next(s, z, NULL, 0), gm_sampler_next(again, z, NULL, 0));
    z[4] = NAN;
    assert_int_equal(gm_sampler_next(s, z, NULL, 0), -1);
    z[4] = INFINITY;
    assert_int_equal(gm_sampler_next(s, z, NULL, 0), -1);
    for (int i = 0; i < V; i++)
        z[i] = -INFINITY;
    assert_int_equal(gm_sampler_next(s, z, NULL, 0), -1);
    z[2] = -1e30f; /* all that is left */
    assert_int_equal(gm_sampler_next(s, z, NULL, 0), 2);
    gm_sampler_free(s);
    gm_sampler_free(again);
}

/* A large vocabulary against sorting: the same set may be drawn. */
static int falling(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void a_large_vocabulary(void **state) {
    (void)state;
    enum { LARGE = 5003 };
    static float z[LARGE];
    static double p[LARGE];
    double total = 0, sum = 0;
    uint64_t random = 1;
    for (int i = 0; i < LARGE; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        z[i] = (float)(random >> 40) * 0x1p-21f; /* 0 .. 8, all different to float */
        p[i] = exp(z[i]);
        total += p[i];
    }
    qsort(p, LARGE, sizeof *p, falling);
    int kept = 0;
    while (sum < 0.7 * total)
        sum += p[kept++];
    gm_sampling o = plain();
    gm_sampler *s;
    o.top_p = 0.7;
    assert_int_equal(gm_sampler_create(&s, &o, LARGE, NULL), GM_OK);
    double least = INFINITY;
    for (int i = 0; i < 20000; i++)
        least = fmin(least, exp(z[gm_sampler_next(s, z, NULL, 0)]));
    assert_true(least >= p[kept - 1] * (1 - 1e-9));
    assert_true(least <= p[kept - 1] * 1.05); /* the rarest of them are found */
    gm_sampler_free(s);
}

static void refusals(void **state) {
    (void)state;
    gm_sampler *s = (gm_sampler *)&s;
    const gm_sampling good = plain();
    gm_sampling bad[6] = {good, good, good, good, good, good};
    bad[0].temperature = NAN;
    bad[1].top_k = -1;
    bad[2].top_p = 0;
    bad[3].min_p = 1;
    bad[4].repetition_penalty = 0;
    bad[5].temperature = -1;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(gm_sampler_create(&s, &bad[i], V, NULL), GM_EINVAL);
        assert_null(s);
    }
    assert_int_equal(gm_sampler_create(&s, &good, 0, NULL), GM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shares), cmocka_unit_test(penalty), cmocka_unit_test(greedy_and_odd_rows),
                                       cmocka_unit_test(a_large_vocabulary), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
