/* ghostmax_model.h -- models, data, training, measuring, quantizing and the lab. Builds on ghostmax.h; same rules.
 *
 * Threads: a gm_tokenizer and a gm_data may be read by several at once (tests/data/test_data.c); a gm_model holds its activations, so one
 * call at a time. Whatever is made with a gm_ctx must be freed before it. Every ..._free takes NULL. Files: docs/formats.md. */
#ifndef GHOSTMAX_MODEL_H
#define GHOSTMAX_MODEL_H

#include "ghostmax.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- variants: `name[:key=value,...][+name...]` --------------------------------------------------------------------- */

typedef enum gm_sink_kind { GM_SINK_NONE, GM_SINK_CONSTANT, GM_SINK_LEARNED } gm_sink_kind;
typedef enum gm_gate_kind {
    GM_GATE_NONE,
    GM_GATE_LINEAR,    /* each head from its own C/H slice of the normalised block input, with bias: H (C/H + 1) parameters */
    GM_GATE_MLP,       /* the same slice through `gate_hidden` ReLU units: H (hidden (C/H + 2) + 1) parameters */
    GM_GATE_ALL_HEADS, /* each head from the whole input: H (C + 1) parameters */
    GM_GATE_CHANNEL,   /* each of the H D channels from the whole input (Qiu et al. 2025): H D (C + 1) parameters */
} gm_gate_kind;

typedef struct gm_variant {
    gm_sink_kind sink;
    double n; /* GM_SINK_CONSTANT: softmax_n's n >= 0, sink logit ln n */
    bool clipped;
    double gamma, zeta; /* clipped: gamma <= 0, zeta >= 1 */
    double alpha;       /* clipped: > 0 asks for gamma = -alpha / context when the model is created; 0: gamma is given */
    gm_gate_kind gate;
    int gate_hidden; /* GM_GATE_MLP: units, default 4 */
    double gate_pi;  /* initial openness in (0, 1): the gate's bias starts at logit(pi) */
} gm_variant;

/* Formulas: docs/numerics.md. Errors: GM_EINVAL naming the word at fault and the nearest known one. Test: tests/model/test_variant.c */
gm_status gm_variant_parse(gm_variant *out, const char *spec, gm_error *err);
/* The canonical spec (parses back to the same variant). Returns the length, as snprintf does. */
int gm_variant_format(char *dst, size_t size, const gm_variant *variant);
/* What a kernel sees: sink = ln n (none: -inf), clip_a = zeta - gamma, clip_c = gamma; context (>= 1) resolves alpha: gamma = -alpha /
 * context. A learned sink gives sink = 0 and is overridden by the sinks[H] array. */
gm_norm gm_variant_norm(const gm_variant *variant, int64_t context);

typedef struct gm_variant_info {
    const char *name, *keys /* "gamma=-0.03,zeta=1,alpha" with defaults, "" when none */, *summary, *source;
} gm_variant_info;
/* The one table, by index; NULL past the end. */
const gm_variant_info *gm_variant_list(int index);

/* A comma list of specs ("softmax,clipped:gamma=-0.03,zeta=1,gated": a comma before `key=` belongs to the spec). *count is how many.
 * Errors: GM_EINVAL (an empty list, a spec that is wrong or stands there twice, more than `capacity`). */
gm_status gm_variants_parse(gm_variant *out, int capacity, int *count, const char *list, gm_error *err);

/* ---- numbers in files ------------------------------------------------------------------------------------------------- */

typedef enum gm_dtype {
    GM_DTYPE_F32,
    GM_DTYPE_F16,
    GM_DTYPE_BF16,
    GM_DTYPE_Q8_0, /* ggml's: blocks of 32 int8 with an f16 scale */
} gm_dtype;
const char *gm_dtype_name(gm_dtype type); /* "f32", "f16", "bf16", "q8_0" */
/* Errors: GM_EINVAL naming the known ones. Test: tests/io/test_gguf.c */
gm_status gm_dtype_parse(gm_dtype *out, const char *name, gm_error *err);

/* ---- model configuration --------------------------------------------------------------------------------------------- */

typedef enum gm_family {
    GM_FAMILY_GPT2,
    GM_FAMILY_OPT,
    GM_FAMILY_LLAMA,
    GM_FAMILY_MISTRAL, /* llama's block under other names in config.json; a window */
    GM_FAMILY_QWEN2,   /* with qkv_bias */
    GM_FAMILY_QWEN3,   /* with qk_norm */
} gm_family;
typedef enum gm_act { GM_ACT_GELU_TANH, GM_ACT_GELU_ERF, GM_ACT_RELU, GM_ACT_SWIGLU } gm_act;
typedef enum gm_init {
    GM_INIT_GPT2 /* N(0, .02), residual projections / sqrt(2L) */,
    GM_INIT_OPT /* N(0, .006) */,
    GM_INIT_TORCH /* nn.Linear's and nn.Embedding's defaults */
} gm_init;

typedef enum gm_bos_use { GM_BOS_UNKNOWN, GM_BOS_NEVER, GM_BOS_ALWAYS } gm_bos_use; /* did training sequences begin with BOS? */
/* How the rotary angles of a position, position * f_i, differ from f_i = theta^(-2i/D) (docs/numerics.md). */
typedef enum gm_rope_scaling {
    GM_ROPE_PLAIN,
    GM_ROPE_LINEAR, /* f_i / factor */
    GM_ROPE_LLAMA3, /* wavelengths above original_context / low_freq: / factor; below original_context / high_freq: as they are; between: a
                       blend */
} gm_rope_scaling;

typedef struct gm_model_config {
    char preset[32]; /* where the shape came from, "" when read from a file */
    gm_family family;
    int64_t vocab, context, layers, heads, kv_heads, width, head_dim, ffn;
    gm_act act;
    bool rms_norm;           /* RMS norm without bias; else layer norm with bias */
    bool rope;               /* rotary positions; else a learned table of context (+ position_offset) rows */
    int64_t position_offset; /* OPT: 2 */
    bool bias;               /* biases in the block's linear layers */
    bool tied;               /* the LM head is the embedding table */
    double norm_eps, rope_theta;
    int64_t window; /* sliding window, 0: none */
    double dropout; /* on the embedding sum and both branch outputs; attention weights are never dropped */
    gm_init init;
    double init_std;
    gm_bos_use bos;    /* set by training; a runtime's prompt must begin the same way */
    char surgery[160]; /* "softmax -> softmax1 (ramp 100)": what training continued from under another variant; "": nothing */
    bool qkv_bias;     /* biases in the q, k, v projections alone (bias is false) */
    bool qk_norm;      /* an RMS norm over each head of q and of k, gains [head_dim], before the rotary positions */
    gm_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq, rope_high_freq; /* 0 where rope_scaling does not use them; so below */
    int64_t rope_original_context;
    gm_variant attention;
} gm_model_config;

