/* peaks.c -- what this machine can do at best, measured: multiply-adds in registers, and bytes through memory against the size of what is
 * gone through. The curve needs no cache sizes, which a virtual machine may not tell or not have.
 *
 * A limit is the best sample, the lines' times are medians: a limit that noise made too low would flatter them. */
#include "bench.h"
#include "parallel.h"

#include <math.h>
#include <unistd.h>

/* Working sets, in steps of 8, and of 2 where a last-level cache mostly ends; 3 times a power of two, so that loops of 12 or 24 vectors
 * have no rest. */
static const double sizes[GM_PEAK_SIZES] = {0x1.8p14, 0x1.8p17, 0x1.8p20, 0x1.8p23, 0x1.8p24, 0x1.8p25, 0x1.8p26, 0x1.8p29};

/* Between source and target: at a distance that is a power of two they would share cache sets, and loads wait for stores of the same
 * low address bits. */
enum { COPY_GAP = 33 * 16 };

/* One measurement: every thread works on its own for `rounds`, with no barrier in between. */
typedef struct peak_run {
    const gm_kernels *k;
    int threads;
    int64_t rounds;
    float *from, *to; /* bandwidth: n floats; to: copying only */
    int64_t n;
    float sink; /* what the loops computed, so that they must */
} peak_run;

static void run_fma(void *state) {
    peak_run *p = state;
#pragma omp parallel num_threads(p->threads)
    {
        _Alignas(64) float x[GM_PEAK_LANES];
        for (int i = 0; i < GM_PEAK_LANES; i++)
            x[i] = (float)i;
        p->k->f32_peak_fma(x, p->rounds, 0.75f, 0.5f);
        if (x[omp_get_thread_num() % GM_PEAK_LANES] < 0)
            p->sink = x[0]; /* never: 2 is the fixed point */
    }
}

static void run_dot(void *state) {
    peak_run *p = state;
#pragma omp parallel num_threads(p->threads)
    {
        _Alignas(64) int32_t sum[GM_PEAK_LANES] = {0};
        uint8_t a[4] = {0};
        _Alignas(64) int8_t b[64] = {0};
        for (int i = 0; i < 64; i++)
            b[i] = (int8_t)i;
        p->k->u8s8_peak_dot(sum, a, b, p->rounds);
        if (sum[omp_get_thread_num() % GM_PEAK_LANES] != 0)
            p->sink = 1; /* never: a is 0 */
    }
}

static void run_read(void *state) {
    peak_run *p = state;
#pragma omp parallel num_threads(p->threads)
    {
        gm_range mine = gm_range_mine(p->n);
        float sum = p->k->f32_peak_read(p->from + mine.begin, mine.size, p->rounds);
        if (sum < 0)
            p->sink = sum; /* never: they are positive */
    }
}

static void run_copy(void *state) {
    peak_run *p = state;
#pragma omp parallel num_threads(p->threads)
    {
        gm_range mine = gm_range_mine(p->n);
        for (int64_t i = 0; i < p->rounds; i++)
            p->k->f32_peak_copy(p->to + mine.begin, p->from + mine.begin, mine.size);
    }
}

static void run_update(void *state) {
    peak_run *p = state;
#pragma omp parallel num_threads(p->threads)
    {
        gm_range mine = gm_range_mine(p->n);
        for (int64_t i = 0; i < p->rounds; i++)
            p->k->f32_peak_update(p->from + mine.begin, mine.size, 1.0f);
    }
}

static const struct {
    const char *name;
    void (*run)(void *state);
    int moved; /* times that every byte of the working set is */
} moves[GM_MOVES] = {{"read", run_read, 1}, {"copy", run_copy, 1}, {"update", run_update, 2}};

static int one_thread(const gm_bench *b, int threads) {
    return threads == 1 && b->ctx->threads != 1;
}

/* Samples of half a millisecond or more; *peak becomes the best of them and of what it was. per_round: what one round of all threads
 * amounts to. */
static gm_samples measure(void (*run)(void *), peak_run *p, double budget_s, double per_round, double *peak) {
    for (p->rounds = 1;; p->rounds *= 4) {
        double seconds = 1;
        for (int i = 0; i < 3; i++) { /* the best of three: one interruption must not pass for a long round */
            double begin = gm_seconds();
            run(p);
            seconds = GM_MIN(seconds, gm_seconds() - begin);
        }
        if (seconds >= 0.5e-3)
            break;
    }
    gm_samples s = gm_samples_take(run, p, (gm_timing){budget_s, 0, 8});
    *peak = GM_MAX(*peak, per_round * (double)p->rounds / s.min);
    return s;
}

