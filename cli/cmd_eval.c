/* cmd_eval.c -- a trained model's loss on data. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>

typedef struct eval_args {
    cli_common common;
    gm_data_options data;
    int64_t sequences, batch;
} eval_args;

static void eval_defaults(void *args) {
    *(eval_args *)args = (eval_args){.sequences = 256, .batch = 8};
}

static const cli_option eval_options[] = {
    {"data", "SOURCE", "stories, bb, or a file; its validation split is what counts", CLI_TEXT, offsetof(eval_args, data.source), 0, 0,
     "must be given"},
    {"tokenizer", "FILE", "tokenizer.json or llama2.c's tokenizer.bin, where the model carries none", CLI_TEXT,
     offsetof(eval_args, data.tokenizer), 0, 0, "the model's own"},
    {"context", "N", "tokens per sequence", CLI_COUNT, offsetof(eval_args, data.context), 1, 1 << 24, "the model's"},
    {"no-bos", NULL, "sequences do not begin with BOS", CLI_FLAG, offsetof(eval_args, data.no_bos), 0, 0, NULL},
    {"sequences", "N", "at most this many validation sequences", CLI_COUNT, offsetof(eval_args, sequences), 1, 1e9, NULL},
    {"batch", "N", "sequences at a time", CLI_COUNT, offsetof(eval_args, batch), 1, 1 << 16, NULL},
    {0}};

static const cli_group eval_groups[] = {{"Options", eval_options, 0, false}, CLI_MACHINE, CLI_QUIET, CLI_JSON, CLI_END};

typedef struct eval_sum {
    double loss;
    int64_t tokens, sequences;
} eval_sum;

static gm_status eval_batches(eval_sum *sum, gm_model *model, const gm_data *data, const eval_args *args, gm_error *err) {
    int64_t T = args->data.context, total = gm_data_validation_count(data);
    gm_status status = GM_OK;
    cli_progress progress = {.quiet = args->common.quiet};
    total = total < args->sequences ? total : args->sequences;
    int32_t *x = malloc(sizeof *x * (size_t)(args->batch * T)), *y = malloc(sizeof *y * (size_t)(args->batch * T));
    if (!x || !y) {
        *err = (gm_error){.code = GM_ENOMEM, .offset = -1, .msg = "out of memory; use a smaller --batch"};
        status = GM_ENOMEM;
    }
    for (int64_t first = 0; first < total && status == GM_OK; first += args->batch) {
        int64_t B = total - first < args->batch ? total - first : args->batch, targets = 0;
        double mean;
        gm_data_validation(data, first, B, x, y);
        for (int64_t i = 0; i < B * T; i++)
            targets += y[i] >= 0;
        status = gm_model_loss(model, x, y, B, T, &mean, NULL, err);
        sum->loss += mean * (double)targets;
        sum->tokens += targets;
        sum->sequences += B;
        if (status == GM_OK)
            cli_progress_show(&progress, (double)sum->sequences / (double)total, "%lld/%lld sequences", (long long)sum->sequences,
                              (long long)total);
    }
    cli_progress_end();
    free(x);
    free(y);
    return status;
}

static void print_result(const eval_args *args, const eval_sum *sum, const gm_data *data) {
    double bytes_per_token = gm_data_bytes_per_token(data);
    double loss = sum->loss / (double)sum->tokens, bits = bytes_per_token > 0 ? loss / log(2) / bytes_per_token : NAN;
    if (args->common.json) {
        cli_print_json(json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:s}", "loss", cli_json_number(loss), "ppl",
                                 cli_json_number(exp(loss)), "bits_per_byte", cli_json_number(bits), "tokens", (json_int_t)sum->tokens,
                                 "sequences", (json_int_t)sum->sequences, "context", (json_int_t)args->data.context, "bos",
                                 gm_data_bos(data), "data", args->data.source));
        return;
    }
    printf("loss           %.5f nats per token\nperplexity     %.4f\n", loss, exp(loss));
    if (isfinite(bits))
        printf("bits per byte  %.4f\n", bits);
    printf("tokens         %lld in %lld validation sequences of %lld, %s BOS\n", (long long)sum->tokens, (long long)sum->sequences,
           (long long)args->data.context, gm_data_bos(data) ? "with" : "without");
}

static int eval_run(const cli_command *command, void *arguments) {
    eval_args *args = arguments;
    cli_loaded loaded;
    gm_error err = {.offset = -1};
    eval_sum sum = {0};
    int code = cli_load(&loaded, command, &args->common, &args->data);
    if (code != CLI_DONE)
        return code;
    if (eval_batches(&sum, loaded.model, loaded.data, args, &err) != GM_OK)
        code = cli_fail(command, &err);
    else
        print_result(args, &sum, loaded.data);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_eval = {
    .name = "eval",
    .summary = "a model's loss, perplexity and bits per byte",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Prints the next-token loss of the model in folder MODEL on the validation split of some data.",
    .example = "ghostmax eval lab/runs/softmax1-s1 --data stories --sequences 512",
    .size = sizeof(eval_args),
    .groups = eval_groups,
    .defaults = eval_defaults,
    .run = eval_run,
};
