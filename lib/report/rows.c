/* rows.c -- the metrics' table, a row per model and variant, and the paired differences to softmax. */
#include "rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A name with a * stands once for every precision. Names that gm_run_values does not compute are fields of measure.json or quant.json. */
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

void gm_metrics_of(gm_metrics *out, const json_t *precisions) {
    int count = (int)json_array_size(precisions);
    out->count = 0;
    for (int i = 0; i < GM_COUNT(all_metrics); i++) {
        bool each = strchr(all_metrics[i].name, '*') != NULL;
        for (int k = 0; k < (each ? count : 1) && out->count < GM_METRICS_MAX; k++) {
            gm_metric *m = &out->list[out->count++];
            const char *precision = each ? json_string_value(json_array_get(precisions, (size_t)k)) : "";
            *m = all_metrics[i];
            expand(m->name, sizeof m->name, precision, false);
            expand(m->title, sizeof m->title, precision, true);
            expand(m->why, sizeof m->why, precision, true);
        }
    }
}

json_t *gm_metrics_json(const gm_metrics *metrics) {
    json_t *list = json_array();
    for (const gm_metric *m = metrics->list; m < metrics->list + metrics->count; m++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i, s:b, s:b}", "name", m->name, "title", m->title, "better", m->better,
                                              "tables", m->tables, "by_size", m->by_size, "compared", m->compared));
    return list;
}

