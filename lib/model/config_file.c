/* config_file.c -- config.json, read and written from the same tables: the fields of gm_model_config, and for each family the stock
 * keys that say some of them. A model is stock when the stock keys alone give it back; that one rule decides model_type. */
#include "config_file.h"

#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- the fields of gm_model_config (family and attention have places of their own) */

typedef enum field_type { FIELD_WHOLE, FIELD_REAL, FIELD_BOOL, FIELD_ACT, FIELD_INIT, FIELD_BOS, FIELD_ROPE, FIELD_TEXT } field_type;
typedef enum field_use { FIELD_MATH, FIELD_EXTRA, FIELD_TRAINING } field_use;

typedef struct field {
    const char *name;
    field_type type;
    size_t offset, size;
    field_use use;
} field;

static const field fields[] = {
#define GM_CONFIG(name, type, use) {#name, FIELD_##type, offsetof(gm_model_config, name), sizeof((gm_model_config *)0)->name, FIELD_##use},
#include "config.def"
#undef GM_CONFIG
};

static const struct word {
    const char *word;
    int value;
} acts[] = {{"gelu_new", GM_ACT_GELU_TANH}, {"gelu_pytorch_tanh", GM_ACT_GELU_TANH},
            {"gelu", GM_ACT_GELU_ERF},      {"relu", GM_ACT_RELU},
            {"swiglu", GM_ACT_SWIGLU},      {NULL, 0}},
  bos_uses[] = {{"unknown", GM_BOS_UNKNOWN}, {"never", GM_BOS_NEVER}, {"always", GM_BOS_ALWAYS}, {NULL, 0}},
  inits[] = {{"gpt2", GM_INIT_GPT2}, {"opt", GM_INIT_OPT}, {"torch", GM_INIT_TORCH}, {NULL, 0}},
  ropes[] = {{"default", GM_ROPE_PLAIN}, {"linear", GM_ROPE_LINEAR}, {"llama3", GM_ROPE_LLAMA3}, {NULL, 0}},
  sinks[] = {{"none", GM_SINK_NONE}, {"constant", GM_SINK_CONSTANT}, {"learned", GM_SINK_LEARNED}, {NULL, 0}},
  gates[] = {{"none", GM_GATE_NONE},           {"linear", GM_GATE_LINEAR},   {"mlp", GM_GATE_MLP},
             {"all_heads", GM_GATE_ALL_HEADS}, {"channel", GM_GATE_CHANNEL}, {NULL, 0}};

/* The words of a field whose value is an enum. */
static const struct word *const field_words[] = {[FIELD_ACT] = acts, [FIELD_INIT] = inits, [FIELD_BOS] = bos_uses, [FIELD_ROPE] = ropes};

static const char *word_of(const struct word *words, int value) {
    while (words->value != value)
        words++;
    return words->word;
}

static const field *field_at(size_t offset) {
    const field *f = fields;
    while (f->offset != offset)
        f++;
    return f;
}

static json_t *field_value(const gm_model_config *cfg, const field *f) {
    const char *at = (const char *)cfg + f->offset;
    switch (f->type) {
    case FIELD_WHOLE:
        return json_integer(*(const int64_t *)(const void *)at);
    case FIELD_REAL:
        return json_real(*(const double *)(const void *)at);
    case FIELD_BOOL:
        return json_boolean(*(const bool *)at);
    case FIELD_ACT:
    case FIELD_INIT:
    case FIELD_BOS:
    case FIELD_ROPE:
        return json_string(word_of(field_words[f->type], *(const int *)(const void *)at));
    case FIELD_TEXT:
        break;
    }
    return json_string(at);
}

/* false: the value is of the wrong type. */
static bool field_set(gm_model_config *cfg, const field *f, json_t *value) {
    char *at = (char *)cfg + f->offset;
    const char *text = json_string_value(value);
    switch (f->type) {
    case FIELD_WHOLE:
        *(int64_t *)(void *)at = json_integer_value(value);
        return json_is_integer(value);
    case FIELD_REAL:
        *(double *)(void *)at = json_number_value(value);
        return json_is_number(value);
    case FIELD_BOOL:
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    case FIELD_ACT:
    case FIELD_INIT:
    case FIELD_BOS:
    case FIELD_ROPE:
        for (const struct word *w = field_words[f->type]; text && w->word; w++) {
            if (strcmp(text, w->word) == 0) {
                memcpy(at, &w->value, sizeof w->value);
                return true;
            }
        }
        return false;
    case FIELD_TEXT:
        break;
    }
    return text && (size_t)snprintf(at, f->size, "%s", text) < f->size;
}

