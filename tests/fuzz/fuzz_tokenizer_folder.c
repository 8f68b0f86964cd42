/* fuzz_tokenizer_folder.c -- a tokenizer's folder: tokenizer_config.json, a zero byte, tokenizer.json. What loads, loaded again is the
 * same, and its BOS, which may stand behind the vocabulary, is one. */
#include "fuzz_folder.h"
#include "fuzz_tokens.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_tokenizer *t, *back;
    if (!fuzz_two_files(data, size, "tokenizer_config.json", "tokenizer.json"))
        return false;
    gm_status status = gm_tokenizer_load(&t, fuzz_path("in"), &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    FUZZ_CHECK(t->bos < 0 || gm_tokenizer_class(t, t->bos) == GM_CLASS_BOS);
    FUZZ_CHECK(gm_tokenizer_load(&back, fuzz_path("in"), &err) == GM_OK);
    FUZZ_CHECK(back->hash == t->hash && back->vocab == t->vocab && back->bos == t->bos && back->eos == t->eos);
    fuzz_same_ids(t, back, data, size);
    return true;
}
