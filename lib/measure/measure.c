/* measure.c -- one pass over validation sequences with read-only hooks: every metric of DESIGN 2 at once, in memory that does not grow
 * with the number of sequences. */
#include "measure.h"
#include "gemm.h"
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const gm_convention conventions[] = {
    {"ghostmax", .kurtosis_batches = INT64_MAX},
    {"opt-code", .ffn_per_token = true, .kurtosis_batches = 101},
    {"bert-code", .ffn_only = true, .kurtosis_batches = 257},
};

bool gm_measurement_is_averaged(const gm_measurement *p, const gm_measured *t) {
    if (!p->convention->ffn_only)
        return t->published;
    /* BERT's output.LayerNorm reads FFN output plus residual; here the next block's first norm (or the final one) does. */
    return t->site == GM_SITE_FFN_OUT || (t->site == GM_SITE_NORM1 && t->layer > 0) || t->site == GM_SITE_NORM_FINAL;
}

/* ---- which tensors: those of the published tables, and with details every tensor of whole rows */

static const struct {
    gm_site site;
    bool published;
} block_sites[] = {{GM_SITE_NORM1, true},    {GM_SITE_Q, false},       {GM_SITE_K, false},         {GM_SITE_V, false},
                   {GM_SITE_ATTN_IN, false}, {GM_SITE_ATTN_OUT, true}, {GM_SITE_RESIDUAL1, false}, {GM_SITE_NORM2, true},
                   {GM_SITE_FFN_ACT, false}, {GM_SITE_FFN_OUT, true},  {GM_SITE_BLOCK, true}};

static void tensors_list(gm_measurement *p) {
    int n = 0;
    if (p->details)
        p->tensors[n++] = (gm_measured){.site = GM_SITE_EMBED, .layer = -1};
    for (int l = 0; l < p->model->cfg.layers; l++) {
        for (int i = 0; i < GM_COUNT(block_sites); i++) {
            if (p->details || block_sites[i].published)
                p->tensors[n++] = (gm_measured){.site = block_sites[i].site, .layer = l, .published = block_sites[i].published};
        }
    }
    p->tensors[n++] = (gm_measured){.site = GM_SITE_NORM_FINAL, .layer = -1, .published = true};
    p->tensor_count = n;
}

static gm_measured *tensor_at(const gm_measurement *p, gm_site site, int layer) {
    int per_block = (p->tensor_count - 1 - p->details) / (int)p->model->cfg.layers;
    gm_measured *t = layer < 0 ? p->tensors : p->tensors + p->details + layer * per_block;
    if (site == GM_SITE_NORM_FINAL)
        return &p->tensors[p->tensor_count - 1];
    for (int i = 0; i < per_block; i++) {
        if (t[i].site == site && t[i].layer == layer)
            return &t[i];
    }
    return NULL;
}

/* ---- the hooks */

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

static void find_broken(gm_measured *t, const float *x, int64_t T, int64_t C, int64_t stride, int64_t sequence) {
    for (int64_t i = 0; i < T * C; i++) {
        if (isfinite(x[i / C * stride + i % C]))
            continue;
        t->broken_sequence = sequence;
        t->broken_position = i / C;
        t->broken_dim = i % C;
        return;
    }
}

/* x [B * T, C] into everything that looks at whole tensors. */
static void measure_tensor(gm_measurement *p, gm_measured *t, const float *x, int64_t B, int64_t T, int64_t C, int64_t stride) {
    for (int64_t b = 0; b < B; b++, x += T * stride) {
        const int32_t *tokens = p->tokens + b * T;
        gm_moments moments[GM_POSITIONS_COUNT];
        uint64_t broken = gm_measured_broken(t);
        gm_rows_of(p->rows, p->model->ctx, x, T, C, stride);
        gm_tensor_stats_add(&t->stats, p->rows, x, T, C, stride, (p->first + b) / p->batch < p->convention->kurtosis_batches, moments);
        if (broken == 0 && gm_measured_broken(t) > 0)
            find_broken(t, x, T, C, stride, p->first + b);
        if (p->details || t->site == GM_SITE_FFN_OUT)
            gm_class_stats_add(&t->classes, x, T, C, stride, moments, p->token_classes ? p->token_classes + b * T : NULL);
        if (t->site == GM_SITE_BLOCK)
            gm_massive_stats_add(&p->massive, x, T, C, stride, t->layer, p->first + b, tokens, p->scratch);
        if (!p->details)
            continue;
        gm_position_stats_add(&t->positions, p->rows, T);
        gm_dim_stats_add(&t->dims, x, T, C, stride, p->first + b, tokens);
        for (int i = 0; t->published && i < GM_POSITIONS_COUNT; i++)
            gm_largest_add(&p->largest[i], p->rows, x, T, C, stride, i == GM_WITHOUT_FIRST, (int)(t - p->tensors), p->first + b, tokens);
        for (int64_t i = 0; (t->site == GM_SITE_EMBED || t->site == GM_SITE_BLOCK) && i < T; i++)
            p->residual[b * T + i] = p->rows[i].norm;
    }
}

