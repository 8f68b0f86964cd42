/* selftest.h -- does this build compute the right thing here? The parts of gm_selftest_run, each on one context, so that a test can hand
 * them one whose kernels are wrong. */
#ifndef GM_SELFTEST_H
#define GM_SELFTEST_H

#include "context.h"
#include "ghostmax_model.h"

typedef struct gm_selftest {
    gm_selftest_callback callback;
    void *user;
    const char *isa;
    bool failed, stopped;
} gm_selftest;

/* A line for the callback. worst: where the error was largest. NaN fails. */
void gm_selftest_add(gm_selftest *t, const char *check, int64_t count, double error, double allowed, const char *worst);

/* On one context: kernel slots beside the reference table; plain arrays beside arithmetic in double; whole models. */
gm_status gm_selftest_context(gm_selftest *t, const gm_ctx *ctx, gm_error *err);
gm_status gm_selftest_arrays(gm_selftest *t, const gm_ctx *ctx, gm_error *err);
gm_status gm_selftest_models(gm_selftest *t, const gm_ctx *ctx, gm_error *err);

/* The larger; NaN stays. */
double gm_selftest_larger(double a, double b);

#endif
