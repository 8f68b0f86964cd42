/* bench_open.c -- opening a model: gm_model_load, and the look for weights that are no numbers, as the commands do. The file has just been
 * written, so it comes from the system's cache of files; the limit is that of copying as many bytes as file and weights have. */
#include "bench.h"
#include "gguf_file.h"
#include "llama2c_file.h"
#include "model.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum file_format { HF, GGUF, LLAMA2C } file_format;

typedef struct open_shape {
    const char *name, *preset;
    file_format format;
    gm_dtype dtype;
    bool quick;
} open_shape;

static const open_shape shapes[] = {
    {"gpt2-mini hf f32", "gpt2-mini", HF, GM_DTYPE_F32, true},
    {"gpt2-small hf f32", "gpt2-small", HF, GM_DTYPE_F32, false},
    {"gpt2-small hf f16", "gpt2-small", HF, GM_DTYPE_F16, false},
    {"gpt2-small hf bf16", "gpt2-small", HF, GM_DTYPE_BF16, false},
    {"opt-125m hf f32", "opt-125m", HF, GM_DTYPE_F32, false},
    {"gpt2-small gguf f32", "gpt2-small", GGUF, GM_DTYPE_F32, false},
    {"gpt2-small gguf f16", "gpt2-small", GGUF, GM_DTYPE_F16, false},
    {"gpt2-small gguf q8_0", "gpt2-small", GGUF, GM_DTYPE_Q8_0, false},
    {"llama-110m hf f32", "llama-110m", HF, GM_DTYPE_F32, false},
    {"llama-110m gguf f32", "llama-110m", GGUF, GM_DTYPE_F32, false},
    {"llama-110m llama2c f32", "llama-110m", LLAMA2C, GM_DTYPE_F32, false},
};

typedef struct open_state {
    const gm_ctx *ctx;
    char folder[512], path[600]; /* a folder of its own under TMPDIR, and the model in it */
    gm_status status;            /* of the last opening */
} open_state;

static void remove_folder(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char name[1024];
        if (gm_path_join(name, sizeof name, path, e->d_name, NULL) == GM_OK && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlink(name);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

static gm_status write_gguf(const gm_model *m, gm_dtype dtype, const char *path, gm_error *err) {
    gm_gguf_writer *w;
    GM_TRY(gm_gguf_writer_create(&w, err));
    gm_status status = gm_gguf_model_put(w, m, dtype, err);
    if (status == GM_OK)
        status = gm_gguf_writer_commit(w, path, err);
    gm_gguf_writer_free(w);
    return status;
}

static gm_status write_model(open_state *s, const open_shape *shape, const gm_model_config *c, gm_error *err) {
    gm_model *m;
    GM_TRY(gm_model_allocate(&m, s->ctx, c, err));
    gm_bench_fill(m->weights, m->param_elements, 0.02f);
    gm_status status = shape->format == HF     ? gm_model_save_as(m, s->folder, shape->dtype, 0, err)
                       : shape->format == GGUF ? write_gguf(m, shape->dtype, s->path, err)
                                               : gm_llama2c_save(m, 0, s->path, err);
    gm_model_free(m);
    return status;
}

static double weights_bytes(const open_state *s, const open_shape *shape) {
    char path[700];
    struct stat info;
    snprintf(path, sizeof path, "%s%s", s->path, shape->format == HF ? "/model.safetensors" : "");
    return stat(path, &info) == 0 ? (double)info.st_size : NAN;
}

static void open_once(void *state) {
    open_state *s = state;
    gm_model *m = NULL;
    gm_nonfinite list[1];
    int count;
    s->status = gm_model_load(&m, s->ctx, s->path, NULL);
    if (s->status == GM_OK)
        s->status = gm_model_nonfinite(m, list, 1, &count, NULL);
    gm_model_free(m);
}

static gm_status open_measured(gm_bench *b, open_state *s, const open_shape *shape, const gm_model_config *c, double parameters,
                               gm_error *err) {
    GM_TRY(write_model(s, shape, c, err));
    const double file = weights_bytes(s, shape), weights = parameters * sizeof(float);
    gm_samples samples = gm_samples_take(open_once, s, b->timing);
    if (s->status != GM_OK)
        return gm_model_load(&(gm_model *){NULL}, s->ctx, s->path, err);
    gm_work work = {.read = file, .written = weights, .footprint = file + weights};
    return gm_bench_line_add(b, shape->name, b->ctx->threads, &samples, &work, (gm_bench_extra){0}, err);
}

static gm_status open_line(gm_bench *b, const open_shape *shape, gm_error *err) {
    gm_model_config c;
    gm_model_size size;
    open_state s = {.ctx = b->ctx};
    const char *base = getenv("TMPDIR");
    int i = 0;
    while (strcmp(gm_bench_model_at(i)->preset, shape->preset) != 0)
        i++;
    gm_bench_model_config(&c, gm_bench_model_at(i));
    gm_model_config_size(&size, &c, 1, 1);
    if (!gm_bench_wanted(b, shape->name, shape->quick) || !gm_bench_fits(b, shape->name, 2.5 * (double)size.parameter_bytes))
        return GM_OK;
    snprintf(s.folder, sizeof s.folder, "%s/ghostmax-bench-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(s.folder))
        return gm_fail_errno(err, "cannot make the folder '%s' for a model to open", s.folder);
    snprintf(s.path, sizeof s.path, "%s%s", s.folder, shape->format == HF ? "" : "/model");
    gm_status status = open_measured(b, &s, shape, &c, (double)size.parameters, err);
    remove_folder(s.folder);
    return status;
}

gm_status gm_bench_open(gm_bench *b, gm_error *err) {
    for (int i = 0; i < GM_COUNT(shapes); i++)
        GM_TRY(open_line(b, &shapes[i], err));
    return GM_OK;
}
