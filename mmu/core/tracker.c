/* SPDX-License-Identifier: MIT */
/*
 * The trackers that an MMU has, as tables of operations: how it finds the pages that were
 * written since a harvest.
 *
 *            a leaf of a logged page may take stores   a harvest
 *   wp       while the page is in the log              write-protects what it takes
 *   dbit     always; the walk of a store sets D        scans the leaves, and clears D
 */
#include "mmu/core/internal.h"

static bool logged(const struct slot *s, pn_gfn gfn) {
    return dirty_test(s, gfn);
}

static bool log_store(struct slot *s, pn_gfn gfn) {
    bool news = !dirty_test(s, gfn);
    dirty_mark(s, gfn);
    return news;
}

static void nothing_to_collect(struct pn_mmu_vcpu *vcpu, struct slot *s) {
}

static void protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    mmu->ops->write_protect(mmu, s, gfn);
}

static bool always(const struct slot *s, pn_gfn gfn) {
    return true;
}

static bool no_store_is_news(struct slot *s, pn_gfn gfn) {
    return false;
}

static void scan(struct pn_mmu_vcpu *vcpu, struct slot *s) {
    vcpu->mmu->ops->dirty_scan(vcpu, s);
}

static void nothing_to_rearm(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
}

static const struct tracker_ops wp = {.may_write = logged,
                                      .stored = log_store,
                                      .collect = nothing_to_collect,
                                      .rearm = protect};
static const struct tracker_ops dbit = {.by_dbit = true,
                                        .may_write = always,
                                        .stored = no_store_is_news,
                                        .collect = scan,
                                        .rearm = nothing_to_rearm};

const struct tracker_ops *tracker_of(const struct mmu_ops *ops,
                                     enum pn_dirty_tracker tracker) {
    if (tracker == PN_TRACKER_OFF || tracker == PN_TRACKER_WP)
        return &wp;
    return tracker == PN_TRACKER_DBIT && ops->dirty_scan ? &dbit : NULL;
}
