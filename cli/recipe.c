/* recipe.c -- what lab and train share: the options of data and training, and what the data source decides where nothing is said. */
#include "cli.h"

#include <math.h>
#include <string.h>

#define DATA(name, value, type, field, help) \
    { name, value, help, type, offsetof(gm_data_options, field), 0, 0, NULL }
const cli_option cli_data_options[] = {
    DATA("data", "SOURCE", CLI_TEXT, source, "stories or bb (built in), or a file: text, or tokens written by `ghostmax tokenize`"),
    {"tokens", "bytes|chars|words|bpe", "what a token is", CLI_TEXT, offsetof(gm_data_options, tokens), 0, 0, "from the data source"},
    {"vocab", "N", "words: how many, the rest becomes <unk>; bpe: how many tokens", CLI_COUNT, offsetof(gm_data_options, vocab), 2, 1 << 24,
     "from the data source"},
    DATA("keep-case", NULL, CLI_FLAG, keep_case, "words: do not lower-case"),
    DATA("bos", NULL, CLI_UNFLAG, no_bos, "begin every sequence with BOS (the default)"),
    DATA("no-bos", NULL, CLI_FLAG, no_bos, "do not"),
    {"tokenizer", "FILE", "use this tokenizer.json instead of building one", CLI_TEXT, offsetof(gm_data_options, tokenizer), 0, 0, NULL},
    {0}};

#define STEPS(name, field, min, help, otherwise) \
    { name, "N", help, CLI_COUNT, offsetof(gm_train_options, field), min, 1e9, otherwise }
#define RATE(name, field, min, max, help, otherwise) \
    { name, "X", help, CLI_REAL, offsetof(gm_train_options, field), min, max, otherwise }
const cli_option cli_train_options[] = {
    STEPS("steps", steps, 1, "optimizer steps", "from the data source"),
    STEPS("batch", batch, 1, "sequences per step", "from the data source"),
    STEPS("context", context, 1, "tokens per sequence, and the model's context", "from the data source, at most the preset's"),
    RATE("lr", lr, 1e-12, 100, "learning rate", "from the data source"),
    RATE("lr-min", lr_min, 0, 1, "the schedule's end, as a share of --lr", NULL),
    {"schedule", "constant|cosine|linear", "after the warm-up", CLI_CHOICE, offsetof(gm_train_options, schedule), 0, 0, NULL},
    STEPS("warmup", warmup, 0, "steps of linear warm-up", "100, at most a tenth of --steps"),
    RATE("weight-decay", weight_decay, 0, 100, "of matrices, decoupled", NULL),
    {"decay-norm-gains", NULL, "decay norm gains too (the paper's --wd_LN_gamma)", CLI_FLAG, offsetof(gm_train_options, decay_norm_gains),
     0, 0, NULL},
    RATE("beta1", beta1, 0, 0.999999, "AdamW", NULL),
    RATE("beta2", beta2, 0, 0.999999, "AdamW", NULL),
    RATE("eps", eps, 1e-30, 1, "AdamW", NULL),
    RATE("clip", clip, 0, 1e9, "global gradient norm; 0: none", NULL),
    STEPS("accumulate", accumulate, 1, "parts that a batch is computed in", NULL),
    {"seed", "N", "of initialisation and data order", CLI_SEED, offsetof(gm_train_options, seed), 0, 9e15, NULL},
    STEPS("eval-every", eval_every, 0, "steps between validations; 0: only at the end", "a tenth of --steps"),
    STEPS("log-every", log_every, 0, "steps between lines of metrics.jsonl", "10; in a long run so many that it has 5,000 lines"),
    STEPS("eval-sequences", eval_sequences, 1, "validation sequences", NULL),
    STEPS("measure-every", measure_every, 0, "steps between measurements into metrics.jsonl; 0: never", "a tenth of --steps"),
    STEPS("checkpoint-every", checkpoint_every, 0, "steps between checkpoints; 0: a tenth of --steps, and every minute", NULL),
    {"keep", "N", "the last N checkpoints stay until the run is finished: a damaged one does not lose it", CLI_COUNT,
     offsetof(gm_train_options, keep), 1, 1000, NULL},
    {0}};

