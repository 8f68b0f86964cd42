/* lab_queue.c -- which rank does which run. Runs are independent, so ranks do not speak while they work: one takes the first run that
 * nobody is at, by a lock on runs/<name>.lock that ends with its process, however that ends. A run that another has finished is read from
 * its folder like one of an earlier call; a lost rank's run is taken up, from its checkpoint, by whoever looks next. */
#include "lab.h"

#include <stdlib.h>
#include <time.h>

static gm_status lock_path(char path[1024], const char *out, const char *name, gm_error *err) {
    char within[400];
    snprintf(within, sizeof within, "runs/%s.lock", name);
    return gm_path_join(path, 1024, out, within, err);
}

/* One run, if nobody else is at it (*busy). */
static gm_status take_up(const gm_lab_queue *q, gm_trial *run, bool *busy, gm_error *err) {
    char path[1024];
    gm_lock lock;
    GM_TRY(lock_path(path, q->out, run->name, err));
    GM_TRY(gm_lock_try(&lock, path, busy, err));
    if (*busy)
        return GM_OK;
    gm_status status = q->work(q->user, run, err);
    gm_lock_release(&lock);
    return status;
}

static gm_status until_all_are_done(const gm_lab_queue *q, bool *done, gm_error *err) {
    const struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    for (;;) {
        gm_trial *waiting = NULL;
        for (int i = 0; i < q->count; i++) {
            bool busy;
            if (done[i])
                continue;
            GM_TRY(take_up(q, &q->runs[i], &busy, err));
            done[i] = !busy;
            waiting = busy ? &q->runs[i] : waiting;
        }
        if (!waiting)
            return GM_OK;
        if (q->wait(q->user, waiting))
            return gm_fail(err, GM_ESTOPPED, "stopped; the same command continues it");
        nanosleep(&pause, NULL);
    }
}

gm_status gm_lab_queue_run(const gm_lab_queue *q, gm_error *err) {
    gm_status status = GM_OK;
    if (!q->dist) {
        for (int i = 0; i < q->count && status == GM_OK; i++)
            status = q->work(q->user, &q->runs[i], err);
        return status;
    }
    bool *done = calloc((size_t)q->count, sizeof *done);
    if (!done)
        return gm_fail_memory(err, (size_t)q->count);
    status = until_all_are_done(q, done, err);
    free(done);
    return status;
}

gm_status gm_lab_queue_check(gm_dist *d, const char *out, gm_error *err) {
    char path[1024];
    gm_lock lock = GM_UNLOCKED;
    bool busy = true;
    gm_status status = GM_OK;
    if (gm_dist_rank(d) > 0) { /* rank 0 has it */
        status = gm_path_join(path, sizeof path, out, GM_LOCK_NAME, err);
        if (status == GM_OK)
            status = gm_lock_try(&lock, path, &busy, err);
        if (status == GM_OK && !busy)
            status =
                gm_fail(err, GM_EIO,
                        "rank 0's lock on '%s' is not seen; --out must be on a file system that all ranks share and that has locks", out);
        if (!busy)
            gm_lock_release(&lock);
    }
    return gm_dist_agree(d, status, err);
}
