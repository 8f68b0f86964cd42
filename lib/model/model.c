/* model.c -- one pre-norm transformer block for every family, forward directly above backward.
 *
 *   x = embed(tokens)
 *   per block:  n1 = norm(x);  q,k,v = n1 Wqkv;  q,k = norm(q),norm(k);  o = attention(q,k,v);  o *= gate(n1);  r = x + o Wo
 *               n2 = norm(r);  h = n2 W1;  a = act(h);                             x = r + a W2
 *   loss = head(norm(x))
 *
 * Activations that the backward pass needs stand in `layer_acts`, one per block when training; in a forward-only pass all blocks
 * share one. A batch that is too large for them goes through in groups of sequences (gm_model_group). */
#include "model.h"

#include "ops.h"

#include <string.h>

/* ---- activation buffers: activations.def gives the fields, their sizes and the arena's layout */

typedef struct layer_acts {
#define GM_ACT_LAYER(name, size) float *name;
#define GM_ACT_SHARED(name, size)
#include "activations.def"
#undef GM_ACT_LAYER
#undef GM_ACT_SHARED
} layer_acts;

struct gm_acts {
    int64_t B, T, S; /* what the arena is laid out for: T new tokens, S keys */
    bool training;
    float *arena;
    int64_t size; /* floats in it */
    float *x0;    /* [R,C] embedding sum */
    layer_acts *layers;
#define GM_ACT_LAYER(name, size)
#define GM_ACT_SHARED(name, size) float *name;
#include "activations.def"
#undef GM_ACT_LAYER
#undef GM_ACT_SHARED
    float *observed; /* 2 T T + T floats for attention taps, made on their first use */
    int64_t observed_T;
};

typedef struct scratch_sizes { /* in floats */
    int64_t head, attention, norm;
} scratch_sizes;

static int64_t qkv_width(const gm_model_config *c) {
    return (c->heads + 2 * c->kv_heads) * c->head_dim;
}

int64_t gm_model_gate_width(const gm_model_config *c) {
    switch (c->attention.gate) {
    case GM_GATE_NONE:
        return 0;
    case GM_GATE_CHANNEL:
        return c->heads * c->head_dim;
    default:
        return c->heads;
    }
}

/* Gives every buffer its place from `base` (NULL: only counts) and returns the arena's size in floats. */
static int64_t acts_place(gm_acts *a, float *base, const gm_model_config *c, int64_t B, int64_t T, bool training,
                          const scratch_sizes *scratch) {
    const int64_t R = B * T, C = c->width, F = c->ffn, H = c->heads, HD = H * c->head_dim, QKV = qkv_width(c);
    const int64_t QK = QKV - c->kv_heads * c->head_dim;
    const int64_t F1 = c->act == GM_ACT_SWIGLU ? 2 * F : F, G = gm_model_gate_width(c);
    const int64_t GH = c->attention.gate == GM_GATE_MLP ? H * c->attention.gate_hidden : 0;
    const int64_t saved = training;
    int64_t used = 0;
#define PLACE(field, size)                                 \
    do {                                                   \
        int64_t place_size = (size);                       \
        if (base)                                          \
            (field) = place_size > 0 ? base + used : NULL; \
        used += (place_size + 15) / 16 * 16;               \
    } while (0)
    PLACE(a->x0, R * C);
    for (int64_t l = 0; l < (training ? c->layers : 1); l++) {
#define GM_ACT_LAYER(name, size) PLACE(a->layers[l].name, size);
#define GM_ACT_SHARED(name, size)
#include "activations.def"
#undef GM_ACT_LAYER
#undef GM_ACT_SHARED
    }
#define GM_ACT_LAYER(name, size)
#define GM_ACT_SHARED(name, size) PLACE(a->name, size);
#include "activations.def"
#undef GM_ACT_LAYER
#undef GM_ACT_SHARED
#undef PLACE
    return used;
}

size_t gm_acts_bytes(const gm_model_config *cfg, int64_t B, int64_t T, bool training) {
    const scratch_sizes none = {0};
    return (size_t)acts_place(NULL, NULL, cfg, B, T, training, &none) * sizeof(float);
}

/* A batch goes through in groups of sequences whose activations take at most GROUP_BYTES, or a quarter of the weights' memory where that is
 * more. So a batch of any size takes no more memory than that, and activations are near the cache when the backward pass comes for them.
 * Every group goes through all weights: groups of fewer than GROUP_TOKENS would wait for memory, so they may be larger, to a limit. */
enum { GROUP_BYTES = 64 << 20, GROUP_BYTES_MOST = 256 << 20, GROUP_TOKENS = 768 };

int64_t gm_model_group(const gm_model_config *cfg, int64_t param_elements, int64_t B, int64_t T, bool training) {
    const size_t one = gm_acts_bytes(cfg, 1, T, training), enough = (size_t)((GROUP_TOKENS + T - 1) / T) * one;
    const size_t most =
        GM_MAX(GM_MAX((size_t)GROUP_BYTES, (size_t)param_elements * sizeof(float) / 4), GM_MIN(enough, (size_t)GROUP_BYTES_MOST));
    const int64_t fit = GM_MAX((int64_t)(most / one), 1), groups = (B + fit - 1) / fit;
    return (B + groups - 1) / groups;
}

