/* train_small.c -- a whole experiment in C: trains a small softmax1 model on the built-in Bigram-Backcopy task, measures its outliers, and
 * quantizes it, simulated and on real integers. The folder that it leaves is what `ghostmax eval` and all the others read; run it again
 * and it goes on where it was, or says the same at once.
 *
 *     train_small FOLDER
 *
 * Build after `make install`:  cc train_small.c $(pkg-config --cflags --libs ghostmax) -lm -o train_small */
#include <ghostmax_model.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool on_step(void *user, const gm_train_progress *p) {
    (void)user;
    if (p->step % 20 == 0)
        printf("step %3lld  loss %.3f\n", (long long)p->step, p->loss);
    return false; /* true would stop and save */
}

/* A number of a measurement; programs with a JSON library use that. */
static double number_of(const char *json, const char *key) {
    const char *at = strstr(json, key);
    return at ? strtod(at + strlen(key), NULL) : NAN;
}

static gm_status experiment(const gm_ctx *ctx, gm_data *data, const char *folder, gm_error *err) {
    gm_model_config cfg;
    gm_train_options train;
    gm_train_result result;
    gm_quant_options quant;
    gm_model *model;
    double f32, simulated, executed;
    char *json;
    gm_status status = gm_model_config_preset(&cfg, "gpt2-nano", err);
    if (status == GM_OK)
        status = gm_variant_parse(&cfg.attention, "softmax1", err);
    if (status != GM_OK)
        return status;
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    cfg.context = gm_data_context(data);

    gm_train_defaults(&train);
    train.steps = 60;
    train.batch = 8;
    train.context = cfg.context;
    train.lr = 3e-3;
    train.warmup = 6;
    status = gm_train_run(ctx, &cfg, data, &train, folder, on_step, NULL, &result, err);
    if (status == GM_OK)
        status = gm_model_load(&model, ctx, folder, err);
    if (status != GM_OK)
        return status;
    printf("validation loss %.3f after step %lld\n", result.val_loss, (long long)result.step);

    const gm_measure_options measure = {.sequences = 16};
    status = gm_measure_model(model, data, &measure, &json, err);
    if (status == GM_OK) {
        printf("largest activation of a block's output %.2f, null mass %.3f\n", number_of(json, "\"max_inf_norm\": "),
               number_of(json, "\"null_mass\": "));
        free(json);
        gm_quant_defaults(&quant); /* W8A8 as published */
        quant.calibration_batches = 4;
        status = gm_quant_executed_loss(model, data, &quant, &executed, &simulated, &f32, err);
    }
    if (status == GM_OK)
        printf("perplexity %.2f in f32, %.2f with 8 bits simulated, %.2f on integers\n", exp(f32), exp(simulated), exp(executed));
    gm_model_free(model);
    return status;
}

int main(int argc, char **argv) {
    gm_ctx *ctx = NULL;
    gm_data *data = NULL;
    gm_error err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: train_small FOLDER\n");
        return 2;
    }
    const gm_data_options source = {.source = "bb", .context = 64};
    gm_status status = gm_ctx_create(&ctx, NULL, &err);
    if (status == GM_OK)
        status = gm_data_open(&data, &source, &err);
    if (status == GM_OK)
        status = experiment(ctx, data, argv[1], &err);
    if (status != GM_OK)
        fprintf(stderr, "train_small: %s\n", err.msg);
    gm_data_free(data);
    gm_ctx_free(ctx);
    return status == GM_OK ? 0 : 1;
}
