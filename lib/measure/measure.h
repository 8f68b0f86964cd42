/* measure.h -- one measuring pass: what measure.c fills and measure_json.c and measure_details.c print. Private to measure/. */
#ifndef GM_MEASURE_H
#define GM_MEASURE_H

#include "dist.h"
#include "metrics.h"
#include "model.h"

#include <jansson.h>

/* Collective: each rank read its own machine's files; are they the same? Otherwise numbers would be of no model. */
gm_status gm_measure_same_input(const gm_model *m, const gm_data *data, gm_error *err);

/* How published code computes "the same" metrics (DESIGN 2). */
typedef struct gm_convention {
    const char *name;
    bool ffn_per_token;       /* the FFN's output and its norm are reshaped to (-1, C): each token is a sequence of its own */
    bool ffn_only;            /* kurtosis is averaged over FFN outputs and the norms that read them */
    int64_t kurtosis_batches; /* later batches do not count for kurtosis */
} gm_convention;

/* The two jobs of the Bigram-Backcopy task apart: tokens after a trigger copy, all others follow the bigram table. A head is dormant, and
 * free to rest on the first token, at every query that is no trigger. */
typedef struct gm_backcopy_stats {
    double copy_loss, bigram_excess, dormant_mass; /* sums: loss at copies; loss over the table's own elsewhere; weight on position 0 */
    int64_t copies, bigrams, dormant;
} gm_backcopy_stats;

typedef struct gm_measured {
    gm_site site;
    int layer;      /* -1 outside blocks */
    bool published; /* one of the tensors of the published tables; the others are for the eye and in no mean or maximum */
    gm_tensor_stats stats;
    gm_class_stats classes;
    gm_position_stats positions;                          /* details only */
    gm_dim_stats dims;                                    /* details only */
    int64_t broken_sequence, broken_position, broken_dim; /* where the first NaN or infinity was, when there is one */
} gm_measured;

/* How many of its values were NaN or infinite. */
static inline uint64_t gm_measured_broken(const gm_measured *t) {
    return t->stats.sketch.nan + gm_sketch_infinities(&t->stats.sketch);
}

typedef struct gm_measurement {
    const gm_model *model;
    const gm_data *data;
    const gm_convention *convention;
    int64_t sequences, asked, T; /* asked: 0 when the caller left it open */
    bool bos;                    /* the sequences start with it */
    bool details;
    double loss_sum;
    int64_t targets;
    gm_measured *tensors; /* in forward order */
    int tensor_count;
    gm_head_stats *heads; /* [layers, H] */
    gm_massive_stats massive;
    gm_feature_stats features; /* of what the block's products read: norm outputs, and the heads' outputs where they are as wide */
    gm_largest largest[GM_POSITIONS_COUNT]; /* details only, of the published tensors */
    gm_position_stats loss_positions;       /* details only: norm is the loss */
    gm_backcopy_stats backcopy;             /* bb only */
    /* the batch that is running */
    int64_t first, batch;   /* its first sequence; sequences per batch, as asked for */
    const int32_t *tokens;  /* [B, T] */
    uint8_t *token_classes; /* [B, T] gm_token_class; NULL without a tokenizer */
    float *scratch;         /* [T, C] */
    gm_row *rows;           /* [T] */
    double *residual;       /* [B, T] norms of the residual stream that enters the next block; details only */
    double *norms;          /* [T] */
    float *losses;          /* [B, T] */
    uint8_t *triggers;      /* [B, T] 1 where the target copies the token before; NULL unless the data is bb */
    double *optimal;        /* [B, T] the bigram table's own loss; bb only */
} gm_measurement;

/* ---- in blocks (measure_blocks.c): sequences are measured GM_MEASURE_BLOCK at a time, each block by itself, and the blocks are merged in
 * order, whether one process did them all or several took turns. So the result has the same bits on any number of ranks. */
enum { GM_MEASURE_BLOCK = 8 };
/* Both of one shape; *from came after *into. */
void gm_measurement_merge(gm_measurement *into, const gm_measurement *from);
void gm_measurement_clear(gm_measurement *p); /* nothing seen yet */
/* Collective, after every rank measured its block of a turn into *mine (blocks in the order of ranks, from sequence `turn` on; have: there
 * was one for this rank): on rank 0 all of them are merged into *all, and *mine is clear on every rank. */
gm_status gm_measurement_turn(gm_dist *d, gm_measurement *all, gm_measurement *mine, int64_t turn, bool have, gm_error *err);

/* Whether this tensor is in avg_kurtosis and max_kurtosis under the convention. */
bool gm_measurement_is_averaged(const gm_measurement *p, const gm_measured *tensor);
/* The contract's JSON, freed with free(). */
gm_status gm_measurement_print(const gm_measurement *p, char **json, gm_error *err);

/* ---- between the two printers (measure_json.c): jansson's setters fail on their own when an allocation failed; `failed` remembers it */

typedef struct gm_measure_printer {
    const gm_measurement *p;
    bool failed;
} gm_measure_printer;
void gm_measure_put(gm_measure_printer *out, json_t *object, const char *name, json_t *value);
void gm_measure_append(gm_measure_printer *out, json_t *array, json_t *value);
void gm_measure_number(gm_measure_printer *out, json_t *object, const char *name, double x); /* null where it is not finite */
void gm_measure_integer(gm_measure_printer *out, json_t *object, const char *name, int64_t x);
/* name, or name_without_first */
void gm_measure_positions(gm_measure_printer *out, json_t *object, const char *name, double x, gm_positions positions);
void gm_measure_tensor_name(char name[64], const gm_measured *tensor);
/* {"0.5": ...}: of |x| (sizes) or of x. */
json_t *gm_measure_quantiles(gm_measure_printer *out, const gm_sketch *s, bool sizes);
json_t *gm_measure_class_counts(gm_measure_printer *out, const int64_t *counts);
/* A token's text: escaped where it is no UTF-8, "<bos>" for BOS, "" without a tokenizer. previous: as gm_tokenizer_piece. */
void gm_measure_token_text(gm_text *text, const gm_tokenizer *tokenizer, int32_t previous, int32_t token);

/* What only details have (measure_details.c): of one tensor, and of the whole. */
void gm_measure_details_tensor(gm_measure_printer *out, json_t *object, const gm_measured *tensor);
void gm_measure_details(gm_measure_printer *out, json_t *root);

#endif
