/* train_state.c -- a training state is a safetensors file of vectors. */
#include "train_state.h"
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

gm_status gm_state_write(const char *path, const gm_state_entry *entries, int count, const char *json, gm_error *err) {
    gm_tensor_source *tensors = gm_alloc((size_t)count, sizeof *tensors);
    if (!tensors)
        return gm_fail_memory(err, (size_t)count * sizeof *tensors);
    for (int i = 0; i < count; i++)
        tensors[i] = (gm_tensor_source){.name = entries[i].name, .data = entries[i].data, .rows = entries[i].count, .row_stride = 1};
    const char *metadata[] = {"format", "ghostmax.train/1", "state", json, NULL};
    gm_status status = gm_safetensors_write(path, tensors, count, metadata, err);
    gm_free(tensors);
    return status;
}

static gm_status read_arrays(const gm_safetensors *s, const gm_state_entry *entries, int count, gm_error *err) {
    if (s->count != count)
        return gm_fail(err, GM_EFORMAT, "%s: holds %d arrays where %d are needed: it is of another configuration; use another folder",
                       s->path, s->count, count);
    for (int i = 0; i < count; i++) {
        const gm_tensor *t = gm_safetensors_find(s, entries[i].name);
        if (!t || t->elements != entries[i].count || strcmp(gm_tensor_type(t), "F32") != 0)
            return gm_fail(err, GM_EFORMAT,
                           "%s: array '%s' of %lld values is not in it: it is of another configuration; use another folder", s->path,
                           entries[i].name, (long long)entries[i].count);
    }
    for (int i = 0; i < count; i++)
        GM_TRY(gm_tensor_read(s, gm_safetensors_find(s, entries[i].name), entries[i].data, 1, 1, err));
    return GM_OK;
}

gm_status gm_state_read(const char *path, const gm_state_entry *entries, int count, char **json, gm_error *err) {
    if (json)
        *json = NULL;
    gm_safetensors s;
    GM_TRY(gm_safetensors_open(&s, path, err));
    gm_status status = gm_safetensors_verify(&s, 1, err);
    const char *text = gm_safetensors_metadata(&s, "state");
    if (status == GM_OK && !text)
        status = gm_fail_at(err, GM_EFORMAT, 8, "%s: not a training state: its metadata has no 'state'; remove it to start again", path);
    if (status == GM_OK && count > 0)
        status = read_arrays(&s, entries, count, err);
    if (status == GM_OK && json && !(*json = strdup(text)))
        status = gm_fail_memory(err, strlen(text));
    gm_safetensors_close(&s);
    return status;
}
