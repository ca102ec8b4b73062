/* SPDX-License-Identifier: MIT */
/*
 * Far JMP, CALL and RET: to code segments and through call gates, in every mode. Tasks
 * are task.c's.
 *
 * Sources: SDM volume 2, "JMP", "CALL", "RET"; volume 3, "Call Gates", "Stack Switching".
 */
#include "cpu/cet.h"

enum { SYS_TSS16 = 1, SYS_GATE16 = 4, SYS_TASK_GATE = 5, SYS_TSS32 = 9, SYS_GATE32 = 12 };

struct far {
    uint16_t sel;
    uint64_t off;
    uint8_t opsize;
    bool call;
    uint64_t next; /* return address */
};

static enum cpu_rc far_operand(struct cpu *cpu, const struct insn *in, struct far *f) {
    unsigned size = in->opsize;
    f->opsize = in->opsize;
    f->next = next_rip(cpu, in);
    f->off = in->imm;
    f->sel = in->imm2;
    if (in->op[0].kind == OP_MEM && far_read(cpu, in, size, &f->off, &f->sel))
        return CPU_FAULT;
    if (size == 2)
        f->off = (uint16_t)f->off;
    else if (size == 4)
        f->off = (uint32_t)f->off;
    return CPU_NEXT;
}

static enum cpu_rc push_return(struct cpu *cpu, struct stack *st, unsigned size,
                               uint64_t next) {
    if (stack_push(cpu, st, cpu->seg[SEG_CS].sel, size))
        return CPU_FAULT;
    return stack_push(cpu, st, next, size);
}

/* ---- Real and virtual-8086 mode ---- */

