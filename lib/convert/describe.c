/* describe.c -- what a file or folder is, from its headers: nothing is computed, no weight is read. */
#include "config_file.h"
#include "data.h"
#include "gguf_file.h"
#include "llama2c_file.h"
#include "model.h"
#include "safetensors.h"
#include "store.h"
#include "tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void put_text(json_t *root, const char *key, const char *text) {
    json_object_set_new(root, key, json_string(text));
}

static void put_whole(json_t *root, const char *key, int64_t x) {
    json_object_set_new(root, key, json_integer((json_int_t)x));
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* ---- parts */

/* The dimensions, and what is not as in a plain block. */
static void put_config(json_t *root, const gm_model_config *c) {
    static const char *const families[] = {[GM_FAMILY_GPT2] = "gpt2",       [GM_FAMILY_OPT] = "opt",     [GM_FAMILY_LLAMA] = "llama",
                                           [GM_FAMILY_MISTRAL] = "mistral", [GM_FAMILY_QWEN2] = "qwen2", [GM_FAMILY_QWEN3] = "qwen3"};
    char attention[256];
    gm_model_size size;
    gm_variant_format(attention, sizeof attention, &c->attention);
    gm_model_config_size(&size, c, 1, 1);
    put_text(root, "family", families[c->family]);
    put_text(root, "attention", attention);
    put_whole(root, "parameters", size.parameters);
    put_whole(root, "without_embeddings", size.parameters_without_embeddings);
    put_whole(root, "layers", c->layers);
    put_whole(root, "heads", c->heads);
    put_whole(root, "kv_heads", c->kv_heads);
    put_whole(root, "head_dim", c->head_dim);
    put_whole(root, "width", c->width);
    put_whole(root, "ffn", c->ffn);
    put_whole(root, "vocab", c->vocab);
    put_whole(root, "context", c->context);
    json_object_set_new(root, "tied_head", json_boolean(c->tied));
    if (c->window)
        put_whole(root, "window", c->window);
    if (c->rope)
        json_object_set_new(root, "rope_theta", json_real(c->rope_theta));
    if (c->rope_scaling != GM_ROPE_PLAIN) {
        put_text(root, "rope_scaling", c->rope_scaling == GM_ROPE_LINEAR ? "linear" : "llama3");
        json_object_set_new(root, "rope_factor", json_real(c->rope_factor));
    }
    if (c->qkv_bias)
        json_object_set_new(root, "qkv_bias", json_true());
    if (c->qk_norm)
        json_object_set_new(root, "qk_norm", json_true());
}

static json_t *tokenizer_object(const gm_tokenizer *t) {
    json_t *object = json_object();
    put_text(object, "kind", gm_tokenizer_kind(t));
    put_whole(object, "vocab", gm_tokenizer_vocab(t));
    if (gm_tokenizer_bos(t) >= 0)
        put_whole(object, "bos", gm_tokenizer_bos(t));
    if (gm_tokenizer_eos(t) >= 0)
        put_whole(object, "eos", gm_tokenizer_eos(t));
    return object;
}

/* The tokenizer in a model's folder, where there is one. One that is damaged is an error, one of another kind is not. */
static gm_status put_tokenizer_of(json_t *root, const char *folder, gm_error *err) {
    const char *name = gm_tokenizer_in(folder);
    gm_tokenizer *t;
    gm_error inner = {.offset = -1};
    if (!name)
        return GM_OK;
    gm_status status = gm_tokenizer_load(&t, folder, &inner);
    if (status == GM_OK)
        json_object_set_new(root, "tokenizer", tokenizer_object(t));
    else if (status == GM_EUNSUPPORTED)
        json_object_set_new(root, "tokenizer", json_pack("{s:s, s:s}", "file", name, "not_read", inner.msg));
    else
        return gm_fail_at(err, status, inner.offset, "%s", inner.msg);
    gm_tokenizer_free(t);
    return GM_OK;
}

/* A JSON file of ours; NULL: not there, or not JSON. */
static json_t *read_json(const char *folder, const char *name) {
    char path[1024];
    gm_file file;
    if (gm_path_join(path, sizeof path, folder, name, NULL) != GM_OK || !gm_path_exists(path) || gm_file_open(&file, path, NULL) != GM_OK)
        return NULL;
    json_t *root = json_loadb((const char *)file.data, file.size, 0, NULL);
    gm_file_close(&file);
    return root;
}

static void copy_keys(json_t *to, json_t *from, const char *const *keys) {
    for (; *keys; keys++) {
        json_t *value = json_object_get(from, *keys);
        if (value)
            json_object_set(to, *keys, value);
    }
}

/* The training run that a folder is, where it is one. */
static void put_run(json_t *root, const char *folder) {
    static const char *const asked[] = {"data", "seed", "steps", "batch", "lr", NULL}, *const done[] = {"step", "val_loss", "diverged_at",
                                                                                                        NULL};
    char path[1024];
    json_t *train = NULL, *run = json_object();
    gm_status status = gm_path_join(path, sizeof path, folder, "train.json", NULL);
    if (status == GM_OK)
        status = gm_store_read(&train, path, "", NULL);
    json_t *result = json_object_get(train, "result");
    copy_keys(run, json_object_get(train, "identity"), asked);
    copy_keys(run, result, done);
    put_text(run, "state", status != GM_OK ? "unknown: train.json is damaged" : result ? "finished" : "unfinished");
    if (train || status != GM_OK)
        json_object_set(root, "run", run);
    json_decref(run);
    json_decref(train);
}

/* ---- kinds */

static gm_status describe_model(json_t *root, const char *path, gm_error *err) {
    gm_model_files files;
    char folder[1024];
    bool dir = gm_path_is_dir(path);
    GM_TRY(gm_model_inspect(&files, path, err));
    put_text(root, "kind", "model");
    put_text(root, "format", dir ? "Hugging Face folder" : "safetensors with its config.json");
    put_config(root, &files.cfg);
    put_text(root, "dtype", files.types);
    put_whole(root, "shards", files.files);
    put_whole(root, "tensors", files.tensors);
    put_whole(root, "bytes", files.bytes);
    snprintf(folder, sizeof folder, "%s", path);
    if (!dir) {
        char *slash = strrchr(folder, '/');
        snprintf(slash ? slash + 1 : folder, 2, ".");
    }
    put_run(root, folder);
    return put_tokenizer_of(root, folder, err);
}

/* A folder that `quantize` wrote: the model's own configuration stands in its config.json, beside the quantizer's. */
static gm_status describe_quantized(json_t *root, const char *folder, gm_error *err) {
    json_t *config = read_json(folder, "config.json");
    char *text = config ? gm_json_text(json_object_get(config, "model")) : NULL;
    gm_model_config cfg;
    gm_status status = text ? gm_config_parse(&cfg, text, strlen(text), folder, err)
                            : gm_fail(err, GM_EFORMAT, "%s/config.json does not hold a quantized model's configuration", folder);
    free(text);
    if (status == GM_OK) {
        put_text(root, "kind", "quantized model");
        put_text(root, "format", "ghostmax folder of integers");
        put_config(root, &cfg);
        json_object_set(root, "quantizer", json_object_get(config, "quantizer"));
        status = put_tokenizer_of(root, folder, err);
    }
    json_decref(config);
    return status;
}

/* A safetensors file without a configuration beside it. */
static gm_status describe_weights(json_t *root, const char *path, gm_error *err) {
    gm_safetensors s;
    char types[64];
    GM_TRY(ends_with(path, ".json") ? gm_safetensors_open_index(&s, path, err) : gm_safetensors_open(&s, path, err));
    int64_t elements = 0;
    bool state = gm_safetensors_metadata(&s, "state") != NULL;
    for (int i = 0; i < s.count; i++)
        elements += s.tensors[i].elements;
    gm_safetensors_types(&s, types, sizeof types);
    put_text(root, "kind", state ? "training state" : "weights");
    put_text(root, "format", "safetensors");
    put_whole(root, "parameters", elements);
    put_text(root, "dtype", types);
    put_whole(root, "shards", GM_MAX(s.shard_count, 1));
    put_whole(root, "tensors", s.count);
    gm_safetensors_close(&s);
    return GM_OK;
}

/* A model's configuration alone. */
static gm_status describe_config(json_t *root, const gm_file *file, gm_error *err) {
    gm_model_config cfg;
    GM_TRY(gm_config_parse(&cfg, (const char *)file->data, file->size, file->path, err));
    put_text(root, "kind", "model's configuration");
    put_text(root, "format", "config.json");
    put_config(root, &cfg);
    return GM_OK;
}

/* The number type that most of a GGUF's elements have. */
static const char *gguf_type(const gm_gguf *g) {
    const gm_gguf_tensor *largest = NULL;
    for (int64_t i = 0; i < g->tensor_count; i++) {
        if (!largest || g->tensors[i].elements > largest->elements)
            largest = &g->tensors[i];
    }
    return largest ? gm_gguf_tensor_type(largest) : "";
}

static void put_gguf_text(json_t *root, const char *name, const gm_gguf_value *value) {
    gm_gguf_text *texts = value && value->type == GM_GGUF_TEXT ? gm_gguf_texts(value) : NULL;
    if (texts)
        json_object_set_new(root, name, json_stringn(texts->data, texts->size));
    gm_free(texts);
}

static gm_status describe_gguf(json_t *root, const gm_file *file, gm_error *err) {
    gm_gguf g;
    gm_model_config cfg;
    gm_error inner = {0};
    GM_TRY(gm_gguf_parse(&g, file->data, file->size, file->path, err));
    char format[32];
    snprintf(format, sizeof format, "GGUF version %d", g.version);
    put_text(root, "kind", "model");
    put_text(root, "format", format);
    put_gguf_text(root, "architecture", gm_gguf_find(&g, "general.architecture"));
    put_gguf_text(root, "name", gm_gguf_find(&g, "general.name"));
    if (gm_gguf_config_read(&cfg, &g, &inner) == GM_OK)
        put_config(root, &cfg);
    else
        put_text(root, "not_read", inner.msg);
    put_text(root, "dtype", gguf_type(&g));
    put_whole(root, "tensors", g.tensor_count);
    put_whole(root, "keys", g.value_count);
    put_whole(root, "bytes", (int64_t)file->size);
    const gm_gguf_value *tokens = gm_gguf_find(&g, "tokenizer.ggml.tokens");
    json_t *tokenizer = json_object();
    put_gguf_text(tokenizer, "kind", gm_gguf_find(&g, "tokenizer.ggml.model"));
    if (tokens)
        put_whole(tokenizer, "vocab", tokens->count);
    json_object_set_new(root, "tokenizer", tokenizer);
    gm_gguf_close(&g);
    return GM_OK;
}

static gm_status describe_llama2c(json_t *root, const gm_file *file, gm_error *err) {
    gm_model_config cfg;
    int version;
    char format[32];
    GM_TRY(gm_llama2c_header(&cfg, &version, file, err));
    snprintf(format, sizeof format, "llama2.c version %d", version);
    put_text(root, "kind", "model");
    put_text(root, "format", format);
    put_config(root, &cfg);
    put_text(root, "dtype", version == 2 ? "Q8_0" : "F32");
    put_whole(root, "bytes", (int64_t)file->size);
    return GM_OK;
}

static gm_status describe_tokens(json_t *root, const gm_file *file, gm_error *err) {
    gm_tokenizer *t = NULL;
    int64_t count, text_bytes;
    int width;
    GM_TRY(gm_token_file_header(file, &count, &text_bytes, &width, &t, err));
    put_text(root, "kind", "tokens");
    put_text(root, "format", "token file version 1");
    put_whole(root, "tokens", count);
    put_whole(root, "bytes_per_token", width);
    put_whole(root, "text_bytes", text_bytes);
    json_object_set_new(root, "tokenizer", tokenizer_object(t));
    put_whole(root, "bytes", (int64_t)file->size);
    gm_tokenizer_free(t);
    return GM_OK;
}

static gm_status describe_lab(json_t *root, const char *folder, gm_error *err) {
    json_t *lab = read_json(folder, "lab.json"), *results = read_json(folder, "results.json");
    json_t *config = json_object_get(results ? results : lab, "config");
    static const char *const keys[] = {"source", "models", "variants", "seeds", "steps", "batch", "context", "data", NULL};
    put_text(root, "kind", "lab");
    put_text(root, "state", results ? "finished" : "unfinished");
    copy_keys(root, config, keys);
    json_decref(lab);
    json_decref(results);
    return config ? GM_OK : gm_fail(err, GM_EFORMAT, "'%s': its lab.json or results.json cannot be read", folder);
}

static gm_status describe_folder(json_t *root, const char *path, gm_error *err) {
    static const char *const lab[] = {"lab.json", "results.json", NULL}, *const model[] = {"config.json", NULL};
    if (gm_dir_has(path, lab))
        return describe_lab(root, path, err);
    if (!gm_dir_has(path, model))
        return gm_fail(err, GM_EUNSUPPORTED, "'%s' holds nothing known here: no config.json of a model, no lab.json of a lab", path);
    return gm_quantized_is(path) ? describe_quantized(root, path, err) : describe_model(root, path, err);
}

static gm_status describe_file(json_t *root, const gm_file *file, gm_error *err) {
    static const char *const tokenizer_ends[] = {".json", ".model", ".bpe", ".bin", "merges.txt", "vocab.txt"};
    const char *path = file->path;
    if (gm_gguf_is(file->data, file->size))
        return describe_gguf(root, file, err);
    if (gm_token_file_is(file))
        return describe_tokens(root, file, err);
    if (ends_with(path, ".safetensors") || ends_with(path, ".safetensors.index.json")) {
        char folder[1024];
        static const char *const config[] = {"config.json", NULL};
        snprintf(folder, sizeof folder, "%s", path);
        char *slash = strrchr(folder, '/');
        snprintf(slash ? slash + 1 : folder, 2, ".");
        bool main_file = ends_with(path, "model.safetensors") || ends_with(path, ".index.json");
        return main_file && gm_dir_has(folder, config) ? describe_model(root, path, err) : describe_weights(root, path, err);
    }
    const char *slash = strrchr(path, '/');
    if (strcmp(slash ? slash + 1 : path, "config.json") == 0)
        return describe_config(root, file, err);
    gm_tokenizer *t;
    gm_error inner = {0};
    gm_status status = gm_tokenizer_load(&t, path, &inner);
    if (status == GM_OK) {
        put_text(root, "kind", "tokenizer");
        json_t *object = tokenizer_object(t);
        put_text(root, "format", json_string_value(json_object_get(object, "kind")));
        json_object_del(object, "kind");
        json_object_update(root, object);
        json_decref(object);
        put_whole(root, "bytes", (int64_t)file->size);
        gm_tokenizer_free(t);
        return GM_OK;
    }
    if (gm_llama2c_is(file))
        return describe_llama2c(root, file, err);
    for (int i = 0; i < GM_COUNT(tokenizer_ends); i++) { /* what it would be, were it whole */
        if (ends_with(path, tokenizer_ends[i]))
            return gm_fail_at(err, status, inner.offset, "%s", inner.msg);
    }
    return gm_fail(err, GM_EUNSUPPORTED, "'%s' is nothing that is known here: no model, tokenizer, token file or lab", path);
}

gm_status gm_file_describe(const char *path, char **json, gm_error *err) {
    *json = NULL;
    json_t *root = json_object();
    put_text(root, "path", path);
    gm_status status;
    gm_file file;
    if (!gm_path_exists(path)) {
        status = gm_fail(err, GM_EIO, "no such file or folder: '%s'", path);
    } else if (gm_path_is_dir(path)) {
        status = describe_folder(root, path, err);
    } else {
        status = gm_file_open(&file, path, err);
        if (status == GM_OK) {
            status = describe_file(root, &file, err);
            gm_file_close(&file);
        }
    }
    if (status == GM_OK && !(*json = gm_json_text(root)))
        status = gm_fail_memory(err, 4096);
    json_decref(root);
    return status;
}
