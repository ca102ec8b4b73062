/* SPDX-License-Identifier: MIT */
/*
 * The quick way of a TLB miss: the walk in two dimensions where nothing is missing, every A and
 * D is set, the ways through the second level are known (struct known), and nobody asks for
 * events. It counts what the whole walk (fault.c) would count.
 *
 * Invariant: until it is known that it answers, nothing is counted or changed.
 */
#include "mmu/tdp/tdp.h"

#define WALK_EVENTS (1ull << PN_EV_pagetable_walk | 1ull << PN_EV_paging_element)

/* The leaf of gpa, if its way is known and it has `has`; else 0. A leaf leads to where the slot
 * has the page: who needs that need not wait for the leaf. */
static inline uint64_t known_leaf(const struct tdp *t, pn_gpa gpa, uint64_t has,
                                  uint64_t *refs) {
    const struct known *k = &t->known[gpa >> KNOWN_SHIFT & ((1u << KNOWN_BITS) - 1)];
    if (k->region != (gpa >> KNOWN_SHIFT) + 1)
        return 0;
    bool small = k->level == 1;
    uint64_t pte = k->at[small ? level_index(gpa, 1) : 0] & k->pass;
    *refs += t->refs[k->level];
    return (pte & has) == has && (small || pte & EPT_PS) ? pte : 0;
}

/* The guest's tables, of four or five levels and plain entries, down to a leaf that has A.
 * Return: false: this way does not answer. *refs: REFS of the second level. */
static inline bool guest_walk(struct pn_mmu *mmu, const struct stage *s, pn_gva gva,
                              struct walk *w, uint64_t *refs) {
    const struct tdp *t = mmu->tdp;
    const struct pt_bits *b = &s->bits;
    uint64_t has = EPT_R | t->table_needs | t->table_sets, v;
    pn_gpa table = s->root & b->address;
    unsigned acc = ACC_ALL, level = s->levels;
    *refs = 0;
    for (;; level--, table = v & b->address) {
        pn_gpa gpa = table + 8 * level_index(gva, level);
        const void *at = slot_ref(mmu, gpa).host;
        if (!at || !known_leaf(t, gpa, has, refs))
            return false;
        v = __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
        acc &= pt_acc_plain(v);
        bool large = v & b->large;
        if ((v & b->needed) != b->needed || v & b->rsvd[large][level])
            return false;
        if (level == 1 || large)
            break;
    }
    w->top = s->levels;
    w->level = (uint8_t)level;
    w->access = acc;
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
    uint64_t refs, pte, has = EPT_R | EPT_A | (store ? EPT_W | EPT_D : 0);
    struct walk w;
    if (s->levels < 4 || s->below != &tdp_stage || access > PN_FETCH ||
        (vcpu->ring && vcpu->ring->mask & WALK_EVENTS))
        return false;
    if (!guest_walk(mmu, s, gva, &w, &refs) || (store && !w.dirty))
        return false;
    unsigned denied = rights_denied(&s->rights, w.access, w.pkey, mode);
    pn_gpa gpa = w.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    if (denied >> access & 1 || !(pte = known_leaf(t, gpa, has, &refs)))
        return false;
    count(vcpu->stats, &w, refs);
    struct slot *slot = slot_of_gfn(mmu, w.gfn);
    out->gpa = gpa;
    out->hva = slot_hva(slot, w.gfn) + (gva & (PN_PAGE_SIZE - 1));
    tdp_tlb_fill(vcpu, vcpu->roots->cur, gva, access, mode, &w, slot, pte);
    return true;
}
