/* SPDX-License-Identifier: MIT */
/*
 * Guest memory in bulk (see bulk.h).
 *
 * Invariants
 * 1. Every page of a write is translated for writing before its first byte is stored.
 * 2. With cpu_watches every access is shown to cpu_watch after it has passed its checks.
 */
#include "cpu/bulk.h"

static unsigned room(pn_gva lin, unsigned size) {
    unsigned n = PN_PAGE_SIZE - (lin & (PN_PAGE_SIZE - 1));
    return n < size ? n : size;
}

static pn_gva next(const struct cpu *cpu, pn_gva lin, unsigned n) {
    return mode_64(cpu) ? lin + n : (uint32_t)(lin + n);
}

/* A page that the TLB does not have. */
static enum cpu_rc ask(struct cpu *cpu, pn_gva lin, enum pn_access access,
                       struct bulk_part *part) {
    struct pn_xlate x;
    if (!canonical(cpu, lin))
        return gp0(cpu);
    enum pn_answer out = cpu_translate(cpu, lin, access, cpu_tlb_mode(cpu), false, &x);
    if (out == PN_GUEST_PF) {
        cpu->fault = x.fault;
        return CPU_FAULT;
    }
    *part = (struct bulk_part){out == PN_MAPPED ? x.hva : NULL, x.gpa, out};
    return cpu_may_access(cpu, out, x.gpa, access, PN_PAGE_SIZE);
}

/* The page of lin, from the TLB where it has it. */
static enum cpu_rc page(struct cpu *cpu, pn_gva lin, enum pn_access access,
                        struct bulk_part *part) {
    part->p = mem_hit(cpu, lin, 1, access, cpu_tlb_mode(cpu));
    return likely(part->p != NULL) ? CPU_NEXT : ask(cpu, lin, access, part);
}

enum cpu_rc bulk_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned size) {
    uint8_t *out = buf;
    struct bulk_part part;
    while (size) {
        unsigned n = room(lin, size);
        if (page(cpu, lin, PN_READ, &part))
            return CPU_FAULT;
        if (likely(part.p != NULL)) {
            memcpy(out, part.p, n);
        } else {
            pn_count(cpu->stats, mem_slow);
            cpu_load(cpu, part.gpa, out, n);
        }
        if (unlikely(cpu_watches(cpu)))
            cpu_watch(cpu, lin, n, 3);
        lin = next(cpu, lin, n), out += n, size -= n;
    }
    return CPU_NEXT;
}

enum cpu_rc bulk_probe_write(struct cpu *cpu, pn_gva lin, unsigned size) {
    struct bulk_part part;
    while (size) {
        unsigned n = room(lin, size);
        if (page(cpu, lin, PN_WRITE, &part))
            return CPU_FAULT;
        lin = next(cpu, lin, n), size -= n;
    }
    return CPU_NEXT;
}

/* ---- Stores ---- */

/* Two pages. To ask for one may have changed what holds for the other, and a store to the
 * first may change the second: host addresses are used where the TLB has both, else guest
 * addresses. */
static enum cpu_rc ask_two(struct cpu *cpu, struct bulk_area *a) {
    const pn_gva lin[2] = {a->lin, next(cpu, a->lin, a->first)};
    uint8_t *hit[2];
    bool asked[2] = {false, false};
    for (unsigned i = 0; i < 2; i++)
        if (!mem_hit(cpu, lin[i], 1, PN_WRITE, cpu_tlb_mode(cpu))) {
            if (ask(cpu, lin[i], PN_WRITE, &a->page[i]))
                return CPU_FAULT;
            asked[i] = true;
        }
    for (unsigned i = 0; i < 2; i++)
        hit[i] = mem_hit(cpu, lin[i], 1, PN_WRITE, cpu_tlb_mode(cpu));
    for (unsigned i = 0; i < 2; i++) {
        if (!(hit[0] && hit[1]) && !asked[i] && ask(cpu, lin[i], PN_WRITE, &a->page[i]))
            return CPU_FAULT;
        a->page[i].p = hit[0] && hit[1] ? hit[i] : NULL;
    }
    return CPU_NEXT;
}

enum cpu_rc bulk_area(struct cpu *cpu, pn_gva lin, unsigned size, struct bulk_area *a) {
    a->lin = lin;
    a->first = room(lin, size);
    if (a->first < size)
        return ask_two(cpu, a);
    return page(cpu, lin, PN_WRITE, &a->page[0]);
}

void bulk_put(struct cpu *cpu, const struct bulk_area *a, unsigned at, const void *buf,
              unsigned size) {
    const uint8_t *from = buf;
    for (unsigned n; size; at += n, from += n, size -= n) {
        bool second = at >= a->first;
        const struct bulk_part *part = &a->page[second];
        unsigned offset = second ? at - a->first : at;
        n = second || size < a->first - at ? size : a->first - at;
        if (likely(part->p != NULL)) {
            memcpy(part->p + offset, from, n);
        } else {
            pn_count(cpu->stats, mem_slow);
            cpu_store(cpu, part->gpa + offset, part->kind, from, n);
        }
        if (unlikely(cpu_watches(cpu)))
            cpu_watch(cpu, next(cpu, a->lin, at), n, 1);
    }
}

enum cpu_rc bulk_write(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size) {
    struct bulk_area a;
    if (bulk_area(cpu, lin, size, &a))
        return CPU_FAULT;
    bulk_put(cpu, &a, 0, buf, size);
    return CPU_NEXT;
}
