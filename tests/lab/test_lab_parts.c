/* The lab's parts by hand: statistics over seeds, checksummed files, lists of variants, overrides of a preset. */
#include "lab.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%.10g, not %.10g", got, want);
}

/* ---- spread ------------------------------------------------------------------------------------------------------------- */

static void test_spread(void **state) {
    (void)state;
    gm_spread s = gm_spread_of((double[]){2, 4, NAN, 9}, 4);
    assert_int_equal(s.n, 3);
    assert_near(s.mean, 5, 1e-15);
    assert_near(s.std, sqrt((9 + 1 + 16) / 2.0), 1e-15); /* n - 1 */
    s = gm_spread_of((double[]){11.7, 11.7, 11.7}, 3);   /* their sum / 3 is another number */
    assert_true(s.mean == 11.7 && s.std == 0);
    s = gm_spread_of((double[]){3}, 1);
    assert_near(s.mean, 3, 0);
    assert_true(isnan(s.std));
    s = gm_spread_of((double[]){NAN, INFINITY}, 2);
    assert_int_equal(s.n, 0);
    assert_true(isnan(s.mean));
}

/* Quantiles of a printed table of Student's t, both sides of the switch from table to series. */
static void test_interval(void **state) {
    (void)state;
    const struct {
        int n;
        double t;
    } cases[] = {{2, 12.706205}, {3, 4.302653},  {5, 2.776445},  {11, 2.228139},
                 {21, 2.085963}, {22, 2.079614}, {31, 2.042272}, {121, 1.979930}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_spread s = {cases[i].n, 0, sqrt(cases[i].n)};
        assert_near(gm_spread_interval95(&s), cases[i].t, 1e-4);
    }
    gm_spread one = {1, 0, NAN};
    assert_true(isnan(gm_spread_interval95(&one)));
}

/* ---- store -------------------------------------------------------------------------------------------------------------- */

static void replace_in_file(const char *path, const char *old, const char *new) {
    gm_file file;
    gm_error err;
    gm_text text = {0};
    assert_int_equal(gm_file_open(&file, path, &err), GM_OK);
    gm_text_bytes(&text, file.data, file.size);
    gm_file_close(&file);
    char *at = strstr(text.data, old);
    assert_non_null(at);
    assert_int_equal(strlen(old), strlen(new));
    memcpy(at, new, strlen(new));
    assert_int_equal(gm_file_write(path, text.data, text.size, &err), GM_OK);
    gm_text_free(&text);
}

static void test_store(void **state) {
    (void)state;
    char folder[] = "/tmp/ghostmax-store-XXXXXX", path[64];
    gm_error err;
    json_t *read;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.json", folder);
    assert_int_equal(gm_store_read(&read, path, "", &err), GM_OK);
    assert_null(read); /* no such file */
    json_t *root = json_pack("{s:f, s:[i,n], s:s}", "b", 0.1, "a", 7, "text", "caf\xc3\xa9");
    assert_int_equal(gm_store_write(root, path, &err), GM_OK);
    assert_int_equal(gm_store_read(&read, path, "", &err), GM_OK);
    assert_true(json_equal(root, read));
    json_decref(read);
    json_decref(root);

    replace_in_file(path, "7", "8");
    assert_int_equal(gm_store_read(&read, path, "write it again", &err), GM_EFORMAT);
    assert_non_null(strstr(err.msg, "altered"));
    assert_non_null(strstr(err.msg, path));
    assert_non_null(strstr(err.msg, "write it again"));
    assert_null(read);
    replace_in_file(path, "8", "}");
    assert_int_equal(gm_store_read(&read, path, "", &err), GM_EFORMAT);
    assert_true(err.offset > 0);
    for (const char **text = (const char *[]){"", "[1]", "{}", "{\"checksum\": 3}", NULL}; *text; text++) {
        assert_int_equal(gm_file_write(path, *text, strlen(*text), &err), GM_OK);
        assert_int_equal(gm_store_read(&read, path, "", &err), GM_EFORMAT);
    }
    unlink(path);
    rmdir(folder);
}

