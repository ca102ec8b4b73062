/* SPDX-License-Identifier: MIT */
/*
 * RFLAGS as one value, and what follows from the system state: cpu->mode, the MMU's view.
 *
 * Invariants
 * 1. sys_flags never holds RF or an arithmetic flag, and always holds bit 1. RF is live
 *    for one instruction only; rf_at says for which.
 */
#include "cpu/vmx.h"

#define FL_SYSTEM                                                                        \
    (FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)

uint64_t cpu_rflags(const struct cpu *cpu) {
    uint64_t rf = cpu->rf_at == cpu_insns(cpu) ? FL_RF : 0;
    return cpu->sys_flags | cpu_arith_flags(cpu) | rf;
}

static void load(struct cpu *cpu, uint64_t rflags, uint64_t rf_at) {
    cpu_set_arith_flags(cpu, rflags);
    cpu->sys_flags = (rflags & FL_SYSTEM) | 2;
    cpu->rf_at = rflags & FL_RF ? rf_at : UINT64_MAX;
}

void cpu_set_rflags(struct cpu *cpu, uint64_t rflags) {
    load(cpu, rflags, cpu_insns(cpu));
}

void flags_load(struct cpu *cpu, uint64_t rflags) {
    load(cpu, rflags, cpu_insns(cpu) + 1);
}

/* ES, SS, DS: base 0, 4 GiB, present, writable, expand-up. CS: the same, readable. */
static bool flat(const struct cpu *cpu) {
    const uint32_t mask = ATTR_UNUSABLE | ATTR_P | TYPE_CODE | TYPE_DOWN | TYPE_RW;
    static const uint8_t data[] = {SEG_ES, SEG_SS, SEG_DS};
    const struct pn_segment *cs = &cpu->seg[SEG_CS];
    if (cs->base || cs->limit != UINT32_MAX ||
        (cs->attr & (ATTR_UNUSABLE | ATTR_P | TYPE_RW)) != (ATTR_P | TYPE_RW))
        return false;
    for (unsigned i = 0; i < sizeof data; i++) {
        const struct pn_segment *s = &cpu->seg[data[i]];
        if (s->base || s->limit != UINT32_MAX || (s->attr & mask) != (ATTR_P | TYPE_RW))
            return false;
    }
    return true;
}

static uint32_t mode_of_code(const struct cpu *cpu) {
    uint32_t mode = cpu->efer & EFER_LMA ? MODE_LMA : 0;
    uint32_t cs = cpu->seg[SEG_CS].attr;
    if (cpu->cr0 & CR0_PE)
        mode |= cpu->sys_flags & FL_VM ? MODE_PE | MODE_VM86 : MODE_PE;
    if (mode & MODE_LMA && cs & ATTR_L)
        return mode | MODE_CODE64 | MODE_FLAT;
    if (cs & ATTR_DB)
        mode |= MODE_CODE32;
    if (cpu->seg[SEG_SS].attr & ATTR_DB)
        mode |= MODE_SS32;
    return flat(cpu) ? mode | MODE_FLAT : mode;
}

static uint32_t mode_of_units(const struct cpu *cpu) {
    uint32_t mode = 0;
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        mode |= MODE_NOFPU;
    if (cpu->cr0 & (CR0_EM | CR0_TS) || !(cpu->cr4 & CR4_OSFXSR))
        mode |= MODE_NOSSE;
    if (cpu->cr0 & CR0_TS || !(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & 6) != 6)
        mode |= MODE_NOAVX;
    uint64_t evex = XSTATE_SSE | XSTATE_AVX | XSTATE_AVX512;
    if (unlikely((cpu->xcr0 & evex) == evex) && !(mode & MODE_NOAVX))
        mode |= MODE_EVEX;
    return mode;
}

static uint32_t mode_of_cet(const struct cpu *cpu) {
    uint64_t c = cpu->cpl == 3 ? cpu->msr_u_cet : cpu->msr_s_cet;
    if (!(cpu->cr0 & CR0_PE) || cpu->sys_flags & FL_VM)
        return 0;
    return (c & CET_SHSTK ? MODE_SHSTK : 0) | (c & CET_IBT ? MODE_IBT : 0) |
           (c & CET_IBT && c & CET_WAIT ? MODE_WAIT : 0);
}

void cpu_update_mode(struct cpu *cpu) {
    uint32_t mode = mode_of_code(cpu) | mode_of_units(cpu);
    uint64_t fl = cpu->sys_flags;
    if (cpu->cpl == 3) {
        mode |= MODE_CPL3;
        if (unlikely(fl & FL_AC && cpu->cr0 & CR0_AM))
            mode |= MODE_ALIGN;
    } else if (fl & FL_AC && cpu->cr4 & CR4_SMAP) {
        mode |= MODE_AC;
    }
    if (unlikely(cpu->cr4 & CR4_CET))
        mode |= mode_of_cet(cpu);
    if (unlikely(fl & FL_TF))
        mode |= MODE_TF;
    if (unlikely(cpu->dr[7] & 0xff))
        mode |= MODE_SLOWMEM;
    if (cpu->cpl <= (fl >> 12 & 3))
        mode |= MODE_IOPRIV;
    if (unlikely(cpu_in_guest(cpu)))
        mode |= MODE_GUEST;
    if (unlikely(cpu->vmx.guest) && vmx_proc(cpu, VMX_PROC_TRAP))
        mode |= MODE_SLOWMEM; /* the monitor trap flag: one instruction at a time */
    cpu->mode = mode;
}

enum cpu_rc cpu_load_pdptes(struct cpu *cpu, uint64_t cr3, uint64_t out[4]) {
    uint32_t leaf[4] = {36};
    if (cpu->model)
        cpu_model_leaf(cpu->model, 0x80000008u, 0, leaf);
    uint64_t reserved = 0x1e6 | ~((1ull << (leaf[0] & 0xff)) - 1);
    memset(out, 0, 4 * sizeof *out);
    if (pn_mmu_read_world(cpu->vmmu, cr3 & 0xffffffe0u, out, 4 * sizeof *out,
                          &cpu->fault) == PN_GUEST_PF)
        return CPU_FAULT;
    if (cpu->svm.guest && cpu->svm.ctl.nested)
        return CPU_NEXT; /* a walk that uses one looks at it */
    for (unsigned i = 0; i < 4; i++)
        if (out[i] & 1 && out[i] & reserved)
            return gp0(cpu);
    return CPU_NEXT;
}

void cpu_paging(const struct cpu *cpu, struct pn_paging *p) {
    *p = (struct pn_paging){.cr0 = cpu->cr0,
                            .cr3 = cpu->cr3,
                            .cr4 = cpu->cr4,
                            .efer = cpu->efer,
                            .pkru = cpu->pkru,
                            .pkrs = (uint32_t)cpu->pkrs};
    memcpy(p->pdpte, cpu->pdpte, sizeof p->pdpte);
}

void cpu_update_paging(struct cpu *cpu) {
    struct pn_paging p;
    cpu_paging(cpu, &p);
    pn_mmu_set_paging(cpu->vmmu, &p);
}
