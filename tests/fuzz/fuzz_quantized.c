/* fuzz_quantized.c -- a quantized model's folder: config.json, a zero byte, model.safetensors; as the bytes are, and once more with the
 * checksums that belong to its tensors, so that what stands behind them is reached. What loads runs, and written and loaded again is the
 * same model. */
#include "fuzz_folder.h"
#include "fuzz_models.h"
#include "quant.h"
#include "safetensors.h"

#include <inttypes.h>

static gm_quantized *load(const char *folder, bool executed, size_t size) {
    gm_quantized *q;
    gm_error err = {.offset = -1};
    gm_status status = gm_quantized_load(&q, fuzz_ctx(), folder, executed, &err);
    FUZZ_CHECK((status == GM_OK) == (q != NULL));
    if (status != GM_OK)
        fuzz_refusal(status, &err, size);
    return q;
}

static void check_runs(gm_model *m) {
    const int32_t tokens[3] = {0, m->cfg.vocab > 1, 0};
    gm_error err;
    double mean;
    const int64_t T = GM_MIN(m->cfg.context, 2);
    FUZZ_CHECK(gm_model_forward_loss(m, tokens, tokens + 1, 1, T, NULL, &mean, NULL, &err) == GM_OK);
}

/* True: accepted. */
static bool check(size_t size) {
    gm_error err;
    gm_quantized *q = load(fuzz_path("in"), false, size), *executed;
    if (!q)
        return false;
    gm_model *m = gm_quantized_model(q);
    check_runs(m);
    FUZZ_CHECK(gm_quantized_save(q, NULL, fuzz_path("out"), &err) == GM_OK);
    gm_quantized *back = load(fuzz_path("out"), false, SIZE_MAX / 2);
    FUZZ_CHECK(back && gm_config_fingerprint(&gm_quantized_model(back)->cfg) == gm_config_fingerprint(&m->cfg));
    FUZZ_CHECK(memcmp(gm_quantized_model(back)->weights, m->weights, (size_t)m->param_elements * sizeof(float)) == 0);
    gm_quantized_free(back);
    gm_quantized_free(q);
    executed = load(fuzz_path("out"), true, SIZE_MAX / 2); /* not every quantizer can be */
    if (executed)
        check_runs(gm_quantized_model(executed));
    gm_quantized_free(executed);
    return true;
}

/* Every tensor's hash into the metadata, and the file's; false: no tensors can be made of it. */
static bool mend(const uint8_t *data, size_t size) {
    enum { TENSORS_MAX = 64 };
    gm_safetensors s;
    gm_error err;
    gm_tensor_source sources[TENSORS_MAX];
    gm_text sums = {0};
    const uint8_t *zero = memchr(data, 0, size);
    const size_t at = (size_t)(zero + 1 - data);
    if (gm_safetensors_parse(&s, zero + 1, size - at, "input", &err) != GM_OK)
        return false;
    bool good = s.count <= TENSORS_MAX;
    for (int i = 0; good && i < s.count; i++) {
        const gm_tensor *t = &s.tensors[i];
        const int64_t cols = t->rank == 2 ? t->shape[1] : 0;
        good = (t->rank == 1 || (t->rank == 2 && cols > 0)) && !strpbrk(t->name, "\"\\");
        gm_text_add(&sums, "%s\"%s\":\"%016" PRIx64 "\"", i ? "," : "{", t->name, gm_checksum(t->data, t->bytes));
        sources[i] = (gm_tensor_source){.name = t->name, .rows = t->shape[0], .cols = cols, .raw = t->data, .raw_type = gm_tensor_type(t)};
    }
    gm_text_add(&sums, "}");
    const char *metadata[] = {"ghostmax.checksums", sums.data, NULL};
    good = good && s.count && gm_safetensors_write(fuzz_path("in/model.safetensors"), sources, s.count, metadata, &err) == GM_OK;
    gm_text_free(&sums);
    gm_safetensors_close(&s);
    return good;
}

bool fuzz_input(const uint8_t *data, size_t size) {
    if (!fuzz_two_files(data, size, "config.json", "model.safetensors"))
        return false;
    const bool good = check(size);
    return (mend(data, size) && check(SIZE_MAX / 2)) || good;
}
