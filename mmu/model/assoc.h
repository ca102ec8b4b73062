/* SPDX-License-Identifier: MIT */
/*
 * A set-associative cache of keys, for the TLB model: which entry goes when one comes.
 * Unbounded ones never lose an entry but by a flush.
 */
#pragma once

#include <stddef.h>

#include "penumbra/mmu.h"
#include "penumbra/model.h"

enum assoc_state { ASSOC_FREE, ASSOC_LIVE, ASSOC_DEAD };

struct assoc_entry {
    uint64_t tag; /* number << 2 | kind: numbers of different kinds never meet */
    uint16_t ctx; /* whose it is */
    uint8_t state;
    bool global; /* of every ctx */
    bool store;  /* the owner's: stores may use it */
};
#define ASSOC_ANY      0x10000u /* as a ctx: every one */
#define ASSOC_WAYS_MAX 64u      /* a PLRU tree fits into a word */

struct assoc_set {
    uint64_t order; /* PLRU: the tree's bits; FIFO: the way that goes next */
    uint32_t mru;   /* way used last */
};

struct assoc {
    struct assoc_entry *e;
    struct assoc_set *set;
    /* Bounded: of each set a key for each way, a hash of the tag, or 0: it is not live; in whole
     * words, so that four are compared at once. Of each entry the stamp of its last use. */
    uint16_t *key;
    uint64_t *stamp;
    uint32_t sets, ways; /* 0 ways: there is none */
    uint8_t replace, pages;
    bool unbounded;
    uint64_t *clock,
        ticks; /* of stamps; clock is &ticks but for first levels: filter.c */
    uint32_t capacity, used; /* unbounded: of the hash; entries not free, dead ones too */
    /* Bounded: entries that are live, and a bit for each. */
    uint32_t live_count;
    uint64_t *live;
};

/* g has no pn_tlb_array_problem. Return: 0 or -ENOMEM. */
int assoc_init(struct assoc *a, const struct pn_tlb_array *g);
void assoc_fini(struct assoc *a);

static inline uint32_t assoc_set_of(const struct assoc *a, uint64_t tag) {
    return (uint32_t)(tag >> 2) & (a->sets - 1);
}

/* Does the entry answer for ctx, whatever its tag is? */
static inline bool assoc_live(const struct assoc_entry *e, uint16_t ctx) {
    return e->state == ASSOC_LIVE && (e->global || e->ctx == ctx);
}
/* May some entry be found? */
static inline bool assoc_any(const struct assoc *a) {
    return a->live_count || a->unbounded;
}
/* Return: the entry, not yet used; or NULL. */
struct assoc_entry *assoc_find(const struct assoc *a, uint64_t tag, uint16_t ctx);
/* Bounded. Return: the first way without a live entry of the set that begins with the entry
 * `first`; `ways`: there is none. */
static inline uint32_t assoc_free_way(const struct assoc *a, uint32_t first) {
    uint32_t shift = first % 64;
    uint64_t live = a->live[first / 64] >> shift;
    if (shift + a->ways > 64)
        live |= a->live[first / 64 + 1] << (64 - shift);
    uint64_t free = ~live & ~0ull >> (64 - a->ways);
    return free ? (uint32_t)__builtin_ctzll(free) : a->ways;
}
/* Is there an entry of that tag, whosesoever? */
bool assoc_has(const struct assoc *a, uint64_t tag);
/* It was used. Return: the order of its set has changed: it was not the last one. */
bool assoc_use(struct assoc *a, struct assoc_entry *e);
/* Find or make, in the place of another where need be; used. Its global and store are to
 * be set by the caller. Return: NULL where there is no cache, or no memory. */
struct assoc_entry *assoc_insert(struct assoc *a, uint64_t tag, uint16_t ctx);
/* The same of what assoc_find has not found. */
struct assoc_entry *assoc_add(struct assoc *a, uint64_t tag, uint16_t ctx);
/* Drop one tag of ctx or ASSOC_ANY, with the global ones of that tag when global says. */
void assoc_drop(struct assoc *a, uint64_t tag, uint32_t ctx, bool global);
/* Drop everything of ctx or ASSOC_ANY; global entries stay unless global says so. */
void assoc_flush(struct assoc *a, uint32_t ctx, bool global);
/* For audits: does each key say what its entry does? */
bool assoc_sound(const struct assoc *a);
