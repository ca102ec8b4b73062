/* SPDX-License-Identifier: MIT */
/*
 * What the shadow files share, from the floor up: each calls only what stands above it
 * here, and core/.
 *
 * Lifetime: an sp lives from sp_get to sp_zap. sp_make_room zaps, so it is called before
 * a path is built; sp_get zaps none of the path: only what is obsolete or a leaf table
 * out of sync, of the frame that it is asked for.
 */
#pragma once

#include "mmu/core/root.h"
#include "mmu/shadow/spte.h"

/* First frame of the leaf or MMIO spte i. */
static inline pn_gfn sp_gfn(const struct sp *sp, unsigned i) {
    if (__builtin_expect(sp->frames != NULL, 0))
        return sp->frames[i] >> PN_PAGE_SHIFT;
    if (sp_direct(sp))
        return sp->gfn + i * level_pages(sp_level(sp));
    return gpte_leaf_gfn(sp->format, sp_level(sp), i, spte_get(&sp->gptes[i]));
}

/* What the second level that w went through lets pass of a leaf's grant; all without one. */
#define FRAME_D 1u
#define FRAME_X 2u
static inline uint64_t frame_grant(uint64_t frame, uint64_t grant) {
    if (!(frame & FRAME_D))
        grant &= ~SPTE_D;
    return frame & FRAME_X ? grant : grant & ~SPTE_X;
}
static inline uint64_t walk_passes(const struct walk *w) {
    if (!w->second_level)
        return FRAME_D | FRAME_X;
    return (w->second_access & ACC_WRITE ? FRAME_D : 0) |
           (w->second_access & ACC_EXEC ? FRAME_X : 0);
}

#define HASH_BITS 14
#define FORMATS   6

extern const struct mmu_ops shadow_ops; /* shadow.c */

/*
 * Where policies differ. Which tables may be out of sync, and when they are synced; source
 * of Xen's: shadow.c of 3.0, mm/shadow/oos.c since 3.3.
 *
 * And where the versions of KVM differ: what becomes of the spte of a leaf table that is out
 * of sync when the guest executes INVLPG, or has a #PF with P set, at its address; and
 * what asks for a flush. Losing the right to store always does.
 * Source: KVM, FNAME(invlpg) and FNAME(sync_page) until 6.3, FNAME(sync_spte) since; its
 * check that the rights are others; mmu_spte_update; make_spte.
 */
struct policy {
    /* It goes, and its gpte is mapped anew; and a sync makes every spte of the table anew.
     * Else the spte is brought up to date, if there is one, and made anew only when its
     * rights are others. */
    bool remakes;
    /* Losing A or D asks for a flush, and an spte that took stores already is made anew
     * without D. */
    bool ad_flushes;
    /* Tables up to this level may go out of sync. */
    uint8_t unsync_level;
    /* A table that takes many stores while it is not used is likely none any more: it goes
     * (the option flood_threshold). */
    bool floods;
    /* Tables that may be at a time, for each vCPU: the one that went first is synced for
     * another, and none goes that stands in two shadow pages. 0: any number. */
    uint8_t unsync_max;
    /* A fault whose way leads through a table out of sync syncs all of them first. */
    bool syncs_at_fault;
    /* Tables are out of sync from the first on, and remain so when they are synced: none
     * is ever protected. */
    bool open;
    /* Agile paging: after this many stores to a table it and all below it are left to the
     * guest: out of sync for good (agile.c). 0: not so. */
    uint8_t nests;
};

#define UNSYNC_LIST 64

