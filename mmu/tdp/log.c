/* SPDX-License-Identifier: MIT */
/*
 * Who sees a store: write tracking and the two dirty logs.
 *
 * By write protection a leaf of a logged slot has W only while the dirty bit of its page
 * is set. By D bits it has W, and a TLB entry a write tag only while the leaf has D,
 * which the walk of a store sets; a harvest scans the leaves and clears D. Either way a
 * large leaf of a logged slot has no W: it is split, at once (eager_split) or by its
 * first store.
 *
 * Invariants
 * 1. (ARCHITECTURE.md, invariant 3) A page written since the last harvest is in the
 * bitmap or has D.
 * 2. No leaf of a tracked page has W.
 * 3. A right that a leaf loses leaves the TLBs in the same call.
 */
#include "mmu/tdp/tdp.h"

uint64_t tdp_may_write(const struct pn_mmu *mmu, struct slot *s, pn_gfn gfn,
                       unsigned level) {
    if (s->pub.flags & PN_SLOT_READONLY)
        return 0;
    if (level > 1)
        return s->dirty ? 0 : EPT_W;
    if (track_count(s, gfn) || (s->dirty && !tdp_by_dbit(mmu) && !dirty_test(s, gfn)))
        return 0;
    return EPT_W;
}

void tdp_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    struct ewalk w;
    ept_peek(mmu->tdp, gfn << PN_PAGE_SHIFT, &w);
    if (ept_leaf(w.pte, w.level) && w.pte & EPT_W) {
        *w.ptep = w.pte & ~EPT_W;
        tdp_tlb_drop(mmu, s, gfn, true);
    }
}

/* ---- Every leaf of a slot ---- */

typedef void (*leaf_fn)(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep,
                        pn_gfn gfn, unsigned level);

static void each_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, struct sp *sp,
                      leaf_fn fn) {
    unsigned level = sp_level(sp);
    pn_gfn pages = level_pages(level), end = s->gfn + s->npages;
    unsigned first = s->gfn > sp->gfn ? (unsigned)((s->gfn - sp->gfn) / pages) : 0;
    for (unsigned i = first; i < 512 && sp->gfn + i * pages < end; i++) {
        if (ept_leaf(sp->spt[i], level))
            fn(vcpu, s, &sp->spt[i], ept_gfn(sp, i), level);
        /* fn may have split it */
        if (ept_table(sp->spt[i], level))
            each_leaf(vcpu, s, sp_of(ept_child(sp->spt[i])), fn);
    }
}

/* ---- Logging begins and ends ---- */

static void begin_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep,
                       pn_gfn gfn, unsigned level) {
    struct pn_mmu *mmu = vcpu->mmu;
    *ptep &= ~(tdp_by_dbit(mmu) ? EPT_D : 0);
    *ptep &= ~EPT_W | tdp_may_write(mmu, s, gfn, level);
    if (mmu->cfg.opt.eager_split)
        tdp_split(vcpu, ptep); /* out of memory: its first store tries again */
}

void tdp_slot_changed(struct pn_mmu_vcpu *vcpu, struct slot *s, bool placed) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (placed) { /* guest tables may stand there, which read as ones before */
        roots_drop_everything(mmu);
    } else if (s->dirty) {
        each_leaf(vcpu, s, mmu->tdp->root, begin_leaf);
        tdp_tlb_drop_writes(mmu, s);
    } else {
        tdp_recover(vcpu, s);
    }
    roots_slots_changed(mmu);
    track_slot_added(vcpu, s);
}

/* ---- Harvest ---- */

static void collect_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep,
                         pn_gfn gfn, unsigned level) {
    pn_count(vcpu->stats, dbit_scanned);
    if (level > 1 || !(*ptep & EPT_D))
        return;
    *ptep &= ~EPT_D;
    dirty_mark(s, gfn);
    tdp_tlb_drop(vcpu->mmu, s, gfn, true);
}

void tdp_dirty_collect(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (tdp_by_dbit(mmu))
        each_leaf(vcpu, s, mmu->tdp->root, collect_leaf);
}

void tdp_dirty_rearm(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    if (!tdp_by_dbit(mmu))
        tdp_write_protect(mmu, s, gfn);
}

/* ---- Writes that the MMU is told of ---- */

void tdp_written(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size, bool ad) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    (void)ad;
    if (s && track_count(s, gpa >> PN_PAGE_SHIFT) && mmu->cfg.on_track)
        mmu->cfg.on_track(mmu->cfg.opaque, gpa, size);
}
