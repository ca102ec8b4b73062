/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a mark (penumbra/mark.h): the caller of the machine is told, and
 * requests about the window are served, where the machine was made with one.
 *
 * Invariants
 * 1. The window is one memslot, absent or at one of two addresses in the MMIO hole; its
 *    memory is taken at the first request and stays until the machine is destroyed.
 * 2. With a dirty log its slot is logged, as RAM is.
 * 3. Slots change inside the OUT that asks for it: the guest's next instruction sees it.
 */
#include <string.h>

#include "machine/state.h"
#include "penumbra/mark.h"

#define SLOT_WINDOW 8u

/* Its slot, at that address and of that size. */
static struct pn_memslot slot_of(const struct machine *m, pn_gpa gpa, uint64_t size) {
    return (struct pn_memslot){
        .id = SLOT_WINDOW,
        .flags = m->dirty && !pn_dirty_by_host(m->cfg.dirty) ? PN_SLOT_LOG_DIRTY : 0,
        .gpa = gpa,
        .size = size,
        .hva = m->window.base};
}

struct pn_memslot window_largest(const struct machine *m) {
    return slot_of(m, PN_WINDOW_A, (uint64_t)PN_WINDOW_PAGES_MAX * PN_PAGE_SIZE);
}

static int set_window(struct machine *m, pn_gpa gpa, uint64_t size) {
    const struct pn_memslot slot = slot_of(m, gpa, size);
    int rc = machine_dirty_window(m, &slot);
    if (rc == 0) {
        m->window_gpa = gpa;
        m->window_size = size;
    }
    return rc;
}

int window_take_memory(struct machine *m) {
    char text[128];
    struct err e = {text, sizeof(text)};
    const struct hostmem_config cfg = {.size =
                                           (uint64_t)PN_WINDOW_PAGES_MAX * PN_PAGE_SIZE,
                                       .hugepages = m->cfg.hugepages,
                                       .numa = m->cfg.numa};
    return m->window.base ? 0 : hostmem_create(&cfg, &m->window, &e);
}

static int add(struct machine *m, uint32_t pages) {
    uint64_t size = (uint64_t)pages * PN_PAGE_SIZE;
    if (m->window_size || !pages || pages > PN_WINDOW_PAGES_MAX || window_take_memory(m))
        return -1;
    return set_window(m, PN_WINDOW_A, size);
}

static int request(struct machine *m, uint32_t value) {
    switch (PN_MARK_KIND(value)) {
    case PN_MARK_ADD:
        return add(m, PN_MARK_ARG(value));
    case PN_MARK_MOVE:
        if (!m->window_size)
            return -1;
        return set_window(m, m->window_gpa == PN_WINDOW_A ? PN_WINDOW_B : PN_WINDOW_A,
                          m->window_size);
    case PN_MARK_DELETE:
        return m->window_size ? set_window(m, m->window_gpa, 0) : -1;
    default:
        return 0;
    }
}

bool window_slot(const struct machine *m, struct pn_memslot *slot) {
    *slot = slot_of(m, m->window_gpa, m->window_size);
    return m->window_size != 0;
}

int window_add_again(struct machine *m) {
    return set_window(m, m->window_gpa, m->window_size);
}

uint32_t machine_mark(void *opaque, uint32_t value) {
    struct machine *m = opaque;
    uint32_t answer = PN_MARK_NONE;
    if (m->cfg.window)
        answer = request(m, value) ? PN_MARK_FAILED : PN_MARK_DONE;
    if (PN_MARK_KIND(value) == PN_MARK_ROUND)
        machine_dirty_harvest(m, "guest", PN_MARK_ARG(value));
    if (PN_MARK_KIND(value) == PN_MARK_HANDOVER)
        machine_handover_mark(m);
    if (m->cfg.on_mark)
        m->cfg.on_mark(m->cfg.opaque, value);
    return answer;
}
