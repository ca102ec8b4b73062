/* SPDX-License-Identifier: MIT */
/*
 * The two-dimensional MMU as a table of operations: the guest's tables gva -> gpa, walked
 * through second-level tables gpa -> hva in EPT's format (ept.h).
 */
#include "mmu/tdp/tdp.h"
#include "mmu/core/audit.h"

const struct mmu_ops tdp_ops = {
    .init = tdp_init,
    .fini = tdp_fini,
    .translate = tdp_translate,
    .look = tdp_look,
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
