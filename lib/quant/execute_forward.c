/* execute_forward.c -- the forward pass on integers. Between two products a tensor travels as u8 wherever the simulation has it on an 8-bit
 * grid; the residual stream stays in f32, on its grid.
 *
 *   x      --norm-->  n8  --Wq, Wk, Wv-->  q8, k8, v8  --attention-->  o8  [gate]  --Wo-->  branch;  x = grid(x + grid(branch))
 *   x      --norm-->  n8  --W1, activation-->  act8  --W2-->  branch;  x = grid(x + grid(branch))
 *
 * Both sums are taken with the norm that follows, in one pass over a row. With rotary positions, norms of q and k, or a grid of the cache's
 * own, q, k, v pass through f32 on their way to u8. */
#include "executed.h"
#include "quant.h"

#include <math.h>
#include <string.h>

#define W(slot) gm_model_weight(m, GM_P_##slot, (int)l)

static bool through_f32(const gm_quant_executed *e) {
    const gm_model_config *c = &e->model->cfg;
    return !e->attention || c->rope || c->qk_norm || e->layers[0].grid[GM_SITE_CACHE_K].scale != 0;
}

/* ---- working memory */

static size_t work_place(gm_executed_work *w, uint8_t *base, const gm_quant_executed *e, int64_t B, int64_t T, int64_t S, bool seen) {
    const gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const int64_t R = B * T, C = c->width, H = c->heads, KV = c->kv_heads, D = c->head_dim, HD = H * D, QKV = (H + 2 * KV) * D;
    const gm_gate_shape gate = gm_model_gate_shape(c, R);
    const bool gated = c->attention.gate != GM_GATE_NONE, wide = through_f32(e);
    gm_attention_shape shape = gm_model_attention_shape(c, NULL, B, T);
    shape.S = S;
    size_t used = 0;
#define PLACE(field, count)                                       \
    do {                                                          \
        size_t place_bytes = (size_t)(count) * sizeof *(field);   \
        if (base)                                                 \
            (field) = place_bytes ? (void *)(base + used) : NULL; \
        used += (place_bytes + 63) / 64 * 64;                     \
    } while (0)
    PLACE(w->x, R * C);
    PLACE(w->branch, R * C);
    PLACE(w->qkv, wide ? R * QKV : 0);
    PLACE(w->qk, c->qk_norm ? R * (H + KV) * D : 0);
    PLACE(w->rstd, c->qk_norm ? R * (H + KV) : 0);
    PLACE(w->o, gated || !e->attention ? R * HD : 0);
    PLACE(w->gate, R * gm_model_gate_width(c));
    PLACE(w->gate_hidden, c->attention.gate == GM_GATE_MLP ? R * H * gate.hidden : 0);
    PLACE(w->n, gated ? R * C : 0);
    PLACE(w->gated, gated ? R * HD : 0);
    PLACE(w->rows, gm_ctx_threads(m->ctx) * C);
    PLACE(w->lse, e->attention ? 0 : R * H);
    PLACE(w->n8, R * gm_int8_row(C));
    PLACE(w->q8, R * gm_int8_row(HD));
    PLACE(w->k8, R * gm_int8_row(KV * D));
    PLACE(w->v8, R * gm_int8_row(KV * D));
    PLACE(w->o8, R * gm_int8_row(HD));
    PLACE(w->act8, R * gm_int8_row(c->ffn));
    PLACE(w->kv, e->attention ? (size_t)B * gm_kv_int8_bytes(KV, D, T) : 0);
    uint8_t *attention = NULL;
    PLACE(attention, e->attention ? gm_attention_int8_scratch_bytes(m->ctx, S) : gm_attention_scratch_bytes(m->ctx, &shape, false));
    w->attention = attention;
    PLACE(w->seen, seen ? 2 * R * H * T + R * H + 2 * T * T + T : 0);
    PLACE(w->wide, seen ? R * GM_MAX(GM_MAX(C, QKV), c->ffn) : 0);
#undef PLACE
    return used;
}

void gm_executed_work_free(gm_executed_work *w) {
    gm_free(w->memory);
    *w = (gm_executed_work){0};
}

