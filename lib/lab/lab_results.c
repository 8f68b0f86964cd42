/* lab_results.c -- results.json: the metrics' table, a row per model and variant, and the paired differences to softmax. */
#include "lab.h"

#include <math.h>
#include <string.h>

/* Names without a source in lab.c's values_of are fields of measure.json. */
const gm_metric gm_metrics[] = {
    {"val_loss", "val loss", GM_PLACE_TABLE1, -1, true, false, "validation loss"},
    {"ppl", "ppl", GM_PLACE_TABLE1, -1, false, false, NULL},
    {"max_inf_norm", "max inf norm", GM_PLACE_TABLE1, -1, true, true, "largest activation (max inf norm)"},
    {"avg_kurtosis", "avg kurtosis", GM_PLACE_TABLE1, -1, true, true, "average kurtosis"},
    {"w8a8_ppl", "W8A8 ppl", GM_PLACE_TABLE1, -1, false, false, NULL},
    {"w6a6_ppl", "W6A6 ppl", GM_PLACE_TABLE1, -1, false, false, NULL},
    {"max_kurtosis", "max kurtosis", GM_PLACE_TABLE2, -1, false, false, NULL},
    {"weight_kurtosis", "weight kurtosis", GM_PLACE_TABLE2, -1, false, false, NULL},
    {"weight_inf_norm", "weight inf norm", GM_PLACE_TABLE2, -1, false, false, NULL},
    {"sink_rate", "sink rate %", GM_PLACE_TABLE2, -1, true, false, "sink rate"},
    {"null_mass", "null mass", GM_PLACE_TABLE2, 0, false, false, NULL},
    {"w8a8_executed_ppl", "INT8 ppl", GM_PLACE_TABLE2, -1, false, false, NULL},
    {"train_tokens_per_s", "tokens/s", GM_PLACE_TABLE2, 1, false, false, NULL},
    {"w8a8_loss_increase", "W8A8 loss increase", GM_PLACE_JSON, -1, true, true, "loss added by 8-bit quantization"},
    {"w6a6_loss_increase", "W6A6 loss increase", GM_PLACE_JSON, -1, true, true, "loss added by 6-bit quantization"},
    {"train_loss", "train loss", GM_PLACE_JSON, -1, false, false, NULL},
    {"sink_mass", "mass on position 0", GM_PLACE_JSON, 0, false, false, NULL},
    {"unspent", "unspent", GM_PLACE_JSON, 0, false, false, NULL},
    {"max_ffn_inf_norm", "max inf norm, FFN", GM_PLACE_JSON, -1, false, false, NULL},
    {"max_all_inf_norm", "max inf norm, all", GM_PLACE_JSON, -1, false, false, NULL},
    {"max_inf_norm_without_first", "max inf norm without position 0", GM_PLACE_JSON, -1, false, false, NULL},
    {"avg_kurtosis_without_first", "avg kurtosis without position 0", GM_PLACE_JSON, -1, false, false, NULL},
    {"weight_kurtosis_max", "largest weight kurtosis", GM_PLACE_JSON, -1, false, false, NULL},
    {"weight_inf_norm_max", "largest weight inf norm", GM_PLACE_JSON, -1, false, false, NULL},
};
const int gm_metric_count = GM_COUNT(gm_metrics);

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

static json_t *spread_json(const row_runs *row, const char *metric) {
    double values[GM_LAB_SEEDS] = {0};
    int n = values_by_seed(values, row, metric);
    gm_spread s = gm_spread_of(values, n);
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, number(values[i]));
    return json_pack("{s:o, s:o, s:o}", "mean", number(s.mean), "std", number(s.std), "values", list);
}

/* variant minus softmax, seed by seed: what the seeds have in common cancels. The interval needs 3 pairs. */
static json_t *paired_json(const row_runs *row, const row_runs *base) {
    json_t *root = json_object();
    for (int m = 0; m < gm_metric_count; m++) {
        double a[GM_LAB_SEEDS] = {0}, b[GM_LAB_SEEDS] = {0};
        if (!gm_metrics[m].compared)
            continue;
        int n = values_by_seed(a, row, gm_metrics[m].name);
        values_by_seed(b, base, gm_metrics[m].name);
        for (int i = 0; i < n; i++)
            a[i] -= b[i];
        gm_spread s = gm_spread_of(a, n), from = gm_spread_of(b, n);
        double half = s.n >= 3 ? gm_spread_interval95(&s) : NAN;
        json_object_set_new(root, gm_metrics[m].name,
                            json_pack("{s:o, s:o, s:o, s:o, s:i}", "difference", number(s.mean), "low", number(s.mean - half), "high",
                                      number(s.mean + half), "relative", number(s.mean / fabs(from.mean)), "pairs", s.n));
    }
    return root;
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
    for (int m = 0; m < gm_metric_count; m++)
        json_object_set_new(root, gm_metrics[m].name, spread_json(row, gm_metrics[m].name));
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
        json_object_set_new(root, "paired", paired_json(row, base));
    return root;
}

json_t *gm_lab_results(const gm_lab_plan *plan, const gm_ctx *ctx, json_t *config, const gm_trial *runs, int run_count) {
    json_t *rows = json_array();
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
    }
    json_t *metrics = json_array();
    for (int m = 0; m < gm_metric_count; m++)
        json_array_append_new(metrics, json_pack("{s:s, s:s, s:i, s:b, s:b}", "name", gm_metrics[m].name, "title", gm_metrics[m].title,
                                                 "better", gm_metrics[m].better, "table", gm_metrics[m].place != GM_PLACE_JSON, "by_size",
                                                 gm_metrics[m].by_size));
    json_t *machine = json_pack("{s:s, s:s, s:i, s:s}", "isa", gm_ctx_isa(ctx), "gemm", gm_ctx_gemm(ctx), "threads", gm_ctx_threads(ctx),
                                "compiler", __VERSION__);
    json_t *root = json_pack("{s:s, s:s, s:s, s:O, s:o, s:o, s:o}", "schema", "ghostmax.lab/1", "version", GM_VERSION, "command",
                             plan->options->command ? plan->options->command : "", "config", config, "machine", machine, "metrics", metrics,
                             "rows", rows);
    if (root)
        json_object_set_new(root, "verdict", gm_lab_verdict(root));
    return root;
}
