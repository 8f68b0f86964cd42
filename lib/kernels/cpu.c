/* cpu.c -- which kernel tables this machine can run. CPUID says what the processor has, XGETBV what the system saves and restores. */
/* syscall() is an extension. */
#undef _POSIX_C_SOURCE
#define _DEFAULT_SOURCE
#include "kernels.h"

#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__)

#include <cpuid.h>

static const gm_kernels *const family[] = {&gm_kernels_ref, &gm_kernels_avx2, &gm_kernels_avx512, &gm_kernels_avx512vnni,
                                           &gm_kernels_avx512amx};

static uint32_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* AMX's registers are large, so Linux saves them only for processes that ask; asking again is harmless. */
static bool tiles_granted(void) {
#if defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return (saved_state() & (3u << 17)) == 3u << 17 && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

static int highest_level(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29 };          /* leaf 1, ecx */
    enum { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17, AVX512BW = 1 << 30 }; /* leaf 7, ebx */
    enum { AVX512VNNI = 1 << 11 };                                                     /* leaf 7, ecx */
    enum { AMX = 1 << 24 | 1 << 25 };                                                  /* leaf 7, edx: tiles, 8-bit products */
    const uint32_t AVX512VL = 1u << 31, YMM = 0x6, ZMM = 0xe6;                         /* leaf 7, ebx; xcr0 */
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    const uint32_t need1 = FMA | OSXSAVE | AVX | F16C;
    if ((c & need1) != need1 || (saved_state() & YMM) != YMM)
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2))
        return 0;
    const uint32_t need7 = AVX512F | AVX512DQ | AVX512BW | AVX512VL;
    if ((b & need7) != need7 || (saved_state() & ZMM) != ZMM)
        return 1;
    if (!(c & AVX512VNNI))
        return 2;
    return (d & AMX) == AMX && tiles_granted() ? 4 : 3;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

static const gm_kernels *const family[] = {&gm_kernels_ref, &gm_kernels_neon, &gm_kernels_neondot};

static int highest_level(void) {
    enum { DOT_PRODUCT = 1 << 20 };                   /* HWCAP_ASIMDDP */
    return getauxval(AT_HWCAP) & DOT_PRODUCT ? 2 : 1; /* NEON itself is part of the base architecture */
}

#else

static const gm_kernels *const family[] = {&gm_kernels_ref};

static int highest_level(void) {
    return 0;
}

#endif

const gm_kernels *gm_kernels_at(int level) {
    return level >= 0 && level <= highest_level() ? family[level] : NULL;
}

const gm_kernels *gm_kernels_built(int level) {
    return level >= 0 && level < (int)(sizeof family / sizeof family[0]) ? family[level] : NULL;
}

const gm_kernels *gm_kernels_select(const char *isa) {
    int best = highest_level();
    if (!isa)
        return family[best];
    for (int i = 0; gm_kernels_built(i); i++) {
        if (strcmp(isa, family[i]->isa) == 0)
            return family[i < best ? i : best];
    }
    return NULL;
}
