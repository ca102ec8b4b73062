/* SPDX-License-Identifier: MIT */
/* Stands in for the shadow half of mmu/ until it links. */
#include <stdlib.h>

#include "mmu/internal.h"

int pn_mmu_create(const struct pn_mmu_config *cfg, struct pn_mmu **out) {
    *out = calloc(1, sizeof(**out));
    (*out)->cfg = *cfg;
    return mmu_options_check(&cfg->opt);
}
void pn_mmu_destroy(struct pn_mmu *mmu) {
    slots_free(&mmu->slots);
    free(mmu);
}
int pn_mmu_vcpu_create(struct pn_mmu *mmu, struct pn_tlb_view *view,
                       struct pn_stats *stats, struct pn_ring *ring,
                       struct pn_mmu_vcpu **out) {
    struct pn_mmu_vcpu *v = calloc(1, sizeof(*v));
    v->mmu = mmu;
    v->stats = stats;
    v->ring = ring;
    mmu->vcpus = calloc(1, sizeof(v));
    mmu->vcpus[0] = v;
    mmu->vcpu_count = 1;
    *out = v;
    return 0;
}
void pn_mmu_vcpu_destroy(struct pn_mmu_vcpu *vcpu) {
    free(vcpu->mmu->vcpus);
    vcpu->mmu->vcpu_count = 0;
    free(vcpu);
}
void pn_mmu_set_paging(struct pn_mmu_vcpu *vcpu, const struct pn_paging *paging) {
    walk_mode_init(&vcpu->walk, paging, vcpu->mmu->cfg.maxphyaddr);
}
int pn_mmu_track_add(struct pn_mmu *mmu, pn_gfn gfn) {
    slot_of_gfn(mmu, gfn)->track[gfn]++;
    return 0;
}
void pn_mmu_track_remove(struct pn_mmu *mmu, pn_gfn gfn) {
}
void shadow_slot_gone(struct pn_mmu *mmu, struct slot *s) {
}
void shadow_slot_changed(struct pn_mmu *mmu, struct slot *s) {
}
void shadow_written(struct pn_mmu *mmu, struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size,
                    bool ad) {
    if (slot_of_gfn(mmu, gpa >> 12)
            ->track[(gpa >> 12) - slot_of_gfn(mmu, gpa >> 12)->gfn])
        mmu->cfg.on_track(mmu->cfg.opaque, gpa, size);
}
void shadow_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
}
