/* SPDX-License-Identifier: MIT */
/*
 * Translation in two dimensions: TLB miss -> walk of the guest's tables, each reference
 * through the second-level ones -> TLB entry; or #PF for the guest, without an exit; or
 * an EPT violation or misconfiguration, the exits: -> MMIO, tracked write, dirty log, or
 * map and walk again from the start, as the processor does after VM entry.
 *
 * Invariants
 * 1. With nothing missing a walk of g guest and h second levels reads (g+1)(h+1)-1
 *    entries, fewer by the levels that large pages save in either dimension.
 * 2. Every violation and every guest #PF is one of pf_fixed, pf_guest, pf_mmio,
 *    pf_tracked, pf_dirty_log; their sum is pf_taken.
 * 3. Room for tables is made before a path is built.
 * 4. A walk starts over at most FIXES_MAX times; then it goes by the slots alone, and
 *    nothing is cached.
 *
 * The processor treats its reads of guest tables as writes when EPT's A/D flags are in
 * use. Here only what changes a gpte is one: D and the dirty log are exact.
 */
#include "mmu/tdp/tdp.h"

#define FIXES_MAX 256

/* A reference that the second-level tables did not answer. */
struct violation {
    struct pn_mmu_vcpu *vcpu;
    pn_gva gva;
    pn_gpa gpa;
    enum pn_access access; /* to gpa */
    bool final;            /* not to a gpte */
    unsigned *fixes;       /* violations of this access so far */
    struct ewalk w;
};

enum fix {
    FIX_MAPPED,  /* walk again */
    FIX_MMIO,    /* no slot, or a write to a read-only one */
    FIX_TRACKED, /* somebody has to see the write */
    FIX_NOMEM    /* no memory, or no progress: the slot answers */
};

/* What the tables say of gpa now. */
static struct ewalk now(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa) {
    struct ewalk w;
    ept_peek(vcpu->mmu->tdp, gpa, &w);
    return w;
}

static enum pn_outcome done(struct pn_mmu_vcpu *vcpu, pn_gva gva, pn_gpa gpa,
                            enum pn_outcome outcome) {
    pn_emit(vcpu->ring, fault_outcome, gva, outcome, now(vcpu, gpa).level,
            ept_public(now(vcpu, gpa).pte));
    return outcome;
}

/* ---- Mapping ---- */

static unsigned best_level(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    unsigned level = 3;
    while (level > 1 && !tdp_large_ok(mmu, s, gfn, level))
        level--;
    return level;
}

/* Where the leaf, or MMIO mark, of gfn goes. Return: NULL out of memory. */
static uint64_t *build_path(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, unsigned level) {
    struct sp *sp = vcpu->mmu->tdp->root;
    for (;;) {
        unsigned at = sp_level(sp);
        uint64_t *ptep = &sp->spt[level_index(gfn << PN_PAGE_SHIFT, at)];
        if (at == level)
            return ptep;
        if (ept_leaf(*ptep, at) && !tdp_split(vcpu, ptep))
            return NULL;
        sp = ept_table(*ptep, at) ? sp_of(ept_child(*ptep)) : tdp_link(vcpu, ptep);
        if (!sp)
            return NULL;
    }
}

/* Map gfn, or give its leaf the rights it may have now. */
static bool map(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn, bool write) {
    struct pn_mmu *mmu = vcpu->mmu;
    unsigned level = best_level(mmu, s, gfn);
    uint64_t *ptep = build_path(vcpu, gfn, level);
    if (!ptep)
        return false;
    if (ept_table(*ptep, level))
        tdp_collapse(vcpu, s, ptep);
    uint64_t bits = EPT_A | (write ? EPT_D : 0) | tdp_may_write(mmu, s, gfn, level);
    if (ept_leaf(*ptep, level))
        *ptep |= bits;
    else
        tdp_set_leaf(vcpu, s, ptep, bits);
    return true;
}

/* ---- Exits ---- */

static void emit_violation(const struct violation *v) {
    static const uint64_t kind[] = {
        [PN_READ] = EPT_Q_READ, [PN_WRITE] = EPT_Q_WRITE, [PN_FETCH] = EPT_Q_FETCH};
    uint64_t q = kind[v->access] | EPT_Q_GVA | (v->final ? EPT_Q_FINAL : 0);
    if (ept_present(v->w.pte))
        q |= (v->w.pte & EPT_RWX) << EPT_Q_GRANT_SHIFT;
    pn_emit(v->vcpu->ring, ept_violation, v->gva, v->gpa, q, v->w.level);
}

static enum fix fix_mmio(const struct violation *v, const struct slot *s) {
    struct pn_mmu_vcpu *vcpu = v->vcpu;
    pn_count(vcpu->stats, pf_mmio);
    if (s)
        return FIX_MMIO;
    uint64_t *ptep = build_path(vcpu, v->gpa >> PN_PAGE_SHIFT, 1);
    if (ptep)
        tdp_set_mmio(vcpu, ptep);
    return FIX_MMIO;
}

