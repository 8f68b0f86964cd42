/* rewrite.c -- what happens to a text before it is cut: Unicode forms, case, accents, Bert's cleaning, SentencePiece's rules. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static void put_char(gm_text *out, int32_t c) {
    char bytes[4];
    gm_text_bytes(out, bytes, (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)bytes));
}

/* ---- Unicode forms -------------------------------------------------------------------------------------------------------------
 * ASCII is in every form, and nothing composes with an ASCII character that follows it: only runs of other characters are transformed,
 * each with the character before it, with which its first may compose. */

static int form_options(gm_rewrite_kind kind) {
    switch (kind) {
    case GM_REWRITE_NFC:
        return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case GM_REWRITE_NFD:
        return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case GM_REWRITE_NFKC:
        return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    default:
        return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
    }
}

static void transform(gm_rewrite_kind kind, const char *text, size_t size, gm_text *out) {
    utf8proc_uint8_t *form = NULL;
    utf8proc_ssize_t n =
        size == 0 ? 0 : utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &form, (utf8proc_option_t)form_options(kind));
    if (n < 0)
        out->failed = true; /* the text is UTF-8: only memory can have been missing */
    else
        gm_text_bytes(out, form, (size_t)n);
    free(form);
}

static void apply_form(gm_rewrite_kind kind, const char *text, size_t size, gm_text *out) {
    size_t at = 0;
    while (at < size) {
        size_t run = at;
        while (run < size && (uint8_t)text[run] < 0x80)
            run++;
        size_t first = run > at && run < size ? run - 1 : run;
        gm_text_bytes(out, text + at, first - at);
        at = run;
        int length = 0;
        int32_t c = 0;
        while (at < size && (c = gm_char_at(text + at, size - at, &length)) >= 0x80 && gm_char_has_order(c))
            at += (size_t)length;
        bool new = at < size &&c >= 0x80;
        transform(kind, text + first, at - first, out);
        if (new) {
            gm_text_bytes(out, text + at, (size_t)length);
            at += (size_t)length;
        }
    }
}

/* ---- character by character ------------------------------------------------------------------------------------------------------ */

static bool is_chinese(int32_t c) {
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_control(int32_t c) {
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
        return c != '\t' && c != '\n' && c != '\r' && gm_char_has_category(c);
    default:
        return c == 0xfffd;
    }
}

static void apply_to_character(gm_rewrite_kind kind, int32_t c, gm_text *out) {
    switch (kind) {
    case GM_REWRITE_LOWER:
        put_char(out, c == 0x130 ? 'i' : gm_char_lower(c));
        if (c == 0x130) /* the one character whose lower case is two */
            put_char(out, 0x307);
        break;
    case GM_REWRITE_DROP_MARKS:
        if (!gm_char_is_mark(c))
            put_char(out, c);
        break;
    case GM_REWRITE_DROP_NONSPACING:
        if (c != 0x1734 /* which was one once */ && (utf8proc_category(c) != UTF8PROC_CATEGORY_MN || !gm_char_has_category(c)))
            put_char(out, c);
        break;
    case GM_REWRITE_CLEAN:
        if (!is_control(c))
            put_char(out, gm_char_class(c) & GM_CHAR_SPACE ? ' ' : c);
        break;
    default: /* GM_REWRITE_SPACE_CJK */
        if (is_chinese(c))
            gm_text_bytes(out, " ", 1);
        put_char(out, c);
        if (is_chinese(c))
            gm_text_bytes(out, " ", 1);
    }
}

/* ASCII in one pass: what these steps do to it. */
static char ascii_of(gm_rewrite_kind kind, char c) {
    if (kind == GM_REWRITE_LOWER && c >= 'A' && c <= 'Z')
        return (char)(c | 0x20);
    if (kind == GM_REWRITE_CLEAN && (uint8_t)c - 9u < 5u && c != '\v' && c != '\f')
        return ' ';
    return c;
}

static bool ascii_stays(gm_rewrite_kind kind, char c) {
    return (uint8_t)c < 0x80 && (kind != GM_REWRITE_CLEAN || ((uint8_t)c >= 0x20 && c != 0x7f) || c == '\t' || c == '\n' || c == '\r');
}

