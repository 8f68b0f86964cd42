/* params.c -- the parameter arena: layout from params.def, initial values, views, copies. */
#include "model.h"

#include "context.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- layout */

typedef struct entry {
    int slot, scope;
    const char *name;
    gm_param_kind kind;
    bool present;
    int64_t rows, cols;
} entry;

static void entries_of(const gm_model_config *c, entry out[GM_P_COUNT]) {
    const entry all[] = {
#define GM_PARAM(SLOT, NAME, KIND, SCOPE, PRESENT, ROWS, COLS) {GM_P_##SLOT, SCOPE, NAME, GM_PARAM_##KIND, PRESENT, ROWS, COLS},
#include "params.def"
#undef GM_PARAM
    };
    memcpy(out, all, sizeof all);
}

static void describe(const entry *e, int layer, int64_t offset, gm_param *p) {
    *p = (gm_param){.kind = e->kind, .slot = e->slot, .layer = layer, .rows = e->rows, .cols = e->cols, .offset = offset};
    if (layer >= 0)
        snprintf(p->name, sizeof p->name, "blocks.%d.%s", layer, e->name);
    else
        snprintf(p->name, sizeof p->name, "%s", e->name);
    /* nanoGPT's rule: matrices decay, vectors do not. Learned sinks and gate biases are vectors. */
    p->decay = e->kind == GM_PARAM_EMBEDDING || e->kind == GM_PARAM_LINEAR || e->kind == GM_PARAM_GATE || e->kind == GM_PARAM_HEAD;
}

/* In file order: before the blocks (scope 0), block by block (1), after them (2). */
enum { SCOPES = 3 };

static bool in_scope(const entry *e, int scope) {
    return e->scope == scope && e->present;
}

static int64_t elements_of(const entry *e) {
    return (e->rows * e->cols + 15) / 16 * 16; /* every tensor starts on a cache line */
}

int gm_params_layout(const gm_model_config *cfg, gm_param *out) {
    entry entries[GM_P_COUNT];
    entries_of(cfg, entries);
    int count = 0;
    for (int i = 0; i < GM_P_COUNT; i++)
        count += entries[i].present ? entries[i].scope == 1 ? (int)cfg->layers : 1 : 0;
    for (int i = 0; out && i < count; i++)
        gm_params_describe(cfg, i, &out[i]);
    return count;
}

/* In as many steps as a block has tensors, however many blocks there are: a file may claim a thousand. */
void gm_params_describe(const gm_model_config *cfg, int index, gm_param *out) {
    entry entries[GM_P_COUNT];
    entries_of(cfg, entries);
    int64_t offset = 0;
    for (int scope = 0; scope < SCOPES; scope++) {
        int count = 0, layers = scope == 1 ? (int)cfg->layers : 1;
        int64_t elements = 0;
        for (int i = 0; i < GM_P_COUNT; i++) {
            count += in_scope(&entries[i], scope);
            elements += in_scope(&entries[i], scope) ? elements_of(&entries[i]) : 0;
        }
        if (index >= count * layers) {
            index -= count * layers;
            offset += elements * layers;
            continue;
        }
        const int layer = index / count;
        const entry *e = entries;
        offset += elements * layer;
        for (int rest = index % count; !in_scope(e, scope) || rest > 0; e++) {
            if (in_scope(e, scope)) {
                offset += elements_of(e);
                rest--;
            }
        }
        describe(e, scope == 1 ? layer : -1, offset, out);
        return;
    }
}

bool gm_param_is_vector(const gm_param *p) {
    return p->kind == GM_PARAM_BIAS || p->kind == GM_PARAM_NORM_GAIN || p->kind == GM_PARAM_NORM_BIAS || p->kind == GM_PARAM_SINK ||
           p->kind == GM_PARAM_GATE_BIAS;
}

void gm_param_part(const gm_model_config *c, const gm_param *p, gm_part part, int64_t *first, int64_t *count) {
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    bool glu = c->act == GM_ACT_SWIGLU;
    const int64_t parts[][2] = {
        [GM_PART_WHOLE] = {0, p->rows},
        [GM_PART_Q] = {0, q},
        [GM_PART_K] = {q, kv},
        [GM_PART_V] = {q + kv, kv},
        [GM_PART_GATE] = {0, glu ? c->ffn : 0},
        [GM_PART_UP] = {glu ? c->ffn : 0, c->ffn},
    };
    *first = parts[part][0];
    *count = parts[part][1];
}

/* ---- initial values: drawn from (seed, tensor name, element), so that variants share what they share */

enum { PARALLEL_MIN = 1 << 16 };

static void fill_normal(float *x, int64_t n, uint64_t key, double std, int threads) {
#pragma omp parallel for num_threads(threads) if (n >= PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(std * gm_rng_normal(key, (uint64_t)i));
}

static void fill_uniform(float *x, int64_t n, uint64_t key, double bound, int threads) {
#pragma omp parallel for num_threads(threads) if (n >= PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(bound * (2 * gm_rng_uniform(key, (uint64_t)i) - 1));
}

static void fill_constant(float *x, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
}

