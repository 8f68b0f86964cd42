/* execute.c -- a plan's integers, packed for execution: weights as s8, and the grids between them. What runs them: execute_forward.c. */
#include "executed.h"
#include "quant.h"

#include <math.h>
#include <string.h>

/* ---- what can be executed */

gm_site gm_quant_executed_input(const gm_quant_plan *plan, int weight) {
    int i = 0;
    while (gm_linear_inputs[i].weight != weight)
        i++;
    gm_site site = gm_linear_inputs[i].site;
    bool is_pv = plan->model->cfg.attention.gate == GM_GATE_NONE && !gm_quant_plan_quantizer(plan, site);
    return site == GM_SITE_ATTN_IN && is_pv ? GM_SITE_PV : site;
}

gm_quant_options gm_quant_options_executed(const gm_quant_options *options, const gm_model_config *c) {
    gm_quant_options o = *options;
    o.attention_input |= c->attention.gate != GM_GATE_NONE;
    return o;
}

/* An integer product's input, or (integers = false) a tensor that is rounded in f32 where it has a quantizer at all. */
static gm_status check_site(const gm_quant_plan *plan, gm_site site, bool integers, gm_error *err) {
    const gm_quantizer *q = gm_quant_plan_quantizer(plan, site);
    if (!q && integers)
        return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with a grid for '%s'; it is left in f32", gm_site_name(site));
    if (!q)
        return GM_OK;
    if (q->grain != GM_GRAIN_TENSOR || q->dynamic)
        return gm_fail(
            err, GM_EUNSUPPORTED,
            "'%s' has ranges per token, channel, head or group, or dynamic ones, which are simulated only; give it one static range "
            "to execute integers",
            gm_site_name(site));
    if (integers && q->bits > 8)
        return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with at most 8 bits, not with the %d of '%s'", q->bits,
                       gm_site_name(site));
    return GM_OK;
}

static gm_status check_weights(const char *kind, const gm_quantizer *q, gm_error *err) {
    if (q->bits < 1 || q->bits > 8)
        return gm_fail(err, GM_EUNSUPPORTED, "integers are executed with 2 to 8 bits for the %s, not with %d%s", kind, q->bits,
                       q->bits ? "" : " (f32)");
    if (q->asymmetric || q->grain == GM_GRAIN_GROUP)
        return gm_fail(err, GM_EUNSUPPORTED, "%s with zero points or in groups are simulated only; use signed grids per tensor or channel",
                       kind);
    return GM_OK;
}

static gm_status check(const gm_quant_plan *plan, bool attention, gm_error *err) {
    const gm_quant_options *o = &plan->options;
    const gm_model *m = plan->model;
    GM_TRY(check_weights("weights", &o->weights, err));
    if (o->head.bits)
        GM_TRY(check_weights("head", &o->head, err));
    if (plan->outliers)
        return gm_fail(err, GM_EUNSUPPORTED, "outlier columns in floating point are simulated only; leave them out to execute integers");
    for (int site = 0; site < GM_SITE_COUNT; site++) {
        bool integers = (o->head.bits && site == GM_SITE_NORM_FINAL) || (attention && site >= GM_SITE_Q && site <= GM_SITE_V);
        for (int i = 0; i < GM_LINEAR_INPUTS; i++)
            integers |= gm_quant_executed_input(plan, gm_linear_inputs[i].weight) == (gm_site)site;
        integers |= attention && (site == GM_SITE_WEIGHTS || site == GM_SITE_PV);
        GM_TRY(check_site(plan, (gm_site)site, integers, err));
    }
    for (int i = 0; i < GM_LINEAR_INPUTS; i++) {
        int64_t in = m->params[m->slot_index[0][gm_linear_inputs[i].weight]].cols;
        if (!gm_linear_int8_fits(in))
            return gm_fail(err, GM_EUNSUPPORTED, "sums over %lld inputs do not fit 32-bit integers", (long long)in);
    }
    return GM_OK;
}

/* ---- grids */

static void grids_of(gm_executed_layer *a, const gm_quant_plan *plan, int layer) {
    for (int site = 0; site < GM_SITE_COUNT; site++) {
        if (gm_quant_plan_quantizer(plan, (gm_site)site))
            a->grid[site] = gm_quant_plan_site(plan, (gm_site)site, layer);
    }
    gm_quant_grid *weights = &a->grid[GM_SITE_WEIGHTS]; /* never negative: a signed grid's other half is not needed */
    weights->qmax -= weights->zero;
    weights->zero = 0;
    if (layer >= 0)
        a->attn_in = a->grid[gm_quant_executed_input(plan, GM_P_WO)];
}

/* ---- weights */

