/* test_stories.c -- the built-in stories: nothing but listed words, sound English mechanics, stories that need their own beginning.
 * Run alone it prints the statistics that docs/stories.md quotes. The splitter and the checks here are the test's own. */
#include "stories.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PINNED 0x4439d86e03074ec9u

enum { MANY = 20000, SOME = 2000, WORDS_MAX = 4096, TABLE = 1 << 13 };

/* ---- a small dictionary of lower-cased words */
typedef struct dictionary {
    char word[WORDS_MAX][32];
    int64_t count[WORDS_MAX];
    int table[TABLE], size;
} dictionary;

static int dictionary_find(dictionary *d, const char *word, size_t n, bool add) {
    assert_true(n < 32);
    char key[32] = {0};
    for (size_t i = 0; i < n; i++)
        key[i] = (char)tolower((unsigned char)word[i]);
    uint64_t h = gm_hash(key, n, 0);
    for (;; h++) {
        int i = d->table[h % TABLE] - 1;
        if (i < 0) {
            if (!add)
                return -1;
            assert_true(d->size < WORDS_MAX);
            memcpy(d->word[d->size], key, 32);
            d->table[h % TABLE] = d->size + 1;
            return d->size++;
        }
        if (!strcmp(d->word[i], key))
            return i;
    }
}

static size_t token_size(const char *text) {
    size_t n = 0;
    while (isalpha((unsigned char)text[n]) || (n && text[n] == '\'' && isalpha((unsigned char)text[n + 1])))
        n++;
    return n ? n : 1;
}

/* The next token from *at on; its size, 0 at the end. */
static size_t next_token(const char **at) {
    while (**at == ' ' || **at == '\n')
        ++*at;
    return **at ? token_size(*at) : 0;
}

static void story(gm_text *t, int i) {
    t->size = 0;
    gm_story_write(t, gm_rng_key((uint64_t)i, "test"));
    assert_false(t->failed);
}

static dictionary *listed_words(void) {
    dictionary *d = calloc(1, sizeof *d);
    gm_text t = {0};
    gm_story_words(&t);
    assert_false(t.failed);
    for (char *line = t.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        int before = d->size;
        assert_int_equal(dictionary_find(d, line, (size_t)(end - line), true), before); /* each once */
        for (char *c = line; c < end; c++)
            assert_false(isupper((unsigned char)*c) || isspace((unsigned char)*c));
        assert_int_equal(token_size(line), end - line);
    }
    gm_text_free(&t);
    return d;
}

