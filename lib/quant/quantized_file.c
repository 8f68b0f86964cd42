/* quantized_file.c -- a quantized model as a folder: config.json, which no stock loader takes for one of its own, and model.safetensors
 * with integers, scales, zero points and the ranges of activations. docs/formats.md has the layout. */
#include "config_file.h"
#include "quant.h"
#include "safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char checksums_key[] = "ghostmax.checksums";

/* ---- which tensors there are, for both directions */

enum { NAME = 96 };

static void tensor_name(char name[NAME], const char *of, const char *part) {
    snprintf(name, NAME, "%.80s%.15s", of, part);
}

static void site_name(char name[NAME], gm_site site, int layer) {
    if (layer < 0)
        snprintf(name, NAME, "%s.range", gm_site_name(site));
    else
        snprintf(name, NAME, "blocks.%d.%s.range", layer, gm_site_name(site));
}

/* Does a site have a range of its own in the file? */
static bool has_range(const gm_quant_plan *plan, gm_site site, int layer) {
    const gm_quantizer *q = gm_quant_plan_quantizer(plan, site);
    const bool outside = site == GM_SITE_EMBED || site == GM_SITE_NORM_FINAL;
    return q && outside == (layer < 0) && !q->dynamic && (q->grain == GM_GRAIN_TENSOR || q->grain == GM_GRAIN_CHANNEL);
}

/* The stored matrix; false: it is f32, or the head that the embedding table already is. */
static bool is_stored(const gm_quant_plan *plan, const gm_quant_matrix *q) {
    return q->how.bits && !(q->view.kind == GM_PARAM_HEAD && gm_quant_plan_shares_head(plan));
}

/* A tied head in f32 beside a rounded table. */
static bool has_own_head(const gm_quant_plan *plan) {
    return plan->model->cfg.tied && !plan->options.head.bits && plan->options.embeddings.bits;
}

static bool is_quantized_param(const gm_quant_plan *plan, const gm_param *p) {
    const gm_quant_options *o = &plan->options;
    return p->kind == GM_PARAM_LINEAR      ? o->weights.bits > 0
           : p->kind == GM_PARAM_EMBEDDING ? o->embeddings.bits > 0
           : p->kind == GM_PARAM_HEAD      ? o->head.bits > 0
           : p->kind == GM_PARAM_NORM_GAIN ? o->weights.bits > 0 && !o->linear_only
                                           : false;
}

static bool is_wide(const gm_quantizer *q) {
    return q->bits > 8;
}

/* Unsigned grids are stored around their middle, so that every integer fits a signed type. */
static int32_t middle(const gm_quantizer *q) {
    return q->asymmetric ? (int32_t)1 << (q->bits - 1) : 0;
}

/* ---- saving */

typedef struct saved {
    gm_tensor_source *tensors;
    char (*names)[NAME];
    int count, capacity;
    void **memory; /* per tensor, freed at the end */
} saved;

/* Another tensor of `type`; returns its bytes, zeroed, or NULL. */
static void *add(saved *s, const char *name, const char *type, size_t element_bytes, int64_t rows, int64_t cols) {
    void *bytes = gm_alloc((size_t)(rows * (cols ? cols : 1)), element_bytes);
    if (!bytes || s->count == s->capacity) {
        gm_free(bytes);
        return NULL;
    }
    memcpy(s->names[s->count], name, NAME);
    s->memory[s->count] = bytes;
    s->tensors[s->count] = (gm_tensor_source){.name = s->names[s->count], .rows = rows, .cols = cols, .raw = bytes, .raw_type = type};
    s->count++;
    return bytes;
}

