/* SPDX-License-Identifier: MIT */
/*
 * What all files of mmu/ share, and the two tables of calls by which core/ reaches up:
 * what the shadow MMU and the two-dimensional one do each in its own way (mmu_ops), and
 * who watches (mmu_observer). core/ calls nothing of shadow/, tdp/ and model/ by name.
 */
#pragma once

#include <string.h>

#include "mmu/core/walk.h"
#include "penumbra/mmu.h"
#include "penumbra/parts.h"
#include "penumbra/x86.h"

struct root;
struct audit;
struct pn_explanation;
struct pn_verdict;
struct pn_mapping;
struct pn_table;

/* For whom write tags are kept back; the bits of the index that such a tag has wrong. */
enum tlb_held { TLB_HELD_NOT = 0, TLB_HELD_CODE = 2, TLB_HELD_RECORD = 4 };

/* A memslot with what hangs on it. rmap, track counts and shadow-page counts are per
 * page. */
struct slot {
    struct pn_memslot pub; /* first: pn_mmu_slot_find hands it out */
    pn_gfn gfn;            /* pub.gpa >> 12 */
    uint64_t npages;
    union {                  /* per page: the one that the kind of MMU has */
        uint64_t *rmap;      /* shadow: 0, an sptep, or a tagged pointer to a list */
        uint64_t *tlb_hints; /* tdp: where TLB entries for the page may be (tdp/tlb.c) */
    };
    uint16_t *track; /* per page: shadow pages that need its stores seen (it is a table of
                        level >= 2, or a synced leaf table), and TRACK_USER ... */
    /* Per 2 MiB [0] and 1 GiB [1] frame that the slot touches, slot_large(): how many
     * reasons forbid a large mapping. memslot.c counts one where the frame is not wholly
     * in the slot or gpa and hva differ modulo its size; shadowed tables add theirs. */
    uint32_t *disallow_large[2];
    /* Bitmap, with PN_SLOT_LOG_DIRTY; behind it what slot_pieces() gives. */
    uint64_t *dirty;
    uint64_t
        *reset; /* of pages in it, those that are protected again (ring.c); or NULL */
    uint64_t leaves; /* of our tables that map its pages */
    uint8_t *stores; /* per page, with a recorder: those that no table gets (record.c) */
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
static inline size_t slot_words(const struct slot *s) {
    return (s->npages + 63) / 64;
}
/* Of a slot with a log: for each page the pieces that were stored to since the last harvest; and
 * behind those, as of the last harvest that had the page (pieces.c). */
static inline uint32_t *slot_pieces(const struct slot *s) {
    return (uint32_t *)(void *)(s->dirty + slot_words(s));
}
static inline uint8_t *slot_hva(const struct slot *s, pn_gfn gfn) {
    return (uint8_t *)s->pub.hva + ((gfn - s->gfn) << PN_PAGE_SHIFT);
}

/* dirty.c: what the tracker has goes into the slots' bitmaps. */
void dirty_collect_all(struct pn_mmu *mmu);
/* dirty.c: a page is about to be, or has been, written. */
void dirty_mark(struct slot *s, pn_gfn gfn);
/* dirty.c: the same of bytes in one page, which are about to be written or have been. */
void dirty_mark_bytes(const struct pn_mmu *mmu, struct slot *s, pn_gpa gpa, size_t size);
/* dirty.c: a walk or the hypervisor sets D in a leaf of that page, of trackers by D bits: it goes
 * into the vCPU's buffer or, without one, into the log. */
void dirty_set_d(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, unsigned level);
/* dirty.c: an access to gpa is about to be made that no TLB answered; of a tracker of accesses. */
void dirty_accessed(struct pn_mmu_vcpu *vcpu, pn_gva gva, pn_gpa gpa,
                    enum pn_access access, enum pn_tlb_mode mode);
/* dirty.c: words [first, end) of the log go to the bitmap. Return: pages. */
long dirty_take(struct slot *s, uint64_t *bitmap, size_t first, size_t end);
#define DIRTY_LINE 8 /* words of a bitmap that are 2 MiB of pages */
/* The same of lines [first, end); some (NULL: nobody asks): for each, a bit for each word that has
 * pages. */
long dirty_take_lines(struct slot *s, uint64_t *bitmap, size_t first, size_t end,
                      uint8_t *some);
/* To look for the write tags of so many pages, one by one, costs more than to drop all that TLBs
 * have. */
#define DIRTY_MANY 512 /* pn_mmu.many */
/* Of a slot with a log: is the page in it? */
static inline bool dirty_test(const struct slot *s, pn_gfn gfn) {
    uint64_t page = gfn - s->gfn;
    return s->dirty[page / 64] >> (page % 64) & 1;
}
/* The 2 MiB frame of gfn, as much of it as is in the slot: [*first, return). */
static inline pn_gfn dirty_frame(const struct slot *s, pn_gfn gfn, pn_gfn *first) {
    pn_gfn from = gfn & ~(pn_gfn)511, end = from + 512;
    *first = from < s->gfn ? s->gfn : from;
    return end > s->gfn + s->npages ? s->gfn + s->npages : end;
}
/* By write protection: does no store to it have to be seen, as it is? */
static inline bool dirty_known(const struct slot *s, pn_gfn gfn) {
    uint64_t page = gfn - s->gfn;
    return dirty_test(s, gfn) && !(s->reset && s->reset[page / 64] >> (page % 64) & 1);
}
/* The same of all of its 2 MiB. */
static inline bool dirty_frame_known(const struct slot *s, pn_gfn gfn) {
    pn_gfn at, end = dirty_frame(s, gfn, &at);
    while (at < end && dirty_known(s, at))
        at++;
    return at == end;
}
/* tracker.c: all of its 2 MiB goes into the log. */
void dirty_mark_frame(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn);

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
    /* pn_mmu_look, where nobody watches and nothing is tracked by pieces. NULL: none is answered. */
    bool (*look)(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct pn_xlate *out);
    /* pn_mmu_look_fault, where nobody watches, nor takes events. NULL: none is answered. */
    bool (*look_fault)(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                       enum pn_tlb_mode mode, struct pn_xlate *out);
    /* Fill c->guest and c->table for a walk without side effects that w describes; found:
     * it reached a frame. Return: the kind's own walk does too. */
    bool (*walk_cost)(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                      bool found, struct pn_walk_cost *c);
    void (*zap_all)(struct pn_mmu_vcpu *vcpu);
    /* mmu->tracker is another one, and there is no mapping. NULL: nothing is to be done. */
    void (*tracker_changed)(struct pn_mmu *mmu);
    /* penumbra/explain.h, without side effects. predict: outcome, exact and gpa of what
     * translate would come to. Return: 0 or -ENOMEM. explain: what our tables hold for
     * gva, whose guest walk w describes. mappings, tables: as pn_mmu_our_mappings and
     * pn_mmu_tables. */
    int (*predict)(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode, struct pn_verdict *v);
    void (*explain)(struct pn_mmu_vcpu *vcpu, pn_gva gva, const struct walk *w,
                    struct pn_explanation *x);
    bool (*mappings)(struct pn_mmu_vcpu *vcpu,
                     bool (*fn)(void *opaque, const struct pn_mapping *m), void *opaque);
    void (*tables)(struct pn_mmu *mmu, bool (*fn)(void *opaque, const struct pn_table *t),
                   void *opaque);
    /* What a guest's tables stand on; NULL: the memslots. */
    const struct stage *below;
    /* What a guest's guest's tables stand on, where second levels in guest memory are merged with
     * ours: then those stand on the memslots. NULL: on such a second level, over `below`. */
    const struct stage *merged;
    /* The guest's flushes (MOV CR3, INVPCID) exit: the hypervisor does them for it. */
    bool flush_exits;
    /* May this access sync tables that its own walk does not read? NULL: none does, but
     * under a root without a table. */
    bool (*syncs_others)(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                         enum pn_access access);
    /* A root lost the table it stands on. */
    void (*root_drop)(struct pn_mmu_vcpu *vcpu, struct root *r);
    /* The guest flushed this root since its last use: make its TLB right. */
    void (*root_sync)(struct pn_mmu_vcpu *vcpu, struct root *r);
    /* INVLPG: gva in every root of this PCID, or of all. */
    void (*inval_gva)(struct pn_mmu_vcpu *vcpu, uint16_t pcid, pn_gva gva, bool all);
    /* What was made of second levels in guest memory with that asid, or any, goes. NULL:
     * nothing is. */
    void (*asid_gone)(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all);
    /* Before a slot is deleted or moved, still in place: zap every mapping of it and
     * every table in it. memslot.c frees the per-page arrays afterwards. */
    void (*slot_gone)(struct pn_mmu_vcpu *vcpu, struct slot *s);
    /* After a slot was added, moved or re-flagged and slots.generation advanced
     * (memslot.c does): cached MMIO is stale; with PN_SLOT_LOG_DIRTY newly set no store
     * may go unseen. placed: it was not at this address before. */
    void (*slot_changed)(struct pn_mmu_vcpu *vcpu, struct slot *s, bool placed);
    /* After guest memory [gpa, gpa+size) within one page was written by anyone but an
     * untracked store: update or zap sptes of the gptes there, flooding, on_track. ad:
     * the write only set A or D bits (neither floods nor zaps). */
    void (*written)(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, size_t size, bool ad);
    /* pn_mmu_unprotect; NULL: no store is seen for the sake of tables. */
    bool (*unprotect)(struct pn_mmu_vcpu *vcpu, pn_gfn gfn);
    /* No small mapping and no TLB entry of gfn takes stores. */
    void (*write_protect)(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn);
    /* The TLB entries of gfn keep their write tags back (tlb_hold); mappings stay. */
    void (*hold_writes)(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn,
                        enum tlb_held how);
    /* Is the page shadowed? NULL: this kind shadows none. */
    bool (*shadowed)(struct pn_mmu *mmu, pn_gfn gfn);
    /* Pages [first, end), of one frame of 2 MiB, are in the log: their small leaves take stores. */
    void (*grant)(struct pn_mmu *mmu, struct slot *s, pn_gfn first, pn_gfn end);
    /* A harvest, after collect: the slot's log goes to the bitmap, and no store to its
     * pages goes unseen: no leaf of theirs takes stores, or, by D bits, has D. Return: pages. */
    long (*take)(struct pn_mmu *mmu, struct slot *s, uint64_t *bitmap, size_t words);
    /* After a harvest that took pages: what else is to be seen again. NULL: nothing. */
    void (*harvested)(struct pn_mmu *mmu);
    /* Its part of the audit: tables and mappings; its reasons against large mappings,
     * added to want[frame] (NULL: none); a TLB entry that has a tag, for gva. */
    void (*audit)(struct audit *a);
    void (*audit_large)(struct audit *a, const struct slot *s, unsigned level,
                        uint32_t *want);
    void (*audit_entry)(struct audit *a, const struct root *r, enum pn_tlb_mode mode,
                        unsigned i, pn_gva gva);
};