static void apply_to_characters(gm_rewrite_kind kind, const char *text, size_t size, gm_text *out) {
    for (size_t at = 0; at < size;) {
        char run[256];
        size_t n = 0;
        while (at < size && n < sizeof run && ascii_stays(kind, text[at]))
            run[n++] = ascii_of(kind, text[at++]);
        gm_text_bytes(out, run, n);
        if (n == sizeof run || at == size)
            continue;
        int length;
        int32_t c = gm_char_at(text + at, size - at, &length);
        apply_to_character(kind, c, out);
        at += (size_t)length;
    }
}

static void replace(const gm_rewrite *r, const char *text, size_t size, gm_text *out) {
    size_t n = strlen(r->text), m = strlen(r->with);
    for (size_t at = 0; at < size;) {
        const char *hit = memchr(text + at, r->text[0], size - at);
        size_t from = hit ? (size_t)(hit - text) : size;
        gm_text_bytes(out, text + at, from - at);
        at = from;
        if (!hit)
            break;
        bool match = size - at >= n && memcmp(text + at, r->text, n) == 0;
        gm_text_bytes(out, match ? r->with : text + at, match ? m : 1);
        at += match ? n : 1;
    }
}

static void strip(const gm_rewrite *r, const char *text, size_t size, gm_text *out) {
    size_t from = 0, to = 0;
    int n;
    for (size_t at = 0; at < size; at += (size_t)n) {
        bool space = gm_char_class(gm_char_at(text + at, size - at, &n)) & GM_CHAR_SPACE;
        if (space && from == at)
            from = at + (size_t)n;
        if (!space)
            to = at + (size_t)n;
    }
    from = r->left ? from : 0;
    to = r->right ? to : size;
    if (to > from)
        gm_text_bytes(out, text + from, to - from);
}

/* ---- SentencePiece ------------------------------------------------------------------------------------------------------------------
 * Its map: u32 size of a double array of prefixes; the array's units; replacements, each ended by a zero byte. In a unit, bits 0-7 and 31
 * are the byte that leads to it (bit 31: it is a leaf and the rest its value), bit 8 says that a leaf follows, bits 10-30 are the offset of
 * its children, shifted by 8 more when bit 9 is set. */

