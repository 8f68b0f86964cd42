/* safetensors.c -- reading is strict: everything that the header says is checked against the file before anyone uses it, so that the rest
 * of the library may trust what gm_safetensors_open returns. */
#include "safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian");

#define HEADER_MAX_BYTES 100000000 /* the format's own limit */
static const char metadata_key[] = "__metadata__";
static const char checksum_key[] = GM_SAFETENSORS_CHECKSUM;

/* Types that are no gm_dtype are understood as sizes only: a stock file may hold masks or counters beside the weights. */
static const struct {
    const char *name;
    size_t bytes;
    int dtype; /* gm_dtype, -1: not readable as numbers */
} types[] = {
    {"F32", 4, GM_DTYPE_F32},
    {"F16", 2, GM_DTYPE_F16},
    {"BF16", 2, GM_DTYPE_BF16},
    {"F64", 8, -1},
    {"BOOL", 1, -1},
    {"U8", 1, -1},
    {"I8", 1, -1},
    {"F8_E5M2", 1, -1},
    {"F8_E4M3", 1, -1},
    {"U16", 2, -1},
    {"I16", 2, -1},
    {"U32", 4, -1},
    {"I32", 4, -1},
    {"U64", 8, -1},
    {"I64", 8, -1},
};

const char *gm_tensor_type(const gm_tensor *t) {
    return types[t->dtype].name;
}

/* ---- the checksum: over metadata, names, types, shapes and data, in file order */

static uint64_t hash_text(const char *text, uint64_t h) {
    return gm_hash(text, strlen(text), h);
}

static uint64_t hash_metadata(json_t *metadata) {
    uint64_t h = hash_text(metadata_key, 0);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (strcmp(key, checksum_key) != 0)
            h = hash_text(json_string_value(value), hash_text(key, h));
    }
    return h;
}

static uint64_t hash_tensor(const char *name, const char *type, int rank, const int64_t *shape, uint64_t content, uint64_t h) {
    h = hash_text(type, hash_text(name, h));
    h = gm_hash(shape, (size_t)rank * sizeof *shape, h);
    return gm_hash(&content, sizeof content, h);
}

/* ---- reading */

/* Every error of the format names the file and says what can be done about it. */
#define BAD(offset, format, ...)                                                                                                    \
    gm_fail_at(err, GM_EFORMAT, (int64_t)(offset), "%s: not a good safetensors file: " format " (byte %zu); get it again", s->path, \
               __VA_ARGS__, (size_t)(offset))

static gm_status read_entry(gm_safetensors *s, gm_tensor *t, const char *name, json_t *entry, const uint8_t *data, size_t data_bytes,
                            gm_error *err) {
    t->name = name;
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    if (!dtype || !json_is_array(shape) || json_array_size(offsets) != 2)
        return BAD(8, "tensor '%s' lacks dtype, shape or data_offsets", name);
    t->dtype = -1;
    for (int i = 0; i < GM_COUNT(types); i++) {
        if (strcmp(dtype, types[i].name) == 0)
            t->dtype = i;
    }
    if (t->dtype < 0)
        return BAD(8, "tensor '%s' has the unknown type '%s'", name, dtype);
    if (json_array_size(shape) > GM_TENSOR_RANK_MAX)
        return BAD(8, "tensor '%s' has %zu dimensions, more than %d", name, json_array_size(shape), GM_TENSOR_RANK_MAX);
    t->rank = (int)json_array_size(shape);
    t->elements = 1;
    for (int i = 0; i < t->rank; i++) {
        json_t *size = json_array_get(shape, (size_t)i);
        t->shape[i] = json_integer_value(size);
        if (!json_is_integer(size) || t->shape[i] < 0 || __builtin_mul_overflow(t->elements, t->shape[i], &t->elements))
            return BAD(8, "tensor '%s' has an impossible shape", name);
    }
    json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (!json_is_integer(first) || !json_is_integer(last) || begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return BAD(8, "tensor '%s' lies outside the %zu bytes of data: the file is truncated or damaged", name, data_bytes);
    t->begin = (size_t)begin;
    t->bytes = (size_t)(end - begin);
    t->data = data + t->begin;
    size_t bytes;
    if (__builtin_mul_overflow((size_t)t->elements, types[t->dtype].bytes, &bytes) || bytes != t->bytes)
        return BAD(s->data_at + t->begin, "tensor '%s' has %zu bytes, its type and shape say otherwise", name, t->bytes);
    return GM_OK;
}

static int by_offset(const void *a, const void *b) {
    const gm_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes) /* empty tensors come before the one that starts at the same place */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static gm_status check_metadata(gm_safetensors *s, json_t *metadata, gm_error *err) {
    if (!json_is_object(metadata))
        return BAD(8, "%s is not an object", metadata_key);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return BAD(8, "metadata '%s' is not a text", key);
    }
    return GM_OK;
}

