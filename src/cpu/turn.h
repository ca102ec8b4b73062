/* SPDX-License-Identifier: MIT */
/*
 * Turns at what vCPUs that are threads share (base/parallel.h). C code of a CPU runs under the
 * lock; translated code does not, nor helpers that are HF_OWN (insn.h) and the look-up of the
 * block that comes next (run_blocks): these take it when they come to what is shared, and then
 * keep it. What a block's code, its vCPU's TLB and its other state are to them nobody changes while
 * they are out. A TLB miss of theirs that the MMU's tables answer needs no lock either
 * (turn_look). Without such threads all of this is one test.
 */
#pragma once

#include "base/parallel.h"
#include "cpu/system.h"

/* This vCPU has the lock from now on. Vector registers are the host's afterwards. */
void turn_take(struct cpu *cpu);
/* The same in C code that an HF_OWN helper may come to without the lock. */
static inline void turn_want(struct cpu *cpu) {
    if (unlikely(cpu->par != NULL))
        turn_take(cpu);
}
/* Out of the lock: the TLB gets the page of an access within it. Return: true, and *x as of
 * pn_mmu_translate; or it needs the lock. Vector registers are the host's. */
bool turn_look_up(struct cpu *cpu, pn_gva lin, enum pn_access access,
                  enum pn_tlb_mode mode, struct pn_xlate *x);
/* After it: the access is a #PF, which cpu->fault is now. Return: false: it needs the lock. */
bool turn_look_fault(struct cpu *cpu, pn_gva lin, enum pn_access access,
                     enum pn_tlb_mode mode);
static inline bool turn_looks(struct cpu *cpu, pn_gva lin, enum pn_access access,
                              enum pn_tlb_mode mode, struct pn_xlate *x) {
    return unlikely(cpu->par && !cpu->turn) && turn_look_up(cpu, lin, access, mode, x);
}
static inline bool turn_faults(struct cpu *cpu, pn_gva lin, enum pn_access access,
                               enum pn_tlb_mode mode) {
    return unlikely(cpu->par && !cpu->turn) && turn_look_fault(cpu, lin, access, mode);
}
/* cpu_attention. Where vCPUs are threads an interrupt that waits for IF wants none: what sets IF
 * asks again. */
static inline bool turn_due(const struct cpu *cpu) {
    return cpu_attention(cpu) &&
           (!cpu->par || cpu->sys_flags & FL_IF || cpu->inject.any || cpu->db_pending ||
            __atomic_load_n(&cpu->nmi_pending, __ATOMIC_RELAXED));
}
/* It goes out. */
static inline void turn_give(struct cpu *cpu) {
    cpu->turn = false;
    parallel_leave(cpu->par, cpu->apic_id);
}
/* Nobody else runs translated code, until the lock is given back. */
void turn_alone(struct cpu *cpu);
