/* SPDX-License-Identifier: MIT */
/*
 * Control and debug registers: MOV CRn, MOV DRn, LMSW, SMSW, CLTS.
 *
 * Invariants
 * 1. A value is checked whole before anything changes; the checks are those of SDM
 *    volume 2, "MOV - Move to/from Control Registers", and volume 3, "Control Registers".
 * 2. After a change the mode and the MMU have been told, and the block is left.
 */
#include "cpu/control.h"
#include "cpu/model.h"
#include "cpu/svm.h"
#include "cpu/turn.h"
#include "cpu/vmx.h"

enum cpu_rc cr3_load_pdptes(struct cpu *cpu, uint64_t cr3) {
    uint64_t pdpte[4];
    if (cpu_load_pdptes(cpu, cr3, pdpte))
        return CPU_FAULT;
    memcpy(cpu->pdpte, pdpte, sizeof(pdpte));
    return CPU_NEXT;
}

/* ---- CR0 ---- */

/* The bits that VMX operation needs. */
static uint64_t cr0_fixed(const struct cpu *cpu) {
    bool unrestricted = cpu->vmx.guest && vmx_proc2(cpu, VMX_PROC2_UNRESTRICTED);
    return !cpu->vmx.on ? 0 : unrestricted ? CR0_NE : VMX_CR0_FIXED;
}

/* May CR0 become v? */
static bool cr0_valid(const struct cpu *cpu, uint64_t v) {
    if (~v & cr0_fixed(cpu))
        return false;
    if (v >> 32 || (v & CR0_PG && !(v & CR0_PE)) || (v & CR0_NW && !(v & CR0_CD)))
        return false;
    if (!(v & CR0_WP) && cpu->cr4 & CR4_CET)
        return false;
    if (~cpu->cr0 & v & CR0_PG && cpu->efer & EFER_LME) {
        /* Into long mode. */
        unsigned tss = cpu->seg[SEG_TR].attr & 0xf;
        bool tss16 = !(cpu->seg[SEG_TR].attr & ATTR_UNUSABLE) && (tss == 1 || tss == 3);
        return cpu->cr4 & CR4_PAE && !(cpu->seg[SEG_CS].attr & ATTR_L) && !tss16;
    }
    if (cpu->cr0 & ~v & CR0_PG && (mode_64(cpu) || cpu->cr4 & CR4_PCIDE))
        return false;
    return true;
}

static enum cpu_rc cr0_write(struct cpu *cpu, uint64_t v) {
    if (!cr0_valid(cpu, v))
        return gp0(cpu);
    v = (v & 0xe005003f) | CR0_ET;
    uint64_t changed = cpu->cr0 ^ v, efer = cpu->efer;
    if (changed & v & CR0_PG && efer & EFER_LME)
        efer |= EFER_LMA;
    if (changed & ~v & CR0_PG)
        efer &= ~EFER_LMA;
    if (changed & (CR0_PG | CR0_CD | CR0_NW) && pae_paging(v, cpu->cr4, efer) &&
        cr3_load_pdptes(cpu, cpu->cr3))
        return CPU_FAULT;
    cpu->cr0 = v;
    cpu->efer = efer;
    if (changed & (CR0_PE | CR0_PG | CR0_WP))
        cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    return CPU_STOP;
}

/* ---- CR3 ---- */

enum cpu_rc cr3_load(struct cpu *cpu, uint64_t cr3, bool noflush, bool pdptes) {
    if (pdptes && cr3_load_pdptes(cpu, cr3))
        return CPU_FAULT;
    cpu->cr3 = cr3;
    pn_mmu_set_cr3(cpu->vmmu, cr3, noflush, cpu->pdpte);
    return CPU_NEXT;
}

static enum cpu_rc cr3_write(struct cpu *cpu, uint64_t v) {
    bool noflush = false;
    if (cpu->cr4 & CR4_PCIDE) {
        noflush = v & CR3_NOFLUSH;
        v &= ~CR3_NOFLUSH;
    }
    if (v >> cpu->model->phys_bits)
        return gp0(cpu);
    bool pdptes = pae_paging(cpu->cr0, cpu->cr4, cpu->efer);
    return cr3_load(cpu, v, noflush, pdptes) == CPU_NEXT ? CPU_STOP : CPU_FAULT;
}

/* ---- CR4 ---- */

static bool cr4_valid(const struct cpu *cpu, uint64_t v) {
    uint64_t changed = cpu->cr4 ^ v;
    if (v & ~cpu->model->cr4_valid || (cpu->vmx.on && !(v & CR4_VMXE)))
        return false;
    if (cpu->efer & EFER_LMA && (!(v & CR4_PAE) || changed & CR4_LA57))
        return false;
    if (changed & v & CR4_PCIDE && (!(cpu->efer & EFER_LMA) || cpu->cr3 & 0xfff))
        return false;
    if (v & CR4_CET && !(cpu->cr0 & CR0_WP))
        return false;
    return true;
}

static enum cpu_rc cr4_write(struct cpu *cpu, uint64_t v) {
    if (!cr4_valid(cpu, v))
        return gp0(cpu);
    uint64_t changed = cpu->cr4 ^ v;
    if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) &&
        pae_paging(cpu->cr0, v, cpu->efer) && cr3_load_pdptes(cpu, cpu->cr3))
        return CPU_FAULT;
    cpu->cr4 = v;
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP |
                   CR4_SMAP | CR4_PKE | CR4_PKS))
        cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    return CPU_STOP;
}