/* tracker.c: how the pages of a logged slot that were written are found. */
struct tracker_ops {
    bool by_dbit;  /* stores are not seen; the leaves' D bits tell of them */
    bool rings;    /* of the pages that became writable, a ring for each vCPU */
    bool pieces;   /* of the pages, which parts are stored to (pieces.c) */
    bool accesses; /* loads and fetches count, too, and no store is seen (dirty.c) */
    bool frames;   /* a store that is seen puts all of its 2 MiB into the log */
    const struct dirty_layout *layout; /* D that is set goes into a buffer; NULL: none */
    /* May a small leaf of gfn take stores now? */
    bool (*may_write)(const struct slot *s, pn_gfn gfn);
    /* A store to gfn is about to be made, and is seen. Return: the log waited for it. */
    bool (*stored)(struct pn_mmu_vcpu *vcpu, struct slot *s, pn_gfn gfn);
    /* Before a harvest: bring s->dirty up to date. */
    void (*collect)(struct pn_mmu_vcpu *vcpu, struct slot *s);
};
/* Does a leaf of a page that is not in the log take no stores? */
static inline bool tracker_protects(const struct tracker_ops *t) {
    return !t->by_dbit && !t->accesses;
}
/* Return: NULL: an MMU has it not. */
const struct tracker_ops *tracker_of(enum pn_dirty_tracker tracker);
/* dirty.c: that is the tracker now, and each vCPU has what it needs. Return: 0 or -ENOMEM. */
int dirty_equip(struct pn_mmu *mmu, const struct tracker_ops *tracker);