_Static_assert(sizeof(gm_act) == sizeof(int) && sizeof(gm_init) == sizeof(int) && sizeof(gm_rope_scaling) == sizeof(int),
               "the values of words are ints");

/* These two take no memory, so that there is always an answer. */
static bool field_equal(const gm_model_config *a, const gm_model_config *b, const field *f) {
    const char *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
    if (f->type == FIELD_REAL)
        return *(const double *)(const void *)x == *(const double *)(const void *)y;
    return f->type == FIELD_TEXT ? strcmp(x, y) == 0 : memcmp(x, y, f->size) == 0;
}

static void field_copy(gm_model_config *to, const gm_model_config *from, const field *f) {
    memcpy((char *)to + f->offset, (const char *)from + f->offset, f->size);
}

/* ---- the families: which stock key says which field, and what the stock architecture fixes. Two keys may say the same field: both are
 * written, and must agree when read. */

#define KEYS_MAX 20

typedef struct family {
    const char *model_type, *own_type, *architecture, *base_architecture;
    gm_model_config defaults; /* what the stock architecture means where no key says otherwise */
    struct {
        const char *key;
        size_t offset;
        bool required;
    } keys[KEYS_MAX];
    struct {
        const char *key, *value; /* JSON: the only value that we compute; NULL: any, the key says nothing here */
    } fixed[KEYS_MAX];
} family;

#define KEY(key, field) \
    { key, offsetof(gm_model_config, field), false }
#define NEED(key, field) \
    { key, offsetof(gm_model_config, field), true }

/* What llama and the families after it share. */
#define LLAMA_DEFAULTS \
    .act = GM_ACT_SWIGLU, .rms_norm = true, .rope = true, .norm_eps = 1e-6, .rope_theta = 10000, .init = GM_INIT_GPT2, .init_std = 0.02
#define LLAMA_KEYS                                                                                                                        \
    NEED("vocab_size", vocab), NEED("max_position_embeddings", context), NEED("hidden_size", width), NEED("num_hidden_layers", layers),   \
        NEED("num_attention_heads", heads), NEED("intermediate_size", ffn), KEY("rms_norm_eps", norm_eps), KEY("rope_theta", rope_theta), \
        KEY("tie_word_embeddings", tied), KEY("initializer_range", init_std)

static const family families[] = {
    [GM_FAMILY_GPT2] = {"gpt2",
                        "ghostmax_gpt2",
                        "GPT2LMHeadModel",
                        "GPT2Model",
                        {.family = GM_FAMILY_GPT2,
                         .act = GM_ACT_GELU_TANH,
                         .bias = true,
                         .tied = true,
                         .norm_eps = 1e-5,
                         .init = GM_INIT_GPT2,
                         .init_std = 0.02},
                        {NEED("vocab_size", vocab), NEED("n_positions", context), KEY("n_ctx", context), NEED("n_embd", width),
                         NEED("n_layer", layers), NEED("n_head", heads), KEY("n_inner", ffn), KEY("activation_function", act),
                         KEY("layer_norm_epsilon", norm_eps), KEY("tie_word_embeddings", tied), KEY("initializer_range", init_std)},
                        {{"scale_attn_weights", "true"}, {"scale_attn_by_inverse_layer_idx", "false"}, {"add_cross_attention", "false"}}},
    [GM_FAMILY_OPT] =
        {"opt",
         "ghostmax_opt",
         "OPTForCausalLM",
         "OPTModel",
         {.family = GM_FAMILY_OPT,
          .act = GM_ACT_RELU,
          .bias = true,
          .tied = true,
          .norm_eps = 1e-5,
          .position_offset = 2,
          .init = GM_INIT_OPT,
          .init_std = 0.02},
         {NEED("vocab_size", vocab), NEED("max_position_embeddings", context), NEED("hidden_size", width),
          KEY("word_embed_proj_dim", width), NEED("num_hidden_layers", layers), NEED("num_attention_heads", heads), NEED("ffn_dim", ffn),
          KEY("activation_function", act), KEY("enable_bias", bias), KEY("tie_word_embeddings", tied), KEY("init_std", init_std)},
         {{"do_layer_norm_before", "true"}, {"_remove_final_layer_norm", "false"}, {"layer_norm_elementwise_affine", "true"}}},
    [GM_FAMILY_LLAMA] = {"llama",
                         "ghostmax_llama",
                         "LlamaForCausalLM",
                         "LlamaModel",
                         {.family = GM_FAMILY_LLAMA, LLAMA_DEFAULTS},
                         {LLAMA_KEYS, KEY("num_key_value_heads", kv_heads), KEY("head_dim", head_dim), KEY("attention_bias", bias),
                          KEY("mlp_bias", bias)},
                         {{"hidden_act", "\"silu\""}}},
    [GM_FAMILY_MISTRAL] = {"mistral",
                           "ghostmax_mistral",
                           "MistralForCausalLM",
                           "MistralModel",
                           {.family = GM_FAMILY_MISTRAL, LLAMA_DEFAULTS, .window = 4096},
                           {LLAMA_KEYS, NEED("num_key_value_heads", kv_heads), KEY("head_dim", head_dim), KEY("sliding_window", window)},
                           {{"hidden_act", "\"silu\""}}},
    [GM_FAMILY_QWEN2] =
        {"qwen2",
         "ghostmax_qwen2",
         "Qwen2ForCausalLM",
         "Qwen2Model",
         {.family = GM_FAMILY_QWEN2, LLAMA_DEFAULTS, .qkv_bias = true},
         {LLAMA_KEYS, NEED("num_key_value_heads", kv_heads), KEY("head_dim", head_dim)},
         {{"hidden_act", "\"silu\""}, {"use_sliding_window", "false"}, {"sliding_window", NULL}, {"max_window_layers", NULL}}},
    [GM_FAMILY_QWEN3] = {"qwen3",
                         "ghostmax_qwen3",
                         "Qwen3ForCausalLM",
                         "Qwen3Model",
                         {.family = GM_FAMILY_QWEN3, LLAMA_DEFAULTS, .qk_norm = true},
                         {LLAMA_KEYS, NEED("num_key_value_heads", kv_heads), NEED("head_dim", head_dim)},
                         {{"hidden_act", "\"silu\""},
                          {"use_sliding_window", "false"},
                          {"attention_bias", "false"},
                          {"sliding_window", NULL},
                          {"max_window_layers", NULL}}},
};
#undef LLAMA_DEFAULTS
#undef LLAMA_KEYS
#undef KEY
#undef NEED

