/* bench_layers.c -- every op of a block but attention: matrix products at the presets' shapes, norms, activations, the head, the optimizer.
 * Where a call's data is small, the calls go through copies of it, so that it comes from where it comes from in a training step. */
#include "bench.h"
#include "gemm.h"
#include "ops.h"

#include <math.h>
#include <string.h>

/* ---- the presets ---------------------------------------------------------------------------------------------------------------- */

static const gm_bench_model models[] = {
    {"bb-1l", 32, 256, 67, true},        {"bb-3l", 32, 256, 67, false},        {"words-mini", 32, 128, 4096, true},
    {"gpt2-nano", 32, 64, 96, true},     {"gpt2-micro", 32, 128, 96, false},   {"gpt2-mini", 16, 256, 96, true},
    {"gpt2-small", 4, 256, 50257, true}, {"llama-260k", 32, 256, 512, false},  {"llama-15m", 8, 256, 32000, true},
    {"llama-42m", 2, 512, 32000, false}, {"llama-110m", 1, 512, 32000, false}, {"opt-mini", 16, 256, 96, false},
    {"opt-125m", 2, 512, 50272, false},
};

const gm_bench_model *gm_bench_model_at(int index) {
    return index < GM_COUNT(models) ? &models[index] : NULL;
}

void gm_bench_model_config(gm_model_config *cfg, const gm_bench_model *model) {
    gm_model_config_preset(cfg, model->preset, NULL);
    cfg->vocab = model->vocab;
    gm_model_config_check(cfg, NULL);
}

/* ---- matrix products --------------------------------------------------------------------------------------------------------------- */

typedef struct product {
    bool trans_a, trans_b;
    float beta;
    int64_t M, N, K;
} product;

typedef struct product_state {
    const gm_ctx *ctx;
    product p;
    float *a, *b, *c;
} product_state;

static void *product_setup(gm_bench *b, const void *shape) {
    product_state *s = gm_bench_bytes(b, sizeof *s);
    if (!s)
        return NULL;
    *s = (product_state){.ctx = b->ctx, .p = *(const product *)shape};
    s->a = gm_bench_floats(b, s->p.M * s->p.K);
    s->b = gm_bench_floats(b, s->p.N * s->p.K);
    s->c = gm_bench_floats(b, s->p.M * s->p.N);
    return s->a && s->b && s->c ? s : NULL;
}

static void product_run(void *state) {
    product_state *s = state;
    const product *p = &s->p;
    gm_gemm(s->ctx, p->trans_a, p->trans_b, p->M, p->N, p->K, 1, s->a, p->trans_a ? p->M : p->K, s->b, p->trans_b ? p->K : p->N, p->beta,
            s->c, p->N);
}

static gm_status product_lines(gm_bench *b, const char *preset, const char *layer, bool quick, int64_t R, int64_t in, int64_t out,
                               gm_error *err) {
    const struct {
        const char *name;
        product p;
    } three[] = {{"y = x W^T", {false, true, 0, R, out, in}},
                 {"dx = dy W", {false, false, 0, R, in, out}},
                 {"dW += dy^T x", {true, false, 1, out, in, R}}};
    for (int i = 0; i < GM_COUNT(three); i++) {
        const product *p = &three[i].p;
        double M = (double)p->M, N = (double)p->N, K = (double)p->K;
        gm_job job = {.quick = quick, .shape = p, .setup = product_setup, .run = product_run};
        job.work = (gm_work){.flops = 2 * M * N * K, .read = 4 * (M * K + N * K)};
        *(p->beta != 0 ? &job.work.updated : &job.work.written) = 4 * M * N;
        snprintf(job.name, sizeof job.name, "%s %s %s, %lld x %lld x %lld", preset, layer, three[i].name, (long long)p->M, (long long)p->N,
                 (long long)p->K);
        GM_TRY(gm_bench_measure(b, &job, err));
    }
    return GM_OK;
}

