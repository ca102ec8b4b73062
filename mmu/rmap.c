/* SPDX-License-Identifier: MIT */
/*
 * Sets of sptep: the rmap of a page (every leaf spte that maps it) and the parents of an
 * sp. One pointer is kept in the head itself; more in a chain of ptr_list, bit 0 set.
 *
 * Invariants
 * 1. A leaf spte of level L is in the list of the first page it maps, and in no other.
 * 2. A list is never empty; only its first node may be partly filled.
 * 3. No list is longer than PTRS_MAX: a guest that maps one page everywhere pays for it
 * in faults, not we in searches.
 * 4. No large spte that has MMU_W maps a page that disallow_large forbids, so only 4 KiB
 *    sptes have to be found when one page is write-protected.
 */
#include "mmu/shadow.h"

static struct ptr_list *list_of(uint64_t head) {
    return (struct ptr_list *)(uintptr_t)(head - 1);
}

void ptrs_add(struct slab *sl, uint64_t *head, uint64_t *sptep) {
    if (!*head) {
        *head = (uintptr_t)sptep;
        return;
    }
    struct ptr_list *l;
    if (!(*head & 1)) {
        l = slab_list(sl);
        l->e[l->count++] = (uint64_t *)(uintptr_t)*head;
        l->total = 1;
    } else {
        l = list_of(*head);
        if (l->count == PTR_LIST_MAX) {
            struct ptr_list *first = slab_list(sl);
            first->next = l;
            first->total = l->total;
            l = first;
        }
    }
    l->e[l->count++] = sptep;
    l->total++;
    *head = (uintptr_t)l + 1;
}

bool ptrs_remove(struct slab *sl, uint64_t *head, uint64_t *sptep) {
    if (!(*head & 1)) {
        if (*head != (uintptr_t)sptep)
            return false;
        *head = 0;
        return true;
    }
    struct ptr_list *first = list_of(*head);
    for (struct ptr_list *l = first; l; l = l->next)
        for (uint32_t i = l->count; i-- > 0;) {
            if (l->e[i] != sptep)
                continue;
            l->e[i] = first->e[--first->count];
            first->total--;
            if (first->count)
                return true;
            if (first->next)
                first->next->total = first->total;
            *head = first->next ? (uintptr_t)first->next + 1 : 0;
            slab_list_free(sl, first);
            return true;
        }
    return false;
}

uint64_t *ptrs_next(uint64_t head, struct ptrs_pos *pos) {
    if (!(head & 1)) {
        if (pos->started || !head)
            return NULL;
        pos->started = true;
        return (uint64_t *)(uintptr_t)head;
    }
    if (!pos->started) {
        pos->started = true;
        pos->list = list_of(head);
        pos->i = 0;
    }
    if (pos->list && pos->i == pos->list->count) {
        pos->list = pos->list->next;
        pos->i = 0;
    }
    return pos->list ? pos->list->e[pos->i++] : NULL;
}

void rmap_add(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, uint64_t *sptep) {
    uint64_t *head = &s->rmap[gfn - s->gfn];
    if (ptrs_total(*head) >= PTRS_MAX)
        rmap_zap_page(mmu, s, gfn);
    ptrs_add(&mmu->slab, head, sptep);
}

void rmap_remove(struct pn_mmu *mmu, pn_gfn gfn, uint64_t *sptep) {
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (s)
        ptrs_remove(&mmu->slab, &s->rmap[gfn - s->gfn], sptep);
}

/* Clear MMU_W in the sptes of this level that the list names. */
static void write_protect(struct pn_mmu *mmu, uint64_t head, unsigned level) {
    struct ptrs_pos pos = {0};
    for (uint64_t *sptep; (sptep = ptrs_next(head, &pos));) {
        uint64_t v = *sptep;
        if (!(v & SPTE_MMU_W) || sp_level(sp_of(sptep)) != level)
            continue;
        if (v & SPTE_TLB_W)
            tlb_drop_leaf(mmu, sp_of(sptep), sp_index(sptep), v, true);
        *sptep = v & ~(SPTE_MMU_W | SPTE_TLB_W);
    }
}

void rmap_write_protect(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    write_protect(mmu, s->rmap[gfn - s->gfn], 1);
}

void rmap_protect_large(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn, unsigned level) {
    write_protect(mmu, s->rmap[gfn - s->gfn], level);
}

void rmap_zap_page(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    uint64_t *head = &s->rmap[gfn - s->gfn];
    while (*head)
        spte_drop(mmu, ptrs_first(*head));
}
