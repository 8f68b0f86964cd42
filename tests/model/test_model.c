/* test_model.c -- what a model promises besides numbers: steps that allocate nothing, taps that look without touching, copies that are
 * their own, variants of one seed that start alike, presets of known size, clear refusals. */
#include "model_cases.h"

enum { B = 2, T = 7, N = B * T };

static gm_ctx *ctx;
static int32_t x[N], y[N];

static int setup(void **state) {
    (void)state;
    ctx = context_of("ref", 1);
    tokens_fill(x, y, N, 11, 3);
    return ctx ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    gm_ctx_free(ctx);
    return 0;
}

static double loss_of(gm_model *m) {
    double mean;
    CHECK_OK(gm_model_loss(m, x, y, B, T, &mean, NULL, err));
    return mean;
}

/* ---- layout: what is said of a configuration alone is where its model has it */

static void tensors_are_where_they_are_described(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(small_shapes); i++) {
        for (int v = 0; v < GM_COUNT(every_variant); v++) {
            gm_model_config cfg = shape_config(&small_shapes[i], every_variant[v]);
            cfg.layers = 3;
            gm_model *m = model_of(ctx, &cfg, 1);
            assert_int_equal(gm_params_layout(&m->cfg, NULL), m->param_count);
            for (int j = 0; j < m->param_count; j++) {
                gm_param p;
                gm_params_describe(&m->cfg, j, &p);
                assert_true(p.offset == m->params[j].offset);
                assert_int_equal(m->slot_index[p.layer < 0 ? cfg.layers : p.layer][p.slot], j);
            }
            gm_model_free(m);
        }
    }
}

/* ---- allocation */

static void steps_allocate_nothing(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(small_shapes); i++) {
        for (int v = 0; v < GM_COUNT(every_variant); v++) {
            gm_model_config cfg = shape_config(&small_shapes[i], every_variant[v]);
            gm_model *m = model_of(ctx, &cfg, 1);
            CHECK_OK(gm_model_train_begin(m, B, T, err));
            int64_t before = gm_alloc_count();
            double loss = 0;
            for (int step = 0; step < 3; step++) {
                gm_model_zero_grads(m);
                CHECK_OK(gm_model_accumulate(m, x, y, B, T, 1, 1, &loss, err));
                CHECK_OK(gm_model_accumulate(m, x, y, 1, T, 1, 2, &loss, err));
                loss_of(m); /* validation between steps takes no memory either */
            }
            assert_int_equal(gm_alloc_count(), before);
            gm_model_free(m);
        }
    }
}

/* Buffers made for one batch serve a larger one, and evaluation first does not spoil training. */
static void any_order_of_sizes(void **state) {
    (void)state;
    gm_model_config cfg = shape_config(&small_shapes[4], "sink+gated:kind=mlp,hidden=3");
    gm_model *m = model_of(ctx, &cfg, 1), *fresh = model_of(ctx, &cfg, 1);
    double small, before = 0, after = 0;
    CHECK_OK(gm_model_loss(m, x, y, 1, 3, &small, NULL, err));
    CHECK_OK(gm_model_train_begin(m, 1, 3, err));
    CHECK_OK(gm_model_accumulate(m, x, y, 1, 3, 1, 1, &before, err));
    gm_model_zero_grads(m);
    CHECK_OK(gm_model_accumulate(m, x, y, B, T, 1, 1, &after, err));
    CHECK_OK(gm_model_train_begin(fresh, B, T, err));
    CHECK_OK(gm_model_accumulate(fresh, x, y, B, T, 1, 1, &before, err));
    assert_memory_equal(m->grads, fresh->grads, (size_t)m->param_elements * sizeof(float));
    double again;
    CHECK_OK(gm_model_loss(m, x, y, 1, 3, &again, NULL, err));
    assert_true(small == again);
    gm_model_free(m);
    gm_model_free(fresh);
}

/* ---- taps */

typedef struct watch {
    const gm_model_config *cfg;
    int seen[GM_SITE_COUNT], layer;
    char order[1024]; /* sites of whole rows, in the order of the calls */
    gm_site change;   /* this site's values become 0; GM_SITE_COUNT: none */
} watch;

