/* Every quantizer against an independent implementation in double, written from the definitions in docs/numerics.md: grains, ranges, zero
 * points; the published presets on tensors worked out by hand; SmoothQuant's equality; LLM.int8()'s decomposition. */
#include "bb_models.h"

#include "quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the definitions, in double */

typedef struct naive_grid {
    double step, zero, low, high;
} naive_grid;

static naive_grid naive_of(int bits, bool asymmetric, double lo, double hi) {
    if (!asymmetric) {
        double absmax = fmax(fabs(lo), fabs(hi)), half = pow(2, bits - 1);
        return (naive_grid){fmax(absmax / (half - 1), 1e-8), 0, -half, half - 1};
    }
    double top = pow(2, bits) - 1, step;
    lo = fmin(lo, 0), hi = fmax(hi, 0);
    step = fmax(hi - lo, 1e-8) / top;
    return (naive_grid){step, fmin(fmax(nearbyint(-lo / step), 0), top), 0, top};
}

static double naive_round(double x, naive_grid g) {
    double q = fmin(fmax(nearbyint(x / g.step) + g.zero, g.low), g.high);
    return g.step * (q - g.zero);
}

static double naive_error(const float *x, int64_t n, naive_grid g) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (x[i] - naive_round(x[i], g)) * (x[i] - naive_round(x[i], g));
    return sum;
}

static void random_fill(float *x, int64_t n, const char *name, double scale) {
    uint64_t key = gm_rng_key(7, name);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(scale * gm_rng_normal(key, (uint64_t)i));
}

/* ---- weights: every grain, with and without zero points, 2 to 16 bits */

static void test_weight_grains(void **state) {
    (void)state;
    enum { ROWS = 5, COLS = 37 };
    static float w[ROWS * COLS], y[ROWS * COLS];
    random_fill(w, ROWS * COLS, "grains", 0.3);
    w[40] = 4;
    static const gm_quant_grain grains[] = {GM_GRAIN_TENSOR, GM_GRAIN_CHANNEL, GM_GRAIN_GROUP};
    for (int c = 0; c < 3 * 2 * 15; c++) {
        gm_quantizer q = {.bits = 2 + c / 6, .grain = grains[c % 3], .group = 8, .asymmetric = c / 3 % 2};
        gm_quant_grid grids[ROWS * 5];
        int64_t expected = q.grain == GM_GRAIN_TENSOR ? 1 : q.grain == GM_GRAIN_CHANNEL ? ROWS : ROWS * 5;
        assert_int_equal(gm_weight_grid_count(&q, ROWS, COLS), expected);
        gm_weight_grids(ctx, grids, w, ROWS, COLS, &q);
        gm_weight_simulate(ctx, y, w, ROWS, COLS, &q, grids);
        for (int r = 0; r < ROWS; r++) {
            for (int k = 0; k < COLS; k++) {
                int r0 = q.grain == GM_GRAIN_TENSOR ? 0 : r, r1 = q.grain == GM_GRAIN_TENSOR ? ROWS : r + 1;
                int k0 = q.grain == GM_GRAIN_GROUP ? k / 8 * 8 : 0, k1 = q.grain == GM_GRAIN_GROUP ? (int)fmin(k0 + 8, COLS) : COLS;
                double lo = INFINITY, hi = -INFINITY;
                for (int i = r0; i < r1; i++)
                    for (int j = k0; j < k1; j++)
                        lo = fmin(lo, w[i * COLS + j]), hi = fmax(hi, w[i * COLS + j]);
                naive_grid g = naive_of(q.bits, q.asymmetric, lo, hi);
                double want = naive_round(w[r * COLS + k], g), got = y[r * COLS + k];
                double between =
                    fabs(w[r * COLS + k] / g.step - floor(w[r * COLS + k] / g.step) - 0.5); /* near a tie float may go either way */
                if (!(fabs(got - want) <= 1e-6 * (fabs(want) + 1) || (between < 1e-3 && fabs(got - want) <= 1.001 * g.step)))
                    fail_msg("%d bits, grain %d, asymmetric %d: [%d, %d] is %.9g, want %.9g", q.bits, q.grain, q.asymmetric, r, k, got,
                             want);
            }
        }
    }
}