static void acts_free(gm_acts *a) {
    if (!a)
        return;
    gm_free(a->arena);
    gm_free(a->observed);
    gm_free(a->layers);
    gm_free(a);
}

/* Where the keys and values of a block come from: the batch itself, or (cache not NULL) all that is cached. */
gm_attention_shape gm_model_attention_shape(const gm_model_config *c, const gm_kv_cache *cache, int64_t B, int64_t T) {
    int64_t qkv = qkv_width(c), o = c->heads * c->head_dim;
    gm_attention_shape shape = {.B = B,
                                .T = T,
                                .S = T,
                                .H = c->heads,
                                .KV = c->kv_heads,
                                .D = c->head_dim,
                                .causal = true,
                                .window = c->window,
                                .q_batch = T * qkv,
                                .q_row = qkv,
                                .kv_batch = T * qkv,
                                .kv_row = qkv,
                                .o_batch = T * o,
                                .o_row = o};
    if (cache) {
        shape.S = cache->length + T;
        shape.kv_row = c->head_dim;
        shape.kv_head = gm_kv_cache_head(c, cache->capacity);
        shape.kv_batch = 2 * c->kv_heads * shape.kv_head;
        shape.key_panels = true;
    }
    return shape;
}

static gm_qk_shape qk_shape(const gm_model_config *c, int64_t R) {
    return (gm_qk_shape){.R = R, .H = c->heads, .KV = c->kv_heads, .D = c->head_dim, .stride = qkv_width(c)};
}

gm_gate_shape gm_model_gate_shape(const gm_model_config *c, int64_t R) {
    return (gm_gate_shape){
        .kind = (int)c->attention.gate, .R = R, .C = c->width, .H = c->heads, .D = c->head_dim, .hidden = c->attention.gate_hidden};
}

/* Lays the arena out for B x T tokens that attend to S keys; the present one, where it is large enough: what training keeps of every block
 * is room for forward passes of many more sequences. */
static gm_status acts_reserve(gm_model *m, int64_t B, int64_t T, int64_t S, bool training, gm_error *err) {
    gm_acts *a = m->acts;
    GM_TRY(gm_model_rope_reserve(m, S, err));
    if (a && a->training >= training && B <= a->B && T <= a->T && S <= a->S)
        return GM_OK;
    gm_attention_shape shape = gm_model_attention_shape(&m->cfg, NULL, B, T);
    shape.S = S;
    scratch_sizes scratch = {.head = gm_head_scratch(m->ctx, m->cfg.vocab),
                             .attention = (int64_t)(gm_attention_scratch_bytes(m->ctx, &shape, training) / sizeof(float)) + 16,
                             .norm = gm_norm_bwd_scratch(m->ctx, GM_MAX(m->cfg.width, m->cfg.head_dim))};
    const int64_t size = acts_place(NULL, NULL, &m->cfg, B, T, training, &scratch);
    if (!a || size > a->size) {
        acts_free(a);
        m->acts = NULL;
        a = gm_alloc(1, sizeof *a);
        if (a) {
            a->layers = gm_alloc((size_t)m->cfg.layers, sizeof *a->layers);
            a->arena = gm_alloc((size_t)size, sizeof(float));
        }
        if (!a || !a->layers || !a->arena) {
            acts_free(a);
            return gm_fail_memory(err, (size_t)size * sizeof(float));
        }
        a->size = size;
        m->acts = a;
    }
    a->B = B;
    a->T = T;
    a->S = S;
    a->training = training;
    acts_place(a, a->arena, &m->cfg, B, T, training, &scratch);
    for (int64_t l = 1; !training && l < m->cfg.layers; l++)
        a->layers[l] = a->layers[0];
    return GM_OK;
}

static gm_status observed_reserve(gm_acts *a, int64_t T, gm_error *err) {
    if (T <= a->observed_T)
        return GM_OK;
    gm_free(a->observed);
    a->observed_T = 0;
    size_t size = (size_t)(2 * T * T + T);
    a->observed = gm_alloc(size, sizeof(float));
    if (!a->observed)
        return gm_fail_memory(err, size * sizeof(float));
    a->observed_T = T;
    return GM_OK;
}

/* ---- creation */

gm_status gm_model_allocate(gm_model **out, const gm_ctx *ctx, const gm_model_config *cfg, gm_error *err) {
    return gm_model_allocate_without(out, ctx, cfg, 0, err);
}

