/* SPDX-License-Identifier: MIT */
/*
 * What a translation would come to (fault.c), foreseen without side effects: the outcome of
 * the last fault of the access itself. References to guest tables fault before it, and what
 * is mapped, split or logged for them may answer for the page, too: these fixes are replayed.
 *
 * Invariant: nothing of the MMU is written.
 */
#include "mmu/core/explain.h"
#include "mmu/tdp/tdp.h"

#define FIXES_MAX 16u /* a reference each for A or D, and one for every gpte */

/* A violation that will have been handled. */
struct fix {
    pn_gfn gfn;
    unsigned level, from; /* of the leaf then; of a larger one that was split, or 0 */
    bool logged;          /* a store: the dirty log has the page */
    bool all;             /* and all of its 2 MiB: leaves there take stores (tdp_grant) */
};

struct forecast {
    struct pn_mmu *mmu;
    const struct walk *walk;
    struct fix fix[FIXES_MAX];
    unsigned fixes;
    pn_gfn marked[8]; /* frames that the walk sets A or D in */
    unsigned marks;
    pn_gfn mmio[8]; /* frames without a memslot that get an MMIO mark */
    unsigned mmios;
};

/* Does the fix log that page of the slot, too, as one of its frame of 2 MiB? */
static bool logs_frame(const struct fix *x, const struct slot *s, pn_gfn gfn) {
    return x->all && x->gfn - s->gfn < s->npages && x->gfn >> 9 == gfn >> 9;
}

static bool will_be_logged(const struct forecast *f, const struct slot *s, pn_gfn gfn) {
    bool is = dirty_known(s, gfn);
    for (unsigned i = 0; i < f->fixes; i++)
        is |=
            (f->fix[i].logged && f->fix[i].gfn == gfn) || logs_frame(&f->fix[i], s, gfn);
    for (unsigned i = 0; i < f->marks; i++)
        is |= f->marked[i] == gfn;
    return is;
}

/* tdp_log_rest: of all of its 2 MiB. */
static bool frame_will_be_logged(const struct forecast *f, const struct slot *s,
                                 pn_gfn gfn) {
    pn_gfn at, end = dirty_frame(s, gfn, &at);
    while (at < end && will_be_logged(f, s, at))
        at++;
    return at == end;
}

/* tdp_may_write */
static bool will_write(const struct forecast *f, const struct slot *s, pn_gfn gfn,
                       unsigned level) {
    if (s->pub.flags & PN_SLOT_READONLY)
        return false;
    if (level > 1)
        return !s->dirty ||
               (level == 2 && f->mmu->tracker->frames && frame_will_be_logged(f, s, gfn));
    return !s->dirty || !tracker_protects(f->mmu->tracker) || will_be_logged(f, s, gfn);
}

static unsigned best_level(const struct forecast *f, struct slot *s, pn_gfn gfn) {
    unsigned level = 3;
    while (level > 1 && !tdp_large_ok(f->mmu, s, gfn, level))
        level--;
    return level;
}

/* ---- The leaf of a frame, as it will be ---- */

struct leaf {
    bool is, write, mmio;
    unsigned level;
};

static bool same_region(pn_gfn a, pn_gfn b, unsigned level) {
    return !((a ^ b) >> 9 * (level - 1));
}

/* Does a fix for a store lead by the entries above gfn, and open what was closed there? */
static bool will_open(const struct forecast *f, pn_gfn gfn) {
    bool opens = false;
    for (unsigned i = 0; i < f->fixes; i++)
        opens |= f->fix[i].logged && same_region(gfn, f->fix[i].gfn, 2);
    return opens;
}

static bool will_grant(const struct forecast *f, const struct slot *s, pn_gfn gfn) {
    bool grants = false;
    for (unsigned i = 0; i < f->fixes; i++)
        grants |= logs_frame(&f->fix[i], s, gfn);
    return grants;
}

/* What a fix did to the leaf of a frame, if it did something. */
static bool by_fix(const struct forecast *f, const struct fix *x, struct slot *s,
                   pn_gfn gfn, struct leaf *l) {
    unsigned level = x->level;
    if (!same_region(gfn, x->gfn, level)) {
        if (!x->from || !same_region(gfn, x->gfn, x->from))
            return false;
        for (level = x->from - 1; same_region(gfn, x->gfn, level); level--)
            ;
    }
    struct ewalk w;
    ept_peek(f->mmu->tdp, gfn << PN_PAGE_SHIFT, &w);
    bool closed = w.level == 1 && tdp_closed(sp_of(w.ptep)) && !will_open(f, gfn);
    *l = (struct leaf){
        .is = true, .level = level, .write = !closed && will_write(f, s, gfn, level)};
    return true;
}

