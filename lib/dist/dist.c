/* dist.c -- what ranks tell each other, over any wire. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 30 }; /* bytes of one message at most: MPI counts in int */
enum { TAG_PLAIN = 1 };

typedef struct alarm_note {
    gm_status status;
    char text[480];
} alarm_note;

struct gm_dist {
    gm_wire wire;
    gm_wire_group *one; /* for send and receive */
    gm_error *words;    /* [size], and */
    uint64_t *numbers;  /* [size]: what agreeing takes, so that it cannot fail for lack of memory */
    double *added;      /* [size][1 + GM_DIST_ADD] */
    bool broken;        /* a message could not be carried: nothing more is tried */
};

static void dist_free(gm_dist *d) {
    d->wire.group_free(&d->wire, d->one);
    gm_free(d->words);
    gm_free(d->numbers);
    gm_free(d->added);
    gm_free(d);
}

gm_status gm_dist_on_wire(gm_dist **out, const gm_wire *w, gm_error *err) {
    *out = NULL;
    gm_dist *d = gm_alloc(1, sizeof *d);
    if (!d)
        return gm_fail_memory(err, sizeof *d);
    d->wire = *w;
    d->words = gm_alloc((size_t)w->size, sizeof *d->words);
    d->numbers = gm_alloc((size_t)w->size, sizeof *d->numbers);
    d->added = gm_alloc((size_t)w->size, (1 + GM_DIST_ADD) * sizeof *d->added);
    gm_status status = d->words && d->numbers && d->added ? d->wire.group_new(&d->wire, &d->one, 1, err)
                                                          : gm_fail_memory(err, (size_t)w->size * sizeof *d->words);
    if (status != GM_OK)
        dist_free(d);
    else
        *out = d;
    return status;
}

gm_status gm_dist_begin(gm_dist **out, gm_error *err) {
    *out = NULL;
    gm_wire wire;
    if (gm_dist_launched().size == 1)
        return GM_OK;
    GM_TRY(gm_wire_open(&wire, err));
    return gm_dist_on_wire(out, &wire, err);
}

bool gm_dist_end(gm_dist *d) {
    if (!d)
        return true;
    bool whole = !d->broken;
    if (whole)
        d->wire.close(&d->wire);
    dist_free(d);
    return whole;
}

int gm_dist_rank(const gm_dist *d) {
    return d ? d->wire.rank : 0;
}

int gm_dist_size(const gm_dist *d) {
    return d ? d->wire.size : 1;
}

int gm_dist_threads(const gm_dist *d) {
    return d ? d->wire.threads : 0;
}

gm_status gm_dist_carried(gm_dist *d, gm_status status) {
    d->broken |= status != GM_OK;
    return status;
}

gm_status gm_dist_all_gather(gm_dist *d, const void *mine, size_t bytes, void *all, gm_error *err) {
    if (!d) {
        memcpy(all, mine, bytes);
        return GM_OK;
    }
    return gm_dist_carried(d, d->wire.all_gather(&d->wire, mine, bytes, all, err));
}

gm_status gm_dist_broadcast(gm_dist *d, void *x, size_t bytes, gm_error *err) {
    for (size_t at = 0; d && at < bytes; at += PIECE)
        GM_TRY(gm_dist_carried(d, d->wire.broadcast(&d->wire, (char *)x + at, GM_MIN(bytes - at, PIECE), err)));
    return GM_OK;
}

static gm_status move(gm_dist *d, const void *out, void *in, size_t bytes, int peer, gm_error *err) {
    gm_wire *w = &d->wire;
    bool done;
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = GM_MIN(bytes - at, PIECE);
        GM_TRY(gm_dist_carried(d, out ? w->send(w, d->one, (const char *)out + at, n, peer, TAG_PLAIN, err)
                                      : w->receive(w, d->one, (char *)in + at, n, peer, TAG_PLAIN, err)));
        GM_TRY(gm_dist_carried(d, w->done(w, d->one, true, &done, err)));
    }
    return GM_OK;
}

