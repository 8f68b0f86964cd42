/* measure.c -- one pass over validation sequences with read-only hooks: every metric of DESIGN 2 at once, in memory that does not grow
 * with the number of sequences. */
#include "measure.h"

#include <math.h>
#include <string.h>

const gm_site gm_block_sites[GM_BLOCK_TENSORS] = {GM_SITE_NORM1, GM_SITE_ATTN_OUT, GM_SITE_NORM2, GM_SITE_FFN_OUT, GM_SITE_BLOCK};

static const gm_convention conventions[] = {
    {"ghostmax", .kurtosis_batches = INT64_MAX},
    {"opt-code", .ffn_per_token = true, .kurtosis_batches = 101},
    {"bert-code", .ffn_only = true, .kurtosis_batches = 257},
};

int gm_measurement_tensor_count(const gm_measurement *p) {
    return (int)p->model->cfg.layers * GM_BLOCK_TENSORS + 1;
}

bool gm_measurement_is_averaged(const gm_measurement *p, gm_site site, int layer) {
    if (!p->convention->ffn_only)
        return true;
    /* BERT's output.LayerNorm reads FFN output plus residual; here the next block's first norm (or the final one) does. */
    return site == GM_SITE_FFN_OUT || (site == GM_SITE_NORM1 && layer > 0) || site == GM_SITE_NORM_FINAL;
}

/* ---- the hooks */

static gm_tensor_stats *tensor_at(const gm_measurement *p, gm_site site, int layer) {
    if (site == GM_SITE_NORM_FINAL)
        return &p->tensors[gm_measurement_tensor_count(p) - 1];
    for (int i = 0; i < GM_BLOCK_TENSORS; i++) {
        if (gm_block_sites[i] == site)
            return &p->tensors[layer * GM_BLOCK_TENSORS + i];
    }
    return NULL;
}

/* Query 0 sees only itself, so it is left out. */
static void backcopy_add_weights(gm_backcopy_stats *s, const gm_tap_view *v, const uint8_t *triggers) {
    for (int64_t t = 1; t < v->T; t++) {
        if (triggers[t])
            continue;
        s->dormant_mass += v->x[t * v->stride];
        s->dormant++;
    }
}

static void backcopy_add_losses(gm_backcopy_stats *s, const float *losses, const double *optimal, const uint8_t *triggers, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        *(triggers[i] ? &s->copy_loss : &s->bigram_excess) += losses[i] - optimal[i];
        *(triggers[i] ? &s->copies : &s->bigrams) += 1;
    }
}

static void measure_tap(void *user, const gm_tap_view *v) {
    gm_measurement *p = user;
    if (v->site == GM_SITE_WEIGHTS) {
        gm_head_stats_add(&p->heads[v->layer * p->model->cfg.heads + v->h], v->x, v->T, v->stride, v->null_mass);
        if (p->triggers)
            backcopy_add_weights(&p->backcopy, v, p->triggers + v->b * v->T);
    }
    gm_tensor_stats *tensor = tensor_at(p, v->site, v->layer);
    if (!tensor)
        return;
    int64_t T = v->T, C = v->cols;
    for (int64_t b = 0; b < v->B; b++) {
        const float *x = v->x + b * T * v->stride;
        gm_moments m = gm_tensor_stats_add(tensor, p->model->ctx, x, T, C, v->stride, p->batch < p->convention->kurtosis_batches);
        if (v->site == GM_SITE_BLOCK)
            gm_massive_stats_add(&p->massive, x, T, C, v->stride, v->layer, p->first + b, p->tokens + b * T, p->scratch);
        if (v->site == GM_SITE_FFN_OUT && p->token_classes)
            gm_class_stats_add(&p->classes, x, T, C, v->stride, &m, p->token_classes + b * T);
    }
    if (v->site == GM_SITE_NORM1 || v->site == GM_SITE_NORM2)
        gm_feature_stats_add(&p->features, v->x, v->rows, T, v->stride, v->layer);
}

/* ---- the pass */

static gm_status measurement_begin(gm_measurement *p, int64_t B, gm_error *err) {
    const gm_model_config *c = &p->model->cfg;
    int tensors = gm_measurement_tensor_count(p);
    p->tensors = gm_alloc((size_t)tensors, sizeof *p->tensors);
    p->heads = gm_alloc((size_t)(c->layers * c->heads), sizeof *p->heads);
    p->scratch = gm_alloc((size_t)(p->T * c->width), sizeof *p->scratch);
    p->losses = gm_alloc((size_t)(B * p->T), sizeof *p->losses);
    if (!p->tensors || !p->heads || !p->scratch || !p->losses)
        return gm_fail_memory(err, (size_t)(p->T * c->width) * sizeof *p->scratch);
    for (int i = 0; i < tensors; i++) {
        gm_site site = i == tensors - 1 ? GM_SITE_NORM_FINAL : gm_block_sites[i % GM_BLOCK_TENSORS];
        bool per_token = p->convention->ffn_per_token && (site == GM_SITE_FFN_OUT || site == GM_SITE_NORM2);
        GM_TRY(gm_tensor_stats_init(&p->tensors[i], per_token, err));
    }
    if (gm_data_tokenizer(p->data)) {
        p->token_classes = gm_alloc((size_t)(B * p->T), sizeof *p->token_classes);
        if (!p->token_classes)
            return gm_fail_memory(err, (size_t)(B * p->T));
    }
    int32_t bos = 0;
    uint8_t trigger;
    if (gm_data_backcopy_mask(p->data, &bos, 0, &trigger)) {
        int64_t n = B * gm_data_context(p->data);
        p->triggers = gm_alloc((size_t)n, sizeof *p->triggers);
        p->optimal = gm_alloc((size_t)n, sizeof *p->optimal);
        if (!p->triggers || !p->optimal)
            return gm_fail_memory(err, (size_t)n * sizeof *p->optimal);
    }
    return gm_feature_stats_init(&p->features, c->layers, c->width, B * p->T, err);
}

