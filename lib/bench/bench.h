/* bench.h -- the inside of gm_bench_run: lines that are measured, and the limits that they are measured against.
 *
 * A group is a function that goes through its shapes and hands every line to gm_bench_measure as a job: what one call does in numbers
 * (work), how to make its data (setup) and the call itself (run). Whether a line is wanted is decided there, so that --list, --filter and
 * the table come from the same place and setup runs for wanted lines only. */
#ifndef GM_BENCH_H
#define GM_BENCH_H

#include "context.h"
#include "ghostmax_model.h"

#include <jansson.h>

/* ---- work and its limit -------------------------------------------------------------------------------------------------- */

/* Of one call. Counted is what the mathematics needs, not what this code happens to do. */
typedef struct gm_work {
    double flops;         /* f32 additions and multiplications */
    double int_ops;       /* the same on 8-bit integers */
    double read, written; /* bytes; written elsewhere than read */
    double updated;       /* bytes that are read and written in place */
    double footprint;     /* bytes that calls go through before they come back to the first; 0: read + written + updated */
    double read_s;        /* seconds that reading as much takes, measured in turn with the calls; 0: by the peaks */
} gm_work;
double gm_work_bytes(const gm_work *w); /* that are moved */

/* The measured limits of this machine, each made when it is first asked for. A thread count is 1 or the context's. */
enum { GM_PEAK_LEVELS = 8, GM_PEAK_SIZES = 8 };
typedef enum gm_move { GM_MOVE_READ, GM_MOVE_COPY, GM_MOVE_UPDATE, GM_MOVES } gm_move;
typedef struct gm_peaks {
    double fma[2][GM_PEAK_LEVELS], dot[2][GM_PEAK_LEVELS]; /* [one thread][kernel table]; 0: not measured yet */
    double bandwidth[GM_MOVES][2][GM_PEAK_SIZES];          /* [how][one thread][working set] */
    float *memory;                                         /* [memory_size] what bandwidth is measured on */
    int64_t memory_size;
    bool again; /* what is known is measured once more, and the better kept */
} gm_peaks;

typedef struct gm_limit {
    double seconds;
    char bound[24]; /* "fma", "int8", "copy 6.3M": what it is reached by */
} gm_limit;

/* ---- samples (samples.c) ------------------------------------------------------------------------------------------------ */

typedef struct gm_samples {
    int64_t calls; /* in all */
    int count;
    double median, min, p90, mad; /* seconds per call; mad: median absolute deviation from the median */
} gm_samples;

/* Statistics of `count` >= 1 numbers, which are sorted in place. p90 is the nearest rank. calls = count. */
gm_samples gm_samples_of(double *x, int count);
/* Calls `run` until the budget is spent: one call to warm up, then samples of at least sample_s seconds each (several calls where one is
 * shorter), at least `least` samples. */
typedef struct gm_timing {
    double budget_s, sample_s;
    int least;
} gm_timing;
gm_samples gm_samples_take(void (*run)(void *state), void *state, gm_timing how);

/* Up to GM_TURNS_MAX things in turn, sample by sample, another one first each round: all meet the same machine, whose memory and clock
 * others share. `budget_s` is for all together. over_first[i] (NULL: not wanted): the rounds' times of i over those of the first. */
enum { GM_TURNS_MAX = 8 };
typedef struct gm_call {
    void (*run)(void *state);
    void *state;
} gm_call;
typedef struct gm_ratio {
    double median, low, high; /* the median lies in low..high with 95% (from six rounds on) */
} gm_ratio;
gm_ratio gm_ratio_of(double *x, int count); /* of `count` >= 1 ratios, which are sorted in place */
void gm_samples_in_turn(gm_samples *out, gm_ratio *over_first, const gm_call *calls, int kinds, gm_timing how);

/* ---- one run of the benchmark --------------------------------------------------------------------------------------------- */

enum { GM_KEPT_MAX = 64 };
typedef struct gm_bench gm_bench;
typedef struct gm_bench_group {
    const char *name, *title;
    gm_status (*lines)(gm_bench *b, gm_error *err);
} gm_bench_group;

