/* test_model_files.c -- a saved model loads as the same model, bit for bit, for every family and variant; files that do not belong
 * together, or ask for mathematics that we have not, are refused with the reason. */
#include "fixture.h"

#include "config_file.h"
#include "model.h"
#include "safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char folder[] = "test_model_files.tmp", config_path[] = "test_model_files.tmp/config.json",
                  weights_path[] = "test_model_files.tmp/model.safetensors";

static gm_model *model_make(const char *preset, const char *overrides, const char *variant) {
    gm_model_config cfg;
    gm_model *m = NULL;
    gm_error err = {0};
    gm_status status = gm_model_config_preset(&cfg, preset, &err);
    if (status == GM_OK)
        status = gm_model_config_override(&cfg, overrides, &err);
    if (status == GM_OK)
        status = gm_variant_parse(&cfg.attention, variant, &err);
    if (cfg.vocab == 0)
        cfg.vocab = 19;
    if (status == GM_OK)
        status = gm_model_create(&m, ctx, &cfg, 1, &err);
    if (status != GM_OK)
        fail_msg("%s %s %s: %s", preset, overrides, variant, err.msg);
    /* Every number its own, so that nothing can be taken for something else. */
    for (int64_t i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        for (int64_t j = 0; j < p->rows * p->cols; j++)
            m->weights[p->offset + j] = (float)(p->offset + j) * 0.25f;
    }
    return m;
}

static void model_save(const gm_model *m) {
    gm_error err;
    if (gm_model_save(m, folder, &err) != GM_OK)
        fail_msg("%s", err.msg);
}

static void model_saved(const char *preset, const char *overrides, const char *variant) {
    gm_model *m = model_make(preset, overrides, variant);
    model_save(m);
    gm_model_free(m);
}

static void remove_folder(void) {
    unlink(config_path);
    unlink(weights_path);
    rmdir(folder);
}

static char *text_of(const char *path) {
    gm_file file;
    gm_error err;
    if (gm_file_open(&file, path, &err) != GM_OK)
        fail_msg("%s", err.msg);
    char *text = calloc(file.size + 1, 1);
    memcpy(text, file.data, file.size);
    gm_file_close(&file);
    return text;
}

static void round_trip(const char *preset, const char *overrides, const char *variant, const char *model_type) {
    gm_model *m = model_make(preset, overrides, variant), *back = NULL;
    m->cfg.bos = GM_BOS_NEVER;
    strcpy(m->cfg.surgery, "softmax -> it");
    model_save(m);
    gm_error err;
    if (gm_model_load(&back, ctx, folder, &err) != GM_OK)
        fail_msg("%s %s %s: %s", preset, overrides, variant, err.msg);
    const gm_model_config *a = &m->cfg, *b = &back->cfg;
    char spec_a[256], spec_b[256];
    gm_variant_format(spec_a, sizeof spec_a, &a->attention);
    gm_variant_format(spec_b, sizeof spec_b, &b->attention);
    assert_string_equal(spec_a, spec_b);
    assert_string_equal(a->preset, b->preset);
    assert_string_equal(a->surgery, b->surgery);
    assert_int_equal(a->bos, b->bos);
    assert_true(a->family == b->family && a->vocab == b->vocab && a->context == b->context && a->layers == b->layers &&
                a->heads == b->heads && a->kv_heads == b->kv_heads && a->width == b->width && a->head_dim == b->head_dim &&
                a->ffn == b->ffn && a->act == b->act && a->rms_norm == b->rms_norm && a->rope == b->rope && a->bias == b->bias &&
                a->tied == b->tied && a->norm_eps == b->norm_eps && a->window == b->window && a->dropout == b->dropout &&
                a->init == b->init && a->init_std == b->init_std && a->position_offset == b->position_offset &&
                a->rope_theta == b->rope_theta);
    assert_true(m->norm.sink == back->norm.sink && m->norm.clip_a == back->norm.clip_a && m->norm.clip_c == back->norm.clip_c);
    assert_int_equal(m->param_elements, back->param_elements);
    assert_memory_equal(m->weights, back->weights, (size_t)m->param_elements * sizeof(float));

    char *first = text_of(config_path);
    json_t *config = json_loads(first, 0, NULL);
    const char *written = json_string_value(json_object_get(config, "model_type"));
    if (strcmp(written, model_type) != 0)
        fail_msg("%s %s %s: model_type is %s, not %s", preset, overrides, variant, written, model_type);
    bool stock = strncmp(model_type, "ghostmax", 8) != 0;
    assert_int_equal(stock, json_object_get(config, "attention") == NULL);
    const char *architecture = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    assert_int_equal(stock, strcmp(architecture, "GhostmaxForCausalLM") != 0);
    json_decref(config);
    model_save(back);
    char *second = text_of(config_path);
    assert_string_equal(first, second);
    free(first);
    free(second);
    gm_model_free(m);
    gm_model_free(back);
    remove_folder();
}