struct shadow {
    struct policy policy;
    uint8_t unsync_level; /* the policy's, unless the option unsync is off */
    bool open;
    bool stays; /* a table out of sync remains so when it is synced */
    unsigned unsynced_count;
    struct sp **hash;  /* by gfn */
    struct list lru;   /* newest first; all but ROOT sps */
    uint32_t pages;    /* on lru */
    uint32_t obsolete; /* of them, of an older generation */
    uint64_t gen;
    uint64_t leaves;                /* present leaf sptes */
    uint64_t log_d;                 /* SPTE_LOG_D: dirty logs go by it; else 0 */
    uint64_t log_gen;               /* harvests of many pages; 0: none yet */
    struct pt_bits format[FORMATS]; /* how gptes are read, by role */
    uint32_t format_role[FORMATS];
    uint32_t misses;    /* agile: in this interval */
    struct mmu_ops ops; /* of the MMU, where a policy has another one */
    enum pn_outcome (*translate_closed)(
        struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
        enum pn_tlb_mode mode, struct pn_xlate *out); /* its, where sps may be closed */
    /* With unsync_max, the tables that went out of sync, the first of them first. */
    pn_gfn unsynced[UNSYNC_LIST];
};

/* ---- ptrs.c: sets of sptep ---- */

void ptrs_add_more(struct slab *sl, uint64_t *head, uint64_t *sptep);
void ptrs_remove_one(struct slab *sl, uint64_t *head, uint64_t *sptep);
static inline void ptrs_add(struct slab *sl, uint64_t *head, uint64_t *sptep) {
    if (*head)
        ptrs_add_more(sl, head, sptep);
    else
        *head = (uintptr_t)sptep;
}
static inline void ptrs_remove(struct slab *sl, uint64_t *head, uint64_t *sptep) {
    if (*head & 1)
        ptrs_remove_one(sl, head, sptep);
    else if (*head == (uintptr_t)sptep)
        *head = 0;
}
/* Return: how many; a set of none counts as 1. */
static inline uint32_t ptrs_total(uint64_t head) {
    return head & 1 ? ((struct ptr_list *)(uintptr_t)(head - 1))->total : 1;
}
/* Iterate: *pos starts as {0}. No change of the set meanwhile. */
struct ptrs_pos {
    struct ptr_list *list;
    uint32_t i;
    bool started;
};
uint64_t *ptrs_next(uint64_t head, struct ptrs_pos *pos);
static inline uint64_t *ptrs_first(uint64_t head) {
    return head & 1 ? ((struct ptr_list *)(uintptr_t)(head - 1))->e[0]
                    : (uint64_t *)(uintptr_t)head;
}

/* ---- tlb.c ---- */

struct swalk {
    uint64_t *sptep;
    uint64_t spte;  /* last one read: leaf, MMIO or not present */
    uint64_t grant; /* of the whole way: SPTE_GRANT, pkey */
    unsigned level;
};

/* Walk the shadow tables; st, if it is not NULL, counts the entries. Return: entries read. */
static inline __attribute__((always_inline)) unsigned
shadow_walk_counted(const struct root *r, pn_gva gva, struct swalk *w,
                    struct pn_stats *st) {
    uint64_t *t = r->spt, grant = SPTE_GRANT, pkey = 0, v;
    unsigned top = sp_level(r->top), level = top;
    for (;; level--) {
        w->sptep = &t[level_index(gva, level)];
        v = spte_get(w->sptep);
        if (st)
            pn_count_level(st, walk_refs, level);
        grant &= v;
        pkey |= v & SPTE_PKEY;
        if (!spte_table(v))
            break;
        t = spte_child(v);
    }
    w->spte = v;
    w->grant = grant | pkey;
    w->level = level;
    if (st)
        st->v[PN_STAT_walk_refs] += top - level + 1;
    return top - level + 1;
}
static inline unsigned shadow_walk(const struct root *r, pn_gva gva, struct swalk *w) {
    return shadow_walk_counted(r, gva, w, NULL);
}

/* ACC_SS, if gva is in a page of a shadow stack: the entries of the guest's that the way
 * from sp down stands for have W, but the last one, its leaf, which has D alone. What is
 * below a large leaf has no gpte behind it. last: the entry that the way ends in. */
static inline unsigned shadow_stack_right(const struct sp *sp, pn_gva gva,
                                          uint64_t last) {
    uint64_t above = SPTE_W, leaf = SPTE_W, v;
    for (bool first = true;; sp = sp_of(spte_child(v))) {
        v = sp->spt[level_index(gva, sp_level(sp))];
        v = spte_table(v) ? v : last;
        if (!sp_direct(sp)) {
            above &= first ? SPTE_W : leaf;
            leaf = v;
            first = false;
        }
        if (!spte_table(v))
            break;
    }
    return above && (leaf & (SPTE_W | SPTE_D)) == SPTE_D ? ACC_SS : 0;
}

