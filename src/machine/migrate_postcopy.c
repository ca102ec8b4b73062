/* SPDX-License-Identifier: MIT */
/*
 * Post-copy at the destination: the guest runs before all of its memory has come. Whoever
 * touches a page that is missing waits in the host's kernel (userfaultfd), and the source is
 * asked for that page; all others come by themselves.
 *
 * Invariants
 * 1. A page is put once, whole, before anybody who waits for it goes on.
 * 2. Up to GO the one thread that makes the machine is all that may wait, and the thread of the
 *    faults reads control for it meanwhile; from RUNNING on another thread does.
 * 3. Nobody ever runs on with zeros where a page was to come: where one cannot come any more,
 *    `lost` ends the process.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/uffd.h"
#include "machine/migrate_in.h"

struct migrate_postcopy {
    int uffd, quit;
    uint64_t *missing; /* a bit: it has not been put */
    uint64_t *claimed; /* a bit: it is being put, or has been */
    _Atomic uint64_t left;
    bool runs;
    pthread_t faults, control;
    bool has_faults, has_control;
    atomic_bool done, closing;
    struct migrate_unpacker unpacker;
};

bool migrate_postcopy_runs(const struct migrate_postcopy *p) {
    return p->runs;
}

/* ---- Beginning ---- */

int migrate_postcopy_open(struct migrate_in *in, bool kernel, struct err *e) {
    int fd = uffd_open(kernel, "post-copy", e);
    if (fd < 0)
        return fd;
    struct migrate_postcopy *p = calloc(1, sizeof(*p));
    if (!p) {
        close(fd);
        return err_set(e, -ENOMEM, "out of memory");
    }
    p->uffd = fd;
    p->quit = eventfd(0, EFD_CLOEXEC);
    in->postcopy = p;
    return p->quit < 0 || migrate_unpacker_open(&p->unpacker)
               ? err_set(e, -ENOMEM, "out of memory")
               : 0;
}

static int watch(const struct migrate_postcopy *p, const struct hostmem *m) {
    return m->base ? uffd_watch(p->uffd, m->base, m->size) : 0;
}

/* What came before, and was written since; and zeros that a huge page brought along. */
static int forget(struct migrate_in *in) {
    const struct migrate_postcopy *p = in->postcopy;
    for (size_t w = 0; w < migrate_words(&in->pages); w++)
        for (uint64_t bits = p->missing[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);
            if (madvise(migrate_at(&in->pages, page), PN_PAGE_SIZE, MADV_DONTNEED))
                return -errno;
            migrate_pages_note(&in->pages, page, NULL);
        }
    return 0;
}

static void *faults(void *opaque);

int migrate_postcopy_begin(struct migrate_in *in, const uint8_t *missing, size_t size,
                           struct err *e) {
    struct migrate_postcopy *p = in->postcopy;
    size_t words = migrate_words(&in->pages);
    uint64_t left = 0;
    if (size != words * sizeof(uint64_t))
        return err_set(e, -EBADMSG, "%s: missing pages of another guest", in->o.at);
    p->missing = malloc(size);
    p->claimed = calloc(words, sizeof(uint64_t));
    if (!p->missing || !p->claimed)
        return err_set(e, -ENOMEM, "out of memory");
    memcpy(p->missing, missing, size);
    if (in->pages.all % 64 && p->missing[words - 1] >> in->pages.all % 64)
        return err_set(e, -EBADMSG, "%s: missing pages that there are not", in->o.at);
    for (size_t w = 0; w < words; w++)
        left += (uint64_t)__builtin_popcountll(p->missing[w]);
    atomic_store(&p->left, left);
    int rc = watch(p, &in->received.ram);
    if (rc == 0)
        rc = watch(p, &in->received.window);
    if (rc == 0)
        rc = forget(in);
    p->runs = rc == 0;
    if (rc == 0)
        rc = thread_start(&p->faults, faults, in);
    p->has_faults = p->runs && rc == 0;
    return rc ? err_sys(e, rc, "post-copy: guest memory") : 0;
}

/* ---- Putting ---- */

int migrate_postcopy_put(struct migrate_in *in, uint64_t page, const uint8_t *data) {
    struct migrate_postcopy *p = in->postcopy;
    uint64_t bit = 1ull << page % 64;
    uint64_t claimed = __atomic_fetch_or(&p->claimed[page / 64], bit, __ATOMIC_SEQ_CST);
    if (claimed & bit ||
        !(__atomic_load_n(&p->missing[page / 64], __ATOMIC_SEQ_CST) & bit))
        return -EBADMSG;
    migrate_pages_note(&in->pages, page, data);
    int rc = uffd_put(p->uffd, migrate_at(&in->pages, page), data, PN_PAGE_SIZE);
    if (rc)
        return rc;
    __atomic_fetch_and(&p->missing[page / 64], ~bit, __ATOMIC_SEQ_CST);
    atomic_fetch_sub(&p->left, 1);
    return 0;
}

/* ---- Who waits ---- */

static void lose(struct migrate_in *in, const char *line) {
    if (!atomic_load(&in->postcopy->closing))
        in->o.lost(in->o.opaque, atomic_load(&in->run), line);
}

/* The page of a host address. Return: pages.all: none. */
static uint64_t page_of(const struct migrate_in *in, uint64_t address) {
    const struct migrate_pages *m = &in->pages;
    uint64_t at = address - (uintptr_t)m->base;
    if (at / PN_PAGE_SIZE < m->ram)
        return at / PN_PAGE_SIZE;
    at = address - (uintptr_t)m->window;
    return m->window && at / PN_PAGE_SIZE < m->all - m->ram ? m->ram + at / PN_PAGE_SIZE
                                                            : m->all;
}