static struct leaf leaf_of(const struct forecast *f, struct slot *s, pn_gfn gfn) {
    struct leaf l;
    struct ewalk w;
    for (unsigned i = f->fixes; s && i-- > 0;)
        if (by_fix(f, &f->fix[i], s, gfn, &l))
            return l;
    for (unsigned i = 0; i < f->mmios; i++)
        if (f->mmio[i] == gfn)
            return (struct leaf){.mmio = true};
    ept_peek(f->mmu->tdp, gfn << PN_PAGE_SHIFT, &w);
    bool opened = s && w.level == 1 && will_write(f, s, gfn, 1) &&
                  ((*w.ptep & EPT_W && will_open(f, gfn)) || will_grant(f, s, gfn));
    return (struct leaf){.is = ept_leaf(w.pte, w.level),
                         .write = w.pte & EPT_W || opened,
                         .mmio = tdp_mmio_known(f->mmu, w.pte),
                         .level = w.level};
}

/* ---- References to guest tables ---- */

/* log_frame, tdp_log_rest: does a store to the page log all of its 2 MiB now? */
static bool will_log_frame(const struct forecast *f, struct slot *s, pn_gfn gfn) {
    return s->dirty && f->mmu->tracker->frames &&
           (!will_be_logged(f, s, gfn) ||
            (tdp_large_ok(f->mmu, s, gfn, 2) && !frame_will_be_logged(f, s, gfn)));
}

/* fix, of a frame with a slot. */
static void will_fix(struct forecast *f, struct slot *s, pn_gfn gfn, const struct leaf *l,
                     bool write) {
    unsigned level = best_level(f, s, gfn);
    if (f->fixes < FIXES_MAX)
        f->fix[f->fixes++] =
            (struct fix){.gfn = gfn,
                         .level = level,
                         .from = l->is && l->level > level ? l->level : 0,
                         .logged = write,
                         .all = write && will_log_frame(f, s, gfn)};
}

static void will_read(struct forecast *f, pn_gfn gfn) {
    struct slot *s = slot_of_gfn(f->mmu, gfn);
    struct leaf l = leaf_of(f, s, gfn);
    bool write = f->mmu->tdp->table_access == PN_WRITE;
    if (s && write && s->pub.flags & PN_SLOT_READONLY)
        return; /* emulated: nothing is mapped */
    if (s && !l.mmio && (!l.is || (write && !l.write)))
        will_fix(f, s, gfn, &l, write);
    else if (!s && !l.mmio)
        f->mmio[f->mmios++] = gfn;
}

/* A or D is set there. */
static void will_mark(struct forecast *f, pn_gfn gfn) {
    struct slot *s = slot_of_gfn(f->mmu, gfn);
    if (!s || s->pub.flags & PN_SLOT_READONLY)
        return;
    struct leaf l = leaf_of(f, s, gfn);
    if (l.is && !l.write)
        will_fix(f, s, gfn, &l, true);
    f->marked[f->marks++] = gfn;
}

static void will_walk(struct forecast *f, const struct stage *st, enum pn_access access) {
    const struct walk *w = f->walk;
    for (unsigned level = walk_first(w); level >= w->level && level; level--)
        will_read(f, w->slot_gpa[level] >> PN_PAGE_SHIFT);
    for (unsigned level = walk_first(w); level >= w->level && level; level--)
        if (explain_missing_ad(st, w, level, access))
            will_mark(f, w->slot_gpa[level] >> PN_PAGE_SHIFT);
}

/* ---- The access itself ---- */

static enum pn_outcome will_end(const struct forecast *f, pn_gfn gfn, bool write) {
    struct slot *s = slot_of_gfn(f->mmu, gfn);
    if (!tdp_reaches(f->mmu->tdp, gfn << PN_PAGE_SHIFT))
        return PN_OUT_mmio;
    struct leaf l = leaf_of(f, s, gfn);
    if (l.is && (!write || l.write))
        return PN_OUT_NO_FAULT;
    if (l.mmio)
        return PN_OUT_mmio_cached;
    if (!s || (write && s->pub.flags & PN_SLOT_READONLY))
        return PN_OUT_mmio;
    if (write && s->dirty && tracker_protects(f->mmu->tracker) &&
        (!will_be_logged(f, s, gfn) || will_log_frame(f, s, gfn)))
        return PN_OUT_dirty_log;
    return l.is && l.level > best_level(f, s, gfn) ? PN_OUT_mapped_split : PN_OUT_mapped;
}

int tdp_predict(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                enum pn_tlb_mode mode, struct pn_verdict *v) {
    const struct tdp *t = vcpu->mmu->tdp;
    struct walk w;
    struct forecast f = {.mmu = vcpu->mmu, .walk = &w};
    if (stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) < 0) {
        v->outcome = walk_outcome(&w);
        v->exact = !vcpu->world.second;
        return 0;
    }
    v->gpa = w.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    if (vcpu->walk.levels)
        will_walk(&f, &vcpu->walk, access);
    v->outcome = will_end(&f, w.gfn, pn_stores(access));
    v->exact =
        t->pages + TDP_ROOM * (f.fixes + f.mmios + 1) <= t->budget && !vcpu->world.second;
    return 0;
}
