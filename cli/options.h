/* options.h -- what a command accepts, as data: one table per command gives the parser, help, man page, completion and
 * docs/cli.md, and the nearest-name hints.
 *
 * A command's arguments are one struct. Its defaults() fills it, the parser overwrites what the line gives, and --help prints what
 * defaults() left: a default is written down once. A number outside its range, or a NULL text, means "not given". */
#ifndef GM_CLI_OPTIONS_H
#define GM_CLI_OPTIONS_H

#include "ghostmax.h"
#include "page.h"

#include <stdio.h>

enum cli_exit { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_DIVERGED = 3 };

typedef enum cli_type {
    CLI_FLAG,     /* bool, set to true */
    CLI_UNFLAG,   /* bool, set to false */
    CLI_COUNT,    /* int64_t */
    CLI_SMALL,    /* int */
    CLI_SEED,     /* uint64_t */
    CLI_REAL,     /* double */
    CLI_TEXT,     /* const char *, never empty */
    CLI_TEXTS,    /* cli_texts: given again, one more */
    CLI_CHOICE,   /* an enum: the position among "a|b|c" */
    CLI_OVERRIDE, /* a model dimension, collected into cli_overrides */
} cli_type;

enum { CLI_TEXTS_MAX = 8 };
typedef struct cli_texts {
    const char *text[CLI_TEXTS_MAX];
    int count;
} cli_texts;

typedef struct cli_option {
    const char *name;  /* without its dashes */
    const char *value; /* "N", "DIR", "a|b|c" in the words of value_kinds.h; NULL for flags */
    const char *help;
    cli_type type;
    size_t offset; /* of the field, from its group's base */
    double min, max;
    const char *otherwise; /* in --help, when there is no fixed default: "from the data source" */
} cli_option;

/* Options that several commands share are groups of their own. Groups with equal titles stand under one heading. */
typedef struct cli_group {
    const char *title;
    const cli_option *options; /* ends with a NULL name; NULL: the model's dimensions, from gm_override_list */
    size_t base;               /* where the group's struct lies in the command's */
    bool with_data;            /* dimensions only: leave out those that the data decides */
} cli_group;

#define CLI_OVERRIDES_MAX 32
typedef struct cli_overrides {
    const char *value[CLI_OVERRIDES_MAX]; /* by gm_override_list's index */
    char text[512];                       /* "width=128,heads=2", "" for none: what the library reads */
} cli_overrides;

typedef struct cli_common {
    int64_t threads;
    const char *isa;
    bool quiet, json;
    char **operands;
    int operand_count;
} cli_common;

typedef struct cli_command {
    const char *name, *summary;
    const char *operands; /* as in the usage line, "" for none */
    int operands_min, operands_max;
    const char *about, *example;
    size_t size;             /* of the arguments' struct, which begins with a cli_common */
    const cli_group *groups; /* ends with a NULL title */
    bool shared;             /* started by mpirun, its ranks share the work; else several processes are refused */
    bool queued;             /* they take it from a queue, and go on without a lost one */
    void (*defaults)(void *args);
    void (*more_help)(cli_page *page); /* after the options; NULL: none */
    int (*run)(const struct cli_command *command, void *args);
} cli_command;

extern const cli_option cli_machine_options[], cli_quiet_options[], cli_json_options[];
#define CLI_MACHINE \
    { "Machine and output", cli_machine_options, 0, false }
#define CLI_QUIET \
    { "Machine and output", cli_quiet_options, 0, false }
#define CLI_JSON \
    { "Machine and output", cli_json_options, 0, false }
#define CLI_END \
    { NULL, NULL, 0, false }

/* Fills args from the line (argv without program and command name). Returns true to go on; else *code is the exit code: help was printed
 * (0), or the line is wrong and has been answered (2). */
bool cli_parse(const cli_command *command, void *args, int argc, char **argv, int *code);

/* The table flattened for one command, with each default as text ("" for none). Ends with a NULL option.name; freed with free(). */
typedef struct cli_row {
    cli_option option;
    const char *title; /* of its group */
    char fallback[128];
} cli_row;
cli_row *cli_rows(const cli_command *command);
/* What stands in help and manuals about an option: its words at the margin, its text with the default. */
void cli_row_head(char *dst, size_t size, const cli_row *row);
void cli_row_text(char *dst, size_t size, const cli_row *row);

#endif
