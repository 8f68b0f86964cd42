/* A measuring pass over a tiny model: the contract's fields, agreement with a pass that keeps everything, and no side effects. */
#include "fixture.h"

#include "measure.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 24, SEQUENCES = 6 };

static gm_model *model_of(const char *preset, const char *variant, const char *overrides) {
    gm_model_config cfg;
    gm_model *m;
    gm_error err;
    assert_int_equal(gm_model_config_preset(&cfg, preset, &err), GM_OK);
    if (gm_model_config_override(&cfg, overrides, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(gm_variant_parse(&cfg.attention, variant, &err), GM_OK);
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    cfg.context = T;
    if (gm_model_create(&m, ctx, &cfg, 5, &err) != GM_OK)
        fail_msg("%s", err.msg);
    for (int i = 0; i < m->param_count; i++) { /* livelier than an init: outliers and uneven heads */
        const gm_param *p = &m->params[i];
        for (int64_t j = 0; j < p->rows * p->cols; j++)
            m->weights[p->offset + j] *= p->kind == GM_PARAM_LINEAR ? 6.0f : 1.0f;
    }
    return m;
}

static char *measure_text(gm_model *m, const gm_measure_options *options) {
    char *text;
    gm_error err;
    if (gm_measure_model(m, data, options, &text, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return text;
}

static json_t *measure(gm_model *m, const gm_measure_options *options) {
    char *text = measure_text(m, options);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    assert_non_null(root);
    return root;
}

static double number(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    if (!json_is_number(value))
        fail_msg("\"%s\" is no number", name);
    return json_number_value(value);
}

static void near(double got, double want, double tolerance, const char *what) {
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want))))
        fail_msg("%s: got %.12g, want %.12g", what, got, want);
}

/* ---- an oracle that keeps every activation and loops over the whole afterwards */

enum { SITES = GM_SITE_COUNT, LAYERS = 2, WIDTH = 32, HEADS = 2 };
static struct kept {
    float x[SEQUENCES * T * WIDTH];
    int64_t rows;
} kept[LAYERS + 1][SITES];
static double mass[LAYERS][HEADS][SEQUENCES], null_of[LAYERS][HEADS][SEQUENCES];

static void keep(void *user, const gm_tap_view *v) {
    (void)user;
    int layer = v->layer < 0 ? LAYERS : v->layer;
    if (v->site == GM_SITE_WEIGHTS) {
        double a = 0, null = 0;
        for (int t = 0; t < T; t++) {
            a += v->x[t * v->stride] / T;
            null += v->null_mass ? v->null_mass[t] / T : 0;
        }
        mass[layer][v->h][v->b] = a;
        null_of[layer][v->h][v->b] = null;
    }
    if (v->b >= 0 || v->cols != WIDTH)
        return;
    struct kept *k = &kept[layer][v->site];
    for (int64_t r = 0; r < v->rows; r++)
        memcpy(k->x + r * WIDTH, v->x + r * v->stride, WIDTH * sizeof(float));
    k->rows = v->rows;
}

static void kept_norm_and_kurtosis(const struct kept *k, int64_t group_rows, double *inf_norm, double *kurtosis, double *kurtosis_eps0) {
    int64_t groups = k->rows / group_rows, n = group_rows * WIDTH;
    *inf_norm = *kurtosis = *kurtosis_eps0 = 0;
    for (int64_t g = 0; g < groups; g++) {
        const float *x = k->x + g * n;
        double mean = 0, s2 = 0, m4 = 0, max = 0;
        for (int64_t i = 0; i < n; i++)
            mean += x[i] / (double)n;
        for (int64_t i = 0; i < n; i++) {
            s2 += pow(x[i] - mean, 2) / (double)(n - 1);
            m4 += pow(x[i] - mean, 4) / (double)n;
            max = fmax(max, fabs((double)x[i]));
        }
        *inf_norm += max / (double)groups;
        *kurtosis += m4 / (s2 * s2 + 1e-6) / (double)groups;
        *kurtosis_eps0 += m4 / (s2 * s2) / (double)groups;
    }
}

