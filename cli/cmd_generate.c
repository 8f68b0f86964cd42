/* cmd_generate.c -- text from a trained model, sampled token by token. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct generate_args {
    cli_common common;
    const char *prompt, *prompt_file, *tokenizer;
    int64_t tokens, samples;
    cli_texts stop;
    gm_sampling sampling;
} generate_args;

static void generate_defaults(void *args) {
    generate_args *a = args;
    *a = (generate_args){.tokens = 256, .samples = 1};
    gm_sampling_defaults(&a->sampling);
}

#define SAMPLING(field) offsetof(generate_args, sampling.field)
static const cli_option generate_options[] = {
    {"prompt", "TEXT",
     "begin with this, behind BOS unless the model was trained with --no-bos; other programs' models begin with BOS only where their "
     "tokenizer puts one",
     CLI_TEXT, offsetof(generate_args, prompt), 0, 0, "BOS alone"},
    {"prompt-file", "FILE", "begin with this file's text; -: standard input", CLI_TEXT, offsetof(generate_args, prompt_file), 0, 0, NULL},
    {"tokens", "N", "how many to generate at most; past the context the model goes on with the last half of it", CLI_COUNT,
     offsetof(generate_args, tokens), 1, 1e9, NULL},
    {"samples", "N", "texts from the same prompt, with --seed, --seed + 1, ...; a line --- stands between them", CLI_COUNT,
     offsetof(generate_args, samples), 1, 1e6, NULL},
    {"stop", "TEXT", "end before this text; may be given several times", CLI_TEXTS, offsetof(generate_args, stop), 0, 0,
     "only where the model ends"},
    {"tokenizer", "FILE", "the model's tokenizer, where it carries none", CLI_TEXT, offsetof(generate_args, tokenizer), 0, 0,
     "the model's own"},
    {0}};

static const cli_option sampling_options[] = {
    {"temperature", "X", "0: always the most likely token", CLI_REAL, SAMPLING(temperature), 0, 100, NULL},
    {"top-k", "N", "only the N most likely; 0: all", CLI_COUNT, SAMPLING(top_k), 0, 1 << 24, NULL},
    {"top-p", "X", "of these the fewest that hold this share of the probability together; 1: all", CLI_REAL, SAMPLING(top_p), 1e-9, 1,
     NULL},
    {"min-p", "X", "and of these only those at least X times as likely as the most likely; 0: all", CLI_REAL, SAMPLING(min_p), 0, 0.999999,
     NULL},
    {"repetition-penalty", "X", "makes tokens that stand in the text already less likely; 1: does not", CLI_REAL,
     SAMPLING(repetition_penalty), 0.01, 100, NULL},
    {"seed", "N", "of the sampling", CLI_SEED, SAMPLING(seed), 0, 9e15, NULL},
    {0}};

static const cli_group generate_groups[] = {
    {"The text", generate_options, 0, false}, {"Sampling, in this order", sampling_options, 0, false}, CLI_MACHINE, CLI_END};

static gm_status failed(gm_error *err, gm_status code, const char *message) {
    *err = (gm_error){.code = code, .offset = -1};
    snprintf(err->msg, sizeof err->msg, "%s", message);
    return code;
}

/* ---- the prompt */

static gm_status read_prompt(const generate_args *args, char **text, size_t *size, gm_error *err) {
    if (args->prompt && args->prompt_file)
        return failed(err, GM_EINVAL, "--prompt and --prompt-file are two beginnings; give one");
    if (!args->prompt_file) {
        *text = strdup(args->prompt ? args->prompt : "");
        *size = *text ? strlen(*text) : 0;
        return *text ? GM_OK : failed(err, GM_ENOMEM, "out of memory");
    }
    return cli_read_text(args->prompt_file, 64 << 20, text, size, err);
}

/* ---- one text: ids so far, and the characters they make */

typedef struct generation {
    gm_model *model;
    const gm_tokenizer *tokenizer;
    gm_decoder *decoder;
    int32_t *ids;                         /* the prompt and what was generated */
    int64_t prompt_count, count, dropped; /* dropped: how many of them the decoder no longer sees */
    int64_t kept;                         /* 1: the zero token stands before those that it sees */
    float *logits;
    char *text; /* what was generated, as characters */
    size_t size, capacity, printed;
} generation;

