/* selftest_models.c -- whole models: every parameter's gradient by differences of the loss; twenty training steps with a known end; metrics
 * of known models; published constants; the integers that a quantized model executes beside their simulation. */
#include "selftest.h"

#include "metrics.h"
#include "model.h"
#include "ops.h"
#include "optimizer.h"
#include "quant.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- gradients --------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *preset, *overrides, *variant;
} gradient_cases[] = {
    /* without ReLU, whose corners differences do not see */
    {"gpt2-nano", "vocab=11,context=9,layers=2,width=8,heads=2,ffn=12", "softmax"},
    {"gpt2-nano", "vocab=11,context=9,layers=2,width=8,heads=2,ffn=12", "softmax1+gated:kind=all_heads"},
    {"opt-mini", "vocab=11,context=9,layers=2,width=10,heads=2,ffn=9,act=gelu-erf", "sink"},
    {"llama-260k", "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=2,head-dim=6,ffn=10", "softmax1"},
    {"llama-260k", "vocab=11,context=9,layers=2,width=8,heads=2,kv-heads=1,head-dim=6,ffn=7,qk-norm=yes,window=4",
     "sink+gated:kind=channel"},
    {"gpt2-nano", "vocab=11,context=9,layers=1,width=8,heads=2,ffn=12", "clipped:gamma=-0.01,zeta=1.02"},
};
enum { GRAD_B = 2, GRAD_T = 9, GRAD_TOKENS = GRAD_B * GRAD_T };

static gm_status small_model(gm_model **m, const gm_ctx *ctx, const char *preset, const char *overrides, const char *variant, int64_t vocab,
                             gm_error *err) {
    gm_model_config cfg;
    *m = NULL;
    GM_TRY(gm_model_config_preset(&cfg, preset, err));
    GM_TRY(gm_model_config_override(&cfg, overrides, err));
    if (vocab)
        cfg.vocab = vocab;
    GM_TRY(gm_variant_parse(&cfg.attention, variant, err));
    return gm_model_create(m, ctx, &cfg, 1, err);
}

/* The derivative of the loss along a direction, by differences and from the gradient g: g's own direction, where the derivative is large,
 * and a random one, which finds what g lacks. *error: the difference, as a share of g's length (or, of a small one, of a twentieth of the
 * model's). */
static gm_status parameter_error(double *error, gm_model *m, const gm_param *p, const int32_t *x, const int32_t *y, double all,
                                 gm_error *err) {
    const int64_t n = p->rows * p->cols;
    const uint64_t key = gm_rng_key(2, p->name);
    const double h = 0.005, length = sqrt(gm_sum_squares(m->ctx, m->grads + p->offset, n));
    float *w = m->weights + p->offset, *kept = gm_alloc(n, sizeof *kept);
    const float *g = m->grads + p->offset;
    double side[2] = {NAN, NAN}, analytic = 0;
    if (!kept)
        return gm_fail_memory(err, sizeof *kept * (size_t)n);
    memcpy(kept, w, sizeof *kept * (size_t)n);
    gm_status status = GM_OK;
    for (int s = 0; s < 2 && status == GM_OK; s++) {
        analytic = 0;
        for (int64_t i = 0; i < n; i++) {
            double random = (gm_rng_u64(key, (uint64_t)i) & 1 ? 1 : -1) / sqrt((double)n);
            double direction = (length > 0 ? (double)g[i] / length : 0) + random;
            w[i] = (float)((double)kept[i] + (s ? -h : h) * direction);
            analytic += direction * (double)g[i];
        }
        status = gm_model_loss(m, x, y, GRAD_B, GRAD_T, &side[s], NULL, err);
    }
    memcpy(w, kept, sizeof *kept * (size_t)n);
    gm_free(kept);
    *error = fabs((side[0] - side[1]) / (2 * h) - analytic) / fmax(length, 0.05 * all);
    return status;
}