/* Keys of stock files that say nothing about the mathematics of a forward pass: of the class, of training, and, in older files, what is now
 * in generation_config.json. */
static const char *const harmless[] = {"model_type",
                                       "architectures",
                                       "torch_dtype",
                                       "dtype",
                                       "transformers_version",
                                       "_name_or_path",
                                       "name_or_path",
                                       "tokenizer_class",
                                       "prefix",
                                       "use_cache",
                                       "bos_token_id",
                                       "eos_token_id",
                                       "pad_token_id",
                                       "decoder_start_token_id",
                                       "task_specific_params",
                                       "attn_pdrop",
                                       "embd_pdrop",
                                       "resid_pdrop",
                                       "dropout",
                                       "attention_dropout",
                                       "activation_dropout",
                                       "layerdrop",
                                       "summary_activation",
                                       "summary_first_dropout",
                                       "summary_proj_to_labels",
                                       "summary_type",
                                       "summary_use_proj",
                                       "gradient_checkpointing",
                                       "reorder_and_upcast_attn",
                                       "pretraining_tp",
                                       "is_decoder",
                                       "id2label",
                                       "label2id",
                                       "num_labels",
                                       "return_dict",
                                       "_num_labels", /* distilgpt2 */
                                       "problem_type",
                                       "finetuning_task",
                                       "output_past",
                                       "output_attentions",
                                       "output_hidden_states",
                                       "torchscript",
                                       "predict_special_tokens",
                                       "chunk_size_feed_forward", /* the same sums in parts */
                                       "max_sequence_length",     /* llama 1 */
                                       "is_llama_config",         /* SmolLM */
                                       "transformers.js_config",
                                       "_attn_implementation",
                                       "_attn_implementation_autoset",
                                       "_commit_hash",
                                       "unsloth_version",
                                       "unsloth_fixed",
                                       "neftune_noise_alpha",
                                       "unk_token_id",
                                       "sep_token_id",
                                       "max_length",
                                       "min_length",
                                       "max_new_tokens",
                                       "do_sample",
                                       "early_stopping",
                                       "num_beams",
                                       "num_beam_groups",
                                       "num_return_sequences",
                                       "temperature",
                                       "top_k",
                                       "top_p",
                                       "typical_p",
                                       "repetition_penalty",
                                       "length_penalty",
                                       "diversity_penalty",
                                       "no_repeat_ngram_size",
                                       "encoder_no_repeat_ngram_size",
                                       "bad_words_ids",
                                       "suppress_tokens",
                                       "begin_suppress_tokens",
                                       "forced_bos_token_id",
                                       "forced_eos_token_id",
                                       "ghostmax",
                                       "attention",
                                       "rope_scaling",    /* read_rope */
                                       "rope_parameters", /* read_rope */
                                       "layer_types",     /* read_layer_types */
                                       NULL};

