/* SPDX-License-Identifier: MIT */
/*
 * IRET in every mode.
 *
 * Invariants
 * 1. NMIs are unblocked when IRET begins, even if it then faults (SDM volume 3, "Handling
 *    Multiple NMIs").
 * 2. What of RFLAGS changes is decided by the CPL before the return.
 *
 * Source: SDM volume 2, "IRET/IRETD/IRETQ".
 */
#include "cpu/cet.h"
#include "cpu/vme.h"

struct frame {
    uint64_t rip, cs, rflags, rsp, ss;
};

/* ---- Flags ---- */

static void load_flags(struct cpu *cpu, uint64_t image, unsigned opsize) {
    uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
    if (cpu->cpl <= iopl(cpu))
        mask |= FL_IF;
    if (cpu->cpl == 0)
        mask |= FL_IOPL | FL_VIF | FL_VIP;
    if (opsize == 2)
        mask &= 0xffff;
    flags_load(cpu, (cpu->sys_flags & ~mask) | (image & mask));
}

/* The return is done. */
static enum cpu_rc returned(struct cpu *cpu) {
    if (likely(!vif_conflicts(cpu)))
        return CPU_JUMP;
    gp0(cpu);
    return cpu_deliver_fault(cpu);
}

/* ---- Real and virtual-8086 mode ---- */

