/* SPDX-License-Identifier: MIT */
/*
 * Records, 80 bytes each, become a few bytes before zstd sees them: events come in
 * patterns (a walk reads its levels in turn), and most words of a record are those of the
 * last one like it. "Like it" is the event's id and three bits of its second argument,
 * which is the level where an event has one.
 *
 * A record is 3 bytes, little-endian: 6 bits id, 3 bits of arg[1], 10 bits that say which
 * of the 10 words differ; then each of these words as a varint. Word 0, the time, is its
 * distance from the last record's; the others, from the word of the last record like it.
 */
#include "trace/pack.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#define WORDS      10u
#define LIKE       512u /* kinds of records */
#define VARINT_MAX 10u
#define RECORD_MAX (3 + WORDS * VARINT_MAX + 1) /* the head is written as 4 bytes */
#define LEVEL      1 /* zstd's: the fastest that keeps a table */

_Static_assert(sizeof(struct pn_event_rec) == WORDS * sizeof(uint64_t), "ten words");
_Static_assert(PN_EV_COUNT <= 64, "6 bits of id");

struct pack {
    ZSTD_CCtx *compress;
    ZSTD_DCtx *decompress;
    uint64_t last[LIKE][WORDS];
    uint8_t plain[PACK_RECORDS * RECORD_MAX];
};

struct pack *pack_create(void) {
    struct pack *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->compress = ZSTD_createCCtx();
    p->decompress = ZSTD_createDCtx();
    if (!p->compress || !p->decompress) {
        pack_destroy(p);
        return NULL;
    }
    ZSTD_CCtx_setParameter(p->compress, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(p->compress, ZSTD_c_checksumFlag, 1);
    return p;
}

void pack_destroy(struct pack *p) {
    if (!p)
        return;
    ZSTD_freeCCtx(p->compress);
    ZSTD_freeDCtx(p->decompress);
    free(p);
}

size_t pack_bound(void) {
    return ZSTD_compressBound(PACK_RECORDS * RECORD_MAX);
}

static uint8_t *put_varint(uint8_t *p, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* Small distances in both directions are small numbers. */
static uint64_t zigzag(uint64_t d) {
    return d << 1 ^ -(d >> 63);
}

static uint64_t unzigzag(uint64_t v) {
    return v >> 1 ^ -(v & 1);
}

static uint8_t *put_record(struct pack *p, const uint64_t w[WORDS], uint64_t time,
                           uint8_t *out) {
    const struct pn_event_rec *rec = (const void *)w;
    uint32_t like = (rec->id & 63u) | (uint32_t)(rec->arg[1] & 7) << 6, differs = 0, head;
    uint64_t *last = p->last[like], distance[WORDS];
    distance[0] = w[0] - time;
    for (unsigned i = 1; i < WORDS; i++)
        distance[i] = w[i] - last[i];
    for (unsigned i = 0; i < WORDS; i++)
        differs |= (uint32_t)(distance[i] != 0) << i;
    head = like | differs << 9;
    memcpy(out, &head, sizeof(head));
    out += 3;
    memcpy(last, w, WORDS * sizeof(*w));
    for (; differs; differs &= differs - 1)
        out = put_varint(out, zigzag(distance[__builtin_ctz(differs)]));
    return out;
}

size_t pack_encode(struct pack *p, const struct pn_event_rec *rec, size_t n, void *out) {
    uint8_t *end = p->plain;
    uint64_t time = 0;
    memset(p->last, 0, sizeof(p->last));
    for (size_t i = 0; i < n; i++) {
        end = put_record(p, (const uint64_t *)(const void *)&rec[i], time, end);
        time = rec[i].time;
    }
    size_t size = ZSTD_compress2(p->compress, out, pack_bound(), p->plain,
                                 (size_t)(end - p->plain));
    return ZSTD_isError(size) ? 0 : size;
}

/* Return: behind it; NULL: it does not end, or has more than 64 bits. */
static const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, uint64_t *v) {
    *v = 0;
    for (unsigned shift = 0; p && p < end && shift < 64; shift += 7) {
        *v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p++ & 0x80))
            return p;
    }
    return NULL;
}

static const uint8_t *get_record(struct pack *p, const uint8_t *at, const uint8_t *end,
                                 uint64_t time, uint64_t w[WORDS]) {
    if (end - at < 3)
        return NULL;
    uint32_t head = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
    uint64_t *last = p->last[head % LIKE], distance;
    at += 3;
    memcpy(w, last, WORDS * sizeof(*w));
    w[0] = time;
    for (uint32_t differs = head / LIKE; differs; differs &= differs - 1) {
        unsigned i = (unsigned)__builtin_ctz(differs);
        if (i >= WORDS || !(at = get_varint(at, end, &distance)))
            return NULL;
        w[i] += unzigzag(distance);
    }
    memcpy(last, w, WORDS * sizeof(*w));
    return at;
}

bool pack_decode(struct pack *p, const void *frame, size_t size, struct pn_event_rec *rec,
                 size_t n) {
    size_t plain =
        ZSTD_decompressDCtx(p->decompress, p->plain, sizeof(p->plain), frame, size);
    if (ZSTD_isError(plain) || n > PACK_RECORDS)
        return false;
    const uint8_t *at = p->plain, *end = p->plain + plain;
    uint64_t time = 0;
    memset(p->last, 0, sizeof(p->last));
    for (size_t i = 0; i < n && at; i++) {
        at = get_record(p, at, end, time, (uint64_t *)(void *)&rec[i]);
        time = rec[i].time;
    }
    return at == end;
}
