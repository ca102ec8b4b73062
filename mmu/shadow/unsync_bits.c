/* SPDX-License-Identifier: MIT */
/*
 * The way to unsync sps: every sp above one has a bit for the child that leads there.
 *
 * Invariants
 * 1. If an sp is unsync or has unsync children, every parent has the bit of that child
 *    set. The converse need not hold: a bit may be left over.
 * 2. unsync_children is the number of bits set in unsync_bits.
 */
#include "mmu/shadow/shadow.h"

static bool bit_test(const struct sp *sp, unsigned i) {
    return sp->unsync_bits[i / 64] >> (i % 64) & 1;
}

void unsync_mark(uint64_t *sptep) {
    struct sp *sp = sp_of(sptep);
    unsigned i = sp_index(sptep);
    if (bit_test(sp, i))
        return;
    sp->unsync_bits[i / 64] |= 1ull << (i % 64);
    if (sp->unsync_children++)
        return;
    struct ptrs_pos pos = {0};
    while ((sptep = ptrs_next(sp->parents, &pos)))
        unsync_mark(sptep);
}

void unsync_clear_bit(struct sp *parent, unsigned i) {
    if (!bit_test(parent, i))
        return;
    parent->unsync_bits[i / 64] &= ~(1ull << (i % 64));
    parent->unsync_children--;
}
