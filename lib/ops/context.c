/* context.c -- choosing the kernel table, once per context. */
#include "context.h"
#include "gemm.h"
#include "ghostmax_model.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

gm_status gm_ctx_create(gm_ctx **out, const gm_ctx_options *options, gm_error *err) {
    *out = NULL;
    const char *isa = options ? options->isa : NULL;
    const char *source = "isa";
    if (!isa) {
        isa = getenv("GHOSTMAX_ISA");
        source = "GHOSTMAX_ISA";
        if (isa && !*isa)
            isa = NULL;
    }
    int threads = options ? options->threads : 0;
    if (threads < 0)
        return gm_fail(err, GM_EINVAL, "threads %d: give at least 1, or 0 for every core", threads);
    const gm_kernels *k = gm_kernels_select(isa);
    if (!k) {
        char names[64] = "";
        for (int level = 0; gm_kernels_at(level); level++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", level ? ", " : "", gm_kernels_at(level)->isa);
        return gm_fail(err, GM_EINVAL, "%s=%s: unknown instruction set; this machine has %s", source, isa, names);
    }
    gm_ctx *ctx = gm_alloc(1, sizeof *ctx);
    if (!ctx)
        return gm_fail_memory(err, sizeof *ctx);
    ctx->k = k;
    ctx->dist = options ? options->dist : NULL;
    ctx->threads = threads ? threads : ctx->dist && !getenv("OMP_NUM_THREADS") ? gm_dist_threads(ctx->dist) : omp_get_max_threads();
    ctx->plain_gemm = gm_gemm_limit(k->isa);
    *out = ctx;
    return GM_OK;
}

void gm_ctx_free(gm_ctx *ctx) {
    gm_free(ctx);
}

const char *gm_ctx_isa(const gm_ctx *ctx) {
    return ctx->k->isa;
}

const char *gm_ctx_gemm(const gm_ctx *ctx) {
    return ctx->plain_gemm ? "plain" : gm_gemm_provider();
}

gm_dist *gm_ctx_dist(const gm_ctx *ctx) {
    return ctx->dist;
}

int gm_ctx_threads(const gm_ctx *ctx) {
    return ctx->threads;
}

const char *gm_isa_list(int index, bool *available) {
    const gm_kernels *k = gm_kernels_built(index);
    if (available)
        *available = k && gm_kernels_at(index) == k;
    return k ? k->isa : NULL;
}