/* ---- lists of variants ----------------------------------------------------------------------------------------------------- */

static void assert_list(const char *list, int want, const char *last) {
    gm_variant variants[8];
    gm_error err;
    char spec[256];
    int count;
    if (gm_variants_parse(variants, 8, &count, list, &err) != GM_OK)
        fail_msg("%s: %s", list, err.msg);
    assert_int_equal(count, want);
    gm_variant_format(spec, sizeof spec, &variants[count - 1]);
    assert_string_equal(spec, last);
}

static void test_variants_list(void **state) {
    (void)state;
    assert_list("softmax", 1, "softmax");
    assert_list("softmax,softmax1", 2, "softmax1");
    assert_list("softmax,clipped:gamma=-0.03,zeta=1,sink", 3, "sink");
    assert_list("gated:kind=mlp,hidden=2+softmax1,clipped:alpha=4+gated", 2, "clipped:alpha=4+gated");
    gm_variant variants[2];
    gm_error err;
    int count;
    for (const char **bad =
             (const char *[]){"", ",", "softmax,", ",softmax", "softmax,,sink", "softmax,softmax", "softmax,softmax1,sink", "x", NULL};
         *bad; bad++) {
        if (gm_variants_parse(variants, 2, &count, *bad, &err) != GM_EINVAL)
            fail_msg("accepted: '%s'", *bad);
    }
}

/* ---- overrides -------------------------------------------------------------------------------------------------------------- */

static void test_override(void **state) {
    (void)state;
    gm_model_config cfg;
    gm_error err;
    assert_int_equal(gm_model_config_preset(&cfg, "llama-260k", &err), GM_OK);
    gm_model_config before = cfg;
    cfg.head_dim = 8;
    assert_int_equal(gm_model_config_override(&cfg, "", &err), GM_OK);
    assert_int_equal(cfg.head_dim, 8);
    assert_int_equal(gm_model_config_override(&cfg, "layers=2,norm-eps=1e-6,tied=no,act=relu,init=torch", &err), GM_OK);
    assert_int_equal(cfg.layers, 2);
    assert_int_equal(cfg.head_dim, 8); /* neither width nor heads changed */
    assert_int_equal(cfg.ffn, before.ffn);
    assert_true(cfg.norm_eps == 1e-6 && !cfg.tied && cfg.act == GM_ACT_RELU && cfg.init == GM_INIT_TORCH);
    assert_int_equal(gm_model_config_override(&cfg, "width=128,heads=4", &err), GM_OK);
    assert_int_equal(gm_model_config_check(&(gm_model_config){0}, &err), GM_EINVAL);
    cfg.vocab = 100;
    assert_int_equal(gm_model_config_check(&cfg, &err), GM_OK);
    assert_int_equal(cfg.head_dim, 32); /* derived anew */
    assert_int_equal(cfg.kv_heads, 4);
    assert_int_equal(cfg.ffn, 512);
    before = cfg;
    for (const char **bad =
             (const char *[]){"width", "width=", "width=0", "width=1x", "wdith=3", "act=tanh", "rope=maybe", "layers=2,heads=-1", NULL};
         *bad; bad++) {
        if (gm_model_config_override(&cfg, *bad, &err) != GM_EINVAL)
            fail_msg("accepted: '%s'", *bad);
        assert_memory_equal(&cfg, &before, sizeof cfg); /* unchanged, the good ones before the bad one included */
    }
    assert_int_equal(gm_model_config_override(&cfg, "wdith=3", &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "'width'"));
    for (int i = 0; gm_override_list(i); i++)
        assert_true(i < 32); /* the command line's table has room for all */
}

/* ---- what is kept of an earlier call ------------------------------------------------------------------------------------- */

