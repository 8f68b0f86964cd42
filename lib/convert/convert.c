/* convert.c -- a model in other programs' files: the zero token where the variant needs it, then the format's own writer. */
#include "config_file.h"
#include "gguf_file.h"
#include "gguf_tokens.h"
#include "hf_folder.h"
#include "llama2c_file.h"
#include "zero_token.h"

#include <stdio.h>
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

/* Beside a llama2.c file: model.bin -> model.tokenizer.bin. */
static gm_status llama2c_tokenizer_path(char *dst, size_t size, const char *out, gm_error *err) {
    const char *dot = strrchr(out, '.'), *slash = strrchr(out, '/');
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - out) : strlen(out);
    if ((size_t)snprintf(dst, size, "%.*s.tokenizer.bin", (int)stem, out) >= size)
        return gm_fail(err, GM_EINVAL, "the name '%.60s...' is too long; choose a shorter one", out);
    return GM_OK;
}

static gm_status check_free(const char *out, const gm_convert_options *o, gm_error *err) {
    static const char *const ours[] = {"config.json",
                                       "model.safetensors",
                                       "model.safetensors.index.json",
                                       "tokenizer.json",
                                       "generation_config.json",
                                       "tokenizer_config.json",
                                       NULL};
    if (o->force)
        return GM_OK;
    const char *there = o->format == GM_FORMAT_HF ? gm_dir_has(out, ours) : NULL;
    if (there)
        return gm_fail(err, GM_EIO, "'%s' has a %s already; choose another folder or say --force", out, there);
    if (o->format != GM_FORMAT_HF && gm_path_exists(out))
        return gm_fail(err, GM_EIO, "'%s' exists; choose another name or say --force", out);
    char beside[1024];
    if (o->format != GM_FORMAT_LLAMA2C)
        return GM_OK;
    GM_TRY(llama2c_tokenizer_path(beside, sizeof beside, out, err));
    if (gm_path_exists(beside))
        return gm_fail(err, GM_EIO, "'%s' exists; choose another name or say --force", beside);
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
    const gm_convert_result *r = j->result;
    const gm_hf_tokens tokens = {.bos = r->zero_tokens ? r->zero_token
                                        : j->t         ? gm_tokenizer_bos(j->t)
                                                       : -1,
                                 .eos = j->t ? gm_tokenizer_eos(j->t) : -1,
                                 .zero = r->zero_token,
                                 .zeros = r->zero_tokens,
                                 .context = r->context};
    char path[1024];
    gm_folder f;
    if (j->o->max_shard_bytes < 0)
        return gm_fail(err, GM_EINVAL, "a shard of %lld bytes; give 0 (one file) or more", (long long)j->o->max_shard_bytes);
    GM_TRY(gm_folder_open(&f, j->out, err));
    gm_status status = gm_model_put(j->m, &f, j->o->dtype, j->o->max_shard_bytes, err);
    if (status == GM_OK && j->t)
        status = gm_path_join(path, sizeof path, f.staging, "tokenizer.json", err);
    if (status == GM_OK && j->t)
        status = gm_tokenizer_save(j->t, path, err);
    if (status == GM_OK)
        status = gm_hf_folder_tokens(f.staging, &tokens, &j->result->text, err);
    if (status == GM_OK)
        return gm_model_commit(&f, true, err);
    gm_folder_abort(&f);
    return status;
}

/* The tokenizer's vocabulary, as long as the model's: the zero token, and names for rows that no token has. */
static gm_status put_vocabulary(gm_gguf_writer *w, const job *j, gm_vocabulary *v, gm_error *err) {
    const int64_t count = j->m->cfg.vocab;
    gm_vocabulary longer = *v;
    char(*names)[32] = gm_alloc((size_t)count, sizeof *names);
    longer.tokens = gm_alloc((size_t)count, sizeof *longer.tokens);
    gm_status status = names && longer.tokens ? GM_OK : gm_fail_memory(err, (size_t)count * sizeof *longer.tokens);
    if (status == GM_OK) {
        memcpy(longer.tokens, v->tokens, (size_t)v->count * sizeof *v->tokens);
        for (int64_t id = v->count; id < count; id++) {
            const bool zero = id == j->result->zero_token;
            const int size = zero ? snprintf(names[id], sizeof *names, "<|zero|>")
                                  : snprintf(names[id], sizeof *names, "<|unused %lld|>", (long long)id);
            longer.tokens[id] = (gm_vocabulary_token){names[id], (size_t)size, 0, zero ? GM_TOKEN_CONTROL : GM_TOKEN_UNUSED};
        }
        longer.count = count;
        if (j->m->cfg.bos != GM_BOS_UNKNOWN) /* begin as in training */
            longer.add_bos = j->m->cfg.bos == GM_BOS_ALWAYS && v->bos >= 0;
        if (j->result->zero_tokens) {
            longer.bos = j->result->zero_token;
            longer.add_bos = true;
        }
        status = gm_gguf_tokens_put(w, &longer, err);
    }
    gm_free(longer.tokens);
    gm_free(names);
    return status;
}