static gm_samples measure_fma(gm_bench *b, int level, int threads, peak_run *p) {
    *p = (peak_run){.k = gm_kernels_at(level), .threads = threads};
    return measure(run_fma, p, GM_MIN(b->timing.budget_s, 0.2), 2.0 * GM_PEAK_LANES * threads,
                   &b->peaks.fma[one_thread(b, threads)][level]);
}

static gm_samples measure_dot(gm_bench *b, int level, int threads, peak_run *p) {
    *p = (peak_run){.k = gm_kernels_at(level), .threads = threads};
    return measure(run_dot, p, GM_MIN(b->timing.budget_s, 0.2), 8.0 * GM_PEAK_LANES * threads,
                   &b->peaks.dot[one_thread(b, threads)][level]);
}

/* The largest working set that a quarter of the memory holds. */
static int largest_size(void) {
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    int size = GM_PEAK_SIZES - 1;
    while (size > 0 && sizes[size] > memory / 4)
        size--;
    return size;
}

/* Room for this working set, written once: untouched pages would all be the same page of zeros. */
static bool reserve(gm_bench *b, int size) {
    gm_peaks *p = &b->peaks;
    const int64_t n = (int64_t)(sizes[size] / sizeof(float)) + COPY_GAP;
    if (p->memory && n <= p->memory_size)
        return true;
    gm_free(p->memory);
    float *x = p->memory = gm_alloc((size_t)n, sizeof(float));
    p->memory_size = n;
    if (!x)
        return false;
#pragma omp parallel for num_threads(b->ctx->threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        x[i] = 1.0f + (float)(i & 1023);
    return true;
}

void gm_peaks_end(gm_peaks *p) {
    gm_free(p->memory);
}

static gm_samples measure_bandwidth(gm_bench *b, gm_move move, int size, int threads, peak_run *p) {
    const bool copy = move == GM_MOVE_COPY;
    int64_t n = (int64_t)(sizes[size] / sizeof(float)) / (copy ? 2 : 1);
    double *peak = &b->peaks.bandwidth[move][one_thread(b, threads)][size];
    if (!reserve(b, size)) {
        *peak = NAN;
        return (gm_samples){0};
    }
    *p = (peak_run){.k = b->ctx->k, .threads = threads, .from = b->peaks.memory, .n = n};
    p->to = copy ? p->from + n + COPY_GAP : p->from;
    const double budget_s = sizes[size] < 0x1p23 ? GM_MIN(b->timing.budget_s, 0.2) : b->timing.budget_s; /* memory has more noise */
    return measure(moves[move].run, p, budget_s, moves[move].moved * sizes[size], peak);
}

static double peak_fma(gm_bench *b, int level, int threads) {
    const double *known = &b->peaks.fma[one_thread(b, threads)][level];
    peak_run p;
    if (*known == 0 || b->peaks.again)
        measure_fma(b, level, threads, &p);
    return *known;
}

static double peak_dot(gm_bench *b, int level, int threads) {
    const double *known = &b->peaks.dot[one_thread(b, threads)][level];
    peak_run p;
    if (*known == 0 || b->peaks.again)
        measure_dot(b, level, threads, &p);
    return *known;
}

static double bandwidth(gm_bench *b, gm_move move, int size, int threads) {
    size = GM_MIN(size, largest_size());
    const double *known = &b->peaks.bandwidth[move][one_thread(b, threads)][size];
    peak_run p;
    if (*known == 0 || b->peaks.again)
        measure_bandwidth(b, move, size, threads, &p);
    return *known;
}

/* Between two measured sizes: straight in the logarithms of both. */
static double bandwidth_at(gm_bench *b, gm_move move, double footprint, int threads) {
    int size = 0;
    while (size + 1 < GM_PEAK_SIZES && sizes[size + 1] <= footprint)
        size++;
    double low = bandwidth(b, move, size, threads);
    if (size + 1 == GM_PEAK_SIZES || footprint <= sizes[0])
        return low;
    double high = bandwidth(b, move, size + 1, threads);
    double share = log(footprint / sizes[size]) / log(sizes[size + 1] / sizes[size]);
    return low * pow(high / low, share);
}

double gm_work_bytes(const gm_work *w) {
    return w->read + w->written + 2 * w->updated;
}

