/* file_tensors.h -- a model's tensors as a file has them: what model_files.c and gguf_file.c share. */
#ifndef GM_FILE_TENSORS_H
#define GM_FILE_TENSORS_H

#include "model.h"

typedef struct gm_file_tensor {
    char name[96];
    size_t short_name;                      /* where the name without its prefix starts, which is good too; 0: there is no other name */
    int64_t rows, cols;                     /* cols = 0: a vector */
    int64_t offset, row_stride, col_stride; /* of element (i, j) in the arena */
    int64_t interleave;                     /* > 0: of every so many rows the first and the second half take turns in the file */
    bool f32;                               /* whatever the model's dtype */
} gm_file_tensor;

/* Writes the tensors of one parameter to out (NULL: only counts); returns how many. */
typedef int gm_param_tensors(const gm_model_config *cfg, const gm_param *p, gm_file_tensor *out);
/* All tensors of a model, in the arena's order; *out is freed with gm_free. */
gm_status gm_file_tensors(gm_file_tensor **out, int *count, const gm_model_config *cfg, gm_param_tensors *of_one, gm_error *err);

#endif