typedef struct gm_preset_info {
    const char *name, *summary;
} gm_preset_info;
/* By index; NULL past the end. */
const gm_preset_info *gm_preset_list(int index);
/* *cfg = the named preset with plain softmax; vocab may still be 0 (taken from the data). Errors: GM_EINVAL with the nearest name. */
gm_status gm_model_config_preset(gm_model_config *cfg, const char *name, gm_error *err);
/* Every rule between dimensions, before anything is allocated; resolves derived values (head_dim 0, ffn 0, kv_heads 0, alpha). Errors:
 * GM_EINVAL naming the dimension; *cfg is then unchanged. Test: tests/model/test_model.c (refusals, alpha_is_of_the_context). */
gm_status gm_model_config_check(gm_model_config *cfg, gm_error *err);

/* What may be changed in a preset, by name: one table for the command line, the lab and `info`. */
typedef struct gm_override_info {
    const char *name;    /* "kv-heads" */
    const char *values;  /* "N", "X", or the words allowed: "gpt2|opt|torch" */
    const char *summary; /* for --help */
    double min, max;     /* of numbers */
    bool from_data;      /* vocab and context: the data decides where there is one */
} gm_override_info;
const gm_override_info *gm_override_list(int index); /* NULL past the end */
/* "width=128,heads=2" on top of *cfg. What follows from a changed width or head count (head_dim, ffn, kv_heads) is derived anew by
 * gm_model_config_check unless it is given too. Errors: GM_EINVAL naming the word at fault and the nearest known one. */
gm_status gm_model_config_override(gm_model_config *cfg, const char *overrides, gm_error *err);

typedef struct gm_model_size {
    int64_t parameters, parameters_without_embeddings, attention_parameters_extra /* sinks and gates */;
    double flops_per_token_forward, flops_per_token_train;
    size_t parameter_bytes, train_bytes, forward_bytes; /* for the given B, T; train = parameters, gradients, moments, activations */
} gm_model_size;
/* cfg checked. Forward: 2 flops per parameter of a matrix product and token, and 2 (T+1) H D L for the causal half of QK^T and PV; training
 * three times that. Test: tests/model/test_model.c (known_sizes) */
void gm_model_config_size(gm_model_size *out, const gm_model_config *cfg, int64_t B, int64_t T);
/* Returns the number of parameter tensors; for index in range also that one's name and shape (rows x cols; cols = 1 for vectors). */
int gm_model_config_tensor(const gm_model_config *cfg, int index, char *name, size_t name_size, int64_t *rows, int64_t *cols);

/* ---- tokenizers ------------------------------------------------------------------------------------------------------ */

typedef struct gm_tokenizer gm_tokenizer;
typedef enum gm_token_class {
    GM_CLASS_BOS,
    GM_CLASS_WHITESPACE,
    GM_CLASS_PUNCTUATION,
    GM_CLASS_WORD,
    GM_CLASS_DIGIT,
    GM_CLASS_OTHER
} gm_token_class;

/* Build from a text: kind "bytes" (256 + BOS), "chars" (the text's code points), "words" (the `vocab` most frequent words and
 * punctuation marks, 0: all; lower: fold case first; the rest becomes <unk>), "bpe" (byte-level BPE of `vocab` tokens, the merges that
 * Hugging Face's trainer makes of the same text). Invalid UTF-8 is an error for chars and words (GM_EFORMAT with the offset); bytes and bpe
 * take anything. Other errors: GM_EINVAL (kind, vocab), GM_ENOMEM. Test: tests/data/test_tokenizer.c, test_vocabulary.c */
gm_status gm_tokenizer_build(gm_tokenizer **out, const char *kind, const char *text, size_t size, int64_t vocab, bool lower, gm_error *err);
/* Any of: tokenizer.json (Hugging Face's or our own), SentencePiece's tokenizer.model, GPT-2's encoder.json or vocab.json with vocab.bpe or
 * merges.txt beside it, Bert's vocab.txt, llama2.c's tokenizer.bin, a .gguf with one inside, or a folder that holds one. Every line of text
 * gives the ids that the format's own library gives. save writes tokenizer.json, which model folders hold. Errors: GM_EIO; load: GM_EFORMAT
 * (none of these, or damaged: offset), GM_EUNSUPPORTED (a part of it, by name). Test: tests/data/test_golden_tokenizers.c */
gm_status gm_tokenizer_load(gm_tokenizer **out, const char *path, gm_error *err);
gm_status gm_tokenizer_save(const gm_tokenizer *t, const char *path, gm_error *err);
void gm_tokenizer_free(gm_tokenizer *t);
int64_t gm_tokenizer_vocab(const gm_tokenizer *t);
int32_t gm_tokenizer_bos(const gm_tokenizer *t); /* -1: none */
int32_t gm_tokenizer_eos(const gm_tokenizer *t); /* -1: none */
/* Does the library that it comes from put BOS before every text? (GPT-2's does not, Llama's does.) */
bool gm_tokenizer_adds_bos(const gm_tokenizer *t);
const char *gm_tokenizer_kind(const gm_tokenizer *t);
/* *ids is the caller's, freed with gm_tokens_free. BOS is not added. Errors: GM_EFORMAT (invalid UTF-8: offset), GM_ENOMEM. */
gm_status gm_tokenizer_encode(const gm_tokenizer *t, const char *text, size_t size, int32_t **ids, int64_t *count, gm_error *err);
void gm_tokens_free(int32_t *ids);
/* The id's own string (not NUL-terminated for bytes; *size says). `previous` is the id before it, -1 at the start: a words tokenizer
 * puts the space between words itself. Valid as long as t. */
const char *gm_tokenizer_piece(const gm_tokenizer *t, int32_t previous, int32_t id, size_t *size);
gm_token_class gm_tokenizer_class(const gm_tokenizer *t, int32_t id);

/* ---- data ------------------------------------------------------------------------------------------------------------- */

typedef struct gm_data gm_data;

typedef struct gm_data_options {
    const char *source;    /* "stories", "bb", or a file: text, or a token file written by `ghostmax tokenize` */
    const char *tokens;    /* "bytes", "chars", "words", "bpe"; NULL: the source's default */
    int64_t vocab;         /* words, bpe: 0 is the source's default */
    bool keep_case;        /* words: do not lower-case */
    bool no_bos;           /* default: every sequence starts with BOS */
    bool own_bos;          /* only where gm_tokenizer_adds_bos */
    int64_t context;       /* T of the sequences */
    const char *tokenizer; /* use this tokenizer file instead of building one */
    bool for_model;        /* a trained model reads it: a text whose tokenizer would have to be built is refused (GM_EINVAL); without any
                            * tokenizer the file must be token ids (decimal numbers), taken as they are, with no BOS */
    bool whole;            /* a file as one piece, not split: gm_data_text gives it, there are no sequences; context counts for nothing */
} gm_data_options;

