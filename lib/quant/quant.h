/* quant.h -- ranges, grids and the plan that says which grid belongs to which tensor. Simulated quantization applies a plan in f32; the
 * executed one uses the same grids with integers.
 *
 * quant_options.c    what can be asked for, the published settings, and both as JSON
 * observer.c         an activation's range over calibration batches
 * range_search.c     the range of least squared error
 * weight_grid.c      grids of a weight matrix
 * features.c         the largest value of every linear input's features: for the next two
 * smooth.c           SmoothQuant: per-channel scales from activations into weights
 * outlier_columns.c  LLM.int8(): features that stay in floating point
 * plan.c             all of it together: a copy of the model on its grids, and the tap that rounds its activations
 * simulate.c         losses of a plan                      execute.c  the same on integers
 * quantized.c        a plan as a model that others run     quantized_file.c  and as a folder
 * quant_report.c     what it costs, tensor by tensor */
#ifndef GM_QUANT_H
#define GM_QUANT_H

#include "model.h"
#include "ops.h"

#include <jansson.h>

/* ---- options ------------------------------------------------------------------------------------------------------------------------ */

/* Every field, by name; the lab's identity and a quantized folder hold it. from_json: GM_EFORMAT without a place. */
json_t *gm_quant_options_to_json(const gm_quant_options *o);
gm_status gm_quant_options_from_json(gm_quant_options *o, json_t *root, gm_error *err);

/* ---- the range of least squared error ------------------------------------------------------------------------------------------------ */

/* Values to be rounded, each counting `weight` times (NULL: once). */
typedef struct gm_range_sample {
    const float *x, *weight;
    int64_t n;
} gm_range_sample;
double gm_range_error(const gm_ctx *ctx, const gm_range_sample *sample, gm_quant_grid grid);
/* Shrinks [lo, hi], the sample's extremes, to the range with the least error: GM_RANGE_MSE or GM_RANGE_GOLDEN of q, a signed grid about 0
 * or an unsigned one whose two ends shrink together. A NaN leaves them alone. */
void gm_range_search(const gm_ctx *ctx, const gm_range_sample *sample, const gm_quantizer *q, float *lo, float *hi);
/* The grid that a quantizer makes of a range. */
gm_quant_grid gm_quantizer_grid(const gm_quantizer *q, float lo, float hi);

/* ---- the range of one activation tensor over calibration batches ------------------------------------------------------------------- */

/* The k largest values seen, as a min-heap: order statistics near an end without keeping everything. */
typedef struct gm_tail {
    float *heap;
    int64_t k, count, capacity;
} gm_tail;

/* Every stride-th value of a stream; the stride doubles when there is no more room. */
typedef struct gm_thinned {
    float *x;
    int64_t count, stride, skipped;
} gm_thinned;

typedef struct gm_observer {
    double percentile;    /* 0: minimum and maximum; else numpy.percentile(batch, (100 - percentile, percentile)), linear */
    gm_quant_range range; /* of q; MINMAX keeps extremes, MSE and GOLDEN search at the end, everything else runs */
    int64_t batches;      /* folded into lo, hi */
    float lo, hi;         /* first batch: its range; then 0.9 old + 0.1 batch */
    /* GM_GRAIN_CHANNEL: the same per feature, beside the whole tensor's */
    int64_t channels;
    float *channel_lo, *channel_hi, *batch_channel_lo, *batch_channel_hi;
    /* the batch that is being fed */
    int64_t fed;
    float batch_lo, batch_hi;
    double rank_lo, rank_hi; /* virtual indices into the sorted batch */
    gm_tail smallest, largest;
    gm_thinned bulk; /* MSE and GOLDEN: what is searched; smallest and largest then hold the extremes of all batches */
} gm_observer;

/* Part of a batch: x [rows, cols], rows `stride` apart. total: elements of the whole batch, which sizes the tails. */
gm_status gm_observer_feed(gm_observer *o, const gm_ctx *ctx, const float *x, int64_t rows, int64_t cols, int64_t stride, int64_t total,
                           gm_error *err);
/* The batch is complete. A NaN in it makes the range NaN. Without a feed since the last fold: nothing happens. */
void gm_observer_fold(gm_observer *o);
/* After the last batch: MSE and GOLDEN search their range. */
gm_status gm_observer_finish(gm_observer *o, const gm_ctx *ctx, const gm_quantizer *q, gm_error *err);
void gm_observer_free(gm_observer *o);