/* buffer.c: of a tracker with a layout. Return: 0 or -ENOMEM. */
extern const struct dirty_layout dirty_pml, dirty_hdbss;
int dirty_buffer_create(struct pn_mmu_vcpu *vcpu);
void dirty_buffer_destroy(struct pn_mmu_vcpu *vcpu);
/* The walk of a store is about to set D in the leaf of that page. */
void dirty_buffer_log(struct pn_mmu_vcpu *vcpu, pn_gfn gfn, unsigned level);
void dirty_buffers_empty(struct pn_mmu *mmu);

/* pieces.c. A harvest took these pages: what was stored to in them. */
void dirty_pieces_take(struct pn_mmu *mmu, struct slot *s, const uint64_t *bitmap,
                       size_t words);
/* ring.c: of a tracker with rings. Return: 0 or -ENOMEM. */
int dirty_ring_create(struct pn_mmu_vcpu *vcpu);
void dirty_ring_destroy(struct pn_mmu_vcpu *vcpu);
/* gfn is about to be written by this vCPU, and is in the log. */
void dirty_ring_push(struct pn_mmu_vcpu *vcpu, const struct slot *s, pn_gfn gfn);
void dirty_rings_empty(struct pn_mmu *mmu);

/*
 * Who watches the MMU and changes nothing in it: the TLB model. pn_mmu.observer is NULL
 * without one, and then none of these calls is made.
 */
