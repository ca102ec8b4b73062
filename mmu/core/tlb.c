/* SPDX-License-Identifier: MIT */
/*
 * The TLBs that translated code reads. What an entry stands for, and when it has to go,
 * each kind of MMU knows (shadow/tlb.c, tdp/tlb.c).
 *
 * Invariants
 * 1. An entry without a tag has hva 0.
 * 2. live[mode] names every entry that has a tag, filled[mode] every word of live but 0.
 * 3. A mode's TLB that was never filled since its root came into use is `empty`, which is
 *    shared and which nobody writes: filled[mode] is 0.
 * 4. No entry of a page that has users of pn_mmu_track_add has a write tag; it may have
 *    one that is kept back, which stands and goes as a write tag does.
 */
#include <string.h>

#include "base/pages.h"
#include "mmu/core/root.h"

#define NONE_1(i)                                                                        \
    {                                                                                    \
        .tag = { PN_TLB_NONE(i), PN_TLB_NONE(i), PN_TLB_NONE(i) }                        \
    }
#define NONE_4(i)   NONE_1(i), NONE_1((i) + 1), NONE_1((i) + 2), NONE_1((i) + 3)
#define NONE_16(i)  NONE_4(i), NONE_4((i) + 4), NONE_4((i) + 8), NONE_4((i) + 12)
#define NONE_64(i)  NONE_16(i), NONE_16((i) + 16), NONE_16((i) + 32), NONE_16((i) + 48)
#define NONE_256(i) NONE_64(i), NONE_64((i) + 64), NONE_64((i) + 128), NONE_64((i) + 192)
#define NONE_1024(i)                                                                     \
    NONE_256(i), NONE_256((i) + 256), NONE_256((i) + 512), NONE_256((i) + 768)
static const struct pn_tlb_entry empty[] = {NONE_1024(0u), NONE_1024(1024u),
                                            NONE_1024(2048u), NONE_1024(3072u)};
_Static_assert(sizeof(empty) == PN_TLB_ENTRIES * sizeof(empty[0]), "one of each index");

void tlb_unmake(struct root *r) {
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        r->tlb[mode] = empty;
}

void tlb_make(struct pn_mmu_vcpu *vcpu, struct root *r, enum pn_tlb_mode mode) {
    pages_want(r->room[mode], sizeof(empty));
    tlb_clear(r->room[mode]);
    r->tlb[mode] = r->room[mode];
    if (r == vcpu->roots->cur && !vcpu->mmu->observer)
        vcpu->view->tlb[mode] = r->tlb[mode];
}

void tlb_clear(struct pn_tlb_entry tlb[PN_TLB_ENTRIES]) {
    memcpy(tlb, empty, sizeof(empty));
}

/* Of these, 64 entries at a time come from the template. */
#define MANY_LIVE 24

static void flush_mode(struct root *r, unsigned mode) {
    root_still(r);
    for (; r->filled[mode]; r->filled[mode] &= r->filled[mode] - 1) {
        unsigned k = (unsigned)__builtin_ctzll(r->filled[mode]);
        uint64_t left = r->live[mode][k];
        struct pn_tlb_entry *e = &r->room[mode][64 * k];
        r->live[mode][k] = 0;
        if (__builtin_popcountll(left) >= MANY_LIVE) {
            memcpy(e, &empty[64 * k], 64 * sizeof(*e));
            continue;
        }
        for (; left; left &= left - 1) {
            unsigned i = (unsigned)__builtin_ctzll(left);
            tlb_entry_clear(&e[i], 64 * k + i);
        }
    }
}
_Static_assert(PN_TLB_ENTRIES / 64 == 64, "filled: a bit for each word of live");

void tlb_flush(struct pn_mmu_vcpu *vcpu, struct root *r) {
    if (r == vcpu->roots->cur)
        observe(vcpu->mmu, tlb_flushed, vcpu);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        if (r->filled[mode])
            flush_mode(r, mode);
    r->pkeys_user = r->pkeys_super = 0;
    pn_count(vcpu->stats, root_flush);
    pn_emit(vcpu->ring, tlb_flush, r == vcpu->roots->cur);
}

static void hold(struct root *r, unsigned mode, unsigned i, uintptr_t hva,
                 enum tlb_held how) {
    struct pn_tlb_entry *e = &r->room[mode][i];
    if (e->hva != hva)
        return;
    uint64_t now = tlb_index(e->tag[PN_WRITE]) ^ i;
    if (now == how || (now != TLB_HELD_NOT && now != TLB_HELD_RECORD))
        return;
    root_still(r);
    e->tag[PN_WRITE] ^= (now ^ how) << PN_PAGE_SHIFT;
}

void tlb_hold(struct root *r, unsigned i, uintptr_t hva, enum tlb_held how) {
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        if (r->filled[mode])
            hold(r, mode, i, hva, how);
}

void tlb_hold_all(struct root *r, uintptr_t hva, enum tlb_held how) {
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        for_each_live(r, mode, i, 0, PN_TLB_ENTRIES) hold(r, mode, i, hva, how);
}

static void keep_back(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva,
                      enum pn_tlb_mode mode, bool reads) {
    unsigned i = tlb_index(gva);
    struct pn_tlb_entry *e = &r->room[mode][i];
    pn_gva read, write;
    bool reads_it = tlb_tag_page(e, i, PN_READ, &read) && read == gva;
    bool writes_it = tlb_tag_page(e, i, PN_WRITE, &write) && write == gva;
    if (!writes_it && !(reads && reads_it))
        return;
    if (r == vcpu->roots->cur)
        observe(vcpu->mmu, entry_changes, vcpu, i, mode);
    e->tag[PN_WRITE] = PN_TLB_NONE(i);
    if (reads)
        e->tag[PN_READ] = PN_TLB_NONE(i);
    if (e->tag[PN_READ] == PN_TLB_NONE(i) && e->tag[PN_FETCH] == PN_TLB_NONE(i))
        tlb_entry_clear(e, i);
}

void pn_mmu_keep_back(struct pn_mmu_vcpu *vcpu, pn_gva gva, bool reads) {
    for_each_root_of(vcpu, r)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            if (r->filled[mode])
                keep_back(vcpu, r, gva & PN_PAGE_MASK, mode, reads);
}

void tlb_drop_gva(struct root *r, pn_gva gva) {
    unsigned i = tlb_index(gva);
    root_still(r);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        if (!r->filled[mode])
            continue;
        if (r == r->vcpu->roots->cur)
            observe(r->vcpu->mmu, entry_changes, r->vcpu, i, mode);
        tlb_entry_clear(&r->room[mode][i], i);
    }
}

void tlb_drop_writes(struct pn_mmu *mmu, const struct slot *s) {
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    flush_ask(mmu);
    for_each_root(mmu, v, r)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            for_each_live(r, mode, i, 0, PN_TLB_ENTRIES)
                tlb_drop_if(r, mode, i, (uintptr_t)s->pub.hva, s->pub.size, true);
}

static void drop_writes_of(struct root *r) {
    root_still(r);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        for (unsigned k = 0; k < PN_TLB_ENTRIES; k += 64)
            for (unsigned i = k; r->live[mode][k / 64] && i < k + 64; i++)
                r->room[mode][i].tag[PN_WRITE] = PN_TLB_NONE(i);
    r->writes = false;
}

void tlb_drop_all_writes(struct pn_mmu *mmu) {
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    flush_ask(mmu);
    for_each_root(mmu, v, r)
        if (r->writes)
            drop_writes_of(r);
}
