/* convert.c -- a model in other programs' files: the zero token where the variant needs it, then the format's own writer. */
#include "config_file.h"
#include "gguf_file.h"
#include "hf_folder.h"
#include "zero_token.h"

#include <string.h>

static bool plain_softmax(const gm_model_config *c) {
    return c->attention.sink == GM_SINK_NONE && !c->attention.clipped && c->attention.gate == GM_GATE_NONE;
}

/* How many zero tokens the file is to have. */
static gm_status zero_tokens(int64_t *n, const gm_model_config *c, const gm_convert_options *o, gm_error *err) {
    *n = 0;
    if (o->zero_tokens == 0 || plain_softmax(c))
        return o->zero_tokens <= 0 ? GM_OK
                                   : gm_fail(err, GM_EINVAL, "this model is plain softmax: it takes no zero token; leave out the %lld",
                                             (long long)o->zero_tokens);
    gm_error why;
    gm_status status = gm_zero_token_count(n, c, &why);
    if (status != GM_OK)
        return gm_fail(err, status, "%s%s", why.msg,
                       o->format == GM_FORMAT_HF ? " (without one: ghostmax_<family>, for this program only)" : "");
    if (o->zero_tokens > 0 && o->zero_tokens != *n)
        return gm_fail(err, GM_EINVAL, "this model's softmax_n has n = %lld, so its prompt begins with that many zero tokens, not %lld",
                       (long long)*n, (long long)o->zero_tokens);
    return GM_OK;
}

static gm_status check_free(const char *out, const gm_convert_options *o, gm_error *err) {
    static const char *const ours[] = {"config.json",    "model.safetensors",      "model.safetensors.index.json",
                                       "tokenizer.json", "generation_config.json", NULL};
    if (o->force)
        return GM_OK;
    const char *there = o->format == GM_FORMAT_HF ? gm_dir_has(out, ours) : NULL;
    if (there)
        return gm_fail(err, GM_EIO, "'%s' has a %s already; choose another folder or say --force", out, there);
    if (o->format != GM_FORMAT_HF && gm_path_exists(out))
        return gm_fail(err, GM_EIO, "'%s' exists; choose another name or say --force", out);
    return GM_OK;
}

/* What a format's writer needs to know. */
typedef struct job {
    const gm_model *m; /* plain softmax, or refused by the format, or ghostmax_<family> */
    const gm_tokenizer *t;
    const char *out;
    const gm_convert_options *o;
    gm_convert_result *result;
} job;

static gm_status write_hf(const job *j, gm_error *err) {
    char path[1024];
    int32_t bos = j->result->zero_tokens ? j->result->zero_token : j->t ? gm_tokenizer_bos(j->t) : -1;
    GM_TRY(gm_model_save_as(j->m, j->out, j->o->dtype, j->o->max_shard_bytes, err));
    GM_TRY(gm_hf_folder_tokens(j->out, bos, j->t ? gm_tokenizer_eos(j->t) : -1, j->result->zero_token, err));
    if (!j->t)
        return GM_OK;
    GM_TRY(gm_path_join(path, sizeof path, j->out, "tokenizer.json", err));
    return gm_tokenizer_save(j->t, path, err);
}

static gm_status write_gguf(const job *j, gm_error *err) {
    gm_gguf_writer *w;
    GM_TRY(gm_gguf_writer_create(&w, err));
    gm_status status = gm_gguf_model_put(w, j->m, j->o->dtype, err);
    if (!j->t)
        gm_gguf_put_text(w, "tokenizer.ggml.model", "none");
    if (status == GM_OK)
        status = gm_gguf_writer_commit(w, j->out, err);
    gm_gguf_writer_free(w);
    return status;
}

gm_status gm_convert(const gm_model *m, const gm_tokenizer *t, const char *out, const gm_convert_options *options,
                     gm_convert_result *result, gm_error *err) {
    static gm_status (*const writers[])(const job *, gm_error *) = {[GM_FORMAT_HF] = write_hf, [GM_FORMAT_GGUF] = write_gguf};
    gm_convert_result ignored;
    gm_convert_result *r = result ? result : &ignored;
    gm_model *replaced = NULL;
    *r = (gm_convert_result){.zero_token = -1, .bos = m->cfg.bos};
    GM_TRY(check_free(out, options, err));
    GM_TRY(zero_tokens(&r->zero_tokens, &m->cfg, options, err));
    if (t && gm_tokenizer_vocab(t) > m->cfg.vocab)
        return gm_fail(err, GM_EINVAL, "the tokenizer has %lld tokens, the model %lld; give the model's own",
                       (long long)gm_tokenizer_vocab(t), (long long)m->cfg.vocab);
    if (r->zero_tokens) {
        r->zero_token = (int32_t)m->cfg.vocab;
        GM_TRY(gm_zero_token_model(&replaced, m, err));
    }
    const job j = {replaced ? replaced : m, t, out, options, r};
    r->vocab = j.m->cfg.vocab;
    r->context = j.m->cfg.context;
    r->text = t != NULL;
    snprintf(r->architecture, sizeof r->architecture, "%s",
             options->format == GM_FORMAT_GGUF ? gm_gguf_architecture(&j.m->cfg) : gm_config_model_type(&j.m->cfg));
    gm_status status = writers[options->format](&j, err);
    gm_model_free(replaced);
    return status;
}
