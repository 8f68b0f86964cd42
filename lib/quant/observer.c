/* observer.c -- running ranges (momentum 0.9) of minimum and maximum, or of two percentiles. */
#include "quant.h"

#include <math.h>
#include <string.h>

static const double MOMENTUM = 0.9;

/* ---- tails */

static gm_status tail_reset(gm_tail *t, int64_t k, gm_error *err) {
    if (k > t->capacity) {
        gm_free(t->heap);
        t->capacity = 0;
        t->heap = gm_alloc((size_t)k, sizeof *t->heap);
        if (!t->heap)
            return gm_fail_memory(err, (size_t)k * sizeof *t->heap);
        t->capacity = k;
    }
    t->k = k;
    t->count = 0;
    return GM_OK;
}

static void tail_push(gm_tail *t, float x) {
    float *heap = t->heap;
    int64_t at;
    if (t->count < t->k) { /* sift up */
        for (at = t->count++; at > 0 && heap[(at - 1) / 2] > x; at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
    } else { /* replace the root, sift down */
        if (!(x > heap[0]))
            return;
        at = 0;
        for (int64_t child = 1; child < t->k; child = 2 * at + 1) {
            if (child + 1 < t->k && heap[child + 1] < heap[child])
                child++;
            if (!(heap[child] < x))
                break;
            heap[at] = heap[child];
            at = child;
        }
    }
    heap[at] = x;
}

/* The k-th and the (k-1)-th largest (the same when k = 1). */
static void tail_edge(const gm_tail *t, double *kth, double *next) {
    *kth = t->heap[0];
    *next = t->k == 1 ? t->heap[0] : t->k == 2 ? t->heap[1] : fminf(t->heap[1], t->heap[2]);
}

/* ---- the observer */

static gm_status batch_begin(gm_observer *o, int64_t total, gm_error *err) {
    o->batch_lo = INFINITY;
    o->batch_hi = -INFINITY;
    if (o->percentile == 0.0)
        return GM_OK;
    double last = (double)(total - 1);
    o->rank_lo = last * ((100.0 - o->percentile) / 100.0);
    o->rank_hi = last * (o->percentile / 100.0);
    /* `smallest` holds negated values: its root must be sorted[floor + 1], `largest`'s root sorted[floor]. */
    GM_TRY(tail_reset(&o->smallest, GM_MIN((int64_t)o->rank_lo + 2, total), err));
    return tail_reset(&o->largest, total - (int64_t)o->rank_hi, err);
}

gm_status gm_observer_feed(gm_observer *o, const gm_ctx *ctx, const float *x, int64_t rows, int64_t cols, int64_t stride, int64_t total,
                           gm_error *err) {
    if (o->fed == 0)
        GM_TRY(batch_begin(o, total, err));
    o->fed += rows * cols;
    if (stride == cols) { /* no gaps: one long row */
        cols *= rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        float lo, hi;
        gm_min_max(ctx, &lo, &hi, row, cols);
        /* written so that a NaN, once in, stays */
        o->batch_lo = lo >= o->batch_lo || isnan(o->batch_lo) ? o->batch_lo : lo;
        o->batch_hi = hi <= o->batch_hi || isnan(o->batch_hi) ? o->batch_hi : hi;
        if (o->percentile == 0.0)
            continue;
        for (int64_t c = 0; c < cols; c++) {
            tail_push(&o->smallest, -row[c]);
            tail_push(&o->largest, row[c]);
        }
    }
    return GM_OK;
}

/* From the range of the fed batch to that of its percentiles. */
static void batch_trim(gm_observer *o) {
    if (isnan(o->batch_lo))
        return;
    double kth, next;
    tail_edge(&o->smallest, &kth, &next);
    double share = o->rank_lo - floor(o->rank_lo);
    o->batch_lo = (float)(o->smallest.k == 1 ? -kth : -next + share * (next - kth));
    tail_edge(&o->largest, &kth, &next);
    o->batch_hi = (float)(kth + (o->rank_hi - floor(o->rank_hi)) * (next - kth));
}

void gm_observer_fold(gm_observer *o) {
    if (o->fed == 0)
        return;
    if (o->percentile != 0.0)
        batch_trim(o);
    bool first = o->batches++ == 0;
    o->lo = first ? o->batch_lo : (float)((1.0 - MOMENTUM) * o->batch_lo + MOMENTUM * o->lo);
    o->hi = first ? o->batch_hi : (float)((1.0 - MOMENTUM) * o->batch_hi + MOMENTUM * o->hi);
    o->fed = 0;
}

void gm_observer_free(gm_observer *o) {
    gm_free(o->smallest.heap);
    gm_free(o->largest.heap);
    *o = (gm_observer){0};
}
