/* SPDX-License-Identifier: MIT */
/*
 * The software CPU's state to and from the engine-neutral one, row by row of
 * penumbra/cpu_state.inc; and reset and INIT, which are two columns of it.
 *
 * Invariant: between two instructions, get after set gives back what was set. What the
 * CPU holds beside the list lives inside one instruction (step_skip, owed, bounce), or is
 * a cache.
 */
#include <errno.h>

#include "cpu/control.h"
#include "cpu/model.h"
#include "cpu/svm.h"
#include "cpu/vmx.h"
#include "cpu/xstate.h"

#define HAS(feature) cpu_has(cpu, CPU_F_##feature)

_Static_assert(CPU_XSAVE_SIZE == PN_XSAVE_SIZE, "the XSAVE area");

/* ---- Registers that are not one member ---- */

static uint64_t get_rflags(const struct cpu *cpu) {
    return cpu_rflags(cpu);
}
static void set_rflags(struct cpu *cpu, uint64_t value) {
    cpu_set_rflags(cpu, value);
}

static uint64_t get_cr8(const struct cpu *cpu) {
    return cpu->bus->cr8_read(cpu->bus->opaque, cpu->apic_id);
}
static void set_cr8(struct cpu *cpu, uint64_t value) {
    cpu->bus->cr8_write(cpu->bus->opaque, cpu->apic_id, value & 0xf);
}

static uint64_t get_tsc(const struct cpu *cpu) {
    return cpu_clock(cpu) + (uint64_t)cpu_own_tsc_offset(cpu);
}
static void set_tsc(struct cpu *cpu, uint64_t value) {
    cpu->tsc_offset = (int64_t)(value - cpu_clock(cpu));
}

static uint64_t get_rng(const struct cpu *cpu) {
    return cpu->rng;
}
static void set_rng(struct cpu *cpu, uint64_t value) {
    cpu->rng = value;
}

/* Positions in the count of instructions: each holds here, or no more. */
static uint8_t get_intr_shadow(const struct cpu *cpu) {
    return cpu_shadowed(cpu) ? cpu->intr_shadow : PN_NO_SHADOW;
}
static void set_intr_shadow(struct cpu *cpu, uint8_t value) {
    cpu->intr_shadow = value;
    cpu->shadow_at = cpu_insns(cpu);
}

/* The first exception at a place makes a streak of 0. */
static uint32_t get_fault_streak(const struct cpu *cpu) {
    return cpu->fault_at == cpu_insns(cpu) ? cpu->fault_streak + 1 : 0;
}
static void set_fault_streak(struct cpu *cpu, uint32_t value) {
    cpu->fault_at = value ? cpu_insns(cpu) : UINT64_MAX;
    cpu->fault_streak = value ? value - 1 : 0;
}

/* ---- Get ---- */

static void get_bus_msr(struct cpu *cpu, struct pn_cpu_state *s, uint32_t index,
                        enum pn_msr_id id) {
    if (cpu->bus->msr_read(cpu->bus->opaque, cpu->apic_id, index, &s->msr[id]) == 0)
        s->msr_known |= 1ull << id;
}

