/* gemm.c -- the matrix product: our own, and a library's where that is faster.
 *
 * The library gets the products with matrices as they lie (dx = dy W) or a transposed A (dW = dy^T x), and those of a few rows. Forward
 * products (y = x W^T) are our own: as fast or faster at every shape, since the library loses a fifth where K is deep, and what follows
 * them costs no pass over memory (docs/performance.md has the table).
 *
 * Ours: C is made a panel of columns at a time, for DEPTH values of k at a time. All threads pack that panel of B together, into tiles of
 * PANEL_N columns; then each takes blocks of rows of A and runs f32_mm over block and tile: a tile stays in the first-level cache and the
 * block in the second. Rows of A are read where they lie; a transposed A is packed. What follows the product happens while the block is
 * still in the cache. Every element of C is summed in the same order whatever the thread count, and with the same bits on every instruction
 * set that has fused multiply-adds. */
#include "gemm.h"
#include "context.h"

#include <omp.h>
#include <string.h>

enum {
    DEPTH = 512,
    PANEL = 1 << 18, /* floats: a megabyte on the calling thread's stack */
    PANEL_N = 32,    /* two vectors of AVX-512: what f32_mm takes at a time */
    BLOCK_M = 192,
    TILE_M = 12,           /* and its rows */
    TILE_PAD = 16,         /* keeps packed tiles of A out of each other's sets of the first-level cache */
    PARALLEL_MIN = 1 << 18 /* multiply-adds below which threads cost more than they save */
};

static int64_t pieces(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* n cut into as few equal parts of at most `most` (a multiple of `unit`) as will do, in whole units: a part's size. */
static int64_t part_size(int64_t n, int64_t most, int64_t unit) {
    return GM_MAX(pieces(pieces(n, GM_MAX(pieces(n, most), 1)), unit), 1) * unit;
}

typedef struct product {
    const gm_kernels *kernels;
    bool trans_a, trans_b;
    int64_t M, N, K, lda, ldb, ldc;
    float alpha, beta;
    const float *A, *B;
    float *C;
} product;

/* A tile of the panel: alpha B[k0 .. k0 + k, j .. j + n] as [k, PANEL_N]. */
static void pack_panel(const product *p, float *tile, int64_t j, int64_t n, int64_t k0, int64_t k) {
    if (p->trans_b) {
        p->kernels->f32_transpose(tile, PANEL_N, p->B + j * p->ldb + k0, p->ldb, n, k);
    } else {
        for (int64_t i = 0; i < k; i++)
            memcpy(tile + i * PANEL_N, p->B + (k0 + i) * p->ldb + j, (size_t)n * sizeof *tile);
    }
    for (int64_t i = 0; p->alpha != 1 && i < k; i++) {
        for (int64_t q = 0; q < n; q++)
            tile[i * PANEL_N + q] *= p->alpha;
    }
}

/* A^T[k0 .. k0 + k, i0 .. i0 + m] as tiles of [k, TILE_M]. */
static void pack_block(const product *p, float *block, int64_t i0, int64_t m, int64_t k0, int64_t k) {
    for (int64_t q = 0; q < k; q++) {
        const float *row = p->A + (k0 + q) * p->lda + i0;
        float *to = block + q * TILE_M;
        for (int64_t i = 0; i < m; i += TILE_M, to += k * TILE_M + TILE_PAD) {
            if (m - i >= TILE_M)
                memcpy(to, row + i, TILE_M * sizeof *to);
            else
                memcpy(to, row + i, (size_t)(m - i) * sizeof *to);
        }
    }
}

/* What C holds before sums are added to it; returns whether they are to be added. */
static bool start(const product *p, float *C, int64_t m, int64_t n, const float *bias) {
    for (int64_t i = 0; i < m && bias; i++)
        memcpy(C + i * p->ldc, bias, (size_t)n * sizeof *C);
    if (bias || p->beta == 1)
        return true;
    if (p->beta == 0)
        return false;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++)
            C[i * p->ldc + j] *= p->beta;
    }
    return true;
}

