/* cmd_tokenize.c -- texts to tokens and back: a token file for later runs, ids on stdout, counts, and training a tokenizer. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tokenize_args {
    cli_common common;
    gm_data_options data;
    const char *out, *train;
    bool ids, lines, decode, count, force;
} tokenize_args;

static void tokenize_defaults(void *args) {
    *(tokenize_args *)args = (tokenize_args){.data.context = 1};
}

#define FLAG(name, field, help) \
    { name, NULL, help, CLI_FLAG, offsetof(tokenize_args, field), 0, 0, NULL }
static const cli_option tokenize_options[] = {
    {"out", "FILE", "the token file (with --train: the tokenizer); without it only the counts are printed", CLI_TEXT,
     offsetof(tokenize_args, out), 0, 0, NULL},
    {"tokens", "bytes|chars|words|bpe", "what a token is", CLI_TEXT, offsetof(tokenize_args, data.tokens), 0, 0, "words"},
    {"vocab", "N", "words: how many, the rest becomes <unk>; bpe: how many tokens", CLI_COUNT, offsetof(tokenize_args, data.vocab), 2,
     1 << 24, "of the data source"},
    {"keep-case", NULL, "words: do not lower-case", CLI_FLAG, offsetof(tokenize_args, data.keep_case), 0, 0, NULL},
    {"tokenizer", "PATH", "tokenizer.json or .model or .bin, encoder.json (vocab.bpe beside it), vocab.txt, a .gguf, or a folder with one",
     CLI_TEXT, offsetof(tokenize_args, data.tokenizer), 0, 0, NULL},
    {"train", "bpe|words|chars", "make a tokenizer of the text (--vocab N tokens) and write it to --out", CLI_TEXT,
     offsetof(tokenize_args, train), 0, 0, NULL},
    FLAG("ids", ids, "print the ids of --tokenizer"),
    FLAG("lines", lines, "with --ids: each line of the text alone, its ids on one line"),
    FLAG("decode", decode, "FILE holds ids: print their text, without special tokens"),
    FLAG("count", count, "print how many tokens the text has"),
    FLAG("force", force, "overwrite --out when it exists"),
    {0}};

static const cli_group tokenize_groups[] = {{"Options", tokenize_options, 0, false}, CLI_JSON, CLI_END};

static gm_status failed(gm_error *err, gm_status code, const char *message) {
    *err = (gm_error){.code = code, .offset = -1};
    snprintf(err->msg, sizeof err->msg, "%s", message);
    return code;
}

/* ---- ids, text, counts ----------------------------------------------------------------------------------------------------------------
 */

/* One line of ids. */
static gm_status print_ids(const gm_tokenizer *t, const char *text, size_t size, size_t offset, gm_error *err) {
    int32_t *ids;
    int64_t count;
    gm_status status = gm_tokenizer_encode(t, text, size, &ids, &count, err);
    if (status != GM_OK) {
        if (err->offset >= 0)
            err->offset += (int64_t)offset;
        return status;
    }
    for (int64_t i = 0; i < count; i++)
        printf(i ? " %d" : "%d", ids[i]);
    putchar('\n');
    gm_tokens_free(ids);
    return GM_OK;
}

static gm_status print_lines(const gm_tokenizer *t, const char *text, size_t size, gm_error *err) {
    gm_status status = GM_OK;
    for (size_t at = 0, n; at < size && status == GM_OK; at += n + 1) {
        const char *end = memchr(text + at, '\n', size - at);
        n = end ? (size_t)(end - text) - at : size - at;
        status = print_ids(t, text + at, n, at, err);
    }
    return status;
}

/* The number at text[*at] and past the white space before it. False: there is none any more. */
static bool next_number(const char *text, size_t size, size_t *at, char *number, size_t room) {
    size_t n = 0;
    while (*at < size && isspace((unsigned char)text[*at]))
        ++*at;
    while (*at + n < size && n < room - 1 && !isspace((unsigned char)text[*at + n]))
        n++;
    memcpy(number, text + *at, n);
    number[n] = 0;
    return n > 0;
}

