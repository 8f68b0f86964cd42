/* rows.h -- from runs to rows: what can be compared, statistics over seeds, differences to softmax pair by pair, and the sentences that
 * the intervals allow. The runs may be one lab's or come from many folders.
 *
 * A run is an object: model, variant, seed, folder; params, params_of_variant, train_flops_per_token; diverged_at where it did; values
 * (metric -> number or null); costs (tensor -> what it alone adds to the loss when it is quantized); ablations (the alternative's name ->
 * precision_loss). gm_run_values adds the last three from a run's files. */
#ifndef GM_ROWS_H
#define GM_ROWS_H

#include "base.h"

#include <jansson.h>

/* ---- metrics: one list for results.json, table.md, the report and the comparison with softmax ----------------------------------- */

/* Blocks of the table in which a metric stands. */
enum { GM_TABLE_RESULTS = 1, GM_TABLE_MORE = 2, GM_TABLE_QUANTIZED = 4 };
enum { GM_METRICS_MAX = 96, GM_SEEDS_MAX = 1000 };

typedef struct gm_metric {
    char name[40], title[40];
    int tables;    /* none: results.json only */
    int better;    /* -1: lower, 1: higher, 0: neither */
    bool compared; /* paired with softmax, with an interval */
    bool by_size;  /* with several presets: against their parameters too */
    char why[64];  /* compared: what it is, in a sentence */
} gm_metric;

typedef struct gm_metrics {
    gm_metric list[GM_METRICS_MAX];
    int count;
} gm_metrics;

/* The fixed metrics, and those of every precision ("w8a8"; an array of at most 8 names). */
void gm_metrics_of(gm_metrics *out, const json_t *precisions);
json_t *gm_metrics_json(const gm_metrics *metrics);

/* ---- statistics over seeds ------------------------------------------------------------------------------------------------------ */

typedef struct gm_spread {
    int n;            /* finite values */
    double mean, std; /* std with n - 1; NaN for n < 2; mean NaN for n = 0 */
} gm_spread;
gm_spread gm_spread_of(const double *values, int n); /* non-finite values do not count */
/* Half the width of the 95% interval of a mean: Student's t with n - 1 degrees of freedom. NaN for n < 2. */
double gm_spread_interval95(const gm_spread *s);

/* ---- rows ----------------------------------------------------------------------------------------------------------------------- */

/* The alternatives to another softmax: plain softmax, quantized in a way that copes with outliers. By index; NULL past the end. */
typedef struct gm_ablation {
    const char *name, *title; /* "smoothquant", "softmax + SmoothQuant" */
} gm_ablation;
const gm_ablation *gm_ablation_list(int index);

/* Fills values, costs and ablations of `run` from the result of train.json, measure.json and quant.json (each NULL: not there). */
void gm_run_values(json_t *run, const gm_metrics *metrics, const json_t *result, const json_t *measured, const json_t *quant);
/* A row per model and variant, in the order in which they come first; seeds in ascending order. */
json_t *gm_run_rows(const json_t *runs, const gm_metrics *metrics);
/* The best mean of a metric (better: as in gm_metric), which every row that has it shares; NaN: there is nothing to compare, or all have
 * it. */
double gm_best_mean(const json_t *rows, const char *metric, int better);
/* A row per model and alternative, of its plain softmax; empty where no run has any. */
json_t *gm_ablation_rows(const json_t *runs, const json_t *precisions);
/* Sentences, model by model. */
json_t *gm_verdict_of(const json_t *rows, const gm_metrics *metrics);

#endif
