/* cmd_info.c -- this build on this machine; a model's shapes, size and cost before anything is allocated; what is built in. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct info_args {
    cli_common common;
    const char *model, *attention;
    bool variants, presets, sources;
    int64_t batch;
    cli_overrides shape;
} info_args;

static void info_defaults(void *args) {
    *(info_args *)args = (info_args){.attention = "softmax", .batch = 1};
}

static const cli_option info_options[] = {
    {"model", "PRESET", "print this model's tensors, parameters, FLOPs and memory", CLI_TEXT, offsetof(info_args, model), 0, 0, NULL},
    {"attention", "VARIANT", "its attention variant", CLI_TEXT, offsetof(info_args, attention), 0, 0, NULL},
    {"batch", "N", "sequences per step, for the memory", CLI_COUNT, offsetof(info_args, batch), 1, 1 << 20, NULL},
    {"presets", NULL, "list the presets", CLI_FLAG, offsetof(info_args, presets), 0, 0, NULL},
    {"variants", NULL, "list the attention variants", CLI_FLAG, offsetof(info_args, variants), 0, 0, NULL},
    {"sources", NULL, "list the data sources", CLI_FLAG, offsetof(info_args, sources), 0, 0, NULL},
    {0}};

static const cli_group info_groups[] = {{"Options", info_options, 0, false},
                                        {"Dimensions that replace the preset's", NULL, offsetof(info_args, shape), false},
                                        CLI_MACHINE,
                                        CLI_JSON,
                                        CLI_END};

static void format_bytes(char *dst, size_t size, double bytes) {
    if (bytes < 1e9)
        snprintf(dst, size, "%.1f MB", bytes / 1e6);
    else
        snprintf(dst, size, "%.2f GB", bytes / 1e9);
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------ */

static int show_machine(const cli_command *command, const info_args *args) {
    gm_ctx *ctx;
    gm_error err = {0};
    if (cli_context(&ctx, &args->common, &err) != GM_OK)
        return cli_fail(command, &err);
    if (args->common.json) {
        json_t *facts = cli_build_json();
        json_object_set_new(facts, "isa", json_string(gm_ctx_isa(ctx)));
        json_object_set_new(facts, "gemm", json_string(gm_ctx_gemm(ctx)));
        json_object_set_new(facts, "threads", json_integer(gm_ctx_threads(ctx)));
        cli_print_json(facts);
    } else {
        cli_print_build(false);
        printf("\nin use here\nkernels   %s\nproducts  %s\nthreads   %d\n", gm_ctx_isa(ctx), gm_ctx_gemm(ctx), gm_ctx_threads(ctx));
    }
    gm_ctx_free(ctx);
    return CLI_DONE;
}

/* ---- a model ---------------------------------------------------------------------------------------------------------------- */

/* The vocabulary of the first data source that names this preset: a preset alone does not know it. */
static int64_t usual_vocab(const char *preset) {
    const gm_data_defaults *d;
    for (int i = 0; (d = gm_data_default_list(i)); i++) {
        if (d->vocab > 0 && strcmp(d->model, preset) == 0)
            return d->vocab;
    }
    return 4096;
}

static void print_model_json(const gm_model_config *cfg, const gm_model_size *size, const char *attention) {
    json_t *tensors = json_array();
    char name[64];
    int64_t rows, cols;
    for (int i = 0; i < gm_model_config_tensor(cfg, i, name, sizeof name, &rows, &cols); i++)
        json_array_append_new(tensors, json_pack("{s:s, s:I, s:I}", "name", name, "rows", (json_int_t)rows, "cols", (json_int_t)cols));
    json_t *config =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "vocab", (json_int_t)cfg->vocab, "context", (json_int_t)cfg->context,
                  "layers", (json_int_t)cfg->layers, "heads", (json_int_t)cfg->heads, "kv_heads", (json_int_t)cfg->kv_heads, "width",
                  (json_int_t)cfg->width, "head_dim", (json_int_t)cfg->head_dim, "ffn", (json_int_t)cfg->ffn);
    cli_print_json(json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:o}", "model", cfg->preset, "attention", attention,
                             "config", config, "parameters", (json_int_t)size->parameters, "parameters_without_embeddings",
                             (json_int_t)size->parameters_without_embeddings, "attention_parameters_extra",
                             (json_int_t)size->attention_parameters_extra, "flops_per_token_forward", size->flops_per_token_forward,
                             "flops_per_token_train", size->flops_per_token_train, "parameter_bytes", (json_int_t)size->parameter_bytes,
                             "forward_bytes", (json_int_t)size->forward_bytes, "train_bytes", (json_int_t)size->train_bytes, "tensors",
                             tensors));
}

