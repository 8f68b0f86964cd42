/* bench_kernels.c -- single kernel slots on one thread, on data that stays in the first-level cache: what they reach when nothing but
 * themselves is in their way. */
#include "bench.h"

typedef struct kernel_state {
    const gm_kernels *k;
    float *a, *b, *c, *d;
    uint8_t *bytes;
    int32_t *sums;
} kernel_state;

enum { ROW = 1024, KEYS = 64, HEAD = 64, DEPTH = 256, INT8_DEPTH = 512, WORDS = 1024, ARRAY = 1 << 14 };

static void run_dot(void *state) {
    kernel_state *s = state;
    s->c[0] += s->k->f32_dot(s->a, s->b, ROW);
}
static void run_transpose(void *state) {
    kernel_state *s = state;
    s->k->f32_transpose(s->c, 32, s->a, DEPTH, 32, DEPTH);
}
static void run_int8_tile(void *state) {
    kernel_state *s = state;
    s->k->u8s8_gemm_tile(s->sums, s->bytes, INT8_DEPTH, GM_INT8_M, (const int8_t *)s->bytes + GM_INT8_M * INT8_DEPTH, INT8_DEPTH / 4);
}
static void run_mm(void *state) {
    kernel_state *s = state;
    s->k->f32_mm(s->c, GM_LANES, s->a, HEAD, 1, s->b, GM_LANES, KEYS, GM_LANES, HEAD, false);
}
static void run_lanes_fwd(void *state) {
    kernel_state *s = state;
    float sinks[GM_LANES] = {0}, lse[GM_LANES];
    s->k->f32_lanes_fwd(s->a, KEYS, GM_LANES, sinks, 1, 0, lse); /* weights become scores: as good as any */
}
static void run_lanes_bwd(void *state) {
    kernel_state *s = state;
    float lse[GM_LANES], dsum[GM_LANES] = {0};
    for (int i = 0; i < GM_LANES; i++)
        lse[i] = 4;
    s->k->f32_lanes_bwd(s->a, s->b, KEYS, GM_LANES, lse, dsum, 1, 0, 0.125f);
}
static void run_norm_row(void *state) {
    kernel_state *s = state;
    s->k->f32_norm_row_fwd(s->c, NULL, s->a, ROW, 0, 1, 0);
}
static void run_layer_norm(void *state) {
    kernel_state *s = state;
    float stat[2];
    s->k->f32_layernorm_row_fwd(s->c, stat, s->a, s->b, s->b, ROW, 1e-5f, false);
}
static void run_gelu(void *state) {
    kernel_state *s = state;
    s->k->f32_gelu_tanh_fwd(s->c, s->a, ROW);
}
static void run_cross_entropy(void *state) {
    kernel_state *s = state;
    s->k->f32_cross_entropy_row(s->c, s->a, WORDS, 7, 1);
}
static void run_adamw(void *state) {
    kernel_state *s = state;
    s->k->f32_adamw(s->a, s->b, s->c, s->d, ROW, 1, 0.1f, 0.01f, 1e-3f, 1, 1e-8f, 1e-4f);
}
static void run_quantize(void *state) {
    kernel_state *s = state;
    s->k->f32_quantize_u8(s->bytes, s->a, ROW, 1 / 127.0f, 128, 255);
}

static void *kernel_setup(gm_bench *b, const void *shape) {
    (void)shape;
    kernel_state *s = gm_bench_bytes(b, sizeof *s);
    if (!s)
        return NULL;
    *s = (kernel_state){.k = b->ctx->k};
    s->a = gm_bench_floats(b, ARRAY);
    s->b = gm_bench_floats(b, ARRAY);
    s->c = gm_bench_floats(b, ARRAY);
    s->d = gm_bench_floats(b, ARRAY);
    s->bytes = gm_bench_bytes(b, (GM_INT8_M + GM_INT8_N) * INT8_DEPTH);
    s->sums = gm_bench_bytes(b, GM_INT8_M * GM_INT8_N * sizeof *s->sums);
    if (!s->a || !s->b || !s->c || !s->d || !s->bytes || !s->sums)
        return NULL;
    for (int i = 0; i < ROW; i++)
        s->d[i] *= s->d[i];
    for (int i = 0; i < (GM_INT8_M + GM_INT8_N) * INT8_DEPTH; i++)
        s->bytes[i] = (uint8_t)(i * 37);
    return s;
}

gm_status gm_bench_kernels(gm_bench *b, gm_error *err) {
    static const struct {
        const char *slot, *what;
        void (*run)(void *);
        double flops, int_ops, read, written, updated;
    } slots[] = {
        {"f32_transpose", "32 x 256", run_transpose, 0, 0, 4.0 * 32 * DEPTH, 4.0 * 32 * DEPTH, 0},
        {"u8s8_gemm_tile", "32 x 32 x 512", run_int8_tile, 0, 2.0 * GM_INT8_M * GM_INT8_N * INT8_DEPTH,
         1.0 * (GM_INT8_M + GM_INT8_N) * INT8_DEPTH, 4.0 * GM_INT8_M * GM_INT8_N, 0},
        {"f32_mm", "64 keys x 32 queries x 64", run_mm, 2.0 * KEYS * GM_LANES * HEAD, 0, 4.0 * HEAD * (KEYS + GM_LANES),
         4.0 * KEYS * GM_LANES, 0},
        {"f32_lanes_fwd", "64 keys x 32 queries", run_lanes_fwd, (GM_EXP_FLOPS + 4) * KEYS * GM_LANES, 0, 0, 0, 4.0 * KEYS * GM_LANES},
        {"f32_lanes_bwd", "64 keys x 32 queries", run_lanes_bwd, (GM_EXP_FLOPS + 4) * KEYS * GM_LANES, 0, 0, 0, 8.0 * KEYS * GM_LANES},
        {"f32_norm_row_fwd", "1024", run_norm_row, (GM_EXP_FLOPS + 4) * ROW, 0, 4.0 * ROW, 4.0 * ROW, 0},
        {"f32_layernorm_row_fwd", "1024", run_layer_norm, 7.0 * ROW, 0, 12.0 * ROW, 4.0 * ROW, 0},
        {"f32_gelu_tanh_fwd", "1024", run_gelu, (GM_EXP_FLOPS + 10) * ROW, 0, 4.0 * ROW, 4.0 * ROW, 0},
        {"f32_cross_entropy_row", "1024", run_cross_entropy, (GM_EXP_FLOPS + 5) * WORDS, 0, 4.0 * WORDS, 4.0 * WORDS, 0},
        {"f32_adamw", "1024", run_adamw, 16.0 * ROW, 0, 4.0 * ROW, 0, 12.0 * ROW},
        {"f32_dot", "1024", run_dot, 2.0 * ROW, 0, 8.0 * ROW, 0, 0},
        {"f32_quantize_u8", "1024", run_quantize, 5.0 * ROW, 0, 4.0 * ROW, 1.0 * ROW, 0},
    };
    for (int i = 0; i < GM_COUNT(slots); i++) {
        gm_job job = {.quick = true, .one_thread = true, .setup = kernel_setup, .run = slots[i].run};
        job.work = (gm_work){.flops = slots[i].flops, .int_ops = slots[i].int_ops, .read = slots[i].read, .written = slots[i].written};
        job.work.updated = slots[i].updated;
        snprintf(job.name, sizeof job.name, "%s, %s", slots[i].slot, slots[i].what);
        GM_TRY(gm_bench_measure(b, &job, err));
    }
    return GM_OK;
}
