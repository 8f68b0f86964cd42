/* replay.h -- a training step written out: what gm_train_run does with one batch, from the same parts, so that PyTorch's run (golden
 * files) checks the parts and the run's own loop is checked, bit for bit, against this one. */
#ifndef GM_TEST_REPLAY_H
#define GM_TEST_REPLAY_H

#include "model.h"
#include "model/model_cases.h"
#include "ops.h"

typedef struct replay {
    gm_model *model;
    float *moment1, *moment2;
    double loss, grad_norm, lr; /* of the last step */
} replay;

static inline void replay_open(replay *r, gm_model *m, const gm_train_options *o) {
    *r = (replay){.model = m};
    CHECK_OK(gm_model_train_begin(m, o->batch / o->accumulate, o->context, err));
    r->moment1 = calloc((size_t)m->param_elements, sizeof(float));
    r->moment2 = calloc((size_t)m->param_elements, sizeof(float));
}

static inline void replay_close(replay *r) {
    free(r->moment1);
    free(r->moment2);
}

/* Linear warm-up to lr at step `warmup`, then down to lr_min * lr at the last step, along half a cosine, a line, or not at all. */
static inline double replay_rate(const gm_train_options *o, int64_t step) {
    if (step < o->warmup)
        return o->lr * (double)step / (double)o->warmup;
    double left = o->steps > o->warmup ? (double)(o->steps - step) / (double)(o->steps - o->warmup) : 0;
    if (o->schedule == GM_SCHEDULE_CONSTANT)
        return o->lr;
    double share = o->schedule == GM_SCHEDULE_LINEAR ? left : (1 - cos(acos(-1) * left)) / 2;
    return o->lr * (o->lr_min + (1 - o->lr_min) * share);
}

/* Step 1, 2, ... on x, y [batch, context], all of whose targets count. lr: the rate to use. */
static inline void replay_step(replay *r, const gm_train_options *o, int64_t step, double lr, const int32_t *x, const int32_t *y) {
    gm_model *m = r->model;
    const int64_t part = o->batch / o->accumulate, tokens = o->batch * o->context;
    double sum = 0;
    gm_model_zero_grads(m);
    for (int64_t i = 0; i < o->accumulate; i++)
        CHECK_OK(gm_model_accumulate(m, x + i * part * o->context, y + i * part * o->context, part, o->context, 1.0f / (float)tokens, 0,
                                     &sum, err));
    r->loss = sum / (double)tokens;
    r->grad_norm = sqrt(gm_sum_squares(m->ctx, m->grads, m->param_elements));
    r->lr = lr;
    float scale = o->clip > 0 && r->grad_norm > o->clip ? (float)(o->clip / r->grad_norm) : 1.0f;
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        bool matrix = p->cols > 1 || p->kind == GM_PARAM_EMBEDDING; /* nanoGPT: vectors do not decay */
        bool decays = matrix || (o->decay_norm_gains && p->kind == GM_PARAM_NORM_GAIN);
        gm_adamw(m->ctx, m->weights + p->offset, m->grads + p->offset, r->moment1 + p->offset, r->moment2 + p->offset, p->rows * p->cols,
                 scale, lr, o->beta1, o->beta2, o->eps, decays ? o->weight_decay : 0, step);
    }
}

#endif
