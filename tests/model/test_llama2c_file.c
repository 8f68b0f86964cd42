/* test_llama2c_file.c -- llama2.c's checkpoints give the numbers that llama2.c's own algorithm gives, written out here in double with its
 * neighbour pairs; both versions give the same bits; damaged files are refused with the byte. */
#include "llama2c_file.h"
#include "model_cases.h"

#include <unistd.h>

static const char path[] = "test_llama2c_file.tmp.bin";
static gm_ctx *ctx;

/* ---- a checkpoint in memory: tensors in the order of version 0 */

enum { WTE, NORM1, WQ, WK, WV, WO, NORM2, W1, W2, W3, NORMF, ROTARY, HEAD, TENSORS };
static const int order_1[] = {NORM1, NORM2, NORMF, WTE, WQ, WK, WV, WO, W1, W2, W3, HEAD};

typedef struct checkpoint {
    int dim, hidden, layers, heads, kv, vocab, context;
    bool tied;
    size_t size[TENSORS]; /* in floats, all layers */
    float *x[TENSORS];
} checkpoint;

static checkpoint checkpoint_make(bool tied, double base) {
    checkpoint c = {.dim = 24, .hidden = 20, .layers = 3, .heads = 4, .kv = 2, .vocab = 13, .context = 9, .tied = tied};
    size_t C = (size_t)c.dim, F = (size_t)c.hidden, L = (size_t)c.layers, V = (size_t)c.vocab, K = C / 4 * 2, D = C / 4;
    size_t sizes[TENSORS] = {
        [WTE] = V * C,    [NORM1] = L * C,  [WQ] = L * C * C, [WK] = L * K * C, [WV] = L * K * C, [WO] = L * C * C,         [NORM2] = L * C,
        [W1] = L * F * C, [W2] = L * C * F, [W3] = L * F * C, [NORMF] = C,      [ROTARY] = 9 * D, [HEAD] = tied ? 0 : V * C};
    for (int t = 0; t < TENSORS; t++) {
        uint64_t key = gm_rng_key(7, "checkpoint") + (uint64_t)t;
        bool gain = t == NORM1 || t == NORM2 || t == NORMF;
        c.size[t] = sizes[t];
        c.x[t] = calloc(sizes[t] + 1, sizeof(float));
        for (size_t i = 0; i < sizes[t]; i++)
            c.x[t][i] = (float)((gain ? 1 : 0) + 0.4 * gm_rng_normal(key, i));
    }
    for (size_t t = 0; t < 9; t++) {
        for (size_t i = 0; i < D / 2; i++) {
            double angle = (double)t * pow(base, -2.0 * (double)i / (double)D);
            c.x[ROTARY][t * D / 2 + i] = (float)cos(angle);
            c.x[ROTARY][9 * D / 2 + t * D / 2 + i] = (float)sin(angle);
        }
    }
    return c;
}

static void checkpoint_free(checkpoint *c) {
    for (int t = 0; t < TENSORS; t++)
        free(c->x[t]);
}

static gm_text checkpoint_bytes(const checkpoint *c, int version) {
    gm_text bytes = {0};
    int32_t sizes[] = {c->dim, c->hidden, c->layers, c->heads, c->kv, version == 0 && !c->tied ? -c->vocab : c->vocab, c->context};
    if (version)
        gm_text_bytes(&bytes, "24ka\1\0\0\0", 8);
    gm_text_bytes(&bytes, sizes, sizeof sizes);
    if (version) {
        gm_text_bytes(&bytes, c->tied ? "\1" : "\0", 1);
        gm_text_bytes(&bytes, (const char[256]){0}, 256 - bytes.size);
    }
    for (int i = 0; i < (version ? GM_COUNT(order_1) : TENSORS); i++) {
        int t = version ? order_1[i] : i;
        gm_text_bytes(&bytes, c->x[t], c->size[t] * sizeof(float));
    }
    assert_false(bytes.failed);
    return bytes;
}

