/* encoder.c -- a text on its way through a subword tokenizer: added tokens, rewriting, cutting, model. Words that come again (most do) are
 * looked up. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

/* ---- words seen before ------------------------------------------------------------------------------------------------------------- */

enum { WORD_MAX = 96 /* bytes */, SLOTS_MIN = 1 << 10, SLOTS_MAX = 1 << 17 };

typedef struct word {
    uint64_t hash;
    uint32_t text, ids; /* places in the memory's pools */
    uint16_t size, count;
    bool used;
} word;

typedef struct memory {
    word *slots;
    uint32_t mask, used;
    gm_text texts;
    gm_ids ids;
} memory;

static uint64_t hash_of(const char *text, size_t size) {
    uint64_t h = size * 0x9e3779b97f4a7c15u, w;
    for (; size >= 8; size -= 8, text += 8) {
        memcpy(&w, text, 8);
        h = (h ^ w) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, text, size);
    h = (h ^ w) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static word *word_of(const memory *m, uint64_t hash, const char *text, size_t size) {
    for (uint32_t i = (uint32_t)hash;; i++) {
        word *w = &m->slots[i & m->mask];
        if (!w->used || (w->hash == hash && w->size == size && memcmp(m->texts.data + w->text, text, size) == 0))
            return w;
    }
}

/* Room for one more: larger until SLOTS_MAX, then everything is forgotten. Without memory it stays as small as it is. */
static bool memory_room(memory *m) {
    if (m->slots && 2 * m->used < m->mask)
        return true;
    uint32_t count = m->slots ? m->mask + 1 : SLOTS_MIN / 4;
    if (count == SLOTS_MAX) {
        memset(m->slots, 0, count * sizeof *m->slots);
        m->used = 0;
        m->texts.size = 0;
        m->ids.count = 0;
        return true;
    }
    word *slots = gm_alloc(4 * count, sizeof *slots), *old = m->slots;
    if (!slots)
        return false;
    m->slots = slots;
    m->mask = 4 * count - 1;
    for (uint32_t i = 0; old && i < count; i++) {
        if (old[i].used)
            *word_of(m, old[i].hash, m->texts.data + old[i].text, old[i].size) = old[i];
    }
    gm_free(old);
    return true;
}

/* ---- the encoder ----------------------------------------------------------------------------------------------------------------------
 */

struct gm_encoder {
    const gm_tokenizer *t;
    gm_ids *ids;
    gm_text rewritten[2];
    gm_text pieces[GM_CUTS_MAX]; /* with prefixes or marks */
    gm_text lattice;
    gm_joiner joiner;
    memory memory;
    bool no_memory, gave_up;
};

gm_status gm_encoder_create(gm_encoder **out, const gm_tokenizer *t, gm_error *err) {
    gm_encoder *e = *out = gm_alloc(1, sizeof *e);
    if (!e)
        return gm_fail_memory(err, sizeof *e);
    e->t = t;
    return GM_OK;
}

void gm_encoder_free(gm_encoder *e) {
    if (!e)
        return;
    for (int i = 0; i < 2; i++)
        gm_text_free(&e->rewritten[i]);
    for (int i = 0; i < GM_CUTS_MAX; i++)
        gm_text_free(&e->pieces[i]);
    gm_text_free(&e->lattice);
    free(e->joiner.symbols);
    free(e->joiner.heap);
    gm_free(e->memory.slots);
    gm_text_free(&e->memory.texts);
    free(e->memory.ids.data);
    gm_free(e);
}

static void model(gm_encoder *e, const char *text, size_t size) {
    bool ok = false;
    switch (e->t->subwords->model) {
    case GM_MODEL_BPE:
        ok = gm_bpe_encode(e->t, &e->joiner, text, size, e->ids);
        break;
    case GM_MODEL_UNIGRAM:
        ok = gm_unigram_encode(e->t, &e->lattice, text, size, e->ids);
        break;
    case GM_MODEL_WORDPIECE:
        ok = gm_wordpiece_encode(e->t, text, size, e->ids);
        break;
    }
    e->no_memory = e->no_memory || !ok;
}

/* One piece. */
static void encode_word(gm_encoder *e, const char *text, size_t size) {
    memory *m = &e->memory;
    if (size > WORD_MAX || !memory_room(m)) {
        model(e, text, size);
        return;
    }
    uint64_t hash = hash_of(text, size);
    word *w = word_of(m, hash, text, size);
    if (w->used) {
        for (uint32_t i = 0; i < w->count; i++)
            e->no_memory = !gm_ids_push(e->ids, m->ids.data[w->ids + i]) || e->no_memory;
        return;
    }
    int64_t before = e->ids->count;
    model(e, text, size);
    int64_t count = e->ids->count - before;
    *w = (word){hash, (uint32_t)m->texts.size, (uint32_t)m->ids.count, (uint16_t)size, (uint16_t)count, true};
    m->used++;
    gm_text_bytes(&m->texts, text, size);
    bool ok = !m->texts.failed;
    for (int64_t i = before; ok && i < e->ids->count; i++)
        ok = gm_ids_push(&m->ids, e->ids->data[i]);
    e->no_memory = e->no_memory || !ok;
}

/* ---- cutting ----------------------------------------------------------------------------------------------------------------------------
 */

/* A piece with what a step puts before it, and Metaspace's marks. The text is copied only where it changes. */
static void prepare(gm_encoder *e, int step, const char **text, size_t *size, bool first) {
    const gm_cut *c = &e->t->subwords->cuts[step];
    const char *prefix = c->metaspace ? c->text : " ";
    size_t n = strlen(prefix);
    bool add = c->prefix == GM_PREFIX_ALWAYS || (c->prefix == GM_PREFIX_FIRST && first);
    bool has = **text == ' ' || (*size >= n && memcmp(*text, prefix, n) == 0);
    if (!c->metaspace && (!add || has))
        return;
    gm_text *own = &e->pieces[step];
    own->size = 0;
    if (add && !has)
        gm_text_bytes(own, prefix, n);
    for (size_t at = 0; at < *size;) {
        const char *space = c->metaspace ? memchr(*text + at, ' ', *size - at) : NULL;
        size_t to = space ? (size_t)(space - *text) : *size;
        gm_text_bytes(own, *text + at, to - at);
        if (space)
            gm_text_bytes(own, prefix, n);
        at = to + (space != NULL);
    }
    *text = own->data;
    *size = own->size;
}

/* The text's matches and what lies between them, joined as the step says, each on to the next step. */
static void cut(gm_encoder *e, int step, const char *text, size_t size, bool first) {
    const gm_subwords *s = e->t->subwords;
    if (size == 0 || e->no_memory || e->gave_up)
        return;
    if (step == s->cut_count) {
        encode_word(e, text, size);
        return;
    }
    const gm_cut *c = &s->cuts[step];
    if (c->metaspace || c->prefix != GM_PREFIX_NEVER)
        prepare(e, step, &text, &size, first);
    if (e->pieces[step].failed) {
        e->no_memory = true;
        return;
    }
    size_t at = 0, from = 0, to = 0, held = 0, held_end = 0; /* held: a piece that may still grow */
    bool found = false, held_match = false, last_match = false;
    while (at < size) {
        if (!found) { /* look for the next match */
            found = gm_cut_match(c, text, size, at, &from, &to, &e->gave_up);
            if (!found)
                from = to = size;
        }
        bool match = found && at == from;
        size_t end = match ? to : from;
        bool is = match != c->invert;
        switch (c->use) {
        case GM_USE_ISOLATED:
            cut(e, step + 1, text + at, end - at, first && at == 0);
            break;
        case GM_USE_REMOVED:
            if (!is)
                cut(e, step + 1, text + at, end - at, first && at == 0);
            break;
        case GM_USE_CONTIGUOUS:
        case GM_USE_WITH_PREVIOUS:
        case GM_USE_WITH_NEXT: {
            bool grows = held_end > held && (c->use == GM_USE_CONTIGUOUS      ? held_match == is
                                             : c->use == GM_USE_WITH_PREVIOUS ? is && !last_match
                                                                              : held_match && !is);
            if (!grows) {
                cut(e, step + 1, text + held, held_end - held, first && held == 0);
                held = at;
            }
            held_match = grows && c->use != GM_USE_CONTIGUOUS ? false : is;
            held_end = end;
            break;
        }
        }
        last_match = is;
        at = end;
        found = found && !match;
    }
    cut(e, step + 1, text + held, held_end - held, first && held == 0);
}

/* ---- added tokens and rewriting ---------------------------------------------------------------------------------------------------------
 */

static bool word_at(const char *text, size_t size, size_t at, bool before) {
    int n;
    if (before) {
        size_t from = at;
        do
            from--;
        while (from > 0 && at - from < 4 && ((uint8_t)text[from] & 0xc0) == 0x80);
        return gm_char_class(gm_char_at(text + from, at - from, &n)) & GM_CHAR_WORD;
    }
    return gm_char_class(gm_char_at(text + at, size - at, &n)) & GM_CHAR_WORD;
}

/* How far white space reaches to the left of `at`. */
static size_t space_left(const char *text, size_t at) {
    int n;
    while (at > 0) {
        size_t from = at - 1;
        while (from > 0 && at - from < 4 && ((uint8_t)text[from] & 0xc0) == 0x80)
            from--;
        if (!(gm_char_class(gm_char_at(text + from, at - from, &n)) & GM_CHAR_SPACE))
            break;
        at = from;
    }
    return at;
}

static size_t space_right(const char *text, size_t size, size_t at) {
    int n;
    while (at < size && gm_char_class(gm_char_at(text + at, size - at, &n)) & GM_CHAR_SPACE)
        at += (size_t)n;
    return at;
}

typedef void section(gm_encoder *e, const char *text, size_t size, bool first, bool fresh);

/* Added tokens become ids, what lies between goes on to `next`. first: the text's own beginning; fresh: not a cut text's continuation. */
static void take_added(gm_encoder *e, const gm_trie *trie, const char *text, size_t size, bool first, bool fresh, section *next) {
    size_t done = 0;
    for (size_t at = 0, n; at < size && !e->no_memory; at++) {
        if (!trie->any[(uint8_t)text[at]])
            continue;
        int32_t which = gm_trie_longest(trie, text + at, size - at, &n);
        if (which < 0)
            continue;
        const gm_added *a = &e->t->subwords->added[which];
        size_t from = at, to = at + n;
        at = to - 1;
        if (a->single_word && ((from > 0 && word_at(text, size, from, true)) || (to < size && word_at(text, size, to, false))))
            continue;
        if (a->lstrip)
            from = GM_MAX(space_left(text, from), done);
        if (a->rstrip)
            to = space_right(text, size, to);
        if (done < from)
            next(e, text + done, from - done, first && done == 0, fresh || done > 0);
        e->no_memory = !gm_ids_push(e->ids, a->id) || e->no_memory;
        done = to;
    }
    if (done < size)
        next(e, text + done, size - done, first && done == 0, fresh || done > 0);
}

static void cut_section(gm_encoder *e, const char *text, size_t size, bool first, bool fresh) {
    (void)fresh;
    cut(e, 0, text, size, first);
}

static void rewrite_section(gm_encoder *e, const char *text, size_t size, bool first, bool fresh) {
    const gm_subwords *s = e->t->subwords;
    for (int i = 0; i < s->rewrite_count; i++) {
        gm_text *out = &e->rewritten[i & 1];
        out->size = 0;
        gm_rewrite_apply(&s->rewrites[i], text, size, fresh, out);
        if (out->failed)
            e->no_memory = true;
        if (out->failed || out->size == 0)
            return;
        text = out->data;
        size = out->size;
    }
    if (s->rewritten_added.nodes)
        take_added(e, &s->rewritten_added, text, size, first, fresh, cut_section);
    else
        cut(e, 0, text, size, first);
}

static void encode_text(gm_encoder *e, const char *text, size_t size, bool begins) {
    const gm_subwords *s = e->t->subwords;
    if (s->raw_added.nodes)
        take_added(e, &s->raw_added, text, size, begins, begins, rewrite_section);
    else if (size)
        rewrite_section(e, text, size, begins, begins);
}

/* Bytes that are no UTF-8: pieces of their own, of byte-level tokenizers. */
static void encode_bytes(gm_encoder *e, const char *text, size_t size, bool begins) {
    for (size_t at = 0; at < size;) {
        size_t fault = at + gm_utf8_fault(text + at, size - at), end = fault;
        encode_text(e, text + at, fault - at, begins && at == 0);
        for (int n; end < size && gm_char_at(text + end, size - end, &n) < 0;)
            end++;
        if (end > fault)
            encode_word(e, text + fault, end - fault);
        at = end;
    }
}

static gm_status encode_keys(const gm_tokenizer *t, const char *text, size_t size, gm_ids *ids, gm_error *err) {
    gm_splitter s = {.text = (const uint8_t *)text, .size = size, .kind = t->kind, .lower = t->lower};
    gm_split found;
    while ((found = gm_splitter_next(&s)) == GM_SPLIT_KEY) {
        int32_t id = gm_tokenizer_find(t, s.key, s.key_size);
        if (!gm_ids_push(ids, id < 0 ? t->unk : id))
            return gm_fail_memory(err, (size_t)ids->capacity * 2 * sizeof(int32_t));
    }
    return found == GM_SPLIT_INVALID ? gm_splitter_fail(&s, err) : GM_OK;
}

gm_status gm_encoder_append(gm_encoder *e, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err) {
    const gm_subwords *s = e->t->subwords;
    if (!s)
        return encode_keys(e->t, text, size, ids, err);
    e->ids = ids;
    e->no_memory = e->gave_up = false;
    if (s->any_bytes) {
        bool stray = begins && size && ((uint8_t)text[0] & 0xc0) == 0x80; /* which must not become part of the space before it */
        if (stray)
            encode_word(e, " ", 1);
        encode_text(e, text, size, begins && !stray);
    } else if (s->byte_level)
        encode_bytes(e, text, size, begins);
    else {
        size_t fault = gm_utf8_fault(text, size);
        if (fault < size)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)fault, "invalid UTF-8 at byte %zu (0x%02x); convert the text to UTF-8", fault,
                              (uint8_t)text[fault]);
        encode_text(e, text, size, begins);
    }
    if (e->gave_up)
        return gm_fail(err, GM_EUNSUPPORTED, "the tokenizer's split pattern needs too many steps on this text");
    return e->no_memory ? gm_fail_memory(err, size) : GM_OK;
}

gm_status gm_tokenizer_append(const gm_tokenizer *t, const char *text, size_t size, bool begins, gm_ids *ids, gm_error *err) {
    if (!t->subwords)
        return encode_keys(t, text, size, ids, err);
    gm_encoder *e;
    GM_TRY(gm_encoder_create(&e, t, err));
    gm_status status = gm_encoder_append(e, text, size, begins, ids, err);
    gm_encoder_free(e);
    return status;
}

/* A space after a visible ASCII character, which is not an added token's last: what follows those begins anew. */
static bool may_cut(const gm_subwords *s, char before, char after) {
    return s->local ? after == ' ' && before > ' ' && before < 0x7f && !s->added_ends[(uint8_t)before] : before == '\n';
}

size_t gm_tokenizer_cut(const gm_tokenizer *t, const char *text, size_t size, size_t at) {
    if (!t->subwords || at == 0)
        return at;
    while (at < size && !may_cut(t->subwords, text[at - 1], text[at]))
        at++;
    return at;
}