gm_status gm_model_allocate_without(gm_model **out, const gm_ctx *ctx, const gm_model_config *cfg, uint64_t without, gm_error *err) {
    *out = NULL;
    gm_model_config checked = *cfg;
    GM_TRY(gm_model_config_check(&checked, err));
    gm_model *m = gm_alloc(1, sizeof *m);
    if (!m)
        return gm_fail_memory(err, sizeof *m);
    m->ctx = ctx;
    m->cfg = checked;
    m->norm = gm_variant_norm(&checked.attention, checked.context);
    m->param_count = gm_params_layout(&checked, NULL);
    m->params = gm_alloc((size_t)m->param_count, sizeof *m->params);
    m->slot_index = gm_alloc((size_t)checked.layers + 1, sizeof *m->slot_index);
    if (!m->params || !m->slot_index) {
        gm_status status = gm_fail_memory(err, (size_t)m->param_count * sizeof *m->params);
        gm_model_free(m);
        return status;
    }
    gm_params_layout(&checked, m->params);
    for (int64_t l = 0; l <= checked.layers; l++)
        for (int slot = 0; slot < GM_P_COUNT; slot++)
            m->slot_index[l][slot] = -1;
    for (int i = 0; i < m->param_count; i++) {
        gm_param *p = &m->params[i];
        m->slot_index[p->layer < 0 ? checked.layers : p->layer][p->slot] = i;
        bool held = !(without >> p->slot & 1);
        p->offset = held ? m->param_elements : -1;
        m->param_elements += held ? (p->rows * p->cols + 15) / 16 * 16 : 0;
    }
    m->weights = gm_alloc((size_t)m->param_elements, sizeof(float));
    m->sinks = gm_alloc((size_t)checked.heads, sizeof(float));
    if (!m->weights || !m->sinks) {
        gm_status status = gm_fail_memory(err, (size_t)m->param_elements * sizeof(float));
        gm_model_free(m);
        return status;
    }
    m->head = gm_model_weight(m, checked.tied ? GM_P_WTE : GM_P_HEAD, -1);
    *out = m;
    return GM_OK;
}

gm_status gm_model_rope_reserve(gm_model *m, int64_t positions, gm_error *err) {
    if (!m->cfg.rope || positions <= m->rope_positions)
        return GM_OK;
    positions = GM_MIN(GM_MAX(positions, 2 * m->rope_positions), m->cfg.context); /* a context may be far longer than any sequence */
    gm_free(m->rope);
    m->rope_positions = 0;
    m->rope = gm_alloc((size_t)(positions * m->cfg.head_dim), sizeof(float));
    if (!m->rope)
        return gm_fail_memory(err, (size_t)(positions * m->cfg.head_dim) * sizeof(float));
    double frequencies[128]; /* head_dim <= 256 */
    gm_rope_frequencies(&m->cfg, frequencies);
    gm_rope_table(m->ctx, m->rope, positions, m->cfg.head_dim, frequencies);
    m->rope_positions = positions;
    return GM_OK;
}

gm_status gm_model_create(gm_model **out, const gm_ctx *ctx, const gm_model_config *cfg, uint64_t seed, gm_error *err) {
    GM_TRY(gm_model_allocate(out, ctx, cfg, err));
    gm_params_init(*out, seed);
    return GM_OK;
}

void gm_model_free(gm_model *m) {
    if (!m)
        return;
    acts_free(m->acts);
    gm_free(m->params);
    gm_free(m->slot_index);
    gm_free(m->weights);
    gm_free(m->grads);
    gm_free(m->own_head);
    gm_free(m->sinks);
    gm_free(m->rope);
    gm_free(m);
}

const gm_model_config *gm_model_config_of(const gm_model *m) {
    return &m->cfg;
}

int64_t gm_site_width(const gm_model_config *c, gm_site site) {
    switch (site) {
    case GM_SITE_Q:
    case GM_SITE_ATTN_IN:
        return c->heads * c->head_dim;
    case GM_SITE_K:
    case GM_SITE_V:
    case GM_SITE_CACHE_K:
    case GM_SITE_CACHE_V:
        return c->kv_heads * c->head_dim;
    case GM_SITE_FFN_ACT:
        return c->ffn;
    default:
        return c->width;
    }
}

const char *gm_site_name(gm_site site) {
    static const char *const names[GM_SITE_COUNT] = {
        [GM_SITE_EMBED] = "embed",
        [GM_SITE_NORM1] = "norm1",
        [GM_SITE_Q] = "q",
        [GM_SITE_K] = "k",
        [GM_SITE_V] = "v",
        [GM_SITE_CACHE_K] = "cache_k",
        [GM_SITE_CACHE_V] = "cache_v",
        [GM_SITE_SCORES] = "scores",
        [GM_SITE_WEIGHTS] = "weights",
        [GM_SITE_PV] = "pv",
        [GM_SITE_ATTN_IN] = "attn_in",
        [GM_SITE_ATTN_OUT] = "attn_out",
        [GM_SITE_RESIDUAL1] = "residual1",
        [GM_SITE_NORM2] = "norm2",
        [GM_SITE_FFN_ACT] = "ffn_act",
        [GM_SITE_FFN_OUT] = "ffn_out",
        [GM_SITE_BLOCK] = "block",
        [GM_SITE_NORM_FINAL] = "norm_final",
    };
    return site >= 0 && site < GM_SITE_COUNT ? names[site] : "";
}

