/* test_attention_memory.c -- what attention keeps while it runs, as the system counts it: linear in T, where T x T weights alone would take
 * 256 MB at T = 8192. */
#include "base.h"
#include "ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
enum { SANITIZED = 1 }; /* what a sanitizer notes about memory is memory too */
#else
enum { SANITIZED = 0 };
#endif

/* Bytes of this process in memory, now ("VmRSS") or at most so far ("VmHWM"); -1 where /proc does not tell. */
static int64_t resident(const char *which) {
    char line[128];
    long long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && kb < 0 && fgets(line, sizeof line, f)) {
        if (strncmp(line, which, strlen(which)) == 0)
            sscanf(line + strlen(which) + 1, "%lld", &kb);
    }
    if (f)
        fclose(f);
    return kb < 0 ? -1 : kb * 1024;
}

/* One head, causal, D = 64, forward and backward on two threads, every tensor and the scratch with it. */
static void attention(const gm_ctx *ctx, int64_t T, gm_norm norm) {
    const gm_attention_shape s = {.B = 1, .T = T, .S = T, .H = 1, .KV = 1, .D = 64, .causal = true};
    enum { Q, K, V, O, DOUT, DQ, DK, DV, TENSORS };
    float *x[TENSORS], *lse = gm_alloc((size_t)T, sizeof *lse);
    for (int i = 0; i < TENSORS; i++) {
        x[i] = gm_alloc((size_t)(T * s.D), sizeof **x);
        for (int64_t j = 0; j < T * s.D; j++)
            x[i][j] = (float)((i + 1) * j % 17) * 0.1f;
    }
    void *scratch = gm_alloc(gm_attention_scratch_bytes(ctx, &s, true), 1);
    assert_int_equal(gm_attention_fwd(ctx, x[O], lse, x[Q], x[K], x[V], NULL, norm, &s, scratch, NULL), GM_OK);
    assert_int_equal(gm_attention_bwd(ctx, x[DQ], x[DK], x[DV], NULL, x[DOUT], x[Q], x[K], x[V], x[O], lse, NULL, norm, &s, scratch, NULL),
                     GM_OK);
    gm_free(scratch);
    gm_free(lse);
    for (int i = 0; i < TENSORS; i++)
        gm_free(x[i]);
}

/* The most that a process of its own holds during attention over what it held before, in bytes; -1: cannot be told here. */
static int64_t peak(int64_t T, gm_norm norm) {
    int64_t bytes = -1;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        gm_ctx *ctx;
        if (gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 2}, NULL) != GM_OK)
            _exit(1);
        attention(ctx, 64, norm); /* threads and code are there */
        int64_t before = resident("VmRSS");
        attention(ctx, T, norm);
        if (before >= 0)
            bytes = resident("VmHWM") - before;
        _exit(write(ends[1], &bytes, sizeof bytes) != sizeof bytes);
    }
    close(ends[1]);
    int status = 0;
    assert_int_equal(read(ends[0], &bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ends[0]);
    return bytes;
}

static void test_memory_is_linear(void **state) {
    (void)state;
    if (SANITIZED)
        skip();
    const gm_norm norms[] = {{.sink = 0, .clip_a = 1, .clip_c = 0}, {.sink = -INFINITY, .clip_a = 1.001f, .clip_c = -0.0005f}};
    for (int i = 0; i < GM_COUNT(norms); i++) { /* softmax1; a clip, which works on whole rows */
        const int64_t half = peak(4096, norms[i]), whole = peak(8192, norms[i]);
        if (whole < 0)
            skip();
        print_message("forward and backward, T = 4096: %.1f MB, 8192: %.1f MB\n", 1e-6 * (double)half, 1e-6 * (double)whole);
        assert_true(whole >= 8 * 8192 * 64 * 4); /* at least the tensors: something was measured */
        assert_true(whole <= 64000000);
        assert_true((double)whole <= 2.2 * (double)half);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory_is_linear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
