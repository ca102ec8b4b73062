/* SPDX-License-Identifier: MIT */
/*
 * One address explained: the guest's walk, the rule that decides, the memslot, what walks
 * would cost. What our tables hold for it, each kind of MMU knows.
 *
 * Invariant: nothing here changes a table, a TLB, a counter or guest memory.
 */
#include <string.h>

#include "mmu/core/explain.h"

const char *pn_rule_name(enum pn_rule rule) {
    static const char *const names[] = {
#define PN_RULE(name, words) #name,
#include "penumbra/explain_rules.inc"
    };
    return rule < PN_RULES ? names[rule] : "";
}

const char *pn_rule_words(enum pn_rule rule) {
    static const char *const all[] = {
#define PN_RULE(name, words) words,
#include "penumbra/explain_rules.inc"
    };
    return rule < PN_RULES ? all[rule] : "";
}

/* ---- The rule ---- */

/* The first level that takes the right away. */
static uint8_t lacks(const struct walk *w, unsigned right) {
    unsigned level = w->top;
    while (level > w->level && w->pt_access[level] & right)
        level--;
    return (uint8_t)level;
}

/* Of a walk that reached a leaf: SDM volume 3, "Determination of Access Rights". */
static enum pn_rule right_rule(const struct stage *s, const struct walk *w,
                               enum pn_access access, enum pn_tlb_mode mode,
                               uint8_t *level) {
    bool user = mode == PN_TLB_USER, user_page = w->access & ACC_USER;
    *level = w->level;
    if (user && !user_page) {
        *level = lacks(w, ACC_USER);
        return PN_RULE_supervisor_page;
    }
    if (pn_on_shadow_stack(access) && (!(w->access & ACC_SS) || user != user_page))
        return PN_RULE_shadow_stack;
    if (access == PN_FETCH && !(w->access & ACC_EXEC)) {
        *level = lacks(w, ACC_EXEC);
        return PN_RULE_no_execute;
    }
    if (access == PN_FETCH)
        return !user && user_page && s->mode & STAGE_SMEP ? PN_RULE_smep
                                                          : PN_RULE_allowed;
    if (mode == PN_TLB_SUPER && user_page && s->mode & STAGE_SMAP)
        return PN_RULE_smap;
    if (access == PN_WRITE && !(w->access & ACC_WRITE) && (user || s->mode & STAGE_WP)) {
        *level = lacks(w, ACC_WRITE);
        return PN_RULE_no_write;
    }
    if (!rights_pkey_denies(&s->rights, w->access, w->pkey, access, mode))
        return PN_RULE_allowed;
    uint32_t key = (user_page ? s->rights.pkru : s->rights.pkrs) >> (2 * w->pkey);
    return key & 1 ? PN_RULE_pkey_access : PN_RULE_pkey_write;
}

enum pn_rule explain_rule(const struct stage *s, const struct walk *w, int rc,
                          enum pn_access access, enum pn_tlb_mode mode, uint8_t *level) {
    *level = 0;
    if (rc < 0 && w->end == WALK_BELOW)
        return PN_RULE_nested;
    if (!s->levels)
        return PN_RULE_unpaged;
    *level = w->level;
    if (rc < 0 && w->end == WALK_ABSENT)
        return PN_RULE_not_present;
    if (rc < 0 && w->end == WALK_RESERVED)
        return PN_RULE_reserved;
    enum pn_rule rule = right_rule(s, w, access, mode, level);
    if (rule == PN_RULE_allowed)
        *level = 0;
    return rule;
}

uint64_t explain_missing_ad(const struct stage *s, const struct walk *w, unsigned level,
                            enum pn_access access) {
    uint64_t want = s->bits.accessed;
    if (level == w->level && access == PN_WRITE)
        want |= s->bits.dirty;
    return want & ~w->gpte[level];
}

/* ---- The walk ---- */

struct pn_step *explain_step(struct pn_explanation *x) {
    if (x->steps == PN_STEPS_MAX)
        return NULL;
    x->step[x->steps] = (struct pn_step){0};
    return &x->step[x->steps++];
}