static void print_model(const gm_model_config *cfg, const gm_model_size *size, const char *attention, int64_t batch) {
    char name[64], parameters[32], train_flops[32], forward_flops[32], parameter_bytes[32], forward_bytes[32], train_bytes[32];
    int64_t rows, cols;
    printf("%s, attention %s: %lld layers, %lld heads (%lld key/value) of %lld, width %lld, ffn %lld, vocabulary %lld, context %lld\n\n",
           cfg->preset, attention, (long long)cfg->layers, (long long)cfg->heads, (long long)cfg->kv_heads, (long long)cfg->head_dim,
           (long long)cfg->width, (long long)cfg->ffn, (long long)cfg->vocab, (long long)cfg->context);
    printf("%-24s %10s %10s %14s\n", "tensor", "rows", "columns", "parameters");
    for (int i = 0; i < gm_model_config_tensor(cfg, i, name, sizeof name, &rows, &cols); i++) {
        char columns[32] = "";
        if (cols > 1)
            snprintf(columns, sizeof columns, "%lld", (long long)cols);
        printf("%-24s %10lld %10s %14lld\n", name, (long long)rows, columns, (long long)(rows * cols));
    }
    cli_format_count(parameters, sizeof parameters, (double)size->parameters);
    cli_format_count(train_flops, sizeof train_flops, size->flops_per_token_train);
    cli_format_count(forward_flops, sizeof forward_flops, size->flops_per_token_forward);
    format_bytes(parameter_bytes, sizeof parameter_bytes, (double)size->parameter_bytes);
    format_bytes(forward_bytes, sizeof forward_bytes, (double)size->forward_bytes);
    format_bytes(train_bytes, sizeof train_bytes, (double)size->train_bytes);
    printf("\nparameters   %lld (%s); without embeddings %lld; of the attention variant %lld\n", (long long)size->parameters, parameters,
           (long long)size->parameters_without_embeddings, (long long)size->attention_parameters_extra);
    printf("per token    %s FLOP forward, %s FLOP training\n", forward_flops, train_flops);
    printf("memory       %s parameters; %s to run, %s to train %lld x %lld tokens\n", parameter_bytes, forward_bytes, train_bytes,
           (long long)batch, (long long)cfg->context);
}

static int show_model(const cli_command *command, const info_args *args) {
    gm_error err = {0};
    gm_model_config cfg;
    gm_model_size size;
    char attention[256];
    if (gm_model_config_preset(&cfg, args->model, &err) != GM_OK || gm_variant_parse(&cfg.attention, args->attention, &err) != GM_OK ||
        gm_model_config_override(&cfg, args->shape.text, &err) != GM_OK)
        return cli_fail(command, &err);
    bool assumed = cfg.vocab == 0;
    if (assumed)
        cfg.vocab = usual_vocab(cfg.preset);
    if (gm_model_config_check(&cfg, &err) != GM_OK)
        return cli_fail(command, &err);
    gm_model_config_size(&size, &cfg, args->batch, cfg.context);
    gm_variant_format(attention, sizeof attention, &cfg.attention);
    if (assumed && !args->common.json)
        cli_note("ghostmax info: the vocabulary comes from the data; shown for %lld (--vocab N)", (long long)cfg.vocab);
    if (args->common.json)
        print_model_json(&cfg, &size, attention);
    else
        print_model(&cfg, &size, attention, args->batch);
    return CLI_DONE;
}

/* ---- a file or folder -------------------------------------------------------------------------------------------------------- */

