/* lab_results.c -- results.json: the metrics' table, a row per model and variant, and the paired differences to softmax. */
#include "lab.h"

#include <math.h>
#include <string.h>

/* A name with a * stands once for every precision. Names without a source in lab.c's values_of are fields of measure.json. */
static const gm_metric all_metrics[] = {
    {"val_loss", "val loss", GM_TABLE_RESULTS, -1, true, false, "validation loss"},
    {"ppl", "ppl", GM_TABLE_RESULTS, -1, false, false, ""},
    {"max_inf_norm", "max inf norm", GM_TABLE_RESULTS, -1, true, true, "largest activation (max inf norm)"},
    {"avg_kurtosis", "avg kurtosis", GM_TABLE_RESULTS, -1, true, true, "average kurtosis"},
    {"*_ppl", "* ppl", GM_TABLE_RESULTS | GM_TABLE_QUANTIZED, -1, false, false, ""},
    {"max_kurtosis", "max kurtosis", GM_TABLE_MORE, -1, false, false, ""},
    {"weight_kurtosis", "weight kurtosis", GM_TABLE_MORE, -1, false, false, ""},
    {"weight_inf_norm", "weight inf norm", GM_TABLE_MORE, -1, false, false, ""},
    {"sink_rate", "sink rate %", GM_TABLE_MORE, -1, true, false, "sink rate"},
    {"null_mass", "null mass", GM_TABLE_MORE, 0, false, false, ""},
    {"train_tokens_per_s", "trained tokens/s", GM_TABLE_MORE, 1, false, false, ""},
    {"w8a8_executed_ppl", "INT8 ppl", GM_TABLE_QUANTIZED, -1, false, false, ""},
    {"w8a8_executed_tokens_per_s", "INT8 tokens/s", GM_TABLE_QUANTIZED, 1, false, false, ""},
    {"f32_tokens_per_s", "f32 tokens/s", GM_TABLE_QUANTIZED, 1, false, false, ""},
    {"*_loss_increase", "* loss increase", 0, -1, true, true, "loss added by * quantization"},
    {"train_loss", "train loss", 0, -1, false, false, ""},
    {"sink_mass", "mass on position 0", 0, 0, false, false, ""},
    {"unspent", "unspent", 0, 0, false, false, ""},
    {"max_ffn_inf_norm", "max inf norm, FFN", 0, -1, false, false, ""},
    {"max_all_inf_norm", "max inf norm, all", 0, -1, false, false, ""},
    {"max_inf_norm_without_first", "max inf norm without position 0", 0, -1, false, false, ""},
    {"avg_kurtosis_without_first", "avg kurtosis without position 0", 0, -1, false, false, ""},
    {"weight_kurtosis_max", "largest weight kurtosis", 0, -1, false, false, ""},
    {"weight_inf_norm_max", "largest weight inf norm", 0, -1, false, false, ""},
};

/* `text` with its * replaced by the precision: "w6a8" in names, "W6A8" in what is read. */
static void expand(char *text, size_t size, const char *precision, bool upper) {
    char *star = strchr(text, '*');
    size_t n = strlen(precision);
    if (!star || strlen(text) - 1 + n >= size)
        return;
    memmove(star + n, star + 1, strlen(star));
    for (size_t i = 0; i < n; i++)
        star[i] = upper && precision[i] == 'w' ? 'W' : upper && precision[i] == 'a' ? 'A' : precision[i];
}

