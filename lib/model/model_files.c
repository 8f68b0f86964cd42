/* model_files.c -- a model as a folder of config.json and model.safetensors with Hugging Face's tensor names and layouts. One table per
 * family maps params.def's entries to tensors of the file, in both directions. Files of other formats are known by their content. */
#include "config_file.h"
#include "context.h"
#include "file_tensors.h"
#include "gguf_file.h"
#include "llama2c_file.h"
#include "model.h"
#include "safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the tables */

#define WHOLE GM_PART_WHOLE
#define Q GM_PART_Q
#define K GM_PART_K
#define V GM_PART_V
#define GATE GM_PART_GATE
#define UP GM_PART_UP

typedef struct mapping {
    int slot;
    gm_part part;     /* which rows of our tensor */
    bool transposed;  /* GPT-2's Conv1D keeps [in, out] */
    const char *name; /* after the family's prefix, and after the block's in a block */
} mapping;

static const mapping gpt2_map[] = {
    {GM_P_WTE, WHOLE, false, "wte.weight"},
    {GM_P_WPE, WHOLE, false, "wpe.weight"},
    {GM_P_NORM1_G, WHOLE, false, "ln_1.weight"},
    {GM_P_NORM1_B, WHOLE, false, "ln_1.bias"},
    {GM_P_WQKV, WHOLE, true, "attn.c_attn.weight"},
    {GM_P_BQKV, WHOLE, false, "attn.c_attn.bias"},
    {GM_P_QNORM_G, WHOLE, false, "attn.q_norm.weight"},
    {GM_P_KNORM_G, WHOLE, false, "attn.k_norm.weight"},
    {GM_P_SINKS, WHOLE, false, "attn.sinks"},
    {GM_P_GATE_W1, WHOLE, false, "attn.gate.fc1.weight"},
    {GM_P_GATE_B1, WHOLE, false, "attn.gate.fc1.bias"},
    {GM_P_GATE_W2, WHOLE, false, "attn.gate.fc2.weight"},
    {GM_P_GATE_B2, WHOLE, false, "attn.gate.fc2.bias"},
    {GM_P_WO, WHOLE, true, "attn.c_proj.weight"},
    {GM_P_BO, WHOLE, false, "attn.c_proj.bias"},
    {GM_P_NORM2_G, WHOLE, false, "ln_2.weight"},
    {GM_P_NORM2_B, WHOLE, false, "ln_2.bias"},
    {GM_P_W1, WHOLE, true, "mlp.c_fc.weight"},
    {GM_P_B1, WHOLE, false, "mlp.c_fc.bias"},
    {GM_P_W2, WHOLE, true, "mlp.c_proj.weight"},
    {GM_P_B2, WHOLE, false, "mlp.c_proj.bias"},
    {GM_P_NORMF_G, WHOLE, false, "ln_f.weight"},
    {GM_P_NORMF_B, WHOLE, false, "ln_f.bias"},
    {GM_P_HEAD, WHOLE, false, "lm_head.weight"},
};

/* opt and llama share the attention's names. */
#define SELF_ATTENTION(output)                                                                                              \
    {GM_P_WQKV, Q, false, "self_attn.q_proj.weight"}, {GM_P_WQKV, K, false, "self_attn.k_proj.weight"},                     \
        {GM_P_WQKV, V, false, "self_attn.v_proj.weight"}, {GM_P_BQKV, Q, false, "self_attn.q_proj.bias"},                   \
        {GM_P_BQKV, K, false, "self_attn.k_proj.bias"}, {GM_P_BQKV, V, false, "self_attn.v_proj.bias"},                     \
        {GM_P_QNORM_G, WHOLE, false, "self_attn.q_norm.weight"}, {GM_P_KNORM_G, WHOLE, false, "self_attn.k_norm.weight"},   \
        {GM_P_SINKS, WHOLE, false, "self_attn.sinks"}, {GM_P_GATE_W1, WHOLE, false, "self_attn.gate.fc1.weight"},           \
        {GM_P_GATE_B1, WHOLE, false, "self_attn.gate.fc1.bias"}, {GM_P_GATE_W2, WHOLE, false, "self_attn.gate.fc2.weight"}, \
        {GM_P_GATE_B2, WHOLE, false, "self_attn.gate.fc2.bias"}, {GM_P_WO, WHOLE, false, "self_attn." output ".weight"}, {  \
        GM_P_BO, WHOLE, false, "self_attn." output ".bias"                                                                  \
    }