void gm_params_init(gm_model *m, uint64_t seed) {
    const gm_model_config *c = &m->cfg;
    const gm_variant *a = &c->attention;
    const int threads = m->ctx->threads;
    float openness = (float)log(a->gate_pi / (1 - a->gate_pi));
    int last_gate_bias = a->gate == GM_GATE_MLP ? GM_P_GATE_B2 : GM_P_GATE_B1;
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        float *x = m->weights + p->offset;
        int64_t n = p->rows * p->cols;
        uint64_t key = gm_rng_key(seed, p->name);
        bool residual = p->slot == GM_P_WO || p->slot == GM_P_W2;
        switch (p->kind) {
        case GM_PARAM_NORM_GAIN:
            fill_constant(x, n, 1);
            break;
        case GM_PARAM_NORM_BIAS:
        case GM_PARAM_SINK: /* logit 0: a learned sink starts as softmax1 */
            break;
        case GM_PARAM_GATE_BIAS:
            if (p->slot == last_gate_bias)
                fill_constant(x, n, openness);
            break;
        case GM_PARAM_GATE:
            fill_normal(x, n, key, c->init_std, threads);
            break;
        case GM_PARAM_BIAS:
            if (c->init == GM_INIT_TORCH)
                fill_uniform(x, n, key, 1 / sqrt((double)(p->slot == GM_P_B2 ? c->ffn : c->width)), threads);
            break;
        case GM_PARAM_EMBEDDING:
            fill_normal(x, n, key, c->init == GM_INIT_TORCH ? 1 : c->init_std, threads);
            break;
        case GM_PARAM_LINEAR:
        case GM_PARAM_HEAD:
            if (c->init == GM_INIT_TORCH) /* nn.Linear: U(+-1/sqrt(fan in)) */
                fill_uniform(x, n, key, 1 / sqrt((double)p->cols), threads);
            else
                fill_normal(x, n, key, residual ? c->init_std / sqrt(2.0 * (double)c->layers) : c->init_std, threads);
            break;
        }
    }
}

/* ---- access */

float *gm_model_weight(const gm_model *m, int slot, int layer) {
    int index = m->slot_index[layer < 0 ? m->cfg.layers : layer][slot];
    return index < 0 || m->params[index].offset < 0 ? NULL : m->weights + m->params[index].offset;
}

float *gm_model_grad(const gm_model *m, int slot, int layer) {
    int index = m->slot_index[layer < 0 ? m->cfg.layers : layer][slot];
    return index < 0 || !m->grads ? NULL : m->grads + m->params[index].offset;
}

int gm_model_matrices(const gm_model *m, gm_matrix_view *views, int capacity) {
    const gm_model_config *c = &m->cfg;
    int count = 0;
    for (int i = 0; i < m->param_count; i++) {
        const gm_param *p = &m->params[i];
        if (p->kind != GM_PARAM_EMBEDDING && p->kind != GM_PARAM_LINEAR && p->kind != GM_PARAM_HEAD && p->kind != GM_PARAM_NORM_GAIN)
            continue;
        /* Fused tensors come apart: papers count q, k, v and gate, up as matrices of their own. */
        struct {
            const char *suffix;
            int64_t rows;
        } parts[3] = {{"", p->rows}};
        int part_count = 1;
        if (p->slot == GM_P_WQKV) {
            part_count = 3;
            parts[0].suffix = ".q", parts[0].rows = c->heads * c->head_dim;
            parts[1].suffix = ".k", parts[1].rows = c->kv_heads * c->head_dim;
            parts[2].suffix = ".v", parts[2].rows = c->kv_heads * c->head_dim;
        } else if (p->slot == GM_P_W1 && c->act == GM_ACT_SWIGLU) {
            part_count = 2;
            parts[0].suffix = ".gate", parts[0].rows = c->ffn;
            parts[1].suffix = ".up", parts[1].rows = c->ffn;
        }
        int64_t row = 0;
        for (int j = 0; j < part_count; j++) {
            if (count < capacity) {
                gm_matrix_view *v = &views[count];
                *v = (gm_matrix_view){.kind = p->kind, .layer = p->layer, .rows = parts[j].rows, .cols = p->cols};
                snprintf(v->name, sizeof v->name, "%.50s%s", p->name, parts[j].suffix);
                v->x = p->offset < 0 ? NULL : m->weights + p->offset + row * p->cols;
            }
            row += parts[j].rows;
            count++;
        }
    }
    return count;
}

gm_status gm_model_clone(gm_model **out, const gm_model *m, gm_error *err) {
    *out = NULL;
    gm_model *copy;
    GM_TRY(gm_model_allocate(&copy, m->ctx, &m->cfg, err));
    size_t bytes = (size_t)m->param_elements * sizeof(float);
    memcpy(copy->weights, m->weights, bytes);
    if (m->cfg.tied) {
        size_t n = (size_t)(m->cfg.vocab * m->cfg.width);
        copy->own_head = gm_alloc(n, sizeof(float));
        if (!copy->own_head) {
            gm_model_free(copy);
            return gm_fail_memory(err, n * sizeof(float));
        }
        memcpy(copy->own_head, m->head, n * sizeof(float));
        copy->head = copy->own_head;
    }
    *out = copy;
    return GM_OK;
}