static int by_name(const void *a, const void *b) {
    const gm_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

gm_status gm_safetensors_sort(gm_safetensors *s, gm_error *err) {
    s->by_name = gm_alloc((size_t)s->count, sizeof *s->by_name);
    if (!s->by_name)
        return gm_fail_memory(err, (size_t)s->count * sizeof *s->by_name);
    for (int i = 0; i < s->count; i++)
        s->by_name[i] = &s->tensors[i];
    qsort(s->by_name, (size_t)s->count, sizeof *s->by_name, by_name);
    return GM_OK;
}

static gm_status verify_file(const gm_safetensors *s, int threads, gm_error *err) {
    const char *stored = gm_safetensors_metadata(s, checksum_key);
    if (!stored)
        return GM_OK;
    uint64_t *content = gm_alloc((size_t)s->count, sizeof *content);
    if (!content)
        return gm_fail_memory(err, (size_t)s->count * sizeof *content);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (s->file.size > 1 << 22)
    for (int i = 0; i < s->count; i++)
        content[i] = gm_checksum(s->tensors[i].data, s->tensors[i].bytes);
    uint64_t h = hash_metadata(json_object_get(s->header, metadata_key));
    for (int i = 0; i < s->count; i++) {
        const gm_tensor *t = &s->tensors[i];
        h = hash_tensor(t->name, gm_tensor_type(t), t->rank, t->shape, content[i], h);
    }
    gm_free(content);
    char found[17];
    snprintf(found, sizeof found, "%016" PRIx64, h);
    if (strcmp(found, stored) != 0)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)s->data_at,
                          "%s: altered or damaged: its checksum is %s, its content gives %s; restore the file from a copy", s->path, stored,
                          found);
    return GM_OK;
}

gm_status gm_safetensors_verify(const gm_safetensors *s, int threads, gm_error *err) {
    for (int i = 0; i < s->shard_count; i++)
        GM_TRY(verify_file(&s->shards[i], threads, err));
    return s->shard_count ? GM_OK : verify_file(s, threads, err);
}

static gm_status parse(gm_safetensors *s, const uint8_t *bytes, size_t n, gm_error *err) {
    if (n < 8)
        return BAD(0, "%zu bytes are too short for a header", n);
    uint64_t header_bytes;
    memcpy(&header_bytes, bytes, 8);
    if (header_bytes > n - 8)
        return BAD(0, "a header of %" PRIu64 " bytes does not fit into the file's %zu: it is truncated or of another format", header_bytes,
                   n);
    if (header_bytes > HEADER_MAX_BYTES)
        return BAD(0, "a header of %" PRIu64 " bytes is over the format's limit", header_bytes);
    s->data_at = 8 + (size_t)header_bytes;
    const uint8_t *data = bytes + s->data_at;
    size_t data_bytes = n - s->data_at;
    json_error_t wrong;
    s->header = json_loadb((const char *)bytes + 8, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &wrong);
    if (!s->header)
        return BAD(8 + wrong.position, "header: %s", wrong.text);
    if (!json_is_object(s->header))
        return BAD(8, "%s", "the header is not an object");
    size_t entries = json_object_size(s->header);
    s->tensors = gm_alloc(entries, sizeof *s->tensors);
    if (!s->tensors)
        return gm_fail_memory(err, entries * sizeof *s->tensors);
    const char *name;
    json_t *entry;
    json_object_foreach(s->header, name, entry) {
        if (strcmp(name, metadata_key) == 0)
            GM_TRY(check_metadata(s, entry, err));
        else
            GM_TRY(read_entry(s, &s->tensors[s->count++], name, entry, data, data_bytes, err));
    }
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_offset);
    size_t at = 0;
    for (int i = 0; i < s->count; i++) {
        const gm_tensor *t = &s->tensors[i];
        if (t->begin != at)
            return BAD(s->data_at + t->begin, "tensor '%s' %s", t->name,
                       t->begin < at ? "overlaps the one before it" : "leaves a hole before it");
        at += t->bytes;
    }
    if (at != data_bytes)
        return BAD(s->data_at + at, "%zu bytes after the last tensor belong to none", data_bytes - at);
    return gm_safetensors_sort(s, err);
}

