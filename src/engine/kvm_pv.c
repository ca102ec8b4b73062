/* SPDX-License-Identifier: MIT */
/*
 * KVM's paravirtual interface on KVM: which part of it the guest sees, the clock behind
 * it, and how long a halted vCPU polls.
 *
 * Unless told otherwise the guest sees what KVM offers. A chosen set (penumbra/pv.h) is
 * enforced: the MSRs and hypercalls of what is not in it are refused, not merely hidden.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm_vm.h"
#include "penumbra/pv.h"

#define LEAF_HYPERVISOR 0x40000000u
#define LEAF_FEATURES   0x40000001u
#define LEAF_LAST       0x400000ffu

static int set_halt_poll(struct pn_engine *e, int64_t ns) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_HALT_POLL, .args[0] = (uint64_t)ns};
    if (ns < 0)
        return 0;
    return ioctl(e->vm, KVM_ENABLE_CAP, &cap) < 0
               ? kvm_error(e, "--halt-poll-ns: this KVM takes no such setting")
               : 0;
}

int kvm_pv_begin(struct pn_engine *e, const struct pn_engine_config *cfg) {
    struct kvm_clock_data clock = {.clock = cfg->start_ns};
    e->pv = cfg->pv;
    ioctl(e->vm, KVM_SET_CLOCK, &clock); /* pvclock tells the machine's own time */
    return set_halt_poll(e, cfg->halt_poll_ns);
}

/* With none chosen, KVM is not named either. */
static void drop_hypervisor(struct kvm_cpuid2 *c) {
    unsigned kept = 0;
    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function < LEAF_HYPERVISOR ||
            c->entries[i].function > LEAF_LAST)
            c->entries[kept++] = c->entries[i];
    c->nent = kept;
}

void kvm_pv_cpuid(struct pn_engine *e, struct kvm_vcpu *v, struct kvm_cpuid2 *c) {
    if (e->pv == PN_PV_DEFAULT)
        return;
    if (!e->pv)
        drop_hypervisor(c);
    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function == LEAF_FEATURES)
            c->entries[i].eax &= pn_pv_cpuid(e->pv);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args[0] = 1};
    ioctl(v->fd, KVM_ENABLE_CAP, &cap); /* an older KVM only hides them */
}
