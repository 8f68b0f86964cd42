/* progress.c -- progress on stderr for people (drawn again in place) and for logs (plain lines, few); stopping on request. */
#include "cli.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool cli_progress_due(cli_progress *p, double share) {
    double now = now_s();
    bool terminal = cli_terminal(STDERR_FILENO), last = share >= 1;
    double pause = terminal ? 0.1 : 10;
    bool due = now - p->last_s >= pause || (!terminal && share - p->last_share >= 0.02 && now - p->last_s >= 0.5);
    if (p->quiet || !cli_speaks() || !(due || last))
        return false;
    p->last_s = now;
    p->last_share = share;
    return true;
}

void cli_progress_show(cli_progress *p, double share, const char *format, ...) {
    char line[512];
    const char *lines[] = {line};
    va_list args;
    if (!cli_progress_due(p, share))
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (cli_terminal(STDERR_FILENO))
        cli_block_draw(lines, 1);
    else
        fprintf(stderr, "%s\n", line);
}

void cli_progress_end(void) {
    cli_block_leave();
}

void cli_say(const char *format, va_list args) {
    char line[4096];
    vsnprintf(line, sizeof line, format, args);
    for (char *p = line; *p; p++)
        *p = (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p;
    fprintf(stderr, "%s\n", line);
}

void cli_note(const char *format, ...) {
    va_list args;
    cli_block_clear();
    if (!cli_speaks())
        return;
    va_start(args, format);
    cli_say(format, args);
    va_end(args);
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

/* No handler ever runs on a computing thread: oneDNN's kernels put the stack pointer into a buffer of their own, and a signal's frame
 * (11 kB where the processor has AMX) would be written past its end. So the signals are blocked everywhere and one thread waits. */
static atomic_bool stop_asked;
static sigset_t stop_signals;

static void *wait_for_stop(void *unused) {
    int number;
    sigwait(&stop_signals, &number);
    atomic_store(&stop_asked, true);
    const struct timespec moment = {.tv_sec = 1}, now = {0};
    nanosleep(&moment, NULL); /* one Ctrl-C may arrive twice: to the process and to its group */
    while (sigtimedwait(&stop_signals, NULL, &now) > 0) {
    }
    do
        sigwait(&stop_signals, &number); /* the second one ends the process; files are never half written */
    while (number == SIGHUP);            /* that a terminal has gone is told by whoever notices */
    cli_block_leave();
    _exit(128 + number);
    return unused;
}

/* Some libraries' constructors take signals: UCX, below Open MPI 5, takes SIGHUP, which nohup had ignored. A program's own preinit_array
 * comes before every library's constructor. */
static struct sigaction hangup_at_start;
static bool remembered; /* not every C library calls these */

static void remember_hangup(void) {
    remembered = sigaction(SIGHUP, NULL, &hangup_at_start) == 0;
}

__attribute__((section(".preinit_array"), used)) static void (*const remember[])(void) = {remember_hangup};

void cli_restore_hangup(void) {
    if (remembered)
        sigaction(SIGHUP, &hangup_at_start, NULL);
}

void cli_catch_stop(void) {
    static bool caught;
    pthread_t thread;
    if (caught)
        return;
    caught = true;
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGINT);
    sigaddset(&stop_signals, SIGTERM);
    sigaddset(&stop_signals, SIGUSR1); /* what mpirun and Slurm hand on without killing afterwards */
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) /* ignored: nohup, the run outlives its terminal */
        sigaddset(&stop_signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);
    if (pthread_create(&thread, NULL, wait_for_stop, NULL) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &stop_signals, NULL); /* a signal then ends the process at once */
}

bool cli_stop_asked(void) {
    return atomic_load(&stop_asked);
}