static gm_status start(generation *g, const generate_args *args, gm_error *err) {
    const gm_model_config *cfg = gm_model_config_of(g->model);
    int32_t *prompt = NULL, bos = gm_tokenizer_bos(g->tokenizer);
    int64_t n = 0;
    char *text = NULL;
    size_t size = 0;
    gm_status status = read_prompt(args, &text, &size, err);
    if (size && (cfg->bos == GM_BOS_NEVER || (cfg->bos == GM_BOS_UNKNOWN && !gm_tokenizer_adds_bos(g->tokenizer))))
        bos = -1; /* begin as in training, or as its own library does */
    if (status == GM_OK && size)
        status = gm_tokenizer_encode(g->tokenizer, text, size, &prompt, &n, err);
    free(text);
    if (status == GM_OK && bos < 0 && n == 0)
        status = failed(err, GM_EINVAL, "this tokenizer has no BOS to begin with; give --prompt TEXT");
    if (status == GM_OK && n + (bos >= 0) > cfg->context) {
        *err = (gm_error){.code = GM_EINVAL, .offset = -1};
        snprintf(err->msg, sizeof err->msg, "the prompt has %lld tokens%s, the model reads %lld; give its end only", (long long)n,
                 bos >= 0 ? " behind BOS" : "", (long long)cfg->context);
        status = GM_EINVAL;
    }
    if (status == GM_OK) {
        g->ids = malloc(sizeof *g->ids * (size_t)(n + args->tokens + 1));
        g->logits = malloc(sizeof *g->logits * (size_t)cfg->vocab);
        if (!g->ids || !g->logits)
            status = failed(err, GM_ENOMEM, "out of memory; ask for fewer --tokens");
    }
    if (status == GM_OK) {
        if (bos >= 0)
            g->ids[g->prompt_count++] = bos;
        if (n)
            memcpy(g->ids + g->prompt_count, prompt, sizeof *prompt * (size_t)n);
        g->prompt_count += n;
        int64_t all = g->prompt_count + args->tokens;
        status = gm_decoder_create(&g->decoder, g->model, all < cfg->context ? all : cfg->context, err);
    }
    gm_tokens_free(prompt);
    return status;
}

static void generation_free(generation *g) {
    gm_decoder_free(g->decoder);
    free(g->ids);
    free(g->logits);
    free(g->text);
}

/* Feeds what the decoder has not seen. Past the context it begins again with the last half of it, behind the zero token where that stands
 * before the text: without it the model would be another. It is never generated. */
static gm_status next_logits(generation *g, gm_error *err) {
    const gm_model_config *cfg = gm_model_config_of(g->model);
    const int32_t zero = gm_config_zero_token(cfg);
    const int64_t room = cfg->context - (g->ids[0] == zero);
    gm_status status = GM_OK;
    if (g->count - g->dropped + g->kept > cfg->context) {
        g->dropped = g->count - (room + 1) / 2;
        g->kept = cfg->context - room;
        gm_decoder_rewind(g->decoder, 0);
        if (g->kept)
            status = gm_decoder_feed(g->decoder, &zero, 1, g->logits, err);
    }
    int64_t from = g->dropped + gm_decoder_length(g->decoder) - g->kept;
    if (status == GM_OK)
        status = gm_decoder_feed(g->decoder, g->ids + from, g->count - from, g->logits, err);
    if (zero >= 0)
        g->logits[zero] = -INFINITY;
    return status;
}

/* ---- streaming: characters are printed as soon as no stop text can begin with them */

static void print_until(generation *g, size_t end) {
    fwrite(g->text + g->printed, 1, end - g->printed, stdout);
    fflush(stdout);
    g->printed = end;
}

/* Where the first stop text begins at or after `from`; SIZE_MAX: nowhere. */
static size_t stop_at(const generation *g, const cli_texts *stop) {
    for (size_t at = g->printed; at < g->size; at++) {
        for (int i = 0; i < stop->count; i++) {
            size_t n = strlen(stop->text[i]);
            if (n <= g->size - at && memcmp(g->text + at, stop->text[i], n) == 0)
                return at;
        }
    }
    return SIZE_MAX;
}

/* Where the longest end of the text begins that a stop text may begin with. */
static size_t held_from(const generation *g, const cli_texts *stop) {
    for (size_t at = g->printed; at < g->size; at++) {
        for (int i = 0; i < stop->count; i++) {
            if (g->size - at < strlen(stop->text[i]) && memcmp(g->text + at, stop->text[i], g->size - at) == 0)
                return at;
        }
    }
    return g->size;
}

