/* gguf_tokens.c -- the tokenizer inside a GGUF file: the keys tokenizer.ggml.*, both ways. */
#include "gguf_tokens.h"

#include <string.h>

#define KEY(name) "tokenizer.ggml." name
static const char own_key[] = "ghostmax.tokenizer"; /* the text of tokenizer.json, where the keys do not say all of it */

static gm_status expect(const gm_gguf_value *v, gm_gguf_type type, int64_t count, const char *key, gm_error *err) {
    if (v && (v->type != GM_GGUF_ARRAY || v->element != type || v->count != count))
        return gm_fail_at(err, GM_EFORMAT, (int64_t)v->at, "'%s' (byte %zu) is not a list of %lld values of its type", key, v->at,
                          (long long)count);
    return GM_OK;
}

/* An id, `otherwise` where the file says none. */
static int32_t id_of(const gm_gguf *g, const char *key, int32_t otherwise) {
    const gm_gguf_value *v = gm_gguf_find(g, key);
    int64_t id;
    if (!v || !gm_gguf_whole(v, 0, &id))
        return otherwise;
    return id >= 0 && id < INT32_MAX ? (int32_t)id : -1;
}

static bool flag_of(const gm_gguf *g, const char *key, bool otherwise) {
    const gm_gguf_value *v = gm_gguf_find(g, key);
    int64_t flag;
    return v && gm_gguf_whole(v, 0, &flag) ? flag != 0 : otherwise;
}

/* A text as a C string in out; "" when there is none. */
static const char *text_of(const gm_gguf *g, const char *key, char *out, size_t size) {
    const gm_gguf_value *v = gm_gguf_find(g, key);
    gm_gguf_text *text = v && v->type == GM_GGUF_TEXT ? gm_gguf_texts(v) : NULL;
    out[0] = 0;
    if (text)
        snprintf(out, size, "%.*s", (int)GM_MIN(text[0].size, size - 1), text[0].data);
    gm_free(text);
    return out;
}

static gm_status read_tokens(const gm_gguf *g, gm_vocabulary *v, gm_error *err) {
    const gm_gguf_value *tokens = gm_gguf_find(g, KEY("tokens")), *scores = gm_gguf_find(g, KEY("scores"));
    const gm_gguf_value *types = gm_gguf_find(g, KEY("token_type"));
    if (!tokens || tokens->type != GM_GGUF_ARRAY || tokens->element != GM_GGUF_TEXT)
        return gm_fail(err, GM_EFORMAT, "no list of texts '" KEY("tokens") "' in it");
    v->count = tokens->count;
    GM_TRY(expect(scores, GM_GGUF_F32, v->count, KEY("scores"), err));
    GM_TRY(expect(types, GM_GGUF_I32, v->count, KEY("token_type"), err));
    gm_gguf_text *texts = gm_gguf_texts(tokens);
    v->tokens = gm_alloc((size_t)v->count + 1, sizeof *v->tokens);
    for (int64_t i = 0; texts && v->tokens && i < v->count; i++) {
        int32_t type = GM_TOKEN_NORMAL;
        float score = 0;
        if (types)
            memcpy(&type, types->data + 4 * i, 4);
        if (scores)
            memcpy(&score, scores->data + 4 * i, 4);
        v->tokens[i] = (gm_vocabulary_token){texts[i].data, texts[i].size, score, (gm_token_type)type};
    }
    gm_status status = texts && v->tokens ? GM_OK : gm_fail_memory(err, (size_t)v->count * sizeof *v->tokens);
    gm_free(texts);
    return status;
}

static gm_status read_merges(const gm_gguf *g, gm_vocabulary *v, gm_error *err) {
    const gm_gguf_value *merges = gm_gguf_find(g, KEY("merges"));
    if (!merges)
        return GM_OK;
    GM_TRY(expect(merges, GM_GGUF_TEXT, merges->count, KEY("merges"), err));
    gm_gguf_text *texts = gm_gguf_texts(merges);
    v->merge_count = merges->count;
    v->merges = gm_alloc((size_t)v->merge_count + 1, sizeof *v->merges);
    for (int64_t i = 0; texts && v->merges && i < v->merge_count; i++)
        v->merges[i] = (gm_vocabulary_token){.text = texts[i].data, .size = texts[i].size};
    gm_status status = texts && v->merges ? GM_OK : gm_fail_memory(err, (size_t)v->merge_count * sizeof *v->merges);
    gm_free(texts);
    return status;
}

/* The zero token of an export lies behind the vocabulary. */
static gm_status read_own(gm_tokenizer **out, const gm_gguf *g, const gm_gguf_value *own, gm_error *err) {
    gm_error inner = {.offset = -1};
    if (own->type != GM_GGUF_TEXT)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)own->at, "'%s' (byte %zu) is not a text", own_key, own->at);
    gm_status status = gm_tokenizer_parse(out, (const char *)own->data + 8, own->bytes - 8, &inner);
    if (status != GM_OK)
        return gm_fail_at(err, status, (int64_t)own->at, "'%s' (byte %zu): %s", own_key, own->at, inner.msg);
    int32_t bos = id_of(g, KEY("bos_token_id"), -1);
    if (bos >= gm_tokenizer_vocab(*out) && bos < GM_VOCAB_MAX)
        gm_tokenizer_set_bos(*out, bos);
    return GM_OK;
}

