/* SPDX-License-Identifier: MIT */
/*
 * The rmap of a page: the set of every leaf spte that maps it.
 *
 * Invariants
 * 1. A leaf spte of level L is in the list of the first page it maps, and in no other.
 * 2. No list is longer than PTRS_MAX (spte_set_leaf sees to it): a guest that maps one
 *    page everywhere pays for it in faults, not we in searches.
 * 3. No large spte that has MMU_W maps a page that disallow_large forbids, so only 4 KiB
 *    sptes have to be found when one page is write-protected.
 */
#include "mmu/shadow/shadow.h"

/* Clear MMU_W in the sptes of this level that the list names. */
static void write_protect(struct pn_mmu *mmu, uint64_t head, unsigned level) {
    struct ptrs_pos pos = {0};
    for (uint64_t *sptep; (sptep = ptrs_next(head, &pos));) {
        uint64_t v = *sptep;
        if (!(v & SPTE_MMU_W) || sp_level(sp_of(sptep)) != level)
            continue;
        if (spte_writable(v))
            flush_ask(mmu);
        if (v & SPTE_TLB_W)
            tlb_drop_leaf(mmu, sp_of(sptep), sp_index(sptep), v, true);
        spte_put(sptep, v & ~(SPTE_MMU_W | SPTE_TLB_W));
    }
}

void rmap_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    write_protect(mmu, s->rmap[gfn - s->gfn], 1);
}

void rmap_protect_large(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level) {
    write_protect(mmu, s->rmap[gfn - s->gfn], level);
}

void rmap_clean(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    struct ptrs_pos pos = {0};
    for (uint64_t *sptep; (sptep = ptrs_next(s->rmap[gfn - s->gfn], &pos));) {
        uint64_t v = *sptep;
        if (!(v & SPTE_LOG_D))
            continue;
        flush_ask(mmu);
        if (v & SPTE_TLB_W)
            tlb_drop_leaf(mmu, sp_of(sptep), sp_index(sptep), v, true);
        spte_put(sptep, v & ~(SPTE_LOG_D | SPTE_TLB_W));
    }
}
