/* SPDX-License-Identifier: MIT */
/*
 * The MMU of one vCPU, to be asked while no vCPU runs (penumbra/explain.h).
 *
 * Where the hypervisor translates, its tables cannot be seen. Then the view has an MMU of its
 * own over the guest's memory and control registers. It knows what the guest's tables say,
 * and nothing else; `guest_only` tells.
 */
#pragma once

#include "machine/control.h"
#include "penumbra/explain.h"

struct view {
    struct pn_mmu_vcpu *vcpu;
    bool guest_only;
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
    unsigned cpu;
    struct pn_mmu *own; /* guest_only */
    struct pn_tlb_view tlb;
    struct pn_stats stats;
};

/* Return: 0; or -errno with a line in e: -EINVAL: no such vCPU. */
int view_open(struct view *v, struct machine *m, unsigned cpu, struct err *e);
void view_close(struct view *v);
