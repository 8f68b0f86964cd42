/* bench_attention.c -- the normaliser over rows, and attention forward and backward for every variant.
 *
 * Attention counts the products only, 4 D per query and key that it sees forward and 10 D backward (with the scores made again): the usual
 * count, so that a rate says how much of the machine the products get while the normaliser runs between them. */
#include "bench.h"
#include "ops.h"

#include <math.h>
#include <string.h>

/* ---- rows: scores of many rows, gone through copy after copy ------------------------------------------------------------------ */

typedef struct rows_shape {
    const char *variant;
    int64_t R, N;
    bool backward;
} rows_shape;

typedef struct rows_state {
    const gm_ctx *ctx;
    rows_shape shape;
    gm_norm norm;
    float *s, *w, *dw, *lse;
    int copies, turn;
} rows_state;

static gm_variant variant_of(const char *name) {
    gm_variant v = {0};
    gm_variant_parse(&v, name, NULL); /* our own names: test_bench runs every line's setup */
    return v;
}

static void *rows_setup(gm_bench *b, const void *shape) {
    rows_state *r = gm_bench_bytes(b, sizeof *r);
    if (!r)
        return NULL;
    *r = (rows_state){.ctx = b->ctx, .shape = *(const rows_shape *)shape};
    int64_t n = r->shape.R * r->shape.N;
    gm_variant variant = variant_of(r->shape.variant);
    r->norm = gm_variant_norm(&variant, r->shape.N);
    r->copies = gm_bench_copies((double)n * 8);
    r->s = gm_bench_floats(b, n * r->copies);
    r->w = gm_bench_floats(b, n * r->copies);
    r->lse = gm_bench_floats(b, r->shape.R);
    r->dw = r->shape.backward ? gm_bench_floats(b, n) : r->w;
    if (!r->s || !r->w || !r->lse || !r->dw)
        return NULL;
    for (int64_t i = 0; i < r->shape.R; i++)
        r->lse[i] = (float)log((double)r->shape.N) + 0.17f; /* of uniform scores in (-1, 1), nearly */
    return r;
}

static void rows_run(void *state) {
    rows_state *r = state;
    const rows_shape *p = &r->shape;
    int64_t at = (int64_t)(r->turn++ % r->copies) * p->R * p->N;
    if (p->backward)
        gm_norm_rows_bwd(r->ctx, r->w + at, NULL, r->s + at, r->dw, r->lse, p->R, p->N, r->norm, NULL);
    else
        gm_norm_rows_fwd(r->ctx, r->w + at, p->N, r->lse, NULL, r->s + at, p->N, p->R, p->N, r->norm, NULL);
}

gm_status gm_bench_rows(gm_bench *b, gm_error *err) {
    static const char *const variants[] = {"softmax", "softmax1", "clipped"}; /* a sink is softmax1's kernel with another number */
    static const int64_t lengths[] = {128, 1024, 8192};
    for (int i = 0; i < GM_COUNT(lengths) * GM_COUNT(variants) * 2; i++) {
        rows_shape shape = {variants[i / 2 % GM_COUNT(variants)], 0, lengths[i / 2 / GM_COUNT(variants)], i % 2};
        shape.R = (1 << 20) / shape.N;
        double n = 1 << 20;
        gm_job job = {.quick = shape.N == 1024, .shape = &shape, .setup = rows_setup, .run = rows_run};
        /* forward: the largest, an exponential, a sum, a product, the clip; backward: an exponential, dw p summed, p (g - sum) */
        job.work =
            (gm_work){.flops = n * (GM_EXP_FLOPS + (shape.backward ? 6 : 4)), .read = n * (shape.backward ? 8 : 4), .written = n * 4};
        job.work.footprint = n * 8 * gm_bench_copies(n * 8);
        snprintf(job.name, sizeof job.name, "%s %s, %lld x %lld", shape.variant, shape.backward ? "backward" : "forward",
                 (long long)shape.R, (long long)shape.N);
        GM_TRY(gm_bench_measure(b, &job, err));
    }
    return GM_OK;
}

/* ---- attention ------------------------------------------------------------------------------------------------------------------ */

typedef struct attention_shape {
    int64_t B, H, KV, T, S, D;
    bool full, every_quick, one_quick; /* --quick takes every variant, or softmax1 alone */
} attention_shape;

