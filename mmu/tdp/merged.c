/* SPDX-License-Identifier: MIT */
/*
 * nested=shadow: a hypervisor in the guest keeps a second level of its own (NPT, EPT), and ours
 * merges it, as KVM does: tables from the addresses of the guest's guest to the memslots, so
 * that a walk of the guest's guest is one of two dimensions. They are the stage below its walk.
 * What they lack is a violation: the hypervisor's tables are walked, in software, over the
 * memslots; where these deny it, the exit is the hypervisor's.
 *
 * A leaf leads to a frame of the memslots, with what the hypervisor's tables grant. What our own
 * second level grants there is asked of its leaf, which on a processor is the same entry: that
 * is no further reference.
 */
#include "mmu/tdp/tdp.h"

/* ---- Entries ---- */

/* What a leaf stands for: the end of a walk of the hypervisor's tables. */
static void as_walk(const struct ewalk *e, pn_gpa gpa, struct walk *in) {
    uint64_t v = e->pte;
    in->level = (uint8_t)e->level;
    in->access = (v & EPT_R ? ACC_USER : 0) | (v & EPT_W ? ACC_WRITE : 0) |
                 (v & EPT_X ? ACC_EXEC : 0) | (v & MERGED_XU ? ACC_EXEC_USER : 0);
    in->dirty = v & EPT_D;
    in->gfn = (v & EPT_ADDR) >> PN_PAGE_SHIFT |
              (gpa >> PN_PAGE_SHIFT & (level_pages(e->level) - 1));
}

/* Does it let the access pass? What it does not, the hypervisor's tables may by now. */
static bool grants(const struct pn_mmu_vcpu *vcpu, const struct ewalk *e, pn_gpa gpa,
                   enum pn_access access, enum pn_tlb_mode mode, struct walk *in) {
    if (!ept_leaf(e->pte, e->level))
        return false;
    as_walk(e, gpa, in);
    return !rights_check(&vcpu->second.rights, in->access, 0, access, mode);
}

/* ---- Violations ---- */

/* What is asked of an address of the guest's guest. */
struct asked {
    pn_gpa gpa;
    enum pn_access access;
    enum pn_tlb_mode mode;
    bool final, stack; /* the address is no table's; it is a shadow stack's */
};

static unsigned leaf_level(struct pn_mmu *mmu, const struct walk *in) {
    struct slot *s = slot_of_gfn(mmu, in->gfn);
    unsigned level = in->level > 3 ? 3 : in->level;
    while (level > 1 && (!s || !tdp_large_ok(mmu, s, in->gfn, level)))
        level--;
    return level;
}

static void make_room(struct pn_mmu *mmu) {
    if (mmu->tdp->merged_pages + TDP_ROOM > mmu->tdp->budget)
        merged_drop_all(mmu);
}

/* Return: MISS_AGAIN: the merged tables have it now, and the walk starts over; MISS_NONE: they
 * cannot, and *in is the answer; MISS_FAULT: the hypervisor has to see to it. */
static __attribute__((noinline)) enum miss merge(struct pn_mmu_vcpu *vcpu, struct walk *w,
                                                 const struct asked *q,
                                                 const struct ewalk *e, struct walk *in) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct violation v = {.vcpu = vcpu,
                          .gva = w->gva,
                          .gpa = q->gpa,
                          .access = q->access,
                          .final = q->final,
                          .error = vcpu->second.rights.pfec[q->access][q->mode],
                          .w = *e};
    *in = (struct walk){.fixes = w->fixes};
    if (stage_walk(vcpu, &vcpu->second, q->gpa, q->access, q->mode, 0, in) < 0) {
        exit_begins(mmu);
        pn_count(vcpu->stats, ept_violation);
        observe(mmu, fault_taken, vcpu);
        second_denied(w, &vcpu->second, in, !q->final, q->stack);
        return MISS_FAULT;
    }
    tdp_violated(&v);
    make_room(mmu);
    bool may = w->fixes++ < TDP_FIXES_MAX;
    uint64_t *ptep = may ? merged_set_leaf(vcpu, q->gpa, in, leaf_level(mmu, in)) : NULL;
    fault_done(vcpu, ptep ? PN_OUT_mapped : PN_OUT_uncached, w->gva,
               ptep ? sp_level(sp_of(ptep)) : 0, ptep ? *ptep & ~EPT_ADDR : 0);
    return ptep ? MISS_AGAIN : MISS_NONE;
}

/* ---- The stage ---- */

/* A gpte's address. Return: as merge; MISS_NONE and *gpa: in the memslots. */
static enum miss table_at(struct pn_mmu_vcpu *vcpu, struct walk *w, pn_gpa *gpa,
                          enum pn_access access) {
    struct asked q = {*gpa, access, PN_TLB_USER, false, false};
    struct ewalk e;
    struct walk in;
    uint64_t refs = merged_find(vcpu, *gpa, &e);
    count_packed(vcpu->stats, refs);
    if (!grants(vcpu, &e, *gpa, access, PN_TLB_USER, &in)) {
        enum miss miss = merge(vcpu, w, &q, &e, &in);
        if (miss)
            return miss;
    }
    in.gva = *gpa;
    if (walk_table_in_apic(vcpu, w, &in))
        return MISS_FAULT;
    *gpa = in.gfn << PN_PAGE_SHIFT | (*gpa & (PN_PAGE_SIZE - 1));
    return MISS_NONE;
}

static struct ref merged_read(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                              struct walk *w, pn_gpa gpa, unsigned flags) {
    const struct stage *second = &vcpu->second;
    uint64_t refs = w->refs;
    if (flags & WALK_PROBE)
        return second->read(vcpu, second, w, gpa, flags);
    w->miss = table_at(vcpu, w, &gpa, second->table);
    if (w->miss)
        return (struct ref){NULL, gpa};
    struct ref at = tdp_stage.read(vcpu, &tdp_stage, w, gpa, flags);
    w->refs = refs;
    return at;
}

static enum miss merged_write(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                              struct walk *w, pn_gpa gpa) {
    enum miss miss = table_at(vcpu, w, &gpa, PN_WRITE);
    return miss ? miss : tdp_stage.write(vcpu, &tdp_stage, w, gpa);
}

static int merged_final(struct pn_mmu_vcpu *vcpu, const struct stage *st,
                        enum pn_access access, unsigned flags, struct walk *out) {
    const struct stage *second = &vcpu->second;
    struct asked q = {out->gfn << PN_PAGE_SHIFT | (out->gva & (PN_PAGE_SIZE - 1)),
                      second_asked(access),
                      out->access & ACC_USER ? PN_TLB_USER : PN_TLB_SUPER, true,
                      pn_on_shadow_stack(access)};
    struct ewalk e;
    struct walk in;
    if (flags & WALK_PROBE)
        return second->final(vcpu, second, access, flags, out);
    count_packed(vcpu->stats, merged_find(vcpu, q.gpa, &e));
    if (!grants(vcpu, &e, q.gpa, q.access, q.mode, &in)) {
        out->miss = merge(vcpu, out, &q, &e, &in);
        out->end = out->miss ? WALK_BELOW : out->end;
        if (out->miss)
            return -1;
    }
    walk_take_second(out, second, &in);
    out->gfn = walk_apic_taken(vcpu, in.gfn);
    return 0;
}

const struct stage merged_stage = {
    .read = merged_read, .write = merged_write, .final = merged_final};
