/* test_data.c -- gm_data_* on text files, token files and stories: splits, purity, decoding, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base.h"
#include "data.h"
#include "ghostmax_model.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], text_path[96], tokens_path[96];

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/gm-data-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(text_path, sizeof text_path, "%s/text.txt", folder);
    snprintf(tokens_path, sizeof tokens_path, "%s/text.tokens", folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(text_path);
    unlink(tokens_path);
    return rmdir(folder);
}

/* A text in which every word is a number that stands there once, so that a window tells where it is from: n words, lines of about ten,
 * CRLF now and then. */
static gm_text numbered_text(int n, bool crlf) {
    gm_text text = {0};
    for (int i = 0; i < n; i++)
        gm_text_add(&text, "w%d%s", i, gm_rng_below(1, (uint64_t)i, 10) == 0 ? (crlf ? "\r\n" : "\n") : " ");
    return text;
}

/* Not gm_file_write: that waits for the disk, and this is called a thousand times. */
static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const void *bytes, size_t size) {
    write_file(text_path, bytes, size);
}

static gm_data *open_data(const gm_data_options *options) {
    gm_data *d;
    gm_error err = {0};
    if (gm_data_open(&d, options, &err) != GM_OK)
        fail_msg("%s", err.msg);
    return d;
}

static char *decode(const gm_data *d, const int32_t *ids, int64_t count, size_t *size) {
    gm_text out = {0};
    gm_text_bytes(&out, "", 0);
    for (int64_t i = 0; i < count; i++) {
        size_t n;
        const char *piece = gm_tokenizer_piece(gm_data_tokenizer(d), i ? ids[i - 1] : -1, ids[i], &n);
        gm_text_bytes(&out, piece, n);
    }
    *size = out.size;
    return out.data;
}

/* Every sequence of the first `count`, training or validation: marks the words it shows in seen[]. */
static void mark_words(const gm_data *d, bool validation, uint64_t seed, int64_t count, uint8_t *seen, int words) {
    int64_t T = gm_data_context(d);
    int32_t *x = gm_alloc((size_t)T + 1, sizeof *x), *y = gm_alloc((size_t)T, sizeof *y);
    for (int64_t i = 0; i < count; i++) {
        if (validation)
            gm_data_validation(d, i, 1, x, y);
        else
            gm_data_train(d, seed, i, 1, x, y);
        assert_memory_equal(x + 1, y, (size_t)(T - 1) * sizeof *x);
        x[T] = y[T - 1];
        for (int64_t t = 0; t <= T; t++) {
            size_t n;
            char piece[16] = {0};
            const char *p = gm_tokenizer_piece(gm_data_tokenizer(d), -1, x[t], &n);
            memcpy(piece, p, GM_MIN(n, sizeof piece - 1));
            if (piece[0] == 'w') {
                int word = atoi(piece + 1);
                assert_in_range(word, 0, words - 1);
                seen[word] = 1;
            }
        }
    }
    gm_free(x);
    gm_free(y);
}

static void seeds_never_see_validation(void **state) {
    (void)state;
    enum { WORDS = 60000 };
    gm_text text = numbered_text(WORDS, true);
    write_text(text.data, text.size);
    static uint8_t trained[WORDS], validated[WORDS];
    for (int bos = 0; bos < 2; bos++) {
        memset(trained, 0, sizeof trained);
        memset(validated, 0, sizeof validated);
        gm_data_options options = {.source = text_path, .tokens = "words", .vocab = WORDS + 3, .context = 48, .no_bos = !bos};
        gm_data *d = open_data(&options);
        assert_int_equal(gm_tokenizer_vocab(gm_data_tokenizer(d)), WORDS + 3); /* every word, <unk>, <bos>, newline */
        mark_words(d, true, 0, gm_data_validation_count(d), validated, WORDS);
        for (uint64_t seed = 1; seed <= 6; seed++)
            mark_words(d, false, seed, 3000, trained, WORDS);
        int both = 0, train = 0, validation = 0;
        for (int i = 0; i < WORDS; i++) {
            both += trained[i] && validated[i];
            train += trained[i];
            validation += validated[i];
        }
        assert_int_equal(both, 0);
        assert_in_range(validation, WORDS / 40, WORDS / 5); /* about a tenth */
        assert_true(train > WORDS * 3 / 4);
        assert_in_range(train + validation, WORDS * 9 / 10, WORDS);
        gm_data_free(d);
    }
    gm_text_free(&text);
}

