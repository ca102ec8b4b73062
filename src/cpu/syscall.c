/* SPDX-License-Identifier: MIT */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT: ring changes without descriptor tables; the
 * hypercall; and the instructions that are #UD by definition.
 *
 * Sources: SDM volume 2 and, of what is AMD's (vendor.inc), APM volume 3 under each name.
 * On TF around SYSCALL and SYSRET: volume 3, "Single-Step Exception
 * Condition".
 */
#include "cpu/cet.h"
#include "cpu/model.h"

#define HYPERCALL_EPERM 1 /* KVM_EPERM: not from ring 0 */

/* Attributes of the fixed flat segments: G, L or D, P, S, type 11 (code), 3 (data). */
#define CODE64 0xa09bu
#define CODE32 0xc09bu
#define DATA32 0xc093u

static inline void flat_segment(struct pn_segment *s, uint16_t sel, uint32_t attr) {
    *s = (struct pn_segment){
        .sel = sel, .attr = attr | (sel & 3u) << 5, .limit = UINT32_MAX};
}

static inline void enter_ring(struct cpu *cpu, uint8_t cpl, uint16_t cs, uint32_t cs_attr,
                              uint16_t ss) {
    flat_segment(&cpu->seg[SEG_CS], cs, cs_attr);
    flat_segment(&cpu->seg[SEG_SS], ss, DATA32);
    cpu->cpl = cpl;
    mode_ring_changed(cpu);
}

static bool syscall_allowed(const struct cpu *cpu) {
    return cpu->efer & EFER_SCE &&
           (mode_64(cpu) || cpu_follows(cpu, RULE_syscall_anywhere));
}

/* AMD's outside long mode: no mask, no R11, and the entry stands in STAR. */
static enum cpu_rc syscall_legacy(struct cpu *cpu, const struct insn *in) {
    uint16_t cs = cpu->msr_star >> 32 & 0xfffc;
    uint64_t rflags = cpu->sys_flags | cpu_arith_flags(cpu);
    cpu->gpr[R_CX] = next_rip(cpu, in);
    flags_load(cpu, rflags & ~(uint64_t)(FL_VM | FL_IF | FL_RF));
    enter_ring(cpu, 0, cs, CODE32, (uint16_t)(cs + 8));
    cpu->rip = (uint32_t)cpu->msr_star;
    return CPU_JUMP;
}

enum cpu_rc op_syscall(struct cpu *cpu, const struct insn *in) {
    if (unlikely(!syscall_allowed(cpu)))
        return cpu_raise(cpu, VEC_UD);
    if (cet_asked(cpu))
        cet_syscall(cpu);
    if (unlikely(!mode_long(cpu)))
        return syscall_legacy(cpu, in);
    uint64_t rflags = cpu->sys_flags | cpu_arith_flags(cpu);
    uint64_t entry = mode_64(cpu) ? cpu->msr_lstar : cpu->msr_cstar;
    cpu->gpr[R_CX] = next_rip(cpu, in);
    cpu->gpr[11] = rflags;
    rflags &= ~cpu->msr_sfmask;
    cpu->step_skip = cpu->mode & MODE_TF && !(rflags & FL_TF);
    flags_load(cpu, rflags);
    uint16_t cs = cpu->msr_star >> 32 & 0xfffc;
    enter_ring(cpu, 0, cs, CODE64, (uint16_t)(cs + 8));
    cpu->rip = entry;
    return CPU_JUMP;
}

/* SS as AMD leaves it: only the selector is new, and with the ring its DPL. */
static void keep_stack_segment(struct cpu *cpu, const struct pn_segment *old) {
    struct pn_segment *ss = &cpu->seg[SEG_SS];
    uint16_t sel = (uint16_t)((cpu->msr_star >> 48) + 8);
    *ss = *old;
    ss->sel = sel;
    ss->attr |= 3u << 5;
}

