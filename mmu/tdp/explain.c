/* SPDX-License-Identifier: MIT */
/*
 * What the second-level tables hold, read for penumbra/explain.h.
 *
 * Invariant: nothing of the MMU is written.
 */
#include "mmu/core/explain.h"
#include "mmu/tdp/tdp.h"

/* ---- One address ---- */

/* An entry's rights; R stands for U, as in core/format.h. */
static unsigned acc_of(uint64_t v) {
    return (v & EPT_R ? ACC_USER : 0) | (v & EPT_W ? ACC_WRITE : 0) |
           (v & EPT_X ? ACC_EXEC : 0);
}

/* From that table down. of: the level of the gpte that is looked for; 0: the page. */
static void steps(const struct sp *top, pn_gpa gpa, unsigned of,
                  struct pn_explanation *x) {
    const uint64_t *spt = top->spt;
    unsigned acc = ACC_ALL;
    uint64_t d = EPT_D;
    for (unsigned level = sp_level(top);; level--) {
        unsigned i = level_index(gpa, level);
        uint64_t v = spt[i] & (ept_leaf(spt[i], level) ? d | ~EPT_D : ~0ull);
        struct pn_step *step = explain_step(x);
        if (!step)
            return;
        acc &= acc_of(v);
        *step = (struct pn_step){
            .dimension = PN_DIM_SECOND,
            .level = (uint8_t)level,
            .of = (uint8_t)of,
            .reads = true,
            .index = (uint16_t)i,
            .at = gpa,
            .entry = ept_public(v),
            .acc = acc,
            .role = sp_of(spt)->role,
        };
        if (!ept_table(v, level))
            return;
        d = ept_clean(v, gpa) ? 0 : d;
        spt = ept_child(v);
    }
}

/* An address of the guest's guest through merged tables. */
static void merged_steps(struct pn_mmu_vcpu *vcpu, const struct walk *w,
                         struct pn_explanation *x) {
    const struct sp *top = merged_root(vcpu);
    for (unsigned level = walk_first(w); top && level >= w->level && level; level--)
        steps(top, w->pte_gpa[level], level, x);
    if (top && x->reaches)
        steps(top, x->ngpa, 0, x);
}

void tdp_explain(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                 struct pn_explanation *x) {
    const struct tdp *t = vcpu->mmu->tdp;
    if (tdp_merges(vcpu)) {
        merged_steps(vcpu, w, x);
        return;
    }
    for (unsigned level = walk_first(w); level >= w->level && level; level--)
        if (tdp_reaches(t, w->slot_gpa[level]))
            steps(t->root, w->slot_gpa[level], level, x);
    if (x->found && tdp_reaches(t, x->gpa))
        steps(t->root, x->gpa, 0, x);
}

/* ---- All of it ---- */

struct look {
    struct visit v;
    bool (*fn)(void *opaque, const struct pn_mapping *m);
    void *opaque;
    bool enough;
};

static void leaf(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                 enum visit_kind kind) {
    struct look *l = (struct look *)v;
    unsigned acc = acc_of(*ptep) & (tdp_closed(sp_of(ptep)) ? ~ACC_WRITE : ACC_ALL);
    uint64_t d = tdp_is_clean(sp_of(ptep), gfn) ? EPT_D : 0;
    struct pn_mapping m = {
        .from = gfn << PN_PAGE_SHIFT,
        .size = level_pages(level) << PN_PAGE_SHIFT,
        .entry = ept_public(*ptep & ~d),
        .gpa = gfn << PN_PAGE_SHIFT,
        .level = (uint8_t)level,
        .rights = (uint8_t)(acc | (acc & ACC_WRITE ? PN_MAP_STORE : 0)),
    };
    if (!l->enough)
        l->enough = !l->fn(l->opaque, &m);
}

bool tdp_mappings(struct pn_mmu_vcpu *vcpu,
                  bool (*fn)(void *opaque, const struct pn_mapping *m), void *opaque) {
    struct look l = {.v = {.vcpu = vcpu, .end = ~0ull, .kinds = VISIT_LEAF, .at = leaf},
                     .fn = fn,
                     .opaque = opaque};
    tdp_visit(&l.v, vcpu->mmu->tdp->root);
    return !l.enough;
}

void tdp_tables(struct pn_mmu *mmu, bool (*fn)(void *opaque, const struct pn_table *t),
                void *opaque) {
    const struct tdp *t = mmu->tdp;
    struct pn_table root = {.role = t->root->role, .used = t->root->used, .roots = 1};
    uint32_t age = 0;
    if (!fn(opaque, &root))
        return;
    for (struct list *l = t->lru.next; l != &t->lru; l = l->next) {
        const struct sp *sp = list_sp(l);
        struct pn_table one = {.gfn = sp->gfn,
                               .role = sp->role,
                               .used = sp->used,
                               .parents = 1,
                               .age = age++};
        if (!fn(opaque, &one))
            return;
    }
}
