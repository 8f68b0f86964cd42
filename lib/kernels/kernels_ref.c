/* kernels_ref.c -- the reference table: plain C, the definition of every slot. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "attention_ref.inc"
#include "int8_ref.inc"
#include "limits_ref.inc"
#include "rows_ref.inc"

#define GM_KERNEL(type, name, params) .name = name,
const gm_kernels gm_kernels_ref = {
    .isa = "ref",
#include "kernels.def"
};
