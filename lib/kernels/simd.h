/* simd.h -- one vector of floats, three instruction sets. The only file with intrinsics.
 *
 * A kernel body (rows_body.inc, attention_body.inc) is written once on these names and compiled once per instruction set by
 * kernels_avx2.c, kernels_avx512.c and kernels_neon.c. Everything here is static, so nothing compiled with -mavx512f can leak into the
 * portable path.
 *
 *   v_f32   VW floats         v_mask  one truth per lane        v_f64   VW/2 doubles, for accumulating
 *   v_i32   VW integers       v_s8    4 VW signed bytes         v_u8    the same 4 unsigned bytes in every lane
 *
 * NaN: v_min(a, b) and v_max(a, b) return b when either is NaN (x86's rule), so the operand that may be NaN goes second and a bound first:
 * v_min(one, v_max(zero, x)) keeps a NaN in x. A running maximum that must keep NaN uses v_max_nan. */
#ifndef GM_SIMD_H
#define GM_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float v_four __attribute__((vector_size(16))); /* the same on every instruction set */

#if defined(__AVX512F__)

#include <immintrin.h>
#define VW 16
typedef __m512 v_f32;
typedef __m512d v_f64;
typedef __mmask16 v_mask;

static inline v_f32 v_set(float x) {
    return _mm512_set1_ps(x);
}
static inline v_f32 v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, v_f32 v) {
    _mm512_storeu_ps(p, v);
}
static inline v_mask v_first(int64_t n) { /* lanes 0 .. n-1; n <= VW */
    return (v_mask)((1u << n) - 1);
}
/* Reads p[0 .. n-1] only; the other lanes are `fill`. n < VW. */
static inline v_f32 v_load_first(const float *p, int64_t n, float fill) {
    return _mm512_mask_loadu_ps(v_set(fill), v_first(n), p);
}
static inline void v_store_first(float *p, v_f32 v, int64_t n) {
    _mm512_mask_storeu_ps(p, v_first(n), v);
}
static inline v_f32 v_add(v_f32 a, v_f32 b) {
    return _mm512_add_ps(a, b);
}
static inline v_f32 v_sub(v_f32 a, v_f32 b) {
    return _mm512_sub_ps(a, b);
}
static inline v_f32 v_mul(v_f32 a, v_f32 b) {
    return _mm512_mul_ps(a, b);
}
static inline v_f32 v_div(v_f32 a, v_f32 b) {
    return _mm512_div_ps(a, b);
}
static inline v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c) { /* a b + c */
    return _mm512_fmadd_ps(a, b, c);
}
static inline v_f32 v_fnma(v_f32 a, v_f32 b, v_f32 c) { /* c - a b */
    return _mm512_fnmadd_ps(a, b, c);
}
static inline v_f32 v_min(v_f32 a, v_f32 b) {
    return _mm512_min_ps(a, b);
}
static inline v_f32 v_max(v_f32 a, v_f32 b) {
    return _mm512_max_ps(a, b);
}
static inline v_f32 v_sqrt(v_f32 a) {
    return _mm512_sqrt_ps(a);
}
static inline v_f32 v_round(v_f32 a) { /* to nearest, ties to even */
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline v_f32 v_abs(v_f32 a) {
    return _mm512_abs_ps(a);
}
static inline v_mask v_lt(v_f32 a, v_f32 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline v_mask v_le(v_f32 a, v_f32 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static inline v_mask v_eq(v_f32 a, v_f32 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
static inline v_mask v_isnan(v_f32 a) {
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
static inline v_mask v_and(v_mask a, v_mask b) {
    return a & b;
}
static inline v_mask v_or(v_mask a, v_mask b) {
    return a | b;
}
static inline int v_any(v_mask m) {
    return m != 0;
}
static inline v_f32 v_select(v_mask m, v_f32 yes, v_f32 no) {
    return _mm512_mask_blend_ps(m, no, yes);
}
/* a 2^n for an integral n; right for subnormal and overflowing results. */
static inline v_f32 v_ldexp(v_f32 a, v_f32 n) {
    return _mm512_scalef_ps(a, n);
}
/* Horizontal reductions: one fixed tree, so the bits depend on the instruction set only. */
static inline float v_sum(v_f32 a) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline v_f64 vd_set(double x) {
    return _mm512_set1_pd(x);
}
static inline v_f64 vd_low(v_f32 a) { /* lanes 0 .. VW/2-1 */
    return _mm512_cvtps_pd(_mm512_castps512_ps256(a));
}
static inline v_f64 vd_high(v_f32 a) {
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
}
static inline v_f64 vd_add(v_f64 a, v_f64 b) {
    return _mm512_add_pd(a, b);
}
static inline v_f64 vd_sub(v_f64 a, v_f64 b) {
    return _mm512_sub_pd(a, b);
}
static inline v_f64 vd_mul(v_f64 a, v_f64 b) {
    return _mm512_mul_pd(a, b);
}
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) {
    return _mm512_fmadd_pd(a, b, c);
}
static inline double vd_sum(v_f64 a) {
    __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

typedef __m512i v_i32;

static inline v_i32 vi_zero(void) {
    return _mm512_setzero_si512();
}
static inline v_i32 vi_load(const int32_t *p) {
    return _mm512_loadu_si512(p);
}
static inline void vi_store(int32_t *p, v_i32 v) {
    _mm512_storeu_si512(p, v);
}
static inline v_i32 vi_set(int32_t x) {
    return _mm512_set1_epi32(x);
}
static inline v_i32 vi_add(v_i32 a, v_i32 b) {
    return _mm512_add_epi32(a, b);
}
static inline v_f32 vi_to_float(v_i32 a) {
    return _mm512_cvtepi32_ps(a);
}
/* The first n of VW bytes, all when n >= VW; every lane is an integer in 0 .. 255. */
static inline void v_store_u8(uint8_t *p, v_f32 v, int64_t n) {
    __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
    if (n >= VW)
        _mm_storeu_si128((__m128i *)(void *)p, bytes);
    else
        _mm_mask_storeu_epi8(p, v_first(n), bytes);
}
static inline v_f32 v_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
#if defined(__AVX512VNNI__)
typedef __m512i v_s8, v_u8;
static inline v_s8 vs_load(const int8_t *p) {
    return _mm512_loadu_si512(p);
}
static inline v_u8 vu_set4(const uint8_t *p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
}
/* The same value, of which the compiler no longer knows where it came from: keeps a benchmark's equal products from being made once. */
static inline v_u8 vu_opaque(v_u8 a) {
    __asm__ volatile("" : "+v"(a));
    return a;
}
/* sum + the lane's a_0 b_0 + a_1 b_1 + a_2 b_2 + a_3 b_3, nothing saturates */
static inline v_i32 vi_dot4(v_i32 sum, v_u8 a, v_s8 b) {
    return _mm512_dpbusd_epi32(sum, a, b);
}
#else
/* Bytes 0, 2 and bytes 1, 3 of every lane, widened to 16 bits. */
typedef struct v_s8 {
    __m512i even, odd;
} v_s8;
typedef v_s8 v_u8;
static inline v_s8 vs_load(const int8_t *p) {
    __m512i v = _mm512_loadu_si512(p);
    return (v_s8){_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}
static inline v_u8 vu_set4(const uint8_t *p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    return (v_u8){_mm512_set1_epi32(quad & 0xff00ff), _mm512_set1_epi32(quad >> 8 & 0xff00ff)};
}
static inline v_u8 vu_opaque(v_u8 a) {
    __asm__ volatile("" : "+v"(a.even), "+v"(a.odd));
    return a;
}
static inline v_i32 vi_dot4(v_i32 sum, v_u8 a, v_s8 b) {
    return vi_add(sum, vi_add(_mm512_madd_epi16(a.even, b.even), _mm512_madd_epi16(a.odd, b.odd)));
}
#endif

#if defined(__AMX_INT8__) || defined(__AMXINT8__)
/* Tiles of 16 rows x 64 bytes: 0 .. 3 sums, 4, 5 rows of a, 6, 7 columns of b. Between vt_begin and vt_end the thread owns them. */
static inline void vt_begin(int64_t rows0, int64_t rows1) { /* of the upper and the lower half */
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    const uint8_t rows[8] = {(uint8_t)rows0, (uint8_t)rows0, (uint8_t)rows1, (uint8_t)rows1, (uint8_t)rows0, (uint8_t)rows1, 16, 16};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = rows[i];
        config.bytes[i] = rows[i] ? 64 : 0;
    }
    _tile_loadconfig(&config);
}
static inline void vt_end(void) {
    _tile_release();
}
/* c (rows of 32 sums) = a (rows `as` bytes apart) b over 64 steps bytes of depth; b as u8s8_gemm_tile packs it. Nothing saturates. */
static inline void vt_product_32x32(int32_t *c, const uint8_t *a, int64_t as, const int8_t *b, int64_t steps) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t p = 0; p < steps; p++, a += 64, b += 16 * 128) {
        _tile_loadd(4, a, as);
        _tile_loadd(6, b, 128);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(7, b + 64, 128);
        _tile_dpbusd(1, 4, 7);
        _tile_loadd(5, a + 16 * as, as);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + 16, 128);
    _tile_stored(2, c + 512, 128);
    _tile_stored(3, c + 528, 128);
}
static inline void vt_product_16x32(int32_t *c, const uint8_t *a, int64_t as, const int8_t *b, int64_t steps) {
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t p = 0; p < steps; p++, a += 64, b += 16 * 128) {
        _tile_loadd(4, a, as);
        _tile_loadd(6, b, 128);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(7, b + 64, 128);
        _tile_dpbusd(1, 4, 7);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + 16, 128);
}
/* sums [2][3 x 16 x 16] = products of the same a and b (16 x 64 bytes each), `steps` of them shared by the two halves: six sums at a time,
 * because one waits for itself. After vt_begin(16, 16). */
static inline void vt_peak(int32_t *sums, const uint8_t *a, const int8_t *b, int64_t steps) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_loadd(6, a, 64);
    _tile_loadd(7, b, 64);
    for (int64_t p = 0; p < steps / 2; p++) {
        _tile_dpbusd(0, 6, 7);
        _tile_dpbusd(1, 6, 7);
        _tile_dpbusd(2, 6, 7);
        _tile_dpbusd(3, 6, 7);
        _tile_dpbusd(4, 6, 7);
        _tile_dpbusd(5, 6, 7);
    }
    if (steps % 2) {
        _tile_dpbusd(0, 6, 7);
        _tile_dpbusd(1, 6, 7);
        _tile_dpbusd(2, 6, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + 256, 64);
    _tile_stored(2, sums + 512, 64);
    _tile_stored(3, sums + 768, 64);
    _tile_stored(4, sums + 1024, 64);
    _tile_stored(5, sums + 1280, 64);
}
#endif

#elif defined(__AVX2__)

#include <immintrin.h>
#define VW 8
typedef __m256 v_f32;
typedef __m256d v_f64;
typedef __m256 v_mask; /* all bits of a lane set or clear */

static inline v_f32 v_set(float x) {
    return _mm256_set1_ps(x);
}
static inline v_f32 v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, v_f32 v) {
    _mm256_storeu_ps(p, v);
}
static inline v_mask v_first(int64_t n) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
}
static inline v_f32 v_select(v_mask m, v_f32 yes, v_f32 no) {
    return _mm256_blendv_ps(no, yes, m);
}
static inline v_f32 v_load_first(const float *p, int64_t n, float fill) {
    v_mask m = v_first(n);
    return v_select(m, _mm256_maskload_ps(p, _mm256_castps_si256(m)), v_set(fill));
}
static inline void v_store_first(float *p, v_f32 v, int64_t n) {
    _mm256_maskstore_ps(p, _mm256_castps_si256(v_first(n)), v);
}
static inline v_f32 v_add(v_f32 a, v_f32 b) {
    return _mm256_add_ps(a, b);
}
static inline v_f32 v_sub(v_f32 a, v_f32 b) {
    return _mm256_sub_ps(a, b);
}
static inline v_f32 v_mul(v_f32 a, v_f32 b) {
    return _mm256_mul_ps(a, b);
}
static inline v_f32 v_div(v_f32 a, v_f32 b) {
    return _mm256_div_ps(a, b);
}
static inline v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline v_f32 v_fnma(v_f32 a, v_f32 b, v_f32 c) {
    return _mm256_fnmadd_ps(a, b, c);
}
static inline v_f32 v_min(v_f32 a, v_f32 b) {
    return _mm256_min_ps(a, b);
}
static inline v_f32 v_max(v_f32 a, v_f32 b) {
    return _mm256_max_ps(a, b);
}
static inline v_f32 v_sqrt(v_f32 a) {
    return _mm256_sqrt_ps(a);
}
static inline v_f32 v_round(v_f32 a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline v_f32 v_abs(v_f32 a) {
    return _mm256_andnot_ps(v_set(-0.0f), a);
}
static inline v_mask v_lt(v_f32 a, v_f32 b) {
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline v_mask v_le(v_f32 a, v_f32 b) {
    return _mm256_cmp_ps(a, b, _CMP_LE_OQ);
}
static inline v_mask v_eq(v_f32 a, v_f32 b) {
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
static inline v_mask v_isnan(v_f32 a) {
    return _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
}
static inline v_mask v_and(v_mask a, v_mask b) {
    return _mm256_and_ps(a, b);
}
static inline v_mask v_or(v_mask a, v_mask b) {
    return _mm256_or_ps(a, b);
}
static inline int v_any(v_mask m) {
    return _mm256_movemask_ps(m) != 0;
}
/* In two halves, because 2^n alone overflows or vanishes where a 2^n does not. |n| <= 252. */
static inline v_f32 v_ldexp(v_f32 a, v_f32 n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    __m256 s1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 s2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return v_mul(v_mul(a, s1), s2);
}
static inline float v_sum(v_f32 a) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
static inline v_f64 vd_set(double x) {
    return _mm256_set1_pd(x);
}
static inline v_f64 vd_low(v_f32 a) {
    return _mm256_cvtps_pd(_mm256_castps256_ps128(a));
}
static inline v_f64 vd_high(v_f32 a) {
    return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
}
static inline v_f64 vd_add(v_f64 a, v_f64 b) {
    return _mm256_add_pd(a, b);
}
static inline v_f64 vd_sub(v_f64 a, v_f64 b) {
    return _mm256_sub_pd(a, b);
}
static inline v_f64 vd_mul(v_f64 a, v_f64 b) {
    return _mm256_mul_pd(a, b);
}
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) {
    return _mm256_fmadd_pd(a, b, c);
}
static inline double vd_sum(v_f64 a) {
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

typedef __m256i v_i32;

static inline v_i32 vi_zero(void) {
    return _mm256_setzero_si256();
}
static inline v_i32 vi_load(const int32_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline void vi_store(int32_t *p, v_i32 v) {
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
static inline v_i32 vi_set(int32_t x) {
    return _mm256_set1_epi32(x);
}
static inline v_i32 vi_add(v_i32 a, v_i32 b) {
    return _mm256_add_epi32(a, b);
}
static inline v_f32 vi_to_float(v_i32 a) {
    return _mm256_cvtepi32_ps(a);
}
static inline void v_store_u8(uint8_t *p, v_f32 v, int64_t n) {
    __m256i whole = _mm256_cvtps_epi32(v);
    __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(half, half));
    memcpy(p, &bytes, n < VW ? (size_t)n : VW);
}
static inline v_f32 v_load_u8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
typedef struct v_s8 {
    __m256i even, odd;
} v_s8;
typedef v_s8 v_u8;
static inline v_s8 vs_load(const int8_t *p) {
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (v_s8){_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}
static inline v_u8 vu_set4(const uint8_t *p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    return (v_u8){_mm256_set1_epi32(quad & 0xff00ff), _mm256_set1_epi32(quad >> 8 & 0xff00ff)};
}
static inline v_u8 vu_opaque(v_u8 a) {
    __asm__ volatile("" : "+x"(a.even), "+x"(a.odd));
    return a;
}
static inline v_i32 vi_dot4(v_i32 sum, v_u8 a, v_s8 b) {
    return vi_add(sum, vi_add(_mm256_madd_epi16(a.even, b.even), _mm256_madd_epi16(a.odd, b.odd)));
}

#elif defined(__ARM_NEON)

#include <arm_neon.h>
#define VW 4
typedef float32x4_t v_f32;
typedef float64x2_t v_f64;
typedef uint32x4_t v_mask;

static inline v_f32 v_set(float x) {
    return vdupq_n_f32(x);
}
static inline v_f32 v_load(const float *p) {
    return vld1q_f32(p);
}
static inline void v_store(float *p, v_f32 v) {
    vst1q_f32(p, v);
}
static inline v_mask v_first(int64_t n) {
    static const uint32_t lanes[4] = {0, 1, 2, 3};
    return vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)n));
}
static inline v_f32 v_select(v_mask m, v_f32 yes, v_f32 no) {
    return vbslq_f32(m, yes, no);
}
static inline v_f32 v_load_first(const float *p, int64_t n, float fill) {
    float lanes[4] = {fill, fill, fill, fill};
    for (int64_t i = 0; i < n; i++)
        lanes[i] = p[i];
    return vld1q_f32(lanes);
}
static inline void v_store_first(float *p, v_f32 v, int64_t n) {
    float lanes[4];
    vst1q_f32(lanes, v);
    for (int64_t i = 0; i < n; i++)
        p[i] = lanes[i];
}
static inline v_f32 v_add(v_f32 a, v_f32 b) {
    return vaddq_f32(a, b);
}
static inline v_f32 v_sub(v_f32 a, v_f32 b) {
    return vsubq_f32(a, b);
}
static inline v_f32 v_mul(v_f32 a, v_f32 b) {
    return vmulq_f32(a, b);
}
static inline v_f32 v_div(v_f32 a, v_f32 b) {
    return vdivq_f32(a, b);
}
static inline v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c) {
    return vfmaq_f32(c, a, b);
}
static inline v_f32 v_fnma(v_f32 a, v_f32 b, v_f32 c) {
    return vfmsq_f32(c, a, b);
}
static inline v_mask v_lt(v_f32 a, v_f32 b) {
    return vcltq_f32(a, b);
}
static inline v_mask v_le(v_f32 a, v_f32 b) {
    return vcleq_f32(a, b);
}
static inline v_mask v_eq(v_f32 a, v_f32 b) {
    return vceqq_f32(a, b);
}
static inline v_mask v_isnan(v_f32 a) {
    return vmvnq_u32(vceqq_f32(a, a));
}
/* Compare and select instead of fmin and fmax, to have x86's rule for NaN: b. */
static inline v_f32 v_min(v_f32 a, v_f32 b) {
    return v_select(v_lt(a, b), a, b);
}
static inline v_f32 v_max(v_f32 a, v_f32 b) {
    return v_select(v_lt(b, a), a, b);
}
static inline v_f32 v_sqrt(v_f32 a) {
    return vsqrtq_f32(a);
}
static inline v_f32 v_round(v_f32 a) {
    return vrndnq_f32(a);
}
static inline v_f32 v_abs(v_f32 a) {
    return vabsq_f32(a);
}
static inline v_mask v_and(v_mask a, v_mask b) {
    return vandq_u32(a, b);
}
static inline v_mask v_or(v_mask a, v_mask b) {
    return vorrq_u32(a, b);
}
static inline int v_any(v_mask m) {
    return vmaxvq_u32(m) != 0;
}
static inline v_f32 v_ldexp(v_f32 a, v_f32 n) {
    int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), rest = vsubq_s32(whole, half), bias = vdupq_n_s32(127);
    float32x4_t s1 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    float32x4_t s2 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return v_mul(v_mul(a, s1), s2);
}
static inline float v_sum(v_f32 a) {
    return vaddvq_f32(a);
}
static inline v_f64 vd_set(double x) {
    return vdupq_n_f64(x);
}
static inline v_f64 vd_low(v_f32 a) {
    return vcvt_f64_f32(vget_low_f32(a));
}
static inline v_f64 vd_high(v_f32 a) {
    return vcvt_high_f64_f32(a);
}
static inline v_f64 vd_add(v_f64 a, v_f64 b) {
    return vaddq_f64(a, b);
}
static inline v_f64 vd_sub(v_f64 a, v_f64 b) {
    return vsubq_f64(a, b);
}
static inline v_f64 vd_mul(v_f64 a, v_f64 b) {
    return vmulq_f64(a, b);
}
static inline v_f64 vd_fma(v_f64 a, v_f64 b, v_f64 c) {
    return vfmaq_f64(c, a, b);
}
static inline double vd_sum(v_f64 a) {
    return vaddvq_f64(a);
}

