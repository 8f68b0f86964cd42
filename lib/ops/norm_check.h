/* norm_check.h -- what the row and attention functions share about a gm_norm. */
#ifndef GM_NORM_CHECK_H
#define GM_NORM_CHECK_H

#include "context.h"

#include <math.h>

gm_status gm_norm_check(gm_norm norm, gm_error *err);

/* exp(b - lse), 0 without a sink and in a fully masked row. */
static inline double gm_null_mass(float sink, float lse) {
    return sink == -INFINITY ? 0 : exp((double)sink - lse);
}

#endif