static void watch_tap(void *user, const gm_tap_view *v) {
    watch *w = user;
    const gm_model_config *c = w->cfg;
    const int64_t C = c->width, cols_of[GM_SITE_COUNT] = {[GM_SITE_EMBED] = C,
                                                          [GM_SITE_NORM1] = C,
                                                          [GM_SITE_Q] = c->heads * c->head_dim,
                                                          [GM_SITE_K] = c->kv_heads * c->head_dim,
                                                          [GM_SITE_V] = c->kv_heads * c->head_dim,
                                                          [GM_SITE_CACHE_K] = c->kv_heads * c->head_dim,
                                                          [GM_SITE_CACHE_V] = c->kv_heads * c->head_dim,
                                                          [GM_SITE_SCORES] = T,
                                                          [GM_SITE_WEIGHTS] = T,
                                                          [GM_SITE_PV] = c->head_dim,
                                                          [GM_SITE_ATTN_IN] = c->heads * c->head_dim,
                                                          [GM_SITE_ATTN_OUT] = C,
                                                          [GM_SITE_RESIDUAL1] = C,
                                                          [GM_SITE_NORM2] = C,
                                                          [GM_SITE_FFN_ACT] = c->ffn,
                                                          [GM_SITE_FFN_OUT] = C,
                                                          [GM_SITE_BLOCK] = C,
                                                          [GM_SITE_NORM_FINAL] = C};
    bool head = v->site == GM_SITE_SCORES || v->site == GM_SITE_WEIGHTS || v->site == GM_SITE_PV;
    assert_int_equal(v->B, B);
    assert_int_equal(v->T, T);
    assert_int_equal(v->rows, head ? T : N);
    assert_int_equal(v->cols, cols_of[v->site]);
    assert_true(v->stride >= v->cols);
    assert_int_equal(v->layer, v->site == GM_SITE_EMBED || v->site == GM_SITE_NORM_FINAL ? -1 : w->layer);
    assert_true((v->null_mass != NULL) == (v->site == GM_SITE_WEIGHTS));
    if (head) {
        assert_true(v->b >= 0 && v->b < B && v->h >= 0 && v->h < c->heads);
    } else {
        assert_true(v->b == -1 && v->h == -1);
        strcat(strcat(w->order, gm_site_name(v->site)), " ");
    }
    if (v->site == GM_SITE_WEIGHTS) {
        for (int64_t t = 0; t < T; t++) {
            double sum = v->null_mass[t];
            for (int64_t j = 0; j < T; j++) {
                float p = v->x[t * v->stride + j];
                bool visible = j <= t && (c->window == 0 || j > t - c->window);
                assert_true(visible ? p >= 0 && p <= 1 : p == 0);
                sum += p;
            }
            if (!c->attention.clipped)
                assert_true(fabs(sum - 1) < 1e-6);
            bool no_sink = c->attention.sink == GM_SINK_NONE || (c->attention.sink == GM_SINK_CONSTANT && c->attention.n == 0);
            assert_true(no_sink ? v->null_mass[t] == 0 : v->null_mass[t] > 0);
        }
    }
    if (v->site == w->change)
        for (int64_t r = 0; r < v->rows; r++)
            memset(v->x + r * v->stride, 0, (size_t)v->cols * sizeof(float));
    w->seen[v->site]++;
    w->layer += v->site == GM_SITE_BLOCK;
}

static double watched_loss(gm_model *m, bool attention, gm_site change, watch *w) {
    *w = (watch){.cfg = &m->cfg, .change = change};
    double mean;
    CHECK_OK(gm_model_forward_loss(m, x, y, B, T, &(gm_tap){.fn = watch_tap, .user = w, .attention = attention}, &mean, NULL, err));
    return mean;
}

