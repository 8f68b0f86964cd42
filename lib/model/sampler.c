/* sampler.c -- the next token drawn from a row of logits.
 *
 * Every filter is a smallest logit that may still be drawn: the k-th largest, the last that top_p needs, the largest plus temperature
 * ln(min_p). They are applied in that order, each to what the one before left; equals of the last one stay. */
#include "base.h"
#include "ghostmax_model.h"

#include <math.h>
#include <string.h>

struct gm_sampler {
    gm_sampling options;
    int64_t vocab;
    float *logits; /* [vocab] after the penalty */
    float *heap;   /* [vocab] the same, as a heap with the largest on top */
    uint64_t key, drawn;
};

void gm_sampling_defaults(gm_sampling *options) {
    *options = (gm_sampling){.temperature = 0.8, .top_k = 40, .top_p = 1, .repetition_penalty = 1, .seed = 1};
}

gm_status gm_sampler_create(gm_sampler **out, const gm_sampling *options, int64_t vocab, gm_error *err) {
    *out = NULL;
    if (!(options->temperature >= 0) || options->top_k < 0 || !(options->top_p > 0 && options->top_p <= 1) ||
        !(options->min_p >= 0 && options->min_p < 1) || !(options->repetition_penalty > 0) || vocab < 1)
        return gm_fail(
            err, GM_EINVAL,
            "sampling needs temperature >= 0, top_k >= 0, 0 < top_p <= 1, 0 <= min_p < 1, repetition_penalty > 0 and a vocabulary");
    gm_sampler *s = gm_alloc(1, sizeof *s);
    if (s)
        *s = (gm_sampler){.options = *options, .vocab = vocab, .key = gm_rng_key(options->seed, "sample")};
    if (s)
        s->logits = gm_alloc((size_t)(2 * vocab), sizeof *s->logits);
    if (!s || !s->logits) {
        gm_sampler_free(s);
        return gm_fail_memory(err, (size_t)(2 * vocab) * sizeof(float));
    }
    s->heap = s->logits + vocab;
    *out = s;
    return GM_OK;
}

void gm_sampler_free(gm_sampler *s) {
    if (!s)
        return;
    gm_free(s->logits);
    gm_free(s);
}

static void heap_sink(float *heap, int64_t n, int64_t at) {
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] > heap[child];
        if (heap[at] >= heap[child])
            return;
        float moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

/* Takes the largest from heap[0 .. *n) and leaves it behind the others. */
static float heap_take(float *heap, int64_t *n) {
    float largest = heap[0];
    heap[0] = heap[--*n];
    heap[*n] = largest;
    heap_sink(heap, *n, 0);
    return largest;
}

static double share(const gm_sampler *s, float logit, float best) {
    return exp(((double)logit - best) / s->options.temperature);
}

/* The smallest logit that may be drawn. */
static float least_logit(gm_sampler *s, float best) {
    const gm_sampling *o = &s->options;
    const int64_t V = s->vocab, k = o->top_k > 0 ? GM_MIN(o->top_k, V) : V;
    float least = -INFINITY;
    if (k < V || o->top_p < 1) {
        int64_t n = V, kept = 0;
        double total = 0, sum = 0;
        memcpy(s->heap, s->logits, (size_t)V * sizeof *s->heap);
        for (int64_t i = V / 2; i-- > 0;)
            heap_sink(s->heap, V, i);
        if (k < V) { /* taken values stand behind the heap, the largest last */
            while (n > V - k)
                total += share(s, least = heap_take(s->heap, &n), best);
        } else {
            for (int64_t i = 0; i < V; i++)
                total += share(s, s->logits[i], best);
        }
        while (o->top_p < 1 && kept < k && sum < o->top_p * total) {
            kept++;
            least = k < V ? s->heap[V - kept] : heap_take(s->heap, &n);
            sum += share(s, least, best);
        }
    }
    return o->min_p > 0 ? fmaxf(least, (float)(best + o->temperature * log(o->min_p))) : least;
}

/* As Hugging Face's processor (Keskar et al. 2019): what stands in the past gets its logit divided, or multiplied where it is negative. */
static void penalize(gm_sampler *s, const float *logits, const int32_t *past, int64_t count) {
    const float penalty = (float)s->options.repetition_penalty;
    memcpy(s->logits, logits, (size_t)s->vocab * sizeof *logits);
    for (int64_t i = 0; penalty != 1 && i < count; i++) {
        if (past[i] >= 0 && past[i] < s->vocab) { /* from the given row: once, however often it stands there */
            float logit = logits[past[i]];
            s->logits[past[i]] = logit > 0 ? logit / penalty : logit * penalty;
        }
    }
}

int32_t gm_sampler_next(gm_sampler *s, const float *logits, const int32_t *past, int64_t count) {
    int64_t best = 0;
    penalize(s, logits, past, count);
    for (int64_t i = 0; i < s->vocab; i++) {
        if (isnan(s->logits[i]))
            return -1;
        best = s->logits[i] > s->logits[best] ? i : best;
    }
    const float top = s->logits[best];
    if (isinf(top))
        return -1;
    if (s->options.temperature == 0)
        return (int32_t)best;
    float least = least_logit(s, top);
    double sum = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        sum += s->logits[i] >= least ? share(s, s->logits[i], top) : 0;
    double left = gm_rng_uniform(s->key, s->drawn++) * sum;
    for (int64_t i = 0; i < s->vocab; i++) {
        if (s->logits[i] >= least && (left -= share(s, s->logits[i], top)) < 0)
            return (int32_t)i;
    }
    return (int32_t)best;
}