gm_status gm_gguf_tokens_read(gm_tokenizer **out, const gm_gguf *g, gm_error *err) {
    char model[48], pre[48];
    const gm_gguf_value *own = gm_gguf_find(g, own_key);
    *out = NULL;
    if (own)
        return read_own(out, g, own, err);
    gm_vocabulary v = {.model = text_of(g, KEY("model"), model, sizeof model), .pre = text_of(g, KEY("pre"), pre, sizeof pre)};
    if (!*model || strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0)
        return gm_fail(err, GM_EFORMAT, "no tokenizer in it; give one with --tokenizer");
    if (!*pre)
        v.pre = "default";
    if (strcmp(model, "gpt2") == 0 && !gm_gguf_find(g, KEY("merges")))
        return gm_fail(err, GM_EFORMAT, "no list of texts '" KEY("merges") "' in it, which a gpt2 tokenizer needs");
    bool llama = strcmp(model, "llama") == 0, bert = strcmp(model, "bert") == 0, t5 = strcmp(model, "t5") == 0;
    v.bos = id_of(g, KEY("bos_token_id"), llama ? 1 : -1); /* what a runtime takes where the file says nothing */
    v.eos = id_of(g, KEY("eos_token_id"), llama ? 2 : -1);
    v.unk = id_of(g, KEY("unknown_token_id"), llama ? 0 : -1);
    v.add_bos = flag_of(g, KEY("add_bos_token"), llama || bert || strcmp(v.pre, "llama-bpe") == 0);
    v.add_eos = flag_of(g, KEY("add_eos_token"), bert || t5);
    v.add_space_prefix = flag_of(g, KEY("add_space_prefix"), llama || t5);
    v.remove_extra_spaces = flag_of(g, KEY("remove_extra_whitespaces"), false);
    const gm_gguf_value *map = gm_gguf_find(g, KEY("precompiled_charsmap"));
    if (map && map->type == GM_GGUF_ARRAY && (map->element == GM_GGUF_U8 || map->element == GM_GGUF_I8)) {
        v.charsmap = map->data;
        v.charsmap_size = map->bytes;
    }
    gm_status status = read_tokens(g, &v, err);
    if (status == GM_OK)
        status = read_merges(g, &v, err);
    if (status == GM_OK)
        status = gm_tokenizer_from_vocabulary(out, &v, err);
    gm_vocabulary_free(&v);
    return status;
}

gm_status gm_gguf_tokens_parse(gm_tokenizer **out, const void *bytes, size_t size, const char *name, gm_error *err) {
    gm_gguf g;
    *out = NULL;
    GM_TRY(gm_gguf_parse(&g, bytes, size, name, err));
    gm_status status = gm_gguf_tokens_read(out, &g, err);
    gm_gguf_close(&g);
    return status;
}

gm_status gm_gguf_tokens_put_own(gm_gguf_writer *w, const gm_tokenizer *t, gm_error *err) {
    gm_text json = {0};
    gm_status status = gm_tokenizer_format(t, &json, err);
    if (status == GM_OK)
        gm_gguf_put_text(w, own_key, json.data);
    gm_text_free(&json);
    return status;
}

static void put_id(gm_gguf_writer *w, const char *key, int32_t id) {
    if (id >= 0)
        gm_gguf_put_u32(w, key, (uint32_t)id);
}

gm_status gm_gguf_tokens_put(gm_gguf_writer *w, const gm_vocabulary *v, gm_error *err) {
    size_t most = (size_t)GM_MAX(v->count, v->merge_count) + 1;
    gm_gguf_text *texts = gm_alloc(most, sizeof *texts);
    float *scores = gm_alloc(most, sizeof *scores);
    int32_t *types = gm_alloc(most, sizeof *types);
    gm_status status = texts && scores && types ? GM_OK : gm_fail_memory(err, most * sizeof *texts);
    if (status == GM_OK) {
        for (int64_t i = 0; i < v->count; i++) {
            texts[i] = (gm_gguf_text){v->tokens[i].text, v->tokens[i].size};
            scores[i] = v->tokens[i].score;
            types[i] = v->tokens[i].type;
        }
        gm_gguf_put_text(w, KEY("model"), v->model);
        gm_gguf_put_text(w, KEY("pre"), v->pre);
        gm_gguf_put_texts(w, KEY("tokens"), texts, v->count);
        gm_gguf_put_array(w, KEY("scores"), GM_GGUF_F32, scores, v->count);
        gm_gguf_put_array(w, KEY("token_type"), GM_GGUF_I32, types, v->count);
        for (int64_t i = 0; i < v->merge_count; i++)
            texts[i] = (gm_gguf_text){v->merges[i].text, v->merges[i].size};
        if (strcmp(v->model, "gpt2") == 0)
            gm_gguf_put_texts(w, KEY("merges"), texts, v->merge_count);
        put_id(w, KEY("bos_token_id"), v->bos);
        put_id(w, KEY("eos_token_id"), v->eos);
        put_id(w, KEY("unknown_token_id"), v->unk);
        gm_gguf_put_bool(w, KEY("add_bos_token"), v->add_bos);
        gm_gguf_put_bool(w, KEY("add_eos_token"), v->add_eos);
        gm_gguf_put_bool(w, KEY("add_space_prefix"), v->add_space_prefix);
        gm_gguf_put_bool(w, KEY("remove_extra_whitespaces"), v->remove_extra_spaces);
        if (v->charsmap_size)
            gm_gguf_put_array(w, KEY("precompiled_charsmap"), GM_GGUF_U8, v->charsmap, (int64_t)v->charsmap_size);
    }
    gm_free(texts);
    gm_free(scores);
    gm_free(types);
    return status;
}
