/* SPDX-License-Identifier: MIT */
/*
 * The quick way of a TLB miss: the walk in two dimensions where nothing is missing, every A and
 * D is set, the ways through the second level are known (struct known), and nobody asks for
 * events. It counts what the whole walk (fault.c) would count.
 *
 * How a walk came to 2 MiB of the guest's addresses is remembered (struct way). The tables
 * may have changed since without a word to us, so each entry is read again; but the reads do
 * not wait for each other, as those of a walk do. Of a guest's guest it is remembered in the same
 * way, with the entries of the second level in guest memory among the others (struct nest_way);
 * that second level has ways of its own, as a guest has.
 *
 * Invariants
 * 1. Until it is known that it answers, nothing is counted or changed but ways.
 * 2. While a way's gen is that of the tables, the leaves that it came by are what they were, but
 *    for rights that walks of tables do not need. So a slot is there, and at and table are in it.
 */
#include "mmu/tdp/fill.h"

#define WALK_EVENTS (1ull << PN_EV_pagetable_walk | 1ull << PN_EV_paging_element)

/* The leaf of gpa, if its way is known and it has `has`; else NULL. *pte: what it is on that way.
 * A leaf leads to where the slot has the page: who needs that need not wait for the leaf. */
static inline const uint64_t *known_leaf(const struct tdp *t, pn_gpa gpa, uint64_t has,
                                         uint64_t *refs, uint64_t *pte) {
    const struct known *k = &t->known[gpa >> KNOWN_SHIFT & ((1u << KNOWN_BITS) - 1)];
    if (__atomic_load_n(&k->region, __ATOMIC_ACQUIRE) != (gpa >> KNOWN_SHIFT) + 1)
        return NULL;
    bool small = k->level == 1;
    const uint64_t *ptep = &k->at[small ? level_index(gpa, 1) : 0];
    *pte = ept_get(ptep) & k->pass;
    *refs += t->refs[k->level];
    return (*pte & has) == has && (small || *pte & EPT_PS) ? ptep : NULL;
}

