/* SPDX-License-Identifier: MIT */
/* What the files of the study share: a table that counts by keys (fault_table.c), names by
 * number (fault_names.c), where events are. */
#pragma once

#include "inspect/faults.h"

/* An event's id in the file, and where its fields are. Return: -1: it is not there, or lacks
 * one. */
int faults_find(const struct trace_file *file, const char *name, const char *const *field,
                unsigned *const *at, unsigned fields);

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
                 bool own, const struct fault_price *price);
/* Sort the rows. More faults may be added then. */
void counting_sort(struct counting *t);
void counting_free(struct counting *t);

/* Names, each once; beyond 65,536 of them none is added. */
struct fault_names {
    char **name;
    size_t names;
    uint32_t *slot; /* number of a name, from 1; 0: free */
};
/* The number of the name, which is added where it is new. One beyond the most is not known.
 * Return: 0, or -ENOMEM. */
int fault_names_add(struct fault_names *n, const char *name, uint64_t *number);
const char *fault_names_text(const struct fault_names *n, uint64_t number); /* or NULL */
void fault_names_free(struct fault_names *n);
