/* SPDX-License-Identifier: MIT */
/*
 * The TLBs that translated code reads. What an entry stands for, and when it has to go,
 * each kind of MMU knows (shadow/tlb.c, tdp/tlb.c).
 *
 * Invariants
 * 1. An entry without a tag has hva 0.
 * 2. While filled[mode] <= TLB_FILLED, index[mode] names every entry that has a tag.
 * 3. The template is all entries empty.
 * 4. No entry of a page that has users of pn_mmu_track_add has a write tag; it may have
 *    one that is kept back, which stands and goes as a write tag does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/core/root.h"

int tlb_template(struct pn_mmu *mmu) {
    mmu->tlb_empty = malloc(PN_TLB_ENTRIES * sizeof(*mmu->tlb_empty));
    if (!mmu->tlb_empty)
        return -ENOMEM;
    for (unsigned i = 0; i < PN_TLB_ENTRIES; i++)
        tlb_entry_clear(&mmu->tlb_empty[i], i);
    return 0;
}

void tlb_flush(struct pn_mmu_vcpu *vcpu, struct root *r) {
    observe(vcpu->mmu, tlb_flushed, vcpu);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        if (r->filled[mode] > TLB_FILLED)
            memcpy(r->tlb[mode], vcpu->mmu->tlb_empty,
                   PN_TLB_ENTRIES * sizeof(struct pn_tlb_entry));
        else
            for (uint32_t i = 0; i < r->filled[mode]; i++)
                tlb_entry_clear(&r->tlb[mode][r->index[mode][i]], r->index[mode][i]);
        r->filled[mode] = 0;
    }
    r->pkeys_user = r->pkeys_super = 0;
    pn_count(vcpu->stats, root_flush);
    pn_emit(vcpu->ring, tlb_flush, r == vcpu->roots->cur);
}

void flush_ask_of(struct pn_mmu_vcpu *vcpu) {
    if (vcpu->flushed == vcpu->mmu->exits)
        return;
    vcpu->flushed = vcpu->mmu->exits;
    pn_count(vcpu->stats, tlb_flush);
}

void flush_ask(struct pn_mmu *mmu) {
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        flush_ask_of(mmu->vcpus[v]);
}

void tlb_hold(struct root *r, unsigned i, uintptr_t hva) {
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        struct pn_tlb_entry *e = &r->tlb[mode][i];
        if (e->hva == hva && tlb_index(e->tag[PN_WRITE]) == i)
            e->tag[PN_WRITE] = PN_TLB_HELD(e->tag[PN_WRITE]);
    }
}

void tlb_drop_gva(struct root *r, pn_gva gva) {
    unsigned i = tlb_index(gva);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        tlb_entry_clear(&r->tlb[mode][i], i);
}