static void sequences_begin_as_asked(void **state) {
    (void)state;
    gm_text text = numbered_text(4000, false);
    write_text(text.data, text.size);
    const char *kinds[] = {"bytes", "chars", "words"};
    for (int k = 0; k < 6; k++) {
        enum { T = 20 };
        gm_data_options options = {.source = text_path, .tokens = kinds[k / 2], .context = T, .no_bos = k % 2};
        gm_data *d = open_data(&options);
        int32_t bos = gm_tokenizer_bos(gm_data_tokenizer(d)), x[5 * T], y[5 * T];
        assert_int_equal(gm_data_context(d), T);
        for (int validation = 0; validation < 2; validation++) {
            if (validation)
                gm_data_validation(d, 3, 5, x, y);
            else
                gm_data_train(d, 3, 3, 5, x, y);
            for (int i = 0; i < 5; i++) {
                assert_int_equal(x[i * T] == bos, options.no_bos ? 0 : 1);
                assert_memory_equal(x + i * T + 1, y + i * T, (T - 1) * sizeof *x);
                for (int t = 0; t < T; t++)
                    assert_true(y[i * T + t] != bos && y[i * T + t] >= 0 && y[i * T + t] < gm_tokenizer_vocab(gm_data_tokenizer(d)));
            }
        }
        gm_data_free(d);
    }
    gm_text_free(&text);
}

static int by_offset(const void *a, const void *b) {
    return *(const int *)a < *(const int *)b ? -1 : 1;
}

/* Every validation window's targets are a stretch of the text, byte for byte; together they are whole stretches without overlap, each
 * once; and the first few are from all over the text. */
static void windows_are_the_text(void **state) {
    (void)state;
    gm_text text = {0};
    for (int i = 0; i < 9000; i++)
        gm_text_add(&text, "§%d “naïve”\r\n\t", i);
    write_text(text.data, text.size);
    const char *kinds[] = {"bytes", "chars"};
    for (int k = 0; k < 2; k++) {
        enum { T = 33 };
        gm_data_options options = {.source = text_path, .tokens = kinds[k], .context = T};
        gm_data *d = open_data(&options);
        int32_t x[T], y[T];
        int64_t count = gm_data_validation_count(d);
        int *offsets = gm_alloc((size_t)count, sizeof *offsets);
        double bytes = 0;
        for (int64_t i = 0; i < count; i++) {
            gm_data_validation(d, i, 1, x, y);
            size_t size;
            char *piece = decode(d, y, T, &size);
            const char *place = strstr(text.data, piece);
            assert_non_null(place);
            offsets[i] = (int)(place - text.data);
            bytes += (double)size;
            free(piece);
        }
        int low = offsets[0], high = offsets[0];
        for (int64_t i = 0; i < 16; i++) {
            low = GM_MIN(low, offsets[i]);
            high = GM_MAX(high, offsets[i]);
        }
        assert_true(high - low > (int)text.size / 2);
        qsort(offsets, (size_t)count, sizeof *offsets, by_offset);
        int neighbours = 0;
        for (int64_t i = 1; i < count; i++) {
            /* T tokens further on, in bytes: T, or a little more where characters are longer */
            int gap = offsets[i] - offsets[i - 1];
            assert_true(gap >= T);
            neighbours += gap < (k ? 2 * T : T + 1);
        }
        assert_true(neighbours > count * 9 / 10);
        if (!(fabs(gm_data_bytes_per_token(d) - bytes / (double)(count * T)) < 0.01))
            fail_msg("bytes per token %g, counted %g", gm_data_bytes_per_token(d), bytes / (double)(count * T));
        gm_free(offsets);
        gm_data_free(d);
    }
    gm_text_free(&text);
}

