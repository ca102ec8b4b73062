/* SPDX-License-Identifier: MIT */
/*
 * The second-level tables: made, kept within the budget, zapped.
 *
 * Invariants
 * 1. The tables are a tree under one root that all vCPUs and all guest roots share; a
 *    table's `parents` is the one entry that leads to it.
 * 2. sp->used counts the entries that are not 0.
 * 3. A leaf that goes takes the TLB entries of its pages along.
 * 4. Tables number at most the page budget, but for those that a fault in progress adds
 *    (TDP_ROOM were made available before), and those that splitting does until the next
 *    fault.
 */
#include <errno.h>
#include <stdlib.h>

#include "mmu/tdp/tdp.h"

#define TDP_BUDGET 65536

/* ---- Life ---- */

int tdp_init(struct pn_mmu *mmu) {
    struct tdp *t = mmu->tdp = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->mmu = mmu;
    t->lru.next = t->lru.prev = &t->lru;
    t->budget = mmu->cfg.opt.page_budget ? mmu->cfg.opt.page_budget : TDP_BUDGET;
    t->levels = mmu->cfg.maxphyaddr > 48 ? 5 : mmu->cfg.opt.tdp_levels;
    bool ad = mmu->cfg.opt.ad != PN_AD_NONE;
    t->table_access = ad ? PN_WRITE : PN_READ;
    t->table_needs = ad ? EPT_W : 0;
    t->table_sets = EPT_A | (ad ? EPT_D : 0);
    t->root = slab_sp(mmu);
    if (!t->root)
        return -ENOMEM;
    t->root->role = ROLE_DIRECT | t->levels;
    for (unsigned level = t->levels; level; level--)
        t->refs[level] = (level < PT_LEVELS ? t->refs[level + 1] : 0) | REFS(level);
    return 0;
}

void tdp_fini(struct pn_mmu *mmu) {
    free(mmu->tdp); /* the tables are the slabs' */
}

/* ---- Walks ---- */

void tdp_clean(struct tdp *t, uint64_t *ptep) {
    uint64_t *leaf = ept_child(*ptep);
    uint64_t stale = (*ptep & EPT_STALE) >> EPT_STALE_SHIFT;
    if (!(*ptep & EPT_W)) /* it is W that they have lost */
        return;
    ept_lost(t);
    for (; stale; stale &= stale - 1) {
        unsigned first = (unsigned)__builtin_ctzll(stale) * 64;
        for (unsigned k = first; k < first + 64; k++)
            if (leaf[k] & EPT_D && ept_leaf(leaf[k], 1))
                ept_put(&leaf[k], leaf[k] & ~EPT_D);
    }
    ept_put(ptep, *ptep & ~EPT_STALE);
}

/* Who looks reads region first: what it names was stored before. */
static void know_way(struct tdp *t, pn_gpa gpa, uint64_t *at, uint64_t pass,
                     unsigned level) {
    struct known *k = &t->known[gpa >> KNOWN_SHIFT & ((1u << KNOWN_BITS) - 1)];
    if (k->region)
        mmu_bar(t->mmu);
    t->knows = true;
    k->at = at;
    k->pass = pass;
    k->level = level;
    __atomic_store_n(&k->region, (gpa >> KNOWN_SHIFT) + 1, __ATOMIC_RELEASE);
}

void ept_walk_tables(struct tdp *t, pn_gpa gpa, struct ewalk *w) {
    uint64_t *ptep = &t->root->spt[level_index(gpa, t->levels)], v;
    uint64_t pass = ~0ull;
    unsigned level = t->levels;
    for (; ept_table(v = *ptep, level); ptep = &ept_child(v)[level_index(gpa, --level)]) {
        pass &= ept_pass(v);
        if (v & EPT_A)
            continue;
        if (v & EPT_STALE)
            tdp_clean(t, ptep);
        ept_put(ptep, *ptep | EPT_A);
    }
    *w = (struct ewalk){ptep, ept_present(v) ? v & pass : v, level};
    if (!tdp_reaches(t, gpa))
        return;
    know_way(t, gpa, ptep - (level == 1 ? level_index(gpa, 1) : 0), pass, level);
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
    sp->node = vcpu->node;
    sp->parents = (uintptr_t)ptep;
    ept_put(ptep, EPT_RWX | (uintptr_t)sp->spt);
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
    ept_put(ptep,
            EPT_LEAF | (level > 1 ? EPT_PS : 0) | bits | (uintptr_t)slot_hva(s, gfn));
    s->leaves++;
    mmu_gauge_pages(vcpu->mmu, level, 1);
    pn_emit(vcpu->ring, set_spte, gfn, level, ept_public(*ptep));
}

