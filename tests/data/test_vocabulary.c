/* test_vocabulary.c -- tokenizers as vocabularies and inside GGUF, and back: the same ids; texts in parts; byte by byte printing; what must
 * be refused, with the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gguf_tokens.h"
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

#define GOLDEN GM_TEST_SOURCE_DIR "/tests/golden/tokenizers/"
static const char *const files[] = {
    "llama2.json",    "llama3.json",   "qwen2.json",          "o200k.json",        "unigram.json",
    "wordpiece.json", "spm_bpe.model", "spm_bpe_words.model", "spm_unigram.model", "spm_unigram_plain.model"};

static gm_tokenizer *load(const char *name) {
    char path[1024];
    gm_tokenizer *t;
    gm_error err = {0};
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (gm_tokenizer_load(&t, path, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void expect_same_ids(const gm_tokenizer *a, const gm_tokenizer *b, const char *text, size_t size) {
    gm_ids x = {0}, y = {0};
    assert_int_equal(gm_tokenizer_append(a, text, size, true, &x, NULL), GM_OK);
    assert_int_equal(gm_tokenizer_append(b, text, size, true, &y, NULL), GM_OK);
    assert_int_equal(x.count, y.count);
    if (x.count)
        assert_memory_equal(x.data, y.data, (size_t)x.count * sizeof *x.data);
    free(x.data);
    free(y.data);
}

/* Those that other formats can say exactly come back the same through a GGUF file. */
static void through_gguf_and_back(void **state) {
    (void)state;
    static const char text[] = "The caf\u00e9's 1234 tea-cups\n\n  cost \u20ac5,  don't they? \u65e5\u672c <unk> [MASK] foo bar x x\t.";
    int exact = 0;
    for (int i = 0; i < GM_COUNT(files); i++) {
        gm_tokenizer *t = load(files[i]), *back;
        gm_vocabulary v;
        gm_gguf_writer *w;
        gm_error err = {0};
        gm_text bytes = {0};
        assert_int_equal(gm_tokenizer_vocabulary(t, &v, &err), GM_OK);
        assert_int_equal(v.count, t->vocab);
        assert_int_equal(gm_gguf_writer_create(&w, &err), GM_OK);
        assert_int_equal(gm_gguf_tokens_put(w, &v, &err), GM_OK);
        assert_int_equal(gm_gguf_writer_bytes(w, &bytes, &err), GM_OK);
        bool same = t->kind == GM_TOKENS_SENTENCEPIECE || (t->kind == GM_TOKENS_BPE && v.exact && t->subwords->byte_level);
        if (same) {
            if (gm_gguf_tokens_parse(&back, bytes.data, bytes.size, "x.gguf", &err) != GM_OK)
                fail_msg("%s: %s", files[i], err.msg);
            assert_int_equal(back->vocab, t->vocab);
            assert_int_equal(back->bos, t->bos);
            assert_int_equal(back->eos, t->eos);
            if (t->kind == GM_TOKENS_SENTENCEPIECE) {
                assert_true(back->hash == t->hash);
                expect_same_ids(t, back, text, sizeof text - 1);
            } else /* added tokens lose how they take white space along: without them the ids are the same */
                expect_same_ids(t, back, text, 60);
            gm_tokenizer_free(back);
            exact++;
        }
        gm_text_free(&bytes);
        gm_gguf_writer_free(w);
        gm_vocabulary_free(&v);
        gm_tokenizer_free(t);
    }
    assert_int_equal(exact, 6);
}