static void check_against_oracle(const char *convention) {
    gm_model *m = model_of("gpt2-nano", "softmax1", "layers=2,heads=2,width=32");
    int32_t x[SEQUENCES * T], y[SEQUENCES * T];
    double loss;
    gm_data_validation(data, 0, SEQUENCES, x, y);
    gm_tap tap = {.fn = keep, .attention = true};
    assert_int_equal(gm_model_forward_loss(m, x, y, SEQUENCES, T, &tap, &loss, NULL, NULL), GM_OK);
    /* in batches of 4 and 2 */
    json_t *root = measure(m, &(gm_measure_options){.sequences = SEQUENCES, .batch = 4, .convention = convention});
    bool opt = convention && strcmp(convention, "opt-code") == 0, bert = convention && strcmp(convention, "bert-code") == 0;
    near(number(root, "loss"), loss, 1e-6, "loss");
    assert_int_equal(json_integer_value(json_object_get(root, "sequences")), SEQUENCES);
    assert_int_equal(json_integer_value(json_object_get(root, "context")), T);

    double sum = 0, max_kurtosis = 0, max_block = 0, max_ffn = 0, max_all = 0;
    int count = 0;
    const json_t *tensors = json_object_get(root, "tensors");
    assert_int_equal(json_array_size(tensors), LAYERS * 5 + 1);
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i);
        const char *name = json_string_value(json_object_get(tensor, "name"));
        const char *site_name = json_string_value(json_object_get(tensor, "site"));
        int layer = (int)json_integer_value(json_object_get(tensor, "layer")), site = 0;
        while (strcmp(gm_site_name((gm_site)site), site_name) != 0)
            site++;
        bool ffn = site == GM_SITE_FFN_OUT, norm2 = site == GM_SITE_NORM2;
        double inf_norm, kurtosis, kurtosis_eps0;
        kept_norm_and_kurtosis(&kept[layer < 0 ? LAYERS : layer][site], opt && (ffn || norm2) ? 1 : T, &inf_norm, &kurtosis,
                               &kurtosis_eps0);
        near(number(tensor, "inf_norm"), inf_norm, 1e-5, name);
        near(number(tensor, "kurtosis"), kurtosis, 1e-5, name);
        near(number(tensor, "kurtosis_eps0"), kurtosis_eps0, 1e-5, name);
        bool averaged = !bert || ffn || site == GM_SITE_NORM_FINAL || (site == GM_SITE_NORM1 && layer == 1);
        assert_int_equal(json_is_true(json_object_get(tensor, "averaged")), averaged);
        sum += averaged ? kurtosis : 0;
        max_kurtosis = fmax(max_kurtosis, averaged ? kurtosis : 0);
        count += averaged;
        max_all = fmax(max_all, inf_norm);
        max_ffn = fmax(max_ffn, ffn ? inf_norm : 0);
        max_block = fmax(max_block, site == GM_SITE_BLOCK ? inf_norm : 0);
    }
    near(number(root, "avg_kurtosis"), sum / count, 1e-5, "avg_kurtosis");
    near(number(root, "max_kurtosis"), max_kurtosis, 1e-5, "max_kurtosis");
    near(number(root, "max_inf_norm"), max_block, 1e-5, "max_inf_norm");
    near(number(root, "max_ffn_inf_norm"), max_ffn, 1e-5, "max_ffn_inf_norm");
    near(number(root, "max_all_inf_norm"), max_all, 1e-5, "max_all_inf_norm");

    double sinks = 0, sink_mass = 0, null_mass = 0;
    for (int l = 0; l < LAYERS; l++) {
        for (int h = 0; h < HEADS; h++) {
            for (int b = 0; b < SEQUENCES; b++) {
                sinks += mass[l][h][b] > 0.3;
                sink_mass += mass[l][h][b];
                null_mass += null_of[l][h][b];
            }
        }
    }
    double heads = LAYERS * HEADS * SEQUENCES;
    near(number(root, "sink_rate"), 100 * sinks / heads, 1e-6, "sink_rate");
    near(number(root, "sink_mass"), sink_mass / heads, 1e-6, "sink_mass");
    near(number(root, "null_mass"), null_mass / heads, 1e-6, "null_mass");
    near(number(root, "unspent"), null_mass / heads, 1e-5, "unspent"); /* softmax1: what is not spent is the null's */
    assert_true(number(root, "null_mass") > 0.01);
    json_decref(root);
    gm_model_free(m);
}

