/* SPDX-License-Identifier: MIT */
/*
 * Writing memory.bin (its format: snapshot_memory.c), by several threads:
 *
 *     find:  which pages come next, and what is known of each   one thread at a time
 *     pack:  a chunk of them into a frame; raw: their XXH3      all at once
 *     write: frames in their order; raw: where they belong      one thread at a time; raw: any
 *
 * Invariants
 * 1. Two pages share a stored one only where every byte is equal, whatever their hashes say.
 * 2. Bytes do not depend on the number of threads.
 * 3. Memory is bounded: no thread is further ahead of what is written than there are frames.
 *
 * Locks: `find` guards the cursor and what finding fills, `order` what is written; nobody holds both.
 */
#define _GNU_SOURCE /* fallocate, sync_file_range */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/file.h"
#include "base/thread.h"
#include "machine/snapshot_pages.h"

#define LEVEL         1 /* zstd's */
#define TABLE_FREE    0u
#define RUN_PAGES     256u /* of raw pages that are written at once */
#define ASK_BYTES     (UINT64_C(4) << 20)
#define THREADS_MAX   8u
#define THREAD_CHUNKS 8u /* fewer for each are not worth a thread */
#define FRAMES_EACH   4u
#define FRAMES_MAX    (THREADS_MAX * FRAMES_EACH)

/* What a thread packs at once: pages of a chunk; raw: pages that lie one behind another. */
struct batch {
    uint64_t number; /* of batches */
    unsigned pages;
    const uint8_t *page[SNAP_CHUNK_PAGES]; /* raw: the first alone */
    uint64_t first,
        stored; /* of the first page: its number; its number among those that are stored */
};

struct frame {
    uint8_t *bytes; /* NULL: not needed so far */
    size_t size;
    bool ready;
};

struct packer {
    struct writer *w;
    pthread_t thread;
    bool started;
    ZSTD_CCtx *zstd;
    uint8_t *chunk; /* where pages do not lie one behind another */
    struct batch batch;
};

struct writer {
    int fd;
    bool raw;
    const struct snap_memory *clone; /* whose pages are in the file already; or NULL */
    uint64_t pages;
    uint8_t *index;
    uint32_t *code;       /* in the index */
    uint64_t *hash;       /* behind them */
    uint32_t *chunk_size; /* as many as chunks */
    atomic_int rc;
    unsigned threads;
    struct packer packer[THREADS_MAX];

    pthread_mutex_t find;
    const struct snap_region *r, *end; /* the region that is looked at */
    uint64_t first, at;                /* its first page's number; the word's in it */
    uint64_t bits;                     /* pages of the word that are to be looked at */
    uint64_t batches, stored, zeros, inherited, cloned;
    const uint8_t **where; /* each stored page, in the guest's memory */
    uint32_t *table;       /* 1 + number of a stored page, by hash */
    uint64_t table_mask;

    pthread_mutex_t order;
    pthread_cond_t change;
    struct frame frame[FRAMES_MAX]; /* that of batch n: n % frames */
    unsigned frames;
    uint64_t written;      /* batches */
    bool writing;          /* one of the threads */
    uint64_t bytes, asked; /* asked: those of bytes that are on their way to the disk */
};

bool snap_is_zero(const uint8_t *page) {
    const uint64_t *word = (const uint64_t *)(const void *)page;
    for (unsigned i = 0; i < PN_PAGE_SIZE / sizeof(*word); i += 8)
        if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] |
            word[i + 5] | word[i + 6] | word[i + 7])
            return false;
    return true;
}

/* ---- Finding ---- */

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
static void keep_page(struct writer *w, uint64_t number) {
    uint32_t stored = w->clone->page[number];
    w->code[number] = stored ? CODE_NEXT : CODE_ZERO;
    w->zeros += !stored;
    w->cloned++;
    if (stored)
        w->hash[w->stored++] = w->clone->hash[stored - 1];
}

static void add_to_batch(struct writer *w, struct batch *b, uint64_t number,
                         const uint8_t *page) {
    if (!b->pages) {
        b->first = number;
        b->stored = w->stored;
    }
    if (!w->raw || !b->pages)
        b->page[b->pages] = page;
    b->pages++;
    w->code[number] = CODE_NEXT;
    w->stored++;
}

/* Is there a stored page with its bytes? Else it will be, as the next one. */
static bool find_same(struct writer *w, uint64_t number, const uint8_t *page) {
    uint64_t hash = XXH3_64bits(page, PN_PAGE_SIZE), slot = hash & w->table_mask;
    for (; w->table[slot] != TABLE_FREE; slot = (slot + 1) & w->table_mask) {
        uint32_t n = w->table[slot] - 1;
        if (w->hash[n] == hash && !memcmp(w->where[n], page, PN_PAGE_SIZE)) {
            w->code[number] = CODE_SAME + n;
            return true;
        }
    }
    w->hash[w->stored] = hash;
    w->where[w->stored] = page;
    w->table[slot] = (uint32_t)w->stored + 1;
    return false;
}

