/* test_golden_attention.c -- against PyTorch's autograd (tests/golden/attention.txt, by tools/make_golden_attention.py): every normaliser,
 * every gate, and torch.nn.MultiheadAttention(add_zero_attn=True) around softmax1, on every instruction set. */
#include "base.h"
#include "ghostmax_model.h"
#include "kernels.h"
#include "ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static gm_file golden;
static char *text; /* the file with a NUL at its end */

static int open_golden(void **state) {
    (void)state;
    gm_error err;
    if (gm_file_open(&golden, GM_TEST_SOURCE_DIR "/tests/golden/attention.txt", &err) != GM_OK)
        return -1;
    text = calloc(golden.size + 1, 1);
    memcpy(text, golden.data, golden.size);
    gm_file_close(&golden);
    return 0;
}

static int close_golden(void **state) {
    (void)state;
    free(text);
    return 0;
}

/* The start of case `name`, NULL when there is none. */
static const char *find_case(const char *name) {
    char line[80];
    snprintf(line, sizeof line, "\ncase %s\n", name);
    const char *at = strstr(text, line);
    return at ? at + strlen(line) - 1 : NULL;
}

/* A field of that case as floats; freed by gm_free. *count (NULL: not wanted). The test fails when there is none. */
static float *field(const char *at, const char *name, int64_t *count) {
    char start[40];
    snprintf(start, sizeof start, "\n%s ", name);
    const char *end = strstr(at, "\ncase "), *found = strstr(at, start);
    if (!found || (end && found > end))
        fail_msg("the golden file has no field %s", name);
    char *next;
    const int64_t n = strtoll(found + strlen(start), &next, 10);
    float *x = gm_alloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = strtof(next, &next);
    if (count)
        *count = n;
    return x;
}

static void compare(const char *where, const char *at, const char *name, const float *got, double tolerance) {
    int64_t n;
    float *want = field(at, name, &n);
    double largest = 1;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - want[i]) <= tolerance * largest))
            fail_msg("%s: %s[%lld] = %.9g, PyTorch %.9g", where, name, (long long)i, (double)got[i], (double)want[i]);
    }
    gm_free(want);
}

static gm_ctx *context(int level) {
    gm_ctx *ctx = NULL;
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 2, .isa = gm_kernels_at(level)->isa}, NULL), GM_OK);
    return ctx;
}

static float *room(int64_t n) {
    return gm_alloc((size_t)n, sizeof(float));
}

static void run_attention(const gm_ctx *ctx, const char *name) {
    const char *at = find_case(name);
    if (!at)
        fail_msg("the golden file has no case %s", name);
    float *dims = field(at, "shape", NULL), *sink = field(at, "sink", NULL), *clip = field(at, "clip", NULL);
    float *learned = field(at, "learned", NULL);
    const gm_attention_shape s = {.B = (int64_t)dims[0],
                                  .T = (int64_t)dims[1],
                                  .S = (int64_t)dims[2],
                                  .H = (int64_t)dims[3],
                                  .KV = (int64_t)dims[4],
                                  .D = (int64_t)dims[5],
                                  .causal = dims[6] != 0,
                                  .window = (int64_t)dims[7]};
    const gm_norm norm = {sink[0], clip[0], clip[1]};
    const int64_t nq = s.B * s.T * s.H * s.D, nkv = s.B * s.S * s.KV * s.D;
    float *q = field(at, "q", NULL), *k = field(at, "k", NULL), *v = field(at, "v", NULL), *dout = field(at, "dout", NULL);
    float *sinks = field(at, "sinks", NULL), *o = room(nq), *lse = room(s.B * s.H * s.T), *dq = room(nq), *dk = room(nkv), *dv = room(nkv);
    float *dsinks = room(s.H);
    void *scratch = gm_alloc(gm_attention_scratch_bytes(ctx, &s, true), 1);
    const float *heads = learned[0] != 0 ? sinks : NULL;
    gm_error err = {0};
    if (gm_attention_fwd(ctx, o, lse, q, k, v, heads, norm, &s, scratch, &err) != GM_OK ||
        gm_attention_bwd(ctx, dq, dk, dv, heads ? dsinks : NULL, dout, q, k, v, o, lse, heads, norm, &s, scratch, &err) != GM_OK)
        fail_msg("%s", err.msg);
    char where[80];
    snprintf(where, sizeof where, "%s %s", gm_ctx_isa(ctx), name);
    compare(where, at, "o", o, 1e-6);
    compare(where, at, "lse", lse, 1e-6);
    compare(where, at, "dq", dq, 2e-6);
    compare(where, at, "dk", dk, 2e-6);
    compare(where, at, "dv", dv, 2e-6);
    compare(where, at, "dsinks", dsinks, 2e-6);
    float *all[] = {dims, sink, clip, learned, q, k, v, dout, sinks, o, lse, dq, dk, dv, dsinks};
    for (int i = 0; i < GM_COUNT(all); i++)
        gm_free(all[i]);
    gm_free(scratch);
}

