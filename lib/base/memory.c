/* memory.c -- aligned, zeroed, counted memory. */
#include "base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_llong alloc_count;

void *gm_alloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - 64)
        return NULL;
    bytes = (bytes + 63) & ~(size_t)63;
    void *p = aligned_alloc(64, bytes ? bytes : 64);
    if (p)
        memset(p, 0, bytes ? bytes : 64);
    atomic_fetch_add(&alloc_count, 1);
    return p;
}

void gm_free(void *p) {
    free(p);
}

int64_t gm_alloc_count(void) {
    return atomic_load(&alloc_count);
}
