/* SPDX-License-Identifier: MIT */
/*
 * The second-level tables: made, kept within the budget, zapped.
 *
 * Invariants
 * 1. The tables are a tree under one root that all vCPUs and all guest roots share; a
 *    table's `parents` is the one entry that leads to it.
 * 2. sp->used counts the entries that are not 0.
 * 3. A leaf that goes takes the TLB entries of its pages along, and in a slot logged by D
 *    bits leaves its D in the dirty bitmap.
 * 4. Tables number at most the page budget, but for those that a fault in progress adds
 *    (TDP_ROOM were made available before), and those that splitting does until the next
 *    fault.
 */
#include <errno.h>
#include <stdlib.h>

#include "mmu/tdp/tdp.h"

#define TDP_ROOM   6 /* tables that one fault may add, splits included */
#define TDP_BUDGET 65536

/* ---- Life ---- */

int tdp_init(struct pn_mmu *mmu) {
    struct tdp *t = mmu->tdp = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->lru.next = t->lru.prev = &t->lru;
    t->budget = mmu->cfg.opt.page_budget ? mmu->cfg.opt.page_budget : TDP_BUDGET;
    t->levels = mmu->cfg.maxphyaddr > 48 ? 5 : mmu->cfg.opt.tdp_levels;
    t->root = slab_sp(mmu);
    if (!t->root)
        return -ENOMEM;
    t->root->role = ROLE_DIRECT | t->levels;
    return 0;
}

void tdp_fini(struct pn_mmu *mmu) {
    free(mmu->tdp); /* the tables are the slabs' */
}

void tdp_gauge(struct pn_mmu *mmu, unsigned level, int64_t by) {
    enum pn_stat id = level == 1   ? PN_STAT_pages_4k
                      : level == 2 ? PN_STAT_pages_2m
                                   : PN_STAT_pages_1g;
    mmu_gauges(mmu)->v[id] += (uint64_t)by;
}

/* ---- Entries ---- */

struct sp *tdp_link(struct pn_mmu_vcpu *vcpu, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct tdp *t = mmu->tdp;
    struct sp *parent = sp_of(ptep), *sp = slab_sp(mmu);
    if (!sp)
        return NULL;
    if (*ptep)
        tdp_drop(vcpu, ptep, true);
    sp->gfn = ept_gfn(parent, sp_index(ptep));
    sp->role = ROLE_DIRECT | (sp_level(parent) - 1);
    sp->parents = (uintptr_t)ptep;
    *ptep = EPT_RWX | (uintptr_t)sp->spt;
    parent->used++;
    list_add(&t->lru, &sp->lru);
    t->pages++;
    pn_count(vcpu->stats, sp_created);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]++;
    pn_emit(vcpu->ring, get_page, sp->gfn, sp->role, 1);
    return sp;
}

void tdp_set_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep,
                  uint64_t bits) {
    struct sp *sp = sp_of(ptep);
    unsigned level = sp_level(sp);
    pn_gfn gfn = ept_gfn(sp, sp_index(ptep));
    if (!*ptep)
        sp->used++;
    *ptep = EPT_LEAF | (level > 1 ? EPT_PS : 0) | bits | (uintptr_t)slot_hva(s, gfn);
    tdp_gauge(vcpu->mmu, level, 1);
    pn_emit(vcpu->ring, set_spte, gfn, level, ept_public(*ptep));
}

void tdp_set_mmio(struct pn_mmu_vcpu *vcpu, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = sp_of(ptep);
    if (!*ptep)
        sp->used++;
    *ptep = ept_mmio(mmu->slots.generation);
    pn_emit(vcpu->ring, mark_mmio_spte, ept_gfn(sp, sp_index(ptep)), 0,
            mmu->slots.generation);
}

bool tdp_large_ok(const struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level) {
    return mmu->cfg.opt.large_pages && !s->dirty && !*slot_large(s, gfn, level);
}

/* ---- Zapping ---- */