gm_status gm_safetensors_parse(gm_safetensors *s, const void *bytes, size_t n, const char *name, gm_error *err) {
    *s = (gm_safetensors){0};
    snprintf(s->path, sizeof s->path, "%s", name);
    gm_status status = parse(s, bytes, n, err);
    if (status != GM_OK)
        gm_safetensors_close(s);
    return status;
}

gm_status gm_safetensors_open(gm_safetensors *s, const char *path, gm_error *err) {
    *s = (gm_safetensors){0};
    gm_file file;
    GM_TRY(gm_file_open(&file, path, err));
    gm_status status = gm_safetensors_parse(s, file.data, file.size, path, err);
    if (status == GM_OK)
        s->file = file;
    else
        gm_file_close(&file);
    return status;
}

void gm_safetensors_close(gm_safetensors *s) {
    for (int i = 0; i < s->shard_count; i++)
        gm_safetensors_close(&s->shards[i]);
    gm_free(s->shards);
    gm_free(s->by_name);
    gm_free(s->tensors);
    json_decref(s->header);
    gm_file_close(&s->file);
    *s = (gm_safetensors){0};
}

const gm_tensor *gm_safetensors_find(const gm_safetensors *s, const char *name) {
    const gm_tensor key = {.name = name}, *wanted = &key;
    const gm_tensor *const *found = bsearch(&wanted, s->by_name, (size_t)s->count, sizeof *s->by_name, by_name);
    return found ? *found : NULL;
}

static const gm_safetensors *home_of(const gm_safetensors *s, const gm_tensor *t) {
    return s->shard_count ? &s->shards[t->shard] : s;
}

const char *gm_safetensors_metadata(const gm_safetensors *s, const char *key) {
    return json_string_value(json_object_get(json_object_get(s->shard_count ? s->shards->header : s->header, metadata_key), key));
}

const char *gm_tensor_path(const gm_safetensors *s, const gm_tensor *t) {
    return home_of(s, t)->path;
}

int64_t gm_tensor_offset(const gm_safetensors *s, const gm_tensor *t) {
    return (int64_t)(home_of(s, t)->data_at + t->begin);
}

void gm_safetensors_types(const gm_safetensors *s, char *dst, size_t size) {
    double elements[GM_COUNT(types)] = {0};
    for (int i = 0; i < s->count; i++)
        elements[s->tensors[i].dtype] += (double)s->tensors[i].elements;
    size_t n = 0;
    *dst = 0;
    for (;;) {
        int most = 0;
        for (int i = 1; i < GM_COUNT(types); i++)
            most = elements[i] > elements[most] ? i : most;
        if (elements[most] == 0 || n >= size)
            return;
        n += (size_t)snprintf(dst + n, size - n, "%s%s", n ? ", " : "", types[most].name);
        elements[most] = 0;
    }
}

gm_status gm_tensor_check(const gm_safetensors *s, const gm_tensor *t, gm_error *err) {
    if (types[t->dtype].dtype < 0)
        return gm_fail_at(err, GM_EUNSUPPORTED, gm_tensor_offset(s, t),
                          "%s: tensor '%s' has type %s; only F32, F16 and BF16 weights can be read", gm_tensor_path(s, t), t->name,
                          gm_tensor_type(t));
    return GM_OK;
}

static int64_t tensor_cols(const gm_tensor *t) {
    return t->rank >= 2 ? t->shape[t->rank - 1] : 1;
}

/* Tiles, so that both sides are touched in whole cache lines: a plain walk over one of them would miss at every step of the other. */
static void rows_transposed(gm_dtype type, const uint8_t *src, int64_t rows, int64_t cols, float *dst, int64_t row_stride,
                            int64_t col_stride) {
    enum { TILE_ROWS = 16, TILE_COLS = 64 };
    float tile[TILE_ROWS][TILE_COLS];
    for (int64_t i = 0; i < rows; i += TILE_ROWS) {
        for (int64_t j = 0; j < cols; j += TILE_COLS) {
            int64_t height = GM_MIN(TILE_ROWS, rows - i), width = GM_MIN(TILE_COLS, cols - j);
            for (int64_t r = 0; r < height; r++)
                gm_dtype_decode(type, tile[r], src + gm_dtype_bytes(type, (i + r) * cols + j), width);
            for (int64_t c = 0; c < width; c++) {
                for (int64_t r = 0; r < height; r++)
                    dst[(i + r) * row_stride + (j + c) * col_stride] = tile[r][c];
            }
        }
    }
}

