/* quant.h -- ranges, grids and the plan that says which grid belongs to which tensor. Simulated quantization applies a plan in f32; the
 * executed one uses the same grids with integers. */
#ifndef GM_QUANT_H
#define GM_QUANT_H

#include "model.h"
#include "ops.h"

/* ---- the running range of one activation tensor over calibration batches ------------------------------------------------------- */

/* The k largest values seen, as a min-heap: order statistics near an end without keeping everything. */
typedef struct gm_tail {
    float *heap;
    int64_t k, count, capacity;
} gm_tail;

typedef struct gm_observer {
    double percentile; /* 0: minimum and maximum; else numpy.percentile(batch, (100 - percentile, percentile)), linear */
    int64_t batches;   /* folded into lo, hi */
    float lo, hi;      /* first batch: its range; then 0.9 old + 0.1 batch */
    /* the batch that is being fed */
    int64_t fed;
    float batch_lo, batch_hi;
    double rank_lo, rank_hi; /* virtual indices into the sorted batch */
    gm_tail smallest, largest;
} gm_observer;

/* Part of a batch: x [rows, cols], rows `stride` apart. total: elements of the whole batch, which sizes the tails. */
gm_status gm_observer_feed(gm_observer *o, const gm_ctx *ctx, const float *x, int64_t rows, int64_t cols, int64_t stride, int64_t total,
                           gm_error *err);
/* The batch is complete. A NaN in it makes the range NaN. Without a feed since the last fold: nothing happens. */
void gm_observer_fold(gm_observer *o);
void gm_observer_free(gm_observer *o);

/* ---- weights ------------------------------------------------------------------------------------------------------------------------ */

/* Symmetric grids of a weight matrix x [rows, cols]: one, or with per_channel one per row. absmax, or (mse) the best of 100 candidates
 * (absmax of the matrix + 0.5) i / 100, i = 1..100, by squared error: the published search, coarse for small weights. */
void gm_weight_grids(const gm_ctx *ctx, gm_quant_grid *grids, const float *x, int64_t rows, int64_t cols, int bits, bool per_channel,
                     bool mse);

/* ---- the plan ------------------------------------------------------------------------------------------------------------------------ */

typedef struct gm_quant_matrix {
    gm_matrix_view view;  /* into the quantized copy */
    int64_t grid_count;   /* 1, or view.rows */
    gm_quant_grid *grids; /* NULL: stays in f32 (the LM head) */
} gm_quant_matrix;

typedef struct gm_quant_plan {
    gm_quant_options options;
    gm_model *model; /* a copy whose weights lie on their grids */
    int matrix_count;
    gm_quant_matrix *matrices;
    gm_observer *observers; /* [layers + 1][GM_SITE_COUNT]; row `layers`: sites outside blocks */
} gm_quant_plan;

/* Quantize a copy of m's weights, then observe its activations on the training data of options->seed. The published simulation
 * quantizes while it calibrates, each tensor with its running range; so does this, only that scores, weights and PV, which arrive head by
 * head, use the range of the batches before. Options that are out of range: GM_EINVAL. *plan is freed by gm_quant_plan_free. */
gm_status gm_quant_plan_make(gm_quant_plan *plan, const gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err);
void gm_quant_plan_free(gm_quant_plan *plan);
/* The grid of an activation; every gm_site has one, only the LM head's logits do not. */
gm_quant_grid gm_quant_plan_site(const gm_quant_plan *plan, gm_site site, int layer);
/* A tap that puts every activation on its grid. */
gm_tap gm_quant_plan_tap(const gm_quant_plan *plan);
/* Mean loss in nats over the options' validation sequences. */
gm_status gm_quant_validation_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, const gm_tap *tap, double *loss,
                                   gm_error *err);

/* ---- executed on integers ------------------------------------------------------------------------------------------------------------ */

/* The plan's linear layers, packed. A layer's input is put on the grid of the site before it: both norms, PV, the FFN's activation.
 * Three of these already lie on it; g*o, which the published setting leaves alone, takes PV's grid: 0 < g < 1 keeps it in PV's range. */
enum { GM_EXECUTED_LINEARS = 4 };
typedef struct gm_quant_executed {
    gm_model *model; /* the plan's */
    gm_linear_provider provider;
    gm_linear_int8 *linears; /* [layers][GM_EXECUTED_LINEARS] */
    uint8_t *memory, *scratch;
} gm_quant_executed;
/* Until gm_quant_executed_end, which comes before gm_quant_plan_free, plan->model runs its linear layers on integers; with the plan's tap
 * everything else is rounded where the simulation rounds it. More than 8 bits, per-token ranges: GM_EUNSUPPORTED. */
gm_status gm_quant_executed_begin(gm_quant_executed *e, gm_quant_plan *plan, gm_error *err);
void gm_quant_executed_end(gm_quant_executed *e);
/* The site whose grid a linear layer's input takes: weight is GM_P_WQKV, GM_P_WO, GM_P_W1 or GM_P_W2. */
gm_site gm_quant_executed_input(int weight);

#endif
