/* SPDX-License-Identifier: MIT */
/*
 * A harvest by write protection that passes over the log once: of a 2 MiB frame with pages in it,
 * the entry that leads to the table of its leaves loses W, and so no store through any of them
 * goes unseen (it is closed). The leaves keep theirs until the next store there, which is an exit
 * in any case: then those of pages that were taken meanwhile (stale) lose W, and the entry has it
 * again. So a harvest writes an entry for each 512 pages, where it wrote one for each page; what
 * is left of the work waits for who needs it. Trackers by D bits, where a store is no exit, clear D in
 * each leaf at once. (Write protection of upper entries, pushed down by
 * faults, was proposed for KVM in 2017: "fast write protection", by Xiao Guangrong.)
 *
 *     open: a leaf has W only if its page is in the log   --harvest-->   closed
 *     closed: a leaf has W only if its page is in the log, or stale   --store-->   open
 *
 * Invariants
 * 1. An entry without W that leads to a table is of level 2, and its frame is all in one slot.
 * 2. No TLB has a write tag of a page in a closed frame, nor is W passed by a way that is known.
 * 3. The bits of slot_stale() in an open frame mean nothing.
 */
#include "mmu/tdp/tdp.h"

#define LINE 8 /* words of a bitmap that are 2 MiB of pages */

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

static inline uint64_t any(const uint64_t line[LINE]) {
    return line[0] | line[1] | line[2] | line[3] | line[4] | line[5] | line[6] | line[7];
}

/* A line of the log that has pages. No branch: which words have some is nobody's guess. */
static inline __attribute__((always_inline)) long take_line(struct slot *s,
                                                            uint64_t *bitmap, size_t at) {
    uint64_t line[LINE], *stale = slot_stale(s) + at; /* by D bits it means nothing */
    long pages = 0;
    memcpy(line, &s->dirty[at], sizeof(line));
    memcpy(&bitmap[at], line, sizeof(line));
    memset(&s->dirty[at], 0, sizeof(line));
    for (unsigned i = 0; i < LINE; i++) {
        stale[i] |= line[i];
        pages += __builtin_popcountll(line[i]);
    }
    return pages;
}

/* By D bits: the leaves of a line's pages lose it. */
static void clean_line(uint64_t *leaf, const uint64_t bitmap[LINE]) {
    for (unsigned i = 0; i < LINE; i++)
        for (uint64_t bits = bitmap[i]; bits; bits &= bits - 1)
            leaf[i * 64 + (unsigned)__builtin_ctzll(bits)] &= ~EPT_D;
}

/* Stores to a line's pages are seen again, but for what TLBs have. Return: a right may be lost. */
static bool take_right(struct pn_mmu *mmu, uint64_t *entry, pn_gfn gfn,
                       const uint64_t bitmap[LINE]) {
    if (!ept_table(*entry, 2)) /* a large leaf of a logged slot has no W */
        return false;
    if (mmu->tracker->by_dbit) {
        clean_line(ept_child(*entry), bitmap);
        return true;
    }
    bool open = *entry & EPT_W;
    *entry &= ~EPT_W;
    know(mmu->tdp, gfn, ept_pass(0));
    mmu->tdp->gen += open; /* guest walks that read gptes there, which may need W, end */
    return open;
}

/* Frames of 2 MiB; *taken: a right. Return: pages. */
static inline __attribute__((always_inline)) long lines_of(struct pn_mmu *mmu,
                                                           struct slot *s,
                                                           uint64_t *bitmap, size_t lines,
                                                           bool *taken) {
    struct sp *above = NULL;
    long pages = 0;
    for (size_t l = 0; l < lines; l++) {
        pn_gfn gfn = s->gfn + l * 512;
        if (l == 0 || !(gfn & (512 * 512 - 1)))
            above = table_above(mmu->tdp, gfn);
        if (!any(&s->dirty[l * LINE])) {
            memset(&bitmap[l * LINE], 0, LINE * sizeof(*bitmap));
            continue;
        }
        pages += take_line(s, bitmap, l * LINE);
        if (above)
            *taken |=
                take_right(mmu, &above->spt[gfn >> 9 & 511], gfn, &bitmap[l * LINE]);
    }
    return pages;
}

/* The same code, by the instruction that counts bits where the processor has it. */
__attribute__((target("popcnt"))) static long lines_by_popcnt(struct pn_mmu *mmu,
                                                              struct slot *s,
                                                              uint64_t *bitmap,
                                                              size_t lines, bool *taken) {
    return lines_of(mmu, s, bitmap, lines, taken);
}

static long take_lines(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t lines,
                       bool *taken) {
    return __builtin_cpu_supports("popcnt")
               ? lines_by_popcnt(mmu, s, bitmap, lines, taken)
               : lines_of(mmu, s, bitmap, lines, taken);
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
    long pages = take_lines(mmu, s, bitmap, lines, &taken);
    pages += dirty_take(s, bitmap, lines * LINE, words);
    if (taken) {
        observe(mmu, dropped, mmu);
        flush_ask(mmu);
    }
    mmu->no_writes = pages >= DIRTY_MANY;
    if (mmu->no_writes)
        tlb_drop_all_writes(mmu);
    else if (pages)
        drop_writes(mmu, s, bitmap, lines * LINE);
    for (size_t w = lines * LINE; pages && w < words; w++)
        if (bitmap[w])
            mmu->tracker->rearm(mmu, s, s->gfn + w * 64, bitmap[w]);
    mmu->no_writes = false;
    return pages;
}

void tdp_open(struct pn_mmu *mmu, uint64_t *ptep) {
    struct sp *parent = sp_of(ptep);
    pn_gfn gfn = ept_gfn(parent, sp_index(ptep));
    const struct slot *s = slot_of_gfn(mmu, gfn);
    uint64_t *leaf = ept_child(*ptep);
    uint64_t *stale = s->dirty ? slot_stale(s) + (gfn - s->gfn) / 64 : NULL;
    for (unsigned i = 0; stale && i < LINE; i++) {
        for (uint64_t bits = stale[i]; bits; bits &= bits - 1) {
            unsigned k = i * 64 + (unsigned)__builtin_ctzll(bits);
            if (ept_leaf(leaf[k], 1) && !mmu->tracker->may_write(s, gfn + k))
                leaf[k] &= ~EPT_W;
        }
        stale[i] = 0;
    }
    *ptep |= EPT_W;
    know(mmu->tdp, gfn, ~0ull);
}
