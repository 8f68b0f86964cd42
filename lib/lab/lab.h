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
#include "ghostmax_model.h"
#include "store.h"

#include <jansson.h>

enum { GM_LAB_MODELS = 16, GM_LAB_VARIANTS = 64, GM_LAB_SEEDS = 1000 };

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
    int model_count, variant_count;
    int64_t seeds;
} gm_lab_plan;

typedef struct gm_trial {
    int model, variant;
    uint64_t seed;
    char name[384]; /* of its folder under runs/ */
    bool diverged;  /* then diverged_at says when, and values is NULL */
    int64_t diverged_at;
    json_t *values; /* metric name -> number or null; the rows of gm_metrics */
} gm_trial;

/* ---- metrics: one table for results.json, table.md and the comparison with softmax -------------------------------------------- */

typedef enum gm_metric_place { GM_PLACE_JSON, GM_PLACE_TABLE1, GM_PLACE_TABLE2 } gm_metric_place;

typedef struct gm_metric {
    const char *name, *title;
    gm_metric_place place;
    int better;      /* -1: lower, 1: higher, 0: neither */
    bool compared;   /* paired with softmax, with an interval */
    bool by_size;    /* with several presets: against their parameters too */
    const char *why; /* compared: what it is, in a sentence */
} gm_metric;
extern const gm_metric gm_metrics[];
extern const int gm_metric_count;

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
void gm_lab_table(gm_text *out, const json_t *results);
/* One per line of the verdict; also the "verdict" array of results.json. */
json_t *gm_lab_verdict(const json_t *results);

#endif
