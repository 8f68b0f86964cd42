/* cmd_eval.c -- a trained model's loss on data. */
#include "cli.h"

#include <math.h>

typedef struct eval_args {
    cli_common common;
    gm_data_options data;
    gm_eval_options eval;
} eval_args;

static void eval_defaults(void *args) {
    *(eval_args *)args = (eval_args){.eval = {.sequences = 256, .batch = 8}};
}

static const cli_option eval_options[] = {
    {"data", "SOURCE", "stories, bb, or a file; its validation split is what counts", CLI_TEXT, offsetof(eval_args, data.source), 0, 0,
     "must be given"},
    {"stride", "N", "score the whole file instead, in windows of --context tokens that move by N (the Hugging Face perplexity recipe)",
     CLI_COUNT, offsetof(eval_args, eval.stride), 1, 1 << 24, "the validation split"},
    {"tokenizer", "FILE", "the model's tokenizer, where it carries none", CLI_TEXT, offsetof(eval_args, data.tokenizer), 0, 0,
     "the model's own"},
    {"context", "N", "tokens per sequence or window", CLI_COUNT, offsetof(eval_args, data.context), 1, 1 << 24, "the model's"},
    {"no-bos", NULL, "sequences, or the whole text, do not begin with BOS", CLI_FLAG, offsetof(eval_args, data.no_bos), 0, 0, NULL},
    {"sequences", "N", "at most this many validation sequences", CLI_COUNT, offsetof(eval_args, eval.sequences), 1, 1e9, NULL},
    {"batch", "N", "sequences at a time", CLI_COUNT, offsetof(eval_args, eval.batch), 1, 1 << 16, NULL},
    {0}};

static const cli_group eval_groups[] = {{"Options", eval_options, 0, false}, CLI_MACHINE, CLI_QUIET, CLI_JSON, CLI_END};

static bool eval_progress(void *user, int64_t done, int64_t total) {
    cli_progress_show(user, (double)done / (double)total, "%lld/%lld sequences", (long long)done, (long long)total);
    return cli_stop_asked();
}

static void print_result(const eval_args *args, const gm_eval_result *r, const gm_data *data) {
    const bool windows = args->eval.stride > 0;
    if (args->common.json) {
        json_t *root = json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:s}", "loss", cli_json_number(r->loss), "ppl",
                                 cli_json_number(exp(r->loss)), "bits_per_byte", cli_json_number(r->bits_per_byte), "tokens",
                                 (json_int_t)r->tokens, windows ? "windows" : "sequences", (json_int_t)r->sequences, "context",
                                 (json_int_t)args->data.context, "bos", gm_data_bos(data), "data", args->data.source);
        if (windows) {
            json_object_set_new(root, "stride", json_integer(args->eval.stride));
            json_object_set_new(root, "recipe_ppl", cli_json_number(exp(r->recipe_loss)));
        }
        cli_print_json(root);
        return;
    }
    printf("loss           %.5f nats per token\nperplexity     %.4f\n", r->loss, exp(r->loss));
    if (windows)
        printf("  as published %.4f (each window counted one token short, as the Hugging Face recipe does)\n", exp(r->recipe_loss));
    if (isfinite(r->bits_per_byte))
        printf("bits per byte  %.4f\n", r->bits_per_byte);
    if (windows)
        printf("tokens         %lld in %lld windows of %lld, stride %lld, %s BOS\n", (long long)r->tokens, (long long)r->sequences,
               (long long)args->data.context, (long long)args->eval.stride, gm_data_bos(data) ? "with" : "without");
    else
        printf("tokens         %lld in %lld validation sequences of %lld, %s BOS\n", (long long)r->tokens, (long long)r->sequences,
               (long long)args->data.context, gm_data_bos(data) ? "with" : "without");
}

static int eval_run(const cli_command *command, void *arguments) {
    eval_args *args = arguments;
    cli_loaded loaded;
    cli_progress progress = {.quiet = args->common.quiet};
    gm_error err = {.offset = -1};
    gm_eval_result result;
    args->data.whole = args->eval.stride > 0;
    cli_catch_stop();
    int code = cli_load(&loaded, command, &args->common, &args->data);
    if (code != CLI_DONE)
        return code;
    args->eval.context = args->data.context;
    gm_status status = gm_model_eval(loaded.model, loaded.data, &args->eval, eval_progress, &progress, &result, &err);
    cli_progress_end();
    if (status != GM_OK)
        code = cli_fail(command, &err);
    else
        print_result(args, &result, loaded.data);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_eval = {
    .name = "eval",
    .summary = "a model's loss, perplexity and bits per byte",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Prints the next-token loss of MODEL on the validation split of some data, or with --stride on a whole file.",
    .example = "ghostmax eval lab/runs/softmax1-s1 --data stories --sequences 512",
    .size = sizeof(eval_args),
    .groups = eval_groups,
    .defaults = eval_defaults,
    .run = eval_run,
};
