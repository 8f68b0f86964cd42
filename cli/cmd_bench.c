/* cmd_bench.c -- how fast this build is on this machine, line by line against the machine's measured limits. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct bench_args {
    cli_common common;
    gm_bench_options bench;
} bench_args;

static void bench_defaults(void *args) {
    *(bench_args *)args = (bench_args){0};
}

static const cli_option bench_options[] = {
    {"quick", NULL, "the lines that tell most, with fewer samples: under three minutes on two cores", CLI_FLAG,
     offsetof(bench_args, bench.quick), 0, 0, NULL},
    {"filter", "TEXT", "only lines whose group and name contain TEXT, as in `--list`", CLI_TEXT, offsetof(bench_args, bench.filter), 0, 0,
     "every line"},
    {"list", NULL, "print the lines' names and measure nothing", CLI_FLAG, offsetof(bench_args, bench.list), 0, 0, NULL},
    {0}};

static const cli_group bench_groups[] = {{"Options", bench_options, 0, false}, CLI_MACHINE, CLI_QUIET, CLI_JSON, CLI_END};

/* ---- the table ---------------------------------------------------------------------------------------------------------------- */

enum { NAME_COLUMNS = 53 };

typedef struct table {
    const bench_args *args;
    char group[32]; /* whose heading stands above */
    int lines, count;
    cli_progress progress;
} table;

/* Four digits and a prefix: "12.34 m", "1.235 G". */
static void format_scaled(char *dst, size_t size, double x, const char *unit) {
    static const char *const prefixes[] = {"n", "u", "m", "", "k", "M", "G", "T"};
    int i = 3;
    for (; x >= 999.95 && i < 7; i++)
        x /= 1000;
    for (; x < 0.99995 && i > 0; i--)
        x *= 1000;
    snprintf(dst, size, "%.*f %s%s", x < 9.9995 ? 3 : x < 99.995 ? 2 : 1, x, prefixes[i], unit);
}

static bool print_name(void *user, const gm_bench_line *line) {
    table *t = user;
    t->count++;
    if (t->args->bench.list && !t->args->common.json)
        printf("%s %s\n", line->group, line->name);
    return false;
}

/* What a step line says beside its name: its tokens, or its share. */
static void format_name(char *dst, size_t size, const gm_bench_line *line) {
    char note[40] = "", number[24];
    if (line->tokens_per_s > 0) {
        cli_format_count(number, sizeof number, line->tokens_per_s);
        snprintf(note, sizeof note, "%s tokens/s", number);
    } else if (line->share > 0) {
        snprintf(note, sizeof note, "%.1f%% of it", 100 * line->share);
    }
    int space = *note ? NAME_COLUMNS - (int)strlen(line->name) : 0;
    snprintf(dst, size, "%s%*s", line->name, space, note);
}

static bool print_line(void *user, const gm_bench_line *line) {
    table *t = user;
    char name[128], time[32], rate[32];
    t->lines++;
    if (t->args->common.json) {
        cli_progress_show(&t->progress, (double)t->lines / t->count, "%d of %d: %s %s", t->lines, t->count, line->group, line->name);
        return false;
    }
    if (strcmp(t->group, line->group) != 0) {
        snprintf(t->group, sizeof t->group, "%s", line->group);
        printf("\n%-*s %9s %6s %12s %6s  %s\n", NAME_COLUMNS + 2, line->title, "time", "spread", "rate", "limit", "set by");
    }
    format_name(name, sizeof name, line);
    format_scaled(time, sizeof time, line->median_s, "s");
    format_scaled(rate, sizeof rate, line->rate, line->unit);
    printf("  %-*s %9s %5.1f%% %12s %5.1f%%  %s", NAME_COLUMNS, name, time, 100 * line->mad_s / line->median_s, rate, line->percent,
           line->bound);
    if (line->speedup > 0)
        printf("; %.2fx", line->speedup);
    if (line->memory_share > 0)
        printf(", %.2f of the memory", line->memory_share);
    if (line->over_softmax > 0)
        printf("; %.3fx softmax (%.3f..%.3f)", line->over_softmax, line->over_softmax_low, line->over_softmax_high);
    printf("\n");
    fflush(stdout);
    return false;
}

static void print_end(const char *json) {
    json_t *root = json_loads(json, 0, NULL), *skipped = json_object_get(root, "skipped"), *text;
    size_t i;
    printf("\n");
    json_array_foreach(skipped, i, text) printf("left out: %s\n", json_string_value(text));
    printf("%s\n", json_string_value(json_object_get(json_object_get(root, "noise"), "verdict")));
    json_decref(root);
}

static int measure(const cli_command *command, const gm_ctx *ctx, table *t) {
    gm_error err = {.offset = -1};
    char *json = NULL;
    gm_bench_options names = t->args->bench;
    names.list = true;
    if (gm_bench_run(ctx, &names, print_name, t, &json, &err) != GM_OK)
        return cli_fail(command, &err);
    if (t->args->bench.list && t->args->common.json)
        printf("%s\n", json);
    free(json);
    if (t->args->bench.list)
        return CLI_DONE;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (gm_ctx_threads(ctx) > cores && !t->args->common.quiet)
        cli_note("ghostmax bench: %d threads share %ld core%s; the times are of threads that wait for each other", gm_ctx_threads(ctx),
                 cores, cores > 1 ? "s" : "");
    if (!t->args->common.json)
        printf("ghostmax %s: %s kernels, matrix products by %s, %d thread%s, %ld core%s\n", GM_VERSION, gm_ctx_isa(ctx), gm_ctx_gemm(ctx),
               gm_ctx_threads(ctx), gm_ctx_threads(ctx) > 1 ? "s" : "", cores, cores > 1 ? "s" : "");
    if (gm_bench_run(ctx, &t->args->bench, print_line, t, &json, &err) != GM_OK)
        return cli_fail(command, &err);
    if (t->args->common.json)
        printf("%s\n", json);
    else
        print_end(json);
    free(json);
    return CLI_DONE;
}

static int bench_run(const cli_command *command, void *arguments) {
    const bench_args *args = arguments;
    gm_error err = {.offset = -1};
    gm_ctx *ctx;
    if (cli_context(&ctx, &args->common, &err) != GM_OK)
        return cli_fail(command, &err);
    table t = {.args = args, .progress.quiet = args->common.quiet};
    int code = measure(command, ctx, &t);
    gm_ctx_free(ctx);
    return code;
}

static void bench_help(cli_page *page) {
    cli_page_text(
        page, "A line: the median time of a call; the median distance from it; the rate; the percent of the least time that this machine's "
              "measured limits allow; and which limit that is: multiply-adds (fma), 8-bit products (int8), or reading or copying as much "
              "data as the calls go through. A model on integers also has its speed over f32 and its share of the memory; an attention "
              "variant its time over softmax's, the two measured in turn, with the range where the median lies at 95%. "
              "docs/performance.md says how each is measured and counted.");
}

const cli_command cli_command_bench = {
    .name = "bench",
    .summary = "speed of every part, in percent of what this machine can do",
    .operands = "",
    .about =
        "Measures the machine's limits (multiply-adds, 8-bit dot products, memory), then matrix products, attention, every other layer,\n"
        "whole training steps and decoding against them.",
    .example = "ghostmax bench --quick --filter attention",
    .size = sizeof(bench_args),
    .groups = bench_groups,
    .defaults = bench_defaults,
    .more_help = bench_help,
    .run = bench_run,
};