/* What stands in a stock file's "rope_scaling". `kinds`: bits of the scalings that have the key, which is required then. */
static const struct {
    const char *key;
    size_t offset;
    unsigned kinds;
} rope_keys[] = {{"rope_type", offsetof(gm_model_config, rope_scaling), 1 << GM_ROPE_LINEAR | 1 << GM_ROPE_LLAMA3},
                 {"factor", offsetof(gm_model_config, rope_factor), 1 << GM_ROPE_LINEAR | 1 << GM_ROPE_LLAMA3},
                 {"low_freq_factor", offsetof(gm_model_config, rope_low_freq), 1 << GM_ROPE_LLAMA3},
                 {"high_freq_factor", offsetof(gm_model_config, rope_high_freq), 1 << GM_ROPE_LLAMA3},
                 {"original_max_position_embeddings", offsetof(gm_model_config, rope_original_context), 1 << GM_ROPE_LLAMA3}};

static bool family_says(const family *f, size_t offset) {
    for (int i = 0; f->defaults.rope && i < GM_COUNT(rope_keys); i++) {
        if (rope_keys[i].offset == offset)
            return true;
    }
    for (int i = 0; f->keys[i].key; i++) {
        if (f->keys[i].offset == offset)
            return true;
    }
    return false;
}

/* The stock architecture, by its own keys alone, can be this model: NULL. Else the name of a field that it cannot have. */
static const char *odd_field(const gm_model_config *cfg, gm_family of) {
    const gm_variant *a = &cfg->attention;
    if (a->sink != GM_SINK_NONE || a->clipped || a->gate != GM_GATE_NONE)
        return "attention";
    const family *f = &families[of];
    gm_model_config stock = f->defaults;
    for (int i = 0; i < GM_COUNT(fields); i++) {
        if (family_says(f, fields[i].offset))
            field_copy(&stock, cfg, &fields[i]);
    }
    if (stock.act == GM_ACT_SWIGLU && !f->defaults.rope) /* our word, not theirs */
        return "act";
    if (gm_model_config_check(&stock, NULL) != GM_OK)
        return "shape";
    for (int i = 0; i < GM_COUNT(fields); i++) {
        if (fields[i].use != FIELD_TRAINING && !field_equal(&stock, cfg, &fields[i]))
            return fields[i].name;
    }
    return NULL;
}

static bool is_stock(const gm_model_config *cfg) {
    return !odd_field(cfg, cfg->family);
}

const char *gm_config_stock_family(gm_family *out, const gm_model_config *cfg) {
    const char *odd = odd_field(cfg, cfg->family);
    *out = cfg->family;
    for (int i = 0; odd && i < GM_COUNT(families); i++) {
        if (!odd_field(cfg, (gm_family)i)) {
            *out = (gm_family)i;
            return NULL;
        }
    }
    return odd;
}

const char *gm_config_model_type(const gm_model_config *cfg) {
    return is_stock(cfg) ? families[cfg->family].model_type : families[cfg->family].own_type;
}

uint64_t gm_config_fingerprint(const gm_model_config *cfg) {
    char spec[256];
    gm_variant_format(spec, sizeof spec, &cfg->attention);
    uint64_t h = gm_hash(spec, strlen(spec), (uint64_t)cfg->family);
    for (int i = 0; i < GM_COUNT(fields); i++) {
        static const uint8_t zero[8];
        const field *f = &fields[i];
        const void *at = (const char *)cfg + f->offset;
        if (f->use == FIELD_MATH || (f->use == FIELD_EXTRA && memcmp(at, zero, f->size) != 0))
            h = gm_hash(at, f->size, h);
    }
    return h;
}

/* ---- writing */

static json_t *attention_make(const gm_variant *a) {
    char spec[256];
    gm_variant_format(spec, sizeof spec, a);
    json_t *object = json_pack("{s:s,s:s}", "variant", spec, "sink", word_of(sinks, (int)a->sink));
    if (a->sink == GM_SINK_CONSTANT)
        json_object_set_new(object, "n", json_real(a->n));
    if (a->clipped) {
        json_object_set_new(object, "gamma", json_real(a->gamma));
        json_object_set_new(object, "zeta", json_real(a->zeta));
    }
    json_object_set_new(object, "gate", json_string(word_of(gates, (int)a->gate)));
    if (a->gate != GM_GATE_NONE)
        json_object_set_new(object, "gate_pi", json_real(a->gate_pi));
    if (a->gate == GM_GATE_MLP)
        json_object_set_new(object, "gate_hidden", json_integer(a->gate_hidden));
    return object;
}