static void test_variants(void **state) {
    (void)state;
    static const char *const variants[] = {"softmax1",
                                           "softmax_n:n=0.3",
                                           "softmax_n:n=0",
                                           "sink",
                                           "clipped:alpha=4",
                                           "clipped:gamma=-0.03,zeta=1.1",
                                           "gated",
                                           "gated:kind=mlp,hidden=3,pi=0.25",
                                           "gated:kind=all_heads",
                                           "gated:kind=channel",
                                           "softmax1+gated",
                                           "sink+clipped:alpha=2+gated:kind=mlp"};
    static const char *const families[][3] = {{"gpt2-nano", "layers=2", "gpt2"},
                                              {"opt-mini", "layers=2,width=48,heads=2,context=20,vocab=31", "opt"},
                                              {"llama-260k", "layers=2,vocab=31", "llama"}};
    for (int f = 0; f < GM_COUNT(families); f++) {
        char own[32];
        snprintf(own, sizeof own, "ghostmax_%s", families[f][2]);
        round_trip(families[f][0], families[f][1], "softmax", families[f][2]);
        for (int v = 0; v < GM_COUNT(variants); v++)
            round_trip(families[f][0], families[f][1], variants[v], own);
    }
}

/* What the stock architecture can say stays stock; anything past it does not pretend to be. */
static void test_shapes(void **state) {
    (void)state;
    static const struct {
        const char *preset, *overrides, *model_type;
    } cases[] = {
        {"gpt2-nano", "tied=no,act=gelu-erf,ffn=50,dropout=0.1,norm-eps=0.001,init=torch", "gpt2"},
        {"gpt2-nano", "act=relu", "gpt2"},
        {"gpt2-nano", "act=swiglu", "ghostmax_gpt2"},
        {"gpt2-nano", "bias=no", "ghostmax_gpt2"},
        {"gpt2-nano", "rope=yes,rope-theta=500", "ghostmax_gpt2"},
        {"gpt2-nano", "rms-norm=yes", "ghostmax_gpt2"},
        {"gpt2-nano", "kv-heads=1", "ghostmax_gpt2"},
        {"gpt2-nano", "head-dim=10", "ghostmax_gpt2"},
        {"gpt2-nano", "window=16", "ghostmax_gpt2"},
        {"opt-mini", "layers=1,width=32,heads=2,context=16", "opt"},
        {"opt-mini", "layers=1,width=32,heads=2,context=16,bias=no,tied=no,act=gelu-tanh", "opt"},
        {"opt-mini", "layers=1,width=32,heads=2,context=16,norm-eps=0.001", "ghostmax_opt"},
        {"opt-mini", "layers=1,width=32,heads=2,context=16,act=swiglu", "ghostmax_opt"},
        {"bb-1l", "width=16", "opt"},
        {"llama-260k", "layers=1,bias=yes,tied=no,head-dim=6,rope-theta=1000000,norm-eps=1e-6", "llama"},
        {"llama-260k", "layers=1,act=relu", "ghostmax_llama"},
        {"llama-260k", "layers=1,act=gelu-tanh,bias=yes", "ghostmax_llama"},
        {"llama-260k", "layers=1,rms-norm=no,rope=no", "ghostmax_llama"},
        {"llama-260k", "layers=1,window=7", "ghostmax_llama"},
    };
    for (int i = 0; i < GM_COUNT(cases); i++)
        round_trip(cases[i].preset, cases[i].overrides, "softmax", cases[i].model_type);
}

