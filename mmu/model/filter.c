/* SPDX-License-Identifier: MIT */
/*
 * The filter: what the CPU reads while a model is on, a part of its root's TLB.
 *
 * Its pages are in the first level of the model. So a hit there is one of the model, and
 * changes nothing but the order of a set. The CPU leaves a stamp in the entry that it hit
 * (pn_tlb_used). Which page was used before which is looked up when somebody needs to know:
 * when an entry has to go.
 *
 * Invariants
 * 1. A page in the filter is what model_find finds in L1D for the current context. Unless the
 *    array is unbounded, its entry of the filter is in the list of that one.
 * 2. The stamp of an L1D entry is not above that of its last use; the greatest of it and of its
 *    list is that stamp. What leaves a list hands its stamp on.
 * 3. With a recorder only pages that were used last in their sets are here: it has to be told
 *    of every access that changes something.
 */
#include "mmu/model/model.h"

#include <errno.h>
#include <stdlib.h>

_Static_assert(FILTER_ENTRIES < FILTER_NONE, "at, in 16 bits");

static inline struct pn_tlb_entry *entry_at(const struct model *m, unsigned at) {
    return &m->filter[at >> PN_TLB_BITS][at & (PN_TLB_ENTRIES - 1)];
}

int filter_init(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model;
    m->filter[0] = aligned_alloc(PN_PAGE_SIZE, sizeof(struct pn_tlb_entry[FILTER_ENTRIES]));
    m->link = calloc(FILTER_ENTRIES, sizeof(*m->link));
    if (!m->filter[0] || !m->link)
        return -ENOMEM;
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
        m->filter[mode] = m->filter[0] + mode * PN_TLB_ENTRIES;
        tlb_clear(m->filter[mode]);
    }
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++) {
        struct assoc *a = &m->tlb[L1D][i];
        a->clock = &vcpu->view->stamp;
        if (!a->ways || a->unbounded)
            continue;
        m->held[i] = malloc(a->capacity * sizeof(*m->held[i]));
        if (!m->held[i])
            return -ENOMEM;
        for (uint32_t k = 0; k < a->capacity; k++)
            m->held[i][k] = FILTER_NONE;
    }
    vcpu->view->stamp = PN_TLB_STAMPS;
    return 0;
}

void filter_fini(struct model *m) {
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        free(m->held[i]);
    free(m->link);
    free(m->filter[0]);
}

/* ---- Lists ---- */

static inline void hand_on(const struct model *m, struct assoc_entry *e, unsigned at) {
    uint64_t stamp = entry_at(m, at)->tag[PN_FETCH];
    if (stamp > e->stamp)
        e->stamp = stamp;
}

static void clear_at(struct model *m, unsigned at) {
    struct filter_link *k = &m->link[at];
    if (k->listed) {
        hand_on(m, &m->tlb[L1D][k->array].e[k->entry], at);
        if (k->next != FILTER_NONE)
            m->link[k->next].prev = k->prev;
        if (k->prev != FILTER_NONE)
            m->link[k->prev].next = k->next;
        else
            m->held[k->array][k->entry] = k->next;
        k->listed = false;
    }
    tlb_entry_clear(entry_at(m, at), at & (PN_TLB_ENTRIES - 1));
}

static void list(struct model *m, unsigned at, unsigned array, uint32_t entry) {
    uint16_t *head = &m->held[array][entry];
    m->link[at] = (struct filter_link){*head, FILTER_NONE, (uint16_t)entry,
                                       (uint8_t)array, true};
    if (*head != FILTER_NONE)
        m->link[*head].prev = (uint16_t)at;
    *head = (uint16_t)at;
}

static void clear_list(struct model *m, unsigned array, uint32_t entry) {
    while (m->held[array][entry] != FILTER_NONE)
        clear_at(m, m->held[array][entry]);
}

/* ---- What comes and goes ---- */

void model_filter_clear(struct pn_mmu_vcpu *vcpu, unsigned index, enum pn_tlb_mode mode) {
    clear_at(vcpu->model, mode << PN_TLB_BITS | index);
}

void model_filter_flush(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model;
    for (unsigned k = 0; k < FILTER_ENTRIES / 4096; k++)
        for (; m->live_words[k]; m->live_words[k] &= m->live_words[k] - 1) {
            unsigned w = k * 64 + (unsigned)__builtin_ctzll(m->live_words[k]);
            for (; m->live[w]; m->live[w] &= m->live[w] - 1)
                clear_at(m, w * 64 + (unsigned)__builtin_ctzll(m->live[w]));
        }
}

