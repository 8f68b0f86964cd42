/* largest.c -- the N largest values of everything that passes, with their places. The order is total, so it does not depend on how the
 * sequences were cut into batches. */
#include "metrics.h"

#include <math.h>
#include <string.h>

gm_status gm_largest_init(gm_largest *s, int capacity, gm_error *err) {
    *s = (gm_largest){.capacity = capacity};
    s->list = gm_alloc((size_t)capacity + 1, sizeof *s->list);
    return s->list ? GM_OK : gm_fail_memory(err, (size_t)capacity * sizeof *s->list);
}

void gm_largest_free(gm_largest *s) {
    gm_free(s->list);
    *s = (gm_largest){0};
}

static bool comes_before(const gm_large_value *a, const gm_large_value *b) {
    float x = fabsf(a->value), y = fabsf(b->value);
    if (x != y)
        return x > y;
    if (a->sequence != b->sequence)
        return a->sequence < b->sequence;
    if (a->tensor != b->tensor)
        return a->tensor < b->tensor;
    return a->position != b->position ? a->position < b->position : a->dim < b->dim;
}

static void insert(gm_largest *s, const gm_large_value *found) {
    int at = s->kept;
    while (at > 0 && comes_before(found, &s->list[at - 1]))
        at--;
    if (at == s->capacity)
        return;
    if (s->kept < s->capacity)
        s->kept++;
    memmove(&s->list[at + 1], &s->list[at], (size_t)(s->kept - 1 - at) * sizeof *found);
    s->list[at] = *found;
}

void gm_largest_add(gm_largest *s, const gm_row *rows, const float *x, int64_t T, int64_t C, int64_t stride, int64_t from_position,
                    int tensor, int64_t sequence, const int32_t *tokens) {
    for (int64_t t = from_position; t < T; t++) {
        const float *row = x + t * stride;
        float least = s->kept < s->capacity ? -1.0f : fabsf(s->list[s->kept - 1].value);
        if (rows[t].absmax < least) /* almost every row; a NaN is not below anything */
            continue;
        for (int64_t c = 0; c < C; c++) {
            if (!isfinite(row[c]) || fabsf(row[c]) < least)
                continue;
            gm_large_value found = {.value = row[c], .tensor = tensor, .sequence = sequence, .position = t, .dim = c};
            for (int64_t i = 0; i < GM_LARGEST_AROUND; i++) {
                int64_t at = t + i - GM_LARGEST_BEFORE;
                found.around[i] = at >= 0 && at < T ? tokens[at] : -1;
            }
            insert(s, &found);
            least = s->kept < s->capacity ? -1.0f : fabsf(s->list[s->kept - 1].value);
        }
    }
}

void gm_largest_merge(gm_largest *into, const gm_largest *from) {
    for (int i = 0; i < from->kept; i++)
        insert(into, &from->list[i]);
}
