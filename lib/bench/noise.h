/* noise.h -- did anything else run on this machine while it was measured? */
#ifndef GM_NOISE_H
#define GM_NOISE_H

#include "base.h"

#include <jansson.h>

typedef struct gm_noise {
    char processor[96]; /* "" where the system does not say */
    int cores;
    double seconds;
    double other_cores,
        stolen_cores;        /* cores that other programs, and other virtual machines, had on average; NaN: the system does not say */
    int64_t forced_switches; /* times that the system took a core from one of our threads */
    double begin_s, begin_busy_s, begin_stolen_s, begin_own_s;
} gm_noise;

void gm_noise_begin(gm_noise *n);
void gm_noise_end(gm_noise *n);
/* The above as an object; with "unsteady_lines", those whose spread is over 5%, and "verdict", one line for people. */
json_t *gm_noise_json(const gm_noise *n, const json_t *lines);

#endif