static const attention_shape shapes[] = {
    /* the length; as many sequences and heads as keep the work alike */
    {8, 12, 12, 128, 128, 64, false, false, true},
    {4, 12, 12, 256, 256, 64, false, false, false},
    {2, 12, 12, 512, 512, 64, false, false, false},
    {1, 12, 12, 1024, 1024, 64, false, true, true},
    {1, 6, 6, 2048, 2048, 64, false, false, false},
    {1, 3, 3, 4096, 4096, 64, false, false, false},
    {1, 2, 2, 8192, 8192, 64, false, false, true},
    /* the head's dimension */
    {1, 24, 24, 1024, 1024, 32, false, false, true},
    {1, 6, 6, 1024, 1024, 128, false, false, true},
    /* everything visible */
    {1, 12, 12, 1024, 1024, 64, true, false, true},
    /* heads that share keys and values */
    {1, 12, 4, 1024, 1024, 64, false, false, true},
    /* one query over a cache */
    {1, 12, 12, 1, 1024, 64, false, false, true},
    {1, 12, 12, 1, 8192, 64, false, false, true},
    {1, 12, 4, 1, 8192, 64, false, false, false},
};

typedef struct attention_case {
    const attention_shape *shape;
    const char *variant;
    bool backward;
} attention_case;

typedef struct attention_state {
    const gm_ctx *ctx;
    attention_case c;
    gm_attention_shape shape;
    gm_norm norm;
    gm_variant variant;
    float *qkv, *o, *lse, *dout, *dqkv, *sinks, *dsinks;
    float *x, *dx, *gate, *gated, *gate_work, *w, *dw; /* gated only */
    gm_gate_shape gate_shape;
    void *scratch;
    int64_t copy; /* floats from one copy of the cache to the next */
    int copies, turn;
} attention_state;

/* Query and key pairs that count: of one head of one sequence. */
static double pairs_of(const attention_shape *s) {
    double T = (double)s->T, S = (double)s->S;
    return s->full ? T * S : T * (S - T) + T * (T + 1) / 2;
}

static double cache_bytes(const attention_shape *s) {
    return 4.0 * 2 * (double)(s->B * s->S * s->KV * s->D);
}

/* The caller's layout is the model's: a token's q, k, v behind each other; in a cache k, v. */
static bool attention_memory(attention_state *a, gm_bench *b) {
    const attention_shape *s = a->c.shape;
    const int64_t R = s->B * s->T, HD = s->H * s->D, row = (s->H + 2 * s->KV) * s->D, decode = s->T == 1;
    const bool backward = a->c.backward;
    a->copy = decode ? s->B * s->S * 2 * s->KV * s->D : 0;
    a->copies = decode ? gm_bench_copies(cache_bytes(s)) : 1;
    a->qkv = gm_bench_floats(b, R * row + a->copy * a->copies);
    a->o = gm_bench_floats(b, R * HD);
    a->lse = gm_bench_floats(b, R * s->H);
    a->sinks = gm_bench_floats(b, s->H);
    a->scratch = gm_bench_bytes(b, gm_attention_scratch_bytes(a->ctx, &a->shape, backward));
    bool ok = a->qkv && a->o && a->lse && a->sinks && a->scratch;
    if (backward) {
        a->dout = gm_bench_floats(b, R * HD);
        a->dqkv = gm_bench_floats(b, R * row);
        a->dsinks = gm_bench_floats(b, s->H);
        ok = ok && a->dout && a->dqkv && a->dsinks;
    }
    if (a->variant.gate != GM_GATE_NONE) {
        a->gate_shape = (gm_gate_shape){.kind = (int)a->variant.gate, .R = R, .C = HD, .H = s->H, .D = s->D};
        a->x = gm_bench_floats(b, R * HD);
        a->gate = gm_bench_floats(b, R * s->H);
        a->gated = gm_bench_floats(b, R * HD);
        a->w = gm_bench_floats(b, HD + s->H); /* weights, then biases */
        a->dx = backward ? gm_bench_floats(b, R * HD) : a->x;
        a->dw = backward ? gm_bench_floats(b, HD + s->H) : a->w;
        a->gate_work = gm_bench_floats(b, R * s->H);
        ok = ok && a->x && a->gate && a->gated && a->w && a->dx && a->dw && a->gate_work;
    }
    return ok;
}

static void forward(attention_state *a) {
    const attention_shape *s = a->c.shape;
    const int64_t HD = s->H * s->D;
    const float *k = a->qkv + HD;
    if (s->T == 1)
        k = a->qkv + (s->H + 2 * s->KV) * s->D * s->B + a->turn++ % a->copies * a->copy;
    gm_attention_fwd(a->ctx, a->o, a->lse, a->qkv, k, k + s->KV * s->D, a->variant.sink == GM_SINK_LEARNED ? a->sinks : NULL, a->norm,
                     &a->shape, a->scratch, NULL);
    if (a->gate) {
        gm_gate_fwd(a->ctx, a->gate, NULL, a->x, a->w, a->w + HD, NULL, NULL, &a->gate_shape);
        gm_gate_apply(a->ctx, a->gated, a->o, a->gate, &a->gate_shape);
    }
}