static gm_status write_gguf(const job *j, gm_error *err) {
    gm_gguf_writer *w;
    gm_vocabulary v = {0};
    GM_TRY(gm_gguf_writer_create(&w, err));
    gm_status status;
    GM_TRY_GOTO(gm_gguf_model_put(w, j->m, j->o->dtype, err));
    if (j->t) {
        GM_TRY_GOTO(gm_tokenizer_vocabulary(j->t, &v, err));
        GM_TRY_GOTO(put_vocabulary(w, j, &v, err));
        if (!v.whole)
            GM_TRY_GOTO(gm_gguf_tokens_put_own(w, j->t, err));
        j->result->text = v.exact;
    } else {
        gm_gguf_put_text(w, "tokenizer.ggml.model", "none");
    }
    status = gm_gguf_writer_commit(w, j->out, err);
done:
    gm_vocabulary_free(&v);
    gm_gguf_writer_free(w);
    return status;
}

/* llama2.c's program begins every prompt with token 1 and computes softmax. The tokenizer first: where the model is, all is. */
static gm_status write_llama2c(const job *j, gm_error *err) {
    if (j->o->dtype != GM_DTYPE_F32)
        return gm_fail(err, GM_EINVAL, "llama2.c checkpoints are written in f32 only; leave out --dtype %s", gm_dtype_name(j->o->dtype));
    if (j->t) {
        gm_vocabulary v;
        gm_error reason;
        char path[1024];
        GM_TRY(llama2c_tokenizer_path(path, sizeof path, j->out, err));
        GM_TRY(gm_tokenizer_vocabulary(j->t, &v, err));
        gm_status status = gm_llama2c_tokens_write(&v, path, &reason);
        gm_vocabulary_free(&v);
        j->result->text = status == GM_OK;
        if (status != GM_OK && status != GM_EUNSUPPORTED) { /* a model without a tokenizer that run.c reads is still a model */
            if (err)
                *err = reason;
            return status;
        }
    }
    return gm_llama2c_save(j->m, 0, j->out, err);
}

gm_status gm_convert(const gm_model *m, const gm_tokenizer *t, const char *out, const gm_convert_options *options,
                     gm_convert_result *result, gm_error *err) {
    static gm_status (*const writers[])(const job *, gm_error *) = {
        [GM_FORMAT_HF] = write_hf, [GM_FORMAT_GGUF] = write_gguf, [GM_FORMAT_LLAMA2C] = write_llama2c};
    gm_convert_result ignored = {0};
    gm_convert_result *r = result ? result : &ignored;
    gm_model *replaced = NULL;
    *r = (gm_convert_result){.zero_token = -1, .bos = m->cfg.bos};
    GM_TRY(check_free(out, options, err));
    if (options->format == GM_FORMAT_HF && options->dtype == GM_DTYPE_Q8_0)
        return gm_fail(err, GM_EINVAL, "q8_0 is GGUF's; a Hugging Face folder holds f32, f16 or bf16");
    if (options->format == GM_FORMAT_LLAMA2C && !plain_softmax(&m->cfg))
        return gm_fail(err, GM_EUNSUPPORTED,
                       "llama2.c computes plain softmax and begins with token 1: no zero token fits; use --to gguf or hf");
    GM_TRY(zero_tokens(&r->zero_tokens, &m->cfg, options, err));
    if (t && gm_tokenizer_vocab(t) > m->cfg.vocab)
        return gm_fail(err, GM_EINVAL, "the tokenizer has %lld tokens, the model %lld; give the model's own",
                       (long long)gm_tokenizer_vocab(t), (long long)m->cfg.vocab);
    if (r->zero_tokens) {
        r->zero_token = (int32_t)m->cfg.vocab;
        GM_TRY(gm_zero_token_model(&replaced, m, err));
    }
    gm_model written = replaced ? *replaced : *m; /* its tensors, under the family that stock runtimes know them by */
    const char *odd = gm_config_stock_family(&written.cfg.family, &written.cfg);
    const job j = {&written, t, out, options, r};
    r->vocab = written.cfg.vocab;
    r->context = written.cfg.context;
    snprintf(r->architecture, sizeof r->architecture, "%s",
             options->format == GM_FORMAT_GGUF ? gm_gguf_architecture(&written.cfg) : gm_config_model_type(&written.cfg));
    if (replaced && strncmp(r->architecture, "ghostmax_", 9) == 0) {
        gm_model_free(replaced);
        return gm_fail(err, GM_EUNSUPPORTED,
                       "a zero token would not help: with it the model is still a %s, which no stock runtime knows (its %s is none of the "
                       "stock architecture's); --zero-token off keeps it for this program",
                       r->architecture, odd ? odd : "rope_scaling");
    }
    gm_status status = writers[options->format](&j, err);
    gm_model_free(replaced);
    return status;
}
