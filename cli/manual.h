/* manual.h -- help of the program and of each command, in any of the page's formats; and all of it as one document. */
#ifndef GM_CLI_MANUAL_H
#define GM_CLI_MANUAL_H

#include "options.h"

void cli_manual_program(cli_page *page);
void cli_manual_command(cli_page *page, const cli_command *command);
/* Program, commands and the kinds of values: docs/cli.md. */
void cli_manual_all(cli_page *page);

/* A completion script for one of bash|zsh|fish, by its position. */
void cli_completion_print(FILE *out, int shell);

#endif