void cli_train_defaults(gm_train_options *train) {
    gm_train_defaults(train);
    train->steps = train->batch = train->context = 0;
    train->lr = 0;
    train->warmup = train->eval_every = train->log_every = train->measure_every = -1;
}

/* The shortest context among the presets: a table of learned positions is not stretched behind the user's back. */
static gm_status shortest_context(int64_t *context, const char *presets, gm_error *err) {
    for (const char *p = presets; *p;) {
        char name[64];
        size_t n = strcspn(p, ",");
        gm_model_config cfg;
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        gm_status status = gm_model_config_preset(&cfg, name, err);
        if (status != GM_OK)
            return status;
        if (cfg.context > 0 && cfg.context < *context)
            *context = cfg.context;
        p += n + (p[n] == ',');
    }
    return GM_OK;
}

gm_status cli_train_fill(gm_train_options *train, gm_data_options *data, const char *presets, gm_error *err) {
    const gm_data_defaults *source = gm_data_default_of(data->source);
    if (!train->steps)
        train->steps = source->steps;
    if (!train->batch)
        train->batch = source->batch;
    if (train->lr == 0)
        train->lr = source->lr;
    if (!train->context) {
        train->context = source->context;
        gm_status status = shortest_context(&train->context, presets ? presets : source->model, err);
        if (status != GM_OK)
            return status;
    }
    int64_t tenth = (train->steps + 9) / 10;
    if (train->warmup < 0)
        train->warmup = tenth < 100 ? tenth : 100;
    if (train->eval_every < 0)
        train->eval_every = tenth;
    if (train->log_every < 0)
        train->log_every = train->steps > 50000 ? (train->steps + 4999) / 5000 : 10;
    if (train->measure_every < 0)
        train->measure_every = tenth;
    data->context = train->context;
    return GM_OK;
}

/* ---- quantizers ----------------------------------------------------------------------------------------------------------- */

static const char preset_says[] = "the preset's";
#define BITS(name, field, help) \
    { name, "N", help, CLI_SMALL, offsetof(cli_quant, field), 0, 16, preset_says }
#define WORD(name, values, field, help) \
    { name, values, help, CLI_CHOICE, offsetof(cli_quant, field), 0, 0, preset_says }
#define NUMBER(name, field, min, max, help) \
    { name, "X", help, CLI_REAL, offsetof(cli_quant, field), min, max, preset_says }
#define COUNT(name, field, help) \
    { name, "N", help, CLI_COUNT, offsetof(cli_quant, field), 1, 1 << 20, preset_says }
const cli_option cli_quant_options[] = {
    {"preset", "SETTING", "a published setting, listed below; the other options replace its parts", CLI_TEXT, offsetof(cli_quant, preset),
     0, 0, NULL},
    BITS("weight-bits", weight_bits, "linear layers and norm gains: 2 to 16 bits, 0: f32"),
    BITS("activation-bits", activation_bits, "activations (attention's products too, where --attention-bits says nothing)"),
    BITS("attention-bits", attention_bits, "QK^T, attention weights, PV"),
    BITS("kv-bits", kv_bits, "the KV cache: keys after their rotation, and values (simulated)"),
    BITS("embedding-bits", embedding_bits, "token and position tables"),
    {"quantize-head", NULL, "the LM head too, with the weights' quantizer", CLI_FLAG, offsetof(cli_quant, quantize_head), 0, 0, NULL},
    BITS("head-bits", head_bits, "of the LM head"),
    WORD("weights-per", "tensor|channel|group", weight_grain, "which weights share a grid: all, an output's, or a group of an output's"),
    WORD("activations-per", "tensor|channel|token|group", activation_grain,
         "which activations do; tokens and groups have the range of the moment"),
    WORD("kv-per", "tensor|token|head|group", kv_grain, "which keys and values do [token]"),
    COUNT("group-size", group, "neighbours in a group (128)"),
    WORD("weight-range", "minmax|mse|golden", weight_range,
         "absmax, the best of 100 candidates, or golden-section search on squared error"),
    WORD("activation-range", "minmax|running|percentile|mse|golden", activation_range,
         "of all calibration batches, running (momentum 0.9), percentiles of each batch, or by squared error"),
    NUMBER("percentile", percentile, 50, 100, "activation ranges by this percentile, e.g. 99.999"),
    NUMBER("range-margin", margin, 0, 1e6, "what --weight-range mse adds to the largest value; published: 0.5"),
    WORD("weight-grid", "symmetric|asymmetric", weight_zero, "signed grid about 0, or unsigned with a zero point"),
    WORD("activation-grid", "symmetric|asymmetric", activation_zero, "the same for activations"),
    {"dynamic", NULL, "activation ranges of the batch at hand instead of calibrated ones", CLI_FLAG, offsetof(cli_quant, dynamic), 0, 0,
     NULL},
    WORD("where", "everywhere|linear", where, "round every activation, or only what enters a linear layer"),
    WORD("smooth", "none|norms|layers", smooth, "SmoothQuant: move scales into weights through the norms, or also through v and the FFN"),
    NUMBER("smooth-alpha", smooth_alpha, 0, 1, "how much of the activations' scale is moved"),
    NUMBER("outlier-threshold", outlier_threshold, 0, 1e30, "LLM.int8(): features that reach it stay in floating point; 0: none"),
    COUNT("calibration-batches", calibration_batches, "batches of training data that set the ranges"),
    COUNT("calibration-batch", calibration_batch, "sequences in each"),
    {0}};

