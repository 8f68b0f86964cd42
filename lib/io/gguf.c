/* gguf.c -- GGUF files. Reading is strict: everything that the file says is checked before anyone uses it, so that the rest of the library
 * may trust what gm_gguf_parse returns. Writing collects, lays out, then encodes row by row. */
#include "gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x46554747 /* "GGUF" */, VERSION = 3, ALIGNMENT = 32, NESTING_MAX = 4, KEY_MAX = 65535, ALIGNMENT_MAX = 1 << 20 };
/* The least that a key with its value, and a tensor's description, take up: what a count may claim is bounded by them. */
enum { VALUE_BYTES_MIN = 8 + 1 + 4 + 1, TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 };
static const char alignment_key[] = "general.alignment";

static const struct {
    const char *name;
    size_t bytes; /* 0: of no fixed size */
} value_types[GM_GGUF_TYPES] = {
    [GM_GGUF_U8] = {"u8", 1},     [GM_GGUF_I8] = {"i8", 1},       [GM_GGUF_U16] = {"u16", 2}, [GM_GGUF_I16] = {"i16", 2},
    [GM_GGUF_U32] = {"u32", 4},   [GM_GGUF_I32] = {"i32", 4},     [GM_GGUF_F32] = {"f32", 4}, [GM_GGUF_BOOL] = {"bool", 1},
    [GM_GGUF_TEXT] = {"text", 0}, [GM_GGUF_ARRAY] = {"array", 0}, [GM_GGUF_U64] = {"u64", 8}, [GM_GGUF_I64] = {"i64", 8},
    [GM_GGUF_F64] = {"f64", 8}};

/* ggml's types: elements and bytes of a block. Those that gm_dtype has not are understood as sizes, so that the rest of their file is. */
static const struct {
    const char *name;
    int64_t block;
    size_t bytes;
    int dtype; /* -1: cannot be read */
} tensor_types[] = {
    [0] = {"F32", 1, 4, GM_DTYPE_F32},
    [1] = {"F16", 1, 2, GM_DTYPE_F16},
    [2] = {"Q4_0", 32, 18, -1},
    [3] = {"Q4_1", 32, 20, -1},
    [6] = {"Q5_0", 32, 22, -1},
    [7] = {"Q5_1", 32, 24, -1},
    [8] = {"Q8_0", 32, 34, GM_DTYPE_Q8_0},
    [9] = {"Q8_1", 32, 36, -1},
    [10] = {"Q2_K", 256, 84, -1},
    [11] = {"Q3_K", 256, 110, -1},
    [12] = {"Q4_K", 256, 144, -1},
    [13] = {"Q5_K", 256, 176, -1},
    [14] = {"Q6_K", 256, 210, -1},
    [15] = {"Q8_K", 256, 292, -1},
    [16] = {"IQ2_XXS", 256, 66, -1},
    [17] = {"IQ2_XS", 256, 74, -1},
    [18] = {"IQ3_XXS", 256, 98, -1},
    [19] = {"IQ1_S", 256, 50, -1},
    [20] = {"IQ4_NL", 32, 18, -1},
    [21] = {"IQ3_S", 256, 110, -1},
    [22] = {"IQ2_S", 256, 82, -1},
    [23] = {"IQ4_XS", 256, 136, -1},
    [24] = {"I8", 1, 1, -1},
    [25] = {"I16", 1, 2, -1},
    [26] = {"I32", 1, 4, -1},
    [27] = {"I64", 1, 8, -1},
    [28] = {"F64", 1, 8, -1},
    [29] = {"IQ1_M", 256, 56, -1},
    [30] = {"BF16", 1, 2, GM_DTYPE_BF16},
    [34] = {"TQ1_0", 256, 54, -1},
    [35] = {"TQ2_0", 256, 66, -1},
    [39] = {"MXFP4", 32, 17, -1},
};

const char *gm_gguf_tensor_type(const gm_gguf_tensor *t) {
    return tensor_types[t->type].name;
}

bool gm_gguf_tensor_dtype(const gm_gguf_tensor *t, gm_dtype *out) {
    *out = (gm_dtype)tensor_types[t->type].dtype;
    return tensor_types[t->type].dtype >= 0;
}

static size_t padding(size_t at, size_t alignment) {
    return (alignment - at % alignment) % alignment;
}

/* ---- reading: a place in the file that never moves past its end */

typedef struct cursor {
    const char *path;
    const uint8_t *data;
    size_t at, size;
    gm_error *err;
} cursor;

