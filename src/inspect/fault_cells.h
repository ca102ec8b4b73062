/* SPDX-License-Identifier: MIT */
/*
 * Faults by time, page, function, outcome, cause and address space at once: what a page shows
 * charts of. There are CELLS_MAX cells at most: when more are needed, two parts of the time
 * become one, or two pages, and so on. So every fault is in a cell, unless there are too
 * many functions and address spaces for any: those are counted as `beyond`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CELLS_MAX  (1u << 16)
#define CELL_TIMES 512u /* parts of the time at most */

struct fault_cell {
    uint64_t page, function,
        cr3; /* as the keys, or the process instead of CR3 where the trace tells it; page:
                the number of it, see page_shift */
    uint32_t time, outcome; /* the part of the time; UINT32_MAX: unknown */
    uint32_t cause;         /* enum fault_cause */
    uint64_t count;
};

struct fault_cells {
    uint64_t from, width; /* the time of part 0, and how long each is */
    unsigned page_shift;  /* address >> page_shift is the number of a page, 12 at least */
    uint64_t beyond;
    size_t count;
    struct fault_cell cell[CELLS_MAX];
    uint32_t slot[2 * CELLS_MAX]; /* number of a cell, from 1; 0: free */
};

/* from: no fault is before it. Return: NULL: out of memory; free() it. */
struct fault_cells *fault_cells_create(uint64_t from);
/* page: the address of it. All may be FAULT_UNKNOWN, but for the time. */
void fault_cells_add(struct fault_cells *c, uint64_t time, uint64_t page,
                     uint64_t function, uint64_t outcome, uint64_t cr3, uint32_t cause);
/* No more: sort by time, then by page. */
void fault_cells_finish(struct fault_cells *c);
