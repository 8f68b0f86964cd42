/* safetensors.h -- the safetensors file format: 8 bytes of header length, a JSON header of names, types, shapes and offsets, then the
 * data, little-endian, without holes (https://huggingface.co/docs/safetensors). Knows nothing about models.
 *
 * A model may be split over several files, its shards: "model.safetensors.index.json" beside them says which tensor is in which. A
 * gm_safetensors is one file or such a set.
 *
 * Files that we write carry "ghostmax.content" in their __metadata__: a checksum over metadata, names, types, shapes and data. */
#ifndef GM_SAFETENSORS_H
#define GM_SAFETENSORS_H

#include "dtype.h"

#define GM_TENSOR_RANK_MAX 8
#define GM_SAFETENSORS_CHECKSUM "ghostmax.content" /* the key of the checksum */

typedef struct gm_tensor {
    const char *name; /* owned by the gm_safetensors */
    int dtype;        /* index into the format's types (safetensors.c) */
    int shard;        /* which file of a set */
    int rank;
    int64_t shape[GM_TENSOR_RANK_MAX], elements;
    const uint8_t *data; /* into the file, not aligned */
    size_t begin, bytes; /* place in the data section */
} gm_tensor;

typedef struct gm_safetensors {
    gm_tensor *tensors; /* by offset; of a set: file after file */
    const gm_tensor **by_name;
    int count;
    struct json_t *header;
    gm_file file;    /* mapped; empty after gm_safetensors_parse */
    char path[1024]; /* for messages */
    size_t data_at;  /* where the data section starts in the file */
    struct gm_safetensors *shards;
    int shard_count; /* 0: one file */
} gm_safetensors;

/* gm_safetensors_open -- map a file and check its structure: lengths, types, shapes, offsets. What it returns can be read without further
 * checks, and in no time: no data is touched. Errors: GM_EIO, GM_EFORMAT with the byte offset, GM_ENOMEM. On failure *s is closed. */
gm_status gm_safetensors_open(gm_safetensors *s, const char *path, gm_error *err);
/* The same with a set, given its index: every tensor must be in the file that the index names for it, and nowhere else; files are those of
 * the index's own folder. Test: tests/io/test_shards.c */
gm_status gm_safetensors_open_index(gm_safetensors *s, const char *path, gm_error *err);
/* The data against its checksum, where there is one. Errors: GM_EFORMAT, GM_ENOMEM. */
gm_status gm_safetensors_verify(const gm_safetensors *s, int threads, gm_error *err);
/* The same on bytes in memory, which must outlive *s. `name` stands for the path in messages. */
gm_status gm_safetensors_parse(gm_safetensors *s, const void *bytes, size_t n, const char *name, gm_error *err);
void gm_safetensors_close(gm_safetensors *s);

const gm_tensor *gm_safetensors_find(const gm_safetensors *s, const char *name); /* NULL: no such tensor */
const char *gm_safetensors_metadata(const gm_safetensors *s, const char *key);   /* NULL: no such key; of a set, its first file's */
const char *gm_tensor_type(const gm_tensor *t);                                  /* "F32", "BF16" ... */
const char *gm_tensor_path(const gm_safetensors *s, const gm_tensor *t);         /* the file that it is in */
int64_t gm_tensor_offset(const gm_safetensors *s, const gm_tensor *t);           /* and where, in bytes */

/* gm_tensor_read -- element (i, j) of a tensor seen as [rows, cols] (cols: its last dimension; a vector has cols = 1), as f32, to
 * dst[i * row_stride + j * col_stride]. F32, F16 and BF16; other types: GM_EUNSUPPORTED. */
gm_status gm_tensor_read(const gm_safetensors *s, const gm_tensor *t, float *dst, int64_t row_stride, int64_t col_stride, gm_error *err);
/* The same in pieces: is it of a type that can be read; `count` rows from `first` on, to where they belong in dst. */
gm_status gm_tensor_check(const gm_safetensors *s, const gm_tensor *t, gm_error *err);
void gm_tensor_rows(const gm_tensor *t, int64_t first, int64_t count, float *dst, int64_t row_stride, int64_t col_stride);

/* What is written: element (i, j) is data[i * row_stride + j * col_stride]. cols = 0: a vector of `rows`. */
typedef struct gm_tensor_source {
    const char *name;
    const float *data;
    int64_t rows, cols, row_stride, col_stride;
    gm_dtype dtype;  /* in the file: f32, f16, bf16 */
    const void *raw; /* not NULL: the bytes as they are, of this type ("I8") and shape; the rest says nothing then */
    const char *raw_type;
} gm_tensor_source;

/* gm_safetensors_write -- write tensors in the given order, atomically; equal input gives equal bytes. metadata: key, value, key, value,
 * ..., NULL (itself NULL: none). Errors: GM_EINVAL (an empty tensor, a name twice, text that is not UTF-8, a number that dtype cannot
 * hold), GM_EUNSUPPORTED (q8_0), GM_EIO, GM_ENOMEM. */
gm_status gm_safetensors_write(const char *path, const gm_tensor_source *tensors, int count, const char *const *metadata, gm_error *err);
/* The same as a set of files of at most shard_bytes of data each (a larger tensor stands alone), and last their index: folder/
 * model-00001-of-00002.safetensors ..., model.safetensors.index.json. */
gm_status gm_safetensors_write_shards(const char *folder, const gm_tensor_source *tensors, int count, const char *const *metadata,
                                      int64_t shard_bytes, gm_error *err);
/* The types of all tensors, the one with most elements first: "BF16, F32". */
void gm_safetensors_types(const gm_safetensors *s, char *dst, size_t size);
/* For shards.c: makes by_name of tensors. */
gm_status gm_safetensors_sort(gm_safetensors *s, gm_error *err);
#define GM_SAFETENSORS_INDEX "model.safetensors.index.json"

#endif