/* The exit handler. */
static __attribute__((noinline)) enum fix fix(const struct violation *v) {
    struct pn_mmu_vcpu *vcpu = v->vcpu;
    struct pn_mmu *mmu = vcpu->mmu;
    pn_gfn gfn = v->gpa >> PN_PAGE_SHIFT;
    bool write = v->access == PN_WRITE;
    struct slot *s = slot_of_gfn(mmu, gfn);
    pn_count(vcpu->stats, ept_violation);
    observe(mmu, fault_taken, vcpu);
    pn_count(vcpu->stats, pf_taken);
    emit_violation(v);
    tdp_make_room(vcpu);
    if (!s || (write && s->pub.flags & PN_SLOT_READONLY))
        return fix_mmio(v, s);
    bool tracked = write && track_count(s, gfn);
    bool logged = write && !tracked && s->dirty && mmu->tracker->stored(s, gfn);
    bool mapped = (*v->fixes)++ < FIXES_MAX && map(vcpu, s, gfn, write && !tracked);
    if (tracked)
        pn_count(vcpu->stats, pf_tracked);
    else if (logged)
        pn_count(vcpu->stats, pf_dirty_log);
    else
        pn_count(vcpu->stats, pf_fixed);
    if (tracked)
        return FIX_TRACKED;
    if (mapped)
        return FIX_MAPPED;
    if (write)
        dirty_mark(s, gfn);
    return FIX_NOMEM;
}

static bool mmio_known(const struct pn_mmu *mmu, uint64_t pte) {
    return (pte & EPT_RWX) == EPT_MMIO &&
           (pte >> PN_PAGE_SHIFT & EPT_GEN) == (mmu->slots.generation & EPT_GEN);
}

static void misconfig(struct pn_mmu_vcpu *vcpu, pn_gva gva, pn_gpa gpa, unsigned level) {
    pn_count(vcpu->stats, ept_misconfig);
    observe(vcpu->mmu, fault_taken, vcpu);
    pn_count(vcpu->stats, pf_mmio_spte);
    pn_emit(vcpu->ring, ept_misconfig, gva, gpa, level);
}

/* ---- References to gptes ---- */

static struct ref slot_ref(struct pn_mmu *mmu, pn_gpa gpa) {
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    return (struct ref){s ? (const char *)s->pub.hva + (gpa - s->pub.gpa) : NULL, gpa};
}

static struct ref table_read(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                             struct walk *w, pn_gpa gpa, unsigned flags) {
    struct pn_mmu *mmu = vcpu->mmu;
    if (flags & WALK_PROBE)
        return slot_ref(mmu, gpa);
    struct violation v = {
        .vcpu = vcpu, .gva = w->gva, .gpa = gpa, .access = PN_READ, .fixes = &w->fixes};
    ept_walk(mmu->tdp, gpa, &v.w);
    count_refs(vcpu->stats, mmu->tdp->levels, v.w.level);
    if (ept_leaf(v.w.pte, v.w.level)) {
        uint64_t inside = (level_pages(v.w.level) << PN_PAGE_SHIFT) - 1;
        if (!(v.w.pte & EPT_A))
            *v.w.ptep = v.w.pte | EPT_A;
        return (struct ref){ept_hva(v.w.pte) + (gpa & inside), gpa};
    }
    if (mmio_known(mmu, v.w.pte)) {
        misconfig(vcpu, w->gva, gpa, v.w.level);
        return (struct ref){NULL, gpa};
    }
    enum fix how = fix(&v);
    done(vcpu, w->gva, gpa, how == FIX_MMIO ? PN_OUT_MMIO : PN_OUT_MAPPED);
    if (how == FIX_MMIO)
        return (struct ref){NULL, gpa};
    if (how == FIX_MAPPED)
        w->miss = MISS_AGAIN;
    return slot_ref(mmu, gpa);
}

static enum miss table_write(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                             struct walk *w, pn_gpa gpa) {
    struct violation v = {
        .vcpu = vcpu, .gva = w->gva, .gpa = gpa, .access = PN_WRITE, .fixes = &w->fixes};
    ept_peek(vcpu->mmu->tdp, gpa, &v.w);
    if (!ept_leaf(v.w.pte, v.w.level))
        return MISS_NONE; /* read by the slot alone */
    if (v.w.pte & EPT_W) {
        *v.w.ptep = v.w.pte | EPT_A | EPT_D;
        return MISS_NONE;
    }
    enum fix how = fix(&v);
    done(vcpu, w->gva, gpa, how == FIX_TRACKED ? PN_OUT_TRACKED : PN_OUT_MAPPED);
    return how == FIX_MAPPED ? MISS_AGAIN : MISS_NONE;
}

const struct stage tdp_stage = {.read = table_read, .write = table_write};

/* ---- The access itself ---- */

struct access {
    struct pn_mmu_vcpu *vcpu;
    struct root *r;
    pn_gva gva;
    enum pn_access access;
    enum pn_tlb_mode mode;
    struct walk walk;
};

