/* SPDX-License-Identifier: MIT */
/* What the files of the privileged instructions share. */
#pragma once

#include "cpu/system.h"

/* What a read of the TSC gives. For a guest of SVM's the processor's own is multiplied before the guest's
 * offset is added. */
static inline uint64_t cpu_tsc(const struct cpu *cpu) {
    if (unlikely(cpu->svm.guest && cpu->svm.tsc_ratio != TSC_RATIO_ONE)) {
        unsigned __int128 own = cpu_clock(cpu) + (uint64_t)cpu_own_tsc_offset(cpu);
        return (uint64_t)(own * cpu->svm.tsc_ratio >> 32) +
               (uint64_t)cpu->svm.ctl.tsc_offset;
    }
    return cpu_clock(cpu) + (uint64_t)cpu->tsc_offset;
}
/* EDX:EAX, as many instructions take and give it. */
static inline uint64_t edx_eax(const struct cpu *cpu) {
    return (uint64_t)(uint32_t)cpu->gpr[R_DX] << 32 | (uint32_t)cpu->gpr[R_AX];
}
static inline void set_edx_eax(struct cpu *cpu, uint64_t value) {
    cpu->gpr[R_AX] = (uint32_t)value;
    cpu->gpr[R_DX] = value >> 32;
}

/* cet.c. May U_CET or S_CET be this? */
bool cet_control_valid(const struct cpu *cpu, uint64_t v);
/* May PL0_SSP to PL3_SSP be this? */
static inline bool cet_ssp_valid(const struct cpu *cpu, uint64_t v) {
    return !(v & 3) && loadable(cpu, v);
}

/* cr.c. Load CR3, which has passed its checks, and the PDPTEs if it is theirs. Return:
 * CPU_NEXT, or CPU_FAULT as cpu_load_pdptes. */
enum cpu_rc cr3_load(struct cpu *cpu, uint64_t cr3, bool noflush, bool pdptes);

/* cr.c. What MOV to a control register that exists does at CPL 0. Return: as a helper. */
enum cpu_rc cr_set(struct cpu *cpu, unsigned cr, uint64_t v);
/* sys.c. The linear address of the memory operand, unchecked: INVLPG does not fault on it. */
pn_gva operand_linear(const struct cpu *cpu, const struct insn *in);

/* cr.c. PDPTEs for paging that has them. Return: as cpu_load_pdptes. */
enum cpu_rc cr3_load_pdptes(struct cpu *cpu, uint64_t cr3);
/* Paging with PDPTE registers: PAE, and not long mode. */
static inline bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer) {
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

/* msr.c. Read or write one MSR as RDMSR and WRMSR do at CPL 0. Return: CPU_NEXT;
 * CPU_STOP when blocks or the clock depend on it; CPU_FAULT (#GP). */
enum cpu_rc msr_read(struct cpu *cpu, uint32_t index, uint64_t *value);
enum cpu_rc msr_write(struct cpu *cpu, uint32_t index, uint64_t value);
