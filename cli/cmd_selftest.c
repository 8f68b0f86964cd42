/* cmd_selftest.c -- does this build compute the right thing on this machine? */
#include "cli.h"

#include <math.h>
#include <string.h>

static void selftest_defaults(void *args) {
    *(cli_common *)args = (cli_common){0};
}

static const cli_group selftest_groups[] = {CLI_MACHINE, CLI_JSON, CLI_END};

typedef struct selftest_watch {
    const cli_common *common;
    json_t *checks; /* --json: they are collected */
    char isa[32];   /* whose heading was printed last */
} selftest_watch;

static bool on_line(void *user, const gm_selftest_line *line) {
    selftest_watch *watch = user;
    if (watch->common->json) {
        json_array_append_new(watch->checks, json_pack("{s:s, s:s, s:I, s:o, s:f, s:s, s:b}", "isa", line->isa, "check", line->check,
                                                       "count", (json_int_t)line->count, "error", cli_json_number(line->error), "tolerance",
                                                       line->allowed, "worst", line->worst, "passed", line->passed));
        return cli_stop_asked();
    }
    if (strcmp(watch->isa, line->isa) != 0) {
        snprintf(watch->isa, sizeof watch->isa, "%s", line->isa);
        printf("%-44s %11s %9s %9s\n", line->isa, "comparisons", "worst", "allowed");
    }
    printf("  %-42s %11lld %9.1e %9.0e  %s%s%s\n", line->check, (long long)line->count, line->error, line->allowed,
           line->passed ? "ok" : "FAILED", line->passed || !*line->worst ? "" : ": ", line->passed ? "" : line->worst);
    fflush(stdout);
    return cli_stop_asked();
}

static int selftest_run(const cli_command *command, void *arguments) {
    const cli_common *common = arguments;
    selftest_watch watch = {.common = common, .checks = json_array()};
    gm_error err = {.offset = -1};
    bool passed;
    int code = CLI_DONE;
    cli_catch_stop();
    gm_status status =
        gm_selftest_run(&(gm_ctx_options){.threads = (int)common->threads, .isa = common->isa}, on_line, &watch, &passed, &err);
    if (status != GM_OK) {
        code = cli_fail(command, &err);
    } else if (!passed) {
        cli_error(command->name, "this build computes wrong results on this machine; use --isa with a table that passed, and report it");
        code = CLI_FAILED;
    }
    if (common->json && status == GM_OK)
        cli_print_json(json_pack("{s:b, s:O, s:o}", "passed", passed, "checks", watch.checks, "build", cli_build_json()));
    json_decref(watch.checks);
    return code;
}

const cli_command cli_command_selftest = {
    .name = "selftest",
    .summary = "check what this build computes on this machine",
    .operands = "",
    .about =
        "On every kernel table that this processor has, or up to --isa: each kernel beside its plain C definition; normaliser, attention, "
        "metrics and quantizers beside arithmetic in double; gradients beside differences; twenty training steps, and the metrics of two "
        "models, beside known numbers; executed integers beside their simulation. Prints the worst error of each and what is allowed; exit "
        "1 when one is wrong. `make test` checks far more.",
    .example = "ghostmax selftest",
    .size = sizeof(cli_common),
    .groups = selftest_groups,
    .defaults = selftest_defaults,
    .run = selftest_run,
};