typedef int32x4_t v_i32;

static inline v_i32 vi_zero(void) {
    return vdupq_n_s32(0);
}
static inline v_i32 vi_load(const int32_t *p) {
    return vld1q_s32(p);
}
static inline void vi_store(int32_t *p, v_i32 v) {
    vst1q_s32(p, v);
}
static inline v_i32 vi_set(int32_t x) {
    return vdupq_n_s32(x);
}
static inline v_i32 vi_add(v_i32 a, v_i32 b) {
    return vaddq_s32(a, b);
}
static inline v_f32 vi_to_float(v_i32 a) {
    return vcvtq_f32_s32(a);
}
static inline void v_store_u8(uint8_t *p, v_f32 v, int64_t n) {
    uint16x4_t half = vmovn_u32(vcvtq_u32_f32(v));
    uint8x8_t bytes = vmovn_u16(vcombine_u16(half, half));
    memcpy(p, &bytes, n < VW ? (size_t)n : VW);
}
static inline v_f32 v_load_u8(const uint8_t *p) {
    uint8x8_t bytes = vdup_n_u8(0);
    memcpy(&bytes, p, VW);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}
#if defined(__ARM_FEATURE_DOTPROD)
/* The product is of signed bytes: a - 128 takes a's place, and vi_dot4_rest is what that leaves out, per column, to be doubled. */
#define VI_DOT4_RESTS 1
typedef int8x16_t v_s8, v_u8;
static inline v_s8 vs_load(const int8_t *p) {
    return vld1q_s8(p);
}
static inline v_u8 vu_set4(const uint8_t *p) {
    uint32_t quad;
    memcpy(&quad, p, 4);
    return vreinterpretq_s8_u32(vdupq_n_u32(quad ^ 0x80808080u));
}
static inline v_u8 vu_opaque(v_u8 a) {
    __asm__ volatile("" : "+w"(a));
    return a;
}
static inline v_i32 vi_dot4(v_i32 sum, v_u8 a, v_s8 b) {
    return vdotq_s32(sum, a, b);
}
static inline v_i32 vi_dot4_rest(v_i32 sum, v_s8 b) {
    return vdotq_s32(sum, vdupq_n_s8(64), b);
}
#else
typedef struct v_s8 {
    int16x8_t even, odd;
} v_s8;
typedef v_s8 v_u8;
static inline v_s8 vs_load(const int8_t *p) {
    int16x8_t v = vreinterpretq_s16_s8(vld1q_s8(p));
    return (v_s8){vshrq_n_s16(vshlq_n_s16(v, 8), 8), vshrq_n_s16(v, 8)};
}
static inline v_u8 vu_set4(const uint8_t *p) {
    int32_t quad;
    memcpy(&quad, p, 4);
    return (v_u8){vreinterpretq_s16_s32(vdupq_n_s32(quad & 0xff00ff)), vreinterpretq_s16_s32(vdupq_n_s32(quad >> 8 & 0xff00ff))};
}
static inline v_u8 vu_opaque(v_u8 a) {
    __asm__ volatile("" : "+w"(a.even), "+w"(a.odd));
    return a;
}
/* 255 x -128 fits 16 bits; the sum of two need not, so they widen as they are added. */
static inline v_i32 vi_dot4(v_i32 sum, v_u8 a, v_s8 b) {
    return vpadalq_s16(vpadalq_s16(sum, vmulq_s16(a.even, b.even)), vmulq_s16(a.odd, b.odd));
}
#endif

