/* SPDX-License-Identifier: MIT */
/*
 * Who sees a store: the dirty logs.
 *
 * By write protection a leaf of a logged slot has W only while the dirty bit of its page
 * is set. By D bits it has W, and a TLB entry a write tag only while the leaf has D,
 * which the walk of a store sets; a harvest scans the leaves and clears D, or the walk has
 * written down where it set D (mmu/core/buffer.c). Either way a
 * large leaf of a logged slot has no W: it is split, at once (eager_split) or by its
 * first store. Where the log has no finer grain than 2 MiB (wp-2m), a leaf of that size stays, and
 * has W while all of its pages are in the log.
 *
 * The pages of the guest's tables are logged like others: without the option ad when a
 * walk sets A or D in them, with it whenever a walk reads them (as by PML, which logs each
 * D that is set).
 *
 * Invariants
 * 1. (ARCHITECTURE.md, invariant 3) A page written since the last harvest is in the
 *    bitmap, or in a buffer. One whose leaf has D is.
 * 2. A right that a leaf loses leaves the TLBs in the same call.
 */
#include "mmu/tdp/tdp.h"

void tdp_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    struct ewalk w;
    ept_peek(mmu->tdp, gfn << PN_PAGE_SHIFT, &w);
    if (ept_leaf(w.pte, w.level) && *w.ptep & EPT_W) {
        ept_lost(mmu->tdp);
        ept_put(w.ptep, *w.ptep & ~EPT_W);
        tdp_tlb_drop(mmu, s, gfn, true);
    }
}

/* ---- Logging begins and ends ---- */

static void begin_leaf(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                       enum visit_kind kind) {
    struct pn_mmu *mmu = v->vcpu->mmu;
    uint64_t keep = ~(mmu->tracker->by_dbit ? EPT_D : 0);
    keep &= ~EPT_W | tdp_may_write(mmu, slot_of_gfn(mmu, gfn), gfn, level);
    ept_lost(mmu->tdp);
    ept_put(ptep, *ptep & keep);
    if (mmu->cfg.opt.eager_split &&
        (level == 1 || !tdp_large_ok(mmu, slot_of_gfn(mmu, gfn), gfn, level)))
        tdp_split(v->vcpu, ptep); /* out of memory: its first store tries again */
}

void tdp_slot_changed(struct pn_mmu_vcpu *vcpu, struct slot *s, bool placed) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (placed) { /* guest tables may stand there, which read as ones before */
        roots_drop_everything(mmu);
        merged_drop_all(mmu);
    } else if (s->dirty) {
        tdp_harvested(mmu);
        struct visit v = visit_slot(vcpu, s, VISIT_LEAF);
        v.at = begin_leaf;
        tdp_visit(&v, mmu->tdp->root);
        tlb_drop_writes(mmu, s);
    } else {
        tdp_recover(vcpu, s);
    }
    roots_slots_changed(mmu);
    track_slot_added(mmu, s);
}

bool tdp_log_rest(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    if (!vcpu->mmu->tracker->frames || !tdp_large_ok(vcpu->mmu, s, gfn, 2) ||
        dirty_frame_known(s, gfn))
        return false;
    dirty_mark_frame(vcpu, s, gfn);
    return true;
}

/* ---- Harvest ---- */

/* Of pages that one table maps. Return: some leaf lost the right. */
static bool take_right(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, uint64_t *ptep,
                       uint64_t bits, uint64_t right) {
    const uint64_t *hint = &s->tlb_hints[gfn - s->gfn];
    bool taken = false;
    for (; bits; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bits);
        if ((ptep[i] & (EPT_R | right)) != (EPT_R | right))
            continue;
        ept_put(&ptep[i], ptep[i] & ~right);
        taken = true;
        if (!mmu->no_writes && hint[i] & HINT_W)
            tdp_tlb_drop(mmu, s, gfn + i, true);
    }
    return taken;
}

void tdp_rearm(struct pn_mmu *mmu, struct slot *s, pn_gfn first, uint64_t bits, bool d) {
    const uint64_t right = d ? EPT_D : EPT_W;
    while (bits) {
        unsigned skip = (unsigned)__builtin_ctzll(bits);
        unsigned room = 512 - ((first + skip) & 511); /* of the table that maps it */
        uint64_t here = bits >> skip;
        struct ewalk w;
        if (room < 64)
            here &= (1ull << room) - 1;
        ept_peek(mmu->tdp, (first + skip) << PN_PAGE_SHIFT, &w);
        if (w.level == 1 && take_right(mmu, s, first + skip, w.ptep, here, right)) {
            ept_lost(mmu->tdp);
            observe(mmu, dropped, mmu);
            flush_ask(mmu);
        } else if (w.level > 1 && ept_leaf(w.pte, w.level) && w.pte & right) {
            ept_lost(mmu->tdp);
            /* A log has begun, and this one is not split yet; or of one of 2 MiB. */
            ept_put(w.ptep, *w.ptep & ~right);
            tlb_drop_writes(mmu, s);
            observe(mmu, dropped, mmu);
            flush_ask(mmu);
        }
        bits &= ~(here << skip);
    }
}

/* Where walks write, what is in a TLB hides writes: the hypervisor flushes. */
void tdp_harvested(struct pn_mmu *mmu) {
    if (mmu->cfg.opt.ad != PN_AD_NONE)
        roots_drop_everything(mmu);
}

/* ---- Writes that the MMU is told of ---- */

void tdp_written(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size, bool ad) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    if (s && track_code(s, gpa >> PN_PAGE_SHIFT) && mmu->cfg.on_track)
        mmu->cfg.on_track(mmu->cfg.opaque, gpa, size);
}
