/* tokenizer_json_write.c -- Hugging Face's tokenizer.json of what did not come from one: trained BPE, vocab.bpe, vocab.txt, GGUF. */
#include "subwords.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *added_tokens(const gm_subwords *s) {
    json_t *list = json_array();
    for (int32_t i = 0; i < s->added_count; i++) {
        const gm_added *a = &s->added[i];
        json_array_append_new(list, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id, "content", a->text, "single_word",
                                              (int)a->single_word, "lstrip", (int)a->lstrip, "rstrip", (int)a->rstrip, "normalized",
                                              (int)a->normalized, "special", (int)a->special));
    }
    return list;
}

static json_t *vocab_of(const gm_vocabulary *v, const gm_tokenizer *t) {
    json_t *vocab = json_object();
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t size;
        const char *key = gm_tokenizer_key(t, id, &size);
        const gm_vocabulary_token *k = &v->tokens[id];
        bool bert = t->kind == GM_TOKENS_WORDPIECE; /* its GGUF form is another */
        json_object_setn_new(vocab, bert ? key : k->text, bert ? size : k->size, json_integer(id));
    }
    return vocab;
}

static json_t *byte_level(bool regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", (int)regex);
}

static json_t *write_bpe(const gm_tokenizer *t, const gm_vocabulary *v) {
    gm_match_kind match = t->subwords->cuts[0].match;
    json_t *merges = json_array();
    for (int64_t i = 0; i < v->merge_count; i++)
        json_array_append_new(merges, json_stringn(v->merges[i].text, v->merges[i].size));
    json_t *cuts = match == GM_MATCH_GPT2
                       ? byte_level(true)
                       : json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split",
                                   "pattern", "Regex", gm_match_pattern(match), "behavior", "Isolated", "invert", 0, byte_level(false));
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}}", "version", "1.0",
                     "truncation", "padding", "added_tokens", added_tokens(t->subwords), "normalizer", "pre_tokenizer", cuts,
                     "post_processor", byte_level(true), "decoder", byte_level(true), "model", "type", "BPE", "dropout", "unk_token",
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                     (int)t->subwords->whole_first, "vocab", vocab_of(v, t), "merges", merges);
}

static const char *name_of(const gm_tokenizer *t, int32_t id) {
    for (int32_t i = 0; i < t->subwords->added_count; i++) {
        if (t->subwords->added[i].id == id)
            return t->subwords->added[i].text;
    }
    return "";
}

static json_t *write_wordpiece(const gm_tokenizer *t, const gm_vocabulary *v) {
    int lower = 0;
    for (int i = 0; i < t->subwords->rewrite_count; i++)
        lower = lower || t->subwords->rewrites[i].kind == GM_REWRITE_LOWER;
    json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:{s:s, s:b, s:b, s:n, s:b}, s:{s:s}}", "version", "1.0", "truncation", "padding",
                             "added_tokens", added_tokens(t->subwords), "normalizer", "type", "BertNormalizer", "clean_text", 1,
                             "handle_chinese_chars", 1, "strip_accents", "lowercase", lower, "pre_tokenizer", "type", "BertPreTokenizer");
    if (t->bos >= 0 && t->eos >= 0)
        json_object_set_new(root, "post_processor",
                            json_pack("{s:s, s:[s, i], s:[s, i]}", "type", "BertProcessing", "sep", name_of(t, t->eos), (int)t->eos, "cls",
                                      name_of(t, t->bos), (int)t->bos));
    else
        json_object_set_new(root, "post_processor", json_null());
    json_object_set_new(root, "decoder", json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1));
    json_object_set_new(root, "model",
                        json_pack("{s:s, s:s, s:s, s:I, s:o}", "type", "WordPiece", "unk_token", name_of(t, t->unk),
                                  "continuing_subword_prefix", "##", "max_input_chars_per_word", (json_int_t)t->subwords->word_max, "vocab",
                                  vocab_of(v, t)));
    return root;
}

gm_status gm_tokenizer_json_format(const gm_tokenizer *t, gm_text *json, gm_error *err) {
    const gm_subwords *s = t->subwords;
    if (s->json) {
        gm_text_bytes(json, s->json, s->json_size);
        return json->failed ? gm_fail_memory(err, s->json_size) : GM_OK;
    }
    gm_vocabulary v;
    GM_TRY(gm_tokenizer_vocabulary(t, &v, err));
    json_t *root = t->kind == GM_TOKENS_WORDPIECE ? write_wordpiece(t, &v) : write_bpe(t, &v);
    char *dump = root ? gm_json_dump(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    gm_vocabulary_free(&v);
    if (dump) {
        gm_text_bytes(json, dump, strlen(dump));
        gm_text_bytes(json, "\n", 1);
    }
    free(dump);
    return !dump || json->failed ? gm_fail_memory(err, t->pool.size) : GM_OK;
}
