/* hf_folder.c -- token ids in config.json and generation_config.json (without them transformers takes its class's own: llama's 1 and 2),
 * and the zero token in tokenizer.json. */
#include "hf_folder.h"
#include "config_file.h"

#include <jansson.h>
#include <stdlib.h>

static const char zero_text[] = "<|zero|>";

static gm_status read_json(json_t **root, const char *folder, const char *name, gm_error *err) {
    char path[1024];
    json_error_t where;
    gm_file file;
    *root = NULL;
    GM_TRY(gm_path_join(path, sizeof path, folder, name, err));
    GM_TRY(gm_file_open(&file, path, err));
    *root = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &where);
    gm_file_close(&file);
    return *root ? GM_OK : gm_fail_at(err, GM_EFORMAT, where.position, "%s: not JSON: %s", path, where.text);
}

/* Takes root. */
static gm_status write_json(json_t *root, const char *folder, const char *name, gm_error *err) {
    char path[1024];
    char *json = root ? gm_json_text(root) : NULL;
    gm_text text = {0};
    gm_text_add(&text, "%s\n", json ? json : "");
    gm_status status = json && !text.failed ? gm_path_join(path, sizeof path, folder, name, err) : gm_fail_memory(err, 4096);
    if (status == GM_OK)
        status = gm_file_write(path, text.data, text.size, err);
    free(json);
    gm_text_free(&text);
    json_decref(root);
    return status;
}

static json_t *id_value(int32_t id) {
    return id < 0 ? json_null() : json_integer(id);
}

/* What puts the zero token before every text, behind what the tokenizer does already. */
static json_t *zero_template(const gm_hf_tokens *t, json_t *before) {
    json_t *single = json_array();
    for (int64_t i = 0; i < t->zeros; i++)
        json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", zero_text, "type_id", 0));
    json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
    json_t *both = json_deep_copy(single);
    json_array_append_new(both, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
    json_t *made = json_pack("{s:s, s:o, s:o, s:{s:{s:s, s:[i], s:[s]}}}", "type", "TemplateProcessing", "single", single, "pair", both,
                             "special_tokens", zero_text, "id", zero_text, "ids", (int)t->zero, "tokens", zero_text);
    return before && !json_is_null(before) ? json_pack("{s:s, s:[O, o]}", "type", "Sequence", "processors", before, made) : made;
}

/* tokenizer.json, where it is of Hugging Face's format: ours has no "model", stock loaders refuse it, and this program finds the zero token
 * as its BOS. */
static gm_status write_tokenizer(const char *folder, const gm_hf_tokens *t, bool *stock, gm_error *err) {
    static const char *const names[] = {"tokenizer.json", NULL};
    json_t *root = NULL;
    *stock = false;
    if (!gm_dir_has(folder, names))
        return GM_OK;
    GM_TRY(read_json(&root, folder, names[0], err));
    if (!json_object_get(root, "model")) {
        if (t->zero >= 0) {
            json_object_set_new(root, "bos", json_integer(t->zero));
            return write_json(root, folder, names[0], err);
        }
        json_decref(root);
        return GM_OK;
    }
    *stock = true;
    json_t *config = json_pack("{s:s, s:b, s:I}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces", 0,
                               "model_max_length", (json_int_t)t->context);
    const struct {
        const char *key;
        int32_t id;
    } ends[] = {{"bos_token", t->bos}, {"eos_token", t->eos}};
    if (t->zero >= 0) {
        json_t *added = json_object_get(root, "added_tokens");
        if (!json_is_array(added)) {
            added = json_array();
            json_object_set_new(root, "added_tokens", added);
        }
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)t->zero, "content", zero_text,
                                               "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
        json_object_set_new(root, "post_processor", zero_template(t, json_object_get(root, "post_processor")));
    }
    json_t *token;
    size_t i;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token) {
        for (int j = 0; j < GM_COUNT(ends); j++) {
            if (ends[j].id >= 0 && json_integer_value(json_object_get(token, "id")) == ends[j].id)
                json_object_set(config, ends[j].key, json_object_get(token, "content"));
        }
    }
    gm_status status = write_json(root, folder, names[0], err);
    if (status != GM_OK) {
        json_decref(config);
        return status;
    }
    return write_json(config, folder, "tokenizer_config.json", err);
}

gm_status gm_hf_folder_tokens(const char *folder, const gm_hf_tokens *t, bool *stock_tokenizer, gm_error *err) {
    json_t *config;
    GM_TRY(read_json(&config, folder, "config.json", err));
    json_object_set_new(config, "bos_token_id", id_value(t->bos));
    json_object_set_new(config, "eos_token_id", id_value(t->eos));
    GM_TRY(write_json(config, folder, "config.json", err));
    json_t *generation = json_pack("{s:o, s:o}", "bos_token_id", id_value(t->bos), "eos_token_id", id_value(t->eos));
    if (generation && t->zero >= 0)
        json_object_set_new(generation, "suppress_tokens", json_pack("[i]", t->zero));
    GM_TRY(write_json(generation, folder, "generation_config.json", err));
    return write_tokenizer(folder, t, stock_tokenizer, err);
}