/* Our own kinds: runtimes print the tokens of all, and cut texts as we do but for words. */
static void own_kinds(void **state) {
    (void)state;
    static const char *const kinds[] = {"bytes", "chars", "words", "bpe"};
    static const char text[] = "a cat, a dog\nand a caf\u00e9";
    for (int k = 0; k < GM_COUNT(kinds); k++) {
        gm_tokenizer *t, *back;
        gm_vocabulary v;
        gm_error err = {0};
        assert_int_equal(gm_tokenizer_build(&t, kinds[k], text, sizeof text - 1, k == 3 ? 270 : 0, true, &err), GM_OK);
        assert_int_equal(gm_tokenizer_vocabulary(t, &v, &err), GM_OK);
        assert_int_equal(v.exact, k != 2);
        if (gm_tokenizer_from_vocabulary(&back, &v, &err) != GM_OK)
            fail_msg("%s: %s", kinds[k], err.msg);
        assert_int_equal(back->bos, t->bos);
        if (v.exact)
            expect_same_ids(t, back, text, sizeof text - 1);
        gm_tokenizer_free(back);
        gm_vocabulary_free(&v);
        gm_tokenizer_free(t);
    }
}

/* An added token is its text, also where its characters would stand for bytes in the vocabulary: \u00e9 for 0xe9. */
static void added_tokens_are_text(void **state) {
    (void)state;
    static const char special[] = "<\u00e9\u00bb>";
    gm_text json = {0}, again = {0};
    for (int b = 0; b < 256; b++) {
        char character[4];
        int n = gm_byte_char(character, (uint8_t)b);
        gm_text_add(&json, "%s\"%s%.*s\": %d", b ? ", " : "{", b == '"' || b == '\\' ? "\\" : "", n, character, b);
    }
    gm_text_add(&json, ", \"%s\": 256}", special);
    gm_tokenizer *t, *back;
    gm_error err = {0};
    if (gm_bpe_files_parse(&t, json.data, json.size, "", 0, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(gm_tokenizer_format(t, &again, &err), GM_OK);
    if (gm_tokenizer_parse(&back, again.data, again.size, &err) != GM_OK)
        fail_msg("%s", err.msg);
    assert_true(back->hash == t->hash);
    for (int i = 0; i < 2; i++) {
        gm_tokenizer *one = i ? back : t;
        gm_vocabulary v;
        gm_ids ids = {0};
        assert_int_equal(gm_tokenizer_append(one, special, strlen(special), true, &ids, &err), GM_OK);
        assert_int_equal(ids.count, 1);
        assert_int_equal(ids.data[0], 256);
        free(ids.data);
        assert_int_equal(gm_tokenizer_vocabulary(one, &v, &err), GM_OK);
        assert_int_equal(v.tokens[256].size, strlen(special));
        assert_memory_equal(v.tokens[256].text, special, strlen(special));
        gm_vocabulary_free(&v);
        gm_tokenizer_free(one);
    }
    gm_text_free(&json);
    gm_text_free(&again);
}

/* A text in parts, cut where that is allowed, is the whole text's tokens. */
static void parts_are_the_whole(void **state) {
    (void)state;
    gm_file nasty;
    assert_int_equal(gm_file_open(&nasty, GOLDEN "nasty.txt", NULL), GM_OK);
    const char *text = (const char *)nasty.data;
    for (int i = 0; i < GM_COUNT(files); i++) {
        gm_tokenizer *t = load(files[i]);
        gm_ids whole = {0}, parts = {0};
        if (!t->subwords->local || t->subwords->single) { /* by line; or float sums over the whole */
            gm_tokenizer_free(t);
            continue;
        }
        assert_int_equal(gm_tokenizer_append(t, text, nasty.size, true, &whole, NULL), GM_OK);
        gm_encoder *e;
        assert_int_equal(gm_encoder_create(&e, t, NULL), GM_OK);
        for (size_t at = 0, end; at < nasty.size; at = end) {
            end = gm_tokenizer_cut(t, text, nasty.size, GM_MIN(at + (size_t)gm_rng_below((uint64_t)i, at, 300) + 1, nasty.size));
            assert_int_equal(gm_encoder_append(e, text + at, end - at, at == 0, &parts, NULL), GM_OK);
        }
        gm_encoder_free(e);
        int64_t same = 0;
        while (same < GM_MIN(parts.count, whole.count) && parts.data[same] == whole.data[same])
            same++;
        if (same < parts.count || same < whole.count)
            fail_msg("%s: %lld tokens in parts, %lld at once; the first to differ is number %lld, %d and %d", files[i],
                     (long long)parts.count, (long long)whole.count, (long long)same, parts.data[same], whole.data[same]);
        free(parts.data);
        free(whole.data);
        gm_tokenizer_free(t);
    }
    gm_file_close(&nasty);
}

/* A byte-level tokenizer takes any bytes and prints them again, in pieces that need not be whole characters. */
static void any_bytes_come_back(void **state) {
    (void)state;
    gm_tokenizer *t = load("llama3.json");
    char text[4096], *printed = malloc(sizeof text);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)gm_rng_u64(5, i / 3); /* runs of three */
    gm_ids ids = {0};
    assert_int_equal(gm_tokenizer_append(t, text, sizeof text, true, &ids, NULL), GM_OK);
    size_t n = 0;
    for (int64_t i = 0; i < ids.count; i++) {
        size_t size;
        const char *piece = gm_tokenizer_piece(t, i ? ids.data[i - 1] : -1, ids.data[i], &size);
        assert_true(n + size <= sizeof text);
        memcpy(printed + n, piece, size);
        n += size;
    }
    assert_int_equal(n, sizeof text);
    assert_memory_equal(printed, text, n);
    free(printed);
    free(ids.data);
    gm_tokenizer_free(t);
    t = load("spm_bpe.model");
    gm_error err = {0};
    ids = (gm_ids){0};
    assert_int_equal(gm_tokenizer_append(t, "ab\xff", 3, true, &ids, &err), GM_EFORMAT);
    assert_int_equal(err.offset, 2);
    free(ids.data);
    gm_tokenizer_free(t);
}

/* A piece of a million letters, which in quadratic time would take hours; the heap joins as the short way does. */
static void long_pieces(void **state) {
    (void)state;
    gm_tokenizer *t = load("llama3.json");
    size_t size = 1000000;
    char *text = malloc(size);
    memset(text, 'a', size);
    gm_ids ids = {0};
    assert_int_equal(gm_tokenizer_append(t, text, size, true, &ids, NULL), GM_OK);
    size_t n = 0;
    for (int64_t i = 0; i < ids.count; i++) {
        size_t length;
        gm_tokenizer_key(t, ids.data[i], &length);
        n += length;
    }
    assert_int_equal(n, size);
    free(text);
    free(ids.data);
    gm_tokenizer_free(t);
}

/* ---- training, by hand */

static void training_by_hand(void **state) {
    (void)state;
    /* words: "ab" 3, " ab" 2, " b" 2: pairs a b 5, _ a 2, _ b 2; then _ab 2 (ids: _ is the 188th byte character, so _ b < _ ab) */
    static const char text[] = "ab ab b\nab\nab ab b";
    gm_tokenizer *t;
    gm_error err = {0};
    if (gm_tokenizer_build(&t, "bpe", text, sizeof text - 1, 260, false, &err) != GM_OK)
        fail_msg("%s", err.msg);
    static const char *const keys[] = {"ab", " b", " ab"};
    assert_int_equal(t->vocab, 260);
    for (int32_t i = 0; i < 3; i++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, 257 + i, &size);
        assert_int_equal(size, strlen(keys[i]));
        assert_memory_equal(key, keys[i], size);
    }
    assert_int_equal(t->bos, 0);
    gm_tokenizer_free(t);
    assert_int_equal(gm_tokenizer_build(&t, "bpe", "x", 1, 1000, false, &err), GM_OK); /* nothing to join */
    assert_int_equal(t->vocab, 257);
    gm_tokenizer_free(t);
    assert_int_equal(gm_tokenizer_build(&t, "bpe", "x", 1, 256, false, &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "257"));
}

