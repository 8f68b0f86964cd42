/* cmd_quantize.c -- a model as integers: calibrated on text, written as a folder, with what that costs, tensor by tensor. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct quantize_args {
    cli_common common;
    gm_data_options data;
    cli_quant quant;
    const char *out;
    gm_quant_report_options report;
    uint64_t seed;
    int64_t top;
    bool alone, spared, force;
} quantize_args;

static void quantize_defaults(void *arguments) {
    quantize_args *args = arguments;
    *args = (quantize_args){.report = {.sequences = 64, .batch = 8, .sensitivity_sequences = 16}, .seed = 1, .top = 20};
    cli_quant_defaults(&args->quant);
}

#define FIELD(name, value, type, field, min, max, help, otherwise) \
    { name, value, help, type, offsetof(quantize_args, field), min, max, otherwise }
static const cli_option quantize_options[] = {
    FIELD("data", "SOURCE", CLI_TEXT, data.source, 0, 0,
          "stories, bb, or a file: its training split calibrates, its validation split counts", "must be given"),
    FIELD("out", "DIR", CLI_TEXT, out, 0, 0, "folder for the quantized model", "must be given"),
    FIELD("force", NULL, CLI_FLAG, force, 0, 0, "overwrite a model that is there", NULL),
    FIELD("tokenizer", "FILE", CLI_TEXT, data.tokenizer, 0, 0, "where the model carries none", "the model's own"),
    FIELD("context", "N", CLI_COUNT, data.context, 1, 1 << 24, "tokens per sequence", "the model's"),
    FIELD("no-bos", NULL, CLI_FLAG, data.no_bos, 0, 0, "sequences do not begin with BOS", NULL),
    FIELD("seed", "N", CLI_SEED, seed, 0, 9e15, "of the order of calibration sequences", NULL),
    {0}};
static const cli_option report_options[] = {
    FIELD("sequences", "N", CLI_COUNT, report.sequences, 1, 1 << 20, "validation sequences of the perplexities", NULL),
    FIELD("batch", "N", CLI_COUNT, report.batch, 1, 1 << 16, "sequences at a time", NULL),
    FIELD("sensitivity", NULL, CLI_FLAG, alone, 0, 0, "what each tensor costs: perplexity with it alone quantized", NULL),
    FIELD("leave-one-out", NULL, CLI_FLAG, spared, 0, 0, "the other way round: what sparing each one of them gains", NULL),
    FIELD("sensitivity-sequences", "N", CLI_COUNT, report.sensitivity_sequences, 1, 1 << 20, "validation sequences for each tensor", NULL),
    FIELD("top", "N", CLI_COUNT, top, 1, 1 << 20, "tensors shown, the worst first (--json has all)", NULL),
    {0}};

static const cli_group quantize_groups[] = {{"Options", quantize_options, 0, false},
                                            {"Quantizers", cli_quant_options, offsetof(quantize_args, quant), false},
                                            {"Report", report_options, 0, false},
                                            CLI_MACHINE,
                                            CLI_QUIET,
                                            CLI_JSON,
                                            CLI_END};

static bool on_progress(void *user, const gm_quant_progress *p) {
    cli_progress *progress = user;
    if (*p->tensor)
        cli_progress_show(progress, (double)p->done / (double)p->total, "%s %lld/%lld  %s", p->phase, (long long)p->done,
                          (long long)p->total, p->tensor);
    else
        cli_progress_show(progress, 0, "perplexity: %s", p->phase);
    return cli_stop_asked();
}

/* ---- tables ---------------------------------------------------------------------------------------------------------------- */

