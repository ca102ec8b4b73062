/* SPDX-License-Identifier: MIT */
/*
 * TLB entries and the sptes that they were filled from: filled, and dropped with them.
 *
 * Invariants
 * 1. Every entry with a tag was filled from an spte that is still there, grants what the
 *    tags say, and has the mode's bit of SPTE_TLB (SPTE_TLB_W for a write tag, SPTE_TLB_X
 *    for a fetch tag); its sp has the root's bit in `roots`, and the root's tree holds
 *    it.
 *
 * To drop what came from an spte its gva need not be known: the index in its sp gives
 * bits 12..20 of it, and the host page tells the entry (another gva of the same page may
 * go with it, which costs no more than a refill).
 */
#include "mmu/shadow/shadow.h"

#define SUBTREE_MAX 1024 /* sptes looked at before whole TLBs are dropped instead */
#define WAYS_MAX    64   /* links followed from a table up to its roots */

/* An index of a TLB is bits 12..20 of a gva, which the place in a leaf table tells, and
 * above them `PART_BITS` bits that the place in the table above tells: a part. */
#define PART_BITS (PN_TLB_BITS - 9)
#define PARTS     (1u << PART_BITS)
#define PARTS_ALL ((1u << PARTS) - 1)

/* ---- By spte ---- */

/* parts: which of them come into question, a bit each. */
static void drop_in_root(struct root *r, unsigned level, unsigned index, unsigned parts,
                         uint64_t spte, bool write) {
    uintptr_t hva = (uintptr_t)spte_hva(spte);
    uint64_t bytes = level_pages(level) << PN_PAGE_SHIFT;
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        if (!r->filled[mode] || !(spte & SPTE_TLB_1 << mode))
            continue;
        if (level == 1) {
            for (unsigned left = parts; left; left &= left - 1)
                tlb_drop_if(r, mode, index | (unsigned)__builtin_ctz(left) << 9, hva,
                            bytes, write);
        } else { /* a large page of level 2 is one part */
            unsigned count = level == 2 ? 512 : PN_TLB_ENTRIES;
            unsigned first = level == 2 ? (index & (PARTS - 1)) * count : 0;
            for_each_live(r, mode, i, first, first + count)
                tlb_drop_if(r, mode, i, hva, bytes, write);
        }
    }
}

/* The part of what a leaf table maps is in the index of its parent. */
static unsigned parts_of(const struct sp *sp) {
    if (sp->parents & 1 || !sp->parents)
        return PARTS_ALL;
    return 1u << (sp_index(ptrs_first(sp->parents)) & (PARTS - 1));
}

static void drop_leaf_in(struct pn_mmu *mmu, uint64_t roots, const struct sp *sp,
                         unsigned i, uint64_t spte, bool write) {
    unsigned parts = parts_of(sp);
    for_each_root(mmu, v, r) {
        if (!(r->bit & roots))
            continue;
        drop_in_root(r, sp_level(sp), i, parts, spte, write);
        if (!write && spte & SPTE_TLB_X)
            r->loose = true;
    }
}

void tlb_drop_leaf(struct pn_mmu *mmu, struct sp *sp, unsigned i, uint64_t spte,
                   bool write) {
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    if (sp->parents || sp->pinned)
        drop_leaf_in(mmu, sp->roots, sp, i, spte, write);
}

/* A gva has bits 12..20 in common with the frame where a large page maps it. */
void tlb_hold_leaves(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, enum tlb_held how) {
    mmu_bar(mmu);
    for (unsigned level = 1; level <= 3; level++) {
        pn_gfn base = gfn & ~(level_pages(level) - 1);
        struct ptrs_pos pos = {0};
        if (base < s->gfn)
            return;
        for (uint64_t *p; (p = ptrs_next(s->rmap[base - s->gfn], &pos));) {
            const struct sp *sp = sp_of(p);
            unsigned i = level == 1 ? sp_index(p) : gfn & 511;
            if (sp_level(sp) != level)
                continue;
            spte_put(p, *p | SPTE_CODE);
            if (!(*p & SPTE_TLB_W))
                continue;
            for_each_root(mmu, v, r)
                for (unsigned part = 0; r->bit & sp->roots && part < PARTS; part++)
                    tlb_hold(r, i | part << 9, (uintptr_t)slot_hva(s, gfn), how);
        }
    }
}

static void drop_root(struct pn_mmu_vcpu *vcpu, struct root *r) {
    if (r->filled[0] | r->filled[1] | r->filled[2])
        tlb_flush(vcpu, r);
    r->loose |= r->code;
    r->code = false;
}

/* idle: only those that no vCPU uses now. Return: the bits of those left alone. */
static uint64_t drop_roots(struct pn_mmu *mmu, uint64_t roots, bool idle) {
    uint64_t left = 0;
    for_each_root(mmu, v, r) {
        if (!(r->bit & roots))
            continue;
        if (idle && r == v->roots->cur)
            left |= r->bit;
        else
            drop_root(v, r);
    }
    return left;
}

void tlb_drop_top(struct pn_mmu *mmu, const struct sp *top) {
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    for_each_root(mmu, v, r)
        if (r->top == top)
            drop_root(v, r);
}

/* ---- By table ---- */

/* Return: the roots whose trees hold sp; all when there are too many ways up. */
static uint64_t roots_above(struct pn_mmu *mmu, const struct sp *sp, unsigned *ways) {
    uint64_t roots = 0;
    if (sp->pinned)
        for_each_root(mmu, v, r)
            if (r->top == sp)
                roots |= r->bit;
    struct ptrs_pos pos = {0};
    for (uint64_t *p; ~roots && (p = ptrs_next(sp->parents, &pos));) {
        if (++*ways > WAYS_MAX)
            return ~0ull;
        roots |= roots_above(mmu, sp_of(p), ways);
    }
    return roots;
}

/* In these roots drop what came from sp or from below it; sp may be reached in another
 * way too, but what came by that goes along. Return: false when there is too much. */
static bool drop_below(struct pn_mmu *mmu, uint64_t roots, struct sp *sp,
                       unsigned *seen) {
    if (sp_level(sp) == 1 && !(sp->roots & roots))
        return true;
    for (unsigned i = 0, left = sp->used; left; i++) {
        uint64_t v = sp->spt[i];
        if (!v)
            continue;
        left--;
        if (++*seen > SUBTREE_MAX)
            return false;
        if (spte_leaf(v)) {
            if (v & SPTE_USED)
                drop_leaf_in(mmu, roots & sp->roots, sp, i, v, false);
        } else if (spte_table(v) && !drop_below(mmu, roots, sp_of(spte_child(v)), seen)) {
            return false;
        }
    }
    sp_roots_put(sp, sp->roots & ~roots);
    return true;
}

void tlb_drop_table(struct pn_mmu *mmu, const uint64_t *sptep) {
    struct sp *child = sp_of(spte_child(*sptep));
    unsigned seen = 0, ways = 0;
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    if (!child->used)
        return;
    uint64_t roots = roots_above(mmu, sp_of(sptep), &ways);
    /* Much may hang on an upper table; a root that nobody uses fills again when used. */
    if (roots && sp_level(child) > 1)
        roots = drop_roots(mmu, roots, true);
    if (roots && !drop_below(mmu, roots, child, &seen))
        drop_roots(mmu, roots, false);
}
