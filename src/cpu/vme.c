/* SPDX-License-Identifier: MIT */
/*
 * Virtual interrupts: CR4.VME for virtual-8086 mode, CR4.PVI for ring 3 of protected mode.
 * VIF stands for IF there while IOPL is below 3; and in virtual-8086 mode INT n may go to the
 * program's own vector table, as the bit map below the TSS's I/O bitmap says.
 *
 * Sources: SDM volume 3, "Interrupt and Exception Handling in Virtual-8086 Mode",
 * "Protected-Mode Virtual Interrupts"; volume 2 under CLI, STI, PUSHF, POPF, IRET, INT n.
 */
#include "cpu/vme.h"

#define REDIRECTION_SIZE 32u

bool vif_rules(const struct cpu *cpu) {
    if (iopl(cpu) == 3 || !(cpu->mode & MODE_PE))
        return false;
    return cpu->mode & MODE_VM86 ? cpu->cr4 & CR4_VME
                                 : cpu->cpl == 3 && cpu->cr4 & CR4_PVI;
}

enum cpu_rc vif_set(struct cpu *cpu, bool on) {
    if (!vif_rules(cpu) || (on && cpu->sys_flags & FL_VIP))
        return gp0(cpu);
    cpu->sys_flags &= ~(uint64_t)FL_VIF;
    cpu->sys_flags |= on ? FL_VIF : 0;
    return CPU_NEXT;
}

uint64_t vif_image(const struct cpu *cpu) {
    uint64_t image = cpu_rflags(cpu) & ~(uint64_t)FL_IF;
    return image | FL_IOPL | (cpu->sys_flags & FL_VIF ? FL_IF : 0);
}

enum cpu_rc vif_load_check(struct cpu *cpu, uint64_t image) {
    bool opens = image & FL_IF && cpu->sys_flags & FL_VIP;
    return opens || image & FL_TF ? gp0(cpu) : CPU_NEXT;
}

enum cpu_rc vm86_redirects(struct cpu *cpu, uint8_t vector, bool *redirects) {
    const struct pn_segment *tr = &cpu->seg[SEG_TR];
    uint16_t base;
    uint8_t bits = 0xff;
    if (cpu->cr4 & CR4_VME) {
        if (!tss_has_maps(tr))
            return gp0(cpu);
        if (sys_read(cpu, tr->base + TSS_MAP_BASE, &base, sizeof base))
            return CPU_FAULT;
        uint32_t at = base - REDIRECTION_SIZE + vector / 8u;
        if (at > tr->limit)
            return gp0(cpu);
        if (sys_read(cpu, tr->base + at, &bits, sizeof bits))
            return CPU_FAULT;
    }
    *redirects = !(bits >> (vector & 7) & 1);
    return !*redirects && iopl(cpu) < 3 ? gp0(cpu) : CPU_NEXT;
}

enum cpu_rc vm86_deliver(struct cpu *cpu, const struct event *ev) {
    struct stack st;
    uint16_t entry[2];
    uint64_t image = iopl(cpu) < 3 ? vif_image(cpu) : cpu_rflags(cpu);
    if (sys_read(cpu, ev->vector * sizeof entry, entry, sizeof entry))
        return CPU_FAULT;
    stack_here(cpu, &st);
    if (stack_push(cpu, &st, image, 2) || stack_push(cpu, &st, cpu->seg[SEG_CS].sel, 2) ||
        stack_push(cpu, &st, ev->rip, 2))
        return CPU_FAULT;
    stack_commit(cpu, &st);
    seg_set_real(&cpu->seg[SEG_CS], entry[1], true);
    cpu->rip = entry[0];
    cpu->sys_flags &= ~(uint64_t)(FL_TF | (iopl(cpu) < 3 ? FL_VIF : FL_IF));
    cpu->rf_at = UINT64_MAX;
    cpu->intr_shadow = 0;
    cpu_update_mode(cpu);
    return CPU_JUMP;
}
