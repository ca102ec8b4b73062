/* SPDX-License-Identifier: MIT */
/*
 * What a translation would come to (fault.c), foreseen without side effects. A fault does
 * much on its way to an outcome; here is what of that decides over it:
 *
 *   - a root without a table adopts one, and leaf tables out of sync below it are synced;
 *   - the walk sets A and D, which marks the dirty log, and drops obsolete pages there;
 *   - room is made: which pages go is replayed, as a large mapping in the way may go too;
 *   - the path is built: pages that it makes are tracked, and forbid large mappings.
 *
 * Invariant: nothing of the MMU is written.
 */
#include <errno.h>
#include <stdlib.h>

#include "mmu/core/explain.h"
#include "mmu/shadow/shadow.h"

#define CLIMB_MAX 100000u /* links looked at from a table up to a root */

struct forecast {
    struct pn_mmu *mmu;
    struct pn_mmu_vcpu *vcpu;
    const struct root *r;
    pn_gva gva;
    enum pn_access access;
    struct walk walk; /* a probe */
    struct slot *slot;
    const struct sp *top; /* the root's, or the one that it adopts */
    bool adopts;
    /* Pages that will have gone, and those whose children were looked through. */
    const struct sp **gone, **seen;
    uint32_t gone_count, gone_room, seen_count, seen_room;
    bool no_memory, inexact;
    pn_gfn made[8]; /* tables that get a new page on the path, and its level */
    uint8_t made_level[8];
    unsigned made_count;
    bool split;
};

/* ---- Sets of pages ---- */

static bool in_set(const struct sp *const *set, uint32_t count, const struct sp *sp) {
    for (uint32_t i = 0; i < count; i++)
        if (set[i] == sp)
            return true;
    return false;
}

static void put(struct forecast *f, const struct sp ***set, uint32_t *count,
                uint32_t *room, const struct sp *sp) {
    if (*count == *room) {
        uint32_t more = *room ? *room * 2 : 64;
        const struct sp **grown = realloc(*set, more * sizeof(*grown));
        if (!grown) {
            f->no_memory = true;
            return;
        }
        *set = grown;
        *room = more;
    }
    (*set)[(*count)++] = sp;
}

static bool is_gone(const struct forecast *f, const struct sp *sp) {
    return in_set(f->gone, f->gone_count, sp);
}

/* ---- What goes ---- */

static void will_zap(struct forecast *f, const struct sp *sp);

static void will_zap_below(struct forecast *f, const struct sp *sp) {
    if (in_set(f->seen, f->seen_count, sp) || f->no_memory)
        return;
    put(f, &f->seen, &f->seen_count, &f->seen_room, sp);
    for (unsigned i = 0; i < 512; i++) {
        if (!(sp->unsync_bits[i / 64] >> (i % 64) & 1))
            continue;
        const struct sp *child = sp_of(spte_child(sp->spt[i]));
        if (child->unsync)
            will_zap(f, child);
        else
            will_zap_below(f, child);
    }
}

/* sp_zap */
static void will_zap(struct forecast *f, const struct sp *sp) {
    if (is_gone(f, sp) || f->no_memory)
        return;
    if (!(sp->role & ROLE_ROOT) && f->mmu->shadow->unsync_level == 1)
        will_zap_below(f, sp);
    put(f, &f->gone, &f->gone_count, &f->gone_room, sp);
}

/* The oldest page that is still there; idle: that no vCPU uses. */
static const struct sp *oldest(const struct forecast *f, bool idle) {
    struct list *end = &f->mmu->shadow->lru;
    for (struct list *l = end->prev; l != end; l = l->prev) {
        const struct sp *sp = list_sp(l);
        if (!is_gone(f, sp) && !(idle && (sp == f->top || sp_in_use(f->mmu, sp))))
            return sp;
    }
    return NULL;
}

static uint32_t obsolete_left(const struct forecast *f) {
    uint32_t n = f->mmu->shadow->obsolete;
    for (uint32_t i = 0; i < f->gone_count; i++)
        n -= sp_obsolete(f->mmu->shadow, f->gone[i]);
    return n;
}

