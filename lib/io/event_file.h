/* event_file.h -- TensorBoard's event files: records (length, masked CRC32C, protocol buffer, masked CRC32C), appended with one write each.
 *
 * A resumed run cuts what the killed one wrote past its saved state out of its old files, and goes on in a new one that begins with
 * "session start" at the next step. So every reader sees each step once: one that begins now, since the files hold no step twice, and a
 * TensorBoard that is looking on, since it drops what it has from that step on and goes over to the newer file. */
#ifndef GM_EVENT_FILE_H
#define GM_EVENT_FILE_H

#include "base.h"
#include "histogram.h"

typedef enum gm_event_kind { GM_EVENT_OTHER, GM_EVENT_SCALAR, GM_EVENT_HISTOGRAM, GM_EVENT_IMAGE, GM_EVENT_TEXT } gm_event_kind;

typedef struct gm_event_value {
    gm_event_kind kind;
    const char *tag; /* "train/loss": the part before the slash is TensorBoard's heading */
    float scalar;
    double min, max, num, sum, sum_squares; /* HISTOGRAM, with its buckets (histogram.h) */
    const double *limits, *counts;
    int buckets;
    int width, height; /* IMAGE */
    const void *bytes; /* IMAGE: a PNG; TEXT: markdown */
    size_t size;
} gm_event_value;

/* A histogram as a value; limits and counts [GM_HISTOGRAM_BINS] are its room. */
gm_event_value gm_event_of_histogram(const char *tag, const gm_histogram *h, double *limits, double *counts);

/* ---- writing */

typedef struct gm_event_file {
    int fd;
    char path[1024];
} gm_event_file;

/* A new file "events.out.tfevents.<time>.ghostmax" in folder. keep_step >= 0: older ones of ours stay, cut behind that step; -1: they are
 * removed. Other programs' files are left alone. Errors: GM_EIO; GM_EFORMAT with the offset (damage before the last record, nothing
 * touched). */
gm_status gm_event_file_open(gm_event_file *f, const char *folder, int64_t keep_step, gm_error *err);
/* One record: some values of one step. */
gm_status gm_event_file_add(gm_event_file *f, int64_t step, const gm_event_value *values, int count, gm_error *err);
/* A text for people, in markdown, at step 0. */
gm_status gm_event_file_add_text(gm_event_file *f, const char *tag, const char *text, gm_error *err);
gm_status gm_event_file_sync(gm_event_file *f, gm_error *err); /* what was added survives a power cut */
void gm_event_file_close(gm_event_file *f);                    /* closing twice, or after a failed open, is fine */

/* ---- reading */

typedef struct gm_event {
    double wall_time;
    int64_t step;
    bool session_start;
    const char *file_version; /* "" but in a file's first record */
    gm_event_value *values;   /* valid until gm_event_free, with all they point to */
    int count;
    void *message;
} gm_event;

typedef struct gm_event_reader {
    const uint8_t *data; /* the file's bytes */
    size_t size, at;     /* at: where the next record begins */
    const char *name;    /* of the file, for messages */
} gm_event_reader;

/* The next record. *more is false at the end, and at a last record that is cut off (a writer may be at it): then at < size. Errors:
 * GM_EFORMAT (a checksum, a message: offset), GM_ENOMEM. Test: tests/io/test_event_file.c; the real reader: tests/interop/ */
gm_status gm_event_next(gm_event_reader *r, gm_event *event, bool *more, gm_error *err);
void gm_event_free(gm_event *event);

/* As one record's bytes, which gm_event_next reads to the same; *bytes is freed with free(). */
gm_status gm_event_pack(uint8_t **bytes, size_t *size, const gm_event *event, gm_error *err);

#endif