static void test_ours(void **state) {
    (void)state;
    check_against_oracle(NULL);
}

static void test_opt_code(void **state) {
    (void)state;
    check_against_oracle("opt-code");
}

static void test_bert_code(void **state) {
    (void)state;
    check_against_oracle("bert-code");
}

/* opt-code looks at kurtosis in the first 101 batches only; norms see all. */
static void test_opt_code_stops_kurtosis(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    json_t *some = measure(m, &(gm_measure_options){.sequences = 101, .batch = 1, .convention = "opt-code"});
    json_t *more = measure(m, &(gm_measure_options){.sequences = 110, .batch = 1, .convention = "opt-code"});
    json_t *wide = measure(m, &(gm_measure_options){.sequences = 110, .batch = 8, .convention = "opt-code"});
    assert_true(number(some, "avg_kurtosis") == number(more, "avg_kurtosis"));
    assert_true(number(some, "avg_kurtosis") != number(wide, "avg_kurtosis"));
    assert_true(number(some, "max_inf_norm") != number(more, "max_inf_norm"));
    near(number(more, "max_inf_norm"), number(wide, "max_inf_norm"), 1e-6, "max_inf_norm");
    json_decref(some);
    json_decref(more);
    json_decref(wide);
    gm_model_free(m);
}

/* A shorter context than the data's: the sequences' beginnings. */
static void test_shorter_context(void **state) {
    (void)state;
    enum { SHORT = 10, B = 3 };
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    int32_t x[B * T], y[B * T], cut_x[B * SHORT], cut_y[B * SHORT];
    gm_data_validation(data, 0, B, x, y);
    for (int i = 0; i < B * SHORT; i++) {
        cut_x[i] = x[i / SHORT * T + i % SHORT];
        cut_y[i] = y[i / SHORT * T + i % SHORT];
    }
    double loss;
    assert_int_equal(gm_model_loss(m, cut_x, cut_y, B, SHORT, &loss, NULL, NULL), GM_OK);
    json_t *root = measure(m, &(gm_measure_options){.sequences = B, .context = SHORT});
    near(number(root, "loss"), loss, 1e-6, "loss");
    assert_int_equal(number(root, "context"), SHORT);
    json_decref(root);
    gm_model_free(m);
}

/* ---- the contract */

