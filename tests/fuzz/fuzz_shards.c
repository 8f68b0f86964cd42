/* fuzz_shards.c -- the index of a sharded model, beside two files of weights: what is accepted reads files of its folder alone, and is the
 * same after it was written in other shards and read again. */
#include "fuzz_folder.h"
#include "safetensors.h"

static const char index_name[] = "model.safetensors.index.json";

static void begin(void) {
    static const float values[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const gm_tensor_source tensors[] = {{"a", values, 4, 0, 1, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"b", values, 2, 2, 2, 1, GM_DTYPE_F32, NULL, NULL},
                                        {"c", values, 3, 4, 4, 1, GM_DTYPE_F32, NULL, NULL}};
    gm_error err;
    FUZZ_CHECK(gm_dir_make(fuzz_path("in"), &err) == GM_OK && gm_dir_make(fuzz_path("out"), &err) == GM_OK);
    FUZZ_CHECK(gm_safetensors_write(fuzz_path("in/x"), tensors, 2, NULL, &err) == GM_OK);
    FUZZ_CHECK(gm_safetensors_write(fuzz_path("in/y"), tensors + 2, 1, NULL, &err) == GM_OK);
    FUZZ_CHECK(gm_safetensors_write(fuzz_path("x"), tensors, 2, NULL, &err) == GM_OK); /* as good, but not of the folder */
}

static void write_again(const gm_safetensors *s) {
    gm_tensor_source sources[3];
    float x[3][12];
    gm_error err;
    FUZZ_CHECK(s->count > 0 && s->count <= 3);
    for (int i = 0; i < s->count; i++) {
        const gm_tensor *t = &s->tensors[i];
        const int64_t cols = t->rank == 2 ? t->shape[1] : 0;
        FUZZ_CHECK(gm_tensor_read(s, t, x[i], GM_MAX(cols, 1), 1, &err) == GM_OK);
        sources[i] = (gm_tensor_source){t->name, x[i], t->shape[0], cols, GM_MAX(cols, 1), 1, GM_DTYPE_F32, NULL, NULL};
    }
    FUZZ_CHECK(gm_safetensors_write_shards(fuzz_path("out"), sources, s->count, NULL, 20, &err) == GM_OK);
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_safetensors s, back;
    gm_error err = {.offset = -1};
    char path[1024];
    if (fuzz_folder_begin())
        begin();
    snprintf(path, sizeof path, "%s/%s", fuzz_path("in"), index_name);
    fuzz_file(path, data, size);
    gm_status status = gm_safetensors_open_index(&s, path, &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, SIZE_MAX / 2); /* the offset may be in a shard */
        return false;
    }
    for (int i = 0; i < s.shard_count; i++) {
        char parent[1024];
        snprintf(parent, sizeof parent, "%s", s.shards[i].path);
        *strrchr(parent, '/') = 0;
        FUZZ_CHECK(strcmp(parent, fuzz_path("in")) == 0);
    }
    write_again(&s);
    snprintf(path, sizeof path, "%s/%s", fuzz_path("out"), index_name);
    FUZZ_CHECK(gm_safetensors_open_index(&back, path, &err) == GM_OK && back.count == s.count);
    for (int i = 0; i < s.count; i++) {
        const gm_tensor *t = &s.tensors[i], *u = gm_safetensors_find(&back, t->name);
        FUZZ_CHECK(u && u->rank == t->rank && u->bytes == t->bytes && memcmp(u->data, t->data, t->bytes) == 0);
    }
    gm_safetensors_close(&back);
    gm_safetensors_close(&s);
    return true;
}
