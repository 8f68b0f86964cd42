/* hf_folder.h -- what a Hugging Face folder says beside the model itself: which tokens begin and end a text, which are never generated. */
#ifndef GM_HF_FOLDER_H
#define GM_HF_FOLDER_H

#include "base.h"

typedef struct gm_hf_tokens {
    int32_t bos, eos; /* -1: none */
    int32_t zero;     /* -1: none; else it is bos too, and stands `zeros` times before every text */
    int64_t zeros;
    int64_t context;
} gm_hf_tokens;

/* gm_hf_folder_tokens -- edits the config.json in `folder`, writes generation_config.json. Where there is a tokenizer.json of Hugging
 * Face's own format, it gets the zero token, and tokenizer_config.json says what class reads it, and *stock_tokenizer is true. Errors:
 * GM_EIO, GM_EFORMAT (not JSON), GM_ENOMEM. Test: tests/cli/cli_convert.py, tests/interop/interop_transformers.py */
gm_status gm_hf_folder_tokens(const char *folder, const gm_hf_tokens *tokens, bool *stock_tokenizer, gm_error *err);

#endif