/* Adds the id's characters and prints what may be. *ended: a stop text stands there. */
static gm_status add_piece(generation *g, const cli_texts *stop, int32_t id, bool *ended, gm_error *err) {
    size_t n;
    const char *piece = gm_tokenizer_piece(g->tokenizer, g->ids[g->count - 1], id, &n);
    if (g->size + n >= g->capacity) { /* an empty piece needs a place too */
        size_t capacity = 2 * (g->size + n) + 256;
        char *grown = realloc(g->text, capacity);
        if (!grown)
            return failed(err, GM_ENOMEM, "out of memory; ask for fewer --tokens");
        g->text = grown;
        g->capacity = capacity;
    }
    memcpy(g->text + g->size, piece, n);
    g->size += n;
    g->ids[g->count++] = id;
    size_t at = stop_at(g, stop);
    *ended = at != SIZE_MAX;
    print_until(g, *ended ? at : held_from(g, stop));
    return GM_OK;
}

static void print_prompt(const generation *g) {
    int32_t bos = gm_tokenizer_bos(g->tokenizer);
    for (int64_t i = 0; i < g->prompt_count; i++) {
        size_t size;
        const char *piece = gm_tokenizer_piece(g->tokenizer, i ? g->ids[i - 1] : -1, g->ids[i], &size);
        if (g->ids[i] != bos)
            fwrite(piece, 1, size, stdout);
    }
}

/* One text. The prompt's keys and values stay in the decoder from one to the next. */
static gm_status generate(generation *g, const generate_args *args, int64_t index, gm_error *err) {
    gm_sampling sampling = args->sampling;
    gm_sampler *sampler;
    const int32_t eos = gm_tokenizer_eos(g->tokenizer);
    sampling.seed += (uint64_t)index;
    gm_status status = gm_sampler_create(&sampler, &sampling, gm_model_config_of(g->model)->vocab, err);
    bool ended = false;
    gm_decoder_rewind(g->decoder, g->dropped ? 0 : g->prompt_count - 1);
    g->count = g->prompt_count;
    g->dropped = g->kept = 0;
    g->size = g->printed = 0;
    if (status == GM_OK)
        print_prompt(g);
    for (int64_t i = 0; i < args->tokens && status == GM_OK && !ended && !cli_stop_asked() && !ferror(stdout); i++) {
        status = next_logits(g, err);
        if (status != GM_OK)
            break;
        int32_t id = gm_sampler_next(sampler, g->logits, g->ids, g->count);
        if (id < 0)
            status = failed(err, GM_EFORMAT, "the model's logits are not numbers; `ghostmax measure` shows where");
        else if (id == eos || gm_tokenizer_class(g->tokenizer, id) == GM_CLASS_BOS) /* the text is over: another one begins */
            ended = true;
        else
            status = add_piece(g, &args->stop, id, &ended, err);
    }
    if (status == GM_OK) {
        if (!ended)
            print_until(g, g->size);
        putchar('\n');
    }
    gm_sampler_free(sampler);
    return status;
}

static int generate_run(const cli_command *command, void *arguments) {
    generate_args *args = arguments;
    cli_loaded loaded;
    gm_tokenizer *tokenizer = NULL;
    gm_error err = {.offset = -1};
    cli_catch_stop();
    int code = cli_load_any(&loaded, command, &args->common, NULL, true);
    if (code != CLI_DONE)
        return code;
    generation g = {.model = loaded.model};
    const char *path = args->tokenizer ? args->tokenizer : cli_tokenizer_beside(&loaded, args->common.operands[0]);
    if (!path) {
        cli_error(command->name, "'%s' carries no tokenizer; give its own with --tokenizer FILE", args->common.operands[0]);
        code = CLI_USAGE;
    } else {
        gm_status status = gm_tokenizer_load(&tokenizer, path, &err);
        g.tokenizer = tokenizer;
        if (status == GM_OK)
            status = cli_check_tokenizer(g.model, tokenizer, &err);
        if (status == GM_OK)
            status = start(&g, args, &err);
        for (int64_t i = 0; i < args->samples && status == GM_OK && !cli_stop_asked() && !ferror(stdout); i++) {
            if (i)
                puts("---");
            status = generate(&g, args, i, &err);
        }
        if (status != GM_OK)
            code = cli_fail(command, &err);
    }
    generation_free(&g);
    gm_tokenizer_free(tokenizer);
    cli_unload(&loaded);
    return code;
}

const cli_command cli_command_generate = {
    .name = "generate",
    .summary = "text from a model",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .about = "Samples text from MODEL, streaming. Only the text, with its prompt, is written to stdout.",
    .example =
        "ghostmax generate lab/runs/softmax1-s1 --prompt \"Once upon a time\" --tokens 120 --temperature 0.7 --min-p 0.05 --samples 3",
    .size = sizeof(generate_args),
    .groups = generate_groups,
    .defaults = generate_defaults,
    .run = generate_run,
};
