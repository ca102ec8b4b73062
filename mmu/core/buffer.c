/* SPDX-License-Identifier: MIT */
/*
 * Buffers of written pages, as a processor keeps them: where the walk of a store sets D in a
 * leaf of a logged slot, it writes the page's address down.
 *
 *            entries              an entry                       from     full
 *   pml      512                  bits 51:12 the address         511 down index below 0
 *   hdbss    8 pages' worth       1 valid, 3:1 the leaf's level, 0 up     index beyond the last
 *                                 55:12 the address
 *
 * pml is Intel's (SDM volume 3, "Page-Modification Logging") and AMD's, whose buffer, index and
 * direction are the same (as in what AMD published for KVM in 2025, VMCB fields PML_ADDR and
 * PML_INDEX). hdbss is the idea of Arm's hardware dirty state tracking (FEAT_HDBSS) on tables
 * of ours. A buffer that is full ends in an exit before the store: the hypervisor empties it,
 * and the walk goes on. A processor writes down every D that it sets; here pages of slots
 * without a log are left out, which a hypervisor would pass over.
 *
 * Invariants
 * 1. A page whose leaf has D since the last harvest is in a buffer, or in its slot's bitmap.
 * 2. Buffers are empty when memslots change: their addresses are those of now.
 */
#include <errno.h>
#include <stdlib.h>

#include "mmu/core/internal.h"

#define VALID       1ull
#define LEVEL_SHIFT 1
#define ADDRESS     UINT64_C(0x00fffffffffff000)

struct dirty_layout {
    uint32_t entries;
    bool down;  /* filled from the last entry */
    bool level; /* an entry says that it is one, and of which level */
};
const struct dirty_layout dirty_pml = {.entries = 512, .down = true};
const struct dirty_layout dirty_hdbss = {.entries = 4096, .level = true};

struct dirty_buffer {
    uint32_t index; /* of the next entry, as the processor's register has it */
    uint64_t entry[];
};

static uint32_t first_index(const struct dirty_layout *l) {
    return l->down ? l->entries - 1 : 0;
}

int dirty_buffer_create(struct pn_mmu_vcpu *vcpu) {
    const struct dirty_layout *l = vcpu->mmu->tracker->layout;
    if (!l)
        return 0;
    vcpu->dirty = calloc(1, sizeof(*vcpu->dirty) + l->entries * sizeof(uint64_t));
    if (!vcpu->dirty)
        return -ENOMEM;
    vcpu->dirty->index = first_index(l);
    return 0;
}

/* What the hypervisor does with it: the pages go into their slots' bitmaps. */
static void empty(struct pn_mmu_vcpu *vcpu) {
    const struct dirty_layout *l = vcpu->mmu->tracker->layout;
    struct dirty_buffer *b = vcpu->dirty;
    uint32_t at = l->down ? b->index + 1 : 0; /* below 0 comes to 0 */
    uint32_t end = l->down ? l->entries : b->index;
    for (; at < end; at++) {
        pn_gfn gfn = (b->entry[at] & ADDRESS) >> PN_PAGE_SHIFT;
        struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
        if (s && (!l->level || b->entry[at] & VALID))
            dirty_mark(s, gfn);
        b->entry[at] = 0;
    }
    b->index = first_index(l);
}

void dirty_buffers_empty(struct pn_mmu *mmu) {
    for (unsigned v = 0; mmu->tracker->layout && v < mmu->vcpu_count; v++)
        if (mmu->vcpus[v]->dirty)
            empty(mmu->vcpus[v]);
}

void dirty_buffer_destroy(struct pn_mmu_vcpu *vcpu) {
    if (vcpu->dirty)
        empty(vcpu);
    free(vcpu->dirty);
    vcpu->dirty = NULL;
}

void dirty_buffer_log(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, unsigned level) {
    const struct dirty_layout *l = vcpu->mmu->tracker->layout;
    const struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    struct dirty_buffer *b = vcpu->dirty;
    if (!s || !s->dirty)
        return;
    if (b->index >= l->entries) { /* below 0 is beyond the last, too */
        exit_begins(vcpu->mmu);
        pn_count(vcpu->stats, dirty_buffer_full);
        empty(vcpu);
    }
    b->entry[b->index] =
        gfn << PN_PAGE_SHIFT | (l->level ? VALID | (uint64_t)level << LEVEL_SHIFT : 0);
    b->index += l->down ? UINT32_MAX : 1;
}