/* sp_make_room */
static void will_make_room(struct forecast *f) {
    uint64_t most = sp_budget(f->mmu), pages = f->mmu->shadow->pages;
    const struct sp *sp;
    for (unsigned i = 0; i < OBSOLETE_STEP && obsolete_left(f) && !f->no_memory; i++)
        will_zap(f, oldest(f, false));
    if (pages - f->gone_count + SP_ROOM <= most)
        return;
    while (pages - f->gone_count + SP_REFILL > most && !f->no_memory &&
           (sp = oldest(f, true)))
        will_zap(f, sp);
}

/* ---- A and D ---- */

/* The walk's own writes. Return: the dirty log has the frame by then. */
static bool will_set_ad(struct forecast *f, pn_gfn gfn) {
    const struct stage *st = &f->vcpu->walk;
    bool marked = false;
    for (unsigned level = walk_first(&f->walk); level >= f->walk.level && level;
         level--) {
        pn_gfn at = f->walk.slot_gpa[level] >> PN_PAGE_SHIFT;
        struct slot *s = slot_of_gfn(f->mmu, at);
        if (!explain_missing_ad(st, &f->walk, level, f->access) || !s ||
            s->pub.flags & PN_SLOT_READONLY)
            continue;
        marked |= at == gfn;
        if (!track_tables(s, at))
            continue;
        for_each_table(f->mmu, sp, at) if (sp_obsolete(f->mmu->shadow, sp))
            will_zap(f, sp);
    }
    return marked;
}

/* ---- The path ---- */

struct at {
    const struct sp *sp; /* NULL: a page that will be made, empty */
    uint32_t role;
};

/* sp_get. Return: false: it cannot be made. */
static bool obtain(struct forecast *f, pn_gfn gfn, uint32_t role, struct at *at) {
    *at = (struct at){NULL, role};
    const struct sp *sp = sp_find(f->vcpu, gfn, role);
    while (sp && (sp->gfn != gfn || sp->role != role || is_gone(f, sp)))
        sp = sp->hash_next;
    if (sp && !sp_obsolete(f->mmu->shadow, sp)) {
        at->sp = sp; /* where it is synced, what its entries are then is not foreseen */
        f->inexact |= role_level(role) > 1 && f->mmu->shadow->unsync_level > 1 &&
                      (sp->unsync || sp->unsync_children);
        return true;
    }
    if (sp)
        will_zap(f, sp);
    if (role & ROLE_DIRECT)
        return true;
    if (!slot_of_gfn(f->mmu, gfn))
        return false;
    if (role_level(role) > 1 && f->mmu->shadow->unsync_level == 1)
        for_each_table(f->mmu, other, gfn) if (other->unsync) will_zap(f, other);
    f->made[f->made_count] = gfn;
    f->made_level[f->made_count++] = (uint8_t)role_level(role);
    return true;
}

/* disallow_large of the frame by then. */
static uint32_t forbidden(const struct forecast *f, pn_gfn gfn, unsigned level) {
    unsigned shift = 9 * (level - 1);
    uint32_t n = *slot_large(f->slot, gfn, level);
    for (uint32_t i = 0; i < f->gone_count; i++)
        n -= !sp_direct(f->gone[i]) && f->gone[i]->gfn - f->slot->gfn < f->slot->npages &&
             f->gone[i]->gfn >> shift == gfn >> shift;
    for (unsigned i = 0; i < f->made_count; i++)
        n += f->made[i] - f->slot->gfn < f->slot->npages &&
             f->made[i] >> shift == gfn >> shift;
    return n;
}

static bool may_be_leaf(const struct forecast *f, uint32_t role) {
    unsigned level = role_level(role);
    if (level == 1)
        return true;
    if (f->walk.second_level && level > f->walk.second_level)
        return false;
    if (apic_within(f->vcpu, f->walk.gfn, level))
        return false;
    return level <= f->walk.level && level <= 3 && !(role & ROLE_ROOT) &&
           f->mmu->cfg.opt.large_pages && !(f->slot->pub.flags & PN_SLOT_LOG_DIRTY) &&
           !forbidden(f, f->walk.gfn, level);
}

