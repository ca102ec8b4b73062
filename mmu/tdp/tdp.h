/* SPDX-License-Identifier: MIT */
/*
 * What the files of the two-dimensional MMU share. Its tables are `struct sp`s from the
 * same slabs as shadow pages: direct ones, each with the one entry that leads to it in
 * `parents`, on a list of their own.
 */
#pragma once

#include <string.h>

#include "mmu/core/root.h"
#include "mmu/tdp/ept.h"

extern const struct mmu_ops tdp_ops; /* tdp.c */

#define KNOWN_SHIFT 21
#define KNOWN_BITS  8

#define MERGED_TREES 16u

struct tdp {
    struct pn_mmu *mmu;
    struct sp *root;
    unsigned levels;
    struct list lru; /* all tables but the root, newest first */
    uint32_t pages;  /* on lru */
    uint32_t budget; /* pages at most */
    /* A reference to a gpte, by the option ad: what access it is, what it needs of the
     * leaf beside R, and what it sets there. */
    enum pn_access table_access;
    uint64_t table_needs, table_sets;
    uint64_t refs[PT_LEVELS + 1]; /* of a walk that ends at that level */
    /* Changes when a table goes, an entry that leads to one loses A or W, or a leaf what a
     * reference to a gpte needs. */
    uint64_t gen;
    /* Ways that walks went lately: where the tables for 2 MiB end, by the address. Every
     * entry above has A. */
    bool knows;
    struct known {
        pn_gpa region; /* gpa >> KNOWN_SHIFT, plus 1; 0: none */
        uint64_t *at;  /* level 1: the table's first entry; above: the entry */
        uint64_t
            pass; /* bits of the entry that those above let pass: all, or all but W */
        unsigned level;
    } known[1u << KNOWN_BITS];
    /* nested=shadow (merged.c): trees, by what they are of, and their tables. */
    struct merged {
        struct sp *root; /* NULL: none */
        uint64_t space, used;
        uint32_t asid;
    } merged[MERGED_TREES];
    unsigned merged_last;
    uint64_t merged_clock;
    uint32_t merged_pages;
    struct mmu_ops ops; /* of the MMU then */
};

/* A walk of the second-level tables. */
struct ewalk {
    uint64_t *ptep;
    uint64_t
        pte; /* the last entry read; without W or D where one above says so (close.c) */
    unsigned level;
};
/* What an entry that leads on leaves of the rights of those below. */
static inline uint64_t ept_pass(uint64_t v) {
    return v | ~EPT_W;
}
/* May the leaf of gpa, below such an entry, have lost a right? */
static inline bool ept_stale(uint64_t v, pn_gpa gpa) {
    return v >> (EPT_STALE_SHIFT + level_index(gpa, 1) / 64) & 1;
}
/* Is it D? */
static inline bool ept_clean(uint64_t v, pn_gpa gpa) {
    return v & EPT_W && ept_stale(v, gpa);
}

static inline bool tdp_reaches(const struct tdp *t, pn_gpa gpa) {
    return !(gpa >> (PN_PAGE_SHIFT + 9 * t->levels));
}

/* The tables as they are read. A is set in every entry that leads on, as the processor does. */
void ept_walk_tables(struct tdp *t, pn_gpa gpa, struct ewalk *w);
/* A table goes, or an entry that leads to one loses A. */
static inline void ept_forget(struct tdp *t) {
    mmu_bar(t->mmu);
    t->gen++;
    if (t->knows)
        memset(t->known, 0, sizeof(t->known));
    t->knows = false;
}
/* A leaf loses what walks of the guest's tables need of it, or leads elsewhere. */
static inline void ept_lost(struct tdp *t) {
    mmu_bar(t->mmu);
    t->gen++;
}
/* The same walk, by the way that is known. Return: the REFS that it stands for. */
static inline uint64_t ept_walk(struct tdp *t, pn_gpa gpa, struct ewalk *w) {
    const struct known *k = &t->known[gpa >> KNOWN_SHIFT & ((1u << KNOWN_BITS) - 1)];
    bool known = k->region == (gpa >> KNOWN_SHIFT) + 1;
    if (known) {
        w->level = k->level;
        w->ptep = k->at + (w->level == 1 ? level_index(gpa, 1) : 0);
        w->pte = *w->ptep & k->pass;
    }
    if (__builtin_expect(!known || ept_table(w->pte, w->level), 0))
        ept_walk_tables(t, gpa, w);
    return t->refs[w->level];
}

