/* Sums over ranks that are threads, on a wire of shared memory that delivers late and out of turn: the result must not depend on it. */
#include "wire.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS_MAX = 5, MESSAGES = 1 << 15 };

/* A message is there when both sides have named it; whoever asks last copies. */
typedef struct message {
    bool sent, received, copied;
    int from, to, tag;
    const void *source;
    void *target;
    size_t bytes;
} message;

static struct {
    pthread_mutex_t lock;
    message list[MESSAGES];
    int count, ranks, waiting, round;
    unsigned seed;
    pthread_cond_t all_here;
    char board[RANKS_MAX][1024];
} net = {.lock = PTHREAD_MUTEX_INITIALIZER, .all_here = PTHREAD_COND_INITIALIZER};

struct gm_wire_group {
    int used, capacity, list[2 * RANKS_MAX];
};

/* The first message of these two that lacks this side, or a new one. */
static int name_side(bool sending, int from, int to, int tag) {
    int i = 0;
    while (i < net.count) {
        message *m = &net.list[i];
        if (m->from == from && m->to == to && m->tag == tag && !(sending ? m->sent : m->received))
            break;
        i++;
    }
    if (i == net.count)
        net.list[net.count++] = (message){.from = from, .to = to, .tag = tag};
    return i;
}

static gm_status wire_send(gm_wire *w, gm_wire_group *g, const void *x, size_t bytes, int to, int tag, gm_error *err) {
    (void)err;
    pthread_mutex_lock(&net.lock);
    int i = name_side(true, w->rank, to, tag);
    net.list[i].sent = true;
    net.list[i].source = x;
    net.list[i].bytes = bytes;
    g->list[g->used++] = i;
    pthread_mutex_unlock(&net.lock);
    return GM_OK;
}

static gm_status wire_receive(gm_wire *w, gm_wire_group *g, void *x, size_t bytes, int from, int tag, gm_error *err) {
    (void)bytes, (void)err;
    pthread_mutex_lock(&net.lock);
    int i = name_side(false, from, w->rank, tag);
    net.list[i].received = true;
    net.list[i].target = x;
    g->list[g->used++] = i;
    pthread_mutex_unlock(&net.lock);
    return GM_OK;
}

static gm_status wire_done(gm_wire *w, gm_wire_group *g, bool wait, bool *done, gm_error *err) {
    (void)w, (void)err;
    do {
        pthread_mutex_lock(&net.lock);
        *done = true;
        for (int k = 0; k < g->used; k++) {
            message *m = &net.list[g->list[k]];
            net.seed = net.seed * 1103515245u + 12345u;
            if (!m->copied && m->sent && m->received && (net.seed >> 16) % 3 == 0) { /* not always at once */
                memcpy(m->target, m->source, m->bytes);
                m->copied = true;
            }
            *done &= m->copied;
        }
        pthread_mutex_unlock(&net.lock);
        sched_yield();
    } while (wait && !*done);
    if (*done)
        g->used = 0;
    return GM_OK;
}

static void meet(void) {
    pthread_mutex_lock(&net.lock);
    int round = net.round;
    if (++net.waiting == net.ranks) {
        net.waiting = 0;
        net.round++;
        pthread_cond_broadcast(&net.all_here);
    }
    while (round == net.round)
        pthread_cond_wait(&net.all_here, &net.lock);
    pthread_mutex_unlock(&net.lock);
}

static gm_status wire_all_gather(gm_wire *w, const void *mine, size_t bytes, void *all, gm_error *err) {
    (void)err;
    memcpy(net.board[w->rank], mine, bytes);
    meet();
    for (int r = 0; r < w->size; r++)
        memcpy((char *)all + (size_t)r * bytes, net.board[r], bytes);
    meet();
    return GM_OK;
}

static gm_status wire_group_new(gm_wire *w, gm_wire_group **out, int capacity, gm_error *err) {
    (void)w, (void)err;
    *out = calloc(1, sizeof **out);
    (*out)->capacity = capacity;
    return GM_OK;
}

static void wire_group_free(gm_wire *w, gm_wire_group *g) {
    (void)w;
    free(g);
}

static void wire_close(gm_wire *w) {
    (void)w;
}

