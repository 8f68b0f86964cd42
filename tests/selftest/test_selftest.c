/* test_selftest.c -- the self-test passes here, and fails in the right check when a kernel, a product or a reference is wrong. */
#include "model/model_cases.h"
#include "selftest.h"

enum { CHECKS = 12 }; /* on each table */

typedef struct seen {
    int lines, failed;
    char names[512]; /* of the checks that failed, one after the other */
} seen;

static bool note(void *user, const gm_selftest_line *line) {
    seen *s = user;
    s->lines++;
    if (!line->passed) {
        s->failed++;
        assert_true(strlen(s->names) + strlen(line->check) + 2 < sizeof s->names);
        strcat(strcat(s->names, line->check), "; ");
    }
    return false;
}

static void passes_on_every_table(void **state) {
    (void)state;
    seen s = {0};
    bool passed = false;
    CHECK_OK(gm_selftest_run(NULL, note, &s, &passed, err));
    if (!passed || s.failed)
        fail_msg("failed here: %s", s.names);
    int tables = 0;
    while (gm_kernels_at(tables))
        tables++;
    assert_int_equal(s.lines, CHECKS * tables);
}

/* isa caps what is tested. */
static void up_to_a_table(void **state) {
    (void)state;
    seen s = {0};
    bool passed = false;
    CHECK_OK(gm_selftest_run(&(gm_ctx_options){.isa = "ref"}, note, &s, &passed, err));
    assert_true(passed);
    assert_int_equal(s.lines, CHECKS);
    gm_error err = {0};
    assert_int_equal(gm_selftest_run(&(gm_ctx_options){.isa = "sse9"}, note, &s, &passed, &err), GM_EINVAL);
    assert_false(passed);
}

static bool stop(void *user, const gm_selftest_line *line) {
    (void)line;
    ++*(int *)user;
    return true;
}

static void stops(void **state) {
    (void)state;
    int lines = 0;
    bool passed = true;
    gm_error err = {0};
    assert_int_equal(gm_selftest_run(NULL, stop, &lines, &passed, &err), GM_ESTOPPED);
    assert_int_equal(lines, 1);
    assert_false(passed);
}

/* ---- faults. Each is small: a constant, a sign in one term, a value in many. */

static float sink_twice(float *w, float *null_mass, const float *s, int64_t n, float sink, float a, float c) {
    return gm_kernels_ref.f32_norm_row_fwd(w, null_mass, s, n, sink + 1e-4f, a, c);
}
static void lanes_weak(float *s, float *dw, int64_t n, int64_t lanes, const float *lse, float *dsum, float a, float c, float scale) {
    gm_kernels_ref.f32_lanes_bwd(s, dw, n, lanes, lse, dsum, a, c, scale * 1.001f);
}
static void moments_of_float(double *powers, const float *x, int64_t n, double mean) { /* float sums */
    gm_kernels_ref.f32_moments(powers, x, n, mean);
    for (int i = 0; i < 3; i++)
        powers[i] = (double)(float)powers[i];
}
static void grid_away(float *y, const float *x, int64_t n, float scale, float zero, float qmin, float qmax) { /* ties away from zero */
    for (int64_t i = 0; i < n; i++) {
        float q = roundf(x[i] / scale) + zero;
        q = q < qmin ? qmin : q > qmax ? qmax : q;
        y[i] = scale * (q - zero);
    }
}
static void norm_bwd_forgets(float *dx, float *dg, float *db, const float *dy, const float *x, const float *g, int64_t n, float mean,
                             float rstd, bool rms) { /* the bias' gradient */
    float kept = db ? db[0] : 0;
    gm_kernels_ref.f32_layernorm_row_bwd(dx, dg, db, dy, x, g, n, mean, rstd, rms);
    if (!rms)
        db[0] = kept;
}
static void adamw_eps(float *p, const float *g, float *m, float *v, int64_t n, float grad_scale, float one_minus_beta1,
                      float one_minus_beta2, float rate, float root, float eps,
                      float shrink) { /* the rate's correction is a thousandth off */
    gm_kernels_ref.f32_adamw(p, g, m, v, n, grad_scale, one_minus_beta1, one_minus_beta2, rate * 1.001f, root, eps, shrink);
}
static void tile_saturates(int32_t *c, const uint8_t *a, int64_t as, int64_t rows, const int8_t *b, int64_t k4) {
    gm_kernels_ref.u8s8_gemm_tile(c, a, as, rows, b, k4);
    for (int64_t i = 0; i < rows * GM_INT8_N; i++)
        c[i] = c[i] > 4000 ? 4000 : c[i];
}
static void sigmoid_nan(float *y, const float *x, int64_t n) { /* of one element */
    gm_kernels_ref.f32_sigmoid(y, x, n);
    if (n > 1)
        y[1] = NAN;
}