static gm_status load_bytes(gm_model **m, const void *bytes, size_t size, gm_error *error) {
    CHECK_OK(gm_file_write(path, bytes, size, err));
    gm_status status = gm_model_load(m, ctx, path, error);
    unlink(path);
    return status;
}

static gm_model *load(const checkpoint *c, int version) {
    gm_model *m;
    gm_text bytes = checkpoint_bytes(c, version);
    CHECK_OK(load_bytes(&m, bytes.data, bytes.size, err));
    gm_text_free(&bytes);
    return m;
}

/* ---- llama2.c's forward pass in double, one position after the other */

static void matmul(double *y, const double *x, const float *w, int n, int d) {
    for (int i = 0; i < d; i++) {
        y[i] = 0;
        for (int j = 0; j < n; j++)
            y[i] += (double)w[i * n + j] * x[j];
    }
}

static void rms_norm(double *y, const double *x, const float *g, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / n + 1e-5) * g[i];
}

/* Neighbours turn together. */
static void rotate(double *x, int n, int head, int position) {
    for (int i = 0; i < n; i += 2) {
        double angle = position * pow(10000, -(double)(i % head) / head), a = x[i], b = x[i + 1];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + 1] = a * sin(angle) + b * cos(angle);
    }
}

static void attend(double *o, const double *q, const double *k, const double *v, int head, int stride, int positions) {
    double s[16], sum = 0;
    for (int j = 0; j < positions; j++) {
        s[j] = 0;
        for (int d = 0; d < head; d++)
            s[j] += q[d] * k[j * stride + d] / sqrt(head);
        sum += s[j] = exp(s[j]);
    }
    for (int d = 0; d < head; d++) {
        o[d] = 0;
        for (int j = 0; j < positions; j++)
            o[d] += s[j] / sum * v[j * stride + d];
    }
}

static void oracle_logits(double *logits, const checkpoint *c, const int32_t *tokens, int T) {
    enum { C = 24, F = 20, K = 12, D = 6 };
    static double cache[2][3][9][K];
    double x[C], n[C], q[C], o[C], y[C], a[F], b[F];
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < C; i++)
            x[i] = c->x[WTE][tokens[t] * C + i];
        for (int l = 0; l < c->layers; l++) {
            double *k = cache[0][l][t], *v = cache[1][l][t];
            rms_norm(n, x, c->x[NORM1] + l * C, C);
            matmul(q, n, c->x[WQ] + l * C * C, C, C);
            matmul(k, n, c->x[WK] + l * K * C, C, K);
            matmul(v, n, c->x[WV] + l * K * C, C, K);
            rotate(q, C, D, t);
            rotate(k, K, D, t);
            for (int h = 0; h < c->heads; h++)
                attend(o + h * D, q + h * D, cache[0][l][0] + h / 2 * D, cache[1][l][0] + h / 2 * D, D, K, t + 1);
            matmul(y, o, c->x[WO] + l * C * C, C, C);
            for (int i = 0; i < C; i++)
                x[i] += y[i];
            rms_norm(n, x, c->x[NORM2] + l * C, C);
            matmul(a, n, c->x[W1] + l * F * C, C, F);
            matmul(b, n, c->x[W3] + l * F * C, C, F);
            for (int i = 0; i < F; i++)
                a[i] = a[i] / (1 + exp(-a[i])) * b[i];
            matmul(y, a, c->x[W2] + l * C * F, F, C);
            for (int i = 0; i < C; i++)
                x[i] += y[i];
        }
        rms_norm(n, x, c->x[NORMF], C);
        matmul(logits + t * c->vocab, n, c->x[c->tied ? WTE : HEAD], C, c->vocab);
    }
}

