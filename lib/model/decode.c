/* decode.c -- a sequence fed piece by piece: the past's keys and values are kept, so that a new token costs one row of every layer and one
 * query over the past. The block is model.c's own: whatever it computes for a whole sequence, it computes here. */
#include "model.h"

#include <string.h>

/* ---- the f32 cache */

enum { PANEL = 32 }; /* gm_attention_shape.key_panels */

int64_t gm_kv_cache_head(const gm_model_config *c, int64_t capacity) {
    return (capacity + PANEL - 1) / PANEL * PANEL * c->head_dim;
}

size_t gm_kv_cache_bytes(const gm_model_config *c, int64_t capacity) {
    return (size_t)(c->layers * 2 * c->kv_heads * gm_kv_cache_head(c, capacity)) * sizeof(float);
}

void gm_kv_cache_append(const gm_model_config *c, const gm_kv_cache *cache, int64_t l, const float **k, const float **v, int64_t T) {
    const int64_t KV = c->kv_heads, D = c->head_dim, QKV = (c->heads + 2 * KV) * D, head = gm_kv_cache_head(c, cache->capacity);
    float *keys = (float *)cache->memory + l * 2 * KV * head, *values = keys + KV * head;
    for (int64_t t = 0, at = cache->length; t < T; t++, at++) {
        for (int64_t h = 0; h < KV; h++) {
            const float *key = *k + t * QKV + h * D;
            float *panel = keys + h * head + at / PANEL * PANEL * D + at % PANEL;
            for (int64_t d = 0; d < D; d++)
                panel[d * PANEL] = key[d];
            memcpy(values + h * head + at * D, key + KV * D, (size_t)D * sizeof(float)); /* in the row, v's heads are behind k's */
        }
    }
    *k = keys;
    *v = values;
}

/* ---- the decoder */

struct gm_decoder {
    gm_model *model;
    gm_kv_cache cache;
};

gm_status gm_decoder_create(gm_decoder **out, gm_model *m, int64_t capacity, gm_error *err) {
    *out = NULL;
    const gm_model_config *c = &m->cfg;
    if (capacity < 1 || capacity > c->context)
        return gm_fail(err, GM_EINVAL, "a decoder for %lld tokens; it must be 1..%lld, the model's context", (long long)capacity,
                       (long long)c->context);
    size_t bytes = m->engine ? m->engine->cache_bytes(m->engine->user, capacity) : gm_kv_cache_bytes(c, capacity);
    gm_decoder *d = gm_alloc(1, sizeof *d);
    if (d)
        *d = (gm_decoder){m, {gm_alloc(bytes, 1), capacity, 0}};
    if (!d || !d->cache.memory) {
        gm_decoder_free(d);
        return gm_fail_memory(err, bytes);
    }
    *out = d;
    return GM_OK;
}

void gm_decoder_free(gm_decoder *d) {
    if (!d)
        return;
    gm_free(d->cache.memory);
    gm_free(d);
}

gm_status gm_decoder_feed(gm_decoder *d, const int32_t *tokens, int64_t count, float *logits, gm_error *err) {
    if (count > d->cache.capacity - d->cache.length)
        return gm_fail(err, GM_EINVAL, "%lld tokens do not fit behind %lld: the decoder holds %lld", (long long)count,
                       (long long)d->cache.length, (long long)d->cache.capacity);
    return gm_model_decode(d->model, tokens, count, &d->cache, logits, err);
}

int64_t gm_decoder_length(const gm_decoder *d) {
    return d->cache.length;
}

void gm_decoder_rewind(gm_decoder *d, int64_t length) {
    d->cache.length = GM_MAX(0, GM_MIN(length, d->cache.length));
}
