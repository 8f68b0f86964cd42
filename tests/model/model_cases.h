/* model_cases.h -- the small models on which whole-model tests run: shapes, variants, weights and tokens in which nothing is trivial
 * (no zero sink, no unit gain, no empty bias), and contexts of every instruction set. */
#ifndef GM_TEST_MODEL_CASES_H
#define GM_TEST_MODEL_CASES_H

#include "model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHECK_OK(expression)                                   \
    do {                                                       \
        gm_error check_error_ = {0};                           \
        gm_error *err = &check_error_;                         \
        if ((expression) != GM_OK)                             \
            fail_msg("%s: %s", #expression, check_error_.msg); \
    } while (0)

typedef struct model_shape {
    const char *name, *preset, *overrides; /* on top of the preset's family, activation and biases */
    int64_t B, T;
    int stride; /* the costly tests take every stride-th variant */
} model_shape;

/* The head dimension is not width / heads in two, key/value heads are shared in two, sequences are shorter than the context in all. */
static const model_shape small_shapes[] = {
    {"gpt2", "gpt2-nano", "vocab=11,context=9,layers=2,width=8,heads=2,ffn=12", 2, 7, 1},
    {"gpt2 windowed, GELU erf", "gpt2-nano", "vocab=11,context=9,layers=2,width=9,heads=3,ffn=7,window=3,act=gelu-erf", 2, 7, 3},
    {"opt", "opt-mini", "vocab=11,context=9,layers=2,width=10,heads=2,ffn=9", 2, 7, 1},
    {"opt untied without biases", "words-mini", "vocab=11,context=9,layers=2,width=8,heads=4,ffn=12", 2, 7, 3},
    {"llama", "llama-260k", "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=2,head-dim=6,ffn=10", 2, 7, 1},
    {"llama windowed, untied", "llama-260k", "vocab=11,context=9,layers=2,width=9,heads=3,kv-heads=1,head-dim=4,ffn=7,window=4,tied=no", 2,
     7, 3},
    {"qwen2: biases of q, k, v; linear positions", "llama-260k",
     "vocab=11,context=9,layers=2,width=8,heads=2,kv-heads=1,ffn=6,qkv-bias=yes,rope-scaling=linear,rope-factor=2.5", 2, 7, 3},
    {"qwen3: normed heads; Llama 3's positions", "llama-260k",
     "vocab=11,context=9,layers=2,width=6,heads=2,kv-heads=1,head-dim=10,ffn=7,qk-norm=yes,rope-theta=30,rope-scaling=llama3,rope-factor=4,"
     "rope-low-freq=1,rope-high-freq=4,rope-original-context=8",
     2, 7, 3},
};

/* Past every vector width and tile edge. */
static const model_shape large_shapes[] = {
    {"gpt2", "gpt2-nano", "vocab=71,context=80,layers=2,width=40,heads=2,ffn=70", 2, 37, 1},
    {"opt", "words-mini", "vocab=37,context=140,layers=2,width=66,heads=1,ffn=45", 1, 133, 1},
    {"llama", "llama-260k", "vocab=53,context=70,layers=2,width=48,heads=4,kv-heads=2,head-dim=18,ffn=44", 2, 67, 1},
    {"qwen3", "llama-260k", "vocab=53,context=70,layers=2,width=20,heads=4,kv-heads=2,head-dim=34,ffn=44,qk-norm=yes,qkv-bias=yes", 2, 67,
     1},
};

static const char *const every_variant[] = {
    "softmax",
    "softmax1",
    "softmax_n:n=0",
    "softmax_n:n=0.5",
    "sink",
    "clipped:gamma=-0.05,zeta=1.1",
    "clipped:alpha=1",
    "gated",
    "gated:kind=mlp,hidden=3",
    "gated:kind=all_heads",
    "gated:kind=channel",
    "softmax1+gated",
    "softmax1+clipped:gamma=-0.03,zeta=1.03",
    "sink+clipped:gamma=-0.04,zeta=1.05",
    "sink+gated:kind=channel",
    "softmax_n:n=2.5+clipped:alpha=0.5+gated:kind=mlp,hidden=2",
};

static inline gm_model_config shape_config(const model_shape *shape, const char *variant) {
    gm_model_config cfg;
    CHECK_OK(gm_model_config_preset(&cfg, shape->preset, err));
    CHECK_OK(gm_model_config_override(&cfg, shape->overrides, err));
    CHECK_OK(gm_variant_parse(&cfg.attention, variant, err));
    CHECK_OK(gm_model_config_check(&cfg, err));
    return cfg;
}

/* NULL: this machine does not have it. */
static inline gm_ctx *context_of(const char *isa, int threads) {
    gm_ctx *ctx;
    if (gm_ctx_create(&ctx, &(gm_ctx_options){.isa = isa, .threads = threads}, NULL) != GM_OK)
        return NULL;
    if (strcmp(gm_ctx_isa(ctx), isa) == 0)
        return ctx;
    gm_ctx_free(ctx);
    return NULL;
}

static const char *const every_isa[] = {"ref", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot"};

/* Weights large enough that attention is far from uniform and clips bite. */
static inline void weights_fill(gm_model *m, uint64_t seed) {
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        uint64_t key = gm_rng_key(seed, p->name);
        double mean = p->kind == GM_PARAM_NORM_GAIN ? 1 : 0, std = 0.3;
        if (p->kind == GM_PARAM_LINEAR || p->kind == GM_PARAM_GATE || p->kind == GM_PARAM_HEAD)
            std = 1.2 / sqrt((double)p->cols);
        else if (p->kind == GM_PARAM_SINK || p->kind == GM_PARAM_EMBEDDING)
            std = 0.8;
        for (int64_t j = 0; j < p->rows * p->cols; j++)
            m->weights[p->offset + j] = (float)(mean + std * gm_rng_normal(key, (uint64_t)j));
    }
}

static inline gm_model *model_of(const gm_ctx *ctx, const gm_model_config *cfg, uint64_t seed) {
    gm_model *m;
    CHECK_OK(gm_model_create(&m, ctx, cfg, seed, err));
    weights_fill(m, seed);
    return m;
}

/* One target in five is masked. */
static inline void tokens_fill(int32_t *x, int32_t *y, int64_t n, int64_t vocab, uint64_t seed) {
    uint64_t key = gm_rng_key(seed, "tokens");
    for (int64_t i = 0; i < n; i++) {
        x[i] = (int32_t)gm_rng_below(key, (uint64_t)(2 * i), vocab);
        y[i] = i % 5 == 3 ? -1 : (int32_t)gm_rng_below(key, (uint64_t)(2 * i + 1), vocab);
    }
}

#endif
