/* test_variant.c -- specs: what parses, to what; what is refused, in which words; the canonical form; the numbers a kernel sees. */
#include "base.h"
#include "ghostmax_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static gm_variant parse(const char *spec) {
    gm_variant v;
    gm_error err = {0};
    if (gm_variant_parse(&v, spec, &err) != GM_OK)
        fail_msg("'%s': %s", spec, err.msg);
    return v;
}

static bool same(const gm_variant *a, const gm_variant *b) {
    return a->sink == b->sink && a->n == b->n && a->clipped == b->clipped && a->gamma == b->gamma && a->zeta == b->zeta &&
           a->alpha == b->alpha && a->gate == b->gate && a->gate_hidden == b->gate_hidden && a->gate_pi == b->gate_pi;
}

static void parses_to_fields(void **state) {
    (void)state;
    gm_variant v = parse("softmax");
    assert_true(v.sink == GM_SINK_NONE && !v.clipped && v.gate == GM_GATE_NONE);
    v = parse("softmax1");
    assert_true(v.sink == GM_SINK_CONSTANT && v.n == 1);
    v = parse("softmax_n:n=0.5");
    assert_true(v.sink == GM_SINK_CONSTANT && v.n == 0.5);
    v = parse("sink");
    assert_true(v.sink == GM_SINK_LEARNED);
    v = parse("clipped");
    assert_true(v.clipped && v.alpha == 4 && v.zeta == 1);
    v = parse("clipped:gamma=-0.03,zeta=1.03");
    assert_true(v.clipped && v.alpha == 0 && v.gamma == -0.03 && v.zeta == 1.03);
    v = parse("clipped:zeta=1.1");
    assert_true(v.clipped && v.alpha == 4 && v.zeta == 1.1);
    v = parse("gated");
    assert_true(v.gate == GM_GATE_LINEAR && v.gate_pi == 0.5 && v.gate_hidden == 0);
    v = parse("gated:kind=mlp");
    assert_true(v.gate == GM_GATE_MLP && v.gate_hidden == 4);
    v = parse("gated:kind=all_heads,pi=0.25");
    assert_true(v.gate == GM_GATE_ALL_HEADS && v.gate_pi == 0.25);
    assert_true(parse("gated:kind=channel").gate == GM_GATE_CHANNEL);
    v = parse("softmax1+clipped:alpha=2+gated:kind=mlp,hidden=8");
    assert_true(v.n == 1 && v.alpha == 2 && v.gate_hidden == 8);
    v = parse("softmax_n:n=1e+2+gated");
    assert_true(v.n == 100 && v.gate == GM_GATE_LINEAR);
}

static void canonical_form(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"softmax", "softmax"},
        {"softmax1", "softmax1"},
        {"softmax_n", "softmax1"},
        {"softmax_n:n=0.5", "softmax_n:n=0.5"},
        {"softmax_n:n=0", "softmax_n:n=0"},
        {"softmax_n:n=0.1", "softmax_n:n=0.1"},
        {"sink", "sink"},
        {"clipped", "clipped:alpha=4"},
        {"clipped:alpha=4", "clipped:alpha=4"},
        {"clipped:alpha=50", "clipped:alpha=50"},
        {"softmax_n:n=1200", "softmax_n:n=1200"},
        {"softmax_n:n=0.00002", "softmax_n:n=2e-05"},
        {"clipped:zeta=1.03,alpha=3", "clipped:alpha=3,zeta=1.03"},
        {"clipped:gamma=-0.03,zeta=1", "clipped:gamma=-0.03,zeta=1"},
        {"clipped:gamma=0", "clipped:gamma=0,zeta=1"},
        {"gated", "gated"},
        {"gated:kind=linear,pi=0.25", "gated:pi=0.25"},
        {"gated:kind=mlp,hidden=4", "gated:kind=mlp,hidden=4"},
        {"gated:pi=0.9,hidden=2,kind=mlp", "gated:kind=mlp,hidden=2,pi=0.9"},
        {"gated:kind=all_heads", "gated:kind=all_heads"},
        {"gated:pi=0.1,kind=channel", "gated:kind=channel,pi=0.1"},
        {"softmax+gated", "gated"},
        {"clipped+softmax1", "softmax1+clipped:alpha=4"},
        {"gated+sink", "sink+gated"},
        {"gated:kind=mlp,hidden=3+clipped:gamma=-0.003,zeta=1.003+softmax_n:n=2.5",
         "softmax_n:n=2.5+clipped:gamma=-0.003,zeta=1.003+gated:kind=mlp,hidden=3"},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_variant v = parse(cases[i][0]);
        char text[256];
        int n = gm_variant_format(text, sizeof text, &v);
        assert_string_equal(text, cases[i][1]);
        assert_int_equal(n, (int)strlen(text));
        gm_variant again = parse(text);
        assert_true(same(&v, &again));
    }
    gm_variant v = parse("clipped");
    char tiny[4];
    assert_int_equal(gm_variant_format(tiny, sizeof tiny, &v), (int)strlen("clipped:alpha=4"));
    assert_string_equal(tiny, "cli");
}