static void from_root(const struct forecast *f, pn_gfn *gfn, uint32_t *role) {
    const struct stage *m = &f->vcpu->walk;
    unsigned i = level_index(f->gva, 3);
    *role = mode_role(m) | 2;
    if (m->levels == 0) {
        *gfn = i * level_pages(3);
        *role = ROLE_DIRECT | 2;
    } else if (m->levels == 2) {
        *gfn = (uint32_t)(m->root & m->bits.address) >> PN_PAGE_SHIFT;
        *role |= i << ROLE_QUAD_SHIFT;
    } else {
        *gfn = (m->pdpte[i] & m->bits.address) >> PN_PAGE_SHIFT;
    }
    if (f->walk.second_level && m->levels)
        *gfn = f->walk.slot_gpa[2] >> PN_PAGE_SHIFT;
}

/* What the entry for gva in a page of this role has to lead to. */
static void below(const struct forecast *f, uint32_t role, pn_gfn *gfn, uint32_t *child) {
    unsigned level = role_level(role);
    if (role & ROLE_ROOT) {
        from_root(f, gfn, child);
    } else if (role & ROLE_DIRECT || level == f->walk.level) {
        pn_gfn own = walk_own_gfn(f->vcpu, &f->walk);
        *gfn = own & ~(level_pages(level) - 1);
        *child = ROLE_DIRECT | (level - 1);
    } else {
        *gfn = f->walk.second_level
                   ? f->walk.slot_gpa[level - 1] >> PN_PAGE_SHIFT
                   : (f->walk.gpte[level] & f->vcpu->walk.bits.address) >> PN_PAGE_SHIFT;
        *child = (role & ROLE_FORMAT) | (level - 1);
        if (role & ROLE_4BYTE)
            *child |= (f->gva >> 21 & 1) << ROLE_QUAD_SHIFT;
    }
}

/* build_path. Return: there will be a place for the leaf. */
static bool will_have_path(struct forecast *f) {
    const struct stage *m = &f->vcpu->walk;
    struct at at = {f->top, f->top ? f->top->role : ROLE_ROOT | ROLE_DIRECT | 3};
    pn_gfn gfn;
    if (!f->top && m->levels >= 4 &&
        (!root_frame(f->vcpu, f->r, &gfn) ||
         !obtain(f, gfn, mode_role(m) | m->levels, &at)))
        return false;
    while (!may_be_leaf(f, at.role)) {
        unsigned level = role_level(at.role);
        uint64_t v = at.sp ? at.sp->spt[level_index(f->gva, level)] : 0;
        const struct sp *child = spte_table(v) ? sp_of(spte_child(v)) : NULL;
        uint32_t role;
        below(f, at.role, &gfn, &role);
        if (child && child->gfn == gfn && child->role == role && !is_gone(f, child)) {
            at = (struct at){child, role};
            continue;
        }
        f->split |= spte_leaf(v);
        if (!obtain(f, gfn, role, &at))
            return false;
    }
    return true;
}

/* ---- The gate ---- */

/* write_gate. logged: the page is in the dirty log by then. */
static enum pn_outcome gate(const struct forecast *f, struct slot *s, pn_gfn gfn,
                            bool logged) {
    const struct shadow *sh = f->mmu->shadow;
    unsigned highest = 0, pages = 0, watched = 0;
    for_each_table(f->mmu, sp, gfn) {
        if (is_gone(f, sp))
            continue;
        watched += !sp->unsync || agile_ends(f->mmu);
        if (sp_obsolete(sh, sp))
            continue;
        highest = sp_level(sp) > highest ? sp_level(sp) : highest;
        pages++;
    }
    for (unsigned i = 0; i < f->made_count; i++) {
        if (f->made[i] != gfn)
            continue;
        highest = f->made_level[i] > highest ? f->made_level[i] : highest;
        watched += !sh->open;
        pages++;
    }
    if (watched && (highest > sh->unsync_level || (sh->policy.nests && pages) ||
                    (sh->policy.unsync_max && pages > 1)))
        return PN_OUT_tracked_table;
    if (s->dirty && tracker_protects(f->mmu->tracker) && !logged && !dirty_known(s, gfn))
        return PN_OUT_dirty_log;
    return PN_OUT_NO_FAULT;
}

