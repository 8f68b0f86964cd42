/* test_pre_tokenize.c -- the hand-written scanners cut every text where their regular expressions do, matched by PCRE2; how matches and
 * what lies between them become pieces, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "subwords.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static void expect_same_cuts(const gm_cut *scanner, const gm_cut *regex, const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        size_t from, to, from2, to2;
        bool failed = false;
        assert_true(gm_cut_match(scanner, text, size, at, &from, &to, &failed));
        assert_true(gm_cut_match(regex, text, size, at, &from2, &to2, &failed));
        assert_false(failed);
        if (from != from2 || to != to2)
            fail_msg("pattern %d at %zu: %zu..%zu, the expression %zu..%zu in '%.*s'", scanner->match, at, from, to, from2, to2, (int)size,
                     text);
        at = to;
    }
}

/* Appends a character that PCRE2's Unicode and utf8proc's know: one of them may be a version older, and either one. */
static void put_known(gm_text *text, int32_t c) {
    static gm_cut unassigned = {.match = GM_MATCH_REGEX};
    char bytes[4];
    size_t n = (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)bytes), from, to;
    if (!unassigned.regex)
        assert_int_equal(gm_regex_make(&unassigned.regex, "\\p{Cn}", NULL), GM_OK);
    if (utf8proc_category(c) != UTF8PROC_CATEGORY_CN && !gm_cut_match(&unassigned, bytes, n, 0, &from, &to, &(bool){false}))
        gm_text_bytes(text, bytes, n);
}

static void put_random(gm_text *text, uint64_t key) {
    static const char *const parts[] = {" ",      " ",      "  ",     "\n",     "\r\n",    "\t",         "'",        "'s",
                                        "'S",     "'ll",    "'LL",    "'rE",    "'\u017f", "a",          "bc",       "Z",
                                        "9",      "12",     "3456",   ".",      "!?",      "\u00e9",     "\u0301",   "\u00a0",
                                        "\u2028", "\u3000", "\u0665", "\u00bd", "\u4e00",  "\U0001F600", "\u200d",   "_",
                                        "\u2167", "\u01c5", "\u02b0", "\u180e", "\x7f",    "\x1c",       "\xc2\x85", "\u1680"};
    int64_t count = 1 + gm_rng_below(key, 0, 24);
    for (int64_t i = 0; i < count; i++) {
        const char *part = parts[gm_rng_below(key, 1 + 2 * (uint64_t)i, GM_COUNT(parts))];
        gm_text_bytes(text, part, strlen(part));
        if (gm_rng_below(key, 2 + 2 * (uint64_t)i, 12) == 0) { /* any character */
            int32_t c = (int32_t)gm_rng_below(key, 1000 + (uint64_t)i, 0x1ffff);
            if (c < 0xd800 || c >= 0xe000)
                put_known(text, c);
        }
    }
}

static void scanners_are_their_patterns(void **state) {
    (void)state;
    static const gm_match_kind kinds[] = {GM_MATCH_GPT2, GM_MATCH_LLAMA3, GM_MATCH_QWEN2};
    for (int k = 0; k < GM_COUNT(kinds); k++) {
        gm_cut scanner = {.match = kinds[k]}, regex = {.match = GM_MATCH_REGEX}, known = {0};
        assert_int_equal(gm_regex_make(&regex.regex, gm_match_pattern(kinds[k]), NULL), GM_OK);
        assert_int_equal(gm_cut_pattern(&known, gm_match_pattern(kinds[k]), NULL), GM_OK);
        assert_int_equal(known.match, kinds[k]);
        assert_int_equal(gm_match_of_pre(gm_match_pre(kinds[k])), kinds[k]);
        gm_text text = {0};
        for (uint64_t seed = 0; seed < 20000; seed++) {
            text.size = 0;
            put_random(&text, gm_rng_key(seed, "pre_tokenize"));
            expect_same_cuts(&scanner, &regex, text.data, text.size);
        }
        for (int32_t c = 1; c < 0x30000; c++) { /* every character beside letters, digits, spaces and marks */
            static const char *const between[] = {"a", "b ", "1", " ", "."};
            if (c >= 0xd800 && c < 0xe000)
                continue;
            text.size = 0;
            for (int i = 0; i < GM_COUNT(between); i++) {
                gm_text_add(&text, "%s", between[i]);
                put_known(&text, c);
            }
            expect_same_cuts(&scanner, &regex, text.data, text.size);
        }
        gm_text_free(&text);
        gm_cut_free(&regex);
    }
}

