/* test_evaluate.c -- windows over a whole text: every score is checked against logits of that window computed on its own, and which tokens
 * count against a list written down from the recipe. */
#include "../model/model_cases.h"

#include <unistd.h>

static char folder[] = "/tmp/gm_evaluate_XXXXXX", path[64];

/* -ln softmax(logits)[id] in double. */
static double surprise(const float *logits, int64_t V, int32_t id) {
    double sum = 0;
    for (int64_t i = 0; i < V; i++)
        sum += exp((double)logits[i]);
    return log(sum) - (double)logits[id];
}

static gm_model *bytes_model(gm_ctx **ctx) {
    gm_model_config cfg;
    *ctx = context_of("ref", 1);
    CHECK_OK(gm_model_config_preset(&cfg, "gpt2-nano", err));
    CHECK_OK(gm_model_config_override(&cfg, "vocab=257,context=8,layers=1,width=8,heads=2", err));
    CHECK_OK(gm_variant_parse(&cfg.attention, "softmax1", err));
    return model_of(*ctx, &cfg, 7);
}

static gm_data *open_text(const char *text, bool bos) {
    gm_data *d;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(text, 1, strlen(text), f);
    fclose(f);
    CHECK_OK(gm_data_open(&d, &(gm_data_options){.source = path, .tokens = "bytes", .context = 8, .no_bos = !bos, .whole = true}, err));
    return d;
}

/* Scores tokens first..end-1 (positions in the stream) with the window that begins at `begin`. */
typedef struct expected_window {
    int64_t begin, end, first, fresh; /* fresh: tokens that no window before held, scored or not */
} expected_window;

static void check_windows(const char *text, bool bos, int64_t context, int64_t stride, int64_t limit, const expected_window *windows,
                          int count) {
    gm_ctx *ctx;
    gm_model *m = bytes_model(&ctx);
    gm_data *d = open_text(text, bos);
    const int64_t V = 257, N = (int64_t)strlen(text) + bos;
    int32_t stream[64];
    float logits[8 * 257];
    double sum = 0, recipe = 0, weight = 0;
    int64_t scored = 0;
    for (int64_t i = 0; i < N; i++)
        stream[i] = bos && i == 0 ? 256 : (uint8_t)text[i - bos];
    for (int w = 0; w < count; w++) {
        double window = 0;
        CHECK_OK(gm_model_logits(m, stream + windows[w].begin, 1, windows[w].end - windows[w].begin, false, logits, err));
        for (int64_t t = windows[w].first; t < windows[w].end; t++)
            window += surprise(logits + (t - 1 - windows[w].begin) * V, V, stream[t]);
        int64_t n = windows[w].end - windows[w].first;
        sum += window;
        scored += n;
        recipe += window / (double)n * (double)(windows[w].fresh - 1);
        weight += (double)(windows[w].fresh - 1);
    }
    gm_eval_result r;
    CHECK_OK(gm_model_eval(m, d, &(gm_eval_options){.stride = stride, .context = context, .sequences = limit}, NULL, NULL, &r, err));
    assert_int_equal(r.tokens, scored);
    assert_int_equal(r.sequences, count);
    if (!(fabs(r.loss - sum / (double)scored) <= 1e-5) || !(fabs(r.recipe_loss - recipe / weight) <= 1e-5))
        fail_msg("stride %d: loss %.8g for %.8g, recipe %.8g for %.8g", (int)stride, r.loss, sum / (double)scored, r.recipe_loss,
                 recipe / weight);
    assert_true(fabs(r.bits_per_byte - r.loss / log(2)) <= 1e-12); /* bytes are the tokens */
    gm_data_free(d);
    gm_model_free(m);
    gm_ctx_free(ctx);
}

static void windows_of_the_recipe(void **state) {
    (void)state;
    const char *text = "The quick brown fox"; /* 19 bytes */
    /* Windows move by less than their length: every token but the first of all is scored once. */
    check_windows(text, false, 8, 5, 0, (const expected_window[]){{0, 8, 1, 8}, {5, 13, 8, 5}, {10, 18, 13, 5}, {15, 19, 18, 1}}, 4);
    /* The first two of these. */
    check_windows(text, false, 8, 5, 2, (const expected_window[]){{0, 8, 1, 8}, {5, 13, 8, 5}}, 2);
    /* By their length: each window's first token has no context. */
    check_windows(text, false, 8, 8, 0, (const expected_window[]){{0, 8, 1, 8}, {8, 16, 9, 8}, {16, 19, 17, 3}}, 3);
    /* BOS stands once, and gives the first token a context: a stream of 20. */
    check_windows(text, true, 8, 4, 0, (const expected_window[]){{0, 8, 1, 8}, {4, 12, 8, 4}, {8, 16, 12, 4}, {12, 20, 16, 4}}, 4);
    /* A text that fits one window. */
    check_windows("short", true, 8, 3, 0, (const expected_window[]){{0, 6, 1, 6}}, 1);
}

static bool stop_at_two(void *user, int64_t done, int64_t total) {
    *(int64_t *)user = total;
    return done == 2;
}

static void refusals_and_stopping(void **state) {
    (void)state;
    gm_ctx *ctx;
    gm_model *m = bytes_model(&ctx);
    gm_data *d = open_text("The quick brown fox", false), *one = open_text("x", false), *stories;
    gm_eval_result r;
    gm_error error = {0};
    int64_t total = 0;
    assert_int_equal(gm_model_eval(m, d, &(gm_eval_options){.stride = 9, .context = 8}, NULL, NULL, &r, &error), GM_EINVAL);
    assert_non_null(strstr(error.msg, "stride of 9"));
    assert_int_equal(gm_model_eval(m, d, &(gm_eval_options){.stride = 1, .context = 1}, NULL, NULL, &r, &error), GM_EINVAL);
    assert_int_equal(gm_model_eval(m, d, &(gm_eval_options){.stride = 8, .context = 10}, NULL, NULL, &r, &error), GM_EINVAL);
    assert_int_equal(gm_model_eval(m, one, &(gm_eval_options){.stride = 8, .context = 8}, NULL, NULL, &r, &error), GM_EINVAL);
    assert_non_null(strstr(error.msg, "1 token,"));
    assert_int_equal(gm_model_eval(m, d, &(gm_eval_options){.stride = 5, .context = 8}, stop_at_two, &total, &r, &error), GM_ESTOPPED);
    assert_int_equal(total, 4);
    CHECK_OK(gm_data_open(&stories, &(gm_data_options){.source = "stories", .context = 8}, err));
    assert_int_equal(gm_model_eval(m, stories, &(gm_eval_options){.stride = 8, .context = 8}, NULL, NULL, &r, &error), GM_EINVAL);
    gm_data_free(stories);
    gm_data_free(one);
    gm_data_free(d);
    gm_model_free(m);
    gm_ctx_free(ctx);
}

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/text", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    return unlink(path) | rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows_of_the_recipe), cmocka_unit_test(refusals_and_stopping)};
    return cmocka_run_group_tests_name("evaluate", tests, make_folder, remove_folder);
}