static const mapping opt_map[] = {
    {GM_P_WTE, WHOLE, false, "embed_tokens.weight"},
    {GM_P_WPE, WHOLE, false, "embed_positions.weight"},
    {GM_P_NORM1_G, WHOLE, false, "self_attn_layer_norm.weight"},
    {GM_P_NORM1_B, WHOLE, false, "self_attn_layer_norm.bias"},
    SELF_ATTENTION("out_proj"),
    {GM_P_NORM2_G, WHOLE, false, "final_layer_norm.weight"},
    {GM_P_NORM2_B, WHOLE, false, "final_layer_norm.bias"},
    {GM_P_W1, WHOLE, false, "fc1.weight"},
    {GM_P_B1, WHOLE, false, "fc1.bias"},
    {GM_P_W2, WHOLE, false, "fc2.weight"},
    {GM_P_B2, WHOLE, false, "fc2.bias"},
    {GM_P_NORMF_G, WHOLE, false, "final_layer_norm.weight"},
    {GM_P_NORMF_B, WHOLE, false, "final_layer_norm.bias"},
    {GM_P_HEAD, WHOLE, false, "lm_head.weight"},
};

static const mapping llama_map[] = {
    {GM_P_WTE, WHOLE, false, "embed_tokens.weight"},
    {GM_P_WPE, WHOLE, false, "embed_positions.weight"},
    {GM_P_NORM1_G, WHOLE, false, "input_layernorm.weight"},
    {GM_P_NORM1_B, WHOLE, false, "input_layernorm.bias"},
    SELF_ATTENTION("o_proj"),
    {GM_P_NORM2_G, WHOLE, false, "post_attention_layernorm.weight"},
    {GM_P_NORM2_B, WHOLE, false, "post_attention_layernorm.bias"},
    {GM_P_W1, GATE, false, "mlp.gate_proj.weight"},
    {GM_P_W1, UP, false, "mlp.up_proj.weight"},
    {GM_P_B1, GATE, false, "mlp.gate_proj.bias"},
    {GM_P_B1, UP, false, "mlp.up_proj.bias"},
    {GM_P_W2, WHOLE, false, "mlp.down_proj.weight"},
    {GM_P_B2, WHOLE, false, "mlp.down_proj.bias"},
    {GM_P_NORMF_G, WHOLE, false, "norm.weight"},
    {GM_P_NORMF_B, WHOLE, false, "norm.bias"},
    {GM_P_HEAD, WHOLE, false, "lm_head.weight"},
};

static const struct {
    const char *prefix, *short_prefix; /* the second: files of the model without its head, as published for some */
    const char *blocks;
    const mapping *map;
    int count;
    const char *buffers[3]; /* ends of names: constants that older files hold among the weights */
} families[] = {
    [GM_FAMILY_GPT2] = {"transformer.", "", "h.", gpt2_map, GM_COUNT(gpt2_map), {".attn.bias", ".attn.masked_bias"}},
    [GM_FAMILY_OPT] = {"model.decoder.", "decoder.", "layers.", opt_map, GM_COUNT(opt_map), {NULL}},
#define LLAMA                                                      \
    {                                                              \
        "model.", "", "layers.", llama_map, GM_COUNT(llama_map), { \
            ".rotary_emb.inv_freq"                                 \
        }                                                          \
    }
    [GM_FAMILY_LLAMA] = LLAMA,
    [GM_FAMILY_MISTRAL] = LLAMA,
    [GM_FAMILY_QWEN2] = LLAMA,
    [GM_FAMILY_QWEN3] = LLAMA,
#undef LLAMA
};

/* ---- a model's tensors as its file has them */

