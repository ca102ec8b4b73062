/* SPDX-License-Identifier: MIT */
/*
 * The pages of a snapshot, memory.bin: the pages that are not zeros, each content once, in
 * the order in which they are met; then the index.
 *
 *     chunk of 64 pages, a zstd frame | chunk | ... | index, a zstd frame
 *
 * The index: for each page of the guest a code of 4 bytes (0: zeros; 1: the next page of the
 * file; n + 2: the same as page n of the file; all ones: as in the parent); for each page of
 * the file its XXH3, 8 bytes; for each chunk its compressed size, 4 bytes. A chunk stands
 * alone.
 *
 * Raw: page p lies at p * 4096, as it is, to be mapped; pages of zeros are holes. The index
 * follows, without sizes of chunks; no page is the same as another's, and none is a parent's. Where the
 * file system shares blocks between files (FICLONE: btrfs, xfs), a raw one can begin as a clone of
 * its parent's file, and only what changed is written.
 *
 * snapshot_write.c writes it; here it is read.
 *
 * Invariant: no page is given out whose XXH3 is not the index's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "machine/snapshot_fill.h"
#include "machine/snapshot_pages.h"

#define PAGES_MAX (MACHINE_RAM_MAX / PN_PAGE_SIZE + (1u << 16))

/* ---- Opening ---- */

static int bad_manifest(struct err *e) {
    return err_set(e, -EINVAL, "%s: what it says of memory is not possible",
                   SNAPSHOT_MANIFEST);
}

static int read_regions(struct snap_memory *m, const json_t *manifest, struct err *e) {
    const json_t *one, *list = json_object_get(manifest, "regions");
    size_t i;
    if (!json_is_array(list) || json_array_size(list) > SNAP_REGIONS_MAX)
        return bad_manifest(e);
    json_array_foreach(list, i, one) {
        struct snap_region *r = &m->region[m->regions++];
        const char *name = json_string_value(json_object_get(one, "name"));
        if (!name || !*name || strlen(name) >= sizeof(r->name) ||
            !snap_number(one, "pages", PAGES_MAX - m->pages, &r->pages))
            return bad_manifest(e);
        snprintf(r->name, sizeof(r->name), "%s", name);
        m->pages += r->pages;
    }
    return m->pages ? 0 : bad_manifest(e);
}