static void test_contract_fields(void **state) {
    (void)state;
    static const char *const models[][3] = {{"gpt2-nano", "softmax", "layers=2,heads=2,width=32"},
                                            {"words-mini", "clipped:gamma=-0.03,zeta=1.03", "layers=1,heads=2,width=32"},
                                            {"llama-260k", "sink+gated", "layers=2,heads=4,kv-heads=2,width=32,ffn=48"}};
    static const char *const numbers[] = {"loss",
                                          "max_inf_norm",
                                          "max_ffn_inf_norm",
                                          "max_all_inf_norm",
                                          "avg_kurtosis",
                                          "max_kurtosis",
                                          "sink_rate",
                                          "sink_mass",
                                          "null_mass",
                                          "unspent",
                                          "weight_kurtosis",
                                          "weight_kurtosis_max",
                                          "weight_inf_norm",
                                          "weight_inf_norm_max",
                                          "massive_count",
                                          "max_inf_norm_without_first",
                                          "avg_kurtosis_without_first",
                                          "max_kurtosis_without_first",
                                          "sink_rate_without_first"};
    static const char *const arrays[] = {"tensors", "weights", "layers", "heads", "massive", "outlier_features"};
    for (int i = 0; i < 3; i++) {
        gm_model *m = model_of(models[i][0], models[i][1], models[i][2]);
        json_t *root = measure(m, &(gm_measure_options){.sequences = 3});
        assert_string_equal(json_string_value(json_object_get(root, "schema")), "ghostmax.measure/1");
        assert_true(json_is_true(json_object_get(root, "bos")));
        for (int j = 0; j < GM_COUNT(numbers); j++)
            number(root, numbers[j]);
        for (int j = 0; j < GM_COUNT(arrays); j++)
            assert_true(json_is_array(json_object_get(root, arrays[j])));
        const json_t *classes = json_object_get(root, "token_classes");
        static const char *const class_names[] = {"bos", "whitespace", "punctuation", "words", "digits"};
        for (int j = 0; j < 5; j++)
            assert_non_null(json_object_get(classes, class_names[j]));
        assert_int_equal(json_array_size(json_object_get(root, "heads")), m->cfg.layers * m->cfg.heads);
        if (i == 0)
            near(number(root, "null_mass"), 0.0, 1e-6, "softmax has no null mass");
        json_decref(root);
        gm_model_free(m);
    }
}

static void test_weights(void **state) {
    (void)state;
    gm_model *m = model_of("words-mini", "softmax", "layers=1,heads=2,width=32");
    float *wo = gm_model_weight(m, GM_P_WO, 0);
    for (int i = 0; i < 32 * 32; i++)
        wo[i] = i % 2 ? 0.5f : -0.5f;
    wo[7] = -9.0f;
    gm_moments moments = gm_moments_of(ctx, wo, 32 * 32);
    json_t *root = measure(m, &(gm_measure_options){.sequences = 1});
    const json_t *weights = json_object_get(root, "weights");
    /* wte, wpe, q, k, v, wo, w1, w2, head; no norm gains */
    assert_int_equal(json_array_size(weights), 9);
    double sum = 0;
    bool seen = false;
    for (size_t i = 0; i < json_array_size(weights); i++) {
        const json_t *weight = json_array_get(weights, i);
        sum += number(weight, "kurtosis");
        if (strcmp(json_string_value(json_object_get(weight, "name")), "blocks.0.wo") == 0) {
            seen = true;
            near(number(weight, "kurtosis"), gm_kurtosis(&moments, 0.0), 1e-8, "wo");
            near(number(weight, "inf_norm"), 9.0, 1e-8, "wo");
        }
    }
    assert_true(seen);
    near(number(root, "weight_kurtosis"), sum / 9, 1e-7, "weight_kurtosis");
    near(number(root, "weight_inf_norm_max"), 9.0, 1e-8, "weight_inf_norm_max");
    near(number(root, "weight_kurtosis_max"), gm_kurtosis(&moments, 0.0), 1e-8, "weight_kurtosis_max");
    json_decref(root);
    gm_model_free(m);
}

