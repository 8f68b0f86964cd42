/* test_surgery.c -- a trained model continued under another variant: the first step of a ramp is the model itself, the last step is under
 * the variant alone, gates start open, and a stopped run continues bit for bit. */
#include "run_folder.h"
#include "surgery.h"

#include <sys/stat.h>

enum { T = 16, STEPS = 8, RAMP = 4 };

static char base[] = "/tmp/gm-surgery-XXXXXX";
static gm_ctx *ctx;
static gm_data *data;

static int setup(void **state) {
    (void)state;
    if (!mkdtemp(base))
        return -1;
    CHECK_OK(gm_data_open(&data, &(gm_data_options){.source = "stories", .tokens = "bytes", .context = T}, err));
    ctx = context_of("ref", 1);
    return ctx ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    gm_data_free(data);
    gm_ctx_free(ctx);
    remove_folder(base);
    return 0;
}

/* A model in which attention matters: its weights are large. */
static gm_model *source_model(const char *preset, const char *variant) {
    gm_model_config cfg;
    CHECK_OK(gm_model_config_preset(&cfg, preset, err));
    CHECK_OK(gm_model_config_override(&cfg, "layers=2,width=16,heads=2,kv-heads=2,ffn=24,context=16,dropout=0", err));
    CHECK_OK(gm_variant_parse(&cfg.attention, variant, err));
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    CHECK_OK(gm_model_config_check(&cfg, err));
    return model_of(ctx, &cfg, 5);
}

static gm_train_options options_of(const gm_model *from, int64_t ramp) {
    gm_train_options o;
    gm_train_defaults(&o);
    o.steps = STEPS;
    o.batch = 4;
    o.context = T;
    o.lr = 0.01;
    o.warmup = 0;
    o.eval_sequences = 4;
    o.from = from;
    o.ramp = ramp;
    return o;
}

typedef struct watch {
    int64_t stop_at; /* 0: never */
    double first_loss, last_loss;
} watch;

static bool on_step(void *user, const gm_train_progress *p) {
    watch *w = user;
    if (p->step == 1)
        w->first_loss = p->loss;
    w->last_loss = p->loss;
    return p->step == w->stop_at;
}

static char *path_of(const char *name) {
    static char path[96];
    snprintf(path, sizeof path, "%s/%s", base, name);
    return path;
}

static gm_status run(const char *name, const char *variant, const gm_train_options *o, watch *w, gm_error *wrong) {
    gm_train_result result;
    gm_model_config cfg = o->from->cfg;
    CHECK_OK(gm_variant_parse(&cfg.attention, variant, err));
    return gm_train_run(ctx, &cfg, data, o, path_of(name), on_step, w, &result, wrong);
}

/* Trains to the end; returns the trained model, which is the caller's. */
static gm_model *surgery(const char *variant, const gm_train_options *o, watch *w) {
    gm_error wrong = {0};
    gm_model *m;
    remove_folder(path_of("run"));
    *w = (watch){0};
    if (run("run", variant, o, w, &wrong) != GM_OK)
        fail_msg("%s: %s", variant, wrong.msg);
    CHECK_OK(gm_model_load(&m, ctx, path_of("run"), err));
    return m;
}

/* The loss of the first batch, by the model as it is. */
static double own_loss(gm_model *m, const gm_train_options *o) {
    int32_t x[4 * T], y[4 * T];
    double loss;
    gm_data_train(data, o->seed, 0, 4, x, y);
    CHECK_OK(gm_model_loss(m, x, y, 4, T, &loss, NULL, err));
    return loss;
}

static void a_ramp_begins_at_the_model(void **state) {
    (void)state;
    static const struct {
        const char *preset, *from, *to;
    } cases[] = {
        {"gpt2-nano", "softmax", "softmax1"},
        {"gpt2-nano", "softmax", "softmax_n:n=2.5"},
        {"gpt2-nano", "softmax", "sink"},
        {"gpt2-nano", "softmax", "clipped:gamma=-0.1,zeta=1.1"},
        {"gpt2-nano", "softmax", "sink+clipped:gamma=-0.1,zeta=1.1"},
        {"gpt2-nano", "softmax_n:n=0", "sink"},
        {"gpt2-nano", "softmax1", "softmax"},
        {"gpt2-nano", "softmax1+gated", "softmax_n:n=3+gated"},
        {"gpt2-nano", "clipped:gamma=-0.1", "softmax1"},
        {"llama-260k", "softmax", "softmax1"},
        {"llama-260k", "softmax", "sink"},
        {"llama-260k", "sink", "sink+clipped:gamma=-0.1,zeta=1.1"},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model *from = source_model(cases[i].preset, cases[i].from);
        gm_train_options o = options_of(from, RAMP);
        watch same, ramped, jumped;
        gm_model_free(surgery(cases[i].from, &o, &same));
        gm_model *m = surgery(cases[i].to, &o, &ramped);
        double own = own_loss(from, &o);
        if (ramped.first_loss != same.first_loss || !(fabs(ramped.first_loss - own) <= 1e-6 * own))
            fail_msg("%s %s -> %s: the first loss is %.9g, the model's own %.9g", cases[i].preset, cases[i].from, cases[i].to,
                     ramped.first_loss, same.first_loss);
        assert_true(ramped.last_loss != same.last_loss);
        char spec[64], text[160];
        gm_variant_format(spec, sizeof spec, &m->cfg.attention);
        gm_variant_format(text, sizeof text, &from->cfg.attention);
        snprintf(text + strlen(text), sizeof text - strlen(text), " -> %s (ramp %d)", spec, RAMP);
        assert_string_equal(m->cfg.surgery, text);
        gm_model_free(m);
        /* without the ramp the step is seen at once */
        o.ramp = 0;
        gm_model_free(surgery(cases[i].to, &o, &jumped));
        if (!(fabs(jumped.first_loss - same.first_loss) > 1e-4))
            fail_msg("%s -> %s at once changes the loss by only %g", cases[i].from, cases[i].to, jumped.first_loss - same.first_loss);
        gm_model_free(from);
    }
}

