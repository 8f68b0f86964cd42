/* gather.h -- from folders to what the report draws. gather.c finds the runs of a folder and reads them, groups.c puts together what can be
 * compared, log_curves.c, sample_bytes.c and page_room.c make curves and samples small enough for a page. Private to report/. */
#ifndef GM_GATHER_H
#define GM_GATHER_H

#include "base.h"

#include <jansson.h>

/* Everything found so far. A run is rows.h's object and: source (index), kind ("training", "audit"), state ("finished", "unfinished",
 * "diverged", "waiting"), missing (names of files), step, steps, tokens_per_step, seconds, made; identity, result, measured, quant (their
 * files' parts that groups.c needs and removes), log, measure, quantized (what is drawn), sample (a path). */
typedef struct gm_gathered {
    json_t *sources; /* folder, kind, command, version, commit, time, machine */
    json_t *runs, *notes;
} gm_gathered;

/* Adds a folder: a lab's, a training run's, or what `measure --out` wrote, finished or not. Errors: GM_EIO (none of these), GM_EFORMAT
 * (damaged, altered). */
gm_status gm_gather_folder(gm_gathered *g, const char *folder, gm_error *err);

/* The groups of comparable runs: config, models, metrics, rows, ablations, verdict, runs, and why they are apart. */
json_t *gm_groups_of(const gm_gathered *g);

/* metrics.jsonl as {field: [[steps], [values]]}, of each field at most `points`: the least and the greatest of every bucket stay. A last
 * line that is being written is left out. Errors: GM_EFORMAT with the offset. */
gm_status gm_log_curves(json_t **out, const char *path, int points, gm_error *err);
json_t *gm_thin_curve(const json_t *curve, int points);

/* Makes the data fit so many bytes, with the samples where their paths stood. without_details: how many runs have neither histograms nor a
 * sample for want of room. */
gm_status gm_fit_page(json_t *data, int64_t bytes, gm_error *err);

/* sample.safetensors for a page, in at most so many bytes of text: {tokens, tensors: {name: {cols, max, data}}, heads: {layer: {weights,
 * null_mass}}}, data in base64. Fewer tokens and layers where there is less room. NULL: no file, or no room at all. */
gm_status gm_sample_bytes(json_t **out, const char *path, int64_t bytes, gm_error *err);

double gm_gather_number(const json_t *object, const char *name);    /* NaN: there is none */
const char *gm_gather_text(const json_t *object, const char *name); /* "": there is none */

#endif
