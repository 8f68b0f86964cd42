/* cmd_lab.c -- the main job: every variant on the same data, budget and seeds; measured, quantized, one table. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct lab_args {
    cli_common common;
    gm_lab_options lab;
    cli_overrides shape;
    cli_quant quant;
    int64_t live;
} lab_args;

static void lab_defaults(void *arguments) {
    lab_args *args = arguments;
    *args = (lab_args){.lab = {.data.source = "stories", .out = "lab", .measure_sequences = 64, .sensitivity_sequences = 8}};
    args->live = -1;
    cli_train_defaults(&args->lab.train);
    cli_quant_defaults(&args->quant);
}

#define LAB(name, value, type, field, min, max, help, otherwise) \
    { name, value, help, type, offsetof(lab_args, lab.field), min, max, otherwise }
static const cli_option lab_options[] = {
    LAB("variants", "VARIANT,...", CLI_TEXT, variants, 0, 0, "attention variants, separated by commas", "from the data source"),
    LAB("model", "PRESET,...", CLI_TEXT, models, 0, 0, "presets, separated by commas: a table for each size", "from the data source"),
    LAB("seeds", "N", CLI_COUNT, seeds, 1, 1000, "runs per variant: --seed, --seed + 1, ...", "from the data source"),
    LAB("out", "DIR", CLI_TEXT, out, 0, 0, "folder for the results; given again, unfinished runs go on", NULL),
    LAB("measure-sequences", "N", CLI_COUNT, measure_sequences, 1, 1 << 20, "validation sequences measured", NULL),
    LAB("precisions", "BITS,...", CLI_TEXT, precisions, 0, 0, "bits of weights and activations, quantized beside W8A8: w6a6,w4a8", "w6a6"),
    LAB("sensitivity-sequences", "N", CLI_COUNT, sensitivity_sequences, 0, 1 << 20,
        "validation sequences on which each tensor is quantized alone, to find the costliest; 0: none", NULL),
    LAB("no-ablations", NULL, CLI_FLAG, no_ablations, 0, 0,
        "leave out the alternatives to another softmax: plain softmax with SmoothQuant, and with LLM.int8()", NULL),
    {0}};
static const cli_group lab_groups[] = {{"The comparison", lab_options, 0, false},
                                       {"Data", cli_data_options, offsetof(lab_args, lab.data), false},
                                       {"Training, the same for every run", cli_train_options, offsetof(lab_args, lab.train), false},
                                       {"Model dimensions that replace the presets'", NULL, offsetof(lab_args, shape), true},
                                       {"Quantization", cli_quant_options, offsetof(lab_args, quant), false},
                                       {"Machine and output", cli_live_options, offsetof(lab_args, live), false},
                                       CLI_MACHINE,
                                       CLI_QUIET,
                                       CLI_JSON,
                                       CLI_END};

/* ---- progress ------------------------------------------------------------------------------------------------------------ */

typedef struct lab_watch {
    cli_training view;
    bool sizes;         /* several models: lines say which */
    int run;            /* the run last heard of */
    int trained;        /* runs trained from start to end in this call, and */
    double trained_s;   /* their time */
    double run_start_s; /* of the present run */
    bool whole;         /* the present run began at step 0 here */
    int64_t last_step;
} lab_watch;

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void enter_run(lab_watch *watch, const gm_lab_progress *p) {
    double now = now_s();
    if (watch->run > 0 && watch->whole) {
        watch->trained++;
        watch->trained_s += now - watch->run_start_s;
    }
    watch->run = p->run;
    watch->run_start_s = now;
    watch->last_step = 0;
    int64_t resumed = p->train ? p->train->resumed_at : 0;
    watch->whole = !p->reused && resumed == 0;
    cli_training_begin(&watch->view);
    if (resumed > 0 && !watch->view.progress.quiet)
        cli_note("run %d/%d %s seed %llu: resumed at step %lld", p->run, p->runs, p->variant, (unsigned long long)p->seed,
                 (long long)resumed);
}

/* What a run gave, in a line that stays. */
static void show_outcome(const lab_watch *watch, const gm_lab_progress *p) {
    const gm_lab_outcome *o = p->outcome;
    char took[32], who[320];
    if (watch->view.progress.quiet)
        return;
    snprintf(who, sizeof who, "run %d/%d  %s%s%s seed %llu", p->run, p->runs, watch->sizes ? p->model : "", watch->sizes ? " " : "",
             p->variant, (unsigned long long)p->seed);
    cli_format_seconds(took, sizeof took, now_s() - watch->run_start_s);
    if (o->diverged_at)
        cli_note("%s  diverged at step %lld", who, (long long)o->diverged_at);
    else
        cli_note("%s  ppl %.4g  W8A8 %.4g  inf norm %.4g  kurtosis %.4g  %s", who, exp(o->val_loss), o->w8a8_ppl, o->max_inf_norm,
                 o->avg_kurtosis,
                 !p->reused    ? took
                 : cli_ranks() ? "done"
                               : "done earlier" /* another rank's, or earlier */);
}

