/* SPDX-License-Identifier: MIT */
/*
 * Points that a machine goes back to (point.h).
 *
 * Invariants
 * 1. Guest memory differs from the copy only in pages that the point's consumer of the dirty
 *    log has not been given, or was given by a harvest that it has not committed.
 * 2. Pages go back as a device writes them: shadow tables, translated code and every other
 *    consumer of the log see it.
 * 3. Time, vCPUs, devices and the machine's own fields go back in this order: a TSC is set by
 *    the time that is now, and a device may look at a vCPU.
 */
#include "machine/point.h"
#include "machine/bios.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine/history.h"
#include "machine/snapshot_internal.h"
#include "penumbra/mark.h"

struct machine_point {
    struct machine *m;
    struct machine_point *next;     /* of the machine */
    const struct pn_engine *engine; /* that it is of */
    struct machine_base *base;
    uint8_t *ram, *window; /* as they were; window NULL: there was none */
    uint64_t window_pages;
    struct dev_states *devices;
    struct machine *fields; /* those of snapshot_machine.inc alone */
    uint64_t now, insns;
    struct machine_cpu run[MACHINE_CPUS_MAX];
    struct pn_cpu_state cpu[];
};

/* ---- Taking ---- */

static bool is_zero(const uint8_t *page) {
    const uint64_t *w = (const uint64_t *)(const void *)page;
    uint64_t any = 0;
    for (unsigned i = 0; !any && i < PN_PAGE_SIZE / sizeof(*w); i += 8)
        any = w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] |
              w[i + 7];
    return !any;
}

/* Return: a copy that has memory for what is not zeros; NULL: there is none. */
static uint8_t *copy_of(const uint8_t *from, uint64_t size) {
    uint8_t *to = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (to == MAP_FAILED)
        return NULL;
    for (uint64_t at = 0; at < size; at += PN_PAGE_SIZE)
        if (!is_zero(from + at))
            memcpy(to + at, from + at, PN_PAGE_SIZE);
    return to;
}

static int take_memory(struct machine_point *p) {
    const struct machine *m = p->m;
    p->ram = copy_of(m->ram.base, m->cfg.ram);
    p->window_pages = m->window.base ? PN_WINDOW_PAGES_MAX : 0;
    if (p->window_pages)
        p->window = copy_of(m->window.base, p->window_pages * PN_PAGE_SIZE);
    return p->ram && (p->window || !p->window_pages) ? 0 : -ENOMEM;
}

static int take_state(struct machine_point *p) {
    struct machine *m = p->m;
    int rc = 0;
    p->now = clock_now(&m->clock);
    p->insns = m->ops->insns(m->engine);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++) {
        rc = m->ops->get_state(m->engine, i, &p->cpu[i]);
        p->cpu[i].msr_known &= ~snap_msrs_of_devices();
        p->run[i] = m->cpu[i];
    }
    p->devices = dev_bus_save(m->bus);
    p->fields = malloc(sizeof(*p->fields));
    if (p->fields)
        memcpy(p->fields, m, sizeof(*m));
    return rc || (p->devices && p->fields) ? rc : -ENOMEM;
}

static int can_be_kept(struct machine *m, struct err *e) {
    if (!m->dirty)
        return err_set(e, -EINVAL,
                       "this run has no dirty log: begin it with --dirty-log");
    if (m->cfg.rings)
        return err_set(e, -EINVAL, "this run is traced, and time goes back at a reset");
    if (!m->ops->rewind || m->host_clock)
        return err_set(e, -ENOTSUP, "--mmu %s%s: its time only goes on", m->ops->name,
                       m->ops->rewind ? " --clock host" : "");
    if (machine_disks(m))
        return err_set(e, -ENOTSUP,
                       "a machine with disks: what is on them cannot go back");
    return snap_can_be_saved(m, e);
}

static void destroy(struct machine_point *p) {
    machine_base_drop(p->base);
    if (p->ram)
        munmap(p->ram, p->m->cfg.ram);
    if (p->window)
        munmap(p->window, p->window_pages * PN_PAGE_SIZE);
    dev_states_free(p->devices);
    free(p->fields);
    free(p);
}

int machine_point_take(struct machine *m, struct machine_point **out, struct err *e) {
    int rc = can_be_kept(m, e);
    if (rc)
        return rc;
    struct machine_point *p = calloc(1, sizeof(*p) + m->cfg.cpus * sizeof(p->cpu[0]));
    if (!p)
        return err_set(e, -ENOMEM, "out of memory");
    p->m = m;
    p->engine = m->engine;
    rc = machine_base_begin(m, &p->base);
    if (rc == 0)
        rc = take_memory(p);
    if (rc == 0)
        rc = take_state(p);
    if (rc) {
        destroy(p);
        return err_sys(e, rc, "a point to go back to");
    }
    machine_base_again(p->base);
    p->next = m->points;
    m->points = *out = p;
    return 0;
}