static gm_status model_gradients(gm_model *m, double *worst, char *where, size_t size, int64_t *count, gm_error *err) {
    int32_t x[GRAD_TOKENS], y[GRAD_TOKENS];
    const uint64_t key = gm_rng_key(1, "selftest");
    double sum = 0;
    for (int i = 0; i < GRAD_TOKENS; i++) {
        x[i] = (int32_t)gm_rng_below(key, (uint64_t)(2 * i), m->cfg.vocab);
        y[i] = (int32_t)gm_rng_below(key, (uint64_t)(2 * i + 1), m->cfg.vocab);
    }
    for (int64_t i = 0; i < m->param_elements; i++) /* no zero bias, no unit gain */
        m->weights[i] += 0.3f * (float)gm_rng_normal(key, (uint64_t)(1000 + i));
    GM_TRY(gm_model_train_begin(m, GRAD_B, GRAD_T, err));
    gm_model_zero_grads(m);
    GM_TRY(gm_model_accumulate(m, x, y, GRAD_B, GRAD_T, 1.0f / GRAD_TOKENS, 0, &sum, err));
    double all = sqrt(gm_sum_squares(m->ctx, m->grads, m->param_elements));
    for (int i = 0; i < m->param_count; i++, ++*count) {
        double error = NAN;
        GM_TRY(parameter_error(&error, m, &m->params[i], x, y, all, err));
        if (!(error <= *worst))
            snprintf(where, size, "%s of %s", m->params[i].name, m->cfg.preset);
        *worst = gm_selftest_larger(*worst, error);
    }
    return GM_OK;
}

static gm_status check_gradients(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    double worst = 0;
    char where[128] = "";
    int64_t count = 0;
    for (size_t i = 0; i < sizeof gradient_cases / sizeof *gradient_cases; i++) {
        gm_model *m;
        GM_TRY(small_model(&m, ctx, gradient_cases[i].preset, gradient_cases[i].overrides, gradient_cases[i].variant, 0, err));
        gm_status status = model_gradients(m, &worst, where, sizeof where, &count, err);
        gm_model_free(m);
        GM_TRY(status);
    }
    gm_selftest_add(t, "model gradients, by differences", count, worst, 5e-3, where);
    return GM_OK;
}

/* ---- training: losses of steps 1, 10, 20, and the last gradient norm, as `ref` computed them when tests/train/test_training_golden.c held
 * these steps beside PyTorch's. */

enum { STEPS = 20, BATCH = 4, CONTEXT = 32 };
static const int golden_steps[] = {1, 10, 20};
static const double golden_losses[] = {4.19766077, 3.73362298, 3.46506988}, golden_norm = 0.602943879;

static gm_status check_training(gm_selftest *t, gm_model *m, const gm_data *data, gm_error *err) {
    const gm_train_options o = {
        .batch = BATCH, .context = CONTEXT, .lr = 3e-3, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .clip = 1};
    int32_t x[BATCH * CONTEXT], y[BATCH * CONTEXT];
    float *moments = gm_alloc(2 * m->param_elements, sizeof *moments);
    double worst = 0, sum, norm = 0;
    char where[128] = "";
    gm_status status = moments ? gm_model_train_begin(m, BATCH, CONTEXT, err) : gm_fail_memory(err, sizeof *moments);
    if (moments)
        memset(moments, 0, sizeof *moments * (size_t)(2 * m->param_elements));
    for (int step = 1, at = 0; step <= STEPS && status == GM_OK; step++) {
        sum = 0;
        gm_data_train(data, 1, (step - 1) * BATCH, BATCH, x, y);
        gm_model_zero_grads(m);
        status = gm_model_accumulate(m, x, y, BATCH, CONTEXT, 1.0f / (BATCH * CONTEXT), 0, &sum, err);
        norm = sqrt(gm_sum_squares(m->ctx, m->grads, m->param_elements));
        gm_optimizer_step(m, moments, moments + m->param_elements, &o, norm, o.lr, step);
        if (step != golden_steps[at])
            continue;
        double error = fabs(sum / (BATCH * CONTEXT) / golden_losses[at] - 1);
        if (!(error <= worst))
            snprintf(where, sizeof where, "loss of step %d: %.12g", step, sum / (BATCH * CONTEXT));
        worst = gm_selftest_larger(worst, error);
        at++;
    }
    double error = fabs(norm / golden_norm - 1);
    if (!(error <= worst))
        snprintf(where, sizeof where, "gradient norm of step %d: %.12g", STEPS, norm);
    gm_free(moments);
    if (status == GM_OK)
        gm_selftest_add(t, "20 training steps", 4, gm_selftest_larger(worst, error), 1e-5, where);
    return status;
}

