/* SPDX-License-Identifier: MIT */
/*
 * Tables out of sync. A guest that edits a table must execute INVLPG or load CR3 before it
 * may rely on the edit, so the table may be writable meanwhile; the sp is then unsync, and
 * every sp above it has a bit that says which way to it. Which tables may go is the
 * policy's: as in KVM leaf tables alone, or others.
 *
 * Invariants
 * 1. Only indirect sps up to the policy's level are unsync, and a frame's sps are unsync
 *    while it is writable.
 * 2. Where that level is 1, no frame has both an unsync sp and one of level >= 2.
 */
#include <string.h>

#include "mmu/shadow/shadow.h"

void unsync_page(struct pn_mmu_vcpu *vcpu, struct slot *s, struct sp *sp) {
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

static bool is_unsync(struct pn_mmu *mmu, pn_gfn gfn) {
    for_each_table(mmu, sp, gfn) if (sp->unsync) return true;
    return false;
}

static unsigned most_unsync(const struct pn_mmu *mmu) {
    unsigned most = mmu->shadow->policy.unsync_max * mmu->vcpu_count;
    return most < UNSYNC_LIST ? most : UNSYNC_LIST - 1;
}

static void sync_frame(struct pn_mmu_vcpu *vcpu, pn_gfn gfn) {
    for_each_table(vcpu->mmu, sp, gfn) if (sp->unsync) sync_page(vcpu, sp);
}

/* Forget what was synced meanwhile; sync those that went first. */
void unsync_limit(struct pn_mmu_vcpu *vcpu) {
    struct shadow *sh = vcpu->mmu->shadow;
    unsigned most = most_unsync(vcpu->mmu), n = 0;
    if (sh->unsynced_count <= most)
        return;
    for (unsigned i = 0; i < sh->unsynced_count; i++)
        if (is_unsync(vcpu->mmu, sh->unsynced[i]))
            sh->unsynced[n++] = sh->unsynced[i];
    for (unsigned i = 0; i + most < n; i++)
        sync_frame(vcpu, sh->unsynced[i]);
    sh->unsynced_count = n < most ? n : most;
    memmove(sh->unsynced, sh->unsynced + n - sh->unsynced_count,
            sh->unsynced_count * sizeof(*sh->unsynced));
}

/* It is the last that went. */
static void note_unsync(struct shadow *sh, pn_gfn gfn) {
    unsigned n = 0;
    for (unsigned i = 0; i < sh->unsynced_count; i++)
        if (sh->unsynced[i] != gfn)
            sh->unsynced[n++] = sh->unsynced[i];
    sh->unsynced[n++] = gfn;
    sh->unsynced_count = n;
}

bool unsync_try(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct shadow *sh = mmu->shadow;
    unsigned pages = 0;
    bool may = true;
    for (struct sp *sp = sp_first(mmu, gfn), *next; sp; sp = next) {
        next = sp_next(sp);
        if (sp_obsolete(sh, sp)) {
            sp_zap(vcpu, sp, ZAP_OBSOLETE);
            continue;
        }
        may &= sp_level(sp) <= sh->unsync_level && !sh->policy.nests;
        pages++;
    }
    if (!may || (sh->policy.unsync_max && pages > 1))
        return false;
    if (sh->policy.unsync_max && pages)
        note_unsync(sh, gfn);
    for_each_table(mmu, sp, gfn) if (!sp->unsync) unsync_page(vcpu, s, sp);
    return true;
}

/* A link that is missing above the leaves may join a tree, which is synced then. */
bool shadow_syncs_others(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                         enum pn_access access) {
    const struct shadow *sh = vcpu->mmu->shadow;
    const struct root *r = vcpu->roots->cur;
    struct swalk w;
    if (agile_ends(vcpu->mmu) || (r->narrow && gva >> 32))
        return true;
    if (sh->policy.unsync_max)
        return pn_stores(access) && sh->unsynced_count >= most_unsync(vcpu->mmu);
    if (sh->policy.syncs_at_fault && sync_needed(r, gva))
        return true;
    shadow_walk(r, gva, &w);
    return w.level > 1 && !spte_leaf(w.spte);
}

/* ---- What the guest's invalidations mean ---- */

void shadow_root_sync(struct pn_mmu_vcpu *vcpu, struct root *r) {
    if (r->top && r->top->unsync)
        sync_page(vcpu, r->top);
    if (r->top && r->top->unsync_children)
        sync_children(vcpu, r->top);
}

static void sync_before_flush(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva) {
    if (vcpu->mmu->shadow->policy.syncs_at_fault && sync_needed(r, gva))
        shadow_root_sync(vcpu, r);
    else if (r->top)
        sync_uppers(vcpu, r->top);
}

/* The roots not in use are synced when they are. */
void shadow_inval_gva(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all) {
    struct root *cur = vcpu->roots->cur;
    if (all || cur->key.pcid == pcid) {
        if (vcpu->mmu->shadow->unsync_level > 1)
            sync_before_flush(vcpu, cur, gva);
        sync_gva(vcpu, cur, gva);
        tlb_drop_gva(cur, gva);
    }
    root_make_stale(vcpu, all, pcid);
    cur->stale = false;
}
