/* verdict.c -- what the numbers allow one to say, in sentences made from the paired intervals: better, worse, or no difference beyond
 * noise; and with too few seeds, that. */
#include "gather.h"
#include "rows.h"

#include <math.h>
#include <string.h>

enum { SEEDS_FOR_INTERVAL = 3 };

typedef enum outcome { UNKNOWN, SAME, LOWER, HIGHER } outcome;

static double field(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static outcome outcome_of(const json_t *row, const char *metric) {
    const json_t *pair = json_object_get(json_object_get(row, "paired"), metric);
    double low = field(pair, "low"), high = field(pair, "high");
    if (isnan(low) || isnan(high))
        return UNKNOWN;
    return high < 0 ? LOWER : low > 0 ? HIGHER : SAME;
}

static const char *model_of(const json_t *rows, size_t i) {
    return gm_gather_text(json_array_get(rows, i), "model");
}

static const char *variant_of(const json_t *row) {
    return gm_gather_text(row, "variant");
}

/* "softmax1 (-31%), gated (-12%)" of the rows with this outcome; returns how many. */
static int list_outcome(gm_text *out, json_t *rows, const gm_metric *metric, outcome wanted) {
    int count = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        if (!json_object_get(row, "paired") || outcome_of(row, metric->name) != wanted)
            continue;
        const json_t *pair = json_object_get(json_object_get(row, "paired"), metric->name);
        bool share = strcmp(metric->name, "max_inf_norm") == 0 || strcmp(metric->name, "avg_kurtosis") == 0;
        gm_text_add(out, "%s%s", count++ ? ", " : "", variant_of(row));
        if (wanted == LOWER || wanted == HIGHER) {
            if (share)
                gm_text_add(out, " (%+.0f%%)", 100 * field(pair, "relative"));
            else
                gm_text_add(out, " (%+.2g)", field(pair, "difference"));
        }
    }
    return count;
}

static void sentence_of_metric(json_t *sentences, json_t *rows, const gm_metric *metric) {
    static const struct {
        outcome outcome;
        const char *lead;
    } parts[] = {{LOWER, "lower than softmax: "}, {HIGHER, "higher than softmax: "}, {SAME, "no difference beyond noise: "}};
    gm_text text = {0};
    bool any = false;
    for (int p = 0; p < GM_COUNT(parts); p++) {
        gm_text list = {0};
        if (list_outcome(&list, rows, metric, parts[p].outcome) > 0) {
            gm_text_add(&text, "%s%s%s", any ? "; " : "", parts[p].lead, list.data);
            text.failed |= list.failed;
            any = true;
        }
        gm_text_free(&list);
    }
    if (any) {
        gm_text sentence = {0};
        gm_text_add(&sentence, "%c%s: %s.", metric->why[0] - 'a' + 'A', metric->why + 1, text.data);
        sentence.failed |= text.failed;
        json_array_append_new(sentences, gm_json_from_text(&sentence));
    }
    gm_text_free(&text);
}

/* One line over all: who has smaller outliers, and at what price in loss. */
static void sentence_overall(json_t *sentences, json_t *rows, int intervals) {
    gm_text better = {0}, price = {0}, text = {0};
    int good = 0, compared = 0, paying = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        outcome norm = outcome_of(row, "max_inf_norm"), kurtosis = outcome_of(row, "avg_kurtosis");
        if (!json_object_get(row, "paired") || norm == UNKNOWN || kurtosis == UNKNOWN)
            continue;
        compared++;
        if ((norm == LOWER && kurtosis != HIGHER) || (kurtosis == LOWER && norm != HIGHER)) {
            gm_text_add(&better, "%s%s", good++ ? ", " : "", variant_of(row));
            if (outcome_of(row, "val_loss") == HIGHER)
                gm_text_add(&price, "%s%s", paying++ ? ", " : "", variant_of(row));
        }
    }
    if (compared > 0) {
        if (good == 0)
            gm_text_add(&text, "Overall: no variant has smaller outliers than softmax beyond noise.");
        else if (paying == 0)
            gm_text_add(&text, "Overall: smaller outliers than softmax, at no measurable price in validation loss: %s.", better.data);
        else
            gm_text_add(&text, "Overall: smaller outliers than softmax: %s; paid with a higher validation loss: %s.", better.data,
                        price.data);
        gm_text_add(&text, " (95%% intervals of %d comparisons, each alone: on average %.2g of them would exclude 0 by chance.)", intervals,
                    0.05 * intervals);
        text.failed |= better.failed || price.failed;
        json_array_append_new(sentences, gm_json_from_text(&text));
    }
    gm_text_free(&better);
    gm_text_free(&price);
}

