/* analyzer.h -- put before every file of lib/ by tools/lint.sh and analyze.py: analyzers look at one file at a time, and cannot know that a
 * failure never returns GM_OK, nor that ranks do not agree on success when this one has failed. */
#include "base.h"
#include "ghostmax_model.h"

#define gm_fail(err, code, ...) (gm_fail(err, code, __VA_ARGS__), (code))
#define gm_fail_at(err, code, ...) (gm_fail_at(err, code, __VA_ARGS__), (code))
#define gm_fail_errno(...) (gm_fail_errno(__VA_ARGS__), GM_EIO)
#define gm_fail_memory(...) (gm_fail_memory(__VA_ARGS__), GM_ENOMEM)

static inline gm_status gm_dist_agreed(gm_dist *d, gm_status mine, gm_error *err) {
    const gm_status all = gm_dist_agree(d, mine, err);
    return mine == GM_OK ? all : mine;
}
#define gm_dist_agree(d, mine, err) gm_dist_agreed(d, mine, err)