const gm_ablation *gm_ablation_list(int index) {
    static const gm_ablation ablations[] = {{"smoothquant", "softmax + SmoothQuant"}, {"llm-int8", "softmax + LLM.int8()"}};
    return index >= 0 && index < GM_COUNT(ablations) ? &ablations[index] : NULL;
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static double number_in(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *text_in(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* ---- one run ------------------------------------------------------------------------------------------------------------------- */

static void set_finite(json_t *values, const char *name, double x) {
    if (isfinite(x) && json_object_get(values, name))
        json_object_set_new(values, name, json_real(x));
}

void gm_run_values(json_t *run, const gm_metrics *metrics, const json_t *result, const json_t *measured, const json_t *quant) {
    json_t *values = json_object(), *costs = json_object(), *ablations = json_object();
    const double f32_loss = number_in(quant, "f32_loss"), val_loss = number_in(result, "val_loss");
    for (const gm_metric *m = metrics->list; m < metrics->list + metrics->count; m++) {
        static const char increase[] = "_loss_increase", ppl[] = "_ppl";
        char loss[48];
        size_t n = strlen(m->name), k = sizeof increase - 1;
        json_object_set_new(values, m->name, json_null());
        set_finite(values, m->name, number_in(measured, m->name));
        set_finite(values, m->name, number_in(quant, m->name));
        if (n > k && strcmp(m->name + n - k, increase) == 0) {
            snprintf(loss, sizeof loss, "%.*s_loss", (int)(n - k), m->name);
            set_finite(values, m->name, number_in(quant, loss) - f32_loss);
        } else if (n > sizeof ppl - 1 && strcmp(m->name + n - (sizeof ppl - 1), ppl) == 0) {
            snprintf(loss, sizeof loss, "%.*s_loss", (int)(n - (sizeof ppl - 1)), m->name);
            set_finite(values, m->name, exp(number_in(quant, loss)));
        }
    }
    if (!result) /* measured, not trained here */
        set_finite(values, "val_loss", number_in(measured, "loss"));
    set_finite(values, "val_loss", val_loss);
    set_finite(values, "ppl", exp(number_in(values, "val_loss")));
    set_finite(values, "train_loss", number_in(result, "loss"));
    set_finite(values, "train_tokens_per_s", number_in(result, "tokens_per_s"));
    const json_t *tensors = json_object_get(json_object_get(json_object_get(quant, "report"), "sensitivity"), "tensors"), *tensor;
    size_t i;
    json_array_foreach(tensors, i, tensor) {
        json_object_set(costs, text_in(tensor, "name"), json_object_get(tensor, "loss_cost"));
    }
    const gm_ablation *a;
    for (int k = 0; (a = gm_ablation_list(k)); k++) {
        json_t *losses = json_object_get(quant, a->name);
        if (losses) {
            json_object_set(ablations, a->name, losses);
            json_object_set(ablations, "f32_loss", json_object_get(quant, "f32_loss"));
        }
    }
    json_object_set_new(run, "values", values);
    json_object_set_new(run, "costs", costs);
    json_object_set_new(run, "ablations", ablations);
}

/* ---- the runs of one row, by seed ---------------------------------------------------------------------------------------------- */

typedef struct row_runs {
    const json_t *run[GM_SEEDS_MAX];
    int count;
} row_runs;

static int by_seed(const void *a, const void *b) {
    double x = number_in(*(const json_t *const *)a, "seed"), y = number_in(*(const json_t *const *)b, "seed");
    return (x > y) - (x < y);
}

static void runs_of_row(row_runs *row, const json_t *runs, const char *model, const char *variant) {
    size_t i;
    const json_t *run;
    row->count = 0;
    json_array_foreach(runs, i, run) {
        if (strcmp(text_in(run, "model"), model) == 0 && strcmp(text_in(run, "variant"), variant) == 0 && row->count < GM_SEEDS_MAX)
            row->run[row->count++] = run;
    }
    qsort(row->run, (size_t)row->count, sizeof *row->run, by_seed);
}

static double value_of(const json_t *run, const char *metric) {
    return number_in(json_object_get(run, "values"), metric);
}

static json_t *spread_of_values(const double *values, int n) {
    gm_spread s = gm_spread_of(values, n);
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, number(values[i]));
    return json_pack("{s:o, s:o, s:o}", "mean", number(s.mean), "std", number(s.std), "values", list);
}

/* variant minus softmax, seed by seed: what the seeds have in common cancels. The interval needs 3 pairs. */
static json_t *paired_json(const row_runs *row, const row_runs *base, const gm_metrics *metrics) {
    json_t *root = json_object();
    for (const gm_metric *m = metrics->list; m < metrics->list + metrics->count; m++) {
        double a[GM_SEEDS_MAX] = {0}, b[GM_SEEDS_MAX] = {0};
        int n = 0;
        if (!m->compared)
            continue;
        for (int i = 0, k = 0; i < row->count && k < base->count;) {
            int order = by_seed(&row->run[i], &base->run[k]);
            if (order == 0) {
                b[n] = value_of(base->run[k], m->name);
                a[n] = value_of(row->run[i], m->name) - b[n];
                n++;
            }
            i += order <= 0;
            k += order >= 0;
        }
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
    json_t *best = json_null(), *ignored, *costs = NULL;
    double best_mean = -INFINITY;
    const char *tensor;
    for (int i = 0; i < row->count && json_object_size(costs) == 0; i++)
        costs = json_object_get(row->run[i], "costs"); /* of the first that has some */
    json_object_foreach(costs, tensor, ignored) {
        double values[GM_SEEDS_MAX] = {0};
        for (int i = 0; i < row->count; i++)
            values[i] = number_in(json_object_get(row->run[i], "costs"), tensor);
        double mean = gm_spread_of(values, row->count).mean;
        if (mean > best_mean) {
            best_mean = mean;
            json_decref(best);
            best = json_pack("{s:s, s:o}", "tensor", tensor, "loss_increase", spread_of_values(values, row->count));
        }
    }
    return best;
}

static json_t *row_json(const row_runs *row, const row_runs *base, const gm_metrics *metrics) {
    static const char *const facts[] = {"model", "variant", "params", "params_of_variant", "train_flops_per_token"};
    json_t *root = json_object(), *diverged = json_array(), *runs = json_array();
    double values[GM_SEEDS_MAX] = {0};
    for (int i = 0; i < GM_COUNT(facts); i++) {
        json_t *fact = json_object_get(row->run[0], facts[i]);
        if (fact)
            json_object_set(root, facts[i], fact);
    }
    json_object_set_new(root, "seeds", json_integer(row->count));
    for (const gm_metric *m = metrics->list; m < metrics->list + metrics->count; m++) {
        for (int i = 0; i < row->count; i++)
            values[i] = value_of(row->run[i], m->name);
        json_object_set_new(root, m->name, spread_of_values(values, row->count));
    }
    json_object_set_new(root, "costliest", costliest_json(row));
    for (int i = 0; i < row->count; i++) {
        json_t *seed = json_object_get(row->run[i], "seed"), *at = json_object_get(row->run[i], "diverged_at");
        json_t *entry = json_object();
        json_object_set(entry, "seed", seed);
        json_object_set(entry, "folder", json_object_get(row->run[i], "folder"));
        if (at) {
            json_array_append(diverged, seed);
            json_object_set(entry, "diverged_at", at);
        }
        json_array_append_new(runs, entry);
    }
    if (json_array_size(diverged) > 0)
        json_object_set(root, "diverged", diverged);
    json_decref(diverged);
    json_object_set_new(root, "runs", runs);
    if (base->count > 0 && base->run[0] != row->run[0])
        json_object_set_new(root, "paired", paired_json(row, base, metrics));
    return root;
}

static bool is_first_of_row(const json_t *runs, size_t index) {
    const json_t *run = json_array_get(runs, index), *before;
    size_t i;
    json_array_foreach(runs, i, before) {
        if (i == index)
            return true;
        if (strcmp(text_in(before, "model"), text_in(run, "model")) == 0 &&
            strcmp(text_in(before, "variant"), text_in(run, "variant")) == 0)
            return false;
    }
    return false;
}

static bool is_first_of_model(const json_t *runs, size_t index) {
    const json_t *run = json_array_get(runs, index);
    for (size_t i = 0; i < index; i++) {
        if (strcmp(text_in(json_array_get(runs, i), "model"), text_in(run, "model")) == 0)
            return false;
    }
    return true;
}

json_t *gm_run_rows(const json_t *runs, const gm_metrics *metrics) {
    json_t *rows = json_array();
    size_t m, i;
    const json_t *first, *run;
    json_array_foreach(runs, m, first) {
        row_runs row, base;
        if (!is_first_of_model(runs, m))
            continue;
        runs_of_row(&base, runs, text_in(first, "model"), "softmax");
        json_array_foreach(runs, i, run) {
            if (strcmp(text_in(run, "model"), text_in(first, "model")) != 0 || !is_first_of_row(runs, i))
                continue;
            runs_of_row(&row, runs, text_in(run, "model"), text_in(run, "variant"));
            json_array_append_new(rows, row_json(&row, &base, metrics));
        }
    }
    return rows;
}

double gm_best_mean(const json_t *rows, const char *metric, int better) {
    double least = INFINITY, most = -INFINITY;
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        double mean = number_in(json_object_get(row, metric), "mean");
        least = fmin(least, mean); /* NaN changes neither */
        most = fmax(most, mean);
    }
    return better == 0 || !(least < most) ? NAN : better < 0 ? least : most;
}

/* Plain softmax under another way to quantize: its losses per precision, and nothing that quantization leaves alone. */
static json_t *ablation_json(const row_runs *softmax, const gm_ablation *a, const json_t *precisions) {
    json_t *root = json_pack("{s:s, s:s, s:s, s:i}", "model", text_in(softmax->run[0], "model"), "variant", a->title, "quantizer", a->name,
                             "seeds", softmax->count);
    const json_t *precision;
    size_t p;
    json_array_foreach(precisions, p, precision) {
        double ppl[GM_SEEDS_MAX] = {0}, increase[GM_SEEDS_MAX] = {0};
        char name[48];
        snprintf(name, sizeof name, "%s_loss", json_string_value(precision));
        for (int i = 0; i < softmax->count; i++) {
            const json_t *ablations = json_object_get(softmax->run[i], "ablations");
            double loss = number_in(json_object_get(ablations, a->name), name);
            ppl[i] = exp(loss);
            increase[i] = loss - number_in(ablations, "f32_loss");
        }
        snprintf(name, sizeof name, "%s_ppl", json_string_value(precision));
        json_object_set_new(root, name, spread_of_values(ppl, softmax->count));
        snprintf(name, sizeof name, "%s_loss_increase", json_string_value(precision));
        json_object_set_new(root, name, spread_of_values(increase, softmax->count));
    }
    return root;
}

json_t *gm_ablation_rows(const json_t *runs, const json_t *precisions) {
    json_t *rows = json_array();
    size_t m;
    const json_t *first;
    json_array_foreach(runs, m, first) {
        row_runs softmax;
        const gm_ablation *a;
        if (!is_first_of_model(runs, m))
            continue;
        runs_of_row(&softmax, runs, text_in(first, "model"), "softmax");
        for (int i = 0; (a = gm_ablation_list(i)); i++) {
            bool any = false;
            for (int k = 0; k < softmax.count; k++)
                any |= json_object_get(json_object_get(softmax.run[k], "ablations"), a->name) != NULL;
            if (any)
                json_array_append_new(rows, ablation_json(&softmax, a, precisions));
        }
    }
    return rows;
}
