/* attention.c -- attention forward and backward, tiled, for every variant with the same code.
 *
 * A tile is up to GM_LANES queries of one head. Its scores lie transposed, [keys, GM_LANES], one query per lane (see
 * lib/kernels/attention_body.inc), over the keys that any of its queries can see: causal attention never touches the other half.
 *
 *   forward   S = K Q^T; mask; W = normaliser(S); O = W^T V                       whole rows: 4 S GM_LANES bytes per thread
 *   backward  S = K Q^T; dW = V dO^T; W, dS = normaliser'(S, dW); dV += W dO; dK += dS Q; dQ = dS^T K
 *
 * Whole rows instead of a running maximum cost no more (the scores stay in the second-level cache) and serve the clip, which needs lse
 * before it can weigh. Backward has lse, so it goes through the keys in blocks that stay in the first-level cache; only the clip's Dsum
 * needs whole rows there (unclipped, Dsum = dO . O).
 *
 * Rows of a head lie far apart in the caller's arrays, at strides whose lines share a few sets of the first-level cache. Backward reads and
 * writes a head's K, V, dK and dV once per tile, so from some tiles on it works on copies that lie together: 1.3 times the speed at
 * T = 1024, D = 64, H = 12. Copying V forward, or the tile's own rows, gained nothing.
 *
 * Tasks are outputs: (b, h, tile) forward, (b, key/value head) backward, whose query heads and tiles follow in order: the same bits for
 * any number of threads. */
#include "norm_check.h"
#include "parallel.h"

#include <string.h>

enum { KEYS = 64 }; /* keys per product block: K, V and the scores of a block stay in the first-level cache */

/* The shape with nothing left implicit. */
typedef struct layout {
    int64_t B, T, S, H, KV, D, q_batch, q_row, kv_batch, kv_row, kv_head, o_batch, o_row;
    float scale;
    bool causal, key_panels;
    int64_t window;
} layout;

static gm_status layout_of(layout *l, const gm_attention_shape *s, gm_error *err) {
    if (s->B < 0 || s->T < 0 || s->S < 0 || s->H < 1 || s->KV < 1 || s->window < 0)
        return gm_fail(err, GM_EINVAL, "attention: B %lld, T %lld, S %lld, window %lld must be >= 0, H %lld and KV %lld >= 1",
                       (long long)s->B, (long long)s->T, (long long)s->S, (long long)s->window, (long long)s->H, (long long)s->KV);
    if (s->H % s->KV)
        return gm_fail(err, GM_EINVAL, "attention: %lld query heads cannot share %lld key/value heads; KV must divide H", (long long)s->H,
                       (long long)s->KV);
    if (s->D < 1 || s->D > 256)
        return gm_fail(err, GM_EINVAL, "attention: head dimension D is %lld, it must be 1..256", (long long)s->D);
    if (!isfinite(s->scale))
        return gm_fail(err, GM_EINVAL, "attention: scale is %g; give a finite one, or 0 for 1/sqrt(D)", (double)s->scale);
    *l = (layout){.B = s->B, .T = s->T, .S = s->S, .H = s->H, .KV = s->KV, .D = s->D};
    l->scale = s->scale != 0 ? s->scale : (float)(1 / sqrt((double)s->D));
    l->causal = s->causal;
    l->key_panels = s->key_panels;
    l->window = s->window;
    l->q_row = s->q_row ? s->q_row : s->H * s->D;
    l->kv_row = s->kv_row ? s->kv_row : s->KV * s->D;
    l->kv_head = s->kv_head ? s->kv_head : s->D;
    l->o_row = s->o_row ? s->o_row : s->H * s->D;
    l->q_batch = s->q_batch ? s->q_batch : s->T * l->q_row;
    l->kv_batch = s->kv_batch ? s->kv_batch : s->S * l->kv_row;
    l->o_batch = s->o_batch ? s->o_batch : s->T * l->o_row;
    if (s->key_panels && !s->kv_head)
        return gm_fail(err, GM_EINVAL, "attention: keys in panels need kv_head, how far a head's are apart");
    if (l->q_row < s->H * s->D || l->kv_row < (s->kv_head ? s->D : s->KV * s->D) || l->o_row < s->H * s->D)
        return gm_fail(err, GM_EINVAL, "attention: a row stride (q %lld, kv %lld, o %lld) is shorter than its heads", (long long)l->q_row,
                       (long long)l->kv_row, (long long)l->o_row);
    return GM_OK;
}