/* Writes the tensors of one parameter to out (NULL: only counts); returns how many. */
static int param_tensors(const gm_model_config *c, const gm_param *p, gm_file_tensor *out) {
    int count = 0;
    const char *prefix = families[c->family].prefix;
    size_t prefix_cut = strlen(prefix) - strlen(families[c->family].short_prefix);
    for (int i = 0; i < families[c->family].count; i++) {
        const mapping *map = &families[c->family].map[i];
        int64_t first = 0, rows = 0;
        if (map->slot != p->slot)
            continue;
        gm_param_part(c, p, map->part, &first, &rows);
        if (rows == 0)
            continue;
        if (out) {
            gm_file_tensor *t = &out[count];
            *t = (gm_file_tensor){.rows = rows, .offset = p->offset + first * p->cols, .row_stride = p->cols, .col_stride = 1};
            if (!gm_param_is_vector(p))
                t->cols = p->cols;
            if (map->transposed) {
                t->rows = p->cols, t->cols = rows;
                t->row_stride = 1, t->col_stride = p->cols;
            }
            if (p->slot == GM_P_HEAD) {
                snprintf(t->name, sizeof t->name, "%s", map->name);
            } else {
                t->short_name = prefix_cut;
                if (p->layer >= 0)
                    snprintf(t->name, sizeof t->name, "%s%s%d.%s", prefix, families[c->family].blocks, p->layer, map->name);
                else
                    snprintf(t->name, sizeof t->name, "%s%s", prefix, map->name);
            }
        }
        count++;
    }
    return count;
}

/* The weights' file names the mathematics that it was saved with, so that an altered config.json does not pass unseen. */
static const char config_key[] = "ghostmax.config";

static void config_text(char text[17], const gm_model_config *cfg) {
    snprintf(text, 17, "%016" PRIx64, gm_config_fingerprint(cfg));
}

/* ---- saving */

gm_status gm_model_put(const gm_model *m, const gm_folder *f, gm_dtype dtype, int64_t shard_bytes, gm_error *err) {
    char config_path[1024], weights_path[1024], fingerprint[17];
    GM_TRY(gm_path_join(config_path, sizeof config_path, f->staging, "config.json", err));
    GM_TRY(gm_path_join(weights_path, sizeof weights_path, f->staging, "model.safetensors", err));
    gm_file_tensor *tensors;
    int count;
    GM_TRY(gm_file_tensors(&tensors, &count, &m->cfg, param_tensors, err));
    gm_status status = GM_OK;
    gm_tensor_source *sources = gm_alloc((size_t)count, sizeof *sources);
    if (!sources) {
        status = gm_fail_memory(err, (size_t)count * sizeof *sources);
        goto done;
    }
    for (int i = 0; i < count; i++) {
        const gm_file_tensor *t = &tensors[i];
        sources[i] = (gm_tensor_source){.name = t->name,
                                        .data = m->weights + t->offset,
                                        .rows = t->rows,
                                        .cols = t->cols,
                                        .row_stride = t->row_stride,
                                        .col_stride = t->col_stride,
                                        .dtype = dtype};
    }
    config_text(fingerprint, &m->cfg);
    const char *metadata[] = {"format", "pt", config_key, fingerprint, NULL}; /* stock loaders ask for the first */
    GM_TRY_GOTO(gm_config_file_write(&m->cfg, dtype, config_path, err));
    if (shard_bytes > 0)
        GM_TRY_GOTO(gm_safetensors_write_shards(f->staging, sources, count, metadata, shard_bytes, err));
    else
        GM_TRY_GOTO(gm_safetensors_write(weights_path, sources, count, metadata, err));
done:
    gm_free(sources);
    gm_free(tensors);
    return status;
}

gm_status gm_model_commit(gm_folder *f, bool whole, gm_error *err) {
    /* Weights kept in another way, and another model's tokenizer: a loader would take them for this model's. */
    const char *const obsolete[] = {"model.safetensors",
                                    GM_SAFETENSORS_INDEX,
                                    "model-*-of-*.safetensors",
                                    whole ? "tokenizer.json" : NULL,
                                    "tokenizer_config.json",
                                    "generation_config.json",
                                    NULL};
    return gm_folder_commit(f, "config.json", obsolete, err);
}

gm_status gm_model_save_as(const gm_model *m, const char *folder, gm_dtype dtype, int64_t shard_bytes, gm_error *err) {
    gm_folder f;
    if (shard_bytes < 0)
        return gm_fail(err, GM_EINVAL, "a shard of %lld bytes; give 0 (one file) or more", (long long)shard_bytes);
    GM_TRY(gm_folder_open(&f, folder, err));
    gm_status status = gm_model_put(m, &f, dtype, shard_bytes, err);
    if (status == GM_OK)
        return gm_model_commit(&f, false, err);
    gm_folder_abort(&f);
    return status;
}

