/* SPDX-License-Identifier: MIT */
/*
 * What the files of mmu/ share. memslot.c, phys.c, walk.c, dirty.c and options.c on one
 * side; the shadow pages (sp.c, spte.h, rmap.c, track.c, unsync.c, root.c, fault.c,
 * tlb.c, audit.c) on the other.
 */
#ifndef MMU_INTERNAL_H
#define MMU_INTERNAL_H

#include "mmu/walk.h"
#include "penumbra/mmu.h"

/* A memslot with what hangs on it. rmap, track counts and shadow-page counts are per
 * page. */
struct slot {
    struct pn_memslot pub; /* first: pn_mmu_slot_find hands it out */
    pn_gfn gfn;            /* pub.gpa >> 12 */
    uint64_t npages;
    uint64_t *rmap;  /* per page: 0, an sptep, or a tagged pointer to a list */
    uint16_t *track; /* per page: write-tracking users (shadowed as a table of level >= 2
                        or as a synced leaf table, or pn_mmu_track_add) */
    /* Per 2 MiB [0] and 1 GiB [1] frame that the slot touches, slot_large(): how many
     * reasons forbid a large spte. memslot.c counts one where the frame is not wholly in
     * the slot or gpa and hva differ modulo its size; tracking adds its own. */
    uint32_t *disallow_large[2];
    uint64_t *dirty; /* bitmap, with PN_SLOT_LOG_DIRTY */
};

/* memslot.c: sorted array, binary search, last-hit cache. */
struct slots {
    struct slot **by_gfn; /* sorted, non-overlapping */
    struct slot **by_id;  /* ids pointers, grown on demand */
    uint32_t ids;
    uint32_t count, capacity;
    struct slot *last;
    uint64_t generation; /* of MMIO sptes */
};
void slots_free(struct slots *s);
/* Binary search, and remember the hit. Return: the slot or NULL. */
struct slot *slots_search(struct slots *s, pn_gfn gfn);
static inline struct slot *slot_of_id(struct slots *s, uint32_t id) {
    return id < s->ids ? s->by_id[id] : NULL;
}
/* Order, overlap, index and bitmap checks. Return: violations, a line each to out. */
int slots_audit(struct slots *s, FILE *out);
static inline uint32_t *slot_large(struct slot *s, pn_gfn gfn, unsigned level) {
    unsigned shift = 9 * (level - 1); /* level 2 or 3 */
    return &s->disallow_large[level - 2][(gfn >> shift) - (s->gfn >> shift)];
}
static inline uint8_t *slot_hva(const struct slot *s, pn_gfn gfn) {
    return (uint8_t *)s->pub.hva + ((gfn - s->gfn) << PN_PAGE_SHIFT);
}

/* dirty.c: a page is about to be, or has been, written. */
void dirty_mark(struct slot *s, pn_gfn gfn);

/* What memslot.c, phys.c, walk.c and dirty.c ask of the shadow pages. */

/* Before a slot is deleted or moved, still in place: zap every spte that maps it and
 * every sp that stands for a table in it. memslot.c frees the per-page arrays afterwards.
 */
void shadow_slot_gone(struct pn_mmu *mmu, struct slot *s);
/* After a slot was added, moved or re-flagged and slots.generation advanced (memslot.c
 * does): MMIO sptes and cached MMIO are stale; with PN_SLOT_LOG_DIRTY newly set no spte
 * or TLB entry may stay writable. */
void shadow_slot_changed(struct pn_mmu *mmu, struct slot *s);
/* After guest memory [gpa, gpa+size) within one page was written by anyone but an
 * untracked store: update or zap sptes of the gptes there, flooding, on_track. ad: the
 * write only set A or D bits (neither floods nor zaps). vcpu may be NULL (devices). */
void shadow_written(struct pn_mmu *mmu, struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size,
                    bool ad);
/* Write-protect every spte and TLB entry that maps gfn (dirty harvest, tracking). */
void shadow_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
/* At the end of each public call that changes something: with the option audit, stop the
 * process at the first broken invariant. */
void audit_step(struct pn_mmu *mmu);

struct pn_mmu {
    struct pn_mmu_config cfg;
    struct slots slots;
    struct shadow *shadow; /* sp hash, LRU, generations; private to the shadow files */
    struct pn_mmu_vcpu **vcpus;
    unsigned vcpu_count;
};

/* Return: the slot that holds gfn, or NULL. The last hit answers at once. */
static inline struct slot *slot_of_gfn(struct pn_mmu *mmu, pn_gfn gfn) {
    struct slot *s = mmu->slots.last;
    if (s && gfn - s->gfn < s->npages)
        return s;
    return slots_search(&mmu->slots, gfn);
}

/* options.c. Return: 0, or -EINVAL when a value is out of its range. */
int mmu_options_check(const struct pn_mmu_options *opt);

struct pn_mmu_vcpu {
    struct pn_mmu *mmu;
    struct pn_tlb_view *view;
    struct pn_stats *stats;
    struct pn_ring *ring;
    struct pn_paging paging;
    struct walk_mode walk;  /* derived from paging */
    struct vcpu_shadow *sh; /* roots, TLBs; private to the shadow files */
};

#endif