/* Golden section finds the least error that a fine scan finds; so does the grid of 100, among its own candidates. */
static void test_searches(void **state) {
    (void)state;
    enum { N = 4000 };
    static float x[N];
    random_fill(x, N, "search", 1);
    x[5] = 30;
    for (int c = 0; c < 8; c++) {
        gm_quantizer q = {.bits = 3 + c / 2, .asymmetric = c % 2};
        double lo = INFINITY, hi = -INFINITY, least[2] = {INFINITY, INFINITY};
        for (int i = 0; i < N; i++)
            lo = fmin(lo, x[i]), hi = fmax(hi, x[i]);
        double a = q.asymmetric ? lo : -fmax(-lo, hi), b = q.asymmetric ? hi : fmax(-lo, hi);
        for (int i = 1; i <= 1000; i++) {
            double e = naive_error(x, N, naive_of(q.bits, q.asymmetric, a * i / 1000, b * i / 1000));
            least[0] = i % 10 == 0 ? fmin(least[0], e) : least[0];
            least[1] = fmin(least[1], e);
        }
        for (int golden = 0; golden < 2; golden++) {
            float low = (float)lo, high = (float)hi;
            q.range = golden ? GM_RANGE_GOLDEN : GM_RANGE_MSE;
            gm_range_search(ctx, &(gm_range_sample){.x = x, .n = N}, &q, &low, &high);
            double e = naive_error(x, N, naive_of(q.bits, q.asymmetric, low, high));
            /* the grid is exact; the error has many small valleys, of which golden section finds one within 3% of the deepest */
            if (!(e <= least[golden] * (golden ? 1.03 : 1.00001)))
                fail_msg("%d bits, asymmetric %d, golden %d: error %g, a scan finds %g", q.bits, q.asymmetric, golden, e, least[golden]);
        }
    }
}

/* A stream larger than the sample: extremes are exact, so that the found range is nearly that of all values. */
static void test_observed_search(void **state) {
    (void)state;
    enum { N = 200000 };
    float *x = gm_alloc(N, sizeof *x);
    random_fill(x, N, "observed", 1);
    x[123456] = 500; /* one in two hundred thousand: a sample would not see it, its clipping costs more than all the rest */
    gm_quantizer q = {.bits = 8, .range = GM_RANGE_GOLDEN, .asymmetric = true};
    gm_observer o = {.range = q.range};
    for (int batch = 0; batch < 4; batch++) {
        assert_int_equal(gm_observer_feed(&o, ctx, x + batch * N / 4, 1, N / 4, N / 4, N / 4, NULL), GM_OK);
        gm_observer_fold(&o);
    }
    assert_true(o.hi == 500);
    assert_int_equal(gm_observer_finish(&o, ctx, &q, NULL), GM_OK);
    float lo = o.lo, hi = o.hi, all_lo = INFINITY, all_hi = -INFINITY;
    gm_min_max(ctx, &all_lo, &all_hi, x, N);
    gm_range_search(ctx, &(gm_range_sample){.x = x, .n = N}, &q, &all_lo, &all_hi);
    double found = naive_error(x, N, naive_of(8, true, lo, hi)), best = naive_error(x, N, naive_of(8, true, all_lo, all_hi));
    if (!(found <= 1.05 * best && hi > 100))
        fail_msg("range %g .. %g with error %g, all values give %g .. %g with %g", (double)lo, (double)hi, found, (double)all_lo,
                 (double)all_hi, best);
    gm_observer_free(&o);
    gm_free(x);
}

