/* SPDX-License-Identifier: MIT */
/* The shadow MMU as a table of operations, and the life of its own state. */
#include <errno.h>
#include <stdlib.h>

#include "mmu/core/audit.h"
#include "mmu/shadow/shadow.h"

static const struct policy policies[] = {
    [PN_POLICY_KVM_6_1] = {.unsync_level = 1,
                           .floods = true,
                           .remakes = true,
                           .ad_flushes = true},
    [PN_POLICY_KVM_6_12] = {.unsync_level = 1, .floods = true, .ad_flushes = true},
    [PN_POLICY_KVM_7_3] = {.unsync_level = 1, .floods = true},
    [PN_POLICY_XEN_1] = {.unsync_level = 5, .syncs_at_fault = true},
    [PN_POLICY_XEN_2] = {.unsync_level = 0},
    [PN_POLICY_XEN_3] = {.unsync_level = 1, .unsync_max = 3},
    [PN_POLICY_FLUSH] = {.unsync_level = 5, .open = true},
    [PN_POLICY_AGILE] = {.unsync_level = 5, .nests = 2},
};

/* What a policy, D bits or harvests do in another way; who has not asked for it pays nothing. */
static void own_ops(struct pn_mmu *mmu) {
    const struct policy *p = &mmu->shadow->policy;
    bool others = p->syncs_at_fault || p->unsync_max || p->open || p->nests;
    struct mmu_ops *ops = &mmu->shadow->ops;
    *ops = shadow_ops;
    if (others)
        ops->syncs_others = shadow_syncs_others;
    mmu->shadow->translate_closed = p->nests             ? agile_translate
                                    : mmu->shadow->log_d ? shadow_translate_slow
                                                         : shadow_translate_closed;
    if (p->nests || mmu->shadow->log_d || mmu->shadow->log_gen) {
        ops->translate = mmu->shadow->translate_closed;
        ops->look = NULL;
    }
    mmu->ops = ops;
}

static void shadow_tracker_changed(struct pn_mmu *mmu) {
    mmu->shadow->log_d = mmu->tracker->by_dbit ? SPTE_LOG_D : 0;
    own_ops(mmu);
}

static int shadow_init(struct pn_mmu *mmu) {
    mmu->shadow = calloc(1, sizeof(*mmu->shadow));
    if (!mmu->shadow)
        return -ENOMEM;
    mmu->shadow->policy = policies[mmu->cfg.opt.policy];
    mmu->shadow->log_d = mmu->tracker->by_dbit ? SPTE_LOG_D : 0;
    if (mmu->cfg.opt.unsync) {
        mmu->shadow->unsync_level = mmu->shadow->policy.unsync_level;
        mmu->shadow->open = mmu->shadow->policy.open;
        mmu->shadow->stays = mmu->shadow->open || mmu->shadow->policy.nests;
    }
    own_ops(mmu);
    return sp_init(mmu);
}

static void shadow_fini(struct pn_mmu *mmu) {
    mmu->ops = &shadow_ops;
    if (mmu->shadow)
        free(mmu->shadow->hash);
    free(mmu->shadow);
}

const struct mmu_ops shadow_ops = {
    .init = shadow_init,
    .fini = shadow_fini,
    .translate = shadow_translate,
    .look = shadow_look,
    .look_fault = shadow_look_fault,
    .walk_cost = shadow_walk_cost,
    .zap_all = shadow_zap_all,
    .tracker_changed = shadow_tracker_changed,
    .flush_exits = true,
    .predict = shadow_predict,
    .explain = shadow_explain,
    .mappings = shadow_mappings,
    .tables = shadow_tables,
    .root_drop = shadow_root_drop,
    .root_sync = shadow_root_sync,
    .inval_gva = shadow_inval_gva,
    .asid_gone = shadow_asid_gone,
    .slot_gone = shadow_slot_gone,
    .slot_changed = shadow_slot_changed,
    .written = shadow_written,
    .unprotect = shadow_unprotect,
    .write_protect = rmap_write_protect,
    .take = shadow_take,
    .grant = shadow_grant,
    .hold_writes = tlb_hold_leaves,
    .shadowed = shadow_shadowed,
    .audit = shadow_audit,
    .audit_large = shadow_audit_large,
    .audit_entry = shadow_audit_entry,
};