/* Return: 0 or -errno. */
static int find_page(struct writer *w, struct batch *b, uint64_t number,
                     const uint8_t *page) {
    if (snap_is_zero(page)) {
        w->zeros++;
        return w->clone && number < w->clone->pages && w->clone->page[number]
                   ? clear_page(w, number)
                   : 0;
    }
    if (w->raw || !find_same(w, number, page))
        add_to_batch(w, b, number, page);
    return 0;
}

static bool is_changed(const struct snap_region *r, uint64_t page) {
    return !r->changed || r->changed[page / 64] >> page % 64 & 1;
}

/* The pages of a word that are to be looked at; the others are as in the parent. */
static void begin_word(struct writer *w) {
    const struct snap_region *r = w->r;
    uint64_t n = r->pages - w->at < 64 ? r->pages - w->at : 64;
    w->bits = n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
    if (!r->changed || w->clone)
        return;
    w->bits &= r->changed[w->at / 64];
    w->inherited += n - (uint64_t)__builtin_popcountll(w->bits);
    memset(w->code + w->first + w->at, 0xff, n * sizeof(*w->code)); /* CODE_BELOW */
    for (uint64_t bits = w->bits; bits; bits &= bits - 1)
        w->code[w->first + w->at + (unsigned)__builtin_ctzll(bits)] = CODE_ZERO;
}

/* Raw: a batch ends where the pages do not lie one behind another. */
static bool goes_on(const struct writer *w, const struct batch *b, uint64_t number) {
    if (!b->pages)
        return true;
    return w->raw ? b->pages < RUN_PAGES && number == b->first + b->pages
                  : b->pages < SNAP_CHUNK_PAGES;
}

/* The next batch; pages 0: there is none. Return: 0 or -errno. */
static int find_batch(struct writer *w, struct batch *b) {
    int rc = 0;
    b->pages = 0;
    for (; rc == 0 && w->r < w->end; w->first += w->r++->pages, w->at = 0)
        for (; w->at < w->r->pages; w->at += 64) {
            if (!w->bits)
                begin_word(w);
            for (; rc == 0 && w->bits; w->bits &= w->bits - 1) {
                uint64_t p = w->at + (unsigned)__builtin_ctzll(w->bits);
                if (!goes_on(w, b, w->first + p))
                    return 0;
                if (is_changed(w->r, p))
                    rc = find_page(w, b, w->first + p, w->r->base + p * PN_PAGE_SIZE);
                else
                    keep_page(w, w->first + p);
            }
            if (rc)
                return rc;
        }
    return rc;
}

/* ---- Packing and writing ---- */

/* What is written goes on its way to the disk while the rest is packed: who waits for all of it
 * in the end waits for little. */
static void ask_disk(int fd, uint64_t from, uint64_t size) {
    sync_file_range(fd, (off64_t)from, (off64_t)size, SYNC_FILE_RANGE_WRITE); /* a hint */
}

