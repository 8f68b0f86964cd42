/* fuzz.h -- a fuzz target is tests/fuzz/fuzz_<format>.c: it includes this file, defines fuzz_input, and has files of its format under
 * tests/fuzz/corpus/<format>/ (small; tools/make_fuzz_corpus.py makes them). `make test` runs it over these files and what a fixed
 * mutator makes of them (replay.c); `make fuzz` lets libFuzzer search. A file named bad_... must be refused, any other one accepted. */
#ifndef GM_TEST_FUZZ_H
#define GM_TEST_FUZZ_H

#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads the bytes and asserts what must hold for any: an error with a message and an offset inside the file, or something that survives
 * being written and read again. True: they were accepted. */
bool fuzz_input(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                             \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* A refusal is one line that says something, and its offset (-1: none) is no place past the end. */
static inline void fuzz_refusal(gm_status status, const gm_error *err, size_t size) {
    FUZZ_CHECK(status == err->code && err->msg[0] && !strchr(err->msg, '\n'));
    FUZZ_CHECK(err->offset >= -1 && err->offset <= (int64_t)size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size); /* as aligned as a mapped file, which AFL++'s buffer is not, and with nothing behind it */
    FUZZ_CHECK(copy);
    memcpy(copy, data, size);
    fuzz_input(copy, size);
    free(copy);
    return 0;
}

#endif
