/* outlier_stats.c -- single values and single feature dimensions that stand out: massive activations (Sun et al. 2024), outlier
 * features (Dettmers et al. 2022), and the token classes of > 6 sigma values (Bondarenko et al. 2023). */
#include "ghostmax_model.h"
#include "metrics.h"

#include <math.h>
#include <string.h>

/* ---- massive activations */

static const float MASSIVE_SIZE = 100.0f;
static const double MASSIVE_TIMES_MEDIAN = 1000.0;

/* The k-th smallest (0-based) of x [n], which is reordered: everything before k is <= it. No NaN. */
static float select_kth(float *x, int64_t n, int64_t k) {
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float pivot = x[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (x[i] < pivot)
                i++;
            while (x[j] > pivot)
                j--;
            if (i <= j) {
                float swap = x[i];
                x[i++] = x[j];
                x[j--] = swap;
            }
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            break;
    }
    return x[k];
}

/* The mean of the two middle values for an even n. */
static double median_of(float *x, int64_t n) {
    double upper = select_kth(x, n, n / 2);
    if (n % 2 == 1)
        return upper;
    float lower = x[0];
    for (int64_t i = 1; i < n / 2; i++)
        lower = GM_MAX(lower, x[i]);
    return 0.5 * (lower + upper);
}

/* A total order: the list does not depend on how the sequences were cut into batches. */
static bool massive_before(const gm_massive *a, const gm_massive *b) {
    float x = fabsf(a->value), y = fabsf(b->value);
    if (x != y)
        return x > y;
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence;
    if (a->layer != b->layer)
        return a->layer < b->layer;
    return a->position != b->position ? a->position < b->position : a->dim < b->dim;
}

static void massive_keep(gm_massive_stats *s, gm_massive found) {
    int at = s->kept;
    while (at > 0 && massive_before(&found, &s->list[at - 1]))
        at--;
    if (at == GM_MASSIVE_KEPT)
        return;
    if (s->kept < GM_MASSIVE_KEPT)
        s->kept++;
    memmove(&s->list[at + 1], &s->list[at], (size_t)(s->kept - 1 - at) * sizeof found);
    s->list[at] = found;
}

void gm_massive_stats_add(gm_massive_stats *s, const float *x, int64_t T, int64_t C, int64_t stride, int layer, int64_t sequence,
                          const int32_t *tokens, float *scratch) {
    float max = 0.0f;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t c = 0; c < C; c++) {
            float a = fabsf(x[t * stride + c]);
            if (isnan(a))
                return; /* no median: a diverged model has no massive activations */
            scratch[t * C + c] = a;
            max = GM_MAX(max, a);
        }
    }
    if (!(max > MASSIVE_SIZE))
        return;
    double least = MASSIVE_TIMES_MEDIAN * median_of(scratch, T * C);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t c = 0; c < C; c++) {
            float value = x[t * stride + c];
            if (!(fabsf(value) > MASSIVE_SIZE && (double)fabsf(value) >= least))
                continue;
            s->count[GM_ALL_POSITIONS]++;
            s->count[GM_WITHOUT_FIRST] += t > 0;
            massive_keep(s,
                         (gm_massive){.layer = layer, .dim = c, .position = t, .sequence = sequence, .token = tokens[t], .value = value});
        }
    }
}

void gm_massive_stats_merge(gm_massive_stats *into, const gm_massive_stats *from) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++)
        into->count[p] += from->count[p];
    for (int i = 0; i < from->kept; i++)
        massive_keep(into, from->list[i]);
}

/* ---- outlier features */

static const float FEATURE_SIZE = 6.0f;
static const double FEATURE_LAYERS = 0.25, FEATURE_POSITIONS = 0.06;