gm_status gm_bench_products(gm_bench *b, gm_error *err) {
    for (int i = 0; i < GM_COUNT(models); i++) {
        const gm_bench_model *m = &models[i];
        gm_model_config c;
        gm_bench_model_config(&c, m);
        const int64_t R = m->batch * m->context, HD = c.heads * c.head_dim, qkv = HD + 2 * c.kv_heads * c.head_dim;
        const int64_t F1 = c.act == GM_ACT_SWIGLU ? 2 * c.ffn : c.ffn;
        bool quick = strcmp(m->preset, "gpt2-mini") == 0 || strcmp(m->preset, "gpt2-small") == 0;
        GM_TRY(product_lines(b, m->preset, "qkv", quick, R, c.width, qkv, err));
        GM_TRY(product_lines(b, m->preset, "out", quick, R, HD, c.width, err));
        GM_TRY(product_lines(b, m->preset, "ffn up", quick, R, c.width, F1, err));
        GM_TRY(product_lines(b, m->preset, "ffn down", quick, R, c.ffn, c.width, err));
    }
    return GM_OK;
}

/* ---- norms, activations, and the rest: gpt2-mini's 16 x 256 tokens ---------------------------------------------------------------- */

enum { TOKENS = 4096, CONTEXT = 256, WIDTH = 384, HEADS = 6, FFN = 1536, GLU = 1024, VOCAB = 96 };

typedef struct layer_state {
    const gm_ctx *ctx;
    const struct layer *layer;
    float *big[3];    /* [copies][TOKENS][width] */
    float *vector[4]; /* parameters and their gradients: [CONTEXT][WIDTH] */
    float *stat[2];   /* [TOKENS] */
    float *scratch;
    int32_t *tokens;
    int64_t copy;
    int copies, turn;
} layer_state;

typedef struct layer {
    const char *name;
    int64_t width;                 /* of the arrays */
    double read, written, updated; /* arrays of TOKENS x width floats, in the order of the parameters a, b, c */
    double flops;                  /* per element */
    void (*run)(const layer_state *s, float *a, float *b, float *c);
} layer;

static void norm_forward(const layer_state *s, float *x, float *y, bool rms) {
    gm_norm_fwd(s->ctx, y, rms ? NULL : s->stat[0], s->stat[1], x, s->vector[0], rms ? NULL : s->vector[1], TOKENS, WIDTH, 1e-5f, rms);
}
static void norm_backward(const layer_state *s, float *x, float *dy, float *dx, bool rms) {
    gm_norm_bwd(s->ctx, dx, s->vector[2], rms ? NULL : s->vector[3], dy, x, s->vector[0], s->stat[0], s->stat[1], TOKENS, WIDTH, rms,
                s->scratch);
}
static void layer_norm_fwd(const layer_state *s, float *a, float *b, float *c) {
    (void)c;
    norm_forward(s, a, b, false);
}
static void layer_norm_bwd(const layer_state *s, float *a, float *b, float *c) {
    norm_backward(s, a, b, c, false);
}
static void rms_norm_fwd(const layer_state *s, float *a, float *b, float *c) {
    (void)c;
    norm_forward(s, a, b, true);
}
static void rms_norm_bwd(const layer_state *s, float *a, float *b, float *c) {
    norm_backward(s, a, b, c, true);
}
#define ACTIVATION(name, act)                                                    \
    static void name##_fwd(const layer_state *s, float *a, float *b, float *c) { \
        (void)c;                                                                 \
        gm_act_fwd(s->ctx, b, a, (int64_t)TOKENS *FFN, act);                     \
    }                                                                            \
    static void name##_bwd(const layer_state *s, float *a, float *b, float *c) { \
        gm_act_bwd(s->ctx, c, b, a, (int64_t)TOKENS *FFN, act);                  \
    }
