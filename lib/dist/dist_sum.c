/* dist_sum.c -- one array summed over the ranks, bucket by bucket: every share to its owner, who adds in the order of ranks, and back. */
#include "wire.h"

#include <string.h>

enum { LINE = 16, TAG_SUM = 16, BUCKETS_MAX = 8192, SHARE_MIN = 4096, BUCKET_MAX = 1 << 20, WANTED = 8 };

typedef enum bucket_state { IDLE, REDUCING, SPREADING, SUMMED } bucket_state;

typedef struct bucket {
    int64_t begin, size;
    bucket_state state;
    gm_wire_group *group;
    float *received; /* [ranks - 1][own share], in the order of ranks */
} bucket;

struct gm_dist_sum {
    gm_dist *d;
    gm_wire *wire;
    int rank, ranks;
    float *x, *memory;
    bucket *buckets; /* from the array's end to its beginning */
    int count, started;
    bool everywhere;
    gm_status status; /* of what was tried since the last _finish */
    gm_error error;
};

typedef struct share {
    int64_t begin, size;
} share;

/* Whole cache lines of a bucket, as equal as they come. */
static share share_of(const gm_dist_sum *s, const bucket *b, int rank) {
    int64_t lines = (b->size + LINE - 1) / LINE;
    int64_t begin = GM_MIN(lines * rank / s->ranks * LINE, b->size), end = GM_MIN(lines * (rank + 1) / s->ranks * LINE, b->size);
    return (share){b->begin + begin, end - begin};
}

/* Small enough that several are on their way while the backward pass goes on, large enough that a share is worth a message. */
static int64_t bucket_size(int64_t n, int64_t asked, int ranks) {
    int64_t size = asked ? asked : GM_MAX((int64_t)ranks * SHARE_MIN, GM_MIN(BUCKET_MAX, n / WANTED));
    size = GM_MAX(size, n / BUCKETS_MAX + 1);
    return (size + LINE - 1) / LINE * LINE;
}

gm_status gm_dist_sum_create(gm_dist_sum **out, gm_dist *d, float *x, int64_t n, int64_t bucket_floats, bool everywhere, gm_error *err) {
    *out = NULL;
    const int64_t size = bucket_size(n, bucket_floats, gm_dist_size(d));
    gm_dist_sum *s = gm_alloc(1, sizeof *s);
    if (!s)
        return gm_fail_memory(err, sizeof *s);
    *s =
        (gm_dist_sum){.d = d, .wire = gm_dist_wire(d), .rank = gm_dist_rank(d), .ranks = gm_dist_size(d), .x = x, .everywhere = everywhere};
    s->count = (int)((n + size - 1) / size);
    s->buckets = gm_alloc((size_t)s->count, sizeof *s->buckets);
    int64_t need = 0, used = 0;
    for (int i = 0; s->buckets && i < s->count; i++) {
        bucket *b = &s->buckets[i];
        b->begin = GM_MAX(0, n - (i + 1) * size);
        b->size = n - i * size - b->begin;
        need += share_of(s, b, s->rank).size * (s->ranks - 1);
    }
    s->memory = s->buckets ? gm_alloc((size_t)need + 1, sizeof(float)) : NULL;
    gm_status status = s->memory ? GM_OK : gm_fail_memory(err, (size_t)need * sizeof(float));
    for (int i = 0; status == GM_OK && i < s->count; i++) {
        s->buckets[i].received = s->memory + used;
        used += share_of(s, &s->buckets[i], s->rank).size * (s->ranks - 1);
        status = s->wire->group_new(s->wire, &s->buckets[i].group, 2 * (s->ranks - 1), err);
    }
    if (status != GM_OK)
        gm_dist_sum_free(s);
    else
        *out = s;
    return status;
}

void gm_dist_sum_free(gm_dist_sum *s) {
    if (!s)
        return;
    for (int i = 0; s->buckets && i < s->count; i++)
        s->wire->group_free(s->wire, s->buckets[i].group);
    gm_free(s->buckets);
    gm_free(s->memory);
    gm_free(s);
}

/* ---- the messages of one bucket */

static gm_status send(gm_dist_sum *s, bucket *b, const float *x, int64_t n, int to, gm_error *err) {
    return n ? s->wire->send(s->wire, b->group, x, (size_t)n * sizeof *x, to, TAG_SUM + (int)(b - s->buckets), err) : GM_OK;
}

static gm_status receive(gm_dist_sum *s, bucket *b, float *x, int64_t n, int from, gm_error *err) {
    return n ? s->wire->receive(s->wire, b->group, x, (size_t)n * sizeof *x, from, TAG_SUM + (int)(b - s->buckets), err) : GM_OK;
}

/* Every rank begins with its neighbour, so that not all talk to the same one first. */
static int peer(const gm_dist_sum *s, int i) {
    return (s->rank + i) % s->ranks;
}

static gm_status reduce_begin(gm_dist_sum *s, bucket *b, gm_error *err) {
    const share own = share_of(s, b, s->rank);
    for (int i = 1; i < s->ranks; i++) {
        int from = peer(s, s->ranks - i);
        GM_TRY(receive(s, b, b->received + (from - (from > s->rank)) * own.size, own.size, from, err));
    }
    for (int i = 1; i < s->ranks; i++) {
        share theirs = share_of(s, b, peer(s, i));
        GM_TRY(send(s, b, s->x + theirs.begin, theirs.size, peer(s, i), err));
    }
    b->state = REDUCING;
    return GM_OK;
}