static enum pn_outcome will_map(struct forecast *f) {
    pn_gfn gfn = f->walk.gfn;
    bool logged = will_set_ad(f, gfn), path = false;
    if (!(f->r->narrow && f->gva >> 32)) {
        will_make_room(f);
        path = will_have_path(f);
    }
    enum pn_outcome outcome =
        pn_stores(f->access) ? gate(f, f->slot, gfn, logged) : PN_OUT_NO_FAULT;
    if (outcome)
        return outcome;
    return !path ? PN_OUT_uncached : f->split ? PN_OUT_mapped_split : PN_OUT_mapped;
}

static enum pn_outcome will_fault(struct forecast *f, int rc, struct pn_verdict *v) {
    if (rc < 0)
        return walk_outcome(&f->walk);
    v->gpa = f->walk.gfn << PN_PAGE_SHIFT | (f->gva & (PN_PAGE_SIZE - 1));
    f->slot = slot_of_gfn(f->mmu, f->walk.gfn);
    if (!f->slot || (pn_stores(f->access) && f->slot->pub.flags & PN_SLOT_READONLY))
        return PN_OUT_mmio;
    return will_map(f);
}

/* ---- The shadow tables as they will be ---- */

/* Is the page below the top? By the links, from below. */
static bool reached(struct forecast *f, const struct sp *sp, unsigned *links) {
    struct ptrs_pos pos = {0};
    if (sp == f->top)
        return true;
    for (uint64_t *p; (p = ptrs_next(sp->parents, &pos));) {
        if (++*links > CLIMB_MAX) {
            f->inexact = true;
            return false;
        }
        if (reached(f, sp_of(p), links))
            return true;
    }
    return false;
}

/* Syncing what is below the adopted top tracks those tables: no spte of a frame that is one
 * of them takes stores afterwards. */
static bool becomes_tracked(struct forecast *f, pn_gfn gfn) {
    unsigned links = 0;
    if (f->mmu->shadow->stays && !agile_ends(f->mmu))
        return false;
    for_each_table(f->mmu, sp,
                   gfn) if (sp->unsync &&
                            (agile_ends(f->mmu) || reached(f, sp, &links))) return true;
    return false;
}

/* spte_sync: what the entry is once its table is synced. */
static uint64_t synced(const struct sp *sp, unsigned i, struct pn_mmu *mmu) {
    uint64_t v = sp->spt[i], mask = SPTE_GRANT | SPTE_PKEY;
    if (!sp->unsync || !v)
        return v;
    uint64_t gpte = sp_gpte(sp, i, slot_hva(slot_of_gfn(mmu, sp->gfn), sp->gfn));
    struct gpte g = gpte_decode(sp->format, sp_level(sp), gpte);
    if (sp->frames)
        return spte_framed_keeps(sp, i, gpte, &gpte) ? (v & ~mask) | gpte : 0;
    bool same = g.usable;
    if (same && spte_table(v)) {
        const struct sp *child = sp_of(spte_child(v));
        pn_gfn gfn = g.leaf ? gpte_leaf_gfn(sp->format, sp_level(sp), i, gpte) : g.table;
        same = g.leaf == sp_direct(child) && child->gfn == gfn;
    } else if (same) {
        same =
            g.leaf && gpte_leaf_gfn(sp->format, sp_level(sp), i, gpte) == sp_gfn(sp, i);
    }
    return same ? (v & ~mask) | g.grant : 0;
}

/* shadow_walk, from the top that the root has or adopts; one that it adopts is synced, with
 * all that is below it, and at the end of an interval all are. */
