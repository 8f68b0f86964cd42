/* fuzz_hf_model.c -- a model's folder: config.json, a zero byte, model.safetensors. What loads, written and loaded again is the same
 * configuration and the same bits. */
#include "fuzz_folder.h"
#include "fuzz_models.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_model *m, *back;
    if (!fuzz_two_files(data, size, "config.json", "model.safetensors"))
        return false;
    gm_status status = gm_model_load(&m, fuzz_ctx(), fuzz_path("in"), &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    FUZZ_CHECK(gm_model_save(m, fuzz_path("out"), &err) == GM_OK);
    FUZZ_CHECK(gm_model_load(&back, fuzz_ctx(), fuzz_path("out"), &err) == GM_OK);
    fuzz_same_models(m, back);
    return true;
}
