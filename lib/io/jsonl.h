/* jsonl.h -- a log of one JSON object per line that survives being killed: every line is handed to the system when it is added, and
 * opening for a resumed run first cuts what the killed run wrote past the state it left. */
#ifndef GM_JSONL_H
#define GM_JSONL_H

#include "base.h"

typedef struct gm_jsonl {
    int fd;
    char path[1024];
} gm_jsonl;

/* gm_jsonl_open -- open for appending, made when absent. Lines whose integer "step" is greater than keep_step are cut, with all that
 * follow (a line without "step" belongs to the one before it; keep_step -1 starts an empty file); so is an unfinished last line. A line in
 * the middle that is not JSON: GM_EFORMAT with its offset, the file unchanged. */
gm_status gm_jsonl_open(gm_jsonl *log, const char *path, int64_t keep_step, gm_error *err);
/* One line, given without its newline. */
gm_status gm_jsonl_add(gm_jsonl *log, const char *line, gm_error *err);
gm_status gm_jsonl_sync(gm_jsonl *log, gm_error *err); /* what was added survives a power cut */
void gm_jsonl_close(gm_jsonl *log);                    /* closing twice, or after a failed open, is fine */

#endif
