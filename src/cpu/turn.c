/* SPDX-License-Identifier: MIT */
/* Turns of vCPUs that are threads: see turn.h. */
#include "cpu/turn.h"

#include "cpu/xstate.h"

void turn_take(struct cpu *cpu) {
    cpu_vec_save(cpu);
    if (cpu->turn)
        return;
    if (!parallel_enter(cpu->par, cpu->apic_id))
        pn_count(cpu->stats, lock_waits);
    cpu->turn = true;
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
