/* hf_folder.c -- token ids in config.json and generation_config.json. Without them transformers takes its class's own: llama's 1 and 2. */
#include "hf_folder.h"
#include "config_file.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *id_value(int32_t id) {
    return id < 0 ? json_null() : json_integer(id);
}

static gm_status write_json(json_t *root, const char *path, gm_error *err) {
    char *json = root ? gm_json_text(root) : NULL;
    gm_text text = {0};
    gm_text_add(&text, "%s\n", json ? json : "");
    gm_status status = json && !text.failed ? gm_file_write(path, text.data, text.size, err) : gm_fail_memory(err, 4096);
    free(json);
    gm_text_free(&text);
    return status;
}

gm_status gm_hf_folder_tokens(const char *folder, int32_t bos, int32_t eos, int32_t never, gm_error *err) {
    char path[1024];
    json_error_t where;
    GM_TRY(gm_path_join(path, sizeof path, folder, "config.json", err));
    json_t *config = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!config)
        return gm_fail_at(err, GM_EFORMAT, where.position, "%s: not JSON: %s", path, where.text);
    json_object_set_new(config, "bos_token_id", id_value(bos));
    json_object_set_new(config, "eos_token_id", id_value(eos));
    gm_status status = write_json(config, path, err);
    json_decref(config);
    GM_TRY(status);
    GM_TRY(gm_path_join(path, sizeof path, folder, "generation_config.json", err));
    json_t *generation = json_pack("{s:o, s:o}", "bos_token_id", id_value(bos), "eos_token_id", id_value(eos));
    if (generation && never >= 0)
        json_object_set_new(generation, "suppress_tokens", json_pack("[i]", never));
    status = write_json(generation, path, err);
    json_decref(generation);
    return status;
}