void cli_quant_defaults(cli_quant *q) {
    *q = (cli_quant){.preset = gm_quant_preset_list(0)->name,
                     .weight_bits = -1,
                     .activation_bits = -1,
                     .attention_bits = -1,
                     .kv_bits = -1,
                     .embedding_bits = -1,
                     .head_bits = -1,
                     .weight_grain = -1,
                     .activation_grain = -1,
                     .kv_grain = -1,
                     .weight_range = -1,
                     .activation_range = -1,
                     .weight_zero = -1,
                     .activation_zero = -1,
                     .where = -1,
                     .smooth = -1,
                     .margin = -1,
                     .smooth_alpha = -1,
                     .outlier_threshold = -1};
}

static void set_int(int *to, int given) {
    *to = given >= 0 ? given : *to;
}

gm_status cli_quant_fill(gm_quant_options *o, const cli_quant *q, gm_error *err) {
    static const gm_quant_grain weight_grains[] = {GM_GRAIN_TENSOR, GM_GRAIN_CHANNEL, GM_GRAIN_GROUP};
    static const gm_quant_grain grains[] = {GM_GRAIN_TENSOR, GM_GRAIN_CHANNEL, GM_GRAIN_TOKEN, GM_GRAIN_GROUP};
    static const gm_quant_grain kv_grains[] = {GM_GRAIN_TENSOR, GM_GRAIN_TOKEN, GM_GRAIN_HEAD, GM_GRAIN_GROUP};
    static const gm_quant_range weight_ranges[] = {GM_RANGE_MINMAX, GM_RANGE_MSE, GM_RANGE_GOLDEN};
    gm_status status = gm_quant_preset(o, q->preset, err);
    if (status != GM_OK)
        return status;
    gm_quantizer *activations[] = {&o->activations, &o->attention};
    set_int(&o->weights.bits, q->weight_bits);
    if (q->weight_grain >= 0)
        o->weights.grain = weight_grains[q->weight_grain];
    if (q->weight_range >= 0) {
        o->weights.range = weight_ranges[q->weight_range];
        o->weights.margin = o->weights.range == GM_RANGE_MSE ? 0.5 : 0; /* as published */
    }
    if (q->margin >= 0)
        o->weights.margin = q->margin;
    if (q->weight_zero >= 0)
        o->weights.asymmetric = q->weight_zero;
    o->weights.group = q->group ? q->group : 128;
    if (o->embeddings.bits || q->embedding_bits > 0) { /* tables follow the weights, whole */
        o->embeddings = o->weights;
        o->embeddings.grain = GM_GRAIN_TENSOR;
        set_int(&o->embeddings.bits, q->embedding_bits);
    }
    if (q->quantize_head || q->head_bits > 0) {
        o->head = o->weights;
        if (o->embeddings.bits) /* a tied table is stored once when both uses agree */
            o->head.grain = o->embeddings.grain;
        set_int(&o->head.bits, q->head_bits);
    }
    for (int i = 0; i < 2; i++) {
        gm_quantizer *a = activations[i];
        if (a->bits || i == 0)
            set_int(&a->bits, q->activation_bits);
        if (q->activation_range >= 0)
            a->range = (gm_quant_range)q->activation_range;
        if (q->percentile > 0 && q->activation_range < 0)
            a->range = GM_RANGE_PERCENTILE;
        if (a->range == GM_RANGE_PERCENTILE)
            a->percentile = q->percentile > 0 ? q->percentile : a->percentile > 0 ? a->percentile : 99.999;
        if (q->activation_zero >= 0)
            a->asymmetric = q->activation_zero;
        a->dynamic |= q->dynamic;
    }
    if (q->activation_grain >= 0) {
        o->activations.grain = grains[q->activation_grain];
        bool own = o->activations.grain == GM_GRAIN_TOKEN || o->activations.grain == GM_GRAIN_GROUP;
        o->attention.grain = own ? GM_GRAIN_TOKEN : GM_GRAIN_TENSOR;
    }
    o->activations.group = q->group ? q->group : 128;
    set_int(&o->attention.bits, q->attention_bits);
    if (q->attention_bits > 0 && o->attention.range == GM_RANGE_MINMAX) /* a preset without them */
        o->attention = (gm_quantizer){.bits = q->attention_bits, .range = GM_RANGE_RUNNING, .asymmetric = true};
    if (q->kv_bits > 0)
        o->kv = (gm_quantizer){.bits = q->kv_bits,
                               .grain = q->kv_grain >= 0 ? kv_grains[q->kv_grain] : GM_GRAIN_TOKEN,
                               .group = q->group ? q->group : 32,
                               .range = GM_RANGE_RUNNING,
                               .asymmetric = true};
    if (q->where >= 0)
        o->linear_only = q->where == 1;
    if (q->smooth >= 0)
        o->smooth = (gm_smooth)q->smooth;
    if (q->smooth_alpha >= 0)
        o->smooth_alpha = q->smooth_alpha;
    if (q->outlier_threshold >= 0)
        o->outlier_threshold = q->outlier_threshold;
    if (q->calibration_batches > 0)
        o->calibration_batches = q->calibration_batches;
    if (q->calibration_batch > 0)
        o->calibration_batch = q->calibration_batch;
    return gm_quant_options_check(o, err);
}

