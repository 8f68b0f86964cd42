/* observer.c -- the range of an activation over calibration batches: extremes of all, running ranges (momentum 0.9) of minimum and maximum
 * or of two percentiles, or the range of least squared error over a sample of all batches. */
#include "quant.h"

#include <math.h>
#include <string.h>

static const double MOMENTUM = 0.9;
enum { BULK = 1 << 15, EXTREMES = 256 }; /* what a search by squared error looks at */

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

/* ---- a thinned stream */

static void thinned_push(gm_thinned *t, float x) {
    if (t->skipped++ % t->stride)
        return;
    if (t->count == BULK) { /* every second one stays */
        for (int64_t i = 0; i < BULK / 2; i++)
            t->x[i] = t->x[2 * i];
        t->count = BULK / 2;
        t->stride *= 2;
        if ((t->skipped - 1) % t->stride)
            return;
    }
    t->x[t->count++] = x;
}

/* ---- the observer */

static bool searches(const gm_observer *o) {
    return o->range == GM_RANGE_MSE || o->range == GM_RANGE_GOLDEN;
}

static gm_status search_begin(gm_observer *o, gm_error *err) {
    GM_TRY(tail_reset(&o->smallest, EXTREMES, err));
    GM_TRY(tail_reset(&o->largest, EXTREMES, err));
    o->bulk = (gm_thinned){.x = gm_alloc(BULK, sizeof(float)), .stride = 1};
    return o->bulk.x ? GM_OK : gm_fail_memory(err, BULK * sizeof(float));
}

static gm_status channels_begin(gm_observer *o, int64_t cols, gm_error *err) {
    o->channel_lo = gm_alloc((size_t)(4 * cols), sizeof *o->channel_lo);
    if (!o->channel_lo)
        return gm_fail_memory(err, (size_t)(4 * cols) * sizeof *o->channel_lo);
    o->channel_hi = o->channel_lo + cols;
    o->batch_channel_lo = o->channel_hi + cols;
    o->batch_channel_hi = o->batch_channel_lo + cols;
    return GM_OK;
}

static gm_status batch_begin(gm_observer *o, int64_t cols, int64_t total, gm_error *err) {
    o->batch_lo = INFINITY;
    o->batch_hi = -INFINITY;
    if (o->channels) {
        if (!o->channel_lo)
            GM_TRY(channels_begin(o, o->channels = cols, err));
        for (int64_t c = 0; c < cols; c++) {
            o->batch_channel_lo[c] = INFINITY;
            o->batch_channel_hi[c] = -INFINITY;
        }
    }
    if (searches(o))
        return o->bulk.x ? GM_OK : search_begin(o, err);
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
        GM_TRY(batch_begin(o, cols, total, err));
    o->fed += rows * cols;
    for (int64_t r = 0; o->channels && r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) { /* as below: a NaN stays */
            float v = x[r * stride + c], *lo = &o->batch_channel_lo[c], *hi = &o->batch_channel_hi[c];
            *lo = v >= *lo || isnan(*lo) ? *lo : v;
            *hi = v <= *hi || isnan(*hi) ? *hi : v;
        }
    }
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
        if (o->percentile == 0.0 && !searches(o))
            continue;
        for (int64_t c = 0; c < cols; c++) {
            tail_push(&o->smallest, -row[c]);
            tail_push(&o->largest, row[c]);
            if (searches(o))
                thinned_push(&o->bulk, row[c]);
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

/* One end of the range: the widest of all batches, or running. */
static float fold_end(const gm_observer *o, bool first, float old, float batch, bool low) {
    if (first || isnan(old))
        return first ? batch : old;
    if (o->range == GM_RANGE_MINMAX || searches(o))
        return isnan(batch) || (low ? batch < old : batch > old) ? batch : old;
    return (float)((1.0 - MOMENTUM) * batch + MOMENTUM * old);
}

void gm_observer_fold(gm_observer *o) {
    if (o->fed == 0)
        return;
    if (o->percentile != 0.0 && !searches(o))
        batch_trim(o);
    bool first = o->batches++ == 0;
    o->lo = fold_end(o, first, o->lo, o->batch_lo, true);
    o->hi = fold_end(o, first, o->hi, o->batch_hi, false);
    for (int64_t c = 0; c < o->channels; c++) {
        o->channel_lo[c] = fold_end(o, first, o->channel_lo[c], o->batch_channel_lo[c], true);
        o->channel_hi[c] = fold_end(o, first, o->channel_hi[c], o->batch_channel_hi[c], false);
    }
    o->fed = 0;
}

/* The extremes count once each; what lies between is represented by the thinned stream, each value for `stride` others. So clipping an
 * outlier costs what it costs, however rare it is. */
gm_status gm_observer_finish(gm_observer *o, const gm_ctx *ctx, const gm_quantizer *q, gm_error *err) {
    if (!searches(o) || o->batches == 0 || isnan(o->lo) || isnan(o->hi))
        return GM_OK;
    const bool all = o->bulk.stride == 1; /* every value is in the stream */
    const int64_t most = o->bulk.count + o->smallest.count + o->largest.count;
    float *x = gm_alloc((size_t)(2 * most), sizeof *x);
    if (!x)
        return gm_fail_memory(err, (size_t)(2 * most) * sizeof *x);
    float *weight = x + most;
    const float low = all ? -INFINITY : -o->smallest.heap[0], high = all ? INFINITY : o->largest.heap[0];
    int64_t n = 0;
    for (int64_t i = 0; i < o->bulk.count; i++) {
        if (o->bulk.x[i] > low && o->bulk.x[i] < high) {
            x[n] = o->bulk.x[i];
            weight[n++] = (float)o->bulk.stride;
        }
    }
    for (int64_t i = 0; !all && i < o->smallest.count; i++) {
        x[n] = -o->smallest.heap[i];
        weight[n++] = 1;
    }
    for (int64_t i = 0; !all && i < o->largest.count; i++) {
        x[n] = o->largest.heap[i];
        weight[n++] = 1;
    }
    gm_range_search(ctx, &(gm_range_sample){x, weight, n}, q, &o->lo, &o->hi);
    gm_free(x);
    return GM_OK;
}

void gm_observer_free(gm_observer *o) {
    gm_free(o->smallest.heap);
    gm_free(o->largest.heap);
    gm_free(o->bulk.x);
    gm_free(o->channel_lo);
    *o = (gm_observer){0};
}
