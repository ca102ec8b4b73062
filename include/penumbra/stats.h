/* SPDX-License-Identifier: MIT */
/* The counters of stats.inc as one array, indexed by enum pn_stat. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "penumbra/types.h"

PN_BEGIN_DECLS

enum pn_stat {
#define PN_STAT(name, kind, doc) PN_STAT_##name,
#include "penumbra/stats.inc"
    PN_STAT_COUNT
};

/* The counter of `level` in a family is PN_STAT_LEVEL0_name + level. */
enum {
#define PN_STAT(name, kind, doc)
#define PN_STAT_LEVELS(name, first, kind, doc)                                           \
    PN_STAT_LEVEL0_##name = (int)PN_STAT_##name##_l##first - first,
#include "penumbra/stats.inc"
};

enum pn_stat_kind {
    PN_STAT_KIND_SUM,
    PN_STAT_KIND_GAUGE, /* how many there are now: neither adds up nor begins at 0 */
    PN_STAT_KIND_MODEL  /* a sum; stands still without a TLB model (penumbra/model.h) */
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

#define pn_count(stats, name)              ((stats)->v[PN_STAT_##name]++)
#define pn_count_level(stats, name, level) ((stats)->v[PN_STAT_LEVEL0_##name + (level)]++)

/* Return: the counter's name or its one-line meaning; never NULL for id < PN_STAT_COUNT.
 */
const char *pn_stat_name(enum pn_stat id);
const char *pn_stat_doc(enum pn_stat id);
enum pn_stat_kind pn_stat_kind(enum pn_stat id);

PN_END_DECLS
