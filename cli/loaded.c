/* loaded.c -- what eval and measure begin with: a model from its folder, and data through the model's own tokenizer. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *cli_tokenizer_beside(cli_loaded *loaded, const char *model) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json", "vocab.txt"};
    const char *slash = strrchr(model, '/'), *dot = strrchr(model, '.');
    if (dot && strcmp(dot, ".gguf") == 0) /* it may hold one */
        return model;
    bool file = dot && strcmp(dot, ".safetensors") == 0; /* the weights' file stands for its folder */
    int folder = file ? slash ? (int)(slash - model) : 0 : (int)strlen(model);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1100];
        snprintf(loaded->tokenizer_path, sizeof loaded->tokenizer_path, "%.*s", folder ? folder : 1, folder ? model : ".");
        snprintf(path, sizeof path, "%s/%s", loaded->tokenizer_path, names[i]);
        if (access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR)) /* whoever opens it says what is wrong with it */
            return loaded->tokenizer_path;
    }
    return NULL;
}

gm_status cli_check_tokenizer(const gm_model *model, const gm_tokenizer *tokenizer, gm_error *err) {
    int64_t have = gm_model_config_of(model)->vocab, need = tokenizer ? gm_tokenizer_vocab(tokenizer) : have;
    if (need < have - have / 16) /* more than rows that fill a table up to a round number */
        cli_note("warning: the tokenizer has %lld tokens, the model %lld; is it the model's own?", (long long)need, (long long)have);
    if (need <= have)
        return GM_OK;
    *err = (gm_error){.code = GM_EINVAL, .offset = -1};
    snprintf(err->msg, sizeof err->msg, "the tokenizer has %lld tokens, the model %lld; give the model's own with --tokenizer",
             (long long)need, (long long)have);
    return GM_EINVAL;
}

/* A model may be loaded to look at what went wrong in it; whoever did not mean to should know. */
static void warn_nonfinite(const gm_model *m) {
    gm_nonfinite list[4];
    int count;
    if (gm_model_nonfinite(m, list, 4, &count, NULL) != GM_OK)
        return;
    for (int i = 0; i < count && i < 4; i++)
        cli_note("warning: tensor '%s' has %lld NaN and %lld infinite of %lld weights", list[i].tensor, (long long)list[i].nan,
                 (long long)list[i].infinite, (long long)list[i].elements);
    if (count > 4)
        cli_note("warning: and %d more tensors", count - 4);
}

gm_status cli_load_model(gm_model **out, const gm_ctx *ctx, const char *path, gm_error *err) {
    gm_status status = gm_model_load(out, ctx, path, err);
    if (status == GM_OK)
        warn_nonfinite(*out);
    return status;
}

static gm_status load_quantized(cli_loaded *loaded, const char *folder, bool executed_only, gm_error *err) {
    gm_status status = gm_quantized_load(&loaded->quantized, loaded->ctx, folder, executed_only, err);
    if (status == GM_EUNSUPPORTED && executed_only) {
        cli_note("simulated in f32: %s", err->msg);
        status = gm_quantized_load(&loaded->quantized, loaded->ctx, folder, false, err);
    }
    if (status == GM_OK)
        loaded->model = gm_quantized_model(loaded->quantized);
    return status;
}

/* What may be loaded. */
typedef enum load_kinds { F32_ONLY, QUANTIZED_SIMULATED, QUANTIZED_EXECUTED } load_kinds;

static gm_status load_all(cli_loaded *loaded, const cli_common *common, gm_data_options *data, load_kinds kinds, gm_error *err) {
    const char *folder = common->operands[0];
    gm_status status = cli_context(&loaded->ctx, common, err);
    if (status == GM_OK && kinds != F32_ONLY && gm_quantized_is(folder))
        status = load_quantized(loaded, folder, kinds == QUANTIZED_EXECUTED, err);
    else if (status == GM_OK)
        status = cli_load_model(&loaded->model, loaded->ctx, folder, err);
    if (status != GM_OK || !data)
        return status;
    int64_t longest = gm_model_config_of(loaded->model)->context;
    if (!data->context)
        data->context = longest;
    if (data->context > longest) {
        *err = (gm_error){.code = GM_EINVAL, .offset = -1};
        snprintf(err->msg, sizeof err->msg, "--context is %lld, the model's is %lld; give at most that", (long long)data->context,
                 (long long)longest);
        return GM_EINVAL;
    }
    data->for_model = true;
    data->no_bos |= gm_model_config_of(loaded->model)->bos == GM_BOS_NEVER; /* as in training; unknown: as its library encodes a text */
    data->own_bos = data->whole && gm_model_config_of(loaded->model)->bos == GM_BOS_UNKNOWN;
    if (!data->tokenizer)
        data->tokenizer = cli_tokenizer_beside(loaded, folder);
    status = gm_data_open(&loaded->data, data, err);
    return status == GM_OK ? cli_check_tokenizer(loaded->model, gm_data_tokenizer(loaded->data), err) : status;
}

static int load(cli_loaded *loaded, const cli_command *command, const cli_common *common, gm_data_options *data, load_kinds kinds) {
    gm_error err = {.offset = -1};
    *loaded = (cli_loaded){0};
    if (data && !data->source) {
        cli_error(command->name, "--data is missing; give a file, stories or bb");
        return CLI_USAGE;
    }
    if (gm_dist_agree(cli_ranks(), load_all(loaded, common, data, kinds, &err), &err) == GM_OK)
        return CLI_DONE;
    cli_unload(loaded);
    return cli_fail(command, &err);
}

int cli_load(cli_loaded *loaded, const cli_command *command, const cli_common *common, gm_data_options *data) {
    return load(loaded, command, common, data, F32_ONLY);
}

int cli_load_any(cli_loaded *loaded, const cli_command *command, const cli_common *common, gm_data_options *data, bool executed_only) {
    return load(loaded, command, common, data, executed_only ? QUANTIZED_EXECUTED : QUANTIZED_SIMULATED);
}

void cli_unload(cli_loaded *loaded) {
    gm_data_free(loaded->data);
    if (loaded->quantized)
        gm_quantized_free(loaded->quantized);
    else
        gm_model_free(loaded->model);
    gm_ctx_free(loaded->ctx);
    *loaded = (cli_loaded){0};
}
