/* SPDX-License-Identifier: MIT */
/*
 * Rings of written pages, as KVM's (api.rst, "KVM_CAP_DIRTY_LOG_RING"): where a page of a
 * logged slot becomes writable for a vCPU, its slot and offset go into the vCPU's ring. A
 * ring with few entries left ("soft full") is an exit before the store: who owns the VM
 * takes the entries and resets them, which write-protects their pages again.
 *
 *     written --push--> the log and the ring --exit--> still in the log, and protected again
 *
 * Invariants
 * 1. A page written since the last harvest is in slot->dirty. One that may be written unseen
 *    is not in slot->reset; what that says of pages out of the log means nothing.
 * 2. An entry's page is in its slot's dirty, until a harvest or a change of memslots.
 */
#include <errno.h>
#include <stdlib.h>

#include "mmu/core/internal.h"

#define ENTRIES  4096u
#define RESERVED 64u /* KVM_DIRTY_RING_RSVD_ENTRIES */
#define SOFT     (ENTRIES - RESERVED)

struct dirty_ring {
    uint32_t count;
    struct {
        uint32_t slot;
        uint64_t offset;
    } entry[ENTRIES];
};

int dirty_ring_create(struct pn_mmu_vcpu *vcpu) {
    if (!vcpu->mmu->tracker->rings)
        return 0;
    vcpu->pages = calloc(1, sizeof(*vcpu->pages));
    return vcpu->pages ? 0 : -ENOMEM;
}

void dirty_ring_destroy(struct pn_mmu_vcpu *vcpu) {
    free(vcpu->pages);
    vcpu->pages = NULL;
}

static bool has_reset(struct slot *s) {
    if (!s->reset)
        s->reset = calloc((s->npages + 63) / 64, sizeof(*s->reset));
    return s->reset;
}

/* What the VM's owner does at the exit. Out of memory a page stays as it is: in the log. */
static void reset(struct pn_mmu *mmu, struct dirty_ring *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        struct slot *s = slot_of_id(&mmu->slots, r->entry[i].slot);
        uint64_t page = r->entry[i].offset, bit = 1ull << page % 64;
        if (!s || !s->dirty || page >= s->npages || !has_reset(s))
            continue;
        s->reset[page / 64] |= bit;
        mmu->ops->write_protect(mmu, s, s->gfn + page);
    }
    r->count = 0;
}

void dirty_ring_push(struct pn_mmu_vcpu *vcpu, const struct slot *s, pn_gfn gfn) {
    struct dirty_ring *r = vcpu->pages;
    if (r->count >= SOFT) {
        exit_begins(vcpu->mmu);
        pn_count(vcpu->stats, dirty_ring_full);
        reset(vcpu->mmu, r);
    }
    if (s->reset)
        s->reset[(gfn - s->gfn) / 64] &= ~(1ull << (gfn - s->gfn) % 64);
    r->entry[r->count].slot = s->pub.id;
    r->entry[r->count++].offset = gfn - s->gfn;
}

void dirty_rings_empty(struct pn_mmu *mmu) {
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        if (mmu->vcpus[v]->pages)
            mmu->vcpus[v]->pages->count = 0;
}