/* Raw: the pages of the batch where they belong. Return: 0 or -errno. */
static int put_run(struct writer *w, const struct batch *b) {
    const uint8_t *from = b->page[0];
    size_t left = (size_t)b->pages * PN_PAGE_SIZE;
    uint64_t at = b->first * PN_PAGE_SIZE;
    for (unsigned i = 0; i < b->pages; i++)
        w->hash[b->stored + i] =
            XXH3_64bits(from + (size_t)i * PN_PAGE_SIZE, PN_PAGE_SIZE);
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

/* The pages of a chunk, one behind another. */
static const uint8_t *gather(struct packer *p) {
    const struct batch *b = &p->batch;
    unsigned i = 1;
    while (i < b->pages && b->page[i] == b->page[0] + (size_t)i * PN_PAGE_SIZE)
        i++;
    if (i == b->pages)
        return b->page[0];
    for (i = 0; i < b->pages; i++)
        memcpy(p->chunk + (size_t)i * PN_PAGE_SIZE, b->page[i], PN_PAGE_SIZE);
    return p->chunk;
}

/* Frames that are ready, in their order, until one is not. Locked; others pack meanwhile.
 * Return: 0 or -errno. */
static int put_frames(struct writer *w) {
    int rc = 0;
    struct frame *f;
    while (rc == 0 && !w->writing && (f = &w->frame[w->written % w->frames])->ready) {
        w->writing = true;
        pthread_mutex_unlock(&w->order);
        rc = file_write(w->fd, f->bytes, f->size);
        w->bytes += f->size; /* whoever writes has it alone */
        if (rc == 0 && w->bytes - w->asked >= ASK_BYTES) {
            uint64_t whole =
                w->bytes / PN_PAGE_SIZE * PN_PAGE_SIZE; /* the last page gets more */
            ask_disk(w->fd, w->asked, whole - w->asked);
            w->asked = whole;
        }
        pthread_mutex_lock(&w->order);
        w->writing = f->ready = false;
        w->written++;
        pthread_cond_broadcast(&w->change);
    }
    return rc;
}

/* Return: 0 or -errno. */
static int put_chunk(struct packer *p) {
    struct writer *w = p->w;
    const struct batch *b = &p->batch;
    struct frame *f = &w->frame[b->number % w->frames];
    const size_t room = ZSTD_compressBound(SNAP_CHUNK_BYTES);
    pthread_mutex_lock(&w->order);
    while (b->number - w->written >= w->frames && !w->rc)
        pthread_cond_wait(&w->change, &w->order);
    pthread_mutex_unlock(&w->order);
    if (w->rc || (!f->bytes && !(f->bytes = malloc(room))))
        return -ENOMEM; /* of no meaning where there was another */
    f->size = ZSTD_compress2(p->zstd, f->bytes, room, gather(p),
                             (size_t)b->pages * PN_PAGE_SIZE);
    if (ZSTD_isError(f->size))
        return -ENOMEM;
    w->chunk_size[b->number] = (uint32_t)f->size;
    pthread_mutex_lock(&w->order);
    f->ready = true;
    int rc = put_frames(w);
    pthread_mutex_unlock(&w->order);
    return rc;
}

/* Return: NULL: out of memory. */
static ZSTD_CCtx *context(struct packer *p) {
    if (!p->zstd && (p->zstd = ZSTD_createCCtx()))
        ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, LEVEL);
    return p->zstd;
}

/* Return: 0 or -errno. */
static int packer_open(struct packer *p) {
    if (p->w->raw)
        return 0;
    p->chunk = malloc(SNAP_CHUNK_BYTES);
    return context(p) && p->chunk ? 0 : -ENOMEM;
}

static void packer_close(struct packer *p) {
    ZSTD_freeCCtx(p->zstd);
    free(p->chunk);
}

static int take_batch(struct packer *p) {
    struct writer *w = p->w;
    pthread_mutex_lock(&w->find);
    int rc = w->rc ? w->rc : find_batch(w, &p->batch);
    p->batch.number = w->batches;
    w->batches += p->batch.pages != 0;
    pthread_mutex_unlock(&w->find);
    return rc;
}

static void *work(void *opaque) {
    struct packer *p = opaque;
    struct writer *w = p->w;
    int rc = packer_open(p), none = 0;
    while (rc == 0 && (rc = take_batch(p)) == 0 && p->batch.pages)
        rc = w->raw ? put_run(w, &p->batch) : put_chunk(p);
    if (rc) {
        atomic_compare_exchange_strong(&w->rc, &none, rc); /* the first counts */
        pthread_mutex_lock(&w->order);
        pthread_cond_broadcast(&w->change);
        pthread_mutex_unlock(&w->order);
    }
    return NULL;
}

/* All pages, by this thread and others; by fewer where the host gives no more. */
static int write_pages(struct writer *w) {
    for (unsigned i = 1; i < w->threads; i++)
        w->packer[i].started =
            thread_start(&w->packer[i].thread, work, &w->packer[i]) == 0;
    work(&w->packer[0]);
    for (unsigned i = 1; i < w->threads; i++)
        if (w->packer[i].started)
            pthread_join(w->packer[i].thread, NULL);
    return w->rc;
}

/* ---- All of it ---- */

static void writer_free(struct writer *w) {
    for (unsigned i = 0; i < w->threads; i++)
        packer_close(&w->packer[i]);
    for (unsigned i = 0; i < w->frames; i++)
        free(w->frame[i].bytes);
    pthread_mutex_destroy(&w->find);
    pthread_mutex_destroy(&w->order);
    pthread_cond_destroy(&w->change);
    free(w->index);
    free(w->chunk_size);
    free(w->where);
    free(w->table);
    free(w);
}

/* most: pages that may be stored. Memory that is not touched costs nothing: the tables are as
 * large as the worst guest of that size needs. Return: NULL: out of memory. */
