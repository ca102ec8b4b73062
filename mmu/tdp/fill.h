/* SPDX-License-Identifier: MIT */
/* How a TLB entry is filled, and what is noted of it: tlb.c says what for. */
#pragma once

#include "mmu/tdp/tdp.h"

/* ---- Hints ---- */

#define HINT_MASK ((1ull << HINT_BITS) - 1)

/* Those who look read hints, too. */
static inline uint64_t hint_get(const uint64_t *hint) {
    return __atomic_load_n(hint, __ATOMIC_RELAXED);
}

static inline void hint_put(uint64_t *hint, uint64_t h) {
    __atomic_store_n(hint, h, __ATOMIC_RELAXED);
}

static inline unsigned hint_count(uint64_t h) {
    return h >> HINT_COUNT & 7;
}

static inline uint64_t hint_add(uint64_t h, unsigned index) {
    unsigned n = hint_count(h);
    for (unsigned k = 0; k < n; k++)
        if ((h >> (k * HINT_BITS) & HINT_MASK) == index)
            return h;
    if (h & HINT_MANY)
        return h;
    if (n == HINT_MAX)
        return h | HINT_MANY;
    return (h | (uint64_t)index << (n * HINT_BITS)) + (1ull << HINT_COUNT);
}

/* ---- Filters of a root ---- */

static inline unsigned fetched_bit(pn_gva gva) {
    return (gva >> PN_PAGE_SHIFT ^ gva >> 23) & (FETCHED_BITS - 1);
}

static inline void note_fetch(struct root *r, pn_gva gva) {
    unsigned b = fetched_bit(gva);
    r->fetched[b / 64] |= 1ull << (b % 64);
    r->fetched_any = true;
}

static const unsigned region_shift[2] = {22, 30};

static inline uint8_t region_hash(pn_gva gva) {
    return (uint8_t)(gva >> 21 ^ gva >> 29 ^ gva >> 37);
}

/* ---- Filling ---- */

/* Fill an entry of r's TLB. w: the walk that came to the page, in the slot; denied: what
 * rights_denied says of it; pte: our leaf. */
static inline __attribute__((always_inline)) void
fill(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva, enum pn_access access,
     enum pn_tlb_mode mode, const struct walk *w, unsigned denied, struct slot *s,
     uint64_t pte) {
    uint64_t *hint = &s->tlb_hints[w->gfn - s->gfn];
    struct tlb_grant g = {
        .acc = w->access,
        .pkey = w->pkey,
        .denied = denied,
        .store = w->dirty && (pte & (EPT_W | EPT_D)) == (EPT_W | EPT_D) &&
                 !dirty_pieces_open(vcpu->mmu, s, w->gfn),
        /* Only what was fetched from counts as code: its loss drops the jump caches. */
        .code = access == PN_FETCH || hint_get(hint) & HINT_X,
        .held = track_held(s, w->gfn),
        .hva = (uintptr_t)slot_hva(s, w->gfn),
    };
    unsigned got = tlb_put(vcpu, r, gva, mode, &g);
    r->region[mode][tlb_index(gva)] = region_hash(gva);
    uint64_t h = hint_add(*hint, tlb_index(gva));
    if (got & TLB_GOT_W)
        h |= HINT_W;
    if (got & TLB_GOT_X) {
        h |= HINT_X;
        note_fetch(r, gva);
    }
    if (h != *hint)
        hint_put(hint, h);
    if (w->level > 1 && w->top)
        r->large[w->level - 2] |= 1ull << (gva >> region_shift[w->level - 2] & 63);
}
