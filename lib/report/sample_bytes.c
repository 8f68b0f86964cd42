/* sample_bytes.c -- sample.safetensors in the bytes of a page. An activation is one byte: the sign, and 7 bits of the logarithm of its
 * size, ten to the octave below the tensor's largest (within 3.5%; less than 2^-12.6 of it, and NaN, is 0). A weight is a byte of 255 for
 * 1; of a causal map only the triangle. Base64 makes text of it. */
#include "gather.h"
#include "ghostmax_model.h"
#include "safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_LEAST = 8, LAYERS_MAX = 1 << 16 };

static const char *const sites[] = {"embed", "norm1", "attn_out", "residual1", "norm2", "ffn_act", "ffn_out", "block", "norm_final"};

static json_t *base64(const uint8_t *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = (n + 2) / 3 * 4, k = 0;
    char *text = malloc(size + 1);
    for (size_t i = 0; text && i < n; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
        text[k++] = digits[word >> 18];
        text[k++] = digits[word >> 12 & 63];
        text[k++] = i + 1 < n ? digits[word >> 6 & 63] : '=';
        text[k++] = i + 2 < n ? digits[word & 63] : '=';
    }
    json_t *string = text ? json_stringn(text, k) : NULL;
    free(text);
    return string;
}

static uint8_t byte_of(float x, float max) {
    double down = 10 * log2(max / fabs((double)x)); /* NaN and infinity for what is none or zero */
    if (!(down < 126.5))
        return 0;
    return (uint8_t)((x < 0 ? 128 : 0) | (127 - (int)(fmax(down, 0) + 0.5)));
}

/* ---- what fits */

typedef struct cut {
    int64_t tokens;
    int layers, every; /* of the model; every n-th layer, and the last */
} cut;

/* "blocks.3.ffn_out" -> 3 and "ffn_out"; "embed" -> -1. */
static const char *site_of(const char *name, int *layer) {
    *layer = -1;
    if (strncmp(name, "blocks.", 7) != 0)
        return name;
    char *end;
    const long number = strtol(name + 7, &end, 10);
    if (*end != '.' || number < 0 || number >= LAYERS_MAX)
        return "";
    *layer = (int)number;
    return end + 1;
}

static bool is_kept(const cut *c, int layer) {
    return layer < 0 || layer % c->every == 0 || layer == c->layers - 1;
}

static bool is_matrix(const gm_tensor *t) {
    return t->rank == 2 && t->shape[0] > 0 && t->shape[1] > 0;
}

static bool is_drawn(const char *site) {
    for (int i = 0; i < GM_COUNT(sites); i++) {
        if (strcmp(site, sites[i]) == 0)
            return true;
    }
    return false;
}

static double bytes_of(const gm_safetensors *s, const cut *c) {
    double sum = 0;
    for (int i = 0; i < s->count; i++) {
        const gm_tensor *t = &s->tensors[i];
        int layer;
        const char *site = site_of(t->name, &layer);
        if (!is_kept(c, layer) || !is_matrix(t))
            continue;
        if (is_drawn(site))
            sum += (double)c->tokens * (double)t->shape[1];
        else if (strcmp(site, "weights") == 0) {
            const int64_t heads = t->shape[0] / t->shape[1];
            sum += (double)heads * (double)c->tokens * (double)(c->tokens + 3) / 2; /* and the null mass */
        }
    }
    return sum * 4 / 3;
}

static bool fit(cut *c, const gm_safetensors *s, int64_t tokens, int64_t bytes) {
    for (int i = 0; i < s->count; i++) {
        int layer;
        site_of(s->tensors[i].name, &layer);
        c->layers = GM_MAX(c->layers, layer + 1);
    }
    for (c->every = 1; c->every <= c->layers + 1; c->every *= 2) {
        int64_t least = c->every <= c->layers ? GM_MIN(tokens, 2 * TOKENS_LEAST) : GM_MIN(tokens, TOKENS_LEAST);
        for (c->tokens = tokens; c->tokens >= least; c->tokens--) {
            if (bytes_of(s, c) <= (double)bytes)
                return true;
        }
    }
    return false;
}

/* ---- what is kept */

static gm_status add_tensor(json_t *tensors, const gm_safetensors *s, const gm_tensor *t, const cut *c, float *x, uint8_t *bytes,
                            gm_error *err) {
    int64_t C = t->shape[1], n = c->tokens * C;
    float max = 0;
    GM_TRY(gm_tensor_check(s, t, err));
    gm_tensor_rows(t, 0, c->tokens, x, C, 1);
    for (int64_t i = 0; i < n; i++)
        max = isfinite(x[i]) ? fmaxf(max, fabsf(x[i])) : max;
    for (int64_t i = 0; i < n; i++)
        bytes[i] = byte_of(x[i], max);
    json_object_set_new(tensors, t->name,
                        json_pack("{s:I, s:f, s:o}", "cols", (json_int_t)C, "max", (double)max, "data", base64(bytes, (size_t)n)));
    return GM_OK;
}

