/* SPDX-License-Identifier: MIT */
/* The audit of the shadow MMU: sptes, shadow pages, rmap. */
#include "mmu/core/audit.h"
#include "mmu/shadow/shadow.h"

/* Start of every line about an spte or sp. */
#define SP_FMT     "sp gfn %#llx role %#x"
#define SP_ARG(sp) (unsigned long long)(sp)->gfn, (sp)->role

static bool ptrs_has(uint64_t head, const uint64_t *sptep) {
    struct ptrs_pos pos = {0};
    for (uint64_t *p; (p = ptrs_next(head, &pos));)
        if (p == sptep)
            return true;
    return false;
}

/* ---- sptes ---- */

static void audit_leaf(struct audit *a, const struct sp *sp, unsigned i) {
    uint64_t v = shadow_opened(a->mmu, sp, i);
    pn_gfn gfn = sp_gfn(sp, i);
    unsigned level = sp_level(sp);
    uint64_t pages = level_pages(level);
    struct slot *s = slot_of_gfn(a->mmu, gfn);
    if (!s || gfn - s->gfn + pages > s->npages) {
        wrong(a, SP_FMT " spte %u maps frames without a slot", SP_ARG(sp), i);
        return;
    }
    if (spte_hva(v) != slot_hva(s, gfn))
        wrong(a, SP_FMT " spte %u maps another host page", SP_ARG(sp), i);
    if (!ptrs_has(s->rmap[gfn - s->gfn], &sp->spt[i]))
        wrong(a, SP_FMT " spte %u is not in the rmap", SP_ARG(sp), i);
    if (v & SPTE_HOST_W && s->pub.flags & PN_SLOT_READONLY)
        wrong(a, SP_FMT " spte %u writes a read-only slot", SP_ARG(sp), i);
    if (level > 1 && (s->dirty || gfn & (pages - 1)))
        wrong(a, SP_FMT " spte %u must not be large", SP_ARG(sp), i);
    if (level > 1 && v & SPTE_MMU_W && *slot_large(s, gfn, level))
        wrong(a, SP_FMT " spte %u writes what forbids large pages", SP_ARG(sp), i);
    if (level == 1 && v & SPTE_MMU_W) {
        if (track_tables(s, gfn))
            wrong(a, SP_FMT " spte %u writes a tracked frame", SP_ARG(sp), i);
        if (s->dirty && !a->mmu->tracker->may_write(s, gfn))
            wrong(a, SP_FMT " spte %u writes an unlogged page", SP_ARG(sp), i);
    }
    uint64_t right = a->mmu->shadow->log_d ? SPTE_LOG_D : SPTE_MMU_W;
    if (level == 1 && sp->spt[i] & right && !(sp->granted >> i / 8 & 1))
        wrong(a, SP_FMT " spte %u has a right that harvests do not know of", SP_ARG(sp),
              i);
    if (v & SPTE_LOG_D && s->dirty && !a->mmu->tracker->layout && !dirty_test(s, gfn))
        wrong(a, SP_FMT " spte %u has a D that the log has not", SP_ARG(sp), i);
    if (!(v & SPTE_CODE) && (level > 1 || track_used(s, gfn)))
        wrong(a, SP_FMT " spte %u does not know of code", SP_ARG(sp), i);
    if (v & (SPTE_TLB_W | SPTE_TLB_X) && !(v & SPTE_TLB))
        wrong(a, SP_FMT " spte %u has half its TLB bits", SP_ARG(sp), i);
}

static void audit_table_spte(struct audit *a, const struct sp *sp, unsigned i) {
    const struct sp *child = sp_of(spte_child(sp->spt[i]));
    if (sp_level(child) + 1 != sp_level(sp) || !child->role ||
        child->spt != spte_child(sp->spt[i]))
        wrong(a, SP_FMT " spte %u leads to a page of level %u", SP_ARG(sp), i,
              sp_level(child));
    if (!ptrs_has(child->parents, &sp->spt[i]))
        wrong(a, SP_FMT " spte %u is no parent of its child", SP_ARG(sp), i);
    if (sp_obsolete(a->mmu->shadow, child) != sp_obsolete(a->mmu->shadow, sp))
        wrong(a, SP_FMT " spte %u joins two generations", SP_ARG(sp), i);
    bool below = child->unsync || child->unsync_children;
    if (below && !(sp->unsync_bits[i / 64] >> (i % 64) & 1))
        wrong(a, SP_FMT " spte %u hides an unsync page", SP_ARG(sp), i);
}

