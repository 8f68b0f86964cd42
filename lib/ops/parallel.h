/* parallel.h -- a thread's share of n elements: contiguous, in whole cache lines. Include after context.h. */
#ifndef GM_PARALLEL_H
#define GM_PARALLEL_H

#include <omp.h>
#include <stdint.h>

typedef struct gm_range {
    int64_t begin, size;
} gm_range;

/* Part `index` of `parts`. */
static inline gm_range gm_range_part(int64_t n, int64_t index, int64_t parts) {
    int64_t lines = (n + 15) / 16, begin = lines * index / parts * 16, end = lines * (index + 1) / parts * 16;
    begin = begin < n ? begin : n;
    end = end < n ? end : n;
    return (gm_range){begin, end - begin};
}

/* The calling thread's part, inside a parallel region. */
static inline gm_range gm_range_mine(int64_t n) {
    return gm_range_part(n, omp_get_thread_num(), omp_get_num_threads());
}

/* The gradients of norms' gains are sums over all rows: cut into so many partial sums, added in order, whatever the thread count. */
enum { GM_NORM_BLOCKS = 32 };

/* Below this many elements a parallel region costs more (some 5 us) than it saves. */
enum { GM_PARALLEL_MIN = 16384 };

#endif