gm_status gm_feature_stats_init(gm_feature_stats *s, int64_t layers, int64_t C, int64_t capacity, gm_error *err) {
    *s = (gm_feature_stats){.layers = layers, .C = C, .capacity = capacity};
    bool have = (s->marks = gm_alloc((size_t)capacity, (size_t)C)) != NULL;
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        s->in_layer[p] = gm_alloc((size_t)layers, (size_t)C);
        s->at_position[p] = gm_alloc((size_t)C, sizeof *s->at_position[p]);
        have = have && s->in_layer[p] && s->at_position[p];
    }
    return have ? GM_OK : gm_fail_memory(err, (size_t)(capacity * C + 2 * (layers + 8) * C));
}

void gm_feature_stats_free(gm_feature_stats *s) {
    gm_free(s->marks);
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        gm_free(s->in_layer[p]);
        gm_free(s->at_position[p]);
    }
    *s = (gm_feature_stats){0};
}

void gm_feature_stats_add(gm_feature_stats *s, const float *x, int64_t rows, int64_t T, int64_t stride, int layer) {
    uint8_t *all = s->in_layer[GM_ALL_POSITIONS] + layer * s->C, *rest = s->in_layer[GM_WITHOUT_FIRST] + layer * s->C;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        uint8_t *marks = s->marks + r * s->C;
        for (int64_t c = 0; c < s->C; c++) {
            uint8_t hit = fabsf(row[c]) >= FEATURE_SIZE;
            marks[c] |= hit;
            all[c] |= hit;
            rest[c] |= hit & (r % T > 0);
        }
    }
}

void gm_feature_stats_commit(gm_feature_stats *s, int64_t rows, int64_t T) {
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *marks = s->marks + r * s->C;
        for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
            if (p == GM_WITHOUT_FIRST && r % T == 0)
                continue;
            s->positions[p]++;
            for (int64_t c = 0; c < s->C; c++)
                s->at_position[p][c] += marks[c];
        }
    }
    memset(s->marks, 0, (size_t)(rows * s->C));
}

void gm_feature_stats_merge(gm_feature_stats *into, const gm_feature_stats *from) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        into->positions[p] += from->positions[p];
        for (int64_t i = 0; i < into->layers * into->C; i++)
            into->in_layer[p][i] |= from->in_layer[p][i];
        for (int64_t c = 0; c < into->C; c++)
            into->at_position[p][c] += from->at_position[p][c];
    }
}

bool gm_feature_stats_is_outlier(const gm_feature_stats *s, int64_t dim, gm_positions positions, double *layers, double *at_positions) {
    int64_t in_layers = 0;
    for (int64_t l = 0; l < s->layers; l++)
        in_layers += s->in_layer[positions][l * s->C + dim];
    *layers = (double)in_layers / (double)s->layers;
    *at_positions = (double)s->at_position[positions][dim] / (double)s->positions[positions];
    return *layers >= FEATURE_LAYERS && *at_positions >= FEATURE_POSITIONS;
}

/* ---- token classes */

static const double CLASS_SIGMAS = 6.0;

void gm_class_stats_add(gm_class_stats *s, const float *x, int64_t T, int64_t C, int64_t stride, const gm_moments m[GM_POSITIONS_COUNT],
                        const uint8_t *classes) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        double mean = m[p].mean, far = CLASS_SIGMAS * sqrt(m[p].m2 / (double)(m[p].n - 1));
        for (int64_t t = p == GM_WITHOUT_FIRST; t < T; t++) {
            int64_t count = 0;
            for (int64_t c = 0; c < C; c++)
                count += fabs(x[t * stride + c] - mean) > far;
            int class = classes ? classes[t] : GM_CLASS_OTHER;
            s->count[p][class] += count;
            s->tokens[p][class]++;
        }
    }
}

void gm_class_stats_merge(gm_class_stats *into, const gm_class_stats *from) {
    for (int p = 0; p < GM_POSITIONS_COUNT; p++) {
        for (int i = 0; i < GM_CLASS_COUNT; i++) {
            into->count[p][i] += from->count[p][i];
            into->tokens[p][i] += from->tokens[p][i];
        }
    }
}