void machine_point_drop(struct machine_point *p) {
    if (!p)
        return;
    struct machine_point **at = &p->m->points;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    destroy(p);
}

void machine_points_drop(struct machine *m) {
    while (m->points)
        machine_point_drop(m->points);
}

/* ---- Going back ---- */

static int put_ram(const struct machine_point *p, uint64_t page) {
    struct machine *m = p->m;
    uint64_t at = page * PN_PAGE_SIZE;
    pn_gpa gpa = at < LOW_RAM_MAX ? at : HIGH_RAM_BASE + (at - LOW_RAM_MAX);
    if (bios_covers(m, gpa))
        return bios_put_page(m, gpa, p->ram + at);
    return m->ops->write_phys(m->engine, gpa, p->ram + at, PN_PAGE_SIZE) == PN_PAGE_SIZE
               ? 0
               : -EFAULT;
}

/* The window is where it was, or is no slot now. */
static int put_window(const struct machine_point *p, uint64_t page) {
    struct machine *m = p->m;
    uint64_t at = page * PN_PAGE_SIZE;
    if (at < m->window_size)
        return m->ops->write_phys(m->engine, m->window_gpa + at, p->window + at,
                                  PN_PAGE_SIZE) == PN_PAGE_SIZE
                   ? 0
                   : -EFAULT;
    memcpy(m->window.base + at, p->window + at, PN_PAGE_SIZE);
    machine_dirty_mark_window(m, page);
    return 0;
}

static int put_back(const struct machine_point *p, const uint64_t *changed,
                    uint64_t pages,
                    int (*put)(const struct machine_point *p, uint64_t page),
                    uint64_t *count) {
    int rc = 0;
    for (uint64_t w = 0; w < (pages + 63) / 64; w++)
        for (uint64_t bits = changed[w]; bits && rc == 0; bits &= bits - 1, ++*count)
            rc = put(p, w * 64 + (unsigned)__builtin_ctzll(bits));
    return rc;
}

static int reset_memory(struct machine_point *p, uint64_t *count) {
    const uint64_t *ram, *window;
    int rc = machine_base_changed(p->base, &ram, &window);
    if (rc == 0)
        rc = put_back(p, ram, p->m->cfg.ram / PN_PAGE_SIZE, put_ram, count);
    if (rc == 0 && p->window)
        rc = put_back(p, window, p->window_pages, put_window, count);
    if (rc == 0)
        machine_base_again(p->base); /* it has what it wrote itself, too */
    return rc;
}

static int reset_state(struct machine_point *p) {
    struct machine *m = p->m;
    uint64_t executed = m->ops->insns(m->engine) - p->insns;
    int rc = 0;
    m->ops->rewind(m->engine, p->now);
    m->now_max = p->now;
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++)
        rc = m->ops->set_state(m->engine, i, &p->cpu[i]);
    for (struct device *d = *dev_bus_devices(m->bus); d; d = d->next)
        clock_cancel(&m->clock, &d->timer);
    if (rc == 0)
        rc = dev_bus_load(m->bus, p->devices);
    uint64_t before = m->insns_before;
    for (unsigned i = 0; i < snap_machine_field_count; i++) {
        const struct snap_field *f = &snap_machine_fields[i];
        memcpy((uint8_t *)m + f->offset, (const uint8_t *)p->fields + f->offset, f->size);
    }
    memcpy(m->cpu, p->run, m->cfg.cpus * sizeof(m->cpu[0]));
    m->insns_before = before; /* instructions are counted on */
    m->idle_insns += executed;
    m->sleep = AWAKE;
    m->wakes = false;
    m->ended = false;
    machine_dirty_begin(m);
    return rc;
}

int machine_point_reset(struct machine_point *p, struct machine_reset *done,
                        struct err *e) {
    struct machine *m = p->m;
    uint64_t start = host_ns();
    *done = (struct machine_reset){0};
    if (m->engine != p->engine)
        return err_set(e, -ENOTSUP, "the guest was handed over since that point");
    if (m->window_size != p->fields->window_size ||
        m->window_gpa != p->fields->window_gpa ||
        (m->window.base != NULL) != (p->window != NULL))
        return err_set(e, -ENOTSUP, "the window has come or gone since that point");
    machine_history_restart(m);
    int rc = reset_memory(p, &done->pages);
    if (rc == 0)
        rc = reset_state(p);
    done->host_ns = host_ns() - start;
    return rc ? err_sys(e, rc, "going back") : 0;
}