static void normalisers(void **state) {
    (void)state;
    static const char *const names[] = {"softmax",     "softmax1", "softmax1_decode", "softmax_half", "sink",
                                        "sink_window", "clipped",  "clipped_strong",  "clipped_sink"};
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(level);
        for (int i = 0; i < GM_COUNT(names); i++)
            run_attention(ctx, names[i]);
        gm_ctx_free(ctx);
    }
}

/* The whole layer: fused projection, softmax1, output projection, and back. */
static void run_multihead(const gm_ctx *ctx, const char *name) {
    const char *at = find_case(name);
    float *dims = field(at, "shape", NULL);
    const int64_t B = (int64_t)dims[0], T = (int64_t)dims[1], C = (int64_t)dims[2], H = (int64_t)dims[3], R = B * T, W = 3 * C;
    const gm_attention_shape s = {.B = B,
                                  .T = T,
                                  .S = T,
                                  .H = H,
                                  .KV = H,
                                  .D = C / H,
                                  .causal = dims[4] != 0,
                                  .q_batch = T * W,
                                  .q_row = W,
                                  .kv_batch = T * W,
                                  .kv_row = W};
    const gm_norm softmax1 = {0, 1, 0};
    float *x = field(at, "x", NULL), *w_in = field(at, "w_in", NULL), *w_out = field(at, "w_out", NULL), *dy = field(at, "dy", NULL);
    float *qkv = room(R * W), *o = room(R * C), *lse = room(B * H * T), *y = room(R * C), *null_mass = room(B * H * T);
    float *dqkv = room(R * W), *dout = room(R * C), *dx = room(R * C), *dw_in = room(W * C), *dw_out = room(C * C);
    void *scratch = gm_alloc(gm_attention_scratch_bytes(ctx, &s, true), 1);
    gm_error err = {0};
    gm_linear_fwd(ctx, qkv, W, x, C, w_in, NULL, R, C, W);
    assert_int_equal(gm_attention_fwd(ctx, o, lse, qkv, qkv + C, qkv + 2 * C, NULL, softmax1, &s, scratch, &err), GM_OK);
    gm_linear_fwd(ctx, y, C, o, C, w_out, NULL, R, C, C);
    for (int64_t i = 0; i < B * H * T; i++)
        null_mass[i] = expf(-lse[i]);
    gm_linear_bwd(ctx, dout, C, false, dw_out, NULL, dy, C, o, C, w_out, R, C, C);
    assert_int_equal(gm_attention_bwd(ctx, dqkv, dqkv + C, dqkv + 2 * C, NULL, dout, qkv, qkv + C, qkv + 2 * C, o, lse, NULL, softmax1, &s,
                                      scratch, &err),
                     GM_OK);
    gm_linear_bwd(ctx, dx, C, false, dw_in, NULL, dqkv, W, x, C, w_in, R, C, W);
    char where[80];
    snprintf(where, sizeof where, "%s %s", gm_ctx_isa(ctx), name);
    compare(where, at, "y", y, 1e-6);
    compare(where, at, "null_mass", null_mass, 1e-6);
    compare(where, at, "dx", dx, 2e-6);
    compare(where, at, "dw_in", dw_in, 2e-6);
    compare(where, at, "dw_out", dw_out, 2e-6);
    float *all[] = {dims, x, w_in, w_out, dy, qkv, o, lse, y, null_mass, dqkv, dout, dx, dw_in, dw_out};
    for (int i = 0; i < GM_COUNT(all); i++)
        gm_free(all[i]);
    gm_free(scratch);
}