static gm_status work_reserve(gm_quant_executed *e, int64_t B, int64_t T, int64_t S, bool seen, gm_error *err) {
    gm_executed_work *w = &e->work;
    if (w->B == B && w->T == T && w->S >= S && (w->seen || !seen))
        return GM_OK;
    gm_executed_work now = {.B = B, .T = T, .S = S};
    size_t bytes = work_place(&now, NULL, e, B, T, S, seen);
    gm_executed_work_free(w);
    now.memory = gm_alloc(bytes, 1);
    if (!now.memory)
        return gm_fail_memory(err, bytes);
    work_place(&now, now.memory, e, B, T, S, seen);
    *w = now;
    return GM_OK;
}

/* ---- taps: they see f32 copies, and what they change stays theirs */

typedef struct observer {
    const gm_tap *tap; /* NULL: none */
    gm_quant_executed *e;
    int layer;
    int64_t B, T;
} observer;

static void show(const observer *s, gm_site site, float *x, int64_t cols, int64_t stride) {
    if (s->tap)
        s->tap->fn(s->tap->user, &(gm_tap_view){.site = site,
                                                .layer = s->layer,
                                                .B = s->B,
                                                .T = s->T,
                                                .b = -1,
                                                .h = -1,
                                                .x = x,
                                                .rows = s->B * s->T,
                                                .cols = cols,
                                                .stride = stride});
}

static void show_u8(const observer *s, gm_site site, const uint8_t *q, int64_t cols, gm_quant_grid grid) {
    if (!s->tap)
        return;
    gm_dequantize_u8(s->e->model->ctx, s->e->work.wide, cols, q, gm_int8_row(cols), s->B * s->T, cols, grid);
    show(s, site, s->e->work.wide, cols, cols);
}

/* One head of one sequence; the three that gm_attention_observed would show, or its own callback. */
static void show_head(void *user, int what, int64_t b, int64_t h, float *x, int64_t rows, int64_t cols, int64_t stride,
                      const float *null_mass) {
    const observer *s = user;
    s->tap->fn(s->tap->user, &(gm_tap_view){.site = (gm_site)(GM_SITE_SCORES + what),
                                            .layer = s->layer,
                                            .B = s->B,
                                            .T = s->T,
                                            .b = b,
                                            .h = h,
                                            .x = x,
                                            .rows = rows,
                                            .cols = cols,
                                            .stride = stride,
                                            .null_mass = null_mass});
}

static void show_attention(const observer *s, const gm_attention_int8 *a, const uint8_t *o8) {
    const gm_executed_work *w = &s->e->work;
    const int64_t T = a->T, D = a->D;
    for (int64_t i = 0; i < a->B * a->H; i++) {
        const int64_t b = i / a->H, h = i % a->H;
        show_head((void *)s, 0, b, h, a->seen_scores + i * T * T, T, T, T, NULL);
        show_head((void *)s, 1, b, h, a->seen_weights + i * T * T, T, T, T, a->seen_null + i * T);
        gm_dequantize_u8(s->e->model->ctx, w->wide, D, o8 + b * T * a->o_row + h * D, a->o_row, T, D, a->pv);
        show_head((void *)s, 2, b, h, w->wide, T, D, D, NULL);
    }
}

/* ---- steps of a block */

static void round_rows(const gm_ctx *ctx, float *x, int64_t stride, int64_t R, int64_t cols, gm_quant_grid grid) {
    if (grid.scale == 0)
        return;
    for (int64_t r = 0; r < (stride == cols ? 1 : R); r++)
        gm_quant_simulate(ctx, x + r * stride, x + r * stride, stride == cols ? R * cols : cols, grid);
}

/* y = x W^T + b in f32, or on a grid. */
static void linear(const gm_quant_executed *e, const gm_linear_int8 *l, const uint8_t *x, int64_t R, float *f32, uint8_t *u8,
                   int64_t stride, gm_quant_grid grid) {
    const gm_int8_product p = {.l = l, .y = {.f32 = f32, .u8 = u8, .stride = stride, .grid = grid, .act = GM_INT8_NO_ACT}};
    gm_linear_int8_fwd(e->model->ctx, &p, 1, x, gm_int8_row(l->in), R);
}

