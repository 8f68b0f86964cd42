/* fuzz_token_file.c -- token files: as the bytes are, and once more with the hashes that belong to them, so that what stands behind them is
 * reached. What is accepted is the same after it was written and read again. */
#include "data.h"
#include "fuzz_folder.h"

enum { HEADER = 80, TOKENIZER_BYTES = 7, GRAINS = 8, HASH = 9, WORDS = 10, RECORD = 32 };

static void corpus_end(gm_corpus *c, gm_tokenizer *t) {
    gm_free(c->grains);
    gm_tokenizer_free(t);
}

/* True: accepted. */
static bool check(const uint8_t *data, size_t size) {
    gm_corpus c = {.file = {.data = data, .size = size, .path = "input"}}, back = {0};
    gm_tokenizer *t = NULL, *t_back = NULL;
    gm_error err = {.offset = -1};
    int64_t count, text_bytes;
    int width;
    gm_status status = gm_token_file_read(&c, &t, &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        corpus_end(&c, t);
        return false;
    }
    FUZZ_CHECK(gm_token_file_header(&c.file, &count, &text_bytes, &width, &t_back, &err) == GM_OK);
    const gm_grain *end = &c.grains[c.grain_count];
    FUZZ_CHECK((uint64_t)count == end->token && (uint64_t)text_bytes == end->byte && width == c.width && t_back->hash == t->hash);
    gm_tokenizer_free(t_back);
    fuzz_folder_begin();
    FUZZ_CHECK(gm_token_file_write(&c, t, fuzz_path("written"), &err) == GM_OK);
    FUZZ_CHECK(gm_file_open(&back.file, fuzz_path("written"), &err) == GM_OK);
    FUZZ_CHECK(gm_token_file_read(&back, &t_back, &err) == GM_OK);
    FUZZ_CHECK(back.grain_count == c.grain_count && back.hash == c.hash && back.width == c.width && t_back->hash == t->hash);
    FUZZ_CHECK(memcmp(back.grains, c.grains, (size_t)(c.grain_count + 1) * sizeof *c.grains) == 0);
    FUZZ_CHECK(memcmp(back.tokens, c.tokens, (size_t)count * (size_t)width) == 0);
    gm_file_close(&back.file);
    corpus_end(&back, t_back);
    corpus_end(&c, t);
    return true;
}

/* The hashes of grains, as far as they lie in the file, then the header's. */
static bool mend(uint8_t *data, size_t size) {
    uint64_t header[WORDS];
    if (size < HEADER)
        return false;
    memcpy(header, data, sizeof header);
    const uint64_t rest = size - HEADER, width = header[2];
    if (header[TOKENIZER_BYTES] > rest || header[GRAINS] > (rest - header[TOKENIZER_BYTES]) / RECORD)
        return false;
    uint8_t *grains = data + HEADER + header[TOKENIZER_BYTES], *tokens = grains + header[GRAINS] * RECORD;
    const uint64_t bytes = (uint64_t)(data + size - tokens), fits = width ? bytes / width : 0;
    for (uint64_t g = 0; g < header[GRAINS]; g++) {
        uint64_t from, to = header[4];
        memcpy(&from, grains + g * RECORD, sizeof from);
        if (g + 1 < header[GRAINS])
            memcpy(&to, grains + (g + 1) * RECORD, sizeof to);
        if (from <= to && to <= fits)
            memcpy(grains + g * RECORD + 24, &(uint64_t){gm_hash(tokens + from * width, (to - from) * width, 0)}, 8);
    }
    header[HASH] = 0;
    header[HASH] = gm_hash(data + HEADER, (size_t)(tokens - data) - HEADER, gm_hash(header, sizeof header, 0));
    memcpy(data, header, sizeof header);
    return true;
}

bool fuzz_input(const uint8_t *data, size_t size) {
    const bool good = check(data, size);
    uint64_t *copy = gm_alloc(size + 1, 1); /* as aligned as a mapped file */
    memcpy(copy, data, size);
    if (mend((uint8_t *)copy, size))
        check((const uint8_t *)copy, size);
    gm_free(copy);
    return good;
}