/* The three numbers along a ramp from softmax to softmax_n with n = 2 and a clip; learned sinks rise from -inf. */
static void the_ramp(void **state) {
    (void)state;
    gm_model *from = source_model("gpt2-nano", "softmax"), *m;
    gm_train_options o = options_of(from, RAMP);
    gm_model_config cfg = from->cfg;
    CHECK_OK(gm_variant_parse(&cfg.attention, "softmax_n:n=2+clipped:gamma=-0.1,zeta=1.1", err));
    CHECK_OK(gm_model_create(&m, ctx, &cfg, 1, err));
    for (int64_t step = 1; step <= RAMP + 2; step++) {
        double r = fmin(1, (double)(step - 1) / RAMP);
        gm_surgery_step(m, &o, step);
        assert_true(r == 0 ? m->norm.sink == -INFINITY : fabs(exp((double)m->norm.sink) - 2 * r) < 1e-6);
        assert_true(fabs((double)m->norm.clip_a - (1 + r * 0.2)) < 1e-6 && fabs((double)m->norm.clip_c + r * 0.1) < 1e-7);
    }
    gm_norm end = gm_variant_norm(&cfg.attention, T);
    assert_memory_equal(&m->norm, &end, sizeof end);
    gm_model_free(m);
    CHECK_OK(gm_variant_parse(&cfg.attention, "sink", err));
    CHECK_OK(gm_model_create(&m, ctx, &cfg, 1, err));
    for (int64_t step = 1; step <= RAMP + 2; step++) {
        gm_surgery_step(m, &o, step);
        assert_true(m->sink_shift == (step > RAMP ? 0 : (float)log((double)(step - 1) / RAMP)));
    }
    gm_model_free(m);
    gm_model_free(from);
}

/* Learned sinks take over a constant one exactly, without a ramp, and learn. */
static void learned_sinks_take_over(void **state) {
    (void)state;
    gm_model *from = source_model("gpt2-nano", "softmax_n:n=3");
    gm_train_options o = options_of(from, 0);
    watch w;
    gm_model *m = surgery("sink", &o, &w);
    assert_true(fabs(w.first_loss - own_loss(from, &o)) <= 1e-6 * w.first_loss);
    gm_model_free(m);
    gm_model_free(from);
    from = source_model("gpt2-nano", "softmax");
    o = options_of(from, RAMP);
    m = surgery("sink", &o, &w);
    for (int l = 0; l < 2; l++)
        for (int h = 0; h < 2; h++)
            assert_true(fabsf(gm_model_weight(m, GM_P_SINKS, l)[h]) > 1e-3f);
    gm_model_free(m);
    gm_model_free(from);
}

/* A gate that was not there is open by 0.99 everywhere: the loss moves by less than a hundredth. */
static void gates_start_open(void **state) {
    (void)state;
    static const char *const gates[] = {"gated", "gated:kind=mlp", "gated:kind=all_heads", "gated:kind=channel", "softmax1+gated"};
    gm_model *from = source_model("gpt2-nano", "softmax");
    for (int i = 0; i < GM_COUNT(gates); i++) {
        gm_train_options o = options_of(from, RAMP);
        watch w;
        gm_model *m = surgery(gates[i], &o, &w);
        double own = own_loss(from, &o);
        if (!(fabs(w.first_loss - own) < 0.01 * own) || w.first_loss == own)
            fail_msg("%s: the first loss is %.9g, the model's own %.9g", gates[i], w.first_loss, own);
        assert_true(m->cfg.attention.gate_pi == 0.99);
        const float *last = gm_model_weight(m, m->cfg.attention.gate == GM_GATE_MLP ? GM_P_GATE_W2 : GM_P_GATE_W1, 0);
        assert_true(last[0] != 0); /* it learns */
        gm_model_free(m);
    }
    /* what is asked for is done */
    gm_train_options o = options_of(from, 0);
    watch w;
    gm_model *m = surgery("gated:pi=0.25", &o, &w);
    assert_true(m->cfg.attention.gate_pi == 0.25 && fabs(w.first_loss - own_loss(from, &o)) > 0.01);
    gm_model_free(m);
    gm_model_free(from);
}

