/* sentencepiece.c -- SentencePiece's tokenizer.model: a protocol buffer (sentencepiece_model.proto). Of its messages, only the fields that
 * decide ids are read:
 *
 *   ModelProto      1 pieces, 2 trainer_spec, 3 normalizer_spec       SentencePiece   1 piece, 2 score, 3 type
 *   TrainerSpec     3 model_type, 24 treat_whitespace_as_suffix, 40..42 unk_id bos_id eos_id
 *   NormalizerSpec  2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces */
#include "subwords.h"

#include <string.h>

/* ---- the wire: fields, each a number and a varint, 64 bits, 32 bits or a run of bytes -------------------------------------------------
 */

typedef struct wire {
    const uint8_t *start; /* of the file, for offsets */
    const uint8_t *at, *end;
} wire;

typedef struct field {
    uint32_t number, type; /* type: 0 varint, 1 eight bytes, 2 a run, 5 four bytes */
    uint64_t value;
    wire run;
} field;

static bool varint(wire *w, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && w->at < w->end; shift += 7) {
        uint8_t b = *w->at++;
        *out |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
    }
    return false;
}

static gm_status damaged(const wire *w, const uint8_t *at, const char *what, gm_error *err) {
    long long offset = (long long)(at - w->start);
    return gm_fail_at(err, GM_EFORMAT, offset, "%s at byte %lld; the file is cut off or damaged", what, offset);
}

/* The next field. Before the end only. */
static gm_status next_field(wire *w, field *f, gm_error *err) {
    const uint8_t *from = w->at;
    uint64_t key;
    if (!varint(w, &key))
        return damaged(w, from, "a field's number ends", err);
    *f = (field){.number = (uint32_t)(key >> 3), .type = key & 7};
    size_t left = (size_t)(w->end - w->at), n = f->type == 1 ? 8 : f->type == 5 ? 4 : 0;
    if (f->type == 0) {
        if (!varint(w, &f->value))
            return damaged(w, from, "a number ends", err);
    } else if (n) {
        if (left < n)
            return damaged(w, from, "a number ends", err);
        for (size_t i = 0; i < n; i++)
            f->value |= (uint64_t)w->at[i] << (8 * i);
        w->at += n;
    } else if (f->type == 2) {
        uint64_t size;
        if (!varint(w, &size) || size > (uint64_t)(w->end - w->at))
            return damaged(w, from, "a part is longer than the file", err);
        f->run = (wire){w->start, w->at, w->at + size};
        w->at += size;
    } else
        return damaged(w, from, "an unknown kind of field", err);
    return GM_OK;
}

/* ---- messages
 * ----------------------------------------------------------------------------------------------------------------------------- */

static float float_of(uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    float x;
    memcpy(&x, &low, sizeof x);
    return x;
}

static gm_status read_piece(gm_vocabulary_token *token, wire w, gm_error *err) {
    *token = (gm_vocabulary_token){.text = "", .type = GM_TOKEN_NORMAL};
    while (w.at < w.end) {
        field f;
        GM_TRY(next_field(&w, &f, err));
        if (f.number == 1 && f.type == 2) {
            token->text = (const char *)f.run.at;
            token->size = (size_t)(f.run.end - f.run.at);
        } else if (f.number == 2 && f.type == 5)
            token->score = float_of(f.value);
        else if (f.number == 3 && f.type == 0)
            token->type = (gm_token_type)(f.value <= GM_TOKEN_BYTE ? f.value : 0);
    }
    return GM_OK;
}

