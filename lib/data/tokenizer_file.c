/* tokenizer_file.c -- the files of tokenizers: which format one is, and our own.
 *
 * Our own form is {"type": "ghostmax.tokenizer", "version": 1, "kind", "lower", "unk", "bos", "vocab": [keys in id order]}. It has no
 * "model", so a stock tokenizer.json loader refuses it instead of reading something else out of it. kind "bytes" has no "vocab": ids 0..255
 * are the bytes and 256 is BOS. chars and words begin with <unk> = 0 and <bos> = 1, which no text produces. llama2c and sentencepiece have
 * "scores" beside them, sentencepiece what else its own file says. bpe, wordpiece and unigram are written as Hugging Face's tokenizer.json
 * (tokenizer_json.c). */
#include "gguf_tokens.h"
#include "subwords.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char file_type[] = "ghostmax.tokenizer";

/* Would the splitter cut the key as one key? Else no text could ever produce it. */
static bool key_is_whole(gm_token_kind kind, bool lower, const char *key, size_t size) {
    if (kind == GM_TOKENS_WORDS && size == 2 && key[0] == ' ')
        return key[1] == '"' || key[1] == '\'';
    gm_splitter s = {.text = (const uint8_t *)key, .size = size, .kind = kind, .lower = lower};
    return gm_splitter_next(&s) == GM_SPLIT_KEY && s.key_size == size && memcmp(s.key, key, size) == 0 && s.at == size;
}

static gm_status add_checked(gm_tokenizer *t, const char *key, size_t size, gm_error *err) {
    if (!key_is_whole(t->kind, t->lower, key, size))
        return gm_fail(err, GM_EFORMAT, "entry %d of the vocabulary, '%.40s', is not one of its %s", t->vocab, key,
                       gm_token_kind_name(t->kind));
    if (!gm_tokenizer_add(t, key, size))
        return gm_fail(err, GM_EFORMAT, "entry %d of the vocabulary, '%.40s', is there twice", t->vocab - 1, key);
    return GM_OK;
}

/* ---- our own form, out ----------------------------------------------------------------------------------------------------------- */

static json_t *keys_of(const gm_tokenizer *t) {
    json_t *vocab = json_array();
    for (int32_t i = 0; i < t->vocab; i++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, i, &size);
        json_array_append_new(vocab, json_stringn(key, size));
    }
    return vocab;
}

/* Of a SentencePiece model all that decides ids. */
static gm_status put_sentencepiece(const gm_tokenizer *t, json_t *root, gm_error *err) {
    gm_vocabulary v;
    gm_text hex = {0};
    GM_TRY(gm_tokenizer_vocabulary(t, &v, err));
    json_t *vocab = json_array(), *types = json_array();
    for (int64_t i = 0; i < v.count; i++) {
        json_array_append_new(vocab, json_stringn(v.tokens[i].text, v.tokens[i].size));
        json_array_append_new(types, json_integer(v.tokens[i].type));
    }
    for (size_t i = 0; i < v.charsmap_size; i++)
        gm_text_add(&hex, "%02x", ((const uint8_t *)v.charsmap)[i]);
    json_t *more = json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:s, s:o, s:o}", "eos", (int)v.eos, "model", v.model, "add_bos",
                             (int)v.add_bos, "add_eos", (int)v.add_eos, "add_space_prefix", (int)v.add_space_prefix, "remove_extra_spaces",
                             (int)v.remove_extra_spaces, "charsmap", hex.data ? hex.data : "", "vocab", vocab, "types", types);
    int failed = !more || hex.failed || json_object_update(root, more);
    json_decref(more);
    gm_text_free(&hex);
    gm_vocabulary_free(&v);
    return failed ? gm_fail_memory(err, t->pool.size) : GM_OK;
}