/* Plain min-max takes all batches' extremes; running forgets; per channel has a range each. */
static void test_observed_ranges(void **state) {
    (void)state;
    const float batches[3][4] = {{-1, 2, 0, 5}, {-3, 1, 1, 4}, {0.5f, 2, -0.5f, 9}}; /* [2, 2] each */
    gm_observer plain = {.range = GM_RANGE_MINMAX, .channels = 1}, running = {.range = GM_RANGE_RUNNING, .channels = 1};
    for (int b = 0; b < 3; b++) {
        gm_observer *both[] = {&plain, &running};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(gm_observer_feed(both[i], ctx, batches[b], 2, 2, 2, 4, NULL), GM_OK);
            gm_observer_fold(both[i]);
        }
    }
    assert_true(plain.lo == -3 && plain.hi == 9 && plain.channels == 2);
    assert_true(plain.channel_lo[0] == -3 && plain.channel_hi[0] == 1 && plain.channel_lo[1] == 1 && plain.channel_hi[1] == 9);
    /* lo: -1, .9(-1) + .1(-3) = -1.2, .9(-1.2) + .1(-.5) = -1.13; hi: 5, 4.9, 5.31 */
    assert_true(fabsf(running.lo + 1.13f) < 1e-6f && fabsf(running.hi - 5.31f) < 1e-5f);
    assert_true(fabsf(running.channel_hi[1] - 5.31f) < 1e-5f && fabsf(running.channel_lo[0] + 1.13f) < 1e-6f);
    gm_observer_free(&plain);
    gm_observer_free(&running);
}

/* ---- presets: what each says, and by hand on tiny tensors */

static void test_presets(void **state) {
    (void)state;
    gm_quant_options o;
    gm_error err;
    assert_int_equal(gm_quant_preset(&o, "w8a9", &err), GM_EINVAL);
    assert_non_null(strstr(err.msg, "w8a8"));
    assert_int_equal(gm_quant_preset(&o, "bert-paper", &err), GM_OK);
    assert_true(o.weights.range == GM_RANGE_MINMAX && !o.weights.asymmetric && o.activations.range == GM_RANGE_RUNNING &&
                o.activations.asymmetric && o.calibration_batches == 16 && !o.head.bits && o.embeddings.bits == 8);
    const float w[] = {-0.254f, 0.1f, 0.05f, 0.127f}; /* absmax .254: step .002 */
    gm_quant_grid g;
    gm_weight_grids(ctx, &g, w, 2, 2, &o.weights);
    assert_true(fabsf(g.scale - 0.002f) < 1e-9f && g.qmin == -128 && g.qmax == 127 && g.zero == 0);
    assert_int_equal(gm_quant_preset(&o, "opt-paper", &err), GM_OK);
    assert_true(o.activations.percentile == 99.999 && o.attention.percentile == 99.999 && o.calibration_batches == 4 &&
                o.calibration_batch == 1);
    gm_weight_grids(ctx, &g, w, 2, 2, &o.weights); /* candidates (.254 + .5) i / 100 = .00754 i: the 34th, .25636, is the first past .254 */
    double best = INFINITY, scale = 0;
    for (int i = 1; i <= 100; i++) {
        naive_grid n = naive_of(8, false, 0, (0.254 + 0.5) * i / 100);
        if (naive_error(w, 4, n) < best) {
            best = naive_error(w, 4, n);
            scale = n.step;
        }
    }
    assert_true(fabs(g.scale - scale) < 1e-8 && scale >= 0.00754 * 33 / 127);
    gm_quant_set_bits(&o, 4, 6);
    assert_true(o.weights.bits == 4 && o.embeddings.bits == 4 && o.activations.bits == 6 && o.attention.bits == 6 && !o.head.bits &&
                !o.kv.bits);
}

/* A constant tensor has a grid (eps), on which 0 and the constant lie. */
static void test_constants(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        const float value = i == 0 ? 0 : i == 1 ? 3 : -3, x[4] = {value, value, value, value};
        for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
            gm_quantizer q = {.bits = 8, .asymmetric = asymmetric};
            gm_quant_grid g;
            float y[4];
            gm_weight_grids(ctx, &g, x, 1, 4, &q);
            gm_weight_simulate(ctx, y, x, 1, 4, &q, &g);
            assert_true(isfinite(g.scale) && g.scale > 0 && fabsf(y[0] - value) <= 1e-6f * fabsf(value));
        }
    }
}