/* Every refusal names the word at fault and what to do: the message must hold both texts. */
static void refusals(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"softmax2", "'softmax2'", "did you mean 'softmax'"},
        {"sofmax1", "'sofmax1'", "did you mean 'softmax1'"},
        {"clip", "'clip'", "known: softmax, softmax1, softmax_n, sink, clipped, gated"},
        {"gatd", "'gatd'", "did you mean 'gated'"},
        {"zzzzzzzzzz", "'zzzzzzzzzz'", "known: softmax"},
        {"", "unknown variant ''", "known"},
        {"softmax1+", "unknown variant ''", "known"},
        {"softmax_n:m=1", "key of variant 'softmax_n' 'm'", "n"},
        {"clipped:gama=-1", "'gama'", "did you mean 'gamma'"},
        {"gated:kind=mpl", "gate kind 'mpl'", "did you mean 'mlp'"},
        {"gated:kind=rnn", "'rnn'", "known: linear, mlp, all_heads, channel"},
        {"softmax1:n=2", "'softmax1' takes no keys", "n"},
        {"gated:", "key of variant 'gated' ''", "known: kind, hidden, pi"},
        {"clipped:alpha", "'alpha' needs a value", "clipped:alpha="},
        {"clipped:alpha=", "alpha= is not a number", "> 0"},
        {"clipped:alpha=4,alpha=2", "'alpha' is given twice", "clipped"},
        {"clipped:alpha=4,gamma=-0.03", "either alpha", "not both"},
        {"softmax_n:n=-1", "n=-1 is out of range", ">= 0"},
        {"softmax_n:n=nan", "n=nan", ">= 0"},
        {"softmax_n:n=inf", "n=inf", ">= 0"},
        {"softmax_n:n=1x", "n=1x is not a number", ">= 0"},
        {"clipped:gamma=0.1", "gamma=0.1 is out of range", "<= 0"},
        {"clipped:gamma=-inf", "gamma=-inf", "<= 0"},
        {"clipped:gamma=nan", "gamma=nan", "<= 0"},
        {"clipped:gamma=-0.03,zeta=0.9", "zeta=0.9 is out of range", ">= 1"},
        {"clipped:zeta=nan", "zeta=nan", ">= 1"},
        {"clipped:alpha=0", "alpha=0 is out of range", "> 0"},
        {"clipped:alpha=-4", "alpha=-4 is out of range", "> 0"},
        {"gated:kind=mlp,hidden=0", "hidden=0 is out of range", "1 to"},
        {"gated:kind=mlp,hidden=2.5", "hidden=2.5", "whole number"},
        {"gated:hidden=4", "hidden is for kind=mlp only", "add kind=mlp"},
        {"gated:pi=0", "pi=0 is out of range", "between 0 and 1"},
        {"gated:pi=1", "pi=1 is out of range", "between 0 and 1"},
        {"gated:pi=nan", "pi=nan", "between 0 and 1"},
        {"softmax1+sink", "'sink': a second sink", "at most once"},
        {"softmax+softmax1", "'softmax1': a second sink", "at most once"},
        {"softmax1+softmax1", "a second sink", "at most once"},
        {"clipped+clipped", "a second clip", "at most once"},
        {"gated+softmax1+gated", "a second gate", "at most once"},
    };
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_variant v;
        gm_error err = {0};
        if (gm_variant_parse(&v, cases[i][0], &err) != GM_EINVAL)
            fail_msg("'%s' must be refused", cases[i][0]);
        if (!strstr(err.msg, cases[i][1]) || !strstr(err.msg, cases[i][2]))
            fail_msg("'%s': the message lacks \"%s\" or \"%s\": %s", cases[i][0], cases[i][1], cases[i][2], err.msg);
    }
    gm_variant v;
    gm_error err = {0};
    char longest[400];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(gm_variant_parse(&v, longest, &err), GM_EINVAL);
    assert_int_equal(gm_variant_parse(&v, NULL, &err), GM_EINVAL);
    assert_int_equal(gm_variant_parse(&v, "nothing", NULL), GM_EINVAL);
}

