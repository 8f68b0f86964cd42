/* test_gradients.c -- whole models against a double-precision oracle: the loss, and every parameter's gradient against central
 * differences of the oracle, for every family, variant and instruction set.
 *
 * Tolerances. A loss or gradient passes through about n = 30 dependent f32 roundings per block and direction; with the unit roundoff
 * u = 2^-24 = 6e-8 and rounding errors of random sign the error is of the order sqrt(4 n) u = 7e-7 of the largest term in the sum, and
 * 4 n u = 7e-6 at the very worst. The oracle's own difference, at step h = 1e-6, is off by h^2 (curvature) + 1e-15/h = 1e-9. */
#include "model_cases.h"
#include "oracle_model.h"

static const double loss_tolerance = 7e-7;     /* of the loss */
static const double gradient_tolerance = 6e-6; /* of the tensor's largest gradient, plus a tenth of that of the whole model's */
static const double difference_step = 1e-6;

typedef struct subject { /* a model shape with data, seen by library and oracle alike */
    const model_shape *shape;
    gm_model_config cfg;
    gm_model *model; /* of the context under test */
    oracle oracle;
    double *weights;     /* the oracle's */
    int32_t *x, *y;      /* [B, T] */
    double loss;         /* the oracle's sum */
    double *differences; /* one per element looked at */
    int64_t stride;      /* every stride-th element of a tensor */
} subject;

static const float grad_scale = 0.25f;

static void subject_open(subject *s, const model_shape *shape, const char *variant, int64_t stride) {
    gm_ctx *ctx = context_of("ref", 1);
    *s = (subject){.shape = shape, .cfg = shape_config(shape, variant), .stride = stride};
    gm_model *m = model_of(ctx, &s->cfg, 7);
    int64_t n = shape->B * shape->T;
    s->x = calloc((size_t)n, sizeof *s->x);
    s->y = calloc((size_t)n, sizeof *s->y);
    tokens_fill(s->x, s->y, n, s->cfg.vocab, 3);
    s->weights = calloc((size_t)m->param_elements, sizeof *s->weights);
    s->differences = calloc((size_t)m->param_elements, sizeof *s->differences);
    for (int64_t i = 0; i < m->param_elements; i++)
        s->weights[i] = m->weights[i];
    gm_param *params = calloc((size_t)m->param_count, sizeof *params);
    memcpy(params, m->params, (size_t)m->param_count * sizeof *params);
    oracle_open(&s->oracle, &s->cfg, params, m->param_count, s->weights, shape->B, shape->T);
    gm_model_free(m);
    gm_ctx_free(ctx);
    s->loss = oracle_loss(&s->oracle, s->x, s->y, shape->B, shape->T, NULL);
    for (int i = 0; i < s->oracle.param_count; i++) {
        const gm_param *p = &params[i];
        for (int64_t j = i % stride; j < p->rows * p->cols; j += stride) {
            double *w = &s->weights[p->offset + j], middle = *w;
            *w = middle + difference_step;
            double up = oracle_loss(&s->oracle, s->x, s->y, shape->B, shape->T, NULL);
            *w = middle - difference_step;
            double down = oracle_loss(&s->oracle, s->x, s->y, shape->B, shape->T, NULL);
            *w = middle;
            s->differences[p->offset + j] = grad_scale * (up - down) / (2 * difference_step);
        }
    }
}

static void subject_close(subject *s) {
    free((gm_param *)s->oracle.params);
    oracle_close(&s->oracle);
    free(s->weights);
    free(s->differences);
    free(s->x);
    free(s->y);
}

static double largest(const double *x, const gm_param *p) {
    double max = 0;
    for (int64_t j = 0; j < p->rows * p->cols; j++)
        max = fmax(max, fabs(x[p->offset + j]));
    return max;
}

