/* llama2c_file.c -- llama2.c's checkpoints as llama models.
 *
 *   version 0  7 x i32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: the head is a table of its own), seq_len;
 *              then the weights, with the rotary tables before the head
 *   version 1  u32 0x616b3432 "ak42", i32 1, the same 7 sizes (vocab_size positive), u8 tied, zeros up to 256 bytes; then the weights
 *
 * Each tensor comes for all layers before the next one. llama2.c turns neighbours (2i, 2i + 1) of a head by one angle, we (as Hugging
 * Face) i and i + D/2: the rows of wq and wk change places on the way in, which leaves every product of a query and a key as it was. */
#include "llama2c_file.h"

#include "model.h"

#include <math.h>
#include <string.h>

enum { MAGIC = 0x616b3432, SIZES = 7, HEADER_0_BYTES = 4 * SIZES, HEADER_1_BYTES = 256, TIED_AT = 4 * (2 + SIZES) };
enum { CONTEXT_MAX = 1 << 20 }; /* version 1 has no bytes to show for its context: what is made for one must stay affordable */

/* Names of gm_model_matrices without "blocks.N."; the rotary tables have none. */
static const char rotary[] = "";
static const char *const order_0[] = {"wte",         "norm1.g", "wqkv.q",    "wqkv.k",  "wqkv.v", "wo",   "norm2.g",
                                      "ffn.w1.gate", "ffn.w2",  "ffn.w1.up", "normf.g", rotary,   "head", NULL};
static const char *const order_1[] = {"norm1.g", "norm2.g",     "normf.g", "wte",       "wqkv.q", "wqkv.k", "wqkv.v",
                                      "wo",      "ffn.w1.gate", "ffn.w2",  "ffn.w1.up", "head",   NULL};

typedef struct header {
    int32_t version, sizes[SIZES];
    bool tied;
    size_t bytes;
} header;

static int32_t i32_at(const gm_file *file, size_t at) {
    int32_t x;
    memcpy(&x, file->data + at, sizeof x);
    return x;
}

/* The header as a configuration, sizes unchecked. */
static gm_model_config config_of(const header *h) {
    int64_t vocab = h->sizes[5];
    gm_model_config c = {.family = GM_FAMILY_LLAMA,
                         .width = h->sizes[0],
                         .ffn = h->sizes[1],
                         .layers = h->sizes[2],
                         .heads = h->sizes[3],
                         .kv_heads = h->sizes[4],
                         .vocab = vocab < 0 ? -vocab : vocab,
                         .context = h->sizes[6],
                         .act = GM_ACT_SWIGLU,
                         .rms_norm = true,
                         .rope = true,
                         .tied = h->version == 0 ? vocab > 0 : h->tied,
                         .norm_eps = 1e-5, /* both are constants of llama2.c */
                         .rope_theta = 10000,
                         .init = GM_INIT_GPT2,
                         .init_std = 0.02};
    gm_variant_parse(&c.attention, "softmax", NULL);
    return c;
}

/* Checks every size before anything is made of it. */
static gm_status config_check(gm_model_config *c, gm_error *err) {
    if (c->kv_heads < 1 || c->ffn < 1 || c->width % GM_MAX(c->heads, 1) != 0) /* 0 would mean "derive it" */
        return gm_fail(err, GM_EFORMAT, "%lld heads (%lld key/value) of width %lld with a hidden width of %lld", (long long)c->heads,
                       (long long)c->kv_heads, (long long)c->width, (long long)c->ffn);
    if (c->context > CONTEXT_MAX)
        return gm_fail(err, GM_EFORMAT, "a context of %lld, over %d", (long long)c->context, CONTEXT_MAX);
    return gm_model_config_check(c, err);
}

static void header_read(header *h, const gm_file *file, bool magic) {
    size_t at = magic ? 8 : 0;
    *h = (header){.version = magic ? i32_at(file, 4) : 0, .bytes = magic ? HEADER_1_BYTES : HEADER_0_BYTES};
    for (size_t i = 0; i < SIZES; i++)
        h->sizes[i] = i32_at(file, at + 4 * i);
    h->tied = magic && file->data[TIED_AT];
}

static bool has_magic(const gm_file *file) {
    return file->size >= 4 && i32_at(file, 0) == MAGIC;
}

bool gm_llama2c_is(const gm_file *file) {
    if (has_magic(file))
        return true;
    if (file->size < HEADER_0_BYTES)
        return false;
    header h;
    header_read(&h, file, false);
    gm_model_config c = config_of(&h);
    return config_check(&c, NULL) == GM_OK;
}

/* The rotary tables say nothing that is not known, but ones made for another base would give another model without a word. */
static gm_status rotary_check(gm_model *m, const gm_file *file, size_t at, gm_error *err) {
    GM_TRY(gm_model_rope_reserve(m, m->cfg.context, err));
    const int64_t T = m->cfg.context, half = m->cfg.head_dim / 2;
    bool zero = true, equal = true; /* zeros: the writer left them out */
    for (int64_t i = 0; i < 2 * T * half; i++) {
        float x, want = m->rope[i / half % T * 2 * half + i / (T * half) * half + i % half];
        memcpy(&x, file->data + at + (size_t)i * sizeof x, sizeof x);
        zero = zero && x == 0;
        equal = equal && fabsf(x - want) <= 1e-3f; /* theirs is computed in f32 */
    }
    if (zero || equal)
        return GM_OK;
    return gm_fail_at(err, GM_EUNSUPPORTED, (int64_t)at,
                      "%s: its rotary tables (from byte %zu) are not those of base 10000, which is all that llama2.c knows", file->path,
                      at);
}

