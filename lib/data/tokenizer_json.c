/* tokenizer_json.c -- Hugging Face's tokenizer.json: its normalizers, pre-tokenizers, models, decoders and added tokens as the steps of
 * subwords.h. What stands in it and is not supported is refused by its name: a step left out would give other tokens without a word.
 * Truncation and padding are the caller's matter and let pass. */
#include "subwords.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading values ---------------------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *j, const char *key) {
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static bool flag_of(const json_t *j, const char *key, bool otherwise) {
    const json_t *value = json_object_get(j, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static bool is(const json_t *j, const char *type) {
    return strcmp(text_of(j, "type"), type) == 0;
}

static gm_status unsupported(const char *what, const json_t *j, gm_error *err) {
    const char *type = text_of(j, "type");
    return gm_fail(err, GM_EUNSUPPORTED, "its %s %s%s%s is not supported", what, *type ? "'" : "without a type", type, *type ? "'" : "");
}

static gm_status copy(char **to, const char *text, gm_error *err) {
    *to = gm_copy(text, strlen(text));
    return *to ? GM_OK : gm_fail_memory(err, strlen(text));
}

/* ---- normalizers --------------------------------------------------------------------------------------------------------------------- */

static gm_status add_rewrite(gm_subwords *s, gm_rewrite_kind kind, const char *text, const char *with, gm_error *err) {
    if (s->rewrite_count == GM_REWRITES_MAX)
        return gm_fail(err, GM_EUNSUPPORTED, "it has more than %d normalizers", GM_REWRITES_MAX);
    gm_rewrite *r = &s->rewrites[s->rewrite_count++];
    *r = (gm_rewrite){.kind = kind};
    if (text)
        GM_TRY(copy(&r->text, text, err));
    return with ? copy(&r->with, with, err) : GM_OK;
}

/* A few replacements after each other could make a terabyte of a line. */
static gm_status add_replacement(gm_subwords *s, const char *text, const char *with, gm_error *err) {
    enum { GROWTH_MAX = 256 };
    double growth = 1;
    GM_TRY(add_rewrite(s, GM_REWRITE_REPLACE, text, with, err));
    for (int i = 0; i < s->rewrite_count; i++) {
        const gm_rewrite *r = &s->rewrites[i];
        if (r->kind == GM_REWRITE_REPLACE)
            growth *= GM_MAX(1, (double)strlen(r->with) / (double)strlen(r->text));
    }
    return growth <= GROWTH_MAX
               ? GM_OK
               : gm_fail(err, GM_EUNSUPPORTED, "its normalizers make %g bytes of one; here it is %d at most", growth, GROWTH_MAX);
}

static gm_status read_normalizer(gm_subwords *s, const json_t *j, int depth, gm_error *err) {
    static const struct {
        const char *type;
        gm_rewrite_kind kind;
    } simple[] = {{"NFC", GM_REWRITE_NFC},   {"NFD", GM_REWRITE_NFD},         {"NFKC", GM_REWRITE_NFKC},
                  {"NFKD", GM_REWRITE_NFKD}, {"Lowercase", GM_REWRITE_LOWER}, {"StripAccents", GM_REWRITE_DROP_MARKS}};
    if (!j || json_is_null(j))
        return GM_OK;
    for (int i = 0; i < GM_COUNT(simple); i++) {
        if (is(j, simple[i].type))
            return add_rewrite(s, simple[i].kind, NULL, NULL, err);
    }
    if (is(j, "Sequence") && depth < 8) {
        const json_t *list = json_object_get(j, "normalizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            GM_TRY(read_normalizer(s, json_array_get(list, i), depth + 1, err));
        return GM_OK;
    }
    if (is(j, "BertNormalizer")) {
        bool lower = flag_of(j, "lowercase", true);
        if (flag_of(j, "clean_text", true))
            GM_TRY(add_rewrite(s, GM_REWRITE_CLEAN, NULL, NULL, err));
        if (flag_of(j, "handle_chinese_chars", true))
            GM_TRY(add_rewrite(s, GM_REWRITE_SPACE_CJK, NULL, NULL, err));
        if (flag_of(j, "strip_accents", lower)) {
            GM_TRY(add_rewrite(s, GM_REWRITE_NFD, NULL, NULL, err));
            GM_TRY(add_rewrite(s, GM_REWRITE_DROP_NONSPACING, NULL, NULL, err));
        }
        return lower ? add_rewrite(s, GM_REWRITE_LOWER, NULL, NULL, err) : GM_OK;
    }
    if (is(j, "Prepend"))
        return add_rewrite(s, GM_REWRITE_PREPEND, text_of(j, "prepend"), NULL, err);
    if (is(j, "Replace")) {
        const json_t *pattern = json_object_get(j, "pattern");
        const char *text = text_of(pattern, "String");
        if (!*text)
            return gm_fail(err, GM_EUNSUPPORTED, "its normalizer 'Replace' by a regular expression ('%.60s') is not supported",
                           text_of(pattern, "Regex"));
        return add_replacement(s, text, text_of(j, "content"), err);
    }
    if (is(j, "Strip")) {
        GM_TRY(add_rewrite(s, GM_REWRITE_STRIP, NULL, NULL, err));
        s->rewrites[s->rewrite_count - 1].left = flag_of(j, "strip_left", true);
        s->rewrites[s->rewrite_count - 1].right = flag_of(j, "strip_right", true);
        return GM_OK;
    }
    return unsupported("normalizer", j, err);
}

/* ---- pre-tokenizers -------------------------------------------------------------------------------------------------------------------
 */

static gm_status add_cut(gm_subwords *s, gm_cut cut, gm_error *err) {
    if (s->cut_count == GM_CUTS_MAX) {
        gm_cut_free(&cut);
        return gm_fail(err, GM_EUNSUPPORTED, "it has more than %d pre-tokenizers", GM_CUTS_MAX);
    }
    s->cuts[s->cut_count++] = cut;
    return GM_OK;
}

static gm_status read_use(gm_match_use *use, const json_t *j, gm_error *err) {
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *name = text_of(j, "behavior");
    for (int i = 0; i < GM_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *use = (gm_match_use)i;
            return GM_OK;
        }
    }
    return gm_fail(err, GM_EUNSUPPORTED, "its pre-tokenizer '%s' has the unknown behavior '%.40s'", text_of(j, "type"), name);
}

static gm_status read_metaspace(gm_subwords *s, const json_t *j, gm_error *err) {
    gm_cut cut = {.match = flag_of(j, "split", true) ? GM_MATCH_TEXT : GM_MATCH_NONE, .use = GM_USE_WITH_NEXT, .metaspace = true};
    const char *scheme = text_of(j, "prepend_scheme");
    if (!*scheme)
        scheme = flag_of(j, "add_prefix_space", true) ? "always" : "never";
    cut.prefix = strcmp(scheme, "always") == 0 ? GM_PREFIX_ALWAYS : strcmp(scheme, "first") == 0 ? GM_PREFIX_FIRST : GM_PREFIX_NEVER;
    const char *mark = text_of(j, "replacement");
    GM_TRY(copy(&cut.text, *mark ? mark : "\xe2\x96\x81", err));
    return add_cut(s, cut, err);
}

static gm_status read_split(gm_subwords *s, const json_t *j, gm_error *err) {
    gm_cut cut = {.invert = flag_of(j, "invert", false)};
    const json_t *pattern = json_object_get(j, "pattern");
    const char *text = text_of(pattern, "String");
    GM_TRY(read_use(&cut.use, j, err));
    if (*text) {
        cut.match = GM_MATCH_TEXT;
        GM_TRY(copy(&cut.text, text, err));
    } else
        GM_TRY(gm_cut_pattern(&cut, text_of(pattern, "Regex"), err));
    return add_cut(s, cut, err);
}

static gm_status read_cuts(gm_subwords *s, const json_t *j, int depth, gm_error *err) {
    if (!j || json_is_null(j))
        return GM_OK;
    if (is(j, "Sequence") && depth < 8) {
        const json_t *list = json_object_get(j, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            GM_TRY(read_cuts(s, json_array_get(list, i), depth + 1, err));
        return GM_OK;
    }
    if (s->byte_level)
        return gm_fail(err, GM_EUNSUPPORTED, "its pre-tokenizer '%s' after 'ByteLevel' is not supported", text_of(j, "type"));
    if (is(j, "ByteLevel")) {
        s->byte_level = true;
        return add_cut(s,
                       (gm_cut){.match = flag_of(j, "use_regex", true) ? GM_MATCH_GPT2 : GM_MATCH_NONE,
                                .prefix = flag_of(j, "add_prefix_space", true) ? GM_PREFIX_ALWAYS : GM_PREFIX_NEVER},
                       err);
    }
    if (is(j, "Split"))
        return read_split(s, j, err);
    if (is(j, "Metaspace"))
        return read_metaspace(s, j, err);
    if (is(j, "Digits"))
        return add_cut(
            s, (gm_cut){.match = GM_MATCH_NUMBER, .use = flag_of(j, "individual_digits", false) ? GM_USE_ISOLATED : GM_USE_CONTIGUOUS},
            err);
    if (is(j, "Whitespace"))
        return add_cut(s, (gm_cut){.match = GM_MATCH_WORDS, .use = GM_USE_REMOVED, .invert = true}, err);
    if (is(j, "WhitespaceSplit"))
        return add_cut(s, (gm_cut){.match = GM_MATCH_SPACE, .use = GM_USE_REMOVED}, err);
    if (is(j, "BertPreTokenizer")) {
        GM_TRY(add_cut(s, (gm_cut){.match = GM_MATCH_SPACE, .use = GM_USE_REMOVED}, err));
        return add_cut(s, (gm_cut){.match = GM_MATCH_PUNCTUATION, .use = GM_USE_ISOLATED}, err);
    }
    if (is(j, "Punctuation")) {
        gm_cut cut = {.match = GM_MATCH_PUNCTUATION};
        if (json_object_get(j, "behavior"))
            GM_TRY(read_use(&cut.use, j, err));
        return add_cut(s, cut, err);
    }
    if (is(j, "CharDelimiterSplit")) {
        gm_cut cut = {.match = GM_MATCH_TEXT, .use = GM_USE_REMOVED};
        GM_TRY(copy(&cut.text, text_of(j, "delimiter"), err));
        return add_cut(s, cut, err);
    }
    return unsupported("pre-tokenizer", j, err);
}

/* ---- decoders and post-processors ------------------------------------------------------------------------------------------------------
 */

static gm_status read_decoder(gm_subwords *s, const json_t *j, int depth, gm_error *err) {
    const char *mark = NULL;
    if (!j || json_is_null(j) || is(j, "ByteLevel") || is(j, "ByteFallback") || is(j, "Fuse") || is(j, "WordPiece"))
        return GM_OK;
    if (is(j, "Sequence") && depth < 8) {
        const json_t *list = json_object_get(j, "decoders");
        for (size_t i = 0; i < json_array_size(list); i++)
            GM_TRY(read_decoder(s, json_array_get(list, i), depth + 1, err));
        return GM_OK;
    }
    if (is(j, "Strip") && strcmp(text_of(j, "content"), " ") == 0 && json_integer_value(json_object_get(j, "stop")) == 0) {
        s->strip_first = json_integer_value(json_object_get(j, "start")) > 0;
        return GM_OK;
    }
    if (is(j, "Replace") && strcmp(text_of(j, "content"), " ") == 0)
        mark = text_of(json_object_get(j, "pattern"), "String");
    if (is(j, "Metaspace")) {
        const char *scheme = text_of(j, "prepend_scheme");
        mark = text_of(j, "replacement");
        s->strip_first = *scheme ? strcmp(scheme, "never") != 0 : flag_of(j, "add_prefix_space", true);
    }
    if (!mark || !*mark)
        return unsupported("decoder", j, err);
    free(s->mark);
    s->mark = NULL;
    return copy(&s->mark, mark, err);
}

/* Which tokens it puts around a text. */
static void read_post(gm_tokenizer *t, const json_t *j, int depth) {
    gm_subwords *s = t->subwords;
    const json_t *list = json_object_get(j, "processors"), *single = json_object_get(j, "single");
    for (size_t i = 0; is(j, "Sequence") && depth < 8 && i < json_array_size(list); i++)
        read_post(t, json_array_get(list, i), depth + 1);
    if (is(j, "TemplateProcessing")) {
        bool after = false;
        for (size_t i = 0; i < json_array_size(single); i++) {
            const json_t *part = json_array_get(single, i), *special = json_object_get(part, "SpecialToken");
            after = after || json_object_get(part, "Sequence");
            const char *name = text_of(special, "id");
            const json_t *ids = json_object_get(json_object_get(json_object_get(j, "special_tokens"), name), "ids");
            if (!special || json_array_size(ids) != 1)
                continue;
            json_int_t id = json_integer_value(json_array_get(ids, 0));
            if (id < 0 || id >= t->vocab)
                continue;
            *(after ? &t->eos : &t->bos) = (int32_t)id;
            *(after ? &s->adds_eos : &s->adds_bos) = true;
        }
    }
    if (is(j, "BertProcessing") || is(j, "RobertaProcessing")) {
        json_int_t sep = json_integer_value(json_array_get(json_object_get(j, "sep"), 1));
        json_int_t cls = json_integer_value(json_array_get(json_object_get(j, "cls"), 1));
        if (sep >= 0 && sep < t->vocab && cls >= 0 && cls < t->vocab) {
            t->bos = (int32_t)cls;
            t->eos = (int32_t)sep;
            s->adds_bos = s->adds_eos = true;
        }
    }
}

/* ---- the vocabulary
 * ---------------------------------------------------------------------------------------------------------------------- */

typedef struct entry {
    const char *text; /* NULL: no token has this id */
    size_t size;
    double score;
    const json_t *added;
} entry;

typedef struct entries {
    entry *list;
    int64_t count; /* ids */
} entries;

/* Token names by id. `vocab`: {"name": id} or, of unigram, [["name", score]]. */
static gm_status read_entries(entries *e, const json_t *vocab, const json_t *added, gm_error *err) {
    int64_t top = -1;
    const char *key;
    json_t *value;
    size_t i;
    bool list = json_is_array(vocab);
    if (list)
        top = (int64_t)json_array_size(vocab) - 1;
    else if (json_is_object(vocab))
        json_object_foreach((json_t *)(uintptr_t)vocab, key, value) {
            if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= GM_VOCAB_MAX)
                return gm_fail(err, GM_EFORMAT, "token '%.40s' has no id from 0 to %d", key, GM_VOCAB_MAX - 1);
            top = GM_MAX(top, (int64_t)json_integer_value(value));
        }
    else
        return gm_fail(err, GM_EFORMAT, "its model has no \"vocab\"");
    json_array_foreach(added, i, value) {
        const json_t *id = json_object_get(value, "id");
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= GM_VOCAB_MAX || !*text_of(value, "content"))
            return gm_fail(err, GM_EFORMAT, "entry %zu of its added_tokens has no \"content\" or no \"id\" from 0 to %d", i,
                           GM_VOCAB_MAX - 1);
        top = GM_MAX(top, (int64_t)json_integer_value(id));
    }
    /* Holes are errors, so there are no more ids than tokens. */
    int64_t tokens = (int64_t)(list ? json_array_size(vocab) : json_object_size(vocab)) + (int64_t)json_array_size(added);
    if (top < 0 || top >= tokens)
        return gm_fail(err, GM_EFORMAT, "its ids go up to %lld, but it has only %lld tokens: some ids are of no token", (long long)top,
                       (long long)tokens);
    e->count = top + 1;
    e->list = gm_alloc((size_t)e->count, sizeof *e->list);
    if (!e->list)
        return gm_fail_memory(err, (size_t)e->count * sizeof *e->list);
    if (list) {
        json_array_foreach(vocab, i, value) {
            const json_t *name = json_array_get(value, 0), *score = json_array_get(value, 1);
            if (!json_is_string(name) || !json_is_number(score))
                return gm_fail(err, GM_EFORMAT, "entry %zu of its vocabulary is not [text, score]", i);
            e->list[i] = (entry){json_string_value(name), json_string_length(name), json_number_value(score), NULL};
        }
    } else
        json_object_foreach((json_t *)(uintptr_t)vocab, key, value) {
            entry *at = &e->list[json_integer_value(value)];
            if (at->text)
                return gm_fail(err, GM_EFORMAT, "tokens '%.40s' and '%.40s' have the same id %lld", at->text, key,
                               (long long)json_integer_value(value));
            *at = (entry){key, strlen(key), 0, NULL};
        }
    json_array_foreach(added, i, value) {
        entry *at = &e->list[json_integer_value(json_object_get(value, "id"))];
        const char *content = text_of(value, "content");
        if (at->text && strcmp(at->text, content) != 0)
            return gm_fail(err, GM_EFORMAT, "tokens '%.40s' and '%.40s' have the same id %lld", at->text, content,
                           (long long)(at - e->list));
        if (!at->text)
            *at = (entry){content, 0, 0, NULL}; /* size 0: only an added token */
        at->added = value;
    }
    for (int64_t id = 0; id < e->count; id++) {
        if (!e->list[id].text)
            return gm_fail(err, GM_EFORMAT, "no token has the id %lld", (long long)id);
    }
    return GM_OK;
}

static gm_status add_entry(gm_tokenizer *t, const entry *e, gm_text *bytes, gm_error *err) {
    gm_subwords *s = t->subwords;
    int32_t id = t->vocab;
    bool special = flag_of(e->added, "special", false);
    int64_t n = (int64_t)e->size;
    const char *key = e->text;
    if (s->byte_level && n > 0) {
        bytes->size = 0;
        gm_text_bytes(bytes, key, e->size);
        if (bytes->failed)
            return gm_fail_memory(err, e->size);
        n = gm_byte_text(bytes->data, key, e->size);
        key = bytes->data;
        if (e->added && n != (int64_t)e->size)
            n = -1; /* an added token is looked for and printed as it is written: its characters stand for no bytes */
    }
    if (n <= 0) /* not a text that the model could make */
        gm_tokenizer_add_hidden(t, e->text, strlen(e->text), e->added ? GM_TOKEN_USER_DEFINED : GM_TOKEN_NORMAL);
    else if (!gm_tokenizer_add(t, key, (size_t)n))
        return gm_fail(err, GM_EFORMAT, "token %d, '%.40s', is there twice", id, e->text);
    if (s->byte_level && n == 1)
        s->byte_ids[(uint8_t)*key] = id;
    if (!e->added)
        return GM_OK;
    t->types[id] = special ? GM_TOKEN_CONTROL : GM_TOKEN_USER_DEFINED;
    gm_added added = {.id = id,
                      .special = special,
                      .normalized = flag_of(e->added, "normalized", !special),
                      .lstrip = flag_of(e->added, "lstrip", false),
                      .rstrip = flag_of(e->added, "rstrip", false),
                      .single_word = flag_of(e->added, "single_word", false)};
    return gm_subwords_add(s, added, e->text, strlen(e->text)) ? GM_OK : gm_fail_memory(err, strlen(e->text));
}

/* The id of a name that the file gives as text. */
static int32_t id_of(const entries *e, const char *name) {
    for (int64_t id = 0; *name && id < e->count; id++) {
        if (strcmp(e->list[id].text, name) == 0)
            return (int32_t)id;
    }
    return -1;
}

static void find_byte_tokens(gm_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        int32_t id = gm_tokenizer_find(t, name, 6);
        t->subwords->byte_ids[b] = id;
        if (id >= 0)
            t->types[id] = GM_TOKEN_BYTE;
    }
}

