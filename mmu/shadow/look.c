/* SPDX-License-Identifier: MIT */
/*
 * TLB misses beside whoever changes the tables: pn_mmu_look, pn_mmu_look_fault. It is what KVM does without its
 * mmu_lock in walk_shadow_page_lockless_begin and fast_page_fault. There the processor fills its
 * TLB by itself, and a flush empties it; here it is filled while nobody takes anything away (mmu_bar),
 * and so drops find what was filled.
 *
 * Invariants
 * 1. Nothing is written but the root's own TLB and the vCPU's counters. An entry is filled only
 *    where the spte and its sp say already that this root's TLB has it (tlb.c, invariant 1), and where
 *    the spte has the A or D that the access would set.
 * 2. Sptes are read once each, top down; who stores one stored before it what it leads to
 *    (spte_put).
 */
#include "mmu/shadow/shadow.h"

/* What the leaf has to have before such an access may use it. */
static uint64_t leaf_needs(enum pn_access access, enum pn_tlb_mode mode) {
    static const uint64_t of[] = {
        [PN_READ] = 0,
        [PN_WRITE] = SPTE_D | SPTE_STORE | SPTE_TLB_W | SPTE_HW_D,
        [PN_FETCH] = SPTE_TLB_X,
    };
    return SPTE_P | SPTE_LEAF | SPTE_HW_A | SPTE_TLB_1 << mode | of[access];
}

static void count(struct pn_stats *st, unsigned top, unsigned last) {
    pn_count(st, tlb_miss);
    st->v[PN_STAT_walk_refs] += top - last + 1;
    for (unsigned level = last; level <= top; level++)
        pn_count_level(st, walk_refs, level);
}

bool shadow_look(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct pn_xlate *out) {
    const uint64_t takes = SPTE_STORE | SPTE_TLB_W | SPTE_HW_D;
    struct root *r = vcpu->roots->cur;
    struct swalk w;
    if (!r->top || (r->narrow && gva >> 32) || r->tlb[mode] != r->room[mode])
        return false;
    shadow_walk(r, gva, &w);
    uint64_t needs = leaf_needs(access, mode), has = w.spte & (w.grant | ~SPTE_D);
    struct sp *sp = sp_of(w.sptep);
    if ((has & needs) != needs || sp->frames ||
        !(__atomic_load_n(&sp->roots, __ATOMIC_RELAXED) & r->bit))
        return false;
    struct tlb_grant g = {
        .acc = spte_acc(w.grant),
        .pkey = spte_pkey(w.grant),
        .denied = rights_denied(&vcpu->walk.rights, spte_acc(w.grant), spte_pkey(w.grant),
                                mode),
        .store = w.grant & SPTE_D && (w.spte & takes) == takes,
        .code = w.spte & SPTE_TLB_X,
    };
    swalk_place(&w, gva, out);
    g.hva = (uintptr_t)out->hva & PN_PAGE_MASK;
    if (g.store && w.spte & SPTE_CODE) {
        pn_gfn gfn = out->gpa >> PN_PAGE_SHIFT;
        const struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
        if (!s)
            return false;
        g.held = track_held(s, gfn);
    }
    if (g.denied >> access & 1 || (access == PN_WRITE && g.held != TLB_HELD_NOT))
        return false;
    count(vcpu->stats, sp_level(r->top), w.level);
    tlb_put(vcpu, r, gva, mode, &g);
    return true;
}

/* Where there is no spte, nor an entry of the guest's, nothing of ours would change: shadow_translate
 * would tell the guest, too. That exit asks for no flush, so it is none of mmu->exits. */
bool shadow_look_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                       enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct root *r = vcpu->roots->cur;
    struct swalk sw;
    struct walk w;
    if (!r->top || (r->narrow && gva >> 32) || vcpu->mmu->shadow->policy.syncs_at_fault)
        return false;
    shadow_walk(r, gva, &sw);
    if (sw.spte ||
        stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE | WALK_LOOK, &w) ==
            0 ||
        w.end != WALK_ABSENT)
        return false;
    count(vcpu->stats, sp_level(r->top), sw.level);
    walk_count(vcpu, &vcpu->walk, &w);
    fault_done(vcpu, PN_OUT_guest_pf, gva, w.level, 0);
    out->fault = w.fault;
    out->hva = NULL;
    return true;
}
