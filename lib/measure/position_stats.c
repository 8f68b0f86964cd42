/* position_stats.c -- how large the rows of a tensor are, by their position in the sequence. */
#include "metrics.h"

#include <math.h>

enum { SINGLE = 16, SINGLE_OCTAVE = 4 }; /* positions that have a bin of their own */

int gm_position_bin(int64_t position) {
    if (position < SINGLE)
        return (int)position;
    int octave = SINGLE_OCTAVE;
    while (position >> (octave + 1))
        octave++;
    return SINGLE + 2 * (octave - SINGLE_OCTAVE) + (int)(position >> (octave - 1) & 1);
}

int64_t gm_position_bin_begin(int bin) {
    if (bin < SINGLE)
        return bin;
    int64_t octave = INT64_C(1) << (SINGLE_OCTAVE + (bin - SINGLE) / 2);
    return octave + (bin - SINGLE) % 2 * octave / 2;
}

gm_status gm_position_stats_init(gm_position_stats *s, int64_t T, gm_error *err) {
    *s = (gm_position_stats){.bins = gm_position_bin(T - 1) + 1};
    s->count = gm_alloc((size_t)s->bins, sizeof *s->count);
    s->norm = gm_alloc((size_t)s->bins, sizeof *s->norm);
    s->inf_norm = gm_alloc((size_t)s->bins, sizeof *s->inf_norm);
    s->absmax = gm_alloc((size_t)s->bins, sizeof *s->absmax);
    return s->count && s->norm && s->inf_norm && s->absmax ? GM_OK : gm_fail_memory(err, (size_t)s->bins * 4 * sizeof *s->norm);
}

void gm_position_stats_free(gm_position_stats *s) {
    gm_free(s->count);
    gm_free(s->norm);
    gm_free(s->inf_norm);
    gm_free(s->absmax);
    *s = (gm_position_stats){0};
}

void gm_position_stats_add(gm_position_stats *s, const gm_row *rows, int64_t T) {
    for (int64_t t = 0; t < T; t++) {
        int bin = gm_position_bin(t);
        float max = rows[t].absmax;
        s->count[bin]++;
        s->norm[bin] += rows[t].norm;
        s->inf_norm[bin] += max;
        s->absmax[bin] = max > s->absmax[bin] || isnan(max) ? max : s->absmax[bin];
    }
}

void gm_position_stats_merge(gm_position_stats *into, const gm_position_stats *from) {
    for (int i = 0; i < into->bins; i++) {
        into->count[i] += from->count[i];
        into->norm[i] += from->norm[i];
        into->inf_norm[i] += from->inf_norm[i];
        into->absmax[i] = from->absmax[i] > into->absmax[i] || isnan(from->absmax[i]) ? from->absmax[i] : into->absmax[i];
    }
}
