/* SPDX-License-Identifier: MIT */
/*
 * Recording: which pages the recorder has, and the stores that it is told of.
 *
 * A page is had from the first walk on that reads it as a table: its contents are told, and
 * every store to it. Freed tables become data, and then stores come by the million. So
 * after some of the kind that fills no table (by a string instruction or a push, or of an odd
 * size) the page is quiet: stores go unseen until it is read as a table again, and its
 * contents are told anew. No MMU misses them: such a store has made it forget the page, but
 * for unsync leaf tables, and these are told of before anything syncs them.
 *
 * Invariants
 * 1. A page that any MMU may read for an access is one of those that the guest's own walk for
 *    it reads, now or when the shadow page of it was made; so a walk without side effects,
 *    before each access, finds them all.
 * 2. A quiet page is not write-protected as a table by the recorded MMU.
 * 3. Every page with TRACK_QUIET is in mmu->quiet.
 */
#include "mmu/core/record.h"

#include <stdlib.h>

#include "mmu/core/root.h"

#define QUIET_AFTER 16u   /* stores that fill no table */
#define NO_TABLE    0x80u /* in slot->stores: some instruction was none that does */

static void hold(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, enum tlb_held how) {
    mmu->ops->hold_writes(mmu, s, gfn, how);
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        observe(mmu, tlb_changed, mmu->vcpus[v]);
}

static void have(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    uint16_t *track = &s->track[gfn - s->gfn];
    record(mmu, memory, 0, .w = {gfn << PN_PAGE_SHIFT}, .data = slot_hva(s, gfn),
           .size = PN_PAGE_SIZE);
    *track = (uint16_t)((*track & ~TRACK_QUIET) | TRACK_RECORD);
    hold(mmu, s, gfn, track_code(s, gfn) ? TLB_HELD_CODE : TLB_HELD_RECORD);
}

static void be_quiet(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    uint16_t *track = &s->track[gfn - s->gfn];
    if (mmu->quiet_count == mmu->quiet_max) {
        uint32_t max = mmu->quiet_max ? 2 * mmu->quiet_max : 64;
        pn_gfn *grown = realloc(mmu->quiet, max * sizeof(*grown));
        if (!grown)
            return;
        mmu->quiet = grown;
        mmu->quiet_max = max;
    }
    mmu->quiet[mmu->quiet_count++] = gfn;
    *track = (uint16_t)((*track & ~TRACK_RECORD) | TRACK_QUIET);
    if (!track_code(s, gfn))
        hold(mmu, s, gfn, TLB_HELD_NOT);
}

void record_shadowed(struct pn_mmu *mmu) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < mmu->quiet_count; i++) {
        pn_gfn gfn = mmu->quiet[i];
        struct slot *s = slot_of_gfn(mmu, gfn);
        if (!s || !(s->track[gfn - s->gfn] & TRACK_QUIET))
            continue;
        if (mmu->ops->shadowed && mmu->ops->shadowed(mmu, gfn))
            have(mmu, s, gfn);
        else
            mmu->quiet[left++] = gfn;
    }
    mmu->quiet_count = left;
}

void record_no_table(struct pn_mmu *mmu, pn_gpa gpa) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (s && track_recorded(s, gfn))
        s->stores[gfn - s->gfn] |= NO_TABLE;
}

/* This store is still told of. */
void record_store(struct pn_mmu *mmu, pn_gpa gpa, size_t size) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s || !track_recorded(s, gfn))
        return;
    uint8_t *stores = &s->stores[gfn - s->gfn];
    if (!(*stores & NO_TABLE) && (size == 4 || size == 8))
        return;
    if ((*stores & ~NO_TABLE) < QUIET_AFTER)
        ++*stores;
    else if (!track_tables(s, gfn))
        be_quiet(mmu, s, gfn);
}

static void record_page(struct pn_mmu *mmu, pn_gpa gpa) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s)
        return;
    s->stores[gfn - s->gfn] = 0;
    if (!track_recorded(s, gfn))
        have(mmu, s, gfn);
}

void record_access(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode) {
    struct pn_mmu *mmu = vcpu->mmu;
    const struct pn_tlb_entry *e = &vcpu->view->tlb[mode][tlb_index(gva)];
    unsigned how = access | (unsigned)mode << PN_OP_MODE;
    struct walk w;
    how |= (e->tag[access] ^ gva) < PN_PAGE_SIZE ? PN_OP_FORCED : 0;
    how |= mmu->unprotected ? PN_OP_AGAIN : 0;
    mmu->unprotected = false;
    /* Without a top the shadow MMU adopts one, and syncs what is below. */
    if (mmu->quiet_count &&
        (!vcpu->roots->cur->top ||
         (mmu->ops->syncs_others && mmu->ops->syncs_others(vcpu, gva, access))))
        record_shadowed(mmu);
    if (vcpu->walk.levels) {
        stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w);
        for (unsigned level = walk_first(&w); level >= w.level && level; level--)
            record_page(mmu, w.slot_gpa[level]);
    }
    record(mmu, access, vcpu->number, .how = (uint8_t)how, .w = {gva});
}

bool record_held(const struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                 struct pn_xlate *out) {
    const struct slots *slots = &vcpu->mmu->slots;
    const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[mode][tlb_index(gva)];
    if (e->tag[PN_WRITE] != TLB_RECORDED(gva))
        return false;
    for (uint32_t i = 0; i < slots->count; i++) {
        const struct slot *s = slots->by_gfn[i];
        uint64_t inside = e->hva - (uintptr_t)s->pub.hva;
        if (inside >= s->pub.size)
            continue;
        inside += gva & (PN_PAGE_SIZE - 1);
        out->hva = (uint8_t *)s->pub.hva + inside;
        out->gpa = s->pub.gpa + inside;
        return true;
    }
    return false;
}
