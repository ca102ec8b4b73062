/* SPDX-License-Identifier: MIT */
/*
 * The way of one translation through the tables as they stand, without side effects, for
 * the TLB model.
 *
 * One thing is left out on purpose. The software CPU has pages with translated code
 * write-tracked, which splits large mappings, protects pages and makes faults of stores;
 * no hypervisor of a hardware CPU does so. A mapping that is small only because
 * of code tracking counts as large here. A region then has one fault, its first; later
 * ones are ours alone and are not counted (model_artefact).
 *
 * Invariant: nothing here changes a table, a TLB or a counter.
 */
#include "mmu/model/model.h"
#include "mmu/shadow/shadow.h"
#include "mmu/tdp/tdp.h"

/* ---- Regions of 2 MiB that the hypervisor has mapped at once ---- */

static bool region_known(const struct pn_mmu *mmu, pn_gfn gfn) {
    pn_gfn r = gfn >> 9;
    return r / 64 < MODEL_REGIONS / 64 && mmu->watch->region[r / 64] >> (r % 64) & 1;
}

static void region_note(struct pn_mmu *mmu, pn_gfn gfn) {
    pn_gfn r = gfn >> 9;
    if (r < MODEL_REGIONS)
        mmu->watch->region[r / 64] |= 1ull << (r % 64);
}

/* ---- Code tracking left out ---- */

static bool large_but_for_code(const struct pn_mmu *mmu, struct slot *s, pn_gfn gfn,
                               unsigned level) {
    return mmu->cfg.opt.large_pages && !(s->pub.flags & PN_SLOT_LOG_DIRTY) &&
           *slot_large(s, gfn, level) == *slot_user_large(s, gfn, level);
}

unsigned model_level(struct pn_mmu *mmu, pn_gpa gpa, unsigned least, unsigned most) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(mmu, gfn);
    unsigned level = most > 3 ? 3 : most;
    while (s && level > least && !large_but_for_code(mmu, s, gfn, level))
        level--;
    return s && level > least ? level : least;
}

static bool tracked_for_code(const struct slot *s, pn_gfn gfn) {
    return track_count(s, gfn) == TRACK_USER || slot_code_page(s, gfn);
}

/* Level of the guest's own mapping that a shadow leaf stands for: direct tables below the
 * root are parts of a large page. */
static unsigned guest_level(const uint64_t *sptep, unsigned level) {
    const struct sp *sp = sp_of(sptep);
    for (; sp_direct(sp) && !(sp->role & ROLE_ROOT) && sp->parents; level++)
        sp = sp_of(ptrs_first(sp->parents));
    return level;
}

/* How large could a hypervisor map gva at once, up to a region? */
static unsigned most_at_once(const struct pn_mmu_vcpu *vcpu, pn_gva gva) {
    const struct root *r = vcpu->roots->cur;
    struct swalk sw;
    if (vcpu->mmu->tdp)
        return 2;
    if (!r->top || (r->narrow && gva >> 32))
        return 1;
    shadow_walk(r, gva, &sw);
    return guest_level(sw.sptep, sw.level) > 1 ? 2 : 1;
}

bool model_artefact(struct pn_mmu_vcpu *vcpu, pn_gva gva, pn_gpa gpa,
                    enum pn_access access, enum pn_answer answer) {
    struct pn_mmu *mmu = vcpu->mmu;
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s || (answer != PN_MAPPED && answer != PN_TRACKED))
        return false;
    if (answer == PN_TRACKED)
        return track_count(s, gfn) == TRACK_USER;
    if (access == PN_WRITE && slot_code_page(s, gfn) && !track_count(s, gfn)) {
        s->code_page[(gfn - s->gfn) / 64] &= ~(1ull << ((gfn - s->gfn) % 64));
        return true;
    }
    if (model_level(mmu, gpa, 1, most_at_once(vcpu, gva)) == 1)
        return false;
    bool known = region_known(mmu, gfn);
    region_note(mmu, gfn);
    return known;
}

/* ---- Shadow ---- */