struct gm_bench {
    const gm_ctx *ctx;
    gm_bench_options options;
    gm_bench_callback callback;
    void *user;
    gm_timing timing;
    gm_peaks peaks;
    const gm_bench_group *group; /* the one whose lines are being made */
    json_t *lines, *skipped;
    int matched, beyond_quick; /* lines that the filter lets through; those of them that only --quick leaves out */
    bool stopped;
    void *kept[GM_KEPT_MAX]; /* a job's memory */
    int kept_count;
};

typedef struct gm_job {
    char name[72];
    bool quick;      /* part of --quick too */
    bool one_thread; /* on one thread whatever the context has */
    gm_work work;
    double tokens; /* that one call makes or learns from; 0: none */
    double bytes;  /* of memory, where it is much: more than half of what is free skips the line */
    const void *shape;
    void *(*setup)(gm_bench *b, const void *shape); /* NULL: no memory. From gm_bench_floats and the like */
    void (*run)(void *state);
    void (*end)(void *state); /* NULL: gm_bench_* memory is all there is */
} gm_job;

/* Measures a job when it is wanted, and gives its line to the caller. */
gm_status gm_bench_measure(gm_bench *b, const gm_job *job, gm_error *err);
/* Its parts, for what one measurement gives several lines of. share: of the line before it that is no part, NaN: no part. */
bool gm_bench_wanted(gm_bench *b, const char *name, bool quick);
bool gm_bench_fits(gm_bench *b, const char *name, double bytes); /* half of the free memory; else the line is skipped, and that said */
/* What else a line says; 0: it does not. gm_bench_line has the same. */
typedef struct gm_bench_extra {
    double tokens, share, speedup, memory_bytes, memory_share;
    gm_ratio over_softmax;
} gm_bench_extra;
gm_status gm_bench_line_add(gm_bench *b, const char *name, int threads, const gm_samples *s, const gm_work *work, gm_bench_extra extra,
                            gm_error *err);

/* A job's memory, freed after it by gm_bench_measure, or by gm_bench_release. NULL when there is none. Floats are uniform in (-1, 1). */
void gm_bench_release(gm_bench *b);
void *gm_bench_bytes(gm_bench *b, size_t bytes);
float *gm_bench_floats(gm_bench *b, int64_t n);
void gm_bench_fill(float *x, int64_t n, float scale);
/* How many copies of a call's data to go through in turn, so that it comes from beyond the second-level cache as in real use. */
int gm_bench_copies(double bytes);

/* The least seconds that this machine needs for the work (peaks.c). NaN: no memory to measure on. */
gm_limit gm_bench_limit(gm_bench *b, const gm_work *work, int threads);
void gm_peaks_end(gm_peaks *p);

/* What one exponential counts as: v_exp's additions and multiplications. */
#define GM_EXP_FLOPS 20.0

/* ---- the groups ------------------------------------------------------------------------------------------------------------ */

gm_status gm_bench_machine(gm_bench *b, gm_error *err);
gm_status gm_bench_kernels(gm_bench *b, gm_error *err);
gm_status gm_bench_products(gm_bench *b, gm_error *err);
gm_status gm_bench_rows(gm_bench *b, gm_error *err);
gm_status gm_bench_attention(gm_bench *b, gm_error *err);
gm_status gm_bench_layers(gm_bench *b, gm_error *err);
gm_status gm_bench_head(gm_bench *b, gm_error *err);
gm_status gm_bench_optimizer(gm_bench *b, gm_error *err);
gm_status gm_bench_int8(gm_bench *b, gm_error *err);
gm_status gm_bench_step(gm_bench *b, gm_error *err);
gm_status gm_bench_forward(gm_bench *b, gm_error *err);
gm_status gm_bench_decode(gm_bench *b, gm_error *err);
gm_status gm_bench_open(gm_bench *b, gm_error *err);

/* The presets that are measured: the batch that one trains with, and a vocabulary where the preset leaves it open. */
typedef struct gm_bench_model {
    const char *preset;
    int64_t batch, context, vocab;
    bool quick;
} gm_bench_model;
const gm_bench_model *gm_bench_model_at(int index); /* NULL past the end */
void gm_bench_model_config(gm_model_config *cfg, const gm_bench_model *model);

#endif