static enum cpu_rc iret_real(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    struct frame f;
    unsigned size = in->opsize;
    bool vm86 = cpu->mode & MODE_VM86, virtual;
    if (vif_flags(cpu, size, &virtual))
        return CPU_FAULT;
    stack_here(cpu, &st);
    if (stack_pop(cpu, &st, size, &f.rip) || stack_pop(cpu, &st, size, &f.cs) ||
        stack_pop(cpu, &st, size, &f.rflags))
        return CPU_FAULT;
    if (f.rip > cpu->seg[SEG_CS].limit)
        return gp0(cpu);
    if (virtual && vif_load_check(cpu, f.rflags))
        return CPU_FAULT;
    stack_commit(cpu, &st);
    seg_set_real(&cpu->seg[SEG_CS], (uint16_t)f.cs, vm86);
    cpu->rip = f.rip;
    uint64_t mask = FL_ARITH | FL_TF | FL_IF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
    if (!vm86)
        mask |= FL_IOPL;
    if (size == 2)
        mask &= 0xffff;
    if (virtual) {
        mask ^= FL_IF | FL_VIF;
        f.rflags = (uint16_t)f.rflags | (f.rflags & FL_IF ? FL_VIF : 0);
    }
    flags_load(cpu, (cpu->sys_flags & ~mask) | (f.rflags & mask));
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

/* From ring 0 into virtual-8086 mode: ESP SS ES DS FS GS follow on the stack. */
static enum cpu_rc iret_to_vm86(struct cpu *cpu, struct stack *st,
                                const struct frame *f) {
    static const uint8_t order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    uint64_t esp, sel[5];
    if (stack_pop(cpu, st, 4, &esp))
        return CPU_FAULT;
    for (unsigned i = 0; i < 5; i++)
        if (stack_pop(cpu, st, 4, &sel[i]))
            return CPU_FAULT;
    if (f->rip > 0xffff)
        return gp0(cpu);
    if (cet_asked(cpu) && cet_leave_vm86(cpu))
        return CPU_FAULT;
    flags_load(cpu, f->rflags);
    seg_set_real(&cpu->seg[SEG_CS], (uint16_t)f->cs, true);
    for (unsigned i = 0; i < 5; i++)
        seg_set_real(&cpu->seg[order[i]], (uint16_t)sel[i], true);
    cpu->gpr[R_SP] = (uint32_t)esp;
    cpu->rip = f->rip;
    cpu->cpl = 3;
    cpu_update_mode(cpu);
    return returned(cpu);
}

/* ---- Protected and long mode ---- */

enum cpu_rc ret_code(struct cpu *cpu, uint16_t sel, uint64_t rip, struct desc *d) {
    unsigned rpl = sel & 3;
    if (unlikely(sel_null(sel)))
        return gp0(cpu);
    if (desc_fetch(cpu, sel, VEC_GP, 0, d))
        return CPU_FAULT;
    unsigned dpl = desc_dpl(d->raw);
    bool conforming = desc_type(d->raw) & TYPE_CONF;
    if (unlikely(!desc_is_code(d->raw) || rpl < cpu->cpl ||
                 (conforming ? dpl > rpl : dpl != rpl)))
        return cpu_raise_code(cpu, VEC_GP, sel & ~3u);
    if (unlikely(!desc_present(d->raw)))
        return cpu_raise_code(cpu, VEC_NP, sel & ~3u);
    return code_offset_check(cpu, d->raw, sel, rip);
}

enum cpu_rc ret_stack(struct cpu *cpu, uint16_t sel, unsigned cpl, bool to64,
                      struct desc *d) {
    if (!sel_null(sel)) {
        enum cpu_rc rc = ss_fetch(cpu, sel, cpl, VEC_GP, 0, d);
        return rc == CPU_NEXT ? desc_touch(cpu, d) : rc;
    }
    d->raw = 0;
    return to64 && cpl != 3 && (sel & 3) == cpl ? CPU_NEXT : gp0(cpu);
}

void ret_set_stack(struct cpu *cpu, uint16_t sel, const struct desc *d) {
    if (d->raw)
        seg_set(&cpu->seg[SEG_SS], sel, d->raw);
    else
        seg_set_null(&cpu->seg[SEG_SS], sel);
}

/* RIP, CS, RFLAGS; in 64-bit supervisor code, at one go, RSP and SS as well. */
static enum cpu_rc pop_frame(struct cpu *cpu, struct stack *st, unsigned size,
                             struct frame *f, bool *whole) {
    if (likely(size == 8 && !st->seg && canonical(cpu, st->sp) &&
               canonical(cpu, st->sp + sizeof *f - 1) && st->mode != PN_TLB_USER)) {
        if (lin_read(cpu, st->sp, f, sizeof *f, st->mode))
            return CPU_FAULT;
        *whole = true;
        return CPU_NEXT;
    }
    *whole = false;
    if (stack_pop(cpu, st, size, &f->rip) || stack_pop(cpu, st, size, &f->cs))
        return CPU_FAULT;
    return stack_pop(cpu, st, size, &f->rflags);
}

static enum cpu_rc pop_outer(struct cpu *cpu, struct stack *st, unsigned size,
                             struct frame *f) {
    if (stack_pop(cpu, st, size, &f->rsp))
        return CPU_FAULT;
    return stack_pop(cpu, st, size, &f->ss);
}

static enum cpu_rc iret_prot(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    struct frame f;
    struct desc cs, ss;
    unsigned size = in->opsize;
    bool whole;
    stack_here(cpu, &st);
    if (pop_frame(cpu, &st, size, &f, &whole))
        return CPU_FAULT;
    if (size == 4 && f.rflags & FL_VM && cpu->cpl == 0 && !mode_long(cpu))
        return iret_to_vm86(cpu, &st, &f);
    if (ret_code(cpu, (uint16_t)f.cs, f.rip, &cs))
        return CPU_FAULT;
    unsigned cpl = f.cs & 3;
    bool to64 = mode_long(cpu) && desc_long(cs.raw);
    bool pops_stack = cpl != cpu->cpl || mode_64(cpu);
    if (pops_stack && ((!whole && pop_outer(cpu, &st, size, &f)) ||
                       ret_stack(cpu, (uint16_t)f.ss, cpl, to64, &ss)))
        return CPU_FAULT;
    struct cet_return cet = ret_shadow(cpu, (uint16_t)f.cs, &cs, f.rip);
    cet.iret = true;
    if ((cet_asked(cpu) && cet_leave(cpu, &cet)) || desc_touch(cpu, &cs))
        return CPU_FAULT;

    if (cet_asked(cpu))
        cet_leave_done(cpu, &cet);
    load_flags(cpu, f.rflags, size);
    seg_set(&cpu->seg[SEG_CS], (uint16_t)f.cs, cs.raw);
    cpu->rip = f.rip;
    if (!pops_stack) {
        stack_commit(cpu, &st);
    } else {
        ret_set_stack(cpu, (uint16_t)f.ss, &ss);
        set_stack_pointer(cpu, to64, f.rsp);
    }
    if (cpl != cpu->cpl) {
        cpu->cpl = (uint8_t)cpl;
        seg_drop_privileged(cpu, cpl);
    }
    mode_ring_changed(cpu);
    return returned(cpu);
}

enum cpu_rc op_iret(struct cpu *cpu, const struct insn *in) {
    cpu->nmi_blocked = 0;
    if (unlikely(!mode_prot(cpu)))
        return iret_real(cpu, in);
    if (unlikely(cpu->sys_flags & FL_NT)) {
        uint16_t link;
        if (mode_long(cpu))
            return gp0(cpu);
        if (sys_read(cpu, cpu->seg[SEG_TR].base, &link, 2))
            return CPU_FAULT;
        return task_switch(cpu, link, TASK_IRET, next_rip(cpu, in), NULL);
    }
    return iret_prot(cpu, in);
}