/* A synced spte is what its gpte says. */
static void audit_against_gpte(struct audit *a, const struct sp *sp, unsigned i,
                               const uint8_t *table) {
    uint64_t v = sp->spt[i];
    struct gpte g = gpte_decode(sp->format, sp_level(sp), sp_gpte(sp, i, table));
    if (!g.usable) {
        wrong(a, SP_FMT " spte %u stands for an unusable gpte", SP_ARG(sp), i);
        return;
    }
    if ((v & (SPTE_GRANT | SPTE_PKEY)) != g.grant)
        wrong(a, SP_FMT " spte %u %#llx grants other than %#llx", SP_ARG(sp), i,
              (unsigned long long)v, (unsigned long long)g.grant);
    pn_gfn gfn = g.leaf
                     ? gpte_leaf_gfn(sp->format, sp_level(sp), i, sp_gpte(sp, i, table))
                     : g.table;
    pn_gfn has;
    if (spte_table(v)) {
        const struct sp *child = sp_of(spte_child(v));
        has = child->gfn;
        if (sp_direct(child) != g.leaf)
            wrong(a, SP_FMT " spte %u: direct child is %u", SP_ARG(sp), i,
                  sp_direct(child));
    } else {
        has = sp_gfn(sp, i);
    }
    if (has != gfn)
        wrong(a, SP_FMT " spte %u is for gfn %#llx, gpte %#llx", SP_ARG(sp), i,
              (unsigned long long)has, (unsigned long long)gfn);
}

static void audit_sptes(struct audit *a, const struct sp *sp) {
    const uint8_t *table = NULL;
    unsigned used = 0;
    if (!sp_direct(sp)) {
        struct slot *s = slot_of_gfn(a->mmu, sp->gfn);
        if (!s) {
            wrong(a, SP_FMT " has no slot", SP_ARG(sp));
            return;
        }
        table = slot_hva(s, sp->gfn);
    }
    for (unsigned i = 0; i < 512; i++) {
        uint64_t v = sp->spt[i];
        if (!v)
            continue;
        used++;
        if (spte_leaf(v))
            audit_leaf(a, sp, i);
        else if (spte_table(v))
            audit_table_spte(a, sp, i);
        else if ((v >> PN_PAGE_SHIFT & SPTE_GEN) ==
                     (a->mmu->slots.generation & SPTE_GEN) &&
                 slot_of_gfn(a->mmu, sp_gfn(sp, i)))
            wrong(a, SP_FMT " spte %u calls memory MMIO", SP_ARG(sp), i);
        if (sp->frames)
            continue; /* what the second level says is not known here */
        if (sp_direct(sp)) {
            if ((v & (SPTE_GRANT | SPTE_PKEY)) != SPTE_GRANT && !(sp->role & ROLE_ROOT))
                wrong(a, SP_FMT " spte %u of a direct page is limited", SP_ARG(sp), i);
        } else if (!sp->unsync) {
            audit_against_gpte(a, sp, i, table);
        }
    }
    if (used != sp->used)
        wrong(a, SP_FMT " uses %u sptes, not %u", SP_ARG(sp), used, sp->used);
}

/* ---- sps ---- */

static void audit_links(struct audit *a, const struct sp *sp) {
    struct ptrs_pos pos = {0};
    unsigned parents = 0;
    for (uint64_t *p; (p = ptrs_next(sp->parents, &pos)); parents++)
        if (!spte_table(*p) || spte_child(*p) != sp->spt)
            wrong(a, SP_FMT " has a parent that leads elsewhere", SP_ARG(sp));
    if (parents > PTRS_MAX || (parents && parents != ptrs_total(sp->parents)))
        wrong(a, SP_FMT " has %u parents, not %u", SP_ARG(sp), parents,
              ptrs_total(sp->parents));
    unsigned bits = 0;
    for (unsigned i = 0; i < 512; i++)
        if (sp->unsync_bits[i / 64] >> (i % 64) & 1) {
            bits++;
            if (!spte_table(sp->spt[i]))
                wrong(a, SP_FMT " unsync bit %u without a child", SP_ARG(sp), i);
        }
    if (bits != sp->unsync_children)
        wrong(a, SP_FMT " has %u unsync bits, not %u", SP_ARG(sp), bits,
              sp->unsync_children);
    const struct shadow *sh = a->mmu->shadow;
    if (sp->unsync && (sp_level(sp) > sh->unsync_level || sp_direct(sp)))
        wrong(a, SP_FMT " must not be unsync", SP_ARG(sp));
    if (!sp->unsync && sh->open && !sp_direct(sp))
        wrong(a, SP_FMT " must be unsync", SP_ARG(sp));
    unsigned pins = 0;
    for_each_root(a->mmu, v, r)
        pins += r->top == sp;
    if (pins != sp->pinned)
        wrong(a, SP_FMT " is the top of %u roots, not %u", SP_ARG(sp), pins, sp->pinned);
}