/* Frame of the page at gva, which w maps. */
static inline pn_gfn swalk_gfn(const struct swalk *w, pn_gva gva) {
    return sp_gfn(sp_of(w->sptep), sp_index(w->sptep)) +
           (gva >> PN_PAGE_SHIFT & (level_pages(w->level) - 1));
}

/* The leaf is about to get a right that harvests take: MMU_W, or LOG_D. */
static inline void sp_grants(const uint64_t *sptep) {
    sp_of(sptep)->granted |= 1ull << sp_index(sptep) / 8;
}

/* Where the leaf that w ends in puts gva. */
static inline void swalk_place(const struct swalk *w, pn_gva gva, struct pn_xlate *out) {
    uint64_t inside = (level_pages(w->level) << PN_PAGE_SHIFT) - 1;
    out->gpa = swalk_gfn(w, gva) << PN_PAGE_SHIFT | (gva & (PN_PAGE_SIZE - 1));
    out->hva = spte_hva(w->spte) + (gva & inside);
}

/* The roots that have TLB entries of sp, for those who look, too. */
static inline void sp_roots_put(struct sp *sp, uint64_t roots) {
    __atomic_store_n(&sp->roots, roots, __ATOMIC_RELAXED);
}

/* Fill from the leaf that w ends in. gfn: of the page at gva. denied: rights_denied of the
 * way. log_d: shadow->log_d, which is known to be 0 where every TLB miss comes by. */
static inline __attribute__((always_inline)) void
tlb_fill(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva, pn_gfn gfn,
         enum pn_access access, enum pn_tlb_mode mode, const struct swalk *w,
         unsigned denied, uint64_t log_d) {
    uint64_t inside = (level_pages(w->level) << PN_PAGE_SHIFT) - 1;
    uint64_t spte = w->spte | (access == PN_WRITE ? log_d : 0);
    struct sp *sp = sp_of(w->sptep);
    struct tlb_grant g = {
        .acc = spte_acc(w->grant),
        .pkey = spte_pkey(w->grant),
        .denied = denied,
        .store =
            w->grant & SPTE_D && (spte & SPTE_STORE) == SPTE_STORE && !(log_d & ~spte),
        /* Only what was fetched from counts as code: its loss drops the jump caches. */
        .code = access == PN_FETCH || w->spte & SPTE_TLB_X,
        .hva = (uintptr_t)spte_hva(w->spte) + (gva & inside & PN_PAGE_MASK),
    };
    if (__builtin_expect(g.store && w->spte & SPTE_CODE, 0)) {
        const struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
        g.held = track_held(s, gfn);
        g.store = !dirty_pieces_open(vcpu->mmu, s, gfn);
    }
    if (log_d & ~w->spte && access == PN_WRITE) {
        sp_grants(w->sptep);
        dirty_set_d(vcpu, gfn, w->level);
    }
    unsigned got = tlb_put(vcpu, r, gva, mode, &g);
    uint64_t now = spte | SPTE_HW_A | SPTE_TLB_1 << mode |
                   (got & TLB_GOT_W ? SPTE_TLB_W | SPTE_HW_D : 0) |
                   (got & TLB_GOT_X ? SPTE_TLB_X : 0);
    /* What is there already is not stored again: the tables stay clean in the host's cache. */
    if (*w->sptep != now)
        spte_put(w->sptep, now);
    if (!(sp->roots & r->bit))
        sp_roots_put(sp, sp->roots | r->bit);
}
/* An spte that is a leaf is about to go or to lose rights. write: only its write tags. */
void tlb_drop_leaf(struct pn_mmu *mmu, struct sp *sp, unsigned i, uint64_t spte,
                   bool write);
