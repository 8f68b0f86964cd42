/* fuzz_gguf_model.c -- a model in GGUF: what loads, written and loaded again is the same configuration and the same bits. */
#include "config_file.h"
#include "fuzz.h"
#include "gguf_file.h"
#include "model.h"

static gm_model *load(const uint8_t *data, size_t size, gm_error *err) {
    static gm_ctx *ctx;
    if (!ctx)
        FUZZ_CHECK(gm_ctx_create(&ctx, &(gm_ctx_options){.isa = "ref", .threads = 1}, err) == GM_OK);
    gm_file file = {.data = data, .size = size, .path = "input"};
    gm_model *m;
    gm_status status = gm_gguf_model_load(&m, ctx, &file, err);
    FUZZ_CHECK((status == GM_OK) == (m != NULL));
    return m;
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_model *m = load(data, size, &err);
    if (!m) {
        fuzz_refusal(err.code, &err, size);
        return false;
    }
    gm_gguf_writer *w;
    gm_text bytes;
    FUZZ_CHECK(gm_gguf_writer_create(&w, &err) == GM_OK);
    FUZZ_CHECK(gm_gguf_model_put(w, m, GM_DTYPE_F32, &err) == GM_OK);
    FUZZ_CHECK(gm_gguf_writer_bytes(w, &bytes, &err) == GM_OK);
    gm_model *back = load((const uint8_t *)bytes.data, bytes.size, &err);
    FUZZ_CHECK(back && gm_config_fingerprint(&back->cfg) == gm_config_fingerprint(&m->cfg));
    FUZZ_CHECK(memcmp(back->weights, m->weights, (size_t)m->param_elements * sizeof(float)) == 0);
    gm_gguf_writer_free(w);
    gm_text_free(&bytes);
    gm_model_free(back);
    gm_model_free(m);
    return true;
}
