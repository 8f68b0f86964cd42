/* lab_table.c -- table.md: Markdown whose columns are aligned, so that the same text is the terminal's table. Three blocks: what one asks
 * first, then more of the same, then everything about quantization, where the alternatives to another softmax stand beside the variants. */
#include "lab.h"

#include <math.h>
#include <string.h>

enum { COLUMNS_MAX = 24, CELL = 96 };

typedef struct grid {
    char cell[GM_LAB_VARIANTS + 1][COLUMNS_MAX][CELL]; /* row 0: titles */
    int rows, columns;
} grid;

static int width_of(const char *text) { /* in code points: all that is printed here is one column wide */
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_grid(gm_text *out, const grid *g) {
    int width[COLUMNS_MAX] = {0};
    for (int r = 0; r < g->rows; r++) {
        for (int c = 0; c < g->columns; c++)
            width[c] = GM_MAX(width[c], GM_MAX(3, width_of(g->cell[r][c])));
    }
    for (int r = 0; r < g->rows; r++) {
        for (int c = 0; c < g->columns; c++) {
            int pad = width[c] - width_of(g->cell[r][c]);
            if (c == 0)
                gm_text_add(out, "| %s%*s ", g->cell[r][c], pad, "");
            else
                gm_text_add(out, "| %*s%s ", pad, "", g->cell[r][c]);
        }
        gm_text_add(out, "|\n");
        for (int c = 0; r == 0 && c < g->columns; c++) {
            gm_text_add(out, c == 0 ? "|:" : "|-");
            for (int i = 0; i < width[c]; i++)
                gm_text_add(out, "-");
            gm_text_add(out, c == 0 ? "-" : ":");
        }
        if (r == 0)
            gm_text_add(out, "|\n");
    }
}

/* ---- numbers ---------------------------------------------------------------------------------------------------------------------- */

static double field(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void format_count(char *dst, size_t size, double n) {
    if (n < 1e4)
        snprintf(dst, size, "%.0f", n);
    else if (n < 1e6)
        snprintf(dst, size, "%.*fk", n < 1e5 ? 1 : 0, n / 1e3);
    else
        snprintf(dst, size, "%.*fM", n < 1e7 ? 2 : n < 1e8 ? 1 : 0, n / 1e6);
}

/* As many decimals as give x (its std, or without one itself) `digits` significant digits. */
static int decimals_for(double x, int digits) {
    if (!(x > 0))
        return 3;
    int d = digits - 1 - (int)floor(log10(x));
    return d < 0 ? 0 : d;
}

static void format_spread(char *dst, size_t size, double mean, double std) {
    if (isnan(mean)) {
        snprintf(dst, size, "-");
        return;
    }
    bool spread = std > 0;
    int d = spread ? decimals_for(std, 2) : decimals_for(fabs(mean), 4);
    if (mean == 0 && !spread)
        snprintf(dst, size, "0");
    else if (d > 6 && spread)
        snprintf(dst, size, "%.1e ± %.0e", mean, std);
    else if (d > 6)
        snprintf(dst, size, "%.1e", mean);
    else if (spread)
        snprintf(dst, size, "%.*f ± %.*f", d, mean, d, std);
    else
        snprintf(dst, size, "%.*f", d, mean);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------------------------ */

static void add_metric(grid *g, json_t *rows, const gm_metric *metric) {
    int c = g->columns++;
    const double best = gm_best_mean(rows, metric->name, metric->better);
    size_t i;
    const json_t *row;
    snprintf(g->cell[0][c], CELL, "%s", metric->title);
    json_array_foreach(rows, i, row) {
        const json_t *s = json_object_get(row, metric->name);
        double mean = field(s, "mean");
        char text[64];
        if (strstr(metric->name, "tokens_per_s") && !isnan(mean))
            format_count(text, sizeof text, mean);
        else
            format_spread(text, sizeof text, mean, field(s, "std"));
        snprintf(g->cell[i + 1][c], CELL, mean == best ? "**%s**" : "%s", text);
    }
}

/* blocks.3.ffn_out +0.0012: the tensor that costs most when it alone is quantized. */
static void add_costliest(grid *g, json_t *rows) {
    int c = g->columns;
    size_t i;
    const json_t *row;
    bool any = false;
    snprintf(g->cell[0][c], CELL, "W8A8 costs most at");
    json_array_foreach(rows, i, row) {
        const json_t *costliest = json_object_get(row, "costliest");
        double mean = field(json_object_get(costliest, "loss_increase"), "mean");
        const char *tensor = json_string_value(json_object_get(costliest, "tensor"));
        any |= tensor != NULL;
        if (tensor)
            snprintf(g->cell[i + 1][c], CELL, "%.60s %+.*f", tensor, GM_MIN(6, decimals_for(fabs(mean), 2)), mean);
        else
            snprintf(g->cell[i + 1][c], CELL, "-");
    }
    g->columns += any;
}

static void add_block(gm_text *out, json_t *rows, const gm_metrics *metrics, int table) {
    grid g = {.rows = (int)json_array_size(rows) + 1, .columns = 1};
    size_t i;
    const json_t *row;
    snprintf(g.cell[0][0], CELL, "variant");
    json_array_foreach(rows, i, row) {
        snprintf(g.cell[i + 1][0], CELL, "%.80s", json_string_value(json_object_get(row, "variant")));
    }
    if (table == GM_TABLE_RESULTS) {
        g.columns = 2;
        snprintf(g.cell[0][1], CELL, "params");
        json_array_foreach(rows, i, row) {
            format_count(g.cell[i + 1][1], CELL, field(row, "params"));
        }
    }
    for (int m = 0; m < metrics->count; m++) {
        if (metrics->list[m].tables & table)
            add_metric(&g, rows, &metrics->list[m]);
    }
    if (table == GM_TABLE_QUANTIZED)
        add_costliest(&g, rows);
    print_grid(out, &g);
}

/* variant - softmax, seed by seed, with its interval where there are seeds enough. */
static void add_paired(gm_text *out, json_t *rows, const gm_metrics *metrics) {
    grid g = {.rows = 1, .columns = 1};
    size_t i;
    const json_t *row;
    bool intervals = false;
    snprintf(g.cell[0][0], CELL, "minus softmax");
    json_array_foreach(rows, i, row) {
        const json_t *paired = json_object_get(row, "paired");
        if (!paired)
            continue;
        snprintf(g.cell[g.rows][0], CELL, "%.80s", json_string_value(json_object_get(row, "variant")));
        g.columns = 1;
        for (const gm_metric *m = metrics->list; m < metrics->list + metrics->count; m++) {
            if (!m->compared)
                continue;
            const json_t *pair = json_object_get(paired, m->name);
            double low = field(pair, "low"), high = field(pair, "high"), half = (high - low) / 2;
            int d = GM_MIN(6, decimals_for(half, 2));
            snprintf(g.cell[0][g.columns], CELL, "%s", m->title);
            if (isnan(low))
                snprintf(g.cell[g.rows][g.columns], CELL, "-");
            else if (low == 0 && high == 0)
                snprintf(g.cell[g.rows][g.columns], CELL, "0");
            else
                snprintf(g.cell[g.rows][g.columns], CELL, low > 0 || high < 0 ? "**%+.*f** ± %.*f" : "%+.*f ± %.*f", d,
                         field(pair, "difference"), d, half);
            intervals |= !isnan(low);
            g.columns++;
        }
        g.rows++;
    }
    if (!intervals)
        return;
    gm_text_add(out, "\nPaired difference to softmax, seed by seed, ± half the 95%% interval (bold: the interval excludes 0):\n\n");
    print_grid(out, &g);
}

static void add_heading(gm_text *out, const json_t *config, const json_t *row) {
    char params[32];
    const char *model = json_string_value(json_object_get(row, "model"));
    format_count(params, sizeof params, field(row, "params"));
    long long seeds = (long long)field(row, "seeds"), first = (long long)field(config, "seed");
    const char *source = json_string_value(json_object_get(config, "source")), *slash = strrchr(source, '/');
    gm_text_add(out, "### %s (%s parameters) on %s\n\n", model, params, slash ? slash + 1 : source);
    gm_text_add(out, "%lld steps of %lld x %lld tokens, lr %g, ", (long long)field(config, "steps"), (long long)field(config, "batch"),
                (long long)field(config, "context"), field(config, "lr"));
    if (seeds > 1)
        gm_text_add(out, "seeds %lld to %lld: mean ± standard deviation; best in bold.\n\n", first, first + seeds - 1);
    else
        gm_text_add(out, "seed %lld; best in bold.\n\n", first);
}

/* Several presets: one metric against the models' sizes, a row per variant. Rows of `all` go model by model. */
static void add_sizes(gm_text *out, const json_t *all, int models, const gm_metric *metric) {
    int variants = (int)json_array_size(all) / models;
    grid g = {.rows = variants + 1, .columns = models + 1};
    snprintf(g.cell[0][0], CELL, "%s", metric->title);
    for (int m = 0; m < models; m++) {
        char params[32];
        const json_t *first = json_array_get(all, (size_t)(m * variants));
        format_count(params, sizeof params, field(first, "params"));
        snprintf(g.cell[0][m + 1], CELL, "%.40s (%s)", json_string_value(json_object_get(first, "model")), params);
        for (int v = 0; v < variants; v++) {
            const json_t *row = json_array_get(all, (size_t)(m * variants + v)), *s = json_object_get(row, metric->name);
            snprintf(g.cell[v + 1][0], CELL, "%.80s", json_string_value(json_object_get(row, "variant")));
            format_spread(g.cell[v + 1][m + 1], CELL, field(s, "mean"), field(s, "std"));
        }
    }
    gm_text_add(out, "\n");
    print_grid(out, &g);
}

/* The rows of one model, and behind them, for the block on quantization, its ablations. */
static void add_model(gm_text *out, const json_t *results, json_t *rows, const char *model, const gm_metrics *metrics) {
    json_t *quantized = json_copy(rows), *ablation;
    size_t i;
    json_array_foreach(json_object_get(results, "ablations"), i, ablation) {
        if (strcmp(model, json_string_value(json_object_get(ablation, "model"))) == 0)
            json_array_append(quantized, ablation);
    }
    add_heading(out, json_object_get(results, "config"), json_array_get(rows, 0));
    add_block(out, rows, metrics, GM_TABLE_RESULTS);
    gm_text_add(out, "\n");
    add_block(out, rows, metrics, GM_TABLE_MORE);
    gm_text_add(out, "\n");
    add_block(out, quantized, metrics, GM_TABLE_QUANTIZED);
    add_paired(out, rows, metrics);
    json_decref(quantized);
}

void gm_lab_table(gm_text *out, const json_t *results, const gm_metrics *metrics) {
    const json_t *all = json_object_get(results, "rows"), *verdict = json_object_get(results, "verdict"), *sentence;
    size_t n = json_array_size(all), s;
    for (size_t i = 0; i < n;) {
        const char *model = json_string_value(json_object_get(json_array_get(all, i), "model"));
        json_t *rows = json_array();
        for (; i < n && strcmp(model, json_string_value(json_object_get(json_array_get(all, i), "model"))) == 0; i++)
            json_array_append(rows, json_array_get(all, i));
        if (out->size > 0)
            gm_text_add(out, "\n");
        add_model(out, results, rows, model, metrics);
        json_decref(rows);
    }
    int models = (int)json_array_size(json_object_get(json_object_get(results, "config"), "models"));
    if (models > 1)
        gm_text_add(out, "\n### By size\n");
    for (int m = 0; m < metrics->count && models > 1; m++) {
        if (metrics->list[m].by_size)
            add_sizes(out, all, models, &metrics->list[m]);
    }
    json_array_foreach(verdict, s, sentence) {
        gm_text_add(out, "%s- %s\n", s ? "" : "\n", json_string_value(sentence));
    }
}
