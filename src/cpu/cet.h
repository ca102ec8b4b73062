/* SPDX-License-Identifier: MIT */
/* What transfers of control do to shadow stacks and to the tracker of indirect branches.
 * cet.c; for the system half. */
#pragma once

#include "cpu/system.h"

/* Does U_CET or S_CET, whichever governs this CPL, have the bit, and does it count? Not for
 * virtual-8086 mode. */
static inline bool cet_on(const struct cpu *cpu, unsigned cpl, uint64_t bit) {
    uint64_t control = cpl == 3 ? cpu->msr_u_cet : cpu->msr_s_cet;
    return cpu->cr4 & CR4_CET && cpu->cr0 & CR0_PE && control & bit;
}

/* ---- Near branches ---- */

/* CALL, with MODE_SHSTK: push the return address. The last thing that may fault. */
enum cpu_rc cet_call(struct cpu *cpu, uint64_t rip);
/* RET, with MODE_SHSTK: is it the address on the shadow stack? Nothing is popped. */
enum cpu_rc cet_ret(struct cpu *cpu, uint64_t rip);
void cet_ret_done(struct cpu *cpu);
/* An indirect near JMP or CALL, with MODE_IBT, is done. */
void cet_track(struct cpu *cpu, const struct insn *in);

/* ---- Far transfers inwards, and within a ring ---- */

struct cet_entry {
    uint64_t rip; /* to come back to: offset in CS, which still is the old one */
    unsigned cpl; /* the new one */
    bool wide;    /* to 64-bit code */
    /* The shadow stack at ssp becomes the present one: its token is taken. */
    bool token;
    bool frame; /* CS, LIP and SSP are pushed */
    uint64_t ssp;
};
/* Everything that may fault: what is pushed lies in memory. */
enum cpu_rc cet_enter(struct cpu *cpu, struct cet_entry *e);
/* The registers; CPL and CS still are the old ones, and the mode is to be updated. */
void cet_enter_done(struct cpu *cpu, const struct cet_entry *e);
/* Where an event's handler, or a call gate's procedure, of that CPL has its shadow stack:
 * fills in e. ist: of the interrupt gate, or 0. */
enum cpu_rc cet_inner_stack(struct cpu *cpu, unsigned ist, struct cet_entry *e);
/* A far JMP. */
enum cpu_rc cet_jump(struct cpu *cpu, bool wide);
void cet_jump_done(struct cpu *cpu);
/* SYSCALL, SYSENTER; SYSRET, SYSEXIT: before the ring changes. */
void cet_syscall(struct cpu *cpu);
void cet_sysret(struct cpu *cpu);

/* ---- Far returns ---- */

struct cet_return {
    unsigned cpl; /* the new one */
    bool wide;    /* to 64-bit code */
    bool iret;
    uint16_t cs; /* as they were popped */
    uint64_t lip;
    uint64_t ssp;
};
/* Of a far return to offset rip in the code segment that sel names. */
static inline struct cet_return ret_shadow(const struct cpu *cpu, uint16_t sel,
                                           const struct desc *cs, uint64_t rip) {
    bool wide = mode_long(cpu) && desc_long(cs->raw);
    return (struct cet_return){.cpl = sel & 3,
                               .wide = wide,
                               .cs = sel,
                               .lip = wide ? rip : (uint32_t)(desc_base(cs->raw) + rip)};
}
enum cpu_rc cet_leave(struct cpu *cpu, struct cet_return *r);
void cet_leave_done(struct cpu *cpu, const struct cet_return *r);
/* IRET to virtual-8086 mode. */
enum cpu_rc cet_leave_vm86(struct cpu *cpu);

/* ---- Task switches ---- */

struct cet_task {
    uint16_t tss; /* selector of the new one */
    bool iret, pushes, verifies, keeps;
    uint64_t cs, lip, ssp; /* to be pushed; IRET: as the shadow stack has them */
    uint32_t new_ssp;      /* of the new TSS */
};
/* Before the commit: what belongs to the old task. cpl: of the new one. */
enum cpu_rc cet_task_out(struct cpu *cpu, unsigned cpl, bool nests, struct cet_task *t);
/* After it: what belongs to the new one. */
enum cpu_rc cet_task_in(struct cpu *cpu, const struct cet_task *t);

/* Linear address of rip in the present CS, as shadow stacks have it. */
static inline uint64_t cet_lip(const struct cpu *cpu, uint64_t rip) {
    return mode_64(cpu) ? rip : (uint32_t)(cpu->seg[SEG_CS].base + rip);
}
