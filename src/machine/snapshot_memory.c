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
 * Invariants
 * 1. Two pages share a stored one only where every byte is equal, whatever their hashes say.
 * 2. No page is given out whose XXH3 is not the index's.
 */
#define _GNU_SOURCE /* fallocate */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/file.h"
#include "machine/snapshot_fill.h"

#define LEVEL      1 /* zstd's */
#define CODE_ZERO  0u
#define CODE_NEXT  1u
#define CODE_SAME  2u
#define CODE_BELOW UINT32_MAX
#define PAGES_MAX  (MACHINE_RAM_MAX / PN_PAGE_SIZE + (1u << 16))
#define TABLE_FREE 0u
#define RUN_PAGES  1024u /* of raw pages that are written at once */
#define ASK_BYTES  (UINT64_C(4) << 20)

/* ---- Writing ---- */

struct writer {
    int fd;
    bool raw;
    ZSTD_CCtx *zstd;
    const struct snap_memory *clone; /* whose pages are in the file already; or NULL */
    uint64_t pages, stored, zeros, inherited, cloned, bytes;
    uint64_t asked; /* of bytes, those that are on their way to the disk */
    uint32_t *code;
    uint64_t *hash;
    const uint8_t **at;   /* each stored page, in the guest's memory */
    uint32_t *chunk_size; /* as many as chunks */
    uint32_t *table;      /* 1 + number of a stored page, by hash */
    uint64_t table_mask;
    uint8_t *chunk, *packed; /* pages that wait; room for a frame */
    size_t packed_room;
    unsigned waiting;
    const uint8_t
        *run; /* raw: pages that lie one behind another, to be written at once */
    uint64_t run_page, run_pages;
};

static void writer_free(struct writer *w) {
    ZSTD_freeCCtx(w->zstd);
    free(w->code);
    free(w->hash);
    free(w->at);
    free(w->chunk_size);
    free(w->table);
    free(w->chunk);
    free(w->packed);
}

/* most: pages that may be stored. Memory that is not touched costs nothing: the tables are as
 * large as the worst guest of that size needs. */
static bool writer_create(struct writer *w, int fd, bool raw, uint64_t pages,
                          uint64_t most) {
    uint64_t slots = 1024;
    while (slots < most * 2)
        slots *= 2;
    *w = (struct writer){.fd = fd, .raw = raw, .pages = pages, .table_mask = slots - 1};
    w->packed_room = ZSTD_compressBound(SNAP_CHUNK_BYTES);
    w->zstd = ZSTD_createCCtx();
    w->code = calloc(pages, sizeof(*w->code));
    w->hash = calloc(most + 1, sizeof(*w->hash));
    w->at = calloc(most + 1, sizeof(*w->at));
    w->chunk_size = calloc(most / SNAP_CHUNK_PAGES + 1, sizeof(*w->chunk_size));
    w->table = calloc(slots, sizeof(*w->table));
    w->chunk = malloc(SNAP_CHUNK_BYTES);
    w->packed = malloc(w->packed_room);
    if (!w->zstd || !w->code || !w->hash || !w->at || !w->chunk_size || !w->table ||
        !w->chunk || !w->packed)
        return false;
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
    return true;
}

/* What is written goes on its way to the disk while the rest is packed: who waits for all of it
 * in the end waits for little. */
static void ask_disk(int fd, uint64_t from, uint64_t size) {
    sync_file_range(fd, (off64_t)from, (off64_t)size, SYNC_FILE_RANGE_WRITE); /* a hint */
}

/* Return: 0 or -errno. */
static int write_chunk(struct writer *w) {
    if (!w->waiting)
        return 0;
    size_t n = ZSTD_compress2(w->zstd, w->packed, w->packed_room, w->chunk,
                              (size_t)w->waiting * PN_PAGE_SIZE);
    if (ZSTD_isError(n))
        return -ENOMEM;
    w->chunk_size[(w->stored - 1) / SNAP_CHUNK_PAGES] = (uint32_t)n;
    w->waiting = 0;
    w->bytes += n;
    int rc = file_write(w->fd, w->packed, n);
    if (rc == 0 && w->bytes - w->asked >= ASK_BYTES) {
        uint64_t whole =
            w->bytes / PN_PAGE_SIZE * PN_PAGE_SIZE; /* the last page gets more */
        ask_disk(w->fd, w->asked, whole - w->asked);
        w->asked = whole;
    }
    return rc;
}

bool snap_is_zero(const uint8_t *page) {
    const uint64_t *word = (const uint64_t *)(const void *)page;
    for (unsigned i = 0; i < PN_PAGE_SIZE / sizeof(*word); i += 8)
        if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] |
            word[i + 5] | word[i + 6] | word[i + 7])
            return false;
    return true;
}

