/* safetensors.h -- the safetensors file format: 8 bytes of header length, a JSON header of names, types, shapes and offsets, then the
 * data, little-endian, without holes (https://huggingface.co/docs/safetensors). Knows nothing about models.
 *
 * Files that we write carry "ghostmax.checksum" in their __metadata__: a hash over metadata, names, shapes and data, verified on load
 * wherever it is present. */
#ifndef GM_SAFETENSORS_H
#define GM_SAFETENSORS_H

#include "base.h"

#define GM_TENSOR_RANK_MAX 8

typedef struct gm_tensor {
    const char *name; /* owned by the gm_safetensors */
    int dtype;        /* index into the format's types (safetensors.c) */
    int rank;
    int64_t shape[GM_TENSOR_RANK_MAX], elements;
    const uint8_t *data; /* into the file, not aligned */
    size_t begin, bytes; /* place in the data section */
} gm_tensor;

typedef struct gm_safetensors {
    gm_tensor *tensors; /* by offset */
    int count;
    struct json_t *header;
    gm_file file;    /* mapped; empty after gm_safetensors_parse */
    char path[1024]; /* for messages */
    size_t data_at;  /* where the data section starts in the file */
} gm_safetensors;

/* gm_safetensors_open -- map a file and check all of it: lengths, types, shapes, offsets, checksum. What it returns can be read without
 * further checks. Errors: GM_EIO, GM_EFORMAT with the byte offset, GM_ENOMEM. On failure *s is closed. */
gm_status gm_safetensors_open(gm_safetensors *s, const char *path, gm_error *err);
/* The same on bytes in memory, which must outlive *s. `name` stands for the path in messages. */
gm_status gm_safetensors_parse(gm_safetensors *s, const void *bytes, size_t n, const char *name, gm_error *err);
void gm_safetensors_close(gm_safetensors *s);

const gm_tensor *gm_safetensors_find(const gm_safetensors *s, const char *name); /* NULL: no such tensor */
const char *gm_safetensors_metadata(const gm_safetensors *s, const char *key);   /* NULL: no such key */
const char *gm_tensor_type(const gm_tensor *t);                                  /* "F32", "BF16" ... */

/* gm_tensor_read -- element (i, j) of a tensor seen as [rows, cols] (cols: its last dimension; a vector has cols = 1), as f32, to
 * dst[i * row_stride + j * col_stride]. F32, F16 and BF16; other types: GM_EUNSUPPORTED. */
gm_status gm_tensor_read(const gm_safetensors *s, const gm_tensor *t, float *dst, int64_t row_stride, int64_t col_stride, gm_error *err);

/* What is written: element (i, j) is data[i * row_stride + j * col_stride]. cols = 0: a vector of `rows`. */
typedef struct gm_tensor_source {
    const char *name;
    const float *data;
    int64_t rows, cols, row_stride, col_stride;
} gm_tensor_source;

/* gm_safetensors_write -- write F32 tensors in the given order, atomically; equal input gives equal bytes. metadata: key, value, key,
 * value, ..., NULL (itself NULL: none). Errors: GM_EINVAL (an empty tensor, a name twice, text that is not UTF-8), GM_EIO,
 * GM_ENOMEM. */
gm_status gm_safetensors_write(const char *path, const gm_tensor_source *tensors, int count, const char *const *metadata, gm_error *err);

#endif
