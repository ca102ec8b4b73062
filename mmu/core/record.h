/* SPDX-License-Identifier: MIT */
/* What the recorder is told besides the calls themselves (penumbra/record.h): record.c. */
#pragma once

#include "mmu/core/internal.h"

/* Tell of the access, and before it of the pages that its walk reads and the recorder has
 * not. */
void record_access(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode);
/* A store comes for a write tag that is kept back for the recorder alone. Return: so it is,
 * and *out is what the TLB would have answered, whatever the guest's tables say by now. */
bool record_held(const struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                 struct pn_xlate *out);
/* A vCPU is about to make a store to a page that the recorder may have; by an instruction
 * that fills no tables. */
void record_store(struct pn_mmu *mmu, pn_gpa gpa, size_t size);
void record_no_table(struct pn_mmu *mmu, pn_gpa gpa);
/* Tell of the shadowed pages whose stores went untold: they may be synced now. */
void record_shadowed(struct pn_mmu *mmu);
static inline void record_quiet(struct pn_mmu *mmu) {
    if (__builtin_expect(mmu->quiet_count != 0, 0))
        record_shadowed(mmu);
}
