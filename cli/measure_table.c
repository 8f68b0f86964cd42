/* measure_table.c -- a measurement for people: every family of metrics with its convention, within 100 columns. Reads the JSON, so it shows
 * nothing that --json does not have. */
#include "measure_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const json_t *field(const json_t *object, const char *name) {
    return json_object_get(object, name);
}

/* NaN for null and for what is not there. */
static double number(const json_t *object, const char *name) {
    const json_t *value = field(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double without_first(const json_t *object, const char *name) {
    char longer[96];
    snprintf(longer, sizeof longer, "%s_without_first", name);
    return number(object, longer);
}

static long long integer(const json_t *object, const char *name) {
    return (long long)json_integer_value(field(object, name));
}

static const char *string(const json_t *object, const char *name) {
    const char *value = json_string_value(field(object, name));
    return value ? value : "";
}

/* Right-aligned with about `digits` significant digits, "-" for what has no value. */
static void cell(int width, int digits, double x) {
    char text[64];
    if (!isfinite(x))
        snprintf(text, sizeof text, "-");
    else if (fabs(x) >= 1e5 || (x != 0 && fabs(x) < 1e-4))
        snprintf(text, sizeof text, "%.*g", digits > 2 && digits < 20 ? digits - 2 : 1, x);
    else {
        int before = fabs(x) < 1 ? 1 : (int)floor(log10(fabs(x))) + 1, after = digits - before;
        snprintf(text, sizeof text, "%.*f", after > 0 ? after : 0, x);
    }
    printf(" %*s", width > 1 ? width - 1 : 0, text);
}

static void heading(const char *title) {
    printf("\n%s\n", title);
}

/* The tensors of one place in the blocks, by layer: NULL where there is none. */
static const json_t *tensor_at(const json_t *root, const char *site, long long layer) {
    size_t i;
    const json_t *tensor;
    json_array_foreach(field(root, "tensors"), i, tensor) {
        if (integer(tensor, "layer") == layer && strcmp(string(tensor, "site"), site) == 0)
            return tensor;
    }
    return NULL;
}

static long long layer_count(const json_t *root) {
    return integer(field(root, "model"), "layers");
}

/* ---- what was measured ----------------------------------------------------------------------------------------------------------- */

static void print_inputs(const json_t *root, const char *model, const char *data) {
    const json_t *m = field(root, "model"), *bad = field(root, "nonfinite");
    const char *convention = string(root, "convention");
    size_t i;
    const json_t *line;
    printf("%s: %s attention, %lld layers of %lld heads, width %lld, context %lld\n", model, string(m, "variant"), integer(m, "layers"),
           integer(m, "heads"), integer(m, "width"), integer(m, "context"));
    printf("%s: %lld validation sequences of %lld tokens, %s BOS; loss", data, integer(root, "sequences"), integer(root, "context"),
           json_is_true(field(root, "bos")) ? "with" : "without");
    cell(1, 5, number(root, "loss"));
    printf(" nats per token\n");
    if (field(root, "sequences_asked"))
        printf("(%lld sequences were asked for; the validation split has no more)\n", integer(root, "sequences_asked"));
    if (strcmp(convention, "ghostmax") == 0)
        printf("Convention: ours, per sequence. \"-first\": once more without position 0.\n");
    else
        printf("Convention: %s, as the published code computes. \"-first\": once more without position 0.\n", convention);
    json_array_foreach(field(root, "left_out"), i, line) printf("Left out: %s.\n", json_string_value(line));
    if (integer(bad, "tensors") > 0)
        printf("NOT NUMBERS: %lld NaN and %lld infinite values in %lld tensors, first in %s; what they touch has no value (-).\n",
               integer(bad, "nan"), integer(bad, "infinite"), integer(bad, "tensors"), string(bad, "first"));
}

/* ---- rows of "name, all, without position 0, what it is" ------------------------------------------------------------------------------
 */

typedef struct row {
    const char *field, *label, *note;
} row;

#define ROUNDING 1e-6 /* what 1 - the sum of a row's float weights may be off by; no metric here is that small */

static void print_rows(const json_t *root, const row *rows, int count) {
    for (int i = 0; i < count; i++) {
        if (!field(root, rows[i].field))
            continue;
        double all = number(root, rows[i].field), rest = without_first(root, rows[i].field);
        printf("  %-26s", rows[i].label);
        cell(9, 4, fabs(all) < ROUNDING ? 0 : all);
        cell(9, 4, fabs(rest) < ROUNDING ? 0 : rest);
        printf("  %s\n", rows[i].note);
    }
}

static void print_norms(const json_t *root) {
    static const row rows[] = {
        {"max_inf_norm", "max inf norm, blocks", "of block outputs: as published for OPT"},
        {"max_ffn_inf_norm", "max inf norm, FFN", "of FFN outputs: as published for BERT"},
        {"max_all_inf_norm", "max inf norm, all", "of all tensors below"},
        {"avg_kurtosis", "average kurtosis", "mean((x-m)^4) / (s^4 + 1e-6), s with N-1, no -3"},
        {"max_kurtosis", "largest kurtosis", "normal values have 3"},
    };
    heading("NORMS AND KURTOSIS                all   -first");
    print_rows(root, rows, (int)(sizeof rows / sizeof *rows));
}

static void print_layers(const json_t *root) {
    static const struct {
        const char *site, *title;
        bool first; /* without position 0 */
    } columns[] = {{"norm1", "attention norm", false}, {"attn_out", "attention out", false},
                   {"norm2", "FFN norm", false},       {"ffn_out", "FFN out", false},
                   {"block", "block", false},          {"block", "block -first", true}};
    const int count = (int)(sizeof columns / sizeof *columns);
    heading("BY LAYER: inf norm and kurtosis");
    printf("  layer");
    for (int i = 0; i < count; i++)
        printf(" %14s", columns[i].title);
    printf("\n");
    for (long long l = 0; l < layer_count(root); l++) {
        printf("  %5lld", l);
        for (int i = 0; i < count; i++) {
            const json_t *t = tensor_at(root, columns[i].site, l);
            cell(8, 4, columns[i].first ? without_first(t, "inf_norm") : number(t, "inf_norm"));
            cell(7, 3, columns[i].first ? without_first(t, "kurtosis") : number(t, "kurtosis"));
        }
        printf("\n");
    }
    const json_t *final = tensor_at(root, "norm_final", -1);
    printf("  final");
    cell(8, 4, number(final, "inf_norm"));
    cell(7, 3, number(final, "kurtosis"));
    printf("  (the last norm)\n");
}

static void print_quantiles(const json_t *root) {
    static const char *const names[] = {"0.5", "0.9", "0.99", "0.999", "0.9999"};
    heading("DISTRIBUTION of block outputs: quantiles of |x| (within 1/128), largest, > 6 s, kurtosis");
    printf("  layer      50%%      90%%      99%%    99.9%%   99.99%%      max    > 6 s  ppm of values  pooled, -3\n");
    for (long long l = 0; l < layer_count(root); l++) {
        const json_t *t = tensor_at(root, "block", l), *quantiles = field(t, "quantiles");
        printf("  %5lld", l);
        for (int i = 0; i < 5; i++)
            cell(9, 4, number(quantiles, names[i]));
        cell(9, 4, number(t, "absmax"));
        cell(9, 4, number(t, "outliers"));
        cell(15, 4, 1e6 * number(t, "outliers") / number(t, "values"));
        cell(12, 4, number(t, "excess_kurtosis_pooled"));
        printf("\n");
    }
}

static void print_weights(const json_t *root) {
    const json_t *weight, *worst = NULL;
    size_t i;
    heading("WEIGHTS (matrices, eps 0)        mean  largest");
    json_array_foreach(field(root, "weights"), i, weight) {
        if (!worst || number(weight, "kurtosis") > number(worst, "kurtosis"))
            worst = weight;
    }
    printf("  %-26s", "kurtosis");
    cell(9, 4, number(root, "weight_kurtosis"));
    cell(9, 4, number(root, "weight_kurtosis_max"));
    printf("  largest in %s\n  %-26s", string(worst, "name"), "inf norm");
    cell(9, 4, number(root, "weight_inf_norm"));
    cell(9, 4, number(root, "weight_inf_norm_max"));
    printf("\n");
}

/* ---- attention --------------------------------------------------------------------------------------------------------------------- */

static void print_attention(const json_t *root) {
    static const row rows[] = {
        {"sink_rate", "sink rate, %", "heads that put > 0.3 on position 0 (64 queries)"},
        {"sink_mass", "sink mass", "that weight, mean over heads"},
        {"null_mass", "null mass", "left to the sink logit (softmax1 and its kin)"},
        {"unspent", "unspent", "1 - the sum of the weights"},
        {"entropy", "entropy", "of the spent weights, nats, mean over queries"},
        {"noop_score", "no-op score", "|head's output through W_O| / |residual stream|"},
        {"value_drain", "value drain", "|W_O v| at position 0 / its mean at the others"},
    };
    static const char *const columns[] = {"sink_mass", "sink_rate", "null_mass", "entropy", "noop_score", "value_drain"};
    heading("ATTENTION                         all   -first");
    print_rows(root, rows, (int)(sizeof rows / sizeof *rows));
    if (!field(root, "entropy"))
        return;
    printf("\n  layer  sink mass   rate %%  null mass  entropy    no-op    drain  sink mass of each head, tenths\n");
    for (long long l = 0; l < layer_count(root); l++) {
        const json_t *layer = json_array_get(field(root, "layers"), (size_t)l), *head;
        size_t i;
        printf("  %5lld", l);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
            cell(c == 0 || c == 2 ? 11 : 9, 3, number(layer, columns[c]));
        printf("  ");
        json_array_foreach(field(root, "heads"), i, head) {
            double mass = number(head, "sink_mass");
            if (integer(head, "layer") == l)
                putchar(!isfinite(mass) ? '-' : mass < 0.1 ? '.' : mass < 1 ? '0' + (int)(10 * mass) : '9');
        }
        printf("\n");
    }
}

/* ---- where outliers sit ---------------------------------------------------------------------------------------------------------------
 */

static void print_class(const json_t *root, const char *label, const char *const *names, int count) {
    static const char *const fields[] = {"token_class_tokens", "token_classes", "token_class_tokens_without_first",
                                         "token_classes_without_first"};
    double share[4] = {0};
    for (int f = 0; f < 4; f++) {
        for (int i = 0; i < count; i++)
            share[f] += 100 * number(field(root, fields[f]), names[i]);
    }
    printf("  %-26s", label);
    cell(9, 3, share[0]);
    cell(11, 3, share[1]);
    cell(9, 3, share[1] / share[0]);
    cell(16, 3, share[3]);
    cell(9, 3, share[3] / share[2]);
    printf("\n");
}

static void print_classes(const json_t *root) {
    static const char *const names[] = {"bos", "whitespace", "punctuation", "words", "digits", "other"};
    static const char *const delimiters[] = {"whitespace", "punctuation"};
    const json_t *classes = field(root, "token_classes");
    if (!json_is_object(classes))
        return;
    printf("\nTOKEN CLASSES of FFN outputs > 6 s from their sequence's mean: %lld values (-first: %lld)\n", integer(classes, "values"),
           integer(field(root, "token_classes_without_first"), "values"));
    printf("                             tokens %%  outliers %%    times   -first: outl. %%    times\n");
    for (int i = 0; i < 6; i++)
        print_class(root, names[i], &names[i], 1);
    print_class(root, "whitespace + punctuation", delimiters, 2);
}

static void print_positions(const json_t *root) {
    const json_t *loss = field(root, "loss_by_position");
    int bins = (int)json_array_size(loss), shown[9], count = 0;
    static const int wanted[] = {0, 1, 2, 4, 8};
    for (int i = 0; i < 5 && wanted[i] < bins; i++)
        shown[count++] = wanted[i];
    int rest = bins - 12; /* the rest of the columns, evenly over what is left, with the last */
    for (int i = 1; i <= 4 && rest > 0; i++) {
        int bin = 11 + (rest * i + 3) / 4;
        if (bin > shown[count - 1])
            shown[count++] = bin;
    }
    heading("BY POSITION: Euclidean norm of block outputs");
    printf("  layer");
    for (int i = 0; i < count; i++) {
        const json_t *bin = json_array_get(loss, (size_t)shown[i]);
        char label[48];
        snprintf(label, sizeof label, integer(bin, "from") == integer(bin, "to") ? "%lld" : "%lld-%lld", integer(bin, "from"),
                 integer(bin, "to"));
        printf(" %9s", label);
    }
    printf("\n");
    for (long long l = 0; l <= layer_count(root); l++) {
        const json_t *bins_of = l < layer_count(root) ? field(tensor_at(root, "block", l), "positions") : loss;
        if (l < layer_count(root))
            printf("  %5lld", l);
        else
            printf("   loss");
        for (int i = 0; i < count; i++)
            cell(10, 4, number(json_array_get(bins_of, (size_t)shown[i]), l < layer_count(root) ? "norm" : "loss"));
        printf("\n");
    }
}

/* A text in at most `columns` columns of a terminal, about: line ends as a backslash and n, whole characters. from_end: keeps its end. */
static int print_text(const char *text, int columns, bool from_end) {
    int length = 0, at = 0;
    for (const char *p = text; *p; p++)
        length += ((unsigned char)*p & 0xc0) != 0x80 ? 1 + (*p == '\n') : 0;
    int skip = from_end && length > columns ? length - columns : 0, printed = 0;
    for (const char *p = text; *p; p++) {
        bool begins = ((unsigned char)*p & 0xc0) != 0x80;
        if (begins)
            at += 1 + (*p == '\n');
        if (at <= skip || at - skip > columns)
            continue;
        if (begins)
            printed += 1 + (*p == '\n');
        if (*p == '\n')
            fputs("\\n", stdout);
        else
            putchar((unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
    }
    return printed;
}

static void print_features(const json_t *root) {
    enum { SHOWN = 8 };
    const json_t *feature;
    size_t i;
    printf("\nFEATURE DIMENSIONS of the residual stream, largest first; %zu of %lld are outlier features of LLM.int8()\n",
           json_array_size(field(root, "outlier_features")), integer(field(root, "model"), "width"));
    printf("  (|x| >= 6 in >= 25%% of layers, at >= 6%% of positions; at the inputs of the block's products)\n");
    printf("    dim   max |x|   -first  kurtosis   layers %%  positions %%   where it is largest\n");
    json_array_foreach(field(root, "features"), i, feature) {
        if (i == SHOWN)
            break;
        printf("  %5lld", integer(feature, "dim"));
        cell(10, 4, number(feature, "absmax"));
        cell(9, 4, without_first(feature, "absmax"));
        cell(10, 4, number(feature, "kurtosis"));
        cell(11, 3, 100 * number(feature, "layers"));
        cell(13, 3, 100 * number(feature, "positions"));
        printf(" %c layer %lld, position %lld, \"", json_is_true(field(feature, "outlier")) ? '*' : ' ', integer(feature, "layer"),
               integer(feature, "position"));
        print_text(string(feature, "text"), 14, false);
        printf("\"\n");
    }
}

static void print_massive(const json_t *root) {
    enum { SHOWN = 5 };
    const json_t *one;
    size_t i;
    printf("\nMASSIVE ACTIVATIONS (blocks, |x| > 100 and >= 1000 x their hidden state's median): %lld (-first %lld)\n",
           integer(root, "massive_count"), integer(root, "massive_count_without_first"));
    json_array_foreach(field(root, "massive"), i, one) {
        if (i == SHOWN)
            break;
        cell(11, 4, number(one, "value"));
        printf("  layer %lld, dim %lld, position %lld of sequence %lld, \"", integer(one, "layer"), integer(one, "dim"),
               integer(one, "position"), integer(one, "sequence"));
        print_text(string(one, "text"), 20, false);
        printf("\"\n");
    }
}

static void print_largest(const json_t *root) {
    enum { SHOWN = 10, TEXT = 48 };
    const json_t *one;
    size_t i;
    heading("LARGEST ACTIVATIONS of all tensors, and where in the text");
    printf("      value  tensor                dim  position  text\n");
    json_array_foreach(field(root, "largest"), i, one) {
        if (i == SHOWN)
            break;
        cell(11, 4, number(one, "value"));
        printf("  %-19s %5lld %9lld  ", string(one, "tensor"), integer(one, "dim"), integer(one, "position"));
        int used = print_text(string(one, "before"), TEXT / 2, true);
        printf("[");
        used += print_text(string(one, "text"), TEXT - 6 - used, false);
        printf("]");
        print_text(string(one, "after"), TEXT - 2 - used, false);
        printf("\n");
    }
}

static void print_backcopy(const json_t *root) {
    static const row rows[] = {{"backcopy_loss", "loss at copies", ""},
                               {"bigram_excess", "loss over the bigrams'", ""},
                               {"dormant_sink_mass", "dormant sink mass", "weight on position 0 of queries that need none"}};
    if (!field(root, "backcopy_loss"))
        return;
    heading("BIGRAM-BACKCOPY");
    for (int i = 0; i < 3; i++) {
        printf("  %-26s", rows[i].label);
        cell(9, 4, number(root, rows[i].field));
        printf("  %s\n", rows[i].note);
    }
}

void cli_print_measurement(const json_t *root, const char *model, const char *data) {
    const bool details = field(root, "features") != NULL;
    print_inputs(root, model, data);
    print_norms(root);
    print_layers(root);
    if (details)
        print_quantiles(root);
    print_attention(root);
    print_classes(root);
    if (details) {
        print_positions(root);
        print_features(root);
    }
    print_massive(root);
    if (details)
        print_largest(root);
    print_weights(root);
    print_backcopy(root);
}
