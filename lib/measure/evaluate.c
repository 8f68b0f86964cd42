/* evaluate.c -- a model's mean loss: over validation sequences, or over a whole text in windows. */
#include "base.h"
#include "ghostmax_model.h"

#include <math.h>

typedef struct evaluation {
    gm_model *model;
    const gm_data *data;
    int64_t batch, T;      /* T: the longest row */
    int32_t *x, *y;        /* [batch, T] */
    double sum;            /* of losses in nats */
    double recipe, weight; /* the recipe's sum and the tokens it counts */
    int64_t scored, done, total;
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
static gm_status add_rows(evaluation *e, int64_t B, int64_t T, double *mean, gm_error *err) {
    GM_TRY(gm_model_loss(e->model, e->x, e->y, B, T, mean, NULL, err));
    int64_t count = targets_in(e->y, B * T);
    e->sum += *mean * (double)count;
    e->scored += count;
    e->done += B;
    if (e->callback && e->callback(e->user, e->done, e->total))
        return gm_fail(err, GM_ESTOPPED, "stopped after %lld of %lld sequences", (long long)e->done, (long long)e->total);
    return GM_OK;
}

static gm_status over_sequences(evaluation *e, int64_t sequences, gm_error *err) {
    int64_t all = gm_data_validation_count(e->data);
    e->total = sequences > 0 ? GM_MIN(sequences, all) : all;
    for (int64_t first = 0; first < e->total; first += e->batch) {
        int64_t B = GM_MIN(e->batch, e->total - first);
        double mean;
        gm_data_validation(e->data, first, B, e->x, e->y);
        GM_TRY(add_rows(e, B, e->T, &mean, err));
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
static gm_status add_window(evaluation *e, int64_t begin, int64_t end, int64_t seen, gm_error *err) {
    const int64_t T = end - begin - 1;
    for (int64_t i = 0; i < T; i++) {
        e->x[i] = stream_token(e, begin + i);
        e->y[i] = begin + i + 1 >= seen ? stream_token(e, begin + i + 1) : -1;
    }
    if (targets_in(e->y, T) == 0) {
        e->done++;
        return GM_OK;
    }
    double mean;
    GM_TRY(add_rows(e, 1, T, &mean, err));
    e->recipe += mean * (double)(end - seen - 1);
    e->weight += (double)(end - seen - 1);
    return GM_OK;
}

static gm_status over_windows(evaluation *e, const gm_eval_options *o, gm_error *err) {
    const int64_t N = gm_data_text_tokens(e->data) + gm_data_bos(e->data);
    if (N - gm_data_bos(e->data) == 0)
        return gm_fail(err, GM_EINVAL, "windows need a file, and stories and bb have no end; leave --stride out");
    if (o->context < 2)
        return gm_fail(err, GM_EINVAL, "a window of one token predicts nothing; use a context of 2 or more");
    if (o->stride > o->context)
        return gm_fail(err, GM_EINVAL, "a stride of %lld passes over tokens: it must be 1 .. %lld, the context", (long long)o->stride,
                       (long long)o->context);
    e->total = N <= o->context ? 1 : 1 + (N - o->context + o->stride - 1) / o->stride;
    for (int64_t begin = 0, seen = 0; seen < N; begin += o->stride) {
        int64_t end = GM_MIN(begin + o->context, N);
        GM_TRY(add_window(e, begin, end, seen, err));
        seen = end;
    }
    return GM_OK;
}

gm_status gm_model_eval(gm_model *m, const gm_data *data, const gm_eval_options *options, gm_eval_callback callback, void *user,
                        gm_eval_result *result, gm_error *err) {
    const bool windows = options->stride > 0;
    evaluation e = {.model = m,
                    .data = data,
                    .batch = windows          ? 1
                             : options->batch ? options->batch
                                              : 8,
                    .T = windows ? options->context : gm_data_context(data),
                    .callback = callback,
                    .user = user};
    if (e.batch < 1 || e.T < 1 || options->stride < 0 || options->sequences < 0)
        return gm_fail(err, GM_EINVAL, "batch, sequences, stride and context must not be negative");
    e.x = gm_alloc((size_t)(2 * e.batch * e.T), sizeof *e.x);
    if (!e.x)
        return gm_fail_memory(err, (size_t)(2 * e.batch * e.T) * sizeof *e.x);
    e.y = e.x + e.batch * e.T;
    gm_status status = windows ? over_windows(&e, options, err) : over_sequences(&e, options->sequences, err);
    gm_free(e.x);
    if (status == GM_OK && e.scored == 0)
        status = gm_fail(err, GM_EINVAL, "the text has %lld token%s, nothing to predict; give a longer one",
                         (long long)gm_data_text_tokens(data), gm_data_text_tokens(data) == 1 ? "" : "s");
    if (status != GM_OK)
        return status;
    double loss = e.sum / (double)e.scored, bytes_per_token = gm_data_bytes_per_token(data);
    if (windows && gm_data_tokenizer(data))
        bytes_per_token = (double)gm_data_text_bytes(data) / (double)gm_data_text_tokens(data);
    *result = (gm_eval_result){.loss = loss,
                               .recipe_loss = windows ? e.recipe / e.weight : NAN,
                               .bits_per_byte = bytes_per_token > 0 ? loss / log(2) / bytes_per_token : NAN,
                               .tokens = e.scored,
                               .sequences = e.done};
    return GM_OK;
}
