/* token_file.c -- a tokenized text as one memory-mapped file that opens to the very data that its text gives.
 *
 * Little-endian, every part a multiple of 8 bytes:
 *   header   80 bytes, below
 *   tokenizer.json's text, filled up with spaces
 *   grains   { u64 first token, first byte of the text, hash of its text, hash of its tokens' bytes } each
 *   tokens   count * width bytes, filled up with zeros; width 1 (bytes), 2 or 4
 * The header's hash covers header, tokenizer and grains; the grains' hashes cover the tokens. All are checked at opening (about a
 * second per 10 GB), so that a file that opens is whole and every token lies in the vocabulary. */
#include "data.h"

#include <stdlib.h>
#include <string.h>

typedef struct header {
    char magic[8];
    uint64_t version, width, vocab, count, text_bytes, text_hash, tokenizer_bytes, grains, hash;
} header;
typedef struct record {
    uint64_t token, byte, hash, check;
} record;
static const char magic[8] = {'G', 'M', 'T', 'O', 'K', 'E', 'N', 'S'};

bool gm_token_file_is(const gm_file *file) {
    return file->size >= sizeof magic && memcmp(file->data, magic, sizeof magic) == 0;
}

static uint64_t hash_of(header h, const void *rest, size_t size) {
    h.hash = 0;
    return gm_hash(rest, size, gm_hash(&h, sizeof h, 0));
}

/* The header of a file that is as long as it says; *tokens_at: where tokens begin. */
static gm_status header_read(header *h, uint64_t *tokens_at, const gm_file *f, gm_error *err) {
    if (f->size < sizeof *h)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)f->size, "token file '%s' is cut off at byte %zu, inside its header; write it again",
                          f->path, f->size);
    memcpy(h, f->data, sizeof *h);

    if (h->version != 1 || (h->width != 1 && h->width != 2 && h->width != 4))
        return gm_fail_at(err, GM_EUNSUPPORTED, 8, "token file '%s' is of version %llu (byte 8), this is for version 1; write it again",
                          f->path, (unsigned long long)h->version);
    /* Every size is below the file's before sizes are multiplied or added. */
    uint64_t bound = f->size, expected = UINT64_MAX;
    if (h->tokenizer_bytes <= bound && h->grains <= bound && h->count <= bound) {
        *tokens_at = sizeof *h + h->tokenizer_bytes + h->grains * sizeof(record);
        expected = *tokens_at + (h->count * h->width + 7) / 8 * 8;
    }
    if (expected != f->size || h->tokenizer_bytes % 8)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)GM_MIN((uint64_t)f->size, expected),
                          "token file '%s' is cut off or altered: it ends at byte %zu, which is not where its header says; write it again",
                          f->path, f->size);
    if (hash_of(*h, f->data + sizeof *h, *tokens_at - sizeof *h) != h->hash)
        return gm_fail_at(err, GM_EFORMAT, 0, "token file '%s': header, tokenizer or index (bytes 0 to %llu) were altered; write it again",
                          f->path, (unsigned long long)*tokens_at - 1);
    return GM_OK;
}