/* ---- whole models */

static gm_model *model_of(const char *preset, const char *variant, const char *overrides) {
    gm_model *m = bb_model(preset, variant, overrides);
    for (int i = 0; i < m->param_count; i++) { /* nothing at a special value */
        const gm_param *p = &m->params[i];
        for (int64_t j = 0; j < p->rows * p->cols; j++)
            m->weights[p->offset + j] = 4 * m->weights[p->offset + j] + 0.02f * (float)(j % 5) - (p->kind == GM_PARAM_NORM_GAIN ? 2 : 0);
    }
    return m;
}

static const char *const models[][3] = {{"gpt2-nano", "softmax1+gated", "layers=2,heads=2,width=32"},
                                        {"words-mini", "softmax+gated:kind=channel", "layers=2,heads=2,width=32"},
                                        {"llama-260k", "sink+gated:kind=mlp", "layers=2,heads=4,kv-heads=2,width=32,ffn=48"},
                                        {"llama-260k", "softmax+gated:kind=all_heads", "layers=2,heads=4,kv-heads=2,width=32,ffn=48"}};

/* SmoothQuant changes weights and activations, and no result: through norms with and without bias, gates of every kind, shared values. */
static void test_smooth(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(models) * 2; i++) {
        gm_model *m = model_of(models[i / 2][0], models[i / 2][1], models[i / 2][2]), *smooth;
        gm_quant_options o;
        gm_features before, after;
        gm_quant_defaults(&o);
        o.calibration_batches = 2;
        assert_int_equal(gm_features_observe(&before, m, data, &o, NULL), GM_OK);
        assert_int_equal(gm_model_clone(&smooth, m, NULL), GM_OK);
        assert_int_equal(gm_model_smooth(smooth, &before, i % 2 ? GM_SMOOTH_LAYERS : GM_SMOOTH_NORMS, 0.5, NULL), GM_OK);
        int32_t x[4 * T], y[4 * T];
        float *a = gm_alloc((size_t)(4 * T * m->cfg.vocab), sizeof *a), *b = gm_alloc((size_t)(4 * T * m->cfg.vocab), sizeof *b);
        gm_data_validation(data, 0, 4, x, y);
        assert_int_equal(gm_model_logits(m, x, 4, T, false, a, NULL), GM_OK);
        assert_int_equal(gm_model_logits(smooth, x, 4, T, false, b, NULL), GM_OK);
        float size = gm_inf_norm(ctx, a, 4 * T * m->cfg.vocab);
        for (int64_t k = 0; k < 4 * T * m->cfg.vocab; k++) {
            if (!(fabsf(a[k] - b[k]) <= 2e-5f * size))
                fail_msg("%s %s, smooth %d: logit %lld is %g, was %g", models[i / 2][0], models[i / 2][1], 1 + i % 2, (long long)k,
                         (double)b[k], (double)a[k]);
        }
        /* the definition: s = max|x|^.5 / max|w|^.5, so |x| / s and |w| s have one maximum */
        assert_int_equal(gm_features_observe(&after, smooth, data, &o, NULL), GM_OK);
        const gm_param *p = &m->params[m->slot_index[1][GM_P_WQKV]];
        const float *w = m->weights + p->offset, *ws = smooth->weights + p->offset;
        for (int64_t c = 0; c < m->cfg.width; c++) {
            double x_max = before.max[0][m->cfg.width + c], w_max = 0, ws_max = 0;
            int64_t rows = p->rows - (i % 2 ? m->cfg.kv_heads * m->cfg.head_dim : 0); /* layers: v's rows change a second time */
            for (int64_t r = 0; r < p->rows; r++)
                w_max = fmax(w_max, fabs((double)w[r * p->cols + c]));
            double s = sqrt(x_max / w_max);
            for (int64_t r = 0; r < rows; r++)
                ws_max = fmax(ws_max, fabs(ws[r * p->cols + c] / (s * w[r * p->cols + c]) - 1));
            if (!(fabs(after.max[0][m->cfg.width + c] * s / x_max - 1) < 1e-4 && ws_max < 1e-4))
                fail_msg("feature %lld: max %g, was %g, s %g", (long long)c, (double)after.max[0][m->cfg.width + c], x_max, s);
        }
        gm_features_free(&before);
        gm_features_free(&after);
        gm_free(a);
        gm_free(b);
        gm_model_free(m);
        gm_model_free(smooth);
    }
}

