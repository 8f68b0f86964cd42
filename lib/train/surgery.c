/* surgery.c -- what becomes of a model's weights and normaliser when its variant changes. */
#include "surgery.h"

#include <math.h>
#include <string.h>

static const double open_pi = 0.99; /* of new gates: near 1, and still with a slope of 0.01 to learn by */

static gm_status check_tensors(const gm_model_config *cfg, const gm_model *from, gm_error *err) {
    int count = gm_params_layout(cfg, NULL);
    for (int i = 0; i < count; i++) {
        gm_param p;
        gm_params_describe(cfg, i, &p);
        const int index = p.layer < from->cfg.layers ? from->slot_index[p.layer < 0 ? from->cfg.layers : p.layer][p.slot] : -1;
        const gm_param *q = index < 0 ? NULL : &from->params[index];
        const bool added = p.kind == GM_PARAM_SINK || p.kind == GM_PARAM_GATE || p.kind == GM_PARAM_GATE_BIAS;
        if (!q && !added)
            return gm_fail(err, GM_EINVAL, "the model to continue has no tensor '%s'; only the attention variant may change", p.name);
        if (q && (q->rows != p.rows || q->cols != p.cols))
            return gm_fail(
                err, GM_EINVAL, "tensor '%s' is [%lld, %lld] in the model to continue and would be [%lld, %lld]; keep its shape%s", p.name,
                (long long)q->rows, (long long)q->cols, (long long)p.rows, (long long)p.cols, added ? ", or remove the gate first" : "");
    }
    return GM_OK;
}

gm_status gm_surgery_config(gm_model_config *cfg, const gm_train_options *o, gm_error *err) {
    const gm_model_config *from = &o->from->cfg;
    gm_variant *a = &cfg->attention;
    if (o->ramp < 0)
        return gm_fail(err, GM_EINVAL, "ramp is %lld, it must be 0 (none) or more steps", (long long)o->ramp);
    if (o->ramp >= o->steps)
        return gm_fail(err, GM_EINVAL,
                       "ramp is %lld of %lld steps; it must end before the training does, which ends under the variant itself",
                       (long long)o->ramp, (long long)o->steps);
    if (o->ramp && from->attention.sink == GM_SINK_LEARNED && a->sink != GM_SINK_LEARNED)
        return gm_fail(err, GM_EINVAL, "no ramp leads from learned sinks to another kind; leave it out (ramp 0)");
    if (a->gate != GM_GATE_NONE && from->attention.gate == GM_GATE_NONE && a->gate_pi == 0.5) /* the default: nothing was asked for */
        a->gate_pi = open_pi;
    GM_TRY(check_tensors(cfg, o->from, err));
    char was[64], is[64], ramp[32] = "";
    gm_variant_format(was, sizeof was, &from->attention);
    gm_variant_format(is, sizeof is, a);
    if (o->ramp)
        snprintf(ramp, sizeof ramp, " (ramp %lld)", (long long)o->ramp);
    memcpy(cfg->surgery, from->surgery, sizeof cfg->surgery);
    size_t used = strlen(cfg->surgery);
    snprintf(cfg->surgery + used, sizeof cfg->surgery - used, "%s%s -> %s%s", used ? "; " : "", was, is, ramp);
    return GM_OK;
}

void gm_surgery_weights(gm_model *m, const gm_model *from) {
    const gm_variant *a = &m->cfg.attention;
    const int last_gate = a->gate == GM_GATE_MLP ? GM_P_GATE_W2 : GM_P_GATE_W1;
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        const float *source = gm_model_weight(from, p->slot, p->layer);
        float *x = m->weights + p->offset;
        const int64_t n = p->rows * p->cols;
        if (source)
            memcpy(x, source, (size_t)n * sizeof *x);
        else if (p->slot == last_gate)
            memset(x, 0, (size_t)n * sizeof *x);
        else if (p->kind == GM_PARAM_SINK) {
            for (int64_t h = 0; h < n; h++)
                x[h] = isfinite(from->norm.sink) ? from->norm.sink : 0;
        }
    }
}

void gm_surgery_step(gm_model *m, const gm_train_options *o, int64_t step) {
    const gm_norm to = gm_variant_norm(&m->cfg.attention, m->cfg.context), from = o->from->norm;
    const double r = o->ramp && step <= o->ramp ? (double)(step - 1) / (double)o->ramp : 1;
    m->norm = to;
    m->sink_shift = 0;
    if (r == 1)
        return;
    m->norm.clip_a = (float)(from.clip_a + r * (to.clip_a - from.clip_a));
    m->norm.clip_c = (float)(from.clip_c + r * (to.clip_c - from.clip_c));
    if (m->cfg.attention.sink != GM_SINK_LEARNED)
        m->norm.sink = r == 0 ? from.sink : (float)log((1 - r) * exp((double)from.sink) + r * exp((double)to.sink));
    else if (!isfinite(from.sink))
        m->sink_shift = (float)log(r);
}