/* All ids are looked at before the first is printed. Special tokens, which print nothing, leave the space between their neighbours. */
static gm_status print_text(const gm_tokenizer *t, const char *text, size_t size, gm_error *err) {
    long long vocab = (long long)gm_tokenizer_vocab(t);
    char number[24];
    for (int print = 0; print < 2; print++) {
        int32_t previous = -1;
        for (size_t at = 0; next_number(text, size, &at, number, sizeof number); at += strlen(number)) {
            char *end;
            long long id = strtoll(number, &end, 10);
            if (*end || id < 0 || id >= vocab) {
                *err = (gm_error){.code = GM_EFORMAT, .offset = (int64_t)at};
                snprintf(err->msg, sizeof err->msg, "'%s' (byte %zu) is no id of a vocabulary of %lld tokens", number, at, vocab);
                return GM_EFORMAT;
            }
            size_t length;
            const char *piece = gm_tokenizer_piece(t, previous, (int32_t)id, &length);
            if (print)
                fwrite(piece, 1, length, stdout);
            if (length || gm_tokenizer_class(t, (int32_t)id) == GM_CLASS_WHITESPACE)
                previous = (int32_t)id;
        }
    }
    return GM_OK;
}

static gm_status print_count(const tokenize_args *args, const gm_tokenizer *t, const char *text, size_t size, gm_error *err) {
    int32_t *ids;
    int64_t count;
    gm_status status = gm_tokenizer_encode(t, text, size, &ids, &count, err);
    if (status != GM_OK)
        return status;
    gm_tokens_free(ids);
    double per = count ? (double)size / (double)count : 0;
    if (args->common.json)
        cli_print_json(json_pack("{s:I, s:I, s:f}", "tokens", (json_int_t)count, "bytes", (json_int_t)size, "bytes_per_token", per));
    else
        printf("%lld tokens, %zu bytes, %.3f bytes per token\n", (long long)count, size, per);
    return GM_OK;
}

static gm_status print_with_tokenizer(const tokenize_args *args, gm_error *err) {
    gm_tokenizer *t = NULL;
    char *text = NULL;
    size_t size = 0;
    if (!args->data.tokenizer)
        return failed(err, GM_EINVAL, "--ids, --lines, --decode and --count need --tokenizer FILE");
    gm_status status = gm_tokenizer_load(&t, args->data.tokenizer, err);
    if (status == GM_OK)
        status = cli_read_text(args->common.operands[0], SIZE_MAX / 4, &text, &size, err);
    if (status == GM_OK)
        status = args->decode  ? print_text(t, text, size, err)
                 : args->count ? print_count(args, t, text, size, err)
                 : args->lines ? print_lines(t, text, size, err)
                               : print_ids(t, text, size, 0, err);
    free(text);
    gm_tokenizer_free(t);
    return status;
}

/* ---- training ---------------------------------------------------------------------------------------------------------------------------
 */

static gm_status train(const tokenize_args *args, gm_error *err) {
    gm_tokenizer *t = NULL;
    char *text = NULL;
    size_t size = 0;
    if (!args->out)
        return failed(err, GM_EINVAL, "--train needs --out FILE for the tokenizer");
    if (args->data.tokenizer || args->data.tokens)
        return failed(err, GM_EINVAL, "--train makes a tokenizer; leave --tokenizer and --tokens out");
    gm_status status = cli_read_text(args->common.operands[0], SIZE_MAX / 4, &text, &size, err);
    if (status == GM_OK)
        status = gm_tokenizer_build(&t, args->train, text, size, args->data.vocab, !args->data.keep_case, err);
    if (status == GM_OK)
        status = gm_tokenizer_save(t, args->out, err);
    if (status == GM_OK && args->common.json)
        cli_print_json(
            json_pack("{s:s, s:I, s:s}", "kind", gm_tokenizer_kind(t), "vocab", (json_int_t)gm_tokenizer_vocab(t), "out", args->out));
    else if (status == GM_OK)
        printf("%s: %s, vocabulary %lld\n", args->out, gm_tokenizer_kind(t), (long long)gm_tokenizer_vocab(t));
    free(text);
    gm_tokenizer_free(t);
    return status;
}

