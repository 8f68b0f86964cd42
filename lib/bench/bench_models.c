/* bench_models.c -- whole models: a training step with the share of its parts, a forward pass, one token after a cache.
 *
 * A step's limit is the products' alone: what everything else costs is the distance to it. Its parts have limits of their own. Gradients,
 * moments and weights are those of the preset at its full size; what they hold does not matter to the time. */
#include "bench.h"
#include "ops.h"
#include "optimizer.h"
#include "parallel.h"
#include "quant.h"

#include <math.h>
#include <string.h>

static const char *const part_names[] = {
#define GM_PHASE(PHASE, name) name,
    GM_PHASES(GM_PHASE)
#undef GM_PHASE
};

static int64_t linear_parameters(const gm_model_config *c) {
    const int64_t HD = c->heads * c->head_dim, F1 = c->act == GM_ACT_SWIGLU ? 2 * c->ffn : c->ffn;
    return c->layers * (c->width * (HD + 2 * c->kv_heads * c->head_dim) + HD * c->width + c->width * F1 + c->ffn * c->width);
}

static gm_status make_model(gm_model **m, const gm_ctx *ctx, const gm_model_config *c, gm_error *err) {
    GM_TRY(gm_model_allocate(m, ctx, c, err));
    gm_bench_fill((*m)->weights, (*m)->param_elements, 0.02f);
    return GM_OK;
}

/* ---- a training step ------------------------------------------------------------------------------------------------------------ */

enum { STEPS_MAX = 32 };

typedef struct step_state {
    gm_model *model;
    gm_train_options options;
    float *moment1, *moment2;
    int32_t *tokens;
    int64_t B, T, t;
    gm_phase_clock clock;
} step_state;

/* What training does between two batches (train.c's train_step). */
static gm_status step(step_state *s, gm_error *err) {
    gm_model *m = s->model;
    double loss = 0;
    s->clock = (gm_phase_clock){.last = gm_seconds()};
    gm_model_zero_grads(m);
    gm_phase_lap(&s->clock, GM_PHASE_OPTIMIZER);
    GM_TRY(gm_model_accumulate(m, s->tokens, s->tokens + 1, s->B, s->T, 1.0f / (float)(s->B * s->T), 1, &loss, err));
    gm_optimizer_step(m, s->moment1, s->moment2, &s->options, sqrt(gm_sum_squares(m->ctx, m->grads, m->param_elements)), 1e-4, ++s->t);
    gm_phase_lap(&s->clock, GM_PHASE_OPTIMIZER);
    return GM_OK;
}

static void part_work(gm_work *work, const gm_model_config *c, int64_t B, int64_t T, double parameters) {
    const double R = (double)(B * T), L = (double)c->layers, stream = 4 * R * (double)c->width, ffn = 4 * R * (double)c->ffn;
    const bool glu = c->act == GM_ACT_SWIGLU;
    const double pairs = (double)(B * c->heads * c->head_dim) * (double)T * (double)(T + 1) / 2;
    const double norms = 2 * L + 1;
    /* The places that a part goes over again and again are those of a group of sequences. */
    const double near = (double)gm_model_group(c, (int64_t)parameters, B, T, true) / (double)B;
    work[GM_PHASE_EMBEDDING] = (gm_work){.read = 2 * stream, .written = stream, .footprint = near * 2 * stream};
    work[GM_PHASE_LINEAR] = (gm_work){.flops = 6 * R * (double)linear_parameters(c)};
    work[GM_PHASE_ATTENTION] = (gm_work){.flops = L * 14 * pairs};
    work[GM_PHASE_NORM] = (gm_work){.read = norms * 3 * stream, .written = norms * stream, .updated = norms * stream};
    work[GM_PHASE_NORM].footprint = near * 3 * stream;
    work[GM_PHASE_ACTIVATION] = (gm_work){.read = L * (glu ? 5 : 3) * ffn, .written = L * (glu ? 3 : 2) * ffn, .footprint = near * 2 * ffn};
    work[GM_PHASE_RESIDUAL] = (gm_work){.read = L * 4 * stream, .written = L * 2 * stream, .footprint = near * 3 * stream};
    work[GM_PHASE_HEAD] = (gm_work){.flops = 6 * R * (double)(c->vocab * c->width)};
    /* AdamW, the norm, the zeros */
    work[GM_PHASE_OPTIMIZER] = (gm_work){.read = 8 * parameters, .written = 4 * parameters, .updated = 12 * parameters};
    work[GM_PHASE_OPTIMIZER].footprint = 16 * parameters;
}

