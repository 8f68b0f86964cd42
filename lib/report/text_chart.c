/* text_chart.c -- dots in cells. A braille cell has 2 x 4 of them, so that a line of 70 columns shows 140 points; in ASCII each cell is one
 * letter of the series. */
#include "text_chart.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL = 8 /* columns of the axis' numbers */, COLORS = 7, LEGEND_LINES = 4 };

/* ---- text */

static bool is_start(unsigned char c) {
    return (c & 0xc0) != 0x80;
}

int gm_chart_cut(gm_text *out, const gm_text_style *style, const char *text, int most) {
    int columns = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && columns < most; columns++) {
        size_t n = 1;
        while (!is_start(p[n]))
            n++;
        bool control = *p < 0x20 || *p == 0x7f || (*p == 0xc2 && n == 2 && p[1] < 0xa0);
        if (control || (*p >= 0x80 && !style->unicode))
            gm_text_add(out, "?");
        else
            gm_text_bytes(out, p, n);
        p += n;
    }
    return columns;
}

void gm_chart_text(gm_text *out, const gm_text_style *style, const char *text, int *columns) {
    const int width = gm_chart_cut(out, style, text, INT_MAX);
    if (columns)
        *columns += width;
}

void gm_chart_wrap(gm_text *out, const gm_text_style *style, const char *text, int indent) {
    int column = 0;
    for (const char *p = text + strspn(text, " \n"); *p; p += strspn(p, " \n")) {
        char word[256];
        size_t n = strcspn(p, " \n");
        snprintf(word, sizeof word, "%.*s", (int)GM_MIN(n, sizeof word - 1), p);
        int width = 0;
        for (const char *c = word; *c; c++)
            width += is_start((unsigned char)*c);
        if (column > 0 && column + 1 + width > style->width) {
            gm_text_add(out, "\n%*s", indent, "");
            column = indent;
        } else if (column > 0) {
            gm_text_add(out, " ");
            column++;
        }
        gm_chart_text(out, style, word, &column);
        p += n;
    }
    gm_text_add(out, "\n");
}

/* Seven colours that stand apart on light and on dark, beginning with those that every palette has. */
void gm_chart_color(gm_text *out, const gm_text_style *style, int series) {
    static const int codes[COLORS] = {34, 33, 32, 35, 31, 36, 90};
    if (style->colors)
        gm_text_add(out, "\033[%dm", series < 0 ? 0 : codes[series % COLORS]);
}

void gm_chart_bold(gm_text *out, const gm_text_style *style, bool on) {
    if (style->colors)
        gm_text_add(out, on ? "\033[1m" : "\033[0m");
}

int gm_chart_number(char dst[16], double x, int most) {
    double size = fabs(x);
    if (!isfinite(x))
        return snprintf(dst, 16, "-");
    if (size >= 9999.5 && size < 999.5e9) {
        const char *units = "kMG";
        for (x /= 1000; fabs(x) >= 999.5; units++)
            x /= 1000;
        return snprintf(dst, 16, "%.3g%c", x, *units);
    }
    int digits = 4, width;
    do
        width = snprintf(dst, 16, "%.*g", digits, x);
    while (width > most && --digits > 0);
    return width > most ? snprintf(dst, 16, "%.0e", x) : width; /* -0.0001 */
}

/* ---- lines */

typedef struct plot {
    int columns, rows, per_x, per_y; /* cells; dots in a cell */
    double x0, x1, y0, y1;
    bool log, zero, braille;
    uint8_t *dots;   /* [rows, columns]: braille's eight */
    int *series;     /* [rows, columns]: whose, -1: none */
    uint8_t *shared; /* [rows, columns]: of several */
} plot;

static double scaled(const plot *p, double y) {
    return p->log ? log10(y) : y;
}

static bool is_point(const plot *p, double x, double y) {
    return isfinite(x) && isfinite(y) && (!p->log || y > 0);
}