ACTIVATION(gelu_tanh, GM_ACT_GELU_TANH)
ACTIVATION(gelu_erf, GM_ACT_GELU_ERF)
ACTIVATION(relu, GM_ACT_RELU)
static void swiglu_fwd(const layer_state *s, float *a, float *b, float *c) {
    (void)c;
    gm_swiglu_fwd(s->ctx, b, a, TOKENS, GLU);
}
static void swiglu_bwd(const layer_state *s, float *a, float *b, float *c) {
    gm_swiglu_bwd(s->ctx, c, b, a, TOKENS, GLU);
}
static void residual(const layer_state *s, float *a, float *b, float *c) {
    gm_add(s->ctx, c, a, b, (int64_t)TOKENS * WIDTH);
}
static void rope(const layer_state *s, float *a, float *b, float *c) {
    (void)b, (void)c;
    gm_rope_apply(s->ctx, a, WIDTH, s->vector[0], TOKENS / CONTEXT, CONTEXT, 0, HEADS, WIDTH / HEADS, false);
}
static void embedding_fwd(const layer_state *s, float *a, float *b, float *c) {
    (void)b, (void)c;
    gm_embedding_fwd(s->ctx, a, s->tokens, s->vector[0], s->vector[1], TOKENS / CONTEXT, CONTEXT, WIDTH, 0);
}
static void embedding_bwd(const layer_state *s, float *a, float *b, float *c) {
    (void)b, (void)c;
    gm_embedding_bwd(s->ctx, s->vector[2], s->vector[3], a, s->tokens, TOKENS / CONTEXT, CONTEXT, WIDTH, 0);
}
static void dropout(const layer_state *s, float *a, float *b, float *c) {
    (void)b, (void)c;
    gm_dropout(s->ctx, a, 0, (int64_t)TOKENS * WIDTH, 0.1, 7);
}

/* SwiGLU's rows are counted in the width of its output; its input has two of them. */
static const layer layers[] = {
    {"layer norm forward", WIDTH, 1, 1, 0, 7, layer_norm_fwd},
    {"layer norm backward", WIDTH, 2, 0, 1, 14, layer_norm_bwd},
    {"RMS norm forward", WIDTH, 1, 1, 0, 4, rms_norm_fwd},
    {"RMS norm backward", WIDTH, 2, 0, 1, 10, rms_norm_bwd},
    {"GELU (tanh) forward", FFN, 1, 1, 0, GM_EXP_FLOPS + 10, gelu_tanh_fwd},
    {"GELU (tanh) backward", FFN, 2, 1, 0, GM_EXP_FLOPS + 18, gelu_tanh_bwd},
    {"GELU (erf) forward", FFN, 1, 1, 0, GM_EXP_FLOPS + 16, gelu_erf_fwd},
    {"GELU (erf) backward", FFN, 2, 1, 0, GM_EXP_FLOPS + 18, gelu_erf_bwd},
    {"ReLU forward", FFN, 1, 1, 0, 1, relu_fwd},
    {"ReLU backward", FFN, 2, 1, 0, 1, relu_bwd},
    {"SwiGLU forward", GLU, 2, 1, 0, GM_EXP_FLOPS + 4, swiglu_fwd},
    {"SwiGLU backward", GLU, 3, 2, 0, GM_EXP_FLOPS + 10, swiglu_bwd},
    {"residual sum", WIDTH, 2, 1, 0, 1, residual},
    {"rotary positions", WIDTH, 0, 0, 1, 3, rope},
    {"embedding forward", WIDTH, 0, 1, 0, 1, embedding_fwd},
    {"embedding backward", WIDTH, 1, 0, 0, 2, embedding_bwd},
    {"dropout", WIDTH, 0, 0, 1, 1, dropout},
};

static double layer_bytes(const layer *l) {
    return (l->read + l->written + l->updated) * 4 * TOKENS * (double)l->width;
}

static int layer_copies(const layer *l) {
    return gm_bench_copies(layer_bytes(l));
}