static void backward(attention_state *a) {
    const attention_shape *s = a->c.shape;
    const int64_t HD = s->H * s->D, KD = s->KV * s->D;
    const float *dout = a->dout;
    if (a->gate) {
        gm_gate_bwd(a->ctx, a->gated, a->dx, a->dw, a->dw + HD, NULL, NULL, a->dout, a->o, a->gate, NULL, a->x, a->w, NULL, &a->gate_shape,
                    a->gate_work);
        dout = a->gated;
    }
    bool sinks = a->variant.sink == GM_SINK_LEARNED;
    gm_attention_bwd(a->ctx, a->dqkv, a->dqkv + HD, a->dqkv + HD + KD, sinks ? a->dsinks : NULL, dout, a->qkv, a->qkv + HD,
                     a->qkv + HD + KD, a->o, a->lse, sinks ? a->sinks : NULL, a->norm, &a->shape, a->scratch, NULL);
}

static void *attention_setup(gm_bench *b, const void *shape) {
    attention_state *a = gm_bench_bytes(b, sizeof *a);
    if (!a)
        return NULL;
    *a = (attention_state){.ctx = b->ctx, .c = *(const attention_case *)shape};
    const attention_shape *s = a->c.shape;
    const int64_t row = (s->H + 2 * s->KV) * s->D;
    a->variant = variant_of(a->c.variant);
    a->norm = gm_variant_norm(&a->variant, s->S);
    a->shape = (gm_attention_shape){.B = s->B, .T = s->T, .S = s->S, .H = s->H, .KV = s->KV, .D = s->D, .causal = !s->full, .q_row = row};
    a->shape.kv_row = s->T == 1 ? 2 * s->KV * s->D : row;
    if (!attention_memory(a, b))
        return NULL;
    if (a->c.backward)
        forward(a);
    return a;
}

static void attention_run(void *state) {
    attention_state *a = state;
    (a->c.backward ? backward : forward)(a);
}

static gm_status attention_line(gm_bench *b, const attention_case *c, gm_error *err) {
    const attention_shape *s = c->shape;
    const bool decode = s->T == 1;
    double heads = (double)(s->B * s->H), q = 4 * heads * (double)(s->T * s->D), kv = cache_bytes(s);
    gm_job job = {.shape = c, .setup = attention_setup, .run = attention_run};
    job.quick = s->every_quick || (s->one_quick && strcmp(c->variant, "softmax1") == 0);
    job.work.flops = heads * pairs_of(s) * (double)s->D * (c->backward ? 10 : 4);
    job.work.read = c->backward ? 3 * q + kv : q + kv; /* q, o, dout */
    job.work.written = c->backward ? q + kv : q;
    if (decode)
        job.work.footprint = kv * gm_bench_copies(kv);
    int used = snprintf(job.name, sizeof job.name, "%s %s", c->variant, decode ? "decode" : c->backward ? "backward" : "forward");
    if (decode)
        used += snprintf(job.name + used, sizeof job.name - (size_t)used, " over %lld D=%lld H=%lld", (long long)s->S, (long long)s->D,
                         (long long)s->H);
    else
        used += snprintf(job.name + used, sizeof job.name - (size_t)used, " B=%lld T=%lld D=%lld H=%lld", (long long)s->B, (long long)s->T,
                         (long long)s->D, (long long)s->H);
    if (s->KV != s->H)
        used += snprintf(job.name + used, sizeof job.name - (size_t)used, " KV=%lld", (long long)s->KV);
    snprintf(job.name + used, sizeof job.name - (size_t)used, "%s", s->full ? " full" : "");
    return gm_bench_measure(b, &job, err);
}

gm_status gm_bench_attention(gm_bench *b, gm_error *err) {
    static const char *const variants[] = {"softmax", "softmax1", "sink", "clipped", "gated"};
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int backward_too = 0; backward_too < (shapes[s].T == 1 ? 1 : 2); backward_too++) {
            for (int v = 0; v < GM_COUNT(variants); v++)
                GM_TRY(attention_line(b, &(attention_case){&shapes[s], variants[v], backward_too}, err));
        }
    }
    return GM_OK;
}
