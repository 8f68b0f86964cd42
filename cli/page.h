/* page.h -- help as text for a terminal, as Markdown, and as a man page: one writer, so that the three cannot say different things.
 *
 * Texts are plain sentences; an empty line parts two paragraphs, `...` is what one types. */
#ifndef GM_CLI_PAGE_H
#define GM_CLI_PAGE_H

#include <stdbool.h>
#include <stdio.h>

typedef enum cli_format { CLI_PLAIN, CLI_MARKDOWN, CLI_MAN } cli_format;

typedef struct cli_page {
    FILE *out;
    cli_format format;
    bool listing; /* the last thing written was an entry */
    bool opened;  /* it was a title */
} cli_page;

/* A section, and a part of one (Markdown: ## and ###; man: SH and SS; a terminal: the same line for both). */
void cli_page_section(cli_page *page, const char *title);
void cli_page_heading(cli_page *page, const char *title);
void cli_page_text(cli_page *page, const char *text);
/* What stands at the margin, "--lr X", and what it is. */
void cli_page_entry(cli_page *page, const char *head, const char *text);
/* A line to type. */
void cli_page_code(cli_page *page, const char *line);

#endif