static void format_footprint(char *dst, size_t n, const char *what, double bytes) {
    static const char units[] = "kMG";
    int unit = 0;
    for (bytes /= 1024; bytes >= 1000 && unit < 2; unit++)
        bytes /= 1024;
    snprintf(dst, n, bytes < 10 ? "%s %.1f%c" : "%s %.0f%c", what, bytes, units[unit]);
}

/* Each resource alone, all of it: the slowest is the limit. As much as is both read and written goes at the rate of copying, what is
 * changed in place at that of updating, the rest at that of reading. */
gm_limit gm_bench_limit(gm_bench *b, const gm_work *w, int threads) {
    int level = 0;
    while (gm_kernels_at(level) != b->ctx->k)
        level++;
    gm_limit limit = {0};
    if (w->flops > 0) {
        limit.seconds = w->flops / peak_fma(b, level, threads);
        snprintf(limit.bound, sizeof limit.bound, "fma");
    }
    double integers = w->int_ops > 0 ? w->int_ops / peak_dot(b, level, threads) : 0;
    if (integers > limit.seconds) {
        limit.seconds = integers;
        snprintf(limit.bound, sizeof limit.bound, "int8");
    }
    const double footprint = w->footprint > 0 ? w->footprint : w->read + w->written + w->updated;
    const double moved[GM_MOVES] = {
        [GM_MOVE_READ] = fabs(w->read - w->written), [GM_MOVE_COPY] = 2 * GM_MIN(w->read, w->written), [GM_MOVE_UPDATE] = 2 * w->updated};
    double bytes = 0;
    int most = 0;
    for (int move = 0; move < GM_MOVES; move++) {
        if (moved[move] > 0 && w->read_s == 0)
            bytes += moved[move] / bandwidth_at(b, (gm_move)move, footprint, threads);
        if (moved[move] > moved[most])
            most = move;
    }
    if (w->read_s > 0)
        bytes = w->read_s;
    if (!(bytes <= limit.seconds)) {
        limit.seconds = bytes;
        format_footprint(limit.bound, sizeof limit.bound, moves[most].name, footprint);
    }
    return limit;
}

/* ---- the group ------------------------------------------------------------------------------------------------------------- */

static gm_status fma_line(gm_bench *b, bool integers, int level, int threads, gm_error *err) {
    char name[72];
    peak_run p = {0};
    snprintf(name, sizeof name, "%s, %s, %d thread%s", integers ? "int8 dot products" : "multiply-adds", gm_kernels_at(level)->isa, threads,
             threads > 1 ? "s" : "");
    if (!gm_bench_wanted(b, name, true))
        return GM_OK;
    gm_samples s = (integers ? measure_dot : measure_fma)(b, level, threads, &p);
    double lanes = (double)p.rounds * GM_PEAK_LANES * threads;
    gm_work work = {.flops = integers ? 0 : 2 * lanes, .int_ops = integers ? 8 * lanes : 0};
    return gm_bench_line_add(b, name, threads, &s, &work, (gm_bench_extra){0}, err);
}

static gm_status bandwidth_line(gm_bench *b, gm_move move, int size, int threads, gm_error *err) {
    char name[72], at[24];
    peak_run p;
    format_footprint(at, sizeof at, moves[move].name, sizes[size]);
    snprintf(name, sizeof name, "%s, %d thread%s", at, threads, threads > 1 ? "s" : "");
    if (!gm_bench_wanted(b, name, true))
        return GM_OK;
    gm_samples s = measure_bandwidth(b, move, size, threads, &p);
    if (s.count == 0)
        return gm_fail_memory(err, (size_t)sizes[size]);
    double bytes = (double)p.rounds * sizes[size];
    gm_work work = {.footprint = sizes[size]};
    if (move == GM_MOVE_READ)
        work.read = bytes;
    else if (move == GM_MOVE_COPY)
        work.read = work.written = bytes / 2;
    else
        work.updated = bytes;
    return gm_bench_line_add(b, name, threads, &s, &work, (gm_bench_extra){0}, err);
}

gm_status gm_bench_machine(gm_bench *b, gm_error *err) {
    for (int threads = 1;; threads = b->ctx->threads) {
        for (int integers = 0; integers < 2; integers++) {
            for (int level = 0; gm_kernels_at(level); level++) {
                GM_TRY(fma_line(b, integers, level, threads, err));
                if (gm_kernels_at(level) == b->ctx->k)
                    break;
            }
        }
        for (int move = 0; move < GM_MOVES; move++) {
            for (int size = 0; size <= largest_size(); size++)
                GM_TRY(bandwidth_line(b, (gm_move)move, size, threads, err));
        }
        if (threads == b->ctx->threads)
            return GM_OK;
    }
}