static bool add_matrix(saved *s, const gm_quant_matrix *q) {
    char name[NAME];
    const gm_matrix_view *v = &q->view;
    const int64_t n = v->rows * v->cols, span = gm_weight_span(&q->how, v->cols), parts = (v->cols + span - 1) / span;
    const int64_t outliers = q->outliers ? q->outliers->count : 0;
    const bool wide = is_wide(&q->how), vector = v->kind == GM_PARAM_NORM_GAIN;
    tensor_name(name, v->name, ".q");
    void *integers = add(s, name, wide ? "I16" : "I8", wide ? 2 : 1, v->rows, vector ? 0 : v->cols);
    tensor_name(name, v->name, ".scale");
    float *scale = add(s, name, "F32", sizeof *scale, q->grid_count, 0);
    tensor_name(name, v->name, ".zero");
    int32_t *zero = q->how.asymmetric ? add(s, name, "I32", sizeof *zero, q->grid_count, 0) : NULL;
    if (!integers || !scale || (q->how.asymmetric && !zero))
        return false;
    for (int64_t g = 0; g < q->grid_count; g++) {
        scale[g] = q->grids[g].scale;
        if (zero)
            zero[g] = q->grids[g].zero - middle(&q->how);
    }
    int64_t next = 0; /* of the outlier columns */
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = i / v->cols, c = i % v->cols;
        next = c == 0 ? 0 : next;
        if (next < outliers && q->outliers->column[next] == c) {
            next++;
            continue; /* 0: its value is below */
        }
        const gm_quant_grid *g = &q->grids[q->grid_count == 1 ? 0 : r * parts + c / span];
        const int32_t whole = (int32_t)rintf(v->x[i] / g->scale) + g->zero - middle(&q->how);
        if (wide)
            ((int16_t *)integers)[i] = (int16_t)whole;
        else
            ((int8_t *)integers)[i] = (int8_t)whole;
    }
    if (!outliers)
        return true;
    tensor_name(name, v->name, ".outlier_columns");
    int32_t *column = add(s, name, "I32", sizeof *column, outliers, 0);
    tensor_name(name, v->name, ".outliers");
    float *kept = add(s, name, "F32", sizeof *kept, v->rows, outliers);
    if (!column || !kept)
        return false;
    memcpy(column, q->outliers->column, (size_t)outliers * sizeof *column);
    for (int64_t i = 0; i < v->rows * outliers; i++)
        kept[i] = v->x[i / outliers * v->cols + column[i % outliers]];
    return true;
}

static bool add_floats(saved *s, const char *of, const float *x, int64_t rows, int64_t cols) {
    char name[NAME];
    tensor_name(name, of, "");
    float *to = add(s, name, "F32", sizeof *to, rows, cols);
    if (to)
        memcpy(to, x, (size_t)(rows * (cols ? cols : 1)) * sizeof *to);
    return to;
}

static bool add_range(saved *s, const gm_quant_plan *plan, gm_site site, int layer) {
    const gm_observer *o = gm_quant_plan_observer(plan, site, layer);
    const int64_t n = o->channels ? o->channels : 1;
    char name[NAME];
    site_name(name, site, layer);
    float *to = add(s, name, "F32", sizeof *to, 2, o->channels);
    if (to) {
        memcpy(to, o->channels ? o->channel_lo : &o->lo, (size_t)n * sizeof *to);
        memcpy(to + n, o->channels ? o->channel_hi : &o->hi, (size_t)n * sizeof *to);
    }
    return to;
}

static bool add_all(saved *s, const gm_quant_plan *plan) {
    const gm_model *m = plan->model;
    bool ok = true;
    for (int i = 0; ok && i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        if (!is_quantized_param(plan, p))
            ok = add_floats(s, p->name, m->weights + p->offset, p->rows, p->cols > 1 ? p->cols : 0);
    }
    for (int i = 0; ok && i < plan->matrix_count; i++) {
        if (is_stored(plan, &plan->matrices[i]))
            ok = add_matrix(s, &plan->matrices[i]);
    }
    if (ok && has_own_head(plan))
        ok = add_floats(s, "head", m->head, m->cfg.vocab, m->cfg.width);
    for (int l = -1; ok && l < m->cfg.layers; l++) {
        for (int site = 0; ok && site < GM_SITE_COUNT; site++) {
            if (has_range(plan, (gm_site)site, l))
                ok = add_range(s, plan, (gm_site)site, l);
        }
    }
    return ok;
}

