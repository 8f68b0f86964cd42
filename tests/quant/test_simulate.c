/* Simulated quantization of whole models: which tensors lie on which grids, and what it costs. */
#include "bb_models.h"

#include "quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static gm_model *model_of(const char *preset, const char *variant, const char *overrides) {
    gm_model *m = bb_model(preset, variant, overrides);
    for (int i = 0; i < m->param_count; i++) { /* gains of 1 lie on every grid */
        const gm_param *p = &m->params[i];
        for (int64_t j = 0; p->kind == GM_PARAM_NORM_GAIN && j < p->rows; j++)
            m->weights[p->offset + j] += 0.013f * (float)(j % 7);
    }
    return m;
}

static gm_quant_options options_of(int weight_bits, int activation_bits) {
    gm_quant_options o;
    gm_quant_defaults(&o);
    gm_quant_set_bits(&o, weight_bits, activation_bits);
    o.calibration_batches = 3;
    o.calibration_batch = 2;
    o.sequences = 6;
    return o;
}

static double loss_of(gm_model *m, const gm_quant_options *o, double *f32) {
    double loss;
    gm_error err;
    if (gm_quant_simulated_loss(m, data, o, &loss, f32, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return loss;
}

static void test_bits_and_loss(void **state) {
    (void)state;
    static const char *const models[][3] = {{"gpt2-nano", "softmax", "layers=2,heads=2,width=32"},
                                            {"words-mini", "clipped:gamma=-0.03,zeta=1.03", "layers=2,heads=2,width=32"},
                                            {"llama-260k", "sink+gated", "layers=2,heads=4,kv-heads=2,width=32,ffn=48"}};
    for (int i = 0; i < 3; i++) {
        gm_model *m = model_of(models[i][0], models[i][1], models[i][2]);
        bb_train(m, 60);
        double f32, exact, sixteen, eight, two;
        gm_quant_options o = options_of(16, 16);
        sixteen = loss_of(m, &o, &f32); /* not exact: calibrated ranges clip what calibration did not see */
        o.activations.grain = o.attention.grain = GM_GRAIN_TOKEN;
        exact = loss_of(m, &o, NULL);
        o = options_of(8, 8);
        eight = loss_of(m, &o, NULL);
        o = options_of(2, 2);
        two = loss_of(m, &o, NULL);
        if (!(f32 < 3.2 && fabs(exact - f32) < 2e-4 && fabs(sixteen - f32) < 5e-3 && fabs(eight - f32) < 0.05 && two > f32 + 0.5))
            fail_msg("%s %s: f32 %g, 16 bits per token %g, 16 bits %g, 8 bits %g, 2 bits %g", models[i][0], models[i][1], f32, exact,
                     sixteen, eight, two);
        assert_true(eight != f32);
        double f32_again, mean;
        int32_t x[6 * T], y[6 * T];
        gm_data_validation(data, 0, 6, x, y); /* the f32 loss is the model's own, and the model is unchanged */
        assert_int_equal(gm_model_loss(m, x, y, 6, T, &mean, NULL, NULL), GM_OK);
        assert_true(fabs(mean - f32) < 1e-6);
        loss_of(m, &o, &f32_again);
        assert_true(f32_again == f32);
        gm_model_free(m);
    }
}

/* What each part of W8A8 is: weights on their grids, the head, biases, sinks and gates as they were. */
static void test_weights_of_the_plan(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool per_channel = i % 2, tied = i < 2;
        gm_model *m = model_of(tied ? "gpt2-nano" : "words-mini", "sink+gated", "layers=2,heads=2,width=32");
        assert_int_equal(m->cfg.tied, tied);
        gm_quant_options o = options_of(8, 8);
        o.weights.grain = per_channel ? GM_GRAIN_CHANNEL : GM_GRAIN_TENSOR;
        gm_quant_plan plan;
        assert_int_equal(gm_quant_plan_make(&plan, m, data, &o, NULL), GM_OK);
        assert_true(plan.model != m);
        assert_memory_equal(plan.model->head, m->head, (size_t)(m->cfg.vocab * m->cfg.width) * sizeof(float)); /* f32, tied or not */
        int gains = 0, tables = 0, linears = 0;
        for (int j = 0; j < m->param_count; j++) {
            const gm_param *p = &m->params[j];
            const float *was = m->weights + p->offset, *is = plan.model->weights + p->offset;
            bool quantized = p->kind == GM_PARAM_LINEAR || p->kind == GM_PARAM_EMBEDDING || p->kind == GM_PARAM_NORM_GAIN;
            gains += p->kind == GM_PARAM_NORM_GAIN;
            tables += p->kind == GM_PARAM_EMBEDDING;
            linears += p->kind == GM_PARAM_LINEAR;
            if (!quantized) {
                assert_memory_equal(was, is, (size_t)(p->rows * p->cols) * sizeof(float));
                continue;
            }
            /* q, k, v come apart; a row or a whole part has its own absmax / 127 */
            int64_t parts = p->slot == GM_P_WQKV ? 3 : 1;
            if (per_channel && p->kind == GM_PARAM_LINEAR)
                parts = p->rows;
            int64_t n = p->rows * p->cols / parts;
            for (int64_t part = 0; part < parts; part++) {
                float max = 0;
                for (int64_t k = part * n; k < (part + 1) * n; k++)
                    max = fmaxf(max, fabsf(was[k]));
                float scale = max / 127.0f;
                for (int64_t k = part * n; k < (part + 1) * n; k++)
                    assert_true(is[k] == scale * rintf(was[k] / scale));
            }
        }
        assert_int_equal(gains, 5);
        assert_int_equal(tables, 2);
        assert_int_equal(linears, 8);
        gm_quant_plan_free(&plan);
        gm_model_free(m);
    }
}

/* Every activation leaves the tap on its grid, and every site of every layer has one. */
typedef struct grid_check {
    const gm_quant_plan *plan;
    gm_tap tap;
    int64_t seen[3][GM_SITE_COUNT];
} grid_check;

static void check_grid(void *user, const gm_tap_view *v) {
    grid_check *check = user;
    check->tap.fn(check->tap.user, v);
    check->seen[v->layer < 0 ? 2 : v->layer][v->site]++;
    if (v->site == GM_SITE_CACHE_K || v->site == GM_SITE_CACHE_V || v->site == GM_SITE_ATTN_IN) { /* the published setting leaves them */
        assert_null(gm_quant_plan_quantizer(check->plan, v->site));
        return;
    }
    gm_quant_grid g = gm_quant_plan_site(check->plan, v->site, v->layer);
    assert_true(g.scale > 0 && isfinite(g.scale) && g.zero >= 0 && g.zero <= 15 && g.qmin == 0 && g.qmax == 15);
    for (int64_t r = 0; r < v->rows; r++) {
        for (int64_t c = 0; c < v->cols; c++) {
            float q = rintf(v->x[r * v->stride + c] / g.scale) + (float)g.zero;
            assert_true(q >= 0 && q <= 15);
            assert_true(v->x[r * v->stride + c] == g.scale * (q - (float)g.zero));
        }
    }
}

static void test_every_site_is_on_its_grid(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax1", "layers=2,heads=2,width=32");
    gm_quant_options o = options_of(8, 4);
    gm_quant_plan plan;
    assert_int_equal(gm_quant_plan_make(&plan, m, data, &o, NULL), GM_OK);
    grid_check check = {.plan = &plan, .tap = gm_quant_plan_tap(&plan)};
    int32_t x[2 * T], y[2 * T];
    double loss;
    gm_data_validation(data, 0, 2, x, y);
    gm_tap tap = {.fn = check_grid, .user = &check, .attention = true};
    assert_int_equal(gm_model_forward_loss(plan.model, x, y, 2, T, &tap, &loss, NULL, NULL), GM_OK);
    for (int layer = 0; layer < 3; layer++) {
        for (int site = 0; site < GM_SITE_COUNT; site++) {
            bool outside = site == GM_SITE_EMBED || site == GM_SITE_NORM_FINAL;
            bool per_head = site == GM_SITE_SCORES || site == GM_SITE_WEIGHTS || site == GM_SITE_PV;
            assert_int_equal(check.seen[layer][site], outside != (layer == 2) ? 0 : per_head ? 4 : 1);
        }
    }
    /* attention weights lie in [0, 1], so their zero is 0; scores reach below */
    assert_int_equal(gm_quant_plan_site(&plan, GM_SITE_WEIGHTS, 0).zero, 0);
    assert_true(gm_quant_plan_site(&plan, GM_SITE_SCORES, 0).zero > 0);
    gm_quant_plan_free(&plan);
    gm_model_free(m);
}

/* The embedding sum comes before anything else is rounded: its range is a running one over the calibration batches. */
static void test_calibrated_range(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    gm_quant_options o = options_of(16, 16);
    o.seed = 9;
    gm_quant_plan plan;
    assert_int_equal(gm_quant_plan_make(&plan, m, data, &o, NULL), GM_OK);
    const float *wte = gm_model_weight(plan.model, GM_P_WTE, -1), *wpe = gm_model_weight(plan.model, GM_P_WPE, -1);
    double lo = 0, hi = 0;
    for (int batch = 0; batch < 3; batch++) {
        int32_t x[2 * T], y[2 * T];
        gm_data_train(data, 9, batch * 2, 2, x, y);
        float min = INFINITY, max = -INFINITY;
        for (int i = 0; i < 2 * T; i++) {
            for (int c = 0; c < 32; c++) {
                float sum = wte[x[i] * 32 + c] + wpe[i % T * 32 + c];
                min = fminf(min, sum);
                max = fmaxf(max, sum);
            }
        }
        lo = batch ? 0.9 * lo + 0.1 * min : min;
        hi = batch ? 0.9 * hi + 0.1 * max : max;
    }
    gm_quant_grid want = gm_quant_asymmetric(16, (float)lo, (float)hi), got = gm_quant_plan_site(&plan, GM_SITE_EMBED, -1);
    assert_true(fabs(got.scale / want.scale - 1) < 1e-5);
    assert_true(abs(got.zero - want.zero) <= 1);
    gm_quant_plan_free(&plan);
    gm_model_free(m);
}

/* Calibration rounds as it goes: with one batch, scores are seen behind q and k that already lie on that batch's grids, over all heads
 * and sequences, and before the mask. */
typedef struct score_keep {
    const gm_quant_plan *plan;
    float scores[2 * 2 * T * T];
    int64_t count;
} score_keep;

static void keep_scores(void *user, const gm_tap_view *v) {
    score_keep *keep = user;
    if (v->site != GM_SITE_SCORES && v->site != GM_SITE_WEIGHTS && v->site != GM_SITE_PV) {
        gm_tap tap = gm_quant_plan_tap(keep->plan);
        tap.fn(tap.user, v);
    } else if (v->site == GM_SITE_SCORES && v->layer == 1) {
        for (int64_t r = 0; r < v->rows; r++) {
            memcpy(keep->scores + keep->count, v->x + r * v->stride, (size_t)v->cols * sizeof(float));
            keep->count += v->cols;
        }
    }
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void test_calibration_rounds_as_it_goes(void **state) {
    (void)state;
    static score_keep keep;
    gm_model *m = model_of("gpt2-nano", "softmax1", "layers=2,heads=2,width=32");
    for (int with_percentile = 0; with_percentile < 2; with_percentile++) {
        gm_quant_options o = options_of(8, 4);
        o.calibration_batches = 1;
        o.activations.range = o.attention.range = with_percentile ? GM_RANGE_PERCENTILE : GM_RANGE_RUNNING;
        o.activations.percentile = o.attention.percentile = 97.0;
        gm_quant_plan plan;
        assert_int_equal(gm_quant_plan_make(&plan, m, data, &o, NULL), GM_OK);
        keep.plan = &plan;
        keep.count = 0;
        int32_t x[2 * T], y[2 * T];
        double loss;
        gm_data_train(data, o.seed, 0, 2, x, y);
        gm_tap tap = {.fn = keep_scores, .user = &keep, .attention = true};
        assert_int_equal(gm_model_forward_loss(plan.model, x, y, 2, T, &tap, &loss, NULL, NULL), GM_OK);
        assert_int_equal(keep.count, 2 * 2 * T * T);
        qsort(keep.scores, (size_t)keep.count, sizeof(float), by_value);
        double rank = (double)(keep.count - 1) * (with_percentile ? 0.97 : 1.0);
        int64_t low = (int64_t)((double)(keep.count - 1) - rank), high = (int64_t)ceil(rank);
        float lo = keep.scores[low], hi = keep.scores[high];
        gm_quant_grid got = gm_quant_plan_site(&plan, GM_SITE_SCORES, 1), want = gm_quant_asymmetric(4, lo, hi);
        assert_true(lo < 0 && fabs(got.scale / want.scale - 1) < (with_percentile ? 2e-3 : 1e-6));
        assert_int_equal(got.zero, want.zero);
        gm_quant_plan_free(&plan);
    }
    gm_model_free(m);
}

/* Finer or better-fitted grids: each option runs, changes the result, and at few bits helps where it should. */
static void test_options(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=2,heads=2,width=32");
    bb_train(m, 60);
    float *w = gm_model_weight(m, GM_P_WO, 0);
    w[0] = 5.0f; /* one outlier weight spoils a whole per-tensor grid */
    double f32, plain, loss;
    gm_quant_options o = options_of(4, 16);
    plain = loss_of(m, &o, &f32);
    o.weights.grain = GM_GRAIN_CHANNEL;
    loss = loss_of(m, &o, NULL);
    assert_true(loss != plain && fabs(loss - f32) < fabs(plain - f32));
    o = options_of(4, 16);
    o.weights.range = o.embeddings.range = GM_RANGE_MSE;
    assert_true(loss_of(m, &o, NULL) != plain);
    o = options_of(16, 4);
    plain = loss_of(m, &o, NULL);
    o.activations.grain = o.attention.grain = GM_GRAIN_TOKEN;
    loss = loss_of(m, &o, NULL);
    assert_true(loss != plain && fabs(loss - f32) < fabs(plain - f32));
    o = options_of(16, 4);
    o.activations.range = o.attention.range = GM_RANGE_PERCENTILE;
    o.activations.percentile = o.attention.percentile = 99.0;
    assert_true(loss_of(m, &o, NULL) != plain);
    o = options_of(16, 16);
    o.activations.grain = o.attention.grain = GM_GRAIN_TOKEN;
    assert_true(fabs(loss_of(m, &o, NULL) - f32) < 1e-3);
    gm_model_free(m);
}

static void test_refusals(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    gm_quant_options bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = options_of(8, 8);
    bad[0].weights.bits = 1;
    bad[1].activations.bits = 17;
    bad[2].activations.range = bad[3].activations.range = GM_RANGE_PERCENTILE;
    bad[2].activations.percentile = 50.0;
    bad[3].activations.percentile = NAN;
    bad[4].calibration_batches = 0;
    bad[5].sequences = -1;
    for (int i = 0; i < 6; i++) {
        double loss;
        gm_error err;
        assert_int_equal(gm_quant_simulated_loss(m, data, &bad[i], &loss, NULL, &err), GM_EINVAL);
    }
    gm_model_weight(m, GM_P_W2, 0)[3] = NAN; /* a diverged model gives NaN, not a number */
    gm_quant_options o = options_of(8, 8);
    assert_true(isnan(loss_of(m, &o, NULL)));
    gm_model_free(m);
}

static int setup(void **state) {
    (void)state;
    return open_context_and_bb(T);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_and_loss),
        cmocka_unit_test(test_weights_of_the_plan),
        cmocka_unit_test(test_every_site_is_on_its_grid),
        cmocka_unit_test(test_calibrated_range),
        cmocka_unit_test(test_calibration_rounds_as_it_goes),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, close_all);
}