/* A planted massive activation comes back with its place, once per occurrence of its token. */
static void test_massive_is_found(void **state) {
    (void)state;
    gm_model *m = model_of("words-mini", "softmax", "layers=1,heads=2,width=32");
    int32_t x[2 * T], y[2 * T];
    gm_data_validation(data, 0, 2, x, y);
    const int32_t planted[2] = {x[0], x[T + 5]};                      /* BOS, and whatever comes sixth in the second sequence */
    memset(m->weights, 0, (size_t)m->param_elements * sizeof(float)); /* the residual stream is the embedding */
    float *wte = gm_model_weight(m, GM_P_WTE, -1);
    for (int64_t i = 0; i < m->cfg.vocab * 32; i++)
        wte[i] = i % 2 ? 0.1f : -0.1f;
    wte[planted[0] * 32 + 9] = -700.0f;
    wte[planted[1] * 32 + 4] = 600.0f;
    int count[2] = {0};
    for (int i = 0; i < 2 * T; i++) {
        for (int j = 0; j < 2; j++)
            count[j] += x[i] == planted[j];
    }
    json_t *root = measure(m, &(gm_measure_options){.sequences = 2});
    const json_t *massive = json_object_get(root, "massive");
    assert_int_equal(number(root, "massive_count"), count[0] + count[1]);
    assert_int_equal(number(root, "massive_count_without_first"), count[1]);
    assert_int_equal(json_array_size(massive), count[0] + count[1]);
    for (size_t i = 0; i < json_array_size(massive); i++) {
        const json_t *one = json_array_get(massive, i);
        bool is_bos = i < 2;
        int at = (int)number(one, "sequence") * T + (int)number(one, "position");
        near(number(one, "value"), is_bos ? -700.0 : 600.0, 1e-7, "value");
        assert_int_equal(number(one, "dim"), is_bos ? 9 : 4);
        assert_int_equal(number(one, "layer"), 0);
        assert_int_equal(number(one, "token"), planted[!is_bos]);
        assert_int_equal(x[at], planted[!is_bos]);
    }
    near(number(root, "max_inf_norm"), 700.0, 1e-7, "max_inf_norm");
    json_decref(root);
    gm_model_free(m);
}

/* Measuring changes nothing, and the same inputs give the same bytes. */
static void test_repeatable_and_read_only(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax1", "layers=2,heads=2,width=32");
    size_t bytes = (size_t)m->param_elements * sizeof(float);
    float *before = malloc(bytes);
    memcpy(before, m->weights, bytes);
    int32_t x[2 * T], y[2 * T];
    double loss, again;
    gm_data_validation(data, 0, 2, x, y);
    assert_int_equal(gm_model_loss(m, x, y, 2, T, &loss, NULL, NULL), GM_OK);
    char *first = measure_text(m, &(gm_measure_options){.sequences = 4}), *second = measure_text(m, &(gm_measure_options){.sequences = 4});
    assert_string_equal(first, second);
    assert_int_equal(gm_model_loss(m, x, y, 2, T, &again, NULL, NULL), GM_OK);
    assert_true(loss == again);
    assert_memory_equal(before, m->weights, bytes);
    free(first);
    free(second);
    free(before);
    gm_model_free(m);
}

/* With the plain product every bit is the same, whatever the batch and the number of threads. */
static void test_same_bits(void **state) {
    (void)state;
    gm_ctx *shared = ctx;
    char *want = NULL;
    for (int threads = 1; threads <= 3; threads += 2) {
        assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = threads, .isa = "ref"}, NULL), GM_OK);
        gm_model *m = model_of("llama-260k", "softmax1", "layers=2,heads=4,kv-heads=2,width=32,ffn=48");
        for (int batch = 1; batch <= 4; batch += 1) {
            char *text = measure_text(m, &(gm_measure_options){.sequences = 7, .batch = batch, .details = true});
            if (want)
                assert_string_equal(text, want);
            else
                want = strdup(text);
            free(text);
        }
        gm_model_free(m);
        gm_ctx_free(ctx);
    }
    free(want);
    ctx = shared;
}

/* Memory does not grow with the number of sequences: as many allocations for 2 batches as for 20. */
static void test_constant_memory(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    free(measure_text(m, &(gm_measure_options){.sequences = 2, .batch = 2, .details = true}));
    int64_t before = gm_alloc_count();
    free(measure_text(m, &(gm_measure_options){.sequences = 4, .batch = 2, .details = true}));
    int64_t few = gm_alloc_count() - before;
    free(measure_text(m, &(gm_measure_options){.sequences = 40, .batch = 2, .details = true}));
    assert_int_equal(gm_alloc_count() - before - few, few);
    gm_model_free(m);
}

static void test_one_token(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    json_t *root = measure(m, &(gm_measure_options){.sequences = 3, .context = 1, .details = true});
    number(root, "max_inf_norm");
    assert_true(number(root, "sink_rate") == 100.0); /* the only key there is */
    assert_true(json_is_null(json_object_get(root, "value_drain")));
    assert_true(json_is_null(json_object_get(root, "max_inf_norm_without_first")));
    assert_int_equal(json_array_size(json_object_get(root, "left_out")), 1);
    assert_int_equal(json_array_size(json_object_get(root, "largest_without_first")), 0);
    json_decref(root);
    gm_model_free(m);
}

