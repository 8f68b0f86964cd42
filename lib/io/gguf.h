/* gguf.h -- the GGUF container (versions 2 and 3, little-endian): a header, metadata of typed keys, tensor descriptions, then the
 * tensors' bytes, each at a multiple of the alignment (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Knows nothing about
 * models. Rules: docs/formats.md. */
#ifndef GM_GGUF_H
#define GM_GGUF_H

#include "base.h"
#include "dtype.h"

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

enum { GM_GGUF_RANK_MAX = 4, GM_GGUF_NAME_MAX = 64 /* of tensors */ };

typedef enum gm_gguf_type {
    GM_GGUF_U8,
    GM_GGUF_I8,
    GM_GGUF_U16,
    GM_GGUF_I16,
    GM_GGUF_U32,
    GM_GGUF_I32,
    GM_GGUF_F32,
    GM_GGUF_BOOL,
    GM_GGUF_TEXT,
    GM_GGUF_ARRAY,
    GM_GGUF_U64,
    GM_GGUF_I64,
    GM_GGUF_F64,
    GM_GGUF_TYPES
} gm_gguf_type;

typedef struct gm_gguf_text {
    const char *data; /* not ended by NUL */
    size_t size;
} gm_gguf_text;

typedef struct gm_gguf_value {
    gm_gguf_text key;
    gm_gguf_type type;    /* GM_GGUF_ARRAY: `count` elements of type `element` */
    gm_gguf_type element; /* of other values: the same as type */
    int64_t count;        /* of other values: 1 */
    const uint8_t *data;  /* the first element as it stands in the file */
    size_t bytes;         /* of all elements */
    size_t at;            /* place of data in the file, for messages */
} gm_gguf_value;

typedef struct gm_gguf_tensor {
    char name[GM_GGUF_NAME_MAX + 1];
    int type; /* ggml's number; gm_gguf_tensor_type names it */
    int rank;
    int64_t shape[GM_GGUF_RANK_MAX]; /* as in the file: the innermost dimension first; 1 past the rank */
    int64_t elements;
    const uint8_t *data;
    size_t at, bytes; /* place of data in the file */
} gm_gguf_tensor;

typedef struct gm_gguf {
    gm_gguf_value *values; /* in the file's order, as are the tensors */
    gm_gguf_tensor *tensors;
    int64_t value_count, tensor_count;
    const gm_gguf_value **by_key;
    const gm_gguf_tensor **by_name;
    int version;
    size_t alignment;
    char path[1024]; /* for messages */
} gm_gguf;

/* By its first four bytes. */
bool gm_gguf_is(const void *bytes, size_t n);
/* gm_gguf_parse -- check all of it: lengths, types, names, shapes, offsets. What it returns can be read without further checks. The bytes
 * must outlive *g; `name` stands for the file in messages. Memory is bounded by a small multiple of n. Errors: GM_EFORMAT and
 * GM_EUNSUPPORTED (version 1, big-endian) with the byte offset, GM_ENOMEM; *g is then closed. Test: tests/io/test_gguf.c, tests/fuzz/ */
gm_status gm_gguf_parse(gm_gguf *g, const void *bytes, size_t n, const char *name, gm_error *err);
void gm_gguf_close(gm_gguf *g);

const gm_gguf_value *gm_gguf_find(const gm_gguf *g, const char *key);          /* NULL: no such key */
const gm_gguf_tensor *gm_gguf_find_tensor(const gm_gguf *g, const char *name); /* NULL: no such tensor */
const char *gm_gguf_tensor_type(const gm_gguf_tensor *t);                      /* "F32", "Q4_K" ... */

/* Element i of a value, or of an array that holds such elements. Whole numbers of every width, and bools, are one kind; f32 and f64
 * another. false: of another kind, or (u64) too large. */
bool gm_gguf_whole(const gm_gguf_value *v, int64_t i, int64_t *out);
/* An f32 gives the double of the shortest decimal that it stands for, so that 1e-5 stays 1e-5. */
bool gm_gguf_real(const gm_gguf_value *v, int64_t i, double *out);
bool gm_gguf_is_text(const gm_gguf_value *v, const char *text);
/* The texts of a value or array of texts, in one allocation freed with gm_free. NULL: of another type, or no memory. */
gm_gguf_text *gm_gguf_texts(const gm_gguf_value *v);

