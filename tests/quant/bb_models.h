/* bb_models.h -- small models for tests of quantization: of a preset and a variant, as long as the BB task's sequences, trained on them. */
#ifndef GM_BB_MODELS_H
#define GM_BB_MODELS_H

#include "fixture.h"
#include "model.h"
#include "ops.h"

enum { T = 24 }; /* tokens of a sequence: open_context_and_bb(T) */

static inline gm_model *bb_model(const char *preset, const char *variant, const char *overrides) {
    gm_model_config cfg;
    gm_model *m;
    gm_error err;
    if (gm_model_config_preset(&cfg, preset, &err) != GM_OK || gm_model_config_override(&cfg, overrides, &err) != GM_OK ||
        gm_variant_parse(&cfg.attention, variant, &err) != GM_OK)
        fail_msg("%s", err.msg);
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    cfg.context = T;
    cfg.dropout = 0;
    if (gm_model_create(&m, ctx, &cfg, 5, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return m;
}

/* A model that has learned something, so that rounding costs something. */
static inline void bb_train(gm_model *m, int steps) {
    enum { BATCH = 16 };
    int32_t x[BATCH * T], y[BATCH * T];
    size_t bytes = (size_t)m->param_elements * sizeof(float);
    float *first = gm_alloc(bytes, 1), *second = gm_alloc(bytes, 1);
    double sum;
    assert_int_equal(gm_model_train_begin(m, BATCH, T, NULL), GM_OK);
    for (int step = 0; step < steps; step++) {
        gm_data_train(data, 1, step * BATCH, BATCH, x, y);
        gm_model_zero_grads(m);
        assert_int_equal(gm_model_accumulate(m, x, y, BATCH, T, 1.0f / (BATCH * T), 0, &sum, NULL), GM_OK);
        gm_adamw(ctx, m->weights, m->grads, first, second, m->param_elements, 1.0f, 1e-2, 0.9, 0.99, 1e-8, 0.0, step + 1);
    }
    gm_free(first);
    gm_free(second);
}

#endif
