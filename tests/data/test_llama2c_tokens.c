/* test_llama2c_tokens.c -- llama2.c's tokenizers encode and decode as its own program does: published ids of Llama 2's tokenizer, and its
 * rule written out again the slow way, on random keys and texts; damaged files are refused with the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "data.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path[] = "test_llama2c_tokens.tmp.bin";

/* ---- files */

typedef struct key {
    char text[16];
    int size;
    float score;
} key;

static void put_key(gm_text *file, const void *text, int32_t size, float score) {
    gm_text_bytes(file, &score, 4);
    gm_text_bytes(file, &size, 4);
    gm_text_bytes(file, text, (size_t)size);
}

/* The 259 keys that every file begins with, then these. */
static gm_text file_of(const key *keys, int count) {
    gm_text file = {0};
    gm_text_bytes(&file, (const int32_t[]){15}, 4);
    put_key(&file, "<unk>", 5, 0);
    put_key(&file, "\n<s>\n", 5, 0);
    put_key(&file, "\n</s>\n", 6, 0);
    for (int i = 0; i < 256; i++) {
        char byte[8];
        snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)i);
        put_key(&file, byte, 6, 0);
    }
    for (int i = 0; i < count; i++)
        put_key(&file, keys[i].text, keys[i].size, keys[i].score);
    return file;
}

static gm_status load(gm_tokenizer **t, const void *bytes, size_t size, gm_error *err) {
    assert_int_equal(gm_file_write(path, bytes, size, err), GM_OK);
    gm_status status = gm_tokenizer_load(t, path, err);
    unlink(path);
    return status;
}

/* From the tests' data; NULL: not there. */
static gm_tokenizer *load_data(const char *name) {
    const char *folder = getenv("GHOSTMAX_DATA");
    char file[1024];
    snprintf(file, sizeof file, "%s/tokenizers/%s", folder ? folder : GM_TEST_SOURCE_DIR "/../shared/data", name);
    if (access(file, R_OK) != 0)
        return NULL;
    gm_tokenizer *t;
    gm_error err = {0};
    if (gm_tokenizer_load(&t, file, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return t;
}

/* ---- the rule, the slow way: look at every pair again after every join */

static int32_t id_of(const gm_tokenizer *t, const char *text, size_t size) {
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t n;
        const char *other = gm_tokenizer_key(t, id, &n);
        if (n == size && memcmp(other, text, n) == 0)
            return id;
    }
    return -1;
}

static int64_t slow_encode(const gm_tokenizer *t, const char *text, size_t size, int32_t *ids) {
    int64_t count = 0;
    if (size > 0)
        ids[count++] = id_of(t, " ", 1);
    char character[4];
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        character[n++] = text[i];
        if (i + 1 < size && ((uint8_t)text[i + 1] & 0xc0) == 0x80 && n < 4)
            continue;
        int32_t id = id_of(t, character, n);
        if (id >= 0)
            ids[count++] = id;
        for (size_t j = 0; id < 0 && j < n; j++)
            ids[count++] = (uint8_t)character[j] + 3;
        n = 0;
    }
    for (;;) {
        int64_t at = -1;
        int32_t best = -1;
        float best_score = -1e10f;
        for (int64_t i = 0; i + 1 < count; i++) {
            char both[64];
            size_t a, b;
            const char *left = gm_tokenizer_key(t, ids[i], &a), *right = gm_tokenizer_key(t, ids[i + 1], &b);
            memcpy(both, left, a);
            memcpy(both + a, right, b);
            int32_t id = id_of(t, both, a + b);
            if (id >= 0 && t->scores[id] > best_score) {
                best_score = t->scores[id];
                best = id;
                at = i;
            }
        }
        if (at < 0)
            return count;
        ids[at] = best;
        memmove(ids + at + 1, ids + at + 2, (size_t)(--count - at - 1) * sizeof *ids);
    }
}

static void expect_ids(const gm_tokenizer *t, const char *text, size_t size, const int32_t *want, int64_t want_count) {
    int32_t *ids;
    int64_t count;
    gm_error err = {0};
    if (gm_tokenizer_encode(t, text, size, &ids, &count, &err) != GM_OK)
        fail_msg("%s", err.msg);
    bool same = count == want_count && (count == 0 || memcmp(ids, want, (size_t)count * sizeof *ids) == 0);
    if (!same) {
        for (int64_t i = 0; i < GM_MAX(count, want_count); i++)
            printf("%d %d\n", i < count ? ids[i] : -1, i < want_count ? want[i] : -1);
        fail_msg("'%.*s': %lld ids, not %lld", (int)size, text, (long long)count, (long long)want_count);
    }
    gm_tokens_free(ids);
}

