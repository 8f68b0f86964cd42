/* Linear layers on integers: beside exact sums in 64 bits, on every instruction set and thread count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "context.h"
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum fill { RANDOM, TOP, BOTTOM, FILLS }; /* random; 255 x 127; 255 x -128 */

typedef struct layer {
    int64_t R, in, out, xs, ys;
    gm_quant_grid grid;
    float *x, *w, *scale, *bias, *y;
    int *a, *q; /* the integers */
} layer;

static layer layer_make(int64_t R, int64_t in, int64_t out, enum fill fill, int zero) {
    layer l = {.R = R, .in = in, .out = out, .xs = in + 3, .ys = out + 5, .grid = {0.037f, zero, 0, 255}};
    l.x = gm_alloc((size_t)(R * l.xs), sizeof(float));
    l.y = gm_alloc((size_t)(R * l.ys), sizeof(float));
    l.w = gm_alloc((size_t)(out * in), sizeof(float));
    l.scale = gm_alloc((size_t)out, sizeof(float));
    l.bias = gm_alloc((size_t)out, sizeof(float));
    l.a = gm_alloc((size_t)(R * in), sizeof(int));
    l.q = gm_alloc((size_t)(out * in), sizeof(int));
    for (int64_t i = 0; i < R * in; i++) {
        double noise = 0.9 * gm_rng_uniform(2, (uint64_t)i) - 0.45; /* x need not lie on the grid */
        l.a[i] = fill == RANDOM ? (int)(256 * gm_rng_uniform(1, (uint64_t)i)) : 255;
        l.x[i / in * l.xs + i % in] = (float)(l.grid.scale * (l.a[i] - zero + noise));
    }
    for (int64_t j = 0; j < out; j++) {
        l.scale[j] = 0.001f * (float)(1 + j % 7);
        l.bias[j] = (float)gm_rng_normal(3, (uint64_t)j);
        for (int64_t p = 0; p < in; p++) {
            int64_t i = j * in + p;
            l.q[i] = fill == RANDOM ? (int)(256 * gm_rng_uniform(4, (uint64_t)i)) - 128 : fill == TOP ? 127 : -128;
            l.w[i] = l.scale[j] * (float)l.q[i];
        }
    }
    return l;
}

static void layer_free(layer *l) {
    void *all[] = {l->x, l->y, l->w, l->scale, l->bias, l->a, l->q};
    for (int i = 0; i < GM_COUNT(all); i++)
        gm_free(all[i]);
}

static void layer_run(const gm_ctx *ctx, layer *l, bool bias) {
    gm_linear_int8 packed;
    void *memory = gm_alloc(gm_linear_int8_bytes(l->in, l->out), 1);
    uint8_t *scratch = gm_alloc(gm_linear_int8_scratch_bytes(l->in), 1);
    for (int64_t i = 0; i < l->R * l->ys; i++)
        l->y[i] = 77;
    gm_linear_int8_pack(&packed, memory, l->w, l->scale, bias ? l->bias : NULL, l->in, l->out, l->grid);
    gm_linear_int8_fwd(ctx, l->y, l->ys, l->x, l->xs, l->R, &packed, scratch);
    gm_free(memory);
    gm_free(scratch);
}

static gm_ctx *context_at(int level, int threads) {
    gm_ctx *ctx;
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = threads, .isa = gm_kernels_at(level)->isa}, NULL), GM_OK);
    return ctx;
}

static void test_exact_sums(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 33}, {8, 64, 32}, {9, 130, 31}, {70, 67, 100}, {300, 36, 65}, {2, 3000, 40}};
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int fill = 0; fill < FILLS; fill++) {
            int zero = fill == RANDOM ? 101 : fill == TOP ? 0 : 255;
            layer l = layer_make(shapes[s][0], shapes[s][1], shapes[s][2], (enum fill)fill, zero);
            gm_ctx *ctx = context_at(0, 1);
            bool bias = s % 2;
            layer_run(ctx, &l, bias);
            for (int64_t r = 0; r < l.R; r++) {
                for (int64_t j = 0; j < l.ys; j++) {
                    float got = l.y[r * l.ys + j];
                    if (j >= l.out) { /* between rows: not written */
                        assert_true(got == 77);
                        continue;
                    }
                    int64_t sum = 0;
                    for (int64_t p = 0; p < l.in; p++)
                        sum += (int64_t)(l.a[r * l.in + p] - zero) * l.q[j * l.in + p];
                    double product = (double)l.grid.scale * l.scale[j] * (double)sum, want = product + (bias ? l.bias[j] : 0);
                    /* the sum, the two scales, their product and the sum with the bias are rounded once each */
                    if (!(fabs(got - want) <= 0x1p-24 * (3 * fabs(product) + fabs(want)) + 1e-30))
                        fail_msg("shape %d, fill %d: y[%lld,%lld] = %.9g, exactly %.9g", s, fill, (long long)r, (long long)j, (double)got,
                                 want);
                }
            }
            gm_ctx_free(ctx);
            layer_free(&l);
        }
    }
}

static void test_same_bits(void **state) {
    (void)state;
    layer want = layer_make(301, 258, 203, RANDOM, 77), got = layer_make(301, 258, 203, RANDOM, 77);
    size_t bytes = (size_t)(want.R * want.ys) * sizeof(float);
    gm_ctx *ctx = context_at(0, 1);
    layer_run(ctx, &want, true);
    gm_ctx_free(ctx);
    for (int level = 0; gm_kernels_at(level); level++) {
        for (int threads = 1; threads <= 3; threads++) {
            ctx = context_at(level, threads);
            layer_run(ctx, &got, true);
            if (memcmp(got.y, want.y, bytes) != 0)
                fail_msg("%s, %d threads: not the reference's bits", gm_ctx_isa(ctx), threads);
            gm_ctx_free(ctx);
        }
    }
    layer_free(&want);
    layer_free(&got);
}

/* Values beyond the grid stop at its ends; a grid of fewer bits ends earlier. */
static void test_grid_ends(void **state) {
    (void)state;
    gm_ctx *ctx = context_at(0, 1);
    layer l = layer_make(1, 3, 1, RANDOM, 10);
    const float x[] = {-INFINITY, 1e30f, 0.5f};
    const float w[] = {1, 1, 1};
    memcpy(l.x, x, sizeof x);
    memcpy(l.w, w, sizeof w);
    l.scale[0] = 1;
    l.grid = (gm_quant_grid){0.5f, 10, 0, 63};
    layer_run(ctx, &l, false);
    assert_true(l.y[0] == 0.5f * ((0 - 10) + (63 - 10) + 1));
    l.grid.scale = NAN;
    layer_run(ctx, &l, false);
    assert_true(isnan(l.y[0]));
    assert_true(gm_linear_int8_fits(65536) && !gm_linear_int8_fits(65537));
    layer_free(&l);
    gm_ctx_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_sums),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_grid_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
