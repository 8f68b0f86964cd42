/* checkpoints.c -- the newest is also linked under its step's name before the next one takes its place, so that there is always one. */
#include "checkpoints.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static const char newest_name[] = "state.safetensors";

static gm_status path_of(char path[1024], const gm_checkpoints *c, int64_t step, gm_error *err) {
    char name[64];
    snprintf(name, sizeof name, "state-%09" PRId64 ".safetensors", step);
    return gm_path_join(path, 1024, c->folder, step ? name : newest_name, err);
}

/* The step of state-<step>.safetensors; 0: another file. */
static int64_t step_of(const char *name) {
    int64_t step;
    int end = 0;
    return sscanf(name, "state-%9" SCNd64 ".safetensors%n", &step, &end) == 1 && end && !name[end] ? step : 0;
}

/* The largest step below `limit` among the older ones; 0: none. */
static gm_status next_older(int64_t *best, const gm_checkpoints *c, int64_t limit, gm_error *err) {
    *best = 0;
    DIR *dir = opendir(c->folder);
    if (!dir)
        return gm_fail_errno(err, "cannot read the folder '%s'", c->folder);
    gm_status status = GM_OK;
    for (struct dirent *e; status == GM_OK && (e = gm_dir_next(dir, c->folder, &status, err));) {
        int64_t step = step_of(e->d_name);
        if (step < limit)
            *best = GM_MAX(*best, step);
    }
    closedir(dir);
    return status;
}

gm_status gm_checkpoints_path(char path[1024], const gm_checkpoints *c, int i, gm_error *err) {
    GM_TRY(path_of(path, c, 0, err));
    const bool has_newest = gm_path_exists(path);
    if (has_newest && i == 0)
        return GM_OK;
    int64_t step = INT64_MAX;
    for (int k = has_newest ? 1 : 0; k <= i && step; k++)
        GM_TRY(next_older(&step, c, step, err));
    if (step)
        return path_of(path, c, step, err);
    *path = 0;
    return GM_OK;
}

/* A second name for the newest; on file systems without links it is renamed, and found under that name should the next one not come. */
static gm_status set_aside(const gm_checkpoints *c, gm_error *err) {
    char newest[1024], older[1024];
    GM_TRY(path_of(newest, c, 0, err));
    GM_TRY(path_of(older, c, c->newest, err));
    unlink(older);
    if (link(newest, older) == 0 || rename(newest, older) == 0 || errno == ENOENT)
        return GM_OK;
    return gm_fail_errno(err, "cannot keep the checkpoint '%s'", newest);
}

static gm_status remove_step(const gm_checkpoints *c, int64_t step, gm_error *err) {
    char path[1024];
    GM_TRY(path_of(path, c, step, err));
    return unlink(path) == 0 || errno == ENOENT ? GM_OK : gm_fail_errno(err, "cannot remove '%s'", path);
}

/* All but the newest `kept` of those before `step`. */
static gm_status prune(const gm_checkpoints *c, int64_t step, int64_t kept, gm_error *err) {
    for (int64_t older = INT64_MAX; older;) {
        GM_TRY(next_older(&older, c, older, err));
        if (older && (older >= step || kept-- <= 0))
            GM_TRY(remove_step(c, older, err));
    }
    return GM_OK;
}

gm_status gm_checkpoints_add(gm_checkpoints *c, int64_t step, const gm_state_entry *entries, int count, const char *json, gm_error *err) {
    char path[1024];
    GM_TRY(path_of(path, c, 0, err));
    if (c->newest && c->keep > 1)
        GM_TRY(set_aside(c, err));
    GM_TRY(gm_state_write(path, entries, count, json, err));
    c->newest = step;
    return prune(c, step, c->keep - 1, err);
}

gm_status gm_checkpoints_remove(const gm_checkpoints *c, gm_error *err) {
    GM_TRY(prune(c, 0, 0, err));
    return remove_step(c, 0, err);
}
