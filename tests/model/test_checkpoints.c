/* test_checkpoints.c -- Hugging Face folders of every family: what is saved comes back in every number type and number of files; what the
 * block cannot express is refused by key; files and configurations that disagree; weights that are not numbers. */
#include "config_file.h"
#include "dtype.h"
#include "model_cases.h"
#include "safetensors.h"

#include <unistd.h>

#include "fixture.h"

static const char folder[] = "test_checkpoints.tmp";
static const char config_path[] = "test_checkpoints.tmp/config.json";
static const char weights_path[] = "test_checkpoints.tmp/model.safetensors";

static void folder_remove(void) {
    char path[256];
    unlink(config_path);
    unlink(weights_path);
    unlink("test_checkpoints.tmp/" GM_SAFETENSORS_INDEX);
    for (int n = 1; n < 100; n++) {
        for (int i = 1; i <= n; i++) {
            snprintf(path, sizeof path, "%s/model-%05d-of-%05d.safetensors", folder, i, n);
            unlink(path);
        }
    }
    rmdir(folder);
}

/* ---- saving and loading */

static const struct {
    const char *type;
    gm_family family;
    const char *preset, *overrides;
} families[] = {
    {"gpt2", GM_FAMILY_GPT2, "gpt2-nano", "vocab=11,context=9,layers=2,width=8,heads=2,ffn=12"},
    {"opt", GM_FAMILY_OPT, "opt-mini", "vocab=11,context=9,layers=2,width=10,heads=2,ffn=9"},
    {"llama", GM_FAMILY_LLAMA, "llama-260k",
     "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=2,head-dim=6,ffn=10,rope-scaling=llama3,rope-factor=8,rope-low-freq=1,"
     "rope-high-freq=4,rope-original-context=8192"},
    {"mistral", GM_FAMILY_MISTRAL, "llama-260k", "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=2,ffn=10,window=4,tied=no"},
    {"mistral", GM_FAMILY_MISTRAL, "llama-260k", "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=2,ffn=10"},
    {"qwen2", GM_FAMILY_QWEN2, "llama-260k", "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=2,ffn=10,qkv-bias=yes"},
    {"qwen3", GM_FAMILY_QWEN3, "llama-260k",
     "vocab=11,context=9,layers=2,width=8,heads=4,kv-heads=1,head-dim=6,ffn=10,qk-norm=yes,rope-scaling=linear,rope-factor=2"},
};

static gm_model *family_model(int i, const char *variant) {
    gm_model_config cfg;
    CHECK_OK(gm_model_config_preset(&cfg, families[i].preset, err));
    CHECK_OK(gm_model_config_override(&cfg, families[i].overrides, err));
    CHECK_OK(gm_variant_parse(&cfg.attention, variant, err));
    cfg.family = families[i].family;
    if (cfg.rms_norm)
        cfg.norm_eps = 1e-6;
    return model_of(ctx, &cfg, 3);
}

static void expect_config_has(const char *words) {
    gm_file file;
    CHECK_OK(gm_file_open(&file, config_path, err));
    char *text = calloc(file.size + 1, 1);
    memcpy(text, file.data, file.size);
    if (!strstr(text, words))
        fail_msg("config.json lacks %s:\n%s", words, text);
    free(text);
    gm_file_close(&file);
}

/* The weights that a file of this type gives back. */
static void round_weights(const gm_model *m, gm_dtype dtype, float *want) {
    uint8_t bytes[4];
    for (int64_t i = 0; i < m->param_elements; i++) {
        assert_true(gm_dtype_encode(dtype, bytes, &m->weights[i], 1));
        gm_dtype_decode(dtype, &want[i], bytes, 1);
    }
}

