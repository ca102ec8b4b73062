/* SPDX-License-Identifier: MIT */
/* The crash report: registers, mode, segments, and the bytes at rip. */
#include <inttypes.h>

#include "cpu/system.h"

static const char *mode_name(const struct cpu *cpu) {
    if (cpu->mode & MODE_VM86)
        return "virtual-8086";
    if (!(cpu->mode & MODE_PE))
        return "real";
    if (mode_64(cpu))
        return "64-bit";
    if (mode_long(cpu))
        return "compatibility";
    return cpu->mode & MODE_CODE32 ? "protected 32-bit" : "protected 16-bit";
}

static void dump_gprs(const struct cpu *cpu, FILE *out) {
    static const char name[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                     "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                     "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; i++)
        fprintf(out, "%-3s %016" PRIx64 "%s", name[i], cpu->gpr[i],
                i % 4 == 3 ? "\n" : "  ");
}

static void dump_segments(const struct cpu *cpu, FILE *out) {
    static const char name[SEG_COUNT][5] = {"es", "cs", "ss",   "ds",
                                            "fs", "gs", "ldtr", "tr"};
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct cpu_seg *s = &cpu->seg[i];
        fprintf(out, "%-4s %04x base %016" PRIx64 " limit %08x attr %05x\n", name[i],
                s->sel, s->base, s->limit, s->attr);
    }
    fprintf(out,
            "gdtr base %016" PRIx64 " limit %04x  idtr base %016" PRIx64 " limit %04x\n",
            cpu->gdtr.base, cpu->gdtr.limit, cpu->idtr.base, cpu->idtr.limit);
}

static void dump_code(const struct cpu *cpu, FILE *out) {
    pn_gva lin = mode_64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
    fprintf(out, "code");
    for (unsigned i = 0; i < 16; i++) {
        struct pn_xlate x;
        if (!canonical(cpu, lin + i) ||
            pn_mmu_probe(cpu->vmmu, lin + i, PN_READ, PN_TLB_SUPER_AC, &x) !=
                PN_OUT_MAPPED) {
            fprintf(out, " ??");
            break;
        }
        fprintf(out, " %02x", *x.hva);
    }
    fprintf(out, "\n");
}

void cpu_dump(const struct cpu *cpu, FILE *out) {
    fprintf(out, "cpu %u: %s mode, cpl %u, %" PRIu64 " instructions%s%s%s\n",
            cpu->apic_id, mode_name(cpu), cpu->cpl, cpu_insns(cpu),
            cpu->halted ? ", halted" : "", cpu->fault_name ? ", last fatal fault " : "",
            cpu->fault_name ? cpu->fault_name : "");
    fprintf(out, "rip %016" PRIx64 "  rflags %08" PRIx64 "\n", cpu->rip, cpu_rflags(cpu));
    dump_gprs(cpu, out);
    dump_segments(cpu, out);
    fprintf(out,
            "cr0 %08" PRIx64 "  cr2 %016" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64
            "  efer %04" PRIx64 "  xcr0 %" PRIx64 "\n",
            cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4, cpu->efer, cpu->xcr0);
    fprintf(out, "last fault: vector %u error %x address %016" PRIx64 "\n",
            cpu->fault.vector, cpu->fault.error, cpu->fault.address);
    dump_code(cpu, out);
}
