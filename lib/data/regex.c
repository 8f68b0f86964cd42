/* regex.c -- regular expressions of tokenizer.json through PCRE2, compiled once, matched from any thread.
 *
 * The reference library's engine is Oniguruma. Where the two differ in the patterns that tokenizers use: \s is White_Space (PCRE2's has
 * U+180E besides) and \w has marks and circled letters, but of numbers only digits and letters, in brackets (PCRE2's has all numbers and
 * no marks), so both are written out; \h is a hexadecimal digit there and brackets like [:alpha:] hold other characters, so both are
 * refused. The rest means the same with PCRE2_UCP. */
#include "subwords.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

typedef struct gm_regex {
    pcre2_code *code;
} gm_regex;

static const char white_space[] = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

static const char word[] =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
static const char word_alone[] = "\\xb2\\xb3\\xb9\\xbc-\\xbe"; /* and these outside brackets: superscripts and fractions */

/* \s and \w are written out, and their opposites outside brackets; everything else as it is. Returns what is not supported; NULL: nothing.
 */
static const char *translate(gm_text *out, const char *pattern) {
    bool inside = false;
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            const char *set = *p == 's' || *p == 'S' ? white_space : *p == 'w' || *p == 'W' ? word : NULL;
            const bool opposite = *p == 'S' || *p == 'W';
            if (*p == 'h' || *p == 'H')
                return "\\h";
            if (opposite && inside)
                return *p == 'S' ? "\\S in brackets" : "\\W in brackets";
            if (set)
                gm_text_add(out, inside ? "%s%s" : opposite ? "[^%s%s]" : "[%s%s]", set == word && !inside ? word_alone : "", set);
            else
                gm_text_bytes(out, p - 1, 2);
            continue;
        }
        if (inside && *p == '[' && p[1] == ':')
            return "[: in brackets";
        inside = *p == '[' ? true : *p == ']' ? false : inside;
        gm_text_bytes(out, p, 1);
    }
    return NULL;
}

gm_status gm_regex_make(gm_regex **out, const char *pattern, gm_error *err) {
    gm_text own = {0};
    *out = NULL;
    const char *unknown = translate(&own, pattern);
    if (unknown) {
        gm_text_free(&own);
        return gm_fail(err, GM_EUNSUPPORTED, "its pattern '%.80s' has %s, which is not supported", pattern, unknown);
    }
    int code = 0;
    PCRE2_SIZE at = 0;
    gm_regex *r = own.failed ? NULL : gm_alloc(1, sizeof *r);
    if (r)
        r->code = pcre2_compile((PCRE2_SPTR)own.data, own.size, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    gm_text_free(&own);
    if (!r)
        return gm_fail_memory(err, sizeof *r);
    if (!r->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        gm_free(r);
        return gm_fail(err, GM_EFORMAT, "its pattern '%.80s' is no regular expression: %s", pattern, (const char *)why);
    }
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* where there is no JIT, matching is only slower */
    *out = r;
    return GM_OK;
}

int gm_regex_find(const gm_regex *r, const char *text, size_t size, size_t at, size_t *from, size_t *to) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match)
        return -1;
    /* The text was checked when encoding began. */
    int n = pcre2_match(r->code, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, match, NULL);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
    if (n >= 0) {
        *from = span[0];
        *to = span[1];
    }
    pcre2_match_data_free(match);
    return n >= 0 ? 1 : n == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

void gm_regex_free(gm_regex *r) {
    if (r)
        pcre2_code_free(r->code);
    gm_free(r);
}