/* Loss, gradients of every tensor and silence between tensors. */
static void compare_gradients(const subject *s, const gm_model *m, double loss, const char *variant) {
    const char *isa = gm_ctx_isa(m->ctx), *shape = s->shape->name;
    if (!(fabs(loss - s->loss) <= loss_tolerance * s->loss))
        fail_msg("%s, %s, %s: loss is %.9g, the oracle's %.9g", shape, variant, isa, loss, s->loss);
    double model_max = 0;
    for (int i = 0; i < m->param_count; i++)
        model_max = fmax(model_max, largest(s->differences, &m->params[i]));
    int64_t end = 0;
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        double limit = gradient_tolerance * (largest(s->differences, p) + 0.1 * model_max);
        for (; end < p->offset; end++)
            assert_true(m->grads[end] == 0);
        end = p->offset + p->rows * p->cols;
        for (int64_t j = i % s->stride; j < p->rows * p->cols; j += s->stride) {
            double g = m->grads[p->offset + j], d = s->differences[p->offset + j];
            if (!(fabs(g - d) <= limit))
                fail_msg("%s, %s, %s: d loss / d %s[%lld] is %.9g, the oracle's %.9g, apart by %.2g of %.2g allowed", shape, variant, isa,
                         p->name, (long long)j, g, d, fabs(g - d), limit);
        }
    }
}

static void check_variant(const model_shape *shape, const char *variant, int64_t stride) {
    subject s;
    subject_open(&s, shape, variant, stride);
    for (int i = 0; i < GM_COUNT(every_isa); i++) {
        gm_ctx *ctx = context_of(every_isa[i], 2);
        if (!ctx)
            continue;
        gm_model *m = model_of(ctx, &s.cfg, 7);
        double loss = 0;
        CHECK_OK(gm_model_train_begin(m, shape->B, shape->T, err));
        gm_model_zero_grads(m);
        CHECK_OK(gm_model_accumulate(m, s.x, s.y, shape->B, shape->T, grad_scale, 1, &loss, err));
        compare_gradients(&s, m, loss, variant);
        gm_model_free(m);
        gm_ctx_free(ctx);
    }
    subject_close(&s);
}

static void every_parameter(void **state) {
    const model_shape *shape = *state;
    for (int i = 0; i < GM_COUNT(every_variant); i += shape->stride)
        check_variant(shape, every_variant[i], 1);
}

static void larger_models(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(large_shapes); i++) {
        check_variant(&large_shapes[i], "sink+clipped:gamma=-0.002,zeta=1.002+gated:kind=mlp,hidden=5", 1999);
        check_variant(&large_shapes[i], "softmax1+gated:kind=channel", 1999);
        check_variant(&large_shapes[i], "softmax", 1999);
    }
}

/* ---- the oracle itself: a row worked out by hand */

static void oracle_by_hand(void **state) {
    (void)state;
    double w[10], s[10];
    for (int j = 0; j < 10; j++)
        s[j] = -10;
    oracle_weights(w, s, 10, 0, 1, 0); /* softmax1: e^-10 / (1 + 10 e^-10) each */
    double sum = 0;
    for (int j = 0; j < 10; j++)
        sum += w[j];
    assert_true(fabs(sum - 4.537931e-4) < 1e-9);
    oracle_weights(w, s, 10, -INFINITY, 1.1, -0.05); /* softmax gives 0.1: 0.11 - 0.05 */
    assert_true(fabs(w[3] - 0.06) < 1e-15);
    oracle_weights(w, s, 10, -INFINITY, 1, -0.2);
    assert_true(w[3] == 0);
}

/* ---- accumulation, threads, dropout */

typedef struct gradients { /* one accumulate's outcome */
    double loss;
    float *x;
    int64_t n;
} gradients;

