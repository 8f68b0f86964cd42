/* run_pictures.c -- what TensorBoard shows beside curves: the distribution of every weight and activation, block outputs as heat (tokens
 * down, hidden dimensions across), and each head's attention weights with its null mass as the last column. All of one forward pass over
 * the first validation sequence. */
#include "png_image.h"
#include "run_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 512, COLUMNS_MAX = 1024, MAP_MAX = 128 /* of one head */, GAP = 3 /* between heads, white */ };

typedef struct pictures {
    gm_run_log *log;
    int64_t step;
    gm_histogram histogram;
    double limits[GM_HISTOGRAM_BINS], counts[GM_HISTOGRAM_BINS];
    int64_t heads;
    uint8_t *shades; /* of the picture at hand */
    gm_status status;
    gm_error *err;
} pictures;

static void add_event(pictures *p, gm_event_value value) {
    if (p->status == GM_OK)
        p->status = gm_event_file_add(&p->log->events, p->step, &value, 1, p->err);
}

static void add_histogram(pictures *p, const char *kind, const char *name, const float *x, int64_t rows, int64_t cols, int64_t stride) {
    char tag[96];
    snprintf(tag, sizeof tag, "%s/%s", kind, name);
    gm_histogram_clear(&p->histogram);
    for (int64_t r = 0; r < rows; r++)
        gm_histogram_add(&p->histogram, x + r * stride, cols);
    add_event(p, gm_event_of_histogram(tag, &p->histogram, p->limits, p->counts));
}

static void add_picture(pictures *p, const char *kind, const gm_tap_view *v, int width, int height) {
    char tag[96];
    uint8_t *png = NULL;
    size_t size = 0;
    snprintf(tag, sizeof tag, "%s/blocks.%d", kind, v->layer);
    if (p->status == GM_OK)
        p->status = gm_png_encode(&png, &size, p->shades, width, height, p->err);
    if (png)
        add_event(p, (gm_event_value){.kind = GM_EVENT_IMAGE, .tag = tag, .width = width, .height = height, .bytes = png, .size = size});
    free(png);
}

/* ---- shades: one scale for all steps, variants and models, so that pictures can be compared */

/* |x| from 1/4 (black) to 256 (white), by octaves. NaN is white. */
static uint8_t shade_of_size(float x) {
    double octaves = log2(fabs((double)x)) + 2;
    return octaves <= 0 ? 0 : !(octaves < 10) ? 255 : (uint8_t)(octaves * 25.5);
}

/* A weight from 0 to 1, by its root, so that small ones are seen. */
static uint8_t shade_of_weight(float w) {
    return w <= 0 ? 0 : !(w < 1) ? 255 : (uint8_t)(255 * sqrt((double)w));
}

/* x [rows, cols] into a field of the picture, each pixel the largest of what falls on it. */
static void paint(uint8_t *field, int width, int height, int64_t pitch, const float *x, int64_t rows, int64_t cols, int64_t stride,
                  uint8_t (*shade)(float)) {
    for (int64_t r = 0; r < rows; r++) {
        uint8_t *line = field + r * height / rows * pitch;
        for (int64_t c = 0; c < cols; c++) {
            uint8_t *pixel = line + c * width / cols, s = shade(x[r * stride + c]);
            *pixel = GM_MAX(*pixel, s);
        }
    }
}

static void paint_block(pictures *p, const gm_tap_view *v) {
    const int width = (int)GM_MIN(v->cols, COLUMNS_MAX), height = (int)GM_MIN(v->rows, ROWS_MAX);
    memset(p->shades, 0, (size_t)(width * height));
    paint(p->shades, width, height, width, v->x, v->rows, v->cols, v->stride, shade_of_size);
    add_picture(p, "block_outputs", v, width, height);
}

/* The heads side by side; the last one's turn finishes the picture. */
static void paint_head(pictures *p, const gm_tap_view *v) {
    const int side = (int)GM_MIN(v->T, MAP_MAX), panel = side + 1 + GAP, width = (int)p->heads * panel - GAP;
    if (v->h == 0)
        memset(p->shades, 0, (size_t)(width * side));
    uint8_t *field = p->shades + v->h * panel;
    paint(field, side, side, width, v->x, v->T, v->T, v->stride, shade_of_weight);
    paint(field + side, 1, side, width, v->null_mass, v->T, 1, 1, shade_of_weight);
    for (int r = 0; r < side && v->h + 1 < p->heads; r++)
        memset(field + r * width + side + 1, 255, GAP);
    if (v->h + 1 == p->heads)
        add_picture(p, "attention", v, width, side);
}

static void picture_tap(void *user, const gm_tap_view *v) {
    pictures *p = user;
    if (v->site == GM_SITE_WEIGHTS)
        paint_head(p, v);
    if (v->b >= 0 || v->site == GM_SITE_CACHE_K || v->site == GM_SITE_CACHE_V) /* k and v again */
        return;
    char name[64];
    if (v->layer < 0)
        snprintf(name, sizeof name, "%s", gm_site_name(v->site));
    else
        snprintf(name, sizeof name, "blocks.%d.%s", v->layer, gm_site_name(v->site));
    add_histogram(p, "activations", name, v->x, v->rows, v->cols, v->stride);
    if (v->site == GM_SITE_BLOCK)
        paint_block(p, v);
}

gm_status gm_run_log_pictures(gm_run_log *log, gm_model *m, const gm_data *data, int64_t step, gm_error *err) {
    const int64_t T = gm_data_context(data), heads = m->cfg.heads;
    if (log->events.fd < 0)
        return GM_OK;
    pictures *p = calloc(1, sizeof *p);
    int32_t *x = gm_alloc((size_t)(2 * T), sizeof *x);
    size_t pixels = GM_MAX((size_t)ROWS_MAX * COLUMNS_MAX, (size_t)(heads * MAP_MAX * (MAP_MAX + 1 + GAP)));
    uint8_t *shades = malloc(pixels);
    gm_status status = p && x && shades ? GM_OK : gm_fail_memory(err, pixels);
    if (status == GM_OK) {
        double mean;
        *p = (pictures){.log = log, .step = step, .heads = heads, .shades = shades, .err = err};
        for (int i = 0; i < m->param_count; i++) {
            const gm_param *w = &m->params[i];
            add_histogram(p, "weights", w->name, m->weights + w->offset, 1, w->rows * w->cols, 0);
        }
        gm_tap tap = {.fn = picture_tap, .user = p, .attention = true};
        gm_data_validation(data, 0, 1, x, x + T);
        status = gm_model_forward_loss(m, x, x + T, 1, T, &tap, &mean, NULL, err);
        status = status == GM_OK ? p->status : status;
    }
    free(shades);
    gm_free(x);
    free(p);
    return status;
}