static gm_status read_trainer(gm_vocabulary *v, wire w, gm_error *err) {
    while (w.at < w.end) {
        field f;
        GM_TRY(next_field(&w, &f, err));
        if (f.type != 0)
            continue;
        int32_t id = (int32_t)(int64_t)f.value; /* int32 in the file: -1 says none */
        switch (f.number) {
        case 3:
            if (f.value != 1 && f.value != 2)
                return gm_fail(err, GM_EUNSUPPORTED, "a SentencePiece model of %s is not supported; unigram and BPE are",
                               f.value == 3   ? "words"
                               : f.value == 4 ? "characters"
                                              : "an unknown type");
            v->model = f.value == 1 ? "t5" : "llama";
            break;
        case 24:
            if (f.value)
                return gm_fail(err, GM_EUNSUPPORTED, "a SentencePiece model with treat_whitespace_as_suffix is not supported");
            break;
        case 40:
            v->unk = id;
            break;
        case 41:
            v->bos = id;
            break;
        case 42:
            v->eos = id;
            break;
        default:
            break;
        }
    }
    return GM_OK;
}

static gm_status read_normalizer(gm_vocabulary *v, wire w, gm_error *err) {
    while (w.at < w.end) {
        field f;
        GM_TRY(next_field(&w, &f, err));
        if (f.number == 2 && f.type == 2) {
            v->charsmap = f.run.at;
            v->charsmap_size = (size_t)(f.run.end - f.run.at);
        } else if (f.number == 3 && f.type == 0)
            v->add_space_prefix = f.value;
        else if (f.number == 4 && f.type == 0)
            v->remove_extra_spaces = f.value;
        else if (f.number == 5 && f.type == 0 && !f.value)
            return gm_fail(err, GM_EUNSUPPORTED, "a SentencePiece model without escape_whitespaces is not supported");
    }
    return GM_OK;
}

bool gm_sentencepiece_is(const void *bytes, size_t size) {
    const uint8_t *p = bytes;
    /* pieces come first: field 1, a run, and in it field 1, a run */
    return size > 4 && p[0] == 0x0a && p[1] < 0x80 && p[2] == 0x0a;
}

gm_status gm_sentencepiece_parse(gm_tokenizer **out, const void *bytes, size_t size, gm_error *err) {
    const uint8_t *start = bytes;
    *out = NULL;
    /* A piece takes at least two bytes. */
    gm_vocabulary v = {.model = "t5",
                       .pre = "default",
                       .bos = 1,
                       .eos = 2,
                       .unk = 0,
                       .add_bos = true,
                       .add_space_prefix = true,
                       .remove_extra_spaces = true};
    gm_status status = GM_OK;
    bool trainer = false, normalizer = false; /* every trained model has both, behind its pieces */
    for (int fill = 0; fill < 2 && status == GM_OK; fill++) {
        wire w = {start, start, start + size};
        if (fill) {
            v.tokens = gm_alloc((size_t)v.count + 1, sizeof *v.tokens);
            if (!v.tokens)
                return gm_fail_memory(err, (size_t)v.count * sizeof *v.tokens);
        }
        v.count = 0;
        while (w.at < w.end && status == GM_OK) {
            field f = {0};
            status = next_field(&w, &f, err);
            if (status != GM_OK || f.type != 2)
                continue;
            if (f.number == 1 && v.count == GM_VOCAB_MAX)
                status = gm_fail(err, GM_EFORMAT, "more than %d tokens", GM_VOCAB_MAX);
            else if (f.number == 1 && fill)
                status = read_piece(&v.tokens[v.count++], f.run, err);
            else if (f.number == 1)
                v.count++;
            else if (f.number == 2 && fill) {
                trainer = true;
                status = read_trainer(&v, f.run, err);
            } else if (f.number == 3 && fill) {
                normalizer = true;
                status = read_normalizer(&v, f.run, err);
            }
        }
    }
    if (status == GM_OK && !(trainer && normalizer))
        status = gm_fail_at(err, GM_EFORMAT, (int64_t)size, "the SentencePiece model ends at byte %zu without its %s; the file is cut off",
                            size, trainer ? "normalizer_spec" : "trainer_spec");
    if (status == GM_OK)
        status = gm_tokenizer_from_vocabulary(out, &v, err);
    gm_vocabulary_free(&v);
    return status;
}