/* ---- token files
 * -------------------------------------------------------------------------------------------------------------------------- */

static void print_result(const tokenize_args *args, const gm_data *data) {
    const gm_tokenizer *tokenizer = gm_data_tokenizer(data);
    double bytes = gm_data_bytes_per_token(data);
    int64_t train_tokens = gm_data_train_tokens(data);
    bool endless = train_tokens < 0;
    char count[32] = "endless";
    if (!endless)
        snprintf(count, sizeof count, "%lld", (long long)train_tokens);
    if (args->common.json)
        cli_print_json(json_pack("{s:s, s:s, s:I, s:o, s:I, s:o, s:s*}", "data", args->data.source, "tokens", gm_tokenizer_kind(tokenizer),
                                 "vocab", (json_int_t)gm_tokenizer_vocab(tokenizer), "train_tokens",
                                 endless ? json_null() : json_integer(train_tokens), "validation_tokens",
                                 (json_int_t)gm_data_validation_count(data), "bytes_per_token", cli_json_number(bytes), "out", args->out));
    else
        printf("%s: %s, vocabulary %lld, %s tokens to train on, %lld to validate on, %.2f bytes per token\n", args->data.source,
               gm_tokenizer_kind(tokenizer), (long long)gm_tokenizer_vocab(tokenizer), count, (long long)gm_data_validation_count(data),
               bytes);
}

static gm_status make_token_file(const tokenize_args *args, gm_error *err) {
    gm_data *data = NULL;
    gm_data_options options = args->data;
    gm_status status = GM_OK;
    if (options.tokenizer) { /* one without BOS is welcome: nothing is trained here */
        gm_tokenizer *t = NULL;
        status = gm_tokenizer_load(&t, options.tokenizer, err);
        options.no_bos = status == GM_OK && gm_tokenizer_bos(t) < 0;
        gm_tokenizer_free(t);
    }
    if (status == GM_OK)
        status = gm_data_open(&data, &options, err);
    if (status == GM_OK && args->out)
        status = gm_data_write_tokens(data, args->out, err);
    if (status == GM_OK)
        print_result(args, data);
    gm_data_free(data);
    return status;
}

static int tokenize_run(const cli_command *command, void *arguments) {
    tokenize_args *args = arguments;
    gm_error err = {.offset = -1};
    bool print = args->ids || args->lines || args->decode || args->count;
    args->data.source = args->common.operands[0];
    if (args->out && !args->force && access(args->out, F_OK) == 0) {
        cli_error(command->name, "'%s' exists; give another --out, or --force to overwrite it", args->out);
        return CLI_FAILED;
    }
    if (print && (args->out || args->train)) {
        cli_error(command->name, "%s prints, %s writes a file; give one of them",
                  args->decode  ? "--decode"
                  : args->count ? "--count"
                                : "--ids",
                  args->train ? "--train" : "--out");
        return CLI_USAGE;
    }
    gm_status status = print ? print_with_tokenizer(args, &err) : args->train ? train(args, &err) : make_token_file(args, &err);
    return status == GM_OK ? CLI_DONE : cli_fail(command, &err);
}

const cli_command cli_command_tokenize = {
    .name = "tokenize",
    .summary = "texts as tokens, token files or counts; trains tokenizers",
    .operands = "FILE",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Tokenizes a text and writes a token file, which `--data` reads without tokenizing again (same split, same sequences). "
             "Prints ids, texts (--decode) and counts with any tokenizer; trains byte-level BPE and writes a tokenizer.json that Hugging "
             "Face's library loads. FILE - is standard input for what prints or trains.",
    .example = "ghostmax tokenize book.txt --train bpe --vocab 4096 --out tokenizer.json",
    .size = sizeof(tokenize_args),
    .groups = tokenize_groups,
    .defaults = tokenize_defaults,
    .run = tokenize_run,
};
