/* vocabulary.c -- tokenizers as lists of tokens: the form that GGUF and SentencePiece files hold. Both ways. */
#include "subwords.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char space_mark[] = "\xe2\x96\x81"; /* U+2581 */

static int shown(size_t size) {
    return (int)GM_MIN(size, (size_t)40);
}

/* ---- from a tokenizer ------------------------------------------------------------------------------------------------------------- */

static void put_byte_chars(gm_text *out, const char *bytes, size_t size) {
    char character[4];
    for (size_t i = 0; i < size; i++)
        gm_text_bytes(out, character, (size_t)gm_byte_char(character, (uint8_t)bytes[i]));
}

static void put_marked(gm_text *out, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        gm_text_bytes(out, text[i] == ' ' ? space_mark : text + i, text[i] == ' ' ? 3 : 1);
}

/* One token's text as files write it. */
static void put_text(const gm_tokenizer *t, int32_t id, gm_text *out) {
    size_t size;
    const char *key = gm_tokenizer_key(t, id, &size);
    bool plain = t->types[id] == GM_TOKEN_NORMAL || t->types[id] == GM_TOKEN_UNUSED;
    switch (t->kind) {
    case GM_TOKENS_BYTES:
    case GM_TOKENS_BPE:
        if (plain && (!t->subwords || t->subwords->byte_level))
            put_byte_chars(out, key, size);
        else
            gm_text_bytes(out, key, size);
        break;
    case GM_TOKENS_WORDS:
        if (plain && *key != ' ' && !(t->glue[id] & GM_GLUE_LEFT))
            gm_text_bytes(out, space_mark, 3);
        put_marked(out, key, size);
        break;
    case GM_TOKENS_LLAMA2C:
        if (id < 3) /* "\n<s>\n" in its files */
            gm_text_add(out, "%s", id == 0 ? "<unk>" : id == 1 ? "<s>" : "</s>");
        else
            put_marked(out, key, size);
        break;
    case GM_TOKENS_WORDPIECE: /* a mark before words and nothing inside them, instead of nothing and ## */
        if (plain && size > 2 && memcmp(key, "##", 2) == 0)
            gm_text_bytes(out, key + 2, size - 2);
        else {
            if (plain)
                gm_text_bytes(out, space_mark, 3);
            gm_text_bytes(out, key, size);
        }
        break;
    default:
        if (gm_tokenizer_find(t, key, size) == id)
            put_marked(out, key, size);
        else
            gm_text_bytes(out, key, size);
    }
}

static const char *model_of(const gm_tokenizer *t) {
    const gm_subwords *s = t->subwords;
    if (t->kind == GM_TOKENS_BYTES || (s && s->byte_level))
        return "gpt2";
    if (t->kind == GM_TOKENS_WORDPIECE)
        return "bert";
    return s && s->model == GM_MODEL_UNIGRAM ? "t5" : "llama";
}

/* Characters joined by scores are Llama's: texts whole, with U+2581 for spaces and, it may be, one before them. */
static bool cut_as_llama(const gm_subwords *s) {
    bool same = s->cut_count == 0 || (s->cut_count == 1 && s->cuts[0].metaspace && s->cuts[0].match == GM_MATCH_NONE);
    for (int i = 0; i < s->rewrite_count; i++) {
        const gm_rewrite *r = &s->rewrites[i];
        same = same && ((r->kind == GM_REWRITE_PREPEND && strcmp(r->text, space_mark) == 0) ||
                        (r->kind == GM_REWRITE_REPLACE && strcmp(r->text, " ") == 0 && strcmp(r->with, space_mark) == 0));
    }
    return same;
}

