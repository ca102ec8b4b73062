/* SPDX-License-Identifier: MIT */
/*
 * Modelled TLBs, page-walk caches and costs: what a processor with such structures would
 * have done with the guest's memory accesses. The model stands beside the MMU, never in
 * it: with a model and without one the guest does the same, instruction by instruction.
 *
 * The model works on plain structs; bench/harness/profile.h makes them from the JSON
 * files in bench/profiles. Its figures are the counters `model_*` and walk_hist
 * (penumbra/stats.h), and pn_cost_cycles makes cycles of them. Everything here is
 * modelled: neither measured nor simulated.
 */
#pragma once

#include "penumbra/stats.h"
#include "penumbra/types.h"

PN_BEGIN_DECLS

#define PN_PROFILE_NAME_MAX 48 /* bytes, with the terminating 0 */

/* ---- TLBs and walk caches ---- */

enum pn_replacement {
    PN_REPLACE_LRU,
    PN_REPLACE_PLRU, /* a binary tree; ways a power of two */
    PN_REPLACE_FIFO,
    PN_REPLACE_COUNT
};

/* Page sizes of an array, a bit each. */
#define PN_PAGES_4K 1u
#define PN_PAGES_2M 2u
#define PN_PAGES_1G 4u

#define PN_ARRAY_UNBOUNDED UINT32_MAX

/* One array of entries: a set-associative cache. */
struct pn_tlb_array {
    uint32_t entries; /* 0: there is none; PN_ARRAY_UNBOUNDED: never evicts, but begins
                         anew beyond some two million */
    uint32_t ways;    /* 1..64; = entries: fully associative. entries / ways is a power
                         of two */
    uint8_t replace;  /* enum pn_replacement */
    uint8_t pages;    /* of a TLB: PN_PAGES_*; of other caches ignored */
};

/* A level of the TLB: arrays of disjoint page sizes. A size that no array has is not
 * cached there. */
#define PN_TLB_ARRAYS 3
struct pn_tlb_level {
    struct pn_tlb_array array[PN_TLB_ARRAYS];
};

/* Return: NULL, or what about its geometry is not possible, for a message. */
const char *pn_tlb_array_problem(const struct pn_tlb_array *array);

struct pn_tlb_model {
    char name[PN_PROFILE_NAME_MAX];
    struct pn_tlb_level l1i, l1d;
    struct pn_tlb_level l2;  /* filled with what L1 is filled with */
    struct pn_tlb_level l2i; /* of fetches alone; without any array they share l2 */
    /* Page-walk caches by level 2..5 of the table entry that they hold ([0], [1] unused):
     * of the guest's tables, or under shadow of the shadow tables. Under TDP an entry
     * holds the host address of the next table: no second-level walk is left for it. */
    struct pn_tlb_array walk[6];
    /* The same for second-level tables, and the nested TLB: 4 KiB frames of guest-table
     * pages, gpa -> hpa. Under TDP only. */
    struct pn_tlb_array second_walk[6];
    struct pn_tlb_array nested;
    /* Entries carry the tag. Without pcid a load of CR3 flushes what is not global;
     * without vpid (and EPTP tags) each VM exit flushes everything. */
    bool pcid, vpid;
};

/* ---- NUMA nodes ---- */

#define PN_NODES_MAX 16u
#define PN_NODE_RANGES_MAX                                                               \
    (2 * PN_NODES_MAX) /* a node may lie on both sides of the hole */

/* Where guest memory and vCPUs are, for the model alone: what a walk reads may be far away. An entry
 * of the guest's tables lies where its page is; a shadow page or second-level table on the node of
 * the vCPU that had it made, as KVM's do. */
struct pn_nodes {
    struct {
        pn_gpa from, end;
        uint8_t node;
    } range[PN_NODE_RANGES_MAX]; /* no two overlap; what none has is on node 0 */
    unsigned ranges;
    struct {
        unsigned first, end; /* vCPUs by order of creation */
    } cpus[PN_NODES_MAX];
    unsigned count;
};

/* ---- Costs ---- */

/* What has a price: costs.inc. */
enum pn_cost {
#define PN_COST(name, count, doc) PN_COST_##name,
#include "penumbra/costs.inc"
    PN_COST_COUNT
};

struct pn_cost_profile {
    char name[PN_PROFILE_NAME_MAX];
    double hz;                   /* clock: cycles in a second */
    double price[PN_COST_COUNT]; /* cycles for one */
};

/* Return: the name of a cost as profiles and reports have it. */
const char *pn_cost_name(enum pn_cost cost);

/*
 * Modelled cycles of what the counters say. The counters were taken with a TLB model on,
 * since a run began or between two readings. guest_insns: retired in the same time.
 * by_cost: the cycles of each cost; may be NULL. Return: their sum. Divide it by p->hz
 * for time.
 */
double pn_cost_cycles(const struct pn_cost_profile *p, const struct pn_stats *delta,
                      uint64_t guest_insns, double by_cost[PN_COST_COUNT]);

PN_END_DECLS
