/* value_kinds.h -- what the words in a value's place mean ("--data SOURCE", "MODEL"), for completion and docs/cli.md.
 *
 * A value is written as alternatives, "auto|N|off": small ones are typed as they stand, capital ones are a kind of the table here.
 * "KIND,..." is a comma list of them. */
#ifndef GM_CLI_VALUE_KINDS_H
#define GM_CLI_VALUE_KINDS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum cli_paths { CLI_NO_PATHS, CLI_FOLDERS, CLI_FILES /* folders too */ } cli_paths;

typedef struct cli_kind {
    const char *word, *meaning;
    cli_paths paths;
    const char *(*name)(int index); /* its names, NULL past the end; NULL: it has none */
} cli_kind;

const cli_kind *cli_kind_list(int index); /* NULL past the end */

/* What may be typed for a value or an operand ("[FILE|DIR]", "LAB...", "PRESET,..."). */
typedef struct cli_choices {
    cli_paths paths;
    bool list; /* several, separated by commas */
    int count;
    char names[32][48];
} cli_choices;
void cli_choices_of(cli_choices *choices, const char *value);

#endif
