/* SPDX-License-Identifier: MIT */
/*
 * Delivery of exceptions and interrupts: the IDT of long mode, the double- and
 * triple-fault rules, NMIs. Other modes' gates are exc_legacy.c's.
 *
 * Invariants
 * 1. event_deliver changes the CPU only when nothing can fault any more; memory below the
 *    handler's stack pointer may have been written.
 * 2. CR2 and DR6 change when delivery of their exception begins.
 * 3. A guest whose handlers fault before their first instruction retires nothing, yet it
 *    must reach its limits: from FAULT_STREAK exceptions in a row on, each takes the time
 *    of one instruction.
 *
 * Sources: SDM volume 2, "INT n/INTO/INT3/INT1"; volume 3, "Interrupt and Exception
 * Handling", "Interrupt and Exception Handling in 64-bit Mode", table "Conditions for
 * Generating a Double Fault".
 */
#include "cpu/cet.h"
#include "cpu/nested.h"

#define FAULT_STREAK 64u

static const char *const exception_name[32] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9",  "#TS",
    "#NP", "#SS", "#GP", "#PF", "#15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};

/* ---- The long-mode gate ---- */

struct gate64 {
    uint64_t rip;
    struct desc cs;
    uint16_t sel;
    uint8_t ist, cpl;
    bool clears_if;
};

static enum cpu_rc gate_read(struct cpu *cpu, const struct event *ev, struct gate64 *g) {
    uint32_t error = ev->vector * 8u + ERR_IDT + event_ext(ev);
    uint64_t raw[2];
    if (unlikely(ev->vector * 16u + 15 > cpu->idtr.limit))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (sys_read(cpu, cpu->idtr.base + ev->vector * 16u, raw, 16))
        return CPU_FAULT;
    /* S clear, type 14 (interrupt gate) or 15 (trap gate). */
    if (unlikely((raw[0] >> 40 & 0x1e) != 0x0e))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (unlikely(ev->kind == EVENT_SOFT && desc_dpl(raw[0]) < cpu->cpl))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (unlikely(!desc_present(raw[0])))
        return cpu_raise_code(cpu, VEC_NP, error);
    g->rip = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000) | raw[1] << 32;
    g->sel = (uint16_t)(raw[0] >> 16);
    g->ist = raw[0] >> 32 & 7;
    g->clears_if = !(raw[0] >> 40 & 1);
    return CPU_NEXT;
}

enum cpu_rc event_code(struct cpu *cpu, uint16_t sel, unsigned ext, struct desc *cs,
                       uint8_t *cpl) {
    uint32_t error = (sel & ~3u) | ext;
    if (unlikely(sel_null(sel)))
        return cpu_raise_code(cpu, VEC_GP, ext);
    if (desc_fetch(cpu, sel, VEC_GP, ext, cs))
        return CPU_FAULT;
    if (unlikely(!desc_is_code(cs->raw) || desc_dpl(cs->raw) > cpu->cpl))
        return cpu_raise_code(cpu, VEC_GP, error);
    if (unlikely(!desc_present(cs->raw)))
        return cpu_raise_code(cpu, VEC_NP, error);
    *cpl = desc_type(cs->raw) & TYPE_CONF ? cpu->cpl : (uint8_t)desc_dpl(cs->raw);
    return CPU_NEXT;
}

static enum cpu_rc gate_code(struct cpu *cpu, unsigned ext, struct gate64 *g) {
    if (event_code(cpu, g->sel, ext, &g->cs, &g->cpl))
        return CPU_FAULT;
    if (unlikely(!desc_long(g->cs.raw) || desc_big(g->cs.raw)))
        return cpu_raise_code(cpu, VEC_GP, (g->sel & ~3u) | ext);
    return likely(canonical(cpu, g->rip)) ? CPU_NEXT : cpu_raise_code(cpu, VEC_GP, ext);
}

