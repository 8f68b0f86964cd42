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

/* ---- files of llama.cpp's own package */

static void golden_path(char out[1024], const char *folder, const char *name, const char *end) {
    snprintf(out, 1024, "%s/tests/golden/%s/%s%s", GM_TEST_SOURCE_DIR, folder, name, end);
}

static void the_package_s_models_are_their_sources(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2", "llama_biases", "llama3_sharded", "llama_linear", "qwen2", "qwen3"};
    for (int i = 0; i < GM_COUNT(names); i++) {
        char from[1024];
        gm_model *m, *want;
        golden_path(from, "gguf", names[i], ".gguf");
        CHECK_OK(gm_model_load(&m, ctx, from, err));
        golden_path(from, "hf", names[i], "");
        CHECK_OK(gm_model_load(&want, ctx, from, err));
        if (gm_config_fingerprint(&m->cfg) != gm_config_fingerprint(&want->cfg))
            fail_msg("%s: another configuration", names[i]);
        assert_int_equal(m->param_elements, want->param_elements);
        assert_memory_equal(m->weights, want->weights, (size_t)m->param_elements * sizeof(float));
        same_numbers(m, want, names[i]);
        save(m, GM_DTYPE_F32); /* and ours has the same words for it */
        architecture_is(strncmp(names[i], "llama", 5) == 0 ? "llama" : names[i]);
        unlink(path);
        gm_model_free(m);
        gm_model_free(want);
    }
}

/* ---- files in which something is wrong: the package's, with one thing changed */

typedef struct change {
    const char *drop_key, *drop_tensor, *rename_tensor; /* renamed: "extra" */
    const char *set_key;                                /* to this whole number, as u32 */
    uint32_t value, second;                             /* second: to an array of both */
    const char *transposed;                             /* tensor */
} change;

/* gpt2.gguf or another, written again with the change. */
static void write_changed(const char *name, const change *c) {
    char from[1024];
    gm_file file;
    gm_gguf g;
    golden_path(from, "gguf", name, ".gguf");
    CHECK_OK(gm_file_open(&file, from, err));
    CHECK_OK(gm_gguf_parse(&g, file.data, file.size, from, err));
    gm_gguf_writer *w = writer_make();
    for (int64_t i = 0; i < g.value_count; i++) {
        char key[128];
        snprintf(key, sizeof key, "%.*s", (int)g.values[i].key.size, g.values[i].key.data);
        if ((!c->drop_key || strcmp(key, c->drop_key) != 0) && (!c->set_key || strcmp(key, c->set_key) != 0))
            gm_gguf_put_value(w, &g.values[i]);
    }
    if (c->set_key && c->second)
        gm_gguf_put_array(w, c->set_key, GM_GGUF_U32, (uint32_t[]){c->value, c->second}, 2);
    else if (c->set_key)
        gm_gguf_put_u32(w, c->set_key, c->value);
    float *data[64] = {0};
    for (int64_t i = 0; i < g.tensor_count; i++) {
        const gm_gguf_tensor *t = &g.tensors[i];
        if (c->drop_tensor && strcmp(t->name, c->drop_tensor) == 0)
            continue;
        bool renamed = c->rename_tensor && strcmp(t->name, c->rename_tensor) == 0, matrix = t->rank == 2;
        bool turned = c->transposed && strcmp(t->name, c->transposed) == 0;
        data[i] = gm_alloc((size_t)t->elements, sizeof(float));
        gm_gguf_read(t, 0, INT64_MAX, 0, data[i]);
        gm_gguf_put_tensor(w, &(gm_gguf_source){renamed ? "extra" : t->name, GM_DTYPE_F32, data[i], t->shape[matrix && !turned],
                                                matrix ? t->shape[turned] : 0, 0});
    }
    CHECK_OK(gm_gguf_writer_commit(w, path, err));
    for (int i = 0; i < 64; i++)
        gm_free(data[i]);
    gm_gguf_writer_free(w);
    gm_gguf_close(&g);
    gm_file_close(&file);
}

