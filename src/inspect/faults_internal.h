/* SPDX-License-Identifier: MIT */
/* A table that counts by keys (fault_table.c). */
#pragma once

#include "inspect/faults.h"

struct counting_slot {
    uint32_t tag; /* the upper half of the hash: most that differ show it */
    uint32_t row; /* its number, from 1; 0: free */
};

struct counting {
    struct fault_by by;
    struct fault_row *row;
    size_t rows, room;
    struct counting_slot *slot;
    size_t slots; /* a power of two, more than rows */
    uint64_t beyond;
};

/* Return: 0, or -ENOMEM. */
int counting_begin(struct counting *t, const struct fault_by *by);
/* One fault: the value of every enum fault_key. Return: 0, or -ENOMEM. */
int counting_add(struct counting *t, const uint64_t key[FAULT_KEYS], uint64_t time,
                 bool own);
/* Sort the rows. No fault may be added then. */
void counting_end(struct counting *t);
void counting_free(struct counting *t);
