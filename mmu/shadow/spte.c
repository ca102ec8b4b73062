/* SPDX-License-Identifier: MIT */
/*
 * Single sptes: installed, changed, dropped, and brought to agree with their gpte.
 *
 * Invariants
 * 1. (ARCHITECTURE.md, invariant 1) A TLB entry or present spte grants nothing that the
 *    guest's tables (synced) and the memslot would not grant: rights that an spte loses
 *    leave every TLB in the same call.
 * 2. sp->used counts the sptes that are not 0; every leaf is in the rmap of its page,
 *    every table spte among the parents of its child.
 */
#include "mmu/shadow/shadow.h"

static void gauge(struct pn_mmu *mmu, unsigned level, int by) {
    mmu_gauge_pages(mmu, level, by);
    mmu->shadow->leaves += (uint64_t)(int64_t)by;
}

static void set_gpte(struct sp *sp, unsigned i, pn_gfn gfn, uint64_t v) {
    if (sp->gptes)
        spte_put(&sp->gptes[i], v);
    if (sp->frames)
        sp->frames[i] = gfn << PN_PAGE_SHIFT;
}

/* An spte that was `old` is made anew as `now`, by a sync or for an access. Return: now
 * with its A and D. */
static uint64_t remade(struct pn_mmu *mmu, uint64_t old, uint64_t now, bool access) {
    bool ad = mmu->shadow->policy.ad_flushes;
    bool was = spte_writable(old), is = spte_writable(now);
    now &= ~SPTE_HW;
    now |= access ? SPTE_HW_A : 0;
    now |= is && !(was && ad) ? SPTE_HW_D : 0;
    if ((was && !is) || (ad && old & ~now & SPTE_HW))
        flush_ask(mmu);
    return now;
}

/* An spte is made for gfn. KVM's make_spte and mmu_try_to_unsync_pages; our count of a
 * frame's tables needs no search. */
static void count_search(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn,
                         uint64_t old, uint64_t bits) {
    const uint64_t store = SPTE_W | SPTE_D | SPTE_HOST_W;
    if ((bits & store) != store || spte_writable(old))
        return;
    pn_count(vcpu->stats, mmu_unsync_search);
    if (!*slot_large(s, gfn, 2))
        pn_count(vcpu->stats, mmu_unsync_spared);
}

/* Install a leaf where there is nothing. */
static inline void set_new(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *sptep,
                           pn_gfn gfn, uint64_t v, uint64_t bits) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = sp_of(sptep);
    if (rmap_full(s, gfn))
        spte_zap_page(mmu, s, gfn);
    set_gpte(sp, sp_index(sptep), gfn, v);
    uint64_t now = SPTE_P | SPTE_LEAF | (uintptr_t)slot_hva(s, gfn) | bits;
    now |= spte_writable(now) ? SPTE_HW_D : 0;
    if (sp_level(sp) > 1 || track_used(s, gfn) || mmu->tracker->pieces)
        now |= SPTE_CODE;
    spte_put(sptep, now);
    sp->used++;
    if (now & SPTE_MMU_W)
        sp_grants(sptep);
    gauge(mmu, sp_level(sp), 1);
    s->leaves++;
    ptrs_add(&mmu->slab, &s->rmap[gfn - s->gfn], sptep);
    pn_emit(vcpu->ring, set_spte, gfn, sp_level(sp), spte_public(now));
}

void spte_set_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *sptep, pn_gfn gfn,
                   uint64_t v, uint64_t bits) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = sp_of(sptep);
    unsigned i = sp_index(sptep);
    uint64_t old = *sptep;
    count_search(vcpu, s, gfn, old, bits);
    if (sp->frames)
        pn_count(vcpu->stats, merged_leaves);
    if (!spte_leaf(old) || sp_gfn(sp, i) != gfn) {
        if (spte_present(old))
            flush_ask(mmu);
        if (old)
            spte_drop(mmu, sptep);
        set_new(vcpu, s, sptep, gfn, v, bits);
        return;
    }
    spte_regrant(mmu, sptep, bits & (SPTE_GRANT | SPTE_PKEY));
    if (bits & SPTE_MMU_W)
        sp_grants(sptep);
    spte_put(sptep, remade(mmu, old, *sptep | (bits & SPTE_MMU_W), true));
    set_gpte(sp, i, gfn, v);
    pn_emit(vcpu->ring, set_spte, gfn, sp_level(sp), spte_public(*sptep));
}