static const struct part {
    int weight, bias, input; /* input: which linear's */
    const char *suffix;
} parts[GM_EXECUTED_COUNT] = {
    [GM_EXECUTED_Q] = {GM_P_WQKV, GM_P_BQKV, GM_P_WQKV, ".q"}, [GM_EXECUTED_K] = {GM_P_WQKV, GM_P_BQKV, GM_P_WQKV, ".k"},
    [GM_EXECUTED_V] = {GM_P_WQKV, GM_P_BQKV, GM_P_WQKV, ".v"}, [GM_EXECUTED_O] = {GM_P_WO, GM_P_BO, GM_P_WO, ""},
    [GM_EXECUTED_W1] = {GM_P_W1, GM_P_B1, GM_P_W1, ""},        [GM_EXECUTED_UP] = {GM_P_W1, GM_P_B1, GM_P_W1, ".up"},
    [GM_EXECUTED_W2] = {GM_P_W2, GM_P_B2, GM_P_W2, ""}};

/* A matrix as integers: its own, or from its values on their grids into `buffer`. scale [rows]. */
static const int8_t *integers_of(const gm_quant_matrix *q, int8_t *buffer, float *scale) {
    const gm_matrix_view *v = &q->view;
    for (int64_t r = 0; r < v->rows; r++)
        scale[r] = q->grids[q->grid_count == 1 ? 0 : r].scale;
    if (!v->x)
        return q->integers;
    for (int64_t i = 0; i < v->rows * v->cols; i++) {
        float x = rintf(v->x[i] / scale[i / v->cols]);
        buffer[i] = (int8_t)(x > -128 ? x < 127 ? x : 127 : x <= -128 ? -128 : 0); /* a NaN's scale is NaN too: results will be */
    }
    return buffer;
}

static const gm_quant_matrix *matrix_named(const gm_quant_plan *plan, const char *name, const char *suffix) {
    const size_t n = strlen(name);
    for (int i = 0; i < plan->matrix_count; i++) {
        const char *have = plan->matrices[i].view.name;
        if (strncmp(have, name, n) == 0 && strcmp(have + n, suffix) == 0)
            return &plan->matrices[i];
    }
    return NULL;
}

/* The matrix of one part and where its rows begin in the parameter; NULL: this family has none. */
static const gm_quant_matrix *part_matrix(const gm_quant_plan *plan, int64_t layer, int part, int64_t *row) {
    const gm_model_config *c = &plan->model->cfg;
    const bool glu = c->act == GM_ACT_SWIGLU;
    const int64_t HD = c->heads * c->head_dim;
    if (part == GM_EXECUTED_UP && !glu)
        return NULL;
    *row = part == GM_EXECUTED_K ? HD : part == GM_EXECUTED_V ? HD + c->kv_heads * c->head_dim : part == GM_EXECUTED_UP ? c->ffn : 0;
    const gm_param *p = &plan->model->params[plan->model->slot_index[layer][parts[part].weight]];
    return matrix_named(plan, p->name, part == GM_EXECUTED_W1 && glu ? ".gate" : parts[part].suffix);
}

/* One walk for counting bytes (scale NULL) and for packing. */
typedef struct packer {
    gm_quant_executed *e;
    const gm_quant_plan *plan;
    size_t used;
    int8_t *integers; /* room for the largest matrix */
    float *scale;
    int64_t largest, rows;
} packer;

static void pack_linear(packer *p, gm_linear_int8 *l, const gm_quant_matrix *q, const float *bias, gm_quant_grid input) {
    const gm_matrix_view *v = &q->view;
    if (p->scale) {
        const int8_t *integers = integers_of(q, p->integers, p->scale);
        gm_linear_int8_pack(l, p->e->memory + p->used, integers, p->scale, bias, v->cols, v->rows, input);
    }
    p->used += gm_linear_int8_bytes(v->cols, v->rows);
    p->largest = GM_MAX(p->largest, v->rows * v->cols);
    p->rows = GM_MAX(p->rows, v->rows);
}

/* Tables whose f32 values the model does not hold. */
static void pack_table(packer *p, gm_executed_table *t, const gm_quant_matrix *q, bool in_head) {
    const gm_matrix_view *v = &q->view;
    const size_t scales = (size_t)q->grid_count * sizeof(float), bytes = in_head ? 0 : (size_t)(v->rows * v->cols);
    if (p->scale) {
        float *scale = (float *)(void *)(p->e->memory + p->used);
        for (int64_t i = 0; i < q->grid_count; i++)
            scale[i] = q->grids[i].scale;
        *t = (gm_executed_table){.scale = scale, .scale_count = q->grid_count};
        if (!in_head)
            t->rows = memcpy(p->e->memory + p->used + (scales + 63) / 64 * 64, q->integers, bytes);
    }
    p->used += (scales + 63) / 64 * 64 + (bytes + 63) / 64 * 64;
}

