/* cmd_train.c -- train one model with one attention variant. */
#include "cli.h"

#include <math.h>
#include <string.h>

typedef struct train_args {
    cli_common common;
    gm_data_options data;
    gm_train_options train;
    const char *model, *attention, *out;
    cli_overrides shape;
} train_args;

static void train_defaults(void *arguments) {
    train_args *args = arguments;
    *args = (train_args){.data.source = "stories", .attention = "softmax"};
    cli_train_defaults(&args->train);
}

static const cli_option train_model_options[] = {
    {"model", "PRESET", "the model's shape", CLI_TEXT, offsetof(train_args, model), 0, 0, "from the data source"},
    {"attention", "SPEC", "the attention variant", CLI_TEXT, offsetof(train_args, attention), 0, 0, NULL},
    {0}};
static const cli_option train_out_options[] = {{"out", "DIR", "folder for config.json, model.safetensors, tokenizer.json and metrics.jsonl",
                                                CLI_TEXT, offsetof(train_args, out), 0, 0, "must be given"},
                                               {0}};

static const cli_group train_groups[] = {{"Model", train_model_options, 0, false},
                                         {"Model", NULL, offsetof(train_args, shape), true},
                                         {"Data", cli_data_options, offsetof(train_args, data), false},
                                         {"Training", cli_train_options, offsetof(train_args, train), false},
                                         {"Machine and output", train_out_options, 0, false},
                                         CLI_MACHINE,
                                         CLI_QUIET,
                                         CLI_JSON,
                                         CLI_END};

typedef struct train_watch {
    cli_progress progress;
    bool started;
    int64_t last_step;
} train_watch;

static bool on_step(void *user, const gm_train_progress *p) {
    train_watch *watch = user;
    char eta[32], rate[32], validation[40] = "";
    if (!watch->started && p->resumed_at > 0 && !watch->progress.quiet)
        cli_note("resumed at step %lld", (long long)p->resumed_at);
    watch->started = true;
    watch->last_step = p->step;
    cli_format_seconds(eta, sizeof eta, p->eta_s);
    cli_format_count(rate, sizeof rate, p->tokens_per_s);
    if (isfinite(p->val_loss))
        snprintf(validation, sizeof validation, "  val %.4f", p->val_loss);
    cli_progress_show(&watch->progress, (double)p->step / (double)p->steps, "step %lld/%lld  loss %.4f%s  %s tokens/s  ETA %s",
                      (long long)p->step, (long long)p->steps, p->loss, validation, rate, eta);
    return cli_stop_asked();
}

static int report_result(const train_args *args, const gm_train_result *r) {
    cli_progress_end();
    if (args->common.json)
        cli_print_json(json_pack("{s:s, s:I, s:o, s:o, s:o, s:o}", "folder", args->out, "step", (json_int_t)r->step, "loss",
                                 cli_json_number(r->loss), "val_loss", cli_json_number(r->val_loss), "ppl",
                                 cli_json_number(exp(r->val_loss)), "tokens_per_s", cli_json_number(r->tokens_per_s)));
    else
        printf("%s: step %lld, loss %.4f, validation loss %.4f (ppl %.2f)\n", args->out, (long long)r->step, r->loss, r->val_loss,
               exp(r->val_loss));
    return CLI_DONE;
}

static int train_run(const cli_command *command, void *arguments) {
    train_args *args = arguments;
    gm_error err = {.offset = -1};
    gm_model_config cfg;
    gm_train_result result;
    gm_ctx *ctx = NULL;
    gm_data *data = NULL;
    train_watch watch = {.progress.quiet = args->common.quiet};
    int code;
    if (!args->out) {
        cli_error(command->name, "--out is missing; name a folder for the model");
        return CLI_USAGE;
    }
    cli_catch_stop();
    const char *model = args->model ? args->model : gm_data_default_of(args->data.source)->model;
    if (gm_model_config_preset(&cfg, model, &err) != GM_OK || gm_variant_parse(&cfg.attention, args->attention, &err) != GM_OK ||
        gm_model_config_override(&cfg, args->shape.text, &err) != GM_OK ||
        cli_train_fill(&args->train, &args->data, model, &err) != GM_OK || cli_context(&ctx, &args->common, &err) != GM_OK ||
        gm_data_open(&data, &args->data, &err) != GM_OK) {
        code = cli_fail(command, &err);
        goto done;
    }
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    cfg.context = args->train.context;
    gm_status status = gm_train_run(ctx, &cfg, data, &args->train, args->out, on_step, &watch, &result, &err);
    if (status == GM_ESTOPPED) {
        cli_error(command->name, "stopped at step %lld; the same command continues it", (long long)watch.last_step);
        code = CLI_FAILED;
    } else if (status != GM_OK)
        code = cli_fail(command, &err);
    else
        code = report_result(args, &result);
done:
    gm_data_free(data);
    gm_ctx_free(ctx);
    return code;
}

static void train_more_help(FILE *out) {
    cli_help_sources(out);
    cli_help_presets(out);
    cli_help_variants(out);
    fprintf(out,
            "\nCtrl-C finishes the step and saves (exit 1); the same command continues, bit for bit as if never stopped. A loss that is\n"
            "not finite stops the training with its step named, exit 3.\n");
}

const cli_command cli_command_train = {
    .name = "train",
    .summary = "train one model; run again to continue it",
    .operands = "",
    .about = "Trains one model with one attention variant and writes it to a folder.",
    .example = "ghostmax train --data book.txt --model words-mini --attention softmax1 --steps 500 --out book-softmax1",
    .size = sizeof(train_args),
    .groups = train_groups,
    .defaults = train_defaults,
    .more_help = train_more_help,
    .run = train_run,
};
