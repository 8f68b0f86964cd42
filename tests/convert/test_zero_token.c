/* test_zero_token.c -- a softmax1 model as a plain softmax one with a zero token: the same logits, in f32 through the library and in double
 * through the oracle; what cannot be one is refused with the reason. */
#include "../model/model_cases.h"
#include "../model/oracle_model.h"
#include "zero_token.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static gm_ctx *ctx;

static int open_context(void **state) {
    (void)state;
    return gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 1}, NULL) != GM_OK;
}

static int close_context(void **state) {
    (void)state;
    gm_ctx_free(ctx);
    return 0;
}

/* ---- the same logits */

enum { T = 9 };

typedef struct zero_case {
    const char *variant, *overrides;
    int64_t n;
} zero_case;

#define SHAPE "vocab=23,context=12,layers=3,width=24,heads=4,ffn=20"

static const zero_case zero_cases[] = {
    {"softmax1", SHAPE, 1},
    {"softmax1", SHAPE ",kv-heads=2,tied=no", 1},
    {"softmax1", SHAPE ",kv-heads=1,head-dim=10", 1},
    {"softmax_n:n=2", SHAPE ",kv-heads=2", 2},
    {"softmax_n:n=3", SHAPE ",tied=no", 3},
    {"softmax_n:n=3", SHAPE ",kv-heads=4,norm-eps=0.01", 3},
    {"softmax1", SHAPE ",window=13", 1}, /* as long as the context with its zero token */
};

/* The model of a case, with weights in which attention is far from uniform. */
static gm_model *case_model(const zero_case *c) {
    model_shape shape = {"", "llama-260k", c->overrides, 1, T, 1};
    gm_model_config cfg = shape_config(&shape, c->variant);
    return model_of(ctx, &cfg, 7);
}

/* [zero x n, tokens] */
static void prompt_fill(int32_t *prompt, const int32_t *tokens, int64_t zero, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        prompt[i] = (int32_t)zero;
    memcpy(prompt + n, tokens, T * sizeof *tokens);
}

/* The largest difference of the V original logits at every one of the T tokens, relative to the largest logit; `given` zero tokens. */
static double difference_f32(gm_model *m, gm_model *zero, int64_t given) {
    int32_t tokens[T], targets[T], prompt[T + 8];
    int64_t V = m->cfg.vocab;
    tokens_fill(tokens, targets, T, V, 3);
    prompt_fill(prompt, tokens, V, given);
    float *a = gm_alloc((size_t)(T * V), sizeof *a), *b = gm_alloc((size_t)((T + given) * (V + 1)), sizeof *b);
    CHECK_OK(gm_model_logits(m, tokens, 1, T, false, a, err));
    CHECK_OK(gm_model_logits(zero, prompt, 1, T + given, false, b, err));
    double worst = 0, scale = 0;
    for (int64_t t = 0; t < T; t++) {
        const float *x = a + t * V, *y = b + (t + given) * (V + 1);
        assert_true(y[V] == 0); /* its own logit is 0 wherever it is */
        for (int64_t v = 0; v < V; v++) {
            worst = fmax(worst, fabs((double)x[v] - (double)y[v]));
            scale = fmax(scale, fabs((double)x[v]));
        }
    }
    for (int64_t v = 0; v <= V; v++)
        assert_true(given == 0 || b[v] == 0); /* a zero row comes out as zero */
    gm_free(a);
    gm_free(b);
    return worst / scale;
}

