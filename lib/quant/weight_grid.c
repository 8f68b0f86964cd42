/* weight_grid.c -- symmetric grids of weight matrices: absmax, or the published search by squared error. */
#include "quant.h"

#include <math.h>

static const int CANDIDATES = 100;
static const double MARGIN = 0.5; /* added to absmax: the published estimator's range_margin */

static double squared_error(const gm_ctx *ctx, const float *x, int64_t n, gm_quant_grid grid) {
    enum { BLOCK = 1024 };
    float y[BLOCK];
    double sum = 0.0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t count = GM_MIN(n - i, (int64_t)BLOCK);
        gm_quant_simulate(ctx, y, x + i, count, grid);
        double block = 0.0;
        for (int64_t j = 0; j < count; j++) {
            double d = (double)x[i + j] - y[j];
            block += d * d;
        }
        sum += block;
    }
    return sum;
}

static gm_quant_grid best_grid(const gm_ctx *ctx, const float *x, int64_t n, int bits, float absmax) {
    gm_quant_grid best = gm_quant_symmetric(bits, absmax);
    double least = INFINITY;
    for (int i = 1; i <= CANDIDATES; i++) {
        gm_quant_grid grid = gm_quant_symmetric(bits, (float)((absmax + MARGIN) * i / CANDIDATES));
        double error = squared_error(ctx, x, n, grid);
        if (error < least) {
            least = error;
            best = grid;
        }
    }
    return best;
}

void gm_weight_grids(const gm_ctx *ctx, gm_quant_grid *grids, const float *x, int64_t rows, int64_t cols, int bits, bool per_channel,
                     bool mse) {
    float absmax = gm_inf_norm(ctx, x, rows * cols);
    int64_t count = per_channel ? rows : 1, n = per_channel ? cols : rows * cols;
    for (int64_t g = 0; g < count; g++) {
        const float *part = x + g * n;
        if (mse)
            grids[g] = best_grid(ctx, part, n, bits, absmax);
        else
            grids[g] = gm_quant_symmetric(bits, per_channel ? gm_inf_norm(ctx, part, n) : absmax);
    }
}
