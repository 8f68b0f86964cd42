/* pre_tokenize.c -- cutting texts into pieces that no token crosses.
 *
 * The split patterns of GPT-2, Llama 3 and Qwen 2 are scanned by hand: one table look-up per character instead of a regular expression's
 * backtracking (test_pre_tokenize.c holds them against the expressions, matched by PCRE2). Every other pattern goes through regex.c. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    gm_match_kind kind;
    const char *pattern;
    const char *pre; /* tokenizer.ggml.pre */
} scanners[] = {
    {GM_MATCH_GPT2, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt-2"},
    {GM_MATCH_GPT2, "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "olmo"},
    {GM_MATCH_LLAMA3,
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "llama-bpe"},
    {GM_MATCH_QWEN2,
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "qwen2"},
};

/* ---- scanners ------------------------------------------------------------------------------------------------------------------ */

enum { LETTER = GM_CHAR_LETTER, NUMBER = GM_CHAR_NUMBER, SPACE = GM_CHAR_SPACE, SHAPES = LETTER | NUMBER | SPACE };

/* What a character is to these patterns: LETTER, NUMBER, SPACE, or 0; and its bytes. */
static inline unsigned shape_at(const char *text, size_t size, size_t at, size_t *n) {
    static const uint8_t ascii[128] = {
        ['\t'] = SPACE, ['\n'] = SPACE, ['\v'] = SPACE, ['\f'] = SPACE, ['\r'] = SPACE, [' '] = SPACE,  ['0'] = NUMBER, ['1'] = NUMBER,
        ['2'] = NUMBER, ['3'] = NUMBER, ['4'] = NUMBER, ['5'] = NUMBER, ['6'] = NUMBER, ['7'] = NUMBER, ['8'] = NUMBER, ['9'] = NUMBER,
        ['A'] = LETTER, ['B'] = LETTER, ['C'] = LETTER, ['D'] = LETTER, ['E'] = LETTER, ['F'] = LETTER, ['G'] = LETTER, ['H'] = LETTER,
        ['I'] = LETTER, ['J'] = LETTER, ['K'] = LETTER, ['L'] = LETTER, ['M'] = LETTER, ['N'] = LETTER, ['O'] = LETTER, ['P'] = LETTER,
        ['Q'] = LETTER, ['R'] = LETTER, ['S'] = LETTER, ['T'] = LETTER, ['U'] = LETTER, ['V'] = LETTER, ['W'] = LETTER, ['X'] = LETTER,
        ['Y'] = LETTER, ['Z'] = LETTER, ['a'] = LETTER, ['b'] = LETTER, ['c'] = LETTER, ['d'] = LETTER, ['e'] = LETTER, ['f'] = LETTER,
        ['g'] = LETTER, ['h'] = LETTER, ['i'] = LETTER, ['j'] = LETTER, ['k'] = LETTER, ['l'] = LETTER, ['m'] = LETTER, ['n'] = LETTER,
        ['o'] = LETTER, ['p'] = LETTER, ['q'] = LETTER, ['r'] = LETTER, ['s'] = LETTER, ['t'] = LETTER, ['u'] = LETTER, ['v'] = LETTER,
        ['w'] = LETTER, ['x'] = LETTER, ['y'] = LETTER, ['z'] = LETTER,
    };
    uint8_t b = (uint8_t)text[at];
    if (b < 0x80) {
        *n = 1;
        return ascii[b];
    }
    int length;
    unsigned shape = gm_char_class(gm_char_at(text + at, size - at, &length)) & SHAPES;
    *n = (size_t)length;
    return shape;
}

/* The end of the run of `shape` that goes on at `at`. */
static size_t run_of(const char *text, size_t size, size_t at, unsigned shape) {
    size_t n;
    while (at < size && shape_at(text, size, at, &n) == shape)
        at += n;
    return at;
}

/* 's 't 'm 'd 're 've 'll after `at`: its end, 0: none. Any case: U+017F is an s then too. */
static size_t contraction(const char *text, size_t size, size_t at, bool any_case) {
    size_t left = size - at - 1;
    const char *p = text + at + 1;
    if (left < 1)
        return 0;
    if (any_case && left >= 2 && memcmp(p, "\xc5\xbf", 2) == 0)
        return at + 3;
    char fold = any_case ? 0x20 : 0;
    char a = (char)(p[0] | fold), b = left >= 2 ? (char)(p[1] | fold) : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return at + 2;
    return (b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l') ? at + 3 : 0;
}

/* \s+(?!\S)|\s+: white space but for its last character where something else follows; `lines`: \s*[\r\n]+ comes first. */
static size_t spaces(const char *text, size_t size, size_t at, bool lines) {
    size_t from = at, last = at, line = 0, n;
    while (at < size && shape_at(text, size, at, &n) == SPACE) {
        last = at;
        if (text[at] == '\n' || text[at] == '\r')
            line = at + 1;
        at += n;
    }
    if (lines && line)
        return line;
    return at == size || last == from ? at : last;
}

static size_t scan_gpt2(const char *text, size_t size, size_t at) {
    size_t n, m;
    unsigned shape = shape_at(text, size, at, &n);
    if (text[at] == '\'') {
        size_t end = contraction(text, size, at, false);
        if (end)
            return end;
    }
    if (text[at] == ' ' && at + 1 < size) {
        unsigned next = shape_at(text, size, at + 1, &m);
        if (next != SPACE)
            return run_of(text, size, at + 1 + m, next);
    }
    return shape == SPACE ? spaces(text, size, at, false) : run_of(text, size, at + n, shape);
}

/* digits: how many a number may have. */
static size_t scan_llama3(const char *text, size_t size, size_t at, int digits) {
    size_t n, m = 0;
    unsigned shape = shape_at(text, size, at, &n);
    if (text[at] == '\'') {
        size_t end = contraction(text, size, at, true);
        if (end)
            return end;
    }
    if (shape == LETTER)
        return run_of(text, size, at + n, LETTER);
    bool line = text[at] == '\n' || text[at] == '\r';
    if (shape != NUMBER && !line && at + n < size && shape_at(text, size, at + n, &m) == LETTER)
        return run_of(text, size, at + n + m, LETTER);
    if (shape == NUMBER) {
        at += n;
        for (int i = 1; i < digits && at < size && shape_at(text, size, at, &m) == NUMBER; i++)
            at += m;
        return at;
    }
    size_t mark = text[at] == ' ' ? at + 1 : at;
    if (mark < size && shape_at(text, size, mark, &m) == 0) {
        at = run_of(text, size, mark + m, 0);
        while (at < size && (text[at] == '\n' || text[at] == '\r'))
            at++;
        return at;
    }
    return spaces(text, size, at, true);
}

/* \w+|[^\w\s]+ */
static bool scan_words(const char *text, size_t size, size_t at, size_t *from, size_t *to) {
    int n;
    unsigned what = 0;
    for (; at < size; at += (size_t)n) {
        what = gm_char_class(gm_char_at(text + at, size - at, &n));
        if (!(what & GM_CHAR_SPACE))
            break;
    }
    *from = at;
    for (; at < size; at += (size_t)n) {
        unsigned next = gm_char_class(gm_char_at(text + at, size - at, &n));
        if (next & GM_CHAR_SPACE || (next & GM_CHAR_WORD) != (what & GM_CHAR_WORD))
            break;
    }
    *to = at;
    return *to > *from;
}

/* The next single character of a class. */
static bool scan_class(unsigned class, const char *text, size_t size, size_t at, size_t *from, size_t *to) {
    int n;
    for (; at < size; at += (size_t)n) {
        int32_t c = gm_char_at(text + at, size - at, &n);
        bool is = gm_char_class(c) & class;
        if (class == GM_CHAR_PUNCTUATION)
            is = (is && gm_char_has_category(c)) || c == 0x166d || c == 0x111c9; /* which were punctuation once */
        if (is) {
            *from = at;
            *to = at + (size_t)n;
            return true;
        }
    }
    return false;
}

static bool scan_text(const char *what, const char *text, size_t size, size_t at, size_t *from, size_t *to) {
    size_t n = strlen(what);
    while (n && size - at >= n) {
        const char *hit = memchr(text + at, what[0], size - at - n + 1);
        if (!hit)
            break;
        at = (size_t)(hit - text);
        if (memcmp(hit, what, n) == 0) {
            *from = at;
            *to = at + n;
            return true;
        }
        at++;
    }
    return false;
}

static size_t scan_spaces_apart(const gm_cut *c, const char *text, size_t size, size_t at) {
    while (++at < size) {
        if ((text[at] == ' ' && text[at - 1] != ' ') || (c->lines_apart && text[at - 1] == '\n'))
            break;
    }
    return at;
}

/* The same where spaces are written as `mark`: up to the next mark that follows something else. */
static size_t scan_marks_apart(const char *mark, const char *text, size_t size, size_t at) {
    size_t hit, to = at, end = at;
    while (scan_text(mark, text, size, end, &hit, &to) && hit == end)
        end = to; /* marks at the beginning */
    return to > end ? hit : size;
}

bool gm_cut_match(const gm_cut *c, const char *text, size_t size, size_t at, size_t *from, size_t *to, bool *failed) {
    int found;
    if (at >= size)
        return false;
    *from = at;
    switch (c->match) {
    case GM_MATCH_NONE:
        *to = size;
        return true;
    case GM_MATCH_GPT2:
        *to = scan_gpt2(text, size, at);
        return true;
    case GM_MATCH_LLAMA3:
        *to = scan_llama3(text, size, at, 3);
        return true;
    case GM_MATCH_QWEN2:
        *to = scan_llama3(text, size, at, 1);
        return true;
    case GM_MATCH_SPACES_APART:
        *to = c->text ? scan_marks_apart(c->text, text, size, at) : scan_spaces_apart(c, text, size, at);
        return true;
    case GM_MATCH_WORDS:
        return scan_words(text, size, at, from, to);
    case GM_MATCH_SPACE:
        return scan_class(GM_CHAR_SPACE, text, size, at, from, to);
    case GM_MATCH_PUNCTUATION:
        return scan_class(GM_CHAR_PUNCTUATION, text, size, at, from, to);
    case GM_MATCH_NUMBER:
        return scan_class(GM_CHAR_NUMBER, text, size, at, from, to);
    case GM_MATCH_TEXT:
        return scan_text(c->text, text, size, at, from, to);
    case GM_MATCH_REGEX:
        while ((found = gm_regex_find(c->regex, text, size, at, from, to)) == 1 && *to == *from && *from < size) {
            int n; /* an empty match cuts nothing */
            gm_char_at(text + *from, size - *from, &n);
            at = *from + (size_t)n;
        }
        *failed = *failed || found < 0;
        return found == 1 && *to > *from;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------------------------------------- */

gm_status gm_cut_pattern(gm_cut *c, const char *pattern, gm_error *err) {
    for (int i = 0; i < GM_COUNT(scanners); i++) {
        if (strcmp(pattern, scanners[i].pattern) == 0) {
            c->match = scanners[i].kind;
            return GM_OK;
        }
    }
    c->match = GM_MATCH_REGEX;
    return gm_regex_make(&c->regex, pattern, err);
}

const char *gm_match_pattern(gm_match_kind kind) {
    for (int i = 0; i < GM_COUNT(scanners); i++) {
        if (scanners[i].kind == kind)
            return scanners[i].pattern;
    }
    return NULL;
}

const char *gm_match_pre(gm_match_kind kind) {
    for (int i = 0; i < GM_COUNT(scanners); i++) {
        if (scanners[i].kind == kind)
            return scanners[i].pre;
    }
    return NULL;
}

gm_match_kind gm_match_of_pre(const char *pre) {
    for (int i = 0; i < GM_COUNT(scanners); i++) {
        if (strcmp(pre, scanners[i].pre) == 0)
            return scanners[i].kind;
    }
    return GM_MATCH_NONE;
}

bool gm_pre_takes_whole(const char *pre) {
    return strcmp(pre, "llama-bpe") == 0;
}

bool gm_cut_at_spaces(const gm_cut *c) {
    switch (c->match) {
    case GM_MATCH_GPT2:
    case GM_MATCH_LLAMA3:
    case GM_MATCH_QWEN2:
    case GM_MATCH_WORDS:
    case GM_MATCH_SPACES_APART:
        return c->use == GM_USE_ISOLATED || c->use == GM_USE_REMOVED;
    case GM_MATCH_SPACE:
        return !c->invert && c->use != GM_USE_WITH_NEXT;
    case GM_MATCH_TEXT:
        return c->metaspace;
    default:
        return false;
    }
}

void gm_cut_free(gm_cut *c) {
    free(c->text);
    gm_regex_free(c->regex);
}
