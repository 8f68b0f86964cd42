/* llama2c_tokens.c -- llama2.c's tokenizer.bin: SentencePiece's byte-pair encoding with scores.
 *
 *   i32 longest key in bytes; then until the end of the file, in id order: f32 score, i32 size, the key's bytes
 *
 * Ids 0, 1, 2 are unknown, BOS, EOS; 3 .. 258 the bytes as "<0x00>" .. "<0xFF>". Encoding begins with characters (bytes for characters
 * that are no key) after one more space at the text's start, and joins neighbours into the key of the highest score, the leftmost of
 * equals, while there is one. Decoding leaves out the space after BOS.
 *
 * So it is BPE with ranks made of scores (bpe_pairs.c). No key has a space that follows another character (checked), so that words can
 * be encoded alone (subwords.c). */
#include "subwords.h"

#include <math.h>
#include <string.h>
#include <utf8proc.h>

enum { UNKNOWN, BOS, EOS, BYTES };
static const double score_none = -1e10f; /* llama2.c joins only above it */

/* ---- making ------------------------------------------------------------------------------------------------------------------ */

/* Where a key is wrong, NULL when it is not. */
static const char *key_fault(const gm_llama2c_key *key, int64_t id) {
    if (!isfinite(key->score))
        return "has a score that is not a number";
    if (id >= BYTES && id < BYTES + 256) {
        char want[8];
        snprintf(want, sizeof want, "<0x%02X>", (unsigned)(id - BYTES));
        return key->size == 6 && memcmp(key->text, want, 6) == 0 ? NULL : "is not the byte that belongs there (<0x00> is 3)";
    }
    if (key->size > GM_KEY_MAX)
        return "is too long";
    if (memchr(key->text, 0, key->size))
        return "has a zero byte"; /* which tokenizer.json could not hold */
    for (size_t at = 0; at < key->size;) {
        utf8proc_int32_t c = 0;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)key->text + at, (utf8proc_ssize_t)(key->size - at), &c);
        if (n <= 0)
            return "is not UTF-8";
        if (c == ' ' && at > 0 && key->text[at - 1] != ' ' && id >= BYTES)
            return "has a space inside, which is not supported";
        at += (size_t)n;
    }
    return NULL;
}

gm_status gm_llama2c_tokens_make(gm_tokenizer **out, const gm_llama2c_key *keys, int64_t count, gm_error *err) {
    *out = NULL;
    if (count < BYTES + 256)
        return gm_fail(err, GM_EFORMAT, "%lld tokens, llama2.c's begin with 3 special ones and 256 bytes", (long long)count);
    gm_tokenizer *t;
    GM_TRY(gm_tokenizer_begin(&t, GM_TOKENS_LLAMA2C, false, count, err));
    gm_status status = GM_OK;
    t->scores = gm_alloc((size_t)t->capacity, sizeof *t->scores);
    gm_subwords *s = t->subwords = gm_subwords_create();
    if (!t->scores || !s) {
        status = gm_fail_memory(err, (size_t)count * sizeof *t->scores);
        goto done;
    }
    t->unk = UNKNOWN;
    t->bos = BOS;
    t->eos = EOS;
    s->any_bytes = s->byte_fallback = s->strip_first = s->adds_bos = true;
    s->rewrites[s->rewrite_count++] = (gm_rewrite){.kind = GM_REWRITE_PREPEND, .text = gm_copy(" ", 1)};
    if (!s->rewrites[0].text) {
        status = gm_fail_memory(err, 2);
        goto done;
    }
    for (int32_t id = 0; id < count; id++) {
        const gm_llama2c_key *key = &keys[id];
        const char *fault = key_fault(key, id);
        if (fault) {
            status = key->offset < 0
                         ? gm_fail(err, GM_EFORMAT, "token %d %s", id, fault)
                         : gm_fail_at(err, GM_EFORMAT, key->offset, "token %d (byte %lld) %s", id, (long long)key->offset, fault);
            goto done;
        }
        gm_tokenizer_add(t, key->text, key->size); /* of equal keys the first is found */
        t->scores[id] = (double)key->score;
        if (id < BYTES)
            t->types[id] = id == UNKNOWN ? GM_TOKEN_UNKNOWN : GM_TOKEN_CONTROL;
        else if (id < BYTES + 256) {
            t->types[id] = GM_TOKEN_BYTE;
            s->byte_ids[id - BYTES] = id;
        }
    }
    if (gm_tokenizer_find(t, " ", 1) < 0)
        status = gm_fail(err, GM_EFORMAT, "no token is a space");
    if (status == GM_OK)
        status = gm_pairs_from_scores(t, score_none, false, err);
done:
    if (status == GM_OK)
        return gm_tokenizer_finish(out, t, err);
    gm_tokenizer_free(t);
    return status;
}

