/* gemm.h -- the matrix product behind one small interface. Our own on the table's kernels, which needs no library; and
 * oneDNN or CBLAS (chosen at build, GM_GEMM) for what they do faster. The reference table always uses our own. */
#ifndef GM_GEMM_H
#define GM_GEMM_H

#include "base.h"

/* C[M,N] = alpha op(A) op(B) + beta C, row-major; op(A) is [M,K]: A is [M,K] with row stride lda, or [K,M] when trans_a; B likewise.
 * beta = 0 ignores what C held. From inside a parallel region it runs on the calling thread alone. */
void gm_gemm(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
             const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

/* What may follow a product, row by row while it is in the cache of the thread that made it. */
typedef struct gm_gemm_rest {
    const float *bias;                                              /* [N], added to every row (beta is 0 then); NULL: none */
    void (*row)(const void *user, int64_t i, int64_t j, int64_t n); /* C[i, j .. j + n - 1] is final; NULL: none */
    const void *user;
} gm_gemm_rest;
void gm_gemm_then(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
                  const float *B, int64_t ldb, float beta, float *C, int64_t ldc, const gm_gemm_rest *rest);

/* "onednn 2.6", "openblas" or "plain". */
const char *gm_gemm_provider(void);
/* Caps the provider at an instruction set, before its first call; returns whether the plain product must be used for it instead. */
bool gm_gemm_limit(const char *isa);

#endif
