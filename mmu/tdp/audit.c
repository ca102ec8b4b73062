/* SPDX-License-Identifier: MIT */
/* The audit of the two-dimensional MMU: tables, leaves, and the TLBs against them. */
#include "mmu/core/audit.h"
#include "mmu/tdp/fill.h"

#define T_FMT        "table gfn %#llx level %u entry %u"
#define T_ARG(sp, i) (unsigned long long)(sp)->gfn, sp_level(sp), i

static void audit_leaf(struct audit *a, const struct sp *sp, unsigned i) {
    uint64_t v = sp->spt[i];
    unsigned level = sp_level(sp);
    pn_gfn gfn = ept_gfn(sp, i);
    struct slot *s = slot_of_gfn(a->mmu, gfn);
    if (!s || gfn - s->gfn + level_pages(level) > s->npages) {
        wrong(a, T_FMT " maps frames without a slot", T_ARG(sp, i));
        return;
    }
    if (ept_hva(v) != slot_hva(s, gfn))
        wrong(a, T_FMT " maps another host page", T_ARG(sp, i));
    if (!(v & EPT_X))
        wrong(a, T_FMT " denies execution", T_ARG(sp, i));
    if (level > 1 && (*slot_large(s, gfn, level) || !a->mmu->cfg.opt.large_pages))
        wrong(a, T_FMT " must not be large", T_ARG(sp, i));
    if (v & EPT_D && s->dirty && a->mmu->tracker->by_dbit && !a->mmu->tracker->layout &&
        !tdp_is_clean(sp, gfn) && !dirty_test(s, gfn))
        wrong(a, T_FMT " has a D that the log has not", T_ARG(sp, i));
    if (!(v & EPT_W))
        return;
    if (s->pub.flags & PN_SLOT_READONLY)
        wrong(a, T_FMT " writes a read-only slot", T_ARG(sp, i));
    if (!may_store_unseen(a->mmu, s, gfn, level) && !tdp_is_stale(sp, gfn))
        wrong(a, T_FMT " lets a write go unseen", T_ARG(sp, i));
}

bool ept_misconfigured(uint64_t v, unsigned level) {
    const struct pt_format *f = &pt_formats[PT_FORMAT_ept5];
    struct pt_bits bits;
    pt_bits_init(&bits, f, PT_1G, 52);
    return v & f->present && pt_reserved(f, &bits, level, v);
}

struct tables {
    struct visit v;
    struct audit *a;
    uint32_t count;
};

static void audit_used(struct audit *a, const struct sp *sp) {
    unsigned used = 0;
    for (unsigned i = 0; i < 512; i++)
        used += sp->spt[i] != 0;
    if (used != sp->used)
        wrong(a, T_FMT ": %u entries in use, not %u", T_ARG(sp, 0), used, sp->used);
}

static void audit_child(struct audit *a, const struct sp *sp, uint64_t *ptep,
                        pn_gfn gfn) {
    const struct sp *child = sp_of(ept_child(*ptep));
    if (child->spt != ept_child(*ptep) || child->parents != (uintptr_t)ptep ||
        child->role != (ROLE_DIRECT | (sp_level(sp) - 1)) || child->gfn != gfn)
        wrong(a, T_FMT " leads to a foreign table", T_ARG(sp, sp_index(ptep)));
    const struct slot *s = slot_of_gfn(a->mmu, gfn);
    if (!(*ptep & EPT_W) &&
        (sp_level(sp) != 2 || !s || gfn - s->gfn + level_pages(2) > s->npages))
        wrong(a, T_FMT " is closed", T_ARG(sp, sp_index(ptep)));
    if (*ptep & EPT_STALE && (sp_level(sp) != 2 || (*ptep & EPT_W && *ptep & EPT_A)))
        wrong(a, T_FMT " has stale leaves, and is used", T_ARG(sp, sp_index(ptep)));
    audit_used(a, child);
}

static void audit_mark(struct audit *a, const struct sp *sp, uint64_t v, unsigned i) {
    if (sp_level(sp) > 1 || (v & EPT_RWX) != EPT_MMIO)
        wrong(a, T_FMT " is neither present nor MMIO: %#llx", T_ARG(sp, i),
              (unsigned long long)v);
    else if (v == ept_mmio(a->mmu->slots.generation) &&
             slot_of_gfn(a->mmu, ept_gfn(sp, i)))
        wrong(a, T_FMT " calls memory MMIO", T_ARG(sp, i));
}

static void audit_entry(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                        enum visit_kind kind) {
    struct tables *t = (struct tables *)v;
    const struct sp *sp = sp_of(ptep);
    unsigned i = sp_index(ptep);
    if (kind == VISIT_LEAF) {
        audit_leaf(t->a, sp, i);
    } else if (kind == VISIT_TABLE) {
        t->count++;
        audit_child(t->a, sp, ptep, gfn);
    } else {
        audit_mark(t->a, sp, *ptep, i);
    }
    if (ept_present(*ptep) && ept_misconfigured(*ptep, level))
        wrong(t->a, T_FMT " is misconfigured: %#llx", T_ARG(sp, i),
              (unsigned long long)*ptep);
}

