/* SPDX-License-Identifier: MIT */
/* Explain (penumbra/explain.h): on the roof, since the kind of MMU and the model have their
 * say. */
#include "mmu/core/explain.h"

/* Over a second level in guest memory: by the walk alone, not by what our tables hold. */
static void predict_world(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                          const struct walk *w, int rc, struct pn_verdict *v) {
    v->exact = false;
    v->outcome = walk_outcome(w);
    if (rc < 0)
        return;
    struct slot *s = slot_of_gfn(vcpu->mmu, w->gfn);
    bool mmio = !s || (pn_stores(access) && s->pub.flags & PN_SLOT_READONLY);
    v->outcome = mmio ? PN_OUT_mmio : PN_OUT_mapped;
    v->gpa = w->gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
}

int pn_mmu_predict(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode, struct pn_verdict *v) {
    struct pn_mmu *mmu = vcpu->mmu;
    const struct stage *s = &vcpu->walk;
    struct pn_xlate x;
    struct walk w;
    w.fault = (struct pn_fault){0};
    int rc = stage_walk(vcpu, s, gva, access, mode, WALK_PROBE, &w);
    *v = (struct pn_verdict){.exact = true};
    v->rule = explain_rule(s, &w, rc, access, mode, &v->rule_level);
    v->fault = w.fault;
    if (vcpu->world.second) {
        predict_world(vcpu, gva, access, &w, rc, v);
    } else if (mmu->observer &&
               mmu->observer->answers(vcpu, gva, access, mode, &v->gpa)) {
        v->outcome = PN_OUT_NO_FAULT;
    } else if (!mmu->observer && access == PN_WRITE &&
               tlb_held_back(vcpu, gva, mode, &x)) {
        v->outcome = PN_OUT_NO_FAULT;
        v->gpa = x.gpa;
    } else {
        rc = mmu->ops->predict(vcpu, gva, access, mode, v);
        if (rc)
            return rc;
    }
    /* An access that is mapped but not cached leaves the TLB's entry as it is. */
    bool kept = access == PN_WRITE && v->outcome == PN_OUT_uncached &&
                tlb_stores(vcpu, gva, mode);
    if (pn_stores(access) && !kept && pn_answer(v->outcome) == PN_MAPPED &&
        track_seen(mmu, v->gpa))
        v->outcome = PN_OUT_tracked_code;
    return 0;
}

int pn_mmu_explain(struct pn_mmu_vcpu *vcpu, pn_gva gva, struct pn_explanation *x) {
    struct walk w;
    explain_guest(vcpu, gva, &w, x);
    vcpu->mmu->ops->explain(vcpu, gva, &w, x);
    if (vcpu->mmu->observer)
        vcpu->mmu->observer->where(vcpu, &w, x);
    pn_mmu_walk_cost(vcpu, gva, PN_READ, PN_TLB_SUPER_AC, &x->now);
    for (enum pn_access access = PN_READ; access <= PN_FETCH; access++)
        for (enum pn_tlb_mode mode = PN_TLB_USER; mode < PN_TLB_MODES; mode++) {
            int rc = pn_mmu_predict(vcpu, gva, access, mode, &x->verdict[access][mode]);
            if (rc)
                return rc;
        }
    return 0;
}

bool pn_mmu_our_mappings(struct pn_mmu_vcpu *vcpu, pn_mapping_fn fn, void *opaque) {
    return vcpu->mmu->ops->mappings(vcpu, fn, opaque);
}

void pn_mmu_tables(struct pn_mmu *mmu, pn_table_fn fn, void *opaque) {
    mmu->ops->tables(mmu, fn, opaque);
}
