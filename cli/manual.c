/* manual.c -- what help, man pages and docs/cli.md say, from the commands' tables. */
#include "manual.h"

#include "cli.h"
#include "value_kinds.h"

#include <stdlib.h>
#include <string.h>

static const char exit_codes[] =
    "Results go to stdout, progress and errors to stderr. Exit code: 0 done; 1 files, data or the machine failed, "
    "or stopped by Ctrl-C; 2 the command line is wrong; 3 the training diverged.";

static const char about[] = "Trains transformers with any attention normaliser, measures their outliers, quantizes them, and puts the "
                            "answer in one table. `ghostmax lab` is the demo.";

/* ---- openings and ends, which differ by format --------------------------------------------------------------------------------- */

/* .TH and NAME. */
static void man_head(cli_page *page, const char *command, const char *summary) {
    const char *dash = *command ? "\\-" : "";
    fprintf(page->out, ".TH \"GHOSTMAX%s", dash);
    for (const char *p = command; *p; p++)
        fputc(*p - 'a' + 'A', page->out);
    fprintf(page->out, "\" 1 \"%s\" \"ghostmax %s\" \"ghostmax\"\n", GM_VERSION_DATE, GM_VERSION);
    cli_page_section(page, "Name");
    fprintf(page->out, "ghostmax%s%s \\- %s\n", dash, command, summary);
}

static void opening(cli_page *page, const char *command, const char *summary, const char *usage, const char *text) {
    char title[64];
    snprintf(title, sizeof title, "ghostmax%s%s", *command ? " " : "", command);
    switch (page->format) {
    case CLI_PLAIN:
        fprintf(page->out, "usage: %s %s\n", title, usage);
        break;
    case CLI_MARKDOWN:
        cli_page_section(page, title);
        fprintf(page->out, "\n    %s %s\n", title, usage);
        break;
    case CLI_MAN:
        man_head(page, command, summary);
        cli_page_section(page, "Synopsis");
        fprintf(page->out, "\\fB%s\\fR %s\n", title, usage);
        cli_page_section(page, "Description");
    }
    cli_page_text(page, text);
}

/* A heading that a man page has as a section of its own. */
static void part(cli_page *page, const char *title) {
    if (page->format == CLI_MAN)
        cli_page_section(page, title);
    else
        cli_page_heading(page, title);
}

static void see_also(cli_page *page, const cli_command *self) {
    const cli_command *command;
    if (page->format != CLI_MAN)
        return;
    cli_page_section(page, "See also");
    if (self)
        fprintf(page->out, ".BR ghostmax (1)");
    for (int i = 0; (command = cli_command_list(i)) && !self; i++)
        fprintf(page->out, "%s.BR ghostmax\\-%s (1)", i ? ",\n" : "", command->name);
    fputc('\n', page->out);
}

/* ---- pages ---------------------------------------------------------------------------------------------------------------------- */

void cli_manual_program(cli_page *page) {
    const cli_command *command;
    opening(page, "", "attention that may say nothing: train, measure, quantize, compare", "<command> [options] [arguments]", about);
    part(page, "Commands");
    for (int i = 0; (command = cli_command_list(i)); i++)
        cli_page_entry(page, command->name, command->summary);
    cli_page_text(page, "`ghostmax <command> --help` has the options, their defaults and a worked example. "
                        "`ghostmax --version [--json]` says what this build is.");
    if (page->format == CLI_MAN)
        cli_page_section(page, "Exit status");
    cli_page_text(page, exit_codes);
    if (page->format != CLI_PLAIN) {
        part(page, "Environment");
        cli_page_entry(page, "GHOSTMAX_ISA", "the kernel table to use, as `--isa`, which goes before it");
        cli_page_entry(page, "OMP_NUM_THREADS", "the worker threads where `--threads` says nothing");
    }
    part(page, "Example");
    cli_page_code(page, "ghostmax lab --data book.txt --variants softmax,softmax1,gated --seeds 3 --out book-lab");
    see_also(page, NULL);
}

static void options_of(cli_page *page, const cli_command *command) {
    cli_row *rows = cli_rows(command);
    const char *title = "";
    if (page->format == CLI_MAN)
        cli_page_section(page, "Options");
    for (cli_row *row = rows; row && row->option.name; row++) {
        char head[96], text[512];
        if (strcmp(title, row->title) != 0)
            cli_page_heading(page, title = row->title);
        cli_row_head(head, sizeof head, row);
        cli_row_text(text, sizeof text, row);
        cli_page_entry(page, head, text);
    }
    cli_page_entry(page, "-h, --help", "this text");
    free(rows);
}

void cli_manual_command(cli_page *page, const cli_command *command) {
    char usage[96];
    snprintf(usage, sizeof usage, "[options]%s%s", *command->operands ? " " : "", command->operands);
    opening(page, command->name, command->summary, usage, command->about);
    options_of(page, command);
    if (command->more_help)
        command->more_help(page);
    part(page, "Example");
    cli_page_code(page, command->example);
    see_also(page, command);
}

void cli_manual_all(cli_page *page) {
    const cli_command *command;
    const cli_kind *kind;
    fprintf(page->out, "# The command line\n");
    cli_page_text(
        page,
        "Written by `ghostmax help --markdown` (`make docs`) from the tables that parse the line. The man pages and the completion of "
        "bash, zsh and fish come from the same tables: `ghostmax help --man lab`, `ghostmax help --completion bash`; `make install` "
        "puts them in their places.");
    cli_manual_program(page);
    for (int i = 0; (command = cli_command_list(i)); i++)
        cli_manual_command(page, command);
    cli_page_section(page, "Values");
    cli_page_text(page,
                  "Words in small letters are typed as they stand (`constant|cosine|linear`); `PRESET,...` is a list. Capital ones mean:");
    for (int i = 0; (kind = cli_kind_list(i)); i++)
        cli_page_entry(page, kind->word, kind->meaning);
}