/* The layouts, seen from the file: GPT-2's Conv1D is [in, out] with q, k, v side by side; llama's gate rows come before its up rows. */
static void test_layout(void **state) {
    (void)state;
    gm_safetensors s;
    gm_error err;
    gm_model *m = model_make("gpt2-nano", "layers=2", "sink");
    model_save(m);
    assert_int_equal(gm_safetensors_open(&s, weights_path, &err), GM_OK);
    const gm_tensor *t = gm_safetensors_find(&s, "transformer.h.1.attn.c_attn.weight");
    assert_non_null(t);
    assert_true(t->rank == 2 && t->shape[0] == 48 && t->shape[1] == 144);
    float *x = malloc(48 * 144 * sizeof *x);
    assert_int_equal(gm_tensor_read(&s, t, x, 144, 1, &err), GM_OK);
    const float *ours = gm_model_weight(m, GM_P_WQKV, 1);
    for (int in = 0; in < 48; in++) {
        for (int out = 0; out < 144; out++)
            assert_true(x[in * 144 + out] == ours[out * 48 + in]);
    }
    free(x);
    t = gm_safetensors_find(&s, "transformer.h.0.attn.sinks");
    assert_true(t && t->rank == 1 && t->shape[0] == 3);
    t = gm_safetensors_find(&s, "transformer.wpe.weight");
    assert_true(t && t->shape[0] == 64 && t->shape[1] == 48);
    assert_null(gm_safetensors_find(&s, "lm_head.weight"));
    assert_string_equal(gm_safetensors_metadata(&s, "format"), "pt");
    gm_safetensors_close(&s);
    gm_model_free(m);

    m = model_make("llama-260k", "layers=1,tied=no", "softmax");
    model_save(m);
    assert_int_equal(gm_safetensors_open(&s, weights_path, &err), GM_OK);
    static const struct {
        const char *name;
        int slot;
        int64_t row, rows, cols;
    } rows[] = {{"model.layers.0.self_attn.q_proj.weight", GM_P_WQKV, 0, 64, 64},
                {"model.layers.0.self_attn.k_proj.weight", GM_P_WQKV, 64, 32, 64},
                {"model.layers.0.self_attn.v_proj.weight", GM_P_WQKV, 96, 32, 64},
                {"model.layers.0.mlp.gate_proj.weight", GM_P_W1, 0, 172, 64},
                {"model.layers.0.mlp.up_proj.weight", GM_P_W1, 172, 172, 64},
                {"model.layers.0.mlp.down_proj.weight", GM_P_W2, 0, 64, 172}};
    for (int i = 0; i < GM_COUNT(rows); i++) {
        t = gm_safetensors_find(&s, rows[i].name);
        if (!t || t->rank != 2 || t->shape[0] != rows[i].rows || t->shape[1] != rows[i].cols)
            fail_msg("%s", rows[i].name);
        assert_memory_equal(t->data, gm_model_weight(m, rows[i].slot, 0) + rows[i].row * rows[i].cols, t->bytes);
    }
    t = gm_safetensors_find(&s, "lm_head.weight");
    assert_memory_equal(t->data, m->head, t->bytes);
    assert_int_equal(s.count, 1 + 1 * 9 + 2);
    gm_safetensors_close(&s);
    gm_model_free(m);

    m = model_make("opt-mini", "layers=1,width=32,heads=2,context=16", "softmax");
    model_save(m);
    assert_int_equal(gm_safetensors_open(&s, weights_path, &err), GM_OK);
    t = gm_safetensors_find(&s, "model.decoder.embed_positions.weight");
    assert_true(t && t->shape[0] == 16 + 2 && t->shape[1] == 32);
    t = gm_safetensors_find(&s, "model.decoder.layers.0.final_layer_norm.weight"); /* a block's second norm has the name of the last one */
    assert_memory_equal(t->data, gm_model_weight(m, GM_P_NORM2_G, 0), t->bytes);
    t = gm_safetensors_find(&s, "model.decoder.final_layer_norm.weight");
    assert_memory_equal(t->data, gm_model_weight(m, GM_P_NORMF_G, -1), t->bytes);
    gm_safetensors_close(&s);
    gm_model_free(m);
    remove_folder();
}

static void refused(gm_status code, const char *file, const char *reason) {
    gm_model *m;
    gm_error err = {0};
    gm_status status = gm_model_load(&m, ctx, folder, &err);
    if (status != code || !strstr(err.msg, reason) || !strstr(err.msg, file))
        fail_msg("expected %d '%s' '%s', got %d '%s'", code, file, reason, status, err.msg);
    assert_null(m);
}