/* What a source brings when nothing else is said: one table, printed by --help. */
typedef struct gm_data_defaults {
    const char *source, *model, *tokens, *summary;
    int64_t vocab, batch, context, steps, seeds;
    double lr;
    const char *variants;
} gm_data_defaults;
const gm_data_defaults *gm_data_default_list(int index); /* "stories", "bb", "FILE"; NULL past the end */
const gm_data_defaults *gm_data_default_of(const char *source);

/* Errors: GM_EIO (missing, a folder, unreadable), GM_EFORMAT (empty, no text for chars or words, too short for any context, an altered
 * token file: offset says where), GM_EINVAL (an option; a context too long for the text: the line proposes one that fits).
 * Test: tests/data/test_data.c, test_backcopy.c */
gm_status gm_data_open(gm_data **out, const gm_data_options *options, gm_error *err);
void gm_data_free(gm_data *d);
const gm_tokenizer *gm_data_tokenizer(const gm_data *d); /* NULL: the data are token ids (for_model) */
#define GM_DATA_STREAM_VALIDATION 1024
/* Distinct validation sequences: fixed by a hash of the content, whatever the seed; streams have GM_DATA_STREAM_VALIDATION. */
int64_t gm_data_validation_count(const gm_data *d);
/* T of the sequences. */
int64_t gm_data_context(const gm_data *d);
/* Does every sequence begin with BOS? What was asked for, but for bb, which always does. */
bool gm_data_bos(const gm_data *d);
/* Training tokens available, -1 for a stream (fresh samples for ever). */
int64_t gm_data_train_tokens(const gm_data *d);
/* Sequences `first` .. `first + count - 1` of seed's training order: a pure function of its arguments, so that resuming, other batch
 * sizes and other rank counts see the same samples. x, y [count, T]: y is x moved by one; with BOS, x[:,0] is BOS. */
void gm_data_train(const gm_data *d, uint64_t seed, int64_t first, int64_t count, int32_t *x, int32_t *y);
/* Validation sequences first .. first+count-1 (modulo the count). */
void gm_data_validation(const gm_data *d, int64_t first, int64_t count, int32_t *x, int32_t *y);
/* Mean bytes of text per token on validation, for bits per byte; 0 where it has no meaning (bb). */
double gm_data_bytes_per_token(const gm_data *d);
/* A short text that names data and tokenizer exactly (source, content hash, kind, vocab): part of a run's identity. */
const char *gm_data_identity(const gm_data *d);
/* bb only: which of y's targets are deterministic back-copies; mask [count, T] of 0/1. false for other sources. */
bool gm_data_backcopy_mask(const gm_data *d, const int32_t *x, int64_t count, uint8_t *mask);
/* bb only: losses [count, T] in nats of the best possible model on this data's own x and y: 0 on back-copies, else -ln of the bigram
 * row (a model's excess risk is its loss minus this). false for other sources. */
bool gm_data_optimal_losses(const gm_data *d, const int32_t *x, const int32_t *y, int64_t count, double *losses);
/* All tokens of a file, in order, without BOS, whatever the split; and the bytes of its text. 0 for stories and bb. Test:
 * tests/measure/test_evaluate.c */
int64_t gm_data_text_tokens(const gm_data *d);
int64_t gm_data_text_bytes(const gm_data *d);
/* Tokens first .. first + count - 1 of these. */
void gm_data_text(const gm_data *d, int64_t first, int64_t count, int32_t *ids);
/* The whole text of `d` as a token file, which opens to the same data (same split, sequences and identity) without tokenizing again.
 * Errors: GM_EUNSUPPORTED (stories and bb have no end), GM_EIO. Test: tests/data/test_data.c (token_files_are_their_text) */
gm_status gm_data_write_tokens(const gm_data *d, const char *path, gm_error *err);

/* ---- models ------------------------------------------------------------------------------------------------------------ */

typedef struct gm_model gm_model;

/* Parameters drawn from (seed, tensor name, index): tensors that two variants share start identical. Errors: GM_EINVAL (as
 * gm_model_config_check), GM_ENOMEM. Test: tests/model/test_model.c (variants_start_alike, initial_values,
 * initial_weights_are_known) */
gm_status gm_model_create(gm_model **out, const gm_ctx *ctx, const gm_model_config *cfg, uint64_t seed, gm_error *err);
void gm_model_free(gm_model *m);
const gm_model_config *gm_model_config_of(const gm_model *m);
/* A folder of config.json + model.safetensors; GGUF files and llama2.c's .bin are loaded too. Errors: GM_EIO; load: GM_EFORMAT (damaged,
 * altered, a tensor missing or too many), GM_EUNSUPPORTED (another architecture, or a key that would change the numbers), GM_ENOMEM. Test:
 * tests/model/test_model_files.c, test_gguf_file.c, test_llama2c_file.c */
gm_status gm_model_load(gm_model **out, const gm_ctx *ctx, const char *path, gm_error *err);
/* config.json is what makes the folder a model and comes last: whoever looks meanwhile sees no model, or all of it. */
gm_status gm_model_save(const gm_model *m, const char *folder, gm_error *err);
/* The same with numbers of another type, f32, f16 or bf16, and (shard_bytes > 0) split into files of at most so many bytes, with an index.
 * Errors: GM_EINVAL (a number that f16 cannot hold, by tensor; shard_bytes < 0), GM_EUNSUPPORTED (q8_0). */
gm_status gm_model_save_as(const gm_model *m, const char *folder, gm_dtype dtype, int64_t shard_bytes, gm_error *err);

/* What a file or folder is, as a JSON object (freed with free()): "kind" (model, weights, tokenizer, tokens, lab), "format", then what that
 * kind has: family, attention, parameters, dimensions, types, files, bytes, tokenizer, training run ... Weights are not read: headers and
 * structure only, but those wholly. Errors: GM_EIO, GM_EFORMAT (damaged), GM_EUNSUPPORTED (nothing known here). Test:
 * tests/cli/cli_info.py */
gm_status gm_file_describe(const char *path, char **json, gm_error *err);

typedef struct gm_nonfinite {
    char tensor[96]; /* by its name in a Hugging Face folder, whatever the model was read from */
    int64_t nan, infinite, elements;
} gm_nonfinite;
/* Tensors with weights that are NaN or infinite (a model with such loads: it may be what one wants to look at): *count is how many there
 * are, the first `capacity` go to list. Errors: GM_ENOMEM. Test: tests/model/test_checkpoints.c */