/* ---- taps */

typedef struct tap_batch { /* what taps need to name what they see */
    const gm_tap *taps[2]; /* the model's resident one, the caller's; NULL: none */
    int layer;
    int64_t B, T;
} tap_batch;

static void tap_view(const tap_batch *t, const gm_tap_view *view, bool attention) {
    for (int i = 0; i < 2; i++) {
        if (t->taps[i] && (!attention || t->taps[i]->attention))
            t->taps[i]->fn(t->taps[i]->user, view);
    }
}

static void tap_rows(const tap_batch *t, gm_site site, float *x, int64_t cols, int64_t stride) {
    tap_view(t,
             &(gm_tap_view){.site = site,
                            .layer = t->layer,
                            .B = t->B,
                            .T = t->T,
                            .b = -1,
                            .h = -1,
                            .x = x,
                            .rows = t->B * t->T,
                            .cols = cols,
                            .stride = stride},
             false);
}

static void tap_attention(void *user, int what, int64_t b, int64_t h, float *x, int64_t rows, int64_t cols, int64_t stride,
                          const float *null_mass) {
    const tap_batch *t = user;
    tap_view(t,
             &(gm_tap_view){.site = (gm_site)(GM_SITE_SCORES + what),
                            .layer = t->layer,
                            .B = t->B,
                            .T = t->T,
                            .b = b,
                            .h = h,
                            .x = x,
                            .rows = rows,
                            .cols = cols,
                            .stride = stride,
                            .null_mass = null_mass},
             true);
}

static bool taps_attention(const tap_batch *t) {
    return (t->taps[0] && t->taps[0]->attention) || (t->taps[1] && t->taps[1]->attention);
}

/* ---- one block */

/* Dropout's key for one place in one micro-batch. */
static uint64_t dropout_key(uint64_t key, int64_t layer, int branch) {
    return gm_rng_u64(key, (uint64_t)(2 * (layer + 1) + branch));
}

static void block_linear(const gm_model *m, int64_t l, int weight, int bias, float *y, int64_t ys, const float *x, int64_t xs, int64_t R) {
    const gm_param *w = &m->params[m->slot_index[l][weight]];
    gm_linear_fwd(m->ctx, y, ys, x, xs, gm_model_weight(m, weight, (int)l), gm_model_weight(m, bias, (int)l), R, w->cols, w->rows);
}

/* The block's learned sink logits, NULL without. */
static const float *block_sinks(gm_model *m, int64_t l) {
    const float *sinks = gm_model_weight(m, GM_P_SINKS, (int)l);
    if (!sinks || m->sink_shift == 0)
        return sinks;
    for (int64_t h = 0; h < m->cfg.heads; h++)
        m->sinks[h] = sinks[h] + m->sink_shift;
    return m->sinks;
}

