/* fuzz_models.h -- what must hold for any model that was accepted, whatever its format. */
#ifndef GM_TEST_FUZZ_MODELS_H
#define GM_TEST_FUZZ_MODELS_H

#include "config_file.h"
#include "fuzz.h"
#include "model.h"

typedef gm_status fuzz_loader(gm_model **out, const gm_ctx *ctx, const gm_file *file, gm_error *err);

static inline const gm_ctx *fuzz_ctx(void) {
    static gm_ctx *ctx;
    if (!ctx)
        FUZZ_CHECK(gm_ctx_create(&ctx, &(gm_ctx_options){.isa = "ref", .threads = 1}, NULL) == GM_OK);
    return ctx;
}

static inline gm_model *fuzz_load(fuzz_loader *load, const void *data, size_t size, gm_error *err) {
    gm_file file = {.data = data, .size = size, .path = "input"};
    gm_model *m;
    gm_status status = load(&m, fuzz_ctx(), &file, err);
    FUZZ_CHECK((status == GM_OK) == (m != NULL));
    return m;
}

/* The same configuration and the same bits. Frees both. */
static inline void fuzz_same_models(gm_model *a, gm_model *b) {
    FUZZ_CHECK(b && gm_config_fingerprint(&a->cfg) == gm_config_fingerprint(&b->cfg));
    FUZZ_CHECK(memcmp(a->weights, b->weights, (size_t)a->param_elements * sizeof(float)) == 0);
    gm_model_free(a);
    gm_model_free(b);
}

#endif
