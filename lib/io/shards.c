/* shards.c -- a model's tensors in several safetensors files, and the index that says which is where. */
#include "safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading */

static int text_order(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The files that the map names, each once, in order; *out is freed with gm_free. */
static gm_status shard_names(const char ***out, int *count, json_t *map, const char *path, gm_error *err) {
    size_t entries = json_object_size(map), n = 0;
    *out = NULL;
    *count = 0;
    if (!json_is_object(map) || entries == 0)
        return gm_fail_at(err, GM_EFORMAT, 0, "%s: not an index of shards: it has no \"weight_map\"; get it again", path);
    const char **names = *out = gm_alloc(entries, sizeof *names), *tensor;
    if (!names)
        return gm_fail_memory(err, entries * sizeof *names);
    json_t *value;
    json_object_foreach(map, tensor, value) {
        names[n] = json_string_value(value);
        if (!names[n])
            return gm_fail_at(err, GM_EFORMAT, 0, "%s: tensor '%s' is in no file; get it again", path, tensor);
        if (!gm_path_is_plain(names[n])) /* so that nothing outside is ever opened */
            return gm_fail_at(err, GM_EFORMAT, 0, "%s: tensor '%s' is said to be in '%.200s', which is not a file of this folder", path,
                              tensor, names[n]);
        n++;
    }
    qsort(names, n, sizeof *names, text_order);
    for (size_t i = 0; i < n; i++) {
        if (*count == 0 || strcmp(names[*count - 1], names[i]) != 0)
            names[(*count)++] = names[i];
    }
    return GM_OK;
}

/* Every tensor of shard i is mapped to it. */
static gm_status check_shard(const gm_safetensors *s, int i, json_t *map, const char *name, gm_error *err) {
    const gm_safetensors *shard = &s->shards[i];
    for (int j = 0; j < shard->count; j++) {
        const char *tensor = shard->tensors[j].name, *said = json_string_value(json_object_get(map, tensor));
        if (!said)
            return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(shard, &shard->tensors[j]),
                              "%s: tensor '%s' is not in the index; the files do not belong together", shard->path, tensor);
        if (strcmp(said, name) != 0)
            return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(shard, &shard->tensors[j]),
                              "%s: tensor '%s' is here, the index says it is in %s; the files do not belong together", shard->path, tensor,
                              said);
    }
    return GM_OK;
}

static gm_status open_shards(gm_safetensors *s, const char *folder, const char *const *names, int count, gm_error *err) {
    s->shards = gm_alloc((size_t)count, sizeof *s->shards);
    if (!s->shards)
        return gm_fail_memory(err, (size_t)count * sizeof *s->shards);
    json_t *map = json_object_get(s->header, "weight_map");
    for (int i = 0; i < count; i++) {
        char path[1024];
        GM_TRY(gm_path_join(path, sizeof path, folder, names[i], err));
        GM_TRY(gm_safetensors_open(&s->shards[i], path, err));
        s->shard_count++;
        GM_TRY(check_shard(s, i, map, names[i], err));
        s->count += s->shards[i].count;
    }
    s->tensors = gm_alloc((size_t)s->count, sizeof *s->tensors);
    if (!s->tensors)
        return gm_fail_memory(err, (size_t)s->count * sizeof *s->tensors);
    for (int i = 0, n = 0; i < count; i++) {
        for (int j = 0; j < s->shards[i].count; j++, n++) {
            s->tensors[n] = s->shards[i].tensors[j];
            s->tensors[n].shard = i;
        }
    }
    GM_TRY(gm_safetensors_sort(s, err));
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        if (!gm_safetensors_find(s, tensor))
            return gm_fail_at(err, GM_EFORMAT, 0, "%s: tensor '%s' is missing from %s; get both again", s->path, tensor,
                              json_string_value(value));
    }
    return GM_OK;
}

static gm_status open_index(gm_safetensors *s, const gm_file *file, gm_error *err) {
    json_error_t wrong;
    s->header = json_loadb((const char *)file->data, file->size, JSON_REJECT_DUPLICATES, &wrong);
    if (!s->header)
        return gm_fail_at(err, GM_EFORMAT, wrong.position, "%s: not JSON: %s (byte %d); get it again", s->path, wrong.text, wrong.position);
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", s->path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    else
        strcpy(folder, ".");
    const char **names;
    int count;
    gm_status status = shard_names(&names, &count, json_object_get(s->header, "weight_map"), s->path, err);
    if (status == GM_OK)
        status = open_shards(s, folder, names, count, err);
    gm_free(names);
    return status;
}

gm_status gm_safetensors_open_index(gm_safetensors *s, const char *path, gm_error *err) {
    *s = (gm_safetensors){0};
    gm_file file;
    GM_TRY(gm_file_open(&file, path, err));
    snprintf(s->path, sizeof s->path, "%s", path);
    gm_status status = open_index(s, &file, err);
    gm_file_close(&file);
    if (status != GM_OK)
        gm_safetensors_close(s);
    return status;
}

/* ---- writing */

static int64_t data_bytes(const gm_tensor_source *t) {
    return (int64_t)gm_dtype_bytes(t->dtype, t->rows * (t->cols ? t->cols : 1));
}

/* How many tensors from `first` on fill one file. */
static int shard_length(const gm_tensor_source *tensors, int count, int first, int64_t shard_bytes) {
    int64_t bytes = data_bytes(&tensors[first]);
    int n = 1;
    while (first + n < count && bytes + data_bytes(&tensors[first + n]) <= shard_bytes)
        bytes += data_bytes(&tensors[first + n++]);
    return n;
}

static gm_status index_write(json_t *map, json_int_t total, const char *folder, gm_error *err) {
    char path[1024];
    GM_TRY(gm_path_join(path, sizeof path, folder, GM_SAFETENSORS_INDEX, err));
    json_t *root = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", total, "weight_map", map);
    char *text = root ? gm_json_dump(root, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(root);
    gm_status status = text ? gm_file_write(path, text, strlen(text), err) : gm_fail_memory(err, 4096);
    free(text);
    return status;
}

gm_status gm_safetensors_write_shards(const char *folder, const gm_tensor_source *tensors, int count, const char *const *metadata,
                                      int64_t shard_bytes, gm_error *err) {
    int shards = 0;
    json_int_t total = 0;
    for (int i = 0; i < count; i += shard_length(tensors, count, i, shard_bytes))
        shards++;
    json_t *map = json_object();
    gm_status status = map ? GM_OK : gm_fail_memory(err, 4096);
    for (int i = 0, shard = 1; status == GM_OK && i < count; shard++) {
        char name[64], path[1024];
        int n = shard_length(tensors, count, i, shard_bytes);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard, shards);
        for (int j = i; j < i + n; j++) {
            json_object_set_new(map, tensors[j].name, json_string(name));
            total += data_bytes(&tensors[j]);
        }
        status = gm_path_join(path, sizeof path, folder, name, err);
        if (status == GM_OK)
            status = gm_safetensors_write(path, tensors + i, n, metadata, err);
        i += n;
    }
    if (status == GM_OK)
        status = index_write(map, total, folder, err);
    json_decref(map);
    return status;
}