void gm_tensor_rows(const gm_tensor *t, int64_t first, int64_t count, float *dst, int64_t row_stride, int64_t col_stride) {
    const gm_dtype type = (gm_dtype)types[t->dtype].dtype;
    const int64_t cols = tensor_cols(t);
    const uint8_t *src = t->data + gm_dtype_bytes(type, first * cols);
    dst += first * row_stride;
    if (col_stride != 1 && cols != 1) {
        rows_transposed(type, src, count, cols, dst, row_stride, col_stride);
    } else if (row_stride == cols) {
        gm_dtype_decode(type, dst, src, count * cols);
    } else {
        for (int64_t i = 0; i < count; i++)
            gm_dtype_decode(type, dst + i * row_stride, src + gm_dtype_bytes(type, i * cols), cols);
    }
}

gm_status gm_tensor_read(const gm_safetensors *s, const gm_tensor *t, float *dst, int64_t row_stride, int64_t col_stride, gm_error *err) {
    GM_TRY(gm_tensor_check(s, t, err));
    int64_t cols = tensor_cols(t);
    gm_tensor_rows(t, 0, cols ? t->elements / cols : 0, dst, row_stride, col_stride);
    return GM_OK;
}

/* ---- writing */

static int64_t source_cols(const gm_tensor_source *t) {
    return t->cols ? t->cols : 1;
}

static size_t source_elements(const gm_tensor_source *t) {
    return (size_t)(t->rows * source_cols(t));
}

static bool source_is_plain(const gm_tensor_source *t) {
    return t->row_stride == source_cols(t) && (t->col_stride == 1 || source_cols(t) == 1);
}

static size_t source_bytes(const gm_tensor_source *t) {
    for (int i = 0; t->raw && i < GM_COUNT(types); i++) {
        if (strcmp(types[i].name, t->raw_type) == 0)
            return source_elements(t) * types[i].bytes;
    }
    return gm_dtype_bytes(t->dtype, (int64_t)source_elements(t));
}

static const char *source_type(const gm_tensor_source *t) {
    int i = 0;
    if (t->raw)
        return t->raw_type;
    while (types[i].dtype != (int)t->dtype)
        i++;
    return types[i].name;
}

/* The tensor's elements in file order: its own memory where it is in that order and type already, else gathered and converted into the
 * buffers (buffer: f32; bytes: those of the file's type). */
static const void *source_data(const gm_tensor_source *t, float *buffer, uint8_t *bytes) {
    const float *data = t->data;
    if (t->raw)
        return t->raw;
    if (!source_is_plain(t)) {
        float *p = buffer;
        for (int64_t i = 0; i < t->rows; i++) {
            for (int64_t j = 0; j < source_cols(t); j++)
                *p++ = t->data[i * t->row_stride + j * t->col_stride];
        }
        data = buffer;
    }
    if (t->dtype == GM_DTYPE_F32)
        return data;
    gm_dtype_encode(t->dtype, bytes, data, (int64_t)source_elements(t)); /* fits: header_add_checksum saw it */
    return bytes;
}

/* The header as JSON, without its checksum; NULL: a name twice, text that is not UTF-8, or no memory. */
static json_t *header_make(const gm_tensor_source *tensors, int count, const char *const *metadata) {
    json_t *header = json_object(), *texts = json_object();
    bool ok = json_object_set_new(header, metadata_key, texts) == 0;
    for (; ok && metadata && *metadata; metadata += 2)
        ok = json_object_set_new(texts, metadata[0], json_string(metadata[1])) == 0;
    json_int_t at = 0;
    for (int i = 0; ok && i < count; i++) {
        const gm_tensor_source *t = &tensors[i];
        json_int_t end = at + (json_int_t)source_bytes(t);
        json_t *shape = t->cols ? json_pack("[I,I]", (json_int_t)t->rows, (json_int_t)t->cols) : json_pack("[I]", (json_int_t)t->rows);
        json_t *entry = json_pack("{s:s,s:o,s:[I,I]}", "dtype", source_type(t), "shape", shape, "data_offsets", at, end);
        ok = json_object_set_new(header, t->name, entry) == 0;
        at = end;
    }
    if (ok && json_object_size(header) == (size_t)count + 1)
        return header;
    json_decref(header);
    return NULL;
}

