/* SPDX-License-Identifier: MIT */
/* CR4.VME and CR4.PVI: see vme.c. */
#pragma once

#include "cpu/system.h"

#define TSS_MAP_BASE 102u /* in a 32-bit TSS: where its maps are */

/* Has that TSS the word that says where its maps are? */
static inline bool tss_has_maps(const struct pn_segment *tr) {
    unsigned type = tr->attr & 0xf;
    return !(tr->attr & ATTR_UNUSABLE) && tr->attr & ATTR_P &&
           (type == 9 || type == 11) && tr->limit > TSS_MAP_BASE;
}

/* Does VIF stand for IF here? */
bool vif_rules(const struct cpu *cpu);
/* CLI and STI where IF is out of reach. Return: CPU_NEXT, or CPU_FAULT (#GP). */
enum cpu_rc vif_set(struct cpu *cpu, bool on);
/* PUSHF, POPF, IRET: may it be here, with that operand size? *virtual: with VIF as IF. Return:
 * CPU_NEXT, or CPU_FAULT (#GP). */
static inline enum cpu_rc vif_flags(struct cpu *cpu, unsigned opsize, bool *virtual) {
    *virtual = cpu->mode & MODE_VM86 && iopl(cpu) < 3;
    return *virtual && (opsize != 2 || !(cpu->cr4 & CR4_VME)) ? gp0(cpu) : CPU_NEXT;
}
/* RFLAGS as such a program sees them: VIF as IF, and IOPL 3. */
uint64_t vif_image(const struct cpu *cpu);
/* May it load that image? Return: CPU_NEXT, or CPU_FAULT (#GP). */
enum cpu_rc vif_load_check(struct cpu *cpu, uint64_t image);
/* Behind an IRET or a task switch: VIF and VIP are both set, a #GP before the next
 * instruction. */
static inline bool vif_conflicts(const struct cpu *cpu) {
    return unlikely(!(~cpu->sys_flags & (FL_VIF | FL_VIP))) && vif_rules(cpu);
}
/* INT n in virtual-8086 mode: does it go to the program's own table? Return: CPU_NEXT, or
 * CPU_FAULT. */
enum cpu_rc vm86_redirects(struct cpu *cpu, uint8_t vector, bool *redirects);
/* As event_deliver, there. */
enum cpu_rc vm86_deliver(struct cpu *cpu, const struct event *ev);
