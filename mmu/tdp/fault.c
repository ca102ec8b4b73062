/* SPDX-License-Identifier: MIT */
/*
 * Translation in two dimensions: TLB miss -> walk of the guest's tables, each reference
 * through the second-level ones -> TLB entry; or #PF for the guest, without an exit; or
 * an EPT violation or misconfiguration, the exits: -> MMIO, dirty log, or map and walk
 * again from the start, as the processor does after VM entry.
 *
 * Invariants
 * 1. With nothing missing a walk of g guest and h second levels reads (g+1)(h+1)-1
 *    entries, fewer by the levels that large pages save in either dimension.
 * 2. Every violation, every misconfiguration and every guest #PF begins with an event
 *    page_fault and ends in fault_done.
 * 3. Room for tables is made before a path is built.
 * 4. A walk starts over at most TDP_FIXES_MAX times; then it goes by the slots alone, and
 *    nothing is cached.
 *
 * The option ad says whether the second level has A and D bits of the processor's. With
 * them its reads of guest tables are writes to the second level (SDM volume 3,
 * "Accessed and Dirty Flags for EPT"; APM volume 2, "Nested versus Guest Page Faults,
 * Fault Ordering": walks of the guest's tables are user writes there). Without them only
 * what changes a gpte is a write: then the dirty log has the tables that changed.
 */
#include "mmu/tdp/tdp.h"

/* ---- Mapping ---- */

static unsigned best_level(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    unsigned level = 3;
    while (level > 1 && !tdp_large_ok(mmu, s, gfn, level))
        level--;
    return level;
}

struct path {
    struct visit v;
    struct violation *why;
    bool write;     /* for a store */
    uint64_t *ptep; /* NULL until its level is reached */
};

/* One step of the path: a table, where there is none. Out of memory the visit ends here. */
static void step_down(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
                      enum visit_kind kind) {
    struct path *p = (struct path *)v;
    if (level == v->lowest)
        p->ptep = ptep;
    else if (kind == VISIT_LEAF)
        p->why->split |= tdp_split(v->vcpu, ptep);
    else if (kind != VISIT_TABLE)
        tdp_link(v->vcpu, ptep);
    else if (p->write && !(*ptep & EPT_W))
        tdp_open(v->vcpu->mmu, ptep);
    else if (!(*ptep & EPT_A))
        tdp_clean(v->vcpu->mmu->tdp, ptep);
}

/* Where the leaf, or MMIO mark, of the frame goes. Return: NULL out of memory. */
static uint64_t *build_path(struct violation *v, unsigned level, bool write) {
    pn_gfn gfn = v->gpa >> PN_PAGE_SHIFT;
    struct path p = {.v = {.vcpu = v->vcpu,
                           .first = gfn,
                           .end = gfn + 1,
                           .kinds = VISIT_LEAF | VISIT_MARK | VISIT_TABLE | VISIT_ABSENT,
                           .lowest = level,
                           .at = step_down},
                     .why = v,
                     .write = write};
    tdp_visit(&p.v, v->vcpu->mmu->tdp->root);
    return p.ptep;
}

/* Map the frame, or give its leaf the rights it may have now. write: they are about to be
 * used. Return: its leaf, or NULL: out of memory. */
static uint64_t *map(struct violation *v, struct slot *s, bool write) {
    struct pn_mmu *mmu = v->vcpu->mmu;
    pn_gfn gfn = v->gpa >> PN_PAGE_SHIFT;
    unsigned level = best_level(mmu, s, gfn);
    uint64_t *ptep = build_path(v, level, write);
    if (!ptep)
        return NULL;
    if (ept_table(*ptep, level))
        tdp_collapse(v->vcpu, s, ptep);
    uint64_t bits = EPT_A | (write ? EPT_D : 0) | tdp_may_write(mmu, s, gfn, level);
    if (ept_leaf(*ptep, level))
        ept_put(ptep, *ptep | bits);
    else
        tdp_set_leaf(v->vcpu, s, ptep, bits);
    return ptep;
}

/* ---- Exits ---- */

void tdp_violated(const struct violation *v) {
    static const uint64_t kind[] = {
        [PN_READ] = EPT_Q_READ, [PN_WRITE] = EPT_Q_WRITE, [PN_FETCH] = EPT_Q_FETCH};
    uint64_t q = kind[v->access] | EPT_Q_GVA | (v->final ? EPT_Q_FINAL : 0) |
                 (v->stack ? EPT_Q_STACK : 0);
    if (!v->final && v->vcpu->mmu->cfg.opt.ad == PN_AD_EPT)
        q |= EPT_Q_READ | EPT_Q_WRITE; /* SDM, the table of exit qualifications */
    bool present = ept_present(v->w.pte);
    if (present)
        q |= (v->w.pte & EPT_RWX) << EPT_Q_GRANT_SHIFT;
    exit_begins(v->vcpu->mmu);
    pn_count(v->vcpu->stats, ept_violation);
    observe(v->vcpu->mmu, fault_taken, v->vcpu);
    pn_emit(v->vcpu->ring, page_fault, v->gva, v->error | present);
    pn_emit(v->vcpu->ring, ept_violation, v->gva, v->gpa, q, v->w.level);
}