/* ---- models
 * ------------------------------------------------------------------------------------------------------------------------------- */

static gm_status read_merges(gm_tokenizer *t, const json_t *merges, gm_error *err) {
    gm_subwords *s = t->subwords;
    size_t i, count = json_array_size(merges);
    json_t *merge;
    gm_text both = {0};
    if (!json_is_array(merges))
        return gm_fail(err, GM_EFORMAT, "its model has no \"merges\"");
    s->merges = gm_alloc(count + 1, sizeof *s->merges);
    if (!s->merges)
        return gm_fail_memory(err, count * sizeof *s->merges);
    gm_status status = GM_OK;
    json_array_foreach(merges, i, merge) { /* "left right" or ["left", "right"] */
        const char *left = json_string_value(json_is_array(merge) ? json_array_get(merge, 0) : merge), *right = NULL;
        size_t n = 0;
        if (left && json_is_array(merge)) {
            n = strlen(left);
            right = json_string_value(json_array_get(merge, 1));
        } else if (left) {
            n = strcspn(left, " ");
            right = left[n] ? left + n + 1 : NULL;
        }
        size_t k = right ? strlen(right) : 0;
        int64_t a = (int64_t)n, b = (int64_t)k;
        both.size = 0;
        gm_text_bytes(&both, left ? left : "", n);
        gm_text_bytes(&both, right ? right : "", k);
        if (both.failed) {
            status = gm_fail_memory(err, n + k);
            break;
        }
        if (s->byte_level && n && k) {
            a = gm_byte_text(both.data, left, n);
            b = a < 0 ? -1 : gm_byte_text(both.data + a, right, k);
        }
        status = gm_merge_add(t, both.data, a, b, err);
        if (status != GM_OK)
            break;
    }
    gm_text_free(&both);
    if (status == GM_OK && s->byte_level && !s->whole_first)
        status = gm_merges_check(t, err);
    return status == GM_OK ? gm_pairs_from_merges(s, err) : status;
}

