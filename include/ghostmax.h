/* ghostmax.h -- attention normalisers that let a head say nothing, as a C library.
 *
 * Three ways to use it:
 *   1. Rows and attention: gm_norm_*, gm_attention_* on your own float32 arrays.
 *   2. Measuring: gm_inf_norm, gm_kurtosis, gm_quant_* on your own arrays.
 *   3. Whole models and the lab: ghostmax_model.h.
 *
 * Rules that hold everywhere: sizes are in elements unless a name ends in _bytes; matrices are row-major; every fallible
 * function returns gm_status (GM_OK = 0) and fills a caller-owned gm_error; on failure nothing is owned by the caller and
 * outputs are NULL; the library never prints, exits or aborts, and touches no signal. A gm_ctx may be shared by threads, and calls whose
 * outputs differ may run at the same time. NaN stays NaN. Tolerances and their tests: docs/numerics.md. Letters: B batch, T queries, S
 * keys, H heads, KV key/value heads, D head dimension, C width, F FFN width, V vocabulary, L layers. */
#ifndef GHOSTMAX_H
#define GHOSTMAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
/* What stands here is what the shared library exports. */
#pragma GCC visibility push(default)

#define GM_VERSION "0.1.0"
#define GM_VERSION_DATE "2026-11-27"

/* What the library was built from and with; the texts are constants. Test: tests/cli/cli_usage.py */
typedef struct gm_build_facts {
    const char *version;  /* GM_VERSION as it was then */
    const char *commit;   /* "932ab14c7d02", with "-dirty" behind it where files had been changed; "" outside a checkout and its tarballs */
    const char *compiler; /* "gcc 12.2.0" */
    const char *gemm;     /* the matrix product's provider: "onednn 2.6", "openblas", "plain" */
    const char *mpi;      /* "MPI 3.1"; "": without */
} gm_build_facts;
gm_build_facts gm_build(void);

/* ---- errors ---------------------------------------------------------------------------------------------------- */

typedef enum gm_status {
    GM_OK = 0,
    GM_EINVAL,       /* an argument or option is wrong */
    GM_ENOMEM,       /* memory could not be had */
    GM_EIO,          /* the system refused: open, read, write, rename */
    GM_EFORMAT,      /* a file's content is wrong; offset says where */
    GM_EUNSUPPORTED, /* valid, but this build or model cannot express it */
    GM_EDIVERGED,    /* the loss became non-finite */
    GM_ESTOPPED,     /* the caller's progress callback asked to stop; state is saved */
} gm_status;

typedef struct gm_error {
    gm_status code;
    int64_t offset; /* byte in the file named by msg, -1 when there is none */
    char msg[512];  /* one line: what, where, what to do */
} gm_error;

/* ---- words and numbers of a command line or a file: shared by the library and the program -------------------------------------- */

/* The candidate nearest to `word` by edit distance, NULL when none is near. Candidates end with NULL; the result is one of them. */
const char *gm_text_nearest(const char *word, const char *const *candidates);
/* The position of `word` among "a|b|c", -1 when it is none of them. */
int gm_text_choice(const char *values, const char *word);
/* Strict numbers: the whole of `text`, in min..max (both allowed), no NaN; else GM_EINVAL naming `what`. *out is set on success only. */
gm_status gm_text_int(int64_t *out, const char *text, int64_t min, int64_t max, const char *what, gm_error *err);
gm_status gm_text_double(double *out, const char *text, double min, double max, const char *what, gm_error *err);

/* ---- context: which kernels, how many threads -------------------------------------------------------------------- */

typedef struct gm_ctx gm_ctx;
typedef struct gm_dist gm_dist; /* the ranks of a job that share the work (ghostmax_model.h) */

typedef struct gm_ctx_options {
    int threads;     /* 0: OMP_NUM_THREADS, else all cores, or with dist this rank's fair share of its machine's */
    const char *isa; /* "ref", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot"; only lowers what the CPU has; NULL:
                        $GHOSTMAX_ISA, else the best */
    gm_dist *dist;   /* NULL: this process works alone. Must outlive the context */
} gm_ctx_options;

/* gm_ctx_create -- choose the kernel table once from CPUID and XGETBV. Immutable afterwards, so threads may share it. "avx2" also caps
 * oneDNN, for the whole process and only before its first product; "ref" does without it.
 * Errors: GM_EINVAL (unknown isa, threads < 0), GM_ENOMEM. Ownership: *out is the caller's, freed by gm_ctx_free(NULL ok), after
 * everything made with it. Test: tests/ops/test_ops.c (test_context). */
gm_status gm_ctx_create(gm_ctx **out, const gm_ctx_options *options, gm_error *err);
void gm_ctx_free(gm_ctx *ctx);
const char *gm_ctx_isa(const gm_ctx *ctx);  /* the table in use, e.g. "avx512vnni" */
const char *gm_ctx_gemm(const gm_ctx *ctx); /* the matrix product's provider, e.g. "onednn 2.6" */
int gm_ctx_threads(const gm_ctx *ctx);
gm_dist *gm_ctx_dist(const gm_ctx *ctx); /* NULL: alone */
/* The kernel tables of this processor family, slowest first; NULL past the end. *available (NULL ok): this machine can run it. */
const char *gm_isa_list(int index, bool *available);

