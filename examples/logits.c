/* logits.c -- what a model thinks comes next: prints the logits of every position of a sequence of token ids, a line of V numbers each.
 *
 *     logits MODEL 1 403 407 261          MODEL: a folder or file of any format that ghostmax reads
 *
 * Build after `make install`:  cc logits.c $(pkg-config --cflags --libs ghostmax) -o logits */
#include <ghostmax_model.h>

#include <stdio.h>
#include <stdlib.h>

static int fail(const gm_error *err) {
    fprintf(stderr, "logits: %s\n", err->msg);
    return 1;
}

int main(int argc, char **argv) {
    gm_ctx *ctx = NULL;
    gm_model *model = NULL;
    gm_error err;
    int64_t T = argc - 2;
    if (T < 1) {
        fprintf(stderr, "usage: logits MODEL ID...\n");
        return 2;
    }
    if (gm_ctx_create(&ctx, NULL, &err) != GM_OK || gm_model_load(&model, ctx, argv[1], &err) != GM_OK) {
        gm_ctx_free(ctx);
        return fail(&err);
    }
    int64_t V = gm_model_config_of(model)->vocab;
    int32_t *ids = malloc(sizeof *ids * (size_t)T);
    float *logits = malloc(sizeof *logits * (size_t)(T * V));
    int code = 1;
    if (ids && logits) {
        for (int64_t t = 0; t < T; t++)
            ids[t] = (int32_t)strtol(argv[t + 2], NULL, 10);
        code = gm_model_logits(model, ids, 1, T, false, logits, &err) == GM_OK ? 0 : fail(&err);
        for (int64_t i = 0; code == 0 && i < T * V; i++)
            printf("%.9g%c", logits[i], i % V == V - 1 ? '\n' : ' ');
    }
    free(ids);
    free(logits);
    gm_model_free(model);
    gm_ctx_free(ctx);
    return code;
}
