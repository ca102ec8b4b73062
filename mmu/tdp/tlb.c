/* SPDX-License-Identifier: MIT */
/*
 * The TLBs under TDP: filled from 2D walks, dropped by frame and by guest address.
 *
 * Invariants
 * 1. Every entry with a tag is for a page that the second-level tables map; a write tag
 *    stands only while its leaf has W and D.
 * 2. The hint of a page names every index at which some TLB has the page, or says that
 *    the page may be anywhere (HINT_MANY). HINT_W: some entry may have a write tag.
 *    HINT_X: the page was fetched from since its last drop.
 * 3. root->fetched has a bit for each page that the root's TLB or its jump caches may
 *    hold as code; root->large one for each region of which they may hold part of a
 *    large guest page. Guest tables change unseen, so INVLPG consults both.
 *    root->region has the region_hash of each entry with a tag.
 *
 * A frame that leaves the second-level tables while its slot stays takes no fetch_gen
 * along: the guest has changed nothing, and the code is where it was.
 *
 * What the guest's INVLPG of an address in a large page has to drop is every TLB entry
 * that came from that page (SDM volume 3, "Operations that Invalidate TLBs and
 * Paging-Structure Caches"): hence `large`. Dropping more than that is free to a cache.
 */
#include <string.h>

#include "mmu/tdp/fill.h"

/* ---- Filters of a root ---- */

bool tdp_was_fetched(const struct root *r, pn_gva gva) {
    unsigned b = fetched_bit(gva);
    return r->fetched[b / 64] >> (b % 64) & 1;
}

void tdp_tlb_fill(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva,
                  enum pn_access access, enum pn_tlb_mode mode, const struct walk *w,
                  struct slot *s, uint64_t pte) {
    fill(vcpu, r, gva, access, mode, w,
         rights_denied(&vcpu->walk.rights, w->access, w->pkey, mode), s, pte);
}

/* Only where the hint has it all already (invariant 2), and no store has to be seen. */
bool tdp_tlb_may_look(const struct slot *s, const struct root *r, pn_gva gva,
                      enum pn_access access, enum pn_tlb_mode mode, const struct walk *w,
                      uint64_t pte) {
    uint64_t h = hint_get(&s->tlb_hints[w->gfn - s->gfn]);
    bool store = w->dirty && (pte & (EPT_W | EPT_D)) == (EPT_W | EPT_D);
    return hint_add(h, tlb_index(gva)) == h && (!store || h & HINT_W) &&
           (access != PN_FETCH || h & HINT_X) && r->tlb[mode] == r->room[mode] &&
           (access != PN_WRITE || track_held(s, w->gfn) == TLB_HELD_NOT);
}

/* ---- By frame ---- */

static void drop_at(struct pn_mmu *mmu, unsigned index, uintptr_t hva, bool write) {
    for_each_root(mmu, v, r)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            if (r->filled[mode])
                tlb_drop_if(r, mode, index, hva, PN_PAGE_SIZE, write);
}

/* Every entry of one TLB. Return: h with the indices at which the page still is. */
static uint64_t drop_scan(struct root *r, enum pn_tlb_mode mode, uintptr_t hva,
                          bool write, uint64_t h) {
    struct pn_tlb_entry *tlb = r->room[mode];
    for_each_live(r, mode, i, 0, PN_TLB_ENTRIES) {
        tlb_drop_if(r, mode, i, hva, PN_PAGE_SIZE, write);
        if (tlb[i].hva == hva)
            h = hint_add(h, i);
    }
    return h;
}

static uint64_t drop_anywhere(struct pn_mmu *mmu, uintptr_t hva, bool write) {
    uint64_t h = 0;
    for_each_root(mmu, v, r)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            if (r->filled[mode])
                h = drop_scan(r, mode, hva, write, h);
    return h;
}

void tdp_tlb_drop(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, bool write) {
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    flush_ask(mmu);
    uint64_t *hint = &s->tlb_hints[gfn - s->gfn], h = *hint;
    uintptr_t hva = (uintptr_t)slot_hva(s, gfn);
    if (!h || (write && !(h & HINT_W)))
        return;
    if (h & HINT_MANY) {
        hint_put(hint, drop_anywhere(mmu, hva, write) | (write ? h & HINT_X : 0));
    } else {
        for (unsigned k = 0; k < hint_count(h); k++)
            drop_at(mmu, h >> (k * HINT_BITS) & HINT_MASK, hva, write);
        hint_put(hint, write ? h & ~HINT_W : 0);
    }
}