/* The same for what the roots above reach through this table spte. */
void tlb_drop_table(struct pn_mmu *mmu, const uint64_t *sptep);
void tlb_hold_leaves(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, enum tlb_held how);
/* The roots of this top lose all. */
void tlb_drop_top(struct pn_mmu *mmu, const struct sp *top);

/* ---- rmap.c ---- */

/* Is there no room for one more? */
static inline bool rmap_full(const struct slot *s, pn_gfn gfn) {
    return ptrs_total(s->rmap[gfn - s->gfn]) >= PTRS_MAX;
}
static inline void rmap_remove(struct pn_mmu *mmu, pn_gfn gfn, uint64_t *sptep) {
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s)
        return;
    s->leaves--;
    ptrs_remove(&mmu->slab, &s->rmap[gfn - s->gfn], sptep);
}
/* Clear LOG_D in every spte of gfn. */
void rmap_clean(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
/* Clear MMU_W in every 4 KiB spte of gfn. */
void rmap_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
/* The same for the large sptes of this level that begin at gfn: the next store through
 * one replaces it. */
void rmap_protect_large(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level);

/* ---- close.c ---- */

long shadow_take(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t words);
void shadow_grant(struct pn_mmu *mmu, struct slot *s, pn_gfn first, pn_gfn end);
/* Has there been a harvest of many pages that the sptes of this sp do not know of? */
static inline bool sp_closed(const struct pn_mmu *mmu, const struct sp *sp) {
    return sp->log_gen != mmu->shadow->log_gen;
}
/* They are to know of it. */
void shadow_open(struct pn_mmu *mmu, struct sp *sp);
/* The leaf i as it is then. */
uint64_t shadow_opened(struct pn_mmu *mmu, const struct sp *sp, unsigned i);

/* ---- track.c ---- */

/* gfn has one more synced shadow page, or one less. */
void track_inc(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
void track_dec(struct slot *s, pn_gfn gfn);
/* No large mapping over gfn takes stores from now on; one reason less against it. */
void large_forbid(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
void large_allow(struct slot *s, pn_gfn gfn);

/* ---- unsync_bits.c ---- */

/* The child of sptep is, or has below it, an unsync sp: set the bits up to the roots. */
void unsync_mark(uint64_t *sptep);
void unsync_clear_bit(struct sp *parent, unsigned i);

/* ---- spte.c ---- */

/* The gpte of spte i; in a read-only slot A and D count as set. */
static inline uint64_t sp_gpte(const struct sp *sp, unsigned i, const uint8_t *table) {
    uint64_t v;
    if (sp->role & ROLE_4BYTE) {
        unsigned q = role_quadrant(sp->role);
        unsigned at = sp_level(sp) == 1 ? q * 512 + i : q * 256 + i / 2;
        v = __atomic_load_n((const uint32_t *)(const void *)table + at, __ATOMIC_RELAXED);
    } else {
        v = __atomic_load_n((const uint64_t *)(const void *)table + i, __ATOMIC_RELAXED);
    }
    return sp->read_only ? v | sp->format->accessed | sp->format->dirty : v;
}
/* No walk can use this gpte as it is. */
static inline bool gpte_unused(const struct sp *sp, uint64_t gpte) {
    return ~gpte & sp->format->needed;
}

/* Install, for the gpte v (of no account in direct sps). What was there is dropped when
 * it led elsewhere. */
void spte_set_leaf(struct pn_mmu_vcpu *vcpu, struct slot *s, uint64_t *sptep, pn_gfn gfn,
                   uint64_t v, uint64_t bits);
void spte_set_mmio(struct pn_mmu_vcpu *vcpu, uint64_t *sptep, pn_gfn gfn, uint64_t v,
                   uint64_t grant);
void spte_link(struct pn_mmu *mmu, uint64_t *sptep, struct sp *child, uint64_t grant);
/* Back to 0, whatever it is; its TLB entries go. */
void spte_drop(struct pn_mmu *mmu, uint64_t *sptep);
/* Drop every spte that maps gfn from this page's own list. */
void spte_zap_page(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
/* Grant exactly `grant` (SPTE_GRANT | SPTE_PKEY) from now on. */
void spte_regrant_to(struct pn_mmu *mmu, uint64_t *sptep, uint64_t grant);
static inline void spte_regrant(struct pn_mmu *mmu, uint64_t *sptep, uint64_t grant) {
    if ((*sptep & (SPTE_GRANT | SPTE_PKEY)) != grant)
        spte_regrant_to(mmu, sptep, grant);
}
/* Of an sp with frames: does its spte stay when its gpte is that, and what does it grant? */
bool spte_framed_keeps(const struct sp *sp, unsigned i, uint64_t gpte, uint64_t *grant);
/* Make the spte agree with its gpte in guest memory, or drop it. Never makes one. */
void spte_sync(struct pn_mmu *mmu, struct sp *sp, unsigned i, const uint8_t *table);
/* The same because the guest flushed, of a leaf table. */
void spte_resync(struct pn_mmu *mmu, struct sp *sp, unsigned i, const uint8_t *table);
/* Fill the absent spte i of a leaf sp if its gpte can be used as it is; table: of the
 * gptes, NULL for a direct sp. The caller has reserved a list. */
void prefetch_spte(struct pn_mmu_vcpu *vcpu, struct sp *sp, unsigned i,
                   const uint8_t *table);

/* ---- sync.c ---- */

/* The guest invalidates gva, or has a #PF there that tables in use had a part in: what is
 * out of sync for it is so no longer. */
void sync_gva(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gva gva);
/* Does the way to gva lead through a table that is out of sync? */
bool sync_needed(const struct root *r, pn_gva gva);
/* The tables above the leaves below sp that are out of sync: an INVLPG of any address drops
 * what a processor has cached of them. */
void sync_uppers(struct pn_mmu_vcpu *vcpu, struct sp *sp);
/* Bring an unsync sp up to date; it remains unsync, since its frame remains writable. */
void sync_sptes(struct pn_mmu_vcpu *vcpu, struct sp *sp);
/* The same, and it is unsync no longer, unless the policy leaves it so. */
void sync_page(struct pn_mmu_vcpu *vcpu, struct sp *sp);
void sync_children(struct pn_mmu_vcpu *vcpu, struct sp *sp);

/* ---- sp.c ---- */

#define SP_ROOM       6  /* sps that one fault may add: a path of five levels */
#define SP_REFILL     25 /* room made when there is not that much. KVM_REFILL_PAGES */
#define OBSOLETE_STEP 8  /* obsolete sps freed per fault */

int sp_init(struct pn_mmu *mmu);
/* In the world that vcpu is in. */
struct sp *sp_find(const struct pn_mmu_vcpu *vcpu, pn_gfn gfn, uint32_t role);
/* Find or make. The caller has reserved room and lists. Return: NULL out of memory. */
struct sp *sp_get(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, uint32_t role);
struct sp *sp_new_root(struct pn_mmu_vcpu *vcpu);
struct sp *sp_first(struct pn_mmu *mmu, pn_gfn gfn);
/* Next sp of the same gfn: any role, direct ones left out. */
struct sp *sp_next(struct sp *sp);
#define for_each_table(mmu, it, gfn)                                                     \
    for (struct sp *it = sp_first(mmu, gfn); it; it = sp_next(it))
/* With it go the leaf tables out of sync below it. */
void sp_zap(struct pn_mmu_vcpu *vcpu, struct sp *sp, enum zap_reason why);
void sp_make_room(struct pn_mmu_vcpu *vcpu);
/* Pages at most. */
uint64_t sp_budget(const struct pn_mmu *mmu);
/* Is it the top of a root that some vCPU is using now? */
bool sp_in_use(const struct pn_mmu *mmu, const struct sp *sp);
void sp_touch(struct shadow *sh, struct sp *sp);
static inline bool sp_obsolete(const struct shadow *sh, const struct sp *sp) {
    return sp->gen != sh->gen;
}

/* ---- root.c ---- */

/* Return: the current root's top, made when missing; NULL: out of memory. */
struct sp *root_top(struct pn_mmu_vcpu *vcpu, struct root *r);
/* The frame of the table that CR3 names. Return: false: the second level has none. */
bool root_frame(struct pn_mmu_vcpu *vcpu, const struct root *r, pn_gfn *gfn);
/* Take the table that another root of this CR3 left. Return: there was one. */
bool root_adopt(struct pn_mmu_vcpu *vcpu, struct root *r);
uint32_t mode_role(const struct stage *m);
void shadow_root_drop(struct pn_mmu_vcpu *vcpu, struct root *r);

/* ---- slot.c ---- */

void shadow_slot_gone(struct pn_mmu_vcpu *vcpu, struct slot *s);
void shadow_slot_changed(struct pn_mmu_vcpu *vcpu, struct slot *s, bool placed);
void shadow_zap_all(struct pn_mmu_vcpu *vcpu);
/* mmu_ops.asid_gone. */
void shadow_asid_gone(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all);

/* ---- write.c ---- */

void shadow_written(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size, bool ad);
bool shadow_unprotect(struct pn_mmu_vcpu *vcpu, pn_gfn gfn);
bool shadow_shadowed(struct pn_mmu *mmu, pn_gfn gfn);

/* ---- unsync.c ---- */

/* May gfn be written unseen now? Takes tables there out of sync if that helps. */
bool unsync_try(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn);
bool shadow_syncs_others(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                         enum pn_access access);
/* It goes out of sync. */
void unsync_page(struct pn_mmu_vcpu *vcpu, struct slot *s, struct sp *sp);
/* Once the fault has been answered: no more are out of sync than may be. */
void unsync_limit(struct pn_mmu_vcpu *vcpu);
void shadow_root_sync(struct pn_mmu_vcpu *vcpu, struct root *r);
void shadow_inval_gva(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all);

/* ---- agile.c ---- */

/* The table, and all below it, are the guest's from now on. */
void agile_nest(struct pn_mmu_vcpu *vcpu, struct sp *sp);
/* The next TLB miss ends the interval: no table is the guest's then. */
static inline bool agile_ends(const struct pn_mmu *mmu) {
    uint32_t interval = mmu->shadow->policy.nests ? mmu->cfg.opt.agile_interval : 0;
    return interval && mmu->shadow->misses + 1 >= interval;
}
/* A store to it was seen. */
void agile_written(struct pn_mmu_vcpu *vcpu, struct sp *sp);
/* shadow_translate_slow, and the counters agile_*. */
enum pn_outcome agile_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                enum pn_access access, enum pn_tlb_mode mode,
                                struct pn_xlate *out);

/* ---- look.c ---- */

bool shadow_look(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct pn_xlate *out);
bool shadow_look_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                       enum pn_tlb_mode mode, struct pn_xlate *out);

/* ---- fault.c ---- */

enum pn_outcome shadow_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out);
/* The same where sps may be closed. */
enum pn_outcome shadow_translate_closed(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                        enum pn_access access, enum pn_tlb_mode mode,
                                        struct pn_xlate *out);
/* The same without its short way, which knows of no D bits that are logged. */
enum pn_outcome shadow_translate_slow(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                      enum pn_access access, enum pn_tlb_mode mode,
                                      struct pn_xlate *out);
bool shadow_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                      bool found, struct pn_walk_cost *c);

/* ---- predict.c, explain.c ---- */

int shadow_predict(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode, struct pn_verdict *v);
void shadow_explain(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                    struct pn_explanation *x);
bool shadow_mappings(struct pn_mmu_vcpu *vcpu,
                     bool (*fn)(void *opaque, const struct pn_mapping *m), void *opaque);
void shadow_tables(struct pn_mmu *mmu, bool (*fn)(void *opaque, const struct pn_table *t),
                   void *opaque);

/* ---- audit.c ---- */

void shadow_audit(struct audit *a);
void shadow_audit_large(struct audit *a, const struct slot *s, unsigned level,
                        uint32_t *want);
void shadow_audit_entry(struct audit *a, const struct root *r, enum pn_tlb_mode mode,
                        unsigned i, pn_gva gva);