static void range_wide(float *range, const float *x, int64_t n) { /* the upper end, by a hundred thousandth */
    gm_kernels_ref.f32_minmax(range, x, n);
    range[1] *= 1.00001f;
}
static void swiglu_swapped(float *dgate, float *dup, const float *dy, const float *gate, const float *up, int64_t n) {
    gm_kernels_ref.f32_swiglu_bwd(dgate, dup, dy, up, gate, n);
}

/* Runs the checks behind the kernels' own on a context with these: those named must fail, and no other. */
static void expect(const gm_kernels *bad, const char *checks, int *wrong) {
    gm_ctx *ctx;
    CHECK_OK(gm_ctx_create(&ctx, &(gm_ctx_options){.isa = "ref", .threads = 1}, err));
    ctx->k = bad;
    seen s = {0};
    gm_selftest t = {.callback = note, .user = &s};
    CHECK_OK(gm_selftest_arrays(&t, ctx, err));
    CHECK_OK(gm_selftest_models(&t, ctx, err));
    gm_ctx_free(ctx);
    assert_true(t.failed);
    if (strcmp(s.names, checks) != 0) {
        print_message("failed: %s\nwanted: %s\n", s.names, checks);
        *wrong += 1;
    }
}

static void finds_faults(void **state) {
    (void)state;
    int wrong = 0;
#define FAULT(slot, function, checks)    \
    do {                                 \
        gm_kernels bad = gm_kernels_ref; \
        bad.slot = function;             \
        expect(&bad, checks, &wrong);    \
    } while (0)
    FAULT(f32_norm_row_fwd, sink_twice, "normaliser rows; metrics of models; ");
    FAULT(f32_lanes_bwd, lanes_weak, "attention gradients, by differences; ");
    FAULT(f32_moments, moments_of_float, "metrics: moments, kurtosis, norms; ");
    FAULT(f32_quantize_simulate, grid_away, "quantizer grids: values that differ; ");
    FAULT(f32_layernorm_row_bwd, norm_bwd_forgets, "model gradients, by differences; ");
    FAULT(f32_adamw, adamw_eps, "20 training steps; ");
    FAULT(u8s8_gemm_tile, tile_saturates, "W8A8 executed beside simulated: perplexity; ");
    FAULT(f32_sigmoid, sigmoid_nan, "model gradients, by differences; ");
    FAULT(f32_minmax, range_wide, "metrics: moments, kurtosis, norms; quantizer ranges, of presets; ");
    assert_int_equal(wrong, 0);
}

/* A wrong kernel, found by its own cases first. */
static void finds_a_kernel(void **state) {
    (void)state;
    gm_ctx *ctx;
    gm_kernels bad = gm_kernels_ref;
    bad.f32_swiglu_bwd = swiglu_swapped;
    CHECK_OK(gm_ctx_create(&ctx, &(gm_ctx_options){.isa = "ref", .threads = 1}, err));
    ctx->k = &bad;
    seen s = {0};
    gm_selftest t = {.callback = note, .user = &s};
    CHECK_OK(gm_selftest_context(&t, ctx, err));
    gm_ctx_free(ctx);
    assert_true(t.failed);
    assert_non_null(strstr(s.names, "kernels, as shares of their tolerances"));
}

/* The comparison itself: an error that is no number, and one just beyond what is allowed. */
static void compares(void **state) {
    (void)state;
    static const struct {
        double error, allowed;
        bool passes;
    } lines[] = {{0, 0, true}, {1, 1, true}, {1.0000001, 1, false}, {NAN, 1, false}, {INFINITY, 1, false}, {1e-300, 0, false}};
    for (int i = 0; i < GM_COUNT(lines); i++) {
        seen s = {0};
        gm_selftest t = {.callback = note, .user = &s};
        gm_selftest_add(&t, "x", 1, lines[i].error, lines[i].allowed, "");
        assert_int_equal(s.failed, !lines[i].passes);
        assert_int_equal(t.failed, !lines[i].passes);
    }
    assert_true(isnan(gm_selftest_larger(NAN, 1)) && isnan(gm_selftest_larger(1, NAN)) && gm_selftest_larger(1, 2) == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_on_every_table), cmocka_unit_test(up_to_a_table),  cmocka_unit_test(stops),
        cmocka_unit_test(finds_faults),          cmocka_unit_test(finds_a_kernel), cmocka_unit_test(compares)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