static void test_vocabulary(void **state) {
    (void)state;
    dictionary *d = listed_words();
    assert_in_range(d->size, 1000, 2000);
    gm_text t = {0};
    int64_t tokens = 0;
    for (int i = 0; i < MANY; i++) {
        story(&t, i);
        const char *at = t.data;
        for (size_t n; (n = next_token(&at)); at += n) {
            int w = dictionary_find(d, at, n, false);
            if (w < 0)
                fail_msg("story %d: \"%.*s\" is not in gm_story_words", i, (int)n, at);
            d->count[w]++;
            tokens++;
        }
    }
    int unseen = 0;
    double entropy = 0;
    for (int w = 0; w < d->size; w++) {
        unseen += d->count[w] == 0;
        double p = (double)d->count[w] / (double)tokens;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    print_message("words and marks: %d, never used in %d stories: %d; unigram entropy %.2f nats\n", d->size, MANY, unseen, entropy);
    assert_true(unseen * 100 <= d->size);
    assert_true(entropy > 5);
    gm_text_free(&t);
    free(d);
}

static void test_pure_and_fresh(void **state) {
    (void)state;
    gm_text t = {0}, again = {0};
    enum { SLOTS = 1 << 16 };
    uint64_t *seen = calloc(SLOTS, sizeof *seen);
    for (int i = 0; i < MANY; i++) {
        story(&t, i);
        uint64_t h = gm_hash(t.data, t.size, 1), slot = h;
        for (; seen[slot % SLOTS]; slot++)
            assert_true(seen[slot % SLOTS] != h); /* no story twice */
        seen[slot % SLOTS] = h;
    }
    free(seen);
    for (int i = 0; i < 50; i++) { /* appended to anything, the same bytes */
        story(&t, i);
        size_t before = again.size;
        gm_story_write(&again, gm_rng_key((uint64_t)i, "test"));
        assert_int_equal(again.size - before, t.size);
        assert_memory_equal(again.data + before, t.data, t.size);
    }
    uint64_t stream = 0; /* recorded results stand on these very stories: whoever changes the grammar changes this number knowingly */
    for (int i = 0; i < 1000; i++) {
        story(&t, i);
        stream = gm_hash(t.data, t.size, stream);
    }
    if (stream != PINNED)
        fail_msg("the stories have changed: their first thousand hash to 0x%016llx", (unsigned long long)stream);
    uint64_t serial[64], parallel[64];
    for (int i = 0; i < 64; i++) {
        story(&t, i);
        serial[i] = gm_hash(t.data, t.size, 0);
    }
#pragma omp parallel for num_threads(4)
    for (int i = 0; i < 64; i++) {
        gm_text own = {0};
        gm_story_write(&own, gm_rng_key((uint64_t)i, "test"));
        parallel[i] = gm_hash(own.data, own.size, 0);
        gm_text_free(&own);
    }
    assert_memory_equal(serial, parallel, sizeof serial);
    gm_text_free(&t);
    gm_text_free(&again);
}

static bool starts_with_any(const char *word, const char *const *list) {
    for (; *list; list++)
        if (!strncmp(word, *list, strlen(*list)))
            return true;
    return false;
}

static void check_article(int i, const char *at, size_t n) {
    static const char *const consonant[] = {"one", "once", "use", "uni", NULL}, *const vowel[] = {"hour", "honest", NULL};
    bool a = n == 1 && (at[0] == 'a' || at[0] == 'A'), an = n == 2 && (at[0] == 'a' || at[0] == 'A') && at[1] == 'n';
    if (!a && !an)
        return;
    const char *next = at + n + 1;
    bool sounds = (strchr("aeiouAEIOU", *next) && !starts_with_any(next, consonant)) || starts_with_any(next, vowel);
    if (at[n] != ' ' || !isalpha((unsigned char)*next) || sounds != an)
        fail_msg("story %d: wrong article: %.30s", i, at);
}

static void test_mechanics(void **state) {
    (void)state;
    gm_text t = {0};
    for (int i = 0; i < SOME; i++) {
        story(&t, i);
        assert_true(t.size && t.data[t.size - 1] == '\n');
        int quotes = 0;
        for (size_t k = 0; k < t.size; k++) {
            char c = t.data[k], next = t.data[k + 1], before = k ? t.data[k - 1] : '\n';
            if (!(isalpha((unsigned char)c) || strchr(" \n,.!?;:\"'", c)))
                fail_msg("story %d: unexpected character '%c' after %.30s", i, c, t.data + (k > 30 ? k - 30 : 0));
            quotes += c == '"';
            if (c == '\n' && (quotes % 2 || !strchr(".!?\":", before)))
                fail_msg("story %d: a paragraph ends badly: %.30s", i, t.data + (k > 30 ? k - 30 : 0));
            if ((strchr(" \n", c) && strchr(" \n,.!?;:", next) && next) || (strchr(",.!?;:", c) && strchr(",.!?;:", next) && next) ||
                (strchr(",.!?;:", c) && isalpha((unsigned char)next)))
                fail_msg("story %d: marks or spaces collide: %.30s", i, t.data + (k > 15 ? k - 15 : 0));
            if ((before == '\n' || (k > 1 && before == ' ' && t.data[k - 2] == '.')) && !(isupper((unsigned char)c) || c == '"'))
                fail_msg("story %d: no capital: %.30s", i, t.data + k);
        }
        const char *at = t.data;
        for (size_t n; (n = next_token(&at)); at += n)
            check_article(i, at, n);
    }
    gm_text_free(&t);
}

static const char *last_paragraph(const gm_text *t) {
    const char *p = t->data + t->size - 1;
    while (p > t->data && p[-1] != '\n')
        p--;
    return p;
}

static void test_statistics(void **state) {
    (void)state;
    gm_text t = {0};
    double words = 0, words2 = 0, sentences = 0, length2 = 0, commas = 0, quotes = 0, paragraphs = 0, bytes = 0;
    int shortest = 1 << 30, longest = 0;
    double start = gm_seconds();
    for (int i = 0; i < SOME; i++)
        story(&t, i);
    double seconds = gm_seconds() - start;
    for (int i = 0; i < SOME; i++) {
        story(&t, i);
        bytes += (double)t.size;
        int n = 0, sentence = 0;
        for (size_t k = 0; k < t.size; k++) {
            commas += t.data[k] == ',';
            quotes += t.data[k] == '"';
            paragraphs += t.data[k] == '\n';
        }
        const char *at = t.data;
        for (size_t size; (size = next_token(&at)); at += size) {
            if (isalpha((unsigned char)*at)) {
                n++;
                sentence++;
            } else if (strchr(".!?", *at) && sentence) {
                sentences++;
                length2 += (double)sentence * sentence;
                sentence = 0;
            }
        }
        words += n;
        words2 += (double)n * n;
        shortest = GM_MIN(shortest, n);
        longest = GM_MAX(longest, n);
    }
    double mean = words / SOME, sd = sqrt(words2 / SOME - mean * mean), length = words / sentences;
    double length_sd = sqrt(length2 / sentences - length * length);
    print_message("words per story: mean %.0f, sd %.0f, %d to %d; paragraphs %.1f; sentences of %.1f words (sd %.1f)\n", mean, sd, shortest,
                  longest, paragraphs / SOME, length, length_sd);
    print_message("per 100 words: %.1f commas, %.1f quotations; %.1f MB/s\n", 100 * commas / words, 50 * quotes / words,
                  bytes / seconds / 1e6);
    assert_true(mean >= 150 && mean <= 450 && shortest >= 150 && longest <= 750);
    assert_true(length >= 7 && length <= 16 && length_sd >= 4);
    assert_true(commas / words >= 0.05 && quotes / words >= 0.03);
    assert_true(paragraphs / SOME >= 4);
    gm_text_free(&t);
}

/* The last paragraph must follow from its own story: its capitalised names occur earlier, and its rarer words occur earlier in this story
 * far more often than in another one. */
static void test_ending_needs_beginning(void **state) {
    (void)state;
    static const char *const calendar[] = {"Monday",  "Tuesday",   "Wednesday", "Thursday", "Friday",   "Saturday", "Sunday",
                                           "January", "February",  "March",     "April",    "May",      "June",     "July",
                                           "August",  "September", "October",   "November", "December", "I",        NULL};
    dictionary *stories = listed_words(); /* how many stories hold the word */
    int *last = calloc(WORDS_MAX, sizeof *last), *other = calloc(WORDS_MAX, sizeof *other);
    gm_text t = {0};
    for (int i = 0; i < SOME; i++) {
        story(&t, i);
        const char *at = t.data;
        for (size_t n; (n = next_token(&at)); at += n) {
            int w = dictionary_find(stories, at, n, false);
            if (last[w] != i + 1)
                stories->count[w]++;
            last[w] = i + 1;
        }
    }
    double rare = 0, here = 0, elsewhere = 0;
    memset(last, 0, WORDS_MAX * sizeof *last);
    for (int i = 0; i < SOME; i++) {
        story(&t, i);
        const char *ending = last_paragraph(&t), *at = t.data, *before = NULL;
        memcpy(other, last, WORDS_MAX * sizeof *last); /* the story before */
        for (size_t n; (n = next_token(&at)) && at < ending; at += n)
            last[dictionary_find(stories, at, n, false)] = i + 1;
        for (size_t n; (n = next_token(&at)); before = at, at += n) {
            int w = dictionary_find(stories, at, n, false);
            bool name = isupper((unsigned char)*at) && before && isalpha((unsigned char)*before) && !starts_with_any(at, calendar);
            if (name && last[w] != i + 1)
                fail_msg("story %d: \"%.*s\" turns up only in the last paragraph", i, (int)n, at);
            if (stories->count[w] * 5 < SOME) {
                rare++;
                here += last[w] == i + 1;
                elsewhere += other[w] == i;
            }
        }
    }
    print_message(
        "words of the last paragraph that fewer than 1 in 5 stories use: %.0f%% stood earlier in the story, %.0f%% in another story\n",
        100 * here / rare, 100 * elsewhere / rare);
    assert_true(here / rare >= 0.5 && elsewhere / rare <= 0.2);
    gm_text_free(&t);
    free(last);
    free(other);
    free(stories);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary), cmocka_unit_test(test_pure_and_fresh),         cmocka_unit_test(test_mechanics),
        cmocka_unit_test(test_statistics), cmocka_unit_test(test_ending_needs_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
