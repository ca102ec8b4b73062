/* SPDX-License-Identifier: MIT */
/* Pages on their way: packed into records, out of them, and what each side knows of all. */
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "machine/migrate_internal.h"

#define LEVEL       1 /* zstd's */
#define BATCH_BYTES ((size_t)MIGRATE_BATCH * PN_PAGE_SIZE)

struct pages_head {
    uint32_t count, compression;
    uint64_t packed;
};

_Static_assert(sizeof(struct pages_head) + MIGRATE_BATCH * sizeof(uint64_t) +
                       BATCH_BYTES ==
                   MIGRATE_PAGES_MAX,
               "room for the largest record");

/* ---- Out ---- */

int migrate_packer_open(struct migrate_packer *p, enum migrate_compression c) {
    *p = (struct migrate_packer){.compression = c,
                                 .plain = malloc(BATCH_BYTES),
                                 .record = malloc(MIGRATE_PAGES_MAX)};
    ZSTD_CCtx *z = c == MIGRATE_ZSTD ? ZSTD_createCCtx() : NULL;
    p->zstd = z;
    if (!p->plain || !p->record || (c == MIGRATE_ZSTD && !z))
        return -ENOMEM;
    if (z)
        ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, LEVEL);
    return 0;
}

void migrate_packer_close(struct migrate_packer *p) {
    ZSTD_freeCCtx(p->zstd);
    free(p->plain);
    free(p->record);
}

const uint8_t *migrate_packer_add(struct migrate_packer *p, uint64_t page,
                                  const uint8_t *from) {
    uint8_t *copy = p->plain + (size_t)p->filled * PN_PAGE_SIZE;
    memcpy(copy, from, PN_PAGE_SIZE); /* and never look at the guest's again */
    bool zero = snap_is_zero(copy);
    p->table[p->count++] = page * 2 + !zero;
    p->filled += !zero;
    return zero ? NULL : copy;
}

void migrate_packer_drop(struct migrate_packer *p) {
    p->filled -= p->table[--p->count] & 1;
}

/* Return: bytes at `to`, or 0: it does not get smaller. */
static size_t squeeze(struct migrate_packer *p, uint8_t *to, size_t size) {
    int small;
    switch (p->compression) {
    case MIGRATE_LZ4:
        small = LZ4_compress_default((const char *)p->plain, (char *)to, (int)size,
                                     (int)size - 1);
        return small > 0 ? (size_t)small : 0;
    case MIGRATE_ZSTD: {
        size_t n = ZSTD_compress2(p->zstd, to, size - 1, p->plain, size);
        return ZSTD_isError(n) ? 0 : n;
    }
    default:
        return 0;
    }
}

size_t migrate_packer_end(struct migrate_packer *p) {
    size_t table = p->count * sizeof(p->table[0]),
           plain = (size_t)p->filled * PN_PAGE_SIZE;
    uint8_t *behind = p->record + sizeof(struct pages_head) + table;
    if (!p->count)
        return 0;
    size_t packed = plain ? squeeze(p, behind, plain) : 0;
    struct pages_head h = {.count = p->count,
                           .compression = packed ? p->compression : MIGRATE_PLAIN,
                           .packed = packed ? packed : plain};
    if (!packed)
        memcpy(behind, p->plain, plain);
    memcpy(p->record, &h, sizeof(h));
    memcpy(p->record + sizeof(h), p->table, table);
    p->pages += p->filled;
    p->zeros += p->count - p->filled;
    p->plain_bytes += plain;
    p->packed_bytes += h.packed;
    p->count = p->filled = 0;
    return sizeof(h) + table + h.packed;
}

/* ---- In ---- */

int migrate_unpacker_open(struct migrate_unpacker *u) {
    *u = (struct migrate_unpacker){ZSTD_createDCtx(), malloc(BATCH_BYTES)};
    return u->zstd && u->plain ? 0 : -ENOMEM;
}