/* The same without side effects. Return: entries read. */
static inline unsigned ept_peek(const struct tdp *t, pn_gpa gpa, struct ewalk *w) {
    w->ptep = &t->root->spt[level_index(gpa, t->levels)];
    w->level = t->levels;
    uint64_t pass = ~0ull;
    for (; ept_table(w->pte = *w->ptep, w->level);
         pass &= ept_pass(w->pte) & (ept_clean(w->pte, gpa) ? ~EPT_D : ~0ull))
        w->ptep = &ept_child(w->pte)[level_index(gpa, --w->level)];
    w->pte &= pass | -(uint64_t)!ept_present(w->pte); /* a mark stays what it is */
    return t->levels - w->level + 1;
}

/* First frame that entry i of a table maps. */
static inline pn_gfn ept_gfn(const struct sp *sp, unsigned i) {
    return sp->gfn + i * level_pages(sp_level(sp));
}

/* W of a leaf, when nobody is storing yet. */
static inline uint64_t tdp_may_write(const struct pn_mmu *mmu, const struct slot *s,
                                     pn_gfn gfn, unsigned level) {
    bool may = !(s->pub.flags & PN_SLOT_READONLY) && may_store_unseen(mmu, s, gfn, level);
    return may ? EPT_W : 0;
}

/* ---- visit.c: one visitor of second-level tables, for all that goes through many ----
 */

enum visit_kind {
    VISIT_LEAF = 1,
    VISIT_MARK = 2,  /* neither leaf nor table nor 0: MMIO */
    VISIT_TABLE = 4, /* a table, before its entries */
    VISIT_AFTER = 8, /* a table, after its entries */
    VISIT_ABSENT = 16
};

struct visit {
    struct pn_mmu_vcpu *vcpu;
    pn_gfn first, end; /* frames: entries that map some of [first, end) are visited */
    unsigned kinds;    /* a set of enum visit_kind */
    unsigned lowest;   /* level of the entries below which nothing is visited; 0: none */
    /* What is done with an entry, the first frame of which is gfn. It may replace the
     * entry: a table that it makes of a leaf is visited next; one that it drops is not.
     */
    void (*at)(struct visit *v, uint64_t *ptep, pn_gfn gfn, unsigned level,
               enum visit_kind kind);
};
void tdp_visit(struct visit *v, struct sp *sp);
static inline struct visit visit_slot(struct pn_mmu_vcpu *vcpu, const struct slot *s,
                                      unsigned kinds) {
    return (struct visit){
        .vcpu = vcpu, .first = s->gfn, .end = s->gfn + s->npages, .kinds = kinds};
}

/* ---- table.c ---- */

int tdp_init(struct pn_mmu *mmu);
void tdp_fini(struct pn_mmu *mmu);
#define TDP_ROOM 6 /* tables that one fault may add, splits included */
/* Keep the page budget; zaps, so nothing may be held across. */
void tdp_make_room(struct pn_mmu_vcpu *vcpu);
/* A new table under *ptep, which is not present. Return: NULL out of memory. */
struct sp *tdp_link(struct pn_mmu_vcpu *vcpu, uint64_t *ptep);
/* Make the entry a leaf; it is not present. */
void tdp_set_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep,
                  uint64_t bits);
void tdp_set_mmio(struct pn_mmu_vcpu *vcpu, uint64_t *ptep);
/* Back to 0, whatever it is, and everything below it; their TLB entries go unless they
 * are known to be gone. */
void tdp_drop(struct pn_mmu_vcpu *vcpu, uint64_t *ptep, bool tlb);
/* May the leaf of gfn stand at this level? */
bool tdp_large_ok(const struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level);
void tdp_zap_all(struct pn_mmu_vcpu *vcpu);
void tdp_slot_gone(struct pn_mmu_vcpu *vcpu, struct slot *s);

