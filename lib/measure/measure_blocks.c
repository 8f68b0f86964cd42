/* measure_blocks.c -- what blocks of sequences gave, put together in the order of the sequences, from this process or others. */
#include "measure.h"

#include <math.h>
#include <string.h>

/* ---- everything in a measurement that counts something, as stretches of memory: to clear it, and to send it */

typedef struct stretch_walk {
    void (*fn)(void *user, void *x, size_t bytes);
    void *user;
} stretch_walk;

static void walk(const stretch_walk *w, void *x, size_t bytes) {
    if (x && bytes)
        w->fn(w->user, x, bytes);
}
#define WALK(w, x, n) walk(w, x, (size_t)(n) * sizeof *(x))

static void walk_sketch(const stretch_walk *w, gm_sketch *s) {
    WALK(w, s->count, GM_SKETCH_BINS);
    WALK(w, &s->total, 1);
    WALK(w, &s->nan, 1);
    WALK(w, &s->min, 1);
    WALK(w, &s->max, 1);
    WALK(w, &s->largest, 1);
}

static void walk_positions(const stretch_walk *w, gm_position_stats *s) {
    WALK(w, s->count, s->bins);
    WALK(w, s->norm, s->bins);
    WALK(w, s->inf_norm, s->bins);
    WALK(w, s->absmax, s->bins);
}

static void walk_tensor(const stretch_walk *w, gm_measured *t) {
    WALK(w, t->stats.sums, GM_POSITIONS_COUNT);
    walk_sketch(w, &t->stats.sketch);
    WALK(w, &t->stats.first_norm, 1);
    WALK(w, &t->stats.sequences, 1);
    WALK(w, &t->classes, 1);
    walk_positions(w, &t->positions);
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        WALK(w, t->dims.moments[p], t->dims.C);
        WALK(w, t->dims.absmax[p], t->dims.C);
    }
    WALK(w, t->dims.place, t->dims.C);
    WALK(w, &t->broken_sequence, 1);
    WALK(w, &t->broken_position, 1);
    WALK(w, &t->broken_dim, 1);
}

static void walk_all(gm_measurement *p, const stretch_walk *w) {
    for (int i = 0; i < p->tensor_count; i++)
        walk_tensor(w, &p->tensors[i]);
    WALK(w, p->heads, p->model->cfg.layers * p->model->cfg.heads);
    WALK(w, &p->massive, 1);
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        WALK(w, &p->features.positions[i], 1);
        WALK(w, p->features.in_layer[i], p->features.layers * p->features.C);
        WALK(w, p->features.at_position[i], p->features.C);
        WALK(w, &p->largest[i].kept, 1);
        WALK(w, p->largest[i].list, p->largest[i].capacity);
    }
    walk_positions(w, &p->loss_positions);
    WALK(w, &p->backcopy, 1);
    WALK(w, &p->loss_sum, 1);
    WALK(w, &p->targets, 1);
}

static void clear_stretch(void *user, void *x, size_t bytes) {
    (void)user;
    memset(x, 0, bytes);
}

void gm_measurement_clear(gm_measurement *p) {
    walk_all(p, &(stretch_walk){clear_stretch, NULL});
    for (int i = 0; i < p->tensor_count; i++) {
        p->tensors[i].stats.sketch.min = INFINITY;
        p->tensors[i].stats.sketch.max = -INFINITY;
    }
}

/* ---- merging */

static void tensor_merge(gm_measured *into, const gm_measured *from, bool details) {
    if (gm_measured_broken(into) == 0 && gm_measured_broken(from) > 0) { /* the first one's place */
        into->broken_sequence = from->broken_sequence;
        into->broken_position = from->broken_position;
        into->broken_dim = from->broken_dim;
    }
    gm_tensor_stats_merge(&into->stats, &from->stats);
    gm_class_stats_merge(&into->classes, &from->classes);
    if (!details)
        return;
    gm_position_stats_merge(&into->positions, &from->positions);
    gm_dim_stats_merge(&into->dims, &from->dims);
}

void gm_measurement_merge(gm_measurement *into, const gm_measurement *from) {
    for (int i = 0; i < into->tensor_count; i++)
        tensor_merge(&into->tensors[i], &from->tensors[i], into->details);
    for (int64_t i = 0; i < into->model->cfg.layers * into->model->cfg.heads; i++)
        gm_head_stats_merge(&into->heads[i], &from->heads[i]);
    gm_massive_stats_merge(&into->massive, &from->massive);
    gm_feature_stats_merge(&into->features, &from->features);
    for (int i = 0; into->details && i < GM_POSITIONS_COUNT; i++)
        gm_largest_merge(&into->largest[i], &from->largest[i]);
    if (into->details)
        gm_position_stats_merge(&into->loss_positions, &from->loss_positions);
    gm_backcopy_stats *a = &into->backcopy;
    const gm_backcopy_stats *b = &from->backcopy;
    a->copy_loss += b->copy_loss;
    a->bigram_excess += b->bigram_excess;
    a->dormant_mass += b->dormant_mass;
    a->copies += b->copies;
    a->bigrams += b->bigrams;
    a->dormant += b->dormant;
    into->loss_sum += from->loss_sum;
    into->targets += from->targets;
}

/* ---- other ranks' blocks */

typedef struct stretch_trip {
    gm_dist *dist;
    int peer;
    gm_status status;
    gm_error *err;
} stretch_trip;

static void send_stretch(void *user, void *x, size_t bytes) {
    stretch_trip *trip = user;
    if (trip->status == GM_OK)
        trip->status = gm_dist_send(trip->dist, x, bytes, trip->peer, trip->err);
}

static void receive_stretch(void *user, void *x, size_t bytes) {
    stretch_trip *trip = user;
    if (trip->status == GM_OK)
        trip->status = gm_dist_receive(trip->dist, x, bytes, trip->peer, trip->err);
}

gm_status gm_measurement_turn(gm_dist *d, gm_measurement *all, gm_measurement *mine, int64_t turn, bool have, gm_error *err) {
    stretch_trip trip = {.dist = d, .err = err};
    if (gm_dist_rank(d) > 0) {
        if (have)
            walk_all(mine, &(stretch_walk){send_stretch, &trip});
        gm_measurement_clear(mine);
        return trip.status;
    }
    gm_measurement_merge(all, mine);
    gm_measurement_clear(mine);
    for (trip.peer = 1; trip.peer < gm_dist_size(d) && turn + trip.peer * GM_MEASURE_BLOCK < mine->sequences; trip.peer++) {
        walk_all(mine, &(stretch_walk){receive_stretch, &trip});
        GM_TRY(trip.status);
        gm_measurement_merge(all, mine);
        gm_measurement_clear(mine);
    }
    return GM_OK;
}