gm_status gm_model_save(const gm_model *m, const char *folder, gm_error *err) {
    return gm_model_save_as(m, folder, GM_DTYPE_F32, 0, err);
}

/* ---- loading */

static void shape_text(char text[96], int rank, const int64_t *shape) {
    int n = snprintf(text, 96, "[");
    for (int i = 0; i < rank && n < 96; i++)
        n += snprintf(text + n, 96 - (size_t)n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (n < 96)
        snprintf(text + n, 96 - (size_t)n, "]");
}

/* The file's tensor for t: by its full name, else by the short one. */
static const gm_tensor *find(const gm_safetensors *s, const gm_file_tensor *t) {
    const gm_tensor *found = gm_safetensors_find(s, t->name);
    return found || !t->short_name ? found : gm_safetensors_find(s, t->name + t->short_name);
}

static gm_status check_tensor(const gm_safetensors *s, const gm_file_tensor *want, const gm_tensor *found, gm_error *err) {
    int rank = want->cols ? 2 : 1;
    int64_t shape[2] = {want->rows, want->cols};
    char wanted[96], given[96];
    shape_text(wanted, rank, shape);
    if (!found)
        return gm_fail(err, GM_EFORMAT, "%s: tensor '%s' %s is missing; config.json and the weights do not belong together", s->path,
                       want->name, wanted);
    if (found->rank != rank || memcmp(found->shape, shape, (size_t)rank * sizeof *shape) != 0) {
        shape_text(given, found->rank, found->shape);
        return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, found),
                          "%s: tensor '%s' is %s where config.json says %s; they do not belong together", gm_tensor_path(s, found),
                          found->name, given, wanted);
    }
    return gm_tensor_check(s, found, err);
}

static bool is_buffer(const gm_model_config *cfg, const char *name) {
    const char *const *buffers = families[cfg->family].buffers;
    for (int i = 0; i < GM_COUNT(families[0].buffers) && buffers[i]; i++) {
        size_t n = strlen(name), end = strlen(buffers[i]);
        if (n > end && strcmp(name + n - end, buffers[i]) == 0)
            return true;
    }
    return false;
}

/* A tensor that the model has no place for: a known constant, or a tied head that repeats the embedding table. */
static gm_status check_extra(const gm_safetensors *s, const gm_tensor *extra, const gm_model_config *cfg, const gm_tensor *embedding,
                             gm_error *err) {
    if (is_buffer(cfg, extra->name))
        return GM_OK;
    if (cfg->tied && strcmp(extra->name, "lm_head.weight") == 0) {
        if (extra->bytes == embedding->bytes && memcmp(extra->data, embedding->data, extra->bytes) == 0)
            return GM_OK;
        return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, extra),
                          "%s: config.json says that the LM head is the embedding table (tie_word_embeddings), but 'lm_head.weight' is "
                          "another; one of them is wrong",
                          gm_tensor_path(s, extra));
    }
    return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, extra),
                      "%s: tensor '%s' has no place in the model of config.json; they do not belong together", gm_tensor_path(s, extra),
                      extra->name);
}

/* The file must hold exactly these tensors, whatever its order. */
static gm_status check_tensors(const gm_safetensors *s, const gm_file_tensor *tensors, int count, const gm_model_config *cfg,
                               gm_error *err) {
    bool *used = gm_alloc((size_t)s->count, sizeof *used);
    if (!used)
        return gm_fail_memory(err, (size_t)s->count);
    gm_status status = GM_OK;
    for (int i = 0; i < count; i++) {
        const gm_tensor *found = find(s, &tensors[i]);
        GM_TRY_GOTO(check_tensor(s, &tensors[i], found, err));
        used[found - s->tensors] = true;
    }
    for (int i = 0; i < s->count; i++) {
        if (!used[i])
            GM_TRY_GOTO(check_extra(s, &s->tensors[i], cfg, find(s, &tensors[0]), err));
    }
    char fingerprint[17];
    config_text(fingerprint, cfg);
    const char *saved = gm_safetensors_metadata(s, config_key);
    if (saved && strcmp(saved, fingerprint) != 0)
        status = gm_fail(err, GM_EFORMAT, "%s: these weights were saved with another config.json: it was altered or replaced; restore it",
                         s->path);
done:
    gm_free(used);
    return status;
}