/* ---- tables in help ------------------------------------------------------------------------------------------------------- */

void cli_help_sources(cli_page *page) {
    const gm_data_defaults *d;
    cli_page_heading(page, "Data sources, and what they bring when nothing else is said");
    for (int i = 0; (d = gm_data_default_list(i)); i++) {
        char text[768], vocab[32] = "";
        if (d->vocab > 0)
            snprintf(vocab, sizeof vocab, " (%lld)", (long long)d->vocab);
        snprintf(text, sizeof text,
                 "%s: --model %s --tokens %s%s --batch %lld --context %lld --steps %lld --lr %g; lab: --seeds %lld --variants %s",
                 d->summary, d->model, d->tokens, vocab, (long long)d->batch, (long long)d->context, (long long)d->steps, d->lr,
                 (long long)d->seeds, d->variants);
        cli_page_entry(page, d->source, text);
    }
}

void cli_help_variants(cli_page *page) {
    const gm_variant_info *v;
    cli_page_heading(page, "Variants: name[:key=value,...], joined with + (softmax1+gated)");
    for (int i = 0; (v = gm_variant_list(i)); i++) {
        char head[96], text[512];
        snprintf(head, sizeof head, "%s%s%s", v->name, *v->keys ? ":" : "", v->keys);
        snprintf(text, sizeof text, "%s (%s)", v->summary, v->source);
        cli_page_entry(page, head, text);
    }
}

void cli_help_presets(cli_page *page) {
    const gm_preset_info *p;
    cli_page_heading(page, "Presets of --model");
    for (int i = 0; (p = gm_preset_list(i)); i++)
        cli_page_entry(page, p->name, p->summary);
}

void cli_help_quant_presets(cli_page *page) {
    const gm_quant_preset_info *p;
    cli_page_heading(page, "Presets of --preset");
    for (int i = 0; (p = gm_quant_preset_list(i)); i++) {
        char text[256];
        snprintf(text, sizeof text, "%s (%s)", p->summary, p->source);
        cli_page_entry(page, p->name, text);
    }
}