/* The handler's stack pointer, aligned. */
static enum cpu_rc gate_stack(struct cpu *cpu, unsigned ext, const struct gate64 *g,
                              uint64_t *rsp) {
    const struct pn_segment *tr = &cpu->seg[SEG_TR];
    if (g->ist || g->cpl != cpu->cpl) {
        unsigned at = g->ist ? 28 + g->ist * 8u : 4 + g->cpl * 8u;
        if (unlikely(at + 7 > tr->limit))
            return cpu_raise_code(cpu, VEC_TS, (tr->sel & ~3u) | ext);
        if (sys_read(cpu, tr->base + at, rsp, 8))
            return CPU_FAULT;
    } else {
        *rsp = cpu->gpr[R_SP];
    }
    *rsp &= ~15ull;
    if (unlikely(!canonical(cpu, *rsp) || !canonical(cpu, *rsp - 48)))
        return cpu_raise_code(cpu, VEC_SS, ext);
    return CPU_NEXT;
}

/* A frame's n words, where all of them at once have faulted: it is the first push that cannot be
 * which faults, and SS is pushed first. */
static __attribute__((noinline)) enum cpu_rc push_each(struct cpu *cpu,
                                                       const uint64_t *frame, unsigned n,
                                                       uint64_t rsp,
                                                       enum pn_tlb_mode mode) {
    enum cpu_rc rc = CPU_NEXT;
    while (n-- && !rc)
        rc = lin_write(cpu, rsp + 8 * n, &frame[n], 8, mode);
    return rc;
}

static enum cpu_rc gate_push(struct cpu *cpu, const struct event *ev,
                             const struct gate64 *g, uint64_t *rsp) {
    uint64_t rflags = event_rflags(cpu, ev);
    uint64_t frame[6] = {ev->error, ev->rip,        cpu->seg[SEG_CS].sel,
                         rflags,    cpu->gpr[R_SP], cpu->seg[SEG_SS].sel};
    enum pn_tlb_mode mode = g->cpl == 3 ? PN_TLB_USER : PN_TLB_SUPER;
    /* Constant sizes: a variable one costs more than the rest of the frame. */
    enum cpu_rc rc = ev->has_error ? lin_write(cpu, *rsp -= 48, frame, 48, mode)
                                   : lin_write(cpu, *rsp -= 40, frame + 1, 40, mode);
    if (likely(!rc))
        return rc;
    unsigned n = ev->has_error ? 6 : 5;
    return push_each(cpu, frame + 6 - n, n, *rsp, mode);
}

static enum cpu_rc deliver_long(struct cpu *cpu, const struct event *ev) {
    struct gate64 g;
    uint64_t rsp;
    unsigned ext = event_ext(ev);
    struct cet_entry cet = {.rip = ev->rip, .wide = true};
    if (gate_read(cpu, ev, &g) || gate_code(cpu, ext, &g) ||
        gate_stack(cpu, ext, &g, &rsp) || gate_push(cpu, ev, &g, &rsp))
        return CPU_FAULT;
    cet.cpl = g.cpl;
    if (cet_asked(cpu) && (cet_inner_stack(cpu, g.ist, &cet) || cet_enter(cpu, &cet)))
        return CPU_FAULT;
    if (desc_touch(cpu, &g.cs))
        return CPU_FAULT;

    if (cet_asked(cpu))
        cet_enter_done(cpu, &cet);
    seg_set(&cpu->seg[SEG_CS], (uint16_t)((g.sel & ~3u) | g.cpl), g.cs.raw);
    if (g.cpl != cpu->cpl) {
        seg_set_null(&cpu->seg[SEG_SS], g.cpl);
        cpu->cpl = g.cpl;
    }
    cpu->gpr[R_SP] = rsp;
    cpu->rip = g.rip;
    cpu->sys_flags &= ~(uint64_t)(FL_TF | FL_NT | FL_VM | (g.clears_if ? FL_IF : 0));
    cpu->rf_at = UINT64_MAX;
    cpu->intr_shadow = 0;
    mode_ring_changed(cpu);
    return CPU_JUMP;
}

enum cpu_rc event_deliver(struct cpu *cpu, const struct event *ev) {
    if (likely(mode_long(cpu)))
        return deliver_long(cpu, ev);
    return cpu->mode & MODE_PE ? event_deliver_prot(cpu, ev)
                               : event_deliver_real(cpu, ev);
}

/* ---- Faults upon faults ---- */

static bool contributory(uint8_t vector) {
    return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP) || vector == VEC_CP;
}