gm_status gm_model_nonfinite(const gm_model *m, gm_nonfinite *list, int capacity, int *count, gm_error *err);

/* Logits of B sequences of T <= context tokens: logits [B,T,V], or the last position only, [B,V], with last_only. tokens [B,T]. Buffers
 * grow on a first, larger call. Errors, here and below: GM_EINVAL (a token outside the vocabulary, T > context), GM_ENOMEM. Test:
 * tests/model/test_golden_models.c (PyTorch's logits), test_model.c (logits_and_loss_agree) */
gm_status gm_model_logits(gm_model *m, const int32_t *tokens, int64_t B, int64_t T, bool last_only, float *logits, gm_error *err);
/* Mean next-token loss in nats over targets >= 0 (0 when there is none); losses [B,T] per token when not NULL (0 where the target is < 0).
 * Test: tests/model/test_gradients.c, against a double oracle: 7e-7 */
gm_status gm_model_loss(gm_model *m, const int32_t *tokens, const int32_t *targets, int64_t B, int64_t T, double *mean, float *losses,
                        gm_error *err);

/* ---- decoding: one token after the other -------------------------------------------------------------------------------- */

typedef struct gm_decoder gm_decoder;

/* Room for one sequence of up to `capacity` tokens (1 .. the model's context). Uses the model's own buffers: one call at a time per model,
 * which must outlive it. Errors: GM_EINVAL (capacity), GM_ENOMEM. Ownership: *out is the caller's, freed by gm_decoder_free(NULL ok). */
gm_status gm_decoder_create(gm_decoder **out, gm_model *m, int64_t capacity, gm_error *err);
void gm_decoder_free(gm_decoder *d);
/* `count` more tokens; logits [V] of the last one (NULL: not wanted), as gm_model_logits gives them for the whole sequence. Errors:
 * GM_EINVAL (no room, a token outside the vocabulary; nothing is fed then), GM_ENOMEM. Test: tests/model/test_decode.c */
gm_status gm_decoder_feed(gm_decoder *d, const int32_t *tokens, int64_t count, float *logits, gm_error *err);
int64_t gm_decoder_length(const gm_decoder *d);
/* Forgets all but the first `length` tokens. */
void gm_decoder_rewind(gm_decoder *d, int64_t length);

/* How the next token is chosen from a row of logits z: the penalty, then softmax(z / temperature) over what top_k, top_p and min_p leave.
 */
typedef struct gm_sampling {
    double temperature;        /* 0: always the largest logit, the first of equals */
    int64_t top_k;             /* only the k largest; 0: all */
    double top_p;              /* of these the fewest that hold this share of the probability together; 1: all */
    double min_p;              /* and of these only those at least min_p times as probable as the largest; 0: all */
    double repetition_penalty; /* 1: none; a token that stands in the past has z / penalty, or z * penalty where z < 0 */
    uint64_t seed;
} gm_sampling;
void gm_sampling_defaults(gm_sampling *options); /* temperature 0.8, top_k 40, seed 1, no more filters */
typedef struct gm_sampler gm_sampler;
/* Errors: GM_EINVAL (an option out of its range), GM_ENOMEM. *out is freed by gm_sampler_free(NULL ok). */
gm_status gm_sampler_create(gm_sampler **out, const gm_sampling *options, int64_t vocab, gm_error *err);
void gm_sampler_free(gm_sampler *s);
/* The next id, from logits [vocab] and the `count` ids before it (used by the penalty alone). The n-th draw of a sampler depends on the
 * seed and n only. -1 where there is nothing to draw from: a NaN, or a largest logit that is infinite. Test: tests/model/test_sampler.c */
int32_t gm_sampler_next(gm_sampler *s, const float *logits, const int32_t *past, int64_t count);

/* ---- training ---------------------------------------------------------------------------------------------------------- */

typedef enum gm_schedule { GM_SCHEDULE_CONSTANT, GM_SCHEDULE_COSINE, GM_SCHEDULE_LINEAR } gm_schedule;

typedef struct gm_train_options {
    int64_t steps, batch, context, accumulate;    /* batch: sequences per step, over all accumulation parts */
    double lr, lr_min;                            /* lr_min: the schedule's end, as a share of lr */
    double beta1, beta2, eps, weight_decay, clip; /* clip: global gradient norm, 0: none */
    bool decay_norm_gains;                        /* the paper's --wd_LN_gamma */
    gm_schedule schedule;
    int64_t warmup, eval_every, eval_sequences, log_every, checkpoint_every; /* in steps; 0: only at the end (eval: never) */
    int64_t keep;                             /* the last so many checkpoints stay until the run is finished */
    int64_t measure_every, measure_sequences; /* norms, kurtosis and sinks into metrics.jsonl while they grow; 0: never; 16 sequences */
    uint64_t seed;
    const gm_model *from; /* surgery: begin with this model's weights instead of random ones, under another variant; NULL: random */
    const char *command;  /* the command line, for the record; NULL: none */
    int64_t ramp;         /* surgery: steps over which the normaliser moves from the source's to the variant's; 0: at once */
    bool shard_optimizer; /* several ranks: each holds the moments of its share of the weights only; changes no bit of the result */
} gm_train_options;
/* 1000 steps of 32 x 128, lr 1e-3 constant after 100 of warm-up, AdamW (0.9, 0.99, 1e-8), decay 0.1, clip 1, a log line every 10 steps, 2
 * checkpoints. */
void gm_train_defaults(gm_train_options *options);

typedef struct gm_train_progress {
    int64_t step, steps, resumed_at; /* resumed_at: 0 for a fresh run */
    double loss, val_loss /* NaN: not evaluated here */, grad_norm, lr, tokens_per_s, eta_s;
    double max_inf_norm, avg_kurtosis; /* when last measured (measure_every); NaN: not yet */
    const char *notice; /* once: what whoever runs this should know, as a damaged checkpoint that was passed over; else NULL */
} gm_train_progress;
/* Called after every step; return true to stop: the state is saved and GM_ESTOPPED returned. */
typedef bool (*gm_train_callback)(void *user, const gm_train_progress *progress);

typedef struct gm_train_result {
    int64_t step;
    double loss, val_loss, tokens_per_s; /* of the last step; of the end; over the time of all steps, evaluation not counted */
    int64_t diverged_at;                 /* step of the first non-finite loss, 0: none */
} gm_train_result;

/* Trains in `folder`: config.json, tokenizer.json, metrics.jsonl, event files for TensorBoard, model.safetensors, and the training state
 * beside it. A folder that
 * holds an unfinished run of the same configuration is continued, bit for bit as if never stopped; of another one: GM_EINVAL, nothing
 * touched; a finished one returns its result at once. Errors: GM_EINVAL (an option), GM_EDIVERGED (*result says when; said again on a
 * rerun), GM_ESTOPPED, GM_EFORMAT (a damaged folder; of checkpoints only where none is whole), GM_EIO (another process trains there, by
 * its id), GM_ENOMEM. Test: tests/train/test_train.c, test_training_golden.c (PyTorch)
 */
