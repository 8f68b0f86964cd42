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
#include "ghostmax_model.h"
#include "rows.h"
#include "store.h"

#include <jansson.h>

enum { GM_LAB_MODELS = 16, GM_LAB_VARIANTS = 64, GM_LAB_SEEDS = GM_SEEDS_MAX, GM_LAB_PRECISIONS = 8 };

/* w6a8: weights of 6 bits, activations of 8. */
typedef struct gm_precision {
    char name[16];
    int weight_bits, activation_bits;
} gm_precision;

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
    json_t *json;   /* the run as rows.h has it */
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

/* Markdown, aligned so that it reads as well on a terminal. */
void gm_lab_table(gm_text *out, const json_t *results, const gm_metrics *metrics);

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

#endif