/* The entries that a walk read. dimension, of: whose, and what for. */
static void walk_steps(const struct stage *s, const struct walk *w,
                       enum pn_dimension dimension, unsigned of,
                       struct pn_explanation *x) {
    const struct pt_format *f = s->bits.format;
    for (unsigned level = w->top; level >= w->level && level; level--) {
        struct pn_step *step = explain_step(x);
        if (!step)
            return;
        *step = (struct pn_step){
            .dimension = dimension,
            .level = (uint8_t)level,
            .of = (uint8_t)of,
            .reads = level != f->in_register,
            .index = (uint16_t)(level == f->in_register ? w->gva >> 30 & 3
                                                        : w->gva >> pt_shift(f, level) &
                                                              ((1u << f->bits) - 1)),
            .at = w->pte_gpa[level],
            .entry = w->gpte[level],
            .acc = w->pt_access[level],
        };
    }
}

/* An address of a guest's guest through the nested tables. Return: they lead on. */
static bool nested_steps(struct pn_mmu_vcpu *vcpu, pn_gpa ngpa, unsigned of,
                         struct pn_explanation *x, pn_gpa *gpa) {
    struct walk in = {.fixes = 0};
    int rc = stage_walk(vcpu, &vcpu->second, ngpa, PN_READ, PN_TLB_USER, WALK_PROBE, &in);
    walk_steps(&vcpu->second, &in, PN_DIM_NESTED, of, x);
    *gpa = in.gfn << PN_PAGE_SHIFT | (ngpa & (PN_PAGE_SIZE - 1));
    return rc == 0;
}

static void nested_part(struct pn_mmu_vcpu *vcpu, const struct walk *w,
                        struct pn_explanation *x) {
    pn_gpa at;
    x->asid = vcpu->world.asid;
    x->nested = vcpu->world.second;
    if (!x->nested)
        return;
    x->ncr3 = vcpu->second.root;
    x->ngpa = x->gpa;
    x->reaches = x->found;
    for (unsigned level = walk_first(w); level >= w->level && level; level--)
        nested_steps(vcpu, w->pte_gpa[level], level, x, &at);
    if (x->found)
        x->found = nested_steps(vcpu, x->ngpa, 0, x, &x->gpa);
}

/* Where it leads, whatever the access may be denied for. */
static void leaf(const struct stage *s, const struct walk *w, int rc,
                 struct pn_explanation *x) {
    const struct pt_bits *b = &s->bits;
    bool denied_page = w->end == WALK_BELOW && !(w->fault.error & PN_NPF_TABLE);
    x->found = rc == 0 || w->end == WALK_DENIED || denied_page;
    if (!x->found)
        return;
    pn_gfn gfn = w->gva >> PN_PAGE_SHIFT;
    x->level = w->top ? w->level : 0;
    x->acc = w->access;
    if (w->top) {
        uint64_t v = w->gpte[w->level];
        pn_gfn low = (1ull << b->format->bits * (w->level - 1)) - 1;
        gfn = pt_leaf_gfn(b->format, b, w->level, v) | (gfn & low);
        x->pkey = pt_pkey(b->format, v);
        x->dirty = v & b->format->dirty;
        x->global = v & b->format->global;
    }
    x->gpa = gfn << PN_PAGE_SHIFT | (w->gva & (PN_PAGE_SIZE - 1));
}

static void slot_part(struct pn_mmu *mmu, struct pn_explanation *x) {
    pn_gfn gfn = x->gpa >> PN_PAGE_SHIFT;
    struct slot *s = x->found ? slot_of_gfn(mmu, gfn) : NULL;
    if (!s)
        return;
    x->has_slot = true;
    x->slot = s->pub;
    x->in_log = s->dirty && dirty_test(s, gfn);
    x->table_pages = track_tables(s, gfn);
    x->code_users = track_users(mmu, gfn);
    for (unsigned level = 2; level <= 3; level++)
        x->large_forbid[level - 2] = *slot_large(s, gfn, level);
}

/* ---- TLBs ---- */

static uint8_t answers(const struct root *r, pn_gva gva, enum pn_tlb_mode mode,
                       bool *held) {
    const struct pn_tlb_entry *e = &r->tlb[mode][tlb_index(gva)];
    uint8_t bits = 0;
    for (unsigned t = 0; t < 3; t++)
        bits |= (uint8_t)((e->tag[t] == (gva & PN_PAGE_MASK)) << t);
    *held = e->tag[PN_WRITE] == PN_TLB_HELD(gva);
    return bits;
}

