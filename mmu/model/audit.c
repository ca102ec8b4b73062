/* SPDX-License-Identifier: MIT */
/* The audit of the TLB model: what it shows the CPU is part of what the root's TLB has, and the
 * pages that the CPU may fetch from without a call are in the first level. */
#include "mmu/core/audit.h"
#include "mmu/model/model.h"

void model_audit(struct audit *a, const struct pn_mmu_vcpu *vcpu) {
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        for (unsigned i = 0; i < PN_TLB_ENTRIES; i++) {
            const struct pn_tlb_entry *f = &vcpu->model->filter[mode][i];
            const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[mode][i];
            for (unsigned t = 0; t < PN_FETCH; t++)
                if (f->tag[t] != PN_TLB_NONE(i) &&
                    (f->tag[t] != e->tag[t] || f->hva != e->hva))
                    wrong(a, "filter entry %u of mode %u is not in the TLB", i, mode);
            unsigned at = mode * PN_TLB_ENTRIES + i;
            if (f->hva && !(vcpu->model->first[L1D].live[at / 64] >> at % 64 & 1))
                wrong(a, "filter entry %u of mode %u is not live", i, mode);
        }
    struct model *m = vcpu->model;
    struct model_hit h;
    for (unsigned t = 0; t < MODEL_TLBS; t++)
        for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
            if (!assoc_sound(&m->tlb[t][i]))
                wrong(a, "a key of array %u of TLB %u is not its entry's", i, t);
    for (unsigned i = 0; i < PN_FETCH_HITS; i++) {
        uint64_t page = m->fetches->hit[i].page;
        const struct filter_link *k = &m->first[L1I].link[i];
        if (page != ~0ull &&
            (m->flush || !model_find(m->tlb[L1I], page, model_context(vcpu), false, &h) ||
             (!m->tlb[L1I][h.array].unbounded &&
              (!k->listed || h.e != &m->tlb[L1I][k->array].e[k->entry]))))
            wrong(a, "fetch hit %u is not what the model has", i);
    }
}
