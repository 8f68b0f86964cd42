/* page.c -- the three forms of help. */
#include "page.h"

#include <ctype.h>
#include <string.h>

enum { HEAD_COLUMNS = 26, COLUMNS = 100 };

/* ---- a terminal -------------------------------------------------------------------------------------------------------------- */

/* Words from column `column` on, wrapped at COLUMNS, further lines indented. */
static void wrap(FILE *out, const char *text, int column, int indent) {
    bool first = true;
    for (const char *word = text + strspn(text, " \n"); *word;) {
        size_t n = strcspn(word, " \n");
        if (!first && column + 1 + (int)n > COLUMNS) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)n, word);
        column += (int)n;
        word += n;
        word += strspn(word, " \n");
        first = false;
    }
    fputc('\n', out);
}

static void plain_entry(FILE *out, const char *head, const char *text) {
    int column = fprintf(out, "  %s", head);
    if (column >= HEAD_COLUMNS) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", HEAD_COLUMNS - column, "");
    wrap(out, text, HEAD_COLUMNS, HEAD_COLUMNS);
}

/* ---- Markdown ---------------------------------------------------------------------------------------------------------------- */

/* Newlines become spaces; what would be markup outside `...` is escaped. */
static void markdown_text(FILE *out, const char *text) {
    bool code = false;
    for (const char *p = text; *p; p++) {
        code ^= *p == '`';
        if (!code && strchr("<>*_[]|", *p))
            fputc('\\', out);
        fputc(*p == '\n' ? ' ' : *p, out);
    }
    fputc('\n', out);
}

/* ---- man: roff --------------------------------------------------------------------------------------------------------------- */

static void roff_char(FILE *out, char c) {
    static const struct {
        char c;
        const char *roff;
    } escapes[] = {{'\\', "\\e"}, {'-', "\\-"}, {'^', "\\(ha"}, {'~', "\\(ti"}, {'\'', "\\(aq"}};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (escapes[i].c == c) {
            fputs(escapes[i].roff, out);
            return;
        }
    }
    fputc(c, out);
}

/* Lines of at most 79 columns, with `...` in bold. A line that begins with a dot would be a request. */
static void roff_text(FILE *out, const char *text) {
    bool code = false;
    int column = 0;
    for (const char *p = text; *p; p++) {
        if (*p == ' ' || *p == '\n') {
            int next = 2 * (int)strcspn(p + 1, " \n"); /* an escaped character has at most that, but for a few */
            column = column + next > 76 ? 0 : column + 1;
            fputc(column ? ' ' : '\n', out);
            continue;
        }
        if (column == 0 && *p == '.')
            fputs("\\&", out);
        if (*p == '`')
            fputs((code = !code) ? "\\fB" : "\\fR", out);
        else
            roff_char(out, *p);
        column += *p == '-' ? 2 : *p == '\'' || *p == '`' ? 3 : 1;
    }
    fputs(code ? "\\fR\n" : "\n", out);
}

/* "--lr X": the option in bold, its value in italics. */
static void roff_entry(FILE *out, const char *head, const char *text) {
    size_t n = strcspn(head, " ");
    fputs(".TP\n\\fB", out);
    for (size_t i = 0; i < n; i++)
        roff_char(out, head[i]);
    fputs(head[n] ? "\\fR \\fI" : "\\fR", out);
    for (const char *p = head + n; *p && *++p;)
        roff_char(out, *p);
    fputs(head[n] ? "\\fR\n" : "\n", out);
    roff_text(out, text);
}

/* ---- the writer -------------------------------------------------------------------------------------------------------------- */

static void title(cli_page *page, const char *markdown, const char *man, const char *text) {
    if (page->format == CLI_MAN)
        fprintf(page->out, ".%s \"", man);
    else
        fprintf(page->out, "\n%s", page->format == CLI_MARKDOWN ? markdown : "");
    for (const char *p = text; *p; p++)
        fputc(page->format == CLI_MAN && man[1] == 'H' ? toupper((unsigned char)*p) : *p, page->out);
    fputs(page->format == CLI_MAN ? "\"\n" : "\n", page->out);
    page->listing = false;
    page->opened = true;
}

void cli_page_section(cli_page *page, const char *text) {
    title(page, "## ", "SH", text);
}

void cli_page_heading(cli_page *page, const char *text) {
    title(page, "### ", "SS", text);
}

static void paragraph(cli_page *page, const char *text) {
    switch (page->format) {
    case CLI_PLAIN:
        fputc('\n', page->out);
        wrap(page->out, text, 0, 0);
        break;
    case CLI_MARKDOWN:
        fputc('\n', page->out);
        markdown_text(page->out, text);
        break;
    case CLI_MAN:
        fputs(page->opened ? "" : ".PP\n", page->out);
        roff_text(page->out, text);
    }
    page->listing = page->opened = false;
}

void cli_page_text(cli_page *page, const char *text) {
    char part[2048];
    for (const char *end; *text; text = end + strspn(end, "\n")) {
        end = strstr(text, "\n\n");
        if (!end)
            end = text + strlen(text);
        snprintf(part, sizeof part, "%.*s", (int)(end - text), text);
        paragraph(page, part);
    }
}

void cli_page_entry(cli_page *page, const char *head, const char *text) {
    switch (page->format) {
    case CLI_PLAIN:
        plain_entry(page->out, head, text);
        break;
    case CLI_MARKDOWN:
        fprintf(page->out, "%s- `%s`: ", page->listing ? "" : "\n", head);
        markdown_text(page->out, text);
        break;
    case CLI_MAN:
        roff_entry(page->out, head, text);
    }
    page->listing = true;
    page->opened = false;
}

void cli_page_code(cli_page *page, const char *line) {
    if (page->format == CLI_MAN) {
        fprintf(page->out, "%s.nf\n.RS 2\n", page->opened ? "" : ".PP\n");
        for (const char *p = line; *p; p++)
            roff_char(page->out, *p);
        fputs("\n.RE\n.fi\n", page->out);
    } else if (page->format == CLI_MARKDOWN) {
        fprintf(page->out, "\n    %s\n", line);
    } else {
        fprintf(page->out, "  %s\n", line);
    }
    page->listing = page->opened = false;
}
