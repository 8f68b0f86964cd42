/* measure.h -- one measuring pass: what measure.c fills and measure_json.c prints. Private to measure/. */
#ifndef GM_MEASURE_H
#define GM_MEASURE_H

#include "metrics.h"
#include "model.h"

/* How published code computes "the same" metrics (DESIGN 2). */
typedef struct gm_convention {
    const char *name;
    bool ffn_per_token;       /* the FFN's output and its norm are reshaped to (-1, C): each token is a sequence of its own */
    bool ffn_only;            /* kurtosis is averaged over FFN outputs and the norms that read them */
    int64_t kurtosis_batches; /* later batches do not count for kurtosis */
} gm_convention;

/* The tensors per block; the final norm's output comes after all blocks'. */
enum { GM_BLOCK_TENSORS = 5 };
extern const gm_site gm_block_sites[GM_BLOCK_TENSORS];

/* The two jobs of the Bigram-Backcopy task apart: tokens after a trigger copy, all others follow the bigram table. A head is dormant, and
 * free to rest on the first token, at every query that is no trigger. */
typedef struct gm_backcopy_stats {
    double copy_loss, bigram_excess, dormant_mass; /* sums: loss at copies; loss over the table's own elsewhere; weight on position 0 */
    int64_t copies, bigrams, dormant;
} gm_backcopy_stats;

typedef struct gm_measurement {
    const gm_model *model;
    const gm_data *data;
    const gm_convention *convention;
    int64_t sequences, T;
    bool bos; /* the sequences start with it */
    double loss;
    /* [layers * GM_BLOCK_TENSORS + 1] */
    gm_tensor_stats *tensors;
    gm_head_stats *heads; /* [layers, H] */
    gm_massive_stats massive;
    gm_feature_stats features;  /* of the norm outputs, which are the inputs of the block's products */
    gm_class_stats classes;     /* of FFN outputs */
    gm_backcopy_stats backcopy; /* bb only */
    /* the batch that is running */
    int64_t first, batch;
    const int32_t *tokens;  /* [B, T] */
    uint8_t *token_classes; /* [B, T] gm_token_class; NULL without a tokenizer */
    float *scratch;         /* [T, C] */
    float *losses;          /* [B, T] */
    uint8_t *triggers;      /* [B, T] 1 where the target copies the token before; NULL unless the data is bb */
    double *optimal;        /* [B, T] the bigram table's own loss; bb only */
} gm_measurement;

int gm_measurement_tensor_count(const gm_measurement *p);
/* Whether this tensor is in avg_kurtosis and max_kurtosis under the convention. */
bool gm_measurement_is_averaged(const gm_measurement *p, gm_site site, int layer);
/* The contract's JSON, freed with free(). */
gm_status gm_measurement_print(const gm_measurement *p, char **json, gm_error *err);

#endif
