/* test_decode.c -- a sequence decoded with a cache, in pieces of any size, has the logits of the whole sequence: every family, every
 * variant with sinks that are not zero, shared key/value heads, windows. */
#include "model_cases.h"

enum { PIECES = 4 };
/* 0: what is left. The second: one token at a time. */
static const int64_t pieces[PIECES][3] = {{0}, {1, 1, 1}, {3, 1, 2}, {5, 2, 1}};

static void expect_logits(const float *got, const float *want, int64_t V, const char *shape, const char *variant, int64_t t) {
    float largest = 0;
    for (int64_t i = 0; i < V; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (int64_t i = 0; i < V; i++) {
        if (!(fabsf(got[i] - want[i]) <= 1e-5f * (1 + largest)))
            fail_msg("%s, %s, position %lld: logit %lld is %.8g, prefill's %.8g", shape, variant, (long long)t, (long long)i, got[i],
                     want[i]);
    }
}

static void check(const gm_ctx *ctx, const model_shape *shape, const char *variant) {
    gm_model_config cfg = shape_config(shape, variant);
    gm_model *m = model_of(ctx, &cfg, 3);
    const int64_t T = cfg.context, V = cfg.vocab;
    int32_t *x = malloc((size_t)T * sizeof *x), *y = malloc((size_t)T * sizeof *y);
    float *want = malloc((size_t)(T * V) * sizeof *want), *got = malloc((size_t)V * sizeof *got);
    tokens_fill(x, y, T, V, 5);
    CHECK_OK(gm_model_logits(m, x, 1, T, false, want, err));
    gm_model *fresh = model_of(ctx, &cfg, 3); /* whose buffers have never seen a whole sequence */
    for (int p = 0; p < PIECES; p++) {
        gm_decoder *d;
        CHECK_OK(gm_decoder_create(&d, p % 2 ? fresh : m, T, err));
        for (int64_t t = 0, n, i = 0; t < T; t += n, i++) {
            n = pieces[p][i % 3] ? GM_MIN(pieces[p][i % 3], T - t) : T - t;
            CHECK_OK(gm_decoder_feed(d, x + t, n, got, err));
            assert_int_equal(gm_decoder_length(d), t + n);
            expect_logits(got, want + (t + n - 1) * V, V, shape->name, variant, t + n - 1);
        }
        gm_decoder_free(d);
    }
    free(x);
    free(y);
    free(want);
    free(got);
    gm_model_free(fresh);
    gm_model_free(m);
}

static void decode_is_prefill(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(every_isa); i++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            gm_ctx *ctx = context_of(every_isa[i], threads);
            if (!ctx)
                continue;
            for (int s = 0; s < GM_COUNT(small_shapes); s++) {
                for (int v = 0; v < GM_COUNT(every_variant); v++)
                    check(ctx, &small_shapes[s], every_variant[v]);
            }
            gm_ctx_free(ctx);
        }
    }
}

static void long_sequences(void **state) {
    (void)state;
    gm_ctx *ctx;
    CHECK_OK(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 1}, err));
    for (int s = 0; s < GM_COUNT(large_shapes); s++) {
        for (int v = s; v < GM_COUNT(every_variant); v += 3)
            check(ctx, &large_shapes[s], every_variant[v]);
    }
    gm_ctx_free(ctx);
}

/* What is forgotten leaves no trace; what is refused changes nothing; two sequences of one model do not mix. */
static void rewinding_and_refusals(void **state) {
    (void)state;
    gm_ctx *ctx = context_of("ref", 1);
    gm_model_config cfg = shape_config(&small_shapes[4], "sink+gated:kind=channel");
    gm_model *m = model_of(ctx, &cfg, 3);
    const int64_t V = cfg.vocab;
    const int32_t x[] = {4, 9, 2, 7, 7, 1, 0, 3, 5}, other[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    float want[16], got[16];
    gm_error err = {0};
    gm_decoder *d = (gm_decoder *)&err, *e;
    assert_int_equal(gm_decoder_create(&d, m, 0, &err), GM_EINVAL);
    assert_null(d);
    assert_int_equal(gm_decoder_create(&d, m, cfg.context + 1, &err), GM_EINVAL);
    assert_int_equal(gm_decoder_create(&d, m, 6, &err), GM_OK);
    assert_int_equal(gm_decoder_create(&e, m, 9, &err), GM_OK);
    assert_int_equal(gm_model_logits(m, x, 1, 6, true, want, &err), GM_OK);
    assert_int_equal(gm_decoder_feed(d, x, 4, NULL, &err), GM_OK);
    assert_int_equal(gm_decoder_feed(e, other, 9, NULL, &err), GM_OK);
    assert_int_equal(gm_decoder_feed(d, other, 2, got, &err), GM_OK);
    gm_decoder_rewind(d, 4);
    assert_int_equal(gm_decoder_length(d), 4);
    assert_int_equal(gm_decoder_feed(d, x + 4, 3, got, &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "holds 6"));
    assert_int_equal(gm_decoder_feed(d, x, 0, got, &err), GM_EINVAL);
    assert_int_equal(gm_decoder_feed(d, &(int32_t){(int32_t)V}, 1, got, &err), GM_EINVAL);
    assert_int_equal(gm_decoder_length(d), 4);
    assert_int_equal(gm_decoder_feed(d, x + 4, 2, got, &err), GM_OK);
    expect_logits(got, want, V, "rewound", "", 5);
    gm_decoder_rewind(d, 0);
    assert_int_equal(gm_decoder_feed(d, x, 6, got, &err), GM_OK);
    expect_logits(got, want, V, "from the start", "", 5);
    gm_decoder_free(d);
    gm_decoder_free(e);
    gm_model_free(m);
    gm_ctx_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(decode_is_prefill), cmocka_unit_test(long_sequences),
                                       cmocka_unit_test(rewinding_and_refusals)};
    return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