/* Gradients of sequences first .. first+count-1 added to what m holds. */
static void accumulate(gm_model *m, const int32_t *x, const int32_t *y, int64_t first, int64_t count, int64_t T, gradients *g) {
    CHECK_OK(gm_model_accumulate(m, x + first * T, y + first * T, count, T, grad_scale, 5, &g->loss, err));
    g->n = m->param_elements;
    free(g->x);
    g->x = calloc((size_t)g->n, sizeof *g->x);
    memcpy(g->x, m->grads, (size_t)g->n * sizeof *g->x);
}

static void assert_close(const gradients *a, const gradients *b, double tolerance) {
    assert_true(fabs(a->loss - b->loss) <= tolerance * fabs(a->loss));
    double max = 0;
    for (int64_t i = 0; i < a->n; i++)
        max = fmax(max, fabs((double)a->x[i]));
    assert_true(max > 0);
    for (int64_t i = 0; i < a->n; i++)
        assert_true(fabs((double)a->x[i] - (double)b->x[i]) <= tolerance * max);
}

static void parts_add_up(void **state) {
    (void)state;
    enum { B = 4 };
    int32_t x[B * 7], y[B * 7];
    for (int i = 0; i < GM_COUNT(small_shapes); i++) {
        gm_ctx *ctx = context_of("ref", 1);
        gm_model_config cfg = shape_config(&small_shapes[i], "sink+gated");
        gm_model *m = model_of(ctx, &cfg, 2);
        tokens_fill(x, y, B * 7, cfg.vocab, 4);
        gradients whole = {0}, parts = {0}, once = {0};
        CHECK_OK(gm_model_train_begin(m, B, 7, err));
        gm_model_zero_grads(m);
        accumulate(m, x, y, 0, B, 7, &whole);
        gm_model_zero_grads(m);
        accumulate(m, x, y, 0, 2, 7, &once);
        accumulate(m, x, y, 2, 1, 7, &parts);
        parts.loss += once.loss;
        accumulate(m, x, y, 3, 1, 7, &parts);
        assert_close(&whole, &parts, 1e-6);
        gm_model_zero_grads(m); /* and zeroing forgets everything */
        accumulate(m, x, y, 0, B, 7, &parts);
        assert_memory_equal(whole.x, parts.x, (size_t)whole.n * sizeof(float));
        free(whole.x);
        free(parts.x);
        free(once.x);
        gm_model_free(m);
        gm_ctx_free(ctx);
    }
}

static void note_final(void *user, int64_t from) {
    (void)from;
    ++*(int *)user;
}

/* A batch whose activations are too large goes through in groups: the sum of its sequences alone, dropped out by their places in the batch;
 * gradients are told to be final once; and a larger batch takes no more memory. */