/* ---- large.c ---- */

/* Replace a large leaf, if it is one, by a table of leaves a level below. Return: false
 * out of memory. */
bool tdp_split(struct pn_mmu_vcpu *vcpu, uint64_t *ptep);
/* Replace a table by one leaf; tdp_large_ok said that it may stand. */
void tdp_collapse(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *ptep);
/* Large leaves come back wherever they may. */
void tdp_recover(struct pn_mmu_vcpu *vcpu, struct slot *s);

/* ---- log.c ---- */

void tdp_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
void tdp_slot_changed(struct pn_mmu_vcpu *vcpu, struct slot *s, bool placed);
void tdp_rearm(struct pn_mmu *mmu, struct slot *s, pn_gfn first, uint64_t bits, bool d);
/* A walk sets A, D or both in the leaf that it reached for gpa. */
static inline void tdp_set_bits(struct pn_mmu_vcpu *vcpu, const struct ewalk *w,
                                uint64_t bits, pn_gpa gpa) {
    if (bits & ~w->pte & EPT_D && vcpu->mmu->tracker->by_dbit)
        dirty_set_d(vcpu, gpa >> PN_PAGE_SHIFT, w->level);
    ept_put(w->ptep, *w->ptep | bits);
}
/* Of a store to a page that the log has: a large leaf may take it when the log has all of its 2 MiB.
 * Return: these are news. */
bool tdp_log_rest(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn);
void tdp_harvested(struct pn_mmu *mmu);
void tdp_written(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size, bool ad);

/* ---- close.c ---- */

long tdp_take(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t words);
void tdp_grant(struct pn_mmu *mmu, struct slot *s, pn_gfn first, pn_gfn end);
/* Do the entries of a table grant no store, whatever they say? */
static inline bool tdp_closed(const struct sp *sp) {
    return sp->parents && !(*(const uint64_t *)(uintptr_t)sp->parents & EPT_W);
}
/* What an entry that leads to leaves of a table of level 1 says of them: of the root 0. */
static inline uint64_t tdp_above(const struct sp *sp) {
    return sp->parents && sp_level(sp) == 1 ? *(const uint64_t *)(uintptr_t)sp->parents
                                            : 0;
}
/* Does the leaf lose W before its table is open again, unless it may have it? */
static inline bool tdp_is_stale(const struct sp *sp, pn_gfn gfn) {
    return !(tdp_above(sp) & EPT_W) && ept_stale(tdp_above(sp), gfn << PN_PAGE_SHIFT);
}
static inline bool tdp_is_clean(const struct sp *sp, pn_gfn gfn) {
    return ept_clean(tdp_above(sp), gfn << PN_PAGE_SHIFT);
}
/* A walk comes by this entry, which has no A: stale leaves below it lose D. */
void tdp_clean(struct tdp *t, uint64_t *ptep);
/* A store goes by this entry to a table of leaves: it has W again, and stale leaves have not. */
void tdp_open(struct pn_mmu *mmu, uint64_t *ptep);

/* ---- tlb.c ---- */

/* Where TLB entries of a page may be: slot->tlb_hints. */
#define HINT_BITS  PN_TLB_BITS
#define HINT_MAX   4
#define HINT_COUNT 50           /* shift of the count, 0..4 */
#define HINT_MANY  (1ull << 53) /* anywhere */
#define HINT_W     (1ull << 62) /* with a write tag */
#define HINT_X     (1ull << 63) /* with a fetch tag */
_Static_assert(HINT_MAX *HINT_BITS <= HINT_COUNT, "fit");

void tdp_tlb_fill(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva,
                  enum pn_access access, enum pn_tlb_mode mode, const struct walk *w,
                  struct slot *s, uint64_t pte);
/* May the same fill be done beside others? It writes nothing then but the root's own. */
bool tdp_tlb_may_look(const struct slot *s, const struct root *r, pn_gva gva,
                      enum pn_access access, enum pn_tlb_mode mode, const struct walk *w,
                      uint64_t pte);