/* ---- weights ------------------------------------------------------------------------------------------------------------------------ */

/* How many neighbours of a row share a grid, and how many grids a matrix [rows, cols] has: element (r, c) takes grid
 * r * ceil(cols / span) + c / span, or 0 where there is one. */
int64_t gm_weight_span(const gm_quantizer *q, int64_t cols);
int64_t gm_weight_grid_count(const gm_quantizer *q, int64_t rows, int64_t cols);
/* Grids of a weight matrix x [rows, cols]. GM_RANGE_MSE: (absmax of the matrix + margin) i / 100, i = 1..100, by squared error: with the
 * margin of 0.5 the published search, coarse for small weights. A row's or group's candidates come from the matrix's absmax too. */
void gm_weight_grids(const gm_ctx *ctx, gm_quant_grid *grids, const float *x, int64_t rows, int64_t cols, const gm_quantizer *q);
/* y = x on those grids; y may be x. */
void gm_weight_simulate(const gm_ctx *ctx, float *y, const float *x, int64_t rows, int64_t cols, const gm_quantizer *q,
                        const gm_quant_grid *grids);

/* ---- what enters the linear layers --------------------------------------------------------------------------------------------------- */

enum { GM_LINEAR_INPUTS = 4 };
typedef struct gm_linear_input {
    int weight, bias; /* GM_P_WQKV ... */
    gm_site site;     /* its input */
} gm_linear_input;
extern const gm_linear_input gm_linear_inputs[GM_LINEAR_INPUTS];
int64_t gm_linear_input_width(const gm_model_config *c, int input);

/* max |x| of every feature of every linear layer's input over the calibration batches, in f32. */
typedef struct gm_features {
    float *max[GM_LINEAR_INPUTS]; /* [layers, width] */
    float *memory;
} gm_features;
gm_status gm_features_observe(gm_features *f, gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err);
void gm_features_free(gm_features *f);

/* SmoothQuant in place: a feature's scale s = max|x|^alpha / max|w|^(1 - alpha) leaves the activation and enters the weights. The same
 * function but for f32's rounding. */
gm_status gm_model_smooth(gm_model *m, const gm_features *f, gm_smooth how, double alpha, gm_error *err);

/* LLM.int8(): the features of one linear layer's input that stay in floating point. */
typedef struct gm_outlier_columns {
    int64_t count;
    int32_t *column; /* rising */
    float *kept;     /* [count]: room for one row's, while it is rounded */
} gm_outlier_columns;
/* *out [layers][GM_LINEAR_INPUTS]: the features whose maximum reaches the threshold. */
gm_status gm_outlier_columns_find(gm_outlier_columns **out, const gm_model_config *c, const gm_features *f, double threshold,
                                  gm_error *err);
gm_status gm_outlier_columns_make(gm_outlier_columns *o, int64_t count, gm_error *err);
void gm_outlier_columns_free(gm_outlier_columns *o, int64_t layers);

/* ---- the plan ------------------------------------------------------------------------------------------------------------------------ */

typedef struct gm_quant_matrix {
    gm_matrix_view view;                /* into the quantized copy; x NULL where only integers are held */
    gm_quantizer how;                   /* bits 0: f32 */
    const gm_outlier_columns *outliers; /* these columns are f32; NULL: none */
    int64_t grid_count;                 /* gm_weight_grid_count */
    gm_quant_grid *grids;               /* NULL: stays in f32 */
    const int8_t *integers;             /* [rows, cols], where view.x is NULL */
} gm_quant_matrix;

typedef struct gm_quant_plan {
    gm_quant_options options;
    gm_model *source;    /* the caller's f32 model; NULL for a plan that was loaded */
    const gm_model *f32; /* what was quantized: source, or */
    gm_model *smoothed;  /* its smoothed self */
    gm_model *model;     /* a copy whose weights lie on their grids */
    int matrix_count;    /* gm_model_matrices, and a tied table's use as head */
    gm_quant_matrix *matrices;
    gm_observer *observers;       /* [layers + 1][GM_SITE_COUNT]; row `layers`: sites outside blocks */
    gm_outlier_columns *outliers; /* [layers][GM_LINEAR_INPUTS]; NULL: no threshold */
    int64_t batches;              /* of calibration */
} gm_quant_plan;