static void measurement_free(gm_measurement *p) {
    for (int i = 0; p->tensors && i < gm_measurement_tensor_count(p); i++)
        gm_tensor_stats_free(&p->tensors[i]);
    gm_free(p->tensors);
    gm_free(p->heads);
    gm_free(p->scratch);
    gm_free(p->losses);
    gm_free(p->triggers);
    gm_free(p->optimal);
    gm_free(p->token_classes);
    gm_feature_stats_free(&p->features);
}

/* Sequences cut to their first T tokens. */
static void crop(void *x, size_t size, int64_t B, int64_t T, int64_t context) {
    for (int64_t b = 1; b < B; b++)
        memmove((char *)x + (size_t)(b * T) * size, (char *)x + (size_t)(b * context) * size, (size_t)T * size);
}

static gm_status measurement_run(gm_measurement *p, gm_model *m, int64_t batch, int32_t *x, int32_t *y, gm_error *err) {
    const gm_tokenizer *tokenizer = gm_data_tokenizer(p->data);
    int64_t context = gm_data_context(p->data), T = p->T, targets = 0;
    gm_tap tap = {.fn = measure_tap, .user = p, .attention = true};
    double sum = 0.0;
    p->tokens = x;
    for (p->first = 0; p->first < p->sequences; p->first += batch, p->batch++) {
        int64_t B = GM_MIN(batch, p->sequences - p->first), count = 0;
        gm_data_validation(p->data, p->first, B, x, y);
        if (p->triggers) {
            gm_data_backcopy_mask(p->data, x, B, p->triggers);
            gm_data_optimal_losses(p->data, x, y, B, p->optimal);
            crop(p->triggers, sizeof *p->triggers, B, T, context);
            crop(p->optimal, sizeof *p->optimal, B, T, context);
        }
        crop(x, sizeof *x, B, T, context);
        crop(y, sizeof *y, B, T, context);
        if (p->first == 0)
            p->bos = tokenizer && x[0] == gm_tokenizer_bos(tokenizer);
        for (int64_t i = 0; i < B * T; i++) {
            count += y[i] >= 0;
            if (p->token_classes)
                p->token_classes[i] = (uint8_t)gm_tokenizer_class(tokenizer, x[i]);
        }
        double mean;
        GM_TRY(gm_model_forward_loss(m, x, y, B, T, &tap, &mean, p->losses, err));
        if (p->triggers)
            backcopy_add_losses(&p->backcopy, p->losses, p->optimal, p->triggers, B * T);
        gm_feature_stats_commit(&p->features, B * T, T);
        if (count > 0)
            sum += mean * (double)count;
        targets += count;
    }
    p->loss = sum / (double)targets;
    return GM_OK;
}

static gm_status convention_find(const gm_convention **out, const char *name, gm_error *err) {
    const char *names[GM_COUNT(conventions) + 1] = {0};
    *out = &conventions[0];
    if (!name)
        return GM_OK;
    for (int i = 0; i < GM_COUNT(conventions); i++) {
        names[i] = conventions[i].name;
        *out = &conventions[i];
        if (strcmp(name, names[i]) == 0)
            return GM_OK;
    }
    const char *near = gm_text_nearest(name, names);
    return gm_fail(err, GM_EINVAL, "unknown convention \"%s\"%s%s; there are ghostmax, opt-code and bert-code", name,
                   near ? ", did you mean " : "", near ? near : "");
}

gm_status gm_measure_model(gm_model *m, const gm_data *data, const gm_measure_options *options, char **json, gm_error *err) {
    *json = NULL;
    gm_measure_options o = options ? *options : (gm_measure_options){0};
    if (o.sequences < 0 || o.batch < 0 || o.context < 0)
        return gm_fail(err, GM_EINVAL, "sequences, batch and context of a measurement cannot be negative");
    gm_measurement p = {.model = m, .data = data};
    GM_TRY(convention_find(&p.convention, o.convention, err));
    p.T = GM_MIN(o.context ? o.context : m->cfg.context, gm_data_context(data));
    p.sequences = GM_MIN(o.sequences ? o.sequences : 64, gm_data_validation_count(data));
    int64_t batch = GM_MIN(o.batch ? o.batch : 8, p.sequences), tokens = batch * gm_data_context(data);
    int32_t *x = gm_alloc((size_t)(2 * tokens), sizeof *x);
    gm_status status = x ? measurement_begin(&p, batch, err) : gm_fail_memory(err, (size_t)(2 * tokens) * sizeof *x);
    if (status == GM_OK)
        status = measurement_run(&p, m, batch, x, x + tokens, err);
    if (status == GM_OK)
        status = gm_measurement_print(&p, json, err);
    measurement_free(&p);
    gm_free(x);
    return status;
}
