/* SPDX-License-Identifier: MIT */
/* Costs of faults: see fault_cost.h. */
#include "inspect/fault_cost.h"

#include <stdlib.h>
#include <string.h>

#include "inspect/faults_internal.h"
#include "penumbra/mmu.h"

#define EVENTS                                                                           \
    EVENT(page_fault)                                                                    \
    EVENT(fault_outcome)                                                                 \
    EVENT(pagetable_walk)                                                                \
    EVENT(paging_element)                                                                \
    EVENT(get_page)                                                                      \
    EVENT(sync_page)                                                                     \
    EVENT(prepare_zap_page)                                                              \
    EVENT(ept_violation)                                                                 \
    EVENT(ept_misconfig)

enum event {
    NONE,
#define EVENT(name) EVENT_##name,
    EVENTS
#undef EVENT
        KINDS
};

struct tally {
    uint32_t refs; /* since the walk began */
    uint32_t made, zapped, synced;
};

struct fault_costs {
    struct pn_cost_profile prices;
    bool second; /* two dimensions: there was a violation */
    uint8_t kind[64];
    unsigned created; /* a field of get_page */
    struct tally tally[TRACE_VCPUS_MAX];
};

struct fault_costs *fault_costs_create(const struct pn_cost_profile *prices) {
    struct fault_costs *c = calloc(1, sizeof(*c));
    if (c)
        c->prices = *prices;
    return c;
}

void fault_costs_file(struct fault_costs *c, const struct trace_file *file) {
    static const char *const names[KINDS] = {
#define EVENT(name) [EVENT_##name] = #name,
        EVENTS
#undef EVENT
    };
    static const char *const created[] = {"created"};
    memset(c->kind, 0, sizeof(c->kind));
    for (unsigned k = NONE + 1; k < KINDS; k++) {
        int id = faults_find(file, names[k], created, (unsigned *[]){&c->created},
                             k == EVENT_get_page);
        if (id >= 0 && id < 64)
            c->kind[id] = (uint8_t)k;
    }
}

void fault_costs_event(struct fault_costs *c, const struct pn_event_rec *rec) {
    struct tally *t = &c->tally[rec->vcpu];
    switch (rec->id < 64 ? c->kind[rec->id] : NONE) {
    case EVENT_page_fault:
        t->made = t->zapped = t->synced = 0;
        break;
    case EVENT_fault_outcome:
        *t = (struct tally){0};
        break;
    case EVENT_pagetable_walk:
        t->refs = 0;
        break;
    case EVENT_paging_element:
        t->refs++;
        break;
    case EVENT_get_page:
        t->made += rec->arg[c->created] != 0;
        break;
    case EVENT_sync_page:
        t->synced++;
        break;
    case EVENT_prepare_zap_page:
        t->zapped++;
        break;
    case EVENT_ept_violation:
    case EVENT_ept_misconfig:
        c->second = true;
        break;
    default:
        break;
    }
}

static double of_outcome(const struct fault_costs *c, uint64_t outcome) {
    const double *price = c->prices.price;
    switch (outcome) {
    case PN_OUT_guest_pf: /* under tdp the hypervisor does not see it */
        return price[PN_COST_exception] +
               (c->second ? 0 : price[PN_COST_exit] + price[PN_COST_inject]);
    case PN_OUT_mmio:
    case PN_OUT_mmio_cached:
        return price[PN_COST_exit] + price[PN_COST_exit_mmio];
    case PN_OUT_tracked_table:
        return price[PN_COST_exit] + price[PN_COST_gpte_write];
    default:
        return price[PN_COST_exit] +
               price[c->second ? PN_COST_violation : PN_COST_shadow_fault];
    }
}

struct fault_price fault_costs_of(const struct fault_costs *c,
                                  const struct pn_event_rec *rec, uint64_t outcome) {
    const struct tally *t = &c->tally[rec->vcpu];
    const double *price = c->prices.price;
    return (struct fault_price){t->refs, of_outcome(c, outcome) +
                                             t->made * price[PN_COST_table_made] +
                                             t->zapped * price[PN_COST_table_zapped] +
                                             t->synced * price[PN_COST_gpte_sync]};
}