static void logits_are_llama2c_s(void **state) {
    (void)state;
    static const int32_t tokens[] = {1, 12, 0, 5, 5, 9, 3, 7, 2};
    for (int tied = 0; tied < 2; tied++) {
        checkpoint c = checkpoint_make(tied, 10000);
        gm_model *m[2] = {load(&c, 0), load(&c, 1)};
        float logits[9 * 13];
        double want[9 * 13];
        assert_int_equal(m[0]->cfg.tied, tied);
        CHECK_OK(gm_model_logits(m[0], tokens, 1, 9, false, logits, err));
        oracle_logits(want, &c, tokens, 9);
        for (int i = 0; i < 9 * 13; i++) {
            if (!(fabs(logits[i] - want[i]) <= 1e-5 * (1 + fabs(want[i]))))
                fail_msg("tied %d, logit %d: %.8g, not %.8g", tied, i, logits[i], want[i]);
        }
        assert_int_equal(m[0]->param_elements, m[1]->param_elements);
        assert_memory_equal(m[0]->weights, m[1]->weights, (size_t)m[0]->param_elements * sizeof(float));
        gm_model_free(m[0]);
        gm_model_free(m[1]);
        checkpoint_free(&c);
    }
}

/* ---- damage */

static void expect_refused(const void *bytes, size_t size, gm_status status, int64_t offset, const char *word) {
    gm_error error = {.offset = -1};
    gm_model *m = (gm_model *)&error;
    gm_status got = load_bytes(&m, bytes, size, &error);
    if (got != status || error.offset != offset || !strstr(error.msg, word) || m)
        fail_msg("%zu bytes: status %d at %lld: %s", size, got, (long long)error.offset, error.msg);
}

static void damaged_files_are_refused(void **state) {
    (void)state;
    checkpoint c = checkpoint_make(true, 10000);
    gm_text v0 = checkpoint_bytes(&c, 0), v1 = checkpoint_bytes(&c, 1);
    char *grown = calloc(v0.size + 4, 1);
    memcpy(grown, v0.data, v0.size);
    expect_refused(grown, v0.size + 4, GM_EFORMAT, (int64_t)v0.size, "too long");
    free(grown);
    const size_t cuts[] = {28, 29, 1000, v0.size - 1};
    for (int i = 0; i < GM_COUNT(cuts); i++)
        expect_refused(v0.data, cuts[i], GM_EFORMAT, (int64_t)cuts[i], "cut off");
    const size_t cuts_1[] = {4, 8, 36, 255, 256, 1000, v1.size - 1};
    for (int i = 0; i < GM_COUNT(cuts_1); i++)
        expect_refused(v1.data, cuts_1[i], GM_EFORMAT, (int64_t)cuts_1[i], "cut off");
    expect_refused(v0.data, 27, GM_EUNSUPPORTED, -1, "not a model");
    expect_refused(v0.data, 0, GM_EUNSUPPORTED, -1, "not a model");

    const int32_t bad[] = {0, -1, 5, 7, INT32_MAX, INT32_MIN};
    for (size_t field = 0; field < 7; field++) {
        for (int i = 0; i < GM_COUNT(bad); i++) {
            gm_error error = {.offset = -1};
            gm_model *m = (gm_model *)&error;
            gm_text copy = {0};
            gm_text_bytes(&copy, v1.data, v1.size);
            memcpy(copy.data + 8 + 4 * field, &bad[i], 4);
            if (load_bytes(&m, copy.data, copy.size, &error) == GM_OK) { /* the context alone has no bytes in version 1 */
                assert_true(field == 6 && bad[i] > 0 && bad[i] < 8);
                gm_model_free(m);
            } else {
                assert_int_equal(error.code, GM_EFORMAT);
                assert_true(error.offset >= 0);
                assert_null(m);
            }
            gm_text_free(&copy);
        }
    }
    v1.data[4] = 3;
    expect_refused(v1.data, v1.size, GM_EUNSUPPORTED, 4, "version 3");
    v1.data[4] = 2;
    expect_refused(v1.data, v1.size, GM_EFORMAT, 37, "group size of 0");
    v1.data[4] = 1;
    v1.data[36] = 2;
    expect_refused(v1.data, v1.size, GM_EFORMAT, 8, "header");
    gm_text_free(&v0);
    gm_text_free(&v1);
    checkpoint_free(&c);
}