/* ptep: the leaf as it is now, or NULL. */
static enum pn_outcome done(const struct violation *v, enum pn_outcome outcome,
                            const uint64_t *ptep) {
    return fault_done(v->vcpu, outcome, v->gva, ptep ? sp_level(sp_of(ptep)) : 0,
                      ptep ? ept_public(*ptep) : 0);
}

static enum pn_outcome fix_mmio(struct violation *v, const struct slot *s) {
    uint64_t *ptep = s ? NULL : build_path(v, 1, false);
    if (ptep)
        tdp_set_mmio(v->vcpu, ptep);
    return done(v, PN_OUT_mmio, ptep);
}

/* The exit handler. */
static __attribute__((noinline)) enum pn_outcome fix(struct violation *v) {
    struct pn_mmu_vcpu *vcpu = v->vcpu;
    struct pn_mmu *mmu = vcpu->mmu;
    pn_gfn gfn = v->gpa >> PN_PAGE_SHIFT;
    bool write = v->access == PN_WRITE;
    struct slot *s = slot_of_gfn(mmu, gfn);
    enum pn_outcome outcome = PN_OUT_NO_FAULT;
    tdp_violated(v);
    tdp_make_room(vcpu);
    bool denied = s && write && s->pub.flags & PN_SLOT_READONLY;
    if (denied && !v->final)
        return done(v, PN_OUT_uncached, NULL); /* emulated: by the slot alone */
    if (!s || denied)
        return fix_mmio(v, s);
    if (write && s->dirty &&
        (mmu->tracker->stored(vcpu, s, gfn) || tdp_log_rest(vcpu, s, gfn)))
        outcome = PN_OUT_dirty_log;
    uint64_t *ptep = (*v->fixes)++ < TDP_FIXES_MAX ? map(v, s, write) : NULL;
    v->again = ptep;
    if (!ptep && write)
        dirty_mark(s, gfn);
    if (!outcome)
        outcome = !ptep      ? PN_OUT_uncached
                  : v->split ? PN_OUT_mapped_split
                             : PN_OUT_mapped;
    return done(v, outcome, ptep);
}

static enum pn_outcome misconfig(const struct violation *v) {
    struct pn_mmu_vcpu *vcpu = v->vcpu;
    exit_begins(vcpu->mmu);
    pn_count(vcpu->stats, ept_misconfig);
    observe(vcpu->mmu, fault_taken, vcpu);
    pn_emit(vcpu->ring, page_fault, v->gva, v->error | FAULT_MMIO_CACHED);
    pn_emit(vcpu->ring, ept_misconfig, v->gva, v->gpa, v->w.level);
    return done(v, PN_OUT_mmio_cached, v->w.ptep);
}

/* ---- References to gptes ---- */

/* The tables do not answer the reference: an exit. */
static __attribute__((noinline)) struct ref table_missing(struct pn_mmu_vcpu *vcpu,
                                                          struct walk *w, pn_gpa gpa) {
    const struct tdp *t = vcpu->mmu->tdp;
    bool user = vcpu->mmu->cfg.opt.ad == PN_AD_NPT;
    struct violation v = {.vcpu = vcpu,
                          .gva = w->gva,
                          .gpa = gpa,
                          .access = t->table_access,
                          .fixes = &w->fixes,
                          .error = (t->table_access == PN_WRITE ? PN_PF_WRITE : 0) |
                                   (user ? PN_PF_USER : 0)};
    struct ref none = {NULL, gpa};
    ept_peek(t, gpa, &v.w);
    if (tdp_mmio_known(vcpu->mmu, v.w.pte)) {
        misconfig(&v);
        return none;
    }
    if (fix(&v) == PN_OUT_mmio)
        return none;
    if (!v.again)
        return slot_ref(vcpu->mmu, gpa);
    w->miss = MISS_AGAIN;
    return none;
}

