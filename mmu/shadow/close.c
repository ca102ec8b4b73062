/* SPDX-License-Identifier: MIT */
/*
 * Harvests of the dirty log. A page that is taken has to lose MMU_W, or by D bits LOG_D, in each spte
 * that maps it. Of few pages that is done at once, by rmap. Of many it is put off: all write tags go,
 * and all sps are closed, which is a count of harvests that each sp falls behind of (log_gen). A TLB miss that
 * comes to such an sp opens it: what its leaves grant is looked up in the log as it is then. So a
 * harvest passes over the log once, and touches no table.
 *
 * Invariants
 * 1. No TLB has a write tag by a leaf of an sp that is closed.
 * 2. In an sp that is open a leaf has MMU_W (by D bits: LOG_D) only if its page is in the log, or
 *    in a buffer, or its slot has none.
 * 3. Among the 8 sptes of a bit that `granted` has not, no leaf of level 1 has it.
 */
#include "mmu/shadow/shadow.h"

static uint64_t right(const struct pn_mmu *mmu) {
    return mmu->shadow->log_d ? SPTE_LOG_D : SPTE_MMU_W;
}

static uint64_t opened(struct pn_mmu *mmu, const struct sp *sp, unsigned i, uint64_t v) {
    pn_gfn gfn = sp_gfn(sp, i);
    const struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s->dirty || (mmu->shadow->log_d ? dirty_test(s, gfn) : dirty_known(s, gfn)))
        return v;
    return v & ~(right(mmu) | SPTE_TLB_W);
}

void shadow_open(struct pn_mmu *mmu, struct sp *sp) {
    uint64_t has = SPTE_P | SPTE_LEAF | right(mmu);
    sp->log_gen = mmu->shadow->log_gen;
    uint64_t left = sp_level(sp) == 1 ? sp->granted : 0;
    for (; left; left &= left - 1) {
        unsigned group = (unsigned)__builtin_ctzll(left);
        bool some = false;
        for (unsigned i = group * 8; i < group * 8 + 8; i++) {
            if ((sp->spt[i] & has) != has)
                continue;
            sp->spt[i] = opened(mmu, sp, i, sp->spt[i]);
            some |= sp->spt[i] & right(mmu);
        }
        if (!some)
            sp->granted &= ~(1ull << group);
    }
}

uint64_t shadow_opened(struct pn_mmu *mmu, const struct sp *sp, unsigned i) {
    uint64_t v = sp->spt[i];
    bool stale = sp_closed(mmu, sp) && sp_level(sp) == 1 && spte_leaf(v);
    return stale ? opened(mmu, sp, i, v) : v;
}

static void take_rights(struct pn_mmu *mmu, struct slot *s, pn_gfn first, uint64_t bits) {
    for (; bits; bits &= bits - 1) {
        pn_gfn gfn = first + (unsigned)__builtin_ctzll(bits);
        if (mmu->shadow->log_d)
            rmap_clean(mmu, s, gfn);
        else
            rmap_write_protect(mmu, s, gfn);
    }
}

long shadow_take(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t words) {
    size_t lines = s->npages / (64 * DIRTY_LINE);
    long pages = dirty_take_lines(s, bitmap, 0, lines, NULL);
    pages += dirty_take(s, bitmap, lines * DIRTY_LINE, words);
    if (mmu->tracker->accesses) {
        roots_drop_everything(mmu);
        return pages;
    }
    if (pages >= mmu->many) {
        tlb_drop_all_writes(mmu);
        mmu->shadow->log_gen++;
        mmu->shadow->ops.translate = mmu->shadow->translate_closed;
        mmu->shadow->ops.look = NULL;
        return pages;
    }
    for (size_t w = 0; pages && w < words; w++)
        take_rights(mmu, s, s->gfn + w * 64, bitmap[w]);
    return pages;
}

void shadow_grant(struct pn_mmu *mmu, struct slot *s, pn_gfn first, pn_gfn end) {
    for (pn_gfn gfn = first; gfn < end; gfn++) {
        struct ptrs_pos pos = {0};
        for (uint64_t *p;
             !track_tables(s, gfn) && (p = ptrs_next(s->rmap[gfn - s->gfn], &pos));) {
            if (sp_level(sp_of(p)) > 1)
                continue;
            sp_grants(p);
            spte_put(p, *p | SPTE_MMU_W);
        }
    }
}
