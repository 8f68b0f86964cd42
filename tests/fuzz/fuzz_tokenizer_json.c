/* fuzz_tokenizer_json.c -- Hugging Face's tokenizer.json, and our own: any bytes give a refusal, or a tokenizer that can be saved and used.
 */
#include "fuzz_tokens.h"
#include "subwords.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_tokenizer *t;
    gm_error err = {.offset = -1};
    gm_status status = gm_tokenizer_parse(&t, (const char *)data, size, &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    fuzz_tokenizer(t, data, size);
    return true;
}