/* Tables of another base would be another model; zeros say nothing. */
static void rotary_tables_are_checked(void **state) {
    (void)state;
    checkpoint c = checkpoint_make(true, 1e6);
    gm_text bytes = checkpoint_bytes(&c, 0);
    size_t at = 28;
    for (int t = 0; t < ROTARY; t++)
        at += c.size[t] * sizeof(float);
    expect_refused(bytes.data, bytes.size, GM_EUNSUPPORTED, (int64_t)at, "base 10000");
    memset(bytes.data + at, 0, c.size[ROTARY] * sizeof(float));
    gm_model *m;
    CHECK_OK(load_bytes(&m, bytes.data, bytes.size, err));
    gm_model_free(m);
    gm_text_free(&bytes);
    checkpoint_free(&c);
}

/* Any bytes: an error or a model, never a crash. */
static void any_header_is_survived(void **state) {
    (void)state;
    checkpoint c = checkpoint_make(false, 10000);
    for (int version = 0; version < 2; version++) {
        gm_text bytes = checkpoint_bytes(&c, version);
        size_t header_bytes = version ? 40 : 28;
        for (uint64_t i = 0; i < 2000; i++) {
            char kept[40];
            memcpy(kept, bytes.data, header_bytes);
            for (uint64_t n = 0; n < 1 + i % 3; n++)
                bytes.data[gm_rng_below(i, 2 * n, (int64_t)header_bytes)] = (char)gm_rng_u64(i, 2 * n + 1);
            gm_error error = {0};
            gm_model *m = NULL;
            gm_status status = load_bytes(&m, bytes.data, bytes.size, &error);
            assert_true((status == GM_OK) == (m != NULL));
            gm_model_free(m);
            memcpy(bytes.data, kept, header_bytes);
        }
        gm_text_free(&bytes);
    }
    checkpoint_free(&c);
}

/* What is written is what llama2.c's own exporter would write: the files that checkpoint_bytes makes, which the tests above prove. */
static void files_come_back(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        checkpoint c = checkpoint_make(tied, 10000);
        for (int version = 0; version < 2; version++) {
            gm_model *m = load(&c, version);
            gm_text want = checkpoint_bytes(&c, version);
            gm_file file;
            CHECK_OK(gm_llama2c_save(m, version, path, err));
            CHECK_OK(gm_file_open(&file, path, err));
            assert_int_equal(file.size, want.size);
            assert_memory_equal(file.data, want.data, want.size);
            gm_file_close(&file);
            unlink(path);
            gm_text_free(&want);
            gm_model_free(m);
        }
        checkpoint_free(&c);
    }
}

static void what_the_format_cannot_say_is_refused(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"", "softmax1", "softmax1"},
                                           {"", "clipped:alpha=1", "softmax"},
                                           {"qkv-bias=yes", "softmax", "biases"},
                                           {"qk-norm=yes", "softmax", "normed"},
                                           {"rope-theta=500000", "softmax", "base"},
                                           {"rope-scaling=linear,rope-factor=2", "softmax", "scaled"},
                                           {"norm-eps=1e-6", "softmax", "eps"},
                                           {"window=4", "softmax", "window"},
                                           {"head-dim=6", "softmax", "width / heads"}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        char overrides[256];
        gm_error error = {0};
        snprintf(overrides, sizeof overrides, "vocab=11,context=9,layers=1,width=8,heads=2,ffn=12%s%s", *cases[i][0] ? "," : "",
                 cases[i][0]);
        gm_model_config cfg = shape_config(&(model_shape){.preset = "llama-260k", .overrides = overrides}, cases[i][1]);
        gm_model *m = model_of(ctx, &cfg, 1);
        assert_int_equal(gm_llama2c_save(m, 0, path, &error), GM_EUNSUPPORTED);
        if (!strstr(error.msg, cases[i][2]))
            fail_msg("%s %s: %s", cases[i][0], cases[i][1], error.msg);
        assert_int_not_equal(access(path, F_OK), 0);
        gm_model_free(m);
    }
}