gm_status gm_train_run(const gm_ctx *ctx, const gm_model_config *cfg, const gm_data *data, const gm_train_options *options,
                       const char *folder, gm_train_callback callback, void *user, gm_train_result *result, gm_error *err);

/* ---- measuring: results as JSON text (the contract's fields), freed with free() ------------------------------------------------- */

typedef struct gm_eval_options {
    int64_t batch;     /* sequences or windows at a time; 0: 8 */
    int64_t sequences; /* at most this many validation sequences, or windows; 0: all */
    /* > 0: not the validation sequences but the whole text (gm_data_options.whole), as the Hugging Face perplexity recipe reads it: windows
     * of `context` tokens that move by `stride`. A window scores the tokens that no window before it held; of these the very first token
     * of a window has no context and is not scored, so with stride = context one in `context` is left out. BOS, when the data has it,
     * stands once, before the text. 1 <= stride <= context. */
    int64_t stride, context;
} gm_eval_options;
typedef struct gm_eval_result {
    double loss;          /* nats per scored token, each counted once */
    double recipe_loss;   /* windows only: the mean of the windows' means, each weighted by one less than its new tokens: the recipe to the
                             letter, which counts every window's scored tokens short by one (NaN without windows) */
    double bits_per_byte; /* NaN where bytes have no meaning (bb) */
    int64_t tokens, sequences; /* scored; sequences or windows */
} gm_eval_result;
/* Called after every batch; return true to stop (GM_ESTOPPED). */
typedef bool (*gm_eval_callback)(void *user, int64_t done, int64_t total);
/* Errors: GM_EINVAL (a stride over a stream or beyond the context, a text with nothing to score), GM_ENOMEM, those of gm_model_loss. Test:
 * tests/measure/test_evaluate.c */
gm_status gm_model_eval(gm_model *m, const gm_data *data, const gm_eval_options *options, gm_eval_callback callback, void *user,
                        gm_eval_result *result, gm_error *err);

typedef struct gm_measure_options {
    int64_t sequences, batch, context; /* 0: 64 sequences, 8 per batch (at most 8 are), the model's context */
    const char *convention;            /* NULL (ours), "opt-code", "bert-code" */
    bool details;                      /* everything that takes time: every tensor, histograms, dimensions, positions, classes per tensor,
                                        * the largest values, heads' entropy, output and value norms. About twice the time */
    int top;                           /* details: how many of the largest values, 0: 20 */
    gm_eval_callback callback;
    void *user;
} gm_measure_options;
/* Every metric of docs/numerics.md over the first validation sequences, in memory that does not grow with their number; changes nothing in
 * m; options NULL: defaults. The same file, batch and threads give the same bits; with the plain matrix product ("ref") any batch and any
 * threads do. *json NULL on failure. Errors: GM_EINVAL (convention, a negative number), GM_ENOMEM, GM_ESTOPPED (the callback), those of
 * gm_model_loss. Test: tests/measure/test_measure.c, and against an independent implementation in double test_measure_oracle.c */
gm_status gm_measure_model(gm_model *m, const gm_data *data, const gm_measure_options *options, char **json, gm_error *err);
enum { GM_SAMPLE_TOKENS = 64 };
/* One validation sequence's first GM_SAMPLE_TOKENS (or fewer) tokens in `folder`/sample.safetensors, for the eye: every tensor of the
 * measurement, every head's attention weights and null mass, the tokens and their texts (docs/formats.md). Changes nothing in m. Errors:
 * GM_EIO, GM_ENOMEM, those of gm_model_loss. Test: tests/measure/test_sample.c, tests/cli/cli_report.py */
gm_status gm_sample_write(gm_model *m, const gm_data *data, const char *folder, gm_error *err);
/* A measurement as files for reports and spreadsheets: measure.json (with a checksum, and `made`: ctx's machine and the command line, NULL:
 * none), tables of it as .csv, and of `sampled` on data (NULL: none) gm_sample_write's file (docs/formats.md). What the measurement does
 * not have makes no file. All are whole before the first is seen, and measure.json comes last. force: a measurement that stands there is
 * replaced, with its sample and report.html, once the new one is whole; else it is refused (GM_EINVAL, nothing touched), which
 * gm_measure_check_folder tells beforehand. Errors: GM_EINVAL (no measurement), GM_EIO, GM_ENOMEM, those of gm_sample_write. Test:
 * tests/cli/cli_measure.py, tests/crash/crash.py */
gm_status gm_measure_check_folder(const char *folder, bool force, gm_error *err);
gm_status gm_measure_write(const gm_ctx *ctx, const char *json, gm_model *sampled, const gm_data *data, const char *folder,
                           const char *command, bool force, gm_error *err);

/* ---- several processes: one job on many cores or machines, over MPI (docs/cluster.md) ---------------------------------------------- */

/* A launcher (mpirun, srun) starts P processes with the same command; each asks for its place with gm_dist_begin and makes its context with
 * it. Then these calls are collective, to be made by all ranks alike, and share the work: gm_train_run, gm_model_eval, gm_measure_model and
 * gm_lab_run. Results and errors are the same on every rank, files are written by rank 0 (a lab's runs by whoever does them), and a
 * callback that says stop stops all. Everything else does its work on every rank. Not thread-safe: one thread speaks for a process. */

/* What the launcher's environment says, without MPI: {0, 1} for a process started alone. */
typedef struct gm_launched {
    int rank, size;
    bool survive; /* when one is lost the others are not ended (mpirun --enable-recovery) */
} gm_launched;
gm_launched gm_dist_launched(void);

/* Joins the job (MPI_Init). *out NULL and GM_OK: this process was started alone, MPI is not touched. Errors: GM_EUNSUPPORTED (several
 * processes and a build without MPI), GM_EIO, GM_ENOMEM. Test: tests/cli/cli_mpi.py */
gm_status gm_dist_begin(gm_dist **out, gm_error *err);
/* Leaves it, when all ranks do (MPI_Finalize). NULL ok. false: the connection was lost; end the process, without waiting for others. */
bool gm_dist_end(gm_dist *d);
int gm_dist_rank(const gm_dist *d); /* 0 .. size-1; NULL: 0 of 1 */
int gm_dist_size(const gm_dist *d);
int gm_dist_threads(const gm_dist *d); /* a fair share of the processors, 0 for NULL: what gm_ctx_create then finds by itself */
/* Collective: GM_OK when all say so; else every rank gets the status and the words of the first that did not ("rank 3: ..."). */
gm_status gm_dist_agree(gm_dist *d, gm_status mine, gm_error *err);
/* Collective: GM_OK when the n bytes are the same on all ranks; else GM_EINVAL, "`what` of rank 3 differs from rank 0's". */
gm_status gm_dist_equal(gm_dist *d, const void *bytes, size_t n, const char *what, gm_error *err);

