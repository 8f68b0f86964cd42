/* identity.h -- what makes two runs the same run: model, data and every option that changes a bit of the result. */
#ifndef GM_IDENTITY_H
#define GM_IDENTITY_H

#include "base.h"
#include "ghostmax_model.h"

struct json_t;

/* A flat JSON object of names and values; NULL without memory. The caller's (json_decref). */
struct json_t *gm_identity_of(const gm_model_config *cfg, const gm_train_options *options, const char *data);

/* GM_EINVAL naming the first field in which the run in `folder` differs from the one asked for. A field that is missing there, because the
 * run is of an earlier version, counts as off. Test: tests/train/test_train.c (runs_of_an_earlier_version) */
gm_status gm_identity_compare(struct json_t *there, struct json_t *asked, const char *folder, gm_error *err);

#endif
