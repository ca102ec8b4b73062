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
 *
 * Invariants
 * 1. A tree is of one space (pn_mmu_vcpu.space) and one ASID, and goes when that is flushed:
 *    the hypervisor's tables are not tracked. Until then it is as a TLB is.
 * 2. A leaf has W where the hypervisor's has D, too, if its format has one.
 * 3. sp->used counts the entries that are not 0; tables of all trees number at most the page
 *    budget.
 */
#include <string.h>

#include "mmu/core/audit.h"
#include "mmu/tdp/tdp.h"

#define MERGED_XU (1ull << 10) /* of mode-based execute control: user addresses */

/* ---- Trees ---- */

static void free_below(struct pn_mmu *mmu, struct sp *sp) {
    struct tdp *t = mmu->tdp;
    for (unsigned i = 0; sp->used && i < 512; i++) {
        uint64_t v = sp->spt[i];
        sp->spt[i] = 0;
        sp->used -= v != 0;
        if (ept_table(v, sp_level(sp)))
            free_below(mmu, sp_of(ept_child(v)));
    }
    pn_count(mmu_actor(mmu)->stats, sp_zapped);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]--;
    t->merged_pages--;
    slab_sp_free(&mmu->slab, sp);
}

static void drop_tree(struct pn_mmu *mmu, struct merged *m) {
    if (m->root)
        free_below(mmu, m->root);
    *m = (struct merged){0};
}

void merged_drop_all(struct pn_mmu *mmu) {
    for (unsigned i = 0; i < MERGED_TREES; i++)
        drop_tree(mmu, &mmu->tdp->merged[i]);
}

void merged_asid_gone(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all) {
    for (unsigned i = 0; i < MERGED_TREES; i++) {
        struct merged *m = &vcpu->mmu->tdp->merged[i];
        bool ours = (m->space & (PN_PAGE_SIZE - 1)) == vcpu->number + 1;
        if (m->root && ours && (all || m->asid == asid))
            drop_tree(vcpu->mmu, m);
    }
}

/* Return: the table, empty; NULL: out of memory. */
static struct sp *new_table(struct pn_mmu_vcpu *vcpu, unsigned level, pn_gfn gfn) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *sp = slab_sp(mmu);
    if (!sp)
        return NULL;
    sp->role = ROLE_DIRECT | level;
    sp->gfn = gfn;
    sp->space = vcpu->space;
    sp->asid = vcpu->world.asid;
    mmu->tdp->merged_pages++;
    pn_count(vcpu->stats, merged_tables);
    pn_count(vcpu->stats, sp_created);
    mmu_gauges(mmu)->v[PN_STAT_sp_pages]++;
    pn_emit(vcpu->ring, get_page, gfn, sp->role, 1);
    return sp;
}

static bool of_world(const struct pn_mmu_vcpu *vcpu, const struct merged *m) {
    return m->root && m->space == vcpu->space && m->asid == vcpu->world.asid;
}

/* Return: the world's tree; NULL: there is none. */
static const struct merged *find_tree(const struct pn_mmu_vcpu *vcpu) {
    const struct tdp *t = vcpu->mmu->tdp;
    const struct merged *m = &t->merged[t->merged_last];
    for (unsigned i = 0; !of_world(vcpu, m) && i < MERGED_TREES; i++)
        m = &t->merged[i];
    return of_world(vcpu, m) ? m : NULL;
}

const struct sp *merged_root(const struct pn_mmu_vcpu *vcpu) {
    const struct merged *m = find_tree(vcpu);
    return m ? m->root : NULL;
}

/* The world's, in the place of the one that got a leaf longest ago. Return: its root; NULL: out of
 * memory. */
static struct sp *get_root(struct pn_mmu_vcpu *vcpu) {
    struct tdp *t = vcpu->mmu->tdp;
    struct merged *old = &t->merged[0];
    for (unsigned i = 0; i < MERGED_TREES; i++) {
        struct merged *m = &t->merged[i];
        if (of_world(vcpu, m)) {
            m->used = ++t->merged_clock;
            t->merged_last = i;
            return m->root;
        }
        old = m->used < old->used ? m : old;
    }
    drop_tree(vcpu->mmu, old);
    struct sp *root = new_table(vcpu, vcpu->second.levels > 4 ? 5 : 4, 0);
    if (!root)
        return NULL;
    *old = (struct merged){root, vcpu->space, ++t->merged_clock, vcpu->world.asid};
    return root;
}

/* ---- Entries ---- */

/* The entry that the walk of an address ends in. Return: REFS of it. */
static uint64_t find(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, struct ewalk *w) {
    const struct merged *m = find_tree(vcpu);
    uint64_t refs = 0;
    *w = (struct ewalk){.level = vcpu->second.levels > 4 ? 5 : 4};
    if (!m)
        return REFS(w->level); /* a root without entries */
    w->ptep = &m->root->spt[level_index(gpa, w->level)];
    for (; ept_table(w->pte = *w->ptep, w->level);
         w->ptep = &ept_child(w->pte)[level_index(gpa, --w->level)])
        refs |= REFS(w->level);
    return refs | REFS(w->level);
}

