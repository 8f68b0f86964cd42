/* cmd_convert.c -- a model in another program's files. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct convert_args {
    cli_common common;
    const char *out, *tokenizer, *zero_token, *shard;
    gm_convert_options o;
    int format; /* of --to; -1: not given */
} convert_args;

#define FORMATS "hf|gguf|llama2c"

static void convert_defaults(void *args) {
    *(convert_args *)args = (convert_args){.format = -1, .zero_token = "auto"};
}

static const cli_option convert_options[] = {
    {"to", FORMATS, "a Hugging Face folder, one GGUF file (llama.cpp), one llama2.c file", CLI_CHOICE, offsetof(convert_args, format), 0, 0,
     "must be given"},
    {"out", "PATH", "the folder or file to write", CLI_TEXT, offsetof(convert_args, out), 0, 0, "must be given"},
    {"dtype", "f32|f16|bf16|q8_0", "of the matrices; vectors stay f32 (hf: of all tensors)", CLI_CHOICE, offsetof(convert_args, o.dtype), 0,
     0, NULL},
    {"tokenizer", "FILE", "the tokenizer to store, where the model carries none", CLI_TEXT, offsetof(convert_args, tokenizer), 0, 0,
     "the model's own"},
    {"zero-token", "auto|N|off",
     "softmax1 (N = 1) and softmax_n as plain softmax behind N tokens of embedding zero, so that a stock runtime gives the same logits; "
     "auto: where the variant needs it; off: keep the variant (hf: as ghostmax_<family>)",
     CLI_TEXT, offsetof(convert_args, zero_token), 0, 0, NULL},
    {"max-shard-size", "SIZE", "hf: split the weights into files of at most this size, as 5GB or 500MB", CLI_TEXT,
     offsetof(convert_args, shard), 0, 0, "one file"},
    {"force", NULL, "overwrite what is there", CLI_FLAG, offsetof(convert_args, o.force), 0, 0, NULL},
    {0}};

static const cli_group convert_groups[] = {{"Options", convert_options, 0, false}, CLI_MACHINE, CLI_JSON, CLI_END};

/* "5GB", "500MB", "64KB", "1000": decimal, as Hugging Face's own. */
static gm_status parse_size(int64_t *out, const char *text, gm_error *err) {
    static const struct {
        const char *suffix;
        int64_t unit;
    } units[] = {{"KB", 1000}, {"MB", 1000000}, {"GB", 1000000000}, {"B", 1}, {"", 1}};
    char number[32];
    size_t digits = strspn(text, "0123456789");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text + digits, units[i].suffix) == 0 && digits < sizeof number) {
            snprintf(number, sizeof number, "%.*s", (int)digits, text);
            gm_status status = gm_text_int(out, number, 1, INT64_MAX / units[i].unit, "--max-shard-size", err);
            *out *= units[i].unit;
            return status;
        }
    }
    *err = (gm_error){.code = GM_EINVAL, .offset = -1};
    snprintf(err->msg, sizeof err->msg, "--max-shard-size is '%.40s'; say it as 5GB, 500MB, 64KB or a number of bytes", text);
    return GM_EINVAL;
}

static gm_status parse_zero_token(int64_t *out, const char *text, gm_error *err) {
    if (strcmp(text, "auto") == 0)
        *out = GM_ZERO_TOKENS_AUTO;
    else if (strcmp(text, "off") == 0)
        *out = 0;
    else
        return gm_text_int(out, text, 0, 4096, "--zero-token (auto, off or a number)", err);
    return GM_OK;
}

static void print_json(const convert_args *args, const char *variant, const gm_convert_result *r) {
    json_t *prompt = json_array();
    for (int64_t i = 0; i < r->zero_tokens; i++)
        json_array_append_new(prompt, json_integer(r->zero_token));
    static const char *const bos[] = {[GM_BOS_UNKNOWN] = "unknown", [GM_BOS_NEVER] = "never", [GM_BOS_ALWAYS] = "always"};
    cli_print_json(json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:o, s:o, s:s, s:b}", "out", args->out, "architecture", r->architecture,
                             "dtype", gm_dtype_name(args->o.dtype), "vocab", (json_int_t)r->vocab, "context", (json_int_t)r->context,
                             "attention", variant, "zero_token", r->zero_tokens ? json_integer(r->zero_token) : json_null(),
                             "prompt_prefix", prompt, "trained_with_bos", bos[r->bos], "tokenizer", r->text));
}

