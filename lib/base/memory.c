/* memory.c -- aligned, zeroed, counted memory. Large blocks come from the system directly: zero already, in huge pages where it has them,
 * and made real by whichever thread first touches a page. */
#define _GNU_SOURCE
#include "base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE = 64, LARGE = 1 << 22, HUGE_PAGE = 1 << 21 };

/* Stands in the cache line before the block. */
typedef struct origin {
    void *start;
    size_t mapped; /* 0: from the heap */
} origin;

static atomic_llong alloc_count;

/* A sanitizer watches the heap only, and a block there to its last byte. gcc has names for them, clang features. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { WATCHED = 1 };
#else
enum { WATCHED = 0 };
#endif

static uint8_t *map_large(size_t bytes, origin *from) {
    from->mapped = bytes + HUGE_PAGE;
    from->start = mmap(NULL, from->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (from->start == MAP_FAILED)
        return NULL;
    uint8_t *p = from->start;
    p += -(uintptr_t)p % HUGE_PAGE;
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE); /* a wish */
#endif
    return p;
}

void *gm_alloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = LINE + (WATCHED ? bytes : (bytes + LINE - 1) / LINE * LINE);
    origin from = {0};
    uint8_t *p = NULL;
    if (!WATCHED && bytes >= LARGE) {
        p = map_large(bytes, &from);
    } else if (posix_memalign(&from.start, LINE, bytes) == 0) {
        p = from.start;
        memset(p, 0, bytes);
    }
    atomic_fetch_add(&alloc_count, 1);
    if (!p)
        return NULL;
    memcpy(p, &from, sizeof from);
    return p + LINE;
}

void gm_free(void *p) {
    if (!p)
        return;
    origin from;
    memcpy(&from, (uint8_t *)p - LINE, sizeof from);
    if (from.mapped)
        munmap(from.start, from.mapped);
    else
        free(from.start);
}

int64_t gm_alloc_count(void) {
    return atomic_load(&alloc_count);
}