void migrate_unpacker_close(struct migrate_unpacker *u) {
    ZSTD_freeDCtx(u->zstd);
    free(u->plain);
}

/* Return: the plain pages, or NULL: they are not as many. */
static const uint8_t *expand(struct migrate_unpacker *u, const struct pages_head *h,
                             const uint8_t *packed, size_t plain) {
    switch (h->compression) {
    case MIGRATE_PLAIN:
        return h->packed == plain ? packed : NULL;
    case MIGRATE_LZ4:
        return LZ4_decompress_safe((const char *)packed, (char *)u->plain, (int)h->packed,
                                   (int)plain) == (int)plain
                   ? u->plain
                   : NULL;
    case MIGRATE_ZSTD:
        return ZSTD_decompressDCtx(u->zstd, u->plain, plain, packed, h->packed) == plain
                   ? u->plain
                   : NULL;
    default:
        return NULL;
    }
}

int migrate_unpack(struct migrate_unpacker *u, const uint8_t *record, size_t size,
                   uint64_t pages, migrate_page_fn fn, void *opaque) {
    struct pages_head h;
    uint64_t table[MIGRATE_BATCH];
    unsigned filled = 0;
    if (size < sizeof(h))
        return -EBADMSG;
    memcpy(&h, record, sizeof(h));
    size_t bytes = (size_t)h.count * sizeof(table[0]);
    if (!h.count || h.count > MIGRATE_BATCH || h.packed > BATCH_BYTES ||
        size != sizeof(h) + bytes + h.packed)
        return -EBADMSG;
    memcpy(table, record + sizeof(h), bytes);
    for (unsigned i = 0; i < h.count; i++) {
        if (table[i] / 2 >= pages || (i && table[i] / 2 <= table[i - 1] / 2))
            return -EBADMSG;
        filled += table[i] & 1;
    }
    const uint8_t *data =
        expand(u, &h, record + sizeof(h) + bytes, (size_t)filled * PN_PAGE_SIZE);
    int rc = data ? 0 : -EBADMSG;
    for (unsigned i = 0; rc == 0 && i < h.count; i++) {
        rc = fn(opaque, table[i] / 2, table[i] & 1 ? data : NULL);
        data += table[i] & 1 ? PN_PAGE_SIZE : 0;
    }
    return rc;
}

/* ---- All pages ---- */

int migrate_pages_open(struct migrate_pages *p, uint64_t ram, bool window) {
    *p = (struct migrate_pages){.ram = ram,
                                .all = ram + (window ? PN_WINDOW_PAGES_MAX : 0)};
    p->there = calloc(migrate_words(p), sizeof(*p->there));
    p->hash = calloc(p->all, sizeof(*p->hash));
    return p->there && p->hash ? 0 : -ENOMEM;
}

void migrate_pages_close(struct migrate_pages *p) {
    free(p->there);
    free(p->hash);
    p->there = p->hash = NULL;
}

uint64_t migrate_pages_digest(const struct migrate_pages *p) {
    return XXH3_64bits(p->hash, p->all * sizeof(*p->hash));
}

void migrate_pages_note(struct migrate_pages *p, uint64_t page, const uint8_t *data) {
    uint64_t bit = 1ull << page % 64, *word = &p->there[page / 64];
    p->hash[page] = data ? XXH3_64bits(data, PN_PAGE_SIZE) : 0;
    if (data)
        __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(word, ~bit, __ATOMIC_RELAXED);
}

uint64_t migrate_pages_check(const struct migrate_pages *p, const uint64_t *but) {
    for (uint64_t page = 0; page < p->all; page++) {
        if (but && but[page / 64] >> page % 64 & 1)
            continue;
        const uint8_t *at = page >= p->ram && !p->window ? NULL : migrate_at(p, page);
        bool there = migrate_is_there(p, page);
        if (there ? !at || XXH3_64bits(at, PN_PAGE_SIZE) != p->hash[page]
                  : at && !snap_is_zero(at))
            return page;
    }
    return p->all;
}