/* What a file says of a scaled rotation; NULL: nothing. */
static json_t *rope_make(const gm_model_config *cfg) {
    json_t *object = cfg->rope_scaling != GM_ROPE_PLAIN ? json_object() : NULL;
    for (int i = 0; object && i < GM_COUNT(rope_keys); i++) {
        if (rope_keys[i].kinds & 1u << cfg->rope_scaling)
            json_object_set_new(object, rope_keys[i].key, field_value(cfg, field_at(rope_keys[i].offset)));
    }
    return object;
}

static json_t *config_make(const gm_model_config *cfg, gm_dtype dtype) {
    const family *f = &families[cfg->family];
    bool stock = is_stock(cfg);
    static const char *const torch_names[] = {
        [GM_DTYPE_F32] = "float32", [GM_DTYPE_F16] = "float16", [GM_DTYPE_BF16] = "bfloat16", [GM_DTYPE_Q8_0] = "float32"};
    json_t *root = json_pack("{s:[s],s:s,s:s}", "architectures", stock ? f->architecture : "GhostmaxForCausalLM", "model_type",
                             stock ? f->model_type : f->own_type, "torch_dtype", torch_names[dtype]);
    for (int i = 0; f->keys[i].key; i++) {
        bool none = f->keys[i].offset == offsetof(gm_model_config, window) && cfg->window == 0;
        json_object_set_new(root, f->keys[i].key, none ? json_null() : field_value(cfg, field_at(f->keys[i].offset)));
    }
    for (int i = 0; stock && f->fixed[i].key; i++) {
        if (f->fixed[i].value)
            json_object_set_new(root, f->fixed[i].key, json_loads(f->fixed[i].value, JSON_DECODE_ANY, NULL));
    }
    json_t *rope = f->defaults.rope ? rope_make(cfg) : NULL;
    if (rope)
        json_object_set_new(root, "rope_scaling", rope);
    if (!stock)
        json_object_set_new(root, "attention", attention_make(&cfg->attention));
    json_t *rest = json_object();
    json_object_set_new(root, "ghostmax", rest);
    for (int i = 0; i < GM_COUNT(fields); i++) {
        bool empty = fields[i].type == FIELD_TEXT && !*((const char *)cfg + fields[i].offset);
        if (!family_says(f, fields[i].offset) && (fields[i].use == FIELD_TRAINING || !stock) && !empty)
            json_object_set_new(rest, fields[i].name, field_value(cfg, &fields[i]));
    }
    return root;
}

char *gm_json_text(json_t *root) {
    for (size_t digits = 6; digits <= 17; digits++) {
        char *text = gm_json_dump(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, 0, NULL) : NULL;
        bool equal = back && json_equal(root, back);
        json_decref(back);
        if (equal)
            return text;
        free(text);
    }
    return NULL;
}

char *gm_config_json(const gm_model_config *cfg, gm_dtype dtype) {
    json_t *root = config_make(cfg, dtype);
    char *json = root ? gm_json_text(root) : NULL;
    json_decref(root);
    return json;
}

gm_status gm_config_file_write(const gm_model_config *cfg, gm_dtype dtype, const char *path, gm_error *err) {
    char *json = gm_config_json(cfg, dtype);
    gm_text text = {0};
    gm_text_add(&text, "%s\n", json ? json : "");
    gm_status status = json && !text.failed ? gm_file_write(path, text.data, text.size, err) : gm_fail_memory(err, 4096);
    free(json);
    gm_text_free(&text);
    return status;
}

/* ---- reading */