void model_filter_fill(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                       const struct model_hit *h) {
    struct model *m = vcpu->model;
    const struct assoc *a = &m->tlb[L1D][h->array];
    unsigned i = tlb_index(gva), at = mode << PN_TLB_BITS | i;
    struct pn_tlb_entry *e = entry_at(m, at);
    clear_at(m, at);
    m->live[at / 64] |= 1ull << at % 64;
    m->live_words[at / 4096] |= 1ull << at / 64 % 64;
    *e = vcpu->roots->cur->tlb[mode][i];
    e->tag[PN_FETCH] = h->e->stamp; /* fetches are told of otherwise */
    if (!h->e->store)
        e->tag[PN_WRITE] = PN_TLB_NONE(i);
    if (!a->unbounded)
        list(m, at, h->array, (uint32_t)(h->e - a->e));
}

/* ---- The order of a set ---- */

/* LRU: its least stamp is right. An entry that was used since its stamp was looked at moves up,
 * so that each look pays for a use of that entry. */
static void settle_lru(struct model *m, unsigned array, uint32_t first) {
    struct assoc *a = &m->tlb[L1D][array];
    for (;;) {
        uint32_t least = first;
        for (uint32_t k = first + 1; k < first + a->ways; k++)
            if (a->e[k].stamp < a->e[least].stamp)
                least = k;
        uint64_t before = a->e[least].stamp;
        for (unsigned at = m->held[array][least]; at != FILTER_NONE; at = m->link[at].next)
            hand_on(m, &a->e[least], at);
        if (a->e[least].stamp == before)
            return;
    }
}

/* PLRU: each node points away from that half of its ways which was used last. */
static void settle_plru(struct model *m, unsigned array, uint32_t first) {
    struct assoc *a = &m->tlb[L1D][array];
    uint64_t last[2 * ASSOC_WAYS_MAX]; /* by node; leaves from a->ways on */
    for (uint32_t w = 0; w < a->ways; w++) {
        struct assoc_entry *e = &a->e[first + w];
        for (unsigned at = m->held[array][first + w]; at != FILTER_NONE;
             at = m->link[at].next)
            hand_on(m, e, at);
        last[a->ways + w] = e->stamp;
    }
    uint64_t order = 0;
    for (uint32_t node = a->ways - 1; node; node--) {
        uint64_t left = last[2 * node], right = last[2 * node + 1];
        order |= (uint64_t)(left > right) << node;
        last[node] = left > right ? left : right;
    }
    a->set[first / a->ways].order = order;
}

/* One entry of that set has to go. */
static void settle(struct model *m, unsigned array, uint32_t set) {
    const struct assoc *a = &m->tlb[L1D][array];
    if (a->replace == PN_REPLACE_LRU)
        settle_lru(m, array, set * a->ways);
    else if (a->replace == PN_REPLACE_PLRU)
        settle_plru(m, array, set * a->ways);
}

void model_filter_use(struct pn_mmu_vcpu *vcpu, unsigned array, const struct assoc_entry *e) {
    const struct assoc *a = &vcpu->model->tlb[L1D][array];
    if (a->unbounded || !vcpu->mmu->cfg.recorder)
        return;
    uint32_t set = assoc_set_of(a, e->tag), last = set * a->ways + a->set[set].mru;
    if (&a->e[last] != e)
        clear_list(vcpu->model, array, last);
}

/* Does a page that some entry answers, on another page size, come to this one as well? Only
 * the page of gva where this is the least size. */
static void part_with(struct pn_mmu_vcpu *vcpu, pn_gva gva, unsigned array, unsigned level) {
    struct model_hit h;
    if (level == 1)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            clear_at(vcpu->model, mode << PN_TLB_BITS | tlb_index(gva));
    else if (!vcpu->model->by_size ||
             (model_find(vcpu->model->tlb[L1D], gva, model_context(vcpu), false, &h) &&
              (h.array != array || h.level != level)))
        model_filter_flush(vcpu);
}

void model_filter_make_room(struct pn_mmu_vcpu *vcpu, pn_gva gva, unsigned array,
                            unsigned level) {
    struct model *m = vcpu->model;
    const struct assoc *a = &m->tlb[L1D][array];
    uint32_t set = a->unbounded ? 0 : assoc_set_of(a, model_page_tag(gva, level));
    part_with(vcpu, gva, array, level);
    if (a->unbounded)
        return;
    if (vcpu->mmu->cfg.recorder)
        clear_list(m, array, set * a->ways + a->set[set].mru);
    settle(m, array, set);
}

void model_filter_came(struct pn_mmu_vcpu *vcpu, unsigned array, const struct assoc_entry *e) {
    const struct assoc *a = &vcpu->model->tlb[L1D][array];
    if (!a->unbounded)
        clear_list(vcpu->model, array, (uint32_t)(e - a->e));
}
