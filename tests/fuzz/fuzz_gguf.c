/* fuzz_gguf.c -- the container: what is accepted, written again and read again is the same. */
#include "fuzz.h"
#include "gguf.h"

#include <math.h>

static bool has_nan(const float *x, int64_t n) {
    while (n > 0 && !isnan(x[n - 1]))
        n--;
    return n > 0;
}

/* Tensors of types that can be read, as they are, into the writer; data[i] is tensor i's (NULL: left out). */
static void put_tensors(gm_gguf_writer *w, const gm_gguf *g, float **data) {
    for (int64_t i = 0; i < g->tensor_count; i++) {
        const gm_gguf_tensor *t = &g->tensors[i];
        gm_dtype dtype;
        data[i] = NULL;
        if (!gm_gguf_tensor_dtype(t, &dtype) || t->rank > 2 || strlen(t->name) > GM_GGUF_NAME_MAX - 1)
            continue;
        data[i] = gm_alloc((size_t)t->elements, sizeof **data);
        gm_gguf_read(t, 0, INT64_MAX, 0, data[i]);
        if (has_nan(data[i], t->elements) || dtype == GM_DTYPE_Q8_0) { /* other bits for the same numbers; infinite blocks */
            gm_free(data[i]);
            data[i] = NULL;
            continue;
        }
        gm_gguf_put_tensor(
            w, &(gm_gguf_source){t->name, dtype, data[i], t->rank == 2 ? t->shape[1] : t->shape[0], t->rank == 2 ? t->shape[0] : 0, 0});
    }
}

static void check_same(const gm_gguf *a, const gm_gguf *b, float *const *data) {
    FUZZ_CHECK(b->value_count == a->value_count);
    for (int64_t i = 0; i < a->value_count; i++) {
        const gm_gguf_value *x = &a->values[i], *y = &b->values[i];
        FUZZ_CHECK(x->type == y->type && x->element == y->element && x->count == y->count && x->bytes == y->bytes);
        FUZZ_CHECK(x->key.size == y->key.size && memcmp(x->key.data, y->key.data, x->key.size) == 0);
        FUZZ_CHECK(x->bytes == 0 || memcmp(x->data, y->data, x->bytes) == 0);
    }
    for (int64_t i = 0; i < a->tensor_count; i++) {
        const gm_gguf_tensor *x = &a->tensors[i], *y = gm_gguf_find_tensor(b, x->name);
        FUZZ_CHECK((y != NULL) == (data[i] != NULL));
        if (y)
            FUZZ_CHECK(x->type == y->type && x->rank == y->rank && memcmp(x->shape, y->shape, sizeof x->shape) == 0 &&
                       x->bytes == y->bytes && memcmp(x->data, y->data, x->bytes) == 0);
    }
}

/* Everything that may be asked of a value. */
static void look(const gm_gguf *g) {
    for (int64_t i = 0; i < g->value_count; i++) {
        const gm_gguf_value *v = &g->values[i];
        int64_t whole;
        double real;
        for (int64_t k = -1; k <= GM_MIN(v->count, 16); k++)
            FUZZ_CHECK(!(gm_gguf_whole(v, k, &whole) && gm_gguf_real(v, k, &real)));
        gm_gguf_text *texts = gm_gguf_texts(v);
        size_t sum = 0;
        for (int64_t k = 0; texts && k < v->count; k++)
            sum += 8 + texts[k].size;
        FUZZ_CHECK(!texts || sum == v->bytes);
        gm_free(texts);
    }
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_gguf g, back;
    gm_error err = {.offset = -1};
    gm_status status = gm_gguf_parse(&g, data, size, "input", &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        FUZZ_CHECK(err.offset >= 0);
        return false;
    }
    look(&g);
    gm_gguf_writer *w;
    gm_text bytes;
    float **tensors = gm_alloc((size_t)g.tensor_count, sizeof *tensors);
    FUZZ_CHECK(gm_gguf_writer_create(&w, &err) == GM_OK);
    for (int64_t i = 0; i < g.value_count; i++)
        gm_gguf_put_value(w, &g.values[i]);
    put_tensors(w, &g, tensors);
    FUZZ_CHECK(gm_gguf_writer_bytes(w, &bytes, &err) == GM_OK);
    FUZZ_CHECK(gm_gguf_parse(&back, bytes.data, bytes.size, "written", &err) == GM_OK);
    check_same(&g, &back, tensors);
    for (int64_t i = 0; i < g.tensor_count; i++)
        gm_free(tensors[i]);
    gm_free(tensors);
    gm_gguf_close(&back);
    gm_gguf_close(&g);
    gm_gguf_writer_free(w);
    gm_text_free(&bytes);
    return true;
}