static void find_limits(plot *p, const gm_chart_line *lines, int count) {
    double least = INFINITY, greatest = -INFINITY;
    p->x0 = INFINITY;
    p->x1 = -INFINITY;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < lines[i].count; k++) {
            if (!isfinite(lines[i].x[k]) || !isfinite(lines[i].y[k]))
                continue;
            p->x0 = fmin(p->x0, lines[i].x[k]);
            p->x1 = fmax(p->x1, lines[i].x[k]);
            least = fmin(least, lines[i].y[k]);
            greatest = fmax(greatest, lines[i].y[k]);
        }
    }
    p->zero = least == 0 && greatest == 0;
    p->log = least > 0 && greatest > 30 * least;
    p->y0 = scaled(p, least);
    p->y1 = scaled(p, greatest);
    if (!(p->y1 > p->y0)) { /* one value: in the middle */
        double around = p->log ? 1 : fmax(fabs(least) * 0.1, 1e-6);
        p->y0 -= around;
        p->y1 += around;
    }
    if (!(p->x1 > p->x0))
        p->x1 = p->x0 + 1;
}

static void put_dot(plot *p, int x, int y, int series) {
    static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    int cell = y / p->per_y * p->columns + x / p->per_x;
    p->dots[cell] |= bits[y % p->per_y][x % p->per_x];
    p->shared[cell] |= p->series[cell] >= 0 && p->series[cell] != series;
    p->series[cell] = series;
}

static void draw_line(plot *p, const gm_chart_line *l) {
    int last_x = -1, last_y = -1;
    for (int k = 0; k < l->count; k++) {
        if (!is_point(p, l->x[k], l->y[k])) {
            last_x = -1;
            continue;
        }
        int x = (int)((l->x[k] - p->x0) / (p->x1 - p->x0) * (p->columns * p->per_x - 1) + 0.5);
        int y = (int)((p->y1 - scaled(p, l->y[k])) / (p->y1 - p->y0) * (p->rows * p->per_y - 1) + 0.5);
        int steps = last_x < 0 ? 0 : GM_MAX(abs(x - last_x), abs(y - last_y));
        for (int s = 1; s < steps; s++)
            put_dot(p, last_x + (x - last_x) * s / steps, last_y + (y - last_y) * s / steps, l->series);
        put_dot(p, x, y, l->series);
        last_x = x;
        last_y = y;
    }
}

static char letter(int series) {
    return (char)(series < 26 ? 'a' + series : 'A' + series % 26);
}

static void put_cell(gm_text *out, const gm_text_style *style, const plot *p, int cell, int *color) {
    if (p->series[cell] != *color && p->series[cell] >= 0) {
        gm_chart_color(out, style, p->series[cell]);
        *color = p->series[cell];
    }
    if (p->series[cell] < 0)
        gm_text_add(out, " ");
    else if (p->braille) {
        const unsigned char bytes[] = {0xe2, (unsigned char)(0xa0 | p->dots[cell] >> 6), (unsigned char)(0x80 | (p->dots[cell] & 0x3f))};
        gm_text_bytes(out, bytes, 3); /* U+2800 + dots */
    } else
        gm_text_add(out, "%c", p->shared[cell] ? '*' : letter(p->series[cell]));
}

static void put_rows(gm_text *out, const gm_text_style *style, const plot *p) {
    for (int r = 0; r < p->rows; r++) {
        char label[16] = "";
        int color = -1;
        double at = p->y1 - (p->y1 - p->y0) * r / GM_MAX(p->rows - 1, 1);
        if (r == 0 || r == p->rows - 1 || (p->rows > 5 && r == p->rows / 2))
            gm_chart_number(label, p->log ? pow(10, at) : at, LABEL);
        gm_text_add(out, "%*s %s", LABEL, label, style->unicode ? "┤" : "|");
        for (int c = 0; c < p->columns; c++)
            put_cell(out, style, p, r * p->columns + c, &color);
        if (color >= 0)
            gm_chart_color(out, style, -1);
        gm_text_add(out, "\n");
    }
}

static void put_axis(gm_text *out, const plot *p, const char *x_title) {
    char from[16], to[16];
    int left = gm_chart_number(from, p->x0, LABEL), right = gm_chart_number(to, p->x1, LABEL),
        gap = p->columns - left - right - (int)strlen(x_title);
    if (gap >= 2)
        gm_text_add(out, "%*s%s%*s%s%*s%s\n", LABEL + 2, "", from, gap / 2, "", x_title, gap - gap / 2, "", to);
    else
        gm_text_add(out, "%*s%s .. %s\n", LABEL + 2, "", from, to);
}

