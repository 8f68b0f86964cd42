/* Every metric against an implementation of its own in double (oracle_measure.py, numpy): of synthetic tensors, and of whole passes over
 * stories260K, whose forward pass is done again there from the file. Skipped where numpy or the data is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static gm_ctx *ctx;
static char folder[64];

/* python3 of the PATH or Debian's, whichever has numpy; NULL: none. */
static const char *python(void) {
    static const char *const candidates[] = {"python3", "/usr/bin/python3"};
    static const char *found;
    for (int i = 0; !found && i < GM_COUNT(candidates); i++) {
        char command[128];
        snprintf(command, sizeof command, "%s -c 'import numpy' 2>/dev/null", candidates[i]);
        found = system(command) == 0 ? candidates[i] : NULL;
    }
    return found;
}

static void in_folder(char path[256], const char *name) {
    snprintf(path, 256, "%s/%s", folder, name);
}

static bool in_data(char path[1024], const char *name) {
    const char *data = getenv("GHOSTMAX_DATA");
    if (data)
        snprintf(path, 1024, "%s/%s", data, name);
    else
        snprintf(path, 1024, "%s/../shared/data/%s", GM_TEST_SOURCE_DIR, name);
    return access(path, R_OK) == 0;
}

static void ask_oracle(json_t *one) {
    char path[256], command[1200];
    const char *interpreter = python();
    in_folder(path, "case.json");
    assert_int_equal(json_dump_file(one, path, JSON_REAL_PRECISION(17)), 0);
    json_decref(one);
    snprintf(command, sizeof command, "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 %s -B '%s/tests/measure/oracle_measure.py' %s", interpreter,
             GM_TEST_SOURCE_DIR, path);
    int status = system(command);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- synthetic tensors: heavy tails, a mean far from zero, position 0 apart, sizes where eps matters */

static json_t *stats_json(const float *x, int64_t S, int64_t rows_count, int64_t C, bool per_token) {
    gm_tensor_stats stats;
    gm_row rows[32];
    gm_moments moments[GM_POSITIONS_COUNT];
    assert_int_equal(gm_tensor_stats_init(&stats, per_token, NULL), GM_OK);
    for (int64_t s = 0; s < S; s++) {
        gm_rows_of(rows, ctx, x + s * rows_count * C, rows_count, C, C);
        gm_tensor_stats_add(&stats, rows, x + s * rows_count * C, rows_count, C, C, true, moments);
    }
    gm_measure_printer out = {0};
    json_t *object = json_object();
    for (int i = 0; i < GM_POSITIONS_COUNT; i++) {
        gm_tensor_summary sum = gm_tensor_stats_summary(&stats, (gm_positions)i);
        gm_measure_positions(&out, object, "inf_norm", sum.inf_norm, (gm_positions)i);
        gm_measure_positions(&out, object, "kurtosis", sum.kurtosis, (gm_positions)i);
        gm_measure_positions(&out, object, "kurtosis_eps0", sum.kurtosis_eps0, (gm_positions)i);
        gm_measure_positions(&out, object, "excess_kurtosis_pooled", sum.excess_kurtosis, (gm_positions)i);
        gm_measure_positions(&out, object, "mean", sum.mean, (gm_positions)i);
        gm_measure_positions(&out, object, "std", sum.standard_dev, (gm_positions)i);
        gm_measure_positions(&out, object, "absmax", sum.absmax, (gm_positions)i);
    }
    gm_measure_put(&out, object, "quantiles", gm_measure_quantiles(&out, &stats.sketch, true));
    gm_measure_put(&out, object, "value_quantiles", gm_measure_quantiles(&out, &stats.sketch, false));
    assert_false(out.failed);
    gm_tensor_stats_free(&stats);
    return object;
}

static void test_synthetic_tensors(void **state) {
    (void)state;
    enum { S = 6, ROWS = 20, C = 48, N = S * ROWS * C };
    static float x[N];
    if (!python())
        skip();
    for (int kind = 0; kind < 4; kind++) {
        uint64_t key = gm_rng_key((uint64_t)kind, "oracle");
        for (int64_t i = 0; i < N; i++) {
            double z = gm_rng_normal(key, (uint64_t)i), tail = gm_rng_below(key, (uint64_t)(i + N), 100) == 0 ? 25.0 : 1.0;
            double scale = kind == 2 ? 0.01 : 1.0, mean = kind == 1 ? 1000.0 : 0.1; /* 2: the published eps swamps s^4 */
            x[i] = (float)(mean * scale + z * scale * (kind == 3 ? 1.0 : tail));
            if (kind == 3 && i / C % ROWS == 0 && i % C == 5)
                x[i] = 400.0f; /* a massive first position */
        }
        char path[256];
        in_folder(path, "raw");
        assert_int_equal(gm_file_write(path, x, sizeof x, NULL), GM_OK);
        ask_oracle(json_pack("{s:s, s:[i,i,i], s:f, s:[o,o]}", "raw", path, "shape", S, ROWS, C, "tolerance", 1e-9, "measured",
                             stats_json(x, S, ROWS, C, false), stats_json(x, S, ROWS, C, true)));
    }
}

/* ---- whole passes */

static json_t *ids_of(const int32_t *x, int64_t S, int64_t length) {
    json_t *rows = json_array();
    for (int64_t s = 0; s < S; s++) {
        json_t *row = json_array();
        for (int64_t t = 0; t < length; t++)
            json_array_append_new(row, json_integer(x[s * length + t]));
        json_array_append_new(rows, row);
    }
    return rows;
}

static void check_pass(const char *variant, const char *convention, float plant, double tolerance) {
    enum { S = 5, LENGTH = 70 };
    char model[1024], tokenizer[1024], text[1024];
    if (!python() || !in_data(model, "models/stories260K.bin") || !in_data(tokenizer, "tokenizers/tok512.bin") ||
        !in_data(text, "text/tinystories-sample.txt"))
        skip();
    gm_model *m;
    gm_data *data;
    gm_error err;
    int32_t x[S * LENGTH], y[S * LENGTH];
    gm_data_options options = {.source = text, .tokenizer = tokenizer, .context = LENGTH, .for_model = true};
    if (gm_model_load(&m, ctx, model, &err) != GM_OK || gm_data_open(&data, &options, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(gm_variant_parse(&m->cfg.attention, variant, &err), GM_OK); /* the same weights under another normaliser */
    m->norm = gm_variant_norm(&m->cfg.attention, m->cfg.context);
    float *row = gm_model_weight(m, GM_P_W2, 1) + 7 * m->cfg.ffn;
    for (int64_t i = 0; i < m->cfg.ffn; i++)
        row[i] *= plant;
    gm_data_validation(data, 0, S, x, y);
    char *json;
    gm_measure_options o = {.sequences = S, .batch = 2, .convention = convention, .details = true, .top = 40};
    if (gm_measure_model(m, data, &o, &json, &err) != GM_OK)
        fail_msg("%s", err.msg);
    json_t *sink = isfinite(m->norm.sink) ? json_real((double)m->norm.sink) : json_null();
    ask_oracle(json_pack("{s:s, s:s, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:o}", "model", model, "tokenizer", tokenizer, "tokens",
                         ids_of(x, S, LENGTH), "targets", ids_of(y, S, LENGTH), "sink", sink, "clip_a", (double)m->norm.clip_a, "clip_c",
                         (double)m->norm.clip_c, "plant", (double)plant, "tolerance", tolerance, "measured", json_loads(json, 0, NULL)));
    free(json);
    gm_data_free(data);
    gm_model_free(m);
}

static void test_softmax(void **state) {
    (void)state;
    check_pass("softmax", NULL, 1.0f, 2e-5);
}

static void test_softmax1(void **state) {
    (void)state;
    check_pass("softmax1", NULL, 1.0f, 2e-5);
}

static void test_clipped(void **state) {
    (void)state;
    check_pass("clipped:gamma=-0.03,zeta=1.03", NULL, 1.0f, 2e-5);
}

static void test_opt_code(void **state) {
    (void)state;
    check_pass("softmax", "opt-code", 1.0f, 2e-5);
}

static void test_bert_code(void **state) {
    (void)state;
    check_pass("softmax1", "bert-code", 1.0f, 2e-5);
}

/* One row of an FFN's second matrix made 800 times larger: massive activations, and an outlier feature in every later layer. Sums that hold
 * such a value lose that much of the others, in f32. */
static void test_massive(void **state) {
    (void)state;
    check_pass("softmax", NULL, 800.0f, 2e-4);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/gm_oracle_XXXXXX");
    return mkdtemp(folder) ? gm_ctx_create(&ctx, NULL, NULL) : 1;
}

static int teardown(void **state) {
    (void)state;
    char path[256];
    in_folder(path, "case.json");
    unlink(path);
    in_folder(path, "raw");
    unlink(path);
    rmdir(folder);
    gm_ctx_free(ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synthetic_tensors), cmocka_unit_test(test_softmax),  cmocka_unit_test(test_softmax1),
        cmocka_unit_test(test_clipped),           cmocka_unit_test(test_opt_code), cmocka_unit_test(test_bert_code),
        cmocka_unit_test(test_massive),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