static void taps_look_without_touching(void **state) {
    (void)state;
    static const char block[] = "norm1 q k v cache_k cache_v attn_in attn_out residual1 norm2 ffn_act ffn_out block ";
    char order[1024];
    snprintf(order, sizeof order, "embed %s%snorm_final ", block, block);
    for (int i = 0; i < GM_COUNT(small_shapes); i++) {
        for (int v = 0; v < GM_COUNT(every_variant); v++) {
            gm_model_config cfg = shape_config(&small_shapes[i], every_variant[v]);
            gm_model *m = model_of(ctx, &cfg, 1);
            double plain = loss_of(m);
            watch w;
            assert_true(watched_loss(m, false, GM_SITE_COUNT, &w) == plain);
            assert_string_equal(w.order, order);
            assert_int_equal(w.seen[GM_SITE_SCORES] + w.seen[GM_SITE_WEIGHTS] + w.seen[GM_SITE_PV], 0);
            double observed = watched_loss(m, true, GM_SITE_COUNT, &w); /* sums in another order */
            assert_true(fabs(observed - plain) <= 1e-6 * plain);
            assert_string_equal(w.order, order);
            for (gm_site s = GM_SITE_SCORES; s <= GM_SITE_PV; s++)
                assert_int_equal(w.seen[s], cfg.layers * B * cfg.heads);
            assert_true(loss_of(m) == plain);
            gm_model_free(m);
        }
    }
}

static void scale_slot(gm_model *m, int slot, float factor) {
    for (int l = 0; l < (int)m->cfg.layers; l++) {
        float *w = gm_model_weight(m, slot, l);
        for (int i = 0; w && i < m->param_count; i++)
            if (m->params[i].slot == slot && m->params[i].layer == l)
                for (int64_t j = 0; j < m->params[i].rows * m->params[i].cols; j++)
                    w[j] *= factor;
    }
}

/* A tap may change what it sees: emptying a place is the same as weights that say nothing there. */
static void taps_may_change(void **state) {
    (void)state;
    static const struct {
        gm_site site;
        int weight, bias; /* the tensors whose absence is the same, GM_P_COUNT: none */
    } cases[] = {{GM_SITE_FFN_OUT, GM_P_W2, GM_P_B2},    {GM_SITE_FFN_ACT, GM_P_W2, GM_P_COUNT}, {GM_SITE_ATTN_OUT, GM_P_WO, GM_P_BO},
                 {GM_SITE_WEIGHTS, GM_P_WO, GM_P_COUNT}, {GM_SITE_PV, GM_P_WO, GM_P_COUNT},      {GM_SITE_V, GM_P_WO, GM_P_COUNT}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model_config cfg = shape_config(&small_shapes[0], "softmax1+gated");
        gm_model *m = model_of(ctx, &cfg, 1);
        double plain = loss_of(m);
        watch w;
        double changed = watched_loss(m, true, cases[i].site, &w);
        assert_true(fabs(changed - plain) > 1e-3);
        scale_slot(m, cases[i].weight, 0);
        if (cases[i].bias < GM_P_COUNT)
            scale_slot(m, cases[i].bias, 0);
        assert_true(fabs(loss_of(m) - changed) <= 1e-6 * changed);
        gm_model_free(m);
    }
}

/* ---- initial values */

static void variants_start_alike(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(small_shapes); i++) {
        gm_model_config cfg = shape_config(&small_shapes[i], "softmax");
        gm_model *base, *other_seed;
        CHECK_OK(gm_model_create(&base, ctx, &cfg, 5, err));
        CHECK_OK(gm_model_create(&other_seed, ctx, &cfg, 6, err));
        assert_memory_not_equal(gm_model_weight(base, GM_P_WQKV, 0), gm_model_weight(other_seed, GM_P_WQKV, 0), 64);
        assert_memory_not_equal(gm_model_weight(base, GM_P_WQKV, 0), gm_model_weight(base, GM_P_WQKV, 1), 64);
        for (int v = 0; v < GM_COUNT(every_variant); v++) {
            gm_model_config vcfg = shape_config(&small_shapes[i], every_variant[v]);
            gm_model *m;
            CHECK_OK(gm_model_create(&m, ctx, &vcfg, 5, err));
            int shared = 0;
            for (int j = 0; j < m->param_count; j++) {
                const gm_param *p = &m->params[j];
                const float *mine = gm_model_weight(m, p->slot, p->layer), *theirs = gm_model_weight(base, p->slot, p->layer);
                bool extra = p->kind == GM_PARAM_SINK || p->kind == GM_PARAM_GATE || p->kind == GM_PARAM_GATE_BIAS;
                assert_true((theirs == NULL) == extra);
                if (theirs)
                    assert_memory_equal(mine, theirs, (size_t)(p->rows * p->cols) * sizeof(float));
                shared += theirs != NULL;
            }
            assert_int_equal(shared, base->param_count);
            gm_model_free(m);
        }
        gm_model_free(base);
        gm_model_free(other_seed);
    }
}

