/* SPDX-License-Identifier: MIT */
/* Costs: names, and what counters come to at given prices. */
#include <assert.h>

#include "penumbra/model.h"

static const char *const names[] = {
#define PN_COST(name, count, doc) #name,
#include "penumbra/costs.inc"
};

const char *pn_cost_name(enum pn_cost cost) {
    assert(cost < PN_COST_COUNT);
    return names[cost];
}

double pn_cost_cycles(const struct pn_cost_profile *p, const struct pn_stats *delta,
                      uint64_t guest_insns, double by_cost[PN_COST_COUNT]) {
    double insns = (double)guest_insns, sum = 0;
#define S(counter) (double)delta->v[PN_STAT_##counter]
    const double count[PN_COST_COUNT] = {
#define PN_COST(name, count, doc) [PN_COST_##name] = count,
#include "penumbra/costs.inc"
    };
#undef S
    for (unsigned i = 0; i < PN_COST_COUNT; i++) {
        double cycles = count[i] * p->price[i];
        if (by_cost)
            by_cost[i] = cycles;
        sum += cycles;
    }
    return sum;
}