/* cache (NULL: none): what came before; B is 1 then. */
static gm_status block_forward(gm_model *m, int64_t l, const float *x, int64_t B, int64_t T, const gm_kv_cache *cache, uint64_t drop,
                               const gm_tap *tap, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    const gm_ctx *ctx = m->ctx;
    gm_acts *s = m->acts;
    layer_acts *a = &s->layers[l];
    const int64_t R = B * T, C = c->width, F = c->ffn, H = c->heads, KV = c->kv_heads, D = c->head_dim, HD = H * D, QKV = qkv_width(c);
    float *q = a->qkv, *k = q + HD, *v = k + KV * D;
    tap_batch t = {{m->resident, tap}, (int)l, B, T};
#define W(slot) gm_model_weight(m, GM_P_##slot, (int)l)

    /* 1 norm */
    gm_norm_fwd(ctx, a->n1, a->n1_mean, a->n1_rstd, x, W(NORM1_G), W(NORM1_B), R, C, (float)c->norm_eps, c->rms_norm);
    tap_rows(&t, GM_SITE_NORM1, a->n1, C, C);
    gm_phase_lap(m->clock, GM_PHASE_NORM);
    /* 2 q, k, v */
    block_linear(m, l, GM_P_WQKV, GM_P_BQKV, a->qkv, QKV, a->n1, C, R);
    if (c->qk_norm) {
        gm_qk_shape qk = qk_shape(c, R);
        gm_qk_norm_fwd(ctx, q, a->qk, a->qk_rstd, W(QNORM_G), W(KNORM_G), &qk, (float)c->norm_eps);
    }
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    if (c->rope)
        gm_rope_apply(ctx, q, QKV, m->rope, B, T, cache ? cache->length : 0, H + KV, D, false); /* k follows q in every row */
    tap_rows(&t, GM_SITE_Q, q, HD, QKV);
    tap_rows(&t, GM_SITE_K, k, KV * D, QKV);
    tap_rows(&t, GM_SITE_V, v, KV * D, QKV);
    tap_rows(&t, GM_SITE_CACHE_K, k, KV * D, QKV);
    tap_rows(&t, GM_SITE_CACHE_V, v, KV * D, QKV);
    /* 3 attention */
    gm_attention_shape shape = gm_model_attention_shape(c, cache, B, T);
    const float *keys = k, *values = v;
    if (cache)
        gm_kv_cache_append(c, cache, l, &keys, &values, T);
    if (!cache && taps_attention(&t)) {
        GM_TRY(observed_reserve(s, T, err));
        gm_attention_observed(ctx, a->o, q, k, v, block_sinks(m, l), m->norm, &shape, &(gm_attention_tap){tap_attention, &t}, s->observed);
    } else {
        GM_TRY(gm_attention_fwd(ctx, a->o, a->lse, q, keys, values, block_sinks(m, l), m->norm, &shape, s->attention, err));
    }
    /* 4 gate */
    float *o = a->o;
    if (a->gate) {
        gm_gate_shape gate = gm_model_gate_shape(c, R);
        gm_gate_fwd(ctx, a->gate, a->gate_hidden, a->n1, W(GATE_W1), W(GATE_B1), W(GATE_W2), W(GATE_B2), &gate);
        gm_gate_apply(ctx, s->gated, a->o, a->gate, &gate);
        o = s->gated;
    }
    tap_rows(&t, GM_SITE_ATTN_IN, o, HD, HD);
    gm_phase_lap(m->clock, GM_PHASE_ATTENTION);
    /* 5 output projection, residual */
    block_linear(m, l, GM_P_WO, GM_P_BO, s->branch, C, o, HD, R);
    tap_rows(&t, GM_SITE_ATTN_OUT, s->branch, C, C);
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    if (drop)
        gm_dropout(ctx, s->branch, m->first_sequence * T * C, R * C, c->dropout, dropout_key(drop, l, 0));
    gm_add(ctx, a->r, x, s->branch, R * C);
    tap_rows(&t, GM_SITE_RESIDUAL1, a->r, C, C);
    gm_phase_lap(m->clock, GM_PHASE_RESIDUAL);
    /* 6 norm */
    gm_norm_fwd(ctx, a->n2, a->n2_mean, a->n2_rstd, a->r, W(NORM2_G), W(NORM2_B), R, C, (float)c->norm_eps, c->rms_norm);
    tap_rows(&t, GM_SITE_NORM2, a->n2, C, C);
    gm_phase_lap(m->clock, GM_PHASE_NORM);
    /* 7 FFN */
    bool glu = c->act == GM_ACT_SWIGLU;
    int64_t F1 = glu ? 2 * F : F;
    if (glu) {
        block_linear(m, l, GM_P_W1, GM_P_B1, a->h, F1, a->n2, C, R);
        gm_phase_lap(m->clock, GM_PHASE_LINEAR);
        gm_swiglu_fwd(ctx, a->act, a->h, R, F);
    } else {
        gm_linear_act_fwd(ctx, a->act, a->h, a->n2, C, W(W1), W(B1), R, C, F, (int)c->act);
        gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    }
    tap_rows(&t, GM_SITE_FFN_ACT, a->act, F, F);
    gm_phase_lap(m->clock, GM_PHASE_ACTIVATION);
    /* 8 output, residual */
    block_linear(m, l, GM_P_W2, GM_P_B2, s->branch, C, a->act, F, R);
    tap_rows(&t, GM_SITE_FFN_OUT, s->branch, C, C);
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    if (drop)
        gm_dropout(ctx, s->branch, m->first_sequence * T * C, R * C, c->dropout, dropout_key(drop, l, 1));
    gm_add(ctx, a->x, a->r, s->branch, R * C);
    tap_rows(&t, GM_SITE_BLOCK, a->x, C, C);
    gm_phase_lap(m->clock, GM_PHASE_RESIDUAL);
    return GM_OK;
}

