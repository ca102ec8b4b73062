/* SPDX-License-Identifier: MIT */
/*
 * What all files of mmu/ share, and the table of what the shadow MMU and the
 * two-dimensional one do each in its own way.
 */
#ifndef MMU_INTERNAL_H
#define MMU_INTERNAL_H

#include "mmu/walk.h"
#include "penumbra/mmu.h"

struct root;
struct audit;

/* A memslot with what hangs on it. rmap, track counts and shadow-page counts are per
 * page. */
struct slot {
    struct pn_memslot pub; /* first: pn_mmu_slot_find hands it out */
    pn_gfn gfn;            /* pub.gpa >> 12 */
    uint64_t npages;
    uint64_t *rmap;  /* per page. Shadow: 0, an sptep, or a tagged pointer to a list.
                        TDP: where TLB entries for the page may be (tdp_tlb.c) */
    uint16_t *track; /* per page: write-tracking users (shadowed as a table of level >= 2
                        or as a synced leaf table, or pn_mmu_track_add) */
    /* Per 2 MiB [0] and 1 GiB [1] frame that the slot touches, slot_large(): how many
     * reasons forbid a large mapping. memslot.c counts one where the frame is not wholly
     * in the slot or gpa and hva differ modulo its size; tracking adds its own. */
    uint32_t *disallow_large[2];
    /* Of them, for pn_mmu_track_add; and a bit per page that it write-protected and that
     * no store has reached since: for the TLB model, which leaves that out. */
    uint32_t *user_large[2];
    uint64_t *code_page;
    uint64_t *dirty; /* bitmap, with PN_SLOT_LOG_DIRTY */
};

/* memslot.c: sorted array, binary search, last-hit cache. */
struct slots {
    struct slot **by_gfn; /* sorted, non-overlapping */
    struct slot **by_id;  /* ids pointers, grown on demand */
    uint32_t ids;
    uint32_t count, capacity;
    struct slot *last;
    uint64_t pages;      /* of all of them */
    uint64_t generation; /* of MMIO sptes */
};
void slots_free(struct slots *s);
/* Binary search, and remember the hit. Return: the slot or NULL. */
struct slot *slots_search(struct slots *s, pn_gfn gfn);
static inline struct slot *slot_of_id(struct slots *s, uint32_t id) {
    return id < s->ids ? s->by_id[id] : NULL;
}
/* Order, overlap, index and bitmap checks. Return: violations, a line each to out. */
int slots_audit(struct slots *s, FILE *out);
static inline uint32_t *slot_large(struct slot *s, pn_gfn gfn, unsigned level) {
    unsigned shift = 9 * (level - 1); /* level 2 or 3 */
    return &s->disallow_large[level - 2][(gfn >> shift) - (s->gfn >> shift)];
}
static inline uint32_t *slot_user_large(struct slot *s, pn_gfn gfn, unsigned level) {
    unsigned shift = 9 * (level - 1);
    return &s->user_large[level - 2][(gfn >> shift) - (s->gfn >> shift)];
}
static inline bool slot_code_page(const struct slot *s, pn_gfn gfn) {
    return s->code_page[(gfn - s->gfn) / 64] >> ((gfn - s->gfn) % 64) & 1;
}
static inline uint8_t *slot_hva(const struct slot *s, pn_gfn gfn) {
    return (uint8_t *)s->pub.hva + ((gfn - s->gfn) << PN_PAGE_SHIFT);
}

/* dirty.c: a page is about to be, or has been, written. */
void dirty_mark(struct slot *s, pn_gfn gfn);

/*
 * What the two kinds of MMU do each in its own way; pn_mmu_create chooses the table.
 * Everything else is common: slots, the guest walk, roots, the TLB, write tracking, the
 * dirty log.
 */
