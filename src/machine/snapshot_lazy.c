/* SPDX-License-Identifier: MIT */
/*
 * Memory of a snapshot that comes when it is touched: whoever touches a page that is not there
 * waits in the host's kernel (base/uffd.h) until a thread has read it.
 *
 * Invariants
 * 1. A page is put once, by whoever has claimed it; what is put has the index's XXH3.
 * 2. A page that was done and is missing again has been given up by the guest, and is zeros.
 * 3. Nobody ever runs on with what is not the snapshot's: where a page cannot be read,
 *    machine_config.lost ends the process.
 * 4. Memory where the snapshot has zeros alone, 2 MiB at a time, is not watched.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/thread.h"
#include "base/uffd.h"
#include "machine/snapshot_fill.h"

#define BLOCK_PAGES 512u
#define ZEROS       64u /* pages that are put at once */

struct loader {
    struct snap_reader reader;
    const struct snap_memory *of; /* whose chunk it has; NULL: none */
    uint64_t chunk;
};

struct snap_lazy {
    struct machine *m;
    const struct snapshot *s;
    const struct snap_memory *memory;
    int uffd, quit;
    uint64_t *claimed, *done;     /* a bit for each page */
    uint64_t *at[SNAP_CHAIN_MAX]; /* of each level: where its chunks begin */
    struct loader loader;         /* the faults' thread's; then that of `finish` */
    pthread_t faults;
    bool has_faults, finished;
    int set_fd; /* of machine_config.record_set, or -1 */
    uint32_t *touched;
    uint64_t touches;
    int set_error;
};

static bool bit(const uint64_t *map, uint64_t page) {
    return __atomic_load_n(&map[page / 64], __ATOMIC_SEQ_CST) >> page % 64 & 1;
}

/* Return: whether it was clear. */
static bool set_bit(uint64_t *map, uint64_t page) {
    uint64_t one = 1ull << page % 64;
    return !(__atomic_fetch_or(&map[page / 64], one, __ATOMIC_SEQ_CST) & one);
}

static uint8_t *address_of(const struct snap_lazy *l, uint64_t page) {
    return snap_page_at(l->m, page);
}

/* Return: l->memory->pages: none is there. */
static uint64_t page_of(const struct snap_lazy *l, uint64_t address) {
    const struct machine *m = l->m;
    uint64_t ram = l->memory->region[0].pages;
    uint64_t n = (address - (uintptr_t)m->ram.base) / PN_PAGE_SIZE;
    if (n < ram)
        return n;
    n = (address - (uintptr_t)m->window.base) / PN_PAGE_SIZE;
    return m->window.base && n < l->memory->pages - ram ? ram + n : l->memory->pages;
}

/* ---- Putting ---- */

/* Pages one behind another, those of them that nobody has claimed. data NULL: zeros.
 * Return: 0 or -errno. */
static int put(struct snap_lazy *l, uint64_t page, uint64_t pages, const uint8_t *data) {
    for (uint64_t i = 0, n; i < pages; i += n ? n : 1) {
        for (n = 0; i + n < pages && set_bit(l->claimed, page + i + n); n++)
            if (page + i + n == l->memory->region[0].pages - 1) { /* the window's apart */
                n++;
                break;
            }
        if (!n)
            continue;
        int rc = uffd_put(l->uffd, address_of(l, page + i),
                          data ? data + i * PN_PAGE_SIZE : NULL, n * PN_PAGE_SIZE);
        if (rc)
            return rc;
        for (uint64_t k = 0; k < n; k++)
            set_bit(l->done, page + i + k);
    }
    return 0;
}

/* The chunk of a file of the chain. Return: 0, or -errno with a line in e. */
static int load(struct snap_lazy *l, struct loader *by, const struct snap_memory *of,
                unsigned level, uint64_t chunk, struct err *e) {
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    const struct snapshot *s = l->s;
    if (by->of == of && by->chunk == chunk)
        return 0;
    by->of = NULL;
    int rc = snap_memory_chunk(of, &by->reader, chunk, l->at[level][chunk]);
    if (rc == 0) {
        by->of = of;
        by->chunk = chunk;
        return 0;
    }
    snap_chunk_error(chunk, rc, &inner);
    for (; level; level--)
        s = s->parent;
    return err_set(e, rc, "%s: %s", s->dir, line);
}