/* Norms [T] of x [T, D] through one head's columns of the output projection. */
static void norms_through_output(const gm_measurement *p, int layer, int64_t head, const float *x, int64_t T, int64_t stride) {
    const gm_model_config *c = &p->model->cfg;
    const int64_t C = c->width, D = c->head_dim, HD = c->heads * D;
    gm_gemm(p->model->ctx, false, true, T, C, D, 1, x, stride, gm_model_weight(p->model, GM_P_WO, layer) + head * D, HD, 0, p->scratch, C);
    for (int64_t t = 0; t < T; t++) {
        const float *row = p->scratch + t * C;
        double squares[8] = {0}, sum = 0; /* eight sums side by side, for the compiler's vectors */
        int64_t i = 0;
        for (; i + 8 <= C; i += 8) {
            for (int k = 0; k < 8; k++)
                squares[k] += (double)row[i + k] * row[i + k];
        }
        for (; i < C; i++)
            sum += (double)row[i] * row[i];
        for (int k = 0; k < 8; k++)
            sum += squares[k];
        p->norms[t] = sqrt(sum);
    }
}

/* What each head adds to the stream (v: what enters the output projection), or what each position's value would (v: the values). */
static void measure_heads(gm_measurement *p, const gm_tap_view *v) {
    const gm_model_config *c = &p->model->cfg;
    const int64_t T = v->T, D = c->head_dim, H = c->heads;
    for (int64_t b = 0; b < v->B; b++) {
        for (int64_t h = 0; h < H; h++) {
            gm_head_stats *head = &p->heads[v->layer * H + h];
            if (v->site == GM_SITE_ATTN_IN) {
                norms_through_output(p, v->layer, h, v->x + b * T * v->stride + h * D, T, v->stride);
                gm_head_stats_add_noop(head, p->norms, p->residual + b * T, T);
            } else {
                norms_through_output(p, v->layer, h, v->x + b * T * v->stride + h / (H / c->kv_heads) * D, T, v->stride);
                gm_head_stats_add_drain(head, p->norms, T);
            }
        }
    }
}

static void measure_tap(void *user, const gm_tap_view *v) {
    gm_measurement *p = user;
    const gm_model_config *c = &p->model->cfg;
    if (v->site == GM_SITE_WEIGHTS) {
        gm_head_stats *head = &p->heads[v->layer * c->heads + v->h];
        gm_head_stats_add(head, v->x, v->T, v->stride, v->null_mass);
        if (p->details)
            gm_head_stats_add_entropy(head, v->x, v->T, v->stride);
        if (p->triggers)
            backcopy_add_weights(&p->backcopy, v, p->triggers + v->b * v->T);
    }
    if (v->b >= 0)
        return;
    gm_measured *tensor = tensor_at(p, v->site, v->layer);
    if (tensor)
        measure_tensor(p, tensor, v->x, v->B, v->T, v->cols, v->stride);
    if (p->details && (v->site == GM_SITE_ATTN_IN || v->site == GM_SITE_V))
        measure_heads(p, v);
    bool heads_are_features = v->site == GM_SITE_ATTN_IN && v->cols == c->width; /* else its dimensions are others */
    if (v->site == GM_SITE_NORM1 || v->site == GM_SITE_NORM2 || heads_are_features)
        gm_feature_stats_add(&p->features, v->x, v->rows, v->T, v->stride, v->layer);
}

