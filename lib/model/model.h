/* model.h -- one transformer block with configuration: the inside of gm_model, for train, measure, quant and io.
 *
 * A model owns flat arenas (parameters; gradients when training; activations for the largest B*T so far). Every parameter is an entry
 * of params.def, expanded into names, shapes, init, decay, file layout; nothing else lists parameters. */
#ifndef GM_MODEL_H
#define GM_MODEL_H

#include "base.h"
#include "ghostmax_model.h"
#include "ops.h"

/* ---- parameters ------------------------------------------------------------------------------------------------------- */

typedef enum gm_param_kind {
    GM_PARAM_EMBEDDING, /* token and position tables */
    GM_PARAM_LINEAR,    /* a linear layer's weight */
    GM_PARAM_BIAS,
    GM_PARAM_NORM_GAIN,
    GM_PARAM_NORM_BIAS,
    GM_PARAM_SINK, /* learned sink logits */
    GM_PARAM_GATE, /* the gate module's weights */
    GM_PARAM_GATE_BIAS,
    GM_PARAM_HEAD, /* the LM head (absent when tied) */
} gm_param_kind;

typedef struct gm_param {
    char name[64]; /* "blocks.3.wqkv": our own; io/ maps it to the family's file names */
    gm_param_kind kind;
    int slot;           /* which entry of params.def: GM_P_* */
    int layer;          /* -1 outside blocks */
    int64_t rows, cols; /* [rows, cols]; vectors have cols = 1 */
    bool decay;         /* weight decay as in nanoGPT: matrices only (gm_train_options.decay_norm_gains adds norm gains) */
    int64_t offset;     /* elements into the arena, a multiple of 16; -1: not held (gm_model_allocate_without) */
} gm_param;

/* Shapes that params.def names. */
int64_t gm_gate_rows(const gm_model_config *c);
int64_t gm_gate_cols(const gm_model_config *c);
/* All parameters in file order into out (NULL: only counts); returns the count. */
int gm_params_layout(const gm_model_config *cfg, gm_param *out);
void gm_params_describe(const gm_model_config *cfg, int index, gm_param *out);

/* The rows of a parameter that a file may hold as a tensor of its own: all, those of q, k, v in WQKV and BQKV, of gate and up in W1 and
 * B1. *count 0: this model has no such part (all rows are "up" without a gate). */
typedef enum gm_part { GM_PART_WHOLE, GM_PART_Q, GM_PART_K, GM_PART_V, GM_PART_GATE, GM_PART_UP } gm_part;
void gm_param_part(const gm_model_config *cfg, const gm_param *p, gm_part part, int64_t *first, int64_t *count);
/* Is it a vector in files? (Tables and matrices with one column are not.) */
bool gm_param_is_vector(const gm_param *p);

enum gm_param_slot {
#define GM_PARAM(SLOT, ...) GM_P_##SLOT,
#include "params.def"
#undef GM_PARAM
    GM_P_COUNT
};

/* ---- taps: read (or change) activations while a forward pass runs; cost nothing when NULL ---------------------------------- */

typedef enum gm_site {
    /* embedding sum                  */ GM_SITE_EMBED,
    /* attention norm output          */ GM_SITE_NORM1,
    /* q, k, v (each): what attention gets, q and k after their norm, where there is one, and rotation */
    GM_SITE_Q,
    GM_SITE_K,
    GM_SITE_V,
    /* what a cache holds: k rotated  */ GM_SITE_CACHE_K,
    /* and v                          */ GM_SITE_CACHE_V,
    /* QK^T, scaled, before the mask  */ GM_SITE_SCORES,
    /* attention weights              */ GM_SITE_WEIGHTS,
    /* PV, before the gate            */ GM_SITE_PV,
    /* what enters the projection     */ GM_SITE_ATTN_IN, /* PV of all heads; with a gate g*o */
    /* attention output projection    */ GM_SITE_ATTN_OUT,
    /* residual sum after attention   */ GM_SITE_RESIDUAL1,
    /* FFN norm output                */ GM_SITE_NORM2,
    /* after the activation           */ GM_SITE_FFN_ACT,
    /* FFN output                     */ GM_SITE_FFN_OUT,
    /* block output                   */ GM_SITE_BLOCK,
    /* final norm output              */ GM_SITE_NORM_FINAL,
    GM_SITE_COUNT
} gm_site;
const char *gm_site_name(gm_site site);                        /* "attn_out" ... as in results and reports */
int64_t gm_site_width(const gm_model_config *c, gm_site site); /* channels of one token there */

typedef struct gm_tap_view {
    gm_site site;
    int layer;    /* -1: EMBED, NORM_FINAL */
    int64_t B, T; /* of the running batch */
    int64_t b, h; /* SCORES, WEIGHTS, PV only: which sequence and head; else -1 */
    float *x;     /* [rows, cols], rows `stride` elements apart: [B*T, cols], or [T, T] / [T, D] for the three per-head sites */
    int64_t rows, cols, stride;
    const float *null_mass; /* WEIGHTS only: [T] */
} gm_tap_view;

