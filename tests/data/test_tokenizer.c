/* test_tokenizer.c -- gm_tokenizer_*: hand-made texts with hand-written answers; files; what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base.h"
#include "ghostmax_model.h"
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static gm_tokenizer *build(const char *kind, const char *text, int64_t vocab, bool lower) {
    gm_tokenizer *t;
    gm_error err = {0};
    if (gm_tokenizer_build(&t, kind, text, strlen(text), vocab, lower, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return t;
}

/* The pieces of `text`'s tokens, put together as generation would. */
static char *print_tokens(const gm_tokenizer *t, const char *text, size_t size, const char *separator) {
    int32_t *ids;
    int64_t count;
    gm_error err = {0};
    if (gm_tokenizer_encode(t, text, size, &ids, &count, &err) != GM_OK)
        fail_msg("%s", err.msg);
    gm_text out = {0};
    gm_text_bytes(&out, "", 0);
    int32_t previous = -1;
    for (int64_t i = 0; i < count; i++) {
        size_t n;
        const char *piece = gm_tokenizer_piece(t, previous, ids[i], &n);
        if (i)
            gm_text_bytes(&out, separator, strlen(separator));
        gm_text_bytes(&out, piece, n);
        previous = ids[i];
    }
    gm_tokens_free(ids);
    return out.data;
}

static void expect_print(const gm_tokenizer *t, const char *text, const char *separator, const char *expected) {
    char *printed = print_tokens(t, text, strlen(text), separator);
    assert_string_equal(printed, expected);
    free(printed);
}

static void bytes_round_trip(void **state) {
    (void)state;
    gm_tokenizer *t = build("bytes", "", 0, false);
    assert_int_equal(gm_tokenizer_vocab(t), 257);
    assert_int_equal(gm_tokenizer_bos(t), 256);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)(255 - i);
    int32_t *ids;
    int64_t count;
    assert_int_equal(gm_tokenizer_encode(t, all, sizeof all, &ids, &count, NULL), GM_OK);
    assert_int_equal(count, 256);
    for (int i = 0; i < 256; i++) {
        size_t n;
        assert_int_equal(ids[i], 255 - i);
        const char *piece = gm_tokenizer_piece(t, i ? ids[i - 1] : -1, ids[i], &n);
        assert_int_equal(n, 1);
        assert_int_equal((uint8_t)piece[0], 255 - i);
    }
    size_t n;
    gm_tokenizer_piece(t, -1, 256, &n);
    assert_int_equal(n, 0);
    assert_int_equal(gm_tokenizer_class(t, 'q'), GM_CLASS_WORD);
    assert_int_equal(gm_tokenizer_class(t, '7'), GM_CLASS_DIGIT);
    assert_int_equal(gm_tokenizer_class(t, '\t'), GM_CLASS_WHITESPACE);
    assert_int_equal(gm_tokenizer_class(t, '?'), GM_CLASS_PUNCTUATION);
    assert_int_equal(gm_tokenizer_class(t, 0xe9), GM_CLASS_OTHER);
    assert_int_equal(gm_tokenizer_class(t, 1), GM_CLASS_OTHER);
    assert_int_equal(gm_tokenizer_class(t, 256), GM_CLASS_BOS);
    gm_tokens_free(ids);
    gm_tokenizer_free(t);
}

static void chars_round_trip(void **state) {
    (void)state;
    const char *text = "Zoë said:\r\n“naïve — 日本 x² \U0001F600”\n\n";
    gm_tokenizer *t = build("chars", text, 0, true); /* lower is for words only */
    expect_print(t, text, "", text);
    /* distinct: Z o ë space s a i d : \r \n “ n ï v e — 日 本 x ² 😀 ” = 23, and two of our own */
    assert_int_equal(gm_tokenizer_vocab(t), 25);
    expect_print(t, "oQa", "", "o<unk>a");
    /* in code point order, whatever comes first in the text */
    gm_tokenizer *u = build("chars", "cabbage", 0, false);
    int32_t *ids;
    int64_t count;
    assert_int_equal(gm_tokenizer_encode(u, "abceg", 5, &ids, &count, NULL), GM_OK);
    assert_int_equal(count, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ids[i], 2 + i);
    gm_tokens_free(ids);
    gm_tokenizer_free(u);
    gm_tokenizer_free(t);
}