static uint8_t weight_byte(float w) {
    return (uint8_t)(w > 0 ? fminf(w, 1) * 255 + 0.5f : 0);
}

static gm_status add_heads(json_t *heads, const gm_safetensors *s, const gm_tensor *t, const gm_tensor *null_mass, int layer, const cut *c,
                           float *x, uint8_t *bytes, gm_error *err) {
    const int64_t T = t->shape[1], H = t->shape[0] / T;
    char name[16];
    size_t n = 0;
    GM_TRY(gm_tensor_check(s, t, err));
    GM_TRY(gm_tensor_check(s, null_mass, err));
    for (int64_t h = 0; h < H; h++) {
        const float *head = x + h * T * T;
        gm_tensor_rows(t, h * T, c->tokens, x, T, 1);
        for (int64_t i = 0; i < c->tokens; i++) {
            for (int64_t j = 0; j <= i; j++)
                bytes[n++] = weight_byte(head[i * T + j]);
        }
    }
    json_t *weights = base64(bytes, n);
    n = 0;
    for (int64_t h = 0; h < H; h++) {
        gm_tensor_rows(null_mass, h, 1, x, T, 1);
        for (int64_t i = 0; i < c->tokens; i++)
            bytes[n++] = weight_byte(x[h * T + i]);
    }
    snprintf(name, sizeof name, "%d", layer);
    json_object_set_new(heads, name,
                        json_pack("{s:I, s:o, s:o}", "heads", (json_int_t)H, "weights", weights, "null_mass", base64(bytes, n)));
    return GM_OK;
}

static gm_status add_all(json_t *root, const gm_safetensors *s, const cut *c, gm_error *err) {
    json_t *tensors = json_object(), *heads = json_object();
    int64_t largest = 1;
    for (int i = 0; i < s->count; i++)
        largest = GM_MAX(largest, s->tensors[i].elements);
    float *x = gm_alloc((size_t)largest, sizeof *x);
    uint8_t *bytes = gm_alloc((size_t)largest, 1);
    gm_status status = x && bytes ? GM_OK : gm_fail_memory(err, (size_t)largest * sizeof *x);
    for (int i = 0; i < s->count && status == GM_OK; i++) {
        const gm_tensor *t = &s->tensors[i];
        int layer;
        const char *site = site_of(t->name, &layer);
        if (!is_kept(c, layer) || !is_matrix(t))
            continue;
        if (is_drawn(site) && t->shape[0] >= c->tokens)
            status = add_tensor(tensors, s, t, c, x, bytes, err);
        else if (strcmp(site, "weights") == 0) {
            char name[64];
            snprintf(name, sizeof name, "blocks.%d.null_mass", layer);
            const gm_tensor *null_mass = gm_safetensors_find(s, name);
            if (null_mass && null_mass->rank == 2 && null_mass->shape[1] == t->shape[1] &&
                null_mass->shape[0] * t->shape[1] == t->shape[0] && t->shape[1] >= c->tokens)
                status = add_heads(heads, s, t, null_mass, layer, c, x, bytes, err);
        }
    }
    json_object_set_new(root, "tensors", tensors);
    json_object_set_new(root, "heads", heads);
    gm_free(x);
    gm_free(bytes);
    return status;
}

gm_status gm_sample_bytes(json_t **out, const char *path, int64_t bytes, gm_error *err) {
    gm_safetensors s;
    cut c = {0};
    *out = NULL;
    if (!gm_path_exists(path))
        return GM_OK;
    GM_TRY(gm_safetensors_open(&s, path, err));
    const char *text = gm_safetensors_metadata(&s, "texts");
    json_t *texts = json_loads(text ? text : "", JSON_REJECT_DUPLICATES, NULL);
    gm_status status = json_is_array(texts) && json_array_size(texts) > 0 && json_array_size(texts) <= GM_SAMPLE_TOKENS
                           ? GM_OK
                           : gm_fail(err, GM_EFORMAT, "'%s' does not say of which tokens it is; remove it: it is made anew", path);
    if (status == GM_OK && fit(&c, &s, (int64_t)json_array_size(texts), bytes)) {
        while ((int64_t)json_array_size(texts) > c.tokens)
            json_array_remove(texts, json_array_size(texts) - 1);
        *out = json_pack("{s:O}", "tokens", texts);
        status = add_all(*out, &s, &c, err);
    }
    if (status != GM_OK) {
        json_decref(*out);
        *out = NULL;
    }
    json_decref(texts);
    gm_safetensors_close(&s);
    return status;
}