static void contradictions_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *file;
        change change;
        gm_status status;
        const char *word;
    } cases[] = {
        {"gpt2", {.drop_key = "general.architecture"}, GM_EFORMAT, "general.architecture"},
        {"gpt2", {.drop_key = "gpt2.context_length"}, GM_EFORMAT, "gpt2.context_length"},
        {"gpt2", {.drop_key = "gpt2.attention.layer_norm_epsilon"}, GM_EFORMAT, "epsilon"},
        {"gpt2", {.set_key = "gpt2.attention.layer_norm_epsilon", .value = 1}, GM_EFORMAT, "not a real number"},
        {"gpt2", {.set_key = "gpt2.embedding_length", .value = 0}, GM_EFORMAT, "width is 0"},
        {"gpt2", {.set_key = "gpt2.embedding_length", .value = 4}, GM_EFORMAT, "shape"},
        {"gpt2", {.set_key = "gpt2.context_length", .value = 1000}, GM_EFORMAT, "position_embd.weight"},
        {"gpt2", {.set_key = "gpt2.block_count", .value = 1}, GM_EFORMAT, "no place"},
        {"gpt2", {.set_key = "gpt2.block_count", .value = 3}, GM_EFORMAT, "missing"},
        {"gpt2", {.set_key = "gpt2.block_count", .value = 1000}, GM_EFORMAT, "blocks"},
        {"gpt2", {.set_key = "gpt2.block_count", .value = UINT32_MAX}, GM_EFORMAT, "layers"},
        {"gpt2", {.set_key = "gpt2.attention.head_count", .value = 3}, GM_EFORMAT, "heads (3)"},
        {"gpt2", {.set_key = "gpt2.vocab_size", .value = 18}, GM_EFORMAT, "contradicts"},
        {"gpt2", {.set_key = "gpt2.expert_count", .value = 8}, GM_EUNSUPPORTED, "not known here"},
        {"gpt2", {.set_key = "general.architecture", .value = 8}, GM_EFORMAT, "general.architecture"},
        {"gpt2", {.set_key = "split.count", .value = 2, .drop_tensor = "blk.1.ffn_up.weight"}, GM_EUNSUPPORTED, "one of 2 parts"},
        {"gpt2", {.drop_tensor = "blk.1.attn_qkv.bias"}, GM_EFORMAT, "'blk.1.attn_qkv.bias' is missing"},
        {"gpt2", {.rename_tensor = "blk.1.attn_qkv.bias"}, GM_EFORMAT, "missing"},
        {"gpt2", {.transposed = "blk.0.attn_qkv.weight"}, GM_EFORMAT, "shape [8, 24]"},
        {"llama_linear", {.set_key = "llama.attention.key_length", .value = 4}, GM_EUNSUPPORTED, "head dimension"},
        {"llama_linear", {.set_key = "llama.attention.head_count_kv", .value = 2, .second = 1}, GM_EUNSUPPORTED, "from layer to layer"},
        {"llama_linear", {.set_key = "llama.rope.scaling.type", .value = 4}, GM_EUNSUPPORTED, "scales the rotary"},
        {"llama_biases", {.drop_tensor = "blk.1.attn_q.bias"}, GM_EFORMAT, "missing"},
        {"llama_biases", {.drop_tensor = "blk.0.attn_output.bias"}, GM_EFORMAT, "no place"},
        {"llama3_sharded", {.set_key = "llama.rope.freq_base", .value = 4}, GM_EFORMAT, "not a real number"},
        {"llama3_sharded", {.drop_key = "llama.rope.freq_base"}, GM_EUNSUPPORTED, "in another way than Llama 3's models"},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_error error = {0};
        gm_model *m = (gm_model *)&error;
        write_changed(cases[i].file, &cases[i].change);
        gm_status status = gm_model_load(&m, ctx, path, &error);
        if (status != cases[i].status || m || !strstr(error.msg, cases[i].word))
            fail_msg("case %d, %s: status %d, %s", i, cases[i].word, status, error.msg);
    }
    unlink(path);
}

static void equal_numbers_of_layers_are_one(void **state) {
    (void)state;
    char from[1024];
    gm_model *m, *want;
    golden_path(from, "gguf", "llama_linear", ".gguf");
    CHECK_OK(gm_model_load(&want, ctx, from, err));
    uint32_t heads = (uint32_t)want->cfg.kv_heads;
    write_changed("llama_linear", &(change){.set_key = "llama.attention.head_count_kv", .value = heads, .second = heads});
    CHECK_OK(gm_model_load(&m, ctx, path, err));
    assert_int_equal(gm_config_fingerprint(&m->cfg), gm_config_fingerprint(&want->cfg));
    gm_model_free(m);
    gm_model_free(want);
    unlink(path);
}

/* Our own files hold the whole configuration: an edited key or a stock name for another variant does not pass. */
static void altered_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *word;
    } cases[] = {{"ghostmax_llama", "llama\0\0\0\0\0\0\0\0\0", "general.architecture"},
                 {"ghostmax_llama", "ghostmax_qwen2", "architecture is 'ghostmax_qwen2'"},
                 {"softmax1\"", "softmax2\"", "softmax2"}};
    gm_model_config cfg = shape_config(&small_shapes[4], "softmax1");
    gm_model *m = model_of(ctx, &cfg, 5);
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_file file;
        gm_error error = {0};
        gm_model *back;
        save(m, GM_DTYPE_F32);
        CHECK_OK(gm_file_open(&file, path, err));
        gm_text copy = {0};
        gm_text_bytes(&copy, file.data, file.size);
        gm_file_close(&file);
        char *at = copy.data;
        size_t n = strlen(cases[i].from);
        while (memcmp(at, cases[i].from, n) != 0)
            at++;
        memcpy(at, cases[i].to, n);
        CHECK_OK(gm_file_write(path, copy.data, copy.size, err));
        assert_int_equal(gm_model_load(&back, ctx, path, &error), GM_EFORMAT);
        if (!strstr(error.msg, cases[i].word))
            fail_msg("%s: %s", cases[i].to, error.msg);
        gm_text_free(&copy);
    }
    unlink(path);
    gm_model_free(m);
}

int main(void) {
    ctx = context_of("ref", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variants_come_back),         cmocka_unit_test(families_come_back),
        cmocka_unit_test(dtypes_round_matrices_only), cmocka_unit_test(the_package_s_models_are_their_sources),
        cmocka_unit_test(contradictions_are_refused), cmocka_unit_test(equal_numbers_of_layers_are_one),
        cmocka_unit_test(altered_files_are_refused)};
    int failed = cmocka_run_group_tests_name("GGUF models", tests, NULL, NULL);
    gm_ctx_free(ctx);
    return failed;
}