/* A tokenizer whose tokens are the bytes: the pieces are seen through a cut before the ids. So cuts are looked at with a word list. */
static void expect_pieces(const char *pre_tokenizer, const char *text, const char *expected) {
    gm_text json = {0}, got = {0};
    gm_tokenizer *t;
    gm_error err = {0};
    /* Every piece that is no key is <unk>; every piece that is one is itself: all pieces of these texts are keys. */
    gm_text_add(
        &json,
        "{\"added_tokens\": [], \"normalizer\": null, \"pre_tokenizer\": %s, \"decoder\": null, \"model\": {\"type\": \"WordPiece\", "
        "\"unk_token\": \"?\", \"vocab\": {\"?\": 0",
        pre_tokenizer);
    char copy[256];
    int id = 1;
    snprintf(copy, sizeof copy, "%s", expected);
    for (char *key = strtok(copy, "|"); key; key = strtok(NULL, "|")) {
        gm_text probe = {0};
        gm_text_add(&probe, "\"%s\":", key);
        if (!strstr(json.data, probe.data))
            gm_text_add(&json, ", \"%s\": %d", key, id++);
        gm_text_free(&probe);
    }
    gm_text_add(&json, "}}}");
    if (gm_tokenizer_parse(&t, json.data, json.size, &err) != GM_OK)
        fail_msg("%s", err.msg);
    gm_ids ids = {0};
    assert_int_equal(gm_tokenizer_append(t, text, strlen(text), true, &ids, &err), GM_OK);
    for (int64_t i = 0; i < ids.count; i++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, ids.data[i], &size);
        gm_text_add(&got, "%s%.*s", i ? "|" : "", (int)size, key);
    }
    assert_string_equal(got.data ? got.data : "", expected);
    free(ids.data);
    gm_text_free(&got);
    gm_text_free(&json);
    gm_tokenizer_free(t);
}

#define SPLIT(pattern, behavior, invert) \
    "{\"type\": \"Split\", \"pattern\": {" pattern "}, \"behavior\": \"" behavior "\", \"invert\": " invert "}"
static void pieces_by_hand(void **state) {
    (void)state;
    const char *text = "the-final--countdown";
    /* the five behaviors as the reference's documentation has them */
    expect_pieces(SPLIT("\"String\": \"-\"", "Removed", "false"), text, "the|final|countdown");
    expect_pieces(SPLIT("\"String\": \"-\"", "Isolated", "false"), text, "the|-|final|-|-|countdown");
    expect_pieces(SPLIT("\"String\": \"-\"", "MergedWithPrevious", "false"), text, "the-|final-|-|countdown");
    expect_pieces(SPLIT("\"String\": \"-\"", "MergedWithNext", "false"), text, "the|-final|-|-countdown");
    expect_pieces(SPLIT("\"String\": \"-\"", "Contiguous", "false"), text, "the|-|final|--|countdown");
    expect_pieces(SPLIT("\"Regex\": \"[a-z]+\"", "Removed", "true"), text, "the|final|countdown");
    expect_pieces(SPLIT("\"Regex\": \"\\\\s*\"", "Removed", "false"), "a  b", "a|b"); /* empty matches cut nothing */
    /* \w as Oniguruma has it: marks, circled letters, and of numbers digits and letters; superscripts only outside brackets */
    expect_pieces(SPLIT("\"Regex\": \"\\\\w+\"", "Isolated", "false"), "e\u0301\u00b22\u2460-x\u203f\u2167\u24d0",
                  "e\u0301\u00b22|\u2460-|x\u203f\u2167\u24d0");
    expect_pieces(SPLIT("\"Regex\": \"[^\\\\w-]+|\\\\W\"", "Isolated", "false"), "e\u0301\u00b22-x", "e\u0301|\u00b2|2|-|x");
    expect_pieces("{\"type\": \"Whitespace\"}", "Hey, it's x_1!", "Hey|,|it|'|s|x_1|!");
    expect_pieces("{\"type\": \"WhitespaceSplit\"}", " Hey,  you ", "Hey,|you");
    expect_pieces("{\"type\": \"Digits\", \"individual_digits\": true}", "a12b", "a|1|2|b");
    expect_pieces("{\"type\": \"Digits\", \"individual_digits\": false}", "a12b", "a|12|b");
    expect_pieces("{\"type\": \"BertPreTokenizer\"}", "Hey you$!", "Hey|you|$|!");
    expect_pieces("{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"x\"}", "axbxxc", "a|b|c");
    expect_pieces("{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"always\", \"split\": true}", "a  b", "_a|_|_b");
    expect_pieces("{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"never\", \"split\": false}", "a b", "a_b");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(scanners_are_their_patterns), cmocka_unit_test(pieces_by_hand)};
    return cmocka_run_group_tests_name("pre-tokenizers", tests, NULL, NULL);
}