static gm_status step_begin(gm_bench *b, step_state *s, const gm_model_config *c, gm_error *err) {
    GM_TRY(make_model(&s->model, b->ctx, c, err));
    GM_TRY(gm_model_train_begin(s->model, s->B, s->T, err));
    gm_train_defaults(&s->options);
    s->moment1 = gm_bench_bytes(b, (size_t)s->model->param_elements * sizeof(float));
    s->moment2 = gm_bench_bytes(b, (size_t)s->model->param_elements * sizeof(float));
    s->tokens = gm_bench_bytes(b, (size_t)(s->B * s->T + 1) * sizeof *s->tokens);
    if (!s->moment1 || !s->moment2 || !s->tokens)
        return gm_fail_memory(err, 2 * (size_t)s->model->param_elements * sizeof(float));
    for (int64_t i = 0; i <= s->B * s->T; i++)
        s->tokens[i] = (int32_t)(i * 7 % c->vocab);
    s->model->clock = &s->clock;
    return GM_OK;
}

/* The steps' times, and each part's. */
static gm_status step_samples(const gm_bench *b, step_state *s, gm_samples *whole, gm_samples *part, gm_error *err) {
    double seconds[GM_PHASE_COUNT + 1][STEPS_MAX];
    int count = 0;
    GM_TRY(step(s, err));
    double start = gm_seconds();
    while (count < STEPS_MAX && (count < b->timing.least || gm_seconds() - start < 4 * b->timing.budget_s)) {
        double begin = gm_seconds();
        GM_TRY(step(s, err));
        seconds[GM_PHASE_COUNT][count] = gm_seconds() - begin;
        for (int p = 0; p < GM_PHASE_COUNT; p++)
            seconds[p][count] = s->clock.seconds[p];
        count++;
    }
    *whole = gm_samples_of(seconds[GM_PHASE_COUNT], count);
    for (int p = 0; p < GM_PHASE_COUNT; p++)
        part[p] = gm_samples_of(seconds[p], count);
    return GM_OK;
}

static gm_status step_lines(gm_bench *b, const gm_bench_model *model, gm_error *err) {
    gm_model_config c;
    gm_model_size size;
    char whole_name[72], name[GM_PHASE_COUNT][72];
    bool wanted[GM_PHASE_COUNT];
    gm_bench_model_config(&c, model);
    gm_model_config_size(&size, &c, model->batch, model->context);
    snprintf(whole_name, sizeof whole_name, "%s, %lld x %lld tokens", model->preset, (long long)model->batch, (long long)model->context);
    const bool whole_wanted = gm_bench_wanted(b, whole_name, model->quick);
    bool any = whole_wanted;
    for (int p = 0; p < GM_PHASE_COUNT; p++) {
        snprintf(name[p], sizeof name[p], "%s: %s", model->preset, part_names[p]);
        wanted[p] = gm_bench_wanted(b, name[p], model->quick);
        any = any || wanted[p];
    }
    if (!any || !gm_bench_fits(b, whole_name, (double)size.train_bytes))
        return GM_OK;

    step_state s = {.B = model->batch, .T = model->context};
    gm_samples whole, part[GM_PHASE_COUNT];
    gm_status status = step_begin(b, &s, &c, err);
    if (status == GM_OK)
        status = step_samples(b, &s, &whole, part, err);
    gm_model_free(s.model);
    gm_bench_release(b);
    gm_work work[GM_PHASE_COUNT], products = {0};
    part_work(work, &c, s.B, s.T, (double)size.parameters);
    for (int p = 0; p < GM_PHASE_COUNT; p++)
        products.flops += work[p].flops;
    if (status == GM_OK && whole_wanted)
        status = gm_bench_line_add(b, whole_name, b->ctx->threads, &whole, &products, (gm_bench_extra){.tokens = (double)(s.B * s.T)}, err);
    for (int p = 0; p < GM_PHASE_COUNT && status == GM_OK; p++) {
        if (wanted[p])
            status = gm_bench_line_add(b, name[p], b->ctx->threads, &part[p], &work[p],
                                       (gm_bench_extra){.share = part[p].median / whole.median}, err);
    }
    return status;
}

gm_status gm_bench_step(gm_bench *b, gm_error *err) {
    const gm_bench_model *model;
    for (int i = 0; (model = gm_bench_model_at(i)); i++)
        GM_TRY(step_lines(b, model, err));
    return GM_OK;
}

/* ---- a forward pass with its loss, and one token after a cache: in f32, and on integers ------------------------------------------- */

typedef enum precision { F32, INT8, INT8_HEAD, PRECISIONS } precision; /* INT8: the head in f32, as published */
static const char *const precision_names[PRECISIONS] = {"f32", "int8", "int8-head"};
typedef enum pass_kind { FORWARD, BLOCKS, TOKEN } pass_kind; /* with its loss; without the head; one token after a cache */