static void groups_add_up(void **state) {
    (void)state;
    enum { B = 11, LONG = 512 };
    gm_ctx *ctx = context_of("avx2", 2);
    ctx = ctx ? ctx : context_of("neon", 2);
    ctx = ctx ? ctx : context_of("ref", 2);
    gm_model_config cfg;
    CHECK_OK(gm_model_config_preset(&cfg, "gpt2-nano", err));
    CHECK_OK(gm_model_config_override(&cfg, "layers=5,heads=2,width=64,vocab=64,context=512", err));
    cfg.dropout = 0.2;
    gm_model *m = model_of(ctx, &cfg, 2);
    const int64_t group = gm_model_group(&m->cfg, m->param_elements, B, LONG, true);
    assert_int_equal(group, 4); /* 4, 4, 3 */
    int32_t *x = calloc(B * LONG, sizeof *x), *y = calloc(B * LONG, sizeof *y);
    tokens_fill(x, y, B * LONG, cfg.vocab, 4);
    gradients whole = {0}, alone = {0};
    int finals = 0;
    m->watch = &(gm_grads_watch){.user = &finals, .final = note_final};
    CHECK_OK(gm_model_train_begin(m, B, LONG, err));
    accumulate(m, x, y, 0, B, LONG, &whole);
    assert_int_equal(finals, cfg.layers + 1);
    assert_int_equal(m->first_sequence, 0);
    m->watch = NULL;
    gm_model_zero_grads(m);
    for (m->first_sequence = 0; m->first_sequence < B; m->first_sequence++)
        accumulate(m, x, y, m->first_sequence, 1, LONG, &alone);
    assert_close(&whole, &alone, 2e-6);
    double mean, sum = 0, parts = 0;
    float *losses = calloc(B * LONG, sizeof *losses), *one = calloc(LONG, sizeof *one);
    CHECK_OK(gm_model_loss(m, x, y, B, LONG, &mean, losses, err));
    for (int64_t b = 0; b < B; b++) {
        CHECK_OK(gm_model_loss(m, x + b * LONG, y + b * LONG, 1, LONG, &sum, one, err));
        for (int64_t t = 0; t < LONG; t++)
            parts += one[t];
        assert_memory_equal(one, losses + b * LONG, LONG * sizeof *one);
    }
    assert_true(fabs(mean - parts / (B * LONG - B * LONG / 5)) < 1e-3 * mean);
    gm_model_size few, many;
    gm_model_config_size(&few, &m->cfg, B, LONG);
    gm_model_config_size(&many, &m->cfg, 1000 * B, LONG);
    assert_true(many.train_bytes < 4 * many.parameter_bytes + (64 << 20) && few.train_bytes > many.train_bytes / 2);
    free(losses);
    free(one);
    free(whole.x);
    free(alone.x);
    free(x);
    free(y);
    gm_model_free(m);
    gm_ctx_free(ctx);
}

/* Without the matrix library (ref) thread counts give the same bits; with it they agree. */
static void thread_counts_agree(void **state) {
    (void)state;
    for (int i = 0; i < GM_COUNT(large_shapes); i++) {
        const model_shape *shape = &large_shapes[i];
        gm_model_config cfg = shape_config(shape, "sink+gated");
        int64_t n = shape->B * shape->T;
        int32_t *x = calloc((size_t)n, sizeof *x), *y = calloc((size_t)n, sizeof *y);
        tokens_fill(x, y, n, cfg.vocab, 4);
        for (int j = 0; j < GM_COUNT(every_isa); j++) {
            gradients by_threads[3] = {{0}};
            for (int threads = 1; threads <= 3; threads++) {
                gm_ctx *ctx = context_of(every_isa[j], threads);
                if (!ctx)
                    continue;
                gm_model *m = model_of(ctx, &cfg, 2);
                gradients *g = &by_threads[threads - 1];
                CHECK_OK(gm_model_train_begin(m, shape->B, shape->T, err));
                accumulate(m, x, y, 0, shape->B, shape->T, g);
                if (threads > 1) {
                    assert_close(&by_threads[0], g, 2e-6);
                    if (strcmp(gm_ctx_gemm(ctx), "plain") == 0)
                        assert_memory_equal(by_threads[0].x, g->x, (size_t)g->n * sizeof(float));
                }
                gm_model_free(m);
                gm_ctx_free(ctx);
            }
            for (int k = 0; k < 3; k++)
                free(by_threads[k].x);
        }
        free(x);
        free(y);
    }
}

static double dropped_loss(gm_model *m, const subject *s, uint64_t key) {
    double loss = 0;
    CHECK_OK(gm_model_accumulate(m, s->x, s->y, s->shape->B, s->shape->T, 1, key, &loss, err));
    return loss;
}

/* Under one key the mask is fixed and the loss smooth: along each tensor's own gradient its slope is the gradient's length. Fourth-order
 * differences of f32 losses: 14 losses of 2e-7 over a step of 0.02 leave 2e-4, their curvature h^4 = 2e-7. */
