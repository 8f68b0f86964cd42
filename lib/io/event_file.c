/* event_file.c -- records around protobuf-c's messages (event.proto), and what of older files stands when a run goes on. */
#include "event_file.h"

#include "event.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lengths and checksums in files are little-endian");

enum { HEAD = 12 /* length, its checksum */, TAIL = 4, STRINGS = 7 /* a tensor's type */ };
static const char version[] = "brain.Event:2";
static const char prefix[] = "events.out.tfevents.", suffix[] = ".ghostmax";

/* ---- the checksum: CRC32C (Castagnoli), rotated and shifted so that a checksum of checksums is none */

static uint32_t masked_crc(const uint8_t *bytes, size_t n) {
    static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        crc = nibble[crc & 15] ^ (crc >> 4);
        crc = nibble[crc & 15] ^ (crc >> 4);
    }
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static uint32_t word_at(const uint8_t *bytes) {
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* ---- values: ours to theirs, and back */

gm_event_value gm_event_of_histogram(const char *tag, const gm_histogram *h, double *limits, double *counts) {
    return (gm_event_value){.kind = GM_EVENT_HISTOGRAM,
                            .tag = tag,
                            .min = h->count ? h->min : 0,
                            .max = h->count ? h->max : 0,
                            .num = (double)h->count,
                            .sum = h->sum,
                            .sum_squares = h->sum_squares,
                            .limits = limits,
                            .counts = counts,
                            .buckets = gm_histogram_buckets(h, limits, counts)};
}

/* Room for one value's message and all its parts: what it does not use costs nothing. */
typedef struct value_parts {
    GmTb__Summary__Value value;
    GmTb__Summary__Image image;
    GmTb__Histogram histogram;
    GmTb__Metadata metadata;
    GmTb__Metadata__Plugin plugin;
    GmTb__Tensor tensor;
    GmTb__Shape shape;
    ProtobufCBinaryData text;
} value_parts;

static void fill_value(value_parts *p, const gm_event_value *v) {
    gm_tb__summary__value__init(&p->value);
    p->value.tag = (char *)v->tag;
    switch (v->kind) {
    case GM_EVENT_SCALAR:
        p->value.has_simple_value = true;
        p->value.simple_value = v->scalar;
        break;
    case GM_EVENT_HISTOGRAM:
        gm_tb__histogram__init(&p->histogram);
        p->value.histo = &p->histogram;
        p->histogram.has_min = p->histogram.has_max = p->histogram.has_num = p->histogram.has_sum = p->histogram.has_sum_squares = true;
        p->histogram.min = v->min;
        p->histogram.max = v->max;
        p->histogram.num = v->num;
        p->histogram.sum = v->sum;
        p->histogram.sum_squares = v->sum_squares;
        p->histogram.bucket_limit = (double *)v->limits;
        p->histogram.bucket = (double *)v->counts;
        p->histogram.n_bucket_limit = p->histogram.n_bucket = (size_t)v->buckets;
        break;
    case GM_EVENT_IMAGE:
        gm_tb__summary__image__init(&p->image);
        p->value.image = &p->image;
        p->image.has_width = p->image.has_height = p->image.has_colorspace = p->image.has_encoded = true;
        p->image.width = v->width;
        p->image.height = v->height;
        p->image.colorspace = 3;
        p->image.encoded = (ProtobufCBinaryData){v->size, (uint8_t *)v->bytes};
        break;
    case GM_EVENT_TEXT:
        gm_tb__metadata__init(&p->metadata);
        gm_tb__metadata__plugin__init(&p->plugin);
        gm_tb__tensor__init(&p->tensor);
        gm_tb__shape__init(&p->shape);
        p->value.metadata = &p->metadata;
        p->metadata.plugin_data = &p->plugin;
        p->plugin.plugin_name = (char *)"text";
        p->value.tensor = &p->tensor;
        p->tensor.has_dtype = true;
        p->tensor.dtype = STRINGS;
        p->tensor.tensor_shape = &p->shape;
        p->text = (ProtobufCBinaryData){v->size, (uint8_t *)v->bytes};
        p->tensor.string_val = &p->text;
        p->tensor.n_string_val = 1;
        break;
    case GM_EVENT_OTHER:
        break;
    }
}

static gm_event_value read_value(const GmTb__Summary__Value *theirs) {
    gm_event_value v = {.tag = theirs->tag ? theirs->tag : ""};
    const GmTb__Metadata__Plugin *plugin = theirs->metadata ? theirs->metadata->plugin_data : NULL;
    if (theirs->has_simple_value) {
        v.kind = GM_EVENT_SCALAR;
        v.scalar = theirs->simple_value;
    } else if (theirs->histo && theirs->histo->n_bucket == theirs->histo->n_bucket_limit) {
        const GmTb__Histogram *h = theirs->histo;
        v.kind = GM_EVENT_HISTOGRAM;
        v.min = h->min;
        v.max = h->max;
        v.num = h->num;
        v.sum = h->sum;
        v.sum_squares = h->sum_squares;
        v.limits = h->bucket_limit;
        v.counts = h->bucket;
        v.buckets = (int)h->n_bucket;
    } else if (theirs->image) {
        v.kind = GM_EVENT_IMAGE;
        v.width = theirs->image->width;
        v.height = theirs->image->height;
        v.bytes = theirs->image->encoded.data;
        v.size = theirs->image->encoded.len;
    } else if (plugin && plugin->plugin_name && strcmp(plugin->plugin_name, "text") == 0 && theirs->tensor &&
               theirs->tensor->n_string_val == 1) {
        v.kind = GM_EVENT_TEXT;
        v.bytes = theirs->tensor->string_val[0].data;
        v.size = theirs->tensor->string_val[0].len;
    }
    return v;
}

/* ---- records */

gm_status gm_event_pack(uint8_t **bytes, size_t *size, const gm_event *event, gm_error *err) {
    GmTb__Event message = GM_TB__EVENT__INIT;
    GmTb__Summary summary = GM_TB__SUMMARY__INIT;
    GmTb__SessionLog session = GM_TB__SESSION_LOG__INIT;
    value_parts *parts = calloc((size_t)event->count + 1, sizeof *parts);
    GmTb__Summary__Value **values = calloc((size_t)event->count + 1, sizeof *values);
    message.has_wall_time = true;
    message.wall_time = event->wall_time;
    message.has_step = event->step != 0;
    message.step = event->step;
    message.file_version = *event->file_version ? (char *)event->file_version : NULL;
    session.has_status = true;
    session.status = GM_TB__SESSION_LOG__STATUS__START;
    message.session_log = event->session_start ? &session : NULL;
    for (int i = 0; parts && values && i < event->count; i++) {
        fill_value(&parts[i], &event->values[i]);
        values[i] = &parts[i].value;
    }
    summary.value = values;
    summary.n_value = (size_t)event->count;
    message.summary = event->count ? &summary : NULL;
    *bytes = NULL;
    *size = 0;
    if (parts && values) {
        uint64_t length = gm_tb__event__get_packed_size(&message);
        *size = HEAD + (size_t)length + TAIL;
        *bytes = malloc(*size);
        if (*bytes) {
            memcpy(*bytes, &length, sizeof length);
            uint32_t crc = masked_crc(*bytes, sizeof length);
            memcpy(*bytes + sizeof length, &crc, sizeof crc);
            gm_tb__event__pack(&message, *bytes + HEAD);
            crc = masked_crc(*bytes + HEAD, (size_t)length);
            memcpy(*bytes + HEAD + length, &crc, sizeof crc);
        }
    }
    free(parts);
    free(values);
    return *bytes ? GM_OK : gm_fail_memory(err, *size);
}

static gm_status damaged(const gm_event_reader *r, size_t at, const char *what, gm_error *err) {
    return gm_fail_at(err, GM_EFORMAT, (int64_t)at, "'%s' is damaged: %s at byte %zu; remove the file", r->name, what, at);
}

gm_status gm_event_next(gm_event_reader *r, gm_event *event, bool *more, gm_error *err) {
    *event = (gm_event){.file_version = ""};
    *more = false;
    const size_t left = r->size - r->at;
    const uint8_t *record = r->data + r->at;
    uint64_t length;
    if (left < HEAD)
        return GM_OK;
    memcpy(&length, record, sizeof length);
    if (masked_crc(record, sizeof length) != word_at(record + sizeof length))
        return damaged(r, r->at, "a record's length has the wrong checksum", err);
    if (left < HEAD + TAIL || length > left - HEAD - TAIL)
        return GM_OK;
    if (masked_crc(record + HEAD, (size_t)length) != word_at(record + HEAD + length))
        return damaged(r, r->at + HEAD, "a record has the wrong checksum", err);
    GmTb__Event *message = gm_tb__event__unpack(NULL, (size_t)length, record + HEAD);
    if (!message)
        return damaged(r, r->at + HEAD, "a record is no event", err);
    event->message = message;
    event->wall_time = message->wall_time;
    event->step = message->step;
    event->file_version = message->file_version ? message->file_version : "";
    event->session_start = message->session_log && message->session_log->status == GM_TB__SESSION_LOG__STATUS__START;
    event->count = message->summary ? (int)message->summary->n_value : 0;
    event->values = calloc((size_t)event->count + 1, sizeof *event->values);
    if (!event->values) {
        gm_event_free(event);
        return gm_fail_memory(err, (size_t)event->count * sizeof *event->values);
    }
    for (int i = 0; i < event->count; i++)
        event->values[i] = read_value(message->summary->value[i]);
    r->at += HEAD + (size_t)length + TAIL;
    *more = true;
    return GM_OK;
}

void gm_event_free(gm_event *event) {
    if (event->message)
        gm_tb__event__free_unpacked(event->message, NULL);
    free(event->values);
    *event = (gm_event){.file_version = ""};
}

/* ---- files */

/* events.out.tfevents.<time>.ghostmax: the time, -1 for any other name. */
static int64_t time_of(const char *name) {
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -1;
    char *end;
    errno = 0;
    long long seconds = strtoll(name + sizeof prefix - 1, &end, 10);
    return errno == 0 && seconds >= 0 && strcmp(end, suffix) == 0 ? seconds : -1;
}

/* Cuts a file behind its last record of up to keep_step. */
static gm_status cut(const char *path, int64_t keep_step, gm_error *err) {
    gm_file file;
    GM_TRY(gm_file_open(&file, path, err));
    gm_event_reader r = {.data = file.data, .size = file.size, .name = path};
    size_t kept = 0;
    gm_status status;
    for (bool more = true; more;) {
        gm_event event;
        status = gm_event_next(&r, &event, &more, err);
        more = more && status == GM_OK && event.step <= keep_step;
        gm_event_free(&event);
        kept = more ? r.at : kept;
    }
    bool shorter = kept < file.size;
    gm_file_close(&file);
    if (status == GM_OK && shorter && truncate(path, (off_t)kept) != 0)
        return gm_fail_errno(err, "cannot write '%s'", path);
    return status;
}

/* Cuts or removes our older files in the folder; *newest becomes the largest time among them. */
static gm_status settle_older(const char *folder, int64_t keep_step, int64_t *newest, gm_error *err) {
    DIR *dir = opendir(folder);
    if (!dir)
        return gm_fail_errno(err, "cannot open folder '%s'", folder);
    gm_status status = GM_OK;
    for (struct dirent *entry; status == GM_OK && (entry = gm_dir_next(dir, folder, &status, err));) {
        char path[1024];
        struct stat info;
        int64_t made = time_of(entry->d_name);
        if (made < 0)
            continue;
        *newest = GM_MAX(*newest, made);
        status = gm_path_join(path, sizeof path, folder, entry->d_name, err);
        /* A link leads to another run's file, which keeps its steps; what begins a session says from where ours hold. */
        if (status == GM_OK && keep_step >= 0)
            status = lstat(path, &info) == 0 && S_ISLNK(info.st_mode) ? GM_OK : cut(path, keep_step, err);
        else if (status == GM_OK && unlink(path) != 0)
            status = gm_fail_errno(err, "cannot remove '%s'", path);
    }
    closedir(dir);
    return status;
}

static double wall_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static gm_status append(gm_event_file *f, const gm_event *event, gm_error *err) {
    uint8_t *bytes;
    size_t size;
    GM_TRY(gm_event_pack(&bytes, &size, event, err));
    gm_status status = GM_OK;
    for (size_t done = 0; done < size && status == GM_OK;) {
        ssize_t n = write(f->fd, bytes + done, size - done);
        if (n < 0 && errno != EINTR)
            status = gm_fail_errno(err, "cannot write '%s'", f->path);
        done += n > 0 ? (size_t)n : 0;
    }
    free(bytes);
    return status;
}

gm_status gm_event_file_open(gm_event_file *f, const char *folder, int64_t keep_step, gm_error *err) {
    int64_t newest = -1;
    char name[64];
    *f = (gm_event_file){.fd = -1};
    GM_TRY(settle_older(folder, keep_step, &newest, err));
    /* readers take the files of a folder in the order of their names */
    snprintf(name, sizeof name, "%s%010lld%s", prefix, (long long)GM_MAX(newest + 1, (int64_t)wall_time()), suffix);
    GM_TRY(gm_path_join(f->path, sizeof f->path, folder, name, err));
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (f->fd < 0)
        return gm_fail_errno(err, "cannot write '%s'", f->path);
    gm_status status = append(f, &(gm_event){.wall_time = wall_time(), .file_version = version}, err);
    if (status == GM_OK && keep_step >= 0)
        status = append(f, &(gm_event){.wall_time = wall_time(), .step = keep_step + 1, .session_start = true, .file_version = ""}, err);
    if (status != GM_OK)
        gm_event_file_close(f);
    return status;
}

gm_status gm_event_file_add(gm_event_file *f, int64_t step, const gm_event_value *values, int count, gm_error *err) {
    gm_event event = {.wall_time = wall_time(), .step = step, .file_version = "", .values = (gm_event_value *)values, .count = count};
    return append(f, &event, err);
}

gm_status gm_event_file_add_text(gm_event_file *f, const char *tag, const char *text, gm_error *err) {
    gm_event_value value = {.kind = GM_EVENT_TEXT, .tag = tag, .bytes = text, .size = strlen(text)};
    return gm_event_file_add(f, 0, &value, 1, err);
}

gm_status gm_event_file_sync(gm_event_file *f, gm_error *err) {
    return f->fd < 0 || fsync(f->fd) == 0 ? GM_OK : gm_fail_errno(err, "cannot write '%s'", f->path);
}

void gm_event_file_close(gm_event_file *f) {
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}