/* A file's own words: a terminal gets none of its control characters. */
static void print_text(const char *text) {
    for (; *text; text++)
        putchar((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text);
}

static void print_value(const char *key, json_t *value) {
    char number[32];
    if (json_is_integer(value) && json_integer_value(value) >= 100000) {
        cli_format_count(number, sizeof number, (double)json_integer_value(value));
        printf("%lld (%s)", (long long)json_integer_value(value), number);
    } else if (json_is_string(value)) {
        print_text(json_string_value(value));
    } else if (json_is_boolean(value)) {
        printf("%s", json_is_true(value) ? "yes" : "no");
    } else if (json_is_number(value)) {
        printf("%.6g", json_number_value(value));
    } else if (json_is_array(value)) {
        size_t i;
        json_t *element;
        json_array_foreach(value, i, element) {
            printf("%s", i ? ", " : "");
            print_value(key, element);
        }
    } else if (json_is_object(value)) {
        const char *name, *comma = "";
        json_t *field;
        json_object_foreach(value, name, field) {
            printf("%s", comma);
            print_text(name);
            printf(" ");
            print_value(name, field);
            comma = ", ";
        }
    } else {
        printf("none");
    }
}

static int show_file(const cli_command *command, const info_args *args) {
    gm_error err = {0};
    char *json;
    if (gm_file_describe(args->common.operands[0], &json, &err) != GM_OK)
        return cli_fail(command, &err);
    json_t *root = json_loads(json, 0, NULL);
    free(json);
    if (args->common.json) {
        cli_print_json(root);
        return CLI_DONE;
    }
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        printf("%-18s ", key);
        print_value(key, value);
        printf("\n");
    }
    json_decref(root);
    return CLI_DONE;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------------ */

static void print_lists_json(const info_args *args) {
    json_t *root = json_object();
    const gm_preset_info *p;
    const gm_variant_info *v;
    const gm_data_defaults *d;
    if (args->presets) {
        json_t *list = json_array();
        for (int i = 0; (p = gm_preset_list(i)); i++)
            json_array_append_new(list, json_pack("{s:s, s:s}", "name", p->name, "summary", p->summary));
        json_object_set_new(root, "presets", list);
    }
    if (args->variants) {
        json_t *list = json_array();
        for (int i = 0; (v = gm_variant_list(i)); i++)
            json_array_append_new(
                list, json_pack("{s:s, s:s, s:s, s:s}", "name", v->name, "keys", v->keys, "summary", v->summary, "source", v->source));
        json_object_set_new(root, "variants", list);
    }
    if (args->sources) {
        json_t *list = json_array();
        for (int i = 0; (d = gm_data_default_list(i)); i++)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:I, s:s}", "source", d->source, "summary",
                                                  d->summary, "model", d->model, "tokens", d->tokens, "batch", (json_int_t)d->batch,
                                                  "context", (json_int_t)d->context, "steps", (json_int_t)d->steps, "lr", d->lr, "seeds",
                                                  (json_int_t)d->seeds, "variants", d->variants));
        json_object_set_new(root, "sources", list);
    }
    cli_print_json(root);
}

static int info_run(const cli_command *command, void *arguments) {
    const info_args *args = arguments;
    bool lists = args->presets || args->variants || args->sources;
    if (args->common.operand_count > 0) {
        if (!lists && !args->model && !*args->shape.text)
            return show_file(command, args);
        cli_error(command->name, "a file describes itself: --model, dimensions and lists go without '%s'", args->common.operands[0]);
        return CLI_USAGE;
    }
    if (lists && args->common.json) {
        print_lists_json(args);
        return CLI_DONE;
    }
    cli_page page = {.out = stdout};
    if (args->presets)
        cli_help_presets(&page);
    if (args->variants)
        cli_help_variants(&page);
    if (args->sources)
        cli_help_sources(&page);
    if (args->model)
        return show_model(command, args);
    if (*args->shape.text) {
        cli_error(command->name, "dimensions need a model to change; add --model PRESET (`ghostmax info --presets` lists them)");
        return CLI_USAGE;
    }
    return lists ? CLI_DONE : show_machine(command, args);
}

const cli_command cli_command_info = {
    .name = "info",
    .summary = "what a file, a preset or this build is; what is built in",
    .operands = "[FILE|DIR]",
    .operands_max = 1,
    .about =
        "With a file or folder: what it is. Models (Hugging Face folders, safetensors, GGUF, llama2.c), tokenizers, token files, runs and\n"
        "labs; weights are not read, so it takes no time. With --model: every tensor's shape, the parameter count, FLOPs per token and\n"
        "memory, before anything is allocated. Without either: version, kernels and threads.",
    .example = "ghostmax info my-model && ghostmax info --model gpt2-mini --attention softmax1+gated --layers 12 --batch 16",
    .size = sizeof(info_args),
    .groups = info_groups,
    .defaults = info_defaults,
    .run = info_run,
};