static void audit_identity(struct audit *a, const struct sp *sp) {
    unsigned same = 0, synced = 0;
    bool found = false, unsync = false, upper = false;
    if (sp_direct(sp))
        return;
    for_each_table(a->mmu, other, sp->gfn) {
        found |= other == sp;
        synced += !other->unsync;
        unsync |= other->unsync;
        upper |= sp_level(other) > 1;
        same += other->role == sp->role && other->space == sp->space &&
                other->asid == sp->asid && !sp_obsolete(a->mmu->shadow, other);
    }
    if (!found)
        wrong(a, SP_FMT " is not in the hash", SP_ARG(sp));
    if (unsync && upper && a->mmu->shadow->unsync_level == 1)
        wrong(a, SP_FMT " is unsync, or stands beside such a one", SP_ARG(sp));
    if (same > 1)
        wrong(a, SP_FMT " exists %u times", SP_ARG(sp), same);
    struct slot *s = slot_of_gfn(a->mmu, sp->gfn);
    if (s && track_tables(s, sp->gfn) != synced)
        wrong(a, SP_FMT ": %u synced, track count %#x", SP_ARG(sp), synced,
              track_tables(s, sp->gfn));
}

static void audit_sps(struct audit *a) {
    struct shadow *sh = a->mmu->shadow;
    uint32_t pages = 0, obsolete = 0;
    for (struct list *l = sh->lru.next; l != &sh->lru; l = l->next) {
        pages++;
        if (l->next->prev != l)
            wrong(a, "the LRU list is torn");
    }
    for (struct sp_chunk *c = a->mmu->slab.chunks; c; c = c->next)
        for (unsigned i = 0; i < SP_PER_CHUNK; i++) {
            struct sp *sp = &c->sp[i];
            if (!sp->role)
                continue;
            obsolete += !(sp->role & ROLE_ROOT) && sp_obsolete(sh, sp);
            pages -= !(sp->role & ROLE_ROOT);
            audit_sptes(a, sp);
            audit_links(a, sp);
            audit_identity(a, sp);
        }
    if (pages)
        wrong(a, "the LRU list and the chunks differ by %d pages", (int)pages);
    if (obsolete != sh->obsolete)
        wrong(a, "%u obsolete pages, not %u", obsolete, sh->obsolete);
}

/* ---- Slots ---- */

static uint64_t audit_rmap(struct audit *a, const struct slot *s, uint64_t page) {
    uint64_t entries = 0;
    struct ptrs_pos pos = {0};
    for (uint64_t *p; (p = ptrs_next(s->rmap[page], &pos)); entries++)
        if (!spte_leaf(*p) || sp_gfn(sp_of(p), sp_index(p)) != s->gfn + page)
            wrong(a, "rmap of gfn %#llx has a foreign spte",
                  (unsigned long long)(s->gfn + page));
    if (entries != ptrs_total(s->rmap[page]) || entries > PTRS_MAX)
        wrong(a, "rmap of gfn %#llx has %llu sptes, not %u",
              (unsigned long long)(s->gfn + page), (unsigned long long)entries,
              ptrs_total(s->rmap[page]));
    return entries;
}

/* The rmap and what is tracked because it is shadowed. Return: leaves. */
static uint64_t audit_slot(struct audit *a, struct slot *s) {
    uint64_t leaves = 0;
    for (uint64_t i = 0; i < s->npages; i++) {
        pn_gfn gfn = s->gfn + i;
        if (s->rmap[i])
            leaves += audit_rmap(a, s, i);
        if (track_tables(s, gfn) && !sp_first(a->mmu, gfn))
            wrong(a, "gfn %#llx is tracked for nothing", (unsigned long long)gfn);
    }
    return leaves;
}