/* Per thread: the packed queries and the rows of scores; backward also those of dO and dW, and room for one head's K, V, dK, dV. */
static size_t thread_floats(const gm_attention_shape *s, bool backward) {
    const int64_t forward = (s->D + s->S) * GM_LANES;
    return (size_t)(backward ? 2 * forward + (4 * s->S * s->D + 15) / 16 * 16 : forward);
}

size_t gm_attention_scratch_bytes(const gm_ctx *ctx, const gm_attention_shape *s, bool backward) {
    size_t sinks = backward ? (size_t)(s->B * s->H + 7) / 8 * 8 * sizeof(double) : 0;
    return sinks + (size_t)ctx->threads * thread_floats(s, backward) * sizeof(float);
}

/* Which keys a tile's queries see: the first query is at key position `first`, queries beyond `count` do not exist. */
typedef struct tile {
    int64_t first, count, low, high; /* keys low .. high - 1 are seen by one query at least */
} tile;

static tile tile_at(const layout *l, int64_t t) {
    tile x = {.first = l->S - l->T + t, .count = GM_MIN(GM_LANES, l->T - t), .high = l->S};
    if (l->causal)
        x.high = GM_MIN(GM_MAX(x.first + x.count, 0), l->S);
    if (l->window)
        x.low = GM_MIN(GM_MAX(x.first - l->window + 1, 0), x.high);
    if (l->key_panels)
        x.low -= x.low % GM_LANES;
    return x;
}

static void hide(float *row, int64_t from, int64_t to) {
    for (int64_t i = GM_MAX(from, 0); i < GM_MIN(to, GM_LANES); i++)
        row[i] = -INFINITY;
}

/* Masks keys low .. high - 1 of a tile, whose scores start at s: query i sees key j when j <= first + i and j > first + i - window. */
static void mask(const layout *l, const tile *x, float *s, int64_t low, int64_t high) {
    if (l->causal) {
        for (int64_t j = GM_MAX(low, x->first + 1); j < high; j++)
            hide(s + (j - low) * GM_LANES, 0, j - x->first);
    }
    if (l->window) {
        for (int64_t j = low; j < GM_MIN(high, x->first + x->count - l->window); j++)
            hide(s + (j - low) * GM_LANES, j - x->first + l->window, GM_LANES);
    }
}

static void zero_rows(float *x, int64_t stride, int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        memset(x + r * stride, 0, (size_t)D * sizeof *x);
}

static void copy_rows(float *dst, int64_t ds, const float *src, int64_t ss, int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(dst + r * ds, src + r * ss, (size_t)D * sizeof *dst);
}

static int64_t lanes_of(int64_t count) {
    return (count + 15) / 16 * 16;
}

/* ---- forward */

static void fwd_tile(const gm_kernels *k, const layout *l, const tile *x, float *o, float *lse, const float *q, const float *key,
                     const float *value, float sink, gm_norm norm, float *work) {
    float *qt = work, *s = work + GM_LANES * l->D, sinks[GM_LANES], lses[GM_LANES];
    int64_t n = x->high - x->low, lanes = lanes_of(x->count);
    k->f32_lanes_pack(qt, q, l->q_row, x->count, l->D, l->scale);
    if (l->key_panels) {
        for (int64_t j = 0; j < n; j += GM_LANES)
            k->f32_mm(s + j * GM_LANES, GM_LANES, key + (x->low + j) * l->D, 1, GM_LANES, qt, GM_LANES, GM_MIN(GM_LANES, n - j), lanes,
                      l->D, false);
    } else {
        k->f32_mm(s, GM_LANES, key + x->low * l->kv_row, l->kv_row, 1, qt, GM_LANES, n, lanes, l->D, false);
    }
    mask(l, x, s, x->low, x->high);
    for (int i = 0; i < GM_LANES; i++)
        sinks[i] = sink;
    k->f32_lanes_fwd(s, n, lanes, sinks, norm.clip_a, norm.clip_c, lses);
    if (n == 0)
        zero_rows(o, l->o_row, x->count, l->D);
    for (int64_t j = 0; j < n; j += KEYS)
        k->f32_mm(o, l->o_row, s + j * GM_LANES, 1, GM_LANES, value + (x->low + j) * l->kv_row, l->kv_row, x->count, l->D,
                  GM_MIN(KEYS, n - j), j > 0);
    if (lse)
        memcpy(lse, lses, (size_t)x->count * sizeof *lse);
}