gm_status gm_tokenizer_format(const gm_tokenizer *t, gm_text *json, gm_error *err) {
    if (t->kind == GM_TOKENS_BPE || t->kind == GM_TOKENS_WORDPIECE || t->kind == GM_TOKENS_UNIGRAM)
        return gm_tokenizer_json_format(t, json, err);
    json_t *root = json_pack("{s:s, s:i, s:s, s:b, s:i, s:i}", "type", file_type, "version", 1, "kind", gm_token_kind_name(t->kind),
                             "lower", (int)t->lower, "unk", (int)t->unk, "bos", (int)t->bos);
    gm_status status = GM_OK;
    if (root && t->kind == GM_TOKENS_SENTENCEPIECE)
        status = put_sentencepiece(t, root, err);
    else if (root && t->kind != GM_TOKENS_BYTES)
        json_object_set_new(root, "vocab", keys_of(t));
    if (root && t->scores) {
        json_t *scores = json_array();
        for (int32_t i = 0; i < t->vocab; i++)
            json_array_append_new(scores, json_real(t->scores[i]));
        json_object_set_new(root, "scores", scores);
    }
    char *dump = root && status == GM_OK ? gm_json_dump(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (dump) {
        gm_text_bytes(json, dump, strlen(dump));
        gm_text_bytes(json, "\n", 1);
    }
    if (status == GM_OK && (!dump || json->failed))
        status = gm_fail_memory(err, t->pool.size);
    free(dump);
    return status;
}

/* ---- and in ----------------------------------------------------------------------------------------------------------------------------
 */

static int hex_of(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static gm_status read_hex(gm_text *out, const char *hex, gm_error *err) {
    for (; *hex; hex += 2) {
        int high = hex_of(hex[0]), low = hex[1] ? hex_of(hex[1]) : -1;
        if (high < 0 || low < 0)
            return gm_fail(err, GM_EFORMAT, "its \"charsmap\" is not pairs of hexadecimal digits");
        gm_text_bytes(out, &(char){(char)(high * 16 + low)}, 1);
    }
    return out->failed ? gm_fail_memory(err, out->size) : GM_OK;
}

static gm_status parse_sentencepiece(gm_tokenizer **out, const json_t *root, gm_error *err) {
    const json_t *vocab = json_object_get(root, "vocab"), *scores = json_object_get(root, "scores"),
                 *types = json_object_get(root, "types");
    int bos, eos, unk, add_bos, add_eos, prefix, extra;
    const char *charsmap;
    gm_vocabulary v = {.pre = "default"};
    gm_text map = {0};
    size_t count = json_array_size(vocab);
    if (json_unpack((json_t *)(uintptr_t)root, "{s:i, s:i, s:i, s:s, s:b, s:b, s:b, s:b, s:s}", "bos", &bos, "eos", &eos, "unk", &unk,
                    "model", &v.model, "add_bos", &add_bos, "add_eos", &add_eos, "add_space_prefix", &prefix, "remove_extra_spaces", &extra,
                    "charsmap", &charsmap) != 0 ||
        json_array_size(scores) != count || json_array_size(types) != count)
        return gm_fail(err, GM_EFORMAT, "a SentencePiece tokenizer without all of its fields, or with lists of unequal length");
    v.tokens = gm_alloc(count + 1, sizeof *v.tokens);
    if (!v.tokens)
        return gm_fail_memory(err, count * sizeof *v.tokens);
    gm_status status = read_hex(&map, charsmap, err);
    v.count = (int64_t)count;
    v.bos = bos < (int64_t)count ? bos : -1; /* a zero token: gm_tokenizer_set_bos */
    v.eos = eos;
    v.unk = unk;
    v.add_bos = add_bos;
    v.add_eos = add_eos;
    v.add_space_prefix = prefix;
    v.remove_extra_spaces = extra;
    v.charsmap = map.data;
    v.charsmap_size = map.size;
    for (size_t i = 0; i < count && status == GM_OK; i++) {
        const json_t *key = json_array_get(vocab, i), *score = json_array_get(scores, i), *type = json_array_get(types, i);
        if (!json_is_string(key) || !json_is_number(score) || !json_is_integer(type) || json_integer_value(type) < 0 ||
            json_integer_value(type) > GM_TOKEN_BYTE)
            status = gm_fail(err, GM_EFORMAT, "entry %zu of \"vocab\" is not a string with a score and a type", i);
        else
            v.tokens[i] = (gm_vocabulary_token){json_string_value(key), json_string_length(key), (float)json_number_value(score),
                                                (gm_token_type)json_integer_value(type)};
    }
    if (status == GM_OK && strcmp(v.model, "llama") != 0 && strcmp(v.model, "t5") != 0)
        status = gm_fail(err, GM_EFORMAT, "its \"model\" is '%.40s'; a SentencePiece tokenizer's is llama or t5", v.model);
    if (status == GM_OK)
        status = gm_tokenizer_from_vocabulary(out, &v, err);
    gm_text_free(&map);
    gm_vocabulary_free(&v);
    return status;
}

static gm_status parse_llama2c(gm_tokenizer **out, const json_t *vocab, const json_t *scores, gm_error *err) {
    size_t count = json_array_size(vocab);
    if (json_array_size(scores) != count || count > GM_VOCAB_MAX)
        return gm_fail(err, GM_EFORMAT, "its \"vocab\" and \"scores\" must be lists of equal length, %d at most", GM_VOCAB_MAX);
    gm_llama2c_key *keys = gm_alloc(count, sizeof *keys);
    if (!keys)
        return gm_fail_memory(err, count * sizeof *keys);
    gm_status status = GM_OK;
    for (size_t i = 0; i < count && status == GM_OK; i++) {
        const json_t *key = json_array_get(vocab, i), *score = json_array_get(scores, i);
        if (json_is_string(key) && json_is_number(score))
            keys[i] = (gm_llama2c_key){json_string_value(key), json_string_length(key), (float)json_number_value(score), -1};
        else
            status = gm_fail(err, GM_EFORMAT, "entry %zu of \"vocab\" is not a string or has no score", i);
    }
    if (status == GM_OK)
        status = gm_llama2c_tokens_make(out, keys, (int64_t)count, err);
    gm_free(keys);
    return status;
}

gm_status gm_tokenizer_parse(gm_tokenizer **out, const char *json, size_t size, gm_error *err) {
    *out = NULL;
    json_error_t where;
    json_t *root = json_loadb(json, size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return gm_fail_at(err, GM_EFORMAT, where.position, "not JSON at byte %d: %s", where.position, where.text);
    gm_tokenizer *t = NULL;
    gm_status status = GM_OK;
    const char *type = json_string_value(json_object_get(root, "type")), *kind;
    int version, lower, unk, bos = -1;
    const bool stock = json_object_get(root, "model") && (!type || strcmp(type, file_type) != 0);
    if (stock) {
        status = gm_tokenizer_json_parse(out, root, json, size, err);
        goto done;
    }
    json_t *vocab = json_object_get(root, "vocab");
    if (json_unpack(root, "{s:s, s:i, s:s, s:b, s:i, s:i}", "type", &type, "version", &version, "kind", &kind, "lower", &lower, "unk", &unk,
                    "bos", &bos) != 0 ||
        strcmp(type, file_type) != 0) {
        status =
            gm_fail(err, GM_EFORMAT, "neither a tokenizer.json (no \"model\") nor one that ghostmax wrote (\"type\": \"%s\")", file_type);
        goto done;
    }
    if (bos >= GM_VOCAB_MAX) {
        status = gm_fail(err, GM_EFORMAT, "its \"bos\" is %d, at most %d tokens can be", bos, GM_VOCAB_MAX);
        goto done;
    }
    int k = gm_token_kind_of(kind);
    if (k < 0 || version != 1) {
        status = gm_fail(err, GM_EUNSUPPORTED, "tokenizer kind '%s' version %d is unknown to this version of ghostmax", kind, version);
        goto done;
    }
    if (k == GM_TOKENS_BYTES) {
        status = gm_tokenizer_bytes(out, err);
        goto done;
    }
    if (k == GM_TOKENS_LLAMA2C) {
        status = parse_llama2c(out, vocab, json_object_get(root, "scores"), err);
        goto done;
    }
    if (k == GM_TOKENS_SENTENCEPIECE) {
        status = parse_sentencepiece(out, root, err);
        goto done;
    }
    if (k != GM_TOKENS_CHARS && k != GM_TOKENS_WORDS) {
        status = gm_fail(err, GM_EUNSUPPORTED, "tokenizer kind '%s' is written as Hugging Face's tokenizer.json, not like this", kind);
        goto done;
    }
    int64_t count = (int64_t)json_array_size(vocab);
    if (count < 2 || count > GM_VOCAB_MAX || unk != 0 || (bos != 1 && bos < count)) {
        status = gm_fail(err, GM_EFORMAT, "its \"vocab\" must be a list of 2..%d strings that begins with <unk> and <bos>", GM_VOCAB_MAX);
        goto done;
    }
    GM_TRY_GOTO(gm_tokenizer_begin(&t, (gm_token_kind)k, lower, count, err));
    gm_tokenizer_add_specials(t);
    for (int64_t i = 0; i < count; i++) {
        json_t *key = json_array_get(vocab, (size_t)i);
        if (!json_is_string(key)) {
            status = gm_fail(err, GM_EFORMAT, "entry %lld of \"vocab\" is not a string", (long long)i);
            goto done;
        }
        if (i >= 2)
            GM_TRY_GOTO(add_checked(t, json_string_value(key), json_string_length(key), err));
    }
    gm_tokenizer *whole = t;
    t = NULL;
    status = gm_tokenizer_finish(out, whole, err);
done:
    if (status == GM_OK && !stock && bos >= (*out)->vocab)
        gm_tokenizer_set_bos(*out, bos);
    gm_tokenizer_free(t);
    json_decref(root);
    return status;
}

/* ---- files on disk ---------------------------------------------------------------------------------------------------------------------
 */

/* GPT-2's files come in twos, whatever stands before these names. */
static const char *const twins[][2] = {{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}};

/* The path of the vocabulary's (which 0) or the merges' (1) file, when `path` is one of the two; false: it is neither. */
static bool twin_of(char *out, size_t size, const char *path, int which) {
    size_t n = strlen(path);
    for (int i = 0; i < GM_COUNT(twins); i++) {
        for (int j = 0; j < 2; j++) {
            size_t k = strlen(twins[i][j]);
            if (n >= k && strcmp(path + n - k, twins[i][j]) == 0 && n - k + strlen(twins[i][which]) < size) {
                memcpy(out, path, n - k);
                strcpy(out + n - k, twins[i][which]);
                return true;
            }
        }
    }
    return false;
}

static gm_status load_twins(gm_tokenizer **out, const char *path, gm_error *err) {
    char names[2][1024];
    gm_file vocab, merges;
    twin_of(names[0], sizeof names[0], path, 0);
    twin_of(names[1], sizeof names[1], path, 1);
    GM_TRY(gm_file_open(&vocab, names[0], err));
    gm_status status = gm_file_open(&merges, names[1], err);
    if (status == GM_OK) {
        gm_error inner = {.offset = -1};
        status = gm_bpe_files_parse(out, (const char *)vocab.data, vocab.size, (const char *)merges.data, merges.size, &inner);
        if (status != GM_OK)
            gm_fail_at(err, status, inner.offset, "tokenizer '%s' and '%s': %s", names[0], names[1], inner.msg);
        gm_file_close(&merges);
    }
    gm_file_close(&vocab);
    return status;
}

/* The folder's tokenizer_config.json names BOS and EOS, as a text or as {"content": text}, and says whether a text begins with BOS. One
 * that is no JSON says nothing. */
static gm_status read_config(gm_tokenizer *t, const char *folder, gm_error *err) {
    char path[1024];
    gm_file file;
    GM_TRY(gm_path_join(path, sizeof path, folder, "tokenizer_config.json", err));
    if (!t->subwords || !gm_path_exists(path))
        return GM_OK;
    GM_TRY(gm_file_open(&file, path, err));
    json_t *root = json_loadb((const char *)file.data, file.size, 0, NULL);
    gm_file_close(&file);
    if (!root && gm_json_starved())
        return gm_fail_memory(err, 4096);
    for (int i = 0; i < 2; i++) {
        const json_t *token = json_object_get(root, i ? "eos_token" : "bos_token");
        const char *text = json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
        int32_t id = text ? gm_subwords_added(t->subwords, text) : -1;
        if (id >= 0)
            *(i ? &t->eos : &t->bos) = id;
    }
    const json_t *add = json_object_get(root, "add_bos_token");
    if (json_is_boolean(add))
        t->subwords->adds_bos = json_is_true(add);
    json_decref(root);
    return GM_OK;
}

const char *gm_tokenizer_in(const char *folder) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json", "vocab.txt", NULL};
    return gm_dir_has(folder, names);
}

gm_status gm_tokenizer_load(gm_tokenizer **out, const char *path, gm_error *err) {
    gm_file file;
    char inside[1024];
    *out = NULL;
    if (gm_path_is_dir(path)) {
        const char *name = gm_tokenizer_in(path);
        if (!name)
            return gm_fail(err, GM_EIO, "no tokenizer in '%s': no tokenizer.json, tokenizer.model, vocab.json, encoder.json or vocab.txt",
                           path);
        GM_TRY(gm_path_join(inside, sizeof inside, path, name, err));
        GM_TRY(gm_tokenizer_load(out, inside, err));
        gm_status status = read_config(*out, path, err);
        if (status != GM_OK) {
            gm_tokenizer_free(*out);
            *out = NULL;
        }
        return status;
    }
    if (twin_of(inside, sizeof inside, path, 0))
        return load_twins(out, path, err);
    GM_TRY(gm_file_open(&file, path, err));
    gm_error inner = {.offset = -1};
    const char *text = (const char *)file.data;
    gm_status status = gm_gguf_is(file.data, file.size)             ? gm_gguf_tokens_parse(out, file.data, file.size, path, &inner)
                       : gm_sentencepiece_is(file.data, file.size)  ? gm_sentencepiece_parse(out, file.data, file.size, &inner)
                       : gm_llama2c_tokens_is(file.data, file.size) ? gm_llama2c_tokens_parse(out, file.data, file.size, &inner)
                       : gm_wordpiece_file_is(text, file.size)      ? gm_wordpiece_parse(out, text, file.size, &inner)
                                                                    : gm_tokenizer_parse(out, text, file.size, &inner);
    gm_file_close(&file);
    if (status != GM_OK)
        return gm_fail_at(err, status, inner.offset, "tokenizer '%s': %s", path, inner.msg);
    return GM_OK;
}

gm_status gm_tokenizer_save(const gm_tokenizer *t, const char *path, gm_error *err) {
    gm_text json = {0};
    gm_status status = gm_tokenizer_format(t, &json, err);
    if (status == GM_OK)
        status = gm_file_write(path, json.data, json.size, err);
    gm_text_free(&json);
    return status;
}