/* Quantize a copy of m's weights, then observe its activations on the training data of options->seed. The published simulation
 * quantizes while it calibrates, each tensor with its running range; so does this, only that scores, weights and PV, which arrive head by
 * head, use the range of the batches before. Options that are out of range: GM_EINVAL. *plan is freed by gm_quant_plan_free. m must
 * outlive it. */
gm_status gm_quant_plan_make(gm_quant_plan *plan, gm_model *m, const gm_data *data, const gm_quant_options *options, gm_error *err);
/* The matrices and observers of plan->model, without grids: plan_make's beginning, and a folder's reader's. */
gm_status gm_quant_plan_layout(gm_quant_plan *plan, gm_error *err);
void gm_quant_plan_free(gm_quant_plan *plan);
/* A NaN or an infinity in a weight or an activation: GM_EFORMAT naming the first. */
gm_status gm_quant_plan_finite(const gm_quant_plan *plan, gm_error *err);
/* How a site is rounded; NULL: it is not. */
const gm_quantizer *gm_quant_plan_quantizer(const gm_quant_plan *plan, gm_site site);
gm_observer *gm_quant_plan_observer(const gm_quant_plan *plan, gm_site site, int layer);
/* The one static grid of a site of grain TENSOR. */
gm_quant_grid gm_quant_plan_site(const gm_quant_plan *plan, gm_site site, int layer);
/* Is a tied table used as embedding and as head on the same grids? Then one is stored. */
bool gm_quant_plan_shares_head(const gm_quant_plan *plan);
/* The rounding of one view. */
void gm_quant_view_simulate(const gm_quant_plan *plan, const gm_tap_view *view);
/* A tap that puts every activation on its grid. */
gm_tap gm_quant_plan_tap(const gm_quant_plan *plan);
/* The weights of a parameter on their grids: its own memory, or `buffer` [rows, cols] filled from the integers. */
const float *gm_quant_plan_weights(const gm_quant_plan *plan, const gm_param *p, float *buffer);
/* Mean loss in nats over the options' validation sequences. */
gm_status gm_quant_validation_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, const gm_tap *tap, double *loss,
                                   gm_error *err);

/* ---- executed on integers ------------------------------------------------------------------------------------------------------------ */

/* The plan packed for integers (executed.h). Every linear layer's input is put on the grid of the site before it: both norms, PV (or what
 * enters the projection, where the plan has a grid for it), the FFN's activation; where attention has grids, its two products run on
 * integers too. Nothing in it points into the plan's integers. */
typedef struct gm_quant_executed gm_quant_executed;
/* The options with all that integers need: a gated product g*o enters the output projection as integers, so it has a grid (which the
 * published simulation lacks). A plan of them is the oracle of its execution: the same quantizers at the same places. */
gm_quant_options gm_quant_options_executed(const gm_quant_options *options, const gm_model_config *c);
/* Until gm_quant_executed_end, which comes before gm_quant_plan_free, plan->model computes on integers, whoever calls it, rounding what the
 * simulation rounds; taps see copies. GM_EUNSUPPORTED with the reason: more than 8 bits where a product reads them, ranges per token,
 * outlier columns. */
gm_status gm_quant_executed_begin(gm_quant_executed **out, gm_quant_plan *plan, gm_error *err);
void gm_quant_executed_end(gm_quant_executed *e);           /* NULL ok */
size_t gm_quant_executed_bytes(const gm_quant_executed *e); /* what is packed */
/* The site whose grid a linear layer's input takes: weight is GM_P_WQKV, GM_P_WO, GM_P_W1 or GM_P_W2. */
gm_site gm_quant_executed_input(const gm_quant_plan *plan, int weight);

/* ---- a quantized model ----------------------------------------------------------------------------------------------------------------
 */

struct gm_quantized {
    gm_quant_plan plan;
    gm_quant_mode mode;
    gm_tap tap;                  /* the model's resident one */
    gm_quant_executed *executed; /* begun where mode is GM_QUANT_EXECUTED, else NULL */
    bool executed_only;
};
/* Has the text as many sequences as the calibration asks for? Errors: GM_EINVAL, which says how many there are. */
gm_status gm_quant_check_text(const gm_quant_options *options, const gm_data *data, gm_error *err);
/* Last step of making and loading: the model begins to round. */
gm_status gm_quantized_ready(gm_quantized *q, gm_error *err);

#endif
