/* SPDX-License-Identifier: MIT */
/*
 * The two-dimensional MMU as a table of operations: the guest's tables gva -> gpa, walked
 * through second-level tables gpa -> hva in EPT's format (ept.h).
 */
#include "mmu/tdp/tdp.h"
#include "mmu/core/audit.h"

static int init(struct pn_mmu *mmu) {
    int rc = tdp_init(mmu);
    if (rc == 0 && mmu->cfg.opt.nested == PN_NESTED_SHADOW) {
        mmu->tdp->ops = tdp_ops;
        mmu->tdp->ops.merged = &merged_stage;
        mmu->tdp->ops.asid_gone = merged_asid_gone;
        mmu->ops = &mmu->tdp->ops;
    }
    return rc;
}

static void fini(struct pn_mmu *mmu) {
    mmu->ops = &tdp_ops;
    tdp_fini(mmu);
}

const struct mmu_ops tdp_ops = {
    .init = init,
    .fini = fini,
    .translate = tdp_translate,
    .look = tdp_look,
    .look_fault = tdp_look_fault,
    .walk_cost = tdp_walk_cost,
    .zap_all = tdp_zap_all,
    .predict = tdp_predict,
    .explain = tdp_explain,
    .mappings = tdp_mappings,
    .tables = tdp_tables,
    .below = &tdp_stage,
    .root_drop = tdp_root_drop,
    .root_sync = tdp_root_sync,
    .inval_gva = tdp_inval_gva,
    .slot_gone = tdp_slot_gone,
    .slot_changed = tdp_slot_changed,
    .written = tdp_written,
    .write_protect = tdp_write_protect,
    .hold_writes = tdp_tlb_hold,
    .take = tdp_take,
    .grant = tdp_grant,
    .harvested = tdp_harvested,
    .audit = tdp_audit,
    .audit_entry = tdp_audit_entry,
};
