/* SPDX-License-Identifier: MIT */
/*
 * Set-associative and unbounded caches of keys.
 *
 * Invariants
 * 1. No two live entries of one tag and one ctx, nor a global one beside another of its
 *    tag that its ctx would find.
 * 2. To use an entry changes the stamps and the order of its set and nothing else: the
 *    software TLB may answer for it meanwhile (filter.c).
 * 3. Unbounded: a hash with linear probes; dead entries keep the chains together until
 *    the table is made anew. Without memory for a larger one, and beyond HASH_MOST, it
 *    begins empty again.
 * 4. Bounded: an entry's key is that of its tag if it is live, else 0. So a tag that is not there
 *    is told by the keys of its set: two bytes for each way.
 * 5. Bounded: live has the bits of the live entries, and live_count says how many.
 */
#include "mmu/model/assoc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_START  1024u
#define HASH_MOST   (1u << 22) /* a guest can make addresses without end */
#define ENTRIES_MAX 65536u

static bool power_of_two(uint32_t v) {
    return v && !(v & (v - 1));
}

const char *pn_tlb_array_problem(const struct pn_tlb_array *g) {
    if (!g->entries || g->entries == PN_ARRAY_UNBOUNDED)
        return NULL;
    if (g->entries > ENTRIES_MAX)
        return "at most 65536 entries";
    if (!g->ways || g->ways > ASSOC_WAYS_MAX)
        return "from 1 to 64 ways";
    if (g->entries % g->ways || !power_of_two(g->entries / g->ways))
        return "entries / ways must be a power of two";
    if (g->replace >= PN_REPLACE_COUNT)
        return "unknown replacement";
    if (g->replace == PN_REPLACE_PLRU && !power_of_two(g->ways))
        return "plru needs a power of two of ways";
    return NULL;
}

static inline uint32_t key_words(const struct assoc *a) {
    return (a->ways + 3) / 4;
}

int assoc_init(struct assoc *a, const struct pn_tlb_array *g) {
    *a = (struct assoc){.clock = &a->ticks, .replace = g->replace, .pages = g->pages};
    if (!g->entries)
        return 0;
    a->unbounded = g->entries == PN_ARRAY_UNBOUNDED;
    a->ways = a->unbounded ? 1 : g->ways;
    a->sets = a->unbounded ? 1 : g->entries / g->ways;
    a->capacity = a->unbounded ? HASH_START : g->entries;
    a->e = calloc(a->capacity, sizeof(*a->e));
    if (a->unbounded)
        return a->e ? 0 : -ENOMEM;
    a->set = calloc(a->sets, sizeof(*a->set));
    a->live = calloc((a->capacity + 63) / 64, sizeof(*a->live));
    a->key = calloc((size_t)a->sets * key_words(a), sizeof(uint64_t));
    a->stamp = calloc(a->capacity, sizeof(*a->stamp));
    return a->e && a->set && a->live && a->key && a->stamp ? 0 : -ENOMEM;
}

void assoc_fini(struct assoc *a) {
    free(a->e);
    free(a->set);
    free(a->live);
    free(a->key);
    free(a->stamp);
    *a = (struct assoc){0};
}

/* ---- Finding ---- */

static inline bool matches(const struct assoc_entry *e, uint64_t tag, uint16_t ctx) {
    return e->tag == tag && assoc_live(e, ctx);
}

static uint32_t home(const struct assoc *a, uint64_t tag) {
    return (uint32_t)(tag * 0x9e3779b97f4a7c15ull >> 32) & (a->capacity - 1);
}

/* ---- Keys ---- */

static inline uint16_t key_of(uint64_t tag) {
    return (uint16_t)(tag * 0x9e3779b97f4a7c15ull >> 48 | 1);
}

static inline uint16_t *key_at(const struct assoc *a, uint32_t s, uint32_t way) {
    return &a->key[(size_t)s * key_words(a) * 4 + way];
}

/* Ways 4 * word to 4 * word + 3 of the set s. Return: the highest bit of each 16 whose key it
 * is. */
static inline uint64_t keyed(const struct assoc *a, uint32_t s, uint32_t word,
                             uint16_t key) {
    const uint64_t low = 0x7fff7fff7fff7fffull;
    uint64_t v;
    memcpy(&v, key_at(a, s, word * 4), sizeof(v));
    v ^= key * 0x0001000100010001ull;
    return ~(((v & low) + low) | v | low);
}

