/* SPDX-License-Identifier: MIT */
/*
 * The hardware task switch, 16- and 32-bit TSS; long mode has none.
 *
 * Invariants
 * 1. Up to the commit everything that can fault has been read or written already: the new
 *    TSS read, the old one and both descriptors written. A fault before it belongs to the
 *    old task, which then is as it was but for its TSS image.
 * 2. After the commit faults belong to the new task, at its EIP.
 *
 * Source: SDM volume 3, "Task Switching", "Exception Conditions Checked During a Task
 * Switch", "16-Bit Task-State Segment (TSS)".
 */
#include "cpu/cet.h"
#include "cpu/control.h"
#include "cpu/nested.h"
#include "cpu/vme.h"

#define TSS_BUSY 2u

/* Byte offsets in the two formats. */
#define TSS32_CR3  0x1c
#define TSS32_EIP  0x20
#define TSS32_SEGS 0x48
#define TSS32_LDT  0x60
#define TSS32_TRAP 0x64
#define TSS32_SIZE 0x68
#define TSS32_SSP  0x68 /* with CR4.CET */
#define TSS16_IP   0x0e
#define TSS16_SEGS 0x22
#define TSS16_LDT  0x2a
#define TSS16_SIZE 0x2c

/* What a TSS holds of a task. */
struct task {
    uint32_t cr3, eip, eflags, gpr[8];
    uint16_t sel[6]; /* ES CS SS DS FS GS */
    uint16_t ldt, trap;
    uint32_t ssp;
    bool wide;
};

/* ---- The image in memory ---- */

static uint32_t get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static uint16_t get16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static void decode32(const uint8_t *raw, struct task *t) {
    t->cr3 = get32(raw + TSS32_CR3);
    t->eip = get32(raw + TSS32_EIP);
    t->eflags = get32(raw + TSS32_EIP + 4);
    for (unsigned i = 0; i < 8; i++)
        t->gpr[i] = get32(raw + TSS32_EIP + 8 + i * 4);
    for (unsigned i = 0; i < 6; i++)
        t->sel[i] = get16(raw + TSS32_SEGS + i * 4);
    t->ldt = get16(raw + TSS32_LDT);
    t->trap = get16(raw + TSS32_TRAP);
}

static void decode16(const uint8_t *raw, struct task *t) {
    t->eip = get16(raw + TSS16_IP);
    t->eflags = get16(raw + TSS16_IP + 2);
    for (unsigned i = 0; i < 8; i++)
        t->gpr[i] = get16(raw + TSS16_IP + 4 + i * 2) | 0xffff0000u;
    for (unsigned i = 0; i < 4; i++)
        t->sel[i] = get16(raw + TSS16_SEGS + i * 2);
    t->ldt = get16(raw + TSS16_LDT);
}

/* Read in pieces that cpu_read_lin takes. */
static enum cpu_rc task_read(struct cpu *cpu, pn_gva base, bool wide, struct task *t) {
    uint8_t raw[TSS32_SIZE];
    unsigned size = wide ? TSS32_SIZE : TSS16_SIZE;
    *t = (struct task){.wide = wide};
    for (unsigned at = 0; at < size;) {
        unsigned n = size - at < 52 ? size - at : 52;
        if (sys_read(cpu, base + at, raw + at, n))
            return CPU_FAULT;
        at += n;
    }
    if (wide)
        decode32(raw, t);
    else
        decode16(raw, t);
    return cet_asked(cpu) ? sys_read(cpu, base + TSS32_SSP, &t->ssp, 4) : CPU_NEXT;
}

/* Save the present task: EIP to GS, which lie together. */
static enum cpu_rc task_write(struct cpu *cpu, uint64_t rip, uint32_t eflags) {
    const struct pn_segment *tr = &cpu->seg[SEG_TR];
    uint32_t wide[16] = {(uint32_t)rip, eflags};
    uint16_t narrow[14] = {(uint16_t)rip, (uint16_t)eflags};
    for (unsigned i = 0; i < 8; i++) {
        wide[2 + i] = (uint32_t)cpu->gpr[i];
        narrow[2 + i] = (uint16_t)cpu->gpr[i];
    }
    for (unsigned i = 0; i < 6; i++)
        wide[10 + i] = cpu->seg[i].sel;
    for (unsigned i = 0; i < 4; i++)
        narrow[10 + i] = cpu->seg[i].sel;
    if (tr->attr & 8)
        return sys_write(cpu, tr->base + TSS32_EIP, wide, sizeof wide);
    return sys_write(cpu, tr->base + TSS16_IP, narrow, sizeof narrow);
}

/* ---- The descriptor of the new TSS ---- */