static gm_status fail_value(gm_error *err, const char *path, const char *key, json_t *value, const char *why) {
    char *text = gm_json_dump(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    gm_status status = gm_fail(err, GM_EFORMAT, "%s: \"%s\": %.80s %s", path, key, text ? text : "?", why);
    free(text);
    return status;
}

static gm_status fail_unsupported(gm_error *err, const char *path, const char *key, json_t *value, const char *why) {
    fail_value(err, path, key, value, why);
    if (err)
        err->code = GM_EUNSUPPORTED;
    return GM_EUNSUPPORTED;
}

/* A key's value; null is as good as absent. */
static json_t *given(json_t *root, const char *key) {
    json_t *value = json_object_get(root, key);
    return json_is_null(value) ? NULL : value;
}

/* Architectures that this block is not, and why; keys of stock files that change the mathematics, and how. */
static const struct {
    const char *name, *why;
} refused_types[] =
    {
        {GM_QUANTIZED_TYPE, "it is quantized already; give the f32 model that it was made from"},
        {"bert", "it is an encoder"},
        {"roberta", "it is an encoder"},
        {"vit", "it is an encoder"},
        {"t5", "it has an encoder"},
        {"gpt_neox", "its attention and its FFN read the same input side by side, and only part of each head is rotated"},
        {"gptj", "its attention and its FFN read the same input side by side"},
        {"falcon", "its attention and its FFN read the same input side by side"},
        {"phi", "its attention and its FFN read the same input side by side"},
        {"cohere", "its attention and its FFN read the same input side by side"},
        {"phi3", "its projections stand fused in its files"},
        {"bloom", "its positions are ALiBi's"},
        {"mpt", "its positions are ALiBi's"},
        {"gemma", "its norm gains are 1 + g and its embeddings are scaled"},
        {"gemma2", "it caps its logits (soft capping) and norms after its branches"},
        {"gemma3_text", "it norms after its branches and has two kinds of attention"},
        {"olmo2", "it norms after its branches"},
        {"granite", "its branches, embeddings and logits are scaled"},
        {"mixtral", "its FFN is a mixture of experts"},
        {"qwen2_moe", "its FFN is a mixture of experts"},
        {"qwen3_moe", "its FFN is a mixture of experts"},
        {"gpt_oss", "its FFN is a mixture of experts"},
        {"deepseek_v3", "its FFN is a mixture of experts and its attention is latent"},
        {"mamba", "it has no attention"},
},
  refused_keys[] = {
      {"partial_rotary_factor", "rotates only part of each head"},
      {"rotary_pct", "rotates only part of each head"},
      {"attn_logit_softcapping", "caps the attention scores"},
      {"final_logit_softcapping", "caps the logits"},
      {"logit_scale", "scales the logits"},
      {"num_local_experts", "asks for a mixture of experts"},
      {"num_experts", "asks for a mixture of experts"},
      {"n_routed_experts", "asks for a mixture of experts"},
      {"quantization_config", "says that the weights are quantized; save the model in f32, f16 or bf16"},
      {"sliding_window", "asks for a window, which the stock architecture of this model_type does not have"},
      {"attention_bias", "asks for biases that the stock architecture of this model_type does not have"},
      {"mlp_bias", "asks for biases that the stock architecture of this model_type does not have"},
      {"use_parallel_residual", "runs attention and FFN side by side"},
      {"alibi", "asks for ALiBi's positions"},
};

/* Those of them that say nothing when they are 1. */
static const char *const factors[] = {"partial_rotary_factor", "rotary_pct", "logit_scale"};

static gm_status read_family(const family **out, bool *stock, json_t *root, const char *path, gm_error *err) {
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type)
        return gm_fail(err, GM_EFORMAT, "%s: not a model's config: it has no \"model_type\"", path);
    *out = NULL;
    for (int i = 0; i < GM_COUNT(families); i++) {
        *stock = strcmp(type, families[i].model_type) == 0;
        if (*stock || strcmp(type, families[i].own_type) == 0) {
            *out = &families[i];
            break;
        }
    }
    for (int i = 0; !*out && i < GM_COUNT(refused_types); i++) {
        if (strcmp(type, refused_types[i].name) == 0)
            return gm_fail(err, GM_EUNSUPPORTED, "%s: models of type '%s' cannot be read: %s", path, type, refused_types[i].why);
    }
    if (!*out) {
        char known[128];
        size_t n = 0;
        for (int i = 0; i < GM_COUNT(families); i++)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", families[i].model_type);
        return gm_fail(err, GM_EUNSUPPORTED, "%s: models of type '%.64s' are not known here; those that can be read: %s", path, type,
                       known);
    }
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(root, "architectures"), i, value) {
        const char *name = json_string_value(value);
        if (*stock && (!name || (strcmp(name, (*out)->architecture) != 0 && strcmp(name, (*out)->base_architecture) != 0)))
            return gm_fail(err, GM_EUNSUPPORTED, "%s: architecture '%s' is not supported; %s is", path, name ? name : "?",
                           (*out)->architecture);
    }
    return GM_OK;
}

/* One of the two places, "rope_parameters" (newer, with the base in it) or "rope_scaling". */
static gm_status read_rope_object(gm_model_config *cfg, json_t *object, const char *name, const char *path, gm_error *err) {
    if (!json_is_object(object))
        return fail_value(err, path, name, object, "is not an object");
    json_t *type = given(object, "rope_type"), *value;
    if (!type)
        type = given(object, "type"); /* its older name */
    if (type && !field_set(cfg, field_at(offsetof(gm_model_config, rope_scaling)), type))
        return fail_unsupported(err, path, name, type, "scales the rotary positions in a way that is not supported; linear and llama3 are");
    for (int i = 1; i < GM_COUNT(rope_keys); i++) {
        value = given(object, rope_keys[i].key);
        if (!(rope_keys[i].kinds & 1u << cfg->rope_scaling))
            continue;
        if (!value || !field_set(cfg, field_at(rope_keys[i].offset), value)) {
            char why[96];
            snprintf(why, sizeof why, "has no good \"%s\"", rope_keys[i].key);
            return fail_value(err, path, name, object, why);
        }
    }
    const char *key;
    json_object_foreach(object, key, value) {
        bool known = json_is_null(value) || strcmp(key, "type") == 0;
        for (int i = 0; i < GM_COUNT(rope_keys); i++)
            known = known || strcmp(key, rope_keys[i].key) == 0;
        if (strcmp(key, "rope_theta") == 0) {
            known = json_is_number(value);
            cfg->rope_theta = json_number_value(value);
        } else if (strcmp(key, "partial_rotary_factor") == 0) {
            known = json_number_value(value) == 1;
        }
        if (!known) {
            char why[160];
            snprintf(why, sizeof why, "has \"%.64s\", which is not supported", key);
            return fail_unsupported(err, path, name, object, why);
        }
    }
    return GM_OK;
}