#else
#error "simd.h needs AVX-512, AVX2 or NEON; the reference table needs no vectors"
#endif

/* ---- the same for every instruction set ---------------------------------------------------------------------------- */

#if !defined(VI_DOT4_RESTS)
#define VI_DOT4_RESTS 0
static inline v_i32 vi_dot4_rest(v_i32 sum, v_s8 b) {
    (void)b;
    return sum;
}
#endif

/* The next n elements, as far as a vector holds them: loads and stores of loops that end in part of a vector. */
static inline v_f32 v_load_n(const float *p, int64_t n, float fill) {
    return n >= VW ? v_load(p) : v_load_first(p, n, fill);
}
static inline void v_store_n(float *p, v_f32 v, int64_t n) {
    if (n >= VW)
        v_store(p, v);
    else
        v_store_first(p, v, n);
}
static inline v_f32 v_zero(void) {
    return v_set(0.0f);
}
static inline v_f32 v_neg(v_f32 a) {
    return v_sub(v_set(-0.0f), a);
}
/* NaN when either is NaN. */
static inline v_f32 v_max_nan(v_f32 a, v_f32 b) {
    return v_select(v_isnan(a), a, v_max(a, b));
}
static inline v_f32 v_min_nan(v_f32 a, v_f32 b) {
    return v_select(v_isnan(a), a, v_min(a, b));
}
/* The largest lane (smallest), NaN when any lane is. Once per row, so plain lanes are quick enough. */
static inline float v_reduce_max(v_f32 a) {
    float lane[VW], best;
    v_store(lane, a);
    best = lane[0];
    for (int i = 1; i < VW; i++)
        best = lane[i] > best || lane[i] != lane[i] ? lane[i] : best;
    return best;
}
static inline float v_reduce_min(v_f32 a) {
    float lane[VW], best;
    v_store(lane, a);
    best = lane[0];
    for (int i = 1; i < VW; i++)
        best = lane[i] < best || lane[i] != lane[i] ? lane[i] : best;
    return best;
}

