/* fuzz_config.c -- config.json: what is accepted, written and read again says the same. */
#include "config_file.h"
#include "fuzz.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_model_config cfg, back;
    gm_error err = {.offset = -1};
    gm_status status = gm_config_parse(&cfg, data, size, "config.json", &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    char *json = gm_config_json(&cfg, GM_DTYPE_F32), *again;
    FUZZ_CHECK(json && gm_config_parse(&back, json, strlen(json), "written", &err) == GM_OK);
    FUZZ_CHECK(gm_config_fingerprint(&back) == gm_config_fingerprint(&cfg));
    again = gm_config_json(&back, GM_DTYPE_F32);
    FUZZ_CHECK(again && strcmp(json, again) == 0);
    free(json);
    free(again);
    return true;
}
