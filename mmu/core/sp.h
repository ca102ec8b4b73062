/* SPDX-License-Identifier: MIT */
/*
 * A page of tables, and the memory of such pages. As in KVM, an `sp` is what both kinds
 * of MMU build their tables from: a shadow page under shadow, a second-level table under
 * tdp (always direct, with the one entry that leads to it in `parents`).
 *
 * Lifetime: an sp lives from slab_sp to slab_sp_free, and goes back to a free list at
 * once; nothing keeps a pointer to an sp across a call that may zap.
 */
#pragma once

#include "mmu/core/internal.h"

/* ---- Roles ---- */

/*
 * What an sp stands for, beside its gfn: everything that its sptes are a function of.
 * Level 1..5; DIRECT: no table behind it, sptes map gfn and up one to one; quadrant:
 * which part of a table of 4-byte gptes (1024 entries) the 512 sptes are; the format bits
 * say how gptes are read. ROOT: the four-entry top of 32-bit, PAE and unpaged roots,
 * behind which no guest memory stands.
 */
#define ROLE_LEVEL      PN_ROLE_LEVEL
#define ROLE_DIRECT     PN_ROLE_DIRECT
#define ROLE_QUAD_SHIFT PN_ROLE_QUAD_SHIFT
#define ROLE_QUAD       (3u << ROLE_QUAD_SHIFT)
#define ROLE_4BYTE      PN_ROLE_4BYTE
#define ROLE_PSE        PN_ROLE_PSE  /* with 4BYTE: PS maps 4 MiB */
#define ROLE_LONG       PN_ROLE_LONG /* neither this nor 4BYTE: PAE */
#define ROLE_NX         PN_ROLE_NX   /* bit 63 is XD, not reserved */
#define ROLE_ROOT       PN_ROLE_ROOT
#define ROLE_FORMAT     (ROLE_4BYTE | ROLE_PSE | ROLE_LONG | ROLE_NX)

static inline unsigned role_level(uint32_t role) {
    return role & ROLE_LEVEL;
}
static inline unsigned role_quadrant(uint32_t role) {
    return (role & ROLE_QUAD) >> ROLE_QUAD_SHIFT;
}
/* Pages that one spte of this level maps. */
static inline uint64_t level_pages(unsigned level) {
    return 1ull << (9 * (level - 1));
}
/* What the tables above a second level, or an APIC-access page, say of a walk's frame. */
static inline pn_gfn walk_own_gfn(const struct pn_mmu_vcpu *vcpu, const struct walk *w) {
    return w->second_level || vcpu->apic ? w->second_gfn : w->gfn;
}
/* Is the APIC-access page in the frames that a leaf of that level maps around gfn? */
static inline bool apic_within(const struct pn_mmu_vcpu *vcpu, pn_gfn gfn,
                               unsigned level) {
    return vcpu->apic && !(((vcpu->apic - 1) ^ gfn) & ~(level_pages(level) - 1));
}
static inline unsigned level_index(pn_gva gva, unsigned level) {
    return gva >> (PN_PAGE_SHIFT + 9 * (level - 1)) & 511;
}

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
    /* Of a guest's guest, whose addresses are no frames: what the second level below made of
     * each leaf's or MMIO spte's, and in bits 0 (D) and 1 (X) what it lets pass. NULL: none. */
    uint64_t *frames;
    uint64_t space; /* pn_mmu_vcpu.space that it was made in, and the asid */
    uint32_t asid;
    const struct pt_bits *format; /* how gptes are read */
    pn_gfn gfn;                   /* of the table; direct: the first frame mapped */
    uint32_t role;
    uint16_t used;  /* sptes that are not 0 */
    bool unsync;    /* the table may have changed unseen */
    bool read_only; /* the table is in a read-only memslot: A and D are never set */
    uint64_t parents;
    struct sp *hash_next;
    struct list lru;
    uint64_t roots;   /* root_bit() of every root that TLB entries or jump caches may have
                       from here */
    uint64_t gen;     /* of zap-all-fast */
    uint64_t log_gen; /* shadow: of the harvests that it knows of (shadow/close.c) */
    uint64_t
        granted; /* then: a bit for each 8 sptes, some of which a harvest may concern */
    uint32_t flood;
    uint8_t stores;           /* seen since it was made; with a policy that counts them */
    uint8_t node;             /* of the vCPU that had it made: vcpu->node */
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
/* Why one was zapped: the event prepare_zap_page says it. */
enum zap_reason {
#define PN_ZAP(name, word) ZAP_##name,
#include "penumbra/reasons.inc"
};

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
