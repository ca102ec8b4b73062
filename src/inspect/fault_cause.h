/* SPDX-License-Identifier: MIT */
/*
 * The cause of a fault: what of the guest's made it necessary, as the events before it show
 * (fault_causes.inc). A cause that nothing shows is unknown.
 *
 * What happened to tables and pages is kept in maps by guest-physical address. They are
 * bounded: when one is full, it learns nothing new, and no fault counts as the first of its
 * page any more. No locks: one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "inspect/symbols.h"
#include "trace/trace.h"

enum fault_cause {
#define CAUSE(name, doc, shown) FAULT_CAUSE_##name,
#include "inspect/fault_causes.inc"
    FAULT_CAUSES
};
/* Why a shadow page went: the type `zap` of an event's field. */
enum fault_zap {
#define PN_ZAP(name, word) FAULT_ZAP_##name,
#include "penumbra/reasons.inc"
    FAULT_ZAPS
};

const char *fault_cause_name(enum fault_cause cause);
const char *fault_cause_doc(enum fault_cause cause);
const char *fault_cause_shown(enum fault_cause cause);

struct fault_causes;
/* symbols: NULL: none. moved: what is added to their addresses in a kernel's half. Return:
 * NULL: out of memory. */
struct fault_causes *fault_causes_create(const struct symbols *symbols, uint64_t moved);
void fault_causes_destroy(struct fault_causes *c); /* NULL: nothing */
/* Was the file recorded with all events that a cause may need? Those of --trace-tasks are not
 * counted. */
bool fault_causes_tell(const struct trace_file *file);
/* The records that follow are of this file. */
void fault_causes_file(struct fault_causes *c, const struct trace_file *file);
/* The next record of the file, whatever it is; a fault_outcome after fault_causes_of. Its vCPU
 * is below TRACE_VCPUS_MAX. */
void fault_causes_event(struct fault_causes *c, const struct pn_event_rec *rec);

/* A fault that has come to its outcome. */
struct fault_met {
    const struct pn_event_rec *rec; /* fault_outcome */
    uint64_t gva, outcome, level;
    uint64_t function; /* number of a symbol, or another value of FAULT_KEY_function */
    bool told;         /* this is known: */
    uint64_t error;    /* own: of the #PF, or else of the access (PN_PF_*) */
};
enum fault_cause fault_causes_of(struct fault_causes *c, const struct fault_met *m);
