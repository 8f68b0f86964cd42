/* Executed INT8 beside the simulation of the same plan: tensor by tensor on the same inputs, whole losses, decoding, threads. */
#include "model/model_cases.h"

#include "bb_models.h"
#include "quant.h"

#include <unistd.h>

enum { B = 3 };

static const model_shape shapes[] = {
    {"gpt2", "gpt2-nano", "layers=2,heads=2,width=40,ffn=52", B, T, 1},
    {"gpt2 windowed", "gpt2-nano", "layers=2,heads=3,width=36,window=5,act=gelu-erf", B, T, 3},
    {"opt", "words-mini", "layers=2,heads=4,width=40,act=relu", B, T, 2},
    {"llama", "llama-260k", "layers=2,heads=4,kv-heads=2,head-dim=18,width=48,ffn=44", B, T, 1},
    {"llama, one key head, untied", "llama-260k", "layers=2,heads=3,kv-heads=1,head-dim=36,width=33,ffn=31,tied=no", B, T, 3},
};

static gm_model *model_for(const gm_ctx *c, const model_shape *shape, const char *variant) {
    gm_model_config cfg;
    CHECK_OK(gm_model_config_preset(&cfg, shape->preset, err));
    CHECK_OK(gm_variant_parse(&cfg.attention, variant, err));
    CHECK_OK(gm_model_config_override(&cfg, shape->overrides, err));
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    cfg.context = T;
    cfg.dropout = 0;
    return model_of(c, &cfg, 5);
}

/* The published setting, and g*o rounded in the simulation too, as integers need it. */
static gm_quant_options options_of(int weight_bits, int activation_bits) {
    gm_quant_options o;
    gm_quant_defaults(&o);
    gm_quant_set_bits(&o, weight_bits, activation_bits);
    o.attention_input = true;
    o.calibration_batches = 4;
    o.sequences = 64;
    return o;
}

/* ---- tensor by tensor: every tensor of an executed pass is kept; then the simulation runs, and each of its tensors is compared and
 * replaced by the executed one, so that both always work on the same inputs. */

typedef struct record {
    gm_tap_view view;
    float *x; /* [rows, cols] */
} record;

typedef struct comparison {
    gm_quant_plan plan;
    record records[4096];
    int count, at;
    int64_t values[GM_SITE_COUNT], moved[GM_SITE_COUNT];
    const char *name, *variant;
} comparison;

static void keep(void *user, const gm_tap_view *v) {
    comparison *c = user;
    assert_true(c->count < GM_COUNT(c->records));
    record *r = &c->records[c->count++];
    *r = (record){*v, gm_alloc((size_t)(v->rows * v->cols), sizeof(float))};
    for (int64_t i = 0; i < v->rows; i++)
        memcpy(r->x + i * v->cols, v->x + i * v->stride, (size_t)v->cols * sizeof(float));
}

static void compare(void *user, const gm_tap_view *v) {
    comparison *c = user;
    const gm_quant_plan *plan = &c->plan;
    const gm_model_config *cfg = &plan->model->cfg;
    const record *r = &c->records[c->at++];
    assert_true(c->at <= c->count && r->view.site == v->site && r->view.layer == v->layer && r->view.b == v->b && r->view.h == v->h);
    gm_quant_view_simulate(plan, v);
    const gm_quantizer *q = gm_quant_plan_quantizer(plan, v->site);
    const float step = q ? gm_quant_plan_site(plan, v->site, v->layer).scale : 0;
    for (int64_t i = 0; i < v->rows; i++) {
        for (int64_t j = 0; j < v->cols; j++) {
            float *x = &v->x[i * v->stride + j], got = r->x[i * v->cols + j];
            const bool seen = v->site != GM_SITE_SCORES || (j <= i && (!cfg->window || j > i - cfg->window));
            const double allowed = q ? 1.001 * step : 2e-5 * (1 + fabs(*x)); /* f32 has no grid, but nearly the same sums */
            if (seen && !(fabs((double)got - *x) <= allowed))
                fail_msg("%s, %s: %s of layer %d [%lld,%lld] is %.8g, simulated %.8g (step %g)", c->name, c->variant, gm_site_name(v->site),
                         v->layer, (long long)i, (long long)j, (double)got, (double)*x, (double)step);
            c->moved[v->site] += seen && q && fabs((double)got - *x) > 0.5 * step;
            c->values[v->site] += seen;
            *x = got;
        }
    }
}