/* The page and rights of the leaf that sw ends in. */
static void shadow_leaf(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct swalk *sw,
                        unsigned most, struct model_path *p) {
    struct pn_mmu *mmu = vcpu->mmu;
    const struct sp *sp = sp_of(sw->sptep);
    pn_gfn gfn = sp_gfn(sp, sp_index(sw->sptep)) +
                 (gva >> PN_PAGE_SHIFT & (level_pages(sw->level) - 1));
    struct slot *s = slot_of_gfn(mmu, gfn);
    bool present = spte_leaf(sw->spte);
    p->level = model_level(mmu, gfn << PN_PAGE_SHIFT, sw->level, most);
    p->found = s && (present || (p->level > sw->level && region_known(mmu, gfn)));
    if (!p->found)
        return;
    bool open = present && (sw->spte & SPTE_STORE) == SPTE_STORE;
    if (!open && present && sw->spte & SPTE_HOST_W)
        open = sw->level > 1 ? large_but_for_code(mmu, s, gfn, sw->level)
                             : tracked_for_code(s, gfn);
    p->store =
        open && sw->grant & SPTE_D && (sw->grant & SPTE_W || !vcpu->walk.rights.wp);
    p->table_level = p->level;
}

void shadow_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct model_path *p) {
    const struct root *r = vcpu->roots->cur;
    struct swalk sw;
    *p = (struct model_path){0};
    if (!r->top || (r->narrow && gva >> 32))
        return;
    unsigned refs = shadow_walk(r, gva, &sw), most = guest_level(sw.sptep, sw.level);
    p->table_level = sw.level;
    p->table_top = sw.level + refs - 1;
    if (spte_leaf(sw.spte) || (!sw.spte && most > sw.level))
        shadow_leaf(vcpu, gva, &sw, most, p);
}

void shadow_path_fetched(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                         struct model_path *p) {
    struct walk w;
    if (stage_walk(vcpu, &vcpu->walk, gva, PN_FETCH, mode, WALK_PROBE, &w) < 0)
        return;
    p->found = true;
    p->level = model_level(vcpu->mmu, w.gfn << PN_PAGE_SHIFT, 1, w.level);
    p->table_level = p->level;
    p->table_top = vcpu->walk.levels > 3 ? vcpu->walk.levels : 3;
}

/* ---- TDP ---- */

bool model_second(struct pn_mmu *mmu, pn_gpa gpa, unsigned *level) {
    const struct tdp *t = mmu->tdp;
    struct ewalk w;
    *level = t->levels;
    if (!tdp_reaches(t, gpa))
        return false;
    ept_peek(t, gpa, &w);
    *level = w.level;
    bool leaf = ept_leaf(w.pte, w.level);
    if (!leaf && (w.pte || !region_known(mmu, gpa >> PN_PAGE_SHIFT)))
        return false;
    unsigned large = model_level(mmu, gpa, leaf ? w.level : 1, 3);
    if (!leaf && large == 1)
        return false;
    *level = large;
    return true;
}

static bool second_store(struct pn_mmu *mmu, pn_gpa gpa) {
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    uint64_t want = EPT_W | (mmu->tracker->by_dbit ? EPT_D : 0);
    struct ewalk w;
    if (!s || s->pub.flags & PN_SLOT_READONLY)
        return false;
    ept_peek(mmu->tdp, gpa, &w);
    return (w.pte & want) == want || !s->dirty;
}

void tdp_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
              enum pn_tlb_mode mode, struct model_path *p) {
    struct walk w;
    *p = (struct model_path){.guest_bits = vcpu->walk.levels == 2 ? 10 : 9};
    p->found = stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) == 0;
    p->guest_top = walk_first(&w);
    p->guest_level = p->level = w.level;
    for (unsigned level = w.level; level <= p->guest_top; level++)
        p->gpte[level] = w.pte_gpa[level];
    if (!p->found)
        return;
    p->gpa = w.gfn << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    p->global = w.global && vcpu->paging.cr4 & CR4_PGE;
    p->store = w.dirty && (w.access & ACC_WRITE || !vcpu->walk.rights.wp) &&
               tdp_reaches(vcpu->mmu->tdp, p->gpa) && second_store(vcpu->mmu, p->gpa);
}