static double difference_double(gm_model *m, gm_model *zero, int64_t n) {
    int32_t tokens[T], targets[T], prompt[T + 8];
    int64_t V = m->cfg.vocab;
    tokens_fill(tokens, targets, T, V, 3);
    prompt_fill(prompt, tokens, V, n);
    gm_model *models[2] = {m, zero};
    const double *logits[2];
    double *weights[2], worst = 0, scale = 0;
    oracle o[2];
    for (int i = 0; i < 2; i++) {
        gm_model *x = models[i];
        weights[i] = gm_alloc((size_t)x->param_elements, sizeof(double));
        for (int64_t j = 0; j < x->param_elements; j++)
            weights[i][j] = x->weights[j];
        oracle_open(&o[i], &x->cfg, x->params, x->param_count, weights[i], 1, T + n);
        logits[i] = oracle_logits(&o[i], i ? prompt : tokens, 1, i ? T + n : T);
    }
    for (int64_t t = 0; t < T; t++) {
        for (int64_t v = 0; v < V; v++) {
            double x = logits[0][t * V + v], y = logits[1][(t + n) * (V + 1) + v];
            worst = fmax(worst, fabs(x - y));
            scale = fmax(scale, fabs(x));
        }
    }
    for (int i = 0; i < 2; i++) {
        oracle_close(&o[i]);
        gm_free(weights[i]);
    }
    return worst / scale;
}

static void the_same_logits(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(zero_cases); i++) {
        const zero_case *c = &zero_cases[i];
        gm_model *m = case_model(c), *zero;
        CHECK_OK(gm_zero_token_model(&zero, m, err));
        assert_int_equal(gm_config_zero_token(&m->cfg), -1);
        assert_int_equal(gm_config_zero_token(&zero->cfg), m->cfg.vocab);
        double f32 = difference_f32(m, zero, c->n), f64 = difference_double(m, zero, c->n);
        if (!(f32 <= 2e-6) || !(f64 <= 1e-14))
            fail_msg("%s %s: logits differ by %g in f32, %g in double", c->variant, c->overrides, f32, f64);
        /* the check can see: one token too few is another model */
        double less = difference_f32(m, zero, c->n - 1);
        if (!(less > 1e-3))
            fail_msg("%s %s: with one zero token less logits differ by only %g", c->variant, c->overrides, less);
        gm_model_free(zero);
        gm_model_free(m);
    }
}

/* A row that is not zero is a token like any other. */
static void only_zero_will_do(void **state) {
    (void)state;
    gm_model *m = case_model(&zero_cases[0]), *zero;
    CHECK_OK(gm_zero_token_model(&zero, m, err));
    gm_model_weight(zero, GM_P_WTE, -1)[m->cfg.vocab * m->cfg.width + 3] = 0.01f;
    int64_t V = m->cfg.vocab;
    int32_t prompt[2] = {(int32_t)V, 5};
    float *a = gm_alloc((size_t)V, sizeof *a), *b = gm_alloc((size_t)V + 1, sizeof *b);
    CHECK_OK(gm_model_logits(m, prompt + 1, 1, 1, true, a, err));
    CHECK_OK(gm_model_logits(zero, prompt, 1, 2, true, b, err));
    double worst = 0;
    for (int64_t v = 0; v < V; v++)
        worst = fmax(worst, fabs((double)a[v] - (double)b[v]));
    assert_true(worst > 1e-3);
    gm_free(a);
    gm_free(b);
    gm_model_free(zero);
    gm_model_free(m);
}

/* ---- what it is: a stock llama with one token more */

static void a_stock_llama(void **state) {
    (void)state;
    static const char folder[] = "test_zero_token.tmp";
    gm_model *m = case_model(&zero_cases[3]), *zero, *back;
    CHECK_OK(gm_zero_token_model(&zero, m, err));
    CHECK_OK(gm_model_save(zero, folder, err));
    CHECK_OK(gm_model_load(&back, ctx, folder, err));
    char spec[64];
    gm_variant_format(spec, sizeof spec, &back->cfg.attention);
    assert_string_equal(spec, "softmax");
    assert_int_equal(back->cfg.vocab, m->cfg.vocab + 1);
    assert_int_equal(back->cfg.context, m->cfg.context + 2);
    assert_non_null(strstr(back->cfg.surgery, "softmax_n:n=2 -> softmax after 2 x token 23"));
    assert_memory_equal(back->weights, zero->weights, (size_t)zero->param_elements * sizeof(float));
    assert_true(difference_f32(m, back, 2) <= 2e-6);
    gm_file config;
    CHECK_OK(gm_file_open(&config, "test_zero_token.tmp/config.json", err));
    gm_text text = {0};
    gm_text_bytes(&text, config.data, config.size);
    assert_non_null(strstr(text.data, "\"model_type\": \"llama\""));
    gm_text_free(&text);
    gm_file_close(&config);
    unlink("test_zero_token.tmp/config.json");
    unlink("test_zero_token.tmp/model.safetensors");
    rmdir(folder);
    gm_model_free(back);
    gm_model_free(zero);
    gm_model_free(m);
}

