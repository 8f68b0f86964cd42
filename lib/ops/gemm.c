/* gemm.c -- the providers of the matrix product.
 *
 * The plain one: C is cut into blocks of BLOCK_M x BLOCK_N, one task each; a task packs its parts of A and B for BLOCK_K values of k into
 * contiguous tiles on its stack and runs the table's f32_gemm_tile over them. Every element of C is summed in the same order whatever the
 * thread count. */
#include "gemm.h"
#include "context.h"

#include <omp.h>
#include <string.h>

enum { BLOCK_M = 128, BLOCK_N = 256, BLOCK_K = 256 };

/* dst[tile][k][width] of x(i, k) = x[i * si + k * sk]; rows past n are 0. */
static void pack(float *dst, const float *x, int64_t si, int64_t sk, int64_t n, int64_t k, int width) {
    for (int64_t i0 = 0; i0 < n; i0 += width) {
        int64_t w = GM_MIN(width, n - i0);
        for (int64_t p = 0; p < k; p++, dst += width) {
            const float *from = x + i0 * si + p * sk;
            for (int64_t i = 0; i < w; i++)
                dst[i] = from[i * si];
            for (int64_t i = w; i < width; i++)
                dst[i] = 0;
        }
    }
}

static void block(const gm_kernels *kernels, int64_t m, int64_t n, int64_t K, float alpha, const float *A, int64_t ai, int64_t ak,
                  const float *B, int64_t bj, int64_t bk, float beta, float *C, int64_t ldc) {
    _Alignas(64) float a[BLOCK_M * BLOCK_K], b[BLOCK_N * BLOCK_K], c[GM_TILE_M * GM_TILE_N];
    for (int64_t k0 = 0; k0 < K || k0 == 0; k0 += BLOCK_K) {
        int64_t k = GM_MIN(BLOCK_K, K - k0);
        float scale = k0 ? 1.0f : beta;
        pack(a, A + k0 * ak, ai, ak, m, k, GM_TILE_M);
        pack(b, B + k0 * bk, bj, bk, n, k, GM_TILE_N);
        for (int64_t j0 = 0; j0 < n; j0 += GM_TILE_N) {
            for (int64_t i0 = 0; i0 < m; i0 += GM_TILE_M) {
                kernels->f32_gemm_tile(c, a + i0 * k, b + j0 * k, k);
                for (int64_t i = 0; i < GM_MIN(GM_TILE_M, m - i0); i++) {
                    float *to = C + (i0 + i) * ldc + j0;
                    const float *from = c + i * GM_TILE_N;
                    for (int64_t j = 0; j < GM_MIN(GM_TILE_N, n - j0); j++)
                        to[j] = alpha * from[j] + (scale == 0 ? 0 : scale * to[j]);
                }
            }
        }
    }
}

static void gemm_plain(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A,
                       int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
    int64_t ai = trans_a ? 1 : lda, ak = trans_a ? lda : 1, bj = trans_b ? ldb : 1, bk = trans_b ? 1 : ldb;
    int64_t rows = (M + BLOCK_M - 1) / BLOCK_M, cols = (N + BLOCK_N - 1) / BLOCK_N;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (rows * cols > 1 && !omp_in_parallel())
    for (int64_t task = 0; task < rows * cols; task++) {
        int64_t i = task / cols * BLOCK_M, j = task % cols * BLOCK_N;
        block(ctx->k, GM_MIN(BLOCK_M, M - i), GM_MIN(BLOCK_N, N - j), K, alpha, A + i * ai, ai, ak, B + j * bj, bj, bk, beta,
              C + i * ldc + j, ldc);
    }
}

#if defined(GM_GEMM_ONEDNN) || defined(GM_GEMM_CBLAS)

#if defined(GM_GEMM_ONEDNN)
#include <dnnl.h>
#else
#include <cblas.h>
#endif

static void gemm_library(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A,
                         int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
#if defined(GM_GEMM_ONEDNN)
    /* oneDNN takes its thread count from OpenMP's setting for the calling thread; restored, since it is the caller's. */
    int before = omp_get_max_threads();
    if (before != ctx->threads)
        omp_set_num_threads(ctx->threads);
    dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
    if (before != ctx->threads)
        omp_set_num_threads(before);
#else
    openblas_set_num_threads(omp_in_parallel() ? 1 : ctx->threads);
    cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, alpha, A,
                (int)lda, B, (int)ldb, beta, C, (int)ldc);
#endif
}

#else
#define gemm_library gemm_plain
#endif

const char *gm_gemm_provider(void) {
#if defined(GM_GEMM_ONEDNN)
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
    return "onednn " TEXT_OF(DNNL_VERSION_MAJOR) "." TEXT_OF(DNNL_VERSION_MINOR);
#elif defined(GM_GEMM_CBLAS)
    return "openblas";
#else
    return "plain";
#endif
}

bool gm_gemm_limit(const char *isa) {
#if defined(GM_GEMM_ONEDNN)
    /* oneDNN takes a cap once per process, before its first product; a later, different one is refused, which is harmless. */
    if (strcmp(isa, "avx2") == 0)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
#endif
    return strcmp(isa, "ref") == 0;
}

void gm_gemm(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
             const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
    if (M > 0 && N > 0) /* oneDNN leaves C alone when K = 0, instead of scaling it */
        (ctx->plain_gemm || K == 0 ? gemm_plain : gemm_library)(ctx, trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}
