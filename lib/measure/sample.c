/* sample.c -- one short sequence as a model sees it: activations, attention weights, null mass and tokens in sample.safetensors. For the
 * eye, so numbers are bf16: three digits, and nothing is too large, infinite or NaN for them. */
#include "measure.h"
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

/* What is kept, in forward order; of heads: [H T, T] weights and [H, T] null mass. */
static const gm_site sites[] = {GM_SITE_EMBED,   GM_SITE_NORM1,   GM_SITE_Q,        GM_SITE_K,         GM_SITE_V,
                                GM_SITE_WEIGHTS, GM_SITE_ATTN_IN, GM_SITE_ATTN_OUT, GM_SITE_RESIDUAL1, GM_SITE_NORM2,
                                GM_SITE_FFN_ACT, GM_SITE_FFN_OUT, GM_SITE_BLOCK,    GM_SITE_NORM_FINAL};

typedef struct sampled {
    gm_tensor_source source;
    char name[64];
    float *x;
} sampled;

typedef struct sample {
    sampled *list;
    int count, capacity;
    int64_t heads;
    bool failed;
} sample;

static sampled *add(sample *s, const char *what, int layer, int64_t rows, int64_t cols) {
    if (s->count == s->capacity)
        s->failed = true;
    if (s->failed)
        return NULL;
    sampled *t = &s->list[s->count];
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", what);
    else
        snprintf(t->name, sizeof t->name, "blocks.%d.%s", layer, what);
    t->x = gm_alloc((size_t)(rows * cols), sizeof *t->x);
    s->failed = !t->x;
    if (s->failed)
        return NULL;
    t->source = (gm_tensor_source){.data = t->x, .rows = rows, .cols = cols, .row_stride = cols, .col_stride = 1, .dtype = GM_DTYPE_BF16};
    s->count++;
    return t;
}

static void keep(void *user, const gm_tap_view *v) {
    sample *s = user;
    bool wanted = false;
    for (int i = 0; i < GM_COUNT(sites); i++)
        wanted |= sites[i] == v->site;
    if (!wanted || s->failed)
        return;
    if (v->site != GM_SITE_WEIGHTS) {
        sampled *t = add(s, gm_site_name(v->site), v->layer, v->rows, v->cols);
        for (int64_t r = 0; t && r < v->rows; r++)
            memcpy(t->x + r * v->cols, v->x + r * v->stride, (size_t)v->cols * sizeof *t->x);
        return;
    }
    if (v->h == 0 && (!add(s, "weights", v->layer, s->heads * v->T, v->T) || !add(s, "null_mass", v->layer, s->heads, v->T)))
        return;
    sampled *weights = &s->list[s->count - 2], *null_mass = &s->list[s->count - 1];
    for (int64_t t = 0; t < v->T; t++)
        memcpy(weights->x + (v->h * v->T + t) * v->T, v->x + t * v->stride, (size_t)v->T * sizeof *weights->x);
    if (v->null_mass)
        memcpy(null_mass->x + v->h * v->T, v->null_mass, (size_t)v->T * sizeof *null_mass->x);
}

/* The tokens and what they say, as the file's metadata. */
static char *describe_tokens(const gm_data *data, const int32_t *tokens, int64_t T, bool texts) {
    json_t *list = json_array();
    for (int64_t t = 0; t < T; t++) {
        gm_text text = {0};
        if (texts)
            gm_measure_token_text(&text, gm_data_tokenizer(data), t > 0 ? tokens[t - 1] : -1, tokens[t]);
        json_array_append_new(list, texts ? gm_json_from_text(&text) : json_integer(tokens[t]));
    }
    char *json = gm_json_dump(list, JSON_COMPACT);
    json_decref(list);
    return json;
}

static gm_status write(const sample *s, const gm_model *m, const gm_data *data, const int32_t *tokens, int64_t T, const char *folder,
                       gm_error *err) {
    char path[1024], variant[256];
    gm_tensor_source *sources = gm_alloc((size_t)s->count, sizeof *sources);
    char *ids = describe_tokens(data, tokens, T, false), *texts = describe_tokens(data, tokens, T, true);
    gm_status status = sources && ids && texts ? gm_path_join(path, sizeof path, folder, "sample.safetensors", err)
                                               : gm_fail_memory(err, (size_t)s->count * sizeof *sources);
    gm_variant_format(variant, sizeof variant, &m->cfg.attention);
    for (int i = 0; status == GM_OK && i < s->count; i++) {
        sources[i] = s->list[i].source;
        sources[i].name = s->list[i].name;
    }
    const char *const metadata[] = {
        "schema", "ghostmax.sample/1", "variant", variant, "data", gm_data_identity(data), "sequence", "0", "tokens", ids ? ids : "",
        "texts",  texts ? texts : "",  NULL};
    if (status == GM_OK)
        status = gm_safetensors_write(path, sources, s->count, metadata, err);
    free(ids);
    free(texts);
    gm_free(sources);
    return status;
}

gm_status gm_sample_write(gm_model *m, const gm_data *data, const char *folder, gm_error *err) {
    const int64_t context = gm_data_context(data), T = GM_MIN(GM_MIN(context, m->cfg.context), (int64_t)GM_SAMPLE_TOKENS);
    sample s = {.capacity = (int)(m->cfg.layers + 1) * (GM_COUNT(sites) + 1), .heads = m->cfg.heads};
    int32_t *x = gm_alloc((size_t)(2 * context), sizeof *x);
    s.list = gm_alloc((size_t)s.capacity, sizeof *s.list);
    gm_status status = x && s.list ? GM_OK : gm_fail_memory(err, (size_t)s.capacity * sizeof *s.list);
    if (status == GM_OK) {
        gm_tap tap = {.fn = keep, .user = &s, .attention = true};
        double mean;
        gm_data_validation(data, 0, 1, x, x + context);
        status = gm_model_forward_loss(m, x, x + context, 1, T, &tap, &mean, NULL, err);
    }
    if (status == GM_OK)
        status = s.failed ? gm_fail_memory(err, (size_t)(T * m->cfg.ffn) * sizeof(float)) : write(&s, m, data, x, T, folder, err);
    for (int i = 0; i < s.count; i++)
        gm_free(s.list[i].x);
    gm_free(s.list);
    gm_free(x);
    return status;
}