void spte_set_mmio(struct pn_mmu_vcpu *vcpu, uint64_t *sptep, pn_gfn gfn, uint64_t v,
                   uint64_t grant) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = sp_of(sptep);
    unsigned i = sp_index(sptep);
    if (*sptep)
        spte_drop(mmu, sptep);
    uint64_t gen = mmu->slots.generation & SPTE_GEN;
    set_gpte(sp, i, gfn, v);
    spte_put(sptep, SPTE_MMIO | gen << PN_PAGE_SHIFT | grant);
    sp->used++;
    pn_emit(vcpu->ring, mark_mmio_spte, gfn, spte_acc(grant), gen);
}

void spte_link(struct pn_mmu *mmu, uint64_t *sptep, struct sp *child, uint64_t grant) {
    struct sp *sp = sp_of(sptep);
    if (ptrs_total(child->parents) >= PTRS_MAX)
        while (child->parents)
            spte_drop(mmu, ptrs_first(child->parents));
    spte_put(sptep, SPTE_P | (uintptr_t)child->spt | grant);
    sp->used++;
    ptrs_add(&mmu->slab, &child->parents, sptep);
    if (child->unsync || child->unsync_children)
        unsync_mark(sptep);
}

static void drop_leaf(struct pn_mmu *mmu, struct sp *sp, unsigned i, uint64_t v) {
    pn_gfn gfn = sp_gfn(sp, i);
    if (v & SPTE_USED)
        tlb_drop_leaf(mmu, sp, i, v, false);
    rmap_remove(mmu, gfn, &sp->spt[i]);
    gauge(mmu, sp_level(sp), -1);
}

static inline void drop(struct pn_mmu *mmu, struct sp *sp, unsigned i, uint64_t v) {
    if (spte_leaf(v)) {
        drop_leaf(mmu, sp, i, v);
    } else if (spte_table(v)) {
        struct sp *child = sp_of(spte_child(v));
        tlb_drop_table(mmu, &sp->spt[i]);
        ptrs_remove(&mmu->slab, &child->parents, &sp->spt[i]);
        unsync_clear_bit(sp, i);
    }
    spte_put(&sp->spt[i], 0);
    sp->used--;
}

void spte_drop(struct pn_mmu *mmu, uint64_t *sptep) {
    drop(mmu, sp_of(sptep), sp_index(sptep), *sptep);
}

void spte_regrant_to(struct pn_mmu *mmu, uint64_t *sptep, uint64_t grant) {
    uint64_t v = *sptep, mask = SPTE_GRANT | SPTE_PKEY;
    /* U counts both ways: SMEP and SMAP deny what the page granted without it. */
    uint64_t lost = (v & ~grant & SPTE_GRANT) | ((v ^ grant) & (SPTE_U | SPTE_PKEY));
    if (spte_table(v)) {
        if (lost)
            tlb_drop_table(mmu, sptep);
    } else if (lost & ~(SPTE_W | SPTE_D)) {
        if (v & SPTE_USED)
            tlb_drop_leaf(mmu, sp_of(sptep), sp_index(sptep), v, false);
        v &= ~SPTE_USED;
    } else if (lost) {
        if (v & SPTE_TLB_W)
            tlb_drop_leaf(mmu, sp_of(sptep), sp_index(sptep), v, true);
        v &= ~SPTE_TLB_W;
    }
    spte_put(sptep, (v & ~mask) | grant);
}

/* What a gpte leads to. */
static pn_gfn gpte_target(const struct sp *sp, unsigned i, const struct gpte *g,
                          uint64_t v) {
    return g->leaf ? gpte_leaf_gfn(sp->format, sp_level(sp), i, v) : g->table;
}

bool spte_framed_keeps(const struct sp *sp, unsigned i, uint64_t gpte, uint64_t *grant) {
    struct gpte was = gpte_decode(sp->format, sp_level(sp), sp->gptes[i]);
    struct gpte g = gpte_decode(sp->format, sp_level(sp), gpte);
    *grant = spte_table(sp->spt[i]) ? g.grant : frame_grant(sp->frames[i], g.grant);
    return was.usable && g.usable && was.leaf == g.leaf &&
           gpte_target(sp, i, &was, sp->gptes[i]) == gpte_target(sp, i, &g, gpte);
}