static void check_tensors(const gm_ctx *context, const model_shape *shape, const char *variant, const gm_quant_options *options) {
    static comparison c;
    int32_t x[B * T], y[B * T];
    double executed, simulated;
    gm_quant_executed *e;
    c = (comparison){.name = shape->name, .variant = variant};
    gm_model *m = model_for(context, shape, variant);
    CHECK_OK(gm_quant_plan_make(&c.plan, m, data, options, err));
    CHECK_OK(gm_quant_executed_begin(&e, &c.plan, err));
    gm_data_validation(data, 0, B, x, y);
    CHECK_OK(gm_model_forward_loss(c.plan.model, x, y, B, T, &(gm_tap){keep, &c, options->attention.bits > 0}, &executed, NULL, err));
    double untapped;
    CHECK_OK(gm_model_forward_loss(c.plan.model, x, y, B, T, NULL, &untapped, NULL, err));
    assert_true(untapped == executed); /* looking changes nothing */
    gm_quant_executed_end(e);
    assert_null(c.plan.model->engine);
    CHECK_OK(gm_model_forward_loss(c.plan.model, x, y, B, T, &(gm_tap){compare, &c, options->attention.bits > 0}, &simulated, NULL, err));
    assert_int_equal(c.at, c.count);
    int64_t all = 0, moved = 0;
    for (int site = 0; site < GM_SITE_COUNT; site++) {
        bool product = site == GM_SITE_Q || site == GM_SITE_K || site == GM_SITE_V || site == GM_SITE_SCORES || site == GM_SITE_PV ||
                       site == GM_SITE_ATTN_OUT || site == GM_SITE_FFN_ACT || site == GM_SITE_FFN_OUT;
        if (c.moved[site] && !product) /* nothing but products is summed in another way */
            fail_msg("%s, %s: %lld integers of %s moved on the same input", shape->name, variant, (long long)c.moved[site],
                     gm_site_name((gm_site)site));
        all += c.values[site];
        moved += c.moved[site];
    }
    if (!(moved * 2000 <= all))
        fail_msg("%s, %s: %lld of %lld integers moved", shape->name, variant, (long long)moved, (long long)all);
    if (!(fabs(executed - simulated) <= 1e-5))
        fail_msg("%s, %s: loss %.8f, simulated from the same tensors %.8f", shape->name, variant, executed, simulated);
    for (int i = 0; i < c.count; i++)
        gm_free(c.records[i].x);
    gm_quant_plan_free(&c.plan);
    gm_model_free(m);
}

static void test_tensors(void **state) {
    (void)state;
    gm_quant_options o = options_of(8, 8);
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int v = 0; v < GM_COUNT(every_variant); v += shapes[s].stride)
            check_tensors(ctx, &shapes[s], every_variant[v], &o);
    }
}

/* Other grids: a row's own for weights, few bits, a cache's own, attention in f32, signed activations, linear layers only; every ISA. */
static void test_settings(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(every_isa); i++) {
        gm_ctx *c = context_of(every_isa[i], 1);
        if (!c)
            continue;
        for (int setting = 0; setting < 7; setting++) {
            gm_quant_options o = options_of(setting == 1 ? 4 : 8, setting == 1 ? 6 : 8);
            if (setting == 2) {
                o.kv = o.activations;
                o.kv.bits = 4;
            }
            if (setting == 3)
                o.attention.bits = 0;
            if (setting == 4)
                o.activations.asymmetric = o.attention.asymmetric = false;
            if (setting == 5)
                o.linear_only = true, o.attention.bits = 0, o.embeddings.bits = 0;
            if (setting == 6) {
                o.weights.grain = GM_GRAIN_CHANNEL;
                o.head = o.weights;
            }
            check_tensors(c, &shapes[setting % 2 ? 3 : 0], setting % 3 ? "softmax1" : "sink+gated", &o);
        }
        gm_ctx_free(c);
    }
}

/* ---- whole losses */

