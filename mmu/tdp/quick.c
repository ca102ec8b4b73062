/* SPDX-License-Identifier: MIT */
/*
 * The quick way of a TLB miss: the walk in two dimensions where nothing is missing, every A and
 * D is set, the ways through the second level are known (struct known), and nobody asks for
 * events. It counts what the whole walk (fault.c) would count.
 *
 * How a walk came to 2 MiB of the guest's addresses is remembered (struct way). The tables
 * may have changed since without a word to us, so each entry is read again; but the reads do
 * not wait for each other, as those of a walk do.
 *
 * Invariants
 * 1. Until it is known that it answers, nothing is counted or changed but ways.
 * 2. While a way's gen is that of the tables, its ept are entries. Where those are what they
 *    were, a slot is there, and at and table are in it.
 */
#include "mmu/tdp/tdp.h"

#define WALK_EVENTS (1ull << PN_EV_pagetable_walk | 1ull << PN_EV_paging_element)

/* The leaf of gpa, if its way is known and it has `has`; else NULL. *pte: what it is on that way.
 * A leaf leads to where the slot has the page: who needs that need not wait for the leaf. */
static inline const uint64_t *known_leaf(const struct tdp *t, pn_gpa gpa, uint64_t has,
                                         uint64_t *refs, uint64_t *pte) {
    const struct known *k = &t->known[gpa >> KNOWN_SHIFT & ((1u << KNOWN_BITS) - 1)];
    if (k->region != (gpa >> KNOWN_SHIFT) + 1)
        return NULL;
    bool small = k->level == 1;
    const uint64_t *ptep = &k->at[small ? level_index(gpa, 1) : 0];
    *pte = *ptep & k->pass;
    *refs += t->refs[k->level];
    return (*pte & has) == has && (small || *pte & EPT_PS) ? ptep : NULL;
}