static bool stop_after_two(void *user, int64_t done, int64_t total) {
    (void)user;
    assert_int_equal(total, 6);
    return done >= 2;
}

static void test_stopped(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    gm_error err;
    char *text = (char *)"";
    gm_measure_options o = {.sequences = 6, .batch = 1, .callback = stop_after_two};
    assert_int_equal(gm_measure_model(m, data, &o, &text, &err), GM_ESTOPPED);
    assert_null(text);
    assert_non_null(strstr(err.msg, "2 of 6"));
    gm_model_free(m);
}

/* bb's two jobs apart, by its rule: after a space, an e or a t the target is a copy. Weights of queries 1 .. that are no trigger. */
typedef struct dormant {
    const bool *trigger; /* [SEQUENCES, T] */
    double mass;
    int64_t count;
} dormant;

static void watch_dormant(void *user, const gm_tap_view *v) {
    dormant *d = user;
    for (int64_t t = 1; v->site == GM_SITE_WEIGHTS && t < T; t++) {
        if (!d->trigger[v->b * T + t]) {
            d->mass += v->x[t * v->stride];
            d->count++;
        }
    }
}

static void test_backcopy(void **state) {
    (void)state;
    enum { N = SEQUENCES * T };
    gm_model *m = model_of("gpt2-nano", "sink", "layers=2,heads=2,width=32");
    int32_t x[N], y[N];
    float losses[N];
    double optimal[N], mean, copy = 0, excess = 0;
    bool trigger[N];
    int copies = 0;
    gm_data_validation(data, 0, SEQUENCES, x, y);
    assert_true(gm_data_optimal_losses(data, x, y, SEQUENCES, optimal));
    for (int i = 0; i < N; i++) {
        size_t size;
        const char *piece = gm_tokenizer_piece(gm_data_tokenizer(data), -1, x[i], &size);
        trigger[i] = size == 1 && strchr(" et", *piece);
    }
    dormant watch = {.trigger = trigger};
    gm_tap tap = {.fn = watch_dormant, .user = &watch, .attention = true};
    assert_int_equal(gm_model_forward_loss(m, x, y, SEQUENCES, T, &tap, &mean, losses, NULL), GM_OK);
    for (int i = 0; i < N; i++) {
        copies += trigger[i];
        copy += trigger[i] ? losses[i] : 0;
        excess += trigger[i] ? 0 : losses[i] - optimal[i];
    }
    assert_true(copies > 10 && copies < N - 10);
    json_t *root = measure(m, &(gm_measure_options){.sequences = SEQUENCES, .batch = 4});
    near(number(root, "backcopy_loss"), copy / copies, 1e-6, "backcopy_loss");
    near(number(root, "bigram_excess"), excess / (N - copies), 1e-6, "bigram_excess");
    near(number(root, "dormant_sink_mass"), watch.mass / (double)watch.count, 1e-6, "dormant_sink_mass");
    json_decref(root);
    gm_model_free(m);
}

