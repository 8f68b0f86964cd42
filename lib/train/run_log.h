/* run_log.h -- what a run tells while it goes on: one line per logged step in metrics.jsonl, the same numbers as TensorBoard's scalars, and
 * now and then its histograms and pictures. Whoever wants a number in both adds it to the line. */
#ifndef GM_RUN_LOG_H
#define GM_RUN_LOG_H

#include "event_file.h"
#include "jsonl.h"
#include "model.h"

#include <jansson.h>

typedef struct gm_run_log {
    gm_jsonl lines;
    gm_event_file events;
    int64_t step_tokens; /* tokens of a step: step_seconds becomes tokens per second */
} gm_run_log;

#define GM_RUN_LOG_CLOSED     \
    (gm_run_log) {            \
        {-1, ""}, {-1, ""}, 0 \
    }

/* keep_step: as gm_jsonl_open's, for both files. */
gm_status gm_run_log_open(gm_run_log *log, const char *folder, int64_t keep_step, int64_t step_tokens, gm_error *err);
/* An object with "step": every number of it, under train/ or its own heading (run_log.c); null is NaN. Into a closed log goes
 * nothing. */
gm_status gm_run_log_add(gm_run_log *log, const json_t *line, gm_error *err);
/* Histograms of every weight, and of every activation on the first validation sequence; pictures of the block outputs and attention
 * weights on it. One forward pass; m is unchanged. A closed log: nothing. */
gm_status gm_run_log_pictures(gm_run_log *log, gm_model *m, const gm_data *data, int64_t step, gm_error *err);
/* What is trained, an object of texts and numbers, as a table for people under the tag "run". */
gm_status gm_run_log_config(gm_run_log *log, const json_t *config, gm_error *err);
gm_status gm_run_log_sync(gm_run_log *log, gm_error *err); /* what was added survives a power cut; a closed log: nothing */
void gm_run_log_close(gm_run_log *log);

#endif