/* The split pattern's name; *exact becomes false where there is none. */
static const char *pre_of(const gm_tokenizer *t, bool *exact) {
    const gm_subwords *s = t->subwords;
    if (t->kind == GM_TOKENS_BYTES)
        return "gpt-2";
    if (!s->byte_level) {
        *exact = *exact && (t->kind == GM_TOKENS_WORDPIECE ? gm_wordpiece_is_bert(s) : t->kind != GM_TOKENS_BPE || cut_as_llama(s));
        return "default";
    }
    const char *pre = NULL;
    for (int i = 0; i < s->cut_count; i++) {
        *exact = *exact && s->cuts[i].prefix == GM_PREFIX_NEVER;
        if (s->cuts[i].match == GM_MATCH_NONE)
            continue;
        *exact = *exact && !pre && gm_match_pre(s->cuts[i].match) && s->cuts[i].use == GM_USE_ISOLATED;
        pre = gm_match_pre(s->cuts[i].match);
    }
    for (int i = 0; i < s->rewrite_count; i++) /* runtimes leave NFC out: texts are in it as a rule */
        *exact = *exact && s->rewrites[i].kind == GM_REWRITE_NFC;
    *exact = *exact && pre;
    return pre ? pre : "default";
}

/* Made of its vocabulary again, is a tokenizer the same for every text? SentencePiece's are; byte-level ones that do no more than cut by
 * the pattern `pre` and join, and look for their added tokens as they stand. */
static bool is_whole(const gm_tokenizer *t, const char *pre) {
    const gm_subwords *s = t->subwords;
    if (t->kind != GM_TOKENS_BPE || !s->byte_level)
        return t->kind == GM_TOKENS_SENTENCEPIECE;
    bool whole = s->rewrite_count == 0 && s->whole_first == gm_pre_takes_whole(pre);
    for (int32_t i = 0; i < s->added_count; i++) {
        const gm_added *a = &s->added[i];
        whole = whole && !a->lstrip && !a->rstrip && !a->single_word && a->normalized == s->added[0].normalized;
    }
    return whole;
}

/* Texts go to the pool one after the other; pointers are set when it no longer moves. */
static void add_text(gm_vocabulary *v, gm_vocabulary_token *token, size_t from) {
    token->size = v->pool.size - from;
}

gm_status gm_tokenizer_vocabulary(const gm_tokenizer *t, gm_vocabulary *v, gm_error *err) {
    const gm_subwords *s = t->subwords;
    *v = (gm_vocabulary){.count = t->vocab,
                         .merge_count = s ? s->merge_count : 0,
                         .bos = t->bos,
                         .eos = t->eos,
                         .unk = t->unk,
                         .add_bos = s ? s->adds_bos : true,
                         .add_eos = s && s->adds_eos,
                         .exact = t->kind != GM_TOKENS_WORDS && t->kind != GM_TOKENS_UNIGRAM,
                         .model = model_of(t)};
    v->pre = s || t->kind == GM_TOKENS_BYTES ? pre_of(t, &v->exact) : "default";
    v->whole = v->exact && is_whole(t, v->pre);
    for (int i = 0; s && !s->byte_level && i < s->cut_count; i++)
        v->add_space_prefix = v->add_space_prefix || (s->cuts[i].metaspace && s->cuts[i].prefix != GM_PREFIX_NEVER);
    for (int i = 0; s && i < s->rewrite_count; i++) {
        const gm_rewrite *r = &s->rewrites[i];
        v->add_space_prefix = v->add_space_prefix || r->dummy_prefix || (r->kind == GM_REWRITE_PREPEND && !s->byte_level);
        v->remove_extra_spaces = v->remove_extra_spaces || r->remove_spaces;
        if (r->map.size) {
            v->charsmap = r->map.blob;
            v->charsmap_size = r->map.size;
        }
    }
    v->tokens = gm_alloc((size_t)v->count + 1, sizeof *v->tokens);
    v->merges = gm_alloc((size_t)v->merge_count + 1, sizeof *v->merges);
    if (!v->tokens || !v->merges) {
        gm_vocabulary_free(v);
        return gm_fail_memory(err, (size_t)(v->count + v->merge_count) * sizeof *v->tokens);
    }
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t from = v->pool.size;
        put_text(t, id, &v->pool);
        v->tokens[id] = (gm_vocabulary_token){.score = t->scores ? (float)t->scores[id] : 0, .type = (gm_token_type)t->types[id]};
        add_text(v, &v->tokens[id], from);
    }
    for (int64_t i = 0; s && i < s->merge_count; i++) {
        size_t from = v->pool.size;
        put_text(t, (int32_t)s->merges[i].left, &v->pool);
        gm_text_bytes(&v->pool, " ", 1);
        put_text(t, (int32_t)s->merges[i].right, &v->pool);
        add_text(v, &v->merges[i], from);
        if (!t->scores && !s->byte_level && v->tokens[s->merges[i].id].score == 0) /* the first way to make it */
            v->tokens[s->merges[i].id].score = -(float)(i + 1);
    }
    if (v->pool.failed) {
        gm_vocabulary_free(v);
        return gm_fail_memory(err, t->pool.size * 2);
    }
    const char *at = v->pool.data;
    for (int64_t i = 0; i < v->count; at += v->tokens[i++].size)
        v->tokens[i].text = at;
    for (int64_t i = 0; i < v->merge_count; at += v->merges[i++].size)
        v->merges[i].text = at;
    return GM_OK;
}

