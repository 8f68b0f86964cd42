/* token_split.c -- cutting text into keys: bytes, code points, or words and marks; what a key is and how it is printed.
 * ASCII goes through one table; everything else through utf8proc, whose decoder is strict (no surrogates, no overlong forms). */
#include "tokenizer.h"

#include <string.h>
#include <utf8proc.h>

static const char *const kind_names[GM_TOKENS_COUNT] = {"bytes", "chars",     "words",   "llama2c",
                                                        "bpe",   "wordpiece", "unigram", "sentencepiece"};

int gm_token_kind_of(const char *name) {
    for (int i = 0; i < GM_TOKENS_COUNT; i++) {
        if (strcmp(name, kind_names[i]) == 0)
            return i;
    }
    return -1;
}

const char *gm_token_kind_name(gm_token_kind kind) {
    return kind_names[kind];
}

/* What a character is to the words splitter. */
typedef enum shape { SHAPE_SKIP, SHAPE_NEWLINE, SHAPE_WORD, SHAPE_MARK, SHAPE_INVALID } shape;

static shape shape_of(utf8proc_int32_t c) {
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return SHAPE_WORD;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
        return SHAPE_SKIP;
    default:
        return SHAPE_MARK;
    }
}

/* The character at `at` (which must be < size): its shape, code point and length in bytes. A NUL byte is invalid: text has none. */
static inline shape look(const gm_splitter *s, size_t at, utf8proc_int32_t *c, int *n) {
    unsigned b = s->text[at];
    *n = 1;
    *c = (utf8proc_int32_t)b;
    if ((b | 0x20) - 'a' < 26u || b - '0' < 10u)
        return SHAPE_WORD;
    if (b < 0x80)
        return b == '\n' ? SHAPE_NEWLINE : b == 0 ? SHAPE_INVALID : b <= 0x20 || b == 0x7f ? SHAPE_SKIP : SHAPE_MARK;
    utf8proc_ssize_t length = utf8proc_iterate(s->text + at, (utf8proc_ssize_t)GM_MIN(s->size - at, (size_t)4), c);
    if (length <= 0)
        return SHAPE_INVALID;
    *n = (int)length;
    return shape_of(*c);
}

static gm_split take(gm_splitter *s, size_t n) {
    s->key = (const char *)s->text + s->at;
    s->key_size = n;
    s->at += n;
    return GM_SPLIT_KEY;
}

/* From the first letter to the end of the word; the lower-cased word is built in the buffer. */
static gm_split take_word(gm_splitter *s) {
    size_t at = s->at, n = 0;
    while (at < s->size && n < GM_KEY_MAX - 8) {
        utf8proc_int32_t c = 0;
        int length;
        shape what = look(s, at, &c, &length);
        if (what == SHAPE_MARK && (c == '\'' || c == 0x2019) && at > s->at && at + (size_t)length < s->size && n < GM_KEY_MAX - 16) {
            utf8proc_int32_t after = 0; /* an apostrophe belongs to the word only between two of its letters */
            int after_length;
            if (look(s, at + (size_t)length, &after, &after_length) != SHAPE_WORD)
                break;
        } else if (what != SHAPE_WORD)
            break;
        if (c < 0x80)
            s->buffer[n++] = (char)(s->lower && c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        else if (s->lower)
            n += (size_t)utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)s->buffer + n);
        else
            for (int i = 0; i < length; i++)
                s->buffer[n++] = (char)s->text[at + (size_t)i];
        at += (size_t)length;
    }
    s->at = at;
    s->key = s->buffer;
    s->key_size = n;
    return GM_SPLIT_KEY;
}

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A straight quote opens when a word or mark follows it directly and nothing that it could close stands before it. */
static bool quote_opens(const gm_splitter *s) {
    static const char opening[] = {'(', '[', '{', '-'};
    bool free_before = s->at == 0 || is_space(s->text[s->at - 1]) || memchr(opening, s->text[s->at - 1], sizeof opening);
    return free_before && s->at + 1 < s->size && !is_space(s->text[s->at + 1]);
}

