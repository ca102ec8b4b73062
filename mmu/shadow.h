/* SPDX-License-Identifier: MIT */
/*
 * What the shadow files share: shadow pages, roots, TLBs, and the calls between them.
 *
 * Lifetime: an sp lives from sp_get to sp_zap, and goes back to a free list at once;
 * nothing keeps a pointer to an sp across a call that may zap (sp_make_room does, before
 * a path is built; sp_get zaps none of the path: only what is obsolete or a leaf table
 * out of sync, of the frame that it is asked for).
 */
#ifndef MMU_SHADOW_H
#define MMU_SHADOW_H

#include "mmu/internal.h"
#include "mmu/spte.h"

/* A set of sptep: 0; one sptep; or a struct ptr_list with bit 0 set. Used for the rmap of
 * a page and for the parents of an sp. */
#define PTR_LIST_MAX 14
#define PTRS_MAX     1024 /* a set that is full is emptied, since removal searches it */
struct ptr_list {
    struct ptr_list *next; /* only the first may be partly filled */
    uint32_t count, total; /* here; in the whole chain, kept in the first */
    uint64_t *e[PTR_LIST_MAX];
};

struct list {
    struct list *next, *prev;
};

struct sp {
    uint64_t *spt;   /* 512 sptes */
    uint64_t *gptes; /* what each leaf or MMIO spte was made from, and in a leaf table all
                        gptes as last synced; NULL for direct sps */
    const struct walk_mode *format; /* how gptes are read */
    pn_gfn gfn;                     /* of the table; direct: the first frame mapped */
    uint32_t role;
    uint16_t used;  /* sptes that are not 0 */
    bool unsync;    /* level 1: the table may have changed unseen */
    bool read_only; /* the table is in a read-only memslot: A and D are never set */
    uint64_t parents;
    struct sp *hash_next;
    struct list lru;
    uint64_t roots; /* root_bit() of every root that TLB entries or jump caches may have
                       from here */
    uint64_t gen;   /* of zap-all-fast */
    uint32_t flood;
    uint16_t pinned;          /* roots whose top this is */
    uint16_t unsync_children; /* bits set below */
    uint64_t unsync_bits[8];  /* children that are, or have below them, unsync sps */
};

static inline void list_add(struct list *head, struct list *l) {
    l->next = head->next;
    l->prev = head;
    head->next->prev = l;
    head->next = l;
}
static inline void list_del(struct list *l) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
}
static inline struct sp *list_sp(struct list *l) {
    return (struct sp *)(void *)((char *)l - offsetof(struct sp, lru));
}

#define SP_CHUNK     (256u << 10)
#define SP_PER_CHUNK 60u
#define SP_CHUNK_HDR 4u /* pages of a chunk before the tables */
struct sp_chunk {
    struct sp_chunk *next;
    struct sp sp[SP_PER_CHUNK];
};
_Static_assert(sizeof(struct sp_chunk) <= SP_CHUNK_HDR * PN_PAGE_SIZE, "header fits");
_Static_assert((SP_CHUNK_HDR + SP_PER_CHUNK) * PN_PAGE_SIZE == SP_CHUNK, "tables fit");

static inline struct sp *sp_of(const uint64_t *sptep) {
    uintptr_t at = (uintptr_t)sptep & (SP_CHUNK - 1);
    struct sp_chunk *c = (struct sp_chunk *)((uintptr_t)sptep - at);
    return &c->sp[(at >> PN_PAGE_SHIFT) - SP_CHUNK_HDR];
}
static inline unsigned sp_level(const struct sp *sp) {
    return role_level(sp->role);
}
static inline bool sp_direct(const struct sp *sp) {
    return sp->role & ROLE_DIRECT;
}
static inline unsigned sp_index(const uint64_t *sptep) {
    return (uintptr_t)sptep >> 3 & 511;
}
/* First frame of the leaf or MMIO spte i. */
static inline pn_gfn sp_gfn(const struct sp *sp, unsigned i) {
    if (sp_direct(sp))
        return sp->gfn + i * level_pages(sp_level(sp));
    return gpte_leaf_gfn(sp->format, sp_level(sp), i, sp->gptes[i]);
}

/* What a root is cached by: nothing but what changes the meaning of its TLB. */
struct root_key {
    uint64_t cr3; /* the address bits */
    uint64_t pdpte[4];
    uint16_t pcid;
    uint16_t mode; /* levels and permission bits, root.c */
};

#define FETCHED_BITS 8192
#define TLB_FILLED   96 /* entries remembered per mode; more: refill from the template */

