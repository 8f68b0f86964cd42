/* dtype.c -- f16, bf16 and q8_0. The loops have no branches, so that the compiler makes vectors of them. */
#include "dtype.h"

#include <float.h>
#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers in files are little-endian");

enum { BLOCK = 32, BLOCK_BYTES = 2 + BLOCK };

static const struct {
    const char *name;
    int64_t block;
    size_t bytes; /* of a block */
} types[] = {[GM_DTYPE_F32] = {"f32", 1, 4},
             [GM_DTYPE_F16] = {"f16", 1, 2},
             [GM_DTYPE_BF16] = {"bf16", 1, 2},
             [GM_DTYPE_Q8_0] = {"q8_0", BLOCK, BLOCK_BYTES}};

const char *gm_dtype_name(gm_dtype type) {
    return types[type].name;
}

gm_status gm_dtype_parse(gm_dtype *out, const char *name, gm_error *err) {
    for (int i = 0; i < GM_COUNT(types); i++) {
        if (strcmp(name, types[i].name) == 0) {
            *out = (gm_dtype)i;
            return GM_OK;
        }
    }
    return gm_fail(err, GM_EINVAL, "unknown type of numbers '%s'; it must be f32, f16, bf16 or q8_0", name);
}

int64_t gm_dtype_block(gm_dtype type) {
    return types[type].block;
}

size_t gm_dtype_bytes(gm_dtype type, int64_t n) {
    return (size_t)(n / types[type].block) * types[type].bytes;
}

/* ---- one number */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float f32_of_f16(uint16_t half) {
    uint32_t magnitude = half & 0x7fffu, sign = (half & 0x8000u) << 16;
    /* the bits moved to f32's places, the exponent's bias put right by a product: exact, subnormals too */
    uint32_t bits = bits_of(of_bits(magnitude << 13) * 0x1p112f);
    bits |= magnitude >= 0x7c00 ? 0x7f800000u : 0; /* infinities, NaN */
    return of_bits(bits | sign);
}

static uint16_t f16_of_f32(float x) {
    uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
    /* below 2^-14: 0.5 + x has its last place at 2^-24, f16's subnormal step */
    uint32_t subnormal = bits_of(of_bits(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half; /* from 65520 on: infinity */
    half = magnitude > 0x7f800000u ? 0x7e00u : half;
    return (uint16_t)(half | sign);
}

static uint16_t bf16_of_f32(float x) {
    uint32_t bits = bits_of(x);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40 : rounded);
}

/* ---- many */

void gm_dtype_decode(gm_dtype type, float *dst, const void *src, int64_t n) {
    const uint8_t *p = src;
    uint16_t half;
    switch (type) {
    case GM_DTYPE_F32:
        if (n)
            memcpy(dst, src, (size_t)n * sizeof *dst);
        break;
    case GM_DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&half, p + 2 * i, 2);
            dst[i] = f32_of_f16(half);
        }
        break;
    case GM_DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&half, p + 2 * i, 2);
            dst[i] = of_bits((uint32_t)half << 16);
        }
        break;
    case GM_DTYPE_Q8_0:
        for (int64_t b = 0; b < n / BLOCK; b++, p += BLOCK_BYTES) {
            memcpy(&half, p, 2);
            float d = f32_of_f16(half);
            for (int i = 0; i < BLOCK; i++)
                dst[b * BLOCK + i] = d * (float)(int8_t)p[2 + i];
        }
        break;
    }
}

/* Finite stays finite. */
static bool fits(float x, uint16_t rounded, uint32_t exponent) {
    return (rounded & exponent) != exponent || !isfinite(x);
}

static bool block_encode(uint8_t *dst, const float *x) {
    float largest = 0;
    bool finite = true;
    for (int i = 0; i < BLOCK; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
        finite &= (bool)isfinite(x[i]);
    }
    float d = largest / 127, inverse = d >= FLT_MIN ? 1 / d : 0; /* below, 1 / d may be infinite and the f16 scale is 0 */
    uint16_t scale = f16_of_f32(d);
    memcpy(dst, &scale, 2);
    if (!finite || !fits(d, scale, 0x7c00))
        return false;
    for (int i = 0; i < BLOCK; i++)
        dst[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
    return true;
}

bool gm_dtype_encode(gm_dtype type, void *dst, const float *src, int64_t n) {
    uint8_t *p = dst;
    bool good = true;
    switch (type) {
    case GM_DTYPE_F32:
        if (n)
            memcpy(dst, src, (size_t)n * sizeof *src);
        break;
    case GM_DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t half = f16_of_f32(src[i]);
            good &= fits(src[i], half, 0x7c00);
            memcpy(p + 2 * i, &half, 2);
        }
        break;
    case GM_DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t half = bf16_of_f32(src[i]);
            good &= fits(src[i], half, 0x7f80);
            memcpy(p + 2 * i, &half, 2);
        }
        break;
    case GM_DTYPE_Q8_0:
        for (int64_t b = 0; b < n / BLOCK; b++)
            good &= block_encode(p + b * BLOCK_BYTES, src + b * BLOCK);
        break;
    }
    return good;
}
