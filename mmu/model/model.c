/* SPDX-License-Identifier: MIT */
/*
 * The TLB model: its caches, a modelled access, a modelled walk.
 *
 * The software TLB would hide the hits. It need not be off, though: while a model is on the
 * CPU reads a filter (filter.c), the part of its root's TLB whose pages are in the L1 data TLB.
 * Every other access comes to pn_mmu_translate, and is answered from the root's TLB if that has
 * it, after the model has seen it. Fetches are told by pn_mmu_fetched, for each page that
 * control comes to.
 *
 * Invariants
 * 1. What the filter has, the current root's TLB has: the same page, no tag more.
 * 2. Between calls the L1 data TLB and the stamps in the filter together say which page of a
 *    set was used last, and before it, and so on.
 * 3. With a model and without one the tables are the same, and what the guest sees; the
 *    roots' TLBs too, but for accesses that span two pages, which ask the tables less
 *    often. Walks made for the model have no side effects.
 * 4. While a flush is owed neither the filter nor `fetches` has a page.
 *
 * Sources: SDM volume 3, "Caching Translation Information" and "VMX Support for Address
 * Translation" (what is cached, what drops it); Bhargava et al., "Accelerating
 * Two-Dimensional Page Walks for Virtualized Systems" (ASPLOS 2008; nested TLB); Barr et
 * al., "Translation Caching: Skip, Don't Walk (the Page Table)" (ISCA 2010).
 */
#include "mmu/model/model.h"
#include "mmu/tdp/tdp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Life ---- */

static bool level_possible(const struct pn_tlb_level *l) {
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        if (pn_tlb_array_problem(&l->array[i]))
            return false;
    return true;
}

bool model_possible(const struct pn_tlb_model *m) {
    bool ok = level_possible(&m->l1i) && level_possible(&m->l1d) &&
              level_possible(&m->l2) && level_possible(&m->l2i) &&
              !pn_tlb_array_problem(&m->nested);
    for (unsigned level = 2; level <= 5; level++)
        ok = ok && !pn_tlb_array_problem(&m->walk[level]) &&
             !pn_tlb_array_problem(&m->second_walk[level]);
    return ok;
}

int model_attach(struct pn_mmu *mmu) {
    mmu->tlb_model = malloc(sizeof(*mmu->tlb_model));
    if (!mmu->tlb_model)
        return -ENOMEM;
    *mmu->tlb_model = *mmu->cfg.tlb;
    mmu->cfg.tlb = mmu->tlb_model;
    mmu->observer = &model_observer;
    if (!mmu->cfg.nodes)
        return 0;
    mmu->nodes = malloc(sizeof(*mmu->nodes));
    if (!mmu->nodes)
        return -ENOMEM;
    *mmu->nodes = *mmu->cfg.nodes;
    mmu->cfg.nodes = mmu->nodes;
    return 0;
}

void model_detach(struct pn_mmu *mmu) {
    free(mmu->nodes);
    free(mmu->tlb_model);
}

static int caches_init(struct model *m) {
    const struct pn_tlb_model *cfg = m->cfg;
    const struct pn_tlb_level *level_of[MODEL_TLBS] = {
        [L1I] = &cfg->l1i, [L1D] = &cfg->l1d, [L2] = &cfg->l2, [L2I] = &cfg->l2i};
    int rc = 0;
    for (unsigned t = 0; t < MODEL_TLBS; t++)
        for (unsigned i = 0; i < PN_TLB_ARRAYS && !rc; i++)
            rc = assoc_init(&m->tlb[t][i], &level_of[t]->array[i]);
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        m->own_l2i |= cfg->l2i.array[i].entries != 0;
    if (!rc)
        rc = assoc_init(&m->nested, &cfg->nested);
    for (unsigned level = 2; level <= 5 && !rc; level++) {
        rc = assoc_init(&m->walk[level], &cfg->walk[level]);
        if (!rc)
            rc = assoc_init(&m->second[level], &cfg->second_walk[level]);
    }
    return rc;
}

/* Guest frames. */
static int frames_init(struct pn_mmu_vcpu *vcpu, struct model *m) {
    unsigned roots = vcpu->mmu->cfg.opt.cached_roots + 1;
    for (unsigned i = 0; i < roots; i++) {
        m->frame[i] = calloc(FILTER_ENTRIES, sizeof(pn_gpa));
        if (!m->frame[i])
            return -ENOMEM;
    }
    return 0;
}

static uint8_t node_of_vcpu(const struct pn_nodes *nodes, unsigned vcpu) {
    for (unsigned i = 0; nodes && i < nodes->count; i++)
        if (vcpu >= nodes->cpus[i].first && vcpu < nodes->cpus[i].end)
            return (uint8_t)i;
    return 0;
}