static void *layer_setup(gm_bench *b, const void *shape) {
    layer_state *s = gm_bench_bytes(b, sizeof *s);
    if (!s)
        return NULL;
    *s = (layer_state){.ctx = b->ctx, .layer = shape};
    bool ok = true;
    s->copy = (int64_t)TOKENS * s->layer->width * (s->layer->run == swiglu_fwd || s->layer->run == swiglu_bwd ? 2 : 1);
    s->copies = layer_copies(s->layer);
    for (int i = 0; i < GM_COUNT(s->big); i++)
        ok = (s->big[i] = gm_bench_floats(b, s->copy * s->copies)) && ok;
    for (int i = 0; i < GM_COUNT(s->vector); i++)
        ok = (s->vector[i] = gm_bench_floats(b, CONTEXT * WIDTH)) && ok;
    for (int i = 0; i < GM_COUNT(s->stat); i++)
        ok = (s->stat[i] = gm_bench_floats(b, TOKENS)) && ok;
    s->scratch = gm_bench_floats(b, gm_norm_bwd_scratch(b->ctx, WIDTH));
    s->tokens = gm_bench_bytes(b, TOKENS * sizeof *s->tokens);
    for (int i = 0; s->tokens && i < TOKENS; i++)
        s->tokens[i] = i * 7 % VOCAB;
    return ok && s->scratch && s->tokens ? s : NULL;
}

static void layer_run(void *state) {
    layer_state *s = state;
    int64_t at = s->turn++ % s->copies * s->copy;
    s->layer->run(s, s->big[0] + at, s->big[1] + at, s->big[2] + at);
}

gm_status gm_bench_layers(gm_bench *b, gm_error *err) {
    for (int i = 0; i < GM_COUNT(layers); i++) {
        const layer *l = &layers[i];
        const double n = (double)TOKENS * (double)l->width;
        gm_job job = {.quick = true, .shape = l, .setup = layer_setup, .run = layer_run};
        job.work = (gm_work){.flops = l->flops * n, .read = 4 * n * l->read, .written = 4 * n * l->written, .updated = 4 * n * l->updated};
        job.work.footprint = layer_bytes(l) * layer_copies(l);
        snprintf(job.name, sizeof job.name, "%s, %d x %lld", l->name, TOKENS, (long long)l->width);
        GM_TRY(gm_bench_measure(b, &job, err));
    }
    return GM_OK;
}

/* ---- the head ------------------------------------------------------------------------------------------------------------------------ */

typedef struct head_shape {
    const char *preset;
    int64_t R, C, V;
    bool train;
} head_shape;

typedef struct head_state {
    const gm_ctx *ctx;
    head_shape shape;
    float *x, *dx, *w, *dw, *losses, *scratch;
    int32_t *targets;
} head_state;

static void *head_setup(gm_bench *b, const void *shape) {
    head_state *s = gm_bench_bytes(b, sizeof *s);
    if (!s)
        return NULL;
    *s = (head_state){.ctx = b->ctx, .shape = *(const head_shape *)shape};
    const head_shape *h = &s->shape;
    s->x = gm_bench_floats(b, h->R * h->C);
    s->w = gm_bench_floats(b, h->V * h->C);
    s->losses = gm_bench_floats(b, h->R);
    s->scratch = gm_bench_floats(b, gm_head_scratch(b->ctx, h->V));
    s->targets = gm_bench_bytes(b, (size_t)h->R * sizeof *s->targets);
    s->dx = h->train ? gm_bench_floats(b, h->R * h->C) : NULL;
    s->dw = h->train ? gm_bench_floats(b, h->V * h->C) : NULL;
    if (!s->x || !s->w || !s->losses || !s->scratch || !s->targets || (h->train && (!s->dx || !s->dw)))
        return NULL;
    for (int64_t i = 0; i < h->R; i++)
        s->targets[i] = (int32_t)(i * 7 % h->V);
    return s;
}

static void head_run(void *state) {
    head_state *s = state;
    const head_shape *h = &s->shape;
    gm_head_loss(s->ctx, s->losses, s->dx, s->dw, s->x, s->w, s->targets, 1e-3f, h->R, h->C, h->V, s->scratch);
}

