/* metrics.h -- the metrics of DESIGN 2 as accumulators: fed one sequence at a time, constant memory in the number of sequences, no model
 * needed. measure.c feeds them from a forward pass; tests feed them by hand. Each keeps two results side by side: over all positions,
 * and without position 0. Sums are in double and in the order of feeding, so equal inputs give equal bits. */
#ifndef GM_METRICS_H
#define GM_METRICS_H

#include "base.h"
#include "sketch.h"

typedef enum gm_positions { GM_ALL_POSITIONS, GM_WITHOUT_FIRST, GM_POSITIONS_COUNT } gm_positions;

/* ---- one row of a tensor: a token's values; computed once, read by everything that asks about rows --------------------------------- */

typedef struct gm_row {
    gm_moments moments;
    double norm; /* Euclidean */
    float absmax;
} gm_row;
/* rows [T] of x [T, C]. */
void gm_rows_of(gm_row *rows, const gm_ctx *ctx, const float *x, int64_t T, int64_t C, int64_t stride);

/* ---- one activation tensor ------------------------------------------------------------------------------------------------ */

typedef struct gm_tensor_sums {
    int64_t count, kurtosis_count; /* sequences, or tokens when per_token */
    double inf_norm, kurtosis, kurtosis_eps0;
    float absmax;
    gm_moments pooled;
} gm_tensor_sums;

typedef struct gm_tensor_stats {
    bool per_token; /* opt-code's reading of tensors reshaped to (-1, C): every token counts as a sequence */
    gm_tensor_sums sums[GM_POSITIONS_COUNT];
    gm_sketch sketch;  /* over all positions */
    double first_norm; /* sum over sequences of the Euclidean norm at position 0 */
    int64_t sequences;
} gm_tensor_stats;

gm_status gm_tensor_stats_init(gm_tensor_stats *s, bool per_token, gm_error *err);
void gm_tensor_stats_free(gm_tensor_stats *s);
/* One sequence x [T, C], rows `stride` apart, with what gm_rows_of says of it. kurtosis = false leaves this sequence out of the two
 * kurtosis means (opt-code and bert-code stop after a number of batches). moments: the sequence's own, with and without position 0. */
void gm_tensor_stats_add(gm_tensor_stats *s, const gm_row *rows, const float *x, int64_t T, int64_t C, int64_t stride, bool kurtosis,
                         gm_moments moments[GM_POSITIONS_COUNT]);

/* What `from` has seen came after what `into` has: here and in every merge below. */
void gm_tensor_stats_merge(gm_tensor_stats *into, const gm_tensor_stats *from);

typedef struct gm_tensor_summary {
    double inf_norm;           /* mean over sequences of max |x| */
    double kurtosis;           /* mean over sequences of mean((x-mu)^4) / (s^4 + 1e-6), s with N-1, no -3 */
    double kurtosis_eps0;      /* the same without the 1e-6; NaN when a sequence is constant */
    double excess_kurtosis;    /* all values at once, N, minus 3 */
    double mean, standard_dev; /* of all values at once, N */
    double absmax;             /* of all values */
    double first_norm;         /* mean over sequences of the Euclidean norm at position 0 */
} gm_tensor_summary;
/* NaN where there is nothing to average, or where a value was NaN. */
gm_tensor_summary gm_tensor_stats_summary(const gm_tensor_stats *s, gm_positions positions);
/* ---- by position ----------------------------------------------------------------------------------------------------------- */

/* Positions 0 .. 15 one by one, then half octaves: 16-23, 24-31, 32-47, ... */
int gm_position_bin(int64_t position);
int64_t gm_position_bin_begin(int bin);

typedef struct gm_position_stats {
    int bins;
    int64_t *count;          /* [bins] rows */
    double *norm, *inf_norm; /* [bins] sums over rows of the Euclidean norm and of max |x| */
    float *absmax;           /* [bins] */
} gm_position_stats;
gm_status gm_position_stats_init(gm_position_stats *s, int64_t T, gm_error *err);
void gm_position_stats_free(gm_position_stats *s);
void gm_position_stats_add(gm_position_stats *s, const gm_row *rows, int64_t T);
void gm_position_stats_merge(gm_position_stats *into, const gm_position_stats *from);