void cpu_get_state(struct cpu *cpu, struct pn_cpu_state *s) {
    cpu_vec_save(cpu);
    memset(s, 0, sizeof *s);
#define PN_GPR(nr, name, gdb) s->gpr[nr] = cpu->gpr[nr];
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    s->seg[PN_##id] = cpu->seg[SEG_##id];
#define PN_REG(name, type, digits, gdb, soft, kvm, r, i) s->name = (type)cpu->soft;
#define PN_REG_BY(name, type, digits, gdb, kvm)          s->name = get_##name(cpu);
#define PN_EVENT(name, type, none, soft)                 s->name = cpu->soft;
#define PN_EVENT_BY(name, type, none)                    s->name = get_##name(cpu);
#define PN_MSR(name, index, soft, present, take, reset)                                  \
    s->msr[PN_MSR_##name] = cpu->soft;                                                   \
    s->msr_known |= 1ull << PN_MSR_##name;
#define PN_MSR_BUS(name, index, present)                                                 \
    if (present)                                                                         \
        get_bus_msr(cpu, s, index, PN_MSR_##name);
#include "penumbra/cpu_state.inc"
    if (unlikely(cpu->svm.entering))
        svm_owes(cpu, s);
    uint64_t named = xstate_get(cpu->xsave, XSAVE_HEADER, 8);
    xstate_init(cpu, cpu_model_vector(cpu->model) & ~named);
    x87_put_all(cpu);
    memcpy(s->xsave, cpu->xsave, sizeof s->xsave);
    memset(s->xsave + FX_MASK, 0, 4); /* the host's */
    x87_drop_pointers(cpu);
}

/* ---- Set ---- */

static bool knows(const struct pn_cpu_state *s, enum pn_msr_id id) {
    return s->msr_known >> id & 1;
}

/* A deadline of 0 is written by nobody: it would disarm a timer that counts. */
static void set_bus_msr(struct cpu *cpu, const struct pn_cpu_state *s, uint32_t index,
                        enum pn_msr_id id) {
    if (knows(s, id) && (id != PN_MSR_tsc_deadline || s->msr[id]))
        cpu->bus->msr_write(cpu->bus->opaque, cpu->apic_id, index, s->msr[id]);
}

int cpu_set_state(struct cpu *cpu, const struct pn_cpu_state *s) {
    if (s->activity > PN_WAITS_SIPI || s->intr_shadow > PN_SHADOW_MOV_SS ||
        s->exception > 31 || s->interrupt > 255)
        return -EINVAL;
    if (s->gif > 1 || s->in_guest > 1 ||
        ((s->in_guest || !s->gif) && !cpu_has(cpu, CPU_F_svm)))
        return -EINVAL;
    if (s->in_vmx > 1 || s->in_vmx_guest > s->in_vmx ||
        (s->in_vmx && !cpu_has(cpu, CPU_F_vmx)) || s->vmx_init > 2 || s->vmx_trap > 1 ||
        !vmx_after_possible(s->vmx_after))
        return -EINVAL;
    cpu->svm.ctl = (struct svm_ctl){0}; /* svm_refresh reads it */
    cpu->vmx.ctl = (struct vmx_ctl){0};
#define PN_GPR(nr, name, gdb) cpu->gpr[nr] = s->gpr[nr];
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    cpu->seg[SEG_##id] = s->seg[PN_##id];
#define PN_REG(name, type, digits, gdb, soft, kvm, r, i) cpu->soft = s->name;
#define PN_REG_BY(name, type, digits, gdb, kvm)          set_##name(cpu, s->name);
#define PN_EVENT(name, type, none, soft)                 cpu->soft = s->name;
#define PN_EVENT_BY(name, type, none)                    set_##name(cpu, s->name);
#define PN_MSR(name, index, soft, present, take, reset)                                  \
    if (knows(s, PN_MSR_##name))                                                         \
        cpu->soft = s->msr[PN_MSR_##name];
#define PN_MSR_BUS(name, index, present)                                                 \
    if (present)                                                                         \
        set_bus_msr(cpu, s, index, PN_MSR_##name);
#include "penumbra/cpu_state.inc"
    cpu->vec_live = 0;
    memcpy(cpu->xsave, s->xsave, sizeof cpu->xsave);
    x87_take_pointers(cpu, true);
    cpu->cpl = s->seg[PN_SS].attr >> 5 & 3;
    cpu->inject.any = cpu->inject.exception >= 0 || cpu->inject.interrupt >= 0;
    cpu->intr_line = 1;
    cpu->svm.active = cpu->svm.guest || !cpu->svm.gif;
    cpu->svm.stale = cpu->svm.guest;
    cpu->svm.entering = 0;
    cpu->vmx.stale = cpu->vmx.guest;
    cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    return 0;
}

/* ---- Reset and INIT ---- */

enum { KEEP, RESET };

static void reset_state(struct cpu *cpu, bool init) {
    uint32_t leaf[4] = {0};
    if (cpu->model)
        cpu_model_leaf(cpu->model, 1, 0, leaf);
#define PN_GPR(nr, name, gdb) cpu->gpr[nr] = 0;
#define PN_SEG(id, name, gdb, kvm, sel, attr, base)                                      \
    cpu->seg[SEG_##id] = (struct pn_segment){sel, attr, 0xffff, base};
#define PN_REG(name, type, digits, gdb, soft, kvm, reset, at_init)                       \
    if (!init || at_init == RESET)                                                       \
        cpu->soft = reset;
#define PN_EVENT(name, type, none, soft) cpu->soft = none;
#define PN_EVENT_BY(name, type, none)    set_##name(cpu, none);
#define PN_MSR(name, index, soft, present, take, reset)                                  \
    if (!init)                                                                           \
        cpu->soft = reset;
#include "penumbra/cpu_state.inc"
    cpu->gpr[R_DX] = leaf[0]; /* the processor's signature */
    cpu_set_rflags(cpu, FL_FIXED);
    cpu->cpl = 0;
    cpu->inject.any = 0;
    cpu->step_skip = 0;
    cpu->owed.count = 0;
    cpu->svm.active = cpu->svm.stale = cpu->vmx.stale = 0;
    cpu->svm.entering = 0;
    cpu->svm.in_flight = cpu->vmx.in_flight = cpu->vmx.iret_at = 0;
}

static void reset_vector(struct cpu *cpu) {
    cpu->vec_live = 0;
    memset(cpu->xsave, 0, sizeof cpu->xsave);
    x87_forget_pointers(cpu);
    xstate_put(cpu->xsave, FX_FCW, 2, FCW_RESET);
    xstate_put(cpu->xsave, FX_FTW, 1, 0xff); /* 0x5555: every register holds +0.0 */
    xstate_put(cpu->xsave, FX_MXCSR, 4, MXCSR_INIT);
    /* AVX is in its initial state. */
    xstate_put(cpu->xsave, XSAVE_HEADER, 8, XSTATE_X87 | XSTATE_SSE);
}

void cpu_reset(struct cpu *cpu) {
    reset_state(cpu, false);
    reset_vector(cpu);
    set_tsc(cpu, 0);
    cpu->stop_request = 0;
    cpu_update_paging(cpu);
    cpu_update_mode(cpu);
}

bool cpu_init(struct cpu *cpu, bool wait) {
    if (cpu->vmx.on) { /* VMX operation holds it back, and its guest exits */
        cpu->vmx.init = wait ? 2 : 1;
        cpu->intr_line = 1;
        return false;
    }
    uint64_t cache = cpu->cr0 & (CR0_CD | CR0_NW);
    reset_state(cpu, true);
    cpu->cr0 = (cpu->cr0 & ~(CR0_CD | CR0_NW)) | cache;
    cpu->halted = wait ? PN_WAITS_SIPI : PN_RUNS;
    cpu->intr_line = 1; /* the controller was reset too: look again */
    cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    return true;
}

void cpu_sipi(struct cpu *cpu, uint8_t vector) {
    if (cpu->halted != PN_WAITS_SIPI)
        return;
    cpu->halted = PN_RUNS;
    cpu->rip = 0;
    cpu->seg[SEG_CS].sel = (uint16_t)(vector << 8);
    cpu->seg[SEG_CS].base = (uint64_t)vector << 12;
    cpu_update_mode(cpu);
}

void cpu_unhalt(struct cpu *cpu) {
    if (cpu->halted == PN_HALTED)
        cpu->halted = PN_RUNS;
}
