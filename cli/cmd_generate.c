/* cmd_generate.c -- text from a trained model, sampled token by token. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct generate_args {
    cli_common common;
    const char *prompt, *tokenizer;
    int64_t tokens, top_k;
    double temperature, top_p;
    uint64_t seed;
} generate_args;

static void generate_defaults(void *args) {
    *(generate_args *)args = (generate_args){.tokens = 256, .temperature = 0.8, .top_k = 40, .top_p = 1, .seed = 1};
}

static const cli_option generate_options[] = {
    {"prompt", "TEXT", "begin with this", CLI_TEXT, offsetof(generate_args, prompt), 0, 0, "BOS alone"},
    {"tokens", "N", "how many to generate", CLI_COUNT, offsetof(generate_args, tokens), 1, 1e9, NULL},
    {"temperature", "X", "0: always the most likely token", CLI_REAL, offsetof(generate_args, temperature), 0, 100, NULL},
    {"top-k", "N", "sample among the N most likely; 0: all", CLI_COUNT, offsetof(generate_args, top_k), 0, 1 << 24, NULL},
    {"top-p", "X", "and among the most likely that hold this share of the probability together; 1: all", CLI_REAL,
     offsetof(generate_args, top_p), 1e-9, 1, NULL},
    {"seed", "N", "of the sampling", CLI_SEED, offsetof(generate_args, seed), 0, 9e15, NULL},
    {"tokenizer", "FILE", "tokenizer.json or llama2.c's tokenizer.bin, where the model carries none", CLI_TEXT,
     offsetof(generate_args, tokenizer), 0, 0, "the model's own"},
    {0}};

static const cli_group generate_groups[] = {{"Options", generate_options, 0, false}, CLI_MACHINE, CLI_END};

/* splitmix64: a sampling stream needs no more. */
static double next_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int compare_falling(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The smallest logit that may be drawn: among the k largest, and of these the fewest that hold top_p of their probability. sorted: V
 * floats of scratch. */
static double least_logit(const float *logits, float *sorted, int64_t V, const generate_args *args) {
    int64_t k = args->top_k > 0 && args->top_k < V ? args->top_k : V;
    if (k == V && args->top_p >= 1)
        return -INFINITY;
    memcpy(sorted, logits, sizeof *sorted * (size_t)V);
    qsort(sorted, (size_t)V, sizeof *sorted, compare_falling);
    double total = 0, sum = 0;
    for (int64_t i = 0; i < k; i++)
        total += exp((sorted[i] - sorted[0]) / args->temperature);
    int64_t last = 0;
    while (last < k - 1 && (sum += exp((sorted[last] - sorted[0]) / args->temperature)) < args->top_p * total)
        last++;
    return sorted[args->top_p < 1 ? last : k - 1];
}

/* The id drawn from softmax(logits / temperature) over those that may be. */
static int32_t sample(const float *logits, float *sorted, int64_t V, const generate_args *args, uint64_t *state) {
    int32_t best = 0;
    for (int64_t i = 1; i < V; i++)
        best = logits[i] > logits[best] ? (int32_t)i : best;
    if (args->temperature == 0)
        return best;
    double least = least_logit(logits, sorted, V, args), sum = 0;
    for (int64_t i = 0; i < V; i++) {
        if (logits[i] >= least)
            sum += exp((logits[i] - logits[best]) / args->temperature);
    }
    double left = next_uniform(state) * sum;
    for (int64_t i = 0; i < V; i++) {
        if (logits[i] >= least && (left -= exp((logits[i] - logits[best]) / args->temperature)) < 0)
            return (int32_t)i;
    }
    return best;
}

typedef struct generate_state {
    int32_t *ids;           /* everything so far */
    int64_t count, dropped; /* dropped: how many of them the decoder no longer sees */
    float *logits, *sorted;
} generate_state;

static gm_status start(generate_state *s, const generate_args *args, const gm_tokenizer *tokenizer, int64_t V, gm_error *err) {
    int32_t *prompt = NULL, bos = gm_tokenizer_bos(tokenizer);
    int64_t n = 0;
    gm_status status = GM_OK;
    if (args->prompt)
        status = gm_tokenizer_encode(tokenizer, args->prompt, strlen(args->prompt), &prompt, &n, err);
    if (status != GM_OK)
        return status;
    s->ids = malloc(sizeof *s->ids * (size_t)(n + args->tokens + 1));
    s->logits = malloc(sizeof *s->logits * (size_t)V);
    s->sorted = malloc(sizeof *s->sorted * (size_t)V);
    if (!s->ids || !s->logits || !s->sorted) {
        *err = (gm_error){.code = GM_ENOMEM, .offset = -1, .msg = "out of memory; ask for fewer --tokens"};
        status = GM_ENOMEM;
    } else if (bos < 0 && n == 0) {
        *err = (gm_error){.code = GM_EINVAL, .offset = -1, .msg = "this tokenizer has no BOS to begin with; give --prompt TEXT"};
        status = GM_EINVAL;
    } else {
        if (bos >= 0)
            s->ids[s->count++] = bos;
        if (n)
            memcpy(s->ids + s->count, prompt, sizeof *prompt * (size_t)n);
        s->count += n;
    }
    gm_tokens_free(prompt);
    return status;
}

static void print_piece(const gm_tokenizer *tokenizer, int32_t previous, int32_t id) {
    size_t size;
    const char *piece = gm_tokenizer_piece(tokenizer, previous, id, &size);
    fwrite(piece, 1, size, stdout);
}

/* Feeds what the decoder has not seen. Past the context it begins again with the last half of it. */
static gm_status next_logits(generate_state *s, gm_decoder *decoder, int64_t context, gm_error *err) {
    if (s->count - s->dropped > context) {
        s->dropped = s->count - (context + 1) / 2;
        gm_decoder_rewind(decoder, 0);
    }
    int64_t from = s->dropped + gm_decoder_length(decoder);
    return gm_decoder_feed(decoder, s->ids + from, s->count - from, s->logits, err);
}

static gm_status generate(generate_state *s, const generate_args *args, gm_model *model, const gm_tokenizer *tokenizer, gm_error *err) {
    const gm_model_config *cfg = gm_model_config_of(model);
    uint64_t random = args->seed;
    int32_t bos = gm_tokenizer_bos(tokenizer), eos = gm_tokenizer_eos(tokenizer);
    int64_t capacity = s->count + args->tokens < cfg->context ? s->count + args->tokens : cfg->context;
    gm_decoder *decoder;
    gm_status status = gm_decoder_create(&decoder, model, capacity, err);
    for (int64_t i = 0; i < s->count && status == GM_OK; i++) {
        if (s->ids[i] != bos)
            print_piece(tokenizer, i ? s->ids[i - 1] : -1, s->ids[i]);
    }
    for (int64_t i = 0; i < args->tokens && status == GM_OK && !cli_stop_asked() && !ferror(stdout); i++) {
        status = next_logits(s, decoder, cfg->context, err);
        int32_t id = status == GM_OK ? sample(s->logits, s->sorted, cfg->vocab, args, &random) : -1;
        if (id < 0 || id == bos || id == eos) /* the text is over: another one begins */
            break;
        print_piece(tokenizer, s->ids[s->count - 1], id);
        s->ids[s->count++] = id;
        fflush(stdout);
    }
    if (status == GM_OK)
        putchar('\n');
    gm_decoder_free(decoder);
    return status;
}

static int generate_run(const cli_command *command, void *arguments) {
    generate_args *args = arguments;
    cli_loaded loaded;
    gm_tokenizer *tokenizer = NULL;
    generate_state state = {0};
    gm_error err = {.offset = -1};
    cli_catch_stop();
    int code = cli_load(&loaded, command, &args->common, NULL);
    if (code != CLI_DONE)
        return code;
    int64_t V = gm_model_config_of(loaded.model)->vocab;
    const char *path = args->tokenizer ? args->tokenizer : cli_tokenizer_beside(&loaded, args->common.operands[0]);
    if (!path) {
        cli_error(command->name, "'%s' carries no tokenizer; give its own with --tokenizer FILE", args->common.operands[0]);
        code = CLI_FAILED;
    } else if (gm_tokenizer_load(&tokenizer, path, &err) != GM_OK || start(&state, args, tokenizer, V, &err) != GM_OK ||
               generate(&state, args, loaded.model, tokenizer, &err) != GM_OK)
        code = cli_fail(command, &err);
    free(state.ids);
    free(state.logits);
    free(state.sorted);
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
    .about = "Samples text from the model in folder MODEL. Only the text is written to stdout.",
    .example = "ghostmax generate lab/runs/softmax1-s1 --tokens 120 --temperature 0.7 --seed 3",
    .size = sizeof(generate_args),
    .groups = generate_groups,
    .defaults = generate_defaults,
    .run = generate_run,
};