/* ---- conditions */

static void conditions(void **state) {
    (void)state;
    static const struct {
        const char *preset, *variant, *overrides, *reason; /* NULL: it will do */
        int64_t n;
    } cases[] = {
        {"llama-260k", "softmax", SHAPE, NULL, 0},
        {"llama-260k", "softmax_n:n=0", SHAPE, NULL, 0},
        {"llama-260k", "softmax1", SHAPE, NULL, 1},
        {"llama-260k", "softmax_n:n=5", SHAPE, NULL, 5},
        {"llama-260k", "softmax1", SHAPE ",window=13", NULL, 1},
        {"llama-260k", "softmax1", SHAPE ",window=12", "window is shorter", 0},
        {"llama-260k", "softmax_n:n=0.5", SHAPE, "not a whole number", 0},
        {"llama-260k", "softmax_n:n=1e6", SHAPE, "more than 4096", 0},
        {"llama-260k", "sink", SHAPE, "sinks are learned", 0},
        {"llama-260k", "softmax1+clipped", SHAPE, "clipped", 0},
        {"llama-260k", "clipped", SHAPE, "clipped", 0},
        {"llama-260k", "softmax1+gated", SHAPE, "gated", 0},
        {"llama-260k", "softmax1", SHAPE ",bias=yes", "biases", 0},
        {"llama-260k", "softmax1", SHAPE ",qkv-bias=yes", "biases", 0},
        {"llama-260k", "softmax1", SHAPE ",qk-norm=yes", NULL, 1},
        {"gpt2-nano", "softmax1", "vocab=23", "position embeddings", 0},
        {"gpt2-nano", "softmax1", "vocab=23", "layer norm", 0},
        {"gpt2-nano", "softmax1", "vocab=23", "biases", 0},
        {"opt-mini", "softmax1", "vocab=23,context=32", "position embeddings", 0},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        model_shape shape = {"", cases[i].preset, cases[i].overrides, 1, T, 1};
        gm_model_config cfg = shape_config(&shape, cases[i].variant);
        int64_t n;
        gm_error wrong = {0};
        gm_status status = gm_zero_token_count(&n, &cfg, &wrong);
        if (cases[i].reason ? status != GM_EUNSUPPORTED || !strstr(wrong.msg, cases[i].reason) : status != GM_OK || n != cases[i].n)
            fail_msg("%s %s %s: status %d, n %lld: %s", cases[i].preset, cases[i].variant, cases[i].overrides, status, (long long)n,
                     wrong.msg);
    }
    /* configurations that nothing makes today, but a file may one day */
    model_shape shape = {"", "llama-260k", SHAPE, 1, T, 1};
    gm_model_config cfg = shape_config(&shape, "softmax1");
    int64_t n;
    gm_error wrong = {0};
    cfg.norm_eps = 0;
    assert_int_equal(gm_zero_token_count(&n, &cfg, &wrong), GM_EUNSUPPORTED);
    assert_non_null(strstr(wrong.msg, "eps"));
    gm_model *m = case_model(&zero_cases[0]), *out;
    CHECK_OK(gm_variant_parse(&m->cfg.attention, "softmax", err));
    assert_int_equal(gm_zero_token_model(&out, m, &wrong), GM_EINVAL);
    assert_null(out);
    gm_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_logits),
        cmocka_unit_test(only_zero_will_do),
        cmocka_unit_test(a_stock_llama),
        cmocka_unit_test(conditions),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
