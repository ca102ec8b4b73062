/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * The shadow page-table entry.
 *
 *  63..57 56 55 54 53..51 50..47 46.....12  11  10  9     8     7     6   5 4 3 2  1   0
 *  +-----+--+--+--+------+------+---------+----+-+-----+-----+-----+------+-+-+-+-+----+--+
 *  |  0  |LD|HD|HA| TLB  | pkey |host page|MMIO|C|TLB_X|TLB_W|MMU_W|HOST_W|D|U|W|X|LEAF|P |
 *  +-----+--+--+--+------+------+---------+----+-+-----+-----+-----+------+-+-+-+-+----+--+
 *
 * P, not LEAF: host page is the table of the child sp. X, W, U, D and pkey are what this
 * gpte grants (all of X W U D where no gpte stands behind it); a walk takes the AND of
 * X W U D over its levels and the OR of pkey. Nothing of CR0.WP, SMEP, SMAP or PKRU is
 * folded in: walk_check decides when a TLB entry is filled, so one sp serves every mode
 * that reads gptes the same way.
 * P and LEAF: maps 4 KiB, 2 MiB or 1 GiB by the level of its sp. HOST_W: the memslot may
 * be written; MMU_W: nobody needs to see the write (tracking, dirty log). A store needs
 * W (or CR0.WP = 0), D, HOST_W and MMU_W.
 * TLB: some TLB was filled from it, a bit per enum pn_tlb_mode; TLB_W: with a write tag;
 * TLB_X: fetched from.
 * C, SPTE_CODE: a frame that this leaf maps may have users of pn_mmu_track_add. It spares
 * TLB fills the look-up of the frame, and goes with the leaf.
 * HA, HD, SPTE_HW_A and SPTE_HW_D: the accessed and dirty bits that a processor would have
 * in the spte: set when the spte is made for an access or for stores, and by use. Their
 * loss may ask for a flush (struct policy); nothing else reads them.
 * LD, SPTE_LOG_D: a store went through it since the last harvest. Of dirty logs by D bits
 * alone, and then no TLB has a write tag from an spte without it.
 * MMIO, not P: the gpte maps a frame without a memslot; bits 46..12 are the generation of
 * the memslots at that time.
 * The gfn is not in the spte: sp->gptes holds the gpte that it was made from.
 */
/* clang-format on */
#pragma once

#include "mmu/core/sp.h"

#define SPTE_P          (1ull << 0)
#define SPTE_LEAF       (1ull << 1)
#define SPTE_ACC_SHIFT  2
#define SPTE_X          (1ull << 2)
#define SPTE_W          (1ull << 3)
#define SPTE_U          (1ull << 4)
#define SPTE_D          (1ull << 5)
#define SPTE_HOST_W     (1ull << 6)
#define SPTE_MMU_W      (1ull << 7)
#define SPTE_TLB_W      (1ull << 8)
#define SPTE_TLB_X      (1ull << 9)
#define SPTE_CODE       (1ull << 10)
#define SPTE_MMIO       (1ull << 11)
#define SPTE_PAGE       0x00007ffffffff000ull
#define SPTE_PKEY_SHIFT 47
#define SPTE_PKEY       (15ull << SPTE_PKEY_SHIFT)

#define SPTE_TLB_SHIFT 51
#define SPTE_TLB_1     (1ull << SPTE_TLB_SHIFT) /* of mode 0 */
#define SPTE_TLB       (7ull << SPTE_TLB_SHIFT)

#define SPTE_HW_A (1ull << 54)
#define SPTE_HW_D (1ull << 55)
#define SPTE_HW   (SPTE_HW_A | SPTE_HW_D)

#define SPTE_LOG_D (1ull << 56)

#define SPTE_ACC   (SPTE_X | SPTE_W | SPTE_U)
#define SPTE_GRANT (SPTE_ACC | SPTE_D)        /* ANDed down a walk */
#define SPTE_STORE (SPTE_HOST_W | SPTE_MMU_W) /* a leaf that takes stores has both */
#define SPTE_USED  (SPTE_TLB | SPTE_TLB_W | SPTE_TLB_X)
#define SPTE_GEN   (SPTE_PAGE >> PN_PAGE_SHIFT)

_Static_assert(SPTE_X == (uint64_t)ACC_EXEC << SPTE_ACC_SHIFT &&
                   SPTE_W == (uint64_t)ACC_WRITE << SPTE_ACC_SHIFT &&
                   SPTE_U == (uint64_t)ACC_USER << SPTE_ACC_SHIFT,
               "rights of an spte are ACC_* shifted");