static enum cpu_rc tss_fetch(struct cpu *cpu, uint16_t sel, enum task_reason reason,
                             unsigned ext, struct desc *d) {
    uint8_t vector = reason == TASK_IRET ? VEC_TS : VEC_GP;
    uint32_t error = (sel & ~3u) | ext;
    if (sel & 4 || sel_null(sel))
        return cpu_raise_code(cpu, vector, error);
    if (desc_fetch(cpu, sel, vector, ext, d))
        return CPU_FAULT;
    unsigned type = desc_type(d->raw);
    bool busy = type & TSS_BUSY;
    if (desc_is_segment(d->raw) || (type & ~(8u | TSS_BUSY)) != 1 ||
        busy != (reason == TASK_IRET))
        return cpu_raise_code(cpu, vector, error);
    if (!desc_present(d->raw))
        return cpu_raise_code(cpu, VEC_NP, error);
    if (cet_asked(cpu) && !(type & 8))
        return cpu_raise_code(cpu, VEC_TS, error);
    unsigned size = cet_asked(cpu) ? TSS32_SSP + 4 : type & 8 ? TSS32_SIZE : TSS16_SIZE;
    return desc_limit(d->raw) < size - 1 ? cpu_raise_code(cpu, VEC_TS, error) : CPU_NEXT;
}

static enum cpu_rc set_busy(struct cpu *cpu, uint16_t sel, bool busy) {
    pn_gva at = (uint32_t)(cpu->gdtr.base + (sel & ~7u) + 5);
    uint8_t byte;
    if (sys_read(cpu, at, &byte, 1))
        return CPU_FAULT;
    byte = busy ? byte | TSS_BUSY : byte & ~TSS_BUSY;
    return sys_write(cpu, at, &byte, 1);
}

/* ---- Into the new task ---- */

static enum cpu_rc load_ldt(struct cpu *cpu, uint16_t sel, unsigned ext) {
    struct desc d;
    if (sel_null(sel))
        return CPU_NEXT;
    if (sel & 4)
        return cpu_raise_code(cpu, VEC_TS, (sel & ~3u) | ext);
    if (desc_fetch(cpu, sel, VEC_TS, ext, &d))
        return CPU_FAULT;
    if ((d.raw >> 40 & 31) != 2 || !desc_present(d.raw))
        return cpu_raise_code(cpu, VEC_TS, (sel & ~3u) | ext);
    seg_set(&cpu->seg[SEG_LDTR], sel, d.raw);
    return CPU_NEXT;
}

static enum cpu_rc load_cs(struct cpu *cpu, uint16_t sel, unsigned ext) {
    struct desc d;
    uint32_t error = (sel & ~3u) | ext;
    unsigned rpl = sel & 3;
    if (sel_null(sel))
        return cpu_raise_code(cpu, VEC_TS, error);
    if (desc_fetch(cpu, sel, VEC_TS, ext, &d))
        return CPU_FAULT;
    bool conforming = desc_type(d.raw) & TYPE_CONF;
    unsigned dpl = desc_dpl(d.raw);
    if (!desc_is_code(d.raw) || (conforming ? dpl > rpl : dpl != rpl))
        return cpu_raise_code(cpu, VEC_TS, error);
    if (!desc_present(d.raw))
        return cpu_raise_code(cpu, VEC_NP, error);
    if (desc_touch(cpu, &d))
        return CPU_FAULT;
    seg_set(&cpu->seg[SEG_CS], sel, d.raw);
    return CPU_NEXT;
}

static enum cpu_rc load_ss(struct cpu *cpu, uint16_t sel, unsigned ext) {
    struct desc d;
    if (sel_null(sel))
        return cpu_raise_code(cpu, VEC_TS, ext);
    if (ss_fetch(cpu, sel, cpu->cpl, VEC_TS, ext, &d) || desc_touch(cpu, &d))
        return CPU_FAULT;
    seg_set(&cpu->seg[SEG_SS], sel, d.raw);
    return CPU_NEXT;
}

/* As MOV does, but with #TS where MOV has #GP. */
static enum cpu_rc load_data(struct cpu *cpu, unsigned seg, uint16_t sel, unsigned ext) {
    if (seg_load(cpu, seg, sel) == CPU_NEXT)
        return CPU_NEXT;
    if (cpu->fault.vector == VEC_GP)
        cpu->fault.vector = VEC_TS;
    if (cpu->fault.vector == VEC_TS || cpu->fault.vector == VEC_NP)
        cpu->fault.error |= ext;
    return CPU_FAULT;
}

static enum cpu_rc load_segments(struct cpu *cpu, const struct task *t, unsigned ext) {
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    if (load_ldt(cpu, t->ldt, ext))
        return CPU_FAULT;
    if (cpu->mode & MODE_VM86)
        return CPU_NEXT;
    if (load_cs(cpu, t->sel[SEG_CS], ext) || load_ss(cpu, t->sel[SEG_SS], ext))
        return CPU_FAULT;
    for (unsigned i = 0; i < sizeof data; i++)
        if (load_data(cpu, data[i], t->sel[data[i]], ext))
            return CPU_FAULT;
    return CPU_NEXT;
}

