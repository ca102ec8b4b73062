/* SPDX-License-Identifier: MIT */
/* Blocks of code that nobody has translated yet: all that was translated is dropped before. And that
 * drop, when the cache has code of many pages. */
#include <string.h>

#include "bench/micro/micro.h"
#include "penumbra/x86.h"

#define BLOCKS 1024u
#define INSNS  6u

/* A load, an addition, a store, an address, a test, and a jump to the next block. */
static const uint8_t code[] = {0x48, 0x8b, 0x47, 0x08, 0x48, 0x01, 0xc8,
                               0x48, 0x89, 0x47, 0x10, 0x48, 0x8d, 0x56,
                               0x20, 0x48, 0x85, 0xc0, 0xeb, 0x00};
#define HLT 0xf4

#define ATTR_CODE64 0xaf9bu
#define ATTR_DATA   0xcf93u

/* At that address. */
static void enter_at(struct rig *r, pn_gva rip) {
    const struct pn_segment data = {.attr = ATTR_DATA, .limit = 0xffffffffu};
    struct pn_cpu_state s;
    cpu_get_state(r->cpu, &s);
    for (unsigned i = PN_ES; i <= PN_GS; i++)
        s.seg[i] = data;
    s.seg[PN_CS].attr = ATTR_CODE64;
    s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
    s.cr4 = CR4_PAE;
    s.cr3 = ROOT_A;
    s.efer = EFER_LME | EFER_LMA;
    s.rflags = 2;
    s.rip = rip;
    s.gpr[7] = DATA_GVA;
    s.activity = PN_RUNS;
    cpu_set_state(r->cpu, &s);
}

/* At that byte of the code. */
static void enter(struct rig *r, unsigned offset) {
    enter_at(r, TABLES_GVA + CODE_GPA + offset);
}

/* Until the HLT. Return: whether that is where it came to, after so many instructions. */
static bool run(struct rig *r, unsigned insns) {
    uint64_t before = cpu_insns(r->cpu);
    enum cpu_exit why = cpu_run(r->cpu, before + 2 * BLOCKS * INSNS);
    return why == CPU_EXIT_HALT && cpu_insns(r->cpu) - before == insns + 1;
}

void blocks_prepare(struct rig *r) {
    static uint8_t all[BLOCKS * sizeof(code) + 1];
    for (unsigned i = 0; i < BLOCKS; i++)
        memcpy(all + i * sizeof(code), code, sizeof(code));
    all[BLOCKS * sizeof(code)] = HLT;
    pn_mmu_write_phys(r->mmu, CODE_GPA, all, sizeof(all));
    cpu_drop_blocks(r->cpu);
    enter(r, BLOCKS * sizeof(code)); /* it drops them when it runs */
    run(r, 0);
    enter(r, 0);
}

unsigned blocks_run(struct rig *r) {
    uint64_t made = r->stats.v[PN_STAT_block_translated],
             flushed = r->stats.v[PN_STAT_block_flush];
    bool done = run(r, BLOCKS * INSNS);
    made = r->stats.v[PN_STAT_block_translated] - made;
    /* Some lie across two pages, and may be made twice. */
    return done && made >= BLOCKS && made < BLOCKS + 64 &&
                   r->stats.v[PN_STAT_block_flush] == flushed
               ? BLOCKS
               : 0;
}

void blocks_prepare_again(struct rig *r) {
    enter(r, 0);
}

unsigned blocks_again(struct rig *r) {
    return run(r, BLOCKS * INSNS) ? BLOCKS : 0;
}

/* A jump to the next page, in each page of DATA_GVA whose frame is its own; in the last one a HLT.
 * The vCPU is left where flush_run expects it only if all were translated. */
void flush_prepare(struct rig *r) {
    static const uint8_t jump[] = {0xe9, 0xfb, 0x0f, 0, 0}, halt[] = {HLT};
    for (unsigned i = 0; i + 1 < FLUSH_PAGES; i++)
        pn_mmu_write_phys(r->mmu, leaf_value(i, false) & ~(pn_gpa)(PN_PAGE_SIZE - 1),
                          jump, sizeof(jump));
    pn_mmu_write_phys(r->mmu,
                      leaf_value(FLUSH_PAGES - 1, false) & ~(pn_gpa)(PN_PAGE_SIZE - 1),
                      halt, sizeof(halt));
    pn_mmu_write_phys(r->mmu, CODE_GPA, halt, sizeof(halt));
    uint64_t made = r->stats.v[PN_STAT_block_translated];
    enter_at(r, DATA_GVA);
    cpu_run(r->cpu, cpu_insns(r->cpu) + FLUSH_PAGES);
    made = r->stats.v[PN_STAT_block_translated] - made;
    enter_at(r, made == FLUSH_PAGES ? TABLES_GVA + CODE_GPA : DATA_GVA);
}

unsigned flush_run(struct rig *r) {
    uint64_t flushed = r->stats.v[PN_STAT_block_flush];
    cpu_drop_blocks(r->cpu);
    return run(r, 0) && r->stats.v[PN_STAT_block_flush] == flushed + 1;
}

unsigned flush_not(struct rig *r) {
    return run(r, 0);
}