/* All pages of the loaded chunk that nobody has claimed. Return: 0 or -errno. */
static int put_chunk(struct snap_lazy *l, const struct loader *by) {
    const uint32_t *first = &by->of->first[by->chunk * SNAP_CHUNK_PAGES];
    unsigned pages = snap_chunk_pages(by->of, by->chunk), n;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < pages; i += n) {
        for (n = 1;
             i + n < pages && first[i + n] == first[i] + n && first[i] != SNAP_NOWHERE;)
            n++;
        if (first[i] != SNAP_NOWHERE)
            rc = put(l, first[i], n,
                     (const uint8_t *)by->reader.plain + (size_t)i * PN_PAGE_SIZE);
    }
    return rc;
}

/* A page that is not zeros; where nobody records, its chunk's others, too. Return: 0, or -errno
 * with a line in e. */
static int bring(struct snap_lazy *l, struct loader *by, uint64_t page, struct err *e) {
    const struct snap_memory *of = snap_memory_of(l->memory, page);
    uint64_t stored = l->memory->page[page] - 1;
    const uint8_t *data = by->reader.plain + stored % SNAP_CHUNK_PAGES * PN_PAGE_SIZE;
    int rc = load(l, by, of, l->memory->level ? l->memory->level[page] : 0,
                  stored / SNAP_CHUNK_PAGES, e);
    if (rc)
        return rc;
    if (l->set_fd >= 0 && !l->set_error) {
        l->set_error = snap_set_add(l->set_fd, l->touches, data);
        l->touched[l->touches++] = (uint32_t)page;
    }
    rc = put(l, page, 1, data);
    if (rc == 0 && l->set_fd < 0)
        rc = put_chunk(l, by);
    return rc ? err_sys(e, rc, "%s: userfaultfd", l->s->dir) : 0;
}

/* Is that what the snapshot has? */
static bool is_page(const struct snap_memory *m, uint64_t page, const uint8_t *data) {
    return page < m->pages && m->page[page] &&
           XXH3_64bits(data, PN_PAGE_SIZE) ==
               snap_memory_of(m, page)->hash[m->page[page] - 1];
}

int snap_lazy_put(void *lazy, uint64_t page, uint64_t pages, const uint8_t *data) {
    struct snap_lazy *l = lazy;
    int rc = 0;
    for (uint64_t i = 0, n; rc == 0 && i < pages; i += n + 1) {
        for (n = 0; i + n < pages &&
                    is_page(l->memory, page + i + n, data + (i + n) * PN_PAGE_SIZE);)
            n++;
        rc = put(l, page + i, n, data + i * PN_PAGE_SIZE);
    } /* what is not the snapshot's comes when it is touched */
    return rc;
}

/* ---- Who waits ---- */

/* Zeros, a few at once. */
static int bring_zeros(struct snap_lazy *l, uint64_t page) {
    uint64_t n = 1,
             end = (page / BLOCK_PAGES + 1) * BLOCK_PAGES; /* the next is not watched */
    while (n < ZEROS && page + n < end && page + n < l->memory->pages &&
           !l->memory->page[page + n])
        n++;
    return put(l, page, n, NULL);
}

static int answer(struct snap_lazy *l, uint64_t address, struct err *e) {
    uint64_t page = page_of(l, address);
    uint8_t *at = page < l->memory->pages ? address_of(l, page) : NULL;
    if (!at)
        return 0;
    if (!bit(l->claimed, page) && l->memory->page[page])
        return bring(l, &l->loader, page, e);
    int rc = 0;
    if (!bit(l->claimed, page))
        rc = bring_zeros(l, page);
    else if (bit(l->done, page)) /* else whoever puts it wakes */
        rc = uffd_put(l->uffd, at, NULL, PN_PAGE_SIZE);
    if (rc == -EEXIST)
        rc = uffd_wake(l->uffd, at, PN_PAGE_SIZE);
    return rc ? err_sys(e, rc, "%s: userfaultfd", l->s->dir) : 0;
}