/* ---- LLM.int8(): one linear layer of the rounded model, against the decomposition in double on what the layer saw */

typedef struct decomposition {
    const gm_model *f32;
    gm_quant_plan plan;
    float *input; /* what entered the layer before rounding */
    int products;
} decomposition;

/* Rows first .. first + v->cols of the layer's output, which q, k and v are, against the decomposition of what entered it. */
static void check_product(decomposition *d, const gm_tap_view *v, int64_t first) {
    const gm_model *m = d->plan.model;
    const gm_param *p = &m->params[m->slot_index[1][GM_P_WQKV]];
    const gm_outlier_columns *o = &d->plan.outliers[GM_LINEAR_INPUTS];
    const float *w = d->f32->weights + p->offset + first * p->cols, *b = gm_model_weight(m, GM_P_BQKV, 1);
    bool kept[64] = {false};
    for (int64_t i = 0; i < o->count; i++)
        kept[o->column[i]] = true;
    assert_true(o->count > 0 && o->count < p->cols);
    double largest = 0, worst = 0;
    for (int64_t r = 0; r < v->rows; r++) {
        double x_max = 0;
        for (int64_t c = 0; c < p->cols; c++)
            x_max = kept[c] ? x_max : fmax(x_max, fabs((double)d->input[r * p->cols + c]));
        for (int64_t j = 0; j < v->cols; j++) {
            double w_max = 0, float_part = 0, integer_part = 0;
            for (int64_t c = 0; c < p->cols; c++)
                w_max = kept[c] ? w_max : fmax(w_max, fabs((double)w[j * p->cols + c]));
            for (int64_t c = 0; c < p->cols; c++) {
                double x = d->input[r * p->cols + c], y = w[j * p->cols + c];
                if (kept[c])
                    float_part += x * y;
                else /* absmax, row of X times row of W: real integers */
                    integer_part += nearbyint(x * 127 / x_max) * nearbyint(y * 127 / w_max);
            }
            double want = float_part + integer_part * (x_max / 127) * (w_max / 127) + (b ? b[first + j] : 0);
            largest = fmax(largest, fabs(want));
            worst = fmax(worst, fabs(want - v->x[r * v->stride + j]));
        }
    }
    if (!(worst <= 1e-2 * largest && worst > 0)) /* a tie may round the other way: one of 127 steps of one product */
        fail_msg("worst difference %g of %g", worst, largest);
    d->products++;
}

static void keep_input(void *user, const gm_tap_view *v) {
    decomposition *d = user;
    const gm_model_config *c = &d->f32->cfg;
    if (v->site == GM_SITE_NORM1 && v->layer == 1) {
        for (int64_t r = 0; r < v->rows; r++)
            memcpy(d->input + r * v->cols, v->x + r * v->stride, (size_t)v->cols * sizeof(float));
    }
    if (v->layer == 1 && (v->site == GM_SITE_Q || v->site == GM_SITE_K || v->site == GM_SITE_V))
        check_product(d, v, v->site == GM_SITE_Q ? 0 : (c->heads + (v->site == GM_SITE_V ? c->kv_heads : 0)) * c->head_dim);
    gm_quant_view_simulate(&d->plan, v);
}

