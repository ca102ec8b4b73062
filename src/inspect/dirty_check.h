/* SPDX-License-Identifier: MIT */
/*
 * Is a dirty log right? Cases (dirty_cases.inc), each made from a bug that a hypervisor had, and
 * an oracle that knows nothing of logs: XXH3 of every page at every harvest.
 *
 * A case has an engine of its own with three memslots, a guest of a few instructions that
 * writes where it is told to, and one or two consumers of the log. There is no machine around
 * it: slots lie and end where no guest RAM of a machine does.
 */
#pragma once

#include "base/err.h"
#include "penumbra/engine.h"

enum dirty_case {
#define DIRTY_CASE(name, what, bug) DIRTY_CASE_##name,
#include "inspect/dirty_cases.inc"
    DIRTY_CASES
};

/* Return: NULL beyond the last. */
const char *dirty_case_name(unsigned i);
const char *dirty_case_what(unsigned i);
const char *dirty_case_bug(unsigned i);

/* What one case came to under one tracker. */
struct dirty_score {
    bool skipped; /* the host cannot have the case: `why` */
    char why[160];
    uint64_t harvests, changed; /* pages that changed between harvests, by the oracle */
    uint64_t named;             /* pages in all harvests */
    uint64_t missed, unwritten; /* changed and not named; named and not changed */
    pn_gpa missed_gpa;          /* the first one */
    uint64_t guest_ns, harvest_ns;
};

/* Pages that a tracker of these engines gives without a write are the tracker's fault: is it
 * one that claims to name written pages at all? mincore does not. */
bool dirty_claims(enum pn_dirty_tracker tracker);

/* Run a case. ops: an engine that has the tracker (pn_engine_ops.has_tracker).
 * Return: 0 and *score; -errno with a line in e: the engine or the host failed, -ENOSYS and
 * -EPERM: this host has not the tracker, or does not permit it. */
int dirty_check(const struct pn_engine_ops *ops, enum pn_dirty_tracker tracker,
                enum dirty_case which, struct dirty_score *score, struct err *e);
