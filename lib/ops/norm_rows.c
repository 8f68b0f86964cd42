/* norm_rows.c -- the normaliser over independent rows, forward and backward. The mathematics is in ghostmax.h (gm_norm). */
#include "norm_check.h"

gm_status gm_norm_check(gm_norm norm, gm_error *err) {
    if (!(norm.sink < INFINITY))
        return gm_fail(err, GM_EINVAL, "norm.sink is %g; give a finite logit, or -INFINITY for none", (double)norm.sink);
    if (!(norm.clip_c <= 0 && norm.clip_c > -INFINITY))
        return gm_fail(err, GM_EINVAL, "norm.clip_c is %g; it must be <= 0, or masked positions would get weight", (double)norm.clip_c);
    /* zeta = a + c, each rounded to float by the caller: allow that rounding */
    if (!(norm.clip_a < INFINITY && (double)norm.clip_a + norm.clip_c >= 1 - 1e-6 * norm.clip_a))
        return gm_fail(err, GM_EINVAL, "norm.clip_a + norm.clip_c is %g; it must be >= 1, or no weight could reach 1",
                       (double)norm.clip_a + norm.clip_c);
    return GM_OK;
}

static gm_status check_rows(int64_t R, int64_t N, int64_t stride, bool pointers, gm_norm norm, gm_error *err) {
    if (R < 0 || N < 0)
        return gm_fail(err, GM_EINVAL, "norm_rows: R = %lld and N = %lld must not be negative", (long long)R, (long long)N);
    if (R > 1 && stride < N)
        return gm_fail(err, GM_EINVAL, "norm_rows: a row stride of %lld is shorter than a row of %lld", (long long)stride, (long long)N);
    if (R > 0 && !pointers)
        return gm_fail(err, GM_EINVAL, "norm_rows: an array is NULL");
    return gm_norm_check(norm, err);
}

gm_status gm_norm_rows_fwd(const gm_ctx *ctx, float *w, int64_t ws, float *lse, float *null_mass, const float *s, int64_t ss, int64_t R,
                           int64_t N, gm_norm norm, gm_error *err) {
    GM_TRY(check_rows(R, N, GM_MIN(ws, ss), lse && ((w && s) || N == 0), norm, err));
#pragma omp parallel for num_threads(ctx->threads) if (R * N > 4096)
    for (int64_t r = 0; r < R; r++)
        lse[r] = ctx->k->f32_norm_row_fwd(w + r * ws, null_mass ? null_mass + r : NULL, s + r * ss, N, norm.sink, norm.clip_a, norm.clip_c);
    return GM_OK;
}

/* The sink's gradient is summed over a fixed number of row groups, whatever the thread count, so that its bits do not depend on it. */
enum { GROUPS = 256 };

gm_status gm_norm_rows_bwd(const gm_ctx *ctx, float *ds, double *dsink, const float *s, const float *dw, const float *lse, int64_t R,
                           int64_t N, gm_norm norm, gm_error *err) {
    GM_TRY(check_rows(R, N, N, lse && ((ds && s && dw) || N == 0), norm, err));
    double part[GROUPS] = {0};
#pragma omp parallel for num_threads(ctx->threads) if (R * N > 4096)
    for (int g = 0; g < GROUPS; g++) {
        for (int64_t r = R * g / GROUPS; r < R * (g + 1) / GROUPS; r++) {
            float dsum = ctx->k->f32_norm_row_bwd(ds + r * N, s + r * N, dw + r * N, N, lse[r], norm.clip_a, norm.clip_c);
            part[g] += gm_null_mass(norm.sink, lse[r]) * dsum;
        }
    }
    for (int g = 0; dsink && g < GROUPS; g++)
        *dsink -= part[g];
    return GM_OK;
}
