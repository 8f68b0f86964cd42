/* training_view.c -- a training run for people: a bar, the loss so far as a line of small columns, speed, and what was measured last. */
#include "cli.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 1024, LOSSES = sizeof((cli_training *)0)->loss / sizeof(double), BAR_MAX = 48, SPARK_MAX = 40 };

/* ---- the loss so far */

void cli_training_begin(cli_training *t) {
    bool quiet = t->progress.quiet;
    *t = (cli_training){.progress = {.quiet = quiet}, .each = 1, .val_loss = NAN};
}

static void add_loss(cli_training *t, double loss) {
    if (t->count > 0 && t->in_last < t->each) {
        t->loss[t->count - 1] += (loss - t->loss[t->count - 1]) / (double)++t->in_last;
        return;
    }
    if (t->count == LOSSES) { /* full: neighbours become one */
        for (int i = 0; i < LOSSES / 2; i++)
            t->loss[i] = 0.5 * (t->loss[2 * i] + t->loss[2 * i + 1]);
        t->count = LOSSES / 2;
        t->each *= 2;
    }
    t->loss[t->count++] = loss;
    t->in_last = 1;
}

/* Columns from the least loss to the largest of the last three quarters: the fall at the start does not press the rest flat. */
static void spark(char *dst, size_t size, const cli_training *t, int columns, bool unicode) {
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}, *const marks[] = {"_", ".", "-", ":", "=", "+", "*", "#"};
    double low = INFINITY, high = -INFINITY;
    size_t used = 0;
    int shown = t->count < columns ? t->count : columns;
    *dst = 0;
    for (int i = 0; i < t->count; i++) {
        low = fmin(low, t->loss[i]);
        high = i >= t->count / 4 ? fmax(high, t->loss[i]) : high;
    }
    for (int c = 0; c < shown && used < size; c++) {
        double top = -INFINITY; /* of what falls on this column: a spike is seen */
        for (int i = c * t->count / shown; i < (c + 1) * t->count / shown; i++)
            top = fmax(top, t->loss[i]);
        double height = high > low ? (top - low) / (high - low) : 0;
        int level = height >= 1 ? 7 : height > 0 ? (int)(height * 8) : 0;
        used += (size_t)snprintf(dst + used, size - used, "%s", (unicode ? bars : marks)[level]);
    }
}

/* ---- lines that take what fits */

typedef struct view_line {
    char text[LINE];
    size_t used;
    int width, columns;
} view_line;