/* way: each way of the set s whose key is that of the tag. */
#define for_each_keyed(a, s, tag, way)                                                   \
    for (uint32_t word_ = 0; word_ < key_words(a); word_++)                              \
        for (uint64_t left_ = keyed(a, s, word_, key_of(tag)); left_;                    \
             left_ &= left_ - 1)                                                         \
            for (uint32_t way = word_ * 4 + (uint32_t)__builtin_ctzll(left_) / 16,       \
                          once_ = 1;                                                     \
                 once_; once_ = 0)

/* ---- Unbounded ---- */

/* All entries of a tag, whosoever they are, lie on one chain. */
static struct assoc_entry *hash_find(const struct assoc *a, uint64_t tag, uint16_t ctx) {
    for (uint32_t i = home(a, tag);; i = (i + 1) & (a->capacity - 1)) {
        struct assoc_entry *e = &a->e[i];
        if (e->state == ASSOC_FREE)
            return NULL;
        if (matches(e, tag, ctx))
            return e;
    }
}

struct assoc_entry *assoc_find(const struct assoc *a, uint64_t tag, uint16_t ctx) {
    if (a->unbounded)
        return hash_find(a, tag, ctx);
    if (!a->live_count)
        return NULL;
    uint32_t s = assoc_set_of(a, tag);
    struct assoc_entry *e = &a->e[(size_t)s * a->ways];
    for_each_keyed(a, s, tag, w) if (matches(&e[w], tag, ctx)) return &e[w];
    return NULL;
}

bool assoc_has(const struct assoc *a, uint64_t tag) {
    if (!assoc_any(a))
        return false;
    if (a->unbounded) {
        uint32_t i = home(a, tag);
        while (a->e[i].state != ASSOC_FREE &&
               (a->e[i].tag != tag || a->e[i].state != ASSOC_LIVE))
            i = (i + 1) & (a->capacity - 1);
        return a->e[i].state != ASSOC_FREE;
    }
    uint32_t s = assoc_set_of(a, tag);
    for_each_keyed(a, s, tag,
                   w) if (a->e[(size_t)s * a->ways + w].tag == tag) return true;
    return false;
}

/* ---- Replacement ---- */

/* Point every node on the way to this leaf away from it. */
static void plru_use(struct assoc_set *s, uint32_t ways, uint32_t way) {
    for (uint32_t node = 1, half = ways / 2; half; half /= 2) {
        bool right = way & half;
        s->order = right ? s->order & ~(1ull << node) : s->order | 1ull << node;
        node = node * 2 + right;
    }
}

static uint32_t plru_victim(const struct assoc_set *s, uint32_t ways) {
    uint32_t node = 1, way = 0;
    for (uint32_t half = ways / 2; half; half /= 2) {
        bool right = s->order >> node & 1;
        way |= right ? half : 0;
        node = node * 2 + right;
    }
    return way;
}

static uint32_t victim(struct assoc *a, uint32_t s) {
    const uint64_t *stamp = &a->stamp[(size_t)s * a->ways];
    uint32_t way = assoc_free_way(a, s * a->ways);
    if (way < a->ways)
        return way;
    if (a->replace == PN_REPLACE_PLRU)
        return plru_victim(&a->set[s], a->ways);
    if (a->replace == PN_REPLACE_FIFO) {
        way = (uint32_t)a->set[s].order;
        a->set[s].order = (way + 1) % a->ways;
        return way;
    }
    way = 0;
    for (uint32_t w = 1; w < a->ways; w++)
        if (stamp[w] < stamp[way])
            way = w;
    return way;
}

bool assoc_use(struct assoc *a, struct assoc_entry *e) {
    if (a->unbounded)
        return false;
    uint32_t i = (uint32_t)(e - a->e), s = assoc_set_of(a, e->tag), way = i - s * a->ways;
    a->stamp[i] = ++*a->clock;
    if (a->set[s].mru == way)
        return false;
    a->set[s].mru = way;
    if (a->replace == PN_REPLACE_PLRU)
        plru_use(&a->set[s], a->ways, way);
    return true;
}

/* ---- Insertion ---- */

static void hash_clear(struct assoc *a) {
    memset(a->e, 0, a->capacity * sizeof(*a->e));
    a->used = 0;
}

static struct assoc_entry *hash_free(struct assoc *a, uint64_t tag) {
    uint32_t i = home(a, tag);
    while (a->e[i].state != ASSOC_FREE)
        i = (i + 1) & (a->capacity - 1);
    a->used++;
    return &a->e[i];
}

