/* gemm.h -- the matrix product behind one small interface. Providers: oneDNN, CBLAS (chosen at build, GM_GEMM), and our own plain C,
 * which the reference table always uses and which needs no library. */
#ifndef GM_GEMM_H
#define GM_GEMM_H

#include "base.h"

/* C[M,N] = alpha op(A) op(B) + beta C, row-major; op(A) is [M,K]: A is [M,K] with row stride lda, or [K,M] when trans_a; B likewise.
 * beta = 0 ignores what C held. From inside a parallel region it runs on the calling thread alone. */
void gm_gemm(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
             const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

/* "onednn 2.6", "openblas" or "plain". */
const char *gm_gemm_provider(void);
/* Caps the provider at an instruction set, before its first call; returns whether the plain product must be used for it instead. */
bool gm_gemm_limit(const char *isa);

#endif