static gm_dist *join(int rank, int ranks) {
    gm_wire w = {.rank = rank,
                 .size = ranks,
                 .threads = 1,
                 .all_gather = wire_all_gather,
                 .group_new = wire_group_new,
                 .group_free = wire_group_free,
                 .send = wire_send,
                 .receive = wire_receive,
                 .done = wire_done,
                 .close = wire_close};
    gm_dist *d;
    return gm_dist_on_wire(&d, &w, NULL) == GM_OK ? d : NULL;
}

/* ---- the sum */

typedef struct rank_work {
    int rank, ranks;
    int64_t n, bucket;
    bool everywhere, ok;
    float *x;      /* in: this rank's; out: the sum, or its shares of it */
    float *spread; /* out, not everywhere: what _spread makes of the shares */
    float *dealt;  /* out: rank 0's collected shares, dealt out and collected again */
} rank_work;

static float value(int rank, int64_t i) {
    if (i % 10 == 9) /* of three and more, another order gives another sum */
        return rank == 1 ? 1e20f : rank == 2 ? -1e20f : (float)(rank + 1);
    return (float)(sin((double)(i * 7 + rank * 13)) * pow(10, (double)(i % 9) - 4));
}

static void *sum_on_rank(void *user) {
    rank_work *w = user;
    gm_dist *d = join(w->rank, w->ranks);
    gm_dist_sum *s = NULL;
    bool ok = d && gm_dist_sum_create(&s, d, w->x, w->n, w->bucket, w->everywhere, NULL) == GM_OK;
    for (int step = 0; ok && step < 2; step++) {
        for (int64_t i = 0; i < w->n; i++)
            w->x[i] = value(w->rank, i + step);
        for (int64_t from = w->n; from > 0; from -= GM_MIN(from, 37 + 11 * w->rank)) /* everyone at another pace */
            gm_dist_sum_ready(s, from);
        ok = gm_dist_sum_finish(s, NULL) == GM_OK;
    }
    float *shares = calloc((size_t)gm_dist_sum_share_total(s) + 1, sizeof *shares);
    int64_t begin, size, at = 0;
    for (int i = 0; gm_dist_sum_share(s, i, &begin, &size); i++) {
        memcpy(w->spread + begin, w->x + begin, (size_t)size * sizeof *w->x);
        memcpy(shares + at, w->x + begin, (size_t)size * sizeof *w->x);
        at += size;
    }
    ok = ok && gm_dist_sum_spread(s, w->spread, NULL) == GM_OK;
    float *whole = calloc((size_t)w->n, sizeof *whole);
    ok = ok && gm_dist_sum_collect(s, whole, shares, NULL) == GM_OK;
    memset(shares, 0, (size_t)at * sizeof *shares);
    ok = ok && gm_dist_sum_deal(s, whole, shares, NULL) == GM_OK;
    ok = ok && gm_dist_sum_collect(s, w->dealt, shares, NULL) == GM_OK;
    double sums[2] = {1, 2};
    gm_error err = {0};
    ok = ok && gm_dist_add(d, GM_OK, (double[]){w->rank, 0.5}, sums, 2, &err) == GM_OK;
    ok = ok && sums[0] == 1 + w->ranks * (w->ranks - 1) / 2 && sums[1] == 2 + 0.5 * w->ranks;
    /* One rank fails: all are told by whom. */
    gm_status mine = w->rank == w->ranks - 1 ? gm_fail(&err, GM_EFORMAT, "torn") : GM_OK;
    ok = ok && gm_dist_agree(d, mine, &err) == GM_EFORMAT && strstr(err.msg, "torn") && (w->ranks == 1 || strstr(err.msg, "rank "));
    ok = ok && gm_dist_equal(d, "same", 4, "it", &err) == GM_OK && gm_dist_equal(d, &w->rank, sizeof w->rank, "it", &err) == GM_EINVAL;
    ok = ok && strcmp(err.msg, "it of rank 1 differs from rank 0's") == 0;
    w->ok = ok;
    free(shares);
    free(whole);
    gm_dist_sum_free(s);
    gm_dist_end(d);
    return NULL;
}

/* What the header promises: added in double in the order of ranks, rounded once. */
static float expected(int ranks, int64_t i) {
    double sum = 0;
    for (int r = 0; r < ranks; r++)
        sum += value(r, i + 1);
    return (float)sum;
}