static void tlb_part(struct pn_mmu_vcpu *vcpu, pn_gva gva, struct pn_explanation *x) {
    const struct root *cur = vcpu->roots->cur;
    bool held;
    for_each_root_of(vcpu, r) {
        uint8_t any = 0;
        for (enum pn_tlb_mode mode = PN_TLB_USER; mode < PN_TLB_MODES; mode++) {
            uint8_t bits = answers(r, gva, mode, &held);
            any |= bits;
            if (r == cur) {
                x->tlb[mode] = bits;
                x->held[mode] = held;
            }
        }
        x->other_roots += r != cur && any;
    }
}

/* ---- Costs ---- */

/* Does the slot back the large frame as one host range? */
static bool backs(const struct slot *s, pn_gfn gfn, unsigned level) {
    uint64_t pages = 1ull << 9 * (level - 1), first = gfn & ~(pages - 1);
    return !((s->gfn ^ (uintptr_t)s->pub.hva >> PN_PAGE_SHIFT) & (pages - 1)) &&
           first >= s->gfn && first + pages <= s->gfn + s->npages;
}

/* The largest leaf of ours for a frame, at most `most`. */
static unsigned largest(struct pn_mmu *mmu, pn_gfn gfn, unsigned most) {
    struct slot *s = slot_of_gfn(mmu, gfn);
    unsigned level = most > 3 ? 3 : most;
    if (!s || s->dirty || !mmu->cfg.opt.large_pages)
        return 1;
    while (level > 1 && !backs(s, gfn, level))
        level--;
    return level;
}

static void add_table(struct pn_walk_cost *c, unsigned top, unsigned level) {
    for (; level <= top; level++) {
        c->table[level]++;
        c->refs++;
    }
}

/* Everything mapped, as large as may be: Bhargava et al. (ASPLOS 2008) count so. */
static void would_cost(struct pn_mmu *mmu, const struct walk *w,
                       struct pn_explanation *x) {
    const struct pn_mmu_options *opt = &mmu->cfg.opt;
    pn_gfn gfn = x->gpa >> PN_PAGE_SHIFT;
    unsigned h = mmu->cfg.maxphyaddr > 48 ? 5 : opt->tdp_levels;
    unsigned native = 0, top = w->top > 3 ? w->top : 3;
    bool paged = w->top;
    for (unsigned level = walk_first(w); paged && level >= w->level; level--) {
        native++;
        x->two_dim.guest[level]++;
        x->two_dim.refs++;
        add_table(&x->two_dim, h, largest(mmu, w->slot_gpa[level] >> PN_PAGE_SHIFT, 3));
    }
    add_table(&x->two_dim, h, largest(mmu, gfn, 3));
    /* The page of a table is none that a large shadow mapping may cover. */
    unsigned most = x->table_pages ? 1 : paged ? w->level : 3;
    add_table(&x->shadow, top, largest(mmu, gfn, most));
    x->shadow.native = x->two_dim.native = native;
    x->shadow.complete = x->two_dim.complete = true;
}

/* ---- All of it ---- */

static bool is_canonical(const struct stage *s, pn_gva gva) {
    if (s->levels < 4)
        return !(gva >> 32);
    unsigned unused = 64 - (PN_PAGE_SHIFT + 9u * s->levels);
    return (uint64_t)((int64_t)(gva << unused) >> unused) == gva;
}

int explain_guest(struct pn_mmu_vcpu *vcpu, pn_gva gva, struct walk *w,
                  struct pn_explanation *x) {
    const struct stage *s = &vcpu->walk;
    memset(w, 0, sizeof(*w));
    *x = (struct pn_explanation){.gva = gva,
                                 .kind = vcpu->mmu->cfg.kind,
                                 .paging = vcpu->paging,
                                 .mode = s->mode,
                                 .maxphyaddr = vcpu->mmu->cfg.maxphyaddr,
                                 .canonical = is_canonical(s, gva)};
    int rc = stage_walk(vcpu, s, gva, PN_READ, PN_TLB_SUPER_AC, WALK_PROBE, w);
    walk_steps(s, w, PN_DIM_GUEST, 0, x);
    leaf(s, w, rc, x);
    nested_part(vcpu, w, x);
    slot_part(vcpu->mmu, x);
    tlb_part(vcpu, gva, x);
    if (x->found)
        would_cost(vcpu->mmu, w, x);
    return rc;
}

