/* SPDX-License-Identifier: MIT */
/*
 * Which pieces of a page were stored to: 32 of 128 bytes. That is the grain of Intel's sub-page
 * write permissions (SDM volume 3, "Sub-Page Write Permissions for EPT"), by which a processor lets
 * stores into some pieces of a write-protected page pass, and exits for the others. Here it is
 * simulated by what a hypervisor does that emulates stores to a page: every store is seen, with its
 * size, until each piece has had one; then the page takes stores as any other. A piece that is stored
 * to for the first time is what such a processor would exit for.
 *
 * Invariants
 * 1. A page whose pieces are not all set since the last harvest has no write tag in any TLB.
 * 2. A piece is set (dirty_mark_bytes) if and only if a byte of it was stored to: by a vCPU, a walk, or a
 *    device.
 */
#include "mmu/core/internal.h"

void dirty_pieces_take(struct pn_mmu *mmu, struct slot *s, const uint64_t *bitmap,
                       size_t words) {
    uint32_t *now = slot_pieces(s), *taken = now + s->npages;
    uint64_t *count = &mmu_actor(mmu)->stats->v[PN_STAT_dirty_pieces];
    for (size_t w = 0; w < words; w++)
        for (uint64_t bits = bitmap[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);
            taken[page] = now[page];
            now[page] = 0;
            *count += (unsigned)__builtin_popcount(taken[page]);
        }
}

uint32_t pn_mmu_dirty_pieces(const struct pn_mmu *mmu, uint32_t slot_id, uint64_t page) {
    const struct slot *s = slot_id < mmu->slots.ids ? mmu->slots.by_id[slot_id] : NULL;
    return s && s->dirty && page < s->npages ? slot_pieces(s)[s->npages + page] : 0;
}
