/* softmax1_attention.c -- attention that may say nothing, on a small array of one's own.
 *
 * Build after `make install`:  cc softmax1_attention.c $(pkg-config --cflags --libs ghostmax) -o softmax1_attention */
#include <ghostmax.h>

#include <stdio.h>
#include <stdlib.h>

/* Two positions, one head of dimension 2. The second query opposes both keys: softmax must still hand out a whole unit of attention,
 * softmax1 (sink logit 0) hands out almost none. */
static const float q[4] = {1, 0, -6, 0};
static const float k[4] = {1, 0, 1, 1};
static const float v[4] = {10, 20, 30, 40};

static void fail(const gm_error *err) {
    fprintf(stderr, "softmax1_attention: %s\n", err->msg);
    exit(1);
}

static void show(const gm_ctx *ctx, const char *name, gm_norm norm) {
    gm_attention_shape shape = {.B = 1, .T = 2, .S = 2, .H = 1, .KV = 1, .D = 2, .causal = true};
    void *scratch = aligned_alloc(64, (gm_attention_scratch_bytes(ctx, &shape, false) + 64) / 64 * 64);
    float o[4];
    gm_error err;
    if (!scratch || gm_attention_fwd(ctx, o, NULL, q, k, v, NULL, norm, &shape, scratch, &err) != GM_OK)
        fail(&err);
    free(scratch);
    printf("%-8s  o[0] = (%6.3f, %6.3f)  o[1] = (%6.3f, %6.3f)\n", name, o[0], o[1], o[2], o[3]);
}

int main(void) {
    gm_ctx *ctx;
    gm_error err;
    if (gm_ctx_create(&ctx, NULL, &err) != GM_OK)
        fail(&err);
    gm_norm softmax1 = GM_NORM_SOFTMAX;
    softmax1.sink = 0;
    show(ctx, "softmax", GM_NORM_SOFTMAX);
    show(ctx, "softmax1", softmax1);
    gm_ctx_free(ctx);
    return 0;
}
