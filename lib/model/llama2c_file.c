/* llama2c_file.c -- llama2.c's checkpoints as llama models, and back.
 *
 *   version 0  7 x i32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: the head is a table of its own), seq_len;
 *              then the weights, with the rotary tables before the head
 *   version 1  u32 0x616b3432 "ak42", i32 1, the same 7 sizes (vocab_size positive), u8 tied, zeros up to 256 bytes; then the weights
 *   version 2  the same with i32 2 and, after u8 tied, i32 the group size; norms in f32, each matrix as int8 and then an f32 scale for
 *              each group of its elements
 *
 * Each tensor comes for all layers before the next one. llama2.c turns neighbours (2i, 2i + 1) of a head by one angle, we (as Hugging
 * Face) i and i + D/2: the rows of wq and wk change places on the way in, which leaves every product of a query and a key as it was. */
#include "llama2c_file.h"

#include "context.h"
#include "model.h"

#include <math.h>
#include <string.h>

enum { MAGIC = 0x616b3432, SIZES = 7, HEADER_0_BYTES = 4 * SIZES, HEADER_1_BYTES = 256, TIED_AT = 4 * (2 + SIZES), GROUP_AT = TIED_AT + 1 };
enum { CONTEXT_MAX = 1 << 20 }; /* version 1 has no bytes to show for its context: what is made for one must stay affordable */

/* Names of gm_model_matrices without "blocks.N."; the rotary tables have none. */
static const char rotary[] = "";
static const char *const order_0[] = {"wte",         "norm1.g", "wqkv.q",    "wqkv.k",  "wqkv.v", "wo",   "norm2.g",
                                      "ffn.w1.gate", "ffn.w2",  "ffn.w1.up", "normf.g", rotary,   "head", NULL};
static const char *const order_1[] = {"norm1.g", "norm2.g",     "normf.g", "wte",       "wqkv.q", "wqkv.k", "wqkv.v",
                                      "wo",      "ffn.w1.gate", "ffn.w2",  "ffn.w1.up", "head",   NULL};

