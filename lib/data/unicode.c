/* unicode.c -- what a character is to the patterns that cut texts, and the printable characters that byte-level vocabularies write. */
#include "subwords.h"

#include <string.h>
#include <utf8proc.h>

/* White_Space of the Unicode character database: no other list (PCRE2's has U+180E) is the reference libraries'. */
static bool is_space(int32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Letters by property (Other_Alphabetic) that are symbols by category. */
static bool is_circled(int32_t c) {
    return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
           (c >= 0x1f170 && c <= 0x1f189);
}

static unsigned class_of(int32_t c) {
    if (is_space(c))
        return GM_CHAR_SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return GM_CHAR_LETTER | GM_CHAR_WORD;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
        return GM_CHAR_NUMBER | GM_CHAR_WORD;
    case UTF8PROC_CATEGORY_NO:
        return GM_CHAR_NUMBER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return GM_CHAR_MARK | GM_CHAR_WORD;
    case UTF8PROC_CATEGORY_PC:
        return GM_CHAR_PUNCTUATION | GM_CHAR_WORD;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return GM_CHAR_PUNCTUATION;
    default:
        return c == 0x200c || c == 0x200d || is_circled(c) ? GM_CHAR_WORD : 0;
    }
}

/* ---- what the reference library's tables do not know ------------------------------------------------------------------------------ */

typedef struct gm_range {
    int32_t first, last;
} gm_range;
typedef struct gm_capitals {
    int32_t first, last, to_lower;
} gm_capitals;
#include "unicode_news.inc"

static bool within(const gm_range *ranges, int count, int32_t c) {
    int low = 0, high = count;
    while (low < high) { /* the first range that does not end before c */
        int middle = (low + high) / 2;
        if (ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ranges[low].first <= c;
}

bool gm_char_has_category(int32_t c) {
    return !within(without_category, GM_COUNT(without_category), c);
}

bool gm_char_has_order(int32_t c) {
    return !within(without_order, GM_COUNT(without_order), c);
}

bool gm_char_is_mark(int32_t c) {
    return !(gm_char_class(c) & GM_CHAR_MARK) == within(other_marks, GM_COUNT(other_marks), c);
}

int32_t gm_char_lower(int32_t c) {
    for (int i = 0; i < GM_COUNT(new_capitals) && c >= new_capitals[0].first; i++) {
        if (c >= new_capitals[i].first && c <= new_capitals[i].last)
            return c + new_capitals[i].to_lower;
    }
    return utf8proc_tolower(c);
}

unsigned gm_char_class(int32_t c) {
    if (c < 0)
        return 0; /* a byte of no character */
    if ((uint32_t)c >= 0x80)
        return class_of(c);
    unsigned b = (unsigned)c;
    if ((b | 0x20) - 'a' < 26u)
        return GM_CHAR_LETTER | GM_CHAR_WORD;
    if (b - '0' < 10u)
        return GM_CHAR_NUMBER | GM_CHAR_WORD;
    if (b == ' ' || (b >= 9 && b <= 13))
        return GM_CHAR_SPACE;
    if (b == '_')
        return GM_CHAR_PUNCTUATION | GM_CHAR_WORD;
    return b > ' ' && b < 0x7f ? GM_CHAR_PUNCTUATION : 0; /* symbols too ($, +): Bert's rule */
}

int32_t gm_char_at(const char *text, size_t size, int *n) {
    uint8_t b = (uint8_t)text[0];
    *n = 1;
    if (b < 0x80)
        return b;
    utf8proc_int32_t c = 0;
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)GM_MIN(size, (size_t)4), &c);
    if (length <= 0)
        return -1;
    *n = (int)length;
    return c;
}

size_t gm_utf8_fault(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        uint64_t word;
        if (size - at >= 8 && (memcpy(&word, text + at, 8), (word & 0x8080808080808080u) == 0)) {
            at += 8;
            continue;
        }
        int n;
        if (gm_char_at(text + at, size - at, &n) < 0)
            return at;
        at += (size_t)n;
    }
    return size;
}

/* ---- bytes as characters ------------------------------------------------------------------------------------------------------
 * The visible ones of Latin-1 stand for themselves. The other 68 stand in order at U+0100: 0..0x20, 0x7f..0xa0, 0xad. */

int gm_byte_char(char *dst, uint8_t b) {
    int32_t c = b <= 0x20 ? 0x100 + b : b >= 0x7f && b <= 0xa0 ? 0x121 + (b - 0x7f) : b == 0xad ? 0x143 : b;
    return (int)utf8proc_encode_char(c, (utf8proc_uint8_t *)dst);
}

static int byte_of(int32_t c) {
    if (c >= 0x100 && c <= 0x120)
        return c - 0x100;
    if (c > 0x120 && c <= 0x142)
        return c - 0x121 + 0x7f;
    if (c == 0x143)
        return 0xad;
    return (c > 0x20 && c < 0x7f) || (c > 0xa0 && c < 0x100 && c != 0xad) ? c : -1;
}

int64_t gm_byte_text(char *bytes, const char *key, size_t size) {
    int64_t count = 0;
    int n;
    for (size_t at = 0; at < size; at += (size_t)n) {
        int b = byte_of(gm_char_at(key + at, size - at, &n));
        if (b < 0)
            return -1;
        bytes[count++] = (char)b;
    }
    return count;
}
