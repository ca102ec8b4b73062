/* SPDX-License-Identifier: MIT */
/*
 * What a fault costs: references of the guest walk that belongs to it, and modelled cycles. Its
 * prices are those of a cost profile (penumbra/costs.inc), by the events between its page_fault and
 * its fault_outcome: the exit, the work for its outcome, shadow pages made, zapped and synced in
 * it. What a processor's own walks cost is not in it, nor what comes after the outcome.
 */
#pragma once

#include "penumbra/model.h"
#include "trace/trace.h"

struct fault_costs;
/* prices: copied. Return: NULL: out of memory; free() it. */
struct fault_costs *fault_costs_create(const struct pn_cost_profile *prices);
/* The records that follow are of this file. */
void fault_costs_file(struct fault_costs *c, const struct trace_file *file);
/* The next record; a fault_outcome after fault_costs_of. Its vCPU is below TRACE_VCPUS_MAX. */
void fault_costs_event(struct fault_costs *c, const struct pn_event_rec *rec);

struct fault_price {
    uint64_t refs; /* to entries of the guest's tables */
    double cycles;
};
/* Of a fault that has come to its outcome. */
struct fault_price fault_costs_of(const struct fault_costs *c,
                                  const struct pn_event_rec *rec, uint64_t outcome);