int snap_read_at(int fd, void *buf, size_t size, uint64_t at) {
    uint8_t *p = buf;
    while (size) {
        ssize_t n = pread(fd, p, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
        p += n;
        at += (size_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* Codes become numbers of stored pages. Return: whether they are possible. */
static bool take_codes(struct snap_memory *m) {
    uint64_t next = 0, inherited = 0;
    for (uint64_t p = 0; p < m->pages; p++) {
        uint32_t code = m->page[p];
        if (code == CODE_ZERO)
            continue;
        if (code == CODE_BELOW) {
            inherited++;
            continue;
        }
        if (code == CODE_NEXT) {
            if (next == m->stored)
                return false;
            m->first[next] = (uint32_t)p;
            m->page[p] = (uint32_t)++next;
        } else if (!m->raw && code - CODE_SAME < next) {
            m->page[p] = code - CODE_SAME + 1;
        } else {
            return false;
        }
    }
    return next == m->stored && inherited == m->inherited;
}

static bool take_index(struct snap_memory *m, const uint8_t *plain) {
    uint64_t sum = m->raw ? m->pages * PN_PAGE_SIZE : 0;
    memcpy(m->page, plain, m->pages * sizeof(*m->page));
    plain += m->pages * sizeof(*m->page);
    memcpy(m->hash, plain, m->stored * sizeof(*m->hash));
    plain += m->stored * sizeof(*m->hash);
    uint64_t chunks = snap_chunks_of(m->raw, m->stored);
    memcpy(m->chunk_size, plain, chunks * sizeof(*m->chunk_size));
    for (uint64_t i = 0; i < chunks; i++) {
        if (m->chunk_size[i] > ZSTD_compressBound(SNAP_CHUNK_BYTES))
            return false;
        sum += m->chunk_size[i];
    }
    if (sum != m->chunk_bytes || !take_codes(m))
        return false;
    memcpy(m->own, m->first, m->stored * sizeof(*m->own));
    return true;
}

int snap_memory_index(struct snap_memory *m, struct err *e) {
    size_t size = snap_index_size(m->raw, m->pages, m->stored);
    if (m->page)
        return 0;
    uint8_t *plain = malloc(size), *packed = malloc(m->index_bytes + 1);
    m->page = calloc(m->pages, sizeof(*m->page));
    m->hash = calloc(m->stored + 1, sizeof(*m->hash));
    m->first = calloc(m->stored + 1, sizeof(*m->first));
    m->own = calloc(m->stored + 1, sizeof(*m->own));
    m->chunk_size = calloc(snap_chunks(m) + 1, sizeof(*m->chunk_size));
    int rc = plain && packed && m->page && m->hash && m->first && m->own && m->chunk_size
                 ? 0
                 : err_set(e, -ENOMEM, "out of memory");
    if (rc == 0) {
        rc = snap_read_at(m->fd, packed, m->index_bytes, m->chunk_bytes);
        if (rc == 0 && XXH3_64bits(packed, m->index_bytes) != m->index_hash)
            rc = -EBADMSG;
        if (rc == 0 && ZSTD_decompress(plain, size, packed, m->index_bytes) != size)
            rc = -EBADMSG;
        if (rc == 0 && !take_index(m, plain))
            rc = -EBADMSG;
        if (rc == -EBADMSG)
            err_set(e, rc, "%s, index: damaged", SNAPSHOT_MEMORY);
        else if (rc)
            err_sys(e, rc, "%s, index", SNAPSHOT_MEMORY);
    }
    free(plain);
    free(packed);
    return rc;
}

int snap_memory_open(struct snap_memory *m, const json_t *manifest, int fd,
                     struct err *e) {
    uint64_t pages, chunk_pages;
    struct stat st;
    *m = (struct snap_memory){.fd = fd,
                              .raw = json_is_true(json_object_get(manifest, "raw"))};
    int rc = read_regions(m, manifest, e);
    if (rc)
        return rc;
    if (!snap_number(manifest, "pages", m->pages, &pages) || pages != m->pages ||
        !snap_number(manifest, "chunk_pages", SNAP_CHUNK_PAGES, &chunk_pages) ||
        chunk_pages != SNAP_CHUNK_PAGES ||
        !snap_number(manifest, "stored", m->pages, &m->stored) ||
        !snap_number(manifest, "inherited", m->pages, &m->inherited) ||
        !snap_number(manifest, "chunk_bytes", INT64_MAX / 2, &m->chunk_bytes) ||
        !snap_number(manifest, "index_bytes",
                     ZSTD_compressBound(snap_index_size(m->raw, m->pages, m->stored)),
                     &m->index_bytes) ||
        !snap_hex(manifest, "index_xxh3", &m->index_hash) ||
        (m->raw && (m->inherited || m->chunk_bytes != m->pages * PN_PAGE_SIZE)))
        return bad_manifest(e);
    if (fstat(fd, &st))
        return err_sys(e, -errno, "%s", SNAPSHOT_MEMORY);
    if ((uint64_t)st.st_size != m->chunk_bytes + m->index_bytes)
        return err_set(e, -EBADMSG, "%s: %" PRIu64 " bytes, not %" PRIu64,
                       SNAPSHOT_MEMORY, (uint64_t)st.st_size,
                       m->chunk_bytes + m->index_bytes);
    return 0;
}

/* Which stored page of which file the uppermost memory meets where. */
static void meet_again(struct snap_memory *m) {
    for (const struct snap_memory *one = m; one; one = one->below)
        memset(one->first, 0xff, one->stored * sizeof(*one->first));
    for (uint64_t p = m->pages; p-- > 0;)
        if (m->page[p])
            snap_memory_of(m, p)->first[m->page[p] - 1] = (uint32_t)p;
}

int snap_memory_stand_on(struct snap_memory *m, struct snap_memory *below,
                         struct err *e) {
    bool same = below->regions <= m->regions;
    for (unsigned i = 0; same && i < below->regions; i++)
        same = !strcmp(m->region[i].name, below->region[i].name) &&
               m->region[i].pages == below->region[i].pages;
    for (uint64_t p = below->pages; same && p < m->pages; p++)
        same = m->page[p] != CODE_BELOW;
    if (!same)
        return err_set(e, -EINVAL, "not the same memory as its parent's");
    m->level = calloc(m->pages, sizeof(*m->level));
    if (!m->level)
        return err_set(e, -ENOMEM, "out of memory");
    m->below = below;
    for (uint64_t p = 0; p < below->pages; p++)
        if (m->page[p] == CODE_BELOW) {
            m->page[p] = below->page[p];
            m->level[p] = (uint8_t)(1 + (below->level ? below->level[p] : 0));
        }
    meet_again(m);
    return 0;
}

void snap_memory_close(struct snap_memory *m) {
    if (m->fd >= 0)
        close(m->fd);
    free(m->page);
    free(m->level);
    free(m->hash);
    free(m->first);
    free(m->own);
    free(m->chunk_size);
    *m = (struct snap_memory){.fd = -1};
}

/* ---- Reading pages ---- */

int snap_reader_open(struct snap_reader *r) {
    *r = (struct snap_reader){.zstd = ZSTD_createDCtx(),
                              .packed = malloc(ZSTD_compressBound(SNAP_CHUNK_BYTES)),
                              .plain = malloc(SNAP_CHUNK_BYTES)};
    return r->zstd && r->packed && r->plain ? 0 : -ENOMEM;
}

void snap_reader_close(struct snap_reader *r) {
    ZSTD_freeDCtx(r->zstd);
    free(r->packed);
    free(r->plain);
}

/* Stored pages of a raw file, one by one where they lie apart. Return: as read_at. */
static int read_raw(const struct snap_memory *m, uint8_t *to, uint64_t first,
                    unsigned pages) {
    int rc = 0;
    for (unsigned i = 0, n; rc == 0 && i < pages; i += n) {
        const uint32_t *own = &m->own[first + i];
        for (n = 1; i + n < pages && own[n] == own[0] + n;)
            n++;
        rc = snap_read_at(m->fd, to + (size_t)i * PN_PAGE_SIZE, (size_t)n * PN_PAGE_SIZE,
                          (uint64_t)own[0] * PN_PAGE_SIZE);
    }
    return rc;
}

int snap_memory_chunk(const struct snap_memory *m, struct snap_reader *r, uint64_t chunk,
                      uint64_t at) {
    uint64_t first = chunk * SNAP_CHUNK_PAGES;
    unsigned pages = snap_chunk_pages(m, chunk);
    size_t size = m->chunk_size[chunk], plain = (size_t)pages * PN_PAGE_SIZE;
    int rc = m->raw ? read_raw(m, r->plain, first, pages)
                    : snap_read_at(m->fd, r->packed, size, at);
    if (rc == 0 && !m->raw &&
        ZSTD_decompressDCtx(r->zstd, r->plain, plain, r->packed, size) != plain)
        rc = -EBADMSG;
    for (unsigned i = 0; rc == 0 && i < pages; i++)
        if (XXH3_64bits(r->plain + (size_t)i * PN_PAGE_SIZE, PN_PAGE_SIZE) !=
            m->hash[first + i])
            rc = -EBADMSG;
    return rc;
}

int snap_chunk_error(uint64_t chunk, int rc, struct err *e) {
    return rc == -EBADMSG
               ? err_set(e, rc, "%s, chunk %" PRIu64 ": damaged", SNAPSHOT_MEMORY, chunk)
               : err_sys(e, rc, "%s, chunk %" PRIu64, SNAPSHOT_MEMORY, chunk);
}

/* Does the uppermost of the chain have a page of these? */
static bool needed(const struct snap_memory *m, uint64_t first, unsigned pages) {
    for (unsigned i = 0; i < pages; i++)
        if (m->first[first + i] != SNAP_NOWHERE)
            return true;
    return false;
}

static int read_all(const struct snap_memory *m, struct snap_reader *r, snap_page_fn fn,
                    void *opaque, FILE *out, unsigned *damaged, struct err *e) {
    uint64_t at = 0;
    for (uint64_t c = 0; c < snap_chunks(m); at += m->chunk_size[c++]) {
        uint64_t first = c * SNAP_CHUNK_PAGES;
        unsigned pages = snap_chunk_pages(m, c);
        if (fn && !needed(m, first, pages))
            continue;
        int rc = snap_memory_chunk(m, r, c, at);
        if (rc && (rc != -EBADMSG || !damaged))
            return snap_chunk_error(c, rc, e);
        if (rc) {
            fprintf(out, "%s, chunk %" PRIu64 ": damaged\n", SNAPSHOT_MEMORY, c);
            ++*damaged;
        }
        for (unsigned i = 0; rc == 0 && fn && i < pages; i++)
            if (m->first[first + i] != SNAP_NOWHERE)
                rc = fn(opaque, m->first[first + i], r->plain + (size_t)i * PN_PAGE_SIZE);
        if (rc && !damaged)
            return err_sys(e, rc, "%s, chunk %" PRIu64, SNAPSHOT_MEMORY, c);
    }
    return 0;
}

int snap_memory_read(const struct snap_memory *m, snap_page_fn fn, void *opaque,
                     FILE *out, unsigned *damaged, struct err *e) {
    struct snap_reader r;
    int rc = snap_reader_open(&r) ? err_set(e, -ENOMEM, "out of memory")
                                  : read_all(m, &r, fn, opaque, out, damaged, e);
    snap_reader_close(&r);
    return rc;
}