static gm_status read_rope(gm_model_config *cfg, json_t *root, const char *path, gm_error *err) {
    static const char *const names[] = {"rope_parameters", "rope_scaling"};
    json_t *newer = given(root, names[0]), *older = given(root, names[1]);
    if (newer && older && !json_equal(newer, older))
        return fail_unsupported(err, path, names[1], older, "differs from \"rope_parameters\", which says the same; remove one of them");
    for (int i = 0; i < GM_COUNT(names); i++) {
        json_t *object = given(root, names[i]);
        if (object)
            GM_TRY(read_rope_object(cfg, object, names[i], path, err));
    }
    return GM_OK;
}

/* One kind of attention for all blocks, or none of ours: a list of windows block by block is refused. */
static gm_status read_layer_types(const gm_model_config *cfg, json_t *root, const char *path, gm_error *err) {
    json_t *list = given(root, "layer_types"), *value;
    size_t i;
    json_array_foreach(list, i, value) {
        const char *want = cfg->window ? "sliding_attention" : "full_attention", *type = json_string_value(value);
        if (!type || strcmp(type, want) != 0)
            return fail_unsupported(err, path, "layer_types", list,
                                    "has other attention than the rest of the file says; it is not supported");
    }
    return GM_OK;
}

/* attention_bias and mlp_bias are one thing here: biases in all linear layers, or in none. Absent is false. */
static gm_status check_switches(const family *f, json_t *root, const char *path, gm_error *err) {
    for (int i = 0; f->keys[i].key; i++) {
        for (int j = 0; j < i; j++) {
            json_t *a = given(root, f->keys[i].key), *b = given(root, f->keys[j].key);
            char why[160];
            if (f->keys[i].offset != f->keys[j].offset || field_at(f->keys[i].offset)->type != FIELD_BOOL ||
                json_is_true(a) == json_is_true(b))
                continue;
            bool first = json_is_true(a);
            snprintf(why, sizeof why, "while \"%s\" is not: one without the other is not supported", f->keys[first ? j : i].key);
            return fail_unsupported(err, path, f->keys[first ? i : j].key, first ? a : b, why);
        }
    }
    return GM_OK;
}

static gm_status read_stock_keys(gm_model_config *cfg, const family *f, json_t *root, const char *path, gm_error *err) {
    GM_TRY(check_switches(f, root, path, err));
    for (int i = 0; f->keys[i].key; i++) {
        const char *key = f->keys[i].key;
        const field *said = field_at(f->keys[i].offset);
        json_t *value = given(root, key);
        if (!f->keys[i].required && said->type == FIELD_WHOLE && json_is_null(json_object_get(root, key)))
            memset((char *)cfg + said->offset, 0, sizeof(int64_t)); /* null: none, or derived from the others */
        if (!value) {
            if (f->keys[i].required)
                return gm_fail(err, GM_EFORMAT, "%s: \"%s\" is missing", path, key);
            continue;
        }
        gm_model_config before = *cfg;
        if (!field_set(cfg, said, value))
            return fail_value(err, path, key, value, "is not a value that it can have");
        for (int j = 0; j < i; j++) {
            if (f->keys[j].offset == said->offset && given(root, f->keys[j].key) && !field_equal(&before, cfg, said))
                return fail_value(err, path, key, value, "differs from another key that says the same; such models are not supported");
        }
    }
    for (int i = 0; f->fixed[i].key; i++) {
        json_t *value = f->fixed[i].value ? given(root, f->fixed[i].key) : NULL;
        json_t *only = value ? json_loads(f->fixed[i].value, JSON_DECODE_ANY, NULL) : NULL;
        bool good = !value || json_equal(value, only);
        json_decref(only);
        if (!good)
            return fail_unsupported(err, path, f->fixed[i].key, value, "changes the mathematics in a way that is not supported");
    }
    GM_TRY(read_layer_types(cfg, root, path, err));
    return read_rope(cfg, root, path, err);
}