/* ---- by feature dimension ---------------------------------------------------------------------------------------------------- */

typedef struct gm_dim_stats {
    int64_t C;
    gm_moments *moments[GM_POSITIONS_COUNT]; /* [C], over all sequences and positions */
    float *absmax[GM_POSITIONS_COUNT];       /* [C] */
    struct gm_dim_place {
        int64_t sequence, position;
        int32_t token;
        float value;
    } * place;    /* [C] where absmax first occurred, over all positions */
    double *work; /* [4, C] */
} gm_dim_stats;
gm_status gm_dim_stats_init(gm_dim_stats *s, int64_t C, gm_error *err);
void gm_dim_stats_free(gm_dim_stats *s);
void gm_dim_stats_add(gm_dim_stats *s, const float *x, int64_t T, int64_t C, int64_t stride, int64_t sequence, const int32_t *tokens);
void gm_dim_stats_merge(gm_dim_stats *into, const gm_dim_stats *from);

/* ---- one attention head ---------------------------------------------------------------------------------------------------- */

typedef struct gm_head_sums {
    int64_t count;                     /* sequences */
    int64_t entropy_count, noop_count; /* sequences in which it has a value */
    double sink_mass, sink_rate, null_mass, unspent, entropy, noop;
} gm_head_sums;

typedef struct gm_head_stats {
    gm_head_sums sums[GM_POSITIONS_COUNT]; /* without position 0: without query 0, which sees only itself */
    int64_t drain_count;
    double drain;
} gm_head_stats;

/* One sequence's weights w [T, T], rows `stride` apart; null_mass [T] or NULL (none). */
void gm_head_stats_add(gm_head_stats *s, const float *w, int64_t T, int64_t stride, const float *null_mass);
/* The same weights' entropy: T T / 2 logarithms, so it is asked for apart. */
void gm_head_stats_add_entropy(gm_head_stats *s, const float *w, int64_t T, int64_t stride);
/* What the head adds to the residual stream, and what it adds it to: Euclidean norms per query, both [T]. */
void gm_head_stats_add_noop(gm_head_stats *s, const double *head_norm, const double *residual_norm, int64_t T);
/* The values' norms |W_O v| per position [T]. */
void gm_head_stats_add_drain(gm_head_stats *s, const double *value_norm, int64_t T);

void gm_head_stats_merge(gm_head_stats *into, const gm_head_stats *from);

typedef struct gm_head_summary {
    double sink_mass; /* mean over sequences of a = mean over the first 64 queries of the weight on position 0 */
    double sink_rate; /* % of sequences with a > 0.3 */
    double null_mass; /* mean over sequences and all queries */
    double unspent;   /* 1 - sum_j w_j, likewise */
    double entropy;   /* of w_j / sum_j w_j in nats, likewise; a query that spends nothing is left out */
    double noop;      /* |head's output through W_O| / |residual stream before the block|, likewise */
    double drain;     /* |W_O v| at position 0 over its mean at the others, mean over sequences; the same for both position sets */
} gm_head_summary;
gm_head_summary gm_head_stats_summary(const gm_head_stats *s, gm_positions positions);

/* ---- the largest values of all ------------------------------------------------------------------------------------------------- */

enum { GM_LARGEST_BEFORE = 16, GM_LARGEST_AFTER = 8, GM_LARGEST_AROUND = GM_LARGEST_BEFORE + 1 + GM_LARGEST_AFTER };

typedef struct gm_large_value {
    float value;
    int tensor; /* the caller's number */
    int64_t sequence, position, dim;
    int32_t around[GM_LARGEST_AROUND]; /* the tokens before, at [GM_LARGEST_BEFORE] the token itself, after; -1 past the ends */
} gm_large_value;