/* ---- metrics of models with outliers, as `ref` computed them when tests/measure/test_measure_oracle.c held them beside an implementation
 * of their own. */

static const char *const loud_models[] = {"gpt2-nano", "llama-260k"};
enum { LOUD_MODELS = sizeof loud_models / sizeof *loud_models };

/* Random weights, heads that look about, loud features behind the first norm, and one loud dimension of the residual stream. */
static gm_status loud_model(gm_model **m, const gm_ctx *ctx, const char *preset, const gm_data *data, gm_error *err) {
    GM_TRY(small_model(m, ctx, preset, "context=32,layers=2,width=32,heads=4,kv-heads=4,ffn=48", "softmax1+clipped:gamma=-0.01,zeta=1.05",
                       gm_tokenizer_vocab(gm_data_tokenizer(data)), err));
    const uint64_t key = gm_rng_key(1, "loud");
    for (int64_t i = 0; i < (*m)->param_elements; i++)
        (*m)->weights[i] += 0.2f * (float)gm_rng_normal(key, (uint64_t)i);
    float *down = gm_model_weight(*m, GM_P_W2, 1) + 7 * (*m)->cfg.ffn, *gain = gm_model_weight(*m, GM_P_NORM1_G, 0);
    for (int64_t i = 0; i < (*m)->cfg.ffn; i++)
        down[i] *= 2000;
    for (int64_t i = 0; i < (*m)->cfg.width; i++)
        gain[i] *= 1 + 0.2f * (float)i;
    return GM_OK;
}

/* All numbers of a JSON value, added. */
static double total(const json_t *value) {
    double sum = json_is_number(value) ? json_number_value(value) : 0;
    size_t i;
    const char *key;
    json_t *one;
    json_array_foreach(value, i, one) sum += total(one);
    json_object_foreach((json_t *)value, key, one) sum += total(one);
    return sum;
}

