/* Quantized models as folders: what is written comes back with the same bits, an altered byte is found with its tensor, other models are
 * refused; and as models: what runs on integers is what the simulation says. */
#include "bb_models.h"

#include "quant.h"
#include "safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
enum { B = 6 };

static gm_model *trained_model(const char *preset, const char *variant, const char *overrides) {
    gm_model *m = bb_model(preset, variant, overrides);
    bb_train(m, 60);
    return m;
}

static double loss_of(gm_model *m) {
    int32_t x[B * T], y[B * T];
    double loss;
    gm_error err;
    gm_data_validation(data, 0, B, x, y);
    if (gm_model_loss(m, x, y, B, T, &loss, NULL, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return loss;
}

static double mode_loss(gm_quantized *q, gm_quant_mode mode) {
    gm_error err;
    if (gm_quantized_mode(q, mode, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return loss_of(gm_quantized_model(q));
}

static gm_quant_options options_of(int i) {
    gm_quant_options o;
    gm_quant_defaults(&o);
    switch (i) {
    case 1: /* the head with the table's grids: stored once where they are tied */
        o.head = o.weights;
        break;
    case 2: /* zero points, groups, 16 bits */
        o.weights = (gm_quantizer){.bits = 4, .grain = GM_GRAIN_GROUP, .group = 8, .asymmetric = true, .range = GM_RANGE_GOLDEN};
        o.embeddings = (gm_quantizer){.bits = 16, .asymmetric = true};
        o.head = (gm_quantizer){.bits = 12, .grain = GM_GRAIN_CHANNEL};
        o.activations.grain = GM_GRAIN_CHANNEL;
        o.kv = (gm_quantizer){.bits = 4, .grain = GM_GRAIN_HEAD, .asymmetric = true};
        break;
    case 3:
        gm_quant_preset(&o, "llm-int8", NULL);
        o.outlier_threshold = 1.5;
        break;
    case 4:
        gm_quant_preset(&o, "smoothquant", NULL);
        o.smooth = GM_SMOOTH_LAYERS;
        break;
    case 5:
        o.weights.grain = GM_GRAIN_CHANNEL;
        o.embeddings = (gm_quantizer){0};
        o.activations.range = o.attention.range = GM_RANGE_MSE;
        break;
    default:
        break;
    }
    o.calibration_batches = 3;
    return o;
}

static const char *const models[][3] = {{"gpt2-nano", "softmax1", "layers=2,heads=2,width=32"},
                                        {"words-mini", "clipped:gamma=-0.03,zeta=1.03", "layers=2,heads=2,width=40"},
                                        {"gpt2-nano", "sink+gated", "layers=2,heads=2,width=32"},
                                        {"llama-260k", "softmax", "layers=2,heads=4,kv-heads=2,width=32,ffn=48"}};

static void test_round_trip(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(models); i++) {
        gm_model *m = trained_model(models[i][0], models[i][1], models[i][2]);
        double f32 = loss_of(m);
        for (int k = 0; k < 6; k++) {
            gm_quant_options o = options_of(k);
            gm_quantized *q, *back;
            gm_error err;
            if (gm_quantized_make(&q, m, data, &o, &err) != GM_OK || gm_quantized_save(q, NULL, folder, &err) != GM_OK)
                fail_msg("%s", err.msg);
            assert_true(gm_quantized_is(folder));
            if (gm_quantized_load(&back, ctx, folder, false, &err) != GM_OK)
                fail_msg("%s, option %d: %s", models[i][0], k, err.msg);
            double made = mode_loss(q, GM_QUANT_SIMULATED), loaded = mode_loss(back, GM_QUANT_SIMULATED);
            if (!(made == loaded && made != f32 && fabs(made - f32) < 0.6))
                fail_msg("%s, option %d: loss %.9g, loaded %.9g, f32 %.9g", models[i][0], k, made, loaded, f32);
            bool executes = k != 2 && k != 3;
            assert_int_equal(gm_quantized_mode(back, GM_QUANT_EXECUTED, &err), executes ? GM_OK : GM_EUNSUPPORTED);
            if (executes) {
                double executed = mode_loss(back, GM_QUANT_EXECUTED);
                assert_true(mode_loss(q, GM_QUANT_EXECUTED) == executed);
                if (k != 4 && !(fabs(exp(executed - made) - 1) <= 1e-3)) /* 4: sums are not rounded again, a flip is carried on */
                    fail_msg("%s, option %d: executed %.9g, simulated %.9g", models[i][0], k, executed, made);
                assert_true(fabs(executed - made) <= 5e-3);
                gm_quantized *lean;
                if (gm_quantized_load(&lean, ctx, folder, true, &err) != GM_OK)
                    fail_msg("%s", err.msg);
                double alone = loss_of(gm_quantized_model(lean));
                if (alone != executed)
                    fail_msg("%s, option %d: executed %.9g, from integers alone %.9g", models[i][0], k, executed, alone);
                assert_true(gm_quantized_model(lean)->param_elements < m->param_elements / 2 || o.embeddings.bits == 0);
                assert_int_equal(gm_quantized_mode(lean, GM_QUANT_SIMULATED, &err), GM_EUNSUPPORTED);
                gm_quantized_free(lean);
            } else {
                gm_quantized *lean;
                assert_int_equal(gm_quantized_load(&lean, ctx, folder, true, &err), GM_EUNSUPPORTED);
                assert_null(lean);
            }
            assert_true(mode_loss(q, GM_QUANT_SIMULATED) == made); /* and back */
            assert_true(loss_of(m) == f32);
            gm_quantized_free(q);
            gm_quantized_free(back);
        }
        gm_model_free(m);
    }
}

/* Decoding runs the same mode: the logits of a sequence fed token by token are those of the whole (attention's products apart, which are
 * rounded for whole sequences only). */
static void test_decoding(void **state) {
    (void)state;
    gm_model *m = trained_model("llama-260k", "softmax1", "layers=2,heads=4,kv-heads=2,width=32,ffn=48");
    gm_quant_options o = options_of(1);
    o.attention = (gm_quantizer){0};
    o.attention_input = true;
    for (int mode = 0; mode < 2; mode++) {
        gm_quantized *q;
        gm_error err;
        o.kv = (gm_quantizer){.bits = 8, .grain = mode ? GM_GRAIN_TENSOR : GM_GRAIN_HEAD, .range = GM_RANGE_RUNNING, .asymmetric = true};
        if (gm_quantized_make(&q, m, data, &o, &err) != GM_OK || gm_quantized_mode(q, (gm_quant_mode)mode, &err) != GM_OK)
            fail_msg("%s", err.msg);
        gm_model *r = gm_quantized_model(q);
        int32_t x[T], y[T];
        float whole[512], last[512];
        gm_decoder *d;
        gm_data_validation(data, 0, 1, x, y);
        assert_int_equal(gm_model_logits(r, x, 1, T, true, whole, NULL), GM_OK);
        assert_int_equal(gm_decoder_create(&d, r, T, NULL), GM_OK);
        for (int t = 0; t < T; t++)
            assert_int_equal(gm_decoder_feed(d, x + t, 1, last, NULL), GM_OK);
        float norm = gm_inf_norm(ctx, whole, m->cfg.vocab);
        for (int64_t v = 0; v < m->cfg.vocab; v++) {
            if (!(fabsf(whole[v] - last[v]) <= 0.02f * norm)) /* a value between two steps may fall to either side */
                fail_msg("mode %d: logit %lld is %g, decoded %g", mode, (long long)v, (double)whole[v], (double)last[v]);
        }
        gm_decoder_free(d);
        gm_quantized_free(q);
    }
    gm_model_free(m);
}

/* Every tensor of the file, a byte of it altered. */
static void test_altered(void **state) {
    (void)state;
    gm_model *m = trained_model("gpt2-nano", "softmax1", "layers=1,heads=2,width=32");
    gm_quant_options o = options_of(3);
    gm_quantized *q;
    gm_error err;
    char path[128];
    gm_safetensors s;
    assert_int_equal(gm_quantized_make(&q, m, data, &o, &err), GM_OK);
    assert_int_equal(gm_quantized_save(q, NULL, folder, &err), GM_OK);
    gm_quantized_free(q);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(gm_safetensors_open(&s, path, &err), GM_OK);
    FILE *f = fopen(path, "r+b");
    for (int i = 0; i < s.count; i++) {
        const gm_tensor *t = &s.tensors[i];
        long at = (long)(s.data_at + t->begin + t->bytes / 2);
        char name[128];
        uint8_t byte;
        snprintf(name, sizeof name, "%s", t->name);
        fseek(f, at, SEEK_SET);
        byte = (uint8_t)fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 16, f);
        fflush(f);
        assert_int_equal(gm_quantized_load(&q, ctx, folder, i % 2, &err), GM_EFORMAT);
        assert_null(q);
        if (!strstr(err.msg, name) || err.offset < 0)
            fail_msg("'%s' does not name '%s'", err.msg, name);
        fseek(f, at, SEEK_SET);
        fputc(byte, f);
        fflush(f);
    }
    gm_safetensors_close(&s);
    for (long at = 0; at < 3000; at += 7) { /* the header: nothing passes unseen */
        fseek(f, at, SEEK_SET);
        uint8_t byte = (uint8_t)fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 1, f);
        fflush(f);
        if (gm_quantized_load(&q, ctx, folder, false, &err) == GM_OK)
            fail_msg("byte %ld of the header, '%c', may be altered", at, byte);
        fseek(f, at, SEEK_SET);
        fputc(byte, f);
        fflush(f);
    }
    fclose(f);
    assert_int_equal(gm_quantized_load(&q, ctx, folder, false, &err), GM_OK);
    gm_quantized_free(q);
    gm_model *plain; /* others do not take it for one of theirs */
    assert_int_equal(gm_model_load(&plain, ctx, folder, &err), GM_EUNSUPPORTED);
    gm_model_free(m);
}

/* NaN and infinity are answered with their tensor, too much calibration with what there is. */
static void test_refusals(void **state) {
    (void)state;
    gm_model *m = trained_model("gpt2-nano", "softmax1", "layers=2,heads=2,width=32");
    gm_quant_options o = options_of(0);
    gm_quantized *q;
    gm_error err;
    float *w = gm_model_weight(m, GM_P_W2, 1), was = w[7];
    w[7] = NAN;
    assert_int_equal(gm_quantized_make(&q, m, data, &o, &err), GM_EFORMAT);
    assert_null(q);
    assert_non_null(strstr(err.msg, "blocks.1.ffn.w2"));
    w[7] = was;
    float *bias = gm_model_weight(m, GM_P_B2, 1); /* not a matrix: seen where it ends up */
    was = bias[3];
    bias[3] = INFINITY;
    assert_int_equal(gm_quantized_make(&q, m, data, &o, &err), GM_EFORMAT);
    if (!strstr(err.msg, "blocks.1.ffn_out"))
        fail_msg("%s", err.msg);
    bias[3] = was;
    o.weights.bits = 33;
    assert_int_equal(gm_quantized_make(&q, m, data, &o, &err), GM_EINVAL);
    gm_model_free(m);
}

/* The report's numbers are the model's; the sensitivity of a tensor is its own. */
static double number(json_t *root, const char *a, const char *b) {
    return json_number_value(json_object_get(json_object_get(root, a), b));
}

static void test_report(void **state) {
    (void)state;
    gm_model *m = trained_model("gpt2-nano", "softmax", "layers=2,heads=2,width=32");
    gm_quant_options o = options_of(0);
    o.sequences = B;
    gm_quantized *q;
    gm_error err;
    char *text;
    if (gm_quantized_make(&q, m, data, &o, &err) != GM_OK)
        fail_msg("%s", err.msg);
    double losses[3] = {loss_of(m), mode_loss(q, GM_QUANT_SIMULATED), mode_loss(q, GM_QUANT_EXECUTED)};
    for (int spared = 0; spared < 2; spared++) {
        gm_quant_report_options r = {
            .sensitivity = spared ? GM_SENSITIVITY_SPARED : GM_SENSITIVITY_ALONE, .batch = B, .sensitivity_sequences = B};
        if (gm_quantized_report(q, data, &r, NULL, NULL, &text, &err) != GM_OK)
            fail_msg("%s", err.msg);
        json_t *root = json_loads(text, 0, NULL), *list = json_object_get(json_object_get(root, "sensitivity"), "tensors");
        assert_true(fabs(number(root, "f32", "loss") - losses[0]) < 1e-6);
        assert_true(fabs(number(root, "simulated", "loss") - losses[1]) < 1e-6);
        assert_true(fabs(number(root, "executed", "loss") - losses[2]) < 1e-6);
        /* matrices: 2 x 6, 5 gains, 2 tables; sites: 2 x (norm1 q k v scores weights pv attn_out residual1 norm2 ffn_act ffn_out block), 2
         */
        assert_int_equal(json_array_size(json_object_get(root, "tensors")), 12 + 5 + 2 + 26 + 2);
        assert_int_equal(json_array_size(list), 12 + 5 + 2 + 26 + 2);
        for (size_t i = 1; i < json_array_size(list); i++)
            assert_true(json_number_value(json_object_get(json_array_get(list, i), "loss_cost")) <=
                        json_number_value(json_object_get(json_array_get(list, i - 1), "loss_cost")) + 1e-12);
        gm_matrix_view views[32];
        const int matrices = gm_model_matrices(m, views, 32);
        for (int i = 0; i < matrices && !spared; i++) { /* by hand: only that matrix rounded */
            gm_model *one;
            const gm_matrix_view *v = &views[i];
            assert_int_equal(gm_model_clone(&one, m, NULL), GM_OK);
            const int64_t n = v->rows * v->cols;
            gm_quant_simulate(ctx, one->weights + (v->x - m->weights), v->x, n, gm_quant_symmetric(8, gm_inf_norm(ctx, v->x, n)));
            size_t k = 0;
            while (strcmp(json_string_value(json_object_get(json_array_get(list, k), "name")), v->name) != 0)
                k++;
            assert_true(fabs(json_number_value(json_object_get(json_array_get(list, k), "loss_cost")) - (loss_of(one) - losses[0])) < 1e-6);
            gm_model_free(one);
        }
        json_decref(root);
        free(text);
    }
    assert_true(mode_loss(q, GM_QUANT_SIMULATED) == losses[1]); /* the report leaves it as it was */
    gm_quantized_free(q);
    gm_model_free(m);
}

/* What is written of the quantizers comes back too, and nothing else does. */
static void test_options(void **state) {
    (void)state;
    gm_quant_options o, back;
    gm_error err;
    for (int i = 0; gm_quant_preset_list(i); i++) {
        assert_int_equal(gm_quant_preset(&o, gm_quant_preset_list(i)->name, &err), GM_OK);
        assert_int_equal(gm_quant_options_check(&o, &err), GM_OK);
        json_t *root = gm_quant_options_to_json(&o);
        assert_int_equal(gm_quant_options_from_json(&back, root, &err), GM_OK);
        json_t *again = gm_quant_options_to_json(&back);
        assert_true(json_equal(root, again));
        json_object_set_new(root, "smooth", json_string("rough"));
        assert_int_equal(gm_quant_options_from_json(&back, root, &err), GM_EFORMAT);
        json_decref(root);
        json_decref(again);
    }
    assert_int_equal(gm_quant_preset(&o, "bert-paper", &err), GM_OK);
    gm_quant_defaults(&back);
    json_t *paper = gm_quant_options_to_json(&o), *defaults = gm_quant_options_to_json(&back);
    assert_true(json_equal(paper, defaults));
    json_decref(paper);
    json_decref(defaults);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/gm_quantized_XXXXXX");
    return mkdtemp(folder) ? open_context_and_bb(T) : 1;
}

static int teardown(void **state) {
    char path[128];
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
    return close_all(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_decoding), cmocka_unit_test(test_altered),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_report),   cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
