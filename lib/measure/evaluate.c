/* evaluate.c -- a model's mean loss: over validation sequences, or over a whole text in windows. */
#include "measure.h"

#include <math.h>
#include <string.h>

/* What one batch, or all so far, adds up to; doubles, so that ranks can tell each other. */
enum {
    SUM,    /* of losses in nats */
    SCORED, /* targets */
    RECIPE, /* the recipe's sum, */
    WEIGHT, /* and the tokens it counts */
    ROWS,   /* sequences, or windows */
    TALLY
};
typedef double tally[TALLY];

typedef struct evaluation {
    gm_model *model;
    const gm_data *data;
    gm_dist *dist;
    int64_t batch, T; /* T: the longest row */
    int32_t *x, *y;   /* [batch, T] */
    int64_t total;    /* of rows */
    tally all;
    gm_eval_callback callback;
    void *user;
} evaluation;

static int64_t targets_in(const int32_t *y, int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += y[i] >= 0;
    return count;
}

/* Rows x, y [B, T] of the batch buffers count. */
static gm_status rows_loss(evaluation *e, int64_t B, int64_t T, tally t, double *mean, gm_error *err) {
    GM_TRY(gm_model_loss(e->model, e->x, e->y, B, T, mean, NULL, err));
    int64_t count = targets_in(e->y, B * T);
    t[SUM] = *mean * (double)count;
    t[SCORED] = (double)count;
    return GM_OK;
}

/* A turn: every rank's next batch, added in the order of the ranks, which is the order of the text. So the sums are one process's, to the
 * bit. */
static gm_status add_turn(evaluation *e, gm_status mine, const tally t, gm_error *err) {
    GM_TRY(gm_dist_add(e->dist, mine, t, e->all, TALLY, err));
    const int64_t done = (int64_t)e->all[ROWS];
    double stop = e->callback && e->callback(e->user, done, e->total), stops = 0;
    GM_TRY(gm_dist_add(e->dist, GM_OK, &stop, &stops, 1, err));
    if (stops > 0)
        return gm_fail(err, GM_ESTOPPED, "stopped after %lld of %lld sequences", (long long)done, (long long)e->total);
    return GM_OK;
}

static int64_t at_most(int64_t all, int64_t asked) {
    return asked > 0 ? GM_MIN(asked, all) : all;
}

static gm_status over_sequences(evaluation *e, int64_t sequences, gm_error *err) {
    const int64_t rank = gm_dist_rank(e->dist), ranks = gm_dist_size(e->dist);
    e->total = at_most(gm_data_validation_count(e->data), sequences);
    for (int64_t turn = 0; turn < e->total; turn += e->batch * ranks) {
        int64_t first = turn + rank * e->batch, B = GM_MIN(e->batch, e->total - first);
        tally t = {[ROWS] = (double)GM_MAX(B, 0)};
        gm_status status = GM_OK;
        double mean;
        if (B > 0) {
            gm_data_validation(e->data, first, B, e->x, e->y);
            status = rows_loss(e, B, e->T, t, &mean, err);
        }
        GM_TRY(add_turn(e, status, t, err));
    }
    return GM_OK;
}

/* ---- windows over a stream of N tokens: BOS, if there is one, and the text */

static int32_t stream_token(const evaluation *e, int64_t at) {
    int32_t id;
    bool bos = gm_data_bos(e->data);
    if (bos && at == 0)
        return gm_tokenizer_bos(gm_data_tokenizer(e->data));
    gm_data_text(e->data, at - bos, 1, &id);
    return id;
}

/* One window: tokens begin .. end-1 of the stream, of which `seen` and later are new. Its last token is only a target. */
static gm_status window_loss(evaluation *e, int64_t begin, int64_t end, int64_t seen, tally t, gm_error *err) {
    const int64_t T = end - begin - 1;
    for (int64_t i = 0; i < T; i++) {
        e->x[i] = stream_token(e, begin + i);
        e->y[i] = begin + i + 1 >= seen ? stream_token(e, begin + i + 1) : -1;
    }
    t[ROWS] = 1;
    if (targets_in(e->y, T) == 0)
        return GM_OK;
    double mean;
    GM_TRY(rows_loss(e, 1, T, t, &mean, err));
    t[RECIPE] = mean * (double)(end - seen - 1);
    t[WEIGHT] = (double)(end - seen - 1);
    return GM_OK;
}

