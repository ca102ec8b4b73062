/* SPDX-License-Identifier: MIT */
/*
 * Leaf tables out of sync. A guest that edits a leaf table must execute INVLPG or load
 * CR3 before it may rely on the edit, so the table may be writable meanwhile; the sp is
 * then unsync, and every sp above it has a bit that says which way to it.
 *
 * Invariants
 * 1. Only level-1 indirect sps are unsync, and a frame's sps are unsync while it is
 *    writable.
 * 2. No frame has both an unsync sp and one of level >= 2.
 */
#include "mmu/shadow/shadow.h"

static void unsync_page(struct pn_mmu_vcpu *vcpu, struct slot *s, struct sp *sp) {
    sp->unsync = true;
    track_dec(s, sp->gfn);
    uint64_t *sptep;
    struct ptrs_pos pos = {0};
    while ((sptep = ptrs_next(sp->parents, &pos)))
        unsync_mark(sptep);
    pn_count(vcpu->stats, sp_unsync);
    mmu_gauges(vcpu->mmu)->v[PN_STAT_mmu_unsync]++;
    pn_emit(vcpu->ring, unsync_page, sp->gfn, sp->role);
}

bool unsync_try(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    struct pn_mmu *mmu = vcpu->mmu;
    bool may = true;
    for (struct sp *sp = sp_first(mmu, gfn), *next; sp; sp = next) {
        next = sp_next(sp);
        if (sp_obsolete(mmu->shadow, sp))
            sp_zap(vcpu, sp, ZAP_OBSOLETE);
        else if (sp_level(sp) > 1 || (!sp->unsync && !mmu->cfg.opt.unsync))
            may = false;
    }
    if (!may)
        return false;
    for_each_table(mmu, sp, gfn) if (!sp->unsync) unsync_page(vcpu, s, sp);
    return true;
}

/* ---- What the guest's invalidations mean ---- */

void shadow_root_sync(struct pn_mmu_vcpu *vcpu, struct root *r) {
    if (r->top && r->top->unsync_children)
        sync_children(vcpu, r->top);
}

/* The roots not in use are synced when they are. */
void shadow_inval_gva(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all) {
    struct root *cur = vcpu->roots->cur;
    if (all || cur->key.pcid == pcid) {
        sync_gva(vcpu, cur, gva);
        tlb_drop_gva(cur, gva);
    }
    root_make_stale(vcpu, all, pcid);
    cur->stale = false;
}
