/* weight_grid.c -- grids of weight matrices: one for all, one per output, or one per group of neighbours. */
#include "quant.h"

#include <math.h>

int64_t gm_weight_span(const gm_quantizer *q, int64_t cols) {
    return q->grain == GM_GRAIN_GROUP ? GM_MIN(q->group, cols) : cols;
}

int64_t gm_weight_grid_count(const gm_quantizer *q, int64_t rows, int64_t cols) {
    const int64_t span = gm_weight_span(q, cols);
    return q->grain == GM_GRAIN_TENSOR ? 1 : rows * ((cols + span - 1) / span);
}

/* Where part `g` of a matrix lies; returns its size. */
static int64_t part_of(const gm_quantizer *q, int64_t rows, int64_t cols, int64_t g, int64_t *first) {
    const int64_t span = gm_weight_span(q, cols), parts = (cols + span - 1) / span;
    *first = 0;
    if (q->grain == GM_GRAIN_TENSOR)
        return rows * cols;
    *first = g / parts * cols + g % parts * span;
    return GM_MIN(span, cols - g % parts * span);
}

void gm_weight_grids(const gm_ctx *ctx, gm_quant_grid *grids, const float *x, int64_t rows, int64_t cols, const gm_quantizer *q) {
    const float absmax = gm_inf_norm(ctx, x, rows * cols);
    const int64_t count = gm_weight_grid_count(q, rows, cols);
    for (int64_t g = 0; g < count; g++) {
        int64_t first, n = part_of(q, rows, cols, g, &first);
        float lo, hi;
        gm_min_max(ctx, &lo, &hi, x + first, n);
        if (q->range != GM_RANGE_MINMAX) {
            if (!q->asymmetric && q->range == GM_RANGE_MSE) /* the published candidates are the matrix's */
                lo = -absmax, hi = absmax;
            gm_range_search(ctx, &(gm_range_sample){.x = x + first, .n = n}, q, &lo, &hi);
        }
        grids[g] = gm_quantizer_grid(q, lo, hi);
    }
}

void gm_weight_simulate(const gm_ctx *ctx, float *y, const float *x, int64_t rows, int64_t cols, const gm_quantizer *q,
                        const gm_quant_grid *grids) {
    const int64_t count = gm_weight_grid_count(q, rows, cols);
    for (int64_t g = 0; g < count; g++) {
        int64_t first, n = part_of(q, rows, cols, g, &first);
        gm_quant_simulate(ctx, y + first, x + first, n, grids[g]);
    }
}
