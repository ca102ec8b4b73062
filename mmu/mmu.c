/* SPDX-License-Identifier: MIT */
/*
 * The roof: life of a pn_mmu and its vCPUs, which kind of MMU it is, and who watches it.
 * This file alone knows all the floors.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/core/audit.h"
#include "mmu/core/record.h"
#include "mmu/model/model.h"
#include "mmu/shadow/shadow.h"
#include "mmu/tdp/tdp.h"

static const struct mmu_ops *const kinds[] = {
    [PN_MMU_SHADOW] = &shadow_ops,
    [PN_MMU_TDP] = &tdp_ops,
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- Life ---- */

int pn_mmu_create(const struct pn_mmu_config *cfg, struct pn_mmu **out) {
    if (mmu_options_check(&cfg->opt) < 0 || cfg->maxphyaddr < 36 ||
        cfg->maxphyaddr > 52 || (unsigned)cfg->kind >= KINDS ||
        !tracker_of(cfg->tracker) || (cfg->tlb && !model_possible(cfg->tlb)))
        return -EINVAL;
    struct pn_mmu *mmu = calloc(1, sizeof(*mmu));
    if (!mmu)
        return -ENOMEM;
    mmu->cfg = *cfg;
    mmu->ops = kinds[cfg->kind];
    mmu->tracker = tracker_of(cfg->tracker);
    mmu->many = DIRTY_MANY;
    mmu->step = cfg->opt.audit ? audit_or_stop : NULL;
    mmu->nobody = (struct pn_mmu_vcpu){.mmu = mmu, .stats = &mmu->none};
    if ((cfg->tlb && model_attach(mmu) < 0) || mmu->ops->init(mmu) < 0) {
        pn_mmu_destroy(mmu);
        return -ENOMEM;
    }
    mmu_watch(mmu);
    if (cfg->recorder)
        cfg->recorder->created(cfg->recorder->opaque, cfg);
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
    free(mmu->quiet);
    model_detach(mmu);
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
    struct vcpu_roots *roots = calloc(1, sizeof(*roots));
    if (!vcpu || !roots) {
        free(vcpu);
        free(roots);
        return -ENOMEM;
    }
    *vcpu = (struct pn_mmu_vcpu){.mmu = mmu,
                                 .number = mmu->vcpus_made++,
                                 .view = view,
                                 .stats = stats,
                                 .ring = ring,
                                 .roots = roots};
    mmu->vcpus[mmu->vcpu_count++] = vcpu;
    view->stamp = 0;
    record(mmu, vcpu, vcpu->number, .how = 0);
    if ((mmu->observer && mmu->observer->init(vcpu) < 0) || root_init(vcpu) < 0 ||
        dirty_buffer_create(vcpu) < 0 || dirty_ring_create(vcpu) < 0) {
        pn_mmu_vcpu_destroy(vcpu);
        return -ENOMEM;
    }
    *out = vcpu;
    return 0;
}

void pn_mmu_vcpu_destroy(struct pn_mmu_vcpu *vcpu) {
    if (!vcpu)
        return;
    struct pn_mmu *mmu = vcpu->mmu;
    dirty_buffer_destroy(vcpu);
    dirty_ring_destroy(vcpu);
    root_destroy(vcpu);
    unsigned i = 0;
    while (mmu->vcpus[i] != vcpu)
        i++;
    mmu->vcpu_count--;
    memmove(&mmu->vcpus[i], &mmu->vcpus[i + 1],
            (mmu->vcpu_count - i) * sizeof(*mmu->vcpus));
    observe(mmu, fini, vcpu);
    free(vcpu->roots);
    free(vcpu);
}

size_t pn_mmu_footprint(const struct pn_mmu *mmu) {
    return mmu->bytes;
}

/* The outcome of a store, once the users of pn_mmu_track_add had their say. */
static enum pn_outcome seen(struct pn_mmu *mmu, enum pn_outcome outcome,
                            const struct pn_xlate *out) {
    if (pn_answer(outcome) == PN_MAPPED && track_seen(mmu, out->gpa))
        return PN_OUT_tracked_code;
    return outcome;
}