static void words_are_cut(void **state) {
    (void)state;
    const char *text = "Don't stop-- the 'Old' man’s 3 o'clock (tea) cost $5.20, \"he said.\"\r\nNaïve ÉCOLE!\n\nEnd'";
    gm_tokenizer *t = build("words", text, 0, true);
    /* each printed piece, spaces included, between bars */
    expect_print(
        t, text, "|",
        "don't| stop|-|-|the| '|old|'| man’s| 3| o'clock| (|tea|)| cost| $|5|.| 20|,| \"|he| said|.|\"|\n|naïve| école|!|\n|\n|end|'");
    expect_print(t, "(\"tea\") cost", "", "(\"tea\") cost");
    expect_print(t, "unknown stop unknown.", "", "<unk> stop <unk>.");
    gm_tokenizer_free(t);
    t = build("words", "Tea tea TEA", 0, false);
    assert_int_equal(gm_tokenizer_vocab(t), 5);
    expect_print(t, "Tea tea TEA", "", "Tea tea TEA");
    gm_tokenizer_free(t);
    /* a byte order mark and other invisible characters separate and vanish */
    t = build("words", "\xef\xbb\xbfone\xc2\xa0two\xe2\x80\x8bthree", 0, true);
    expect_print(t, "\xef\xbb\xbfone\xc2\xa0two\xe2\x80\x8bthree", "|", "one| two| three");
    gm_tokenizer_free(t);
}

static int32_t id_of(const gm_tokenizer *t, const char *text) {
    int32_t *ids;
    int64_t count;
    assert_int_equal(gm_tokenizer_encode(t, text, strlen(text), &ids, &count, NULL), GM_OK);
    assert_int_equal(count, 1);
    int32_t id = ids[0];
    gm_tokens_free(ids);
    return id;
}

static void words_are_ranked(void **state) {
    (void)state;
    /* counts: b 3, then c 2 and a 2 (c first), then d 1, e 1 */
    const char *text = "c b a b c a b d e";
    gm_tokenizer *t = build("words", text, 0, true);
    assert_int_equal(gm_tokenizer_vocab(t), 7);
    assert_int_equal(id_of(t, "b"), 2);
    assert_int_equal(id_of(t, "c"), 3);
    assert_int_equal(id_of(t, "a"), 4);
    assert_int_equal(id_of(t, "d"), 5);
    assert_int_equal(id_of(t, "e"), 6);
    gm_tokenizer_free(t);
    t = build("words", text, 6, true);
    assert_int_equal(gm_tokenizer_vocab(t), 6);
    assert_int_equal(id_of(t, "d"), 5);
    assert_int_equal(id_of(t, "e"), 0);
    gm_tokenizer_free(t);
}

static void words_have_classes(void **state) {
    (void)state;
    gm_tokenizer *t = build("words", "tea 1904 3rd , — \n école ٣", 0, true);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "tea")), GM_CLASS_WORD);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "1904")), GM_CLASS_DIGIT);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "3rd")), GM_CLASS_WORD);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, ",")), GM_CLASS_PUNCTUATION);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "—")), GM_CLASS_PUNCTUATION);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "\n")), GM_CLASS_WHITESPACE);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "école")), GM_CLASS_WORD);
    assert_int_equal(gm_tokenizer_class(t, id_of(t, "٣")), GM_CLASS_DIGIT);
    assert_int_equal(gm_tokenizer_class(t, gm_tokenizer_bos(t)), GM_CLASS_BOS);
    assert_int_equal(gm_tokenizer_class(t, 0), GM_CLASS_OTHER);
    gm_tokenizer_free(t);
}

