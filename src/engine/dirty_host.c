/* SPDX-License-Identifier: MIT */
/*
 * Written pages as the host's kernel sees them, whoever writes and whoever translates:
 *
 *   uffd-wp       userfaultfd write-protects the pages. A first write is a fault that a thread of
 *                 ours answers (Linux's admin-guide, "Userfaultfd", write-protect; 6.4 and later
 *                 for pages that nobody has touched)
 *   pagemap-scan  the kernel answers it (asynchronous mode), and PAGEMAP_SCAN reads which pages
 *                 are protected no more, and protects them again (6.7 and later)
 *   rw-scan       the same for any access (read-write protection, asynchronous mode; Linux 7.3): what
 *                 PAGEMAP_SCAN calls accessed is protected no more. It is protected again after that by a
 *                 call of its own, page by page of what was found: who comes between is in the next harvest
 *   soft-dirty    bit 55 of /proc/self/pagemap, which clear_refs clears, of the whole process at
 *                 once (Linux's admin-guide, "Soft-Dirty PTEs"). Reading and clearing are two
 *                 steps, so no vCPU may run between them; and one log of a process goes by it
 *   mincore       which pages are in memory. That is not what was written: it says so once a page
 *                 was touched, and for ever. It is here to be measured
 *
 * A harvest protects first and gives what was written before: a write that comes between is in
 * what the consumer reads, or in the next harvest. Memory of hugetlb pages, which the kernel
 * protects as a whole, is not for these.
 *
 * Locking: `lock` guards the list of ranges and, of uffd-wp, their bitmaps with what is protected:
 * a page is in its bitmap if and only if it is not protected. A harvest that came between the two
 * would protect a page that the thread then lets be written, and nobody would know.
 */
#define _GNU_SOURCE
#include "engine/dirty_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/thread.h"

/* Newer than the headers of older systems. */
#define WP_UNPOPULATED (UINT64_C(1) << 13)
#define WP_ASYNC       (UINT64_C(1) << 15)
#define SCAN_WRITTEN   (UINT64_C(1) << 1) /* PAGE_IS_WRITTEN */
#define SCAN_PROTECT   (UINT64_C(3))      /* PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC */
#define RWP            (UINT64_C(1) << 17)
#define RWP_ASYNC      (UINT64_C(1) << 18)
#define REGISTER_RWP   (UINT64_C(1) << 3)
#define SCAN_ACCESSED  (UINT64_C(1) << 9) /* PAGE_IS_ACCESSED */
struct rw_protect {
    struct uffdio_range range;
    uint64_t mode; /* 1: protect */
};
#define RW_PROTECT _IOWR(UFFDIO, 9, struct rw_protect)
struct scan_region {
    uint64_t start, end, categories;
};
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan)

#define REGIONS 256u

struct host_range {
    struct host_range *next;
    uint8_t *hva;
    uint64_t size;
    uint64_t written[]; /* uffd-wp, soft-dirty: since the last harvest */
};

struct host_tracker {
    enum pn_dirty_tracker tracker;
    int uffd, pagemap, quit, clear_refs; /* -1: none */
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    struct host_range *ranges;
};

bool host_tracker_has(enum pn_dirty_tracker tracker) {
    return tracker == PN_TRACKER_UFFD || tracker == PN_TRACKER_SCAN ||
           tracker == PN_TRACKER_SOFT || tracker == PN_TRACKER_MINCORE ||
           tracker == PN_TRACKER_RW_SCAN;
}

