/* train_state.h -- a training run's state as one file: named float arrays and a small JSON text of scalars. It is a safetensors file
 * (F32 vectors; the JSON under "state" of its metadata), written atomically and checksummed. What the arrays and scalars mean is
 * train/'s business. */
#ifndef GM_TRAIN_STATE_H
#define GM_TRAIN_STATE_H

#include "base.h"

typedef struct gm_state_entry {
    const char *name;
    float *data; /* only read by gm_state_write */
    int64_t count;
} gm_state_entry;

gm_status gm_state_write(const char *path, const gm_state_entry *entries, int count, const char *json, gm_error *err);

/* gm_state_read -- fill the caller's arrays, which must be exactly those of the file (names and counts), and return the JSON text in *json
 * (free(); NULL: not wanted). Nothing is written to the arrays unless all of the file is good. count = 0: the JSON text alone, so that a
 * caller can look at the configuration and the step first.
 * Errors: GM_EFORMAT (damaged, truncated, altered; or arrays of another configuration), GM_EIO, GM_ENOMEM. */
gm_status gm_state_read(const char *path, const gm_state_entry *entries, int count, char **json, gm_error *err);

#endif
