/* hf_folder.h -- what a Hugging Face folder says beside the model itself: which tokens begin and end a text, which are never generated. */
#ifndef GM_HF_FOLDER_H
#define GM_HF_FOLDER_H

#include "base.h"

/* bos, eos: -1 none. never: a token to suppress, -1 none. Edits the config.json in `folder` and writes generation_config.json. Errors:
 * GM_EIO, GM_EFORMAT (config.json is not JSON), GM_ENOMEM. */
gm_status gm_hf_folder_tokens(const char *folder, int32_t bos, int32_t eos, int32_t never, gm_error *err);

#endif