/* Return: 0 or -errno. */
static int protect(const struct host_tracker *t, void *at, uint64_t size, bool on) {
    struct uffdio_writeprotect w = {
        .range = {(uintptr_t)at, size},
        .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    int rc;
    do
        rc = ioctl(t->uffd, UFFDIO_WRITEPROTECT, &w);
    while (rc < 0 && errno == EAGAIN); /* mappings change meanwhile */
    return rc < 0 ? -errno : 0;
}

/* From reads, too. Return: 0 or -errno. */
static int protect_all(const struct host_tracker *t, uint64_t at, uint64_t size) {
    struct rw_protect p = {.range = {at, size}, .mode = 1};
    int rc;
    do
        rc = ioctl(t->uffd, RW_PROTECT, &p);
    while (rc < 0 && errno == EAGAIN);
    return rc < 0 ? -errno : 0;
}

/* ---- The thread of uffd-wp ---- */

static void answer(struct host_tracker *t, uint64_t address) {
    uint8_t *at = (uint8_t *)(uintptr_t)(address & PN_PAGE_MASK);
    pthread_mutex_lock(&t->lock);
    for (struct host_range *r = t->ranges; r; r = r->next)
        if ((uint64_t)(at - r->hva) < r->size) {
            uint64_t page = (uint64_t)(at - r->hva) / PN_PAGE_SIZE;
            r->written[page / 64] |= 1ull << page % 64;
        }
    protect(t, at, PN_PAGE_SIZE, false); /* and the writer goes on */
    pthread_mutex_unlock(&t->lock);
}

static void *serve(void *opaque) {
    struct host_tracker *t = opaque;
    struct pollfd fds[] = {{t->uffd, POLLIN, 0}, {t->quit, POLLIN, 0}};
    struct uffd_msg msg;
    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (fds[1].revents)
            return NULL;
        while (read(t->uffd, &msg, sizeof(msg)) == sizeof(msg))
            if (msg.event == UFFD_EVENT_PAGEFAULT)
                answer(t, msg.arg.pagefault.address);
    }
    return NULL;
}

/* No signal of penumbra's is for it. Return: 0 or -errno. */
static int start_thread(struct host_tracker *t) {
    t->quit = eventfd(0, EFD_CLOEXEC);
    if (t->quit < 0)
        return -errno;
    int rc = thread_start(&t->thread, serve, t);
    t->has_thread = rc == 0;
    return rc;
}

/* ---- Soft-dirty ---- */

#define SOFT_DIRTY (UINT64_C(1) << 55)

/* Add what the bits of the range say to r->written. Return: 0 or -errno. */
static int read_soft(const struct host_tracker *t, struct host_range *r) {
    uint64_t entry[512], pages = r->size / PN_PAGE_SIZE,
                         first = (uintptr_t)r->hva / PN_PAGE_SIZE;
    for (uint64_t p = 0; p < pages;) {
        uint64_t n = pages - p < 512 ? pages - p : 512;
        ssize_t got = pread(t->pagemap, entry, n * sizeof(*entry),
                            (off_t)((first + p) * sizeof(*entry)));
        if (got < (ssize_t)sizeof(*entry))
            return got < 0 ? -errno : -EIO;
        for (uint64_t i = 0; i < (uint64_t)got / sizeof(*entry); i++, p++)
            if (entry[i] & SOFT_DIRTY)
                r->written[p / 64] |= 1ull << p % 64;
    }
    return 0;
}

static int clear_soft(const struct host_tracker *t) {
    return pwrite(t->clear_refs, "4", 1, 0) == 1 ? 0 : -errno;
}

/* All ranges lose their bits: all are read before. */
static int collect_soft(const struct host_tracker *t) {
    int rc = 0;
    for (struct host_range *r = t->ranges; r && rc == 0; r = r->next)
        rc = read_soft(t, r);
    return rc ? rc : clear_soft(t);
}

