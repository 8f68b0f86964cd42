/* fuzz_safetensors.c -- safetensors: what is accepted reads twice to the same numbers, and written and read again is the same. */
#include "fuzz_folder.h"
#include "safetensors.h"

/* What the writer can say, which is every vector and matrix that has elements, as its bytes are. */
static void write_again(const gm_safetensors *s) {
    gm_safetensors back;
    gm_error err;
    int count = 0;
    gm_tensor_source *sources = gm_alloc((size_t)GM_MAX(s->count, 1), sizeof *sources);
    FUZZ_CHECK(sources);
    for (int i = 0; i < s->count; i++) {
        const gm_tensor *t = &s->tensors[i];
        if ((t->rank == 1 || t->rank == 2) && t->elements > 0)
            sources[count++] = (gm_tensor_source){.name = t->name,
                                                  .rows = t->shape[0],
                                                  .cols = t->rank == 2 ? t->shape[1] : 0,
                                                  .raw = t->data,
                                                  .raw_type = gm_tensor_type(t)};
    }
    fuzz_folder_begin();
    FUZZ_CHECK(gm_safetensors_write(fuzz_path("x"), sources, count, NULL, &err) == GM_OK);
    FUZZ_CHECK(gm_safetensors_open(&back, fuzz_path("x"), &err) == GM_OK && back.count == count);
    FUZZ_CHECK(gm_safetensors_verify(&back, 1, &err) == GM_OK);
    for (int i = 0; i < count; i++) {
        const gm_tensor *t = gm_safetensors_find(s, sources[i].name), *u = &back.tensors[i];
        FUZZ_CHECK(strcmp(t->name, u->name) == 0 && t->dtype == u->dtype && t->rank == u->rank && t->bytes == u->bytes);
        FUZZ_CHECK(memcmp(t->shape, u->shape, (size_t)t->rank * sizeof *t->shape) == 0 && memcmp(t->data, u->data, t->bytes) == 0);
    }
    gm_safetensors_close(&back);
    gm_free(sources);
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_safetensors s, again;
    gm_error err = {.offset = -1};
    gm_status status = gm_safetensors_parse(&s, data, size, "input", &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        FUZZ_CHECK(err.offset >= 0);
        return false;
    }
    FUZZ_CHECK(gm_safetensors_parse(&again, data, size, "input", &err) == GM_OK && again.count == s.count);
    for (int i = 0; i < s.count; i++) {
        const gm_tensor *t = &s.tensors[i];
        FUZZ_CHECK(gm_safetensors_find(&again, t->name) == &again.tensors[i]);
        float *x = gm_alloc((size_t)t->elements, sizeof *x), *y = gm_alloc((size_t)t->elements, sizeof *y);
        int64_t cols = t->rank >= 2 ? t->shape[t->rank - 1] : 1;
        status = gm_tensor_read(&s, t, x, cols, 1, &err);
        FUZZ_CHECK(gm_tensor_read(&again, &again.tensors[i], y, cols, 1, &err) == status);
        FUZZ_CHECK(status == GM_EUNSUPPORTED || memcmp(x, y, (size_t)t->elements * sizeof *x) == 0);
        gm_free(x);
        gm_free(y);
    }
    write_again(&s);
    gm_safetensors_close(&again);
    gm_safetensors_close(&s);
    return true;
}
