/* SPDX-License-Identifier: MIT */
/*
 * The guest's NUMA nodes (run --numa-guest), as text: "NODE,NODE...", each of them
 * "MEM[/CPU[-CPU]][@HOST]": its part of memory, its vCPUs, and the host's node that holds the memory.
 * Where no node names vCPUs, they are dealt out in order, as evenly as they can be.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "penumbra/model.h"

#define NODES_MAX             16u
#define NODE_UNIT             (2u << 20) /* memory of a node is a multiple of it */
#define NODE_DISTANCE_SELF    10u        /* ACPI specification, "SLIT" */
#define NODE_DISTANCE_DEFAULT 20u
#define NODE_DISTANCE_MAX     254u
#define NODE_ANYWHERE         (-1) /* no node of the host's was named */

struct machine_node {
    uint64_t from, size; /* of RAM in bytes, as if there were no hole in it */
    unsigned first_cpu, cpus;
    int host; /* NODE_ANYWHERE */
};

struct machine_nodes {
    unsigned count; /* 0: the guest is not told of nodes */
    unsigned distance;
    struct machine_node node[NODES_MAX];
};

/* text NULL: none. ram: bytes that the nodes have in sum. Return: 0; or -EINVAL with a line in e that
 * names --numa-guest. */
int nodes_parse(const char *text, unsigned distance, uint64_t ram, unsigned cpus,
                struct machine_nodes *out, struct err *e);
struct machine;
/* The nodes of a machine; count 0: none were asked for. */
const struct machine_nodes *machine_nodes(const struct machine *m);
/* Where a node's memory is, as hostmem_where says it. */
int machine_node_where(const struct machine *m, unsigned node, uint64_t *pages,
                       unsigned nodes);
/* Its memory, what is there already too, is to be on that node of the host's. Return: 0; -EINVAL: no such
 * node of the guest's or of the host's; others as mbind says; one line in e. */
int machine_node_move(struct machine *m, unsigned node, int host, struct err *e);

/* A node's memory as the guest sees it: around the hole below 4 GiB. Return: how many pieces, 1 or 2. */
struct node_piece {
    pn_gpa gpa;
    uint64_t size;
};
unsigned node_pieces(const struct machine_node *n, struct node_piece piece[2]);
/* The nodes for a TLB model, in *out. Return: out, or NULL where there are not two. */
const struct pn_nodes *nodes_for_model(const struct machine_nodes *nodes,
                                       struct pn_nodes *out);

/* Is a vCPU one of the node's? */
static inline bool node_has_cpu(const struct machine_node *n, unsigned cpu) {
    return cpu >= n->first_cpu && cpu - n->first_cpu < n->cpus;
}