#define BAD(c, offset, format, ...)                                                                                                 \
    gm_fail_at((c)->err, GM_EFORMAT, (int64_t)(offset), "%s: not a good GGUF file: " format " (byte %zu); get it again", (c)->path, \
               __VA_ARGS__, (size_t)(offset))

/* The next n bytes; NULL (GM_EFORMAT): there are not so many. */
static const void *take(cursor *c, uint64_t n, const char *what) {
    if (n > c->size - c->at) {
        BAD(c, c->at, "%s of %llu bytes goes past the end of the file's %zu: it is truncated or damaged", what, (unsigned long long)n,
            c->size);
        return NULL;
    }
    c->at += (size_t)n;
    return c->data + c->at - n;
}

static gm_status take_u32(cursor *c, uint32_t *x, const char *what) {
    const void *bytes = take(c, 4, what);
    if (!bytes)
        return GM_EFORMAT;
    memcpy(x, bytes, 4);
    return GM_OK;
}

static gm_status take_u64(cursor *c, uint64_t *x, const char *what) {
    const void *bytes = take(c, 8, what);
    if (!bytes)
        return GM_EFORMAT;
    memcpy(x, bytes, 8);
    return GM_OK;
}

static gm_status take_text(cursor *c, gm_gguf_text *text, const char *what) {
    uint64_t size;
    GM_TRY(take_u64(c, &size, what));
    *text = (gm_gguf_text){take(c, size, what), (size_t)size};
    return text->data ? GM_OK : GM_EFORMAT;
}

/* Names are printed, compared and looked for: none is empty or has control characters. */
static gm_status take_name(cursor *c, gm_gguf_text *name, size_t max, const char *what) {
    size_t at = c->at;
    GM_TRY(take_text(c, name, what));
    bool good = name->size >= 1 && name->size <= max;
    for (size_t i = 0; good && i < name->size; i++)
        good = (uint8_t)name->data[i] >= 0x20 && name->data[i] != 0x7f;
    return good ? GM_OK : BAD(c, at, "%s is empty, longer than %zu bytes or has control characters", what, max);
}

static gm_status take_type(cursor *c, gm_gguf_type *type, gm_gguf_text key) {
    uint32_t number;
    GM_TRY(take_u32(c, &number, "a value's type"));
    if (number >= GM_GGUF_TYPES)
        return BAD(c, c->at - 4, "'%.*s' has the unknown type %u", (int)GM_MIN(key.size, 64), key.data, number);
    *type = (gm_gguf_type)number;
    return GM_OK;
}

static gm_status take_elements(cursor *c, gm_gguf_value *v, uint64_t count, int depth);

static gm_status take_array(cursor *c, gm_gguf_value *v, int depth) {
    uint64_t count;
    if (depth > NESTING_MAX)
        return BAD(c, c->at, "'%.*s' has arrays more than %d deep", (int)GM_MIN(v->key.size, 64), v->key.data, NESTING_MAX);
    GM_TRY(take_type(c, &v->element, v->key));
    GM_TRY(take_u64(c, &count, "an array's length"));
    return take_elements(c, v, count, depth);
}

/* `count` elements of v->element, which ends up as v's data. */
static gm_status take_elements(cursor *c, gm_gguf_value *v, uint64_t count, int depth) {
    const size_t begin = c->at, size = value_types[v->element].bytes;
    uint64_t total;
    gm_gguf_text text;
    if (__builtin_mul_overflow(count, GM_MAX(size, 1), &total) || total > c->size - c->at)
        return BAD(c, begin, "'%.*s' has %llu elements of type %s, more than the rest of the file can hold", (int)GM_MIN(v->key.size, 64),
                   v->key.data, (unsigned long long)count, value_types[v->element].name);
    c->at += size ? (size_t)total : 0;
    for (uint64_t i = 0; v->element == GM_GGUF_BOOL && i < count; i++) {
        if (c->data[begin + i] > 1)
            return BAD(c, begin + i, "'%.*s' has a bool of %d", (int)GM_MIN(v->key.size, 64), v->key.data, c->data[begin + i]);
    }
    for (uint64_t i = 0; v->element == GM_GGUF_TEXT && i < count; i++)
        GM_TRY(take_text(c, &text, "a text"));
    for (uint64_t i = 0; v->element == GM_GGUF_ARRAY && i < count; i++) {
        gm_gguf_value inner = {.key = v->key};
        GM_TRY(take_array(c, &inner, depth + 1));
    }
    v->count = (int64_t)count;
    v->data = c->data + begin;
    v->at = begin;
    v->bytes = c->at - begin;
    return GM_OK;
}

