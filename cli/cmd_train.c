/* cmd_train.c -- train one model with one attention variant. */
#include "cli.h"

#include <math.h>
#include <string.h>

typedef struct train_args {
    cli_common common;
    gm_data_options data;
    gm_train_options train;
    const char *model, *from, *attention, *out;
    int64_t live;
    cli_overrides shape;
} train_args;

static void train_defaults(void *arguments) {
    train_args *args = arguments;
    *args = (train_args){.data.source = "stories", .attention = "softmax", .live = -1};
    cli_train_defaults(&args->train);
    args->train.ramp = -1;
}

static const cli_option train_model_options[] = {
    {"model", "PRESET", "the model's shape", CLI_TEXT, offsetof(train_args, model), 0, 0, "from the data source"},
    {"attention", "VARIANT", "the attention variant", CLI_TEXT, offsetof(train_args, attention), 0, 0, NULL},
    {"from", "MODEL", "surgery: continue this trained model, with its tokenizer, under --attention", CLI_TEXT, offsetof(train_args, from),
     0, 0, "none: new weights"},
    {"ramp", "N", "surgery: steps from the model's own normaliser to the new one (n from 0 to 1); 0: at once", CLI_COUNT,
     offsetof(train_args, train.ramp), 0, 1e9, "a tenth of --steps"},
    {0}};
static const cli_option train_out_options[] = {{"out", "DIR", "folder for config.json, model.safetensors, tokenizer.json and metrics.jsonl",
                                                CLI_TEXT, offsetof(train_args, out), 0, 0, "must be given"},
                                               {"shard-optimizer", NULL,
                                                "of several ranks each keeps the optimizer's state of its share of the weights only",
                                                CLI_FLAG, offsetof(train_args, train.shard_optimizer), 0, 0, NULL},
                                               {0}};

static const cli_group train_groups[] = {{"Model", train_model_options, 0, false},
                                         {"Model", NULL, offsetof(train_args, shape), true},
                                         {"Data", cli_data_options, offsetof(train_args, data), false},
                                         {"Training", cli_train_options, offsetof(train_args, train), false},
                                         {"Machine and output", train_out_options, 0, false},
                                         {"Machine and output", cli_live_options, offsetof(train_args, live), false},
                                         CLI_MACHINE,
                                         CLI_QUIET,
                                         CLI_JSON,
                                         CLI_END};

typedef struct train_watch {
    cli_training view;
    bool started;
    int64_t last_step;
} train_watch;

static bool on_step(void *user, const gm_train_progress *p) {
    train_watch *watch = user;
    if (!watch->started && p->resumed_at > 0 && !watch->view.progress.quiet)
        cli_note("resumed at step %lld", (long long)p->resumed_at);
    if (p->notice)
        cli_note("%s", p->notice);
    watch->started = true;
    watch->last_step = p->step;
    cli_training_show(&watch->view, NULL, p, NULL, (double)p->step / (double)p->steps, p->eta_s);
    return cli_stop_asked();
}