static void multihead_add_zero_attn(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(level);
        run_multihead(ctx, "multihead");
        run_multihead(ctx, "multihead_causal");
        gm_ctx_free(ctx);
    }
}

static void run_gate(const gm_ctx *ctx, const char *name, gm_gate_kind kind) {
    const char *at = find_case(name);
    const bool mlp = kind == GM_GATE_MLP;
    float *dims = field(at, "shape", NULL);
    const gm_gate_shape s = {.kind = (int)kind,
                             .R = (int64_t)dims[0],
                             .C = (int64_t)dims[1],
                             .H = (int64_t)dims[2],
                             .D = (int64_t)dims[3],
                             .hidden = (int64_t)dims[4]};
    int64_t n1, nb, n2 = 0, nb2 = 0;
    float *x = field(at, "x", NULL), *o = field(at, "o", NULL), *dgated = field(at, "dgated", NULL);
    float *w1 = field(at, "w1", &n1), *b1 = field(at, "b1", &nb), *w2 = mlp ? field(at, "w2", &n2) : NULL;
    float *b2 = mlp ? field(at, "b2", &nb2) : NULL;
    const int64_t HD = s.H * s.D;
    float *g = room(s.R * HD), *hidden = room(s.R * s.H * (s.hidden + 1)), *gated = room(s.R * HD),
          *scratch = room(s.R * HD + s.R * s.H * 8);
    float *dout = room(s.R * HD), *dx = room(s.R * s.C), *dw1 = room(n1), *db1 = room(nb), *dw2 = room(n2 + 1), *db2 = room(nb2 + 1);
    gm_gate_fwd(ctx, g, hidden, x, w1, b1, w2, b2, &s);
    gm_gate_apply(ctx, gated, o, g, &s);
    gm_gate_bwd(ctx, dout, dx, dw1, db1, dw2, db2, dgated, o, g, hidden, x, w1, w2, &s, scratch);
    char where[80];
    snprintf(where, sizeof where, "%s %s", gm_ctx_isa(ctx), name);
    compare(where, at, "g", g, 1e-6);
    compare(where, at, "gated", gated, 1e-6);
    compare(where, at, "do", dout, 1e-6);
    compare(where, at, "dx", dx, 2e-6);
    compare(where, at, "dw1", dw1, 2e-6);
    compare(where, at, "db1", db1, 2e-6);
    if (mlp) {
        compare(where, at, "dw2", dw2, 2e-6);
        compare(where, at, "db2", db2, 2e-6);
    }
    float *all[] = {dims, x, o, dgated, w1, b1, w2, b2, g, hidden, gated, scratch, dout, dx, dw1, db1, dw2, db2};
    for (int i = 0; i < GM_COUNT(all); i++)
        gm_free(all[i]);
}

static void gates(void **state) {
    (void)state;
    for (int level = 0; gm_kernels_at(level); level++) {
        gm_ctx *ctx = context(level);
        run_gate(ctx, "gate_linear", GM_GATE_LINEAR);
        run_gate(ctx, "gate_mlp", GM_GATE_MLP);
        run_gate(ctx, "gate_all_heads", GM_GATE_ALL_HEADS);
        run_gate(ctx, "gate_channel", GM_GATE_CHANNEL);
        gm_ctx_free(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(normalisers), cmocka_unit_test(multihead_add_zero_attn), cmocka_unit_test(gates)};
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