static gm_status read_bpe(gm_tokenizer *t, const entries *e, const json_t *model, gm_error *err) {
    gm_subwords *s = t->subwords;
    static const char *const refused[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < GM_COUNT(refused); i++) {
        if (*text_of(model, refused[i]))
            return gm_fail(err, GM_EUNSUPPORTED, "its model's %s ('%.20s') is not supported", refused[i], text_of(model, refused[i]));
    }
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return gm_fail(err, GM_EUNSUPPORTED, "its model has dropout: it would give other tokens each time");
    s->model = GM_MODEL_BPE;
    s->whole_first = flag_of(model, "ignore_merges", false);
    s->fuse_unknown = flag_of(model, "fuse_unk", false);
    s->byte_fallback = flag_of(model, "byte_fallback", false);
    t->unk = id_of(e, text_of(model, "unk_token"));
    return read_merges(t, json_object_get(model, "merges"), err);
}

static gm_status read_unigram(gm_tokenizer *t, const entries *e, const json_t *model, gm_error *err) {
    gm_subwords *s = t->subwords;
    json_int_t unk = json_integer_value(json_object_get(model, "unk_id"));
    s->model = GM_MODEL_UNIGRAM;
    s->fuse_unknown = true;
    s->byte_fallback = flag_of(model, "byte_fallback", false);
    t->unk = json_is_integer(json_object_get(model, "unk_id")) && unk >= 0 && unk < t->vocab ? (int32_t)unk : -1;
    t->scores = gm_alloc((size_t)t->capacity, sizeof *t->scores);
    if (!t->scores)
        return gm_fail_memory(err, (size_t)t->capacity * sizeof *t->scores);
    double lowest = 0;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, id, &size);
        t->scores[id] = e->list[id].score;
        if (!isfinite(t->scores[id]))
            return gm_fail(err, GM_EFORMAT, "token %d has a score that is not a number", id);
        lowest = id && lowest < t->scores[id] ? lowest : t->scores[id];
        if (e->list[id].size)
            gm_trie_add(&s->pieces, key, size, id);
    }
    s->unknown_score = lowest - 10;
    return GM_OK;
}