static inline uint64_t guest_entry(const uint64_t *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* Of an entry: may it be used as it is? And what it leaves of the rights. plain: of the formats
 * with W, U and NX, which is known where it matters. */
#define FOLDED static inline __attribute__((always_inline))
FOLDED bool entry_good(const struct pt_bits *b, unsigned level, uint64_t v, bool plain) {
    if ((v & b->needed) != b->needed || v & b->rsvd[(v & b->large) != 0][level])
        return false;
    return plain || (pt_present(b->format, b, v) && !pt_reserved(b->format, b, level, v));
}
FOLDED unsigned entry_acc(const struct pt_bits *b, uint64_t v, bool plain) {
    return plain ? pt_acc_plain(v) : pt_acc(b->format, v) | pt_acc_user(b->format, b, v);
}

/* Where a gpte at gpa is, whose leaf may be used. Return: false: it may not. */
static bool table_at(struct pn_mmu *mmu, pn_gpa gpa, uint64_t *refs, const void **at) {
    const struct tdp *t = mmu->tdp;
    uint64_t pte;
    *at = slot_ref(mmu, gpa).host;
    return *at && known_leaf(t, gpa, EPT_R | t->table_needs | t->table_sets, refs, &pte);
}

/* Go it: four or five levels of 512 entries. Return: false: this is none. */
static __attribute__((noinline)) bool way_find(struct pn_mmu *mmu, const struct stage *s,
                                               pn_gva gva, struct way *y) {
    const struct pt_bits *b = &s->bits;
    pn_gpa table = s->root & b->address;
    const void *at;
    bool large = false;
    *y = (struct way){
        .root = s->root, .gen = mmu->tdp->gen, .mode = s->mode, .acc = ACC_SETS - 1};
    for (unsigned level = s->levels; level > 1 && !large; level--) {
        if (!table_at(mmu, table + 8 * level_index(gva, level), &y->refs, &at))
            return false;
        uint64_t v = guest_entry(at);
        large = v & b->large;
        if (!entry_good(b, level, v, b->plain))
            return false;
        y->level = (uint8_t)level;
        y->at[y->entries] = at;
        y->gpte[y->entries++] = v;
        y->acc &= entry_acc(b, v, b->plain);
        table = v & b->address;
    }
    if (!large && !table_at(mmu, table, &y->refs, &at))
        return false;
    y->table = large ? NULL : at;
    for (unsigned i = y->entries; i < WAY_ENTRIES; i++) {
        y->at[i] = y->at[0];
        y->gpte[i] = y->gpte[0];
    }
    y->region = (gva >> WAY_SHIFT) + 1;
    return true;
}

/* Would a walk go it now? */
static inline bool way_holds(const struct tdp *t, const struct stage *s, pn_gva gva,
                             const struct way *y) {
    if (y->region != (gva >> WAY_SHIFT) + 1 || y->root != s->root || y->gen != t->gen ||
        y->mode != s->mode)
        return false;
    uint64_t differ = 0;
    for (unsigned i = 0; i < WAY_ENTRIES;
         i++) /* some more than once, rather than a branch */
        differ |= guest_entry(y->at[i]) ^ y->gpte[i];
    return !differ;
}

/* The way of a stage that stands on our tables. Return: NULL: none answers. */
FOLDED struct way *way_of(struct pn_mmu_vcpu *vcpu, const struct stage *s, pn_gva gva) {
    uint64_t h = (gva >> WAY_SHIFT ^ s->root << 12) * UINT64_C(0x9e3779b97f4a7c15);
    struct way *y = &vcpu->roots->way[h >> 32 & (WAYS - 1)];
    bool holds = way_holds(vcpu->mmu->tdp, s, gva, y) || way_find(vcpu->mmu, s, gva, y);
    return holds ? y : NULL;
}

/* The end of a way: `last`, or an entry of `table`. w->access is what the way leaves. Return:
 * false: it does not answer. */
FOLDED bool way_end(const struct stage *s, pn_gva gva, const uint64_t *table,
                    uint64_t last, unsigned level, bool plain, struct walk *w) {
    const struct pt_bits *b = &s->bits;
    uint64_t v = last;
    if (table) {
        v = guest_entry(&table[level_index(gva, 1)]);
        level = 1;
        if (!entry_good(b, 1, v, plain))
            return false;
        w->access &= entry_acc(b, v, plain);
    }
    w->top = s->levels;
    w->level = (uint8_t)level;
    w->pkey = v >> b->pkey_shift & b->pkey_mask;
    w->dirty = v & b->dirty;
    w->gfn =
        (v & b->address & ~((level_pages(level) << PN_PAGE_SHIFT) - 1)) >> PN_PAGE_SHIFT |
        (gva >> PN_PAGE_SHIFT & (level_pages(level) - 1));
    return true;
}

/* A stage of four or five levels of 512 entries, down to a leaf that has A. Return: the way; NULL:
 * none answers. *refs: REFS of the second level. */
FOLDED const struct way *guest_walk(struct pn_mmu_vcpu *vcpu, const struct stage *s,
                                    pn_gva gva, bool plain, struct walk *w,
                                    uint64_t *refs) {
    const struct way *y = way_of(vcpu, s, gva);
    if (!y)
        return NULL;
    w->access = y->acc;
    *refs = y->refs;
    return way_end(s, gva, y->table, y->gpte[y->entries - 1], y->level, plain, w) ? y
                                                                                  : NULL;
}

/* The guest's tables have at least four levels, and leaves in three. */
static inline void count(struct pn_stats *st, const struct walk *w, uint64_t refs) {
    pn_count(st, tlb_miss);
    count_packed(st, refs);
    st->v[PN_STAT_gpte_reads] += w->top - w->level + 1u;
    st->v[PN_STAT_gpte_reads_l1] += w->level == 1;
    st->v[PN_STAT_gpte_reads_l2] += w->level <= 2;
    st->v[PN_STAT_gpte_reads_l3]++;
    st->v[PN_STAT_gpte_reads_l4]++;
    st->v[PN_STAT_gpte_reads_l5] += w->top == 5;
}

/* What is found goes into the TLB: w came to it, and the leaf that is pte lets it pass. */
FOLDED void answer(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode, const struct walk *w, unsigned denied,
                   uint64_t pte, struct pn_xlate *out) {
    struct slot *slot = slot_of_gfn(vcpu->mmu, w->gfn);
    out->gpa = w->gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    out->hva = slot_hva(slot, w->gfn) + (gva & (PN_PAGE_SIZE - 1));
    fill(vcpu, vcpu->roots->cur, gva, access, mode, w, denied, slot, pte);
}

/* What our leaf of a page needs for the access. */
static inline uint64_t leaf_has(enum pn_access access) {
    return EPT_R | EPT_A | (access == PN_WRITE ? EPT_W | EPT_D : 0);
}

/* ---- A guest's guest ---- */

/* REFS of the levels from `level` to `top`. */
static inline uint64_t refs_between(unsigned level, unsigned top) {
    return (0x0101010101u >> 8 * (PT_LEVELS - 1 - (top - level))) << 8 * (level - 1);
}

/* An address through the second level in guest memory. Return: the way, as guest_walk; NULL, too,
 * where its rights deny the access. *refs, *reads: what that is of REFS is added. */
static inline const struct way *second_walk(struct pn_mmu_vcpu *vcpu, pn_gpa gpa,
                                            enum pn_access access, enum pn_tlb_mode mode,
                                            struct walk *w, uint64_t *refs,
                                            uint64_t *reads) {
    const struct stage *s = &vcpu->second;
    uint64_t own;
    const struct way *y = s->bits.plain ? guest_walk(vcpu, s, gpa, true, w, &own)
                                        : guest_walk(vcpu, s, gpa, false, w, &own);
    if (!y || rights_check(&s->rights, w->access, 0, access, mode) ||
        (access == PN_WRITE && s->bits.dirty && !w->dirty))
        return NULL;
    *refs += own;
    *reads += refs_between(w->level, w->top);
    return y;
}

/* Return: false: there are too many. */
static bool nest_entry(struct nest_way *y, const uint64_t *at, uint64_t v) {
    unsigned i = 0;
    while (i < y->entries && y->at[i] != at)
        i++;
    if (i == NEST_ENTRIES)
        return false;
    y->at[i] = at;
    y->entry[i] = v;
    y->entries += i == y->entries;
    return true;
}

/* The guest's entry at that address of its own: all that leads there. Return: false: none. */
static bool nest_table(struct pn_mmu_vcpu *vcpu, struct nest_way *y, pn_gpa gpa,
                       const void **at) {
    struct walk w;
    const struct way *z =
        second_walk(vcpu, gpa, vcpu->second.table, PN_TLB_USER, &w, &y->refs, &y->reads);
    bool fits = z;
    for (unsigned i = 0; fits && i < z->entries; i++)
        fits = nest_entry(y, z->at[i], z->gpte[i]);
    if (fits && z->table) {
        const uint64_t *leaf = &z->table[level_index(gpa, 1)];
        fits = nest_entry(y, leaf, guest_entry(leaf));
    }
    if (!fits)
        return false;
    gpa = w.gfn << PN_PAGE_SHIFT | (gpa & (PN_PAGE_SIZE - 1));
    return table_at(vcpu->mmu, gpa, &y->refs, at);
}

static __attribute__((noinline)) bool nest_find(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                                struct nest_way *y) {
    const struct stage *s = &vcpu->walk;
    const struct pt_bits *b = &s->bits;
    pn_gpa table = s->root & b->address;
    const void *at;
    bool large = false;
    *y = (struct nest_way){.root = s->root,
                           .gen = vcpu->mmu->tdp->gen,
                           .second = vcpu->second.root,
                           .mode = s->mode,
                           .second_mode = vcpu->second.mode,
                           .acc = ACC_SETS - 1};
    for (unsigned level = s->levels; level > 1 && !large; level--) {
        if (!nest_table(vcpu, y, table + 8 * level_index(gva, level), &at))
            return false;
        uint64_t v = guest_entry(at);
        large = v & b->large;
        if (!entry_good(b, level, v, true) || !nest_entry(y, at, v))
            return false;
        y->level = (uint8_t)level;
        y->last = v;
        y->acc &= pt_acc_plain(v);
        table = v & b->address;
    }
    if (!large && !nest_table(vcpu, y, table, &at))
        return false;
    y->table = large ? NULL : at;
    y->region = (gva >> WAY_SHIFT) + 1;
    return true;
}

static inline bool nest_holds(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                              const struct nest_way *y) {
    const struct tdp *t = vcpu->mmu->tdp;
    const struct stage *s = &vcpu->walk;
    if (y->region != (gva >> WAY_SHIFT) + 1 || y->root != s->root || y->gen != t->gen ||
        y->mode != s->mode || y->second != vcpu->second.root ||
        y->second_mode != vcpu->second.mode)
        return false;
    uint64_t differ = 0;
    for (unsigned i = 0; i < y->entries; i++)
        differ |= guest_entry(y->at[i]) ^ y->entry[i];
    return !differ;
}

static inline void count_reads(struct pn_stats *st, uint64_t reads) {
    st->v[PN_STAT_npte_reads] += refs_total(reads);
    for (unsigned level = 1; level <= PT_LEVELS; level++, reads >>= 8)
        st->v[PN_STAT_LEVEL0_npte_reads + level] += reads & 255;
}

static __attribute__((noinline)) bool quick_nested(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                                   enum pn_access access,
                                                   enum pn_tlb_mode mode,
                                                   struct pn_xlate *out) {
    const struct stage *s = &vcpu->walk, *second = &vcpu->second;
    if (s->below != second || second->below != &tdp_stage || second->levels < 4)
        return false;
    uint64_t h = (gva >> WAY_SHIFT ^ s->root << 12) * UINT64_C(0x9e3779b97f4a7c15);
    struct nest_way *y = &vcpu->roots->nest[h >> 32 & (NEST_WAYS - 1)];
    if (!nest_holds(vcpu, gva, y) && !nest_find(vcpu, gva, y))
        return false;
    struct walk w = {.access = y->acc}, in;
    uint64_t pte, refs = y->refs, reads = y->reads;
    if (!way_end(s, gva, y->table, y->last, y->level, true, &w) ||
        (access == PN_WRITE && !w.dirty) ||
        rights_denied(&s->rights, w.access, w.pkey, mode) >> access & 1)
        return false;
    pn_gpa gpa = w.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    if (!second_walk(vcpu, gpa, second_asked(access),
                     w.access & ACC_USER ? PN_TLB_USER : PN_TLB_SUPER, &in, &refs,
                     &reads))
        return false;
    walk_take_second(&w, second, &in);
    if (!walk_cacheable(&w) || w.gfn + 1 == vcpu->apic ||
        !known_leaf(vcpu->mmu->tdp, w.gfn << PN_PAGE_SHIFT, leaf_has(access), &refs,
                    &pte))
        return false;
    count(vcpu->stats, &w, refs);
    count_reads(vcpu->stats, reads);
    answer(vcpu, gva, access, mode, &w,
           rights_denied(&vcpu->walk.rights, w.access, w.pkey, mode), pte, out);
    return true;
}

/* ---- All ---- */

/* looks: beside whoever changes the tables (pn_mmu_look). */
FOLDED bool quick(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                  enum pn_tlb_mode mode, bool looks, struct pn_xlate *out) {
    const struct stage *s = &vcpu->walk;
    uint64_t pte, refs;
    struct walk w;
    if (s->levels < 4 || access > PN_FETCH ||
        (vcpu->ring && vcpu->ring->mask & WALK_EVENTS))
        return false;
    if (__builtin_expect(s->below != &tdp_stage, 0))
        return !looks && quick_nested(vcpu, gva, access, mode, out);
    if (!guest_walk(vcpu, s, gva, true, &w, &refs) || (access == PN_WRITE && !w.dirty))
        return false;
    unsigned denied = rights_denied(&s->rights, w.access, w.pkey, mode);
    pn_gpa gpa = w.gfn << PN_PAGE_SHIFT;
    if (denied >> access & 1 || w.gfn + 1 == vcpu->apic ||
        !known_leaf(vcpu->mmu->tdp, gpa, leaf_has(access), &refs, &pte))
        return false;
    if (looks && !tdp_tlb_may_look(slot_of_gfn(vcpu->mmu, w.gfn), vcpu->roots->cur, gva,
                                   access, mode, &w, pte))
        return false;
    count(vcpu->stats, &w, refs);
    answer(vcpu, gva, access, mode, &w, denied, pte, out);
    return true;
}

bool tdp_quick(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
               enum pn_tlb_mode mode, struct pn_xlate *out) {
    return quick(vcpu, gva, access, mode, false, out);
}

bool tdp_look(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
              enum pn_tlb_mode mode, struct pn_xlate *out) {
    return quick(vcpu, gva, access, mode, true, out);
}