static void test_llm_int8(void **state) {
    (void)state;
    decomposition d = {0};
    gm_model *m = model_of("gpt2-nano", "softmax", "layers=2,heads=2,width=32");
    gm_quant_options o;
    gm_quant_preset(&o, "llm-int8", NULL);
    o.calibration_batches = 2;
    float *gain = gm_model_weight(m, GM_P_NORM1_G, 1);
    gain[3] = 40, gain[17] = -25; /* a layer with outlier columns */
    d.f32 = m;
    assert_int_equal(gm_quant_plan_make(&d.plan, m, data, &o, NULL), GM_OK);
    const gm_outlier_columns *found = &d.plan.outliers[GM_LINEAR_INPUTS];
    bool three = false, seventeen = false;
    for (int64_t i = 0; i < found->count; i++) {
        three |= found->column[i] == 3;
        seventeen |= found->column[i] == 17;
    }
    assert_true(three && seventeen);
    d.input = gm_alloc((size_t)(4 * T * m->cfg.width), sizeof(float));
    int32_t x[4 * T], y[4 * T];
    double loss, f32;
    gm_data_validation(data, 0, 4, x, y);
    assert_int_equal(gm_model_forward_loss(d.plan.model, x, y, 4, T, &(gm_tap){.fn = keep_input, .user = &d}, &loss, NULL, NULL), GM_OK);
    assert_int_equal(d.products, 3);
    assert_int_equal(gm_model_loss(m, x, y, 4, T, &f32, NULL, NULL), GM_OK);
    double with = fabs(loss - f32);
    gm_quant_plan_free(&d.plan);
    o.outlier_threshold = 1e30; /* the same without the columns: the outliers spoil the rest */
    assert_int_equal(gm_quant_simulated_loss(m, data, &o, &loss, &f32, NULL), GM_OK);
    assert_true(with < 0.05 && isfinite(loss));
    gm_free(d.input);
    gm_model_free(m);
}

/* ---- activations: what grains and kinds do to one view, against the definitions */

typedef struct view_check {
    gm_quant_plan plan;
    int64_t seen;
} view_check;

static void check_view(void *user, const gm_tap_view *v) {
    view_check *check = user;
    const gm_quantizer *q = gm_quant_plan_quantizer(&check->plan, v->site);
    const int64_t D = check->plan.model->cfg.head_dim;
    float *was = gm_alloc((size_t)(v->rows * v->cols), sizeof *was);
    for (int64_t r = 0; r < v->rows; r++)
        memcpy(was + r * v->cols, v->x + r * v->stride, (size_t)v->cols * sizeof(float));
    gm_quant_view_simulate(&check->plan, v);
    for (int64_t r = 0; r < v->rows; r++) {
        for (int64_t c = 0; c < v->cols; c++) {
            double x = was[r * v->cols + c], want = x;
            naive_grid g = {1, 0, 0, 0};
            if (q) {
                double lo = INFINITY, hi = -INFINITY;
                int64_t span = q->grain == GM_GRAIN_HEAD ? D : q->grain == GM_GRAIN_GROUP ? q->group : v->cols, c0 = c / span * span;
                for (int64_t i = q->dynamic ? 0 : r; i < (q->dynamic ? v->rows : r + 1); i++)
                    for (int64_t k = c0; k < c0 + span && k < v->cols; k++)
                        lo = fmin(lo, was[i * v->cols + k]), hi = fmax(hi, was[i * v->cols + k]);
                g = naive_of(q->bits, q->asymmetric, lo, hi);
                want = naive_round(x, g);
                check->seen++;
            }
            double between = fabs(x / g.step - floor(x / g.step) - 0.5), got = v->x[r * v->stride + c];
            if (!(fabs(got - want) <= 1e-6 * (fabs(want) + 1) || (q && between < 1e-3 && fabs(got - want) <= 1.001 * g.step)))
                fail_msg("%s: [%lld, %lld] %.9g became %.9g, want %.9g", gm_site_name(v->site), (long long)r, (long long)c, x, got, want);
        }
    }
    gm_free(was);
}