/* ---- quantizing --------------------------------------------------------------------------------------------------------- */

/* How much of a tensor shares one grid. */
typedef enum gm_quant_grain {
    GM_GRAIN_TENSOR,  /* all of it */
    GM_GRAIN_CHANNEL, /* weights: an output; activations: a feature, over all tokens */
    GM_GRAIN_TOKEN,   /* activations, attention, KV: a row, with its own range (dynamic) */
    GM_GRAIN_HEAD,    /* KV: one head's part of a row, with its own range */
    GM_GRAIN_GROUP,   /* `group` neighbours within a row; of activations with their own range */
} gm_quant_grain;

/* Where a range comes from. */
typedef enum gm_quant_range {
    GM_RANGE_MINMAX,     /* smallest and largest value; activations: of all calibration batches */
    GM_RANGE_RUNNING,    /* activations: of every batch, new = 0.1 batch + 0.9 old; the first batch begins */
    GM_RANGE_PERCENTILE, /* the same with percentiles (100 - p, p) of every batch */
    GM_RANGE_MSE,        /* the least squared error among 100 candidates (extreme + margin) i / 100 */
    GM_RANGE_GOLDEN,     /* the least squared error, by golden-section search */
} gm_quant_range;

/* One kind of tensor. All zero: left in f32. */
typedef struct gm_quantizer {
    int bits;             /* 2..16; 0: f32 */
    gm_quant_grain grain; /* group: neighbours per group */
    int64_t group;
    gm_quant_range range;
    double percentile; /* GM_RANGE_PERCENTILE: above 50, at most 100 */
    double margin;     /* GM_RANGE_MSE */
    bool asymmetric;   /* unsigned grid over [lo, hi] with a zero point; else signed about 0 */
    bool dynamic;      /* activations: the range of the batch at hand, not of calibration */
} gm_quantizer;

typedef enum gm_smooth { GM_SMOOTH_NONE, GM_SMOOTH_NORMS, GM_SMOOTH_LAYERS } gm_smooth;

typedef struct gm_quant_options {
    gm_quantizer weights;     /* linear layers and norm gains (these always whole) */
    gm_quantizer embeddings;  /* token and position tables, whole */
    gm_quantizer head;        /* LM head; a tied table is rounded apart, unless both have equal grids */
    gm_quantizer activations; /* everything but the next two */
    gm_quantizer attention;   /* QK^T before the mask, attention weights, PV */
    gm_quantizer kv;          /* what a cache holds: keys after their rotation, values */
    bool linear_only;         /* only linear layers: their weights, and activations where they enter one */
    bool attention_input;     /* also what enters the output projection (g o), as the executed path does; else only in linear_only */
    gm_smooth smooth;         /* SmoothQuant through the norms' gains; LAYERS: also v -> output, and up or ReLU -> down */
    double smooth_alpha;
    double outlier_threshold; /* LLM.int8(): input features that reach it in calibration stay in floating point; 0: none */
    int64_t calibration_batches, calibration_batch, sequences; /* 16; 8; validation sequences evaluated, 0: 64 */
    uint64_t seed;                                             /* whose training order is calibrated on */
} gm_quant_options;
void gm_quant_defaults(gm_quant_options *options); /* the preset w8a8, 16 batches of 8, seed 1 */
/* bits of weights and embeddings, of activations and attention; the head's where it is quantized. */
void gm_quant_set_bits(gm_quant_options *options, int weight_bits, int activation_bits);

typedef struct gm_quant_preset_info {
    const char *name, *summary, *source;
} gm_quant_preset_info;
/* The one table of published settings, by index; NULL past the end. */
const gm_quant_preset_info *gm_quant_preset_list(int index);
/* Errors: GM_EINVAL with the nearest name. Test: tests/quant/test_quantizers.c */
gm_status gm_quant_preset(gm_quant_options *options, const char *name, gm_error *err);
/* Every rule of the options, before anything is computed. Errors: GM_EINVAL naming the kind and the value. */
gm_status gm_quant_options_check(const gm_quant_options *options, gm_error *err);

/* Loss in nats of the model with simulated quantization (docs/numerics.md, 4); *f32_loss (NULL ok) of the same sequences without. m's
 * weights are untouched. Errors: GM_EINVAL (bits outside 2..16, an option), GM_ENOMEM, those of gm_model_loss. Test:
 * tests/quant/test_simulate.c */
gm_status gm_quant_simulated_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, double *loss, double *f32_loss,
                                  gm_error *err);
/* The same executed on integers: u8 activations x s8 weights, and attention's two products where attention has grids, summed exactly in 32
 * bits; the residual stream in f32, rounded where the simulation rounds (docs/numerics.md, 4). *simulated_loss and *f32_loss (NULL ok) are
 * of the same grids and sequences. Inputs that agree give the same integers as the simulation; an output differs by the rounding of the
 * simulation's f32 sums, which moves a value by at most one step of its grid, where it lay between two. Perplexities are within 0.1% over
 * some thousand tokens (docs/numerics.md, 4: why not over fewer). A gate sets attention_input, in both. Errors:
 * GM_EUNSUPPORTED (more than 8 bits where a product reads them, ranges per token, zero points or groups of weights, outlier columns, a
 * layer of more than 65536 inputs). Test: tests/quant/test_execute.c */
gm_status gm_quant_executed_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, double *loss, double *simulated_loss,
                                 double *f32_loss, gm_error *err);

/* A quantized model: weights as integers with their grids, the grids of its activations, and where it came from. */
typedef struct gm_quantized gm_quantized;
typedef enum gm_quant_mode { GM_QUANT_SIMULATED, GM_QUANT_EXECUTED } gm_quant_mode;

/* Calibrates m on data's training split. m must outlive *out and is untouched. Errors: GM_EINVAL (an option; more calibration sequences
 * than the text has: the line says how many there are), GM_EFORMAT (NaN or infinity in a weight or an activation, which is named),
 * GM_ENOMEM. Ownership: *out is the caller's, freed by gm_quantized_free. Test: tests/quant/test_quantized.c */
gm_status gm_quantized_make(gm_quantized **out, gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err);
/* A folder of config.json and model.safetensors (docs/formats.md, quantized models), and tokenizer.json unless t is NULL. */
gm_status gm_quantized_save(const gm_quantized *q, const gm_tokenizer *t, const char *folder, gm_error *err);
bool gm_quantized_is(const char *path); /* does this folder hold one? */
/* executed_only: the linear layers' weights are kept as integers alone, and GM_QUANT_SIMULATED is refused. Errors: GM_EIO, GM_EFORMAT
 * (damaged, altered: the tensor is named), GM_EUNSUPPORTED (executed_only of what integers do not run), GM_ENOMEM. */
