/* test_train.c -- gm_train_run from end to end on a small text: a stopped or killed run continued is the run that never stopped, bit for
 * bit; the loop is the written-out step of replay.h; finished, foreign, damaged and diverged folders each have their answer. */
#define _GNU_SOURCE
#include "identity.h"
#include "replay.h"
#include "run_folder.h"

#include <jansson.h>

#include <sys/stat.h>
#include <sys/wait.h>

static char base[] = "/tmp/gm-train-XXXXXX", text_path[96];
static gm_ctx *ctx;
static gm_data *data;

enum { STEPS = 24, T = 16 };

/* ---- folders */

static void path_of(char *dst, size_t n, const char *name) {
    snprintf(dst, n, "%s/%s", base, name);
}

/* Names, bytes and times of change of everything in a folder. */
static uint64_t folder_print(const char *folder) {
    uint64_t sum = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        assert_int_equal(stat(path, &s), 0);
        if (!S_ISREG(s.st_mode))
            continue;
        gm_file file = contents(folder, e->d_name);
        uint64_t print = gm_hash(e->d_name, strlen(e->d_name), gm_hash(file.data, file.size, 0));
        sum += gm_hash(&s.st_mtim, sizeof s.st_mtim, print);
        gm_file_close(&file);
    }
    closedir(dir);
    return sum;
}

/* ---- the runs */

static int setup(void **state) {
    (void)state;
    if (!mkdtemp(base))
        return -1;
    /* Sentences of a pattern: who does what to whom follows from the first word. */
    static const char *const who[] = {"cat", "dog", "fox", "owl", "hen"}, *const does[] = {"sees", "hears", "finds"};
    gm_text text = {0};
    for (uint64_t i = 0; i < 900; i++) {
        int64_t a = gm_rng_below(1, 2 * i, 5), b = gm_rng_below(1, 2 * i + 1, 3);
        gm_text_add(&text, "the %s %s the %s .%s", who[a], does[b], who[(a + b + 1) % 5], i % 4 == 3 ? "\n" : " ");
    }
    path_of(text_path, sizeof text_path, "text.txt");
    CHECK_OK(gm_file_write(text_path, text.data, text.size, err));
    gm_text_free(&text);
    CHECK_OK(gm_data_open(&data, &(gm_data_options){.source = text_path, .tokens = "words", .vocab = 64, .context = T}, err));
    ctx = context_of("ref", 1);
    return ctx ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    gm_data_free(data);
    gm_ctx_free(ctx);
    remove_folder(base);
    return 0;
}

static gm_model_config small_model(const char *variant) {
    gm_model_config cfg;
    CHECK_OK(gm_model_config_preset(&cfg, "gpt2-nano", err));
    CHECK_OK(gm_model_config_override(&cfg, "layers=2,width=16,heads=2,context=16", err));
    CHECK_OK(gm_variant_parse(&cfg.attention, variant, err));
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    return cfg;
}

static gm_train_options short_run(void) {
    gm_train_options o;
    gm_train_defaults(&o);
    o.steps = STEPS;
    o.batch = 4;
    o.accumulate = 2;
    o.context = T;
    o.lr = 0.01;
    o.warmup = 5;
    o.schedule = GM_SCHEDULE_COSINE;
    o.eval_sequences = 10;
    o.log_every = 3;
    o.seed = 3;
    return o;
}

typedef struct watch {
    int64_t stop_at, die_at;   /* 0: never */
    int64_t calls, resumed_at; /* seen */
    char notice[600];
    double lr[STEPS + 1], loss[STEPS + 1], val_loss[STEPS + 1], grad_norm[STEPS + 1];
} watch;

static bool on_step(void *user, const gm_train_progress *p) {
    watch *w = user;
    assert_true(p->step >= 1 && p->step <= STEPS);
    assert_int_equal(p->steps, STEPS);
    w->calls++;
    w->resumed_at = p->resumed_at;
    assert_true(!p->notice || w->calls == 1);
    if (p->notice)
        snprintf(w->notice, sizeof w->notice, "%s", p->notice);
    w->lr[p->step] = p->lr;
    w->loss[p->step] = p->loss;
    w->val_loss[p->step] = p->val_loss;
    w->grad_norm[p->step] = p->grad_norm;
    if (p->step == w->die_at)
        _exit(42);
    return p->step == w->stop_at;
}

