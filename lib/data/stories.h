/* stories.h -- English by grammar: the built-in `stories` stream. One key, one story; no key, no file, no download is needed twice.
 * Design, statistics and a sample: docs/stories.md. */
#ifndef GM_STORIES_H
#define GM_STORIES_H

#include "base.h"

/* gm_story_write -- appends one whole story: ASCII, ordinary capitals, paragraphs end with a newline, the last one too.
 * A pure function of key (through gm_rng_*): same text on every machine, from any thread. Errors: only out->failed.
 * Test: tests/data/test_stories.c */
void gm_story_write(gm_text *out, uint64_t key);

/* gm_story_words -- appends every word and punctuation mark a story can hold, lower-cased, each once, one per line, in an order that
 * depends on the grammar alone: a vocabulary without scanning. A word is a run of letters with the apostrophes between them
 * (don't, o'clock, anna's); any other character but white space stands alone. Test: every token of 2,000 stories is listed. */
void gm_story_words(gm_text *out);

#endif