static void every_family_and_type(void **state) {
    (void)state;
    static const gm_dtype types[] = {GM_DTYPE_F32, GM_DTYPE_F16, GM_DTYPE_BF16};
    static const int64_t shard_bytes[] = {0, 1, 700};
    for (int f = 0; f < GM_COUNT(families); f++) {
        for (int t = 0; t < GM_COUNT(types); t++) {
            for (int b = 0; b < GM_COUNT(shard_bytes); b++) {
                gm_model *m = family_model(f, b == 1 ? "sink+gated" : "softmax"), *back;
                float *want = calloc((size_t)m->param_elements, sizeof *want);
                round_weights(m, types[t], want);
                CHECK_OK(gm_model_save_as(m, folder, types[t], shard_bytes[b], err));
                char type[64];
                snprintf(type, sizeof type, "\"model_type\": \"%s%s\"", b == 1 ? "ghostmax_" : "", families[f].type);
                expect_config_has(type);
                expect_config_has(types[t] == GM_DTYPE_F32 ? "\"float32\"" : types[t] == GM_DTYPE_F16 ? "\"float16\"" : "\"bfloat16\"");
                CHECK_OK(gm_model_load(&back, ctx, folder, err));
                assert_memory_equal(back->weights, want, (size_t)m->param_elements * sizeof *want);
                assert_true(gm_config_fingerprint(&back->cfg) == gm_config_fingerprint(&m->cfg));
                gm_model_free(back);
                if (b == 0)
                    CHECK_OK(gm_model_load(&back, ctx, weights_path, err));
                else
                    CHECK_OK(gm_model_load(&back, ctx, "test_checkpoints.tmp/" GM_SAFETENSORS_INDEX, err));
                gm_model_files files;
                CHECK_OK(gm_model_inspect(&files, folder, err));
                assert_true((files.files > 1) == (b > 0));
                gm_model_free(back);
                gm_model_free(m);
                free(want);
                /* the folder stays: the next way to save must not leave this one in the way */
            }
        }
        folder_remove();
    }
}

static void what_cannot_be_saved(void **state) {
    (void)state;
    gm_model *m = family_model(0, "softmax");
    gm_error wrong;
    *gm_model_weight(m, GM_P_W1, 1) = 1e6f;
    assert_int_equal(gm_model_save_as(m, folder, GM_DTYPE_F16, 0, &wrong), GM_EINVAL);
    assert_non_null(strstr(wrong.msg, "transformer.h.1.mlp.c_fc.weight"));
    assert_false(gm_path_exists(weights_path));
    assert_int_equal(gm_model_save_as(m, folder, GM_DTYPE_Q8_0, 0, &wrong), GM_EUNSUPPORTED);
    assert_int_equal(gm_model_save_as(m, folder, GM_DTYPE_F32, -1, &wrong), GM_EINVAL);
    CHECK_OK(gm_model_save_as(m, folder, GM_DTYPE_BF16, 0, err));
    gm_model_free(m);
    folder_remove();
}

/* ---- configurations */

#define COMMON                                                                                                            \
    "\"vocab_size\":9,\"max_position_embeddings\":8,\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2," \
    "\"intermediate_size\":5,\"num_key_value_heads\":1,\"hidden_act\":\"silu\""