/* Write the pages of the run where they belong. Return: 0 or -errno. */
static int write_run(struct writer *w) {
    const uint8_t *from = w->run;
    size_t left = w->run_pages * PN_PAGE_SIZE;
    uint64_t at = w->run_page * PN_PAGE_SIZE;
    w->run_pages = 0;
    while (left) {
        ssize_t n = pwrite(w->fd, from, left, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        ask_disk(w->fd, at, (size_t)n);
        from += n;
        at += (size_t)n;
        left -= (size_t)n;
    }
    return 0;
}

/* Return: 0 or -errno. */
static int add_raw(struct writer *w, uint64_t number, const uint8_t *page,
                   uint32_t *code) {
    bool next = w->run_pages && number == w->run_page + w->run_pages &&
                page == w->run + w->run_pages * PN_PAGE_SIZE;
    int rc = next ? 0 : write_run(w);
    if (!next) {
        w->run = page;
        w->run_page = number;
    }
    w->run_pages++;
    *code = CODE_NEXT;
    w->hash[w->stored++] = XXH3_64bits(page, PN_PAGE_SIZE);
    return rc ? rc : w->run_pages == RUN_PAGES ? write_run(w) : 0;
}

/* A page of a clone is zeros now. Return: 0 or -errno. */
static int clear_page(struct writer *w, uint64_t number) {
    static const uint8_t zeros[PN_PAGE_SIZE];
    off_t at = (off_t)(number * PN_PAGE_SIZE);
    if (!fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, PN_PAGE_SIZE))
        return 0;
    ssize_t n = errno == EOPNOTSUPP ? pwrite(w->fd, zeros, sizeof(zeros), at) : -1;
    return n == PN_PAGE_SIZE ? 0 : n < 0 ? -errno : -EIO;
}

/* A page of a clone is as it was. */
static void keep_page(struct writer *w, uint64_t number, uint32_t *code) {
    uint32_t stored = w->clone->page[number];
    *code = stored ? CODE_NEXT : CODE_ZERO;
    w->zeros += !stored;
    w->cloned++;
    if (stored)
        w->hash[w->stored++] = w->clone->hash[stored - 1];
}

/* number: among all pages. Return: 0 or -errno. */
static int add_page(struct writer *w, uint64_t number, const uint8_t *page,
                    uint32_t *code) {
    *code = CODE_ZERO;
    if (snap_is_zero(page)) {
        w->zeros++;
        return w->clone && number < w->clone->pages && w->clone->page[number]
                   ? clear_page(w, number)
                   : 0;
    }
    if (w->raw)
        return add_raw(w, number, page, code);
    uint64_t hash = XXH3_64bits(page, PN_PAGE_SIZE), slot = hash & w->table_mask;
    for (; w->table[slot] != TABLE_FREE; slot = (slot + 1) & w->table_mask) {
        uint32_t n = w->table[slot] - 1;
        if (w->hash[n] == hash && !memcmp(w->at[n], page, PN_PAGE_SIZE)) {
            *code = CODE_SAME + n;
            return 0;
        }
    }
    *code = CODE_NEXT;
    w->hash[w->stored] = hash;
    w->at[w->stored] = page;
    w->table[slot] = (uint32_t)++w->stored;
    memcpy(w->chunk + (size_t)w->waiting * PN_PAGE_SIZE, page, PN_PAGE_SIZE);
    return ++w->waiting == SNAP_CHUNK_PAGES ? write_chunk(w) : 0;
}

static uint64_t changed_pages(const struct snap_region *r) {
    uint64_t n = r->changed ? 0 : r->pages;
    for (uint64_t w = 0; r->changed && w < (r->pages + 63) / 64; w++)
        n += (uint64_t)__builtin_popcountll(r->changed[w]);
    return n;
}

/* Return: 0 or -errno. */
static int add_region(struct writer *w, const struct snap_region *r, uint64_t first) {
    int rc = 0;
    for (uint64_t p = 0; rc == 0 && p < r->pages; p++) {
        if (!r->changed || r->changed[p / 64] >> p % 64 & 1) {
            rc = add_page(w, first + p, r->base + p * PN_PAGE_SIZE, &w->code[first + p]);
        } else if (w->clone) {
            keep_page(w, first + p, &w->code[first + p]);
        } else {
            w->code[first + p] = CODE_BELOW;
            w->inherited++;
        }
    }
    return rc;
}

static uint64_t chunks_of(bool raw, uint64_t stored) {
    return raw ? 0 : (stored + SNAP_CHUNK_PAGES - 1) / SNAP_CHUNK_PAGES;
}