static void walk_top(struct forecast *f, struct swalk *w) {
    const struct root r = {.top = (struct sp *)(uintptr_t)f->top, .spt = f->top->spt};
    shadow_walk(&r, f->gva, w);
    w->spte = shadow_opened(f->mmu, sp_of(w->sptep), sp_index(w->sptep));
    if (!f->adopts && !agile_ends(f->mmu))
        return;
    uint64_t grant = SPTE_GRANT, pkey = 0, v;
    for (struct sp *sp = r.top;; sp = sp_of(spte_child(v))) {
        unsigned i = level_index(f->gva, sp_level(sp));
        v = synced(sp, i, f->mmu);
        grant &= v;
        pkey |= v & SPTE_PKEY;
        if (spte_table(v))
            continue;
        if (spte_leaf(v) && sp_level(sp) == 1 && becomes_tracked(f, sp_gfn(sp, i)))
            v &= ~SPTE_MMU_W;
        v &= shadow_opened(f->mmu, sp, i) | ~SPTE_MMU_W;
        *w = (struct swalk){&sp->spt[i], v, grant | pkey, sp_level(sp)};
        return;
    }
}

/* All is synced before the fault, and what is in its way then is not foreseen. */
static bool syncs_first(struct forecast *f) {
    struct root r = {.top = (struct sp *)(uintptr_t)f->top, .narrow = f->r->narrow};
    bool first =
        f->mmu->shadow->policy.syncs_at_fault && !f->adopts && sync_needed(&r, f->gva);
    f->inexact |= first;
    return first;
}

static enum pn_outcome foresee(struct forecast *f, enum pn_tlb_mode mode, int rc,
                               struct pn_verdict *v) {
    struct swalk sw;
    if (!f->top || (f->r->narrow && f->gva >> 32))
        return will_fault(f, rc, v);
    walk_top(f, &sw);
    bool write = pn_stores(f->access);
    unsigned acc = spte_acc(sw.grant);
    if (pn_on_shadow_stack(f->access))
        acc |= shadow_stack_right(f->top, f->gva, sw.spte);
    bool allowed =
        !rights_check(&f->vcpu->walk.rights, acc, spte_pkey(sw.grant), f->access, mode);
    if (!allowed || (f->access == PN_WRITE && !(sw.grant & SPTE_D)))
        return will_fault(f, rc, v);
    pn_gpa offset = f->gva & (PN_PAGE_SIZE - 1);
    if (spte_leaf(sw.spte)) {
        pn_gfn gfn = swalk_gfn(&sw, f->gva);
        v->gpa = gfn << PN_PAGE_SHIFT | offset;
        if (!write || (sw.spte & SPTE_STORE) == SPTE_STORE)
            return PN_OUT_NO_FAULT;
        if (sw.spte & SPTE_HOST_W && sw.level == 1 && !syncs_first(f)) {
            enum pn_outcome o = gate(f, slot_of_gfn(f->mmu, gfn), gfn, false);
            return o ? o : PN_OUT_mapped;
        }
    } else if (spte_mmio(sw.spte) &&
               (sw.spte >> PN_PAGE_SHIFT & SPTE_GEN) ==
                   (f->mmu->slots.generation & SPTE_GEN) &&
               !syncs_first(f)) {
        v->gpa = swalk_gfn(&sw, f->gva) << PN_PAGE_SHIFT | offset;
        return PN_OUT_mmio_cached;
    }
    return will_fault(f, rc, v);
}

/* root_adopt */
static void find_top(struct forecast *f) {
    const struct stage *m = &f->vcpu->walk;
    f->top = f->r->top;
    pn_gfn gfn;
    if (f->top || m->levels < 4 || !root_frame(f->vcpu, f->r, &gfn))
        return;
    const struct sp *sp = sp_find(f->vcpu, gfn, mode_role(m) | m->levels);
    f->adopts = sp && !sp_obsolete(f->mmu->shadow, sp);
    f->top = f->adopts ? sp : NULL;
}

int shadow_predict(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode, struct pn_verdict *v) {
    struct forecast f = {.mmu = vcpu->mmu,
                         .vcpu = vcpu,
                         .r = vcpu->roots->cur,
                         .gva = gva,
                         .access = access};
    int rc = stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &f.walk);
    find_top(&f);
    v->outcome = foresee(&f, mode, rc, v);
    v->exact = !f.inexact && !vcpu->world.second;
    free(f.gone);
    free(f.seen);
    return f.no_memory ? -ENOMEM : 0;
}