/* Does the spte lead where the gpte does? Where a second level is below, that may have changed,
 * too, but until it is flushed what came through it stands. */
static bool keeps(const struct sp *sp, unsigned i, uint64_t v, uint64_t gpte,
                  uint64_t *grant) {
    if (sp->frames)
        return spte_framed_keeps(sp, i, gpte, grant);
    unsigned level = sp_level(sp);
    struct gpte g = gpte_decode(sp->format, level, gpte);
    pn_gfn gfn = g.leaf ? gpte_leaf_gfn(sp->format, level, i, gpte) : g.table;
    *grant = g.grant;
    if (!g.usable || !spte_table(v))
        return g.usable && g.leaf && sp_gfn(sp, i) == gfn;
    const struct sp *child = sp_of(spte_child(v));
    return g.leaf == sp_direct(child) && child->gfn == gfn;
}

/* Most gptes of a table that the guest has given away: it need not be read any further. */
static inline bool leads_elsewhere(const struct sp *sp, unsigned i, uint64_t gpte) {
    bool moved = (gpte ^ sp->gptes[i]) & sp->format->address;
    return gpte_unused(sp, gpte) || (moved && sp_level(sp) == 1);
}

static inline void sync_one(struct pn_mmu *mmu, struct sp *sp, unsigned i,
                            uint64_t gpte) {
    uint64_t v = sp->spt[i], grant;
    if (v && !leads_elsewhere(sp, i, gpte) && keeps(sp, i, v, gpte, &grant)) {
        spte_regrant(mmu, &sp->spt[i], grant);
    } else if (v) {
        if (spte_present(v))
            flush_ask(mmu);
        drop(mmu, sp, i, v);
    }
    spte_put(&sp->gptes[i], gpte);
}

void spte_sync(struct pn_mmu *mmu, struct sp *sp, unsigned i, const uint8_t *table) {
    sync_one(mmu, sp, i, sp_gpte(sp, i, table));
}

/* What KVM keeps of a gpte in an spte of its: W counts for nothing without D. */
static uint64_t rights_of(uint64_t v) {
    return v & (v & SPTE_D ? SPTE_ACC : SPTE_ACC & ~SPTE_W);
}

void spte_resync(struct pn_mmu *mmu, struct sp *sp, unsigned i, const uint8_t *table) {
    uint64_t old = sp->spt[i];
    sync_one(mmu, sp, i, sp_gpte(sp, i, table));
    uint64_t now = sp->spt[i];
    if (!spte_leaf(old) || !spte_leaf(now))
        return;
    if (mmu->shadow->policy.remakes || rights_of(old) != rights_of(now))
        spte_put(&sp->spt[i], remade(mmu, old, now, false));
}

void prefetch_spte(struct pn_mmu_vcpu *vcpu, struct sp *sp, unsigned i,
                   const uint8_t *table) {
    uint64_t bits = SPTE_GRANT, v = 0;
    pn_gfn gfn = sp->gfn + i;
    if (sp->frames)
        return; /* a second level would have to be walked */
    if (table) {
        v = sp_gpte(sp, i, table);
        struct gpte g = gpte_decode(sp->format, 1, v);
        if (!g.usable)
            return;
        gfn = gpte_leaf_gfn(sp->format, 1, i, v);
        bits = g.grant;
    }
    struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    if (!s)
        return;
    if (!(s->pub.flags & PN_SLOT_READONLY))
        bits |= SPTE_HOST_W;
    if (may_store_unseen(vcpu->mmu, s, gfn, 1))
        bits |= SPTE_MMU_W;
    count_search(vcpu, s, gfn, 0, bits);
    set_new(vcpu, s, &sp->spt[i], gfn, v, bits);
    pn_count(vcpu->stats, mmu_prefetch);
}

void spte_zap_page(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    uint64_t *head = &s->rmap[gfn - s->gfn];
    while (*head)
        spte_drop(mmu, ptrs_first(*head));
}
