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

/* All that there are, those whose gptes are as they were, too. */
static void sync_each(struct pn_mmu *mmu, struct sp *sp, const uint8_t *table) {
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
    if (sp->used && (sp_level(sp) > 1 || vcpu->mmu->shadow->policy.remakes))
        sync_each(vcpu->mmu, sp, slot_hva(s, sp->gfn));
    if (sp->used && sp_level(sp) == 1)
        sync_all(vcpu->mmu, sp, slot_hva(s, sp->gfn));
    if (vcpu->mmu->shadow->policy.nests)
        return; /* no work of a hypervisor's */
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

/* Return: the page below sp on the way to gva, or NULL: the way ends here. */
static struct sp *way_down(const struct sp *sp, pn_gva gva) {
    uint64_t v = sp->spt[level_index(gva, sp_level(sp))];
    return spte_table(v) ? sp_of(spte_child(v)) : NULL;
}

bool sync_needed(const struct root *r, pn_gva gva) {
    if (!r->top || (r->narrow && gva >> 32))
        return false;
    for (const struct sp *sp = r->top; sp; sp = way_down(sp, gva))
        if (sp->unsync)
            return true;
    return false;
}

/* The entries above the leaf, where their tables may be out of sync. */
static void sync_above(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gva gva) {
    for (struct sp *sp = r->top; sp && sp_level(sp) > 1; sp = way_down(sp, gva)) {
        struct slot *s = sp->unsync ? slot_of_gfn(vcpu->mmu, sp->gfn) : NULL;
        if (s)
            spte_resync(vcpu->mmu, sp, level_index(gva, sp_level(sp)),
                        slot_hva(s, sp->gfn));
    }
}

void sync_gva(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gva gva) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (!r->top || (r->narrow && gva >> 32))
        return;
    if (mmu->shadow->unsync_level > 1)
        sync_above(vcpu, r, gva);
    struct swalk w;
    shadow_walk(r, gva, &w);
    struct sp *sp = sp_of(w.sptep);
    if (!sp->unsync || sp_level(sp) > 1)
        return;
    const uint8_t *table = slot_hva(slot_of_gfn(mmu, sp->gfn), sp->gfn);
    if (mmu->shadow->policy.remakes)
        map_anew(vcpu, sp, sp_index(w.sptep), table);
    else
        spte_resync(mmu, sp, sp_index(w.sptep), table);
}

void sync_page(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (!mmu->shadow->stays) {
        sp->unsync = false;
        mmu_gauges(mmu)->v[PN_STAT_mmu_unsync]--;
        track_inc(mmu, slot_of_gfn(mmu, sp->gfn), sp->gfn);
    }
    sync_sptes(vcpu, sp);
}

/* Return: the first bit from i on that is set; 512: none. */
static unsigned next_unsync(const struct sp *sp, unsigned i) {
    for (; i < 512 && sp->unsync_children; i = (i | 63) + 1) {
        uint64_t left = sp->unsync_bits[i / 64] >> (i % 64);
        if (left)
            return i + (unsigned)__builtin_ctzll(left);
    }
    return 512;
}

/* To sync a page changes bits of that page alone, none of those above it. */
void sync_children(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    for (unsigned i = 0; (i = next_unsync(sp, i)) < 512; i++) {
        struct sp *child = sp_of(spte_child(sp->spt[i]));
        if (child->unsync)
            sync_page(vcpu, child);
        if (child->unsync_children)
            sync_children(vcpu, child);
        if (!child->unsync && !child->unsync_children)
            unsync_clear_bit(sp, i);
    }
}

void sync_uppers(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    if (sp->unsync)
        sync_sptes(vcpu, sp);
    for (unsigned i = 0; (i = next_unsync(sp, i)) < 512; i++) {
        struct sp *child = sp_of(spte_child(sp->spt[i]));
        if (sp_level(child) > 1)
            sync_uppers(vcpu, child);
    }
}
