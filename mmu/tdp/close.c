/* SPDX-License-Identifier: MIT */
/*
 * A harvest that passes over the log once. Of a 2 MiB frame with pages in it,
 * the entry that leads to the table of its leaves loses W, and so no store through any of them
 * goes unseen (it is closed). The leaves keep theirs until the next store there, which is an exit
 * in any case: then those of pages that were taken meanwhile lose W, and the entry has it
 * again. Which leaves are to be looked at the entry says, by a bit for 64 of them (EPT_STALE). So a
 * harvest writes an entry for each 512 pages, where it wrote one for each page; what
 * is left of the work waits for who needs it. (Write protection of upper entries, pushed down by
 * faults, was proposed for KVM in 2017: "fast write protection", by Xiao Guangrong.)
 *
 *     open: a leaf has W only if its page is in the log   --harvest-->   closed
 *     closed: a leaf has W only if its page is in the log, or stale   --store-->   open
 *
 * By D bits a store is no exit, and no processor has a bit that denies D to 512 leaves. It is done in
 * the same way all the same, as nobody can tell: the entry loses A, and the next walk
 * that goes by it, which sets A, takes D from the stale leaves first.
 *
 * Invariants
 * 1. An entry without W that leads to a table is of level 2, and its frame is all in one slot.
 * 2. No TLB has a write tag of a page in a closed frame, nor is W passed by a way that is known.
 * 3. An entry with W and STALE has no A, no known way leads by it, and no TLB has a write tag of a
 *    page of its stale leaves.
 */
#include "mmu/tdp/tdp.h"

/* What the way that is known to gfn lets pass. */
static inline void know(struct tdp *t, pn_gfn gfn, uint64_t pass) {
    uint64_t region = gfn >> (KNOWN_SHIFT - PN_PAGE_SHIFT);
    struct known *k = &t->known[region & ((1u << KNOWN_BITS) - 1)];
    if (k->region == region + 1)
        k->pass = pass;
}

/* The table whose entries lead to tables of leaves. Return: NULL: there is none. */
static struct sp *table_above(struct tdp *t, pn_gfn gfn) {
    struct sp *sp = t->root;
    pn_gpa gpa = gfn << PN_PAGE_SHIFT;
    while (sp_level(sp) > 2) {
        uint64_t v = sp->spt[level_index(gpa, sp_level(sp))];
        if (!ept_table(v, sp_level(sp)))
            return NULL;
        sp = sp_of(ept_child(v));
    }
    return sp;
}

/* Stores to pages of some lines are seen again, but for what TLBs have. entry: of the first line.
 * Return: a right may be lost. */
static inline __attribute__((always_inline)) bool
rights_of(uint64_t *entry, const uint8_t *some, size_t lines, uint64_t right) {
    uint64_t used = 0;
    for (size_t i = 0; i < lines;
         i++) { /* no branch: which lines have some is nobody's guess */
        uint64_t v = entry[i];
        bool does = some[i] && (v & (EPT_R | EPT_PS)) == EPT_R;
        uint64_t large = some[i] && v & EPT_PS ? right & EPT_W : 0; /* it is the leaf */
        used |= does ? v & right : v & large;
        entry[i] =
            does ? (v & ~right) | (uint64_t)some[i] << EPT_STALE_SHIFT | (v & EPT_STALE)
                 : v & ~large;
    }
    return used;
}

/* The same code for processors that have it. */
__attribute__((target("avx2"))) static bool
rights_fast(uint64_t *entry, const uint8_t *some, size_t lines, uint64_t right) {
    return rights_of(entry, some, lines, right);
}

static bool take_rights(uint64_t *entry, const uint8_t *some, size_t lines,
                        uint64_t right) {
    return __builtin_cpu_supports("avx2") ? rights_fast(entry, some, lines, right)
                                          : rights_of(entry, some, lines, right);
}

/* The ways that are known to lines with pages: by write protection they pass no W; by D bits they
 * are known no more, as the next walk there has to come by the entry. */
static void forget_ways(struct pn_mmu *mmu, const struct slot *s, const uint64_t *bitmap,
                        size_t lines) {
    struct tdp *t = mmu->tdp;
    for (unsigned i = 0; t->knows && i < 1u << KNOWN_BITS; i++) {
        struct known *k = &t->known[i];
        uint64_t line = k->region - 1 - (s->gfn >> 9), any = 0;
        for (unsigned w = 0; k->region && line < lines && w < DIRTY_LINE; w++)
            any |= bitmap[line * DIRTY_LINE + w];
        if (any && mmu->tracker->by_dbit)
            k->region = 0;
        else if (any && k->level == 1) /* what is known of a large leaf is the leaf */
            k->pass = ept_pass(0);
    }
}