/* ---- what is refused */

static void expect_json(const char *json, gm_status status, const char *words) {
    gm_tokenizer *t = (gm_tokenizer *)&status;
    gm_error err = {0};
    gm_status got = gm_tokenizer_parse(&t, json, strlen(json), &err);
    if (got != status || !strstr(err.msg, words))
        fail_msg("%d for %d, '%s' for '%s'", got, status, err.msg, words);
    assert_null(t);
}

#define BPE(vocab, merges) "{\"model\": {\"type\": \"BPE\", \"vocab\": {" vocab "}, \"merges\": [" merges "]}}"
#define WITH(step) "{" step ", \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}"
static void bad_files(void **state) {
    (void)state;
    expect_json(BPE("\"a\": 0, \"b\": 2", ""), GM_EFORMAT, "ids go up to 2");
    expect_json(BPE("\"a\": 0, \"b\": 0", ""), GM_EFORMAT, "the same id 0");
    expect_json(BPE("\"a\": 0, \"b\": -1", ""), GM_EFORMAT, "'b'");
    expect_json(BPE("\"a\": 0, \"b\": 1", "\"a c\""), GM_EFORMAT, "merge 0 names 'c'");
    expect_json(BPE("\"a\": 0, \"b\": 1", "\"a b\""), GM_EFORMAT, "merge 0 makes 'ab'");
    expect_json(BPE("\"a\": 0, \"b\": 1", "[\"a\", \"\"]"), GM_EFORMAT, "merge 0 is not two tokens");
    expect_json(BPE("\"a\": 0, \"b\": 1", "\"ab\""), GM_EFORMAT, "merge 0 is not two tokens");
    expect_json("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", GM_EFORMAT, "merges");
    expect_json("{\"model\": {\"type\": \"BPE\", \"merges\": []}}", GM_EFORMAT, "vocab");
    expect_json("{\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}}}", GM_EUNSUPPORTED, "WordLevel");
    expect_json(WITH("\"normalizer\": {\"type\": \"Precompiled\"}"), GM_EUNSUPPORTED, "normalizer 'Precompiled'");
    expect_json(WITH("\"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}"), GM_EUNSUPPORTED, "pre-tokenizer 'UnicodeScripts'");
    expect_json(WITH("\"decoder\": {\"type\": \"CTC\"}"), GM_EUNSUPPORTED, "decoder 'CTC'");
    expect_json(WITH("\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}"), GM_EFORMAT,
                "no regular expression");
    static const char *const other_classes[] = {"[a\\\\W]", "\\\\h+", "[[:alpha:]]"}; /* which Oniguruma takes for others */
    for (int i = 0; i < GM_COUNT(other_classes); i++) {
        char json[256];
        snprintf(json, sizeof json,
                 WITH("\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, \"behavior\": \"Isolated\"}"),
                 other_classes[i]);
        expect_json(json, GM_EUNSUPPORTED, "which is not supported");
    }
    expect_json("{\"model\": {\"type\": \"BPE\", \"dropout\": 0.1, \"vocab\": {\"a\": 0}, \"merges\": []}}", GM_EUNSUPPORTED, "dropout");
    expect_json("{\"model\": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
                GM_EUNSUPPORTED, "end_of_word_suffix");
    expect_json("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 1e999]]}}", GM_EFORMAT, "");
    gm_file model;
    assert_int_equal(gm_file_open(&model, GOLDEN "spm_bpe.model", NULL), GM_OK);
    for (size_t n = 4; n < model.size; n += 37) { /* truncated: an error inside the file, or what is whole so far */
        gm_tokenizer *t;
        gm_error err = {.offset = -1};
        if (gm_sentencepiece_parse(&t, model.data, n, &err) == GM_OK)
            gm_tokenizer_free(t);
        else
            assert_true(err.msg[0] && err.offset <= (int64_t)n);
    }
    gm_file_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_gguf_and_back), cmocka_unit_test(own_kinds),           cmocka_unit_test(added_tokens_are_text),
        cmocka_unit_test(parts_are_the_whole),   cmocka_unit_test(any_bytes_come_back), cmocka_unit_test(long_pieces),
        cmocka_unit_test(training_by_hand),      cmocka_unit_test(bad_files),
    };
    return cmocka_run_group_tests_name("vocabularies", tests, NULL, NULL);
}
