/* SPDX-License-Identifier: MIT */
/*
 * System instructions that are neither control registers nor MSRs: TLB invalidation,
 * caches, CPUID, time stamps, random numbers, XCR0, protection keys, SMAP's AC.
 *
 * Invariant: nothing here asks the host. Time is retired instructions, random numbers
 * come from the configured seed, CPUID from the model.
 */
#include "cpu/control.h"
#include "cpu/model.h"
#include "cpu/xstate.h"

static enum cpu_rc ud(struct cpu *cpu) {
    return cpu_raise(cpu, VEC_UD);
}

/* Blocks are dropped by writes already; only the block's end is needed. */
enum cpu_rc op_serialize(struct cpu *cpu, const struct insn *in) {
    return cpu_has(cpu, CPU_F_serialize) ? CPU_NEXT : ud(cpu);
}

/* ---- TLB and caches ---- */

pn_gva operand_linear(const struct cpu *cpu, const struct insn *in) {
    uint64_t ea = operand_offset(cpu, in);
    if (mode_64(cpu))
        return ea + (in->seg == SEG_FS || in->seg == SEG_GS ? cpu->seg[in->seg].base : 0);
    return (uint32_t)(ea + cpu->seg[in->seg].base);
}

enum cpu_rc op_invlpg(struct cpu *cpu, const struct insn *in) {
    if (cpu->cpl)
        return gp0(cpu);
    pn_gva lin = operand_linear(cpu, in);
    if (canonical(cpu, lin))
        pn_mmu_invlpg(cpu->vmmu, lin);
    return CPU_STOP;
}

enum cpu_rc op_invpcid(struct cpu *cpu, const struct insn *in) {
    uint64_t desc[2];
    if (!cpu_has(cpu, CPU_F_invpcid) || !(cpu->mode & MODE_PE))
        return ud(cpu);
    if (cpu->cpl)
        return gp0(cpu);
    uint64_t type = cpu->gpr[in->op[0].reg];
    if (!mode_64(cpu))
        type = (uint32_t)type;
    if (operand_read(cpu, in, desc, 16))
        return CPU_FAULT;
    if (type > 3 || desc[0] >> 12)
        return gp0(cpu);
    if (type < 2 && desc[0] && !(cpu->cr4 & CR4_PCIDE))
        return gp0(cpu);
    if (type == 0 && !loadable(cpu, desc[1]))
        return gp0(cpu);
    if (type == 0 && !canonical(cpu, desc[1]))
        return CPU_STOP; /* nothing there to forget */
    pn_mmu_invpcid(cpu->vmmu, (unsigned)type, desc[0] & 0xfff, desc[1]);
    return CPU_STOP;
}

/* INVD, WBINVD: no cache is modelled. */
enum cpu_rc op_cache(struct cpu *cpu, const struct insn *in) {
    return cpu->cpl ? gp0(cpu) : CPU_NEXT;
}

/* CLFLUSH, CLFLUSHOPT, CLWB: as a load of one byte. */
enum cpu_rc op_clflush(struct cpu *cpu, const struct insn *in) {
    struct pn_xlate x;
    pn_gva lin;
    if (cpu_lin_operand(cpu, in, 1, PN_READ, &lin))
        return CPU_FAULT;
    if (pn_mmu_translate(cpu->vmmu, lin, PN_READ, cpu_tlb_mode(cpu), &x) !=
        PN_OUT_guest_pf)
        return CPU_NEXT;
    cpu->fault = x.fault;
    return CPU_FAULT;
}

/* ---- CPUID ---- */

/* The bits that depend on the CPU's state. */
static void runtime_bits(struct cpu *cpu, uint32_t leaf, uint32_t subleaf,
                         uint32_t out[4]) {
    uint64_t apic_base;
    switch (leaf) {
    case 1:
        out[1] |= cpu->apic_id << 24;
        if (cpu->cr4 & CR4_OSXSAVE)
            out[2] |= 1u << 27;
        if (cpu_has(cpu, CPU_F_apic) &&
            !cpu->bus->msr_read(cpu->bus->opaque, cpu->apic_id, MSR_APIC_BASE,
                                &apic_base) &&
            !(apic_base & 0x800))
            out[3] &= ~(1u << 9);
        break;
    case 7:
        if (subleaf == 0 && cpu->cr4 & CR4_PKE)
            out[2] |= 1u << 4;
        break;
    case 0xb:
        out[3] = cpu->apic_id;
        break;
    case 0xd:
        if (subleaf == 0 && out[0])
            out[1] = cpu_xsave_size(cpu->model, cpu->xcr0, false);
        if (subleaf == 1 && out[1])
            out[1] = cpu_xsave_size(cpu->model, cpu->xcr0 | cpu->msr_xss, true);
        break;
    }
}

enum cpu_rc op_cpuid(struct cpu *cpu, const struct insn *in) {
    uint32_t out[4], leaf = (uint32_t)cpu->gpr[R_AX], subleaf = (uint32_t)cpu->gpr[R_CX];
    cpu_model_leaf(cpu->model, leaf, subleaf, out);
    runtime_bits(cpu, leaf, subleaf, out);
    pn_mmu_exited(cpu->vmmu, PN_VM_OTHER);
    cpu->gpr[R_AX] = out[0];
    cpu->gpr[R_BX] = out[1];
    cpu->gpr[R_CX] = out[2];
    cpu->gpr[R_DX] = out[3];
    return CPU_NEXT;
}

