/* optimizer.c -- which parameters decay, and the clipping of the gradient; the arithmetic is ops/adamw.c. */
#include "optimizer.h"

#include "ops.h"

void gm_optimizer_part(gm_model *m, int64_t begin, int64_t size, float *moment1, float *moment2, const gm_train_options *o,
                       double grad_norm, double lr, int64_t t) {
    float scale = o->clip > 0 && grad_norm > o->clip ? (float)(o->clip / grad_norm) : 1.0f;
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        bool decay = p->decay || (o->decay_norm_gains && p->kind == GM_PARAM_NORM_GAIN);
        int64_t from = GM_MAX(p->offset, begin), to = GM_MIN(p->offset + p->rows * p->cols, begin + size);
        if (from < to)
            gm_adamw(m->ctx, m->weights + from, m->grads + from, moment1 + (from - begin), moment2 + (from - begin), to - from, scale, lr,
                     o->beta1, o->beta2, o->eps, decay ? o->weight_decay : 0, t);
    }
}

void gm_optimizer_step(gm_model *m, float *moment1, float *moment2, const gm_train_options *o, double grad_norm, double lr, int64_t t) {
    gm_optimizer_part(m, 0, m->param_elements, moment1, moment2, o, grad_norm, lr, t);
}