static char *decoded(const gm_tokenizer *t, const int32_t *ids, int64_t count) {
    gm_text text = {0};
    gm_text_bytes(&text, "", 0);
    for (int64_t i = 0; i < count; i++) {
        size_t size;
        const char *piece = gm_tokenizer_piece(t, i ? ids[i - 1] : 1, ids[i], &size);
        gm_text_bytes(&text, piece, size);
    }
    gm_text_bytes(&text, "", 1);
    return text.data;
}

static void expect_round_trip(const gm_tokenizer *t, const char *text, size_t size) {
    int32_t *ids;
    int64_t count;
    assert_int_equal(gm_tokenizer_encode(t, text, size, &ids, &count, NULL), GM_OK);
    char *back = decoded(t, ids, count);
    assert_memory_equal(back, text, size);
    free(back);
    gm_tokens_free(ids);
}

static void published_ids(void **state) {
    (void)state;
    gm_tokenizer *t = load_data("llama-tokenizer.bin");
    if (!t)
        skip();
    assert_int_equal(gm_tokenizer_vocab(t), 32000);
#define EXPECT(text, ...) expect_ids(t, text, sizeof text - 1, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)
    expect_ids(t, "", 0, NULL, 0);
    EXPECT("I believe the meaning of life is", 306, 4658, 278, 6593, 310, 2834, 338);
    EXPECT("Simply put, the theory of relativity states that ", 3439, 17632, 1925, 29892, 278, 6368, 310, 14215, 537, 5922, 393, 29871);
    EXPECT("A brief message congratulating the team on the launch:\n\n        Hi everyone,\n\n        I just ", 319, 11473, 2643, 378, 629,
           271, 18099, 278, 3815, 373, 278, 6826, 29901, 13, 13, 4706, 6324, 14332, 29892, 13, 13, 4706, 306, 925, 29871);
#undef EXPECT
    expect_round_trip(t, "na\u00efve \u4f60\u597d \U0001f600\n\tx", strlen("na\u00efve \u4f60\u597d \U0001f600\n\tx"));
    gm_tokenizer_free(t);
}

/* Keys over a few letters, joined from each other as training would, with equal scores among them. */
static gm_tokenizer *random_tokenizer(uint64_t seed) {
    static const char *const letters[] = {" ", "a", "b", "c", "\u00e9"};
    key keys[60];
    int count = 0;
    for (; count < GM_COUNT(letters); count++)
        keys[count] = (key){.size = (int)strlen(letters[count]), .score = -100};
    for (int i = 0; i < count; i++)
        memcpy(keys[i].text, letters[i], (size_t)keys[i].size);
    for (uint64_t n = 0; count < 50; n++) {
        const key *a = &keys[gm_rng_below(seed, 3 * n, count)], *b = &keys[gm_rng_below(seed, 3 * n + 1, count)];
        bool inside = b->text[0] == ' ' && a->text[a->size - 1] != ' ';
        for (int i = 1; i < b->size; i++)
            inside |= b->text[i] == ' ' && b->text[i - 1] != ' ';
        if (inside || a->size + b->size > 12)
            continue;
        key *c = &keys[count++];
        *c = (key){.size = a->size + b->size, .score = -(float)gm_rng_below(seed, 3 * n + 2, 12)};
        memcpy(c->text, a->text, (size_t)a->size);
        memcpy(c->text + a->size, b->text, (size_t)b->size);
    }
    gm_text file = file_of(keys, count);
    gm_tokenizer *t;
    gm_error err = {0};
    if (load(&t, file.data, file.size, &err) != GM_OK)
        fail_msg("%s", err.msg);
    gm_text_free(&file);
    return t;
}

static size_t random_text(char *text, uint64_t seed, int64_t pieces) {
    static const char *const parts[] = {" ",  "a", "b",    "c",    "ab",   "  ",     "\u00e9",
                                        "\n", "z", "\xc3", "\xa9", "\xff", "\u20ac", "\u00e9\x80\x80\x80"};
    size_t size = 0;
    for (int64_t i = 0; i < pieces; i++) {
        const char *part = parts[gm_rng_below(seed, (uint64_t)i, GM_COUNT(parts))];
        memcpy(text + size, part, strlen(part));
        size += strlen(part);
    }
    return size;
}

static void the_rule_on_random_texts(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        gm_tokenizer *t = random_tokenizer(seed);
        for (uint64_t n = 0; n < 20; n++) {
            char text[512];
            int32_t want[512];
            size_t size = random_text(text, seed * 100 + n, 1 + (int64_t)(3 * n));
            expect_ids(t, text, size, want, slow_encode(t, text, size, want));
            if (text[0] != ' ')
                expect_round_trip(t, text, size);
        }
        gm_tokenizer_free(t);
    }
}

