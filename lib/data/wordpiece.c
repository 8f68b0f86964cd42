/* wordpiece.c -- Bert's tokens: from the left, always the longest key; keys inside a word begin with ##. And its file, vocab.txt. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

bool gm_wordpiece_encode(const gm_tokenizer *t, const char *text, size_t size, gm_ids *ids) {
    const gm_subwords *s = t->subwords;
    int64_t before = ids->count, characters = 0;
    for (size_t i = 0; i < size; i++)
        characters += ((uint8_t)text[i] & 0xc0) != 0x80;
    bool whole = characters <= s->word_max;
    for (size_t at = 0, n; whole && at < size; at += n) {
        int32_t id = gm_trie_longest(at ? &s->inner : &s->pieces, text + at, size - at, &n);
        whole = id >= 0;
        if (whole && !gm_ids_push(ids, id))
            return false;
    }
    if (whole)
        return true;
    ids->count = before;
    return t->unk < 0 || gm_ids_push(ids, t->unk);
}

gm_status gm_wordpiece_fill(gm_tokenizer *t, const char *inner_prefix, int64_t word_max, gm_error *err) {
    gm_subwords *s = t->subwords;
    size_t n = strlen(inner_prefix);
    s->model = GM_MODEL_WORDPIECE;
    s->word_max = word_max;
    s->inner_prefix = gm_copy(inner_prefix, n);
    if (!s->inner_prefix)
        return gm_fail_memory(err, n);
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, id, &size);
        if (gm_tokenizer_find(t, key, size) != id)
            continue;
        gm_trie_add(&s->pieces, key, size, id);
        if (size > n && memcmp(key, inner_prefix, n) == 0)
            gm_trie_add(&s->inner, key + n, size - n, id);
    }
    return GM_OK;
}

/* Bert's text: cleaned, spaces around Chinese characters, accents and case folded where it is uncased; cut at white space and around
 * punctuation. */
static const gm_rewrite_kind bert_steps[] = {GM_REWRITE_CLEAN, GM_REWRITE_SPACE_CJK, GM_REWRITE_NFD, GM_REWRITE_DROP_NONSPACING,
                                             GM_REWRITE_LOWER};
enum { CASED_STEPS = 2 };

bool gm_wordpiece_is_bert(const gm_subwords *s) {
    bool same = (s->rewrite_count == CASED_STEPS || s->rewrite_count == GM_COUNT(bert_steps)) && s->cut_count == 2 &&
                s->cuts[0].match == GM_MATCH_SPACE && s->cuts[0].use == GM_USE_REMOVED && s->cuts[1].match == GM_MATCH_PUNCTUATION &&
                s->cuts[1].use == GM_USE_ISOLATED;
    for (int i = 0; i < s->rewrite_count && same; i++)
        same = s->rewrites[i].kind == bert_steps[i];
    return same && strcmp(s->inner_prefix, "##") == 0;
}

static void add_bert_steps(gm_subwords *s, bool lower) {
    for (int i = 0; i < (lower ? GM_COUNT(bert_steps) : CASED_STEPS); i++)
        s->rewrites[s->rewrite_count++] = (gm_rewrite){.kind = bert_steps[i]};
    s->cuts[s->cut_count++] = (gm_cut){.match = GM_MATCH_SPACE, .use = GM_USE_REMOVED};
    s->cuts[s->cut_count++] = (gm_cut){.match = GM_MATCH_PUNCTUATION, .use = GM_USE_ISOLATED};
}