static gm_status train(const char *folder, const gm_model_config *cfg, const gm_train_options *o, watch *w, gm_train_result *result,
                       gm_error *err) {
    int64_t stop_at = w->stop_at, die_at = w->die_at;
    *w = (watch){.stop_at = stop_at, .die_at = die_at};
    *err = (gm_error){0};
    return gm_train_run(ctx, cfg, data, o, folder, on_step, w, result, err);
}

static gm_train_result finish(const char *folder, const gm_model_config *cfg, const gm_train_options *o, watch *w) {
    gm_train_result result;
    gm_error error;
    if (train(folder, cfg, o, w, &result, &error) != GM_OK)
        fail_msg("%s", error.msg);
    assert_int_equal(result.step, STEPS);
    assert_int_equal(result.diverged_at, 0);
    return result;
}

/* ---- resuming */

static void stopped_runs_continue_exactly(void **state) {
    (void)state;
    static const char *const variants[] = {"softmax", "sink+gated"};
    for (int v = 0; v < GM_COUNT(variants); v++) {
        char whole[96], parts[96];
        gm_model_config cfg = small_model(variants[v]);
        gm_train_options o = short_run();
        gm_error error;
        cfg.dropout = 0.1;
        o.eval_every = 7;
        path_of(whole, sizeof whole, "whole");
        path_of(parts, sizeof parts, "parts");
        watch w = {0};
        gm_train_result once = finish(whole, &cfg, &o, &w), twice;
        assert_int_equal(w.calls, STEPS);
        assert_int_equal(w.resumed_at, 0);
        assert_false(exists(whole, "state.safetensors"));
        const int64_t stops[][4] = {{1}, {7}, {12, 13}, {23}, {2, 9, 22}};
        for (int i = 0; i < GM_COUNT(stops); i++) {
            int64_t before = 0;
            for (int j = 0; stops[i][j]; j++) {
                w = (watch){.stop_at = stops[i][j]};
                assert_int_equal(train(parts, &cfg, &o, &w, &twice, &error), GM_ESTOPPED);
                assert_true(exists(parts, "state.safetensors"));
                assert_false(exists(parts, "model.safetensors"));
                assert_int_equal(w.resumed_at, before);
                assert_int_equal(w.calls, stops[i][j] - before);
                before = stops[i][j];
            }
            w = (watch){0};
            twice = finish(parts, &cfg, &o, &w);
            assert_int_equal(w.resumed_at, before);
            assert_int_equal(w.calls, STEPS - before);
            assert_true(twice.loss == once.loss && twice.val_loss == once.val_loss);
            assert_same_run(whole, parts);
            remove_folder(parts);
        }
        remove_folder(whole);
    }
}

/* Killed between checkpoints: the run goes back to the last one, and its log with it. Other intervals of checkpoints are the same run. */
static void killed_runs_continue_exactly(void **state) {
    (void)state;
    char whole[96], killed[96];
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    path_of(whole, sizeof whole, "whole");
    path_of(killed, sizeof killed, "killed");
    watch w = {0};
    gm_train_result result, once = finish(whole, &cfg, &o, &w);
    o.checkpoint_every = 4;
    const int64_t deaths[][2] = {{3, 0}, {11, 8}, {STEPS, 20}}; /* step, the checkpoint before it */
    for (int i = 0; i < GM_COUNT(deaths); i++) {
        pid_t child = fork();
        if (child == 0) {
            gm_error error;
            w = (watch){.die_at = deaths[i][0]};
            train(killed, &cfg, &o, &w, &result, &error);
            _exit(1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 42);
        w = (watch){0};
        result = finish(killed, &cfg, &o, &w);
        assert_int_equal(w.resumed_at, deaths[i][1]);
        assert_true(result.loss == once.loss && result.val_loss == once.val_loss);
        assert_same_run(whole, killed);
        remove_folder(killed);
    }
    remove_folder(whole);
}

/* ---- checkpoints */

static void flip(const char *folder, const char *name, long at) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    gm_file file = contents(folder, name);
    char *bytes = malloc(file.size);
    size_t n = file.size;
    memcpy(bytes, file.data, n);
    gm_file_close(&file);
    bytes[at < 0 ? (long)n + at : at] ^= 1;
    CHECK_OK(gm_file_write(path, bytes, n, err));
    free(bytes);
}