#define ENTRIES 512

/* Frames of 2 MiB; *taken: a right. Return: pages. */
static long take_lines(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t lines,
                       bool *taken) {
    uint64_t right = mmu->tracker->by_dbit ? EPT_A : EPT_W;
    uint8_t some[ENTRIES];
    long pages = 0;
    for (size_t l = 0, n; l < lines; l += n) {
        pn_gfn gfn = s->gfn + l * 512;
        unsigned first = level_index(gfn << PN_PAGE_SHIFT, 2);
        n = lines - l < ENTRIES - first ? lines - l : ENTRIES - first;
        struct sp *above = table_above(mmu->tdp, gfn);
        pages += dirty_take_lines(s, bitmap, l, l + n, some);
        if (above)
            *taken |= take_rights(&above->spt[first], some, n, right);
    }
    if (pages)
        forget_ways(mmu, s, bitmap, lines);
    mmu->tdp->gen += *taken; /* guest walks that read gptes there end */
    return pages;
}

static void drop_writes(struct pn_mmu *mmu, struct slot *s, const uint64_t *bitmap,
                        size_t words) {
    for (size_t w = 0; w < words; w++)
        for (uint64_t bits = bitmap[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);
            if (s->tlb_hints[page] & HINT_W)
                tdp_tlb_drop(mmu, s, s->gfn + page, true);
        }
}

long tdp_take(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t words) {
    size_t lines = s->gfn & 511 ? 0 : s->npages / 512;
    bool taken = false;
    mmu_bar(mmu);
    if (mmu->tracker->accesses) {
        roots_drop_everything(mmu);
        long all = dirty_take_lines(s, bitmap, 0, words / DIRTY_LINE, NULL);
        return all + dirty_take(s, bitmap, words / DIRTY_LINE * DIRTY_LINE, words);
    }
    long pages = take_lines(mmu, s, bitmap, lines, &taken);
    pages += dirty_take(s, bitmap, lines * DIRTY_LINE, words);
    if (taken) {
        observe(mmu, dropped, mmu);
        flush_ask(mmu);
    }
    mmu->no_writes = pages >= mmu->many;
    if (mmu->no_writes)
        tlb_drop_all_writes(mmu);
    else if (pages)
        drop_writes(mmu, s, bitmap, lines * DIRTY_LINE);
    for (size_t w = lines * DIRTY_LINE; pages && w < words; w++)
        if (bitmap[w])
            tdp_rearm(mmu, s, s->gfn + w * 64, bitmap[w], mmu->tracker->by_dbit);
    mmu->no_writes = false;
    return pages;
}

void tdp_open(struct pn_mmu *mmu, uint64_t *ptep) {
    pn_gfn gfn = ept_gfn(sp_of(ptep), sp_index(ptep));
    const struct slot *s = slot_of_gfn(mmu, gfn);
    uint64_t *leaf = ept_child(*ptep);
    uint64_t stale = s->dirty ? (*ptep & EPT_STALE) >> EPT_STALE_SHIFT : 0;
    ept_lost(mmu->tdp);
    for (; stale; stale &= stale - 1) {
        unsigned first = (unsigned)__builtin_ctzll(stale) * 64;
        for (unsigned k = first; k < first + 64; k++)
            if (leaf[k] & EPT_W && ept_leaf(leaf[k], 1) &&
                !mmu->tracker->may_write(s, gfn + k))
                ept_put(&leaf[k], leaf[k] & ~EPT_W);
    }
    ept_put(ptep, (*ptep & ~EPT_STALE) | EPT_W);
    know(mmu->tdp, gfn, ~0ull);
}

void tdp_grant(struct pn_mmu *mmu, struct slot *s, pn_gfn first, pn_gfn end) {
    struct ewalk w;
    ept_peek(mmu->tdp, first << PN_PAGE_SHIFT, &w);
    for (pn_gfn gfn = first; w.level == 1 && gfn < end; gfn++, w.ptep++)
        if (ept_leaf(*w.ptep, 1))
            ept_put(w.ptep, *w.ptep | tdp_may_write(mmu, s, gfn, 1));
}