static void test_dynamic_views(void **state) {
    (void)state;
    gm_model *m = model_of("llama-260k", "softmax", "layers=2,heads=4,kv-heads=2,width=32,ffn=48");
    for (int i = 0; i < 5; i++) {
        view_check check = {0};
        gm_quant_options o;
        gm_quant_defaults(&o);
        o.calibration_batches = 1;
        static const gm_quant_grain grains[] = {GM_GRAIN_TOKEN, GM_GRAIN_GROUP, GM_GRAIN_TENSOR, GM_GRAIN_TOKEN, GM_GRAIN_TOKEN};
        o.activations = (gm_quantizer){.bits = 3 + i, .grain = grains[i], .group = 8, .dynamic = i == 2, .asymmetric = i % 2};
        o.attention = (gm_quantizer){.bits = 8, .grain = GM_GRAIN_TOKEN, .asymmetric = true};
        o.kv = (gm_quantizer){.bits = i % 2 ? 4 : 8, .grain = i == 3 ? GM_GRAIN_TOKEN : GM_GRAIN_HEAD, .asymmetric = true};
        o.linear_only = i == 4;
        if (i == 4)
            o.attention = (gm_quantizer){0};
        assert_int_equal(gm_quant_plan_make(&check.plan, m, data, &o, NULL), GM_OK);
        int32_t x[2 * T], y[2 * T];
        double loss;
        gm_data_validation(data, 0, 2, x, y);
        assert_int_equal(gm_model_forward_loss(check.plan.model, x, y, 2, T,
                                               &(gm_tap){.fn = check_view, .user = &check, .attention = i < 4}, &loss, NULL, NULL),
                         GM_OK);
        assert_true(check.seen > 1000);
        gm_quant_plan_free(&check.plan);
    }
    gm_model_free(m);
}

static void test_refusals(void **state) {
    (void)state;
    gm_error err;
    struct {
        gm_quant_options o;
        const char *words;
    } bad[10];
    for (int i = 0; i < 10; i++)
        gm_quant_defaults(&bad[i].o);
    bad[0].o.weights.bits = 1, bad[0].words = "bits of weights";
    bad[1].o.head.bits = 17, bad[1].words = "bits of head";
    bad[2].o.weights.grain = GM_GRAIN_TOKEN, bad[2].words = "grid per token";
    bad[3].o.kv = (gm_quantizer){.bits = 8, .grain = GM_GRAIN_GROUP}, bad[3].words = "group of kv";
    bad[4].o.weights.range = GM_RANGE_RUNNING, bad[4].words = "weights";
    bad[5].o.activations.range = GM_RANGE_PERCENTILE, bad[5].words = "percentile";
    bad[6].o.smooth = GM_SMOOTH_NORMS, bad[6].o.smooth_alpha = 2, bad[6].words = "alpha";
    bad[7].o.outlier_threshold = NAN, bad[7].words = "threshold";
    bad[8].o.weights.margin = -1, bad[8].words = "margin";
    bad[9].o.attention.grain = GM_GRAIN_CHANNEL, bad[9].words = "attention";
    for (int i = 0; i < 10; i++) {
        assert_int_equal(gm_quant_options_check(&bad[i].o, &err), GM_EINVAL);
        if (!strstr(err.msg, bad[i].words))
            fail_msg("'%s' does not say '%s'", err.msg, bad[i].words);
    }
}

static int setup(void **state) {
    (void)state;
    return open_context_and_bb(T);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weight_grains),   cmocka_unit_test(test_searches), cmocka_unit_test(test_observed_search),
        cmocka_unit_test(test_observed_ranges), cmocka_unit_test(test_presets),  cmocka_unit_test(test_constants),
        cmocka_unit_test(test_smooth),          cmocka_unit_test(test_llm_int8), cmocka_unit_test(test_dynamic_views),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, close_all);
}
