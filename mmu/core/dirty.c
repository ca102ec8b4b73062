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

#include "mmu/core/root.h"

void dirty_mark(struct slot *s, pn_gfn gfn) {
    if (!s->dirty)
        return;
    uint64_t page = gfn - s->gfn;
    s->dirty[page / 64] |= 1ull << (page % 64);
}

/* Return: pages. */
static long take(struct slot *s, uint64_t *bitmap, size_t words) {
    long pages = 0;
    for (size_t i = 0; i < words; i++) {
        bitmap[i] = s->dirty[i];
        if (!bitmap[i])
            continue;
        pages += __builtin_popcountll(bitmap[i]);
        s->dirty[i] = 0;
    }
    return pages;
}

/* Of many pages TLBs lose every write tag of the slot at once, and nobody looks for those of a
 * page. */
#define MANY 2048

static void rearm(struct pn_mmu *mmu, struct slot *s, const uint64_t *bitmap,
                  size_t words, long pages) {
    mmu->no_writes = pages >= MANY;
    if (mmu->no_writes)
        tlb_drop_writes(mmu, s);
    for (size_t i = 0; pages && i < words; i++)
        if (bitmap[i])
            mmu->tracker->rearm(mmu, s, s->gfn + i * 64, bitmap[i]);
    mmu->no_writes = false;
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
    mmu->tracker = tracker;
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
    mmu->tracker->collect(mmu_actor(mmu), s);
    long pages = take(s, bitmap, need);
    rearm(mmu, s, bitmap, need, pages);
    if (pages && mmu->ops->harvested)
        mmu->ops->harvested(mmu);
    struct pn_mmu_vcpu *vcpu = mmu_actor(mmu);
    pn_count(vcpu->stats, dirty_harvests);
    vcpu->stats->v[PN_STAT_dirty_pages] += (uint64_t)pages;
    pn_emit(vcpu->ring, dirty_harvest, slot_id, (uint64_t)pages);
    mmu_step(mmu);
    return pages;
}