/* q, k, v of n8: as u8 (attention on integers), or in w->qkv, rounded. Shows its sites. */
static void project(const gm_quant_executed *e, int64_t l, const observer *s, int64_t first) {
    gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const gm_executed_layer *a = &e->layers[l];
    const gm_executed_work *w = &e->work;
    const int64_t R = s->B * s->T, H = c->heads, KV = c->kv_heads, D = c->head_dim, HD = H * D, KD = KV * D, QKV = HD + 2 * KD;
    const struct {
        gm_executed_part part;
        gm_site site, cache; /* cache: what is held, on a grid of its own; GM_SITE_COUNT: nothing */
        int64_t cols, at;
        uint8_t *u8;
    } all[] = {{GM_EXECUTED_Q, GM_SITE_Q, GM_SITE_COUNT, HD, 0, w->q8},
               {GM_EXECUTED_K, GM_SITE_K, GM_SITE_CACHE_K, KD, HD, w->k8},
               {GM_EXECUTED_V, GM_SITE_V, GM_SITE_CACHE_V, KD, HD + KD, w->v8}};
    const bool wide = through_f32(e);
    gm_int8_product products[3];
    for (int i = 0; i < 3; i++) {
        products[i] = (gm_int8_product){.l = &a->linear[all[i].part], .y = {.stride = QKV, .act = GM_INT8_NO_ACT}};
        if (wide)
            products[i].y.f32 = w->qkv + all[i].at;
        else
            products[i].y =
                (gm_int8_result){.u8 = all[i].u8, .stride = gm_int8_row(all[i].cols), .grid = a->grid[all[i].site], .act = GM_INT8_NO_ACT};
    }
    gm_linear_int8_fwd(m->ctx, products, 3, w->n8, gm_int8_row(c->width), R);
    if (!wide) {
        for (int i = 0; i < 3; i++)
            show_u8(s, all[i].site, all[i].u8, all[i].cols, a->grid[all[i].site]);
        for (int i = 1; i < 3; i++)
            show_u8(s, all[i].cache, all[i].u8, all[i].cols, a->grid[all[i].site]);
        return;
    }
    if (c->qk_norm) {
        gm_qk_shape qk = {.R = R, .H = H, .KV = KV, .D = D, .stride = QKV};
        gm_qk_norm_fwd(m->ctx, w->qkv, w->qk, w->rstd, W(QNORM_G), W(KNORM_G), &qk, (float)c->norm_eps);
    }
    if (c->rope)
        gm_rope_apply(m->ctx, w->qkv, QKV, m->rope, s->B, s->T, first, H + KV, D, false);
    for (int i = 0; i < 3; i++) {
        /* where nobody sees the rounded values and they are not rounded again, their integers can be had at once */
        if (s->tap || !e->attention || (i > 0 && a->grid[all[i].cache].scale != 0))
            round_rows(m->ctx, w->qkv + all[i].at, QKV, R, all[i].cols, a->grid[all[i].site]);
        show(s, all[i].site, w->qkv + all[i].at, all[i].cols, QKV);
    }
    for (int i = 0; i < 3; i++) {
        gm_quant_grid grid = a->grid[all[i].site];
        if (i > 0 && a->grid[all[i].cache].scale != 0) {
            grid = a->grid[all[i].cache];
            round_rows(m->ctx, w->qkv + all[i].at, QKV, R, all[i].cols, grid);
        }
        if (i > 0)
            show(s, all[i].cache, w->qkv + all[i].at, all[i].cols, QKV);
        if (e->attention)
            gm_quantize_u8(m->ctx, all[i].u8, gm_int8_row(all[i].cols), w->qkv + all[i].at, QKV, R, all[i].cols, grid);
    }
}