void gm_lab_metrics(gm_metrics *out, const gm_precision *precisions, int count) {
    out->count = 0;
    for (int i = 0; i < GM_COUNT(all_metrics); i++) {
        bool each = strchr(all_metrics[i].name, '*') != NULL;
        for (int k = 0; k < (each ? count : 1); k++) {
            gm_metric *m = &out->list[out->count++];
            *m = all_metrics[i];
            expand(m->name, sizeof m->name, precisions[k].name, false);
            expand(m->title, sizeof m->title, precisions[k].name, true);
            expand(m->why, sizeof m->why, precisions[k].name, true);
        }
    }
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

/* The runs of one row lie `stride` apart (list_runs goes seed by seed). */
typedef struct row_runs {
    const gm_trial *first;
    int stride, count;
} row_runs;

static int values_by_seed(double *values, const row_runs *row, const char *metric) {
    for (int i = 0; i < row->count; i++) {
        const json_t *value = json_object_get(row->first[(int64_t)i * row->stride].values, metric);
        values[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return row->count;
}

static json_t *spread_of_values(const double *values, int n) {
    gm_spread s = gm_spread_of(values, n);
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, number(values[i]));
    return json_pack("{s:o, s:o, s:o}", "mean", number(s.mean), "std", number(s.std), "values", list);
}

static json_t *spread_json(const row_runs *row, const char *metric) {
    double values[GM_LAB_SEEDS] = {0};
    return spread_of_values(values, values_by_seed(values, row, metric));
}

/* variant minus softmax, seed by seed: what the seeds have in common cancels. The interval needs 3 pairs. */
static json_t *paired_json(const row_runs *row, const row_runs *base, const gm_metrics *metrics) {
    json_t *root = json_object();
    for (const gm_metric *m = metrics->list; m < metrics->list + metrics->count; m++) {
        double a[GM_LAB_SEEDS] = {0}, b[GM_LAB_SEEDS] = {0};
        if (!m->compared)
            continue;
        int n = values_by_seed(a, row, m->name);
        values_by_seed(b, base, m->name);
        for (int i = 0; i < n; i++)
            a[i] -= b[i];
        gm_spread s = gm_spread_of(a, n), from = gm_spread_of(b, n);
        double half = s.n >= 3 ? gm_spread_interval95(&s) : NAN;
        json_object_set_new(root, m->name,
                            json_pack("{s:o, s:o, s:o, s:o, s:i}", "difference", number(s.mean), "low", number(s.mean - half), "high",
                                      number(s.mean + half), "relative", number(s.mean / fabs(from.mean)), "pairs", s.n));
    }
    return root;
}

/* Which tensor costs most when it alone is quantized to W8A8, by the mean over seeds: {tensor, loss_increase}; null: not asked for. */
static json_t *costliest_json(const row_runs *row) {
    json_t *by_seed[GM_LAB_SEEDS], *best = json_null(), *ignored;
    double best_mean = -INFINITY;
    const char *tensor;
    int first = 0; /* that did not diverge */
    for (int i = 0; i < row->count; i++) {
        by_seed[i] = gm_lab_sensitivity(row->first[(int64_t)i * row->stride].quant);
        first = json_object_size(by_seed[first]) ? first : i;
    }
    json_object_foreach(by_seed[first], tensor, ignored) {
        double values[GM_LAB_SEEDS] = {0};
        for (int i = 0; i < row->count; i++) {
            const json_t *cost = json_object_get(by_seed[i], tensor);
            values[i] = json_is_number(cost) ? json_number_value(cost) : NAN;
        }
        double mean = gm_spread_of(values, row->count).mean;
        if (mean > best_mean) {
            best_mean = mean;
            json_decref(best);
            best = json_pack("{s:s, s:o}", "tensor", tensor, "loss_increase", spread_of_values(values, row->count));
        }
    }
    for (int i = 0; i < row->count; i++)
        json_decref(by_seed[i]);
    return best;
}

static json_t *row_json(const gm_lab_plan *plan, int model, int variant, const row_runs *row, const row_runs *base) {
    gm_model_config cfg = plan->models[model].cfg;
    gm_model_size size;
    json_t *root = json_object(), *diverged = json_array(), *runs = json_array();
    cfg.attention = plan->variants[variant];
    gm_model_config_size(&size, &cfg, plan->options->train.batch, plan->options->train.context);
    json_object_set_new(root, "model", json_string(plan->models[model].preset));
    json_object_set_new(root, "variant", json_string(plan->specs[variant]));
    json_object_set_new(root, "params", json_integer(size.parameters));
    json_object_set_new(root, "params_of_variant", json_integer(size.attention_parameters_extra));
    json_object_set_new(root, "train_flops_per_token", number(size.flops_per_token_train));
    json_object_set_new(root, "seeds", json_integer(row->count));
    for (const gm_metric *m = plan->metrics.list; m < plan->metrics.list + plan->metrics.count; m++)
        json_object_set_new(root, m->name, spread_json(row, m->name));
    json_object_set_new(root, "costliest", costliest_json(row));
    for (int i = 0; i < row->count; i++) {
        const gm_trial *run = &row->first[(int64_t)i * row->stride];
        json_t *entry = json_pack("{s:I, s:s}", "seed", (json_int_t)run->seed, "folder", run->name);
        if (run->diverged) {
            json_array_append_new(diverged, json_integer((json_int_t)run->seed));
            json_object_set_new(entry, "diverged_at", json_integer(run->diverged_at));
        }
        json_array_append_new(runs, entry);
    }
    if (json_array_size(diverged) > 0)
        json_object_set(root, "diverged", diverged);
    json_decref(diverged);
    json_object_set_new(root, "runs", runs);
    if (base && base->first != row->first)
        json_object_set_new(root, "paired", paired_json(row, base, &plan->metrics));
    return root;
}

/* Plain softmax under another way to quantize: its losses per precision, and nothing that quantization leaves alone. */
static json_t *ablation_json(const gm_lab_plan *plan, int model, const row_runs *softmax, const gm_ablation *a) {
    json_t *root = json_pack("{s:s, s:s, s:s, s:I}", "model", plan->models[model].preset, "variant", a->title, "quantizer", a->name,
                             "seeds", (json_int_t)softmax->count);
    for (int p = 0; p < plan->precision_count; p++) {
        double ppl[GM_LAB_SEEDS] = {0}, increase[GM_LAB_SEEDS] = {0};
        char name[48];
        for (int i = 0; i < softmax->count; i++) {
            const gm_trial *run = &softmax->first[(int64_t)i * softmax->stride];
            snprintf(name, sizeof name, "%s_loss", plan->precisions[p].name);
            const json_t *loss = json_object_get(json_object_get(run->quant, a->name), name),
                         *f32 = json_object_get(run->quant, "f32_loss");
            ppl[i] = json_is_number(loss) ? exp(json_number_value(loss)) : NAN;
            increase[i] = json_is_number(loss) && json_is_number(f32) ? json_number_value(loss) - json_number_value(f32) : NAN;
        }
        snprintf(name, sizeof name, "%s_ppl", plan->precisions[p].name);
        json_object_set_new(root, name, spread_of_values(ppl, softmax->count));
        snprintf(name, sizeof name, "%s_loss_increase", plan->precisions[p].name);
        json_object_set_new(root, name, spread_of_values(increase, softmax->count));
    }
    return root;
}

json_t *gm_lab_results(const gm_lab_plan *plan, const gm_ctx *ctx, json_t *config, const gm_trial *runs, int run_count) {
    json_t *rows = json_array(), *ablations = json_array();
    int V = plan->variant_count, per_model = run_count / plan->model_count;
    for (int m = 0; m < plan->model_count; m++) {
        row_runs base = {0}, row = {NULL, V, (int)plan->seeds};
        for (int v = 0; v < V; v++) {
            if (strcmp(plan->specs[v], "softmax") == 0)
                base = (row_runs){runs + m * per_model + v, V, (int)plan->seeds};
        }
        for (int v = 0; v < V; v++) {
            row.first = runs + m * per_model + v;
            json_array_append_new(rows, row_json(plan, m, v, &row, base.first ? &base : NULL));
        }
        const gm_ablation *a;
        for (int i = 0; base.first && !plan->options->no_ablations && (a = gm_lab_ablation(i)); i++)
            json_array_append_new(ablations, ablation_json(plan, m, &base, a));
    }
    json_t *metrics = json_array();
    for (const gm_metric *m = plan->metrics.list; m < plan->metrics.list + plan->metrics.count; m++)
        json_array_append_new(metrics, json_pack("{s:s, s:s, s:i, s:i, s:b}", "name", m->name, "title", m->title, "better", m->better,
                                                 "tables", m->tables, "by_size", m->by_size));
    json_t *machine = json_pack("{s:s, s:s, s:i, s:s}", "isa", gm_ctx_isa(ctx), "gemm", gm_ctx_gemm(ctx), "threads", gm_ctx_threads(ctx),
                                "compiler", __VERSION__);
    json_t *root = json_pack("{s:s, s:s, s:s, s:O, s:o, s:o, s:o, s:o}", "schema", "ghostmax.lab/1", "version", GM_VERSION, "command",
                             plan->options->command ? plan->options->command : "", "config", config, "machine", machine, "metrics", metrics,
                             "rows", rows, "ablations", ablations);
    if (root)
        json_object_set_new(root, "verdict", gm_lab_verdict(root, &plan->metrics));
    return root;
}
