/* SPDX-License-Identifier: MIT */
/* The audit of the two-dimensional MMU: tables, leaves, and the TLBs against them. */
#include "mmu/core/audit.h"
#include "mmu/tdp/tdp.h"

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
    if (!(v & EPT_W))
        return;
    if (s->pub.flags & PN_SLOT_READONLY)
        wrong(a, T_FMT " writes a read-only slot", T_ARG(sp, i));
    if (level > 1 ? s->dirty != NULL : track_count(s, gfn) != 0)
        wrong(a, T_FMT " lets a write go unseen", T_ARG(sp, i));
    if (level == 1 && s->dirty && !tdp_by_dbit(a->mmu) && !dirty_test(s, gfn))
        wrong(a, T_FMT " writes an unlogged page", T_ARG(sp, i));
}

/* Return: tables below sp. */
static uint32_t audit_table(struct audit *a, const struct sp *sp) {
    unsigned level = sp_level(sp), used = 0;
    uint32_t tables = 0;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t v = sp->spt[i];
        used += v != 0;
        if (ept_leaf(v, level)) {
            audit_leaf(a, sp, i);
        } else if (ept_table(v, level)) {
            const struct sp *child = sp_of(ept_child(v));
            tables++;
            if (child->spt != ept_child(v) || child->parents != (uintptr_t)&sp->spt[i] ||
                child->role != (ROLE_DIRECT | (level - 1)) ||
                child->gfn != ept_gfn(sp, i)) {
                wrong(a, T_FMT " leads to a foreign table", T_ARG(sp, i));
                continue;
            }
            tables += audit_table(a, child);
        } else if (v && (level > 1 || (v & EPT_RWX) != EPT_MMIO)) {
            wrong(a, T_FMT " is neither present nor MMIO: %#llx", T_ARG(sp, i),
                  (unsigned long long)v);
        } else if (v == ept_mmio(a->mmu->slots.generation) &&
                   slot_of_gfn(a->mmu, ept_gfn(sp, i))) {
            wrong(a, T_FMT " calls memory MMIO", T_ARG(sp, i));
        }
        if (ept_present(v) && ept_misconfigured(v, level))
            wrong(a, T_FMT " is misconfigured: %#llx", T_ARG(sp, i),
                  (unsigned long long)v);
    }
    if (used != sp->used)
        wrong(a, T_FMT ": %u entries in use, not %u", T_ARG(sp, 0), used, sp->used);
    return tables;
}

void tdp_audit(struct audit *a) {
    const struct tdp *t = a->mmu->tdp;
    uint32_t listed = 0, tables = audit_table(a, t->root);
    for (struct list *l = t->lru.next; l != &t->lru; l = l->next) {
        listed++;
        if (l->next->prev != l)
            wrong(a, "the list of tables is torn");
    }
    if (tables != listed || tables != t->pages)
        wrong(a, "%u tables in the tree, %u on the list, not %u", tables, listed,
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
    for (unsigned t = 0; t < 3; t++)
        if (e->tag[t] != PN_TLB_NONE(i) && e->tag[t] != gva)
            wrong(a, "TLB entry for gva %#llx has tags of two pages",
                  (unsigned long long)gva);
    if (e->tag[PN_FETCH] != PN_TLB_NONE(i) && !tdp_was_fetched(r, gva))
        wrong(a, "TLB entry for gva %#llx: fetch not noted", (unsigned long long)gva);
}
