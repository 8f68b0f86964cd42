/* lab_quant.c -- what quantization costs one run: every precision simulated, W8A8 also executed on integers, each tensor alone, and for
 * plain softmax the methods that are the alternative to changing it. */
#include "lab.h"
#include "quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- precisions */

gm_status gm_precisions_parse(gm_precision *out, int *count, const char *list, gm_error *err) {
    *count = 0;
    out[(*count)++] = (gm_precision){"w8a8", 8, 8};
    for (const char *p = list; *p; p += *p == ',') {
        gm_precision q;
        size_t n = strcspn(p, ",");
        int used = 0;
        if (n >= sizeof q.name || sscanf(p, "w%2da%2d%n", &q.weight_bits, &q.activation_bits, &used) != 2 || (size_t)used != n ||
            q.weight_bits < 2 || q.weight_bits > 16 || q.activation_bits < 2 || q.activation_bits > 16)
            return gm_fail(err, GM_EINVAL, "precision '%.*s' is not of the form w6a8: bits of weights and activations, 2 to 16", (int)n, p);
        snprintf(q.name, sizeof q.name, "w%da%d", q.weight_bits, q.activation_bits);
        bool known = false;
        for (int i = 0; i < *count; i++)
            known |= strcmp(out[i].name, q.name) == 0;
        if (!known && *count == GM_LAB_PRECISIONS)
            return gm_fail(err, GM_EINVAL, "more than %d precisions; give fewer", GM_LAB_PRECISIONS);
        if (!known)
            out[(*count)++] = q;
        p += n;
    }
    return GM_OK;
}

json_t *gm_lab_quant_settings(const gm_lab_plan *plan) {
    const gm_lab_options *o = plan->options;
    json_t *quant = gm_quant_options_to_json(&o->quant), *precisions = json_array();
    json_object_del(quant, "seed"); /* the run's */
    for (int i = 0; i < plan->precision_count; i++)
        json_array_append_new(precisions, json_string(plan->precisions[i].name));
    return json_pack("{s:o, s:o, s:b, s:I, s:I}", "quant", quant, "precisions", precisions, "ablations", !o->no_ablations, "sequences",
                     (json_int_t)o->train.eval_sequences, "sensitivity_sequences", (json_int_t)o->sensitivity_sequences);
}

/* ---- one run */

typedef struct quant_job {
    const gm_lab_plan *plan;
    const gm_data *data;
    gm_model *model;
    uint64_t seed;
    gm_lab_stop stop;
    void *user;
    json_t *root;
} quant_job;

static gm_status ask(const quant_job *j, gm_error *err) {
    return j->stop && j->stop(j->user) ? gm_fail(err, GM_ESTOPPED, "stopped; the same command continues it") : GM_OK;
}

static bool on_report(void *user, const gm_quant_progress *progress) {
    const quant_job *j = user;
    (void)progress;
    return j->stop && j->stop(j->user);
}

static void put(json_t *object, const char *precision, const char *what, double x) {
    char name[48];
    snprintf(name, sizeof name, "%s_%s", precision, what);
    json_object_set_new(object, name, isfinite(x) ? json_real(x) : json_null());
}

/* The options of a precision: on val_loss's sequences, so that the two perplexities compare. */
static gm_quant_options at_precision(const quant_job *j, gm_quant_options options, const gm_precision *p) {
    gm_quant_set_bits(&options, p->weight_bits, p->activation_bits);
    options.sequences = j->plan->options->train.eval_sequences;
    options.calibration_batches = j->plan->options->quant.calibration_batches;
    options.calibration_batch = j->plan->options->quant.calibration_batch;
    options.seed = j->seed;
    return options;
}

/* Every precision from the index on, in the way of `base`. */
static gm_status simulate_from(const quant_job *j, int index, json_t *object, const gm_quant_options *base, gm_error *err) {
    for (int i = index; i < j->plan->precision_count; i++) {
        const gm_precision *p = &j->plan->precisions[i];
        gm_quant_options options = at_precision(j, *base, p);
        double loss;
        GM_TRY(ask(j, err));
        GM_TRY(gm_quant_simulated_loss(j->model, j->data, &options, &loss, NULL, err));
        put(object, p->name, "loss", loss);
    }
    return GM_OK;
}

static double field(const json_t *report, const char *part, const char *name) {
    const json_t *value = json_object_get(json_object_get(report, part), name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* W8A8: f32, simulated and executed, and each tensor alone. What is executed may have a grid more than what is published (a gate's
 * product): then w8a8 is the published simulation, and the simulation of what is executed stands beside it. */
static gm_status report_w8a8(quant_job *j, gm_error *err) {
    const gm_lab_options *o = j->plan->options;
    const gm_quant_report_options asked = {.sensitivity = o->sensitivity_sequences ? GM_SENSITIVITY_ALONE : GM_SENSITIVITY_NONE,
                                           .sensitivity_sequences = o->sensitivity_sequences};
    gm_quant_options options = at_precision(j, o->quant, &j->plan->precisions[0]);
    const bool published = j->model->cfg.attention.gate == GM_GATE_NONE || options.attention_input;
    gm_quantized *q = NULL;
    char *text = NULL;
    double loss = NAN;
    GM_TRY(ask(j, err));
    gm_status status = gm_quantized_make(&q, j->model, j->data, &options, err);
    if (status == GM_OK)
        status = gm_quantized_report(q, j->data, &asked, on_report, j, &text, err);
    gm_quantized_free(q);
    if (status == GM_OK && !published)
        status = gm_quant_simulated_loss(j->model, j->data, &options, &loss, NULL, err);
    if (status != GM_OK)
        return status;
    json_t *report = json_loads(text, 0, NULL);
    free(text);
    if (!report)
        return gm_fail_memory(err, 1 << 16);
    put(j->root, "f32", "loss", field(report, "f32", "loss"));
    put(j->root, "f32", "tokens_per_s", round(field(report, "f32", "tokens_per_s")));
    put(j->root, "w8a8", "loss", published ? field(report, "simulated", "loss") : loss);
    put(j->root, "w8a8_executed", "simulated_loss", field(report, "simulated", "loss"));
    put(j->root, "w8a8_executed", "loss", field(report, "executed", "loss"));
    put(j->root, "w8a8_executed", "tokens_per_s", round(field(report, "executed", "tokens_per_s")));
    json_object_set_new(j->root, "report", report);
    return GM_OK;
}

gm_status gm_lab_quantize(json_t **out, const gm_lab_plan *plan, const gm_data *data, gm_model *model, const char *spec, uint64_t seed,
                          gm_lab_stop stop, void *user, gm_error *err) {
    quant_job j = {.plan = plan, .data = data, .model = model, .seed = seed, .stop = stop, .user = user, .root = json_object()};
    gm_status status = report_w8a8(&j, err);
    if (status == GM_OK)
        status = simulate_from(&j, 1, j.root, &plan->options->quant, err);
    bool alternatives = strcmp(spec, "softmax") == 0 && !plan->options->no_ablations;
    const gm_ablation *a;
    for (int i = 0; alternatives && status == GM_OK && (a = gm_ablation_list(i)); i++) {
        json_t *losses = json_object();
        gm_quant_options options;
        json_object_set_new(j.root, a->name, losses);
        status = gm_quant_preset(&options, a->name, err);
        if (status == GM_OK)
            status = simulate_from(&j, 0, losses, &options, err);
    }
    if (status == GM_OK)
        *out = j.root;
    else
        json_decref(j.root);
    return status;
}
