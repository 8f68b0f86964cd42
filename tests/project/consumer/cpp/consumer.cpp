// C++ beside the C library: both headers, and that their names link. Prints what softmax1 spends on one row.
#include <ghostmax.h>
#include <ghostmax_model.h>

#include <cstdio>

int main() {
    gm_ctx *ctx = nullptr;
    gm_error err;
    gm_model_config config;
    const float scores[3] = {-10, -10, -10};
    float weights[3], lse;
    const gm_norm softmax1 = {0, 1, 0};
    if (gm_ctx_create(&ctx, nullptr, &err) != GM_OK || gm_model_config_preset(&config, "gpt2-nano", &err) != GM_OK ||
        gm_norm_rows_fwd(ctx, weights, 3, &lse, nullptr, scores, 3, 1, 3, softmax1, &err) != GM_OK) {
        std::fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    std::printf("%.8f\n", double(weights[0] + weights[1] + weights[2]));
    gm_ctx_free(ctx);
}
