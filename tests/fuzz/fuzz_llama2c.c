/* fuzz_llama2c.c -- llama2.c's checkpoints: what loads, written in both versions and loaded again is the same model. */
#include "fuzz_folder.h"
#include "fuzz_models.h"
#include "llama2c_file.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_model *m = fuzz_load(gm_llama2c_load, data, size, &err);
    if (!m) {
        fuzz_refusal(err.code, &err, size);
        FUZZ_CHECK(err.offset >= 0);
        return false;
    }
    fuzz_folder_begin();
    for (int version = 0; version < 2; version++) {
        gm_file written;
        FUZZ_CHECK(gm_llama2c_save(m, version, fuzz_path("written"), &err) == GM_OK);
        FUZZ_CHECK(gm_file_open(&written, fuzz_path("written"), &err) == GM_OK);
        gm_model *back = fuzz_load(gm_llama2c_load, written.data, written.size, &err);
        gm_file_close(&written);
        if (version == 0) { /* m is needed once more */
            FUZZ_CHECK(back && memcmp(m->weights, back->weights, (size_t)m->param_elements * sizeof(float)) == 0);
            gm_model_free(back);
        } else {
            fuzz_same_models(m, back);
        }
    }
    return true;
}