typedef struct header {
    int32_t version, sizes[SIZES];
    int32_t group; /* version 2: elements that share a scale */
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
    h->group = h->version == 2 ? i32_at(file, GROUP_AT) : 0;
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

/* Where the file's row r of queries or keys stands in our order. */
static int64_t memory_row(int64_t r, int64_t head_dim, bool rotated) {
    int64_t d = r % head_dim;
    return rotated ? r - d + d / 2 + d % 2 * (head_dim / 2) : r;
}

/* A matrix or vector from its place in the file; what it takes up there is left in *at. Version 2: group > 0. */
static void view_read(const gm_ctx *ctx, const gm_matrix_view *view, const gm_file *file, size_t *at, int64_t head_dim, bool rotated,
                      int64_t group) {
    const int64_t cols = view->cols, elements = view->rows * cols;
    const bool quantized = group && cols > 1;
    const uint8_t *from = file->data + *at, *scales = from + elements;
#pragma omp parallel for num_threads(ctx->threads) if (elements > 1 << 20)
    for (int64_t r = 0; r < view->rows; r++) {
        float *to = view->x + memory_row(r, head_dim, rotated) * cols, scale;
        if (!quantized)
            memcpy(to, from + (size_t)(r * cols) * sizeof(float), (size_t)cols * sizeof(float));
        for (int64_t c = 0; quantized && c < cols; c++) {
            const int64_t i = r * cols + c;
            if (c == 0 || i % group == 0)
                memcpy(&scale, scales + (size_t)(i / group) * sizeof scale, sizeof scale);
            to[c] = scale * (float)(int8_t)from[i];
        }
    }
    *at += quantized ? (size_t)elements + (size_t)(elements / group) * sizeof(float) : (size_t)elements * sizeof(float);
}

static const char *short_name(const char *name) {
    const char *dot = strncmp(name, "blocks.", 7) == 0 ? strchr(name + 7, '.') : NULL;
    return dot ? dot + 1 : name;
}

/* Calls back for each tensor, in the file's order; views are gm_model_matrices. */
typedef gm_status tensor_fn(void *user, const gm_matrix_view *view, bool rotated, gm_error *err);

static gm_status visit(const gm_model *m, int version, tensor_fn *tensor, tensor_fn *tables, void *user, gm_error *err) {
    int count = gm_model_matrices(m, NULL, 0);
    gm_matrix_view *views = gm_alloc((size_t)count, sizeof *views);
    if (!views)
        return gm_fail_memory(err, (size_t)count * sizeof *views);
    gm_model_matrices(m, views, count);
    gm_status status = GM_OK;
    for (const char *const *name = version ? order_1 : order_0; *name && status == GM_OK; name++) {
        if (*name == rotary)
            status = tables(user, NULL, false, err);
        bool rotated = strcmp(*name, "wqkv.q") == 0 || strcmp(*name, "wqkv.k") == 0;
        for (int i = 0; i < count && status == GM_OK; i++) {
            if (strcmp(short_name(views[i].name), *name) == 0)
                status = tensor(user, &views[i], rotated, err);
        }
    }
    gm_free(views);
    return status;
}

/* ---- reading the weights: the file's length is checked */

typedef struct reading {
    gm_model *m;
    const gm_file *file;
    const header *h;
    size_t at;
} reading;

static gm_status read_view(void *user, const gm_matrix_view *view, bool rotated, gm_error *err) {
    (void)err;
    reading *r = user;
    view_read(r->m->ctx, view, r->file, &r->at, r->m->cfg.head_dim, rotated, r->h->group);
    return GM_OK;
}

static gm_status read_tables(void *user, const gm_matrix_view *view, bool rotated, gm_error *err) {
    (void)view, (void)rotated;
    reading *r = user;
    size_t at = r->at;
    r->at += (size_t)(r->m->cfg.context * r->m->cfg.head_dim) * sizeof(float);
    return rotary_check(r->m, r->file, at, err);
}

/* Bytes of all weights; -1: the group size does not divide a matrix. */
static int64_t weight_bytes(const header *h, const gm_model_config *cfg) {
    int64_t bytes = h->version == 0 ? cfg->context * cfg->head_dim * (int64_t)sizeof(float) : 0;
    int count = gm_params_layout(cfg, NULL);
    for (int i = 0; i < count; i++) {
        gm_param p;
        gm_params_describe(cfg, i, &p);
        const int64_t n = p.rows * p.cols;
        const bool quantized = h->group && p.cols > 1;
        /* the parts of wqkv and w1 are matrices of their own */
        if (quantized && (n % h->group || (cfg->width * cfg->head_dim * cfg->kv_heads) % h->group || (cfg->width * cfg->ffn) % h->group))
            return -1;
        bytes += quantized ? n + n / h->group * (int64_t)sizeof(float) : n * (int64_t)sizeof(float);
    }
    return bytes;
}

/* Everything but the weights: header, sizes and the file's length. */
static gm_status check_header(header *h, gm_model_config *cfg, const gm_file *file, gm_error *err) {
    bool magic = has_magic(file);
    size_t header_bytes = magic ? HEADER_1_BYTES : HEADER_0_BYTES;
    if (file->size < header_bytes)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)file->size, "%s: cut off at byte %zu, inside the header of %zu bytes; get it again",
                          file->path, file->size, header_bytes);
    header_read(h, file, magic);
    if (magic && h->version != 1 && h->version != 2)
        return gm_fail_at(err, GM_EUNSUPPORTED, 4, "%s: version %d of llama2.c's format (byte 4); versions 0, 1 and 2 can be read",
                          file->path, h->version);
    if (h->version == 2 && h->group < 1)
        return gm_fail_at(err, GM_EFORMAT, GROUP_AT, "%s: a group size of %d (byte %d); get it again", file->path, h->group, GROUP_AT);
    *cfg = config_of(h);
    gm_error inner = {.offset = -1};
    if (config_check(cfg, &inner) != GM_OK || (magic && (h->sizes[5] < 1 || file->data[TIED_AT] > 1)))
        return gm_fail_at(err, GM_EFORMAT, magic ? 8 : 0, "%s: the header (from byte %d) holds no model's sizes%s%s; get it again",
                          file->path, magic ? 8 : 0, *inner.msg ? ": " : "", inner.msg);
    int64_t bytes = weight_bytes(h, cfg);
    if (bytes < 0)
        return gm_fail_at(err, GM_EFORMAT, GROUP_AT, "%s: a group size of %d (byte %d), which does not divide the matrices; get it again",
                          file->path, h->group, GROUP_AT);
    uint64_t expected = header_bytes + (uint64_t)bytes; /* the sizes' limits keep it below 2^60 */
    if (file->size != expected)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)GM_MIN((uint64_t)file->size, expected),
                          "%s: %zu bytes, where the header's sizes ask for %llu: it is %s; get it again", file->path, file->size,
                          (unsigned long long)expected, file->size < expected ? "cut off" : "too long");
    return GM_OK;
}