static enum cpu_rc load_cr3(struct cpu *cpu, const struct task *t) {
    if (!t->wide || !(cpu->cr0 & CR0_PG))
        return CPU_NEXT;
    return cr3_load(cpu, t->cr3, false, cpu->cr4 & CR4_PAE);
}

/* Everything of the new task that needs no check. */
static void commit(struct cpu *cpu, const struct task *t, bool by_insn) {
    bool vm86 = t->eflags & FL_VM;
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = t->gpr[i];
    cpu->rip = t->eip;
    if (by_insn)
        flags_load(cpu, t->eflags);
    else
        cpu_set_rflags(cpu, t->eflags);
    cpu->cr0 |= CR0_TS;
    cpu->dr[7] &= ~(uint64_t)DR7_LOCAL;
    cpu->cpl = vm86 ? 3 : t->sel[SEG_CS] & 3;
    for (unsigned i = 0; i < 6; i++) {
        if (vm86)
            seg_set_real(&cpu->seg[i], t->sel[i], true);
        else
            seg_set_null(&cpu->seg[i], t->sel[i]);
    }
    seg_set_null(&cpu->seg[SEG_LDTR], t->ldt);
    cpu->intr_shadow = 0;
    if (t->trap & 1)
        cpu->db_pending |= DR6_BT;
    cpu_update_mode(cpu);
}

static enum cpu_rc enter(struct cpu *cpu, const struct task *t, const struct event *ev,
                         const struct cet_task *cet) {
    unsigned ext = ev ? event_ext(ev) : 0;
    enum cpu_rc rc = load_cr3(cpu, t);
    if (rc == CPU_NEXT)
        rc = load_segments(cpu, t, ext);
    cpu_update_mode(cpu);
    if (rc == CPU_NEXT && cet_asked(cpu)) {
        rc = cet_task_in(cpu, cet);
        cpu_update_mode(cpu);
    }
    if (rc)
        return rc;
    if (ev && ev->has_error) {
        struct stack st;
        stack_here(cpu, &st);
        st.error = ext;
        if (stack_push(cpu, &st, ev->error, t->wide ? 4 : 2))
            return CPU_FAULT;
        stack_commit(cpu, &st);
    }
    if (cpu->rip > cpu->seg[SEG_CS].limit)
        return cpu_raise_code(cpu, VEC_GP, ext);
    return vif_conflicts(cpu) ? gp0(cpu) : CPU_JUMP;
}

enum cpu_rc task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason,
                        uint64_t rip, const struct event *ev) {
    struct desc d;
    struct task t;
    uint16_t old = cpu->seg[SEG_TR].sel;
    uint64_t eflags = ev ? event_rflags(cpu, ev) : cpu_rflags(cpu);
    enum cpu_rc exit;
    if (unlikely(cpu_in_guest(cpu)) &&
        nested_task_switch(cpu, sel, reason, rip, ev, &exit))
        return exit;
    bool nests = reason == TASK_CALL || reason == TASK_GATE;
    if (tss_fetch(cpu, sel, reason, ev ? event_ext(ev) : 0, &d) ||
        task_read(cpu, desc_base(d.raw), desc_type(d.raw) & 8, &t))
        return CPU_FAULT;
    if (reason == TASK_IRET)
        eflags &= ~(uint64_t)FL_NT;
    struct cet_task cet = {.tss = sel,
                           .iret = reason == TASK_IRET,
                           .lip = cet_lip(cpu, rip),
                           .new_ssp = t.ssp};
    unsigned cpl = t.eflags & FL_VM ? 3 : t.sel[SEG_CS] & 3;
    if (cet_asked(cpu) && cet_task_out(cpu, cpl, nests, &cet))
        return CPU_FAULT;
    if (task_write(cpu, rip, (uint32_t)eflags) ||
        (nests && sys_write(cpu, desc_base(d.raw), &old, 2)) ||
        (!nests && set_busy(cpu, old, false)) || set_busy(cpu, sel, true))
        return CPU_FAULT;

    if (nests)
        t.eflags |= FL_NT;
    seg_set(&cpu->seg[SEG_TR], sel, d.raw | (uint64_t)TSS_BUSY << 40);
    commit(cpu, &t, !ev || ev->kind == EVENT_SOFT || ev->kind == EVENT_ICEBP);
    enum cpu_rc rc = enter(cpu, &t, ev, &cet);
    return rc == CPU_FAULT && reason != TASK_GATE ? cpu_deliver_fault(cpu) : rc;
}