typedef struct gm_tap {
    void (*fn)(void *user, const gm_tap_view *view); /* called in forward order from one thread */
    void *user;
    bool attention; /* also SCORES, WEIGHTS, PV (materialises T x T per head); not while decoding */
} gm_tap;

/* ---- decoding: what came before */

/* One sequence's past: per block room for `capacity` positions, of which `length` are filled. In f32: keys, then values,
 * [layers, 2, KV, capacity, D], so that decoding reads a head's in one stream; an engine's own layout otherwise. */
typedef struct gm_kv_cache {
    void *memory;
    int64_t capacity, length;
} gm_kv_cache;

/* ---- other hands for the forward pass: integers instead of f32 (quant/execute_forward.c) ------------------------------------ */

typedef struct gm_engine {
    void *user;
    /* Embedding to final norm of B x T tokens behind those of the cache (NULL: none): nf [B*T, C]. tap (NULL ok) sees copies. */
    gm_status (*forward)(void *user, float *nf, const int32_t *tokens, int64_t B, int64_t T, const gm_kv_cache *cache, const gm_tap *tap,
                         gm_error *err);
    /* logits [R, V] of rows of nf, xs apart; R at most the last forward's B*T. */
    void (*logits)(void *user, float *logits, const float *nf, int64_t xs, int64_t R);
    size_t (*cache_bytes)(const void *user, int64_t capacity);
} gm_engine;

/* ---- where the time of a step goes: for `ghostmax bench` ------------------------------------------------------------------- */

#define GM_PHASES(PHASE)                                                   \
    PHASE(EMBEDDING, "embedding")                                          \
    PHASE(LINEAR, "linear layers")                                         \
    PHASE(ATTENTION, "attention") /* with rotary positions and the gate */ \
    PHASE(NORM, "norms")                                                   \
    PHASE(ACTIVATION, "activation")                                        \
    PHASE(RESIDUAL, "residual sums") /* with dropout */                    \
    PHASE(HEAD, "head and loss")                                           \
    PHASE(OPTIMIZER, "optimizer") /* with the gradients' norm and their zeroing */
typedef enum gm_phase {
#define GM_PHASE(PHASE, name) GM_PHASE_##PHASE,
    GM_PHASES(GM_PHASE)
#undef GM_PHASE
        GM_PHASE_COUNT
} gm_phase;

typedef struct gm_phase_clock {
    double last, seconds[GM_PHASE_COUNT];
} gm_phase_clock;
/* What passed since the last lap belongs to this phase. clock NULL: nobody asks. */
static inline void gm_phase_lap(gm_phase_clock *clock, gm_phase phase) {
    if (!clock)
        return;
    double now = gm_seconds();
    clock->seconds[phase] += now - clock->last;
    clock->last = now;
}

/* ---- who wants gradients while the backward pass goes on: several ranks, to sum them ------------------------------------------ */

typedef struct gm_grads_watch {
    void *user;
    void (*final)(void *user, int64_t from); /* element `from` of the arena and all behind it are final */
} gm_grads_watch;

/* ---- the model ----------------------------------------------------------------------------------------------------------- */

typedef struct gm_acts gm_acts; /* activation buffers, private to model.c */
size_t gm_acts_bytes(const gm_model_config *cfg, int64_t B, int64_t T, bool training);
/* Of B sequences of T tokens, how many go through the model at a time, so that their activations stay small. */
int64_t gm_model_group(const gm_model_config *cfg, int64_t param_elements, int64_t B, int64_t T, bool training);

struct gm_model {
    const gm_ctx *ctx;
    gm_model_config cfg;
    gm_norm norm;     /* of cfg.attention, alpha resolved; surgery's ramp moves it (train/surgery.c) */
    float sink_shift; /* added to every learned sink: 0, but during such a ramp */
    float *sinks;     /* [H]: a block's sinks, shifted */
    gm_param *params; /* [param_count], in file order */
    int param_count;
    int64_t param_elements;
    float *weights;    /* arena of param_elements */
    float *grads;      /* the same layout, NULL until gm_model_train_begin */
    float *own_head;   /* a clone's f32 copy of a tied table, else NULL */
    const float *head; /* [V,C]: the LM head, or the embedding table when tied. Quantized copies point it at the f32 table. */
    gm_acts *acts;
    const gm_engine *engine;     /* NULL: f32 */
    const gm_tap *resident;      /* of every forward-only pass, before the caller's own tap; NULL: none */
    const gm_grads_watch *watch; /* NULL: nobody */
    int64_t first_sequence; /* of a training batch, where it is part of a larger one: dropout goes by a sequence's place in the whole */
    gm_phase_clock *clock;  /* NULL: not timed */
    float *rope;            /* cos/sin table of rope_positions, which grow with the sequences seen */
    int64_t rope_positions;
    int (*slot_index)[GM_P_COUNT]; /* [layers + 1][slot] -> index into params, -1: absent; row `layers` is for tensors outside blocks */
};

