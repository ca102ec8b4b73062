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

/* MSRs of a vCPU: its clock, steal time, EOI word. */
static const uint32_t msrs[] = {0x4b564d01, 0x4b564d03, 0x4b564d04};
#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

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

static int msr(struct kvm_vcpu *v, unsigned long request, uint32_t index,
               uint64_t *value) {
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } m = {.head.nmsrs = 1, .entry = {.index = index, .data = *value}};
    if (ioctl(v->fd, request, &m) != 1)
        return -EINVAL;
    *value = m.entry.data;
    return 0;
}

void kvm_pv_get(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    for (size_t i = 0; i < MSRS && s->msr_count < PN_MSRS_MAX; i++) {
        uint64_t value = 0;
        if (msr(v, KVM_GET_MSRS, msrs[i], &value) == 0)
            s->msr[s->msr_count++] = (struct pn_msr){msrs[i], value};
    }
}
