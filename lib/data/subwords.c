/* subwords.c -- what all tokenizers of parts of words have: making ready, printing, freeing. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

gm_subwords *gm_subwords_create(void) {
    gm_subwords *s = gm_alloc(1, sizeof *s);
    for (int i = 0; s && i < 256; i++)
        s->byte_ids[i] = -1;
    return s;
}

void gm_subwords_free(gm_subwords *s) {
    if (!s)
        return;
    for (int32_t i = 0; i < s->added_count; i++)
        free(s->added[i].text);
    free(s->added);
    for (int i = 0; i < s->rewrite_count; i++)
        gm_rewrite_free(&s->rewrites[i]);
    for (int i = 0; i < s->cut_count; i++)
        gm_cut_free(&s->cuts[i]);
    gm_trie_free(&s->raw_added);
    gm_trie_free(&s->rewritten_added);
    gm_trie_free(&s->pieces);
    gm_trie_free(&s->inner);
    gm_trie_free(&s->verbatim);
    gm_trie_free(&s->verbatim_raw);
    gm_free(s->pairs);
    gm_free(s->merges);
    free(s->inner_prefix);
    free(s->mark);
    free(s->json);
    gm_free(s);
}

char *gm_copy(const char *text, size_t size) {
    char *copy = malloc(size + 1);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

bool gm_subwords_add(gm_subwords *s, gm_added added, const char *text, size_t size) {
    if ((s->added_count & (s->added_count - 1)) == 0) { /* full at powers of two */
        gm_added *more = realloc(s->added, (s->added_count ? 2 * (size_t)s->added_count : 1) * sizeof *more);
        if (!more)
            return false;
        s->added = more;
    }
    added.text = gm_copy(text, size);
    if (added.text)
        s->added[s->added_count++] = added;
    return added.text;
}

int32_t gm_subwords_added(const gm_subwords *s, const char *text) {
    for (int32_t i = 0; i < s->added_count; i++) {
        if (strcmp(s->added[i].text, text) == 0)
            return s->added[i].id;
    }
    return -1;
}

void gm_subwords_guess_ends(gm_tokenizer *t) {
    static const char *const bos[] = {"<|begin_of_text|>", "<s>", "<bos>", "[CLS]", "<|startoftext|>", "<|endoftext|>"};
    static const char *const eos[] = {"<|end_of_text|>", "</s>", "<eos>", "[SEP]", "<|endoftext|>", "<|im_end|>"};
    for (int i = 0; i < GM_COUNT(bos) && t->bos < 0; i++)
        t->bos = gm_subwords_added(t->subwords, bos[i]);
    for (int i = 0; i < GM_COUNT(eos) && t->eos < 0; i++)
        t->eos = gm_subwords_added(t->subwords, eos[i]);
}

/* ---- making ready ------------------------------------------------------------------------------------------------------------------- */

/* Added tokens are searched in the raw text, or rewritten in the rewritten one. */
static gm_status make_added(gm_subwords *s, gm_error *err) {
    gm_text text = {0}, other = {0};
    gm_trie all = {0};
    gm_status status = GM_OK;
    for (int32_t i = 0; i < s->added_count && status == GM_OK; i++) {
        const gm_added *a = &s->added[i];
        size_t size = strlen(a->text), length;
        if (gm_trie_longest(&all, a->text, size, &length) >= 0 && length == size)
            status = gm_fail(err, GM_EFORMAT, "the added token '%.40s' is there twice", a->text);
        gm_trie_add(&all, a->text, size, i);
        s->added_ends[(uint8_t)a->text[size - 1]] = 1;
        text.size = 0;
        gm_text_bytes(&text, a->text, size);
        for (int r = 0; r < s->rewrite_count && a->normalized; r++) {
            other.size = 0;
            gm_rewrite_apply(&s->rewrites[r], text.data, text.size, true, &other);
            gm_text swap = text;
            text = other;
            other = swap;
        }
        gm_trie_add(a->normalized ? &s->rewritten_added : &s->raw_added, text.data, text.size, i);
    }
    if (status == GM_OK && (text.failed || other.failed || all.failed || s->raw_added.failed || s->rewritten_added.failed))
        status = gm_fail_memory(err, (size_t)s->added_count * sizeof *s->added);
    gm_text_free(&text);
    gm_text_free(&other);
    gm_trie_free(&all);
    return status;
}