static void expect_pure(const gm_data *d) {
    int64_t T = gm_data_context(d);
    size_t n = (size_t)(12 * T);
    int32_t *x = gm_alloc(n, 4), *y = gm_alloc(n, 4), *a = gm_alloc(n, 4), *b = gm_alloc(n, 4);
    gm_data_train(d, 5, 100, 12, x, y);
    for (int64_t i = 11; i >= 0; i--)
        gm_data_train(d, 5, 100 + i, 1, a + i * T, b + i * T);
    assert_memory_equal(x, a, n * 4);
    assert_memory_equal(y, b, n * 4);
    gm_data_train(d, 6, 100, 12, a, b);
    assert_memory_not_equal(x, a, n * 4);
    gm_data_train(d, 5, 112, 12, a, b);
    assert_memory_not_equal(x, a, n * 4);
    int64_t count = gm_data_validation_count(d);
    gm_data_validation(d, count - 1, 2, x, y);
    gm_data_validation(d, 0, 1, a, b);
    assert_memory_equal(x + T, a, (size_t)T * 4);
    gm_free(x);
    gm_free(y);
    gm_free(a);
    gm_free(b);
}

typedef struct reader {
    const gm_data *d;
    uint64_t sums[200];
} reader;

static void *read_all(void *user) {
    reader *r = user;
    int32_t x[64], y[64];
    for (int i = 0; i < 200; i++) {
        gm_data_train(r->d, 9, i, 1, x, y);
        r->sums[i] = gm_hash(x, sizeof x, gm_hash(y, sizeof y, 0));
    }
    return NULL;
}

static void expect_thread_safe(const gm_data *d) {
    static reader readers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        readers[i].d = d;
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    read_all(&readers[0]);
    for (int i = 1; i < 4; i++)
        assert_memory_equal(readers[0].sums, readers[i].sums, sizeof readers[i].sums);
}

static void text_is_pure_and_thread_safe(void **state) {
    (void)state;
    gm_text text = numbered_text(5000, false);
    write_text(text.data, text.size);
    gm_data_options options = {.source = text_path, .tokens = "words", .context = 64};
    gm_data *d = open_data(&options), *again = open_data(&options);
    expect_pure(d);
    expect_thread_safe(d);
    assert_string_equal(gm_data_identity(d), gm_data_identity(again));
    gm_data_free(again);
    text.data[text.size / 2] ^= 1; /* another text is another identity */
    write_text(text.data, text.size);
    again = open_data(&options);
    assert_string_not_equal(gm_data_identity(d), gm_data_identity(again));
    gm_data_free(again);
    gm_data_free(d);
    gm_text_free(&text);
}

/* ---- token files -------------------------------------------------------------------------------------------------------------- */