/* Where a walk would set nothing in the tables. */
static struct ref table_look(const struct tdp *t, struct walk *w, pn_gpa gpa) {
    const uint64_t *ptep = &t->root->spt[level_index(gpa, t->levels)];
    uint64_t pte, pass = ~0ull;
    unsigned level = t->levels;
    for (; ept_table(pte = ept_get(ptep), level) && (pte & (EPT_A | EPT_STALE)) == EPT_A;
         ptep = &ept_child(pte)[level_index(gpa, --level)])
        pass &= ept_pass(pte);
    if (!ept_leaf(pte, level) || (t->table_needs | t->table_sets) & ~(pte & pass)) {
        w->miss = MISS_FAULT;
        return (struct ref){NULL, gpa};
    }
    w->refs += t->refs[level];
    uint64_t inside = (level_pages(level) << PN_PAGE_SHIFT) - 1;
    return (struct ref){ept_hva(pte) + (gpa & inside), gpa};
}

static struct ref table_read(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                             struct walk *w, pn_gpa gpa, unsigned flags) {
    struct ewalk e;
    if (flags & WALK_LOOK)
        return table_look(vcpu->mmu->tdp, w, gpa);
    if (flags & WALK_PROBE)
        return slot_ref(vcpu->mmu, gpa);
    struct tdp *t = vcpu->mmu->tdp;
    w->refs += ept_walk(t, gpa, &e);
    if (!ept_leaf(e.pte, e.level) || t->table_needs & ~e.pte)
        return table_missing(vcpu, w, gpa);
    if (t->table_sets & ~e.pte)
        tdp_set_bits(vcpu, &e, t->table_sets, gpa);
    uint64_t inside = (level_pages(e.level) << PN_PAGE_SHIFT) - 1;
    return (struct ref){ept_hva(e.pte) + (gpa & inside), gpa};
}

static enum miss table_write(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                             struct walk *w, pn_gpa gpa) {
    struct violation v = {.vcpu = vcpu,
                          .gva = w->gva,
                          .gpa = gpa,
                          .access = PN_WRITE,
                          .fixes = &w->fixes,
                          .error = PN_PF_WRITE};
    ept_peek(vcpu->mmu->tdp, gpa, &v.w);
    if (!ept_leaf(v.w.pte, v.w.level))
        return MISS_NONE; /* read by the slot alone */
    if (v.w.pte & EPT_W) {
        tdp_set_bits(vcpu, &v.w, EPT_A | EPT_D, gpa);
        return MISS_NONE;
    }
    fix(&v);
    return v.again ? MISS_AGAIN : MISS_NONE;
}

const struct stage tdp_stage = {.read = table_read, .write = table_write};

/* ---- The access itself ---- */

struct access {
    struct pn_mmu_vcpu *vcpu;
    struct root *r;
    pn_gva gva;
    enum pn_access access;
    enum pn_tlb_mode mode;
    bool again; /* the walk starts over */
    struct walk walk;
};

static enum pn_outcome mapped(const struct access *a, const struct ewalk *w,
                              struct pn_xlate *out) {
    uint64_t want = EPT_A | (pn_stores(a->access) ? EPT_D : 0);
    uint64_t pte = w->pte | want, inside = (level_pages(w->level) << PN_PAGE_SHIFT) - 1;
    if (pte != w->pte)
        tdp_set_bits(a->vcpu, w, want, out->gpa);
    out->hva = ept_hva(pte) + (out->gpa & inside);
    if ((a->r->narrow && a->gva >> 32) || /* no such linear address: the CPU wraps */
        !walk_cacheable(&a->walk))
        a->r->loose |= a->access == PN_FETCH;
    else if (!pn_on_shadow_stack(a->access))
        tdp_tlb_fill(a->vcpu, a->r, a->gva, a->access, a->mode, &a->walk,
                     slot_of_gfn(a->vcpu->mmu, a->walk.gfn), pte);
    return PN_OUT_NO_FAULT;
}

static PN_IN_FAULT __attribute__((noinline)) enum pn_outcome
unmapped(struct access *a, const struct ewalk *w, struct pn_xlate *out) {
    struct violation v = {.vcpu = a->vcpu,
                          .gva = a->gva,
                          .gpa = out->gpa,
                          .access = pn_stores(a->access)            ? PN_WRITE
                                    : pn_on_shadow_stack(a->access) ? PN_READ
                                                                    : a->access,
                          .final = true,
                          .stack = pn_on_shadow_stack(a->access),
                          .fixes = &a->walk.fixes,
                          .error = a->vcpu->walk.rights.pfec[a->access][a->mode],
                          .w = *w};
    if (tdp_mmio_known(a->vcpu->mmu, w->pte))
        return misconfig(&v);
    enum pn_outcome outcome = fix(&v);
    if (outcome == PN_OUT_mmio)
        return outcome;
    out->hva = slot_hva(slot_of_gfn(a->vcpu->mmu, a->walk.gfn), a->walk.gfn) +
               (a->gva & (PN_PAGE_SIZE - 1));
    a->again = v.again;
    if (pn_answer(outcome) == PN_MAPPED && !v.again)
        a->r->loose |= a->access == PN_FETCH;
    return outcome;
}

