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

/* What the variants of a shape share: the same numbers at the same addresses. */
typedef struct attention_data {
    const gm_ctx *ctx;
    const attention_shape *sizes;
    gm_attention_shape shape;
    bool backward;
    float *qkv, *sinks, *dout, *dqkv, *dsinks;
    void *scratch;
    int64_t copy; /* floats from one copy of the cache to the next */
    int copies;
} attention_data;

typedef struct attention_state {
    const attention_data *data;
    gm_norm norm;
    gm_variant variant;
    float *o, *lse;
    float *x, *dx, *gate, *gated, *gate_work, *w, *dw; /* gated only */
    gm_gate_shape gate_shape;
    int turn;
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
static bool data_memory(attention_data *d, gm_bench *b) {
    const attention_shape *s = d->sizes;
    const int64_t R = s->B * s->T, HD = s->H * s->D, row = (s->H + 2 * s->KV) * s->D;
    const bool decode = s->T == 1;
    d->shape = (gm_attention_shape){.B = s->B, .T = s->T, .S = s->S, .H = s->H, .KV = s->KV, .D = s->D, .causal = !s->full, .q_row = row};
    d->shape.kv_row = decode ? 2 * s->KV * s->D : row;
    d->copy = decode ? s->B * s->S * 2 * s->KV * s->D : 0;
    d->copies = decode ? gm_bench_copies(cache_bytes(s)) : 1;
    d->qkv = gm_bench_floats(b, R * row + d->copy * d->copies);
    d->sinks = gm_bench_floats(b, s->H);
    d->scratch = gm_bench_bytes(b, gm_attention_scratch_bytes(d->ctx, &d->shape, d->backward));
    bool ok = d->qkv && d->sinks && d->scratch;
    if (d->backward) {
        d->dout = gm_bench_floats(b, R * HD);
        d->dqkv = gm_bench_floats(b, R * row);
        d->dsinks = gm_bench_floats(b, s->H);
        ok = ok && d->dout && d->dqkv && d->dsinks;
    }
    return ok;
}

static bool variant_memory(attention_state *a, gm_bench *b) {
    const attention_shape *s = a->data->sizes;
    const int64_t R = s->B * s->T, HD = s->H * s->D;
    a->o = gm_bench_floats(b, R * HD);
    a->lse = gm_bench_floats(b, R * s->H);
    bool ok = a->o && a->lse;
    if (a->variant.gate != GM_GATE_NONE) {
        a->gate_shape = (gm_gate_shape){.kind = (int)a->variant.gate, .R = R, .C = HD, .H = s->H, .D = s->D};
        a->x = gm_bench_floats(b, R * HD);
        a->gate = gm_bench_floats(b, R * s->H);
        a->gated = gm_bench_floats(b, R * HD);
        a->w = gm_bench_floats(b, HD + s->H); /* weights, then biases */
        a->dx = a->data->backward ? gm_bench_floats(b, R * HD) : a->x;
        a->dw = a->data->backward ? gm_bench_floats(b, HD + s->H) : a->w;
        a->gate_work = gm_bench_floats(b, R * s->H);
        ok = ok && a->x && a->gate && a->gated && a->w && a->dx && a->dw && a->gate_work;
    }
    return ok;
}

static void forward(void *state) {
    attention_state *a = state;
    const attention_data *d = a->data;
    const attention_shape *s = d->sizes;
    const int64_t HD = s->H * s->D;
    const float *k = d->qkv + HD;
    if (s->T == 1)
        k = d->qkv + (s->H + 2 * s->KV) * s->D * s->B + a->turn++ % d->copies * d->copy;
    gm_attention_fwd(d->ctx, a->o, a->lse, d->qkv, k, k + s->KV * s->D, a->variant.sink == GM_SINK_LEARNED ? d->sinks : NULL, a->norm,
                     &d->shape, d->scratch, NULL);
    if (a->gate) {
        gm_gate_fwd(d->ctx, a->gate, NULL, a->x, a->w, a->w + HD, NULL, NULL, &a->gate_shape);
        gm_gate_apply(d->ctx, a->gated, a->o, a->gate, &a->gate_shape);
    }
}

static void backward(void *state) {
    attention_state *a = state;
    const attention_data *d = a->data;
    const int64_t HD = d->sizes->H * d->sizes->D, KD = d->sizes->KV * d->sizes->D;
    const float *dout = d->dout, *q = d->qkv, *k = q + HD, *v = k + KD;
    if (a->gate) {
        gm_gate_bwd(d->ctx, a->gated, a->dx, a->dw, a->dw + HD, NULL, NULL, dout, a->o, a->gate, NULL, a->x, a->w, NULL, &a->gate_shape,
                    a->gate_work);
        dout = a->gated;
    }
    bool sinks = a->variant.sink == GM_SINK_LEARNED;
    gm_attention_bwd(d->ctx, d->dqkv, d->dqkv + HD, d->dqkv + HD + KD, sinks ? d->dsinks : NULL, dout, q, k, v, a->o, a->lse,
                     sinks ? d->sinks : NULL, a->norm, &d->shape, d->scratch, NULL);
}

static void attention_name(char *dst, size_t n, const char *variant, const attention_data *d) {
    const attention_shape *s = d->sizes;
    int used = snprintf(dst, n, "%s %s", variant, s->T == 1 ? "decode" : d->backward ? "backward" : "forward");
    if (s->T == 1)
        used += snprintf(dst + used, n - (size_t)used, " over %lld", (long long)s->S);
    else
        used += snprintf(dst + used, n - (size_t)used, " B=%lld T=%lld", (long long)s->B, (long long)s->T);
    used += snprintf(dst + used, n - (size_t)used, " D=%lld H=%lld", (long long)s->D, (long long)s->H);
    if (s->KV != s->H)
        used += snprintf(dst + used, n - (size_t)used, " KV=%lld", (long long)s->KV);
    snprintf(dst + used, n - (size_t)used, "%s", s->full ? " full" : "");
}

static gm_work attention_work(const attention_data *d) {
    const attention_shape *s = d->sizes;
    double heads = (double)(s->B * s->H), q = 4 * heads * (double)(s->T * s->D), kv = cache_bytes(s);
    gm_work work = {.flops = heads * pairs_of(s) * (double)s->D * (d->backward ? 10 : 4)};
    work.read = d->backward ? 3 * q + kv : q + kv; /* q, o, dout */
    work.written = d->backward ? q + kv : q;
    if (s->T == 1)
        work.footprint = kv * gm_bench_copies(kv);
    return work;
}

/* The variants of one shape, forward or backward, take turns with softmax, which the first of them is: what one costs over it is some
 * percent, less than the machine changes from one line to the next. */
static gm_status attention_lines(gm_bench *b, const attention_shape *sizes, bool is_backward, gm_error *err) {
    static const char *const variants[] = {"softmax", "softmax1", "sink", "clipped", "gated"};
    enum { VARIANTS = GM_COUNT(variants) };
    attention_data d = {.ctx = b->ctx, .sizes = sizes, .backward = is_backward};
    attention_state states[VARIANTS] = {0};
    gm_call calls[VARIANTS];
    const char *names[VARIANTS];
    char name[72];
    int count = 0;
    bool softmax_wanted = false;
    for (int v = 0; v < VARIANTS; v++) {
        attention_name(name, sizeof name, variants[v], &d);
        bool quick = sizes->every_quick || (sizes->one_quick && strcmp(variants[v], "softmax1") == 0);
        bool wanted = gm_bench_wanted(b, name, quick);
        softmax_wanted = softmax_wanted || (v == 0 && wanted);
        if (v == 0 || wanted)
            names[count++] = variants[v];
    }
    if (count == 1 && !softmax_wanted)
        return GM_OK;
    bool ok = data_memory(&d, b);
    for (int i = 0; i < count && ok; i++) {
        states[i] = (attention_state){.data = &d, .variant = variant_of(names[i])};
        states[i].norm = gm_variant_norm(&states[i].variant, sizes->S);
        calls[i] = (gm_call){is_backward ? backward : forward, &states[i]};
        ok = variant_memory(&states[i], b);
        if (ok && is_backward)
            forward(&states[i]);
    }
    gm_samples samples[VARIANTS];
    gm_ratio ratios[VARIANTS];
    gm_timing timing = b->timing;
    timing.budget_s *= count;
    if (ok)
        gm_samples_in_turn(samples, ratios, calls, count, timing);
    gm_bench_release(b);
    if (!ok)
        return gm_fail_memory(err, (size_t)cache_bytes(sizes));
    const gm_work work = attention_work(&d);
    for (int i = softmax_wanted ? 0 : 1; i < count && !b->stopped; i++) {
        gm_bench_extra extra = {0};
        if (i > 0)
            extra.over_softmax = ratios[i];
        attention_name(name, sizeof name, names[i], &d);
        GM_TRY(gm_bench_line_add(b, name, b->ctx->threads, &samples[i], &work, extra, err));
    }
    return GM_OK;
}

gm_status gm_bench_attention(gm_bench *b, gm_error *err) {
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        GM_TRY(attention_lines(b, &shapes[s], false, err));
        if (shapes[s].T > 1)
            GM_TRY(attention_lines(b, &shapes[s], true, err));
    }
    return GM_OK;
}