static void hash_grow(struct assoc *a) {
    if (a->used * 2 < a->capacity)
        return;
    uint32_t live = 0;
    for (uint32_t i = 0; i < a->capacity; i++)
        live += a->e[i].state == ASSOC_LIVE;
    struct assoc big = *a;
    big.capacity = live * 4 > a->capacity ? a->capacity * 2 : a->capacity;
    big.used = 0;
    big.e = big.capacity <= HASH_MOST ? calloc(big.capacity, sizeof(*big.e)) : NULL;
    if (!big.e) {
        hash_clear(a);
        return;
    }
    for (uint32_t i = 0; i < a->capacity; i++)
        if (a->e[i].state == ASSOC_LIVE)
            *hash_free(&big, a->e[i].tag) = a->e[i];
    free(a->e);
    *a = big;
}

/* In the place of e, or of none. */
static struct assoc_entry *put(struct assoc *a, struct assoc_entry *e, uint64_t tag,
                               uint16_t ctx) {
    if (!e && a->unbounded) {
        hash_grow(a);
        e = hash_free(a, tag);
    } else if (!e) {
        uint32_t s = assoc_set_of(a, tag), way = victim(a, s);
        e = &a->e[(size_t)s * a->ways + way];
        if (a->replace == PN_REPLACE_PLRU)
            plru_use(&a->set[s], a->ways, way);
        uint32_t i = (uint32_t)(e - a->e);
        a->live_count += e->state != ASSOC_LIVE;
        a->live[i / 64] |= 1ull << i % 64;
        *key_at(a, s, way) = key_of(tag);
    }
    *e = (struct assoc_entry){.tag = tag, .ctx = ctx, .state = ASSOC_LIVE};
    assoc_use(a, e);
    return e;
}

struct assoc_entry *assoc_add(struct assoc *a, uint64_t tag, uint16_t ctx) {
    return a->ways ? put(a, NULL, tag, ctx) : NULL;
}

struct assoc_entry *assoc_insert(struct assoc *a, uint64_t tag, uint16_t ctx) {
    return a->ways ? put(a, assoc_find(a, tag, ctx), tag, ctx) : NULL;
}

/* ---- Dropping ---- */

static void kill(struct assoc *a, struct assoc_entry *e) {
    uint32_t i = (uint32_t)(e - a->e);
    e->state = a->unbounded ? ASSOC_DEAD : ASSOC_FREE;
    if (a->unbounded)
        return;
    uint32_t s = assoc_set_of(a, e->tag);
    *key_at(a, s, i - s * a->ways) = 0;
    a->live_count--;
    a->live[i / 64] &= ~(1ull << i % 64);
}

static bool drops(const struct assoc_entry *e, uint64_t tag, uint32_t ctx, bool global) {
    return e->state == ASSOC_LIVE && e->tag == tag &&
           (e->global ? global : ctx == ASSOC_ANY || e->ctx == ctx);
}

void assoc_drop(struct assoc *a, uint64_t tag, uint32_t ctx, bool global) {
    if (!assoc_any(a))
        return;
    if (a->unbounded) {
        for (uint32_t i = home(a, tag); a->e[i].state != ASSOC_FREE;
             i = (i + 1) & (a->capacity - 1))
            if (drops(&a->e[i], tag, ctx, global))
                kill(a, &a->e[i]);
        return;
    }
    uint32_t s = assoc_set_of(a, tag);
    struct assoc_entry *e = &a->e[(size_t)s * a->ways];
    for_each_keyed(a, s, tag, w) if (drops(&e[w], tag, ctx, global)) kill(a, &e[w]);
}

void assoc_flush(struct assoc *a, uint32_t ctx, bool global) {
    if (a->unbounded && ctx == ASSOC_ANY && global) {
        hash_clear(a);
        return;
    }
    for (uint32_t i = 0; a->unbounded && i < a->capacity; i++)
        if (drops(&a->e[i], a->e[i].tag, ctx, global))
            kill(a, &a->e[i]);
    for (uint32_t k = 0; a->live_count && k < a->capacity; k += 64)
        for (uint64_t left = a->live[k / 64]; left; left &= left - 1) {
            struct assoc_entry *e = &a->e[k + (unsigned)__builtin_ctzll(left)];
            if (drops(e, e->tag, ctx, global))
                kill(a, e);
        }
}

bool assoc_sound(const struct assoc *a) {
    for (uint32_t i = 0; !a->unbounded && i < a->capacity; i++) {
        const struct assoc_entry *e = &a->e[i];
        bool live = e->state == ASSOC_LIVE;
        if (*key_at(a, i / a->ways, i % a->ways) != (live ? key_of(e->tag) : 0) ||
            (a->live[i / 64] >> i % 64 & 1) != live)
            return false;
    }
    return true;
}
