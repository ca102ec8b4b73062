/* SPDX-License-Identifier: MIT */
/*
 * What the CPU may hit while a model is on, without a call: the filter, which it reads instead of
 * its root's TLB, a part of that one; and the pages of pn_fetches.
 *
 * Both have pages of the model's first levels alone. So a hit there is one of the model, and
 * changes nothing but the order of a set. The CPU leaves a stamp (pn_tlb_used, pn_fetch_told).
 * Which page was used before which is looked up when somebody needs to know: when an entry has
 * to go. This file is compiled without vector registers: see hit.c.
 *
 * Invariants
 * 1. A page here is what model_find finds in L1D or L1I for the current context. Unless the
 *    array is unbounded, it is in the list of that entry.
 * 2. The stamp of an entry of the model is not above that of its last use; the greatest of it and
 *    of its list is that stamp. What leaves a list hands its stamp on.
 * 3. With a recorder only pages that were used last in their sets are in the filter, and no page
 *    is in pn_fetches: it has to be told of every access that changes something.
 */
#include "mmu/model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FILTER_ENTRIES < FILTER_NONE, "at, in 16 bits");
static const unsigned entries_of[MODEL_FIRST] = {
    [L1I] = PN_FETCH_HITS, [L1D] = FILTER_ENTRIES};

static inline struct pn_tlb_entry *entry_at(const struct model *m, unsigned at) {
    return &m->filter[at >> PN_TLB_BITS][at & (PN_TLB_ENTRIES - 1)];
}

/* ---- Life ---- */

/* Does a page come to the entry of the least size that has it? */
static bool by_size(const struct assoc a[PN_TLB_ARRAYS]) {
    unsigned most = 0;
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        for (unsigned level = 1; level <= 3 && a[i].ways; level++) {
            if (!(a[i].pages & model_page_bit(level)))
                continue;
            if (level < most)
                return false;
            most = level;
        }
    return true;
}

static int lists_init(struct model *m, enum model_tlb t, uint64_t *clock) {
    struct filter *f = &m->first[t];
    f->by_size = by_size(m->tlb[t]);
    f->link = calloc(entries_of[t], sizeof(*f->link));
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++) {
        struct assoc *a = &m->tlb[t][i];
        a->clock = clock;
        if (!a->ways || a->unbounded)
            continue;
        f->head[i] = malloc(a->capacity * sizeof(*f->head[i]));
        if (!f->head[i])
            return -ENOMEM;
        for (uint32_t k = 0; k < a->capacity; k++)
            f->head[i][k] = FILTER_NONE;
    }
    return f->link ? 0 : -ENOMEM;
}

int filter_init(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model;
    m->fetches = &m->own_fetches;
    m->fetches->page = ~0ull;
    for (unsigned i = 0; i < PN_FETCH_HITS; i++)
        m->fetches->hit[i].page = ~0ull;
    vcpu->view->stamp = PN_TLB_STAMPS;
    m->filter[0] =
        aligned_alloc(PN_PAGE_SIZE, sizeof(struct pn_tlb_entry[FILTER_ENTRIES]));
    if (!m->filter[0])
        return -ENOMEM;
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        m->filter[mode] = m->filter[0] + mode * PN_TLB_ENTRIES;
        tlb_clear(m->filter[mode]);
    }
    int rc = lists_init(m, L1D, &vcpu->view->stamp);
    return rc ? rc : lists_init(m, L1I, &vcpu->view->stamp);
}

void filter_fini(struct model *m) {
    for (unsigned t = 0; t < MODEL_FIRST; t++) {
        for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
            free(m->first[t].head[i]);
        free(m->first[t].link);
    }
    free(m->filter[0]);
}

/* ---- Lists ---- */

/* to: the stamp of its entry. */
static inline void hand_on(const struct model *m, enum model_tlb t, uint64_t *to,
                           unsigned at) {
    uint64_t stamp =
        t == L1D ? entry_at(m, at)->tag[PN_FETCH] : m->fetches->hit[at].stamp;
    if (stamp > *to)
        *to = stamp;
}

