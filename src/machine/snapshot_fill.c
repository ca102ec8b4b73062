/* SPDX-License-Identifier: MIT */
/*
 * Memory out of a snapshot, into a machine that is being made: all of it (eager), mapped, or when
 * it is touched (snapshot_lazy.c).
 *
 * Invariants
 * 1. To a dirty log every page that is not zeros is written.
 * 2. Mapped: nothing of memory.bin is read here but the working set. What the guest reads is the
 *    file's, unchecked: any bytes are safe; what it writes is its own (MAP_PRIVATE).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine/bios.h"
#include "machine/migrate.h"
#include "machine/snapshot_fill.h"
#include "penumbra/mark.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct snap_fill {
    struct snap_lazy *lazy; /* NULL: mapped */
    struct snap_ahead ahead;
};

unsigned snap_regions(const struct machine *m, struct snap_region r[SNAP_REGIONS_MAX]) {
    r[0] = (struct snap_region){"ram", m->cfg.ram / PN_PAGE_SIZE, m->ram.base, NULL};
    r[1] = (struct snap_region){"window", PN_WINDOW_PAGES_MAX, m->window.base, NULL};
    return m->window.base ? 2 : 1;
}

/* ---- Eager ---- */

/* Into RAM as a loader writes: a dirty log has it. The window is no slot yet. */
static int put_page(struct machine *m, uint64_t page, const uint8_t *data) {
    uint64_t at = page * PN_PAGE_SIZE, ram = m->cfg.ram / PN_PAGE_SIZE;
    if (page >= ram) {
        memcpy(snap_page_at(m, page), data, PN_PAGE_SIZE);
        machine_dirty_mark_window(m, page - ram);
        return 0;
    }
    pn_gpa gpa = at < LOW_RAM_MAX ? at : HIGH_RAM_BASE + (at - LOW_RAM_MAX);
    if (bios_covers(m, gpa))
        return bios_put_page(m, gpa, data);
    return m->ops->write_phys(m->engine, gpa, data, PN_PAGE_SIZE) == PN_PAGE_SIZE
               ? 0
               : -EFAULT;
}

static int put_stored(void *opaque, uint64_t page, const uint8_t *data) {
    return put_page(opaque, page, data);
}

static int fill_all(struct machine *m, struct err *e) {
    const struct snap_memory *s = &m->cfg.restore->memory;
    int rc = snap_read_pages(m->cfg.restore, put_stored, m, e);
    for (uint64_t p = 0; rc == 0 && p < s->pages; p++)
        if (s->page[p] && snap_first(s, p) != p)
            rc = put_page(m, p, snap_page_at(m, snap_first(s, p)));
    return rc;
}

/* ---- Mapped, or lazy ---- */

int snap_fill_check(const struct machine_config *cfg, struct err *e) {
    static const char *const names[] = {"eager", "map", "lazy"};
    if (cfg->record_set && cfg->restore_memory != RESTORE_LAZY)
        return err_set(e, -EINVAL,
                       "--record-working-set: with --restore-memory lazy alone");
    if (cfg->working_set && cfg->restore_memory == RESTORE_EAGER)
        return err_set(e, -EINVAL, "--working-set: with --restore-memory map or lazy");
    if (cfg->restore_memory == RESTORE_EAGER)
        return 0;
    const char *name = names[cfg->restore_memory];
    if (!cfg->restore || cfg->restore->received)
        return err_set(e, -EINVAL, "--restore-memory %s: without a snapshot", name);
    if (cfg->shared_ram || cfg->numa || (cfg->hugepages && strpbrk(cfg->hugepages, "MG")))
        return err_set(e, -EINVAL,
                       "--restore-memory %s: not with --shared-memory, --numa, or "
                       "--hugepages 2M or 1G",
                       name);
    if (pn_dirty_by_host(cfg->dirty))
        return err_set(e, -EINVAL, "--restore-memory %s: not with --dirty-log %s", name,
                       pn_dirty_name(cfg->dirty));
    return 0;
}

static int map(uint8_t *at, uint64_t size, int fd, uint64_t from) {
    void *p = mmap(at, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, (off_t)from);
    return p == MAP_FAILED ? -errno : 0;
}

int snap_map_ram(struct machine *m, struct err *e) {
    const struct snap_memory *s = &m->cfg.restore->memory;
    if (!s->raw || s->region[0].pages != m->cfg.ram / PN_PAGE_SIZE)
        return err_set(e, -EINVAL, "%s: %s cannot be mapped", m->cfg.restore->dir,
                       SNAPSHOT_MEMORY);
    int rc = map(m->ram.base, m->cfg.ram, s->fd, 0);
    return rc ? err_sys(e, rc, "%s: %s", m->cfg.restore->dir, SNAPSHOT_MEMORY) : 0;
}

/* Where there is a log. */
static int mark_all(struct machine *m, struct err *e) {
    struct snap_memory *s = (struct snap_memory *)(uintptr_t)&m->cfg.restore->memory;
    uint64_t ram = m->cfg.ram / PN_PAGE_SIZE;
    int rc = m->dirty ? snap_memory_index(s, e) : 0;
    for (uint64_t p = 0; rc == 0 && m->dirty && p < s->pages; p++)
        if (s->page[p] && p < ram)
            machine_dirty_mark_ram(m, p);
        else if (s->page[p])
            machine_dirty_mark_window(m, p - ram);
    return rc;
}