/* The hash of every tensor's bytes, by name: an altered byte is answered with the tensor that it is in. */
static char *checksums_text(const saved *s) {
    json_t *root = json_object();
    for (int i = 0; i < s->count; i++) {
        const gm_tensor_source *t = &s->tensors[i];
        const size_t element = t->raw_type[1] == '8' ? 1 : strcmp(t->raw_type, "I16") == 0 ? 2 : 4;
        char text[17];
        snprintf(text, sizeof text, "%016" PRIx64, gm_checksum(t->raw, (size_t)(t->rows * (t->cols ? t->cols : 1)) * element));
        json_object_set_new(root, t->name, json_string(text));
    }
    char *text = gm_json_dump(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

static gm_status write_config(const gm_quantized *q, const char *path, gm_error *err) {
    char *model_text = gm_config_json(&q->plan.model->cfg, GM_DTYPE_F32);
    json_t *model = model_text ? json_loads(model_text, 0, NULL) : NULL;
    free(model_text);
    json_t *root = json_pack("{s:[s], s:s, s:o, s:o}", "architectures", "GhostmaxQuantizedForCausalLM", "model_type", GM_QUANTIZED_TYPE,
                             "quantizer", gm_quant_options_to_json(&q->plan.options), "model", model);
    char *text = root ? gm_json_text(root) : NULL;
    json_decref(root);
    gm_status status = text ? gm_file_write(path, text, strlen(text), err) : gm_fail_memory(err, 4096);
    free(text);
    return status;
}

static gm_status put(const gm_quantized *q, const gm_folder *f, gm_error *err) {
    char config_path[1024], weights_path[1024];
    const gm_model *m = q->plan.model;
    GM_TRY(gm_path_join(config_path, sizeof config_path, f->staging, "config.json", err));
    GM_TRY(gm_path_join(weights_path, sizeof weights_path, f->staging, "model.safetensors", err));
    const int capacity = m->param_count + 5 * q->plan.matrix_count + 1 + (int)(m->cfg.layers + 1) * GM_SITE_COUNT;
    saved s = {.tensors = gm_alloc((size_t)capacity, sizeof *s.tensors),
               .names = gm_alloc((size_t)capacity, sizeof *s.names),
               .memory = gm_alloc((size_t)capacity, sizeof *s.memory),
               .capacity = capacity};
    char *checksums = NULL;
    gm_status status = GM_OK;
    if (!s.tensors || !s.names || !s.memory || !add_all(&s, &q->plan) || !(checksums = checksums_text(&s))) {
        status = gm_fail_memory(err, (size_t)m->param_elements);
        goto done;
    }
    const char *metadata[] = {"format", GM_QUANTIZED_TYPE, checksums_key, checksums, NULL};
    GM_TRY_GOTO(write_config(q, config_path, err));
    GM_TRY_GOTO(gm_safetensors_write(weights_path, s.tensors, s.count, metadata, err));
done:
    for (int i = 0; s.memory && i < s.count; i++)
        gm_free(s.memory[i]);
    gm_free(s.tensors);
    gm_free(s.names);
    gm_free(s.memory);
    free(checksums);
    return status;
}

gm_status gm_quantized_save(const gm_quantized *q, const gm_tokenizer *t, const char *folder, gm_error *err) {
    gm_folder f;
    char path[1024];
    if (q->executed_only)
        return gm_fail(err, GM_EUNSUPPORTED, "a model opened to be executed only cannot be written");
    GM_TRY(gm_folder_open(&f, folder, err));
    gm_status status = put(q, &f, err);
    if (status == GM_OK && t)
        status = gm_path_join(path, sizeof path, f.staging, "tokenizer.json", err);
    if (status == GM_OK && t)
        status = gm_tokenizer_save(t, path, err);
    if (status == GM_OK)
        return gm_model_commit(&f, true, err);
    gm_folder_abort(&f);
    return status;
}

/* ---- loading */

static gm_status read_json(json_t **out, const char *path, gm_error *err) {
    gm_file file;
    json_error_t wrong;
    GM_TRY(gm_file_open(&file, path, err));
    *out = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &wrong);
    gm_file_close(&file);
    return *out ? GM_OK : gm_fail_at(err, GM_EFORMAT, wrong.position, "%s: not JSON: %s (line %d)", path, wrong.text, wrong.line);
}

bool gm_quantized_is(const char *folder) {
    char path[1024];
    json_t *root = NULL;
    if (!gm_path_is_dir(folder) || gm_path_join(path, sizeof path, folder, "config.json", NULL) != GM_OK || !gm_path_exists(path) ||
        read_json(&root, path, NULL) != GM_OK)
        return false;
    const char *type = json_string_value(json_object_get(root, "model_type"));
    bool is = type && strcmp(type, GM_QUANTIZED_TYPE) == 0;
    json_decref(root);
    return is;
}

static gm_status read_config(gm_quantized *q, gm_model_config *cfg, const char *path, gm_error *err) {
    json_t *root;
    gm_error inner = {.offset = -1};
    GM_TRY(read_json(&root, path, err));
    char *model = gm_json_dump(json_object_get(root, "model"), JSON_COMPACT | JSON_REAL_PRECISION(17));
    gm_status status = GM_OK;
    if (!model)
        status = gm_fail(err, GM_EFORMAT, "%s: it has no \"model\"", path);
    else
        status = gm_config_parse(cfg, model, strlen(model), path, err);
    if (status == GM_OK && gm_quant_options_from_json(&q->plan.options, json_object_get(root, "quantizer"), &inner) != GM_OK)
        status = gm_fail(err, GM_EFORMAT, "%s: \"quantizer\": %s", path, inner.msg);
    free(model);
    json_decref(root);
    return status;
}

/* Every tensor's own hash first, which names it; then the file's over everything else. */
static gm_status verify(const gm_safetensors *s, int threads, gm_error *err) {
    const char *text = gm_safetensors_metadata(s, checksums_key);
    const bool whole = gm_safetensors_metadata(s, GM_SAFETENSORS_CHECKSUM); /* the writer's, over the header too */
    json_t *root = text && whole ? json_loads(text, 0, NULL) : NULL;
    gm_status status = root ? GM_OK : gm_fail(err, GM_EFORMAT, "%s: it has no checksums of its tensors; write it again", s->path);
    for (int i = 0; i < s->count && status == GM_OK; i++) {
        const gm_tensor *t = &s->tensors[i];
        char found[17];
        snprintf(found, sizeof found, "%016" PRIx64, gm_checksum(t->data, t->bytes));
        const char *stored = json_string_value(json_object_get(root, t->name));
        if (!stored || strcmp(found, stored) != 0)
            status = gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, t), "%s: tensor '%s' was altered or damaged; restore the file",
                                s->path, t->name);
    }
    json_decref(root);
    return status == GM_OK ? gm_safetensors_verify(s, threads, err) : status;
}