static gm_status attend_int8(const gm_quant_executed *e, int64_t l, const gm_kv_cache *cache, const observer *s) {
    gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const gm_executed_layer *a = &e->layers[l];
    const gm_executed_work *w = &e->work;
    const int64_t T = s->T, KD = c->kv_heads * c->head_dim, kv_row = gm_int8_row(KD), first = cache ? cache->length : 0;
    const bool seen = s->tap && s->tap->attention && !cache;
    gm_attention_int8 x = {.B = s->B,
                           .T = T,
                           .H = c->heads,
                           .KV = c->kv_heads,
                           .D = c->head_dim,
                           .causal = true,
                           .window = c->window,
                           .scale = (float)(1 / sqrt((double)c->head_dim)),
                           .norm = m->norm,
                           .sinks = W(SINKS),
                           .q = a->grid[GM_SITE_Q],
                           .k = a->grid[a->grid[GM_SITE_CACHE_K].scale != 0 ? GM_SITE_CACHE_K : GM_SITE_K],
                           .v = a->grid[a->grid[GM_SITE_CACHE_V].scale != 0 ? GM_SITE_CACHE_V : GM_SITE_V],
                           .scores = a->grid[GM_SITE_SCORES],
                           .weights = a->grid[GM_SITE_WEIGHTS],
                           .pv = a->grid[GM_SITE_PV],
                           .q_row = gm_int8_row(c->heads * c->head_dim),
                           .o_row = gm_int8_row(c->heads * c->head_dim)};
    if (seen) {
        x.seen_scores = w->seen;
        x.seen_weights = x.seen_scores + s->B * x.H * T * T;
        x.seen_null = x.seen_weights + s->B * x.H * T * T;
        memset(w->seen, 0, (size_t)(2 * s->B * x.H * T * T) * sizeof(float));
    }
    const int64_t capacity = cache ? cache->capacity : T;
    const size_t each = gm_kv_int8_bytes(x.KV, x.D, capacity);
    uint8_t *kv = cache ? (uint8_t *)cache->memory + (size_t)l * each : w->kv;
    gm_kv_int8_put(m->ctx, &x, kv, capacity, first, w->k8, w->v8, kv_row);
    gm_attention_int8_fwd(m->ctx, &x, w->o8, w->q8, kv, first + T, capacity, w->attention);
    if (seen)
        show_attention(s, &x, w->o8);
    return GM_OK;
}

static gm_status attend_f32(const gm_quant_executed *e, int64_t l, const gm_kv_cache *cache, const observer *s, gm_error *err) {
    gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const gm_executed_work *w = &e->work;
    const float *k = w->qkv + c->heads * c->head_dim, *v = k + c->kv_heads * c->head_dim;
    gm_attention_shape shape = gm_model_attention_shape(c, cache, s->B, s->T);
    if (s->tap && s->tap->attention && !cache) {
        float *scratch = w->seen + (2 * s->T + 1) * s->B * s->T * c->heads;
        gm_attention_observed(m->ctx, w->o, w->qkv, k, v, W(SINKS), m->norm, &shape, &(gm_attention_tap){show_head, (void *)s}, scratch);
        return GM_OK;
    }
    if (cache)
        gm_kv_cache_append(c, cache, l, &k, &v, s->T);
    return gm_attention_fwd(m->ctx, w->o, w->lse, w->qkv, k, v, W(SINKS), m->norm, &shape, w->attention, err);
}

/* From o8 (or o) to what enters the output projection, in o8. */
static void enter_projection(const gm_quant_executed *e, int64_t l, const observer *s) {
    gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const gm_executed_layer *a = &e->layers[l];
    const gm_executed_work *w = &e->work;
    const int64_t R = s->B * s->T, HD = c->heads * c->head_dim, row = gm_int8_row(HD);
    const float *o = w->o;
    if (c->attention.gate != GM_GATE_NONE) {
        const gm_gate_shape gate = gm_model_gate_shape(c, R);
        gm_dequantize_u8(m->ctx, w->n, c->width, w->n8, gm_int8_row(c->width), R, c->width, a->grid[GM_SITE_NORM1]);
        gm_gate_fwd(m->ctx, w->gate, w->gate_hidden, w->n, W(GATE_W1), W(GATE_B1), W(GATE_W2), W(GATE_B2), &gate);
        if (e->attention)
            gm_dequantize_u8(m->ctx, w->o, HD, w->o8, row, R, HD, a->grid[GM_SITE_PV]);
        gm_gate_apply(m->ctx, w->gated, w->o, w->gate, &gate);
        o = w->gated;
    }
    if (o) /* else o8 is it already */
        gm_quantize_u8(m->ctx, w->o8, row, o, HD, R, HD, a->attn_in);
    show_u8(s, GM_SITE_ATTN_IN, w->o8, HD, a->attn_in);
}