void tdp_tlb_hold(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, enum tlb_held how) {
    mmu_bar(mmu);
    uint64_t h = s->tlb_hints[gfn - s->gfn];
    uintptr_t hva = (uintptr_t)slot_hva(s, gfn);
    if (!(h & HINT_W))
        return;
    for_each_root(mmu, v, r) {
        if (h & HINT_MANY)
            tlb_hold_all(r, hva, how);
        for (unsigned k = 0; !(h & HINT_MANY) && k < hint_count(h); k++)
            tlb_hold(r, h >> (k * HINT_BITS) & HINT_MASK, hva, how);
    }
}

/* ---- What the guest's invalidations mean ---- */

/* Its TLB and fetch_gen go too: the filters begin anew. */
void tdp_root_drop(struct pn_mmu_vcpu *vcpu, struct root *r) {
    if (r->fetched_any)
        memset(r->fetched, 0, sizeof(r->fetched));
    r->fetched_any = false;
    r->large[0] = r->large[1] = 0;
}

void tdp_root_sync(struct pn_mmu_vcpu *vcpu, struct root *r) {
    tlb_flush(vcpu, r);
    if (r->fetched_any)
        root_new_fetch_gen(vcpu, r);
    tdp_root_drop(vcpu, r);
}

static void drop_in_region(struct root *r, unsigned mode, unsigned i, pn_gva gva,
                           unsigned shift) {
    struct pn_tlb_entry *e = &r->room[mode][i];
    bool in = false;
    for (unsigned t = 0; t < 3; t++)
        in |= e->tag[t] != PN_TLB_NONE(i) && !((e->tag[t] ^ gva) >> shift);
    if (in && r == r->vcpu->roots->cur)
        observe(r->vcpu->mmu, entry_changes, r->vcpu, i, mode);
    if (in)
        tlb_entry_clear(e, i);
    if (!e->hva)
        r->live[mode][i / 64] &= ~(1ull << i % 64);
}

/* Is one of 64 bytes b? All are looked at, many at a time. */
static bool has_byte(const uint8_t at[64], uint8_t b) {
    uint8_t any = 0;
    for (unsigned i = 0; i < 64; i++)
        any |= at[i] == b;
    return any;
}

/* Every entry of the 2 MiB around gva, whose pages are 512 indices. */
static void drop_2m(struct root *r, unsigned mode, pn_gva gva) {
    unsigned first = tlb_index(gva) & ~511u;
    uint8_t hash = region_hash(gva);
    for (unsigned k = first; k < first + 512; k += 64) {
        if (!r->live[mode][k / 64] || !has_byte(&r->region[mode][k], hash))
            continue;
        for_each_live(r, mode, i, k, k + 64) if (r->region[mode][i] == hash)
            drop_in_region(r, mode, i, gva, 21);
    }
}

/* Every entry of the 1 << shift bytes around gva, which share the index's bits above
 * them. */
static void drop_region(struct root *r, pn_gva gva, unsigned shift) {
    unsigned pages = 1u << (shift - PN_PAGE_SHIFT);
    unsigned count = pages < PN_TLB_ENTRIES ? pages : PN_TLB_ENTRIES;
    unsigned first = tlb_index(gva) & ~(count - 1);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        if (shift == 21 && r->filled[mode])
            drop_2m(r, mode, gva);
        else if (shift != 21)
            for_each_live(r, mode, i, first, first + count)
                drop_in_region(r, mode, i, gva, shift);
    }
}

/* Of a large page of level 2: 4 MiB where entries are 4 bytes. */
static unsigned large_shift(const struct root *r) {
    return (r->key.mode & STAGE_LEVELS) == 2 ? 22 : 21;
}

static void root_inval(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva) {
    bool code = tdp_was_fetched(r, gva);
    tlb_drop_gva(r, gva);
    for (unsigned k = 0; k < 2; k++) {
        if (!(r->large[k] >> (gva >> region_shift[k] & 63) & 1))
            continue;
        drop_region(r, gva, k ? 30 : large_shift(r));
        code |= r->fetched_any;
    }
    if (code)
        root_new_fetch_gen(vcpu, r);
    root_tighten(vcpu, r);
}

void tdp_inval_gva(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all) {
    for_each_root_of(vcpu, r)
        if (!r->stale && r->key.asid == vcpu->world.asid && (all || r->key.pcid == pcid))
            root_inval(vcpu, r, gva);
}