/* Perplexity within 0.1% of the simulated one, and not the f32 one in disguise. */
static void test_loss(void **state) {
    (void)state;
    static const struct {
        int shape;
        const char *variant;
    } cases[] = {{0, "softmax1"}, {2, "clipped:gamma=-0.03,zeta=1.03"}, {0, "softmax+gated"}, {3, "sink+gated"}, {3, "softmax"}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model *m = model_for(ctx, &shapes[cases[i].shape], cases[i].variant);
        gm_params_init(m, 5);
        bb_train(m, 80);
        for (int option = 0; option < 4; option++) {
            double executed, simulated, f32, alone, f32_alone, again;
            gm_quant_options o = options_of(option == 3 ? 4 : 8, 8);
            o.weights.grain = option == 1 ? GM_GRAIN_CHANNEL : GM_GRAIN_TENSOR;
            if (option == 2) {
                o.weights.range = GM_RANGE_MSE;
                o.head = o.weights;
            }
            CHECK_OK(gm_quant_executed_loss(m, data, &o, &executed, &simulated, &f32, err));
            if (!(fabs(exp(executed - simulated) - 1) <= 1e-3 && executed != f32 && f32 < 3.2))
                fail_msg("%s %s, option %d: executed loss %.6f, simulated %.6f, f32 %.6f", shapes[cases[i].shape].name, cases[i].variant,
                         option, executed, simulated, f32);
            if (option == 3 && i > 0) /* 4-bit weights cost more than the two paths differ, so both really round */
                assert_true(fabs(simulated - f32) > 2 * fabs(executed - simulated));
            CHECK_OK(gm_quant_simulated_loss(m, data, &o, &alone, &f32_alone, err));
            assert_true(alone == simulated && f32_alone == f32);
            o.attention_input = false; /* a gate's product takes its grid all the same, in both */
            CHECK_OK(gm_quant_executed_loss(m, data, &o, &again, &alone, NULL, err));
            assert_true(again == executed && alone == simulated);
        }
        gm_model_free(m);
    }
}

/* The two paths are two drawings of the same rounding: sums that differ in the seventh place make some integers neighbours, whose steps
 * the next layers round again. So a sequence's two losses differ by chance, without a drift, and a mean over n of them by 1 / sqrt(n) of
 * that: over few tokens it may be more than 0.1%, over many it is not. */
static void test_no_drift(void **state) {
    (void)state;
    enum { N = 256 };
    static const char *const variants[] = {"softmax", "softmax1+gated", "clipped:gamma=-0.03,zeta=1.03"};
    int differ = 0;
    for (int i = 0; i < 3 * GM_COUNT(variants); i++) {
        gm_model *m = model_for(ctx, &shapes[i % 3 + (i % 3 == 1 ? 2 : 0)], variants[i / 3]);
        gm_params_init(m, 5);
        bb_train(m, 80);
        gm_quant_plan plan;
        gm_quant_executed *e;
        const gm_quant_options asked = options_of(8, 8), o = gm_quant_options_executed(&asked, &m->cfg);
        CHECK_OK(gm_quant_plan_make(&plan, m, data, &o, err));
        const gm_tap tap = gm_quant_plan_tap(&plan);
        double loss[2][N], mean = 0, variance = 0;
        int32_t x[T], y[T];
        for (int path = 0; path < 2; path++) {
            if (path)
                CHECK_OK(gm_quant_executed_begin(&e, &plan, err));
            for (int s = 0; s < N; s++) {
                gm_data_validation(data, s, 1, x, y);
                CHECK_OK(gm_model_forward_loss(plan.model, x, y, 1, T, path ? NULL : &tap, &loss[path][s], NULL, err));
            }
        }
        for (int s = 0; s < N; s++)
            mean += (loss[1][s] - loss[0][s]) / N;
        for (int s = 0; s < N; s++)
            variance += pow(loss[1][s] - loss[0][s] - mean, 2) / (N - 1);
        const double error = sqrt(variance / N);
        differ += error > 0;
        if (!(fabs(mean) <= 4 * error && 4 * error <= 1e-3))
            fail_msg("case %d: executed - simulated is %.2e over %d sequences, standard error %.2e", i, mean, N, error);
        gm_quant_executed_end(e);
        gm_quant_plan_free(&plan);
        gm_model_free(m);
    }
    assert_true(differ >= GM_COUNT(variants)); /* there was something to average */
}

/* ---- the same bits */