static gm_status take_value(cursor *c, gm_gguf_value *v) {
    GM_TRY(take_name(c, &v->key, KEY_MAX, "a key"));
    GM_TRY(take_type(c, &v->type, v->key));
    v->element = v->type;
    return v->type == GM_GGUF_ARRAY ? take_array(c, v, 1) : take_elements(c, v, 1, 0);
}

/* The description; its data's place is checked by check_places. t->at is the offset into the data section. */
static gm_status take_tensor(cursor *c, gm_gguf_tensor *t) {
    gm_gguf_text name;
    uint32_t rank, type;
    uint64_t size, offset;
    GM_TRY(take_name(c, &name, GM_GGUF_NAME_MAX, "a tensor's name"));
    memcpy(t->name, name.data, name.size);
    GM_TRY(take_u32(c, &rank, "a tensor's rank"));
    if (rank < 1 || rank > GM_GGUF_RANK_MAX)
        return BAD(c, c->at - 4, "tensor '%s' has %u dimensions, it must be 1..%d", t->name, rank, GM_GGUF_RANK_MAX);
    t->rank = (int)rank;
    t->elements = 1;
    for (int i = 0; i < GM_GGUF_RANK_MAX; i++) {
        t->shape[i] = 1;
        if (i >= t->rank)
            continue;
        GM_TRY(take_u64(c, &size, "a tensor's shape"));
        if (size < 1 || size > INT64_MAX || __builtin_mul_overflow(t->elements, (int64_t)size, &t->elements))
            return BAD(c, c->at - 8, "tensor '%s' has an impossible shape", t->name);
        t->shape[i] = (int64_t)size;
    }
    GM_TRY(take_u32(c, &type, "a tensor's type"));
    if (type >= (uint32_t)GM_COUNT(tensor_types) || !tensor_types[type].name)
        return BAD(c, c->at - 4, "tensor '%s' has the unknown type %u", t->name, type);
    t->type = (int)type;
    if (t->shape[0] % tensor_types[type].block != 0)
        return BAD(c, c->at - 4, "tensor '%s' has rows of %lld elements, which %s cannot cut into blocks of %lld", t->name,
                   (long long)t->shape[0], tensor_types[type].name, (long long)tensor_types[type].block);
    if (__builtin_mul_overflow((uint64_t)(t->elements / tensor_types[type].block), tensor_types[type].bytes, &t->bytes))
        return BAD(c, c->at - 4, "tensor '%s' has an impossible size", t->name);
    GM_TRY(take_u64(c, &offset, "a tensor's offset"));
    t->at = (size_t)offset;
    return GM_OK;
}

/* As the format's own library asks: in order, each at the next multiple of the alignment, nothing between or after. */
static gm_status check_places(cursor *c, gm_gguf *g) {
    size_t begin = c->at + padding(c->at, g->alignment), at = 0;
    for (int64_t i = 0; i < g->tensor_count; i++) {
        gm_gguf_tensor *t = &g->tensors[i];
        if (begin > c->size || t->bytes > c->size - begin || t->at > c->size - begin - t->bytes)
            return BAD(c, GM_MIN(begin, c->size), "tensor '%s' (%zu bytes at offset %zu of the data) goes past the end of the file",
                       t->name, t->bytes, t->at);
        if (t->at != at)
            return BAD(c, begin + t->at, "tensor '%s' is at offset %zu of the data, it should be at %zu: it %s", t->name, t->at, at,
                       t->at < at ? "overlaps another or is out of order" : "leaves a hole");
        at += t->bytes + padding(t->bytes, g->alignment);
        t->at += begin;
        t->data = c->data + t->at;
    }
    size_t end = g->tensor_count ? begin + at : begin;
    if (c->size > end)
        return BAD(c, end, "%zu bytes after the last tensor belong to none", c->size - end);
    return GM_OK;
}