static void token_files_are_their_text(void **state) {
    (void)state;
    gm_text text = numbered_text(6000, true);
    gm_text_add(&text, "\xef\xbb\xbf the end \xe2\x80\x94 really");
    write_text(text.data, text.size);
    const char *kinds[] = {"bytes", "chars", "words"};
    for (int k = 0; k < 3; k++) {
        enum { T = 40 };
        gm_data_options options = {.source = text_path, .tokens = kinds[k], .context = 8};
        gm_data *d = open_data(&options);
        gm_error err = {0};
        if (gm_data_write_tokens(d, tokens_path, &err) != GM_OK)
            fail_msg("%s", err.msg);
        gm_data_free(d);
        options.context = T; /* the file does not care for the context that it was written with */
        d = open_data(&options);
        gm_data_options other = {.source = tokens_path, .context = T};
        gm_data *e = open_data(&other);
        assert_string_equal(gm_data_identity(d), gm_data_identity(e));
        assert_int_equal(gm_data_validation_count(d), gm_data_validation_count(e));
        assert_int_equal(gm_data_train_tokens(d), gm_data_train_tokens(e));
        assert_true(gm_data_bytes_per_token(d) == gm_data_bytes_per_token(e));
        int32_t x[9 * T], y[9 * T], a[9 * T], b[9 * T];
        gm_data_train(d, 4, 50, 9, x, y);
        gm_data_train(e, 4, 50, 9, a, b);
        assert_memory_equal(x, a, sizeof x);
        assert_memory_equal(y, b, sizeof y);
        gm_data_validation(d, 0, 9, x, y);
        gm_data_validation(e, 0, 9, a, b);
        assert_memory_equal(x, a, sizeof x);
        gm_data_free(d);
        gm_data_free(e);
        /* asked for as something else */
        other.tokens = kinds[(k + 1) % 3];
        assert_int_equal(gm_data_open(&e, &other, &err), GM_EINVAL);
        assert_null(e);
    }
    gm_text_free(&text);
}

static void altered_token_files_are_refused(void **state) {
    (void)state;
    gm_text text = numbered_text(300, false);
    write_text(text.data, text.size);
    gm_data_options options = {.source = text_path, .tokens = "words", .context = 8};
    gm_data *d = open_data(&options);
    assert_int_equal(gm_data_write_tokens(d, tokens_path, NULL), GM_OK);
    gm_data_free(d);
    gm_text_free(&text);
    gm_file file;
    assert_int_equal(gm_file_open(&file, tokens_path, NULL), GM_OK);
    size_t size = file.size;
    uint8_t *whole = malloc(size + 8);
    memcpy(whole, file.data, size);
    memset(whole + size, 0, 8);
    gm_file_close(&file);
    options = (gm_data_options){.source = tokens_path, .context = 8};
    size_t padding = size; /* the zeros after the last token are no content */
    while (whole[padding - 1] == 0)
        padding--;
    for (size_t at = 8; at < padding; at += at < 120 || at > padding - 64 ? 1 : 37) { /* one bit anywhere after the magic word */
        whole[at] ^= 0x10;
        write_file(tokens_path, whole, size);
        gm_error err = {.offset = -1};
        gm_status status = gm_data_open(&d, &options, &err);
        if ((status != GM_EFORMAT && status != GM_EUNSUPPORTED) || err.offset < 0)
            fail_msg("bit at %zu of %zu: status %d, %s", at, size, (int)status, err.msg);
        assert_null(d);
        whole[at] ^= 0x10;
    }
    for (size_t n = 8; n <= size + 8; n += n < 100 ? 3 : 53) {
        if (n == size)
            continue;
        write_file(tokens_path, whole, n);
        gm_error err = {.offset = -1};
        gm_status status = gm_data_open(&d, &options, &err);
        if (status != GM_EFORMAT || err.offset != (int64_t)n)
            fail_msg("cut to %zu of %zu: status %d, offset %lld, %s", n, size, (int)status, (long long)err.offset, err.msg);
    }
    /* sound hashes over unsound content: the index and every token are checked all the same */
    uint64_t *words = (uint64_t *)whole, grains_at = 10 + words[7] / 8;
    static const struct {
        int word;
        uint64_t value;
    } lies[] = {{0, 5}, {4, 1u << 30}, {5, 1u << 30}};
    for (int i = 0; i < 4; i++) {
        uint64_t *records = words + grains_at, kept[8], tokens_at = 8 * (grains_at + 4 * words[8]);
        uint16_t first;
        memcpy(kept, records, sizeof kept);
        memcpy(&first, whole + tokens_at, 2);
        if (i < 3)
            records[lies[i].word] = lies[i].value;
        else {
            memcpy(whole + tokens_at, &(uint16_t){60000}, 2);
            records[3] = gm_hash(whole + tokens_at, (records[4] - records[0]) * 2, 0);
        }
        words[9] = 0;
        words[9] = gm_hash(whole + 80, tokens_at - 80, gm_hash(whole, 80, 0));
        write_file(tokens_path, whole, size);
        gm_error err = {.offset = -1};
        gm_status status = gm_data_open(&d, &options, &err);
        if (status != GM_EFORMAT || err.offset < 80 || !strstr(err.msg, i == 3 ? "vocabulary" : "index"))
            fail_msg("lie %d: status %d, %s", i, (int)status, err.msg);
        memcpy(records, kept, sizeof kept);
        memcpy(whole + tokens_at, &first, 2);
    }
    /* sizes that overflow when multiplied */
    for (int field = 2; field < 9; field++) {
        uint64_t kept, huge = UINT64_MAX / 2 + 5;
        memcpy(&kept, whole + 8 * field, 8);
        memcpy(whole + 8 * field, &huge, 8);
        write_file(tokens_path, whole, size);
        gm_status status = gm_data_open(&d, &options, NULL);
        assert_true(status == GM_EFORMAT || status == GM_EUNSUPPORTED);
        memcpy(whole + 8 * field, &kept, 8);
    }
    free(whole);
}

