/* cmd_selftest.c -- do this build's kernels compute the right thing on this machine? Normaliser rows and attention against plain double
 * arithmetic written here, attention's gradients against finite differences of it; on every kernel table that the processor has. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void selftest_defaults(void *args) {
    *(cli_common *)args = (cli_common){0};
}

static const cli_group selftest_groups[] = {CLI_MACHINE, CLI_JSON, CLI_END};

static const gm_norm norms[] = {
    {-INFINITY, 1, 0}, {0, 1, 0}, {0.7f, 1, 0}, {-INFINITY, 1.03f, -0.03f}, {-0.5f, 1.05f, -0.02f},
};
enum { NORM_COUNT = sizeof norms / sizeof *norms, B = 2, T = 37, H = 4, KV = 2, D = 24, Q_SIZE = B * T * H * D, K_SIZE = B * T * KV * D };
static const double row_tolerance = 1e-6, attention_tolerance = 1e-5, gradient_tolerance = 2e-4;

static double uniform(uint64_t *state) { /* in (-1, 1) */
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-52 - 1;
}

static void fill(float *x, int n, uint64_t *state) {
    for (int i = 0; i < n; i++)
        x[i] = (float)uniform(state);
}

/* The formula of ghostmax.h in double. */
static void row_reference(double *w, const double *s, int n, gm_norm norm) {
    double m = norm.sink, Z = 0;
    for (int i = 0; i < n; i++)
        m = s[i] > m ? s[i] : m;
    for (int i = 0; i < n; i++)
        Z += m == -INFINITY ? 0 : exp(s[i] - m);
    Z += m == -INFINITY ? 1 : exp(norm.sink - m);
    for (int i = 0; i < n; i++) {
        double p = m == -INFINITY ? 0 : exp(s[i] - m) / Z;
        double x = (double)norm.clip_a * p + (double)norm.clip_c;
        w[i] = m == -INFINITY || x < 0 ? 0 : x > 1 ? 1 : x;
    }
}

/* sum(o * weight) of causal grouped-query attention, o also written when not NULL. */
static double attention_reference(double *o, const double *q, const double *k, const double *v, const float *weight, gm_norm norm) {
    double total = 0, s[T], w[T];
    for (int b = 0; b < B; b++) {
        for (int h = 0; h < H; h++) {
            int g = h / (H / KV);
            for (int t = 0; t < T; t++) {
                const double *row = q + ((b * T + t) * H + h) * D;
                for (int j = 0; j < T; j++) {
                    const double *key = k + ((b * T + j) * KV + g) * D;
                    s[j] = 0;
                    for (int d = 0; d < D; d++)
                        s[j] += row[d] * key[d] / sqrt(D);
                    s[j] = j <= t ? s[j] : -INFINITY;
                }
                row_reference(w, s, T, norm);
                for (int d = 0; d < D; d++) {
                    double sum = 0;
                    for (int j = 0; j <= t; j++)
                        sum += w[j] * v[((b * T + j) * KV + g) * D + d];
                    int at = ((b * T + t) * H + h) * D + d;
                    total += sum * (double)weight[at];
                    if (o)
                        o[at] = sum;
                }
            }
        }
    }
    return total;
}

/* ---- checks: each returns its largest error, NaN included ------------------------------------------------------------------- */

static double larger(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}

static double check_rows(const gm_ctx *ctx, gm_error *err) {
    enum { N_MAX = 130 };
    float s[N_MAX], w[N_MAX], lse;
    double exact[N_MAX], wide[N_MAX], worst = 0;
    uint64_t state = 1;
    for (int n = 1; n <= N_MAX; n++) {
        for (int v = 0; v < NORM_COUNT; v++) {
            for (int i = 0; i < n; i++) {
                s[i] = i % 7 == 3 ? -INFINITY : (float)(uniform(&state) * (n % 3 ? 8 : 200));
                wide[i] = s[i];
            }
            if (gm_norm_rows_fwd(ctx, w, n, &lse, NULL, s, n, 1, n, norms[v], err) != GM_OK)
                return NAN;
            row_reference(exact, wide, n, norms[v]);
            for (int i = 0; i < n; i++)
                worst = larger(worst, fabs(w[i] - exact[i]));
        }
    }
    return worst;
}

typedef struct attention_case {
    float q[Q_SIZE], k[K_SIZE], v[K_SIZE], o[Q_SIZE], dout[Q_SIZE], dq[Q_SIZE], dk[K_SIZE], dv[K_SIZE], lse[B * H * T];
    double wide[3][Q_SIZE], step[3][Q_SIZE], exact[Q_SIZE];
} attention_case;

static void widen(double *y, const float *x, const double *direction, double step, int n) {
    for (int i = 0; i < n; i++)
        y[i] = (double)x[i] + step * direction[i];
}

/* The derivative along one random direction of (q, k, v), by central differences of the reference and from the library's gradients. */
static double check_gradient(attention_case *c, gm_norm norm, uint64_t *state) {
    const int sizes[] = {Q_SIZE, K_SIZE, K_SIZE};
    const float *at[] = {c->q, c->k, c->v}, *gradient[] = {c->dq, c->dk, c->dv};
    const double h = 1e-6;
    double analytic = 0, side[2];
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < sizes[i]; j++) {
            c->step[i][j] = uniform(state);
            analytic += c->step[i][j] * (double)gradient[i][j];
        }
    }
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < 3; i++)
            widen(c->wide[i], at[i], c->step[i], s ? -h : h, sizes[i]);
        side[s] = attention_reference(NULL, c->wide[0], c->wide[1], c->wide[2], c->dout, norm);
    }
    double numeric = (side[0] - side[1]) / (2 * h);
    return fabs(analytic - numeric) / (1 + fabs(numeric));
}

