/* zero_token.h -- softmax1 in a runtime that knows only softmax: a token whose embedding is all zeros, prefixed to the prompt.
 *
 * In a block without biases, with RMS norm, a zero row stays zero: norm(0) = 0 / sqrt(0 + eps) = 0, W 0 = 0, silu(0) 0 = 0, and its own
 * attention averages zeros. So its key and value are 0 in every head and layer, wherever RoPE turns them, and softmax over the scores
 * {0, s_1 .. s_k} with values {0, v_1 .. v_k} is softmax1 over s_1 .. s_k; n such tokens give n in the denominator. RoPE sees only
 * differences of positions, so the other tokens may move up by n. docs/zero-token.md has the proof and a numeric example. */
#ifndef GM_ZERO_TOKEN_H
#define GM_ZERO_TOKEN_H

#include "model.h"

/* gm_zero_token_count -- *n = how many zero tokens stand for the variant of cfg (checked): 0 for plain softmax. Errors: GM_EUNSUPPORTED
 * with every reason why no number of them does. Test: tests/convert/test_zero_token.c (conditions) */
gm_status gm_zero_token_count(int64_t *n, const gm_model_config *cfg, gm_error *err);

/* gm_zero_token_model -- *out = m with plain softmax, vocabulary V + 1 and room for n more positions; token V's rows in the embedding table
 * and the LM head are zero. After n times token V its logits of the first V tokens are m's. *out is the caller's (gm_model_free); m is
 * only read. Errors: those of gm_zero_token_count, GM_EINVAL (plain softmax: nothing to replace), GM_ENOMEM. Test:
 * tests/convert/test_zero_token.c: to f32 rounding, and to 1e-14 in double */
gm_status gm_zero_token_model(gm_model **out, const gm_model *m, gm_error *err);

#endif