gm_status gm_quantized_load(gm_quantized **out, const gm_ctx *ctx, const char *path, bool executed_only, gm_error *err);
void gm_quantized_free(gm_quantized *q);
const gm_quant_options *gm_quantized_options(const gm_quantized *q);
/* From here on the model computes in this mode, whoever calls it: gm_model_loss, gm_model_logits, gm_decoder_feed, gm_measure_model (which
 * then sees the rounded activations). Fresh ones simulate, executed_only ones execute. The model belongs to q. Errors: GM_EUNSUPPORTED with
 * the reason (executed: per-token ranges, more than 8 bits, outlier columns). */
gm_status gm_quantized_mode(gm_quantized *q, gm_quant_mode mode, gm_error *err);
gm_model *gm_quantized_model(gm_quantized *q);
/* Bytes of the weights as they are held for execution, and of the same model in f32. */
void gm_quantized_bytes(const gm_quantized *q, size_t *bytes, size_t *f32_bytes);

typedef enum gm_sensitivity { GM_SENSITIVITY_NONE, GM_SENSITIVITY_ALONE, GM_SENSITIVITY_SPARED } gm_sensitivity;
typedef struct gm_quant_report_options {
    gm_sensitivity sensitivity;    /* ALONE: each tensor quantized, the rest f32; SPARED: all but it */
    int64_t sequences, batch;      /* validation sequences; 0: the options' */
    int64_t sensitivity_sequences; /* of each tensor's perplexity, 0: 16 */
} gm_quant_report_options;
typedef struct gm_quant_progress {
    const char *phase, *tensor; /* "f32", "simulated", "executed", "sensitivity" */
    int64_t done, total;
} gm_quant_progress;
typedef bool (*gm_quant_callback)(void *user, const gm_quant_progress *progress); /* true: stop with GM_ESTOPPED */
/* What quantization costs (q from gm_quantized_make), as JSON ("ghostmax.quantize/1", docs/formats.md; freed with free()): the three
 * perplexities, per tensor range, step, SQNR and clipping, and by how much each alone moves the perplexity. */
gm_status gm_quantized_report(gm_quantized *q, const gm_data *data, const gm_quant_report_options *options, gm_quant_callback callback,
                              void *user, char **json, gm_error *err);

/* ---- converting: a model in other programs' files ------------------------------------------------------------------------------ */

typedef enum gm_format { GM_FORMAT_HF, GM_FORMAT_GGUF, GM_FORMAT_LLAMA2C } gm_format;
enum { GM_ZERO_TOKENS_AUTO = -1 };

typedef struct gm_convert_options {
    gm_format format;
    gm_dtype dtype;          /* of the matrices; HF: not q8_0, llama2c: f32 only */
    int64_t zero_tokens;     /* 0: the variant as it is (HF: ghostmax_<family>); n: must be the variant's n; auto: as many as it needs */
    int64_t max_shard_bytes; /* HF: a file's size; 0: one file */
    bool force;              /* overwrite */
} gm_convert_options;

typedef struct gm_convert_result {
    int64_t vocab, context;
    char architecture[64]; /* as the file says it: "llama", "ghostmax_gpt2" ... */
    int64_t zero_tokens;   /* how many stand before every prompt; 0: none */
    int32_t zero_token;    /* which; -1 */
    gm_bos_use bos;        /* does the prompt go on with BOS? */
    bool text;             /* it holds a tokenizer with which stock programs cut texts as t does */
} gm_convert_result;

/* gm_convert -- write m, with its tokenizer (NULL: none), as a folder (HF) or file `out`. A softmax1 or softmax_n model with integer n that
 * meets the conditions of docs/zero-token.md becomes a stock one of plain softmax with one token more, whose embedding is zero: prefixed n
 * times it gives the same logits. HF: config.json, model.safetensors, tokenizer.json, generation_config.json. *result NULL ok.
 * Errors: GM_EUNSUPPORTED (no zero token can stand for the variant: every reason; a format that cannot hold the model or the dtype),
 * GM_EINVAL (zero_tokens is not the variant's n), GM_EIO (out exists and force is not set; the system refused), GM_ENOMEM.
 * Test: tests/convert/, `make test-interop` */
gm_status gm_convert(const gm_model *m, const gm_tokenizer *t, const char *out, const gm_convert_options *options,
                     gm_convert_result *result, gm_error *err);

/* gm_config_zero_token -- the id of the zero token that gm_convert gave this model; -1: it has none. Its logit is always 0 and says
 * nothing: whoever draws from the logits sets it to -INFINITY before. Test: tests/convert/test_zero_token.c, tests/cli/cli_convert.py */
int32_t gm_config_zero_token(const gm_model_config *cfg);

/* ---- the lab -------------------------------------------------------------------------------------------------------------- */

typedef struct gm_lab_options {
    const char *models;   /* comma list of presets; NULL: the source's default */
    const char *variants; /* comma list of specs (commas inside a spec's keys belong to it); NULL: the source's default */
    gm_data_options data;
    gm_train_options train;
    gm_quant_options quant; /* of the table's W8A8; the other precisions replace its bits */
    const char *precisions; /* beside w8a8: "w6a6,w4a8"; NULL: w6a6 */
    bool no_ablations;      /* leave out softmax + SmoothQuant and softmax + LLM.int8() */
    int64_t seeds;
    int64_t measure_sequences;
    int64_t sensitivity_sequences; /* on which each tensor is quantized alone; 0: not done */
    const char *out;
    const char *overrides; /* "width=128,heads=2": applied to every preset */
    const char *command;   /* the command line, for the report */
} gm_lab_options;

/* What a run gave; NaN: it has none. */
typedef struct gm_lab_outcome {
    int64_t diverged_at; /* 0: it did not */
    double val_loss, max_inf_norm, avg_kurtosis, w8a8_ppl;
} gm_lab_outcome;
typedef struct gm_lab_progress {
    const char *variant, *model;
    uint64_t seed;
    int run, runs;                  /* 1-based */
    const char *phase;              /* "train", "measure", "quantize", "done" */
    bool reused;                    /* "done" in an earlier call: nothing was redone */
    const gm_train_progress *train; /* NULL outside "train" */
    const gm_lab_outcome *outcome;  /* NULL outside "done" */
} gm_lab_progress;
typedef bool (*gm_lab_callback)(void *user, const gm_lab_progress *progress);

