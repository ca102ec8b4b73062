/* SPDX-License-Identifier: MIT */
/*
 * Hits of the first level. This file, filter.c and assoc.c are compiled without vector registers: the
 * dispatcher of translated code, in whose vector registers the guest's are, comes here for each
 * page that control comes to.
 */
#include "mmu/model/model.h"

bool model_find(struct assoc a[PN_TLB_ARRAYS], pn_gva gva, uint16_t ctx, bool write,
                struct model_hit *h) {
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        for (unsigned level = 1; level <= 3 && assoc_any(&a[i]); level++) {
            if (!(a[i].pages & model_page_bit(level)))
                continue;
            h->e = assoc_find(&a[i], model_page_tag(gva, level), ctx);
            if (!h->e || (write && !h->e->store))
                continue;
            h->array = i;
            h->level = level;
            return true;
        }
    return false;
}

bool pn_mmu_fetch_hit(struct pn_mmu_vcpu *vcpu, pn_gva gva) {
    struct model *m = vcpu->model;
    struct model_hit h;
    if (m->flush || vcpu->mmu->cfg.recorder ||
        !model_find(m->tlb[L1I], gva, model_context(vcpu), false, &h))
        return false;
    m->fetches->page = gva & PN_PAGE_MASK;
    assoc_use(&m->tlb[L1I][h.array], h.e);
    model_filter_fetch(m, gva, &h);
    return true;
}