/* ---- what is refused ---------------------------------------------------------------------------------------------------------------- */

static void expect_refused(const gm_data_options *options, gm_status status, const char *words) {
    gm_data *d = (gm_data *)&status;
    gm_error err = {0};
    gm_status got = gm_data_open(&d, options, &err);
    if (got != status || !strstr(err.msg, words) || strchr(err.msg, '\n'))
        fail_msg("status %d for %d, '%s' for '%s'", (int)got, (int)status, err.msg, words);
    assert_null(d);
}

static void bad_sources_are_refused(void **state) {
    (void)state;
    gm_data_options o = {.source = text_path, .context = 32};
    write_text("", 0);
    expect_refused(&o, GM_EFORMAT, "is empty");
    write_text("\xef\xbb\xbf", 3);
    expect_refused(&o, GM_EFORMAT, "is empty");
    write_text("hello", 5);
    expect_refused(&o, GM_EFORMAT, "has 1 tokens (words)");
    write_text(" \n \t ", 5);
    expect_refused(&o, GM_EFORMAT, "give a longer text");
    write_text("   \t ", 5); /* no token at all */
    expect_refused(&o, GM_EFORMAT, "has 0 tokens");
    unlink(text_path);
    expect_refused(&o, GM_EIO, "No such file");
    o.source = "storys";
    expect_refused(&o, GM_EIO, "did you mean the built-in 'stories'");
    o.source = folder;
    expect_refused(&o, GM_EIO, "is a folder");
    o.source = "";
    expect_refused(&o, GM_EINVAL, "no data");
    o.source = text_path;
    gm_text text = numbered_text(500, false);
    write_text(text.data, text.size);
    o.context = 0;
    expect_refused(&o, GM_EINVAL, "context");
    o.context = 100000;
    expect_refused(&o, GM_EINVAL, "use --context ");
    o.context = 32;
    o.tokens = "syllables";
    expect_refused(&o, GM_EINVAL, "bytes, chars, words or bpe");
    o.tokens = "words";
    o.vocab = 2;
    expect_refused(&o, GM_EINVAL, "vocabulary of 2");
    o.vocab = 0;
    o.tokenizer = "/nonexistent.json";
    expect_refused(&o, GM_EIO, "nonexistent.json");
    o.tokenizer = NULL;
    text.data[700] = (char)0xff;
    write_text(text.data, text.size);
    expect_refused(&o, GM_EFORMAT, "byte 700 (0xff)");
    text.data[700] = 0;
    write_text(text.data, text.size);
    expect_refused(&o, GM_EFORMAT, "--tokens bytes");
    o.tokens = "bytes"; /* takes anything */
    gm_data_free(open_data(&o));
    o.tokens = NULL;
    memcpy(text.data, "\x1f\x8b\x08", 3);
    write_text(text.data, text.size);
    expect_refused(&o, GM_EFORMAT, "packed by gzip");
    gm_text_free(&text);
    if (geteuid() != 0) { /* root reads everything */
        assert_int_equal(chmod(text_path, 0), 0);
        expect_refused(&o, GM_EIO, "Permission denied");
        assert_int_equal(chmod(text_path, 0600), 0);
    }
}