gm_status gm_dist_send(gm_dist *d, const void *x, size_t bytes, int to, gm_error *err) {
    return move(d, x, NULL, bytes, to, err);
}

gm_status gm_dist_receive(gm_dist *d, void *x, size_t bytes, int from, gm_error *err) {
    return move(d, NULL, x, bytes, from, err);
}

/* The number of the first rank whose number is not `expected`; size: there is none. */
static gm_status first_other(gm_dist *d, uint64_t mine, uint64_t *expected, int *first, gm_error *err) {
    GM_TRY(gm_dist_all_gather(d, &mine, sizeof mine, d->numbers, err));
    uint64_t wanted = expected ? *expected : d->numbers[0];
    for (*first = 0; *first < d->wire.size && d->numbers[*first] == wanted;)
        ++*first;
    return GM_OK;
}

gm_status gm_dist_agree(gm_dist *d, gm_status mine, gm_error *err) {
    gm_error unasked = {.offset = -1};
    int first;
    err = err ? err : &unasked;
    if (!d || (d->broken && mine != GM_OK))
        return mine;
    if (d->broken)
        return gm_fail(err, GM_EIO, "the connection to the other ranks is lost");
    GM_TRY(first_other(d, (uint64_t)mine, &(uint64_t){GM_OK}, &first, err));
    if (first == d->wire.size)
        return GM_OK;
    const gm_status status = (gm_status)d->numbers[first];
    GM_TRY(gm_dist_all_gather(d, err, sizeof *err, d->words, err));
    *err = d->words[first];
    if (first > 0 && status != GM_ESTOPPED)
        snprintf(err->msg, sizeof err->msg, "rank %d: %.480s", first, d->words[first].msg);
    return status;
}

gm_status gm_dist_add(gm_dist *d, gm_status mine, const double *x, double *sums, int n, gm_error *err) {
    double out[1 + GM_DIST_ADD] = {(double)mine};
    bool failed = false;
    if (d && !d->broken) {
        memcpy(out + 1, x, (size_t)n * sizeof *x);
        GM_TRY(gm_dist_all_gather(d, out, sizeof out, d->added, err));
        for (int r = 0; r < d->wire.size; r++) {
            const double *theirs = d->added + r * (1 + GM_DIST_ADD);
            failed |= theirs[0] != GM_OK;
            for (int i = 0; i < n; i++)
                sums[i] += theirs[1 + i];
        }
        return failed ? gm_dist_agree(d, mine, err) : GM_OK;
    }
    for (int i = 0; i < n; i++)
        sums[i] += x[i];
    return gm_dist_agree(d, mine, err);
}

gm_status gm_dist_equal(gm_dist *d, const void *bytes, size_t n, const char *what, gm_error *err) {
    int first;
    if (!d)
        return GM_OK;
    GM_TRY(first_other(d, gm_checksum(bytes, n), NULL, &first, err));
    return first == d->wire.size ? GM_OK : gm_fail(err, GM_EINVAL, "%s of rank %d differs from rank 0's", what, first);
}

void gm_dist_alarm(gm_dist *d, gm_status status, const char *text) {
    alarm_note note = {.status = status};
    if (!d || d->broken)
        return;
    if (d->wire.rank > 0 && status != GM_ESTOPPED)
        snprintf(note.text, sizeof note.text, "rank %d: %.440s", d->wire.rank, text);
    else
        snprintf(note.text, sizeof note.text, "%.440s", text);
    for (int r = 0; r < d->wire.size; r++) {
        if (r != d->wire.rank)
            d->wire.shout(&d->wire, &note, sizeof note, r);
    }
}

gm_status gm_dist_alarmed(gm_dist *d, gm_error *err) {
    alarm_note note;
    if (!d || d->broken || !d->wire.heard(&d->wire, &note, sizeof note))
        return GM_OK;
    return gm_fail(err, note.status, "%s", note.text);
}

gm_wire *gm_dist_wire(gm_dist *d) {
    return &d->wire;
}