/* Standard deviations as published: GPT-2 0.02 with residual projections / sqrt(2L), OPT 0.006, PyTorch's bounds 1/sqrt(fan in). */
static void initial_values(void **state) {
    (void)state;
    static const struct {
        const char *init;
        double wte, wqkv, wo; /* standard deviations */
    } cases[] = {{"gpt2", 0.02, 0.02, 0.02 / 2}, {"opt", 0.006, 0.006, 0.006 / 2}, {"torch", 1, 0.125 / 1.7320508, 0.125 / 1.7320508}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model_config cfg;
        char text[128];
        snprintf(text, sizeof text, "layers=2,heads=2,width=64,vocab=97,init=%s", cases[i].init);
        CHECK_OK(gm_model_config_preset(&cfg, i == 1 ? "opt-mini" : "gpt2-nano", err));
        CHECK_OK(gm_model_config_override(&cfg, text, err));
        CHECK_OK(gm_variant_parse(&cfg.attention, "gated:pi=0.25", err));
        gm_model *m;
        CHECK_OK(gm_model_create(&m, ctx, &cfg, 5, err));
        const struct {
            int slot, layer;
            double std;
        } tensors[] = {{GM_P_WTE, -1, cases[i].wte}, {GM_P_WQKV, 1, cases[i].wqkv}, {GM_P_WO, 1, cases[i].wo}, {GM_P_W2, 0, cases[i].wo}};
        for (int j = 0; j < GM_COUNT(tensors); j++) {
            const float *w = gm_model_weight(m, tensors[j].slot, tensors[j].layer);
            double want = tensors[j].std, n = tensors[j].slot == GM_P_WTE ? 97 * 64 : 64 * 64, sum = 0, squares = 0;
            if (strcmp(cases[i].init, "torch") == 0 && tensors[j].slot == GM_P_W2)
                want /= 2; /* its fan in is 4 x 64 */
            for (int64_t k = 0; k < (int64_t)n; k++) {
                sum += w[k];
                squares += (double)w[k] * (double)w[k];
            }
            assert_true(fabs(sqrt(squares / n) / want - 1) < 0.06); /* 5 standard errors of 4096 draws */
            assert_true(fabs(sum / n) < 0.08 * want);
        }
        assert_true(gm_model_weight(m, GM_P_NORM1_G, 0)[3] == 1);
        assert_true(fabs((double)gm_model_weight(m, GM_P_GATE_B1, 1)[1] - log(1.0 / 3)) < 1e-6);
        gm_model_free(m);
    }
}

/* The same bits on every table, on any number of threads, and on other machines: these are their checksums. (A C library whose logarithm or
 * cosine is rounded otherwise in its last bit may, once in many millions, give another float.) */
static void initial_weights_are_known(void **state) {
    (void)state;
    static const struct {
        const char *init;
        uint64_t checksum;
    } known[] = {{"gpt2", 0xc2bc34dc3e5c8abcu}, {"torch", 0xed30bf45f9b51798u}};
    for (int i = 0; i < GM_COUNT(known); i++) {
        gm_model_config cfg;
        char text[64];
        snprintf(text, sizeof text, "vocab=2000,init=%s", known[i].init);
        CHECK_OK(gm_model_config_preset(&cfg, "gpt2-nano", err));
        CHECK_OK(gm_model_config_override(&cfg, text, err));
        CHECK_OK(gm_variant_parse(&cfg.attention, "sink+gated:kind=mlp", err));
        for (int level = 0; level < GM_COUNT(every_isa); level++) {
            gm_ctx *c = context_of(every_isa[level], 1 + level % 3);
            gm_model *m;
            if (!c)
                continue;
            CHECK_OK(gm_model_create(&m, c, &cfg, 5, err));
            uint64_t got = gm_checksum(m->weights, (size_t)m->param_elements * sizeof *m->weights);
            if (got != known[i].checksum)
                fail_msg("%s, %s: 0x%016llx", known[i].init, gm_ctx_isa(c), (unsigned long long)got);
            gm_model_free(m);
            gm_ctx_free(c);
        }
    }
}

/* ---- copies */