/* The one query of heads first .. first + count - 1, a lane each, over keys in panels. A score is the same sum as in fwd_tile. */
static void decode_heads(const gm_kernels *k, const layout *l, float *o, float *lse, const float *q, const float *key, const float *value,
                         const float *sinks, gm_norm norm, int64_t first, int64_t count, float *work) {
    const tile x = tile_at(l, 0);
    const int64_t D = l->D, group = l->H / l->KV, n = x.high - x.low, lanes = lanes_of(count);
    float *qs = work, *s = work + GM_LANES * D, row[GM_LANES * GM_LANES], sink[GM_LANES], lses[GM_LANES];
    for (int64_t i = 0; i < count * D; i++)
        qs[i] = l->scale * q[first * D + i];
    for (int64_t i = 0; i < lanes; i++)
        sink[i] = sinks && i < count ? sinks[first + i] : norm.sink;
    for (int64_t i = 0, m; i < count; i += m) { /* m query heads with the same keys */
        const float *head = key + (first + i) / group * l->kv_head;
        m = GM_MIN(group - (first + i) % group, count - i);
        for (int64_t j = 0; j < n; j += GM_LANES) {
            k->f32_mm(row, GM_LANES, qs + i * D, D, 1, head + (x.low + j) * D, GM_LANES, m, GM_LANES, D, false);
            for (int64_t t = 0; t < GM_MIN(GM_LANES, n - j); t++) {
                for (int64_t e = 0; e < m; e++)
                    s[(j + t) * GM_LANES + i + e] = row[e * GM_LANES + t];
            }
        }
    }
    for (int64_t j = 0; count < lanes && j < n; j++)
        memset(s + j * GM_LANES + count, 0, (size_t)(lanes - count) * sizeof *s);
    mask(l, &x, s, x.low, x.high);
    k->f32_lanes_fwd(s, n, lanes, sink, norm.clip_a, norm.clip_c, lses);
    for (int64_t i = 0, m; i < count; i += m) {
        const float *head = value + (first + i) / group * l->kv_head + x.low * l->kv_row;
        m = GM_MIN(group - (first + i) % group, count - i);
        if (n == 0)
            zero_rows(o + (first + i) * D, D, m, D);
        for (int64_t j = 0; j < n; j += KEYS)
            k->f32_mm(o + (first + i) * D, D, s + j * GM_LANES + i, 1, GM_LANES, head + j * l->kv_row, l->kv_row, m, D, GM_MIN(KEYS, n - j),
                      j > 0);
    }
    if (lse)
        memcpy(lse + first, lses, (size_t)count * sizeof *lse);
}

static void decode(const gm_ctx *ctx, const layout *l, float *o, float *lse, const float *q, const float *key, const float *value,
                   const float *sinks, gm_norm norm, float *scratch, size_t step) {
    const int64_t each = GM_MIN(16, (l->H + ctx->threads - 1) / ctx->threads), parts = (l->H + each - 1) / each;
#pragma omp parallel for schedule(static) num_threads(ctx->threads) if (l->B * l->H * l->S * l->D >= GM_PARALLEL_MIN)
    for (int64_t task = 0; task < l->B * parts; task++) {
        const int64_t b = task / parts, first = task % parts * each, kv = b * l->kv_batch;
        decode_heads(ctx->k, l, o + b * l->o_batch, lse ? lse + b * l->H : NULL, q + b * l->q_batch, key + kv, value + kv, sinks, norm,
                     first, GM_MIN(each, l->H - first), scratch + (size_t)omp_get_thread_num() * step);
    }
}