static void add_shares(const gm_dist_sum *s, const bucket *b) {
    enum { BLOCK = 512 };
    const share own = share_of(s, b, s->rank);
    double sum[BLOCK];
    for (int64_t at = 0; at < own.size; at += BLOCK) {
        const int64_t n = GM_MIN(BLOCK, own.size - at);
        memset(sum, 0, sizeof sum);
        for (int r = 0; r < s->ranks; r++) {
            const float *part = r == s->rank ? s->x + own.begin : b->received + (r - (r > s->rank)) * own.size;
            for (int64_t i = 0; i < n; i++)
                sum[i] += part[at + i];
        }
        for (int64_t i = 0; i < n; i++)
            s->x[own.begin + at + i] = (float)sum[i];
    }
}

/* y's own share to all, theirs into y. */
static gm_status spread_begin(gm_dist_sum *s, bucket *b, float *y, gm_error *err) {
    const share own = share_of(s, b, s->rank);
    for (int i = 1; i < s->ranks; i++) {
        share theirs = share_of(s, b, peer(s, s->ranks - i));
        GM_TRY(receive(s, b, y + theirs.begin, theirs.size, peer(s, s->ranks - i), err));
    }
    for (int i = 1; i < s->ranks; i++)
        GM_TRY(send(s, b, y + own.begin, own.size, peer(s, i), err));
    b->state = SPREADING;
    return GM_OK;
}

/* To the bucket's next state if its messages are through; wait: when they are. */
static gm_status advance(gm_dist_sum *s, bucket *b, bool wait, gm_error *err) {
    bool done;
    if (b->state != REDUCING && b->state != SPREADING)
        return GM_OK;
    GM_TRY(s->wire->done(s->wire, b->group, wait, &done, err));
    if (!done)
        return GM_OK;
    if (b->state == SPREADING) {
        b->state = SUMMED;
        return GM_OK;
    }
    add_shares(s, b);
    if (s->everywhere)
        return spread_begin(s, b, s->x, err);
    b->state = SUMMED;
    return GM_OK;
}

/* ---- the array */

void gm_dist_sum_ready(gm_dist_sum *s, int64_t from) {
    while (s->status == GM_OK && s->started < s->count && s->buckets[s->started].begin >= from)
        s->status = reduce_begin(s, &s->buckets[s->started++], &s->error);
    for (int i = 0; i < s->started && s->status == GM_OK; i++)
        s->status = advance(s, &s->buckets[i], false, &s->error);
}

gm_status gm_dist_sum_finish(gm_dist_sum *s, gm_error *err) {
    gm_dist_sum_ready(s, 0);
    for (int pass = 0; pass < 2; pass++) { /* all to their owners first, so that nobody waits for a later bucket */
        for (int i = 0; i < s->count && s->status == GM_OK; i++)
            s->status = advance(s, &s->buckets[i], true, &s->error);
    }
    for (int i = 0; i < s->count; i++)
        s->buckets[i].state = IDLE;
    s->started = 0;
    gm_status status = s->status;
    s->status = GM_OK;
    if (status != GM_OK && err)
        *err = s->error;
    return gm_dist_carried(s->d, status);
}

bool gm_dist_sum_share(const gm_dist_sum *s, int index, int64_t *begin, int64_t *size) {
    if (index >= s->count)
        return false;
    share own = share_of(s, &s->buckets[index], s->rank);
    *begin = own.begin;
    *size = own.size;
    return true;
}

int64_t gm_dist_sum_share_total(const gm_dist_sum *s) {
    int64_t total = 0, begin, size;
    for (int i = 0; gm_dist_sum_share(s, i, &begin, &size); i++)
        total += size;
    return total;
}

static gm_status wait_all(gm_dist_sum *s, gm_error *err) {
    bool done;
    for (int i = 0; i < s->count; i++) {
        GM_TRY(s->wire->done(s->wire, s->buckets[i].group, true, &done, err));
        s->buckets[i].state = IDLE;
    }
    return GM_OK;
}

gm_status gm_dist_sum_spread(gm_dist_sum *s, float *y, gm_error *err) {
    gm_status status = GM_OK;
    for (int i = 0; i < s->count && status == GM_OK; i++)
        status = spread_begin(s, &s->buckets[i], y, err);
    return gm_dist_carried(s->d, status == GM_OK ? wait_all(s, err) : status);
}

gm_status gm_dist_sum_collect(gm_dist_sum *s, float *y, const float *shares, gm_error *err) {
    gm_status status = GM_OK;
    for (int i = 0; i < s->count && status == GM_OK; i++) {
        bucket *b = &s->buckets[i];
        const share own = share_of(s, b, s->rank);
        if (s->rank > 0)
            status = send(s, b, shares, own.size, 0, err);
        else
            memcpy(y + own.begin, shares, (size_t)own.size * sizeof *y);
        for (int r = 1; r < s->ranks && s->rank == 0 && status == GM_OK; r++)
            status = receive(s, b, y + share_of(s, b, r).begin, share_of(s, b, r).size, r, err);
        shares += own.size;
    }
    return gm_dist_carried(s->d, status == GM_OK ? wait_all(s, err) : status);
}

gm_status gm_dist_sum_deal(gm_dist_sum *s, const float *y, float *shares, gm_error *err) {
    gm_status status = GM_OK;
    for (int i = 0; i < s->count && status == GM_OK; i++) {
        bucket *b = &s->buckets[i];
        const share own = share_of(s, b, s->rank);
        if (s->rank > 0)
            status = receive(s, b, shares, own.size, 0, err);
        else
            memcpy(shares, y + own.begin, (size_t)own.size * sizeof *y);
        for (int r = 1; r < s->ranks && s->rank == 0 && status == GM_OK; r++)
            status = send(s, b, y + share_of(s, b, r).begin, share_of(s, b, r).size, r, err);
        shares += own.size;
    }
    return gm_dist_carried(s->d, status == GM_OK ? wait_all(s, err) : status);
}