/* The context that the message proposes does work. */
static void the_advice_is_good(void **state) {
    (void)state;
    for (int words = 20; words < 3000; words = words * 3 / 2) {
        gm_text text = numbered_text(words, false);
        write_text(text.data, text.size);
        gm_text_free(&text);
        gm_data_options o = {.source = text_path, .context = 5000};
        gm_data *d;
        gm_error err = {0};
        assert_int_equal(gm_data_open(&d, &o, &err), GM_EINVAL);
        const char *advice = strstr(err.msg, "--context ");
        if (!advice)
            fail_msg("%s", err.msg);
        o.context = atoi(advice + strlen("--context "));
        assert_true(o.context >= 1 && o.context < 5000);
        d = open_data(&o);
        assert_true(gm_data_validation_count(d) >= 1 && gm_data_train_tokens(d) >= o.context);
        gm_data_free(d);
    }
}

static void odd_texts_work(void **state) {
    (void)state;
    gm_data_options o = {.source = text_path, .tokens = "chars", .context = 16};
    char *flat = malloc(20000);
    memset(flat, 'a', 20000); /* one line, one letter: every piece has the same hash */
    write_text(flat, 20000);
    gm_data *d = open_data(&o);
    assert_int_equal(gm_tokenizer_vocab(gm_data_tokenizer(d)), 3);
    gm_data_free(d);
    gm_text text = {0}; /* long characters without any white space: no grain may cut one */
    for (int i = 0; i < 4000; i++)
        gm_text_add(&text, "%s", i % 3 ? "日" : i % 2 ? "é" : "😀");
    write_text(text.data, text.size);
    d = open_data(&o);
    assert_int_equal(gm_tokenizer_vocab(gm_data_tokenizer(d)), 5);
    gm_data_free(d);
    gm_text_free(&text);
    free(flat);
}

static void a_given_tokenizer_is_used(void **state) {
    (void)state;
    gm_text text = numbered_text(3000, false);
    write_text(text.data, text.size);
    gm_data_options o = {.source = text_path, .tokens = "words", .vocab = 500, .context = 16};
    gm_data *d = open_data(&o), *e;
    assert_int_equal(gm_tokenizer_save(gm_data_tokenizer(d), tokens_path, NULL), GM_OK);
    o = (gm_data_options){.source = text_path, .context = 16, .tokenizer = tokens_path};
    e = open_data(&o);
    assert_int_equal(gm_tokenizer_vocab(gm_data_tokenizer(e)), 500);
    assert_string_equal(gm_data_identity(d), gm_data_identity(e));
    o.tokens = "chars";
    expect_refused(&o, GM_EINVAL, "leave --tokens out");
    gm_data_free(d);
    gm_data_free(e);
    gm_text_free(&text);
}

/* ---- defaults and stories ---------------------------------------------------------------------------------------------------------------
 */

