/* checkpoints.h -- the last few states of a training run, so that a damaged one does not lose it: state.safetensors is the newest,
 * state-<step>.safetensors are those before it. At every moment what is there under these names is whole. */
#ifndef GM_CHECKPOINTS_H
#define GM_CHECKPOINTS_H

#include "train_state.h"

#define GM_KEEP_MAX 1000

typedef struct gm_checkpoints {
    const char *folder;
    int64_t keep;   /* how many, 1..GM_KEEP_MAX */
    int64_t newest; /* the step of state.safetensors, where this process wrote or read it; else 0 */
} gm_checkpoints;

/* The i-th to try, the newest first; "": there is none. */
gm_status gm_checkpoints_path(char path[1024], const gm_checkpoints *c, int i, gm_error *err);
/* The state after `step`; then the oldest go, and those of later steps, which were passed over when the run was continued. */
gm_status gm_checkpoints_add(gm_checkpoints *c, int64_t step, const gm_state_entry *entries, int count, const char *json, gm_error *err);
gm_status gm_checkpoints_remove(const gm_checkpoints *c, gm_error *err); /* all: the run is finished */

#endif