void gm_vocabulary_free(gm_vocabulary *v) {
    gm_free(v->tokens);
    gm_free(v->merges);
    gm_text_free(&v->pool);
    *v = (gm_vocabulary){0};
}

/* ---- to a tokenizer -------------------------------------------------------------------------------------------------------------------
 */

static gm_status twice(const gm_vocabulary *v, int32_t id, gm_error *err) {
    return gm_fail(err, GM_EFORMAT, "token %d, '%.*s', is there twice", id, shown(v->tokens[id].size), v->tokens[id].text);
}

static int digit_of(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" is 10; -1: not of that form. */
static int byte_of(const char *text, size_t size) {
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    const int high = digit_of(text[3]), low = digit_of(text[4]);
    return high >= 0 && low >= 0 ? 16 * high + low : -1;
}

/* Byte-level BPE. */
static gm_status fill_bpe(gm_tokenizer *t, const gm_vocabulary *v, gm_error *err) {
    gm_subwords *s = t->subwords;
    gm_cut cut = {.match = gm_match_of_pre(v->pre)};
    if (strcmp(v->pre, "default") == 0)
        cut.match = GM_MATCH_GPT2;
    if (cut.match == GM_MATCH_NONE)
        return gm_fail(err, GM_EUNSUPPORTED,
                       "its texts are cut by the pattern '%.40s', which is not supported; give its tokenizer.json with --tokenizer",
                       v->pre);
    s->cuts[s->cut_count++] = cut;
    s->byte_level = true;
    s->whole_first = gm_pre_takes_whole(v->pre);
    gm_text bytes = {0};
    gm_status status = GM_OK;
    for (int32_t id = 0; id < v->count && status == GM_OK; id++) {
        const gm_vocabulary_token *k = &v->tokens[id];
        bytes.size = 0;
        gm_text_bytes(&bytes, k->text, k->size);
        int64_t n = bytes.failed ? -1 : gm_byte_text(bytes.data, k->text, k->size);
        if (bytes.failed)
            status = gm_fail_memory(err, k->size);
        else if (k->type == GM_TOKEN_CONTROL || k->type == GM_TOKEN_USER_DEFINED || k->type == GM_TOKEN_UNKNOWN || n < 0) {
            gm_tokenizer_add_hidden(t, k->text, k->size, k->type == GM_TOKEN_NORMAL ? GM_TOKEN_USER_DEFINED : k->type);
            if (k->size == 0)
                status = gm_fail(err, GM_EFORMAT, "token %d is empty", id);
            else if (!gm_subwords_add(s, (gm_added){.id = id, .special = k->type == GM_TOKEN_CONTROL}, k->text, k->size))
                status = gm_fail_memory(err, k->size);
        } else if (!gm_tokenizer_add(t, bytes.data, (size_t)n))
            status = twice(v, id, err);
        else if (n == 1)
            s->byte_ids[(uint8_t)bytes.data[0]] = id;
    }
    gm_text_free(&bytes);
    for (int b = 0; b < 256 && status == GM_OK; b++) {
        if (s->byte_ids[b] < 0)
            status = gm_fail(err, GM_EFORMAT, "no token is the byte 0x%02x, so it is no byte-level vocabulary", b);
    }
    return status;
}

static gm_status fill_merges(gm_tokenizer *t, const gm_vocabulary *v, gm_error *err) {
    gm_subwords *s = t->subwords;
    s->merges = gm_alloc((size_t)v->merge_count + 1, sizeof *s->merges);
    if (!s->merges)
        return gm_fail_memory(err, (size_t)v->merge_count * sizeof *s->merges);
    gm_text both = {0};
    gm_status status = GM_OK;
    for (int64_t i = 0; i < v->merge_count && status == GM_OK; i++) {
        const gm_vocabulary_token *m = &v->merges[i];
        const char *space = memchr(m->text, ' ', m->size);
        int64_t n = -1, k = -1;
        both.size = 0;
        gm_text_bytes(&both, m->text, m->size);
        if (both.failed)
            status = gm_fail_memory(err, m->size);
        else if (space) {
            size_t left = (size_t)(space - m->text);
            n = gm_byte_text(both.data, m->text, left);
            k = n < 0 ? -1 : gm_byte_text(both.data + n, space + 1, m->size - left - 1);
        }
        if (status == GM_OK)
            status = gm_merge_add(t, both.data, n, k, err);
    }
    gm_text_free(&both);
    if (status == GM_OK && !s->whole_first)
        status = gm_merges_check(t, err);
    if (status == GM_OK)
        status = gm_pairs_from_merges(s, err);
    return status;
}

/* SentencePiece: U+2581 becomes a space in keys, as it does in texts (rewrite.c). */
static gm_status add_piece(gm_tokenizer *t, const gm_vocabulary *v, int32_t id, gm_error *err) {
    gm_subwords *s = t->subwords;
    const gm_vocabulary_token *k = &v->tokens[id];
    if (!isfinite(k->score))
        return gm_fail(err, GM_EFORMAT, "token %d has a score that is not a number", id);
    t->scores[id] = (double)k->score;
    if (k->type == GM_TOKEN_BYTE) {
        int b = byte_of(k->text, k->size);
        if (b < 0 || s->byte_ids[b] >= 0)
            return gm_fail(err, GM_EFORMAT, "token %d, '%.*s', should be a byte of its own, <0x00> to <0xFF>", id, shown(k->size), k->text);
        s->byte_ids[b] = id;
    }
    if (k->type == GM_TOKEN_USER_DEFINED)
        gm_trie_add(&s->verbatim_raw, k->text, k->size, id);
    /* A space that is not written U+2581 is in no rewritten text, so such a token is never found. */
    if ((k->type != GM_TOKEN_NORMAL && k->type != GM_TOKEN_USER_DEFINED && k->type != GM_TOKEN_UNUSED) || memchr(k->text, ' ', k->size)) {
        gm_tokenizer_add_hidden(t, k->text, k->size, k->type);
        return GM_OK;
    }
    if (k->size == 0)
        return gm_fail(err, GM_EFORMAT, "token %d is empty", id);
    gm_rewrite unmark = {.kind = GM_REWRITE_REPLACE, .text = (char *)(uintptr_t)space_mark, .with = (char[]){" "}};
    gm_text key = {0};
    gm_rewrite_apply(&unmark, k->text, k->size, false, &key);
    bool fresh = key.failed || gm_tokenizer_add(t, key.data, key.size);
    t->types[id] = (uint8_t)k->type;
    if (!key.failed && k->type == GM_TOKEN_USER_DEFINED) {
        gm_trie_add(&s->verbatim, key.data, key.size, id);
        s->has_verbatim = true;
    }
    if (!key.failed && s->model == GM_MODEL_UNIGRAM && k->type != GM_TOKEN_UNUSED)
        gm_trie_add(&s->pieces, key.data, key.size, id);
    bool failed = key.failed;
    gm_text_free(&key);
    return failed ? gm_fail_memory(err, k->size) : fresh ? GM_OK : twice(v, id, err);
}

/* BPE would have to cut an unused token again; those that fill up a table ("[PAD32000]") are made by nothing. */
static gm_status check_unused(const gm_tokenizer *t, int32_t id, gm_error *err) {
    size_t size;
    int n;
    const char *key = gm_tokenizer_key(t, id, &size);
    bool made = size > 0 && (gm_char_at(key, size, &n), (size_t)n == size);
    for (size_t i = 1; i < size && !made; i++)
        made = gm_tokenizer_find(t, key, i) >= 0 && gm_tokenizer_find(t, key + i, size - i) >= 0;
    return made ? gm_fail(err, GM_EUNSUPPORTED, "token %d is marked unused, which BPE would have to cut again: not supported", id) : GM_OK;
}

static gm_status fill_sentencepiece(gm_tokenizer *t, const gm_vocabulary *v, gm_error *err) {
    gm_subwords *s = t->subwords;
    s->model = strcmp(v->model, "t5") == 0 ? GM_MODEL_UNIGRAM : GM_MODEL_BPE;
    s->fuse_unknown = s->single = s->byte_fallback = true;
    s->strip_first = v->add_space_prefix;
    gm_rewrite *r = &s->rewrites[s->rewrite_count++];
    *r = (gm_rewrite){.kind = GM_REWRITE_SENTENCEPIECE, .dummy_prefix = v->add_space_prefix, .remove_spaces = v->remove_extra_spaces};
    GM_TRY(gm_charsmap_make(&r->map, v->charsmap, v->charsmap_size, err));
    r->verbatim = &s->verbatim_raw;
    t->scores = gm_alloc((size_t)t->capacity, sizeof *t->scores);
    if (!t->scores)
        return gm_fail_memory(err, (size_t)t->capacity * sizeof *t->scores);
    double lowest = 0, highest = 0;
    bool any = false;
    for (int32_t id = 0; id < v->count; id++) {
        GM_TRY(add_piece(t, v, id, err));
        if (v->tokens[id].type != GM_TOKEN_NORMAL)
            continue;
        lowest = any ? GM_MIN(lowest, t->scores[id]) : t->scores[id];
        highest = any ? GM_MAX(highest, t->scores[id]) : t->scores[id];
        any = true;
    }
    for (int32_t id = 0; id < v->count && s->model == GM_MODEL_BPE; id++) {
        if (v->tokens[id].type == GM_TOKEN_UNUSED)
            GM_TRY(check_unused(t, id, err));
    }
    s->unknown_score = (double)((float)lowest - 10.0f);
    s->top_score = highest;
    return s->model == GM_MODEL_BPE ? gm_pairs_from_scores(t, -INFINITY, true, err) : GM_OK;
}

static gm_status fill_bert(gm_tokenizer **out, const gm_vocabulary *v, gm_error *err) {
    gm_vocabulary_token *tokens = gm_alloc((size_t)v->count + 1, sizeof *tokens);
    gm_text pool = {0};
    bool lower = true;
    for (int64_t i = 0; tokens && i < v->count; i++) {
        const gm_vocabulary_token *k = &v->tokens[i];
        bool plain = k->type == GM_TOKEN_NORMAL || k->type == GM_TOKEN_UNUSED;
        bool marked = k->size > 3 && memcmp(k->text, space_mark, 3) == 0;
        if (plain && !marked)
            gm_text_bytes(&pool, "##", 2);
        gm_text_bytes(&pool, k->text + (plain && marked ? 3 : 0), k->size - (plain && marked ? 3 : 0));
        tokens[i] = *k;
        tokens[i].size = k->size + (plain ? marked ? (size_t)-3 : 2 : 0);
        for (size_t j = 0; plain && j < k->size; j++)
            lower = lower && !(k->text[j] >= 'A' && k->text[j] <= 'Z');
    }
    const char *at = pool.data;
    for (int64_t i = 0; tokens && i < v->count; at += tokens[i++].size)
        tokens[i].text = at;
    gm_status status = !tokens || pool.failed ? gm_fail_memory(err, (size_t)v->count * sizeof *tokens)
                                              : gm_wordpiece_make(out, tokens, v->count, lower, err);
    gm_free(tokens);
    gm_text_free(&pool);
    return status;
}

static bool id_is_good(int32_t id, int64_t count) {
    return id >= -1 && id < count;
}

gm_status gm_tokenizer_from_vocabulary(gm_tokenizer **out, const gm_vocabulary *v, gm_error *err) {
    *out = NULL;
    if (v->count < 1 || v->count > GM_VOCAB_MAX)
        return gm_fail(err, GM_EFORMAT, "a vocabulary of %lld tokens; it must be 1..%d", (long long)v->count, GM_VOCAB_MAX);
    if (!id_is_good(v->bos, v->count) || !id_is_good(v->eos, v->count) || !id_is_good(v->unk, v->count))
        return gm_fail(err, GM_EFORMAT, "BOS %d, EOS %d or unknown %d is none of its %lld tokens", v->bos, v->eos, v->unk,
                       (long long)v->count);
    for (int64_t i = 0; i < v->count; i++) {
        size_t fault = gm_utf8_fault(v->tokens[i].text, v->tokens[i].size);
        if (fault < v->tokens[i].size)
            return gm_fail(err, GM_EFORMAT, "token %lld is not UTF-8", (long long)i);
        if (memchr(v->tokens[i].text, 0, v->tokens[i].size))
            return gm_fail(err, GM_EFORMAT, "token %lld holds a zero byte", (long long)i);
        if (v->tokens[i].type < GM_TOKEN_NORMAL || v->tokens[i].type > GM_TOKEN_BYTE)
            return gm_fail(err, GM_EFORMAT, "token %lld is of type %d; the types are 1 to 6", (long long)i, (int)v->tokens[i].type);
    }
    if (strcmp(v->model, "bert") == 0)
        return fill_bert(out, v, err);
    bool gpt2 = strcmp(v->model, "gpt2") == 0;
    if (!gpt2 && strcmp(v->model, "llama") != 0 && strcmp(v->model, "t5") != 0)
        return gm_fail(err, GM_EUNSUPPORTED, "its tokenizer is of the model '%.40s'; llama, gpt2, bert and t5 are supported", v->model);
    gm_tokenizer *t;
    GM_TRY(gm_tokenizer_begin(&t, gpt2 ? GM_TOKENS_BPE : GM_TOKENS_SENTENCEPIECE, false, v->count, err));
    gm_status status = GM_OK;
    t->subwords = gm_subwords_create();
    t->bos = v->bos;
    t->eos = v->eos;
    t->unk = v->unk;
    if (!t->subwords)
        GM_TRY_GOTO(gm_fail_memory(err, sizeof *t->subwords));
    t->subwords->adds_bos = v->add_bos;
    t->subwords->adds_eos = v->add_eos;
    if (gpt2) {
        GM_TRY_GOTO(fill_bpe(t, v, err));
        GM_TRY_GOTO(fill_merges(t, v, err));
        gm_subwords_guess_ends(t);
    } else
        GM_TRY_GOTO(fill_sentencepiece(t, v, err));
done:
    if (status == GM_OK)
        return gm_tokenizer_finish(out, t, err);
    gm_tokenizer_free(t);
    return status;
}