/* What a page here begins with; unbounded arrays have none. */
static inline uint64_t stamp_of(const struct model *m, enum model_tlb t,
                                const struct model_hit *h) {
    const struct assoc *a = &m->tlb[t][h->array];
    return a->unbounded ? 0 : a->stamp[h->e - a->e];
}

static void clear_at(struct model *m, enum model_tlb t, unsigned at) {
    struct filter *f = &m->first[t];
    if (!(f->live[at / 64] >> at % 64 & 1))
        return;
    f->live[at / 64] &= ~(1ull << at % 64);
    struct filter_link *k = &f->link[at];
    if (k->listed) {
        hand_on(m, t, &m->tlb[t][k->array].stamp[k->entry], at);
        if (k->next != FILTER_NONE)
            f->link[k->next].prev = k->prev;
        if (k->prev != FILTER_NONE)
            f->link[k->prev].next = k->next;
        else
            f->head[k->array][k->entry] = k->next;
        k->listed = false;
    }
    if (t == L1D)
        tlb_entry_clear(entry_at(m, at), at & (PN_TLB_ENTRIES - 1));
    else
        m->fetches->hit[at].page = ~0ull;
}

static void put_at(struct model *m, enum model_tlb t, unsigned at,
                   const struct model_hit *h) {
    const struct assoc *a = &m->tlb[t][h->array];
    struct filter *f = &m->first[t];
    f->live[at / 64] |= 1ull << at % 64;
    f->live_words[at / 4096] |= 1ull << at / 64 % 64;
    if (a->unbounded)
        return;
    uint16_t entry = (uint16_t)(h->e - a->e), *head = &f->head[h->array][entry];
    f->link[at] =
        (struct filter_link){*head, FILTER_NONE, entry, (uint8_t)h->array, true};
    if (*head != FILTER_NONE)
        f->link[*head].prev = (uint16_t)at;
    *head = (uint16_t)at;
}

static void clear_list(struct model *m, enum model_tlb t, unsigned array,
                       uint32_t entry) {
    const uint16_t *head = &m->first[t].head[array][entry];
    while (*head != FILTER_NONE)
        clear_at(m, t, *head);
}

static void clear_page(struct model *m, enum model_tlb t, pn_gva gva) {
    if (t == L1I)
        clear_at(m, t, gva >> PN_PAGE_SHIFT & (PN_FETCH_HITS - 1));
    else
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            clear_at(m, t, mode << PN_TLB_BITS | tlb_index(gva));
}

#define for_each_told(f, at)                                                             \
    for (unsigned k_ = 0; k_ < FILTER_ENTRIES / 4096; k_++)                              \
        for (uint64_t ws_ = (f)->live_words[k_]; ws_; ws_ &= ws_ - 1)                    \
            for (uint64_t w_ = k_ * 64 + (unsigned)__builtin_ctzll(ws_),                 \
                          left_ = (f)->live[w_];                                         \
                 left_; left_ &= left_ - 1)                                              \
                for (unsigned at = (unsigned)w_ * 64 + (unsigned)__builtin_ctzll(left_), \
                              once_ = 1;                                                 \
                     once_; once_ = 0)

static void flush(struct model *m, enum model_tlb t) {
    struct filter *f = &m->first[t];
    for_each_told(f, at) clear_at(m, t, at);
    memset(f->live_words, 0, sizeof(f->live_words));
}

/* ---- What comes and goes ---- */

void model_filter_clear(struct pn_mmu_vcpu *vcpu, unsigned index, enum pn_tlb_mode mode) {
    clear_at(vcpu->model, L1D, mode << PN_TLB_BITS | index);
}

void model_filter_flush(struct pn_mmu_vcpu *vcpu) {
    flush(vcpu->model, L1D);
}

void model_told_flush(struct pn_mmu_vcpu *vcpu) {
    flush(vcpu->model, L1D);
    flush(vcpu->model, L1I);
}

