/* fixture.h -- what groups of tests share: cmocka and what it needs, one context, and the BB task as data where a test wants some.
 *     static int setup(void **state) { return open_context_and_bb(T); }
 *     return cmocka_run_group_tests(tests, setup, close_all); */
#ifndef GM_TEST_FIXTURE_H
#define GM_TEST_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ghostmax_model.h"

static gm_ctx *ctx;
static gm_data *data;

static inline int open_context(void **state) {
    (void)state;
    gm_error err;
    if (gm_ctx_create(&ctx, NULL, &err) != GM_OK)
        print_error("%s\n", err.msg);
    return ctx ? 0 : 1;
}

/* The context, and sequences of that many tokens of the BB task. */
static inline int open_context_and_bb(int64_t context) {
    gm_error err;
    if (open_context(NULL))
        return 1;
    if (gm_data_open(&data, &(gm_data_options){.source = "bb", .context = context}, &err) != GM_OK)
        print_error("%s\n", err.msg);
    return data ? 0 : 1;
}

static inline int close_all(void **state) {
    (void)state;
    gm_data_free(data);
    gm_ctx_free(ctx);
    return 0;
}

#endif