/* ---- Time ---- */

/* RDTSC; RDTSCP, with the feature as arg. */
enum cpu_rc op_rdtsc(struct cpu *cpu, const struct insn *in) {
    if (in->arg && !cpu_has(cpu, CPU_F_rdtscp))
        return ud(cpu);
    if (cpu->cr4 & CR4_TSD && cpu->cpl)
        return gp0(cpu);
    set_edx_eax(cpu, cpu_tsc(cpu));
    if (in->arg)
        cpu->gpr[R_CX] = (uint32_t)cpu->msr_tsc_aux;
    return CPU_NEXT;
}

enum cpu_rc op_rdpid(struct cpu *cpu, const struct insn *in) {
    if (!cpu_has(cpu, CPU_F_rdpid))
        return ud(cpu);
    cpu->gpr[in->op[0].reg] = (uint32_t)cpu->msr_tsc_aux;
    return CPU_NEXT;
}

/* No counter is enumerated, so every index is out of range. */
enum cpu_rc op_rdpmc(struct cpu *cpu, const struct insn *in) {
    return gp0(cpu);
}

/* ---- Random numbers ---- */

/* SplitMix64: one addition is the state, so a snapshot is one word. */
static uint64_t random_next(struct cpu *cpu) {
    uint64_t z = cpu->rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* RDRAND, RDSEED; arg: the feature. */
enum cpu_rc op_rdrand(struct cpu *cpu, const struct insn *in) {
    if (!cpu_has(cpu, in->arg))
        return ud(cpu);
    cpu_set_arith_flags(cpu, FL_CF);
    return cpu_op_write(cpu, in, 0, random_next(cpu));
}

/* ---- Extended control register and protection keys ---- */

enum cpu_rc op_xgetbv(struct cpu *cpu, const struct insn *in) {
    if (!(cpu->cr4 & CR4_OSXSAVE))
        return ud(cpu);
    uint32_t index = (uint32_t)cpu->gpr[R_CX];
    if (index > 1 || (index == 1 && !cpu_has(cpu, CPU_F_xgetbv1)))
        return gp0(cpu);
    set_edx_eax(cpu, index ? cpu->xcr0 & cpu_xinuse(cpu) : cpu->xcr0);
    return CPU_NEXT;
}

/* AVX needs SSE; AVX-512 is one thing, and needs AVX (SDM volume 1, "Enabling the XSAVE
 * Feature Set and XSAVE-Enabled Features"). */
static bool xcr0_possible(const struct cpu *cpu, uint64_t v) {
    uint64_t wide = v & XSTATE_AVX512;
    return v & XSTATE_X87 && !(v & ~cpu->model->xcr0_valid) &&
           (!(v & XSTATE_AVX) || v & XSTATE_SSE) &&
           (!wide || (wide == XSTATE_AVX512 && v & XSTATE_AVX));
}

enum cpu_rc op_xsetbv(struct cpu *cpu, const struct insn *in) {
    uint64_t v = edx_eax(cpu);
    if (!(cpu->cr4 & CR4_OSXSAVE))
        return ud(cpu);
    if (cpu->cpl || (uint32_t)cpu->gpr[R_CX] || !xcr0_possible(cpu, v))
        return gp0(cpu);
    cpu->xcr0 = v;
    cpu_update_mode(cpu);
    return CPU_STOP;
}

enum cpu_rc op_rdpkru(struct cpu *cpu, const struct insn *in) {
    if (!(cpu->cr4 & CR4_PKE))
        return ud(cpu);
    if ((uint32_t)cpu->gpr[R_CX])
        return gp0(cpu);
    set_edx_eax(cpu, cpu->pkru);
    return CPU_NEXT;
}

enum cpu_rc op_wrpkru(struct cpu *cpu, const struct insn *in) {
    if (!(cpu->cr4 & CR4_PKE))
        return ud(cpu);
    if ((uint32_t)cpu->gpr[R_CX] || (uint32_t)cpu->gpr[R_DX])
        return gp0(cpu);
    cpu->pkru = (uint32_t)cpu->gpr[R_AX];
    pn_mmu_set_pkr(cpu->vmmu, cpu->pkru, cpu->pkrs);
    return CPU_NEXT;
}

/* ---- SMAP ---- */

/* CLAC and, with arg, STAC. */
enum cpu_rc op_clac(struct cpu *cpu, const struct insn *in) {
    uint64_t ac = in->arg ? FL_AC : 0;
    if (!cpu_has(cpu, CPU_F_smap) || cpu->cpl)
        return ud(cpu);
    /* All that cpu_update_mode would change at CPL 0. */
    uint32_t mode =
        ac && cpu->cr4 & CR4_SMAP ? cpu->mode | MODE_AC : cpu->mode & ~MODE_AC;
    cpu->sys_flags = (cpu->sys_flags & ~(uint64_t)FL_AC) | ac;
    if (mode == cpu->mode)
        return CPU_NEXT;
    cpu->mode = mode;
    return CPU_STOP;
}
