/* fuzz_variant.c -- the grammar of variants: what is accepted has a canonical text, which is accepted and gives the same variant; so does
 * the grammar of lists, of which each part is one. */
#include "fuzz.h"
#include "ghostmax_model.h"

static void check_same(const gm_variant *a, const gm_variant *b) {
    FUZZ_CHECK(a->sink == b->sink && a->n == b->n && a->clipped == b->clipped && a->gamma == b->gamma && a->zeta == b->zeta);
    FUZZ_CHECK(a->alpha == b->alpha && a->gate == b->gate && a->gate_hidden == b->gate_hidden && a->gate_pi == b->gate_pi);
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_variant v, back;
    gm_error err = {.offset = -1};
    char spec[512], text[512], again[512];
    size = GM_MIN(size, sizeof spec - 1);
    memcpy(spec, data, size);
    spec[size] = 0;
    gm_status status = gm_variant_parse(&v, spec, &err);
    if (status != GM_OK) {
        fuzz_refusal(status, &err, size);
        return false;
    }
    int n = gm_variant_format(text, sizeof text, &v);
    FUZZ_CHECK(n > 0 && n < (int)sizeof text);
    FUZZ_CHECK(gm_variant_parse(&back, text, &err) == GM_OK);
    check_same(&v, &back);
    FUZZ_CHECK(gm_variant_format(again, sizeof again, &back) == n && strcmp(text, again) == 0);
    return true;
}
