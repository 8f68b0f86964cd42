/* test_golden_models.c -- checkpoints in Hugging Face's layout give the logits that an independent PyTorch implementation gives
 * (tools/make_golden_models.py), in double precision: families, layouts, file types, grouped heads, rotary pairs, sinks and gates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model.h"
#include "safetensors.h"

#include <math.h>
#include <stdlib.h>

/* Logits reach 8 after some 500 f32 operations in sequence: 2e-5 is 20 of their units in the last place. */
static const double tolerance = 2e-5;

static void check_model(const char *name) {
    gm_ctx *ctx;
    gm_model *m;
    gm_safetensors expected;
    gm_error err = {0};
    char folder[512], path[600];
    snprintf(folder, sizeof folder, "%s/tests/golden/%s", GM_TEST_SOURCE_DIR, name);
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_int_equal(gm_ctx_create(&ctx, NULL, &err), GM_OK);
    if (gm_model_load(&m, ctx, folder, &err) != GM_OK || gm_safetensors_open(&expected, path, &err) != GM_OK)
        fail_msg("%s", err.msg);
    const gm_tensor *tokens_file = gm_safetensors_find(&expected, "tokens"), *logits_file = gm_safetensors_find(&expected, "logits");
    int64_t B = logits_file->shape[0], T = logits_file->shape[1], V = logits_file->shape[2];
    assert_int_equal(V, m->cfg.vocab);
    float *numbers = malloc((size_t)(B * T) * sizeof(float)), *want = malloc((size_t)(B * T * V) * sizeof(float)),
          *got = malloc((size_t)(B * T * V) * sizeof(float));
    int32_t *tokens = malloc((size_t)(B * T) * sizeof *tokens);
    assert_int_equal(gm_tensor_read(&expected, tokens_file, numbers, T, 1, &err), GM_OK);
    assert_int_equal(gm_tensor_read(&expected, logits_file, want, V, 1, &err), GM_OK);
    for (int64_t i = 0; i < B * T; i++)
        tokens[i] = (int32_t)numbers[i];
    if (gm_model_logits(m, tokens, B, T, false, got, &err) != GM_OK)
        fail_msg("%s", err.msg);
    double worst = 0;
    for (int64_t i = 0; i < B * T * V; i++) {
        double difference = fabs((double)got[i] - want[i]);
        if (!(difference <= tolerance))
            fail_msg("%s: logit %lld is %.8g, PyTorch's is %.8g", name, (long long)i, got[i], want[i]);
        worst = fmax(worst, difference);
    }
    print_message("%s: largest difference %.2g\n", name, worst);
    free(numbers);
    free(want);
    free(got);
    free(tokens);
    gm_safetensors_close(&expected);
    gm_model_free(m);
    gm_ctx_free(ctx);
}

static void test_gpt2(void **state) {
    (void)state;
    check_model("models/gpt2");
}

static void test_opt_f16(void **state) {
    (void)state;
    check_model("models/opt");
}

static void test_llama_bf16(void **state) {
    (void)state;
    check_model("models/llama");
}

static void test_sinks_and_gates(void **state) {
    (void)state;
    check_model("models/ghostmax_gpt2");
}

/* As Hugging Face's own library writes and computes them (tools/make_golden_hf.py). */
static void test_transformers(void **state) {
    check_model(*state);
}

#define HF(name) \
    { name, test_transformers, NULL, NULL, "hf/" name }

int main(void) {
    const struct CMUnitTest tests[] = {
        HF("gpt2"),
        HF("gpt2_bf16_untied"),
        HF("opt_f16"),
        HF("llama2"),
        HF("llama_biases"),
        HF("llama_linear"),
        HF("llama3_sharded"),
        HF("mistral_window"),
        HF("mistral_plain"),
        HF("qwen2"),
        HF("qwen3"),
        HF("qwen3_sharded_f16"),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_opt_f16),
        cmocka_unit_test(test_llama_bf16),
        cmocka_unit_test(test_sinks_and_gates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