struct root {
    bool valid, stale; /* stale: sync before the next use */
    bool narrow;       /* 32-bit linear addresses */
    bool code; /* since its TLB was empty and its fetch_gen new, code was fetched */
    /* A jump cache may hold what was dropped, or what no spte stood for: as a TLB may
     * until the guest flushes. Then fetch_gen changes. */
    bool loose;
    struct root_key key;
    struct sp *top; /* NULL until something is mapped */
    uint64_t *spt;  /* top's */
    uint64_t fetch_gen, stamp;
    /* TDP: what the TLB or a jump cache may have from here, by hash (tdp_tlb.c). */
    bool fetched_any;
    uint64_t fetched[FETCHED_BITS / 64]; /* pages fetched from */
    uint64_t large[2];                   /* 4 MiB, 1 GiB regions with large pages */
    uint64_t bit;                        /* root_bit */
    uint32_t pkru, pkrs;                 /* as the TLB was filled with */
    uint16_t pkeys_user, pkeys_super;    /* keys in the TLB */
    struct pn_tlb_entry *tlb[PN_TLB_MODES];
    uint32_t filled[PN_TLB_MODES];
    uint16_t index[PN_TLB_MODES][TLB_FILLED];
};

#define ROOTS_MAX 16
struct vcpu_shadow {
    unsigned number; /* for root_bit */
    unsigned roots;  /* in use: cached_roots + 1 */
    struct root *cur;
    uint64_t clock; /* LRU of roots */
    struct root root[ROOTS_MAX];
};

#define HASH_BITS 14
#define FORMATS   6

struct shadow {
    struct sp **hash;  /* by gfn */
    struct list lru;   /* newest first; all but ROOT sps */
    uint32_t pages;    /* on lru */
    uint32_t obsolete; /* of them, of an older generation */
    uint64_t gen;
    uint64_t leaves;                  /* present leaf sptes */
    struct walk_mode format[FORMATS]; /* how gptes are read, by role */
    uint32_t format_role[FORMATS];
};

static inline struct pn_stats *sh_stats(struct pn_mmu *mmu) {
    return mmu->cur ? mmu->cur->stats : &mmu->none;
}
/* Gauges are the VM's: they stand with the first vCPU. */
static inline struct pn_stats *sh_gauges(struct pn_mmu *mmu) {
    return mmu->vcpu_count ? mmu->vcpus[0]->stats : &mmu->none;
}
static inline struct pn_ring *sh_ring(struct pn_mmu *mmu) {
    return mmu->cur ? mmu->cur->ring : NULL;
}
/* A walk read one entry of each level from `top` down to `level`. */
static inline void count_refs(struct pn_stats *st, unsigned top, unsigned level) {
    st->v[PN_STAT_walk_refs] += top - level + 1;
    for (; level <= top; level++)
        st->v[PN_STAT_walk_refs_l1 + level - 1]++;
}
#define sh_count(mmu, name) pn_count(sh_stats(mmu), name)

/* ---- slab.c: memory ---- */

/* Keep `lists` ptr_lists free. Return: 0 or -ENOMEM. */
int slab_reserve_lists(struct pn_mmu *mmu, uint32_t lists);
struct ptr_list *slab_list(struct slab *sl); /* reserved before: never fails */
void slab_list_free(struct slab *sl, struct ptr_list *l);
uint64_t *slab_gptes(struct pn_mmu *mmu); /* 512, not cleared; NULL: out of memory */
void slab_gptes_free(struct slab *sl, uint64_t *g);
struct sp *slab_sp(struct pn_mmu *mmu); /* zeroed, spt too; NULL: out of memory */
void slab_sp_free(struct slab *sl, struct sp *sp);
void slab_destroy(struct slab *sl);

/* ---- rmap.c ---- */

void ptrs_add(struct slab *sl, uint64_t *head, uint64_t *sptep);
bool ptrs_remove(struct slab *sl, uint64_t *head, uint64_t *sptep);
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

void rmap_add(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, uint64_t *sptep);
void rmap_remove(struct pn_mmu *mmu, pn_gfn gfn, uint64_t *sptep);
/* Clear MMU_W in every 4 KiB spte of gfn. */
void rmap_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
/* The same for the large sptes of this level that begin at gfn: the next store through
 * one replaces it. */
void rmap_protect_large(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level);
/* Drop every spte that maps gfn from this page's own list. */
void rmap_zap_page(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);

/* ---- sp.c ---- */