/* What is no number is counted, placed and null; what it does not touch keeps its value. */
static void test_no_numbers(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        gm_model *m = model_of("gpt2-nano", "softmax", "layers=2,heads=2,width=32");
        gm_model_weight(m, GM_P_B2, 1)[3] = bad[i]; /* the second block's FFN output, dimension 3, everywhere */
        json_t *root = measure(m, &(gm_measure_options){.sequences = 2, .details = true});
        assert_true(json_is_null(json_object_get(root, "loss")));
        assert_true(json_is_null(json_object_get(root, "max_inf_norm")));
        assert_true(json_is_null(json_object_get(root, "avg_kurtosis")));
        const json_t *sum = json_object_get(root, "nonfinite"), *tensor;
        size_t t;
        assert_string_equal(json_string_value(json_object_get(sum, "first")), "blocks.1.ffn_out");
        assert_true(number(sum, "tensors") == 3); /* and the block's output, and the final norm */
        json_array_foreach(json_object_get(root, "tensors"), t, tensor) {
            const char *name = json_string_value(json_object_get(tensor, "name"));
            if (strcmp(name, "blocks.1.ffn_out") == 0 || strcmp(name, "blocks.1.block") == 0) {
                const json_t *first = json_object_get(tensor, "first_nonfinite");
                assert_true(number(tensor, i ? "infinite" : "nan") == 2 * T && number(tensor, i ? "nan" : "infinite") == 0);
                assert_true(number(first, "sequence") == 0 && number(first, "position") == 0 && number(first, "dim") == 3);
                assert_true(json_is_null(json_object_get(tensor, "inf_norm")) && json_is_null(json_object_get(tensor, "kurtosis")));
            } else if (strcmp(name, "norm_final") != 0) {
                assert_true(number(tensor, "nan") + number(tensor, "infinite") == 0);
                number(tensor, "inf_norm");
                number(tensor, "kurtosis");
            }
        }
        json_decref(root);
        gm_model_free(m);
    }
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    gm_model_weight(m, GM_P_W2, 0)[3] = NAN;
    json_t *root = measure(m, &(gm_measure_options){.sequences = 2});
    assert_true(json_is_null(json_object_get(root, "weight_kurtosis")));
    assert_true(json_is_null(json_object_get(root, "weight_inf_norm_max")));
    json_decref(root);
    gm_model_free(m);
}

/* A tensor that never changes: its variance is 0, so the published kurtosis is 0 and the one without eps has no value. */
static void test_constant_tensors(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    memset(gm_model_weight(m, GM_P_W2, 0), 0, 32 * (size_t)m->cfg.ffn * sizeof(float));
    for (int c = 0; c < 32; c++)
        gm_model_weight(m, GM_P_B2, 0)[c] = 0.75f;
    json_t *root = measure(m, &(gm_measure_options){.sequences = 2, .details = true});
    const json_t *tensor;
    size_t t;
    json_array_foreach(json_object_get(root, "tensors"), t, tensor) {
        if (strcmp(json_string_value(json_object_get(tensor, "site")), "ffn_out") == 0) {
            assert_true(number(tensor, "inf_norm") == 0.75 && number(tensor, "kurtosis") == 0);
            assert_true(json_is_null(json_object_get(tensor, "kurtosis_eps0")));
            assert_true(number(json_object_get(tensor, "quantiles"), "0.5") == 0.75);
            assert_true(number(tensor, "outliers") == 0);
        }
    }
    number(root, "avg_kurtosis");
    json_decref(root);
    gm_model_free(m);
}

static void test_refusals(void **state) {
    (void)state;
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=1,heads=2,width=32");
    gm_error err;
    char *text = (char *)"";
    assert_int_equal(gm_measure_model(m, data, &(gm_measure_options){.convention = "opt-cod"}, &text, &err), GM_EINVAL);
    assert_null(text);
    assert_non_null(strstr(err.msg, "did you mean opt-code"));
    assert_int_equal(gm_measure_model(m, data, &(gm_measure_options){.sequences = -1}, &text, &err), GM_EINVAL);
    gm_model_free(m);
}

static int setup(void **state) {
    (void)state;
    return open_context_and_bb(T);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours),
        cmocka_unit_test(test_opt_code),
        cmocka_unit_test(test_bert_code),
        cmocka_unit_test(test_opt_code_stops_kurtosis),
        cmocka_unit_test(test_shorter_context),
        cmocka_unit_test(test_contract_fields),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_massive_is_found),
        cmocka_unit_test(test_repeatable_and_read_only),
        cmocka_unit_test(test_backcopy),
        cmocka_unit_test(test_no_numbers),
        cmocka_unit_test(test_constant_tensors),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_constant_memory),
        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, close_all);
}
