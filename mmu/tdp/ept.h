/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * The second-level page-table entry, in EPT's format.
 *
 *   63 62.60 59.52 51..............12  11 10  9  8  7   6  5  3  2 1 0
 *  +---+----------+------------------+---+--+--+--+--+----+----+-+-+-+
 *  | 0 | 0  STALE | host page, table | 0 | 0| D| A|PS|IPAT| MT |X|W|R|   R = 1
 *  +---+----------+------------------+---+--+--+--+--+----+----+-+-+-+
 *  | 0 |    0     |  generation      | 0   0  0  0  0   0    0 |1|1|0|   MMIO
 *  +---+----------+------------------+------------------------+-+-+-+
 *
 * The format is SDM volume 3, "The Extended Page Table Mechanism (EPT)", with one
 * difference: the address is a host virtual one. A leaf is an entry of level 1, or of
 * level 2 or 3 with PS; only leaves have a memory type (write-back, IPAT: nothing here
 * reads it), PS and D. X is always set; XU and #VE are not modelled.
 * STALE, of an entry of level 2 that leads on: a bit for each 64 leaves, some of which have lost a
 * right whatever they say (close.c): W, if the entry has none; else D. A processor ignores these bits.
 * W but not R is a misconfiguration: as KVM does, it stands for a frame without a
 * memslot, and its address bits are the generation of the memslots when that was so.
 */
/* clang-format on */
#pragma once

#include "mmu/core/sp.h"

#define EPT_R           (1ull << 0)
#define EPT_W           (1ull << 1)
#define EPT_X           (1ull << 2)
#define EPT_RWX         (EPT_R | EPT_W | EPT_X)
#define EPT_MT          (7ull << 3)
#define EPT_MT_WB       (6ull << 3)
#define EPT_IPAT        (1ull << 6)
#define EPT_PS          (1ull << 7)
#define EPT_A           (1ull << 8)
#define EPT_D           (1ull << 9)
#define EPT_STALE_SHIFT 52
#define EPT_STALE       (255ull << EPT_STALE_SHIFT)
#define EPT_ADDR        0x000ffffffffff000ull
#define EPT_MMIO        (EPT_W | EPT_X)
#define EPT_GEN         (EPT_ADDR >> PN_PAGE_SHIFT)
#define EPT_LEAF        (EPT_R | EPT_X | EPT_MT_WB | EPT_IPAT) /* W, A, D, PS to be added */

_Static_assert((EPT_ADDR & (EPT_RWX | EPT_MT | EPT_IPAT | EPT_PS | EPT_A | EPT_D)) == 0,
               "fields do not overlap");

static inline bool ept_present(uint64_t v) {
    return v & EPT_R;
}
static inline bool ept_leaf(uint64_t v, unsigned level) {
    return v & EPT_R && (level == 1 || v & EPT_PS);
}
static inline bool ept_table(uint64_t v, unsigned level) {
    return v & EPT_R && level > 1 && !(v & EPT_PS);
}
static inline uint8_t *ept_hva(uint64_t v) {
    return (uint8_t *)(uintptr_t)(v & EPT_ADDR);
}
/* An entry as it is now, and a new value, for those who look, too (pn_mmu_look): what it leads to
 * is there. */
static inline uint64_t ept_get(const uint64_t *ptep) {
    return __atomic_load_n(ptep, __ATOMIC_ACQUIRE);
}
static inline void ept_put(uint64_t *ptep, uint64_t v) {
    __atomic_store_n(ptep, v, __ATOMIC_RELEASE);
}
static inline uint64_t *ept_child(uint64_t v) {
    return (uint64_t *)(uintptr_t)(v & EPT_ADDR);
}
static inline uint64_t ept_mmio(uint64_t generation) {
    return EPT_MMIO | (generation & EPT_GEN) << PN_PAGE_SHIFT;
}
/* What an event may show: no host addresses. */
static inline uint64_t ept_public(uint64_t v) {
    return v & EPT_R ? v & ~(EPT_ADDR | EPT_STALE) : v;
}

/* SDM "EPT Misconfigurations", of an entry of ours: what formats.inc calls reserved. */
bool ept_misconfigured(uint64_t v, unsigned level);

/* Exit qualification of an EPT violation (SDM, the table of that name): bits 0..2 the
 * access, 3..5 what the entry granted, 7 a linear address is known, 8 the access was to
 * the translation's result (clear: to a guest paging-structure entry), 13 it was a
 * shadow-stack access. */
#define EPT_Q_READ        (1u << 0)
#define EPT_Q_WRITE       (1u << 1)
#define EPT_Q_FETCH       (1u << 2)
#define EPT_Q_GRANT_SHIFT 3
#define EPT_Q_GVA         (1u << 7)
#define EPT_Q_FINAL       (1u << 8)
#define EPT_Q_STACK       (1u << 13)
