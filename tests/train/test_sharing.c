/* test_sharing.c -- what mpirun cannot show: that gradients leave while the backward pass goes on, and how much optimizer state a rank
 * keeps. The wire is rank 0's of two, whose other end agrees with everything and has no gradients of its own. */
#define _GNU_SOURCE
#include "run_folder.h"
#include "sharing.h"
#include "wire.h"

enum { STEPS = 3, T = 16 };

/* Messages of a step until the wire was first asked whether they are through, and until it was first waited for. */
static struct { int sent, at_first_look, at_first_wait, steps_seen, steps_overlapped; } seen;

struct gm_wire_group {
    int unused;
};

static gm_status wire_group_new(gm_wire *w, gm_wire_group **out, int capacity, gm_error *err) {
    (void)w, (void)capacity, (void)err;
    *out = calloc(1, sizeof **out);
    return GM_OK;
}

static void wire_group_free(gm_wire *w, gm_wire_group *g) {
    (void)w;
    free(g);
}

static gm_status wire_send(gm_wire *w, gm_wire_group *g, const void *x, size_t bytes, int to, int tag, gm_error *err) {
    (void)w, (void)g, (void)x, (void)bytes, (void)to, (void)tag, (void)err;
    seen.sent++;
    return GM_OK;
}

static gm_status wire_receive(gm_wire *w, gm_wire_group *g, void *x, size_t bytes, int from, int tag, gm_error *err) {
    (void)w, (void)g, (void)from, (void)tag, (void)err;
    memset(x, 0, bytes);
    return GM_OK;
}

static gm_status wire_done(gm_wire *w, gm_wire_group *g, bool wait, bool *done, gm_error *err) {
    (void)w, (void)g, (void)err;
    int *first = wait ? &seen.at_first_wait : &seen.at_first_look;
    *first = *first ? *first : seen.sent;
    *done = wait;
    return GM_OK;
}

/* A step's exchange lies between two of these. */
static gm_status wire_all_gather(gm_wire *w, const void *mine, size_t bytes, void *all, gm_error *err) {
    (void)err;
    for (int r = 0; r < w->size; r++)
        memcpy((char *)all + (size_t)r * bytes, mine, bytes);
    seen.steps_seen += seen.at_first_wait > 0;
    seen.steps_overlapped += seen.at_first_look > 0 && seen.at_first_look < seen.at_first_wait;
    seen.sent = seen.at_first_look = seen.at_first_wait = 0;
    return GM_OK;
}

static gm_status wire_broadcast(gm_wire *w, void *x, size_t bytes, gm_error *err) {
    (void)w, (void)x, (void)bytes, (void)err;
    return GM_OK;
}

static void wire_close(gm_wire *w) {
    (void)w;
}

typedef struct scene {
    gm_dist *dist;
    gm_ctx *ctx;
    gm_model_config cfg;
    gm_data *data;
    gm_train_options train;
} scene;

static scene begin(void) {
    const gm_wire w = {.size = 2,
                       .threads = 1,
                       .all_gather = wire_all_gather,
                       .broadcast = wire_broadcast,
                       .group_new = wire_group_new,
                       .group_free = wire_group_free,
                       .send = wire_send,
                       .receive = wire_receive,
                       .done = wire_done,
                       .close = wire_close};
    scene s;
    CHECK_OK(gm_dist_on_wire(&s.dist, &w, err));
    CHECK_OK(gm_ctx_create(&s.ctx, &(gm_ctx_options){.threads = 1, .dist = s.dist}, err));
    CHECK_OK(gm_data_open(&s.data, &(gm_data_options){.source = "bb", .context = T}, err));
    CHECK_OK(gm_model_config_preset(&s.cfg, "gpt2-nano", err));
    CHECK_OK(gm_model_config_override(&s.cfg, "layers=4,width=64,heads=2,context=16", err));
    s.cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(s.data));
    gm_train_defaults(&s.train);
    s.train.steps = STEPS;
    s.train.batch = 4;
    s.train.accumulate = 2;
    s.train.context = T;
    s.train.eval_sequences = 4;
    return s;
}

static void end(scene *s) {
    gm_data_free(s->data);
    gm_ctx_free(s->ctx);
    gm_dist_end(s->dist);
}

static void test_gradients_leave_during_the_backward_pass(void **state) {
    (void)state;
    char folder[] = "/tmp/gm-sharing-XXXXXX";
    scene s = begin();
    gm_train_result result;
    assert_non_null(mkdtemp(folder));
    seen.steps_seen = seen.steps_overlapped = 0;
    CHECK_OK(gm_train_run(s.ctx, &s.cfg, s.data, &s.train, folder, NULL, NULL, &result, err));
    assert_int_equal(seen.steps_seen, STEPS);
    assert_int_equal(seen.steps_overlapped, STEPS);
    remove_folder(folder);
    end(&s);
}

static void test_moments_of_a_rank(void **state) {
    (void)state;
    scene s = begin();
    gm_model *m;
    gm_sharing whole, sharded;
    CHECK_OK(gm_model_create(&m, s.ctx, &s.cfg, 1, err));
    CHECK_OK(gm_model_train_begin(m, 1, T, err));
    CHECK_OK(gm_sharing_begin(&whole, s.dist, m, &s.train, err));
    s.train.shard_optimizer = true;
    CHECK_OK(gm_sharing_begin(&sharded, s.dist, m, &s.train, err));
    assert_int_equal(whole.moments, m->param_elements);
    assert_true(sharded.moments > m->param_elements * 49 / 100 && sharded.moments < m->param_elements * 51 / 100);
    gm_sharing_end(&whole);
    gm_sharing_end(&sharded);
    gm_model_free(m);
    end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients_leave_during_the_backward_pass),
                                       cmocka_unit_test(test_moments_of_a_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