/* ---- the normaliser: every attention variant is three numbers ---------------------------------------------------- */

/* For scores s_j, sink logit b and clip (a, c):
 *     m = max(b, max_j s_j)   Z = exp(b - m) + sum_j exp(s_j - m)   lse = m + ln Z
 *     p_j = exp(s_j - lse)    null_mass = exp(b - lse)              w_j = clip(a p_j + c, 0, 1)
 * A row whose m is -inf is fully masked: p = w = 0, lse = -inf. A NaN score makes the whole row NaN. */
typedef struct gm_norm {
    float sink;   /* b: -INFINITY none (softmax), 0 softmax1, ln n softmax_n; ignored where a sinks[H] array is given */
    float clip_a; /* a: 1 for none, zeta - gamma for clipped softmax */
    float clip_c; /* c: 0 for none, gamma <= 0 for clipped softmax */
} gm_norm;

#define GM_NORM_SOFTMAX ((gm_norm){-__builtin_inff(), 1.0f, 0.0f})

/* gm_norm_rows_fwd -- weights of R independent rows.
 * Shapes  : w, s [R,N] (row strides ws, ss >= N; w may equal s); lse [R]; null_mass [R] or NULL.
 * Values  : s = -INFINITY is a mask. A NaN makes its own row NaN.
 * Accuracy: |w - exact| <= 4e-7 on every instruction set; vector kernels make weights below e^-87 of the largest 0.
 * Errors  : GM_EINVAL (R or N < 0, a stride < N, clip_c > 0, clip_a + clip_c < 1, sink NaN or +inf, NULL with R*N > 0).
 * Source  : softmax1: Miller 2023; n: Flash-Attention-Softmax-N; clip: arXiv 2306.12929 eq. 4. Test: tests/ops/test_norm_rows.c */
gm_status gm_norm_rows_fwd(const gm_ctx *ctx, float *w, int64_t ws, float *lse, float *null_mass, const float *s, int64_t ss, int64_t R,
                           int64_t N, gm_norm norm, gm_error *err);

/* gm_norm_rows_bwd -- gradients of the above. G_j = a dw_j [0 <= a p_j + c <= 1]; Dsum = sum_j p_j G_j;
 * ds_j = p_j (G_j - Dsum); *dsink += -sum_r exp(b - lse_r) Dsum_r (NULL: not wanted).
 * Shapes  : ds, s, dw [R,N] contiguous; ds may equal dw. lse [R] from the forward pass.
 * Values  : a NaN in s, dw or lse makes its own row NaN, and dsink.
 * Accuracy: p is made again from lse, a float, so it carries a relative error of up to |lse| 2^-24. The same bits for any thread count.
 * Errors  : GM_EINVAL, as above. Test: tests/ops/test_norm_rows.c, against the formulas in double and their differences. */
gm_status gm_norm_rows_bwd(const gm_ctx *ctx, float *ds, double *dsink, const float *s, const float *dw, const float *lse, int64_t R,
                           int64_t N, gm_norm norm, gm_error *err);

/* ---- attention ------------------------------------------------------------------------------------------------- */

typedef struct gm_attention_shape {
    int64_t B, T, S;  /* T queries at key positions S-T .. S-1 (so T < S is decoding with a cache) */
    int64_t H, KV, D; /* KV divides H: query head h reads key/value head h / (H/KV). 1 <= D <= 256 */
    float scale;      /* multiplies q.k; 0: 1/sqrt(D). Never applied to the sink */
    bool causal;      /* query t sees keys j <= S-T+t */
    int64_t window;   /* 0: none; else query at position i sees keys j > i - window only */
    /* element (b,t,h,d) of q is q[b*q_batch + t*q_row + h*D + d]; likewise o; of k, v with their own strides, heads kv_head apart.
     * All zero: contiguous [B,T,H,D] and [B,S,KV,D]. Gradients use the strides of what they are gradients of. */
    int64_t q_batch, q_row, kv_batch, kv_row, kv_head, o_batch, o_row;
    /* k alone (forward only): a head's keys stand in panels of 32, so that one query reads them in order and 32 keys at once: key (s,d) at
     * k[b*kv_batch + h*kv_head + (s/32*D + d)*32 + s%32], with room for whole panels. kv_head must be given */
    bool key_panels;
} gm_attention_shape;

/* gm_attention_fwd -- o = sum_j w_j v_j for every query and head, tiled: no T x S buffer.
 * Shapes  : o [B,T,H,D], lse [B,H,T] (NULL: not wanted; includes the sink), q [B,T,H,D], k, v [B,S,KV,D] (strides above),
 *           sinks [H] per-head sink logits, or NULL: norm.sink for every head. T > S is allowed: a causal query before the first key
 *           sees nothing, o = 0.
 * Values  : a NaN in q stays in its query; in k it reaches every query that sees the key; in v also up to 31 queries before.
 * Accuracy: |o - exact| <= 2e-6 max|v| for scores of order 1. The same bits for any thread count, and one query decoded against a cache
 *           gives its prefill row's bits (no window).
 * Errors  : GM_EINVAL (shape, norm, NULL). Test: tests/ops/test_attention.c, and against PyTorch test_golden_attention.c */