int sp_init(struct pn_mmu *mmu);
void shadow_slot_gone(struct pn_mmu *mmu, struct slot *s);
void shadow_slot_changed(struct pn_mmu *mmu, struct slot *s, bool placed);
void shadow_zap_all(struct pn_mmu *mmu);
struct sp *sp_find(struct pn_mmu *mmu, pn_gfn gfn, uint32_t role);
/* Find or make. The caller has reserved room and lists. Return: NULL out of memory. */
struct sp *sp_get(struct pn_mmu *mmu, pn_gfn gfn, uint32_t role);
struct sp *sp_new_root(struct pn_mmu *mmu);
struct sp *sp_first(struct pn_mmu *mmu, pn_gfn gfn);
/* Next sp of the same gfn: any role, direct ones left out. */
struct sp *sp_next(struct sp *sp);
#define for_each_table(mmu, it, gfn)                                                     \
    for (struct sp *it = sp_first(mmu, gfn); it; it = sp_next(it))
enum zap_reason { ZAP_FLOOD, ZAP_RECLAIM, ZAP_OBSOLETE, ZAP_SLOT, ZAP_REUSED, ZAP_ROOT };
/* With it go the leaf tables out of sync below it. */
void sp_zap(struct pn_mmu *mmu, struct sp *sp, enum zap_reason why);
void sp_make_room(struct pn_mmu *mmu);
void sp_touch(struct shadow *sh, struct sp *sp);
static inline bool sp_obsolete(const struct shadow *sh, const struct sp *sp) {
    return sp->gen != sh->gen;
}

/* ---- spte.c ---- */

/* Install, for the gpte v (of no account in direct sps). What was there is dropped when
 * it led elsewhere. */
void spte_set_leaf(struct pn_mmu *mmu, struct slot *s, uint64_t *sptep, pn_gfn gfn,
                   uint64_t v, uint64_t bits);
void spte_set_mmio(struct pn_mmu *mmu, uint64_t *sptep, pn_gfn gfn, uint64_t v,
                   uint64_t grant);
void spte_link(struct pn_mmu *mmu, uint64_t *sptep, struct sp *child, uint64_t grant);
/* Back to 0, whatever it is; its TLB entries go. */
void spte_drop(struct pn_mmu *mmu, uint64_t *sptep);
/* Grant exactly `grant` (SPTE_GRANT | SPTE_PKEY) from now on. */
void spte_regrant(struct pn_mmu *mmu, uint64_t *sptep, uint64_t grant);
/* Make the spte agree with its gpte in guest memory, or drop it. Never makes one. */
void spte_sync(struct pn_mmu *mmu, struct sp *sp, unsigned i, const uint8_t *table);

/* The gpte of spte i; in a read-only slot A and D count as set. */
uint64_t sp_gpte(const struct sp *sp, unsigned i, const uint8_t *table);

/* ---- track.c ---- */

