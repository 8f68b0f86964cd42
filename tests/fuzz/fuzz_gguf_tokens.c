/* fuzz_gguf_tokens.c -- the tokenizer inside a GGUF file: any bytes give a refusal, or a tokenizer that can be saved and used. */
#include "fuzz_tokens.h"
#include "gguf_tokens.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_tokenizer *t;
    gm_error err = {.offset = -1};
    gm_status status = gm_gguf_tokens_parse(&t, data, size, "input", &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    gm_tokenizer *back = fuzz_saved(t); /* where BOS and EOS may stand in files beside it */
    FUZZ_CHECK(back->vocab == t->vocab);
    fuzz_same_ids(t, back, data, size);
    return true;
}
