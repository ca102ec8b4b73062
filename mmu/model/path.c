/* SPDX-License-Identifier: MIT */
/*
 * The way of one translation through the tables as they stand, without side effects, for
 * the TLB model.
 *
 * Invariant: nothing here changes a table, a TLB or a counter.
 */
#include <string.h>

#include "mmu/model/model.h"
#include "mmu/shadow/shadow.h"
#include "mmu/tdp/tdp.h"

/* ---- Shadow ---- */

/* The page and rights of the leaf that sw ends in. */
static void shadow_leaf(struct pn_mmu_vcpu *vcpu, const struct swalk *sw,
                        struct model_path *p) {
    uint64_t v = shadow_opened(vcpu->mmu, sp_of(sw->sptep), sp_index(sw->sptep));
    p->found = true;
    p->level = sw->level;
    p->store = (v & SPTE_STORE) == SPTE_STORE && sw->grant & SPTE_D &&
               !(vcpu->mmu->shadow->log_d & ~v) &&
               (sw->grant & SPTE_W || !vcpu->walk.rights.wp);
}

/* The node of each table on the way to gva, as far as there are tables: others would be made by
 * this vCPU. */
static void shadow_nodes(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                         struct model_path *p) {
    const struct root *r = vcpu->roots->cur;
    const uint64_t *t = r->top ? r->spt : NULL;
    memset(p->table_node, vcpu->node, sizeof(p->table_node));
    for (unsigned level = p->table_top; t && level >= p->table_level && level; level--) {
        p->table_node[level] = sp_of(t)->node;
        uint64_t v = spte_get(&t[level_index(gva, level)]);
        t = spte_table(v) ? spte_child(v) : NULL;
    }
}

void shadow_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct model_path *p) {
    const struct root *r = vcpu->roots->cur;
    struct swalk sw;
    *p = (struct model_path){0};
    if (!r->top || (r->narrow && gva >> 32))
        return;
    unsigned refs = shadow_walk(r, gva, &sw);
    p->table_level = sw.level;
    p->table_top = sw.level + refs - 1;
    if (spte_leaf(sw.spte))
        shadow_leaf(vcpu, &sw, p);
    if (vcpu->mmu->nodes)
        shadow_nodes(vcpu, gva, p);
}

/* How large a leaf for gfn may be, at most `most`. */
static unsigned level_allowed(struct pn_mmu *mmu, pn_gfn gfn, unsigned most) {
    struct slot *s = slot_of_gfn(mmu, gfn);
    unsigned level = !s || s->dirty || !mmu->cfg.opt.large_pages ? 1
                     : most > 3                                  ? 3
                                                                 : most;
    while (level > 1 && *slot_large(s, gfn, level))
        level--;
    return level;
}

void shadow_path_fetched(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                         struct model_path *p) {
    struct walk w;
    if (stage_walk(vcpu, &vcpu->walk, gva, PN_FETCH, mode, WALK_PROBE, &w) < 0)
        return;
    p->found = true;
    p->level = level_allowed(vcpu->mmu, w.gfn, w.level);
    p->table_level = p->level;
    p->table_top = vcpu->walk.levels > 3 ? vcpu->walk.levels : 3;
    if (vcpu->mmu->nodes)
        shadow_nodes(vcpu, gva, p);
}

/* ---- TDP ---- */

bool model_second(struct pn_mmu *mmu, pn_gpa gpa, unsigned *level) {
    const struct tdp *t = mmu->tdp;
    struct ewalk w;
    *level = t->levels;
    if (!tdp_reaches(t, gpa))
        return false;
    ept_peek(t, gpa, &w);
    *level = w.level;
    return ept_leaf(w.pte, w.level);
}

void model_second_nodes(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, uint8_t node[6]) {
    const struct tdp *t = vcpu->mmu->tdp;
    const uint64_t *table = tdp_reaches(t, gpa) ? t->root->spt : NULL;
    memset(node, vcpu->node, 6);
    for (unsigned level = t->levels; table && level; level--) {
        uint64_t v = table[level_index(gpa, level)];
        node[level] = sp_of(table)->node;
        table = ept_table(v, level) ? ept_child(v) : NULL;
    }
}

unsigned model_node_of(const struct pn_nodes *nodes, pn_gpa gpa) {
    for (unsigned i = 0; i < nodes->ranges; i++)
        if (gpa >= nodes->range[i].from && gpa < nodes->range[i].end)
            return nodes->range[i].node;
    return 0;
}

static bool second_store(struct pn_mmu *mmu, pn_gpa gpa) {
    uint64_t want = EPT_W | (mmu->tracker->by_dbit ? EPT_D : 0);
    struct ewalk w;
    ept_peek(mmu->tdp, gpa, &w);
    return (w.pte & want) == want;
}

void tdp_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
              enum pn_tlb_mode mode, struct model_path *p) {
    struct walk w;
    *p = (struct model_path){.guest_bits = vcpu->walk.levels == 2 ? 10 : 9};
    p->found = stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) == 0;
    p->guest_top = walk_first(&w);
    p->guest_level = p->level = w.level;
    for (unsigned level = w.level; level <= p->guest_top; level++)
        p->gpte[level] = w.pte_gpa[level];
    if (!p->found)
        return;
    p->gpa = w.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    p->global = w.global && vcpu->paging.cr4 & CR4_PGE;
    p->store = w.dirty && (w.access & ACC_WRITE || !vcpu->walk.rights.wp) &&
               tdp_reaches(vcpu->mmu->tdp, p->gpa) && second_store(vcpu->mmu, p->gpa);
}