static void leaf_gone(struct pn_mmu_vcpu *vcpu, uint64_t v, pn_gfn gfn, unsigned level,
                      bool tlb) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct slot *s = slot_of_gfn(mmu, gfn);
    bool log = v & EPT_D && s->dirty && tdp_by_dbit(mmu);
    for (uint64_t k = 0; (tlb || log) && k < level_pages(level); k++) {
        if (tlb)
            tdp_tlb_drop(mmu, s, gfn + k, false);
        if (log)
            dirty_mark(s, gfn + k);
    }
    tdp_gauge(mmu, level, -1);
}

static void table_gone(struct pn_mmu_vcpu *vcpu, struct sp *sp, bool tlb) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct tdp *t = mmu->tdp;
    for (unsigned i = 0; sp->used; i++)
        if (sp->spt[i])
            tdp_drop(vcpu, &sp->spt[i], tlb);
    list_del(&sp->lru);
    t->pages--;
    pn_count(vcpu->stats, sp_zapped);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]--;
    slab_sp_free(&mmu->slab, sp);
}

void tdp_drop(struct pn_mmu_vcpu *vcpu, uint64_t *ptep, bool tlb) {
    struct sp *sp = sp_of(ptep);
    unsigned level = sp_level(sp);
    uint64_t v = *ptep;
    *ptep = 0;
    sp->used--;
    if (ept_leaf(v, level))
        leaf_gone(vcpu, v, ept_gfn(sp, sp_index(ptep)), level, tlb);
    else if (ept_table(v, level))
        table_gone(vcpu, sp_of(ept_child(v)), tlb);
}

static void zap_table(struct pn_mmu_vcpu *vcpu, struct sp *sp, enum zap_reason why,
                      bool tlb) {
    pn_emit(vcpu->ring, prepare_zap_page, sp->gfn, sp->role, why);
    tdp_drop(vcpu, (uint64_t *)(uintptr_t)sp->parents, tlb);
}

/* The oldest table goes unless its A says that walks use it: then it is young again. */
static void evict_one(struct pn_mmu_vcpu *vcpu) {
    struct tdp *t = vcpu->mmu->tdp;
    for (;;) {
        struct sp *sp = list_sp(t->lru.prev);
        uint64_t *ptep = (uint64_t *)(uintptr_t)sp->parents;
        if (*ptep & EPT_A) {
            *ptep &= ~EPT_A;
            list_del(&sp->lru);
            list_add(&t->lru, &sp->lru);
            continue;
        }
        zap_table(vcpu, sp, ZAP_RECLAIM, true);
        pn_count(vcpu->stats, mmu_recycled);
        return;
    }
}

void tdp_make_room(struct pn_mmu_vcpu *vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    while (mmu->tdp->pages + TDP_ROOM > mmu->tdp->budget)
        evict_one(vcpu);
}

void tdp_zap_all(struct pn_mmu_vcpu *vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *root = mmu->tdp->root;
    roots_drop_everything(mmu);
    for (unsigned i = 0; root->used; i++)
        if (root->spt[i])
            tdp_drop(vcpu, &root->spt[i], false);
    pn_emit(vcpu->ring, zap_all_fast, 0);
}

/* Drop what maps frames of the slot; tables go with their last entry. */
static void zap_range(struct pn_mmu_vcpu *vcpu, struct sp *sp, const struct slot *s) {
    unsigned level = sp_level(sp);
    pn_gfn pages = level_pages(level), end = s->gfn + s->npages;
    unsigned first = s->gfn > sp->gfn ? (unsigned)((s->gfn - sp->gfn) / pages) : 0;
    for (unsigned i = first; i < 512 && sp->gfn + i * pages < end; i++) {
        uint64_t v = sp->spt[i];
        if (ept_table(v, level)) {
            struct sp *child = sp_of(ept_child(v));
            zap_range(vcpu, child, s);
            if (!child->used)
                zap_table(vcpu, child, ZAP_SLOT, false);
        } else if (v) {
            tdp_drop(vcpu, &sp->spt[i], false);
        }
    }
}

void tdp_slot_gone(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    struct pn_mmu *mmu = vcpu->mmu;
    zap_range(vcpu, mmu->tdp->root, s);
    roots_drop_everything(mmu); /* guest tables may have stood there */
    roots_slots_changed(mmu);
    track_slot_gone(mmu, s);
}