/* The residual sum with what the last product left in w->branch (NULL: none yet), and the norm that follows: in n8, or (nf) in f32. */
static void join_and_norm(const gm_quant_executed *e, const observer *s, bool join, gm_quant_grid branch_grid, gm_quant_grid sum_grid,
                          gm_site branch_site, gm_site sum_site, const float *gain, const float *bias, gm_quant_grid grid, float *nf) {
    const gm_model_config *c = &e->model->cfg;
    const gm_executed_work *w = &e->work;
    const int64_t R = s->B * s->T, C = c->width;
    if (join && s->tap) {
        round_rows(e->model->ctx, w->branch, C, R, C, branch_grid); /* once more below, to the same values */
        show(s, branch_site, w->branch, C, C);
    }
    gm_residual_norm_int8(e->model->ctx,
                          &(gm_int8_rows){.x = w->x,
                                          .branch = join ? w->branch : NULL,
                                          .branch_grid = branch_grid,
                                          .sum_grid = sum_grid,
                                          .gain = gain,
                                          .bias = bias,
                                          .eps = (float)c->norm_eps,
                                          .rms = c->rms_norm,
                                          .u8 = w->n8,
                                          .stride = gm_int8_row(C),
                                          .f32 = nf,
                                          .grid = grid},
                          R, C, w->rows);
    if (join)
        show(s, sum_site, w->x, C, C);
}

/* x holds the block's input but for `join`: the block before left its last branch to be added. So does this one. */
static gm_status block(const gm_quant_executed *e, int64_t l, bool join, const gm_kv_cache *cache, observer *s, gm_error *err) {
    gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const gm_executed_layer *a = &e->layers[l], *before = l > 0 ? a - 1 : a;
    const gm_executed_work *w = &e->work;
    const int64_t R = s->B * s->T, C = c->width;

    s->layer = (int)l - 1;
    join_and_norm(e, s, join, before->grid[GM_SITE_FFN_OUT], before->grid[GM_SITE_BLOCK], GM_SITE_FFN_OUT, GM_SITE_BLOCK, W(NORM1_G),
                  W(NORM1_B), a->grid[GM_SITE_NORM1], NULL);
    s->layer = (int)l;
    show_u8(s, GM_SITE_NORM1, w->n8, C, a->grid[GM_SITE_NORM1]);
    project(e, l, s, cache ? cache->length : 0);
    GM_TRY(e->attention ? attend_int8(e, l, cache, s) : attend_f32(e, l, cache, s, err));
    enter_projection(e, l, s);
    linear(e, &a->linear[GM_EXECUTED_O], w->o8, R, w->branch, NULL, C, (gm_quant_grid){0});
    join_and_norm(e, s, true, a->grid[GM_SITE_ATTN_OUT], a->grid[GM_SITE_RESIDUAL1], GM_SITE_ATTN_OUT, GM_SITE_RESIDUAL1, W(NORM2_G),
                  W(NORM2_B), a->grid[GM_SITE_NORM2], NULL);
    show_u8(s, GM_SITE_NORM2, w->n8, C, a->grid[GM_SITE_NORM2]);
    const gm_int8_product act = {.l = &a->linear[GM_EXECUTED_W1],
                                 .up = c->act == GM_ACT_SWIGLU ? &a->linear[GM_EXECUTED_UP] : NULL,
                                 .y = {.u8 = w->act8, .stride = gm_int8_row(c->ffn), .grid = a->grid[GM_SITE_FFN_ACT], .act = (int)c->act}};
    gm_linear_int8_fwd(m->ctx, &act, 1, w->n8, gm_int8_row(C), R);
    show_u8(s, GM_SITE_FFN_ACT, w->act8, c->ffn, a->grid[GM_SITE_FFN_ACT]);
    linear(e, &a->linear[GM_EXECUTED_W2], w->act8, R, w->branch, NULL, C, (gm_quant_grid){0});
    return GM_OK;
}