/* Pages of the working set that are mapped, the guest's own at once: a hint. */
static int populate(void *opaque, uint64_t page, uint64_t pages, const uint8_t *data) {
    const struct machine *m = opaque;
    uint64_t ram = m->cfg.ram / PN_PAGE_SIZE, n = pages;
    if (page < ram && page + pages > ram)
        n = ram - page;
    madvise(snap_page_at(m, page), n * PN_PAGE_SIZE, MADV_POPULATE_WRITE);
    return 0;
}

static int open_set(struct machine *m, struct err *e) {
    const struct snapshot *s = m->cfg.restore;
    struct snap_ahead *a = &m->fill->ahead;
    uint64_t digest = 0;
    if (!m->cfg.working_set)
        return 0;
    snap_hex(s->manifest, "xxh3", &digest);
    a->wants_data = m->fill->lazy;
    a->put = m->fill->lazy ? snap_lazy_put : populate;
    a->opaque = m->fill->lazy ? (void *)m->fill->lazy : m;
    return snap_set_open(&a->set, m->cfg.working_set, digest, s->memory.pages, e);
}

/* Not while the machine is made: both would wait for the kernel's lock of this process's memory. */
void snap_fill_begin(struct machine *m) {
    if (m->fill && m->fill->ahead.set.fd >= 0)
        (void)snap_ahead_start(&m->fill->ahead); /* a hint */
}

static int fill_later(struct machine *m, struct err *e) {
    const struct snap_memory *s = &m->cfg.restore->memory;
    struct snap_fill *f = m->fill = calloc(1, sizeof(*f));
    if (!f)
        return err_set(e, -ENOMEM, "out of memory");
    f->ahead.set.fd = -1;
    int rc = 0;
    if (m->cfg.restore_memory == RESTORE_LAZY)
        rc = snap_lazy_open(m, &f->lazy, e);
    else if (m->window.base &&
             (rc = map(m->window.base, s->region[1].pages * PN_PAGE_SIZE, s->fd,
                       s->region[0].pages * PN_PAGE_SIZE)))
        err_sys(e, rc, "%s", SNAPSHOT_MEMORY);
    if (rc == 0)
        rc = mark_all(m, e);
    return rc ? rc : open_set(m, e);
}

int machine_memory_whole(struct machine *m, struct err *e) {
    migrate_in_finish(m->coming);
    m->coming = NULL;
    if (!m->fill || !m->fill->lazy)
        return 0;
    snap_ahead_end(&m->fill->ahead);
    return snap_lazy_finish(m->fill->lazy, e);
}

int machine_end_set(struct machine *m, struct err *e) {
    return m->fill && m->fill->lazy ? snap_lazy_end_set(m->fill->lazy, e)
                                    : err_set(e, -EINVAL, "no working set was recorded");
}

bool machine_memory_forget(struct machine *m, uint8_t *at, size_t size) {
    if (!m->fill)
        return false;
    if (m->fill->lazy) {
        snap_lazy_forget(m->fill->lazy, at, size);
        return false;
    }
    if (mmap(at, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == MAP_FAILED)
        memset(at, 0, size);
    return true;
}

void snap_fill_end(struct machine *m) {
    if (!m->fill)
        return;
    snap_ahead_end(&m->fill->ahead);
    snap_lazy_close(m->fill->lazy);
    free(m->fill);
    m->fill = NULL;
}

/* ---- Received ---- */

/* It came before the machine was made: the machine has it. To a dirty log it is written. */
static int take_received(struct machine *m, struct err *e) {
    const struct snap_received *r = m->cfg.restore->received;
    uint64_t ram = m->cfg.ram / PN_PAGE_SIZE;
    if (m->ram.base != r->ram.base)
        return err_set(e, -EINVAL, "its memory is already another machine's");
    for (uint64_t w = 0; w < (r->pages + 63) / 64; w++)
        for (uint64_t bits = r->there[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);
            if (page < ram)
                machine_dirty_mark_ram(m, page);
            else
                machine_dirty_mark_window(m, page - ram);
        }
    return 0;
}

bool snap_give_memory(const struct snapshot *s, struct hostmem *ram,
                      struct hostmem *window) {
    struct snap_received *r = s ? s->received : NULL;
    if (!r || r->given)
        return false;
    r->given = true;
    *ram = r->ram;
    if (r->window.base)
        *window = r->window;
    return true;
}

/* ---- All of them ---- */

int snap_fill(struct machine *m, struct err *e) {
    const struct snap_memory *s = &m->cfg.restore->memory;
    struct snap_region r[SNAP_REGIONS_MAX];
    if (m->cfg.restore->received)
        return take_received(m, e);
    int rc = s->regions > 1 ? window_take_memory(m) : 0;
    if (rc)
        return err_sys(e, rc, "the window's memory");
    unsigned count = snap_regions(m, r);
    for (unsigned i = 0; i < SNAP_REGIONS_MAX; i++)
        if (s->regions != count ||
            (i < count && (strcmp(r[i].name, s->region[i].name) != 0 ||
                           r[i].pages != s->region[i].pages)))
            return err_set(e, -EINVAL,
                           "%s: not the memory of a guest of %" PRIu64 " pages",
                           SNAPSHOT_MEMORY, m->cfg.ram / PN_PAGE_SIZE);
    return m->cfg.restore_memory == RESTORE_EAGER ? fill_all(m, e) : fill_later(m, e);
}