void model_filter_fill(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                       const struct model_hit *h) {
    struct model *m = vcpu->model;
    unsigned i = tlb_index(gva), at = mode << PN_TLB_BITS | i;
    struct pn_tlb_entry *e = entry_at(m, at);
    clear_at(m, L1D, at);
    put_at(m, L1D, at, h);
    *e = vcpu->roots->cur->tlb[mode][i];
    e->tag[PN_FETCH] = stamp_of(m, L1D, h) | PN_TLB_STAMPS;
    if (!h->e->store)
        e->tag[PN_WRITE] = PN_TLB_NONE(i);
}

void model_filter_fetch(struct model *m, pn_gva gva, const struct model_hit *h) {
    unsigned at = gva >> PN_PAGE_SHIFT & (PN_FETCH_HITS - 1);
    clear_at(m, L1I, at);
    put_at(m, L1I, at, h);
    m->fetches->hit[at] = (struct pn_fetch_hit){gva & PN_PAGE_MASK, stamp_of(m, L1I, h)};
}

/* ---- What holds ---- */

/* Is that still the entry of the page? Entries of less size come before it. */
static bool owned(struct model *m, enum model_tlb t, unsigned at, pn_gva gva,
                  uint16_t ctx) {
    const struct filter_link *k = &m->first[t].link[at];
    struct model_hit h;
    const struct assoc_entry *e = k->listed ? &m->tlb[t][k->array].e[k->entry] : NULL;
    if (e && !assoc_live(e, ctx))
        return false;
    if (e && (e->tag & 3) == 1 && m->first[t].by_size)
        return true;
    if (!model_find(m->tlb[t], gva, ctx, false, &h))
        return false;
    return e ? h.e == e : m->tlb[t][h.array].unbounded && h.e->store;
}

/* Has the current root's TLB what the filter has? Return: its page, or ~0: no. */
static pn_gva page_in_both(const struct pn_mmu_vcpu *vcpu, unsigned at) {
    const struct pn_tlb_entry *f = entry_at(vcpu->model, at);
    unsigned i = at & (PN_TLB_ENTRIES - 1);
    const struct pn_tlb_entry *e = &vcpu->roots->cur->tlb[at >> PN_TLB_BITS][i];
    pn_gva page = ~0ull;
    for (unsigned t = 0; t < PN_FETCH; t++) {
        if (f->tag[t] == PN_TLB_NONE(i))
            continue;
        if (f->tag[t] != e->tag[t] || f->hva != e->hva)
            return ~0ull;
        page = f->tag[t];
    }
    return page;
}

void model_filter_sift(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model;
    uint16_t ctx = model_context(vcpu);
    for (unsigned t = 0; t < MODEL_FIRST; t++) {
        struct filter *f = &m->first[t];
        for_each_told(f, at) {
            pn_gva gva = t == L1D ? page_in_both(vcpu, at) : m->fetches->hit[at].page;
            if (gva == ~0ull || !owned(m, (enum model_tlb)t, at, gva, ctx))
                clear_at(m, (enum model_tlb)t, at);
            if (!f->live[at / 64])
                f->live_words[at / 4096] &= ~(1ull << at / 64 % 64);
        }
    }
}

void model_filter_drop(struct pn_mmu_vcpu *vcpu, enum model_tlb t, unsigned array,
                       uint64_t tag) {
    struct model *m = vcpu->model;
    const struct assoc *a = &m->tlb[t][array];
    if (!assoc_has(a, tag))
        return;
    if (a->unbounded) {
        if ((tag & 3) == 1)
            clear_page(m, t, tag >> 2 << PN_PAGE_SHIFT);
        else
            flush(m, t);
        return;
    }
    uint32_t first = assoc_set_of(a, tag) * a->ways;
    for (uint32_t k = first; k < first + a->ways; k++)
        if (a->e[k].tag == tag)
            clear_list(m, t, array, k);
}

/* ---- The order of a set ---- */

/* Return: its stamp is that of its last use. */
static inline uint64_t look_at(struct model *m, enum model_tlb t, unsigned array,
                               uint32_t entry) {
    const struct filter *f = &m->first[t];
    uint64_t *stamp = &m->tlb[t][array].stamp[entry];
    for (unsigned at = f->head[array][entry]; at != FILTER_NONE; at = f->link[at].next)
        hand_on(m, t, stamp, at);
    return *stamp;
}

