/* SPDX-License-Identifier: MIT */
/*
 * The CPU as one sees it who interrupts it anywhere.
 *
 * Blocks and their places in code memory are changed in C alone. So they are in order whenever
 * the thread is in translated code; and in C, rip names the instruction.
 */
#include "cpu/xlat.h"

void cpu_where(const struct cpu *cpu, uint64_t pc, struct pn_where *out) {
    const struct xlat *x = cpu->xlat;
    uint64_t at = pc - (uint64_t)x->rx;
    out->rip = cpu->rip;
    out->cr3 = cpu->cr3;
    out->cpl = cpu->cpl;
    out->nested = cpu_in_guest(cpu);
    out->translated = at < x->size;
    const struct block *b = out->translated ? block_at(x, (uint32_t)at) : NULL;
    if (b)
        out->rip = b->rip;
}

void cpu_blocks(const struct cpu *cpu,
                void (*fn)(void *opaque, const void *code, size_t size, uint64_t rip),
                void *opaque) {
    const struct xlat *x = cpu->xlat;
    for (uint32_t i = 0; i < x->block_count; i++) {
        const struct block *b = &x->blocks[i];
        uint32_t cold = block_cold(x, i);
        fn(opaque, x->rx + b->code, block_code_end(x, b) - b->code, b->rip);
        if (b->cold_end > cold)
            fn(opaque, x->rx + cold, b->cold_end - cold, b->rip);
    }
}
