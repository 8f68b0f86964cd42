/* terminal.c -- what is known of the terminal, and a block of lines on it that is drawn again in place.
 *
 * The size is asked for at every drawing, since no signal may be handled (progress.c says why). A frame is one write, so that nobody sees
 * half of one; the cursor is hidden only within it, so that it is there however the program ends. */
#include "cli.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FRAME = 8192 };

static struct {
    int count; /* lines that stand on the terminal; the cursor is behind the last */
    int widths[CLI_BLOCK_LINES];
} shown;
static atomic_bool standing;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

bool cli_terminal(int fd) {
    const char *kind = setting("TERM");
    return isatty(fd) && *kind && strcmp(kind, "dumb") != 0;
}

void cli_terminal_size(int fd, int *columns, int *rows) {
    struct winsize size = {0};
    bool known = ioctl(fd, TIOCGWINSZ, &size) == 0;
    *columns = known && size.ws_col > 0 ? size.ws_col : 80;
    *rows = known && size.ws_row > 0 ? size.ws_row : 24;
}

bool cli_terminal_colors(int fd) {
    return cli_terminal(fd) && !*setting("NO_COLOR"); /* no-color.org */
}

/* By the names of the locale alone: a machine may not have it installed, and its terminal shows the characters all the same. */
bool cli_terminal_unicode(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *locale = "";
    for (int i = 0; i < 3 && !*locale; i++)
        locale = setting(names[i]);
    const char *set = strchr(locale, '.');
    return set && (strncasecmp(set, ".UTF-8", 6) == 0 || strncasecmp(set, ".UTF8", 5) == 0);
}

/* ---- the block */

int cli_text_width(const char *text) {
    int width = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '\033') /* a colour: ESC [ ... m */
            p += strcspn(p, "m");
        else if (((unsigned char)*p & 0xc0) != 0x80)
            width++;
        if (!*p)
            break;
    }
    return width;
}

/* As much of it as `columns` have room for. */
static size_t cut(const char *text, int columns) {
    const char *p = text;
    for (int width = 0; *p; p++) {
        if (*p == '\033') {
            p += strcspn(p, "m");
            if (!*p)
                break;
        } else if (((unsigned char)*p & 0xc0) != 0x80 && ++width > columns)
            break;
    }
    return (size_t)(p - text);
}

/* To the block's beginning: a terminal that became narrower has wrapped its lines. */
static size_t go_back(char *frame, size_t size, int columns) {
    int rows = 0;
    for (int i = 0; i < shown.count; i++)
        rows += shown.widths[i] > columns ? (shown.widths[i] + columns - 1) / columns : 1;
    return (size_t)(rows > 1 ? snprintf(frame, size, "\r\033[%dA", rows - 1) : snprintf(frame, size, "\r"));
}

static void put(const char *frame, size_t size) {
    fflush(stderr);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(STDERR_FILENO, frame + done, size - done);
        if (n <= 0)
            return;
        done += (size_t)n;
    }
}

void cli_block_draw(const char *const *lines, int count) {
    char frame[FRAME];
    int columns, rows;
    cli_terminal_size(STDERR_FILENO, &columns, &rows);
    size_t used = (size_t)snprintf(frame, sizeof frame, "\033[?25l");
    used += go_back(frame + used, sizeof frame - used, columns);
    count = count < CLI_BLOCK_LINES ? count : CLI_BLOCK_LINES;
    for (int i = 0; i < count; i++) {
        size_t n = cut(lines[i], columns - 1);
        if (used + n + 64 > sizeof frame)
            break;
        used += (size_t)snprintf(frame + used, sizeof frame - used, "%.*s\033[0m\033[K%s", (int)n, lines[i], i + 1 < count ? "\r\n" : "");
        int width = cli_text_width(lines[i]);
        shown.widths[i] = width < columns - 1 ? width : columns - 1;
    }
    used += (size_t)snprintf(frame + used, sizeof frame - used, "\033[J\033[?25h");
    shown.count = count;
    atomic_store(&standing, true);
    put(frame, used);
}

void cli_block_clear(void) {
    char frame[64];
    int columns, rows;
    if (!shown.count)
        return;
    cli_terminal_size(STDERR_FILENO, &columns, &rows);
    size_t used = go_back(frame, sizeof frame, columns);
    used += (size_t)snprintf(frame + used, sizeof frame - used, "\033[J");
    put(frame, used);
    shown.count = 0;
    atomic_store(&standing, false);
}

void cli_block_leave(void) {
    if (atomic_exchange(&standing, false))
        put("\n", 1);
    shown.count = 0;
}