enum cpu_rc op_sysret(struct cpu *cpu, const struct insn *in) {
    if (unlikely(!syscall_allowed(cpu)))
        return cpu_raise(cpu, VEC_UD);
    if (unlikely(cpu->cpl || !mode_prot(cpu)))
        return gp0(cpu);
    uint16_t star = (uint16_t)(cpu->msr_star >> 48);
    uint16_t ss = (uint16_t)((star + 8) | 3);
    bool to64 = in->opsize == 8;
    uint64_t rip = to64 ? cpu->gpr[R_CX] : (uint32_t)cpu->gpr[R_CX];
    if (unlikely(!canonical(cpu, rip)) && cpu_follows(cpu, RULE_sysret_checks_rip))
        return gp0(cpu);
    const struct pn_segment old_ss = cpu->seg[SEG_SS];
    if (cet_asked(cpu))
        cet_sysret(cpu);
    if (likely(mode_64(cpu)))
        flags_load(cpu, cpu->gpr[11] & ~(uint64_t)(FL_RF | FL_VM));
    else
        cpu->sys_flags |= FL_IF;
    /* The single-step trap of the SYSCALL that this returns from. */
    if (unlikely(cpu->sys_flags & FL_TF))
        cpu->db_pending |= DR6_BS;
    if (to64)
        enter_ring(cpu, 3, (uint16_t)((star + 16) | 3), CODE64, ss);
    else
        enter_ring(cpu, 3, star | 3, CODE32, ss);
    if (!cpu_follows(cpu, RULE_sysret_fills_ss)) {
        keep_stack_segment(cpu, &old_ss);
        mode_ring_changed(cpu);
    }
    cpu->rip = rip;
    return CPU_JUMP;
}

static bool sysenter_allowed(const struct cpu *cpu) {
    return !mode_long(cpu) || cpu_follows(cpu, RULE_sysenter_long);
}

enum cpu_rc op_sysenter(struct cpu *cpu, const struct insn *in) {
    uint16_t cs = cpu->msr_sysenter_cs & 0xfffc;
    if (!sysenter_allowed(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (!(cpu->mode & MODE_PE) || !cs)
        return gp0(cpu);
    bool to64 = mode_long(cpu);
    if (cet_asked(cpu))
        cet_syscall(cpu);
    cpu->sys_flags &= ~(uint64_t)(FL_VM | FL_IF);
    cpu->rf_at = UINT64_MAX;
    enter_ring(cpu, 0, cs, to64 ? CODE64 : CODE32, (uint16_t)(cs + 8));
    cpu->gpr[R_SP] = to64 ? cpu->msr_sysenter_esp : (uint32_t)cpu->msr_sysenter_esp;
    cpu->rip = to64 ? cpu->msr_sysenter_eip : (uint32_t)cpu->msr_sysenter_eip;
    return CPU_JUMP;
}

enum cpu_rc op_sysexit(struct cpu *cpu, const struct insn *in) {
    uint16_t cs = cpu->msr_sysenter_cs & 0xfffc;
    uint64_t rip = cpu->gpr[R_DX], rsp = cpu->gpr[R_CX];
    if (!sysenter_allowed(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (!(cpu->mode & MODE_PE) || !cs || cpu->cpl)
        return gp0(cpu);
    if (in->opsize == 8 && (!canonical(cpu, rip) || !canonical(cpu, rsp)))
        return gp0(cpu);
    if (cet_asked(cpu))
        cet_sysret(cpu);
    if (in->opsize == 8) {
        enter_ring(cpu, 3, (uint16_t)((cs + 32) | 3), CODE64, (uint16_t)((cs + 40) | 3));
    } else {
        rip = (uint32_t)rip;
        rsp = (uint32_t)rsp;
        enter_ring(cpu, 3, (uint16_t)((cs + 16) | 3), CODE32, (uint16_t)((cs + 24) | 3));
    }
    cpu->gpr[R_SP] = rsp;
    cpu->rip = rip;
    return CPU_JUMP;
}

enum cpu_rc op_ud(struct cpu *cpu, const struct insn *in) {
    return cpu_raise(cpu, VEC_UD);
}

/* KVM's hypercall, by Intel's and by AMD's instruction (Linux,
 * Documentation/virt/kvm/x86/hypercalls.rst): number in RAX, arguments in RBX, RCX, RDX
 * and RSI, result in RAX, no other register touched. */
enum cpu_rc op_hypercall(struct cpu *cpu, const struct insn *in) {
    uint64_t mask = mode_64(cpu) ? UINT64_MAX : UINT32_MAX;
    if (!cpu->model->pv || !cpu->bus->hypercall)
        return cpu_raise(cpu, VEC_UD);
    const uint64_t arg[4] = {cpu->gpr[R_BX] & mask, cpu->gpr[R_CX] & mask,
                             cpu->gpr[R_DX] & mask, cpu->gpr[R_SI] & mask};
    int64_t result = -HYPERCALL_EPERM;
    pn_mmu_exited(cpu->vmmu, PN_VM_OTHER);
    if (cpu->cpl == 0)
        result = cpu->bus->hypercall(cpu->bus->opaque, cpu->apic_id,
                                     cpu->gpr[R_AX] & mask, arg);
    cpu->gpr[R_AX] = (uint64_t)result & mask;
    return CPU_STOP;
}
