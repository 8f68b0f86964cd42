/* test_kernels.c -- every slot of every kernel table that this machine has (the cases: lib/kernels/kernel_cases.c), and that the cases see
 * what is wrong. Links lib/kernels alone and no test framework, so that it also runs under an emulator for another processor. */
#include "kernel_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check_table(const gm_kernels *k) {
    static gm_slot_result results[GM_SLOT_COUNT];
    long long checks = 0;
    const gm_slot_result *nearest = results;
    if (!gm_kernel_cases_run(k, results))
        exit(EXIT_FAILURE);
    for (const gm_slot_result *r = results; r < results + GM_SLOT_COUNT; r++) {
        checks += r->checks;
        nearest = r->worst > nearest->worst ? r : nearest;
        if (r->failures) {
            printf("FAIL %s %s: %lld of %lld: %s\n", k->isa, r->name, (long long)r->failures, (long long)r->checks, r->first);
            failures++;
        }
    }
    printf("%s: %d slots, %lld checks, nearest to its tolerance %s: %.2f of it\n", k->isa, GM_SLOT_COUNT, checks, nearest->name,
           nearest->worst);
}

/* ---- faults: a table with wrong kernels fails in their slots, and in no other */

#pragma GCC diagnostic ignored "-Wunused-parameter"
#define GM_KERNEL(type, name, params)   \
    static type nothing_##name params { \
        return (type)0;                 \
    }
#include "kernels.def"
#undef GM_KERNEL

static float low_dot(const float *a, const float *b, int64_t n) { /* one term short, on long rows only */
    return gm_kernels_ref.f32_dot(a, b, n > 1000 ? n - 1 : n);
}
static void deaf_minmax(float *range, const float *x, int64_t n) { /* a NaN that is not seen: what x86's min and max do in one order */
    range[0] = INFINITY;
    range[1] = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        range[0] = x[i] < range[0] ? x[i] : range[0];
        range[1] = x[i] > range[1] ? x[i] : range[1];
    }
}
static void long_relu(float *y, const float *h, int64_t n) { /* writes one value too many */
    gm_kernels_ref.f32_relu_fwd(y, h, n);
    y[n] += 1;
}
static void saturating_tile(int32_t *c, const uint8_t *a, int64_t as, int64_t rows, const int8_t *b, int64_t k4) { /* as vpmaddubsw */
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < GM_INT8_N; j++) {
            int32_t sum = 0;
            for (int64_t p = 0; p < 4 * k4; p += 2) {
                const int8_t *pair = b + (p / 4 * GM_INT8_N + j) * 4 + p % 4;
                int32_t two = a[i * as + p] * pair[0] + a[i * as + p + 1] * pair[1];
                sum += two > 32767 ? 32767 : two < -32768 ? -32768 : two;
            }
            c[i * GM_INT8_N + j] = sum;
        }
    }
}
static void product_quantize(uint8_t *q, const float *x, int64_t n, float scale, float zero,
                             float qmax) { /* times 1/scale: ties go astray */
    for (int64_t i = 0; i < n; i++) {
        float y = rintf(x[i] * (1 / scale)) + zero;
        q[i] = isnan(y) || y < 0 ? 0 : y > qmax ? (uint8_t)qmax : (uint8_t)y;
    }
}

static void run_bad(const gm_kernels *bad, const int *faulty, const char *what) {
    static gm_slot_result results[GM_SLOT_COUNT];
    if (!gm_kernel_cases_run(bad, results))
        exit(EXIT_FAILURE);
    for (int s = 0; s < GM_SLOT_COUNT; s++) {
        bool expected = !faulty;
        for (const int *f = faulty; f && *f >= 0; f++)
            expected |= *f == s;
        if ((results[s].failures > 0) != expected) {
            printf("FAIL %s: slot %s %s\n", what, results[s].name, expected ? "passes" : "fails too");
            failures++;
        }
    }
}

static void check_faults(void) {
    static const int faulty[] = {GM_SLOT_f32_dot,        GM_SLOT_f32_minmax,      GM_SLOT_f32_relu_fwd,
                                 GM_SLOT_u8s8_gemm_tile, GM_SLOT_f32_quantize_u8, -1};
    gm_kernels bad = gm_kernels_ref;
    bad.f32_dot = low_dot;
    bad.f32_minmax = deaf_minmax;
    bad.f32_relu_fwd = long_relu;
    bad.u8s8_gemm_tile = saturating_tile;
    bad.f32_quantize_u8 = product_quantize;
    run_bad(&bad, faulty, "five subtle faults");
#define GM_KERNEL(type, name, params) bad.name = nothing_##name;
#include "kernels.def"
#undef GM_KERNEL
    run_bad(&bad, NULL, "kernels that do nothing");
}

/* Any argument: the tables alone (an emulator is slow). */
int main(int argc, char **argv) {
    (void)argv;
    for (int level = 0; gm_kernels_at(level); level++)
        check_table(gm_kernels_at(level));
    if (argc == 1)
        check_faults();
    printf("%d failures\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