/* Pieces of some 1 MB, so that threads share one large table too. */
static void read_weights(gm_model *m, const gm_safetensors *s, const gm_file_tensor *tensors, int count) {
#pragma omp parallel num_threads(m->ctx->threads) if (m->param_elements > 1 << 20)
    for (int i = 0; i < count; i++) {
        const gm_file_tensor *t = &tensors[i];
        const gm_tensor *found = find(s, t);
        int64_t rows = GM_MAX((1 << 18) / GM_MAX(t->cols, 1) / 16, 1) * 16, pieces = (t->rows + rows - 1) / rows;
#pragma omp for schedule(dynamic) nowait
        for (int64_t piece = 0; piece < pieces; piece++)
            gm_tensor_rows(found, piece * rows, GM_MIN(rows, t->rows - piece * rows), m->weights + t->offset, t->row_stride, t->col_stride);
    }
}

/* Which files a path means; others are left "". */
typedef struct model_paths {
    char folder[1024], config[1024], weights[1024];
    bool index; /* weights is the index of shards */
} model_paths;

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The weights of a folder: one file, or an index of several. */
static gm_status find_weights(model_paths *p, gm_error *err) {
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "ckpt.pt", "consolidated.00.pth", NULL};
    GM_TRY(gm_path_join(p->weights, sizeof p->weights, p->folder, "model.safetensors", err));
    if (gm_path_exists(p->weights))
        return GM_OK;
    char index[1024];
    GM_TRY(gm_path_join(index, sizeof index, p->folder, GM_SAFETENSORS_INDEX, err));
    p->index = gm_path_exists(index);
    if (p->index) {
        memcpy(p->weights, index, sizeof index);
        return GM_OK;
    }
    const char *other = gm_dir_has(p->folder, others);
    if (other)
        return gm_fail(err, GM_EUNSUPPORTED,
                       "'%s' holds its weights as %s, which is Python's pickle and is not read; save them as safetensors "
                       "(tools/pt2safetensors.py, or transformers' save_pretrained)",
                       p->folder, other);
    return GM_OK; /* opening model.safetensors will say that there is none */
}

static gm_status find_model(model_paths *p, const char *path, gm_error *err) {
    *p = (model_paths){0};
    if ((size_t)snprintf(p->folder, sizeof p->folder, "%s", path) >= sizeof p->folder)
        return gm_fail(err, GM_EINVAL, "path is too long: %.100s...", path);
    bool folder = gm_path_is_dir(path);
    if (!folder) { /* the weights' file, or the index of several: config.json lies beside it */
        p->index = ends_with(path, ".safetensors.index.json");
        if (!p->index && !ends_with(path, ".safetensors"))
            return gm_fail(err, GM_EUNSUPPORTED,
                           "'%s' is not a model: give a folder of config.json and model.safetensors, a GGUF file or a llama2.c checkpoint",
                           path);
        memcpy(p->weights, p->folder, sizeof p->weights);
        char *slash = strrchr(p->folder, '/');
        if (slash)
            slash[slash == p->folder] = 0;
        else
            strcpy(p->folder, ".");
    }
    GM_TRY(gm_path_join(p->config, sizeof p->config, p->folder, "config.json", err));
    if (!gm_path_exists(p->config))
        return gm_fail(err, GM_EIO, "'%s' holds no model: there is no config.json in it", p->folder);
    return folder ? find_weights(p, err) : GM_OK;
}

/* A set of files that holds exactly the model's tensors; nothing of their data is touched. *tensors is freed with gm_free. */
static gm_status open_weights(gm_safetensors *s, gm_file_tensor **tensors, int *count, const gm_model_config *cfg, const model_paths *paths,
                              gm_error *err) {
    GM_TRY(paths->index ? gm_safetensors_open_index(s, paths->weights, err) : gm_safetensors_open(s, paths->weights, err));
    gm_status status = gm_file_tensors(tensors, count, cfg, param_tensors, err);
    if (status == GM_OK)
        status = check_tensors(s, *tensors, *count, cfg, err);
    if (status != GM_OK) {
        gm_free(*tensors);
        gm_safetensors_close(s);
    }
    return status;
}

