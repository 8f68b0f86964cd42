/* bench_int8.c -- linear layers on 8-bit integers, at the presets' shapes: a training batch's rows, and one row as in decoding. */
#include "bench.h"
#include "ops.h"

#include <string.h>

typedef struct int8_shape {
    int64_t R, in, out;
} int8_shape;

typedef struct int8_state {
    const gm_ctx *ctx;
    int8_shape shape;
    gm_linear_int8 *layers; /* copies, gone through in turn */
    uint8_t *x;
    int64_t stride;
    gm_int8_result y;
    int copies, turn;
} int8_state;

static double weight_bytes(const int8_shape *s) {
    return (double)s->in * (double)s->out;
}

static void *int8_setup(gm_bench *b, const void *shape) {
    int8_state *s = gm_bench_bytes(b, sizeof *s);
    if (!s)
        return NULL;
    *s = (int8_state){.ctx = b->ctx, .shape = *(const int8_shape *)shape};
    const int8_shape *p = &s->shape;
    const gm_quant_grid grid = gm_quant_asymmetric(8, -1, 1);
    const size_t bytes = gm_linear_int8_bytes(p->in, p->out);
    s->copies = p->R > 1 ? 1 : gm_bench_copies(weight_bytes(p));
    s->stride = gm_int8_row(p->in);
    s->x = gm_bench_bytes(b, (size_t)(p->R * s->stride));
    s->y = (gm_int8_result){.f32 = gm_bench_floats(b, p->R * p->out), .stride = p->out, .act = GM_INT8_NO_ACT};
    s->layers = gm_bench_bytes(b, (size_t)s->copies * sizeof *s->layers);
    int8_t *w = gm_bench_bytes(b, (size_t)(p->in * p->out));
    float *scale = gm_bench_floats(b, p->out);
    uint8_t *memory = gm_bench_bytes(b, bytes * (size_t)s->copies);
    if (!s->x || !s->y.f32 || !s->layers || !w || !scale || !memory)
        return NULL;
    for (int64_t i = 0; i < p->R * s->stride; i++)
        s->x[i] = (uint8_t)(i * 37);
    for (int64_t i = 0; i < p->in * p->out; i++)
        w[i] = (int8_t)(i * 53);
    for (int i = 0; i < s->copies; i++)
        gm_linear_int8_pack(&s->layers[i], memory + (size_t)i * bytes, w, scale, NULL, p->in, p->out, grid);
    return s;
}

static void int8_run(void *state) {
    int8_state *s = state;
    const gm_int8_product p = {.l = &s->layers[s->turn++ % s->copies], .y = s->y};
    gm_linear_int8_fwd(s->ctx, &p, 1, s->x, s->stride, s->shape.R);
}

static gm_status int8_line(gm_bench *b, const char *preset, const char *layer, const int8_shape *p, gm_error *err) {
    gm_job job = {.quick = strcmp(preset, "gpt2-mini") == 0 || strcmp(preset, "gpt2-small") == 0, .shape = p};
    double R = (double)p->R, weights = weight_bytes(p);
    job.setup = int8_setup;
    job.run = int8_run;
    job.work = (gm_work){.int_ops = 2 * R * weights, .read = R * (double)p->in + weights, .written = 4 * R * (double)p->out};
    if (p->R == 1)
        job.work.footprint = weights * gm_bench_copies(weights);
    snprintf(job.name, sizeof job.name, "%s %s, %lld x %lld x %lld", preset, layer, (long long)p->R, (long long)p->out, (long long)p->in);
    return gm_bench_measure(b, &job, err);
}

gm_status gm_bench_int8(gm_bench *b, gm_error *err) {
    const gm_bench_model *m;
    for (int i = 0; (m = gm_bench_model_at(i)); i++) {
        gm_model_config c;
        gm_bench_model_config(&c, m);
        const int64_t rows[] = {m->batch * m->context, 1}, HD = c.heads * c.head_dim, F1 = c.act == GM_ACT_SWIGLU ? 2 * c.ffn : c.ffn;
        for (int r = 0; r < GM_COUNT(rows); r++) {
            GM_TRY(int8_line(b, m->preset, "qkv", &(int8_shape){rows[r], c.width, HD + 2 * c.kv_heads * c.head_dim}, err));
            GM_TRY(int8_line(b, m->preset, "out", &(int8_shape){rows[r], HD, c.width}, err));
            GM_TRY(int8_line(b, m->preset, "ffn up", &(int8_shape){rows[r], c.width, F1}, err));
            GM_TRY(int8_line(b, m->preset, "ffn down", &(int8_shape){rows[r], c.ffn, c.width}, err));
        }
    }
    return GM_OK;
}