/* A tensor of exactly this type and shape (cols 0: a vector). */
static gm_status want(const gm_tensor **out, const gm_safetensors *s, const char *name, const char *type, int64_t rows, int64_t cols,
                      gm_error *err) {
    const gm_tensor *t = *out = gm_safetensors_find(s, name);
    if (!t)
        return gm_fail(err, GM_EFORMAT, "%s: tensor '%s' is missing; it and config.json do not belong together", s->path, name);
    if (strcmp(gm_tensor_type(t), type) != 0 || t->rank != (cols ? 2 : 1) || t->shape[0] != rows || (cols && t->shape[1] != cols))
        return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, t),
                          "%s: tensor '%s' is not %s [%lld%s%.0lld]; it and config.json do not "
                          "belong together",
                          s->path, name, type, (long long)rows, cols ? ", " : "", (long long)cols);
    return GM_OK;
}

static gm_status read_floats(float *to, const gm_safetensors *s, const char *name, int64_t rows, int64_t cols, gm_error *err) {
    const gm_tensor *t;
    GM_TRY(want(&t, s, name, "F32", rows, cols, err));
    memcpy(to, t->data, t->bytes);
    return GM_OK;
}

static gm_status read_outliers(gm_quantized *q, gm_quant_matrix *x, const gm_safetensors *s, gm_error *err) {
    char name[NAME];
    const gm_matrix_view *v = &x->view;
    gm_outlier_columns *o = (gm_outlier_columns *)x->outliers;
    tensor_name(name, v->name, ".outlier_columns");
    const gm_tensor *columns = gm_safetensors_find(s, name), *kept;
    if (!columns)
        return GM_OK;
    const int64_t count = columns->elements;
    GM_TRY(want(&columns, s, name, "I32", count, 0, err));
    tensor_name(name, v->name, ".outliers");
    GM_TRY(want(&kept, s, name, "F32", v->rows, count, err));
    if (!o->column)
        GM_TRY(gm_outlier_columns_make(o, count, err));
    if (o->count != count)
        return gm_fail(err, GM_EFORMAT, "%s: '%s' has other outlier columns than its neighbours", s->path, v->name);
    memcpy(o->column, columns->data, columns->bytes);
    for (int64_t i = 0; i < count; i++) {
        if (o->column[i] < 0 || o->column[i] >= v->cols || (i > 0 && o->column[i] <= o->column[i - 1]))
            return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, columns), "%s: tensor '%s' names columns that are not there", s->path,
                              columns->name);
    }
    for (int64_t i = 0; v->x && i < v->rows * count; i++)
        memcpy(&v->x[i / count * v->cols + o->column[i % count]], kept->data + (size_t)i * sizeof(float), sizeof(float));
    (void)q;
    return GM_OK;
}