/* ---- Mappings of the guest ---- */

struct look {
    struct pn_mmu_vcpu *vcpu;
    pn_mapping_fn fn;
    void *opaque;
    uint32_t left; /* entries */
};

static uint64_t gpte_at(const struct pt_format *f, const uint8_t *table, unsigned i) {
    const void *at = table + (size_t)i * f->entry;
    return f->entry == 4 ? *(const uint32_t *)at : *(const uint64_t *)at;
}

static bool found_leaf(struct look *l, pn_gva gva, unsigned level, uint64_t v,
                       unsigned acc) {
    const struct pt_bits *b = &l->vcpu->walk.bits;
    const struct pt_format *f = b->format;
    struct pn_mapping m = {
        .from = gva,
        .size = 1ull << pt_shift(f, level),
        .entry = v,
        .gpa = pt_leaf_gfn(f, b, level, v) << PN_PAGE_SHIFT,
        .level = (uint8_t)level,
        .pkey = pt_pkey(f, v),
        .rights = (uint8_t)(acc | (v & f->global ? PN_MAP_GLOBAL : 0)),
    };
    return l->fn(l->opaque, &m);
}

/* Entries of `level` in the table at gpa, for linear addresses from gva on. */
static bool look_down(struct look *l, pn_gpa table, unsigned level, pn_gva gva,
                      unsigned acc) {
    const struct stage *s = &l->vcpu->walk;
    const struct pt_bits *b = &s->bits;
    const struct pt_format *f = b->format;
    struct slot *slot = slot_of_gfn(l->vcpu->mmu, table >> PN_PAGE_SHIFT);
    if (!slot)
        return true; /* reads as ones: reserved bits */
    const uint8_t *at = slot_hva(slot, table >> PN_PAGE_SHIFT);
    for (unsigned i = 0; i < 1u << f->bits; i++) {
        uint64_t v = gpte_at(f, at, i);
        pn_gva from = gva | (uint64_t)i << pt_shift(f, level);
        if (!l->left--)
            return false;
        if (level == f->top && s->levels >= 4 && i >> (f->bits - 1))
            from |= ~0ull << (pt_shift(f, level) + f->bits - 1);
        if (!(v & f->present) || pt_reserved(f, b, level, v))
            continue;
        unsigned here = acc & pt_acc(f, v);
        bool more = pt_leaf(b, level, v)
                        ? found_leaf(l, from, level, v, here)
                        : look_down(l, v & b->address, level - 1, from, here);
        if (!more)
            return false;
    }
    return true;
}

static bool look_pae(struct look *l) {
    const struct stage *s = &l->vcpu->walk;
    for (unsigned i = 0; i < 4; i++)
        if (s->pdpte[i] & s->bits.format->present &&
            !look_down(l, s->pdpte[i] & s->bits.address, 2, (pn_gva)i << 30, ACC_ALL))
            return false;
    return true;
}

bool pn_mmu_guest_mappings(struct pn_mmu_vcpu *vcpu, pn_mapping_fn fn, void *opaque) {
    const struct stage *s = &vcpu->walk;
    struct look l = {vcpu, fn, opaque, EXPLAIN_ENTRIES_MAX};
    if (!s->levels) {
        struct pn_mapping all = {.size = 1ull << 32, .level = 3, .rights = ACC_ALL};
        return fn(opaque, &all);
    }
    if (s->bits.format->in_register)
        return look_pae(&l);
    pn_gpa root = s->root & s->bits.address;
    if (s->bits.format->entry == 4)
        root = (uint32_t)root;
    return look_down(&l, root, s->bits.format->top, 0, ACC_ALL);
}

const struct pn_memslot *pn_mmu_slot_at(const struct pn_mmu *mmu, unsigned i) {
    return i < mmu->slots.count ? &mmu->slots.by_gfn[i]->pub : NULL;
}

struct pn_mmu *pn_mmu_of(const struct pn_mmu_vcpu *vcpu) {
    return vcpu->mmu;
}
