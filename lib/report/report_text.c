/* report_text.c -- the report for a terminal, drawn from the JSON that the page draws: both show the same numbers. */
#include "gather.h"
#include "rows.h"
#include "text_chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_LEAST = 30, WIDTH_MOST = 200, LABEL_MOST = 120, CHART_ROWS = 10, CELL_MOST = 40, NUMBER_MOST = 8, BITS_BAR_LEAST = 8 };

/* What is drawn of one group: its runs by variant (and model, where there are several), in the order of their first appearance. */
typedef struct drawing {
    gm_text *out;
    const gm_text_style *style;
    const json_t *group;
    char labels[GM_CHART_SERIES][LABEL_MOST];
    const char *names[GM_CHART_SERIES];
    int label_count, left_out;
} drawing;

static const json_t *runs_of(const drawing *d) {
    return json_object_get(d->group, "runs");
}

static void label_of(char label[LABEL_MOST], const drawing *d, const json_t *item) {
    const char *model = json_array_size(json_object_get(d->group, "models")) > 1 ? gm_gather_text(item, "model") : "";
    snprintf(label, LABEL_MOST, "%s%s%s", model, *model ? " " : "", gm_gather_text(item, "variant"));
}

static int series_of(const drawing *d, const json_t *item) {
    char label[LABEL_MOST];
    label_of(label, d, item);
    for (int i = 0; i < d->label_count; i++) {
        if (strcmp(label, d->labels[i]) == 0)
            return i;
    }
    return -1;
}

static void list_labels(drawing *d) {
    const json_t *run;
    size_t i;
    json_array_foreach(runs_of(d), i, run) {
        if (series_of(d, run) >= 0 || !*gm_gather_text(run, "variant"))
            continue;
        if (d->label_count == GM_CHART_SERIES) {
            d->left_out++;
            continue;
        }
        label_of(d->labels[d->label_count], d, run);
        d->names[d->label_count] = d->labels[d->label_count];
        d->label_count++;
    }
}

/* Columns of a text once gm_chart_text has put it out. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static int widest_label(const drawing *d) {
    int width = 0;
    for (int i = 0; i < d->label_count; i++)
        width = GM_MAX(width, width_of(d->labels[i]));
    return width;
}

/* The text in exactly so many columns: cut, or filled up. */
static void put_cut(const drawing *d, const char *text, int columns) {
    const int width = gm_chart_cut(d->out, d->style, text, columns);
    gm_text_add(d->out, "%*s", columns - width, "");
}

static void heading(const drawing *d, const char *text, const char *more) {
    gm_text line = {0};
    gm_text_add(&line, "%s%s", text, more);
    gm_chart_bold(d->out, d->style, true);
    gm_chart_wrap(d->out, d->style, line.data ? line.data : "", 2);
    gm_chart_bold(d->out, d->style, false);
    gm_text_free(&line);
}

static const char diverged[] = "  diverged";

/* ---- the table ------------------------------------------------------------------------------------------------------------------------
 */

static void add_spread(char dst[CELL_MOST], const json_t *spread, const gm_text_style *style) {
    double mean = gm_gather_number(spread, "mean"), std = gm_gather_number(spread, "std");
    char number[16], around[16];
    if (!(std > 0) || !isfinite(mean) || fabs(mean) >= 9999.5 || std < 1e-6) {
        gm_chart_number(number, mean, NUMBER_MOST);
        gm_chart_number(around, std, NUMBER_MOST);
        snprintf(dst, CELL_MOST, std > 0 ? "%s %s %s" : "%s", number, style->unicode ? "±" : "+-", around);
        return;
    }
    int decimals = 1 - (int)floor(log10(std)); /* two digits of what is uncertain */
    decimals = GM_MAX(decimals, 0);
    snprintf(dst, CELL_MOST, "%.*f %s %.*f", decimals, mean, style->unicode ? "±" : "+-", decimals, std);
}

static bool has_metric(const json_t *rows, const char *name) {
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        if (isfinite(gm_gather_number(json_object_get(row, name), "mean")))
            return true;
    }
    return false;
}

