/* replay.c -- runs a fuzz target without libFuzzer: over each file of a folder, and over what a fixed mutator makes of it: every
 * truncation, every byte and every number changed to what hurts, pieces doubled, dropped and moved. The same inputs on every machine. Each
 * input ends where a page ends that nobody may read past, so that reading too far is found without a sanitizer too.
 * Usage: fuzz_<format> FOLDER [RANDOM_INPUTS [PLACES]]: more bytes than PLACES (4096) of a file are not all changed, but samples of them */
#define _GNU_SOURCE
#include "base.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool fuzz_input(const uint8_t *data, size_t size);

enum { SIZE_MAX_BYTES = 1 << 16, FILES_MAX = 256 };

static uint8_t *end; /* of the readable room */
static int64_t inputs, accepted;
static size_t places = 4096;

static bool run(const uint8_t *data, size_t size) {
    if (size > SIZE_MAX_BYTES)
        return false;
    if (size)
        memcpy(end - size, data, size);
    inputs++;
    bool good = fuzz_input(end - size, size);
    accepted += good;
    return good;
}

static void run_truncations(const uint8_t *data, size_t size) {
    for (size_t n = 0; n < size; n += n < places ? 1 : 61)
        run(data, n);
}

static void run_changes(uint8_t *copy, size_t size, uint64_t key) {
    static const uint64_t numbers[] = {0,         1,          2,          0x7f,           0xff,       0x7fff,
                                       0xffff,    0x7fffffff, 0x80000000, 0xffffffff,     0xfffffff0, 0x3fffffffffffffff,
                                       INT64_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - 31};
    const size_t step = 1 + size / places;
    for (size_t i = 0; i < size; i += step) {
        const uint8_t kept = copy[i], flips[] = {1, 0x20, 0x80, 0xff, kept, (uint8_t)gm_rng_u64(key, i)}; /* x ^ x: zero */
        for (int k = 0; k < GM_COUNT(flips); k++) {
            copy[i] = kept ^ flips[k];
            run(copy, size);
        }
        copy[i] = kept;
    }
    for (size_t i = 0; i < size; i += step) {
        size_t width = i % 2 ? 4 : 8; /* both at every second place: numbers in files stand at even ones, mostly */
        if (i + width > size)
            break;
        uint8_t kept[8];
        memcpy(kept, copy + i, width);
        for (int k = 0; k < GM_COUNT(numbers); k++) {
            memcpy(copy + i, &numbers[k], width);
            run(copy, size);
            memcpy(copy + i, kept, width);
            if (width == 8) {
                memcpy(copy + i, &numbers[k], 4);
                run(copy, size);
                memcpy(copy + i, kept, width);
            }
        }
    }
}

/* Several edits at once: bytes, and pieces doubled, dropped, moved, or taken from another file. */
static void run_random(const uint8_t *data, size_t size, const uint8_t *other, size_t other_size, uint64_t key, int64_t count) {
    static uint8_t copy[SIZE_MAX_BYTES];
    for (int64_t i = 0; i < count; i++) {
        uint64_t draw = gm_rng_u64(key, (uint64_t)i), c = 0;
        size_t n = size;
        memcpy(copy, data, n);
        for (int64_t edits = 1 + gm_rng_below(draw, c++, 4); edits > 0 && n > 0; edits--) {
            size_t from = (size_t)gm_rng_below(draw, c++, (int64_t)n), to = (size_t)gm_rng_below(draw, c++, (int64_t)n);
            size_t length = 1 + (size_t)gm_rng_below(draw, c++, (int64_t)GM_MIN(n - GM_MAX(from, to), 64));
            switch (gm_rng_below(draw, c++, 5)) {
            case 0:
                copy[to] = (uint8_t)gm_rng_u64(draw, c++);
                break;
            case 1:
                memmove(copy + to, copy + from, length);
                break;
            case 2:
                memmove(copy + to, copy + to + length, n - to - length);
                n -= length;
                break;
            case 3:
                if (n + length <= SIZE_MAX_BYTES) {
                    memmove(copy + to + length, copy + to, n - to);
                    n += length;
                }
                break;
            default:
                if (from < other_size)
                    memcpy(copy + to, other + from, GM_MIN(length, other_size - from));
            }
        }
        run(copy, n);
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv) {
    gm_error err;
    gm_file files[FILES_MAX];
    char *names[FILES_MAX];
    int count = 0;
    if (argc < 2)
        return fprintf(stderr, "usage: %s FOLDER [RANDOM_INPUTS [PLACES]]\n", argv[0]), 2;
    if (argc > 3)
        places = (size_t)atoll(argv[3]);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *room = mmap(NULL, SIZE_MAX_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    DIR *folder = opendir(argv[1]);
    if (room == MAP_FAILED || !folder || mprotect(room + SIZE_MAX_BYTES, page, PROT_NONE) != 0)
        return perror(argv[1]), 1;
    end = room + SIZE_MAX_BYTES;
    for (struct dirent *entry; (entry = readdir(folder)) && count < FILES_MAX;) {
        if (entry->d_name[0] != '.')
            names[count++] = strdup(entry->d_name);
    }
    closedir(folder);
    qsort(names, (size_t)count, sizeof *names, by_name);
    for (int i = 0; i < count; i++) {
        char path[1024];
        if (gm_path_join(path, sizeof path, argv[1], names[i], &err) != GM_OK || gm_file_open(&files[i], path, &err) != GM_OK)
            return fprintf(stderr, "%s\n", err.msg), 1;
        bool good = strncmp(names[i], "bad_", 4) != 0;
        if (files[i].size > SIZE_MAX_BYTES || run(files[i].data, files[i].size) != good)
            return fprintf(stderr, "%s: %s\n", path, good ? "a good file is refused" : "a bad file is accepted"), 1;
    }
    for (int i = 0; i < count; i++) {
        static uint8_t copy[SIZE_MAX_BYTES];
        const gm_file *other = &files[(i + 1) % count];
        uint64_t key = gm_rng_key(1, names[i]);
        memcpy(copy, files[i].data, files[i].size);
        run_truncations(copy, files[i].size);
        run_changes(copy, files[i].size, key);
        run_random(files[i].data, files[i].size, other->data, other->size, key, argc > 2 ? atoll(argv[2]) : 1000);
    }
    printf("%d files, %lld inputs, %lld of them accepted\n", count, (long long)inputs, (long long)accepted);
    for (int i = 0; i < count; i++) {
        gm_file_close(&files[i]);
        free(names[i]);
    }
    munmap(room, SIZE_MAX_BYTES + page);
    return count ? 0 : 1;
}