int model_create(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->cfg = vcpu->mmu->cfg.tlb;
    vcpu->node = node_of_vcpu(vcpu->mmu->nodes, vcpu->number);
    if (vcpu->mmu->tdp && !vcpu->number)
        vcpu->mmu->tdp->root->node = vcpu->node; /* made before there was a vCPU */
    int rc = caches_init(m);
    if (!rc)
        rc = filter_init(vcpu);
    return rc ? rc : frames_init(vcpu, m);
}

void model_destroy(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model;
    if (!m)
        return;
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        for (unsigned t = 0; t < MODEL_TLBS; t++)
            assoc_fini(&m->tlb[t][i]);
    for (unsigned level = 2; level <= 5; level++) {
        assoc_fini(&m->walk[level]);
        assoc_fini(&m->second[level]);
    }
    assoc_fini(&m->nested);
    for (unsigned i = 0; i < ROOTS_MAX; i++)
        free(m->frame[i]);
    filter_fini(m);
    free(m);
    vcpu->model = NULL;
}

/* ---- TLB look-ups ---- */

/* absent: model_find has not found it, for whatever access. Return: false: that size has no place
 * there; else *h. */
static bool level_fill(struct pn_mmu_vcpu *vcpu, struct assoc a[PN_TLB_ARRAYS],
                       pn_gva gva, unsigned level, const struct assoc_entry *what,
                       bool absent, struct model_hit *h) {
    enum model_tlb t = a == vcpu->model->tlb[L1D] ? L1D : L1I;
    bool first = a == vcpu->model->tlb[t];
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++) {
        if (!a[i].ways || !(a[i].pages & model_page_bit(level)))
            continue;
        uint64_t tag = model_page_tag(gva, level);
        if (first)
            model_filter_make_room(vcpu, t, gva, i, level);
        struct assoc_entry *e = absent ? assoc_add(&a[i], tag, what->ctx)
                                       : assoc_insert(&a[i], tag, what->ctx);
        if (!e)
            return false;
        if (first)
            model_filter_came(vcpu->model, t, i, e);
        e->global = what->global;
        e->store = what->store;
        *h = (struct model_hit){e, i, level};
        return true;
    }
    return false;
}

/* ---- Walks ---- */

/* From gpa through the second-level tables. Return: the page is there. */
static bool second_walk(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, unsigned *refs,
                        unsigned *leaf) {
    struct model *m = vcpu->model;
    unsigned top = vcpu->mmu->tdp->levels, from = top;
    uint8_t node[6];
    if (vcpu->mmu->nodes)
        model_second_nodes(vcpu, gpa, node);
    bool found = model_second(vcpu->mmu, gpa, leaf);
    for (unsigned level = *leaf + 1; level <= top; level++) {
        struct assoc_entry *e =
            assoc_find(&m->second[level], model_page_tag(gpa, level), 0);
        if (!e)
            continue;
        assoc_use(&m->second[level], e);
        pn_count_level(vcpu->stats, model_second_hit, level);
        from = level - 1;
        break;
    }
    for (unsigned level = from; level >= *leaf && level; level--) {
        pn_count_level(vcpu->stats, model_table, level);
        if (vcpu->mmu->nodes && node[level] != vcpu->node)
            pn_count(vcpu->stats, model_table_remote);
        ++*refs;
        if (level > *leaf)
            assoc_add(&m->second[level], model_page_tag(gpa, level), 0);
    }
    return found;
}

/* Where a gpte is, in host memory. Return: its page is there. */
static bool gpte_page(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, unsigned *refs) {
    struct model *m = vcpu->model;
    unsigned leaf;
    struct assoc_entry *e = assoc_find(&m->nested, model_page_tag(gpa, 1), 0);
    if (e) {
        assoc_use(&m->nested, e);
        pn_count(vcpu->stats, model_nested_hit);
        return true;
    }
    pn_count(vcpu->stats, model_nested_miss);
    if (!second_walk(vcpu, gpa, refs, &leaf))
        return false;
    assoc_add(&m->nested, model_page_tag(gpa, 1), 0);
    return true;
}

/* The level that a walk begins at, below the deepest entry that a walk cache has. */
static unsigned walk_from(struct pn_mmu_vcpu *vcpu, pn_gva gva, uint16_t ctx,
                          unsigned bits, unsigned top, unsigned leaf) {
    struct model *m = vcpu->model;
    for (unsigned level = leaf + 1; level <= top; level++) {
        struct assoc_entry *e =
            assoc_find(&m->walk[level], model_table_tag(gva, bits, level), ctx);
        if (!e)
            continue;
        assoc_use(&m->walk[level], e);
        pn_count_level(vcpu->stats, model_walk_hit, level);
        return level - 1;
    }
    return top;
}