/* ---- version 2: groups of int8, as llama2.c's exporter cuts them: over all elements of a matrix, whatever its rows */

static gm_text quantized_bytes(const checkpoint *c, int group) {
    gm_text bytes = checkpoint_bytes(c, 1), out = {0};
    bytes.data[4] = 2;
    memcpy(bytes.data + 37, &group, 4);
    gm_text_bytes(&out, bytes.data, 256);
    for (int i = 0; i < GM_COUNT(order_1); i++) {
        int t = order_1[i];
        if (t == NORM1 || t == NORM2 || t == NORMF) {
            gm_text_bytes(&out, c->x[t], c->size[t] * sizeof(float));
            continue;
        }
        size_t layers = t == WTE || t == HEAD ? 1 : (size_t)c->layers, n = c->size[t] / layers;
        for (size_t l = 0; l < layers && n; l++) {
            gm_text scales = {0};
            for (size_t g = 0; g < n / (size_t)group; g++) {
                float *x = c->x[t] + l * n + g * (size_t)group, scale = 0;
                for (int k = 0; k < group; k++)
                    scale = fmaxf(scale, fabsf(x[k]) / 127);
                gm_text_bytes(&scales, &scale, sizeof scale);
                for (int k = 0; k < group; k++) {
                    int8_t q = (int8_t)roundf(x[k] / scale);
                    gm_text_bytes(&out, &q, 1);
                    x[k] = scale * (float)q; /* what a reader makes of it */
                }
            }
            gm_text_bytes(&out, scales.data, scales.size);
            gm_text_free(&scales);
        }
    }
    gm_text_free(&bytes);
    return out;
}

static void groups_of_int8_are_read(void **state) {
    (void)state;
    const int groups[] = {4, 8, 12, 6}; /* 8 and 12 leave rows of 20 and 24 in the middle of a group */
    for (int i = 0; i < GM_COUNT(groups); i++) {
        checkpoint c = checkpoint_make(i % 2, 10000);
        gm_text bytes = quantized_bytes(&c, groups[i]);
        gm_model *m, *want = load(&c, 1);
        CHECK_OK(load_bytes(&m, bytes.data, bytes.size, err));
        assert_memory_equal(m->weights, want->weights, (size_t)m->param_elements * sizeof(float));
        gm_model_free(m);
        gm_model_free(want);
        expect_refused(bytes.data, bytes.size - 1, GM_EFORMAT, (int64_t)bytes.size - 1, "cut off");
        const int32_t wrong[] = {11, INT32_MAX}; /* the second is more than there is: no group at all */
        for (int k = 0; k < GM_COUNT(wrong); k++) {
            memcpy(bytes.data + 37, &wrong[k], sizeof wrong[k]);
            expect_refused(bytes.data, bytes.size, GM_EFORMAT, 37, "does not divide");
        }
        gm_text_free(&bytes);
        checkpoint_free(&c);
    }
}

int main(void) {
    ctx = context_of("ref", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_are_llama2c_s),      cmocka_unit_test(damaged_files_are_refused),
                                       cmocka_unit_test(rotary_tables_are_checked), cmocka_unit_test(any_header_is_survived),
                                       cmocka_unit_test(files_come_back),           cmocka_unit_test(what_the_format_cannot_say_is_refused),
                                       cmocka_unit_test(groups_of_int8_are_read)};
    int failed = cmocka_run_group_tests_name("llama2c files", tests, NULL, NULL);
    gm_ctx_free(ctx);
    return failed;
}