static void *faults(void *opaque) {
    struct snap_lazy *l = opaque;
    struct pollfd fds[] = {{l->uffd, POLLIN, 0}, {l->quit, POLLIN, 0}};
    char line[400] = "";
    struct err e = {line, sizeof(line)};
    uint64_t address;
    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (fds[1].revents)
            return NULL;
        while (uffd_next(l->uffd, &address)) {
            int rc = answer(l, address, &e);
            if (rc)
                l->m->cfg.lost(l->m->cfg.opaque, rc, line);
        }
    }
    return NULL;
}

/* ---- Life ---- */

/* Where the chunks of each file begin. Return: 0 or -ENOMEM. */
static int find_chunks(struct snap_lazy *l) {
    unsigned level = 0;
    for (const struct snap_memory *m = l->memory; m; m = m->below, level++) {
        uint64_t at = 0, *start = malloc((snap_chunks(m) + 1) * sizeof(*start));
        if (!(l->at[level] = start))
            return -ENOMEM;
        for (uint64_t c = 0; c < snap_chunks(m); at += m->chunk_size[c++])
            start[c] = at;
    }
    return 0;
}

/* Does the snapshot have a page there that is not zeros? */
static bool has_pages(const struct snap_memory *m, uint64_t page, uint64_t end) {
    for (; page < end; page++)
        if (m->page[page])
            return true;
    return false;
}

/* Of a region the blocks that are not zeros. fn: uffd_watch, or its contrary. */
static int for_blocks(struct snap_lazy *l, uint64_t from, uint64_t to,
                      int (*fn)(int fd, void *at, size_t size)) {
    uint64_t first = from;
    int rc = 0;
    for (uint64_t p = from; rc == 0 && p < to; p += BLOCK_PAGES) {
        uint64_t end = to - p < BLOCK_PAGES ? to : p + BLOCK_PAGES;
        bool has = has_pages(l->memory, p, end);
        if (!has && p > first)
            rc = fn(l->uffd, address_of(l, first), (p - first) * PN_PAGE_SIZE);
        if (!has)
            first = end;
        else if (end == to)
            rc = fn(l->uffd, address_of(l, first), (to - first) * PN_PAGE_SIZE);
    }
    return rc;
}

static int unwatch(int fd, void *at, size_t size) {
    uffd_unwatch(fd, at, size);
    return 0;
}

static int for_all_blocks(struct snap_lazy *l, int (*fn)(int fd, void *at, size_t size)) {
    uint64_t ram = l->memory->region[0].pages;
    int rc = for_blocks(l, 0, ram, fn);
    return rc ? rc : for_blocks(l, ram, l->memory->pages, fn);
}

static int start(struct snap_lazy *l) {
    int rc = thread_start(&l->faults, faults, l);
    l->has_faults = rc == 0;
    return rc;
}

static bool host_touches(const struct machine_config *cfg) {
    bool is = cfg->engine->host_cpu;
    for (unsigned i = 0; i < cfg->handovers; i++)
        is |= cfg->handover[i].to->host_cpu;
    return is;
}

int snap_lazy_open(struct machine *m, struct snap_lazy **out, struct err *e) {
    struct snap_lazy *l = calloc(1, sizeof(*l));
    int fd = l ? uffd_open(host_touches(&m->cfg), "a lazy restore", e)
               : err_set(e, -ENOMEM, "out of memory");
    if (fd < 0) {
        free(l);
        return fd;
    }
    l->m = m;
    l->s = m->cfg.restore;
    l->memory = &l->s->memory;
    l->uffd = fd;
    l->quit = eventfd(0, EFD_CLOEXEC);
    l->set_fd = m->cfg.record_set ? m->cfg.record_set_fd : -1;
    size_t words = (l->memory->pages + 63) / 64;
    l->claimed = calloc(words, sizeof(uint64_t));
    l->done = calloc(words, sizeof(uint64_t));
    l->touched = l->set_fd < 0 ? NULL : malloc(l->memory->pages * sizeof(*l->touched));
    int rc = l->quit < 0                           ? -errno
             : !l->claimed || !l->done             ? -ENOMEM
             : l->set_fd >= 0 && !l->touched       ? -ENOMEM
             : snap_reader_open(&l->loader.reader) ? -ENOMEM
                                                   : find_chunks(l);
    if (rc == 0)
        rc = for_all_blocks(l, uffd_watch);
    if (rc == 0)
        rc = start(l);
    if (rc) {
        snap_lazy_close(l);
        return err_sys(e, rc, "a lazy restore");
    }
    *out = l;
    return 0;
}

