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
 *   wp-2m    while the page is in the log, where its    the same
 *            first store puts all of its 2 MiB; a
 *            large one while all of that is
 *   accessed always; each first access is noted         empties the TLBs
 *   dbit     always; the walk of a store sets D        scans the leaves, and clears D
 *   pml,     always; the walk of a store sets D        empties the buffers, and clears D of
 *   hdbss    and notes the page (buffer.c)             the pages that it takes
 *
 * What a harvest does to leaves is put off until they are used (shadow/close.c, tdp/close.c). Nor
 * are leaves scanned here: who sets D in one marks the page in the log, in the place of the scan
 * that a hypervisor has to make, and the leaves that this one would look at are counted.
 */
#include "mmu/core/internal.h"

static bool logged(const struct slot *s, pn_gfn gfn) {
    return dirty_known(s, gfn);
}

static bool log_store(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    bool news = !dirty_known(s, gfn);
    dirty_mark(s, gfn);
    return news;
}

static void nothing_to_collect(struct pn_mmu_vcpu *vcpu, struct slot *s) {
}

static bool always(const struct slot *s, pn_gfn gfn) {
    return true;
}

static void count_scan(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    vcpu->stats->v[PN_STAT_dbit_scanned] += s->leaves;
}

static const struct tracker_ops wp = {
    .may_write = logged, .stored = log_store, .collect = nothing_to_collect};
static bool push_store(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    bool news = log_store(vcpu, s, gfn);
    if (news)
        dirty_ring_push(vcpu, s, gfn);
    return news;
}

static const struct tracker_ops pieces = {.pieces = true,
                                          .may_write = logged,
                                          .stored = log_store,
                                          .collect = nothing_to_collect};

/* All of the frame's pages are written now, as far as anybody knows. */
void dirty_mark_frame(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    pn_gfn first, end = dirty_frame(s, gfn, &first);
    for (pn_gfn g = first; g < end; g++)
        dirty_mark(s, g);
    vcpu->mmu->ops->grant(vcpu->mmu, s, first, end);
}

static bool log_frame(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    if (dirty_known(s, gfn))
        return false;
    dirty_mark_frame(vcpu, s, gfn);
    return true;
}

static const struct tracker_ops frames = {.frames = true,
                                          .may_write = logged,
                                          .stored = log_frame,
                                          .collect = nothing_to_collect};

static void take_rings(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    dirty_rings_empty(vcpu->mmu);
}

static const struct tracker_ops ring = {
    .rings = true, .may_write = logged, .stored = push_store, .collect = take_rings};

/* The hypervisor sets D itself, where it maps the page for a store: no processor notes it. */
static bool note_store(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    dirty_mark(s, gfn);
    return false;
}

/* dirty_accessed() is told of it. */
static bool no_store_is_news(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn) {
    return false;
}

static const struct tracker_ops accessed = {.accesses = true,
                                            .may_write = always,
                                            .stored = no_store_is_news,
                                            .collect = nothing_to_collect};

static void empty_buffers(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    dirty_buffers_empty(vcpu->mmu);
}

static const struct tracker_ops dbit = {
    .by_dbit = true, .may_write = always, .stored = note_store, .collect = count_scan};

#define BUFFERED(which)                                                                  \
    {                                                                                    \
        .by_dbit = true, .layout = which, .may_write = always, .stored = note_store,     \
        .collect = empty_buffers                                                         \
    }
static const struct tracker_ops pml = BUFFERED(&dirty_pml);
static const struct tracker_ops hdbss = BUFFERED(&dirty_hdbss);

const struct tracker_ops *tracker_of(enum pn_dirty_tracker tracker) {
    switch (tracker) {
    case PN_TRACKER_OFF:
    case PN_TRACKER_WP:
        return &wp;
    case PN_TRACKER_RING:
        return &ring;
    case PN_TRACKER_PIECES:
        return &pieces;
    case PN_TRACKER_FRAMES:
        return &frames;
    case PN_TRACKER_ACCESSED:
        return &accessed;
    case PN_TRACKER_DBIT:
        return &dbit;
    case PN_TRACKER_PML:
        return &pml;
    case PN_TRACKER_HDBSS:
        return &hdbss;
    default:
        return NULL;
    }
}