static int checkpoints_in(const char *folder) {
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += strncmp(e->d_name, "state", 5) == 0;
    closedir(dir);
    return n;
}

/* However many are kept, the run is the same; of those that are altered by a byte, the newest that is not is gone on from, and said. */
static void damaged_checkpoints_are_passed_over(void **state) {
    (void)state;
    char whole[96], kept[96];
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    path_of(whole, sizeof whole, "whole");
    path_of(kept, sizeof kept, "kept");
    watch w = {0};
    finish(whole, &cfg, &o, &w);
    o.checkpoint_every = 4;
    const struct {
        int64_t keep;
        const char *damaged[3];
        int64_t resumed_at;
    } cases[] = {{1, {NULL}, 14},
                 {2, {NULL}, 14},
                 {2, {"state.safetensors"}, 12},
                 {5, {"state.safetensors", "state-000000012.safetensors"}, 8},
                 {5, {"state-000000012.safetensors", "state-000000008.safetensors"}, 14},
                 {5, {"state.safetensors", "state-000000012.safetensors", "state-000000004.safetensors"}, 8}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_train_result result;
        gm_error error;
        o.keep = cases[i].keep;
        w = (watch){.stop_at = 14};
        assert_int_equal(train(kept, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        assert_int_equal(checkpoints_in(kept), GM_MIN(o.keep, 4)); /* 4, 8, 12, 14 */
        for (int k = 0; k < 3 && cases[i].damaged[k]; k++)
            flip(kept, cases[i].damaged[k], k == 1 ? 20 : -7);
        w = (watch){.die_at = 0, .stop_at = 17};
        assert_int_equal(train(kept, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        assert_int_equal(w.resumed_at, cases[i].resumed_at);
        if (cases[i].resumed_at == 14)
            assert_string_equal(w.notice, "");
        else
            assert_true(strstr(w.notice, "state.safetensors") && strstr(w.notice, "passed over"));
        w = (watch){.stop_at = 18}; /* what was passed over is not come back to */
        assert_int_equal(train(kept, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        assert_int_equal(w.resumed_at, 17);
        assert_string_equal(w.notice, "");
        assert_true(checkpoints_in(kept) <= o.keep);
        w = (watch){0};
        finish(kept, &cfg, &o, &w);
        assert_int_equal(checkpoints_in(kept), 0);
        assert_same_run(whole, kept);
        remove_folder(kept);
    }
    gm_train_result result;
    gm_error error;
    o.keep = 2; /* what was passed over does not take the place of the one that was used */
    for (int stop = 14; stop <= 17; stop += stop == 14 ? 2 : 1) {
        w = (watch){.stop_at = stop};
        assert_int_equal(train(kept, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        assert_int_equal(w.resumed_at, stop == 14 ? 0 : 12);
        flip(kept, "state.safetensors", -7);
    }
    remove_folder(kept);
    w = (watch){.stop_at = 14}; /* none is whole: the newest one is named, nothing is lost by starting over */
    o.keep = 2;
    assert_int_equal(train(kept, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
    flip(kept, "state.safetensors", -1);
    flip(kept, "state-000000012.safetensors", -1);
    uint64_t before = folder_print(kept);
    assert_int_equal(train(kept, &cfg, &o, &w, &result, &error), GM_EFORMAT);
    assert_non_null(strstr(error.msg, "/state.safetensors"));
    assert_true(folder_print(kept) == before);
    remove_folder(kept);
    remove_folder(whole);
}

/* The byte `at` behind the text `after` of train.json changes; NULL: nothing is left of it; "": not even the file. */
static void spoil_record(const char *folder, const char *after, int at) {
    char path[256];
    snprintf(path, sizeof path, "%s/train.json", folder);
    if (after && *after) {
        gm_file file = contents(folder, "train.json");
        const char *found = memmem(file.data, file.size, after, strlen(after));
        assert_non_null(found);
        long offset = found - (const char *)file.data + (long)strlen(after) + at;
        gm_file_close(&file);
        flip(folder, "train.json", offset);
    } else if (after)
        unlink(path);
    else
        CHECK_OK(gm_file_write(path, "", 0, err));
}

/* One byte of train.json changes, or it is gone: a checkpoint says all of it, to the byte; without one it is told. */
static void a_damaged_record_is_made_anew(void **state) {
    (void)state;
    static const struct {
        const char *after;
        int at;
    } cases[] = {{"\"lr\": ", 2}, {"\"steps\": ", 0},      {"\"val_lo", -3},         {"ghostmax.train/", 0},
                 {"\"checks", 0}, {"\"checksum\": \"", 3}, {"\"attention\": \"", 1}, {"", 0},
                 {NULL, 0}};
    char whole[96], folder[96];
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run(), other = o;
    gm_train_result result;
    gm_error error;
    path_of(whole, sizeof whole, "whole");
    path_of(folder, sizeof folder, "spoilt");
    o.checkpoint_every = 4;
    other.lr = 0.02;
    watch w = {0};
    finish(whole, &cfg, &o, &w);
    for (int i = 0; i < GM_COUNT(cases); i++) {
        if (cases[i].after && strstr(cases[i].after, "val_lo"))
            continue; /* stands in the result alone, below */
        w = (watch){.stop_at = 6};
        assert_int_equal(train(folder, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        gm_file file = contents(folder, "train.json");
        uint64_t record = gm_hash(file.data, file.size, 0);
        gm_file_close(&file);
        spoil_record(folder, cases[i].after, cases[i].at);
        if (i % 2)
            flip(folder, "state.safetensors", -7); /* and the newest checkpoint too */
        uint64_t before = folder_print(folder);
        w = (watch){0};
        if (train(folder, &cfg, &other, &w, &result, &error) != GM_EINVAL || !strstr(error.msg, "lr"))
            fail_msg("damage %d: another run: '%s'", i, error.msg);
        assert_true(folder_print(folder) == before);
        w = (watch){.stop_at = 9};
        assert_int_equal(train(folder, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        assert_int_equal(w.resumed_at, i % 2 ? 4 : 6);
        assert_non_null(strstr(w.notice, "train.json"));
        assert_non_null(strstr(w.notice, "made anew"));
        assert_true(!strstr(w.notice, "passed over") == !(i % 2));
        file = contents(folder, "train.json");
        assert_true(gm_hash(file.data, file.size, 0) == record);
        gm_file_close(&file);
        w = (watch){0};
        finish(folder, &cfg, &o, &w);
        assert_string_equal(w.notice, "");
        assert_same_run(whole, folder);
        remove_folder(folder);
    }
    for (int i = 0; i < GM_COUNT(cases); i++) {
        if (cases[i].after && !*cases[i].after)
            continue; /* gone: tests/cli/cli_model.py */
        w = (watch){0};
        finish(folder, &cfg, &o, &w);
        spoil_record(folder, cases[i].after, cases[i].at);
        uint64_t before = folder_print(folder);
        if (train(folder, &cfg, &o, &w, &result, &error) != GM_EFORMAT || !strstr(error.msg, "train.json"))
            fail_msg("damage %d of a finished run: '%s'", i, error.msg);
        assert_true(folder_print(folder) == before);
        remove_folder(folder);
    }
    remove_folder(whole);
}

/* What a killed process leaves under a temporary name, and older checkpoints of a finished run, go. */
static void leftovers_are_removed(void **state) {
    (void)state;
    char folder[96], path[256];
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    path_of(folder, sizeof folder, "left");
    watch w = {.stop_at = 5};
    gm_train_result result;
    gm_error error;
    assert_int_equal(train(folder, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
    snprintf(path, sizeof path, "%s/state.safetensors.ghostmax-1-0.tmp", folder);
    FILE *left = fopen(path, "w"); /* nobody holds a lock on it */
    fclose(left);
    w = (watch){0};
    finish(folder, &cfg, &o, &w);
    assert_false(gm_path_exists(path));
    snprintf(path, sizeof path, "%s/state-000000003.safetensors", folder);
    left = fopen(path, "w");
    fclose(left);
    snprintf(path, sizeof path, "%s/.ghostmax.lock", folder);
    left = fopen(path, "w");
    fclose(left);
    finish(folder, &cfg, &o, &w);
    assert_int_equal(checkpoints_in(folder), 0);
    assert_false(gm_path_exists(path));
    remove_folder(folder);
}

/* A second process in the same folder is told at once. */
static bool try_again(void *user, const gm_train_progress *p) {
    watch *w = user;
    if (p->step == 2) {
        gm_model_config cfg = small_model("softmax1");
        gm_train_options o = short_run();
        gm_train_result result;
        gm_error error = {0};
        char mine[40], folder[96];
        path_of(folder, sizeof folder, "twice");
        assert_int_equal(gm_train_run(ctx, &cfg, data, &o, folder, NULL, NULL, &result, &error), GM_EIO);
        snprintf(mine, sizeof mine, "process %ld on ", (long)getpid());
        assert_non_null(strstr(error.msg, mine));
    }
    w->calls++;
    return false;
}

static void one_at_a_time(void **state) {
    (void)state;
    char folder[96], alone[96];
    path_of(folder, sizeof folder, "twice");
    path_of(alone, sizeof alone, "alone");
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    watch w = {0};
    gm_train_result result;
    gm_error error;
    finish(alone, &cfg, &o, &w);
    w = (watch){0};
    assert_int_equal(gm_train_run(ctx, &cfg, data, &o, folder, try_again, &w, &result, &error), GM_OK);
    assert_int_equal(w.calls, STEPS);
    assert_same_run(alone, folder);
    assert_false(exists(folder, ".ghostmax.lock"));
    remove_folder(folder);
    remove_folder(alone);
}

static void finished_runs_return_at_once(void **state) {
    (void)state;
    char folder[96];
    path_of(folder, sizeof folder, "finished");
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    watch w = {0};
    gm_train_result first = finish(folder, &cfg, &o, &w);
    uint64_t before = folder_print(folder);
    gm_train_result again = finish(folder, &cfg, &o, &w);
    assert_int_equal(w.calls, 0);
    assert_true(again.loss == first.loss && again.val_loss == first.val_loss && again.step == first.step);
    assert_true(folder_print(folder) == before);
    remove_folder(folder);
}

/* ---- the loop */

/* The run's weights are those of the written-out steps, and its rates the schedule's. */
static void loop_is_the_written_step(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        char folder[96];
        path_of(folder, sizeof folder, "loop");
        gm_model_config cfg = small_model(i ? "sink" : "gated");
        gm_train_options o = short_run();
        o.decay_norm_gains = i;
        o.accumulate = i ? 1 : 2;
        o.clip = i ? 0 : 1;
        watch w = {0};
        finish(folder, &cfg, &o, &w);
        gm_model *m, *trained;
        CHECK_OK(gm_model_create(&m, ctx, &cfg, o.seed, err));
        replay r;
        replay_open(&r, m, &o);
        int32_t x[4 * T], y[4 * T];
        for (int64_t step = 1; step <= STEPS; step++) {
            assert_true(fabs(w.lr[step] - replay_rate(&o, step)) <= 1e-12 * o.lr);
            gm_data_train(data, o.seed, (step - 1) * 4, 4, x, y);
            replay_step(&r, &o, step, w.lr[step], x, y);
            assert_true(w.loss[step] == r.loss);
            assert_true(w.grad_norm[step] == r.grad_norm);
        }
        CHECK_OK(gm_model_load(&trained, ctx, folder, err));
        assert_int_equal(trained->param_elements, m->param_elements);
        assert_memory_equal(trained->weights, m->weights, (size_t)m->param_elements * sizeof(float));
        gm_model_free(trained);
        replay_close(&r);
        gm_model_free(m);
        remove_folder(folder);
    }
}

static void schedules(void **state) {
    (void)state;
    static const struct {
        gm_schedule schedule;
        int64_t warmup;
        double at[4]; /* rates of steps 1, 4, 14, 24 for lr 0.02, lr_min 0.1 */
    } cases[] = {{GM_SCHEDULE_CONSTANT, 4, {0.005, 0.02, 0.02, 0.02}},
                 {GM_SCHEDULE_LINEAR, 4, {0.005, 0.02, 0.011, 0.002}},
                 {GM_SCHEDULE_COSINE, 4, {0.005, 0.02, 0.011, 0.002}},
                 {GM_SCHEDULE_LINEAR, 0, {0.02 - 0.018 / 24, 0.02 - 0.018 * 4 / 24, 0.02 - 0.018 * 14 / 24, 0.002}},
                 {GM_SCHEDULE_CONSTANT, 0, {0.02, 0.02, 0.02, 0.02}},
                 {GM_SCHEDULE_COSINE, 48, {0.02 / 48, 0.02 * 4 / 48, 0.02 * 14 / 48, 0.01}}};
    static const int64_t steps[] = {1, 4, 14, 24};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        char folder[96];
        path_of(folder, sizeof folder, "schedule");
        gm_model_config cfg = small_model("softmax");
        gm_train_options o = short_run();
        o.lr = 0.02;
        o.schedule = cases[i].schedule;
        o.warmup = cases[i].warmup;
        watch w = {0};
        finish(folder, &cfg, &o, &w);
        for (int j = 0; j < 4; j++)
            assert_true(fabs(w.lr[steps[j]] - cases[i].at[j]) < 1e-12);
        remove_folder(folder);
    }
}

/* Mean over the first `count` validation sequences, one at a time. */
static double validation_loss(const char *folder, int64_t count) {
    gm_model *m;
    CHECK_OK(gm_model_load(&m, ctx, folder, err));
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t x[T], y[T];
        double mean;
        gm_data_validation(data, i, 1, x, y);
        CHECK_OK(gm_model_loss(m, x, y, 1, T, &mean, NULL, err));
        sum += mean;
    }
    gm_model_free(m);
    return sum / (double)count;
}

static void learns_and_validates(void **state) {
    (void)state;
    char folder[96], often[96], other[96];
    path_of(folder, sizeof folder, "learns");
    path_of(often, sizeof often, "often");
    path_of(other, sizeof other, "other");
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    o.batch = 8;
    o.lr = 0.03;
    watch w = {0};
    gm_train_result result = finish(folder, &cfg, &o, &w);
    assert_true(fabs(w.loss[1] - log((double)cfg.vocab)) < 0.2); /* small initial weights know nothing */
    /* Below the entropy of the words' frequencies, ln 3 / 3 + ln 6 / 6 + ln 15 / 3 + ln 18 / 6: the sentence's order is learnt. */
    assert_true(result.loss < 2.0);
    assert_true(result.loss == w.loss[STEPS]);
    for (int64_t step = 1; step < STEPS; step++)
        assert_true(isnan(w.val_loss[step]));
    /* Batches of 4 of 10 sequences, or one by one: the same sequences, whatever the seed. */
    assert_true(fabs(result.val_loss - validation_loss(folder, 10)) < 1e-6);
    assert_true(result.val_loss < 2.0);
    o.eval_every = 5; /* looking does not touch */
    finish(often, &cfg, &o, &w);
    for (int64_t step = 1; step < STEPS; step++)
        assert_true(isnan(w.val_loss[step]) == (step % 5 != 0));
    assert_same_file(folder, often, "model.safetensors");
    o.seed = 4;
    o.eval_every = 0;
    gm_train_result second = finish(other, &cfg, &o, &w);
    assert_true(second.loss != result.loss);
    assert_true(fabs(second.val_loss - validation_loss(other, 10)) < 1e-6);
    json_t *lines = log_lines(folder);
    assert_int_equal(json_array_size(lines), 1 + STEPS / 3); /* step 1, every third, the last (a third) */
    json_decref(lines);
    remove_folder(folder);
    remove_folder(often);
    remove_folder(other);
}

/* ---- foreign, damaged, diverged */

static void assert_refused(const char *folder, const gm_model_config *cfg, const gm_train_options *o, const char *says) {
    watch w = {0};
    gm_train_result result;
    gm_error error;
    uint64_t before = folder_print(folder);
    assert_int_equal(train(folder, cfg, o, &w, &result, &error), GM_EINVAL);
    if (!strstr(error.msg, says))
        fail_msg("'%s' does not name '%s'", error.msg, says);
    assert_int_equal(w.calls, 0);
    assert_true(folder_print(folder) == before);
}

static void other_runs_are_refused(void **state) {
    (void)state;
    char folder[96];
    path_of(folder, sizeof folder, "mine");
    gm_model_config cfg = small_model("softmax1"), other_cfg;
    gm_train_options o = short_run(), other;
    watch w = {.stop_at = 6};
    gm_train_result result;
    gm_error error;
    assert_int_equal(train(folder, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
    for (int finished = 0; finished < 2; finished++) {
        other = o, other.lr = 0.02;
        assert_refused(folder, &cfg, &other, "lr");
        other = o, other.steps = STEPS + 1;
        assert_refused(folder, &cfg, &other, "steps");
        other = o, other.seed = 9;
        assert_refused(folder, &cfg, &other, "seed");
        other_cfg = small_model("sink");
        assert_refused(folder, &other_cfg, &o, "attention");
        other_cfg = cfg, other_cfg.ffn = 20;
        assert_refused(folder, &other_cfg, &o, "ffn");
        gm_data *mine = data;
        gm_data_options options = {.source = text_path, .tokens = "words", .vocab = 64, .context = T, .no_bos = true};
        CHECK_OK(gm_data_open(&data, &options, err));
        assert_refused(folder, &cfg, &o, "data");
        gm_data_free(data);
        data = mine;
        w = (watch){0};
        finish(folder, &cfg, &o, &w);
        assert_int_equal(w.calls, finished ? 0 : STEPS - 6);
    }
    remove_folder(folder);
}

/* A field that an earlier version did not write counts as off; one that is on makes another run. */
static void runs_of_an_earlier_version(void **state) {
    (void)state;
    char folder[96], path[256];
    const gm_model_config cfg = small_model("softmax1");
    const gm_train_options o = short_run();
    gm_error error = {0};
    watch w = {0}; /* its train.json had no checksum */
    path_of(folder, sizeof folder, "old");
    snprintf(path, sizeof path, "%s/train.json", folder);
    finish(folder, &cfg, &o, &w);
    json_t *record = json_load_file(path, 0, NULL);
    json_object_del(record, "checksum");
    json_object_set_new(record, "schema", json_string("ghostmax.train/1"));
    assert_int_equal(json_dump_file(record, path, 0), 0);
    json_decref(record);
    finish(folder, &cfg, &o, &w);
    assert_int_equal(w.calls, 0);
    remove_folder(folder);
    json_t *there = gm_identity_of(&cfg, &o, "text"), *asked = json_deep_copy(there);
    assert_non_null(json_object_get(there, "window"));
    json_object_del(there, "window"); /* 0 */
    assert_int_equal(gm_identity_compare(there, asked, "old", &error), GM_OK);
    json_object_set_new(asked, "window", json_integer(7));
    assert_int_equal(gm_identity_compare(there, asked, "old", &error), GM_EINVAL);
    assert_non_null(strstr(error.msg, "window"));
    json_object_set_new(asked, "window", json_integer(0));
    json_object_del(there, "lr"); /* not off */
    assert_int_equal(gm_identity_compare(there, asked, "old", &error), GM_EINVAL);
    json_decref(there);
    json_decref(asked);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    char folder[96];
    path_of(folder, sizeof folder, "never");
    gm_model_config cfg = small_model("softmax");
    gm_train_options good = short_run(), bad[13];
    for (int i = 0; i < GM_COUNT(bad); i++)
        bad[i] = good;
    bad[0].steps = 0;
    bad[1].batch = 0;
    bad[2].accumulate = 3; /* does not divide 4 */
    bad[3].lr = 0;
    bad[4].lr = NAN;
    bad[5].beta2 = 1;
    bad[6].clip = -1;
    bad[7].context = 17; /* the model has room for 16 */
    bad[8].warmup = -1;
    bad[9].eps = 0;
    bad[10].weight_decay = NAN;
    bad[11].lr_min = 1.5;
    bad[12].keep = 0;
    for (int i = 0; i < GM_COUNT(bad); i++) {
        watch w = {0};
        gm_train_result result;
        gm_error error;
        if (train(folder, &cfg, &bad[i], &w, &result, &error) != GM_EINVAL)
            fail_msg("bad options %d were accepted", i);
        assert_true(error.msg[0] != 0);
        assert_false(gm_path_exists(folder));
    }
    watch w = {0}; /* a folder that cannot be */
    gm_train_result result;
    gm_error error;
    snprintf(folder, sizeof folder, "%.70s/run", text_path);
    assert_int_equal(train(folder, &cfg, &good, &w, &result, &error), GM_EIO);
}

static void damage_is_named(void **state) {
    (void)state;
    static const struct {
        const char *file;
        long size; /* what is left of it, -1: all */
        long flip; /* this byte changes, -1: none, -2: the last */
        const char *says;
    } cases[] = {{"state.safetensors", 1000, -1, "state.safetensors"},
                 {"state.safetensors", -1, -2, "state.safetensors"},
                 {"state.safetensors", -1, 3, "state.safetensors"},
                 {"state.safetensors", 0, -1, "state.safetensors"}};
    gm_model_config cfg = small_model("softmax1");
    gm_train_options o = short_run();
    for (int i = 0; i < GM_COUNT(cases); i++) {
        char folder[96], path[256];
        path_of(folder, sizeof folder, "damaged");
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].file);
        watch w = {.stop_at = 6};
        gm_train_result result;
        gm_error error;
        assert_int_equal(train(folder, &cfg, &o, &w, &result, &error), GM_ESTOPPED);
        gm_file file = contents(folder, cases[i].file);
        size_t n = cases[i].size < 0 ? file.size : (size_t)cases[i].size;
        char *bytes = malloc(file.size);
        memcpy(bytes, file.data, file.size);
        gm_file_close(&file);
        if (cases[i].flip != -1)
            bytes[cases[i].flip == -2 ? (long)n - 1 : cases[i].flip] ^= 0x11;
        CHECK_OK(gm_file_write(path, bytes, n, err));
        free(bytes);
        uint64_t before = folder_print(folder);
        w = (watch){0};
        if (train(folder, &cfg, &o, &w, &result, &error) != GM_EFORMAT || !strstr(error.msg, cases[i].says))
            fail_msg("damage %d: '%s'", i, error.msg);
        assert_int_equal(w.calls, 0);
        assert_true(folder_print(folder) == before);
        remove_folder(folder);
    }
}

/* A decay that multiplies the weights by -899 in each step: they leave f32's range after a dozen. */
static void divergence_is_told(void **state) {
    (void)state;
    char folder[96], text[32];
    path_of(folder, sizeof folder, "diverges");
    gm_model_config cfg = small_model("softmax");
    gm_train_options o = short_run();
    o.lr = 90;
    o.weight_decay = 10;
    o.warmup = 0;
    o.clip = 0;
    watch w = {0};
    gm_train_result result, again;
    gm_error error;
    assert_int_equal(train(folder, &cfg, &o, &w, &result, &error), GM_EDIVERGED);
    assert_true(result.diverged_at > 1 && result.diverged_at < STEPS);
    assert_int_equal(w.calls, result.diverged_at - 1);
    assert_true(isnan(result.val_loss));
    snprintf(text, sizeof text, "step %lld", (long long)result.diverged_at);
    assert_non_null(strstr(error.msg, text));
    assert_false(exists(folder, "model.safetensors"));
    assert_false(exists(folder, "state.safetensors"));
    uint64_t before = folder_print(folder);
    assert_int_equal(train(folder, &cfg, &o, &w, &again, &error), GM_EDIVERGED);
    assert_non_null(strstr(error.msg, text));
    assert_int_equal(again.diverged_at, result.diverged_at);
    assert_int_equal(w.calls, 0);
    assert_true(folder_print(folder) == before);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_runs_continue_exactly),
        cmocka_unit_test(killed_runs_continue_exactly),
        cmocka_unit_test(damaged_checkpoints_are_passed_over),
        cmocka_unit_test(a_damaged_record_is_made_anew),
        cmocka_unit_test(leftovers_are_removed),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(finished_runs_return_at_once),
        cmocka_unit_test(loop_is_the_written_step),
        cmocka_unit_test(schedules),
        cmocka_unit_test(learns_and_validates),
        cmocka_unit_test(other_runs_are_refused),
        cmocka_unit_test(runs_of_an_earlier_version),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(divergence_is_told),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