static inline uint64_t guest_entry(const uint64_t *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* What a leaf has to keep for the gptes in its page to be where they were. */
static inline uint64_t leaf_mask(const struct tdp *t) {
    return EPT_ADDR | EPT_PS | EPT_R | t->table_needs | t->table_sets;
}

static bool way_table(struct pn_mmu *mmu, struct way *y, pn_gpa gpa, const void **at) {
    const struct tdp *t = mmu->tdp;
    uint64_t pte;
    const uint64_t *ptep =
        known_leaf(t, gpa, EPT_R | t->table_needs | t->table_sets, &y->refs, &pte);
    unsigned i = 0;
    *at = slot_ref(mmu, gpa).host;
    if (!ptep || !*at)
        return false;
    while (i < y->leaves && y->ept[i] != ptep)
        i++;
    y->ept[i] = ptep;
    y->pte[i] = pte & leaf_mask(t);
    y->leaves += i == y->leaves;
    return true;
}

/* Go it: four or five levels of plain entries. Return: false: this is none. */
static __attribute__((noinline)) bool way_find(struct pn_mmu *mmu, const struct stage *s,
                                               pn_gva gva, struct way *y) {
    const struct pt_bits *b = &s->bits;
    pn_gpa table = s->root & b->address;
    const void *at;
    bool large = false;
    *y = (struct way){
        .root = s->root, .gen = mmu->tdp->gen, .mode = s->mode, .acc = ACC_ALL};
    for (unsigned level = s->levels; level > 1 && !large; level--) {
        if (!way_table(mmu, y, table + 8 * level_index(gva, level), &at))
            return false;
        uint64_t v = guest_entry(at);
        large = v & b->large;
        if ((v & b->needed) != b->needed || v & b->rsvd[large][level])
            return false;
        y->level = (uint8_t)level;
        y->at[y->entries] = at;
        y->gpte[y->entries++] = v;
        y->acc &= pt_acc_plain(v);
        table = v & b->address;
    }
    if (!large && !way_table(mmu, y, table, &at))
        return false;
    y->table = large ? NULL : at;
    y->region = (gva >> WAY_SHIFT) + 1;
    return true;
}

/* Would a walk go it now? */
static inline bool way_holds(const struct tdp *t, const struct stage *s, pn_gva gva,
                             const struct way *y) {
    if (y->region != (gva >> WAY_SHIFT) + 1 || y->root != s->root || y->gen != t->gen ||
        y->mode != s->mode)
        return false;
    for (unsigned i = 0; i < y->leaves; i++)
        if ((*y->ept[i] & leaf_mask(t)) != y->pte[i])
            return false;
    for (unsigned i = 0; i < y->entries; i++)
        if (guest_entry(y->at[i]) != y->gpte[i])
            return false;
    return true;
}

/* The guest's tables, of four or five levels and plain entries, down to a leaf that has A.
 * Return: false: this way does not answer. *refs: REFS of the second level. */
static inline bool guest_walk(struct pn_mmu_vcpu *vcpu, const struct stage *s, pn_gva gva,
                              struct walk *w, uint64_t *refs) {
    const struct pt_bits *b = &s->bits;
    uint64_t h = (gva >> WAY_SHIFT ^ s->root << 12) * UINT64_C(0x9e3779b97f4a7c15);
    struct way *y = &vcpu->roots->way[h >> 32 & (WAYS - 1)];
    if (!way_holds(vcpu->mmu->tdp, s, gva, y) && !way_find(vcpu->mmu, s, gva, y))
        return false;
    uint64_t v = y->gpte[y->entries - 1];
    unsigned level = y->level;
    w->access = y->acc;
    if (y->table) {
        v = guest_entry(&y->table[level_index(gva, 1)]);
        level = 1;
        if ((v & b->needed) != b->needed || v & b->rsvd[(v & b->large) != 0][1])
            return false;
        w->access &= pt_acc_plain(v);
    }
    *refs = y->refs;
    w->top = s->levels;
    w->level = (uint8_t)level;
    w->pkey = v >> b->pkey_shift & b->pkey_mask;
    w->dirty = v & b->dirty;
    w->gfn =
        (v & b->address & ~((level_pages(level) << PN_PAGE_SHIFT) - 1)) >> PN_PAGE_SHIFT |
        (gva >> PN_PAGE_SHIFT & (level_pages(level) - 1));
    return true;
}

static inline void count(struct pn_stats *st, const struct walk *w, uint64_t refs) {
    pn_count(st, tlb_miss);
    count_packed(st, refs);
    st->v[PN_STAT_gpte_reads] += w->top - w->level + 1u;
    for (unsigned level = w->level; level <= w->top; level++)
        pn_count_level(st, gpte_reads, level);
}

bool tdp_quick(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
               enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct pn_mmu *mmu = vcpu->mmu;
    const struct tdp *t = mmu->tdp;
    const struct stage *s = &vcpu->walk;
    bool store = access == PN_WRITE;
    uint64_t pte, refs, has = EPT_R | EPT_A | (store ? EPT_W | EPT_D : 0);
    struct walk w;
    if (s->levels < 4 || s->below != &tdp_stage || access > PN_FETCH || vcpu->apic ||
        (vcpu->ring && vcpu->ring->mask & WALK_EVENTS))
        return false;
    if (!guest_walk(vcpu, s, gva, &w, &refs) || (store && !w.dirty))
        return false;
    unsigned denied = rights_denied(&s->rights, w.access, w.pkey, mode);
    pn_gpa gpa = w.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    if (denied >> access & 1 || !known_leaf(t, gpa, has, &refs, &pte))
        return false;
    count(vcpu->stats, &w, refs);
    struct slot *slot = slot_of_gfn(mmu, w.gfn);
    out->gpa = gpa;
    out->hva = slot_hva(slot, w.gfn) + (gva & (PN_PAGE_SIZE - 1));
    tdp_tlb_fill(vcpu, vcpu->roots->cur, gva, access, mode, &w, slot, pte);
    return true;
}