/* false: no memory. */
static bool header_add_checksum(json_t *header, const gm_tensor_source *tensors, int count, float *buffer, uint8_t *bytes) {
    json_t *texts = json_object_get(header, metadata_key);
    uint64_t h = hash_metadata(texts);
    for (int i = 0; i < count; i++) {
        const gm_tensor_source *t = &tensors[i];
        int64_t shape[2] = {t->rows, t->cols};
        h = hash_tensor(t->name, source_type(t), t->cols ? 2 : 1, shape, gm_checksum(source_data(t, buffer, bytes), source_bytes(t)), h);
    }
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, h);
    return json_object_set_new(texts, checksum_key, json_string(text)) == 0;
}

/* Can it be written; how large a buffer does it need? */
static gm_status check_source(const gm_tensor_source *t, const char *path, size_t *gathered, size_t *converted, gm_error *err) {
    if (t->rows < 1)
        return gm_fail(err, GM_EINVAL, "%s: tensor '%s' is empty", path, t->name);
    if (t->raw)
        return GM_OK;
    if (t->dtype == GM_DTYPE_Q8_0)
        return gm_fail(err, GM_EUNSUPPORTED, "%s: safetensors has no q8_0; choose f32, f16 or bf16", path);
    if (!source_is_plain(t))
        *gathered = GM_MAX(*gathered, source_elements(t));
    if (t->dtype == GM_DTYPE_F32)
        return GM_OK;
    *converted = GM_MAX(*converted, source_bytes(t));
    uint8_t row[2 * 256];
    float numbers[256];
    for (int64_t i = 0; i < t->rows; i++) {
        for (int64_t j = 0; j < source_cols(t); j += 256) {
            int64_t n = GM_MIN(256, source_cols(t) - j);
            for (int64_t k = 0; k < n; k++)
                numbers[k] = t->data[i * t->row_stride + (j + k) * t->col_stride];
            if (!gm_dtype_encode(t->dtype, row, numbers, n))
                return gm_fail(err, GM_EINVAL, "%s: tensor '%s' has a number too large for %s; choose another type", path, t->name,
                               gm_dtype_name(t->dtype));
        }
    }
    return GM_OK;
}

gm_status gm_safetensors_write(const char *path, const gm_tensor_source *tensors, int count, const char *const *metadata, gm_error *err) {
    size_t gathered = 0, converted = 0;
    for (int i = 0; i < count; i++)
        GM_TRY(check_source(&tensors[i], path, &gathered, &converted, err));
    gm_status status = GM_OK;
    char *text = NULL;
    float *buffer = gm_alloc(gathered, sizeof(float));
    uint8_t *bytes = gm_alloc(converted, 1);
    json_t *header = header_make(tensors, count, metadata);
    if (!buffer || !bytes) {
        status = gm_fail_memory(err, gathered * sizeof(float) + converted);
        goto done;
    }
    if (header && header_add_checksum(header, tensors, count, buffer, bytes))
        text = gm_json_dump(header, JSON_COMPACT);
    if (!text) {
        status = gm_fail(err, GM_EINVAL, "%s: a tensor's or metadata's name stands twice or is not UTF-8", path);
        goto done;
    }
    /* Spaces up to a multiple of 8, so that the data is aligned for whoever maps it. */
    static const char spaces[8] = "        ";
    size_t length = strlen(text), padding = (8 - length % 8) % 8;
    uint64_t header_bytes = length + padding;
    gm_writer w;
    GM_TRY_GOTO(gm_writer_open(&w, path, err));
    gm_writer_put(&w, &header_bytes, 8);
    gm_writer_put(&w, text, length);
    gm_writer_put(&w, spaces, padding);
    for (int i = 0; i < count; i++)
        gm_writer_put(&w, source_data(&tensors[i], buffer, bytes), source_bytes(&tensors[i]));
    status = gm_writer_commit(&w, err);
done:
    free(text);
    json_decref(header);
    gm_free(buffer);
    gm_free(bytes);
    return status;
}