gm_status gm_token_file_read(gm_corpus *c, gm_tokenizer **tokenizer, gm_error *err) {
    const gm_file *f = &c->file;
    header h;
    uint64_t tokens_at = 0;
    GM_TRY(header_read(&h, &tokens_at, f, err));
    const uint64_t grains_at = sizeof h + h.tokenizer_bytes;
    gm_error inner = {.offset = -1};
    gm_status status = gm_tokenizer_parse(tokenizer, (const char *)f->data + sizeof h, h.tokenizer_bytes, &inner);
    if (status != GM_OK)
        return gm_fail_at(err, status, GM_MAX(inner.offset, (int64_t)0) + (int64_t)sizeof h, "token file '%s': %s", f->path, inner.msg);
    if ((uint64_t)(*tokenizer)->vocab != h.vocab)
        return gm_fail_at(err, GM_EFORMAT, 24, "token file '%s': its tokenizer has %d entries, its header says %llu", f->path,
                          (*tokenizer)->vocab, (unsigned long long)h.vocab);
    c->grains = gm_alloc(h.grains + 1, sizeof *c->grains);
    if (!c->grains)
        return gm_fail_memory(err, h.grains * sizeof *c->grains);
    c->grain_count = (int64_t)h.grains;
    c->grains[h.grains] = (gm_grain){.token = h.count, .byte = h.text_bytes};
    c->tokens = f->data + tokens_at;
    c->width = (int)h.width;
    c->hash = h.text_hash;
    const record *records = (const record *)(f->data + grains_at); /* 8-byte aligned: the mapping is, and every part's size */
    for (uint64_t g = 0; g < h.grains; g++)
        c->grains[g] = (gm_grain){.token = records[g].token, .byte = records[g].byte, .hash = records[g].hash};
    if (h.grains == 0 || c->grains[0].token != 0)
        return gm_fail_at(err, GM_EFORMAT, (int64_t)grains_at, "token file '%s': its index does not begin with the first token", f->path);
    for (uint64_t g = 0; g < h.grains; g++) {
        uint64_t from = c->grains[g].token, to = c->grains[g + 1].token;
        if (from > to || to > h.count || c->grains[g].byte > c->grains[g + 1].byte)
            return gm_fail_at(err, GM_EFORMAT, (int64_t)(grains_at + g * sizeof(record)),
                              "token file '%s': entry %llu of its index is out of order", f->path, (unsigned long long)g);
        int64_t at = (int64_t)(tokens_at + from * h.width);
        if (gm_hash(f->data + at, (to - from) * h.width, 0) != records[g].check)
            return gm_fail_at(err, GM_EFORMAT, at, "token file '%s': tokens from byte %lld on were altered; write it again", f->path,
                              (long long)at);
        for (uint64_t i = from; i < to; i++) {
            int32_t id = gm_corpus_token(c, (int64_t)i);
            if (id < 0 || (uint64_t)id >= h.vocab)
                return gm_fail_at(err, GM_EFORMAT, (int64_t)(tokens_at + i * h.width),
                                  "token file '%s': token %llu is %d, the vocabulary has %llu", f->path, (unsigned long long)i, id,
                                  (unsigned long long)h.vocab);
        }
    }
    return GM_OK;
}

gm_status gm_token_file_header(const gm_file *f, int64_t *count, int64_t *text_bytes, int *width, gm_tokenizer **tokenizer, gm_error *err) {
    header h;
    uint64_t tokens_at = 0;
    GM_TRY(header_read(&h, &tokens_at, f, err));
    *count = (int64_t)h.count;
    *text_bytes = (int64_t)h.text_bytes;
    *width = (int)h.width;
    return gm_tokenizer_parse(tokenizer, (const char *)f->data + sizeof h, h.tokenizer_bytes, err);
}

gm_status gm_token_file_write(const gm_corpus *c, const gm_tokenizer *t, const char *path, gm_error *err) {
    const gm_grain *end = &c->grains[c->grain_count];
    gm_text rest = {0}; /* tokenizer and grains */
    gm_status status = gm_tokenizer_format(t, &rest, err);
    while (status == GM_OK && rest.size % 8 && !rest.failed)
        gm_text_bytes(&rest, " ", 1);
    header h = {.version = 1,
                .width = (uint64_t)c->width,
                .vocab = (uint64_t)t->vocab,
                .count = end->token,
                .text_bytes = end->byte,
                .text_hash = c->hash,
                .tokenizer_bytes = rest.size,
                .grains = (uint64_t)c->grain_count};
    memcpy(h.magic, magic, sizeof magic);
    size_t width = (size_t)c->width;
    for (const gm_grain *g = c->grains; status == GM_OK && g < end; g++) {
        uint64_t check = gm_hash((const uint8_t *)c->tokens + g->token * width, (g[1].token - g->token) * width, 0);
        gm_text_bytes(&rest, &(record){.token = g->token, .byte = g->byte, .hash = g->hash, .check = check}, sizeof(record));
    }
    if (rest.failed)
        status = gm_fail_memory(err, rest.size);
    gm_writer w;
    if (status == GM_OK)
        status = gm_writer_open(&w, path, err);
    if (status == GM_OK) {
        h.hash = hash_of(h, rest.data, rest.size);
        size_t bytes = end->token * width;
        gm_writer_put(&w, &h, sizeof h);
        gm_writer_put(&w, rest.data, rest.size);
        gm_writer_put(&w, c->tokens, bytes);
        gm_writer_put(&w, (const char[8]){0}, (8 - bytes % 8) % 8);
        status = gm_writer_commit(&w, err);
    }
    gm_text_free(&rest);
    return status;
}
