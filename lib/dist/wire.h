/* wire.h -- what carries bytes between ranks. Private to dist/: dist_mpi.c is the real one, dist_none.c what a build without MPI has, and
 * tests make one of threads. Every function may be called from the thread that opened it only. */
#ifndef GM_WIRE_H
#define GM_WIRE_H

#include "dist.h"

typedef struct gm_wire gm_wire;
typedef struct gm_wire_group gm_wire_group; /* messages under way, asked after together */

struct gm_wire {
    void *self;
    int rank, size;
    int threads; /* this rank's fair share of its machine's processors */
    gm_status (*all_gather)(gm_wire *w, const void *mine, size_t bytes, void *all, gm_error *err);
    gm_status (*broadcast)(gm_wire *w, void *x, size_t bytes, gm_error *err); /* of rank 0's */
    /* Messages between two ranks with equal tags arrive in order. x stays the wire's until the group is done. */
    gm_status (*group_new)(gm_wire *w, gm_wire_group **out, int capacity, gm_error *err);
    void (*group_free)(gm_wire *w, gm_wire_group *g);
    gm_status (*send)(gm_wire *w, gm_wire_group *g, const void *x, size_t bytes, int to, int tag, gm_error *err);
    gm_status (*receive)(gm_wire *w, gm_wire_group *g, void *x, size_t bytes, int from, int tag, gm_error *err);
    /* Are all of the group's messages through (wait: until they are)? Then the group is empty again. */
    gm_status (*done)(gm_wire *w, gm_wire_group *g, bool wait, bool *done, gm_error *err);
    /* A short message that nobody expects: sent and forgotten; and whether one has come (then it is in x). */
    void (*shout)(gm_wire *w, const void *x, size_t bytes, int to);
    bool (*heard)(gm_wire *w, void *x, size_t bytes);
    void (*close)(gm_wire *w);
};

/* Joins the job that a launcher started (launcher.h says of how many). Errors: GM_EUNSUPPORTED, GM_EIO. */
gm_status gm_wire_open(gm_wire *w, gm_error *err);

/* For dist_sum.c. A wire that failed once is not asked again: others may wait for ever. */
gm_wire *gm_dist_wire(gm_dist *d);
gm_status gm_dist_carried(gm_dist *d, gm_status status);

/* The job on this wire, which it takes over; closed by gm_dist_end. */
gm_status gm_dist_on_wire(gm_dist **out, const gm_wire *w, gm_error *err);

#endif
