/* SPDX-License-Identifier: MIT */
/*
 * Guest memory in bulk (see bulk.h).
 *
 * Invariant: every page of a write is translated for writing before its first byte is
 * stored.
 */
#include "cpu/bulk.h"

#define PIECE 64u /* what cpu_read_lin and cpu_write_lin take at most */

static unsigned room(pn_gva lin, unsigned size) {
    unsigned n = PN_PAGE_SIZE - (lin & (PN_PAGE_SIZE - 1));
    return n < size ? n : size;
}

static pn_gva next(const struct cpu *cpu, pn_gva lin, unsigned n) {
    return mode_64(cpu) ? lin + n : (uint32_t)(lin + n);
}

/* A page that is not plain memory, in the pieces that mem.c takes. */
static enum cpu_rc slow(struct cpu *cpu, pn_gva lin, uint8_t *buf, unsigned size,
                        bool write) {
    while (size) {
        unsigned n = size < PIECE ? size : PIECE;
        enum cpu_rc rc = write ? cpu_write_lin(cpu, lin, buf, n, cpu_tlb_mode(cpu))
                               : cpu_read_lin(cpu, lin, buf, n, cpu_tlb_mode(cpu));
        if (rc)
            return rc;
        lin += n, buf += n, size -= n;
    }
    return CPU_NEXT;
}

static enum cpu_rc page(struct cpu *cpu, pn_gva lin, enum pn_access access, uint8_t **p) {
    pn_gpa seen;
    if (!canonical(cpu, lin))
        return gp0(cpu);
    return bulk_page(cpu, lin, access, cpu_tlb_mode(cpu), p, &seen);
}

enum cpu_rc bulk_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned size) {
    uint8_t *out = buf, *p = NULL;
    while (size) {
        unsigned n = room(lin, size);
        if (page(cpu, lin, PN_READ, &p))
            return CPU_FAULT;
        if (likely(p && !(cpu->mode & MODE_SLOWMEM)))
            memcpy(out, p, n);
        else if (slow(cpu, lin, out, n, false))
            return CPU_FAULT;
        lin = next(cpu, lin, n), out += n, size -= n;
    }
    return CPU_NEXT;
}

enum cpu_rc bulk_probe_write(struct cpu *cpu, pn_gva lin, unsigned size) {
    uint8_t *p = NULL;
    while (size) {
        unsigned n = room(lin, size);
        if (page(cpu, lin, PN_WRITE, &p))
            return CPU_FAULT;
        lin = next(cpu, lin, n), size -= n;
    }
    return CPU_NEXT;
}

enum cpu_rc bulk_write(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size) {
    const uint8_t *from = buf;
    uint8_t *p = NULL;
    if (room(lin, size) < size && bulk_probe_write(cpu, lin, size))
        return CPU_FAULT;
    while (size) {
        unsigned n = room(lin, size);
        if (page(cpu, lin, PN_WRITE, &p))
            return CPU_FAULT;
        if (likely(p && !(cpu->mode & MODE_SLOWMEM)))
            memcpy(p, from, n);
        else if (slow(cpu, lin, (uint8_t *)from, n, true))
            return CPU_FAULT;
        lin = next(cpu, lin, n), from += n, size -= n;
    }
    return CPU_NEXT;
}