static void pack(packer *p) {
    const gm_quant_plan *plan = p->plan;
    const gm_model *m = plan->model;
    gm_quant_executed *e = p->e;
    p->used = 0;
    for (int64_t l = 0; l < m->cfg.layers; l++) {
        for (int part = 0; part < GM_EXECUTED_COUNT; part++) {
            int64_t row;
            const gm_quant_matrix *q = part_matrix(plan, l, part, &row);
            if (!q)
                continue;
            const float *bias = gm_model_weight(m, parts[part].bias, (int)l);
            pack_linear(p, &e->layers[l].linear[part], q, bias ? bias + row : NULL,
                        part == GM_EXECUTED_O ? e->layers[l].attn_in : e->layers[l].grid[gm_quant_executed_input(plan, parts[part].input)]);
        }
    }
    const gm_quant_matrix *head = matrix_named(plan, "head", ""), *wte = matrix_named(plan, "wte", ""),
                          *wpe = matrix_named(plan, "wpe", "");
    const bool integer_head = head && plan->options.head.bits;
    if (integer_head)
        pack_linear(p, &e->head, head, NULL, e->layers[m->cfg.layers].grid[GM_SITE_NORM_FINAL]);
    if (!wte->view.x) /* a table that is the head's integers too is kept once */
        pack_table(p, &e->tables[0], wte, integer_head && !head->view.x && head->integers == wte->integers);
    if (wpe && !wpe->view.x)
        pack_table(p, &e->tables[1], wpe, false);
}

gm_status gm_quant_executed_begin(gm_quant_executed **out, gm_quant_plan *plan, gm_error *err) {
    *out = NULL;
    gm_model *m = plan->model;
    const bool attention = gm_quant_plan_quantizer(plan, GM_SITE_WEIGHTS) && gm_quant_plan_quantizer(plan, GM_SITE_Q);
    GM_TRY(check(plan, attention, err));
    gm_quant_executed *e = gm_alloc(1, sizeof *e);
    if (!e)
        return gm_fail_memory(err, sizeof *e);
    packer p = {.e = e, .plan = plan};
    e->model = m;
    e->attention = attention;
    e->layers = gm_alloc((size_t)m->cfg.layers + 1, sizeof *e->layers);
    if (e->layers) {
        for (int64_t l = 0; l <= m->cfg.layers; l++)
            grids_of(&e->layers[l], plan, l < m->cfg.layers ? (int)l : -1);
        pack(&p);
        e->bytes = p.used;
        e->memory = gm_alloc(p.used, 1);
        p.integers = gm_alloc((size_t)p.largest, 1);
        p.scale = gm_alloc((size_t)p.rows, sizeof *p.scale);
    }
    gm_status status = GM_OK;
    if (e->memory && p.integers && p.scale) {
        pack(&p);
        e->engine = gm_executed_engine;
        e->engine.user = e;
        m->engine = &e->engine;
        *out = e;
    } else {
        status = gm_fail_memory(err, p.used);
        gm_quant_executed_end(e);
    }
    gm_free(p.integers);
    gm_free(p.scale);
    return status;
}

void gm_quant_executed_end(gm_quant_executed *e) {
    if (!e)
        return;
    if (e->model->engine == &e->engine)
        e->model->engine = NULL;
    gm_executed_work_free(&e->work);
    gm_free(e->layers);
    gm_free(e->memory);
    gm_free(e);
}

size_t gm_quant_executed_bytes(const gm_quant_executed *e) {
    return e->bytes;
}

gm_status gm_quant_executed_loss(gm_model *m, const gm_data *data, const gm_quant_options *options, double *loss, double *simulated_loss,
                                 double *f32_loss, gm_error *err) {
    gm_quant_plan plan;
    gm_quant_executed *executed;
    const gm_quant_options o = gm_quant_options_executed(options, &m->cfg);
    GM_TRY(gm_quant_plan_make(&plan, m, data, &o, err));
    gm_tap tap = gm_quant_plan_tap(&plan);
    gm_status status = gm_quant_executed_begin(&executed, &plan, err);
    if (status == GM_OK) {
        status = gm_quant_validation_loss(plan.model, data, options, NULL, loss, err);
        gm_quant_executed_end(executed);
    }
    if (status == GM_OK && simulated_loss)
        status = gm_quant_validation_loss(plan.model, data, options, &tap, simulated_loss, err);
    if (status == GM_OK && f32_loss)
        status = gm_quant_validation_loss(m, data, options, NULL, f32_loss, err);
    gm_quant_plan_free(&plan);
    return status;
}
