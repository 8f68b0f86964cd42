/* fuzz_llama2c_tokens.c -- llama2.c's tokenizer.bin: what is accepted becomes a tokenizer.json that gives the same tokenizer, and encodes
 * any bytes or says why not. */
#include "fuzz.h"
#include "tokenizer.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_tokenizer *t, *back;
    gm_error err = {.offset = -1};
    if (!gm_llama2c_tokens_is(data, size))
        return false;
    gm_status status = gm_llama2c_tokens_parse(&t, data, size, &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    gm_text json = {0};
    gm_ids ids = {0}, again = {0};
    status = gm_tokenizer_format(t, &json, &err);
    if (status == GM_OK) { /* keys that are not UTF-8 have no JSON */
        FUZZ_CHECK(gm_tokenizer_parse(&back, json.data, json.size, &err) == GM_OK);
        FUZZ_CHECK(gm_tokenizer_vocab(back) == gm_tokenizer_vocab(t));
        size_t n = GM_MIN(size, 64);
        const char *text = (const char *)data + size - n;
        status = gm_tokenizer_append(t, text, n, true, &ids, &err);
        FUZZ_CHECK(gm_tokenizer_append(back, text, n, true, &again, &err) == status);
        FUZZ_CHECK(ids.count == again.count && (!ids.count || memcmp(ids.data, again.data, (size_t)ids.count * sizeof *ids.data) == 0));
        gm_tokenizer_free(back);
    }
    gm_text_free(&json);
    free(ids.data);
    free(again.data);
    gm_tokenizer_free(t);
    return true;
}