static size_t index_size(bool raw, uint64_t pages, uint64_t stored) {
    uint64_t chunks = chunks_of(raw, stored);
    return pages * sizeof(uint32_t) + stored * sizeof(uint64_t) +
           chunks * sizeof(uint32_t);
}

/* Return: 0 and what the manifest says of it, or -errno. */
static int write_index(struct writer *w, json_t *manifest) {
    uint64_t chunks = chunks_of(w->raw, w->stored);
    size_t size = index_size(w->raw, w->pages, w->stored),
           room = ZSTD_compressBound(size);
    uint8_t *plain = malloc(size), *packed = malloc(room), *p = plain;
    int rc = plain && packed ? 0 : -ENOMEM;
    if (rc == 0) {
        memcpy(p, w->code, w->pages * sizeof(*w->code));
        p += w->pages * sizeof(*w->code);
        memcpy(p, w->hash, w->stored * sizeof(*w->hash));
        p += w->stored * sizeof(*w->hash);
        memcpy(p, w->chunk_size, chunks * sizeof(*w->chunk_size));
        size_t n = ZSTD_compress2(w->zstd, packed, room, plain, size);
        rc = ZSTD_isError(n) ? -ENOMEM : file_write(w->fd, packed, n);
        if (rc == 0)
            json_object_update_new(
                manifest,
                json_pack("{s:I, s:o}", "index_bytes", (json_int_t)n, "index_xxh3",
                          json_sprintf("%016" PRIx64, XXH3_64bits(packed, n))));
    }
    free(plain);
    free(packed);
    return rc;
}

static json_t *regions_json(const struct snap_region *r, unsigned regions) {
    json_t *list = json_array();
    for (unsigned i = 0; i < regions; i++)
        json_array_append_new(list, json_pack("{s:s, s:I}", "name", r[i].name, "pages",
                                              (json_int_t)r[i].pages));
    return list;
}

/* All pages are given: the rest of them. Return: 0 or -errno. */
static int end_pages(struct writer *w) {
    if (!w->raw)
        return write_chunk(w);
    int rc = write_run(w);
    w->bytes = w->pages * PN_PAGE_SIZE;
    return rc == 0 && lseek(w->fd, (off_t)w->bytes, SEEK_SET) < 0 ? -errno : rc;
}

int snap_memory_clone(int fd, const struct snap_memory *of) {
    return ioctl(fd, FICLONE, of->fd) ? -errno : 0;
}

/* What is kept of a clone has its place there. The clone's index goes. Return: 0 or -errno. */
static int begin_clone(const struct writer *w, const struct snap_region *r,
                       unsigned regions) {
    for (unsigned i = 0; i < regions; i++)
        if (r[i].changed &&
            (i >= w->clone->regions || w->clone->region[i].pages != r[i].pages))
            return -EINVAL;
    return ftruncate(w->fd, (off_t)(w->pages * PN_PAGE_SIZE)) ? -errno : 0;
}

json_t *snap_memory_write(int fd, const struct snap_region *r, unsigned regions, bool raw,
                          const struct snap_memory *clone, struct err *e) {
    struct writer w;
    uint64_t pages = 0, most = 0, n = 0;
    for (unsigned i = 0; i < regions; i++) {
        pages += r[i].pages;
        most += clone ? r[i].pages : changed_pages(&r[i]);
    }
    int rc = writer_create(&w, fd, raw, pages, most) ? 0 : -ENOMEM;
    w.clone = clone;
    if (rc == 0 && clone)
        rc = begin_clone(&w, r, regions);
    for (unsigned i = 0; rc == 0 && i < regions; n += r[i++].pages)
        rc = add_region(&w, &r[i], n);
    if (rc == 0)
        rc = end_pages(&w);
    json_t *j =
        rc ? NULL
           : json_pack("{s:o, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "regions",
                       regions_json(r, regions), "raw", raw, "chunk_pages",
                       (int)SNAP_CHUNK_PAGES, "pages", (json_int_t)pages, "inherited",
                       (json_int_t)w.inherited, "cloned", (json_int_t)w.cloned, "zeros",
                       (json_int_t)w.zeros, "stored", (json_int_t)w.stored, "chunk_bytes",
                       (json_int_t)w.bytes);
    if (rc == 0)
        rc = j ? write_index(&w, j) : -ENOMEM;
    writer_free(&w);
    if (rc == 0)
        return j;
    json_decref(j);
    err_sys(e, rc, "%s", SNAPSHOT_MEMORY);
    return NULL;
}

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
    uint64_t chunks = chunks_of(m->raw, m->stored);
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
    size_t size = index_size(m->raw, m->pages, m->stored);
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
                     ZSTD_compressBound(index_size(m->raw, m->pages, m->stored)),
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
