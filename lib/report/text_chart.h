/* text_chart.h -- charts in characters: braille and blocks where the locale has them, ASCII elsewhere; with colours or without. Private to
 * report/. */
#ifndef GM_TEXT_CHART_H
#define GM_TEXT_CHART_H

#include "base.h"
#include "ghostmax_model.h"

enum { GM_CHART_SERIES = 64 };

/* Text for a terminal: control characters and (without Unicode) what is not ASCII become "?". Everything that comes from a file goes
 * through here. *columns (NULL ok) grows by its width. */
void gm_chart_text(gm_text *out, const gm_text_style *style, const char *text, int *columns);
/* The same, cut after `most` columns. Returns how many it takes. */
int gm_chart_cut(gm_text *out, const gm_text_style *style, const char *text, int most);
/* A paragraph, wrapped; lines after the first are indented too. */
void gm_chart_wrap(gm_text *out, const gm_text_style *style, const char *text, int indent);
/* Begins and ends a colour of series i (-1: none), and bold. Nothing without colours. */
void gm_chart_color(gm_text *out, const gm_text_style *style, int series);
void gm_chart_bold(gm_text *out, const gm_text_style *style, bool on);
/* "9.903"; "-" where x is not finite; with fewer digits where it takes more than `most` columns. Returns its width. */
int gm_chart_number(char dst[16], double x, int most);

typedef struct gm_chart_line {
    int series; /* its colour and its letter: index into names */
    const double *x, *y;
    int count;
} gm_chart_line;
/* Lines over x, `rows` high, with a legend of the names that have one. y that is not finite breaks a line. Logarithmic where all are
 * positive and span more than 30 times. Nothing finite, or only zeros: says so. */
void gm_chart_lines(gm_text *out, const gm_text_style *style, const char *title, const char *x_title, const gm_chart_line *lines, int count,
                    const char *const *names, int name_count, int rows);

/* One cell of a grid: from 0 (empty) to 1 (full); NaN is "?". Two columns wide. */
void gm_chart_cell(gm_text *out, const gm_text_style *style, double share);
/* A bar of up to `columns`, in series' colour. */
void gm_chart_bar(gm_text *out, const gm_text_style *style, double share, int columns, int series);

#endif
