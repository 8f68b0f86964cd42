/* test_golden_tokenizers.c -- every tokenizer gives the ids of its reference library: a hash per line of nasty Unicode and per 256 lines of
 * WikiText-2, recorded by tools/make_golden_tokenizers.py. Saved and read again they give them too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN GM_TEST_SOURCE_DIR "/tests/golden/tokenizers/"
enum { BLOCK = 256 };

static const char *data_path(char *out, size_t size, const char *folder, const char *name) {
    const char *data = getenv("GHOSTMAX_DATA");
    snprintf(out, size, "%s/%s/%s", data ? data : GM_TEST_SOURCE_DIR "/../shared/data", folder, name);
    return access(out, R_OK) == 0 ? out : NULL;
}

static gm_tokenizer *load(const char *path) {
    gm_tokenizer *t;
    gm_error err = {0};
    if (gm_tokenizer_load(&t, path, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return t;
}

/* As in the script: every id, then the line's end. */
static uint64_t hash_line(gm_encoder *e, const char *text, size_t size, uint64_t h) {
    gm_ids ids = {0};
    gm_error err = {0};
    if (gm_encoder_append(e, text, size, true, &ids, &err) != GM_OK)
        fail_msg("%s", err.msg);
    for (int64_t i = 0; i < ids.count; i++)
        h = (h ^ ((uint64_t)ids.data[i] + 1)) * 0x100000001b3u;
    free(ids.data);
    return h * 0x100000001b3u;
}

static size_t line_size(const gm_file *f, size_t at) {
    const uint8_t *end = memchr(f->data + at, '\n', f->size - at);
    return end ? (size_t)(end - f->data) - at : f->size - at;
}

/* The golden lines that begin with `name`, against `per_hash` lines of a text each. Returns how many hashes there were. */
static int check_text(const gm_tokenizer *t, const gm_file *golden, const char *name, const gm_file *text, int per_hash) {
    gm_encoder *e;
    size_t at = 0;
    int count = 0;
    assert_int_equal(gm_encoder_create(&e, t, NULL), GM_OK);
    for (size_t g = 0, n; g < golden->size; g += n + 1) {
        n = line_size(golden, g);
        const char *line = (const char *)golden->data + g;
        size_t k = strlen(name);
        if (n != k + 17 || memcmp(line, name, k) != 0)
            continue;
        uint64_t h = 0xcbf29ce484222325u, want = strtoull(line + k + 1, NULL, 16);
        size_t first = at;
        for (int i = 0; i < per_hash && at < text->size; i++) {
            size_t size = line_size(text, at);
            h = hash_line(e, (const char *)text->data + at, size, h);
            at += size + 1;
        }
        if (h != want)
            fail_msg("%s: other ids for %d lines from byte %zu on: '%.60s'", name, per_hash, first, (const char *)text->data + first);
        count++;
    }
    gm_encoder_free(e);
    return count;
}

static void check(const char *name, const char *tokenizer, bool all) {
    static const char *const texts[] = {"wiki.valid.raw", "wiki.test.raw"};
    char path[1200];
    gm_file golden, nasty, text;
    snprintf(path, sizeof path, GOLDEN "%s.golden", name);
    assert_int_equal(gm_file_open(&golden, path, NULL), GM_OK);
    assert_int_equal(gm_file_open(&nasty, GOLDEN "nasty.txt", NULL), GM_OK);
    gm_tokenizer *t = load(tokenizer), *again = NULL;
    assert_int_equal(check_text(t, &golden, "nasty", &nasty, 1), 498);
    for (int i = 0; i < 2; i++) {
        if (!data_path(path, sizeof path, "text", texts[i]))
            continue;
        assert_int_equal(gm_file_open(&text, path, NULL), GM_OK);
        assert_int_equal(check_text(t, &golden, texts[i], &text, BLOCK), all ? i ? 18 : 15 : i ? 0 : 4);
        gm_file_close(&text);
    }
    /* what train, lab and convert store */
    char saved[] = "/tmp/gm-golden-XXXXXX";
    close(mkstemp(saved));
    gm_error err = {0};
    if (gm_tokenizer_save(t, saved, &err) != GM_OK || gm_tokenizer_load(&again, saved, &err) != GM_OK)
        fail_msg("%s", err.msg);
    unlink(saved);
    assert_true(again->hash == t->hash);
    assert_int_equal(again->bos, t->bos);
    assert_int_equal(again->eos, t->eos);
    assert_int_equal(check_text(again, &golden, "nasty", &nasty, 1), 498);
    gm_tokenizer_free(again);
    gm_tokenizer_free(t);
    gm_file_close(&golden);
    gm_file_close(&nasty);
}

static void own_tokenizers(void **state) {
    (void)state;
    static const char *const names[] = {
        "llama2.json",    "llama3.json",   "qwen2.json",          "o200k.json",        "unigram.json",
        "wordpiece.json", "spm_bpe.model", "spm_bpe_words.model", "spm_unigram.model", "spm_unigram_plain.model"};
    for (int i = 0; i < GM_COUNT(names); i++) {
        char path[1200];
        snprintf(path, sizeof path, GOLDEN "%s", names[i]);
        print_message("%s\n", names[i]);
        check(names[i], path, false);
    }
}

static void published_tokenizers(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2-encoder.json", "gptneox-tokenizer.json", "bert-uncased-vocab.txt", "llama-tokenizer.model"};
    char path[1200];
    for (int i = 0; i < GM_COUNT(names); i++) {
        if (!data_path(path, sizeof path, "tokenizers", names[i]))
            skip();
        print_message("%s\n", names[i]);
        check(names[i], path, true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(own_tokenizers), cmocka_unit_test(published_tokenizers)};
    return cmocka_run_group_tests_name("golden tokenizers", tests, NULL, NULL);
}
