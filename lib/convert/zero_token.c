/* zero_token.c -- when a zero token can stand for the sink, and the model that has one. */
#include "zero_token.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

gm_status gm_zero_token_count(int64_t *n, const gm_model_config *c, gm_error *err) {
    const gm_variant *a = &c->attention;
    const bool sink = a->sink == GM_SINK_CONSTANT && a->n > 0;
    const struct {
        bool fails;
        const char *why;
    } conditions[] = {
        {a->sink == GM_SINK_LEARNED, "its sinks are learned, a zero key scores 0 in every head"},
        {a->clipped, "its attention weights are clipped, which softmax is not"},
        {a->gate != GM_GATE_NONE, "its attention is gated, which a stock runtime does not compute"},
        {sink && a->n != floor(a->n), "its n is not a whole number of tokens"},
        {sink && a->n > 4096, "its n is more than 4096 tokens"},
        {sink && !c->rope, "its position embeddings are added to the zero row, which is then no longer zero"},
        {sink && !c->rms_norm, "layer norm's bias makes something of a zero row; only RMS norm keeps it zero"},
        {sink && !(c->norm_eps > 0), "its RMS norm has no eps, so a zero row is 0/0"},
        {sink && (c->bias || c->qkv_bias), "its linear layers have biases, so a zero row gets a key and a value"},
        {sink && c->window > 0 && (double)c->window < (double)c->context + a->n,
         "its sliding window is shorter than its context, so the zero token would fall out of sight"},
    };
    gm_text reasons = {0};
    for (int i = 0; i < GM_COUNT(conditions); i++) {
        if (conditions[i].fails)
            gm_text_add(&reasons, "%s%s", reasons.size ? "; " : "", conditions[i].why);
    }
    gm_status status = GM_OK;
    *n = 0;
    if (reasons.failed)
        status = gm_fail_memory(err, 1024);
    else if (reasons.size)
        status = gm_fail(err, GM_EUNSUPPORTED, "no zero token can stand for this model's attention: %s", reasons.data);
    else if (sink)
        *n = (int64_t)a->n;
    gm_text_free(&reasons);
    return status;
}

/* What gm_zero_token_model writes into cfg.surgery, last. */
static const char after_format[] = " -> softmax after %lld x token %lld";

int32_t gm_config_zero_token(const gm_model_config *cfg) {
    const char *last = strrchr(cfg->surgery, ';'), *arrow = strstr(last ? last : cfg->surgery, " -> ");
    long long n, token;
    return arrow && sscanf(arrow, after_format, &n, &token) == 2 && token == cfg->vocab - 1 ? (int32_t)token : -1;
}

gm_status gm_zero_token_model(gm_model **out, const gm_model *m, gm_error *err) {
    *out = NULL;
    int64_t n;
    GM_TRY(gm_zero_token_count(&n, &m->cfg, err));
    if (n == 0)
        return gm_fail(err, GM_EINVAL, "plain softmax needs no zero token");
    gm_model_config cfg = m->cfg;
    char spec[64];
    gm_variant_format(spec, sizeof spec, &cfg.attention);
    GM_TRY(gm_variant_parse(&cfg.attention, "softmax", err));
    cfg.bos = GM_BOS_ALWAYS; /* which the zero token is now */
    cfg.vocab++;
    cfg.context += n;
    size_t used = strlen(cfg.surgery);
    used += (size_t)snprintf(cfg.surgery + used, sizeof cfg.surgery - used, "%s%s", used ? "; " : "", spec);
    if (used < sizeof cfg.surgery)
        snprintf(cfg.surgery + used, sizeof cfg.surgery - used, after_format, (long long)n, (long long)m->cfg.vocab);
    GM_TRY(gm_model_allocate(out, m->ctx, &cfg, err));
    for (int i = 0; i < m->param_count; i++) { /* the same tensors; two of them have one more row, which stays zero */
        const gm_param *p = &m->params[i];
        memcpy(gm_model_weight(*out, p->slot, p->layer), m->weights + p->offset, (size_t)(p->rows * p->cols) * sizeof(float));
    }
    return GM_OK;
}