static int column_width(const drawing *d, const json_t *rows, const json_t *metric) {
    const char *name = gm_gather_text(metric, "name");
    int width = width_of(gm_gather_text(metric, "title"));
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        char cell[CELL_MOST];
        add_spread(cell, json_object_get(row, name), d->style);
        width = GM_MAX(width, width_of(cell) + 1);
    }
    return width;
}

static bool has_diverged(const json_t *rows) {
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        if (json_object_get(row, "diverged"))
            return true;
    }
    return false;
}

static void put_column_block(const drawing *d, const json_t *rows, const json_t *const *metrics, const int *widths, int count, int first) {
    const json_t *row;
    size_t i;
    put_cut(d, "", first);
    for (int m = 0; m < count; m++)
        gm_text_add(d->out, "  %*s", widths[m], gm_gather_text(metrics[m], "title"));
    gm_text_add(d->out, "\n");
    json_array_foreach(rows, i, row) {
        char label[LABEL_MOST];
        label_of(label, d, row);
        gm_chart_color(d->out, d->style, series_of(d, row));
        put_cut(d, label, first);
        gm_chart_color(d->out, d->style, -1);
        for (int m = 0; m < count; m++) {
            const char *name = gm_gather_text(metrics[m], "name");
            const double best_of = gm_best_mean(rows, name, (int)json_integer_value(json_object_get(metrics[m], "better")));
            const bool best = gm_gather_number(json_object_get(row, name), "mean") == best_of;
            char cell[CELL_MOST];
            add_spread(cell, json_object_get(row, name), d->style);
            gm_text_add(d->out, "  %*s", widths[m] - width_of(cell) - 1, "");
            gm_chart_bold(d->out, d->style, best);
            gm_text_add(d->out, "%s%s", cell, best ? "*" : " ");
            gm_chart_bold(d->out, d->style, false);
        }
        gm_text_add(d->out, "%s\n", json_object_get(row, "diverged") ? diverged : "");
    }
    gm_text_add(d->out, "\n");
}

/* A column that is too wide for the window takes its room from the labels. */
static int label_width(int first, int used, int room) {
    return GM_MAX(first - GM_MAX(used - room, 0), 4);
}

static void put_table(const drawing *d) {
    enum { AT_ONCE = 32 };
    const json_t *rows = json_object_get(d->group, "rows"), *metric, *columns[AT_ONCE];
    const int room = d->style->width - (has_diverged(rows) ? (int)strlen(diverged) : 0);
    int widths[AT_ONCE], count = 0, first = GM_MIN(GM_MAX(widest_label(d), 8), d->style->width / 2), used = first;
    size_t i;
    if (json_array_size(rows) == 0)
        return;
    heading(d, "Results", ", mean and standard deviation over seeds; * is the best of a column");
    json_array_foreach(json_object_get(d->group, "metrics"), i, metric) {
        if (gm_gather_number(metric, "tables") == 0 || !has_metric(rows, gm_gather_text(metric, "name")))
            continue;
        int width = column_width(d, rows, metric);
        if (count == AT_ONCE || (count > 0 && used + 2 + width > room)) {
            put_column_block(d, rows, columns, widths, count, label_width(first, used, room));
            count = 0;
            used = first;
        }
        columns[count] = metric;
        widths[count++] = width;
        used += 2 + width;
    }
    if (count)
        put_column_block(d, rows, columns, widths, count, label_width(first, used, room));
}

/* ---- differences to softmax -------------------------------------------------------------------------------------------------------
 */

static double paired_of(const json_t *row, const char *metric, const char *field) {
    return gm_gather_number(json_object_get(json_object_get(row, "paired"), metric), field);
}

