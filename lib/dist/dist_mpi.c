/* dist_mpi.c -- the wire of MPI; the only file that knows it. Its collectives only copy (all-gather, broadcast), so the library's choice
 * of algorithm cannot change a bit. MPI is entered from one thread (MPI_THREAD_FUNNELED). */
#define _GNU_SOURCE
#include "wire.h"

#ifdef GM_MPI

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAG_SHOUT = 2 };

struct gm_wire_group {
    int used, capacity;
    MPI_Request requests[];
};

static gm_status answer(int code, const char *what, gm_error *err) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (code == MPI_SUCCESS)
        return GM_OK;
    MPI_Error_string(code, text, &n);
    return gm_fail(err, GM_EIO, "MPI: %s failed: %.300s", what, text);
}

static gm_status all_gather(gm_wire *w, const void *mine, size_t bytes, void *all, gm_error *err) {
    (void)w;
    return answer(MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD), "an all-gather", err);
}

static gm_status broadcast(gm_wire *w, void *x, size_t bytes, gm_error *err) {
    (void)w;
    return answer(MPI_Bcast(x, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD), "a broadcast", err);
}

static gm_status group_new(gm_wire *w, gm_wire_group **out, int capacity, gm_error *err) {
    (void)w;
    gm_wire_group *g = gm_alloc(1, sizeof *g + (size_t)capacity * sizeof g->requests[0]);
    *out = g;
    if (!g)
        return gm_fail_memory(err, (size_t)capacity * sizeof g->requests[0]);
    g->capacity = capacity;
    return GM_OK;
}

static void group_free(gm_wire *w, gm_wire_group *g) {
    (void)w;
    gm_free(g);
}

static gm_status send(gm_wire *w, gm_wire_group *g, const void *x, size_t bytes, int to, int tag, gm_error *err) {
    (void)w;
    return answer(MPI_Isend(x, (int)bytes, MPI_BYTE, to, tag, MPI_COMM_WORLD, &g->requests[g->used++]), "a send", err);
}

static gm_status receive(gm_wire *w, gm_wire_group *g, void *x, size_t bytes, int from, int tag, gm_error *err) {
    (void)w;
    return answer(MPI_Irecv(x, (int)bytes, MPI_BYTE, from, tag, MPI_COMM_WORLD, &g->requests[g->used++]), "a receive", err);
}

static gm_status group_done(gm_wire *w, gm_wire_group *g, bool wait, bool *done, gm_error *err) {
    (void)w;
    int all = 1;
    GM_TRY(
        answer(wait ? MPI_Waitall(g->used, g->requests, MPI_STATUSES_IGNORE) : MPI_Testall(g->used, g->requests, &all, MPI_STATUSES_IGNORE),
               "waiting for messages", err));
    *done = all;
    if (all)
        g->used = 0;
    return GM_OK;
}

/* Short enough to be on its way when the call returns (eager), to a rank that may be gone. */
static void shout(gm_wire *w, const void *x, size_t bytes, int to) {
    (void)w;
    MPI_Request request;
    char *copy = malloc(bytes); /* the wire's until the message is out, which nobody asks: it is never freed */
    if (!copy)
        return;
    memcpy(copy, x, bytes);
    if (MPI_Isend(copy, (int)bytes, MPI_BYTE, to, TAG_SHOUT, MPI_COMM_WORLD, &request) == MPI_SUCCESS)
        MPI_Request_free(&request);
}

static bool heard(gm_wire *w, void *x, size_t bytes) {
    (void)w;
    int there = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_SHOUT, MPI_COMM_WORLD, &there, &status) != MPI_SUCCESS || !there)
        return false;
    return MPI_Recv(x, (int)bytes, MPI_BYTE, status.MPI_SOURCE, TAG_SHOUT, MPI_COMM_WORLD, MPI_STATUS_IGNORE) == MPI_SUCCESS;
}

static void close_wire(gm_wire *w) {
    (void)w;
    MPI_Finalize();
}

/* Launchers bind a rank to some processors, or leave all ranks of a machine all of them. A fair share is right for both: no more than this
 * rank may use, and no more than all that the machine's ranks may use divided by their number. */
static int fair_threads(void) {
#ifdef __linux__
    MPI_Comm machine;
    cpu_set_t mine, all;
    int ranks;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0 &&
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine) == MPI_SUCCESS) {
        MPI_Comm_size(machine, &ranks);
        MPI_Allreduce(&mine, &all, (int)sizeof all, MPI_BYTE, MPI_BOR, machine);
        MPI_Comm_free(&machine);
        return GM_MAX(1, GM_MIN(CPU_COUNT(&mine), CPU_COUNT(&all) / ranks));
    }
#endif
    return 1;
}

gm_status gm_wire_open(gm_wire *w, gm_error *err) {
    const int launched = gm_dist_launched().size;
    int provided;
    *w = (gm_wire){.all_gather = all_gather,
                   .broadcast = broadcast,
                   .group_new = group_new,
                   .group_free = group_free,
                   .send = send,
                   .receive = receive,
                   .done = group_done,
                   .shout = shout,
                   .heard = heard,
                   .close = close_wire};
    GM_TRY(answer(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init", err));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &w->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &w->size);
    if (w->size != launched) {
        MPI_Finalize();
        return gm_fail(err, GM_EIO,
                       "the launcher started %d processes, but MPI sees %d: it is another MPI's launcher; use the mpirun of this build's "
                       "MPI, or srun --mpi=pmix",
                       launched, w->size);
    }
    w->threads = fair_threads();
    return GM_OK;
}

#endif