/* A way that is known is the tables' own, and A is set all along. */
static void audit_known(struct audit *a, const struct tdp *t, const struct known *k) {
    pn_gpa gpa = (k->region - 1) << KNOWN_SHIFT;
    const uint64_t *at = &t->root->spt[level_index(gpa, t->levels)];
    bool marked = true;
    uint64_t pass = ~0ull;
    for (unsigned level = t->levels; level > k->level && ept_table(*at, level); level--) {
        marked &= (*at & EPT_A) != 0;
        pass &= ept_pass(*at);
        at = &ept_child(*at)[level_index(gpa, level - 1)];
    }
    if (at != k->at || !marked || pass != k->pass)
        wrong(a, "the known way of gpa %#llx is another", (unsigned long long)gpa);
}

void tdp_audit(struct audit *a) {
    const struct tdp *t = a->mmu->tdp;
    struct tables all = {
        .v = {.vcpu = mmu_actor(a->mmu), .end = ~0ull, .at = audit_entry}, .a = a};
    all.v.kinds = VISIT_LEAF | VISIT_MARK | VISIT_TABLE;
    uint32_t listed = 0;
    for (unsigned i = 0; i < 1u << KNOWN_BITS; i++)
        if (t->known[i].region)
            audit_known(a, t, &t->known[i]);
    merged_audit(a);
    audit_used(a, t->root);
    tdp_visit(&all.v, t->root);
    for (struct list *l = t->lru.next; l != &t->lru; l = l->next) {
        listed++;
        if (l->next->prev != l)
            wrong(a, "the list of tables is torn");
    }
    if (all.count != listed || all.count != t->pages)
        wrong(a, "%u tables in the tree, %u on the list, not %u", all.count, listed,
              t->pages);
}

/* ---- TLBs ---- */

static bool hint_has(uint64_t h, unsigned index) {
    bool has = h & HINT_MANY;
    for (unsigned k = 0; k < (h >> HINT_COUNT & 7); k++)
        has |= (h >> (k * HINT_BITS) & (PN_TLB_ENTRIES - 1)) == index;
    return has;
}

/* Does this slot's frame account for the entry? (Two slots may share host memory.) */
static bool accounts_for(struct pn_mmu *mmu, struct slot *s, const struct pn_tlb_entry *e,
                         unsigned i) {
    pn_gfn gfn = s->gfn + ((e->hva - (uintptr_t)s->pub.hva) >> PN_PAGE_SHIFT);
    uint64_t h = s->tlb_hints[gfn - s->gfn];
    struct ewalk w;
    ept_peek(mmu->tdp, gfn << PN_PAGE_SHIFT, &w);
    if (!ept_leaf(w.pte, w.level) || !hint_has(h, i))
        return false;
    bool writes = e->tag[PN_WRITE] != PN_TLB_NONE(i);
    bool runs = e->tag[PN_FETCH] != PN_TLB_NONE(i);
    if (tlb_index(e->tag[PN_WRITE]) == i && track_used(s, gfn))
        return false;
    if (writes && ((w.pte & (EPT_W | EPT_D)) != (EPT_W | EPT_D) || !(h & HINT_W)))
        return false;
    return !runs || h & HINT_X;
}

void tdp_audit_entry(struct audit *a, const struct root *r, enum pn_tlb_mode mode,
                     unsigned i, pn_gva gva) {
    const struct pn_tlb_entry *e = &r->tlb[mode][i];
    bool found = false;
    for (uint32_t k = 0; k < a->mmu->slots.count && !found; k++) {
        struct slot *s = a->mmu->slots.by_gfn[k];
        if (e->hva - (uintptr_t)s->pub.hva < s->pub.size)
            found = accounts_for(a->mmu, s, e, i);
    }
    if (!found)
        wrong(a, "TLB entry for gva %#llx has no leaf that grants it",
              (unsigned long long)gva);
    pn_gva page;
    for (unsigned t = 0; t < 3; t++)
        if (e->tag[t] != PN_TLB_NONE(i) && (!tlb_tag_page(e, i, t, &page) || page != gva))
            wrong(a, "TLB entry for gva %#llx has tags of two pages",
                  (unsigned long long)gva);
    if (e->tag[PN_FETCH] != PN_TLB_NONE(i) && !tdp_was_fetched(r, gva))
        wrong(a, "TLB entry for gva %#llx: fetch not noted", (unsigned long long)gva);
    if (r->region[mode][i] != region_hash(gva))
        wrong(a, "TLB entry for gva %#llx: region not noted", (unsigned long long)gva);
}