gm_status gm_bench_head(gm_bench *b, gm_error *err) {
    static const head_shape shapes[] = {{"gpt2-mini", 4096, 384, 96, false},    {"gpt2-mini", 4096, 384, 96, true},
                                        {"words-mini", 4096, 192, 4096, false}, {"words-mini", 4096, 192, 4096, true},
                                        {"llama-15m", 512, 288, 32000, false},  {"llama-15m", 512, 288, 32000, true},
                                        {"gpt2-small", 256, 768, 50257, false}, {"gpt2-small", 256, 768, 50257, true}};
    for (int i = 0; i < GM_COUNT(shapes); i++) {
        const head_shape *h = &shapes[i];
        double x = (double)(h->R * h->C), w = (double)(h->V * h->C);
        gm_job job = {.quick = true, .tokens = (double)h->R, .shape = h, .setup = head_setup, .run = head_run};
        job.work = (gm_work){.flops = (h->train ? 6.0 : 2.0) * x * (double)h->V, .read = 4 * (x + w)};
        job.work.written = 4 * (h->train ? x : (double)h->R);
        job.work.updated = h->train ? 4 * w : 0;
        snprintf(job.name, sizeof job.name, "%s %s, %lld x %lld", h->preset, h->train ? "loss and gradients" : "loss", (long long)h->R,
                 (long long)h->V);
        GM_TRY(gm_bench_measure(b, &job, err));
    }
    return GM_OK;
}

/* ---- the optimizer --------------------------------------------------------------------------------------------------------------------
 */

typedef struct optimizer_state {
    const gm_ctx *ctx;
    int64_t n;
    float *p, *g, *m, *v;
    double norm;
} optimizer_state;

static void *optimizer_setup(gm_bench *b, const void *shape) {
    optimizer_state *s = gm_bench_bytes(b, sizeof *s);
    if (!s)
        return NULL;
    *s = (optimizer_state){.ctx = b->ctx, .n = *(const int64_t *)shape};
    s->p = gm_bench_floats(b, s->n);
    s->g = gm_bench_floats(b, s->n);
    s->m = gm_bench_floats(b, s->n);
    s->v = gm_bench_floats(b, s->n);
    for (int64_t i = 0; s->v && i < s->n; i++)
        s->v[i] *= s->v[i];
    return s->p && s->g && s->m && s->v ? s : NULL;
}

static void adamw_run(void *state) {
    optimizer_state *s = state;
    gm_adamw(s->ctx, s->p, s->g, s->m, s->v, s->n, 1, 1e-3, 0.9, 0.99, 1e-8, 0.1, 10);
}
static void norm_run(void *state) {
    optimizer_state *s = state;
    s->norm += gm_sum_squares(s->ctx, s->g, s->n);
}
static void zero_run(void *state) {
    optimizer_state *s = state;
    memset(s->g, 0, (size_t)s->n * sizeof *s->g);
}

gm_status gm_bench_optimizer(gm_bench *b, gm_error *err) {
    static const struct {
        const char *name;
        double read, written, updated, flops;
        void (*run)(void *);
    } ops[] = {{"AdamW", 1, 0, 3, 16, adamw_run}, {"gradient norm", 1, 0, 0, 2, norm_run}, {"zero gradients", 0, 1, 0, 0, zero_run}};
    for (int i = 0; i < GM_COUNT(models); i++) {
        gm_model_config c;
        gm_model_size size;
        gm_bench_model_config(&c, &models[i]);
        gm_model_config_size(&size, &c, 1, 1);
        double n = (double)size.parameters;
        for (int o = 0; o < GM_COUNT(ops); o++) {
            gm_job job = {.shape = &size.parameters, .bytes = 16 * n, .setup = optimizer_setup, .run = ops[o].run};
            job.quick = strcmp(models[i].preset, "gpt2-mini") == 0;
            job.work = (gm_work){.flops = ops[o].flops * n, .read = 4 * n * ops[o].read, .written = 4 * n * ops[o].written};
            job.work.updated = 4 * n * ops[o].updated;
            snprintf(job.name, sizeof job.name, "%s of %s, %.1fM parameters", ops[o].name, models[i].preset, n / 1e6);
            GM_TRY(gm_bench_measure(b, &job, err));
        }
    }
    return GM_OK;
}
