/* variant_list.c -- a comma list of variants, where a spec's own keys are separated by commas too. */
#include "base.h"
#include "ghostmax_model.h"

#include <string.h>

/* The length of the first spec: up to a comma that is not followed by `key=` (a new spec has no '=' before its ':'). */
static size_t spec_length(const char *list) {
    size_t n = strcspn(list, ",");
    while (list[n] == ',') {
        const char *next = list + n + 1;
        if (next[strcspn(next, ",:=+")] != '=')
            break;
        n += 1 + strcspn(next, ",");
    }
    return n;
}

gm_status gm_variants_parse(gm_variant *out, int capacity, int *count, const char *list, gm_error *err) {
    *count = 0;
    for (const char *p = list;; p++) {
        char spec[256], canonical[256], earlier[256];
        size_t n = spec_length(p);
        if (n == 0)
            return gm_fail(err, GM_EINVAL, "the list of variants '%.100s' has an empty item; give names separated by commas", list);
        if (n >= sizeof spec)
            return gm_fail(err, GM_EINVAL, "variant '%.40s...' is too long", p);
        if (*count == capacity)
            return gm_fail(err, GM_EINVAL, "more than %d variants; give fewer", capacity);
        memcpy(spec, p, n);
        spec[n] = 0;
        GM_TRY(gm_variant_parse(&out[*count], spec, err));
        gm_variant_format(canonical, sizeof canonical, &out[*count]);
        for (int i = 0; i < *count; i++) {
            gm_variant_format(earlier, sizeof earlier, &out[i]);
            if (strcmp(earlier, canonical) == 0)
                return gm_fail(err, GM_EINVAL, "variant '%s' stands twice in the list; remove one", canonical);
        }
        ++*count;
        p += n;
        if (!*p)
            return GM_OK;
    }
}