static enum cpu_rc far_real(struct cpu *cpu, const struct far *f) {
    struct stack st;
    stack_here(cpu, &st);
    if (f->call && push_return(cpu, &st, f->opsize, f->next))
        return CPU_FAULT;
    if (f->off > cpu->seg[SEG_CS].limit)
        return gp0(cpu);
    stack_commit(cpu, &st);
    seg_set_real(&cpu->seg[SEG_CS], f->sel, cpu->mode & MODE_VM86);
    cpu->rip = f->off;
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

/* ---- Code segments ---- */

static enum cpu_rc enter_code(struct cpu *cpu, uint16_t sel, struct desc *d, uint64_t off,
                              unsigned cpl) {
    if (desc_touch(cpu, d))
        return CPU_FAULT;
    seg_set(&cpu->seg[SEG_CS], (uint16_t)((sel & ~3u) | cpl), d->raw);
    cpu->rip = off;
    return CPU_JUMP;
}

/* A call or jump within the ring, with CR4.CET: what may fault, and what then is done. */
static enum cpu_rc cet_within(struct cpu *cpu, const struct far *f, bool wide,
                              struct cet_entry *e) {
    *e = (struct cet_entry){.rip = f->next, .cpl = cpu->cpl, .wide = wide, .frame = true};
    return f->call ? cet_enter(cpu, e) : cet_jump(cpu, wide);
}

static void cet_within_done(struct cpu *cpu, const struct far *f,
                            const struct cet_entry *e) {
    if (f->call)
        cet_enter_done(cpu, e);
    else
        cet_jump_done(cpu);
}

static enum cpu_rc far_code(struct cpu *cpu, const struct far *f, struct desc *d) {
    struct stack st;
    struct cet_entry e = {0};
    unsigned dpl = desc_dpl(d->raw), rpl = f->sel & 3;
    bool conforming = desc_type(d->raw) & TYPE_CONF;
    if (!desc_is_code(d->raw) ||
        (conforming ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl))
        return cpu_raise_code(cpu, VEC_GP, f->sel & ~3u);
    if (!desc_present(d->raw))
        return cpu_raise_code(cpu, VEC_NP, f->sel & ~3u);
    if (code_offset_check(cpu, d->raw, f->sel, f->off))
        return CPU_FAULT;
    stack_here(cpu, &st);
    if (f->call && push_return(cpu, &st, f->opsize, f->next))
        return CPU_FAULT;
    if (cet_asked(cpu) && cet_within(cpu, f, mode_long(cpu) && desc_long(d->raw), &e))
        return CPU_FAULT;
    if (enter_code(cpu, f->sel, d, f->off, cpu->cpl) == CPU_FAULT)
        return CPU_FAULT;
    stack_commit(cpu, &st);
    if (cet_asked(cpu))
        cet_within_done(cpu, f, &e);
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

/* ---- Call gates ---- */

struct gate {
    uint16_t sel; /* of the code segment */
    uint64_t off;
    uint8_t size;  /* of what is pushed: 2, 4, 8 */
    uint8_t count; /* parameters to copy */
    struct desc code;
};

static enum cpu_rc gate_read(struct cpu *cpu, const struct far *f, const struct desc *d,
                             struct gate *g) {
    uint64_t raw = d->raw, high;
    uint32_t error = f->sel & ~3u;
    if (desc_dpl(raw) < cpu->cpl || (f->sel & 3u) > desc_dpl(raw))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (!desc_present(raw))
        return cpu_raise_code(cpu, VEC_NP, error);
    g->sel = (uint16_t)(raw >> 16);
    g->off = (raw & 0xffff) | (raw >> 32 & 0xffff0000);
    g->size = 4;
    g->count = raw >> 32 & 31;
    if (mode_long(cpu)) {
        struct desc upper;
        g->size = 8;
        g->count = 0;
        if (desc_fetch(cpu, (uint16_t)(f->sel + 8), VEC_GP, 0, &upper)) {
            if (cpu->fault.vector == VEC_GP)
                cpu->fault.error = error;
            return CPU_FAULT;
        }
        high = upper.raw;
        if (high >> 40 & 0x1f)
            return cpu_raise_code(cpu, VEC_GP, error);
        g->off |= high << 32;
    } else if (desc_type(raw) == SYS_GATE16) {
        g->size = 2;
        g->off &= 0xffff;
    }
    return CPU_NEXT;
}

static enum cpu_rc gate_code(struct cpu *cpu, const struct far *f, struct gate *g) {
    uint32_t error = g->sel & ~3u;
    if (sel_null(g->sel))
        return gp0(cpu);
    if (desc_fetch(cpu, g->sel, VEC_GP, 0, &g->code))
        return CPU_FAULT;
    uint64_t raw = g->code.raw;
    bool conforming = desc_type(raw) & TYPE_CONF;
    if (!desc_is_code(raw) || desc_dpl(raw) > cpu->cpl ||
        (!f->call && !conforming && desc_dpl(raw) != cpu->cpl))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (mode_long(cpu) && (!desc_long(raw) || desc_big(raw)))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (!desc_present(raw))
        return cpu_raise_code(cpu, VEC_NP, error);
    return code_offset_check(cpu, raw, g->sel, g->off);
}

/* The parameters of the caller, topmost last. */
static enum cpu_rc read_params(struct cpu *cpu, const struct gate *g, uint64_t *param) {
    struct stack st;
    stack_here(cpu, &st);
    for (unsigned i = 0; i < g->count; i++)
        if (stack_pop(cpu, &st, g->size, &param[i]))
            return CPU_FAULT;
    return CPU_NEXT;
}

static enum cpu_rc gate_inner(struct cpu *cpu, const struct far *f, struct gate *g) {
    struct inner in;
    uint64_t param[32];
    unsigned cpl = desc_dpl(g->code.raw);
    struct cet_entry cet = {.rip = f->next, .cpl = cpl, .wide = mode_long(cpu)};
    if (inner_stack(cpu, cpl, 0, &in) || read_params(cpu, g, param) ||
        stack_push(cpu, &in.st, cpu->seg[SEG_SS].sel, g->size) ||
        stack_push(cpu, &in.st, cpu->gpr[R_SP], g->size))
        return CPU_FAULT;
    for (unsigned i = g->count; i-- > 0;)
        if (stack_push(cpu, &in.st, param[i], g->size))
            return CPU_FAULT;
    if (push_return(cpu, &in.st, g->size, f->next) ||
        (cet_asked(cpu) && (cet_inner_stack(cpu, 0, &cet) || cet_enter(cpu, &cet))) ||
        inner_touch(cpu, &in) ||
        enter_code(cpu, g->sel, &g->code, g->off, cpl) == CPU_FAULT)
        return CPU_FAULT;
    if (cet_asked(cpu))
        cet_enter_done(cpu, &cet);
    cpu->cpl = (uint8_t)cpl;
    inner_commit(cpu, &in);
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

static enum cpu_rc far_gate(struct cpu *cpu, const struct far *f, const struct desc *d) {
    struct gate g;
    struct stack st;
    struct cet_entry e = {0};
    if (gate_read(cpu, f, d, &g) || gate_code(cpu, f, &g))
        return CPU_FAULT;
    bool conforming = desc_type(g.code.raw) & TYPE_CONF;
    if (f->call && !conforming && desc_dpl(g.code.raw) < cpu->cpl)
        return gate_inner(cpu, f, &g);
    stack_here(cpu, &st);
    if (mode_long(cpu)) { /* the target is 64-bit code whatever this is */
        st.seg = NULL;
        st.mask = UINT64_MAX;
    }
    if (f->call && push_return(cpu, &st, g.size, f->next))
        return CPU_FAULT;
    if (cet_asked(cpu) && cet_within(cpu, f, mode_long(cpu), &e))
        return CPU_FAULT;
    if (enter_code(cpu, g.sel, &g.code, g.off, cpu->cpl) == CPU_FAULT)
        return CPU_FAULT;
    stack_commit(cpu, &st);
    if (cet_asked(cpu))
        cet_within_done(cpu, f, &e);
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

/* ---- Tasks ---- */

static enum cpu_rc far_task(struct cpu *cpu, const struct far *f, const struct desc *d) {
    uint16_t sel = f->sel;
    uint32_t error = sel & ~3u;
    if (desc_dpl(d->raw) < cpu->cpl || (sel & 3u) > desc_dpl(d->raw))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (!desc_present(d->raw))
        return cpu_raise_code(cpu, VEC_NP, error);
    if (desc_type(d->raw) == SYS_TASK_GATE)
        sel = (uint16_t)(d->raw >> 16);
    return task_switch(cpu, sel, f->call ? TASK_CALL : TASK_JMP, f->next, NULL);
}

static enum cpu_rc far_prot(struct cpu *cpu, const struct far *f) {
    struct desc d;
    if (sel_null(f->sel))
        return gp0(cpu);
    if (desc_fetch(cpu, f->sel, VEC_GP, 0, &d))
        return CPU_FAULT;
    if (desc_is_segment(d.raw))
        return far_code(cpu, f, &d);
    switch (desc_type(d.raw)) {
    case SYS_GATE32:
        return far_gate(cpu, f, &d);
    case SYS_GATE16:
        if (!mode_long(cpu))
            return far_gate(cpu, f, &d);
        break;
    case SYS_TSS16:
    case SYS_TSS32:
    case SYS_TASK_GATE:
        if (!mode_long(cpu))
            return far_task(cpu, f, &d);
        break;
    default:
        break;
    }
    return cpu_raise_code(cpu, VEC_GP, f->sel & ~3u);
}

/* JMP and, with arg, CALL. */
enum cpu_rc op_far(struct cpu *cpu, const struct insn *in) {
    struct far f = {.call = in->arg};
    if (far_operand(cpu, in, &f))
        return CPU_FAULT;
    return mode_prot(cpu) ? far_prot(cpu, &f) : far_real(cpu, &f);
}

/* ---- RETF ---- */

static enum cpu_rc ret_outer(struct cpu *cpu, struct stack *st, unsigned size,
                             unsigned release, uint16_t sel, uint64_t rip,
                             struct desc *cs) {
    struct desc ss;
    uint64_t sp, new_ss;
    unsigned cpl = sel & 3;
    bool to64 = mode_long(cpu) && desc_long(cs->raw);
    struct cet_return cet = ret_shadow(cpu, sel, cs, rip);
    st->sp += release;
    if (stack_pop(cpu, st, size, &sp) || stack_pop(cpu, st, size, &new_ss))
        return CPU_FAULT;
    if (ret_stack(cpu, (uint16_t)new_ss, cpl, to64, &ss) ||
        (cet_asked(cpu) && cet_leave(cpu, &cet)) ||
        enter_code(cpu, sel, cs, rip, cpl) == CPU_FAULT)
        return CPU_FAULT;
    if (cet_asked(cpu))
        cet_leave_done(cpu, &cet);
    ret_set_stack(cpu, (uint16_t)new_ss, &ss);
    set_stack_pointer(cpu, to64, sp + release);
    cpu->cpl = (uint8_t)cpl;
    seg_drop_privileged(cpu, cpl);
    return CPU_JUMP;
}

enum cpu_rc op_ret_far(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    struct desc d;
    uint64_t rip, sel;
    unsigned release = in->opcode == 0xca ? in->imm & 0xffff : 0;
    stack_here(cpu, &st);
    if (stack_pop(cpu, &st, in->opsize, &rip) || stack_pop(cpu, &st, in->opsize, &sel))
        return CPU_FAULT;
    if (!mode_prot(cpu)) {
        if (rip > cpu->seg[SEG_CS].limit)
            return gp0(cpu);
        st.sp += release;
        stack_commit(cpu, &st);
        seg_set_real(&cpu->seg[SEG_CS], (uint16_t)sel, cpu->mode & MODE_VM86);
        cpu->rip = rip;
    } else if (ret_code(cpu, (uint16_t)sel, rip, &d)) {
        return CPU_FAULT;
    } else if ((sel & 3) == cpu->cpl) {
        struct cet_return cet = ret_shadow(cpu, (uint16_t)sel, &d, rip);
        if ((cet_asked(cpu) && cet_leave(cpu, &cet)) ||
            enter_code(cpu, (uint16_t)sel, &d, rip, cpu->cpl) == CPU_FAULT)
            return CPU_FAULT;
        if (cet_asked(cpu))
            cet_leave_done(cpu, &cet);
        st.sp += release;
        stack_commit(cpu, &st);
    } else if (ret_outer(cpu, &st, in->opsize, release, (uint16_t)sel, rip, &d) ==
               CPU_FAULT) {
        return CPU_FAULT;
    }
    cpu_update_mode(cpu);
    return CPU_JUMP;
}
