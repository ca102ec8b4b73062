/* SPDX-License-Identifier: MIT */
/* The counters of stats.inc as one array, indexed by enum pn_stat. */
#ifndef PENUMBRA_STATS_H
#define PENUMBRA_STATS_H

#include <stdint.h>

enum pn_stat {
#define PN_STAT(name, doc) PN_STAT_##name,
#include "penumbra/stats.inc"
#undef PN_STAT
    PN_STAT_COUNT
};

/* One per vCPU; written by the thread that runs it. */
struct pn_stats {
    uint64_t v[PN_STAT_COUNT];
};

#define pn_count(stats, name) ((stats)->v[PN_STAT_##name]++)

/* Return: the counter's name or its one-line meaning; never NULL for id < PN_STAT_COUNT.
 */
const char *pn_stat_name(enum pn_stat id);
const char *pn_stat_doc(enum pn_stat id);

#endif
