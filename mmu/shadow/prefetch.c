/* SPDX-License-Identifier: MIT */
/* Sptes made before they are asked for. */
#include "mmu/shadow/shadow.h"

/* ---- Before it is asked for ---- */

void prefetch_spte(struct pn_mmu_vcpu *vcpu, struct sp *sp, unsigned i,
                   const uint8_t *table) {
    uint64_t bits = SPTE_GRANT, v = 0;
    pn_gfn gfn = sp->gfn + i;
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
    spte_set_leaf(vcpu, s, &sp->spt[i], gfn, v, bits);
    pn_count(vcpu->stats, mmu_prefetch);
}