gm_status gm_attention_fwd(const gm_ctx *ctx, float *o, float *lse, const float *q, const float *k, const float *v, const float *sinks,
                           gm_norm norm, const gm_attention_shape *shape, void *scratch, gm_error *err) {
    layout l;
    GM_TRY(layout_of(&l, shape, err));
    GM_TRY(gm_norm_check(norm, err));
    if (l.B * l.T == 0)
        return GM_OK;
    if (!o || !q || (l.S && (!k || !v)) || !scratch)
        return gm_fail(err, GM_EINVAL, "attention: o, q, k, v and scratch must not be NULL");
    const int64_t tiles = (l.T + GM_LANES - 1) / GM_LANES, tasks = l.B * l.H * tiles;
    const size_t step = thread_floats(shape, false);
    if (l.T == 1 && l.key_panels) {
        decode(ctx, &l, o, lse, q, k, v, sinks, norm, scratch, step);
        return GM_OK;
    }
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t b = task / (l.H * tiles), h = task / tiles % l.H, t = (tiles - 1 - task % tiles) * GM_LANES; /* the longest first */
        int64_t kv = b * l.kv_batch + h / (l.H / l.KV) * l.kv_head;
        tile x = tile_at(&l, t);
        fwd_tile(ctx->k, &l, &x, o + b * l.o_batch + t * l.o_row + h * l.D, lse ? lse + (b * l.H + h) * l.T + t : NULL,
                 q + b * l.q_batch + t * l.q_row + h * l.D, k + kv, v + kv, sinks ? sinks[h] : norm.sink, norm,
                 (float *)scratch + (size_t)omp_get_thread_num() * step);
    }
    return GM_OK;
}

/* ---- backward */

/* One key/value head: its rows where the caller has them, or copies of them side by side. */
typedef struct kv_head {
    const float *k, *v;
    float *dk, *dv; /* NULL: not wanted */
    int64_t row;
} kv_head;

/* One tile: the head's dK and dV grow, dq is set (NULL: not wanted). Pointers are at the tile's first query. Returns
 * sum_i exp(b - lse_i) Dsum_i. */
static double bwd_tile(const gm_kernels *k, const layout *l, const tile *x, const kv_head *head, float *dq, const float *dout,
                       const float *q, const float *o, const float *lse, float sink, gm_norm norm, float *work) {
    const int64_t D = l->D, count = x->count, lanes = lanes_of(count);
    const int64_t block = norm.clip_a == 1 && norm.clip_c == 0 ? KEYS : l->S; /* the clip's Dsum is over whole rows */
    float *qt = work, *dot = qt + GM_LANES * D, *s = dot + GM_LANES * D, *dw = s + GM_LANES * l->S;
    float lses[GM_LANES], dsum[GM_LANES] = {0};
    k->f32_lanes_pack(qt, q, l->q_row, count, D, l->scale);
    k->f32_lanes_pack(dot, dout, l->o_row, count, D, 1);
    for (int64_t i = 0; i < GM_LANES; i++) {
        lses[i] = i < count ? lse[i] : INFINITY;
        if (i < count)
            dsum[i] = k->f32_dot(dout + i * l->o_row, o + i * l->o_row, D);
    }
    if (dq && x->low == x->high)
        zero_rows(dq, l->q_row, count, D);
    for (int64_t low = x->low; low < x->high; low += block) {
        const int64_t n = GM_MIN(block, x->high - low);
        k->f32_mm(s, GM_LANES, head->k + low * head->row, head->row, 1, qt, GM_LANES, n, lanes, D, false);
        k->f32_mm(dw, GM_LANES, head->v + low * head->row, head->row, 1, dot, GM_LANES, n, lanes, D, false);
        mask(l, x, s, low, low + n);
        k->f32_lanes_bwd(s, dw, n, lanes, lses, dsum, norm.clip_a, norm.clip_c, l->scale);
        for (int64_t j = 0; j < n; j += KEYS) {
            const int64_t m = GM_MIN(KEYS, n - j), at = (low + j) * head->row;
            const float *wj = s + j * GM_LANES, *dsj = dw + j * GM_LANES;
            if (head->dv)
                k->f32_mm(head->dv + at, head->row, wj, GM_LANES, 1, dout, l->o_row, m, D, count, true);
            if (head->dk)
                k->f32_mm(head->dk + at, head->row, dsj, GM_LANES, 1, q, l->q_row, m, D, count, true);
            if (dq)
                k->f32_mm(dq, l->q_row, dsj, 1, GM_LANES, head->k + at, head->row, count, D, m, low + j > x->low);
        }
    }
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += gm_null_mass(sink, lse[i]) * dsum[i];
    return sum;
}

