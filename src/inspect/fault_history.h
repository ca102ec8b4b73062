/* SPDX-License-Identifier: MIT */
/*
 * What happened to a guest's tables and pages, for fault_cause.c: maps of a fixed size, open
 * addressing, linear probing, never more than three quarters full. What finds no room is not
 * there.
 *
 * A time here is a number that grows with each fault and each thing that happens; 0: never.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* One thing that happened to one place. */
struct fault_mark {
    uint64_t key; /* 0: free */
    uint32_t time, value;
};

struct fault_marks {
    struct fault_mark *slot;
    uint32_t slots, used, most;
};

/* Eight entries of 8 bytes of a guest's table. */
#define FAULT_LINE 8u
struct fault_line {
    uint64_t key;                /* 0: free */
    uint32_t mapped[FAULT_LINE]; /* when a fault last mapped what the entry says */
    uint32_t beside;             /* when one mapped its neighbours with it, perhaps */
    uint8_t written[FAULT_LINE]; /* cause of the write since, and 1; 0: none */
};

struct fault_lines {
    struct fault_line *slot;
    uint32_t slots, used, most;
};

/* bits: 2^bits slots. Return: 0, or -ENOMEM. */
int fault_marks_begin(struct fault_marks *m, unsigned bits);
void fault_marks_end(struct fault_marks *m);
/* Return: NULL: it is not there; with add: there is no room. */
struct fault_mark *fault_marks_at(struct fault_marks *m, uint64_t key, bool add);
int fault_lines_begin(struct fault_lines *l, unsigned bits);
void fault_lines_end(struct fault_lines *l);
struct fault_line *fault_lines_at(struct fault_lines *l, uint64_t key, bool add);
/* Has anything found no room? */
bool fault_marks_full(const struct fault_marks *m);
bool fault_lines_full(const struct fault_lines *l);
