/* fuzz_safetensors.c -- safetensors: what is accepted reads twice to the same tensors. */
#include "fuzz.h"
#include "safetensors.h"

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
    gm_safetensors_close(&again);
    gm_safetensors_close(&s);
    return true;
}