/* s->dx holds the gradient of the block's output on entry and of its input on return. */
static gm_status block_backward(gm_model *m, int64_t l, const float *x, int64_t B, int64_t T, uint64_t drop, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    const gm_ctx *ctx = m->ctx;
    gm_acts *s = m->acts;
    layer_acts *a = &s->layers[l];
    const int64_t R = B * T, C = c->width, F = c->ffn, H = c->heads, KV = c->kv_heads, D = c->head_dim, HD = H * D, QKV = qkv_width(c);
    const float *q = a->qkv, *k = q + HD, *v = k + KV * D;
#define G(slot) gm_model_grad(m, GM_P_##slot, (int)l)

    /* 8 output, residual: dx reaches r unchanged */
    const float *dbranch = s->dx;
    if (drop) {
        memcpy(s->branch, s->dx, (size_t)(R * C) * sizeof(float));
        gm_dropout(ctx, s->branch, m->first_sequence * T * C, R * C, c->dropout, dropout_key(drop, l, 1));
        dbranch = s->branch;
    }
    gm_phase_lap(m->clock, GM_PHASE_RESIDUAL);
    gm_linear_bwd(ctx, s->dact, F, false, G(W2), G(B2), dbranch, C, a->act, F, W(W2), R, F, C);
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    /* 7 FFN */
    bool glu = c->act == GM_ACT_SWIGLU;
    int64_t F1 = glu ? 2 * F : F;
    if (glu)
        gm_swiglu_bwd(ctx, s->dh, s->dact, a->h, R, F);
    else
        gm_act_bwd(ctx, s->dh, s->dact, a->h, R * F, (int)c->act);
    gm_phase_lap(m->clock, GM_PHASE_ACTIVATION);
    gm_linear_bwd(ctx, s->dn, C, false, G(W1), G(B1), s->dh, F1, a->n2, C, W(W1), R, C, F1);
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    /* 6 norm */
    gm_norm_bwd(ctx, s->dx, G(NORM2_G), G(NORM2_B), s->dn, a->r, W(NORM2_G), a->n2_mean, a->n2_rstd, R, C, c->rms_norm, s->norm);
    gm_phase_lap(m->clock, GM_PHASE_NORM);
    /* 5 output projection, residual */
    dbranch = s->dx;
    if (drop) {
        memcpy(s->branch, s->dx, (size_t)(R * C) * sizeof(float));
        gm_dropout(ctx, s->branch, m->first_sequence * T * C, R * C, c->dropout, dropout_key(drop, l, 0));
        dbranch = s->branch;
    }
    gm_gate_shape gate = gm_model_gate_shape(c, R);
    const float *o = a->o;
    if (a->gate) {
        gm_gate_apply(ctx, s->gated, a->o, a->gate, &gate); /* cheaper to make again than to keep per block */
        o = s->gated;
    }
    gm_linear_bwd(ctx, s->dout, HD, false, G(WO), G(BO), dbranch, C, o, HD, W(WO), R, HD, C);
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    /* 4 gate: its input is n1, so dn starts here and the projections add to it */
    if (a->gate) {
        memset(s->dn, 0, (size_t)(R * C) * sizeof(float));
        gm_gate_bwd(ctx, s->dout, s->dn, G(GATE_W1), G(GATE_B1), G(GATE_W2), G(GATE_B2), s->dout, a->o, a->gate, a->gate_hidden, a->n1,
                    W(GATE_W1), W(GATE_W2), &gate, s->gate_work);
    }
    /* 3 attention */
    gm_attention_shape shape = gm_model_attention_shape(c, NULL, B, T);
    float *dq = s->dqkv, *dk = dq + HD, *dv = dk + KV * D;
    GM_TRY(
        gm_attention_bwd(ctx, dq, dk, dv, G(SINKS), s->dout, q, k, v, a->o, a->lse, block_sinks(m, l), m->norm, &shape, s->attention, err));
    /* 2 q, k, v */
    if (c->rope)
        gm_rope_apply(ctx, dq, QKV, m->rope, B, T, 0, H + KV, D, true);
    if (c->qk_norm) {
        gm_qk_shape qk = qk_shape(c, R);
        gm_qk_norm_bwd(ctx, dq, G(QNORM_G), G(KNORM_G), a->qk, a->qk_rstd, W(QNORM_G), W(KNORM_G), &qk, s->norm);
    }
    gm_phase_lap(m->clock, GM_PHASE_ATTENTION);
    gm_linear_bwd(ctx, s->dn, C, a->gate != NULL, G(WQKV), G(BQKV), s->dqkv, QKV, a->n1, C, W(WQKV), R, C, QKV);
    gm_phase_lap(m->clock, GM_PHASE_LINEAR);
    /* 1 norm */
    gm_norm_bwd(ctx, s->dx, G(NORM1_G), G(NORM1_B), s->dn, x, W(NORM1_G), a->n1_mean, a->n1_rstd, R, C, c->rms_norm, s->norm);
    gm_phase_lap(m->clock, GM_PHASE_NORM);
    return GM_OK;
#undef G
#undef W
}

/* ---- the whole model */

static gm_status check_batch(const gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    if (B < 1 || T < 1)
        return gm_fail(err, GM_EINVAL, "a batch needs at least one sequence of one token, got %lld x %lld", (long long)B, (long long)T);
    if (T > c->context)
        return gm_fail(err, GM_EINVAL, "%lld tokens do not fit the model's context of %lld", (long long)T, (long long)c->context);
    for (int64_t i = 0; i < B * T; i++) {
        if (tokens[i] < 0 || tokens[i] >= c->vocab || (targets && targets[i] >= c->vocab))
            return gm_fail(err, GM_EINVAL, "token %d is outside the model's vocabulary of %lld; is this the tokenizer it was trained with?",
                           tokens[i] < 0 || tokens[i] >= c->vocab ? tokens[i] : targets[i], (long long)c->vocab);
    }
    return GM_OK;
}

