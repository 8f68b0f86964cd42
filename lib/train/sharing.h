/* sharing.h -- one training run on several ranks. Every micro-batch is cut among them, each sequence once, so the batch does not depend on
 * their number; gradients are summed while the backward pass goes on; AdamW's moments lie on every rank, or (shard) each rank has those of
 * its shares and updates these alone. Alone (no gm_dist) all of it is what one process does. docs/cluster.md counts the bytes. */
#ifndef GM_SHARING_H
#define GM_SHARING_H

#include "dist.h"
#include "model.h"

typedef struct gm_sharing {
    gm_dist *dist;
    int rank, ranks;
    gm_model *model;
    gm_dist_sum *sum; /* of the gradients; NULL alone */
    bool sharded;
    int64_t moments; /* floats of each moment that this rank holds */
    gm_grads_watch watch;
    float *moment1, *moment2;
} gm_sharing;

/* Errors: GM_EINVAL (a micro-batch of fewer sequences than there are ranks). */
gm_status gm_sharing_check(const gm_dist *d, const gm_train_options *o, gm_error *err);
/* This rank's sequences of a micro-batch of `part`. */
void gm_sharing_slice(const gm_sharing *s, int64_t part, int64_t *first, int64_t *count);

/* m has its gradients (gm_model_train_begin). Allocates the moments, zero. s stays where it is until gm_sharing_end (NULL memory ok). */
gm_status gm_sharing_begin(gm_sharing *s, gm_dist *d, gm_model *m, const gm_train_options *o, gm_error *err);
void gm_sharing_end(gm_sharing *s);
/* Collective: rank 0's weights for everyone. */
gm_status gm_sharing_weights(gm_sharing *s, gm_error *err);

/* The micro-batch that comes is the step's last: gradients may leave as they become final. */
void gm_sharing_watch(gm_sharing *s);
/* Collective, after the last micro-batch, whose status is `mine`: the gradients' sum and norm, and the losses' sum. */
gm_status gm_sharing_gradients(gm_sharing *s, gm_status mine, double *loss_sum, double *norm, gm_error *err);
/* Collective: AdamW's step t, on every rank the same weights. */
gm_status gm_sharing_step(gm_sharing *s, const gm_train_options *o, double grad_norm, double lr, int64_t t, gm_error *err);

/* Collective: do all ranks have the same weights? They must, and do on equal machines. */
gm_status gm_sharing_verify(gm_sharing *s, gm_error *err);
/* The moments whole, laid out as the weights, on rank 0 (elsewhere *whole stays NULL): to be saved, or to be read into. Where they are not
 * sharded these are the rank's own. */
typedef struct gm_whole_moments {
    float *moment1, *moment2;
    bool borrowed;
} gm_whole_moments;
gm_status gm_sharing_whole_begin(gm_sharing *s, gm_whole_moments *whole, gm_error *err);
gm_status gm_sharing_collect(gm_sharing *s, gm_whole_moments *whole, gm_error *err); /* collective */
gm_status gm_sharing_deal(gm_sharing *s, gm_whole_moments *whole, gm_error *err);    /* collective: rank 0's to whom they belong */
void gm_sharing_whole_end(gm_whole_moments *whole);

#endif
