/* SPDX-License-Identifier: MIT */
/* Life of a pn_mmu and its vCPUs, and the calls that each kind of MMU answers itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/model.h"

static const struct mmu_ops *const kinds[] = {
    [PN_MMU_SHADOW] = &shadow_ops,
    [PN_MMU_TDP] = &tdp_ops,
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- The TLB model ---- */

static bool level_possible(const struct pn_tlb_level *l) {
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        if (pn_tlb_array_problem(&l->array[i]))
            return false;
    return true;
}

static bool model_possible(const struct pn_tlb_model *m) {
    bool ok = level_possible(&m->l1i) && level_possible(&m->l1d) &&
              level_possible(&m->l2) && level_possible(&m->l2i) &&
              !pn_tlb_array_problem(&m->nested);
    for (unsigned level = 2; level <= 5; level++)
        ok = ok && !pn_tlb_array_problem(&m->walk[level]) &&
             !pn_tlb_array_problem(&m->second_walk[level]);
    return ok;
}

static int model_take(struct pn_mmu *mmu) {
    if (!mmu->cfg.tlb)
        return 0;
    mmu->tlb_model = *mmu->cfg.tlb;
    mmu->cfg.tlb = &mmu->tlb_model;
    mmu->regions = calloc(MODEL_REGIONS / 64, sizeof(*mmu->regions));
    return mmu->regions ? 0 : -ENOMEM;
}

/* ---- Life ---- */

int pn_mmu_create(const struct pn_mmu_config *cfg, struct pn_mmu **out) {
    if (mmu_options_check(&cfg->opt) < 0 || cfg->maxphyaddr < 36 ||
        cfg->maxphyaddr > 52 || (unsigned)cfg->kind >= KINDS ||
        (cfg->tlb && !model_possible(cfg->tlb)))
        return -EINVAL;
    struct pn_mmu *mmu = calloc(1, sizeof(*mmu));
    if (!mmu)
        return -ENOMEM;
    mmu->cfg = *cfg;
    mmu->ops = kinds[cfg->kind];
    if (model_take(mmu) < 0 || mmu->ops->init(mmu) < 0 || tlb_template(mmu) < 0) {
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
    mmu->ops->fini(mmu);
    slab_destroy(&mmu->slab);
    track_destroy(&mmu->users);
    free(mmu->tlb_empty);
    free(mmu->regions);
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
    if ((mmu->cfg.tlb && model_create(vcpu) < 0) || root_init(vcpu) < 0) {
        pn_mmu_vcpu_destroy(vcpu);
        return -ENOMEM;
    }
    if (!mmu->cur)
        mmu->cur = vcpu;
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
    model_destroy(vcpu);
    if (mmu->cur == vcpu)
        mmu->cur = mmu->vcpu_count ? mmu->vcpus[0] : NULL;
    free(vcpu->sh);
    free(vcpu);
}

size_t pn_mmu_footprint(const struct pn_mmu *mmu) {
    return mmu->bytes;
}

enum pn_outcome pn_mmu_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out) {
    struct pn_mmu *mmu = vcpu->mmu;
    mmu->cur = vcpu;
    enum pn_outcome outcome = __builtin_expect(vcpu->model != NULL, 0)
                                  ? model_translate(vcpu, gva, access, mode, out)
                                  : mmu->ops->translate(vcpu, gva, access, mode, out);
    if (mmu->cfg.opt.audit)
        audit_step(mmu);
    return outcome;
}

void pn_mmu_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                      enum pn_tlb_mode mode, struct pn_walk_cost *out) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct walk w;
    *out = (struct pn_walk_cost){0};
    bool found =
        walk_guest(mmu, vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) == 0;
    for (unsigned level = walk_first(&w); level >= w.level && level; level--)
        out->native++;
    out->complete = mmu->ops->walk_cost(vcpu, gva, &w, found, out);
    for (unsigned level = 1; level <= 5; level++)
        out->refs += out->guest[level] + out->table[level];
}

void pn_mmu_zap_all(struct pn_mmu *mmu) {
    mmu->ops->zap_all(mmu);
    sh_count(mmu, mmu_zap_all);
    audit_step(mmu);
}