/* Runs or continues the comparison in options->out. *results_json and *table_md (each freed with free(), NULL: not wanted) are what the
 * folder holds as results.json and table.md; of several ranks the first has them, or the one that wrote them in its place, the others NULL.
 * Errors: GM_EDIVERGED when a run diverged (the rest is done and written, both texts are given); GM_EINVAL (an option, or a folder of
 * another lab: nothing touched), GM_ESTOPPED, GM_EFORMAT (a damaged file, by name), GM_EIO, GM_ENOMEM. Test: tests/cli/cli_lab.py,
 * tests/lab/test_lab_parts.c, tests/mpi/mpi_ranks.py */
gm_status gm_lab_run(const gm_ctx *ctx, const gm_lab_options *options, gm_lab_callback callback, void *user, char **results_json,
                     char **table_md, gm_error *err);
/* What a trained model's folder lacks for a report of its own: measure.json (of so many sequences, with details), sample.safetensors, both
 * kept when they are there, and report.html. Errors: GM_ESTOPPED (the callback), those of gm_model_load, gm_measure_model and
 * gm_report_write. Test: tests/cli/cli_report.py */
gm_status gm_run_examine(const gm_ctx *ctx, const gm_data *data, const char *folder, int64_t sequences, gm_eval_callback callback,
                         void *user, gm_error *err);
/* What the report draws of these folders, as JSON (freed with free(); docs/formats.md): of labs, training runs
 * and audits as far as they are, finished or not; what compares is in one group (docs/formats.md). Its page asks for it again, as data.json
 * beside itself, every two seconds while it is served over http. Errors: GM_EFORMAT (damaged or altered), GM_EIO (no such folder, or
 * nothing in it that a report is of), GM_ENOMEM. Test: tests/cli/cli_report.py, `make test-report` */
gm_status gm_report_json(const char *const *folders, int count, char **json, gm_error *err);
/* The same as one self-contained HTML page. */
gm_status gm_report_write(const char *const *folders, int count, const char *path, gm_error *err);

typedef struct gm_text_style {
    int width;    /* columns, 30 to 200: what is outside is brought inside */
    bool colors;  /* ANSI's */
    bool unicode; /* braille and blocks; else ASCII alone */
} gm_text_style;
/* The same for a terminal, from the same JSON: tables, curves, layers, heads, and perplexity against bits (*text is freed with free()). No
 * line is wider than the style says. Control characters in files' texts are shown as "?". Errors: those of gm_report_json. Test:
 * tests/cli/cli_text_report.py, tests/report/test_text_chart.c */
gm_status gm_report_text(const char *const *folders, int count, const gm_text_style *style, char **text, gm_error *err);

typedef struct gm_live gm_live;
/* Serves the page and its data.json on 127.0.0.1 alone while whatever fills `folder` goes on; nothing else there is answered. *port 0: any
 * that is free; *port becomes the one. A thread of its own, which takes no signals, reads the folder when someone asks and it has changed,
 * at most once a second. Until there is something in it the page says so. Errors: GM_EINVAL (port), GM_EIO (the port is in use), GM_ENOMEM.
 * *out is stopped and freed by gm_live_stop(NULL ok). Test: tests/cli/cli_live.py */
gm_status gm_live_start(gm_live **out, const char *folder, int *port, gm_error *err);
void gm_live_stop(gm_live *live);

/* ---- speed: every part against the measured limits of this machine -------------------------------------------------------- */

typedef struct gm_bench_options {
    const char *filter; /* lines that have this in "GROUP NAME", upper or lower case; NULL: all */
    bool quick;         /* the lines that tell most, with fewer samples: under three minutes on two cores */
    bool list;          /* nothing is measured: the callback gets names only */
} gm_bench_options;

/* Times are per call: the median of the samples, the shortest, the 90th percentile, and the median distance from the median. */
typedef struct gm_bench_line {
    const char *group, *title, *name; /* title: of the group, for people. Valid during the callback */
    int threads;
    int64_t calls;
    double median_s, min_s, p90_s, mad_s;
    double rate;
    const char *unit;    /* of rate: "flop/s", "op/s" (8-bit integers), "B/s" */
    double percent;      /* of the limit: 100 * (the least seconds that the machine's peaks allow) / median */
    const char *bound;   /* what the limit is: "fma", "int8", or "read", "copy" with the size of the data: "copy 64M" */
    double tokens_per_s; /* 0: no tokens */
    double share;        /* of the step it is part of, 0..1; 0: no part */
    double speedup;      /* over the same in f32; 0: nothing to compare with */
    double memory_bytes; /* of the model's weights; 0: no model */
    double memory_share; /* of what they take in f32 */
    double over_softmax; /* time over softmax's, which takes turns with it: the median of the rounds' ratios; 0: not compared */
    double over_softmax_low, over_softmax_high; /* where that median lies with 95% */
} gm_bench_line;
/* Called once per line, as they come; return true to stop. */
typedef bool (*gm_bench_callback)(void *user, const gm_bench_line *line);

/* Measures on ctx's threads and kernels. *json (freed with free(), NULL: not wanted): the lines, the machine, how noisy it was, and what
 * was left out for lack of memory ("ghostmax.bench/1", docs/performance.md, which also says how the limits are measured). Errors:
 * GM_EINVAL (a filter that matches nothing: the line says what is near), GM_ENOMEM. Test: tests/bench/test_bench.c, tests/cli/cli_bench.py
 */
gm_status gm_bench_run(const gm_ctx *ctx, const gm_bench_options *options, gm_bench_callback callback, void *user, char **json,
                       gm_error *err);

/* ---- does this build compute the right thing on this machine? ---------------------------------------------------------------- */

typedef struct gm_selftest_line {
    const char *isa, *check; /* which kernels, what was compared */
    int64_t count;           /* how many comparisons */
    double error, allowed;   /* the largest error, in the check's own measure; NaN: something was no number */
    const char *worst;       /* where that was, "" where there is nothing to say. Valid during the callback */
    bool passed;
} gm_selftest_line;
/* Called once per line, as they come; return true to stop (GM_ESTOPPED). */
typedef bool (*gm_selftest_callback)(void *user, const gm_selftest_line *line);
/* Every kernel table that this machine has, up to the one that options (NULL: the defaults) choose: each slot beside the reference; rows,
 * attention, metrics and grids beside arithmetic in double; gradients by differences; twenty training steps with a known end; executed
 * integers beside their simulation (docs/numerics.md, 6). *passed: all of it. Errors, which say nothing about the kernels: those of
 * gm_ctx_create, GM_ENOMEM, GM_ESTOPPED. Test: tests/selftest/test_selftest.c, whose kernels are wrong on purpose */
gm_status gm_selftest_run(const gm_ctx_options *options, gm_selftest_callback callback, void *user, bool *passed, gm_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