static gm_status check_measured(gm_selftest *t, const gm_ctx *ctx, const gm_data *data, gm_error *err) {
    static const struct {
        const char *name; /* in the measurement, or else in that of its first tensor */
        double values[LOUD_MODELS];
    } known[] = {
        {"max_inf_norm", {3500.66978, 4660.70838}},
        {"max_ffn_inf_norm", {3508.67834, 4662.929}},
        {"max_all_inf_norm", {3508.67834, 4662.929}},
        {"avg_kurtosis", {21.2580799, 22.0750376}},
        {"max_kurtosis", {90.3030175, 91.4151173}},
        {"weight_kurtosis", {9.52751293, 8.22393562}},
        {"weight_inf_norm", {88.1258137, 45.1306715}},
        {"sink_rate", {6.640625, 1.3671875}},
        {"sink_mass", {0.103596242, 0.108578662}},
        {"null_mass", {0.0599988902, 0.0542516406}},
        {"unspent", {0.101181158, 0.0964949062}},
        {"entropy", {0.980639702, 1.0204929}},
        {"noop_score", {4.51948917, 7.09378172}},
        {"value_drain", {0.967925092, 1.10047422}},
        {"first_norm", {605.966745, 1103.97317}},
        {"massive_count", {26, 69}},
        {"outlier_features", {516.125488, 523.746582}},
        {"token_classes", {597, 602}},
        {"token_class_ratio", {3.19732329, 3.10860412}},
        {"backcopy_loss", {4.49546521, 5.4302296}},
        {"bigram_excess", {2.19971732, 2.61690314}},
        {"dormant_sink_mass", {0.0852591085, 0.100083455}},
        {"quantiles", {3.43457031, 2.22167969}},
        {"value_quantiles", {0.173934937, 0.0447692871}},
        {"kurtosis_eps0", {2.99930858, 3.02469576}},
        {"kurtosis", {2.99884519, 3.0227935}},
        {"excess_kurtosis_pooled", {0.0120399823, 0.0490932014}},
    };
    double worst = 0;
    char where[128] = "";
    for (int l = 0; l < LOUD_MODELS; l++) {
        gm_model *m;
        char *text;
        GM_TRY(loud_model(&m, ctx, loud_models[l], data, err));
        gm_status status = gm_measure_model(m, data, &(gm_measure_options){.details = true}, &text, err);
        gm_model_free(m);
        GM_TRY(status);
        json_t *root = json_loads(text, 0, NULL);
        free(text);
        if (!root)
            return gm_fail_memory(err, sizeof *root);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            const json_t *whole = json_object_get(root, known[i].name), *first = json_array_get(json_object_get(root, "tensors"), 0);
            double error = fabs(total(whole ? whole : json_object_get(first, known[i].name)) / known[i].values[l] - 1);
            if (!(error <= worst))
                snprintf(where, sizeof where, "%s of %s", known[i].name, loud_models[l]);
            worst = gm_selftest_larger(worst, error);
        }
        json_decref(root);
    }
    gm_selftest_add(t, "metrics of models", (int64_t)(LOUD_MODELS * sizeof known / sizeof *known), worst, 2e-5, where);
    return GM_OK;
}

/* ---- published constants: on both sides of a threshold, and where a scale must be ------------------------------------------------- */

/* How many massive activations there are among a, b and six of `rest`. */
static double massive_count(float a, float b, float rest) {
    const float x[] = {rest, rest, a, rest, rest, b, rest, rest};
    enum { N = sizeof x / sizeof *x };
    const int32_t tokens[N] = {0};
    float scratch[N];
    gm_massive_stats stats = {0};
    gm_massive_stats_add(&stats, x, N, 1, 1, 0, 0, tokens, scratch);
    return (double)stats.count[GM_ALL_POSITIONS];
}

/* How many outlier features there are among three whose values of 6 just are, or just are not, in enough layers and at enough positions. */
static gm_status feature_count(double *count, gm_error *err) {
    enum { FEATURES = 3, LAYERS = 20, ROWS = 100 };
    static const int in_layers[FEATURES] = {5, 4, 5}, at_rows[FEATURES] = {6, 6, 5};
    gm_feature_stats stats;
    gm_status status = gm_feature_stats_init(&stats, LAYERS, FEATURES, ROWS, err);
    for (int l = 0; l < LAYERS && status == GM_OK; l++) {
        float x[ROWS * FEATURES];
        for (int i = 0; i < ROWS * FEATURES; i++)
            x[i] = l < in_layers[i % FEATURES] && i / FEATURES < at_rows[i % FEATURES] ? -6 : 0;
        gm_feature_stats_add(&stats, x, ROWS, ROWS, FEATURES, l);
    }
    if (status == GM_OK)
        gm_feature_stats_commit(&stats, ROWS, ROWS);
    for (int c = 0; c < FEATURES && status == GM_OK; c++) {
        double layers, positions;
        *count += gm_feature_stats_is_outlier(&stats, c, GM_ALL_POSITIONS, &layers, &positions);
    }
    gm_feature_stats_free(&stats);
    return status;
}

/* How many features of its first linear layer's input `llm-int8` keeps in f32, and the weights' scale by `smoothquant`, where every weight
 * is w and calibration saw these maxima. */
