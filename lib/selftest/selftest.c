/* selftest.c -- every check on every kernel table that this machine may use. */
#include "selftest.h"

#include "kernel_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double gm_selftest_larger(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}

void gm_selftest_add(gm_selftest *t, const char *check, int64_t count, double error, double allowed, const char *worst) {
    gm_selftest_line line = {.isa = t->isa, .check = check, .count = count, .error = error, .allowed = allowed, .worst = worst};
    line.passed = error <= allowed; /* false for NaN */
    t->failed |= !line.passed;
    if (!t->stopped)
        t->stopped = t->callback && t->callback(t->user, &line);
}

/* The slot nearest to its tolerance, or the first that is wrong. */
static gm_status check_kernels(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    gm_slot_result *results = calloc(GM_SLOT_COUNT, sizeof *results);
    if (!results || !gm_kernel_cases_run(ctx->k, results)) {
        free(results);
        return gm_fail_memory(err, sizeof *results * GM_SLOT_COUNT);
    }
    const gm_slot_result *worst = results;
    int64_t checks = 0;
    for (const gm_slot_result *r = results; r < results + GM_SLOT_COUNT; r++) {
        checks += r->checks;
        if (r->worst > worst->worst || (r->failures && !worst->failures))
            worst = r;
    }
    char where[256];
    snprintf(where, sizeof where, "%s%s%s", worst->name, worst->failures ? ": " : "", worst->first);
    gm_selftest_add(t, "kernels, as shares of their tolerances", checks, worst->failures ? INFINITY : worst->worst, 1, where);
    free(results);
    return GM_OK;
}

gm_status gm_selftest_context(gm_selftest *t, const gm_ctx *ctx, gm_error *err) {
    t->isa = ctx->k->isa;
    gm_status status = check_kernels(t, ctx, err);
    if (status == GM_OK && !t->stopped)
        status = gm_selftest_arrays(t, ctx, err);
    if (status == GM_OK && !t->stopped)
        status = gm_selftest_models(t, ctx, err);
    return status == GM_OK && t->stopped ? gm_fail(err, GM_ESTOPPED, "stopped") : status;
}

gm_status gm_selftest_run(const gm_ctx_options *options, gm_selftest_callback callback, void *user, bool *passed, gm_error *err) {
    gm_selftest t = {.callback = callback, .user = user};
    gm_ctx *best, *ctx;
    *passed = false;
    GM_TRY(gm_ctx_create(&best, options, err));
    gm_status status = GM_OK;
    int level = 0;
    while (gm_kernels_at(level) != best->k)
        level++;
    /* The best one first: a smaller one would cap the matrix library for all that follow. */
    for (; level >= 0 && status == GM_OK; level--) {
        status = gm_ctx_create(&ctx, &(gm_ctx_options){.threads = best->threads, .isa = gm_kernels_at(level)->isa}, err);
        if (status != GM_OK)
            break;
        status = gm_selftest_context(&t, ctx, err);
        gm_ctx_free(ctx);
    }
    gm_ctx_free(best);
    *passed = status == GM_OK && !t.failed;
    return status;
}