/* false: not one of gm_dtype's types, so that gm_gguf_read cannot read it. */
bool gm_gguf_tensor_dtype(const gm_gguf_tensor *t, gm_dtype *out);
/* Rows first .. first + count - 1 (clipped) of a tensor [rows, cols], cols its innermost dimension, a vector being one row, as f32 to
 * their places in dst [rows, cols]. interleave: in the file, the rows of each group of that many (even, a divisor of rows; of a vector:
 * its elements) take turns: the first of the first half, the first of the second half, the second of the first ...; dst has the halves
 * one after the other. 0: plain order. An interleaved vector in q8_0 cannot be read. */
void gm_gguf_read(const gm_gguf_tensor *t, int64_t first, int64_t count, int64_t interleave, float *dst);

/* ---- writing -------------------------------------------------------------------------------------------------------------- */

/* Collects keys and tensors; nothing is written before gm_gguf_writer_commit, which also reports what went wrong on the way (a key or name
 * that stands twice, no memory). Equal calls give equal bytes. Keys and texts are copied; tensor data must live until commit.
 *
 *     gm_gguf_writer *w;
 *     GM_TRY(gm_gguf_writer_create(&w, err));
 *     status = gm_gguf_model_put(w, model, GM_DTYPE_F16, err);       // model/gguf_file.h: architecture, sizes, tensors
 *     gm_gguf_put_text(w, "tokenizer.ggml.model", "gpt2");           // whoever knows more adds more
 *     gm_gguf_put_array(w, "tokenizer.ggml.token_type", GM_GGUF_I32, types, count);
 *     if (status == GM_OK) status = gm_gguf_writer_commit(w, path, err);
 *     gm_gguf_writer_free(w); */
typedef struct gm_gguf_writer gm_gguf_writer;

gm_status gm_gguf_writer_create(gm_gguf_writer **out, gm_error *err);
void gm_gguf_writer_free(gm_gguf_writer *w);

void gm_gguf_put_text(gm_gguf_writer *w, const char *key, const char *text);
void gm_gguf_put_u32(gm_gguf_writer *w, const char *key, uint32_t value);
void gm_gguf_put_f32(gm_gguf_writer *w, const char *key, float value);
void gm_gguf_put_bool(gm_gguf_writer *w, const char *key, bool value);
/* Texts with their sizes: a token may hold any byte. */
void gm_gguf_put_texts(gm_gguf_writer *w, const char *key, const gm_gguf_text *texts, int64_t count);
/* count elements of a fixed-size type as they stand in memory (int32_t, float ...). */
void gm_gguf_put_array(gm_gguf_writer *w, const char *key, gm_gguf_type element, const void *elements, int64_t count);
/* A value as it stands in another file, nested arrays and all. */
void gm_gguf_put_value(gm_gguf_writer *w, const gm_gguf_value *value);

typedef struct gm_gguf_source {
    const char *name;
    gm_dtype dtype; /* q8_0 asks for cols that are a multiple of 32 */
    const float *data;
    int64_t rows, cols; /* cols 0: a vector of `rows` */
    int64_t interleave; /* as gm_gguf_read: data has the halves one after the other */
} gm_gguf_source;
void gm_gguf_put_tensor(gm_gguf_writer *w, const gm_gguf_source *source);
/* A small f32 vector, copied. */
void gm_gguf_put_vector(gm_gguf_writer *w, const char *name, const float *data, int64_t n);

/* Writes atomically. Errors: GM_EINVAL (a key or name twice, empty or too long; a number that its dtype cannot hold: by tensor), GM_EIO,
 * GM_ENOMEM. */
gm_status gm_gguf_writer_commit(gm_gguf_writer *w, const char *path, gm_error *err);
/* The same bytes in memory; *bytes is freed with gm_text_free. */
gm_status gm_gguf_writer_bytes(gm_gguf_writer *w, gm_text *bytes, gm_error *err);

#endif