static gm_status preset_constants(double *kept, double *scale, gm_model *m, const gm_features *f, float w, gm_error *err) {
    gm_quant_options o;
    gm_outlier_columns *columns;
    GM_TRY(gm_quant_preset(&o, "llm-int8", err));
    gm_status status = gm_outlier_columns_find(&columns, &m->cfg, f, o.outlier_threshold, err);
    if (columns) {
        *kept = (double)columns->count;
        gm_outlier_columns_free(columns, m->cfg.layers);
    }
    GM_TRY(status);
    GM_TRY(gm_quant_preset(&o, "smoothquant", err));
    for (int64_t i = 0; i < m->param_elements; i++)
        m->weights[i] = w;
    GM_TRY(gm_model_smooth(m, f, o.smooth, o.smooth_alpha, err));
    *scale = (double)(*gm_model_weight(m, GM_P_WQKV, 0) / w);
    return GM_OK;
}

static gm_status check_constants(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    enum { WIDTH = 8 };
    float max[WIDTH] = {9, 6, nextafterf(6, 0)}; /* of every input: the first two are kept, the first one's scale is (9 / 0.25)^0.5 */
    const gm_features f = {.max = {max, max, max, max}};
    double features = 0, kept = 0, scale = 0;
    gm_model *m;
    GM_TRY(small_model(&m, ctx, "gpt2-nano", "vocab=11,context=9,layers=1,width=8,heads=2,ffn=8", "softmax", 0, err));
    gm_status status = preset_constants(&kept, &scale, m, &f, 0.25f, err);
    gm_model_free(m);
    GM_TRY(status);
    GM_TRY(feature_count(&features, err));
    const struct {
        const char *name;
        double got, want;
    } known[] = {
        {"massive activations, size", massive_count(100, nextafterf(100, 101), 0.05f), 1},
        {"massive activations, times the median", massive_count(250, nextafterf(250, 0), 0.25f), 1},
        {"outlier features, shares of layers and positions", features, 1},
        {"LLM.int8()'s threshold", kept, 2},
        {"SmoothQuant's alpha", scale, 6},
    };
    double worst = 0;
    char where[128] = "";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double error = fabs(known[i].got / known[i].want - 1);
        if (!(error <= worst))
            snprintf(where, sizeof where, "%s: %g instead of %g", known[i].name, known[i].got, known[i].want);
        worst = gm_selftest_larger(worst, error);
    }
    gm_selftest_add(t, "published constants", sizeof known / sizeof *known, worst, 1e-6, where);
    return GM_OK;
}

/* ---- integers ------------------------------------------------------------------------------------------------------------------------ */

static gm_status check_executed(gm_selftest *t, gm_model *m, const gm_data *data, gm_error *err) {
    gm_quant_options o;
    double executed, simulated;
    gm_quant_defaults(&o);
    o.calibration_batches = 2;
    o.sequences = 16;
    GM_TRY(gm_quant_executed_loss(m, data, &o, &executed, &simulated, NULL, err));
    gm_selftest_add(t, "W8A8 executed beside simulated: perplexity", 1, fabs(exp(executed - simulated) - 1), 1e-3, "");
    return GM_OK;
}

gm_status gm_selftest_models(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    gm_data *data = NULL;
    gm_model *m = NULL;
    GM_TRY(check_gradients(t, ctx, err));
    gm_status status = gm_data_open(&data, &(gm_data_options){.source = "bb", .context = CONTEXT}, err);
    if (status == GM_OK)
        status = small_model(&m, ctx, "llama-260k", "context=32,layers=2,width=32,heads=2,kv-heads=1,ffn=48", "softmax1",
                             gm_tokenizer_vocab(gm_data_tokenizer(data)), err);
    if (status == GM_OK)
        status = check_training(t, m, data, err);
    if (status == GM_OK)
        status = check_executed(t, m, data, err);
    if (status == GM_OK)
        status = check_measured(t, ctx, data, err);
    if (status == GM_OK)
        status = check_constants(t, ctx, err);
    gm_model_free(m);
    gm_data_free(data);
    return status;
}