#define LLAMA(...) "{\"model_type\":\"llama\"," COMMON __VA_ARGS__ "}"
#define MISTRAL(...) "{\"model_type\":\"mistral\"," COMMON __VA_ARGS__ "}"
#define QWEN2(...) "{\"model_type\":\"qwen2\"," COMMON __VA_ARGS__ "}"
#define QWEN3(...) "{\"model_type\":\"qwen3\",\"head_dim\":4," COMMON __VA_ARGS__ "}"
#define ROPE3 "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192"

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *json;
        gm_status code;
        const char *first, *second;
    } cases[] = {
        {LLAMA(",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}"), GM_EUNSUPPORTED, "rope_scaling", "yarn"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}"), GM_EUNSUPPORTED, "rope_scaling", "dynamic"},
        {LLAMA(",\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1]}"), GM_EUNSUPPORTED, "rope_scaling", "longrope"},
        {LLAMA(",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}"), GM_EFORMAT, "rope_scaling",
         "high_freq_factor"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"linear\"}"), GM_EFORMAT, "rope_scaling", "factor"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}"), GM_EFORMAT, "rope factor", "0.5"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"attention_factor\":1.1}"), GM_EUNSUPPORTED, "attention_factor", ""},
        {LLAMA(",\"rope_scaling\":7"), GM_EFORMAT, "rope_scaling", "not an object"},
        {LLAMA(",\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}"), GM_EUNSUPPORTED, "partial_rotary_factor",
         ""},
        {LLAMA(",\"partial_rotary_factor\":0.25"), GM_EUNSUPPORTED, "partial_rotary_factor", "part of each head"},
        {LLAMA(",\"rope_parameters\":{\"rope_type\":\"default\"},\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}"), GM_EUNSUPPORTED,
         "rope_scaling", "rope_parameters"},
        {LLAMA(",\"attention_bias\":true"), GM_EUNSUPPORTED, "attention_bias", "mlp_bias"},
        {LLAMA(",\"mlp_bias\":true"), GM_EUNSUPPORTED, "mlp_bias", "attention_bias"},
        {LLAMA(",\"attention_bias\":true,\"mlp_bias\":false"), GM_EUNSUPPORTED, "\"attention_bias\": true", "one without the other"},
        {LLAMA(",\"final_logit_softcapping\":30.0"), GM_EUNSUPPORTED, "final_logit_softcapping", "cap"},
        {LLAMA(",\"attn_logit_softcapping\":50.0"), GM_EUNSUPPORTED, "attn_logit_softcapping", "cap"},
        {LLAMA(",\"num_local_experts\":8"), GM_EUNSUPPORTED, "num_local_experts", "experts"},
        {LLAMA(",\"quantization_config\":{\"bits\":4}"), GM_EUNSUPPORTED, "quantization_config", "quantized"},
        {LLAMA(",\"sliding_window\":4"), GM_EUNSUPPORTED, "sliding_window", ""},
        {LLAMA(",\"head_dim\":3"), GM_EFORMAT, "even head dimension", ""},
        {LLAMA(",\"head_dim\":\"4\""), GM_EFORMAT, "head_dim", "not a value"},
        {LLAMA(",\"rope_theta\":-1"), GM_EFORMAT, "theta", ""},
        {LLAMA(",\"architectures\":[\"LlamaForSequenceClassification\"]"), GM_EUNSUPPORTED, "LlamaForSequenceClassification", ""},
        {MISTRAL(",\"attention_bias\":true"), GM_EUNSUPPORTED, "attention_bias", ""},
        {MISTRAL(",\"sliding_window\":-4"), GM_EFORMAT, "window", ""},
        {MISTRAL(",\"sliding_window\":\"all\""), GM_EFORMAT, "sliding_window", ""},
        {MISTRAL(",\"layer_types\":[\"full_attention\",\"sliding_attention\"]"), GM_EUNSUPPORTED, "layer_types", ""},
        {QWEN2(",\"use_sliding_window\":true,\"sliding_window\":4"), GM_EUNSUPPORTED, "use_sliding_window", ""},
        {QWEN2(",\"layer_types\":[\"full_attention\",\"sliding_attention\"]"), GM_EUNSUPPORTED, "layer_types", "sliding"},
        {QWEN2(",\"attention_bias\":true"), GM_EUNSUPPORTED, "attention_bias", ""},
        {QWEN3(",\"attention_bias\":true"), GM_EUNSUPPORTED, "attention_bias", ""},
        {QWEN3(",\"mlp_bias\":true"), GM_EUNSUPPORTED, "mlp_bias", ""},
        {"{\"model_type\":\"qwen3\"," COMMON "}", GM_EFORMAT, "head_dim", "missing"},
        {"{\"model_type\":\"gpt_neox\"," COMMON "}", GM_EUNSUPPORTED, "gpt_neox", "side by side"},
        {"{\"model_type\":\"gemma2\"," COMMON "}", GM_EUNSUPPORTED, "gemma2", "cap"},
        {"{\"model_type\":\"mixtral\"," COMMON "}", GM_EUNSUPPORTED, "mixtral", "experts"},
        {"{\"model_type\":\"bert\"," COMMON "}", GM_EUNSUPPORTED, "bert", "encoder"},
        {"{\"model_type\":\"made_up\"," COMMON "}", GM_EUNSUPPORTED, "made_up", "gpt2, opt, llama, mistral, qwen2, qwen3"},
        {"{\"model_type\":3," COMMON "}", GM_EFORMAT, "model_type", ""},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model_config cfg;
        gm_error err = {0};
        gm_status status = gm_config_parse(&cfg, cases[i].json, strlen(cases[i].json), "x/config.json", &err);
        if (status != cases[i].code || !strstr(err.msg, cases[i].first) || !strstr(err.msg, cases[i].second) ||
            !strstr(err.msg, "x/config"))
            fail_msg("%s: expected %d '%s' '%s', got %d '%s'", cases[i].json, cases[i].code, cases[i].first, cases[i].second, status,
                     err.msg);
    }
}

static gm_model_config parsed(const char *json) {
    gm_model_config cfg;
    CHECK_OK(gm_config_parse(&cfg, json, strlen(json), "config.json", err));
    return cfg;
}