/* ---- the whole pass */

/* y += row `index` of a table of width C. */
static void add_row(const gm_quant_executed *e, const gm_executed_table *t, float *y, int64_t index, int64_t C) {
    const float scale = t->scale[t->scale_count == 1 ? 0 : index];
    for (int64_t i = 0; i < C; i++)
        y[i] += scale * (float)(t->rows ? t->rows[index * C + i] : gm_linear_int8_weight(&e->head, index, i));
}

static void embed(const gm_quant_executed *e, float *x, const int32_t *tokens, int64_t B, int64_t T, int64_t first) {
    const gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const int64_t C = c->width, offset = c->position_offset + first;
    const float *wte = gm_model_weight(m, GM_P_WTE, -1), *wpe = gm_model_weight(m, GM_P_WPE, -1);
    if (wte) {
        gm_embedding_fwd(m->ctx, x, tokens, wte, wpe, B, T, C, offset);
        return;
    }
    memset(x, 0, (size_t)(B * T * C) * sizeof *x);
    for (int64_t r = 0; r < B * T; r++) {
        add_row(e, &e->tables[0], x + r * C, tokens[r], C);
        if (e->tables[1].scale)
            add_row(e, &e->tables[1], x + r * C, r % T + offset, C);
    }
}

static gm_status executed_forward(void *user, float *nf, const int32_t *tokens, int64_t B, int64_t T, const gm_kv_cache *cache,
                                  const gm_tap *tap, gm_error *err) {
    gm_quant_executed *e = user;
    const gm_model *m = e->model;
    const gm_model_config *c = &m->cfg;
    const gm_quant_grid *outside = e->layers[c->layers].grid, *last = e->layers[c->layers - 1].grid;
    const int64_t R = B * T, C = c->width;
    GM_TRY(work_reserve(e, B, T, cache ? cache->capacity : T, tap != NULL, err));
    observer s = {tap, e, -1, B, T};
    embed(e, e->work.x, tokens, B, T, cache ? cache->length : 0);
    round_rows(m->ctx, e->work.x, C, R, C, outside[GM_SITE_EMBED]);
    show(&s, GM_SITE_EMBED, e->work.x, C, C);
    for (int64_t l = 0; l < c->layers; l++)
        GM_TRY(block(e, l, l > 0, cache, &s, err));
    join_and_norm(e, &s, true, last[GM_SITE_FFN_OUT], last[GM_SITE_BLOCK], GM_SITE_FFN_OUT, GM_SITE_BLOCK,
                  gm_model_weight(m, GM_P_NORMF_G, -1), gm_model_weight(m, GM_P_NORMF_B, -1), outside[GM_SITE_NORM_FINAL], nf);
    s.layer = -1;
    show(&s, GM_SITE_NORM_FINAL, nf, C, C);
    return GM_OK;
}

static void executed_logits(void *user, float *logits, const float *nf, int64_t xs, int64_t R) {
    const gm_quant_executed *e = user;
    const gm_model *m = e->model;
    const int64_t C = m->cfg.width, V = m->cfg.vocab, row = gm_int8_row(C);
    if (!e->head.in) {
        gm_linear_fwd(m->ctx, logits, V, nf, xs, m->head, NULL, R, C, V);
        return;
    }
    gm_quantize_u8(m->ctx, e->work.n8, row, nf, xs, R, C, e->layers[m->cfg.layers].grid[GM_SITE_NORM_FINAL]);
    linear(e, &e->head, e->work.n8, R, logits, NULL, V, (gm_quant_grid){0});
}

static size_t executed_cache_bytes(const void *user, int64_t capacity) {
    const gm_quant_executed *e = user;
    const gm_model_config *c = &e->model->cfg;
    if (!e->attention)
        return gm_kv_cache_bytes(c, capacity);
    return (size_t)c->layers * gm_kv_int8_bytes(c->kv_heads, c->head_dim, capacity);
}

const gm_engine gm_executed_engine = {.forward = executed_forward, .logits = executed_logits, .cache_bytes = executed_cache_bytes};