static void dropout_gradients(void **state) {
    (void)state;
    const int smooth[] = {0, 4}; /* gpt2 and llama: no kinks */
    const double h = 0.02;
    for (int i = 0; i < GM_COUNT(smooth); i++) {
        subject s = {.shape = &small_shapes[smooth[i]]};
        s.cfg = shape_config(s.shape, "sink+gated");
        s.cfg.dropout = 0.3;
        int32_t x[14], y[14];
        s.x = x;
        s.y = y;
        tokens_fill(x, y, 14, s.cfg.vocab, 3);
        gm_ctx *ctx = context_of("ref", 1);
        gm_model *m = model_of(ctx, &s.cfg, 7);
        CHECK_OK(gm_model_train_begin(m, s.shape->B, s.shape->T, err));
        double loss = dropped_loss(m, &s, 9);
        gradients g = {.n = m->param_elements};
        g.x = calloc((size_t)g.n, sizeof *g.x);
        memcpy(g.x, m->grads, (size_t)g.n * sizeof *g.x);
        assert_true(loss == dropped_loss(m, &s, 9));
        assert_true(fabs(loss - dropped_loss(m, &s, 11)) > 1e-3);
        for (int k = 0; k < m->param_count; k++) {
            const gm_param *p = &m->params[k];
            int64_t n = p->rows * p->cols;
            float *w = m->weights + p->offset, *kept = calloc((size_t)n, sizeof *kept);
            memcpy(kept, w, (size_t)n * sizeof *w);
            double length = 0, at[4];
            for (int64_t j = 0; j < n; j++)
                length += (double)g.x[p->offset + j] * (double)g.x[p->offset + j];
            length = sqrt(length);
            for (int side = 0; side < 4; side++) {
                double step = h * (double[]){-2, -1, 1, 2}[side];
                for (int64_t j = 0; length > 0 && j < n; j++)
                    w[j] = (float)(kept[j] + step * (double)g.x[p->offset + j] / length);
                at[side] = dropped_loss(m, &s, 9);
            }
            memcpy(w, kept, (size_t)n * sizeof *w);
            free(kept);
            double slope = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h);
            if (!(fabs(slope - length) <= 2e-4 + 1e-3 * length))
                fail_msg("%s, dropout: along the gradient of %s the loss rises by %.6g, the gradient's length is %.6g", s.shape->name,
                         p->name, slope, length);
        }
        free(g.x);
        gm_model_free(m);
        gm_ctx_free(ctx);
    }
}

/* Evaluation never drops, and its losses per token are the oracle's. */
static void evaluation_drops_nothing(void **state) {
    (void)state;
    subject s;
    subject_open(&s, &small_shapes[0], "softmax1", 1000000);
    gm_model_config cfg = s.cfg;
    cfg.dropout = 0.5;
    gm_ctx *ctx = context_of("ref", 1);
    gm_model *m = model_of(ctx, &cfg, 7);
    double mean;
    float losses[14];
    double expected[14];
    CHECK_OK(gm_model_loss(m, s.x, s.y, s.shape->B, s.shape->T, &mean, losses, err));
    oracle_loss(&s.oracle, s.x, s.y, s.shape->B, s.shape->T, expected);
    int targets = 0;
    for (int i = 0; i < 14; i++) {
        targets += s.y[i] >= 0;
        assert_true(fabs((double)losses[i] - expected[i]) <= loss_tolerance * fmax(1, expected[i]));
    }
    assert_true(fabs(mean - s.loss / targets) <= loss_tolerance * mean);
    gm_model_free(m);
    gm_ctx_free(ctx);
    subject_close(&s);
}

int main(void) {
    struct CMUnitTest tests[GM_COUNT(small_shapes) + 7];
    int count = 0;
    for (; count < GM_COUNT(small_shapes); count++)
        tests[count] = (struct CMUnitTest){small_shapes[count].name, every_parameter, NULL, NULL, (void *)&small_shapes[count]};
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(larger_models);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(oracle_by_hand);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(parts_add_up);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(groups_add_up);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(thread_counts_agree);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(dropout_gradients);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(evaluation_drops_nothing);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