static void stopped_surgery_continues_exactly(void **state) {
    (void)state;
    static const char *const variants[] = {"softmax1", "sink", "clipped:gamma=-0.1", "gated"};
    gm_model *from = source_model("llama-260k", "softmax");
    gm_train_options o = options_of(from, RAMP);
    for (int i = 0; i < GM_COUNT(variants); i++) {
        watch w = {0};
        gm_error wrong = {0};
        gm_model_free(surgery(variants[i], &o, &w));
        for (int64_t stop = 1; stop < STEPS; stop += 2) {
            remove_folder(path_of("stopped"));
            w = (watch){.stop_at = stop};
            assert_int_equal(run("stopped", variants[i], &o, &w, &wrong), GM_ESTOPPED);
            w = (watch){0};
            assert_int_equal(run("stopped", variants[i], &o, &w, &wrong), GM_OK);
            char whole[96];
            snprintf(whole, sizeof whole, "%s/run", base);
            assert_same_run(whole, path_of("stopped"));
        }
    }
    gm_model_free(from);
}

static void refused(const char *name, const char *variant, const gm_train_options *o, const char *reason) {
    gm_error wrong = {0};
    watch w = {0};
    gm_status status = run(name, variant, o, &w, &wrong);
    if (status != GM_EINVAL || !strstr(wrong.msg, reason))
        fail_msg("%s: status %d '%s', expected '%s'", variant, status, wrong.msg, reason);
}

static void refusals(void **state) {
    (void)state;
    gm_model *from = source_model("gpt2-nano", "softmax"), *sinks = source_model("gpt2-nano", "sink"),
             *gated = source_model("gpt2-nano", "gated"), *other = source_model("gpt2-nano", "softmax");
    gm_train_options o = options_of(from, STEPS);
    refused("none", "softmax1", &o, "must end before");
    o.ramp = -1;
    refused("none", "softmax1", &o, "must be 0");
    o = options_of(sinks, RAMP);
    refused("none", "softmax1", &o, "no ramp leads from learned sinks");
    o = options_of(gated, 0);
    refused("none", "gated:kind=mlp", &o, "remove the gate first");
    o = options_of(from, 0);
    gm_train_result result;
    gm_error wrong = {0};
    gm_model_config cfg = from->cfg;
    cfg.ffn = 32;
    assert_int_equal(gm_train_run(ctx, &cfg, data, &o, path_of("none"), NULL, NULL, &result, &wrong), GM_EINVAL);
    assert_non_null(strstr(wrong.msg, "keep its shape"));
    cfg = from->cfg;
    cfg.layers = 3;
    assert_int_equal(gm_train_run(ctx, &cfg, data, &o, path_of("none"), NULL, NULL, &result, &wrong), GM_EINVAL);
    assert_non_null(strstr(wrong.msg, "only the attention variant may change"));
    o.from = NULL;
    o.ramp = 3;
    assert_int_equal(gm_train_run(ctx, &from->cfg, data, &o, path_of("none"), NULL, NULL, &result, &wrong), GM_EINVAL);
    assert_non_null(strstr(wrong.msg, "no model to start from"));
    assert_false(gm_path_exists(path_of("none")));

    /* a folder belongs to its source, its ramp and its kind of run */
    o = options_of(from, RAMP);
    watch w = {.stop_at = 2};
    remove_folder(path_of("run"));
    assert_int_equal(run("run", "softmax1", &o, &w, &wrong), GM_ESTOPPED);
    other->weights[3] += 1;
    o.from = other;
    refused("run", "softmax1", &o, "its from is");
    o = options_of(from, RAMP - 1);
    refused("run", "softmax1", &o, "its ramp is");
    o = options_of(from, RAMP);
    refused("run", "sink", &o, "attention");
    o.from = NULL;
    o.ramp = 0;
    cfg = from->cfg;
    CHECK_OK(gm_variant_parse(&cfg.attention, "softmax1", err));
    assert_int_equal(gm_train_run(ctx, &cfg, data, &o, path_of("run"), NULL, NULL, &result, &wrong), GM_EINVAL);
    assert_non_null(strstr(wrong.msg, "its from is"));
    gm_model_free(from);
    gm_model_free(sinks);
    gm_model_free(gated);
    gm_model_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ramp_begins_at_the_model),        cmocka_unit_test(the_ramp),
        cmocka_unit_test(learned_sinks_take_over),           cmocka_unit_test(gates_start_open),
        cmocka_unit_test(stopped_surgery_continues_exactly), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
