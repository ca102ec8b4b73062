/* SPDX-License-Identifier: MIT */
/* Life of a pn_mmu and its vCPUs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/shadow.h"

int pn_mmu_create(const struct pn_mmu_config *cfg, struct pn_mmu **out) {
    if (mmu_options_check(&cfg->opt) < 0 || cfg->maxphyaddr < 36 || cfg->maxphyaddr > 52)
        return -EINVAL;
    struct pn_mmu *mmu = calloc(1, sizeof(*mmu));
    if (!mmu)
        return -ENOMEM;
    mmu->cfg = *cfg;
    mmu->shadow = calloc(1, sizeof(*mmu->shadow));
    if (!mmu->shadow || sp_init(mmu) < 0 || tlb_template(mmu->shadow) < 0) {
        pn_mmu_destroy(mmu);
        return -ENOMEM;
    }
    *out = mmu;
    return 0;
}

void pn_mmu_destroy(struct pn_mmu *mmu) {
    if (!mmu)
        return;
    while (mmu->vcpu_count)
        pn_mmu_vcpu_destroy(mmu->vcpus[mmu->vcpu_count - 1]);
    free(mmu->vcpus);
    struct shadow *sh = mmu->shadow;
    if (sh) {
        slab_destroy(sh);
        track_destroy(sh);
        free(sh->hash);
        free(sh->empty);
        free(sh);
    }
    slots_free(&mmu->slots);
    free(mmu);
}

int pn_mmu_vcpu_create(struct pn_mmu *mmu, struct pn_tlb_view *view,
                       struct pn_stats *stats, struct pn_ring *ring,
                       struct pn_mmu_vcpu **out) {
    struct pn_mmu_vcpu **grown =
        realloc(mmu->vcpus, (mmu->vcpu_count + 1) * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    mmu->vcpus = grown;
    struct pn_mmu_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    struct vcpu_shadow *sh = calloc(1, sizeof(*sh));
    if (!vcpu || !sh) {
        free(vcpu);
        free(sh);
        return -ENOMEM;
    }
    *vcpu = (struct pn_mmu_vcpu){
        .mmu = mmu, .view = view, .stats = stats, .ring = ring, .sh = sh};
    mmu->vcpus[mmu->vcpu_count++] = vcpu;
    if (root_init(vcpu) < 0) {
        pn_mmu_vcpu_destroy(vcpu);
        return -ENOMEM;
    }
    if (!mmu->shadow->cur)
        mmu->shadow->cur = vcpu;
    *out = vcpu;
    return 0;
}

void pn_mmu_vcpu_destroy(struct pn_mmu_vcpu *vcpu) {
    if (!vcpu)
        return;
    struct pn_mmu *mmu = vcpu->mmu;
    root_destroy(vcpu);
    unsigned i = 0;
    while (mmu->vcpus[i] != vcpu)
        i++;
    mmu->vcpu_count--;
    memmove(&mmu->vcpus[i], &mmu->vcpus[i + 1],
            (mmu->vcpu_count - i) * sizeof(*mmu->vcpus));
    if (mmu->shadow->cur == vcpu)
        mmu->shadow->cur = mmu->vcpu_count ? mmu->vcpus[0] : NULL;
    free(vcpu->sh);
    free(vcpu);
}

size_t pn_mmu_footprint(const struct pn_mmu *mmu) {
    return mmu->shadow->bytes;
}