static void clones_are_their_own(void **state) {
    (void)state;
    gm_model_config cfg = shape_config(&small_shapes[0], "sink"); /* its head is tied */
    gm_model *m = model_of(ctx, &cfg, 1), *clone, *untied;
    double plain = loss_of(m);
    CHECK_OK(gm_model_clone(&clone, m, err));
    assert_true(loss_of(clone) == plain);
    assert_true(clone->head != clone->weights + clone->params[0].offset);
    /* Changing the clone's table leaves its head, and the original, as they were ... */
    float *table = gm_model_weight(clone, GM_P_WTE, -1);
    for (int64_t i = 0; i < cfg.vocab * cfg.width; i++)
        table[i] = roundf(table[i] * 4) / 4;
    assert_true(loss_of(m) == plain);
    /* ... so it is the model with that table and a head of its own. */
    cfg.tied = false;
    untied = model_of(ctx, &cfg, 1);
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        memcpy(gm_model_weight(untied, p->slot, p->layer), gm_model_weight(clone, p->slot, p->layer),
               (size_t)(p->rows * p->cols) * sizeof(float));
    }
    memcpy(gm_model_weight(untied, GM_P_HEAD, -1), gm_model_weight(m, GM_P_WTE, -1), (size_t)(cfg.vocab * cfg.width) * sizeof(float));
    double changed = loss_of(clone);
    assert_true(fabs(changed - plain) > 1e-4);
    assert_true(changed == loss_of(untied));
    gm_model_free(m);
    assert_true(changed == loss_of(clone));
    gm_model_free(clone);
    gm_model_free(untied);
}

static void logits_and_loss_agree(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(small_shapes); i++) {
        gm_model_config cfg = shape_config(&small_shapes[i], "sink+gated");
        gm_model *m = model_of(ctx, &cfg, 1);
        float logits[N * 11], last[B * 11], losses[N];
        double mean;
        CHECK_OK(gm_model_logits(m, x, B, T, false, logits, err));
        CHECK_OK(gm_model_logits(m, x, B, T, true, last, err));
        CHECK_OK(gm_model_loss(m, x, y, B, T, &mean, losses, err));
        for (int r = 0; r < N; r++) {
            double z = 0;
            for (int v = 0; v < 11; v++)
                z += exp((double)logits[r * 11 + v]);
            double want = y[r] < 0 ? 0 : log(z) - (double)logits[r * 11 + y[r]];
            assert_true(fabs(want - (double)losses[r]) <= 2e-6 * fmax(1, want));
        }
        for (int b = 0; b < B; b++)
            for (int v = 0; v < 11; v++)
                assert_true(fabs((double)last[b * 11 + v] - (double)logits[((b + 1) * T - 1) * 11 + v]) < 2e-6);
        gm_model_free(m);
    }
}

/* ---- refusals, sizes */

static void refusals(void **state) {
    (void)state;
    gm_model_config cfg = shape_config(&small_shapes[0], "softmax"), bad;
    gm_model *m = model_of(ctx, &cfg, 1), *none;
    gm_error error;
    double mean;
    int32_t wrong[N];
    memcpy(wrong, x, sizeof wrong);
    wrong[5] = 11;
    assert_int_equal(gm_model_loss(m, wrong, y, B, T, &mean, NULL, &error), GM_EINVAL);
    assert_non_null(strstr(error.msg, "token 11"));
    wrong[5] = -1;
    assert_int_equal(gm_model_loss(m, wrong, y, B, T, &mean, NULL, &error), GM_EINVAL);
    assert_int_equal(gm_model_loss(m, x, wrong, B, T, &mean, NULL, &error), GM_OK); /* a target of -1 is a masked one */
    wrong[5] = 11;
    assert_int_equal(gm_model_loss(m, x, wrong, B, T, &mean, NULL, &error), GM_EINVAL);
    assert_int_equal(gm_model_loss(m, x, y, 0, T, &mean, NULL, &error), GM_EINVAL);
    assert_int_equal(gm_model_loss(m, x, y, 1, 10, &mean, NULL, &error), GM_EINVAL); /* the context is 9 */
    assert_non_null(strstr(error.msg, "context of 9"));
    gm_model_weight(m, GM_P_WO, 1)[0] = NAN; /* NaN comes out, it does not vanish */
    assert_true(isnan(loss_of(m)));
    gm_model_free(m);

    static const struct {
        const char *overrides, *says;
    } cases[] = {{"heads=3", "heads (3) does not divide width (8)"},
                 {"kv-heads=3,heads=4", "kv-heads (3) does not divide heads (4)"},
                 {"width=768,heads=2", "head dimension is 384"},
                 {"rope=yes,head-dim=3", "even head dimension"}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        CHECK_OK(gm_model_config_preset(&bad, "gpt2-nano", err));
        CHECK_OK(gm_model_config_override(&bad, "vocab=11,width=8,heads=2", err));
        CHECK_OK(gm_model_config_override(&bad, cases[i].overrides, err));
        assert_int_equal(gm_model_create(&none, ctx, &bad, 1, &error), GM_EINVAL);
        assert_null(none);
        if (!strstr(error.msg, cases[i].says))
            fail_msg("'%s' does not say '%s'", error.msg, cases[i].says);
    }
    assert_int_equal(gm_model_config_preset(&bad, "gpt2-nona", &error), GM_EINVAL);
    assert_non_null(strstr(error.msg, "did you mean 'gpt2-nano'"));
}

