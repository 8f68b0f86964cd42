/* fuzz_llama2c.c -- llama2.c's checkpoints: what loads, loads twice to the same configuration and bits. */
#include "config_file.h"
#include "fuzz.h"
#include "llama2c_file.h"
#include "model.h"

static gm_model *load(const uint8_t *data, size_t size, gm_error *err) {
    static gm_ctx *ctx;
    if (!ctx)
        FUZZ_CHECK(gm_ctx_create(&ctx, &(gm_ctx_options){.isa = "ref", .threads = 1}, err) == GM_OK);
    gm_file file = {.data = data, .size = size, .path = "input"};
    gm_model *m;
    gm_status status = gm_llama2c_load(&m, ctx, &file, err);
    FUZZ_CHECK((status == GM_OK) == (m != NULL));
    return m;
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_model *m = load(data, size, &err);
    if (!m) {
        fuzz_refusal(err.code, &err, size);
        FUZZ_CHECK(err.offset >= 0);
        return false;
    }
    gm_model *again = load(data, size, &err);
    FUZZ_CHECK(again && gm_config_fingerprint(&again->cfg) == gm_config_fingerprint(&m->cfg));
    FUZZ_CHECK(memcmp(again->weights, m->weights, (size_t)m->param_elements * sizeof(float)) == 0);
    gm_model_free(again);
    gm_model_free(m);
    return true;
}