static enum pn_outcome mapped(const struct access *a, const struct ewalk *w,
                              struct pn_xlate *out) {
    uint64_t want = EPT_A | (a->access == PN_WRITE ? EPT_D : 0);
    uint64_t pte = w->pte | want, inside = (level_pages(w->level) << PN_PAGE_SHIFT) - 1;
    if (pte != w->pte)
        *w->ptep = pte;
    out->hva = ept_hva(pte) + (out->gpa & inside);
    if (a->r->narrow && a->gva >> 32) /* no such linear address: the CPU wraps */
        a->r->loose |= a->access == PN_FETCH;
    else
        tdp_tlb_fill(a->vcpu, a->r, a->gva, a->access, a->mode, &a->walk,
                     slot_of_gfn(a->vcpu->mmu, a->walk.gfn), pte);
    return PN_OUT_MAPPED;
}

/* An exit for the access itself. Return: PN_OUT_COUNT to walk again. */
static __attribute__((noinline)) enum pn_outcome
unmapped(struct access *a, const struct ewalk *w, struct pn_xlate *out) {
    struct violation v = {.vcpu = a->vcpu,
                          .gva = a->gva,
                          .gpa = out->gpa,
                          .access = a->access,
                          .final = true,
                          .fixes = &a->walk.fixes,
                          .w = *w};
    enum fix how = fix(&v);
    struct slot *s = slot_of_gfn(a->vcpu->mmu, a->walk.gfn);
    if (how == FIX_MMIO)
        return done(a->vcpu, a->gva, out->gpa, PN_OUT_MMIO);
    out->hva = slot_hva(s, a->walk.gfn) + (a->gva & (PN_PAGE_SIZE - 1));
    if (how == FIX_TRACKED)
        return done(a->vcpu, a->gva, out->gpa, PN_OUT_TRACKED);
    done(a->vcpu, a->gva, out->gpa, PN_OUT_MAPPED);
    if (how == FIX_MAPPED)
        return PN_OUT_COUNT;
    a->r->loose |= a->access == PN_FETCH;
    return PN_OUT_MAPPED;
}

static enum pn_outcome final(struct access *a, struct pn_xlate *out) {
    struct pn_mmu *mmu = a->vcpu->mmu;
    struct ewalk w;
    if (!tdp_reaches(mmu->tdp, out->gpa)) { /* unpaged, beyond any memory */
        pn_count(a->vcpu->stats, pf_taken);
        pn_count(a->vcpu->stats, pf_mmio);
        pn_emit(a->vcpu->ring, fault_outcome, a->gva, PN_OUT_MMIO, 0, 0);
        return PN_OUT_MMIO;
    }
    ept_walk(mmu->tdp, out->gpa, &w);
    count_refs(a->vcpu->stats, mmu->tdp->levels, w.level);
    if (ept_leaf(w.pte, w.level) && (a->access != PN_WRITE || w.pte & EPT_W))
        return mapped(a, &w, out);
    if (mmio_known(mmu, w.pte)) {
        misconfig(a->vcpu, a->gva, out->gpa, w.level);
        return PN_OUT_MMIO;
    }
    return unmapped(a, &w, out);
}

enum pn_outcome tdp_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                              enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct access a;
    enum pn_outcome outcome;
    a.vcpu = vcpu;
    a.r = vcpu->roots->cur;
    a.gva = gva;
    a.access = access;
    a.mode = mode;
    a.walk.gva = gva;
    a.walk.fixes = 0;
    pn_count(vcpu->stats, tlb_miss);
    do {
        out->hva = NULL;
        if (stage_walk(vcpu, &vcpu->walk, gva, access, mode, 0, &a.walk) < 0) {
            out->fault = a.walk.fault;
            pn_count(vcpu->stats, pf_taken);
            pn_count(vcpu->stats, pf_guest);
            pn_emit(vcpu->ring, fault_outcome, gva, PN_OUT_GUEST_PF, a.walk.level, 0);
            return PN_OUT_GUEST_PF;
        }
        out->gpa = a.walk.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
        outcome = final(&a, out);
    } while (outcome == PN_OUT_COUNT);
    return outcome;
}

/* ---- Cost ---- */

/* One reference to gpa, and what lies before it. Return: false where the walk ends. */
static bool cost_of(const struct tdp *t, pn_gpa gpa, struct pn_walk_cost *c) {
    struct ewalk w;
    if (!tdp_reaches(t, gpa))
        return false;
    ept_peek(t, gpa, &w);
    for (unsigned level = w.level; level <= t->levels; level++)
        c->table[level]++;
    return ept_leaf(w.pte, w.level);
}

bool tdp_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w, bool found,
                   struct pn_walk_cost *c) {
    const struct tdp *t = vcpu->mmu->tdp;
    (void)gva;
    for (unsigned level = walk_first(w); level >= w->level && level; level--) {
        if (!cost_of(t, w->pte_gpa[level], c))
            return false;
        c->guest[level]++;
    }
    return found && cost_of(t, w->gfn << PN_PAGE_SHIFT, c);
}
