/* SPDX-License-Identifier: MIT */
/*
 * Sets of sptep: one pointer is kept in the head itself; more in a chain of ptr_list,
 * with bit 0 of the head set.
 *
 * Invariant: a list is never empty; only its first node may be partly filled.
 */
#include "mmu/shadow/shadow.h"

static struct ptr_list *list_of(uint64_t head) {
    return (struct ptr_list *)(uintptr_t)(head - 1);
}

/* To a set that is not empty. */
void ptrs_add_more(struct slab *sl, uint64_t *head, uint64_t *sptep) {
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

/* From a chain. */
void ptrs_remove_one(struct slab *sl, uint64_t *head, uint64_t *sptep) {
    struct ptr_list *first = list_of(*head);
    for (struct ptr_list *l = first; l; l = l->next)
        for (uint32_t i = l->count; i-- > 0;) {
            if (l->e[i] != sptep)
                continue;
            l->e[i] = first->e[--first->count];
            first->total--;
            if (first->count)
                return;
            if (first->next)
                first->next->total = first->total;
            *head = first->next ? (uintptr_t)first->next + 1 : 0;
            slab_list_free(sl, first);
            return;
        }
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