static gm_status over_windows(evaluation *e, const gm_eval_options *o, gm_error *err) {
    const int64_t N = gm_data_text_tokens(e->data) + gm_data_bos(e->data), rank = gm_dist_rank(e->dist), ranks = gm_dist_size(e->dist);
    if (N - gm_data_bos(e->data) == 0)
        return gm_fail(err, GM_EINVAL, "windows need a file, and stories and bb have no end; leave --stride out");
    if (o->context < 2)
        return gm_fail(err, GM_EINVAL, "a window of one token predicts nothing; use a context of 2 or more");
    if (o->stride > o->context)
        return gm_fail(err, GM_EINVAL, "a stride of %lld passes over tokens: it must be 1 .. %lld, the context", (long long)o->stride,
                       (long long)o->context);
    e->total = at_most(N <= o->context ? 1 : 1 + (N - o->context + o->stride - 1) / o->stride, o->sequences);
    for (int64_t turn = 0; turn < e->total; turn += ranks) {
        const int64_t begin = (turn + rank) * o->stride, seen = begin ? begin - o->stride + o->context : 0;
        tally t = {0};
        gm_status status = GM_OK;
        if (turn + rank < e->total)
            status = window_loss(e, begin, GM_MIN(begin + o->context, N), seen, t, err);
        GM_TRY(add_turn(e, status, t, err));
    }
    return GM_OK;
}

gm_status gm_measure_same_input(const gm_model *m, const gm_data *data, gm_error *err) {
    gm_dist *d = gm_ctx_dist(m->ctx);
    const char *identity = gm_data_identity(data);
    GM_TRY(gm_dist_equal(d, m->weights, (size_t)m->param_elements * sizeof *m->weights, "the model", err));
    return gm_dist_equal(d, identity, strlen(identity), "the data", err);
}

gm_status gm_model_eval(gm_model *m, const gm_data *data, const gm_eval_options *options, gm_eval_callback callback, void *user,
                        gm_eval_result *result, gm_error *err) {
    const bool windows = options->stride > 0;
    evaluation e = {.model = m,
                    .data = data,
                    .dist = gm_ctx_dist(m->ctx),
                    .batch = windows          ? 1
                             : options->batch ? options->batch
                                              : 8,
                    .T = windows ? options->context : gm_data_context(data),
                    .callback = callback,
                    .user = user};
    if (e.batch < 1 || e.T < 1 || options->stride < 0 || options->sequences < 0)
        return gm_fail(err, GM_EINVAL, "batch, sequences, stride and context must not be negative");
    GM_TRY(gm_measure_same_input(m, data, err));
    e.x = gm_alloc((size_t)(2 * e.batch * e.T), sizeof *e.x);
    gm_status status = e.x ? GM_OK : gm_fail_memory(err, (size_t)(2 * e.batch * e.T) * sizeof *e.x);
    GM_TRY(gm_dist_agree(e.dist, status, err));
    e.y = e.x + e.batch * e.T;
    status = windows ? over_windows(&e, options, err) : over_sequences(&e, options->sequences, err);
    gm_free(e.x);
    if (status == GM_OK && e.all[SCORED] == 0)
        status = gm_fail(err, GM_EINVAL, "the text has %lld token%s, nothing to predict; give a longer one",
                         (long long)gm_data_text_tokens(data), gm_data_text_tokens(data) == 1 ? "" : "s");
    if (status != GM_OK)
        return status;
    double loss = e.all[SUM] / e.all[SCORED], bytes_per_token = gm_data_bytes_per_token(data);
    if (windows && gm_data_tokenizer(data))
        bytes_per_token = (double)gm_data_text_bytes(data) / (double)gm_data_text_tokens(data);
    *result = (gm_eval_result){.loss = loss,
                               .recipe_loss = windows ? e.all[RECIPE] / e.all[WEIGHT] : NAN,
                               .bits_per_byte = bytes_per_token > 0 ? loss / log(2) / bytes_per_token : NAN,
                               .tokens = (int64_t)e.all[SCORED],
                               .sequences = (int64_t)e.all[ROWS]};
    return GM_OK;
}