static bool check_attention(const gm_ctx *ctx, double *forward, double *backward, gm_error *err) {
    gm_attention_shape shape = {.B = B, .T = T, .S = T, .H = H, .KV = KV, .D = D, .causal = true};
    size_t need = gm_attention_scratch_bytes(ctx, &shape, false), also = gm_attention_scratch_bytes(ctx, &shape, true);
    need = ((need > also ? need : also) + 63) / 64 * 64 + 64;
    attention_case *c = calloc(1, sizeof *c);
    void *scratch = aligned_alloc(64, need);
    uint64_t state = 7;
    *forward = *backward = 0;
    bool ok = c && scratch;
    for (int v = 0; ok && v < NORM_COUNT; v++) {
        fill(c->q, Q_SIZE, &state);
        fill(c->k, K_SIZE, &state);
        fill(c->v, K_SIZE, &state);
        fill(c->dout, Q_SIZE, &state);
        for (int i = 0; i < Q_SIZE; i++)
            c->q[i] *= 4;
        ok = gm_attention_fwd(ctx, c->o, c->lse, c->q, c->k, c->v, NULL, norms[v], &shape, scratch, err) == GM_OK &&
             gm_attention_bwd(ctx, c->dq, c->dk, c->dv, NULL, c->dout, c->q, c->k, c->v, c->o, c->lse, NULL, norms[v], &shape, scratch,
                              err) == GM_OK;
        widen(c->wide[0], c->q, c->step[0], 0, Q_SIZE);
        widen(c->wide[1], c->k, c->step[1], 0, K_SIZE);
        widen(c->wide[2], c->v, c->step[2], 0, K_SIZE);
        attention_reference(c->exact, c->wide[0], c->wide[1], c->wide[2], c->dout, norms[v]);
        for (int i = 0; i < Q_SIZE; i++)
            *forward = larger(*forward, fabs(c->o[i] - c->exact[i]));
        *backward = larger(*backward, check_gradient(c, norms[v], &state));
    }
    free(c);
    free(scratch);
    return ok;
}

/* ---- the command ----------------------------------------------------------------------------------------------------------- */

static bool report_check(json_t *list, const char *isa, const char *what, double error, double tolerance, bool json) {
    bool passed = error <= tolerance; /* false for NaN */
    json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:f, s:b}", "isa", isa, "check", what, "error", cli_json_number(error),
                                          "tolerance", tolerance, "passed", passed));
    if (!json)
        printf("%-10s %-34s largest error %8.1e  allowed %7.0e  %s\n", isa, what, error, tolerance, passed ? "ok" : "FAILED");
    return passed;
}

static int selftest_run(const cli_command *command, void *arguments) {
    static const char *const tables[] = {"ref", "avx2", "avx512", "avx512vnni", "avx512amx", "neon", "neondot"};
    const cli_common *common = arguments;
    json_t *list = json_array();
    bool passed = true;
    int code = CLI_DONE;
    for (int i = 0; i < (int)(sizeof tables / sizeof tables[0]) && code == CLI_DONE; i++) {
        gm_ctx *ctx = NULL;
        gm_error err = {.offset = -1};
        double rows, forward, backward;
        if (common->isa && strcmp(common->isa, tables[i]) != 0)
            continue;
        cli_common one = *common;
        one.isa = tables[i];
        if (cli_context(&ctx, &one, &err) != GM_OK || strcmp(gm_ctx_isa(ctx), tables[i]) != 0) {
            gm_ctx_free(ctx); /* not of this processor */
            continue;
        }
        rows = check_rows(ctx, &err);
        if (isnan(rows) || !check_attention(ctx, &forward, &backward, &err))
            code = err.code ? cli_fail(command, &err) : CLI_FAILED;
        else {
            passed &= report_check(list, tables[i], "normaliser rows", rows, row_tolerance, common->json);
            passed &= report_check(list, tables[i], "attention forward", forward, attention_tolerance, common->json);
            passed &= report_check(list, tables[i], "attention gradients", backward, gradient_tolerance, common->json);
        }
        gm_ctx_free(ctx);
    }
    if (code == CLI_DONE && json_array_size(list) == 0) {
        cli_error(command->name, "no kernels '%s' on this processor; `ghostmax info` shows what it has", common->isa);
        code = CLI_USAGE;
    } else if (code == CLI_DONE && !passed) {
        cli_error(command->name, "this build computes wrong results on this machine; use --isa with a table that passed, and report it");
        code = CLI_FAILED;
    }
    if (common->json && code != CLI_USAGE)
        cli_print_json(json_pack("{s:b, s:O}", "passed", passed && code == CLI_DONE, "checks", list));
    json_decref(list);
    return code;
}

const cli_command cli_command_selftest = {
    .name = "selftest",
    .summary = "check this build's kernels on this machine",
    .operands = "",
    .about = "Compares every kernel table that this processor has with plain double arithmetic: normaliser rows, attention, and its\n"
             "gradients by finite differences. Exit 1 when one is wrong. `make test` checks far more.",
    .example = "ghostmax selftest",
    .size = sizeof(cli_common),
    .groups = selftest_groups,
    .defaults = selftest_defaults,
    .run = selftest_run,
};
