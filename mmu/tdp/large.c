/* SPDX-License-Identifier: MIT */
/*
 * Large mappings: split into smaller ones, and made again from them.
 *
 * Invariants
 * 1. A large leaf stands only where the slot backs the frame as one range (slot_large()
 *    == 0). In a logged slot it has no W, but by wp-2m (log.c).
 * 2. Splitting and merging take no right away and change no host page, so the TLBs stay:
 *    D of a large leaf is the OR of what it was made from.
 */
#include "mmu/tdp/tdp.h"

bool tdp_split(struct pn_mmu_vcpu *vcpu, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *parent = sp_of(ptep);
    unsigned level = sp_level(parent), i = sp_index(ptep);
    if (level == 1 || !ept_leaf(*ptep, level))
        return true;
    uint64_t v = *ptep, kept = v & ~(EPT_ADDR | EPT_PS | EPT_W);
    struct slot *s = slot_of_gfn(mmu, ept_gfn(parent, i));
    ept_put(ptep, 0);
    parent->used--;
    struct sp *sp = tdp_link(vcpu, ptep);
    if (!sp) {
        ept_put(ptep, v);
        parent->used++;
        return false;
    }
    ept_lost(mmu->tdp);
    ept_put(ptep, *ptep | (v & EPT_A));
    uint64_t bytes = level_pages(level - 1) << PN_PAGE_SHIFT;
    for (unsigned k = 0; k < 512; k++)
        ept_put(&sp->spt[k], kept | (level > 2 ? EPT_PS : 0) |
                                 ((v & EPT_ADDR) + k * bytes) |
                                 tdp_may_write(mmu, s, ept_gfn(sp, k), level - 1));
    sp->used = 512;
    s->leaves += 511;
    mmu_gauge_pages(mmu, level, -1);
    mmu_gauge_pages(mmu, level - 1, 512);
    pn_count(vcpu->stats, large_split);
    pn_emit(vcpu->ring, split_huge_page, ept_gfn(parent, i), ept_public(v), level);
    return true;
}

/* ---- Back ---- */

struct used {
    struct visit v;
    uint64_t bits;
};

static void add_used(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                     enum visit_kind kind) {
    ((struct used *)v)->bits |= *ptep & (EPT_A | EPT_D);
}

/* A and D of the leaves below. */
static uint64_t used_bits(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct used u = {{.vcpu = vcpu, .end = ~0ull, .kinds = VISIT_LEAF, .at = add_used},
                     0};
    tdp_visit(&u.v, sp);
    return u.bits;
}

void tdp_collapse(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *parent = sp_of(ptep);
    pn_gfn gfn = ept_gfn(parent, sp_index(ptep));
    unsigned level = sp_level(parent);
    uint64_t bits = used_bits(vcpu, sp_of(ept_child(*ptep)));
    tdp_drop(vcpu, ptep, false);
    observe(mmu, dropped, mmu);
    tdp_set_leaf(vcpu, s, ptep, bits | tdp_may_write(mmu, s, gfn, level));
    pn_count(vcpu->stats, large_recovered);
    pn_emit(vcpu->ring, recover_huge_page, gfn, level);
}

static void recover_table(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                          enum visit_kind kind) {
    pn_gfn in = gfn < v->first ? v->first : gfn; /* a frame of the slot */
    struct slot *s = slot_of_gfn(v->vcpu->mmu, in);
    if (level <= 3 && tdp_large_ok(v->vcpu->mmu, s, in, level))
        tdp_collapse(v->vcpu, s, ptep);
}

void tdp_recover(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    struct visit v = visit_slot(vcpu, s, VISIT_AFTER);
    v.at = recover_table;
    if (vcpu->mmu->cfg.opt.large_pages)
        tdp_visit(&v, vcpu->mmu->tdp->root);
}
