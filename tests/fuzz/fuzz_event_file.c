/* fuzz_event_file.c -- TensorBoard's event files: every record that is accepted survives being written and read again. */
#include "event_file.h"
#include "fuzz.h"

#include <math.h>

static bool same_number(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

static bool same_numbers(const double *a, const double *b, int n) {
    for (int i = 0; i < n; i++) {
        if (!same_number(a[i], b[i]))
            return false;
    }
    return true;
}

static void check_value(const gm_event_value *a, const gm_event_value *b) {
    FUZZ_CHECK(a->kind == b->kind && strcmp(a->tag, b->tag) == 0);
    FUZZ_CHECK(same_number(a->scalar, b->scalar) && a->width == b->width && a->height == b->height);
    FUZZ_CHECK(same_number(a->min, b->min) && same_number(a->max, b->max) && same_number(a->num, b->num));
    FUZZ_CHECK(same_number(a->sum, b->sum) && same_number(a->sum_squares, b->sum_squares));
    FUZZ_CHECK(a->buckets == b->buckets && same_numbers(a->limits, b->limits, a->buckets) &&
               same_numbers(a->counts, b->counts, a->buckets));
    FUZZ_CHECK(a->size == b->size && (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0));
}

static void check_again(const gm_event *event) {
    uint8_t *bytes;
    size_t size;
    gm_event again;
    bool more;
    gm_error err = {.offset = -1};
    FUZZ_CHECK(gm_event_pack(&bytes, &size, event, &err) == GM_OK);
    gm_event_reader r = {.data = bytes, .size = size, .name = "again"};
    FUZZ_CHECK(gm_event_next(&r, &again, &more, &err) == GM_OK && more && r.at == size);
    FUZZ_CHECK(same_number(again.wall_time, event->wall_time) && again.step == event->step && again.count == event->count);
    FUZZ_CHECK(again.session_start == event->session_start && strcmp(again.file_version, event->file_version) == 0);
    for (int i = 0; i < event->count; i++)
        check_value(&event->values[i], &again.values[i]);
    gm_event_free(&again);
    free(bytes);
}

static bool read_all(const uint8_t *data, size_t size) {
    gm_event_reader r = {.data = data, .size = size, .name = "input"};
    for (bool more = true; more;) {
        gm_event event;
        gm_error err = {.offset = -1};
        size_t at = r.at;
        gm_status status = gm_event_next(&r, &event, &more, &err);
        if (status != GM_OK) {
            fuzz_refusal(status, &err, size);
            FUZZ_CHECK(err.offset >= (int64_t)at && r.at == at && !more);
            return false;
        }
        FUZZ_CHECK(more == (r.at > at) && r.at <= size);
        if (more)
            check_again(&event);
        gm_event_free(&event);
    }
    return r.at == size;
}

/* CRC32C as its definition has it, masked; into four bytes. */
static void put_crc(uint8_t *to, const uint8_t *bytes, size_t n) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n * 8; i++) {
        uint32_t bit = (bytes[i / 8] >> (i % 8)) & 1;
        crc = (crc >> 1) ^ ((crc ^ bit) & 1 ? 0x82f63b78 : 0);
    }
    crc = ~crc;
    crc = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
    memcpy(to, &crc, sizeof crc);
}

/* Few inputs have right checksums, so what is behind them is reached with checksums put right. */
bool fuzz_input(const uint8_t *data, size_t size) {
    bool good = read_all(data, size);
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, data, size);
    for (size_t at = 0; !good && size - at >= 16;) {
        uint64_t length;
        memcpy(&length, copy + at, sizeof length);
        if (length > size - at - 16) {
            length = size - at - 16; /* the rest as one record */
            memcpy(copy + at, &length, sizeof length);
        }
        put_crc(copy + at + 8, copy + at, 8);
        put_crc(copy + at + 12 + length, copy + at + 12, (size_t)length);
        at += 16 + (size_t)length;
    }
    if (!good)
        read_all(copy, size);
    free(copy);
    return good;
}