static int compare_texts(const char *a, size_t a_size, const char *b, size_t b_size) {
    int order = memcmp(a, b, GM_MIN(a_size, b_size));
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int by_key(const void *a, const void *b) {
    const gm_gguf_value *const *x = a, *const *y = b;
    return compare_texts((*x)->key.data, (*x)->key.size, (*y)->key.data, (*y)->key.size);
}

static int by_name(const void *a, const void *b) {
    const gm_gguf_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Room for what the counts claim, which the rest of the file must be able to hold. */
static gm_status tables_make(gm_gguf *g, cursor *c, uint64_t tensors, uint64_t values) {
    size_t rest = c->size - c->at;
    if (tensors > rest / TENSOR_BYTES_MIN || values > rest / VALUE_BYTES_MIN)
        return BAD(c, 8, "%llu tensors and %llu keys are more than %zu bytes can hold", (unsigned long long)tensors,
                   (unsigned long long)values, c->size);
    g->values = gm_alloc(values, sizeof *g->values);
    g->tensors = gm_alloc(tensors, sizeof *g->tensors);
    g->by_key = gm_alloc(values, sizeof *g->by_key);
    g->by_name = gm_alloc(tensors, sizeof *g->by_name);
    if (!g->values || !g->tensors || !g->by_key || !g->by_name)
        return gm_fail_memory(c->err, values * sizeof *g->values + tensors * sizeof *g->tensors);
    return GM_OK;
}

static gm_status check_alignment(gm_gguf *g, cursor *c) {
    const gm_gguf_value *v = gm_gguf_find(g, alignment_key);
    int64_t alignment = ALIGNMENT;
    if (v && (v->type != GM_GGUF_U32 || !gm_gguf_whole(v, 0, &alignment) || alignment < 1 || alignment > ALIGNMENT_MAX ||
              (alignment & (alignment - 1))))
        return BAD(c, v->at, "%s must be a power of two up to %d, as a u32", alignment_key, ALIGNMENT_MAX);
    g->alignment = (size_t)alignment;
    return GM_OK;
}

static gm_status parse(gm_gguf *g, cursor *c) {
    uint32_t magic, version;
    uint64_t tensors, values;
    GM_TRY(take_u32(c, &magic, "the header"));
    if (magic != MAGIC)
        return BAD(c, 0, "it does not begin with '%s'", "GGUF");
    GM_TRY(take_u32(c, &version, "the header"));
    if (version != 2 && version != VERSION)
        return gm_fail_at(c->err, GM_EUNSUPPORTED, 4, "%s: GGUF version %u%s (byte 4); little-endian versions 2 and 3 can be read", c->path,
                          version & 0xffff ? version : version >> 24, version & 0xffff ? "" : " in big-endian order");
    g->version = (int)version;
    GM_TRY(take_u64(c, &tensors, "the header"));
    GM_TRY(take_u64(c, &values, "the header"));
    GM_TRY(tables_make(g, c, tensors, values));

    for (uint64_t i = 0; i < values; i++) {
        GM_TRY(take_value(c, &g->values[i]));
        g->by_key[i] = &g->values[i];
    }
    g->value_count = (int64_t)values;
    qsort(g->by_key, values, sizeof *g->by_key, by_key);
    for (uint64_t i = 1; i < values; i++) {
        const gm_gguf_value *v = GM_MAX(g->by_key[i], g->by_key[i - 1]); /* the later one */
        if (by_key(&g->by_key[i - 1], &g->by_key[i]) == 0)
            return BAD(c, v->at, "key '%.*s' stands twice", (int)GM_MIN(v->key.size, 64), v->key.data);
    }
    GM_TRY(check_alignment(g, c));

    size_t tensors_at = c->at;
    for (uint64_t i = 0; i < tensors; i++) {
        GM_TRY(take_tensor(c, &g->tensors[i]));
        g->by_name[i] = &g->tensors[i];
    }
    g->tensor_count = (int64_t)tensors;
    qsort(g->by_name, tensors, sizeof *g->by_name, by_name);
    for (uint64_t i = 1; i < tensors; i++) {
        if (by_name(&g->by_name[i - 1], &g->by_name[i]) == 0)
            return BAD(c, tensors_at, "tensor '%s' stands twice", g->by_name[i]->name);
    }
    return check_places(c, g);
}

bool gm_gguf_is(const void *bytes, size_t n) {
    return n >= 4 && memcmp(bytes, "GGUF", 4) == 0;
}

gm_status gm_gguf_parse(gm_gguf *g, const void *bytes, size_t n, const char *name, gm_error *err) {
    *g = (gm_gguf){0};
    snprintf(g->path, sizeof g->path, "%s", name);
    cursor c = {.path = g->path, .data = bytes, .size = n, .err = err};
    gm_status status = parse(g, &c);
    if (status != GM_OK)
        gm_gguf_close(g);
    return status;
}

void gm_gguf_close(gm_gguf *g) {
    gm_free(g->values);
    gm_free(g->tensors);
    gm_free(g->by_key);
    gm_free(g->by_name);
    *g = (gm_gguf){0};
}

/* ---- looking things up */

const gm_gguf_value *gm_gguf_find(const gm_gguf *g, const char *key) {
    const gm_gguf_value wanted = {.key = {key, strlen(key)}}, *at = &wanted, **found;
    found = bsearch(&at, g->by_key, (size_t)g->value_count, sizeof *g->by_key, by_key);
    return found ? *found : NULL;
}

const gm_gguf_tensor *gm_gguf_find_tensor(const gm_gguf *g, const char *name) {
    int64_t low = 0, high = g->tensor_count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        int order = strcmp(g->by_name[middle]->name, name);
        if (order == 0)
            return g->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool gm_gguf_whole(const gm_gguf_value *v, int64_t i, int64_t *out) {
    size_t size = value_types[v->element].bytes;
    if (i < 0 || i >= v->count || !size || v->element == GM_GGUF_F32 || v->element == GM_GGUF_F64)
        return false;
    uint64_t bits = 0;
    memcpy(&bits, v->data + (size_t)i * size, size); /* little-endian */
    bool is_signed = v->element == GM_GGUF_I8 || v->element == GM_GGUF_I16 || v->element == GM_GGUF_I32 || v->element == GM_GGUF_I64;
    uint64_t sign = (uint64_t)1 << (8 * size - 1);
    *out = (int64_t)(is_signed ? (bits ^ sign) - sign : bits);
    return is_signed || bits <= INT64_MAX;
}

bool gm_gguf_real(const gm_gguf_value *v, int64_t i, double *out) {
    if (i < 0 || i >= v->count || (v->element != GM_GGUF_F32 && v->element != GM_GGUF_F64))
        return false;
    if (v->element == GM_GGUF_F64) {
        memcpy(out, v->data + 8 * i, sizeof *out);
        return true;
    }
    float x;
    memcpy(&x, v->data + 4 * i, sizeof x);
    *out = x;
    for (int digits = 1; digits <= 9 && isfinite(x); digits++) {
        char text[32];
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        *out = strtod(text, NULL);
        if ((float)*out == x)
            break;
    }
    return true;
}

bool gm_gguf_is_text(const gm_gguf_value *v, const char *text) {
    size_t size = strlen(text);
    return v->type == GM_GGUF_TEXT && v->bytes == 8 + size && memcmp(v->data + 8, text, size) == 0;
}

gm_gguf_text *gm_gguf_texts(const gm_gguf_value *v) {
    gm_gguf_text *texts = v->element == GM_GGUF_TEXT ? gm_alloc((size_t)v->count, sizeof *texts) : NULL;
    const uint8_t *p = v->data;
    for (int64_t i = 0; texts && i < v->count; i++) {
        uint64_t size;
        memcpy(&size, p, 8);
        texts[i] = (gm_gguf_text){(const char *)p + 8, (size_t)size};
        p += 8 + size;
    }
    return texts;
}

/* ---- rows in turns */

/* Where the file's row r stands in memory. */
static int64_t memory_row(int64_t r, int64_t interleave) {
    if (!interleave)
        return r;
    int64_t in_group = r % interleave;
    return r - in_group + in_group / 2 + in_group % 2 * (interleave / 2);
}

void gm_gguf_read(const gm_gguf_tensor *t, int64_t first, int64_t count, int64_t interleave, float *dst) {
    gm_dtype type;
    int64_t cols = t->rank == 1 && interleave ? 1 : t->shape[0], rows = t->elements / cols;
    gm_gguf_tensor_dtype(t, &type);
    const uint8_t *data = t->data + gm_dtype_bytes(type, first * cols);
    count = GM_MIN(count, rows - first);
    if (!interleave) {
        gm_dtype_decode(type, dst + first * cols, data, count * cols);
        return;
    }
    for (int64_t r = first; r < first + count; r++, data += gm_dtype_bytes(type, cols))
        gm_dtype_decode(type, dst + memory_row(r, interleave) * cols, data, cols);
}

/* ---- writing */

typedef struct tensor {
    gm_gguf_source source; /* its name is ours */
    float *own;            /* data that was copied, else NULL */
} tensor;

struct gm_gguf_writer {
    gm_text meta;     /* the values as they stand in the file */
    size_t *value_at; /* of each value, in meta */
    tensor *tensors;
    int64_t value_count, value_capacity, tensor_count, tensor_capacity;
    gm_error error; /* the first */
};

static void keep_error(gm_gguf_writer *w, gm_status code, const char *what, const char *name) {
    if (w->error.code == GM_OK)
        gm_fail(&w->error, code, "%.64s: %s", name, what);
}

/* false: no memory. */
static bool grow(gm_gguf_writer *w, void **items, int64_t *capacity, int64_t count, size_t size, const char *name) {
    if (count < *capacity)
        return true;
    int64_t wanted = GM_MAX(64, 2 * *capacity);
    void *more = realloc(*items, (size_t)wanted * size);
    if (!more) {
        keep_error(w, GM_ENOMEM, "not enough memory", name);
        return false;
    }
    *items = more;
    *capacity = wanted;
    return true;
}

gm_status gm_gguf_writer_create(gm_gguf_writer **out, gm_error *err) {
    *out = gm_alloc(1, sizeof **out);
    return *out ? GM_OK : gm_fail_memory(err, sizeof **out);
}

void gm_gguf_writer_free(gm_gguf_writer *w) {
    if (!w)
        return;
    for (int64_t i = 0; i < w->tensor_count; i++) {
        free((char *)w->tensors[i].source.name);
        free(w->tensors[i].own);
    }
    free(w->tensors);
    free(w->value_at);
    gm_text_free(&w->meta);
    gm_free(w);
}

static void put_u32(gm_text *text, uint32_t x) {
    gm_text_bytes(text, &x, sizeof x);
}

static void put_u64(gm_text *text, uint64_t x) {
    gm_text_bytes(text, &x, sizeof x);
}

static void put_sized(gm_text *text, const char *data, size_t size) {
    put_u64(text, size);
    gm_text_bytes(text, data, size);
}

static bool stands_already(const gm_gguf_writer *w, const char *key, size_t size) {
    for (int64_t i = 0; i < w->value_count; i++) {
        const char *other = w->meta.data + w->value_at[i];
        uint64_t other_size;
        memcpy(&other_size, other, 8);
        if (other_size == size && memcmp(other + 8, key, size) == 0)
            return true;
    }
    return false;
}

/* A value's beginning: what follows in meta is its data. */
static void put_key(gm_gguf_writer *w, const char *key, size_t size, gm_gguf_type type) {
    if (size < 1 || size > KEY_MAX)
        keep_error(w, GM_EINVAL, "a key must have 1..65535 bytes", key);
    if (w->meta.failed) /* and holds a part of something: write_all will say it */
        return;
    if (stands_already(w, key, size))
        keep_error(w, GM_EINVAL, "the key stands twice", key);
    if (!grow(w, (void **)&w->value_at, &w->value_capacity, w->value_count, sizeof *w->value_at, key))
        return;
    w->value_at[w->value_count++] = w->meta.size;
    put_sized(&w->meta, key, size);
    put_u32(&w->meta, type);
}

static void put_fixed(gm_gguf_writer *w, const char *key, gm_gguf_type type, const void *value) {
    put_key(w, key, strlen(key), type);
    gm_text_bytes(&w->meta, value, value_types[type].bytes);
}

void gm_gguf_put_text(gm_gguf_writer *w, const char *key, const char *text) {
    put_key(w, key, strlen(key), GM_GGUF_TEXT);
    put_sized(&w->meta, text, strlen(text));
}

void gm_gguf_put_u32(gm_gguf_writer *w, const char *key, uint32_t value) {
    put_fixed(w, key, GM_GGUF_U32, &value);
}

void gm_gguf_put_f32(gm_gguf_writer *w, const char *key, float value) {
    put_fixed(w, key, GM_GGUF_F32, &value);
}

void gm_gguf_put_bool(gm_gguf_writer *w, const char *key, bool value) {
    put_fixed(w, key, GM_GGUF_BOOL, &(uint8_t){value});
}

static void put_array(gm_gguf_writer *w, const char *key, gm_gguf_type element, int64_t count) {
    put_key(w, key, strlen(key), GM_GGUF_ARRAY);
    put_u32(&w->meta, element);
    put_u64(&w->meta, (uint64_t)count);
}

void gm_gguf_put_texts(gm_gguf_writer *w, const char *key, const gm_gguf_text *texts, int64_t count) {
    put_array(w, key, GM_GGUF_TEXT, count);
    for (int64_t i = 0; i < count; i++)
        put_sized(&w->meta, texts[i].data, texts[i].size);
}

void gm_gguf_put_array(gm_gguf_writer *w, const char *key, gm_gguf_type element, const void *elements, int64_t count) {
    put_array(w, key, element, count);
    gm_text_bytes(&w->meta, elements, (size_t)count * value_types[element].bytes);
}

void gm_gguf_put_value(gm_gguf_writer *w, const gm_gguf_value *value) {
    put_key(w, value->key.data, value->key.size, value->type);
    if (value->type == GM_GGUF_ARRAY) {
        put_u32(&w->meta, value->element);
        put_u64(&w->meta, (uint64_t)value->count);
    }
    gm_text_bytes(&w->meta, value->data, value->bytes);
}

/* Elements of a row as gm_gguf_read sees it, and how many rows. */
static int64_t source_cols(const gm_gguf_source *s) {
    return s->cols ? s->cols : s->interleave ? 1 : s->rows;
}

static int64_t source_rows(const gm_gguf_source *s) {
    return s->cols || s->interleave ? s->rows : 1;
}

static size_t source_bytes(const gm_gguf_source *s) {
    return gm_dtype_bytes(s->dtype, source_rows(s) * source_cols(s));
}

void gm_gguf_put_tensor(gm_gguf_writer *w, const gm_gguf_source *source) {
    const char *name = source->name;
    if (!*name || strlen(name) > GM_GGUF_NAME_MAX - 1) /* as ggml's reader, which counts the NUL */
        keep_error(w, GM_EINVAL, "a tensor's name must have 1..63 bytes", name);
    if (source->rows < 1 || source->cols < 0)
        keep_error(w, GM_EINVAL, "the tensor is empty", name);
    else if (source_cols(source) % gm_dtype_block(source->dtype) != 0)
        keep_error(w, GM_EINVAL, "its rows cannot be cut into blocks of 32; use f16", name);
    if (source->interleave && (source->interleave % 2 || source->rows % source->interleave))
        keep_error(w, GM_EINVAL, "its rows cannot take turns in such groups", name);
    for (int64_t i = 0; i < w->tensor_count; i++) {
        if (strcmp(w->tensors[i].source.name, name) == 0)
            keep_error(w, GM_EINVAL, "the tensor stands twice", name);
    }
    char *copy = strdup(name);
    if (!copy)
        keep_error(w, GM_ENOMEM, "not enough memory", name);
    if (!copy || !grow(w, (void **)&w->tensors, &w->tensor_capacity, w->tensor_count, sizeof *w->tensors, name)) {
        free(copy);
        return;
    }
    tensor *t = &w->tensors[w->tensor_count++];
    *t = (tensor){.source = *source};
    t->source.name = copy;
}

void gm_gguf_put_vector(gm_gguf_writer *w, const char *name, const float *data, int64_t n) {
    float *own = malloc((size_t)n * sizeof *own);
    int64_t count = w->tensor_count;
    if (own)
        memcpy(own, data, (size_t)n * sizeof *own);
    else
        keep_error(w, GM_ENOMEM, "not enough memory", name);
    gm_gguf_put_tensor(w, &(gm_gguf_source){.name = name, .data = own, .rows = n});
    if (w->tensor_count > count)
        w->tensors[count].own = own;
    else
        free(own);
}

static uint32_t type_number(gm_dtype dtype) {
    uint32_t type = 0;
    while (!tensor_types[type].name || tensor_types[type].dtype != (int)dtype)
        type++;
    return type;
}

/* The caller's, when it has put that key; 0: not a good one. */
static size_t alignment_of(const gm_gguf_writer *w) {
    for (int64_t i = 0; i < w->value_count; i++) {
        const char *at = w->meta.data + w->value_at[i], *key = at + 8;
        uint64_t size;
        uint32_t type, value;
        memcpy(&size, at, 8);
        if (size != sizeof alignment_key - 1 || memcmp(key, alignment_key, size) != 0)
            continue;
        memcpy(&type, key + size, 4);
        memcpy(&value, key + size + 4, 4);
        return type == GM_GGUF_U32 && value <= ALIGNMENT_MAX && !(value & (value - 1)) ? value : 0;
    }
    return ALIGNMENT;
}

/* All before the data. */
static void put_header(gm_text *text, const gm_gguf_writer *w, size_t alignment) {
    put_u32(text, MAGIC);
    put_u32(text, VERSION);
    put_u64(text, (uint64_t)w->tensor_count);
    put_u64(text, (uint64_t)w->value_count);
    gm_text_bytes(text, w->meta.data, w->meta.size);
    uint64_t at = 0;
    for (int64_t i = 0; i < w->tensor_count; i++) {
        const gm_gguf_source *s = &w->tensors[i].source;
        put_sized(text, s->name, strlen(s->name));
        put_u32(text, s->cols ? 2 : 1);
        if (s->cols)
            put_u64(text, (uint64_t)s->cols);
        put_u64(text, (uint64_t)s->rows);
        put_u32(text, type_number(s->dtype));
        put_u64(text, at);
        at += source_bytes(s) + padding(source_bytes(s), alignment);
    }
}

static void write_padding(gm_writer *out, size_t at, size_t alignment) {
    static const uint8_t zeros[4096];
    for (size_t left = padding(at, alignment), n; left > 0; left -= n) {
        n = GM_MIN(left, sizeof zeros);
        gm_writer_put(out, zeros, n);
    }
}

enum { CHUNK_BYTES = 1 << 20 };

static gm_status write_tensor(gm_writer *out, const gm_gguf_source *s, gm_error *err) {
    const int64_t cols = source_cols(s), rows = source_rows(s);
    const size_t row_bytes = gm_dtype_bytes(s->dtype, cols);
    const int64_t chunk = GM_MIN(rows, GM_MAX(1, CHUNK_BYTES / (int64_t)row_bytes));
    uint8_t *buffer = gm_alloc((size_t)chunk, row_bytes);
    if (!buffer)
        return gm_fail_memory(err, (size_t)chunk * row_bytes);
    bool good = true;
    for (int64_t r = 0; good && r < rows; r += chunk) {
        int64_t count = GM_MIN(chunk, rows - r);
        for (int64_t i = 0; i < count; i++)
            good &= gm_dtype_encode(s->dtype, buffer + (size_t)i * row_bytes, s->data + memory_row(r + i, s->interleave) * cols, cols);
        gm_writer_put(out, buffer, (size_t)count * row_bytes);
    }
    gm_free(buffer);
    return good ? GM_OK
                : gm_fail(err, GM_EINVAL, "tensor '%s' has a number that %s cannot hold; use %s", s->name, gm_dtype_name(s->dtype),
                          s->dtype == GM_DTYPE_F16 ? "bf16 or f32" : "f32");
}

static gm_status write_all(gm_gguf_writer *w, gm_writer *out, gm_error *err) {
    gm_text header = {0};
    if (w->meta.failed)
        return gm_fail_memory(err, w->meta.size);
    const size_t alignment = alignment_of(w);
    if (!alignment)
        return gm_fail(err, GM_EINVAL, "%s must be a power of two up to %d, as a u32", alignment_key, ALIGNMENT_MAX);
    put_header(&header, w, alignment);
    gm_writer_put(out, header.data, header.size);
    write_padding(out, header.size, alignment);
    gm_status status = header.failed ? gm_fail_memory(err, w->meta.size) : GM_OK;
    gm_text_free(&header);
    for (int64_t i = 0; status == GM_OK && i < w->tensor_count; i++) {
        status = write_tensor(out, &w->tensors[i].source, err);
        write_padding(out, source_bytes(&w->tensors[i].source), alignment);
    }
    return status;
}

/* What went wrong while collecting. */
static gm_status kept_error(const gm_gguf_writer *w, const char *path, gm_error *err) {
    return w->error.code == GM_OK ? GM_OK : gm_fail(err, w->error.code, "cannot write '%s': %s", path, w->error.msg);
}

gm_status gm_gguf_writer_commit(gm_gguf_writer *w, const char *path, gm_error *err) {
    gm_writer out;
    GM_TRY(kept_error(w, path, err));
    GM_TRY(gm_writer_open(&out, path, err));
    gm_status status = write_all(w, &out, err);
    if (status == GM_OK)
        return gm_writer_commit(&out, err);
    gm_writer_abort(&out);
    return status;
}

gm_status gm_gguf_writer_bytes(gm_gguf_writer *w, gm_text *bytes, gm_error *err) {
    *bytes = (gm_text){0};
    GM_TRY(kept_error(w, "memory", err));
    gm_writer out = {.memory = bytes};
    gm_status status = write_all(w, &out, err);
    if (bytes->failed && status == GM_OK)
        status = gm_fail_memory(err, bytes->size);
    if (status != GM_OK)
        gm_text_free(bytes);
    return status;
}
