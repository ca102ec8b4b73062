/* SPDX-License-Identifier: MIT */
/*
 * Running a vCPU on KVM: the loop around KVM_RUN.
 *
 * Invariants
 * 1. A kick is never lost: kick() sets `stop`, then immediate_exit, then signals; run()
 * clears immediate_exit before it takes `stop`. At worst one KVM_RUN returns early for
 * nothing.
 * 2. A guest that KVM will not let out is let out by the machine's watchdog, which kicks.
 * Locking: run() of one vCPU is inside one thread; bus calls take the machine's lock
 * themselves. kick() is safe from any thread and from a signal handler.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm_vm.h"

#define KICK_SIGNAL SIGRTMIN

void kvm_kick(struct pn_engine *e, unsigned cpu) {
    struct kvm_vcpu *v = &e->vcpu[cpu];
    v->stop = 1;
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (v->inside)
        pthread_kill(v->thread, KICK_SIGNAL);
}

static void run_pio(struct kvm_vcpu *v) {
    struct kvm_run *r = v->run;
    struct pn_bus *bus = &v->engine->bus;
    uint8_t *data = (uint8_t *)r + r->io.data_offset;
    pn_count(&v->stats, io_exits);
    for (uint32_t i = 0; i < r->io.count; i++, data += r->io.size) {
        uint64_t value = 0;
        if (r->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, r->io.size);
            bus->pio_write(bus->opaque, v->index, r->io.port, r->io.size, value);
        } else {
            value = bus->pio_read(bus->opaque, v->index, r->io.port, r->io.size);
            memcpy(data, &value, r->io.size);
        }
    }
}

static void run_mmio(struct kvm_vcpu *v) {
    struct kvm_run *r = v->run;
    struct pn_bus *bus = &v->engine->bus;
    uint64_t value = 0;
    pn_count(&v->stats, mmio_exits);
    if (r->mmio.is_write) {
        memcpy(&value, r->mmio.data, r->mmio.len);
        bus->mmio_write(bus->opaque, v->index, r->mmio.phys_addr, r->mmio.len, value);
    } else {
        value = bus->mmio_read(bus->opaque, v->index, r->mmio.phys_addr, r->mmio.len);
        memcpy(r->mmio.data, &value, r->mmio.len);
    }
}

/* Return: 1 to go on, 0 when *reason ends the run. */
static int internal_error(struct kvm_vcpu *v, enum pn_exit_reason *reason) {
    struct pn_engine *e = v->engine;
    *reason = PN_EXIT_ERROR;
    if (v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
        return kvm_fallback_step(e, v) == 0;
    snprintf(e->error, sizeof(e->error), "KVM internal error, suberror %u",
             v->run->internal.suberror);
    return 0;
}

/* Return: 1 to go on, 0 when *reason ends the run. */
static int handle_exit(struct kvm_vcpu *v, enum pn_exit_reason *reason) {
    struct pn_engine *e = v->engine;
    struct kvm_run *r = v->run;
    switch (r->exit_reason) {
    case KVM_EXIT_IO:
        run_pio(v);
        return 1;
    case KVM_EXIT_MMIO:
        run_mmio(v);
        return 1;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return 1;
    case KVM_EXIT_HLT:
        pn_count(&v->stats, halt_exits);
        *reason = PN_EXIT_HALT;
        return 0;
    case KVM_EXIT_SHUTDOWN:
        snprintf(e->error, sizeof(e->error), "triple fault");
        *reason = PN_EXIT_SHUTDOWN;
        return 0;
    case KVM_EXIT_SYSTEM_EVENT:
        snprintf(e->error, sizeof(e->error), "KVM system event %u", r->system_event.type);
        *reason = PN_EXIT_SHUTDOWN;
        return 0;
    case KVM_EXIT_INTERNAL_ERROR:
        return internal_error(v, reason);
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(e->error, sizeof(e->error),
                 "KVM cannot enter the guest: hardware reason 0x%llx",
                 (unsigned long long)r->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        snprintf(e->error, sizeof(e->error), "KVM exit %u, which penumbra does not know",
                 r->exit_reason);
    }
    *reason = PN_EXIT_ERROR;
    return 0;
}

enum pn_exit_reason kvm_run(struct pn_engine *e, unsigned cpu, uint64_t deadline) {
    (void)deadline; /* the machine's timers run in a thread of their own */
    struct kvm_vcpu *v = &e->vcpu[cpu];
    enum pn_exit_reason reason = PN_EXIT_STOP;
    v->thread = pthread_self();
    v->inside = 1;
    for (;;) {
        int rc = ioctl(v->fd, KVM_RUN, 0);
        int error = errno;
        __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (rc < 0 && error != EINTR && error != EAGAIN) {
            snprintf(e->error, sizeof(e->error), "KVM_RUN: %s (exit reason %u)",
                     strerror(error), v->run->exit_reason);
            reason = PN_EXIT_ERROR;
            break;
        }
        if (rc == 0 && !handle_exit(v, &reason))
            break;
        if (atomic_exchange(&v->stop, 0))
            break;
    }
    v->inside = 0;
    return reason;
}