/* ---- MOV CRn ---- */

static uint64_t cr_read(const struct cpu *cpu, unsigned cr) {
    if (cr == 8 && cpu->svm.guest && cpu->svm.int_ctl & V_INTR_MASKING)
        return cpu->svm.int_ctl & V_TPR;
    if (cr == 8)
        return cpu->bus->cr8_read(cpu->bus->opaque, cpu->apic_id);
    return cr == 0 ? cpu->cr0 : cr == 2 ? cpu->cr2 : cr == 3 ? cpu->cr3 : cpu->cr4;
}

enum cpu_rc cr_set(struct cpu *cpu, unsigned cr, uint64_t v) {
    switch (cr) {
    case 0:
        return cr0_write(cpu, v);
    case 2:
        cpu->cr2 = v;
        return CPU_NEXT;
    case 3:
        return cr3_write(cpu, v);
    case 4:
        return cr4_write(cpu, v);
    default:
        if (v & ~(uint64_t)0xf)
            return gp0(cpu);
        if (cpu->svm.guest)
            cpu->svm.int_ctl = (cpu->svm.int_ctl & ~V_TPR_FIELD) | v;
        cpu->intr_line |= cpu->svm.guest; /* a virtual interrupt may come now */
        if (cpu->svm.guest && cpu->svm.int_ctl & V_INTR_MASKING)
            return CPU_STOP;
        cpu->bus->cr8_write(cpu->bus->opaque, cpu->apic_id, v);
        return CPU_STOP;
    }
}

static bool cr_exists(unsigned cr) {
    return cr == 0 || cr == 2 || cr == 3 || cr == 4 || cr == 8;
}

enum cpu_rc op_mov_cr(struct cpu *cpu, const struct insn *in) {
    bool write = in->op[0].kind == OP_CR;
    unsigned cr = in->op[write ? 0 : 1].reg, reg = in->op[write ? 1 : 0].reg;
    if (in->lock && cr == 0 && cpu_follows(cpu, RULE_lock_cr8))
        cr = 8;
    else if (!cr_exists(cr) || in->lock)
        return cpu_raise(cpu, VEC_UD);
    if (cpu->cpl)
        return gp0(cpu);
    if (write || cr == 8)
        turn_want(cpu);
    if (write)
        return cr_set(cpu, cr, mode_64(cpu) ? cpu->gpr[reg] : (uint32_t)cpu->gpr[reg]);
    uint64_t v = cr_read(cpu, cr);
    cpu->gpr[reg] = mode_64(cpu) ? v : (uint32_t)v;
    return CPU_NEXT;
}

/* ---- The machine status word: the low half of CR0 ---- */

enum cpu_rc op_smsw(struct cpu *cpu, const struct insn *in) {
    if (cpu->cpl && cpu->cr4 & CR4_UMIP)
        return gp0(cpu);
    return cpu_op_write(cpu, in, 0, cpu->cr0);
}

enum cpu_rc op_lmsw(struct cpu *cpu, const struct insn *in) {
    uint64_t v;
    if (cpu->cpl)
        return gp0(cpu);
    if (cpu_op_read(cpu, in, 0, &v))
        return CPU_FAULT;
    /* PE MP EM TS; PE can be set so, not cleared. */
    return cr0_write(cpu, (cpu->cr0 & ~(uint64_t)0xe) | (v & 0xf));
}

enum cpu_rc op_clts(struct cpu *cpu, const struct insn *in) {
    if (cpu->cpl)
        return gp0(cpu);
    cpu->cr0 &= ~CR0_TS;
    cpu_update_mode(cpu);
    return CPU_STOP;
}

/* ---- Debug registers ---- */

#define DR6_WRITABLE 0x0000e00fu
#define DR7_WRITABLE 0xffff23ffu

enum cpu_rc op_mov_dr(struct cpu *cpu, const struct insn *in) {
    bool write = in->op[0].kind == OP_DR;
    unsigned dr = in->op[write ? 0 : 1].reg, reg = in->op[write ? 1 : 0].reg;
    if (dr > 7 || in->lock || ((dr == 4 || dr == 5) && cpu->cr4 & CR4_DE))
        return cpu_raise(cpu, VEC_UD);
    if (dr == 4 || dr == 5)
        dr += 2;
    if (cpu->cpl)
        return gp0(cpu);
    if (cpu->dr[7] & DR7_GD)
        return cpu_raise_debug(cpu, DR6_BD);
    if (!write) {
        cpu->gpr[reg] = mode_64(cpu) ? cpu->dr[dr] : (uint32_t)cpu->dr[dr];
        return CPU_NEXT;
    }
    uint64_t v = mode_64(cpu) ? cpu->gpr[reg] : (uint32_t)cpu->gpr[reg];
    if (dr >= 6 && v >> 32)
        return gp0(cpu);
    if (dr == 6)
        v = (v & DR6_WRITABLE) | DR6_FIXED;
    if (dr == 7)
        v = (v & DR7_WRITABLE) | DR7_FIXED;
    cpu->dr[dr] = v;
    if (dr == 6)
        return CPU_NEXT;
    cpu_update_mode(cpu);
    return CPU_STOP;
}