static void test_decode_is_prefill(void **state) {
    (void)state;
    static const int64_t pieces[][3] = {{1, 1, 1}, {3, 1, 2}, {17, 2, 1}};
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int setting = 0; setting < 3; setting++) {
            gm_quant_plan plan;
            gm_quant_executed *e;
            gm_quant_options o = options_of(8, 8);
            if (setting == 1) {
                o.kv = o.activations;
                o.head = o.weights;
            } else if (setting == 2) {
                o.attention.bits = 0;
            }
            gm_model *m = model_for(ctx, &shapes[s], s % 2 ? "softmax1+gated" : "sink");
            CHECK_OK(gm_quant_plan_make(&plan, m, data, &o, err));
            CHECK_OK(gm_quant_executed_begin(&e, &plan, err));
            const int64_t V = m->cfg.vocab;
            int32_t x[T], y[T];
            float *want = malloc((size_t)(T * V) * sizeof(float)), *got = malloc((size_t)V * sizeof(float));
            gm_data_validation(data, 0, 1, x, y);
            CHECK_OK(gm_model_logits(plan.model, x, 1, T, false, want, err));
            for (int p = 0; p < GM_COUNT(pieces); p++) {
                gm_decoder *d;
                CHECK_OK(gm_decoder_create(&d, plan.model, T, err));
                for (int64_t t = 0, n, i = 0; t < T; t += n, i++) {
                    n = GM_MIN(pieces[p][i % 3], T - t);
                    CHECK_OK(gm_decoder_feed(d, x + t, n, got, err));
                    for (int64_t j = 0; j < V; j++) {
                        const double apart = fabs((double)got[j] - want[(t + n - 1) * V + j]);
                        /* on integers the same bits up to the head, which the matrix library sums by shape when it is f32 */
                        if (!(setting == 1 ? apart == 0 : apart <= (setting == 2 ? 0.05 : 1e-5) * (1 + fabs((double)got[j]))))
                            fail_msg("%s, setting %d, position %lld: logit %lld is %.8g, prefill's %.8g", shapes[s].name, setting,
                                     (long long)(t + n - 1), (long long)j, (double)got[j], (double)want[(t + n - 1) * V + j]);
                    }
                }
                gm_decoder_free(d);
            }
            free(want);
            free(got);
            gm_quant_executed_end(e);
            gm_quant_plan_free(&plan);
            gm_model_free(m);
        }
    }
}

static void test_threads(void **state) {
    (void)state;
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        float *logits[3];
        const int64_t V = gm_tokenizer_vocab(gm_data_tokenizer(data));
        for (int threads = 1; threads <= 3; threads++) {
            gm_quant_plan plan;
            gm_quant_executed *e;
            gm_ctx *c;
            CHECK_OK(gm_ctx_create(&c, &(gm_ctx_options){.threads = threads}, err));
            gm_quant_options o = options_of(8, 8);
            o.head = o.weights;
            gm_model *m = model_for(ctx, &shapes[s], "softmax1");
            CHECK_OK(gm_quant_plan_make(&plan, m, data, &o, err)); /* calibrated on one thread count */
            plan.model->ctx = c;
            CHECK_OK(gm_quant_executed_begin(&e, &plan, err));
            int32_t x[B * T], y[B * T];
            gm_data_validation(data, 0, B, x, y);
            logits[threads - 1] = malloc((size_t)(B * T * V) * sizeof(float));
            CHECK_OK(gm_model_logits(plan.model, x, B, T, false, logits[threads - 1], err));
            assert_memory_equal(logits[0], logits[threads - 1], (size_t)(B * T * V) * sizeof(float));
            gm_quant_executed_end(e);
            plan.model->ctx = ctx;
            gm_quant_plan_free(&plan);
            gm_model_free(m);
            gm_ctx_free(c);
        }
        for (int i = 0; i < 3; i++)
            free(logits[i]);
    }
}

/* A folder opened to be executed only holds no f32 weights, and has the bits of the model that was written: tables as integers, tables that
 * are the head's, a head of its own, tables left in f32. */
