/* test_memory.c -- what gm_alloc promises: aligned, zeroed, checked for overflow, counted; and that the address sanitizer sees a step past
 * the end of any block, of one byte or of many. */
#include "base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define __asan_address_is_poisoned(p) 1
#endif

static void blocks(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 4, 40, 63, 64, 65, 1000, 4 << 20, (8 << 20) + 4}; /* the last two: of the system's own pages */
    for (int i = 0; i < GM_COUNT(sizes); i++) {
        const int64_t count = gm_alloc_count();
        for (int again = 0; again < 2; again++) { /* what was written before is gone */
            uint8_t *p = gm_alloc(sizes[i], 1);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 64, 0);
            assert_true(p[0] == 0 && memcmp(p, p + 1, sizes[i] - 1) == 0);
            assert_true(__asan_address_is_poisoned(p + sizes[i]));
            memset(p, 0xa5, sizes[i]);
            gm_free(p);
        }
        assert_int_equal(gm_alloc_count(), count + 2);
    }
}

static void too_many(void **state) {
    (void)state;
    assert_null(gm_alloc(SIZE_MAX / 4 + 2, 4));
    assert_null(gm_alloc(SIZE_MAX, 1));
    gm_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks), cmocka_unit_test(too_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
