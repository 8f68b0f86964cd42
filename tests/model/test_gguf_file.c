/* test_gguf_file.c -- every variant of every family comes back from GGUF bit for bit; files made by llama.cpp's own Python package
 * (tools/make_golden_gguf.py) give the numbers of the Hugging Face folders that they were made of; files that contradict themselves are
 * refused. */
#include "config_file.h"
#include "gguf_file.h"
#include "model_cases.h"

#include <unistd.h>

static const char path[] = "test_gguf_file.tmp.gguf";
static gm_ctx *ctx;

static gm_gguf_writer *writer_make(void) {
    gm_gguf_writer *w;
    CHECK_OK(gm_gguf_writer_create(&w, err));
    return w;
}

static void save(const gm_model *m, gm_dtype dtype) {
    gm_gguf_writer *w = writer_make();
    CHECK_OK(gm_gguf_model_put(w, m, dtype, err));
    CHECK_OK(gm_gguf_writer_commit(w, path, err));
    gm_gguf_writer_free(w);
}

static gm_model *load(void) {
    gm_model *m;
    CHECK_OK(gm_model_load(&m, ctx, path, err));
    unlink(path);
    return m;
}

static void architecture_is(const char *want) {
    gm_file file;
    gm_gguf g;
    CHECK_OK(gm_file_open(&file, path, err));
    CHECK_OK(gm_gguf_parse(&g, file.data, file.size, path, err));
    if (!gm_gguf_is_text(gm_gguf_find(&g, "general.architecture"), want))
        fail_msg("the architecture is not %s", want);
    gm_gguf_close(&g);
    gm_file_close(&file);
}

static void same_numbers(gm_model *a, gm_model *b, const char *what) {
    float x[2 * 64], y[2 * 64];
    int32_t tokens[5], unused[5];
    assert_true(a->cfg.vocab <= 64);
    tokens_fill(tokens, unused, 5, a->cfg.vocab, 3);
    CHECK_OK(gm_model_logits(a, tokens, 1, 5, true, x, err));
    CHECK_OK(gm_model_logits(b, tokens, 1, 5, true, y, err));
    if (memcmp(x, y, (size_t)a->cfg.vocab * sizeof *x) != 0)
        fail_msg("%s: other logits", what);
}

static void round_trip(const gm_model_config *cfg, const char *architecture, const char *what) {
    gm_model *m = model_of(ctx, cfg, 5), *back;
    save(m, GM_DTYPE_F32);
    architecture_is(architecture);
    back = load();
    assert_int_equal(gm_config_fingerprint(&back->cfg), gm_config_fingerprint(&m->cfg));
    assert_string_equal(back->cfg.preset, m->cfg.preset);
    assert_int_equal(back->param_elements, m->param_elements);
    if (memcmp(back->weights, m->weights, (size_t)m->param_elements * sizeof(float)) != 0)
        fail_msg("%s: other weights", what);
    same_numbers(m, back, what);
    gm_model_free(m);
    gm_model_free(back);
}

/* What a stock runtime computes too has a stock name; anything else has not. */
static void variants_come_back(void **state) {
    (void)state;
    static const char *const plain[] = {"gpt2",  "ghostmax_gpt2",  "ghostmax_opt", "ghostmax_opt",
                                        "llama", "ghostmax_llama", "llama",        "ghostmax_llama"};
    static const char *const own[] = {"ghostmax_gpt2", "ghostmax_opt", "ghostmax_llama"};
    for (int s = 0; s < GM_COUNT(small_shapes); s++) {
        for (int v = 0; v < GM_COUNT(every_variant); v++) {
            gm_model_config cfg = shape_config(&small_shapes[s], every_variant[v]);
            char what[256];
            snprintf(what, sizeof what, "%s, %s", small_shapes[s].name, every_variant[v]);
            round_trip(&cfg, v == 0 ? plain[s] : own[cfg.family], what);
        }
    }
}

static void families_come_back(void **state) {
    (void)state;
    static const struct {
        gm_family family;
        bool qkv_bias, qk_norm;
        int64_t window;
        const char *variant, *architecture;
    } cases[] = {{GM_FAMILY_MISTRAL, false, false, 0, "softmax", "llama"},
                 {GM_FAMILY_MISTRAL, false, false, 9, "softmax", "llama"},
                 {GM_FAMILY_MISTRAL, false, false, 3, "softmax", "ghostmax_mistral"},
                 {GM_FAMILY_QWEN2, true, false, 0, "softmax", "qwen2"},
                 {GM_FAMILY_QWEN2, true, false, 0, "sink", "ghostmax_qwen2"},
                 {GM_FAMILY_QWEN2, false, false, 0, "softmax", "ghostmax_qwen2"},
                 {GM_FAMILY_QWEN3, false, true, 0, "softmax", "qwen3"},
                 {GM_FAMILY_QWEN3, false, true, 0, "gated", "ghostmax_qwen3"}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model_config cfg = shape_config(&small_shapes[4], cases[i].variant);
        cfg.family = cases[i].family;
        cfg.qkv_bias = cases[i].qkv_bias;
        cfg.qk_norm = cases[i].qk_norm;
        cfg.window = cases[i].window;
        round_trip(&cfg, cases[i].architecture, cases[i].architecture);
    }
}

/* Every matrix is what its dtype makes of it, vectors and positions are exact. */
static void dtypes_round_matrices_only(void **state) {
    (void)state;
    static const char *const shapes[][2] = {{"llama-260k", "vocab=17,context=9,layers=2,width=32,heads=4,kv-heads=2,ffn=40"},
                                            {"gpt2-nano", "vocab=17,context=9,layers=2,width=64,heads=4,ffn=96"}};
    const gm_dtype dtypes[] = {GM_DTYPE_F16, GM_DTYPE_BF16, GM_DTYPE_Q8_0};
    for (int s = 0; s < GM_COUNT(shapes); s++) {
        for (int d = 0; d < GM_COUNT(dtypes); d++) {
            gm_model_config cfg = shape_config(&(model_shape){.preset = shapes[s][0], .overrides = shapes[s][1]}, "sink+gated");
            gm_model *m = model_of(ctx, &cfg, 5);
            save(m, dtypes[d]);
            gm_model *back = load();
            for (int i = 0; i < m->param_count; i++) {
                const gm_param *p = &m->params[i];
                float row[128];
                uint8_t bytes[512];
                bool exact = p->cols == 1 || p->slot == GM_P_WPE;
                gm_dtype dtype = exact ? GM_DTYPE_F32 : p->cols % gm_dtype_block(dtypes[d]) ? GM_DTYPE_F16 : dtypes[d];
                for (int64_t r = 0; r < p->rows; r++) {
                    const float *x = m->weights + p->offset + r * p->cols, *y = back->weights + p->offset + r * p->cols;
                    assert_true(gm_dtype_encode(dtype, bytes, x, p->cols));
                    gm_dtype_decode(dtype, row, bytes, p->cols);
                    if (memcmp(row, y, (size_t)p->cols * sizeof *y) != 0)
                        fail_msg("%s, %s: row %lld", gm_dtype_name(dtypes[d]), p->name, (long long)r);
                }
            }
            gm_model_free(m);
            gm_model_free(back);
        }
    }
}

int main(void) {
    ctx = context_of("ref", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(variants_come_back), cmocka_unit_test(families_come_back),
                                       cmocka_unit_test(dtypes_round_matrices_only)};
    int failed = cmocka_run_group_tests_name("GGUF models", tests, NULL, NULL);
    gm_ctx_free(ctx);
    return failed;
}
