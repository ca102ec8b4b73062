/* SPDX-License-Identifier: MIT */
/* Bringing unsync sps up to date with their tables in guest memory. */
#include "mmu/shadow/shadow.h"

/* Compare eight gptes with those of the last sync. */
static inline bool same8(const uint64_t *a, const uint64_t *b) {
    uint64_t differ = 0;
    for (unsigned i = 0; i < 8; i++)
        differ |= a[i] ^ b[i];
    return !differ;
}

/* Those whose gptes are as they were are made anew all the same. */
static void remake_all(struct pn_mmu *mmu, struct sp *sp, const uint8_t *table) {
    for (unsigned i = 0, left = sp->used; left; i++) {
        if (!sp->spt[i])
            continue;
        left--;
        spte_resync(mmu, sp, i, table);
    }
}

/* Most gptes are as they were: tell them apart from the others by the copy. */
static void sync_all(struct pn_mmu *mmu, struct sp *sp, const uint8_t *table) {
    bool plain = !(sp->role & ROLE_4BYTE) && !sp->read_only;
    const uint64_t *now = (const uint64_t *)(const void *)table;
    for (unsigned i = 0; i < 512; i += 8) {
        if (plain && same8(now + i, sp->gptes + i))
            continue;
        for (unsigned k = i; k < i + 8; k++)
            if (!plain || now[k] != sp->gptes[k])
                spte_resync(mmu, sp, k, table);
    }
}

void sync_sptes(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct slot *s = slot_of_gfn(vcpu->mmu, sp->gfn);
    if (sp->used && vcpu->mmu->shadow->policy->remakes)
        remake_all(vcpu->mmu, sp, slot_hva(s, sp->gfn));
    if (sp->used)
        sync_all(vcpu->mmu, sp, slot_hva(s, sp->gfn));
    pn_count(vcpu->stats, mmu_sync);
    pn_emit(vcpu->ring, sync_page, sp->gfn, sp->role);
}

/* The spte goes, and what the gpte says now is mapped: the guest is about to use it. */
static void map_anew(struct pn_mmu_vcpu *vcpu, struct sp *sp, unsigned i,
                     const uint8_t *table) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (spte_present(sp->spt[i]))
        flush_ask(mmu);
    if (sp->spt[i])
        spte_drop(mmu, &sp->spt[i]);
    spte_sync(mmu, sp, i, table);
    if (mmu->cfg.opt.prefetch && slab_reserve_lists(mmu, 1) == 0)
        prefetch_spte(vcpu, sp, i, table);
}

void sync_gva(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gva gva) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (!r->top || (r->narrow && gva >> 32))
        return;
    struct swalk w;
    shadow_walk(r, gva, &w);
    struct sp *sp = sp_of(w.sptep);
    if (!sp->unsync)
        return;
    const uint8_t *table = slot_hva(slot_of_gfn(mmu, sp->gfn), sp->gfn);
    if (mmu->shadow->policy->remakes)
        map_anew(vcpu, sp, sp_index(w.sptep), table);
    else
        spte_resync(mmu, sp, sp_index(w.sptep), table);
}

void sync_page(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct pn_mmu *mmu = vcpu->mmu;
    sp->unsync = false;
    mmu_gauges(mmu)->v[PN_STAT_mmu_unsync]--;
    track_inc(mmu, slot_of_gfn(mmu, sp->gfn), sp->gfn);
    sync_sptes(vcpu, sp);
}

void sync_children(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    for (unsigned w = 0; w < 8 && sp->unsync_children; w++)
        while (sp->unsync_bits[w]) {
            unsigned i = w * 64 + (unsigned)__builtin_ctzll(sp->unsync_bits[w]);
            struct sp *child = sp_of(spte_child(sp->spt[i]));
            unsync_clear_bit(sp, i);
            if (child->unsync)
                sync_page(vcpu, child);
            else if (child->unsync_children)
                sync_children(vcpu, child);
        }
}
