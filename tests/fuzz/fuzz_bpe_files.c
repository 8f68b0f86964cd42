/* fuzz_bpe_files.c -- GPT-2's encoder.json and vocab.bpe, with a zero byte between them. */
#include "fuzz_tokens.h"
#include "subwords.h"

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_tokenizer *t;
    gm_error err = {.offset = -1};
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    const char *merges = zero ? (const char *)zero + 1 : "";
    gm_status status = gm_bpe_files_parse(&t, (const char *)data, n, merges, zero ? size - n - 1 : 0, &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    fuzz_tokenizer(t, data, size);
    return true;
}