/* A text in parts, cut where that is allowed, is the whole text's tokens. */
static void parts_are_the_whole(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        gm_tokenizer *t = random_tokenizer(seed);
        char text[2048];
        size_t size = random_text(text, seed, 400);
        int32_t *ids;
        int64_t count;
        gm_ids parts = {0};
        assert_int_equal(gm_tokenizer_encode(t, text, size, &ids, &count, NULL), GM_OK);
        for (size_t at = 0, end; at < size; at = end) {
            end = gm_tokenizer_cut(t, text, size, GM_MIN(at + (size_t)gm_rng_below(seed, at, 50) + 1, size));
            assert_int_equal(gm_tokenizer_append(t, text + at, end - at, at == 0, &parts, NULL), GM_OK);
        }
        assert_int_equal(parts.count, count);
        assert_memory_equal(parts.data, ids, (size_t)count * sizeof *ids);
        free(parts.data);
        gm_tokens_free(ids);
        gm_tokenizer_free(t);
    }
}

static void small_tokenizer_by_hand(void **state) {
    (void)state;
    const key keys[] = {{" ", 1, -9}, {"a", 1, -9}, {"b", 1, -9}, {"ab", 2, -2}, {" a", 2, -1}, {" ab", 3, -3}, {"bb", 2, -2}};
    gm_text file = file_of(keys, GM_COUNT(keys));
    gm_tokenizer *t, *again;
    gm_error err = {0};
    assert_int_equal(load(&t, file.data, file.size, &err), GM_OK);
    assert_string_equal(gm_tokenizer_kind(t), "llama2c");
    assert_int_equal(gm_tokenizer_vocab(t), 266);
    assert_int_equal(gm_tokenizer_bos(t), 1);
    assert_int_equal(gm_tokenizer_eos(t), 2);
    /* " aab\nb": " a" first (-1), then "ab" (-2); the newline is byte 10, id 13 */
    expect_ids(t, "aab\nb", 5, (const int32_t[]){263, 262, 13, 261}, 4);
    /* " abb": " a", then of " ab" (-3) and "bb" (-2) the latter */
    expect_ids(t, "abb", 3, (const int32_t[]){263, 265}, 2);
    /* a leading space of the text stays beside the added one */
    expect_ids(t, " b\0", 3, (const int32_t[]){259, 259, 261, 3}, 4);
    const int32_t ids[] = {263, 263, 13, 258, 2, 0};
    char *text = decoded(t, ids, 6);
    assert_string_equal(text, "a a\n\xff"); /* the first space goes, special tokens print nothing */
    free(text);
    assert_int_equal(gm_tokenizer_class(t, 13), GM_CLASS_WHITESPACE);
    assert_int_equal(gm_tokenizer_class(t, 3 + '7'), GM_CLASS_DIGIT);
    assert_int_equal(gm_tokenizer_class(t, 3 + ','), GM_CLASS_PUNCTUATION);
    assert_int_equal(gm_tokenizer_class(t, 263), GM_CLASS_WORD);
    assert_int_equal(gm_tokenizer_class(t, 259), GM_CLASS_WHITESPACE);
    assert_int_equal(gm_tokenizer_class(t, 1), GM_CLASS_BOS);
    /* as tokenizer.json and back */
    assert_int_equal(gm_tokenizer_save(t, path, &err), GM_OK);
    if (gm_tokenizer_load(&again, path, &err) != GM_OK)
        fail_msg("%s", err.msg);
    unlink(path);
    assert_true(t->hash == again->hash);
    expect_ids(again, "aab\nb", 5, (const int32_t[]){263, 262, 13, 261}, 4);
    gm_tokenizer_free(again);
    gm_tokenizer_free(t);
    assert_int_equal(gm_tokenizer_build(&t, "llama2c", "abc", 3, 0, false, &err), GM_EINVAL);
    gm_text_free(&file);
}

static void expect_refused(const void *bytes, size_t size, int64_t offset) {
    gm_error err = {.offset = -1};
    gm_tokenizer *t = (gm_tokenizer *)&err;
    if (load(&t, bytes, size, &err) != GM_EFORMAT || err.offset != offset || t)
        fail_msg("%zu bytes: offset %lld: %s", size, (long long)err.offset, err.msg);
}

