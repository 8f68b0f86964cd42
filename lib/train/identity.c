/* identity.c -- a run's identity as a flat JSON object. */
#include "identity.h"
#include "model.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Enums and flags as numbers. A name that a training option has too stands for that; the model's own is "model_<name>". */
static void add_model(json_t *id, const gm_model_config *c) {
#define MODEL_WHOLE(field) json_integer((json_int_t)c->field)
#define MODEL_BOOL MODEL_WHOLE
#define MODEL_ACT MODEL_WHOLE
#define MODEL_INIT MODEL_WHOLE
#define MODEL_ROPE MODEL_WHOLE
#define MODEL_REAL(field) json_real(c->field)
#define MODEL_TEXT(field) NULL /* words for readers: the preset's name says nothing that the fields do not */
#define MODEL_BOS(field) NULL  /* the data's identity says it */
#define GM_CONFIG(field, type, use) json_object_set_new(id, json_object_get(id, #field) ? "model_" #field : #field, MODEL_##type(field));
    json_object_set_new(id, "family", json_integer((json_int_t)c->family));
#include "config.def"
#undef GM_CONFIG
}

json_t *gm_identity_of(const gm_model_config *c, const gm_train_options *o, const char *data) {
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"seed", (int64_t)o->seed},
                    {"steps", o->steps},
                    {"batch", o->batch},
                    {"context", o->context},
                    {"accumulate", o->accumulate},
                    {"warmup", o->warmup},
                    {"schedule", o->schedule},
                    {"decay_norm_gains", o->decay_norm_gains},
                    {"eval_every", o->eval_every},
                    {"eval_sequences", o->eval_sequences},
                    {"log_every", o->log_every},
                    {"measure_every", o->measure_every},
                    {"measure_sequences", o->measure_sequences}};
    const struct {
        const char *name;
        double value;
    } reals[] = {{"lr", o->lr},       {"lr_min", o->lr_min}, {"beta1", o->beta1},
                 {"beta2", o->beta2}, {"eps", o->eps},       {"weight_decay", o->weight_decay},
                 {"clip", o->clip}};
    char variant[256];
    gm_variant_format(variant, sizeof variant, &c->attention);
    json_t *id = json_pack("{s:s, s:s}", "attention", variant, "data", data);
    for (int i = 0; id && i < GM_COUNT(integers); i++)
        json_object_set_new(id, integers[i].name, json_integer(integers[i].value));
    for (int i = 0; id && i < GM_COUNT(reals); i++)
        json_object_set_new(id, reals[i].name, json_real(reals[i].value));
    add_model(id, c);
    if (o->from) { /* what it began with, by content */
        char hash[17];
        const gm_model *from = o->from;
        snprintf(hash, sizeof hash, "%016" PRIx64, gm_hash(from->weights, (size_t)from->param_elements * sizeof(float), 0));
        gm_variant_format(variant, sizeof variant, &from->cfg.attention);
        json_object_set_new(id, "from", json_string(hash));
        json_object_set_new(id, "from_attention", json_string(variant));
        json_object_set_new(id, "ramp", json_integer(o->ramp));
    }
    if (id && gm_json_starved()) { /* it may lack a field, which would make it another run's */
        json_decref(id);
        id = NULL;
    }
    return id;
}

static gm_status fail_other(const char *folder, const char *name, json_t *found, json_t *wanted, gm_error *err) {
    char *a = found ? gm_json_dump(found, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
    char *b = wanted ? gm_json_dump(wanted, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
    gm_status status = gm_fail(err, GM_EINVAL, "'%s' holds another run: its %s is %s, asked is %s; choose another folder", folder, name,
                               a ? a : "not set", b ? b : "none");
    free(a);
    free(b);
    return status;
}

/* What a run of an earlier version did not know, it did not use: a field that came later and is off makes no difference. */
static bool is_off(const json_t *value) {
    return json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0);
}

gm_status gm_identity_compare(json_t *there, json_t *asked, const char *folder, gm_error *err) {
    const char *name;
    json_t *value;
    if (!json_is_object(there))
        return gm_fail(err, GM_EFORMAT, "'%s' does not say what was trained there; choose another folder or remove it", folder);
    json_object_foreach(asked, name, value) {
        json_t *found = json_object_get(there, name);
        if (found ? !json_equal(found, value) : !is_off(value))
            return fail_other(folder, name, found, value, err);
    }
    json_object_foreach(there, name, value) {
        if (!json_object_get(asked, name))
            return fail_other(folder, name, value, NULL, err);
    }
    return GM_OK;
}