/* A fault that is no exit: error is its whole code. */
static enum pn_outcome no_exit(const struct access *a, enum pn_outcome outcome,
                               uint32_t error, unsigned level) {
    pn_emit(a->vcpu->ring, page_fault, a->gva, error);
    return fault_done(a->vcpu, outcome, a->gva, level, 0);
}

static enum pn_outcome final(struct access *a, struct pn_xlate *out) {
    struct pn_mmu *mmu = a->vcpu->mmu;
    struct ewalk w;
    if (!tdp_reaches(mmu->tdp, out->gpa)) /* unpaged, beyond any memory */
        return no_exit(a, PN_OUT_mmio, a->vcpu->walk.rights.pfec[a->access][a->mode], 0);
    uint64_t refs = ept_walk(mmu->tdp, out->gpa, &w);
    if (!tdp_merges(a->vcpu)) /* else it was counted with what is merged */
        count_packed(a->vcpu->stats, refs);
    if (ept_leaf(w.pte, w.level) && (!pn_stores(a->access) || w.pte & EPT_W))
        return mapped(a, &w, out);
    return unmapped(a, &w, out);
}

static PN_IN_MISS __attribute__((noinline)) enum pn_outcome
translate(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
          enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct access a;
    enum pn_outcome outcome = PN_OUT_NO_FAULT, now;
    a.vcpu = vcpu;
    a.r = vcpu->roots->cur;
    a.gva = gva;
    a.access = access;
    a.mode = mode;
    a.walk.fixes = 0;
    pn_count(vcpu->stats, tlb_miss);
    do {
        a.again = false;
        out->hva = NULL;
        if (stage_walk(vcpu, &vcpu->walk, gva, access, mode, 0, &a.walk) < 0) {
            a.again = a.walk.end == WALK_BELOW && a.walk.miss == MISS_AGAIN;
            if (a.again) {
                outcome = PN_OUT_mapped;
                continue;
            }
            out->fault = a.walk.fault;
            return no_exit(&a, walk_outcome(&a.walk), a.walk.fault.error, a.walk.level);
        }
        out->gpa = a.walk.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
        now = final(&a, out);
        outcome = now ? now : outcome;
    } while (a.again);
    return outcome;
}

PN_IN_MISS enum pn_outcome tdp_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                         enum pn_access access, enum pn_tlb_mode mode,
                                         struct pn_xlate *out) {
    if (tdp_quick(vcpu, gva, access, mode, out))
        return PN_OUT_NO_FAULT;
    return translate(vcpu, gva, access, mode, out);
}

/* ---- Cost ---- */

/* One reference to gpa, and what lies before it; merged: to an address of a guest's guest. Return:
 * false where the walk ends. */
static bool cost_of(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, bool merged,
                    struct pn_walk_cost *c) {
    const struct tdp *t = vcpu->mmu->tdp;
    unsigned top = t->levels;
    struct ewalk w;
    if (!merged && !tdp_reaches(t, gpa))
        return false;
    if (merged)
        top = merged_peek(vcpu, gpa, &w);
    else
        ept_peek(t, gpa, &w);
    for (unsigned level = w.level; level <= top; level++)
        c->table[level]++;
    return ept_leaf(w.pte, w.level);
}

bool tdp_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w, bool found,
                   struct pn_walk_cost *c) {
    bool merged = tdp_merges(vcpu);
    for (unsigned level = walk_first(w); level >= w->level && level; level--) {
        if (!cost_of(vcpu, merged ? w->pte_gpa[level] : w->slot_gpa[level], merged, c))
            return false;
        c->guest[level]++;
    }
    pn_gfn gfn = merged ? w->second_gfn : w->gfn;
    return found && cost_of(vcpu, gfn << PN_PAGE_SHIFT, merged, c);
}

bool tdp_look_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                    enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct walk w;
    if (vcpu->walk.below != &tdp_stage ||
        stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE | WALK_LOOK, &w) ==
            0 ||
        w.end == WALK_BELOW)
        return false;
    pn_count(vcpu->stats, tlb_miss);
    walk_count(vcpu, &vcpu->walk, &w);
    fault_done(vcpu, PN_OUT_guest_pf, gva, w.level, 0);
    out->fault = w.fault;
    out->hva = NULL;
    return true;
}
