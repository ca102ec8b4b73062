/* SPDX-License-Identifier: MIT */
/* The audit of the TLB model: what it shows the CPU is part of what the root's TLB has.
 */
#include "mmu/core/audit.h"
#include "mmu/model/model.h"

void model_audit(struct audit *a, const struct pn_mmu_vcpu *vcpu) {
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        for (unsigned i = 0; i < PN_TLB_ENTRIES; i++) {
            const struct pn_tlb_entry *f = &vcpu->model->filter[mode][i];
            const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[mode][i];
            for (unsigned t = 0; t < 3; t++)
                if (f->tag[t] != PN_TLB_NONE(i) &&
                    (f->tag[t] != e->tag[t] || f->hva != e->hva))
                    wrong(a, "filter entry %u of mode %u is not in the TLB", i, mode);
        }
}