static bool walk_2d(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct model_path *p,
                    unsigned *refs, unsigned *leaf) {
    struct model *m = vcpu->model;
    uint16_t ctx = model_context(vcpu);
    unsigned from = p->guest_top ? walk_from(vcpu, gva, ctx, p->guest_bits, p->guest_top,
                                             p->guest_level)
                                 : 0;
    for (unsigned level = from; level >= p->guest_level && level; level--) {
        if (!gpte_page(vcpu, p->gpte[level], refs))
            return false;
        pn_count_level(vcpu->stats, model_guest, level);
        if (vcpu->mmu->nodes &&
            model_node_of(vcpu->mmu->nodes, p->gpte[level]) != vcpu->node)
            pn_count(vcpu->stats, model_guest_remote);
        ++*refs;
        if (level > p->guest_level)
            assoc_add(&m->walk[level], model_table_tag(gva, p->guest_bits, level), ctx);
    }
    if (!p->found || !second_walk(vcpu, p->gpa, refs, leaf))
        return false;
    if (*leaf > p->level)
        *leaf = p->level;
    return true;
}

static bool walk_shadow(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct model_path *p,
                        unsigned *refs, unsigned *leaf) {
    struct model *m = vcpu->model;
    uint16_t ctx = model_context(vcpu);
    unsigned from =
        p->table_top ? walk_from(vcpu, gva, ctx, 9, p->table_top, p->table_level) : 0;
    for (unsigned level = from; level >= p->table_level && level; level--) {
        pn_count_level(vcpu->stats, model_table, level);
        if (vcpu->mmu->nodes && p->table_node[level] != vcpu->node)
            pn_count(vcpu->stats, model_table_remote);
        ++*refs;
        if (level > p->table_level)
            assoc_add(&m->walk[level], model_table_tag(gva, 9, level), ctx);
    }
    *leaf = p->level;
    return p->found;
}

/* Return: the page is there; *leaf: the level of what a TLB holds of it. */
static bool walk(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 const struct model_path *p, bool fault, unsigned *leaf) {
    struct pn_stats *st = vcpu->stats;
    unsigned refs = 0;
    bool found = vcpu->mmu->tdp ? walk_2d(vcpu, gva, p, &refs, leaf)
                                : walk_shadow(vcpu, gva, p, &refs, leaf);
    if (access == PN_FETCH)
        pn_count(st, model_walk_fetch);
    else
        pn_count(st, model_walk_data);
    if (fault || !found)
        pn_count(st, model_walk_fault);
    st->v[PN_STAT_model_refs] += refs;
    st->walk_hist[refs < PN_WALK_HIST ? refs : PN_WALK_HIST - 1]++;
    return found;
}

void model_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                enum pn_tlb_mode mode, struct model_path *p) {
    if (vcpu->mmu->tdp)
        tdp_path(vcpu, gva, access, mode, p);
    else
        shadow_path(vcpu, gva, access, mode, p);
}

/* ---- Accesses ---- */

static struct assoc *second_level(struct model *m, enum pn_access access) {
    return m->tlb[access == PN_FETCH && m->own_l2i ? L2I : L2];
}

/* Neither level of the TLB knows. Return: the page; e: what a TLB holds of it. */
static bool miss(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, const struct model_path *pre,
                 struct assoc_entry *e, unsigned *level) {
    struct model_path now;
    struct model_hit l2;
    if (!pre) {
        model_path(vcpu, gva, access, mode, &now);
        if (!now.found && access == PN_FETCH && !vcpu->mmu->tdp)
            shadow_path_fetched(vcpu, gva, mode, &now);
        pre = &now;
    }
    if (!walk(vcpu, gva, access, pre, false, level))
        return false;
    *e = (struct assoc_entry){.ctx = model_context(vcpu),
                              .global = pre->global,
                              .store = pre->store || access == PN_WRITE};
    level_fill(vcpu, second_level(vcpu->model, access), gva, *level, e,
               access != PN_WRITE, &l2);
    return true;
}

bool model_access(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                  enum pn_tlb_mode mode, const struct model_path *pre,
                  struct model_hit *h) {
    struct model *m = vcpu->model;
    struct assoc *l1 = m->tlb[access == PN_FETCH ? L1I : L1D],
                 *l2 = second_level(m, access);
    uint16_t ctx = model_context(vcpu);
    bool write = access == PN_WRITE;
    struct assoc_entry what;
    unsigned level;
    if (model_find(l1, gva, ctx, write, h)) {
        if (access != PN_FETCH)
            model_filter_use(vcpu, h->array, h->e);
        assoc_use(&l1[h->array], h->e);
        return true;
    }
    if (access == PN_FETCH)
        pn_count(vcpu->stats, model_l1i_miss);
    else
        pn_count(vcpu->stats, model_l1d_miss);
    if (model_find(l2, gva, ctx, write, h)) {
        pn_count(vcpu->stats, model_l2_hit);
        assoc_use(&l2[h->array], h->e);
        what = *h->e;
        level = h->level;
    } else if (!miss(vcpu, gva, access, mode, pre, &what, &level)) {
        return false;
    }
    return level_fill(vcpu, l1, gva, level, &what, !write && what.ctx == ctx, h);
}

void model_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 const struct model_path *p) {
    unsigned leaf;
    walk(vcpu, gva, access, p, true, &leaf);
}