static uint32_t unit_at(const gm_charsmap *map, size_t i) {
    const uint8_t *p = map->blob + 4 + 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static size_t children_of(uint32_t unit) {
    return (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
}

/* The replacement of the longest prefix of text that has one, NULL: none. Any blob is safe: places are checked as they are read. */
static const char *look_up(const gm_charsmap *map, const char *text, size_t size, size_t *consumed) {
    const char *found = NULL;
    if (!map->units)
        return NULL;
    size_t at = children_of(unit_at(map, 0));
    for (size_t i = 0; i < size; i++) {
        at ^= (uint8_t)text[i];
        if (at >= map->units)
            break;
        uint32_t unit = unit_at(map, at);
        if ((unit & 0x800000ffu) != (uint8_t)text[i])
            break;
        at ^= children_of(unit);
        if (unit & 0x100 && at < map->units) {
            size_t value = 4 + 4 * map->units + (unit_at(map, at) & 0x7fffffffu);
            if (value < map->size) {
                found = (const char *)map->blob + value;
                *consumed = i + 1;
            }
        }
    }
    return found;
}

enum { REPLACEMENT_MAX = 256 };

gm_status gm_charsmap_make(gm_charsmap *map, const void *bytes, size_t size, gm_error *err) {
    const uint8_t *p = bytes;
    *map = (gm_charsmap){0};
    if (size == 0)
        return GM_OK;
    uint32_t units = 0;
    if (size >= 4)
        units = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    if (size < 8 || units % 4 || units == 0 || units > size - 4)
        return gm_fail(err, GM_EFORMAT, "its precompiled_charsmap is damaged: %zu bytes, of which its first four claim %u", size, units);
    if (p[size - 1] != 0)
        return gm_fail(err, GM_EFORMAT, "its precompiled_charsmap is damaged: the last replacement does not end");
    for (size_t at = 4 + units; at < size; at += strlen((const char *)p + at) + 1) { /* memory for a text is bounded by its size */
        if (strlen((const char *)p + at) > REPLACEMENT_MAX)
            return gm_fail(err, GM_EFORMAT, "its precompiled_charsmap is damaged: a replacement of more than %d bytes", REPLACEMENT_MAX);
    }
    map->blob = gm_alloc(size, 1);
    if (!map->blob)
        return gm_fail_memory(err, size);
    memcpy(map->blob, bytes, size);
    map->size = size;
    map->units = units / 4;
    return GM_OK;
}

/* What stands for the text's next few bytes. */
static const char *next_part(const gm_rewrite *r, const char *text, size_t size, size_t *n, size_t *consumed) {
    if (r->verbatim && gm_trie_longest(r->verbatim, text, size, consumed) >= 0) {
        *n = *consumed;
        return text;
    }
    const char *part = look_up(&r->map, text, size, consumed);
    if (part) {
        *n = strlen(part);
        return part;
    }
    int length;
    gm_char_at(text, size, &length);
    *n = *consumed = (size_t)length;
    return text;
}

/* A part with U+2581, which is what files write for a space, as a space. */
static void put_spaced(gm_text *out, const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        const char *hit = memchr(text + at, 0xe2, size - at);
        size_t to = hit ? (size_t)(hit - text) : size;
        gm_text_bytes(out, text + at, to - at);
        at = to;
        if (!hit)
            break;
        bool space = size - at >= 3 && memcmp(text + at, "\xe2\x96\x81", 3) == 0;
        gm_text_bytes(out, space ? " " : text + at, 1);
        at += space ? 3 : 1;
    }
}

static void sentencepiece(const gm_rewrite *r, const char *text, size_t size, bool begins, gm_text *out) {
    size_t at = 0, n, consumed, start = out->size;
    const char *part;
    while (begins && r->remove_spaces && at < size) {
        part = next_part(r, text + at, size - at, &n, &consumed);
        if (n != 1 || *part != ' ')
            break;
        at += consumed;
    }
    if (at == size)
        return;
    if (begins && r->dummy_prefix)
        gm_text_bytes(out, " ", 1);
    if (!r->map.units && !r->remove_spaces) {
        put_spaced(out, text + at, size - at);
        at = size;
    }
    for (bool after_space = begins && r->remove_spaces; at < size; at += consumed) {
        part = next_part(r, text + at, size - at, &n, &consumed);
        while (after_space && n > 0 && *part == ' ') {
            part++;
            n--;
        }
        if (n == 0)
            continue;
        put_spaced(out, part, n);
        after_space = r->remove_spaces && part[n - 1] == ' ';
    }
    while (r->remove_spaces && out->size > start && out->data[out->size - 1] == ' ')
        out->size--;
}

/* ------------------------------------------------------------------------------------------------------------------------------------- */

void gm_rewrite_apply(const gm_rewrite *r, const char *text, size_t size, bool begins, gm_text *out) {
    switch (r->kind) {
    case GM_REWRITE_NFC:
    case GM_REWRITE_NFD:
    case GM_REWRITE_NFKC:
    case GM_REWRITE_NFKD:
        apply_form(r->kind, text, size, out);
        break;
    case GM_REWRITE_LOWER:
    case GM_REWRITE_DROP_MARKS:
    case GM_REWRITE_DROP_NONSPACING:
    case GM_REWRITE_CLEAN:
    case GM_REWRITE_SPACE_CJK:
        apply_to_characters(r->kind, text, size, out);
        break;
    case GM_REWRITE_PREPEND:
        if (size && begins)
            gm_text_bytes(out, r->text, strlen(r->text));
        gm_text_bytes(out, text, size);
        break;
    case GM_REWRITE_REPLACE:
        replace(r, text, size, out);
        break;
    case GM_REWRITE_STRIP:
        strip(r, text, size, out);
        break;
    case GM_REWRITE_SENTENCEPIECE:
        sentencepiece(r, text, size, begins, out);
        break;
    }
}

bool gm_rewrite_is_local(const gm_rewrite *r) {
    return r->kind != GM_REWRITE_STRIP && !(r->kind == GM_REWRITE_REPLACE && strlen(r->text) > 1);
}

void gm_rewrite_free(gm_rewrite *r) {
    free(r->text);
    free(r->with);
    gm_free(r->map.blob);
}
