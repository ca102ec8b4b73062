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

/* Most gptes are as they were: tell them apart from the others by the copy. */
static void sync_all(struct pn_mmu *mmu, struct sp *sp, const uint8_t *table) {
    bool plain = !(sp->role & ROLE_4BYTE) && !sp->read_only;
    const uint64_t *now = (const uint64_t *)(const void *)table;
    for (unsigned i = 0; i < 512; i += 8) {
        if (plain && same8(now + i, sp->gptes + i))
            continue;
        for (unsigned k = i; k < i + 8; k++)
            if (!plain || now[k] != sp->gptes[k])
                spte_sync(mmu, sp, k, table);
    }
}

void sync_sptes(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct slot *s = slot_of_gfn(vcpu->mmu, sp->gfn);
    if (sp->used)
        sync_all(vcpu->mmu, sp, slot_hva(s, sp->gfn));
    pn_count(vcpu->stats, mmu_sync);
    pn_emit(vcpu->ring, sync_page, sp->gfn, sp->role);
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