static void damaged_files_are_refused(void **state) {
    (void)state;
    const key keys[] = {{" ", 1, 0}, {"ab", 2, -2}};
    gm_text file = file_of(keys, 2);
    const size_t last = file.size - 10, space = last - 9, byte = 4 + 3 * 8 + 16; /* where tokens 260, 259 and 3 begin */
    expect_refused(file.data, 4, -1);                                            /* no tokens */
    expect_refused(file.data, space, -1);                                        /* no space among them */
    expect_refused(file.data, last + 3, (int64_t)last);                          /* cut off in a score */
    expect_refused(file.data, last + 9, (int64_t)last + 4);                      /* and in a key */
    const struct {
        size_t at;
        int32_t value;
        int64_t offset;
    } changes[] = {
        {last + 4, -1, (int64_t)last + 4},
        {last + 4, INT32_MAX, (int64_t)last + 4},
        {last + 4, 1, (int64_t)last + 9},
        {last, 0x7fc00000, (int64_t)last + 8},
        {last, 0x7f800000, (int64_t)last + 8},
        {byte + 8, 0x31317830, (int64_t)byte + 8},
        {4 + 4, INT32_MIN, 8},
        {4 + 4, 16, 8},
        {0, 4, 8},
    };
    for (int i = 0; i < GM_COUNT(changes); i++) {
        char kept[4];
        memcpy(kept, file.data + changes[i].at, 4);
        memcpy(file.data + changes[i].at, &changes[i].value, 4);
        expect_refused(file.data, file.size, changes[i].offset);
        memcpy(file.data + changes[i].at, kept, 4);
    }
    memcpy(file.data + last + 8, "\xff\xfe", 2); /* not UTF-8 */
    expect_refused(file.data, file.size, (int64_t)last + 8);
    memcpy(file.data + last + 8, "a ", 2); /* words would not stand apart */
    expect_refused(file.data, file.size, (int64_t)last + 8);
    for (uint64_t i = 0; i < 20000; i++) { /* any bytes: refused or a tokenizer, never a crash */
        char kept[4];
        size_t at = (size_t)gm_rng_below(1, 2 * i, (int64_t)file.size - 4);
        int32_t value = (int32_t)gm_rng_u64(1, 2 * i + 1) % 300;
        memcpy(kept, file.data + at, 4);
        memcpy(file.data + at, &value, 4);
        gm_tokenizer *t = NULL;
        gm_status status = gm_llama2c_tokens_parse(&t, (const uint8_t *)file.data, file.size - i % 40, NULL);
        assert_true((status == GM_OK) == (t != NULL));
        gm_tokenizer_free(t);
        memcpy(file.data + at, kept, 4);
    }
    gm_text_free(&file);
}

/* The real files: Llama 2's SentencePiece model and stories260K's, written as llama2.c's own exporter wrote them. */
static void written_as_the_exporter(void **state) {
    (void)state;
    const char *data = getenv("GHOSTMAX_DATA");
    char folder[512], from[600], published[600];
    snprintf(folder, sizeof folder, "%s", data ? data : GM_TEST_SOURCE_DIR "/../shared/data");
    const char *const files[][2] = {{"llama-tokenizer.model", "llama-tokenizer.bin"}, {"tok512.bin", "tok512.bin"}};
    for (int i = 0; i < 2; i++) {
        gm_tokenizer *t;
        gm_vocabulary v;
        gm_file want, got;
        snprintf(from, sizeof from, "%s/tokenizers/%s", folder, files[i][0]);
        snprintf(published, sizeof published, "%s/tokenizers/%s", folder, files[i][1]);
        if (access(from, R_OK) != 0)
            skip();
        assert_int_equal(gm_tokenizer_load(&t, from, NULL), GM_OK);
        assert_int_equal(gm_tokenizer_vocabulary(t, &v, NULL), GM_OK);
        assert_int_equal(gm_llama2c_tokens_write(&v, path, NULL), GM_OK);
        assert_int_equal(gm_file_open(&want, published, NULL), GM_OK);
        assert_int_equal(gm_file_open(&got, path, NULL), GM_OK);
        assert_int_equal(got.size, want.size);
        assert_memory_equal(got.data, want.data, want.size);
        gm_file_close(&want);
        gm_file_close(&got);
        v.model = "gpt2";
        assert_int_equal(gm_llama2c_tokens_write(&v, path, NULL), GM_EUNSUPPORTED);
        gm_vocabulary_free(&v);
        gm_tokenizer_free(t);
        unlink(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_tokenizer_by_hand),   cmocka_unit_test(the_rule_on_random_texts),
                                       cmocka_unit_test(parts_are_the_whole),       cmocka_unit_test(published_ids),
                                       cmocka_unit_test(damaged_files_are_refused), cmocka_unit_test(written_as_the_exporter)};
    return cmocka_run_group_tests_name("llama2c tokens", tests, NULL, NULL);
}
