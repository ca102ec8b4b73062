/* SPDX-License-Identifier: MIT */
/* What every fault ends in: one outcome, which is one event and one counter. */
#include "mmu/core/internal.h"

static const struct {
    enum pn_stat counter, sum;
} counts[] = {
    {PN_STAT_COUNT, PN_STAT_COUNT},
#define PN_OUTCOME(name, answer, counter, sum, doc) {PN_STAT_##counter, PN_STAT_##sum},
#include "penumbra/outcomes.inc"
};

static __attribute__((noinline)) void tell(struct pn_mmu_vcpu *vcpu,
                                           enum pn_outcome outcome, pn_gva gva,
                                           unsigned level, uint64_t spte) {
    pn_emit(vcpu->ring, fault_outcome, gva, outcome, level, spte);
}

enum pn_outcome fault_done(struct pn_mmu_vcpu *vcpu, enum pn_outcome outcome, pn_gva gva,
                           unsigned level, uint64_t spte) {
    uint64_t *v = vcpu->stats->v;
    v[counts[outcome].counter]++;
    v[counts[outcome].sum] += counts[outcome].sum != counts[outcome].counter;
    v[PN_STAT_pf_taken] += outcome != PN_OUT_mmio_cached;
    if (vcpu->world.asid && outcome != PN_OUT_mmio_cached)
        v[PN_STAT_pf_inner] += pn_answer(outcome) != PN_GUEST_PF;
    if (__builtin_expect(vcpu->ring != NULL, 0))
        tell(vcpu, outcome, gva, level, spte);
    return outcome;
}