/* What whoever runs the file must know. */
static void print_zero_token(const convert_args *args, const char *variant, const gm_convert_result *r) {
    char prefix[64];
    if (r->zero_tokens == 1)
        snprintf(prefix, sizeof prefix, "%d", r->zero_token);
    else
        snprintf(prefix, sizeof prefix, "%d x %lld", r->zero_token, (long long)r->zero_tokens);
    printf("%s became softmax behind token %d, the zero token, which is now BOS. The prompt is [%s, %stext]%s\n", variant, r->zero_token,
           prefix, r->bos == GM_BOS_ALWAYS ? "the BOS that it was trained with, " : "",
           r->zero_tokens > 1                 ? "; a runtime adds one BOS, pass the others."
           : r->bos == GM_BOS_ALWAYS          ? "; a runtime adds the zero token, pass the other."
           : args->o.format == GM_FORMAT_GGUF ? "; llama.cpp begins every text so."
                                              : ".");
    if (r->bos == GM_BOS_UNKNOWN)
        printf("Whether it was trained with BOS is not written in it; if so, that BOS stands between the zero token and the text.\n");
    printf("Its logit is always 0: suppress token %d when sampling (a logit bias of -inf%s).\n", r->zero_token,
           args->o.format == GM_FORMAT_HF ? "; generation_config.json says so to transformers" : "");
}

static int report(const convert_args *args, const gm_model *m, const gm_convert_result *r) {
    char variant[256];
    gm_variant_format(variant, sizeof variant, &gm_model_config_of(m)->attention);
    if (args->common.json) {
        print_json(args, variant, r);
        return CLI_DONE;
    }
    static const char *const no_text[] = {[GM_FORMAT_HF] = "; without a tokenizer of transformers' own format: give it token ids",
                                          [GM_FORMAT_GGUF] = "; without a tokenizer that llama.cpp cuts texts by: give it token ids",
                                          [GM_FORMAT_LLAMA2C] = "; without a tokenizer that run.c reads"};
    printf("%s: %s, %lld tokens, context %lld, %s%s\n", args->out, r->architecture, (long long)r->vocab, (long long)r->context,
           gm_dtype_name(args->o.dtype), r->text ? "" : no_text[args->o.format]);
    if (r->zero_tokens)
        print_zero_token(args, variant, r);
    return CLI_DONE;
}

static int convert_run(const cli_command *command, void *arguments) {
    convert_args *args = arguments;
    gm_error err = {.offset = -1};
    cli_loaded loaded;
    gm_tokenizer *tokenizer = NULL;
    gm_convert_result result;
    if (args->format < 0 || !args->out) {
        cli_error(command->name, "--%s",
                  args->format < 0 ? "to is missing; give hf, gguf or llama2c" : "out is missing; name what to write");
        return CLI_USAGE;
    }
    args->o.format = (gm_format)args->format;
    if (parse_zero_token(&args->o.zero_tokens, args->zero_token, &err) != GM_OK ||
        (args->shard && parse_size(&args->o.max_shard_bytes, args->shard, &err) != GM_OK))
        return cli_fail(command, &err);
    int code = cli_load(&loaded, command, &args->common, NULL);
    if (code != CLI_DONE)
        return code;
    const char *path = args->tokenizer ? args->tokenizer : cli_tokenizer_beside(&loaded, args->common.operands[0]);
    if ((path && gm_tokenizer_load(&tokenizer, path, &err) != GM_OK) || cli_check_tokenizer(loaded.model, tokenizer, &err) != GM_OK ||
        gm_convert(loaded.model, tokenizer, args->out, &args->o, &result, &err) != GM_OK)
        code = cli_fail(command, &err);
    else
        code = report(args, loaded.model, &result);
    gm_tokenizer_free(tokenizer);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_convert = {
    .name = "convert",
    .summary = "a model as Hugging Face folder, GGUF or llama2.c file",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about =
        "Writes MODEL, with its tokenizer, in another program's format. A softmax1 llama becomes one that llama.cpp and transformers run "
        "as it is.",
    .example = "ghostmax convert runs/quiet --to gguf --out quiet.gguf",
    .size = sizeof(convert_args),
    .groups = convert_groups,
    .defaults = convert_defaults,
    .run = convert_run,
};