/* What stock files say, and what they mean where they say nothing. */
static void accepted(void **state) {
    (void)state;
    gm_model_config c = parsed(LLAMA(",\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\"," ROPE3 "}"));
    assert_true(c.rope_scaling == GM_ROPE_LLAMA3 && c.rope_factor == 8 && c.rope_low_freq == 1 && c.rope_high_freq == 4);
    assert_true(c.rope_original_context == 8192 && c.rope_theta == 500000 && !c.bias && !c.qkv_bias && !c.qk_norm && !c.tied);
    c = parsed(LLAMA(",\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":500000.0," ROPE3 "}"));
    assert_true(c.rope_scaling == GM_ROPE_LLAMA3 && c.rope_theta == 500000);
    c = parsed(LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}"));
    assert_true(c.rope_scaling == GM_ROPE_LINEAR && c.rope_factor == 4 && c.rope_low_freq == 0 && c.rope_original_context == 0);
    c = parsed(LLAMA(",\"partial_rotary_factor\":1.0"));
    assert_true(c.rope && c.rope_scaling == GM_ROPE_PLAIN);
    c = parsed(LLAMA(",\"attention_bias\":true,\"mlp_bias\":true"));
    assert_true(c.bias && !c.qkv_bias);
    c = parsed(MISTRAL(""));
    assert_int_equal(c.window, 4096); /* the class's default */
    c = parsed(MISTRAL(",\"sliding_window\":null,\"head_dim\":null"));
    assert_true(c.window == 0 && c.head_dim == 4);
    c = parsed(MISTRAL(",\"sliding_window\":5,\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]"));
    assert_int_equal(c.window, 5);
    c = parsed(QWEN2(",\"use_sliding_window\":false,\"sliding_window\":4096,\"max_window_layers\":28"));
    assert_true(c.qkv_bias && !c.bias && c.window == 0);
    c = parsed(QWEN3(",\"sliding_window\":null,\"max_window_layers\":28,\"layer_types\":[\"full_attention\",\"full_attention\"]"));
    assert_true(c.qk_norm && !c.qkv_bias && c.head_dim == 4 && c.window == 0);
    /* what published files hold besides: SmolLM2's, SmolLM2-Instruct's, llama 1's; distilgpt2's and those with generation's settings */
    c = parsed(LLAMA(",\"is_llama_config\":true,\"rope_interleaved\":false,\"pretraining_tp\":1,\"max_sequence_length\":2048,"
                     "\"transformers.js_config\":{\"kv_cache_dtype\":{\"fp16\":\"float16\"}}"));
    assert_int_equal(c.width, 8);
    c = parsed("{\"model_type\":\"gpt2\",\"_num_labels\":1,\"vocab_size\":9,\"n_positions\":8,\"n_ctx\":8,\"n_embd\":8,\"n_layer\":1,"
               "\"n_head\":2,\"n_inner\":null,\"output_past\":true,\"torchscript\":true,\"do_sample\":true,\"max_length\":50,"
               "\"task_specific_params\":{\"text-generation\":{\"do_sample\":true,\"max_length\":50}}}");
    assert_true(c.bias && c.tied && c.ffn == 32);
}

/* Llama 3.1's own numbers (heads of 128, base 500000): pair 0 turns once in 2 pi tokens and stays; the last is stretched by 8; pair 32,
 * whose wavelength 2 pi 500000^(1/2) = 4442.9 fits 8192 / 4442.9 = 1.8438 times, keeps the share (1.8438 - 1) / 3. */
static void llama3_frequencies(void **state) {
    (void)state;
    gm_model_config c = parsed(LLAMA(",\"head_dim\":128,\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\"," ROPE3 "}"));
    double f[64], plain = pow(500000, -0.5), share = (8192 * plain / (2 * acos(-1)) - 1) / 3;
    gm_rope_frequencies(&c, f);
    assert_true(f[0] == 1);
    assert_true(fabs(f[63] - pow(500000, -126.0 / 128) / 8) <= 1e-18);
    assert_true(fabs(share - 0.28126) <= 1e-4);
    assert_true(fabs(f[32] - plain * (share + (1 - share) / 8)) <= 1e-15);
}

/* ---- files that do not fit their configuration */

static void tensors_refused(void **state) {
    (void)state;
    gm_model *m = family_model(0, "softmax"), *back;
    gm_error wrong;
    gm_safetensors s;
    CHECK_OK(gm_model_save(m, folder, err));
    CHECK_OK(gm_safetensors_open(&s, weights_path, err));
    static const struct {
        const char *tensor, *type;
        int rank; /* of the file's tensor */
        gm_status code;
        const char *words;
    } cases[] = {{"transformer.h.1.ln_1.weight", "F32", 2, GM_EFORMAT, "is [8, 1] where config.json says [8]"},
                 {"transformer.wte.weight", "F32", 1, GM_EFORMAT, "is [88] where config.json says [11, 8]"},
                 {"transformer.h.0.ln_1.bias", "I32", 1, GM_EUNSUPPORTED, "has type I32"},
                 {"transformer.ln_f.bias", "U32", 1, GM_EUNSUPPORTED, "has type U32"}};
    for (int c = 0; c < GM_COUNT(cases); c++) {
        /* the header again, one tensor changed; all types here have 4 bytes */
        gm_text header = {0};
        gm_text_add(&header, "{");
        for (int i = 0; i < s.count; i++) {
            const gm_tensor *t = &s.tensors[i];
            bool changed = strcmp(t->name, cases[c].tensor) == 0;
            int rank = changed ? cases[c].rank : t->rank;
            int64_t shape[2] = {t->rank == 1 || rank == 2 ? t->shape[0] : t->elements, t->rank == 2 ? t->shape[1] : 1};
            gm_text_add(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", i ? "," : "", t->name, changed ? cases[c].type : "F32",
                        (long long)shape[0]);
            if (rank == 2)
                gm_text_add(&header, ",%lld", (long long)shape[1]);
            gm_text_add(&header, "],\"data_offsets\":[%zu,%zu]}", t->begin, t->begin + t->bytes);
        }
        gm_text_add(&header, "}");
        gm_text file = {0};
        uint64_t length = header.size;
        gm_text_bytes(&file, &length, 8);
        gm_text_bytes(&file, header.data, header.size);
        gm_text_bytes(&file, s.file.data + s.data_at, s.file.size - s.data_at);
        CHECK_OK(gm_file_write("test_checkpoints.tmp/other.safetensors", file.data, file.size, err));
        gm_status status = gm_model_load(&back, ctx, "test_checkpoints.tmp/other.safetensors", &wrong);
        if (status != cases[c].code || !strstr(wrong.msg, cases[c].words) || !strstr(wrong.msg, cases[c].tensor) || wrong.offset <= 0)
            fail_msg("%s: %d '%s' (offset %lld)", cases[c].tensor, status, wrong.msg, (long long)wrong.offset);
        gm_text_free(&header);
        gm_text_free(&file);
    }
    unlink("test_checkpoints.tmp/other.safetensors");
    gm_safetensors_close(&s);
    /* pickled weights are named, with what to do */
    unlink(weights_path);
    CHECK_OK(gm_file_write("test_checkpoints.tmp/pytorch_model.bin", "x", 1, err));
    assert_int_equal(gm_model_load(&back, ctx, folder, &wrong), GM_EUNSUPPORTED);
    assert_non_null(strstr(wrong.msg, "pt2safetensors"));
    unlink("test_checkpoints.tmp/pytorch_model.bin");
    gm_model_free(m);
    folder_remove();
}

/* ---- weights that are no numbers */

static void nonfinite_weights(void **state) {
    (void)state;
    gm_model *m = family_model(2, "softmax"), *back;
    gm_nonfinite list[2];
    int count;
    CHECK_OK(gm_model_nonfinite(m, list, 2, &count, err));
    assert_int_equal(count, 0);
    float *qkv = gm_model_weight(m, GM_P_WQKV, 1);
    qkv[0] = NAN;
    qkv[5] = -NAN;
    qkv[7] = INFINITY;
    qkv[4 * 6 * 8] = -INFINITY; /* k's first row */
    *gm_model_weight(m, GM_P_NORMF_G, -1) = NAN;
    CHECK_OK(gm_model_save(m, folder, err));
    CHECK_OK(gm_model_load(&back, ctx, folder, err)); /* loads: it may be what one wants to look at */
    CHECK_OK(gm_model_nonfinite(back, list, 2, &count, err));
    assert_int_equal(count, 3);
    assert_string_equal(list[0].tensor, "model.layers.1.self_attn.q_proj.weight");
    assert_true(list[0].nan == 2 && list[0].infinite == 1 && list[0].elements == 4 * 6 * 8);
    assert_string_equal(list[1].tensor, "model.layers.1.self_attn.k_proj.weight");
    assert_true(list[1].nan == 0 && list[1].infinite == 1);
    gm_model_free(back);
    gm_model_free(m);
    folder_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family_and_type),
                                       cmocka_unit_test(what_cannot_be_saved),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(accepted),
                                       cmocka_unit_test(llama3_frequencies),
                                       cmocka_unit_test(tensors_refused),
                                       cmocka_unit_test(nonfinite_weights)};
    return cmocka_run_group_tests_name("checkpoints", tests, open_context, close_all);
}