typedef struct pass_shape {
    const gm_bench_model *model;
    pass_kind kind;
    precision precision;
    int64_t B, T;
    int64_t cached;
} pass_shape;

typedef struct pass_state {
    pass_shape shape;
    gm_model *f32, *model; /* what is run */
    gm_data *data;
    gm_quantized *quantized; /* NULL: f32 */
    gm_decoder *decoder;     /* BLOCKS, TOKEN */
    float *logits;
    int32_t *tokens;
} pass_state;

static void pass_end(pass_state *s) {
    gm_decoder_free(s->decoder);
    gm_quantized_free(s->quantized);
    gm_data_free(s->data);
    gm_model_free(s->f32);
}

/* The model on integers. Any data gives it grids; the time does not depend on which. */
static gm_status take_over(pass_state *s, const gm_model_config *c, gm_error *err) {
    gm_quant_options options;
    gm_quant_defaults(&options);
    options.calibration_batches = options.calibration_batch = options.sequences = 1;
    if (s->shape.precision == INT8_HEAD)
        options.head = options.weights;
    GM_TRY(gm_data_open(&s->data, &(gm_data_options){.source = "bb", .context = GM_MIN(c->context, 64)}, err));
    GM_TRY(gm_quantized_make(&s->quantized, s->f32, s->data, &options, err));
    s->model = gm_quantized_model(s->quantized);
    return gm_quantized_mode(s->quantized, GM_QUANT_EXECUTED, err);
}

static gm_status pass_begin(gm_bench *b, pass_state *s, const gm_model_config *c, gm_error *err) {
    const pass_shape *p = &s->shape;
    const int64_t count = p->B * p->T + 1 + p->cached;
    GM_TRY(make_model(&s->f32, b->ctx, c, err));
    s->model = s->f32;
    if (p->precision != F32)
        GM_TRY(take_over(s, c, err));
    s->logits = gm_bench_floats(b, c->vocab);
    s->tokens = gm_bench_bytes(b, (size_t)count * sizeof *s->tokens);
    if (!s->logits || !s->tokens)
        return gm_fail_memory(err, (size_t)c->vocab * sizeof(float));
    for (int64_t i = 0; i < count; i++)
        s->tokens[i] = (int32_t)(i * 7 % c->vocab);
    if (p->kind == FORWARD)
        return GM_OK;
    GM_TRY(gm_decoder_create(&s->decoder, s->model, p->cached + p->T, err));
    return p->cached ? gm_decoder_feed(s->decoder, s->tokens, p->cached, NULL, err) : GM_OK;
}

static void pass_run(void *state) {
    pass_state *s = state;
    const pass_shape *p = &s->shape;
    double loss;
    if (p->kind == FORWARD) {
        gm_model_loss(s->model, s->tokens, s->tokens + 1, p->B, p->T, &loss, NULL, NULL);
        return;
    }
    gm_decoder_rewind(s->decoder, p->cached);
    gm_decoder_feed(s->decoder, s->tokens + p->cached, p->T, p->kind == TOKEN ? s->logits : NULL, NULL);
}

/* Products in the type that they are computed in, and every weight and cached value read once in the type that it is kept in. */
static gm_work pass_work(const pass_shape *p, const gm_model_config *c) {
    const double R = (double)(p->B * p->T), L = (double)c->layers, HD = (double)(c->heads * c->head_dim);
    const double pairs = R * ((double)p->cached + (double)(p->T + 1) / 2);
    const double products = R * (double)linear_parameters(c) + 2 * L * HD * pairs;
    const double head = p->kind == BLOCKS ? 0 : (double)(c->vocab * c->width);
    const double cache = p->kind == TOKEN ? L * (double)((p->cached + 1) * 2 * c->kv_heads * c->head_dim) : 0;
    const bool blocks_int8 = p->precision != F32, head_int8 = p->precision == INT8_HEAD;
    gm_work work = {.flops =
                        (blocks_int8 ? 0 : 2 * products) + (head_int8 ? 0 : 2 * R * head) + GM_EXP_FLOPS * L * (double)c->heads * pairs,
                    .int_ops = (blocks_int8 ? 2 * products : 0) + (head_int8 ? 2 * R * head : 0)};
    work.read = (blocks_int8 ? 1 : 4) * ((double)linear_parameters(c) + cache) + (head_int8 ? 1 : 4) * head;
    return work;
}

/* The bytes of a token, only read: memory's pace on a machine that others share changes from second to second, so a token's limit is
 * measured between its samples. */
typedef struct reading {
    const gm_ctx *ctx;
    float *from, sum;
    int64_t n;
} reading;

