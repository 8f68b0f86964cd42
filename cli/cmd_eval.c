/* cmd_eval.c -- a trained model's loss on data. */
#include "cli.h"

#include <math.h>

typedef struct eval_args {
    cli_common common;
    gm_data_options data;
    gm_eval_options eval;
    const char *reference;
} eval_args;

/* A quantized model's, beside the executed one; NaN: there is none. */
typedef struct eval_beside {
    double simulated, f32;
    bool executed;
    char reason[256]; /* why it is not */
} eval_beside;

static void eval_defaults(void *args) {
    *(eval_args *)args = (eval_args){.eval = {.batch = 8}};
}

static const cli_option eval_options[] = {
    {"data", "SOURCE", "stories, bb, or a file; its validation split is what counts", CLI_TEXT, offsetof(eval_args, data.source), 0, 0,
     "must be given"},
    {"stride", "N",
     "score the whole file instead, in windows of --context tokens that move by N (the Hugging Face perplexity recipe); other programs' "
     "models begin with BOS only where their tokenizer puts one",
     CLI_COUNT, offsetof(eval_args, eval.stride), 1, 1 << 24, "the validation split"},
    {"tokenizer", "FILE", "the model's tokenizer, where it carries none", CLI_TEXT, offsetof(eval_args, data.tokenizer), 0, 0,
     "the model's own"},
    {"context", "N", "tokens per sequence or window", CLI_COUNT, offsetof(eval_args, data.context), 1, 1 << 24, "the model's"},
    {"no-bos", NULL, "sequences, or the whole text, do not begin with BOS", CLI_FLAG, offsetof(eval_args, data.no_bos), 0, 0, NULL},
    {"sequences", "N", "at most this many validation sequences, or windows", CLI_COUNT, offsetof(eval_args, eval.sequences), 1, 1e9,
     "256; with --stride all"},
    {"batch", "N", "sequences at a time", CLI_COUNT, offsetof(eval_args, eval.batch), 1, 1 << 16, NULL},
    {"reference", "MODEL", "a quantized MODEL's f32 original, to compare with", CLI_TEXT, offsetof(eval_args, reference), 0, 0, NULL},
    {0}};

static const cli_group eval_groups[] = {{"Options", eval_options, 0, false}, CLI_MACHINE, CLI_QUIET, CLI_JSON, CLI_END};

static bool eval_progress(void *user, int64_t done, int64_t total) {
    cli_progress_show(user, (double)done / (double)total, "%lld/%lld sequences", (long long)done, (long long)total);
    return cli_stop_asked();
}

static void print_result(const eval_args *args, const gm_eval_result *r, const eval_beside *beside, const gm_data *data) {
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
        if (isfinite(beside->simulated)) {
            json_object_set_new(root, "simulated_ppl", cli_json_number(exp(beside->simulated)));
            json_object_set_new(root, "executed", json_boolean(beside->executed));
        }
        if (isfinite(beside->f32))
            json_object_set_new(root, "f32_ppl", cli_json_number(exp(beside->f32)));
        cli_print_json(root);
        return;
    }
    printf("loss           %.5f nats per token\nperplexity     %.4f%s\n", r->loss, exp(r->loss),
           !isfinite(beside->simulated) ? ""
           : beside->executed           ? "  executed on integers"
                                        : "  simulated");
    if (isfinite(beside->simulated) && beside->executed)
        printf("  simulated    %.4f\n", exp(beside->simulated));
    else if (isfinite(beside->simulated))
        printf("               %s\n", beside->reason);
    if (isfinite(beside->f32))
        printf("  f32          %.4f\n", exp(beside->f32));
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

/* Executed where that can be, and always simulated. */
static gm_status eval_quantized(eval_args *args, cli_loaded *loaded, cli_progress *progress, gm_eval_result *result, eval_beside *beside,
                                gm_error *err) {
    gm_status status = gm_model_eval(loaded->model, loaded->data, &args->eval, eval_progress, progress, result, err);
    beside->simulated = result->loss;
    if (status != GM_OK)
        return status;
    gm_error reason = {0};
    status = gm_dist_agree(cli_ranks(), gm_quantized_mode(loaded->quantized, GM_QUANT_EXECUTED, &reason), &reason);
    snprintf(beside->reason, sizeof beside->reason, "%.250s", reason.msg);
    beside->executed = status == GM_OK;
    if (status == GM_EUNSUPPORTED)
        return GM_OK;
    if (status == GM_OK)
        return gm_model_eval(loaded->model, loaded->data, &args->eval, eval_progress, progress, result, err);
    *err = reason;
    return status;
}

static gm_status eval_reference(eval_args *args, cli_loaded *loaded, cli_progress *progress, eval_beside *beside, gm_error *err) {
    gm_model *model = NULL;
    gm_eval_result result;
    gm_status status = gm_dist_agree(cli_ranks(), cli_load_model(&model, loaded->ctx, args->reference, err), err);
    if (status == GM_OK)
        status = gm_model_eval(model, loaded->data, &args->eval, eval_progress, progress, &result, err);
    if (status == GM_OK)
        beside->f32 = result.loss;
    gm_model_free(model);
    return status;
}

static int eval_run(const cli_command *command, void *arguments) {
    eval_args *args = arguments;
    cli_loaded loaded;
    cli_progress progress = {.quiet = args->common.quiet};
    gm_error err = {.offset = -1};
    gm_eval_result result;
    eval_beside beside = {.simulated = NAN, .f32 = NAN};
    args->data.whole = args->eval.stride > 0;
    cli_catch_stop();
    int code = cli_load_any(&loaded, command, &args->common, &args->data, false);
    if (code != CLI_DONE)
        return code;
    args->eval.context = args->data.context;
    if (!args->eval.stride && !args->eval.sequences)
        args->eval.sequences = 256;
    gm_status status = loaded.quantized ? eval_quantized(args, &loaded, &progress, &result, &beside, &err)
                                        : gm_model_eval(loaded.model, loaded.data, &args->eval, eval_progress, &progress, &result, &err);
    if (status == GM_OK && args->reference)
        status = eval_reference(args, &loaded, &progress, &beside, &err);
    cli_progress_end();
    if (status != GM_OK)
        code = cli_fail(command, &err);
    else
        print_result(args, &result, &beside, loaded.data);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_eval = {
    .name = "eval",
    .summary = "a model's loss, perplexity and bits per byte",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Prints the next-token loss of MODEL on the validation split of some data, or with --stride on a whole file. Of a quantized\n"
             "MODEL the loss is what its integers compute, where they can; the simulated one stands beside it.",
    .example = "ghostmax eval lab/runs/softmax1-s1 --data stories --sequences 512",
    .size = sizeof(eval_args),
    .groups = eval_groups,
    .shared = true,
    .defaults = eval_defaults,
    .run = eval_run,
};
