/* SPDX-License-Identifier: MIT */
/*
 * The trackers that an MMU has, as tables of operations: how it finds the pages that were
 * written since a harvest.
 *
 *            a leaf of a logged page may take stores   a harvest
 *   wp       while the page is in the log              write-protects what it takes
 *   ring     the same; the page goes into a ring too     the same, of what the rings gave:
 *            (ring.c)                                    a full one is an exit, and reset
 *   sub-page the same; but each store is seen until     the same, and forgets the pieces
 *            all pieces of the page are stored to
 *            (pieces.c)
 *   dbit     always; the walk of a store sets D        scans the leaves, and clears D
 *   pml,     always; the walk of a store sets D        empties the buffers, and clears D of
 *   hdbss    and notes the page (buffer.c)             the pages that it takes
 */
#include "mmu/core/internal.h"

static bool logged(const struct slot *s, pn_gfn gfn) {
    return dirty_test(s, gfn);
}

static bool log_store(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    bool news = !dirty_test(s, gfn);
    dirty_mark(s, gfn);
    return news;
}

static void nothing_to_collect(struct pn_mmu_vcpu *vcpu, struct slot *s) {
}

static void protect(struct pn_mmu *mmu, struct slot *s, pn_gfn first, uint64_t bits) {
    if (mmu->ops->rearm) {
        mmu->ops->rearm(mmu, s, first, bits, false);
        return;
    }
    for (; bits; bits &= bits - 1)
        mmu->ops->write_protect(mmu, s, first + (unsigned)__builtin_ctzll(bits));
}

static bool always(const struct slot *s, pn_gfn gfn) {
    return true;
}

static bool no_store_is_news(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    return false;
}

static void scan(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    vcpu->mmu->ops->dirty_scan(vcpu, s);
}

static void nothing_to_rearm(struct pn_mmu *mmu, struct slot *s, pn_gfn first,
                             uint64_t bits) {
}

static const struct tracker_ops wp = {.may_write = logged,
                                      .stored = log_store,
                                      .collect = nothing_to_collect,
                                      .rearm = protect};
static bool push_store(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    bool news = log_store(vcpu, s, gfn);
    if (news)
        dirty_ring_push(vcpu, s, gfn);
    return news;
}

static const struct tracker_ops pieces = {.pieces = true,
                                          .may_write = logged,
                                          .stored = log_store,
                                          .collect = nothing_to_collect,
                                          .rearm = protect};

static void take_rings(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    dirty_rings_collect(vcpu->mmu, s);
}

static const struct tracker_ops ring = {.rings = true,
                                        .may_write = logged,
                                        .stored = push_store,
                                        .collect = take_rings,
                                        .rearm = protect};
static const struct tracker_ops dbit = {.by_dbit = true,
                                        .may_write = always,
                                        .stored = no_store_is_news,
                                        .collect = scan,
                                        .rearm = nothing_to_rearm};

/* The hypervisor sets D itself, where it maps the page for a store: no processor notes it. */
static bool note_store(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    dirty_mark(s, gfn);
    return false;
}

static void empty_buffers(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    dirty_buffers_empty(vcpu->mmu);
}

static void clear_dirty(struct pn_mmu *mmu, struct slot *s, pn_gfn first, uint64_t bits) {
    mmu->ops->rearm(mmu, s, first, bits, true);
}

#define BUFFERED(which)                                                                  \
    {                                                                                    \
        .by_dbit = true, .layout = which, .may_write = always, .stored = note_store,     \
        .collect = empty_buffers, .rearm = clear_dirty                                   \
    }
static const struct tracker_ops pml = BUFFERED(&dirty_pml);
static const struct tracker_ops hdbss = BUFFERED(&dirty_hdbss);

const struct tracker_ops *tracker_of(const struct mmu_ops *ops,
                                     enum pn_dirty_tracker tracker) {
    if (tracker == PN_TRACKER_OFF || tracker == PN_TRACKER_WP)
        return &wp;
    if (tracker == PN_TRACKER_RING)
        return &ring;
    if (tracker == PN_TRACKER_PIECES)
        return &pieces;
    if (tracker == PN_TRACKER_DBIT)
        return &dbit;
    return !ops->rearm                   ? NULL
           : tracker == PN_TRACKER_PML   ? &pml
           : tracker == PN_TRACKER_HDBSS ? &hdbss
                                         : NULL;
}