struct mmu_observer {
    /* Of a vCPU's own state. init: 0 or -ENOMEM, then fini follows all the same. */
    int (*init)(struct pn_mmu_vcpu *vcpu);
    void (*fini)(struct pn_mmu_vcpu *vcpu);
    /* In the place of ops->translate, which it calls. */
    enum pn_outcome (*translate)(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out);
    /* Would translate answer from the current root's TLB? *gpa: where the access goes. */
    bool (*answers)(const struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                    enum pn_tlb_mode mode, pn_gpa *gpa);
    /* In which of its caches gva is, whose guest walk w describes: x->model. */
    void (*where)(const struct pn_mmu_vcpu *vcpu, const struct walk *w,
                  struct pn_explanation *x);
    /* Return: what the CPU reads in the place of the current root's TLB. */
    struct pn_tlb_entry *(*tlb)(const struct pn_mmu_vcpu *vcpu, enum pn_tlb_mode mode);
    /* An entry of the current root's TLB is about to change; all of that TLB goes. */
    void (*entry_changes)(struct pn_mmu_vcpu *vcpu, unsigned index,
                          enum pn_tlb_mode mode);
    void (*tlb_flushed)(
        struct pn_mmu_vcpu *vcpu); /* the current root's; it will be empty */
    void (*tlb_changed)(
        struct pn_mmu_vcpu *vcpu); /* it is another one, or has lost something */
    /* The access in progress met a fault, or a cached MMIO mark, that is an exit. */
    void (*fault_taken)(struct pn_mmu_vcpu *vcpu);
    /* Tables lost a mapping or a right. */
    void (*dropped)(struct pn_mmu *mmu);
    /* What the guest did, after the MMU has done its part. hit: the root was cached. */
    void (*set_cr3)(struct pn_mmu_vcpu *vcpu, bool noflush, bool hit);
    void (*set_paging)(struct pn_mmu_vcpu *vcpu);
    void (*invlpg)(struct pn_mmu_vcpu *vcpu, pn_gva gva);
    void (*invpcid)(struct pn_mmu_vcpu *vcpu, unsigned type, uint16_t pcid, pn_gva gva);
    void (*audit)(struct audit *a, const struct pn_mmu_vcpu *vcpu);
};

/* Call the observer, if there is one. */
#define observe(mmu, call, ...)                                                          \
    do {                                                                                 \
        if (__builtin_expect((mmu)->observer != NULL, 0))                                \
            (mmu)->observer->call(__VA_ARGS__);                                          \
    } while (0)

/* Tell the recorder, if there is one: PN_OP_name without PN_OP_, vCPU, and other members of
 * struct pn_op. */
#define record(mmu, op_name, by, ...)                                                    \
    do {                                                                                 \
        const struct pn_recorder *recorder_ = (mmu)->cfg.recorder;                       \
        if (__builtin_expect(recorder_ != NULL, 0))                                      \
            recorder_->op(recorder_->opaque,                                             \
                          &(const struct pn_op){.kind = PN_OP_##op_name,                 \
                                                .vcpu = (uint16_t)(by),                  \
                                                __VA_ARGS__});                           \
    } while (0)

