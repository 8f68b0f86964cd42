/* cmd_report.c -- one HTML page from labs, training runs and measurements. */
#include "cli.h"

#include <stdlib.h>
#include <unistd.h>

typedef struct report_args {
    cli_common common;
    const char *out;
    bool force, text;
} report_args;

static void report_defaults(void *args) {
    *(report_args *)args = (report_args){0};
}

static const cli_option report_options[] = {
    {"out", "FILE", "the page", CLI_TEXT, offsetof(report_args, out), 0, 0, "report.html in the only DIR"},
    {"text", NULL, "draw it on stdout instead, as wide as the terminal ($COLUMNS in a pipe, else 80)", CLI_FLAG,
     offsetof(report_args, text), 0, 0, NULL},
    {"force", NULL, "overwrite --out when it exists", CLI_FLAG, offsetof(report_args, force), 0, 0, NULL},
    {0}};

static const cli_group report_groups[] = {{"Options", report_options, 0, false}, CLI_END};

static int draw_text(const cli_command *command, const report_args *args) {
    gm_text_style style = {.colors = cli_terminal_colors(STDOUT_FILENO), .unicode = cli_terminal_unicode()};
    gm_error err = {.offset = -1};
    const char *columns = getenv("COLUMNS");
    int64_t width = 80;
    int rows;
    char *text;
    if (isatty(STDOUT_FILENO))
        cli_terminal_size(STDOUT_FILENO, &style.width, &rows);
    else {
        if (columns)
            gm_text_int(&width, columns, 1, 1000, "COLUMNS", NULL); /* a wrong one is none */
        style.width = (int)width;
    }
    if (gm_report_text((const char *const *)args->common.operands, args->common.operand_count, &style, &text, &err) != GM_OK)
        return cli_fail(command, &err);
    fputs(text, stdout);
    free(text);
    return CLI_DONE;
}

static int report_run(const cli_command *command, void *arguments) {
    report_args *args = arguments;
    gm_error err = {.offset = -1};
    char inside[1024];
    const char *path = args->out;
    if (args->text && (args->out || args->force)) {
        cli_error(command->name, "--text writes no page; leave out --out and --force");
        return CLI_USAGE;
    }
    if (args->text)
        return draw_text(command, args);
    if (!path && args->common.operand_count > 1) {
        cli_error(command->name, "several folders need --out FILE for their one page");
        return CLI_USAGE;
    }
    if (!path) {
        int n = snprintf(inside, sizeof inside, "%s/report.html", args->common.operands[0]);
        if (n < 0 || (size_t)n >= sizeof inside) {
            cli_error(command->name, "the folder's name is too long");
            return CLI_USAGE;
        }
        path = inside;
    } else if (!args->force && access(path, F_OK) == 0) {
        cli_error(command->name, "'%s' exists; give another --out, or --force to overwrite it", path);
        return CLI_FAILED;
    }
    if (gm_report_write((const char *const *)args->common.operands, args->common.operand_count, path, &err) != GM_OK)
        return cli_fail(command, &err);
    printf("%s\n", path);
    return CLI_DONE;
}

const cli_command cli_command_report = {
    .name = "report",
    .summary = "one self-contained HTML page from labs, runs, audits",
    .operands = "DIR...",
    .operands_min = 1,
    .operands_max = 1 << 10,
    .about =
        "Writes a page with the verdict, the table, training curves, activations, attention maps and what quantization costs, of the\n"
        "folders of `ghostmax lab`, `train` and `measure --out`, from one machine or many, finished or not. Runs of the same data and\n"
        "recipe are compared; others stand apart, with the reason. The page needs no network and no other file. `lab`, `train` and\n"
        "`measure --out` write one of their own. --text draws the same numbers in a terminal.",
    .example = "ghostmax report lab book-lab audited-model --out all.html",
    .size = sizeof(report_args),
    .groups = report_groups,
    .defaults = report_defaults,
    .run = report_run,
};