static int put(void *opaque, uint64_t page, const uint8_t *data) {
    return migrate_in_page(opaque, page, data);
}

/* PAGES on control. */
static int take_pages(struct migrate_in *in, const uint8_t *data, size_t size,
                      struct err *e) {
    int rc = migrate_unpack(&in->postcopy->unpacker, data, size, in->pages.all, put, in);
    return rc ? err_set(e, rc, "%s: no page that it was asked for", in->o.at) : 0;
}

/* Ask for a page; where nobody reads control, wait for it. */
static int need(struct migrate_in *in, uint64_t page, struct err *e) {
    const uint8_t *data;
    size_t size = 0;
    int rc = migrate_put(&in->control, MIGRATE_NEED, &page, sizeof(page), e);
    if (rc || atomic_load(&in->run))
        return rc;
    rc = migrate_expect(&in->control, MIGRATE_PAGES, &data, &size, e);
    return rc ? rc : take_pages(in, data, size, e);
}

static int answer(struct migrate_in *in, uint64_t address, struct err *e) {
    struct migrate_postcopy *p = in->postcopy;
    uint64_t page = page_of(in, address), bit = 1ull << page % 64;
    if (page == in->pages.all)
        return 0;
    if (__atomic_load_n(&p->missing[page / 64], __ATOMIC_SEQ_CST) & bit)
        return need(in, page, e);
    /* Zeros that were never sent; or it has just been put, and whoever waited goes on. */
    uint8_t *at = migrate_at(&in->pages, page);
    int rc = uffd_put(p->uffd, at, NULL, PN_PAGE_SIZE);
    if (rc == -EEXIST)
        rc = uffd_wake(p->uffd, at, PN_PAGE_SIZE);
    return rc ? err_sys(e, rc, "userfaultfd") : 0;
}

static void *faults(void *opaque) {
    struct migrate_in *in = opaque;
    const struct migrate_postcopy *p = in->postcopy;
    struct pollfd fds[] = {{p->uffd, POLLIN, 0}, {p->quit, POLLIN, 0}};
    uint64_t address;
    char line[400] = "";
    struct err e = {line, sizeof(line)};
    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (fds[1].revents)
            return NULL;
        while (uffd_next(p->uffd, &address))
            if (answer(in, address, &e)) {
                lose(in, line);
                return NULL;
            }
    }
    return NULL;
}

/* ---- The rest ---- */

static int finish(struct migrate_in *in, const uint8_t *data, size_t size,
                  struct err *e) {
    struct migrate_postcopy *p = in->postcopy;
    uint64_t digest = 0;
    int rc = size == sizeof(digest) ? migrate_in_wait(in, e)
                                    : err_set(e, -EBADMSG, "%s: no end", in->o.at);
    if (rc)
        return rc;
    memcpy(&digest, data, sizeof(digest));
    if (atomic_load(&p->left))
        return err_set(e, -EBADMSG,
                       "%s: it says that all has come, and %" PRIu64 " pages have not",
                       in->o.at, atomic_load(&p->left));
    rc = migrate_in_check(in, digest, e);
    return rc ? rc : migrate_put(&in->control, MIGRATE_DONE, NULL, 0, e);
}

static void unwatch(const struct migrate_postcopy *p, const struct hostmem *m) {
    if (m->base)
        uffd_unwatch(p->uffd, m->base, m->size);
}

static void *control(void *opaque) {
    struct migrate_in *in = opaque;
    struct migrate_postcopy *p = in->postcopy;
    char line[400] = "";
    struct err e = {line, sizeof(line)};
    enum migrate_record type = MIGRATE_PAGES;
    const uint8_t *data;
    size_t size;
    int rc = 0;
    while (rc == 0 && type != MIGRATE_END) {
        rc = migrate_get(&in->control, &type, &data, &size, &e);
        if (rc == 0 && type == MIGRATE_PAGES)
            rc = take_pages(in, data, size, &e);
        else if (rc == 0)
            rc = type == MIGRATE_END
                     ? finish(in, data, size, &e)
                     : err_set(&e, -EBADMSG, "%s: no such record belongs here", in->o.at);
    }
    if (rc) {
        lose(in, in->rc ? in->line : line);
        return NULL;
    }
    unwatch(p, &in->received.ram);
    unwatch(p, &in->received.window);
    atomic_store(&p->done, true);
    return NULL;
}

int migrate_postcopy_run(struct migrate_in *in, struct err *e) {
    struct migrate_postcopy *p = in->postcopy;
    int rc = thread_start(&p->control, control, in);
    p->has_control = rc == 0;
    return rc ? err_sys(e, rc, "a thread for post-copy") : 0;
}

void migrate_postcopy_finish(struct migrate_postcopy *p) {
    if (p->has_control)
        pthread_join(p->control, NULL);
    p->has_control = false;
}

void migrate_postcopy_close(struct migrate_in *in) {
    struct migrate_postcopy *p = in->postcopy;
    const uint64_t one = 1;
    struct err none = {NULL, 0};
    if (!p)
        return;
    atomic_store(&p->closing, true);
    if (in->run && !atomic_load(&p->done)) /* the guest has ended: it needs no more */
        migrate_put(&in->control, MIGRATE_DONE, NULL, 0, &none);
    wire_cut(&in->group);
    (void)!write(p->quit, &one, sizeof(one));
    if (p->has_control)
        pthread_join(p->control, NULL);
    if (p->has_faults)
        pthread_join(p->faults, NULL);
    close(p->uffd);
    if (p->quit >= 0)
        close(p->quit);
    migrate_unpacker_close(&p->unpacker);
    free(p->missing);
    free(p->claimed);
    free(p);
    in->postcopy = NULL;
}
