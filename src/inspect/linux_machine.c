/* SPDX-License-Identifier: MIT */
/*
 * A Linux guest in the memory of a machine: see linux_machine.h.
 *
 * The kernel's half is read through the kernel's own top table, init_top_pgt. It is found through
 * the tables of whatever runs, and must lead to itself. Nearly all that is read lies in the
 * direct map, whose addresses are a sum.
 */
#include "inspect/linux_machine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/linux_internal.h"
#include "penumbra/x86.h"

#define IMAGE_SIZE (1ull << 30) /* KERNEL_IMAGE_SIZE; modules are behind it */
#define DIRECT_SIZE                                                                      \
    (64ull << 40) /* of a direct map with 4 levels; more RAM there is not */

static bool where(void *opaque, uint64_t gva, uint64_t *gpa) {
    struct linux_machine *l = opaque;
    if (l->direct && gva - l->direct < DIRECT_SIZE) {
        *gpa = gva - l->direct;
        return true;
    }
    if (gva < LINUX_KERNEL_MAP || gva - LINUX_KERNEL_MAP >= IMAGE_SIZE)
        return machine_translate(l->machine, &l->tables, gva, gpa);
    uint64_t page = gva >> PN_PAGE_SHIFT;
    size_t at = page % (sizeof(l->seen) / sizeof(l->seen[0]));
    if (l->seen[at].page != page) {
        pn_gpa found;
        if (!machine_translate(l->machine, &l->tables, gva & PN_PAGE_MASK, &found))
            return false;
        l->seen[at].page = page;
        l->seen[at].gpa = found;
    }
    *gpa = l->seen[at].gpa | (gva & (PN_PAGE_SIZE - 1));
    return true;
}

static size_t read_kernel(void *opaque, uint64_t gva, void *buf, size_t size) {
    struct linux_machine *l = opaque;
    size_t done = 0, n = 1, got = 1;
    while (done < size && n && got == n) {
        uint64_t at = gva + done, room = PN_PAGE_SIZE - (at & (PN_PAGE_SIZE - 1)), gpa;
        n = size - done < room ? size - done : room;
        got = where(l, at, &gpa)
                  ? machine_read(l->machine, NULL, gpa, (char *)buf + done, n)
                  : 0;
        done += got;
    }
    return done;
}

void linux_machine_begin(struct linux_machine *l, struct machine *m,
                         const struct linux_image *image) {
    *l = (struct linux_machine){.machine = m,
                                .guest = {.image = image,
                                          .moved = machine_kernel_moved(m),
                                          .cpus = machine_cpus(m),
                                          .read = read_kernel,
                                          .where = where,
                                          .opaque = l}};
}

/* Do these tables lead to init_top_pgt, and that to itself and to the kernel? */
static bool try_tables(struct linux_machine *l, bool five_levels, uint64_t cr3) {
    struct pn_cpu_state *s = &l->tables;
    uint64_t gva;
    pn_gpa top, again;
    memset(l->seen, 0, sizeof(l->seen));
    l->guest.five_levels = five_levels;
    s->efer = EFER_LMA;
    s->cr4 = five_levels ? CR4_LA57 : 0;
    s->cr3 = cr3;
    if (!linux_symbol(&l->guest, LINUX_init_top_pgt, &gva) ||
        !machine_translate(l->machine, s, gva, &top))
        return false;
    s->cr3 = top;
    return machine_translate(l->machine, s, gva, &again) && again == top &&
           linux_is_there(&l->guest);
}

bool linux_machine_look(struct linux_machine *l, uint64_t cr3) {
    l->direct = 0;
    cr3 &= LINUX_CR3_PAGE;
    for (unsigned i = 0; i < 4 && !l->ready; i++)
        l->ready = try_tables(l, i & 1, i & 2 ? cr3 & ~LINUX_CR3_USER : cr3);
    uint64_t direct = l->ready ? linux_value(&l->guest, LINUX_page_offset_base, 0) : 0;
    l->direct = linux_is_kernel(direct) ? direct : 0;
    return l->ready;
}

bool linux_machine_region(struct linux_machine *l, unsigned cpu, uint64_t address,
                          struct linux_region *r) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    struct linux_task t;
    bool known = false;
    if (s && !machine_get_state(l->machine, cpu, s) && linux_machine_look(l, s->cr3)) {
        bool runs = linux_current(&l->guest, cpu, &t);
        known = linux_region_of(&l->guest, runs ? &t : NULL, s->cr3, address, r);
    }
    free(s);
    return known;
}

void linux_machine_explain(struct linux_machine *l, unsigned cpu, uint64_t address,
                           FILE *out) {
    struct linux_region r;
    struct linux_function f;
    if (!linux_machine_region(l, cpu, address, &r))
        return;
    fprintf(out, "Linux has there\n  %s, 0x%" PRIx64 "-0x%" PRIx64 "\n", r.name, r.from,
            r.to);
    struct linux_functions *modules = linux_functions_create();
    if (modules && linux_function_at(modules, &l->guest, address, &f))
        fprintf(out, "  %s [%s], 0x%" PRIx64 "-0x%" PRIx64 "\n", f.name, f.module,
                f.of.from, f.of.to - 1);
    linux_functions_destroy(modules);
}