/* Drop what the TLBs have of a page; write: only its write tags. */
void tdp_tlb_drop(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, bool write);
void tdp_tlb_hold(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, enum tlb_held how);
bool tdp_was_fetched(const struct root *r, pn_gva gva);
void tdp_root_drop(struct pn_mmu_vcpu *vcpu, struct root *r);
void tdp_root_sync(struct pn_mmu_vcpu *vcpu, struct root *r);
void tdp_inval_gva(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all);

/* ---- fault.c ---- */

/* Does the entry mark MMIO, as memslots now are? */
static inline bool tdp_mmio_known(const struct pn_mmu *mmu, uint64_t pte) {
    return (pte & EPT_RWX) == EPT_MMIO &&
           (pte >> PN_PAGE_SHIFT & EPT_GEN) == (mmu->slots.generation & EPT_GEN);
}

/* ---- quick.c ---- */

/* The whole of a TLB miss where nothing is missing. Return: false: fault.c has to see to it. */
bool tdp_quick(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
               enum pn_tlb_mode mode, struct pn_xlate *out);
bool tdp_look(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
              enum pn_tlb_mode mode, struct pn_xlate *out);

/* ---- fault.c ---- */

enum pn_outcome tdp_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                              enum pn_tlb_mode mode, struct pn_xlate *out);
bool tdp_look_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                    enum pn_tlb_mode mode, struct pn_xlate *out);
extern const struct stage tdp_stage; /* the second level, as the stage below a guest's */

/* A walk starts over at most so often, for violations. */
#define TDP_FIXES_MAX 256
/* A reference that the second-level tables did not answer. */
struct violation {
    struct pn_mmu_vcpu *vcpu;
    pn_gva gva;
    pn_gpa gpa;
    enum pn_access access; /* to gpa */
    bool final;            /* not to a gpte */
    bool stack;            /* a shadow-stack access */
    unsigned *fixes;       /* violations of this access so far */
    uint32_t error;        /* the W, U and I bits of that access */
    bool split;            /* a large mapping was in the way */
    bool again;            /* mapped: the walk starts over */
    struct ewalk w;
};
/* It is an exit. */
void tdp_violated(const struct violation *v);

/* ---- merged_tree.c ---- */

#define MERGED_XU (1ull << 10) /* in a leaf: mode-based execute control, user addresses */

/* Are the addresses of its world those of merged tables? */
static inline bool tdp_merges(const struct pn_mmu_vcpu *vcpu) {
    return __builtin_expect(vcpu->world.second, 0) && vcpu->mmu->ops->merged;
}
void merged_drop_all(struct pn_mmu *mmu);
void merged_asid_gone(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all);
/* The root of the world's tree; NULL: there is none. */
const struct sp *merged_root(const struct pn_mmu_vcpu *vcpu);
/* The entry that the walk of an address of the guest's guest ends in. Return: REFS of it. */
uint64_t merged_find(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, struct ewalk *w);
/* The same. Return: the root's level. */
unsigned merged_peek(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, struct ewalk *w);
/* The hypervisor's tables have led gpa to what `in` says. Return: the leaf, of level `lowest`;
 * NULL: out of memory. */
uint64_t *merged_set_leaf(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, const struct walk *in,
                          unsigned lowest);
void merged_audit(struct audit *a);

/* ---- merged.c ---- */

extern const struct stage merged_stage;
bool tdp_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w, bool found,
                   struct pn_walk_cost *c);

/* ---- predict.c, explain.c ---- */

int tdp_predict(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                enum pn_tlb_mode mode, struct pn_verdict *v);
void tdp_explain(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                 struct pn_explanation *x);
bool tdp_mappings(struct pn_mmu_vcpu *vcpu,
                  bool (*fn)(void *opaque, const struct pn_mapping *m), void *opaque);
void tdp_tables(struct pn_mmu *mmu, bool (*fn)(void *opaque, const struct pn_table *t),
                void *opaque);

/* ---- audit.c ---- */

void tdp_audit(struct audit *a);
void tdp_audit_entry(struct audit *a, const struct root *r, enum pn_tlb_mode mode,
                     unsigned i, pn_gva gva);
