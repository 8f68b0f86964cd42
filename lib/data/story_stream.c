/* story_stream.c -- source "stories": the story grammar's text as sequences.
 *
 * Sequence i of a seed tells stories of its own: their keys come from (seed, i, part), so no two sequences share one. It begins at a token
 * of the first story drawn uniformly, one in four at its first word, and goes on with the next stories, an empty line between two, until
 * it is full. Validation does the same from keys of its own. */
#include "data.h"
#include "stories.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* One sequence's stories as text and tokens. */
typedef struct pages {
    gm_text text;
    gm_ids ids;
    gm_encoder *encoder;
} pages;

typedef struct story_stream {
    pages kept;       /* reused from call to call by the thread that holds `busy`; another one at the same time brings its own */
    atomic_flag busy; /* so that making a sequence allocates nothing once the buffers have grown */
} story_stream;

static void pages_free(pages *p) {
    gm_text_free(&p->text);
    free(p->ids.data);
    gm_encoder_free(p->encoder);
}

/* Appends story `part` of the sequence's key. */
static bool tell(const gm_tokenizer *t, pages *p, uint64_t key, uint64_t part) {
    p->text.size = 0;
    if (part > 0)
        gm_text_bytes(&p->text, "\n", 1);
    gm_story_write(&p->text, gm_rng_u64(key, 2 + part));
    if (p->text.failed || (!p->encoder && gm_encoder_create(&p->encoder, t, NULL) != GM_OK))
        return false;
    return gm_encoder_append(p->encoder, p->text.data, p->text.size, part == 0, &p->ids, NULL) == GM_OK;
}

static bool tell_enough(const gm_data *d, pages *p, uint64_t key, int32_t *x, int32_t *last) {
    int64_t T = d->context, need = T + !d->bos;
    p->ids.count = 0;
    if (!tell(d->tokenizer, p, key, 0))
        return false;
    int64_t from = gm_rng_below(key, 0, 4) == 0 ? 0 : gm_rng_below(key, 1, p->ids.count);
    for (uint64_t part = 1; p->ids.count - from < need; part++) {
        if (!tell(d->tokenizer, p, key, part))
            return false;
    }
    int64_t head = d->bos;
    if (head)
        x[0] = d->tokenizer->bos;
    memcpy(x + head, p->ids.data + from, (size_t)(T - head) * sizeof *x);
    *last = p->ids.data[from + T - head];
    return true;
}

static void stories_fill(const gm_data *d, bool validation, uint64_t seed, int64_t index, int32_t *x, int32_t *last) {
    story_stream *s = d->source;
    uint64_t key = gm_stream_key("stories", validation, seed, index);
    pages own = {0};
    bool reuse = !atomic_flag_test_and_set(&s->busy);
    pages *p = reuse ? &s->kept : &own;
    if (!tell_enough(d, p, key, x, last)) { /* no memory for a few kB of text: x is valid, there is no target */
        for (int64_t i = 0; i < d->context; i++)
            x[i] = 0;
        *last = -1;
        pages_free(p);
        *p = (pages){0};
    }
    if (reuse)
        atomic_flag_clear(&s->busy);
    pages_free(&own);
}

static void stories_close(void *source) {
    story_stream *s = source;
    pages_free(&s->kept);
    gm_free(s);
}

/* The grammar's own list of words; straight quotes stand there closing, so one that opens is added. */
static gm_status words_tokenizer(gm_tokenizer **out, gm_error *err) {
    gm_text list = {0};
    gm_story_words(&list);
    gm_text_add(&list, "\"a");
    gm_status status = list.failed ? gm_fail_memory(err, list.size) : gm_tokenizer_build(out, "words", list.data, list.size, 0, true, err);
    gm_text_free(&list);
    return status;
}

/* Every printable ASCII character and the newline: what a story can hold. */
static gm_status chars_tokenizer(gm_tokenizer **out, gm_error *err) {
    char text[1 + 0x7f - 0x20] = "\n";
    for (int c = 0x20; c < 0x7f; c++)
        text[1 + c - 0x20] = (char)c;
    return gm_tokenizer_build(out, "chars", text, sizeof text, 0, false, err);
}

/* Trained on 2,000 stories of its own. */
static gm_status bpe_tokenizer(gm_tokenizer **out, int64_t vocab, gm_error *err) {
    gm_text text = {0};
    for (int64_t i = 0; i < 2000; i++)
        gm_story_write(&text, gm_stream_key("stories", false, 0, i));
    gm_status status =
        text.failed ? gm_fail_memory(err, text.size) : gm_tokenizer_build(out, "bpe", text.data, text.size, vocab, false, err);
    gm_text_free(&text);
    return status;
}

gm_status gm_stories_open(gm_data *d, const gm_data_options *o, gm_error *err) {
    story_stream *s = gm_alloc(1, sizeof *s);
    if (!s)
        return gm_fail_memory(err, sizeof *s);
    atomic_flag_clear(&s->busy);
    d->source = s;
    d->close = stories_close;
    d->fill = stories_fill;
    const char *kind = o->tokens ? o->tokens : gm_data_default_of("stories")->tokens;
    if (o->tokenizer)
        GM_TRY(gm_data_load_tokenizer(&d->tokenizer, o, err));
    else if (strcmp(kind, "words") == 0)
        GM_TRY(words_tokenizer(&d->tokenizer, err));
    else if (strcmp(kind, "chars") == 0)
        GM_TRY(chars_tokenizer(&d->tokenizer, err));
    else if (strcmp(kind, "bpe") == 0)
        GM_TRY(bpe_tokenizer(&d->tokenizer, o->vocab ? o->vocab : 1024, err));
    else
        GM_TRY(gm_tokenizer_build(&d->tokenizer, kind, NULL, 0, 0, false, err));
    if (!o->tokenizer && d->tokenizer->kind == GM_TOKENS_WORDS && (o->keep_case || (o->vocab && o->vocab < d->tokenizer->vocab)))
        return gm_fail(err, GM_EINVAL, "the stories have a fixed vocabulary of %d lower-case words and marks; leave %s out",
                       d->tokenizer->vocab, o->keep_case ? "--keep-case" : "--vocab");
    d->validation_count = GM_DATA_STREAM_VALIDATION;
    d->train_tokens = -1;
    /* A sample of validation stories: bytes per token, and a hash that changes when the grammar does. */
    pages *p = &s->kept;
    uint64_t hash = d->tokenizer->hash, bytes = 0;
    for (int64_t i = 0; i < 64; i++) {
        if (!tell(d->tokenizer, p, gm_stream_key("stories", true, 0, i), 0))
            return gm_fail_memory(err, p->text.size);
        hash = gm_hash(p->text.data, p->text.size, hash);
        bytes += p->text.size;
    }
    d->bytes_per_token = (double)bytes / (double)p->ids.count;
    snprintf(d->identity, sizeof d->identity, "stories %016llx, %s %d%s", (unsigned long long)hash, gm_tokenizer_kind(d->tokenizer),
             d->tokenizer->vocab, d->bos ? ", bos" : "");
    return GM_OK;
}