static void defaults_are_one_table(void **state) {
    (void)state;
    const char *names[] = {"stories", "bb", "FILE"};
    for (int i = 0; i < 3; i++) {
        const gm_data_defaults *one = gm_data_default_list(i);
        assert_string_equal(one->source, names[i]);
        assert_ptr_equal(gm_data_default_of(names[i]), one);
        gm_model_config cfg;
        assert_int_equal(gm_model_config_preset(&cfg, one->model, NULL), GM_OK);
        gm_variant variants[16];
        int count;
        assert_int_equal(gm_variants_parse(variants, 16, &count, one->variants, NULL), GM_OK);
    }
    assert_null(gm_data_default_list(3));
    assert_null(gm_data_default_list(-1));
    assert_string_equal(gm_data_default_of("some/text.txt")->source, "FILE");
}

static void stories_are_a_stream(void **state) {
    (void)state;
    const char *kinds[] = {"words", "chars", "bytes"};
    for (int k = 0; k < 6; k++) {
        enum { T = 64, COUNT = 200 };
        gm_data_options o = {.source = "stories", .tokens = k ? kinds[k / 2] : NULL, .context = T, .no_bos = k % 2};
        gm_data *d = open_data(&o);
        assert_string_equal(gm_tokenizer_kind(gm_data_tokenizer(d)), kinds[k / 2]);
        assert_int_equal(gm_data_train_tokens(d), -1);
        expect_pure(d);
        expect_thread_safe(d);
        static int32_t x[COUNT * T], y[COUNT * T];
        gm_data_train(d, 1, 0, COUNT, x, y);
        int32_t bos = gm_tokenizer_bos(gm_data_tokenizer(d));
        for (int i = 0; i < COUNT * T; i++) {
            assert_true(y[i] >= 0 && y[i] != bos && (y[i] != 0 || k / 2 == 2)); /* no <unk>: the grammar knows its words */
            assert_int_equal(x[i] == bos, i % T == 0 && !o.no_bos);
            if ((i + 1) % T)
                assert_int_equal(x[i + 1], y[i]);
        }
        double per_token = gm_data_bytes_per_token(d);
        assert_true(k / 2 == 0 ? per_token > 2 && per_token < 8 : per_token == 1);
        gm_data_free(d);
    }
    gm_data *a = open_data(&(gm_data_options){.source = "stories", .context = 600});
    gm_data *b = open_data(&(gm_data_options){.source = "stories", .context = 600, .tokens = "chars"});
    expect_pure(a); /* longer than a story: goes on with the next */
    assert_string_not_equal(gm_data_identity(a), gm_data_identity(b));
    gm_data_free(a);
    gm_data_free(b);
    gm_data_options o = {.source = "stories", .context = 64, .keep_case = true};
    expect_refused(&o, GM_EINVAL, "--keep-case");
    o = (gm_data_options){.source = "stories", .context = 64, .vocab = 10};
    expect_refused(&o, GM_EINVAL, "--vocab");
}

static void stories_settle(void **state) {
    (void)state;
    gm_data *d = open_data(&(gm_data_options){.source = "stories", .context = 64});
    int32_t x[64], y[64];
    int64_t allocations = gm_alloc_count();
    for (int i = 0; i < 100; i++)
        gm_data_train(d, 2, i, 1, x, y);
    assert_int_equal(gm_alloc_count(), allocations);
    gm_data_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_never_see_validation),
        cmocka_unit_test(sequences_begin_as_asked),
        cmocka_unit_test(windows_are_the_text),
        cmocka_unit_test(text_is_pure_and_thread_safe),
        cmocka_unit_test(token_files_are_their_text),
        cmocka_unit_test(altered_token_files_are_refused),
        cmocka_unit_test(bad_sources_are_refused),
        cmocka_unit_test(the_advice_is_good),
        cmocka_unit_test(odd_texts_work),
        cmocka_unit_test(a_given_tokenizer_is_used),
        cmocka_unit_test(defaults_are_one_table),
        cmocka_unit_test(stories_are_a_stream),
        cmocka_unit_test(stories_settle),
    };
    return cmocka_run_group_tests_name("data", tests, setup, teardown);
}