/* A key that nobody here knows may change what the model computes: better refused than ignored. null and false switch nothing on. */
static gm_status check_unknown_keys(const family *f, json_t *root, const char *path, gm_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        bool known = json_is_null(value) || json_is_false(value);
        for (int i = 0; json_number_value(value) == 1 && i < GM_COUNT(factors); i++)
            known = known || strcmp(key, factors[i]) == 0;
        for (int i = 0; !known && harmless[i]; i++)
            known = strcmp(key, harmless[i]) == 0;
        for (int i = 0; !known && f->keys[i].key; i++)
            known = strcmp(key, f->keys[i].key) == 0;
        for (int i = 0; !known && f->fixed[i].key; i++)
            known = strcmp(key, f->fixed[i].key) == 0;
        for (int i = 0; !known && i < GM_COUNT(refused_keys); i++) {
            if (strcmp(key, refused_keys[i].name) == 0)
                return fail_unsupported(err, path, key, value, refused_keys[i].why);
        }
        if (!known)
            return fail_unsupported(err, path, key, value, "is not known here and may change the mathematics; remove it if it does not");
    }
    return GM_OK;
}

static gm_status read_own(gm_model_config *cfg, const family *f, json_t *root, const char *path, gm_error *err) {
    json_t *own = json_object_get(root, "ghostmax"), *value;
    const char *key;
    json_object_foreach(own, key, value) {
        const field *found = NULL;
        for (int i = 0; i < GM_COUNT(fields); i++) {
            if (strcmp(key, fields[i].name) == 0 && !family_says(f, fields[i].offset))
                found = &fields[i];
        }
        if (!found)
            return fail_value(err, path, key, value, "under \"ghostmax\" is not known here");
        if (!field_set(cfg, found, value))
            return fail_value(err, path, key, value, "under \"ghostmax\" is not a value that it can have");
    }
    json_t *attention = json_object_get(root, "attention");
    if (!attention)
        return GM_OK;
    const char *spec = json_string_value(json_object_get(attention, "variant"));
    if (!spec)
        return gm_fail(err, GM_EFORMAT, "%s: \"attention\" has no \"variant\"", path);
    gm_error inner;
    if (gm_variant_parse(&cfg->attention, spec, &inner) != GM_OK)
        return gm_fail(err, GM_EFORMAT, "%s: \"attention\": %s", path, inner.msg);
    json_t *same = attention_make(&cfg->attention);
    bool equal = json_equal(same, attention);
    json_decref(same);
    if (!equal)
        return gm_fail(err, GM_EFORMAT, "%s: the fields of \"attention\" disagree with its \"variant\" '%s'", path, spec);
    return GM_OK;
}

static gm_status read_config(gm_model_config *cfg, json_t *root, const char *path, gm_error *err) {
    const family *f = NULL;
    bool stock = false;
    GM_TRY(read_family(&f, &stock, root, path, err));
    *cfg = f->defaults;
    GM_TRY(check_unknown_keys(f, root, path, err));
    GM_TRY(read_stock_keys(cfg, f, root, path, err));
    GM_TRY(read_own(cfg, f, root, path, err));
    gm_error inner;
    if (gm_model_config_check(cfg, &inner) != GM_OK)
        return gm_fail(err, GM_EFORMAT, "%s: %s", path, inner.msg);
    if (stock != is_stock(cfg))
        return gm_fail(err, GM_EFORMAT, "%s: model_type '%s' contradicts the rest, which %s the stock architecture", path,
                       stock ? f->model_type : f->own_type, stock ? "is not" : "is");
    return GM_OK;
}

gm_status gm_config_parse(gm_model_config *cfg, const void *bytes, size_t n, const char *name, gm_error *err) {
    *cfg = (gm_model_config){0};
    json_error_t wrong;
    json_t *root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &wrong);
    gm_status status;
    if (!root)
        status = gm_fail_at(err, GM_EFORMAT, wrong.position, "%s: not JSON: %s (line %d, byte %d)", name, wrong.text, wrong.line,
                            wrong.position);
    else if (!json_is_object(root))
        status = gm_fail_at(err, GM_EFORMAT, 0, "%s: not a model's config: it is not an object", name);
    else
        status = read_config(cfg, root, name, err);
    json_decref(root);
    return status;
}

gm_status gm_config_file_read(gm_model_config *cfg, const char *path, gm_error *err) {
    *cfg = (gm_model_config){0};
    gm_file file;
    GM_TRY(gm_file_open(&file, path, err));
    gm_status status = gm_config_parse(cfg, file.data, file.size, path, err);
    gm_file_close(&file);
    return status;
}