static void read_all(void *state) {
    reading *r = state;
#pragma omp parallel num_threads(r->ctx->threads)
    {
        gm_range mine = gm_range_mine(r->n);
        float sum = r->ctx->k->f32_peak_read(r->from + mine.begin, mine.size, 1);
        if (sum < 0)
            r->sum = sum; /* never: they are 1 */
    }
}

static gm_status pass_samples(gm_bench *b, pass_state *s, gm_samples *samples, gm_work *work, gm_error *err) {
    if (s->shape.kind != TOKEN) {
        *samples = gm_samples_take(pass_run, s, b->timing);
        return GM_OK;
    }
    reading r = {.ctx = b->ctx, .n = (int64_t)(work->read / sizeof(float))};
    gm_samples two[2];
    r.from = gm_bench_bytes(b, (size_t)r.n * sizeof(float));
    if (!r.from)
        return gm_fail_memory(err, (size_t)work->read);
    for (int64_t i = 0; i < r.n; i++) /* untouched pages would all be the same page of zeros */
        r.from[i] = 1;
    gm_samples_in_turn(two, NULL, (gm_call[]){{pass_run, s}, {read_all, &r}}, 2, b->timing);
    *samples = two[0];
    work->read_s = two[1].median;
    return GM_OK;
}

static void pass_name(char *dst, size_t n, const pass_shape *p) {
    int used = snprintf(dst, n, "%s %s", p->model->preset, precision_names[p->precision]);
    if (p->kind == TOKEN)
        snprintf(dst + used, n - (size_t)used, " after %lld tokens", (long long)p->cached);
    else
        snprintf(dst + used, n - (size_t)used, "%s, %lld x %lld tokens", p->kind == BLOCKS ? " blocks" : "", (long long)p->B,
                 (long long)p->T);
}

/* *f32_s: of the same pass in f32, set by it; 0: it was not measured. */
static gm_status pass_line(gm_bench *b, const pass_shape *shape, double *f32_s, gm_error *err) {
    const gm_bench_model *model = shape->model;
    gm_model_config c;
    gm_model_size size;
    char name[72];
    gm_bench_model_config(&c, model);
    gm_model_config_size(&size, &c, 1, c.context);
    pass_name(name, sizeof name, shape);
    if (!gm_bench_wanted(b, name, model->quick) || !gm_bench_fits(b, name, 3.5 * (double)size.parameter_bytes))
        return GM_OK;
    pass_state s = {.shape = *shape};
    gm_samples samples;
    gm_work work = pass_work(shape, &c);
    gm_status status = pass_begin(b, &s, &c, err);
    if (status == GM_OK)
        status = pass_samples(b, &s, &samples, &work, err);
    if (status == GM_OK) {
        gm_bench_extra extra = {.tokens = (double)(shape->B * shape->T), .memory_bytes = (double)size.parameter_bytes};
        if (s.quantized) {
            size_t bytes, f32_bytes;
            gm_quantized_bytes(s.quantized, &bytes, &f32_bytes);
            extra.memory_bytes = (double)bytes;
            extra.memory_share = (double)bytes / (double)f32_bytes;
            extra.speedup = *f32_s / samples.median;
        } else {
            *f32_s = samples.median;
        }
        status = gm_bench_line_add(b, name, b->ctx->threads, &samples, &work, extra, err);
    }
    pass_end(&s);
    gm_bench_release(b);
    return status;
}

static gm_status pass_lines(gm_bench *b, pass_kind kind, const gm_bench_model *m, gm_error *err) {
    enum { TOKENS = 256 };
    gm_model_config c;
    gm_bench_model_config(&c, m);
    pass_shape shape = {.model = m, .kind = kind, .B = 1, .T = 1};
    double f32_s = 0;
    if (kind == TOKEN)
        shape.cached = GM_MIN(c.context, 1024) * 3 / 4;
    else
        shape.T = GM_MIN(c.context, TOKENS);
    if (kind == FORWARD)
        shape.B = TOKENS / shape.T;
    for (shape.precision = F32; shape.precision < (kind == BLOCKS ? INT8_HEAD : PRECISIONS); shape.precision++)
        GM_TRY(pass_line(b, &shape, &f32_s, err));
    return GM_OK;
}

gm_status gm_bench_forward(gm_bench *b, gm_error *err) {
    const gm_bench_model *m;
    for (int i = 0; (m = gm_bench_model_at(i)); i++) {
        GM_TRY(pass_lines(b, BLOCKS, m, err));
        GM_TRY(pass_lines(b, FORWARD, m, err));
    }
    return GM_OK;
}

gm_status gm_bench_decode(gm_bench *b, gm_error *err) {
    const gm_bench_model *m;
    for (int i = 0; (m = gm_bench_model_at(i)); i++)
        GM_TRY(pass_lines(b, TOKEN, m, err));
    return GM_OK;
}