gm_status gm_wordpiece_make(gm_tokenizer **out, const gm_vocabulary_token *tokens, int64_t count, bool lower, gm_error *err) {
    gm_tokenizer *t;
    gm_status status = GM_OK;
    *out = NULL;
    GM_TRY(gm_tokenizer_begin(&t, GM_TOKENS_WORDPIECE, false, count, err));
    gm_subwords *s = t->subwords = gm_subwords_create();
    if (!s) {
        status = gm_fail_memory(err, sizeof *s);
        goto done;
    }
    add_bert_steps(s, lower);
    s->adds_bos = s->adds_eos = true;
    for (int32_t id = 0; id < count; id++) {
        const gm_vocabulary_token *k = &tokens[id];
        if (k->type == GM_TOKEN_CONTROL || k->type == GM_TOKEN_UNKNOWN) {
            gm_tokenizer_add_hidden(t, k->text, k->size, k->type);
            if (k->size == 0 || memchr(k->text, 0, k->size))
                status = gm_fail(err, GM_EFORMAT, "token %d is empty or holds a zero byte", id);
            else if (!gm_subwords_add(s, (gm_added){.id = id, .special = true}, k->text, k->size))
                status = gm_fail_memory(err, k->size);
        } else if (!gm_tokenizer_add(t, k->text, k->size))
            status = gm_fail(err, GM_EFORMAT, "token %d, '%.*s', is there twice", id, (int)GM_MIN(k->size, (size_t)40), k->text);
        if (status != GM_OK)
            goto done;
        if (k->type == GM_TOKEN_UNKNOWN)
            t->unk = id;
        else if (k->size == 5 && memcmp(k->text, "[CLS]", 5) == 0)
            t->bos = id;
        else if (k->size == 5 && memcmp(k->text, "[SEP]", 5) == 0)
            t->eos = id;
    }
    if (t->unk < 0) {
        status = gm_fail(err, GM_EFORMAT, "no token is [UNK]");
        goto done;
    }
    GM_TRY_GOTO(gm_wordpiece_fill(t, "##", 100, err));
done:
    if (status == GM_OK)
        return gm_tokenizer_finish(out, t, err);
    gm_tokenizer_free(t);
    return status;
}

/* ---- vocab.txt: a token per line ------------------------------------------------------------------------------------------------------
 */

bool gm_wordpiece_file_is(const char *text, size_t size) {
    static const char first[] = "[PAD]";
    if (size > sizeof first && memcmp(text, first, sizeof first - 1) == 0)
        return true;
    for (const char *p = text; size > 6 && (p = memchr(p, '\n', size - 6 - (size_t)(p - text))) != NULL; p++) {
        if (memcmp(p + 1, "[UNK]", 5) == 0)
            return true;
    }
    return false;
}

static gm_token_type type_of(const char *text, size_t size) {
    static const char names[][8] = {"[PAD]", "[CLS]", "[SEP]", "[MASK]"};
    if (size == 5 && memcmp(text, "[UNK]", 5) == 0)
        return GM_TOKEN_UNKNOWN;
    for (int i = 0; i < GM_COUNT(names); i++) {
        if (size == strlen(names[i]) && memcmp(text, names[i], size) == 0)
            return GM_TOKEN_CONTROL;
    }
    return GM_TOKEN_NORMAL;
}

gm_status gm_wordpiece_parse(gm_tokenizer **out, const char *text, size_t size, gm_error *err) {
    int64_t count = 0, lines = 1;
    *out = NULL;
    size_t fault = gm_utf8_fault(text, size);
    if (fault < size)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)fault, "invalid UTF-8 at byte %zu", fault);
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    if (lines > GM_VOCAB_MAX)
        return gm_fail(err, GM_EFORMAT, "%lld lines, at most %d tokens are supported", (long long)lines, GM_VOCAB_MAX);
    gm_vocabulary_token *tokens = gm_alloc((size_t)lines, sizeof *tokens);
    if (!tokens)
        return gm_fail_memory(err, (size_t)lines * sizeof *tokens);
    gm_status status = GM_OK;
    bool lower = true; /* uncased: no token but [CLS] and its like has a capital */
    for (size_t at = 0, n; at < size; at += n + 1) {
        const char *end = memchr(text + at, '\n', size - at);
        n = end ? (size_t)(end - text) - at : size - at;
        size_t length = n > 0 && text[at + n - 1] == '\r' ? n - 1 : n;
        if (memchr(text + at, 0, length)) {
            status = gm_fail_at(err, GM_EFORMAT, (int64_t)at, "line %lld (byte %zu) holds a zero byte", (long long)count + 1, at);
            break;
        }
        if (length == 0) {
            status =
                gm_fail_at(err, GM_EFORMAT, (int64_t)at, "line %lld (byte %zu) is empty; every line is a token", (long long)count + 1, at);
            break;
        }
        tokens[count] = (gm_vocabulary_token){text + at, length, 0, type_of(text + at, length)};
        for (size_t i = 0; i < length && text[at] != '['; i++)
            lower = lower && !(text[at + i] >= 'A' && text[at + i] <= 'Z');
        count++;
    }
    if (status == GM_OK)
        status = gm_wordpiece_make(out, tokens, count, lower, err);
    gm_free(tokens);
    return status;
}