/* logits of R rows of the final norm's output, xs apart. */
static void head_logits(gm_model *m, float *logits, const float *x, int64_t xs, int64_t R) {
    if (m->engine)
        m->engine->logits(m->engine->user, logits, x, xs, R);
    else
        gm_linear_fwd(m->ctx, logits, m->cfg.vocab, x, xs, m->head, NULL, R, m->cfg.width, m->cfg.vocab);
}

/* Embedding, blocks, final norm: acts->nf is the result. */
static gm_status forward(gm_model *m, const int32_t *tokens, int64_t B, int64_t T, const gm_kv_cache *cache, uint64_t drop,
                         const gm_tap *tap, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    gm_acts *s = m->acts;
    const int64_t R = B * T, C = c->width;
    if (m->engine)
        return m->engine->forward(m->engine->user, s->nf, tokens, B, T, cache, tap, err);
    tap_batch t = {{m->resident, tap}, -1, B, T};
    const int64_t offset = c->position_offset + (cache ? cache->length : 0);
    gm_embedding_fwd(m->ctx, s->x0, tokens, gm_model_weight(m, GM_P_WTE, -1), gm_model_weight(m, GM_P_WPE, -1), B, T, C, offset);
    tap_rows(&t, GM_SITE_EMBED, s->x0, C, C);
    if (drop)
        gm_dropout(m->ctx, s->x0, m->first_sequence * T * C, R * C, c->dropout, dropout_key(drop, -1, 0));
    gm_phase_lap(m->clock, GM_PHASE_EMBEDDING);
    const float *x = s->x0;
    for (int64_t l = 0; l < c->layers; l++) {
        GM_TRY(block_forward(m, l, x, B, T, cache, drop, tap, err));
        x = s->layers[l].x;
    }
    gm_norm_fwd(m->ctx, s->nf, s->nf_mean, s->nf_rstd, x, gm_model_weight(m, GM_P_NORMF_G, -1), gm_model_weight(m, GM_P_NORMF_B, -1), R, C,
                (float)c->norm_eps, c->rms_norm);
    tap_rows(&t, GM_SITE_NORM_FINAL, s->nf, C, C);
    gm_phase_lap(m->clock, GM_PHASE_NORM);
    return GM_OK;
}

/* Behind this parameter (all that follow it in the arena included) no gradient changes any more. */
static void grads_final(const gm_model *m, int slot, int layer) {
    if (m->watch)
        m->watch->final(m->watch->user, gm_model_grad(m, slot, layer) - m->grads);
}

/* From dn = gradient of nf to every parameter's gradient but the head's. */
static gm_status backward(gm_model *m, const int32_t *tokens, int64_t B, int64_t T, uint64_t drop, gm_error *err) {
    const gm_model_config *c = &m->cfg;
    gm_acts *s = m->acts;
    const int64_t R = B * T, C = c->width, last = c->layers - 1;
    memset(s->dx, 0, (size_t)(R * C) * sizeof(float));
    gm_norm_bwd(m->ctx, s->dx, gm_model_grad(m, GM_P_NORMF_G, -1), gm_model_grad(m, GM_P_NORMF_B, -1), s->dn, s->layers[last].x,
                gm_model_weight(m, GM_P_NORMF_G, -1), s->nf_mean, s->nf_rstd, R, C, c->rms_norm, s->norm);
    gm_phase_lap(m->clock, GM_PHASE_NORM);
    grads_final(m, GM_P_NORMF_G, -1);
    for (int64_t l = last; l >= 0; l--) {
        GM_TRY(block_backward(m, l, l ? s->layers[l - 1].x : s->x0, B, T, drop, err));
        grads_final(m, GM_P_NORM1_G, (int)l);
    }
    if (drop)
        gm_dropout(m->ctx, s->dx, m->first_sequence * T * C, R * C, c->dropout, dropout_key(drop, -1, 0));
    gm_embedding_bwd(m->ctx, gm_model_grad(m, GM_P_WTE, -1), gm_model_grad(m, GM_P_WPE, -1), s->dx, tokens, B, T, C, c->position_offset);
    gm_phase_lap(m->clock, GM_PHASE_EMBEDDING);
    return GM_OK;
}

/* Adds to *sum. losses: NULL ok. */
static gm_status group_losses(gm_model *m, double *sum, float *losses, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T,
                              const gm_tap *tap, gm_error *err) {
    GM_TRY(acts_reserve(m, B, T, T, false, err));
    GM_TRY(forward(m, tokens, B, T, NULL, 0, tap, err));
    gm_acts *s = m->acts;
    const int64_t C = m->cfg.width, V = m->cfg.vocab, block = gm_head_scratch(m->ctx, V) / V;
    for (int64_t r = 0; r < B * T; r += block) {
        const int64_t rows = GM_MIN(block, B * T - r);
        head_logits(m, s->head, s->nf + r * C, C, rows);
        gm_logits_loss(m->ctx, s->losses + r, s->head, targets + r, rows, V);
    }
    for (int64_t i = 0; i < B * T; i++)
        *sum += s->losses[i];
    if (losses)
        memcpy(losses, s->losses, (size_t)(B * T) * sizeof(float));
    return GM_OK;
}

