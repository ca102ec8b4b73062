/* SPDX-License-Identifier: MIT */
/* Bits of the control registers and MSR indices (SDM volumes 3 and 4) beyond those of
 * system.h, and what the files of the privileged instructions share. */
#ifndef CPU_CONTROL_H
#define CPU_CONTROL_H

#include "cpu/system.h"

#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u

#define CR3_NOFLUSH (UINT64_C(1) << 63)

#define CR4_TSD   0x4u
#define CR4_PSE   0x10u
#define CR4_MCE   0x40u
#define CR4_PGE   0x80u
#define CR4_PCE   0x100u
#define CR4_PCIDE 0x20000u
#define CR4_SMEP  0x100000u
#define CR4_PKE   0x400000u
#define CR4_PKS   0x1000000u

static inline uint64_t cpu_tsc(const struct cpu *cpu) {
    return cpu_insns(cpu) + (uint64_t)cpu->tsc_offset;
}
/* EDX:EAX, as many instructions take and give it. */
static inline uint64_t edx_eax(const struct cpu *cpu) {
    return (uint64_t)(uint32_t)cpu->gpr[R_DX] << 32 | (uint32_t)cpu->gpr[R_AX];
}
static inline void set_edx_eax(struct cpu *cpu, uint64_t value) {
    cpu->gpr[R_AX] = (uint32_t)value;
    cpu->gpr[R_DX] = value >> 32;
}

/* msr.c. Read or write one MSR as RDMSR and WRMSR do at CPL 0. Return: CPU_NEXT;
 * CPU_STOP when blocks or the clock depend on it; CPU_FAULT (#GP). */
enum cpu_rc msr_read(struct cpu *cpu, uint32_t index, uint64_t *value);
enum cpu_rc msr_write(struct cpu *cpu, uint32_t index, uint64_t value);

#endif