/* Files of other formats, known by their content; *known: it was one. */
static gm_status load_other(gm_model **out, const gm_ctx *ctx, const char *path, bool *known, gm_error *err) {
    gm_file file;
    GM_TRY(gm_file_open(&file, path, err));
    bool gguf = gm_gguf_is(file.data, file.size), llama2c = !gguf && gm_llama2c_is(&file);
    gm_status status = gguf ? gm_gguf_model_load(out, ctx, &file, err) : llama2c ? gm_llama2c_load(out, ctx, &file, err) : GM_OK;
    *known = gguf || llama2c;
    gm_file_close(&file);
    return status;
}

gm_status gm_model_load(gm_model **out, const gm_ctx *ctx, const char *path, gm_error *err) {
    *out = NULL;
    if (!gm_path_exists(path))
        return gm_fail(err, GM_EIO, "no model at '%s': no such file or folder", path);
    bool known = false;
    if (!gm_path_is_dir(path))
        GM_TRY(load_other(out, ctx, path, &known, err));
    if (known)
        return GM_OK;
    model_paths paths;
    gm_model_config cfg;
    gm_safetensors s;
    gm_file_tensor *tensors;
    int count;
    GM_TRY(find_model(&paths, path, err));
    GM_TRY(gm_config_file_read(&cfg, paths.config, err));
    GM_TRY(open_weights(&s, &tensors, &count, &cfg, &paths, err)); /* before memory is taken for what a config merely claims */
    gm_status status = gm_safetensors_verify(&s, ctx->threads, err);
    if (status == GM_OK)
        status = gm_model_allocate(out, ctx, &cfg, err);
    if (status == GM_OK)
        read_weights(*out, &s, tensors, count);
    gm_free(tensors);
    gm_safetensors_close(&s);
    return status;
}

/* ---- looking without loading */

gm_status gm_model_inspect(gm_model_files *out, const char *path, gm_error *err) {
    *out = (gm_model_files){0};
    model_paths paths;
    gm_safetensors s;
    gm_file_tensor *tensors;
    int count;
    GM_TRY(find_model(&paths, path, err));
    GM_TRY(gm_config_file_read(&out->cfg, paths.config, err));
    GM_TRY(open_weights(&s, &tensors, &count, &out->cfg, &paths, err));
    out->files = GM_MAX(s.shard_count, 1);
    out->tensors = s.count;
    for (int i = 0; i < out->files; i++)
        out->bytes += (int64_t)(s.shard_count ? s.shards[i].file.size : s.file.size);
    gm_safetensors_types(&s, out->types, sizeof out->types);
    gm_free(tensors);
    gm_safetensors_close(&s);
    return GM_OK;
}

/* ---- weights that are no numbers */

static int64_t count_bits(const float *x, int64_t n, bool nan) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        count += nan ? bits > 0x7f800000u : bits >= 0x7f800000u;
    }
    return count;
}

gm_status gm_model_nonfinite(const gm_model *m, gm_nonfinite *list, int capacity, int *count, gm_error *err) {
    gm_file_tensor *tensors;
    int tensor_count;
    *count = 0;
    GM_TRY(gm_file_tensors(&tensors, &tensor_count, &m->cfg, param_tensors, err));
    int64_t *found = gm_alloc((size_t)tensor_count, sizeof *found);
    gm_status status = found ? GM_OK : gm_fail_memory(err, (size_t)tensor_count * sizeof *found);
#pragma omp parallel for num_threads(m->ctx->threads) schedule(dynamic) if (m->param_elements > 1 << 20)
    for (int i = 0; i < (found ? tensor_count : 0); i++) /* part of a parameter or transposed, its elements are contiguous */
        found[i] = count_bits(m->weights + tensors[i].offset, tensors[i].rows * GM_MAX(tensors[i].cols, 1), false);
    for (int i = 0; found && i < tensor_count; i++) {
        if (found[i] == 0)
            continue;
        if (*count < capacity) {
            const gm_file_tensor *t = &tensors[i];
            gm_nonfinite *entry = &list[*count];
            int64_t elements = t->rows * GM_MAX(t->cols, 1);
            snprintf(entry->tensor, sizeof entry->tensor, "%s", t->name);
            entry->nan = count_bits(m->weights + t->offset, elements, true);
            entry->infinite = found[i] - entry->nan;
            entry->elements = elements;
        }
        ++*count;
    }
    gm_free(found);
    gm_free(tensors);
    return status;
}
