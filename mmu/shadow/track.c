/* SPDX-License-Identifier: MIT */
/*
 * Frames that are shadowed as tables: stores to them are to be seen, and large mappings
 * over them are not made. slot->track counts their shadow pages.
 *
 * Invariants
 * 1. (ARCHITECTURE.md, invariant 2) A guest page that is shadowed at level >= 2 is never
 *    writable through any spte; a leaf table may be, but then it is unsync and is
 *    resynced before the next use of its root. Here: while track_tables is not 0, no spte
 *    of the frame has MMU_W.
 * 2. disallow_large of a frame counts its indirect sps.
 */
#include "mmu/shadow/shadow.h"

void track_inc(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    if (!track_tables(s, gfn))
        rmap_write_protect(mmu, s, gfn);
    track_put(s, gfn, track_get(s, gfn) + 1);
}

void track_dec(struct slot *s, pn_gfn gfn) {
    track_put(s, gfn, track_get(s, gfn) - 1);
}

void large_forbid(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    for (unsigned level = 2; level <= 3; level++) {
        pn_gfn base = gfn & ~(level_pages(level) - 1);
        if ((*slot_large(s, gfn, level))++ == 0)
            rmap_protect_large(mmu, s, base, level);
    }
}

void large_allow(struct slot *s, pn_gfn gfn) {
    for (unsigned level = 2; level <= 3; level++)
        (*slot_large(s, gfn, level))--;
}
