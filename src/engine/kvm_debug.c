/* SPDX-License-Identifier: MIT */
/*
 * A debugger's stops under KVM: KVM_SET_GUEST_DEBUG with the processor's own four debug
 * registers, which the guest then has not, and its single step (Linux, Documentation/virt/
 * kvm/api.rst). Guest memory holds nothing of it.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm_vm.h"

#define SLOTS   4u
#define DR7_SET 0x400u

/* SDM volume 3, "Debug Control Register (DR7)": RW and LEN of a slot. */
static int put_slot(struct kvm_guest_debug *g, unsigned *n, uint64_t addr, unsigned rw,
                    unsigned size) {
    static const uint8_t length[9] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    bool fits = size <= 8 && size && !(size & (size - 1)) && !(addr & (size - 1));
    if (*n == SLOTS || !fits)
        return -ENOSPC;
    g->arch.debugreg[*n] = addr;
    g->arch.debugreg[7] |= 2ull << *n * 2 | (uint64_t)(rw | (unsigned)length[size] << 2)
                                                << (16 + *n * 4);
    ++*n;
    return 0;
}

/* RF lets the instruction go at whose breakpoint the vCPU stands. */
static int pass(struct kvm_vcpu *v) {
    struct kvm_regs r;
    if (v->debug.stop.why != PN_DEBUG_BREAK)
        return 0;
    if (ioctl(v->fd, KVM_GET_REGS, &r) < 0)
        return -errno;
    if (r.rip != v->debug.rip)
        return 0;
    r.rflags |= FL_RF;
    return ioctl(v->fd, KVM_SET_REGS, &r) < 0 ? -errno : 0;
}

int kvm_set_debug(struct pn_engine *e, unsigned cpu, const struct pn_debug *d,
                  bool step) {
    struct kvm_vcpu *v = &e->vcpu[cpu];
    struct kvm_guest_debug g = {.arch.debugreg[7] = DR7_SET};
    unsigned n = 0;
    int rc = 0;
    for (unsigned i = 0; d && rc == 0 && i < d->break_count; i++)
        rc = put_slot(&g, &n, d->breaks[i], 0, 1);
    unsigned breaks = n;
    for (unsigned i = 0; d && rc == 0 && i < d->watch_count; i++)
        rc = put_slot(&g, &n, d->watches[i].gva,
                      d->watches[i].access == PN_WATCH_WRITE ? 1 : 3, d->watches[i].size);
    if (rc)
        return rc;
    if (n || step)
        g.control = KVM_GUESTDBG_ENABLE | (n ? KVM_GUESTDBG_USE_HW_BP : 0) |
                    (step ? KVM_GUESTDBG_SINGLESTEP : 0);
    if (!g.control && !v->debug.on)
        return 0;
    rc = pass(v);
    if (rc == 0 && ioctl(v->fd, KVM_SET_GUEST_DEBUG, &g) < 0)
        rc = -errno;
    v->debug.on = g.control != 0;
    v->debug.set = d;
    v->debug.breaks = breaks;
    v->debug.stop.why = PN_DEBUG_NONE;
    return rc;
}

void kvm_debug_exit(struct kvm_vcpu *v) {
    const struct kvm_debug_exit_arch *x = &v->run->debug.arch;
    struct pn_debug_stop *s = &v->debug.stop;
    const struct pn_debug *d = v->debug.set;
    unsigned slot = 0;
    while (slot < SLOTS && !(x->dr6 >> slot & 1))
        slot++;
    v->debug.rip = x->pc;
    *s = (struct pn_debug_stop){.why = PN_DEBUG_STEP};
    if (slot < v->debug.breaks) {
        *s = (struct pn_debug_stop){.why = PN_DEBUG_BREAK, .gva = x->pc};
    } else if (d && slot - v->debug.breaks < d->watch_count) {
        const struct pn_watch *w = &d->watches[slot - v->debug.breaks];
        *s = (struct pn_debug_stop){PN_DEBUG_WATCH, w->gva, w->access};
    }
}

void kvm_debug_stop(struct pn_engine *e, unsigned cpu, struct pn_debug_stop *stop) {
    *stop = e->vcpu[cpu].debug.stop;
}
