/* cmd_measure.c -- a trained model's outliers and sinks. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct measure_args {
    cli_common common;
    gm_data_options data;
    gm_measure_options measure;
} measure_args;

static void measure_defaults(void *args) {
    *(measure_args *)args = (measure_args){.measure = {.sequences = 64, .batch = 8}};
}

static const cli_option measure_options[] = {
    {"data", "SOURCE", "stories, bb, or a file; measured on its validation split", CLI_TEXT, offsetof(measure_args, data.source), 0, 0,
     "must be given"},
    {"tokenizer", "FILE", "tokenizer.json or llama2.c's tokenizer.bin, where the model carries none", CLI_TEXT,
     offsetof(measure_args, data.tokenizer), 0, 0, "the model's own"},
    {"context", "N", "tokens per sequence", CLI_COUNT, offsetof(measure_args, data.context), 1, 1 << 24, "the model's"},
    {"no-bos", NULL, "sequences do not begin with BOS", CLI_FLAG, offsetof(measure_args, data.no_bos), 0, 0, NULL},
    {"sequences", "N", "validation sequences", CLI_COUNT, offsetof(measure_args, measure.sequences), 1, 1e9, NULL},
    {"batch", "N", "sequences at a time", CLI_COUNT, offsetof(measure_args, measure.batch), 1, 1 << 16, NULL},
    {"convention", "NAME", "opt-code or bert-code: exactly what the published code computes", CLI_TEXT,
     offsetof(measure_args, measure.convention), 0, 0, "ours"},
    {0}};

static const cli_group measure_groups[] = {{"Options", measure_options, 0, false}, CLI_MACHINE, CLI_QUIET, CLI_JSON, CLI_END};

static void print_number(const json_t *root, const char *field, const char *label) {
    const json_t *value = json_object_get(root, field);
    if (json_is_number(value))
        printf("%-24s %.5g\n", label, json_number_value(value));
}

static void print_tensors(const json_t *tensors) {
    size_t i;
    const json_t *tensor;
    printf("\n%-32s %12s %12s\n", "tensor", "inf norm", "kurtosis");
    json_array_foreach(tensors, i, tensor) {
        const json_t *norm = json_object_get(tensor, "inf_norm"), *kurtosis = json_object_get(tensor, "kurtosis");
        const char *name = json_string_value(json_object_get(tensor, "name"));
        if (name && json_is_number(norm) && json_is_number(kurtosis))
            printf("%-32s %12.5g %12.5g\n", name, json_number_value(norm), json_number_value(kurtosis));
    }
}

static void print_summary(const json_t *root) {
    print_number(root, "max_inf_norm", "max inf norm");
    print_number(root, "max_ffn_inf_norm", "max inf norm, FFN");
    print_number(root, "max_all_inf_norm", "max inf norm, all");
    print_number(root, "avg_kurtosis", "average kurtosis");
    print_number(root, "max_kurtosis", "largest kurtosis");
    print_number(root, "sink_rate", "sink rate, %");
    print_number(root, "sink_mass", "mass on position 0");
    print_number(root, "null_mass", "null mass");
    print_number(root, "unspent", "unspent");
    print_tensors(json_object_get(root, "tensors"));
    printf("\n%zu massive activations, %zu outlier features (--json lists everything)\n", json_array_size(json_object_get(root, "massive")),
           json_array_size(json_object_get(root, "outlier_features")));
}

static int measure_run(const cli_command *command, void *arguments) {
    measure_args *args = arguments;
    cli_loaded loaded;
    gm_error err = {.offset = -1};
    char *text = NULL;
    int code = cli_load(&loaded, command, &args->common, &args->data);
    if (code != CLI_DONE)
        return code;
    args->measure.context = args->data.context;
    if (gm_measure_model(loaded.model, loaded.data, &args->measure, &text, &err) != GM_OK)
        code = cli_fail(command, &err);
    else if (args->common.json)
        printf("%s\n", text);
    else {
        json_t *root = json_loads(text, 0, NULL);
        print_summary(root);
        json_decref(root);
    }
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
    .about = "Measures the activations of the model in folder MODEL on the validation split of some data. docs/numerics.md defines\n"
             "every metric.",
    .example = "ghostmax measure lab/runs/softmax-s1 --data stories --json",
    .size = sizeof(measure_args),
    .groups = measure_groups,
    .defaults = measure_defaults,
    .run = measure_run,
};