gm_status gm_attention_fwd(const gm_ctx *ctx, float *o, float *lse, const float *q, const float *k, const float *v, const float *sinks,
                           gm_norm norm, const gm_attention_shape *shape, void *scratch, gm_error *err);

/* gm_attention_bwd -- complete gradients: dw_j = dout.v_j, then gm_norm_rows_bwd's rule, then dq, dk, dv through the products.
 * Shapes  : dq, dk, dv as q, k, v, set; dsinks [H] accumulates. Each may be NULL (not wanted), not all. dout as o; o and lse are the
 *           forward pass's. dk, dv are summed over the query heads that share them, in order.
 * Accuracy: 5e-6 of the largest gradient, for scores of order 1. The same bits for any thread count.
 * Errors  : GM_EINVAL (shape, norm, NULL). Test: tests/ops/test_attention.c, test_golden_attention.c */
gm_status gm_attention_bwd(const gm_ctx *ctx, float *dq, float *dk, float *dv, float *dsinks, const float *dout, const float *q,
                           const float *k, const float *v, const float *o, const float *lse, const float *sinks, gm_norm norm,
                           const gm_attention_shape *shape, void *scratch, gm_error *err);

/* Bytes of scratch (64-byte aligned, the caller's, one per concurrent call) that fwd (backward = false) or bwd need: linear in S for every
 * variant. Test: tests/ops/test_attention.c (scratch_and_partial_gradients). */
size_t gm_attention_scratch_bytes(const gm_ctx *ctx, const gm_attention_shape *shape, bool backward);

/* ---- metrics of raw tensors: nothing here fails; tests/measure/test_metrics.c ---------------------------------------- */

/* gm_inf_norm -- max |x|; NaN when any element is NaN; 0 for n = 0. */
float gm_inf_norm(const gm_ctx *ctx, const float *x, int64_t n);
/* gm_min_max -- the range of x, for gm_quant_asymmetric; both NaN when any element is; +inf and -inf for n = 0. */
void gm_min_max(const gm_ctx *ctx, float *min, float *max, const float *x, int64_t n);

/* Two-pass central moments in double (relative error 1e-13): mean, and the sums of powers about it. All 0 for n <= 0. */
typedef struct gm_moments {
    int64_t n;
    double mean, m2, m3, m4; /* mk = sum (x-mean)^k */
} gm_moments;
gm_moments gm_moments_of(const gm_ctx *ctx, const float *x, int64_t n);
/* gm_moments_merge -- the moments of a's and b's values taken together (Chan et al. 1979; Pebay 2008), so that a stream needs no second
 * pass. m3 is kept for this alone. */
gm_moments gm_moments_merge(gm_moments a, gm_moments b);

/* gm_kurtosis -- (m4/n) / (s^4 + eps), s = sqrt(m2/(n-1)) (unbiased), no -3: the definition of Bondarenko et al. 2023's code, which
 * uses eps = 1e-6. eps = 0 on a constant tensor, or n < 2: NaN (printed as null). */
double gm_kurtosis(const gm_moments *m, double eps);
/* gm_excess_kurtosis -- n m4 / m2^2 - 3 (population moments): the second convention in use. n < 1 or a constant tensor: NaN. */
double gm_excess_kurtosis(const gm_moments *m);

/* ---- quantizers: nothing here fails; the same bits on every instruction set; arXiv 2306.12929 and its code; tests/quant/test_quant.c */

/* Uniform grid x ~ scale * (q - zero), q integer in [qmin, qmax], rounded half to even. */
typedef struct gm_quant_grid {
    float scale;
    int32_t zero, qmin, qmax;
} gm_quant_grid;

/* gm_quant_symmetric -- signed grid of `bits` for |x| <= absmax: scale = absmax / (2^(bits-1) - 1), zero = 0,
 * [-2^(bits-1), 2^(bits-1) - 1]. scale is at least 1e-8 (absmax = 0). bits 2..16. NaN or infinite: values on the grid become NaN. */
gm_quant_grid gm_quant_symmetric(int bits, float absmax);
/* gm_quant_asymmetric -- unsigned grid of `bits` for [lo, hi], widened to contain 0: scale = max(hi - lo, 1e-8) / (2^bits - 1),
 * zero = clamp(round(-lo / scale)). bits 2..16. NaN or infinite: values on the grid become NaN. */
gm_quant_grid gm_quant_asymmetric(int bits, float lo, float hi);
/* gm_quant_simulate -- y = scale * (clamp(round(x / scale) + zero) - zero). y may equal x. NaN stays NaN. */
void gm_quant_simulate(const gm_ctx *ctx, float *y, const float *x, int64_t n, gm_quant_grid grid);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