static gm_status read_model(gm_tokenizer *t, const entries *e, const json_t *model, gm_error *err) {
    if (t->kind == GM_TOKENS_UNIGRAM)
        GM_TRY(read_unigram(t, e, model, err));
    else if (t->kind == GM_TOKENS_WORDPIECE) {
        const json_t *most = json_object_get(model, "max_input_chars_per_word");
        const char *prefix = text_of(model, "continuing_subword_prefix");
        t->unk = id_of(e, text_of(model, "unk_token"));
        GM_TRY(gm_wordpiece_fill(t, *prefix ? prefix : "##", json_is_integer(most) ? json_integer_value(most) : 100, err));
    } else
        GM_TRY(read_bpe(t, e, model, err));
    if (t->subwords->byte_fallback)
        find_byte_tokens(t);
    if (t->unk >= 0)
        t->types[t->unk] = GM_TOKEN_UNKNOWN;
    return GM_OK;
}

gm_status gm_tokenizer_json_parse(gm_tokenizer **out, const json_t *root, const char *json, size_t size, gm_error *err) {
    const json_t *model = json_object_get(root, "model");
    const char *type = text_of(model, "type");
    gm_token_kind kind;
    *out = NULL;
    if (!*type) /* old files have none */
        type = json_object_get(model, "merges") ? "BPE" : json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "WordPiece";
    if (strcmp(type, "BPE") == 0)
        kind = GM_TOKENS_BPE;
    else if (strcmp(type, "WordPiece") == 0)
        kind = GM_TOKENS_WORDPIECE;
    else if (strcmp(type, "Unigram") == 0)
        kind = GM_TOKENS_UNIGRAM;
    else
        return gm_fail(err, GM_EUNSUPPORTED, "its model '%.40s' is not supported; BPE, WordPiece and Unigram are", type);
    entries e = {0};
    gm_text bytes = {0};
    gm_tokenizer *t = NULL;
    gm_status status = GM_OK;
    GM_TRY_GOTO(read_entries(&e, json_object_get(model, "vocab"), json_object_get(root, "added_tokens"), err));
    GM_TRY_GOTO(gm_tokenizer_begin(&t, kind, false, e.count, err));
    t->subwords = gm_subwords_create();
    if (!t->subwords)
        GM_TRY_GOTO(gm_fail_memory(err, sizeof *t->subwords));
    GM_TRY_GOTO(read_normalizer(t->subwords, json_object_get(root, "normalizer"), 0, err));
    GM_TRY_GOTO(read_cuts(t->subwords, json_object_get(root, "pre_tokenizer"), 0, err));
    GM_TRY_GOTO(read_decoder(t->subwords, json_object_get(root, "decoder"), 0, err));
    for (int64_t id = 0; id < e.count; id++)
        GM_TRY_GOTO(add_entry(t, &e.list[id], &bytes, err));
    GM_TRY_GOTO(read_model(t, &e, model, err));
    read_post(t, json_object_get(root, "post_processor"), 0);
    gm_subwords_guess_ends(t);
    t->subwords->json = gm_copy(json, size);
    t->subwords->json_size = size;
    if (!t->subwords->json)
        GM_TRY_GOTO(gm_fail_memory(err, size));
done:
    gm_free(e.list);
    gm_text_free(&bytes);
    if (status == GM_OK)
        return gm_tokenizer_finish(out, t, err);
    gm_tokenizer_free(t);
    return status;
}
