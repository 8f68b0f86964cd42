/* dist.h -- the processes ("ranks") of one job, and what they tell each other. The one seam between ghostmax and MPI: what a launcher
 * started is found in launcher.c, bytes are carried by a gm_wire (wire.h), which dist_mpi.c provides; nothing else knows of MPI.
 *
 * gm_dist_begin, gm_dist_rank and their like are public (ghostmax_model.h). A NULL gm_dist is a process alone: rank 0 of 1, and every
 * function below is then its own answer at no cost. Collective means that all ranks must call it, in the same order.
 *
 * Sums are deterministic: every partial sum of an element comes to one rank, which adds them in double in the order of ranks and rounds
 * once. No reduction of the MPI library's choosing takes part, so the same P gives the same bits whatever arrives first. */
#ifndef GM_DIST_H
#define GM_DIST_H

#include "base.h"
#include "ghostmax_model.h"

/* ---- whole ranks */

/* Collective: all[rank][bytes] of every rank's `mine`. */
gm_status gm_dist_all_gather(gm_dist *d, const void *mine, size_t bytes, void *all, gm_error *err);
/* Collective: rank 0's x for everyone. */
gm_status gm_dist_broadcast(gm_dist *d, void *x, size_t bytes, gm_error *err);
/* Collective: gm_dist_agree(mine), and sums[0..n-1] += every rank's x, in the order of ranks. n <= GM_DIST_ADD. */
enum { GM_DIST_ADD = 8 };
gm_status gm_dist_add(gm_dist *d, gm_status mine, const double *x, double *sums, int n, gm_error *err);
/* From one rank to another; both wait until it is done. */
gm_status gm_dist_send(gm_dist *d, const void *x, size_t bytes, int to, gm_error *err);
gm_status gm_dist_receive(gm_dist *d, void *x, size_t bytes, int from, gm_error *err);

/* ---- an alarm: what one rank says, without waiting, to all who may be far from any collective call (the lab's runs) */

void gm_dist_alarm(gm_dist *d, gm_status status, const char *text);
/* GM_OK, or what a rank has said (once; later alarms are not looked at). */
gm_status gm_dist_alarmed(gm_dist *d, gm_error *err);

/* ---- the sum of one float array over the ranks, in buckets, while the caller still computes the array
 *
 * x [n] is cut into buckets from its end to its beginning, and each bucket into a share per rank. When a bucket is ready, every rank sends
 * each share to its owner; the owner adds, and (everywhere) sends the sum back. Memory: one more array of n floats. */
typedef struct gm_dist_sum gm_dist_sum;

/* everywhere: all ranks get the whole sum; else each its own shares, and gm_dist_sum_spread hands an array around later. bucket: floats, 0:
 * a size that suits the number of ranks. Not collective, but n, bucket and everywhere must be equal on all ranks. */
gm_status gm_dist_sum_create(gm_dist_sum **out, gm_dist *d, float *x, int64_t n, int64_t bucket, bool everywhere, gm_error *err);
void gm_dist_sum_free(gm_dist_sum *s);
/* From element `from` to the end x is final: starts what can be, and lets running buckets make progress. An error waits for _finish. */
void gm_dist_sum_ready(gm_dist_sum *s, int64_t from);
/* Collective: the rest; then x is summed (its own shares, or all of it), and s is ready for the next time. */
gm_status gm_dist_sum_finish(gm_dist_sum *s, gm_error *err);
/* This rank's shares, by index from the array's end; false past the last. */
bool gm_dist_sum_share(const gm_dist_sum *s, int index, int64_t *begin, int64_t *size);
/* Floats in all of this rank's shares. */
int64_t gm_dist_sum_share_total(const gm_dist_sum *s);
/* Collective: y [n], of which every rank holds its shares, whole for everyone. */
gm_status gm_dist_sum_spread(gm_dist_sum *s, float *y, gm_error *err);
/* Collective: rank 0 gets y [n] from everyone's shares, which lie one behind the other, in index order, in `shares`. */
gm_status gm_dist_sum_collect(gm_dist_sum *s, float *y, const float *shares, gm_error *err);
/* The same the other way: rank 0's y, everyone's shares. */
gm_status gm_dist_sum_deal(gm_dist_sum *s, const float *y, float *shares, gm_error *err);

#endif