/* ---- the pass */

static gm_status tensors_begin(gm_measurement *p, gm_error *err) {
    const gm_model_config *c = &p->model->cfg;
    p->tensors = gm_alloc((size_t)(c->layers * GM_COUNT(block_sites) + 2), sizeof *p->tensors);
    if (!p->tensors)
        return gm_fail_memory(err, (size_t)(c->layers * GM_COUNT(block_sites) + 2) * sizeof *p->tensors);
    tensors_list(p);
    for (int i = 0; i < p->tensor_count; i++) {
        gm_measured *t = &p->tensors[i];
        bool per_token = p->convention->ffn_per_token && (t->site == GM_SITE_FFN_OUT || t->site == GM_SITE_NORM2);
        GM_TRY(gm_tensor_stats_init(&t->stats, per_token, err));
        if (!p->details)
            continue;
        GM_TRY(gm_position_stats_init(&t->positions, p->T, err));
        GM_TRY(gm_dim_stats_init(&t->dims, gm_site_width(c, t->site), err));
    }
    return GM_OK;
}

static gm_status measurement_begin(gm_measurement *p, int64_t B, int top, gm_error *err) {
    const gm_model_config *c = &p->model->cfg;
    GM_TRY(tensors_begin(p, err));
    p->heads = gm_alloc((size_t)(c->layers * c->heads), sizeof *p->heads);
    p->scratch = gm_alloc((size_t)(p->T * c->width), sizeof *p->scratch);
    p->rows = gm_alloc((size_t)p->T, sizeof *p->rows);
    p->norms = gm_alloc((size_t)p->T, sizeof *p->norms);
    p->residual = gm_alloc((size_t)(B * p->T), sizeof *p->residual);
    p->losses = gm_alloc((size_t)(B * p->T), sizeof *p->losses);
    if (!p->heads || !p->scratch || !p->rows || !p->norms || !p->residual || !p->losses)
        return gm_fail_memory(err, (size_t)(p->T * c->width) * sizeof *p->scratch);
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
    for (int i = 0; p->details && i < GM_POSITIONS_COUNT; i++)
        GM_TRY(gm_largest_init(&p->largest[i], top, err));
    if (p->details)
        GM_TRY(gm_position_stats_init(&p->loss_positions, p->T, err));
    return gm_feature_stats_init(&p->features, c->layers, c->width, B * p->T, err);
}

