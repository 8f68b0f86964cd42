/* bpe_files.c -- GPT-2's two files: encoder.json (vocab.json), {"token": id}, and vocab.bpe (merges.txt), a pair per line in order. */
#include "subwords.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* "<|endoftext|>", "<s>": in brackets, and no merge makes it. */
static bool is_special(const char *text, size_t size, const gm_vocabulary *v) {
    if (size < 3 || text[0] != '<' || text[size - 1] != '>')
        return false;
    for (int64_t i = 0; i < v->merge_count; i++) {
        const gm_vocabulary_token *m = &v->merges[i];
        const char *space = m->size == size + 1 ? memchr(m->text, ' ', m->size) : NULL;
        size_t n = space ? (size_t)(space - m->text) : 0;
        if (space && memcmp(m->text, text, n) == 0 && memcmp(space + 1, text + n, size - n) == 0)
            return false;
    }
    return true;
}

static gm_status read_merges(gm_vocabulary *v, const char *text, size_t size, gm_error *err) {
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    v->merges = gm_alloc(lines, sizeof *v->merges);
    if (!v->merges)
        return gm_fail_memory(err, lines * sizeof *v->merges);
    for (size_t at = 0, n; at < size; at += n + 1) {
        const char *end = memchr(text + at, '\n', size - at);
        n = end ? (size_t)(end - text) - at : size - at;
        size_t length = n > 0 && text[at + n - 1] == '\r' ? n - 1 : n;
        bool comment = at == 0 && length >= 8 && memcmp(text, "#version", 8) == 0;
        if (length == 0 || comment)
            continue;
        const char *space = memchr(text + at, ' ', length);
        if (!space || space == text + at || space == text + at + length - 1 ||
            memchr(space + 1, ' ', length - (size_t)(space + 1 - text - at)))
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at, "merges, byte %zu: '%.*s' is not two tokens with a space between them", at,
                              (int)GM_MIN(length, (size_t)40), text + at);
        v->merges[v->merge_count++] = (gm_vocabulary_token){.text = text + at, .size = length};
    }
    return GM_OK;
}

static gm_status read_tokens(gm_vocabulary *v, const json_t *root, gm_error *err) {
    const char *key;
    json_t *value;
    v->count = (int64_t)json_object_size(root);
    v->tokens = gm_alloc((size_t)v->count + 1, sizeof *v->tokens);
    if (!v->tokens)
        return gm_fail_memory(err, (size_t)v->count * sizeof *v->tokens);
    json_object_foreach((json_t *)(uintptr_t)root, key, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= v->count)
            return gm_fail(err, GM_EFORMAT, "token '%.40s' should have an id from 0 to %lld, one below the number of tokens", key,
                           (long long)v->count - 1);
        if (v->tokens[id].text)
            return gm_fail(err, GM_EFORMAT, "tokens '%.40s' and '%.40s' have the same id %lld", v->tokens[id].text, key, (long long)id);
        bool special = is_special(key, strlen(key), v);
        v->tokens[id] = (gm_vocabulary_token){key, strlen(key), 0, special ? GM_TOKEN_CONTROL : GM_TOKEN_NORMAL};
    }
    return GM_OK;
}

gm_status gm_bpe_files_parse(gm_tokenizer **out, const char *vocab, size_t vocab_size, const char *merges, size_t merges_size,
                             gm_error *err) {
    *out = NULL;
    json_error_t where;
    json_t *root = json_loadb(vocab, vocab_size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return gm_fail_at(err, GM_EFORMAT, where.position, "not JSON at byte %d: %s", where.position, where.text);
    gm_vocabulary v = {.model = "gpt2", .pre = "gpt-2", .bos = -1, .eos = -1, .unk = -1};
    gm_status status = json_is_object(root) ? GM_OK : gm_fail(err, GM_EFORMAT, "not a list of tokens and their ids, {\"token\": id}");
    if (status == GM_OK)
        status = read_merges(&v, merges, merges_size, err);
    if (status == GM_OK)
        status = read_tokens(&v, root, err);
    if (status == GM_OK)
        status = gm_tokenizer_from_vocabulary(out, &v, err);
    gm_vocabulary_free(&v);
    json_decref(root);
    return status;
}