static void sum_on_ranks(int ranks, int64_t n, int64_t bucket, bool everywhere, unsigned seed) {
    rank_work work[RANKS_MAX];
    pthread_t threads[RANKS_MAX];
    net.count = net.waiting = 0;
    net.ranks = ranks;
    net.seed = seed;
    for (int r = 0; r < ranks; r++) {
        work[r] = (rank_work){.rank = r, .ranks = ranks, .n = n, .bucket = bucket, .everywhere = everywhere};
        work[r].x = calloc((size_t)n, sizeof(float));
        work[r].spread = calloc((size_t)n, sizeof(float));
        work[r].dealt = calloc((size_t)n, sizeof(float));
        assert_int_equal(pthread_create(&threads[r], NULL, sum_on_rank, &work[r]), 0);
    }
    for (int r = 0; r < ranks; r++)
        pthread_join(threads[r], NULL);
    for (int r = 0; r < ranks; r++) {
        assert_true(work[r].ok);
        for (int64_t i = 0; i < n; i++) {
            const float sum = expected(ranks, i);
            assert_memory_equal(&work[r].spread[i], &sum, sizeof sum);
            if (everywhere)
                assert_memory_equal(&work[r].x[i], &sum, sizeof sum);
            if (r == 0)
                assert_memory_equal(&work[r].dealt[i], &sum, sizeof sum);
        }
    }
    for (int r = 0; r < ranks; r++) {
        free(work[r].x);
        free(work[r].spread);
        free(work[r].dealt);
    }
}

static void test_sums(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 15, 16, 17, 100, 700};
    for (int ranks = 2; ranks <= RANKS_MAX; ranks++) {
        for (int i = 0; i < GM_COUNT(sizes); i++) {
            for (unsigned seed = 1; seed <= 3; seed++) {
                sum_on_ranks(ranks, sizes[i], 64 * (int64_t)seed, true, seed);
                sum_on_ranks(ranks, sizes[i], sizes[i] < 200 ? 16 : 96, false, seed);
                sum_on_ranks(ranks, sizes[i], 0, false, seed);
            }
        }
    }
}

static void test_alone(void **state) {
    (void)state;
    double sums[] = {1.5};
    int all = 0, mine = 7;
    gm_error err = {0};
    assert_int_equal(gm_dist_rank(NULL), 0);
    assert_int_equal(gm_dist_size(NULL), 1);
    assert_int_equal(gm_dist_add(NULL, GM_OK, (double[]){2}, sums, 1, NULL), GM_OK);
    assert_true(sums[0] == 3.5);
    assert_int_equal(gm_dist_add(NULL, GM_EIO, (double[]){2}, sums, 1, NULL), GM_EIO);
    assert_int_equal(gm_dist_agree(NULL, GM_EFORMAT, &err), GM_EFORMAT);
    assert_int_equal(gm_dist_all_gather(NULL, &mine, sizeof mine, &all, NULL), GM_OK);
    assert_int_equal(all, 7);
    assert_int_equal(gm_dist_equal(NULL, "it", 2, "it", NULL), GM_OK);
    assert_int_equal(gm_dist_alarmed(NULL, NULL), GM_OK);
    assert_true(gm_dist_end(NULL));
}

/* What launchers say, and what is no launcher. */
static void test_launched(void **state) {
    (void)state;
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
                                        "SLURM_PROCID",         "SLURM_STEP_NUM_TASKS"};
    static const struct {
        const char *rank, *size, *rank_name, *size_name;
        int r, n;
    } cases[] = {{"2", "4", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", 2, 4},
                 {"0", "2", "PMI_RANK", "PMI_SIZE", 0, 2},
                 {"999", "1000", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", 999, 1000},
                 {"4", "4", "PMI_RANK", "PMI_SIZE", 0, 1},
                 {"x", "4", "PMI_RANK", "PMI_SIZE", 0, 1},
                 {"0", "-1", "PMI_RANK", "PMI_SIZE", 0, 1},
                 {"0", "1", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", 0, 1}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        for (int k = 0; k < GM_COUNT(names); k++)
            unsetenv(names[k]);
        setenv(cases[i].rank_name, cases[i].rank, 1);
        setenv(cases[i].size_name, cases[i].size, 1);
        gm_launched l = gm_dist_launched();
        assert_int_equal(l.rank, cases[i].r);
        assert_int_equal(l.size, cases[i].n);
    }
    for (int k = 0; k < GM_COUNT(names); k++)
        unsetenv(names[k]);
    setenv("SLURM_PROCID", "0", 1); /* a batch script, which has tasks but is no step */
    setenv("SLURM_NTASKS", "8", 1);
    assert_int_equal(gm_dist_launched().size, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_alone), cmocka_unit_test(test_launched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
