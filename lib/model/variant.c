/* variant.c -- the only file that knows the variants' names: spec text <-> gm_variant -> the three numbers a kernel sees. */
#include "base.h"
#include "ghostmax_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum part { PART_SINK, PART_CLIP, PART_GATE };

enum name {
#define GM_VARIANT(NAME, ...) NAME_##NAME,
#include "variant.def"
#undef GM_VARIANT
    NAME_COUNT
};

static const gm_variant_info variants[] = {
#define GM_VARIANT(NAME, name, PART, keys, summary, source) {name, keys, summary, source},
#include "variant.def"
#undef GM_VARIANT
};

static const char *const names[] = {
#define GM_VARIANT(NAME, name, ...) name,
#include "variant.def"
#undef GM_VARIANT
    NULL};

static const enum part parts[] = {
#define GM_VARIANT(NAME, name, PART, ...) PART_##PART,
#include "variant.def"
#undef GM_VARIANT
};

enum key_type { KEY_REAL, KEY_WHOLE, KEY_KIND };

static const struct key {
    const char *name;
    size_t offset;
    enum key_type type;
    double low, high;
    bool low_allowed, high_allowed;
    const char *rule;
} keys[] = {
#define GM_VARIANT_KEY(name, field, TYPE, low, low_allowed, high, high_allowed, rule) \
    {#name, offsetof(gm_variant, field), KEY_##TYPE, low, high, low_allowed, high_allowed, rule},
#include "variant.def"
#undef GM_VARIANT_KEY
};

static const char *const gate_names[] = {
#define GM_VARIANT_GATE(KIND, name) name,
#include "variant.def"
#undef GM_VARIANT_GATE
    NULL};

static const gm_gate_kind gate_kinds[] = {
#define GM_VARIANT_GATE(KIND, name) GM_GATE_##KIND,
#include "variant.def"
#undef GM_VARIANT_GATE
};

const gm_variant_info *gm_variant_list(int index) {
    return index >= 0 && index < GM_COUNT(variants) ? &variants[index] : NULL;
}

static int index_of(const char *word, const char *const *words) {
    for (int i = 0; words[i]; i++) {
        if (!strcmp(word, words[i]))
            return i;
    }
    return -1;
}

static gm_status fail_unknown(gm_error *err, const char *what, const char *word, const char *const *known) {
    char all[256] = "";
    for (int i = 0; known[i]; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", known[i]);
    const char *near = gm_text_nearest(word, known);
    if (near)
        return gm_fail(err, GM_EINVAL, "unknown %s '%s', did you mean '%s'? (known: %s)", what, word, near, all);
    return gm_fail(err, GM_EINVAL, "unknown %s '%s' (known: %s)", what, word, all);
}

/* Cuts text at the first `mark`; returns what follows it, NULL when there is none. */
static char *cut(char *text, char mark) {
    char *at = strchr(text, mark);
    if (at)
        *at++ = 0;
    return at;
}

static gm_status set_key(gm_variant *v, const struct key *key, const char *name, const char *text, gm_error *err) {
    void *field = (char *)v + key->offset;
    if (key->type == KEY_KIND) {
        int kind = index_of(text, gate_names);
        if (kind < 0)
            return fail_unknown(err, "gate kind", text, gate_names);
        *(gm_gate_kind *)field = gate_kinds[kind];
        return GM_OK;
    }
    char *end;
    double value = strtod(text, &end);
    bool number = end != text && !*end && !isnan(value) && (key->type == KEY_REAL || value == floor(value));
    bool inside =
        (value > key->low || (key->low_allowed && value == key->low)) && (value < key->high || (key->high_allowed && value == key->high));
    if (!number || !inside)
        return gm_fail(err, GM_EINVAL, "variant '%s': %s=%s is %s; it must be %s", name, key->name, text,
                       number ? "out of range" : "not a number it can use", key->rule);
    if (key->type == KEY_WHOLE)
        *(int *)field = (int)value;
    else
        *(double *)field = value;
    return GM_OK;
}

/* The keys of one variant, split from the table's text: its names, and its defaults where it has them. */
struct key_list {
    char text[64];
    const char *names[8], *defaults[8];
};

static void key_list_of(struct key_list *list, int variant) {
    snprintf(list->text, sizeof list->text, "%s", variants[variant].keys);
    int n = 0;
    for (char *next, *key = *list->text ? list->text : NULL; key; key = next) {
        next = cut(key, ',');
        list->defaults[n] = cut(key, '=');
        list->names[n++] = key;
    }
    list->names[n] = NULL;
}

static const struct key *key_of(const char *name) {
    for (int i = 0; i < GM_COUNT(keys); i++) {
        if (!strcmp(name, keys[i].name))
            return &keys[i];
    }
    return NULL;
}

/* One `name[:key=value,...]`; text is cut up. */
static gm_status parse_part(gm_variant *v, char *text, bool *taken, gm_error *err) {
    char *next = cut(text, ':');
    int variant = index_of(text, names);
    if (variant < 0)
        return fail_unknown(err, "variant", text, names);
    enum part part = parts[variant];
    if (taken[part])
        return gm_fail(err, GM_EINVAL, "variant '%s': a second %s cannot be added; name each of sink, clip and gate at most once", text,
                       part == PART_SINK   ? "sink (softmax, softmax1, softmax_n, sink)"
                       : part == PART_CLIP ? "clip (clipped)"
                                           : "gate (gated)");
    taken[part] = true;

    struct key_list list;
    key_list_of(&list, variant);
    for (int i = 0; list.names[i]; i++) {
        if (list.defaults[i])
            GM_TRY(set_key(v, key_of(list.names[i]), text, list.defaults[i], err));
    }
    bool given[GM_COUNT(list.names)] = {false};
    for (char *key = next; key; key = next) {
        next = cut(key, ',');
        char *value = cut(key, '=');
        int i = index_of(key, list.names);
        if (i < 0 && !list.names[0])
            return gm_fail(err, GM_EINVAL, "variant '%s' takes no keys, '%s' must go", text, key);
        if (i < 0) {
            char what[64];
            snprintf(what, sizeof what, "key of variant '%.32s'", text);
            return fail_unknown(err, what, key, list.names);
        }
        if (!value)
            return gm_fail(err, GM_EINVAL, "variant '%s': '%s' needs a value, as in %s:%s=...", text, key, text, key);
        if (given[i])
            return gm_fail(err, GM_EINVAL, "variant '%s': '%s' is given twice", text, key);
        given[i] = true;
        GM_TRY(set_key(v, key_of(key), text, value, err));
    }

    switch (variant) {
    case NAME_SOFTMAX1:
        v->n = 1;
        v->sink = GM_SINK_CONSTANT;
        break;
    case NAME_SOFTMAX_N:
        v->sink = GM_SINK_CONSTANT;
        break;
    case NAME_SINK:
        v->sink = GM_SINK_LEARNED;
        break;
    case NAME_CLIPPED: {
        bool alpha = given[index_of("alpha", list.names)], gamma = given[index_of("gamma", list.names)];
        if (alpha && gamma)
            return gm_fail(err, GM_EINVAL, "variant 'clipped': give either alpha (gamma = -alpha / context) or gamma, not both");
        v->clipped = true;
        if (gamma)
            v->alpha = 0;
        break;
    }
    case NAME_GATED:
        if (v->gate != GM_GATE_MLP) {
            if (given[index_of("hidden", list.names)])
                return gm_fail(err, GM_EINVAL, "variant 'gated': hidden is for kind=mlp only; add kind=mlp or leave it out");
            v->gate_hidden = 0;
        }
        break;
    default:
        break;
    }
    return GM_OK;
}

gm_status gm_variant_parse(gm_variant *out, const char *spec, gm_error *err) {
    *out = (gm_variant){0};
    char text[256];
    if (!spec || strlen(spec) >= sizeof text)
        return gm_fail(err, GM_EINVAL, "a variant must be a text of 1 to %d characters, such as softmax1 or clipped:alpha=4",
                       (int)sizeof text - 1);
    snprintf(text, sizeof text, "%s", spec);
    gm_variant v = {0};
    bool taken[3] = {false};
    for (char *next, *part = text; part; part = next) {
        /* a '+' right after 'e' or '=' belongs to a number such as 1e+3 */
        for (next = strchr(part, '+'); next && next > part && strchr("eE=", next[-1]) && next[1] >= '0' && next[1] <= '9';)
            next = strchr(next + 1, '+');
        if (next)
            *next++ = 0;
        GM_TRY(parse_part(&v, part, taken, err));
    }
    *out = v;
    return GM_OK;
}

/* The shortest decimal that reads back as the same double; with an exponent only where people would write one: 50, not 5e+01. */
static void format_real(char dst[32], double value) {
    const bool plain = fabs(value) >= 1e-4 && fabs(value) < 1e15;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(dst, 32, "%.*g", digits, value);
        if (strtod(dst, NULL) == value && !(plain && strchr(dst, 'e')))
            return;
    }
}

/* What a row of results is called: the spec's shortest unambiguous form. The clip's strength is always written, since papers differ
 * on what plain "clipped" means; the gate's defaults are not. */
int gm_variant_format(char *dst, size_t size, const gm_variant *v) {
    char text[256] = "", number[32], other[32];
    size_t used = 0;
#define ADD(...) used += (size_t)snprintf(text + used, sizeof text - used, __VA_ARGS__)
    if (v->sink == GM_SINK_LEARNED) {
        ADD("sink");
    } else if (v->sink == GM_SINK_CONSTANT && v->n == 1) {
        ADD("softmax1");
    } else if (v->sink == GM_SINK_CONSTANT) {
        format_real(number, v->n);
        ADD("softmax_n:n=%s", number);
    }
    if (v->clipped) {
        format_real(number, v->alpha > 0 ? v->alpha : v->gamma);
        format_real(other, v->zeta);
        ADD("%sclipped:%s=%s", used ? "+" : "", v->alpha > 0 ? "alpha" : "gamma", number);
        if (!(v->alpha > 0) || v->zeta != 1)
            ADD(",zeta=%s", other);
    }
    if (v->gate != GM_GATE_NONE) {
        char mark = ':';
        ADD("%sgated", used ? "+" : "");
        for (int i = 0; i < GM_COUNT(gate_kinds); i++) {
            if (v->gate == gate_kinds[i] && v->gate != GM_GATE_LINEAR) {
                ADD("%ckind=%s", mark, gate_names[i]);
                mark = ',';
            }
        }
        if (v->gate == GM_GATE_MLP)
            ADD(",hidden=%d", v->gate_hidden);
        if (v->gate_pi != 0.5) {
            format_real(number, v->gate_pi);
            ADD("%cpi=%s", mark, number);
        }
    }
#undef ADD
    return snprintf(dst, size, "%s", used ? text : "softmax");
}

gm_norm gm_variant_norm(const gm_variant *v, int64_t context) {
    gm_norm norm = GM_NORM_SOFTMAX;
    if (v->sink == GM_SINK_CONSTANT)
        norm.sink = (float)log(v->n); /* n = 0: -inf, plain softmax */
    else if (v->sink == GM_SINK_LEARNED)
        norm.sink = 0;
    if (v->clipped) {
        double gamma = v->alpha > 0 ? -v->alpha / (double)context : v->gamma;
        norm.clip_a = (float)(v->zeta - gamma);
        norm.clip_c = (float)gamma;
    }
    return norm;
}
