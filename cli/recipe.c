/* recipe.c -- what lab and train share: the options of data and training, and what the data source decides where nothing is said. */
#include "cli.h"

#include <math.h>
#include <string.h>

#define DATA(name, value, type, field, help) \
    { name, value, help, type, offsetof(gm_data_options, field), 0, 0, NULL }
const cli_option cli_data_options[] = {
    DATA("data", "SOURCE", CLI_TEXT, source, "stories or bb (built in), or a file: text, or tokens written by `ghostmax tokenize`"),
    {"tokens", "KIND", "bytes, chars or words", CLI_TEXT, offsetof(gm_data_options, tokens), 0, 0, "from the data source"},
    {"vocab", "N", "words: how many; the rest becomes <unk>", CLI_COUNT, offsetof(gm_data_options, vocab), 2, 1 << 24,
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
    STEPS("log-every", log_every, 0, "steps between lines of metrics.jsonl", NULL),
    STEPS("eval-sequences", eval_sequences, 1, "validation sequences", NULL),
    STEPS("measure-every", measure_every, 0, "steps between measurements into metrics.jsonl; 0: never", "a tenth of --steps"),
    STEPS("checkpoint-every", checkpoint_every, 0, "steps between checkpoints; 0: a tenth of --steps, and every minute", NULL),
    {0}};

void cli_train_defaults(gm_train_options *train) {
    gm_train_defaults(train);
    train->steps = train->batch = train->context = 0;
    train->lr = 0;
    train->warmup = train->eval_every = train->measure_every = -1;
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
    if (train->measure_every < 0)
        train->measure_every = tenth;
    data->context = train->context;
    return GM_OK;
}

/* ---- tables in help ------------------------------------------------------------------------------------------------------- */

void cli_help_sources(FILE *out) {
    const gm_data_defaults *d;
    fprintf(out, "\nData sources, and what they bring when nothing else is said\n");
    for (int i = 0; (d = gm_data_default_list(i)); i++) {
        char text[768], vocab[32] = "";
        if (d->vocab > 0)
            snprintf(vocab, sizeof vocab, " (%lld)", (long long)d->vocab);
        snprintf(text, sizeof text,
                 "%s: --model %s --tokens %s%s --batch %lld --context %lld --steps %lld --lr %g; lab: --seeds %lld --variants %s",
                 d->summary, d->model, d->tokens, vocab, (long long)d->batch, (long long)d->context, (long long)d->steps, d->lr,
                 (long long)d->seeds, d->variants);
        cli_help_entry(out, d->source, text);
    }
}

void cli_help_variants(FILE *out) {
    const gm_variant_info *v;
    fprintf(out, "\nVariants: name[:key=value,...], joined with + (softmax1+gated)\n");
    for (int i = 0; (v = gm_variant_list(i)); i++) {
        char head[96], text[512];
        snprintf(head, sizeof head, "%s%s%s", v->name, *v->keys ? ":" : "", v->keys);
        snprintf(text, sizeof text, "%s (%s)", v->summary, v->source);
        cli_help_entry(out, head, text);
    }
}

void cli_help_presets(FILE *out) {
    const gm_preset_info *p;
    fprintf(out, "\nPresets of --model\n");
    for (int i = 0; (p = gm_preset_list(i)); i++)
        cli_help_entry(out, p->name, p->summary);
}
