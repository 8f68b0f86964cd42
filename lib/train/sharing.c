/* sharing.c -- what the ranks of a training run exchange: gradients, a norm, and weights or nothing. */
#include "sharing.h"

#include "optimizer.h"

#include <math.h>

gm_status gm_sharing_check(const gm_dist *d, const gm_train_options *o, gm_error *err) {
    const int64_t part = o->batch / o->accumulate;
    if (part < gm_dist_size(d))
        return gm_fail(err, GM_EINVAL, "%lld sequences (batch %lld in %lld parts) are too few for %d ranks; give each at least one",
                       (long long)part, (long long)o->batch, (long long)o->accumulate, gm_dist_size(d));
    return GM_OK;
}

void gm_sharing_slice(const gm_sharing *s, int64_t part, int64_t *first, int64_t *count) {
    *first = part * s->rank / s->ranks;
    *count = part * (s->rank + 1) / s->ranks - *first;
}

static void gradients_final(void *user, int64_t from) {
    gm_sharing *s = user;
    gm_dist_sum_ready(s->sum, from);
}

gm_status gm_sharing_begin(gm_sharing *s, gm_dist *d, gm_model *m, const gm_train_options *o, gm_error *err) {
    *s = (gm_sharing){.dist = d, .rank = gm_dist_rank(d), .ranks = gm_dist_size(d), .model = m, .moments = m->param_elements};
    s->watch = (gm_grads_watch){.user = s, .final = gradients_final};
    if (s->ranks > 1) {
        s->sharded = o->shard_optimizer;
        GM_TRY(gm_dist_sum_create(&s->sum, d, m->grads, m->param_elements, 0, !s->sharded, err));
        if (s->sharded)
            s->moments = gm_dist_sum_share_total(s->sum);
    }
    s->moment1 = gm_alloc((size_t)s->moments + 1, sizeof(float));
    s->moment2 = gm_alloc((size_t)s->moments + 1, sizeof(float));
    return s->moment1 && s->moment2 ? GM_OK : gm_fail_memory(err, 2 * (size_t)s->moments * sizeof(float));
}

void gm_sharing_end(gm_sharing *s) {
    gm_dist_sum_free(s->sum);
    gm_free(s->moment1);
    gm_free(s->moment2);
}

gm_status gm_sharing_weights(gm_sharing *s, gm_error *err) {
    return gm_dist_broadcast(s->dist, s->model->weights, (size_t)s->model->param_elements * sizeof(float), err);
}

void gm_sharing_watch(gm_sharing *s) {
    if (s->sum)
        s->model->watch = &s->watch;
}

/* Squares of this rank's shares: of all ranks together each element once, added in the same order whether the moments are sharded or not.
 */
static double share_squares(const gm_sharing *s) {
    double sum = 0;
    int64_t begin, size;
    for (int i = 0; gm_dist_sum_share(s->sum, i, &begin, &size); i++)
        sum += gm_sum_squares(s->model->ctx, s->model->grads + begin, size);
    return sum;
}

gm_status gm_sharing_gradients(gm_sharing *s, gm_status mine, double *loss_sum, double *norm, gm_error *err) {
    s->model->watch = NULL;
    if (!s->sum) {
        if (mine == GM_OK)
            *norm = sqrt(gm_sum_squares(s->model->ctx, s->model->grads, s->model->param_elements));
        return mine;
    }
    gm_error unasked;
    gm_status carried = gm_dist_sum_finish(s->sum, mine == GM_OK ? err : &unasked); /* even after a failure: the others wait for it */
    double sums[2] = {0};
    GM_TRY(gm_dist_add(s->dist, mine != GM_OK ? mine : carried, (double[]){*loss_sum, share_squares(s)}, sums, 2, err));
    *loss_sum = sums[0];
    *norm = sqrt(sums[1]);
    return GM_OK;
}

gm_status gm_sharing_step(gm_sharing *s, const gm_train_options *o, double grad_norm, double lr, int64_t t, gm_error *err) {
    if (!s->sharded) {
        gm_optimizer_step(s->model, s->moment1, s->moment2, o, grad_norm, lr, t);
        return GM_OK;
    }
    int64_t begin, size, at = 0;
    for (int i = 0; gm_dist_sum_share(s->sum, i, &begin, &size); i++) {
        gm_optimizer_part(s->model, begin, size, s->moment1 + at, s->moment2 + at, o, grad_norm, lr, t);
        at += size;
    }
    return gm_dist_sum_spread(s->sum, s->model->weights, err);
}

gm_status gm_sharing_verify(gm_sharing *s, gm_error *err) {
    if (!s->sum)
        return GM_OK;
    gm_status status =
        gm_dist_equal(s->dist, s->model->weights, (size_t)s->model->param_elements * sizeof(float), "the model's weights", err);
    return status == GM_EINVAL ? gm_fail(err, GM_EIO,
                                         "the ranks' weights differ in their last bits: the machines are of several kinds; give --isa what "
                                         "all have, or --shard-optimizer")
                               : status;
}

/* ---- the whole moments, for a checkpoint */

gm_status gm_sharing_whole_begin(gm_sharing *s, gm_whole_moments *whole, gm_error *err) {
    const size_t n = (size_t)s->model->param_elements;
    *whole = (gm_whole_moments){.moment1 = s->moment1, .moment2 = s->moment2, .borrowed = true};
    if (!s->sharded)
        return GM_OK;
    *whole = (gm_whole_moments){0};
    if (s->rank > 0)
        return GM_OK;
    whole->moment1 = gm_alloc(n, sizeof(float));
    whole->moment2 = gm_alloc(n, sizeof(float));
    return whole->moment1 && whole->moment2 ? GM_OK : gm_fail_memory(err, 2 * n * sizeof(float));
}

gm_status gm_sharing_collect(gm_sharing *s, gm_whole_moments *whole, gm_error *err) {
    if (!s->sharded)
        return GM_OK;
    GM_TRY(gm_dist_sum_collect(s->sum, whole->moment1, s->moment1, err));
    return gm_dist_sum_collect(s->sum, whole->moment2, s->moment2, err);
}

gm_status gm_sharing_deal(gm_sharing *s, gm_whole_moments *whole, gm_error *err) {
    const size_t bytes = (size_t)s->model->param_elements * sizeof(float);
    if (!s->sharded) {
        GM_TRY(gm_dist_broadcast(s->dist, s->moment1, bytes, err));
        return gm_dist_broadcast(s->dist, s->moment2, bytes, err);
    }
    GM_TRY(gm_dist_sum_deal(s->sum, whole->moment1, s->moment1, err));
    return gm_dist_sum_deal(s->sum, whole->moment2, s->moment2, err);
}

void gm_sharing_whole_end(gm_whole_moments *whole) {
    if (whole->borrowed)
        return;
    gm_free(whole->moment1);
    gm_free(whole->moment2);
}
