/* SPDX-License-Identifier: MIT */
/*
 * The working set of a restored guest: which pages it touched first, in order, with what was in
 * them; and another restore of the same snapshot, which has them before they are touched.
 *
 *     head of 4096 bytes | the pages' bytes, one behind another | their numbers, 4 bytes each
 *
 * The head: "PNWSET1\n"; 8 bytes each: the digest of the snapshot's manifest, how many pages, XXH3
 * of the head so far and the numbers. All else is zeros.
 *
 * Invariants
 * 1. It is a hint: whoever puts a page of it looks first whether it is the snapshot's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/thread.h"
#include "machine/snapshot_fill.h"

#define MAGIC "PNWSET1\n"
#define HEAD  4096u
#define BATCH SNAP_CHUNK_PAGES

struct head {
    char magic[8];
    uint64_t snapshot, pages, hash;
};

static uint64_t hash_of(const struct head *h, const uint32_t *page) {
    XXH3_state_t *s = XXH3_createState();
    uint64_t hash = 0;
    if (s) {
        XXH3_64bits_reset(s);
        XXH3_64bits_update(s, h, offsetof(struct head, hash));
        XXH3_64bits_update(s, page, h->pages * sizeof(*page));
        hash = XXH3_64bits_digest(s);
    }
    XXH3_freeState(s);
    return hash;
}

/* ---- Writing ---- */

int snap_set_add(int fd, uint64_t number, const uint8_t *data) {
    uint64_t at = HEAD + number * PN_PAGE_SIZE;
    ssize_t n = pwrite(fd, data, PN_PAGE_SIZE, (off_t)at);
    return n == PN_PAGE_SIZE ? 0 : n < 0 ? -errno : -ENOSPC;
}

int snap_set_end(int fd, uint64_t snapshot, const uint32_t *page, uint64_t pages) {
    union {
        struct head h;
        uint8_t bytes[HEAD];
    } u = {.h = {.magic = MAGIC, .snapshot = snapshot, .pages = pages}};
    u.h.hash = hash_of(&u.h, page);
    if (lseek(fd, (off_t)(HEAD + pages * PN_PAGE_SIZE), SEEK_SET) < 0)
        return -errno;
    int rc = file_write(fd, page, pages * sizeof(*page));
    if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
        rc = -errno;
    return rc ? rc : file_write(fd, u.bytes, sizeof(u.bytes));
}

/* ---- Reading ---- */

/* Return: 0, -EBADMSG: no such file, or -errno. */
static int take(struct snap_set *s, uint64_t snapshot, uint64_t all) {
    struct head h;
    struct stat st;
    int rc = snap_read_at(s->fd, &h, sizeof(h), 0);
    if (rc || fstat(s->fd, &st))
        return rc ? rc : -errno;
    if (memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 || h.pages > all ||
        (uint64_t)st.st_size != HEAD + h.pages * (PN_PAGE_SIZE + sizeof(uint32_t)))
        return -EBADMSG;
    if (h.snapshot != snapshot)
        return -EINVAL;
    s->pages = h.pages;
    s->page = malloc((h.pages + 1) * sizeof(*s->page));
    if (!s->page)
        return -ENOMEM;
    rc = snap_read_at(s->fd, s->page, h.pages * sizeof(*s->page),
                      HEAD + h.pages * PN_PAGE_SIZE);
    for (uint64_t i = 0; rc == 0 && i < h.pages; i++)
        if (s->page[i] >= all)
            rc = -EBADMSG;
    return rc == 0 && h.hash != hash_of(&h, s->page) ? -EBADMSG : rc;
}

int snap_set_open(struct snap_set *s, const char *path, uint64_t snapshot, uint64_t all,
                  struct err *e) {
    *s = (struct snap_set){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    int rc = s->fd < 0 ? -errno : take(s, snapshot, all);
    if (rc == 0)
        return 0;
    snap_set_close(s);
    return rc == -EINVAL ? err_set(e, rc, "%s: the working set of another snapshot", path)
           : rc == -EBADMSG ? err_set(e, rc, "%s: a damaged working set, or none", path)
                            : err_sys(e, rc, "%s", path);
}

void snap_set_close(struct snap_set *s) {
    if (s->fd >= 0)
        close(s->fd);
    free(s->page);
    *s = (struct snap_set){.fd = -1};
}

/* ---- Ahead of the guest ---- */

/* Pages that lie one behind another, from number i on. Return: how many, at most to `end`. */
static uint64_t run_at(const struct snap_set *s, uint64_t i, uint64_t end) {
    uint64_t n = 1;
    while (i + n < end && s->page[i + n] == s->page[i] + n)
        n++;
    return n;
}

static void *go(void *opaque) {
    struct snap_ahead *a = opaque;
    struct snap_set *s = &a->set;
    uint8_t *data = a->wants_data ? malloc(BATCH * PN_PAGE_SIZE) : NULL;
    int rc = a->wants_data && !data ? -ENOMEM : 0;
    for (uint64_t i = 0, end; rc == 0 && i < s->pages && !atomic_load(&a->stop);
         i = end) {
        end = s->pages - i < BATCH ? s->pages : i + BATCH;
        if (data)
            rc = snap_read_at(s->fd, data, (end - i) * PN_PAGE_SIZE,
                              HEAD + i * PN_PAGE_SIZE);
        for (uint64_t k = i, n; rc == 0 && k < end; k += n) {
            n = run_at(s, k, end);
            rc = a->put(a->opaque, s->page[k], n,
                        data ? data + (k - i) * PN_PAGE_SIZE : NULL);
        }
    }
    free(data);
    return NULL;
}

int snap_ahead_start(struct snap_ahead *a) {
    int rc = thread_start(&a->thread, go, a);
    a->started = rc == 0;
    return rc;
}

void snap_ahead_end(struct snap_ahead *a) {
    atomic_store(&a->stop, true);
    if (a->started)
        pthread_join(a->thread, NULL);
    a->started = false;
    snap_set_close(&a->set);
}
