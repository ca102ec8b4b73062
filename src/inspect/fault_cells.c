/* SPDX-License-Identifier: MIT */
/* Cells that become coarser as there are more: see fault_cells.h. */
#include "inspect/fault_cells.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/faults.h"

#define SLOTS (2 * CELLS_MAX)

static size_t hash(const struct fault_cell *k) {
    const uint64_t word[] = {k->page, k->function, k->cr3,
                             (uint64_t)k->time << 32 | (k->outcome ^ k->cause << 16)};
    uint64_t h = 0;
    for (unsigned i = 0; i < 4; i++) {
        h = (h ^ word[i]) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 32;
    }
    return h & (SLOTS - 1);
}

static bool same(const struct fault_cell *a, const struct fault_cell *b) {
    return a->page == b->page && a->function == b->function && a->cr3 == b->cr3 &&
           a->time == b->time && a->outcome == b->outcome && a->cause == b->cause;
}

/* Add to the cell that it is. Return: whether there is room. */
static bool put(struct fault_cells *c, const struct fault_cell *k) {
    size_t at = hash(k);
    for (; c->slot[at]; at = (at + 1) & (SLOTS - 1))
        if (same(&c->cell[c->slot[at] - 1], k)) {
            c->cell[c->slot[at] - 1].count += k->count;
            return true;
        }
    if (c->count == CELLS_MAX)
        return false;
    c->cell[c->count++] = *k;
    c->slot[at] = (uint32_t)c->count;
    return true;
}

/* Once more, in places that are coarser: none needs room that was not there. */
static void put_again(struct fault_cells *c, unsigned times, unsigned pages) {
    size_t n = c->count;
    c->count = 0;
    memset(c->slot, 0, sizeof(c->slot));
    for (size_t i = 0; i < n; i++) {
        struct fault_cell k = c->cell[i];
        k.time >>= times;
        if (k.page != FAULT_UNKNOWN)
            k.page >>= pages;
        put(c, &k);
    }
}

/* Parts of the time first, as long as there are many; then pages. Return: false: it cannot
 * become coarser. */
static bool coarsen(struct fault_cells *c, uint32_t last) {
    bool times = last >= CELL_TIMES / 4 || (c->page_shift == 63 && last);
    if (times && c->width <= UINT64_MAX / 2) {
        c->width *= 2;
        put_again(c, 1, 0);
    } else if (c->page_shift < 63) {
        c->page_shift++;
        put_again(c, 0, 1);
    } else {
        return false;
    }
    return true;
}

void fault_cells_add(struct fault_cells *c, uint64_t time, uint64_t page,
                     uint64_t function, uint64_t outcome, uint64_t cr3, uint32_t cause) {
    uint64_t since = time > c->from ? time - c->from : 0;
    while (since / c->width >= CELL_TIMES) {
        c->width *= 2;
        put_again(c, 1, 0);
    }
    struct fault_cell k = {
        .function = function,
        .cr3 = cr3,
        .outcome = outcome > UINT32_MAX ? UINT32_MAX : (uint32_t)outcome,
        .cause = cause,
        .count = 1,
    };
    do {
        k.time = (uint32_t)(since / c->width);
        k.page = page == FAULT_UNKNOWN ? page : page >> c->page_shift;
        if (put(c, &k))
            return;
    } while (coarsen(c, k.time));
    c->beyond++;
}

struct fault_cells *fault_cells_create(uint64_t from) {
    struct fault_cells *c = calloc(1, sizeof(*c));
    if (c) {
        c->from = from;
        c->width = 1;
        c->page_shift = 12;
    }
    return c;
}

static int in_order(const void *x, const void *y) {
    const struct fault_cell *a = x, *b = y;
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    if (a->page != b->page)
        return a->page < b->page ? -1 : 1;
    if (a->function != b->function)
        return a->function < b->function ? -1 : 1;
    if (a->cr3 != b->cr3)
        return a->cr3 < b->cr3 ? -1 : 1;
    if (a->outcome != b->outcome)
        return a->outcome < b->outcome ? -1 : 1;
    return (a->cause > b->cause) - (a->cause < b->cause);
}

void fault_cells_finish(struct fault_cells *c) {
    qsort(c->cell, c->count, sizeof(c->cell[0]), in_order);
}
