/* SPDX-License-Identifier: MIT */
/*
 * What the shadow tables hold, read for penumbra/explain.h.
 *
 * Invariant: nothing of the MMU is written.
 */
#include "mmu/core/explain.h"
#include "mmu/shadow/shadow.h"

/* ---- Pages ---- */

static uint32_t parents_of(const struct sp *sp) {
    return sp->parents ? ptrs_total(sp->parents) : 0;
}

static struct pn_table table_of(const struct pn_mmu *mmu, const struct sp *sp,
                                uint32_t age) {
    return (struct pn_table){
        .gfn = sp->gfn,
        .role = sp->role,
        .used = sp->used,
        .parents = parents_of(sp),
        .roots = sp->pinned,
        .flood = sp->flood,
        .age = age,
        .unsync_below = sp->unsync_children,
        .unsync = sp->unsync,
        .read_only = sp->read_only,
        .obsolete = !(sp->role & ROLE_ROOT) && sp_obsolete(mmu->shadow, sp),
    };
}

static uint32_t age_of(const struct pn_mmu *mmu, const struct sp *sp) {
    uint32_t age = 0;
    if (sp->role & ROLE_ROOT)
        return 0;
    for (const struct list *l = mmu->shadow->lru.next; l != &sp->lru; l = l->next)
        age++;
    return age;
}

void shadow_tables(struct pn_mmu *mmu, bool (*fn)(void *opaque, const struct pn_table *t),
                   void *opaque) {
    uint32_t age = 0;
    struct list *end = &mmu->shadow->lru;
    for (struct list *l = end->next; l != end; l = l->next) {
        struct pn_table t = table_of(mmu, list_sp(l), age++);
        if (!fn(opaque, &t))
            return;
    }
    for_each_root(mmu, v, r) {
        if (!r->top || !(r->top->role & ROLE_ROOT))
            continue;
        struct pn_table t = table_of(mmu, r->top, 0);
        if (!fn(opaque, &t))
            return;
    }
}

/* ---- One address ---- */

static void steps(struct pn_mmu *mmu, const struct root *r, pn_gva gva,
                  struct pn_explanation *x) {
    const uint64_t *t = r->spt;
    uint64_t grant = SPTE_GRANT;
    for (unsigned level = sp_level(r->top);; level--) {
        const struct sp *sp = sp_of(t);
        unsigned i = level_index(gva, level);
        uint64_t v = shadow_opened(mmu, sp, i);
        struct pn_step *step = explain_step(x);
        if (!step)
            return;
        grant &= v;
        *step = (struct pn_step){
            .dimension = PN_DIM_SHADOW,
            .level = (uint8_t)level,
            .reads = true,
            .unsync = sp->unsync,
            .index = (uint16_t)i,
            .at = sp->gfn << PN_PAGE_SHIFT,
            .entry = spte_public(v),
            .acc = spte_acc(grant),
            .role = sp->role,
        };
        if (!spte_table(v))
            return;
        t = spte_child(v);
    }
}

/* Who maps the frame: by pages of each size, whose lists are those of their first frames. */
static void rmap_part(struct pn_mmu *mmu, pn_gfn gfn, struct pn_explanation *x) {
    const struct slot *s = slot_of_gfn(mmu, gfn);
    for (unsigned level = 1; level <= 3; level++) {
        pn_gfn base = gfn & ~(level_pages(level) - 1);
        struct ptrs_pos pos = {0};
        if (base < s->gfn)
            return;
        for (uint64_t *p; (p = ptrs_next(s->rmap[base - s->gfn], &pos));) {
            const struct sp *sp = sp_of(p);
            if (sp_level(sp) != level)
                continue;
            if (x->rmap_count < PN_EXPLAIN_LIST)
                x->rmap[x->rmap_count] =
                    (struct pn_rmap){sp->gfn, sp->role, (uint16_t)sp_index(p),
                                     spte_public(shadow_opened(mmu, sp, sp_index(p)))};
            x->rmap_count++;
        }
    }
}

void shadow_explain(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                    struct pn_explanation *x) {
    struct pn_mmu *mmu = vcpu->mmu;
    const struct root *r = vcpu->roots->cur;
    pn_gfn gfn = x->gpa >> PN_PAGE_SHIFT;
    if (r->top && !(r->narrow && gva >> 32))
        steps(mmu, r, gva, x);
    if (!x->has_slot)
        return;
    rmap_part(mmu, gfn, x);
    for_each_table(mmu, sp, gfn) {
        if (x->shadowed_count < PN_EXPLAIN_LIST)
            x->shadowed[x->shadowed_count] = table_of(mmu, sp, age_of(mmu, sp));
        x->shadowed_count++;
    }
}

/* ---- All mappings of a root ---- */

struct look {
    struct pn_mmu *mmu;
    const struct root *r;
    bool (*fn)(void *opaque, const struct pn_mapping *m);
    void *opaque;
    uint32_t left; /* entries */
};

static bool leaf(struct look *l, const struct sp *sp, unsigned i, pn_gva gva,
                 uint64_t grant) {
    uint64_t v = shadow_opened(l->mmu, sp, i);
    bool store = (v & SPTE_STORE) == SPTE_STORE && grant & SPTE_D;
    struct pn_mapping m = {
        .from = gva,
        .size = level_pages(sp_level(sp)) << PN_PAGE_SHIFT,
        .entry = spte_public(v),
        .gpa = sp_gfn(sp, i) << PN_PAGE_SHIFT,
        .level = (uint8_t)sp_level(sp),
        .pkey = spte_pkey(v),
        .rights = (uint8_t)(spte_acc(grant) | (store ? PN_MAP_STORE : 0)),
    };
    return l->fn(l->opaque, &m);
}

static bool look_down(struct look *l, const struct sp *sp, pn_gva gva, uint64_t grant) {
    unsigned level = sp_level(sp), shift = PN_PAGE_SHIFT + 9 * (level - 1);
    bool top = sp == l->r->top;
    for (unsigned i = 0, left = sp->used; left && i < 512; i++) {
        uint64_t v = sp->spt[i];
        pn_gva from = gva | (uint64_t)i << shift;
        if (!l->left--)
            return false;
        if (!v)
            continue;
        left--;
        if (top && !l->r->narrow && i >> 8)
            from |= ~0ull << (shift + 8);
        bool more = spte_leaf(v)    ? leaf(l, sp, i, from, grant & v)
                    : spte_table(v) ? look_down(l, sp_of(spte_child(v)), from, grant & v)
                                    : true;
        if (!more)
            return false;
    }
    return true;
}

bool shadow_mappings(struct pn_mmu_vcpu *vcpu,
                     bool (*fn)(void *opaque, const struct pn_mapping *m), void *opaque) {
    const struct root *r = vcpu->roots->cur;
    struct look l = {vcpu->mmu, r, fn, opaque, EXPLAIN_ENTRIES_MAX};
    return !r->top || look_down(&l, r->top, 0, SPTE_GRANT);
}
