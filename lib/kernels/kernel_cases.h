/* kernel_cases.h -- every slot of a kernel table beside the reference, for the tests and for `ghostmax selftest`. */
#ifndef GM_KERNEL_CASES_H
#define GM_KERNEL_CASES_H

#include "kernels.h"

enum {
#define GM_KERNEL(type, name, params) GM_SLOT_##name,
#include "kernels.def"
#undef GM_KERNEL
    GM_SLOT_COUNT
};

typedef struct gm_slot_result {
    const char *name;
    int64_t checks, failures;
    double worst; /* the largest error as a share of what is allowed there: up to 1 passes; infinite where bits must be equal and are not */
    char first[160]; /* the first failure, in words */
} gm_slot_result;

/* All cases of all slots, those of k beside the reference's. A slot without a case fails. False: out of memory. */
bool gm_kernel_cases_run(const gm_kernels *k, gm_slot_result results[GM_SLOT_COUNT]);

#endif