static void put_legend(gm_text *out, const gm_text_style *style, const gm_chart_line *lines, int count, const char *const *names, int n) {
    int column = 0, used = 1, left_out = 0;
    for (int s = 0; s < n; s++) {
        bool drawn = false;
        int width = 0;
        for (int i = 0; i < count; i++)
            drawn |= lines[i].series == s && lines[i].count > 0;
        for (const char *c = names[s]; *c; c++)
            width += is_start((unsigned char)*c);
        if (!drawn)
            continue;
        if (column > 0 && column + width + 4 > style->width) {
            column = used == LEGEND_LINES ? column : 0;
            used++;
            if (used <= LEGEND_LINES)
                gm_text_add(out, "\n");
        }
        if (used > LEGEND_LINES) {
            left_out++;
            continue;
        }
        gm_text_add(out, "  ");
        gm_chart_color(out, style, s);
        if (style->unicode && style->colors)
            gm_text_add(out, "━");
        else
            gm_text_add(out, "%c", letter(s));
        gm_chart_color(out, style, -1);
        gm_text_add(out, " ");
        column += 4 + gm_chart_cut(out, style, names[s], style->width - 4);
    }
    if (left_out)
        gm_text_add(out, "  and %d more", left_out);
    gm_text_add(out, "\n");
}

void gm_chart_lines(gm_text *out, const gm_text_style *style, const char *title, const char *x_title, const gm_chart_line *lines, int count,
                    const char *const *names, int name_count, int rows) {
    bool several = false; /* without colours only letters tell them apart */
    for (int i = 1; i < count; i++)
        several |= lines[i].series != lines[0].series;
    const bool braille = style->unicode && (style->colors || !several);
    plot p = {.columns = GM_MAX(style->width - LABEL - 2, 8),
              .rows = rows,
              .braille = braille,
              .per_x = braille ? 2 : 1,
              .per_y = braille ? 4 : 1};
    const size_t cells = (size_t)(p.columns * p.rows);
    find_limits(&p, lines, count);
    gm_text heading = {0};
    gm_text_add(&heading, "%s%s", title, !isfinite(p.x0) ? ": no finite number" : p.zero ? ": 0 throughout" : p.log ? ", logarithmic" : "");
    gm_chart_bold(out, style, true);
    gm_chart_wrap(out, style, heading.data ? heading.data : "", 2);
    gm_chart_bold(out, style, false);
    gm_text_free(&heading);
    if (!isfinite(p.x0) || p.zero) {
        gm_text_add(out, "\n");
        return;
    }
    p.dots = calloc(cells, 1);
    p.shared = calloc(cells, 1);
    p.series = malloc(cells * sizeof *p.series);
    if (p.dots && p.shared && p.series) {
        memset(p.series, -1, cells * sizeof *p.series);
        for (int i = 0; i < count; i++)
            draw_line(&p, &lines[i]);
        put_rows(out, style, &p);
        put_axis(out, &p, x_title);
        put_legend(out, style, lines, count, names, name_count);
        gm_text_add(out, "\n");
    } else
        out->failed = true;
    free(p.dots);
    free(p.shared);
    free(p.series);
}

/* ---- cells and bars */

void gm_chart_cell(gm_text *out, const gm_text_style *style, double share) {
    static const char *const blocks[] = {"··", "░░", "▒▒", "▓▓", "██"}, *const marks[] = {"..", "--", "++", "**", "##"};
    if (isnan(share)) {
        gm_text_add(out, "??");
        return;
    }
    int level = share < 0.05 ? 0 : share < 0.25 ? 1 : share < 0.5 ? 2 : share < 0.75 ? 3 : 4;
    gm_text_add(out, "%s", (style->unicode ? blocks : marks)[level]);
}

void gm_chart_bar(gm_text *out, const gm_text_style *style, double share, int columns, int series) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double length = share > 0 ? fmin(share, 1) * columns : 0;
    int whole = (int)length, part = (int)((length - whole) * 8);
    gm_chart_color(out, style, series);
    for (int i = 0; i < whole; i++)
        gm_text_add(out, "%s", style->unicode ? "█" : "#");
    if (style->unicode)
        gm_text_add(out, "%s", eighths[part]);
    else if (whole == 0 && length > 0)
        gm_text_add(out, ".");
    gm_chart_color(out, style, -1);
}
