/* SPDX-License-Identifier: MIT */
/* Turns of vCPUs that are threads: see turn.h. */
#include "cpu/turn.h"

#include "cpu/xstate.h"

void turn_take(struct cpu *cpu) {
    cpu_vec_save(cpu);
    if (cpu->turn)
        return;
    uint64_t ns = parallel_enter(cpu->par, cpu->apic_id);
    pn_count(cpu->stats, lock_takes);
    cpu->stats->v[PN_STAT_lock_waits] += ns > 0;
    cpu->stats->v[PN_STAT_lock_wait_ns] += ns;
    cpu->turn = true;
}

bool turn_look_up(struct cpu *cpu, pn_gva lin, enum pn_access access,
                  enum pn_tlb_mode mode, struct pn_xlate *x) {
    if (cpu_watches(cpu) || !canonical(cpu, lin))
        return false;
    if (!parallel_look(cpu->par, cpu->apic_id)) {
        pn_count(cpu->stats, barred_misses);
        return false;
    }
    bool found = pn_mmu_look(cpu->vmmu, lin, access, mode, x);
    parallel_looked(cpu->par, cpu->apic_id);
    if (found)
        pn_count(cpu->stats, unlocked_misses);
    return found;
}

bool turn_look_fault(struct cpu *cpu, pn_gva lin, enum pn_access access,
                     enum pn_tlb_mode mode) {
    struct pn_xlate x;
    if (cpu_watches(cpu) || !canonical(cpu, lin) ||
        !parallel_look(cpu->par, cpu->apic_id))
        return false;
    bool found = pn_mmu_look_fault(cpu->vmmu, lin, access, mode, &x);
    parallel_looked(cpu->par, cpu->apic_id);
    if (!found)
        return false;
    cpu->fault = x.fault;
    pn_count(cpu->stats, unlocked_misses);
    return true;
}

void turn_alone(struct cpu *cpu) {
    for (unsigned i = 0; i < cpu->par->count; i++)
        if (parallel_still(cpu->par, i))
            pn_count(cpu->stats, stand_stills);
}

void cpu_still(struct cpu *cpu) {
    if (cpu->par && parallel_still(cpu->par, cpu->apic_id))
        pn_count(cpu->stats, stand_stills);
}
