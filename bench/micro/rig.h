/* SPDX-License-Identifier: MIT */
/*
 * A guest of 64-bit paging without a guest: memory with tables in it, one MMU over it, one vCPU.
 *
 *     DATA_GVA     LEAVES leaf tables, each of 512 pages; their frames repeat
 *     TABLES_GVA   the same frames as the guest's physical addresses, below 2 MiB: all tables
 */
#pragma once

#include "cpu/cpu.h"

#define RIG_RAM    (64ull << 20)
#define LEAVES     64u
#define DATA_GVA   0x40000000ull
#define TABLES_GVA 0x80000000ull
#define LEAF_GPA   0x10000u /* of the first leaf table; the others follow */
#define CODE_GPA   0x180000u
#define ROOT_A     0x1000u
#define ROOT_B     0x2000u /* another address space of the same tables */

struct rig {
    enum pn_mmu_kind kind;
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu;
    struct pn_stats stats;
    uint8_t *ram;
    /* Where there is a CPU, vcpu is its. */
    struct cpu *cpu;
    struct cpu_model *model;
    struct pn_bus bus;
    struct pn_tlb_view own_view;
};

/* options: "prefetch=0" and so on, up to NULL. Return: 0 or -errno. */
int rig_create(struct rig *r, enum pn_mmu_kind kind, const char *const *options,
               bool with_cpu);
void rig_destroy(struct rig *r);

static inline pn_gva data_page(unsigned page) {
    return DATA_GVA + (uint64_t)page * PN_PAGE_SIZE;
}
/* Page table entry of a page of DATA_GVA: where it is, and where the guest reads and writes it. */
static inline pn_gpa leaf_entry(unsigned page) {
    return LEAF_GPA + (uint64_t)page * 8;
}
static inline pn_gva leaf_entry_gva(unsigned page) {
    return TABLES_GVA + leaf_entry(page);
}
/* What it holds. other: the neighbour's frame. */
uint64_t leaf_value(unsigned page, bool other);

static inline enum pn_answer rig_access(struct rig *r, pn_gva gva, enum pn_access access,
                                        struct pn_xlate *x) {
    return pn_answer(pn_mmu_translate(r->vcpu, gva, access, PN_TLB_SUPER, x));
}
void rig_set_cr3(struct rig *r, uint64_t cr3);
