/* SPDX-License-Identifier: MIT */
/* The crash report: registers, the last fault, and the bytes at rip. */
#include <inttypes.h>

#include "cpu/system.h"

static void dump_code(const struct cpu *cpu, FILE *out) {
    pn_gva lin = mode_64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    fprintf(out, "code");
    for (unsigned i = 0; i < 16; i++) {
        struct pn_xlate x;
        if (!canonical(cpu, lin + i) ||
            pn_mmu_probe(cpu->vmmu, lin + i, PN_READ, PN_TLB_SUPER_AC, &x) != PN_MAPPED) {
            fprintf(out, " ??");
            break;
        }
        fprintf(out, " %02x", *x.hva);
    }
    fprintf(out, "\n");
}

void cpu_dump(struct cpu *cpu, FILE *out) {
    struct pn_cpu_state s;
    cpu_get_state(cpu, &s);
    fprintf(out, "cpu %u: %s mode, cpl %u, %" PRIu64 " instructions%s%s\n", cpu->apic_id,
            pn_cpu_state_mode(&s), cpu->cpl, cpu_insns(cpu),
            cpu->fault_name ? ", last fatal fault " : "",
            cpu->fault_name ? cpu->fault_name : "");
    pn_cpu_state_print(&s, out);
    fprintf(out, "last fault: vector %u error %x address %016" PRIx64 "\n",
            cpu->fault.vector, cpu->fault.error, cpu->fault.address);
    dump_code(cpu, out);
}