_Static_assert((SPTE_PAGE & (SPTE_PKEY | SPTE_TLB | SPTE_HW | 0xfff)) == 0 &&
                   ((SPTE_PKEY | SPTE_HW) & SPTE_TLB) == 0 && PN_TLB_MODES == 3,
               "spte fields do not overlap");

/* An spte as it is now, and what was stored before it (pn_mmu_look); and a new value, for those
 * who look: what it leads to is there. */
static inline uint64_t spte_get(const uint64_t *sptep) {
    return __atomic_load_n(sptep, __ATOMIC_ACQUIRE);
}
static inline void spte_put(uint64_t *sptep, uint64_t v) {
    __atomic_store_n(sptep, v, __ATOMIC_RELEASE);
}

static inline bool spte_present(uint64_t v) {
    return v & SPTE_P;
}
static inline bool spte_leaf(uint64_t v) {
    return (v & (SPTE_P | SPTE_LEAF)) == (SPTE_P | SPTE_LEAF);
}
static inline bool spte_table(uint64_t v) {
    return (v & (SPTE_P | SPTE_LEAF)) == SPTE_P;
}
static inline bool spte_mmio(uint64_t v) {
    return (v & (SPTE_P | SPTE_MMIO)) == SPTE_MMIO;
}
static inline uint8_t *spte_hva(uint64_t v) {
    return (uint8_t *)(uintptr_t)(v & SPTE_PAGE);
}
static inline uint64_t *spte_child(uint64_t v) {
    return (uint64_t *)(uintptr_t)(v & SPTE_PAGE);
}
static inline unsigned spte_acc(uint64_t v) {
    return v >> SPTE_ACC_SHIFT & ACC_ALL;
}
static inline uint8_t spte_pkey(uint64_t v) {
    return v >> SPTE_PKEY_SHIFT & 15;
}
/* Nobody has to see a store through this leaf. */
static inline bool spte_writable(uint64_t v) {
    const uint64_t all = SPTE_W | SPTE_D | SPTE_STORE;
    return (v & all) == all;
}
/* What an event may show: host addresses would make two equal runs differ, and tracked
 * code is the translator's doing. */
static inline uint64_t spte_public(uint64_t v) {
    return v & SPTE_P ? v & ~(SPTE_PAGE | SPTE_CODE | SPTE_HW | SPTE_LOG_D) : v;
}

/* ---- gptes, as sptes are made from them ---- */

/* First frame that spte i maps when v, its gpte, is a leaf. A 4 MiB gpte has two sptes.
 */
static inline pn_gfn gpte_leaf_gfn(const struct pt_bits *bits, unsigned level, unsigned i,
                                   uint64_t v) {
    if (__builtin_expect(bits->format->bits != 10 || level == 1, 1))
        return (v & bits->leaf[level]) >> PN_PAGE_SHIFT;
    return pt_leaf_gfn(bits->format, bits, level, v) | (pn_gfn)(i & 1) << 9;
}

/* What a gpte says, or usable = false where a walk through it would fault or has to set
 * A first. */
struct gpte {
    bool usable, leaf;
    uint64_t grant; /* SPTE_GRANT bits and pkey, as an spte for it carries them */
    pn_gfn table;   /* gfn of the table, unless leaf */
};

static inline struct gpte gpte_decode(const struct pt_bits *bits, unsigned level,
                                      uint64_t v) {
    struct gpte g = {0};
    bool large = v & bits->large;
    if (~v & bits->needed || v & bits->rsvd[large][level])
        return g;
    if (!bits->plain &&
        (!(v & bits->format->present) || pt_reserved(bits->format, bits, level, v)))
        return g;
    unsigned acc = bits->plain ? pt_acc_plain(v) : pt_acc(bits->format, v);
    g.usable = true;
    g.leaf = level == 1 || (large && bits->large_levels >> level & 1);
    g.grant = (uint64_t)acc << SPTE_ACC_SHIFT;
    if (!g.leaf) {
        g.grant |= SPTE_D;
        g.table = (v & bits->address) >> PN_PAGE_SHIFT;
        return g;
    }
    if (v & bits->dirty)
        g.grant |= SPTE_D;
    g.grant |= (v >> bits->pkey_shift & bits->pkey_mask) << SPTE_PKEY_SHIFT;
    return g;
}
