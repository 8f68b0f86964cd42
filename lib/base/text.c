/* text.c -- growing text, strict numbers, nearest names. */
#include "base.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(gm_text *t, size_t extra) {
    if (t->failed || extra > SIZE_MAX / 4 - t->size) {
        t->failed = true;
        return false;
    }
    size_t need = t->size + extra + 1;
    if (need > t->capacity) {
        size_t capacity = GM_MAX(need, t->capacity * 2);
        char *data = realloc(t->data, capacity);
        if (!data) {
            t->failed = true;
            return false;
        }
        t->data = data;
        t->capacity = capacity;
    }
    return true;
}

void gm_text_add(gm_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->size, (size_t)n + 1, format, again);
        t->size += (size_t)n;
    }
    va_end(again);
}

void gm_text_bytes(gm_text *t, const void *bytes, size_t n) {
    if (!reserve(t, n))
        return;
    if (n)
        memcpy(t->data + t->size, bytes, n);
    t->size += n;
    t->data[t->size] = 0;
}

void gm_text_free(gm_text *t) {
    free(t->data);
    *t = (gm_text){0};
}

/* Levenshtein distance with one row; words longer than the row are never near. */
static int distance(const char *a, const char *b) {
    int row[65], n = (int)strlen(b);
    if (n > 64 || strlen(a) > 64)
        return 99;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = GM_MIN(change, GM_MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

const char *gm_text_nearest(const char *word, const char *const *candidates) {
    const char *best = NULL;
    int best_distance = (int)strlen(word) / 3 + 2; /* a typo or two, more for long words */
    for (; *candidates; candidates++) {
        int d = distance(word, *candidates);
        if (d < best_distance) {
            best = *candidates;
            best_distance = d;
        }
    }
    return best;
}

int gm_text_choice(const char *values, const char *word) {
    size_t n = strlen(word);
    for (int i = 0;; i++) {
        size_t length = strcspn(values, "|");
        if (length == n && memcmp(values, word, n) == 0)
            return i;
        if (!values[length])
            return -1;
        values += length + 1;
    }
}

gm_status gm_text_int(int64_t *out, const char *text, int64_t min, int64_t max, const char *what, gm_error *err) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end)
        return gm_fail(err, GM_EINVAL, "%s: '%s' is not a whole number", what, text);
    if (value < min || value > max || errno == ERANGE)
        return gm_fail(err, GM_EINVAL, "%s: %s is out of range, it must be %lld..%lld", what, text, (long long)min, (long long)max);
    *out = value;
    return GM_OK;
}

gm_status gm_text_double(double *out, const char *text, double min, double max, const char *what, gm_error *err) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || isnan(value))
        return gm_fail(err, GM_EINVAL, "%s: '%s' is not a number", what, text);
    if (!(value >= min && value <= max))
        return gm_fail(err, GM_EINVAL, "%s: %g is out of range, it must be %g..%g", what, value, min, max);
    *out = value;
    return GM_OK;
}