/* exp(x) within 1 ulp for every float: n = round(x / ln 2), r = x - n ln 2 in two parts, e^r by a polynomial of degree 6 (minimax on
 * |r| <= ln2/2, relative error 3.7e-9), times 2^n. -inf gives 0, large gives +inf, subnormals are right, NaN stays NaN (it is the second
 * operand of the clamps). */
static inline v_f32 v_exp(v_f32 x) {
    const v_f32 lowest = v_set(-106.0f), highest = v_set(90.0f); /* beyond: 0 and +inf */
    const v_f32 log2e = v_set(0x1.715476p+0f), ln2_high = v_set(0x1.62e43p-1f), ln2_low = v_set(-0x1.05c61p-29f);
    x = v_min(highest, v_max(lowest, x));
    v_f32 n = v_round(v_mul(x, log2e));
    v_f32 r = v_fnma(n, ln2_low, v_fnma(n, ln2_high, x));
    v_f32 q = v_set(0x1.6a23cap-10f);
    q = v_fma(q, r, v_set(0x1.123a2p-7f));
    q = v_fma(q, r, v_set(0x1.5558f2p-5f));
    q = v_fma(q, r, v_set(0x1.555492p-3f));
    q = v_fma(q, r, v_set(0x1.fffffcp-2f));
    return v_ldexp(v_fma(v_mul(r, r), q, v_add(r, v_set(1.0f))), n);
}

#endif