static void sentences_of_model(json_t *sentences, json_t *rows, const gm_metrics *metrics) {
    int pairs = 0, intervals = 0;
    bool baseline = false;
    size_t i;
    const json_t *row;
    gm_text text = {0};
    json_array_foreach(rows, i, row) {
        baseline |= strcmp(variant_of(row), "softmax") == 0;
        for (int m = 0; m < metrics->count; m++) {
            const json_t *pair = json_object_get(json_object_get(row, "paired"), metrics->list[m].name);
            pairs = GM_MAX(pairs, (int)json_integer_value(json_object_get(pair, "pairs")));
            intervals += json_is_number(json_object_get(pair, "low"));
        }
        const json_t *runs = json_object_get(row, "runs"), *run;
        size_t r;
        json_array_foreach(runs, r, run) {
            const json_t *at = json_object_get(run, "diverged_at");
            if (at)
                gm_text_add(&text, "%s%s, seed %lld, diverged at step %lld", text.size ? "; " : "", variant_of(row),
                            (long long)json_integer_value(json_object_get(run, "seed")), (long long)json_integer_value(at));
        }
    }
    if (text.size || text.failed) {
        gm_text_add(&text, ": missing from the means.");
        json_array_append_new(sentences, gm_json_from_text(&text));
    }
    if (!baseline)
        json_array_append_new(sentences, json_string("softmax is not among the variants: nothing to compare with."));
    else if (json_array_size(rows) > 1 && pairs < SEEDS_FOR_INTERVAL) {
        int seeds = (int)json_integer_value(json_object_get(json_array_get(rows, 0), "seeds"));
        gm_text few = {0};
        if (seeds < SEEDS_FOR_INTERVAL)
            gm_text_add(&few, "%d seed%s: too few for an interval; a difference in this table may be noise (3 seeds or more give one).",
                        seeds, seeds == 1 ? "" : "s");
        else
            gm_text_add(&few, "%d of %d seeds have numbers of softmax and of another variant: too few for an interval (3 give one).", pairs,
                        seeds);
        json_array_append_new(sentences, gm_json_from_text(&few));
    } else {
        for (int m = 0; m < metrics->count; m++) {
            if (metrics->list[m].compared)
                sentence_of_metric(sentences, rows, &metrics->list[m]);
        }
        sentence_overall(sentences, rows, intervals);
    }
}

/* The rows of one model at a time: they stand together. */
json_t *gm_verdict_of(const json_t *rows, const gm_metrics *metrics) {
    json_t *sentences = json_array();
    size_t n = json_array_size(rows);
    bool several = n > 0 && strcmp(model_of(rows, 0), model_of(rows, n - 1)) != 0;
    for (size_t i = 0; i < n;) {
        const char *model = model_of(rows, i);
        json_t *group = json_array();
        for (; i < n && strcmp(model, model_of(rows, i)) == 0; i++)
            json_array_append(group, json_array_get(rows, i));
        json_t *said = json_array(), *sentence;
        size_t k;
        sentences_of_model(said, group, metrics);
        json_array_foreach(said, k, sentence) {
            gm_text text = {0};
            gm_text_add(&text, "%s%s%s", several ? model : "", several ? ": " : "", json_string_value(sentence));
            json_array_append_new(sentences, gm_json_from_text(&text));
        }
        json_decref(said);
        json_decref(group);
    }
    return sentences;
}