struct mmu_ops {
    /* Of the kind's own state. init: 0 or -ENOMEM, then fini follows all the same. */
    int (*init)(struct pn_mmu *mmu);
    void (*fini)(struct pn_mmu *mmu);
    /* pn_mmu_translate, pn_mmu_walk_cost, pn_mmu_zap_all. */
    enum pn_outcome (*translate)(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out);
    /* Fill c->guest and c->table for a walk without side effects that w describes; found:
     * it reached a frame. Return: the kind's own walk does too. */
    bool (*walk_cost)(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                      bool found, struct pn_walk_cost *c);
    void (*zap_all)(struct pn_mmu *mmu);
    /* A root lost the table it stands on. */
    void (*root_drop)(struct pn_mmu *mmu, struct root *r);
    /* The guest flushed this root since its last use: make its TLB right. */
    void (*root_sync)(struct pn_mmu_vcpu *vcpu, struct root *r);
    /* INVLPG: gva in every root of this PCID, or of all. */
    void (*inval_gva)(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all);
    /* Before a slot is deleted or moved, still in place: zap every mapping of it and
     * every table in it. memslot.c frees the per-page arrays afterwards. */
    void (*slot_gone)(struct pn_mmu *mmu, struct slot *s);
    /* After a slot was added, moved or re-flagged and slots.generation advanced
     * (memslot.c does): cached MMIO is stale; with PN_SLOT_LOG_DIRTY newly set no store
     * may go unseen. placed: it was not at this address before. */
    void (*slot_changed)(struct pn_mmu *mmu, struct slot *s, bool placed);
    /* After guest memory [gpa, gpa+size) within one page was written by anyone but an
     * untracked store: update or zap sptes of the gptes there, flooding, on_track. ad:
     * the write only set A or D bits (neither floods nor zaps). */
    void (*written)(struct pn_mmu *mmu, pn_gpa gpa, size_t size, bool ad);
    /* Write tracking: no mapping or TLB entry of gfn takes stores; none of `level` that
     * begins at gfn does. */
    void (*write_protect)(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
    void (*protect_large)(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level);
    /* The dirty log: bring s->dirty up to date (NULL: it always is); let the next store
     * to gfn be seen. */
    void (*dirty_collect)(struct pn_mmu *mmu, struct slot *s);
    void (*dirty_rearm)(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
    /* Its part of the audit: tables and mappings; its reasons against large mappings,
     * added to want[frame] (NULL: none); a TLB entry that has a tag, for gva. */
    void (*audit)(struct audit *a);
    void (*audit_large)(struct audit *a, const struct slot *s, unsigned level,
                        uint32_t *want);
    void (*audit_entry)(struct audit *a, const struct root *r, const struct walk_mode *m,
                        enum pn_tlb_mode mode, unsigned i, pn_gva gva);
};
extern const struct mmu_ops shadow_ops, tdp_ops;

/* Memory for tables and lists (slab.c). */
struct slab {
    struct sp *free_sp; /* by hash_next */
    struct sp_chunk *chunks;
    void *free_gptes;
    struct ptr_list *free_lists;
    uint32_t free_list_count;
    void *slabs; /* of gptes and ptr_lists, by their first word */
};

/* At the end of each public call that changes something: with the option audit, stop the
 * process at the first broken invariant. */
void audit_step(struct pn_mmu *mmu);

/* Frames of pn_mmu_track_add: open addressing. */
struct track_set {
    struct track_user {
        pn_gfn gfn;
        uint32_t count; /* 0: free */
    } * e;
    uint32_t used, capacity;
};

/* Regions of 2 MiB that the TLB model keeps apart: 128 GiB of guest memory. */
#define MODEL_REGIONS 65536u

struct pn_mmu {
    struct pn_mmu_config cfg; /* cfg.tlb: NULL, or tlb_model */
    struct pn_tlb_model tlb_model;
    uint64_t *regions;         /* with a model: bit per region, mapped at least once */
    bool code_tracking;        /* write protection for translated code is at work */
    const struct mmu_ops *ops; /* of cfg.kind */
    struct slots slots;
    struct shadow *shadow; /* of the shadow MMU, or NULL */
    struct tdp *tdp;       /* of the two-dimensional one, or NULL */
    struct pn_mmu_vcpu **vcpus;
    unsigned vcpu_count, vcpus_made;
    struct pn_mmu_vcpu *cur; /* counters and events go here; NULL: no vcpu yet */
    struct pn_stats none;
    struct slab slab;
    struct track_set users;
    struct pn_tlb_entry *tlb_empty; /* the template */
    uint64_t fetch_gen;             /* the last one given out */
    uint64_t bytes;                 /* of tables, lists, TLBs */
};

/* Return: the slot that holds gfn, or NULL. The last hit answers at once. */
static inline struct slot *slot_of_gfn(struct pn_mmu *mmu, pn_gfn gfn) {
    struct slot *s = mmu->slots.last;
    if (s && gfn - s->gfn < s->npages)
        return s;
    return slots_search(&mmu->slots, gfn);
}

/* options.c. Return: 0, or -EINVAL when a value is out of its range. */
int mmu_options_check(const struct pn_mmu_options *opt);

struct pn_mmu_vcpu {
    struct pn_mmu *mmu;
    struct pn_tlb_view *view;
    struct pn_stats *stats;
    struct pn_ring *ring;
    struct pn_paging paging;
    struct walk_mode walk;  /* derived from paging */
    struct vcpu_shadow *sh; /* roots, TLBs: shadow.h */
    struct model *model;    /* NULL: no TLB model */
    unsigned fixes;         /* TDP: violations of the translation in progress */
};

#define CR4_PGE   0x80ull
#define CR4_PCIDE 0x20000ull
#define CR3_PCID  0xfffull

/* Are translations told apart by the PCID in CR3? */
static inline bool pcid_on(const struct pn_mmu_vcpu *vcpu) {
    return vcpu->paging.cr4 & CR4_PCIDE && vcpu->walk.levels >= 4;
}

#endif