bool gm_llama2c_tokens_is(const uint8_t *data, size_t size) {
    return size >= 4 && data[3] == 0; /* the longest key's size; JSON has no zero bytes */
}

static gm_status read_keys(gm_llama2c_key *keys, int64_t *count, const uint8_t *data, size_t size, gm_error *err) {
    int32_t longest, n;
    memcpy(&longest, data, 4);
    *count = 0;
    for (size_t at = 4; at < size; at += 8 + (size_t)n) {
        float score;
        if (size - at < 8)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at, "cut off at byte %zu, inside token %lld", at, (long long)*count);
        memcpy(&score, data + at, 4);
        memcpy(&n, data + at + 4, 4);
        if (n < 0 || n > longest)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at + 4, "token %lld has %d bytes (byte %zu), the longest should have %d",
                              (long long)*count, n, at + 4, longest);
        if ((size_t)n > size - at - 8)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)at + 4, "token %lld has %d bytes (byte %zu), the file only %zu more",
                              (long long)*count, n, at + 4, size - at - 8);
        if (keys)
            keys[*count] = (gm_llama2c_key){(const char *)data + at + 8, (size_t)n, score, (int64_t)at + 8};
        ++*count;
    }
    return GM_OK;
}

gm_status gm_llama2c_tokens_parse(gm_tokenizer **out, const uint8_t *data, size_t size, gm_error *err) {
    int64_t count;
    *out = NULL;
    GM_TRY(read_keys(NULL, &count, data, size, err));
    gm_llama2c_key *keys = gm_alloc((size_t)count, sizeof *keys);
    if (!keys)
        return gm_fail_memory(err, (size_t)count * sizeof *keys);
    gm_status status = read_keys(keys, &count, data, size, err);
    if (status == GM_OK)
        status = gm_llama2c_tokens_make(out, keys, count, err);
    gm_free(keys);
    return status;
}

/* What llama2.c's program prints: spaces as they are, and BOS and EOS on lines of their own, as its exporter writes them. */
static void put_key(gm_text *out, const gm_vocabulary_token *token, int32_t id) {
    static const char space[] = "\xe2\x96\x81"; /* U+2581 */
    if (id == BOS || id == EOS) {
        gm_text_add(out, id == BOS ? "\n<s>\n" : "\n</s>\n");
        return;
    }
    for (size_t i = 0; i < token->size;) {
        bool is_space = token->size - i >= 3 && memcmp(token->text + i, space, 3) == 0;
        gm_text_bytes(out, is_space ? " " : token->text + i, 1);
        i += is_space ? 3 : 1;
    }
}

gm_status gm_llama2c_tokens_write(const gm_vocabulary *v, const char *path, gm_error *err) {
    gm_text keys = {0}, file = {0};
    int32_t longest = 0;
    if (strcmp(v->model, "llama") != 0 || v->count < BYTES + 256 || v->tokens[BYTES].type != GM_TOKEN_BYTE || v->bos != BOS ||
        v->eos != EOS)
        return gm_fail(err, GM_EUNSUPPORTED,
                       "llama2.c's program reads SentencePiece BPE with BOS 1, EOS 2 and 256 byte tokens behind them only");
    for (int32_t id = 0; id < v->count; id++) {
        size_t from = keys.size;
        gm_text_bytes(&keys, &v->tokens[id].score, 4);
        gm_text_bytes(&keys, &longest, 4); /* its size, known below */
        put_key(&keys, &v->tokens[id], id);
        int32_t n = (int32_t)(keys.size - from - 8);
        if (!keys.failed)
            memcpy(keys.data + from + 4, &n, 4);
        longest = GM_MAX(longest, n);
    }
    gm_text_bytes(&file, &longest, 4);
    gm_text_bytes(&file, keys.data, keys.size);
    gm_status status = keys.failed || file.failed ? gm_fail_memory(err, keys.size) : gm_file_write(path, file.data, file.size, err);
    gm_text_free(&keys);
    gm_text_free(&file);
    return status;
}