static struct writer *writer_create(int fd, bool raw, uint64_t pages, uint64_t most,
                                    unsigned threads) {
    struct writer *w = calloc(1, sizeof(*w));
    uint64_t slots = 1024;
    if (!w)
        return NULL;
    while (slots < most * 2)
        slots *= 2;
    w->fd = fd;
    w->raw = raw;
    w->pages = pages;
    w->table_mask = slots - 1;
    pthread_mutex_init(&w->find, NULL);
    pthread_mutex_init(&w->order, NULL);
    pthread_cond_init(&w->change, NULL);
    uint64_t worth = most / SNAP_CHUNK_PAGES / THREAD_CHUNKS;
    w->threads = threads > THREADS_MAX ? THREADS_MAX : threads;
    w->threads = worth < w->threads ? (unsigned)worth : w->threads;
    w->threads += !w->threads;
    w->frames = w->threads * FRAMES_EACH;
    for (unsigned i = 0; i < w->threads; i++)
        w->packer[i].w = w;
    /* Hashes lie right behind the codes, and are whole words: with an odd number of pages the codes begin later. */
    size_t skip = pages % 2 * sizeof(*w->code);
    w->index = calloc(1, skip + snap_index_size(raw, pages, most + 1));
    w->chunk_size = calloc(most / SNAP_CHUNK_PAGES + 1, sizeof(*w->chunk_size));
    w->where = calloc(most + 1, sizeof(*w->where));
    w->table = calloc(slots, sizeof(*w->table));
    if (!w->index || !w->chunk_size || !w->where || !w->table) {
        writer_free(w);
        return NULL;
    }
    w->code = (uint32_t *)(void *)(w->index + skip);
    w->hash = (uint64_t *)(void *)(w->code + pages);
    return w;
}

/* Return: 0 and what the manifest says of it, or -errno. */
static int write_index(struct writer *w, json_t *manifest) {
    size_t size = snap_index_size(w->raw, w->pages, w->stored),
           room = ZSTD_compressBound(size);
    uint8_t *packed = malloc(room);
    memcpy(w->hash + w->stored, w->chunk_size,
           snap_chunks_of(w->raw, w->stored) * sizeof(*w->chunk_size));
    ZSTD_CCtx *zstd = context(&w->packer[0]);
    size_t n = packed && zstd ? ZSTD_compress2(zstd, packed, room, w->code, size) : 0;
    int rc = !n || ZSTD_isError(n) ? -ENOMEM : file_write(w->fd, packed, n);
    if (rc == 0 &&
        json_object_update_new(
            manifest, json_pack("{s:I, s:o}", "index_bytes", (json_int_t)n, "index_xxh3",
                                json_sprintf("%016" PRIx64, XXH3_64bits(packed, n)))))
        rc = -ENOMEM;
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

static uint64_t changed_pages(const struct snap_region *r) {
    uint64_t n = r->changed ? 0 : r->pages;
    for (uint64_t w = 0; r->changed && w < (r->pages + 63) / 64; w++)
        n += (uint64_t)__builtin_popcountll(r->changed[w]);
    return n;
}

/* Return: what the manifest says of them, or NULL and *rc. */
static json_t *write_all(struct writer *w, const struct snap_region *r, unsigned regions,
                         int *rc) {
    w->r = r;
    w->end = r + regions;
    *rc = w->clone ? begin_clone(w, r, regions) : 0;
    if (*rc == 0)
        *rc = write_pages(w);
    if (w->raw)
        w->bytes = w->pages * PN_PAGE_SIZE;
    if (*rc == 0 && w->raw && lseek(w->fd, (off_t)w->bytes, SEEK_SET) < 0)
        *rc = -errno;
    if (*rc)
        return NULL;
    json_t *j = json_pack("{s:o, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "regions",
                          regions_json(r, regions), "raw", w->raw, "chunk_pages",
                          (int)SNAP_CHUNK_PAGES, "pages", (json_int_t)w->pages,
                          "inherited", (json_int_t)w->inherited, "cloned",
                          (json_int_t)w->cloned, "zeros", (json_int_t)w->zeros, "stored",
                          (json_int_t)w->stored, "chunk_bytes", (json_int_t)w->bytes);
    *rc = j ? write_index(w, j) : -ENOMEM;
    if (*rc == 0)
        return j;
    json_decref(j);
    return NULL;
}

unsigned snap_threads(unsigned kept) {
    cpu_set_t cpus;
    unsigned n =
        sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : (unsigned)CPU_COUNT(&cpus);
    return n > kept ? n - kept : 1;
}

json_t *snap_memory_write(int fd, const struct snap_region *r, unsigned regions, bool raw,
                          const struct snap_memory *clone, unsigned threads,
                          struct err *e) {
    uint64_t pages = 0, most = 0;
    for (unsigned i = 0; i < regions; i++) {
        pages += r[i].pages;
        most += clone ? r[i].pages : changed_pages(&r[i]);
    }
    struct writer *w = writer_create(fd, raw, pages, most, threads);
    int rc = -ENOMEM;
    json_t *j = NULL;
    if (w) {
        w->clone = clone;
        j = write_all(w, r, regions, &rc);
        writer_free(w);
    }
    if (!j)
        err_sys(e, rc, "%s", SNAPSHOT_MEMORY);
    return j;
}
