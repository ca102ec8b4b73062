/* SPDX-License-Identifier: MIT */
/*
 * Roots, each with its own TLB, and what both kinds of MMU do to a TLB. Which entries
 * stand for what, each kind knows itself (shadow/tlb.c, tdp/tlb.c).
 */
#pragma once

#include "mmu/core/sp.h"

/* What a root is cached by: nothing but what changes the meaning of its TLB. */
struct root_key {
    uint64_t cr3; /* the address bits */
    uint64_t pdpte[4];
    uint16_t pcid;
    uint16_t mode;   /* levels and permission bits, root.c */
    uint32_t asid;   /* of the world */
    uint64_t second; /* root of its second level and ROOT_SECOND: there is one; else 0 */
};

#define ROOT_SECOND UINT64_C(0x800) /* a bit that neither a root nor EPTP has */

#define FETCHED_BITS 8192

struct root {
    struct pn_mmu_vcpu *vcpu; /* whose it is */
    bool stale;               /* sync before the next use */
    bool narrow;              /* 32-bit linear addresses */
    bool code;                /* code was fetched since the TLB was last emptied */
    bool writes;              /* some entry may have a write tag */
    /* Jump caches may hold a translation that is gone, or never had an spte. Hardware
     * allows that until the guest flushes; at that flush fetch_gen must change. */
    bool loose;
    struct root_key key;
    struct sp *top; /* shadow: NULL until something is mapped */
    uint64_t *spt;  /* shadow: top's */
    uint64_t fetch_gen, stamp;
    /* TDP: what the TLB or a jump cache may have from here, by hash (tdp/tlb.c). */
    bool fetched_any;
    uint64_t fetched[FETCHED_BITS / 64]; /* pages fetched from */
    uint64_t large[2];                   /* 4 MiB, 1 GiB regions with large pages */
    uint8_t region[PN_TLB_MODES][PN_TLB_ENTRIES]; /* 2 MiB of each entry, by hash */
    uint64_t bit;                                 /* root_bit */
    struct rights rights;                         /* that the TLB was filled with */
    uint16_t pkeys_user, pkeys_super;             /* keys in the TLB */
    const struct pn_tlb_entry
        *tlb[PN_TLB_MODES];                  /* what answers: room, or an empty one */
    struct pn_tlb_entry *room[PN_TLB_MODES]; /* PN_TLB_ENTRIES each */
    /* By mode: the entries that were filled since the last flush, a bit each, and the words of
     * those bits. Some may have been dropped since. */
    uint64_t filled[PN_TLB_MODES];
    uint64_t live[PN_TLB_MODES][PN_TLB_ENTRIES / 64];
};

/* TDP: how a walk of the guest's tables came to 2 MiB of its addresses (tdp/quick.c). */
#define WAY_SHIFT   21
#define WAY_ENTRIES 4
struct way {
    pn_gva region; /* gva >> WAY_SHIFT, plus 1; 0: none */
    uint64_t root, gen;
    uint16_t mode;
    uint8_t level;         /* of the last entry */
    uint8_t entries;       /* how many there are */
    unsigned acc;          /* ACC_* that the entries leave */
    uint64_t refs;         /* REFS of the second level */
    const uint64_t *table; /* of level 1; NULL: the last entry is a leaf */
    const uint64_t
        *at[WAY_ENTRIES];       /* the guest's entries; behind them the first again */
    uint64_t gpte[WAY_ENTRIES]; /* and what they were */
};
#define WAYS 256u
/* The same of a guest's guest, whose entries' addresses go through a second level in guest
 * memory: its entries stand between them. */
#define NEST_ENTRIES 24
struct nest_way {
    pn_gva region;
    uint64_t root, gen, second; /* second: its root */
    uint16_t mode, second_mode;
    uint8_t level, entries;
    unsigned acc;
    uint64_t refs, reads; /* reads: REFS of the second level in guest memory */
    uint64_t last;        /* the guest's entry that the way ends in */
    const uint64_t *table;
    const uint64_t *at[NEST_ENTRIES];
    uint64_t entry[NEST_ENTRIES];
};
#define NEST_WAYS 128u

#define ROOTS_MAX 16
struct vcpu_roots {
    unsigned count; /* that stand for something: the first ones */
    unsigned max;   /* cached_roots + 1 */
    struct root *cur;
    uint64_t clock; /* LRU of roots */
    struct root root[ROOTS_MAX];
    struct way way[WAYS];
    struct nest_way nest[NEST_WAYS];
};