static double w8a8_loss(const char *path, const char *new_schema, double new_loss) {
    gm_error err;
    json_t *quant;
    assert_int_equal(gm_store_read(&quant, path, "", &err), GM_OK);
    const double loss = json_number_value(json_object_get(quant, "w8a8_loss"));
    if (new_schema) {
        json_object_set_new(quant, "schema", json_string(new_schema));
        json_object_set_new(quant, "w8a8_loss", json_real(new_loss));
        if (!*new_schema)
            json_object_del(quant, "schema");
        assert_int_equal(gm_store_write(quant, path, &err), GM_OK);
    }
    json_decref(quant);
    return loss;
}

/* quant.json is kept while it was made in the present way, and made anew where it was not (or does not say how). */
static void test_quantized_in_another_way(void **state) {
    (void)state;
    char base[] = "/tmp/ghostmax-lab-XXXXXX", out[64], path[128];
    gm_ctx *ctx;
    gm_error err;
    assert_non_null(mkdtemp(base));
    snprintf(out, sizeof out, "%s/lab", base);
    snprintf(path, sizeof path, "%s/runs/gated-s1/quant.json", out);
    assert_int_equal(gm_ctx_create(&ctx, &(gm_ctx_options){.threads = 1, .isa = "ref"}, &err), GM_OK);
    gm_lab_options o = {.variants = "gated",
                        .data.source = "bb",
                        .seeds = 1,
                        .measure_sequences = 2,
                        .no_ablations = true,
                        .out = out,
                        .overrides = "width=16"};
    gm_train_defaults(&o.train);
    gm_quant_defaults(&o.quant);
    o.train.steps = o.train.batch = o.quant.calibration_batches = 2;
    o.train.context = 16;
    o.train.eval_sequences = 4;
    if (gm_lab_run(ctx, &o, NULL, NULL, NULL, NULL, &err) != GM_OK)
        fail_msg("%s", err.msg);
    const double loss = w8a8_loss(path, "ghostmax.quant/2", 99);
    for (const char **schema = (const char *[]){"ghostmax.quant/1", "", NULL}; *schema; schema++) {
        assert_int_equal(gm_lab_run(ctx, &o, NULL, NULL, NULL, NULL, &err), GM_OK);
        assert_true(w8a8_loss(path, *schema, 99) == 99); /* kept */
        assert_int_equal(gm_lab_run(ctx, &o, NULL, NULL, NULL, NULL, &err), GM_OK);
        assert_true(w8a8_loss(path, "ghostmax.quant/2", 99) == loss);
    }
    gm_ctx_free(ctx);
    char command[80];
    snprintf(command, sizeof command, "rm -r %s", base);
    assert_int_equal(system(command), 0);
}

/* All that have a column's best mean are marked, none where all have it. */
static void test_the_best_is_shared(void **state) {
    (void)state;
    gm_metrics metrics;
    gm_text table = {0};
    json_t *rows = json_array(), *results = json_pack("{s:o, s:{s:s, s:i, s:i, s:i, s:i, s:f}}", "rows", rows, "config", "source",
                                                      "text.txt", "seed", 1, "steps", 1, "batch", 1, "context", 1, "lr", 1.0);
    for (int i = 0; i < 3; i++)
        json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:i, s:{s:f}, s:{s:f}}", "model", "m", "variant", "v", "params", 1, "seeds",
                                              1, "sink_rate", "mean", i ? 0.0 : 7.0, "max_kurtosis", "mean", 3.0));
    gm_metrics_of(&metrics, NULL);
    gm_lab_table(&table, results, &metrics);
    assert_false(table.failed);
    int marked = 0;
    for (const char *p = table.data; (p = strstr(p, "**")); p += strlen("**0**"), marked++)
        assert_memory_equal(p, "**0**", strlen("**0**"));
    assert_int_equal(marked, 2);
    gm_text_free(&table);
    json_decref(results);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_variants_list),
        cmocka_unit_test(test_override),
        cmocka_unit_test(test_quantized_in_another_way),
        cmocka_unit_test(test_the_best_is_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