/* Parameter counts of the published models. */
static void known_sizes(void **state) {
    (void)state;
    static const struct {
        const char *preset;
        int64_t parameters;
    } cases[] = {
        {"gpt2-small", 124439808}, {"opt-125m", 125239296}, {"llama-260k", 260032}, {"llama-15m", 15191712}, {"llama-110m", 109529856}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_model_config cfg;
        CHECK_OK(gm_model_config_preset(&cfg, cases[i].preset, err));
        CHECK_OK(gm_model_config_check(&cfg, err));
        gm_model_size size;
        gm_model_config_size(&size, &cfg, 1, 1);
        assert_int_equal(size.parameters, cases[i].parameters);
    }
    /* What variants add to H = 12 heads of D = 64, width 768, 12 blocks: EVIDENCE's H(D+1) and friends. */
    static const struct {
        const char *variant;
        int64_t extra;
    } extras[] = {{"softmax1", 0},
                  {"clipped", 0},
                  {"sink", 12 * 12},
                  {"gated", 12 * 12 * 65},
                  {"gated:kind=mlp,hidden=4", 12 * 12 * (4 * 66 + 1)},
                  {"gated:kind=all_heads", 12 * 12 * 769},
                  {"gated:kind=channel", 12 * 768 * 769},
                  {"sink+gated", 12 * 12 * 66}};
    for (int i = 0; i < GM_COUNT(extras); i++) {
        gm_model_config cfg;
        CHECK_OK(gm_model_config_preset(&cfg, "opt-125m", err));
        CHECK_OK(gm_variant_parse(&cfg.attention, extras[i].variant, err));
        CHECK_OK(gm_model_config_check(&cfg, err));
        gm_model_size size;
        gm_model_config_size(&size, &cfg, 1, 1);
        assert_int_equal(size.attention_parameters_extra, extras[i].extra);
        assert_int_equal(size.parameters, 125239296 + extras[i].extra);
    }
}

/* alpha is resolved by the context fixed at creation, never by the running length. */
static void alpha_is_of_the_context(void **state) {
    (void)state;
    gm_model_config by_alpha = shape_config(&small_shapes[0], "clipped:alpha=3");
    gm_model_config by_gamma = shape_config(&small_shapes[0], "clipped:gamma=-0.333333333333333333,zeta=1");
    gm_model *a = model_of(ctx, &by_alpha, 1), *g = model_of(ctx, &by_gamma, 1);
    assert_true(loss_of(a) == loss_of(g)); /* T is 7, the context 9 */
    gm_model_free(a);
    gm_model_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_where_they_are_described),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(any_order_of_sizes),
        cmocka_unit_test(taps_look_without_touching),
        cmocka_unit_test(taps_may_change),
        cmocka_unit_test(variants_start_alike),
        cmocka_unit_test(initial_values),
        cmocka_unit_test(initial_weights_are_known),
        cmocka_unit_test(clones_are_their_own),
        cmocka_unit_test(logits_and_loss_agree),
        cmocka_unit_test(refusals),
        cmocka_unit_test(known_sizes),
        cmocka_unit_test(alpha_is_of_the_context),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
