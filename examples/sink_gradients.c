/* sink_gradients.c -- attention with a learned sink per head, forward and backward, on arrays of one's own: what a training loop in another
 * program needs. The gradient of each sink is held beside the difference of the output when that sink moves.
 *
 * Build after `make install`:  cc sink_gradients.c $(pkg-config --cflags --libs ghostmax) -lm -o sink_gradients */
#include <ghostmax.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { T = 8, H = 2, D = 4, SIZE = T * H * D };

static float q[SIZE], k[SIZE], v[SIZE], o[SIZE], dout[SIZE], dq[SIZE], dk[SIZE], dv[SIZE], lse[H * T], dsinks[H];
static const gm_attention_shape shape = {.B = 1, .T = T, .S = T, .H = H, .KV = H, .D = D, .causal = true};

static void check(gm_status status, const gm_error *err) {
    if (status != GM_OK) {
        fprintf(stderr, "sink_gradients: %s\n", err->msg);
        exit(1);
    }
}

/* The sum of all outputs: a loss whose gradient dout is 1 everywhere. */
static double loss(const gm_ctx *ctx, const float *sinks, void *scratch) {
    gm_error err;
    double sum = 0;
    check(gm_attention_fwd(ctx, o, lse, q, k, v, sinks, GM_NORM_SOFTMAX, &shape, scratch, &err), &err);
    for (int i = 0; i < SIZE; i++)
        sum += (double)o[i];
    return sum;
}

int main(void) {
    gm_ctx *ctx;
    gm_error err;
    check(gm_ctx_create(&ctx, NULL, &err), &err);
    size_t bytes = gm_attention_scratch_bytes(ctx, &shape, false), more = gm_attention_scratch_bytes(ctx, &shape, true);
    void *scratch = aligned_alloc(64, ((bytes > more ? bytes : more) / 64 + 1) * 64);
    if (!scratch)
        return 1;
    for (int i = 0; i < SIZE; i++) { /* any numbers */
        q[i] = sinf((float)i);
        k[i] = cosf(0.7f * (float)i);
        v[i] = 1 + sinf(1.3f * (float)i);
        dout[i] = 1;
    }
    float sinks[H] = {0.5f, -1}; /* learned: one logit per head; the norm's own sink does not count where they are given */
    loss(ctx, sinks, scratch);
    /* dq, dk, dv are set; dsinks accumulates, so it begins at 0. */
    check(gm_attention_bwd(ctx, dq, dk, dv, dsinks, dout, q, k, v, o, lse, sinks, GM_NORM_SOFTMAX, &shape, scratch, &err), &err);
    for (int h = 0; h < H; h++) {
        float moved[2][H] = {{sinks[0], sinks[1]}, {sinks[0], sinks[1]}};
        const double step = 0.01;
        moved[0][h] += (float)step;
        moved[1][h] -= (float)step;
        double difference = (loss(ctx, moved[0], scratch) - loss(ctx, moved[1], scratch)) / (2 * step);
        printf("head %d: sink %4.1f takes %.3f of the first query's attention; its gradient %.3f, by differences %.3f\n", h,
               (double)sinks[h], exp((double)sinks[h] - (double)lse[h * T]), (double)dsinks[h], difference);
    }
    free(scratch);
    gm_ctx_free(ctx);
    return 0;
}