/* Appends it behind two spaces, unless it does not fit; the first part stands in any case, and is cut when it is drawn. */
static void add(view_line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(view_line *l, const char *format, ...) {
    char part[LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(part, sizeof part, format, args);
    va_end(args);
    int gap = l->used ? 2 : 0, width = cli_text_width(part);
    if ((l->used && l->width + gap + width > l->columns) || l->used + strlen(part) + 3 > LINE)
        return;
    l->used += (size_t)snprintf(l->text + l->used, LINE - l->used, "%*s%s", gap, "", part);
    l->width += gap + width;
}

static void add_number(view_line *l, const char *name, double x) {
    if (isfinite(x))
        add(l, "%s %.4g", name, x);
}

static void bar(char *dst, size_t size, int columns, double share, bool unicode, bool colors) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double filled = fmin(fmax(share, 0), 1) * columns;
    int whole = (int)filled, part = (int)((filled - whole) * 8), width = whole;
    size_t used = (size_t)snprintf(dst, size, "[%s", colors ? "\033[36m" : "");
    for (int i = 0; i < whole && used < size; i++)
        used += (size_t)snprintf(dst + used, size - used, "%s", unicode ? "█" : "#");
    if (unicode && part && used < size) {
        used += (size_t)snprintf(dst + used, size - used, "%s", eighths[part]);
        width++;
    }
    if (used < size)
        snprintf(dst + used, size - used, "%s%*s]", colors ? "\033[0m" : "", columns - width, "");
}

static void draw_plain(const cli_training *t, const char *title, const char *phase, const char *left, const char *rate, int columns) {
    const gm_train_progress *p = &t->last;
    view_line l = {.columns = columns};
    if (title)
        add(&l, "%s", title);
    if (phase)
        add(&l, "%s", phase);
    else {
        add(&l, "step %lld/%lld", (long long)p->step, (long long)p->steps);
        if (title) /* what matters most first: 80 columns show no more than that */
            add(&l, "all done in %s", left);
        add(&l, "loss %.4f", p->loss);
        if (isfinite(p->val_loss))
            add(&l, "val %.4f", p->val_loss);
        add(&l, "%s tokens/s", rate);
        if (!title)
            add(&l, "ETA %s", left);
        add_number(&l, "inf norm", p->max_inf_norm);
        add_number(&l, "kurtosis", p->avg_kurtosis);
    }
    if (cli_terminal(STDERR_FILENO))
        cli_block_draw((const char *const[]){l.text}, 1);
    else
        fprintf(stderr, "%s\n", l.text);
}

static void draw_block(const cli_training *t, const char *title, const char *phase, const char *left, const char *rate, int columns) {
    const gm_train_progress *p = &t->last;
    const bool unicode = cli_terminal_unicode(), colors = cli_terminal_colors(STDERR_FILENO);
    view_line lines[4] = {{.columns = columns}, {.columns = columns}, {.columns = columns}, {.columns = columns}};
    char eta[32], drawn[LINE];
    cli_format_seconds(eta, sizeof eta, p->eta_s);

    if (title)
        add(&lines[0], "%s%s%s", colors ? "\033[1m" : "", title, colors ? "\033[0m" : "");
    if (title && isfinite(t->seconds_left))
        add(&lines[0], "all done in %s", left);

    view_line behind = {.columns = columns}; /* the bar gets what is left of the line */
    if (phase)
        add(&behind, "%s", phase);
    else {
        add(&behind, "%3.0f%%", 100 * t->share);
        add(&behind, "step %lld/%lld", (long long)p->step, (long long)p->steps);
        add(&behind, "%s left", eta);
    }
    int room = columns - behind.width - 4;
    room = room < BAR_MAX ? room : BAR_MAX;
    if (room >= 8) {
        bar(drawn, sizeof drawn, room, t->share, unicode, colors);
        add(&lines[1], "%s", drawn);
    }
    add(&lines[1], "%s", behind.text);

    if (p->steps > 0) {
        add(&lines[2], "loss %.4f", p->loss);
        char validation[32] = "";
        if (isfinite(t->val_loss))
            snprintf(validation, sizeof validation, "val %.4f", t->val_loss);
        room = columns - lines[2].width - (int)strlen(validation) - 4;
        spark(drawn, sizeof drawn, t, room < SPARK_MAX ? room : SPARK_MAX, unicode);
        add(&lines[2], "%s", drawn);
        if (*validation)
            add(&lines[2], "%s", validation);
        add(&lines[3], "%s tokens/s", rate);
        add_number(&lines[3], "max inf norm", p->max_inf_norm);
        add_number(&lines[3], "avg kurtosis", p->avg_kurtosis);
    }
    const char *texts[4];
    int count = 0;
    for (int i = 0; i < 4; i++) {
        if (lines[i].used)
            texts[count++] = lines[i].text;
    }
    cli_block_draw(texts, count);
}

void cli_training_show(cli_training *t, const char *title, const gm_train_progress *train, const char *phase, double total, double left) {
    char left_text[32], rate[32];
    int columns, rows;
    if (train) {
        t->last = *train;
        t->val_loss = isfinite(train->val_loss) ? train->val_loss : t->val_loss;
        t->share = (double)train->step / (double)train->steps;
        t->seconds_left = left;
        add_loss(t, train->loss);
    }
    if (!cli_progress_due(&t->progress, total))
        return;
    cli_format_seconds(left_text, sizeof left_text, t->seconds_left);
    cli_format_count(rate, sizeof rate, t->last.tokens_per_s);
    cli_terminal_size(STDERR_FILENO, &columns, &rows);
    const bool terminal = cli_terminal(STDERR_FILENO);
    if (terminal && columns >= 40 && rows >= 6)
        draw_block(t, title, phase, left_text, rate, columns - 1);
    else /* on a terminal what does not fit is left out, not cut */
        draw_plain(t, title, phase, left_text, rate, terminal ? columns - 1 : LINE);
}