/* Does `mark` stand in text after something other than itself? */
static bool mark_inside(const char *text, size_t size, const char *mark) {
    size_t n = strlen(mark);
    bool other = false;
    for (size_t at = 0; at < size;) {
        if (size - at >= n && memcmp(text + at, mark, n) == 0) {
            if (other)
                return true;
            at += n;
        } else {
            other = true;
            at++;
        }
    }
    return false;
}

/* Without a cut of its own, a text of characters is one piece. Where no token has a space after something else, no join crosses such a
 * place, and the words (with the spaces before them) give the same tokens much faster. */
static bool add_word_cut(gm_tokenizer *t) {
    gm_subwords *s = t->subwords;
    if (s->model != GM_MODEL_BPE || s->byte_level || s->cut_count)
        return true;
    const char *mark = s->mark ? s->mark : " ";
    bool lines = true;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, id, &size);
        if (t->types[id] != GM_TOKEN_NORMAL && t->types[id] != GM_TOKEN_USER_DEFINED && t->types[id] != GM_TOKEN_UNUSED)
            continue;
        if (mark_inside(key, size, mark))
            return true;
        lines = lines && !memchr(key, '\n', size);
    }
    gm_cut *c = &s->cuts[s->cut_count++];
    *c = (gm_cut){.match = GM_MATCH_SPACES_APART, .lines_apart = lines};
    if (s->mark)
        c->text = gm_copy(mark, strlen(mark));
    return !s->mark || c->text;
}

static bool is_local(const gm_subwords *s) {
    bool local = false;
    for (int i = 0; i < s->cut_count; i++)
        local = local || gm_cut_at_spaces(&s->cuts[i]);
    for (int i = 0; i < s->rewrite_count; i++)
        local = local && gm_rewrite_is_local(&s->rewrites[i]);
    for (int32_t i = 0; i < s->added_count; i++) /* tokens that reach over a space */
        local = local && !s->added[i].rstrip && !s->added[i].lstrip && !s->added[i].single_word &&
                !mark_inside(s->added[i].text, strlen(s->added[i].text), " ");
    return local;
}

/* What tokens print, where that is not the key: bytes of byte tokens, spaces for marks, nothing for control tokens. */
static gm_status make_printed(gm_tokenizer *t, gm_error *err) {
    gm_subwords *s = t->subwords;
    t->printed_start = gm_alloc((size_t)t->vocab + 1, sizeof *t->printed_start);
    if (!t->printed_start)
        return gm_fail_memory(err, ((size_t)t->vocab + 1) * sizeof *t->printed_start);
    gm_rewrite unmark = {.kind = GM_REWRITE_REPLACE, .text = s->mark, .with = (char[]){" "}};
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size, inner = s->inner_prefix ? strlen(s->inner_prefix) : 0;
        const char *key = gm_tokenizer_key(t, id, &size);
        gm_text_bytes(&t->printed, " ", 1);
        size_t from = t->printed.size;
        switch (t->types[id]) {
        case GM_TOKEN_CONTROL:
            break;
        case GM_TOKEN_BYTE:
            gm_text_bytes(&t->printed, &(char){(char)strtol((char[]){key[3], key[4], 0}, NULL, 16)}, 1);
            break;
        case GM_TOKEN_UNKNOWN:
            if (t->kind == GM_TOKENS_SENTENCEPIECE)
                gm_text_bytes(&t->printed, " \xe2\x81\x87 ", 5);
            else if (t->kind != GM_TOKENS_LLAMA2C)
                gm_text_bytes(&t->printed, key, size);
            break;
        default:
            if (inner && size > inner && memcmp(key, s->inner_prefix, inner) == 0) {
                gm_text_bytes(&t->printed, key + inner, size - inner);
                t->glue[id] = GM_GLUE_LEFT;
            } else if (s->mark)
                gm_rewrite_apply(&unmark, key, size, false, &t->printed);
            else
                gm_text_bytes(&t->printed, key, size);
        }
        if (s->inner_prefix && size == 1 && strchr(".,?!", *key))
            t->glue[id] = GM_GLUE_LEFT;
        t->printed_start[id + 1] = (uint32_t)t->printed.size;
        if (t->printed.failed || t->printed.size > UINT32_MAX)
            return gm_fail_memory(err, t->printed.size);
        t->classes[id] = (uint8_t)(id == t->bos                       ? GM_CLASS_BOS
                                   : t->types[id] == GM_TOKEN_CONTROL ? GM_CLASS_OTHER
                                   : t->types[id] == GM_TOKEN_UNKNOWN ? GM_CLASS_OTHER
                                                                      : gm_key_class(t->printed.data + from, t->printed.size - from));
    }
    return GM_OK;
}