#define TRACK_USER 0x8000u /* in slot->track: pn_mmu_track_add */
void track_inc(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
void track_dec(struct slot *s, pn_gfn gfn);
void large_forbid(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
void large_allow(struct slot *s, pn_gfn gfn);
static inline unsigned track_count(const struct slot *s, pn_gfn gfn) {
    return s->track[gfn - s->gfn];
}
void track_destroy(struct track_set *users);
void track_slot_gone(struct pn_mmu *mmu, struct slot *s);
void track_slot_added(struct pn_mmu *mmu, struct slot *s);
void shadow_written(struct pn_mmu *mmu, pn_gpa gpa, size_t size, bool ad);
/* Return: pn_mmu_track_add users of gfn. */
uint32_t track_users(const struct pn_mmu *mmu, pn_gfn gfn);

/* ---- unsync.c ---- */

/* May gfn be written unseen now? Takes leaf tables there out of sync if that helps. */
bool unsync_try(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
/* The child of sptep is, or has below it, an unsync sp: set the bits up to the roots. */
void unsync_mark(uint64_t *sptep);
void unsync_clear_bit(struct sp *parent, unsigned i);
/* Bring an unsync sp up to date; it remains unsync, since its frame remains writable. */
void sync_sptes(struct pn_mmu *mmu, struct sp *sp);
void sync_page(struct pn_mmu *mmu, struct sp *sp);
void sync_children(struct pn_mmu *mmu, struct sp *sp);
void shadow_root_sync(struct pn_mmu_vcpu *vcpu, struct root *r);
void shadow_inval_gva(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all);

/* ---- root.c ---- */

void shadow_root_drop(struct pn_mmu *mmu, struct root *r);
/* Nothing tells us when a translation without a TLB entry changes: call it at every
 * flush. */
void root_tighten(struct pn_mmu_vcpu *vcpu, struct root *r);
void root_new_fetch_gen(struct pn_mmu_vcpu *vcpu, struct root *r);
/* Return: the current root's top, made when missing; NULL: out of memory. */
struct sp *root_top(struct pn_mmu_vcpu *vcpu, struct root *r);
/* Take the table that another root of this CR3 left. Return: there was one. */
bool root_adopt(struct pn_mmu_vcpu *vcpu, struct root *r);
uint32_t mode_role(const struct walk_mode *m);
int root_init(struct pn_mmu_vcpu *vcpu);
void root_destroy(struct pn_mmu_vcpu *vcpu);
void root_load(struct pn_mmu_vcpu *vcpu);
/* The guest flushed: every root of this PCID, or all. */
void root_make_stale(struct pn_mmu_vcpu *vcpu, bool all, uint16_t pcid);
/* The memslots changed: what was translated without an spte may be otherwise. */
void roots_slots_changed(struct pn_mmu *mmu);

/* ---- tlb.c ---- */

struct swalk {
    uint64_t *sptep;
    uint64_t spte;  /* last one read: leaf, MMIO or not present */
    uint64_t grant; /* of the whole way: SPTE_GRANT, pkey */
    unsigned level;
};

/* What a TLB entry is made from. */
struct tlb_grant {
    unsigned acc; /* ACC_* of the translation */
    uint8_t pkey;
    bool store, code; /* a write or fetch tag may stand, if the rights allow it */
    uintptr_t hva;    /* of the page */
};
#define TLB_GOT_W 1u
#define TLB_GOT_X 2u
/* Return: TLB_GOT_*, the tags that the entry has. */
unsigned tlb_put(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva,
                 enum pn_tlb_mode mode, const struct tlb_grant *g);
static inline unsigned tlb_index(pn_gva gva) {
    return gva >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1);
}
static inline void tlb_entry_clear(struct pn_tlb_entry *e, unsigned index) {
    e->tag[PN_READ] = e->tag[PN_WRITE] = e->tag[PN_FETCH] = PN_TLB_NONE(index);
    e->hva = 0;
}
/* Drop entry i if its page is one of [hva, hva+bytes); write: only its write tag. */
static inline void tlb_drop_if(struct pn_tlb_entry *tlb, unsigned i, uintptr_t hva,
                               uint64_t bytes, bool write) {
    struct pn_tlb_entry *e = &tlb[i];
    if (e->hva - hva >= bytes)
        return;
    if (write)
        e->tag[PN_WRITE] = PN_TLB_NONE(i);
    else
        tlb_entry_clear(e, i);
}
int tlb_template(struct pn_mmu *mmu);
void tlb_flush(struct pn_mmu_vcpu *vcpu, struct root *r);
void tlb_fill(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva, enum pn_access access,
              enum pn_tlb_mode mode, const struct swalk *w);
void tlb_drop_gva(struct root *r, pn_gva gva);
/* An spte that is a leaf is about to go or to lose rights. write: only its write tags. */
void tlb_drop_leaf(struct pn_mmu *mmu, struct sp *sp, unsigned i, uint64_t spte,
                   bool write);
/* The same for what the roots above reach through this table spte. */
void tlb_drop_table(struct pn_mmu *mmu, const uint64_t *sptep);
void tlb_drop_everything(struct pn_mmu *mmu);
/* The roots of this top lose all. */
void tlb_drop_top(struct pn_mmu *mmu, const struct sp *top);

/* Walk the shadow tables. Return: entries read. */
static inline unsigned shadow_walk(const struct root *r, pn_gva gva, struct swalk *w) {
    uint64_t *t = r->spt, grant = SPTE_GRANT, pkey = 0, v;
    unsigned level = sp_level(r->top), refs = 0;
    for (;; level--) {
        w->sptep = &t[level_index(gva, level)];
        v = *w->sptep;
        refs++;
        grant &= v;
        pkey |= v & SPTE_PKEY;
        if (!spte_table(v))
            break;
        t = spte_child(v);
    }
    w->spte = v;
    w->grant = grant | pkey;
    w->level = level;
    return refs;
}

/* ---- fault.c ---- */

/* Fill the absent spte i of a leaf sp if its gpte can be used as it is; table: of the
 * gptes, NULL for a direct sp. The caller has reserved a list. */
void prefetch_spte(struct pn_mmu *mmu, struct sp *sp, unsigned i, const uint8_t *table);
enum pn_outcome shadow_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out);
bool shadow_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                      bool found, struct pn_walk_cost *c);

#endif