/* The saved config with one text in it replaced by another. */
static void config_altered(const char *from, const char *to, gm_status code, const char *reason) {
    char *text = text_of(config_path), *at = strstr(text, from);
    gm_error err;
    if (!at)
        fail_msg("no '%s' in %s", from, text);
    gm_text changed = {0};
    gm_text_bytes(&changed, text, (size_t)(at - text));
    gm_text_add(&changed, "%s%s", to, at + strlen(from));
    assert_int_equal(gm_file_write(config_path, changed.data, changed.size, &err), GM_OK);
    gm_text_free(&changed);
    refused(code, "config.json", reason);
    assert_int_equal(gm_file_write(config_path, text, strlen(text), &err), GM_OK);
    free(text);
}

static void test_config_refusals(void **state) {
    (void)state;
    model_saved("gpt2-nano", "layers=1", "softmax");
    config_altered("\"gpt2\"", "\"bert\"", GM_EUNSUPPORTED, "'bert'");
    config_altered("GPT2LMHeadModel", "GPT2ForSequenceClassification", GM_EUNSUPPORTED, "GPT2ForSequenceClassification");
    config_altered("\"model_type\"", "\"model\"", GM_EFORMAT, "model_type");
    config_altered("\"n_embd\": 48", "\"n_embd\": 4.8", GM_EFORMAT, "n_embd");
    config_altered("\"n_embd\": 48", "\"n_embd\": -48", GM_EFORMAT, "width");
    config_altered("\"n_embd\": 48", "\"n_embd\": 50", GM_EFORMAT, "does not divide");
    config_altered("\"n_embd\": 48", "\"n_embd\": 300000000000", GM_EFORMAT, "width");
    config_altered("\"n_embd\": 48", "\"n_embd\": 48, \"n_embd\": 48", GM_EFORMAT, "duplicate");
    config_altered("\"n_layer\": 1,", "", GM_EFORMAT, "\"n_layer\" is missing");
    config_altered("\"n_ctx\": 64", "\"n_ctx\": 32", GM_EFORMAT, "n_ctx");
    config_altered("gelu_new", "mish", GM_EFORMAT, "mish");
    config_altered("\"scale_attn_weights\": true", "\"scale_attn_weights\": false", GM_EUNSUPPORTED, "scale_attn_weights");
    config_altered("\"n_layer\"", "\"quantization_config\": {\"bits\": 4}, \"n_layer\"", GM_EUNSUPPORTED, "quantization_config");
    config_altered("\"ghostmax\": {", "\"ghostmax\": {\"colour\": 1,", GM_EFORMAT, "colour");
    config_altered("\"ghostmax\": {", "\"ghostmax\": {\"window\": 4,", GM_EFORMAT, "model_type");
    config_altered("\"gpt2\"", "\"ghostmax_gpt2\"", GM_EFORMAT, "model_type");
    config_altered("{", "{{", GM_EFORMAT, "not JSON");
    config_altered("}", "", GM_EFORMAT, "not JSON");

    model_saved("opt-mini", "layers=1,width=32,heads=2,context=16", "softmax");
    config_altered("\"word_embed_proj_dim\": 32", "\"word_embed_proj_dim\": 16", GM_EFORMAT, "word_embed_proj_dim");
    config_altered("\"do_layer_norm_before\": true", "\"do_layer_norm_before\": false", GM_EUNSUPPORTED, "do_layer_norm_before");

    model_saved("llama-260k", "layers=1", "softmax");
    config_altered("\"silu\"", "\"gelu\"", GM_EUNSUPPORTED, "hidden_act");
    config_altered("\"rope_theta\"", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2.0}, \"rope_theta\"", GM_EUNSUPPORTED,
                   "rope_scaling");
    config_altered("\"rope_theta\"", "\"sliding_window\": 128, \"rope_theta\"", GM_EUNSUPPORTED, "sliding_window");
    config_altered("\"num_key_value_heads\": 4", "\"num_key_value_heads\": 3", GM_EFORMAT, "does not divide");

    model_saved("gpt2-nano", "layers=1", "clipped:gamma=-0.03");
    config_altered("clipped:gamma=-0.03", "clipped:gamma=-0.04", GM_EFORMAT, "disagree");
    config_altered("clipped:gamma=-0.03", "clipped:gamma=0.03", GM_EFORMAT, "gamma");
    config_altered("clipped:gamma=-0.03", "clippy", GM_EFORMAT, "clippy");
    remove_folder();
}

