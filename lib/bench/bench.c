/* bench.c -- one run of the benchmark: the groups in order, what is wanted of them, a job's memory, and the lines as JSON. */
#include "bench.h"
#include "noise.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The one list of groups. */
static const gm_bench_group groups[] = {
    {"machine", "the machine's limits", gm_bench_machine},
    {"kernels", "kernels, 1 thread, first-level cache", gm_bench_kernels},
    {"products", "matrix products of the presets' layers", gm_bench_products},
    {"rows", "the normaliser over rows", gm_bench_rows},
    {"attention", "attention", gm_bench_attention},
    {"layers", "the other layers, at gpt2-mini's shape", gm_bench_layers},
    {"head", "LM head and cross-entropy", gm_bench_head},
    {"optimizer", "the optimizer", gm_bench_optimizer},
    {"int8", "8-bit integers", gm_bench_int8},
    {"step", "a training step, and what it is spent on", gm_bench_step},
    {"forward", "a forward pass with its loss", gm_bench_forward},
    {"decode", "one token with a cache", gm_bench_decode},
    {"open", "opening a model: its file, which is in the system's cache, to weights in memory", gm_bench_open},
};

static const gm_timing quick_timing = {0.15, 1e-3, 3}, full_timing = {0.6, 2e-3, 5};

/* ---- which lines ------------------------------------------------------------------------------------------------------------ */

static bool contains(const char *text, const char *part) {
    size_t n = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == n)
            return true;
    }
    return n == 0;
}

static double memory_free(void) {
#ifdef _SC_AVPHYS_PAGES
    return (double)sysconf(_SC_AVPHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
#else
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 2;
#endif
}

bool gm_bench_wanted(gm_bench *b, const char *name, bool quick) {
    char full[128];
    snprintf(full, sizeof full, "%s %s", b->group->name, name);
    if (b->stopped || (b->options.filter && !contains(full, b->options.filter)))
        return false;
    if (b->options.quick && !quick) {
        b->beyond_quick++;
        return false;
    }
    b->matched++;
    if (!b->options.list)
        return true;
    json_array_append_new(b->lines, json_pack("{s:s, s:s}", "group", b->group->name, "name", name));
    gm_bench_line line = {.group = b->group->name, .title = b->group->title, .name = name, .bound = "", .unit = ""};
    b->stopped = b->callback && b->callback(b->user, &line);
    return false;
}

bool gm_bench_fits(gm_bench *b, const char *name, double bytes) {
    char text[192];
    if (bytes <= memory_free() / 2)
        return true;
    snprintf(text, sizeof text, "%s %s: needs %.1f GB, more than half of the free memory", b->group->name, name, bytes / 1e9);
    json_array_append_new(b->skipped, json_string(text));
    return false;
}

/* ---- a line ------------------------------------------------------------------------------------------------------------------ */

gm_status gm_bench_line_add(gm_bench *b, const char *name, int threads, const gm_samples *s, const gm_work *w, gm_bench_extra extra,
                            gm_error *err) {
    gm_limit limit = gm_bench_limit(b, w, threads);
    for (int tries = 0; tries < 3 && limit.seconds > s->median; tries++) { /* faster than the limit: noise had made that too low */
        b->peaks.again = true;
        limit = gm_bench_limit(b, w, threads);
        b->peaks.again = false;
    }
    if (isnan(limit.seconds))
        return gm_fail_memory(err, (size_t)GM_MAX(w->footprint, gm_work_bytes(w)));
    const bool floats = strcmp(limit.bound, "fma") == 0, integers = strcmp(limit.bound, "int8") == 0;
    const double amount = floats ? w->flops : integers ? w->int_ops : gm_work_bytes(w);
    gm_bench_line line = {.group = b->group->name,
                          .title = b->group->title,
                          .name = name,
                          .threads = threads,
                          .calls = s->calls,
                          .median_s = s->median,
                          .min_s = s->min,
                          .p90_s = s->p90,
                          .mad_s = s->mad,
                          .rate = amount / s->median,
                          .unit = floats     ? "flop/s"
                                  : integers ? "op/s"
                                             : "B/s",
                          .percent = 100 * limit.seconds / s->median,
                          .bound = limit.bound,
                          .tokens_per_s = extra.tokens / s->median,
                          .share = extra.share,
                          .speedup = extra.speedup,
                          .memory_bytes = extra.memory_bytes,
                          .memory_share = extra.memory_share,
                          .over_softmax = extra.over_softmax.median,
                          .over_softmax_low = extra.over_softmax.low,
                          .over_softmax_high = extra.over_softmax.high};
    json_t *j = json_pack("{s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:s, s:f, s:s}", "group", line.group, "name", name, "threads",
                          threads, "calls", (json_int_t)s->calls, "median_s", s->median, "min_s", s->min, "p90_s", s->p90, "mad_s", s->mad,
                          "rate", line.rate, "unit", line.unit, "percent_of_limit", line.percent, "bound", line.bound);
    if (!j)
        return gm_fail_memory(err, 1024);
    const struct {
        const char *name;
        double value;
    } extras[] = {{"tokens_per_s", line.tokens_per_s},         {"share", line.share},
                  {"speedup_over_f32", line.speedup},          {"memory_bytes", line.memory_bytes},
                  {"memory_share_of_f32", line.memory_share},  {"over_softmax", line.over_softmax},
                  {"over_softmax_low", line.over_softmax_low}, {"over_softmax_high", line.over_softmax_high}};
    for (int i = 0; i < GM_COUNT(extras); i++) {
        if (extras[i].value > 0)
            json_object_set_new(j, extras[i].name, json_real(extras[i].value));
    }
    json_array_append_new(b->lines, j);
    b->stopped = b->callback && b->callback(b->user, &line);
    return GM_OK;
}

void gm_bench_release(gm_bench *b) {
    while (b->kept_count > 0)
        gm_free(b->kept[--b->kept_count]);
}

gm_status gm_bench_measure(gm_bench *b, const gm_job *job, gm_error *err) {
    if (!gm_bench_wanted(b, job->name, job->quick) || !gm_bench_fits(b, job->name, job->bytes))
        return GM_OK;
    const gm_ctx *all = b->ctx;
    gm_ctx one = *all;
    one.threads = 1;
    b->ctx = job->one_thread ? &one : all;
    void *state = job->setup(b, job->shape);
    gm_status status = state ? GM_OK : gm_fail_memory(err, (size_t)job->bytes);
    if (state) {
        gm_samples s = gm_samples_take(job->run, state, b->timing);
        if (job->end)
            job->end(state);
        gm_bench_release(b);
        int threads = b->ctx->threads;
        b->ctx = all;
        status = gm_bench_line_add(b, job->name, threads, &s, &job->work, (gm_bench_extra){.tokens = job->tokens}, err);
    }
    b->ctx = all;
    gm_bench_release(b);
    return status;
}

/* ---- a job's memory ------------------------------------------------------------------------------------------------------- */

void *gm_bench_bytes(gm_bench *b, size_t bytes) {
    if (b->kept_count == GM_COUNT(b->kept))
        return NULL;
    void *p = gm_alloc(bytes > 0 ? bytes : 1, 1);
    if (p)
        b->kept[b->kept_count++] = p;
    return p;
}

void gm_bench_fill(float *x, int64_t n, float scale) {
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = scale * ((float)(state >> 8) * 0x1p-23f - 1);
    }
}

