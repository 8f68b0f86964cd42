/* fuzz_gguf_model.c -- a model in GGUF: what loads, written and loaded again is the same configuration and the same bits. */
#include "fuzz_models.h"
#include "gguf_file.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_model *m = fuzz_load(gm_gguf_model_load, data, size, &err);
    if (!m) {
        fuzz_refusal(err.code, &err, size);
        return false;
    }
    gm_gguf_writer *w;
    gm_text bytes;
    FUZZ_CHECK(gm_gguf_writer_create(&w, &err) == GM_OK);
    FUZZ_CHECK(gm_gguf_model_put(w, m, GM_DTYPE_F32, &err) == GM_OK);
    FUZZ_CHECK(gm_gguf_writer_bytes(w, &bytes, &err) == GM_OK);
    fuzz_same_models(m, fuzz_load(gm_gguf_model_load, bytes.data, bytes.size, &err));
    gm_gguf_writer_free(w);
    gm_text_free(&bytes);
    return true;
}