static void end_faults(struct snap_lazy *l) {
    uint64_t one = 1;
    if (l->has_faults) {
        (void)!write(l->quit, &one, sizeof(one));
        pthread_join(l->faults, NULL);
        (void)!read(l->quit, &one, sizeof(one)); /* another may be started */
    }
    l->has_faults = false;
}

/* ---- All of it ---- */

struct order {
    uint32_t page, stored;
    uint8_t level;
};

static int by_place(const void *a, const void *b) {
    const struct order *x = a, *y = b;
    if (x->level != y->level)
        return x->level < y->level ? -1 : 1;
    return x->stored < y->stored ? -1 : x->stored > y->stored;
}

/* In the order of the files. */
static int bring_all(struct snap_lazy *l, struct err *e) {
    const struct snap_memory *m = l->memory;
    struct order *list = malloc((m->pages + 1) * sizeof(*list));
    uint64_t n = 0;
    if (!list)
        return err_set(e, -ENOMEM, "out of memory");
    for (uint64_t p = 0; p < m->pages; p++)
        if (m->page[p] && !bit(l->claimed, p))
            list[n++] =
                (struct order){(uint32_t)p, m->page[p], m->level ? m->level[p] : 0};
    qsort(list, n, sizeof(*list), by_place);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < n; i++)
        if (!bit(l->claimed, list[i].page))
            rc = bring(l, &l->loader, list[i].page, e);
    free(list);
    return rc;
}

int snap_lazy_finish(struct snap_lazy *l, struct err *e) {
    if (l->finished)
        return 0;
    end_faults(l); /* whoever waits is woken by the end of the watch */
    int fd = l->set_fd;
    l->set_fd = -1; /* the guest has not touched these */
    int rc = bring_all(l, e);
    l->set_fd = fd;
    if (rc) {
        int again = start(l);
        return again ? err_sys(e, again, "a thread") : rc;
    }
    for_all_blocks(l, unwatch);
    l->finished = true;
    return 0;
}

void snap_lazy_forget(struct snap_lazy *l, const uint8_t *at, size_t size) {
    uint64_t page = l->finished ? l->memory->pages : page_of(l, (uintptr_t)at);
    for (uint64_t p = page; p < l->memory->pages && p < page + size / PN_PAGE_SIZE; p++)
        if (set_bit(l->claimed, p))
            set_bit(l->done, p);
        else
            while (!bit(l->done, p))
                sched_yield();
}

int snap_lazy_end_set(struct snap_lazy *l, struct err *e) {
    uint64_t digest = 0;
    bool on = l->has_faults;
    end_faults(l);
    snap_hex(l->s->manifest, "xxh3", &digest);
    int rc = l->set_error ? l->set_error
                          : snap_set_end(l->set_fd, digest, l->touched, l->touches);
    l->set_fd = -1;
    if (rc == 0 && on)
        rc = start(l);
    return rc ? err_sys(e, rc, "the working set") : 0;
}

void snap_lazy_close(struct snap_lazy *l) {
    if (!l)
        return;
    end_faults(l);
    if (l->uffd >= 0)
        close(l->uffd);
    if (l->quit >= 0)
        close(l->quit);
    snap_reader_close(&l->loader.reader);
    for (unsigned i = 0; i < SNAP_CHAIN_MAX; i++)
        free(l->at[i]);
    free(l->claimed);
    free(l->done);
    free(l->touched);
    free(l);
}
