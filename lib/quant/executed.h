/* executed.h -- a plan on integers: what stands packed in memory, and the working memory of a pass. execute.c packs, execute_forward.c
 * runs. */
#ifndef GM_EXECUTED_H
#define GM_EXECUTED_H

#include "model.h"
#include "ops.h"

/* The linear layers of a block; q, k, v and SwiGLU's halves apart, since each has grids of its own. */
typedef enum gm_executed_part {
    GM_EXECUTED_Q,
    GM_EXECUTED_K,
    GM_EXECUTED_V,
    GM_EXECUTED_O,
    GM_EXECUTED_W1,
    GM_EXECUTED_UP,
    GM_EXECUTED_W2,
    GM_EXECUTED_COUNT
} gm_executed_part;

typedef struct gm_executed_layer {
    gm_linear_int8 linear[GM_EXECUTED_COUNT];
    gm_quant_grid grid[GM_SITE_COUNT]; /* scale 0: the site is not rounded */
    gm_quant_grid attn_in;             /* of what enters the output projection */
} gm_executed_layer;

/* An embedding table as integers, scale by row (or one for all). */
typedef struct gm_executed_table {
    const int8_t *rows; /* NULL: f32, or read from the packed head */
    const float *scale;
    int64_t scale_count;
} gm_executed_table;

typedef struct gm_executed_work {
    int64_t B, T, S;
    uint8_t *memory;
    float *x, *branch;          /* [R,C] the residual stream, what joins it */
    float *qkv, *qk, *rstd, *o; /* where q, k, v or o must pass through f32 */
    float *gate, *gate_hidden, *n, *gated;
    float *rows, *lse;
    uint8_t *n8, *q8, *k8, *v8, *o8, *act8, *kv;
    void *attention;
    float *seen, *wide; /* taps: scores and weights [B,H,T,T], null masses [B,H,T]; u8 tensors in f32 */
} gm_executed_work;

typedef struct gm_quant_executed {
    gm_model *model; /* the plan's */
    gm_engine engine;
    bool attention;              /* its products run on integers too; else in f32 */
    gm_executed_layer *layers;   /* [layers + 1]; the last one's grids are of the sites outside blocks */
    gm_executed_table tables[2]; /* tokens, positions */
    gm_linear_int8 head;         /* in 0: f32 */
    uint8_t *memory;             /* everything packed */
    size_t bytes;
    gm_executed_work work;
} gm_quant_executed;

extern const gm_engine gm_executed_engine; /* the functions; `user` is the gm_quant_executed */
void gm_executed_work_free(gm_executed_work *w);

#endif