float *gm_bench_floats(gm_bench *b, int64_t n) {
    float *x = gm_bench_bytes(b, (size_t)n * sizeof(float));
    if (x)
        gm_bench_fill(x, n, 1);
    return x;
}

int gm_bench_copies(double bytes) {
    const double past = 0x1.8p26; /* 96 MiB: beyond every second-level cache, and most last-level ones */
    return (int)GM_MAX(1, GM_MIN(256, ceil(past / bytes)));
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------ */

static gm_status fail_no_line(const gm_bench *b, gm_error *err) {
    const char *names[GM_COUNT(groups) + 1] = {0};
    char all[160] = "";
    for (int i = 0; i < GM_COUNT(groups); i++) {
        names[i] = groups[i].name;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    }
    if (b->beyond_quick)
        return gm_fail(err, GM_EINVAL, "'%.60s' matches %d line%s, but none of --quick; leave that out", b->options.filter, b->beyond_quick,
                       b->beyond_quick > 1 ? "s" : "");
    const char *nearest = gm_text_nearest(b->options.filter, names);
    if (nearest)
        return gm_fail(err, GM_EINVAL, "no line matches '%.60s'; did you mean '%s'? The groups are %s; --list prints every line",
                       b->options.filter, nearest, all);
    return gm_fail(err, GM_EINVAL, "no line matches '%.60s'; the groups are %s; --list prints every line", b->options.filter, all);
}

static char *result_json(const gm_bench *b, const gm_noise *noise) {
    if (b->options.list) {
        json_t *names = json_pack("{s:s, s:O}", "schema", "ghostmax.bench/1", "lines", b->lines);
        char *text = names ? gm_json_dump(names, JSON_INDENT(1)) : NULL;
        json_decref(names);
        return text;
    }
    json_t *root =
        json_pack("{s:s, s:{s:s, s:s, s:s, s:i, s:i}, s:b, s:o, s:O, s:O}", "schema", "ghostmax.bench/1", "machine", "processor",
                  noise->processor, "isa", b->ctx->k->isa, "gemm", gm_ctx_gemm(b->ctx), "threads", b->ctx->threads, "cores", noise->cores,
                  "quick", b->options.quick, "noise", gm_noise_json(noise, b->lines), "lines", b->lines, "skipped", b->skipped);
    char *text = root ? gm_json_dump(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    return text;
}

gm_status gm_bench_run(const gm_ctx *ctx, const gm_bench_options *options, gm_bench_callback callback, void *user, char **json,
                       gm_error *err) {
    gm_bench b = {.ctx = ctx, .options = *options, .callback = callback, .user = user};
    gm_noise noise;
    gm_status status = GM_OK;
    b.timing = options->quick ? quick_timing : full_timing;
    b.lines = json_array();
    b.skipped = json_array();
    if (json)
        *json = NULL;
    if (!b.lines || !b.skipped)
        GM_TRY_GOTO(gm_fail_memory(err, 64));
    gm_noise_begin(&noise);
    for (int i = 0; i < GM_COUNT(groups) && !b.stopped; i++) {
        b.group = &groups[i];
        GM_TRY_GOTO(groups[i].lines(&b, err));
    }
    if (b.matched == 0 && !b.stopped)
        GM_TRY_GOTO(fail_no_line(&b, err));
    gm_noise_end(&noise);
    if (json && !(*json = result_json(&b, &noise)))
        GM_TRY_GOTO(gm_fail_memory(err, 1 << 16));
done:
    gm_peaks_end(&b.peaks);
    json_decref(b.lines);
    json_decref(b.skipped);
    return status;
}