gm_status gm_model_forward_loss(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, const gm_tap *tap,
                                double *mean, float *losses, gm_error *err) {
    GM_TRY(check_batch(m, tokens, targets, B, T, err));
    const bool seen = tap || m->resident || m->engine; /* who looks on sees the batch whole; an engine has buffers of its own */
    const int64_t group = seen ? B : gm_model_group(&m->cfg, m->param_elements, B, T, false);
    double sum = 0;
    for (int64_t b = 0; b < B; b += group)
        GM_TRY(group_losses(m, &sum, losses ? losses + b * T : NULL, tokens + b * T, targets + b * T, GM_MIN(group, B - b), T, tap, err));
    int64_t count = 0;
    for (int64_t i = 0; i < B * T; i++)
        count += targets[i] >= 0;
    *mean = count ? sum / (double)count : 0;
    return GM_OK;
}

gm_status gm_model_loss(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, double *mean, float *losses,
                        gm_error *err) {
    return gm_model_forward_loss(m, tokens, targets, B, T, NULL, mean, losses, err);
}

gm_status gm_model_logits(gm_model *m, const int32_t *tokens, int64_t B, int64_t T, bool last_only, float *logits, gm_error *err) {
    GM_TRY(check_batch(m, tokens, NULL, B, T, err));
    GM_TRY(acts_reserve(m, B, T, T, false, err));
    GM_TRY(forward(m, tokens, B, T, NULL, 0, NULL, err));
    const int64_t C = m->cfg.width;
    if (last_only) /* one row in T */
        head_logits(m, logits, m->acts->nf + (T - 1) * C, T * C, B);
    else
        head_logits(m, logits, m->acts->nf, C, B * T);
    return GM_OK;
}

gm_status gm_model_decode(gm_model *m, const int32_t *tokens, int64_t T, gm_kv_cache *cache, float *logits, gm_error *err) {
    GM_TRY(check_batch(m, tokens, NULL, 1, T, err));
    GM_TRY(acts_reserve(m, 1, T, cache->capacity, false, err));
    GM_TRY(forward(m, tokens, 1, T, cache, 0, NULL, err));
    cache->length += T;
    const int64_t C = m->cfg.width;
    if (logits)
        head_logits(m, logits, m->acts->nf + (T - 1) * C, C, 1);
    return GM_OK;
}

/* ---- training */

gm_status gm_model_train_begin(gm_model *m, int64_t B, int64_t T, gm_error *err) {
    if (!m->grads) {
        m->grads = gm_alloc((size_t)m->param_elements, sizeof(float));
        if (!m->grads)
            return gm_fail_memory(err, (size_t)m->param_elements * sizeof(float));
    }
    return acts_reserve(m, gm_model_group(&m->cfg, m->param_elements, B, T, true), T, T, true, err);
}

void gm_model_zero_grads(gm_model *m) {
    memset(m->grads, 0, (size_t)m->param_elements * sizeof(float));
}

static gm_status accumulate_group(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, float grad_scale,
                                  uint64_t drop, double *loss_sum, gm_error *err) {
    GM_TRY(acts_reserve(m, B, T, T, true, err));
    GM_TRY(forward(m, tokens, B, T, NULL, drop, NULL, err));
    gm_acts *s = m->acts;
    gm_head_loss(m->ctx, s->losses, s->dn, gm_model_grad(m, m->cfg.tied ? GM_P_WTE : GM_P_HEAD, -1), s->nf, m->head, targets, grad_scale,
                 B * T, m->cfg.width, m->cfg.vocab, s->head);
    double sum = 0;
    for (int64_t i = 0; i < B * T; i++)
        sum += s->losses[i];
    *loss_sum += sum;
    gm_phase_lap(m->clock, GM_PHASE_HEAD);
    return backward(m, tokens, B, T, drop, err);
}

gm_status gm_model_accumulate(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, float grad_scale,
                              uint64_t drop, double *loss_sum, gm_error *err) {
    GM_TRY(check_batch(m, tokens, targets, B, T, err));
    drop = m->cfg.dropout > 0 ? drop | 1 : 0; /* 0 means no dropout below */
    const int64_t group = gm_model_group(&m->cfg, m->param_elements, B, T, true), first = m->first_sequence;
    const gm_grads_watch *watch = m->watch;
    gm_status status = GM_OK;
    for (int64_t b = 0; status == GM_OK && b < B; b += group) {
        m->first_sequence = first + b;
        m->watch = b + group < B ? NULL : watch; /* gradients are final in the last group only */
        status = accumulate_group(m, tokens + b * T, targets + b * T, GM_MIN(group, B - b), T, grad_scale, drop, loss_sum, err);
    }
    m->first_sequence = first;
    m->watch = watch;
    return status;
}
