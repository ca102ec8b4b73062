/* SPDX-License-Identifier: MIT */
/*
 * Large mappings: split into smaller ones, and made again from them.
 *
 * Invariants
 * 1. A large leaf stands only where the slot backs the frame as one range and nobody
 *    tracks writes in it (slot_large() == 0). In a logged slot it has no W.
 * 2. Splitting and merging take no right away and change no host page, so the TLBs stay:
 *    D of a large leaf is the OR of what it was made from.
 */
#include "mmu/tdp/tdp.h"

static bool split_more(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct slot *s = slot_of_gfn(vcpu->mmu, sp->gfn);
    for (unsigned i = 0; sp_level(sp) > 1 && i < 512; i++)
        if (*slot_large(s, ept_gfn(sp, i), sp_level(sp)) && !tdp_split(vcpu, &sp->spt[i]))
            return false;
    return true;
}

bool tdp_split(struct pn_mmu_vcpu *vcpu, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *parent = sp_of(ptep);
    unsigned level = sp_level(parent), i = sp_index(ptep);
    uint64_t v = *ptep, kept = v & ~(EPT_ADDR | EPT_PS | EPT_W);
    struct slot *s = slot_of_gfn(mmu, ept_gfn(parent, i));
    if (!ept_leaf(v, level) || level == 1)
        return true;
    *ptep = 0;
    parent->used--;
    struct sp *sp = tdp_link(vcpu, ptep);
    if (!sp) {
        *ptep = v;
        parent->used++;
        return false;
    }
    *ptep |= v & EPT_A;
    uint64_t bytes = level_pages(level - 1) << PN_PAGE_SHIFT;
    for (unsigned k = 0; k < 512; k++)
        sp->spt[k] = kept | (level > 2 ? EPT_PS : 0) | ((v & EPT_ADDR) + k * bytes) |
                     tdp_may_write(mmu, s, ept_gfn(sp, k), level - 1);
    sp->used = 512;
    tdp_gauge(mmu, level, -1);
    tdp_gauge(mmu, level - 1, 512);
    pn_count(vcpu->stats, large_split);
    pn_emit(vcpu->ring, split_huge_page, ept_gfn(parent, i), ept_public(v), level);
    return split_more(vcpu, sp);
}

/* Tracking forbids large leaves of this level at gfn. */
void tdp_split_at(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn, unsigned level) {
    struct ewalk w;
    (void)s;
    ept_peek(vcpu->mmu->tdp, gfn << PN_PAGE_SHIFT, &w);
    if (w.level == level && ept_leaf(w.pte, level) && !tdp_split(vcpu, w.ptep))
        tdp_drop(vcpu, w.ptep, true); /* no memory for a table: map it anew later */
}

/* ---- Back ---- */

/* A and D of the leaves below. */
static uint64_t used_bits(const struct sp *sp) {
    unsigned level = sp_level(sp);
    uint64_t bits = 0;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t v = sp->spt[i];
        if (ept_leaf(v, level))
            bits |= v & (EPT_A | EPT_D);
        else if (ept_table(v, level))
            bits |= used_bits(sp_of(ept_child(v)));
    }
    return bits;
}

void tdp_collapse(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *parent = sp_of(ptep);
    pn_gfn gfn = ept_gfn(parent, sp_index(ptep));
    unsigned level = sp_level(parent);
    uint64_t bits = used_bits(sp_of(ept_child(*ptep)));
    tdp_drop(vcpu, ptep, false);
    observe(mmu, dropped, mmu);
    tdp_set_leaf(vcpu, s, ptep, bits | tdp_may_write(mmu, s, gfn, level));
    pn_count(vcpu->stats, large_recovered);
    pn_emit(vcpu->ring, recover_huge_page, gfn, level);
}

static void recover_below(struct pn_mmu_vcpu *vcpu, struct sp *sp, struct slot *s) {
    unsigned level = sp_level(sp);
    pn_gfn pages = level_pages(level), end = s->gfn + s->npages;
    unsigned first = s->gfn > sp->gfn ? (unsigned)((s->gfn - sp->gfn) / pages) : 0;
    for (unsigned i = first; i < 512 && sp->gfn + i * pages < end; i++) {
        if (!ept_table(sp->spt[i], level))
            continue;
        recover_below(vcpu, sp_of(ept_child(sp->spt[i])), s);
        pn_gfn gfn = ept_gfn(sp, i) < s->gfn ? s->gfn : ept_gfn(sp, i);
        if (level <= 3 && tdp_large_ok(vcpu->mmu, s, gfn, level))
            tdp_collapse(vcpu, s, &sp->spt[i]);
    }
}

void tdp_recover(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (mmu->cfg.opt.large_pages)
        recover_below(vcpu, mmu->tdp->root, s);
}
