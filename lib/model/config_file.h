/* config_file.h -- config.json: a gm_model_config in Hugging Face's words. */
#ifndef GM_CONFIG_FILE_H
#define GM_CONFIG_FILE_H

#include "base.h"
#include "ghostmax_model.h"

/* The model_type of a quantized model's folder (quantized_file.c writes it): its weights are integers, which only the quantized model
 * reads. */
#define GM_QUANTIZED_TYPE "ghostmax_quantized"

/* gm_config_file_write -- atomically. model_type and architectures are the stock ones only where the stock architecture computes exactly
 * this model with plain softmax; else model_type is ghostmax_<family>, with the variant under "attention". What the family's own keys
 * cannot say stands under "ghostmax". cfg is a checked one (gm_model_config_check); dtype is the weights'. */
gm_status gm_config_file_write(const gm_model_config *cfg, gm_dtype dtype, const char *path, gm_error *err);

/* gm_config_file_read -- *cfg is checked. Errors: GM_EFORMAT (not such a file, a value out of range, parts that disagree),
 * GM_EUNSUPPORTED (another architecture, or a key that changes the mathematics in a way that this library has not), GM_EIO. */
gm_status gm_config_file_read(gm_model_config *cfg, const char *path, gm_error *err);

/* What it will call the model: "llama", "ghostmax_gpt2" ... */
const char *gm_config_model_type(const gm_model_config *cfg);

/* gm_config_stock_family -- *out = the family whose stock architecture computes exactly this model: its own where that does, else another
 * (a llama with norms of q and k is a qwen3). Returns NULL; where none does, *out is its own, and what is returned is the name of a field
 * that this one's stock architecture cannot have. Test: tests/cli/cli_convert.py (siblings) */
const char *gm_config_stock_family(gm_family *out, const gm_model_config *cfg);

/* The same without a file: the text of config.json (freed with free(); NULL: no memory), and what such a text says; `name` stands for the
 * path in messages. */
char *gm_config_json(const gm_model_config *cfg, gm_dtype dtype);
gm_status gm_config_parse(gm_model_config *cfg, const void *bytes, size_t n, const char *name, gm_error *err);

/* Any JSON, indented, with as few digits as give every number back; freed with free(); NULL: no memory. */
struct json_t;
char *gm_json_text(struct json_t *root);

/* A number for everything that decides what the model computes from its weights: equal for equal mathematics. */
uint64_t gm_config_fingerprint(const gm_model_config *cfg);

#endif