/* What becomes of a second exception met while the first was being delivered. */
static bool makes_double_fault(uint8_t first, uint8_t second) {
    if (first == VEC_PF || first == VEC_VE)
        return contributory(second) || second == VEC_PF || second == VEC_VE;
    return contributory(first) && contributory(second);
}

static void count_streak(struct cpu *cpu) {
    if (cpu->fault_at != cpu_insns(cpu))
        cpu->fault_streak = 0;
    else if (++cpu->fault_streak >= FAULT_STREAK)
        cpu->budget--;
    cpu->fault_at = cpu_insns(cpu);
}

static void begin_exception(struct cpu *cpu, const struct pn_fault *f) {
    count_streak(cpu);
    pn_count(cpu->stats, exceptions);
    pn_emit(cpu->ring, exception, f->vector, f->error, f->address);
    if (f->vector == VEC_PF) {
        cpu->cr2 = f->address;
    } else if (f->vector == VEC_DB) {
        cpu->dr[6] = (cpu->dr[6] & ~15ull) | f->address;
        cpu->dr[7] &= ~(uint64_t)DR7_GD;
    }
}

static struct event fault_event(const struct cpu *cpu, const struct pn_fault *f) {
    return (struct event){.vector = f->vector,
                          .kind = EVENT_FAULT,
                          .has_error = f->has_error,
                          .error = f->error,
                          .rip = cpu->rip};
}

/* One attempt. While L2 runs, an exit meanwhile tells of it. */
static enum cpu_rc attempt(struct cpu *cpu, const struct event *ev) {
    if (likely(!cpu_in_guest(cpu)))
        return event_deliver(cpu, ev);
    nested_in_flight(cpu, ev);
    enum cpu_rc rc = event_deliver(cpu, ev);
    if (rc != CPU_FAULT)
        nested_landed(cpu);
    return rc;
}

enum cpu_rc event_chain(struct cpu *cpu, struct event ev) {
    while (attempt(cpu, &ev) == CPU_FAULT) {
        struct pn_fault f = cpu->fault;
        enum cpu_rc rc;
        if (unlikely(cpu_in_guest(cpu)) && nested_fault(cpu, &f, &rc))
            return rc;
        if (ev.kind == EVENT_FAULT && ev.vector == VEC_DF) {
            if (unlikely(cpu_in_guest(cpu)) && nested_shutdown(cpu, &rc))
                return rc;
            cpu->fault_name = "triple fault";
            return CPU_SHUTDOWN;
        }
        if (ev.kind == EVENT_FAULT && makes_double_fault(ev.vector, f.vector)) {
            if (f.vector == VEC_PF)
                cpu->cr2 = f.address;
            cpu->fault_name = exception_name[f.vector & 31];
            f = (struct pn_fault){.vector = VEC_DF, .has_error = true};
            if (unlikely(cpu_in_guest(cpu)) && nested_fault(cpu, &f, &rc))
                return rc;
        }
        begin_exception(cpu, &f);
        ev = fault_event(cpu, &f);
    }
    cpu->halted = 0;
    return CPU_JUMP;
}

PN_IN_HELPER enum cpu_rc cpu_deliver_fault(struct cpu *cpu) {
    const struct pn_fault f = cpu->fault;
    enum cpu_rc rc;
    if (unlikely(cpu_in_guest(cpu)) && nested_fault(cpu, &f, &rc))
        return rc;
    begin_exception(cpu, &f);
    return event_chain(cpu, fault_event(cpu, &f));
}

static enum cpu_rc deliver_external(struct cpu *cpu, uint8_t vector) {
    pn_mmu_exited(cpu->vmmu, PN_VM_INTERRUPT);
    return event_chain(
        cpu, (struct event){.vector = vector, .kind = EVENT_EXTERNAL, .rip = cpu->rip});
}

PN_IN_HELPER enum cpu_rc cpu_deliver_intr(struct cpu *cpu, uint8_t vector) {
    pn_count(cpu->stats, irq_injections);
    pn_emit(cpu->ring, interrupt, vector);
    return deliver_external(cpu, vector);
}

PN_IN_HELPER enum cpu_rc cpu_deliver_nmi(struct cpu *cpu) {
    pn_count(cpu->stats, nmi_injections);
    pn_emit(cpu->ring, nmi);
    cpu->nmi_blocked = 1;
    return deliver_external(cpu, VEC_NMI);
}
