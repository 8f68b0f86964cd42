/* unigram.c -- the cut of one piece into tokens with the highest sum of scores (Viterbi): at every place the best token that ends there. */
#include "subwords.h"

#include <string.h>

typedef struct place {
    double score;
    int32_t from, id; /* from -1: not reached */
} place;

static double rounded(const gm_subwords *s, double x) {
    return s->single ? (double)(float)x : x;
}

static void offer(const gm_subwords *s, place *end, double score, size_t from, int32_t id) {
    score = rounded(s, score);
    if (end->from < 0 || score > end->score)
        *end = (place){score, (int32_t)from, id};
}

static bool push_unknown(const gm_tokenizer *t, const char *text, size_t size, gm_ids *ids, bool again) {
    const gm_subwords *s = t->subwords;
    if (!s->byte_fallback)
        return t->unk < 0 || (again && s->fuse_unknown) || gm_ids_push(ids, t->unk);
    bool ok = true;
    for (size_t i = 0; i < size; i++)
        ok = ok && gm_ids_push(ids, s->byte_ids[(uint8_t)text[i]]);
    return ok;
}

bool gm_unigram_encode(const gm_tokenizer *t, gm_text *scratch, const char *text, size_t size, gm_ids *ids) {
    const gm_subwords *s = t->subwords;
    if (size >= INT32_MAX)
        return false;
    scratch->size = 0;
    static const place none = {0, -1, -1};
    for (size_t i = 0; i <= size; i++)
        gm_text_bytes(scratch, &none, sizeof none);
    if (scratch->failed)
        return false;
    place *ends = (place *)(void *)scratch->data; /* malloc'ed: aligned */
    for (size_t at = 0; at < size;) {
        int n;
        gm_char_at(text + at, size - at, &n);
        bool single = false; /* is the character a token? */
        uint32_t node = 0;
        for (size_t to = at; to < size && (node = gm_trie_step(&s->pieces, node, (uint8_t)text[to])) != 0;) {
            int32_t id = s->pieces.values[node];
            size_t length = ++to - at;
            if (id < 0)
                continue;
            bool whole = t->types[id] == GM_TOKEN_USER_DEFINED; /* worth more than any other cut */
            offer(s, &ends[to], (whole ? (double)length * s->top_score - 0.1 : t->scores[id]) + ends[at].score, at, id);
            single = single || length == (size_t)n;
        }
        if (!single)
            offer(s, &ends[at + (size_t)n], s->unknown_score + ends[at].score, at, -2);
        at += (size_t)n;
    }
    /* Back along the best cut, then forwards again. */
    int32_t next = -1;
    for (int32_t end = (int32_t)size; end > 0;) {
        int32_t from = ends[end].from;
        ends[end].from = next; /* now: where the one after it ends */
        next = end;
        end = from;
    }
    bool ok = true, again = false;
    for (int32_t from = 0; ok && next > 0; from = next, next = ends[next].from) {
        int32_t id = ends[next].id;
        ok = id >= 0 ? gm_ids_push(ids, id) : push_unknown(t, text + from, (size_t)(next - from), ids, again);
        again = id < 0;
    }
    return ok;
}
