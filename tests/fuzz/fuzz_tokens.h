/* fuzz_tokens.h -- what must hold for any tokenizer that was accepted, whatever its format. */
#ifndef GM_TEST_FUZZ_TOKENS_H
#define GM_TEST_FUZZ_TOKENS_H

#include "fuzz.h"
#include "tokenizer.h"

/* Saved and read again. */
static inline gm_tokenizer *fuzz_saved(const gm_tokenizer *t) {
    gm_tokenizer *back;
    gm_error err = {.offset = -1};
    gm_text json = {0};
    FUZZ_CHECK(gm_tokenizer_format(t, &json, &err) == GM_OK);
    FUZZ_CHECK(gm_tokenizer_parse(&back, json.data, json.size, &err) == GM_OK);
    gm_text_free(&json);
    return back;
}

/* Both encode the input's end to the same ids, or say why not; every id prints. Frees both. */
static inline void fuzz_same_ids(gm_tokenizer *t, gm_tokenizer *back, const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    gm_ids ids = {0}, again = {0};
    size_t n = GM_MIN(size, 96);
    const char *text = (const char *)data + size - n;
    gm_status status = gm_tokenizer_append(t, text, n, true, &ids, &err);
    if (status != GM_OK)
        fuzz_refusal(status, &err, n);
    FUZZ_CHECK(gm_tokenizer_append(back, text, n, true, &again, &err) == status);
    FUZZ_CHECK(ids.count == again.count && (!ids.count || memcmp(ids.data, again.data, (size_t)ids.count * sizeof *ids.data) == 0));
    int32_t previous = -1;
    for (int64_t i = 0; i < ids.count; i++) {
        size_t length;
        FUZZ_CHECK(ids.data[i] >= 0 && ids.data[i] < t->vocab);
        FUZZ_CHECK(gm_tokenizer_piece(t, previous, ids.data[i], &length) != NULL);
        previous = ids.data[i];
    }
    free(ids.data);
    free(again.data);
    gm_tokenizer_free(back);
    gm_tokenizer_free(t);
}

/* Saved and read again it is the same. Frees t. */
static inline void fuzz_tokenizer(gm_tokenizer *t, const uint8_t *data, size_t size) {
    gm_tokenizer *back = fuzz_saved(t);
    FUZZ_CHECK(back->hash == t->hash && back->vocab == t->vocab && back->bos == t->bos && back->eos == t->eos);
    fuzz_same_ids(t, back, data, size);
}

#endif