static void hash_steps(const gm_subwords *s, uint64_t *hash) {
    for (int i = 0; i < s->rewrite_count; i++) {
        const gm_rewrite *r = &s->rewrites[i];
        int numbers[] = {r->kind, r->left, r->right, r->dummy_prefix, r->remove_spaces};
        *hash = gm_hash(numbers, sizeof numbers, *hash);
        *hash = gm_hash(r->text, r->text ? strlen(r->text) : 0, *hash);
        *hash = gm_hash(r->with, r->with ? strlen(r->with) : 0, *hash);
        *hash = gm_hash(r->map.blob, r->map.size, *hash);
    }
    for (int i = 0; i < s->cut_count; i++) {
        const gm_cut *c = &s->cuts[i];
        int numbers[] = {c->match, c->use, c->invert, c->metaspace, c->prefix};
        *hash = gm_hash(numbers, sizeof numbers, *hash);
        *hash = gm_hash(c->text, c->text ? strlen(c->text) : 0, *hash);
    }
    for (int32_t i = 0; i < s->added_count; i++) {
        const gm_added *a = &s->added[i];
        int numbers[] = {a->id, a->normalized, a->lstrip, a->rstrip, a->single_word};
        *hash = gm_hash(numbers, sizeof numbers, *hash);
        *hash = gm_hash(a->text, strlen(a->text), *hash);
    }
}

gm_status gm_subwords_ready(gm_tokenizer *t, uint64_t *hash, gm_error *err) {
    gm_subwords *s = t->subwords;
    for (int b = 0; b < 128; b++)
        s->ascii_ids[b] = gm_tokenizer_find(t, (const char[]){(char)b}, 1);
    s->byte_fallback = s->byte_fallback && !s->byte_level;
    for (int b = 0; b < 256; b++)
        s->byte_fallback = s->byte_fallback && s->byte_ids[b] >= 0;
    GM_TRY(make_added(s, err));
    if (!add_word_cut(t))
        return gm_fail_memory(err, sizeof *s);
    s->local = is_local(s);
    GM_TRY(make_printed(t, err));
    if (s->pieces.failed || s->inner.failed || s->verbatim.failed || s->verbatim_raw.failed)
        return gm_fail_memory(err, t->pool.size * 8);
    hash_steps(s, hash);
    int numbers[] = {s->model, s->byte_level, s->byte_fallback, s->whole_first, s->fuse_unknown, (int)s->word_max, t->unk};
    *hash = gm_hash(numbers, sizeof numbers, *hash);
    *hash = gm_hash(s->merges, (size_t)s->merge_count * sizeof *s->merges, *hash);
    *hash = gm_hash(t->types, (size_t)t->vocab, *hash);
    return GM_OK;
}

/* ---- printing
 * ---------------------------------------------------------------------------------------------------------------------------- */

const char *gm_subwords_piece(const gm_tokenizer *t, int32_t previous, int32_t id, size_t *size) {
    const gm_subwords *s = t->subwords;
    const char *text = t->printed.data + t->printed_start[id] + 1;
    *size = t->printed_start[id + 1] - t->printed_start[id] - 1;
    bool first = previous < 0 || previous >= t->vocab || t->types[previous] == GM_TOKEN_CONTROL;
    if (first && s->strip_first && *size && *text == ' ') {
        ++text;
        --*size;
    } else if (s->inner_prefix && !first && *size && !(t->glue[id] & GM_GLUE_LEFT)) {
        --text; /* the pool has a space before each */
        ++*size;
    }
    return text;
}
