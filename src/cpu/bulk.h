/* SPDX-License-Identifier: MIT */
/* Guest memory in bulk, by whole pages, for strings and state areas; and the registers of
 * string instructions. */
#pragma once

#include "cpu/turn.h"

/* Translate the byte at lin. Return: CPU_NEXT and *p good up to the end of its page, or
 * NULL when the page needs the slow path (MMIO, tracked); CPU_FAULT. *seen, of a tracked
 * page: where pn_mmu_vcpu_write has to store; of any other it is left alone. */
static inline enum cpu_rc bulk_page(struct cpu *cpu, pn_gva lin, enum pn_access access,
                                    enum pn_tlb_mode mode, uint8_t **p, pn_gpa *seen) {
    const struct pn_tlb_entry *e =
        &cpu->view.tlb[mode][lin >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1)];
    if (likely((e->tag[access] ^ lin) < PN_PAGE_SIZE)) {
        if (unlikely(cpu->fetches != NULL))
            pn_tlb_used(&cpu->view, e);
        *p = (uint8_t *)e->hva + (lin & (PN_PAGE_SIZE - 1));
        return CPU_NEXT;
    }
    struct pn_xlate x;
    if (turn_looks(cpu, lin, access, mode, &x)) {
        *p = x.hva;
        return CPU_NEXT;
    }
    if (turn_faults(cpu, lin, access, mode))
        return CPU_FAULT;
    turn_want(cpu);
    enum pn_answer out = cpu_translate(cpu, lin, access, mode, false, &x);
    if (out == PN_GUEST_PF) {
        cpu->fault = x.fault;
        return CPU_FAULT;
    }
    *p = out == PN_MAPPED ? x.hva : NULL;
    if (out == PN_TRACKED)
        *seen = x.gpa;
    return CPU_NEXT;
}

/* bulk.c. Up to PN_PAGE_SIZE bytes; the caller has checked segment and canonicality of the
 * first byte. */
enum cpu_rc bulk_read(struct cpu *cpu, pn_gva lin, void *buf, unsigned size);
/* Is [lin, lin+size) writable? Sets A and D as a write would. */
enum cpu_rc bulk_probe_write(struct cpu *cpu, pn_gva lin, unsigned size);

/* Where an instruction stores, maybe in several parts: each page is asked for once. */
struct bulk_area {
    pn_gva lin;
    unsigned first; /* bytes of it in its first page */
    struct bulk_part {
        uint8_t *p; /* NULL: stores go to gpa, as kind (enum pn_answer) says */
        pn_gpa gpa;
        uint8_t kind;
    } page[2];
};
/* As bulk_probe_write, and *a for bulk_put. */
enum cpu_rc bulk_area(struct cpu *cpu, pn_gva lin, unsigned size, struct bulk_area *a);
/* Store at an offset in the area. Nothing but bulk_put and reads may come between bulk_area
 * and the last of its stores. */
void bulk_put(struct cpu *cpu, const struct bulk_area *a, unsigned at, const void *buf,
              unsigned size);
/* Both in one; one that faults has written nothing. */
enum cpu_rc bulk_write(struct cpu *cpu, pn_gva lin, const void *buf, unsigned size);

/* ---- Registers of string instructions ---- */

static inline uint64_t string_reg(const struct cpu *cpu, unsigned reg,
                                  unsigned addrsize) {
    return cpu->gpr[reg] & addr_mask(addrsize);
}
static inline void string_advance(struct cpu *cpu, unsigned reg, unsigned addrsize,
                                  int64_t delta) {
    uint64_t v = cpu->gpr[reg] + (uint64_t)delta;
    if (addrsize == 4)
        v = (uint32_t)v;
    else if (addrsize == 2)
        v = (cpu->gpr[reg] & ~UINT64_C(0xffff)) | (uint16_t)v;
    cpu->gpr[reg] = v;
}
/* Iterations are left, and an event may come before they are done: RF is set in between,
 * so that a code breakpoint on the instruction has been seen (SDM volume 3,
 * "Instruction-Breakpoint Exception Condition"). Return: CPU_JUMP. */
static inline enum cpu_rc string_resume(struct cpu *cpu) {
    cpu->rf_at = cpu_insns(cpu) + 1;
    return CPU_JUMP;
}
static inline int64_t string_step(const struct cpu *cpu, unsigned size) {
    return cpu->sys_flags & FL_DF ? -(int64_t)size : (int64_t)size;
}
