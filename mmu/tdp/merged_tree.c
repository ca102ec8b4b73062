/* SPDX-License-Identifier: MIT */
/*
 * The trees of nested=shadow (merged.c): made, changed and dropped.
 *
 * Invariants
 * 1. A tree is of one space (pn_mmu_vcpu.space) and one ASID, and goes when that is flushed:
 *    the hypervisor's tables are not tracked. Until then it is as a TLB is.
 * 2. A leaf has W where the hypervisor's has D, too, if its format has one.
 * 3. sp->used counts the entries that are not 0; tables of all trees number at most the page
 *    budget.
 */
#include <string.h>

#include "mmu/core/audit.h"
#include "mmu/tdp/tdp.h"

/* ---- Trees ---- */

static void free_below(struct pn_mmu *mmu, struct sp *sp) {
    struct tdp *t = mmu->tdp;
    for (unsigned i = 0; sp->used && i < 512; i++) {
        uint64_t v = sp->spt[i];
        sp->spt[i] = 0;
        sp->used -= v != 0;
        if (ept_table(v, sp_level(sp)))
            free_below(mmu, sp_of(ept_child(v)));
    }
    pn_count(mmu_actor(mmu)->stats, sp_zapped);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]--;
    t->merged_pages--;
    slab_sp_free(&mmu->slab, sp);
}

static void drop_tree(struct pn_mmu *mmu, struct merged *m) {
    if (m->root)
        free_below(mmu, m->root);
    *m = (struct merged){0};
}

void merged_drop_all(struct pn_mmu *mmu) {
    for (unsigned i = 0; i < MERGED_TREES; i++)
        drop_tree(mmu, &mmu->tdp->merged[i]);
}

void merged_asid_gone(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all) {
    for (unsigned i = 0; i < MERGED_TREES; i++) {
        struct merged *m = &vcpu->mmu->tdp->merged[i];
        bool ours = (m->space & (PN_PAGE_SIZE - 1)) == vcpu->number + 1;
        if (m->root && ours && (all || m->asid == asid))
            drop_tree(vcpu->mmu, m);
    }
}

/* Return: the table, empty; NULL: out of memory. */
static struct sp *new_table(struct pn_mmu_vcpu *vcpu, unsigned level, pn_gfn gfn) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = slab_sp(mmu);
    if (!sp)
        return NULL;
    sp->role = ROLE_DIRECT | level;
    sp->node = vcpu->node;
    sp->gfn = gfn;
    sp->space = vcpu->space;
    sp->asid = vcpu->world.asid;
    mmu->tdp->merged_pages++;
    pn_count(vcpu->stats, merged_tables);
    pn_count(vcpu->stats, sp_created);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]++;
    pn_emit(vcpu->ring, get_page, gfn, sp->role, 1);
    return sp;
}

static bool of_world(const struct pn_mmu_vcpu *vcpu, const struct merged *m) {
    return m->root && m->space == vcpu->space && m->asid == vcpu->world.asid;
}

/* Return: the world's tree; NULL: there is none. */
static const struct merged *find_tree(const struct pn_mmu_vcpu *vcpu) {
    const struct tdp *t = vcpu->mmu->tdp;
    const struct merged *m = &t->merged[t->merged_last];
    for (unsigned i = 0; !of_world(vcpu, m) && i < MERGED_TREES; i++)
        m = &t->merged[i];
    return of_world(vcpu, m) ? m : NULL;
}

const struct sp *merged_root(const struct pn_mmu_vcpu *vcpu) {
    const struct merged *m = find_tree(vcpu);
    return m ? m->root : NULL;
}

/* The world's, in the place of the one that got a leaf longest ago. Return: its root; NULL: out of
 * memory. */
static struct sp *get_root(struct pn_mmu_vcpu *vcpu) {
    struct tdp *t = vcpu->mmu->tdp;
    struct merged *old = &t->merged[0];
    for (unsigned i = 0; i < MERGED_TREES; i++) {
        struct merged *m = &t->merged[i];
        if (of_world(vcpu, m)) {
            m->used = ++t->merged_clock;
            t->merged_last = i;
            return m->root;
        }
        old = m->used < old->used ? m : old;
    }
    drop_tree(vcpu->mmu, old);
    struct sp *root = new_table(vcpu, vcpu->second.levels > 4 ? 5 : 4, 0);
    if (!root)
        return NULL;
    *old = (struct merged){root, vcpu->space, ++t->merged_clock, vcpu->world.asid};
    return root;
}

