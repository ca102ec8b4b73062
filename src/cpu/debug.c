/* SPDX-License-Identifier: MIT */
/*
 * What happens at instruction boundaries: pending events in their order of priority, the
 * debug registers, the interrupt shadow.
 *
 * Invariants
 * 1. Nothing here depends on where blocks begin or end: shadows and RF are positions in
 *    the count of retired instructions.
 *
 * Sources: SDM volume 3, "Priority Among Concurrent Events", "Debug Exceptions", "Masking
 * Exceptions and Interrupts When Switching Stacks".
 */
#include "cpu/nested.h"

static bool shadowed_by_ss(const struct cpu *cpu) {
    return cpu_shadowed(cpu) && cpu->intr_shadow == PN_SHADOW_MOV_SS;
}

/* What an exception without a payload puts into CR2 or DR6 is there already. */
static uint64_t applied(const struct cpu *cpu, uint8_t vector) {
    return vector == VEC_PF ? cpu->cr2 : vector == VEC_DB ? cpu->dr[6] & 15 : 0;
}

enum cpu_rc cpu_poll_injected(struct cpu *cpu) {
    int16_t exception = cpu->inject.exception, interrupt = cpu->inject.interrupt;
    if (exception >= 0) {
        uint8_t vector = (uint8_t)exception;
        uint64_t payload =
            cpu->inject.has_payload ? cpu->inject.payload : applied(cpu, vector);
        cpu->fault = (struct pn_fault){.vector = vector,
                                       .has_error = cpu->inject.has_error,
                                       .error = cpu->inject.error,
                                       .address = payload};
        cpu->inject.exception = -1;
        cpu->inject.any = interrupt >= 0;
        return cpu_deliver_fault(cpu);
    }
    cpu->inject.interrupt = -1;
    cpu->inject.any = 0;
    return cpu_deliver_intr(cpu, (uint8_t)interrupt);
}

static enum cpu_rc poll_interrupt(struct cpu *cpu) {
    int vector = cpu->bus->intr_ack(cpu->bus->opaque, cpu->apic_id);
    if (vector >= 0)
        return cpu_deliver_intr(cpu, (uint8_t)vector);
    cpu->intr_line = 0;
    return CPU_NEXT;
}

PN_IN_HELPER enum cpu_rc cpu_poll_events(struct cpu *cpu) {
    if (likely(!cpu_attention(cpu)))
        return CPU_NEXT;
    if (cpu->halted == PN_WAITS_SIPI)
        return CPU_NEXT;
    if (unlikely(cpu->svm.active | cpu->vmx.guest))
        return nested_poll(cpu);
    if (unlikely(cpu->inject.any))
        return cpu_poll_injected(cpu);
    if (unlikely(cpu->db_pending && !shadowed_by_ss(cpu))) {
        uint32_t bits = cpu->db_pending;
        cpu->db_pending = 0;
        cpu_raise_debug(cpu, bits);
        return cpu_deliver_fault(cpu);
    }
    /* STI's shadow holds an NMI back, too: SDM volume 2, "STI", permits it, and KVM does so
     * for both vendors. */
    if (unlikely(cpu->nmi_pending && !cpu->nmi_blocked && !cpu_shadowed(cpu))) {
        cpu->nmi_pending = 0;
        return cpu_deliver_nmi(cpu);
    }
    if (cpu->intr_line && cpu->sys_flags & FL_IF && !cpu_shadowed(cpu))
        return poll_interrupt(cpu);
    /* A guest that never sets IF would have the controller asked for ever. */
    if (cpu->intr_line && cpu->bus->intr_peek(cpu->bus->opaque, cpu->apic_id) < 0)
        cpu->intr_line = 0;
    return CPU_NEXT;
}

/* ---- Debug registers ---- */

static unsigned dr7_enabled(const struct cpu *cpu, unsigned i) {
    return cpu->dr[7] >> i * 2 & 3;
}
static unsigned dr7_rw(const struct cpu *cpu, unsigned i) {
    return cpu->dr[7] >> (16 + i * 4) & 3;
}
static unsigned dr7_size(const struct cpu *cpu, unsigned i) {
    static const uint8_t size[4] = {1, 2, 8, 4};
    return size[cpu->dr[7] >> (18 + i * 4) & 3];
}

enum cpu_rc cpu_check_breakpoint(struct cpu *cpu) {
    uint64_t lin = mode_64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    uint32_t hit = 0;
    if (cpu->rf_at == cpu_insns(cpu) || shadowed_by_ss(cpu))
        return CPU_NEXT;
    for (unsigned i = 0; i < 4; i++)
        if (dr7_enabled(cpu, i) && dr7_rw(cpu, i) == 0 && cpu->dr[i] == lin)
            hit |= 1u << i;
    return hit ? cpu_raise_debug(cpu, hit) : CPU_NEXT;
}

void cpu_watch(struct cpu *cpu, uint64_t address, unsigned size, unsigned rw) {
    if (cpu->debug.set && rw != 2)
        debug_watch(cpu, address, size, rw == 1);
    for (unsigned i = 0; i < 4; i++) {
        unsigned want = dr7_rw(cpu, i), n = dr7_size(cpu, i);
        uint64_t from = cpu->dr[i] & ~(uint64_t)(n - 1);
        if (!dr7_enabled(cpu, i) || want == 0)
            continue;
        if (want == 2 ? rw != 2 || !(cpu->cr4 & CR4_DE)
                      : rw == 2 || (want == 1 && rw != 1))
            continue;
        if (address - from < n || from - address < size)
            cpu->db_pending |= 1u << i;
    }
}

void cpu_insn_done(struct cpu *cpu, uint32_t mode_before) {
    if (mode_before & MODE_TF && !cpu->step_skip && !shadowed_by_ss(cpu))
        cpu->db_pending |= DR6_BS;
    cpu->step_skip = 0;
    if (unlikely(cpu->vmx.guest))
        vmx_landed(cpu);
}