void shadow_audit(struct audit *a) {
    struct pn_mmu *mmu = a->mmu;
    uint64_t leaves = 0;
    audit_sps(a);
    for (uint32_t i = 0; i < mmu->slots.count; i++)
        leaves += audit_slot(a, mmu->slots.by_gfn[i]);
    if (leaves != mmu->shadow->leaves)
        wrong(a, "%llu leaves in the rmap, not %llu", (unsigned long long)leaves,
              (unsigned long long)mmu->shadow->leaves);
    for_each_root(mmu, v, r)
        if (r->top && (sp_obsolete(mmu->shadow, r->top) || r->spt != r->top->spt))
            wrong(a, "root %td has a wrong top", r - v->roots->root);
}

/* Reasons of ours against large mappings of a frame: its shadowed tables. */
void shadow_audit_large(struct audit *a, const struct slot *s, unsigned level,
                        uint32_t *want) {
    unsigned shift = 9 * (level - 1);
    const struct list *lru = &a->mmu->shadow->lru;
    for (struct list *l = lru->next; l != lru; l = l->next) {
        const struct sp *sp = (struct sp *)(void *)((char *)l - offsetof(struct sp, lru));
        if (!sp_direct(sp) && sp->gfn - s->gfn < s->npages)
            want[(sp->gfn >> shift) - (s->gfn >> shift)]++;
    }
}

/* ---- TLBs ---- */

void shadow_audit_entry(struct audit *a, const struct root *r, enum pn_tlb_mode mode,
                        unsigned i, pn_gva gva) {
    const struct pn_tlb_entry *e = &r->tlb[mode][i];
    uint64_t none = PN_TLB_NONE(i);
    struct swalk w;
    if (!r->top) {
        wrong(a, "TLB entry for gva %#llx under no root", (unsigned long long)gva);
        return;
    }
    shadow_walk(r, gva, &w);
    w.spte = shadow_opened(a->mmu, sp_of(w.sptep), sp_index(w.sptep));
    unsigned acc = spte_acc(w.grant);
    uint8_t pkey = spte_pkey(w.grant);
    uint64_t inside = (level_pages(w.level) << PN_PAGE_SHIFT) - 1;
    if (!spte_leaf(w.spte) ||
        e->hva != (uintptr_t)spte_hva(w.spte) + (gva & inside & PN_PAGE_MASK)) {
        wrong(a, "TLB entry for gva %#llx has no spte (%#llx level %u)",
              (unsigned long long)gva, (unsigned long long)w.spte, w.level);
        return;
    }
    for (enum pn_access t = PN_READ; t <= PN_FETCH; t++) {
        pn_gva page;
        if (e->tag[t] == none)
            continue;
        if (!tlb_tag_page(e, i, t, &page) || page != gva ||
            rights_check(&r->rights, acc, pkey, t, mode))
            wrong(a, "TLB entry for gva %#llx grants access %u in mode %u",
                  (unsigned long long)gva, t, mode);
    }
    if (e->tag[PN_WRITE] != none &&
        (!(w.grant & SPTE_D) || (w.spte & SPTE_STORE) != SPTE_STORE ||
         !(w.spte & SPTE_TLB_W) || a->mmu->shadow->log_d & ~w.spte))
        wrong(a, "TLB entry for gva %#llx is writable too early",
              (unsigned long long)gva);
    pn_gfn gfn = swalk_gfn(&w, gva);
    if (e->tag[PN_WRITE] == gva && track_used(slot_of_gfn(a->mmu, gfn), gfn))
        wrong(a, "TLB entry for gva %#llx lets a store to code go unseen",
              (unsigned long long)gva);
    if (e->tag[PN_FETCH] != none && !(w.spte & SPTE_TLB_X))
        wrong(a, "TLB entry for gva %#llx: fetch not noted", (unsigned long long)gva);
    if (!(w.spte & SPTE_TLB_1 << mode) || !(sp_of(w.sptep)->roots & r->bit))
        wrong(a, "TLB entry for gva %#llx not noted", (unsigned long long)gva);
}