gm_status gm_attention_bwd(const gm_ctx *ctx, float *dq, float *dk, float *dv, float *dsinks, const float *dout, const float *q,
                           const float *k, const float *v, const float *o, const float *lse, const float *sinks, gm_norm norm,
                           const gm_attention_shape *shape, void *scratch, gm_error *err) {
    layout l;
    GM_TRY(layout_of(&l, shape, err));
    GM_TRY(gm_norm_check(norm, err));
    if (l.key_panels)
        return gm_fail(err, GM_EINVAL, "attention backward: keys in panels have no gradient");
    if (l.B * (l.T + l.S) == 0)
        return GM_OK;
    if ((l.T && (!q || !o || !lse || !dout)) || (l.S && (!k || !v)) || !scratch)
        return gm_fail(err, GM_EINVAL, "attention backward: dout, q, k, v, o, lse and scratch must not be NULL");
    if (!dq && !dk && !dv && !dsinks)
        return gm_fail(err, GM_EINVAL, "attention backward: dq, dk, dv and dsinks are all NULL; give at least one");
    double *sink_sums = scratch; /* [B, H] */
    float *work = (float *)(sink_sums + (l.B * l.H + 7) / 8 * 8);
    const size_t step = thread_floats(shape, true);
    const int64_t group = l.H / l.KV, tasks = l.B * l.KV;
    const bool copy = group * l.T >= 8 * GM_LANES;
#pragma omp parallel for schedule(dynamic) num_threads(ctx->threads)
    for (int64_t task = 0; task < tasks; task++) {
        const int64_t b = task / l.KV, kv = b * l.kv_batch + task % l.KV * l.kv_head;
        float *mine = work + (size_t)omp_get_thread_num() * step, *copies = mine + 2 * (l.D + l.S) * GM_LANES;
        kv_head head = {k + kv, v + kv, dk ? dk + kv : NULL, dv ? dv + kv : NULL, l.kv_row};
        if (copy) {
            const int64_t size = l.S * l.D;
            copy_rows(copies, l.D, head.k, l.kv_row, l.S, l.D);
            copy_rows(copies + size, l.D, head.v, l.kv_row, l.S, l.D);
            head = (kv_head){copies, copies + size, dk ? copies + 2 * size : NULL, dv ? copies + 3 * size : NULL, l.D};
        }
        if (dk)
            zero_rows(head.dk, head.row, l.S, l.D);
        if (dv)
            zero_rows(head.dv, head.row, l.S, l.D);
        for (int64_t h = task % l.KV * group; h < (task % l.KV + 1) * group; h++) {
            double sum = 0;
            for (int64_t t = 0; t < l.T; t += GM_LANES) {
                const int64_t at = b * l.q_batch + t * l.q_row + h * l.D, out = b * l.o_batch + t * l.o_row + h * l.D;
                const tile x = tile_at(&l, t);
                sum += bwd_tile(ctx->k, &l, &x, &head, dq ? dq + at : NULL, dout + out, q + at, o + out, lse + (b * l.H + h) * l.T + t,
                                sinks ? sinks[h] : norm.sink, norm, mine);
            }
            sink_sums[b * l.H + h] = sum;
        }
        if (copy && dk)
            copy_rows(dk + kv, l.kv_row, head.dk, l.D, l.S, l.D);
        if (copy && dv)
            copy_rows(dv + kv, l.kv_row, head.dv, l.D, l.S, l.D);
    }
    for (int64_t h = 0; dsinks && h < l.H; h++) {
        double sum = 0;
        for (int64_t b = 0; b < l.B; b++)
            sum += sink_sums[b * l.H + h];
        dsinks[h] -= (float)sum;
    }
    return GM_OK;
}
