/* made.h -- what made a file: for reports, years later. */
#ifndef GM_MADE_H
#define GM_MADE_H

#include "base.h"

#include <jansson.h>

/* {"version", "commit", "command", "time" (UTC, now), "machine": {"isa", "gemm", "threads", "compiler", "system"}}. command NULL: "". */
json_t *gm_made_json(const gm_ctx *ctx, const char *command);

#endif
