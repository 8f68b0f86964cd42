/* optimizer.h -- what turns gradients into a step of the weights. */
#ifndef GM_OPTIMIZER_H
#define GM_OPTIMIZER_H

#include "model.h"

/* AdamW on every parameter of m, whose gradients' norm is grad_norm: clipped to o->clip, decayed as params.def and o say. Moments are laid
 * out as m->weights. t >= 1 counts the steps. */
void gm_optimizer_step(gm_model *m, float *moment1, float *moment2, const gm_train_options *o, double grad_norm, double lr, int64_t t);
/* The same on elements begin .. begin + size - 1 of the arena; the moments are those of `begin` and behind. */
void gm_optimizer_part(gm_model *m, int64_t begin, int64_t size, float *moment1, float *moment2, const gm_train_options *o,
                       double grad_norm, double lr, int64_t t);

#endif
