/* quant_grid.c -- uniform integer grids: made from a range, applied to values (DESIGN: quantizers). All steps in float, as the
 * published simulation does them, and a division rather than a product by 1/scale, so that the integers agree. */
#include "context.h"

#include <math.h>

static const float SMALLEST = 1e-8f; /* the published eps: no grid is finer */

gm_quant_grid gm_quant_symmetric(int bits, float absmax) {
    int32_t half = (int32_t)1 << (bits - 1);
    gm_quant_grid grid = {.scale = absmax / (float)(half - 1), .zero = 0, .qmin = -half, .qmax = half - 1};
    if (grid.scale < SMALLEST)
        grid.scale = SMALLEST;
    return grid;
}

gm_quant_grid gm_quant_asymmetric(int bits, float lo, float hi) {
    gm_quant_grid grid = {.qmin = 0, .qmax = ((int32_t)1 << bits) - 1};
    if (lo > 0.0f)
        lo = 0.0f;
    if (hi < 0.0f)
        hi = 0.0f;
    float width = hi - lo;
    grid.scale = (width < SMALLEST ? SMALLEST : width) / (float)grid.qmax;
    float zero = rintf(-lo / grid.scale);
    if (zero > (float)grid.qmax)
        zero = (float)grid.qmax;
    grid.zero = zero > 0.0f ? (int32_t)zero : 0; /* a NaN range: any zero will do, the scale makes every value NaN */
    return grid;
}

void gm_quant_simulate(const gm_ctx *ctx, float *y, const float *x, int64_t n, gm_quant_grid grid) {
    float zero = (float)grid.zero, lo = (float)grid.qmin, hi = (float)grid.qmax;
    const int64_t block = 1 << 14;
    if (n <= block) {
        ctx->k->f32_quantize_simulate(y, x, n, grid.scale, zero, lo, hi);
        return;
    }
#pragma omp parallel for num_threads(ctx->threads) if (n > 4 * block)
    for (int64_t i = 0; i < n; i += block)
        ctx->k->f32_quantize_simulate(y + i, x + i, GM_MIN(block, n - i), grid.scale, zero, lo, hi);
}