static void gemm_own(const gm_ctx *ctx, const product *p, const gm_gemm_rest *rest) {
    const int threads = omp_in_parallel() || p->M * p->N * p->K < PARALLEL_MIN ? 1 : ctx->threads;
    const int64_t depth = part_size(p->K, DEPTH, 1), wide = part_size(p->N, PANEL / depth / PANEL_N * PANEL_N, PANEL_N);
    const int64_t high = part_size(pieces(p->M, threads), BLOCK_M, TILE_M);
    const float *bias = rest ? rest->bias : NULL;
    _Alignas(64) float panel[PANEL];
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        _Alignas(64) float block[BLOCK_M * DEPTH + BLOCK_M / TILE_M * TILE_PAD];
        for (int64_t j0 = 0; j0 < p->N; j0 += wide) {
            const int64_t n = GM_MIN(wide, p->N - j0);
            for (int64_t k0 = 0; k0 < p->K || k0 == 0; k0 += depth) {
                const int64_t k = GM_MIN(depth, p->K - k0);
                const bool last = k0 + depth >= p->K;
#pragma omp for schedule(static)
                for (int64_t j = 0; j < n; j += PANEL_N)
                    pack_panel(p, panel + j * k, j0 + j, GM_MIN(PANEL_N, n - j), k0, k);
#pragma omp for schedule(static)
                for (int64_t i0 = 0; i0 < p->M; i0 += high) {
                    const int64_t m = GM_MIN(high, p->M - i0);
                    float *C = p->C + i0 * p->ldc + j0;
                    if (p->trans_a)
                        pack_block(p, block, i0, m, k0, k);
                    for (int64_t j = 0; j < n; j += PANEL_N) {
                        const int64_t width = GM_MIN(PANEL_N, n - j);
                        const bool add = k0 ? true : start(p, C + j, m, width, bias ? bias + j0 + j : NULL);
                        if (!p->trans_a)
                            p->kernels->f32_mm(C + j, p->ldc, p->A + i0 * p->lda + k0, p->lda, 1, panel + j * k, PANEL_N, m, width, k, add);
                        for (int64_t i = 0; i < m && p->trans_a; i += TILE_M)
                            p->kernels->f32_mm(C + i * p->ldc + j, p->ldc, block + i * k + i / TILE_M * TILE_PAD, 1, TILE_M, panel + j * k,
                                               PANEL_N, GM_MIN(TILE_M, m - i), width, k, add);
                    }
                    for (int64_t i = i0; last && rest && rest->row && i < i0 + m; i++)
                        rest->row(rest->user, i, j0, n);
                }
            }
        }
    }
}

#if defined(GM_GEMM_ONEDNN) || defined(GM_GEMM_CBLAS)

#if defined(GM_GEMM_ONEDNN)
#include <dnnl.h>
#else
#include <cblas.h>
#endif

enum { OWN_ROWS = 32 }; /* fewer rows do not pay for packing B */

static bool own_is_better(const product *p) {
    return !p->trans_a && p->trans_b && p->M >= OWN_ROWS;
}

static void gemm_library(const gm_ctx *ctx, const product *p, const gm_gemm_rest *rest) {
    float beta = p->beta;
    if (rest && rest->bias) {
        const int64_t N = p->N;
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (p->M * N >= PARALLEL_MIN && !omp_in_parallel())
        for (int64_t i = 0; i < p->M; i++)
            memcpy(p->C + i * p->ldc, rest->bias, (size_t)N * sizeof(float));
        beta = 1;
    }
#if defined(GM_GEMM_ONEDNN)
    /* oneDNN takes its thread count from OpenMP's setting for the calling thread; restored, since it is the caller's. */
    int before = omp_get_max_threads();
    if (before != ctx->threads)
        omp_set_num_threads(ctx->threads);
    dnnl_sgemm(p->trans_a ? 'T' : 'N', p->trans_b ? 'T' : 'N', p->M, p->N, p->K, p->alpha, p->A, p->lda, p->B, p->ldb, beta, p->C, p->ldc);
    if (before != ctx->threads)
        omp_set_num_threads(before);
#else
    openblas_set_num_threads(omp_in_parallel() ? 1 : ctx->threads);
    cblas_sgemm(CblasRowMajor, p->trans_a ? CblasTrans : CblasNoTrans, p->trans_b ? CblasTrans : CblasNoTrans, (int)p->M, (int)p->N,
                (int)p->K, p->alpha, p->A, (int)p->lda, p->B, (int)p->ldb, beta, p->C, (int)p->ldc);
#endif
    if (rest && rest->row) {
#pragma omp parallel for num_threads(ctx->threads) schedule(static) if (p->M * p->N >= PARALLEL_MIN && !omp_in_parallel())
        for (int64_t i = 0; i < p->M; i++)
            rest->row(rest->user, i, 0, p->N);
    }
}

#else
static bool own_is_better(const product *p) {
    (void)p;
    return true;
}
#define gemm_library gemm_own
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

void gm_gemm_then(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
                  const float *B, int64_t ldb, float beta, float *C, int64_t ldc, const gm_gemm_rest *rest) {
    const product p = {ctx->k, trans_a, trans_b, M, N, K, lda, ldb, ldc, alpha, beta, A, B, C};
    if (M > 0 && N > 0) /* oneDNN leaves C alone when K = 0, instead of scaling it */
        (ctx->plain_gemm || K == 0 || own_is_better(&p) ? gemm_own : gemm_library)(ctx, &p, rest);
}

void gm_gemm(const gm_ctx *ctx, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda,
             const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
    gm_gemm_then(ctx, trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc, NULL);
}