static bool on_measure(void *user, int64_t done, int64_t total) {
    cli_progress_show(user, (double)done / (double)total, "measured %lld of %lld sequences", (long long)done, (long long)total);
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

/* A new model's shape, and everything that the data source decides. */
static gm_status plan_new(train_args *args, gm_model_config *cfg, gm_error *err) {
    const char *model = args->model ? args->model : gm_data_default_of(args->data.source)->model;
    gm_status status = gm_model_config_preset(cfg, model, err);
    if (status == GM_OK)
        status = cli_train_fill(&args->train, &args->data, model, err);
    cfg->context = args->train.context;
    args->train.ramp = args->train.ramp < 0 ? 0 : args->train.ramp;
    return status;
}

/* A trained model's shape; data through its tokenizer, in sequences that it has room for. */
static gm_status plan_surgery(train_args *args, cli_loaded *loaded, gm_model_config *cfg, gm_error *err) {
    gm_status status = cli_load_model(&loaded->model, loaded->ctx, args->from, err);
    if (status != GM_OK)
        return status;
    *cfg = *gm_model_config_of(loaded->model);
    const bool shortened = !args->train.context;
    status = cli_train_fill(&args->train, &args->data, "", err);
    if (shortened && args->train.context > cfg->context)
        args->train.context = args->data.context = cfg->context;
    if (args->train.ramp < 0)
        args->train.ramp = cfg->attention.sink == GM_SINK_LEARNED ? 0 : args->train.steps / 10;
    args->train.from = loaded->model;
    args->data.for_model = true;
    if (!args->data.tokenizer)
        args->data.tokenizer = cli_tokenizer_beside(loaded, args->from);
    return status;
}

static gm_status prepare(train_args *args, cli_loaded *loaded, gm_model_config *cfg, gm_error *err) {
    gm_status status = cli_context(&loaded->ctx, &args->common, err);
    if (status == GM_OK)
        status = args->from ? plan_surgery(args, loaded, cfg, err) : plan_new(args, cfg, err);
    if (status == GM_OK)
        status = gm_variant_parse(&cfg->attention, args->attention, err);
    if (status == GM_OK)
        status = gm_model_config_override(cfg, args->shape.text, err);
    if (status == GM_OK)
        status = gm_data_open(&loaded->data, &args->data, err);
    if (status == GM_OK && args->from)
        status = cli_check_tokenizer(loaded->model, gm_data_tokenizer(loaded->data), err);
    return status;
}

static int train_run(const cli_command *command, void *arguments) {
    train_args *args = arguments;
    gm_error err = {.offset = -1};
    gm_model_config cfg;
    gm_train_result result;
    cli_loaded loaded = {0};
    train_watch watch = {.view.progress.quiet = args->common.quiet};
    gm_live *live = NULL;
    char line[2048] = "";
    int code;
    if (!args->out) {
        cli_error(command->name, "--out is missing; name a folder for the model");
        return CLI_USAGE;
    }
    if (args->from && args->model) {
        cli_error(command->name, "--from brings its own shape; leave out --model %s", args->model);
        return CLI_USAGE;
    }
    cli_training_begin(&watch.view);
    cli_catch_stop();
    cli_command_line(line, sizeof line);
    args->train.command = line;
    gm_status status = cli_live_start(&live, args->live, args->out, args->common.quiet, &err);
    if (status == GM_OK)
        status = prepare(args, &loaded, &cfg, &err);
    if (gm_dist_agree(cli_ranks(), status, &err) != GM_OK) {
        code = cli_fail(command, &err);
        goto done;
    }
    if (!args->from)
        cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(loaded.data));
    status = gm_train_run(loaded.ctx, &cfg, loaded.data, &args->train, args->out, on_step, &watch, &result, &err);
    if (status == GM_ESTOPPED) {
        cli_error(command->name, "stopped at step %lld; the same command continues it", (long long)watch.last_step);
        code = CLI_FAILED;
    } else if (status != GM_OK)
        code = cli_fail(command, &err);
    else if (args->train.measure_every > 0 && gm_run_examine(loaded.ctx, loaded.data, args->out, args->train.measure_sequences, on_measure,
                                                             &watch.view.progress, &err) != GM_OK)
        code = cli_fail(command, &err);
    else
        code = report_result(args, &result);
done:
    gm_live_stop(live);
    cli_unload(&loaded);
    return code;
}

static void train_more_help(cli_page *page) {
    cli_help_sources(page);
    cli_help_presets(page);
    cli_help_variants(page);
    cli_page_text(page, "Ctrl-C, or a terminal that closes, finishes the step and saves (exit 1); the same command continues, bit for bit "
                        "as if never stopped. A loss that is "
                        "not finite stops the training with its step named, exit 3.");
}

const cli_command cli_command_train = {
    .name = "train",
    .summary = "train one model; run again to continue it",
    .operands = "",
    .about = "Trains one model with one attention variant, measures it, and writes it with a report to a folder.",
    .example = "ghostmax train --data book.txt --model words-mini --attention softmax1 --steps 500 --out book-softmax1",
    .size = sizeof(train_args),
    .groups = train_groups,
    .shared = true,
    .defaults = train_defaults,
    .more_help = train_more_help,
    .run = train_run,
};