/* Memory for tables and lists (slab.c). */
struct slab {
    struct sp *free_sp; /* by hash_next */
    struct sp_chunk *chunks;
    void *free_gptes;
    struct ptr_list *free_lists;
    uint32_t free_list_count;
    void *slabs; /* of gptes and ptr_lists, by their first word */
};

/* Frames of pn_mmu_track_add: open addressing. */
struct track_set {
    struct track_user {
        pn_gfn gfn;
        uint32_t count; /* 0: free */
    } * e;
    uint32_t used, capacity;
};

struct pn_mmu_vcpu {
    struct pn_mmu *mmu;
    unsigned number; /* by order of creation */
    uint8_t node;    /* of mmu->nodes; 0 without */
    struct pn_tlb_view *view;
    struct pn_stats *stats;
    struct pn_ring *ring;
    struct pn_paging paging;
    struct stage walk; /* derived from paging */
    struct pn_world world;
    struct stage second; /* of the world, if it has one; what walk stands on then */
    pn_gfn apic;         /* the world's APIC-access page, and one; 0: none */
    uint64_t
        space; /* what tables made in this world are told apart by; 0: the guest's own */
    struct vcpu_roots *roots;   /* and their TLBs: root.h */
    struct model *model;        /* the observer's; NULL: no TLB model */
    struct dirty_buffer *dirty; /* buffer.c; NULL: the tracker has none */
    struct dirty_ring *pages;   /* ring.c; NULL: the tracker has none */
    uint64_t flushed;           /* mmu->exits when tlb_flush was last counted */
};

struct pn_mmu {
    struct pn_mmu_config cfg;          /* cfg.tlb: NULL, or the observer's copy */
    const struct mmu_ops *ops;         /* of cfg.kind */
    const struct tracker_ops *tracker; /* of cfg.tracker */
    const struct mmu_observer *observer;
    bool watched; /* somebody looks at loads and fetches (mmu_watch) */
    uint32_t
        many; /* pages of a harvest, from which on leaves are not looked for one by one */
    bool no_writes;   /* in a harvest: no TLB has a write tag of the slot */
    bool unprotected; /* recorded: the next access is the last one again */
    pn_gfn *quiet;    /* pages with TRACK_QUIET, or once with it */
    uint32_t quiet_count, quiet_max;
    struct pn_tlb_model *tlb_model; /* the observer's copy */
    struct pn_nodes *nodes;         /* the same; NULL: one node, or no model */
    struct slots slots;
    struct shadow *shadow; /* of the shadow MMU, or NULL */
    struct tdp *tdp;       /* of the two-dimensional one, or NULL */
    struct pn_mmu_vcpu **vcpus;
    unsigned vcpu_count, vcpus_made;
    struct pn_mmu_vcpu nobody; /* counts while there is no vCPU; has no ring, no roots */
    struct pn_stats none;      /* nobody's */
    struct slab slab;
    struct track_set users;
    uint64_t fetch_gen;               /* the last one given out */
    uint64_t bytes;                   /* of tables, lists, TLBs */
    uint64_t exits;                   /* ways into the guest so far (exit_begins) */
    bool by_host;                     /* the last of them ends a call of the host's */
    void (*step)(struct pn_mmu *mmu); /* the option audit: checks all, or NULL */
};

/* Who acts when no vCPU does (a device, a loader, a change of memslots): counters and
 * events of such calls stand with the first vCPU. */
static inline struct pn_mmu_vcpu *mmu_actor(struct pn_mmu *mmu) {
    return mmu->vcpu_count ? mmu->vcpus[0] : &mmu->nobody;
}
/* Gauges are the VM's: they stand with the first vCPU, too. */
static inline struct pn_stats *mmu_gauges(struct pn_mmu *mmu) {
    return mmu_actor(mmu)->stats;
}
/* +-mappings of a level, 1 to 3. */
static inline void mmu_gauge_pages(struct pn_mmu *mmu, unsigned level, int64_t by) {
    enum pn_stat id = level == 1   ? PN_STAT_pages_4k
                      : level == 2 ? PN_STAT_pages_2m
                                   : PN_STAT_pages_1g;
    mmu_gauges(mmu)->v[id] += (uint64_t)by;
}
/* ---- tlb.c: what a hypervisor asks of the processor's TLB ---- */

