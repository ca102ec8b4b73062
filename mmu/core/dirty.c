/* SPDX-License-Identifier: MIT */
/*
 * The dirty log of a memslot: one bit per page, set when the page is written, taken and
 * cleared by a harvest.
 *
 * Invariants
 * 1. A page written since the last harvest has its bit set. Stores through a writable
 *    mapping are not seen here: how they are found all the same is the tracker's part
 *    (tracker.c).
 * 2. Bits beyond the slot's last page are never set.
 * Locking: none (penumbra/mmu.h).
 */
#include <errno.h>
#include <stdlib.h>

#include "mmu/core/root.h"

void dirty_mark(struct slot *s, pn_gfn gfn) {
    if (!s->dirty)
        return;
    uint64_t page = gfn - s->gfn;
    s->dirty[page / 64] |= 1ull << (page % 64);
}

void dirty_mark_bytes(const struct pn_mmu *mmu, struct slot *s, pn_gpa gpa, size_t size) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    dirty_mark(s, gfn);
    if (!mmu->tracker->pieces || !s->dirty)
        return;
    unsigned first = (unsigned)(gpa % PN_PAGE_SIZE / PN_PIECE_SIZE);
    unsigned last = (unsigned)((gpa % PN_PAGE_SIZE + size - 1) / PN_PIECE_SIZE);
    slot_pieces(s)[gfn - s->gfn] |= UINT32_MAX << first & UINT32_MAX >> (31 - last);
}

void dirty_set_d(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, unsigned level) {
    struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    if (!s || !s->dirty)
        return;
    if (vcpu->dirty)
        dirty_buffer_log(vcpu, gfn, level);
    else
        dirty_mark(s, gfn);
}

long dirty_take(struct slot *s, uint64_t *bitmap, size_t first, size_t end) {
    long pages = 0;
    for (size_t i = first; i < end; i++) {
        bitmap[i] = s->dirty[i];
        pages += __builtin_popcountll(bitmap[i]);
        s->dirty[i] = 0;
    }
    return pages;
}

/* Return: pages of the line at this word. */
static inline __attribute__((always_inline)) long take_line(struct slot *s,
                                                            uint64_t *bitmap, size_t at) {
    uint64_t line[DIRTY_LINE], any = 0;
    long pages = 0;
    memcpy(line, &s->dirty[at], sizeof(line));
    for (unsigned i = 0; i < DIRTY_LINE; i++)
        any |= line[i];
    memcpy(&bitmap[at], line, sizeof(line));
    if (!any)
        return 0;
    memset(&s->dirty[at], 0, sizeof(line));
    for (unsigned i = 0; i < DIRTY_LINE; i++)
        pages += __builtin_popcountll(line[i]);
    return pages;
}

static inline uint8_t words_with(const uint64_t line[DIRTY_LINE]) {
    unsigned bits = 0;
    for (unsigned i = 0; i < DIRTY_LINE; i++)
        bits |= (unsigned)(line[i] != 0) << i;
    return (uint8_t)bits;
}

static inline __attribute__((always_inline)) long
lines_of(struct slot *s, uint64_t *bitmap, size_t first, size_t end, uint8_t *some) {
    long pages = 0;
    for (size_t l = first; l < end; l++) {
        long now = take_line(s, bitmap, l * DIRTY_LINE);
        pages += now;
        if (some)
            some[l - first] = now ? words_with(&bitmap[l * DIRTY_LINE]) : 0;
    }
    return pages;
}

/* The same code for processors that have these. */
__attribute__((target("avx2,popcnt"))) static long
lines_fast(struct slot *s, uint64_t *bitmap, size_t first, size_t end, uint8_t *some) {
    return lines_of(s, bitmap, first, end, some);
}

long dirty_take_lines(struct slot *s, uint64_t *bitmap, size_t first, size_t end,
                      uint8_t *some) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")
               ? lines_fast(s, bitmap, first, end, some)
               : lines_of(s, bitmap, first, end, some);
}

/* A bits: who has them cleared flushes, and the next access sets them in a walk. So with TLBs
 * empty after each harvest, those that no TLB answers are all that there are. What walks read of
 * the guest's tables does not count. */
void dirty_accessed(struct pn_mmu_vcpu *vcpu, pn_gva gva, pn_gpa gpa,
                    enum pn_access access, enum pn_tlb_mode mode) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    if (!s || !s->dirty || dirty_test(s, gfn))
        return;
    dirty_mark(s, gfn);
    pn_emit(vcpu->ring, page_accessed, gva, vcpu->walk.rights.pfec[access][mode], gpa);
}

void dirty_collect_all(struct pn_mmu *mmu) {
    for (unsigned i = 0; i < mmu->slots.count; i++)
        if (mmu->slots.by_gfn[i]->dirty)
            mmu->tracker->collect(mmu_actor(mmu), mmu->slots.by_gfn[i]);
}

int dirty_equip(struct pn_mmu *mmu, const struct tracker_ops *tracker) {
    int rc = 0;
    for (unsigned v = 0; v < mmu->vcpu_count; v++) {
        dirty_buffer_destroy(mmu->vcpus[v]);
        dirty_ring_destroy(mmu->vcpus[v]);
    }
    for (unsigned i = 0; i < mmu->slots.count; i++) {
        free(mmu->slots.by_gfn[i]->reset);
        mmu->slots.by_gfn[i]->reset = NULL;
    }
    mmu->tracker = tracker;
    mmu_watch(mmu);
    for (unsigned v = 0; rc == 0 && v < mmu->vcpu_count; v++)
        if (dirty_buffer_create(mmu->vcpus[v]) || dirty_ring_create(mmu->vcpus[v]))
            rc = -ENOMEM;
    return rc;
}

long pn_mmu_dirty_harvest(struct pn_mmu *mmu, uint32_t slot_id, uint64_t *bitmap,
                          size_t words) {
    record(mmu, harvest, 0, .w = {slot_id});
    struct slot *s = slot_of_id(&mmu->slots, slot_id);
    if (!s || !s->dirty)
        return -ENOENT;
    size_t need = (s->npages + 63) / 64;
    if (words < need)
        return -ENOSPC;

    host_begins(mmu);
    mmu_bar(mmu);
    mmu->tracker->collect(mmu_actor(mmu), s);
    long pages = mmu->ops->take(mmu, s, bitmap, need);
    if (mmu->tracker->pieces)
        dirty_pieces_take(mmu, s, bitmap, need);
    if (pages && mmu->ops->harvested)
        mmu->ops->harvested(mmu);
    struct pn_mmu_vcpu *vcpu = mmu_actor(mmu);
    pn_count(vcpu->stats, dirty_harvests);
    vcpu->stats->v[PN_STAT_dirty_pages] += (uint64_t)pages;
    pn_emit(vcpu->ring, dirty_harvest, slot_id, (uint64_t)pages);
    mmu_step(mmu);
    return pages;
}