gm_status gm_llama2c_load(gm_model **out, const gm_ctx *ctx, const gm_file *file, gm_error *err) {
    header h;
    gm_model_config cfg;
    *out = NULL;
    GM_TRY(check_header(&h, &cfg, file, err));
    GM_TRY(gm_model_allocate(out, ctx, &cfg, err));
    reading r = {*out, file, &h, has_magic(file) ? HEADER_1_BYTES : HEADER_0_BYTES};
    gm_status status = visit(*out, h.version, read_view, read_tables, &r, err);
    if (status != GM_OK) {
        gm_model_free(*out);
        *out = NULL;
    }
    return status;
}

gm_status gm_llama2c_header(gm_model_config *cfg, int *version, const gm_file *file, gm_error *err) {
    header h;
    GM_TRY(check_header(&h, cfg, file, err));
    *version = h.version;
    return GM_OK;
}

/* ---- writing */

/* Everything that the format cannot say. */
static gm_status check_writable(const gm_model_config *c, gm_error *err) {
    const struct {
        bool bad;
        const char *why;
    } reasons[] = {
        {c->attention.sink != GM_SINK_NONE || c->attention.clipped || c->attention.gate != GM_GATE_NONE,
         "attention other than softmax (convert softmax1 to softmax with the zero token first)"},
        {!c->rms_norm || !c->rope || c->act != GM_ACT_SWIGLU, "another block than llama's"},
        {c->bias || c->qkv_bias, "biases"},
        {c->qk_norm, "normed query and key heads"},
        {c->rope && c->rope_theta != 10000, "a rotary base other than 10000"},
        {c->rope_scaling != GM_ROPE_PLAIN, "scaled rotary positions"},
        {c->norm_eps != 1e-5, "an RMS norm eps other than 1e-5"},
        {c->window > 0 && c->window < c->context, "a window"},
        {c->head_dim * c->heads != c->width, "heads that are not width / heads"},
        {c->context > CONTEXT_MAX, "so long a context"},
    };
    for (int i = 0; i < GM_COUNT(reasons); i++) {
        if (reasons[i].bad)
            return gm_fail(err, GM_EUNSUPPORTED, "llama2.c's format cannot hold this model: it has %s", reasons[i].why);
    }
    return GM_OK;
}

typedef struct writing {
    gm_writer w;
    const gm_model_config *cfg;
} writing;

static gm_status write_view(void *user, const gm_matrix_view *view, bool rotated, gm_error *err) {
    (void)err;
    writing *w = user;
    for (int64_t r = 0; r < view->rows; r++)
        gm_writer_put(&w->w, view->x + memory_row(r, w->cfg->head_dim, rotated) * view->cols, (size_t)view->cols * sizeof(float));
    return GM_OK;
}

static gm_status write_tables(void *user, const gm_matrix_view *view, bool rotated, gm_error *err) {
    (void)view, (void)rotated;
    writing *w = user;
    const int64_t half = w->cfg->head_dim / 2;
    double *f = gm_alloc((size_t)half, sizeof *f);
    if (!f)
        return gm_fail_memory(err, (size_t)half * sizeof *f);
    gm_rope_frequencies(w->cfg, f);
    for (int table = 0; table < 2; table++) {
        for (int64_t i = 0; i < w->cfg->context * half; i++) {
            const int64_t position = i / half;
            double angle = (double)position * f[i % half];
            gm_writer_put(&w->w, &(float){(float)(table ? sin(angle) : cos(angle))}, sizeof(float));
        }
    }
    gm_free(f);
    return GM_OK;
}

gm_status gm_llama2c_save(const gm_model *m, int version, const char *path, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    GM_TRY(check_writable(c, err));
    if (version != 0 && version != 1)
        return gm_fail(err, GM_EUNSUPPORTED, "version %d of llama2.c's format cannot be written; 0 and 1 can", version);
    int32_t sizes[SIZES] = {(int32_t)c->width,    (int32_t)c->ffn,   (int32_t)c->layers, (int32_t)c->heads,
                            (int32_t)c->kv_heads, (int32_t)c->vocab, (int32_t)c->context};
    if (version == 0 && !c->tied)
        sizes[5] = -sizes[5];
    uint8_t start[HEADER_1_BYTES] = {0};
    memcpy(start, &(int32_t){MAGIC}, 4);
    memcpy(start + 4, &(int32_t){version}, 4);
    memcpy(start + 8, sizes, sizeof sizes);
    start[TIED_AT] = c->tied;

    writing w = {.cfg = c};
    GM_TRY(gm_writer_open(&w.w, path, err));
    gm_writer_put(&w.w, version ? start : start + 8, version ? HEADER_1_BYTES : HEADER_0_BYTES);
    gm_status status = visit(m, version, write_view, write_tables, &w, err);
    if (status == GM_OK)
        return gm_writer_commit(&w.w, err);
    gm_writer_abort(&w.w);
    return status;
}
