/* cmd_tokenize.c -- a text as a token file, so that later runs need not tokenize it again. */
#include "cli.h"

#include <unistd.h>

typedef struct tokenize_args {
    cli_common common;
    gm_data_options data;
    const char *out;
    bool force;
} tokenize_args;

static void tokenize_defaults(void *args) {
    *(tokenize_args *)args = (tokenize_args){.data.context = 1};
}

static const cli_option tokenize_options[] = {
    {"out", "FILE", "the token file; without it only the counts are printed", CLI_TEXT, offsetof(tokenize_args, out), 0, 0, NULL},
    {"tokens", "KIND", "bytes, chars, words or bpe", CLI_TEXT, offsetof(tokenize_args, data.tokens), 0, 0, "words"},
    {"vocab", "N", "words: how many, the rest becomes <unk>; bpe: how many tokens", CLI_COUNT, offsetof(tokenize_args, data.vocab), 2,
     1 << 24, "of the data source"},
    {"keep-case", NULL, "words: do not lower-case", CLI_FLAG, offsetof(tokenize_args, data.keep_case), 0, 0, NULL},
    {"tokenizer", "FILE", "use this tokenizer.json or tokenizer.bin instead of building one", CLI_TEXT,
     offsetof(tokenize_args, data.tokenizer), 0, 0, NULL},
    {"force", NULL, "overwrite --out when it exists", CLI_FLAG, offsetof(tokenize_args, force), 0, 0, NULL},
    {0}};

static const cli_group tokenize_groups[] = {{"Options", tokenize_options, 0, false}, CLI_JSON, CLI_END};

static void print_result(const tokenize_args *args, const gm_data *data) {
    const gm_tokenizer *tokenizer = gm_data_tokenizer(data);
    double bytes = gm_data_bytes_per_token(data);
    int64_t train = gm_data_train_tokens(data);
    bool endless = train < 0;
    char count[32] = "endless";
    if (!endless)
        snprintf(count, sizeof count, "%lld", (long long)train);
    if (args->common.json)
        cli_print_json(json_pack("{s:s, s:s, s:I, s:o, s:I, s:o, s:s*}", "data", args->data.source, "tokens", gm_tokenizer_kind(tokenizer),
                                 "vocab", (json_int_t)gm_tokenizer_vocab(tokenizer), "train_tokens",
                                 endless ? json_null() : json_integer(train), "validation_tokens",
                                 (json_int_t)gm_data_validation_count(data), "bytes_per_token", cli_json_number(bytes), "out", args->out));
    else
        printf("%s: %s, vocabulary %lld, %s tokens to train on, %lld to validate on, %.2f bytes per token\n", args->data.source,
               gm_tokenizer_kind(tokenizer), (long long)gm_tokenizer_vocab(tokenizer), count, (long long)gm_data_validation_count(data),
               bytes);
}

static int tokenize_run(const cli_command *command, void *arguments) {
    tokenize_args *args = arguments;
    gm_error err = {.offset = -1};
    gm_data *data = NULL;
    int code = CLI_DONE;
    args->data.source = args->common.operands[0];
    if (args->out && !args->force && access(args->out, F_OK) == 0) {
        cli_error(command->name, "'%s' exists; give another --out, or --force to overwrite it", args->out);
        return CLI_FAILED;
    }
    if (gm_data_open(&data, &args->data, &err) != GM_OK || (args->out && gm_data_write_tokens(data, args->out, &err) != GM_OK))
        code = cli_fail(command, &err);
    else
        print_result(args, data);
    gm_data_free(data);
    return code;
}

const cli_command cli_command_tokenize = {
    .name = "tokenize",
    .summary = "a text as a token file, or only its counts",
    .operands = "FILE",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Tokenizes a text and writes a token file, which `--data` reads without tokenizing again (same split, same sequences).",
    .example = "ghostmax tokenize book.txt --tokens words --vocab 4096 --out book.tokens",
    .size = sizeof(tokenize_args),
    .groups = tokenize_groups,
    .defaults = tokenize_defaults,
    .run = tokenize_run,
};