static bool on_progress(void *user, const gm_lab_progress *p) {
    lab_watch *watch = user;
    char who[320];
    if (p->run != watch->run)
        enter_run(watch, p);
    if (p->train && p->train->notice)
        cli_note("%s", p->train->notice);
    double share = (double)(p->run - 1) / p->runs, left = NAN;
    snprintf(who, sizeof who, "run %d/%d  %s %s seed %llu", p->run, p->runs, p->model, p->variant, (unsigned long long)p->seed);
    if (p->outcome) {
        show_outcome(watch, p);
        return cli_stop_asked();
    }
    if (p->train) {
        const gm_train_progress *t = p->train;
        double per_run = watch->trained ? watch->trained_s / watch->trained : t->eta_s + (now_s() - watch->run_start_s);
        watch->last_step = t->step;
        left = t->eta_s + per_run * (p->runs - p->run) / gm_dist_size(cli_ranks());
        share += (double)t->step / (double)t->steps / p->runs;
    }
    cli_training_show(&watch->view, who, p->train, p->train ? NULL : p->phase, share < 1 ? share : 0.9999, left);
    return cli_stop_asked();
}

/* ---- the command --------------------------------------------------------------------------------------------------------- */

static int lab_run(const cli_command *command, void *arguments) {
    lab_args *args = arguments;
    gm_lab_options *lab = &args->lab;
    gm_error err = {.offset = -1};
    gm_ctx *ctx = NULL;
    gm_live *live = NULL;
    char *results = NULL, *table = NULL, line[2048] = "";
    lab_watch watch = {.view.progress.quiet = args->common.quiet, .sizes = lab->models && strchr(lab->models, ',')};
    int code = CLI_DONE;
    cli_catch_stop();
    gm_status status = cli_train_fill(&lab->train, &lab->data, lab->models, &err);
    if (status == GM_OK)
        status = cli_quant_fill(&lab->quant, &args->quant, &err);
    if (status == GM_OK)
        status = cli_context(&ctx, &args->common, &err);
    if (status == GM_OK)
        status = cli_live_start(&live, args->live, lab->out, args->common.quiet, &err);
    if (gm_dist_agree(cli_ranks(), status, &err) != GM_OK) {
        gm_live_stop(live);
        gm_ctx_free(ctx);
        return cli_fail(command, &err);
    }
    lab->overrides = args->shape.text;
    lab->command = line;
    if (lab->seeds < 1)
        lab->seeds = gm_data_default_of(lab->data.source)->seeds;
    cli_command_line(line, sizeof line);
    status = gm_lab_run(ctx, lab, on_progress, &watch, &results, &table, &err);
    cli_progress_end();
    if (results && gm_dist_rank(cli_ranks()) > 0)
        cli_ranks_stand_in();
    if (results && args->common.json)
        fputs(results, stdout);
    else if (table)
        printf("%s\nResults, table.md, report.html and the runs are in %s\n", table, lab->out);
    if (status == GM_ESTOPPED) {
        cli_error(command->name, "stopped in run %d at step %lld; the same command continues it", watch.run, (long long)watch.last_step);
        code = CLI_FAILED;
    } else if (status != GM_OK)
        code = cli_fail(command, &err);
    free(results);
    free(table);
    gm_live_stop(live);
    gm_ctx_free(ctx);
    return code;
}

static void lab_more_help(cli_page *page) {
    cli_help_sources(page);
    cli_help_variants(page);
    cli_help_presets(page);
    cli_help_quant_presets(page);
    cli_page_text(page,
                  "Ctrl-C, or a terminal that closes, finishes the step and saves (exit 1); the same command goes on where it stopped and "
                  "redoes nothing. A run whose loss "
                  "is not finite is recorded, the others go on, and the exit code is 3. A folder of another configuration is refused.");
}

const cli_command cli_command_lab = {
    .name = "lab",
    .summary = "compare attention variants: train, measure, quantize, one table",
    .operands = "",
    .about = "Trains every variant on the same data, initial weights and budget, measures outliers and sinks, quantizes, and prints one\n"
             "table with mean and standard deviation over seeds. Without options it is the demo, on the built-in stories.",
    .example = "ghostmax lab --data book.txt --variants softmax,softmax1,clipped:alpha=4,gated,sink --seeds 3 --out book-lab",
    .size = sizeof(lab_args),
    .groups = lab_groups,
    .shared = true,
    .queued = true,
    .defaults = lab_defaults,
    .more_help = lab_more_help,
    .run = lab_run,
};