typedef struct gm_largest {
    int capacity, kept;
    gm_large_value *list; /* largest size first; of equals the first sequence, tensor, position, dim: no matter in which order they came */
} gm_largest;
gm_status gm_largest_init(gm_largest *s, int capacity, gm_error *err);
void gm_largest_free(gm_largest *s);
/* Rows from_position .. T-1 of one sequence. NaN and infinities are no numbers and stay out. */
void gm_largest_add(gm_largest *s, const gm_row *rows, const float *x, int64_t T, int64_t C, int64_t stride, int64_t from_position,
                    int tensor, int64_t sequence, const int32_t *tokens);
void gm_largest_merge(gm_largest *into, const gm_largest *from);

/* ---- massive activations: |x| > 100 and >= 1000 x the median |x| of its hidden state (one layer's output for one sequence) ------------
 */

enum { GM_MASSIVE_KEPT = 100 };

typedef struct gm_massive {
    int layer;
    int64_t dim, position, sequence;
    int32_t token;
    float value;
} gm_massive;

typedef struct gm_massive_stats {
    int64_t count[GM_POSITIONS_COUNT];
    int kept;
    gm_massive list[GM_MASSIVE_KEPT]; /* the largest |value|, largest first; of equals the first sequence, layer, position, dim */
} gm_massive_stats;

/* One hidden state x [T, C] of layer and sequence; tokens [T]; scratch [T * C]. */
void gm_massive_stats_add(gm_massive_stats *s, const float *x, int64_t T, int64_t C, int64_t stride, int layer, int64_t sequence,
                          const int32_t *tokens, float *scratch);
void gm_massive_stats_merge(gm_massive_stats *into, const gm_massive_stats *from);

/* ---- outlier features of LLM.int8(): |x| >= 6 in >= 25% of layers and at >= 6% of positions ----------------------------------------- */

typedef struct gm_feature_stats {
    int64_t layers, C, capacity;              /* capacity: positions between two commits */
    int64_t positions[GM_POSITIONS_COUNT];    /* committed */
    uint8_t *in_layer[GM_POSITIONS_COUNT];    /* [layers, C]: seen in this layer at least once */
    int64_t *at_position[GM_POSITIONS_COUNT]; /* [C]: positions where at least one layer has it */
    uint8_t *marks;                           /* [capacity, C], of the batch that is running */
} gm_feature_stats;

gm_status gm_feature_stats_init(gm_feature_stats *s, int64_t layers, int64_t C, int64_t capacity, gm_error *err);
void gm_feature_stats_free(gm_feature_stats *s);
/* Rows x [rows, C] of a layer, rows <= capacity, in sequences of T. Any number of tensors per layer between two commits. */
void gm_feature_stats_add(gm_feature_stats *s, const float *x, int64_t rows, int64_t T, int64_t stride, int layer);
/* The batch's rows (sequences of T) have been through all layers. */
void gm_feature_stats_commit(gm_feature_stats *s, int64_t rows, int64_t T);
void gm_feature_stats_merge(gm_feature_stats *into, const gm_feature_stats *from); /* both committed */
/* Shares of layers and positions with |x| >= 6 in dim; true when both reach the thresholds. */
bool gm_feature_stats_is_outlier(const gm_feature_stats *s, int64_t dim, gm_positions positions, double *layers, double *at_positions);

/* ---- where outliers sit: values more than six standard deviations from their sequence's mean, by class of token ---------------------- */

enum { GM_CLASS_COUNT = 6 }; /* of gm_token_class */

typedef struct gm_class_stats {
    int64_t count[GM_POSITIONS_COUNT][GM_CLASS_COUNT];  /* outliers */
    int64_t tokens[GM_POSITIONS_COUNT][GM_CLASS_COUNT]; /* rows looked at: the base rate */
} gm_class_stats;

/* One sequence x [T, C] with its moments, over all positions and without the first; classes [T] are gm_token_class values, NULL: none,
 * then all count as GM_CLASS_OTHER. */
void gm_class_stats_add(gm_class_stats *s, const float *x, int64_t T, int64_t C, int64_t stride, const gm_moments m[GM_POSITIONS_COUNT],
                        const uint8_t *classes);
void gm_class_stats_merge(gm_class_stats *into, const gm_class_stats *from);

#endif