/* Stock files say some things in more than one way. */
static void test_config_accepted(void **state) {
    (void)state;
    static const struct {
        const char *json;
        double rope_theta;
        int64_t ffn, kv_heads;
    } cases[] = {
        {"{\"model_type\":\"gpt2\",\"architectures\":[\"GPT2LMHeadModel\"],\"vocab_size\":9,\"n_positions\":8,\"n_ctx\":8,\"n_embd\":4,"
         "\"n_layer\":1,\"n_head\":2,\"n_inner\":null,\"activation_function\":\"gelu_new\",\"attn_pdrop\":0.1,\"summary_type\":\"cls_"
         "index\","
         "\"task_specific_params\":{\"text-generation\":{\"do_sample\":true}},\"use_cache\":true,\"add_cross_attention\":false}",
         0, 16, 2},
        {"{\"model_type\":\"llama\",\"vocab_size\":9,\"max_position_embeddings\":8,\"hidden_size\":8,\"num_hidden_layers\":1,"
         "\"num_attention_heads\":2,\"intermediate_size\":5,\"hidden_act\":\"silu\",\"rope_scaling\":null,\"sliding_window\":null,"
         "\"attention_bias\":false,\"pretraining_tp\":1}",
         10000, 5, 2},
        {"{\"model_type\":\"llama\",\"vocab_size\":9,\"max_position_embeddings\":8,\"hidden_size\":8,\"num_hidden_layers\":1,"
         "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":5,"
         "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500000.0}}",
         500000, 5, 1},
    };
    gm_error err;
    assert_int_equal(gm_dir_make(folder, &err), GM_OK);
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model_config cfg;
        assert_int_equal(gm_file_write(config_path, cases[i].json, strlen(cases[i].json), &err), GM_OK);
        if (gm_config_file_read(&cfg, config_path, &err) != GM_OK)
            fail_msg("%s", err.msg);
        assert_true(cfg.vocab == 9 && cfg.context == 8 && cfg.ffn == cases[i].ffn && cfg.kv_heads == cases[i].kv_heads);
        assert_true(cfg.rope_theta == cases[i].rope_theta && cfg.attention.sink == GM_SINK_NONE && cfg.dropout == 0);
        assert_true(cfg.norm_eps == (cfg.family == GM_FAMILY_LLAMA ? 1e-6 : 1e-5)); /* the stock classes' defaults */
    }
    remove_folder();
}

/* Saves `from`, then swaps in the weights of `weights`. */
static void mismatched(const char *from[3], const char *weights[3], const char *reason) {
    model_saved(from[0], from[1], from[2]);
    char *config = text_of(config_path);
    model_saved(weights[0], weights[1], weights[2]);
    gm_error err;
    assert_int_equal(gm_file_write(config_path, config, strlen(config), &err), GM_OK);
    free(config);
    refused(GM_EFORMAT, "model.safetensors", reason);
    remove_folder();
}

