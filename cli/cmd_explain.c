/* cmd_explain.c -- what each variant does with one row of scores: weights, their sum, the mass given to nothing. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct explain_args {
    cli_common common;
    const char *variants;
    int64_t context;
} explain_args;

static void explain_defaults(void *args) {
    *(explain_args *)args = (explain_args){.variants = "softmax,softmax1,softmax_n:n=0.5,sink,clipped:gamma=-0.03,zeta=1,clipped:alpha=4"};
}

static const cli_option explain_options[] = {
    {"variants", "VARIANT,...", "which variants; a learned sink stands at its initial 0, a gate fully open", CLI_TEXT,
     offsetof(explain_args, variants), 0, 0, NULL},
    {"context", "N", "what clipped:alpha divides by", CLI_COUNT, offsetof(explain_args, context), 1, 1 << 24, "the number of scores"},
    {0}};

static const cli_group explain_groups[] = {{"Options", explain_options, 0, false}, CLI_MACHINE, CLI_JSON, CLI_END};

enum { VARIANTS_MAX = 64 };

typedef struct explain_row {
    char spec[256];
    float lse, null_mass;
    double sum;
} explain_row;

static void print_json(const explain_row *rows, const float *weights, int count, int n) {
    json_t *list = json_array();
    for (int r = 0; r < count; r++) {
        json_t *row = json_object(), *w = json_array();
        for (int i = 0; i < n; i++)
            json_array_append_new(w, cli_json_number(weights[(size_t)r * n + i]));
        json_object_set_new(row, "variant", json_string(rows[r].spec));
        json_object_set_new(row, "weights", w);
        json_object_set_new(row, "sum", cli_json_number(rows[r].sum));
        json_object_set_new(row, "null_mass", cli_json_number(rows[r].null_mass));
        json_object_set_new(row, "unspent", cli_json_number(1 - rows[r].sum));
        json_array_append_new(list, row);
    }
    cli_print_json(json_pack("{s:o}", "rows", list));
}

/* Without the sign that a processor gives to some NaN. */
static double plain(double x) {
    return isnan(x) ? (double)NAN : x;
}

static void print_table(const explain_row *rows, const float *weights, const float *scores, int count, int n) {
    enum { SHOWN = 8 };
    int shown = n < SHOWN ? n : SHOWN, width = 7;
    for (int r = 0; r < count; r++) {
        int length = (int)strlen(rows[r].spec);
        width = length > width ? length : width;
    }
    printf("%-*s", width, "score");
    for (int i = 0; i < shown; i++)
        printf(" %10.5g", (double)scores[i]);
    printf("%s %10s %10s\n", n > shown ? " ..." : "", "sum", "null mass");
    for (int r = 0; r < count; r++) {
        printf("%-*s", width, rows[r].spec);
        for (int i = 0; i < shown; i++)
            printf(" %10.4g", plain(weights[(size_t)r * n + i]));
        printf("%s %10.5g %10.5g\n", n > shown ? " ..." : "", plain(rows[r].sum), plain(rows[r].null_mass));
    }
}

/* A score may be any float, inf and nan included: what a variant does with them is what one may want to see. */
static bool parse_scores(const cli_command *command, float *scores, char **operands, int n) {
    for (int i = 0; i < n; i++) {
        char *end;
        scores[i] = strtof(operands[i], &end);
        if (end == operands[i] || *end) {
            cli_error(command->name, "'%s' is not a number; scores are numbers, -inf (masked) or nan", operands[i]);
            return false;
        }
    }
    return true;
}

static int explain_run(const cli_command *command, void *arguments) {
    explain_args *args = arguments;
    int n = args->common.operand_count, count, code = CLI_FAILED;
    gm_variant variants[VARIANTS_MAX];
    explain_row rows[VARIANTS_MAX];
    gm_error err = {0};
    gm_ctx *ctx = NULL;
    if (gm_variants_parse(variants, VARIANTS_MAX, &count, args->variants, &err) != GM_OK || cli_context(&ctx, &args->common, &err) != GM_OK)
        return cli_fail(command, &err);
    float *scores = malloc(sizeof(float) * (size_t)n), *weights = malloc(sizeof(float) * (size_t)n * (size_t)count);
    if (!scores || !weights) {
        cli_error(command->name, "out of memory");
        goto done;
    }
    if (!parse_scores(command, scores, args->common.operands, n)) {
        code = CLI_USAGE;
        goto done;
    }
    for (int r = 0; r < count; r++) {
        float *w = weights + (size_t)r * n;
        gm_variant_format(rows[r].spec, sizeof rows[r].spec, &variants[r]);
        gm_norm norm = gm_variant_norm(&variants[r], args->context > 0 ? args->context : n);
        if (gm_norm_rows_fwd(ctx, w, n, &rows[r].lse, &rows[r].null_mass, scores, n, 1, n, norm, &err) != GM_OK) {
            code = cli_fail(command, &err);
            goto done;
        }
        rows[r].sum = 0;
        for (int i = 0; i < n; i++)
            rows[r].sum += w[i];
    }
    if (args->common.json)
        print_json(rows, weights, count, n);
    else
        print_table(rows, weights, scores, count, n);
    code = CLI_DONE;
done:
    free(scores);
    free(weights);
    gm_ctx_free(ctx);
    return code;
}

const cli_command cli_command_explain = {
    .name = "explain",
    .summary = "what each variant does with one row of scores",
    .operands = "-- SCORE...",
    .operands_min = 1,
    .operands_max = 1 << 20,
    .about = "Prints the weights that each variant gives to one row of attention scores, their sum, and the null mass: what the\n"
             "sink takes, which is how much of the head says nothing.",
    .example = "ghostmax explain -- -10 -10 -10     (softmax must spend 1; softmax1 spends 0.000136)",
    .size = sizeof(explain_args),
    .groups = explain_groups,
    .defaults = explain_defaults,
    .more_help = cli_help_variants,
    .run = explain_run,
};