/* A metric a line: each variant minus softmax, with the interval; * where that excludes 0. */
static void put_differences(const drawing *d) {
    const json_t *metrics = json_object_get(d->group, "metrics"), *metric, *rows = json_object_get(d->group, "rows"), *row;
    const int most = d->style->width < 48 ? 6 : NUMBER_MOST, first = GM_MIN(widest_label(d), d->style->width - 3 * most - 9);
    bool begun = false;
    size_t i, k;
    json_array_foreach(metrics, i, metric) {
        const char *name = gm_gather_text(metric, "name");
        bool titled = false;
        json_array_foreach(rows, k, row) {
            const double low = paired_of(row, name, "low"), high = paired_of(row, name, "high");
            char label[LABEL_MOST], numbers[3][16];
            if (!isfinite(low) || !isfinite(high))
                continue;
            if (!begun)
                heading(d, "Minus softmax", ", seed by seed, and the 95% interval; * where it excludes 0");
            if (!titled)
                gm_text_add(d->out, "%s\n", gm_gather_text(metric, "title"));
            begun = titled = true;
            label_of(label, d, row);
            gm_chart_number(numbers[0], paired_of(row, name, "difference"), most);
            gm_chart_number(numbers[1], low, most);
            gm_chart_number(numbers[2], high, most);
            gm_text_add(d->out, "  ");
            gm_chart_color(d->out, d->style, series_of(d, row));
            put_cut(d, label, first);
            gm_chart_color(d->out, d->style, -1);
            gm_text_add(d->out, "%*s%s [%s, %s]\n", most + 1, numbers[0], low > 0 || high < 0 ? "*" : " ", numbers[1], numbers[2]);
        }
    }
    if (begun)
        gm_text_add(d->out, "\n");
}

/* ---- curves ---------------------------------------------------------------------------------------------------------------------------
 */

