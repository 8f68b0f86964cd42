/* rng.c -- random numbers as pure functions of (key, counter). The mixer is SplitMix64's finaliser (Steele, Lea, Flood 2014), applied
 * twice with the key folded in between: streams with nearby keys or counters are independent for our purposes, and any element can be
 * made by any thread. */
#include "base.h"

#include <math.h>
#include <string.h>

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t gm_hash(const void *bytes, size_t n, uint64_t seed) {
    const uint8_t *p = bytes;
    uint64_t h = mix(seed ^ 0x9e3779b97f4a7c15u);
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = mix(h ^ word) + 0x9e3779b97f4a7c15u;
        p += 8;
        n -= 8;
    }
    uint64_t tail = (uint64_t)n << 56;
    for (size_t i = 0; i < n; i++)
        tail |= (uint64_t)p[i] << (8 * i);
    return mix(h ^ tail);
}

/* Eight words at a time, each in a lane of its own, so that no step waits for the one before it. Every step is a bijection of its lane:
 * one changed word always changes the result. */
uint64_t gm_checksum(const void *bytes, size_t n) {
    enum { LANES = 8 };
    const uint8_t *p = bytes;
    uint64_t lane[LANES], word;
    for (int i = 0; i < LANES; i++)
        lane[i] = mix((uint64_t)i + 1);
    size_t left = n;
    for (; left >= 8 * LANES; p += 8 * LANES, left -= 8 * LANES) {
        for (int i = 0; i < LANES; i++) {
            memcpy(&word, p + 8 * i, 8);
            uint64_t x = lane[i] ^ word;
            lane[i] = (x << 29 | x >> 35) * 0x9e3779b97f4a7c15u;
        }
    }
    return gm_hash(p, left, gm_hash(lane, sizeof lane, n));
}

uint64_t gm_rng_key(uint64_t seed, const char *name) {
    return gm_hash(name, strlen(name), mix(seed + 0x9e3779b97f4a7c15u));
}

uint64_t gm_rng_u64(uint64_t key, uint64_t counter) {
    return mix(mix(counter * 0x9e3779b97f4a7c15u + key) ^ (key * 0xd1342543de82ef95u + 0x632be59bd9b4e019u));
}

double gm_rng_uniform(uint64_t key, uint64_t counter) {
    return (double)(gm_rng_u64(key, counter) >> 11) * 0x1p-53;
}

double gm_rng_normal(uint64_t key, uint64_t counter) {
    double u = 1.0 - gm_rng_uniform(key, 2 * counter); /* (0, 1], so that the logarithm is finite */
    double angle = 6.283185307179586 * gm_rng_uniform(key, 2 * counter + 1);
    return sqrt(-2.0 * log(u)) * cos(angle);
}

int64_t gm_rng_below(uint64_t key, uint64_t counter, int64_t n) {
    /* The high half of a 64 x 64 product: bias below n / 2^64. */
    return (int64_t)(((unsigned __int128)gm_rng_u64(key, counter) * (uint64_t)n) >> 64);
}