void tdp_set_mmio(struct pn_mmu_vcpu *vcpu, uint64_t *ptep) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = sp_of(ptep);
    if (!*ptep)
        sp->used++;
    ept_put(ptep, ept_mmio(mmu->slots.generation));
    pn_emit(vcpu->ring, mark_mmio_spte, ept_gfn(sp, sp_index(ptep)), ACC_ALL,
            mmu->slots.generation);
}

bool tdp_large_ok(const struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level) {
    bool seen = !s->dirty || (level == 2 && mmu->tracker->frames);
    return mmu->cfg.opt.large_pages && seen && !*slot_large(s, gfn, level);
}

/* ---- Zapping ---- */

static void leaf_gone(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, unsigned level, bool tlb) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct slot *s = slot_of_gfn(mmu, gfn);
    for (uint64_t k = 0; tlb && k < level_pages(level); k++)
        tdp_tlb_drop(mmu, s, gfn + k, false);
    ept_lost(mmu->tdp);
    s->leaves--;
    mmu_gauge_pages(mmu, level, -1);
}

/* An empty one. */
static void table_gone(struct pn_mmu_vcpu *vcpu, struct sp *sp) {
    struct pn_mmu *mmu = vcpu->mmu;
    ept_forget(mmu->tdp);
    list_del(&sp->lru);
    mmu->tdp->pages--;
    pn_count(vcpu->stats, sp_zapped);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]--;
    slab_sp_free(&mmu->slab, sp);
}

struct drop {
    struct visit v;
    bool tlb;
};

static void drop_one(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                     enum visit_kind kind) {
    uint64_t old = *ptep;
    ept_put(ptep, 0);
    sp_of(ptep)->used--;
    if (kind == VISIT_LEAF)
        leaf_gone(v->vcpu, gfn, level, ((struct drop *)v)->tlb);
    else if (kind == VISIT_AFTER)
        table_gone(v->vcpu, sp_of(ept_child(old)));
}

static struct drop drop_all(struct pn_mmu_vcpu *vcpu, bool tlb) {
    unsigned kinds = VISIT_LEAF | VISIT_MARK | VISIT_AFTER;
    return (struct drop){{.vcpu = vcpu, .end = ~0ull, .kinds = kinds, .at = drop_one},
                         tlb};
}

void tdp_drop(struct pn_mmu_vcpu *vcpu, uint64_t *ptep, bool tlb) {
    struct drop d = drop_all(vcpu, tlb);
    struct sp *sp = sp_of(ptep);
    unsigned level = sp_level(sp);
    enum visit_kind kind = ept_leaf(*ptep, level) ? VISIT_LEAF : VISIT_MARK;
    if (ept_table(*ptep, level)) {
        tdp_visit(&d.v, sp_of(ept_child(*ptep)));
        kind = VISIT_AFTER;
    }
    drop_one(&d.v, ptep, ept_gfn(sp, sp_index(ptep)), level, kind);
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
            ept_forget(t);
            ept_put(ptep, *ptep & ~EPT_A);
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
    struct drop d = drop_all(vcpu, false);
    merged_drop_all(vcpu->mmu);
    roots_drop_everything(vcpu->mmu);
    tdp_visit(&d.v, vcpu->mmu->tdp->root);
    pn_emit(vcpu->ring, zap_all_fast, 0);
}

/* What maps frames of the slot goes; a table goes with its last entry. */
static void zap_slot_entry(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                           enum visit_kind kind) {
    if (kind != VISIT_AFTER)
        tdp_drop(v->vcpu, ptep, false);
    else if (!sp_of(ept_child(*ptep))->used)
        zap_table(v->vcpu, sp_of(ept_child(*ptep)), ZAP_SLOT, false);
}

void tdp_slot_gone(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct visit v = visit_slot(vcpu, s, VISIT_LEAF | VISIT_MARK | VISIT_AFTER);
    v.at = zap_slot_entry;
    tdp_visit(&v, mmu->tdp->root);
    roots_drop_everything(mmu); /* guest tables may have stood there */
    merged_drop_all(mmu);
    roots_slots_changed(mmu);
    track_slot_gone(mmu, s);
}
