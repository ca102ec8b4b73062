/* SPDX-License-Identifier: MIT */
/* The counters of stats.inc as one array, indexed by enum pn_stat. */
#ifndef PENUMBRA_STATS_H
#define PENUMBRA_STATS_H

#include <stdbool.h>
#include <stdint.h>

enum pn_stat {
#define PN_STAT(name, doc) PN_STAT_##name,
#include "penumbra/stats.inc"
#undef PN_STAT
    PN_STAT_COUNT
};

/* A modelled walk reads at most 35 table entries: 5 levels in both dimensions. */
#define PN_WALK_HIST 36

/* One per vCPU; written by the thread that runs it. */
struct pn_stats {
    uint64_t v[PN_STAT_COUNT];
    /* Modelled walks (penumbra/model.h) by how many table entries they read from memory;
     * those that a fault or an exit ended are among them. Sum: model_walk_fetch + _data.
     */
    uint64_t walk_hist[PN_WALK_HIST];
};

#define pn_count(stats, name) ((stats)->v[PN_STAT_##name]++)

/* Return: the counter's name or its one-line meaning; never NULL for id < PN_STAT_COUNT.
 */
const char *pn_stat_name(enum pn_stat id);
const char *pn_stat_doc(enum pn_stat id);
/* Is it a counter of the TLB model, which moves with a model only? */
bool pn_stat_modelled(enum pn_stat id);

#endif