static void test_executed_only(void **state) {
    (void)state;
    char folder[] = "/tmp/ghostmax_executed_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int setting = 0; setting < 4; setting++) {
            gm_quantized *made, *loaded;
            gm_quant_options o = options_of(8, 8);
            if (setting == 1 || setting == 2)
                o.head = o.weights;
            if (setting == 2)
                o.head.grain = o.weights.grain = GM_GRAIN_CHANNEL;
            if (setting == 3)
                o.embeddings.bits = 0;
            gm_model *m = model_for(ctx, &shapes[s], "sink+gated");
            CHECK_OK(gm_quantized_make(&made, m, data, &o, err));
            CHECK_OK(gm_quantized_save(made, NULL, folder, err));
            CHECK_OK(gm_quantized_load(&loaded, ctx, folder, true, err));
            CHECK_OK(gm_quantized_mode(made, GM_QUANT_EXECUTED, err));
            const gm_model *bare = gm_quantized_model(loaded);
            assert_null(gm_model_weight(bare, GM_P_WQKV, 0));
            assert_true((bare->own_head || bare->head) == (o.head.bits == 0));
            assert_int_equal(gm_quantized_mode(loaded, GM_QUANT_SIMULATED, NULL), GM_EUNSUPPORTED);
            const int64_t V = m->cfg.vocab;
            int32_t x[B * T], y[B * T];
            float *want = malloc((size_t)(B * T * V) * sizeof(float)), *got = malloc((size_t)(B * T * V) * sizeof(float));
            gm_data_validation(data, 0, B, x, y);
            CHECK_OK(gm_model_logits(gm_quantized_model(made), x, B, T, false, want, err));
            CHECK_OK(gm_model_logits(gm_quantized_model(loaded), x, B, T, false, got, err));
            assert_memory_equal(want, got, (size_t)(B * T * V) * sizeof(float));
            free(want);
            free(got);
            gm_quantized_free(made);
            gm_quantized_free(loaded);
            gm_model_free(m);
        }
    }
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < GM_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        remove(path);
    }
    rmdir(folder);
}

/* ---- refusals, and what is not a number */

static void test_refusals(void **state) {
    (void)state;
    gm_model *m = model_for(ctx, &shapes[0], "softmax1");
    gm_error err;
    double loss;
    for (int i = 0; i < 8; i++) {
        gm_quant_options o = options_of(i == 0 ? 9 : 8, i == 1 ? 16 : 8);
        o.activations.grain = i == 2 ? GM_GRAIN_TOKEN : GM_GRAIN_TENSOR;
        o.calibration_batches = i == 3 ? 0 : 1;
        o.activations.dynamic = i == 4;
        o.weights.asymmetric = i == 5;
        o.outlier_threshold = i == 6 ? 1e-3 : 0;
        if (i == 7) {
            o.weights.grain = GM_GRAIN_GROUP;
            o.weights.group = 8;
        }
        assert_int_equal(gm_quant_executed_loss(m, data, &o, &loss, NULL, NULL, &err), i == 3 ? GM_EINVAL : GM_EUNSUPPORTED);
        assert_true(strlen(err.msg) > 20 && !strchr(err.msg, '\n'));
    }
    gm_model *gated = model_for(ctx, &shapes[0], "gated");
    gm_quant_options o = options_of(8, 8);
    gm_quant_plan plan;
    gm_quant_executed *e;
    o.attention_input = false; /* as published: no grid for what enters the output projection */
    assert_int_equal(gm_quant_plan_make(&plan, gated, data, &o, &err), GM_OK);
    assert_int_equal(gm_quant_executed_begin(&e, &plan, &err), GM_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "attn_in"));
    gm_quant_plan_free(&plan);
    gm_model_free(gated);
    o.attention_input = true;
    static const int broken[] = {GM_P_WQKV, GM_P_WO, GM_P_W1, GM_P_B2, GM_P_NORM2_G};
    for (int i = 0; i < GM_COUNT(broken); i++) { /* a diverged model gives NaN, not a number */
        float *w = gm_model_weight(m, broken[i], 1), was = w[3];
        w[3] = NAN;
        assert_int_equal(gm_quant_executed_loss(m, data, &o, &loss, NULL, NULL, &err), GM_OK);
        assert_true(isnan(loss));
        w[3] = was;
    }
    assert_int_equal(gm_quant_executed_loss(m, data, &o, &loss, NULL, NULL, &err), GM_OK);
    assert_true(isfinite(loss));
    gm_model_free(m);
}

static int setup(void **state) {
    (void)state;
    return open_context_and_bb(T);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),       cmocka_unit_test(test_settings),          cmocka_unit_test(test_loss),
        cmocka_unit_test(test_no_drift),      cmocka_unit_test(test_decode_is_prefill), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_executed_only), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, close_all);
}