static gm_status read_matrix(gm_quantized *q, gm_quant_matrix *x, const char *name_of, const gm_safetensors *s, gm_error *err) {
    char name[NAME];
    const gm_matrix_view *v = &x->view;
    const int64_t n = v->rows * v->cols, span = gm_weight_span(&x->how, v->cols), parts = (v->cols + span - 1) / span;
    const bool wide = is_wide(&x->how), vector = v->kind == GM_PARAM_NORM_GAIN;
    const gm_tensor *integers, *scale, *zero = NULL;
    tensor_name(name, name_of, ".q");
    GM_TRY(want(&integers, s, name, wide ? "I16" : "I8", v->rows, vector ? 0 : v->cols, err));
    tensor_name(name, name_of, ".scale");
    GM_TRY(want(&scale, s, name, "F32", x->grid_count, 0, err));
    tensor_name(name, name_of, ".zero");
    if (x->how.asymmetric)
        GM_TRY(want(&zero, s, name, "I32", x->grid_count, 0, err));
    x->grids = gm_alloc((size_t)x->grid_count, sizeof *x->grids);
    if (!x->grids)
        return gm_fail_memory(err, (size_t)x->grid_count * sizeof *x->grids);
    for (int64_t g = 0; g < x->grid_count; g++) {
        const int32_t half = (int32_t)1 << (x->how.bits - 1);
        gm_quant_grid grid = {.qmin = -half, .qmax = half - 1}; /* as stored: around the middle */
        memcpy(&grid.scale, scale->data + (size_t)g * sizeof(float), sizeof(float));
        if (zero)
            memcpy(&grid.zero, zero->data + (size_t)g * sizeof(int32_t), sizeof(int32_t));
        if (!(grid.scale > 0 && isfinite(grid.scale * 2 * (float)half)) || grid.zero < grid.qmin || grid.zero > grid.qmax)
            return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, scale), "%s: tensor '%s' holds no scale", s->path, scale->name);
        x->grids[g] = grid;
    }
    x->integers = wide ? NULL : (const int8_t *)integers->data;
    for (int64_t i = 0; v->x && i < n; i++) {
        const gm_quant_grid *g = &x->grids[x->grid_count == 1 ? 0 : i / v->cols * parts + i % v->cols / span];
        int16_t whole = wide ? 0 : (int8_t)integers->data[i];
        if (wide)
            memcpy(&whole, integers->data + 2 * (size_t)i, sizeof whole);
        v->x[i] = g->scale * (float)(whole - g->zero);
    }
    for (int64_t g = 0; g < x->grid_count && x->how.asymmetric && v->x; g++) { /* as everywhere else: unsigned */
        const int32_t half = middle(&x->how);
        x->grids[g].zero += half;
        x->grids[g].qmin = 0;
        x->grids[g].qmax = 2 * half - 1;
    }
    return x->outliers ? read_outliers(q, x, s, err) : GM_OK;
}

static gm_status read_range(gm_quant_plan *plan, gm_site site, int layer, const gm_safetensors *s, gm_error *err) {
    gm_observer *o = gm_quant_plan_observer(plan, site, layer);
    char name[NAME];
    const gm_tensor *t;
    const int64_t channels = o->channels ? gm_site_width(&plan->model->cfg, site) : 0, n = channels ? channels : 1;
    site_name(name, site, layer);
    GM_TRY(want(&t, s, name, "F32", 2, channels, err));
    o->batches = 1;
    float *lo = &o->lo, *hi = &o->hi;
    if (channels) {
        o->channels = channels;
        o->channel_lo = lo = gm_alloc((size_t)(2 * channels), sizeof *lo);
        if (!lo)
            return gm_fail_memory(err, (size_t)(2 * channels) * sizeof *lo);
        o->channel_hi = hi = lo + channels;
    }
    memcpy(lo, t->data, (size_t)n * sizeof *lo);
    memcpy(hi, t->data + (size_t)n * sizeof *hi, (size_t)n * sizeof *hi);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(lo[i]) || !isfinite(hi[i]) || lo[i] > hi[i])
            return gm_fail_at(err, GM_EFORMAT, gm_tensor_offset(s, t), "%s: tensor '%s' holds no range", s->path, name);
    }
    return GM_OK;
}

/* Parameters whose place is only held as integers while executed. */
static uint64_t without_of(const gm_quant_options *o) {
    uint64_t without = 0;
    for (int i = 0; i < GM_LINEAR_INPUTS; i++)
        without |= (uint64_t)1 << gm_linear_inputs[i].weight;
    if (o->embeddings.bits > 0 && o->embeddings.bits <= 8 && !o->embeddings.asymmetric && o->embeddings.grain != GM_GRAIN_GROUP)
        without |= (uint64_t)1 << GM_P_WTE | (uint64_t)1 << GM_P_WPE;
    if (o->head.bits > 0)
        without |= (uint64_t)1 << GM_P_HEAD;
    return without;
}