static void measurement_free(gm_measurement *p) {
    for (int i = 0; i < p->tensor_count; i++) {
        gm_tensor_stats_free(&p->tensors[i].stats);
        gm_position_stats_free(&p->tensors[i].positions);
        gm_dim_stats_free(&p->tensors[i].dims);
    }
    for (int i = 0; i < GM_POSITIONS_COUNT; i++)
        gm_largest_free(&p->largest[i]);
    gm_position_stats_free(&p->loss_positions);
    gm_free(p->tensors);
    gm_free(p->heads);
    gm_free(p->scratch);
    gm_free(p->rows);
    gm_free(p->norms);
    gm_free(p->residual);
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

/* Losses by position, as rows of one value. */
static void add_losses(gm_measurement *p, int64_t B) {
    for (int64_t b = 0; b < B; b++) {
        for (int64_t t = 0; t < p->T; t++) {
            float loss = p->losses[b * p->T + t];
            p->rows[t] = (gm_row){.norm = loss, .absmax = loss};
        }
        gm_position_stats_add(&p->loss_positions, p->rows, p->T);
    }
}

/* Sequences begin .. end-1 through the model, a batch at a time. */
static gm_status measure_block(gm_measurement *p, gm_model *m, int64_t begin, int64_t end, int32_t *x, int32_t *y,
                               const gm_measure_options *o, gm_error *err) {
    gm_dist *d = gm_ctx_dist(m->ctx);
    const gm_tokenizer *tokenizer = gm_data_tokenizer(p->data);
    int64_t context = gm_data_context(p->data), T = p->T, B;
    gm_tap tap = {.fn = measure_tap, .user = p, .attention = true};
    p->tokens = x;
    for (p->first = begin; p->first < end; p->first += B) {
        int64_t count = 0;
        B = GM_MIN(p->batch, end - p->first);
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
        if (p->details)
            add_losses(p, B);
        gm_feature_stats_commit(&p->features, B * T, T);
        if (count > 0)
            p->loss_sum += mean * (double)count;
        p->targets += count;
        /* The others are about as far with theirs. */
        const int64_t done = GM_MIN(begin - gm_dist_rank(d) * GM_MEASURE_BLOCK + (p->first + B - begin) * gm_dist_size(d), p->sequences);
        if (o->callback && o->callback(o->user, done, p->sequences))
            return gm_fail(err, GM_ESTOPPED, "stopped after %lld of %lld sequences; nothing was written", (long long)done,
                           (long long)p->sequences);
    }
    return GM_OK;
}

/* Turn by turn: every rank its next block into *mine, then all blocks into rank 0's *all. */
static gm_status measurement_run(gm_measurement *all, gm_measurement *mine, gm_model *m, int32_t *x, int32_t *y,
                                 const gm_measure_options *o, gm_error *err) {
    gm_dist *d = gm_ctx_dist(m->ctx);
    const int64_t sequences = mine->sequences, turn_size = (int64_t)GM_MEASURE_BLOCK * gm_dist_size(d);
    for (int64_t turn = 0; turn < sequences; turn += turn_size) {
        const int64_t begin = turn + (int64_t)GM_MEASURE_BLOCK * gm_dist_rank(d);
        const bool have = begin < sequences;
        gm_status status = have ? measure_block(mine, m, begin, GM_MIN(begin + GM_MEASURE_BLOCK, sequences), x, y, o, err) : GM_OK;
        GM_TRY(gm_dist_agree(d, status, err));
        GM_TRY(gm_measurement_turn(d, all, mine, turn, have, err));
    }
    all->bos = mine->bos;
    return GM_OK;
}

/* Rank 0's text for everyone. */
static gm_status share_text(gm_dist *d, char **text, gm_error *err) {
    size_t size = *text ? strlen(*text) + 1 : 0;
    GM_TRY(gm_dist_broadcast(d, &size, sizeof size, err));
    if (gm_dist_rank(d) > 0)
        *text = malloc(size);
    GM_TRY(gm_dist_agree(d, *text ? GM_OK : gm_fail_memory(err, size), err));
    return gm_dist_broadcast(d, *text, size, err);
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
    if (o.sequences < 0 || o.batch < 0 || o.context < 0 || o.top < 0)
        return gm_fail(err, GM_EINVAL, "sequences, batch, context and top of a measurement cannot be negative");
    gm_measurement p = {.model = m, .data = data, .details = o.details, .asked = o.sequences};
    GM_TRY(convention_find(&p.convention, o.convention, err));
    GM_TRY(gm_measure_same_input(m, data, err));
    p.T = GM_MIN(o.context ? o.context : m->cfg.context, gm_data_context(data));
    p.sequences = GM_MIN(o.sequences ? o.sequences : 64, gm_data_validation_count(data));
    p.batch = GM_MIN(GM_MIN(o.batch ? o.batch : 8, p.sequences), GM_MEASURE_BLOCK);
    gm_dist *d = gm_ctx_dist(m->ctx);
    gm_measurement all = p;
    const int64_t tokens = p.batch * gm_data_context(data);
    int32_t *x = gm_alloc((size_t)(2 * tokens), sizeof *x);
    gm_status status = x ? measurement_begin(&p, p.batch, o.top ? o.top : 20, err) : gm_fail_memory(err, (size_t)(2 * tokens) * sizeof *x);
    if (status == GM_OK && gm_dist_rank(d) == 0)
        status = measurement_begin(&all, p.batch, o.top ? o.top : 20, err);
    status = gm_dist_agree(d, status, err);
    if (status == GM_OK)
        status = measurement_run(&all, &p, m, x, x + tokens, &o, err);
    if (status == GM_OK)
        status = gm_dist_agree(d, gm_dist_rank(d) == 0 ? gm_measurement_print(&all, json, err) : GM_OK, err);
    if (status == GM_OK)
        status = share_text(d, json, err);
    if (status != GM_OK) {
        free(*json);
        *json = NULL;
    }
    measurement_free(&p);
    measurement_free(&all);
    gm_free(x);
    return status;
}