/* The rotary frequencies f [head_dim / 2] of a checked configuration with rope: position t turns pair i by the angle t f_i. */
void gm_rope_frequencies(const gm_model_config *cfg, double *f);
/* m->rope for at least `positions` (at most the context) positions; without rope nothing. */
gm_status gm_model_rope_reserve(gm_model *m, int64_t positions, gm_error *err);

/* A model whose parameters are all zero: for loading and copying. */
gm_status gm_model_allocate(gm_model **out, const gm_ctx *ctx, const gm_model_config *cfg, gm_error *err);
/* The same without room for some parameters: `without` has bits 1u << slot. Forward passes with a provider for them, nothing else. */
gm_status gm_model_allocate_without(gm_model **out, const gm_ctx *ctx, const gm_model_config *cfg, uint64_t without, gm_error *err);

/* What gm_model_load would load from a Hugging Face folder or safetensors file, without reading weights: everything is checked but the
 * data. Errors: as gm_model_load's. */
typedef struct gm_model_files {
    gm_model_config cfg;
    char types[64];     /* "F32", "BF16, F32": most elements first */
    int files, tensors; /* of weights */
    int64_t bytes;      /* of those files */
} gm_model_files;
gm_status gm_model_inspect(gm_model_files *out, const char *path, gm_error *err);

/* Draws every parameter from (seed, tensor name, element). */
void gm_params_init(gm_model *m, uint64_t seed);

/* One parameter's data; NULL when this model has none. layer -1: outside blocks. */
float *gm_model_weight(const gm_model *m, int slot, int layer);
float *gm_model_grad(const gm_model *m, int slot, int layer);

/* The matrices a paper would count, with q, k, v apart: views into `weights` (rows are contiguous). Returns the count; fills up to
 * `capacity`. kind is LINEAR, EMBEDDING, HEAD or NORM_GAIN (a vector, cols = 1). */
typedef struct gm_matrix_view {
    char name[64];
    gm_param_kind kind;
    int layer;
    int64_t rows, cols;
    float *x;
} gm_matrix_view;
int gm_model_matrices(const gm_model *m, gm_matrix_view *views, int capacity);

/* Saving in steps, for those who add files of their own: config.json and the weights into a folder in the making; bringing it in place.
 * `whole`: all that belongs to the model is in it, so that a tokenizer that stands there already is another's and goes. */
gm_status gm_model_put(const gm_model *m, const gm_folder *f, gm_dtype dtype, int64_t shard_bytes, gm_error *err);
gm_status gm_model_commit(gm_folder *f, bool whole, gm_error *err);

/* A deep copy of the weights (no gradients); its head is a separate f32 copy when tied, so that the table may be quantized alone. */
gm_status gm_model_clone(gm_model **out, const gm_model *m, gm_error *err);

/* Forward and loss: mean over targets >= 0 in nats; losses [B*T] (NULL ok). tap may be NULL. Tokens out of range: GM_EINVAL. */
gm_status gm_model_forward_loss(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, const gm_tap *tap,
                                double *mean, float *losses, gm_error *err);

/* T more tokens behind the cached ones, for which there must be room: logits [V] of the last one (NULL: not wanted). */
gm_status gm_model_decode(gm_model *m, const int32_t *tokens, int64_t T, gm_kv_cache *cache, float *logits, gm_error *err);

/* Shapes that the block gives its operations; cache NULL: the batch's own keys. */
gm_attention_shape gm_model_attention_shape(const gm_model_config *c, const gm_kv_cache *cache, int64_t B, int64_t T);
gm_gate_shape gm_model_gate_shape(const gm_model_config *c, int64_t R);
int64_t gm_model_gate_width(const gm_model_config *c); /* 0 without a gate */
/* The f32 cache of a block: its heads' keys in panels (gm_attention_shape.key_panels), then their values; a head takes gm_kv_cache_head
 * floats. append puts T positions' keys and values (k's rows hold both) behind the cached ones; k and v are all of them on return. */
int64_t gm_kv_cache_head(const gm_model_config *c, int64_t capacity);
size_t gm_kv_cache_bytes(const gm_model_config *c, int64_t capacity); /* of all blocks */
void gm_kv_cache_append(const gm_model_config *c, const gm_kv_cache *cache, int64_t layer, const float **k, const float **v, int64_t T);

/* Training: allocate gradients and the saved activations (of a group of the B x T) once. Then per step: zero, one or more accumulate calls.
 */
gm_status gm_model_train_begin(gm_model *m, int64_t B, int64_t T, gm_error *err);
void gm_model_zero_grads(gm_model *m);
/* Forward and backward of B x T tokens; gradients of grad_scale * sum of losses are added. *loss_sum += sum of losses. dropout_key:
 * this micro-batch's own random key. */
gm_status gm_model_accumulate(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, float grad_scale,
                              uint64_t dropout_key, double *loss_sum, gm_error *err);

#endif
