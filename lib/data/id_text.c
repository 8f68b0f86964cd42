/* id_text.c -- token ids as a text: decimal numbers with white space between them, for models whose tokenizer is not at hand. */
#include "data.h"

#include <stdlib.h>

static bool is_white(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

bool gm_id_text_is(const uint8_t *text, size_t size) {
    enum { LOOKED_AT = 4096 };
    bool digits = false;
    for (size_t i = 0; i < GM_MIN(size, (size_t)LOOKED_AT); i++) {
        if (!is_digit(text[i]) && !is_white(text[i]))
            return false;
        digits |= is_digit(text[i]);
    }
    return digits;
}

gm_status gm_id_text_read(gm_corpus *c, const uint8_t *text, size_t size, gm_error *err) {
    int32_t *ids = malloc((size / 2 + 1) * sizeof *ids); /* a digit and a separator each, at least */
    if (!ids)
        return gm_fail_memory(err, (size / 2 + 1) * sizeof *ids);
    c->owned = ids;
    c->tokens = ids;
    c->width = sizeof *ids;
    uint64_t count = 0;
    int64_t grain = 0; /* the next one to begin; a number belongs to the grain that it begins in */
    for (size_t at = 0; at < size;) {
        if (is_white(text[at])) {
            at++;
            continue;
        }
        while (grain < c->grain_count && c->grains[grain].byte <= at)
            c->grains[grain++].token = count;
        int64_t id = 0;
        size_t from = at;
        while (at < size && is_digit(text[at]) && id <= INT32_MAX)
            id = 10 * id + (text[at++] - '0');
        if (id > INT32_MAX || (at < size && !is_white(text[at])) || at == from)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)from,
                              "no token id at byte %zu; ids are numbers up to %d with white space between them", from, INT32_MAX);
        ids[count++] = (int32_t)id;
    }
    while (grain <= c->grain_count)
        c->grains[grain++].token = count;
    return GM_OK;
}