/*
 * A hypervisor notes what it owes to a vCPU's TLB, and flushes once before the guest goes
 * on: all that is asked for on one way into the guest is one flush (KVM: KVM_REQ_TLB_FLUSH
 * and its kin, and its counter tlb_flush). Our own TLBs lose single entries at once.
 */
/* Of this one: its guest flushed, and the hypervisor does it for it. */
static inline void flush_ask_of(struct pn_mmu_vcpu *vcpu) {
    if (vcpu->flushed == vcpu->mmu->exits)
        return;
    vcpu->flushed = vcpu->mmu->exits;
    pn_count(vcpu->stats, tlb_flush);
}
/* Of every vCPU: a mapping went or lost a right. KVM's kvm_flush_remote_tlbs. */
static inline void flush_ask(struct pn_mmu *mmu) {
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        flush_ask_of(mmu->vcpus[v]);
}
/* An exit that the MMU handles. */
static inline void exit_begins(struct pn_mmu *mmu) {
    mmu->exits++;
    mmu->by_host = false;
}
/* A call of the user's or a device's: one with those before it, back to the last exit. */
static inline void host_begins(struct pn_mmu *mmu) {
    mmu->exits += !mmu->by_host;
    mmu->by_host = true;
}
/* At the end of each public call that changes something. */
static inline void mmu_watch(struct pn_mmu *mmu) {
    mmu->watched =
        mmu->observer || mmu->step || mmu->cfg.recorder || mmu->tracker->accesses;
}
static inline void mmu_step(struct pn_mmu *mmu) {
    if (__builtin_expect(mmu->step != NULL, 0))
        mmu->step(mmu);
}

/* Something is about to leave the tables, a TLB or the memslots: nobody is in pn_mmu_look. */
static inline void mmu_bar(struct pn_mmu *mmu) {
    if (__builtin_expect(mmu->cfg.bar != NULL, 0))
        mmu->cfg.bar(mmu->cfg.opaque);
}

/* gfn, where a walk ended, or what the APIC-access page is taken for. */
static inline pn_gfn walk_apic_taken(const struct pn_mmu_vcpu *vcpu, pn_gfn gfn) {
    return gfn + 1 == vcpu->apic ? vcpu->world.apic_as >> PN_PAGE_SHIFT : gfn;
}
/* What a reference to a table came to lies in the APIC-access page. */
static inline bool walk_table_in_apic(const struct pn_mmu_vcpu *vcpu, struct walk *w,
                                      const struct walk *in) {
    if (__builtin_expect(in->gfn + 1 != vcpu->apic, 1))
        return false;
    w->fault =
        (struct pn_fault){PN_VEC_NPF, true, PN_NPF_TABLE | PN_NPF_APIC, in->gva, w->gva};
    return true;
}

/* Return: the slot that holds gfn, or NULL. The last hit answers at once. */
static inline struct slot *slot_of_gfn(struct pn_mmu *mmu, pn_gfn gfn) {
    struct slot *s = __atomic_load_n(&mmu->slots.last, __ATOMIC_RELAXED);
    if (s && gfn - s->gfn < s->npages)
        return s;
    return slots_search(&mmu->slots, gfn);
}

/* Where the memslots have gpa. */
static inline struct ref slot_ref(struct pn_mmu *mmu, pn_gpa gpa) {
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    return (struct ref){s ? (const char *)s->pub.hva + (gpa - s->pub.gpa) : NULL, gpa};
}

/* REFS of our own tables. */
static inline void count_packed(struct pn_stats *st, uint64_t refs) {
    st->v[PN_STAT_walk_refs] += refs_total(refs);
    for (unsigned level = 1; level <= PT_LEVELS; level++, refs >>= 8)
        st->v[PN_STAT_LEVEL0_walk_refs + level] += refs & 255;
}

/* ---- outcome.c: the end of every fault ---- */

/* Count it, in its counter and those that this is part of, and emit fault_outcome. level,
 * spte: of the leaf as it is now, without host addresses; 0 and 0: there is none.
 * Return: the outcome. */
enum pn_outcome fault_done(struct pn_mmu_vcpu *vcpu, enum pn_outcome outcome, pn_gva gva,
                           unsigned level, uint64_t spte);
/* In the error code of a fault that a cached MMIO mark answers: to KVM, too, such an
 * entry is one with reserved bits. */
#define FAULT_MMIO_CACHED (PN_PF_PRESENT | PN_PF_RSVD)

