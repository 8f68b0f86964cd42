/* lab.h -- the inside of the lab: the plan of a comparison, what each run gave, and how both become results.json and table.md.
 *
 * A lab's folder: lab.json          what is compared (its identity); written first, checked by every later call
 *                 runs/<name>/      one run: what gm_train_run writes, and measure.json, quant.json
 *                 results.json, table.md, report.html
 * lab.json, measure.json, quant.json and results.json carry a checksum over the rest of their content (store.c), so that an altered or
 * truncated file is answered by its name and not by wrong numbers. */
#ifndef GM_LAB_H
#define GM_LAB_H

#include "base.h"
#include "dist.h"
#include "store.h"

#include <jansson.h>

enum { GM_LAB_MODELS = 16, GM_LAB_VARIANTS = 64, GM_LAB_SEEDS = 1000, GM_LAB_PRECISIONS = 8, GM_LAB_METRICS = 64 };

/* ---- metrics: one list for results.json, table.md and the comparison with softmax --------------------------------------------- */

/* Blocks of the table in which a metric stands. */
enum { GM_TABLE_RESULTS = 1, GM_TABLE_MORE = 2, GM_TABLE_QUANTIZED = 4 };

typedef struct gm_metric {
    char name[40], title[40];
    int tables;    /* none: results.json only */
    int better;    /* -1: lower, 1: higher, 0: neither */
    bool compared; /* paired with softmax, with an interval */
    bool by_size;  /* with several presets: against their parameters too */
    char why[64];  /* compared: what it is, in a sentence */
} gm_metric;

typedef struct gm_metrics {
    gm_metric list[GM_LAB_METRICS];
    int count;
} gm_metrics;

/* w6a8: weights of 6 bits, activations of 8. */
typedef struct gm_precision {
    char name[16];
    int weight_bits, activation_bits;
} gm_precision;

/* The fixed metrics, and those of every precision. */
void gm_lab_metrics(gm_metrics *out, const gm_precision *precisions, int count);

typedef struct gm_lab_model {
    char preset[32];
    gm_model_config cfg; /* checked, plain softmax */
    gm_model_size size;
} gm_lab_model;

typedef struct gm_lab_plan {
    const gm_lab_options *options;
    gm_lab_model models[GM_LAB_MODELS];
    gm_variant variants[GM_LAB_VARIANTS];
    char specs[GM_LAB_VARIANTS][256];
    gm_precision precisions[GM_LAB_PRECISIONS]; /* w8a8, then what was asked for beside it */
    int model_count, variant_count, precision_count;
    int64_t seeds;
    gm_metrics metrics;
} gm_lab_plan;

typedef struct gm_trial {
    int model, variant;
    uint64_t seed;
    char name[384]; /* of its folder under runs/ */
    bool diverged;  /* then diverged_at says when, and values is NULL */
    int64_t diverged_at;
    json_t *values; /* metric name -> number or null, for every metric of the plan */
    json_t *quant;  /* quant.json; NULL when it diverged */
} gm_trial;

/* ---- who does which run (lab_queue.c) -------------------------------------------------------------------------------------------------
 */

typedef struct gm_lab_queue {
    gm_dist *dist; /* NULL: one process does them all, in order */
    const char *out;
    gm_trial *runs;
    int count;
    gm_status (*work)(void *user, gm_trial *run, gm_error *err); /* or reads what it gave earlier */
    bool (*wait)(void *user, const gm_trial *run);               /* asked now and then while others work: true to stop */
    void *user;
} gm_lab_queue;
/* When it ends well every rank has all that every run gave. Errors: work's; GM_ESTOPPED. */
gm_status gm_lab_queue_run(const gm_lab_queue *q, gm_error *err);
/* Collective: do all ranks see the lock that rank 0 has on the folder? Without that two might do one run. */
gm_status gm_lab_queue_check(gm_dist *d, const char *out, gm_error *err);

/* ---- statistics over seeds ------------------------------------------------------------------------------------------------------ */

typedef struct gm_spread {
    int n;            /* finite values */
    double mean, std; /* std with n - 1; NaN for n < 2; mean NaN for n = 0 */
} gm_spread;
gm_spread gm_spread_of(const double *values, int n); /* non-finite values do not count */
/* Half the width of the 95% interval of a mean: Student's t with n - 1 degrees of freedom. NaN for n < 2. */
double gm_spread_interval95(const gm_spread *s);

/* ---- results ------------------------------------------------------------------------------------------------------------------------ */

json_t *gm_lab_results(const gm_lab_plan *plan, const gm_ctx *ctx, json_t *config, const gm_trial *runs, int run_count);
/* Markdown, aligned so that it reads as well on a terminal. */
void gm_lab_table(gm_text *out, const json_t *results, const gm_metrics *metrics);
/* One per line of the verdict; also the "verdict" array of results.json. */
json_t *gm_lab_verdict(const json_t *results, const gm_metrics *metrics);

/* ---- quantization of one run (lab_quant.c) ------------------------------------------------------------------------------------------ */

/* "w6a6,w4a8" behind w8a8, which is always there. Errors: GM_EINVAL naming the word. */
gm_status gm_precisions_parse(gm_precision *out, int *count, const char *list, gm_error *err);
/* What quant.json depends on beside the model: another value of it, and it is made anew. */
json_t *gm_lab_quant_settings(const gm_lab_plan *plan);
/* What quantization costs this model (of variant `spec`): quant.json without its settings. tell (NULL ok) is asked between the parts
 * whether to stop. */
typedef bool (*gm_lab_stop)(void *user);
gm_status gm_lab_quantize(json_t **out, const gm_lab_plan *plan, const gm_data *data, gm_model *model, const char *spec, uint64_t seed,
                          gm_lab_stop stop, void *user, gm_error *err);
/* The alternatives to another softmax: plain softmax, quantized in a way that copes with outliers. By index; NULL past the end. */
typedef struct gm_ablation {
    const char *name, *title; /* "smoothquant", "softmax + SmoothQuant" */
} gm_ablation;
const gm_ablation *gm_lab_ablation(int index);
/* Of quant.json: tensor name -> what it alone adds to the loss; empty when that was not asked for. The caller's. */
json_t *gm_lab_sensitivity(const json_t *quant);

#endif