static double *numbers_of(const json_t *list) {
    double *x = malloc((json_array_size(list) + 1) * sizeof *x);
    const json_t *value;
    size_t i;
    json_array_foreach(list, i, value) {
        if (x)
            x[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return x;
}

static void put_curves(const drawing *d, const char *field, const char *title) {
    const json_t *runs = runs_of(d), *run;
    size_t i;
    int count = 0;
    gm_chart_line *lines = calloc(json_array_size(runs) + 1, sizeof *lines);
    if (!lines) {
        d->out->failed = true;
        return;
    }
    json_array_foreach(runs, i, run) {
        const json_t *curve = json_object_get(json_object_get(run, "log"), field), *values = json_array_get(curve, 1);
        int series = series_of(d, run);
        if (series < 0 || json_array_size(values) == 0)
            continue;
        lines[count] = (gm_chart_line){.series = series,
                                       .x = numbers_of(json_array_get(curve, 0)),
                                       .y = numbers_of(values),
                                       .count = (int)GM_MIN(json_array_size(values), json_array_size(json_array_get(curve, 0)))};
        if (!lines[count].x || !lines[count].y)
            d->out->failed = true;
        count++;
    }
    if (count && !d->out->failed)
        gm_chart_lines(d->out, d->style, title, "step", lines, count, d->names, d->label_count, CHART_ROWS);
    for (int k = 0; k < count; k++) {
        free((void *)lines[k].x);
        free((void *)lines[k].y);
    }
    free(lines);
}

/* ---- layers and heads -----------------------------------------------------------------------------------------------------------------
 */

/* The first run of a label that was measured. */
static const json_t *measured_of(const drawing *d, int label) {
    const json_t *run;
    size_t i;
    json_array_foreach(runs_of(d), i, run) {
        const json_t *measured = json_object_get(run, "measure");
        if (measured && series_of(d, run) == label)
            return measured;
    }
    return NULL;
}

/* Numbers of a label by place, NaN where there is none; returns how many places there are. */
typedef int places(const drawing *d, int label, const char *field, double *values, int capacity);

static void clear_places(double *values, int capacity) {
    for (int i = 0; i < capacity; i++)
        values[i] = NAN;
}

/* `field` of the block outputs by layer. */
static int measured_by_layer(const drawing *d, int label, const char *field, double *values, int capacity) {
    const json_t *tensors = json_object_get(measured_of(d, label), "tensors"), *layer;
    size_t i;
    int count = 0;
    clear_places(values, capacity);
    json_array_foreach(json_object_get(tensors, "layer"), i, layer) {
        const char *site = json_string_value(json_array_get(json_object_get(tensors, "site"), i));
        const json_t *value = json_array_get(json_object_get(tensors, field), i);
        int64_t l = json_integer_value(layer);
        if (!site || strcmp(site, "block") != 0 || l < 0 || l >= capacity)
            continue;
        values[l] = json_is_number(value) ? json_number_value(value) : NAN;
        count = GM_MAX(count, (int)l + 1);
    }
    return count;
}

/* What each tensor of a layer costs when it alone is quantized, added up; mean over the runs that have it. */
static int costs_by_layer(const drawing *d, int label, const char *field, double *values, int capacity) {
    const json_t *run;
    size_t i;
    int count = 0, runs = 0;
    clear_places(values, capacity);
    json_array_foreach(runs_of(d), i, run) {
        json_t *costs = json_object_get(run, field), *cost;
        const char *tensor;
        if (series_of(d, run) != label || json_object_size(costs) == 0)
            continue;
        runs++;
        json_object_foreach(costs, tensor, cost) {
            int layer;
            if (sscanf(tensor, "blocks.%4d.", &layer) != 1 || layer < 0 || layer >= capacity || !json_is_number(cost))
                continue;
            values[layer] = (isnan(values[layer]) ? 0 : values[layer]) + json_number_value(cost);
            count = GM_MAX(count, layer + 1);
        }
    }
    for (int l = 0; l < count; l++)
        values[l] /= runs;
    return count;
}

static const char *const class_fields[] = {"bos", "whitespace", "punctuation", "words", "digits", "other"};
static const char *const class_names[] = {"BOS", "space", "punct.", "words", "digits", "other"};

/* A class' share of the outliers over its share of the tokens. */
static int outliers_by_class(const drawing *d, int label, const char *field, double *values, int capacity) {
    const json_t *ratios = json_object_get(measured_of(d, label), field);
    bool any = false;
    clear_places(values, capacity);
    for (int i = 0; i < GM_COUNT(class_fields); i++) {
        values[i] = gm_gather_number(ratios, class_fields[i]);
        any |= isfinite(values[i]);
    }
    return any ? GM_COUNT(class_fields) : 0;
}

/* A line per label, a column per place, shaded against the largest. names: of the places; NULL: their numbers. */
static void put_places(const drawing *d, const char *title, const char *about, places *of, const char *field, const char *const *names) {
    enum { LAYERS = 256, CELL = 10 };
    double largest = 0, values[LAYERS];
    int all = 0, first = GM_MIN(GM_MAX(widest_label(d), 8), d->style->width / 2);
    for (int s = 0; s < d->label_count; s++) {
        int n = of(d, s, field, values, LAYERS);
        all = GM_MAX(all, n);
        for (int l = 0; l < n; l++)
            largest = values[l] > largest ? values[l] : largest;
    }
    int at_once = GM_MAX((d->style->width - first) / CELL, 1);
    if (all)
        heading(d, title, about);
    for (int from = 0; from < all; from += at_once) {
        int to = GM_MIN(from + at_once, all);
        put_cut(d, "", first);
        for (int l = from; l < to; l++) {
            if (names)
                gm_text_add(d->out, "%*s", CELL, names[l]);
            else
                gm_text_add(d->out, "%*d", CELL, l);
        }
        gm_text_add(d->out, "\n");
        for (int s = 0; s < d->label_count; s++) {
            int n = of(d, s, field, values, LAYERS);
            if (n == 0)
                continue;
            gm_chart_color(d->out, d->style, s);
            put_cut(d, d->labels[s], first);
            gm_chart_color(d->out, d->style, -1);
            for (int l = from; l < GM_MIN(to, n); l++) {
                char number[16];
                int width = gm_chart_number(number, values[l], CELL - 4);
                gm_text_add(d->out, "%*s", CELL - 3 - width, "");
                gm_chart_cell(d->out, d->style, isnan(values[l]) || largest <= 0 ? 0 : values[l] / largest);
                gm_text_add(d->out, " %s", number);
            }
            gm_text_add(d->out, "\n");
        }
        gm_text_add(d->out, "\n");
    }
}

typedef struct head_grid {
    const json_t *layers, *heads, *mass; /* columns of the measurement */
    int rows, columns, width, heads_left_out;
} head_grid;

/* Of as many heads as fit beside the block's number. */
static head_grid grid_of(const drawing *d, int label) {
    const json_t *heads = json_object_get(measured_of(d, label), "heads");
    head_grid g = {json_object_get(heads, "layer"), json_object_get(heads, "head"), json_object_get(heads, "sink_mass"), 0, 0, 0, 0};
    for (size_t i = 0; i < json_array_size(g.mass); i++) {
        g.rows = GM_MAX(g.rows, (int)json_integer_value(json_array_get(g.layers, i)) + 1);
        g.columns = GM_MAX(g.columns, (int)json_integer_value(json_array_get(g.heads, i)) + 1);
    }
    g.heads_left_out = GM_MAX(g.columns - (d->style->width - 5) / 2, 0);
    g.columns -= g.heads_left_out;
    g.width = g.rows ? GM_MAX(2 * g.columns, GM_MIN(width_of(d->labels[label]), 24)) : 0;
    return g;
}

static void put_grid_row(const drawing *d, const head_grid *g, int row) {
    int column = 0;
    for (size_t i = 0; i < json_array_size(g->mass); i++) {
        const json_t *mass = json_array_get(g->mass, i);
        if (json_integer_value(json_array_get(g->layers, i)) != row || json_integer_value(json_array_get(g->heads, i)) >= g->columns)
            continue;
        gm_chart_cell(d->out, d->style, json_is_number(mass) ? json_number_value(mass) : NAN);
        column += 2;
    }
    gm_text_add(d->out, "%*s", g->width - column, "");
}

/* Side by side as many as fit. */
static void put_sinks(const drawing *d) {
    bool begun = false;
    for (int from = 0, to; from < d->label_count; from = to) {
        head_grid grids[GM_CHART_SERIES];
        int used = 3, rows = 0;
        for (to = from; to < d->label_count; to++) {
            grids[to] = grid_of(d, to);
            if (to > from && used + 2 + grids[to].width > d->style->width)
                break;
            used += grids[to].width ? 2 + grids[to].width : 0;
            rows = GM_MAX(rows, grids[to].rows);
        }
        if (rows == 0)
            continue;
        if (!begun)
            heading(d, "Attention on the first token",
                    d->style->unicode ? ", blocks down, heads across: ·· below 5%, ░░ 25%, ▒▒ 50%, ▓▓ 75%, ██"
                                      : ", blocks down, heads across: .. below 5%, -- 25%, ++ 50%, ** 75%, ##");
        begun = true;
        gm_text_add(d->out, "   ");
        for (int s = from; s < to; s++) {
            if (!grids[s].width)
                continue;
            gm_text_add(d->out, "  ");
            gm_chart_color(d->out, d->style, s);
            put_cut(d, d->labels[s], grids[s].width);
            gm_chart_color(d->out, d->style, -1);
        }
        gm_text_add(d->out, "\n");
        for (int r = 0; r < rows; r++) {
            gm_text_add(d->out, "%3d", r);
            for (int s = from; s < to; s++) {
                if (!grids[s].width)
                    continue;
                gm_text_add(d->out, "  ");
                if (r < grids[s].rows)
                    put_grid_row(d, &grids[s], r);
                else
                    gm_text_add(d->out, "%*s", grids[s].width, "");
            }
            gm_text_add(d->out, "\n");
        }
        if (grids[from].heads_left_out)
            gm_text_add(d->out, "(and %d heads more)\n", grids[from].heads_left_out);
        gm_text_add(d->out, "\n");
    }
}

/* ---- perplexity against bits ----------------------------------------------------------------------------------------------------------
 */

static double mean_of(const json_t *row, const char *name) {
    return gm_gather_number(json_object_get(row, name), "mean");
}

static void ppl_name(char dst[48], const drawing *d, int precision) {
    const json_t *precisions = json_object_get(d->group, "precisions");
    const char *name = precision < 0 ? NULL : json_string_value(json_array_get(precisions, (size_t)precision));
    snprintf(dst, 48, "%.40s%sppl", name ? name : "", precision < 0 ? "" : "_");
}

/* The lines of one row: those precisions that it has. */
static void put_bits_of(const drawing *d, const json_t *row, int precisions, int first, double least, double greatest) {
    const int room = d->style->width - first - 18;
    char label[LABEL_MOST], name[48], number[16];
    bool named = false;
    label_of(label, d, row);
    for (int p = -1; p < precisions; p++) {
        ppl_name(name, d, p);
        const double mean = mean_of(row, name);
        if (p >= 0 && !json_object_get(row, name))
            continue;
        if (p < 0 && json_object_get(row, "quantizer")) /* in f32 it is plain softmax */
            continue;
        gm_chart_color(d->out, d->style, series_of(d, row));
        put_cut(d, named ? "" : label, first);
        gm_chart_color(d->out, d->style, -1);
        named = true;
        gm_chart_number(number, mean, NUMBER_MOST);
        gm_text_add(d->out, "  ");
        put_cut(d, p < 0 ? "f32" : json_string_value(json_array_get(json_object_get(d->group, "precisions"), (size_t)p)), 6);
        gm_text_add(d->out, " %*s", NUMBER_MOST, number);
        if (greatest > least && room >= BITS_BAR_LEAST) {
            gm_text_add(d->out, " ");
            gm_chart_bar(d->out, d->style, (mean - least) / (greatest - least), room, series_of(d, row));
        }
        gm_text_add(d->out, "\n");
    }
}

/* Also of plain softmax that is quantized with care. */
static void put_bits(const drawing *d) {
    const int precisions = (int)json_array_size(json_object_get(d->group, "precisions"));
    json_t *rows = json_copy(json_object_get(d->group, "rows")), *row;
    double least = INFINITY, greatest = -INFINITY;
    int widest = 8;
    char name[48], label[LABEL_MOST];
    size_t i;
    json_array_extend(rows, json_object_get(d->group, "ablations"));
    json_array_foreach(rows, i, row) {
        label_of(label, d, row);
        widest = GM_MAX(widest, width_of(label));
        for (int p = -1; p < precisions; p++) {
            ppl_name(name, d, p);
            least = fmin(least, mean_of(row, name));
            greatest = fmax(greatest, mean_of(row, name));
        }
    }
    if (precisions > 0 && isfinite(least)) {
        const int first = GM_MIN(widest, GM_MIN(d->style->width / 2, d->style->width - 17));
        char number[16], about[64];
        gm_chart_number(number, least, NUMBER_MOST);
        snprintf(about, sizeof about, " against bits; bars begin at the least, %s", number);
        heading(d, "Perplexity", about);
        json_array_foreach(rows, i, row) {
            put_bits_of(d, row, precisions, first, least, greatest);
        }
        gm_text_add(d->out, "\n");
    }
    json_decref(rows);
}

/* ---- several sizes --------------------------------------------------------------------------------------------------------------------
 */

/* The metrics that may grow with size, a bar for each model and variant. */
static void put_sizes(const drawing *d) {
    const json_t *metrics = json_object_get(d->group, "metrics"), *metric, *rows = json_object_get(d->group, "rows"), *row;
    const int first = GM_MIN(widest_label(d), d->style->width / 2), room = d->style->width - first - NUMBER_MOST - 4;
    size_t i, k;
    json_array_foreach(metrics, i, metric) {
        const char *name = gm_gather_text(metric, "name");
        double greatest = 0;
        if (json_array_size(json_object_get(d->group, "models")) < 2 || !json_is_true(json_object_get(metric, "by_size")))
            continue;
        json_array_foreach(rows, k, row) {
            greatest = fmax(greatest, mean_of(row, name));
        }
        heading(d, gm_gather_text(metric, "title"), " by size; bars begin at 0");
        json_array_foreach(rows, k, row) {
            char label[LABEL_MOST], number[16];
            label_of(label, d, row);
            gm_chart_number(number, mean_of(row, name), NUMBER_MOST);
            gm_chart_color(d->out, d->style, series_of(d, row));
            put_cut(d, label, first);
            gm_chart_color(d->out, d->style, -1);
            gm_text_add(d->out, "  %*s", NUMBER_MOST, number);
            if (greatest > 0 && room >= BITS_BAR_LEAST && mean_of(row, name) > 0) {
                gm_text_add(d->out, " ");
                gm_chart_bar(d->out, d->style, mean_of(row, name) / greatest, room, series_of(d, row));
            }
            gm_text_add(d->out, "\n");
        }
        gm_text_add(d->out, "\n");
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------------------
 */

static void put_lines(const drawing *d, const json_t *list, const char *bullet) {
    const json_t *line;
    size_t i;
    json_array_foreach(list, i, line) {
        gm_text text = {0};
        gm_text_add(&text, "%s%s", bullet, json_string_value(line) ? json_string_value(line) : "");
        gm_chart_wrap(d->out, d->style, text.data ? text.data : "", 2);
        gm_text_free(&text);
    }
    if (json_array_size(list))
        gm_text_add(d->out, "\n");
}

static void put_group(drawing *d) {
    static const char *const facts[] = {"steps", "batch", "context", "lr"};
    const json_t *config = json_object_get(d->group, "config");
    gm_text what = {0};
    list_labels(d);
    gm_text_add(&what, "%.200s", gm_gather_text(config, "data"));
    for (int i = 0; i < GM_COUNT(facts); i++) {
        double x = gm_gather_number(config, facts[i]);
        if (isfinite(x))
            gm_text_add(&what, ", %s %.6g", facts[i], x);
    }
    gm_chart_wrap(d->out, d->style, what.data ? what.data : "", 2);
    gm_text_free(&what);
    if (*gm_gather_text(d->group, "apart")) {
        gm_text_add(&what, "Apart from the first group: %.300s", gm_gather_text(d->group, "apart"));
        gm_chart_wrap(d->out, d->style, what.data ? what.data : "", 2);
        gm_text_free(&what);
    }
    gm_text_add(d->out, "\n");
    put_table(d);
    put_lines(d, json_object_get(d->group, "verdict"), "- ");
    put_differences(d);
    put_curves(d, "loss", "Training loss");
    put_curves(d, "val_loss", "Validation loss");
    put_curves(d, "max_inf_norm", "Max inf norm while training");
    put_curves(d, "avg_kurtosis", "Average kurtosis while training");
    put_curves(d, "sink_rate", "Sink rate while training, %");
    put_curves(d, "null_mass", "Mass to nothing while training");
    put_curves(d, "grad_norm", "Gradient norm");
    put_curves(d, "max_inf_norm_without_first", "Max inf norm without position 0 while training");
    put_curves(d, "backcopy_loss", "Back-copy loss");
    put_curves(d, "bigram_excess", "Bigram excess");
    put_curves(d, "dormant_sink_mass", "Dormant sink mass");
    put_places(d, "Inf norm", ", by block; shaded against the largest; first measured seed", measured_by_layer, "inf_norm", NULL);
    put_places(d, "Kurtosis", ", by block; shaded against the largest; first measured seed", measured_by_layer, "kurtosis", NULL);
    put_sinks(d);
    put_places(d, "Outliers", ", by token: share of those past six deviations over share of tokens; first measured seed", outliers_by_class,
               "token_class_ratio", class_names);
    put_bits(d);
    put_places(d, "Loss added", " by each tensor alone in 8 bits, summed by block; shaded against the largest; mean over seeds",
               costs_by_layer, "costs", NULL);
    put_sizes(d);
    if (d->left_out)
        gm_text_add(d->out, "%d more runs are in the table only: a chart shows %d variants.\n", d->left_out, GM_CHART_SERIES);
}

gm_status gm_report_text(const char *const *folders, int count, const gm_text_style *style, char **text, gm_error *err) {
    char *json;
    *text = NULL;
    GM_TRY(gm_report_json(folders, count, &json, err));
    json_t *data = json_loads(json, 0, NULL);
    free(json);
    gm_text out = {0};
    gm_text_style fitting = *style;
    fitting.width = GM_MIN(GM_MAX(style->width, WIDTH_LEAST), WIDTH_MOST);
    const json_t *groups = json_object_get(data, "groups"), *source;
    drawing *d = calloc(1, sizeof *d);
    size_t i;
    if (data && d) {
        *d = (drawing){.out = &out, .style = &fitting};
        json_array_foreach(json_object_get(data, "sources"), i, source) {
            gm_text line = {0};
            gm_text_add(&line, "%s (%s)", gm_gather_text(source, "folder"), gm_gather_text(source, "kind"));
            gm_chart_wrap(&out, &fitting, line.data ? line.data : "", 2);
            gm_text_free(&line);
        }
        put_lines(d, json_object_get(data, "notes"), "Note: ");
        for (i = 0; i < json_array_size(groups); i++) {
            *d = (drawing){.out = &out, .style = &fitting, .group = json_array_get(groups, i)};
            put_group(d);
        }
    }
    gm_status status = data && d && !out.failed && out.data ? GM_OK : gm_fail_memory(err, out.size);
    if (status == GM_OK)
        *text = strdup(out.data);
    if (status == GM_OK && !*text)
        status = gm_fail_memory(err, out.size);
    gm_text_free(&out);
    free(d);
    json_decref(data);
    return status;
}