/* What a walk that ended in a fault comes to. */
static inline enum pn_outcome walk_outcome(const struct walk *w) {
    return w->end == WALK_BELOW ? PN_OUT_nested_pf : PN_OUT_guest_pf;
}

/* options.c. Return: 0, or -EINVAL when a value is out of its range. */
int mmu_options_check(const struct pn_mmu_options *opt);

/* ---- track.c: frames whose stores somebody must see ---- */

#define TRACK_USER   0x8000u /* in slot->track: pn_mmu_track_add */
#define TRACK_RECORD 0x4000u /* the recorder has the page: it is told of its stores */
#define TRACK_QUIET  0x2000u /* it had: the page is likely no table any more */
#define TRACK_ALL    (TRACK_USER | TRACK_RECORD | TRACK_QUIET)
static inline unsigned track_get(const struct slot *s, pn_gfn gfn) {
    return __atomic_load_n(&s->track[gfn - s->gfn], __ATOMIC_RELAXED);
}
static inline void track_put(struct slot *s, pn_gfn gfn, unsigned v) {
    __atomic_store_n(&s->track[gfn - s->gfn], (uint16_t)v, __ATOMIC_RELAXED);
}
/* Return: shadow pages that need stores to gfn seen. */
static inline unsigned track_tables(const struct slot *s, pn_gfn gfn) {
    return track_get(s, gfn) & ~TRACK_ALL;
}
/* Are there users of pn_mmu_track_add? */
static inline bool track_code(const struct slot *s, pn_gfn gfn) {
    return track_get(s, gfn) & TRACK_USER;
}
/* Has the recorder the page? */
static inline bool track_recorded(const struct slot *s, pn_gfn gfn) {
    return track_get(s, gfn) & TRACK_RECORD;
}
/* Are its stores to be seen by one of these, whom no table knows? */
static inline bool track_used(const struct slot *s, pn_gfn gfn) {
    return track_get(s, gfn) & (TRACK_USER | TRACK_RECORD);
}
/* Does such a user have translated code there? */
static inline bool track_code_seen(struct pn_mmu *mmu, pn_gpa gpa) {
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    return s && track_code(s, gpa >> PN_PAGE_SHIFT);
}
/* Must stores to the page be seen, for the sake of its pieces? */
static inline bool dirty_pieces_open(const struct pn_mmu *mmu, const struct slot *s,
                                     pn_gfn gfn) {
    return mmu->tracker->pieces && s->dirty && ~slot_pieces(s)[gfn - s->gfn];
}
/* Does a store to gpa, in a memslot, have to be seen by these, or by such users? */
static inline bool track_seen(struct pn_mmu *mmu, pn_gpa gpa) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    const struct slot *s = slot_of_gfn(mmu, gfn);
    return s && (track_used(s, gfn) || dirty_pieces_open(mmu, s, gfn));
}
/* May a leaf of this level at gfn take stores that no MMU sees? The one place for the
 * rule; that a memslot is read-only is another. A large leaf of a logged slot is split
 * first, but where the log has no finer grain. Users of pn_mmu_track_add have their say in the TLB alone. */
static inline bool may_store_unseen(const struct pn_mmu *mmu, const struct slot *s,
                                    pn_gfn gfn, unsigned level) {
    if (level > 1)
        return !s->dirty ||
               (level == 2 && mmu->tracker->frames && dirty_frame_known(s, gfn));
    return !track_tables(s, gfn) && (!s->dirty || mmu->tracker->may_write(s, gfn));
}
/* A vCPU made a store: count it, if it was for users alone to see. */
void track_stored(struct pn_mmu_vcpu *vcpu, const struct slot *s, pn_gpa gpa,
                  size_t size);
void track_destroy(struct track_set *users);
/* A slot is about to go: its users hear of it as of a write; it came: they stay. */
void track_slot_gone(struct pn_mmu *mmu, struct slot *s);
void track_slot_added(struct pn_mmu *mmu, struct slot *s);
/* Return: pn_mmu_track_add users of gfn. */
uint32_t track_users(const struct pn_mmu *mmu, pn_gfn gfn);

/* Are translations told apart by the PCID in CR3? */
static inline bool pcid_on(const struct pn_mmu_vcpu *vcpu) {
    return vcpu->paging.cr4 & CR4_PCIDE && vcpu->walk.levels >= 4;
}