#define for_each_root_of(vcpu, r)                                                        \
    for (struct root *r = (vcpu)->roots->root, *end_##r = r + (vcpu)->roots->count;      \
         r < end_##r; r++)
/* Each root of each vCPU: v is the vCPU whose root r is. `break` goes on with the next
 * vCPU. */
#define for_each_root(mmu, v, r)                                                         \
    for (unsigned i_##v = 0; i_##v < (mmu)->vcpu_count; i_##v++)                         \
        for (struct pn_mmu_vcpu *v = (mmu)->vcpus[i_##v], *once_##v = v; once_##v;       \
             once_##v = NULL)                                                            \
            for_each_root_of(v, r)

/* ---- root.c ---- */

/* A root is loose: nothing tells us when a translation without a TLB entry changes, so
 * this is called at every flush. */
void root_tighten(struct pn_mmu_vcpu *vcpu, struct root *r);
void root_new_fetch_gen(struct pn_mmu_vcpu *vcpu, struct root *r);
int root_init(struct pn_mmu_vcpu *vcpu);
void root_destroy(struct pn_mmu_vcpu *vcpu);
/* The root of the paging state now becomes the current one. Return: it was cached. */
bool root_load(struct pn_mmu_vcpu *vcpu);
/* The guest flushed: every root of this PCID, or all. */
void root_make_stale(struct pn_mmu_vcpu *vcpu, bool all, uint16_t pcid);
/* The memslots changed: what was translated without an spte may be otherwise. */
void roots_slots_changed(struct pn_mmu *mmu);
/* Every TLB is emptied, and every fetch generation is new. */
void roots_drop_everything(struct pn_mmu *mmu);

/* ---- tlb.c ---- */

/* What a TLB entry is made from. */
struct tlb_grant {
    unsigned acc; /* ACC_* of the translation */
    uint8_t pkey;
    unsigned denied;    /* what rights_denied says of them */
    bool store, code;   /* a write or fetch tag may stand, if the rights allow it */
    enum tlb_held held; /* the write tag is kept back: track_held */
    uintptr_t hva;      /* of the page */
};
#define TLB_GOT_W 1u
#define TLB_GOT_X 2u
static inline unsigned tlb_index(pn_gva gva) {
    return gva >> PN_PAGE_SHIFT & (PN_TLB_ENTRIES - 1);
}
static inline void tlb_entry_clear(struct pn_tlb_entry *e, unsigned index) {
    e->tag[PN_READ] = e->tag[PN_WRITE] = e->tag[PN_FETCH] = PN_TLB_NONE(index);
    e->hva = 0;
}
void tlb_clear(struct pn_tlb_entry tlb[PN_TLB_ENTRIES]);
/* The first entry from i on that may have a tag. Return: end when there is none before it. */
static inline unsigned tlb_next_live(const struct root *r, enum pn_tlb_mode mode,
                                     unsigned i, unsigned end) {
    while (i < end) {
        uint64_t left = r->live[mode][i / 64] >> i % 64;
        if (left) {
            i += (unsigned)__builtin_ctzll(left);
            return i < end ? i : end;
        }
        i = (i | 63) + 1;
    }
    return end;
}
#define for_each_live(r, mode, i, first, end)                                            \
    for (unsigned i = tlb_next_live(r, mode, first, end); i < (end);                     \
         i = tlb_next_live(r, mode, i + 1, end))
/* The write tags of all pages of a slot. */
void tlb_drop_writes(struct pn_mmu *mmu, const struct slot *s);
void tlb_drop_all_writes(struct pn_mmu *mmu); /* of every page that there is */
/* A root comes into use: its TLBs are empty ones, which take no memory. And the first fill
 * of one: its room is touched, no memory is asked for. */
void tlb_unmake(struct root *r);
void tlb_make(struct pn_mmu_vcpu *vcpu, struct root *r, enum pn_tlb_mode mode);
/* Return: TLB_GOT_*, the tags that the entry has. */
static inline unsigned tlb_put(struct pn_mmu_vcpu *vcpu, struct root *r, pn_gva gva,
                               enum pn_tlb_mode mode, const struct tlb_grant *g) {
    const struct rights *m = &vcpu->walk.rights;
    unsigned i = tlb_index(gva), got = 0;
    uint64_t page = gva & PN_PAGE_MASK, none = PN_TLB_NONE(i);
    struct pn_tlb_entry *e;

    if (__builtin_expect(r->tlb[mode] != r->room[mode], 0))
        tlb_make(vcpu, r, mode);
    e = &r->room[mode][i];
    observe(vcpu->mmu, entry_changes, vcpu, i, mode);
    if (!e->hva) {
        r->live[mode][i / 64] |= 1ull << i % 64;
        r->filled[mode] |= 1ull << i / 64;
    }
    e->tag[PN_READ] = g->denied & 1u << PN_READ ? none : page;
    e->tag[PN_WRITE] = e->tag[PN_FETCH] = none;
    if (g->store && !(g->denied & 1u << PN_WRITE)) {
        e->tag[PN_WRITE] = page ^ (uint64_t)g->held << PN_PAGE_SHIFT;
        got |= TLB_GOT_W;
        r->writes = true;
    }
    if (g->code && !(g->denied & 1u << PN_FETCH)) {
        e->tag[PN_FETCH] = page;
        got |= TLB_GOT_X;
        r->code = true;
    }
    e->hva = g->hva;
    if (m->keys) {
        if (g->acc & ACC_USER)
            r->pkeys_user |= (uint16_t)(1u << g->pkey);
        else
            r->pkeys_super |= (uint16_t)(1u << g->pkey);
    }
    pn_count(vcpu->stats, tlb_fill);
    return got;
}
/* What the CPU of the root's vCPU reads is about to lose something: it does not read now. */
static inline void root_still(const struct root *r) {
    const struct pn_mmu_config *cfg = &r->vcpu->mmu->cfg;
    if (__builtin_expect(cfg->stand_still != NULL, 0) && r == r->vcpu->roots->cur)
        cfg->stand_still(cfg->opaque, r->vcpu->number);
}
/* Drop entry i if its page is one of [hva, hva+bytes); write: only its write tag. */
static inline void tlb_drop_if(struct root *r, enum pn_tlb_mode mode, unsigned i,
                               uintptr_t hva, uint64_t bytes, bool write) {
    struct pn_tlb_entry *e = &r->room[mode][i];
    if (e->hva - hva >= bytes)
        return;
    root_still(r);
    if (write)
        e->tag[PN_WRITE] = PN_TLB_NONE(i);
    else
        tlb_entry_clear(e, i);
}
/* For whom the frame's write tags are kept back. */
static inline enum tlb_held track_held(const struct slot *s, pn_gfn gfn) {
    return track_code(s, gfn)       ? TLB_HELD_CODE
           : track_recorded(s, gfn) ? TLB_HELD_RECORD
                                    : TLB_HELD_NOT;
}
/* The entries of index i for the page at hva: their write tags are kept back for code,
 * or for the recorder where they are not for code, or no more for the recorder. And every such
 * entry of the root's. */
void tlb_hold(struct root *r, unsigned i, uintptr_t hva, enum tlb_held how);
void tlb_hold_all(struct root *r, uintptr_t hva, enum tlb_held how);
/* The write tag that is kept back for the recorder. */
#define TLB_RECORDED(gva)                                                                \
    (((gva)&PN_PAGE_MASK) ^ (uint64_t)TLB_HELD_RECORD << PN_PAGE_SHIFT)
/* Would the current root's entry for gva answer a store, were its write tag not kept
 * back? */
static inline bool tlb_held(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                            enum pn_tlb_mode mode) {
    const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[mode][tlb_index(gva)];
    return e->tag[PN_WRITE] == PN_TLB_HELD(gva);
}
/* A store comes to the MMU for a write tag that is kept back. Return: the tables need not
 * be asked, and *out is their answer. (The guest may have changed its own since.) */
static inline bool tlb_held_back(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_tlb_mode mode, struct pn_xlate *out) {
    const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[mode][tlb_index(gva)];
    return tlb_held(vcpu, gva, mode) &&
           pn_mmu_probe(vcpu, gva, PN_WRITE, mode, out) == PN_MAPPED &&
           e->hva == ((uintptr_t)out->hva & PN_PAGE_MASK) &&
           track_code_seen(vcpu->mmu, out->gpa);
}
/* Does the current root's entry for gva answer stores? */
static inline bool tlb_stores(const struct pn_mmu_vcpu *vcpu, pn_gva gva,
                              enum pn_tlb_mode mode) {
    const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[mode][tlb_index(gva)];
    return e->tag[PN_WRITE] == (gva & PN_PAGE_MASK);
}
/* Gva of the page that tag t of entry i stands for. Return: false: it stands for none. */
static inline bool tlb_tag_page(const struct pn_tlb_entry *e, unsigned i, unsigned t,
                                pn_gva *gva) {
    uint64_t held = tlb_index(e->tag[t]) ^ i;
    if (held && (t != PN_WRITE || (held != TLB_HELD_CODE && held != TLB_HELD_RECORD)))
        return false;
    *gva = e->tag[t] ^ held << PN_PAGE_SHIFT;
    return true;
}
void tlb_flush(struct pn_mmu_vcpu *vcpu, struct root *r);
void tlb_drop_gva(struct root *r, pn_gva gva);
