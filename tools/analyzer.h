/* analyzer.h -- put before every file of lib/ by tools/lint.sh and analyze.py: analyzers look at one file at a time, and cannot know that a
 * failure never returns GM_OK. */
#include "base.h"

#define gm_fail(err, code, ...) (gm_fail(err, code, __VA_ARGS__), (code))
#define gm_fail_at(err, code, ...) (gm_fail_at(err, code, __VA_ARGS__), (code))
#define gm_fail_errno(...) (gm_fail_errno(__VA_ARGS__), GM_EIO)
#define gm_fail_memory(...) (gm_fail_memory(__VA_ARGS__), GM_ENOMEM)