static __attribute__((noinline)) enum pn_outcome
translate_watched(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                  enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct pn_mmu *mmu = vcpu->mmu;
    enum pn_outcome outcome;
    if (__builtin_expect(mmu->cfg.recorder != NULL, 0))
        record_access(vcpu, gva, access, mode);
    if (__builtin_expect(mmu->observer != NULL, 0))
        outcome = mmu->observer->translate(vcpu, gva, access, mode, out);
    else if (access == PN_WRITE && mmu->cfg.recorder && record_held(vcpu, gva, mode, out))
        outcome = PN_OUT_NO_FAULT;
    else if (access == PN_WRITE && tlb_held_back(vcpu, gva, mode, out))
        outcome = PN_OUT_NO_FAULT;
    else
        outcome = mmu->ops->translate(vcpu, gva, access, mode, out);
    if (mmu->tracker->accesses && pn_answer(outcome) == PN_MAPPED)
        dirty_accessed(vcpu, gva, out->gpa, access, mode);
    /* A write tag that is not kept back says that nobody tracks the page's code. */
    bool unseen = access == PN_WRITE && tlb_stores(vcpu, gva, mode);
    if (pn_stores(access) && !unseen)
        outcome = seen(mmu, outcome, out);
    mmu_step(mmu);
    return outcome;
}

/* A store that nobody watches: the view shows the current root's TLB. */
static inline uint64_t write_tag(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_tlb_mode mode) {
    return vcpu->view->tlb[mode][tlb_index(gva)].tag[PN_WRITE];
}

/* A store to a page whose write tag is not kept back. */
static enum pn_outcome translate_store(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                       enum pn_tlb_mode mode, struct pn_xlate *out) {
    if (write_tag(vcpu, gva, mode) == PN_TLB_HELD(gva))
        return translate_watched(vcpu, gva, PN_WRITE, mode, out);
    enum pn_outcome outcome = vcpu->mmu->ops->translate(vcpu, gva, PN_WRITE, mode, out);
    if (write_tag(vcpu, gva, mode) == (gva & PN_PAGE_MASK))
        return outcome;
    return seen(vcpu->mmu, outcome, out);
}

/* What nobody else looks at goes straight to the kind's own. */
enum pn_outcome pn_mmu_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (mmu->watched || access == PN_SS_WRITE)
        return translate_watched(vcpu, gva, access, mode, out);
    if (access == PN_WRITE)
        return translate_store(vcpu, gva, mode, out);
    return mmu->ops->translate(vcpu, gva, access, mode, out);
}

bool pn_mmu_look(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct pn_xlate *out) {
    const struct pn_mmu *mmu = vcpu->mmu;
    if (mmu->watched || mmu->tracker->pieces || access > PN_FETCH || !mmu->ops->look)
        return false;
    return mmu->ops->look(vcpu, gva, access, mode, out);
}

bool pn_mmu_look_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                       enum pn_tlb_mode mode, struct pn_xlate *out) {
    const struct pn_mmu *mmu = vcpu->mmu;
    if (mmu->watched || vcpu->ring || access > PN_FETCH || !mmu->ops->look_fault)
        return false;
    return mmu->ops->look_fault(vcpu, gva, access, mode, out);
}

void pn_mmu_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                      enum pn_tlb_mode mode, struct pn_walk_cost *out) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct walk w;
    *out = (struct pn_walk_cost){0};
    bool found = stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) == 0;
    for (unsigned level = walk_first(&w); level >= w.level && level; level--)
        out->native++;
    out->complete = mmu->ops->walk_cost(vcpu, gva, &w, found, out);
    for (unsigned level = 1; level <= 5; level++)
        out->refs += out->guest[level] + out->table[level];
}

void pn_mmu_zap_all(struct pn_mmu *mmu) {
    struct pn_mmu_vcpu *vcpu = mmu_actor(mmu);
    record(mmu, zap_all, 0, .how = 0);
    host_begins(mmu);
    flush_ask(mmu);
    mmu->ops->zap_all(vcpu);
    pn_count(vcpu->stats, mmu_zap_all);
    mmu_step(mmu);
}

int pn_mmu_set_tracker(struct pn_mmu *mmu, enum pn_dirty_tracker tracker) {
    const struct tracker_ops *next = tracker_of(tracker);
    if (!next)
        return -EINVAL;
    if (mmu->cfg.recorder)
        return -ENOTSUP;
    dirty_collect_all(mmu);
    pn_mmu_zap_all(mmu);    /* no mapping is of the old one's */
    dirty_collect_all(mmu); /* what the end of the mappings told */
    int rc = dirty_equip(mmu, next);
    if (rc) /* which needs nothing */
        dirty_equip(mmu, tracker_of(tracker = PN_TRACKER_WP));
    mmu->cfg.tracker = tracker;
    if (mmu->ops->tracker_changed)
        mmu->ops->tracker_changed(mmu);
    return rc;
}