static void long_words_are_cut(void **state) {
    (void)state;
    char text[2000];
    memset(text, 'x', sizeof text);
    for (size_t at = 0; at < sizeof text; at += 7)
        text[at] = '\'';
    gm_tokenizer *t;
    gm_error err = {0};
    assert_int_equal(gm_tokenizer_build(&t, "words", text, sizeof text, 0, true, &err), GM_OK);
    gm_text json = {0};
    gm_tokenizer *again;
    assert_int_equal(gm_tokenizer_format(t, &json, &err), GM_OK);
    if (gm_tokenizer_parse(&again, json.data, json.size, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_true(again->hash == t->hash);
    gm_text_free(&json);
    gm_tokenizer_free(again);
    gm_tokenizer_free(t);
}

static void expect_invalid(const char *kind, const char *text, size_t size, int64_t offset) {
    gm_tokenizer *t = (gm_tokenizer *)&offset;
    gm_error err = {0};
    assert_int_equal(gm_tokenizer_build(&t, kind, text, size, 0, true, &err), GM_EFORMAT);
    assert_null(t);
    assert_int_equal(err.offset, offset);
    assert_non_null(strstr(err.msg, "--tokens bytes"));
}

static void invalid_text_is_refused(void **state) {
    (void)state;
    const char *kinds[] = {"chars", "words"};
    for (int k = 0; k < 2; k++) {
        expect_invalid(kinds[k], "abc\xff", 4, 3);
        expect_invalid(kinds[k], "caf\xe9 au lait", 12, 3);     /* Latin-1 */
        expect_invalid(kinds[k], "x\xc0\xaf", 3, 1);            /* overlong */
        expect_invalid(kinds[k], "x\xed\xa0\x80", 4, 1);        /* surrogate */
        expect_invalid(kinds[k], "ab \xe2\x80", 5, 3);          /* cut off */
        expect_invalid(kinds[k], "x \xf4\x90\x80\x80", 6, 2);   /* beyond Unicode */
        expect_invalid(kinds[k], "ab\0cd", 5, 2);               /* binary */
        expect_invalid(kinds[k], "l'\xffx", 4, k == 0 ? 2 : 2); /* beside an apostrophe */
    }
    gm_tokenizer *t;
    gm_error err = {0};
    assert_int_equal(gm_tokenizer_build(&t, "bpe", "a", 1, 0, true, &err), GM_EINVAL);
    assert_int_equal(gm_tokenizer_build(&t, "words", "a", 1, 2, true, &err), GM_EINVAL);
    assert_int_equal(gm_tokenizer_build(&t, "words", "a", 1, -5, true, &err), GM_EINVAL);
    t = build("words", "a", 0, true);
    int32_t *ids;
    int64_t count;
    assert_int_equal(gm_tokenizer_encode(t, "a b \x80", 5, &ids, &count, &err), GM_EFORMAT);
    assert_int_equal(err.offset, 4);
    assert_null(ids);
    gm_tokenizer_free(t);
}

static void files_round_trip(void **state) {
    (void)state;
    const char *text = "He said: \"don't!\" — “ça va”, 12 \\ / \t tea\n";
    const char *kinds[] = {"bytes", "chars", "words"};
    char path[] = "/tmp/gm-tokenizer-XXXXXX";
    close(mkstemp(path));
    for (int k = 0; k < 3; k++) {
        gm_error err = {0};
        gm_tokenizer *t = build(kinds[k], text, 0, k % 2 == 0), *again;
        assert_int_equal(gm_tokenizer_save(t, path, &err), GM_OK);
        if (gm_tokenizer_load(&again, path, &err) != GM_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(gm_tokenizer_kind(again), kinds[k]);
        assert_true(again->hash == t->hash);
        assert_int_equal(gm_tokenizer_vocab(again), gm_tokenizer_vocab(t));
        char *a = print_tokens(t, text, strlen(text), "|"), *b = print_tokens(again, text, strlen(text), "|");
        assert_string_equal(a, b);
        for (int32_t i = 0; i < t->vocab; i++)
            assert_int_equal(gm_tokenizer_class(t, i), gm_tokenizer_class(again, i));
        free(a);
        free(b);
        gm_tokenizer_free(t);
        gm_tokenizer_free(again);
    }
    unlink(path);
}

/* An export's zero token is BOS and behind the vocabulary: texts never hold it, and files, pieces and classes know it. */
static void bos_behind_the_vocabulary(void **state) {
    (void)state;
    static const char json[] = "{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"chars\",\"lower\":false,\"unk\":0,\"bos\":7,"
                               "\"vocab\":[\"<unk>\",\"<bos>\",\"a\"]}";
    gm_tokenizer *t, *back;
    gm_error err = {0};
    gm_text text = {0};
    size_t size;
    if (gm_tokenizer_parse(&t, json, strlen(json), &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(gm_tokenizer_vocab(t), 3);
    assert_int_equal(gm_tokenizer_bos(t), 7);
    assert_int_equal(gm_tokenizer_class(t, 7), GM_CLASS_BOS);
    gm_tokenizer_piece(t, -1, 7, &size);
    assert_int_equal(size, 0);
    gm_tokenizer_piece(t, 7, 1, &size); /* the BOS of before prints nothing either */
    assert_int_equal(size, 0);
    assert_int_equal(gm_tokenizer_format(t, &text, &err), GM_OK);
    assert_int_equal(gm_tokenizer_parse(&back, text.data, text.size, &err), GM_OK);
    assert_int_equal(gm_tokenizer_bos(back), 7);
    assert_true(back->hash == t->hash);
    gm_text_free(&text);
    gm_tokenizer_free(back);
    gm_tokenizer_free(t);
}

/* Far behind it, read with its folder: there is no entry of the vocabulary to mark as BOS. */
static void bos_far_behind_the_vocabulary(void **state) {
    (void)state;
    char folder[] = "/tmp/gm-tokenizer-XXXXXX", path[64], json[256];
    gm_tokenizer *t;
    gm_error err = {0};
    const int32_t bos = GM_VOCAB_MAX - 1;
    int n = snprintf(json, sizeof json,
                     "{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"chars\",\"lower\":false,\"unk\":0,\"bos\":%d,"
                     "\"vocab\":[\"<unk>\",\"<bos>\",\"a\"]}",
                     bos);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *f = fopen(path, "w");
    assert_true(f && fwrite(json, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
    if (gm_tokenizer_load(&t, folder, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(gm_tokenizer_bos(t), bos);
    assert_int_equal(gm_tokenizer_class(t, bos), GM_CLASS_BOS);
    gm_tokenizer_free(t);
    unlink(path);
    rmdir(folder);
}

static void bad_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *json;
        gm_status status;
    } cases[] = {
        {"", GM_EFORMAT},
        {"{", GM_EFORMAT},
        {"[]", GM_EFORMAT},
        {"{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}", GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":2,\"kind\":\"bytes\",\"lower\":false,\"unk\":-1,\"bos\":256}", GM_EUNSUPPORTED},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"bpe\",\"lower\":false,\"unk\":-1,\"bos\":256}", GM_EUNSUPPORTED},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"words\",\"lower\":true,\"unk\":0,\"bos\":1}", GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"words\",\"lower\":true,\"unk\":0,\"bos\":1,\"vocab\":[\"<unk>\",\"<bos>"
         "\",5]}",
         GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"words\",\"lower\":true,\"unk\":0,\"bos\":1,\"vocab\":[\"<unk>\",\"<bos>"
         "\",\"a\","
         "\"a\"]}",
         GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"words\",\"lower\":true,\"unk\":0,\"bos\":1,\"vocab\":[\"<unk>\",\"<bos>"
         "\",\"two "
         "words\"]}",
         GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"words\",\"lower\":true,\"unk\":0,\"bos\":1,\"vocab\":[\"<unk>\",\"<bos>"
         "\",\"Tea\"]}",
         GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"chars\",\"lower\":false,\"unk\":0,\"bos\":1,\"vocab\":[\"<unk>\",\"<"
         "bos>\",\"ab\"]}",
         GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"chars\",\"lower\":false,\"unk\":0,\"bos\":2,\"vocab\":[\"<unk>\",\"<"
         "bos>\",\"a\"]}",
         GM_EFORMAT},
        {"{\"type\":\"ghostmax.tokenizer\",\"version\":1,\"kind\":\"chars\",\"lower\":false,\"unk\":0,\"bos\":1,\"vocab\":[\"<unk>\",\"<"
         "bos>\",\"\"]}",
         GM_EFORMAT},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_tokenizer *t = (gm_tokenizer *)&i;
        gm_error err = {0};
        if (gm_tokenizer_parse(&t, cases[i].json, strlen(cases[i].json), &err) != cases[i].status)
            fail_msg("case %d: %s", i, err.msg);
        assert_null(t);
        assert_true(err.msg[0]);
    }
    gm_tokenizer *t;
    gm_error err = {0};
    assert_int_equal(gm_tokenizer_load(&t, "/nonexistent/tokenizer.json", &err), GM_EIO);
    assert_null(t);
}

/* A file without a space is one word: joining its pairs must not take the square of its length (which took two minutes). */
static void one_word_of_megabytes(void **state) {
    (void)state;
    enum { SIZE = 3 << 20 };
    char *text = malloc(SIZE);
    gm_tokenizer *t;
    gm_error err = {0};
    const clock_t start = clock();
    memset(text, 'a', SIZE);
    assert_int_equal(gm_tokenizer_build(&t, "bpe", text, SIZE, 290, true, &err), GM_OK);
    size_t size;
    assert_in_range(gm_tokenizer_vocab(t), 257 + 20, 257 + 23); /* halved 20 times, three symbols are left */
    assert_memory_equal(gm_tokenizer_key(t, 257, &size), "aa", 2);
    assert_true((clock() - start) / CLOCKS_PER_SEC < 30);
    gm_tokenizer_free(t);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_round_trip),
        cmocka_unit_test(chars_round_trip),
        cmocka_unit_test(words_are_cut),
        cmocka_unit_test(words_are_ranked),
        cmocka_unit_test(words_have_classes),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(files_round_trip),
        cmocka_unit_test(invalid_text_is_refused),
        cmocka_unit_test(bos_behind_the_vocabulary),
        cmocka_unit_test(bos_far_behind_the_vocabulary),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(one_word_of_megabytes),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
