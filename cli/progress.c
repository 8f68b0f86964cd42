/* progress.c -- progress on stderr for people (one line, rewritten) and for logs (plain lines, few); stopping on request. */
#include "cli.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static bool line_open; /* a rewritten line is on the terminal */

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int terminal_columns(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

void cli_progress_show(cli_progress *p, double share, const char *format, ...) {
    double now = now_s();
    bool terminal = isatty(STDERR_FILENO), last = share >= 1;
    double pause = terminal ? 0.1 : 10;
    bool due = now - p->last_s >= pause || (!terminal && share - p->last_share >= 0.02 && now - p->last_s >= 0.5);
    if (p->quiet || !(due || last))
        return;
    p->last_s = now;
    p->last_share = share;
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!terminal) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    int columns = terminal_columns() - 1;
    fprintf(stderr, "\r%.*s\033[K", n < columns ? n : columns, line);
    line_open = true;
}

void cli_progress_end(void) {
    if (line_open)
        fputc('\n', stderr);
    line_open = false;
}

void cli_note(const char *format, ...) {
    va_list args;
    cli_progress_end();
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void cli_format_seconds(char *dst, size_t size, double seconds) {
    if (!(seconds >= 0) || seconds > 1e9)
        snprintf(dst, size, "-");
    else if (seconds < 60)
        snprintf(dst, size, "%.0f s", seconds);
    else if (seconds < 3600)
        snprintf(dst, size, "%d:%02d min", (int)(seconds / 60), (int)fmod(seconds, 60));
    else
        snprintf(dst, size, "%d:%02d h", (int)(seconds / 3600), (int)(fmod(seconds, 3600) / 60));
}

void cli_format_count(char *dst, size_t size, double count) {
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    int unit = 0;
    while (count >= 999.5 && unit < 5) {
        count /= 1000;
        unit++;
    }
    snprintf(dst, size, unit ? "%.3g%s" : "%.0f%s", count, units[unit]);
}

/* ---- stopping ------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_asked;

static void on_stop(int signal_number) {
    (void)signal_number;
    stop_asked = 1;
}

void cli_catch_stop(void) {
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND}; /* the second one ends the process */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_stop_asked(void) {
    return stop_asked;
}