static double number_of(json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void print_perplexities(json_t *root) {
    static const char *const rows[] = {"f32", "simulated", "executed"};
    double f32 = number_of(json_object_get(root, "f32"), "ppl");
    printf("%-12s %10s %12s %10s\n", "", "loss", "perplexity", "change");
    for (int i = 0; i < 3; i++) {
        json_t *row = json_object_get(root, rows[i]);
        double ppl = number_of(row, "ppl");
        if (!json_is_object(row)) {
            printf("%-12s %10s %12s            %s\n", rows[i], "-", "-", json_string_value(json_object_get(root, "not_executed_because")));
            continue;
        }
        printf("%-12s %10.5f %12.4f", rows[i], number_of(row, "loss"), ppl);
        if (i > 0)
            printf(" %+9.3f%%", 100 * (ppl / f32 - 1));
        putchar('\n');
    }
    json_t *bytes = json_object_get(root, "bytes");
    char mine[32], theirs[32];
    cli_format_count(mine, sizeof mine, number_of(bytes, "quantized"));
    cli_format_count(theirs, sizeof theirs, number_of(bytes, "f32"));
    printf("\nweights      %sB of %sB in f32 (%.2fx)\n", mine, theirs, number_of(bytes, "ratio"));
}

static void print_outliers(json_t *root) {
    json_t *outliers = json_object_get(root, "outlier_columns"), *input;
    size_t i, c;
    if (!outliers)
        return;
    printf(
        "\nIn floating point, for a feature that reached %g: %.3g%% of the input features, %.3g%% of the products, %.3g%% of the bytes\n",
        number_of(outliers, "threshold"), 100 * number_of(outliers, "columns_share"), 100 * number_of(outliers, "flops_share"),
        100 * number_of(outliers, "bytes_share"));
    json_array_foreach(json_object_get(outliers, "inputs"), i, input) {
        json_t *features = json_object_get(input, "features"), *feature;
        if (json_array_size(features) == 0)
            continue;
        printf("  %-22s %5zu:", json_string_value(json_object_get(input, "input")), json_array_size(features));
        json_array_foreach(features, c, feature) {
            if (c < 10)
                printf(" %lld", (long long)json_integer_value(feature));
        }
        printf("%s\n", json_array_size(features) > 10 ? " ..." : "");
    }
}

static json_t *tensor_named(json_t *tensors, const char *name) {
    size_t i;
    json_t *tensor;
    json_array_foreach(tensors, i, tensor) {
        if (strcmp(json_string_value(json_object_get(tensor, "name")), name) == 0)
            return tensor;
    }
    return NULL;
}

static int by_noise(const void *a, const void *b) {
    double x = number_of(*(json_t *const *)a, "sqnr_db"), y = number_of(*(json_t *const *)b, "sqnr_db");
    x = isnan(x) ? INFINITY : x;
    y = isnan(y) ? INFINITY : y;
    return (x > y) - (x < y);
}

static void print_tensor(json_t *t, json_t *cost) {
    char range[48], step[16], noise[16];
    snprintf(range, sizeof range, "%.4g .. %.4g", number_of(t, "lo"), number_of(t, "hi"));
    snprintf(step, sizeof step, isfinite(number_of(t, "step")) ? "%.3g" : "-", number_of(t, "step"));
    snprintf(noise, sizeof noise, isfinite(number_of(t, "sqnr_db")) ? "%.1f" : "-", number_of(t, "sqnr_db"));
    printf("%-24s %4lld  %-24s %9s %8s %9.2g%%", json_string_value(json_object_get(t, "name")),
           (long long)json_integer_value(json_object_get(t, "bits")), range, step, noise, 100 * number_of(t, "clipped"));
    if (cost)
        printf(" %+12.4f", number_of(cost, "ppl_cost"));
    putchar('\n');
}

static void print_tensors(json_t *root, int64_t top) {
    json_t *tensors = json_object_get(root, "tensors"), *sensitivity = json_object_get(root, "sensitivity");
    json_t *costs = json_object_get(sensitivity, "tensors");
    const size_t count = json_array_size(tensors), shown = count < (size_t)top ? count : (size_t)top;
    const char *of = json_string_value(json_object_get(sensitivity, "of"));
    json_t **order = malloc((count + 1) * sizeof *order);
    if (!order)
        return;
    for (size_t i = 0; i < count; i++)
        order[i] = json_array_get(tensors, i);
    qsort(order, count, sizeof *order, by_noise);
    if (sensitivity)
        printf("\n%s\n",
               strcmp(of, "alone") == 0 ? "What each tensor costs alone, in perplexity" : "What sparing each tensor gains, in perplexity");
    else
        printf("\nThe noisiest tensors (--sensitivity tells what each costs)\n");
    printf("%-24s %4s  %-24s %9s %8s %10s%s\n", "tensor", "bits", "range", "step", "SQNR dB", "clipped",
           sensitivity ? "   perplexity" : "");
    for (size_t i = 0; i < shown; i++) {
        json_t *cost = sensitivity ? json_array_get(costs, i) : NULL;
        print_tensor(cost ? tensor_named(tensors, json_string_value(json_object_get(cost, "name"))) : order[i], cost);
    }
    if (shown < count)
        printf("... and %zu more (--top %zu)\n", count - shown, count);
    free(order);
}

/* ---- the command ------------------------------------------------------------------------------------------------------------ */

static gm_status fail(gm_error *err, gm_status code, const char *format, const char *what) {
    *err = (gm_error){.code = code, .offset = -1};
    snprintf(err->msg, sizeof err->msg, format, what);
    return code;
}

/* Before anything is computed: a folder that is free, a model that is not quantized already. */
static gm_status check_paths(const quantize_args *args, gm_error *err) {
    char path[1024];
    const char *model = args->common.operands[0];
    if (gm_quantized_is(model))
        return fail(err, GM_EUNSUPPORTED, "'%s' is quantized already; give the f32 model that it was made from", model);
    snprintf(path, sizeof path, "%s/config.json", args->out);
    if (!args->force && access(path, F_OK) == 0)
        return fail(err, GM_EIO, "'%s' holds a model; choose another --out, or --force to overwrite it", args->out);
    return GM_OK;
}

/* Where the line says nothing about calibration, it takes what the text has. */
static void fit_calibration(gm_quant_options *options, const quantize_args *args, const gm_data *data) {
    const int64_t tokens = gm_data_train_tokens(data), have = tokens / gm_data_context(data);
    const int64_t asked = options->calibration_batches * options->calibration_batch;
    if (tokens < 0 || asked <= have || have < 1 || args->quant.calibration_batches > 0 || args->quant.calibration_batch > 0)
        return;
    options->calibration_batch = options->calibration_batch < have ? options->calibration_batch : have;
    options->calibration_batches = have / options->calibration_batch;
    if (!args->common.quiet)
        cli_note("the text has %lld training sequences of %lld tokens, calibration would take %lld: it takes %lld x %lld", (long long)have,
                 (long long)gm_data_context(data), (long long)asked, (long long)options->calibration_batches,
                 (long long)options->calibration_batch);
}

static gm_status quantize(quantize_args *args, cli_loaded *loaded, char **text, gm_error *err) {
    gm_quant_options options;
    gm_quantized *q = NULL;
    cli_progress progress = {.quiet = args->common.quiet};
    gm_status status = cli_quant_fill(&options, &args->quant, err);
    options.seed = args->seed;
    if (status == GM_OK) {
        fit_calibration(&options, args, loaded->data);
        cli_progress_show(&progress, 0, "calibrating: %lld batches of %lld", (long long)options.calibration_batches,
                          (long long)options.calibration_batch);
        status = gm_quantized_make(&q, loaded->model, loaded->data, &options, err);
    }
    args->report.sensitivity = args->spared ? GM_SENSITIVITY_SPARED : args->alone ? GM_SENSITIVITY_ALONE : GM_SENSITIVITY_NONE;
    if (status == GM_OK)
        status = gm_quantized_save(q, gm_data_tokenizer(loaded->data), args->out, err);
    if (status == GM_OK)
        status = gm_quantized_report(q, loaded->data, &args->report, on_progress, &progress, text, err);
    cli_progress_end();
    gm_quantized_free(q);
    return status;
}

static int quantize_run(const cli_command *command, void *arguments) {
    quantize_args *args = arguments;
    cli_loaded loaded;
    gm_error err = {.offset = -1};
    gm_quant_options options;
    char *text = NULL;
    if (!args->out) {
        cli_error(command->name, "--out is missing; give a folder for the quantized model");
        return CLI_USAGE;
    }
    if (args->alone && args->spared) {
        cli_error(command->name, "--sensitivity and --leave-one-out: give one of them");
        return CLI_USAGE;
    }
    if (cli_quant_fill(&options, &args->quant, &err) != GM_OK || check_paths(args, &err) != GM_OK)
        return cli_fail(command, &err);
    cli_catch_stop();
    int code = cli_load(&loaded, command, &args->common, &args->data);
    if (code != CLI_DONE)
        return code;
    gm_status status = quantize(args, &loaded, &text, &err);
    if (status == GM_ESTOPPED) {
        cli_error(command->name, "stopped; the model in %s is complete, the report is not", args->out);
        code = CLI_FAILED;
    } else if (status != GM_OK) {
        code = cli_fail(command, &err);
    } else if (args->common.json) {
        printf("%s\n", text);
    } else {
        json_t *root = json_loads(text, 0, NULL);
        print_perplexities(root);
        print_outliers(root);
        print_tensors(root, args->top);
        printf("\nThe quantized model is in %s\n", args->out);
        json_decref(root);
    }
    free(text);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_quantize = {
    .name = "quantize",
    .summary = "a model as integers, and what each tensor costs",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about =
        "Calibrates MODEL on the training split of some text, writes it with integer weights and the grids of its activations to --out,\n"
        "and prints perplexity in f32, simulated and executed on integers, and the noise of every tensor. eval, measure and generate\n"
        "take the folder as a model.",
    .example = "ghostmax quantize lab/runs/softmax-s1 --data stories --out quantized --sensitivity",
    .size = sizeof(quantize_args),
    .groups = quantize_groups,
    .defaults = quantize_defaults,
    .more_help = cli_help_quant_presets,
    .run = quantize_run,
};