/* A kernel without the bits takes "4" all the same. */
static int try_soft(const struct host_tracker *t) {
    uint8_t *page = mmap(NULL, PN_PAGE_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct host_range *r = calloc(1, sizeof(*r) + sizeof(uint64_t));
    int rc = r && page != MAP_FAILED ? 0 : -ENOMEM;
    if (rc == 0) {
        *r = (struct host_range){.hva = page, .size = PN_PAGE_SIZE};
        *(volatile uint8_t *)page = 1;
        rc = clear_soft(t);
    }
    if (rc == 0) {
        *(volatile uint8_t *)page = 2;
        rc = read_soft(t, r);
    }
    if (rc == 0 && !r->written[0])
        rc = -ENOSYS;
    if (page != MAP_FAILED)
        munmap(page, PN_PAGE_SIZE);
    free(r);
    return rc;
}

static int open_soft(struct host_tracker *t) {
    t->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    t->clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    return t->pagemap < 0 || t->clear_refs < 0 ? -errno : try_soft(t);
}

/* ---- Life ---- */

static int open_uffd(struct host_tracker *t) {
    uint64_t need = t->tracker == PN_TRACKER_RW_SCAN
                        ? RWP | RWP_ASYNC
                        : WP_UNPOPULATED | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                              (t->tracker == PN_TRACKER_SCAN ? WP_ASYNC : 0);
    struct uffdio_api api = {.api = UFFD_API, .features = need};
    t->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (t->uffd < 0)
        return -errno;
    if (ioctl(t->uffd, UFFDIO_API, &api) < 0)
        return errno == EINVAL ? -ENOSYS : -errno;
    if (t->tracker == PN_TRACKER_UFFD)
        return start_thread(t);
    t->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return t->pagemap < 0 ? -errno : 0;
}

int host_tracker_open(enum pn_dirty_tracker tracker, struct host_tracker **out) {
    struct host_tracker *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    *t = (struct host_tracker){
        .tracker = tracker, .uffd = -1, .pagemap = -1, .quit = -1, .clear_refs = -1};
    pthread_mutex_init(&t->lock, NULL);
    int rc = tracker == PN_TRACKER_MINCORE ? 0
             : tracker == PN_TRACKER_SOFT  ? open_soft(t)
                                           : open_uffd(t);
    if (rc)
        host_tracker_close(t);
    else
        *out = t;
    return rc;
}

void host_tracker_close(struct host_tracker *t) {
    const uint64_t one = 1;
    if (!t)
        return;
    for (struct host_range *r = t->ranges; r && t->uffd >= 0; r = r->next) {
        struct uffdio_range range = {(uintptr_t)r->hva, r->size};
        ioctl(t->uffd, UFFDIO_UNREGISTER, &range); /* whoever waits goes on */
    }
    if (t->has_thread && write(t->quit, &one, sizeof(one)) == sizeof(one))
        pthread_join(t->thread, NULL);
    const int fds[] = {t->uffd, t->pagemap, t->quit, t->clear_refs};
    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    while (t->ranges) {
        struct host_range *r = t->ranges;
        t->ranges = r->next;
        free(r);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

int host_tracker_watch(struct host_tracker *t, void *hva, uint64_t size,
                       struct host_range **out) {
    bool reads = t->tracker == PN_TRACKER_RW_SCAN;
    struct uffdio_register reg = {.range = {(uintptr_t)hva, size},
                                  .mode = reads ? REGISTER_RWP : UFFDIO_REGISTER_MODE_WP};
    size_t words = (size / PN_PAGE_SIZE + 63) / 64;
    struct host_range *r = calloc(1, sizeof(*r) + words * sizeof(uint64_t));
    if (!r)
        return -ENOMEM;
    r->hva = hva;
    r->size = size;
    if (t->uffd >= 0 && ioctl(t->uffd, UFFDIO_REGISTER, &reg) < 0) {
        free(r);
        return -errno;
    }
    int rc = t->tracker == PN_TRACKER_SOFT ? collect_soft(t) : 0;
    if (rc) {
        free(r);
        return rc;
    }
    pthread_mutex_lock(&t->lock);
    r->next = t->ranges;
    t->ranges = *out = r;
    pthread_mutex_unlock(&t->lock);
    return reads          ? protect_all(t, (uintptr_t)hva, size)
           : t->uffd >= 0 ? protect(t, hva, size, true)
                          : 0;
}

/* ---- Harvests ---- */

static void set_pages(uint64_t *bitmap, uint64_t first, uint64_t end) {
    for (uint64_t p = first; p < end; p++)
        bitmap[p / 64] |= 1ull << p % 64;
}

static int take_written(struct host_tracker *t, struct host_range *r, uint64_t *bitmap) {
    uint64_t pages = r->size / PN_PAGE_SIZE;
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    memcpy(bitmap, r->written, (pages + 63) / 64 * sizeof(*bitmap));
    for (uint64_t p = 0, first; rc == 0 && p < pages; p++) {
        if (!(bitmap[p / 64] >> p % 64 & 1))
            continue;
        for (first = p; p < pages && bitmap[p / 64] >> p % 64 & 1; p++)
            ;
        rc = protect(t, r->hva + first * PN_PAGE_SIZE, (p - first) * PN_PAGE_SIZE, true);
    }
    if (rc == 0) /* else all of it is for the next harvest */
        memset(r->written, 0, (pages + 63) / 64 * sizeof(*bitmap));
    pthread_mutex_unlock(&t->lock);
    return rc;
}

static int take_scan(struct host_tracker *t, const struct host_range *r,
                     uint64_t *bitmap) {
    struct scan_region region[REGIONS];
    uint64_t base = (uintptr_t)r->hva;
    bool reads = t->tracker == PN_TRACKER_RW_SCAN;
    uint64_t which = reads ? SCAN_ACCESSED : SCAN_WRITTEN;
    int rc = 0;
    struct scan s = {.size = sizeof(s),
                     .flags = reads ? 0 : SCAN_PROTECT,
                     .start = base,
                     .end = base + r->size,
                     .vec = (uintptr_t)region,
                     .vec_len = REGIONS,
                     .category_mask = which,
                     .return_mask = which};
    while (rc == 0 && s.start < s.end) {
        int n = ioctl(t->pagemap, SCAN, &s);
        if (n < 0)
            return errno == ENOTTY ? -ENOSYS : -errno;
        for (int i = 0; rc == 0 && i < n; i++) {
            set_pages(bitmap, (region[i].start - base) / PN_PAGE_SIZE,
                      (region[i].end - base) / PN_PAGE_SIZE);
            if (reads)
                rc = protect_all(t, region[i].start, region[i].end - region[i].start);
        }
        s.start = s.walk_end;
    }
    return rc;
}

static int take_soft(struct host_tracker *t, struct host_range *r, uint64_t *bitmap) {
    size_t bytes = (r->size / PN_PAGE_SIZE + 63) / 64 * sizeof(*bitmap);
    int rc = collect_soft(t);
    if (rc)
        return rc;
    memcpy(bitmap, r->written, bytes);
    memset(r->written, 0, bytes);
    return 0;
}

static int take_mincore(const struct host_range *r, uint64_t *bitmap) {
    uint64_t pages = r->size / PN_PAGE_SIZE;
    unsigned char *in = malloc(pages);
    if (!in)
        return -ENOMEM;
    int rc = mincore(r->hva, r->size, in) ? -errno : 0;
    for (uint64_t p = 0; rc == 0 && p < pages; p++)
        if (in[p] & 1)
            set_pages(bitmap, p, p + 1);
    free(in);
    return rc;
}

long host_tracker_harvest(struct host_tracker *t, struct host_range *r,
                          uint64_t *bitmap) {
    int rc = t->tracker == PN_TRACKER_UFFD ? take_written(t, r, bitmap)
             : t->tracker == PN_TRACKER_SCAN || t->tracker == PN_TRACKER_RW_SCAN
                 ? take_scan(t, r, bitmap)
             : t->tracker == PN_TRACKER_SOFT ? take_soft(t, r, bitmap)
                                             : take_mincore(r, bitmap);
    long pages = 0;
    for (uint64_t w = 0; w < (r->size / PN_PAGE_SIZE + 63) / 64; w++)
        pages += __builtin_popcountll(bitmap[w]);
    return rc ? rc : pages;
}