static void norm_of_variant(void **state) {
    (void)state;
    gm_variant v = parse("softmax");
    gm_norm n = gm_variant_norm(&v, 64);
    assert_true(n.sink == -INFINITY && n.clip_a == 1 && n.clip_c == 0);
    v = parse("softmax1");
    assert_true(gm_variant_norm(&v, 64).sink == 0);
    v = parse("softmax_n:n=0");
    assert_true(gm_variant_norm(&v, 64).sink == -INFINITY);
    v = parse("softmax_n:n=0.5");
    assert_true(gm_variant_norm(&v, 64).sink == (float)log(0.5));
    v = parse("sink");
    assert_true(gm_variant_norm(&v, 64).sink == 0);
    v = parse("clipped:alpha=4"); /* the context that the model was made for, whatever T is now */
    n = gm_variant_norm(&v, 512);
    assert_true(n.clip_c == (float)(-4.0 / 512) && n.clip_a == (float)(1 + 4.0 / 512) && n.sink == -INFINITY);
    v = parse("clipped:gamma=-0.03,zeta=1.03");
    n = gm_variant_norm(&v, 512);
    assert_true(n.clip_c == -0.03f && n.clip_a == 1.06f);
    v = parse("clipped:gamma=0,zeta=1+softmax1");
    n = gm_variant_norm(&v, 512);
    assert_true(n.clip_c == 0 && n.clip_a == 1 && n.sink == 0);
}

/* The table is complete, every entry parses bare and with its own defaults spelled out. */
static void the_table(void **state) {
    (void)state;
    int count = 0;
    for (const gm_variant_info *info; (info = gm_variant_list(count)); count++) {
        assert_true(*info->name && *info->summary && *info->source);
        gm_variant bare = parse(info->name);
        char key[64];
        const char *p = info->keys;
        while (*p) {
            size_t n = strcspn(p, ",");
            if (memchr(p, '=', n) && strncmp(p, "hidden", 6) != 0) {
                snprintf(key, sizeof key, "%s:%.*s", info->name, (int)n, p);
                gm_variant spelled = parse(key);
                assert_true(same(&bare, &spelled));
            }
            p += n + (p[n] == ',');
        }
    }
    assert_int_equal(count, 6);
    assert_null(gm_variant_list(-1));
    assert_null(gm_variant_list(count));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_to_fields), cmocka_unit_test(canonical_form), cmocka_unit_test(refusals),
        cmocka_unit_test(norm_of_variant),  cmocka_unit_test(the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
