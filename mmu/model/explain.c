/* SPDX-License-Identifier: MIT */
/* In which of its caches the TLB model has an address, read for penumbra/explain.h. */
#include "mmu/core/explain.h"
#include "mmu/model/model.h"

/* Return: the level of the page that has gva in one of the arrays; 0: none. */
static uint8_t level_in(const struct assoc a[PN_TLB_ARRAYS], pn_gva gva, uint16_t ctx) {
    static const uint8_t size[] = {0, PN_PAGES_4K, PN_PAGES_2M, PN_PAGES_1G};
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        for (uint8_t level = 1; level <= 3; level++)
            if (a[i].ways && a[i].pages & size[level] &&
                assoc_find(&a[i], model_page_tag(gva, level), ctx))
                return level;
    return 0;
}

void model_where(const struct pn_mmu_vcpu *vcpu, const struct walk *w,
                 struct pn_explanation *x) {
    const struct model *m = vcpu->model;
    bool two_dim = vcpu->mmu->cfg.kind == PN_MMU_TDP;
    unsigned bits = two_dim && vcpu->walk.levels == 2 ? 10 : 9;
    uint16_t ctx = model_context(vcpu);
    pn_gva gva = x->gva;
    struct pn_model_where *o = &x->model;
    o->on = true;
    o->l1i = level_in(m->tlb[L1I], gva, ctx);
    o->l1d = level_in(m->tlb[L1D], gva, ctx);
    o->l2 = level_in(m->tlb[L2], gva, ctx);
    o->l2i = level_in(m->tlb[L2I], gva, ctx);
    for (unsigned level = 2; level <= 5; level++) {
        if (assoc_find(&m->walk[level], model_table_tag(gva, bits, level), ctx))
            o->walk |= (uint8_t)(1u << level);
        if (two_dim && x->found &&
            assoc_find(&m->second[level], model_page_tag(x->gpa, level), 0))
            o->second |= (uint8_t)(1u << level);
    }
    for (unsigned level = walk_first(w); two_dim && level >= w->level && level; level--)
        if (assoc_find(&m->nested, model_page_tag(w->pte_gpa[level], 1), 0))
            o->nested |= (uint8_t)(1u << level);
}