static gm_status read_head(gm_quantized *q, const gm_safetensors *s, gm_error *err) {
    gm_model *m = q->plan.model;
    const int64_t V = m->cfg.vocab, C = m->cfg.width;
    if (!m->cfg.tied)
        return GM_OK;
    if (has_own_head(&q->plan))
        return read_floats(m->own_head, s, "head", V, C, err);
    if (!q->plan.options.head.bits) /* nor is the table */
        memcpy(m->own_head, gm_model_weight(m, GM_P_WTE, -1), (size_t)(V * C) * sizeof(float));
    return GM_OK;
}

static gm_status load_weights(gm_quantized *q, const gm_ctx *ctx, const gm_model_config *cfg, const gm_safetensors *s, gm_error *err) {
    gm_quant_plan *plan = &q->plan;
    gm_model_size size;
    gm_model_config_size(&size, cfg, 1, 1);
    if (size.parameters > (int64_t)s->file.size) /* before memory is taken for what a config merely claims */
        return gm_fail(err, GM_EFORMAT, "%s: config.json has %lld parameters, more than its %zu bytes can be; they do not belong together",
                       s->path, (long long)size.parameters, s->file.size);
    GM_TRY(gm_model_allocate_without(&plan->model, ctx, cfg, q->executed_only ? without_of(&plan->options) : 0, err));
    gm_model *m = plan->model;
    if (cfg->tied && !(q->executed_only && plan->options.head.bits)) {
        m->own_head = gm_alloc((size_t)(cfg->vocab * cfg->width), sizeof(float));
        if (!m->own_head)
            return gm_fail_memory(err, (size_t)(cfg->vocab * cfg->width) * sizeof(float));
        m->head = m->own_head;
    }
    if (plan->options.outlier_threshold > 0) {
        plan->outliers = gm_alloc((size_t)(m->cfg.layers * GM_LINEAR_INPUTS), sizeof *plan->outliers);
        if (!plan->outliers)
            return gm_fail_memory(err, (size_t)(m->cfg.layers * GM_LINEAR_INPUTS) * sizeof *plan->outliers);
    }
    GM_TRY(gm_quant_plan_layout(plan, err));
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        if (!is_quantized_param(plan, p))
            GM_TRY(read_floats(m->weights + p->offset, s, p->name, p->rows, p->cols > 1 ? p->cols : 0, err));
    }
    for (int i = 0; i < plan->matrix_count; i++) {
        gm_quant_matrix *x = &plan->matrices[i];
        if (x->how.bits)
            GM_TRY(read_matrix(q, x, is_stored(plan, x) ? x->view.name : "wte", s, err));
    }
    GM_TRY(read_head(q, s, err));
    for (int l = -1; l < m->cfg.layers; l++) {
        for (int site = 0; site < GM_SITE_COUNT; site++) {
            if (has_range(plan, (gm_site)site, l))
                GM_TRY(read_range(plan, (gm_site)site, l, s, err));
        }
    }
    plan->batches = plan->options.calibration_batches;
    return GM_OK;
}

gm_status gm_quantized_load(gm_quantized **out, const gm_ctx *ctx, const char *folder, bool executed_only, gm_error *err) {
    char config_path[1024], weights_path[1024];
    gm_model_config cfg;
    gm_safetensors s = {0};
    *out = NULL;
    GM_TRY(gm_path_join(config_path, sizeof config_path, folder, "config.json", err));
    GM_TRY(gm_path_join(weights_path, sizeof weights_path, folder, "model.safetensors", err));
    gm_quantized *q = gm_alloc(1, sizeof *q);
    if (!q)
        return gm_fail_memory(err, sizeof *q);
    q->executed_only = executed_only;
    gm_status status;
    GM_TRY_GOTO(read_config(q, &cfg, config_path, err));
    GM_TRY_GOTO(gm_safetensors_open(&s, weights_path, err));
    GM_TRY_GOTO(verify(&s, gm_ctx_threads(ctx), err));
    GM_TRY_GOTO(load_weights(q, ctx, &cfg, &s, err));
    GM_TRY_GOTO(gm_quantized_ready(q, err)); /* packs the file's integers */
    *out = q;
done:
    if (status != GM_OK)
        gm_quantized_free(q);
    gm_safetensors_close(&s);
    return status;
}