static gm_split next_word(gm_splitter *s) {
    while (s->at < s->size) {
        utf8proc_int32_t c = 0;
        int n;
        switch (look(s, s->at, &c, &n)) {
        case SHAPE_SKIP:
            s->at += (size_t)n;
            break;
        case SHAPE_WORD:
            return take_word(s);
        case SHAPE_MARK:
            if ((c == '"' || c == '\'') && quote_opens(s)) {
                take(s, 1);
                s->key = c == '"' ? " \"" : " '";
                s->key_size = 2;
                return GM_SPLIT_KEY;
            }
            return take(s, (size_t)n);
        case SHAPE_NEWLINE:
            return take(s, 1);
        case SHAPE_INVALID:
            return GM_SPLIT_INVALID;
        }
    }
    return GM_SPLIT_END;
}

gm_split gm_splitter_next(gm_splitter *s) {
    if (s->at >= s->size)
        return GM_SPLIT_END;
    utf8proc_int32_t c = 0;
    int n;
    switch (s->kind) {
    case GM_TOKENS_BYTES:
        return take(s, 1);
    case GM_TOKENS_CHARS:
        if (look(s, s->at, &c, &n) == SHAPE_INVALID)
            return GM_SPLIT_INVALID;
        return take(s, (size_t)n);
    case GM_TOKENS_WORDS:
    default:
        return next_word(s);
    }
}

gm_status gm_splitter_fail(const gm_splitter *s, gm_error *err) {
    uint8_t byte = s->text[s->at];
    if (byte == 0)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)s->at, "byte %zu is 0, so this is no text; use --tokens bytes for any file", s->at);
    return gm_fail_at(err, GM_EFORMAT, (int64_t)s->at, "invalid UTF-8 at byte %zu (0x%02x); use --tokens bytes, or convert it to UTF-8",
                      s->at, byte);
}

gm_token_class gm_key_class(const char *key, size_t size) {
    if (size > 1 && key[0] == ' ') { /* an opening quote */
        key++;
        size--;
    }
    bool digits = true, words = false, spaces = true;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t c = 0;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)key + at, (utf8proc_ssize_t)(size - at), &c);
        if (n <= 0)
            return GM_CLASS_OTHER; /* a byte of a longer character */
        at += (size_t)n;
        utf8proc_category_t category = utf8proc_category(c);
        digits = digits && category == UTF8PROC_CATEGORY_ND;
        words = words || shape_of(c) == SHAPE_WORD;
        spaces = spaces && (category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP ||
                            (c < 0x80 && is_space((uint8_t)c)));
        if (!words && !spaces && shape_of(c) == SHAPE_SKIP)
            return GM_CLASS_OTHER; /* control and format characters */
    }
    return spaces ? GM_CLASS_WHITESPACE : digits ? GM_CLASS_DIGIT : words ? GM_CLASS_WORD : GM_CLASS_PUNCTUATION;
}

uint8_t gm_key_glue(const char *key, size_t size) {
    if (size == 2 && key[0] == ' ')
        return GM_GLUE_RIGHT;
    utf8proc_int32_t c = 0;
    if (size == 0 || utf8proc_iterate((const utf8proc_uint8_t *)key, (utf8proc_ssize_t)size, &c) != (utf8proc_ssize_t)size)
        return 0; /* more than one character: a word */
    if (c == '\n')
        return GM_GLUE_LEFT | GM_GLUE_RIGHT;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_SC:
        return GM_GLUE_RIGHT;
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PF:
        return GM_GLUE_LEFT;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PC:
        return GM_GLUE_LEFT | GM_GLUE_RIGHT;
    case UTF8PROC_CATEGORY_PO:
        return c == '/' || c == '\\' || c == '@' ? GM_GLUE_LEFT | GM_GLUE_RIGHT
               : c == '&' || c == '*'            ? 0
               : c == '#'                        ? GM_GLUE_RIGHT
                                                 : GM_GLUE_LEFT;
    default:
        return 0;
    }
}