unsigned merged_peek(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, struct ewalk *w) {
    find(vcpu, gpa, w);
    return vcpu->second.levels > 4 ? 5 : 4;
}

static void clear_entry(struct pn_mmu *mmu, uint64_t *ptep) {
    struct sp *sp = sp_of(ptep);
    uint64_t v = *ptep;
    *ptep = 0;
    sp->used -= v != 0;
    if (ept_table(v, sp_level(sp)))
        free_below(mmu, sp_of(ept_child(v)));
}

/* The hypervisor's tables have led gpa to what `in` says. Return: the leaf; NULL: out of memory. */
static uint64_t *set_leaf(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, const struct walk *in,
                          unsigned lowest) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct sp *root = get_root(vcpu);
    if (!root)
        return NULL;
    unsigned level = sp_level(root), acc = in->access;
    uint64_t *ptep = &root->spt[level_index(gpa, level)];
    for (; level > lowest; ptep = &ept_child(*ptep)[level_index(gpa, --level)]) {
        if (ept_table(*ptep, level))
            continue;
        struct sp *sp = new_table(vcpu, level - 1, ept_gfn(sp_of(ptep), sp_index(ptep)));
        if (!sp)
            return NULL;
        clear_entry(mmu, ptep);
        *ptep = EPT_RWX | EPT_A | (uintptr_t)sp->spt;
        sp_of(ptep)->used++;
    }
    clear_entry(mmu, ptep);
    bool dirty = in->dirty || !vcpu->second.bits.dirty;
    *ptep = (in->gfn & ~(level_pages(level) - 1)) << PN_PAGE_SHIFT | EPT_A |
            (level > 1 ? EPT_PS : 0) | (acc & ACC_USER ? EPT_R : 0) |
            (acc & ACC_EXEC ? EPT_X : 0) | (acc & ACC_EXEC_USER ? MERGED_XU : 0) |
            (dirty && acc & ACC_WRITE ? EPT_W | EPT_D : 0);
    sp_of(ptep)->used++;
    pn_count(vcpu->stats, merged_leaves);
    return ptep;
}

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
    bool final;
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
        second_denied(w, &vcpu->second, in, !q->final);
        return MISS_FAULT;
    }
    tdp_violated(&v);
    make_room(mmu);
    bool may = w->fixes++ < TDP_FIXES_MAX;
    uint64_t *ptep = may ? set_leaf(vcpu, q->gpa, in, leaf_level(mmu, in)) : NULL;
    fault_done(vcpu, ptep ? PN_OUT_mapped : PN_OUT_uncached, w->gva,
               ptep ? sp_level(sp_of(ptep)) : 0, ptep ? *ptep & ~EPT_ADDR : 0);
    return ptep ? MISS_AGAIN : MISS_NONE;
}

/* ---- The stage ---- */

/* A gpte's address. Return: as merge; MISS_NONE and *gpa: in the memslots. */
static enum miss table_at(struct pn_mmu_vcpu *vcpu, struct walk *w, pn_gpa *gpa,
                          enum pn_access access) {
    struct asked q = {*gpa, access, PN_TLB_USER, false};
    struct ewalk e;
    struct walk in;
    uint64_t refs = find(vcpu, *gpa, &e);
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
                      out->access & ACC_USER ? PN_TLB_USER : PN_TLB_SUPER, true};
    struct ewalk e;
    struct walk in;
    if (flags & WALK_PROBE)
        return second->final(vcpu, second, access, flags, out);
    count_packed(vcpu->stats, find(vcpu, q.gpa, &e));
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

/* ---- The audit ---- */

static uint32_t audit_below(struct audit *a, const struct merged *m,
                            const struct sp *sp) {
    uint32_t tables = 1;
    unsigned used = 0;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t v = sp->spt[i];
        used += v != 0;
        if (!ept_table(v, sp_level(sp)))
            continue;
        const struct sp *child = sp_of(ept_child(v));
        if (sp_level(child) + 1 != sp_level(sp) || child->gfn != ept_gfn(sp, i))
            wrong(a, "merged table gfn %#llx entry %u leads to a foreign table",
                  (unsigned long long)sp->gfn, i);
        tables += audit_below(a, m, child);
    }
    if (used != sp->used || sp->space != m->space || sp->asid != m->asid)
        wrong(a, "merged table gfn %#llx: %u entries in use, not %u, or another's",
              (unsigned long long)sp->gfn, used, sp->used);
    return tables;
}

void merged_audit(struct audit *a) {
    const struct tdp *t = a->mmu->tdp;
    uint32_t tables = 0;
    for (unsigned i = 0; i < MERGED_TREES; i++)
        if (t->merged[i].root)
            tables += audit_below(a, &t->merged[i], t->merged[i].root);
    if (tables != t->merged_pages)
        wrong(a, "%u merged tables, not %u", tables, t->merged_pages);
}