/* Rows of x as they stand in the file; those of queries and keys in our order. */
static void rows_read(const gm_matrix_view *view, const uint8_t *from, int64_t head_dim, bool rotated) {
    size_t row_bytes = (size_t)view->cols * sizeof(float);
    for (int64_t r = 0; r < view->rows; r++) {
        int64_t d = r % head_dim, to = rotated ? r - d + d / 2 + d % 2 * (head_dim / 2) : r;
        memcpy(view->x + to * view->cols, from + (size_t)r * row_bytes, row_bytes);
    }
}

static const char *short_name(const char *name) {
    const char *dot = strncmp(name, "blocks.", 7) == 0 ? strchr(name + 7, '.') : NULL;
    return dot ? dot + 1 : name;
}

/* The file's length is checked. */
static gm_status weights_read(gm_model *m, const gm_file *file, const header *h, gm_error *err) {
    int count = gm_model_matrices(m, NULL, 0);
    gm_matrix_view *views = gm_alloc((size_t)count, sizeof *views);
    if (!views)
        return gm_fail_memory(err, (size_t)count * sizeof *views);
    gm_model_matrices(m, views, count);
    gm_status status = GM_OK;
    size_t at = h->bytes;
    for (const char *const *name = h->version ? order_1 : order_0; *name && status == GM_OK; name++) {
        if (*name == rotary) {
            status = rotary_check(m, file, at, err);
            at += (size_t)(m->cfg.context * m->cfg.head_dim) * sizeof(float);
        }
        bool rotated = strcmp(*name, "wqkv.q") == 0 || strcmp(*name, "wqkv.k") == 0;
        for (int i = 0; i < count; i++) {
            if (strcmp(short_name(views[i].name), *name) == 0) {
                rows_read(&views[i], file->data + at, m->cfg.head_dim, rotated);
                at += (size_t)(views[i].rows * views[i].cols) * sizeof(float);
            }
        }
    }
    gm_free(views);
    return status;
}

gm_status gm_llama2c_load(gm_model **out, const gm_ctx *ctx, const gm_file *file, gm_error *err) {
    *out = NULL;
    bool magic = has_magic(file);
    size_t header_bytes = magic ? HEADER_1_BYTES : HEADER_0_BYTES;
    if (file->size < header_bytes)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)file->size, "%s: cut off at byte %zu, inside the header of %zu bytes; get it again",
                          file->path, file->size, header_bytes);
    header h;
    header_read(&h, file, magic);
    if (magic && h.version != 1)
        return gm_fail_at(err, GM_EUNSUPPORTED, 4, "%s: version %d of llama2.c's format (byte 4); versions 0 and 1 (f32) can be read",
                          file->path, h.version);
    gm_model_config cfg = config_of(&h);
    gm_error inner = {.offset = -1};
    if (config_check(&cfg, &inner) != GM_OK || (magic && (h.sizes[5] < 1 || file->data[TIED_AT] > 1)))
        return gm_fail_at(err, GM_EFORMAT, magic ? 8 : 0, "%s: the header (from byte %d) holds no model's sizes%s%s; get it again",
                          file->path, magic ? 8 : 0, *inner.msg ? ": " : "", inner.msg);
    gm_model_size size;
    gm_model_config_size(&size, &cfg, 1, 1);
    int64_t elements = size.parameters + (magic ? 0 : cfg.context * cfg.head_dim);
    uint64_t expected = header_bytes + (uint64_t)elements * sizeof(float); /* the sizes' limits keep it below 2^60 */
    if (file->size != expected)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)GM_MIN((uint64_t)file->size, expected),
                          "%s: %zu bytes, where the header's sizes ask for %llu: it is %s; get it again", file->path, file->size,
                          (unsigned long long)expected, file->size < expected ? "cut off" : "too long");
    GM_TRY(gm_model_allocate(out, ctx, &cfg, err));
    gm_status status = weights_read(*out, file, &h, err);
    if (status != GM_OK) {
        gm_model_free(*out);
        *out = NULL;
    }
    return status;
}

gm_status gm_llama2c_header(gm_model_config *cfg, int *version, const gm_file *file, gm_error *err) {
    bool magic = has_magic(file);
    header h = {0};
    if (file->size >= (magic ? HEADER_1_BYTES : HEADER_0_BYTES))
        header_read(&h, file, magic);
    *version = h.version;
    *cfg = config_of(&h);
    if (config_check(cfg, NULL) != GM_OK)
        return gm_fail_at(err, GM_EFORMAT, 0, "%s: the header (from byte 0) holds no model's sizes; get it again", file->path);
    return GM_OK;
}