static void test_weights_refusals(void **state) {
    (void)state;
#define MODEL(...) (const char *[3]){__VA_ARGS__}
    mismatched(MODEL("gpt2-nano", "layers=1", "softmax"), MODEL("gpt2-nano", "layers=1", "sink"), "attn.sinks' has no place");
    mismatched(MODEL("gpt2-nano", "layers=1", "sink"), MODEL("gpt2-nano", "layers=1", "softmax"), "attn.sinks' [3] is missing");
    mismatched(MODEL("gpt2-nano", "layers=2", "softmax"), MODEL("gpt2-nano", "layers=1", "softmax"), "missing");
    mismatched(MODEL("gpt2-nano", "ffn=100", "softmax"), MODEL("gpt2-nano", "ffn=101", "softmax"),
               "[48, 101] where config.json says [48, 100]");
    mismatched(MODEL("gpt2-nano", "tied=no", "softmax"), MODEL("gpt2-nano", "", "softmax"), "'lm_head.weight' [19, 48] is missing");
    mismatched(MODEL("gpt2-nano", "", "softmax"), MODEL("gpt2-nano", "tied=no", "softmax"), "tie_word_embeddings");
    mismatched(MODEL("llama-260k", "", "softmax"), MODEL("gpt2-nano", "", "softmax"), "missing");
    /* the same tensors, other mathematics: only the fingerprint can tell */
    mismatched(MODEL("gpt2-nano", "", "softmax1"), MODEL("gpt2-nano", "", "softmax"), "another config.json");
    mismatched(MODEL("gpt2-nano", "", "softmax"), MODEL("gpt2-nano", "norm-eps=0.01", "softmax"), "another config.json");
#undef MODEL
    gm_model *m;
    gm_error err;
    assert_int_equal(gm_model_load(&m, ctx, "no/such/model", &err), GM_EIO);
    assert_int_equal(gm_model_load(&m, ctx, GM_TEST_SOURCE_DIR "/lib", &err), GM_EIO);
    assert_non_null(strstr(err.msg, "config.json"));
    assert_int_equal(gm_model_load(&m, ctx, GM_TEST_SOURCE_DIR "/LICENSE", &err), GM_EUNSUPPORTED);
    model_saved("gpt2-nano", "", "softmax");
    assert_int_equal(gm_model_load(&m, ctx, weights_path, &err), GM_OK); /* the file itself names the model too */
    gm_model_free(m);
    assert_int_equal(truncate(weights_path, 5000), 0);
    refused(GM_EFORMAT, "model.safetensors", "truncated");
    unlink(weights_path);
    refused(GM_EIO, "model.safetensors", "No such file");
    remove_folder();
    assert_int_equal(gm_model_load(&m, ctx, "LICENSE/x", &err), GM_EIO);
    m = model_make("gpt2-nano", "", "softmax");
    assert_int_equal(gm_model_save(m, GM_TEST_SOURCE_DIR "/LICENSE", &err), GM_EIO); /* a file where the folder should be */
    gm_model_free(m);
}

/* Files of the headless model, and constants that older files hold. */
static void test_stock_quirks(void **state) {
    (void)state;
    gm_model *m = model_make("gpt2-nano", "layers=1", "softmax"), *back;
    model_save(m);
    gm_safetensors s;
    gm_error err;
    assert_int_equal(gm_safetensors_open(&s, weights_path, &err), GM_OK);
    gm_tensor_source *sources = calloc((size_t)s.count + 2, sizeof *sources);
    float **copies = calloc((size_t)s.count, sizeof *copies);
    for (int i = 0; i < s.count; i++) {
        const gm_tensor *t = &s.tensors[i];
        copies[i] = malloc(t->bytes);
        memcpy(copies[i], t->data, t->bytes);
        int64_t cols = t->rank == 2 ? t->shape[1] : 0;
        sources[i] = (gm_tensor_source){.name = t->name + strlen("transformer."),
                                        .data = copies[i],
                                        .rows = t->shape[0],
                                        .cols = cols,
                                        .row_stride = cols ? cols : 1,
                                        .col_stride = 1};
    }
    static const float mask[4] = {1, 0, 1, 1};
    sources[s.count] = (gm_tensor_source){.name = "h.0.attn.bias", .data = mask, .rows = 2, .cols = 2, .row_stride = 2, .col_stride = 1};
    sources[s.count + 1] = (gm_tensor_source){
        .name = "lm_head.weight", .data = copies[0], .rows = 19, .cols = 48, .row_stride = 48, .col_stride = 1}; /* a tied head, repeated */
    assert_int_equal(gm_safetensors_write("test_model_files.tmp/other.safetensors", sources, s.count + 2, NULL, &err), GM_OK);
    if (gm_model_load(&back, ctx, "test_model_files.tmp/other.safetensors", &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_memory_equal(m->weights, back->weights, (size_t)m->param_elements * sizeof(float));
    gm_model_free(back);
    unlink("test_model_files.tmp/other.safetensors");
    for (int i = 0; i < s.count; i++)
        free(copies[i]);
    free(copies);
    free(sources);
    gm_safetensors_close(&s);
    gm_model_free(m);
    remove_folder();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),        cmocka_unit_test(test_shapes),          cmocka_unit_test(test_layout),
        cmocka_unit_test(test_config_refusals), cmocka_unit_test(test_config_accepted), cmocka_unit_test(test_weights_refusals),
        cmocka_unit_test(test_stock_quirks),
    };
    return cmocka_run_group_tests(tests, open_context, close_all);
}