/* LRU: its least stamp is right. An entry that was used since its stamp was looked at moves up,
 * so that each look pays for a use of that entry. */
static void settle_lru(struct model *m, enum model_tlb t, unsigned array,
                       uint32_t first) {
    const struct assoc *a = &m->tlb[t][array];
    for (;;) {
        uint32_t least = first;
        for (uint32_t k = first + 1; k < first + a->ways; k++)
            if (a->stamp[k] < a->stamp[least])
                least = k;
        uint64_t before = a->stamp[least];
        if (look_at(m, t, array, least) == before)
            return;
    }
}

/* PLRU: each node points away from that half of its ways which was used last. */
static void settle_plru(struct model *m, enum model_tlb t, unsigned array,
                        uint32_t first) {
    struct assoc *a = &m->tlb[t][array];
    uint64_t last[2 * ASSOC_WAYS_MAX]; /* by node; leaves from a->ways on */
    for (uint32_t w = 0; w < a->ways; w++)
        last[a->ways + w] = look_at(m, t, array, first + w);
    uint64_t order = 0;
    for (uint32_t node = a->ways - 1; node; node--) {
        uint64_t left = last[2 * node], right = last[2 * node + 1];
        order |= (uint64_t)(left > right) << node;
        last[node] = left > right ? left : right;
    }
    a->set[first / a->ways].order = order;
}

/* One entry of that set has to go, unless there is a free one. */
static void settle(struct model *m, enum model_tlb t, unsigned array, uint32_t set) {
    const struct assoc *a = &m->tlb[t][array];
    if (assoc_free_way(a, set * a->ways) < a->ways)
        return;
    if (a->replace == PN_REPLACE_LRU)
        settle_lru(m, t, array, set * a->ways);
    else if (a->replace == PN_REPLACE_PLRU)
        settle_plru(m, t, array, set * a->ways);
}

void model_filter_use(struct pn_mmu_vcpu *vcpu, unsigned array,
                      const struct assoc_entry *e) {
    const struct assoc *a = &vcpu->model->tlb[L1D][array];
    if (a->unbounded || !vcpu->mmu->cfg.recorder)
        return;
    uint32_t set = assoc_set_of(a, e->tag), last = set * a->ways + a->set[set].mru;
    if (&a->e[last] != e)
        clear_list(vcpu->model, L1D, array, last);
}

/* Does a page that some entry answers, on another page size, come to this one as well? Only
 * the page of gva where this is the least size. */
static void part_with(struct pn_mmu_vcpu *vcpu, enum model_tlb t, pn_gva gva,
                      unsigned array, unsigned level) {
    struct model *m = vcpu->model;
    struct model_hit h;
    if (level > 1 && m->first[t].by_size &&
        (!model_find(m->tlb[t], gva, model_context(vcpu), false, &h) ||
         (h.array == array && h.level == level)))
        return;
    if (level > 1)
        flush(m, t);
    else
        clear_page(m, t, gva);
}

void model_filter_make_room(struct pn_mmu_vcpu *vcpu, enum model_tlb t, pn_gva gva,
                            unsigned array, unsigned level) {
    struct model *m = vcpu->model;
    const struct assoc *a = &m->tlb[t][array];
    uint32_t set = a->unbounded ? 0 : assoc_set_of(a, model_page_tag(gva, level));
    part_with(vcpu, t, gva, array, level);
    if (a->unbounded && t == L1I)
        flush(m, t);
    if (a->unbounded)
        return;
    if (vcpu->mmu->cfg.recorder)
        clear_list(m, t, array, set * a->ways + a->set[set].mru);
    settle(m, t, array, set);
}

void model_filter_came(struct model *m, enum model_tlb t, unsigned array,
                       const struct assoc_entry *e) {
    const struct assoc *a = &m->tlb[t][array];
    if (!a->unbounded)
        clear_list(m, t, array, (uint32_t)(e - a->e));
}
