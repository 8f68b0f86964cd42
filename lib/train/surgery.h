/* surgery.h -- continuing a trained model under another attention variant.
 *
 * Weights are the source's; what the new variant adds starts where it changes as little as it can: gates open (weights 0, bias logit(pi),
 * so that g = pi everywhere), learned sinks at the logit that the source's constant sink had, or at 0 under a ramp. A ramp of N steps leads
 * the three numbers of the normaliser from the source's to the variant's: step s is computed with the share r = min(1, (s - 1) / N),
 *
 *     mass of the sink   exp(b) = (1 - r) exp(b_from) + r exp(b_to)     (softmax: 0, softmax_n: n; a learned sink: r exp(sink_h))
 *     clip               a = a_from + r (a_to - a_from),  c alike       (not clipped: a = 1, c = 0)
 *
 * so step 1 is the source itself, and a learned sink's logit rises from -inf. The share is a function of the step, so a resumed run needs
 * no state for it. Test: tests/train/test_surgery.c */
#ifndef GM_SURGERY_H
#define GM_SURGERY_H

#include "model.h"

/* gm_surgery_config -- cfg (checked) is to be trained from options->from: fills in what surgery decides (openness of new gates, the line
 * for config.json). Errors: GM_EINVAL (a ramp as long as the training, or between variants that have none; a tensor of another shape). */
gm_status gm_surgery_config(gm_model_config *cfg, const gm_train_options *options, gm_error *err);
/* Weights of a freshly created m: from's, and the starting values of what it has not. */
void gm_surgery_weights(gm_model *m, const gm_model *from);
/* The normaliser with which step 1.. is computed. */
void gm_surgery_step(gm_model *m, const gm_train_options *options, int64_t step);

#endif
