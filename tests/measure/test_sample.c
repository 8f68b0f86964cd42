/* What is drawn of a model: sample.safetensors holds, to bf16, what a tap of the test's own sees of the first validation sequence. */
#include "fixture.h"

#include "measure.h"
#include "safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 2, HEADS = 2, CONTEXT = 80, TENSORS = 64 };

static char folder[] = "/tmp/ghostmax-sample-XXXXXX", path[64];

static gm_model *model_of(const char *variant, int64_t context) {
    gm_model_config cfg;
    gm_model *m;
    gm_error err;
    assert_int_equal(gm_model_config_preset(&cfg, "gpt2-nano", &err), GM_OK);
    assert_int_equal(gm_model_config_override(&cfg, "layers=2,heads=2,width=32", &err), GM_OK);
    assert_int_equal(gm_variant_parse(&cfg.attention, variant, &err), GM_OK);
    cfg.vocab = gm_tokenizer_vocab(gm_data_tokenizer(data));
    cfg.context = context;
    if (gm_model_create(&m, ctx, &cfg, 5, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return m;
}

/* ---- what the test sees by itself */

typedef struct seen {
    char name[64];
    int64_t rows, cols;
    float *x;
} seen;
typedef struct sight {
    seen list[TENSORS];
    int count;
} sight;

static const seen *find(const sight *s, const char *name) {
    for (int i = 0; i < s->count; i++) {
        if (strcmp(s->list[i].name, name) == 0)
            return &s->list[i];
    }
    return NULL;
}

static float *see(sight *s, const char *what, int layer, int64_t rows, int64_t cols) {
    char name[64];
    if (layer < 0)
        snprintf(name, sizeof name, "%s", what);
    else
        snprintf(name, sizeof name, "blocks.%d.%s", layer, what);
    const seen *there = find(s, name);
    if (there)
        return there->x;
    assert_true(s->count < TENSORS);
    seen *new = &s->list[s->count++];
    *new = (seen){.rows = rows, .cols = cols, .x = calloc((size_t)(rows * cols), sizeof(float))};
    strcpy(new->name, name);
    return new->x;
}

static void look(void *user, const gm_tap_view *v) {
    static const gm_site left_out[] = {GM_SITE_CACHE_K, GM_SITE_CACHE_V, GM_SITE_SCORES, GM_SITE_PV};
    sight *s = user;
    for (int i = 0; i < (int)(sizeof left_out / sizeof left_out[0]); i++) {
        if (v->site == left_out[i])
            return;
    }
    const bool weights = v->site == GM_SITE_WEIGHTS;
    float *x = see(s, weights ? "weights" : gm_site_name(v->site), v->layer, weights ? HEADS * v->T : v->rows, v->cols);
    for (int64_t r = 0; r < v->rows; r++)
        memcpy(x + ((weights ? v->h * v->T : 0) + r) * v->cols, v->x + r * v->stride, (size_t)v->cols * sizeof *x);
    if (weights && v->null_mass)
        memcpy(see(s, "null_mass", v->layer, HEADS, v->T) + v->h * v->T, v->null_mass, (size_t)v->T * sizeof *x);
    else if (weights)
        see(s, "null_mass", v->layer, HEADS, v->T);
}

/* ---- the file */

static void check_tensor(const gm_safetensors *file, const seen *want) {
    gm_error err;
    const gm_tensor *t = gm_safetensors_find(file, want->name);
    if (!t || t->rank != 2 || t->shape[0] != want->rows || t->shape[1] != want->cols || strcmp(gm_tensor_type(t), "BF16") != 0)
        fail_msg("'%s' is not in it as BF16 [%d, %d]", want->name, (int)want->rows, (int)want->cols);
    float *x = malloc((size_t)t->elements * sizeof *x);
    assert_int_equal(gm_tensor_read(file, t, x, want->cols, 1, &err), GM_OK);
    for (int64_t i = 0; i < t->elements; i++) {
        if (!(fabsf(x[i] - want->x[i]) <= fabsf(want->x[i]) / 256)) /* half a unit of 8 bits */
            fail_msg("%s[%d] is %g for %g", want->name, (int)i, (double)x[i], (double)want->x[i]);
    }
    free(x);
}

static void check_tokens(const gm_safetensors *file, const int32_t *tokens, int64_t T) {
    json_t *ids = json_loads(gm_safetensors_metadata(file, "tokens"), 0, NULL),
           *texts = json_loads(gm_safetensors_metadata(file, "texts"), 0, NULL);
    assert_int_equal(json_array_size(ids), T);
    assert_int_equal(json_array_size(texts), T);
    for (int64_t t = 0; t < T; t++) {
        gm_text text = {0};
        assert_int_equal(json_integer_value(json_array_get(ids, (size_t)t)), tokens[t]);
        gm_measure_token_text(&text, gm_data_tokenizer(data), t > 0 ? tokens[t - 1] : -1, tokens[t]);
        assert_string_equal(json_string_value(json_array_get(texts, (size_t)t)), text.data);
        gm_text_free(&text);
    }
    json_decref(ids);
    json_decref(texts);
}

static void check_sample(const char *variant, int64_t context, int64_t T) {
    gm_error err;
    gm_model *m = model_of(variant, context);
    int32_t tokens[2 * CONTEXT];
    sight mine = {0};
    double mean;
    const uint64_t weights = gm_hash(m->weights, (size_t)m->param_elements * sizeof(float), 0);
    if (gm_sample_write(m, data, folder, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_true(gm_hash(m->weights, (size_t)m->param_elements * sizeof(float), 0) == weights);
    gm_data_validation(data, 0, 1, tokens, tokens + CONTEXT);
    gm_tap tap = {.fn = look, .user = &mine, .attention = true};
    assert_int_equal(gm_model_forward_loss(m, tokens, tokens + CONTEXT, 1, T, &tap, &mean, NULL, &err), GM_OK);

    gm_safetensors file;
    if (gm_safetensors_open(&file, path, &err) != GM_OK || gm_safetensors_verify(&file, 1, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(gm_safetensors_metadata(&file, "schema"), "ghostmax.sample/1");
    assert_string_equal(gm_safetensors_metadata(&file, "variant"), variant);
    assert_string_equal(gm_safetensors_metadata(&file, "data"), gm_data_identity(data));
    check_tokens(&file, tokens, T);
    assert_int_equal(file.count, mine.count);
    for (int i = 0; i < mine.count; i++) {
        check_tensor(&file, &mine.list[i]);
        free(mine.list[i].x);
    }
    gm_safetensors_close(&file);
    gm_model_free(m);
}

static void holds_what_a_tap_sees(void **state) {
    (void)state;
    check_sample("softmax", CONTEXT, GM_SAMPLE_TOKENS); /* of longer sequences the beginning */
    check_sample("softmax1+gated", CONTEXT, GM_SAMPLE_TOKENS);
    check_sample("sink", 20, 20); /* no more than the model has room for */
}

/* Not a copy of the model's state: a head's weights and its null mass are what was spent, and what is masked got nothing. */
static void weights_add_up(void **state) {
    (void)state;
    enum { T = GM_SAMPLE_TOKENS };
    gm_error err;
    gm_model *m = model_of("softmax1", CONTEXT);
    gm_safetensors file;
    static float w[HEADS * T * T], null_mass[HEADS * T];
    assert_int_equal(gm_sample_write(m, data, folder, &err), GM_OK);
    assert_int_equal(gm_safetensors_open(&file, path, &err), GM_OK);
    for (int layer = 0; layer < LAYERS; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blocks.%d.weights", layer);
        assert_int_equal(gm_tensor_read(&file, gm_safetensors_find(&file, name), w, T, 1, &err), GM_OK);
        snprintf(name, sizeof name, "blocks.%d.null_mass", layer);
        assert_int_equal(gm_tensor_read(&file, gm_safetensors_find(&file, name), null_mass, T, 1, &err), GM_OK);
        for (int row = 0; row < HEADS * T; row++) {
            double sum = null_mass[row];
            for (int j = 0; j < T; j++) {
                sum += w[row * T + j];
                assert_true(j <= row % T || w[row * T + j] == 0);
            }
            assert_true(null_mass[row] > 0 && fabs(sum - 1) <= 1.0 / 256);
        }
    }
    gm_safetensors_close(&file);
    gm_model_free(m);
}

static void refusals(void **state) {
    (void)state;
    gm_error err;
    gm_model *m = model_of("softmax", CONTEXT);
    assert_int_equal(gm_sample_write(m, data, "/nowhere/at all", &err), GM_EIO);
    assert_non_null(strstr(err.msg, "/nowhere/at all"));
    gm_model_free(m);
}

static int setup(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/sample.safetensors", folder);
    return open_context_and_bb(CONTEXT);
}

static int teardown(void **state) {
    return close_all(state) | unlink(path) | rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(holds_what_a_tap_sees), cmocka_unit_test(weights_add_up),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
