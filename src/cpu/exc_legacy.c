/* SPDX-License-Identifier: MIT */
/*
 * Delivery outside long mode: the vector table of real mode; interrupt, trap and task
 * gates of protected and virtual-8086 mode.
 *
 * Sources: SDM volume 2, "INT n/INTO/INT3/INT1"; volume 3, "Exception- or
 * Interrupt-Handler Procedures", "8086 Emulation".
 */
#include "cpu/cet.h"
#include "cpu/vme.h"

/* ---- Real mode ---- */

enum cpu_rc event_deliver_real(struct cpu *cpu, const struct event *ev) {
    struct stack st;
    uint16_t entry[2];
    if (ev->vector * 4u + 3 > cpu->idtr.limit)
        return cpu_raise_code(cpu, VEC_GP, ev->vector * 8u + ERR_IDT);
    if (sys_read(cpu, cpu->idtr.base + ev->vector * 4u, entry, 4))
        return CPU_FAULT;
    stack_here(cpu, &st);
    if (stack_push(cpu, &st, cpu_rflags(cpu), 2) ||
        stack_push(cpu, &st, cpu->seg[SEG_CS].sel, 2) || stack_push(cpu, &st, ev->rip, 2))
        return CPU_FAULT;
    stack_commit(cpu, &st);
    seg_set_real(&cpu->seg[SEG_CS], entry[1], false);
    cpu->rip = entry[0];
    cpu->sys_flags &= ~(uint64_t)(FL_IF | FL_TF | FL_AC);
    cpu->rf_at = UINT64_MAX;
    cpu->intr_shadow = 0;
    cpu_update_mode(cpu);
    return CPU_JUMP;
}

/* ---- Protected mode ---- */

struct gate {
    uint64_t off;
    struct desc code;
    uint16_t sel;
    uint8_t size; /* 2 or 4 */
    uint8_t cpl;  /* of the handler */
    bool clears_if, task;
};

static enum cpu_rc gate_read(struct cpu *cpu, const struct event *ev, struct gate *g) {
    uint32_t error = ev->vector * 8u + ERR_IDT + event_ext(ev);
    uint64_t raw;
    if (ev->vector * 8u + 7 > cpu->idtr.limit)
        return cpu_raise_code(cpu, VEC_GP, error);
    if (sys_read(cpu, cpu->idtr.base + ev->vector * 8u, &raw, 8))
        return CPU_FAULT;
    unsigned type = raw >> 40 & 31;
    /* Task gate 5; interrupt gates 6 (16-bit), 14; trap gates 7, 15. */
    if (type != 5 && (type & ~8u) != 6 && (type & ~8u) != 7)
        return cpu_raise_code(cpu, VEC_GP, error);
    if (ev->kind == EVENT_SOFT && desc_dpl(raw) < cpu->cpl)
        return cpu_raise_code(cpu, VEC_GP, error);
    if (!desc_present(raw))
        return cpu_raise_code(cpu, VEC_NP, error);
    g->task = type == 5;
    g->sel = (uint16_t)(raw >> 16);
    g->size = type & 8 ? 4 : 2;
    g->off = g->size == 4 ? (raw & 0xffff) | (raw >> 32 & 0xffff0000) : raw & 0xffff;
    g->clears_if = !(type & 1);
    return CPU_NEXT;
}

static enum cpu_rc gate_code(struct cpu *cpu, unsigned ext, struct gate *g) {
    if (event_code(cpu, g->sel, ext, &g->code, &g->cpl))
        return CPU_FAULT;
    if (cpu->mode & MODE_VM86 && g->cpl != 0)
        return cpu_raise_code(cpu, VEC_GP, (g->sel & ~3u) | ext);
    return g->off > desc_limit(g->code.raw) ? cpu_raise_code(cpu, VEC_GP, ext) : CPU_NEXT;
}

static enum cpu_rc push_outer(struct cpu *cpu, struct stack *st, unsigned size) {
    static const uint8_t order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    if (cpu->mode & MODE_VM86)
        for (unsigned i = 0; i < sizeof order; i++)
            if (stack_push(cpu, st, cpu->seg[order[i]].sel, size))
                return CPU_FAULT;
    if (stack_push(cpu, st, cpu->seg[SEG_SS].sel, size))
        return CPU_FAULT;
    return stack_push(cpu, st, cpu->gpr[R_SP], size);
}

static enum cpu_rc push_frame(struct cpu *cpu, const struct event *ev, struct stack *st,
                              unsigned size) {
    uint64_t rflags = event_rflags(cpu, ev);
    if (stack_push(cpu, st, rflags, size) ||
        stack_push(cpu, st, cpu->seg[SEG_CS].sel, size) ||
        stack_push(cpu, st, ev->rip, size))
        return CPU_FAULT;
    return ev->has_error ? stack_push(cpu, st, ev->error, size) : CPU_NEXT;
}

static void leave_vm86(struct cpu *cpu) {
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < sizeof data; i++)
        seg_set_null(&cpu->seg[data[i]], 0);
}

enum cpu_rc event_deliver_prot(struct cpu *cpu, const struct event *ev) {
    struct gate g;
    struct inner in;
    struct stack here, *st = &here;
    unsigned ext = event_ext(ev);
    if (ev->redirected)
        return vm86_deliver(cpu, ev);
    if (gate_read(cpu, ev, &g))
        return CPU_FAULT;
    if (g.task)
        return task_switch(cpu, g.sel, TASK_GATE, ev->rip, ev);
    if (gate_code(cpu, ext, &g))
        return CPU_FAULT;
    bool inward = g.cpl != cpu->cpl;
    if (inward) {
        if (inner_stack(cpu, g.cpl, ext, &in) || push_outer(cpu, &in.st, g.size))
            return CPU_FAULT;
        st = &in.st;
    } else {
        stack_here(cpu, st);
        st->error = ext;
    }
    struct cet_entry cet = {.rip = ev->rip, .cpl = g.cpl};
    if (push_frame(cpu, ev, st, g.size) ||
        (cet_asked(cpu) && (cet_inner_stack(cpu, 0, &cet) || cet_enter(cpu, &cet))) ||
        (inward && inner_touch(cpu, &in)) || desc_touch(cpu, &g.code))
        return CPU_FAULT;

    if (cet_asked(cpu))
        cet_enter_done(cpu, &cet);
    if (cpu->mode & MODE_VM86)
        leave_vm86(cpu);
    if (inward)
        inner_commit(cpu, &in);
    else
        stack_commit(cpu, st);
    cpu->cpl = g.cpl;
    seg_set(&cpu->seg[SEG_CS], (uint16_t)((g.sel & ~3u) | g.cpl), g.code.raw);
    cpu->rip = g.off;
    cpu->sys_flags &= ~(uint64_t)(FL_TF | FL_NT | FL_VM | (g.clears_if ? FL_IF : 0));
    cpu->rf_at = UINT64_MAX;
    cpu->intr_shadow = 0;
    cpu_update_mode(cpu);
    return CPU_JUMP;
}
