/* linear_int8.c -- y = x W^T + b on integers: x is put on its 8-bit grid, the sums are exact in 32 bits, and one multiply and add per
 * output goes back to f32. Forward only.
 *
 * With x = sx (a - zero) and w_j = sw_j q_j:  y_j = sx sw_j (sum a q_j - zero sum q_j) + b_j. The second sum is known when the weights are
 * packed (offset). Weights lie in panels of GM_INT8_N outputs, [depth / 4, GM_INT8_N, 4], the order in which the tile reads them. */
#include "context.h"
#include "ops.h"
#include "parallel.h"

#include <math.h>

enum { CHUNK_ROWS = 256, TASK_ROWS = 64 };

static int64_t depth_of(int64_t in) {
    return (in + 3) / 4 * 4;
}

static int64_t padded(int64_t out) {
    return (out + GM_INT8_N - 1) / GM_INT8_N * GM_INT8_N;
}

bool gm_linear_int8_fits(int64_t in) {
    return depth_of(in) <= GM_INT8_DEPTH;
}

size_t gm_linear_int8_bytes(int64_t in, int64_t out) {
    const int64_t outputs = padded(out), row = depth_of(in) + (int64_t)(2 * sizeof(float) + sizeof(int32_t));
    return (size_t)(outputs * row + 63) / 64 * 64;
}

size_t gm_linear_int8_scratch_bytes(int64_t in) {
    return (size_t)(CHUNK_ROWS * depth_of(in));
}

void gm_linear_int8_pack(gm_linear_int8 *l, void *memory, const float *w, const float *w_scale, const float *b, int64_t in, int64_t out,
                         gm_quant_grid input) {
    const int64_t outputs = padded(out), depth = depth_of(in);
    float *scale = memory, *bias = scale + outputs;
    int32_t *offset = (int32_t *)(bias + outputs);
    int8_t *weights = (int8_t *)(offset + outputs);
    *l = (gm_linear_int8){.in = in, .out = out, .input = input, .scale = scale, .bias = bias, .offset = offset, .weights = weights};
    for (int64_t j = 0; j < outputs; j++) {
        int8_t *to = weights + j / GM_INT8_N * GM_INT8_N * depth + j % GM_INT8_N * 4;
        int32_t sum = 0;
        for (int64_t p = 0; p < depth; p++) {
            float q = j < out && p < in ? rintf(w[j * in + p] / w_scale[j]) : 0;
            int8_t whole = (int8_t)(q > -128 ? q < 127 ? q : 127 : q <= -128 ? -128 : 0); /* a NaN's scale is NaN too: y will be */
            to[p / 4 * GM_INT8_N * 4 + p % 4] = whole;
            sum += whole;
        }
        scale[j] = j < out ? input.scale * w_scale[j] : 0;
        bias[j] = j < out && b ? b[j] : 0;
        offset[j] = -input.zero * sum;
    }
}

void gm_linear_int8_fwd(const gm_ctx *ctx, float *y, int64_t ys, const float *x, int64_t xs, int64_t R, const gm_linear_int8 *l,
                        uint8_t *scratch) {
    const gm_kernels *k = ctx->k;
    const int64_t depth = depth_of(l->in), panels = padded(l->out) / GM_INT8_N;
    for (int64_t r0 = 0; r0 < R; r0 += CHUNK_ROWS) {
        const int64_t rows = GM_MIN(CHUNK_ROWS, R - r0), groups = (rows + TASK_ROWS - 1) / TASK_ROWS;
#pragma omp parallel num_threads(ctx->threads) if (rows * (l->in + l->out) >= GM_PARALLEL_MIN)
        {
#pragma omp for schedule(static)
            for (int64_t r = 0; r < rows; r++) /* the bytes from `in` to `depth` meet weights of 0 */
                k->f32_quantize_u8(scratch + r * depth, x + (r0 + r) * xs, l->in, l->input.scale, (float)l->input.zero,
                                   (float)l->input.qmax);
#pragma omp for schedule(static)
            for (int64_t task = 0; task < panels * groups; task++) {
                const int64_t j = task / groups * GM_INT8_N, begin = task % groups * TASK_ROWS, end = GM_MIN(begin + TASK_ROWS, rows);
                for (int64_t i = begin; i < end; i += GM_INT8_M) { /* a last tile reads rows of scratch that nobody asked for */
                    _Alignas(64) int32_t c[GM_INT8_M * GM_INT8_N];
                    k->u8s8_gemm_tile(c, scratch + i * depth, depth, l->weights + j * depth, depth / 4);
                    for (int64_t r = i; r < GM_MIN(i + GM_INT8_M, end); r++)
                        k->s32_dequantize(y + (r0 + r) * ys + j, c + (r - i) * GM_INT8_N, l->offset + j, l->scale + j, l->bias + j,
                                          GM_MIN(GM_INT8_N, l->out - j));
                }
            }
        }
    }
}