/* ---- Entries ---- */

uint64_t merged_find(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, struct ewalk *w) {
    const struct merged *m = find_tree(vcpu);
    uint64_t refs = 0;
    *w = (struct ewalk){.level = vcpu->second.levels > 4 ? 5 : 4};
    if (!m)
        return REFS(w->level); /* a root without entries */
    w->ptep = &m->root->spt[level_index(gpa, w->level)];
    for (; ept_table(w->pte = *w->ptep, w->level);
         w->ptep = &ept_child(w->pte)[level_index(gpa, --w->level)])
        refs |= REFS(w->level);
    return refs | REFS(w->level);
}

unsigned merged_peek(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, struct ewalk *w) {
    merged_find(vcpu, gpa, w);
    return vcpu->second.levels > 4 ? 5 : 4;
}

static void clear_entry(struct pn_mmu *mmu, uint64_t *ptep) {
    struct sp *sp = sp_of(ptep);
    uint64_t v = *ptep;
    *ptep = 0;
    sp->used -= v != 0;
    if (ept_table(v, sp_level(sp)))
        free_below(mmu, sp_of(ept_child(v)));
}

uint64_t *merged_set_leaf(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, const struct walk *in,
                          unsigned lowest) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *root = get_root(vcpu);
    if (!root)
        return NULL;
    unsigned level = sp_level(root), acc = in->access;
    uint64_t *ptep = &root->spt[level_index(gpa, level)];
    for (; level > lowest; ptep = &ept_child(*ptep)[level_index(gpa, --level)]) {
        if (ept_table(*ptep, level))
            continue;
        struct sp *sp = new_table(vcpu, level - 1, ept_gfn(sp_of(ptep), sp_index(ptep)));
        if (!sp)
            return NULL;
        clear_entry(mmu, ptep);
        *ptep = EPT_RWX | EPT_A | (uintptr_t)sp->spt;
        sp_of(ptep)->used++;
    }
    clear_entry(mmu, ptep);
    bool dirty = in->dirty || !vcpu->second.bits.dirty;
    *ptep = (in->gfn & ~(level_pages(level) - 1)) << PN_PAGE_SHIFT | EPT_A |
            (level > 1 ? EPT_PS : 0) | (acc & ACC_USER ? EPT_R : 0) |
            (acc & ACC_EXEC ? EPT_X : 0) | (acc & ACC_EXEC_USER ? MERGED_XU : 0) |
            (dirty && acc & ACC_WRITE ? EPT_W | EPT_D : 0);
    sp_of(ptep)->used++;
    pn_count(vcpu->stats, merged_leaves);
    return ptep;
}

/* ---- The audit ---- */

static uint32_t audit_below(struct audit *a, const struct merged *m,
                            const struct sp *sp) {
    uint32_t tables = 1;
    unsigned used = 0;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t v = sp->spt[i];
        used += v != 0;
        if (!ept_table(v, sp_level(sp)))
            continue;
        const struct sp *child = sp_of(ept_child(v));
        if (sp_level(child) + 1 != sp_level(sp) || child->gfn != ept_gfn(sp, i))
            wrong(a, "merged table gfn %#llx entry %u leads to a foreign table",
                  (unsigned long long)sp->gfn, i);
        tables += audit_below(a, m, child);
    }
    if (used != sp->used || sp->space != m->space || sp->asid != m->asid)
        wrong(a, "merged table gfn %#llx: %u entries in use, not %u, or another's",
              (unsigned long long)sp->gfn, used, sp->used);
    return tables;
}

void merged_audit(struct audit *a) {
    const struct tdp *t = a->mmu->tdp;
    uint32_t tables = 0;
    for (unsigned i = 0; i < MERGED_TREES; i++)
        if (t->merged[i].root)
            tables += audit_below(a, &t->merged[i], t->merged[i].root);
    if (tables != t->merged_pages)
        wrong(a, "%u merged tables, not %u", tables, t->merged_pages);
}
