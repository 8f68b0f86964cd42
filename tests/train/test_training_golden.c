/* test_training_golden.c -- sixteen steps of three small models beside PyTorch's (tools/make_golden_training.py, in double): losses and
 * gradient norms of every step, whole batches and accumulated ones, on every instruction set.
 *
 * Tolerance. One step's loss and gradient are good to some 1e-7 of their size (tests/model/test_gradients.c allows 7e-7). AdamW divides
 * each gradient by its own size, so relative errors reach the weights as lr = 0.004 times themselves: sixteen steps on weights of size 0.1
 * add 16 x 0.004 x 7e-7 / 0.1 = 5e-7 of a weight. The loss has slope of about its own size in the weights, its gradient is some times
 * steeper: 2e-6 of the loss and 5e-6 of the norm. A decay, a moment or a clip that is off by a percent is off by 1e-4. */
#include "replay.h"
#include "safetensors.h"

#include <jansson.h>

static const double loss_tolerance = 2e-6, norm_tolerance = 5e-6;

static double real(json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("the golden file lacks '%s'", key);
    return json_number_value(value);
}

static const char *text(json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(object, key));
    if (!value)
        fail_msg("the golden file lacks '%s'", key);
    return value;
}

static json_t *golden_load(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/training/%s.json", GM_TEST_SOURCE_DIR, name);
    json_error_t where;
    json_t *golden = json_load_file(path, 0, &where);
    if (!golden)
        fail_msg("%s: %s", path, where.text);
    return golden;
}

static gm_train_options golden_options(json_t *golden) {
    json_t *o = json_object_get(golden, "optimizer");
    const char *schedule = text(golden, "schedule");
    return (gm_train_options){.steps = (int64_t)real(o, "steps"),
                              .batch = (int64_t)real(o, "batch"),
                              .context = (int64_t)real(o, "context"),
                              .warmup = (int64_t)real(o, "warmup"),
                              .lr = real(o, "lr"),
                              .lr_min = real(o, "lr_min"),
                              .beta1 = real(o, "beta1"),
                              .beta2 = real(o, "beta2"),
                              .eps = real(o, "eps"),
                              .weight_decay = real(o, "weight_decay"),
                              .clip = real(o, "clip"),
                              .schedule = strcmp(schedule, "cosine") == 0   ? GM_SCHEDULE_COSINE
                                          : strcmp(schedule, "linear") == 0 ? GM_SCHEDULE_LINEAR
                                                                            : GM_SCHEDULE_CONSTANT};
}

static gm_model *golden_model(const gm_ctx *ctx, json_t *golden, const char *name) {
    char path[512];
    gm_model_config cfg;
    gm_model *m;
    gm_safetensors file;
    CHECK_OK(gm_model_config_preset(&cfg, text(golden, "preset"), err));
    CHECK_OK(gm_model_config_override(&cfg, text(golden, "overrides"), err));
    CHECK_OK(gm_variant_parse(&cfg.attention, text(golden, "attention"), err));
    CHECK_OK(gm_model_create(&m, ctx, &cfg, 1, err));
    snprintf(path, sizeof path, "%s/tests/golden/training/%s.safetensors", GM_TEST_SOURCE_DIR, name);
    CHECK_OK(gm_safetensors_open(&file, path, err));
    assert_int_equal(file.count, m->param_count);
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        const gm_tensor *t = gm_safetensors_find(&file, p->name);
        if (!t || t->elements != p->rows * p->cols)
            fail_msg("%s has no %s of %lld values", path, p->name, (long long)(p->rows * p->cols));
        CHECK_OK(gm_tensor_read(&file, t, m->weights + p->offset, p->cols, 1, err));
    }
    gm_safetensors_close(&file);
    return m;
}

static void replay_golden(const char *name, json_t *golden, const char *isa, int64_t accumulate) {
    gm_ctx *ctx = context_of(isa, 2);
    if (!ctx)
        return;
    gm_train_options o = golden_options(golden);
    o.accumulate = accumulate;
    gm_model *m = golden_model(ctx, golden, name);
    json_t *steps = json_object_get(golden, "steps"), *tokens = json_object_get(golden, "tokens");
    int32_t *x = calloc((size_t)(o.batch * o.context), sizeof *x), *y = calloc((size_t)(o.batch * o.context), sizeof *y);
    replay r;
    replay_open(&r, m, &o);
    assert_int_equal(json_array_size(steps), o.steps);
    for (int64_t step = 1; step <= o.steps; step++) {
        json_t *batch = json_array_get(tokens, (size_t)step - 1), *want = json_array_get(steps, (size_t)step - 1);
        for (int64_t i = 0; i < o.batch * o.context; i++) {
            json_t *row = json_array_get(batch, (size_t)(i / o.context));
            x[i] = (int32_t)json_integer_value(json_array_get(row, (size_t)(i % o.context)));
            y[i] = (int32_t)json_integer_value(json_array_get(row, (size_t)(i % o.context + 1)));
        }
        double lr = replay_rate(&o, step);
        assert_true(fabs(lr - real(want, "lr")) <= 1e-12 * lr);
        replay_step(&r, &o, step, lr, x, y);
        double loss = real(want, "loss"), norm = real(want, "grad_norm");
        if (!(fabs(r.loss - loss) <= loss_tolerance * loss))
            fail_msg("%s, %s, step %lld: loss %.9g, PyTorch's %.9g", name, isa, (long long)step, r.loss, loss);
        if (!(fabs(r.grad_norm - norm) <= norm_tolerance * norm))
            fail_msg("%s, %s, step %lld: gradient norm %.9g, PyTorch's %.9g", name, isa, (long long)step, r.grad_norm, norm);
    }
    free(x);
    free(y);
    replay_close(&r);
    gm_model_free(m);
    gm_ctx_free(ctx);
}

static void as_pytorch(void **state) {
    const char *name = *state;
    json_t *golden = golden_load(name);
    for (int i = 0; i < GM_COUNT(every_isa); i++) {
        replay_golden(name, golden, every_isa[i], 1);
        replay_golden(name, golden, every_isa[i], 2);
    }
    json_decref(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"gpt2_sink", as_pytorch, NULL, NULL, "gpt2_sink"},
        {"opt_clipped", as_pytorch, NULL, NULL, "opt_clipped"},
        {"llama_softmax1_gated", as_pytorch, NULL, NULL, "llama_softmax1_gated"},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
