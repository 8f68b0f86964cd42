/* cmd_measure.c -- a model's outliers and sinks. */
#include "measure_table.h"

#include <stdlib.h>
#include <string.h>

typedef struct measure_args {
    cli_common common;
    gm_data_options data;
    gm_measure_options measure;
    bool brief, force;
    const char *out;
} measure_args;

static void measure_defaults(void *args) {
    *(measure_args *)args = (measure_args){.measure = {.sequences = 64, .batch = 8, .top = 20}};
}

static const cli_option measure_options[] = {
    {"data", "SOURCE", "stories, bb, or a file; measured on its validation split", CLI_TEXT, offsetof(measure_args, data.source), 0, 0,
     "must be given"},
    {"tokenizer", "FILE", "the model's tokenizer, where it carries none", CLI_TEXT, offsetof(measure_args, data.tokenizer), 0, 0,
     "the model's own"},
    {"context", "N", "tokens per sequence", CLI_COUNT, offsetof(measure_args, data.context), 1, 1 << 24, "the model's"},
    {"no-bos", NULL, "sequences do not begin with BOS", CLI_FLAG, offsetof(measure_args, data.no_bos), 0, 0, NULL},
    {"sequences", "N", "validation sequences", CLI_COUNT, offsetof(measure_args, measure.sequences), 1, 1e9, NULL},
    {"batch", "N", "sequences at a time, at most 8", CLI_COUNT, offsetof(measure_args, measure.batch), 1, 1 << 16, NULL},
    {"convention", "opt-code|bert-code", "exactly what the published code computes", CLI_TEXT, offsetof(measure_args, measure.convention),
     0, 0, "ours"},
    {"top", "N", "how many of the largest activations are kept", CLI_SMALL, offsetof(measure_args, measure.top), 1, 10000, NULL},
    {"brief", NULL, "norms, kurtosis, sinks and massive activations only: about half the time", CLI_FLAG, offsetof(measure_args, brief), 0,
     0, NULL},
    {"out", "DIR", "also write report.html, measure.json and its tables (.csv) there: tensors, histograms, positions, dims, heads ...",
     CLI_TEXT, offsetof(measure_args, out), 0, 0, "nothing is written"},
    {"force", NULL, "replace a measurement in --out", CLI_FLAG, offsetof(measure_args, force), 0, 0, NULL},
    {0}};

static const cli_group measure_groups[] = {{"Options", measure_options, 0, false}, CLI_MACHINE, CLI_QUIET, CLI_JSON, CLI_END};

static bool measure_progress(void *user, int64_t done, int64_t total) {
    cli_progress_show(user, (double)done / (double)total, "measured %lld of %lld sequences", (long long)done, (long long)total);
    return cli_stop_asked();
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void measure_show(const measure_args *args, const char *text) {
    if (args->common.json) {
        printf("%s\n", text);
        return;
    }
    json_t *root = json_loads(text, 0, NULL);
    cli_print_measurement(root, last_part(args->common.operands[0]), last_part(args->data.source));
    json_decref(root);
}

static gm_status write_report(const char *folder, gm_error *err) {
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/report.html", folder);
    if (n < 0 || (size_t)n >= sizeof path) {
        snprintf(err->msg, sizeof err->msg, "the folder's name is too long");
        return GM_EINVAL;
    }
    return gm_report_write(&folder, 1, path, err);
}

static int measure_run(const cli_command *command, void *arguments) {
    measure_args *args = arguments;
    cli_loaded loaded;
    cli_progress progress = {.quiet = args->common.quiet};
    gm_error err = {.offset = -1};
    char *text = NULL;
    const bool writes = args->out && gm_dist_rank(cli_ranks()) == 0;
    gm_status status = writes ? gm_measure_check_folder(args->out, args->force, &err) : GM_OK;
    if (gm_dist_agree(cli_ranks(), status, &err) != GM_OK)
        return cli_fail(command, &err);
    cli_catch_stop();
    int code = cli_load_any(&loaded, command, &args->common, &args->data, false);
    if (code != CLI_DONE)
        return code;
    args->measure.context = args->data.context;
    args->measure.details = !args->brief;
    args->measure.callback = measure_progress;
    args->measure.user = &progress;
    status = gm_measure_model(loaded.model, loaded.data, &args->measure, &text, &err);
    cli_progress_end();
    char line[2048] = "";
    cli_command_line(line, sizeof line);
    if (status == GM_OK && writes)
        status = gm_measure_write(loaded.ctx, text, loaded.model, loaded.data, args->out, line, args->force, &err);
    if (status == GM_OK && writes)
        status = write_report(args->out, &err);
    status = gm_dist_agree(cli_ranks(), status, &err);
    if (status == GM_OK)
        measure_show(args, text);
    else
        code = cli_fail(command, &err);
    free(text);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_measure = {
    .name = "measure",
    .summary = "a model's outliers, kurtosis and attention sinks",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Measures the activations and weights of MODEL (a folder or file) on the validation split of some data, in one pass whose\n"
             "memory does not grow with --sequences. docs/numerics.md defines every metric, docs/replication.md names their sources.\n"
             "The same file gives the same bits; with --isa ref whatever --batch and --threads are.",
    .example = "ghostmax measure stories260K.bin --tokenizer tok512.bin --data tinystories.txt --out measured",
    .size = sizeof(measure_args),
    .groups = measure_groups,
    .shared = true,
    .defaults = measure_defaults,
    .run = measure_run,
};
